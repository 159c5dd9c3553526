"""Effect sizes and their sampling variances, from the numbers that studies report.

Formulas as in Borenstein et al. (2009), Introduction to Meta-Analysis, and the papers named; the
variances are those of large samples. All arguments are (n,) arrays, NaN where not reported.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["MEASURES", "Measure"]

Floats = NDArray[np.float64]
Effects = tuple[Floats, Floats]


@dataclass(frozen=True)
class Measure:
    """A kind of effect size.

    Attributes
    ----------
    words : str
    needs : tuple of str
        Arguments of `compute`, in order.
    kinds : tuple of str
        What each holds: ``"count"``, ``"size"``, ``"sd"``, ``"mean"``, ``"correlation"``,
        ``"time"``.
    compute : callable
        Effects and sampling variances from the arguments.
    cells : tuple of str
        Counts that 1/2 is added to where one of a study is zero.
    """

    words: str
    needs: tuple[str, ...]
    kinds: tuple[str, ...]
    compute: Callable[..., Effects]
    cells: tuple[str, ...] = ()


# --- two proportions: a of a + b against c of c + d


def _log_risk_ratio(a: Floats, b: Floats, c: Floats, d: Floats) -> Effects:
    n1, n2 = a + b, c + d
    return np.log(a / n1) - np.log(c / n2), 1 / a - 1 / n1 + 1 / c - 1 / n2


def _log_odds_ratio(a: Floats, b: Floats, c: Floats, d: Floats) -> Effects:
    return np.log(a) + np.log(d) - np.log(b) - np.log(c), 1 / a + 1 / b + 1 / c + 1 / d


def _risk_difference(a: Floats, b: Floats, c: Floats, d: Floats) -> Effects:
    n1, n2 = a + b, c + d
    p1, p2 = a / n1, c / n2
    return p1 - p2, p1 * (1 - p1) / n1 + p2 * (1 - p2) / n2


def _arcsine_difference(a: Floats, b: Floats, c: Floats, d: Floats) -> Effects:
    n1, n2 = a + b, c + d
    return np.arcsin(np.sqrt(a / n1)) - np.arcsin(np.sqrt(c / n2)), 1 / (4 * n1) + 1 / (4 * n2)


def _peto(a: Floats, b: Floats, c: Floats, d: Floats) -> Effects:
    """Log odds ratio by observed minus expected (Yusuf et al. 1985)."""
    n1, n2 = a + b, c + d
    n, events = n1 + n2, a + c
    variance = events * (b + d) * (n1 / n) * (n2 / n) / (n - 1)
    return (a - events * n1 / n) / variance, 1 / variance


# --- two means


def _unbiased(m: Floats) -> Floats:
    """Hedges' (1981) factor for m degrees of freedom: Gamma(m/2) / (sqrt(m/2) Gamma((m-1)/2))."""
    from scipy.special import gammaln

    with np.errstate(invalid="ignore", divide="ignore"):
        log = gammaln(m / 2) - 0.5 * np.log(m / 2) - gammaln((m - 1) / 2)
        return np.where(m > 1, np.exp(log), np.nan)


def _mean_difference(
    m1: Floats, sd1: Floats, n1: Floats, m2: Floats, sd2: Floats, n2: Floats
) -> Effects:
    return m1 - m2, sd1**2 / n1 + sd2**2 / n2


def _standardised_difference(
    m1: Floats, sd1: Floats, n1: Floats, m2: Floats, sd2: Floats, n2: Floats
) -> Effects:
    """Hedges' g."""
    m = n1 + n2 - 2
    pooled = np.sqrt(((n1 - 1) * sd1**2 + (n2 - 1) * sd2**2) / m)
    g = _unbiased(m) * (m1 - m2) / pooled
    return g, 1 / n1 + 1 / n2 + g**2 / (2 * (n1 + n2))


def _heteroscedastic_difference(
    m1: Floats, sd1: Floats, n1: Floats, m2: Floats, sd2: Floats, n2: Floats
) -> Effects:
    """Standardised by the root of the mean variance (Bonett 2008), with Hedges' factor."""
    s2, factor = (sd1**2 + sd2**2) / 2, _unbiased(n1 + n2 - 2)
    g = factor * (m1 - m2) / np.sqrt(s2)
    spread = g**2 * (sd1**4 / (n1 - 1) + sd2**4 / (n2 - 1)) / (8 * s2**2)
    return g, factor**2 * (spread + (sd1**2 / (n1 - 1) + sd2**2 / (n2 - 1)) / s2)


def _log_ratio_of_means(
    m1: Floats, sd1: Floats, n1: Floats, m2: Floats, sd2: Floats, n2: Floats
) -> Effects:
    return np.log(m1 / m2), sd1**2 / (n1 * m1**2) + sd2**2 / (n2 * m2**2)


def _log_variation_ratio(
    m1: Floats, sd1: Floats, n1: Floats, m2: Floats, sd2: Floats, n2: Floats
) -> Effects:
    """Log ratio of coefficients of variation (Nakagawa et al. 2015)."""
    first, second = 1 / (2 * (n1 - 1)), 1 / (2 * (n2 - 1))
    effect = np.log(sd1 / m1) + first - np.log(sd2 / m2) - second
    return effect, first + sd1**2 / (n1 * m1**2) + second + sd2**2 / (n2 * m2**2)


def _log_sd_ratio(sd1: Floats, n1: Floats, sd2: Floats, n2: Floats) -> Effects:
    """Log ratio of standard deviations (Nakagawa et al. 2015)."""
    first, second = 1 / (2 * (n1 - 1)), 1 / (2 * (n2 - 1))
    return np.log(sd1 / sd2) + first - second, first + second


# --- one group


def _correlation(r: Floats, n: Floats) -> Effects:
    """A correlation; two persons always have one of -1 or 1, so that there is no variance."""
    return r, np.where(n > 2, (1 - r**2) ** 2 / (n - 1), np.nan)


def _fisher(r: Floats, n: Floats) -> Effects:
    """Fisher's z, whose variance takes more than three persons."""
    return np.arctanh(r), np.where(n > 3, 1 / (n - 3), np.nan)


def _proportion(x: Floats, n: Floats) -> Effects:
    p = x / n
    return p, p * (1 - p) / n


def _log_odds(x: Floats, n: Floats) -> Effects:
    return np.log(x / (n - x)), 1 / x + 1 / (n - x)


def _arcsine(x: Floats, n: Floats) -> Effects:
    return np.arcsin(np.sqrt(x / n)), 1 / (4 * n)


def _freeman_tukey(x: Floats, n: Floats) -> Effects:
    """Double arcsine (Freeman & Tukey 1950)."""
    low, high = np.arcsin(np.sqrt(x / (n + 1))), np.arcsin(np.sqrt((x + 1) / (n + 1)))
    return (low + high) / 2, 1 / (4 * n + 2)


def _log_rate_ratio(x1: Floats, t1: Floats, x2: Floats, t2: Floats) -> Effects:
    return np.log(x1 / t1) - np.log(x2 / t2), 1 / x1 + 1 / x2


# --- the same persons twice


def _mean_change(m1: Floats, m2: Floats, sd1: Floats, sd2: Floats, n: Floats, r: Floats) -> Effects:
    return m1 - m2, (sd1**2 + sd2**2 - 2 * r * sd1 * sd2) / n


def _standardised_change(m1: Floats, m2: Floats, sd1: Floats, n: Floats, r: Floats) -> Effects:
    """Standardised by the first standard deviation (Becker 1988)."""
    g = _unbiased(n - 1) * (m1 - m2) / sd1
    return g, 2 * (1 - r) / n + g**2 / (2 * n)


TABLE = ("ai", "bi", "ci", "di")
COUNTS = ("count",) * 4
MEANS = ("m1i", "sd1i", "n1i", "m2i", "sd2i", "n2i")
MEAN_KINDS = ("mean", "sd", "size") * 2
SHARE, SHARE_KINDS = ("xi", "ni"), ("count", "size")
RATES, RATE_KINDS = ("x1i", "t1i", "x2i", "t2i"), ("count", "time") * 2
LINKED, LINKED_KINDS = ("ri", "ni"), ("correlation", "size")

MEASURES: Mapping[str, Measure] = {
    "RR": Measure("log risk ratio", TABLE, COUNTS, _log_risk_ratio, TABLE),
    "OR": Measure("log odds ratio", TABLE, COUNTS, _log_odds_ratio, TABLE),
    "RD": Measure("risk difference", TABLE, COUNTS, _risk_difference, TABLE),
    "AS": Measure("difference of arcsines", TABLE, COUNTS, _arcsine_difference),
    "PETO": Measure("log odds ratio by Peto's method", TABLE, COUNTS, _peto, TABLE),
    "MD": Measure("difference of means", MEANS, MEAN_KINDS, _mean_difference),
    "SMD": Measure("standardised difference of means", MEANS, MEAN_KINDS, _standardised_difference),
    "SMDH": Measure(
        "difference of means, standardised by both variances", MEANS, MEAN_KINDS,
        _heteroscedastic_difference,
    ),
    "ROM": Measure("log ratio of means", MEANS, MEAN_KINDS, _log_ratio_of_means),
    "CVR": Measure(
        "log ratio of coefficients of variation", MEANS, MEAN_KINDS, _log_variation_ratio
    ),
    "VR": Measure(
        "log ratio of standard deviations", ("sd1i", "n1i", "sd2i", "n2i"), ("sd", "size") * 2,
        _log_sd_ratio,
    ),
    "COR": Measure("correlation", LINKED, LINKED_KINDS, _correlation),
    "ZCOR": Measure("Fisher's z of a correlation", LINKED, LINKED_KINDS, _fisher),
    "PR": Measure("proportion", SHARE, SHARE_KINDS, _proportion, SHARE),
    "PLO": Measure("log odds", SHARE, SHARE_KINDS, _log_odds, SHARE),
    "PAS": Measure("arcsine of a proportion", SHARE, SHARE_KINDS, _arcsine),
    "PFT": Measure("double arcsine of a proportion", SHARE, SHARE_KINDS, _freeman_tukey),
    "IRR": Measure("log ratio of rates", RATES, RATE_KINDS, _log_rate_ratio, ("x1i", "x2i")),
    "MC": Measure(
        "mean change", ("m1i", "m2i", "sd1i", "sd2i", "ni", "ri"),
        ("mean", "mean", "sd", "sd", "size", "correlation"), _mean_change,
    ),
    "SMCR": Measure(
        "mean change, standardised by the first standard deviation",
        ("m1i", "m2i", "sd1i", "ni", "ri"), ("mean", "mean", "sd", "size", "correlation"),
        _standardised_change,
    ),
}  # fmt: skip
