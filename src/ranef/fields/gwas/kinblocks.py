"""Eigenvectors of a sparse relationship, block by block: families do not meet each other.

A relationship that is cut to zero between all but close kin falls into blocks, most of them of one
sample; its eigenvectors are those of the blocks, and rotating a variant costs what the blocks hold.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ranef.errors import DataError

__all__ = ["blocks_of", "eigen_by_blocks"]

Floats = NDArray[np.float64]

BELOW_ZERO = 0.2
"""How far below zero an eigenvalue may be, of the mean diagonal: a cut makes such ones."""
LARGEST = 20_000


def blocks_of(K: Any) -> list[NDArray[np.intp]]:
    """Samples of each block of a sparse matrix, those of one size as the rows of an array."""
    from scipy.sparse.csgraph import connected_components

    _, label = connected_components(K, directed=False)
    order = np.argsort(label, kind="stable")
    sizes = np.bincount(label)
    starts = np.concatenate([[0], np.cumsum(sizes)[:-1]])
    return [order[starts[sizes == size][:, None] + np.arange(size)] for size in np.unique(sizes)]


def eigen_by_blocks(K: Any) -> tuple[Floats, Any]:
    """Return eigenvalues, (n,), and eigenvectors, (n, n) sparse by column, of a sparse matrix.

    Eigenvalues that the cut of small values has brought below zero are taken for zero.

    Parameters
    ----------
    K : (n, n) sparse array
    """
    from scipy.sparse import csr_array

    n = K.shape[0]
    K = csr_array(K)
    d = np.empty(n)
    rows, columns, values = [], [], []
    for members in blocks_of(K):
        size = members.shape[1]
        if size == 1:
            d[members[:, 0]] = K.diagonal()[members[:, 0]]
            part = np.ones((len(members), 1, 1))
        else:
            _check(size, n)
            stacked = np.stack([K[rows_of][:, rows_of].toarray() for rows_of in members])
            own, part = np.linalg.eigh(stacked)
            d[members] = own
        rows.append(np.repeat(members, size, axis=1).ravel())
        columns.append(np.tile(members, (1, size)).ravel())
        values.append(part.ravel())
    floor = -BELOW_ZERO * float(K.diagonal().mean())
    if d.min() < floor:
        raise DataError(
            f"the sparse relationship is indefinite: it has the eigenvalue {d.min():.4g} beside a "
            f"mean diagonal of {K.diagonal().mean():.4g}; cut it lower, or give the whole matrix"
        )
    where = (np.concatenate(rows), np.concatenate(columns))
    return np.maximum(d, 0.0), csr_array((np.concatenate(values), where), shape=(n, n))


def _check(size: int, n: int) -> None:
    if size > LARGEST:
        raise DataError(
            f"{size:,} of {n:,} samples are connected by kin in the sparse relationship, and a "
            f"block of more than {LARGEST:,} is not decomposed: cut it higher"
        )
