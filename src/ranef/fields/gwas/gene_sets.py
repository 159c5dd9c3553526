"""`gene_sets`: association of sets of variants, rare ones above all, with a trait."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ranef import arguments
from ranef.display.answer import Answer
from ranef.display.columns import Column, Label, Listing, Significant, Written
from ranef.display.page import Paragraph
from ranef.display.progress import arriving
from ranef.elsewhere import explained, explained_methods
from ranef.errors import ModelError
from ranef.fields.gwas.arrays import open_genotypes
from ranef.fields.gwas.binary import LOOK, saddlepoint
from ranef.fields.gwas.cases import logistic_ready
from ranef.fields.gwas.engine import Basis, Group, basis_of, null_of, rotated
from ranef.fields.gwas.genotypes import Chosen, Genotypes
from ranef.fields.gwas.logistic import LogisticNull
from ranef.fields.gwas.matching import match, sample_places
from ranef.fields.gwas.model import Trait, formulas_of, trait_columns, trait_of
from ranef.fields.gwas.naming import read_sets
from ranef.fields.gwas.quality import OK, Limits, judge
from ranef.fields.gwas.relating import Related, relate
from ranef.fields.gwas.results import written_p
from ranef.fields.gwas.scanning import FAMILIES, NA, settled
from ranef.fields.gwas.setwise import SetTests, beta_weights, tests_of_set
from ranef.fields.gwas.spectrum import Nodes, nodes_at
from ranef.fields.gwas.tails import log10_chi2_tail, log10_f_tail
from ranef.solve.resources import available_cores, in_threads, one_blas_thread

__all__ = ["GeneSets", "gene_sets"]

Floats = NDArray[np.float64]

RARE = 10.0
"""Copies of the minor allele up to which ACAT-V takes variants together."""
MOST_VARIANTS = 5000
TESTS = ("burden", "skat", "skato", "acatv", "omnibus")
TOP = 10


@dataclass(frozen=True, eq=False)
class SetRow:
    """What was found of a set.

    Attributes
    ----------
    name, chromosome, status : str
    n_variants : int
        That entered.
    mac : float
        Copies of minor alleles among analysed samples.
    tests : SetTests or None
    """

    name: str
    chromosome: str
    n_variants: int
    mac: float
    tests: SetTests | None
    status: str


@explained_methods
@dataclass(frozen=True, eq=False, repr=False)
class GeneSets(Answer):
    """Tests of sets of variants; `gwas.gene_sets` makes it.

    Attributes
    ----------
    trait : Trait
    rows : tuple of SetRow
    family, relationship : str
    notes : tuple of str
    library : str
    """

    trait: Trait
    rows: tuple[SetRow, ...]
    family: str
    relationship: str
    max_maf: float
    weights: tuple[float, float]
    notes: tuple[str, ...]
    library: str

    @property
    def title(self) -> str:
        return f"Sets of variants and {self.trait.name}"

    def tidy(self, table: str = "sets") -> Any:
        """Return ``set, chromosome, n_variants, mac, estimate, std_error, p_burden, p_skat,
        p_skato, p_acatv, p_omnibus``, minus their logarithms, ``rho, status``.
        """
        return self.tabled(self.listing(table))

    def tables(self) -> tuple[Listing, ...]:
        return (self._listing(list(self.rows), "sets"), self._top())

    def _top(self) -> Listing:
        tested = [row for row in self.rows if row.tests is not None]
        tested.sort(key=lambda row: row.tests.omnibus if row.tests else 0.0)
        return self._listing(tested[:TOP], "top", "Smallest p values (omnibus)")

    def _listing(self, rows: list[SetRow], name: str, caption: str = "") -> Listing:
        def numbers(what: str) -> Floats:
            return np.array([np.nan if r.tests is None else getattr(r.tests, what) for r in rows])

        logs = {test: 0.0 - numbers(test) for test in TESTS}
        columns = [
            Column("set", [row.name for row in rows]),
            Column("chromosome", [row.chromosome for row in rows], Label(), "chr"),
            Column(
                "n_variants", [row.n_variants for row in rows], Written("{:,}".format), "variants"
            ),
            Column("mac", np.array([row.mac for row in rows]), Written("{:,.0f}".format), "copies"),
            Column("estimate", numbers("estimate"), Significant()),
            Column("std_error", numbers("std_error"), Significant(), "std. error"),
        ]
        said = {"burden": "burden", "skat": "SKAT", "skato": "SKAT-O", "acatv": "ACAT-V",
                "omnibus": "omnibus"}  # fmt: skip
        columns += [Column(f"p_{test}", 10.0 ** -logs[test], printed=False) for test in TESTS]
        columns += [
            Column(f"neg_log10_p_{test}", logs[test], Written(written_p), said[test])
            for test in TESTS
        ]
        columns += [
            Column("rho", numbers("rho"), Significant(), printed=False),
            Column("status", [row.status for row in rows], Label(), printed=False),
        ]
        return Listing(name, tuple(columns), caption)

    def body(self) -> Any:
        yield self._top()
        yield Paragraph(self.sentences())

    def sentences(self) -> tuple[str, ...]:
        tested = sum(row.tests is not None for row in self.rows)
        a, b = self.weights
        model = "Logistic" if self.family == "binomial" else "Linear"
        how = "mixed model" if self.relationship != "none" else "regression, no relationship"
        said = [
            f"{tested:,} of {len(self.rows):,} sets were tested: variants with a minor allele "
            f"frequency of at most {self.max_maf:g}, weights of the beta({a:g}, {b:g}) density. "
            f"{model} {how}, {len(self.trait.y):,} samples.",
            "Estimates are of the weighted sum of minor alleles. The omnibus test combines burden, "
            "SKAT and ACAT-V by the Cauchy distribution.",
        ]
        return (*said, *(f"{note[0].upper()}{note[1:]}." for note in self.notes))


@dataclass(frozen=True, eq=False)
class Scored:
    """A model without a variant that gives scores of rows and their covariance."""

    null: LogisticNull | None
    basis: Basis | None = None
    nodes: Nodes | None = None
    sigma: float = 1.0
    free: float | None = None

    def scores(self, G: Floats) -> tuple[Floats, Floats]:
        """Scores of rows (m, n) over the noise's deviation, and their covariance."""
        if self.null is not None:
            null = self.null
            half = G * np.sqrt(null.weights) if null.root is None else G @ null.root.T
            shared = G @ null.N
            return G @ null.residual, half @ half.T - shared @ shared.T
        assert self.basis is not None
        assert self.nodes is not None
        Z = self.basis.rotate(G)
        shared = Z @ self.nodes.N[0]
        return Z @ self.nodes.p[0] / self.sigma, (Z * self.nodes.D[0]) @ Z.T - shared @ shared.T


@dataclass(frozen=True, eq=False)
class Plan:
    """What all sets share."""

    source: Genotypes
    chosen: Chosen
    trait: Trait
    family: str
    limits: Limits
    max_maf: float
    weights: tuple[float, float]

    def scored(self, K: Floats | None) -> Scored:
        """Fit the model without a variant; K is overwritten."""
        group = Group(self.chosen, self.trait.W, self.trait.intercept, (self.trait,))
        if self.family == "binomial":
            return Scored(logistic_ready(group, K, False).nulls[0])
        basis = basis_of(K, len(self.chosen), self.trait.intercept, False)
        with one_blas_thread():
            model = rotated(basis, self.trait.W, self.trait.y)
            null = null_of(basis, model)
            nodes = nodes_at(model, np.array([null.t_reml]))
        free = float(model.n - model.c)
        return Scored(None, basis, nodes, float(np.sqrt(nodes.yPy[0] / free)), free)

    def test(self, name: str, rows: NDArray[np.intp], scored: Scored) -> SetRow:
        """Test one set."""
        names = dict.fromkeys(self.source.variants.chromosome[rows].tolist())
        of = ",".join(names)

        def nothing(status: str, n: int = 0) -> SetRow:
            return SetRow(name, of, n, 0.0, None, status)

        if not len(rows):
            return nothing("no_variants")
        block = self.source.take(rows)
        tally = block.tally(self.chosen, "additive")
        frequency = tally.frequency
        maf = np.minimum(frequency, 1.0 - frequency)
        keep = np.flatnonzero((judge(tally, self.limits) == OK) & (maf <= self.max_maf))
        if not len(keep):
            return nothing("no_variants")
        if len(keep) > MOST_VARIANTS:
            return nothing("too_many_variants", len(keep))
        G = block.coded(keep, self.chosen, tally, centred=False, single=False)
        mac = np.minimum(tally.copies, tally.alleles - tally.copies)[keep]
        flip = frequency[keep] > 0.5
        G[flip] = 2.0 - G[flip]
        w = beta_weights(maf[keep], *self.weights)
        tests = _tested(G, w, maf[keep], mac, scored)
        if tests is None:
            return nothing("collinear", len(keep))
        return SetRow(name, of, len(keep), float(mac.sum()), tests, OK)


def _tested(G: Floats, w: Floats, maf: Floats, mac: Floats, scored: Scored) -> SetTests | None:
    """Tests of weighted minor alleles, (m, n); None where covariates leave nothing."""
    WG = w[:, None] * G
    S, Phi = scored.scores(WG)
    total = (
        float(np.sum(WG * WG))
        if scored.null is None
        else float(np.sum(WG * WG * scored.null.weights))
    )
    if not (np.trace(Phi) > 1e-8 * total and Phi.sum() > 1e-10 * np.trace(Phi)):
        return None
    log10_burden = None
    if scored.null is not None:
        S, Phi, logs = _calibrated(WG, S, Phi, scored.null)
        log10_burden, factor = _burden(WG.sum(axis=0), scored.null, S, Phi)
        Phi = Phi * factor
    else:
        assert scored.free is not None
        z2 = S**2 / np.maximum(np.diag(Phi), 1e-300)
        rest = np.maximum(scored.free - z2, 1e-300)
        logs = log10_f_tail((scored.free - 1.0) * z2 / rest, scored.free - 1.0)
    many = mac > RARE
    each, share = list(logs[many]), list(w[many] ** 2 * maf[many] * (1.0 - maf[many]))
    if (~many).any():
        few = ~many
        each.append(_of_rare(WG[few], S[few], Phi[np.ix_(few, few)], scored))
        share.append(np.mean(w[few]) ** 2 * np.mean(maf[few]) * (1.0 - np.mean(maf[few])))
    tests = tests_of_set(
        S, Phi, np.array(each), np.array(share), free=scored.free, log10_burden=log10_burden
    )
    sigma = scored.sigma
    return replace(tests, estimate=sigma * tests.estimate, std_error=sigma * tests.std_error)


def _of_rare(WG: Floats, S: Floats, Phi: Floats, scored: Scored) -> float:
    """log10 p of the burden of very rare variants."""
    if scored.null is not None:
        return _burden(WG.sum(axis=0), scored.null, S, Phi)[0]
    assert scored.free is not None
    z2 = np.array([float(S.sum()) ** 2 / max(float(Phi.sum()), 1e-300)])
    rest = np.maximum(scored.free - z2, 1e-300)
    return float(log10_f_tail((scored.free - 1.0) * z2 / rest, scored.free - 1.0)[0])


def _spa(g: Floats, s: float, variance: float, null: LogisticNull) -> float:
    """log10 p of a score by the saddlepoint; normal near the middle."""
    if not s * s > LOOK * variance:
        return float(log10_chi2_tail(np.array([s * s / variance]))[0])
    adjusted = null.adjusted(g[None])[0]
    plain = float((adjusted * adjusted) @ null.weights)
    few = g != 0.0
    if few.mean() > 0.5:
        few = np.ones(len(g), dtype=bool)
    return saddlepoint(few, adjusted, null.mu, s / np.sqrt(variance / plain))


def _widened(s: float, variance: float, log10_p: float) -> float:
    """The variance at which a normal score would have the p value."""
    from scipy.special import ndtri_exp

    z = float(ndtri_exp(log10_p * np.log(10.0) - np.log(2.0)))
    return max(variance, s * s / (z * z)) if z else variance


def _calibrated(
    WG: Floats, S: Floats, Phi: Floats, null: LogisticNull
) -> tuple[Floats, Floats, Floats]:
    """Scale variances so that each variant has its saddlepoint p (Zhou et al. 2020)."""
    own = np.diag(Phi).copy()
    logs = np.array([_spa(g, s, v, null) for g, s, v in zip(WG, S, own, strict=True)])
    wide = np.array([_widened(s, v, p) for s, v, p in zip(S, own, logs, strict=True)])
    scale = np.sqrt(wide / own)
    return S, Phi * np.outer(scale, scale), logs


def _burden(g: Floats, null: LogisticNull, S: Floats, Phi: Floats) -> tuple[float, float]:
    """log10 p of the burden by the saddlepoint, and how much wider that makes the set."""
    s, widened = float(S.sum()), float(Phi.sum())
    variance = float(null.variance(g[None], null.root)[0])
    log10_p = _spa(g, s, variance, null)
    return log10_p, max(1.0, _widened(s, variance, log10_p) / widened)


@explained
def gene_sets(
    formula: str,
    genotypes: Any,
    phenotypes: Any = None,
    *,
    sets: Any,
    covariates: Any = None,
    relationship: Any = "loco",
    family: str = "gaussian",
    weights: tuple[float, float] = (1.0, 25.0),
    max_maf: float = 0.01,
    min_mac: float = 1.0,
    max_missing: float = 0.05,
    keep: Any = None,
    remove: Any = None,
    transform: str | None = None,
    na: Sequence[str] = NA,
    n_jobs: int | None = None,
    progress: bool | None = None,
) -> GeneSets:
    """Test sets of variants, such as the rare ones of a gene, for association with a trait.

    Parameters
    ----------
    formula, genotypes, phenotypes, covariates, relationship, family, keep, remove, transform, na
        As in `scan`, of one trait.
    sets : mapping, table or path
        Names of sets to lists of variants; or a table (or text file with a heading) with the
        columns ``set, variant``, or ``set, chromosome, start, end``.
    weights : (float, float)
        Of the beta density of the minor allele frequency; ``(1, 1)`` weighs all alike.
    max_maf, min_mac, max_missing : float
        Of the variants that enter.
    n_jobs : int, optional
    progress : bool, optional

    Returns
    -------
    GeneSets
        ``tidy()``: a row a set: the burden test with its estimate, SKAT, SKAT-O, ACAT-V, and the
        omnibus test.

    Notes
    -----
    Tails are exact to some ten digits however small, those of burden and SKAT of a Gaussian trait
    with the estimation of the variance accounted for. Of binary traits the variances of
    scores are widened until each variant, and the burden, has its saddlepoint p value.

    Examples
    --------
    >>> from ranef import gwas
    >>> study = gwas.simulate(n=200, m=300, causal=2, causal_h2=0.3, rng=1)
    >>> names = study.genotypes.variants.id
    >>> sets = {"all causal": study.causal["variant"], "first": names[:10]}
    >>> found = gwas.gene_sets(
    ...     "trait ~ sex", study.genotypes, study.phenotypes, sets=sets, max_maf=0.5,
    ...     weights=(1, 1), relationship="centred",
    ... ).tidy()
    >>> bool(found["p_skat"][0] < found["p_skat"][1])
    True
    """
    family = arguments.choice("family", family, FAMILIES)
    if family == "binomial" and transform is not None:
        raise ModelError("transform= changes a trait's values, and a binary one has only two")
    shape = _shape(weights)
    source, notes = settled(open_genotypes(genotypes))
    limits = Limits.read(source.calls, min_maf=0.0, max_missing=max_missing, min_mac=min_mac)
    rarest = arguments.number("max_maf", max_maf)
    if not 0.0 < rarest <= 0.5:
        raise ModelError(f"max_maf must lie between 0 and 0.5, not {rarest:g}")
    found, said = read_sets(sets, source.variants)
    ((name, text),) = formulas_of(formula, None).items()
    allowed = np.ones(len(source.samples), dtype=bool)
    if keep is not None:
        allowed &= sample_places("keep", keep, source.samples)
    if remove is not None:
        allowed &= ~sample_places("remove", remove, source.samples)
    matched = match(
        source.samples, phenotypes, covariates, na=tuple(na), allowed=allowed,
        traits=trait_columns({name: text}),
    )  # fmt: skip
    trait = trait_of(name, text, matched.columns, matched.places, transform, (), family)
    jobs = available_cores(None if n_jobs is None else arguments.count("n_jobs", n_jobs))
    shown = arguments.optional_flag("progress", progress)
    related = relate(relationship, source, allowed, trait.places, jobs, shown)
    plan = Plan(
        source, Chosen.of(source.samples, trait.places), trait, family, limits, rarest, shape
    )
    rows = _all(plan, related, found, jobs, shown)
    return GeneSets(
        trait, rows, family, related.name, rarest, shape,
        (*trait.notes, *notes, *matched.notes, *said), matched.library,
    )  # fmt: skip


def _shape(weights: Any) -> tuple[float, float]:
    try:
        a, b = (float(value) for value in weights)
    except (TypeError, ValueError):
        raise ModelError(f"weights are two numbers, such as (1, 25), not {weights!r}") from None
    if not (0.0 < a < np.inf and 0.0 < b < np.inf):
        raise ModelError(f"weights are two positive numbers, not {weights!r}")
    return a, b


def _all(
    plan: Plan,
    related: Related,
    found: dict[str, NDArray[np.intp]],
    jobs: int,
    progress: bool | None,
) -> tuple[SetRow, ...]:
    """Test all sets, those of a chromosome against the relationship by the others."""
    of = plan.source.variants.chromosome
    homes: dict[str | None, list[str]] = {}
    done: dict[str, SetRow] = {}
    for name, rows in found.items():
        chromosomes = list(dict.fromkeys(of[rows].tolist()))
        if related.apart and len(chromosomes) > 1:
            done[name] = SetRow(name, ",".join(chromosomes), len(rows), 0.0, None, "chromosomes")
            continue
        home = chromosomes[0] if related.apart and chromosomes else None
        homes.setdefault(home, []).append(name)

    def each() -> Any:
        for home, names in homes.items():
            scored = plan.scored(related.matrix(plan.trait.places, home))
            with one_blas_thread():

                def test(name: str, scored: Scored = scored) -> SetRow:
                    return plan.test(name, found[name], scored)

                yield from in_threads(test, names, jobs)

    for row in arriving(each(), sum(map(len, homes.values())), "testing sets", progress,
                        unit=" sets"):  # fmt: skip
        done[row.name] = row
    return tuple(done[name] for name in found)
