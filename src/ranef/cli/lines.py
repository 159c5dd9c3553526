"""Lines of delimited text: where they end, what separates their fields, which are comments."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

__all__ = [
    "ends_as_here",
    "fields_of_any_length",
    "first_record",
    "is_blank",
    "next_line",
    "rewritten",
    "separator_of",
    "unusual_mark",
    "without_comments",
]

SEPARATORS = ",;\t|"
UNUSUAL = ":~^!/"
LOOKED_AT = 12
LONGEST = 2**31 - 1
EXCEL_ERROR = re.compile(
    rb"#(DIV/0!|N/A|NA|NAME\?|NULL!|NUM!|REF!|VALUE!|SPILL!|CALC!|WERT!|BEZUG!)"
)
RECORD = re.compile(rb'(?:[^"\r\n]+|"[^"]*")*')


def ends_as_here(content: bytes) -> bytes:
    r"""Return text whose lines end in ``\n``, where they all end as on old Macs; no end of DOS.

    Examples
    --------
    >>> ends_as_here(b"y\r1\r2\r"), ends_as_here(b"y\r\n1\r\n\x1a")
    (b'y\n1\n2\n', b'y\r\n1\r\n')
    """
    content = content.removesuffix(b"\x1a")
    return content if b"\n" in content else content.replace(b"\r", b"\n")


def next_line(content: bytes, start: int) -> int:
    """Return where the line after that at `start` begins."""
    end = content.find(b"\n", start)
    return len(content) if end < 0 else end + 1


def first_record(content: bytes) -> bytes:
    r"""Return the first record, which may run over lines within quotation marks.

    Examples
    --------
    >>> first_record(b'"mass\n(kg)";x\n1;2\n')
    b'"mass\n(kg)";x'
    """
    found = RECORD.match(content)
    return b"" if found is None else found[0]


def separator_of(content: bytes) -> str:
    r"""Return what separates the fields: what the names hold most, and the rows as often.

    Examples
    --------
    >>> separator_of(b"y,x\n1,2\n"), separator_of(b"weight, kg;g\n1,5;a\n2,5;b\n")
    (',', ';')
    """
    lines = _unquoted(content)
    counts = {mark: lines[0].count(mark) for mark in SEPARATORS}
    best = max(counts, key=lambda mark: counts[mark])
    if counts[best] == 0:
        return " " if len(lines[0].split(" ")) > 1 else ","
    even = [mark for mark in ";\t" if mark != best and counts[mark] and _agree(lines, mark)]
    # a comma may stand in a name (weight, kg) and in each number below it
    return even[0] if best == "," and even and not _exceeds(lines, best, even[0]) else best


def _agree(lines: Sequence[str], mark: str) -> bool:
    return len(lines) > 1 and len({line.count(mark) for line in lines}) == 1


def _exceeds(lines: Sequence[str], mark: str, other: str) -> bool:
    """Tell whether every line has more of a mark than of another, as often in each."""
    return _agree(lines, mark) and lines[0].count(mark) > lines[0].count(other)


def _unquoted(content: bytes) -> list[str]:
    """Return the first record and lines after it, without what stands in quotation marks."""
    first = first_record(content)
    rest = content[len(first) : len(first) + 65_536].lstrip(b"\r\n").splitlines()[:LOOKED_AT]
    texts = [line.decode("utf-8", "replace") for line in (first, *rest) if line.strip()]
    return [re.sub(r'"[^"]*"', "", text) for text in texts] or [""]


def unusual_mark(header: Sequence[str], first: Sequence[str]) -> str | None:
    """Say which unusual mark may separate the fields of a table with one column.

    Examples
    --------
    >>> unusual_mark(["y:x"], ["1:2"])
    ':'
    """
    if len(header) != 1 or len(first) != 1:
        return None
    count = {mark: header[0].count(mark) for mark in UNUSUAL}
    same = [mark for mark in UNUSUAL if count[mark] and first[0].count(mark) == count[mark]]
    return same[0] if same else None


def without_comments(content: bytes) -> tuple[bytes, int, int | None]:
    """Blank out lines that begin with #, but for values such as ``#DIV/0!``.

    Returns
    -------
    content : bytes
    count : int
        Lines left out.
    first : int or None
        The first of them, counted from 0.
    """
    kept, last, count, first = list[bytes](), 0, 0, None
    line, quotes, at = 0, 0, 0
    for found in re.finditer(rb"(?m)^#[^\r\n]*", content):
        start = found.start()
        quotes += content.count(b'"', at, start)
        line += content.count(b"\n", at, start)
        at = start
        if quotes % 2 or EXCEL_ERROR.match(content, start):
            continue
        kept.append(content[last:start])
        last, count, first = found.end(), count + 1, line if first is None else first
        at = last
    return b"".join([*kept, content[last:]]) if count else content, count, first


def is_blank(record: Sequence[str]) -> bool:
    """Tell whether a record is an empty line, or one of blanks."""
    return not record or (len(record) == 1 and not record[0].strip())


@contextmanager
def fields_of_any_length() -> Iterator[None]:
    """Let `csv` read fields beyond 128 KiB for a while."""
    before = csv.field_size_limit(LONGEST)
    try:
        yield
    finally:
        csv.field_size_limit(before)


def rewritten(record: Sequence[str], separator: str) -> bytes:
    """Return a record as a line of text, without its end."""
    out = io.StringIO()
    csv.writer(out, delimiter=separator, lineterminator="").writerow(record)
    return out.getvalue().encode("utf-8")
