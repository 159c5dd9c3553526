"""Multivariate t probabilities of symmetric boxes, by quasi-Monte Carlo.

Genz & Bretz (2009, Computation of Multivariate Normal and t Probabilities): the scale is
integrated out in one dimension, and the normal variables are drawn one after the other
from what the box leaves them. The correlation may be singular, as that of all pairwise
differences is: constraints that end in the same variable are intersected.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

__all__ = ["MultivariateT", "multivariate_t"]

Floats = NDArray[np.float64]
Ints = NDArray[np.intp]

POINTS = 4096
SHIFTS = 8
SINGULAR = 1e-9


@dataclass(frozen=True, eq=False)
class MultivariateT:
    """What is needed to integrate over boxes around zero.

    Attributes
    ----------
    root : (m, r) float64 array
        Lower trapezoidal, root root' the correlation.
    ends : (m,) int array
        The last variable of each constraint.
    scale : (N,) float64 array
        s = sqrt(chi^2 / df) at the points.
    points : (N, r - 1) float64 array
        Uniform points of the other variables, in `SHIFTS` blocks.
    mixing : (N,) float64 array
        That of the scale.
    """

    root: Floats
    ends: Ints
    scale: Floats
    points: Floats
    mixing: Floats

    def at(self, df: float) -> MultivariateT:
        """The same points for other degrees of freedom."""
        return replace(self, scale=_scale(self.mixing, df))

    def outside(self, t: float) -> tuple[float, float]:
        """Return P(max |T| > t), and the standard error of that number."""
        inside = _inside(self, t).reshape(SHIFTS, -1).mean(axis=1)
        error = float(inside.std(ddof=1) / np.sqrt(SHIFTS))
        return float(1.0 - inside.mean()), error

    def quantile(self, conf_level: float, low: float, high: float) -> float:
        """Return the t between two bounds that max |T| exceeds with probability 1 - conf_level."""
        from scipy.optimize import brentq

        alpha = 1.0 - conf_level

        def gap(t: float) -> float:
            return self.outside(t)[0] - alpha

        if gap(low) <= 0:
            return low
        if gap(high) >= 0:
            return high
        return float(brentq(gap, low, high, xtol=1e-8, rtol=1e-8))


def multivariate_t(
    correlation: Floats, df: float, rng: np.random.Generator, points: int = POINTS
) -> MultivariateT:
    """Prepare the integration for one correlation matrix (m, m) and df.

    Examples
    --------
    >>> pair = multivariate_t(np.eye(2), np.inf, np.random.default_rng(1))
    >>> round(pair.outside(1.96)[0], 4), round(1 - 0.95 ** 2, 4)
    (0.0975, 0.0975)
    """
    root, ends = _pivoted(correlation)
    r = root.shape[1]
    dimensions = r - 1 + int(np.isfinite(df))
    uniform = _points(points, max(dimensions, 1), rng)
    mixing = uniform[:, -1]
    return MultivariateT(root, ends, _scale(mixing, df), uniform[:, : r - 1], mixing)


def _scale(mixing: Floats, df: float) -> Floats:
    from scipy.special import chdtri

    if np.isinf(df):
        return np.ones(len(mixing))
    return np.asarray(np.sqrt(chdtri(df, mixing) / df))


def _inside(prepared: MultivariateT, t: float) -> Floats:
    """Probability of the box at each point, (N,)."""
    from scipy.special import ndtr, ndtri

    root, ends, scale = prepared.root, prepared.ends, prepared.scale
    r = root.shape[1]
    N = len(scale)
    total = np.ones(N)
    drawn = np.empty((max(r - 1, 0), N))
    for j in range(r):
        rows = np.flatnonzero(ends == j)
        slope = root[rows, j]
        middle = -(root[rows, :j] @ drawn[:j]) / slope[:, None]
        half = t * scale / np.abs(slope)[:, None]
        low = ndtr((middle - half).max(axis=0))
        width = np.maximum(ndtr((middle + half).min(axis=0)) - low, 0.0)
        total *= width
        if j < r - 1:
            drawn[j] = ndtri(np.clip(low + prepared.points[:, j] * width, 1e-300, 1 - 1e-16))
    return total


def _pivoted(correlation: Floats) -> tuple[Floats, Ints]:
    """Cholesky factor (m, r), the largest remaining diagonal first, and where its rows end."""
    rest = np.array(correlation, dtype=np.float64)
    m = len(rest)
    columns = []
    done = np.zeros(m, dtype=np.bool_)
    for _ in range(m):
        diagonal = np.where(done, -np.inf, np.diag(rest))
        pivot = int(np.argmax(diagonal))
        if diagonal[pivot] < SINGULAR:
            break
        column = rest[:, pivot] / np.sqrt(rest[pivot, pivot])
        column[done] = 0.0
        columns.append(column)
        rest = rest - np.outer(column, column)
        done[pivot] = True
    root = np.column_stack(columns) if columns else np.zeros((m, 0))
    root[np.abs(root) < np.sqrt(SINGULAR) * 1e-2] = 0.0
    ends = np.array([int(np.flatnonzero(row)[-1]) for row in root])
    return root, ends


def _points(count: int, dimensions: int, rng: np.random.Generator) -> Floats:
    """`SHIFTS` scrambled Sobol sequences, one after the other, (SHIFTS * count, dimensions)."""
    from scipy.stats import qmc

    blocks = [qmc.Sobol(dimensions, scramble=True, seed=rng).random(count) for _ in range(SHIFTS)]
    return np.asarray(np.clip(np.concatenate(blocks), 1e-13, 1 - 1e-13))
