"""Tests of what the model says of residuals and random effects: normal, of one variance.

They take one draw given the data (`simulated.posterior`), not modes and their residuals:
if the model holds, its residuals and effects are independent and have the distribution
that the model says, whereas modes are shrunken and their residuals too small.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Shape", "shape", "spread_against", "spread_by_group"]

Floats = NDArray[np.float64]
Codes = NDArray[np.int_]

MOST_SHAPIRO = 5000


@dataclass(frozen=True)
class Shape:
    """How normal a sample is.

    Attributes
    ----------
    skewness, kurtosis : float
        0 and 0 for a normal distribution (excess kurtosis).
    statistic, p_value : float
        Of the test of Shapiro and Wilk, above 5,000 values of D'Agostino and Pearson.
    """

    skewness: float
    kurtosis: float
    statistic: float
    p_value: float


def shape(values: Floats) -> Shape:
    """Test whether values are a normal sample."""
    from scipy import stats

    skewness, kurtosis = float(stats.skew(values)), float(stats.kurtosis(values))
    test = stats.shapiro(values) if len(values) <= MOST_SHAPIRO else stats.normaltest(values)
    return Shape(skewness, kurtosis, float(test.statistic), float(test.pvalue))


def spread_by_group(z: Floats, codes: Codes) -> tuple[float, float]:
    """Compare the spread of z between groups: Levene's F of |z|, and its p-value.

    Groups with fewer than three rows are left out.
    """
    from scipy.special import fdtrc

    counts = np.bincount(codes)
    kept = counts[codes] >= 3
    _, place = np.unique(codes[kept], return_inverse=True)
    a = np.abs(z[kept])
    n = np.bincount(place) if len(place) else np.zeros(0)
    groups, rows = len(n), len(a)
    if groups < 2 or rows <= groups:
        return float("nan"), float("nan")
    means = np.bincount(place, a) / n
    within = float(np.sum((a - means[place]) ** 2)) / (rows - groups)
    between = float(np.sum(n * (means - a.mean()) ** 2)) / (groups - 1)
    F = between / within if within > 0 else np.inf
    return F, float(fdtrc(groups - 1, rows - groups, F))


def spread_against(z: Floats, x: Floats) -> tuple[float, float]:
    """Correlation of |z| with the ranks of x, and its p-value by t."""
    from scipy.special import stdtr
    from scipy.stats import rankdata

    if np.ptp(x) == 0 or len(x) < 5:
        return 0.0, 1.0
    r = float(np.corrcoef(np.abs(z), rankdata(x))[0, 1])
    df = len(x) - 2
    t = r * np.sqrt(df / max(1.0 - r * r, 1e-300))
    return r, float(2.0 * stdtr(df, -abs(t)))
