"""`Scan`: what a genome-wide scan found, as tables, sentences, pictures and files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from os import PathLike
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ranef import arguments
from ranef.display.answer import Answer
from ranef.display.columns import Column, Fixed, Label, Listing, Significant, Sized, Written
from ranef.display.numbers import count as counted
from ranef.display.page import Paragraph
from ranef.elsewhere import explained_methods
from ranef.errors import ModelError
from ranef.fields.gwas.clumping import Clump, clumps
from ranef.fields.gwas.formats import write_scan
from ranef.fields.gwas.genotypes import Chosen, Genotypes
from ranef.fields.gwas.model import Trait
from ranef.fields.gwas.pictures import ScanPlots
from ranef.fields.gwas.quality import OK, REASONS
from ranef.fields.gwas.tails import log10_chi2_tail, log10_f_tail
from ranef.tables import make_table

__all__ = ["Scan", "TraitScan", "WithoutVariant", "Words"]

Floats = NDArray[np.float64]

MEDIAN = 0.45493642311957283
TOP = 10
TESTS = ("wald", "lrt", "score")
CODED = {
    "additive": "per copy of the effect allele",
    "dominant": "of carrying the effect allele",
    "recessive": "of carrying two effect alleles",
}


class WithoutVariant(Protocol):
    """What a table says of the model without a variant."""

    @property
    def pve(self) -> float: ...
    @property
    def pve_se(self) -> float: ...
    @property
    def loglik_reml(self) -> float: ...
    @property
    def loglik_ml(self) -> float: ...
    @property
    def lambda_reml(self) -> float: ...
    @property
    def boundary(self) -> bool: ...


@dataclass(frozen=True)
class Words:
    """How a scan's model is said.

    Attributes
    ----------
    related, unrelated : str
        The model with a relationship, and without.
    variants : str
        What variants have of their own.
    """

    related: str
    unrelated: str
    variants: str


@dataclass(frozen=True, eq=False)
class TraitScan:
    """What was found of one trait; arrays are by variants of the file.

    Attributes
    ----------
    trait : Trait
    null : NullFit, or another with its figures
        Of the relationship by all chromosomes.
    n, n_missing : (m,) int arrays
    frequency, info, beta, std_error, lambda_reml, lambda_ml : (m,) arrays
    log10_p : dict of str to (m,) arrays
        ``wald``, ``lrt``, ``score``, and what else there is: log10 of the p values.
    lrt : (m,) array
        The likelihood-ratio statistic.
    status : (m,) array of text
    df : float or (m,) array
        Degrees of freedom of the Wald test.
    chief : str
        The test whose p values are drawn, clumped and written.
    extra : dict of str to (m,) arrays
        Further columns of the table.
    tables : tuple of Listing
        Further tables.
    kind : str
        ``"single"``, ``"interaction"`` or ``"joint"``.
    """

    trait: Trait
    null: WithoutVariant
    n: NDArray[np.int64]
    n_missing: NDArray[np.int64]
    frequency: Floats
    info: Floats
    beta: Floats
    std_error: Floats
    lambda_reml: Floats
    lambda_ml: Floats
    log10_p: dict[str, Floats]
    lrt: Floats
    status: NDArray[np.object_]
    df: float | Floats
    chief: str = "wald"
    extra: dict[str, NDArray[Any]] = field(default_factory=dict)
    tables: tuple[Listing, ...] = ()
    kind: str = "single"

    @property
    def chief_log10_p(self) -> Floats:
        """log10 p of the chief test."""
        return self.log10_p[self.chief]

    @property
    def tested(self) -> NDArray[np.bool_]:
        tested: NDArray[np.bool_] = self.status == OK
        return tested

    @cached_property
    def lambda_gc(self) -> float:
        """Median of the chi-squared values that belong to the p values, over what is expected."""
        from scipy.special import ndtri_exp

        p = self.chief_log10_p[self.tested]
        if not len(p):
            return float("nan")
        return float(ndtri_exp(np.log(10.0) * np.median(p) - np.log(2.0)) ** 2 / MEDIAN)


@explained_methods
@dataclass(frozen=True, eq=False, repr=False)
class Scan(Answer):
    """A genome-wide association scan; `gwas.scan` makes it.

    Attributes
    ----------
    found : dict of str to TraitScan
        By trait.
    failed : dict of str to str
        Traits that could not be analysed, and why.
    genotypes : Genotypes
    effect, relationship : str
    words : Words
        How the model is said.
    sample_counts : tuple of (str, str, int)
        Trait (empty for all), reason, samples.
    notes : tuple of str
    library : str

    Examples
    --------
    >>> from ranef import gwas
    >>> study = gwas.simulate(n=150, m=400, causal=2, causal_h2=0.4, rng=1)
    >>> scan = gwas.scan("trait ~ sex + age", study.genotypes, study.phenotypes)
    >>> scan.tidy().shape, scan.glance()["n"].tolist()
    ((400, 22), [150])
    """

    found: dict[str, TraitScan]
    failed: dict[str, str]
    genotypes: Genotypes
    effect: str
    relationship: str
    words: Words
    sample_counts: tuple[tuple[str, str, int], ...]
    notes: tuple[str, ...]
    library: str

    @property
    def title(self) -> str:
        return f"Genome-wide scan of {', '.join(self.found)}"

    def only(self, trait: str | None = None) -> TraitScan:
        """Return one trait's results; the only one's without a name."""
        if trait is None and len(self.found) == 1:
            return next(iter(self.found.values()))
        if trait is None:
            raise ModelError(
                f"the scan has {len(self.found)} traits; name one: trait={next(iter(self.found))!r}"
            )
        return self.found[arguments.choice("trait", trait, tuple(self.found))]

    # --- tables

    def tidy(self) -> Any:
        """Return a row for every variant of the file and every trait.

        Returns
        -------
        table
            ``trait, chromosome, position, variant, effect_allele, other_allele, n, n_missing,
            frequency, info, estimate, std_error, df, p_wald, p_lrt, p_score, neg_log10_p_wald,
            neg_log10_p_lrt, neg_log10_p_score, lambda_reml, lambda_ml, status``. `estimate`
            is per copy of the effect allele (or of the effect's coding), `status` ``"ok"`` or the
            reason why a variant was not tested.
        """
        return self.tabled(self._variants())

    def glance(self) -> Any:
        """Return a row for each trait.

        Returns
        -------
        table
            ``trait, n, n_tested, pve, pve_se, loglik_reml, loglik_ml, lambda_reml, lambda_gc,
            boundary``: `pve` is the share of variance that the relationship explains, of the
            model without a variant.
        """
        return self.tabled(self._glance())

    @property
    def filters(self) -> Any:
        """Variants by what became of them: ``trait, reason, meaning, n``."""
        return self.tabled(self._filters())

    @property
    def samples(self) -> Any:
        """Samples by what became of them: ``trait, reason, n``; no trait where it is of all."""
        return self.tabled(self._samples())

    def top(self, n: int = TOP, *, trait: str | None = None) -> Any:
        """Return the variants of the smallest p values (Wald), as `tidy` has them."""
        count = arguments.count("n", n)
        traits = list(self.found) if trait is None else [self._name(trait)]
        return make_table(self._rows(traits, count), self.library)

    def _name(self, trait: str) -> str:
        return arguments.choice("trait", trait, tuple(self.found))

    def clump(
        self,
        *,
        trait: str | None = None,
        p1: float = 5e-8,
        p2: float = 1e-4,
        r2: float = 0.5,
        kb: float = 250.0,
    ) -> Any:
        """Return the leading variants of regions: what is linked with one is put under it.

        From the smallest p value on, a variant below `p1` takes all below `p2` that lie within
        `kb` thousand base pairs and have a squared correlation of at least `r2` with it.

        Returns
        -------
        table
            ``trait, chromosome, position, variant, p_wald, neg_log10_p_wald, n_clumped,
            clumped``.
        """
        name = next(iter(self.found)) if trait is None and len(self.found) == 1 else self._name(
            trait if trait is not None else "")  # fmt: skip
        one = self.found[name]
        for label, value in (("p1", p1), ("p2", p2), ("r2", r2)):
            if not 0.0 < arguments.number(label, value) <= 1.0:
                raise ModelError(f"{label} must lie between 0 and 1, not {value:g}")
        if not arguments.number("kb", kb) > 0:
            raise ModelError(f"kb must be positive, not {kb:g}")
        chosen = Chosen.of(self.genotypes.samples, one.trait.places)
        held = clumps(self.genotypes, chosen, one.chief_log10_p, one.tested, p1, p2, r2, kb)
        return make_table(self._clumped(name, held), self.library)

    def _clumped(self, name: str, held: Sequence[Clump]) -> dict[str, Any]:
        v, log = self.genotypes.variants, self.found[name].chief_log10_p
        rows = [clump.lead for clump in held]
        return {
            "trait": [name] * len(rows),
            "chromosome": v.chromosome[rows].tolist(),
            "position": v.position[rows],
            "variant": v.id[rows].tolist(),
            "p_wald": 10.0 ** log[rows],
            "neg_log10_p_wald": -log[rows],
            "n_clumped": np.array([len(c.members) for c in held], dtype=np.int64),
            "clumped": [",".join(v.id[c.members].tolist()) for c in held],
        }

    # --- files

    def save(
        self, path: str | PathLike[str], *, format: str | None = None, trait: str | None = None
    ) -> Path:
        """Write the results of one trait in the format of another program.

        Parameters
        ----------
        path : path-like
            Compressed where it ends in ``.gz``.
        format : {"gwas-ssf", "gemma", "regenie", "plink2", "parquet"}, optional
            By default Parquet for ``.parquet``, GWAS-SSF otherwise, which has a ``.yaml`` of its
            own beside it. Parquet has all traits and columns; the others tested variants alone.
        trait : str, optional
            Of several.
        """
        target = arguments.path(path)
        if format is None:
            format = "parquet" if target.suffix == ".parquet" else "gwas-ssf"
        return write_scan(self, target, format, trait)

    def report(self, path: str | PathLike[str], *, call: str | None = None) -> Path:
        """Write the report, one HTML page with tables and pictures.

        Parameters
        ----------
        path : path-like
            An existing file is replaced.
        call : str, optional
            The command that made it, shown under "How to reproduce".
        """
        from ranef.fields.gwas import page

        return page.write(self, path, call)

    @property
    def plot(self) -> ScanPlots:
        """The pictures: ``plot.qq()``, ``plot.manhattan()``, ``plot.miami()``."""
        return ScanPlots(self)

    # --- how it is said

    def tables(self) -> tuple[Listing, ...]:
        more = [listing for one in self.found.values() for listing in one.tables]
        return (self._glance(), *more, self._top(), self._filters(), self._samples())

    def columns(self, traits: Sequence[str], rows: Sequence[Any]) -> dict[str, Any]:
        """Return the columns of some variants of each trait."""
        v = self.genotypes.variants
        made: dict[str, list[Any]] = {}

        def put(name: str, values: Any) -> None:
            made.setdefault(name, []).append(values)

        for name, take in zip(traits, rows, strict=True):
            one = self.found[name]
            n = one.n[take]
            put("trait", np.full(len(n), name, dtype=object))
            put("chromosome", v.chromosome[take])
            put("position", v.position[take])
            put("variant", v.id[take])
            put("effect_allele", v.effect_allele[take])
            put("other_allele", v.other_allele[take])
            put("n", n)
            put("n_missing", one.n_missing[take])
            put("frequency", one.frequency[take])
            put("info", one.info[take])
            put("estimate", one.beta[take])
            put("std_error", one.std_error[take])
            put("df", np.where(one.tested, one.df, np.nan)[take])
            for test in TESTS:
                put(f"p_{test}", 10.0 ** one.log10_p[test][take])
            for test in TESTS:
                put(f"neg_log10_p_{test}", 0.0 - one.log10_p[test][take])
            put("lambda_reml", one.lambda_reml[take])
            put("lambda_ml", one.lambda_ml[take])
            for label, values in one.extra.items():
                put(label, values[take])
            put("status", one.status[take])
        return {name: np.concatenate(values) for name, values in made.items()}

    def _variants(self) -> Listing:
        everything = [slice(None)] * len(self.found)
        columns = self.columns(list(self.found), everything)
        return Listing("variants", tuple(Column(k, v, printed=False) for k, v in columns.items()))

    def leading(self, trait: str, count: int) -> NDArray[np.intp]:
        """Variants of the smallest p values (Wald), the smallest first."""
        log = np.where(self.found[trait].tested, self.found[trait].chief_log10_p, np.inf)
        count = min(count, int(self.found[trait].tested.sum()))
        return np.argsort(log, kind="stable")[:count]

    def _rows(self, traits: Sequence[str], count: int) -> dict[str, Any]:
        return self.columns(traits, [self.leading(name, count) for name in traits])

    def _glance(self) -> Listing:
        each = list(self.found.values())
        nulls = [one.null for one in each]
        columns = (
            Column("trait", list(self.found)),
            Column("n", [len(one.trait.y) for one in each], Written("{:,}".format)),
            Column(
                "n_tested",
                [int(one.tested.sum()) for one in each],
                Written("{:,}".format),
                "tested",
            ),
            Column("pve", np.array([null.pve for null in nulls]), Fixed(4), "PVE"),
            Column("pve_se", np.array([null.pve_se for null in nulls]), Fixed(4), "std. error"),
            Column(
                "loglik_reml",
                np.array([null.loglik_reml for null in nulls]),
                Fixed(3),
                printed=False,
            ),
            Column(
                "loglik_ml", np.array([null.loglik_ml for null in nulls]), Fixed(3), printed=False
            ),
            Column(
                "lambda_reml",
                np.array([null.lambda_reml for null in nulls]),
                Significant(),
                "lambda",
            ),
            Column("lambda_gc", np.array([one.lambda_gc for one in each]), Fixed(3), "lambda_GC"),
            Column("boundary", [null.boundary for null in nulls], printed=False),
        )
        return Listing("glance", columns, "Traits")

    def _top(self) -> Listing:
        found = self._rows(list(self.found), TOP)
        sized = Sized(found["std_error"])
        log = np.concatenate(
            [-one.chief_log10_p[self.leading(name, TOP)] for name, one in self.found.items()]
        )
        columns = (
            Column("trait", found["trait"].tolist(), printed=len(self.found) > 1),
            Column("variant", found["variant"].tolist()),
            Column("chromosome", found["chromosome"].tolist(), Label(), "chr"),
            Column("position", found["position"], Written("{:,}".format)),
            Column("effect_allele", found["effect_allele"].tolist(), Label(), "allele"),
            Column("frequency", found["frequency"], Fixed(3), "freq."),
            Column("estimate", found["estimate"], sized),
            Column("std_error", found["std_error"], sized, "std. error"),
            Column("p_wald", log, Written(written_p), "p"),
        )
        return Listing("top", columns, "Smallest p values", labels=2 + (len(self.found) > 1))

    def _filters(self) -> Listing:
        rows = []
        for name, one in self.found.items():
            states, counts = np.unique(one.status.astype(str), return_counts=True)
            known = dict(zip(states.tolist(), counts.tolist(), strict=True))
            rows += [(name, r, REASONS[r], known[r]) for r in REASONS if r in known]
        trait, reason, meaning, n = zip(*rows, strict=True)
        columns = (
            Column("trait", list(trait), printed=len(self.found) > 1),
            Column("reason", list(reason)),
            Column("meaning", list(meaning)),
            Column("n", np.array(n), Written("{:,}".format), "variants"),
        )
        return Listing("filters", columns, "Variants", labels=2 + (len(self.found) > 1))

    def _samples(self) -> Listing:
        trait, reason, n = zip(*self.sample_counts, strict=True)
        columns = (
            Column("trait", list(trait), printed=len(self.found) > 1),
            Column("reason", list(reason)),
            Column("n", np.array(n), Written("{:,}".format), "samples"),
        )
        return Listing("samples", columns, "Samples", labels=1 + (len(self.found) > 1))

    def body(self) -> Any:
        yield self._glance()
        for one in self.found.values():
            yield from one.tables
        yield self._top()
        yield self._filters()
        yield self._samples()
        yield Paragraph(self.sentences())

    def sentences(self) -> tuple[str, ...]:
        said = [self.how()]
        for name, one in self.found.items():
            if one.null.boundary:
                which = "0" if one.null.pve < 0.5 else "1"
                said.append(
                    f"{name}: the share of variance that the relationship explains is estimated at "
                    f"its boundary, {which}; its standard error is not defined there."
                )
            said += [f"{name}: {note}." for note in one.trait.notes]
        said += [f"{note[0].upper()}{note[1:]}." for note in self.notes]
        said += [f"{name} was not analysed: {why}" for name, why in self.failed.items()]
        return tuple(said)

    def how(self) -> str:
        """How variants were tested, in a sentence."""
        m = len(self.genotypes.variants)
        coded = CODED[self.effect]
        start = f"{counted(m, 'variant')} of {self.genotypes.name}; effects are {coded}."
        words = self.words
        if self.relationship == "none":
            return f"{start} {words.unrelated}."
        if self.relationship == "loco":
            end = "" if words.related != "Mixed model" else (
                " relationship='centred' gives GEMMA's numbers.")  # fmt: skip
            return (
                f"{start} {words.related} with the relationship matrix of all other chromosomes "
                f"(leave one chromosome out); {words.variants}.{end}"
            )
        if self.relationship == "two-step":
            return (
                f"{start} Ridge predictions without the tested chromosome, and close kin (two "
                f"steps); {words.variants}. Adjust for populations by covariates (gwas.pca)."
            )
        return (
            f"{start} {words.related} with a {self.relationship} relationship matrix; "
            f"{words.variants}."
        )


def written_p(neg_log10: float) -> str:
    """Write a p value from minus its log10, however small.

    Examples
    --------
    >>> written_p(1.30103), written_p(9.0), written_p(400.25)
    ('0.05000', '1.00e-09', '5.62e-401')
    """
    if np.isnan(neg_log10):
        return ""
    if neg_log10 < 4.0:
        return f"{10.0**-neg_log10:.5f}"
    power = int(np.ceil(neg_log10))
    digits = 10.0 ** (power - neg_log10)
    if round(digits, 2) >= 10.0:
        digits, power = digits / 10.0, power - 1
    return f"{digits:.2f}e-{power:02d}"


def log10_p_of(wald: Floats, lrt: Floats, score: Floats, df: float) -> dict[str, Floats]:
    """log10 p of the three tests."""
    return {
        "wald": log10_f_tail(wald, df),
        "lrt": log10_chi2_tail(lrt),
        "score": log10_f_tail(score, df),
    }
