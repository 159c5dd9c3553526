"""Tables from files: delimited text, Parquet and Feather, compressed or not.

What a file is, is told from its first bytes, never from its name.
"""

from __future__ import annotations

import io
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ranef.cli.compression import decompressed
from ranef.cli.delimited import Dialect, Note, read_delimited
from ranef.errors import DataError, FileError, UnknownColumnError, suggestion

__all__ = ["Reading", "read_table"]


@dataclass(frozen=True)
class Reading:
    """How a table is to be read.

    Attributes
    ----------
    separator, decimal, encoding : str or None
        Of delimited text; None to find out.
    missing : tuple of str
        Marks of a missing value beside the usual ones.
    factors, numbers : tuple of str
        Columns that hold categories, columns that hold numbers.
    """

    separator: str | None = None
    decimal: str | None = None
    encoding: str | None = None
    missing: tuple[str, ...] = ()
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
        data[name] = _as_categories(_column(data, name))
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
    if content.startswith(b"PAR1"):
        return _parquet(content, shown), []
    if content.startswith((b"ARROW1", b"FEA1")):
        return _feather(content, shown), []
    dialect = Dialect(
        _separator(source, reading), reading.decimal, reading.encoding, reading.missing
    )
    return read_delimited(content, shown, dialect)


def _separator(source: str, reading: Reading) -> str | None:
    tabbed = {".tsv", ".tab"} & {suffix.lower() for suffix in Path(source).suffixes}
    return "\t" if reading.separator is None and tabbed else reading.separator


def _parquet(content: bytes, shown: str) -> Any:
    import pandas as pd
    import pyarrow as pa

    try:
        return _plain_index(pd.read_parquet(io.BytesIO(content), engine="pyarrow"))
    except (pa.ArrowException, OSError, ValueError) as error:
        raise FileError(f"{shown} is a damaged Parquet file: {_first_line(error)}") from error


def _feather(content: bytes, shown: str) -> Any:
    import pyarrow as pa
    from pyarrow import feather

    try:
        return _plain_index(feather.read_table(io.BytesIO(content)).to_pandas())
    except (pa.ArrowException, OSError, ValueError) as error:
        raise FileError(f"{shown} is a damaged Feather file: {_first_line(error)}") from error


def _plain_index(data: Any) -> Any:
    """Turn a named index back into columns."""
    named = any(name is not None for name in data.index.names)
    return data.reset_index() if named else data.reset_index(drop=True)


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0]


def _column(data: Any, name: str) -> Any:
    if name not in data.columns:
        known = ", ".join(repr(str(column)) for column in data.columns[:20])
        raise UnknownColumnError(
            f"no column {name!r}{suggestion(name, data.columns)} The table has {known}."
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


def _as_categories(column: Any) -> Any:
    import pandas as pd

    if isinstance(column.dtype, pd.CategoricalDtype):
        return column
    return column.astype("category")
