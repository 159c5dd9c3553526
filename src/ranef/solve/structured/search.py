"""The optimum of a structured model: a damped Newton search, then the proof.

Steps take average information (Gilmour, Thompson & Cullis 1995, Biometrics 51) while they
are long, and exact second derivatives at the end. A step that leaves the range of the
parameters, or a covariance matrix that is not positive definite, is shortened.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ranef.solve.optimum import Progress
from ranef.solve.structured.problem import StructuredPoint, StructuredProblem

__all__ = ["SEARCHES", "Found", "search", "searches_from"]

Floats = NDArray[np.float64]

NEAR = 1e-2
"""Predicted decrease below which exact second derivatives are worth their cost."""
CHEAP = 12
"""Parameters up to which they are; with more they only prove the optimum."""
ENOUGH = 1e-8
MOST_EXACT_PARAMETERS = 80
FLAT = 1e-6
"""Curvature and squared slope, of parameters with curvature one, that are lost in rounding."""
STANDSTILL = 8
"""Steps in a row without a gain, after which a search ends."""
SEARCHES = 2
"""From how many starts, the best of all, the search goes to its end."""
SHALLOW, ALIKE = 1.0, 0.25
"""Of a bowl: how far above its optimum a point may be, and how well its quadratic must fit."""
LONGEST = 3.0
"""Of a step in a logarithm or a correlation."""


@dataclass(frozen=True, eq=False)
class Found:
    """The end of a search.

    Attributes
    ----------
    at : StructuredPoint
        With exact second derivatives.
    decrement : float
        Decrease that a further Newton step predicts.
    tolerance : float
    converged : bool
    evaluations : int
    trace : (e,) float64 array
    """

    at: StructuredPoint
    decrement: float
    tolerance: float
    converged: bool
    evaluations: int
    trace: Floats
    starts: int = 1
    agreeing: int = 1


class _Walk:
    """A search: coordinates are theta, logarithms where parameters are positive."""

    def __init__(
        self,
        problem: StructuredProblem,
        reml: bool,
        progress: Progress | None,
        held: NDArray[np.bool_] | None = None,
    ) -> None:
        self.problem, self.reml, self.progress = problem, reml, progress
        self.held = np.zeros(problem.n_parameters, dtype=np.bool_) if held is None else held
        free = np.zeros(problem.n_random, dtype=np.bool_)
        self.logs = np.concatenate([free, problem.rows.positive])
        self.units = np.where(self.logs, 1.0, problem.units)
        limits = np.isfinite(problem.rows.limits).all(axis=1)
        self.bounded = self.logs | np.concatenate([free, limits])
        self.trace: list[float] = []

    def theta(self, x: Floats) -> Floats:
        with np.errstate(over="ignore"):
            return np.where(self.logs, np.exp(np.where(self.logs, x, 0.0)), x * self.units)

    def x(self, theta: Floats) -> Floats:
        return np.where(self.logs, np.log(np.where(self.logs, theta, 1.0)), theta / self.units)

    def evaluate(self, x: Floats, level: int, decrement: float = np.nan) -> StructuredPoint | None:
        at = self.problem.point(self.theta(x), self.reml, level)
        if at is not None:
            self.trace.append(at.criterion)
            if self.progress is not None:
                self.progress(len(self.trace), at.criterion, decrement)
        return at

    def derivatives(self, at: StructuredPoint) -> tuple[Floats, Floats]:
        """Gradient and Hessian in x; none of what is held."""
        unit = np.where(self.held, 0.0, np.where(self.logs, at.theta, self.units))
        gradient = at.gradient * unit
        hessian = at.hessian * np.outer(unit, unit)
        own = np.where(self.held, 1.0, np.where(self.logs, gradient, 0.0))
        return gradient, hessian + np.diag(own)


def search(
    problem: StructuredProblem,
    starts: list[Floats],
    reml: bool,
    max_evaluations: int,
    progress: Progress | None = None,
    searches: int = SEARCHES,
    held: NDArray[np.bool_] | None = None,
    known: Found | None = None,
) -> Found | None:
    """Find the optimum from the best of some starts; None where none of them is possible.

    held : (k,) bool array, optional
        Which parameters keep the value of the start.
    known : Found, optional
        A proved optimum; a search that comes into its bowl ends there.
    """
    ends = searches_from(problem, starts, reml, max_evaluations, progress, searches, held, known)
    if not ends:
        return None
    best = min(ends, key=lambda end: end.at.criterion - (1e-7 if end.converged else 0.0))
    agreeing = sum(end.at.criterion < best.at.criterion + 1e-4 for end in ends)
    evaluations = max(end.evaluations for end in ends)
    return replace(best, evaluations=evaluations, starts=len(ends), agreeing=agreeing)


def searches_from(
    problem: StructuredProblem,
    starts: list[Floats],
    reml: bool,
    max_evaluations: int,
    progress: Progress | None = None,
    searches: int = SEARCHES,
    held: NDArray[np.bool_] | None = None,
    known: Found | None = None,
) -> list[Found]:
    """The ends of searches from the best starts; `evaluations` count all up to each of them."""
    walk = _Walk(problem, reml, progress, held)
    begun: list[tuple[float, Floats]] = []
    for start in starts:
        at = walk.evaluate(walk.x(start), 0)
        if at is not None:
            begun.append((at.criterion, start))
    begun.sort(key=lambda pair: pair[0])
    ends: list[Found] = []
    for _, start in begun[:searches]:
        before = [end for end in ([known] if known else []) + ends if end.converged]
        end = _descend(walk, walk.x(start), max_evaluations, before)
        ends.append(replace(end, evaluations=len(walk.trace)))
    return ends


def _bowl(
    walk: _Walk,
    x: Floats,
    at: StructuredPoint,
    slopes: tuple[Floats, Floats],
    known: Sequence[Found],
) -> Found | None:
    """The proved optimum whose bowl a point lies in.

    Newton's step leads there, and the quadratic says how low it is.
    """
    gradient, hessian = slopes
    for end in known:
        gap = at.criterion - end.at.criterion
        if not 0 <= gap < SHALLOW:
            continue
        away = walk.x(end.at.theta) - x
        values, vectors, scale = _scaled(hessian)
        if not np.isfinite(away).all() or values[0] < FLAT:
            continue
        half = np.sqrt(values) * (vectors.T @ (away / scale))
        step = -(vectors.T @ (scale * gradient)) / np.sqrt(values)
        depth = 0.5 * float(half @ half)
        missed = 0.5 * float((half - step) @ (half - step))
        if abs(gap - depth) < ALIKE * gap + ENOUGH and missed < ALIKE * depth + ENOUGH:
            return end
    return None


def _descend(walk: _Walk, x: Floats, max_evaluations: int, known: Sequence[Found] = ()) -> Found:
    exact_allowed = walk.problem.n_parameters <= MOST_EXACT_PARAMETERS
    first = len(walk.trace)
    at = walk.evaluate(x, 1)
    assert at is not None
    exact, ridge, still = False, 1e-3, 0
    while len(walk.trace) - first < max_evaluations:
        gradient, hessian = walk.derivatives(at)
        decrement = _decrement(gradient, hessian)
        tolerance = ENOUGH + 1e-13 * abs(at.criterion)
        if exact and decrement < tolerance and _is_minimum(hessian):
            return _found(walk, at, decrement, tolerance, True, first)
        bowl = None if exact else _bowl(walk, x, at, (gradient, hessian), known)
        if bowl is not None:
            return bowl
        near = NEAR if walk.problem.n_parameters <= CHEAP else tolerance
        if not exact and decrement < near and exact_allowed:
            exact = True
            at = walk.evaluate(x, 2, decrement) or at
            continue
        moved = None
        for _ in range(25):
            step = _step(gradient, hessian, ridge, walk.bounded)
            trial = walk.evaluate(x + step, 2 if exact else 1, decrement)
            if trial is not None and trial.criterion < at.criterion + 1e-12 * abs(at.criterion):
                moved, gain = trial, at.criterion - trial.criterion
                break
            ridge = max(4.0 * ridge, 1e-3)
        stuck = moved is None
        if moved is not None:
            x, at = x + step, moved
            still = still + 1 if gain < tolerance else 0
            stuck = still == STANDSTILL
        if stuck and (exact or not exact_allowed):
            break
        if stuck:  # where V does not move, to first order, average information says nothing
            exact, still, ridge = True, 0, 1e-3
            at = walk.evaluate(x, 2, decrement) or at
            continue
        if exact and gain < tolerance and decrement < 10 * tolerance:
            break
        ridge = ridge / 10 if ridge > 1e-9 else 0.0
    if not at.exact:
        at = walk.evaluate(x, 2) or at
    gradient, hessian = walk.derivatives(at)
    decrement = _decrement(gradient, hessian)
    tolerance = ENOUGH + 1e-13 * abs(at.criterion)
    return _found(walk, at, decrement, tolerance, decrement < 100 * tolerance, first)


def _found(
    walk: _Walk, at: StructuredPoint, decrement: float, tolerance: float, proved: bool, first: int
) -> Found:
    trace = np.array(walk.trace[first:])
    return Found(at, decrement, tolerance, proved, len(walk.trace), trace)


def _scaled(hessian: Floats) -> tuple[Floats, Floats, Floats]:
    """Eigenvalues and vectors of the Hessian with a unit diagonal, and the scale."""
    diagonal = np.abs(np.diag(hessian))
    scale = 1.0 / np.sqrt(np.where(diagonal > 1e-12, diagonal, 1.0))
    values, vectors = np.linalg.eigh(hessian * np.outer(scale, scale))
    return values, vectors, scale


def _step(gradient: Floats, hessian: Floats, ridge: float, bounded: NDArray[np.bool_]) -> Floats:
    """Newton's step, curvatures made positive and raised by the ridge."""
    values, vectors, scale = _scaled(hessian)
    size = np.maximum(np.abs(values), 1e-8) + ridge
    step = -scale * (vectors @ ((vectors.T @ (scale * gradient)) / size))
    longest = float(np.max(np.abs(step[bounded]), initial=0.0))
    return step if longest <= LONGEST else step * (LONGEST / longest)


def _decrement(gradient: Floats, hessian: Floats) -> float:
    if not len(gradient):
        return 0.0
    values, vectors, scale = _scaled(hessian)
    along = vectors.T @ (scale * gradient)
    level = (np.abs(values) < FLAT) & (along**2 < FLAT)
    each = np.where(level, 0.0, along**2 / np.maximum(np.abs(values), 1e-8))
    return float(0.5 * np.sum(each))


def _is_minimum(hessian: Floats) -> bool:
    """Whether no direction has negative curvature."""
    return not len(hessian) or bool(_scaled(hessian)[0][0] > -FLAT)
