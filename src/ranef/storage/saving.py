"""A fit as a file and back.

A ``.ranef`` file is a zip of ``fit.json`` (plain values and the list of
arrays) and one ``.npy`` member an array. Reading believes nothing: every
member is named and sized before it is opened, arrays are read without pickle,
and shapes are checked against each other, so a file from a stranger can be
wrong but can neither run code nor fill the memory.
"""

from __future__ import annotations

import io
import json
import os
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ranef import arguments
from ranef._version import __version__
from ranef.errors import FileError, RanefError
from ranef.storage.encoding import Bundle

__all__ = ["FileKind", "Functions", "Saved", "from_bytes", "load", "register", "save", "to_bytes"]

FORMAT = "ranef fit"
VERSION = 2
CONTENTS = "fit.json"
DTYPES = ("<f8", "<i4", "|b1")
FREE_BYTES = 1 << 30
RATIO = 200
HEADER_BYTES = 4096

Functions = Mapping[str, Callable[..., Any]]


class Saved(Protocol):
    """What can be written to a file: an object of a registered kind."""

    @property
    def file_kind(self) -> str: ...


@dataclass(frozen=True)
class FileKind:
    """How the objects of one kind become values and arrays, and come back.

    Attributes
    ----------
    encode : callable
        The object's values and arrays.
    decode : callable
        The object again, from these and the functions that the call hands over.
    """

    encode: Callable[[Any], Bundle]
    decode: Callable[[Bundle, Functions], Any]


KINDS: dict[str, FileKind] = {}


def register(name: str, kind: FileKind) -> None:
    """Make a kind of file known; whoever brings the objects does so."""
    KINDS[name] = kind


def save(fit: Saved, path: str | PathLike[str]) -> None:
    """Write a fit, first aside and then in place."""
    bundle = _encoded(fit)
    target = arguments.path(path)
    try:
        handle, name = tempfile.mkstemp(
            dir=target.parent, prefix=f".{target.name}.", suffix=".part"
        )
    except OSError as error:
        raise FileError(f"cannot write {target}: {error.strerror or error}") from error
    try:
        with os.fdopen(handle, "wb") as stream:
            _write(bundle, stream)
            stream.flush()
            os.fsync(stream.fileno())
        os.chmod(name, 0o666 & ~_umask())
        os.replace(name, target)
    except BaseException as error:
        Path(name).unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise FileError(f"cannot write {target}: {error.strerror or error}") from error
        raise


def _encoded(fit: Saved) -> Bundle:
    bundle = KINDS[fit.file_kind].encode(fit)
    return Bundle({**bundle.values, "model": fit.file_kind}, bundle.arrays)


def to_bytes(fit: Saved) -> bytes:
    """Return the bytes of a fit's file."""
    stream = io.BytesIO()
    _write(_encoded(fit), stream)
    return stream.getvalue()


def from_bytes(content: bytes, functions: Functions | None = None) -> Any:
    """Read a fit from the bytes of its file."""
    source = Path("a fit sent as bytes")
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        bundle = _read(archive, source, len(content))
    return _decoded(bundle, functions or {}, source)


def load(path: str | PathLike[str], functions: Functions | None = None) -> Any:
    """Read what `save` wrote, see `ranef.load`."""
    source = arguments.path(path)
    try:
        with zipfile.ZipFile(source) as archive:
            bundle = _read(archive, source, source.stat().st_size)
    except FileError:
        raise
    except zipfile.BadZipFile as error:
        raise FileError(f"{source} is not a saved fit, or is damaged: {error}") from error
    except OSError as error:
        raise FileError(f"cannot read {source}: {error.strerror or error}") from error
    except (ValueError, RuntimeError, EOFError, MemoryError, zlib.error) as error:
        raise FileError(f"{source} is damaged: {error}") from error
    return _decoded(bundle, functions or {}, source)


def _decoded(bundle: Bundle, functions: Functions, source: Path) -> Any:
    """Rebuild the object; whatever does not fit together means damage."""
    name = bundle.values.get("model", "linear")
    if name not in KINDS:
        raise FileError(f"{source} holds {str(name)[:40]!r}, which this ranef does not know")
    try:
        return KINDS[name].decode(bundle, functions)
    except (RanefError, ArithmeticError, AttributeError, LookupError, TypeError, ValueError,
            RecursionError) as error:  # fmt: skip
        reason = str(error) or type(error).__name__
        raise FileError(f"{source} is damaged: its parts do not fit: {reason}") from error


def _umask() -> int:
    """The mask that a plain `open` would apply."""
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


def _write(bundle: Bundle, stream: Any) -> None:
    head = {
        "format": FORMAT,
        "version": VERSION,
        "ranef": __version__,
        "arrays": {name: [a.dtype.str, list(a.shape)] for name, a in bundle.arrays.items()},
        "values": bundle.values,
    }
    text = json.dumps(head, allow_nan=True, ensure_ascii=False)
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        archive.writestr(CONTENTS, text)
        for name, array in bundle.arrays.items():
            member = io.BytesIO()
            np.lib.format.write_array(member, array, version=(1, 0), allow_pickle=False)
            archive.writestr(f"{name}.npy", member.getbuffer())


def _read(archive: zipfile.ZipFile, source: Path, packed: int) -> Bundle:
    sizes = {info.filename: info.file_size for info in archive.infolist()}
    _refuse_bombs(sizes, source, packed)
    methods = {info.compress_type for info in archive.infolist()}
    if not methods <= {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}:
        raise FileError(f"{source} is not a saved fit: it is packed in another way")
    if len(sizes) != len(archive.infolist()) or CONTENTS not in sizes:
        raise FileError(f"{source} is not a saved fit: it has no single {CONTENTS}")
    head = json.loads(archive.read(CONTENTS).decode("utf-8"))
    _check_head(head, source)
    arrays = {}
    for name, (dtype, shape) in head["arrays"].items():
        arrays[name] = _read_array(archive, sizes, name, dtype, shape, source)
    return Bundle(head["values"], arrays)


def _refuse_bombs(sizes: Mapping[str, int], source: Path, packed: int) -> None:
    total = sum(sizes.values())
    limit = max(FREE_BYTES, RATIO * packed)
    if total > limit:
        raise FileError(
            f"{source} claims to unpack to {total / 1e9:.1f} GB, "
            "far more than a saved fit of its size; it was not read"
        )


def _check_head(head: Any, source: Path) -> None:
    if not isinstance(head, dict) or head.get("format") != FORMAT:
        raise FileError(f"{source} is not a saved fit")
    version = head.get("version")
    if not isinstance(version, int) or version > VERSION:
        raise FileError(
            f"{source} was written by ranef {head.get('ranef')} in a format ({version}) that this "
            f"ranef {__version__} does not know; update ranef to read it"
        )
    arrays = head.get("arrays")
    if version < 1 or not isinstance(arrays, dict) or not isinstance(head.get("values"), dict):
        raise FileError(f"{source} is damaged: {CONTENTS} lacks its parts")
    for name, entry in arrays.items():
        if not _is_array_entry(entry):
            raise FileError(f"{source} is damaged: array {name!r} has no proper type and shape")


def _is_array_entry(entry: Any) -> bool:
    return (
        isinstance(entry, list)
        and len(entry) == 2
        and entry[0] in DTYPES
        and isinstance(entry[1], list)
        and len(entry[1]) <= 3
        and all(type(size) is int and size >= 0 for size in entry[1])
    )


def _read_array(
    archive: zipfile.ZipFile,
    sizes: Mapping[str, int],
    name: str,
    dtype: str,
    shape: list[int],
    source: Path,
) -> NDArray[Any]:
    """Read one array, after its stated size was found to match."""
    member = f"{name}.npy"
    kind = np.dtype(dtype)
    content = kind.itemsize
    for size in shape:
        content *= size
    extra = sizes.get(member, -1) - content
    if not 0 < extra <= HEADER_BYTES:
        raise FileError(f"{source} is damaged: array {name!r} is missing or has the wrong size")
    with archive.open(member) as stream:
        array = np.lib.format.read_array(
            io.BytesIO(stream.read()), allow_pickle=False, max_header_size=HEADER_BYTES
        )
    if array.dtype != kind or list(array.shape) != shape:
        raise FileError(f"{source} is damaged: array {name!r} is not what the file says")
    return np.ascontiguousarray(array)
