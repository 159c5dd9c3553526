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
from ranef.solve.assembly import Assembly, Parametrisation, assemble
from ranef.solve.predictors import assemble_generalised
from ranef.solve.questions import STEP, free, level_rows, room
from ranef.solve.resources import available_memory
from ranef.solve.search import ranks_of

if TYPE_CHECKING:
    from ranef.models.estimate import Estimate, GeneralisedEstimate

__all__ = ["Movement", "Whitened", "generalised_whitened", "movement", "whitened"]

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


@dataclass(frozen=True, eq=False)
class Movement:
    """How the estimates of a linear model move with the free entries of theta.

    Attributes
    ----------
    beta : (p, f) float64 array
    modes : tuple of (q, r, f) float64 arrays
        By term.
    """

    beta: Floats
    modes: tuple[Floats, ...]


def movement(estimate: Estimate) -> Movement:
    """Derivatives of fixed effects and modes with respect to theta's free entries.

    Central differences, extrapolated once (Richardson).
    """
    assembly = assemble(estimate.specification, estimate.optimum.path)
    y, beta0, scale = assembly.respond(estimate.specification.y[None])
    ranks, theta = ranks_of(estimate.optimum), estimate.theta
    unit = np.concatenate([term.units for term in assembly.terms])
    steps = np.minimum(STEP * np.maximum(np.abs(theta), 0.1 * unit), room(assembly, theta) / 2)

    def estimates(i: np.intp, step: float) -> list[Floats]:
        moved = theta.copy()
        moved[i] += step
        phi = assembly.phi(moved, ranks)
        return _estimates(assembly, estimate.reml, y[0], phi, beta0[0], float(scale[0]))

    def difference(i: np.intp, step: float) -> list[Floats]:
        pairs = zip(estimates(i, step), estimates(i, -step), strict=True)
        return [(high - low) / (2 * step) for high, low in pairs]

    columns = []
    for i in np.flatnonzero(free(estimate)):
        step = float(steps[i])
        halves = zip(difference(i, step / 2), difference(i, step), strict=True)
        columns.append([(4 * fine - coarse) / 3 for fine, coarse in halves])
    if not columns:
        none = [np.zeros((*b.shape, 0)) for b in estimate.modes]
        return Movement(np.zeros((len(estimate.beta), 0)), tuple(none))
    stacked = [np.stack(parts, axis=-1) for parts in zip(*columns, strict=True)]
    return Movement(stacked[0], tuple(stacked[1:]))


def _estimates(
    assembly: Assembly, reml: bool, y: Floats, phi: Floats, beta0: Floats, scale: float
) -> list[Floats]:
    """Fixed effects and the modes of each term at the core's parameters phi."""
    state = assembly.core.state(y, reml, phi, False)
    beta = assembly.fixed.transform @ (beta0 + scale * state["beta"])
    modes = [scale * state["modes"][t.block][:, t.first : t.first + t.size] for t in assembly.terms]
    return [beta, *modes]
