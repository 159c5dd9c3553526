"""VCF and BCF, by cyvcf2: read once, and kept packed."""

from __future__ import annotations

from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ranef.errors import DataError, FileError, ModelError
from ranef.fields.gwas.bounds import BYTES_OF_RECORD, check_vcf
from ranef.fields.gwas.dosages import Dosages
from ranef.fields.gwas.extras import (
    existing,
    package,
    reason,
    samples_known,
    samples_named,
    variants_of,
)
from ranef.fields.gwas.genotypes import Genotypes, Packed, Samples
from ranef.fields.gwas.spool import Spool
from ranef.solve.room import check_room

__all__ = ["VCF_ENDINGS", "read_vcf"]

VCF_ENDINGS = (".vcf", ".vcf.gz", ".vcf.bgz", ".bcf")
FIELDS = ("GT", "DS", "GP")
LOOKED_AT = 4096
BGZF_END = bytes.fromhex("1f8b08040000000000ff0600424302001b0003000000000000000000")

Floats = NDArray[np.float64]


def read_vcf(
    given: str | PathLike[str], field: str | None = None, samples: Samples | None = None
) -> Genotypes:
    """Return the genotypes of a VCF or BCF; the effect is that of ALT.

    Parameters
    ----------
    given : path
    field : {"GT", "DS", "GP"}, optional
        Without it dosages (DS), else genotype probabilities (GP) where the heading declares them,
        else calls. A record that lacks the field has its calls.
    samples : Samples, optional
        Families and sexes of the file's samples, which it does not know itself.
    """
    path = existing(given, VCF_ENDINGS)
    lib = package("cyvcf2", path, "a VCF or BCF")
    _check_end(path)
    check_vcf(path)
    try:
        file = lib.VCF(str(path), gts012=True, strict_gt=True)
    except Exception as error:  # of several kinds, one of them Exception itself
        raise DataError(f"{str(path)!r} cannot be read: {reason(error)}") from None
    own = samples_known(samples_named(list(file.samples), path), samples, path)
    which = _field(file, field, path)
    name = f"{path} ({which})"
    spool = Spool(len(own), which == "GT")
    columns: list[list[Any]] = [[] for _ in range(6)]
    line, letters = 0, 0
    try:
        for record in file:
            line += 1
            alts = list(record.ALT)
            described = (
                str(record.CHROM), int(record.POS), str(record.ID or "."),
                ",".join(alts) or ".", str(record.REF), len(alts) > 1,
            )  # fmt: skip
            for column, value in zip(columns, described, strict=True):
                column.append(value)
            letters += len(described[3]) + len(described[4])
            if line % LOOKED_AT == 0:
                check_room(float(BYTES_OF_RECORD) * line + letters, repr(str(path)))
            spool.add(_row(record, which, len(own), str(path)))
    except (DataError, FileError):
        raise
    except Exception as error:  # cyvcf2 raises Exception itself
        after = f"after {columns[0][-1]}:{columns[1][-1]}" if columns[0] else "at its first record"
        raise DataError(
            f"{str(path)!r} is damaged or truncated {after} (record {line + 1:,}): {reason(error)}"
        ) from None
    finally:
        file.close()
    if not columns[0]:
        raise DataError(f"{str(path)!r} has no records; was it written to its end?")
    chromosome, position, ids, effect, other, several = columns
    variants = variants_of(chromosome, position, ids, effect, other, several)
    if which == "GT":
        return Packed(name, own, variants, spool.packed())
    return Dosages(name, own, variants, spool.dosages())


def _check_end(path: Path) -> None:
    """Refuse a compressed file whose last block is not there."""
    try:
        with open(path, "rb") as stream:
            head = stream.read(18)
            stream.seek(0, 2)
            stream.seek(max(stream.tell() - len(BGZF_END), 0))
            tail = stream.read()
    except OSError as error:
        raise FileError(f"cannot read {str(path)!r}: {error.strerror or error}") from error
    if not head:
        raise DataError(f"{str(path)!r} is empty")
    if head[:4] == b"\x1f\x8b\x08\x04" and head[12:14] == b"BC" and tail != BGZF_END:
        raise DataError(f"{str(path)!r} is truncated: the block that ends it is not there")


def _field(file: Any, field: Any, path: Path) -> str:
    if field is not None and field not in FIELDS:
        raise ModelError(f"field is one of 'GT', 'DS' and 'GP', not {field!r}")
    declared = [name for name in ("DS", "GP", "GT") if _declares(file, name)]
    if field is not None:
        if field not in declared:
            raise DataError(
                f"{str(path)!r} does not declare {field}; it has {', '.join(declared) or 'none'}"
            )
        return str(field)
    if not declared:
        raise DataError(f"{str(path)!r} declares none of GT, DS and GP: it has no genotypes")
    return declared[0]


def _declares(file: Any, name: str) -> bool:
    try:
        kind = file.get_header_type(name, [2])  # FORMAT
    except KeyError:
        return False
    return bool(kind)


def _row(record: Any, which: str, n: int, path: str) -> NDArray[Any]:
    """Copies of ALT, NaN where missing; all missing where there are several ALT."""
    if len(record.ALT) > 1:
        return np.full(n, np.nan) if which != "GT" else np.full(n, -1, dtype=np.int8)
    present = record.FORMAT
    if which == "GT":
        copies = _called(record, path) if "GT" in present else np.full(n, np.nan)
        return np.where(np.isnan(copies), -1, copies).astype(np.int8)
    haploid = _haploid(record) if "GT" in present else np.zeros(n, dtype=bool)
    if which in present:
        values = np.asarray(record.format(which), dtype=np.float64).reshape(n, -1)
        return _checked(_of_field(values, which, haploid), record, path)
    return _called(record, path) if "GT" in present else np.full(n, np.nan)


def _of_field(values: Floats, which: str, haploid: NDArray[np.bool_]) -> Floats:
    if which == "DS":
        return np.where(haploid, 2.0, 1.0) * values[:, 0]
    if values.shape[1] < 3:
        return 2.0 * values[:, 1]
    one = np.isnan(values[:, 2])
    return np.where(one, 2.0 * values[:, 1], values[:, 1] + 2.0 * values[:, 2])


def _checked(values: Floats, record: Any, path: str) -> Floats:
    wrong = (values < -1e-3) | (values > 2.0 + 1e-3) | np.isinf(values)
    if wrong.any():
        raise DataError(
            f"{path!r}: the record at {record.CHROM}:{record.POS} has the dosage "
            f"{values[np.argmax(wrong)]:g}; copies of an allele go from 0 to 2"
        )
    return np.clip(values, 0.0, 2.0)


def _alleles(record: Any) -> NDArray[Any]:
    return np.asarray(record.genotype.array())[:, :-1]


def _haploid(record: Any) -> NDArray[np.bool_]:
    codes = _alleles(record)
    single: NDArray[np.bool_] = (codes != -2).sum(axis=1) == 1
    return single


def _called(record: Any, path: str) -> Floats:
    """Copies by calls: a haploid one counts twice, half a call is none."""
    codes = _alleles(record)
    there = codes != -2
    ploidy = there.sum(axis=1)
    if (ploidy > 2).any():
        raise DataError(
            f"{path!r}: the record at {record.CHROM}:{record.POS} has samples with "
            f"{int(ploidy.max())} alleles; one and two are read"
        )
    copies = np.where(there, codes > 0, False).sum(axis=1) * np.where(ploidy == 1, 2.0, 1.0)
    missing = (codes == -1).any(axis=1) | (ploidy == 0)
    return np.where(missing, np.nan, copies)
