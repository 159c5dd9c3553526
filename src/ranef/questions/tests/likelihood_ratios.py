"""Several fits compared by their likelihoods: the table that `anova(fit1, fit2)` returns."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from ranef.display.answer import Answer, Part
from ranef.display.columns import Column, Fixed, Listing, PValue, unprinted
from ranef.display.numbers import number, p_value
from ranef.display.page import Paragraph
from ranef.display.progress import Ticker
from ranef.errors import DataError, ModelError
from ranef.fits.mixed import MixedFit
from ranef.fits.same_rows import in_order_of, missing_words, refitted_words, same_rows
from ranef.fits.several import model_words
from ranef.inference.nested import removal
from ranef.inference.nested.nesting import is_overdispersed, nesting, same_values
from ranef.inference.nested.ratio_distributions import (
    BootstrapRatio,
    LikelihoodRatio,
    bootstrap_ratio,
    likelihood_ratio,
    ratios,
)
from ranef.models.priors import refuse_penalised
from ranef.models.records import Estimate
from ranef.models.refitting import at_criterion

__all__ = ["ModelComparison", "compare_fits"]


@dataclass(frozen=True, eq=False)
class ComparedModel:
    """One model of a comparison, and its test against the one before."""

    name: str
    formula: str
    words: str
    estimate: Estimate
    test: LikelihoodRatio | None
    bootstrap: BootstrapRatio | None = None

    @property
    def aic(self) -> float:
        return self.estimate.deviance + 2.0 * self.estimate.n_parameters

    @property
    def bic(self) -> float:
        return self.estimate.deviance + math.log(self.estimate.specification.n) * (
            self.estimate.n_parameters
        )


@dataclass(frozen=True, eq=False, repr=False)
class ModelComparison(Answer):
    """Fits compared by their likelihoods; `ranef.anova` makes it.

    Attributes
    ----------
    models : tuple of ComparedModel
        By number of parameters; each with its test against the one before.
    criterion : {"ML", "REML"}
    notes : tuple of str
        What was refitted, which distributions hold, what is not nested.
    library : str
    """

    models: tuple[ComparedModel, ...]
    criterion: str
    notes: tuple[str, ...]
    library: str
    title: ClassVar[str] = "Comparison of models"

    def tidy(self) -> Any:
        """Return the comparison as a table in the library the data came in.

        Returns
        -------
        table
            ``model, formula, n_parameters, aic, bic, loglik, deviance, statistic, df,
            p_value, p_naive``. `p_value` allows for variances that are zero under the
            smaller model, `p_naive` is the chi-squared tail that does not; NaN where
            there is no known distribution. After a bootstrap `p_value` is its own, and
            ``p_asymptotic, p_bartlett, p_gamma, p_f, n_draws, n_failed`` follow.
        """
        return super().tidy()

    def tables(self) -> tuple[Listing, ...]:
        models, tests = self.models, [m.test for m in self.models]
        estimates = [m.estimate for m in models]
        columns = (
            Column("model", [m.name for m in models], heading=""),
            *unprinted(formula=[m.formula for m in models]),
            Column("n_parameters", [e.n_parameters for e in estimates], Fixed(0), "parameters"),
            Column("aic", [m.aic for m in models], Fixed(2), "AIC"),
            Column("bic", [m.bic for m in models], Fixed(2), "BIC"),
            Column("loglik", [e.loglik for e in estimates], Fixed(3)),
            Column("deviance", [e.deviance for e in estimates], Fixed(3)),
            Column("statistic", _numbers(tests, "statistic"), Fixed(3), "chisq"),
            Column("df", _numbers(tests, "df"), Fixed(0)),
            *self._p_columns(_numbers(tests, "p_value"), _numbers(tests, "p_naive")),
        )
        return (Listing("models", columns, f"Likelihood-ratio tests ({self.criterion})"),)

    def _p_columns(self, asymptotic: list[float], naive: list[float]) -> tuple[Column, ...]:
        drawn = [m.bootstrap for m in self.models]
        naively = Column("p_naive", naive, PValue(), "p naive")
        if not any(drawn):
            return Column("p_value", asymptotic, PValue(), "p"), naively
        return (
            Column("p_value", _numbers(drawn, "p_value"), PValue(), "p bootstrap"),
            naively,
            Column("p_asymptotic", asymptotic, PValue(), "p asymptotic"),
            *unprinted(
                **{name: _numbers(drawn, name) for name in ("p_bartlett", "p_gamma", "p_f")}
            ),
            *unprinted(n_draws=[len(b.draws) if b else 0 for b in drawn]),
            *unprinted(n_failed=[b.failed if b else 0 for b in drawn]),
        )

    def body(self) -> Iterable[Part]:
        yield Paragraph(tuple(f"{m.name}: {m.words}" for m in self.models))
        yield from super().body()

    def sentences(self) -> tuple[str, ...]:
        drawn = (_drawn_words(m.name, m.bootstrap) for m in self.models if m.bootstrap)
        return (*self.notes, *drawn)


def _numbers(records: Sequence[LikelihoodRatio | BootstrapRatio | None], name: str) -> list[float]:
    """An attribute of each record; NaN where there is none."""
    return [math.nan if record is None else float(getattr(record, name)) for record in records]


def _drawn_words(name: str, drawn: BootstrapRatio) -> str:
    lost = f", {drawn.failed} more failed" if drawn.failed else ""
    return (
        f"{name}: parametric bootstrap of {len(drawn.draws)} draws{lost}; p "
        f"{p_value(drawn.p_value)}, by Bartlett's correction {p_value(drawn.p_bartlett)}, "
        f"by a gamma distribution {p_value(drawn.p_gamma)}, by F with "
        f"{number(drawn.ddf, 1)} denominator degrees of freedom {p_value(drawn.p_f)}."
    )


def compare_fits(
    fits: Sequence[MixedFit],
    names: Sequence[str],
    *,
    refit: bool,
    draws: int | None,
    rng: np.random.Generator,
    n_jobs: int | None,
    progress: bool | None,
) -> ModelComparison:
    """Check, refit where needed, sort, and test each model against the one before."""
    fits = [fits[0], *(in_order_of(fits[0], fit) for fit in fits[1:])]
    _check_same_data(fits, names)
    estimates = [fit.estimate for fit in fits]
    for estimate in estimates:
        refuse_penalised(estimate, "a likelihood-ratio test")
    notes: list[str] = []
    criterion = "ML"
    if any(e.reml for e in estimates):
        if refit:
            notes.append(refitted_words(names, estimates))
            estimates = [at_criterion(e, reml=False) for e in estimates]
        else:
            _check_restricted(estimates, names)
            criterion = "REML"
    order = sorted(range(len(fits)), key=lambda i: estimates[i].n_parameters)
    models: list[ComparedModel] = []
    for place, i in enumerate(order):
        name, large, stated = names[i], estimates[i], (fits[i].formula, model_words(fits[i]))
        if place == 0:
            models.append(ComparedModel(name, *stated, large, None))
            continue
        small = models[-1].estimate
        gap = nesting(small, large)
        test = likelihood_ratio(small, large, gap)
        notes += _test_notes(f"{models[-1].name} in {name}", test, small, large)
        bootstrap = None
        nested = test.distribution is not None or gap.edge
        if draws is not None and test.df > 0 and nested:
            bootstrap = _bootstrap(small, large, test, draws, rng, n_jobs, progress)
        models.append(ComparedModel(name, *stated, large, test, bootstrap))
    return ModelComparison(tuple(models), criterion, tuple(notes), fits[0].frame.library)


def _check_same_data(fits: Sequence[MixedFit], names: Sequence[str]) -> None:
    """Refuse fits of different rows, responses, weights, or kinds of likelihood."""
    first, base = fits[0], fits[0].estimate.specification
    for name, fit in zip(names[1:], fits[1:], strict=True):
        spec = fit.estimate.specification
        which = f"{names[0]} and {name}"
        if spec.n != base.n or not same_rows(first, fit):
            raise DataError(
                f"{which} use different rows ({base.n:,} and {spec.n:,}"
                f"{missing_words(first)}{missing_words(fit)}), so their likelihoods cannot be "
                "compared; fit both to the rows that are complete for both"
            )
        if spec.response == base.response and np.array_equal(np.sort(spec.y), np.sort(base.y)):
            if not same_values(spec.y, base.y):
                raise DataError(
                    f"{which} have the rows of {spec.response!r} in another order, and their row "
                    "labels do not say which belongs to which: sort both tables alike, or fit "
                    "both to one table"
                )
        elif spec.response != base.response:
            raise DataError(
                f"{which} have different responses ({base.response!r} and {spec.response!r}), "
                "so their likelihoods cannot be compared"
            )
        else:
            raise DataError(
                f"{which} have different responses (other values of {spec.response!r}), so their "
                "likelihoods cannot be compared"
            )
        if not same_values(spec.weights, base.weights):
            raise DataError(f"{which} have different weights; give both the same")
        _check_same_likelihood(which, first.estimate, fit.estimate)


def _check_same_likelihood(which: str, first: Estimate, other: Estimate) -> None:
    """Refuse a residual variance beside a dispersion, other quadratures and other trials."""
    if (first.sigma is None) != (other.sigma is None):
        raise ModelError(
            f"{which} are of different kinds (ranef.lmm and ranef.glmm); fit both with the "
            "same function"
        )
    if first.quadrature != other.quadrature:
        raise ModelError(
            f"{which} approximate the likelihood by different quadratures "
            f"({first.quadrature} and {other.quadrature} nodes); fit both by the same"
        )
    if not same_values(first.extra, other.extra):
        raise DataError(f"{which} have different trials; fit both to the same response")


def _check_restricted(estimates: Sequence[Estimate], names: Sequence[str]) -> None:
    if not all(e.reml for e in estimates):
        raise ModelError(
            "some fits are by REML and others by ML; refit=True fits all by ML, or fit all by REML"
        )
    base = estimates[0].specification
    for name, e in zip(names[1:], estimates[1:], strict=True):
        if not same_values(e.specification.X, base.X):
            raise ModelError(
                f"{names[0]} and {name} have different fixed effects, so their restricted "
                "likelihoods are of different data; refit=True compares them by ML"
            )


def _test_notes(what: str, test: LikelihoodRatio, small: Estimate, large: Estimate) -> list[str]:
    if test.distribution is None:
        return [f"{what}: no p-value, since {test.reason}."]
    if len(test.distribution.degrees) == 1:
        return []
    edge = ""
    if small.optimum.singular:
        edge = (
            " The smaller model is itself on its boundary, for which this makes no allowance;"
            " method='bootstrap' does."
        )
    if test.distribution.assumed:
        edge += (
            " Its weights take the variances under test as uncorrelated, since the information"
            " about them is not known here; method='bootstrap' does not."
        )
    zero = "variances are"
    if is_overdispersed(small, large):
        zero = "the overdispersion (and any variance left out) is"
    return [
        f"{what}: {zero} zero in the smaller model, so p is by the mixture "
        f"{test.distribution}, and p naive, by chi2({test.df}), is too large.{edge}"
    ]


def _bootstrap(
    small: Estimate,
    large: Estimate,
    test: LikelihoodRatio,
    draws: int,
    rng: np.random.Generator,
    n_jobs: int | None,
    progress: bool | None,
) -> BootstrapRatio:
    Y = removal.draw(small, draws, rng)
    with Ticker(2 * draws, "bootstrap", progress) as advance:
        drawn = ratios(small, large, Y, n_jobs=n_jobs, advance=advance)
    return bootstrap_ratio(test.statistic, test.df, drawn)
