"""The joint normal distribution of all random effects given data and parameters.

With b = Lambda u, u ~ N(0, I), and W the negative second derivatives of the rows' log
densities in their linear predictors (of a linear model w / sigma^2), u given data and
parameters has the precision

    H = I + Lambda' Z' W Z Lambda

exactly in a linear model, and by the Laplace approximation in a generalised one. H is
sparse; it is factored once, and answers for linear functions of effects of any levels
together, which the core's answers of one row's levels do not, and for draws. A
singular covariance is no exception, since nothing is divided by Lambda.

This is for functions of the effects of *all* levels at once, averages over the rows and
whole draws. Combinations of a few coefficients and effects, each of one level a term, are
`inference.joint_posterior`'s, which needs no solve of all effects and counts what is not
known of coefficients and theta.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from ranef.covariance.factor import square_root
from ranef.design.terms import GroupingFactor, RandomTerm
from ranef.errors import ModelError
from ranef.models.noise import residual_covariance
from ranef.models.records import Estimate, LinearEstimate
from ranef.models.working import information_weights

__all__ = ["EffectPosterior", "effect_posterior", "factorise", "term_columns", "term_root"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Effects = Sequence[Floats]


@dataclass(frozen=True, eq=False)
class EffectPosterior:
    """The effects of all terms, (q, r) each, in one vector of length Q, level by level.

    Attributes
    ----------
    sizes : tuple of (q, r)
    roots : (Q, Q) sparse matrix
        Lambda.
    lower : (Q, Q) sparse matrix
        L D^(1/2) of H = P' L D L' P.
    order : (Q,) int array
        P.
    factor : SuperLU
        Of H.
    working : (Q, n M) sparse matrix
        Lambda' Z' W over the linear predictors with random effects, for movements
        of the modes with fixed parts of the predictors.
    """

    sizes: tuple[tuple[int, int], ...]
    roots: Any
    lower: Any
    order: Ints
    factor: Any
    working: Any

    def vector(self, effects: Effects) -> Floats:
        """Stack (S, q, r) arrays, one a term, to (Q, S)."""
        return np.hstack([e.reshape(len(e), -1) for e in effects]).T

    def split(self, stacked: Floats) -> list[Floats]:
        """Undo `vector`: (S, q, r) arrays of a (Q, S) matrix."""
        if not self.sizes:
            return []
        ends = np.cumsum([q * r for q, r in self.sizes])[:-1]
        parts = np.split(stacked.T, ends, axis=1)
        return [p.reshape(-1, q, r) for p, (q, r) in zip(parts, self.sizes, strict=True)]

    def covariance(self, effects: Effects) -> Floats:
        """Covariance (S, S) of S linear functions of the effects, given the parameters."""
        m = self.roots.T @ self.vector(effects)
        return np.asarray(m.T @ self.factor.solve(np.ascontiguousarray(m)))

    def by_predictor(self, X: Floats) -> Floats:
        """Movement (Q, c) of the modes as c moves of the linear predictors are held against.

        X (n M, c); the derivatives of the modes in coefficients of these columns are
        minus it.
        """
        return np.asarray(self.roots @ self.factor.solve(np.ascontiguousarray(self.working @ X)))

    def movement(self, effects: Effects, X: Floats) -> Floats:
        """Derivatives (S, c) of S linear functions of the modes in coefficients.

        X (n M, c) are the derivatives of the linear predictors with respect to these.
        """
        m = self.factor.solve(np.ascontiguousarray(self.roots.T @ self.vector(effects)))
        return -np.asarray((self.working.T @ m).T @ X)

    def deviations(self, rng: np.random.Generator, count: int) -> list[Floats]:
        """Draw distances of the effects from their modes: (count, q, r) a term."""
        noise = self.lower @ rng.standard_normal((self.lower.shape[1], count))
        drawn = self.factor.solve(np.ascontiguousarray(noise[self.order]))
        return self.split(np.asarray(self.roots @ drawn))


_known: WeakKeyDictionary[Estimate, EffectPosterior] = WeakKeyDictionary()


def effect_posterior(estimate: Estimate) -> EffectPosterior:
    """Return the joint distribution of the effects, made once an estimate."""
    if estimate not in _known:
        _known[estimate] = _make(estimate)
    return _known[estimate]


def _make(estimate: Estimate) -> EffectPosterior:
    from scipy import sparse

    terms, factors = estimate.terms, estimate.factors
    if not terms:
        return _without_effects(estimate)
    weights = information_weights(estimate)
    Z = sparse.block_array(
        [
            [term_columns(terms[t], factors, z) for t, z in enumerate(columns)]
            for columns in _columns(estimate)
        ],
        format="csr",
    )
    roots = sparse.block_diag(
        [
            term_root(term, psi, factors)
            for term, psi in zip(terms, estimate.covariances, strict=True)
        ],
        format="csr",
    )
    W = sparse.block_array([[sparse.diags_array(w) for w in row] for row in weights], format="csr")
    if estimate.specification.residual is not None and isinstance(estimate, LinearEstimate):
        W = residual_covariance(estimate).precision() / estimate.sigma**2
    ZL = Z @ roots
    working = (ZL.T @ W).tocsr()
    H = (sparse.eye_array(ZL.shape[1]) + working @ ZL).tocsc()
    factor = factorise(H)
    scale = sparse.diags_array(np.sqrt(factor.U.diagonal()))
    return EffectPosterior(
        tuple((factors[t.factor].n_levels, t.size) for t in terms),
        roots,
        (factor.L @ scale).tocsr(),
        np.asarray(factor.perm_r, dtype=np.int64),
        factor,
        working,
    )


def _without_effects(estimate: Estimate) -> EffectPosterior:
    """The distribution of no effects at all."""
    from scipy import sparse

    none = sparse.csr_array((0, 0))
    rows = estimate.specification.n
    return EffectPosterior(
        (), none, none, np.zeros(0, np.int64), _Nothing(), sparse.csr_array((0, rows))
    )


class _Nothing:
    """The factor of an empty matrix."""

    def solve(self, right: Floats) -> Floats:
        """Return the right-hand side, which has no rows."""
        return right


def factorise(H: Any) -> Any:
    """H = P' L U P without pivoting, so that U = D L'."""
    from scipy.sparse.linalg import splu

    options = {"SymmetricMode": True}
    factor = splu(H, permc_spec="MMD_AT_PLUS_A", diag_pivot_thresh=0.0, options=options)
    if not np.array_equal(factor.perm_r, factor.perm_c) or not np.all(factor.U.diagonal() > 0):
        raise ModelError(
            "the random effects have no normal approximation: the second derivatives at their "
            "modes are not definite"
        )
    return factor


def _columns(estimate: Estimate) -> list[list[Floats]]:
    """Columns (n, r) of each term as they enter each predictor with random effects."""
    design, every = estimate.design, range(len(estimate.terms))
    if design is None:
        return [[term.z for term in estimate.terms]]
    return [[design.columns(t, a) for t in every] for a in design.random]


def term_columns(term: RandomTerm, factors: Sequence[GroupingFactor], z: Floats) -> Any:
    """Columns of Z (n, q r) of one term as they enter a predictor, z (n, r) there."""
    from scipy import sparse

    factor = factors[term.factor]
    n, r = z.shape
    shape = (n, factor.n_levels * r)
    if not z.any():
        return sparse.csr_array(shape)
    places = factor.codes.astype(np.int64)[:, None] * r + np.arange(r)
    start = np.arange(0, n * r + 1, r)
    found = sparse.csr_array((z.flatten(), places.ravel(), start), shape=shape)
    found.eliminate_zeros()
    return found


def term_root(term: RandomTerm, psi: Floats, factors: Sequence[GroupingFactor]) -> Any:
    """A root of the covariance matrix of all levels of one term, (q r, q r)."""
    from scipy import sparse

    root = square_root(psi)
    if term.kernel is None:
        return sparse.kron(sparse.eye_array(factors[term.factor].n_levels), root, format="csr")
    return sparse.csr_array(np.kron(square_root(term.kernel), root))
