"""What can be asked of an estimate: covariances of the modes, prediction errors,
which parameters are free.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from ranef import _core, covariance
from ranef.derivatives import structured
from ranef.solve.assembly import Assembly, assemble
from ranef.solve.optimum import Optimum
from ranef.solve.parametrisation import Parametrisation, joined

if TYPE_CHECKING:
    from ranef.models.records import LinearEstimate

__all__ = [
    "conditional_covariances",
    "effect_derivatives",
    "free",
    "modes_of",
    "moved_means",
    "prediction_derivatives",
    "prediction_variance",
    "prediction_variance_derivatives",
    "psi_scores",
    "scale",
]

Floats = NDArray[np.float64]
Ints = NDArray[np.int32]

STEP = 1e-3
"""Of a difference quotient, relative to the parameter."""
FEW_ROWS = 20
"""Rows up to which a whole solve each costs less than factorisations beside the estimate."""
VALUES = 2_000_000
QUICK = 1e8
"""Operations that whole solves of all rows may take, where they are more."""


@dataclass(frozen=True, eq=False)
class Solved:
    """The core at the optimum of an estimate.

    Attributes
    ----------
    assembly : Assembly
    reml : bool
    theta : (k,) float64 array
    optimum : Optimum
    free : (k,) bool array
        Which entries of theta are free on the faces of the optimum.
    """

    assembly: Assembly
    reml: bool
    theta: Floats
    optimum: Optimum
    free: NDArray[np.bool_]

    @cached_property
    def at(self) -> tuple[Floats, bool, Floats]:
        """Response, criterion and parameters, as the core takes them."""
        phi = self.assembly.phi(self.theta, self.optimum.ranks)
        return self.assembly.response(), self.reml, phi

    @cached_property
    def end(self) -> tuple[Floats, bool, Floats]:
        """As `at`, where the search left the core to the last bit, if that is known.

        An optimum may be that of other rows, whose columns the core has in other units.
        """
        end, optimum = self.optimum.phi, self.optimum
        if end is None or not (
            optimum.theta is self.theta or np.array_equal(optimum.theta, self.theta)
        ):
            return self.at
        pairs = zip(end.tolist(), self.at[2].tolist(), strict=True)
        near = all(abs(abs(a) - abs(b)) <= 1e-6 * abs(b) + 1e-9 for a, b in pairs)
        return (*self.at[:2], end) if near else self.at

    @cached_property
    def scores(self) -> tuple[Floats, ...]:
        """Z'Py of each term, (q, r), of the response without X and of unit size."""
        core = self.assembly.core
        return tuple(
            core.scores(*self.end, term.block)[:, term.columns] @ term.inverse_basis
            for term in self.assembly.terms
        )


_solved: WeakKeyDictionary[LinearEstimate, Solved] = WeakKeyDictionary()


def solved(estimate: LinearEstimate) -> Solved:
    """Return the core at the optimum; made once for each estimate."""
    found = _solved.get(estimate)
    if found is None:
        optimum, theta = estimate.optimum, estimate.theta
        assembly = assemble(estimate.specification, optimum.path)
        free = assembly.free_entries(theta, optimum.ranks)
        found = _solved[estimate] = Solved(assembly, estimate.reml, theta, optimum, free)
    return found


def at_end(estimate: LinearEstimate) -> tuple[Floats, bool, Floats]:
    """Return where the search left the core, to the last bit, if that is known."""
    return solved(estimate).end


def free(estimate: LinearEstimate) -> NDArray[np.bool_]:
    """Which entries of theta are free on the faces of the optimum, (k,)."""
    if estimate.specification.residual is not None:
        return structured.at_optimum(estimate).free
    return solved(estimate).free


def psi_scores(estimate: LinearEstimate, psis: Sequence[Floats], Y: Floats) -> list[Floats]:
    """Derivatives of the criterion with respect to Psi, at one Psi for many responses.

    Parameters
    ----------
    estimate : LinearEstimate
        Gives the model, whose terms are unstructured or diagonal.
    psis : sequence of (r, r) arrays
        Covariance matrix of each term relative to sigma^2; may be singular.
    Y : (n, m) array
        Responses by column; sigma and beta are profiled out for each.

    Returns
    -------
    list of (m, r, r) float64 arrays
        By term.
    """
    assembly = solved(estimate).assembly
    phi = np.empty(sum(t.count for t in assembly.terms))
    for term, psi in zip(assembly.terms, psis, strict=True):
        if term.term.structure == "diag":
            part = np.sqrt(np.diag(psi)) / np.diag(term.basis)
        else:
            inner = term.inverse_basis @ psi @ term.inverse_basis.T
            part = _core.trapezoid(np.ascontiguousarray(inner), term.size)
        phi[term.offset : term.offset + term.count] = part
    responses = assembly.respond(np.ascontiguousarray(Y.T))[0]
    found, _ = assembly.core.psi_gradients(responses, estimate.reml, phi)
    return [term.gradient_user(found[term.block]) for term in assembly.terms]


def modes_of(estimate: LinearEstimate, responses: Floats) -> tuple[tuple[Floats, ...], Floats]:
    """Modes and fixed effects that other responses would have at the same theta.

    Parameters
    ----------
    estimate : LinearEstimate
    responses : (k, n) float64 array
        Without an offset.

    Returns
    -------
    modes : tuple of (k, q, r) float64 arrays
        Of each term: Psi Z'Py.
    beta : (k, p) float64 array
    """
    if estimate.specification.residual is not None:
        return structured.modes_of(estimate, responses)
    end = solved(estimate)
    assembly, (y, reml, phi) = end.assembly, at_end(estimate)
    rest, taken, scale, _ = assembly.core.respond(np.ascontiguousarray(responses), None)
    solved_modes, solved_beta = assembly.core.modes_of(y, reml, phi, rest)
    beta = taken + scale[:, None] * solved_beta
    modes = tuple(
        scale[:, None, None] * solved_modes[term.block][:, :, term.columns]
        for term in assembly.terms
    )
    return modes, np.asarray(beta @ assembly.fixed.transform.T)


def effect_derivatives(estimate: LinearEstimate) -> tuple[Floats, tuple[Floats, ...]]:
    """Derivatives of the fixed effects and the modes with respect to theta, exact.

    With s = Z'Py, b = Psi s and dP = -P Z dPsi Z' P,

        db = dPsi s - modes of the response Z dPsi s,
        d beta = -beta of the response Z dPsi s.

    Returns
    -------
    beta : (p, k) float64 array
    modes : tuple of (q, r, k) float64 arrays
        Zero for entries of theta that are not `free`.
    """
    if estimate not in _derivatives:
        _derivatives[estimate] = _effect_derivatives(estimate)
    return _derivatives[estimate]


_derivatives: WeakKeyDictionary[LinearEstimate, tuple[Floats, tuple[Floats, ...]]] = (
    WeakKeyDictionary()
)


def _effect_derivatives(estimate: LinearEstimate) -> tuple[Floats, tuple[Floats, ...]]:
    if estimate.specification.residual is not None:
        return structured.effect_derivatives(estimate)
    end, theta, spec = solved(estimate), estimate.theta, estimate.specification
    assembly, movable = end.assembly, end.free
    unit = assembly.own.scale
    beta = np.zeros((spec.p, len(theta)))
    moved = tuple(np.zeros((*b.shape, len(theta))) for b in estimate.modes)
    responses: list[Floats] = []
    place = 0
    each = zip(assembly.terms, assembly.split(theta), end.scores, strict=True)
    for i, (term, part, scores) in enumerate(each):
        slopes = term.structure.derivatives(part)
        codes = spec.factors[term.term.factor].codes
        own = np.flatnonzero(movable[place : place + term.count])
        direct = unit * scores @ slopes[own].transpose(0, 2, 1)
        if term.term.kernel is not None:
            direct = np.einsum("ab,kbi->kai", covariance.lower_factor(term.term.kernel), direct)
        responses.append(np.einsum("kni,ni->kn", direct[:, codes], term.term.z))
        moved[i][:, :, place + own] += direct.transpose(1, 2, 0)
        place += term.count
    if movable.any():
        modes, fixed = modes_of(estimate, np.vstack(responses))
        beta[:, movable] = -fixed.T
        for out, b in zip(moved, modes, strict=True):
            out[:, :, movable] -= b.transpose(1, 2, 0)
    return beta, moved


def scale(estimate: LinearEstimate) -> float:
    """Return the size of the response as the core has it, which is of size one there."""
    return solved(estimate).assembly.own.scale


@dataclass(frozen=True, eq=False)
class MovedMeans:
    """Products of what moves the fitted values, of the response as the core has it.

    With w_i = V_i Py the fitted values move by R P w_i.

    Attributes
    ----------
    products : (f, f) float64 array
        w_i'P R P w_j.
    own : (f,) float64 array
        w_i'P R P y.
    square : float
        y'P R P y.
    """

    products: Floats
    own: Floats
    square: float


def moved_means(estimate: LinearEstimate, directions: Sequence[tuple[int, Floats]]) -> MovedMeans:
    """How the fitted values move along directions of Psi, see `second_order.Curvature`.

    Of a model whose residuals have no structure and effects no kernel; `effect_derivatives` has
    the others.
    """
    end = solved(estimate)
    return MovedMeans(*end.assembly.core.moved_means(*end.end, directions))


def conditional_covariances(estimate: LinearEstimate) -> tuple[tuple[Floats, Floats], ...]:
    """Covariance matrices of each term's modes, by level, sigma included.

    Returns
    -------
    tuple of (given_parameters, prediction_error), each (q, r, r)
        Given beta and theta; and of the prediction error b - b_hat, which adds
        what is not known about beta.
    """
    if estimate.specification.residual is not None:
        relative = structured.at_optimum(estimate).conditional()
        return tuple((estimate.sigma**2 * a, estimate.sigma**2 * b) for a, b in relative)
    end = solved(estimate)
    assembly = end.assembly
    both = assembly.core.all_mode_covariances(*at_end(estimate))
    out = []
    for term in assembly.terms:
        cut = term.columns
        given, error = (
            estimate.sigma**2 * (term.basis @ matrices[:, cut, cut] @ term.basis.T)
            for matrices in both[term.block]
        )
        out.append((given, error))
    return tuple(out)


def level_rows(
    assembly: Parametrisation,
    covariances: Sequence[Floats],
    rows: int,
    random: Sequence[tuple[Ints, Floats] | None],
) -> tuple[list[Ints], list[Floats], Floats]:
    """Rows of random effects by block, as the core takes them.

    Returns
    -------
    codes : list of (N,) int32 arrays
        By block; -1 where the row has none of its levels.
    z : list of (N, r) float64 arrays
        In the core's basis.
    new : (N,) float64 array
        z' Psi z of the levels that the fit has not seen.
    """
    codes = [np.full(rows, -1, dtype=np.int32) for _ in assembly.blocks]
    z = [np.zeros((rows, block.size)) for block in assembly.blocks]
    new = np.zeros(rows)
    for term, psi, given in zip(assembly.terms, covariances, random, strict=True):
        if given is None:
            continue
        level, columns = given
        known = level >= 0
        new[~known] += np.einsum("ij,jk,ik->i", columns[~known], psi, columns[~known])
        codes[term.block] = np.where(known, level, codes[term.block]).astype(np.int32)
        cut = term.columns
        z[term.block][known, cut] = columns[known] @ term.basis
    return codes, z, new


def prediction_variance(
    estimate: LinearEstimate, X: Floats, random: Sequence[tuple[Ints, Floats] | None]
) -> Floats:
    """Variance of the prediction error of x'beta + z'b, (N,).

    Parameters
    ----------
    estimate : LinearEstimate
    X : (N, p) array
    random : one (codes (N,), z (N, r)) for each term, or None
        Code -1 is a new level: it adds z' Psi z. None leaves the term out.
    """
    if estimate.specification.residual is not None:
        return structured.prediction_variance(estimate, X, random)
    end = solved(estimate)
    assembly, at = end.assembly, end.at
    codes, z, new = level_rows(assembly, estimate.covariances, len(X), random)
    inner = np.ascontiguousarray(X @ assembly.fixed.transform)
    forms = assembly.core.quadratic_forms(*at, codes, z, inner)
    variance: Floats = estimate.sigma**2 * forms + new
    return variance


def prediction_variance_derivatives(
    estimate: LinearEstimate, X: Floats, random: Sequence[tuple[Ints, Floats] | None]
) -> Floats:
    """Derivatives (N, k) of `prediction_variance` with respect to theta, sigma held.

    Zero for entries that are not `free`. Exact where whole solves of the rows are quick, else by
    central differences.
    """
    if estimate.specification.residual is not None:
        return structured.prediction_variance_derivatives(estimate, X, random)
    end = solved(estimate)
    assembly, (y, reml, _) = end.assembly, end.at
    columns = sum(block.columns for block in assembly.blocks)
    if len(X) <= FEW_ROWS or len(X) * (float(assembly.layout.order) ** 2 + columns) <= QUICK:
        step = max(FEW_ROWS, VALUES // (columns + 1))
        cuts = [slice(i, i + step) for i in range(0, len(X), step)]
        parts = [_exact_slopes(estimate, X[cut], _some(random, cut)) for cut in cuts]
        return np.vstack([np.zeros((0, len(estimate.theta))), *parts])
    ranks = estimate.optimum.ranks
    inner = np.ascontiguousarray(X @ assembly.fixed.transform)

    def variance(at: Floats) -> Floats:
        psis, phi = assembly.psis(at), assembly.phi(at, ranks)
        codes, z, new = level_rows(assembly, psis, len(X), random)
        forms: Floats = assembly.core.quadratic_forms(y, reml, phi, codes, z, inner) + new
        return forms

    found = differences(assembly, estimate, variance, (len(X),))
    return np.asarray(estimate.sigma**2 * found.T)


def _some(
    random: Sequence[tuple[Ints, Floats] | None], rows: slice
) -> list[tuple[Ints, Floats] | None]:
    """Some of the rows."""
    return [None if given is None else (given[0][rows], given[1][rows]) for given in random]


def prediction_derivatives(
    estimate: LinearEstimate, X: Floats, random: Sequence[tuple[Ints, Floats] | None]
) -> tuple[Floats, Floats] | None:
    """Derivatives (N, k) in theta of predictions of a few rows, and of their variances.

    By the same solves, without those of all the effects; None where the rows are many.
    Effects of levels not seen stay 0.
    """
    if estimate.specification.residual is not None or len(X) > FEW_ROWS:
        return None
    return _by_rows(estimate, X, random)


def _exact_slopes(
    estimate: LinearEstimate, X: Floats, random: Sequence[tuple[Ints, Floats] | None]
) -> Floats:
    return _by_rows(estimate, X, random)[1]


def _by_rows(
    estimate: LinearEstimate, X: Floats, random: Sequence[tuple[Ints, Floats] | None]
) -> tuple[Floats, Floats]:
    """With s = Z'Py of the row's combination as right-hand side, and t that of the response,
    dv = sum_l s_l' dPsi s_l and d(x'beta + z'b) = sum_l s_l' dPsi t_l.
    """
    end, theta = solved(estimate), estimate.theta
    assembly = end.assembly
    codes, z, _ = level_rows(assembly, estimate.covariances, len(X), random)
    inner = np.ascontiguousarray(X @ assembly.fixed.transform)
    forms, values = assembly.core.form_slopes(*at_end(estimate), codes, z, inner)
    moved, out, place = np.zeros((len(X), len(theta))), np.zeros((len(X), len(theta))), 0
    for term, part, given in zip(assembly.terms, assembly.split(theta), random, strict=True):
        slopes = term.structure.derivatives(part)
        own, cut = slice(place, place + term.count), term.columns
        inside = term.inverse_basis @ slopes @ term.inverse_basis.T
        out[:, own] = np.einsum("nij,kij->nk", forms[term.block][:, cut, cut], inside)
        moved[:, own] = np.einsum("nij,kij->nk", values[term.block][:, cut, cut], inside)
        if given is not None:
            level, columns = given
            new = np.where((level < 0)[:, None], columns, 0.0)
            out[:, own] += np.einsum("ni,kij,nj->nk", new, slopes, new)
        place += term.count
    out[:, ~end.free] = moved[:, ~end.free] = 0.0
    return assembly.own.scale * moved, np.asarray(estimate.sigma**2 * out)


def differences(
    assembly: Assembly,
    estimate: LinearEstimate,
    function: Callable[[Floats], Floats],
    shape: tuple[int, ...],
) -> Floats:
    """Derivatives (k, *shape) of a function of theta by central differences of fourth order.

    Zero for entries that are not `free`.
    """
    theta, ends = estimate.theta, assembly.room(estimate.theta)
    unit = joined(term.units for term in assembly.terms)
    out = np.zeros((len(theta), *shape))
    for i in np.flatnonzero(solved(estimate).free):
        step = min(STEP * max(abs(float(theta[i])), 0.1 * float(unit[i])), ends[i] / 4)
        for times, weight in ((1, 8.0), (-1, -8.0), (2, -1.0), (-2, 1.0)):
            moved = theta.copy()
            moved[i] += times * step
            out[i] += weight * function(moved)
        out[i] /= 12 * step
    return out
