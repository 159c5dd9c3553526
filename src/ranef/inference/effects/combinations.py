"""Linear combinations of coefficients and random effects."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ranef.models.records import Estimate
from ranef.models.rows import at_levels

__all__ = ["Combinations"]

Floats = NDArray[np.float64]
Codes = NDArray[np.int32]


@dataclass(frozen=True, eq=False)
class Combinations:
    """N combinations constant + x'beta + z'b.

    Attributes
    ----------
    X : (N, P) float64 array
        Over all coefficients of the estimate.
    random : tuple of (codes (N,), z (N, r)) or None
        One entry for each random term of the estimate; code -1 is a level that the fit has
        not seen, whose effect is zero.
    constant : float
    """

    X: Floats
    random: tuple[tuple[Codes, Floats] | None, ...]
    constant: float = 0.0

    def value(self, estimate: Estimate) -> Floats:
        """Return the combinations at the estimates and modes, (N,)."""
        out: Floats = self.constant + self.X @ estimate.coefficients
        for given, b in zip(self.random, estimate.modes, strict=True):
            if given is not None:
                codes, z = given
                out = out + at_levels(b, codes, z)
        return out
