"""Importance weights, the largest smoothed by a generalised Pareto distribution.

Vehtari, Simpson, Gelman, Yao & Gabry (2024, J. Mach. Learn. Res. 25).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["LARGEST", "pareto_smoothed"]

Floats = NDArray[np.float64]

LARGEST = 0.7
"""Of the shape: above it a mean of so weighted draws converges too slowly."""


def pareto_smoothed(log_weights: Floats) -> tuple[Floats, float]:
    """Log weights with the largest replaced by Pareto quantiles, and the shape k."""
    n = len(log_weights)
    m = min(n // 5, int(np.ceil(3 * np.sqrt(n))))
    order = np.argsort(log_weights)
    top = float(log_weights[order[-1]])
    cut = float(log_weights[order[-m - 1]])
    tail = np.exp(log_weights[order[-m:]] - top) - np.exp(cut - top)
    if tail[-1] <= 0 or np.ptp(tail) < 1e-12:
        return log_weights, -np.inf
    k, scale = _generalised_pareto(tail)
    p = (np.arange(1, m + 1) - 0.5) / m
    quantiles = -scale * np.log1p(-p) if abs(k) < 1e-12 else scale * np.expm1(-k * np.log1p(-p)) / k
    out = log_weights.copy()
    out[order[-m:]] = np.minimum(np.log(quantiles + np.exp(cut - top)) + top, top)
    return out, k


def _generalised_pareto(x: Floats) -> tuple[float, float]:
    """Shape and scale by the quasi-Bayesian estimator of Zhang & Stephens (2009, Technometrics 51).

    The shape is drawn a little towards 0.5, as with few draws it should be.
    """
    n = len(x)
    x = np.maximum(np.sort(x), 1e-300)
    m = 30 + int(np.sqrt(n))
    j = np.arange(1, m + 1)
    theta = 1 / x[-1] + (1 - np.sqrt(m / (j - 0.5))) / (3 * x[int(n / 4 + 0.5) - 1])
    k = np.array([np.mean(np.log1p(-t * x)) for t in theta])
    loglik = n * (np.log(-theta / k) - k - 1)
    weights = 1 / np.array([np.sum(np.exp(loglik - own)) for own in loglik])
    best = float(np.sum(theta * weights))
    shape = float(np.mean(np.log1p(-best * x)))
    scale = -shape / best
    return (n * shape + 5.0) / (n + 10.0), scale
