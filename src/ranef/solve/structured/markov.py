"""Residuals of which each depends on the one before: first-order processes in time.

With rho_j the correlation of a row with the one before, the inverse of R is tridiagonal,

    K_jj = 1 / (1 - rho_j^2) + rho_(j+1)^2 / (1 - rho_(j+1)^2),
    K_j,j-1 = -rho_j / (1 - rho_j^2),   log|R| = sum log(1 - rho_j^2),

so that products with it and its derivatives cost no more than the rows; the core makes them
(`cpp/markov.hpp`). (Pinheiro & Bates 2000, section 5.3.)
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from ranef import _core
from ranef.covariance.between_rows import ByDistance

__all__ = ["Gaps", "Steps", "gaps_of", "steps_of"]

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class _Band:
    """A symmetric tridiagonal matrix for each group: diagonal (g, n), beside it (g, n - 1)."""

    diagonal: Floats
    off: Floats

    def times(self, U: Floats) -> Floats:
        """The matrix times U (g, n, w)."""
        out = self.diagonal[:, :, None] * U
        out[:, 1:] += self.off[:, :, None] * U[:, :-1]
        out[:, :-1] += self.off[:, :, None] * U[:, 1:]
        return np.asarray(out)


@dataclass(frozen=True, eq=False)
class Gaps:
    """Distances of successive rows of groups, of which few differ.

    Attributes
    ----------
    distinct : (d,) float64 array
    which : (g, n - 1) int32 array
        Which of them each step has.
    """

    distinct: Floats
    which: NDArray[np.int32]


@dataclass(frozen=True, eq=False)
class Steps:
    """Correlations of successive rows of groups.

    Attributes
    ----------
    core : Markov
        With their derivatives in the one parameter.
    distinct : (d,) float64 array
        Those that occur.
    gaps : Gaps
    """

    core: _core.Markov
    distinct: Floats
    gaps: Gaps

    @cached_property
    def _totals(self) -> tuple[float, float, float, float]:
        return self.core.totals()

    @property
    def log_determinant(self) -> float:
        """log|R| of all groups."""
        return self._totals[0]

    @property
    def trace(self) -> float:
        """tr(R^-1 R_1), the derivative of log|R|."""
        return self._totals[1]

    @property
    def traces(self) -> tuple[float, float]:
        """tr(R^-1 R_1 R^-1 R_1) and tr(R^-1 R_11)."""
        return self._totals[2:]

    @property
    def inverse(self) -> _Band:
        """K."""
        rho = self.distinct[self.gaps.which]
        e = (1.0 - rho) * (1.0 + rho)
        g, steps = rho.shape
        diagonal = np.zeros((g, steps + 1))
        diagonal[:, 1:] += 1.0 / e
        diagonal[:, :-1] += rho**2 / e
        diagonal[:, 0] += 1.0
        return _Band(diagonal, -rho / e)


def gaps_of(where: Floats) -> Gaps:
    """Distances of rows that stand at `where`, (g, n), in order of time."""
    gaps = np.abs(np.diff(where, axis=1))
    distinct, which = np.unique(gaps, return_inverse=True)
    return Gaps(distinct, which.reshape(gaps.shape).astype(np.int32))


def steps_of(correlation: ByDistance, rho: Floats, gaps: Gaps, threads: int) -> Steps:
    """Correlations of successive rows.

    Raises
    ------
    LinAlgError
        Where a row is determined by the one before.
    """
    jet = correlation.at_distance(rho, gaps.distinct, True)
    core = _core.Markov(jet.value, jet.first[0], jet.second[0, 0], gaps.which, threads)
    return Steps(core, jet.value, gaps)
