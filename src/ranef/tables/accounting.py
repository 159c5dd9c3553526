"""Which rows of a table are used, and why the others are not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

__all__ = ["Accounting"]


@dataclass(frozen=True, eq=False)
class Accounting:
    """Which rows of the table are in the model, and why the others are not.

    Attributes
    ----------
    n_rows : int
        Rows of the table.
    kept : (n_rows,) bool array or None
        True where the row is used; None means every row.
    missing : dict
        Column name -> number of rows missing there (a row may count in
        several columns).
    n_zero_weight : int
        Rows dropped since their weight is zero, among those not missing.
    """

    n_rows: int
    kept: NDArray[np.bool_] | None = None
    missing: Mapping[str, int] = field(default_factory=dict)
    n_zero_weight: int = 0

    @property
    def n_used(self) -> int:
        return self.n_rows if self.kept is None else int(np.count_nonzero(self.kept))

    @property
    def n_dropped(self) -> int:
        return self.n_rows - self.n_used
