"""PLINK 1 files: .bed, .bim and .fam, read and written."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ranef import _core, arguments
from ranef.display.files import replacing, write_atomically
from ranef.errors import DataError, FileError, suggestion
from ranef.fields.gwas.genotypes import Block, Chosen, Genotypes, PackedBlock, Samples, Variants
from ranef.formula.labels import list_text
from ranef.solve.room import file_bytes

__all__ = [
    "BedFile",
    "distinct_samples",
    "line_of",
    "read_fam",
    "read_text_lines",
    "write_bed",
    "write_names",
    "write_plink",
]

MAGIC = b"\x6c\x1b"
HEADER = 3
PROBED = 2000
LIKELY = -9.0
BYTES_OF_TEXT = 8
WORKBOOK = b"PK\x03\x04"
COLUMNS = {"fam": 6, "bim": 6}
SEXES = {"1": 1, "2": 2, "M": 1, "F": 2, "MALE": 1, "FEMALE": 2}


class BedFile(Genotypes):
    """Genotypes of a .bed with its .bim and .fam beside it, read in blocks from the disk.

    Parameters
    ----------
    prefix : path
        With or without ``.bed``.
    """

    calls = True

    def __init__(self, prefix: str | PathLike[str]) -> None:
        self.bed = _bed_of(prefix)
        stem = self.bed.with_suffix("")
        self.name = str(self.bed)
        self.samples = read_fam(_beside(stem, ".fam"))
        self.variants = read_bim(_beside(stem, ".bim"))
        self.stride = -(-len(self.samples) // 4)
        _check(self)
        self._wrong_bits(self.read(0, min(len(self.variants), 64)), 0)
        _check_last_samples(self)

    def read(self, start: int, stop: int) -> PackedBlock:
        packed = self._bytes(start, stop)
        block = PackedBlock(packed, self.variants.kinds[start:stop])
        self._wrong_bits(block, start)
        return block

    def take(self, rows: Any) -> Block:
        rows = np.asarray(rows, dtype=np.intp)
        parts = [self._bytes(int(row), int(row) + 1) for row in rows]
        packed = np.concatenate(parts) if parts else np.empty((0, self.stride), dtype=np.uint8)
        return PackedBlock(packed, self.variants.kinds[rows])

    def bytes_of(self, variant: int, place: int) -> int:
        """One byte: four samples at a variant."""
        with open(self.bed, "rb") as stream:
            stream.seek(HEADER + variant * self.stride + place)
            return stream.read(1)[0]

    def _bytes(self, start: int, stop: int) -> NDArray[np.uint8]:
        size = (stop - start) * self.stride
        try:
            with open(self.bed, "rb") as stream:
                stream.seek(HEADER + start * self.stride)
                content = stream.read(size)
        except OSError as error:
            raise FileError(f"cannot read {self.name!r}: {error.strerror or error}") from error
        if len(content) != size:
            raise FileError(f"{self.name!r} ended early: it was changed while it was read")
        return np.frombuffer(content, dtype=np.uint8).reshape(stop - start, self.stride)

    def _wrong_bits(self, block: PackedBlock, start: int) -> None:
        """Refuse genotypes of samples that the .fam does not have."""
        found = _core.first_padded_wrongly(block.packed, len(self.samples))
        if found >= 0:
            raise DataError(
                f"{self.name!r}: variant {self.variants.id[start + found]!r} has genotypes behind "
                f"its last sample: the .fam lists {len(self.samples):,} samples and the .bed was "
                "made of more; use the .fam that came with the .bed"
            )


def _bed_of(prefix: str | PathLike[str]) -> Path:
    given = arguments.path(prefix)
    bed = given if given.suffix == ".bed" else given.with_name(given.name + ".bed")
    if not bed.is_file():
        beside = [p.name for p in bed.parent.glob("*.bed")] if bed.parent.is_dir() else []
        raise FileError(f"there is no file {str(bed)!r}{suggestion(bed.name, beside)}")
    return bed


def _beside(stem: Path, suffix: str) -> Path:
    path = stem.with_name(stem.name + suffix)
    if not path.is_file():
        raise FileError(f"there is no file {str(path)!r}, which belongs to the .bed beside it")
    return path


def _check(file: BedFile) -> None:
    """Check first bytes and size against what .bim and .fam say."""
    n, m = len(file.samples), len(file.variants)
    size = file.bed.stat().st_size
    with open(file.bed, "rb") as stream:
        first = stream.read(HEADER)
    if first[:2] != MAGIC or len(first) < HEADER:
        raise DataError(
            f"{file.name!r} is no PLINK 1 .bed: it begins with the bytes {first[:3].hex(' ')}, not "
            "with 6c 1b 01 (a .bed of genome browsers, with regions, is another kind of file)"
        )
    if first[2] != 1:
        order = "sample-major" if first[2] == 0 else f"marked {first[2]:02x}, which nothing reads"
        raise DataError(
            f"{file.name!r} is {order}, and only variant-major files are read; rewrite it with "
            "plink --bfile ... --make-bed"
        )
    wanted = HEADER + m * file.stride
    if size != wanted:
        held = (size - HEADER) / file.stride if file.stride else 0.0
        raise DataError(
            f"{file.name!r} has {size:,} bytes; {m:,} variants of {n:,} samples (.bim and .fam) "
            f"take {wanted:,}. The file is {'truncated' if size < wanted else 'too long'} (it "
            f"holds {held:,.1f} variants of so many samples), or .bim or .fam belong to another"
        )


def _check_last_samples(file: BedFile) -> None:
    """Refuse samples that are where the bits behind the last one would be, and read as these.

    Such bits are zero, and so is the code of two copies of A1. A true sample has them at every
    variant by a chance that their frequencies tell.
    """
    n, m = len(file.samples), len(file.variants)
    probe = np.unique(np.linspace(0, m - 1, PROBED).astype(np.intp))
    for rows in (probe[:: max(len(probe) // 16, 1)], probe):
        last = np.array([file.bytes_of(int(row), file.stride - 1) for row in rows], dtype=np.uint8)
        slot = (n - 1) % 4
        beyond = 0
        while slot > 0 and not (last >> (2 * slot) & 3).any():
            beyond, slot = beyond + 1, slot - 1
        if not beyond:
            return
    before = Chosen.of(file.samples, np.arange(n - beyond))
    tally = file.take(probe).tally(before, "additive")
    share = (tally.copies + 1.0) / (2.0 * tally.n + 2.0)
    if 2.0 * beyond * float(np.log10(np.minimum(share, 1.0)).sum()) < LIKELY:
        raise DataError(
            f"{file.name!r}: the last {beyond} of {n:,} samples of the .fam have two copies of A1 "
            f"at every variant, as the unused bits of a .bed of {n - beyond:,} samples read: the "
            ".fam has lines too many, perhaps a heading, and samples have others' genotypes; use "
            "the .fam that came with the .bed. Were it true, as of an inbred reference line, put "
            "that sample before others"
        )


def read_fam(path: Path) -> Samples:
    """Read the samples of a .fam; more columns than six are passed over."""
    rows = _fields(path, COLUMNS["fam"])
    if not rows:
        raise DataError(f"{str(path)!r} lists no samples; was it written to its end?")
    fid, iid, _, _, sex, phenotype = (tuple(row[k] for row in rows) for k in range(6))
    distinct_samples(fid, iid, str(path))
    codes = np.array([SEXES.get(s.upper(), 0) for s in sex], dtype=np.int32)
    return Samples(fid, iid, codes, phenotype)


def distinct_samples(fid: Sequence[str], iid: Sequence[str], whose: str) -> None:
    """Refuse a list that names a sample twice."""
    pairs = list(zip(fid, iid, strict=True))
    if len(set(pairs)) < len(pairs):
        twice = [" ".join(pair) for pair, count in Counter(pairs).items() if count > 1]
        raise DataError(f"{whose!r} lists a sample twice: {list_text(twice)}")


def read_bim(path: Path) -> Variants:
    """Read the variants of a .bim."""
    rows = _fields(path, COLUMNS["bim"])
    if not rows:
        raise DataError(f"{str(path)!r} lists no variants; was it written to its end?")
    columns = [
        np.array(column, dtype=object) for column in zip(*(r[:6] for r in rows), strict=True)
    ]
    try:
        position = columns[3].astype(np.int64)
    except (ValueError, OverflowError):
        bad = next(k for k, text in enumerate(columns[3]) if not _whole(text))
        raise DataError(
            f"line {bad + 1} of {str(path)!r} has the position {columns[3][bad]!r}, which is no "
            "whole number"
        ) from None
    return Variants(columns[0], columns[1], position, columns[4], columns[5])


def _whole(text: str) -> bool:
    try:
        return abs(int(text)) < 2**63
    except ValueError:
        return False


def _fields(path: Path, least: int) -> list[list[str]]:
    rows = [line.split() for line in read_text_lines(path)]
    while rows and not rows[-1]:
        rows.pop()
    for k, row in enumerate(rows):
        if len(row) < least:
            raise DataError(
                f"line {k + 1} of {str(path)!r} has {len(row)} columns; it takes {least}"
            )
    return rows


def read_text_lines(path: Path) -> list[str]:
    """Return the lines of a text file: UTF-8 with or without its mark, any line ends."""
    try:
        content = file_bytes(path, BYTES_OF_TEXT, repr(str(path)))
    except FileError:
        raise
    except FileNotFoundError as error:
        raise FileError(f"there is no file {str(path)!r}") from error
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise FileError(f"cannot read {str(path)!r}: {reason}") from error
    coding = "utf-16" if content[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    try:
        text = content.decode(coding)
    except UnicodeDecodeError as error:
        if content.startswith(WORKBOOK):
            raise DataError(
                f"{str(path)!r} is a workbook: save its sheet as text (tabs or commas), or read it "
                "by pandas.read_excel and give that table"
            ) from error
        line = content[: error.start].count(b"\n") + 1
        raise DataError(
            f"line {line} of {str(path)!r} is no UTF-8 text; is this the right file, "
            "and is it unpacked?"
        ) from None
    if "\0" in text:
        raise DataError(f"{str(path)!r} holds zero bytes: it is no text file")
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    if lines and lines[-1] == "":
        lines.pop()
    return lines


def line_of(path: Path, row: int, but: str | None = None) -> int:
    """The line of a text file that a row stands in, as an editor counts.

    row : int
        Of the rows that are not blank, from 0.
    but : str, optional
        How lines begin that are no rows.
    """
    lines = enumerate(read_text_lines(path), 1)
    return [n for n, t in lines if t.strip() and not (but and t.startswith(but))][row]


def write_plink(
    prefix: str | PathLike[str],
    samples: Samples,
    variants: Variants,
    packed: Iterable[NDArray[np.uint8]],
    phenotype: Sequence[str] | None = None,
) -> Path:
    """Write .bed, .bim and .fam.

    Parameters
    ----------
    packed : iterable of (b, ceil(N / 4)) uint8 arrays
        Blocks of variants, in order.

    Returns
    -------
    pathlib.Path
        Of the .bed.
    """
    stem = arguments.path(prefix)
    write_names(stem, samples, variants, phenotype)
    return write_bed(stem.with_name(stem.name + ".bed"), packed)


def write_names(
    stem: Path, samples: Samples, variants: Variants, phenotype: Sequence[str] | None
) -> None:
    """Write the .fam and the .bim of a prefix."""
    own = phenotype or samples.phenotype or ["-9"] * len(samples)
    lines = zip(samples.fid, samples.iid, samples.sex.tolist(), own, strict=True)
    fam = "".join(f"{f}\t{i}\t0\t0\t{s}\t{p}\n" for f, i, s, p in lines)
    write_atomically(stem.with_name(stem.name + ".fam"), fam)
    v = variants
    each = zip(
        v.chromosome, v.id, v.position.tolist(), v.effect_allele, v.other_allele, strict=True
    )
    bim = "".join(f"{c}\t{name}\t0\t{p}\t{a}\t{b}\n" for c, name, p, a, b in each)
    write_atomically(stem.with_name(stem.name + ".bim"), bim)


def write_bed(bed: Path, packed: Iterable[NDArray[np.uint8]]) -> Path:
    """Write blocks of packed variants, in order."""
    with replacing(bed) as stream:
        stream.write(MAGIC + b"\x01")
        for block in packed:
            stream.write(np.ascontiguousarray(block).tobytes())
    return bed
