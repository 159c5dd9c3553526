"""What can be asked of an estimate: curvature, covariances of the modes,
prediction errors, derivatives of the fixed effects' covariance.

May import `_core`, `covariance`, `design.specification`, `errors`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ranef import _core
from ranef.solve.assembly import Assembly, Parametrisation, assemble
from ranef.solve.search import ranks_of, theta_gradient

if TYPE_CHECKING:
    from ranef.models.estimate import Estimate

__all__ = [
    "conditional_covariances",
    "free",
    "hessian",
    "prediction_variance",
    "psi_scores",
    "r2_derivatives",
    "vcov_derivatives",
]

Floats = NDArray[np.float64]
Ints = NDArray[np.int32]

STEP = 1e-3


def _assembly(estimate: Estimate) -> Assembly:
    return assemble(estimate.specification, estimate.optimum.path)


def _at(assembly: Assembly, estimate: Estimate) -> tuple[Floats, bool, Floats]:
    """Response, criterion and parameters as the core takes them."""
    phi = assembly.phi(estimate.theta, ranks_of(estimate.optimum))
    return assembly.response(), estimate.reml, phi


def free(estimate: Estimate) -> NDArray[np.bool_]:
    """Which entries of theta are free on the faces of the optimum, (k,)."""
    return free_entries(_assembly(estimate), estimate.theta, ranks_of(estimate.optimum))


def free_entries(
    assembly: Parametrisation, theta: Floats, ranks: dict[int, int]
) -> NDArray[np.bool_]:
    """Which entries of theta are free where some terms have less than full rank, (k,)."""
    parts = []
    for i, (term, part) in enumerate(zip(assembly.terms, assembly.split(theta), strict=True)):
        kept = np.ones(len(part), dtype=np.bool_)
        if i in ranks and term.term.structure == "us":
            columns = np.repeat(np.arange(term.size), np.arange(term.size, 0, -1))
            kept = columns < ranks[i]
        elif term.term.structure != "us":
            kept = term.structure.free(part)
        parts.append(kept)
    return np.concatenate(parts)


def hessian(estimate: Estimate) -> Floats:
    """Second derivatives of the profiled criterion with respect to theta, (k, k).

    Central differences of the exact gradient, extrapolated once (Richardson):
    the error is of fourth order in the step, about 1e-9 relative. Rows and
    columns of entries that are not `free` are zero.
    """
    assembly, theta = _assembly(estimate), estimate.theta
    ranks = ranks_of(estimate.optimum)
    y = assembly.response()
    movable = np.flatnonzero(free(estimate))
    out = np.zeros((len(theta), len(theta)))
    ends = room(assembly, theta)
    unit = np.concatenate([term.units for term in assembly.terms])

    def difference(i: np.intp, step: float) -> Floats:
        up, down = theta.copy(), theta.copy()
        up[i] += step
        down[i] -= step
        high = theta_gradient(assembly, up, ranks, y, estimate.reml)
        low = theta_gradient(assembly, down, ranks, y, estimate.reml)
        return np.asarray((high - low) / (2 * step), dtype=np.float64)

    for i in movable:
        step = STEP * max(abs(float(theta[i])), 0.1 * float(unit[i]))
        step = min(step, ends[i] / 2)
        out[i] = (4 * difference(i, step / 2) - difference(i, step)) / 3
    keep = np.ix_(movable, movable)
    symmetric = np.zeros_like(out)
    symmetric[keep] = (out[keep] + out[keep].T) / 2
    return symmetric


def room(assembly: Parametrisation, theta: Floats) -> Floats:
    """Distance (k,) of each entry of theta to where its range ends, inf where it does not."""
    parts = []
    for term, part in zip(assembly.terms, assembly.split(theta), strict=True):
        ends = np.full(len(part), np.inf)
        for j, parameter in enumerate(term.structure.parameters(term.term.names)):
            if parameter.kind == "corr":
                ends[j] = 1 - abs(part[j])
                if term.term.structure in ("cs", "homcs") and part[j] < 0:
                    ends[j] = part[j] + 1 / (term.size - 1)
        parts.append(ends)
    return np.concatenate(parts)


def r2_derivatives(estimate: Estimate) -> Floats:
    """Derivatives of log r2 with respect to theta, (k,), with r2 = y'Py."""
    assembly, theta = _assembly(estimate), estimate.theta
    at = _at(assembly, estimate)
    rss = assembly.core.state(*at, False)["rss"]
    parts = []
    for term, part in zip(assembly.terms, assembly.split(theta), strict=True):
        # s = Z'Py by level; d r2 = -sum_l s_l' dPsi s_l. The modes are Psi s.
        scores = assembly.core.scores(*at, term.block)
        gram = term.of(scores.T @ scores)
        user = term.inverse_basis.T @ gram @ term.inverse_basis
        parts.append(-np.einsum("kij,ij->k", term.structure.derivatives(part), user) / rss)
    return np.concatenate(parts)


def psi_scores(estimate: Estimate, psis: Sequence[Floats], Y: Floats) -> list[Floats]:
    """Derivatives of the criterion with respect to Psi, at one Psi for many responses.

    Parameters
    ----------
    estimate : Estimate
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
    assembly = _assembly(estimate)
    phi = np.empty(sum(t.count for t in assembly.terms))
    for term, psi in zip(assembly.terms, psis, strict=True):
        if term.term.structure == "diag":
            part = np.sqrt(np.diag(psi)) / np.diag(term.basis)
        else:
            inner = term.inverse_basis @ psi @ term.inverse_basis.T
            part = _core.trapezoid(np.ascontiguousarray(inner), term.size)
        phi[term.offset : term.offset + term.count] = part
    responses = assembly.respond(np.ascontiguousarray(Y.T))[0]
    out = [np.empty((len(responses), t.size, t.size)) for t in assembly.terms]
    for k, y in enumerate(responses):
        found = assembly.core.state(y, estimate.reml, phi, True)["psi_gradient"]
        for term, own in zip(assembly.terms, out, strict=True):
            own[k] = term.gradient_user(found[term.block])
    return out


def vcov_derivatives(estimate: Estimate) -> Floats:
    """Derivatives of C(theta) with respect to theta, (k, p, p); vcov = sigma^2 C.

    dC = C [sum_l X'H^-1 Z_l dPsi Z_l'H^-1 X] C with C = (X'H^-1 X)^-1.
    """
    assembly, theta = _assembly(estimate), estimate.theta
    at = _at(assembly, estimate)
    sums = assembly.core.fixed_scores(*at)
    C = assembly.core.state(*at, False)["fixed_covariance"]
    T = assembly.fixed.transform
    TC = T @ C
    parts = []
    for term, part in zip(assembly.terms, assembly.split(theta), strict=True):
        cut = slice(term.first, term.first + term.size)
        B = term.inverse_basis
        inner = np.einsum("kij,ai,bj->kab", term.structure.derivatives(part), B, B)
        middle = np.einsum("kab,abij->kij", inner, sums[term.block][cut, cut])
        parts.append(TC @ middle @ TC.T)
    return np.concatenate(parts)


def conditional_covariances(estimate: Estimate) -> tuple[tuple[Floats, Floats], ...]:
    """Covariance matrices of each term's modes, by level, sigma included.

    Returns
    -------
    tuple of (given_parameters, prediction_error), each (q, r, r)
        Given beta and theta; and of the prediction error b - b_hat, which adds
        what is not known about beta.
    """
    assembly = _assembly(estimate)
    at = _at(assembly, estimate)
    both = {
        b: tuple(assembly.core.mode_covariances(*at, b, with_fixed) for with_fixed in (False, True))
        for b in range(len(assembly.blocks))
    }
    out = []
    for term in assembly.terms:
        cut = slice(term.first, term.first + term.size)
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
        cut = slice(term.first, term.first + term.size)
        z[term.block][known, cut] = columns[known] @ term.basis
    return codes, z, new


def prediction_variance(
    estimate: Estimate, X: Floats, random: Sequence[tuple[Ints, Floats] | None]
) -> Floats:
    """Variance of the prediction error of x'beta + z'b, (N,).

    Parameters
    ----------
    estimate : Estimate
    X : (N, p) array
    random : one (codes (N,), z (N, r)) for each term, or None
        Code -1 is a new level: it adds z' Psi z. None leaves the term out.
    """
    assembly = _assembly(estimate)
    at = _at(assembly, estimate)
    codes, z, new = level_rows(assembly, estimate.covariances, len(X), random)
    inner = np.ascontiguousarray(X @ assembly.fixed.transform)
    forms = assembly.core.quadratic_forms(*at, codes, z, inner)
    variance: Floats = estimate.sigma**2 * forms + new
    return variance
