"""BGEN files, by the package bgen."""

from __future__ import annotations

from os import PathLike
from pathlib import Path
from threading import Lock
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from ranef.errors import DataError, RanefError
from ranef.fields.gwas.bounds import check_bgen_block
from ranef.fields.gwas.dosages import DosageBlock
from ranef.fields.gwas.extras import (
    beside,
    existing,
    package,
    reason,
    samples_given,
    samples_named,
    variants_of,
)
from ranef.fields.gwas.genotypes import Block, Genotypes, Samples, Variants

__all__ = ["BgenFile"]


class BgenFile(Genotypes):
    """Dosages of a .bgen, read in blocks from the disk.

    The effect is that of the second allele (of plink2's ``ref-first`` and of the UK Biobank: the
    alternative one).

    Parameters
    ----------
    path : path
        With or without ``.bgen``.
    samples : optional
        Names of the samples, see `read_genotypes`; without it a .sample beside the file, or the
        names within it.
    """

    calls = False

    def __init__(self, path: str | PathLike[str], samples: Any = None) -> None:
        self.path = existing(path, (".bgen",))
        self.name = str(self.path)
        lib = package("bgen", self.path, "a BGEN file")
        self._lock = Lock()
        try:
            self._reader = lib.BgenReader(self.name)
            _find_offsets(self._reader)
            self.variants = _variants(self._reader, self.path)
            indexed = len(self._reader)
            names = list(self._reader.samples)
            count = int(self._reader.header.nsamples)
            named = bool(self._reader.header.has_sample_ids)
        except RanefError:
            raise
        except (ValueError, OSError, IndexError) as error:
            raise DataError(f"{self.name!r} cannot be read: {reason(error)}") from error
        if indexed != len(self.variants):
            raise DataError(_foreign_index(self.name))
        self.samples = _samples(samples, self.path, names if named else None, count)

    def read(self, start: int, stop: int) -> Block:
        return self.take(np.arange(start, stop))

    def take(self, rows: Any) -> Block:
        rows = np.asarray(rows, dtype=np.intp)
        values = np.full((len(rows), len(self.samples)), np.nan, dtype=np.float32)
        several = self.variants.several
        with self._lock, self.path.open("rb") as stream:
            for k, row in enumerate(rows.tolist()):
                if several is None or not several[row]:
                    values[k] = self._dosages(row, stream)
        return DosageBlock(values, self.variants.kinds[rows], self.name)

    def _dosages(self, row: int, stream: BinaryIO) -> NDArray[np.float64]:
        name = self.variants.id[row]
        try:
            variant = self._reader[row]
            if variant.compression:
                shown = f"the variant {name!r} of {self.name!r}"
                check_bgen_block(stream, variant.fileoffset, variant.layout, shown)
            ploidy = np.asarray(variant.ploidy)
            expected = None if (ploidy > 2).any() else np.asarray(variant.alt_dosage, float)
        except RanefError:
            raise
        except (ValueError, OSError, IndexError) as error:
            raise DataError(
                f"{self.name!r} is damaged at the variant {name!r}: {reason(error)}"
            ) from error
        if int(variant.pos) != self.variants.position[row]:
            raise DataError(_foreign_index(self.name))
        if expected is None:
            raise DataError(
                f"{self.name!r}: variant {name!r} has samples with {int(ploidy.max())} alleles; "
                "one and two are read: leave it out of the file"
            )
        with np.errstate(divide="ignore", invalid="ignore"):
            out: NDArray[np.float64] = np.clip(expected * 2.0 / ploidy, 0.0, 2.0)
        return out


def _find_offsets(reader: Any) -> None:
    """Have the package find all variants, in this thread and before it stands at the file's end.

    From the end it goes back no more, and takes the file for a truncated one.
    """
    if int(reader.header.nvariants):
        reader[0]


def _foreign_index(name: str) -> str:
    return f"the index {name + '.bgi'!r} belongs to another file; delete it or make it again"


def _variants(reader: Any, path: Path) -> Variants:
    chromosome, position, ids, effect, other, several = [], [], [], [], [], []
    for variant in reader:
        alleles = list(variant.alleles)
        chromosome.append(str(variant.chrom))
        position.append(int(variant.pos))
        ids.append(str(variant.rsid or variant.varid or "."))
        other.append(alleles[0] if alleles else ".")
        effect.append(",".join(alleles[1:]) or ".")
        several.append(len(alleles) != 2)
    if not ids:
        raise DataError(f"{str(path)!r} holds no variants; was it made whole?")
    if len(ids) != int(reader.header.nvariants):
        raise DataError(
            f"{str(path)!r} is truncated: it was made with {reader.header.nvariants:,} variants "
            f"and holds {len(ids):,}"
        )
    return variants_of(chromosome, position, ids, effect, other, several)


def _samples(given: Any, path: Path, names: list[str] | None, count: int) -> Samples:
    if given is None:
        given = beside(path, ".bgen", (".sample", ".psam", ".fam"))
    if given is not None:
        return samples_given(given, count, path)
    if names is None:
        raise DataError(
            f"{str(path)!r} does not name its samples, and there is no .sample beside it; give "
            "gwas.read_genotypes(path, samples=...)"
        )
    return samples_named(names, path)
