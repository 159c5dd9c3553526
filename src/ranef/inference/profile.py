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

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from ranef.errors import ModelError
from ranef.inference.listing import ModelParameter
from ranef.inference.wald import quantile
from ranef.models.estimate import Estimate, GeneralisedEstimate
from ranef.models.glmm import fit_glmm
from ranef.models.lmm import fit_lmm
from ranef.solve.charts import Reading
from ranef.solve.resources import available_cores, in_threads
from ranef.solve.slices import (
    Evaluation,
    Slice,
    coefficient_slice,
    covariance_slice,
    generalised_slice,
    scale_slice,
)

__all__ = ["Curve", "at_criterion", "calibrated_reach", "normal_reach", "profile", "trace"]

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
WORTH_THREADS = 2000


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
        h = self.c[k + 1] - self.c[k]
        t = (c - self.c[k]) / h
        a, b = self.zeta[k], self.zeta[k + 1]
        p, q = h * self._slopes[k], h * self._slopes[k + 1]
        cubic, square = 2 * (a - b) + p + q, 3 * (b - a) - 2 * p - q
        zeta = ((cubic * t + square) * t + p) * t + a
        return zeta, ((3 * cubic * t + 2 * square) * t + p) / h

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

    def solve(self, zeta: float) -> float:
        """Coordinate at which zeta has this value, NaN where the grid does not reach it."""
        if len(self.c) < 2 or not self.zeta[0] <= zeta <= self.zeta[-1]:
            return float("nan")
        k = int(np.clip(np.searchsorted(self.zeta, zeta) - 1, 0, len(self.c) - 2))
        h = float(self.c[k + 1] - self.c[k])
        a, b = float(self.zeta[k]), float(self.zeta[k + 1])
        p, q = h * float(self._slopes[k]), h * float(self._slopes[k + 1])
        cubic, square = 2 * (a - b) + p + q, 3 * (b - a) - 2 * p - q
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


def at_criterion(estimate: Estimate, reml: bool) -> Estimate:
    """Return the estimate, or that of the same model by the other criterion."""
    if estimate.reml == reml:
        return estimate
    path = estimate.optimum.path
    if not isinstance(estimate, GeneralisedEstimate):
        return fit_lmm(estimate.specification, reml=reml, path=path)
    return fit_glmm(
        estimate.parts, estimate.family, extra=estimate.extra, quadrature=estimate.quadrature,
        reml=reml, priors=estimate.priors, fixed=estimate.fixed, equal=estimate.equal, path=path,
    )  # fmt: skip


def profile(
    estimate: Estimate,
    parameters: Sequence[ModelParameter],
    conf_level: float,
    *,
    n_jobs: int | None = None,
    each: Callable[[Iterable[Curve | None]], Iterable[Curve | None]] = iter,
) -> tuple[Curve | None, ...]:
    """Profile parameters of a model at its estimate.

    Parameters
    ----------
    estimate : Estimate
        By the criterion to be profiled. Fixed effects are profiled on the likelihood:
        the restricted one does not depend on them.
    parameters : sequence of ModelParameter
    conf_level : float
        The highest level that the profiles are to reach.
    n_jobs : int or None
        Threads over the parameters, of tables that are worth it; the answer is the same.
    each : callable
        Is handed the curves as they come, to show progress.

    Returns
    -------
    tuple of Curve or None
        None where a parameter cannot be profiled: it is held by the user, not defined at
        the optimum, or a function of several coordinates.
    """
    reach = normal_reach(conf_level)

    def one(parameter: ModelParameter) -> Curve | None:
        own = _slice_of(estimate, parameter)
        return None if own is None else trace(own, reach)

    jobs = min(available_cores(n_jobs), len(parameters))
    if estimate.specification.n < WORTH_THREADS:
        jobs = 1
    return tuple(each(in_threads(one, parameters, jobs)))


def _slice_of(estimate: Estimate, parameter: ModelParameter) -> Slice | None:
    if isinstance(estimate, GeneralisedEstimate):
        if parameter.fixed:
            return generalised_slice(estimate, coefficient=parameter.coefficient)
        assert parameter.random is not None
        return generalised_slice(estimate, t=parameter.random, held=parameter.held)
    if parameter.fixed:
        if estimate.reml:
            raise ModelError("the restricted likelihood does not depend on the fixed effects")
        return coefficient_slice(estimate, parameter.coefficient)
    if parameter.random is None or parameter.held is None:
        return scale_slice(estimate)
    return covariance_slice(estimate, parameter.random, parameter.held)


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
                at = self.own.finish(moved[:k], moved[k], at)
                pair.append(np.append(at.gradient, at.slope))
            out[i] = (pair[0] - pair[1]) / (2 * step)
        return (out + out.T) / 2

    def settle(self, x: Floats, c: float, C: Floats) -> tuple[_Point, Floats]:
        """Minimise over x by BFGS from the inverse Hessian C; return the point and the last C."""
        at = self.evaluate(x, c)
        for _ in range(MOST_STEPS if len(x) else 0):
            if not np.isfinite(at.value):
                break
            step = -(C @ at.gradient)
            decrement = -float(at.gradient @ step)
            if decrement <= max(DECREMENT, ROUNDING * abs(at.value)):
                break
            found = self._shorten(x, c, at, step)
            if found is None:
                break
            t, new = found
            C = _updated(C, t * step, new.gradient - at.gradient, t, at.gradient, decrement)
            x, at = x + t * step, new
        return _Point(c, x, at), C

    def _shorten(
        self, x: Floats, c: float, at: Evaluation, step: Floats
    ) -> tuple[float, Evaluation] | None:
        """Halve a step until the criterion falls; return how much of it was taken."""
        widest = float(np.max(np.abs(step) / self.own.units))
        t = min(1.0, WIDEST / widest) if widest > 0 else 1.0
        slope = float(at.gradient @ step)
        noise = ROUNDING * abs(at.value)
        for _ in range(30):
            new = self.evaluate(x + t * step, c)
            if new.value <= at.value + 1e-4 * t * slope + noise:
                return t, new
            t /= 2
        return None

    def optimum(self, x: Floats, c: float, C: Floats) -> tuple[_Point, Floats]:
        """Settle, and leave a boundary on which the criterion falls to the inside."""
        point, C = self.settle(x, c, C)
        for _ in range(3):
            if not np.isfinite(point.at.value):
                break
            inside = self.own.leave(point.x, c, point.at)
            if inside is None:
                break
            start = np.diag(np.minimum(np.abs(np.diag(C)), self.own.units**2))
            other, D = self.settle(inside, c, start)
            if not other.at.value < point.at.value:
                break
            point, C = other, D
        if not np.isfinite(point.at.value):
            return point, C
        whole = self.own.finish(point.x, c, point.at)
        # what the core said of the point is large, and has been used
        return _Point(c, point.x, replace(whole, found={})), C


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
    mixed = np.outer(s, Cy)
    widened = (1.0 + float(y @ Cy) / change) / change
    return np.asarray(C - (mixed + mixed.T) / change + widened * np.outer(s, s))


def trace(own: Slice, reach: float) -> Curve:
    """Profile one parameter to where abs(zeta) passes `reach`.

    Steps are even in zeta: the next one follows from its slope. The rest starts where
    the path through the last points leads and is brought to its optimum by BFGS,
    from the exact Hessian at the estimate on.
    """
    walk = _Walk(own)
    H = walk.curvature(own.x, own.c)
    k = len(own.x)
    C = _inverse(H[:k, :k], own.units)
    tangent = -(C @ H[:k, k])
    centre, C = walk.optimum(own.x, own.c, C)
    bend = float(H[k, k] + H[:k, k] @ tangent)
    side = _Side(walk, centre, C, tangent, max(bend, 0.0), reach)
    up, high = side.go(1)
    down, low = side.go(-1)
    points = [*reversed(down), centre, *up]
    ends = (low, high)
    curve = _curve(own, points, centre, ends, bend, walk.evaluations)
    for wanted in (-reach, -USUAL, USUAL, reach):
        count = len(points)
        if abs(wanted) <= reach:
            points = _refined(walk, curve, points, wanted, C)
        if len(points) > count:
            curve = _curve(own, points, centre, ends, bend, walk.evaluations)
    return curve


def _refined(
    walk: _Walk, curve: Curve, points: list[_Point], zeta: float, C: Floats
) -> list[_Point]:
    """Add a point where the curve has this zeta, unless one is near."""
    c = curve.solve(zeta)
    if np.isnan(c) or float(np.min(np.abs(curve.zeta - zeta))) < NEAR:
        return points
    k = int(np.searchsorted(curve.c, c))
    before, after = points[k - 1], points[k]
    share = (c - before.c) / (after.c - before.c)
    x = before.x + share * (after.x - before.x)
    point, _ = walk.optimum(x, c, C)
    return [*points[:k], point, *points[k:]] if np.isfinite(point.at.value) else points


@dataclass(frozen=True, eq=False)
class _Side:
    """What both sides of a profile start from."""

    walk: _Walk
    centre: _Point
    C: Floats
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
        points, C = [self.centre], self.C
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
                point, D = self.walk.optimum(x, c, C)
                zeta = self._zeta(point)
                usable = np.isfinite(point.at.value) and zeta <= zetas[-1] + LONGEST
                if usable or step < 1e-10 * own.unit:
                    found = point
                else:
                    step = 0.5 * abs(c - last.c)
            if not np.isfinite(found.at.value):
                return points[1:], self._beyond(sign)
            points.append(found)
            C = D
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
        if sign < 0 and own.least is not None:
            return own.least
        return own.reading(end) if np.isfinite(end) else sign * np.inf

    def _beyond(self, sign: int) -> float:
        """Return the bound of a profile that ended before its range did: there is none."""
        return float("nan")


def _outwards(rise: Floats, here: int) -> Floats:
    """Let it not fall on the way out: an interval ends where the criterion first passes."""
    out = rise.copy()
    out[here:] = np.maximum.accumulate(rise[here:])
    out[: here + 1] = np.maximum.accumulate(rise[here::-1])[::-1]
    return out


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
    rise = _outwards(np.maximum(D - D[here], 0.0), here)
    sign = np.where(np.arange(len(c)) < here, -1.0, 1.0)
    zeta = sign * np.sqrt(rise)
    slope = np.array([p.at.slope for p in points])
    with np.errstate(divide="ignore", invalid="ignore"):
        rate = np.where(np.abs(zeta) > 1e-3, slope / (2.0 * zeta), np.sqrt(max(bend, 0.0) / 2.0))
    rate[here] = np.sqrt(max(bend, 0.0) / 2.0)
    value = np.array([own.reading(x) for x in c])
    return Curve(c, value, zeta, rate, ends[0], ends[1], own.reading, evaluations, better)
