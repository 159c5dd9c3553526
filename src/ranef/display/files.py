"""Writing a file whole or not at all."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from ranef.errors import FileError

__all__ = ["write_atomically"]


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
    target = Path(path)
    data = content.encode("utf-8") if isinstance(content, str) else content
    temporary: Path | None = None
    try:
        if target.is_dir():
            raise FileError(f"cannot write {str(target)!r}: it is a folder; give a file name")
        handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
        temporary = Path(name)
        with os.fdopen(handle, "wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.chmod(_mode(target))
        temporary.replace(target)
        temporary = None
    except OSError as error:
        if isinstance(error, FileError):
            raise
        reason = error.strerror or str(error)
        raise FileError(f"cannot write {str(target)!r}: {reason.lower()}") from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)
    return target


def _mode(target: Path) -> int:
    """Return the permissions that the file has, or that a new file would get."""
    if target.exists():
        return target.stat().st_mode & 0o777
    mask = os.umask(0)
    os.umask(mask)
    return 0o666 & ~mask
