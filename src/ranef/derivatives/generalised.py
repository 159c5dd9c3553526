"""What can be asked of a generalised estimate: the joint covariance of
coefficients and theta, covariances of the modes, prediction errors.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from ranef import _core, covariance
from ranef.derivatives.linear import VALUES, level_rows
from ranef.derivatives.scores import cluster_scores
from ranef.errors import ModelError
from ranef.solve.laplace import LEAST_INFORMATION
from ranef.solve.parametrisation import joined
from ranef.solve.predictors import GeneralisedAssembly, Spot, assemble_generalised
from ranef.solve.problem import GeneralisedDesign

if TYPE_CHECKING:
    from ranef.models.records import GeneralisedEstimate

__all__ = [
    "generalised_conditional_covariances",
    "generalised_criterion",
    "generalised_prediction_variance",
    "joint_covariance",
    "joint_gradient",
    "joint_hessian",
    "mode_derivatives",
    "modes_given",
    "posterior_moments",
    "solution",
]

Floats = NDArray[np.float64]
Ints = NDArray[np.int32]


def _assembly(
    estimate: GeneralisedEstimate, design: GeneralisedDesign | None = None
) -> GeneralisedAssembly:
    return assemble_generalised(
        design or estimate.design, estimate.optimum.path, quadrature=estimate.quadrature
    )


def _point(assembly: GeneralisedAssembly, estimate: GeneralisedEstimate) -> Floats:
    return assembly.point(estimate.theta, estimate.coefficients, estimate.optimum.ranks)


@dataclass(frozen=True, eq=False)
class Solution:
    """The core at the optimum of an estimate.

    Attributes
    ----------
    assembly : GeneralisedAssembly
    x : (K + F,) float64 array
        Parameters of the core.
    end : _core.Modes or None
        Where the core's own search ended, if the estimate is what it found.
    """

    assembly: GeneralisedAssembly
    x: Floats
    end: _core.Modes | None


_solutions: WeakKeyDictionary[GeneralisedEstimate, Solution] = WeakKeyDictionary()


def solution(estimate: GeneralisedEstimate) -> Solution:
    """Return the core at the optimum, where its search left it if it is known; made once."""
    if estimate not in _solutions:
        assembly = _assembly(estimate)
        _solutions[estimate] = Solution(assembly, _point(assembly, estimate), None)
        for end in assembly.ends:
            if end.theta is estimate.theta and end.coefficients is estimate.coefficients:
                _solutions[estimate] = Solution(assembly, end.x, end.modes)
    return _solutions[estimate]


def _state(assembly: GeneralisedAssembly, inner: Floats, spot: Spot) -> tuple[Floats, Floats]:
    """Gradient in the core's outer coefficients and theta, and all coefficients."""
    modes = assembly.ends[0].modes if assembly.ends else None
    state = assembly.core.state(np.concatenate([spot.phi, inner]), True, modes)
    _need_finite(state["criterion"])
    by_coefficient = state["gradient"][assembly.core.parameters :]
    return np.concatenate([by_coefficient, spot.gradient(state)]), state["coefficients"]


def _need_finite(criterion: float | Floats) -> None:
    if not np.isfinite(criterion).all():
        raise ModelError(
            "the likelihood is not finite a small step from the optimum: no covariance matrix "
            "of the estimates can be given"
        )


def joint_gradient(estimate: GeneralisedEstimate, coefficients: Floats, theta: Floats) -> Floats:
    """Exact gradient of minus twice the log-likelihood, coefficients first.

    Parameters
    ----------
    estimate : GeneralisedEstimate
        Gives the model; the point may be any.
    coefficients : (P,) array
        Those that are held, or integrated out (under REML), are not read; of equal
        ones the first is.
    theta : (k,) array

    Returns
    -------
    (F + k,) array
        Of the free coefficients (equal ones are one), without those that are
        integrated out.
    """
    assembly = _assembly(estimate)
    spot, outer = assembly.spot(theta, estimate.optimum.ranks), assembly.outer
    g, _ = _state(assembly, assembly.inner(coefficients)[outer], spot)
    T = assembly.scale[np.ix_(outer, outer)]
    g[: len(outer)] = np.linalg.solve(T.T, g[: len(outer)])
    return g


def generalised_criterion(
    estimate: GeneralisedEstimate, coefficients: Floats, theta: Floats
) -> float:
    """Minus twice the log-likelihood (of the criterion fitted) at any point.

    Coefficients that are held or integrated out are not read.
    """
    assembly = _assembly(estimate)
    inner = assembly.inner(coefficients)[assembly.outer]
    x = np.concatenate([assembly.phi(theta, {}), inner])
    return float(assembly.core.state(x, False)["criterion"]) + assembly.shift


STEP = 2e-4
"""Of the gradient's differences, beside a parameter's scale. What a central difference leaves out
moves a standard error by some 1e-8 of it, and the gradient has the digits for it."""


def _curvature(
    assembly: GeneralisedAssembly, estimate: GeneralisedEstimate
) -> tuple[Floats, NDArray[np.bool_], Floats]:
    """Hessian in the core's outer coefficients and theta, what is free, and the
    derivatives of all the core's coefficients with respect to these.

    Central differences of the exact gradient, at modes that move along their tangent.
    """
    ranks, theta = estimate.optimum.ranks, estimate.theta
    inner = assembly.inner(estimate.coefficients)[assembly.outer]
    m = len(inner)
    loose = np.concatenate([np.ones(m, dtype=np.bool_), _loose(assembly, theta, ranks)])
    steps = np.concatenate([np.full(m, STEP), _theta_steps(assembly, theta)])
    x = np.concatenate([inner, theta])
    hessian = np.zeros((len(x), len(x)))
    moved = np.zeros((assembly.free.count, len(x)))

    entries = np.flatnonzero(loose)
    if len(entries):
        slopes, moves = _sides(assembly, estimate, x, entries, steps)
        hessian[entries], moved[:, entries] = slopes, moves.T
    keep = np.ix_(loose, loose)
    symmetric = np.zeros_like(hessian)
    symmetric[keep] = (hessian[keep] + hessian[keep].T) / 2
    return symmetric, loose, moved


def _sides(
    assembly: GeneralisedAssembly,
    estimate: GeneralisedEstimate,
    x: Floats,
    entries: NDArray[np.intp],
    steps: Floats,
) -> tuple[Floats, Floats]:
    """Derivatives of the gradient and of the core's coefficients, by entries of x.

    Parameters
    ----------
    x : array
        The core's outer coefficients, then theta.
    entries : (k,) array
    steps : array of the length of x
    """
    ranks, m, K = estimate.optimum.ranks, len(assembly.outer), assembly.core.parameters
    still = assembly.spot(estimate.theta, ranks)
    spots: list[tuple[Spot, Spot]] = []
    points = np.zeros((2, len(entries), K + m))
    for j, i in enumerate(entries):
        pair = []
        for side, sign in enumerate((1, -1)):
            at = x.copy()
            at[i] += sign * steps[i]
            spot = still if i < m else assembly.spot(at[m:], ranks)
            points[side, j] = np.concatenate([spot.phi, at[:m]])
            pair.append(spot)
        spots.append((pair[0], pair[1]))
    own = solution(estimate)
    try:
        found = assembly.core.beside(own.x, points[0], points[1], own.end)
    except ValueError:  # so far out no modes are found but from those of the search
        _need_finite(np.inf)
        raise
    _need_finite(found["criterion"])
    slopes = np.zeros((len(entries), len(x)))
    for j, pair_of in enumerate(spots):
        for spot, side, sign in zip(pair_of, (0, 1), (1, -1), strict=True):
            gradient = found["gradient"][j, side]
            by_psi = [G[j, side] for G in found["psi_gradient"]]
            by_theta = spot.gradient({"gradient": gradient, "psi_gradient": by_psi})
            slopes[j] += sign * np.concatenate([gradient[K:], by_theta])
    width = 2 * steps[entries, None]
    moved = found["coefficients"][:, 0] - found["coefficients"][:, 1]
    return slopes / width, moved / width


def _loose(
    assembly: GeneralisedAssembly, theta: Floats, ranks: dict[int, int]
) -> NDArray[np.bool_]:
    """Which entries of theta neither a face nor the user holds, (k,)."""
    return assembly.free_entries(theta, ranks) & ~assembly.held(theta)


def _theta_steps(assembly: GeneralisedAssembly, theta: Floats) -> Floats:
    unit = joined(term.units for term in assembly.terms)
    steps = STEP * np.maximum(np.abs(theta), 0.1 * unit)
    return np.asarray(np.minimum(steps, assembly.room(theta) / 2), dtype=np.float64)


def _carried(matrix: Floats, transform: Floats) -> Floats:
    """A matrix over coefficients and theta with the coefficients transformed."""
    rows, columns = transform.shape
    k = len(matrix) - columns
    full = np.zeros((rows + k, columns + k))
    full[:rows, :columns] = transform
    full[rows:, columns:] = np.eye(k)
    return np.asarray(full @ matrix @ full.T, dtype=np.float64)


def joint_hessian(estimate: GeneralisedEstimate) -> tuple[Floats, NDArray[np.bool_]]:
    """Second derivatives of minus twice the log-likelihood at the optimum.

    Returns
    -------
    hessian : (F + k, F + k) float64 array
        Free coefficients (equal ones are one, without those that are integrated
        out) first, then theta; zero where theta is held, by a face or by the user.
    free : (F + k,) bool array
    """
    assembly = _assembly(estimate)
    hessian, loose, _ = _curvature(assembly, estimate)
    T = assembly.scale[np.ix_(assembly.outer, assembly.outer)]
    return _carried(hessian, np.asarray(np.linalg.inv(T).T, dtype=np.float64)), loose


def joint_covariance(estimate: GeneralisedEstimate) -> Floats:
    """Covariance matrix (P + k, P + k) of the estimates, coefficients first.

    The inverse of half the Hessian on the free parameters; rows and columns of
    parameters that are held, by a face or by the user, are zero, and those of equal
    coefficients are equal. Coefficients that are integrated
    out have their covariance given the others, plus what the others' uncertainty
    moves them (by the delta method).

    Raises
    ------
    ModelError
        When the Hessian is not positive definite: the estimates are no proper
        maximum.
    """
    assembly = _assembly(estimate)
    hessian, loose, moved = _curvature(assembly, estimate)
    runs = np.isin(assembly.free.first, estimate.runaway)
    away = (np.linalg.inv(assembly.scale)[:, runs] != 0).any(axis=1)[assembly.outer]
    hessian = _at_limits(hessian, np.flatnonzero(away), loose)
    keep = np.ix_(loose, loose)
    outside = np.zeros_like(hessian)
    outside[keep] = _inverse_of_half(hessian[keep], bool(estimate.optimum.flat))
    F, outer, inside = assembly.free.count, assembly.outer, assembly.integrated
    # rows: the free coefficients and theta; columns: the parameters of the criterion
    spread = np.zeros((F + len(estimate.theta), len(hessian)))
    spread[:F] = moved
    spread[outer] = np.eye(len(hessian))[: len(outer)]
    spread[F:] = np.eye(len(hessian))[len(outer) :]
    out = spread @ outside @ spread.T
    if len(inside):
        back = assembly.back
        C = back @ estimate.coefficient_vcov @ back.T
        given = C[np.ix_(inside, inside)]
        if len(outer):
            cross = C[np.ix_(inside, outer)]
            given = given - cross @ np.linalg.solve(C[np.ix_(outer, outer)], cross.T)
        out[np.ix_(inside, inside)] += given
    found = _carried(out, assembly.scale)
    if estimate.sampling is not None:
        found = _of_levels(estimate, found)
    return _carried(found, assembly.free.M)


def _of_levels(estimate: GeneralisedEstimate, inverse: Floats) -> Floats:
    """Sandwich of the scores of the levels by their sampling weights, as Stata and GLLAMM have it.

    m / (m - 1) I^-1 (sum w_j^2 s_j s_j') I^-1, m the number of levels.
    """
    weights = estimate.sampling
    assert weights is not None
    codes = estimate.factors[0].codes.astype(np.intp)
    moves = (weights[:, None] * cluster_scores(estimate, codes)) @ inverse
    m = len(weights)
    return np.asarray(moves.T @ moves * (m / (m - 1)))


FLAT = 1e-6
"""Eigenvalue of the scaled Hessian that counts as none, where some are known to be."""


def _at_limits(hessian: Floats, away: NDArray[np.intp], loose: NDArray[np.bool_]) -> Floats:
    """Second derivatives in which coefficients that diverge are by themselves, nearly level.

    Only where rounding leaves the matrix not definite: the others are then known as they are at
    the limit.
    """
    if not away.size or _definite(hessian[np.ix_(loose, loose)]):
        return hessian
    out = hessian.copy()
    out[away], out[:, away] = 0.0, 0.0
    out[away, away] = 2 * LEAST_INFORMATION
    return out


def _scaled(hessian: Floats) -> tuple[Floats, Floats]:
    """The matrix with a diagonal of one, and what it was divided by."""
    scale = np.sqrt(np.abs(np.diag(hessian)))
    scale[scale == 0] = 1.0
    return hessian / np.outer(scale, scale), scale


def _definite(hessian: Floats) -> bool:
    return not len(hessian) or bool(np.linalg.eigvalsh(_scaled(hessian)[0])[0] > 0)


def _inverse_of_half(hessian: Floats, flat: bool = False) -> Floats:
    """Twice the inverse; of a Hessian that is flat in known directions, a generalised one."""
    scaled, scale = _scaled(hessian)
    if flat:
        inverse = np.linalg.pinv(scaled, rcond=FLAT, hermitian=True)
        return np.asarray(2 * inverse / np.outer(scale, scale), dtype=np.float64)
    if not _definite(hessian):
        raise ModelError(
            "the matrix of second derivatives of the log-likelihood is not definite, so that "
            "there are no standard errors: a coefficient or a variance cannot be estimated "
            "from these data"
        )
    return np.asarray(2 * np.linalg.inv(scaled) / np.outer(scale, scale), dtype=np.float64)


def generalised_conditional_covariances(
    estimate: GeneralisedEstimate,
) -> tuple[tuple[Floats, Floats], ...]:
    """Covariance matrices of each term's modes, by level.

    Returns
    -------
    tuple of (given_parameters, prediction_error), each (q, r, r)
        For each term of the design: given coefficients and theta; and with
        what is not known about the coefficients.
    """
    own = solution(estimate)
    assembly = own.assembly
    try:
        both = assembly.core.all_mode_covariances(own.x, own.end)
    except ValueError as error:
        raise ModelError(
            "how well the random effects are known cannot be said: the likelihood is not finite "
            "around the estimates (a dispersion at its end, or a search that did not end)"
        ) from error
    out = []
    for term in assembly.terms:
        cut = term.columns
        given, added = (
            term.basis @ matrices[:, cut, cut] @ term.basis.T for matrices in both[term.block]
        )
        out.append((given, added))
    return tuple(out)


def generalised_prediction_variance(
    estimate: GeneralisedEstimate, X: Floats, random: Sequence[tuple[Ints, Floats] | None]
) -> Floats:
    """Variance of the prediction error of x'beta + z'b given theta, (N,).

    Parameters
    ----------
    estimate : GeneralisedEstimate
    X : (N, P) array
        Over all coefficients: zero where a coefficient has no part.
    random : one (codes (N,), z (N, r)) for each term of the design, or None
        Code -1 is a new level: it adds z' Psi z. None leaves the term out.
    """
    own = solution(estimate)
    assembly = own.assembly
    codes, z, new = level_rows(assembly, estimate.covariances, len(X), random)
    inner = np.ascontiguousarray(X @ assembly.transform)
    forms = assembly.core.quadratic_forms(own.x, codes, z, inner, own.end)
    return np.asarray(forms + new, dtype=np.float64)


@dataclass(frozen=True, eq=False)
class GivenModes:
    """Random effects of a design at parameters that were found elsewhere.

    Attributes
    ----------
    modes : tuple of (q, r) float64 arrays
        Of each term.
    predictors : (M, n) float64 array
        At the modes.
    coefficient_vcov : (P, P) float64 array
        Of the coefficients given theta, from these rows.
    """

    modes: tuple[Floats, ...]
    predictors: Floats
    coefficient_vcov: Floats


def modes_given(estimate: GeneralisedEstimate) -> GivenModes:
    """Modes of an estimate's design at its coefficients and theta.

    Raises
    ------
    ModelError
        When they cannot be found: a response that the parameters make impossible.
    """
    design = replace(estimate.design, integrated=())
    assembly = _assembly(estimate, design if estimate.design.integrated else None)
    # only with derivatives the core has the covariance of the coefficients
    found = assembly.core.state(_point(assembly, estimate), True)
    if not np.isfinite(found["criterion"]):
        raise ModelError(
            "at the fitted parameters some of these observations are impossible, so that the "
            "random effects of their levels cannot be found"
        )
    modes = assembly.modes(found["modes"])
    return GivenModes(modes, found["predictors"], assembly.covariance(found["fixed_covariance"]))


def mode_derivatives(estimate: GeneralisedEstimate) -> tuple[Floats, ...]:
    """Derivatives of the modes with respect to coefficients and theta, exact.

    The modes b = Psi s, s = Z'f'(eta), depend on their own parameters by the implicit function
    theorem: with W the information of the rows' predictors and V = W^-1 + Z Psi Z',

        db = dPsi s - Psi Z'V^-1 (X dbeta + Z dPsi s).

    Returns
    -------
    tuple of (q, r, P + k) float64 arrays
        For each term of the design, coefficients first; zero where a parameter is held. Of
        equal coefficients the first has the derivative with respect to their common value.
    """
    # the modes given all coefficients, also of those that the fit integrated out
    design = estimate.design  # an assembly lives as long as its design
    if design.integrated:
        design = replace(design, integrated=())
        assembly = _assembly(estimate, design)
        own = Solution(assembly, _point(assembly, estimate), None)
    else:
        own = solution(estimate)
    assembly, F = own.assembly, own.assembly.free.count
    loose = _loose(assembly, estimate.theta, estimate.optimum.ranks)
    out = [np.zeros((*b.shape, F + len(loose))) for b in estimate.modes]
    moves = [*_moved_by_coefficients(assembly), *_moved_by_theta(own, estimate, loose, out)]
    step = max(1, VALUES // (len(design.predictors) * len(design.y)))
    for first in range(0, len(moves), step):
        some = moves[first : first + step]
        found = assembly.core.modes_of(own.x, np.stack([d for _, d in some]), own.end)
        for term, target in zip(assembly.terms, out, strict=True):
            for j, (i, _) in enumerate(some):
                target[:, :, i] -= found[term.block][j][:, term.columns]
    return tuple(
        np.concatenate([target[:, :, :F] @ assembly.back, target[:, :, F:]], axis=2)
        for target in out
    )


Moves = list[tuple[int, Floats]]
"""Of each parameter that moves the predictors by itself: its place, and (M, n) displacements."""


def _moved_by_coefficients(assembly: GeneralisedAssembly) -> Moves:
    """X of each of the core's coefficients."""
    design = assembly.design
    shape = len(design.predictors), len(design.y)
    out = [(e, np.zeros(shape)) for e in range(assembly.free.count)]
    for m, predictor in enumerate(design.predictors):
        columns = predictor.X @ assembly.transform[predictor.coefficients]
        for (_, displacement), column in zip(out, columns.T, strict=True):
            displacement[m] = column
    return out


def _moved_by_theta(
    own: Solution, estimate: GeneralisedEstimate, loose: NDArray[np.bool_], out: list[Floats]
) -> Moves:
    """Z dPsi s of each entry of theta that is loose; dPsi s is added to `out`."""
    assembly, F, place = own.assembly, own.assembly.free.count, 0
    design = assembly.design
    scores = assembly.core.mode_scores(own.x, own.end)
    moves: Moves = []
    parts = assembly.split(estimate.theta)
    for number, (term, part) in enumerate(zip(assembly.terms, parts, strict=True)):
        slopes = term.structure.derivatives(part)
        s = scores[term.block][:, term.columns] @ term.inverse_basis
        codes, z = design.factors[term.term.factor].codes, term.term.z
        for i in np.flatnonzero(loose[place : place + term.count]):
            direct = s @ slopes[i]
            if term.term.kernel is not None:
                direct = covariance.lower_factor(term.term.kernel) @ direct
            out[number][:, :, F + place + i] += direct
            displacement = np.zeros((len(design.predictors), len(design.y)))
            for column, m in enumerate(design.owners[number]):
                displacement[m] += direct[codes, column] * z[:, column]
            moves.append((F + place + int(i), displacement))
        place += term.count
    return moves


def posterior_moments(
    estimate: GeneralisedEstimate, nodes: int
) -> tuple[tuple[Floats, Floats], ...]:
    """Means and covariances of each term's effects by level, given data and parameters.

    By adaptive Gauss-Hermite quadrature, whatever the approximation by which the
    parameters were estimated.

    Parameters
    ----------
    estimate : GeneralisedEstimate
    nodes : int
        For each random effect, 2 or more.

    Returns
    -------
    tuple of (mean, covariance), (q, r) and (q, r, r)

    Raises
    ------
    ModelError
        When quadrature cannot integrate the model.
    """
    design = replace(estimate.design, integrated=(), penalty=None)
    assembly = assemble_generalised(design, quadrature=nodes)
    point = _point(assembly, estimate)
    both = [assembly.core.posterior(point, b) for b in range(len(assembly.blocks))]
    out = []
    for term in assembly.terms:
        cut = term.columns
        mean, covariance = both[term.block]
        out.append((mean[:, cut], term.basis @ covariance[:, cut, cut] @ term.basis.T))
    return tuple(out)
