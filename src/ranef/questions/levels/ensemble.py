"""Estimates of many numbers at once, whose spread and order are to be right as well.

Posterior means are closer to each other than the numbers themselves: shrunken too much
for a histogram, or to say how far apart the best and the worst are.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["constrained", "exceeds", "mixture_quantiles", "pooled_quantiles", "triple_goal"]

Floats = NDArray[np.float64]

GRID = 2001
CELLS = 8_000_000


def triple_goal(expected: Floats, quantiles: Floats) -> Floats:
    """Estimates that serve each number, their histogram, and their ranks.

    The quantiles of the estimated distribution of all q numbers at (2 j - 1) / (2 q),
    handed out in the order of the expected ranks (Shen & Louis 1998, J. R. Stat. Soc.
    B 60).

    Parameters
    ----------
    expected : (q,) array
        Expected ranks.
    quantiles : (q,) array
        Ascending.
    """
    out = np.empty(len(expected))
    out[np.argsort(expected, kind="stable")] = quantiles
    return out


def constrained(mean: Floats, spread: float) -> Floats:
    """Posterior means stretched about their mean, so that their spread is that expected.

    m + a (m_k - m) with a^2 = 1 + H1 / H2, H1 the posterior expectation of the spread of
    the errors, tr (I - J / q) V, and H2 = sum (m_k - m)^2 (Ghosh 1992, J. Am. Stat.
    Assoc. 87; Louis 1984 for equal variances).

    Parameters
    ----------
    mean : (q,) array
    spread : float
        H1.
    """
    centre = mean.mean()
    between = float(np.sum((mean - centre) ** 2))
    if between <= 0:
        return mean.copy()
    return np.asarray(centre + np.sqrt(1 + max(spread, 0.0) / between) * (mean - centre))


def mixture_quantiles(mean: Floats, sd: Floats) -> Floats:
    """Quantiles at (2 j - 1) / (2 q) of the even mixture of q normal distributions.

    The mixture's distribution function on a grid, inverted by bisection within a cell
    for up to 500 numbers and by interpolation for more.
    """
    q = len(mean)
    levels = (2 * np.arange(1, q + 1) - 1) / (2 * q)
    if q == 1 or not np.any(sd > 0):
        return np.sort(mean)
    low, high = np.min(mean - 9 * sd), np.max(mean + 9 * sd)
    grid = np.linspace(low, high, GRID)
    value = _mixture(grid, mean, sd)
    if q > 500:
        inside = np.concatenate([[True], np.diff(value) > 0])
        return np.asarray(np.interp(levels, value[inside], grid[inside]))
    cell = np.clip(np.searchsorted(value, levels), 1, GRID - 1)
    below, above = grid[cell - 1], grid[cell]
    for _ in range(40):
        middle = (below + above) / 2
        low_half = _mixture(middle, mean, sd) >= levels
        above, below = np.where(low_half, middle, above), np.where(low_half, below, middle)
    return np.asarray((below + above) / 2)


def _mixture(at: Floats, mean: Floats, sd: Floats) -> Floats:
    """Distribution function of the mixture at some places."""
    from scipy.special import ndtr

    out = np.empty(len(at))
    step = max(1, CELLS // len(mean))
    for start in range(0, len(at), step):
        gap = at[start : start + step, None] - mean
        with np.errstate(divide="ignore", invalid="ignore"):
            z = np.where(sd > 0, gap / sd, np.where(gap >= 0, np.inf, -np.inf))
        out[start : start + step] = ndtr(z).mean(axis=1)
    return out


def pooled_quantiles(values: Floats) -> Floats:
    """Quantiles at (2 j - 1) / (2 q) of all draws (n, q) together."""
    q = values.shape[1]
    return np.asarray(np.quantile(values, (2 * np.arange(1, q + 1) - 1) / (2 * q)))


def exceeds(gap: Floats, sd: Floats) -> Floats:
    """Probability that a normal number of this mean and sd is positive; 1/2 if both are 0.

    Examples
    --------
    >>> import numpy as np
    >>> exceeds(np.array([0.0, 1.0, 0.0]), np.array([1.0, 0.0, 0.0]))
    array([0.5, 1. , 0.5])
    """
    from scipy.special import ndtr

    certain = sd <= 0
    z = np.divide(gap, sd, out=np.zeros(np.broadcast(gap, sd).shape), where=~certain)
    return np.asarray(np.where(certain, (1 + np.sign(gap)) / 2, ndtr(z)))
