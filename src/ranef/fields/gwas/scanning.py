"""`scan`: genome-wide association by the mixed model, from files to a `Scan`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import dataclass, replace
from os import PathLike
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ranef import arguments
from ranef.display.progress import arriving
from ranef.elsewhere import explained
from ranef.errors import DataError, DataWarning, ModelError, RanefError, suggestion, warn
from ranef.fields.gwas.arrays import open_genotypes
from ranef.fields.gwas.cases import Binomial
from ranef.fields.gwas.crossing import Interaction, RobustInteraction, environment_names
from ranef.fields.gwas.crossing_cases import CaseInteraction
from ranef.fields.gwas.elsewhere import check_client
from ranef.fields.gwas.engine import LARGE, Group, Part, Settings, lots_of, scan_group
from ranef.fields.gwas.genotypes import EFFECTS, MALE, Chosen, Genotypes, Variants
from ranef.fields.gwas.jointly import Joint, in_common
from ranef.fields.gwas.keeping import Folder, fingerprint
from ranef.fields.gwas.kin import SparseRelationship
from ranef.fields.gwas.matching import Matched, match, names_in, sample_places
from ranef.fields.gwas.memory import GB, check_forecast
from ranef.fields.gwas.model import TRANSFORMS, Trait, formulas_of, trait_columns, trait_of
from ranef.fields.gwas.quality import Limits
from ranef.fields.gwas.relating import LEAVING_OUT, MADE, Related, relate, union
from ranef.fields.gwas.results import Scan, TraitScan
from ranef.fields.gwas.spectrum import ORDER
from ranef.fields.gwas.twostep import (
    InTwoSteps,
    Predicted,
    TwoStep,
    plan_of,
    step_memory,
    steps_of,
)
from ranef.fields.gwas.ways import Exactly, Way
from ranef.formula.labels import level_text, list_text
from ranef.solve.resources import available_cores

__all__ = ["NA", "scan", "settled"]

Floats = NDArray[np.float64]

NA = ("NA", "nan", ".", "", "-9")
FAMILIES = ("gaussian", "binomial")
VARIANCES = ("each", "null")
PRECISIONS = ("mixed", "double")
VALUES_OF_BLOCK = 4_000_000
SMALLEST_BLOCK, LARGEST_BLOCK = 64, 2048
HETEROZYGOUS_MALES = 0.05


@explained
def scan(
    formula: str,
    genotypes: Any,
    phenotypes: Any = None,
    *,
    covariates: Any = None,
    traits: str | Sequence[str] | None = None,
    relationship: Any = "loco",
    family: str = "gaussian",
    variance: str = "each",
    effect: str = "additive",
    interaction: str | None = None,
    robust: bool = False,
    given: str | Sequence[str] | None = None,
    joint: bool = False,
    transform: str | None = None,
    min_maf: float = 0.01,
    min_mac: float | None = None,
    max_missing: float = 0.05,
    min_hwe: float | None = None,
    min_info: float | None = None,
    keep: Any = None,
    remove: Any = None,
    extract: Any = None,
    exclude: Any = None,
    chromosomes: str | Sequence[str] | None = None,
    na: Sequence[str] = NA,
    precision: str = "mixed",
    n_jobs: int | None = None,
    memory: float | str | None = None,
    client: Any = None,
    block: int | None = None,
    resume: str | PathLike[str] | None = None,
    progress: bool | None = None,
) -> Scan:
    """Test every variant of a genome for association with a trait.

    The linear mixed model has the covariates of the formula, the variant, a random effect with
    the relationship as its covariance, and noise. Each variant has its own variance ratio, found
    exactly (Zhou & Stephens 2012), and three tests: Wald, likelihood ratio, score.

    Parameters
    ----------
    formula : str
        Trait and covariates: ``"height ~ age + sex"``. Of several `traits` ``"~ age + sex"``.
    genotypes : path or Genotypes
        A file or the prefix of PLINK's (bed, pgen, BGEN, VCF, BCF, BIMBAM, VCF-Zarr; see
        `read_genotypes`), or what `read_genotypes` and `from_array` return.
    phenotypes : table or path, optional
        With a column ``IID`` and perhaps ``FID``, one row a sample in any order. A file is text
        with a heading, or without one FID, IID and traits. Without it the .fam's own column is
        the trait ``phenotype``.
    covariates : table or path, optional
        A second table, where covariates stand in one of their own.
    traits : str or sequence of str, optional
        Columns to analyse in turn, each with its own missing rows. One that cannot be analysed
        is reported in the answer's ``failed``.
    relationship : {"loco", "centred", "standardised", "two-step"}, matrix, path or None
        ``"loco"``: each chromosome is tested against the relationship by all others, so that a
        variant does not compete with itself; beyond 20,000 samples in two steps
        (``"loco-exact"``: never). ``"two-step"``, or what `two_step` returns: ridge predictions
        without the tested chromosome, and close kin. ``"centred"`` and ``"standardised"``: by all
        variants, as GEMMA. A `Relationship`, a path as for `read_grm` (a matrix without names is
        in the order of the genotypes), a table with named rows and columns, or ``(matrix,
        names)``; a `SparseRelationship`. None: least squares. Matrices are made of the variants
        with a minor allele frequency of at least 0.01 and at most 0.05 missing among analysed
        samples.
    family : {"gaussian", "binomial"}
        Of a binary trait (0 and 1, or PLINK's 1 and 2 with 2 for cases) the logistic model: score
        tests with the saddlepoint approximation, and Firth's estimates of the log odds.
    variance : {"each", "null"}
        Each variant's own variance ratio; or that of the model without a variant (P3D, EMMAX),
        which understates strong effects. Of a binary trait: the variance of each score, or the
        expected ratio to that of unrelated samples.
    effect : {"additive", "dominant", "recessive"}
        Of the effect allele: the first one of a .bim, ALT of a VCF (see `read_genotypes`). The
        last two need called genotypes.
    interaction : str, optional
        A column of numbers or of two categories, the environment: variants are tested for a
        product with it (one degree of freedom), and together with it (two). It enters as a
        covariate.
    robust : bool
        Of an interaction: allow the residual variance to differ between samples, as between
        environments (by each one's own residuals, with Satterthwaite's degrees of freedom).
    given : str or sequence of str, optional
        Variants that enter as covariates (conditional analysis).
    joint : bool
        Test all `traits` together, by the multivariate mixed model, among samples that have all.
    transform : {"inverse-normal"}, optional
        Analyse the normal scores of the trait's ranks.
    min_maf, min_mac, max_missing, min_hwe, min_info : float, optional
        What a variant must have among analysed samples: minor allele frequency and count, share
        missing, mid-p of the exact test of Hardy-Weinberg proportions, information of dosages.
    keep, remove : sequence of str or path, optional
        Samples, by IID or (FID, IID); a file has one a line.
    extract, exclude : sequence of str or path, optional
        Variants by name.
    chromosomes : str or sequence of str, optional
        Names, ``"1,3"`` or ``"1-22"``.
    na : sequence of str
        Marks of missing values, of cells in files and of the traits of any table.
    precision : {"mixed", "double"}
        Rotate variants in single precision (their products with the trait in double), and those
        with p < 1e-4 or little variance again in double; or all in double.
    n_jobs : int, optional
        Threads, each with one BLAS thread; all that this process may use.
    memory : float or str, optional
        The most memory, in GB or as ``"8GB"``; checked before anything large is made.
    client : Dask client or executor, optional
        Who tests the blocks of variants, in place of threads here; blocks are read here and sent.
        The same numbers as from threads.
    block : int, optional
        Variants at a time.
    resume : path-like, optional
        A folder for parts of the scan: one that was stopped goes on where it stood.
    progress : bool, optional
        Show a progress bar: always, never, or (None) where a person looks.

    Returns
    -------
    Scan
        ``tidy()``, ``glance()``, ``filters``, ``samples``, ``top()``, ``clump()``, ``plot``,
        ``report(path)``, ``save(path)``.

    Raises
    ------
    ranef.errors.DataError
        Files do not fit together, nobody is in both tables, a trait does not vary.
    ranef.errors.ModelError
        What was asked for does not apply.

    Notes
    -----
    Samples are matched by name, as text. A missing genotype is taken at the variant's mean.
    Where .fam or table say who is male, males have one copy of X and Y: 0 or 2 copies of an
    allele on X (both copies of a female), 0 or 1 on Y and MT; heterozygous calls there are missing.

    Examples
    --------
    >>> from ranef import gwas
    >>> study = gwas.simulate(n=150, m=400, causal=2, causal_h2=0.4, rng=1)
    >>> scan = gwas.scan("trait ~ sex + age", study.genotypes, study.phenotypes)
    >>> scan.top(1)["variant"][0] in set(study.causal["variant"])
    True
    """
    settings = _settings(variance, effect, precision, n_jobs)
    check_client(client)
    family = arguments.choice("family", family, FAMILIES)
    robust = arguments.flag("robust", robust)
    _check_way(family, transform, interaction, arguments.flag("joint", joint), robust)
    transform = None if transform is None else arguments.choice("transform", transform, TRANSFORMS)
    marks = _marks(na)
    source, notes = settled(open_genotypes(genotypes))
    limits = Limits.read(
        source.calls, min_maf=min_maf, min_mac=min_mac, max_missing=max_missing, min_hwe=min_hwe,
        min_info=min_info,
    )  # fmt: skip
    wanted = _wanted(source.variants, extract, exclude, chromosomes)
    formulas = formulas_of(formula, traits)
    if interaction is not None:
        formulas = {name: f"{text} + `{interaction}`" for name, text in formulas.items()}
    allowed = _allowed(source, keep, remove)
    matched = match(
        source.samples, phenotypes, covariates, na=marks, allowed=allowed,
        traits=trait_columns(formulas),
    )  # fmt: skip
    found, failed = _traits(formulas, matched, transform, _given(source, given, wanted), family)
    if joint:
        found = {trait.name: trait for trait in in_common(list(found.values()))}
    way = _way(family, settings, interaction, robust, matched, joint, tuple(found))
    groups = _groups(source, found)
    largest = max(len(group.chosen) for group in groups)
    width = max(group.W.shape[1] for group in groups)
    size = _block(block, largest)
    plan = plan_of(relationship, largest, isinstance(way, Exactly))
    sparse = isinstance(relationship, SparseRelationship) and isinstance(way, Exactly)
    said = _check_memory(
        memory, source, int(allowed.sum()), largest, width, size, settings.jobs,
        None if sparse else relationship, plan,
    )  # fmt: skip
    settings = replace(settings, limits=limits, block=size)
    places = union([g.chosen.places for g in groups])
    shown = arguments.optional_flag("progress", progress)
    related: Related | Predicted = Predicted()
    if plan is None:
        related = relate(relationship, source, allowed, places, settings.jobs, shown)
    folder = None
    if resume is not None:
        of_plan = [] if plan is None else plan.pieces
        mark = fingerprint([way, *_pieces(source, groups, related, settings, wanted), *of_plan])
        folder = Folder.open(arguments.path(resume), mark)
    lots = lots_of(source, wanted, settings.block, related.apart)
    results: dict[str, TraitScan] = {}
    for number, group in enumerate(groups):
        own = way
        if plan is not None:
            steps = steps_of(plan, source, group, settings, shown, folder, number)
            notes.append(steps.note)
            own = InTwoSteps(settings.exact, steps)
        results |= _one_group(
            source, group, lots, related, wanted, settings, folder, number, shown, own, client
        )
    ordered = results if joint else {name: results[name] for name in found}
    counts = [("", reason, count) for reason, count in matched.counts]
    for name, trait in found.items():
        counts += [(name, reason, count) for reason, count in trait.counts]
        counts.append((name, "analysed", len(trait.y)))
    return Scan(
        ordered, failed, source, settings.effect, related.name, way.words, tuple(counts),
        (*notes, *matched.notes, said), matched.library,
    )  # fmt: skip


# --- what a call says


def _settings(variance: Any, effect: Any, precision: Any, n_jobs: Any) -> Settings:
    jobs = None if n_jobs is None else arguments.count("n_jobs", n_jobs)
    return Settings(
        effect=arguments.choice("effect", effect, tuple(EFFECTS)),
        exact=arguments.choice("variance", variance, VARIANCES) == "each",
        single=arguments.choice("precision", precision, PRECISIONS) == "mixed",
        limits=Limits(),
        block=0,
        jobs=available_cores(jobs),
    )


def _check_way(family: str, transform: Any, interaction: Any, joint: bool, robust: bool) -> None:
    if interaction is not None and not isinstance(interaction, str):
        raise ModelError(f"interaction= is the name of a column, not {type(interaction).__name__}")
    if family == "binomial" and transform is not None:
        raise ModelError("transform= changes a trait's values, and a binary one has only two")
    if joint and interaction is not None:
        raise ModelError("joint=True and interaction= are ways to test, of which a scan takes one")
    if joint and family == "binomial":
        raise ModelError(
            "joint=True is the multivariate model of Gaussian traits, and binary ones have none "
            "here: scan them one by one (traits= without joint=), or, frequent as both outcomes "
            "are, as numbers with family='gaussian'"
        )
    if robust and interaction is None:
        raise ModelError(
            "robust=True is of interactions, whose tests a residual variance that differs between "
            "environments puts wrong; name the environment with interaction=, or leave it out"
        )
    if robust and family == "binomial":
        raise ModelError(
            "robust=True is of Gaussian traits; a binary one has the variance that its mean gives"
        )


def _way(
    family: str,
    settings: Settings,
    interaction: str | None,
    robust: bool,
    matched: Matched,
    joint: bool,
    names: tuple[str, ...],
) -> Way:
    if joint:
        return Joint(names, settings.exact)
    if interaction is not None:
        columns = environment_names(interaction, matched.columns)
        if family == "binomial":
            return CaseInteraction(columns, settings.exact)
        if robust:
            return RobustInteraction(columns)
        return Interaction(columns, settings.exact)
    return Binomial(settings.exact) if family == "binomial" else Exactly(settings.exact)


def _marks(na: Any) -> tuple[str, ...]:
    if isinstance(na, str) or not all(isinstance(mark, str) for mark in na):
        raise ModelError("na is a list of texts, such as ('NA', '-9')")
    return tuple(na)


def _chromosomes(text: str, known: Sequence[str]) -> list[str]:
    """Names in a text as PLINK takes it: one, several between commas, numbers from one to another.

    A range names those of its numbers that there are, or the text where there are none.
    """
    if text in known:
        return [text]
    if "," in text:
        return [name for part in text.split(",") for name in _chromosomes(part.strip(), known)]
    low, dash, high = text.partition("-")
    if dash and low.isdecimal() and high.isdecimal():
        own = [n for n in known if n.isdecimal() and int(low) <= int(n) <= int(high)]
        return own or [text]
    return [text]


def _wanted(variants: Variants, extract: Any, exclude: Any, chromosomes: Any) -> NDArray[np.bool_]:
    wanted = np.ones(len(variants), dtype=bool)
    if chromosomes is not None:
        many = hasattr(chromosomes, "__iter__") and not isinstance(chromosomes, str)
        given = [level_text(c) for c in (chromosomes if many else [chromosomes])]
        names = [name for one in given for name in _chromosomes(one, variants.chromosomes)]
        unknown = [name for name in names if name not in variants.chromosomes]
        if unknown:
            raise DataError(
                f"no variant is on chromosome {list_text(unknown)}"
                f"{suggestion(unknown[0], variants.chromosomes)}; there are "
                f"{list_text(list(variants.chromosomes), 30)}"
            )
        wanted &= np.isin(variants.chromosome.astype(str), names)
    for what, listed, keeps in (("extract", extract, True), ("exclude", exclude, False)):
        if listed is None:
            continue
        names = [row[0] for row in names_in(what, listed)]
        if not names:
            raise ModelError(f"{what} names no variants")
        inside = np.isin(variants.id.astype(str), names)
        if not inside.any():
            raise DataError(
                f"{what} names no variant of the genotypes: there {names[0]!r}, here "
                f"{variants.id[0]!r}"
            )
        wanted &= inside if keeps else ~inside
    if not wanted.any():
        raise DataError("no variant is left to test: chromosomes, extract and exclude leave none")
    return wanted


def _allowed(source: Genotypes, keep: Any, remove: Any) -> NDArray[np.bool_]:
    allowed = np.ones(len(source.samples), dtype=bool)
    if keep is not None:
        allowed &= sample_places("keep", keep, source.samples)
    if remove is not None:
        allowed &= ~sample_places("remove", remove, source.samples)
    if not allowed.any():
        raise DataError("no sample is left: keep and remove leave none")
    return allowed


def settled(source: Genotypes) -> tuple[Genotypes, list[str]]:
    """Decide which chromosomes are of the sexes, and say what was done with them."""
    kinds = source.variants.kinds
    males = np.flatnonzero(source.samples.sex == MALE)
    notes = []
    names, counts = np.unique(source.variants.id.astype(str), return_counts=True)
    twice = names[counts > 1].tolist()
    if twice:
        who = "1 name stands" if len(twice) == 1 else f"{len(twice):,} names stand"
        notes.append(
            f"{who} for more than one variant, such as {twice[0]!r}; each is tested, and tables "
            "have them in the file's order"
        )
    unplaced = int((source.variants.position < 0).sum())
    if unplaced:
        who = "1 variant has" if unplaced == 1 else f"{unplaced:,} variants have"
        notes.append(
            f"{who} a negative position, which means unknown: pictures show such variants at the "
            "beginning of their chromosome, and clumps treat them as adjacent"
        )
    special = kinds != "diploid"
    if not special.any():
        return source, notes
    numbered = special & np.array([c.isdecimal() for c in source.variants.chromosome.tolist()])
    rows = np.flatnonzero(numbered & (kinds == "X"))[:2000]
    if len(rows) and len(males):
        other = copy(source)
        other.variants = replace(source.variants, numerals=False)
        share = _heterozygous(other, rows, Chosen.of(source.samples, males))
        if share > HETEROZYGOUS_MALES:
            notes.append(
                f"{100 * share:.0f}% of males' calls on chromosome "
                f"{source.variants.chromosome[rows[0]]} are heterozygous: 23 to 26 were taken "
                "for ordinary chromosomes"
            )
            source, kinds = other, other.variants.kinds
    for kind in ("X", "Y", "MT"):
        if (kinds == kind).any():
            notes.append(_said_of(kind, len(males), source.calls))
    return source, notes


def _heterozygous(source: Genotypes, rows: NDArray[np.intp], chosen: Chosen) -> float:
    """Share of calls with one copy; of dosages those within a quarter of it."""
    block = source.take(rows)
    tally = block.tally(chosen, "additive")
    if tally.genotypes is not None:
        return float(tally.genotypes[:, 1].sum() / max(tally.genotypes.sum(), 1))
    seen = np.flatnonzero(tally.n > 0)
    x = block.coded(seen, chosen, tally, centred=False, single=False)
    return float(np.mean(np.abs(x - 1.0) < 0.25)) if x.size else 0.0


def _said_of(kind: str, males: int, calls: bool) -> str:
    if kind == "MT":
        rest = "; heterozygous calls are missing" if calls else ", half of its dosage"
        return f"MT counts one copy a sample, 0 or 1{rest}"
    if not males:
        return f"nobody's sex is known: chromosome {kind} was treated as an ordinary one"
    if kind == "X":
        rest = "; their heterozygous calls are missing" if calls else ""
        return (
            f"on X the {males:,} males count 0 {'or' if calls else 'to'} 2 copies, as much as a "
            f"female's two, and one allele in frequencies{rest}"
        )
    return f"on Y males count 0 {'or' if calls else 'to'} 1 copy, and others have no value"


def _traits(
    formulas: Mapping[str, str],
    matched: Matched,
    transform: str | None,
    given: Sequence[tuple[str, Floats]],
    family: str,
) -> tuple[dict[str, Trait], dict[str, str]]:
    found: dict[str, Trait] = {}
    failed: dict[str, str] = {}
    for name, formula in formulas.items():
        try:
            found[name] = trait_of(
                name, formula, matched.columns, matched.places, transform, given, family
            )
        except RanefError as error:
            if len(formulas) == 1:
                raise
            failed[name] = str(error)
            warn(f"trait {name!r} was not analysed: {error}", DataWarning)
    if not found:
        raise DataError(f"no trait can be analysed: {next(iter(failed.values()))}")
    return found, failed


def _given(source: Genotypes, given: Any, wanted: NDArray[np.bool_]) -> list[tuple[str, Floats]]:
    """Values of the variants that enter as covariates, by all samples; NaN where missing."""
    if given is None:
        return []
    many = hasattr(given, "__iter__") and not isinstance(given, str)
    names = [level_text(name) for name in (given if many else [given])]
    ids = source.variants.id
    rows = []
    for name in names:
        where = np.flatnonzero(ids == name)
        if len(where) != 1:
            hint = suggestion(str(name), ids[:5000].tolist()) if not len(where) else ""
            raise DataError(f"{len(where)} variants are named {name!r}{hint}; given= takes one")
        rows.append(int(where[0]))
    order = np.argsort(rows)
    block = source.take(np.array(rows)[order])
    everyone = Chosen.of(source.samples, np.arange(len(source.samples)))
    tally = block.tally(everyone, "additive")
    as_missing = replace(tally, mean=np.full(len(rows), np.nan))
    X = block.coded(np.arange(len(rows)), everyone, as_missing, centred=False, single=False)
    wanted[rows] = False
    return [(names[k], X[place]) for place, k in enumerate(order)]


def _groups(source: Genotypes, found: Mapping[str, Trait]) -> list[Group]:
    """Put traits with the same samples and covariates together."""
    held: dict[bytes, list[Trait]] = {}
    for trait in found.values():
        held.setdefault(trait.places.tobytes() + trait.W.tobytes(), []).append(trait)
    return [
        Group(Chosen.of(source.samples, t[0].places), t[0].W, t[0].intercept, tuple(t))
        for t in held.values()
    ]


def _block(block: Any, n: int) -> int:
    if block is not None:
        return arguments.count("block", block)
    return int(np.clip(VALUES_OF_BLOCK // n, SMALLEST_BLOCK, LARGEST_BLOCK))


@dataclass(frozen=True)
class Need:
    """Bytes that a scan takes at its peak, roughly.

    Attributes
    ----------
    matrices, blocks : float
    """

    matrices: float
    blocks: float

    @property
    def total(self) -> float:
        return self.matrices + self.blocks


def need(
    N: int,
    n: int,
    c: int,
    m: int,
    block: int,
    jobs: int,
    relationship: Any,
    plan: TwoStep | None = None,
) -> Need:
    """Forecast the memory of a scan.

    N, n : samples in the matrix, and analysed; c : covariates; m : variants; relationship : None
    where nothing whole is decomposed; plan : that of two steps.
    """
    own = isinstance(relationship, str) and relationship in MADE
    dense = plan is None and relationship is not None
    matrices = 8.0 * N * N * (2.0 if own else 1.0) if dense else 0.0
    at_once = jobs if own and relationship in LEAVING_OUT and n <= LARGE else 1
    decomposition = 8.0 * n * n * 4.5 * at_once if dense else 0.0
    nodes = 12.0 * n * (c + 2) * (ORDER + 15)
    steps = 0.0 if plan is None else step_memory(n, m, jobs)
    return Need(matrices + decomposition + steps, jobs * (24.0 * block * n + nodes) + 400.0 * m)


def _check_memory(
    memory: Any,
    source: Genotypes,
    N: int,
    n: int,
    c: int,
    block: int,
    jobs: int,
    relationship: Any,
    plan: TwoStep | None,
) -> str:
    forecast = need(N, n, c, len(source.variants), block, jobs, relationship, plan).total
    check_forecast(
        memory, forecast, f"the scan of {n:,} samples", "use fewer threads (n_jobs), a smaller "
        "block or fewer samples, or relationship='two-step'",
    )  # fmt: skip
    return f"the scan was forecast to need {forecast / GB:.2g} GB of memory"


def _pieces(
    source: Genotypes,
    groups: Sequence[Group],
    related: Related | Predicted,
    settings: Settings,
    wanted: NDArray[np.bool_],
) -> list[Any]:
    v = source.variants
    held: list[Any] = [
        v.id, v.chromosome, v.position, wanted, related.name, settings.effect, settings.exact,
        settings.single, settings.limits, settings.block,
    ]  # fmt: skip
    held += related.pieces()
    probe = np.unique(np.linspace(0, len(v) - 1, 64).astype(np.intp))
    everyone = Chosen.of(source.samples, np.arange(len(source.samples)))
    held.append(source.take(probe).tally(everyone, "additive").copies)
    for group in groups:
        held += [group.chosen.places, group.W, *(trait.y for trait in group.traits)]
    return held


# --- the work


def _one_group(
    source: Genotypes,
    group: Group,
    lots: Sequence[Any],
    related: Related | Predicted,
    wanted: NDArray[np.bool_],
    settings: Settings,
    folder: Folder | None,
    number: int,
    progress: bool | None,
    way: Way,
    client: Any,
) -> dict[str, TraitScan]:
    places = group.chosen.places

    def matrix(name: str | None) -> Any:
        K = related.matrix(places, name)
        return K.toarray() if hasattr(K, "toarray") and not isinstance(way, Exactly) else K

    known: dict[str | None, Any] = {}
    ready = way.ready(group, matrix(None), settings)
    nulls = way.nulls(ready)
    if not related.apart:
        known[None] = ready
    m, count = len(source.variants), len(way.names(group))
    whole = Part(
        np.zeros(m, dtype=np.int64), np.zeros(m, dtype=np.int64), np.full(m, np.nan),
        np.full(m, np.nan), [np.full(m, "excluded", dtype=object) for _ in range(count)],
        [way.empty(m) for _ in range(count)],
    )  # fmt: skip
    parts = scan_group(
        source, group, lots, matrix, wanted, settings, folder, number, known, way, client
    )
    total = sum(stop - start for lot in lots for start, stop in lot.stretches)
    shown = arriving(
        parts, total, "scanning", progress, unit=" variants", size=lambda part: part[1] - part[0]
    )
    for start, stop, part in shown:
        _put(whole, slice(start, stop), part)
    return way.results(group, nulls, whole)


def _put(whole: Part, rows: slice, part: Part) -> None:
    for name in ("n", "n_missing", "frequency", "info"):
        getattr(whole, name)[rows] = getattr(part, name)
    for k in range(len(part.found)):
        whole.status[k][rows] = part.status[k]
        whole.found[k].put(rows, part.found[k])
