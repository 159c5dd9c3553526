"""Images of subjects as two matrices: effects and variances (subjects, voxels inside a mask)."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ranef.display.progress import arriving
from ranef.errors import DataError, DataWarning, FileError, ModelError, warn
from ranef.fields.imaging.places import Places
from ranef.fields.imaging.reading import Map, nibabel, nilearn, read_map, read_mask
from ranef.fields.imaging.scheduling import answers
from ranef.fields.imaging.subjects import Subject
from ranef.solve.resources import available_memory

__all__ = ["Grid", "GroupData", "gathered", "stacked"]

Bools = NDArray[np.bool_]

MAGNITUDES = 1e5
"""Ratio of the subjects' largest to smallest typical variance that asks for the units."""
WHOLE = 0.999
"""Share of a resampled voxel that must have come from voxels with data."""
KEPT = 0.9
"""Share of the free memory that may be filled."""


@dataclass(frozen=True, eq=False)
class Grid:
    """How images are brought into one grid, and which voxels enter.

    Attributes
    ----------
    mask : image, path or fitted masker, optional
    affine, shape : the grid to resample to, optional
    fwhm : float, optional
        Of a Gaussian by which effects and variances are smoothed, in mm.
    memory : path or joblib.Memory, optional
        Where maps that were read are kept.
    verbose : int
    n_jobs : int, None or "dask"
    """

    mask: Any = None
    affine: Any = None
    shape: Any = None
    fwhm: float | None = None
    memory: Any = None
    verbose: int = 0
    n_jobs: int | str | None = 1

    def __post_init__(self) -> None:
        if self.affine is not None:
            _check_affine(self.affine)

    @property
    def resamples(self) -> bool:
        """Whether images are resampled."""
        return self.affine is not None or self.shape is not None


def _check_affine(given: Any) -> None:
    try:
        affine = np.asarray(given, dtype=np.float64)
    except (TypeError, ValueError):
        affine = np.zeros(0)
    if affine.shape not in ((3, 3), (4, 4)) or not np.isfinite(affine).all():
        raise ModelError("target_affine is a matrix of 3 x 3 or 4 x 4 finite numbers")
    if np.linalg.matrix_rank(affine[:3, :3]) < 3:
        raise ModelError("target_affine is singular: its voxels have no volume")


@dataclass(frozen=True, eq=False)
class GroupData:
    """Effects and variances of K subjects at the N voxels inside.

    Attributes
    ----------
    Y, V : (K, N) float32 or float64 arrays
        Where a subject has no data, Y is NaN.
    labels : tuple of str
    places : Places
    inside : (all places,) bool array
    notes : tuple of str
        What was noticed on the way.
    """

    Y: NDArray[Any]
    V: NDArray[Any]
    labels: tuple[str, ...]
    places: Places
    inside: Bools
    notes: tuple[str, ...]

    def spread(self, values: NDArray[Any], fill: float = 0.0) -> NDArray[Any]:
        """Return values inside (..., N) at all places; `fill` outside."""
        out = np.full((*values.shape[:-1], self.places.n), fill, dtype=values.dtype)
        out[..., self.inside] = values
        return out

    def image(self, values: NDArray[Any]) -> Any:
        """Return an image of values inside; zero outside."""
        kind = np.float64 if values.dtype.kind != "f" else values.dtype
        return self.places.image(self.spread(values.astype(kind)))


def stacked(images: Sequence[Any], names: Sequence[str], grid: Grid, least: int) -> GroupData:
    """Read an image a row; V is empty.

    least : images with data that a voxel needs to be inside where there is no mask.
    """
    refuse_absent(zip(names, images, strict=True))
    _refuse_same(zip(names, images, strict=True))
    mask = None if grid.mask is None else _grid_mask(grid)
    read = _reader(grid)
    first = read(images[0], names[0])
    target = first.places if mask is None else mask.places
    inside = np.ones(target.n, dtype=np.bool_) if mask is None else mask.values
    _check_inside(mask)
    _check_memory(len(images), int(inside.sum()), first.values.dtype.itemsize, grid, 1)
    Y = np.empty((len(images), int(inside.sum())), dtype=first.values.dtype)

    def one(k: int) -> tuple[int, Map]:
        found = first if k == 0 else read(images[k], names[k])
        _check_same(found, target, grid, first.name if mask is None else mask.name)
        return k, found

    wanted = None if grid.verbose == 0 else True
    read_all = answers(one, range(len(images)), grid.n_jobs)
    for k, found in arriving(read_all, len(images), "reading", wanted, unit=" images"):
        y = found.values[inside]
        if not np.isfinite(y).any():
            raise DataError(f"{found.name} has no finite value inside the mask; leave it out")
        if grid.fwhm is not None:
            y, _ = _smoothed(y, np.ones_like(y), inside, target, grid.fwhm)
        Y[k] = y
    if mask is None:
        kept = (np.isfinite(Y).sum(axis=0) >= least) & (
            np.nanmax(Y, axis=0) != np.nanmin(Y, axis=0)
        )
        if not kept.any():
            raise DataError(
                f"no voxel has data that vary in {least} images; are the images in one space?"
            )
        inside, Y = kept, np.ascontiguousarray(Y[:, kept])
    return GroupData(Y, Y[:0], tuple(names), target, inside, ())


def _check_inside(mask: Any) -> None:
    if mask is not None and not mask.values.any():
        raise DataError(f"{mask.name} holds no voxel; give one that covers the images")


def _check_memory(K: int, N: int, size: int, grid: Grid, each: int) -> None:
    """Say what the matrices take before they are filled, and refuse what there is not."""
    needed = each * K * N * size
    what = "effects and variances" if each == 2 else "values"
    words = f"{K} images x {N:,} voxels: {needed / 2**30:.2f} GiB of {what}"
    if grid.verbose:
        print(f"reading {words}")
    free = available_memory()
    if free is not None and needed > KEPT * free:
        raise ModelError(
            f"{words}, and {free / 2**30:.2f} GiB are free; give a mask of fewer voxels, or a "
            "coarser grid (target_affine=)"
        )


def gathered(subjects: Sequence[Subject], grid: Grid, least: int) -> GroupData:
    """Read the images of subjects.

    least : subjects with data that a voxel needs to be inside where there is no mask.
    """
    refuse_absent(_images_of(subjects))
    _refuse_same(_images_of(subjects))
    mask = None if grid.mask is None else _grid_mask(grid)
    read = _reader(grid)
    first = read(subjects[0].effect, _name("effect", subjects[0]))
    target = first.places if mask is None else mask.places
    _check_same(first, target, grid, "the mask" if mask is not None else first.name)
    inside = np.ones(target.n, dtype=np.bool_) if mask is None else mask.values
    _check_inside(mask)
    kind = first.values.dtype
    _check_memory(len(subjects), int(inside.sum()), kind.itemsize, grid, 2)
    Y = np.empty((len(subjects), int(inside.sum())), dtype=kind)
    V = np.empty_like(Y)
    notes: list[str] = []
    doubts: list[Map] = []

    def one(k: int) -> tuple[int, Map, Map]:
        subject = subjects[k]
        effect = first if k == 0 else read(subject.effect, _name("effect", subject))
        variance = read(subject.variance, _name("variance", subject))
        for found in (effect, variance):
            _check_same(found, target, grid, first.name if mask is None else mask.name)
        return k, effect, variance

    wanted = None if grid.verbose == 0 else True
    pairs = answers(one, range(len(subjects)), grid.n_jobs)
    for k, effect, variance in arriving(pairs, len(subjects), "reading", wanted, unit=" images"):
        doubts += [found for found in (effect, variance) if found.apart > 0]
        y, v = effect.values[inside], variance.values[inside]
        notes += _looked_at(subjects[k].label, y, v)
        if grid.fwhm is not None:
            y, v = _smoothed(y, v, inside, target, grid.fwhm)
        Y[k], V[k] = y, v
        Y[k][~(np.isfinite(y) & np.isfinite(v) & (v > 0))] = np.nan
    if mask is None:
        kept = np.isfinite(Y).sum(axis=0) >= least
        if not kept.any():
            raise DataError(f"no voxel has data of {least} subjects; are the images in one space?")
        inside = kept
        Y, V = np.ascontiguousarray(Y[:, kept]), np.ascontiguousarray(V[:, kept])
    labels = tuple(s.label for s in subjects)
    _warn_of(Y, V, labels)
    _warn_of_two_grids(doubts)
    return GroupData(Y, V, labels, target, inside, tuple(notes))


def _warn_of_two_grids(doubts: Sequence[Map]) -> None:
    if doubts:
        count = "" if len(doubts) == 1 else f" and {len(doubts) - 1} more"
        warn(
            f"{doubts[0].name}{count}: the sform and the qform place voxels up to "
            f"{max(one.apart for one in doubts):.3g} mm apart; the sform is used", DataWarning,
        )  # fmt: skip


def _name(kind: str, subject: Subject) -> str:
    return f"the {kind} of subject {subject.label!r}"


def _images_of(subjects: Sequence[Subject]) -> Iterator[tuple[str, Any]]:
    for subject in subjects:
        yield _name("effect", subject), subject.effect
        yield _name("variance", subject), subject.variance


def refuse_absent(images: Iterable[tuple[str, Any]], hint: str = "") -> None:
    """Name all files that are not there, before any is read."""
    paths = [
        (name, Path(image).expanduser())
        for name, image in images
        if isinstance(image, str | os.PathLike)
    ]
    absent = [(name, path) for name, path in paths if not path.exists()]
    if not absent:
        return
    if len(absent) == 1:
        name, path = absent[0]
        raise FileError(f"{name}: there is no file {str(path)!r}{hint}")
    listed = ", ".join(f"{name} ({path.name})" for name, path in absent[:NAMED])
    more = f" and {len(absent) - NAMED:,} more" if len(absent) > NAMED else ""
    there = _there(absent[0][1]) if len(absent) == len(paths) else ""
    raise FileError(
        f"{len(absent):,} of {len(paths):,} images are not there: {listed}{more}; the first is "
        f"looked for as {str(absent[0][1])!r}{there}{hint}"
    )


def _there(path: Path) -> str:
    """What the folder of an absent file holds instead."""
    if not path.parent.is_dir():
        return f", and there is no folder {str(path.parent)!r}"
    names = sorted(one.name for one in path.parent.iterdir() if one.name.endswith(path.suffix))
    return f", and its folder holds {names[0]!r}" if names else ", and its folder holds no such"


NAMED = 3
"""Absent files that a message names."""


def _refuse_same(images: Iterable[tuple[str, Any]]) -> None:
    """One file cannot be two things."""
    owner: dict[str, str] = {}
    for name, image in images:
        is_path = isinstance(image, str | os.PathLike)
        key = os.path.realpath(image) if is_path else str(id(image))
        if key in owner:
            where = f": {image}" if is_path else " in memory"
            raise DataError(f"{name} and {owner[key]} are one image{where}")
        owner[key] = name


def _check_same(found: Map, target: Places, grid: Grid, reference: str) -> None:
    difference = target.difference(found.places)
    if not difference:
        return
    raise DataError(
        f"{found.name} is on another grid than {reference}: {difference}. Images are not averaged "
        "across grids; bring them into one space, or resample them on request: "
        "target_affine=, target_shape="
    )


def _looked_at(label: str, y: NDArray[Any], v: NDArray[Any]) -> list[str]:
    finite = np.isfinite(y) & np.isfinite(v)
    well = finite & (v > 0)
    if not well.any():
        why = "its variance is zero everywhere" if (finite & (v == 0)).any() else "it has no data"
        raise DataError(
            f"subject {label!r} has no voxel with an effect and a positive variance: {why}"
        )
    if np.array_equal(y[well], v[well]):
        raise DataError(
            f"the effect and the variance of subject {label!r} are the same values; is one file "
            "given for both?"
        )
    negative = int((finite & (v < 0)).sum())
    out = []
    if negative:
        out.append(
            f"subject {label!r}: {negative:,} voxels have a negative variance and are missing"
        )
    if not y[well].any():
        out.append(f"subject {label!r}: the effect is zero in all voxels")
    return out


def _warn_of(Y: NDArray[Any], V: NDArray[Any], labels: Sequence[str]) -> None:
    seen: dict[bytes, str] = {}
    typical = []
    for label, y, v in zip(labels, Y, V, strict=True):
        there = np.isfinite(y)
        if not there.any():
            raise DataError(
                f"subject {label!r} has no data in the voxels of the group; leave it out"
            )
        key = np.ascontiguousarray(np.nan_to_num(y)).tobytes()
        if key in seen:
            warn(f"subjects {seen[key]!r} and {label!r} bring the same effects: is one a copy?",
                 DataWarning)  # fmt: skip
        seen[key] = label
        typical.append(float(np.median(v[there])))
    ratio = max(typical) / min(typical)
    if ratio > MAGNITUDES:
        low, high = labels[int(np.argmin(typical))], labels[int(np.argmax(typical))]
        warn(
            f"typical variances of subjects span a factor of {ratio:.0e} ({low!r} to {high!r}): "
            "are all effects in the same unit?", DataWarning,
        )  # fmt: skip


# --- one grid


def _reader(grid: Grid) -> Callable[[Any, str], Map]:
    def read(image: Any, what: str) -> Map:
        return _resampled(read_map(image, what), grid) if grid.resamples else read_map(image, what)

    if grid.memory is None:
        return read
    nilearn()
    from joblib import Memory

    memory = grid.memory if hasattr(grid.memory, "cache") else Memory(grid.memory, verbose=0)
    kept = memory.cache(_cached, ignore=["read", "what"])

    def remembered(image: Any, what: str) -> Map:
        if not isinstance(image, str | os.PathLike) or not os.path.isfile(image):
            return read(image, what)
        state = os.stat(image)
        affine = None if grid.affine is None else np.asarray(grid.affine).tolist()
        shape = None if grid.shape is None else list(grid.shape)
        key = (os.path.realpath(image), state.st_mtime_ns, state.st_size, affine, shape)
        found = kept(key, read, what)
        return Map(f"{what} ({os.path.basename(image)})", found.values, found.places, found.apart)

    return remembered


def _cached(key: tuple[Any, ...], read: Callable[[Any, str], Map], what: str) -> Map:
    return read(key[0], what)


def _grid_mask(grid: Grid) -> Map:
    mask = read_mask(grid.mask)
    if not grid.resamples:
        return mask
    places, values = _moved(mask, grid, mask.values.astype(np.float32), "nearest")
    return Map(mask.name, values > 0.5, places)


def _resampled(found: Map, grid: Grid) -> Map:
    """A map on the asked-for grid: linear, missing where a neighbour is."""
    there = np.isfinite(found.values) & (found.values != 0)
    places, values = _moved(found, grid, np.where(there, found.values, 0), "linear")
    _, share = _moved(found, grid, there.astype(np.float32), "linear")
    return Map(found.name, np.where(share >= WHOLE, values, np.nan).astype(values.dtype), places,
               found.apart)  # fmt: skip


def _moved(found: Map, grid: Grid, values: NDArray[Any], how: str) -> tuple[Places, NDArray[Any]]:
    if not found.places.is_volume:
        raise DataError(f"{found.name} has {found.places.words}: only volumes are resampled")
    nilearn()
    from nilearn.image import resample_img

    image = nibabel().Nifti1Image(
        np.ascontiguousarray(values.reshape(found.places.shape)), found.places.affine
    )
    affine = found.places.affine if grid.affine is None else np.asarray(grid.affine)
    with warnings.catch_warnings():  # which voxels have data is resampled to a share
        warnings.filterwarnings("ignore", message="Resampling binary images")
        moved = resample_img(
            image, target_affine=affine, target_shape=grid.shape, interpolation=how,
            force_resample=True, copy_header=True,
        )  # fmt: skip
    data = np.asarray(moved.dataobj)
    return Places(found.places.kind, data.shape, np.asarray(moved.affine)), data.reshape(-1)


def _smoothed(
    y: NDArray[Any], v: NDArray[Any], inside: Bools, places: Places, fwhm: float
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Effects and variances averaged by a Gaussian over the voxels that have data.

    The variance of an average is at most the average of variances, whatever the correlation of
    neighbouring voxels, which no file tells: the smoothed variance is that bound.
    """
    from scipy.ndimage import gaussian_filter

    if not places.is_volume or places.affine is None:
        raise DataError("smoothing_fwhm is for volumes; smooth surfaces before")
    sigma = fwhm / np.sqrt(8 * np.log(2)) / np.linalg.norm(places.affine[:3, :3], axis=0)
    well = np.isfinite(y) & np.isfinite(v) & (v > 0)

    def filtered(values: NDArray[Any]) -> NDArray[Any]:
        whole = np.zeros(places.n)
        whole[inside] = np.where(well, values, 0.0)
        return np.asarray(gaussian_filter(whole.reshape(places.shape), sigma).reshape(-1)[inside])

    share = filtered(np.ones(len(y)))
    with np.errstate(divide="ignore", invalid="ignore"):
        out = [np.where(well, filtered(one) / share, np.nan).astype(y.dtype) for one in (y, v)]
    return out[0], out[1]
