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

from ranef import _core
from ranef.covariance.between_rows import ByDistance
from ranef.errors import ModelError
from ranef.solve.resources import available_memory
from ranef.solve.structured.design import CELLS, Batch, Chunk
from ranef.solve.structured.markov import Gaps, Steps, gaps_of, steps_of
from ranef.solve.structured.rows import GroupJet, RowCovariance

__all__ = [
    "Kept",
    "Moved",
    "Products",
    "RandomCovariance",
    "Solved",
    "Sums",
    "Whitened",
    "average_information",
    "batch_steps",
    "cluster_sums",
    "group_rows",
    "is_summed",
    "products",
    "products_of",
    "second_products",
    "solved_clusters",
    "whitened",
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
_groups: WeakKeyDictionary[Batch, _core.GroupRows] = WeakKeyDictionary()

WORTH_THREADS = 2e6
"""Multiplications from which on a second thread is started."""

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
class Whitened:
    """R of a batch with its derivatives, and what the core makes of it.

    Attributes
    ----------
    jet : GroupJet
    core : WhitenedGroups
    counts : (m,) float64 array
        Groups for which each R stands.
    """

    jet: GroupJet
    core: _core.WhitenedGroups
    counts: Floats

    @property
    def log_determinant(self) -> float:
        """log|R| of all groups."""
        return float(self.counts @ self.core.log_determinants())

    @property
    def traces(self) -> Floats:
        """tr(R^-1 R_k) of all groups, (k,)."""
        return np.asarray(self.core.traces() @ self.counts)

    @property
    def second(self) -> tuple[list[tuple[int, int]], list[Floats]]:
        """Pairs of parameters and second derivatives in them."""
        pairs = list(self.jet.second)
        return pairs, [np.ascontiguousarray(self.jet.second[pair]) for pair in pairs]


class Kept:
    """Covariances of one evaluation that are needed again, up to a number of cells."""

    def __init__(self, second: bool) -> None:
        self.second, self.room = second, CELLS
        self.found: dict[int, Whitened] = {}

    def add(self, batch: Batch, whitened: Whitened) -> None:
        self.room -= whitened.jet.first.size + whitened.jet.value.size
        if self.room > 0:
            self.found[id(batch)] = whitened


def group_rows(chunk: Chunk, batch: Batch) -> _core.GroupRows:
    """Rows of a batch as the core takes them; made once."""
    found = _groups.get(batch)
    if found is None:
        g = len(batch.rows)
        which = np.zeros(g, dtype=np.int32) if batch.shared else np.arange(g, dtype=np.int32)
        found = _core.GroupRows(
            np.ascontiguousarray(chunk.U),
            batch.rows.astype(np.int32, order="C"),
            which,
            1 if batch.shared else g,
            batch.clusters.astype(np.int32),
            chunk.clusters,
        )
        _groups[batch] = found
    return found


def is_summed(batch: Batch) -> bool:
    """Whether the groups that share R have more to gain by their cross-products (n, n)."""
    return batch.moments is not None or (batch.shared and len(batch.rows) > batch.rows.shape[1])


def threads_for(chunk: Chunk, batch: Batch, each: float) -> int:
    """Threads for a batch whose groups take so many multiplications."""
    return chunk.threads if len(batch.rows) * each > WORTH_THREADS else 1


def whitened(
    rows: RowCovariance,
    theta: Floats,
    chunk: Chunk,
    batch: Batch,
    second: bool,
    bend: Bend | None = None,
    kept: Kept | None = None,
    slopes: bool = True,
) -> Whitened:
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
    n, w, k = batch.rows.shape[1], chunk.U.shape[1], len(jet.own)
    core = _core.WhitenedGroups(
        np.ascontiguousarray(jet.value),
        np.ascontiguousarray(jet.first if slopes else jet.first[:0]),
        rows.least_pivot,
        rows.least_variance,
        threads_for(chunk, batch, n * n * (n + (1 + k) * w)),
    )
    g = len(batch.rows)
    counts = np.array([float(g)]) if batch.shared else np.ones(g)
    made = Whitened(jet, core, counts)
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
            steps, place = batch_steps(rows, theta, chunk, batch)
            both = steps.core.products(group_rows(chunk, batch))
            A += both[:, 0]
            total += steps.log_determinant
            if k:
                D[place] += both[:, 1]
                traces[place] += steps.trace
            continue
        found = whitened(rows, theta, chunk, batch, False, bend, kept, slopes=k > 0)
        total += found.log_determinant
        own = found.jet.own if k else found.jet.own[:0]
        all_products = _first_products(found, chunk, batch)
        A += all_products[0]
        if len(own):
            D[own] += all_products[1:]
            traces[own] += found.traces
    return Products(total, A, D, traces)


def _first_products(found: Whitened, chunk: Chunk, batch: Batch) -> Floats:
    """U'R^-1 U and U'R^-1 R_k R^-1 U by cluster, (1 + k, c, w, w)."""
    if batch.moments is not None:
        return products(found.core.middles(), chunk, batch, found)
    return np.swapaxes(found.core.products(group_rows(chunk, batch)), 0, 1)


def second_products(
    rows: RowCovariance, theta: Floats, chunk: Chunk, kept: Kept | None = None
) -> Moved:
    """Second-order cross-products of a chunk."""
    w, k, c = chunk.U.shape[1], rows.n_parameters, chunk.clusters
    E, F = np.zeros((k, k, c, w, w)), np.zeros((k, k, c, w, w))
    E_traces, F_traces = np.zeros((k, k)), np.zeros((k, k))
    for batch in chunk.batches:
        if batch.in_order:
            steps, place = batch_steps(rows, theta, chunk, batch)
            both = steps.core.second_products(group_rows(chunk, batch))
            E[place, place] += both[:, 0]
            F[place, place] += both[:, 1]
            one, two = steps.traces
            E_traces[place, place] += one
            F_traces[place, place] += two
            continue
        found = whitened(rows, theta, chunk, batch, True, kept=kept)
        own, second = found.jet.own, found.second
        if not len(own):
            continue
        twice, bent = found.core.second_products(group_rows(chunk, batch), *second)
        at = np.ix_(own, own)
        if len(own) == k:
            E += twice.transpose(1, 3, 0, 2, 4)
        else:
            E[at] += twice.transpose(1, 3, 0, 2, 4)
        none = np.zeros((0, *found.jet.value.shape))
        traces, bent_traces = found.core.contracted(none, found.counts, *second)
        E_traces[at] += traces[0]
        for pair, own_bent, trace in zip(second[0], np.swapaxes(bent, 0, 1), bent_traces[0],
                                         strict=True):  # fmt: skip
            for a, b in {pair, pair[::-1]}:
                F[own[a], own[b]] += own_bent
                F_traces[own[a], own[b]] += trace
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
    threads = threads_for(chunk, batch, 4.0 * batch.rows.shape[1] * chunk.U.shape[1] ** 2)
    correlation = rows.correlations[batch.by][0]
    assert isinstance(correlation, ByDistance)
    steps = steps_of(correlation, own, gaps, threads)
    _last_steps[batch] = own.copy(), steps
    return steps, cut.start


def products(middle: Floats, chunk: Chunk, batch: Batch, found: Whitened) -> Floats:
    """U'K U by cluster, (k, c, w, w), for k matrices K (k, m, n, n)."""
    w = chunk.U.shape[1]
    if batch.moments is not None:
        n = middle.shape[-1]
        flat = middle.reshape(len(middle), n * n) @ batch.moments.reshape(n * n, w * w)
        return np.asarray(flat.reshape(len(middle), 1, w, w))
    return np.swapaxes(found.core.forms(group_rows(chunk, batch), middle), 0, 1)


def contracted_products(
    rows: RowCovariance, theta: Floats, chunk: Chunk, vectors: Floats, kept: Kept | None
) -> Floats:
    """c'E_kl c summed over clusters, (k, k), with a vector c (w,) for each cluster."""
    k = rows.n_parameters
    out = np.zeros((k, k))
    vectors = np.ascontiguousarray(vectors)
    for batch in chunk.batches:
        if batch.in_order:
            steps, place = batch_steps(rows, theta, chunk, batch)
            out[place, place] += steps.core.information(group_rows(chunk, batch), vectors)
            continue
        found = whitened(rows, theta, chunk, batch, False, kept=kept)
        own = found.jet.own
        if is_summed(batch):
            if batch.moments is not None:
                S = (batch.moments @ vectors[0]) @ vectors[0]
            else:
                v = np.einsum("gnw,gw->gn", chunk.U[batch.rows], vectors[batch.clusters])
                S = v.T @ v
            S = np.ascontiguousarray(S[None, None])
            each = found.core.contracted(S, found.counts, [], [])[0][1]
        else:
            each = found.core.information(group_rows(chunk, batch), vectors)
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
