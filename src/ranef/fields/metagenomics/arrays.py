"""The arrays of a screen: pairs of libraries and taxa that are worked out one by one."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ranef.fields.metagenomics.tree import Levels

__all__ = ["CONTROL", "PATIENT", "POSITIVE", "UNUSED", "Arrays", "Pairs", "spilled"]

Floats = NDArray[np.float64]
Ints = NDArray[np.intp]
Bools = NDArray[np.bool_]

PATIENT, CONTROL, UNUSED, POSITIVE = 0, 1, 2, 3
LOOSE = 0.6
WORTH = 0.02
"""Expected spill from which a pair without reads is worked out by itself."""


@dataclass(frozen=True, eq=False)
class Pairs:
    """Pairs with reads, or with spill that could have brought some; sorted by taxon and cell.

    Attributes
    ----------
    sample, taxon : (P,) int arrays
    reads : (P,) array
    spill : (P,) array
        Expected reads from other libraries.
    """

    sample: Ints
    taxon: Ints
    reads: Floats
    spill: Floats


@dataclass(frozen=True, eq=False)
class Arrays:
    """What the model is fitted to.

    Attributes
    ----------
    reads : (S, T) array
    total : (S,) array
        All reads of the library, the unclassified included.
    exposure : (S,) array
        Reads per unit of mass; the median of libraries with one is 1. Nothing for unused index
        pairs.
    looseness : (S,) array
        Prior sd of the library's log deviation, by how its exposure is known.
    kind : (S,) int array
        Of control, 0 for patients; offsets of the kinds are estimated.
    role : (S,) int array
        `PATIENT`, `CONTROL`, `UNUSED` or `POSITIVE`.
    cell : (S,) int array
        Leaf of the tree.
    levels : Levels
    group : (T,) int array
        Of taxa, whose abundances have one distribution.
    run : (S,) int array
    near : (S, S) array or None
        Closeness of the wells of one plate; the diagonal is 0.
    by_mass : bool
        Whether exposure is more than depth, so that shares and masses differ.
    root : (T, K) array or None
        What was learned before of each taxon's log contamination, in place of the common prior.
    classes : (T, 3) array or None
        Class weights of each taxon by what was learned before.
    """

    reads: Floats
    total: Floats
    exposure: Floats
    looseness: Floats
    kind: Ints
    role: Ints
    cell: Ints
    levels: Levels
    group: Ints
    run: Ints
    near: Floats | None
    by_mass: bool
    root: Floats | None = None
    classes: Floats | None = None

    @property
    def shape(self) -> tuple[int, int]:
        """Libraries and taxa."""
        return self.reads.shape[0], self.reads.shape[1]

    @property
    def patient(self) -> Bools:
        """Libraries in which something may be present."""
        out: Bools = (self.role == PATIENT) | (self.role == POSITIVE)
        return out

    @property
    def negative(self) -> Bools:
        """Negative controls that hold what the reagents hold."""
        out: Bools = self.role == CONTROL
        return out

    @property
    def measured(self) -> Bools:
        """Libraries whose exposure is measured, so that deviations are of the reagents."""
        out: Bools = self.looseness <= LOOSE
        return out

    def of_taxa(self, chosen: Ints) -> Arrays:
        """Return the arrays of some taxa."""
        return replace(
            self, reads=self.reads[:, chosen], group=self.group[chosen],
            root=None if self.root is None else self.root[chosen],
            classes=None if self.classes is None else self.classes[chosen],
        )  # fmt: skip

    def pairs(self, spill: Floats) -> Pairs:
        """Return the pairs that need to be worked out; spill is (S, T)."""
        order = np.argsort(self.cell, kind="stable")
        worth = (self.reads > 0) | (spill > WORTH) | (self.exposure == 0)[:, None] & (spill > 0)
        taxon, place = np.nonzero(worth[order].T)
        sample = order[place]
        return Pairs(sample, taxon, self.reads[sample, taxon], spill[sample, taxon])


def spilled(arrays: Arrays, hop: Floats, leak: float) -> Floats:
    """Return the reads expected from the other libraries of a run and from near wells, (S, T).

    hop : (R,) array, the share of a run's reads of a taxon that turn up in its other libraries,
    spread evenly; leak : the share that reaches the wells beside it, by closeness.
    """
    reads, run = arrays.reads, arrays.run
    count = np.bincount(run, minlength=len(hop)).astype(np.float64)
    sums = np.zeros((len(hop), reads.shape[1]))
    np.add.at(sums, run, reads)
    out = (sums[run] - reads) * (hop / np.maximum(count, 1.0))[run][:, None]
    if arrays.near is not None and leak > 0:
        out += leak * (arrays.near @ reads)
    return np.asarray(out)
