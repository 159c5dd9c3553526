"""What the reader of a file returns, the lines of text files, and what is a count."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from ranef.errors import DataError, FileError, shortened
from ranef.solve.room import check_regular, file_bytes, gunzipped

__all__ = ["Counted", "Line", "lines_of", "number"]

BYTES_OF_TEXT = 20
THOUSANDS, DECIMAL = re.compile(r"\d{1,3}(,\d{3})+"), re.compile(r"\d+,\d*")
ZIP = b"PK\x03\x04"


@dataclass(frozen=True)
class Line:
    """Reads of a taxon in a library."""

    sample: str
    taxon: str
    name: str
    rank: str
    reads: float
    group: str = ""


@dataclass(frozen=True)
class Counted:
    """What a file holds: lines, and totals of libraries where it tells them."""

    lines: list[Line]
    totals: dict[str, float]
    notes: tuple[str, ...] = ()


def lines_of(path: Path) -> list[str]:
    """Read the lines of a text file, compressed or not."""
    try:
        check_regular(path, str(path))
        raw = gunzipped(file_bytes(path, BYTES_OF_TEXT, str(path)), BYTES_OF_TEXT, str(path))
    except OSError as error:
        if isinstance(error, FileError):
            raise
        raise FileError(
            f"cannot read {path}: {getattr(error, 'strerror', None) or error}"
        ) from error
    if raw[:4] == ZIP:
        workbook = b"xl/" in raw or b"[Content_Types].xml" in raw
        what = "an Excel workbook: save it as CSV" if workbook else "a zip archive: unpack it"
        raise FileError(f"{path.name} is {what}")
    for encoding in (
        "utf-8-sig",
        "utf-16" if raw[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig",
    ):
        try:
            return raw.decode(encoding).splitlines()
        except UnicodeDecodeError:
            continue
    if b"\0" in raw[:4096]:
        raise FileError(f"{path} is not text; say which format it has: format=")
    return raw.decode("latin-1").splitlines()


def number(text: str, path: Path, row: int) -> float:
    """Read a count: ``1,234`` has thousands, ``12,5`` is none."""
    plain = text.strip()
    if THOUSANDS.fullmatch(plain):
        plain = plain.replace(",", "")
    try:
        value = float(plain) if "_" not in plain else -1.0
    except ValueError:
        comma = "; a decimal comma has no place in counts" if DECIMAL.fullmatch(plain) else ""
        raise DataError(
            f"{path.name}, line {row}: {shortened(text)} is not a count of reads{comma}"
        ) from None
    if not value >= 0 or value == float("inf"):
        raise DataError(f"{path.name}, line {row}: {text} is not a count of reads")
    return value
