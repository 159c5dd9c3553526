"""The studentised range: the largest difference of k standardised normal means.

By the trapezoidal rule in both integrals, which converges geometrically for these
analytic integrands; the upper tail is integrated itself, so that small probabilities
keep their relative accuracy. k need not be whole.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["range_quantile", "range_tail"]

Floats = NDArray[np.float64]

REACH = 9.0
STEP = 0.125
NEGLIGIBLE = 70.0
CHUNK = 2_000_000


def range_tail(q: Floats, k: float, df: float) -> Floats:
    """Return P(Q > q) of the studentised range of k means with df degrees of freedom.

        P(Q > q) = int f(s) k int phi(z) {Phi(z)^(k-1) - [Phi(z) - Phi(z - q s)]^(k-1)} dz ds

    with s^2 ~ chi^2_df / df (Hochberg & Tamhane 1987, Multiple Comparison Procedures,
    appendix 1).

    Parameters
    ----------
    q : (m,) float64 array
        NaN stays NaN.
    k : float
        Two or more.
    df : float
        May be infinite.

    Examples
    --------
    >>> range_tail(np.array([3.0]), 2.0, np.inf).round(6)  # 2 P(Z > 3 / sqrt(2))
    array([0.033895])
    >>> range_tail(np.array([3.5]), 3.0, 10.0).round(6)
    array([0.077103])
    """
    q = np.asarray(q, dtype=np.float64)
    s, weight = _scales(df)
    out = np.full(q.shape, np.nan)
    finite = np.isfinite(q)
    w = np.maximum(q[finite], 0.0)
    rows = max(1, CHUNK // max(1, len(s) * 300))
    pieces = [_normal_tail(w[i : i + rows, None] * s, k) @ weight for i in range(0, len(w), rows)]
    out[finite] = np.concatenate(pieces) if pieces else w
    out[q == np.inf] = 0.0
    return np.asarray(np.clip(out, 0.0, 1.0))


def range_quantile(conf_level: float, k: float, df: float) -> float:
    """Return the value that the studentised range exceeds with probability 1 - conf_level.

    Examples
    --------
    >>> round(range_quantile(0.95, 4.0, 24.0), 4)
    3.9013
    """
    from scipy.optimize import brentq
    from scipy.special import ndtri, stdtrit

    alpha = 1.0 - conf_level
    pairs = max(k * (k - 1) / 2, 1.0)

    def reach(tail: float) -> float:
        upper = -ndtri(tail) if np.isinf(df) else -stdtrit(df, tail)
        return float(np.sqrt(2.0) * upper)

    low, high = reach(alpha / 2) * (1 - 1e-9), reach(alpha / (2 * pairs)) * (1 + 1e-9)

    def gap(q: float) -> float:
        return float(range_tail(np.array([q]), k, df)[0]) - alpha

    return float(brentq(gap, low, high, xtol=1e-12, rtol=1e-12))


def _normal_tail(w: Floats, k: float) -> Floats:
    """P(range > w) of k standard normal values, for each entry of w."""
    from scipy.special import log_ndtr

    top = float(w.max(initial=0.0))
    z = np.arange(-REACH, REACH + min(top, 40.0) + STEP, STEP)
    density = np.exp(-0.5 * z * z) * (k * STEP / np.sqrt(2 * np.pi))
    lower = log_ndtr(z)
    ratio = np.exp(np.minimum(log_ndtr(z - w[..., None]) - lower, 0.0))
    with np.errstate(divide="ignore"):
        gap = -np.expm1((k - 1) * np.log1p(-ratio))
    return np.asarray(np.sum(density * np.exp((k - 1) * lower) * gap, axis=-1))


def _scales(df: float) -> tuple[Floats, Floats]:
    """Nodes and weights of s = sqrt(chi^2_df / df), over its logarithm u.

    The density of u is proportional to exp(df u - df exp(2 u) / 2).
    """
    if np.isinf(df):
        return np.ones(1), np.ones(1)
    step = min(0.06, 0.4 / np.sqrt(2 * df))

    def drop(u: Floats) -> Floats:
        return np.asarray(df * (u - np.expm1(2 * u) / 2))

    low = -step * np.arange(1, 1 + int(np.ceil((NEGLIGIBLE / df + 8 / np.sqrt(df) + 1) / step)))
    high = step * np.arange(0, 1 + int(np.ceil((8 / np.sqrt(df) + 3) / step)))
    u = np.concatenate([low[::-1], high])
    logs = drop(u)
    kept = logs > -NEGLIGIBLE
    weight = np.exp(logs[kept])
    return np.exp(u[kept]), weight / weight.sum()
