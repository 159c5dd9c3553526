"""The answer of `average`: tables, words, a picture."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ranef.display.answer import Summary
from ranef.display.numbers import decimals, number, p_value
from ranef.display.page import Page, Paragraph, TextTable
from ranef.errors import ModelError
from ranef.families import BetaBinomial, Binomial
from ranef.inference.coefficients.wald import Intervals
from ranef.models.family_words import zero_words
from ranef.models.labels import CONDITIONAL, outcome_name
from ranef.questions.averages.cells import Cells, Question
from ranef.questions.averages.numbers import COMPARISONS, number_needed
from ranef.tables import make_table

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["AverageEffect"]

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False, repr=False)
class AverageEffect:
    """Averages of predicted means, compared; `ranef.average` makes it.

    Attributes
    ----------
    comparisons : Intervals
        Of the comparisons, on their own scale.
    averages : Intervals
        Of the averages: by arm, group and category.
    covariance : (S, S) float64 array
        Of the averages.
    contrasts : tuple of str
        Names of the comparisons.
    conf_level : float
    n_failed : int or None
        Refits of the bootstrap that failed; None where there was none.
    """

    question: Question
    layout: Cells
    contrasts: tuple[str, ...]
    comparisons: Intervals
    averages: Intervals
    covariance: Floats
    conf_level: float
    n_failed: int | None

    @property
    def _slope(self) -> bool:
        return any(setting.slope for setting in self.layout.settings)

    @property
    def _library(self) -> str:
        return self.layout.population.library

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
        own, others = self.comparisons, len(self.layout.settings) - 1
        columns = {
            "term": [self.question.variable] * len(self.contrasts),
            "contrast": list(self.contrasts),
            **self.layout.columns(others),
            **vars(own),
        }
        order = ("estimate", "std_error", "df", "statistic", "p_value", "conf_low", "conf_high")
        kept = [name for name in columns if name not in order]
        return make_table({n: columns[n] for n in (*kept, *order)}, self._library)

    def means(self) -> Any:
        """Return the average outcome under each value as a table.

        Returns
        -------
        table
            The variable, the columns of `by`, ``category`` where the response has
            them, ``estimate, std_error, conf_low, conf_high``.
        """
        own, names = self.averages, self.layout.shown_labels
        columns = {
            self.question.variable: names,
            **self.layout.columns(len(names) // self.layout.each),
            "estimate": own.estimate,
            "std_error": own.std_error,
            "conf_low": own.conf_low,
            "conf_high": own.conf_high,
        }
        return make_table(columns, self._library)

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
        self._check_needed()
        own = self.comparisons
        labels = {
            "contrast": list(self.contrasts),
            **self.layout.columns(len(self.layout.settings) - 1),
        }
        rows = []
        for i, ends in enumerate(zip(own.estimate, own.conf_low, own.conf_high, strict=True)):
            found = number_needed(*map(float, ends))
            for event, low, high in found.intervals:
                estimate = found.estimate if event == found.event else np.nan
                rows.append((i, estimate, event, low, high))
        columns = {name: [values[row[0]] for row in rows] for name, values in labels.items()}
        names = ("estimate", "event", "conf_low", "conf_high")
        columns |= {name: [row[j + 1] for row in rows] for j, name in enumerate(names)}
        return make_table(columns, self._library)

    def _probabilities(self) -> bool:
        question = self.question
        if self._slope:
            return False
        family = question.fit.family
        if question.type == "zero" or question.categories is not None:
            return True
        return question.type == "response" and isinstance(family, Binomial | BetaBinomial)

    def _check_needed(self) -> None:
        if self.question.compare != "difference" or not self._probabilities():
            raise ModelError(
                "a number needed to treat is one over a difference of probabilities: ask for "
                "compare='difference' of a model of events (binomial or categories), and no slope"
            )

    def plot(self, *, ax: Axes | None = None) -> Axes:
        """Draw the comparisons with their intervals; returns matplotlib Axes."""
        from ranef.questions.averages.picture import average_effect

        own = self.comparisons
        labels = self.layout.columns(len(self.layout.settings) - 1)
        names = [
            ", ".join([name, *(f"{key} {values[i]}" for key, values in labels.items())])
            for i, name in enumerate(self.contrasts)
        ]
        return average_effect(
            names,
            own.estimate,
            own.conf_low,
            own.conf_high,
            null=COMPARISONS[self.question.compare].null,
            title=f"Average effect of {self.question.variable}",
            across=f"{self._outcome().capitalize()}, {self._compared()}",
            conf_level=self.conf_level,
            ax=ax,
        )

    def summary(self) -> Summary:
        """Return the answer in words and tables."""
        parts: list[Paragraph | TextTable] = [Paragraph(self._estimand()), self._table()]
        parts.append(self._means_table())
        if self.question.compare == "difference" and self._probabilities():
            parts.append(Paragraph(self._needed_lines()))
        lines = (*self.question.fit.doubts(), self._how(), self._causal())
        parts.append(Paragraph(lines))
        title = f"Average effect of {self.question.variable}: {self.question.fit.formula}"
        return Summary(Page(title, tuple(parts)))

    def _outcome(self) -> str:
        question = self.question
        response = outcome_name(question.fit.parts[CONDITIONAL])
        if question.type == "zero":
            return f"probability of {zero_words(question.fit.family)}"
        if question.type == "dispersion":
            return "dispersion"
        return f"probability of {response}" if self._probabilities() else f"mean {response}"

    def _compared(self) -> str:
        if self._slope:
            return "slope"
        return {
            "difference": "difference",
            "ratio": "ratio",
            "log ratio": "log ratio",
            "lift": "lift (ratio - 1)",
            "odds": "odds ratio",
        }[self.question.compare]

    def _estimand(self) -> tuple[str, ...]:
        question, people = self.question, self.layout.population
        variable = question.variable
        base = next(s for s in self.layout.settings if s.reference)
        if self._slope:
            what = f"the slope of the {self._outcome()} in {variable} (per unit)"
        elif base.own:
            what = (
                f"the {self._outcome()} if {variable} were changed as stated, compared with "
                f"{variable} as it is"
            )
        else:
            what = f"the {self._outcome()} if {variable} were set to each value in every row"
        over = people.described()
        lines = [f"What is estimated: {what}, averaged over {over}, the other columns as they are."]
        lines.append(self._effects_line())
        if people.n_dropped:
            lines.append(f"{people.n_dropped:,} rows were left out: a value is missing.")
        return tuple(lines)

    def _effects_line(self) -> str:
        names = " and ".join(self.question.fit.n_groups)
        if not names:
            return "The model has no random effects: the average is that of its means."
        if self.question.kind == "conditional":
            return f"Conditional: each row with the predicted random effects of its own {names}."
        if self.question.linear:
            return (
                f"The model is linear: this holds for a typical {names} and on average over "
                f"the population of {names} alike."
            )
        if self.question.kind == "typical":
            return f"Typical: for rows whose random effects of {names} are zero."
        return (
            f"Population: integrated over the random effects, so over new {names} drawn from "
            "the fitted distribution."
        )

    def _table(self) -> TextTable:
        percent = f"{100 * self.conf_level:g}%"
        labels = self.layout.columns(len(self.layout.settings) - 1)
        finite = bool(np.isfinite(self.comparisons.df).any())
        tests: tuple[str, ...] = ("df", "t", "p") if finite else ("z", "p")
        if self.n_failed is not None:
            tests = ("p",)
        header = ("", *labels, self._compared(), "std_error", *tests)
        header = (*header, f"{percent} low", f"{percent} high")
        rows = tuple(self._row(i, labels, tests) for i in range(len(self.contrasts)))
        return TextTable(self._compared().capitalize(), header, rows, 1 + len(labels))

    def _row(self, i: int, labels: dict[str, Any], tests: tuple[str, ...]) -> tuple[str, ...]:
        own = self.comparisons
        places = decimals(float(own.std_error[i]))
        shown = {
            "df": number(float(own.df[i]), 1),
            "t": number(float(own.statistic[i]), 2),
            "z": number(float(own.statistic[i]), 2),
            "p": p_value(float(own.p_value[i])),
        }
        return (
            self.contrasts[i],
            *(str(values[i]) for values in labels.values()),
            number(float(own.estimate[i]), places),
            number(float(own.std_error[i]), places),
            *(shown[name] for name in tests),
            number(float(own.conf_low[i]), places),
            number(float(own.conf_high[i]), places),
        )

    def _means_table(self) -> TextTable:
        percent = f"{100 * self.conf_level:g}%"
        own, names = self.averages, self.layout.shown_labels
        labels = {
            self.question.variable: names,
            **self.layout.columns(len(names) // self.layout.each),
        }
        rows = []
        for i in range(len(own.estimate)):
            places = decimals(float(own.std_error[i]))
            values = (own.estimate, own.std_error, own.conf_low, own.conf_high)
            rows.append(
                (
                    *(str(column[i]) for column in labels.values()),
                    *(number(float(v[i]), places) for v in values),
                )
            )
        header = (*labels, "mean", "std_error", f"{percent} low", f"{percent} high")
        caption = f"{self._outcome().capitalize()}, averaged, under each value"
        return TextTable(caption, header, tuple(rows), len(labels))

    def _needed_lines(self) -> tuple[str, ...]:
        own = self.comparisons
        lines = []
        labels = self.layout.columns(len(self.layout.settings) - 1)
        for i, name in enumerate(self.contrasts[:12]):
            ends = (own.estimate[i], own.conf_low[i], own.conf_high[i])
            found = number_needed(*map(float, ends))
            spans = " and ".join(
                f"{number(low, 1)} to {'infinity' if np.isinf(high) else number(high, 1)} "
                f"for one {event}"
                for event, low, high in found.intervals
            )
            where = ", ".join([name, *(str(values[i]) for values in labels.values())])
            lines.append(
                f"Number needed to treat ({where}): {number(found.estimate, 1)} for one event "
                f"{found.event}; {100 * self.conf_level:g}% interval {spans}."
            )
        return tuple(lines)

    def _how(self) -> str:
        if self.n_failed is not None:
            failed = f" ({self.n_failed} failed)" if self.n_failed else ""
            return f"Percentile intervals of a parametric bootstrap{failed}."
        scale = {"ratio": "logarithm", "lift": "logarithm", "odds": "logit"}
        where = scale.get(self.question.compare)
        made = (
            f" Tests and intervals on the scale of the {where}, transformed back." if where else ""
        )
        if self.question.linear:
            return f"Standard errors from the covariance of the fixed effects.{made}"
        return (
            "Standard errors by the delta method through all coefficients and variance "
            f"parameters.{made}"
        )

    def _causal(self) -> str:
        others = [c for c in self.layout.population.columns if c != self.question.variable]
        named = ", ".join(others[:8]) + (", ..." if len(others) > 8 else "")
        given = f" given {named}" if others else ""
        return (
            f"This compares predictions. To read it as the effect of changing "
            f"{self.question.variable} needs assumptions that no model can check: no unmeasured "
            f"cause of both{given} (which randomisation gives), every value possible for "
            "everybody, and the model right."
        )

    def __repr__(self) -> str:
        return str(self.summary())

    def _repr_html_(self) -> str:
        return self.summary()._repr_html_()
