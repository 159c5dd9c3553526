"""The answer of `average`: tables, words, a picture."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ranef.description.parameter_tables import bounds, estimate_columns
from ranef.display.answer import Answer, Part
from ranef.display.canvas import interval_rows, label, on_axes, percent, plain
from ranef.display.columns import Column, Fixed, Listing
from ranef.display.numbers import number
from ranef.display.page import Paragraph
from ranef.errors import ModelError
from ranef.families import BetaBinomial, Binomial
from ranef.families.transformations import Transformation
from ranef.fits.protocol import Levelled, offers
from ranef.formula.parser import parse_expression
from ranef.formula.syntax import column_names
from ranef.inference.coefficients.wald import Intervals
from ranef.models.family_words import zero_words
from ranef.models.labels import CONDITIONAL, outcome_name
from ranef.questions.averages.cells import Cells, EffectEstimand
from ranef.questions.averages.numbers import COMPARISONS, NumberNeeded, number_needed

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["AverageEffect"]

Floats = NDArray[np.float64]

COMPARED = {
    "difference": "difference",
    "ratio": "ratio",
    "log ratio": "log ratio",
    "lift": "lift (ratio - 1)",
    "odds": "odds ratio",
}
SCALES = {"ratio": "logarithm", "lift": "logarithm", "odds": "logit"}
MOST_NEEDED = 12
MOST_NAMED = 8


@dataclass(frozen=True, eq=False, repr=False)
class AverageEffect(Answer):
    """Averages of predicted means, compared; `ranef.average` makes it.

    Attributes
    ----------
    comparisons : Intervals
        Of the comparisons, on their own scale.
    averages : Intervals
        Of the averages: by arm, group and category.
    covariance : (S, S) float64 array
        Of the averages.
    conf_level : float
    n_failed : int or None
        Refits of the bootstrap that failed; None where there was none.
    undetermined : str or None
        Which rows the data do not determine, in words.
    """

    estimand: EffectEstimand
    layout: Cells
    comparisons: Intervals
    averages: Intervals
    covariance: Floats
    conf_level: float
    n_failed: int | None
    undetermined: str | None

    @property
    def contrasts(self) -> tuple[str, ...]:
        """Names of the comparisons."""
        return tuple(self.layout.contrasts(self.estimand.compare))

    @property
    def title(self) -> str:
        return f"Average effect of {self.estimand.variable}: {self.estimand.fit.formula}"

    @property
    def library(self) -> str:
        return self.layout.population.library

    def tables(self) -> tuple[Listing, ...]:
        needed = (self._needed_listing(),) if self._has_needed else ()
        return (self._comparison_listing(), self._average_listing(), *needed)

    def body(self) -> Iterable[Part]:
        comparisons, averages, *needed = self.tables()
        yield from (Paragraph(self._estimand_lines()), comparisons, averages)
        if needed:
            yield Paragraph(self._needed_lines())
        yield Paragraph((*self.estimand.fit.doubts(), self._how(), self._causal()))

    def tidy(self) -> Any:
        """Return the comparisons as a table.

        Returns
        -------
        table
            ``term, contrast``, the columns of `by`, ``category`` where the response
            has them, ``estimate, std_error, df, statistic, p_value, conf_low,
            conf_high``. Ratios have their test and interval from the scale of the
            logarithm, odds ratios from that of the logit; `std_error` is on the
            scale of the estimate.
        """
        return super().tidy()

    def means(self) -> Any:
        """Return the average outcome under each value as a table.

        Returns
        -------
        table
            The variable, the columns of `by`, ``category`` where the response has
            them, ``estimate, std_error, conf_low, conf_high``.
        """
        return self.tabled(self._average_listing())

    def number_needed(self) -> Any:
        """Return numbers needed to treat, one over the risk difference.

        An interval of the difference on both sides of zero becomes two parts that
        meet at infinity (Altman 1998, BMJ 317): one row each.

        Returns
        -------
        table
            ``contrast``, the columns of `by`, ``category``, ``estimate``, ``event``
            (``"more"`` or ``"fewer"``: what treating so many people makes one of),
            ``conf_low, conf_high``. The estimate stands in the row of its event, and
            is NaN in the other.

        Raises
        ------
        ranef.errors.ModelError
            The comparison is no difference of probabilities.

        Examples
        --------
        >>> import ranef
        >>> fit = ranef.glmm("resp ~ age * smoke + (1 | id)", ranef.data.load("ohio"),
        ...                  family="binomial", quadrature=25)
        >>> ranef.average(fit, "smoke").number_needed().round(1)
          contrast  estimate  event  conf_low  conf_high
        0    1 - 0       NaN  fewer      80.9        inf
        1    1 - 0      29.3   more      12.4        inf
        """
        if not self._has_needed:
            raise ModelError(
                "a number needed to treat is one over a difference of probabilities: ask for "
                "compare='difference' of a model of events (binomial or categories), and no slope"
            )
        return self.tabled(self._needed_listing())

    def _comparison_listing(self) -> Listing:
        student = bool(np.isfinite(self.comparisons.df).any())
        headings: dict[str, str | None] = {"estimate": self._compared}
        headings |= {"statistic": "t" if student else "z", "df": "df" if student else None}
        if self.n_failed is not None:
            headings |= {"statistic": None, "df": None}
        size = len(self.contrasts)
        labels = [Column("contrast", list(self.contrasts), heading=""), *self._groups(size)]
        columns = (
            Column("term", [self.estimand.variable] * size, printed=False),
            *labels,
            *estimate_columns(self.comparisons, self.conf_level, headings=headings),
        )
        return Listing("comparisons", columns, self._compared.capitalize(), len(labels))

    def _average_listing(self) -> Listing:
        settings = self.layout.printed_settings
        labels = [Column(self.estimand.variable, settings), *self._groups(len(settings))]
        names = ("estimate", "std_error", *bounds(self.conf_level))
        numbers = estimate_columns(self.averages, self.conf_level, names, {"estimate": "mean"})
        caption = f"{self._outcome.capitalize()}, averaged, under each value"
        return Listing("means", (*labels, *numbers), caption, len(labels))

    def _groups(self, size: int) -> list[Column]:
        """Groups and categories of `size` rows."""
        return [Column(name, values) for name, values in self.layout.columns(size).items()]

    # --- numbers needed to treat

    @property
    def _has_needed(self) -> bool:
        return self.estimand.compare == "difference" and self._probabilities

    @cached_property
    def _needed(self) -> list[NumberNeeded]:
        ends = self.comparisons.estimate, self.comparisons.conf_low, self.comparisons.conf_high
        return [number_needed(*map(float, row)) for row in zip(*ends, strict=True)]

    def _needed_listing(self) -> Listing:
        rows = [(i, *part) for i, needed in enumerate(self._needed) for part in needed.intervals]
        labels = [Column("contrast", self.contrasts), *self._groups(len(self.contrasts))]
        estimates = [
            self._needed[i].estimate if event == self._needed[i].event else np.nan
            for i, event, _, _ in rows
        ]
        heads = bounds(self.conf_level)
        columns = (
            *(Column(c.name, [c.values[i] for i, *_ in rows]) for c in labels),
            Column("estimate", estimates, Fixed(1)),
            Column("event", [event for _, event, _, _ in rows]),
            Column("conf_low", [low for _, _, low, _ in rows], Fixed(1), heads["conf_low"]),
            Column("conf_high", [high for *_, high in rows], Fixed(1), heads["conf_high"]),
        )
        return Listing("number_needed", columns, "Numbers needed to treat", len(labels))

    def _needed_lines(self) -> tuple[str, ...]:
        lines = []
        labels = [self.contrasts, *self.layout.columns(len(self.contrasts)).values()]
        for needed, *names in list(zip(self._needed, *labels, strict=True))[:MOST_NEEDED]:
            if np.isnan(needed.estimate):
                continue
            spans = " and ".join(
                f"{number(low, 1)} to {'infinity' if np.isinf(high) else number(high, 1)} "
                f"for one {event}"
                for event, low, high in needed.intervals
            )
            lines.append(
                f"Number needed to treat ({', '.join(map(str, names))}): "
                f"{number(needed.estimate, 1)} for one event {needed.event}; "
                f"{100 * self.conf_level:g}% interval {spans}."
            )
        return tuple(lines)

    # --- picture

    def plot(self, *, ax: Axes | None = None) -> Axes:
        """Draw the comparisons with their intervals; returns matplotlib Axes."""
        labels = self.layout.columns(len(self.contrasts))
        names = [
            ", ".join([name, *(f"{key} {values[i]}" for key, values in labels.items())])
            for i, name in enumerate(self.contrasts)
        ]
        own = self.comparisons
        ax = on_axes(ax, None, 6.4, 1.5 + 0.34 * len(names))
        null = COMPARISONS[self.estimand.compare].null
        interval_rows(ax, names, (own.estimate, own.conf_low, own.conf_high), null)
        title = plain(f"Average effect of {self.estimand.variable}", 70)
        across = f"{self._outcome.capitalize()}, {self._compared}"
        label(ax, title=title, x=f"{across}, {percent(self.conf_level)} interval", y="")
        return ax

    # --- words

    @property
    def _probabilities(self) -> bool:
        estimand = self.estimand
        if self.layout.slope:
            return False
        if estimand.type == "zero" or estimand.categories is not None:
            return True
        return estimand.type == "response" and isinstance(
            estimand.fit.family, Binomial | BetaBinomial
        )

    @property
    def _outcome(self) -> str:
        estimand = self.estimand
        response = outcome_name(estimand.fit.parts[CONDITIONAL])
        if estimand.type == "zero":
            return f"probability of {zero_words(estimand.fit.family)}"
        if estimand.type == "dispersion":
            return "dispersion"
        if isinstance(estimand.back, Transformation) or estimand.back == "log":
            word = "mean" if estimand.kind == "population" else "median"
            return f"{word} {column_names(parse_expression(response))[0]}"
        return f"probability of {response}" if self._probabilities else f"mean {response}"

    @property
    def _compared(self) -> str:
        return "slope" if self.layout.slope else COMPARED[self.estimand.compare]

    def _estimand_lines(self) -> tuple[str, ...]:
        people, variable = self.layout.population, self.estimand.variable
        if self.layout.slope:
            what = f"the slope of the {self._outcome} in {variable} (per unit)"
        elif self.layout.reference.own:
            what = (
                f"the {self._outcome} if {variable} were changed as stated, compared with "
                f"{variable} as it is"
            )
        else:
            what = f"the {self._outcome} if {variable} were set to each value in every row"
        lines = [
            f"What is estimated: {what}, averaged over {people.described()}, the other columns "
            "as they are.",
            self._effects_line(),
        ]
        if people.n_dropped:
            lines.append(f"{people.n_dropped:,} rows were left out: a value is missing.")
        if self.undetermined is not None:
            lines.append(self.undetermined)
        elif np.isnan(self.averages.estimate).any():
            lines.append(
                "Empty rows have none: what is predicted for some row lies beyond the values "
                f"that {self.estimand.fit.response} takes."
            )
        return tuple(lines)

    def _effects_line(self) -> str:
        if not offers(self.estimand.fit, Levelled):
            return str(self.estimand.fit.mean_words)
        names = " and ".join(self.estimand.fit.n_groups)
        if self.estimand.back != "identity":
            return self._carried_line(names)
        if self.estimand.kind == "conditional":
            return f"Conditional: each row with the predicted random effects of its own {names}."
        if self.estimand.linear:
            return (
                f"The model is linear: this holds for a typical {names} and on average over "
                f"the population of {names} alike."
            )
        if self.estimand.kind == "typical":
            return f"Typical: for rows whose random effects of {names} are zero."
        return (
            f"Population: integrated over the random effects, so over new {names} drawn from "
            "the fitted distribution."
        )

    def _carried_line(self, names: str) -> str:
        fitted = self.estimand.fit.response
        if self.estimand.kind == "population":
            return (
                f"Carried back from {fitted}: means, with the random effects of {names} and the "
                "residual integrated out."
            )
        if self.estimand.kind == "conditional":
            return (
                f"Carried back from {fitted}: each row's median, with the predicted random effects "
                f"of its own {names}."
            )
        return (
            f"Carried back from {fitted}: each row's median for a typical {names}, not its mean, "
            "which kind='population' gives."
        )

    def _how(self) -> str:
        if self.n_failed is not None:
            failed = f" ({self.n_failed} failed)" if self.n_failed else ""
            return f"Percentile intervals of a parametric bootstrap{failed}."
        where = SCALES.get(self.estimand.compare)
        scale = (
            f" Tests and intervals on the scale of the {where}, transformed back." if where else ""
        )
        if not offers(self.estimand.fit, Levelled):
            return f"Standard errors by the delta method through all coefficients.{scale}"
        if self.estimand.linear:
            return f"Standard errors from the covariance of the fixed effects.{scale}"
        return (
            "Standard errors by the delta method through all coefficients and variance "
            f"parameters.{scale}"
        )

    def _causal(self) -> str:
        others = [c for c in self.layout.population.columns if c != self.estimand.variable]
        named = ", ".join(others[:MOST_NAMED]) + (", ..." if len(others) > MOST_NAMED else "")
        given = f" given {named}" if others else ""
        return (
            f"This compares predictions. To read it as the effect of changing "
            f"{self.estimand.variable} needs assumptions that no model can check: no unmeasured "
            f"cause of both{given} (which randomisation gives), every value possible for "
            "everybody, and the model right."
        )
