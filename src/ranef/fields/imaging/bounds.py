"""What files of images would take, told before nibabel unpacks them.

A GIfTI file is read whole, and so are what stands between the header and the values of a NIfTI
or CIFTI file (its extensions) and the axes that CIFTI's XML claims.
"""

from __future__ import annotations

import base64
import bz2
import gzip
import re
import struct
import zlib
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from ranef.errors import FileError
from ranef.solve.room import check_room

__all__ = ["check_image"]

CHUNK = 1 << 20
TIMES_XML, COPIES, BYTES_OF_INDEX = 10, 2, 32
CIFTI = 32
HEADERS = {348: (108, "f", 348), 540: (168, "q", 540)}
"""Of the first number of a NIfTI file: where its values' place stands, of which type; the size."""
COUNTS = re.compile(rb'(?:IndexCount|NumberOfSeriesPoints)\s*=\s*"\s*(\d{1,30})')


def check_image(place: Path, name: str) -> None:
    """Refuse a GIfTI, NIfTI or CIFTI file that has no room once it is read."""
    ending = place.name.lower()
    try:
        if ending.removesuffix(".gz").removesuffix(".bz2").endswith(".gii"):
            _check_gifti(place, name)
        else:
            with _unpacked(place) as stream:
                _check_nifti(stream, name)
    except FileError:
        raise
    except (OSError, EOFError, ValueError, zlib.error, struct.error):
        return  # what is damaged is nibabel's to refuse


def _unpacked(place: Path) -> Any:
    ending = place.name.lower()
    if ending.endswith((".gz", ".mgz")):
        return gzip.open(place, "rb")
    return bz2.open(place, "rb") if ending.endswith(".bz2") else place.open("rb")


# --- NIfTI and CIFTI


def _check_nifti(stream: BinaryIO, name: str) -> None:
    """Look at the extensions: each states its size, and is read whole."""
    first = stream.read(4)
    order = next((o for o in "<>" if struct.unpack(f"{o}i", first)[0] in HEADERS), None)
    if order is None:
        return
    at, kind, size = HEADERS[struct.unpack(f"{order}i", first)[0]]
    head = first + stream.read(size)
    start = int(struct.unpack_from(f"{order}{kind}", head, at)[0])
    if head[size : size + 1] in (b"\0", b"") or start <= size + 4:
        return
    check_room(float(COPIES) * start, f"what stands before the values of {name}")
    place = size + 4
    while place + 16 <= start:
        length, code = struct.unpack(f"{order}ii", stream.read(8))
        if length < 16 or place + length > start:
            raise FileError(
                f"{name} is damaged: an extension of its header takes {length:,} bytes, and its "
                f"values begin after {start - place:,}"
            )
        content = stream.read(length - 8)
        if code == CIFTI:
            claimed = sum(float(count) for count in COUNTS.findall(content))
            check_room(
                BYTES_OF_INDEX * claimed + float(TIMES_XML) * len(content), f"the axes of {name}"
            )
        place += length


# --- GIfTI


def _check_gifti(place: Path, name: str) -> None:
    """Go through the XML in pieces: what each array claims, and what its text unpacks to."""
    from xml.parsers import expat

    arrays = _Arrays(name)
    parser = expat.ParserCreate()
    parser.StartElementHandler = arrays.start
    parser.EndElementHandler = arrays.end
    parser.CharacterDataHandler = arrays.text
    read = 0
    try:
        with _unpacked(place) as stream:
            while part := stream.read(CHUNK):
                read += len(part)
                check_room(float(COPIES) * read, name)
                parser.Parse(part, False)
    except expat.ExpatError:
        return  # nibabel says what is wrong


class _Arrays:
    """What the arrays of a GIfTI file take, counted while its XML is read."""

    def __init__(self, name: str) -> None:
        self.name, self.held, self.rest = name, 0.0, b""
        self.unpacker: Any = None
        self.inside = False

    def start(self, tag: str, about: dict[str, str]) -> None:
        if tag == "DataArray":
            self._claimed(about)
            packed = about.get("Encoding", "").startswith("GZip")
            self.unpacker = zlib.decompressobj() if packed else None
        elif tag == "Data":
            self.inside, self.rest = True, b""

    def end(self, tag: str) -> None:
        if tag == "Data":
            self.inside = False

    def _claimed(self, about: dict[str, str]) -> None:
        if about.get("Encoding", "").startswith("ExternalFile"):
            raise FileError(
                f"{self.name} keeps its values in another file "
                f"({about.get('ExternalFileName', '')[:80]!r}), which is not read: save it with "
                "its values inside (GZipBase64Binary)"
            )
        sizes = [int(about.get(f"Dim{k}", 1)) for k in range(int(about.get("Dimensionality", 1)))]
        check_room(float(np.prod(sizes, dtype=float)) * COPIES, self.name)

    def text(self, text: str) -> None:
        if not self.inside or self.unpacker is None or self.unpacker.eof:
            return
        whole = self.rest + re.sub(rb"\s+", b"", text.encode("ascii", "ignore"))
        cut = len(whole) // 4 * 4
        self.rest, packed = whole[cut:], base64.b64decode(whole[:cut])
        while packed and not self.unpacker.eof:
            self.held += len(self.unpacker.decompress(packed, CHUNK))
            packed = self.unpacker.unconsumed_tail
            check_room(COPIES * self.held, self.name)
