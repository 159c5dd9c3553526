"""`grm`: the genomic relationship matrix; `Relationship`: the matrix with its samples."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ranef import arguments
from ranef.display.answer import Answer
from ranef.display.columns import Column, Fixed, Listing
from ranef.display.numbers import count as counted
from ranef.display.progress import Ticker
from ranef.elsewhere import explained, explained_methods
from ranef.errors import DataError, ModelError
from ranef.fields.gwas.arrays import open_genotypes
from ranef.fields.gwas.components import Components, components
from ranef.fields.gwas.genotypes import Chosen, Genotypes, Samples
from ranef.fields.gwas.kin import (
    SparseRelationship,
    cut_dense,
    is_sparse_file,
    read_sparse,
    sparse_prefix,
)
from ranef.fields.gwas.matrices import read_matrix, write_matrix
from ranef.fields.gwas.memory import check_forecast
from ranef.fields.gwas.quality import OK, Limits, judge
from ranef.formula.labels import list_text
from ranef.solve.resources import available_cores, available_memory, in_threads, one_blas_thread

__all__ = ["Relationship", "build", "grm", "pca", "read_grm", "read_kind", "rows_of"]

Floats = NDArray[np.float64]

KINDS = ("centred", "standardised")
BLOCK = 1024
SHARE_OF_MEMORY = 0.3


@explained_methods
@dataclass(frozen=True, eq=False, repr=False)
class Relationship(Answer):
    """How alike the genotypes of samples are; `grm` and `read_grm` make it.

    Attributes
    ----------
    matrix : (N, N) array
    fid, iid : tuple of str
        Of its rows.
    n_variants : int
    kind : str
        ``"centred"``, ``"standardised"``, ``"alpha = ..."`` or ``"read"``.
    chromosomes : dict of str to int
        Variants of each chromosome.
    library : str

    Examples
    --------
    >>> from ranef import gwas
    >>> study = gwas.simulate(n=60, m=300, rng=1)
    >>> K = gwas.grm(study.genotypes)
    >>> K.matrix.shape, K.without("1").n_variants < K.n_variants
    ((60, 60), True)
    """

    matrix: Floats
    fid: tuple[str, ...]
    iid: tuple[str, ...]
    n_variants: int
    kind: str
    chromosomes: dict[str, int]
    library: str
    part: Callable[[str], Floats] | None = None

    def __len__(self) -> int:
        return len(self.iid)

    @property
    def ids(self) -> tuple[tuple[str, str], ...]:
        """FID and IID of each row."""
        return tuple(zip(self.fid, self.iid, strict=True))

    @property
    def labels(self) -> tuple[str, ...]:
        """IID of each row: the levels of a kernel, ``kernel(1 | IID, K)``."""
        return self.iid

    def relationship(self, individuals: Sequence[Any]) -> Floats:
        """Return the matrix of some samples, (q, q), in their order, named by IID."""
        place = {name: k for k, name in enumerate(self.iid)}
        if len(place) < len(self.iid):
            twice = next(name for name, k in Counter(self.iid).items() if k > 1)
            raise DataError(
                f"the relationship has the IID {twice!r} twice, so that an IID alone names nobody; "
                "give samples of different families different IIDs"
            )
        rows = [place[str(name)] for name in individuals]
        return np.ascontiguousarray(self.matrix[np.ix_(rows, rows)])

    def without(self, chromosome: str) -> Relationship:
        """Return the relationship by all chromosomes but one.

        Examples
        --------
        >>> from ranef import gwas
        >>> K = gwas.grm(gwas.simulate(n=40, m=220, rng=1).genotypes)
        >>> K.without("22").chromosomes.keys() == K.chromosomes.keys() - {"22"}
        True
        """
        chromosome = str(chromosome)
        if self.part is None:
            raise ModelError(
                "this relationship was read as a whole and has no parts by chromosome; make it "
                "with gwas.grm"
            )
        if chromosome not in self.chromosomes:
            raise ModelError(
                f"the relationship has no variant of chromosome {chromosome!r}; it has "
                f"{list_text(list(self.chromosomes))}"
            )
        left = self.n_variants - self.chromosomes[chromosome]
        if not left:
            raise ModelError(
                f"all variants of the relationship are on chromosome {chromosome!r}: nothing is "
                "left without it"
            )
        matrix = (self.matrix * self.n_variants - self.part(chromosome)) / left
        others = {c: k for c, k in self.chromosomes.items() if c != chromosome}
        return replace(self, matrix=matrix, n_variants=left, chromosomes=others, part=None)

    def save(self, path: str | PathLike[str], *, format: str = "gcta") -> Path:
        """Write the matrix.

        Parameters
        ----------
        path : path-like
            The prefix of the files.
        format : {"gcta", "gemma", "plink2"}
            ``.grm.bin``, ``.grm.N.bin`` and ``.grm.id`` (single precision, as GCTA has it);
            ``.cXX.txt`` (or ``.sXX.txt``), which has no names; ``.rel.bin`` and ``.rel.id``.

        Returns
        -------
        pathlib.Path
            Of the matrix.
        """
        return write_matrix(
            self.matrix, self.ids, self.n_variants, self.kind, arguments.path(path), format
        )

    def sparse(self, cut: float = 0.05) -> SparseRelationship:
        """Return the relationships of close kin alone, all below `cut` of the mean diagonal zero.

        Examples
        --------
        >>> from ranef import gwas
        >>> K = gwas.grm(gwas.simulate(n=60, m=3000, rng=1).genotypes)
        >>> K.sparse(0.2).n_pairs
        108
        """
        matrix, level = cut_dense(self.matrix, cut)
        return SparseRelationship(matrix, self.fid, self.iid, self.n_variants, level, self.library)

    def pca(self, n: int = 10) -> Components:
        """Return the leading principal components of the samples.

        Examples
        --------
        >>> from ranef import gwas
        >>> K = gwas.grm(gwas.simulate(n=40, m=220, rng=1).genotypes)
        >>> K.pca(2).tidy().columns.tolist()
        ['FID', 'IID', 'PC1', 'PC2']
        """
        return components(self.matrix, self.fid, self.iid, arguments.count("n", n), self.library)

    # --- how it is said

    @property
    def title(self) -> str:
        return f"Genomic relationship of {counted(len(self), 'sample')}"

    def tables(self) -> tuple[Listing, ...]:
        places = np.diag(self.matrix)
        columns = (
            Column("FID", list(self.fid)),
            Column("IID", list(self.iid)),
            Column("diagonal", places, Fixed(4)),
        )
        return (Listing("samples", columns, "Diagonal of the matrix", labels=2),)

    def body(self) -> Any:
        from ranef.display.page import Paragraph

        yield Paragraph(self.sentences())

    def sentences(self) -> tuple[str, ...]:
        said = f"{self.kind} matrix of {counted(self.n_variants, 'variant')}"
        if self.chromosomes:
            said += f" on {counted(len(self.chromosomes), 'chromosome')}"
        diagonal = np.diag(self.matrix)
        upper = self.matrix[np.triu_indices(len(self), 1)] if len(self) < 4000 else np.zeros(1)
        return (
            f"{said[0].upper()}{said[1:]}.",
            f"Its diagonal has the mean {diagonal.mean():.4f}, from {diagonal.min():.4f} to "
            f"{diagonal.max():.4f}; "
            + (
                f"the largest value off it is {upper.max():.4f}."
                if len(upper) and len(self) < 4000
                else "its other values were not looked at."
            ),
        )


@explained
def grm(
    genotypes: Any,
    *,
    kind: str = "centred",
    alpha: float | None = None,
    min_maf: float = 0.01,
    max_missing: float = 0.05,
    n_jobs: int | None = None,
    memory: float | str | None = None,
    progress: bool | None = None,
) -> Relationship:
    """Return the genomic relationship matrix of samples.

    K = X X' / m over the m variants with at least `min_maf`, at most `max_missing` missing and
    more than one genotype, X the centred copies of the effect allele, a missing one at the mean.

    Parameters
    ----------
    genotypes : path or Genotypes
        A file (see `read_genotypes`), or what `from_array` returns.
    kind : {"centred", "standardised"}
        Copies as they are, or each variant divided by its standard deviation (GEMMA's ``-gk 1``
        and ``-gk 2``).
    alpha : float, optional
        Instead of `kind`: weights (2 p (1 - p))^alpha; 0 is centred, -1 GCTA's.
    min_maf, max_missing : float
    n_jobs : int, optional
        Threads; all that this process may use.
    memory : float or str, optional
        The most memory, in GB or as ``"8GB"``; what is there by default. Checked before the
        matrix is made.
    progress : bool, optional
        Show a progress bar: always, never, or (None) where a person looks.

    Returns
    -------
    Relationship
        ``matrix``, ``ids``, ``without(chromosome)``, ``save(path)``, ``pca()``; it is a kernel of
        `ranef.lmm` too: ``kernel(1 | IID, K)`` with ``kernels={"K": K}``.

    Examples
    --------
    >>> from ranef import gwas
    >>> K = gwas.grm(gwas.simulate(n=60, m=300, rng=1).genotypes)
    >>> bool(abs(K.matrix.sum()) < 1e-8)
    True
    """
    source = open_genotypes(genotypes)
    everyone = Chosen.of(source.samples, np.arange(len(source.samples)))
    name, weights = read_kind(kind, alpha)
    limits = Limits.read(source.calls, min_maf=min_maf, max_missing=max_missing)
    jobs, shown = available_cores(n_jobs), arguments.optional_flag("progress", progress)
    forecast = matrix_memory(len(everyone), jobs)
    what = f"the relationship of {len(everyone):,} samples"
    check_forecast(memory, forecast, what, "use fewer threads (n_jobs), or gwas.sparse_grm")
    return build(source, everyone, everyone, name, weights, limits, jobs, shown)


def matrix_memory(n: int, jobs: int) -> float:
    """Bytes that a relationship takes while it is made: sums, and the products of each thread."""
    return 8.0 * n * (3.0 * n + jobs * (n + 2.0 * BLOCK))


def read_kind(kind: Any, alpha: Any = None) -> tuple[str, float | None]:
    """Return how a matrix is called, and its power of 2 p (1 - p); None for standardised."""
    kind = arguments.choice("kind", kind, KINDS)
    if alpha is None:
        return kind, (0.0 if kind == "centred" else None)
    power = arguments.number("alpha", alpha)
    if kind != "centred" or not -5.0 <= power <= 5.0:
        raise ModelError("alpha is a number from -5 to 5 in place of kind; give one of the two")
    return f"alpha = {power:g}", power


def build(
    source: Genotypes,
    whole: Chosen,
    judged: Chosen,
    kind: str,
    power: float | None,
    limits: Limits,
    jobs: int,
    shown: bool | None = False,
) -> Relationship:
    """Sum the products of variants, chromosome by chromosome.

    whole : samples of the matrix; judged : samples whose genotypes say which variants enter;
    shown : whether there is a progress bar.
    """
    names = source.variants.chromosomes
    keep = _keeps_parts(len(whole), len(names))
    total = np.zeros((len(whole), len(whole)))
    parts: dict[str, Floats] = {}
    entered: dict[str, int] = {}
    what = f"relationship ({matrix_memory(len(whole), jobs) / 1e9:.2g} GB)"
    with Ticker(len(source.variants), what, shown, unit=" variants") as advance:
        for name in names:
            part, used = _sum_of(source, name, whole, judged, power, limits, jobs, advance)
            if used:
                total += part
                entered[name] = used
                if keep:
                    parts[name] = part
    m = sum(entered.values())
    if not m:
        raise DataError(
            f"no variant of {source.name} has a minor allele frequency of {limits.min_maf:g} or "
            f"more and at most {limits.max_missing:g} missing: there is nothing to make a "
            "relationship of"
        )
    total /= m

    def part_of(name: str) -> Floats:
        if name in parts:
            return parts[name]
        return _sum_of(source, name, whole, judged, power, limits, jobs)[0]

    fid = tuple(source.samples.fid[k] for k in whole.places)
    iid = tuple(source.samples.iid[k] for k in whole.places)
    return Relationship(total, fid, iid, m, kind, entered, "pandas", part_of)


def _keeps_parts(n: int, chromosomes: int) -> bool:
    free = available_memory()
    return free is None or 8.0 * n * n * (chromosomes + 2) < SHARE_OF_MEMORY * free


def _sum_of(
    source: Genotypes,
    chromosome: str,
    whole: Chosen,
    judged: Chosen,
    power: float | None,
    limits: Limits,
    jobs: int,
    advance: Callable[[int], object] = int,
) -> tuple[Floats, int]:
    """Sum of x x' over the variants of a chromosome that enter, and how many they are."""
    rows = np.flatnonzero(source.variants.chromosome == chromosome)
    stretches = [rows[k : k + BLOCK] for k in range(0, len(rows), BLOCK)]

    def products(stretch: NDArray[np.intp]) -> tuple[Floats, int, int]:
        X = _entering(source, stretch, whole, judged, power, limits)
        return X.T @ X, len(X), len(stretch)

    out, used = np.zeros((len(whole), len(whole))), 0
    with one_blas_thread():
        for part, count, seen in _few_at_a_time(products, stretches, jobs):
            out += part
            used += count
            advance(seen)
    return out, used


def _few_at_a_time(work: Any, items: Sequence[Any], jobs: int) -> Iterator[Any]:
    """Answers in order, no more of them in memory than are at work."""
    for k in range(0, len(items), jobs):
        yield from in_threads(work, items[k : k + jobs], jobs)


def _entering(
    source: Genotypes,
    rows: NDArray[np.intp],
    whole: Chosen,
    judged: Chosen,
    power: float | None,
    limits: Limits,
) -> Floats:
    """The weighted rows of a stretch of variants, (b, N)."""
    contiguous = rows[-1] - rows[0] + 1 == len(rows)
    block = source.read(int(rows[0]), int(rows[-1]) + 1) if contiguous else source.take(rows)
    tally = block.tally(whole, "additive")
    apart = judged is not whole
    good = judge(block.tally(judged, "additive") if apart else tally, limits) == OK
    if apart:
        good &= tally.levels > 1
    chosen = np.flatnonzero(good)
    X: Floats = block.coded(chosen, whole, tally, centred=True, single=False)
    if power is None:
        X /= np.sqrt(np.mean(X * X, axis=1))[:, None]
    elif power:
        p = tally.frequency[chosen]
        X *= ((2.0 * p * (1.0 - p)) ** (0.5 * power))[:, None]
    return X


@explained
def read_grm(
    path: str | PathLike[str], *, samples: Any = None
) -> Relationship | SparseRelationship:
    """Read a relationship matrix.

    Parameters
    ----------
    path : path-like
        GCTA: the prefix, or ``.grm.bin``, with ``.grm.id`` beside it; the sparse ``.grm.sp`` gives
        a `SparseRelationship`. plink2 (and plink 1.9): a
        square ``.rel`` (text, perhaps ``.rel.bin``, of double or single precision) with its
        ``.rel.id``. GEMMA: ``.cXX.txt`` or ``.sXX.txt``, which has no names: `samples` gives them.
    samples : path or sequence of str, optional
        Names of the rows of a matrix without any: a .fam, or IIDs.

    Returns
    -------
    Relationship or SparseRelationship

    Examples
    --------
    >>> import tempfile
    >>> from ranef import gwas
    >>> K = gwas.grm(gwas.simulate(n=30, m=200, rng=1).genotypes)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     read = gwas.read_grm(K.save(f"{folder}/K", format="plink2"))
    >>> bool((read.matrix == K.matrix).all())
    True
    """
    given = arguments.path(path)
    if is_sparse_file(given):
        return read_sparse(sparse_prefix(given))
    matrix, ids, m = read_matrix(given, samples)
    fid, iid = zip(*ids, strict=True)
    return Relationship(matrix, tuple(fid), tuple(iid), m, "read", {}, "pandas")


def rows_of(
    relationship: Relationship | SparseRelationship, samples: Samples, places: NDArray[np.int32]
) -> Any:
    """Return the matrix of some samples, found by FID and IID, or by IID alone."""
    wanted = [(samples.fid[k], samples.iid[k]) for k in places]
    pairs = {pair: k for k, pair in enumerate(relationship.ids)}
    single: dict[str, int] = {name: k for k, name in enumerate(relationship.iid)}
    if len(pairs) < len(relationship):
        twice = next(p for p, k in Counter(relationship.ids).items() if k > 1)
        raise DataError(
            f"the relationship names the sample {twice[1]!r} twice; leave one of its rows out"
        )
    whole = len(single) == len(relationship)
    found = [pairs.get(pair, single.get(pair[1], -1) if whole else -1) for pair in wanted]
    absent = [pair[1] for pair, k in zip(wanted, found, strict=True) if k < 0]
    if absent:
        raise DataError(
            f"the relationship has no row for {len(absent):,} of {len(wanted):,} analysed samples: "
            f"{list_text(absent)}; make it of all samples, or leave them out with keep="
        )
    if isinstance(relationship, SparseRelationship):
        return relationship.matrix[found][:, found]
    return np.ascontiguousarray(relationship.matrix[np.ix_(found, found)])


@explained
def pca(
    genotypes: Any,
    *,
    n: int = 10,
    min_maf: float = 0.01,
    max_missing: float = 0.05,
    n_jobs: int | None = None,
    memory: float | str | None = None,
    progress: bool | None = None,
) -> Components:
    """Return the leading principal components of samples: of their standardised relationship.

    Parameters
    ----------
    genotypes : path or Genotypes
    n : int
    min_maf, max_missing, n_jobs, memory, progress
        As in `grm`.

    Returns
    -------
    Components
        ``tidy()``: ``FID, IID, PC1, ...``; ``eigenvalues``, ``share``. Components stand in a scan
        as covariates: ``covariates=pca.tidy()``.

    Examples
    --------
    >>> from ranef import gwas
    >>> gwas.pca(gwas.simulate(n=40, m=220, rng=1).genotypes, n=2).scores.shape
    (40, 2)
    """
    n = arguments.count("n", n)
    K = grm(
        genotypes, kind="standardised", min_maf=min_maf, max_missing=max_missing, n_jobs=n_jobs,
        memory=memory, progress=progress,
    )  # fmt: skip
    return K.pca(n)
