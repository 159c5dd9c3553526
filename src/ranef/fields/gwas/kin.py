"""`sparse_grm`, `SparseRelationship`: relationships of close kin alone, all others zero."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations_with_replacement
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ranef import arguments
from ranef.display.answer import Answer
from ranef.display.columns import Column, Fixed, Listing
from ranef.display.files import write_atomically
from ranef.display.numbers import count as counted
from ranef.display.progress import arriving
from ranef.elsewhere import explained, explained_methods
from ranef.errors import DataError, FileError, ModelError
from ranef.fields.gwas.arrays import open_genotypes
from ranef.fields.gwas.genotypes import Block, Chosen, Genotypes, Rows, Tally
from ranef.fields.gwas.kinblocks import blocks_of
from ranef.fields.gwas.matching import split_rows
from ranef.fields.gwas.memory import check_forecast
from ranef.fields.gwas.plink import distinct_samples, line_of, read_text_lines
from ranef.fields.gwas.quality import OK, Limits, judge
from ranef.solve.resources import available_cores, in_threads, one_blas_thread

__all__ = [
    "SparseRelationship",
    "cut_dense",
    "is_sparse_file",
    "read_cut",
    "read_sparse",
    "sparse_grm",
    "sparse_of",
    "sparse_prefix",
]

Floats = NDArray[np.float64]

CUT = 0.05
MOST_VARIANTS = 20_000
MOST_REFINED = 200_000
"""Variants by which pairs are sought, and by which those that are found are measured."""
TILE = 4096
PIECE = 2048
FEWEST_VARIANTS = 1000
BYTES_OF_DOSAGES = 2e9
REFINED_AT_ONCE = 512
PAIRS_AT_ONCE = 4096


@explained_methods
@dataclass(frozen=True, eq=False, repr=False)
class SparseRelationship(Answer):
    """Relationships of close kin; `sparse_grm`, `Relationship.sparse` and `read_grm` make it.

    Attributes
    ----------
    matrix : (N, N) sparse array
        Symmetric, with its diagonal.
    fid, iid : tuple of str
        Of its rows.
    n_variants : int
    cut : float
        Relationships below it, of the mean diagonal, are zero; NaN where a file does not tell.
    library : str

    Examples
    --------
    >>> from ranef import gwas
    >>> study = gwas.simulate(n=60, m=3000, rng=1)
    >>> kin = gwas.sparse_grm(study.genotypes, cut=0.2)
    >>> kin.n_pairs
    108
    """

    matrix: Any
    fid: tuple[str, ...]
    iid: tuple[str, ...]
    n_variants: int
    cut: float
    library: str

    def __len__(self) -> int:
        return len(self.iid)

    @property
    def ids(self) -> tuple[tuple[str, str], ...]:
        """FID and IID of each row."""
        return tuple(zip(self.fid, self.iid, strict=True))

    @property
    def n_pairs(self) -> int:
        """Pairs of kin."""
        return int((self.matrix.nnz - len(self)) // 2)

    def save(self, path: str | PathLike[str]) -> Path:
        """Write GCTA's ``.grm.sp`` (row, column, value; the lower triangle) and ``.grm.id``."""
        prefix = arguments.path(path)
        write_atomically(
            prefix.with_name(prefix.name + ".grm.id"), "".join(f"{f}\t{i}\n" for f, i in self.ids)
        )
        i, j, values = _lower(self.matrix)
        lines = (
            f"{a}\t{b}\t{v:.9g}\n"
            for a, b, v in zip(i.tolist(), j.tolist(), values.tolist(), strict=True)
        )
        return write_atomically(prefix.with_name(prefix.name + ".grm.sp"), "".join(lines))

    # --- how it is said

    @property
    def title(self) -> str:
        return f"Close kin among {counted(len(self), 'sample')}"

    def tidy(self, table: str = "pairs") -> Any:
        """Return the pairs: ``FID1, IID1, FID2, IID2, relationship``."""
        return self.tabled(self.listing(table))

    def tables(self) -> tuple[Listing, ...]:
        i, j, values = _lower(self.matrix)
        off = i != j
        i, j, values = i[off], j[off], values[off]
        columns = (
            Column("FID1", [self.fid[k] for k in j]), Column("IID1", [self.iid[k] for k in j]),
            Column("FID2", [self.fid[k] for k in i]), Column("IID2", [self.iid[k] for k in i]),
            Column("relationship", values, Fixed(4)),
        )  # fmt: skip
        return (Listing("pairs", columns, "Pairs of kin", labels=4),)

    def body(self) -> Any:
        from ranef.display.page import Paragraph

        yield Paragraph(self.sentences())

    def sentences(self) -> tuple[str, ...]:
        blocks = blocks_of(self.matrix)
        alone = sum(len(b) for b in blocks if b.shape[1] == 1)
        above = "" if np.isnan(self.cut) else f" of at least {self.cut:g} of the mean diagonal"
        return (
            f"{counted(self.n_pairs, 'pair')} with a relationship{above}.",
            f"{counted(alone, 'sample')} without kin; the largest block of kin has "
            f"{max(b.shape[1] for b in blocks):,}.",
        )


def _lower(matrix: Any) -> tuple[NDArray[np.intp], NDArray[np.intp], Floats]:
    from scipy.sparse import tril

    low = tril(matrix).tocsr().tocoo()
    return low.row, low.col, low.data


def cut_dense(K: Floats, cut: Any) -> tuple[Any, float]:
    """Return a matrix whose small values are zero, sparse, and the cut."""
    from scipy.sparse import csr_array

    level = read_cut(cut)
    keep = level * float(np.diag(K).mean()) <= K
    np.fill_diagonal(keep, True)
    return csr_array(np.where(keep, K, 0.0)), level


def read_cut(cut: Any) -> float:
    """Check a share of the mean diagonal."""
    level = arguments.number("cut", cut)
    if not 0.0 < level < 1.0:
        raise ModelError(f"cut lies between 0 and 1, a share of the mean diagonal, not {level:g}")
    return float(level)


@explained
def sparse_grm(
    genotypes: Any,
    *,
    cut: float = CUT,
    max_variants: int = MOST_VARIANTS,
    min_maf: float = 0.01,
    max_missing: float = 0.05,
    n_jobs: int | None = None,
    memory: float | str | None = None,
    progress: bool | None = None,
) -> SparseRelationship:
    """Return the relationships of close kin (Jiang et al. 2019), never the whole matrix.

    Parameters
    ----------
    genotypes : path or Genotypes
    cut : float
        Relationships below it are zero; of the standardised matrix, in which first-degree kin
        have 0.5. With fewer variants than some 10,000 chance goes beyond 0.05: raise it.
    max_variants : int
        Variants by which pairs are sought, evenly along the file. Where there are more, the pairs
        that are found are measured again by up to 200,000, and those below the cut left out.
    min_maf, max_missing, n_jobs, memory, progress
        As in `grm`.

    Returns
    -------
    SparseRelationship
        ``matrix``, ``tidy()``, ``save(path)``; `scan`, `null` and `heritability` take it as
        ``relationship=``.

    Examples
    --------
    >>> from ranef import gwas
    >>> kin = gwas.sparse_grm(gwas.simulate(n=60, m=3000, rng=1).genotypes, cut=0.2)
    >>> kin.matrix.shape
    (60, 60)
    """
    source = open_genotypes(genotypes)
    everyone = Chosen.of(source.samples, np.arange(len(source.samples)))
    limits = Limits.read(source.calls, min_maf=min_maf, max_missing=max_missing)
    most = arguments.count("max_variants", max_variants)
    jobs, shown = available_cores(n_jobs), arguments.optional_flag("progress", progress)
    level = read_cut(cut)
    forecast = sparse_memory(source, most, jobs)
    what = f"the search for kin among {len(everyone):,} samples"
    check_forecast(memory, forecast, what, "use fewer threads (n_jobs) or max_variants")
    return sparse_of(source, everyone, level, most, limits, jobs, shown)


def sparse_memory(source: Genotypes, most: int, jobs: int) -> float:
    """Bytes that the search for kin takes: the genotypes, and the tiles of each thread."""
    n, m = len(source.samples), len(source.variants)
    held = 0.25 * n * min(most, m) if source.calls else min(4.0 * n * m, BYTES_OF_DOSAGES)
    side = min(TILE, n)
    refined = 4.0 * n * REFINED_AT_ONCE * 2.0 if m > most else 0.0
    return held + max(jobs * 4.0 * side * (2.0 * side + 4.0 * PIECE), refined)


def sparse_of(
    source: Genotypes,
    chosen: Chosen,
    cut: float,
    most: int,
    limits: Limits,
    jobs: int,
    shown: bool | None = False,
) -> SparseRelationship:
    """Sum products of standardised variants tile by tile of samples, and keep what is large.

    Where the file has more variants than are sought by, pairs that are found are measured by up to
    `MOST_REFINED` of them: in a population of several ancestries many pairs lie near the cut, and
    chance would connect strangers to blocks of thousands.
    """
    from scipy.sparse import coo_array

    pieces, m = _pieces(source, chosen, most, limits)
    if not m:
        raise DataError(
            f"{source.name} has no variant that a relationship could be made of: all vary "
            "less than min_maf=, or are missing more often than max_missing="
        )
    n = len(chosen)
    cuts = [np.arange(k, min(k + TILE, n)) for k in range(0, n, TILE)]
    pairs = list(combinations_with_replacement(range(len(cuts)), 2))

    def tile(pair: tuple[int, int]) -> tuple[Rows, Rows, Floats]:
        a, b = (cuts[k] for k in pair)
        return _tile(pieces, chosen, a, b, m, cut)

    rows, columns, values = [], [], []
    with one_blas_thread():
        tiles = in_threads(tile, pairs, jobs)
        bar = arriving(tiles, len(pairs), "close kin", shown, unit=" tiles of samples")
        for i, j, found in bar:
            rows.append(i)
            columns.append(j)
            values.append(found)
    i, j, found = np.concatenate(rows), np.concatenate(columns), np.concatenate(values)
    if np.count_nonzero(source.variants.kinds == "diploid") > most:
        found, m = _measured(source, chosen, i, j, limits, shown)
        kept = (i == j) | (found >= cut)
        i, j, found = i[kept], j[kept], found[kept]
    off = i != j
    where = (np.concatenate([i, j[off]]), np.concatenate([j, i[off]]))
    matrix = coo_array((np.concatenate([found, found[off]]), where), shape=(n, n)).tocsr()
    fid, iid = (
        tuple(names[k] for k in chosen.places) for names in (source.samples.fid, source.samples.iid)
    )
    return SparseRelationship(matrix, fid, iid, m, cut, "pandas")


def _measured(
    source: Genotypes, chosen: Chosen, i: Rows, j: Rows, limits: Limits, shown: bool | None
) -> tuple[Floats, int]:
    """Relationships of pairs of samples, (P,), by up to `MOST_REFINED` variants; their number."""
    candidates = _evenly(np.flatnonzero(source.variants.kinds == "diploid"), MOST_REFINED)
    starts = range(0, len(candidates), REFINED_AT_ONCE)
    total, m = np.zeros(len(i)), 0
    for k in arriving(
        starts, len(starts), "kin that were found", shown, unit=" blocks of variants"
    ):
        piece = _piece(source, chosen, candidates[k : k + REFINED_AT_ONCE], limits)
        m += len(piece[2])
        everyone = np.arange(len(chosen))
        for x, _ in _standardised([piece], chosen, everyone, everyone):
            by_sample = np.ascontiguousarray(x.T)
            for p in range(0, len(i), PAIRS_AT_ONCE):
                some = slice(p, p + PAIRS_AT_ONCE)
                total[some] += np.einsum("pm,pm->p", by_sample[i[some]], by_sample[j[some]])
    return total / max(m, 1), m


Piece = tuple[Block, Tally, Rows]


def _evenly(candidates: Rows, most: int) -> Rows:
    if len(candidates) <= most:
        return candidates
    return candidates[np.linspace(0, len(candidates) - 1, most).astype(np.intp)]


def _piece(source: Genotypes, chosen: Chosen, variants: Rows, limits: Limits) -> Piece:
    block = source.take(variants)
    tally = block.tally(chosen, "additive")
    return block, tally, np.flatnonzero((judge(tally, limits) == OK) & (tally.levels > 1))


def _pieces(
    source: Genotypes, chosen: Chosen, most: int, limits: Limits
) -> tuple[list[Piece], int]:
    """Blocks of variants evenly along the file, with those of each that enter."""
    candidates = np.flatnonzero(source.variants.kinds == "diploid")
    if not source.calls:
        most = min(most, max(FEWEST_VARIANTS, int(BYTES_OF_DOSAGES / (4 * len(source.samples)))))
    candidates = _evenly(candidates, most)
    pieces = [
        _piece(source, chosen, candidates[k : k + PIECE], limits)
        for k in range(0, len(candidates), PIECE)
    ]
    return pieces, sum(len(good) for _, _, good in pieces)


def _tile(
    pieces: Sequence[Piece], chosen: Chosen, a: Rows, b: Rows, m: int, cut: float
) -> tuple[Rows, Rows, Floats]:
    total = np.zeros((len(a), len(b)), dtype=np.float32)
    for left, right in _standardised(pieces, chosen, a, b):
        total += left.T @ right
    total /= m
    same = a[0] == b[0]
    keep = total >= cut
    if same:
        keep &= np.tri(len(a), k=-1, dtype=bool)
        np.fill_diagonal(keep, True)
    i, j = np.nonzero(keep)
    return a[i], b[j], total[i, j].astype(np.float64)


def _standardised(
    pieces: Sequence[Piece], chosen: Chosen, a: Rows, b: Rows
) -> Iterator[tuple[NDArray[Any], NDArray[Any]]]:
    for block, tally, good in pieces:
        if not len(good):
            continue
        p = tally.frequency[good]
        scale = np.sqrt(2.0 * p * (1.0 - p))[:, None].astype(np.float32)
        sides = []
        for part in (a, b) if a[0] != b[0] else (a,):
            some = Chosen(
                np.ascontiguousarray(chosen.places[part]), np.ascontiguousarray(chosen.groups[part])
            )
            x = block.coded(good, some, tally, centred=True, single=True)
            sides.append(x / scale)
        yield sides[0], sides[-1]


# --- files


def is_sparse_file(path: Path) -> bool:
    """Whether a path names GCTA's sparse matrix: its file, or a prefix that has no other."""
    if path.name.endswith(".grm.sp"):
        return True
    sparse, whole = (path.with_name(path.name + end) for end in (".grm.sp", ".grm.bin"))
    return sparse.is_file() and not whole.is_file()


def sparse_prefix(path: Path) -> Path:
    """The path without its ending."""
    return path.with_name(path.name.removesuffix(".grm.sp"))


def read_sparse(prefix: Path) -> SparseRelationship:
    """Read GCTA's ``.grm.sp`` and ``.grm.id``."""
    from scipy.sparse import coo_array

    path = prefix.with_name(prefix.name + ".grm.sp")
    names = prefix.with_name(prefix.name + ".grm.id")
    if not path.is_file():
        raise FileError(f"there is no file {str(path)!r}")
    rows = split_rows(read_text_lines(names))
    if not rows:
        raise DataError(f"{str(names)!r} names no samples")
    fid, iid = zip(*[(r[0], r[1]) if len(r) > 1 else ("0", r[0]) for r in rows], strict=True)
    distinct_samples(fid, iid, str(names))
    cells = [line.split() for line in read_text_lines(path) if line.strip()]
    wrong = next((k for k, row in enumerate(cells) if len(row) != 3), None)
    if wrong is not None:
        raise DataError(
            f"line {line_of(path, wrong)} of {str(path)!r} has {len(cells[wrong])} columns, not 3 "
            "(two samples by number, and their relationship)"
        )
    n = len(iid)
    try:
        table = np.array(cells, dtype=np.float64).reshape(-1, 3)
    except ValueError as error:
        raise DataError(f"{str(path)!r} holds what is no number: {error}") from None
    i, j = table[:, 0].astype(np.intp), table[:, 1].astype(np.intp)
    if len(i) and (min(i.min(), j.min()) < 0 or max(i.max(), j.max()) >= n):
        raise DataError(f"{str(path)!r} has rows beyond the {n:,} samples of {str(names)!r}")
    if not np.isfinite(table).all():
        raise DataError(f"{str(path)!r} holds values that are not finite")
    off = i != j
    where = (np.concatenate([i, j[off]]), np.concatenate([j, i[off]]))
    if len(set(zip(where[0].tolist(), where[1].tolist(), strict=True))) < len(where[0]):
        raise DataError(f"{str(path)!r} has a pair of samples twice")
    values = np.concatenate([table[:, 2], table[off, 2]])
    matrix = coo_array((values, where), shape=(n, n)).tocsr()
    if (matrix.diagonal() <= 0).any():
        k = int(np.argmin(matrix.diagonal()))
        raise DataError(f"{str(path)!r} has no relationship of {iid[k]!r} with itself")
    return SparseRelationship(matrix, fid, iid, 0, float("nan"), "pandas")
