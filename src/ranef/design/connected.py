"""Rows that shared levels connect."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

__all__ = ["connected_rows"]


def connected_rows(codes: Sequence[NDArray[np.integer]]) -> NDArray[np.intp]:
    """Component of each row, (n,), from 0: rows that a chain of shared levels connects.

    Parameters
    ----------
    codes : sequence of (n,) int arrays
        Levels of one or more factors; a negative code is shared with no other row.

    Examples
    --------
    >>> connected_rows([np.array([0, 0, 1, 2]), np.array([0, 1, 1, -1])])
    array([0, 0, 0, 1])
    """
    coarse = min(codes, key=lambda own: int(own.max(initial=-1)))
    if all(_is_nested(own, coarse) for own in codes):
        return np.asarray(np.unique(coarse, return_inverse=True)[1].reshape(-1), dtype=np.intp)
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    n, first = len(codes[0]), 0
    levels, rows = [], []
    for own in codes:
        seen = np.flatnonzero(own >= 0)
        levels.append(own[seen].astype(np.intp) + first)
        rows.append(seen)
        first += int(own.max(initial=-1)) + 1
    a, b = np.concatenate(levels), np.concatenate(rows) + first
    graph = coo_array((np.ones(len(a), dtype=np.int8), (a, b)), shape=(first + n,) * 2)
    _, labels = connected_components(graph, directed=False)
    return np.unique(labels[first:], return_inverse=True)[1].reshape(-1).astype(np.intp)


def _is_nested(codes: NDArray[np.integer], coarse: NDArray[np.integer]) -> bool:
    """Whether each level stands in one coarse level, and no row lacks either."""
    if min(int(codes.min(initial=0)), int(coarse.min(initial=0))) < 0:
        return False
    owner = np.zeros(int(codes.max(initial=0)) + 1, dtype=np.intp)
    owner[codes] = coarse
    return bool(np.array_equal(owner[codes], coarse))
