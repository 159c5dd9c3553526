"""Joint covariances of many combinations of effects and coefficients, without a matrix
of all of them: each as half of a solve.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ranef.derivatives import structured
from ranef.derivatives.generalised import solution
from ranef.derivatives.linear import differences, level_rows, solved
from ranef.errors import ModelError
from ranef.solve.assembly import ALWAYS_THERE, Assembly
from ranef.solve.parametrisation import Parametrisation
from ranef.solve.resources import available_memory

if TYPE_CHECKING:
    from ranef.models.records import GeneralisedEstimate, LinearEstimate

__all__ = [
    "Whitened",
    "error_covariance",
    "error_covariance_derivatives",
    "generalised_whitened",
    "unseen_covariance",
    "whitened",
]

Floats = NDArray[np.float64]
Ints = NDArray[np.int32]
Random = Sequence[tuple[Ints, Floats] | None]


@dataclass(frozen=True, eq=False)
class Whitened:
    """Errors of prediction of N combinations x'beta + z'b, as sums of standard normals.

    With independent standard normal vectors e, f and g the vector
    ``chain @ e + tail @ f + fixed @ g`` has the joint distribution of the errors given
    theta, and without its last part that given the fixed effects as well.

    Attributes
    ----------
    chain : (N, c) sparse array (CSR)
        What levels of the leading factors have to themselves.
    tail : (N, T) float64 array
        What goes through the random effects of the other factors.
    fixed : (N, p) float64 array
        What goes through the fixed effects.
    """

    chain: Any
    tail: Floats
    fixed: Floats

    def scaled(self, by: float) -> Whitened:
        """Return the errors times a number."""
        return replace(self, chain=by * self.chain, tail=by * self.tail, fixed=by * self.fixed)


def _read(found: tuple[Any, ...], order: int) -> Whitened:
    from scipy.sparse import csr_array

    ptr, index, value, columns, tail = found
    chain = csr_array((value, index, ptr), shape=(len(tail), max(columns, 1)))
    return Whitened(chain, tail[:, :order], tail[:, order:])


def _check_memory(assembly: Parametrisation, rows: int) -> None:
    """Refuse what does not fit, before anything is allocated."""
    needed = 24 * rows * assembly.layout.order
    free_bytes = available_memory() if needed > ALWAYS_THERE else None
    if free_bytes is not None and needed > free_bytes:
        raise ModelError(
            f"the joint posterior of {rows:,} numbers needs about {needed / 1e9:.1f} GB (a dense "
            f"part of {assembly.layout.order:,} columns), and {free_bytes / 1e9:.1f} GB are free; "
            "ask about fewer levels or coefficients"
        )


def whitened(estimate: LinearEstimate, X: Floats, random: Random) -> Whitened:
    """Errors of prediction of x'beta + z'b in a linear model, sigma included.

    Parameters
    ----------
    estimate : Estimate
    X : (N, p) array
    random : one (codes (N,), z (N, r)) for each term, or None
        None leaves the term out; so does the code -1, of a level that the fit has not
        seen (see `unseen_covariance`).
    """
    if estimate.specification.residual is not None:
        from scipy.sparse import csr_array

        given, fixed = structured.error_factor(estimate, X, random)
        return Whitened(csr_array((len(X), 1)), given, fixed)
    end = solved(estimate)
    return _whitened_at(end.assembly, estimate, end.at[2], X, random).scaled(estimate.sigma)


def _whitened_at(
    assembly: Assembly, estimate: LinearEstimate, phi: Floats, X: Floats, random: Random
) -> Whitened:
    """Errors of prediction at any parameters of the core, relative to sigma."""
    _check_memory(assembly, len(X))
    codes, z, _ = level_rows(assembly, estimate.covariances, len(X), random)
    inner = np.ascontiguousarray(X @ assembly.fixed.transform)
    response = solved(estimate).at[0]
    found = assembly.core.half_solves(response, estimate.reml, phi, codes, z, inner)
    return _read(found, found[4].shape[1] - inner.shape[1])


def unseen_covariance(covariances: Sequence[Floats], random: Random) -> Floats | float:
    """Covariance (N, N) that levels not seen give: z_i' Psi z_j, one new level to a term.

    0 where no term counts.
    """
    out: Floats | float = 0.0
    for psi, given in zip(covariances, random, strict=True):
        if given is not None:
            codes, z = given
            new = np.where((codes < 0)[:, None], z, 0.0)
            out = out + new @ psi @ new.T
    return out


def error_covariance(estimate: LinearEstimate, X: Floats, random: Random) -> Floats:
    """Joint covariance (N, N) of the errors of x'beta + z'b of a linear model, given theta.

    Its diagonal is `prediction_variance`.
    """
    if estimate.specification.residual is not None:
        return structured.error_covariance(estimate, X, random)
    relative = _covariance_at(solved(estimate).assembly, estimate, estimate.theta, X, random)
    return np.asarray(estimate.sigma**2 * relative)


def error_covariance_derivatives(estimate: LinearEstimate, X: Floats, random: Random) -> Floats:
    """Derivatives (k, N, N) of `error_covariance` in theta, sigma held, by central differences.

    Zero for entries that are not `free`.
    """
    if estimate.specification.residual is not None:
        return structured.error_covariance_derivatives(estimate, X, random)
    assembly = solved(estimate).assembly

    def covariance(at: Floats) -> Floats:
        return _covariance_at(assembly, estimate, at, X, random)

    found = differences(assembly, estimate, covariance, (len(X), len(X)))
    return np.asarray(estimate.sigma**2 * found)


def _covariance_at(
    assembly: Assembly, estimate: LinearEstimate, theta: Floats, X: Floats, random: Random
) -> Floats:
    phi = assembly.phi(theta, estimate.optimum.ranks)
    whitened = _whitened_at(assembly, estimate, phi, X, random)
    dense = np.hstack([whitened.tail, whitened.fixed])
    own = (whitened.chain @ whitened.chain.T).toarray() + dense @ dense.T
    return np.asarray(own + unseen_covariance(assembly.psis(theta), random))


def generalised_whitened(estimate: GeneralisedEstimate, X: Floats, random: Random) -> Whitened:
    """Errors of prediction of x'beta + z'b in a generalised model, at the mode.

    Parameters
    ----------
    estimate : GeneralisedEstimate
    X : (N, P) array
        Over all coefficients: zero where a coefficient has no part.
    random : one (codes (N,), z (N, r)) for each term of the design, or None
        As for `whitened`.
    """
    own = solution(estimate)
    assembly = own.assembly
    _check_memory(assembly, len(X))
    codes, z, _ = level_rows(assembly, estimate.covariances, len(X), random)
    inner = np.ascontiguousarray(X @ assembly.transform)
    found = assembly.core.half_solves(own.x, codes, z, inner, own.end)
    return _read(found, found[4].shape[1] - inner.shape[1])
