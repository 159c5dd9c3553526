"""BIMBAM mean genotypes: a line a variant, its name, two alleles, and a number a sample."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ranef import arguments
from ranef.errors import DataError, FileError, ModelError
from ranef.fields.gwas.dosages import Dosages
from ranef.fields.gwas.extras import beside, existing, samples_given, variants_of
from ranef.fields.gwas.genotypes import Genotypes, Packed
from ranef.fields.gwas.plink import read_text_lines
from ranef.fields.gwas.spool import Spool
from ranef.solve.room import check_room, room

__all__ = ["BIMBAM_ENDINGS", "read_bimbam"]

BIMBAM_ENDINGS = (".geno.txt.gz", ".geno.txt", ".geno.gz", ".geno", ".bimbam.gz", ".bimbam")
ANNOTATIONS = (".anno.txt", ".anno", ".snps.txt", ".snp.txt")
MISSING = ("NA", "na", "NaN", "nan", "?", "-9")
BYTES_OF_TEXT = 40
NO_CHROMOSOME, NO_POSITION = "0", -1


def read_bimbam(
    given: str | PathLike[str], samples: Any = None, annotation: Any = None
) -> Genotypes:
    """Return the genotypes of a file of mean genotypes; the effect is that of its first allele.

    Parameters
    ----------
    given : path
        Perhaps compressed by gzip.
    samples : optional
        Names of the samples; without it a .fam or .psam beside the file.
    annotation : path, optional
        Lines of variant, position, chromosome; without it an .anno.txt beside the file.
    """
    path = existing(given, BIMBAM_ENDINGS)
    ending = next((e for e in BIMBAM_ENDINGS if path.name.lower().endswith(e)), "")
    ids, effect, other = [], [], []
    spool: Spool | None = None
    for number, line in _lines(path):
        name, first, second, values = _parsed(line, number, path)
        spool = Spool(len(values), False) if spool is None else spool
        if len(values) != spool.n:
            raise DataError(
                f"line {number} of {str(path)!r} has {len(values):,} genotypes; the first line "
                f"has {spool.n:,}"
            )
        ids.append(name)
        effect.append(first)
        other.append(second)
        spool.add(values)
    if spool is None:
        raise DataError(f"{str(path)!r} holds no variants")
    who = samples if samples is not None else beside(path, ending, (".fam", ".psam"))
    if who is None:
        raise ModelError(
            f"{str(path)!r} does not name its samples; give gwas.read_genotypes(path, samples=...)"
        )
    chromosome, position = _placed(annotation or beside(path, ending, ANNOTATIONS), ids)
    variants = variants_of(chromosome, position, ids, effect, other, np.zeros(len(ids), dtype=bool))
    known = samples_given(who, spool.n, path)
    fractional = spool.dosages()
    if spool.whole:
        return Packed(str(path), known, variants, spool.packed())
    return Dosages(str(path), known, variants, fractional)


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    try:
        with open(path, "rb") as plain:
            zipped = plain.read(2) == b"\x1f\x8b"
        opened: Any = gzip.open(path, "rb") if zipped else open(path, "rb")  # noqa: SIM115
        with opened as stream:
            for number, content in enumerate(_bounded(stream, path), 1):
                text = content.decode("utf-8-sig" if number == 1 else "utf-8").strip()
                if text:
                    yield number, text
    except UnicodeDecodeError:
        raise DataError(f"{str(path)!r} is no text in UTF-8: is this the right file?") from None
    except EOFError:
        raise DataError(
            f"{str(path)!r} is truncated: its compressed content does not end"
        ) from None
    except FileError:
        raise
    except (OSError, zlib.error) as error:
        raise FileError(
            f"cannot read {str(path)!r}: {getattr(error, 'strerror', None) or error}"
        ) from error


def _bounded(stream: Any, path: Path) -> Iterator[bytes]:
    """Hand on lines, unless one of them takes more memory than it may."""
    most = int(room()[0] / BYTES_OF_TEXT)
    while content := stream.readline(most):
        if len(content) == most:
            check_room(float(BYTES_OF_TEXT) * (most + 1), f"a line of {str(path)!r}")
        yield content


def _parsed(line: str, number: int, path: Path) -> tuple[str, str, str, NDArray[np.float64]]:
    cells = line.replace(",", " ").split()
    if len(cells) < 4:
        raise DataError(
            f"line {number} of {str(path)!r} has {len(cells)} columns; it takes a name, two "
            "alleles, and a number for each sample"
        )
    try:
        values = np.array(cells[3:], dtype=np.float64)
    except ValueError:
        values = _with_marks(cells[3:], number, path)
    with np.errstate(invalid="ignore"):
        values[values == -9.0] = np.nan
        wrong = np.isinf(values) | (values < 0) | (values > 2)
    if wrong.any():
        k = int(np.argmax(wrong))
        raise DataError(
            f"line {number} of {str(path)!r} has the value {cells[3 + k]} for sample {k + 1}; "
            "copies of an allele go from 0 to 2"
        )
    return cells[0], cells[1], cells[2], values


def _with_marks(cells: list[str], number: int, path: Path) -> NDArray[np.float64]:
    try:
        return np.array([np.nan if c in MISSING else float(c) for c in cells])
    except ValueError as error:
        raise DataError(
            f"line {number} of {str(path)!r} holds what is no number: {error}"
        ) from None


def _placed(annotation: Any, ids: list[str]) -> tuple[list[str], NDArray[np.int64]]:
    chromosome, position = [NO_CHROMOSOME] * len(ids), np.full(len(ids), NO_POSITION)
    if annotation is None:
        return chromosome, position
    path = arguments.path(annotation)
    known = {}
    for number, line in enumerate(read_text_lines(path), 1):
        cells = line.replace(",", " ").split()
        if not cells:
            continue
        if len(cells) < 3:
            raise DataError(
                f"line {number} of {str(path)!r} has {len(cells)} columns; it takes variant, "
                "position, chromosome"
            )
        where = NO_POSITION if cells[1] in MISSING else cells[1]
        try:
            known[cells[0]] = (cells[2], int(where))
        except ValueError:
            raise DataError(
                f"line {number} of {str(path)!r} has the position {cells[1]!r}, which is no whole "
                "number"
            ) from None
    if not any(name in known for name in ids):
        raise DataError(f"{str(path)!r} names no variant of the genotypes, such as {ids[0]!r}")
    for k, name in enumerate(ids):
        chromosome[k], position[k] = known.get(name, (NO_CHROMOSOME, NO_POSITION))
    return chromosome, position
