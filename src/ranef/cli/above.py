"""What stands above the names of a table: titles and dates of export, told from the rows below."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from typing import Any

__all__ = ["title_lines", "title_rows"]

LOOKED_AT = 60
BYTES = 65_536
ROWS = 3
"""Rows below the names that must agree with them."""
FIELDS = 3


def title_lines(content: bytes, separator: str | None) -> int:
    r"""Return how many lines of delimited text stand above its names.

    A title fills one field or less than half of them, or has two fewer than the names; every line
    from the names on has as many fields as they, and names are not numbers.

    Examples
    --------
    >>> title_lines(b"Export, May 2024\n\nid;x;y\na;1;2\nb;3;4\nc;5;6\n", None)
    2
    >>> title_lines(b"id;x;y\na;1,5;2,5\nb;3,1;4,1\nc;5,0;6,2\n", None)
    0
    """
    lines = content[:BYTES].decode("utf-8", "replace").splitlines()
    if len(content) > BYTES:
        lines = lines[:-1]
    lines = lines[:LOOKED_AT]
    if any(line.count('"') % 2 for line in lines):
        return 0
    marks = ";\t|," if separator is None else separator
    for mark in marks:
        records = [next(csv.reader([line], delimiter=mark), []) for line in lines]
        if _is_whole(records):  # other marks are in its fields, as decimal commas are
            return 0
        if above := _titles(records):
            return above
    return 0


def title_rows(rows: Sequence[Sequence[Any]]) -> int:
    """Return how many rows of a sheet stand above its names."""
    texts = [["" if cell is None else str(cell) for cell in row] for row in rows[:LOOKED_AT]]
    width = max((_last(row) for row in texts), default=0)
    return _titles([[*row[:width], *[""] * (width - len(row))] for row in texts])


def _titles(records: Sequence[Sequence[str]]) -> int:
    filled = [i for i, record in enumerate(records) if any(field.strip() for field in record)]
    if not filled or len(records[filled[-1]]) < FIELDS:
        return 0
    width = len(records[filled[-1]])
    for place, i in enumerate(filled):
        below = filled[place + 1 :]
        if _heads(records[i], width):
            agree = len(below) >= ROWS and all(len(records[j]) == width for j in below)
            return i if place and agree else 0
        if not _is_title(records[i], width):
            return 0
    return 0


def _is_whole(records: Sequence[Sequence[str]]) -> bool:
    """Tell whether the first line has names, and all others as many fields, two or more."""
    filled = [record for record in records if any(field.strip() for field in record)]
    width = len(filled[0]) if filled else 0
    regular = len(filled) > ROWS and all(len(record) == width for record in filled)
    return width > 1 and regular and _heads(filled[0], width)


def _heads(record: Sequence[str], width: int) -> bool:
    """Tell whether a line can be that of the names: one may be empty, and some are no numbers."""
    named = [field for field in record if field.strip()]
    return len(record) == width and len(named) >= width - 1 and not all(map(_is_number, named))


def _is_title(record: Sequence[str], width: int) -> bool:
    filled = sum(bool(field.strip()) for field in record)
    return filled <= max(1, (width - 1) // 2) or len(record) <= width - 2


def _is_number(field: str) -> bool:
    try:
        float(field.replace(",", "."))
    except ValueError:
        return False
    return True


def _last(row: Sequence[str]) -> int:
    return max((i + 1 for i, cell in enumerate(row) if cell.strip()), default=0)
