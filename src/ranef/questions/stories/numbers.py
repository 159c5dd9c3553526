"""A pooled regression of grouped rows, and how many independent rows they are worth."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ranef.inference.rows.group_means import variance_between

__all__ = ["Pooled", "pooled"]

Floats = NDArray[np.float64]
Codes = NDArray[np.int32]


@dataclass(frozen=True)
class Pooled:
    """Least squares of y on x that takes all rows as independent.

    Attributes
    ----------
    slope, std_error, df : float
    share_between : float
        Share of the predictor's sum of squares between groups: the weight that the slope
        between groups has in the pooled one (Robinson 1950, Am. Sociol. Rev. 15).
    n_effective : float
        Rows over the factor by which the slope's variance is understated,
        1 + (n0 - 1) rho_x rho_e with the intraclass correlations of predictor and residual
        (Scott and Holt 1982, J. Am. Stat. Assoc. 77).
    """

    slope: float
    std_error: float
    df: float
    share_between: float
    n_effective: float


def pooled(y: Floats, x: Floats, codes: Codes) -> Pooled:
    """Fit y (n,) on x (n,), rows in groups (n,).

    Examples
    --------
    >>> x = np.array([0.0, 1.0, 1.0, 2.0])
    >>> found = pooled(np.array([1.0, 0.0, 3.0, 2.0]), x, np.array([0, 0, 1, 1], dtype=np.int32))
    >>> found.slope, found.share_between
    (0.5, 0.5)
    """
    rows, n = len(y), np.bincount(codes)
    centred = x - x.mean()
    total = float(centred @ centred)
    slope = float(centred @ y) / total
    residual = y - y.mean() - slope * centred
    sigma2 = float(residual @ residual) / (rows - 2)
    _, between, rho_x = variance_between(x, codes)
    rho_e = variance_between(residual, codes)[2]
    n0 = (rows - float(np.sum(n.astype(np.float64) ** 2)) / rows) / (len(n) - 1)
    factor = 1.0 + (n0 - 1.0) * rho_x * rho_e
    return Pooled(slope, float(np.sqrt(sigma2 / total)), rows - 2.0, between / total, rows / factor)
