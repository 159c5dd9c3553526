"""Clumping: regions with one leading variant each.

The order is that of PLINK's ``--clump``; correlations are those of copies, where PLINK 1.9 takes
haplotype frequencies.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ranef.fields.gwas.genotypes import Chosen, Genotypes

__all__ = ["Clump", "clumps"]

Floats = NDArray[np.float64]
Rows = NDArray[np.intp]


@dataclass(frozen=True, eq=False)
class Clump:
    """A leading variant and those under it, by their places in the file."""

    lead: int
    members: Rows


def clumps(
    source: Genotypes,
    chosen: Chosen,
    log10_p: Floats,
    tested: NDArray[np.bool_],
    p1: float,
    p2: float,
    r2: float,
    kb: float,
) -> list[Clump]:
    """Clump variants by p values and squared correlations of the chosen samples."""
    near = np.flatnonzero(tested & (log10_p <= np.log10(p2)))
    if not len(near):
        return []
    X = _standardised(source, chosen, near)
    v = source.variants
    chromosome, position = v.chromosome[near], v.position[near]
    log = log10_p[near]
    free = np.ones(len(near), dtype=bool)
    out = []
    for k in np.argsort(log, kind="stable").tolist():
        if not free[k] or log[k] > np.log10(p1):
            continue
        free[k] = False
        around = free & (chromosome == chromosome[k])
        around &= np.abs(position - position[k]) <= 1000.0 * kb
        rows = np.flatnonzero(around)
        linked = rows[(X[rows] @ X[k]) ** 2 >= r2]
        free[linked] = False
        out.append(Clump(int(near[k]), near[linked]))
    return out


def _standardised(source: Genotypes, chosen: Chosen, rows: Rows) -> Floats:
    """Centred rows of length one, missing values at the mean."""
    block = source.take(rows)
    tally = block.tally(chosen, "additive")
    X: Floats = block.coded(np.arange(len(rows)), chosen, tally, centred=True, single=False)
    norm = np.sqrt(np.sum(X * X, axis=1))
    return np.asarray(X / np.maximum(norm, 1e-300)[:, None])
