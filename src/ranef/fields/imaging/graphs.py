"""Graphs of neighbours, and the enhancement of values on them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ranef import _core
from ranef.errors import DataError

__all__ = ["Graph", "enhanced", "graph_of"]

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Graph:
    """Which of N places are neighbours.

    Attributes
    ----------
    starts : (N + 1,) int32 array
    indices : int32 array
        Neighbours of i are ``indices[starts[i]:starts[i + 1]]``.
    """

    starts: NDArray[np.int32]
    indices: NDArray[np.int32]

    @property
    def n(self) -> int:
        """Number of places."""
        return len(self.starts) - 1


def graph_of(adjacency: Any, n: int) -> Graph:
    """Neighbours from a sparse matrix or from pairs, both ways; itself is none."""
    from scipy import sparse

    if sparse.issparse(adjacency):
        if adjacency.shape != (n, n):
            raise DataError(f"adjacency has shape {adjacency.shape}; there are {n} places")
        pairs = np.column_stack(adjacency.nonzero())
    else:
        pairs = np.asarray(adjacency)
        if pairs.ndim != 2 or pairs.shape[1] != 2 or pairs.dtype.kind not in "iu":
            raise DataError("adjacency is a sparse matrix, or pairs of whole numbers (E, 2)")
        if len(pairs) and (pairs.min() < 0 or pairs.max() >= n):
            raise DataError(f"adjacency names places outside 0 to {n - 1}")
    pairs = pairs[pairs[:, 0] != pairs[:, 1]]
    ones = np.ones(2 * len(pairs), dtype=np.int8)
    rows, columns = np.concatenate([pairs, pairs[:, ::-1]]).T
    matrix = sparse.csr_array((ones, (rows, columns)), shape=(n, n))
    matrix.sum_duplicates()
    return Graph(matrix.indptr.astype(np.int32), matrix.indices.astype(np.int32))


def enhanced(
    values: Floats, graph: Graph, two_sided: bool, E: float = 0.5, H: float = 2.0
) -> Floats:
    """Enhance values (N,) on a graph."""
    flat = np.nan_to_num(values, nan=0.0, posinf=np.inf, neginf=-np.inf)
    out: Floats = _core.tfce(np.maximum(flat, 0.0), graph.starts, graph.indices, E, H)
    if two_sided:
        out = out - _core.tfce(np.maximum(-flat, 0.0), graph.starts, graph.indices, E, H)
    return out
