"""Profiles of the likelihood: one parameter held, everything else optimised.

Of a parameter psi with the estimate psi_hat, D(psi) is minus twice the profile
log-likelihood and zeta(psi) = sign(psi - psi_hat) sqrt(D(psi) - D(psi_hat)), which is about
standard normal at the true value (Bates & Watts 1988, *Nonlinear Regression
Analysis*, chapter 6; Pinheiro & Bates 2000, section 2.4). By the envelope theorem
D'(psi) is the partial derivative at the optimum of the rest, so each point of the grid
comes with the exact slope of zeta.

May import what `ranef.inference` may.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from ranef.solve.slices import Evaluation, Slice

__all__ = ["Curve", "trace"]

Floats = NDArray[np.float64]

STEP = 0.5
USUAL = 1.96
MARGIN = 0.02
NEAR = 0.03
LONGEST = 0.9
MOST_POINTS = 40
MOST_STEPS = 60
DECREMENT = 1e-9
ROUNDING = 4e-13
FAR = 1e7
WIDEST = 4.0


@dataclass(frozen=True, eq=False)
class Curve:
    """zeta along one parameter.

    Attributes
    ----------
    c : (m,) float64 array
        The coordinate that was held, ascending: the parameter itself, of a correlation
        its inverse sine.
    value : (m,) float64 array
        The parameter.
    zeta : (m,) float64 array
    slope : (m,) float64 array
        d zeta / d c.
    low, high : float
        Values at the ends of the range that the profile reached: the parameter's own
        bound (0, +-1) where the range ends there, infinite where zeta stays bounded.
    evaluations : int
    better : float
        How far the criterion fell below that of the fit, 0 if nowhere.
    """

    c: Floats
    value: Floats
    zeta: Floats
    slope: Floats
    low: float
    high: float
    evaluations: int
    better: float

    @cached_property
    def _slopes(self) -> Floats:
        """Slopes that keep the interpolant monotone (Fritsch & Carlson 1980)."""
        out = np.maximum(self.slope, 0.0)
        for k, secant in enumerate(np.diff(self.zeta) / np.diff(self.c)):
            length = np.hypot(out[k], out[k + 1])
            if length > 3.0 * secant:
                out[k : k + 2] *= 3.0 * max(secant, 0.0) / length
        return out

    def at(self, c: Floats) -> tuple[Floats, Floats]:
        """zeta and its slope at coordinates within the grid, by cubic Hermite splines."""
        k = np.clip(np.searchsorted(self.c, c, side="right") - 1, 0, len(self.c) - 2)
        h = self.c[k + 1] - self.c[k]
        t = (c - self.c[k]) / h
        a, b = self.zeta[k], self.zeta[k + 1]
        p, q = h * self._slopes[k], h * self._slopes[k + 1]
        cubic, square = 2 * (a - b) + p + q, 3 * (b - a) - 2 * p - q
        zeta = ((cubic * t + square) * t + p) * t + a
        return zeta, ((3 * cubic * t + 2 * square) * t + p) / h

    def solve(self, zeta: float) -> float:
        """Coordinate at which zeta has this value, NaN where the grid does not reach it."""
        if len(self.c) < 2 or not self.zeta[0] <= zeta <= self.zeta[-1]:
            return float("nan")
        k = int(np.clip(np.searchsorted(self.zeta, zeta) - 1, 0, len(self.c) - 2))
        low, high = float(self.c[k]), float(self.c[k + 1])
        for _ in range(60):
            middle = (low + high) / 2
            below = float(self.at(np.array([middle]))[0][0]) < zeta
            low, high = (middle, high) if below else (low, middle)
        return (low + high) / 2


@dataclass(frozen=True, eq=False)
class _Point:
    """A point of the profile."""

    c: float
    x: Floats
    at: Evaluation


class _Walk:
    """Follows the optimum of the rest along c."""

    def __init__(self, own: Slice) -> None:
        self.own = own
        self.evaluations = 0

    def evaluate(self, x: Floats, c: float) -> Evaluation:
        self.evaluations += 1
        return self.own.evaluate(x, c)

    def curvature(self, x: Floats, c: float) -> Floats:
        """Second derivatives (k + 1, k + 1) in (x, c), by central differences of the gradient."""
        k = len(x)
        point = np.append(x, c)
        steps = 1e-3 * np.append(self.own.units, self.own.unit)
        out = np.empty((k + 1, k + 1))
        for i, step in enumerate(steps):
            pair = []
            for sign in (1.0, -1.0):
                moved = point.copy()
                moved[i] += sign * step
                at = self.evaluate(moved[:k], moved[k])
                pair.append(np.append(at.gradient, at.slope))
            out[i] = (pair[0] - pair[1]) / (2 * step)
        return (out + out.T) / 2

    def settle(self, x: Floats, c: float, B: Floats) -> tuple[_Point, Floats]:
        """Minimise over x by BFGS from the Hessian B; return the point and the last B."""
        at = self.evaluate(x, c)
        for _ in range(MOST_STEPS):
            if not np.isfinite(at.value) or not len(x):
                break
            step = -_solved(B, at.gradient, self.own.units)
            decrement = -float(at.gradient @ step)
            if decrement <= max(DECREMENT, ROUNDING * abs(at.value)):
                break
            found = self._shorten(x, c, at, step)
            if found is None:
                break
            moved, new = found
            B = _updated(B, moved - x, new.gradient - at.gradient)
            x, at = moved, new
        return _Point(c, x, at), B

    def _shorten(
        self, x: Floats, c: float, at: Evaluation, step: Floats
    ) -> tuple[Floats, Evaluation] | None:
        """Halve a step until the criterion falls."""
        widest = float(np.max(np.abs(step) / self.own.units))
        t = min(1.0, WIDEST / widest) if widest > 0 else 1.0
        slope = float(at.gradient @ step)
        noise = ROUNDING * abs(at.value)
        for _ in range(30):
            new = self.evaluate(x + t * step, c)
            if new.value <= at.value + 1e-4 * t * slope + noise:
                return x + t * step, new
            t /= 2
        return None

    def optimum(self, x: Floats, c: float, B: Floats) -> tuple[_Point, Floats]:
        """Settle, and leave a boundary on which the criterion falls to the inside."""
        point, B = self.settle(x, c, B)
        for _ in range(3):
            if not np.isfinite(point.at.value):
                break
            inside = self.own.leave(point.x, c, point.at)
            if inside is None:
                break
            start = np.diag(np.maximum(np.abs(np.diag(B)), 1.0 / self.own.units**2))
            other, C = self.settle(inside, c, start)
            if not other.at.value < point.at.value:
                break
            point, B = other, C
        return point, B


def _solved(B: Floats, g: Floats, units: Floats) -> Floats:
    """B^-1 g with B made positive definite, in the coordinates' own units."""
    values, vectors = np.linalg.eigh(B * np.outer(units, units))
    size = np.maximum(np.abs(values), 1e-6 * max(1.0, float(np.abs(values).max())))
    return np.asarray(units * (vectors @ ((vectors.T @ (units * g)) / size)))


def _updated(B: Floats, s: Floats, y: Floats) -> Floats:
    """BFGS with Powell's damping, so that B stays positive definite."""
    Bs = B @ s
    curvature, change = float(s @ Bs), float(s @ y)
    if not curvature > 0:
        return B
    if change < 0.1 * curvature:
        part = 0.9 * curvature / (curvature - change)
        y = part * y + (1 - part) * Bs
        change = float(s @ y)
    return np.asarray(B - np.outer(Bs, Bs) / curvature + np.outer(y, y) / change)


def trace(own: Slice, reach: float) -> Curve:
    """Profile one parameter to where |zeta| passes `reach`.

    Steps are even in zeta: the next one follows from its slope. The rest starts where
    the path through the last points leads and is brought to its optimum by BFGS,
    from the exact Hessian at the estimate on.
    """
    walk = _Walk(own)
    H = walk.curvature(own.x, own.c)
    k = len(own.x)
    B = _definite(H[:k, :k], own.units)
    centre, B = walk.optimum(own.x, own.c, B)
    tangent = -_solved(B, H[:k, k], own.units) if k else np.zeros(0)
    bend = float(H[k, k] + H[:k, k] @ tangent)
    side = _Side(walk, centre, B, tangent, max(bend, 0.0), reach)
    up, high = side.go(1)
    down, low = side.go(-1)
    points = [*reversed(down), centre, *up]
    ends = (low, high)
    for wanted in (-reach, -USUAL, USUAL, reach):
        if abs(wanted) <= reach:
            curve = _curve(own, points, centre, ends, bend, walk.evaluations)
            points = _refined(walk, curve, points, wanted, B)
    return _curve(own, points, centre, ends, bend, walk.evaluations)


def _refined(
    walk: _Walk, curve: Curve, points: list[_Point], zeta: float, B: Floats
) -> list[_Point]:
    """Add a point where the curve has this zeta, unless one is near."""
    c = curve.solve(zeta)
    if np.isnan(c) or float(np.min(np.abs(curve.zeta - zeta))) < NEAR:
        return points
    k = int(np.searchsorted(curve.c, c))
    before, after = points[k - 1], points[k]
    share = (c - before.c) / (after.c - before.c)
    x = before.x + share * (after.x - before.x)
    point, _ = walk.optimum(x, c, B)
    return [*points[:k], point, *points[k:]] if np.isfinite(point.at.value) else points


def _definite(H: Floats, units: Floats) -> Floats:
    """H with its eigenvalues made positive, in the coordinates' own units."""
    if not len(H):
        return H
    values, vectors = np.linalg.eigh(H * np.outer(units, units))
    size = np.maximum(np.abs(values), 1e-6 * max(1.0, float(np.abs(values).max())))
    return np.asarray((vectors * size) @ vectors.T / np.outer(units, units))


@dataclass(frozen=True, eq=False)
class _Side:
    """What both sides of a profile start from."""

    walk: _Walk
    centre: _Point
    B: Floats
    tangent: Floats
    bend: float
    reach: float

    @cached_property
    def targets(self) -> Floats:
        """Where points are wanted: close to the usual level, and just beyond the last."""
        last = self.reach + MARGIN
        parts = [USUAL, last] if last > USUAL + STEP / 2 else [last]
        out = [0.0]
        for part in parts:
            count = int(np.ceil((part - out[-1]) / STEP - 1e-9))
            out += np.linspace(out[-1], part, count + 1)[1:].tolist()
        return np.array(out)

    def go(self, sign: int) -> tuple[list[_Point], float]:
        """Return the points beyond the estimate, and where the parameter's range ends."""
        own = self.walk.own
        end = own.ends[1] if sign > 0 else own.ends[0]
        near = 1e-8 * own.unit
        points, B = [self.centre], self.B
        zetas, rates = [0.0], [np.sqrt(self.bend / 2)]
        step = self._first()
        for _ in range(MOST_POINTS):
            last = points[-1]
            if abs(end - last.c) <= near:
                return points[1:], self._end(sign, end)
            if zetas[-1] >= self.reach:
                return points[1:], self._beyond(sign)
            found = None
            while found is None:
                c = last.c + sign * step
                if sign * (c - end) >= 0 or abs(end - c) < 0.1 * abs(end - last.c):
                    c = end
                x = self._predicted(points, c)
                point, C = self.walk.optimum(x, c, B)
                zeta = self._zeta(point)
                usable = np.isfinite(point.at.value) and zeta <= zetas[-1] + LONGEST
                if usable or step < 1e-10 * own.unit:
                    found = point
                else:
                    step = 0.5 * abs(c - last.c)
            if not np.isfinite(found.at.value):
                return points[1:], self._beyond(sign)
            points.append(found)
            B = C
            zetas.append(zeta)
            rates.append(sign * found.at.slope / (2 * zeta) if zeta > 1e-3 else rates[-1])
            step = self._next(points, zetas, rates)
            if abs(found.c - self.centre.c) > FAR * own.unit:
                break
        return points[1:], self._end(sign, sign * np.inf)

    def _first(self) -> float:
        rate = np.sqrt(self.bend / 2)
        own = self.walk.own
        return float(np.clip(STEP / rate if rate > 0 else np.inf, 1e-3 * own.unit, 20 * own.unit))

    def _next(self, points: list[_Point], zetas: list[float], rates: list[float]) -> float:
        """Solve zeta + rate s + change s^2 / 2 = next, at most thrice the last step."""
        done = abs(points[-1].c - points[-2].c)
        ahead = self.targets[self.targets > zetas[-1] + 0.3 * STEP]
        wanted = (float(ahead[0]) if len(ahead) else self.targets[-1]) - zetas[-1]
        wanted = max(wanted, 0.1 * STEP)
        rate, change = rates[-1], (rates[-1] - rates[-2]) / done
        if not rate > 0:
            return 2.0 * done
        root = rate**2 + 2 * change * wanted
        step = 2 * wanted / (rate + np.sqrt(root)) if root > 0 else 2 * wanted / rate
        return float(np.clip(step, 0.05 * done, 3.0 * done))

    def _predicted(self, points: list[_Point], c: float) -> Floats:
        """Continue the path of x: along the tangent, then by the last three points."""
        last = points[-1]
        if len(points) == 1:
            return last.x + self.tangent * (c - last.c)
        recent = points[-3:]
        if len(points) == 2:
            # the parabola through both points with the tangent in the first
            first = points[0]
            d, h = c - first.c, last.c - first.c
            return np.asarray(
                first.x + self.tangent * d + (last.x - first.x - self.tangent * h) * (d / h) ** 2
            )
        out = np.zeros_like(last.x)
        for i, p in enumerate(recent):
            others = [q.c for k, q in enumerate(recent) if k != i]
            weight = np.prod([(c - o) / (p.c - o) for o in others])
            out += weight * p.x
        return out

    def _zeta(self, point: _Point) -> float:
        return float(np.sqrt(max(point.at.value - self.centre.at.value, 0.0)))

    def _end(self, sign: int, end: float) -> float:
        """Return the value at the end of the range."""
        own = self.walk.own
        return own.value(end) if np.isfinite(end) else sign * np.inf

    def _beyond(self, sign: int) -> float:
        """Return the bound of a profile that ended before its range did: there is none."""
        return float("nan")


def _curve(
    own: Slice,
    points: list[_Point],
    centre: _Point,
    ends: tuple[float, float],
    bend: float,
    evaluations: int,
) -> Curve:
    """Turn points into zeta and its slope."""
    c = np.array([p.c for p in points])
    D = np.array([p.at.value for p in points])
    here, lowest = next(k for k, p in enumerate(points) if p is centre), float(D.min())
    better = max(float(D[here]) - lowest, 0.0)
    rise = np.maximum(D - D[here], 0.0)
    sign = np.where(np.arange(len(c)) < here, -1.0, 1.0)
    zeta = sign * np.sqrt(rise)
    slope = np.array([p.at.slope for p in points])
    with np.errstate(divide="ignore", invalid="ignore"):
        rate = np.where(np.abs(zeta) > 1e-3, slope / (2.0 * zeta), np.sqrt(max(bend, 0.0) / 2.0))
    rate[here] = np.sqrt(max(bend, 0.0) / 2.0)
    value = np.array([own.value(x) for x in c])
    return Curve(c, value, zeta, rate, ends[0], ends[1], evaluations, better)
