"""Each subject of a group: how precise, how heavy, how far from the others."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ranef.display.answer import Answer
from ranef.display.columns import Column, Fixed, Label, Listing, Significant
from ranef.fields.imaging.gathering import GroupData
from ranef.fields.imaging.group_design import GroupDesign
from ranef.fields.imaging.groups import GroupedFit
from ranef.fields.imaging.voxels import VoxelFit

__all__ = ["SubjectReport", "shares", "subject_report"]

Floats = NDArray[np.float64]

TILE = 20_000
FAR = 2.0
"""Mean squared standardised residual of a subject that is worth a sentence."""


@dataclass(frozen=True, eq=False, repr=False)
class SubjectReport(Answer):
    """The subjects of a group, the most distant first.

    Attributes
    ----------
    labels : tuple of str
    n_voxels : (K,) int array
    variance, weight, distance, share_beyond : (K,) arrays
        Median of the variance; mean share of the weights; mean of the squared residuals over
        their variance, about 1 for a subject like the others; share of voxels beyond two
        standard deviations, about 0.05.
    notes : tuple of str
    outlier : (K,) array or None
        Of fits with outliers, the mean probability over voxels of being one.
    """

    labels: tuple[str, ...]
    n_voxels: NDArray[np.int64]
    variance: Floats
    weight: Floats
    distance: Floats
    share_beyond: Floats
    notes: tuple[str, ...] = ()
    outlier: Floats | None = None
    title = "Subjects"
    library = "pandas"

    def tidy(self) -> Any:
        """Return a row a subject, the most distant first.

        Returns
        -------
        DataFrame
            ``subject_label, n_voxels, median_variance, mean_weight, mean_square, share_beyond_2``;
            of fits with outliers ``outlier_probability``, the mean over voxels.
        """
        return super().tidy()

    def tables(self) -> tuple[Listing, ...]:
        order = np.argsort(-np.nan_to_num(self.distance), kind="stable")
        columns = [
            Column("subject_label", [self.labels[i] for i in order], Label(), heading="Subject"),
            Column("n_voxels", self.n_voxels[order], Fixed(0), heading="Voxels"),
            Column("median_variance", self.variance[order], Significant(3),
                   heading="Median variance"),
            Column("mean_weight", self.weight[order], Significant(3), heading="Mean weight"),
            Column("mean_square", self.distance[order], Significant(3),
                   heading="Mean squared residual"),
            Column("share_beyond_2", self.share_beyond[order], Significant(2),
                   heading="Share beyond 2 SD"),
        ]  # fmt: skip
        if self.outlier is not None:
            values = self.outlier[order]
            heading = "Probability of an outlier"
            columns.append(Column("outlier_probability", values, Significant(2), heading=heading))
        return (Listing("subjects", tuple(columns), caption="Subjects, the most distant first"),)

    def sentences(self) -> tuple[str, ...]:
        heavy = int(np.argmax(self.weight))
        said = [
            f"Subject {self.labels[heavy]} weighs most: {100 * self.weight[heavy]:.1f}% on average "
            f"(1/{len(self.labels)} would be {100 / len(self.labels):.1f}%)."
        ]
        far = [self.labels[i] for i in np.flatnonzero(self.distance > FAR)]
        if far:
            said.append(f"Further from the group than their variances explain: {', '.join(far)}.")
        return (*said, *(f"{note}." for note in self.notes))


def tiles(n: int) -> Iterator[slice]:
    """Pieces of n voxels."""
    for first in range(0, n, TILE):
        yield slice(first, min(n, first + TILE))


def _weights(data: GroupData, voxels: VoxelFit | GroupedFit, part: slice) -> Floats:
    tau2 = voxels.tau2_of_subjects()
    known = np.isfinite(data.Y[:, part])
    v = data.V[:, part].astype(np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        w = 1.0 / (v + (tau2[part] if tau2.ndim == 1 else tau2[:, part]))
    return np.where(known & np.isfinite(w), w, 0.0)


def shares(data: GroupData, voxels: VoxelFit | GroupedFit) -> Floats:
    """Mean share of the weights of each subject, over voxels with a fit."""
    total, count = np.zeros(len(data.labels)), 0
    for part in tiles(data.Y.shape[1]):
        w = _weights(data, voxels, part)
        sums = w.sum(axis=0)
        total += (w[:, sums > 0] / sums[sums > 0]).sum(axis=1)
        count += int((sums > 0).sum())
    return total / max(1, count)


def subject_report(
    data: GroupData, design: GroupDesign, voxels: VoxelFit | GroupedFit
) -> SubjectReport:
    """Describe the subjects."""
    K = len(data.labels)
    n, squares, beyond, counted = np.zeros(K, int), np.zeros(K), np.zeros(K), np.zeros(K)
    beta = voxels.beta
    for part in tiles(data.Y.shape[1]):
        w = _weights(data, voxels, part)
        r = data.Y[:, part] - design.X @ beta[:, part]
        z2 = np.where(w > 0, np.nan_to_num(r) ** 2 * w, np.nan)
        here = np.isfinite(z2)
        squares += np.nansum(z2, axis=1)
        beyond += (np.nan_to_num(z2) > 4).sum(axis=1)
        counted += here.sum(axis=1)
        n += np.isfinite(data.Y[:, part]).sum(axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        distance, share = squares / counted, beyond / counted
    variance = np.array([
        float(np.median(v[np.isfinite(y)])) for y, v in zip(data.Y, data.V, strict=True)
    ])  # fmt: skip
    probability = voxels.outlier_probability
    outlier = None if probability is None else _mean_probability(data, probability)
    own = voxels.weighing_variance
    weight = shares(data if own is None else replace(data, V=own), voxels)
    return SubjectReport(data.labels, n, variance, weight, distance, share, data.notes, outlier)


def _mean_probability(data: GroupData, probability: NDArray[Any]) -> Floats:
    """Mean over the voxels where a subject has data."""
    known = np.isfinite(data.Y)
    total = np.where(known, probability, 0).sum(axis=1, dtype=np.float64)
    return np.asarray(total / np.maximum(1, known.sum(axis=1)))
