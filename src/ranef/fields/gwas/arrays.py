"""`from_array`: genotypes that are in memory; `open_genotypes`: whatever a call was handed."""

from __future__ import annotations

from collections import Counter
from os import PathLike
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ranef.errors import DataError, ModelError
from ranef.fields.gwas.genotypes import (
    Dosages,
    Genotypes,
    Packed,
    Samples,
    Texts,
    Variants,
    check_dosages,
    pack,
)
from ranef.fields.gwas.plink import SEXES, BedFile
from ranef.formula.labels import level_text, list_text
from ranef.tables import Table

__all__ = ["from_array", "open_genotypes"]

SUFFIXES = (".pgen", ".bgen", ".vcf", ".vcf.gz", ".bcf", ".zarr")


def from_array(G: Any, *, samples: Any, variants: Any = None) -> Genotypes:
    """Return genotypes that are held in memory, for `scan`, `grm` and the others.

    Parameters
    ----------
    G : (N, m) array
        Copies of the effect allele of N samples at m variants, from 0 to 2; NaN, or a negative
        whole number, where missing. Whole numbers are packed into two bits each; others are
        expected copies (dosages).
    samples : sequence of str, or table
        Names of the samples; or a table with a column ``IID`` and perhaps ``FID`` and ``sex`` (1
        male, 2 female).
    variants : sequence of str, or table, optional
        Names of the variants; or a table with a column ``variant`` and perhaps ``chromosome``,
        ``position``, ``effect_allele``, ``other_allele``.

    Returns
    -------
    Genotypes

    Examples
    --------
    >>> import numpy as np
    >>> from ranef import gwas
    >>> gwas.from_array(np.array([[0, 1], [2, -1], [1, 0]]), samples=["a", "b", "c"])
    <Genotypes: 3 samples, 2 variants, an array>
    """
    values = np.asarray(G)
    if values.ndim != 2 or values.dtype.kind not in "iufb":
        raise DataError(
            "G is a matrix of numbers, a row a sample and a column a variant, not an array of "
            f"type {values.dtype} with {values.ndim} dimensions"
        )
    who = _samples(samples, len(values))
    what = _variants(variants, values.shape[1])
    if not len(who) or not len(what):
        raise DataError("G holds no genotypes")
    by_variant = values.T
    name = "an array"
    if values.dtype.kind in "iub":
        calls: NDArray[Any] = by_variant.astype(np.int64)
        check_dosages(np.where(calls < 0, 0, calls), name, what.id)
        return Packed(name, who, what, pack(np.clip(calls, -1, 2).astype(np.int8)))
    check_dosages(by_variant, name, what.id)
    if _whole(by_variant):
        calls = np.where(np.isnan(by_variant), -1, by_variant).astype(np.int8)
        return Packed(name, who, what, pack(calls))
    return Dosages(name, who, what, np.ascontiguousarray(by_variant))


def _whole(values: NDArray[Any]) -> bool:
    return all(
        bool(np.all(np.isnan(part) | (part == np.rint(part))))
        for part in (values[k : k + 4096] for k in range(0, len(values), 4096))
    )


def _samples(given: Any, count: int) -> Samples:
    if _is_table(given):
        table = Table.of(given)
        iid = _texts(table, "IID", "samples")
        fid = _texts(table, "FID", "samples") if "FID" in table else ["0"] * len(iid)
        sex = _texts(table, "sex", "samples") if "sex" in table else ["0"] * len(iid)
        codes = np.array([SEXES.get(s.upper(), 0) for s in sex], dtype=np.int32)
    else:
        iid = _names("samples", given)
        fid, codes = ["0"] * len(iid), np.zeros(len(iid), dtype=np.int32)
    if len(iid) != count:
        raise DataError(f"G has {count:,} rows and samples names {len(iid):,}")
    _once(list(zip(fid, iid, strict=True)), "samples")
    return Samples(tuple(fid), tuple(iid), codes)


def _variants(given: Any, count: int) -> Variants:
    if given is None:
        given = [f"v{k + 1}" for k in range(count)]
    if not _is_table(given):
        given = {"variant": _names("variants", given)}
    table = Table.of(given)
    names = _texts(table, "variant", "variants")
    if len(names) != count:
        raise DataError(f"G has {count:,} columns and variants names {len(names):,}")

    def column(name: str, usual: str) -> Texts:
        found = _texts(table, name, "variants") if name in table else [usual] * count
        return np.array(found, dtype=object)

    position = np.arange(1, count + 1, dtype=np.int64)
    if "position" in table:
        own = table.numeric("position")
        if not np.isfinite(own).all():
            raise DataError("column 'position' of variants has missing or infinite values")
        position = own.astype(np.int64)
    return Variants(
        column("chromosome", "1"), np.array(names, dtype=object), position,
        column("effect_allele", "A"), column("other_allele", "B"),
    )  # fmt: skip


def _is_table(given: Any) -> bool:
    return hasattr(given, "columns") or isinstance(given, dict)


def _texts(table: Table, name: str, whose: str) -> list[str]:
    if name not in table:
        raise DataError(f"{whose} has no column {name!r}; it has {list_text(table.columns)}")
    codes, levels = table.codes(name)
    if (codes < 0).any():
        row = int(np.flatnonzero(codes < 0)[0])
        raise DataError(f"column {name!r} of {whose} is missing in row {row}")
    texts = [level_text(level) for level in levels]
    return [texts[code] for code in codes.tolist()]


def _names(what: str, given: Any) -> list[str]:
    if isinstance(given, (str, bytes)) or not hasattr(given, "__iter__"):
        raise ModelError(f"{what} is a list of names or a table, not {type(given).__name__}")
    return [level_text(value) for value in given]


def _once(pairs: list[tuple[str, str]], what: str) -> None:
    if len(set(pairs)) < len(pairs):
        twice = [name for (_, name), count in Counter(pairs).items() if count > 1]
        raise DataError(f"{what} names {list_text(twice)} more than once")


def open_genotypes(given: Any) -> Genotypes:
    """Return the genotypes that a call was handed: a source, or a file of PLINK 1."""
    if isinstance(given, Genotypes):
        return given
    if isinstance(given, (str, PathLike)):
        text = str(given)
        if text.lower().endswith(SUFFIXES):
            raise ModelError(
                f"{text!r}: genotypes are read from PLINK 1 files (.bed, .bim, .fam) and arrays; "
                "convert with plink2 --make-bed, or hand an array to gwas.from_array"
            )
        return BedFile(given)
    raise ModelError(
        "genotypes are the prefix of PLINK 1 files or what gwas.from_array returns, not "
        f"{type(given).__name__}"
    )
