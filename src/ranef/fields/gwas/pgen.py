"""PLINK 2 files: .pgen, .pvar (or .pvar.zst) and .psam, by pgenlib."""

from __future__ import annotations

import re
from collections.abc import Iterator
from os import PathLike
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ranef.errors import DataError, FileError
from ranef.fields.gwas.bounds import check_pvar
from ranef.fields.gwas.dosages import DosageBlock
from ranef.fields.gwas.extras import (
    beside,
    existing,
    package,
    reason,
    samples_given,
    variants_of,
)
from ranef.fields.gwas.genotypes import Block, Genotypes, PackedBlock, Variants, pack
from ranef.fields.gwas.plink import line_of, read_text_lines

__all__ = ["PgenFile"]

MAGIC = b"\x6c\x1b"
OF_DOSAGES = 0x60
WHOLE = re.compile(r"[+-]?\d{1,18}")
PIECE = 65536
"""Variants of a piece of the header."""


class PgenFile(Genotypes):
    """Genotypes of a .pgen with its .pvar and .psam beside it, read in blocks from the disk.

    The effect is that of ALT.

    Parameters
    ----------
    prefix : path
        With or without ``.pgen``.
    """

    def __init__(self, prefix: str | PathLike[str]) -> None:
        self.pgen = existing(prefix, (".pgen",))
        self.name = str(self.pgen)
        lib = package("pgenlib", self.pgen, "a file of PLINK 2")
        pvar = self._beside(".pvar", ".pvar.zst")
        self.variants, offsets = _read_pvar(pvar, lib)
        psam = self._beside(".psam", ".fam")
        n, m = _size(self.pgen)
        self.samples = samples_given(psam, n, self.pgen)
        if m != len(self.variants):
            raise DataError(
                f"{self.name!r} has {m:,} variants, and {str(pvar)!r} lists {len(self.variants):,}"
            )
        self.calls = not _has_dosages(self.pgen, m)
        self._lock = Lock()
        more = {} if offsets is None else {"allele_idx_offsets": offsets}
        try:
            self._reader = lib.PgenReader(
                str(self.pgen).encode(), raw_sample_ct=n, variant_ct=m, **more
            )
        except (RuntimeError, ValueError, OSError) as error:
            raise DataError(f"{self.name!r} cannot be read: {reason(error)}") from error

    def _beside(self, *endings: str) -> Path:
        found = beside(self.pgen, ".pgen", endings)
        if found is None:
            stem = self.pgen.with_suffix("")
            raise FileError(
                f"there is no file {str(stem) + endings[0]!r}, which belongs to the .pgen beside it"
            )
        return found

    def read(self, start: int, stop: int) -> Block:
        return self._block(np.arange(start, stop, dtype=np.uint32))

    def take(self, rows: Any) -> Block:
        return self._block(np.asarray(rows, dtype=np.uint32))

    def _block(self, rows: NDArray[np.uint32]) -> Block:
        n = len(self.samples)
        kinds = self.variants.kinds[rows]
        shape = (len(rows), n)
        values: NDArray[Any] = np.empty(shape, dtype=np.int8 if self.calls else np.float32)
        try:
            with self._lock:
                if not len(rows):
                    pass
                elif self.calls:
                    self._reader.read_list(rows, values)
                else:
                    self._reader.read_dosages_list(rows, values)
        except (RuntimeError, ValueError, OSError) as error:
            raise DataError(
                f"{self.name!r} is damaged or truncated among the variants "
                f"{self.variants.id[rows[0]]!r} to {self.variants.id[rows[-1]]!r}: {reason(error)}"
            ) from error
        values[values < 0] = -1 if self.calls else np.nan
        if self.variants.several is not None:
            values[self.variants.several[rows]] = -1 if self.calls else np.nan
        if self.calls:
            return PackedBlock(pack(values), kinds)
        return DosageBlock(values, kinds, self.name)


def _head(path: Path) -> bytes:
    try:
        with open(path, "rb") as stream:
            return stream.read(12)
    except OSError as error:
        raise FileError(f"cannot read {str(path)!r}: {error.strerror or error}") from error


def _size(path: Path) -> tuple[int, int]:
    """Samples and variants by the first bytes."""
    head = _head(path)
    if len(head) < 12 or head[:2] != MAGIC or head[2] in (0, 1):
        what = "a PLINK 1 .bed" if head[:2] == MAGIC and head[2:3] in (b"\0", b"\1") else "no .pgen"
        raise DataError(f"{str(path)!r} is {what}: it begins with the bytes {head[:3].hex(' ')}")
    m, n = (int.from_bytes(head[k : k + 4], "little") for k in (3, 7))
    return n, m


def _has_dosages(path: Path, m: int) -> bool:
    """Whether any variant has dosages, by the types of records in the header.

    Of files whose header stands elsewhere, or of an unknown kind, it is taken that they have.
    """
    head = _head(path)
    if head[2] == 0x02:
        return False
    if head[2] != 0x10:
        return True
    return any(bool((kinds & OF_DOSAGES).any()) for kinds in _kinds_of_records(path, m, head[11]))


def _kinds_of_records(path: Path, m: int, control: int) -> Iterator[NDArray[np.uint8]]:
    widths = control & 15
    if widths < 4 or widths > 7:  # four bits a record have no room for dosages
        return
    alleles, marks = control >> 4 & 3, control >> 6 == 3
    pieces = -(-m // PIECE)
    try:
        with open(path, "rb") as stream:
            stream.seek(12 + 8 * pieces)
            for k in range(pieces):
                count = min(PIECE, m - k * PIECE)
                content = stream.read(count)
                if len(content) < count:
                    raise DataError(
                        f"{str(path)!r} is truncated: it ends within its header; copy it again"
                    )
                yield np.frombuffer(content, dtype=np.uint8)
                rest = count * (widths - 3) + count * alleles + (-(-count // 8) if marks else 0)
                stream.seek(rest, 1)
    except OSError as error:
        raise FileError(f"cannot read {str(path)!r}: {error.strerror or error}") from error


# --- .pvar


def _read_pvar(path: Path, lib: Any) -> tuple[Variants, NDArray[np.uintp] | None]:
    """Return the variants, and where the alleles of each begin where some have more than two."""
    if path.name.endswith(".zst"):
        chromosome, position, ids, ref, alt = _packed_pvar(path, lib)
    else:
        chromosome, position, ids, ref, alt = _plain_pvar(path)
    if not ids:
        raise DataError(f"{str(path)!r} lists no variants; was it written to its end?")
    several = np.array(["," in a for a in alt])
    variants = variants_of(chromosome, position, ids, alt, ref, several)
    if not several.any():
        return variants, None
    counts = [2 + a.count(",") for a in alt]
    return variants, np.concatenate([[0], np.cumsum(counts)]).astype(np.uintp)


def _plain_pvar(path: Path) -> tuple[list[str], NDArray[np.int64], list[str], list[str], list[str]]:
    rows = [line.split() for line in read_text_lines(path) if not line.startswith("##")]
    rows = [row for row in rows if row]
    first = rows[0] if rows else []
    if first and first[0].upper() in ("#CHROM", "CHROM"):
        head, body, skipped = [cell.upper() for cell in first], rows[1:], 1
        head[0] = "CHROM"
    else:
        five = ["CHROM", "ID", "POS", "ALT", "REF"]
        head = five if len(first) == 5 else ["CHROM", "ID", "CM", "POS", "ALT", "REF"]
        body, skipped = rows, 0
    absent = [name for name in ("CHROM", "POS", "ID", "REF", "ALT") if name not in head]
    if absent:
        raise DataError(f"the heading of {str(path)!r} has no column {absent[0]}")
    places = [head.index(name) for name in ("CHROM", "POS", "ID", "REF", "ALT")]
    for k, row in enumerate(body):
        if len(row) <= max(places):
            raise DataError(
                f"line {line_of(path, k + skipped, '##')} of {str(path)!r} has {len(row)} columns; "
                f"it takes {max(places) + 1}"
            )
    columns = [[row[k] for row in body] for k in places]
    return columns[0], positions(columns[1], path, skipped), columns[2], columns[3], columns[4]


def positions(texts: list[str], path: Path, skipped: int) -> NDArray[np.int64]:
    """Turn positions into numbers; a `DataError` names the first that is none."""
    try:
        return np.array(texts, dtype=np.int64)
    except (ValueError, OverflowError):
        bad = next(k for k, text in enumerate(texts) if not WHOLE.fullmatch(text))
        raise DataError(
            f"line {line_of(path, bad + skipped, '##')} of {str(path)!r} has the position "
            f"{texts[bad]!r}, which is no whole number"
        ) from None


def _packed_pvar(
    path: Path, lib: Any
) -> tuple[list[str], NDArray[np.int64], list[str], list[str], list[str]]:
    check_pvar(path)
    try:
        with lib.PvarReader(str(path).encode()) as reader:
            m = reader.get_variant_ct()
            each = [
                (
                    reader.get_variant_chrom(k), reader.get_variant_pos(k),
                    reader.get_variant_id(k),
                    [reader.get_allele_code(k, a) for a in range(reader.get_allele_ct(k))],
                )
                for k in range(m)
            ]  # fmt: skip
    except (RuntimeError, ValueError, OSError) as error:
        raise DataError(f"{str(path)!r} cannot be read: {reason(error)}") from error

    def text(value: Any) -> str:
        return value.decode() if isinstance(value, bytes) else str(value)

    return (
        [text(c) for c, *_ in each], np.array([p for _, p, _, _ in each], dtype=np.int64),
        [text(i) for _, _, i, _ in each], [text(a[0]) for *_, a in each],
        [",".join(text(x) for x in a[1:]) or "." for *_, a in each],
    )  # fmt: skip
