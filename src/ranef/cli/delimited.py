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
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from ranef.cli.above import title_lines
from ranef.cli.below import questions
from ranef.cli.convention import Convention, Look, Note, converted, decide
from ranef.cli.lines import (
    ends_as_here,
    fields_of_any_length,
    first_record,
    is_blank,
    next_line,
    rewritten,
    separator_of,
    unusual_mark,
    without_comments,
)
from ranef.cli.typed import read_typed
from ranef.errors import FileError

__all__ = ["MISSING", "Dialect", "Note", "Place", "Read", "read_delimited", "settle"]

Place = Callable[[int], str]
Read = tuple[Any, list[Note], Place | None]

MISSING = ("", "NA", "N/A", "n/a", "#N/A", "#NA", "<NA>", "NaN", "nan", ".")

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
    spaced : bool
        Whether a blank follows each separator.
    """

    content: bytes
    before: int
    separator: str
    spaced: bool = False

    def records(self) -> Iterator[tuple[int, list[str]]]:
        """Yield the line of the file that each record begins in, and its fields."""
        lines = io.TextIOWrapper(io.BytesIO(self.content), "utf-8", "replace", newline="")
        spaced = self.spaced or self.separator == " "
        reader = csv.reader(lines, delimiter=self.separator, skipinitialspace=spaced)
        begin = 0
        with fields_of_any_length():
            for record in reader:
                if not is_blank(record):
                    yield self.before + begin + 1, record
                begin = reader.line_num


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
    body, notes = _body(ends_as_here(_as_utf8(content, shown, dialect)), shown, dialect)
    body, header, first = _first_records(body, shown)
    _check_names(header, shown)
    _check_width(header, first, body.separator, shown)
    options: dict[str, Any] = {
        "sep": r"\s+" if body.separator == " " else body.separator,
        "encoding": "utf-8",
        "dtype": str,
        "keep_default_na": False,
        "na_values": [*MISSING, *dialect.missing],
        "skipinitialspace": body.spaced,
    }
    if len(first) > len(header) and first[-1].strip() == "":
        options["index_col"] = False
        _check_ends(body, len(header), shown)
    fields = _Fields(body, header, options, dialect, partial(_parsed, shown, body))
    found = fields.with_numbers() if len(first) <= len(header) else None
    data, said = fields.as_text() if found is None else found
    quoted = b'"' in body.content
    open_quote = _open_quote(data, body, len(header), fields.place) if quoted else []
    unsplit = _unsplit(header, first)
    width = len(header) + (len(first) > len(header) and "index_col" not in options)
    ends = data.columns[-1:]
    short = _short_rows(body, width) if data[ends].isna().any(axis=None) else []
    return data, notes + open_quote + unsplit + short + said, fields.place


def _check_ends(body: Body, width: int, shown: str) -> None:
    """Refuse values behind the last name, where other rows have a separator and nothing."""
    for line, record in body.records():
        beyond = [field for field in record[width:] if field.strip()]
        if beyond:
            raise FileError(
                f"{shown} has {width} column names, and behind them {beyond[0][:SHOWN]!r} in line "
                f"{line:,}; name that column, or take the field out"
            )


def _unsplit(header: Sequence[str], first: Sequence[str]) -> list[Note]:
    mark = unusual_mark(header, first)
    if mark is None:
        return []
    return [Note(f"the table has one column, {header[0][:SHOWN]!r}; --sep={mark} splits it")]


def _short_rows(body: Body, width: int) -> list[Note]:
    """Say which rows end before the last column: what lacks counts as missing."""
    count, first = 0, (0, 0)
    with contextlib.suppress(csv.Error):
        for line, record in body.records():
            if len(record) < width:
                count, first = count + 1, first if count else (line, len(record))
    if not count:
        return []
    rows = "one row has" if count == 1 else f"{count:,} rows have"
    line, fields = first
    return [
        Note(
            f"{rows} fewer fields than there are columns (line {line:,} has {fields} of {width}); "
            "what lacks at the end counts as missing"
        )
    ]


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
    for count, (line, _) in enumerate(body.records(), -1):
        if count == row:
            return f"line {line:,}"
    return f"row {row + 1:,}"


def _last_line(body: Body) -> str:
    """Say which line of the file its last record begins in."""
    last = body.before + 1
    with contextlib.suppress(csv.Error):
        for line, _ in body.records():
            last = line
    return f"line {last:,}"


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
        start, before = next_line(content, start), before + 1
    while line := content[start : next_line(content, start)]:
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
        start, before, above = next_line(content, start), before + 1, above + 1
    body = content[start:].lstrip(b"\r\n")
    before += content[start : len(content) - len(body)].count(b"\n")
    if not body.strip():
        raise FileError(f"{shown} holds only comments (lines that begin with #)")
    if body.startswith(b"#"):
        body = body[1:].lstrip(b" ")
        notes.append(Note("the # before the first column name is left out"))
    if above:
        body, among, first = without_comments(body)
        notes.append(Note(_comments(above, among, before + 1 + (first or 0))))
    titles = 0 if dialect.skip else title_lines(body, separator)
    if titles:
        for _ in range(titles):
            body = body[next_line(body, 0) :]
        before += titles
        notes.append(Note(above_words(titles, f"line {before + 1:,}")))
    separator = separator or separator_of(body)
    asked, lines = questions(body, separator)
    if asked:
        notes.append(
            Note("two records below the names left out: the questions and ids of Qualtrics")
        )
        first = next_line(body, len(first_record(body)))
        body, before = body[:first] + body[first + asked :], before + lines
    return Body(body, before, separator), notes


def _comments(above: int, among: int, first: int) -> str:
    """Say how many lines of comments were left out, above the names and among the rows."""
    said = f"{above:,} line{'s' * (above > 1)} of comments (#) left out"
    if not among:
        return said
    begin = "begins" if among == 1 else "begin"
    return f"{said}, and {among:,} below the names that {begin} with # (line {first:,})"


def above_words(count: int, names: str) -> str:
    """Say that titles above the names were left out."""
    lines = "one line" if count == 1 else f"{count} lines"
    return f"{lines} above the names left out, which stand in {names}; --skip says otherwise"


def _is_header(content: bytes, start: int, separator: str | None) -> bool:
    """Tell whether a line that begins with # holds the names: the next has as many fields."""
    middle = next_line(content, start)
    line, after = content[start:middle], content[middle : next_line(content, middle)]
    mark = (separator or separator_of(line)).encode()
    fields = re.sub(rb'"[^"]*"', b"", line).count(mark)
    next_fields = re.sub(rb'"[^"]*"', b"", after).count(mark)
    numbers = re.search(rb"(?:^|[\s,;|\"])[+-]?[.,]?\d", after) is not None
    return numbers and mark != b" " and 0 < fields == next_fields and not after.startswith(b"#")


def _first_records(body: Body, shown: str) -> tuple[Body, list[str], list[str]]:
    """Return the names and the first row, and the lines with no blanks around the names."""
    header, first = _two_records(body, shown)
    if _is_spaced(body, header, first):
        body = replace(body, spaced=True)
        header, first = _two_records(body, shown)
    names = [name.strip().strip("\ufeff").strip() for name in header]
    if names == header:
        return body, header, first
    line = first_record(body.content)
    content = rewritten(names, body.separator) + body.content[len(line) :]
    cleaned = replace(body, content=content)
    if _two_records(cleaned, shown) == (names, first):
        return cleaned, names, first
    return body, header, first


def _two_records(body: Body, shown: str) -> tuple[list[str], list[str]]:
    try:
        names_end = len(first_record(body.content))
        body.content[: next_line(body.content, next_line(body.content, names_end))].decode("utf-8")
        records = (record for _, record in body.records())
        header, first = next(records, []), next(records, [])
    except UnicodeDecodeError as error:
        raise FileError(_not_text(body.content, "utf-8", shown)) from error
    except csv.Error as error:
        raise FileError(f"the first lines of {shown} are no records of a table: {error}") from error
    if not header:
        raise FileError(f"{shown} is empty")
    return header, first


def _is_spaced(body: Body, header: Sequence[str], first: Sequence[str]) -> bool:
    """Tell whether a blank follows each separator, in the names and in the first row."""
    fields = [*header[1:], *(field for field in first[1:] if field)]
    apart = body.separator not in " \t" and len(header) > 1 and len(first) > 1
    return apart and all(field.startswith(" ") for field in fields)


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
        reason = _too_long(reason, body)
        raise FileError(f"{shown} cannot be read as a table: {reason}") from error


def _too_long(reason: str, body: Body) -> str:
    """Name the line of the file that has more fields than there are columns."""
    said = re.match(r"Expected (\d+) fields in line \d+, saw (\d+)", reason)
    if said is None:
        return reason
    expected, saw = map(int, said.groups())
    where = next((line for line, record in body.records() if len(record) == saw), None)
    if where is None:
        return reason
    return (
        f"line {where:,} has {saw} fields, and the lines above it {expected}; quote fields that "
        f"contain the separator ({body.separator!r}), or give --sep"
    )


def _without_row_names(data: Any, header: Sequence[str]) -> tuple[Any, list[Note]]:
    """Leave out the columns without a name, which R writes for row names."""
    unnamed = [data.columns[i] for i, name in enumerate(header) if not name.strip()]
    if not unnamed:
        return data, []
    text = "a column without a name (row names?) is left out"
    return data.drop(columns=unnamed), [Note(text)]
