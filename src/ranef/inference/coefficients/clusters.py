"""Cluster-robust covariance of the fixed effects of a linear mixed model.

With V_i the model's covariance of cluster i, W_i = V_i^-1 and M = (sum X_i'W_i X_i)^-1,

    vcov = M [sum_i X_i'W_i A_i e_i e_i' A_i'W_i X_i] M,

and the type chooses A_i. CR2 (Bell & McCaffrey 2002; Pustejovsky & Tipton 2018, J. Bus.
Econ. Stat. 36) makes vcov unbiased where V_i holds: A_i is the symmetric solution of
A_i G_i A_i = V_i with G_i = V_i - X_i M X_i' the covariance of the residuals. Degrees of
freedom follow from the moments of vcov under V.

Every cluster is worked on by itself. Outside the span of (Z_i, X_i) V_i and G_i are
sigma^2 I, so where no weights differ only the part inside is needed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from ranef.covariance.factor import square_root
from ranef.errors import ModelError
from ranef.inference.coefficients.wald import FTest, f_tail, independent_rows, scaled_rank
from ranef.models.noise import residual_covariance
from ranef.models.records import LinearEstimate

__all__ = ["TYPES", "ClusterCovariance", "ClusterRows", "cluster_covariance", "sandwich_of"]

Floats = NDArray[np.float64]
Ints = NDArray[np.intp]

TYPES = ("CR0", "CR1", "CR1p", "CR1S", "CR2", "CR3")
CELLS = 4_000_000
LARGEST = 6_000
SINGULAR = 1e-10


@dataclass(frozen=True, eq=False)
class ClusterCovariance:
    """A cluster-robust covariance matrix with what its tests need.

    Attributes
    ----------
    type : str
    beta : (p,) float64 array
    vcov : (p, p) float64 array
    bread : (p, p) float64 array
        M.
    own : (m, p, p) float64 array
        G'V G of each cluster, with G = A'W X its weights: what it adds to the variance of
        its own score.
    shared : (m, p, p) float64 array
        X'G of each: what the estimation of beta takes away again.
    """

    type: str
    beta: Floats
    vcov: Floats
    bread: Floats
    own: Floats
    shared: Floats

    made_of: ClassVar[str] = "residuals"

    @property
    def n_clusters(self) -> int:
        return len(self.own)

    def degrees_of_freedom(self, L: Floats) -> Floats:
        """Satterthwaite's degrees of freedom of l'beta for each row of L (q, p)."""
        return np.array([self._wishart(row[None])[0] for row in np.atleast_2d(L)])

    def f_test(self, L: Floats, rhs: Floats | None = None) -> FTest:
        """Test L beta = rhs by the approximate Hotelling statistic (AHT, "HTZ").

        F = (eta - q + 1) / (eta q) Q on q and eta - q + 1 degrees of freedom, with Q Wald's
        statistic and eta those of the Wishart distribution with the variance of vcov
        (Tipton & Pustejovsky 2015, J. Educ. Behav. Stat. 40).
        """
        basis, target = independent_rows(len(self.beta), L, rhs)
        q = len(basis)
        gap = basis @ self.beta - target
        covariance = basis @ self.vcov @ basis.T
        if scaled_rank(covariance) < q:
            raise ModelError(
                f"{self.n_clusters} clusters give a covariance of rank less than the {q} "
                "hypotheses: test fewer at a time"
            )
        wald = float(gap @ np.linalg.solve(covariance, gap))
        eta = self._wishart(basis)[0]
        df2 = eta - q + 1
        if df2 <= 0:
            raise ModelError(
                f"the {self.n_clusters} clusters carry {eta:.1f} degrees of freedom, too few to "
                f"test {q} hypotheses at once: test fewer at a time"
            )
        statistic = df2 / (eta * q) * wald
        return f_tail(statistic, q, float(df2))

    def _wishart(self, C: Floats) -> tuple[float, Floats]:
        """Degrees of freedom of C vcov C' as a Wishart matrix, and its expectation.

        With p_si the weights of cluster i for hypothesis s, the entries p_si' V p_tj are
        a_st,i [i = j] - b_si' b_tj; sums over pairs of clusters go through sums of b b'.
        """
        q = len(C)
        carried = C @ self.bread
        a = carried @ self.own @ carried.T
        root = _root(self.bread)
        b = np.swapaxes(root.T @ (self.shared @ carried.T), 1, 2)
        expected = a.sum(axis=0) - np.einsum("msx,mtx->st", b, b)
        values, vectors = np.linalg.eigh(expected)
        if values[0] <= 0:
            return 0.0, expected
        T = (vectors / np.sqrt(values)).T
        a = T @ a @ T.T
        b = T @ b
        inner = b @ np.swapaxes(b, 1, 2)
        total = 0.0
        for s in range(q):
            for t in range(q):
                S = b[:, s].T @ b[:, t]
                total += np.sum(a[:, s, t] ** 2 - 2 * a[:, s, t] * inner[:, s, t])
                total += np.sum(S * S.T)
                total += np.sum(
                    a[:, s, s] * a[:, t, t]
                    - a[:, s, s] * inner[:, t, t]
                    - a[:, t, t] * inner[:, s, s]
                )
                total += np.sum(S**2)
        return float(q * (q + 1) / total) if total > 0 else 0.0, expected


def _root(bread: Floats) -> Floats:
    """Cholesky factor of the covariance that the model implies."""
    try:
        return np.asarray(np.linalg.cholesky(bread))
    except np.linalg.LinAlgError:
        raise ModelError(
            "the covariance matrix of the coefficients has lost its digits: columns are nearly "
            "dependent, or the residual is next to nothing beside the random effects"
        ) from None


@dataclass(frozen=True, eq=False)
class ClusterRows:
    """Clusters of one shape: X (c, k, p), V (c, k, k), residuals e (c, k)."""

    clusters: Ints
    X: Floats
    V: Floats
    e: Floats


def cluster_covariance(estimate: LinearEstimate, codes: Ints, kind: str) -> ClusterCovariance:
    """Cluster-robust covariance of a linear mixed model.

    Parameters
    ----------
    estimate : LinearEstimate
        Every grouping factor nested in the clusters.
    codes : (n,) int array
        Cluster of each row, from 0, all occurring.
    kind : str
        One of `TYPES`, as in Pustejovsky & Tipton (2018): CR1 multiplies CR0 by
        m / (m - 1), CR1p by m / (m - p), CR1S by m (n - 1) / ((m - 1)(n - p)), with m
        clusters; CR3 is close to leaving one cluster out at a time.
    """
    spec = estimate.specification
    offset = 0.0 if spec.offset is None else spec.offset
    e = spec.y - (spec.fixed_rows @ estimate.beta + offset)
    batches = _batches(estimate, codes, e)
    m = int(codes.max()) + 1
    return sandwich_of(batches, estimate.beta, estimate.coefficient_vcov, m, spec.n, kind)


def sandwich_of(
    batches: Iterable[ClusterRows], beta: Floats, bread: Floats, m: int, n: int, kind: str
) -> ClusterCovariance:
    """Cluster-robust covariance from the rows of m clusters, n in all.

    Parameters
    ----------
    batches : iterable of ClusterRows
        Every cluster once.
    beta : (p,) array
    bread : (p, p) array
        Covariance of beta by the model.
    m, n : int
    kind : str
        One of `TYPES`.
    """
    M, p = bread, len(beta)
    if kind == "CR1p" and m <= p:
        raise ModelError(f"CR1p needs more clusters than fixed effects; here are {m} and {p}")
    scores = np.zeros((m, p))
    own, shared = np.zeros((m, p, p)), np.zeros((m, p, p))
    for batch in batches:
        WX = np.asarray(np.linalg.solve(batch.V, batch.X), dtype=np.float64)
        G = _weights(batch, WX, M, kind)
        scores[batch.clusters] = np.einsum("ckp,ck->cp", G, batch.e)
        own[batch.clusters] = np.swapaxes(G, 1, 2) @ batch.V @ G
        shared[batch.clusters] = np.swapaxes(batch.X, 1, 2) @ G
    factor = _small_sample(kind, m, n, p)
    meat = factor * scores.T @ scores
    return ClusterCovariance(kind, beta, M @ meat @ M, M, factor * own, np.sqrt(factor) * shared)


def _small_sample(kind: str, m: int, n: int, p: int) -> float:
    if kind == "CR1":
        return m / (m - 1)
    if kind == "CR1p":
        return m / (m - p)
    if kind == "CR1S":
        return m * (n - 1) / ((m - 1) * (n - p))
    return 1.0


def _weights(batch: ClusterRows, WX: Floats, M: Floats, kind: str) -> Floats:
    """G = A'W X (c, k, p)."""
    if kind == "CR2":
        return _adjusted(batch, M) @ WX
    if kind == "CR3":
        inner = np.eye(len(M)) - M @ (np.swapaxes(batch.X, 1, 2) @ WX)
        return np.swapaxes(np.linalg.solve(np.swapaxes(inner, 1, 2), np.swapaxes(WX, 1, 2)), 1, 2)
    return WX


def _adjusted(batch: ClusterRows, M: Floats) -> Floats:
    """A of CR2: D'(D G D')^(-1/2) D with V = D'D, the same for any such D."""
    lower = np.linalg.cholesky(batch.V)
    upper = np.swapaxes(lower, 1, 2)
    G = batch.V - batch.X @ M @ np.swapaxes(batch.X, 1, 2)
    values, vectors = np.linalg.eigh(upper @ G @ lower)
    counts = values > SINGULAR * np.maximum(values[:, -1:], 0.0)
    power = np.where(counts, np.where(counts, values, 1.0) ** -0.5, 0.0)
    middle = (vectors * power[:, None, :]) @ np.swapaxes(vectors, 1, 2)
    return np.asarray(lower @ middle @ upper)


def _batches(estimate: LinearEstimate, codes: Ints, e: Floats) -> Iterator[ClusterRows]:
    """Go through the clusters, those of one shape together."""
    spec = estimate.specification
    order = np.argsort(codes, kind="stable")
    sizes = np.bincount(codes)
    starts = np.concatenate([[0], np.cumsum(sizes)])
    locals_ = [_local_levels(spec.factors[t.factor].codes, codes) for t in spec.terms]
    widths = np.column_stack([sizes, *(count for _, count in locals_)])
    shapes, which = np.unique(widths, axis=0, return_inverse=True)
    for s, shape in enumerate(shapes):
        clusters = np.flatnonzero(which.reshape(-1) == s)
        size = int(shape[0])
        columns = sum(t.size * int(count) for t, count in zip(spec.terms, shape[1:], strict=True))
        plain = spec.weights is None and spec.residual is None
        reduced = plain and columns + spec.p < size
        wide = columns + spec.p if reduced else max(columns + spec.p, size)
        if not reduced and size > LARGEST:
            raise ModelError(
                f"a cluster has {size:,} rows and nearly as many random effects (or weights), so "
                "its covariance is a dense matrix of that order; take smaller clusters"
            )
        step = max(1, CELLS // (size * wide))
        for first in range(0, len(clusters), step):
            part = clusters[first : first + step]
            rows = order[starts[part][:, None] + np.arange(size)]
            yield _batch(estimate, part, rows, locals_, shape[1:], e, reduced)


def _local_levels(levels: NDArray[np.int32], codes: Ints) -> tuple[Ints, Ints]:
    """Number of each row's level among those of its cluster, and how many each has."""
    pairs, inverse = np.unique(
        codes.astype(np.int64) * (int(levels.max()) + 1) + levels, return_inverse=True
    )
    cluster = pairs // (int(levels.max()) + 1)
    counts = np.bincount(cluster)
    first = np.concatenate([[0], np.cumsum(counts)])[:-1]
    number = np.arange(len(pairs)) - first[cluster]
    return number[inverse.reshape(-1)].astype(np.intp), counts


def _batch(
    estimate: LinearEstimate,
    clusters: Ints,
    rows: Ints,
    locals_: list[tuple[Ints, Ints]],
    counts: Ints,
    e: Floats,
    reduced: bool,
) -> ClusterRows:
    """Design, covariance and residuals of clusters with rows (c, size)."""
    spec, sigma2 = estimate.specification, estimate.sigma**2
    X, own = spec.X[rows], e[rows]
    parts = []
    for term, psi, (local, _), count in zip(
        spec.terms, estimate.covariances, locals_, counts, strict=True
    ):
        root = square_root(psi)
        z = term.z[rows] @ root
        spread = np.zeros((*rows.shape, int(count), term.size))
        at = np.arange(len(rows))[:, None], np.arange(rows.shape[1])[None], local[rows]
        spread[at] = z
        parts.append(spread.reshape(*rows.shape, -1))
    Z = np.concatenate([np.zeros((*rows.shape, 0)), *parts], axis=2)
    if reduced:
        T = np.swapaxes(np.linalg.qr(np.concatenate([Z, X], axis=2))[0], 1, 2)
        X, Z, own = T @ X, T @ Z, (T @ own[:, :, None])[:, :, 0]
    V = Z @ np.swapaxes(Z, 1, 2)
    if spec.residual is not None:
        return ClusterRows(
            clusters, X, V + sigma2 * residual_covariance(estimate).covariance(rows), own
        )
    noise = np.full(X.shape[:2], sigma2)
    if spec.weights is not None:
        noise = sigma2 / spec.weights[rows]
    diagonal = np.arange(X.shape[1])
    V[:, diagonal, diagonal] += noise
    return ClusterRows(clusters, X, V, own)
