"""Tables from files: delimited text, Parquet, Feather and Excel, compressed or not.

What a file is, is told from its first bytes, never from its name.
"""

from __future__ import annotations

import io
import math
import os
import re
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ranef.cli.arrow_size import unpacked_size
from ranef.cli.compression import Limit, decompressed
from ranef.cli.convention import Look, numbers_of
from ranef.cli.delimited import Dialect, Note, Place, Read, read_delimited
from ranef.cli.foreign import foreign
from ranef.cli.ordering import in_order, natural_order_note
from ranef.cli.spellings import copies, in_one_spelling, spellings_note
from ranef.cli.suspicion import (
    are_percentages,
    common_unit,
    filled_once,
    missing_marks,
    percentages,
    row_of_sums,
    united,
)
from ranef.errors import DataError, FileError, UnknownColumnError, suggestion

__all__ = ["FileTable", "Reading", "read_table", "without_marks"]

SHOWN = 200
FEW_ROWS = 256
ZIP, OLD_OFFICE = b"PK\x03\x04", b"\xd0\xcf\x11\xe0"
BINARY = {b"PAR1": "Parquet", b"ARROW1": "Feather", b"FEA1": "Feather"}


@dataclass(frozen=True)
class Reading(Dialect):
    """How a table is to be read: as text, if it is delimited text, and column by column.

    Attributes
    ----------
    factors, numbers : tuple of str
        Columns that hold categories, columns that hold numbers.
    levels : tuple of (str, tuple of str)
        Columns and the order of their categories.
    sheet : str or None
        The sheet of a workbook.
    gigabytes : float or None
        The most that is read, see `Limit`.
    formulas : str or None
        Where the names of the columns in use stand; None for every column.
    suggests : bool
        Whether a natural order of levels is suggested.
    unified : tuple of str
        Columns whose values are brought to one spelling.
    distinct : bool
        Whether rows that repeat an earlier one in every column are left out.
    """

    factors: tuple[str, ...] = ()
    numbers: tuple[str, ...] = ()
    levels: tuple[tuple[str, tuple[str, ...]], ...] = ()
    sheet: str | None = None
    gigabytes: float | None = None
    formulas: str | None = None
    suggests: bool = True
    unified: tuple[str, ...] = ()
    distinct: bool = False

    def uses(self, column: str) -> bool:
        """Tell whether a model uses a column."""
        if self.formulas is None:
            return True
        if column not in self.formulas:
            return False
        return re.search(rf"(?<![\w.]){re.escape(column)}(?![\w.])", self.formulas) is not None


@dataclass(frozen=True)
class FileTable:
    """A table from a file.

    Attributes
    ----------
    data : pandas.DataFrame
    notes : list of str
        What was decided on the way.
    place : callable or None
        Says in which line of the file a row stands; None where there are no lines.
    """

    data: Any
    notes: list[str]
    place: Place | None = None


def read_table(source: str, reading: Reading) -> FileTable:
    """Read a table and say what was decided on the way.

    Parameters
    ----------
    source : str
        A path, ``-`` for standard input, or the name of a bundled data set.
    reading : Reading

    Raises
    ------
    ranef.errors.FileError
        There is no such file, or it holds no table.
    ranef.errors.DataError
        A column cannot be read as asked.

    Examples
    --------
    >>> found = read_table("sleepstudy", Reading())
    >>> len(found.data), found.notes
    (180, [])
    """
    data, notes, place = _bundled(source), list[Note](), None
    if data is None:
        shown = "standard input" if source == "-" else repr(source[:SHOWN])
        limit = Limit(reading.gigabytes)
        data, notes, place = _parsed(_content(source, shown, limit), source, shown, reading, limit)
    if len(data) == 0:
        raise FileError(f"{source[:SHOWN]!r} has column names but no rows")
    data = without_marks(_without_lists(data, reading, notes), reading.missing)
    if reading.distinct:
        data, place = _once(data, place)
    for name in reading.unified:
        data[name] = in_one_spelling(_column(data, name))
    for name in reading.numbers:
        data[name] = _as_numbers(_column(data, name), name, reading, notes, place)
    for name in reading.factors:
        data[name] = _column(data, name).astype("category")
    ordered = dict(reading.levels)
    for name, levels in ordered.items():
        data[name] = in_order(_column(data, name), name, levels)
    kept = [
        note.text
        for note in notes
        if note.column not in (*reading.factors, *reading.numbers)
        and not (note.in_use and note.column is not None and not reading.uses(note.column))
    ]
    doubtful = [] if place is None else _doubtful(data, reading, place)
    return FileTable(data, [*kept, *doubtful, *_orders(data, reading)], place)


def _once(data: Any, place: Place | None) -> tuple[Any, Place | None]:
    """Leave out rows that repeat an earlier one; lines of the file stay what they are."""
    kept = (~data.duplicated()).to_numpy().nonzero()[0]
    data = data.iloc[kept].reset_index(drop=True)
    if place is None:
        return data, None
    line = place
    return data, lambda row: line(int(kept[row]))


def _without_lists(data: Any, reading: Reading, notes: list[Note]) -> Any:
    """Leave out columns whose cells hold lists or records; refuse one in use."""
    nested = [name for name in data.columns if _is_nested(data[name])]
    for name in nested:
        if reading.formulas is not None and reading.uses(str(name)):
            raise DataError(
                f"column {str(name)!r} holds lists or records, not one value a row: make each a "
                "column or a row of its own"
            )
        notes.append(Note(f"column {str(name)!r} holds lists or records and is left out"))
    return data.drop(columns=nested) if nested else data


def _is_nested(column: Any) -> bool:
    if column.dtype != object:
        return False
    first = next((cell for cell in column if cell is not None), None)
    return isinstance(first, list | dict | tuple) or getattr(first, "ndim", 0) > 0


def without_marks(data: Any, marks: Sequence[str]) -> Any:
    """Take numbers that mark missing values away, however the file writes them.

    Examples
    --------
    >>> import pandas as pd
    >>> answers = pd.DataFrame({"q1": [1.5, -77.0, 2.0], "who": [1, 2, 3]})
    >>> without_marks(answers, ["-77"])["q1"].isna().tolist()
    [False, True, False]
    """
    import pandas as pd

    numbers = [number for number in map(_number, marks) if number is not None]
    for name in data.columns if numbers else ():
        column = data[name]
        if pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_bool_dtype(column):
            hit = column.isin(numbers)
            if hit.any():
                data = data.assign(**{name: column.mask(hit)})
    return data


def _number(mark: str) -> float | None:
    try:
        number = float(mark.replace(",", "."))
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _doubtful(data: Any, reading: Reading, place: Place) -> list[str]:
    """Name values of columns in use that may mark missing ones, and a last row of sums."""
    names = [name for name in data.columns if reading.uses(str(name))]
    sums = row_of_sums(data, place)
    text = [name for name in names if str(name) not in reading.factors]
    spelled = (spellings_note(data[name], str(name)) for name in names)
    twice = copies(data, place)
    return [
        *(note for note in spelled if note is not None),
        *([] if twice is None else [twice]),
        *missing_marks(data, names),
        *percentages(data, text),
        *united(data, text),
        *filled_once(data, names),
        *([] if sums is None else [sums]),
    ]


def _orders(data: Any, reading: Reading) -> list[str]:
    """Suggest orders of levels for columns that a formula names."""
    if reading.formulas is None or not reading.suggests:
        return []
    fixed = re.sub(r"\|[^()]*\)", ")", reading.formulas)
    used = set()
    for name in sorted(map(str, data.columns), key=len, reverse=True):
        if replace(reading, formulas=fixed).uses(name):
            used.add(name)
            fixed = fixed.replace(name, " ")  # "Trap nights" does not use a column "Trap"
    names = [name for name in data.columns if str(name) in used]
    notes = (natural_order_note(data[name], str(name)) for name in names)
    return [note for note in notes if note is not None]


def _bundled(source: str) -> Any | None:
    """Return the data set of that name, unless there is a file of that name."""
    from ranef import data

    return data.load(source) if source in data.names() and not Path(source).exists() else None


def _content(source: str, shown: str, limit: Limit) -> bytes:
    if source == "-":
        if sys.stdin is None:
            raise FileError("standard input is closed: give the name of a file")
        return limit.read(sys.stdin.buffer, shown, text=True)
    path = Path(source)
    try:
        with path.open("rb") as stream:
            limit.check(os.fstat(stream.fileno()).st_size, shown)
            return limit.read(stream, shown, text=True)
    except FileError:
        raise
    except FileNotFoundError:
        raise FileError(_not_found(path)) from None
    except IsADirectoryError:
        raise FileError(f"{shown} is a folder; give one file in it") from None
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise FileError(f"cannot read {shown}: {reason}") from error


def _not_found(path: Path) -> str:
    folder = path.parent
    if not folder.is_dir():
        return f"no file {str(path)!r}: there is no folder {str(folder)!r}"
    from ranef import data

    present = sorted(entry.name for entry in folder.iterdir() if entry.is_file())
    where = "this folder" if folder == Path() else repr(str(folder))
    hint = suggestion(path.name, [*present, *data.names()])
    return f"no file {path.name!r} in {where}{hint}"


def _parsed(content: bytes, source: str, shown: str, reading: Reading, limit: Limit) -> Read:
    content = decompressed(decompressed(content, shown, limit), shown, limit)
    if not content.strip():
        raise FileError(f"{shown} is empty")
    what = foreign(content)
    if what is not None:
        raise FileError(f"{shown} is {what}")
    if content.startswith(ZIP):
        from ranef.cli.workbook import read_workbook

        return read_workbook(content, shown, reading, reading.sheet, limit)
    if content.startswith(OLD_OFFICE):
        if "EncryptedPackage".encode("utf-16-le") in content:
            raise FileError(f"{shown} is locked with a password; save it without one, or as CSV")
        raise FileError(f"{shown} is a workbook of Excel before 2007; save it as .xlsx or CSV")
    for mark, kind in BINARY.items():
        if content.startswith(mark):
            return _binary(content, kind, shown, limit), [], None
    tabbed = {".tsv", ".tab"} & {suffix.lower() for suffix in Path(source).suffixes}
    if reading.separator is None and tabbed:
        reading = replace(reading, separator="\t")
    return read_delimited(content, shown, reading)


def _binary(content: bytes, kind: str, shown: str, limit: Limit) -> Any:
    """Read a Parquet or Feather file; a named index becomes columns."""
    from pyarrow import feather, parquet

    stream = io.BytesIO(content)
    try:
        if kind == "Parquet":
            _check_parquet(parquet.ParquetFile(stream), shown, limit)
        elif content.startswith(b"ARROW1"):
            limit.check(unpacked_size(content), shown)
        table = (parquet if kind == "Parquet" else feather).read_table(stream)
        data = table.to_pandas()
        data = data.reset_index(drop=all(name is None for name in data.index.names))
        _keep_whole(data, table)
    except (FileError, MemoryError):
        raise
    except Exception as error:  # what pyarrow makes of damaged bytes has no common base
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        raise FileError(f"{shown} is a damaged {kind} file: {reason}") from error
    return data


def _check_parquet(file: Any, shown: str, limit: Limit) -> None:
    """Refuse a file of which a few bytes stand for many values, or for long ones."""
    about = file.metadata
    least = 8.0 * about.num_rows * about.num_columns
    limit.check(least, shown)
    longest = 0.0
    for k in range(about.num_row_groups):
        group = about.row_group(k)
        for j in range(group.num_columns):
            chunk = group.column(j)
            if chunk.physical_type == "BYTE_ARRAY":
                longest += float(chunk.num_values) * chunk.total_uncompressed_size
    if least + longest <= limit.n_bytes:
        return
    held = 0
    for batch in file.iter_batches(batch_size=FEW_ROWS):
        held += sum(column.nbytes for column in batch.columns)
        limit.check(held, shown)


def _keep_whole(data: Any, table: Any) -> None:
    """Give whole numbers with gaps a type that holds all their digits; pandas makes them float."""
    import pandas as pd
    import pyarrow as pa

    for name, column in zip(table.column_names, table.columns, strict=True):
        if column.null_count and pa.types.is_integer(column.type) and name in data.columns:
            missing = column.is_null().to_numpy()
            values = column.fill_null(0).to_numpy()
            data[name] = pd.arrays.IntegerArray(values, missing)


def _column(data: Any, name: str) -> Any:
    if name not in data.columns:
        names = ", ".join(repr(str(column)) for column in data.columns[:20])
        raise UnknownColumnError(
            f"no column {name!r}{suggestion(name, data.columns)}; the table has {names}"
        )
    return data[name]


def _as_numbers(
    column: Any, name: str, reading: Reading, notes: list[Note], place: Place | None
) -> Any:
    import pandas as pd

    if pd.api.types.is_numeric_dtype(column):
        return column
    cells = column.astype("object")
    texts = all(isinstance(cell, str) for cell in column.dropna().unique())
    if texts and len(column.dropna()):
        if are_percentages(column):
            cells = cells.str.strip().str.rstrip("%").str.strip()
        elif unit := common_unit(column):
            cells = cells.str.strip().str.removesuffix(unit).str.strip()
        look = Look(name, cells, place or (lambda row: f"row {row + 1}"))
        values, note = numbers_of(look, reading.decimal, reading.thousands)
        if values is not None:
            return pd.Series(values, index=column.index)
        if note is not None and note.column == name:
            raise DataError(f"--number {name}: {note.text}")
    numbers = pd.to_numeric(cells, errors="coerce")
    wrong = column.notna() & numbers.isna()
    if wrong.any():
        row = int(wrong.to_numpy().argmax())
        where = f"row {row + 1}" if place is None else place(row)
        word, count = str(column.iloc[row])[:SHOWN], int(wrong.sum())
        said = next((f" ({note.text})" for note in notes if note.column == name), "")
        raise DataError(
            f"--number {name}: {word!r} in {where} is not a number ({count:,} such rows); "
            f"--na={shlex.quote(word)} marks it as missing{said}"
        )
    return numbers
