"""Compressed files: gzip, bzip2, xz, zip and zstd, told apart by their first bytes."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import zipfile
import zlib
from collections.abc import Callable

from ranef.errors import FileError

__all__ = ["decompressed"]


def decompressed(content: bytes, shown: str) -> bytes:
    """Return what was compressed; anything else comes back as it is.

    Parameters
    ----------
    content : bytes
    shown : str
        The file's name for messages.

    Examples
    --------
    >>> decompressed(gzip.compress(b"x,y"), "'a.csv.gz'")
    b'x,y'
    """
    for mark, (name, reader) in READERS.items():
        if content.startswith(mark):
            try:
                return reader(content, shown)
            except (OSError, EOFError, zlib.error, lzma.LZMAError, zipfile.BadZipFile) as error:
                if isinstance(error, FileError):
                    raise
                raise FileError(f"{shown} is a damaged {name} file: {error}") from error
    return content


def _zip(content: bytes, shown: str) -> bytes:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        names = [name for name in archive.namelist() if _is_data(name)]
        if "[Content_Types].xml" in names:
            raise FileError(f"{shown} is an Excel workbook; save the sheet as CSV first")
        if len(names) != 1:
            first = ", ".join(repr(name) for name in names[:5]) or "none"
            raise FileError(f"{shown} must hold one file and holds {len(names)} ({first})")
        try:
            return archive.read(names[0])
        except (RuntimeError, NotImplementedError) as error:
            raise FileError(f"cannot unpack {shown}: {error}") from error


def _is_data(name: str) -> bool:
    last = name.rpartition("/")[2]
    return bool(last) and not last.startswith(".") and not name.startswith("__MACOSX/")


def _zstd(content: bytes, _: str) -> bytes:
    import pyarrow as pa

    with pa.input_stream(pa.BufferReader(content), compression="zstd") as stream:
        return bytes(stream.read())


READERS: dict[bytes, tuple[str, Callable[[bytes, str], bytes]]] = {
    b"\x1f\x8b": ("gzip", lambda content, _: gzip.decompress(content)),
    b"BZh": ("bzip2", lambda content, _: bz2.decompress(content)),
    b"\xfd7zXZ\x00": ("xz", lambda content, _: lzma.decompress(content)),
    b"PK\x03\x04": ("zip", _zip),
    b"\x28\xb5\x2f\xfd": ("zstd", _zstd),
}
