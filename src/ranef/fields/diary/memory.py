"""How long a residual is remembered: autocorrelation by the time between two prompts."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Memory", "memory"]

Floats = NDArray[np.float64]
MOST_STEPS = 60


@dataclass(frozen=True, eq=False)
class Memory:
    """Autocorrelation of residuals by the time between them, (B,) each.

    Attributes
    ----------
    low, high, gap : array
        Ends of each class of times, and their mean.
    pairs : array
    correlation : array
        Mean product of two residuals over the mean square of all.
    """

    low: Floats
    high: Floats
    gap: Floats
    pairs: NDArray[np.int_]
    correlation: Floats


def memory(residual: Floats, time: Floats, series: NDArray[np.int64], classes: int = 8) -> Memory:
    """Correlate residuals (n,) by the time between them, within their series.

    Every two rows of one series are a pair, up to 60 rows apart. Classes hold about equally many
    pairs. Rows without a series (-1), a time or a residual take no part.

    Examples
    --------
    >>> found = memory(np.array([1.0, 1.0, -1.0, -1.0]), np.arange(4.0), np.zeros(4, dtype=int), 2)
    >>> found.gap, found.correlation.round(3)
    (array([1.        , 2.33333333]), array([ 0.333, -1.   ]))
    """
    rows = np.flatnonzero((series >= 0) & ~np.isnan(time) & ~np.isnan(residual))
    rows = rows[np.lexsort((time[rows], series[rows]))]
    s, t, r = series[rows], time[rows], residual[rows]
    gaps, products = [], []
    for step in range(1, min(MOST_STEPS, len(rows) - 1) + 1):
        same = s[step:] == s[:-step]
        if not same.any():
            break
        gaps.append((t[step:] - t[:-step])[same])
        products.append((r[step:] * r[:-step])[same])
    if not gaps:
        nothing = np.empty(0)
        return Memory(nothing, nothing, nothing, np.empty(0, dtype=np.int_), nothing)
    gap, product = np.concatenate(gaps), np.concatenate(products)
    edges = np.unique(np.quantile(gap, np.linspace(0.0, 1.0, classes + 1)))
    if len(edges) == 1:
        edges = np.array([edges[0], edges[0]])
    place = np.clip(np.searchsorted(edges, gap, side="right") - 1, 0, len(edges) - 2)
    pairs = np.bincount(place, minlength=len(edges) - 1)
    filled = pairs > 0
    with np.errstate(invalid="ignore"):
        mean_gap = np.bincount(place, gap, minlength=len(pairs)) / pairs
        mean_product = np.bincount(place, product, minlength=len(pairs)) / pairs
    correlation = mean_product / float(np.mean(r**2))
    return Memory(
        edges[:-1][filled], edges[1:][filled], mean_gap[filled], pairs[filled],
        correlation[filled],
    )  # fmt: skip
