"""Genotypes: who was typed, at which variants, and the values of a block of them.

A source hands out blocks of variants for chosen samples, as counts of genotypes and as coded,
centred, mean-imputed rows. Hard calls are held packed as PLINK packs them (`Packed`); `dosages` has
fractional ones.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ranef import _core
from ranef.errors import DataError

__all__ = [
    "EFFECTS",
    "Block",
    "Chosen",
    "Genotypes",
    "Packed",
    "PackedBlock",
    "Samples",
    "Tally",
    "Variants",
    "check_dosages",
    "pack",
    "unpack",
]

Floats = NDArray[np.float64]
Ints = NDArray[np.int32]
Bytes = NDArray[np.uint8]
Texts = NDArray[np.object_]
Rows = NDArray[np.intp]

EFFECTS = {
    "additive": (2.0, 1.0, 0.0),
    "dominant": (1.0, 1.0, 0.0),
    "recessive": (1.0, 0.0, 0.0),
}
"""Values of two copies of the effect allele, one and none."""

MALE, FEMALE = 1, 2
HEMIZYGOUS_CODES = (0, 3)


@dataclass(frozen=True, eq=False)
class Samples:
    """Who was typed.

    Attributes
    ----------
    fid, iid : tuple of str
        Family and individual, as text.
    sex : (N,) int array
        1 male, 2 female, 0 not known.
    phenotype : tuple of str or None
        The .fam's own column, as text.
    """

    fid: tuple[str, ...]
    iid: tuple[str, ...]
    sex: Ints
    phenotype: tuple[str, ...] | None = None

    def __len__(self) -> int:
        return len(self.iid)


@dataclass(frozen=True, eq=False)
class Variants:
    """What was typed, in the order of the file.

    Attributes
    ----------
    chromosome, id, effect_allele, other_allele : (m,) arrays of text
    position : (m,) int64 array
    numerals : bool
        Whether 23 to 26 stand for X, Y, the part that X and Y share, and MT.
    several : (m,) bool array or None
        Variants with more than two alleles: they are not tested. None where there is none.
    """

    chromosome: Texts
    id: Texts
    position: NDArray[np.int64]
    effect_allele: Texts
    other_allele: Texts
    numerals: bool = True
    several: NDArray[np.bool_] | None = None

    def __len__(self) -> int:
        return len(self.id)

    @cached_property
    def chromosomes(self) -> tuple[str, ...]:
        """Chromosomes in the order of the file."""
        return tuple(dict.fromkeys(self.chromosome.tolist()))

    @cached_property
    def numbered(self) -> bool:
        """Whether 23 to 26 stand for X, Y, what they share and MT: no number is larger."""
        bare = [name.upper().removeprefix("CHR") for name in self.chromosomes]
        numbers = [int(name) for name in bare if name.isdecimal()]
        return self.numerals and max(numbers, default=0) <= 26

    @cached_property
    def kinds(self) -> NDArray[np.str_]:
        """``"diploid"``, ``"X"``, ``"Y"`` or ``"MT"`` of each variant, by its chromosome's name.

        PLINK's numbers 23 to 26 stand for X, Y, the part that X and Y share, and MT where no
        chromosome has a larger number.
        """
        known = {name: _kind(name, self.numbered) for name in self.chromosomes}
        return np.array([known[name] for name in self.chromosome.tolist()], dtype="U7")


def _kind(name: str, human: bool) -> str:
    bare = name.upper().removeprefix("CHR")
    if human and bare.isdecimal():
        bare = {"23": "X", "24": "Y", "26": "MT"}.get(str(int(bare)), bare)
    bare = "MT" if bare == "M" else bare
    return bare if bare in ("X", "Y", "MT") else "diploid"


@dataclass(frozen=True, eq=False)
class Chosen:
    """Which samples are looked at.

    Attributes
    ----------
    places : (n,) int32 array
        In the file's order of samples.
    groups : (n,) int32 array
        1 for males, 0 for all others.
    """

    places: Ints
    groups: Ints

    @classmethod
    def of(cls, samples: Samples, places: Any) -> Chosen:
        """Choose samples by their places."""
        where = np.ascontiguousarray(places, dtype=np.int32)
        return cls(where, np.ascontiguousarray(samples.sex[where] == MALE, dtype=np.int32))

    def __len__(self) -> int:
        return len(self.places)


@dataclass(frozen=True, eq=False)
class Tally:
    """What a block of b variants shows among the chosen samples.

    Attributes
    ----------
    n : (b,) int array
        Samples with a value.
    n_missing : (b,) int array
        Samples without one, among those who could have one (females have no Y).
    copies, alleles : (b,) float arrays
        Copies of the effect allele, and alleles counted: one of a hemizygous male.
    genotypes : (b, 3) int32 array or None
        Diploid samples with two copies, one and none; None of dosages.
    levels : (b,) int array
        Distinct values of the coded effect that occur.
    mean : (b,) float array
        Mean of the coded effect.
    info : (b,) float array
        Variance of dosages over that of genotypes in Hardy-Weinberg proportions; NaN of calls.
    tables : (b, 8) float array or None
        Value of each packed code in each group, NaN where there is none.
    """

    n: NDArray[np.int64]
    n_missing: NDArray[np.int64]
    copies: Floats
    alleles: Floats
    genotypes: Ints | None
    levels: NDArray[np.int64]
    mean: Floats
    info: Floats
    tables: Floats | None

    @property
    def frequency(self) -> Floats:
        """Frequency of the effect allele, NaN where nobody has a value."""
        with np.errstate(invalid="ignore"):
            return self.copies / self.alleles


class Genotypes(ABC):
    """Genotypes of N samples at m variants; `open_genotypes` and `from_array` make them.

    Attributes
    ----------
    name : str
        Where they are from, as errors say it.
    samples : Samples
    variants : Variants
    calls : bool
        Whether genotypes are called (0, 1 or 2 copies) rather than dosages.
    """

    name: str
    samples: Samples
    variants: Variants
    calls: bool

    def __repr__(self) -> str:
        return (
            f"<Genotypes: {len(self.samples):,} samples, {len(self.variants):,} variants, "
            f"{self.name}>"
        )

    @abstractmethod
    def read(self, start: int, stop: int) -> Block:
        """Read variants `start` to `stop`."""

    @abstractmethod
    def take(self, rows: Any) -> Block:
        """Read some variants by their places, in ascending order."""


class Block(ABC):
    """Some variants of a source, in memory."""

    @abstractmethod
    def tally(self, chosen: Chosen, effect: str) -> Tally:
        """Count what the chosen samples have."""

    @abstractmethod
    def coded(
        self, rows: Rows, chosen: Chosen, tally: Tally, *, centred: bool, single: bool
    ) -> NDArray[Any]:
        """Return coded rows, (len(rows), n), a missing value at the mean; less it if `centred`."""


class Packed(Genotypes):
    """Hard calls, four to a byte, in memory.

    Parameters
    ----------
    packed : (m, ceil(N / 4)) uint8 array
    """

    calls = True

    def __init__(self, name: str, samples: Samples, variants: Variants, packed: Bytes) -> None:
        self.name, self.samples, self.variants = name, samples, variants
        self._packed = packed

    def read(self, start: int, stop: int) -> PackedBlock:
        return PackedBlock(self._packed[start:stop], self.variants.kinds[start:stop])

    def take(self, rows: Any) -> Block:
        return PackedBlock(np.ascontiguousarray(self._packed[rows]), self.variants.kinds[rows])


@dataclass(frozen=True, eq=False)
class PackedBlock(Block):
    """Packed calls of some variants.

    Attributes
    ----------
    packed : (b, stride) uint8 array
    kinds : (b,) array of text
        See `Variants.kinds`.
    """

    packed: Bytes
    kinds: NDArray[np.str_]

    def tally(self, chosen: Chosen, effect: str) -> Tally:
        groups = 2 if (self.kinds != "diploid").any() and chosen.groups.any() else 1
        of_males = chosen.groups if groups == 2 else np.zeros_like(chosen.groups)
        counts = _core.count_genotypes(self.packed, chosen.places, of_males, groups)
        both = np.zeros((len(self.packed), 2, 4), dtype=np.int64)
        both[:, :groups] = counts.reshape(-1, groups, 4)
        return _tally(both, self.kinds, effect, sexes=bool(chosen.groups.any()))

    def coded(
        self, rows: Rows, chosen: Chosen, tally: Tally, *, centred: bool, single: bool
    ) -> NDArray[Any]:
        assert tally.tables is not None
        mean = tally.mean[rows][:, None]
        tables = tally.tables[rows]
        tables = np.where(np.isnan(tables), mean, tables) - (mean if centred else 0.0)
        packed = np.ascontiguousarray(self.packed[rows])
        groups = 2
        of_males = chosen.groups
        if (self.kinds[rows] == "diploid").all():
            groups, of_males, tables = 1, np.zeros_like(of_males), tables[:, :4]
        tables = np.ascontiguousarray(tables)
        if single:
            return _core.decode_genotypes_single(
                packed, chosen.places, of_males, groups, tables.astype(np.float32)
            )
        return _core.decode_genotypes(packed, chosen.places, of_males, groups, tables)


def _tally(counts: NDArray[np.int64], kinds: NDArray[np.str_], effect: str, sexes: bool) -> Tally:
    """Turn counts by group (others, males) and code into what a variant shows.

    counts : (b, 2, 4)
    """
    two, one, none = EFFECTS[effect]
    values = np.empty(counts.shape)
    values[:] = (two, np.nan, one, none)
    ploidy = np.full(counts.shape[:2], 2.0)
    haploid = EFFECTS["dominant" if effect == "additive" else effect]
    single = np.array([haploid[0], np.nan, np.nan, haploid[2]])
    x, y, mt = (kinds == name for name in ("X", "Y", "MT"))
    if sexes:
        values[x, 1, 2], ploidy[x, 1] = np.nan, 1.0
        values[y, 0, :], ploidy[y, 0] = np.nan, 0.0
        values[y, 1, :], ploidy[y, 1] = single, 1.0
    values[mt], ploidy[mt] = single, 1.0
    has = ~np.isnan(values)
    present = np.where(has, counts, 0)
    n = present.sum(axis=(1, 2))
    could = np.where(ploidy > 0, counts.sum(axis=2), 0).sum(axis=1)
    dose = present @ np.array([1.0, 0.0, 0.5, 0.0])
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = (present * np.where(has, values, 0.0)).sum(axis=(1, 2)) / n
    diploid = np.where(ploidy == 2.0, 1, 0)[:, :, None] * present
    return Tally(
        n=n,
        n_missing=could - n,
        copies=(dose * ploidy).sum(axis=1),
        alleles=(present.sum(axis=2) * ploidy).sum(axis=1),
        genotypes=np.ascontiguousarray(diploid.sum(axis=1)[:, [0, 2, 3]], dtype=np.int32),
        levels=_distinct(present, values),
        mean=mean,
        info=np.full(len(n), np.nan),
        tables=values.reshape(len(n), 8),
    )


def _distinct(present: NDArray[np.int64], values: Floats) -> NDArray[np.int64]:
    """How many distinct values occur, (b,)."""
    seen = np.zeros(len(present), dtype=np.int64)
    for value in (0.0, 1.0, 2.0):
        seen += ((present > 0) & (values == value)).any(axis=(1, 2))
    return seen


def pack(calls: NDArray[np.int8]) -> Bytes:
    """Pack calls as PLINK does.

    Parameters
    ----------
    calls : (m, N) int8 array
        Copies of the first allele; negative where missing.

    Examples
    --------
    >>> pack(np.array([[2, 1, 0, -1, 2]], dtype=np.int8))
    array([[120,   0]], dtype=uint8)
    """
    m, n = calls.shape
    codes = np.zeros((m, -(-n // 4) * 4), dtype=np.uint8)
    codes[:, :n] = 3 - calls - (calls == 2)
    codes[:, :n][calls < 0] = 1
    quads = codes.reshape(m, -1, 4)
    packed: Bytes = quads[:, :, 0] | quads[:, :, 1] << 2 | quads[:, :, 2] << 4 | quads[:, :, 3] << 6
    return packed


def unpack(packed: Bytes, n: int) -> NDArray[np.int8]:
    """Return the calls of packed bytes, (m, n): copies of the first allele, -1 where missing.

    Examples
    --------
    >>> unpack(np.array([[120, 0]], dtype=np.uint8), 5)
    array([[ 2,  1,  0, -1,  2]], dtype=int8)
    """
    codes = packed[:, :, None] >> np.array([0, 2, 4, 6], dtype=np.uint8) & 3
    table = np.array([2, -1, 1, 0], dtype=np.int8)
    calls: NDArray[np.int8] = table[codes.reshape(len(packed), -1)[:, :n]]
    return calls


def check_dosages(values: NDArray[Any], name: str, ids: Texts) -> None:
    """Refuse what is no number of copies."""
    for start in range(0, len(values), 4096):
        part = values[start : start + 4096]
        with np.errstate(invalid="ignore"):
            wrong = np.isinf(part) | (part < 0) | (part > 2)
        if wrong.any():
            row, column = (int(k[0]) for k in np.nonzero(wrong))
            raise DataError(
                f"{name}: variant {ids[start + row]!r} has the value {part[row, column]} in sample "
                f"{column} (counted from 0); copies of an allele go from 0 to 2, NaN where missing"
            )
