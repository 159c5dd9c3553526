"""P-values of maps: one-sided from z, and adjusted for the false discovery rate."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ranef.questions.means.multiplicity import stepwise

__all__ = ["adjusted", "cutoff", "two_sided", "upper_p", "upper_tail"]

Floats = NDArray[np.float64]


def upper_p(z: Floats) -> Floats:
    """P-values of effects above zero."""
    from scipy.special import ndtr

    return np.asarray(ndtr(-z))


def adjusted(p: Floats) -> Floats:
    """P-values adjusted for the false discovery rate (Benjamini & Hochberg 1995); NaN stay.

    Examples
    --------
    >>> adjusted(np.array([0.01, 0.04, np.nan, 0.03])).tolist()
    [0.03, 0.04, nan, 0.04]
    """
    return stepwise(p, "bh")


def cutoff(z: Floats, level: float, control: str | None, two_sided: bool) -> float:
    """The z-score above which voxels count; infinite where none does."""
    from scipy.special import ndtri

    if control is None:
        return float(level)
    size = np.abs(z) if two_sided else z
    known = size[np.isfinite(size)]
    sides = 2.0 if two_sided else 1.0
    if control == "fpr":
        return float(-ndtri(level / sides))
    if control == "bonferroni":
        return float(-ndtri(level / sides / max(1, len(known))))
    q = adjusted(np.minimum(1.0, sides * upper_p(known)))
    return float(known[q <= level].min()) if (q <= level).any() else float("inf")


def two_sided(stat: Floats, df: Floats) -> tuple[Floats, Floats]:
    """Two-sided p-values and signed z-scores of t statistics, safe far in the tails."""
    from scipy.special import ndtri_exp
    from scipy.stats import norm, t

    size = np.abs(stat)
    finite = np.isfinite(df)
    with np.errstate(invalid="ignore"):
        log = np.where(finite, t.logsf(size, np.where(finite, df, 1.0)), norm.logsf(size))
        p = np.minimum(1.0, 2 * np.exp(log))
        return p, np.asarray(-ndtri_exp(log) * np.sign(stat))


def upper_tail(stat: Floats, r: int, df: Floats) -> tuple[Floats, Floats]:
    """P-values of F statistics with r degrees of freedom above, and their z-scores."""
    from scipy.special import ndtri_exp
    from scipy.stats import chi2, f

    finite = np.isfinite(df)
    with np.errstate(invalid="ignore", divide="ignore"):
        plain = np.where(finite, f.logsf(stat, r, np.where(finite, df, 1.0)),
                         chi2.logsf(r * stat, r))  # fmt: skip
        return np.exp(plain), np.asarray(-ndtri_exp(plain))
