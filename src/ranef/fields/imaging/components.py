"""Clusters of a map on a graph: neighbours above a height."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ranef.fields.imaging.graphs import Graph

__all__ = ["cluster_maps", "components"]

Floats = NDArray[np.float64]
Ints = NDArray[np.intp]


def components(above: NDArray[np.bool_], graph: Graph) -> tuple[int, Ints]:
    """Return the number of clusters of places above, and the cluster of each (-1 elsewhere)."""
    from scipy.sparse import csr_array
    from scipy.sparse.csgraph import connected_components

    out = np.full(graph.n, -1, dtype=np.intp)
    places = np.flatnonzero(above)
    if not len(places):
        return 0, out
    number = np.full(graph.n, -1, dtype=np.int32)
    number[places] = np.arange(len(places), dtype=np.int32)
    lengths = np.diff(graph.starts)[places]
    rows = np.repeat(np.arange(len(places)), lengths)
    offsets = np.arange(lengths.sum()) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    to = number[graph.indices[np.repeat(graph.starts[places], lengths) + offsets]]
    keep = to >= 0
    shape = (len(places), len(places))
    edges = csr_array((np.ones(int(keep.sum()), dtype=np.int8), (rows[keep], to[keep])), shape)
    count, labels = connected_components(edges, directed=False)
    out[places] = labels
    return int(count), out


def cluster_maps(t: Floats, graph: Graph, height: float, both: bool) -> tuple[Floats, Floats]:
    """Sizes and masses of the clusters beyond a height, at each of their places.

    Those below -height have negative sizes and masses. The mass of a cluster is the sum of what
    its statistics exceed the height by (Bullmore et al. 1999, IEEE Trans Med Imaging 18).
    """
    size, mass = np.zeros(len(t)), np.zeros(len(t))
    flat = np.nan_to_num(t, nan=0.0, posinf=np.inf, neginf=-np.inf)
    finite = np.abs(flat[np.isfinite(flat)])
    flat = np.clip(flat, -finite.max(initial=0.0), finite.max(initial=0.0))
    for sign in (1.0, -1.0) if both else (1.0,):
        above = sign * flat > height
        count, labels = components(above, graph)
        if not count:
            continue
        own = labels[above]
        sizes = np.bincount(own, minlength=count).astype(np.float64)
        masses = np.bincount(own, weights=sign * flat[above] - height, minlength=count)
        size[above], mass[above] = sign * sizes[own], sign * masses[own]
    return size, mass
