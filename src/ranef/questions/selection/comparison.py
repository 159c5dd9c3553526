"""The answer of `compare`: one table, tests, a picture, a paragraph, and averages over models."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from ranef.display.answer import Answer, Part
from ranef.display.columns import Column, Fixed, Listing, PValue, Significant, Written, unprinted
from ranef.display.numbers import number, p_value
from ranef.display.page import Paragraph
from ranef.errors import ModelError, RanefError, UnknownColumnError
from ranef.fits.several import model_words
from ranef.inference.nested.exact import NullDraws
from ranef.inference.nested.ratio_distributions import BootstrapRatio, LikelihoodRatio
from ranef.questions.selection import averaging
from ranef.questions.selection.conditional import ConditionalFit
from ranef.questions.selection.criteria import Marginal
from ranef.questions.selection.held_out import UnitScores
from ranef.questions.selection.picture import comparison_text, draw_comparison

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["Compared", "FocusedComparison", "LeftOutScores", "Quasi", "RatioTest"]

Floats = NDArray[np.float64]

NAMES = {
    "aic": "AIC",
    "aicc": "AICc",
    "bic": "BIC (n rows)",
    "bic_groups": "BIC (n groups)",
    "bic_hybrid": "BIC (hybrid)",
    "caic": "conditional AIC",
    "cv": "cross-validation",
    "loo": "leave-one-out",
    "qicu": "QICu",
    "cic": "CIC",
}
QUESTIONS = {
    "population": "For new groups, and for inference on the coefficients,",
    "individual": "For the groups in the data",
}
LITTLE = 2.0


@dataclass(frozen=True)
class Quasi:
    """Criteria of estimating equations, at one scale."""

    qicu: float
    cic: float
    scale: float


@dataclass(frozen=True, eq=False)
class LeftOutScores:
    """Densities of groups or rows left out in closed form, and how much these are flattered.

    Attributes
    ----------
    scored : UnitScores
    by : str
        What was left out, one at a time.
    optimism : float
        NaN where it is not known without refits.
    """

    scored: UnitScores
    by: str
    optimism: float = math.nan


@dataclass(frozen=True, eq=False)
class Compared:
    """One model of a comparison.

    What belongs to the other focus is worked out when it is looked at.

    Attributes
    ----------
    name : str
    fit : fit
    of_population : callable or None
        Finds `marginal`; None where there is none: of estimating equations, and of REML fits of
        different data.
    of_individuals : callable or None
        Finds `conditional`.
    validated : CrossValidation, LeftOutScores or None
        What has `scored`, the densities of rows left out.
    quasi : Quasi or None
        Of estimating equations.
    """

    name: str
    fit: Any
    of_population: Callable[[], Marginal] | None = None
    of_individuals: Callable[[], ConditionalFit | None] | None = None
    validated: Any = None
    quasi: Quasi | None = None

    @cached_property
    def marginal(self) -> Marginal | None:
        """The likelihood with the random effects integrated out."""
        return None if self.of_population is None else self.of_population()

    @cached_property
    def conditional(self) -> ConditionalFit | None:
        """The likelihood of the groups at hand; None where there is none without refits."""
        return None if self.of_individuals is None else self.of_individuals()

    @property
    def words(self) -> str:
        """Formula, family, and the other parts of the model."""
        said = model_words(self.fit)
        if self.quasi is None:
            return said
        return f"{said}, {self.fit.estimate.model.equations.correlation} correlation"


@dataclass(frozen=True, eq=False)
class RatioTest:
    """A likelihood-ratio test of one model of the comparison against a smaller one.

    Attributes
    ----------
    large, small : str
        Names of the models.
    test : LikelihoodRatio
    drawn : BootstrapRatio or None
    """

    large: str
    small: str
    test: LikelihoodRatio
    drawn: BootstrapRatio | None
    exact: NullDraws | None = None
    beside: bool = False

    @property
    def p_value(self) -> float:
        """By the exact distribution where it is known, else by the mixture."""
        if self.exact is None:
            return self.test.p_value
        return self.exact.tail(self.test.statistic)

    @property
    def distribution(self) -> str:
        """By what the p-value is."""
        if self.exact is not None:
            return f"exact, {len(self.exact.values):,} draws"
        return "" if self.test.distribution is None else str(self.test.distribution)


@dataclass(frozen=True, eq=False, repr=False)
class FocusedComparison(Answer):
    """Fits compared by what they are for; `compare` makes it.

    Attributes
    ----------
    focus : {"population", "individual"}
    criterion : str
    models : tuple of Compared
        As they were given.
    tests : tuple of RatioTest
        Of nested models, focus population.
    notes : tuple of str
        What was fitted again, and on which scale.
    library : str
    reml : bool
        Whether marginal likelihoods are restricted ones.
    """

    focus: str
    criterion: str
    models: tuple[Compared, ...]
    tests: tuple[RatioTest, ...]
    notes: tuple[str, ...]
    library: str
    reml: bool = False
    title: ClassVar[str] = "Comparison of models"

    def __len__(self) -> int:
        return len(self.models)

    @property
    def names(self) -> tuple[str, ...]:
        """Of the models, as they were given."""
        return tuple(model.name for model in self.models)

    @property
    def left_out(self) -> bool:
        """Whether the criterion is the density of rows that were left out."""
        return self.criterion in ("cv", "loo")

    @property
    def values(self) -> Floats:
        """The criterion of each model: less is better, of ``"cv"`` and ``"loo"`` more."""
        if self.left_out:
            return np.array([float(m.validated.scored.logs.sum()) for m in self.models])
        if self.criterion in ("qicu", "cic"):
            return np.array([getattr(q, self.criterion) for q in self._quasi])
        if self.criterion == "caic":
            return np.array([_caic(m) for m in self.models])
        return np.array([getattr(m.marginal, self.criterion) for m in self.models])

    @property
    def _quasi(self) -> list[Quasi]:
        return [m.quasi for m in self.models if m.quasi is not None]

    @property
    def difference(self) -> Floats:
        """From the best model: 0 and more, of ``"cv"`` and ``"loo"`` 0 and less."""
        values = self.values
        return values - (np.nanmax(values) if self.left_out else np.nanmin(values))

    @property
    def weights(self) -> Floats:
        """Of the models, summing to one: exp(-difference / 2), of densities exp(difference)."""
        gap = self.difference if self.left_out else -0.5 * self.difference
        w = np.exp(np.where(np.isfinite(gap), gap, -np.inf))
        return np.asarray(w / w.sum())

    @property
    def best(self) -> Any:
        """The fit that the criterion prefers."""
        return self.models[self._first].fit

    @property
    def _first(self) -> int:
        return int(np.nanargmax(self.weights))

    @property
    def se_difference(self) -> Floats:
        """Standard errors of the differences of densities, over the units left out."""
        logs = np.stack([m.validated.scored.logs for m in self.models])
        gaps = logs - logs[self._first]
        return np.asarray(np.sqrt(gaps.shape[1]) * gaps.std(axis=1, ddof=1))

    @property
    def other_focus(self) -> Floats | None:
        """The criterion for the other question: conditional AIC, or AIC; None without one."""
        if self.criterion in ("qicu", "cic"):
            return None
        if self.focus == "individual":
            values = np.array([m.marginal.aic if m.marginal else np.nan for m in self.models])
        else:
            values = np.array([_caic(m) for m in self.models])
        return None if np.isnan(values).all() else values

    # --- tables

    def tidy(self, what: str = "models") -> Any:
        """Return the comparison as a table in the library the data came in.

        Parameters
        ----------
        what : {"models", "tests"}

        Returns
        -------
        table
            ``model, n, loglik, df``; then ``aic, aicc, bic`` (with ``bic_groups, bic_hybrid``
            where there is one grouping factor), or ``caic``, or ``elpd``, or ``qicu, cic``;
            ``difference`` from the best, ``se_difference`` of ``elpd``, ``weight``, and
            ``other_focus``: conditional AIC beside criteria for the population, AIC beside
            those for individuals. `loglik` and `df` are those of the focus. After sampling
            ``df_error`` is the Monte Carlo error of `df`. The tests have ``model, against,
            statistic, df, p_value, p_naive`` and ``p_bootstrap``.
        """
        return self.tabled(self.listing(what))

    def tables(self) -> tuple[Listing, ...]:
        found = [Listing("models", self._columns(), self._caption())]
        if self.tests:
            found.append(self._test_listing())
        return tuple(found)

    def _caption(self) -> str:
        return f"Focus: {self.focus}, by {NAMES[self.criterion]}"

    def _columns(self) -> tuple[Column, ...]:
        models, two = self.models, Fixed(2)
        columns = [
            Column("model", list(self.names), heading=""),
            Column("n", [m.fit.n_obs for m in models], Written("{:,}".format), printed=False),
        ]
        if self.criterion in ("qicu", "cic"):
            columns += [
                Column("df", [len(m.fit.coefficients) for m in models], Fixed(0)),
                Column("qicu", [q.qicu for q in self._quasi], two, "QICu"),
                Column("cic", [q.cic for q in self._quasi], Fixed(3), "CIC"),
            ]
        elif self.focus == "individual":
            columns += self._individual()
        else:
            columns += self._population()
        if self.left_out:
            columns.append(Column("elpd", self.values, two))
        columns.append(Column("difference", self.difference, two))
        if self.left_out:
            columns.append(Column("se_difference", self.se_difference, two, "std. error"))
        if self.criterion != "cic":
            columns.append(Column("weight", self.weights, Fixed(3)))
        other = self.other_focus
        if other is not None:
            heading = "AIC (other focus)" if self.focus == "individual" else "cAIC (other focus)"
            columns.append(Column("other_focus", other, two, heading))
        return tuple(columns)

    def _population(self) -> list[Column]:
        own = [m.marginal for m in self.models if m.marginal is not None]
        shown = self.criterion
        names = {"aic": "AIC", "aicc": "AICc", "bic": "BIC"}
        if len({m.groups for m in own}) == 1 and own[0].groups is not None:
            names |= {"bic_groups": "BIC groups", "bic_hybrid": "BIC hybrid"}
        columns = [
            Column("loglik", [m.loglik for m in own], Fixed(3)),
            Column("df", [m.df for m in own], Fixed(0)),
        ]
        for name, heading in names.items():
            values = [getattr(m, name) for m in own]
            columns.append(
                Column(name, values, Fixed(2), heading, printed=name in ("aic", "bic", shown))
            )
        return columns

    def _individual(self) -> list[Column]:
        own = [m.conditional for m in self.models]
        columns = [
            Column("loglik", [math.nan if c is None else c.loglik for c in own], Fixed(3)),
            Column("df", [math.nan if c is None else c.df for c in own], Fixed(3)),
        ]
        errors = [math.nan if c is None else c.error for c in own]
        if np.nansum(errors) > 0:
            columns.append(Column("df_error", errors, Significant(2), "df error"))
        columns.append(Column("caic", [_caic(m) for m in self.models], Fixed(2), "cAIC"))
        return columns

    def _test_listing(self) -> Listing:
        tests = [t.test for t in self.tests]
        columns = [
            Column("model", [t.large for t in self.tests], heading=""),
            Column("against", [t.small for t in self.tests]),
            Column("statistic", [t.statistic for t in tests], Fixed(3), "chisq"),
            Column("df", [t.df for t in tests], Fixed(0)),
            Column("p_value", [t.p_value for t in self.tests], PValue(), "p"),
            Column("p_naive", [t.p_naive for t in tests], PValue(), "p naive"),
            *unprinted(distribution=[t.distribution for t in self.tests]),
        ]
        if any(t.drawn for t in self.tests):
            drawn = [math.nan if t.drawn is None else t.drawn.p_value for t in self.tests]
            columns.append(Column("p_bootstrap", drawn, PValue(), "p bootstrap"))
        kind = "REML" if self.reml else "ML"
        return Listing("tests", tuple(columns), f"Likelihood-ratio tests ({kind})", 2)

    # --- words

    def body(self) -> Iterable[Part]:
        yield Paragraph(tuple(f"{m.name}: {m.words}" for m in self.models))
        yield from super().body()

    def sentences(self) -> tuple[str, ...]:
        return (*self._answer(), *self._how(), *self.notes)

    def _answer(self) -> list[str]:
        """What was asked, what the answer is, and whether the other question has another."""
        k = self._first
        if len(self) == 1:
            return [f"One model, its {NAMES[self.criterion]} {number(self.values[0], 2)}."]
        rest = np.abs(np.delete(self.difference, k))
        others = [name for i, name in enumerate(self.names) if i != k]
        near = float(np.nanmin(rest))
        runner = others[int(np.nanargmin(rest))]
        lines = [
            f"{QUESTIONS[self.focus]} {self.names[k]} is preferred: its {NAMES[self.criterion]} is "
            f"better than that of {runner} by {number(near, 2)}."
        ]
        if self.left_out:
            error = float(np.delete(self.se_difference, k)[int(np.nanargmin(rest))])
            if near < 2 * error:
                lines.append(
                    f"The standard error of that difference is {number(error, 2)}: the data do not "
                    "tell the two apart."
                )
        elif near < LITTLE and self.criterion != "cic":
            lines.append(
                "A difference below 2 is hardly any evidence; averaging over the models uses both."
            )
        other = self.other_focus
        if other is not None and not np.isnan(other).all():
            own = int(np.nanargmin(other))
            asked = "new groups" if self.focus == "individual" else "the groups in the data"
            name = "AIC" if self.focus == "individual" else "conditional AIC"
            if own == k:
                lines.append(f"For {asked} the same model is preferred ({name}).")
            else:
                lines.append(
                    f"For {asked} {self.names[own]} is preferred ({name}). Both are right, each "
                    "for its own question."
                )
        return lines

    def _how(self) -> list[str]:
        lines = []
        if self.criterion.startswith("bic"):
            m = self.models[0].marginal
            assert m is not None
            n = {
                "bic": f"n is {m.n:,} rows",
                "bic_groups": f"n is {m.groups} groups",
                "bic_hybrid": f"n is {m.n:,} rows for what varies within groups and {m.groups} "
                "groups for the rest",
            }
            lines.append(f"In this BIC {n[self.criterion]}.")
        if self.criterion == "loo":
            lines.append(self._flattered())
        if self.criterion == "caic":
            methods = {m.conditional.method for m in self.models if m.conditional is not None}
            lines += [HOW[method] for method in HOW if method in methods]
        for test in self.tests:
            law = test.test.distribution
            if test.exact is not None:
                near = (
                    "; beside other random effects it is an approximation (Greven et al. 2008)"
                    if test.beside
                    else ""
                )
                lines.append(
                    f"{test.large} against {test.small}: one variance is zero in the smaller "
                    "model, so p is by the exact distribution of the ratio in finite samples "
                    f"(Crainiceanu & Ruppert 2004), {len(test.exact.values):,} draws{near}."
                )
            elif law is not None and len(law.degrees) > 1:
                lines.append(
                    f"{test.large} against {test.small}: variances are zero in the smaller model, "
                    f"so p is by the mixture {law}."
                )
            if law is None and test.test.reason:
                lines.append(f"{test.large} against {test.small}: no p-value, since "
                             f"{test.test.reason}.")  # fmt: skip
            if test.drawn is not None:
                lines.append(
                    f"{test.large} against {test.small}: p {p_value(test.drawn.p_value)} by "
                    f"{len(test.drawn.draws):,} draws from the smaller model."
                )
        return lines

    def _flattered(self) -> str:
        """What closed forms of left out rows forget."""
        by = self.models[0].validated.by
        known = [m for m in self.models if not math.isnan(m.validated.optimism)]
        amounts = ", ".join(f"{m.name} by about {number(m.validated.optimism, 1)}" for m in known)
        return (
            f"Each {by} is left out in turn, at the variance parameters of the fit to all, which "
            f"favours {amounts or 'models with more of them'}; criterion='cv' refits without them."
        )

    # --- averages

    def predict(self, new: Any = None, *, conf_level: float | None = None, **kwargs: Any) -> Any:
        """Predict by the average over the models, with their weights.

        Parameters
        ----------
        new : table, optional
            As for `predict` of the fits; the rows of the models if left out.
        conf_level : float, optional
            Add standard errors, which hold the disagreement of the models (Burnham & Anderson
            2002, eq. 4.9), and intervals.
        **kwargs
            Of the fits' `predict`; ``kind`` is ``"conditional"`` where individuals are the
            focus, else ``"population"``.

        Returns
        -------
        column or table
            As the fits' `predict` gives it.
        """
        kind = "conditional" if self.focus == "individual" else "population"
        fits = [m.fit for m in self.models]
        self._check_one_scale()
        return averaging.predict(
            fits, self.weights, new, {"kind": kind, **kwargs}, conf_level, self.library
        )

    def average(self, *args: Any, **kwargs: Any) -> Any:
        """Return average effects, as `ranef.average` gives them, averaged over the models.

        A model that does not predict from the variable has an effect of zero (of one, where
        effects are ratios).

        Returns
        -------
        table
            As `tidy` of `ranef.average`, the standard errors with the models' disagreement.
        """
        self._check_one_scale()
        tables: list[Any] = []
        absent: list[RanefError] = []
        for model in self.models:
            try:
                tables.append(model.fit.average(*args, **kwargs).tidy())
            except UnknownColumnError as error:
                tables.append(None)
                absent.append(error)
        if len(absent) == len(tables):
            raise absent[0]
        none = 1.0 if kwargs.get("compare") in ("ratio", "odds") else 0.0
        return averaging.tables(tables, self.weights, self.library, none)

    def _check_one_scale(self) -> None:
        if len({m.fit.response for m in self.models}) > 1:
            raise ModelError(
                "the fits have differently transformed responses, so that their predictions "
                "cannot be averaged; predict by each"
            )

    # --- picture

    def plot(self, *, ax: Axes | None = None, figure: Figure | None = None) -> Axes:
        """Draw the models by their criterion, and by that of the other question beside it.

        Parameters
        ----------
        ax, figure : optional
            Where to draw.
        """
        return draw_comparison(self, ax=ax, figure=figure)

    def alt_text(self) -> str:
        """Return the picture in words."""
        return comparison_text(self)


HOW = {
    "derivative": "Degrees of freedom are the exact derivatives of the fitted values in the "
    "response, the variance parameters moving with it, plus those of the residual.",
    "counts": "Degrees of freedom of counts are exact: each count less by one, the model fitted "
    "again.",
    "refits": "Degrees of freedom are covariance penalties: the model fitted again to other "
    "responses of each row.",
    "sampled refits": "Degrees of freedom are a closed form corrected by refits for a sample of "
    "rows; df_error is the Monte Carlo error.",
    "closed form": "Degrees of freedom are a closed form (Wood, Pya & Saefken 2016), an "
    "approximation.",
}


def _caic(model: Compared) -> float:
    return math.nan if model.conditional is None else model.conditional.caic
