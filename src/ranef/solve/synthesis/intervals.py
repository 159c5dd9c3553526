"""Intervals of tau^2: of Q as a pivot, and of the likelihood's profile."""

from __future__ import annotations

import numpy as np

from ranef.solve.synthesis.between import Between, first_crossing, level_of
from ranef.solve.synthesis.studies import Studies

__all__ = ["profile_interval", "q_profile"]

FURTHEST = 1e12


def q_profile(studies: Studies, conf_level: float) -> tuple[float, float]:
    """Values of tau^2 at which y'Py is not extreme for chi-squared (Viechtbauer 2007).

    Stat. Med. 26. Both ends are zero where the effects differ less than by sampling alone.
    """
    from scipy.special import chdtri

    tail = (1 - conf_level) / 2
    low = level_of(studies, float(chdtri(studies.df, tail)))
    high = level_of(studies, float(chdtri(studies.df, 1 - tail)))
    return low, high


def profile_interval(
    studies: Studies, found: Between, restricted: bool, conf_level: float
) -> tuple[float, float]:
    """The least and the largest tau^2 whose likelihood is not too far below the highest.

    Between them may lie others that are, where the profile has several maxima.
    """
    from scipy.special import chdtri

    fall = 0.5 * float(chdtri(1, 1 - conf_level))
    top = float(np.max(found.logliks))

    def above(t: float) -> tuple[float, float]:
        at = studies.moments(np.array([t]))
        value = at.loglik(restricted, studies.n, studies.p)[0] - top + fall
        return float(value), float(at.score(restricted)[0])

    good = found.maxima[found.logliks > top - fall]
    first, last = float(good.min()), float(good.max())
    low = 0.0
    if above(0.0)[0] < 0:
        low = first - first_crossing(lambda s: _pair(*above(first - float(s[0])), -1.0), 0.0, first)
    far = max(2 * last, float(studies.v.min()))
    while above(far)[0] > 0 and far < FURTHEST * float(studies.v.max()):
        far *= 2
    high = first_crossing(lambda t: _pair(*above(float(t[0])), 1.0), last, far)
    return low, high


def _pair(value: float, slope: float, sign: float) -> tuple[np.ndarray, np.ndarray]:
    return np.array([value]), np.array([sign * slope])
