"""Tables of clusters: where they are, how large, how high."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ranef import arguments
from ranef.display.answer import Answer
from ranef.display.columns import Column, Fixed, Label, Listing, Significant
from ranef.errors import DataError, ModelError
from ranef.fields.imaging.components import components
from ranef.fields.imaging.gathering import GroupData
from ranef.fields.imaging.reading import read_map
from ranef.fields.imaging.tails import cutoff

__all__ = ["CONTROLS", "ClusterTable", "cluster_table"]

Floats = NDArray[np.float64]

CONTROLS = ("fpr", "fdr", "bonferroni")
WORDS = {
    "fpr": "p < {level:g}, not corrected",
    "fdr": "false discovery rate below {level:g}",
    "bonferroni": "p < {level:g}, corrected by Bonferroni",
}
MOST_PRINTED = 30


@dataclass(frozen=True, eq=False, repr=False)
class ClusterTable(Answer):
    """Clusters of a z map, the largest first.

    Attributes
    ----------
    rows : dict of str to list
        ``cluster_id, x, y, z, peak_z, n_voxels, volume_mm3, region``.
    height : float
        The z-score above which voxels count.
    words : str
        How the height was chosen.
    """

    rows: dict[str, list[Any]]
    height: float
    words: str
    title = "Clusters"
    library = "pandas"

    def __len__(self) -> int:
        return len(self.rows["cluster_id"])

    def tidy(self) -> Any:
        """Return a row a cluster, the largest first.

        Returns
        -------
        DataFrame
            ``cluster_id, x, y, z, peak_z, n_voxels, volume_mm3`` and, with an atlas, ``region``:
            where the peak is. Coordinates are in mm.
        """
        return super().tidy()

    def tables(self) -> tuple[Listing, ...]:
        rows = self.rows
        columns = [
            Column("cluster_id", rows["cluster_id"], Label(), heading="Cluster"),
            *(Column(axis, rows[axis], Fixed(0), heading=axis) for axis in "xyz"),
            Column("peak_z", rows["peak_z"], Significant(4), heading="Peak z"),
            Column("n_voxels", rows["n_voxels"], Fixed(0), heading="Voxels"),
            Column("volume_mm3", rows["volume_mm3"], Fixed(0), heading="Volume, mm³"),
        ]
        if any(rows["region"]):
            columns.append(Column("region", rows["region"], Label(), heading="Region of the peak"))
        whole = Listing("clusters", tuple(columns), caption=f"Clusters ({self.words})")
        return (whole,)

    def sentences(self) -> tuple[str, ...]:
        if not len(self):
            return (f"No voxel lies beyond the height ({self.words}).",)
        count = "1 cluster" if len(self) == 1 else f"{len(self)} clusters"
        return (f"{count} beyond |z| = {self.height:.3f}.",)


def cluster_table(
    data: GroupData,
    z: Floats,
    *,
    height: float,
    control: str | None,
    least: int,
    two_sided: bool,
    atlas: Any,
) -> ClusterTable:
    """Find the clusters of a z map."""
    level = arguments.number("height", height)
    if control is not None:
        arguments.choice("height_control", control, CONTROLS)
        if not 0 < level < 1:
            raise ModelError(f"a significance level lies between 0 and 1, not {level:g}")
    size = arguments.count("min_size", least)
    limit = cutoff(z, level, control, two_sided)
    words = f"|z| > {level:g}" if control is None else WORDS[control].format(level=level)
    graph = data.places.graph(data.inside)
    where = data.places.coordinates()[data.inside]
    region = _namer(atlas, data)
    voxel = 1.0
    if data.places.is_volume and data.places.affine is not None:
        voxel = float(abs(np.linalg.det(data.places.affine[:3, :3])))
    found: list[tuple[Any, ...]] = []
    flat = np.nan_to_num(z, nan=0.0, posinf=np.inf, neginf=-np.inf)
    for sign in (1, -1) if two_sided else (1,):
        count, labels = components(sign * flat >= limit, graph)
        for c in range(count):
            own = np.flatnonzero(labels == c)
            if len(own) >= size:
                peak = own[np.argmax(sign * flat[own])]
                found.append((len(own), float(flat[peak]), *where[peak].tolist(), region(peak)))
    found.sort(key=lambda one: (-one[0], -abs(one[1])))
    columns: list[Any] = list(zip(*found, strict=True)) or [[] for _ in range(6)]
    return ClusterTable(
        {
            "cluster_id": [str(k + 1) for k in range(len(found))],
            "x": list(columns[2]),
            "y": list(columns[3]),
            "z": list(columns[4]),
            "peak_z": list(columns[1]),
            "n_voxels": list(columns[0]),
            "volume_mm3": [round(voxel * n, 6) for n in columns[0]],
            "region": list(columns[5]),
        },
        limit,
        words,
    )


def _namer(atlas: Any, data: GroupData) -> Any:
    """A function from a voxel inside to the name of its region."""
    chosen = local_atlas() if atlas is None else atlas
    if chosen is None or (atlas is None and not data.places.is_volume):
        return lambda _: ""
    if hasattr(chosen, "maps") and hasattr(chosen, "labels"):
        image, names = chosen.maps, list(chosen.labels)
    elif isinstance(chosen, tuple | list) and len(chosen) == 2:
        image, names = chosen[0], list(chosen[1])
    else:
        raise ModelError("atlas is a pair of an image and names, or has maps and labels")
    found = read_map(image, "the atlas")
    if not found.places.is_volume:
        if data.places.difference(found.places):
            raise DataError(
                "the atlas is on another surface than the images; give one of their mesh"
            )
        values = found.values[data.inside]
        return lambda voxel: _called(values[voxel], names)
    back = np.linalg.inv(np.asarray(found.places.affine))
    volume = found.values.reshape(found.places.shape)
    places = data.places.coordinates()[data.inside]

    def named(voxel: int) -> str:
        index = np.rint(back[:3, :3] @ places[voxel] + back[:3, 3]).astype(int)
        if (index < 0).any() or (index >= volume.shape).any():
            return ""
        return _called(volume[tuple(index)], names)

    return named


def _called(value: Any, names: list[Any]) -> str:
    place = round(float(value)) if np.isfinite(value) else 0
    return str(names[place]) if 0 < place < len(names) else ""


def local_atlas() -> Any:
    """The Harvard-Oxford atlas where nilearn has it on this machine; nothing is fetched."""
    try:
        from nilearn.datasets import get_data_dirs
    except ImportError:
        return None
    name = "HarvardOxford-cort-maxprob-thr25-2mm.nii.gz"
    for folder in get_data_dirs():
        base = Path(folder, "fsl", "data", "atlases")
        image, labels = base / "HarvardOxford" / name, base / "HarvardOxford-Cortical.xml"
        if image.is_file() and labels.is_file():
            from xml.etree import ElementTree

            entries = ElementTree.parse(labels).findall(".//label")
            return image, ["", *(str(one.text) for one in entries)]
    return None
