"""What the means of groups are worth: their reliability, and slopes corrected for it.

The mean of n rows is not the group's own value. With one-way variances tau^2 between groups and
sigma^2 within them its reliability is lambda = tau^2 / (tau^2 + sigma^2 / n), and the slope of
observed means mixes the two slopes, lambda beta_between + (1 - lambda) beta_within (Luedtke et
al. 2008, Psychol. Methods 13). Means shrunk to E(mean of the group | its rows) in place of the
observed ones undo that, balanced or not (regression calibration; Croon and van Veldhoven 2007,
Psychol. Methods 12).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["GroupMeans", "group_means", "variance_between"]

Floats = NDArray[np.float64]
Codes = NDArray[np.int32]


@dataclass(frozen=True, eq=False)
class GroupMeans:
    """Means of a predictor by group, as far as they can be trusted.

    Attributes
    ----------
    icc : float
        Share of the variance between groups.
    reliability : float
        Mean of the groups' reliabilities; 0 where the means vary no more than chance makes them.
    uncertainty : float
        Standard error of the reliability, about.
    shrunk : (n,) float64 array
        Each row's group mean, shrunk.
    """

    icc: float
    reliability: float
    uncertainty: float
    shrunk: Floats


def group_means(x: Floats, codes: Codes) -> GroupMeans:
    """Shrink the means of x (n,) by groups (n,), each by its own reliability.

    Variances are those of the analysis of variance. The reliability's standard error is that of
    a balanced layout, 1 - 1 / F with Var(log F) about 2 / (J - 1) + 2 / (n - J).

    Examples
    --------
    >>> x = np.array([1.0, 2.0, 4.0, 5.0, 9.0, 8.0])
    >>> means = group_means(x, np.array([0, 0, 1, 1, 2, 2], dtype=np.int32))
    >>> round(means.reliability, 4), means.shrunk[[0, 2, 4]].round(3)
    (0.9797, array([1.568, 4.507, 8.426]))
    """
    n = np.bincount(codes).astype(np.float64)
    means = np.bincount(codes, x) / n
    within, _, icc = variance_between(x, codes)
    groups, rows = len(n), len(x)
    sigma2 = within / max(rows - groups, 1)
    tau2 = sigma2 * icc / (1.0 - icc) if icc < 1.0 else np.inf
    ratio = 1.0 if not np.isfinite(tau2) else np.nan_to_num(tau2 / (tau2 + sigma2 / n))
    trust = np.broadcast_to(np.asarray(ratio, dtype=np.float64), n.shape)
    total = float(trust.sum())
    center = float(trust @ means / total) if total > 0 else float(means.mean())
    shrunk = center + trust * (means - center)
    reliability = total / groups
    spread = np.sqrt(2.0 / max(groups - 1, 1) + 2.0 / max(rows - groups, 1))
    return GroupMeans(icc, reliability, float((1.0 - reliability) * spread), shrunk[codes])


def variance_between(x: Floats, codes: Codes) -> tuple[float, float, float]:
    """Sums of squares of x within and between groups, and its intraclass correlation.

    The correlation is that of the analysis of variance with n0 rows a group, from 0.
    """
    n = np.bincount(codes).astype(np.float64)
    means = np.bincount(codes, x) / n
    within = float(np.sum((x - means[codes]) ** 2))
    between = float(np.sum(n * (means - x.mean()) ** 2))
    groups, rows = len(n), len(x)
    if rows <= groups or groups < 2:
        return within, between, 1.0 if between > 0 else 0.0
    n0 = (rows - float(np.sum(n**2)) / rows) / (groups - 1)
    ms_within, ms_between = within / (rows - groups), between / (groups - 1)
    total = ms_between + (n0 - 1.0) * ms_within
    return within, between, max(0.0, (ms_between - ms_within) / total) if total > 0 else 0.0
