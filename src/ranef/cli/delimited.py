"""Delimited text: CSV, TSV and what spreadsheets and R write.

Numbers are read by pandas. What pandas would decide silently and wrongly is
decided here: the separator, the decimal mark, row names, trailing separators,
columns of the same name, codes with leading zeros, whole numbers with gaps,
and which words mean "missing" (``None`` and ``null`` are levels, not gaps).
"""

from __future__ import annotations

import codecs
import csv
import io
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ranef.errors import FileError

__all__ = ["MISSING", "Dialect", "Note", "read_delimited"]

MISSING = ("", "NA", "N/A", "n/a", "#N/A", "#NA", "<NA>", "NaN", "nan", ".")

SEPARATORS = ",;\t|"

MARKS = {
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}

_LEADING_ZERO = re.compile(rb'(?:^|[\s,;|"])0\d')
_DECIMAL_COMMA = re.compile(r'(?:^|;)\s*"?[+-]?\d+,\d+"?\s*(?:;|$)', re.MULTILINE)
_DECIMAL_POINT = re.compile(r'(?:^|;)\s*"?[+-]?\d+\.\d+"?\s*(?:;|$)', re.MULTILINE)


@dataclass(frozen=True)
class Dialect:
    """How delimited text is written; None where it is to be found out.

    Attributes
    ----------
    separator, decimal, encoding : str or None
    missing : tuple of str
        Marks of a missing value beside `MISSING`.
    """

    separator: str | None = None
    decimal: str | None = None
    encoding: str | None = None
    missing: tuple[str, ...] = ()


@dataclass(frozen=True)
class Note:
    """A decision the user should know of, and the column it is about."""

    text: str
    column: str | None = None


def read_delimited(content: bytes, shown: str, dialect: Dialect) -> tuple[Any, list[Note]]:
    r"""Read delimited text.

    Parameters
    ----------
    content : bytes
    shown : str
        The file's name for messages.
    dialect : Dialect

    Returns
    -------
    data : pandas.DataFrame
    notes : list of Note

    Examples
    --------
    >>> data, notes = read_delimited(b"id;x\n007;1,5\n008;.\n", "'a.csv'", Dialect())
    >>> data["id"].tolist(), data["x"].tolist()
    (['007', '008'], [1.5, nan])
    >>> notes[0].text
    "column 'id' has codes with leading zeros and is read as text"
    """
    encoding = _encoding(content, shown, dialect)
    start = _decoded_start(content, encoding, shown)
    separator = dialect.separator or _sniffed(start)
    header, first = _first_records(start, separator)
    _check_names(header, shown)
    options: dict[str, Any] = {
        "sep": r"\s+" if separator == " " else separator,
        "decimal": dialect.decimal or _decimal(start, separator),
        "encoding": encoding,
        "keep_default_na": False,
        "na_values": [*MISSING, *dialect.missing],
        "low_memory": False,
    }
    _check_width(header, first, separator, shown)
    if len(first) > len(header) and first[-1].strip() == "":
        options["index_col"] = False
    data = _parsed(content, shown, options).reset_index(drop=True)
    data, notes = _without_row_names(data, header)
    notes += _keep_codes(data, content, options)
    _whole_numbers(data)
    return data, notes


def _encoding(content: bytes, shown: str, dialect: Dialect) -> str:
    if dialect.encoding is not None:
        try:
            return codecs.lookup(dialect.encoding).name
        except LookupError:
            raise FileError(
                f"--encoding {dialect.encoding}: no such encoding; common ones are utf-8, "
                "latin-1, cp1252 and utf-16"
            ) from None
    for mark, name in MARKS.items():
        if content.startswith(mark):
            return name
    if b"\x00" in content[:4096]:
        raise FileError(f"{shown} is neither text nor Parquet nor Feather; save the table as CSV")
    return "utf-8"


def _decoded_start(content: bytes, encoding: str, shown: str, size: int = 1 << 16) -> str:
    """Return the beginning of the text, cut at a line's end."""
    decoder = codecs.getincrementaldecoder(encoding)()
    try:
        start = decoder.decode(content[:size], final=len(content) <= size)
    except UnicodeDecodeError as error:
        raise FileError(_not_text(content, encoding, shown)) from error
    whole, _, _ = start.rpartition("\n")
    return start if len(content) <= size or not whole else whole


def _not_text(content: bytes, encoding: str, shown: str) -> str:
    try:
        content.decode(encoding)
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        where = f" (line {line:,})"
    else:
        where = ""
    return (
        f"{shown} is not {encoding.upper()} text{where}; save it as UTF-8 or name its "
        "encoding, as in --encoding latin-1"
    )


def _sniffed(start: str) -> str:
    """Return the separator that occurs most in the first line, outside quotes."""
    line = re.sub(r'"[^"]*"', "", start.lstrip("\r\n").partition("\n")[0])
    counts = {mark: line.count(mark) for mark in SEPARATORS}
    best = max(counts, key=lambda mark: counts[mark])
    if counts[best] > 0:
        return best
    return " " if len(line.split(" ")) > 1 else ","


def _first_records(start: str, separator: str) -> tuple[list[str], list[str]]:
    lines = io.StringIO(start.lstrip("\r\n"), newline="")
    records = filter(
        None, csv.reader(lines, delimiter=separator, skipinitialspace=separator == " ")
    )
    return next(records), next(records, [])


def _check_names(header: Sequence[str], shown: str) -> None:
    counts = Counter(name for name in header if name)
    twice = [name for name, count in counts.items() if count > 1]
    if twice:
        raise FileError(f"{shown} has several columns named {twice[0]!r}; rename them")


def _check_width(header: Sequence[str], first: Sequence[str], separator: str, shown: str) -> None:
    """Allow one field more than names: an empty last one, or R's row names."""
    extra = len(first) - len(header)
    allowed = extra <= 0 or (extra == 1 and (separator in " \t" or first[-1].strip() == ""))
    if not allowed:
        raise FileError(
            f"{shown} has {len(header)} column names and {len(first)} fields in the first row "
            f"(separator {separator!r}); quote fields that contain the separator, or give --sep"
        )


def _decimal(start: str, separator: str) -> str:
    """Return the comma if the separator leaves it free and numbers are written with it."""
    comma = separator == ";" and _DECIMAL_COMMA.search(start) and not _DECIMAL_POINT.search(start)
    return "," if comma else "."


def _parsed(content: bytes, shown: str, options: dict[str, Any]) -> Any:
    import pandas as pd

    try:
        return pd.read_csv(io.BytesIO(content), **options)
    except UnicodeDecodeError as error:
        raise FileError(_not_text(content, options["encoding"], shown)) from error
    except pd.errors.EmptyDataError as error:
        raise FileError(f"{shown} is empty") from error
    except pd.errors.ParserError as error:
        reason = str(error).strip().removeprefix("Error tokenizing data. C error: ")
        raise FileError(f"{shown} cannot be read as a table: {reason}") from error


def _without_row_names(data: Any, header: Sequence[str]) -> tuple[Any, list[Note]]:
    """Leave out the columns without a name, which R writes for row names."""
    unnamed = [data.columns[i] for i, name in enumerate(header) if not name.strip()]
    if not unnamed:
        return data, []
    text = "a column without a name (row names?) is left out"
    return data.drop(columns=unnamed), [Note(text)]


def _keep_codes(data: Any, content: bytes, options: dict[str, Any]) -> list[Note]:
    """Read columns of digits again as text if one of their values begins with a zero."""
    plain = content.replace(b"\x00", b"") if options["encoding"].startswith("utf-16") else content
    suspects = [name for name in data.columns if data[name].dtype.kind in "iuf"]
    if not suspects or not _LEADING_ZERO.search(plain):
        return []
    import pandas as pd

    again = pd.read_csv(io.BytesIO(content), **(options | {"dtype": str})).reset_index(drop=True)
    notes = []
    for name in suspects:
        written = again[name].str.strip()
        if written.str.fullmatch(r"0\d+", na=False).any():
            data[name] = written
            text = f"column {name!r} has codes with leading zeros and is read as text"
            notes.append(Note(text, name))
    return notes


def _whole_numbers(data: Any) -> None:
    """Give columns of whole numbers with gaps an integer type: levels read 3, not 3.0."""
    import numpy as np

    for name in data.columns:
        if data[name].dtype.kind == "f":
            values = data[name].to_numpy()
            present = values[~np.isnan(values)]
            whole = np.all(np.abs(present) < 2**53) and np.all(present == np.round(present))
            if 0 < len(present) < len(values) and whole:
                data[name] = data[name].astype("Int64")
