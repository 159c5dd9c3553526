"""Images read by nibabel: one map of a subject, a mask, what a header says."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ranef import arguments
from ranef.errors import DataError, FileError, ModelError
from ranef.fields.imaging.bounds import check_image
from ranef.fields.imaging.places import Places
from ranef.solve.room import check_regular, check_room

__all__ = ["Map", "is_image", "read_map", "read_mask", "stored", "surface_neighbours", "volumes_of"]

BYTES_OF_VALUE = 8
MESHES = ("NIFTI_INTENT_POINTSET", "NIFTI_INTENT_TRIANGLE")


@dataclass(frozen=True, eq=False)
class Map:
    """One value at each place.

    Attributes
    ----------
    name : str
        What it is, for messages: ``"the effect of subject 'a' (a.nii.gz)"``.
    values : (N,) float32 or float64 array
    places : Places
    apart : float
        How far apart, in mm, two grids of one header place its voxels; 0 where they agree.
    """

    name: str
    values: NDArray[Any]
    places: Places
    apart: float = 0.0


def is_image(value: Any) -> bool:
    """Whether something is the path of an image, or an image."""
    return isinstance(value, str | os.PathLike) or (
        hasattr(value, "dataobj") or hasattr(value, "darrays") or _is_surface(value)
    )


def nibabel() -> Any:
    """Return nibabel, or say how to install it."""
    try:
        import nibabel as nib
    except ImportError:
        raise ModelError(
            "images are read by nibabel, which is not installed: pip install 'ranef[imaging]'"
        ) from None
    return nib


def nilearn() -> Any:
    """Return nilearn, or say how to install it."""
    try:
        import nilearn as package
    except ImportError:
        raise ModelError(
            "this needs nilearn, which is not installed: pip install 'ranef[imaging]'"
        ) from None
    return package


def read_map(image: Any, what: str) -> Map:
    """Read one map.

    Parameters
    ----------
    image : path-like, image of nibabel, or SurfaceImage of nilearn
    what : str
        The map in words, for messages.
    """
    name, opened = _opened(image, what)
    with _whole(name):
        return Map(name, *_places_and_values(opened, name), _two_grids(opened))


def read_mask(image: Any, what: str = "the mask") -> Map:
    """Read a mask; values are boolean."""
    found = read_map(getattr(image, "mask_img_", image), what)
    return Map(found.name, np.nan_to_num(found.values) > 0, found.places)


def stored(image: Any) -> np.dtype[Any]:
    """Return float64 where an image's values need it, else float32."""
    kind = getattr(getattr(image, "header", None), "get_data_dtype", None)
    try:
        wide = kind is not None and np.dtype(kind()).itemsize > 4
    except (TypeError, ValueError):
        wide = True
    return np.dtype(np.float64 if wide else np.float32)


def volumes_of(image: Any, what: str) -> list[Any]:
    """Return the volumes of an image of four dimensions, each by itself."""
    name, opened = _opened(image, what)
    if len(getattr(opened, "shape", ())) != 4:
        raise DataError(
            f"{name} is one map: several subjects are one volume each of an image of four "
            "dimensions, or a list of images"
        )
    with _whole(name):
        return [opened.slicer[..., k : k + 1] for k in range(opened.shape[3])]


def surface_neighbours(mesh: Any) -> NDArray[np.int64]:
    """Return which vertices of a surface are neighbours, as pairs.

    Parameters
    ----------
    mesh : path-like, GIfTI image, or (F, 3) array
        A surface in GIfTI or FreeSurfer's format, or its triangles.

    Returns
    -------
    (E, 2) int array
        For ``adjacency=`` of `tfce`, `sign_flips` and `permutation_test`.

    Examples
    --------
    >>> from ranef import imaging
    >>> imaging.surface_neighbours([[0, 1, 2]]).tolist()
    [[0, 1], [0, 2], [1, 2]]
    """
    if isinstance(mesh, str | os.PathLike):
        name, opened = _mesh(mesh)
    else:
        name, opened = "the mesh", mesh
    if hasattr(opened, "darrays"):
        found = [d.data for d in opened.darrays if int(d.intent) == 1009]
        if len(found) != 1:
            raise DataError(f"{name} holds {len(found)} lists of triangles, not one")
        opened = found[0]
    try:
        faces = np.asarray(opened)
        if faces.ndim != 2 or faces.shape[1] != 3 or faces.dtype.kind not in "iu":
            raise ValueError
    except (TypeError, ValueError):
        raise DataError(f"{name} has no triangles: three vertices a row") from None
    pairs = np.vstack([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [0, 2]]]).astype(np.int64)
    pairs.sort(axis=1)
    return np.asarray(np.unique(pairs[pairs[:, 0] != pairs[:, 1]], axis=0), dtype=np.int64)


def _mesh(path: Any) -> tuple[str, Any]:
    nib = nibabel()
    place = arguments.path(path)
    if place.suffix == ".gii":
        return _opened(place, "the mesh")
    if not place.is_file():
        raise FileError(f"the mesh: there is no file {str(place)!r}")
    with _whole(f"the mesh ({place.name})"):
        return str(place), nib.freesurfer.read_geometry(str(place))[1].astype(np.int64)


def _opened(image: Any, what: str) -> tuple[str, Any]:
    """The image, and its name with that of its file."""
    nib = nibabel()
    if not isinstance(image, str | os.PathLike):
        if not is_image(image):
            raise DataError(
                f"{what} is {type(image).__name__}: give the path of an image, or an image of "
                "nibabel (arrays go to ranef.imaging.mixed_effects)"
            )
        return what, image
    place = Path(image).expanduser()
    name = f"{what} ({place.name})"
    if not place.exists():
        raise FileError(f"{what}: there is no file {str(place)!r}")
    if place.is_dir():
        raise FileError(f"{what}: {str(place)!r} is a folder, not an image")
    check_regular(place, name)
    check_image(place, name)
    try:
        return name, nib.load(place)
    except (nib.filebasedimages.ImageFileError, nib.spatialimages.HeaderDataError) as error:
        raise FileError(
            f"{name} is not an image that nibabel reads ({error}): NIfTI, GIfTI, CIFTI and .mgh are"
        ) from None
    except Exception as error:  # parsers of headers raise of many kinds
        raise FileError(f"{name} cannot be read: {error}; is the file whole?") from None


@contextmanager
def _whole(name: str) -> Iterator[None]:
    """Say which file ends before its data do."""
    import zlib

    try:
        yield
    except (EOFError, OSError, ValueError, zlib.error) as error:
        if isinstance(error, ModelError | DataError | FileError):
            raise
        raise FileError(f"{name} cannot be read to its end; is it cut off? ({error})") from None


def _is_surface(image: Any) -> bool:
    return hasattr(image, "mesh") and hasattr(getattr(image, "data", None), "parts")


def _places_and_values(image: Any, name: str) -> tuple[NDArray[Any], Places]:
    if _is_surface(image):
        return _of_surface(image, name)
    if hasattr(image, "darrays"):
        return _of_gifti(image, name)
    axes = getattr(getattr(image, "header", None), "get_axis", None)
    if axes is not None:
        return _of_cifti(image, name)
    return _of_volume(image, name)


def _of_volume(image: Any, name: str) -> tuple[NDArray[Any], Places]:
    nib = nibabel()
    mgh = isinstance(image, nib.freesurfer.MGHImage)
    shape = tuple(int(s) for s in image.shape)
    while len(shape) > 3 and shape[-1] == 1:
        shape = shape[:-1]
    if len(shape) > 3:
        raise DataError(f"{name} holds {int(np.prod(shape[3:]))} volumes; a subject brings one")
    if mgh and shape[1:] == (1, 1):
        return _numbers(image, name), Places("mgh", shape[:1], None)
    if len(shape) < 3:
        raise DataError(f"{name} has {len(shape)} dimensions, not three")
    if image.affine is None:
        raise DataError(f"{name} has no affine: where its voxels are is not known")
    affine = np.asarray(image.affine, dtype=np.float64)
    return _numbers(image, name), Places("mgh" if mgh else "nifti", shape, affine)


def _two_grids(image: Any) -> float:
    """Distance of the sform's and the qform's places of a voxel; 0 below half a voxel."""
    header: Any = getattr(image, "header", None)
    if not (hasattr(header, "get_sform") and hasattr(header, "get_qform")):
        return 0.0
    (one, set_one), (other, set_other) = (
        header.get_sform(coded=True), header.get_qform(coded=True)
    )  # fmt: skip
    if not (set_one and set_other) or len(image.shape) < 3:
        return 0.0
    ends = np.array([[*at, 1.0] for at in np.ndindex(2, 2, 2)]) * [
        *(n - 1 for n in image.shape[:3]), 1.0
    ]  # fmt: skip
    apart = float(np.linalg.norm((ends @ (one - other).T)[:, :3], axis=1).max())
    smallest = float(np.linalg.norm(one[:3, :3], axis=0).min())
    return apart if apart > smallest / 2 else 0.0


def _numbers(image: Any, name: str) -> NDArray[Any]:
    kind = image.get_data_dtype()
    if kind.kind not in "fiub":
        raise DataError(f"{name} holds values of type {kind}, not numbers")
    check_room(float(np.prod(image.shape, dtype=float)) * (kind.itemsize + BYTES_OF_VALUE), name)
    return np.asarray(image.get_fdata(dtype=stored(image), caching="unchanged")).reshape(-1)


def _of_gifti(image: Any, name: str) -> tuple[NDArray[Any], Places]:
    maps = [d for d in image.darrays if int(d.intent) not in (1008, 1009)]
    if len(maps) != 1:
        held = "a mesh, no values" if image.darrays and not maps else f"{len(maps)} maps"
        raise DataError(f"{name} holds {held}; a subject brings one map")
    values = np.asarray(maps[0].data)
    if values.ndim != 1 or values.dtype.kind not in "fiu":
        raise DataError(f"{name} holds an array of shape {values.shape}, not a value a vertex")
    meta = dict(image.meta or {}) | dict(maps[0].meta or {})
    structure = str(meta.get("AnatomicalStructurePrimary", ""))
    kind = np.float32 if values.dtype.itemsize <= 4 else np.float64
    return values.astype(kind), Places("gifti", values.shape, structure=structure)


def _of_cifti(image: Any, name: str) -> tuple[NDArray[Any], Places]:
    from nibabel.cifti2 import BrainModelAxis

    check_room(float(np.prod(image.shape, dtype=float)) * BYTES_OF_VALUE, name)
    axes = [image.header.get_axis(k) for k in range(len(image.shape))]
    if len(axes) != 2 or not isinstance(axes[1], BrainModelAxis):
        raise DataError(f"{name} is a CIFTI image of another kind; give dense scalars (.dscalar)")
    if image.shape[0] != 1:
        raise DataError(f"{name} holds {image.shape[0]} maps; a subject brings one: write it alone")
    values = np.asarray(image.get_fdata(dtype=np.float32, caching="unchanged")).reshape(-1)
    return values, Places("cifti", values.shape, axis=axes[1])


def _of_surface(image: Any, name: str) -> tuple[NDArray[Any], Places]:
    parts = []
    for part, values in image.data.parts.items():
        array = np.asarray(values)
        if array.ndim == 2 and array.shape[1] == 1:
            array = array[:, 0]
        if array.ndim != 1:
            raise DataError(
                f"{name} holds {array.shape[1]} maps on {part}; a subject brings one: write it "
                "alone"
            )
        parts.append(array.astype(np.float64 if array.dtype.itemsize > 4 else np.float32))
    values = np.concatenate(parts)
    return values, Places("surface", values.shape, mesh=image.mesh)
