"""Tails of F and chi-squared on the log scale, finite where the probability itself is zero."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["log10_chi2_tail", "log10_f2_tail", "log10_f_tail"]

Floats = NDArray[np.float64]
LN10 = np.log(10.0)
SMALL = 1e-280
MOST_TERMS = 500
FRACTIONS = 60


def log10_f_tail(f: Floats, df: float | Floats) -> Floats:
    """Return log10 P(F > f) of F(1, df), (m,); df a number, or one each.

    P(F > f) = I_x(df/2, 1/2) with x = df / (df + f), the incomplete beta function. Below what a
    double holds it is x^a (1 - x)^b / (a B(a, b)) times a hypergeometric series in x, whose terms
    are all positive (DLMF 8.17.8).

    Examples
    --------
    >>> log10_f_tail(np.array([0.0, 10.0, 1e6]), 100.0).round(4).tolist()
    [0.0, -2.6834, -201.1013]
    """
    from scipy.special import stdtr

    f = np.asarray(f, dtype=np.float64)
    x = df / (df + f)
    p = 2.0 * stdtr(df, -np.sqrt(f))
    with np.errstate(divide="ignore"):
        out = np.log10(p)
    far = (p < SMALL) & np.isfinite(f)
    if far.any():
        a = 0.5 * np.broadcast_to(df, f.shape)[far]
        out[far] = _log_beta_tail(x[far], (f / (df + f))[far], a) / LN10
    out[np.isnan(f)] = np.nan
    return np.asarray(out)


def _log_beta_tail(x: Floats, y: Floats, a: Floats) -> Floats:
    """Log I_x(a, 1/2) for y = 1 - x."""
    from scipy.special import betaln

    b, term, total = 0.5, np.ones_like(x), np.ones_like(x)
    for k in range(MOST_TERMS):
        term = term * x * (a + b + k) / (a + 1.0 + k)
        total += term
        if (term < 1e-17 * total).all():
            break
    with np.errstate(divide="ignore"):
        log: Floats = a * np.log(x) + b * np.log(y) - np.log(a) - betaln(a, b) + np.log(total)
    return log


def log10_f2_tail(f: Floats, df: float | Floats) -> Floats:
    """Return log10 P(F > f) of F(2, df), (m,): (1 + 2 f / df)^(-df / 2).

    Examples
    --------
    >>> log10_f2_tail(np.array([0.0, 3.0]), 100.0).round(4).tolist()
    [-0.0, -1.2653]
    """
    return np.asarray(-0.5 * df * np.log1p(2.0 * np.maximum(f, 0.0) / df) / LN10)


def log10_chi2_tail(x: Floats, df: float = 1.0) -> Floats:
    """Return log10 P(chi-squared > x), (m,).

    With more than one degree of freedom and below what a double holds it is a continued fraction
    of the incomplete gamma function (DLMF 8.9.2).

    Examples
    --------
    >>> log10_chi2_tail(np.array([0.0, 3.841458820694124, 1e4])).round(4).tolist()
    [0.0, -1.301, -2173.5705]
    >>> log10_chi2_tail(np.array([0.0, 1e4]), 2.0).round(4).tolist()
    [0.0, -2171.4724]
    """
    from scipy.special import gammaincc, gammaln, log_ndtr

    x = np.asarray(x, dtype=np.float64)
    if df != 1.0:
        a, half = 0.5 * df, 0.5 * np.maximum(x, 0.0)
        p = gammaincc(a, half)
        with np.errstate(divide="ignore"):
            out = np.log10(p)
        far = (p < SMALL) & np.isfinite(half)
        if far.any():
            h = half[far]
            fraction = h + 2.0 * FRACTIONS + 1.0 - a
            for k in range(FRACTIONS, 0, -1):
                fraction = h + 2.0 * k - 1.0 - a - k * (k - a) / fraction
            out[far] = (a * np.log(h) - h - gammaln(a) - np.log(fraction)) / LN10
        return np.asarray(np.minimum(out, 0.0))
    log: Floats = (np.log(2.0) + log_ndtr(-np.sqrt(x))) / LN10
    return np.minimum(log, 0.0)
