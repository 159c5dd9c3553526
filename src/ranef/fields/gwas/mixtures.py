"""Tails of quadratic forms in normal variables, to relative accuracy however small they are.

P(Q > q) of Q = sum l_k (z_k + m_k)^2 is an integral of exp(K(s) - s q) / s along a line right of
zero, K the cumulant generating function. The line goes through the saddlepoint (Helstrom 1996),
so that the size of the tail stands in front of the integral, and bends to the right, where the
integrand falls as a Gaussian: the trapezoidal rule converges geometrically (Weideman &
Trefethen 2007). Arrays in, numbers out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["log10_tail", "log_tail"]

Floats = NDArray[np.float64]
Complex = NDArray[Any]

FIRST_POINTS, MOST_POINTS = 32, 65536
RELATIVE = 1e-11
NEGLIGIBLE = 1e-14
FARTHEST = 60.0


def log10_tail(
    q: float, weights: Floats, shifts: Floats | None = None, counts: Floats | None = None
) -> float:
    """Return log10 P(sum weights (z + shifts)^2 > q), z standard normal.

    Parameters
    ----------
    q : float
    weights : (k,) array
        Of either sign.
    shifts : (k,) array, optional
        Means of z; none by default.
    counts : (k,) array, optional
        How often each weight (without a shift) stands; once by default.

    Examples
    --------
    >>> round(log10_tail(3.841458820694124, np.array([1.0])), 9)
    -1.301029996
    >>> round(log10_tail(2000.0, np.array([1.0, 1.0])), 4)
    -434.2945
    """
    return float(log_tail(q, weights, shifts, counts) / np.log(10.0))


def log_tail(
    q: float, weights: Floats, shifts: Floats | None = None, counts: Floats | None = None
) -> float:
    """Return the natural logarithm of the tail; see `log10_tail`."""
    weights = np.asarray(weights, dtype=np.float64)
    squares = np.zeros(len(weights)) if shifts is None else np.asarray(shifts, np.float64) ** 2
    times = np.ones(len(weights)) if counts is None else np.asarray(counts, np.float64)
    largest = float(np.abs(weights).max(initial=0.0))
    if largest == 0.0:
        return 0.0 if q < 0 else -np.inf
    keep = np.abs(weights) > NEGLIGIBLE * largest
    form = _Form(weights[keep] / largest, squares[keep], times[keep], q / largest)
    if form.w.max() <= 0 and q >= 0:
        return -np.inf
    if form.w.min() >= 0 and q <= 0:
        return 0.0
    if form.w.max() <= 0:  # Q is below zero everywhere: 1 - P(-Q > -q)
        other = _Form(-form.w, form.squares, form.times, -form.q).log_tail()
        return float(np.log1p(-np.exp(min(other, -1e-300))))
    return form.log_tail()


@dataclass(frozen=True, eq=False)
class _Form:
    """A quadratic form and a point: weights, squared means, multiplicities, (k,) each."""

    w: Floats
    squares: Floats
    times: Floats
    q: float

    def exponent(self, s: Complex) -> Complex:
        """K(s) - s q - log s."""
        room = 1.0 - 2.0 * np.multiply.outer(s, self.w)
        K = -0.5 * (np.log(room) @ self.times)
        if self.squares.any():
            K = K + (np.multiply.outer(s, self.w * self.squares) / room).sum(axis=-1)
        return np.asarray(K - s * self.q - np.log(s))

    def saddle(self) -> tuple[float, float]:
        """The minimum of the exponent between 0 and the first singularity; its curvature."""
        w, times, squares = self.w, self.times, self.squares
        top = 0.5 / float(w.max())
        low, high, s = 0.0, top, 0.5 * top
        bend = 1.0
        for _ in range(200):
            room = 1.0 - 2.0 * s * w
            slope = float((w / room) @ times + (w * squares / room**2).sum()) - self.q - 1.0 / s
            bend = float(2.0 * (w / room) ** 2 @ times + (4.0 * w**2 * squares / room**3).sum())
            bend += 1.0 / s**2
            if slope < 0:
                low = s
            else:
                high = s
            new = s - slope / bend
            if not low < new < high:
                new = 0.5 * (low + high)
            if abs(new - s) <= 1e-12 * s:
                return new, bend
            s = new
        return s, bend

    def curve(self, s: float) -> float:
        """How much the line bends: no point may come nearer to a pole of a shift than s is."""
        if self.q <= 0:
            return 0.0
        poles = self.w[(self.w > 0) & (self.squares > 0)]
        bent = 0.25 / max(s, 1e-300)
        return min(bent, 0.5 / (0.5 / float(poles.min()) - s)) if len(poles) else bent

    def log_tail(self) -> float:
        """The integral along the bent line."""
        s, bend = self.saddle()
        width = 1.0 / np.sqrt(bend)
        curve = self.curve(s)
        front = float(np.real(self.exponent(np.array([s + 0j])))[0])

        def integrand(u: Floats) -> Floats:
            y = width * np.sinh(u)
            line = s + curve * y * y + 1j * y
            slope = (2.0 * curve * y + 1j) * width * np.cosh(u)
            value = np.exp(self.exponent(line) - front) * slope / 1j
            return np.asarray(np.real(value) / np.pi)

        reach = 1.0
        while reach < FARTHEST and np.abs(integrand(np.array([reach, reach + 0.3]))).max() > 1e-17:
            reach += 0.5
        points, last, total = FIRST_POINTS, np.nan, np.nan
        while points <= MOST_POINTS:
            u = np.linspace(0.0, reach, points + 1)
            values = integrand(u)
            total = float((values.sum() - 0.5 * (values[0] + values[-1])) * (u[1] - u[0]))
            if abs(total - last) <= RELATIVE * abs(total):
                break
            points, last = 2 * points, total
        return float(min(front + np.log(max(total, 1e-300)), 0.0))
