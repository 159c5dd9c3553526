"""Optima at which the covariance of residuals is singular beside random effects.

V = Z Psi Z' + R may be definite, and the likelihood largest, where R is not: with R among the
positive semidefinite matrices the optimum is on their boundary, to which cross-products with
R^-1 lose their digits. Here V of a group is made and factored itself, and R is kept inside by a
barrier,

    f(theta) - mu sum over patterns of log|R / (tr R / n)|,

whose minimum tends with mu to that of f. At it mu R^-1 is the multiplier of R >= 0, so that f is
within mu times the rank that is lost of the optimum on the boundary (Fiacco & McCormick 1968;
Boyd & Vandenberghe 2004, section 11.2).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from ranef import squares
from ranef.covariance.structure import Structure
from ranef.solve.optimum import Progress
from ranef.solve.structured.design import Batch, Chunk, clusters_of
from ranef.solve.structured.problem import StructuredPoint, StructuredProblem
from ranef.solve.structured.rows import CAN_BE_SINGULAR, GroupJet, RowCovariance
from ranef.solve.structured.search import Found, search
from ranef.solve.structured.walls import Wall, added

__all__ = [
    "Beside",
    "beside_singular",
    "curvature_of_wall",
    "digits_lost",
    "is_near_boundary",
    "marginal_problem",
    "wall",
]

Floats = NDArray[np.float64]
Ints = NDArray[np.intp]

WEIGHTS = tuple(10.0 ** (-k / 2.0) for k in (0, 2, 4, 6, 7, 8, 9, 10, 11, 12, 14, 16))
"""Weights of the barrier, one after the other."""
STAGE = 80
"""Evaluations for one weight."""
MOST_PARAMETERS, MOST_CELLS = 60, 20_000_000
"""Up to which V of the groups is made, with all its derivatives."""
NEAR = 1e-3
"""Variance of a residual given those before it, below which R may be singular at the optimum."""
SINGULAR_V = 1e-8
"""The same of V where the likelihood has no bound."""
AWAY = 1e-3
"""How far the criterion that is reported may be from its optimum on the boundary."""


def wall(problem: StructuredProblem, own: Floats) -> Wall:
    """Evaluate the barrier of R; raises LinAlgError where R is not positive definite."""
    return added(_patterns(problem, own), problem.rows.n_parameters)


def _patterns(problem: StructuredProblem, own: Floats) -> Iterator[GroupJet]:
    """R of each batch of groups, with second derivatives."""
    for chunk in problem.chunks:
        for batch in chunk.batches:
            rows = chunk.rows[batch.rows[:1] if batch.shared else batch.rows]
            with np.errstate(all="ignore"):
                jet = problem.rows.at(own, rows, batch.by, True)
            yield jet


@dataclass(frozen=True, eq=False, kw_only=True)
class _MarginalRows(RowCovariance):
    """R + Z Psi Z' of the rows of a group.

    Attributes
    ----------
    inner : RowCovariance
    structures : tuple of Structure
    z : tuple of (n, r) float64 arrays
        Columns of the random terms, weights included.
    """

    inner: RowCovariance
    structures: tuple[Structure, ...]
    z: tuple[Floats, ...]

    @cached_property
    def n_random(self) -> int:
        return sum(structure.n_parameters for structure in self.structures)

    @cached_property
    def n_parameters(self) -> int:
        return self.n_random + self.inner.n_parameters

    @cached_property
    def positive(self) -> NDArray[np.bool_]:
        """Which are searched for by their logarithm."""
        return np.append(np.zeros(self.n_random, dtype=np.bool_), self.inner.positive)

    @cached_property
    def limits(self) -> Floats:
        """Ends of the range of each, (k, 2)."""
        return np.vstack([np.tile([-np.inf, np.inf], (self.n_random, 1)), self.inner.limits])

    def are_outside(self, theta: Floats) -> bool:
        """Whether a parameter of R is beyond its range."""
        return self.inner.are_outside(theta[self.n_random :])

    def at(self, theta: Floats, rows: Ints, by: int, second: bool = False) -> GroupJet:
        """V of the groups of these rows (g, n), all of one level of `by`."""
        f = self.n_random
        jet = self.inner.at(theta[f:], rows, by, second)
        value, first, place = np.array(jet.value), [], 0
        bent = {(f + i, f + j): d for (i, j), d in jet.second.items()}
        for structure, z in zip(self.structures, self.z, strict=True):
            part = theta[place : place + structure.n_parameters]
            Z = z[rows]
            back = np.swapaxes(Z, 1, 2)
            value = value + Z @ structure.psi(part) @ back
            first += [Z @ d @ back for d in structure.derivatives(part)]
            if second:
                twice = structure.second_derivatives(part)
                for i, j in zip(*np.triu_indices(len(part)), strict=True):
                    if np.any(twice[i, j]):
                        bent[place + int(i), place + int(j)] = Z @ twice[i, j] @ back
            place += structure.n_parameters
        slopes = np.concatenate([np.array(first).reshape(f, *value.shape), jet.first])
        return GroupJet(value, np.concatenate([np.arange(f), f + jet.own]), slopes, bent)


@dataclass(frozen=True, eq=False)
class MarginalProblem(StructuredProblem):
    """The same model with V of each group made itself, and a barrier around R.

    Attributes
    ----------
    base : StructuredProblem
    mu : float
        Weight of the barrier.
    """

    base: StructuredProblem | None = None
    mu: float = 0.0

    @cached_property
    def places(self) -> None:
        """None: V is not a matrix of places."""
        return

    @cached_property
    def units(self) -> Floats:
        """A modest size (k,) of each parameter."""
        assert self.base is not None
        return self.base.units

    def is_inside(self, theta: Floats) -> bool:
        """Whether Psi is positive semidefinite, and the parameters of R in their range."""
        assert self.base is not None
        return self.base.effects_inside(theta) and not self.rows.are_outside(theta)

    def point(self, theta: Floats, reml: bool, level: int = 1) -> StructuredPoint | None:
        """Evaluate the criterion and its barrier; None where one is not defined.

        Derivatives are exact: average information stalls where Psi is singular.
        """
        assert self.base is not None
        theta = np.asarray(theta, dtype=np.float64)
        if not self.is_inside(theta):
            return None
        f = self.base.n_random
        try:
            barrier = wall(self.base, theta[f:])
        except np.linalg.LinAlgError:
            return None
        at = super().point(theta, reml, 2 if level else 0)
        if at is None:
            return None
        gradient, hessian = at.gradient.copy(), at.hessian.copy()
        if level:
            gradient[f:] += self.mu * barrier.gradient
            hessian[f:, f:] += self.mu * barrier.hessian
        criterion = at.criterion + self.mu * barrier.value
        return replace(at, criterion=criterion, gradient=gradient, hessian=hessian)


def marginal_problem(problem: StructuredProblem) -> MarginalProblem | None:
    """The same model by V of each group; None where groups share effects, or few places lack."""
    spec, rows = problem.spec, problem.rows
    term = spec.residual
    if not problem.structures or term is None or term.group is None or len(term.parts) != 1:
        return None
    if term.parts[0].kind not in CAN_BE_SINGULAR or any(t.kernel is not None for t in spec.terms):
        return None
    clusters = clusters_of(spec, term)
    if len(np.unique(clusters)) != len(np.unique(term.group.codes)):
        return None
    root = np.ones(spec.n) if spec.weights is None else np.sqrt(spec.weights)
    z = tuple(root[:, None] * t.z for t in spec.terms)
    inner = _MarginalRows(term, rows.correlations, inner=rows, structures=problem.structures, z=z)
    return MarginalProblem(
        replace(spec, terms=(), residual=term),
        inner,
        (),
        problem.fixed,
        problem.taken,
        problem.scale,
        (_chunk_of_groups(problem),),
        base=problem,
    )


def _chunk_of_groups(problem: StructuredProblem) -> Chunk:
    """All rows in one cluster of fixed effects, groups of one size together."""
    p = problem.spec.p
    rows = np.concatenate([chunk.rows for chunk in problem.chunks])
    U = np.concatenate([chunk.U[:, -p - 1 :] for chunk in problem.chunks])
    batches, first = [], 0
    for chunk in problem.chunks:
        for batch in chunk.batches:
            own = first + batch.rows
            none = np.zeros(len(own), dtype=np.intp)
            batches.append(Batch(own, batch.by, none, len(own) == 1))
        first += len(chunk.rows)
    return Chunk(rows, U, 1, (), tuple(batches), problem.chunks[0].threads)


@dataclass(frozen=True, eq=False)
class Beside:
    """Where the likelihood is largest beside singular residuals.

    Attributes
    ----------
    found : Found or None
        The end of the path, of the problem itself; None where it found none that is proved.
    singular : bool
        Whether R is singular there.
    unbounded : bool
        Whether V became singular, and the likelihood has no bound.
    gain : float
        How far the criterion falls from the first start, with all digits.
    """

    found: Found | None
    singular: bool
    unbounded: bool
    gain: float


def beside_singular(
    problem: StructuredProblem, starts: list[Floats], reml: bool, progress: Progress | None
) -> Beside | None:
    """Follow the path of the barrier from each start; None where V of groups cannot be made."""
    marginal = marginal_problem(problem)
    if marginal is None or _cells(marginal) > MOST_CELLS:
        return None
    ends = [_path(marginal, start, reml, progress) for start in starts]
    proved = [end for end in ends if end.at is not None and end.last.converged]
    if not proved:
        return Beside(None, False, any(end.unbounded for end in ends), 0.0)
    best = min(proved, key=lambda end: end.lowest)
    assert best.at is not None
    own = best.at.theta[problem.n_random :]
    gradient, hessian = _with_wall(problem, best.at, best.mu, own)
    agreeing = sum(end.lowest < best.lowest + 1e-4 for end in proved)
    found = replace(
        best.last,
        at=replace(best.at, gradient=gradient, hessian=hessian),
        evaluations=sum(end.last.evaluations for end in ends),
        starts=len(ends),
        agreeing=agreeing,
    )
    first = marginal.point(starts[0], reml, 0)
    gain = np.inf if first is None else first.criterion - best.lowest
    return Beside(found, best.pivot < NEAR, False, float(gain))


def _cells(marginal: MarginalProblem) -> float:
    k = marginal.n_parameters
    if k > MOST_PARAMETERS:
        return float("inf")
    return float(k * sum(one.rows.size * one.rows.shape[1] for one in marginal.chunks[0].batches))


@dataclass(frozen=True, eq=False)
class _End:
    """The end of a path.

    Attributes
    ----------
    last : Found
        For the least weight.
    at : StructuredPoint or None
        Of the problem itself, where the path is nearest to the optimum and digits remain.
    mu : float
        The weight that belongs to it.
    lowest : float
        Criterion at the end, without the barrier.
    pivot : float
        Least variance of a residual given those before it, relative to the largest.
    unbounded : bool
    """

    last: Found
    at: StructuredPoint | None
    mu: float
    lowest: float
    pivot: float
    unbounded: bool


def _path(marginal: MarginalProblem, theta: Floats, reml: bool, progress: Progress | None) -> _End:
    problem = marginal.base
    assert problem is not None
    passed: list[tuple[float, Floats, float]] = []
    last, evaluations = None, 0
    for mu in WEIGHTS:
        found = search(replace(marginal, mu=mu), [theta], reml, STAGE, progress)
        if found is None:
            break
        last, theta = found, found.at.theta
        evaluations += found.evaluations
        bare = marginal.point(theta, reml, 0)
        passed.append((mu, theta, np.inf if bare is None else bare.criterion))
        if marginal.least_pivot(theta) < SINGULAR_V:
            last = replace(last, evaluations=evaluations)
            return _End(last, None, mu, passed[-1][2], 0.0, True)
    if last is None:
        start = marginal.point(theta, reml, 2)
        assert start is not None
        trace = np.array([start.criterion])
        last = Found(start, np.inf, 0.0, False, 1, trace)
        return _End(last, None, 0.0, np.inf, 1.0, False)
    lowest = passed[-1][2]
    pivot = _least_variance(problem, theta)
    best: tuple[float, StructuredPoint | None, float] = (AWAY, None, 0.0)
    for mu, place, bare_criterion in passed:
        at = problem.point(place, reml, 2) if mu <= WEIGHTS[3] else None
        if at is not None:
            away = max(bare_criterion - lowest, abs(at.criterion - bare_criterion))
            if away < best[0]:
                best = away, at, mu
    last = replace(last, evaluations=evaluations)
    return _End(last, best[1], best[2], lowest, pivot, False)


def _least_variance(problem: StructuredProblem, theta: Floats) -> float:
    """Least variance of a residual given those before it, relative to the largest of its group."""
    own, least = problem.split(theta)[1], 1.0
    for chunk in problem.chunks:
        for batch in chunk.batches:
            rows = chunk.rows[batch.rows[:1] if batch.shared else batch.rows]
            with np.errstate(all="ignore"):
                R = problem.rows.at(own, rows, batch.by).value
            try:
                pivots = np.diagonal(squares.cholesky(R), axis1=1, axis2=2) ** 2
            except np.linalg.LinAlgError:
                return 0.0
            most = np.diagonal(R, axis1=1, axis2=2).max(axis=1)
            least = min(least, float((pivots.min(axis=1) / most).min()))
    return least


def _with_wall(
    problem: StructuredProblem, at: StructuredPoint, mu: float, own: Floats
) -> tuple[Floats, Floats]:
    """Gradient and Hessian with those of the barrier."""
    f, barrier = problem.n_random, wall(problem, own)
    gradient, hessian = at.gradient.copy(), at.hessian.copy()
    gradient[f:] += mu * barrier.gradient
    hessian[f:, f:] += mu * barrier.hessian
    return gradient, hessian


def curvature_of_wall(problem: StructuredProblem, at: StructuredPoint) -> Floats:
    """The barrier's share (k, k) of the Hessian at an optimum on its path; zero elsewhere.

    There the gradient of the criterion is that of the barrier but for a factor, minus its weight.
    With its share the Hessian is that of the criterion on the boundary: curvature across it is
    as good as infinite.
    """
    out = np.zeros((problem.n_parameters,) * 2)
    f, marginal = problem.n_random, marginal_problem(problem)
    if marginal is None or not is_near_boundary(problem, at.theta):
        return out
    here = marginal.point(at.theta, at.degrees < problem.spec.n, 1)
    if here is None:
        return out
    barrier = wall(problem, at.theta[f:])
    out[f:, f:] = barrier.weight(here.gradient[f:]) * barrier.hessian
    return out


def digits_lost(problem: StructuredProblem, at: StructuredPoint, reml: bool) -> float:
    """How far a criterion next to the boundary of R is from that of V made itself."""
    marginal = marginal_problem(problem)
    if marginal is None or not is_near_boundary(problem, at.theta):
        return 0.0
    here = marginal.point(at.theta, reml, 0)
    return np.inf if here is None else abs(here.criterion - at.criterion)


def is_near_boundary(problem: StructuredProblem, theta: Floats) -> bool:
    """Whether a residual has hardly a variance given those before it."""
    return _least_variance(problem, theta) < NEAR
