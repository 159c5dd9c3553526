"""`simulate`: families, structure, linkage and traits, for tests and teaching."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ranef import arguments
from ranef.display.files import write_atomically
from ranef.display.progress import arriving
from ranef.elsewhere import explained
from ranef.errors import ModelError
from ranef.fields.gwas.genotypes import Genotypes, Packed, Samples, Variants, pack
from ranef.fields.gwas.plink import BedFile, write_bed, write_names, write_plink
from ranef.tables import make_table

__all__ = ["Study", "simulate"]

Floats = NDArray[np.float64]

LEAST_FREQUENCY = 0.02
LINKAGE = 0.8
AGE = (45.0, 12.0)
LARGEST_PIECE = 512
VALUES_OF_PIECE = 8_000_000


@dataclass(frozen=True, eq=False)
class Study:
    """A simulated study; `simulate` makes it.

    Attributes
    ----------
    genotypes : Genotypes
    phenotypes : table
        ``FID, IID, trait, sex, age, population``.
    causal : table
        ``variant, effect``: the variants with an effect of their own, per copy.
    """

    genotypes: Genotypes
    phenotypes: Any
    causal: Any

    def save(self, prefix: str | PathLike[str]) -> Path:
        """Write ``.bed``, ``.bim``, ``.fam`` and ``.pheno.tsv``; return the path of the .bed.

        Examples
        --------
        >>> import tempfile
        >>> from ranef import gwas
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     gwas.simulate(n=20, m=50, rng=1).save(f"{folder}/study").name
        'study.bed'
        """
        stem = arguments.path(prefix)
        source = self.genotypes
        if isinstance(source, BedFile) and source.bed.resolve() == _bed_of(stem).resolve():
            return source.bed
        assert isinstance(source, Packed | BedFile)
        _write_table(stem, self.phenotypes)
        m = len(source.variants)
        packed = (
            source.read(k, min(k + LARGEST_PIECE, m)).packed for k in range(0, m, LARGEST_PIECE)
        )
        trait = _texts(self.phenotypes["trait"])
        return write_plink(stem, source.samples, source.variants, packed, trait)


def _bed_of(stem: Path) -> Path:
    return stem.with_name(stem.name + ".bed")


def _write_table(stem: Path, table: Any) -> None:
    text = table.to_csv(sep="\t", index=False, na_rep="NA", lineterminator="\n")
    write_atomically(stem.with_name(stem.name + ".pheno.tsv"), text)


def _texts(trait: Any) -> list[str]:
    return [f"{value:.10g}" for value in trait]


@explained
def simulate(
    *,
    n: int,
    m: int,
    family_size: int = 5,
    populations: int = 1,
    fst: float = 0.02,
    h2: float = 0.5,
    family: float = 0.0,
    structure: float = 0.0,
    causal: int = 10,
    causal_h2: float = 0.1,
    missing: float = 0.002,
    chromosomes: int = 22,
    out: str | PathLike[str] | None = None,
    progress: bool | None = None,
    rng: Any = None,
) -> Study:
    """Simulate genotypes of families in populations, and a trait.

    Founders of each population carry haplotypes with linkage between neighbours; children get a
    recombined one of each parent. The trait is sex and age, a polygenic part of all variants,
    some variants with effects of their own, what a family shares, what a population shares, and
    noise.

    Parameters
    ----------
    n, m : int
        Samples and variants.
    family_size : int
        Two parents and their children; 1 for unrelated samples.
    populations : int
    fst : float
        Variance of frequencies between populations, over p (1 - p) (Balding & Nichols 1995).
    h2, family, structure, causal_h2 : float
        Shares of the variance: polygenic, of families, of populations, of `causal` variants.
    causal : int
        Variants with effects of their own.
    missing : float
        Share of calls that are missing.
    chromosomes : int
    out : path, optional
        Prefix of files to write to, piece by piece, as `Study.save` does: for studies larger than
        the memory. The study's genotypes are then those of the file.
    progress : bool, optional
    rng : int or numpy.random.Generator, optional

    Returns
    -------
    Study
        ``genotypes``, ``phenotypes``, ``causal``, ``save(prefix)``.

    Examples
    --------
    >>> from ranef import gwas
    >>> gwas.simulate(n=50, m=200, rng=1).phenotypes.columns.tolist()
    ['FID', 'IID', 'trait', 'sex', 'age', 'population']
    """
    n, m = arguments.count("n", n), arguments.count("m", m)
    size = arguments.count("family_size", family_size)
    regions = arguments.count("populations", populations)
    pieces = min(arguments.count("chromosomes", chromosomes), m)
    shares = {"h2": h2, "family": family, "structure": structure, "causal_h2": causal_h2}
    for name, value in {**shares, "fst": fst, "missing": missing}.items():
        if not 0.0 <= arguments.number(name, value) < 1.0:
            raise ModelError(f"{name} must lie between 0 and 1, not {value:g}")
    if sum(shares.values()) >= 1.0:
        raise ModelError("h2, family, structure and causal_h2 are shares of one variance: too much")
    if isinstance(causal, bool) or not isinstance(causal, int) or not 0 <= causal <= m:
        raise ModelError(f"causal is a number of variants from 0 to {m:,}, not {causal!r}")
    draw = arguments.generator(rng)
    home = np.repeat(np.arange(-(-n // size)), size)[:n]
    region = home % regions
    chromosome = np.sort(np.arange(m) % pieces)
    sex = draw.integers(1, 3, n)
    samples = Samples(
        tuple(f"F{k + 1:05d}" for k in home), tuple(f"I{k + 1:06d}" for k in range(n)),
        sex.astype(np.int32),
    )  # fmt: skip
    variants = _variants(draw, chromosome, pieces)
    effects, where = _effects(draw, m, causal)
    sums = Sums(np.zeros(n), np.zeros((causal, n)), where)
    families = Families(n, size, np.arange(home[-1] + 1) % regions)
    packed = arriving(
        _packed(draw, families, chromosome, _frequencies(draw, m, regions, fst), missing, sums), m,
        "simulating", progress, unit=" variants", size=len,
    )  # fmt: skip
    source: Genotypes
    if out is None:
        source = Packed("a simulated study", samples, variants, np.concatenate(list(packed)))
    else:
        stem = arguments.path(out)
        write_bed(_bed_of(stem), packed)
    age = draw.normal(*AGE, n).round(1)
    trait = _trait(draw, sums, home, region, sex, age, effects, shares)
    table = make_table(
        {"FID": list(samples.fid), "IID": list(samples.iid), "trait": trait,
         "sex": np.where(sex == 1, "male", "female").tolist(), "age": age,
         "population": (region + 1).astype(str).tolist()},
        "pandas",
    )  # fmt: skip
    if out is not None:
        write_names(stem, samples, variants, _texts(trait))
        _write_table(stem, table)
        source = BedFile(stem)
    own = make_table({"variant": variants.id[where].tolist(), "effect": effects}, "pandas")
    return Study(source, table, own)


def _variants(draw: np.random.Generator, chromosome: NDArray[np.intp], pieces: int) -> Variants:
    m = len(chromosome)
    ids = np.array([f"rs{k + 1}" for k in range(m)], dtype=object)
    position = np.concatenate([
        np.sort(draw.choice(np.arange(1, 100 * max(k, 1) + 1), k, replace=False)) * 1000
        for k in np.bincount(chromosome, minlength=pieces)
    ])  # fmt: skip
    letters = np.array(["A", "C"], dtype=object)
    return Variants(
        (chromosome + 1).astype(str).astype(object), ids, position.astype(np.int64),
        np.repeat(letters[:1], m), np.repeat(letters[1:], m),
    )  # fmt: skip


def _frequencies(draw: np.random.Generator, m: int, regions: int, fst: float) -> Floats:
    """Frequencies of the first allele in each population, (regions, m)."""
    ancestral = draw.uniform(0.05, 0.5, m)
    if fst > 0 and regions > 1:
        spread = (1.0 - fst) / fst
        p = draw.beta(ancestral * spread, (1.0 - ancestral) * spread, (regions, m))
    else:
        p = np.tile(ancestral, (regions, 1))
    return np.clip(p, LEAST_FREQUENCY, 1.0 - LEAST_FREQUENCY)


@dataclass(frozen=True, eq=False)
class Families:
    """Who descends from whom: families of one size, two parents first, the last one cut at n.

    Attributes
    ----------
    n, size : int
    region : (families,) int array
        Population of each.
    """

    n: int
    size: int
    region: NDArray[np.intp]

    @property
    def founders(self) -> int:
        return min(self.size, 2)

    @property
    def children(self) -> int:
        return self.size - self.founders


@dataclass(frozen=True, eq=False)
class Sums:
    """What the trait takes from the genotypes, gathered as they are made.

    Attributes
    ----------
    polygenic : (n,) array
        A sum over all variants, each with a normal effect per standard deviation.
    causal : (k, n) array
        Copies at the variants `where`.
    where : (k,) int array
    """

    polygenic: Floats
    causal: Floats
    where: NDArray[np.intp]

    def add(self, draw: np.random.Generator, x: NDArray[np.uint8], start: int) -> None:
        """Add the variants x, (b, n), of which the first is number `start`."""
        wide = x.astype(np.float64)
        sd = np.maximum(wide.std(axis=1), 1e-9)
        self.polygenic[:] += (draw.standard_normal(len(wide)) / sd) @ wide
        low, high = np.searchsorted(self.where, (start, start + len(x)))
        self.causal[low:high] = wide[self.where[low:high] - start]


def _packed(
    draw: np.random.Generator,
    families: Families,
    chromosome: NDArray[np.intp],
    p: Floats,
    missing: float,
    sums: Sums,
) -> Iterator[NDArray[np.uint8]]:
    """Pieces of variants, packed, with what the trait takes from them added to the sums."""
    n, start = families.n, 0
    rate = -np.log1p(-missing)
    for x in _genotypes(draw, families, chromosome, p):
        sums.add(draw, x, start)
        calls = x.astype(np.int8)
        # A Poisson number of hits at random places: each call is missing with its probability.
        hits = draw.integers(0, x.size, draw.poisson(rate * x.size))
        calls.reshape(-1)[hits] = -1
        start += len(x)
        yield pack(calls.reshape(len(x), n))


def _genotypes(
    draw: np.random.Generator, families: Families, chromosome: NDArray[np.intp], p: Floats
) -> Iterator[NDArray[np.uint8]]:
    """Copies of the first allele, in pieces of (b, n).

    Haplotypes of founders are latent normal chains along a chromosome, cut at the frequency;
    children get a recombined one of each parent, about one crossing over a chromosome.
    """
    from scipy.special import ndtri

    count, parents, children = len(families.region), families.founders, families.children
    longest = int(np.clip(VALUES_OF_PIECE // (2 * families.n), 16, LARGEST_PIECE))
    for name in np.unique(chromosome):
        low, high = np.searchsorted(chromosome, (name, name + 1))
        rate = 1.0 / max(high - low, 2)
        chain = draw.standard_normal((parents, 2, count), dtype=np.float32)
        side = draw.integers(0, 2, (children, parents, count), dtype=np.uint8)
        for a in range(low, high, longest):
            b = min(a + longest, high)
            cut = ndtri(p[:, a:b]).T[:, families.region].astype(np.float32)
            founders = _founders(draw, chain, a == low, b - a) < cut[:, None, None, :]
            sides = _sides(draw, side, rate, b - a)
            yield _people(founders.view(np.uint8), sides)[:, : families.n]


def _founders(
    draw: np.random.Generator, chain: NDArray[np.float32], begins: bool, b: int
) -> NDArray[np.float32]:
    """The next b values of the chains, (b, ...); `chain` is left at the last."""
    noise = draw.standard_normal((b, *chain.shape), dtype=np.float32)
    noise *= np.float32(np.sqrt(1.0 - LINKAGE**2))
    before = chain
    if begins:
        noise[0] = chain
    for row in noise[1:] if begins else noise:
        row += np.float32(LINKAGE) * before
        before = row
    chain[:] = before
    return noise


def _sides(
    draw: np.random.Generator, side: NDArray[np.uint8], rate: float, b: int
) -> NDArray[np.uint8]:
    """Which haplotype of its parent each gamete follows, (b, ...); `side` is left at the last."""
    crossings = np.zeros((b, side.size), dtype=np.uint8)
    hits, times = np.unique(
        draw.integers(0, max(crossings.size, 1), draw.poisson(rate * crossings.size)),
        return_counts=True,
    )
    crossings.reshape(-1)[hits] = times % 2
    crossings[0] ^= side.reshape(-1)
    sides: NDArray[np.uint8] = np.bitwise_xor.accumulate(crossings, axis=0).reshape(b, *side.shape)
    side[:] = sides[-1]
    return sides


def _people(founders: NDArray[np.uint8], sides: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Copies of all members of the families, (b, people).

    founders : (b, parents, 2, families) haplotypes; sides : (b, children, parents, families).
    """
    b, parents, _, count = founders.shape
    children = sides.shape[1]
    first, second = founders[:, :, 0], founders[:, :, 1]
    people = np.empty((b, count, parents + children), dtype=np.uint8)
    people[:, :, :parents] = (first + second).transpose(0, 2, 1)
    if children:
        differ = first ^ second
    for child in range(children):
        gametes = first ^ (sides[:, child] & differ)
        people[:, :, parents + child] = gametes[:, 0] + gametes[:, 1]
    return people.reshape(b, -1)


def _effects(draw: np.random.Generator, m: int, causal: int) -> tuple[Floats, NDArray[np.intp]]:
    where = np.sort(draw.choice(m, causal, replace=False))
    return draw.choice([-1.0, 1.0], causal), where


def _trait(
    draw: np.random.Generator,
    sums: Sums,
    home: NDArray[np.intp],
    region: NDArray[np.intp],
    sex: NDArray[np.int64],
    age: Floats,
    effects: Floats,
    shares: dict[str, float],
) -> Floats:
    """The trait; `effects` become those per copy."""
    own = sums.causal
    scale = np.sqrt(shares["causal_h2"] / max(len(own), 1)) / np.maximum(own.std(axis=1), 1e-9)
    effects *= scale
    parts = {
        "h2": sums.polygenic,
        "family": draw.standard_normal(home.max() + 1)[home],
        "structure": draw.standard_normal(region.max() + 1)[region],
    }
    rest = 1.0 - sum(shares.values())
    trait = draw.standard_normal(len(home)) * np.sqrt(rest) + effects @ own
    for name, part in parts.items():
        sd = part.std()
        trait = trait + (np.sqrt(shares[name]) * (part - part.mean()) / sd if sd > 0 else 0.0)
    fixed: Floats = 0.3 * (sex == 1) + 0.01 * (age - AGE[0])
    return np.asarray((trait + fixed).round(6))
