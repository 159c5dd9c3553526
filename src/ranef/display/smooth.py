"""A smooth line through a cloud of points.

Local linear regression with tricube weights (Cleveland 1979, Journal of the
American Statistical Association 74:829), evaluated on a grid. Many points are
first averaged in runs of neighbours, which a line of this width cannot show.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["smooth_line"]

Floats = NDArray[np.float64]


def smooth_line(
    x: Floats, y: Floats, *, span: float = 2 / 3, points: int = 60, most: int = 2000
) -> tuple[Floats, Floats]:
    """Return the smooth line of `y` over `x`, two arrays of length `points`.

    Parameters
    ----------
    x, y : (n,) float64 arrays
    span : float
        Share of the points that each local regression sees.
    points : int
        Places at which the line is evaluated.
    most : int
        Above this many points, runs of neighbours are averaged first.

    Returns
    -------
    at, value : float64 arrays
        Both empty when `x` has fewer than four different values.

    Examples
    --------
    >>> x = np.linspace(0.0, 1.0, 50)
    >>> at, value = smooth_line(x, 2.0 * x, points=3)
    >>> value.round(6).tolist()
    [0.0, 1.0, 2.0]
    """
    if len(np.unique(x)) < 4:
        return np.empty(0), np.empty(0)
    x, y, weight = _averaged(x, y, most)
    at = np.linspace(x[0], x[-1], points)
    value = np.array([_local_line(x, y, weight, centre, span) for centre in at])
    return at, value


def _averaged(x: Floats, y: Floats, most: int) -> tuple[Floats, Floats, Floats]:
    order = np.argsort(x, kind="stable")
    x, y = x[order], y[order]
    if len(x) <= most:
        return x, y, np.ones(len(x))
    start = np.linspace(0, len(x), most, endpoint=False).astype(np.intp)
    count = np.diff(np.append(start, len(x))).astype(np.float64)
    return np.add.reduceat(x, start) / count, np.add.reduceat(y, start) / count, count


def _local_line(x: Floats, y: Floats, weight: Floats, centre: float, span: float) -> float:
    """Fit y ~ 1 + (x - centre) with tricube weights; return the intercept."""
    distance = np.abs(x - centre)
    neighbours = min(len(x) - 1, max(2, int(np.ceil(span * len(x))) - 1))
    reach = max(np.partition(distance, neighbours)[neighbours] * 1.0001, np.ptp(x) * 1e-3)
    w = weight * np.clip(1.0 - (distance / reach) ** 3, 0.0, None) ** 3
    shifted = x - centre
    total, first, second = w.sum(), w @ shifted, w @ shifted**2
    determinant = total * second - first**2
    if determinant <= 1e-12 * total * second:
        return float((w @ y) / total)
    return float((second * (w @ y) - first * (w @ (shifted * y))) / determinant)
