"""A sheet of an Excel workbook as a table."""

from __future__ import annotations

import datetime
import io
from typing import Any

from ranef.cli.above import title_rows
from ranef.cli.compression import BYTES_OF_CELL, Limit
from ranef.cli.convention import Look, Note, decide
from ranef.cli.delimited import MISSING, Dialect, Read, above_words, settle
from ranef.errors import FileError, suggestion

__all__ = ["read_workbook"]

BYTES_OF_ROW = 64
DIGITS = 10**15
MIDNIGHT = datetime.time()


def read_workbook(
    content: bytes, shown: str, dialect: Dialect, sheet: str | None, limit: Limit | None = None
) -> Read:
    """Read a sheet, its names in the first row that is not empty (after those to skip).

    Parameters
    ----------
    content : bytes
    shown : str
        The file's name for messages.
    dialect : Dialect
    sheet : str or None
        None where the workbook has one sheet with cells.
    limit : Limit, optional
    """
    import pandas as pd

    limit = limit or Limit()
    rows, notes, name = _rows(content, shown, sheet, limit)
    rows = rows[dialect.skip :]
    above = next((i for i, row in enumerate(rows) if _filled(row)), len(rows))
    if above == len(rows):
        raise FileError(f"{shown} is empty")
    titles = 0 if dialect.skip else title_rows(rows[above:])
    if titles:
        above += titles
        notes.append(Note(above_words(titles, f"row {above + 1:,}")))
    header = [str(cell).strip() if cell is not None else "" for cell in rows[above]]
    width = max(i + 1 for row in rows[above:] for i, cell in enumerate(row) if cell is not None)
    names = _names(header[:width] + [""] * (width - len(header)), shown)
    numbered = [(i, row) for i, row in enumerate(rows[above + 1 :], above + 2) if _filled(row)]
    missing = {*MISSING, *dialect.missing}
    columns = {
        name: _without_missing([row[j] if j < len(row) else None for _, row in numbered], missing)
        for j, name in enumerate(names)
        if name
    }
    if len(columns) < len(names) and any(
        j < len(row) and row[j] is not None
        for _, row in numbered
        for j, name in enumerate(names)
        if not name
    ):
        notes.append(Note("a column without a name (row names?) is left out"))
    place = [f"row {dialect.skip + i:,} of the sheet" for i, _ in numbered].__getitem__
    empty = [name for name, cells in columns.items() if all(cell is None for cell in cells)]
    notes += _without_values(content, shown, name, limit, empty, names) if empty else []
    notes += [note for name, cells in columns.items() for note in _cut_digits(name, cells)]
    texts = [name for name, cells in columns.items() if _texts(cells)]
    looks = [Look(name, pd.Series(columns[name]), place) for name in texts]
    convention = decide(looks, ";", dialect.decimal, dialect.thousands)
    for name, cells in columns.items():
        if name not in texts and any(isinstance(cell, str) for cell in cells):
            columns[name] = [_written(cell, convention.decimal) for cell in cells]
            looks.append(Look(name, pd.Series(columns[name]), place))
    for name, cells in columns.items():
        if _dates(cells):
            columns[name] = [None if cell is None else cell.date() for cell in cells]
    data, said = settle(columns, looks, convention)
    return data, notes + said, place


def _rows(
    content: bytes, shown: str, sheet: str | None, limit: Limit
) -> tuple[list[Any], list[Note], str]:
    """Return the cells of the sheet asked for, or of the only one that has any, and its name."""
    try:
        import openpyxl
    except ImportError:
        raise FileError(
            f"{shown} is an Excel workbook, which needs openpyxl: pip install 'ranef[excel]'; "
            "or save the sheet as CSV"
        ) from None
    try:
        book = openpyxl.load_workbook(io.BytesIO(content), read_only=True, data_only=True)
        if sheet is not None and sheet not in book.sheetnames:
            listed = ", ".join(map(repr, book.sheetnames[:20]))
            hint = suggestion(sheet, book.sheetnames)
            raise FileError(f"{shown} has no sheet {sheet!r}{hint}; it has {listed}")
        chosen = book.sheetnames if sheet is None else [sheet]
        found = {}
        for name in chosen:
            if hasattr(book[name], "iter_rows"):
                rows = _cells(book[name], shown, limit)
                if any(map(_filled, rows)):
                    found[name] = rows
    except (FileError, MemoryError):
        raise
    except Exception as error:  # what openpyxl makes of damaged bytes has no common base
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise FileError(f"{shown} is a damaged Excel workbook: {reason}") from error
    if not found:
        raise FileError(f"{shown} is empty")
    if len(found) > 1:
        listed = ", ".join(map(repr, list(found)[:20]))
        raise FileError(f"{shown} has {len(found)} sheets with cells ({listed}); name one: --sheet")
    name = next(iter(found))
    return found[name], [], name


def _without_values(
    content: bytes, shown: str, sheet: str, limit: Limit, empty: list[str], names: list[str]
) -> list[Note]:
    """Say which empty columns hold formulas: programs that write workbooks do not compute them."""
    import openpyxl

    places, found = {names.index(name): name for name in empty}, set()
    book = openpyxl.load_workbook(io.BytesIO(content), read_only=True, data_only=False)
    for row in _cells(book[sheet], shown, limit):
        found |= {
            places[j]
            for j, cell in enumerate(row)
            if j in places and isinstance(cell, str) and cell.startswith("=")
        }
    return [
        Note(
            f"column {name!r} holds formulas of which the file has no values; open it in Excel or "
            "LibreOffice and save it, which computes them",
            name,
        )
        for name in found
    ]


def _cut_digits(name: str, cells: list[Any]) -> list[Note]:
    """Say where whole numbers have more than the 15 digits that Excel keeps."""
    long = [cell for cell in cells if isinstance(cell, int | float) and abs(cell) >= DIGITS]
    if not any(float(cell).is_integer() for cell in long):
        return []
    return [
        Note(
            f"column {name!r} has whole numbers of more than 15 digits, of which Excel keeps 15: "
            "ids may be changed or merged; keep them as text in the sheet",
            name,
            in_use=True,
        )
    ]


def _cells(sheet: Any, shown: str, limit: Limit) -> list[Any]:
    """Return the rows of a sheet, each up to its last cell, and none after the last one filled."""
    rows: list[Any] = []
    taken, before, cut = 0, None, ()
    if hasattr(sheet, "reset_dimensions"):  # what a sheet says of its size is often untrue
        sheet.reset_dimensions()
    for row in sheet.iter_rows(values_only=True):
        if row is not before:  # rows that are not in the file are one and the same
            width = len(row)
            while width and row[width - 1] is None:
                width -= 1
            before, cut = row, row[:width]
        rows.append(cut)
        taken += BYTES_OF_ROW + BYTES_OF_CELL * len(cut)
        limit.check(taken, shown)
    while rows and not rows[-1]:
        rows.pop()
    return rows


def _filled(row: Any) -> bool:
    return any(cell is not None for cell in row)


def _names(header: list[str], shown: str) -> list[str]:
    twice = [name for name in header if name and header.count(name) > 1]
    if twice:
        raise FileError(f"{shown} has several columns named {twice[0][:60]!r}; rename them")
    return header


def _without_missing(cells: list[Any], missing: set[str]) -> list[Any]:
    """Return the cells of a column, None where a word means that there is no value."""
    return [None if isinstance(v, str) and v.strip() in missing else v for v in cells]


def _texts(cells: list[Any]) -> bool:
    """Tell whether a column holds text and nothing else."""
    kinds = {type(cell) for cell in cells if cell is not None}
    return kinds == {str}


def _dates(cells: list[Any]) -> bool:
    """Tell whether a column holds moments that are all at midnight: Excel has no other dates."""
    times = [cell for cell in cells if cell is not None]
    return bool(times) and all(
        isinstance(cell, datetime.datetime) and cell.time() == MIDNIGHT for cell in times
    )


def _written(value: Any, decimal: str) -> str | None:
    """Write a number as the words that stand beside it in its column: as text."""
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        value = int(value)
    return str(value).replace(".", decimal) if isinstance(value, float) else str(value)
