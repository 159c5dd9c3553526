"""Where values of a brain are: voxels of a volume, vertices of a surface, grayordinates.

`Places` compares grids and makes images of values again; `reading` fills them from files.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ranef import _core
from ranef.errors import ModelError
from ranef.fields.imaging.graphs import Graph, graph_of

__all__ = ["Places"]

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

SAME = 0.01
"""Distance between the corners of two grids, in voxels, that is rounding of their headers."""


@dataclass(frozen=True, eq=False)
class Places:
    """The N places of an image, inside and outside of the brain.

    Attributes
    ----------
    kind : {"nifti", "mgh", "gifti", "cifti", "surface"}
        The kind of image that values are written to; ``"surface"`` is nilearn's SurfaceImage.
    shape : tuple of int
        Three numbers of a volume, one of a surface or of grayordinates.
    affine : (4, 4) array or None
        Of a volume.
    axis : object
        The brain models of grayordinates (nibabel's BrainModelAxis).
    mesh : object
        The meshes of a SurfaceImage.
    structure : str
        What a GIfTI file says of its anatomy.
    """

    kind: str
    shape: tuple[int, ...]
    affine: Floats | None = None
    axis: Any = None
    mesh: Any = None
    structure: str = ""

    @property
    def n(self) -> int:
        """Number of places."""
        return int(np.prod(self.shape))

    @property
    def is_volume(self) -> bool:
        """Whether the places are the voxels of a grid."""
        return len(self.shape) == 3

    @property
    def words(self) -> str:
        """The grid in words."""
        if not self.is_volume or self.affine is None:
            return f"{self.n:,} {'vertices' if self.kind != 'cifti' else 'grayordinates'}"
        size = np.linalg.norm(self.affine[:3, :3], axis=0)
        shape = " x ".join(map(str, self.shape))
        return f"a grid of {shape} voxels of {' x '.join(f'{s:.3g}' for s in size)} mm"

    def difference(self, other: Places) -> str:
        """Say how another image's places differ; nothing where they are the same."""
        if self.is_volume != other.is_volume or (self.kind == "cifti") != (other.kind == "cifti"):
            return f"{other.words}, not {self.words}"
        if self.shape != other.shape:
            return f"{other.words}, not {self.words}"
        if self.kind == "cifti" and self.axis != other.axis:
            return "other brain models (the same number of grayordinates, at other places)"
        if self.structure and other.structure and self.structure != other.structure:
            return f"vertices of {other.structure}, not of {self.structure}"
        return _moved(self, other)

    def image(self, values: NDArray[Any]) -> Any:
        """Return an image of values (N,), or of several maps (m, N)."""
        return MAKERS[self.kind](self, np.asarray(values))

    def graph(self, inside: Bools, adjacency: Any = None) -> Graph:
        """Return which of the places inside are neighbours.

        adjacency : of all N places, where the image itself does not say.
        """
        if adjacency is not None:
            whole = graph_of(adjacency, self.n)
        elif self.is_volume:
            return Graph(*_core.voxel_neighbours(np.ascontiguousarray(inside.reshape(self.shape))))
        elif self.kind == "surface":
            whole = graph_of(_edges(self.mesh.parts), self.n)
        elif self.kind == "cifti" and _only_voxels(self.axis):
            whole = graph_of(_touching(self.axis.voxel), self.n)
        else:
            raise ModelError(
                "the image does not say which of its vertices are neighbours; give adjacency=, a "
                "sparse matrix or pairs of vertices (see ranef.imaging.surface_neighbours)"
            )
        return _inside(whole, inside)

    def coordinates(self) -> Floats:
        """Return the places (N, 3) in mm; of a surface the number of the vertex."""
        if self.is_volume and self.affine is not None:
            index = np.indices(self.shape).reshape(3, -1).T
            return np.asarray(index @ self.affine[:3, :3].T + self.affine[:3, 3], dtype=np.float64)
        out = np.full((self.n, 3), np.nan)
        if self.kind == "surface":
            return np.vstack([np.asarray(part.coordinates) for part in self.mesh.parts.values()])
        if self.kind == "cifti" and self.axis.affine is not None:
            A, voxels = np.asarray(self.axis.affine), np.asarray(self.axis.voxel)
            here = ~np.asarray(self.axis.surface_mask)
            out[here] = voxels[here] @ A[:3, :3].T + A[:3, 3]
        return out


def _moved(one: Places, other: Places) -> str:
    if one.affine is None or other.affine is None:
        return ""
    corners = np.array([[*c, 1.0] for c in np.ndindex(2, 2, 2)])
    corners[:, :3] *= np.array(one.shape) - 1
    apart = np.linalg.norm((corners @ (other.affine - one.affine).T)[:, :3], axis=1).max()
    if not np.isfinite(apart):
        return "an affine that is not finite"
    size = np.linalg.norm(one.affine[:3, :3], axis=0).min()
    if apart <= SAME * size:
        return ""
    return f"the same shape, but its grid is shifted or turned by up to {apart:.3g} mm"


# --- images of values


def _several(values: NDArray[Any]) -> NDArray[Any]:
    return values if values.dtype.kind == "f" else values.astype(np.float64)


def _nifti(places: Places, values: NDArray[Any]) -> Any:
    import nibabel as nib

    return nib.Nifti1Image(_volume(places, values), places.affine)


def _mgh(places: Places, values: NDArray[Any]) -> Any:
    import nibabel as nib

    if places.is_volume:
        data = _volume(places, values)
    else:
        data = values.reshape(*values.shape[:-1], places.n, 1, 1)
        data = data if data.ndim == 3 else np.moveaxis(data, 0, -1)
    affine = np.eye(4) if places.affine is None else places.affine
    return nib.freesurfer.MGHImage(data.astype(np.float32), affine)


def _volume(places: Places, values: NDArray[Any]) -> NDArray[Any]:
    data = _several(values).reshape(*values.shape[:-1], *places.shape)
    return data if data.ndim == 3 else np.moveaxis(data, 0, -1)


def _gifti(places: Places, values: NDArray[Any]) -> Any:
    from nibabel import gifti

    maps = np.atleast_2d(_several(values)).astype(np.float32)
    arrays = [gifti.GiftiDataArray(one, intent="NIFTI_INTENT_NONE") for one in maps]
    entries = {"AnatomicalStructurePrimary": places.structure} if places.structure else {}
    return gifti.GiftiImage(meta=gifti.GiftiMetaData(entries), darrays=arrays)


def _cifti(places: Places, values: NDArray[Any]) -> Any:
    from nibabel import cifti2

    maps = np.atleast_2d(_several(values)).astype(np.float32)
    names = [f"map {k + 1}" for k in range(len(maps))]
    header = cifti2.Cifti2Header.from_axes((cifti2.ScalarAxis(names), places.axis))
    return cifti2.Cifti2Image(maps, header)


def _surface(places: Places, values: NDArray[Any]) -> Any:
    from nilearn.surface import SurfaceImage

    data, first = {}, 0
    for name, part in places.mesh.parts.items():
        data[name] = np.moveaxis(values[..., first : first + part.n_vertices], 0, -1) \
            if values.ndim == 2 else values[first : first + part.n_vertices]  # fmt: skip
        first += part.n_vertices
    return SurfaceImage(mesh=places.mesh, data=data)


MAKERS = {"nifti": _nifti, "mgh": _mgh, "gifti": _gifti, "cifti": _cifti, "surface": _surface}


# --- neighbours


def _edges(parts: Any) -> NDArray[np.int64]:
    pairs, first = [], 0
    for part in parts.values():
        faces = np.asarray(part.faces, dtype=np.int64) + first
        pairs += [faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]]
        first += part.n_vertices
    return np.vstack(pairs)


def _only_voxels(axis: Any) -> bool:
    return not np.asarray(axis.surface_mask).any()


def _touching(voxels: Any) -> NDArray[np.int64]:
    """Pairs of voxels (n, 3) that share a face."""
    places = {tuple(v): i for i, v in enumerate(np.asarray(voxels).tolist())}
    pairs = [
        (i, places[x + a, y + b, z + c])
        for (x, y, z), i in places.items()
        for a, b, c in ((1, 0, 0), (0, 1, 0), (0, 0, 1))
        if (x + a, y + b, z + c) in places
    ]
    return np.array(pairs, dtype=np.int64).reshape(-1, 2)


def _inside(graph: Graph, inside: Bools) -> Graph:
    """The part of a graph that lies inside."""
    flat = inside.reshape(-1)
    rows = np.repeat(np.arange(graph.n), np.diff(graph.starts))
    keep = flat[rows] & flat[graph.indices]
    number = np.cumsum(flat) - 1
    pairs = np.column_stack([number[rows[keep]], number[graph.indices[keep]]])
    return graph_of(pairs.astype(np.int64), int(flat.sum()))
