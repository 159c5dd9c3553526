"""Shares of rejections with their Monte Carlo error, and sizes at which a power is reached."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["monotone", "share_interval", "size_reaching"]

Floats = NDArray[np.float64]

CLOSE = 1e-6


def share_interval(count: int, n: int, conf_level: float) -> tuple[float, float]:
    """Interval of a probability by Clopper and Pearson (1934, *Biometrika* 26).

    Examples
    --------
    >>> tuple(round(x, 4) for x in share_interval(80, 100, 0.95))
    (0.7082, 0.8733)
    """
    from scipy.special import betaincinv

    tail = (1.0 - conf_level) / 2.0
    low = 0.0 if count == 0 else float(betaincinv(count, n - count + 1, tail))
    high = 1.0 if count == n else float(betaincinv(count + 1, n - count, 1.0 - tail))
    return low, high


def monotone(values: Floats, weights: Floats) -> Floats:
    """The closest values that never fall, by pooling neighbours that do (isotonic regression).

    Examples
    --------
    >>> monotone(np.array([0.2, 0.5, 0.4, 0.9]), np.ones(4))
    array([0.2 , 0.45, 0.45, 0.9 ])
    """
    blocks: list[list[float]] = []
    for value, weight in zip(values.tolist(), weights.tolist(), strict=True):
        blocks.append([value, weight, 1])
        while len(blocks) > 1 and blocks[-2][0] > blocks[-1][0]:
            v, w, k = blocks.pop()
            u, x, j = blocks.pop()
            blocks.append([(u * x + v * w) / (x + w), x + w, j + k])
    return np.concatenate([np.full(int(k), v) for v, _, k in blocks])


def size_reaching(sizes: Floats, power: Floats, weights: Floats, target: float) -> float:
    """The size at which a curve of power reaches a target, NaN where it does not.

    The power of a test of Wald's kind is about Phi(c sqrt(size) - z): between sizes that were
    simulated, its normal quantile goes straight in the root of the size.

    Parameters
    ----------
    sizes : (k,) float64 array
        Ascending.
    power, weights : (k,) float64 arrays
        Weights are the numbers of simulations.
    target : float
    """
    from scipy.special import ndtri

    curve = monotone(power, weights)
    reached = np.flatnonzero(curve >= target)
    if not len(reached):
        return float("nan")
    k = int(reached[0])
    if k == 0:
        return float(sizes[0])
    low, high = (float(ndtri(np.clip(p, CLOSE, 1 - CLOSE))) for p in curve[k - 1 : k + 1])
    part = (float(ndtri(target)) - low) / (high - low)
    root = np.sqrt(sizes[k - 1]) + part * (np.sqrt(sizes[k]) - np.sqrt(sizes[k - 1]))
    return float(root**2)
