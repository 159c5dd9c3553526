"""Second-order products of models without random effects, contracted as they are made.

The Hessian of the criterion takes of U'R^-1 R_k R^-1 R_l R^-1 U only b'(.)b and its trace with
C, and Kenward and Roger's covariance a sum over all pairs k, l with weights. With the
cross-products S = sum u u' of the rows of groups that share R, or of one group,

    b'E_kl b = tr(R_k R^-1 R_l G),  G = R^-1 (sum (U b)(U b)') R^-1,

and the same with C in the place of bb': matrices (n, n) of places instead of (w, w) for each pair.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ranef.solve.structured.design import Batch, Chunk
from ranef.solve.structured.moments import (
    Kept,
    Whitened,
    batch_steps,
    group_rows,
    is_summed,
    products,
    whitened,
)
from ranef.solve.structured.rows import RowCovariance

__all__ = ["Contracted", "contracted", "weighted"]

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Contracted:
    """Second-order sums, contracted; of K parameters.

    Attributes
    ----------
    products : (K, K) float64 array
        b'[X, y]'V^-1 V_i V^-1 V_j V^-1 [X, y]b.
    projected : (K, K) float64 array
        tr(C X'V^-1 V_i V^-1 V_j V^-1 X).
    traces : (K, K) float64 array
        tr(V^-1 V_i V^-1 V_j).
    bent_products, bent_projected, bent_traces : (K, K) float64 arrays
        b'[X, y]'V^-1 V_ij V^-1 [X, y]b, tr(C X'V^-1 V_ij V^-1 X), tr(V^-1 V_ij).
    """

    products: Floats
    projected: Floats
    traces: Floats
    bent_products: Floats
    bent_projected: Floats
    bent_traces: Floats


def contracted(
    rows: RowCovariance, theta: Floats, chunk: Chunk, b: Floats, C: Floats, kept: Kept | None
) -> Contracted:
    """Contract the second-order sums of a chunk without random effects."""
    k, p = rows.n_parameters, len(C)
    out = Contracted(*(np.zeros((k, k)) for _ in range(6)))
    for batch in chunk.batches:
        if batch.in_order:
            _add_in_order(out, rows, theta, chunk, batch, b, C)
            continue
        found = whitened(rows, theta, chunk, batch, True, kept=kept)
        if not len(found.jet.own):
            continue
        pairs = list(found.jet.second)
        if _is_narrow(found, batch, p + 1):
            full, bent = _by_columns(found, chunk, batch, b, C)
        else:
            S = _sums(chunk, batch, b, C)
            full, bent = found.core.contracted(S, found.counts, *found.second)
        own = np.ix_(found.jet.own, found.jet.own)
        for into, each in zip((out.traces, out.products, out.projected), full, strict=True):
            into[own] += each
        curved = out.bent_traces, out.bent_products, out.bent_projected
        for (i, j), each in zip(pairs, bent.T, strict=True):
            pair = [i] if i == j else [i, j]
            at = found.jet.own[pair], found.jet.own[pair[::-1]]
            for into, value in zip(curved, each, strict=True):
                into[at] += value
    assert p == chunk.U.shape[1] - 1
    for one in (out.products, out.projected):
        one[:] = (one + one.T) / 2.0
    return out


def _is_narrow(found: Whitened, batch: Batch, w: int) -> bool:
    """Whether columns of groups take fewer multiplications than matrices (n, n)."""
    n, k = batch.rows.shape[1], len(found.jet.own)
    by_columns = 2.0 * k * w * n + float(k * w) ** 2
    return not is_summed(batch) and by_columns < (4.0 + 2.0 * k) * n * n + 2.0 * k * k * n


def _by_columns(
    found: Whitened, chunk: Chunk, batch: Batch, b: Floats, C: Floats
) -> tuple[Floats, Floats]:
    """Traces, products and projections of pairs: (3, k, k), and bent ones (3, pairs)."""
    second = found.second
    E, F = (one[0] for one in found.core.second_products(group_rows(chunk, batch), *second))
    none = np.zeros((0, *found.jet.value.shape))
    traces, bent_traces = found.core.contracted(none, found.counts, *second)
    products = np.einsum("a,kalb,b->kl", b, E, b)
    projected = np.einsum("ab,kalb->kl", C, E[:, :-1, :, :-1])
    full = [traces[0], products, projected]
    bent = [bent_traces[0], (F @ b) @ b, np.einsum("ab,pab->p", C, F[:, :-1, :-1])]
    return np.array(full), np.array(bent)


def _sums(chunk: Chunk, batch: Batch, b: Floats, C: Floats) -> Floats:
    """Sums of (U b)(U b)' and X C X' over the groups that share R, (2, m, n, n)."""
    if batch.moments is not None:
        n, w = batch.moments.shape[1:3]
        flat = batch.moments.reshape(n * n, w * w)
        wide = np.zeros((w, w))
        wide[:-1, :-1] = C
        both = flat @ np.column_stack([np.outer(b, b).ravel(), wide.ravel()])
        return np.ascontiguousarray(both.T.reshape(2, 1, n, n))
    U = chunk.U[batch.rows]
    v, X = U @ b, U[:, :, :-1]
    one = v[:, :, None] * v[:, None, :]
    two = X @ C @ np.swapaxes(X, 1, 2)
    both = np.stack([one, two])
    return both.sum(axis=1, keepdims=True) if batch.shared else both


def _add_in_order(
    out: Contracted,
    rows: RowCovariance,
    theta: Floats,
    chunk: Chunk,
    batch: Batch,
    b: Floats,
    C: Floats,
) -> None:
    """Of a batch in order of time, of one parameter."""
    steps, k = batch_steps(rows, theta, chunk, batch)
    twice, moved = steps.core.second_products(group_rows(chunk, batch))[0]
    out.products[k, k] += b @ twice @ b
    out.projected[k, k] += float(np.sum(C * twice[:-1, :-1]))
    out.bent_products[k, k] += b @ moved @ b
    out.bent_projected[k, k] += float(np.sum(C * moved[:-1, :-1]))
    one, two = steps.traces
    out.traces[k, k] += one
    out.bent_traces[k, k] += two


def weighted(rows: RowCovariance, theta: Floats, chunk: Chunk, W: Floats) -> tuple[Floats, Floats]:
    """Sums over pairs i, j, weighted by W (K, K), of a chunk without random effects.

    Returns
    -------
    products, bent : (p + 1, p + 1) float64 arrays
        Of [X, y]'V^-1 V_i V^-1 V_j V^-1 [X, y], and of [X, y]'V^-1 V_ij V^-1 [X, y].
    """
    w = chunk.U.shape[1]
    out, curved = np.zeros((w, w)), np.zeros((w, w))
    for batch in chunk.batches:
        if batch.in_order:
            steps, k = batch_steps(rows, theta, chunk, batch)
            twice, moved = steps.core.second_products(group_rows(chunk, batch))[0]
            out += W[k, k] * twice
            curved += W[k, k] * moved
            continue
        found = whitened(rows, theta, chunk, batch, True)
        if not len(found.jet.own):
            continue
        own = np.ascontiguousarray(W[np.ix_(found.jet.own, found.jet.own)])
        middle = found.core.weighted(own, *found.second)
        both = products(middle, chunk, batch, found)
        out += both[0, 0]
        curved += both[1, 0]
    return out, curved
