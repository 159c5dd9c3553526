"""Parameters of a generalised model that are held at a value, or have one value in common.

Coefficients are constrained by the map from those that are free: beta = M gamma + c.
The core sees the columns X M and the offset X c, so that a held coefficient is an
offset in every sense (also where coefficients are integrated out), whatever the
core does to scale its columns. Standard deviations are held as entries of the
search, which leaves them where they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Constraints", "FreeCoefficients"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int_]


@dataclass(frozen=True, eq=False)
class FreeCoefficients:
    """The map beta = M gamma + c.

    Attributes
    ----------
    M : (P, F) float64 array
        Zeros and ones, one for each row at most.
    c : (P,) float64 array
        Values of the held coefficients, zero elsewhere.
    first : (F,) int array
        The first coefficient that each free one is.
    """

    M: Floats
    c: Floats
    first: Ints

    @property
    def count(self) -> int:
        return len(self.first)

    @property
    def everything(self) -> bool:
        """Whether every coefficient is free and its own: M is the identity, c zero."""
        return len(self.first) == len(self.c)


@dataclass(frozen=True, eq=False)
class Constraints:
    """What is held and what is equal.

    Attributes
    ----------
    coefficients : tuple of (int, float)
        Held coefficients with their values.
    equal : tuple of tuple of int
        Groups of coefficients with a common value, ascending, none of them held.
    deviations : tuple of (int, float)
        Held entries of theta with their values.
    """

    coefficients: tuple[tuple[int, float], ...] = ()
    equal: tuple[tuple[int, ...], ...] = ()
    deviations: tuple[tuple[int, float], ...] = ()

    def free(self, count: int) -> FreeCoefficients:
        """Return the map from the free coefficients to all `count`."""
        if not self.coefficients and not self.equal:
            return FreeCoefficients(np.eye(count), np.zeros(count), np.arange(count))
        c = np.zeros(count)
        for k, value in self.coefficients:
            c[k] = value
        held = {k for k, _ in self.coefficients}
        leader = {k: group[0] for group in self.equal for k in group}
        first = [k for k in range(count) if k not in held and leader.get(k, k) == k]
        place = {k: f for f, k in enumerate(first)}
        M = np.zeros((count, len(first)))
        for k in range(count):
            if k not in held:
                M[k, place[leader.get(k, k)]] = 1.0
        return FreeCoefficients(M, c, np.array(first, dtype=np.int_))

    @property
    def entries(self) -> Ints:
        """Held entries of theta."""
        return np.array([i for i, _ in self.deviations], dtype=np.int_)

    def hold(self, theta: Floats) -> Floats:
        """Return theta with the held entries at their values."""
        out = np.array(theta, dtype=np.float64)
        for i, value in self.deviations:
            out[i] = value
        return out

    def n_free(self, coefficients: int, theta: int) -> int:
        """Count the free parameters among so many coefficients and entries of theta."""
        tied = sum(len(group) - 1 for group in self.equal)
        return coefficients - len(self.coefficients) - tied + theta - len(self.deviations)

    def n_free_of(self, own: Sequence[int]) -> int:
        """Count the free ones among these coefficients, equal ones once."""
        held = {k for k, _ in self.coefficients}
        leader = {k: group[0] for group in self.equal for k in group}
        return len({leader.get(k, k) for k in own if k not in held})
