"""Expected copies of an allele (dosages), from 0 to 2, NaN where missing.

Of a hemizygous sample they are twice the expected allele, as calls are in PLINK's files: a male's
X has 0 to 2 copies. `DosageBlock` counts him one allele.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ranef.errors import ModelError
from ranef.fields.gwas.genotypes import (
    Block,
    Chosen,
    Genotypes,
    Rows,
    Samples,
    Tally,
    Variants,
)

__all__ = ["DosageBlock", "Dosages"]

Floats = NDArray[np.float64]


class Dosages(Genotypes):
    """Dosages in memory, or in a file that is mapped into it.

    Parameters
    ----------
    values : (m, N) float array
    """

    calls = False

    def __init__(
        self, name: str, samples: Samples, variants: Variants, values: NDArray[Any]
    ) -> None:
        self.name, self.samples, self.variants = name, samples, variants
        self._values = values

    def read(self, start: int, stop: int) -> Block:
        values = np.asarray(self._values[start:stop])
        return DosageBlock(values, self.variants.kinds[start:stop], self.name)

    def take(self, rows: Any) -> Block:
        return DosageBlock(np.asarray(self._values[rows]), self.variants.kinds[rows], self.name)


@dataclass(frozen=True, eq=False)
class DosageBlock(Block):
    """Dosages of some variants.

    Attributes
    ----------
    values : (b, N) float array
    kinds : (b,) array of text
        See `Variants.kinds`.
    name : str
        Where they are from.
    """

    values: NDArray[Any]
    kinds: NDArray[np.str_]
    name: str

    def tally(self, chosen: Chosen, effect: str) -> Tally:
        if effect != "additive":
            raise ModelError(
                f"effect={effect!r} needs called genotypes, and {self.name} has dosages; call them "
                "first, or test effect='additive'"
            )
        x, alleles = self._counted(np.arange(len(self.values)), chosen)
        has = ~np.isnan(x)
        n = has.sum(axis=1)
        could = np.count_nonzero(alleles, axis=1)
        low, high = (
            f(x, axis=1, where=has, initial=start)
            for f, start in ((np.min, np.inf), (np.max, -np.inf))
        )
        of_x = (self.kinds == "X")[:, None] & (alleles == 1)
        copies = np.sum(np.where(of_x, 0.5 * x, x), axis=1, where=has)
        counted = np.sum(alleles, axis=1, where=has)
        with np.errstate(invalid="ignore", divide="ignore"):
            mean = np.sum(x, axis=1, where=has) / n
            variance = np.sum((x - mean[:, None]) ** 2, axis=1, where=has) / n
            p = copies / counted
            weights = np.sum(np.where(of_x, 4.0, alleles), axis=1, where=has) / n
            expected = weights * p * (1.0 - p)
            info = np.where(expected > 0, variance / expected, np.nan)
        levels = np.where(n == 0, 0, np.where(high > low, 2, 1))
        return Tally(n, could - n, copies, counted, None, levels, mean, info, None)

    def coded(
        self, rows: Rows, chosen: Chosen, tally: Tally, *, centred: bool, single: bool
    ) -> NDArray[Any]:
        x, _ = self._counted(rows, chosen)
        mean = tally.mean[rows][:, None]
        x = np.where(np.isnan(x), mean, x) - (mean if centred else 0.0)
        return x.astype(np.float32) if single else x

    def _counted(self, rows: Rows, chosen: Chosen) -> tuple[Floats, Floats]:
        """The coded values, and how many alleles each sample has, both (b, n)."""
        x = self.values[np.ix_(rows, chosen.places)].astype(np.float64)
        alleles = np.full(x.shape, 2.0)
        kinds = self.kinds[rows]
        if (kinds == "diploid").all():
            return x, alleles
        male = chosen.groups.astype(bool)
        mt = np.flatnonzero(kinds == "MT")
        x[mt], alleles[mt] = 0.5 * x[mt], 1.0
        if male.any():
            y = np.flatnonzero(kinds == "Y")
            x[y], alleles[y] = np.where(male, 0.5 * x[y], np.nan), np.where(male, 1.0, 0.0)
            alleles[np.flatnonzero(kinds == "X")] = np.where(male, 1.0, 2.0)
        return x, alleles
