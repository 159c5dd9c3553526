"""`tfce`: threshold-free cluster enhancement, exact."""

from __future__ import annotations

from typing import Any

import numpy as np

from ranef import _core, arguments
from ranef.errors import DataError, ModelError
from ranef.fields.imaging.graphs import Graph, enhanced, graph_of
from ranef.fields.imaging.reading import is_image, read_map, read_mask

__all__ = ["tfce"]


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
    values : image, path, (x, y, z) array, or (N,) array with `adjacency`
        A volume whose voxels touch by their faces, or values on a surface. NaN counts as outside.
        An infinite value is enhanced to infinity; to others it counts as the largest finite one.
    two_sided : bool
        Enhance falls below zero as well, with their sign; else they are zero.
    mask : (x, y, z) bool array, or image, optional
        Voxels of the brain.
    adjacency : (N, N) sparse array, or (E, 2) array of pairs, optional
        Which places of a surface are neighbours.
    E, H : float
        Powers of extent and height.

    Returns
    -------
    array or image
        As `values` are.

    Examples
    --------
    >>> import numpy as np
    >>> from ranef import imaging
    >>> imaging.tfce(np.array([[[2.0, 1.0, 0.0]]])).round(6)
    array([[[2.804738, 0.471405, 0.      ]]])
    """
    both = arguments.flag("two_sided", two_sided)
    powers = arguments.number("E", E), arguments.number("H", H)
    if not all(0 <= one <= 10 for one in powers):
        raise ModelError("E and H lie between 0 and 10")
    if is_image(values):
        return _of_image(values, both, mask, adjacency, *powers)
    given = np.asarray(values)
    if given.dtype.kind not in "fiub":
        raise DataError(f"values are of type {given.dtype}, not real numbers")
    array = given.astype(np.float64)
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
        brain = np.asarray(mask).astype(bool)
        if brain.shape != array.shape:
            raise DataError(f"the mask has shape {brain.shape}, the values {array.shape}")
        inside &= brain
    graph = Graph(*_core.voxel_neighbours(np.ascontiguousarray(inside)))
    out = np.zeros(array.shape)
    out[inside] = enhanced(array[inside], graph, both, *powers)
    return out


def _of_image(image: Any, both: bool, mask: Any, adjacency: Any, E: float, H: float) -> Any:
    found = read_map(image, "the map")
    values = found.values.astype(np.float64)
    inside = ~np.isnan(values)
    if mask is not None:
        given = read_mask(mask)
        difference = found.places.difference(given.places)
        if difference:
            raise DataError(
                f"{given.name} is on another grid than {found.name}: {difference}; resample one"
            )
        inside &= given.values
    out = np.zeros(len(values))
    graph = found.places.graph(inside, adjacency)
    out[inside] = enhanced(values[inside], graph, both, E, H)
    return found.places.image(out)
