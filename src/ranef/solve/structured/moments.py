"""Sums over clusters that the likelihood of a structured model and its derivatives are made of.

With U = [Z, X, y] and the rows' covariance R of a cluster,

    A = U'R^-1 U,  D_k = U'R^-1 R_k R^-1 U,  E_kl = U'R^-1 R_k R^-1 R_l R^-1 U,
    F_kl = U'R^-1 R_kl R^-1 U,

R_k and R_kl its derivatives. V = Z Psi Z' + R is never made: with z the columns of Z and 1
those of [X, y],

    N = (I + A_zz Psi)^-1,  W = Psi N,  M = Z'V^-1 Z = N A_zz,  T = Z'V^-1 [X, y] = N A_z1,
    e = [-Psi T; I]:  V^-1 [X, y] = R^-1 U e,
    e_z = [I - Psi M; 0]:  V^-1 Z = R^-1 U e_z.

(Sherman, Morrison & Woodbury; the traces and products are those of Searle, Casella &
McCulloch 1992, ch. 6.)
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from ranef.errors import ModelError
from ranef.solve.resources import available_memory
from ranef.solve.structured.design import CELLS, Batch, Chunk
from ranef.solve.structured.markov import Gaps, Steps, gaps_of, steps_of
from ranef.solve.structured.rows import GroupJet, RowCovariance

__all__ = [
    "Inverse",
    "Kept",
    "Moved",
    "Products",
    "RandomCovariance",
    "Solved",
    "Sums",
    "average_information",
    "batch_steps",
    "cluster_sums",
    "inverse_of",
    "products",
    "products_of",
    "second_products",
    "solved_clusters",
]

Floats = NDArray[np.float64]
Ints = NDArray[np.intp]


@dataclass(frozen=True, eq=False)
class Products:
    """Cross-products of one chunk at one theta.

    Attributes
    ----------
    log_determinant : float
        log|R| of all clusters.
    A : (c, w, w) float64 array
    D : (k, c, w, w) float64 array
    traces : (k,) float64 array
        tr(R^-1 R_k) of all clusters.
    """

    log_determinant: float
    A: Floats
    D: Floats
    traces: Floats


@dataclass(frozen=True, eq=False)
class Moved:
    """Second-order products of one chunk: E, F and their traces, see `Products`.

    Attributes
    ----------
    E, F : (k, k, c, w, w) float64 arrays
    E_traces : (k, k) float64 array
        tr(R^-1 R_k R^-1 R_l).
    F_traces : (k, k) float64 array
        tr(R^-1 R_kl).
    """

    E: Floats
    F: Floats
    E_traces: Floats
    F_traces: Floats


@dataclass(frozen=True, eq=False)
class RandomCovariance:
    """Psi of the random effects of a cluster, with derivatives.

    Attributes
    ----------
    psi : (q, q) float64 array
    first : (f, q, q) float64 array
    second : dict of (i, j), i <= j, to (q, q) float64 arrays
    """

    psi: Floats
    first: Floats
    second: dict[tuple[int, int], Floats]


_gaps: WeakKeyDictionary[Batch, Gaps] = WeakKeyDictionary()
_last_steps: WeakKeyDictionary[Batch, tuple[Floats, Steps]] = WeakKeyDictionary()
"""Of the last theta, which one evaluation asks for several times."""

Bend = NDArray[np.float64]
"""Weights (k, k): R + sum_ij w_ij R_ij in the place of R."""


def _bent(jet: GroupJet, bend: Bend) -> GroupJet:
    value = jet.value
    for (i, j), second in jet.second.items():
        value = value + (2.0 - (i == j)) * bend[jet.own[i], jet.own[j]] * second
    return replace(jet, value=value)


def check_dense(shape: tuple[int, ...], k: int) -> None:
    """Refuse covariances of groups (g, n) that do not fit into memory."""
    needed = 8 * shape[0] * shape[1] ** 2 * (4 + 2 * k)
    free = available_memory() if needed > 100_000_000 else None
    if free is not None and needed > free:
        raise ModelError(
            f"a group of {shape[1]:,} rows needs matrices of about {needed / 1e9:.1f} GB, and "
            f"{free / 1e9:.1f} GB are free; make the groups of the residuals smaller, or use ar1, "
            "car1 or ou with df='normal'"
        )


@dataclass(eq=False)
class Inverse:
    """R of a batch and what is made of its inverse."""

    jet: GroupJet
    inverse: Floats
    log_determinant: float
    ratio: Floats  # (k, g, n, n): R^-1 R_k


class Kept:
    """Inverses of one evaluation that are needed again, up to a number of cells."""

    def __init__(self, second: bool) -> None:
        self.second, self.room = second, CELLS
        self.found: dict[int, Inverse] = {}

    def add(self, batch: Batch, inverse: Inverse) -> None:
        self.room -= inverse.ratio.size
        if self.room > 0:
            self.found[id(batch)] = inverse


def inverse_of(
    rows: RowCovariance,
    theta: Floats,
    chunk: Chunk,
    batch: Batch,
    second: bool,
    bend: Bend | None = None,
    kept: Kept | None = None,
) -> Inverse:
    """Factor R of a batch; raises LinAlgError where it is not positive definite."""
    if kept is not None:
        if id(batch) in kept.found:
            return kept.found[id(batch)]
        second = second or kept.second
    own = chunk.rows[batch.rows[:1] if batch.shared else batch.rows]
    check_dense(own.shape, rows.n_parameters)
    jet = rows.at(theta, own, batch.by, second or bend is not None)
    if bend is not None:
        jet = _bent(jet, bend)
    if not np.all(np.isfinite(jet.value)):
        raise np.linalg.LinAlgError("a residual covariance is not finite")
    lower = np.linalg.cholesky(jet.value)
    pivots = np.diagonal(lower, axis1=1, axis2=2)
    given, size = pivots**2, np.diagonal(jet.value, axis1=1, axis2=2)
    if np.any(given < rows.least_pivot * size):
        raise np.linalg.LinAlgError("a residual covariance is singular")
    if rows.least_variance and np.any(given.min(axis=1) < rows.least_variance * size.max(axis=1)):
        raise np.linalg.LinAlgError("a residual has no variance")
    half = np.linalg.inv(lower)
    inverse = np.swapaxes(half, 1, 2) @ half
    times = len(batch.rows) if batch.shared else 1
    log_determinant = times * 2.0 * float(np.log(pivots).sum())
    made = Inverse(jet, inverse, log_determinant, inverse @ jet.first)
    if kept is not None:
        kept.add(batch, made)
    return made


def products_of(
    rows: RowCovariance,
    theta: Floats,
    chunk: Chunk,
    derivatives: bool = True,
    bend: Bend | None = None,
    kept: Kept | None = None,
) -> Products:
    """Cross-products of a chunk, with those of first derivatives."""
    w, k = chunk.U.shape[1], rows.n_parameters if derivatives else 0
    A, D = np.zeros((chunk.clusters, w, w)), np.zeros((k, chunk.clusters, w, w))
    traces = np.zeros(k)
    total = 0.0
    for batch in chunk.batches:
        if batch.in_order and (bend is None or not np.any(bend)):
            total += _add_in_order(rows, theta, chunk, batch, A, D, traces)
            continue
        found = inverse_of(rows, theta, chunk, batch, False, bend, kept)
        total += found.log_determinant
        A += products(found.inverse[None], chunk, batch)[0]
        times = len(batch.rows) if batch.shared else 1
        if derivatives and k:
            own = found.jet.own
            D[own] += products(found.ratio @ found.inverse, chunk, batch)
            traces[own] += times * np.trace(found.ratio, axis1=2, axis2=3).sum(axis=1)
    return Products(total, A, D, traces)


def second_products(rows: RowCovariance, theta: Floats, chunk: Chunk) -> Moved:
    """Second-order cross-products of a chunk."""
    w, k, c = chunk.U.shape[1], rows.n_parameters, chunk.clusters
    E, F = np.zeros((k, k, c, w, w)), np.zeros((k, k, c, w, w))
    E_traces, F_traces = np.zeros((k, k)), np.zeros((k, k))
    for batch in chunk.batches:
        if batch.in_order:
            steps, place = batch_steps(rows, theta, chunk, batch)
            U = chunk.U[batch.rows]
            y = steps.moved(steps.slope.times(U))
            twice = _summed(y, y, chunk, batch)
            E[place, place] += twice
            F[place, place] += 2.0 * twice - _summed(U, steps.bend.times(U), chunk, batch)
            one, two = steps.traces
            E_traces[place, place] += one
            F_traces[place, place] += two
            continue
        found = inverse_of(rows, theta, chunk, batch, True)
        own, ratio = found.jet.own, found.ratio
        times = len(batch.rows) if batch.shared else 1
        for i, a in enumerate(own):
            upto = own[: i + 1]
            E[a, upto] += products(ratio[i] @ (ratio[: i + 1] @ found.inverse), chunk, batch)
            E_traces[a, upto] += times * np.einsum("gab,kgba->k", ratio[i], ratio[: i + 1])
        for (i, j), bent in found.jet.second.items():
            a, b = max(own[i], own[j]), min(own[i], own[j])
            turned = found.inverse @ bent
            F[a, b] += products((turned @ found.inverse)[None], chunk, batch)[0]
            F_traces[a, b] += times * float(np.trace(turned, axis1=1, axis2=2).sum())
    for i in range(k):
        E[:i, i], F[:i, i] = np.swapaxes(E[i, :i], 2, 3), F[i, :i]
        E_traces[:i, i], F_traces[:i, i] = E_traces[i, :i], F_traces[i, :i]
    return Moved(E, F, E_traces, F_traces)


def batch_steps(
    rows: RowCovariance, theta: Floats, chunk: Chunk, batch: Batch
) -> tuple[Steps, int]:
    """Correlations of successive rows of a batch in order, and whose parameter they have."""
    cut, own = rows.slices[batch.by][0], theta[rows.slices[batch.by][0]]
    known = _last_steps.get(batch)
    if known is not None and np.array_equal(known[0], own):
        return known[1], cut.start
    gaps = _gaps.get(batch)
    if gaps is None:
        where = np.asarray(rows.term.parts[0].where[chunk.rows[batch.rows]], dtype=np.float64)
        gaps = _gaps[batch] = gaps_of(where.reshape(batch.rows.shape))
    steps = steps_of(rows.correlations[batch.by][0], own, gaps)
    _last_steps[batch] = own.copy(), steps
    return steps, cut.start


def _add_in_order(
    rows: RowCovariance,
    theta: Floats,
    chunk: Chunk,
    batch: Batch,
    A: Floats,
    D: Floats,
    traces: Floats,
) -> float:
    """Add the cross-products of a batch in order of time; returns log|R|."""
    steps, place = batch_steps(rows, theta, chunk, batch)
    U = chunk.U[batch.rows]
    A += _summed(U, steps.inverse.times(U), chunk, batch)
    if len(D):
        D[place] -= _summed(U, steps.slope.times(U), chunk, batch)
        traces[place] += steps.trace
    return steps.log_determinant


def _summed(left: Floats, right: Floats, chunk: Chunk, batch: Batch) -> Floats:
    """Left'right of groups (g, n, w) by cluster, (c, w, w)."""
    w = chunk.U.shape[1]
    if chunk.clusters == 1:
        return np.asarray((left.reshape(-1, w).T @ right.reshape(-1, w))[None])
    out = np.zeros((chunk.clusters, w, w))
    each = np.swapaxes(left, 1, 2) @ right
    if np.all(np.diff(batch.clusters) > 0):
        out[batch.clusters] = each
    else:
        np.add.at(out, batch.clusters, each)
    return out


def products(middle: Floats, chunk: Chunk, batch: Batch) -> Floats:
    """U'K U by cluster, (k, c, w, w), for k matrices K (k, g, n, n)."""
    w = chunk.U.shape[1]
    if batch.moments is not None:
        n = middle.shape[-1]
        flat = middle.reshape(len(middle), n * n) @ batch.moments.reshape(n * n, w * w)
        return np.asarray(flat.reshape(len(middle), 1, w, w))
    own = chunk.U[batch.rows]
    out = np.zeros((len(middle), chunk.clusters, w, w))
    order = batch.clusters
    apart = len(order) == 1 or bool(np.all(np.diff(order) > 0))
    for one, K in zip(out, middle, strict=True):
        turned = K @ own
        if chunk.clusters == 1:
            one[0] = own.reshape(-1, w).T @ turned.reshape(-1, w)
            continue
        each = np.swapaxes(own, 1, 2) @ turned
        if apart:
            one[order] = each
        else:
            np.add.at(one, order, each)
    return out


def contracted_products(
    rows: RowCovariance, theta: Floats, chunk: Chunk, vectors: Floats, kept: Kept | None
) -> Floats:
    """c'E_kl c summed over clusters, (k, k), with a vector c (w,) for each cluster."""
    k = rows.n_parameters
    out = np.zeros((k, k))
    for batch in chunk.batches:
        if batch.in_order:
            steps, place = batch_steps(rows, theta, chunk, batch)
            v = np.einsum("gnw,gw->gn", chunk.U[batch.rows], vectors[batch.clusters])
            y = steps.moved(steps.slope.times(v[:, :, None]))
            out[place, place] += float(np.sum(y * y))
            continue
        found = inverse_of(rows, theta, chunk, batch, False, kept=kept)
        own, ratio = found.jet.own, found.ratio
        if batch.moments is not None:
            t = (batch.moments @ vectors[0]) @ vectors[0]
            turned = ratio[:, 0] @ (found.inverse[0] @ t)
            n = t.shape[0]
            each = (
                ratio[:, 0].reshape(len(own), n * n)
                @ np.swapaxes(turned, 1, 2).reshape(len(own), n * n).T
            )
        else:
            v = np.einsum("gnw,gw->gn", chunk.U[batch.rows], vectors[batch.clusters])
            solved = found.inverse @ v[:, :, None]
            moved = found.jet.first @ solved
            back = found.inverse @ moved
            each = in_rows(moved) @ in_rows(back).T
        out[np.ix_(own, own)] += (each + each.T) / 2
    return out


@dataclass(eq=False)
class Sums:
    """Sums over clusters; the parameters are those of Psi, then those of R.

    Attributes
    ----------
    log_determinant : float
        log|V|.
    S : (p + 1, p + 1) float64 array
        [X, y]'V^-1 [X, y].
    first : (K, p + 1, p + 1) float64 array
        [X, y]'V^-1 V_i V^-1 [X, y].
    traces : (K,) float64 array
        tr(V^-1 V_i).
    second : SecondSums or None
        Of models with random effects.
    """

    log_determinant: float
    S: Floats
    first: Floats
    traces: Floats
    second: SecondSums | None = None


@dataclass(eq=False)
class SecondSums:
    """Second-order sums over clusters.

    Attributes
    ----------
    products : (K, K, p + 1, p + 1) float64 array
        [X, y]'V^-1 V_i V^-1 V_j V^-1 [X, y].
    traces : (K, K) float64 array
        tr(V^-1 V_i V^-1 V_j).
    bent : (K, K, p + 1, p + 1) float64 array
        [X, y]'V^-1 V_ij V^-1 [X, y].
    bent_traces : (K, K) float64 array
        tr(V^-1 V_ij).
    """

    products: Floats
    traces: Floats
    bent: Floats
    bent_traces: Floats


@dataclass(frozen=True, eq=False)
class Solved:
    """What the small systems of a chunk's clusters give, see the module.

    Attributes
    ----------
    q : int
    N, W, M : (c, q, q) float64 arrays
    T : (c, q, p + 1) float64 array
    e : (c, w, p + 1) float64 array
    ez : (c, w, q) float64 array
    log_determinant : float
        log|I + A_zz Psi|.
    """

    q: int
    W: Floats
    M: Floats
    T: Floats
    e: Floats
    ez: Floats
    log_determinant: float


def solved_clusters(found: Products, psi: Floats) -> Solved:
    """Eliminate the random effects of each cluster."""
    q, A = len(psi), found.A
    c, w = A.shape[:2]
    e = np.zeros((c, w, w - q))
    e[:, q:] = np.eye(w - q)
    if q == 0:
        none = np.zeros((c, 0, 0))
        return Solved(0, none, none, np.zeros((c, 0, w)), e, np.zeros((c, w, 0)), 0.0)
    Azz = A[:, :q, :q]
    inner = np.eye(q) + Azz @ psi
    sign, log_determinant = np.linalg.slogdet(inner)
    if np.any(sign <= 0):
        raise np.linalg.LinAlgError("a covariance is not positive definite")
    N = np.linalg.inv(inner)
    W = psi @ N
    W = (W + np.swapaxes(W, 1, 2)) / 2
    M = N @ Azz
    T = N @ A[:, :q, q:]
    e[:, :q] = -psi @ T
    ez = np.zeros((c, w, q))
    ez[:, :q] = np.eye(q) - psi @ M
    return Solved(q, W, M, T, e, ez, float(log_determinant.sum()))


def in_rows(values: Floats) -> Floats:
    """Each of the first axis in a row of its own."""
    return values.reshape(len(values), math.prod(values.shape[1:]))


def crossed(left: Floats, right: Floats) -> Floats:
    """Sum over clusters and rows of left'right, (..., x, y).

    left : (c, u, x), right : (..., c, u, y)
    """
    flat = left.reshape(-1, left.shape[-1])
    return np.asarray(flat.T @ right.reshape(*right.shape[:-3], len(flat), right.shape[-1]))


def cluster_sums(
    found: Products, random: RandomCovariance, solved: Solved, moved: Moved | None
) -> Sums:
    """Sums over the clusters of one chunk; second-order ones where `moved` is given."""
    q, A, D = solved.q, found.A, found.D
    w1 = A.shape[1] - q
    f, k = len(random.first), len(D)
    K = f + k
    e, ez, T, M, W = solved.e, solved.ez, solved.T, solved.M, solved.W
    whole = found.log_determinant + solved.log_determinant
    if q == 0:
        return Sums(whole, A.sum(axis=0), D.sum(axis=1), found.traces)
    S = A[:, q:, q:].sum(axis=0) + crossed(e[:, :q], A[:, :q, q:])
    first, traces = np.zeros((K, w1, w1)), np.zeros(K)
    # Z'V^-1 V_i V^-1 [X, y], (K, c, q, w1)
    scores = np.zeros((K, *T.shape))
    turned = np.zeros((k, *e.shape))  # D_k e
    for i, dpsi in enumerate(random.first):
        pulled = dpsi @ T
        first[i] = crossed(T, pulled)
        traces[i] = float(np.einsum("cij,ji->", M, dpsi))
        scores[i] = M @ pulled
    if k:
        turned = D @ e
        first[f:] = crossed(e, turned)
        traces[f:] = found.traces - np.einsum("cij,kcji->k", W, D[:, :, :q, :q])
        scores[f:] = np.swapaxes(ez, 1, 2) @ turned
    second, second_traces = np.zeros((K, K, w1, w1)), np.zeros((K, K))
    bent, bent_traces = np.zeros((K, K, w1, w1)), np.zeros((K, K))
    out = Sums(whole, S, first, traces, SecondSums(second, second_traces, bent, bent_traces))
    for (i, j), d2psi in random.second.items():
        bent[i, j] = bent[j, i] = crossed(T, d2psi @ T)
        bent_traces[i, j] = bent_traces[j, i] = float(np.einsum("cij,ji->", M, d2psi))
    if moved is None:
        return out
    inner = [np.swapaxes(ez, 1, 2) @ D[i] @ ez for i in range(k)]  # Z'V^-1 R_k V^-1 Z
    for i in range(f):
        left = random.first[i] @ T
        for j in range(K):
            second[i, j] = crossed(left, scores[j])
            second[j, i] = second[i, j].T
        for j in range(f):
            second_traces[i, j] = float(
                np.einsum("cij,cji->", M @ random.first[i], M @ random.first[j])
            )
        for j in range(k):
            trace = float(np.einsum("ij,cji->", random.first[i], inner[j]))
            second_traces[i, f + j] = second_traces[f + j, i] = trace
    if k:
        lead = turned[:, :, :q]
        spread = W @ lead
        WD = W @ D[:, :, :q, :q]
        for i in range(k):
            full = crossed(e, moved.E[i] @ e)
            part = crossed(lead[i], spread)
            second[f + i, f:] = full - part
            second_traces[f + i, f:] = (
                moved.E_traces[i]
                - 2.0 * np.einsum("cij,kcji->k", W, moved.E[i][:, :, :q, :q])
                + np.einsum("cij,kcji->k", WD[i], WD)
            )
            bent[f + i, f:] = crossed(e, moved.F[i] @ e)
            bent_traces[f + i, f:] = moved.F_traces[i] - np.einsum(
                "cij,kcji->k", W, moved.F[i][:, :, :q, :q]
            )
    return out


def average_information(
    rows: RowCovariance,
    theta: Floats,
    chunk: Chunk,
    found: Products,
    random: RandomCovariance,
    solved: Solved,
    b: Floats,
    kept: Kept | None = None,
) -> Floats:
    """b'[X, y]'V^-1 V_i V^-1 V_j V^-1 [X, y]b summed over the clusters of a chunk, (K, K)."""
    q, D = solved.q, found.D
    f, k = len(random.first), len(D)
    out = np.zeros((f + k, f + k))
    eb, Tb = solved.e @ b, solved.T @ b
    turned = (D @ eb[:, :, None])[..., 0]
    pulled = np.array([Tb @ dpsi for dpsi in random.first]).reshape(f, *Tb.shape)
    back = (np.swapaxes(solved.ez, 1, 2) @ turned[..., None])[..., 0]
    moved = np.concatenate([(solved.M @ pulled[..., None])[..., 0], back])
    out[:f] = np.einsum("fcz,kcz->fk", pulled, moved)
    out[:, :f] = out[:f].T
    if k:
        own = turned[:, :, :q]
        out[f:, f:] = contracted_products(rows, theta, chunk, eb, kept)
        out[f:, f:] -= in_rows(own) @ in_rows((solved.W @ own[..., None])[..., 0]).T
    return out
