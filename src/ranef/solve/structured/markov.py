"""Residuals of which each depends on the one before: first-order processes in time.

With rho_j the correlation of a row with the one before, the inverse of R is tridiagonal,

    K_jj = 1 / (1 - rho_j^2) + rho_(j+1)^2 / (1 - rho_(j+1)^2),
    K_j,j-1 = -rho_j / (1 - rho_j^2),   log|R| = sum log(1 - rho_j^2),

so that products with it and its derivatives cost no more than the rows. R itself comes in
through K'RK', by K = W'W: W is bidiagonal. (Pinheiro & Bates 2000, section 5.3.)
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from ranef.covariance.between_rows import RowCorrelation

__all__ = ["Gaps", "Steps", "gaps_of", "steps_of"]

Floats = NDArray[np.float64]

DEPENDENT = 1e-12
"""1 - rho^2 below which a row is determined by the one before."""


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
class Steps:
    """Correlations of successive rows of groups, with derivatives in the one parameter.

    Attributes
    ----------
    rho, first, second : (g, n - 1) float64 arrays
    """

    rho: Floats
    first: Floats
    second: Floats

    @cached_property
    def left(self) -> Floats:
        """1 - rho^2."""
        return (1.0 - self.rho) * (1.0 + self.rho)

    @property
    def log_determinant(self) -> float:
        """log|R| of all groups."""
        return float(np.log(self.left).sum())

    @property
    def trace(self) -> float:
        """tr(R^-1 R_1), the derivative of log|R|."""
        return float(np.sum(-2.0 * self.rho * self.first / self.left))

    @property
    def traces(self) -> tuple[float, float]:
        """tr(R^-1 R_1 R^-1 R_1) and tr(R^-1 R_11)."""
        r, d, dd, e = self.rho, self.first, self.second, self.left
        bent = float(np.sum(-2.0 * r * dd / e))
        twice = float(np.sum(-2.0 * ((d * d + r * dd) * e + 2.0 * r * r * d * d) / (e * e)))
        return bent - twice, bent

    @property
    def inverse(self) -> _Band:
        """K."""
        e = self.left
        return _band(1.0 / e, -self.rho / e, self.rho**2 / e, ones=True)

    @property
    def slope(self) -> _Band:
        """Derivative of K."""
        r, d, e = self.rho, self.first, self.left
        by = 2.0 * r * d / (e * e)
        return _band(by, -d * (1.0 + r * r) / (e * e), by)

    @property
    def bend(self) -> _Band:
        """Second derivative of K."""
        r, d, dd, e = self.rho, self.first, self.second, self.left
        both = 2.0 * ((d * d + r * dd) * e + 4.0 * r * r * d * d) / e**3
        off = -(dd * (1.0 + r * r) * e + d * d * (6.0 * r + 2.0 * r**3)) / e**3
        return _band(both, off, both)

    def moved(self, y: Floats) -> Floats:
        """W^-T y of y (g, n, w), so that its square is y'Ry."""
        out = y.copy()
        root = np.sqrt(self.left)
        for j in range(y.shape[1] - 1, 0, -1):
            out[:, j - 1] += self.rho[:, j - 1, None] * out[:, j]
            out[:, j] *= root[:, j - 1, None]
        return out


def _band(own: Floats, off: Floats, before: Floats, ones: bool = False) -> _Band:
    """Sum over steps of what each gives to its row, to both, and to the row before."""
    g, steps = own.shape
    diagonal = np.zeros((g, steps + 1))
    diagonal[:, 1:] += own
    diagonal[:, :-1] += before
    if ones:
        diagonal[:, 0] += 1.0
    return _Band(diagonal, off)


@dataclass(frozen=True, eq=False)
class Gaps:
    """Distances of successive rows of groups, of which few differ.

    Attributes
    ----------
    distinct : (d,) float64 array
    which : (g, n - 1) int array
        Which of them each step has.
    """

    distinct: Floats
    which: NDArray[np.intp]


def gaps_of(where: Floats) -> Gaps:
    """Distances of rows that stand at `where`, (g, n), in order of time."""
    gaps = np.abs(np.diff(where, axis=1))
    distinct, which = np.unique(gaps, return_inverse=True)
    return Gaps(distinct, which.reshape(gaps.shape))


def steps_of(correlation: RowCorrelation, rho: Floats, gaps: Gaps) -> Steps:
    """Correlations of successive rows.

    Raises
    ------
    LinAlgError
        Where a row is determined by the one before.
    """
    pairs = np.zeros((len(gaps.distinct), 2, 1))
    pairs[:, 1, 0] = gaps.distinct
    jet = correlation.at(rho, pairs, True)
    each = jet.value[:, 0, 1], jet.first[0, :, 0, 1], jet.second[0, 0][:, 0, 1]
    if not np.all((1.0 - each[0]) * (1.0 + each[0]) > DEPENDENT):
        raise np.linalg.LinAlgError("a residual is determined by the one before")
    value, first, second = (one[gaps.which] for one in each)
    return Steps(value, first, second)
