"""Rows of genotypes that are read once and kept, in memory or, where they are many, on the disk."""

from __future__ import annotations

import tempfile
from typing import Any, BinaryIO, cast

import numpy as np
from numpy.typing import NDArray

from ranef.errors import FileError
from ranef.fields.gwas.genotypes import Bytes, pack

__all__ = ["Spool"]

MOST_IN_MEMORY = 500_000_000
ROWS = 512


class Spool:
    """Rows of one length; beyond half a gigabyte they go to a file that nobody else sees.

    Calls are packed. What is fractional is kept in single precision.

    Parameters
    ----------
    n : int
        Samples.
    calls : bool
        Whether rows are calls (int8, negative where missing) or dosages (NaN where missing).
    """

    def __init__(self, n: int, calls: bool) -> None:
        self.n, self.calls = n, calls
        self.rows = 0
        self.whole = True
        self._waiting: list[NDArray[Any]] = []
        self._stream: BinaryIO = cast(
            BinaryIO,
            tempfile.SpooledTemporaryFile(MOST_IN_MEMORY),  # noqa: SIM115
        )

    def add(self, row: NDArray[Any]) -> None:
        """Keep a row, (n,)."""
        self._waiting.append(row)
        if len(self._waiting) == ROWS:
            self._flush()

    def _flush(self) -> None:
        if not self._waiting:
            return
        block = np.stack(self._waiting)
        self._waiting = []
        self.rows += len(block)
        if self.calls:
            content: NDArray[Any] = pack(block.astype(np.int8))
        else:
            content = block.astype(np.float32)
            self.whole &= bool(np.all(np.isnan(content) | (content == np.rint(content))))
        try:
            self._stream.write(content.tobytes())
        except OSError as error:
            raise FileError(
                f"genotypes are kept in {tempfile.gettempdir()!r} while they are analysed, and "
                f"there is no room: {error.strerror}; set TMPDIR to a folder with more"
            ) from error

    def packed(self) -> Bytes:
        """Return the calls, (rows, ceil(n / 4)); dosages must be whole."""
        if self.calls:
            return self._array(np.uint8, -(-self.n // 4))
        dosages = self.dosages()
        again = Spool(self.n, True)
        for start in range(0, len(dosages), ROWS):
            part = np.asarray(dosages[start : start + ROWS])
            again._waiting = list(np.where(np.isnan(part), -1, part).astype(np.int8))
            again._flush()
        return again.packed()

    def dosages(self) -> NDArray[np.float32]:
        """Return the dosages, (rows, n)."""
        return self._array(np.float32, self.n)

    def _array(self, kind: Any, width: int) -> NDArray[Any]:
        self._flush()
        self._stream.flush()
        shape = (self.rows, width)
        held = cast(Any, self._stream)
        if not held._rolled:
            return np.frombuffer(held._file.getvalue(), dtype=kind).reshape(shape)
        return np.memmap(held._file, dtype=kind, mode="r", shape=shape)
