"""`simulate`: families, structure, linkage and traits, for tests and teaching."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ranef import arguments
from ranef.display.files import write_atomically
from ranef.errors import ModelError
from ranef.fields.gwas.genotypes import Genotypes, Packed, Samples, Variants, pack
from ranef.fields.gwas.plink import write_plink
from ranef.tables import make_table

__all__ = ["Study", "simulate"]

Floats = NDArray[np.float64]

LEAST_FREQUENCY = 0.02
LINKAGE = 0.8
AGE = (45.0, 12.0)
STRETCH = 1024


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
        assert isinstance(source, Packed)
        table = self.phenotypes
        text = table.to_csv(sep="\t", index=False, na_rep="NA", lineterminator="\n")
        write_atomically(stem.with_name(stem.name + ".pheno.tsv"), text)
        trait = [f"{value:.10g}" for value in table["trait"]]
        return write_plink(stem, source.samples, source.variants, [source._packed], trait)


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
    x = _genotypes(draw, home, region, chromosome, regions, fst)
    packed = np.concatenate([
        pack(np.where(draw.random(x[k : k + STRETCH].shape, dtype=np.float32) < missing, -1,
                      x[k : k + STRETCH]).astype(np.int8))
        for k in range(0, m, STRETCH)
    ])  # fmt: skip
    sex = draw.integers(1, 3, n)
    age = draw.normal(*AGE, n).round(1)
    effects, where = _effects(draw, m, causal)
    trait = _trait(draw, x, home, region, sex, age, effects, where, shares)
    samples = Samples(
        tuple(f"F{k + 1:05d}" for k in home), tuple(f"I{k + 1:06d}" for k in range(n)),
        sex.astype(np.int32),
    )  # fmt: skip
    ids = np.array([f"rs{k + 1}" for k in range(m)], dtype=object)
    position = np.concatenate([
        np.sort(draw.choice(np.arange(1, 100 * max(k, 1) + 1), k, replace=False)) * 1000
        for k in np.bincount(chromosome, minlength=pieces)
    ])  # fmt: skip
    letters = np.array(["A", "C"], dtype=object)
    variants = Variants(
        (chromosome + 1).astype(str).astype(object), ids, position.astype(np.int64),
        np.repeat(letters[:1], m), np.repeat(letters[1:], m),
    )  # fmt: skip
    table = make_table(
        {"FID": list(samples.fid), "IID": list(samples.iid), "trait": trait,
         "sex": np.where(sex == 1, "male", "female").tolist(), "age": age,
         "population": (region + 1).astype(str).tolist()},
        "pandas",
    )  # fmt: skip
    own = make_table({"variant": ids[where].tolist(), "effect": effects}, "pandas")
    return Study(Packed("a simulated study", samples, variants, packed), table, own)


def _genotypes(
    draw: np.random.Generator,
    home: NDArray[np.intp],
    region: NDArray[np.intp],
    chromosome: NDArray[np.intp],
    regions: int,
    fst: float,
) -> NDArray[np.int8]:
    """Copies of the first allele, (m, n)."""
    m, n = len(chromosome), len(home)
    ancestral = draw.uniform(0.05, 0.5, m)
    spread = (1.0 - fst) / fst if fst > 0 and regions > 1 else np.inf
    if np.isfinite(spread):
        p = draw.beta(ancestral * spread, (1.0 - ancestral) * spread, (regions, m))
    else:
        p = np.tile(ancestral, (regions, 1))
    p = np.clip(p, LEAST_FREQUENCY, 1.0 - LEAST_FREQUENCY)
    starts = np.concatenate([[True], chromosome[1:] != chromosome[:-1]])
    haplotypes = np.empty((n, 2, m), dtype=np.int8)
    first = np.searchsorted(home, home)
    member = np.arange(n) - first
    founders = np.flatnonzero(member < 2)
    for k in founders:
        haplotypes[k] = _haplotypes(draw, p[region[k]], starts)
    for k in np.flatnonzero(member >= 2):
        for side in range(2):
            haplotypes[k, side] = _gamete(draw, haplotypes[first[k] + side], starts)
    return np.ascontiguousarray(haplotypes.sum(axis=1, dtype=np.int8).T)


def _haplotypes(
    draw: np.random.Generator, p: Floats, starts: NDArray[np.bool_]
) -> NDArray[np.int8]:
    """Two haplotypes of a founder, (2, m): a latent normal chain along each chromosome."""
    from scipy.signal import lfilter
    from scipy.special import ndtri

    noise = draw.standard_normal((2, len(p)))
    chain = np.empty_like(noise)
    bounds = [*np.flatnonzero(starts).tolist(), len(p)]
    for low, high in itertools.pairwise(bounds):
        part = noise[:, low:high] * np.sqrt(1.0 - LINKAGE**2)
        part[:, 0] = noise[:, low]
        chain[:, low:high] = lfilter([1.0], [1.0, -LINKAGE], part, axis=1)
    out: NDArray[np.int8] = (chain < ndtri(p)).astype(np.int8)
    return out


def _gamete(
    draw: np.random.Generator, parent: NDArray[np.int8], starts: NDArray[np.bool_]
) -> NDArray[np.int8]:
    """One recombined haplotype of a parent, about one crossing over a chromosome."""
    m = parent.shape[1]
    rate = np.where(starts, 0.5, min(0.5, starts.sum() / m))
    side = np.cumsum(draw.random(m) < rate) % 2
    gamete: NDArray[np.int8] = parent[side, np.arange(m)]
    return gamete


def _effects(draw: np.random.Generator, m: int, causal: int) -> tuple[Floats, NDArray[np.intp]]:
    where = np.sort(draw.choice(m, causal, replace=False))
    return draw.choice([-1.0, 1.0], causal), where


def _trait(
    draw: np.random.Generator,
    x: NDArray[np.int8],
    home: NDArray[np.intp],
    region: NDArray[np.intp],
    sex: NDArray[np.int64],
    age: Floats,
    effects: Floats,
    where: NDArray[np.intp],
    shares: dict[str, float],
) -> Floats:
    """The trait; `effects` become those per copy."""
    own = x[where].astype(np.float64)
    scale = np.sqrt(shares["causal_h2"] / max(len(where), 1)) / np.maximum(own.std(axis=1), 1e-9)
    effects *= scale
    parts = {
        "h2": _polygenic(draw, x),
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


def _polygenic(draw: np.random.Generator, x: NDArray[np.int8]) -> Floats:
    """A sum over all variants, each with a normal effect per standard deviation."""
    out = np.zeros(x.shape[1])
    for k in range(0, len(x), STRETCH):
        part = x[k : k + STRETCH].astype(np.float64)
        sd = np.maximum(part.std(axis=1), 1e-9)
        out += (draw.standard_normal(len(part)) / sd) @ part
    return out
