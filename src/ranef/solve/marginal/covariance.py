"""Covariances of the coefficients of estimating equations, for many clusters and for few.

All are made of scores u_i and shares B_i of the bread H = sum B_i, p by p for each cluster however
many rows it has. In the coordinates of M^1/2, M = H^-1, the leverage of a cluster is
Q_i = M^1/2 B_i M^1/2, of which the eigenvalues are those of the hat matrix of its rows; since
Z'f(ZZ') = f(Z'Z)Z', a function of the hat matrix of the rows is one of Q_i:

- Mancl & DeRouen (2001, Biometrics 57): (I - Q)^-1;
- Kauermann & Carroll (2001, JASA 96): (I - Q)^-1/2;
- Fay & Graubard (2001, Biometrics 57): diag(1 - min(0.75, diag(B M)))^-1/2 on the scores;
- Morel, Bokossa & Neerchal (2003, Biometrical Journal 45): the sandwich with degrees of freedom,
  and a share of the model's covariance;
- one-step jackknife: what a Newton step without the cluster moves (Paik 1988).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ranef.covariance.factor import column_sizes
from ranef.solve.marginal.equations import Problem, Solution, by_cluster, scores

__all__ = ["COVARIANCES", "Influences", "covariance_of", "influences", "model_covariance"]

Floats = NDArray[np.float64]

COVARIANCES = (
    "robust",
    "model",
    "jackknife",
    "jackknife-full",
    "mancl-derouen",
    "kauermann-carroll",
    "fay-graubard",
    "morel",
)
MOST_LEVERAGE = 0.75
LEAST_REST = 1e-10


@dataclass(frozen=True, eq=False)
class Influences:
    """What each cluster adds to the covariance: covariance = sum of h_i h_i' (and more).

    Attributes
    ----------
    h : (K, p) array
        M times the score of each cluster, corrected.
    whole : (K,) bool array
        Clusters with a leverage of one: without them a coefficient is not determined.
    """

    h: Floats
    whole: NDArray[np.bool_]


def model_covariance(solution: Solution) -> Floats:
    """Phi H^-1, true where the working correlation is."""
    found = solution.scale * np.linalg.inv(solution.bread)
    return np.asarray((found + found.T) / 2)


def influences(problem: Problem, solution: Solution, kind: str) -> Influences:
    """Return what each cluster adds, by one of the corrections."""
    M: Floats = np.asarray(np.linalg.inv(solution.bread))
    K, p = problem.clusters.count, problem.p
    h, whole = np.empty((K, p)), np.zeros(K, dtype=np.bool_)
    if kind in ("robust", "morel"):
        return Influences(scores(problem, solution) @ M.T, whole)
    size = column_sizes(M)  # coefficients in units in which they are known alike
    units = np.outer(size, size)
    for part, u, B in by_cluster(problem, solution):
        found, whole[part.clusters] = _corrected(M / units, u * size, B * units, kind)
        h[part.clusters] = found * size
    return Influences(h, whole)


def _corrected(M: Floats, u: Floats, B: Floats, kind: str) -> tuple[Floats, NDArray[np.bool_]]:
    if kind == "fay-graubard":
        leverage = np.minimum(np.einsum("kij,ji->ki", B, M), MOST_LEVERAGE)
        scaled = np.asarray((u / np.sqrt(1 - leverage)) @ M.T)
        return scaled, np.zeros(len(u), dtype=np.bool_)
    if not np.allclose(B, B.swapaxes(1, 2), rtol=1e-8, atol=1e-10 * float(np.abs(B).max())):
        return _unsymmetric(M, u, B, kind)
    root = _symmetric_root((M + M.T) / 2)
    values, vectors = np.linalg.eigh(root @ B @ root)
    rest = 1 - values
    whole = np.asarray((rest < LEAST_REST).any(axis=1))
    exponent = -0.5 if kind == "kauermann-carroll" else -1.0
    factor = np.where(rest < LEAST_REST, 0.0, np.maximum(rest, LEAST_REST) ** exponent)
    v = np.einsum("kji,kj->ki", vectors, u @ root)
    return np.asarray(np.einsum("kij,kj->ki", vectors, factor * v) @ root), whole


def _unsymmetric(M: Floats, u: Floats, B: Floats, kind: str) -> tuple[Floats, NDArray[np.bool_]]:
    """Functions of M B_i by its eigenvalues, of sampling weights that differ in a cluster."""
    values, vectors = np.linalg.eig(M @ B)
    rest = 1 - values
    whole = np.asarray((np.abs(rest) < LEAST_REST).any(axis=1))
    exponent = -0.5 if kind == "kauermann-carroll" else -1.0
    factor = np.where(np.abs(rest) < LEAST_REST, 0.0, rest + 0j) ** exponent
    factor = np.where(np.abs(rest) < LEAST_REST, 0.0, factor)
    v = np.linalg.solve(vectors, (u @ M.T)[:, :, None].astype(complex))[:, :, 0]
    return np.real(np.einsum("kij,kj->ki", vectors, factor * v)), whole


def _symmetric_root(A: Floats) -> Floats:
    values, vectors = np.linalg.eigh(A)
    return np.asarray((vectors * np.sqrt(np.maximum(values, 0.0))) @ vectors.T)


def covariance_of(problem: Problem, solution: Solution, kind: str, found: Influences) -> Floats:
    """Return the covariance (p, p) of the coefficients.

    Parameters
    ----------
    kind : str
        A name in `COVARIANCES`, but ``"model"``, which needs no clusters, and
        ``"jackknife-full"``, which needs fits.
    found : Influences
        Of that kind.
    """
    K, p, n = problem.clusters.count, problem.p, problem.observations
    V = found.h.T @ found.h
    if kind == "jackknife":
        return V * (K - p) / K
    if kind != "morel":
        return V
    c = (n - 1) / (n - p) * K / (K - 1)
    model = model_covariance(solution)
    share = min(0.5, p / (K - p)) if p < K else 0.5
    size = max(1.0, float(np.trace(np.linalg.solve(model, c * V))) / p)
    return np.asarray(c * V + share * size * model)
