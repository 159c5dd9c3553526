"""Compressed files: gzip, bzip2, xz, zip and zstd, told apart by their first bytes.

A small file can unpack to more than any machine holds, so nothing is unpacked beyond a
stated number of bytes.
"""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import zipfile
import zlib
from collections.abc import Callable
from typing import BinaryIO

from ranef.cli.foreign import foreign_archive
from ranef.errors import FileError

__all__ = ["WORKBOOK", "Limit", "decompressed"]

WORKBOOK = "[Content_Types].xml"
GIGA, MOST = 10**9, 10**18
CHUNK = 1 << 22
SEPARATORS = (b",", b";", b"\t", b"|")
BYTES_OF_TEXT, BYTES_OF_CELL, BYTES_OF_XML, BYTES_OF_STYLE = 2, 40, 6, 150
PACKED = (
    b"\x1f\x8b", b"BZh", b"\xfd7zXZ\x00", b"PK\x03\x04", b"\x28\xb5\x2f\xfd",
    b"PAR1", b"ARROW1", b"FEA1",
)  # fmt: skip
DAMAGE = (
    OSError, EOFError, ValueError, IndexError, KeyError, NotImplementedError, zlib.error,
    lzma.LZMAError, zipfile.BadZipFile,
)  # fmt: skip


class Limit:
    """How much memory a table may take while it is read.

    Parameters
    ----------
    gigabytes : float or None
        None for half of the memory that is free, or what ``RANEF_MAX_GB`` states.
    """

    def __init__(self, gigabytes: float | None = None) -> None:
        from ranef.solve.room import room

        most, self.why = room() if gigabytes is None else (gigabytes * GIGA, "")
        self.n_bytes = int(min(most, MOST))

    def read(self, stream: BinaryIO, shown: str, *, text: bool = False) -> bytes:
        """Read a stream to its end, unless that lies beyond the limit.

        text : whether it may be delimited text, of which each cell takes more than its letters.
        """
        content, taken = bytearray(), 0.0
        while part := stream.read(min(CHUNK, self.n_bytes + 1 - len(content))):
            if text and not content:
                text = not part.startswith(PACKED)
            content += part
            taken += _weight(part) if text else len(part)
            self.check(taken, shown)
        return bytes(content)

    def check(self, n_bytes: float, shown: str) -> None:
        """Refuse a table beyond the limit."""
        if n_bytes > self.n_bytes:
            why = f" ({self.why})" if self.why else ""
            raise FileError(
                f"{shown} holds more than {self.n_bytes / GIGA:.3g} GB{why} once it is a table, "
                "and was not read; --max-gb raises this limit"
            )


def _weight(text: bytes) -> float:
    """Return how much memory delimited text takes while it is read, at most times about two."""
    cells = (max(map(text.count, SEPARATORS)) or text.count(b" ")) + text.count(b"\n")
    return BYTES_OF_TEXT * len(text) + BYTES_OF_CELL * cells


def decompressed(content: bytes, shown: str, limit: Limit) -> bytes:
    """Return what was compressed; anything else comes back as it is, and so does a workbook.

    Parameters
    ----------
    content : bytes
    shown : str
        The file's name for messages.
    limit : Limit

    Examples
    --------
    >>> decompressed(gzip.compress(b"x,y"), "'a.csv.gz'", Limit(1))
    b'x,y'
    """
    for mark, (name, reader) in READERS.items():
        if content.startswith(mark):
            try:
                return reader(content, shown, limit)
            except FileError:
                raise
            except DAMAGE as error:
                reason = str(error) or type(error).__name__
                raise FileError(f"{shown} is a damaged {name} file: {reason}") from error
    return content


def _zip(content: bytes, shown: str, limit: Limit) -> bytes:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        names = [name for name in archive.namelist() if _is_data(name)]
        what = foreign_archive(names)
        if what is not None:
            raise FileError(f"{shown} is {what}")
        if WORKBOOK in names:
            limit.check(sum(map(_weight_of_part, archive.infolist())), shown)
            return content
        if "mimetype" in names and "content.xml" in names:
            raise FileError(f"{shown} is an OpenDocument file; save the sheet as CSV or .xlsx")
        if len(names) != 1:
            first = ", ".join(repr(name[:60]) for name in names[:5]) or "none"
            raise FileError(f"{shown} must hold one file and holds {len(names)} ({first})")
        try:
            with archive.open(names[0]) as stream:
                return limit.read(stream, shown, text=True)  # type: ignore[arg-type]
        except (RuntimeError, NotImplementedError) as error:
            raise FileError(f"cannot unpack {shown}: {error}") from error


def _weight_of_part(member: zipfile.ZipInfo) -> float:
    """Return what a part of a workbook takes: sheets are read in pieces, styles as objects."""
    name = member.filename.lower()
    if name.startswith(("xl/media/", "xl/drawings/", "xl/charts/", "xl/embeddings/")):
        return 0.0
    cells = name.startswith("xl/worksheets/") or name.endswith("sharedstrings.xml")
    return float(BYTES_OF_XML if cells else BYTES_OF_STYLE) * member.file_size


def _is_data(name: str) -> bool:
    last = name.rpartition("/")[2]
    return bool(last) and not last.startswith(".") and not name.startswith("__MACOSX/")


def _zstd(content: bytes, shown: str, limit: Limit) -> bytes:
    import pyarrow as pa

    with pa.input_stream(pa.BufferReader(content), compression="zstd") as stream:
        return limit.read(stream, shown, text=True)


def _opened(kind: Callable[[BinaryIO], BinaryIO]) -> Callable[[bytes, str, Limit], bytes]:
    def read(content: bytes, shown: str, limit: Limit) -> bytes:
        with kind(io.BytesIO(content)) as stream:
            return limit.read(stream, shown, text=True)

    return read


READERS: dict[bytes, tuple[str, Callable[[bytes, str, Limit], bytes]]] = {
    b"\x1f\x8b": ("gzip", _opened(lambda stream: gzip.GzipFile(fileobj=stream))),  # type: ignore[arg-type,return-value]
    b"BZh": ("bzip2", _opened(bz2.BZ2File)),  # type: ignore[arg-type]
    b"\xfd7zXZ\x00": ("xz", _opened(lzma.LZMAFile)),  # type: ignore[arg-type]
    b"PK\x03\x04": ("zip", _zip),
    b"\x28\xb5\x2f\xfd": ("zstd", _zstd),
}
