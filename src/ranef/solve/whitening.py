"""Joint covariances of many combinations of effects and coefficients, without a matrix
of all of them: each as half of a solve.

May import `_core`, `covariance`, `design.specification`, `errors`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ranef.errors import ModelError
from ranef.solve.assembly import Parametrisation, assemble
from ranef.solve.predictors import assemble_generalised
from ranef.solve.questions import level_rows
from ranef.solve.resources import available_memory
from ranef.solve.search import ranks_of

if TYPE_CHECKING:
    from ranef.models.estimate import Estimate, GeneralisedEstimate

__all__ = ["Whitened", "generalised_whitened", "whitened"]

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
    needed, free_bytes = 24 * rows * assembly.layout.order, available_memory()
    if free_bytes is not None and needed > free_bytes:
        raise ModelError(
            f"the joint posterior of {rows:,} numbers needs about {needed / 1e9:.1f} GB (a dense "
            f"part of {assembly.layout.order:,} columns), and {free_bytes / 1e9:.1f} GB are free; "
            "ask about fewer levels or coefficients"
        )


def whitened(estimate: Estimate, X: Floats, random: Random) -> Whitened:
    """Errors of prediction of x'beta + z'b in a linear model, sigma included.

    Parameters
    ----------
    estimate : Estimate
    X : (N, p) array
    random : one (codes (N,), z (N, r)) for each term, or None
        Codes of levels that the fit has seen. None leaves the term out.
    """
    assembly = assemble(estimate.specification, estimate.optimum.path)
    phi = assembly.phi(estimate.theta, ranks_of(estimate.optimum))
    _check_memory(assembly, len(X))
    codes, z, _ = level_rows(assembly, estimate.covariances, len(X), random)
    inner = np.ascontiguousarray(X @ assembly.fixed.transform)
    found = assembly.core.half_solves(assembly.response(), estimate.reml, phi, codes, z, inner)
    return _read(found, found[4].shape[1] - inner.shape[1]).scaled(estimate.sigma)


def generalised_whitened(estimate: GeneralisedEstimate, X: Floats, random: Random) -> Whitened:
    """Errors of prediction of x'beta + z'b in a generalised model, at the mode.

    Parameters
    ----------
    estimate : GeneralisedEstimate
    X : (N, P) array
        Over all coefficients: zero where a coefficient has no part.
    random : one (codes (N,), z (N, r)) for each term of the design, or None
        Codes of levels that the fit has seen. None leaves the term out.
    """
    assembly = assemble_generalised(
        estimate.design, estimate.optimum.path, quadrature=estimate.quadrature
    )
    x = assembly.point(estimate.theta, estimate.coefficients, ranks_of(estimate.optimum))
    _check_memory(assembly, len(X))
    codes, z, _ = level_rows(assembly, estimate.term_covariances, len(X), random)
    inner = np.ascontiguousarray(X @ assembly.transform)
    found = assembly.core.half_solves(x, codes, z, inner)
    return _read(found, found[4].shape[1] - inner.shape[1])
