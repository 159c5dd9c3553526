"""Tables from files: delimited text, Parquet and Feather, compressed or not.

What a file is, is told from its first bytes, never from its name.
"""

from __future__ import annotations

import io
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ranef.cli.compression import decompressed
from ranef.cli.delimited import Dialect, Note, read_delimited
from ranef.errors import DataError, FileError, UnknownColumnError, suggestion

__all__ = ["Reading", "read_table"]

BINARY = {b"PAR1": "Parquet", b"ARROW1": "Feather", b"FEA1": "Feather"}


@dataclass(frozen=True)
class Reading(Dialect):
    """How a table is to be read: as text, if it is delimited text, and column by column.

    Attributes
    ----------
    factors, numbers : tuple of str
        Columns that hold categories, columns that hold numbers.
    """

    factors: tuple[str, ...] = ()
    numbers: tuple[str, ...] = ()


def read_table(source: str, reading: Reading) -> tuple[Any, list[str]]:
    """Read a table and say what was decided on the way.

    Parameters
    ----------
    source : str
        A path, ``-`` for standard input, or the name of a bundled data set.
    reading : Reading

    Returns
    -------
    data : pandas.DataFrame
    notes : list of str

    Raises
    ------
    ranef.errors.FileError
        There is no such file, or it holds no table.
    ranef.errors.DataError
        A column cannot be read as asked.

    Examples
    --------
    >>> data, notes = read_table("sleepstudy", Reading())
    >>> len(data), notes
    (180, [])
    """
    data, notes = _bundled(source), list[Note]()
    if data is None:
        shown = "standard input" if source == "-" else repr(source)
        data, notes = _parsed(_content(source), source, shown, reading)
    if len(data) == 0:
        raise FileError(f"{source!r} has column names but no rows")
    for name in reading.numbers:
        data[name] = _as_numbers(_column(data, name), name)
    for name in reading.factors:
        data[name] = _column(data, name).astype("category")
    kept = [note for note in notes if note.column not in (*reading.factors, *reading.numbers)]
    return data, [note.text for note in kept]


def _bundled(source: str) -> Any | None:
    """Return the data set of that name, unless there is a file of that name."""
    if Path(source).exists():
        return None
    from ranef import data

    return data.load(source) if source in data.names() else None


def _content(source: str) -> bytes:
    if source == "-":
        return sys.stdin.buffer.read()
    path = Path(source)
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise FileError(_not_found(path)) from None
    except IsADirectoryError:
        raise FileError(f"{source!r} is a folder; give one file in it") from None
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise FileError(f"cannot read {source!r}: {reason}") from error


def _not_found(path: Path) -> str:
    folder = path.parent
    if not folder.is_dir():
        return f"no file {str(path)!r}: there is no folder {str(folder)!r}"
    from ranef import data

    present = sorted(entry.name for entry in folder.iterdir() if entry.is_file())
    where = "this folder" if folder == Path() else repr(str(folder))
    hint = suggestion(path.name, [*present, *data.names()])
    return f"no file {path.name!r} in {where}{hint}"


def _parsed(content: bytes, source: str, shown: str, reading: Reading) -> tuple[Any, list[Note]]:
    content = decompressed(content, shown)
    if not content.strip():
        raise FileError(f"{shown} is empty")
    for mark, kind in BINARY.items():
        if content.startswith(mark):
            return _binary(content, kind, shown), []
    tabbed = {".tsv", ".tab"} & {suffix.lower() for suffix in Path(source).suffixes}
    if reading.separator is None and tabbed:
        reading = replace(reading, separator="\t")
    return read_delimited(content, shown, reading)


def _binary(content: bytes, kind: str, shown: str) -> Any:
    """Read a Parquet or Feather file; a named index becomes columns."""
    import pandas as pd
    import pyarrow as pa
    from pyarrow import feather

    stream = io.BytesIO(content)
    try:
        if kind == "Parquet":
            data = pd.read_parquet(stream, engine="pyarrow")
        else:
            data = feather.read_table(stream).to_pandas()
    except (pa.ArrowException, OSError, ValueError) as error:
        first_line = str(error).strip().partition("\n")[0]
        raise FileError(f"{shown} is a damaged {kind} file: {first_line}") from error
    return data.reset_index(drop=all(name is None for name in data.index.names))


def _column(data: Any, name: str) -> Any:
    if name not in data.columns:
        names = ", ".join(repr(str(column)) for column in data.columns[:20])
        raise UnknownColumnError(
            f"no column {name!r}{suggestion(name, data.columns)} The table has {names}."
        )
    return data[name]


def _as_numbers(column: Any, name: str) -> Any:
    import pandas as pd

    numbers = pd.to_numeric(column.astype("object"), errors="coerce")
    wrong = column.notna() & numbers.isna()
    if wrong.any():
        row = int(wrong.to_numpy().argmax())
        raise DataError(
            f"--number {name}: {column.iloc[row]!r} in row {row + 1} is not a number "
            f"({int(wrong.sum()):,} such rows); --na marks further values as missing"
        )
    return numbers
