"""How much memory what is read from a file may take, and the refusal before it takes more."""

from __future__ import annotations

import io
import os
import zlib
from pathlib import Path
from typing import BinaryIO

from ranef.errors import FileError
from ranef.solve.resources import available_memory

__all__ = ["GIGA", "VARIABLE", "check_regular", "check_room", "file_bytes", "gunzipped", "room"]

GIGA = 10**9
SHARE, UNKNOWN = 2, 8 * GIGA
CHUNK = 1 << 22
VARIABLE = "RANEF_MAX_GB"
GZIP = b"\x1f\x8b"


def room() -> tuple[float, str]:
    """Return how many bytes a file may take once it is read, and why: half of what is free.

    The environment variable ``RANEF_MAX_GB`` states another limit.
    """
    stated = os.environ.get(VARIABLE, "").strip()
    if stated:
        try:
            allowed = float(stated) * GIGA
        except ValueError:
            allowed = float("nan")
        if not allowed > 0:
            raise FileError(
                f"the environment variable {VARIABLE} is a number of GB, not {stated!r}"
            )
        return allowed, f"which the environment variable {VARIABLE} states"
    return (available_memory() or UNKNOWN) / SHARE, "half of the memory that is free"


def check_room(n_bytes: float, shown: str) -> None:
    """Refuse a file that would take more memory than it may.

    Examples
    --------
    >>> check_room(1e18, "'a.h5ad'")
    Traceback (most recent call last):
    ...
    ranef.errors.FileError: 'a.h5ad' would take 1e+09 GB of memory or more, and the limit is ...
    """
    most, why = room()
    if n_bytes > most:
        raise FileError(
            f"{shown} would take {n_bytes / GIGA:.3g} GB of memory or more, and the limit is "
            f"{most / GIGA:.3g} GB ({why}); it was not read. The environment variable {VARIABLE} "
            "states another limit, in GB"
        )


def file_bytes(path: Path, times: float, shown: str) -> bytes:
    """Read a file or a pipe whole, unless it takes more memory than it may.

    Parameters
    ----------
    path : pathlib.Path
    times : float
        How many bytes of memory each of its bytes takes once it is read.
    shown : str
        Its name for messages.
    """
    with path.open("rb") as stream:
        check_room(times * os.fstat(stream.fileno()).st_size, shown)
        content = bytearray()
        _fill(content, stream, times, shown)
    return bytes(content)


def check_regular(path: Path, shown: str) -> None:
    """Refuse devices, pipes and sockets, which cannot be read twice."""
    if path.exists() and not path.is_file():
        raise FileError(f"{shown} is no file, but a folder, device or pipe")


def gunzipped(content: bytes, times: float, shown: str) -> bytes:
    """Return what gzip packed, as far as it has room; anything else comes back as it is."""
    import gzip

    if not content.startswith(GZIP):
        return content
    unpacked = bytearray()
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(content)) as stream:
            _fill(unpacked, stream, times, shown)  # type: ignore[arg-type]
    except FileError:
        raise
    except (OSError, EOFError, zlib.error) as error:
        raise FileError(f"{shown} is a damaged gzip file: {error}") from error
    return bytes(unpacked)


def _fill(unpacked: bytearray, stream: BinaryIO, times: float, shown: str) -> None:
    most = room()[0]
    while part := stream.read(CHUNK):
        unpacked += part
        if times * len(unpacked) > most:
            check_room(times * len(unpacked), shown)
