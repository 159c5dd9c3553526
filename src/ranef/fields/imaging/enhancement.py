"""`tfce`: threshold-free cluster enhancement, exact."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ranef import _core, arguments
from ranef.errors import DataError, ModelError

__all__ = ["Graph", "enhanced", "graph_of", "tfce"]

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


def tfce(
    values: Any,
    *,
    two_sided: bool = True,
    mask: Any = None,
    adjacency: Any = None,
    E: float = 0.5,
    H: float = 2.0,
) -> Any:
    """Enhance a map by the extent of what lies around each of its places.

    The integral over heights h from zero to the place's own of extent(h)^E h^H dh is computed
    exactly, not by steps (Smith & Nichols 2009, NeuroImage 44): multiplying a map by c multiplies
    its enhancement by c^(H + 1).

    Parameters
    ----------
    values : (x, y, z) array, or (N,) array with `adjacency`
        A volume whose voxels touch by their faces, or values on a surface. NaN counts as outside.
        An infinite value is enhanced to infinity; to others it counts as the largest finite one.
    two_sided : bool
        Enhance falls below zero as well, with their sign; else they are zero.
    mask : (x, y, z) bool array, optional
        Voxels of the brain.
    adjacency : (N, N) sparse array, or (E, 2) array of pairs, optional
        Which places of a surface are neighbours.
    E, H : float
        Powers of extent and height.

    Returns
    -------
    array
        Of the shape of `values`.

    Examples
    --------
    >>> import numpy as np
    >>> from ranef import imaging
    >>> imaging.tfce(np.array([[[2.0, 1.0, 0.0]]])).round(6)
    array([[[2.804738, 0.471405, 0.      ]]])
    """
    array = np.asarray(values, dtype=np.float64)
    both = arguments.flag("two_sided", two_sided)
    powers = arguments.number("E", E), arguments.number("H", H)
    if not all(0 <= one <= 10 for one in powers):
        raise ModelError("E and H lie between 0 and 10")
    if adjacency is not None:
        if array.ndim != 1:
            raise DataError(f"with adjacency= values are a vector, not of shape {array.shape}")
        if mask is not None:
            raise ModelError("mask= is of volumes; on a surface mark places outside by NaN")
        return enhanced(array, graph_of(adjacency, len(array)), both, *powers)
    if array.ndim != 3:
        raise DataError(
            f"values have shape {array.shape}; give a volume of three dimensions, or adjacency="
        )
    inside = np.isfinite(array) | np.isinf(array)
    if mask is not None:
        given = np.asarray(mask).astype(bool)
        if given.shape != array.shape:
            raise DataError(f"the mask has shape {given.shape}, the values {array.shape}")
        inside &= given
    graph = Graph(*_core.voxel_neighbours(np.ascontiguousarray(inside)))
    out = np.zeros(array.shape)
    out[inside] = enhanced(array[inside], graph, both, *powers)
    return out


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
