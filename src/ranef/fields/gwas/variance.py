"""`null`: the model without a variant; `heritability`: the share that relationship explains."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ranef import arguments
from ranef.display.answer import Answer
from ranef.display.canvas import percent
from ranef.display.columns import Column, Fixed, Listing, PValue, Significant, Sized, Written
from ranef.display.progress import arriving
from ranef.elsewhere import explained, explained_methods
from ranef.errors import DataError, DataWarning, ModelError, RanefError, warn
from ranef.fields.gwas.engine import basis_of, null_of, rotated
from ranef.fields.gwas.genotypes import Samples
from ranef.fields.gwas.matching import Matched, match
from ranef.fields.gwas.memory import check_forecast
from ranef.fields.gwas.model import TRANSFORMS, Trait, formulas_of, trait_columns, trait_of
from ranef.fields.gwas.relating import relate_given
from ranef.fields.gwas.spectrum import HIGHEST, LOWEST, NullFit, Rotated, nodes_at
from ranef.solve.resources import one_blas_thread

__all__ = ["Held", "Heritabilities", "NullModel", "heritability", "null"]

Floats = NDArray[np.float64]

NA = ("NA", "nan", ".", "", "-9")
SQUARES = 4.0
"""Matrices of the order of the samples while one is decomposed: a copy, vectors, LAPACK's two."""


@explained_methods
@dataclass(frozen=True, eq=False, repr=False)
class NullModel(Answer):
    """A mixed model without a variant; `gwas.null` makes it.

    Attributes
    ----------
    trait : Trait
    fit : NullFit
    sample_counts : tuple of (str, int)
    notes : tuple of str
    library : str

    Examples
    --------
    >>> from ranef import gwas
    >>> study = gwas.simulate(n=200, m=400, h2=0.6, rng=1)
    >>> null = gwas.null("trait ~ sex", study.phenotypes, relationship=gwas.grm(study.genotypes))
    >>> 0 < null.pve < 1
    True
    """

    trait: Trait
    fit: NullFit
    sample_counts: tuple[tuple[str, int], ...]
    notes: tuple[str, ...]
    library: str

    @property
    def title(self) -> str:
        return f"Mixed model of {self.trait.name} with a relationship"

    @property
    def pve(self) -> float:
        """Share of variance that the relationship explains (REML)."""
        return self.fit.pve

    @property
    def pve_se(self) -> float:
        """Its standard error, NaN at the boundary."""
        return self.fit.pve_se

    @property
    def boundary(self) -> bool:
        """Whether the share is estimated at 0 or 1."""
        return self.fit.boundary

    @property
    def loglik_reml(self) -> float:
        """Restricted log-likelihood, as `ranef.lmm` has it."""
        return self.fit.loglik_reml

    @property
    def loglik_ml(self) -> float:
        """Log-likelihood at its own optimum."""
        return self.fit.loglik_ml

    def tidy(self, table: str = "fixed") -> Any:
        """Return the covariates, ``term, estimate, std_error``; or ``variance``: ``parameter,
        estimate, std_error``.
        """
        return self.tabled(self.listing(table))

    def glance(self) -> Any:
        """Return ``trait, n, pve, pve_se, p_zero, loglik_reml, loglik_ml, lambda_reml, lambda_ml,
        boundary`` in a row.
        """
        return self.tabled(self.listing("glance"))

    def tables(self) -> tuple[Listing, ...]:
        fit = self.fit
        sized = Sized(fit.beta_se)
        fixed = (
            Column("term", list(self.trait.names)),
            Column("estimate", fit.beta, sized),
            Column("std_error", fit.beta_se, sized, "std. error"),
        )
        relation = fit.sigma2 * fit.lambda_reml * fit.trace
        names = ["relationship", "residual", "share (PVE)"]
        values = np.array([relation, fit.sigma2, fit.pve])
        variance = (
            Column("parameter", names),
            Column("estimate", values, Significant()),
            Column(
                "std_error",
                np.array([np.nan, np.nan, fit.pve_se]),
                Written(_or_nothing, measured=True),
                "std. error",
            ),
        )
        row = {
            "trait": [self.trait.name], "n": [fit.n], "pve": [fit.pve], "pve_se": [fit.pve_se],
            "p_zero": [fit.p_zero], "loglik_reml": [fit.loglik_reml], "loglik_ml": [fit.loglik_ml],
            "lambda_reml": [fit.lambda_reml], "lambda_ml": [fit.lambda_ml],
            "boundary": [fit.boundary],
        }  # fmt: skip
        glance = tuple(Column(name, value) for name, value in row.items())
        return (
            Listing("fixed", fixed, "Covariates"),
            Listing("variance", variance, "Variances (REML; of the mean diagonal)"),
            Listing("glance", glance, "Model"),
        )

    def body(self) -> Any:
        from ranef.display.page import Paragraph

        yield self.listing("fixed")
        yield self.listing("variance")
        yield Paragraph(self.sentences())

    def sentences(self) -> tuple[str, ...]:
        fit = self.fit
        said = [
            f"{fit.n:,} samples. Restricted log-likelihood {fit.loglik_reml:.4f}, log-likelihood "
            f"{fit.loglik_ml:.4f}."
        ]
        if fit.boundary:
            said.append(
                f"The share is estimated at its boundary, {0 if fit.pve < 0.5 else 1}; its "
                "standard error is not defined there."
            )
        else:
            p = PValue().cell(fit.p_zero, 0)
            said.append(f"A share of zero: p {p if p.startswith('<') else f'= {p}'}.")
        return (*said, *(f"{n[0].upper()}{n[1:]}." for n in (*self.notes, *self.trait.notes)))


def _or_nothing(value: float) -> str:
    return "" if np.isnan(value) else f"{value:.4f}"


@explained
def null(
    formula: str,
    phenotypes: Any,
    *,
    relationship: Any,
    covariates: Any = None,
    transform: str | None = None,
    na: Sequence[str] = NA,
) -> NullModel:
    """Fit the mixed model of a scan without a variant, by REML and by ML.

    Parameters
    ----------
    formula, phenotypes, covariates, transform, na
        As in `scan`; samples are those of the relationship.
    relationship : Relationship, matrix or path
        As in `scan`, with names. Where the covariates have a constant it is centred over the
        analysed samples.

    Returns
    -------
    NullModel
        ``pve``, ``pve_se``, ``boundary``, ``tidy()``, ``glance()``.

    Examples
    --------
    >>> from ranef import gwas
    >>> study = gwas.simulate(n=200, m=400, h2=0.6, rng=1)
    >>> null = gwas.null("trait ~ sex", study.phenotypes, relationship=gwas.grm(study.genotypes))
    >>> null.tidy()["term"].tolist()
    ['(Intercept)', 'sexmale']
    """
    formulas = formulas_of(formula, None)
    held = Held.of(formulas, phenotypes, relationship, covariates, na)
    ((name, text),) = formulas.items()
    trait, model = held.model(name, text, transform)
    with one_blas_thread():
        fit = null_of(model[0], model[1])
    counts = (*held.matched.counts, *trait.counts, ("analysed", fit.n))
    return NullModel(trait, fit, counts, held.matched.notes, held.matched.library)


@dataclass(frozen=True, eq=False)
class Held:
    """Matched tables and the relationship of their samples."""

    matched: Matched
    related: Any

    @classmethod
    def of(
        cls, formulas: dict[str, str], phenotypes: Any, relationship: Any, covariates: Any, na: Any
    ) -> Held:
        if phenotypes is None:
            raise ModelError("phenotypes is a table, or the path of one, with a column IID")
        nobody = Samples((), (), np.zeros(0, dtype=np.int32))
        related = relate_given(relationship, nobody)
        if related.whole is None:
            raise ModelError("a share of variance needs a relationship; see gwas.grm")
        whole = related.whole
        if isinstance(whole.matrix, np.ndarray):
            n = len(whole)
            check_forecast(
                None, SQUARES * 8.0 * n * n, f"decomposing the relationship of {n:,} samples",
                "give the relationship of fewer samples, or gwas.sparse_grm",
            )  # fmt: skip
        samples = Samples(whole.fid, whole.iid, np.zeros(len(whole), dtype=np.int32))
        allowed = np.ones(len(whole), dtype=bool)
        matched = match(
            samples, phenotypes, covariates, na=tuple(na), allowed=allowed,
            traits=trait_columns(formulas),
        )  # fmt: skip
        return cls(matched, relate_given(whole, samples))

    def trait(self, name: str, formula: str, transform: str | None) -> Trait:
        """Read a trait."""
        if transform is not None:
            arguments.choice("transform", transform, TRANSFORMS)
        return trait_of(name, formula, self.matched.columns, self.matched.places, transform)

    def model(self, name: str, formula: str, transform: str | None) -> tuple[Trait, Any]:
        """Return a trait, and its basis and model."""
        trait = self.trait(name, formula, transform)
        K = self.related.matrix(trait.places, None)
        basis = basis_of(K, len(trait.y), trait.intercept, False)
        return trait, (basis, rotated(basis, trait.W, trait.y))


@explained_methods
@dataclass(frozen=True, eq=False, repr=False)
class Heritabilities(Answer):
    """Shares of variance that a relationship explains; `gwas.heritability` makes it.

    Attributes
    ----------
    traits : tuple of str
    fits : tuple of NullFit
    low, high : (k,) arrays
    conf_level : float
    failed : dict of str to str
    library : str
    """

    traits: tuple[str, ...]
    fits: tuple[NullFit, ...]
    low: Floats
    high: Floats
    conf_level: float
    failed: dict[str, str]
    library: str

    @property
    def title(self) -> str:
        return "Share of variance that the relationship explains"

    def tables(self) -> tuple[Listing, ...]:
        fits = self.fits
        columns = (
            Column("trait", list(self.traits)),
            Column("n", [fit.n for fit in fits], Written("{:,}".format)),
            Column("pve", np.array([fit.pve for fit in fits]), Fixed(4), "PVE"),
            Column("std_error", np.array([fit.pve_se for fit in fits]), Fixed(4), "std. error"),
            Column("conf_low", self.low, Fixed(4), f"{percent(self.conf_level)} low"),
            Column("conf_high", self.high, Fixed(4), "high"),
            Column("p_value", np.array([fit.p_zero for fit in fits]), PValue(), "p"),
            Column("boundary", [fit.boundary for fit in fits], printed=False),
        )
        return (Listing("heritability", columns, "REML, intervals by the profile likelihood"),)

    def sentences(self) -> tuple[str, ...]:
        return (
            "p tests a heritability of zero (by a mixture of chi-squared distributions with no and "
            "one degree of freedom).",
            *(f"{name} was not analysed: {why}" for name, why in self.failed.items()),
        )


@explained
def heritability(
    formula: str,
    phenotypes: Any,
    *,
    relationship: Any,
    traits: str | Sequence[str] | None = None,
    covariates: Any = None,
    transform: str | None = None,
    na: Sequence[str] = NA,
    conf_level: float = 0.95,
    progress: bool | None = None,
) -> Heritabilities:
    """Estimate the share of variance that a relationship explains, for one trait or several.

    Parameters
    ----------
    formula, phenotypes, traits, covariates, transform, na
        As in `scan`.
    relationship : Relationship, matrix or path
        As in `null`.
    conf_level : float
    progress : bool, optional
        Show a progress bar over the traits: always, never, or (None) where a person looks.

    Returns
    -------
    Heritabilities
        ``tidy()``: ``trait, n, pve, std_error, conf_low, conf_high, p_value, boundary``. The
        interval is that of the restricted profile likelihood, and stays between 0 and 1.

    Examples
    --------
    >>> from ranef import gwas
    >>> study = gwas.simulate(n=200, m=400, h2=0.6, rng=1)
    >>> K = gwas.grm(study.genotypes)
    >>> found = gwas.heritability("trait ~ sex", study.phenotypes, relationship=K).tidy()
    >>> bool(found.conf_low[0] < found.pve[0] < found.conf_high[0])
    True
    """
    level = arguments.conf_level(conf_level)
    shown = arguments.optional_flag("progress", progress)
    formulas = formulas_of(formula, traits)
    held = Held.of(formulas, phenotypes, relationship, covariates, na)
    names, fits, ends, failed = [], [], [], {}
    for name, text in arriving(
        formulas.items(), len(formulas), "shares of variance", shown, unit=" traits"
    ):
        try:
            _, (basis, model) = held.model(name, text, transform)
        except RanefError as error:
            if len(formulas) == 1:
                raise
            failed[name] = str(error)
            warn(f"trait {name!r} was not analysed: {error}", DataWarning)
            continue
        with one_blas_thread():
            fit = null_of(basis, model)
            ends.append(profile_interval(model, fit, level))
        names.append(name)
        fits.append(fit)
    if not names:
        raise DataError(f"no trait can be analysed: {next(iter(failed.values()))}")
    low, high = (np.array(column) for column in zip(*ends, strict=True))
    return Heritabilities(tuple(names), tuple(fits), low, high, level, failed, held.matched.library)


def profile_interval(model: Rotated, fit: NullFit, conf_level: float) -> tuple[float, float]:
    """Ends of the shares whose restricted likelihood is not too far below the best."""
    from scipy.optimize import brentq
    from scipy.special import chdtri

    drop = 0.5 * float(chdtri(1.0, 1.0 - conf_level))
    best = _reml(model, fit.t_reml)

    def gap(t: float) -> float:
        return best - _reml(model, t) - drop

    low = 0.0 if gap(LOWEST) < 0 else share(fit, brentq(gap, LOWEST, fit.t_reml, xtol=1e-8))
    high = 1.0 if gap(HIGHEST) < 0 else share(fit, brentq(gap, fit.t_reml, HIGHEST, xtol=1e-8))
    return low, high


def _reml(model: Rotated, t: float) -> float:
    at = nodes_at(model, np.array([t]))
    return float(at.likelihood(model.n, model.c, reml=True)[0])


def share(fit: NullFit, t: float) -> float:
    """The share of variance at a log variance ratio."""
    v = fit.trace * float(np.exp(t))
    return v / (1.0 + v)
