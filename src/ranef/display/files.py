"""Writing a file whole or not at all, and as what it is.

A regular file is written beside itself and put in place once it is whole, with the
permissions that it had. A link stays a link: what it points to is written. A device or a
pipe is written to, never replaced.
"""

from __future__ import annotations

import io
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from ranef import arguments
from ranef.errors import FileError

__all__ = ["replacing", "write_atomically", "write_page"]

OTHER_KINDS = (".pdf", ".doc", ".docx", ".tex", ".md", ".txt", ".csv", ".xlsx", ".png", ".svg")
"""Endings that promise something else than HTML."""

NO_READER = 6
"""ENXIO, of a pipe that nobody reads."""


def write_atomically(path: str | os.PathLike[str], content: str | bytes) -> Path:
    """Write `content` so that `path` holds all of it or what it held before.

    Parameters
    ----------
    path : path-like
        An existing file is replaced; text is written as UTF-8.
    content : str or bytes

    Returns
    -------
    pathlib.Path

    Raises
    ------
    ranef.errors.FileError
        The folder does not exist or may not be written to.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_atomically(f"{folder}/a.txt", "whole").read_text()
    'whole'
    """
    data = content.encode("utf-8", "replace") if isinstance(content, str) else content
    with replacing(path) as stream:
        stream.write(data)
    return Path(path)


def write_page(path: str | os.PathLike[str], page: str) -> Path:
    """Write a page of HTML; refuse the ending of another kind of file.

    Examples
    --------
    >>> write_page("report.pdf", "<!doctype html>")
    Traceback (most recent call last):
    ...
    ranef.errors.FileError: a report is a page of HTML, and 'report.pdf' is the name of another ...
    """
    target = arguments.path(path)
    if target.suffix.lower() in OTHER_KINDS:
        raise FileError(
            f"a report is a page of HTML, and {target.name!r} is the name of another kind of file: "
            f"call it {target.with_suffix('.html').name!r} (a browser prints it to PDF)"
        )
    return write_atomically(target, page)


@contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """Open what takes the place of a file once it is whole; a `FileError` says why not."""
    target = arguments.path(path)
    try:
        mode = _mode(target)
        if mode is None or stat.S_ISREG(mode):
            with _aside(target, mode) as stream:
                yield stream
        else:
            content = io.BytesIO()
            yield content
            _write_through(target, mode, content.getvalue())
    except FileError:
        raise
    except OSError as error:
        reason = error.strerror or str(error)
        raise FileError(f"cannot write {str(target)[:200]!r}: {reason.lower()}") from error


def _mode(target: Path) -> int | None:
    """Return what a path leads to, and its permissions; None if it leads nowhere yet."""
    try:
        return os.stat(target).st_mode
    except FileNotFoundError:
        return None


@contextmanager
def _aside(target: Path, mode: int | None) -> Iterator[BinaryIO]:
    """Open a file beside another, whose place and permissions it takes once it is whole."""
    place = Path(os.path.realpath(target))
    if mode is not None and not os.access(place, os.W_OK):
        raise PermissionError(13, "Permission denied")
    path = place.parent / f".{os.urandom(8).hex()}.part"
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
    try:
        handle = os.open(path, flags, 0o666 if mode is None else 0o600)
        with os.fdopen(handle, "wb") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        if mode is not None:
            _as_before(path, place, mode)
        os.replace(path, place)
    except BaseException:
        with suppress(OSError):
            path.unlink()
        raise


def _as_before(path: Path, place: Path, mode: int) -> None:
    """Give a file the owner and the permissions of the one whose place it takes."""
    before, now = os.stat(place), os.stat(path)
    if hasattr(os, "chown") and (before.st_uid, before.st_gid) != (now.st_uid, now.st_gid):
        with suppress(OSError):
            os.chown(path, before.st_uid, before.st_gid)
    os.chmod(path, stat.S_IMODE(mode))


def _write_through(target: Path, mode: int, content: bytes) -> None:
    """Write to a device or a pipe."""
    if stat.S_ISDIR(mode):
        raise FileError(f"cannot write {str(target)!r}: it is a folder; give a file name")
    if not (stat.S_ISCHR(mode) or stat.S_ISFIFO(mode)):
        raise FileError(f"cannot write {str(target)!r}: it is no file, device or pipe")
    try:
        handle = os.open(target, os.O_WRONLY | getattr(os, "O_NONBLOCK", 0))
    except OSError as error:
        if error.errno == NO_READER:
            raise FileError(f"cannot write {str(target)!r}: nobody reads this pipe") from error
        raise
    os.set_blocking(handle, True)
    with os.fdopen(handle, "wb") as stream:
        stream.write(content)
