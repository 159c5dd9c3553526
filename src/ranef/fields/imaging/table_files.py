"""Tables of subjects from files: BIDS' participants.tsv, .csv, .txt."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ranef import arguments
from ranef.errors import FileError
from ranef.tables import Table

__all__ = ["LABELS", "is_table_file", "lines_of_rows", "read_table"]

LABELS = ("subject_label", "participant_id", "subject", "Subject", "sub", "subject_id", "ID", "id")
"""Columns that name subjects, the first that is there."""
PARTICIPANTS = "participants.tsv"
ENDINGS = (".tsv", ".csv", ".txt")


def is_table_file(given: Any) -> bool:
    """Whether a path is that of a table."""
    return isinstance(given, str | os.PathLike) and str(given).endswith(ENDINGS)


def lines_of_rows(table: Any) -> Callable[[int], str]:
    """Return a function that names the line of a file's table that a row stands in."""
    place = arguments.path(table)
    text = (place / PARTICIPANTS if place.is_dir() else place).read_bytes()
    lines = [k for k, line in enumerate(text.splitlines(), start=1) if line.strip()]
    return lambda row: f"line {lines[row + 1] if row + 1 < len(lines) else row + 2:,}"


def read_table(table: Any) -> Table:
    """Return a table, read where its path is given; labels stay text.

    A folder of BIDS stands for its participants.tsv. Text may be separated by semicolons, with
    commas in its numbers, as spreadsheets write it in many countries.
    """
    if not isinstance(table, str | os.PathLike):
        return Table.of(table)
    import pandas as pd

    place = arguments.path(table)
    if place.is_dir():
        place = place / PARTICIPANTS
    if not place.is_file():
        raise FileError(f"there is no file {str(place)!r}")
    try:
        separator, decimal = _written(place)
        return Table.of(
            pd.read_csv(
                place, sep=separator, decimal=decimal, encoding="utf-8-sig",
                dtype=dict.fromkeys(LABELS, str), na_values=["n/a"],
            )
        )  # fmt: skip
    except (ValueError, UnicodeError) as error:
        raise FileError(f"{str(place)!r} cannot be read as a table: {error}") from None


def _written(place: Path) -> tuple[str, str]:
    """Separator and decimal mark of a file of text."""
    usual = "," if place.suffix == ".csv" else "\t"
    text = place.read_text("utf-8-sig")
    names = text.partition("\n")[0]
    separator = max((usual, ";", "\t"), key=names.count)
    commas = re.search(rf"(?m)(^|{separator})-?\d+,\d+\s*({separator}|$)", text)
    return separator, "," if separator != "," and commas else "."
