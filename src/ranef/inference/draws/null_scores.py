"""Scores of variances that are zero in a smaller model, over responses drawn from it.

How they vary together is the information that the weights of a chi-bar-squared
distribution need. Those of a linear model are exact, sigma and the fixed effects profiled
out of each response. A generalised one is at its modes a linear mixed model in a working
response with the covariance matrix V = W^-1 + Z Psi Z', W minus the second derivatives of
the rows' log densities (Breslow & Clayton 1993, J. Am. Stat. Assoc. 88; of the test Lin
1997, Biometrika 84): the score about an entry of a covariance matrix is then a quadratic
form in P y.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ranef.derivatives import structured
from ranef.derivatives.linear import psi_scores
from ranef.inference.draws.simulation import simulate
from ranef.inference.effects.posterior import factorise, term_columns, term_root
from ranef.models.records import GeneralisedEstimate, LinearEstimate

__all__ = ["NullScores", "generalised_null_scores", "linear_null_scores"]

Floats = NDArray[np.float64]

LEAST_WEIGHT = 1e-4
MOST_DRAWS = 2_000
LEAST_DRAWS = 200
VALUES = 20_000_000
"""Drawn at most, as long as there are `LEAST_DRAWS`."""


@dataclass(frozen=True, eq=False)
class NullScores:
    """Scores of the larger of two models at the estimates of the smaller one.

    Attributes
    ----------
    terms : tuple of (m, r, r) float64 arrays
        Of the entries of its covariance matrices, by term, for m drawn responses.
    others : tuple of (m,) float64 arrays
        Of what else is to be profiled out: a dispersion, parameters of the residuals.
    """

    terms: tuple[Floats, ...]
    others: tuple[Floats, ...] = ()


def _count(values: int) -> int:
    """Number of responses of so many values."""
    return int(np.clip(VALUES // values, LEAST_DRAWS, MOST_DRAWS))


def linear_null_scores(
    small: LinearEstimate,
    large: LinearEstimate,
    covariances: Sequence[Floats],
    rng: np.random.Generator,
) -> NullScores:
    """Scores of linear models of the same rows and response.

    covariances : (r, r) of each of the larger model's terms, those of the smaller model.
    """
    Y = simulate(small, _count(large.specification.n), rng)
    if large.specification.residual is not None:
        return NullScores(*structured.null_scores(small, large, Y))
    relative = [psi / small.sigma**2 for psi in covariances]
    return NullScores(tuple(psi_scores(large, relative, Y)))


def generalised_null_scores(
    small: GeneralisedEstimate, large: GeneralisedEstimate, rng: np.random.Generator
) -> NullScores:
    """Scores of generalised models of the same rows, response and family."""
    from scipy import sparse

    active = list(large.design.random)
    m = _count(large.design.n * len(active))
    W = _weights(small, active)
    ZL = _random(small, active)
    X = _fixed(small, active)
    n, M = W.shape[:2]
    root = _symmetric_root(W)
    blocks = [[sparse.diags_array(W[:, a, b]) for b in range(M)] for a in range(M)]
    stacked = sparse.block_array(blocks, format="csr")
    working = (ZL.T @ stacked).tocsr()
    factor = None
    if ZL.shape[1]:
        factor = factorise((sparse.eye_array(ZL.shape[1]) + working @ ZL).tocsc())

    def inverse(s: Floats) -> Floats:
        """V^-1 y of s = W y."""
        if factor is None:
            return s
        return np.asarray(s - working.T @ factor.solve(np.ascontiguousarray(ZL.T @ s)))

    noise = np.einsum("nab,nbm->anm", root, rng.standard_normal((n, M, m))).reshape(n * M, m)
    v = inverse(noise + working.T @ rng.standard_normal((ZL.shape[1], m)))
    A = inverse(np.asarray(stacked @ X))
    r = v - A @ (np.linalg.pinv(X.T @ A, hermitian=True) @ (X.T @ v))
    scores = []
    for t, term in enumerate(large.terms):
        g = np.zeros((large.design.factors[term.factor].n_levels, term.size, m))
        for a, own in enumerate(active):
            Z = term_columns(term, large.design.factors, large.design.columns(t, own))
            g += np.asarray(Z.T @ r[a * n : (a + 1) * n]).reshape(g.shape)
        scores.append(np.einsum("qam,qbm->mab", g, g))
    others = []
    if any(part.name == "dispersion" for part in small.components) and active[0] == 0:
        others.append(np.sum(r[:n] ** 2 / W[:, 0, 0][:, None], axis=0))
    return NullScores(tuple(scores), tuple(others))


def _weights(estimate: GeneralisedEstimate, active: list[int]) -> Floats:
    """Minus the second derivatives (n, M, M), with positive roots."""
    design, M = estimate.design, len(active)
    found = design.family.evaluate(design.y, design.extra, estimate.predictors, 2, active)
    second = -found[1 + M :] if design.weights is None else -found[1 + M :] * design.weights
    W = np.empty((design.n, M, M))
    rows, columns = np.triu_indices(M)
    W[:, rows, columns] = W[:, columns, rows] = np.where(np.isfinite(second), second, 0.0).T
    values, vectors = np.linalg.eigh(W)
    usual = float(values[values > 0].mean()) if np.any(values > 0) else 1.0
    values = np.maximum(values, LEAST_WEIGHT * usual)
    return np.asarray(np.einsum("nij,nj,nkj->nik", vectors, values, vectors))


def _symmetric_root(W: Floats) -> Floats:
    values, vectors = np.linalg.eigh(W)
    return np.asarray(np.einsum("nij,nj,nkj->nik", vectors, np.sqrt(values), vectors))


def _random(estimate: GeneralisedEstimate, active: list[int]) -> Any:
    """Z times a root of Psi (n M, Q), the predictors below each other."""
    from scipy import sparse

    design = estimate.design
    kept = [t for t, owners in enumerate(design.owners) if set(owners) & set(active)]
    if not kept:
        return sparse.csr_array((design.n * len(active), 0))
    Z = [
        [term_columns(estimate.terms[t], design.factors, design.columns(t, a)) for t in kept]
        for a in active
    ]
    roots = [term_root(estimate.terms[t], estimate.covariances[t], design.factors) for t in kept]
    return (sparse.block_array(Z, format="csr") @ sparse.block_diag(roots)).tocsr()


def _fixed(estimate: GeneralisedEstimate, active: list[int]) -> Floats:
    """Columns of the coefficients (n M, c) that move the active predictors."""
    design = estimate.design
    X = np.zeros((len(active), design.n, len(estimate.coefficients)))
    for own, a in zip(X, active, strict=True):
        part = design.predictors[a]
        own[:, part.coefficients] += part.X
    free = design.constraints.free(len(estimate.coefficients)).M
    flat = X.reshape(-1, X.shape[2]) @ free
    return np.asarray(flat[:, flat.any(axis=0)])
