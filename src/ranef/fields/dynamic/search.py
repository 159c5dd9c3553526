"""The search for the optimum of a dynamic model.

With nodes that stay where they are the quadrature is a smooth function whose exact gradient is
Fisher's: the mean of the complete score over the nodes. The search goes by it with BFGS, moves
the nodes, and ends with Newton's steps whose second derivatives are differences of the gradient.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ranef.errors import ModelError
from ranef.fields.dynamic.problem import Evaluated, Nodes, Problem, Rule, gauss_hermite
from ranef.fields.dynamic.reading import CONDITIONAL, DISPERSION, INERTIA, INPUTS
from ranef.solve.optimum import Progress

__all__ = ["SearchEnd", "scaled", "search", "started"]

Floats = NDArray[np.float64]
COARSE, LEAST, MOST = 5, 9, {0: 1, 1: 31, 2: 21, 3: 11, 4: 9}
SETTLED = 1e-5
"""Change of the log-likelihood by four further points along each effect, for a rule to do."""
DONE, SHORT = 1e-8, 1e-3
LEAST_LOG, LEAST_FALL = -700.0, 1e-12
"""Logarithms of an inertia that can be told from zero and from one."""
FEW = 1e-3
"""Diagonal entry of L, in units of its effect, up to which zero is tried."""


@dataclass(frozen=True, eq=False)
class SearchEnd:
    """The end of the search.

    Attributes
    ----------
    theta : (P,) float64 array
    loglik : float
    gradient : (P,) float64 array
        Of the log-likelihood.
    information : (P, P) float64 array
        Minus its second derivatives.
    zero : (P,) bool array
        Entries of L that stand at zero, a boundary.
    decrement : float
        Increase of the log-likelihood that a further step of Newton's predicts.
    points : int
        Of the rule, along one effect.
    quadrature_error : float
        Change of the log-likelihood by four further points.
    evaluations : int
    converged : bool
    """

    theta: Floats
    loglik: float
    gradient: Floats
    information: Floats
    zero: NDArray[np.bool_]
    decrement: float
    points: int
    quadrature_error: float
    evaluations: int
    converged: bool


@dataclass(frozen=True, eq=False)
class Scales:
    """Units of y and of columns: theta = unit * theta of the scaled problem."""

    problem: Problem
    unit: Floats
    log_jacobian: float


def scaled(problem: Problem) -> Scales:
    """The same problem with y and all columns of size one."""
    layout = problem.layout
    size = float(np.std(problem.y)) or 1.0
    lengths = {part: _lengths(X) for part, X in problem.X.items()}
    zm, zi = _lengths(problem.zm), _lengths(problem.zi)
    zv = np.maximum(_lengths(problem.zp, 0.0), _lengths(problem.zs, 0.0))
    zv[zv == 0] = 1.0
    inner = replace(
        problem, y=problem.y / size, X={p: X / lengths[p] for p, X in problem.X.items()},
        zm=problem.zm / zm, zi=problem.zi / zi, zp=problem.zp / zv, zs=problem.zs / zv,
        log_unit=problem.log_unit + np.log(size),
    )  # fmt: skip
    of_y = {CONDITIONAL: size, INPUTS: size, INERTIA: 1.0, DISPERSION: 1.0}
    unit = np.concatenate([
        *(of_y[part] / lengths[part] for part in problem.X),
        np.r_[1 / zv, size / zm, size / zi][layout.entries[0]],
        np.ones(int(layout.has_inputs)),
    ])  # fmt: skip
    return Scales(inner, unit, -problem.n_counted * float(np.log(size)))


def _lengths(X: Floats, empty: float = 1.0) -> Floats:
    length = np.sqrt(np.mean(X**2, axis=0)) if len(X) else np.ones(X.shape[1])
    return np.where(length > 0, length, empty)


@dataclass(eq=False)
class Search:
    """A search under way, on the scaled problem."""

    problem: Problem
    progress: Progress | None
    evaluations: int = 0

    def run(self, start: Floats, rule: Rule, rounds: int, free: NDArray[np.bool_]) -> Floats:
        """Climb by BFGS, moving the nodes between rounds."""
        from scipy import optimize

        theta, mode, before = start, None, -np.inf
        for _ in range(rounds):
            nodes = self.problem.nodes(theta, mode)
            mode = nodes.mode
            begin = self.problem.evaluate(theta, rule, nodes)
            if not np.isfinite(begin.loglik).all():
                return theta
            H = _outer_inverse(begin.scores[:, free])
            end = optimize.minimize(
                self._criterion(theta, rule, nodes, free), theta[free], jac=True, method="BFGS",
                options={"hess_inv0": H, "gtol": 1e-4, "maxiter": 60},
            )  # fmt: skip
            theta = theta.copy()
            theta[free] = end.x
            if -end.fun - before < 1e-4:
                break
            before = -end.fun
        return theta

    def _criterion(
        self, whole: Floats, rule: Rule, nodes: Nodes, free: NDArray[np.bool_]
    ) -> Callable[[Floats], tuple[float, Floats]]:
        def criterion(own: Floats) -> tuple[float, Floats]:
            theta = whole.copy()
            theta[free] = own
            found = self._ask(theta, rule, nodes)
            value = float(found.loglik.sum())
            if not np.isfinite(value):
                return 1e30, np.zeros(len(own))
            return -value, -found.scores.sum(axis=0)[free]

        return criterion

    def _ask(self, theta: Floats, rule: Rule, nodes: Nodes) -> Evaluated:
        self.evaluations += 1
        found = self.problem.evaluate(theta, rule, nodes)
        if self.progress is not None:
            self.progress(self.evaluations, -2 * float(found.loglik.sum()), np.nan)
        return found

    def information(
        self, theta: Floats, rule: Rule, nodes: Nodes, free: NDArray[np.bool_]
    ) -> Floats:
        """Minus the second derivatives in the free parameters, by differences of the first."""
        found = self._ask(theta, rule, nodes)
        own = np.flatnonzero(free)
        steps = 1e-3 * np.sqrt(np.diag(_outer_inverse(found.scores[:, own])))
        steps = np.clip(steps, 1e-6, 1e-2)
        H = np.zeros((len(own), len(own)))
        for k, step in zip(range(len(own)), steps, strict=True):
            for sign in (1.0, -1.0):
                at = theta.copy()
                at[own[k]] += sign * step
                H[:, k] -= sign * self._ask(at, rule, nodes).scores.sum(axis=0)[own] / (2 * step)
        return np.asarray((H + H.T) / 2)

    def newton(
        self, theta: Floats, rule: Rule, free: NDArray[np.bool_]
    ) -> tuple[Floats, float, Floats, Floats, float]:
        """End by Newton's steps; returns theta, value, gradient, information and decrement.

        Second derivatives are those of fewer points, and stay while steps are short.
        """
        mode, H, decrement = None, np.zeros((0, 0)), np.inf
        fewer = gauss_hermite(min(rule.points, LEAST), self.problem.layout.d)
        for _ in range(12):
            nodes = self.problem.nodes(theta, mode)
            mode = nodes.mode
            found = self._ask(theta, rule, nodes)
            value, gradient = float(found.loglik.sum()), found.scores.sum(axis=0)
            if decrement > SHORT:
                H = self.information(theta, fewer, nodes, free)
            step = _safe_step(H, gradient[free])
            decrement = 0.5 * float(step @ gradient[free])
            if decrement < DONE:
                break
            length = 1.0
            for _ in range(20):
                at = theta.copy()
                at[free] += length * step
                trial = float(self.problem.loglik(at, rule, nodes).sum())
                if trial > value:
                    break
                length /= 2
            else:
                break
            theta = at
        return theta, value, gradient, H, decrement


def _outer_inverse(scores: Floats) -> Floats:
    """Inverse of the sum of the scores' outer products, held definite."""
    B = scores.T @ scores
    size = np.sqrt(np.diag(B))
    size[size == 0] = 1.0
    values, vectors = np.linalg.eigh(B / np.outer(size, size))
    values = np.maximum(values, 1e-4 * max(values.max(initial=0.0), 1e-300))
    H = (vectors / values) @ vectors.T / np.outer(size, size)
    return np.asarray((H + H.T) / 2)


def _safe_step(H: Floats, gradient: Floats) -> Floats:
    """Newton's step, uphill whatever the curvature."""
    size = np.sqrt(np.abs(np.diag(H)))
    size[size == 0] = 1.0
    values, vectors = np.linalg.eigh(H / np.outer(size, size))
    least = 1e-10 * max(float(np.abs(values).max(initial=0.0)), 1e-300)
    inner = vectors.T @ (gradient / size)
    return np.asarray((vectors @ (inner / np.maximum(np.abs(values), least))) / size)


def search(
    problem: Problem, points: int | None = None, progress: Progress | None = None,
    start: Floats | None = None,
) -> SearchEnd:  # fmt: skip
    """Maximise the likelihood.

    Parameters
    ----------
    problem : Problem
    points : int or None
        Of the quadrature along one effect; None for as many as settle the log-likelihood.
    progress : callable, optional
    start : (P,) float64 array, optional
    """
    scales = scaled(problem)
    inner, layout = scales.problem, problem.layout
    run = Search(inner, progress)
    every = np.ones(layout.size, dtype=np.bool_)
    d = layout.d
    coarse = gauss_hermite(COARSE if d else 1, d)
    begins = starts(inner) if start is None else [start / scales.unit]
    ends = [run.run(begin, coarse, 4, every) for begin in begins]
    values = [_value(inner, end, coarse) for end in ends]
    theta = ends[int(np.argmax(values))]
    rule = gauss_hermite(points or (LEAST if d else 1), d)
    while True:
        theta = run.run(theta, rule, 4, every)
        error = _error(inner, theta, rule)
        following = min(rule.points + 4, MOST.get(d, 7))
        if points is not None or abs(error) < SETTLED or following == rule.points:
            break
        rule = gauss_hermite(following, d)
    theta, free = _boundary(run, theta, rule)
    theta, value, gradient, H, decrement = run.newton(theta, rule, free)
    definite = bool(np.linalg.eigvalsh(_unit_diagonal(H)).min(initial=1.0) > 1e-10)
    information = np.zeros((layout.size, layout.size))
    information[np.ix_(free, free)] = H
    return SearchEnd(
        theta * scales.unit, value + scales.log_jacobian, gradient / scales.unit,
        information / np.outer(scales.unit, scales.unit), ~free, decrement, rule.points,
        _error(inner, theta, rule), run.evaluations, definite and decrement < 1e-5,
    )  # fmt: skip


def started(problem: Problem, theta: Floats) -> Floats:
    """A point to begin at: an optimum of like data, its zero effects a little off zero."""
    layout, unit = problem.layout, scaled(problem).unit
    L = layout.factor(theta)
    size = np.zeros((layout.r, layout.r))
    size[layout.entries] = unit[layout.of_factor]
    own = np.diag(size)
    diagonal = np.diag(L).copy()
    small = np.abs(diagonal) < 0.1 * own
    L[np.diag_indices_from(L)] = np.where(small, np.copysign(0.1 * own, diagonal), diagonal)
    return layout.with_factor(theta, L)


def _unit_diagonal(H: Floats) -> Floats:
    size = np.sqrt(np.abs(np.diag(H)))
    size[size == 0] = 1.0
    return np.asarray(H / np.outer(size, size))


def _value(problem: Problem, theta: Floats, rule: Rule) -> float:
    value = float(problem.loglik(theta, rule, problem.nodes(theta)).sum())
    return value if np.isfinite(value) else -np.inf


def _error(problem: Problem, theta: Floats, rule: Rule) -> float:
    if not problem.layout.d:
        return 0.0
    more = gauss_hermite(rule.points + 4, problem.layout.d)
    return _value(problem, theta, more) - _value(problem, theta, rule)


def _boundary(run: Search, theta: Floats, rule: Rule) -> tuple[Floats, NDArray[np.bool_]]:
    """Put diagonal entries of L that are next to nothing at zero, where that costs nothing."""
    layout = run.problem.layout
    free = np.ones(layout.size, dtype=np.bool_)
    value = _value(run.problem, theta, rule)
    rows, columns = layout.entries
    place = {(int(i), int(j)): layout.of_factor.start + k
             for k, (i, j) in enumerate(zip(rows, columns, strict=True))}  # fmt: skip
    for j in range(layout.r):
        L = layout.factor(theta)
        size = max(float(np.linalg.norm(L[j])), 0.1 if j < layout.d else 1e-2)
        if abs(L[j, j]) > 0.05 * size:
            continue
        at = layout.with_factor(theta, _without_column(L, j))
        held = free.copy()
        held[[k for (_, c), k in place.items() if c == j]] = False
        at = run.run(at, rule, 1, held)
        tried = _value(run.problem, at, rule)
        if tried >= value - 1e-6 - 0.5 * _gain(run, at, rule, held):
            theta, value, free = at, max(tried, value), held
    return theta, free


def _gain(run: Search, theta: Floats, rule: Rule, free: NDArray[np.bool_]) -> float:
    """What remains to be gained at a point, by its score."""
    found = run.problem.evaluate(theta, rule, run.problem.nodes(theta))
    g = found.scores.sum(axis=0)[free]
    return float(g @ _outer_inverse(found.scores[:, free]) @ g)


def _without_column(L: Floats, j: int) -> Floats:
    """L with column j zero and, as far as it can be, the same covariance of later effects."""
    later = slice(j + 1, None)
    rest = L[later, later] @ L[later, later].T + np.outer(L[later, j], L[later, j])
    out = L.copy()
    out[:, j] = 0.0
    own = rest + 1e-12 * np.eye(len(rest)) * max(float(np.trace(rest)), 1e-300)
    if len(rest):
        out[later, later] = np.linalg.cholesky(own)
    return out


def starts(problem: Problem) -> list[Floats]:
    """Two points to begin at: persons that differ somewhat, and hardly."""
    layout, X = problem.layout, problem.X
    theta = np.zeros(layout.size)
    theta[layout.slices[CONDITIONAL]] = np.linalg.lstsq(X[CONDITIONAL], problem.y, rcond=None)[0]
    D = problem.y - X[CONDITIONAL] @ theta[layout.slices[CONDITIONAL]]
    sizes = np.diff(problem.first)
    means = np.add.reduceat(D, problem.first[:-1]) / sizes
    W = D - means[problem.person]
    near = np.flatnonzero(problem.gap > 0)
    before, after = W[near - 1], W[near]
    phi = float(before @ after / max(float(before @ before), 1e-300)) if len(near) else 0.0
    span = float(np.median(problem.gap[near])) if len(near) else 1.0
    if problem.memory == "clock":
        eta = _logit_of_unit(min(max(phi, 0.05), 0.98), span)
    else:
        phi = float(np.clip(phi + 1.0 / max(float(np.median(sizes)), 2.0), -0.9, 0.9))
        eta = phi if problem.memory == "plain" else float(np.arctanh(phi))
    left = np.full(problem.persons, float(np.std(W)))
    spread = np.add.reduceat(W**2, problem.first[:-1]) / np.maximum(sizes - 1, 1)
    left = np.sqrt(np.where(spread > 0, spread, left**2 + 1e-12))
    if problem.memory != "clock":
        left = left * np.sqrt(1 - min(phi * phi, 0.95))
    log_sigma = float(np.mean(np.log(left)))
    theta[layout.slices[INERTIA]] = _constant(X[INERTIA], eta)
    theta[layout.slices[DISPERSION]] = _constant(X[DISPERSION], log_sigma + problem.log_unit)
    out = []
    for small in (1.0, 0.3):
        L = np.zeros((layout.r, layout.r))
        for j, effect in enumerate(layout.effects):
            size = {INERTIA: 0.3, DISPERSION: 0.35, INPUTS: 0.3}.get(effect.part)
            if size is None:
                size = float(np.std(means)) if effect.name == "(Intercept)" else 0.3
            L[j, j] = small * max(size, 0.05)
        out.append(layout.with_factor(theta, L))
    return out


def _logit_of_unit(phi: float, span: float) -> float:
    """The logit of the inertia over one unit of time, of phi over this span.

    Raises
    ------
    ModelError
        Where it cannot be told from zero or from one.
    """
    logarithm = float(np.log(phi)) / span
    if not LEAST_LOG < logarithm < -LEAST_FALL:
        raise ModelError(
            f"the rows of a person are about {span:.3g} apart in time, so that an inertia over "
            "one unit of time cannot be written as a number; give the time in units in which "
            "neighbours are about 1 apart"
        )
    return logarithm - float(np.log(-np.expm1(logarithm)))


def _constant(X: Floats, value: float) -> Floats:
    return np.asarray(np.linalg.lstsq(X, np.full(len(X), value), rcond=None)[0])
