"""A fit as a file and back.

A ``.ranef`` file is a zip of ``fit.json`` (plain values and the list of
arrays) and one ``.npy`` member an array. Reading believes nothing: every
member is named and sized before it is opened, arrays are read without pickle,
and only registered classes are made, whose shapes are checked against each
other, so a file from a stranger can be wrong but can neither run code nor fill
the memory.
"""

from __future__ import annotations

import io
import json
import math
import os
import zipfile
from collections.abc import Mapping
from os import PathLike
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from ranef import arguments
from ranef._version import __version__
from ranef.display.files import replacing
from ranef.errors import DataError, FileError, ModelError
from ranef.solve.resources import available_memory
from ranef.storage import records  # noqa: F401
from ranef.storage.codec import CLASS, DTYPES, Bundle, Functions, decode, encode
from ranef.storage.older import modern
from ranef.storage.registry import record_named

__all__ = ["Functions", "from_bytes", "load", "save", "to_bytes"]

FORMAT = "ranef fit"
VERSION = 3
CONTENTS = "fit.json"
FREE_BYTES, RATIO, PLAIN_RATIO = 1 << 30, 200, 12
FREE_TEXT, TEXT_RATIO = 1 << 26, 20
BYTES_OF_OBJECT = 100
GIGA = 10**9
HEADER_BYTES = 4096
METHODS = {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}


class Refusal(Exception):
    """What is said of a file that is not read."""


class Limit:
    """How much memory a file may take once it is read.

    Parameters
    ----------
    gigabytes : float or None
        None for what no saved fit of its size takes: 1 GiB, or 12 times the size of the
        file, or 200 times where half of the memory that is free holds that.
    packed : int
        Size of the file.
    """

    def __init__(self, gigabytes: float | None, packed: int) -> None:
        self.text = max(FREE_TEXT, TEXT_RATIO * packed)
        if gigabytes is None:
            free = available_memory()
            room = RATIO * packed if free is None else min(RATIO * packed, free // 2)
            self.total = max(FREE_BYTES, PLAIN_RATIO * packed, room)
        else:
            self.total = int(gigabytes * GIGA)
            self.text = max(self.text, self.total)

    def check(self, total: float, text: float) -> None:
        """Refuse what takes more, of it the text."""
        if total > self.total or text > self.text:
            raise Refusal(
                f"would take {max(total, text) / GIGA:.1f} GB of memory, "
                "far more than a saved fit of its size; it was not read "
                "(ranef.load(..., max_gb=) raises this limit)"
            )


def save(fit: Any, path: str | PathLike[str]) -> None:
    """Write a fit, first aside and then in place."""
    bundle, target = encode(fit), arguments.path(path)
    with replacing(target) as stream:
        _write(bundle, stream)


def to_bytes(fit: Any, *, compress: bool = True) -> bytes:
    """Return the bytes of a fit's file."""
    stream = io.BytesIO()
    _write(encode(fit), stream, zipfile.ZIP_DEFLATED if compress else zipfile.ZIP_STORED)
    return stream.getvalue()


def from_bytes(content: bytes, functions: Functions | None = None) -> Any:
    """Read a fit from the bytes of its file."""
    return _loaded(io.BytesIO(content), "a fit sent as bytes", functions or {}, None)


def load(
    path: str | PathLike[str], functions: Functions | None = None, max_gb: float | None = None
) -> Any:
    """Read what `save` wrote, see `ranef.load`."""
    if max_gb is not None and not arguments.number("max_gb", max_gb) > 0:
        raise ModelError(f"max_gb must be above 0, not {max_gb!r}")
    source = arguments.path(path)
    if os.path.exists(source) and not os.path.isfile(source):
        raise FileError(f"cannot read {source}: it is no file, but a folder, device or pipe")
    try:
        stream = open(source, "rb")  # noqa: SIM115
    except OSError as error:
        raise FileError(f"cannot read {source}: {error.strerror or error}") from error
    with stream:
        return _loaded(stream, str(source), functions or {}, max_gb)


def _loaded(stream: BinaryIO, source: str, functions: Functions, max_gb: float | None) -> Any:
    """Rebuild the object; whatever does not fit together means damage."""
    packed = stream.seek(0, io.SEEK_END)
    try:
        with zipfile.ZipFile(stream) as archive:
            version, bundle = _read(archive, Limit(max_gb, packed), functions)
        return _object(bundle, version < VERSION)
    except Refusal as error:
        raise FileError(f"{source} {error}") from error
    except zipfile.BadZipFile as error:
        raise FileError(
            f"{source} is not a saved fit, or is damaged; fit.save(path) and ranef fit --save PATH "
            "write one, and of a table the formula comes first"
        ) from error
    except Exception as error:  # whatever a file makes Python do, it is the file's fault
        cause = str(error) or type(error).__name__
        raise FileError(
            f"{source} is damaged: {cause}; take another copy of it, or fit and save the fit again"
        ) from error


def _object(bundle: Bundle, old: bool) -> Any:
    """Make the object that a file holds, if its kind is known."""
    name = bundle.values.get("model", "linear") if old else bundle.values.get(CLASS)
    record = record_named(name)
    if record is None or getattr(record.cls, "file_kind", None) != name:
        raise Refusal(f"holds {str(name)[:40]!r}, which this ranef does not know")
    return decode(modern(bundle) if old else bundle, record.cls)


def _write(bundle: Bundle, stream: BinaryIO, method: int = zipfile.ZIP_DEFLATED) -> None:
    head = {
        "format": FORMAT,
        "version": VERSION,
        "ranef": __version__,
        "arrays": {name: [a.dtype.str, list(a.shape)] for name, a in bundle.arrays.items()},
        "values": bundle.values,
    }
    try:
        text = json.dumps(head, allow_nan=True, ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError as error:
        half = error.object[error.start : error.end]
        raise DataError(f"cannot save a name or level with half a character ({half!a})") from None
    with zipfile.ZipFile(stream, "w", method, compresslevel=1) as archive:
        archive.writestr(CONTENTS, text)
        for name, array in bundle.arrays.items():
            member = io.BytesIO()
            np.lib.format.write_array(member, array, version=(1, 0), allow_pickle=False)
            archive.writestr(f"{name}.npy", member.getbuffer())


def _read(archive: zipfile.ZipFile, limit: Limit, functions: Functions) -> tuple[int, Bundle]:
    """Read the version, the values and the arrays of a file."""
    members = archive.infolist()
    sizes = {member.filename: member.file_size for member in members}
    limit.check(sum(sizes.values()), sizes.get(CONTENTS, 0))
    if not {member.compress_type for member in members} <= METHODS:
        raise Refusal("is not a saved fit: it is packed in another way")
    if len(sizes) != len(members) or CONTENTS not in sizes:
        raise Refusal(f"is not a saved fit: it has no single {CONTENTS}")
    text = archive.read(CONTENTS)
    limit.check(sum(sizes.values()) + BYTES_OF_OBJECT * _count_objects(text), len(text))
    head = json.loads(text.decode("utf-8"))
    version = _version(head)
    arrays = {name: _array(archive, sizes, name, *entry) for name, entry in head["arrays"].items()}
    return version, Bundle(head["values"], arrays, functions)


def _count_objects(text: bytes) -> int:
    """Return how many values JSON makes of a text at most, each larger than its few letters."""
    return sum(map(text.count, (b"[", b"{", b",", b":")))


def _version(head: Any) -> int:
    """Return the version of a file's format, if it is known."""
    if not isinstance(head, dict) or head.get("format") != FORMAT:
        raise Refusal("is not a saved fit")
    version = head.get("version")
    if not isinstance(version, int) or version > VERSION:
        raise Refusal(
            f"was written by ranef {head.get('ranef')} in a format ({version}) that this "
            f"ranef {__version__} does not know; update ranef to read it"
        )
    if version < 1 or not isinstance(head.get("values"), dict):
        raise Refusal(f"is damaged: {CONTENTS} lacks its parts")
    return version


def _array(
    archive: zipfile.ZipFile, sizes: Mapping[str, int], name: str, dtype: Any, shape: Any
) -> NDArray[Any]:
    """Read one array, after its stated size was found to match."""
    proper = isinstance(shape, list) and all(type(size) is int and size >= 0 for size in shape)
    if dtype not in DTYPES or not proper or len(shape) > 3:
        raise Refusal(f"is damaged: array {name!r} has no proper type and shape")
    header = sizes.get(f"{name}.npy", -1) - math.prod(shape) * np.dtype(dtype).itemsize
    if not 0 < header <= HEADER_BYTES:
        raise Refusal(f"is damaged: array {name!r} is missing or has the wrong size")
    content = io.BytesIO(archive.read(f"{name}.npy"))
    array = np.lib.format.read_array(content, allow_pickle=False, max_header_size=HEADER_BYTES)
    if array.dtype != dtype or list(array.shape) != shape:
        raise Refusal(f"is damaged: array {name!r} is not what the file says")
    return np.ascontiguousarray(array)
