"""Files of relationship matrices: GCTA's, plink2's and GEMMA's."""

from __future__ import annotations

from collections.abc import Sequence
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ranef import arguments
from ranef.display.files import write_atomically
from ranef.errors import DataError, FileError, ModelError
from ranef.fields.gwas.genotypes import Samples
from ranef.fields.gwas.matching import split_rows
from ranef.fields.gwas.plink import line_of, read_fam, read_text_lines

__all__ = ["check_matrix", "read_matrix", "write_matrix"]

Floats = NDArray[np.float64]

FORMATS = ("gcta", "gemma", "plink2")
SYMMETRY = 1e-6


Ids = list[tuple[str, str]]


def read_matrix(given: Path, samples: Any, optional: bool = False) -> tuple[Floats, Ids, int]:
    """Return a matrix, FID and IID of its rows, and its variants (0 where the file tells not).

    optional : whether `samples` may be of no use, as the file has names of its own.
    """
    name = given.name
    if name.endswith(".grm.bin"):
        matrix, ids, m = _read_gcta(given.with_name(name[: -len(".grm.bin")]))
    elif given.with_name(name + ".grm.bin").is_file():
        matrix, ids, m = _read_gcta(given)
    elif not given.is_file():
        raise FileError(f"there is no file {str(given)!r}, nor {str(given) + '.grm.bin'!r}")
    elif name.endswith((".rel.bin", ".rel")):
        matrix, ids, m = _read_rel(given)
    else:
        matrix, ids, m = _square(_read_text(given), given), None, 0
    if ids is None:
        ids = _names(samples, len(matrix), given)
    elif samples is not None and not optional:
        raise ModelError(f"{str(given)!r} comes with names of its own; leave samples= out")
    check_matrix(matrix, str(given))
    return matrix, ids, m


def _read_gcta(prefix: Path) -> tuple[Floats, Ids, int]:
    ids = _read_ids(prefix.with_name(prefix.name + ".grm.id"))
    path = prefix.with_name(prefix.name + ".grm.bin")
    values = _bytes(path, np.dtype("<f4"))
    n = len(ids)
    if len(values) != n * (n + 1) // 2:
        raise DataError(
            f"{str(path)!r} holds {len(values):,} values; a triangle of {n:,} samples (.grm.id) "
            f"has {n * (n + 1) // 2:,}"
        )
    matrix = np.zeros((n, n))
    lower = np.tril_indices(n)
    matrix[lower] = values
    matrix.T[lower] = values
    counts = prefix.with_name(prefix.name + ".grm.N.bin")
    m = int(_bytes(counts, np.dtype("<f4"))[0]) if counts.is_file() else 0
    return matrix, ids, m


def _read_rel(path: Path) -> tuple[Floats, Ids, int]:
    stem = path.name.removesuffix(".bin")
    ids = _read_ids(path.with_name(stem + ".id"))
    n = len(ids)
    if not path.name.endswith(".bin"):
        return _square(_read_text(path), path, n), ids, 0
    size = path.stat().st_size
    if size not in (8 * n * n, 4 * n * n):
        raise DataError(
            f"{str(path)!r} has {size:,} bytes; a square of {n:,} samples takes {8 * n * n:,} "
            f"(or {4 * n * n:,} in single precision): is it a triangle? --make-rel square"
        )
    values = _bytes(path, np.dtype("<f8" if size == 8 * n * n else "<f4"))
    return values.astype(np.float64).reshape(n, n), ids, 0


def _bytes(path: Path, kind: Any) -> NDArray[Any]:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise FileError(f"cannot read {str(path)!r}: {error.strerror or error}") from error
    if len(content) % kind.itemsize:
        raise DataError(f"{str(path)!r} is truncated: it ends within a number")
    return np.frombuffer(content, dtype=kind)


def _read_ids(path: Path) -> Ids:
    rows = split_rows(read_text_lines(path))
    if rows and rows[0][0].startswith("#"):
        rows = rows[1:]
    if not rows:
        raise DataError(f"{str(path)!r} names no samples")
    return [(row[0], row[1]) if len(row) > 1 else ("0", row[0]) for row in rows]


def _read_text(path: Path) -> list[list[str]]:
    return [line.split() for line in read_text_lines(path) if line.strip()]


def _square(rows: list[list[str]], path: Path, n: int | None = None) -> Floats:
    n = len(rows) if n is None else n
    wrong = next((k for k, row in enumerate(rows) if len(row) != n), None)
    if len(rows) != n or wrong is not None:
        what = f"it has {len(rows):,} lines"
        if wrong is not None:
            what = f"line {line_of(path, wrong)} has {len(rows[wrong])} numbers"
        raise DataError(f"{str(path)!r} is no square of {n:,} samples: {what}")
    try:
        return np.array(rows, dtype=np.float64)
    except ValueError as error:
        raise DataError(f"{str(path)!r} holds what is no number: {error}") from None


def _names(samples: Any, n: int, path: Path) -> Ids:
    if samples is None:
        raise ModelError(
            f"{str(path)!r} has no names of samples; give samples=, the .fam that the matrix was "
            "made from"
        )
    if isinstance(samples, (str, PathLike, Samples)):
        own = samples if isinstance(samples, Samples) else read_fam(arguments.path(samples))
        ids = list(zip(own.fid, own.iid, strict=True))
    else:
        ids = [("0", str(name)) for name in samples]
    if len(ids) != n:
        raise DataError(f"{str(path)!r} has {n:,} rows and samples= names {len(ids):,}")
    return ids


def check_matrix(K: Floats, name: str) -> None:
    """Refuse a matrix that is no relationship: holes, no symmetry."""
    bad = ~np.isfinite(K)
    if bad.any():
        i, j = (int(k[0]) for k in np.nonzero(bad))
        raise DataError(
            f"the relationship {name} has no finite number in row {i + 1}, column {j + 1} (and "
            f"{int(bad.sum()) - 1:,} other places)"
        )
    gap = np.abs(K - K.T)
    scale = float(np.abs(K).max()) or 1.0
    if gap.max() > SYMMETRY * scale:
        i, j = (int(k) for k in np.unravel_index(int(np.argmax(gap)), gap.shape))
        raise DataError(
            f"the relationship {name} is not symmetric: {K[i, j]:.6g} in row {i + 1}, column "
            f"{j + 1}, and {K[j, i]:.6g} the other way round"
        )


def write_matrix(
    K: Floats, ids: Sequence[tuple[str, str]], m: int, kind: str, prefix: Path, format: Any
) -> Path:
    """Write a matrix in another program's format."""
    format = arguments.choice("format", format, FORMATS)
    names = "".join(f"{f}\t{i}\n" for f, i in ids)

    def beside(suffix: str) -> Path:
        return prefix.with_name(prefix.name + suffix)

    if format == "gcta":
        lower = np.tril_indices(len(K))
        write_atomically(beside(".grm.id"), names)
        counts = np.full(len(lower[0]), m, dtype="<f4")
        write_atomically(beside(".grm.N.bin"), counts.tobytes())
        return write_atomically(beside(".grm.bin"), K[lower].astype("<f4").tobytes())
    if format == "plink2":
        write_atomically(beside(".rel.id"), f"#FID\tIID\n{names}")
        return write_atomically(beside(".rel.bin"), np.ascontiguousarray(K, "<f8").tobytes())
    suffix = ".sXX.txt" if kind == "standardised" else ".cXX.txt"
    lines = ("\t".join(f"{value:.10g}" for value in row) for row in K.tolist())
    return write_atomically(beside(suffix), "\n".join(lines) + "\n")
