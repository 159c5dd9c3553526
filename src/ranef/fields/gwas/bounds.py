"""What files of genotypes would take, told before other packages unpack them.

A line of a VCF, a block of a BGEN, a chunk of a Zarr store and a packed .pvar are unpacked whole
by the packages that read them, whatever they claim. Here they are looked at first, in pieces.
"""

from __future__ import annotations

import bz2
import gzip
import lzma
import os
import struct
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from ranef.errors import DataError, FileError
from ranef.solve.room import check_room, room

__all__ = [
    "BYTES_OF_RECORD",
    "bounded_store",
    "check_array",
    "check_bgen_block",
    "check_pvar",
    "check_vcf",
]

CHUNK, PIECE = 1 << 20, 1 << 10
BYTES_UNPACKED = 1100  # of a byte that deflate packed, at most
TIMES_HEADING, TIMES_RECORD, TIMES_PVAR = 50, 8, 60
GZIP, ZSTD = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"
BYTES_OF_TEXT, BYTES_OF_RECORD = 64, 400

PACKINGS: tuple[tuple[bytes, Callable[[], Any]], ...] = (
    (GZIP, lambda: zlib.decompressobj(31)),
    (b"\x78", zlib.decompressobj),
    (b"BZh", bz2.BZ2Decompressor),
    (b"\xfd7zXZ\x00", lzma.LZMADecompressor),
)
"""First bytes, and what unpacks in pieces."""


# --- VCF and BCF


def check_vcf(path: Path) -> None:
    """Refuse a VCF or BCF whose heading or whose longest record has no room."""
    shown = repr(str(path))
    times = BYTES_UNPACKED if _starts(path) == GZIP else 1
    small = float(times) * TIMES_HEADING * path.stat().st_size <= room()[0]
    try:
        with _unpacked(path) as stream:
            start = stream.read(9)
            if start[:4] == b"BCF\x02":
                _check_bcf(stream, start, shown)
            elif not small:
                _check_lines(start, stream, shown)
    except FileError:
        raise
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{shown} is damaged or truncated: {error}") from error


def _starts(path: Path) -> bytes:
    with path.open("rb") as stream:
        return stream.read(2)


def _unpacked(path: Path) -> Any:
    return gzip.open(path, "rb") if _starts(path) == GZIP else path.open("rb")


def _check_lines(start: bytes, stream: BinaryIO, shown: str) -> None:
    heading, line, records = 0, 0, 0
    part, within = start, start[:2] in (b"##", b"#C")
    while part:
        if within:
            end = _end_of_heading(part, line)
            heading += len(part) if end is None else end
            check_room(float(TIMES_HEADING) * heading, f"the heading of {shown}")
            if end is not None:
                within, part, line = False, part[end:], 0
        if not within:
            longest, line = _longest(part, line)
            records += part.count(b"\n")
            check_room(float(BYTES_OF_RECORD) * records, shown)
            check_room(float(TIMES_RECORD) * longest, f"a record of {shown}")
        else:
            last = part.rfind(b"\n")
            line = line + len(part) if last < 0 else len(part) - last - 1
        part = stream.read(CHUNK)


def _end_of_heading(part: bytes, open_: int) -> int | None:
    """Return where the first line without a leading # begins; None if not in this part."""
    at = 0
    if open_ == 0 and part[:1] not in (b"#", b"\n", b"\r"):
        return 0
    while (at := part.find(b"\n", at)) >= 0:
        at += 1
        if at < len(part) and part[at : at + 1] != b"#":
            return at
    return None


def _longest(part: bytes, open_: int) -> tuple[int, int]:
    """Return the length of the longest line so far, and of the one that goes on."""
    first, last = part.find(b"\n"), part.rfind(b"\n")
    if first < 0:
        return open_ + len(part), open_ + len(part)
    ends = np.flatnonzero(np.frombuffer(part, np.uint8) == 10)
    between = int(np.diff(ends).max()) if len(ends) > 1 else 0
    return max(open_ + first, between), len(part) - last - 1


def _check_bcf(stream: BinaryIO, start: bytes, shown: str) -> None:
    size = struct.unpack("<I", start[5:])[0]
    check_room(float(TIMES_HEADING) * size, f"the heading of {shown}")
    _pass(stream, size)
    while len(sizes := stream.read(8)) == 8:
        size = sum(struct.unpack("<II", sizes))
        check_room(float(TIMES_RECORD) * size, f"a record of {shown}")
        _pass(stream, size)


def _pass(stream: BinaryIO, size: int) -> None:
    while size > 0 and (part := stream.read(min(size, CHUNK))):
        size -= len(part)


# --- BGEN


def check_bgen_block(stream: BinaryIO, offset: int, layout: int, shown: str) -> None:
    """Refuse a block of genotypes (layout 2) that states a size without room.

    offset : where the variant begins.
    """
    if layout != 2:
        return
    for _ in range(3):
        offset += 2 + _number(stream, offset, "<H")
    alleles = _number(stream, offset + 4, "<H")
    offset += 6
    for _ in range(alleles):
        offset += 4 + _number(stream, offset, "<I")
    check_room(2.0 * _number(stream, offset + 4, "<I"), shown)


def _number(stream: BinaryIO, offset: int, kind: str) -> int:
    stream.seek(offset)
    content = stream.read(struct.calcsize(kind))
    return int(struct.unpack(kind, content)[0]) if len(content) == struct.calcsize(kind) else 0


# --- .pvar.zst


def check_pvar(path: Path) -> None:
    """Refuse a packed .pvar that has no room once it is unpacked."""
    import pyarrow as pa

    held = 0
    try:
        with pa.input_stream(str(path), compression="zstd") as stream:
            while part := stream.read(CHUNK):
                held += len(part)
                check_room(float(TIMES_PVAR) * held, repr(str(path)))
    except FileError:
        raise
    except OSError as error:
        raise DataError(f"{str(path)!r} cannot be read: {error}") from error


# --- Zarr


def check_array(array: Any, shown: str, *, whole: bool = True) -> None:
    """Refuse an array of which a chunk, or all that it claims to hold, has no room."""
    each = float(max(np.dtype(_kind(array)).itemsize, 1))
    chunk = float(np.prod(array.chunks, dtype=float))
    held = float(np.prod(array.shape, dtype=float)) * (each + BYTES_OF_TEXT) if whole else 0.0
    check_room(max(held, 2.0 * chunk * each), shown)


def _kind(array: Any) -> Any:
    try:
        return np.dtype(array.dtype)
    except TypeError:
        return np.dtype(object)


def bounded_store(zarr: Any, path: Path) -> Any:
    """Return the store of a path, which hands on no chunk that unpacks to what has no room."""
    if path.suffix == ".zip":
        _check_members(path)
        inner = zarr.storage.ZipStore(path, mode="r")
    else:
        inner = zarr.storage.LocalStore(path, read_only=True)

    class Bounded(zarr.storage.WrapperStore):  # type: ignore[misc]
        async def get(self, key: str, prototype: Any, byte_range: Any = None) -> Any:
            if path.suffix != ".zip":
                _check_stored(path / key, key)
            found = await super().get(key, prototype, byte_range)
            if found is not None and byte_range is None:
                _check_chunk(found, f"{key} of {str(path)!r}")
            return found

    return Bounded(inner)


def _check_members(path: Path) -> None:
    import zipfile

    try:
        with zipfile.ZipFile(path) as archive:
            for member in archive.infolist():
                check_room(float(member.file_size), f"{member.filename[:60]} of {str(path)!r}")
    except (OSError, zipfile.BadZipFile, ValueError) as error:
        if isinstance(error, FileError):
            raise
        raise DataError(f"{str(path)!r} is no Zarr store: {error}") from error


def _check_stored(file: Path, key: str) -> None:
    try:
        size = os.stat(file).st_size
    except OSError:
        return
    if not file.is_file() and not file.is_dir():
        raise FileError(f"{str(file)!r} is no file, but a device or pipe")
    check_room(float(size), repr(key))


def _check_chunk(buffer: Any, shown: str) -> None:
    """Unpack a chunk in pieces, where what its bytes could hold has no room."""
    if float(BYTES_UNPACKED) * len(buffer) <= room()[0]:
        return
    content = bytes(buffer.to_bytes())
    opened = next((make for mark, make in PACKINGS if content.startswith(mark)), None)
    if opened is None:
        return
    held = 0
    try:
        for part in _pieces(content, opened):
            held += len(part)
            check_room(float(held), shown)
    except FileError:
        raise
    except (OSError, EOFError, ValueError, zlib.error, lzma.LZMAError):
        return  # what is no such packing is the reader's to refuse


def _pieces(content: bytes, make: Callable[[], Any]) -> Iterator[bytes]:
    """What is packed in one or several members, a piece at a time."""
    unpacker = make()
    for at in range(0, len(content), PIECE):
        part = content[at : at + PIECE]
        while part:
            if unpacker.eof:
                unpacker = make()
            yield unpacker.decompress(part)
            part = unpacker.unused_data if unpacker.eof else b""
