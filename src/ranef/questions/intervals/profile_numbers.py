"""Profiles of the likelihood: one parameter held, everything else optimised.

Of a parameter psi with the estimate psi_hat, D(psi) is minus twice the profile
log-likelihood and zeta(psi) = sign(psi - psi_hat) sqrt(D(psi) - D(psi_hat)), which is about
standard normal at the true value (Bates & Watts 1988, *Nonlinear Regression
Analysis*, chapter 6; Pinheiro & Bates 2000, section 2.4). By the envelope theorem
D'(psi) is the partial derivative at the optimum of the rest, so each point of the grid
comes with the exact slope of zeta.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from math import isfinite, isnan, prod, sqrt
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ranef.derivatives.profiled import Evaluation, Slice
from ranef.inference.coefficients.parameter_list import ModelParameter, model_parameters
from ranef.inference.coefficients.wald import quantile
from ranef.inference.protocol import Inference
from ranef.solve.charts import Reading
from ranef.solve.resources import available_cores, in_threads

__all__ = ["Curve", "calibrated_reach", "companions", "normal_reach", "profile", "trace"]

Floats = NDArray[np.float64]

STEP = 0.5
USUAL = 1.96
MARGIN = 0.02
NEAR = 0.03
LONGEST = 0.9
MOST_POINTS = 40
MOST_STEPS = 60
REMEMBERED = 4
DECREMENT = 1e-6
ROUNDING = 4e-13
FAR = 1e7
WIDEST = 4.0
WORTH_THREADS = 2000
NO_BOUND = float("nan")
"""The bound of a profile that ended before its range did."""


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
    reading : Reading
        The parameter for a coordinate.
    evaluations : int
    better : float
        How far the criterion fell below that of the fit, 0 if nowhere.
    limits : pair of float
        Coordinates where the parameter's own range ends.
    bounds : pair of float
        Its values there.
    """

    c: Floats
    value: Floats
    zeta: Floats
    slope: Floats
    low: float
    high: float
    reading: Reading
    evaluations: int
    better: float
    limits: tuple[float, float] = (-np.inf, np.inf)
    bounds: tuple[float, float] = (-np.inf, np.inf)

    @property
    def slope_at_estimate(self) -> float:
        """Slope of zeta in c where it is zero."""
        return float(self.slope[np.argmin(np.abs(self.zeta))])

    @cached_property
    def _slopes(self) -> Floats:
        """Slopes that keep the interpolant monotone (Fritsch & Carlson 1980)."""
        out = np.maximum(self.slope, 0.0)
        for k, secant in enumerate(np.diff(self.zeta) / np.diff(self.c)):
            length = float(np.hypot(out[k], out[k + 1]))
            if length > 3.0 * secant:
                out[k : k + 2] *= 3.0 * max(float(secant), 0.0) / length if length > 0 else 0.0
        return out

    def at(self, c: Floats) -> tuple[Floats, Floats]:
        """Return zeta and its slope at coordinates within the grid, by cubic Hermite splines."""
        k = np.clip(np.searchsorted(self.c, c, side="right") - 1, 0, len(self.c) - 2)
        h, cubic, square, p, a = self._piece(k)
        t = (c - self.c[k]) / h
        zeta = ((cubic * t + square) * t + p) * t + a
        return zeta, ((3 * cubic * t + 2 * square) * t + p) / h

    def _piece(self, k: Any) -> tuple[Any, ...]:
        """Width and coefficients, of the third power first, of pieces of the spline."""
        h = self.c[k + 1] - self.c[k]
        a, b = self.zeta[k], self.zeta[k + 1]
        p, q = h * self._slopes[k], h * self._slopes[k + 1]
        return h, 2 * (a - b) + p + q, 3 * (b - a) - 2 * p - q, p, a

    def interval(self, reach: float) -> tuple[float, float]:
        """Values between which abs(zeta) is below `reach`, a normal quantile.

        The end of the parameter's range where zeta does not reach it; infinite where
        it would not, however far the parameter went.
        """
        low, high = self.solve(-reach), self.solve(reach)
        return (
            self.low if np.isnan(low) else self.reading(low),
            self.high if np.isnan(high) else self.reading(high),
        )

    def capped(self, most: float) -> Curve:
        """Let abs(zeta) be no more than `most`, from where it is on to the ends of the range.

        The criterion is nowhere higher than where the parameter has no meaning, as has a
        correlation where a standard deviation is zero.
        """
        out = self
        for sign in (-1, 1):
            out = out._capped(sign, most)
        return out

    def _capped(self, sign: int, most: float) -> Curve:
        side = 0 if sign < 0 else -1
        if not abs(float(self.zeta[side])) > most:
            return self
        c = self.solve(sign * most)
        inside = sign * self.zeta < most
        end = self.limits[side]
        step = 1e-6 * max(abs(float(self.c[side]) - c), 1e-12)
        slope = float(self.at(np.array([c]))[1][0])
        nodes = [(c, sign * most, slope), (c + sign * step, sign * (most + slope * step), 0.0)]
        if np.isfinite(end):
            nodes.append((end, nodes[-1][1], 0.0))
        added = np.array(nodes[::sign]).T
        kept = np.array([self.c[inside], self.zeta[inside], self.slope[inside]])
        joined = np.hstack([added, kept] if sign < 0 else [kept, added])
        value = np.array([self.reading(x) for x in joined[0]])
        if np.isfinite(end):
            value[side] = self.bounds[side]
        low, high = (self.bounds[0], self.high) if sign < 0 else (self.low, self.bounds[1])
        return replace(
            self, c=joined[0], value=value, zeta=joined[1], slope=joined[2], low=low, high=high
        )

    def solve(self, zeta: float) -> float:
        """Coordinate at which zeta has this value, NaN where the grid does not reach it."""
        if len(self.c) < 2 or not self.zeta[0] <= zeta <= self.zeta[-1]:
            return float("nan")
        k = int(np.clip(np.searchsorted(self.zeta, zeta) - 1, 0, len(self.c) - 2))
        h, cubic, square, p, a = map(float, self._piece(k))
        low, high = 0.0, 1.0
        for _ in range(52):
            t = (low + high) / 2
            below = ((cubic * t + square) * t + p) * t + a < zeta
            low, high = (t, high) if below else (low, t)
        return float(self.c[k]) + h * (low + high) / 2


def normal_reach(conf_level: float) -> float:
    """Return the normal quantile of a two-sided level."""
    return NormalDist().inv_cdf((1 + conf_level) / 2)


def calibrated_reach(nu: float, error: float, slope: float, conf_level: float) -> float:
    """Reach of zeta for a fixed effect of a linear model, from Student's t.

    In an ordinary regression, and of a coefficient of one stratum of a balanced design,
    the profile is

        zeta^2 = N log(1 + t^2 / nu),   t = (psi - psi_hat) / se,

    se and nu those of REML, N the number of independent differences that tell of the
    coefficient, the one that was estimated from them included (N = groups for a mean of
    groups, nu = N - 1). There an interval at t's quantile is exact, where the normal one
    is short, since it counts the variances as known. Elsewhere nu is Satterthwaite's,
    and N = nu (se d zeta / d psi)^2 makes both sides agree at the estimate.

    Parameters
    ----------
    nu, error : float
        Degrees of freedom and standard error by REML.
    slope : float
        d zeta / d psi at the estimate.
    conf_level : float
    """
    if not np.isfinite(nu):
        return normal_reach(conf_level)
    t = float(quantile(conf_level, np.array(nu)))
    N = nu * max((error * slope) ** 2, 1.0)
    return float(np.sqrt(N * np.log1p(t**2 / nu)))


def profile(
    model: Inference,
    parameters: Sequence[ModelParameter],
    conf_level: float,
    *,
    n_jobs: int | None = None,
    each: Callable[[Iterable[Curve | None]], Iterable[Curve | None]] = iter,
) -> tuple[Curve | None, ...]:
    """Profile parameters of a model at its estimate.

    Parameters
    ----------
    model : Inference
        Of the estimate by the criterion to be profiled. Fixed effects are profiled on the
        likelihood: the restricted one does not depend on them.
    parameters : sequence of ModelParameter
    conf_level : float
        The highest level that the profiles are to reach.
    n_jobs : int or None
        Threads over the parameters, of tables that are worth it; the answer is the same.
    each : callable
        Is handed the curves as they come, those of the `companions` last, to show progress.

    Returns
    -------
    tuple of Curve or None
        None where a parameter cannot be profiled: it is held by the user, not defined at
        the optimum, or a function of several coordinates.
    """
    reach = normal_reach(conf_level)
    every = [p for p in model_parameters(model.estimate) if p.kind == "sd"]
    asked = [*parameters, *companions(model, parameters)]

    def one(parameter: ModelParameter) -> Curve | None:
        slice_ = model.profile_slice(parameter)
        return None if slice_ is None else trace(slice_, reach)

    jobs = min(available_cores(n_jobs), len(asked))
    if model.estimate.specification.n < WORTH_THREADS:
        jobs = 1
    curves = list(each(in_threads(one, asked, jobs)))
    return tuple(
        _with_faces(parameter, curve, asked, curves, every)
        for parameter, curve in zip(parameters, curves, strict=False)
    )


def companions(model: Inference, parameters: Sequence[ModelParameter]) -> list[ModelParameter]:
    """What is profiled beside them: standard deviations at whose zero one has no meaning."""
    every = [p for p in model_parameters(model.estimate) if p.kind == "sd"]
    labels = {p.label for p in parameters}
    needed = [sd for sd in every if any(_gives_meaning(sd, p, every) for p in parameters)]
    return [sd for sd in needed if sd.label not in labels]


def _gives_meaning(
    sd: ModelParameter, parameter: ModelParameter, every: Sequence[ModelParameter]
) -> bool:
    """Whether a parameter of a random term has no meaning where a standard deviation is zero.

    A correlation of two columns needs both; what all columns share needs all but one
    of them to vary, so that it loses its meaning with one of two, or with the only one.
    """
    if parameter.random is None or parameter.random != sd.random or parameter.kind == "sd":
        return False
    assert parameter.held is not None
    assert sd.held is not None
    if parameter.held.columns and sd.held.columns:
        return bool(set(sd.held.columns) & set(parameter.held.columns))
    return sum(p.random == sd.random for p in every) <= 2


def _with_faces(
    parameter: ModelParameter,
    curve: Curve | None,
    asked: Sequence[ModelParameter],
    curves: Sequence[Curve | None],
    every: Sequence[ModelParameter],
) -> Curve | None:
    """Bound a curve by what the criterion is where the parameter has no meaning."""
    if curve is None:
        return None
    for sd, at in zip(asked, curves, strict=True):
        if at is None or sd.kind != "sd" or not _gives_meaning(sd, parameter, every):
            continue
        if at.low == 0.0 and at.value[0] == 0.0:
            curve = curve.capped(abs(float(at.zeta[0])))
    return curve


@dataclass(frozen=True, eq=False)
class _Point:
    """A point of the profile."""

    c: float
    x: Floats
    at: Evaluation


class _OptimumPath:
    """Follows the optimum of the rest along c."""

    def __init__(self, slice_: Slice) -> None:
        self.slice = slice_
        self.evaluations = 0

    def evaluate(self, x: Floats, c: float) -> Evaluation:
        self.evaluations += 1
        return self.slice.evaluate(x, c)

    def curvature(self, x: Floats, c: float, at: Evaluation) -> Floats:
        """Second derivatives (k + 1, k + 1) in (x, c) at the optimum.

        By differences of the gradient: along c by central ones, since the slope of zeta
        at the estimate follows from them; in x, where they only guide the search, to one
        side.
        """
        k, slice_ = len(x), self.slice
        out = np.empty((k + 1, k + 1))
        for i, step in enumerate(1e-3 * slice_.units):
            moved = x.copy()
            moved[i] += step
            out[i, :k] = (self.evaluate(moved, c).gradient - at.gradient) / step
        out[:k, :k] = (out[:k, :k] + out[:k, :k].T) / 2
        step = 1e-3 * slice_.unit
        up, down = (slice_.finish(x, e, self.evaluate(x, e)) for e in (c + step, c - step))
        out[k, :k] = out[:k, k] = (up.gradient - down.gradient) / (2 * step)
        out[k, k] = (up.slope - down.slope) / (2 * step)
        return out

    def settle(self, point: _Point, C: Floats) -> tuple[_Point, Floats]:
        """Minimise over x by BFGS from the inverse Hessian C; return the point and the last C."""
        x, c, at = point.x, point.c, point.at
        if not len(x):
            return point, C
        step, decrement = _step(C, at)
        for _ in range(MOST_STEPS):
            if decrement < 0:  # rounding has left C indefinite
                C = np.diag(self.slice.units**2)
                step, decrement = _step(C, at)
            if not decrement > _enough(at):
                break
            shortened = self._shorten(x, c, at, step)
            if shortened is None:
                break
            t, new = shortened
            taken = step if t == 1.0 else t * step
            C = _updated(C, taken, new.gradient - at.gradient, t, at.gradient, decrement)
            x, at = x + taken, new
            step, decrement = _step(C, at)
        return _Point(c, x, at), C

    def _shorten(
        self, x: Floats, c: float, at: Evaluation, step: Floats
    ) -> tuple[float, Evaluation] | None:
        """Halve a step until the criterion falls; return how much of it was taken."""
        widest = float((np.abs(step) / self.slice.units).max())
        t = min(1.0, WIDEST / widest) if widest > 0 else 1.0
        slope = float(at.gradient @ step)
        noise = ROUNDING * abs(at.value)
        for _ in range(30):
            new = self.evaluate(x + (step if t == 1.0 else t * step), c)
            if new.value <= at.value + 1e-4 * t * slope + noise:
                return t, new
            t /= 2
        return None

    def lowest(self, starts: Iterable[Floats], c: float, enough: float) -> _Point:
        """Evaluate starts up to one whose criterion is at most `enough`; return the lowest."""
        best: _Point | None = None
        for x in starts:
            at = self.evaluate(x, c)
            if best is None or at.value < best.at.value:
                best = _Point(c, x, at)
            if best.at.value <= enough:
                break
        assert best is not None
        return best

    def optimum(self, start: _Point, C: Floats) -> tuple[_Point, Floats]:
        """Settle, and leave a boundary on which the criterion falls to the inside."""
        point, C = self.settle(start, C)
        c = point.c
        for _ in range(3):
            if not isfinite(point.at.value):
                return point, C
            inside = self.slice.leave(point.x, c, point.at)
            if inside is None:
                break
            wide = np.diag(np.minimum(np.abs(np.diag(C)), self.slice.units**2))
            other, D = self.settle(_Point(c, inside, self.evaluate(inside, c)), wide)
            if not other.at.value < point.at.value:
                break
            point, C = other, D
        return _Point(c, point.x, self.slice.finish(point.x, c, point.at)), C


def _step(C: Floats, at: Evaluation) -> tuple[Floats, float]:
    """Newton's step and its decrement g'C g, NaN where the criterion breaks down."""
    if not isfinite(at.value):
        return at.gradient, float("nan")
    step = -(C @ at.gradient)
    return step, -float(at.gradient @ step)


def _enough(at: Evaluation) -> float:
    """Decrement at which the last step is taken without another evaluation."""
    return max(DECREMENT, ROUNDING * abs(at.value))


def _completed(point: _Point, C: Floats, tangent: Floats) -> _Point:
    """Take Newton's last step: to its second order the criterion is known without evaluation.

    The step -C g lowers the criterion by g'C g / 2 and moves its slope in c by
    -H_cx C g = (dx/dc)'g, since dx/dc = -H_xx^-1 H_xc along the path. What the core
    said of the point is large, has been used, and is not kept.
    """
    at = point.at
    value, slope, x = at.value, at.slope, point.x
    if len(x):
        step, decrement = _step(C, at)
        if 0 <= decrement <= _enough(at):
            value, slope, x = value - decrement / 2, slope + float(tangent @ at.gradient), x + step
    return _Point(point.c, x, Evaluation(value, at.gradient, slope, {}))


def _inverse(H: Floats, units: Floats) -> Floats:
    """Inverse of H with its eigenvalues made positive, in the coordinates' own units."""
    if not len(H):
        return H
    values, vectors = np.linalg.eigh(H * np.outer(units, units))
    size = np.maximum(np.abs(values), 1e-6 * max(1.0, float(np.abs(values).max())))
    return np.asarray((vectors / size) @ vectors.T * np.outer(units, units))


def _updated(C: Floats, s: Floats, y: Floats, t: float, g: Floats, decrement: float) -> Floats:
    """BFGS of the inverse Hessian with Powell's damping, so that it stays positive definite.

    s is t times the full step -C g, so that C^-1 s = -t g and s'C^-1 s = t^2 g'C g.
    """
    curvature, change = t * t * decrement, float(s @ y)
    if not curvature > 0:
        return C
    if change < 0.1 * curvature:
        part = 0.9 * curvature / (curvature - change)
        y = part * y - (1 - part) * t * g
        change = float(s @ y)
    Cy = C @ y
    s = s / change
    mixed = s[:, None] * Cy
    widened = change + float(y @ Cy)
    return np.asarray(C - mixed - mixed.T + (widened * s)[:, None] * s)


def trace(slice_: Slice, reach: float) -> Curve:
    """Profile one parameter to where abs(zeta) passes `reach`.

    Steps are even in zeta: the next one follows from its slope. The rest starts where
    the path through the last points leads and is brought to its optimum by BFGS,
    from the exact Hessian at the estimate on.
    """
    path = _OptimumPath(slice_)
    first = path.evaluate(slice_.x, slice_.c)
    H = path.curvature(slice_.x, slice_.c, first)
    k = len(slice_.x)
    C = _inverse(H[:k, :k], slice_.units)
    centre, C = path.optimum(_Point(slice_.c, slice_.x, first), C)
    tangent = -(C @ H[:k, k])
    centre = _completed(centre, C, tangent)
    bend = max(float(H[k, k] + H[:k, k] @ tangent), 0.0)
    side = _Side(path, centre, C, tangent, bend, reach)
    up, high = side.go(1, [])
    down, low = side.go(-1, up)
    points = [*reversed(down), centre, *up]
    ends = (low, high)
    bounds = (
        side._end(-1, slice_.ends[0] if isfinite(slice_.ends[0]) else -np.inf),
        side._end(1, slice_.ends[1] if isfinite(slice_.ends[1]) else np.inf),
    )
    curve = _curve(slice_, points, centre, ends, bend, path.evaluations)
    for wanted in (-reach, -USUAL, USUAL, reach):
        count = len(points)
        if abs(wanted) <= reach:
            points = _refined(path, curve, points, wanted, C)
        if len(points) > count:
            curve = _curve(slice_, points, centre, ends, bend, path.evaluations)
    return replace(curve, limits=slice_.ends, bounds=bounds)


def _refined(
    path: _OptimumPath, curve: Curve, points: list[_Point], zeta: float, C: Floats
) -> list[_Point]:
    """Add a point where the curve has this zeta, unless one is near."""
    if float(np.abs(curve.zeta - zeta).min()) < NEAR:
        return points
    c = curve.solve(zeta)
    if isnan(c):
        return points
    k = int(np.searchsorted(curve.c, c))
    before, after = points[k - 1], points[k]
    tangent = (after.x - before.x) / (after.c - before.c)
    x = before.x + (c - before.c) * tangent
    point, C = path.optimum(_Point(c, x, path.evaluate(x, c)), C)
    if not isfinite(point.at.value):
        return points
    return [*points[:k], _completed(point, C, tangent), *points[k:]]


@dataclass(frozen=True, eq=False)
class _Side:
    """What both sides of a profile start from."""

    path: _OptimumPath
    centre: _Point
    C: Floats
    tangent: Floats
    bend: float
    reach: float

    @cached_property
    def targets(self) -> list[float]:
        """Where points are wanted: close to the usual level, and just beyond the last."""
        last = self.reach + MARGIN
        parts = [USUAL, last] if last > USUAL + STEP / 2 else [last]
        out = [0.0]
        for part in parts:
            count = int(np.ceil((part - out[-1]) / STEP - 1e-9))
            out += np.linspace(out[-1], part, count + 1)[1:].tolist()
        return out

    def go(self, sign: int, behind: list[_Point]) -> tuple[list[_Point], float]:
        """Return the points beyond the estimate, and where the parameter's range ends.

        `behind` are those of the other side, outwards: the path goes on from them.
        """
        slice_ = self.path.slice
        end = slice_.ends[1] if sign > 0 else slice_.ends[0]
        near = 1e-8 * slice_.unit
        points, C = [*reversed(behind[: REMEMBERED - 1]), self.centre], self.C
        here = len(points)
        zetas, rates = [0.0], [sqrt(self.bend / 2)]
        step = self._first()
        for _ in range(MOST_POINTS):
            last = points[-1]
            if abs(end - last.c) <= near:
                return points[here:], self._end(sign, end)
            if zetas[-1] >= self.reach:
                return points[here:], NO_BOUND
            new = None
            while new is None:
                c = last.c + sign * step
                if sign * (c - end) >= 0 or abs(end - c) < 0.1 * abs(end - last.c):
                    c = end
                point, D = self.path.optimum(self._start(points, c, zetas[-1]), C)
                point = _completed(point, D, self._tangent(points, point))
                zeta = self._zeta(point)
                usable = isfinite(point.at.value) and zeta <= zetas[-1] + LONGEST
                if usable or step < 1e-10 * slice_.unit:
                    new = point
                else:
                    step = 0.5 * abs(c - last.c)
            if not isfinite(new.at.value):
                return points[here:], NO_BOUND
            points.append(new)
            C = D
            zetas.append(zeta)
            rates.append(sign * new.at.slope / (2 * zeta) if zeta > 1e-3 else rates[-1])
            step = self._next(abs(new.c - last.c), zetas, rates)
            if abs(new.c - self.centre.c) > FAR * slice_.unit:
                break
        return points[here:], self._end(sign, sign * np.inf)

    def _first(self) -> float:
        rate = sqrt(self.bend / 2)
        unit = self.path.slice.unit
        return min(max(STEP / rate, 1e-3 * unit), 20 * unit) if rate > 0 else 20 * unit

    def _next(self, done: float, zetas: list[float], rates: list[float]) -> float:
        """Solve zeta + rate s + change s^2 / 2 = next, at most thrice the last step."""
        beyond = zetas[-1] + 0.3 * STEP
        wanted = next((z for z in self.targets if z > beyond), self.targets[-1]) - zetas[-1]
        wanted = max(wanted, 0.1 * STEP)
        rate, change = rates[-1], (rates[-1] - rates[-2]) / done
        if not rate > 0:
            return 2.0 * done
        root = rate**2 + 2 * change * wanted
        step = 2 * wanted / (rate + sqrt(root)) if root > 0 else 2 * wanted / rate
        return min(max(step, 0.05 * done), 3.0 * done)

    def _start(self, points: list[_Point], c: float, zeta: float) -> _Point:
        """Begin where the path leads, or with less of it where that is clearly wrong.

        Behind a kink of the path (a variance that comes to zero) polynomials lead
        astray, even to another optimum.
        """
        last = points[-1]
        tangent = self.tangent
        if last is not self.centre:
            tangent = (last.x - points[-2].x) / (last.c - points[-2].c)
        starts = (self._predicted(points, c), last.x + (c - last.c) * tangent, last.x)
        return self.path.lowest(starts, c, self.centre.at.value + (zeta + LONGEST) ** 2)

    def _predicted(self, points: list[_Point], c: float) -> Floats:
        """Continue the path of x by the polynomial through the last points.

        At the estimate its tangent is known: with d the distance from there,
        x = x_0 + tangent d + d^2 r(d), and r is continued.
        """
        recent = points[-REMEMBERED:]
        centre = self.centre
        if centre not in recent:
            return _combined(_lagrange(c, [p.c for p in recent]), [p.x for p in recent])
        d = c - centre.c
        others = [p for p in recent if p is not centre]
        ahead = centre.x + d * self.tangent
        if not others:
            return ahead
        bent = [
            (p.x - centre.x) / (p.c - centre.c) ** 2 - self.tangent / (p.c - centre.c)
            for p in others
        ]
        weights = _lagrange(c, [p.c for p in others])
        return ahead + d**2 * _combined(weights, bent)

    def _tangent(self, points: list[_Point], new: _Point) -> Floats:
        """dx/dc at a new point, of the parabola through it and what came before."""
        last = points[-1]
        secant = np.asarray((new.x - last.x) / (new.c - last.c))
        if len(points) == 1:
            return 2 * secant - self.tangent
        before = points[-2]
        earlier = (last.x - before.x) / (last.c - before.c)
        return np.asarray(secant + (new.c - last.c) / (new.c - before.c) * (secant - earlier))

    def _zeta(self, point: _Point) -> float:
        return sqrt(max(point.at.value - self.centre.at.value, 0.0))

    def _end(self, sign: int, end: float) -> float:
        """Return the value at the end of the range."""
        slice_ = self.path.slice
        if sign < 0 and slice_.least is not None:
            return slice_.least
        return slice_.reading(end) if np.isfinite(end) else sign * np.inf


def _lagrange(c: float, nodes: list[float]) -> list[float]:
    """Weights of the values at nodes in the polynomial through them, at c."""
    return [prod((c - b) / (a - b) for b in nodes if b is not a) for a in nodes]


def _combined(weights: list[float], vectors: list[Floats]) -> Floats:
    return np.asarray(sum(w * v for w, v in zip(weights, vectors, strict=True)))


def _outwards(rise: Floats, here: int) -> Floats:
    """Let it not fall on the way out: an interval ends where the criterion first passes."""
    out = rise.copy()
    out[here:] = np.maximum.accumulate(rise[here:])
    out[: here + 1] = np.maximum.accumulate(rise[here::-1])[::-1]
    return out


def _curve(
    slice_: Slice,
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
    rise = _outwards(np.maximum(D - D[here], 0.0), here)
    sign = np.where(np.arange(len(c)) < here, -1.0, 1.0)
    zeta = sign * np.sqrt(rise)
    slope = np.array([p.at.slope for p in points])
    with np.errstate(divide="ignore", invalid="ignore"):
        rate = np.where(np.abs(zeta) > 1e-3, slope / (2.0 * zeta), np.sqrt(max(bend, 0.0) / 2.0))
    rate[here] = np.sqrt(max(bend, 0.0) / 2.0)
    value = np.array([slice_.reading(x) for x in c])
    return Curve(c, value, zeta, rate, ends[0], ends[1], slice_.reading, evaluations, better)
