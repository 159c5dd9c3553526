"""Delimited text: CSV, TSV and what spreadsheets and R write.

Fields are read as text by pandas, and become numbers by one convention for the whole file.
What pandas would decide silently and wrongly is decided here and in `convention`: the
separator, the decimal mark, row names, trailing separators, comments, columns of the same
name, codes with leading zeros, whole numbers with gaps, and which words mean "missing"
(``None`` and ``null`` are levels, not gaps).
"""

from __future__ import annotations

import codecs
import contextlib
import csv
import io
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from ranef.cli.above import title_lines
from ranef.cli.convention import Convention, Look, Note, converted, decide
from ranef.cli.typed import read_typed
from ranef.errors import FileError

__all__ = ["MISSING", "Dialect", "Note", "Place", "Read", "read_delimited", "settle"]

Place = Callable[[int], str]
Read = tuple[Any, list[Note], Place | None]

MISSING = ("", "NA", "N/A", "n/a", "#N/A", "#NA", "<NA>", "NaN", "nan", ".")

SEPARATORS = ",;\t|"

MARKS = {
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
SHOWN = 60


@dataclass(frozen=True)
class Dialect:
    """How delimited text is written; None where it is to be found out.

    Attributes
    ----------
    separator, decimal, thousands, encoding : str or None
    missing : tuple of str
        Marks of a missing value beside `MISSING`.
    skip : int
        Lines before that of the names.
    """

    separator: str | None = None
    decimal: str | None = None
    encoding: str | None = None
    missing: tuple[str, ...] = ()
    thousands: str | None = None
    skip: int = 0


@dataclass(frozen=True)
class Body:
    """The lines of a table, without what stands before its names.

    Attributes
    ----------
    content : bytes
        In UTF-8.
    before : int
        Lines of the file left out above.
    separator : str
    """

    content: bytes
    before: int
    separator: str


def read_delimited(content: bytes, shown: str, dialect: Dialect) -> Read:
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
    place : callable
        Says in which line a row stands.

    Examples
    --------
    >>> data, notes, place = read_delimited(b"id;x\n007;1,5\n008;.\n", "'a.csv'", Dialect())
    >>> data["id"].tolist(), data["x"].tolist()
    (['007', '008'], [1.5, nan])
    >>> notes[0].text
    "column 'id' has codes with leading zeros and is read as text"
    >>> place(1)
    'line 3'
    """
    body, notes = _body(_as_utf8(content, shown, dialect), shown, dialect)
    header, first = _first_records(body, shown)
    _check_names(header, shown)
    _check_width(header, first, body.separator, shown)
    options: dict[str, Any] = {
        "sep": r"\s+" if body.separator == " " else body.separator,
        "encoding": "utf-8",
        "dtype": str,
        "keep_default_na": False,
        "na_values": [*MISSING, *dialect.missing],
    }
    if len(first) > len(header) and first[-1].strip() == "":
        options["index_col"] = False
    fields = _Fields(body, header, options, dialect, partial(_parsed, shown, body))
    found = fields.with_numbers() if len(first) <= len(header) else None
    data, said = fields.as_text() if found is None else found
    quoted = b'"' in body.content
    open_quote = _open_quote(data, body, len(header), fields.place) if quoted else []
    return data, notes + open_quote + said, fields.place


def _open_quote(data: Any, body: Body, width: int, place: Place) -> list[Note]:
    """Notice a field that swallowed whole lines: its quotation mark is not closed."""
    for name in data.columns:
        column = data[name]
        if column.dtype != object and str(column.dtype) not in ("str", "string"):
            continue
        broken = column.str.contains("\n", regex=False, na=False).to_numpy(dtype=bool)
        for row in np.flatnonzero(broken)[:20]:
            lines = str(column.iloc[row]).split("\n")
            if any(line.count(body.separator) >= width - 1 > 0 for line in lines[1:]):
                words = (
                    f"the field of {str(name)!r} in {place(int(row))} runs over {len(lines)} lines "
                    "that look like rows of the table: is a quotation mark not closed?"
                )
                return [Note(words)]
    return []


@dataclass(frozen=True, eq=False)
class _Fields:
    """The fields of a table, to be read.

    Attributes
    ----------
    options : dict
        Of `pandas.read_csv`, for text.
    read : callable
        Reads bytes with options.
    """

    body: Body
    header: list[str]
    options: dict[str, Any]
    dialect: Dialect
    read: Callable[[bytes, dict[str, Any]], Any]

    def place(self, row: int) -> str:
        """Say which line of the file a row begins in."""
        return line_of(self.body, row)

    def as_text(self) -> tuple[Any, list[Note]]:
        """Read every field as text, and settle what it stands for."""
        data = self.read(self.body.content, self.options).reset_index(drop=True)
        data, notes = _without_row_names(data, self.header)
        columns = dict(data.items())
        looks = [Look(name, column, self.place) for name, column in columns.items()]
        data, said = settle(columns, looks, self._convention(looks))
        return data, notes + said

    def with_numbers(self) -> tuple[Any, list[Note]] | None:
        """Read what is plainly a number as such; None where the file may say something else."""
        if self.dialect.decimal not in (None, ".") or self.dialect.thousands is not None:
            return None
        typed = read_typed(self.body.content, self.header, self.options, self.read)
        if typed is None:
            return None
        columns, plain = dict(typed.data.items()), {look.name for look in typed.looks}
        text = {name: column for name, column in columns.items() if name not in plain}
        looks = [Look(name, column, self.place) for name, column in text.items()]
        convention = self._convention([*looks, *typed.looks])
        return settle(columns, looks, convention) if convention.decimal == "." else None

    def _convention(self, looks: Sequence[Look]) -> Convention:
        return decide(looks, self.body.separator, self.dialect.decimal, self.dialect.thousands)


def settle(
    columns: Mapping[str, Any], looks: Sequence[Look], convention: Convention
) -> tuple[Any, list[Note]]:
    """Return a table in which columns of text are what they stand for, by one convention.

    Parameters
    ----------
    columns : mapping
        Every column, by name.
    looks : sequence of Look
        Those of text.
    convention : Convention
    """
    import pandas as pd

    settled, notes = dict(columns), []
    for look in looks:
        values, note = converted(look, convention)
        if values is not None:
            settled[look.name] = values.to_pandas() if hasattr(values, "to_pandas") else values
        if note is not None:
            notes.append(note)
    return pd.DataFrame(settled), notes


def line_of(body: Body, row: int) -> str:
    """Say which line of the file a row begins in."""
    lines = io.TextIOWrapper(io.BytesIO(body.content), "utf-8", "replace", newline="")
    reader = csv.reader(lines, delimiter=body.separator)
    count, begin = -2, 0
    while count < row:
        begin = reader.line_num
        record = next(reader)
        count += bool(record)
    return f"line {body.before + begin + 1:,}"


def _last_line(body: Body) -> str:
    """Say which line of the file its last record begins in."""
    lines = io.TextIOWrapper(io.BytesIO(body.content), "utf-8", "replace", newline="")
    reader = csv.reader(lines, delimiter=body.separator)
    begin = end = 0
    with contextlib.suppress(csv.Error):  # longer than a field may be: it is the last
        for _ in reader:
            begin, end = end, reader.line_num
        return f"line {body.before + begin + 1:,}"
    return f"line {body.before + end + 1:,}"


def _as_utf8(content: bytes, shown: str, dialect: Dialect) -> bytes:
    """Return the text in UTF-8, without a mark at its beginning."""
    name = _encoding(content, shown, dialect)
    if name in ("utf-8", "utf-8-sig"):
        return content.removeprefix(codecs.BOM_UTF8)
    try:
        return content.decode(name).encode("utf-8")
    except (UnicodeError, ValueError) as error:
        raise FileError(_not_text(content, name, shown)) from error


def _encoding(content: bytes, shown: str, dialect: Dialect) -> str:
    if dialect.encoding is not None:
        return _named_encoding(dialect.encoding)
    for mark, name in MARKS.items():
        if content.startswith(mark):
            return name
    if b"\x00" in content[:4096]:
        raise FileError(
            f"{shown} is neither text nor Parquet nor Feather nor Excel; save the table as CSV, "
            "or name its encoding, as in --encoding utf-16-le"
        )
    return "utf-8"


def _named_encoding(given: str) -> str:
    """Return the name of an encoding of text, if it is one."""
    try:
        b"y,x\n1,2\n".decode(given)
        found = codecs.lookup(given).name
    except UnicodeError:
        found = "" if given in ("undefined", "idna", "punycode") else codecs.lookup(given).name
    except (LookupError, ValueError):
        found = ""
    if not found or found in ("undefined", "punycode", "idna"):
        raise FileError(
            f"--encoding {given[:SHOWN]}: no such encoding of text; common ones are utf-8, "
            "latin-1, cp1252 and utf-16"
        )
    return found


def _not_text(content: bytes, encoding: str, shown: str) -> str:
    where = ""
    try:
        content.decode(encoding)
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        where = f" (line {line:,})"
    except (UnicodeError, ValueError):
        pass
    return (
        f"{shown} is not {encoding.upper()} text{where}; save it as UTF-8 or name its "
        "encoding, as in --encoding latin-1"
    )


def _body(content: bytes, shown: str, dialect: Dialect) -> tuple[Body, list[Note]]:
    """Leave out what stands before the names: lines to skip, ``sep=;``, comments, blanks."""
    start, before, notes = 0, 0, list[Note]()
    separator = dialect.separator
    while before < dialect.skip and start < len(content):
        start, before = _next_line(content, start), before + 1
    while line := content[start : _next_line(content, start)]:
        if before == dialect.skip and (stated := re.match(rb'"?sep=(.)"?\s*$', line)):
            separator = separator or stated[1].decode("utf-8", "replace")
        elif line.strip():
            break
        start, before = start + len(line), before + 1
    if not content[start:].strip():
        raise FileError(
            f"{shown} is empty"
            if not dialect.skip
            else f"{shown} has no line {max(before, dialect.skip) + 1:,}"
        )
    above = 0
    while content[start:].startswith(b"#") and not _is_header(content, start, separator):
        start, before, above = _next_line(content, start), before + 1, above + 1
    body = content[start:].lstrip(b"\r\n")
    before += content[start : len(content) - len(body)].count(b"\n")
    if not body.strip():
        raise FileError(f"{shown} holds only comments (lines that begin with #)")
    if body.startswith(b"#"):
        body = body[1:].lstrip(b" ")
        notes.append(Note("the # before the first column name is left out"))
    if above:
        notes.append(Note(f"{above:,} line{'s' * (above > 1)} of comments (#) left out"))
        body = re.sub(rb"(?m)^#.*$", b"", body)
    titles = 0 if dialect.skip else title_lines(body, separator)
    if titles:
        for _ in range(titles):
            body = body[_next_line(body, 0) :]
        before += titles
        notes.append(Note(above_words(titles, f"line {before + 1:,}")))
    return Body(body, before, separator or _sniffed(body)), notes


def above_words(count: int, names: str) -> str:
    """Say that titles above the names were left out."""
    lines = "one line" if count == 1 else f"{count} lines"
    return f"{lines} above the names left out, which stand in {names}; --skip says otherwise"


def _next_line(content: bytes, start: int) -> int:
    """Return where the line after that at `start` begins."""
    end = content.find(b"\n", start)
    return len(content) if end < 0 else end + 1


def _is_header(content: bytes, start: int, separator: str | None) -> bool:
    """Tell whether a line that begins with # holds the names: the next has as many fields."""
    middle = _next_line(content, start)
    line, after = content[start:middle], content[middle : _next_line(content, middle)]
    mark = (separator or _sniffed(line)).encode()
    fields = re.sub(rb'"[^"]*"', b"", line).count(mark)
    next_fields = re.sub(rb'"[^"]*"', b"", after).count(mark)
    numbers = re.search(rb"(?:^|[\s,;|\"])[+-]?[.,]?\d", after) is not None
    return numbers and mark != b" " and 0 < fields == next_fields and not after.startswith(b"#")


def _sniffed(content: bytes) -> str:
    """Return the separator that occurs most in the first line, outside quotes."""
    first = content[: _next_line(content, 0)].decode("utf-8", "replace")
    line = re.sub(r'"[^"]*"', "", first)
    counts = {mark: line.count(mark) for mark in SEPARATORS}
    best = max(counts, key=lambda mark: counts[mark])
    if counts[best] > 0:
        return best
    return " " if len(line.rstrip("\r\n").split(" ")) > 1 else ","


def _first_records(body: Body, shown: str) -> tuple[list[str], list[str]]:
    lines = io.TextIOWrapper(io.BytesIO(body.content), "utf-8", newline="")
    records = filter(
        None,
        csv.reader(lines, delimiter=body.separator, skipinitialspace=body.separator == " "),
    )
    try:
        return next(records), next(records, [])
    except UnicodeDecodeError as error:
        raise FileError(_not_text(body.content, "utf-8", shown)) from error
    except csv.Error as error:
        raise FileError(f"the first lines of {shown} are no records of a table: {error}") from error


def _check_names(header: Sequence[str], shown: str) -> None:
    counts = Counter(name for name in header if name)
    twice = [name for name, count in counts.items() if count > 1]
    if twice:
        raise FileError(f"{shown} has several columns named {twice[0][:SHOWN]!r}; rename them")


def _check_width(header: Sequence[str], first: Sequence[str], separator: str, shown: str) -> None:
    """Allow one field more than names: an empty last one, or R's row names."""
    extra = len(first) - len(header)
    allowed = extra <= 0 or (extra == 1 and (separator in " \t" or first[-1].strip() == ""))
    if not allowed:
        raise FileError(
            f"{shown} has {len(header)} column names and {len(first)} fields in the first row "
            f"(separator {separator!r}); quote fields that contain the separator, give --sep, or "
            "leave out lines above the names with --skip"
        )


def _parsed(shown: str, body: Body, content: bytes, options: dict[str, Any]) -> Any:
    import pandas as pd

    try:
        return pd.read_csv(io.BytesIO(content), **options)
    except UnicodeDecodeError as error:
        raise FileError(_not_text(content, options["encoding"], shown)) from error
    except (pd.errors.ParserError, ValueError, OverflowError) as error:
        reason = str(error).strip().removeprefix("Error tokenizing data. C error: ")
        if "EOF inside string" in reason:
            reason = (
                f"a quotation mark that opens in {_last_line(body)} is not closed; close it, or "
                "take the marks out"
            )
        raise FileError(f"{shown} cannot be read as a table: {reason}") from error


def _without_row_names(data: Any, header: Sequence[str]) -> tuple[Any, list[Note]]:
    """Leave out the columns without a name, which R writes for row names."""
    unnamed = [data.columns[i] for i, name in enumerate(header) if not name.strip()]
    if not unnamed:
        return data, []
    text = "a column without a name (row names?) is left out"
    return data.drop(columns=unnamed), [Note(text)]
