"""Parts of a scan on the disk, so that one that was stopped goes on where it stood."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ranef._version import __version__
from ranef.display.files import write_atomically
from ranef.errors import DataError, FileError
from ranef.fields.gwas.engine import Part

__all__ = ["Folder", "fingerprint"]

MANIFEST = "manifest.json"
KIND = "parts of a ranef gwas scan"


def fingerprint(pieces: Iterable[Any]) -> str:
    """Return a digest of arrays and of what else prints as text.

    Examples
    --------
    >>> fingerprint([np.arange(3), "y ~ 1"])[:8] == fingerprint([np.arange(3), "y ~ 1"])[:8]
    True
    """
    digest = hashlib.sha256()
    for piece in pieces:
        if isinstance(piece, np.ndarray) and piece.dtype != object:
            digest.update(repr((piece.dtype.str, piece.shape)).encode())
            digest.update(np.ascontiguousarray(piece).data)
        else:
            said = piece.tolist() if isinstance(piece, np.ndarray) else piece
            digest.update(repr(said).encode())
        digest.update(b"\0")
    return digest.hexdigest()


@dataclass(frozen=True)
class Folder:
    """A folder of parts that belong to one scan.

    Attributes
    ----------
    path : pathlib.Path
    """

    path: Path

    @classmethod
    def open(cls, path: Path, mark: str) -> Folder:
        """Open a folder for the scan of this fingerprint; it is made where there is none."""
        try:
            path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise FileError(f"cannot make the folder {str(path)!r}: {error.strerror}") from error
        manifest = path / MANIFEST
        wanted = {"kind": KIND, "version": __version__, "scan": mark}
        if manifest.is_file():
            try:
                held = json.loads(manifest.read_text("utf-8"))
            except ValueError:
                held = None
            if held != wanted:
                raise DataError(
                    f"the parts in {str(path)!r} belong to another scan (other data, formula, "
                    "filters, options or version); give another folder, or delete this one"
                )
        elif any(path.iterdir()):
            raise DataError(
                f"the folder {str(path)!r} for parts of the scan holds other files; name an empty "
                "one"
            )
        else:
            write_atomically(manifest, json.dumps(wanted, indent=1) + "\n")
        return cls(path)

    def _file(self, group: int, start: int, stop: int) -> Path:
        return self.path / f"part-{group}-{start:09d}-{stop:09d}.npz"

    def load(self, group: int, start: int, stop: int) -> Part | None:
        """Return a part that was kept whole; None where there is none."""
        path = self._file(group, start, stop)
        if not path.is_file():
            return None
        try:
            return Part.unpacked(path.read_bytes())
        except Exception:  # whatever a damaged file makes Python do: the part is made again
            return None

    def store(self, group: int, start: int, stop: int, part: Part) -> None:
        """Keep a part."""
        write_atomically(self._file(group, start, stop), part.packed())

    def load_arrays(self, name: str) -> dict[str, Any] | None:
        """Return arrays that were kept whole under a name; None where there are none."""
        path = self.path / f"{name}.npz"
        if not path.is_file():
            return None
        try:
            with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as held:
                return dict(held.items())
        except Exception:  # as above
            return None

    def store_arrays(self, name: str, arrays: dict[str, Any]) -> None:
        """Keep arrays under a name."""
        stream = io.BytesIO()
        np.savez(stream, **arrays)
        write_atomically(self.path / f"{name}.npz", stream.getvalue())
