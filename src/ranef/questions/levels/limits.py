"""Exact limits of ratios of observed to expected sums.

Each interval inverts a test: it holds the ratios under which a sum as large, or as
small, as that observed has at least probability alpha / 2.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

__all__ = ["binomial_limits", "moment_limits", "normal_limits", "poisson_limits"]

Floats = NDArray[np.float64]
Limits = tuple[Floats, Floats]


def poisson_limits(observed: Floats, expected: Floats, conf_level: float) -> Limits:
    """Limits of the ratio r of O ~ Poisson(r E), by gamma quantiles (Garwood 1936)."""
    from scipy.special import gammaincinv

    tail = (1 - conf_level) / 2
    some = observed > 0
    low = np.where(some, gammaincinv(np.where(some, observed, 1.0), tail), 0.0)
    high = gammaincinv(observed + 1, 1 - tail)
    return low / expected, high / expected


def binomial_limits(
    observed: Floats, trials: Floats, expected: Floats, conf_level: float
) -> Limits:
    """Limits of the ratio of the probability of O successes in N trials to E / N.

    By beta quantiles (Clopper & Pearson 1934).
    """
    from scipy.special import betaincinv

    tail = (1 - conf_level) / 2
    some, rest = observed > 0, observed < trials
    failures = trials - observed
    low = betaincinv(np.where(some, observed, 1.0), failures + 1, tail)
    high = betaincinv(observed + 1, np.where(rest, failures, 1.0), 1 - tail)
    scale = trials / expected
    return np.where(some, low, 0.0) * scale, np.where(rest, high, 1.0) * scale


def normal_limits(observed: Floats, expected: Floats, sd: Floats, conf_level: float) -> Limits:
    """Limits of the ratio of a sum with a known standard deviation."""
    from scipy.special import ndtri

    reach = float(ndtri(0.5 + conf_level / 2)) * sd
    return (observed - reach) / expected, (observed + reach) / expected


def moment_limits(
    observed: Floats,
    expected: Floats,
    variance: Callable[[Floats], Floats],
    conf_level: float,
) -> Limits:
    """Limits of the ratio r of a count with mean r E that is no Poisson one.

    The sum is taken as negative binomial with the sum's mean and variance, as binomial
    where the variance is smaller than the mean.

    Parameters
    ----------
    observed, expected : (q,) arrays
    variance : callable
        From ratios (q,) to the variances of the sums at these.
    """
    from scipy.special import betainc

    def at_most(count: Floats, ratio: Floats) -> Floats:
        mean = ratio * expected
        more, least = variance(ratio) - mean, 1e-12 * np.maximum(mean, 1e-300)
        size = mean * mean / np.maximum(more, least)
        wide = betainc(size, count + 1, size / (size + mean))
        trials = mean * mean / np.maximum(-more, least)
        left = np.maximum(trials - count, 1e-300)
        narrow = betainc(left, count + 1, 1 - np.minimum(mean / np.maximum(trials, 1e-300), 1.0))
        return np.where(more >= 0, wide, np.where(count < trials, narrow, 1.0))

    tail = (1 - conf_level) / 2
    start = poisson_limits(observed, expected, 1 - (1 - conf_level) / 100)
    top = np.maximum(start[1], 1.0)
    for _ in range(60):
        short = at_most(observed, top) > tail
        if not short.any():
            break
        top = np.where(short, 2 * top, top)
    zero = np.zeros_like(expected)
    high = _crossing(lambda r: at_most(observed, r) - tail, zero, top)
    below = np.maximum(observed - 1, 0.0)
    low = _crossing(lambda r: at_most(below, r) - (1 - tail), zero, top)
    return np.where(observed > 0, low, 0.0), high


def _crossing(f: Callable[[Floats], Floats], low: Floats, high: Floats) -> Floats:
    """Where a falling function crosses zero, by bisection."""
    for _ in range(70):
        middle = (low + high) / 2
        up = f(middle) > 0
        low, high = np.where(up, middle, low), np.where(up, high, middle)
    return np.asarray((low + high) / 2)
