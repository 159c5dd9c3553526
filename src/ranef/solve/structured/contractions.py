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
from ranef.solve.structured.moments import Inverse, Kept, batch_steps, inverse_of, products
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
        found = inverse_of(rows, theta, chunk, batch, True, kept=kept)
        if not len(found.jet.own):
            continue
        sums = _sums(chunk, batch, b, C)
        own, times = np.ix_(found.jet.own, found.jet.own), _times(batch)
        flat = found.ratio.reshape(len(found.ratio), -1)
        turned = np.swapaxes(found.ratio, 2, 3)
        out.traces[own] += times * (flat @ turned.reshape(len(turned), -1).T)
        G_b, G_C = (found.inverse @ one @ found.inverse for one in sums)
        for into, G in ((out.products, G_b), (out.projected, G_C)):
            left = (found.jet.first @ G).reshape(len(flat), -1)
            into[own] += left @ flat.T
        for (i, j), bent in found.jet.second.items():
            pair = [i] if i == j else [i, j]
            at = found.jet.own[pair], found.jet.own[pair[::-1]]
            out.bent_products[at] += float(np.sum(bent * G_b))
            out.bent_projected[at] += float(np.sum(bent * G_C))
            out.bent_traces[at] += times * float(np.sum(bent * found.inverse))
    assert p == chunk.U.shape[1] - 1
    for one in (out.products, out.projected):
        one[:] = (one + one.T) / 2.0
    return out


def _times(batch: Batch) -> int:
    """Groups for which one R stands."""
    return len(batch.rows) if batch.shared else 1


def _sums(chunk: Chunk, batch: Batch, b: Floats, C: Floats) -> tuple[Floats, Floats]:
    """Sums (g, n, n) of (U b)(U b)' and X C X' over the groups that share R."""
    if batch.moments is not None:
        n, w = batch.moments.shape[1:3]
        flat = batch.moments.reshape(n * n, w * w)
        wide = np.zeros((w, w))
        wide[:-1, :-1] = C
        both = flat @ np.column_stack([np.outer(b, b).ravel(), wide.ravel()])
        return both[:, 0].reshape(1, n, n), both[:, 1].reshape(1, n, n)
    U = chunk.U[batch.rows]
    v, X = U @ b, U[:, :, :-1]
    one = v[:, :, None] * v[:, None, :]
    two = X @ C @ np.swapaxes(X, 1, 2)
    if batch.shared:
        return one.sum(axis=0)[None], two.sum(axis=0)[None]
    return one, two


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
    U = chunk.U[batch.rows]
    y, bent = steps.moved(steps.slope.times(U)), steps.bend.times(U)
    w = U.shape[2]
    twice = y.reshape(-1, w).T @ y.reshape(-1, w)
    curved = U.reshape(-1, w).T @ bent.reshape(-1, w)
    out.products[k, k] += b @ twice @ b
    out.projected[k, k] += float(np.sum(C * twice[:-1, :-1]))
    moved = 2.0 * twice - curved
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
            U = chunk.U[batch.rows]
            y = steps.moved(steps.slope.times(U)).reshape(-1, w)
            twice = y.T @ y
            out += W[k, k] * twice
            bend = U.reshape(-1, w).T @ steps.bend.times(U).reshape(-1, w)
            curved += W[k, k] * (2.0 * twice - bend)
            continue
        found = inverse_of(rows, theta, chunk, batch, True)
        own = W[np.ix_(found.jet.own, found.jet.own)]
        mixed = np.tensordot(own, found.jet.first, axes=1)
        inner = np.sum(found.jet.first @ (found.inverse @ mixed), axis=0)
        out += _between(found, inner, chunk, batch)
        if found.jet.second:
            bent = sum(
                (2.0 - (i == j)) * own[i, j] * one for (i, j), one in found.jet.second.items()
            )
            curved += _between(found, np.asarray(bent), chunk, batch)
    return out, curved


def _between(found: Inverse, inner: Floats, chunk: Chunk, batch: Batch) -> Floats:
    """U'R^-1 K R^-1 U summed over groups, K (g, n, n)."""
    middle = found.inverse @ inner @ found.inverse
    return np.asarray(products(middle[None], chunk, batch)[0, 0])
