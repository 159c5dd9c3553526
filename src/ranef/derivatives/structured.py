"""The same of a linear model whose residuals have a structure: what is known at its optimum."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from ranef.solve.structured.kept import SolvedRows, solved_rows
from ranef.solve.structured.problem import structured_problem

if TYPE_CHECKING:
    from ranef.models.records import LinearEstimate

__all__ = [
    "at_optimum",
    "effect_derivatives",
    "error_covariance",
    "error_covariance_derivatives",
    "error_factor",
    "modes_of",
    "new_level_variance",
    "null_scores",
    "prediction_variance",
    "prediction_variance_derivatives",
]

Floats = NDArray[np.float64]
Ints = NDArray[np.int32]
Random = Sequence[tuple[Ints, Floats] | None]

STEP = 1e-4
"""Of a difference quotient, relative to the parameter."""

_kept: WeakKeyDictionary[LinearEstimate, SolvedRows] = WeakKeyDictionary()


def at_optimum(estimate: LinearEstimate) -> SolvedRows:
    """Return the model solved at the theta of an estimate; made once for each."""
    if estimate not in _kept:
        problem = structured_problem(estimate.specification)
        _kept[estimate] = solved_rows(problem, estimate.theta, estimate.reml)
    return _kept[estimate]


def null_scores(
    small: LinearEstimate, large: LinearEstimate, Y: Floats
) -> tuple[tuple[Floats, ...], tuple[Floats, ...]]:
    """Scores of a larger model at a smaller one with the same residuals, for responses Y (n, m).

    Returns
    -------
    terms : tuple of (m, r, r) float64 arrays
        Of the covariance matrices of the larger model's terms.
    others : tuple of (m,) float64 arrays
        Of the residuals' parameters.
    """
    found, spec = at_optimum(small), large.specification
    X = small.specification.X
    T = found.problem.fixed.transform
    _, fixed, solved = found.solved(Y)
    VX = found.solved(X)[2]
    PY = solved - VX @ (T @ (found.at.C @ fixed))
    r2 = np.einsum("nm,nm->m", Y, PY)
    terms = []
    for term in spec.terms:
        factor = spec.factors[term.factor]
        g = np.zeros((factor.n_levels, term.size, Y.shape[1]))
        np.add.at(g, factor.codes, term.z[:, :, None] * PY[:, None, :])
        moved = g if term.kernel is None else np.einsum("ql,lam->qam", term.kernel, g)
        terms.append(np.einsum("qam,qbm->mab", g, moved) / r2[:, None, None])
    others = np.zeros((found.problem.rows.n_parameters, Y.shape[1]))
    for chunk in found.problem.chunks:
        for batch in chunk.batches:
            jet, rows = found.jet(chunk, batch), chunk.rows[batch.rows]
            v = PY[rows] / found.root[rows][:, :, None]
            for i, k in enumerate(jet.own):
                others[k] += np.einsum("gnm,gnm->m", v, jet.first[i] @ v)
    return tuple(terms), tuple(others / r2)


def modes_of(estimate: LinearEstimate, responses: Floats) -> tuple[tuple[Floats, ...], Floats]:
    """Modes (k, q, r) and fixed effects (k, p) that responses (k, n) would have."""
    modes, beta = at_optimum(estimate).effects_of(np.asarray(responses).T)
    return tuple(np.moveaxis(b, 2, 0) for b in modes), beta.T


def effect_derivatives(estimate: LinearEstimate) -> tuple[Floats, tuple[Floats, ...]]:
    """Derivatives of beta (p, k) and of the modes (q, r, k) in theta: see `linear`."""
    found = at_optimum(estimate)
    modes, beta = found.effects_of(found.moved_responses())
    moved = [-b for b in modes]
    problem, spec = found.problem, estimate.specification
    parts, _ = problem.split(estimate.theta)
    place = 0
    for out, structure, part, term, s in zip(
        moved, problem.structures, parts, spec.terms, found.scores(), strict=True
    ):
        for i, d in enumerate(structure.derivatives(part)):
            direct = s @ d
            out[:, :, place + i] += direct if term.kernel is None else term.kernel @ direct
        place += structure.n_parameters
    free = found.free
    return np.where(free, -beta, 0.0), tuple(np.where(free, b, 0.0) for b in moved)


def new_level_variance(covariances: Sequence[Floats], rows: int, random: Random) -> Floats:
    """Z'Psi z (rows,) of levels that the fit has not seen."""
    out = np.zeros(rows)
    for psi, given in zip(covariances, random, strict=True):
        if given is not None:
            codes, z = given
            new = np.where((codes < 0)[:, None], z, 0.0)
            out += np.einsum("ij,jk,ik->i", new, psi, new)
    return out


def prediction_variance(estimate: LinearEstimate, X: Floats, random: Random) -> Floats:
    """Variance (N,) of the prediction error of x'beta + z'b."""
    known = estimate.sigma**2 * at_optimum(estimate).variances(X, random)
    return np.asarray(known + new_level_variance(estimate.covariances, len(X), random))


def prediction_variance_derivatives(estimate: LinearEstimate, X: Floats, random: Random) -> Floats:
    """Derivatives (N, k) of `prediction_variance` in theta, sigma held."""

    def variance(found: SolvedRows) -> Floats:
        psis = _psis(found)
        return found.variances(X, random) + new_level_variance(psis, len(X), random)

    return np.asarray(estimate.sigma**2 * _differences(estimate, variance, (len(X),)).T)


def error_covariance(estimate: LinearEstimate, X: Floats, random: Random) -> Floats:
    """Joint covariance (N, N) of the errors of x'beta + z'b, sigma included."""
    found = at_optimum(estimate)
    own = found.covariance(X, random) + _new(_psis(found), random)
    return np.asarray(estimate.sigma**2 * own)


def error_covariance_derivatives(estimate: LinearEstimate, X: Floats, random: Random) -> Floats:
    """Derivatives (k, N, N) of `error_covariance` in theta, sigma held."""

    def covariance(found: SolvedRows) -> Floats:
        return found.covariance(X, random) + _new(_psis(found), random)

    return np.asarray(estimate.sigma**2 * _differences(estimate, covariance, (len(X), len(X))))


def error_factor(estimate: LinearEstimate, X: Floats, random: Random) -> tuple[Floats, Floats]:
    """Factors (N, q), (N, p) of the errors of x'beta + z'b of known levels: given beta, and beta's.

    The first times itself is the covariance given the fixed effects; both together that of
    the prediction error.
    """
    return tuple(estimate.sigma * part for part in at_optimum(estimate).factors(X, random))  # type: ignore[return-value]


def _psis(found: SolvedRows) -> list[Floats]:
    parts, _ = found.problem.split(found.theta)
    return [s.psi(p) for s, p in zip(found.problem.structures, parts, strict=True)]


def _new(psis: Sequence[Floats], random: Random) -> Floats | float:
    out: Floats | float = 0.0
    for psi, given in zip(psis, random, strict=True):
        if given is not None:
            codes, z = given
            new = np.where((codes < 0)[:, None], z, 0.0)
            out = out + new @ psi @ new.T
    return out


def _differences(
    estimate: LinearEstimate, function: Callable[[SolvedRows], Floats], shape: tuple[int, ...]
) -> Floats:
    """Derivatives (k, *shape) in theta by central differences; zero of what is not free."""
    found = at_optimum(estimate)
    problem, theta = found.problem, estimate.theta
    out = np.zeros((len(theta), *shape))
    for i in np.flatnonzero(found.free):
        step = STEP * max(abs(float(theta[i])), 0.05 * float(problem.units[i]))
        ends = []
        for sign in (1.0, -1.0):
            moved = theta.copy()
            moved[i] += sign * step
            at = problem.point(moved, estimate.reml, 0)
            if at is not None:
                ends.append((sign * step, function(SolvedRows(problem, at))))
        if len(ends) == 2:
            out[i] = (ends[0][1] - ends[1][1]) / (ends[0][0] - ends[1][0])
        elif ends:
            out[i] = (ends[0][1] - function(found)) / ends[0][0]
    return out
