"""`average`: the effect of a variable, averaged over people."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ranef.api import checks
from ranef.api.arms import Arm, People, arms_of, read_people
from ranef.api.generalised import GeneralizedMixedModelFit
from ranef.api.linear import LinearMixedModelFit
from ranef.api.mixed import MixedModelFit
from ranef.api.progress import counted
from ranef.api.rendering import Page, Paragraph, TextTable, decimals, number, p_value
from ranef.api.rows import read_parts, read_rows
from ranef.api.summary import Summary
from ranef.errors import DataError, ModelError
from ranef.families import BetaBinomial, Binomial
from ranef.families.links import LINKS
from ranef.inference import averaging, generalised
from ranef.inference.averaging import COMPARISONS, Means, number_needed
from ranef.inference.generalised.targets import target
from ranef.inference.wald import Intervals, quantile, wald
from ranef.models.estimate import Estimate, GeneralisedEstimate
from ranef.models.naming import factors_of, outcome_name
from ranef.tables import make_table

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["AverageEffect", "average"]

Floats = NDArray[np.float64]

KINDS = ("population", "typical", "conditional")
METHODS = ("delta", "bootstrap")
LEAST_DRAWS = 20


def average(
    fit: MixedModelFit,
    variable: str,
    *,
    compare: str = "difference",
    levels: Sequence[Any] | None = None,
    reference: Any = None,
    change: Any = None,
    population: Any = None,
    by: str | Sequence[str] | None = None,
    weights: Any = None,
    kind: str = "population",
    type: str = "response",
    df: str | None = None,
    conf_level: float = 0.95,
    method: str = "delta",
    n: int = 1000,
    rng: Any = None,
    progress: bool | None = None,
) -> AverageEffect:
    """Average the effect of a variable over people as they are, or over a population.

    The mean outcome of all rows is predicted twice, with the column `variable`
    replaced by one value and by another, the other columns as they are; the two
    averages are compared. From a generalised model the means are integrated
    over the random effects too, by quadrature: they are those of new people
    (wards, ...) of the population that the levels of the fit come from.

    Parameters
    ----------
    fit : LinearMixedModelFit or GeneralizedMixedModelFit
    variable : str
        A column that the formula uses.
    compare : {"difference", "ratio", "odds", "lift", "log ratio"}
        ``"difference"`` of the averages (of probabilities: the risk difference);
        their ``"ratio"`` (risk or rate ratio), ``"log ratio"``, ``"lift"`` (ratio
        minus one); ``"odds"``: the ratio of the odds of the averages.
    levels : sequence, optional
        Values of the variable to compare; of categories all that occur if left
        out.
    reference : optional
        The value that the others are compared with; the first if left out.
    change : float, "sd", "iqr", "slope" or (low, high), optional
        For numbers with more than two values: from each row's own value to that
        plus `change` (1 if left out; ``"sd"``: one standard deviation of the
        rows); from the lower to the upper quartile (``"iqr"``); between two
        values; the derivative, the average slope dy/dx (``"slope"``).
    population : table, optional
        The people to average over, with the columns that the formulas use but
        `variable` and the response; the rows of the model if left out.
    by : str or sequence of str, optional
        Columns in whose groups the averages are made.
    weights : str or array, optional
        How much each row counts; a column or one value a row. Precision weights
        and numbers of trials of the fit are not used unless they are given here.
    kind : {"population", "typical", "conditional"}
        Integrated over the random effects; with random effects zero; with those
        of the rows' own levels. In a linear model the first two are the same.
    type : {"response", "zero", "dispersion"}
        What is averaged, as in ``fit.predict``; of categories their
        probabilities.
    df : str, optional
        Degrees of freedom of a linear model's tests, as in ``fit.tidy``.
    conf_level : float
    method : {"delta", "bootstrap"}
        Standard errors by the delta method through all coefficients and variance
        parameters jointly, with exact derivatives; or from refits to `n` responses
        that the model draws (parametric bootstrap, percentile intervals).
    n : int
        Refits of the bootstrap.
    rng : int or numpy.random.Generator, optional
        For the bootstrap.
    progress : bool, optional
        Show a progress bar of the bootstrap; None where a person looks.

    Returns
    -------
    AverageEffect
        With ``tidy()``, ``means()``, ``number_needed()``, ``plot()``.

    Raises
    ------
    ranef.errors.ModelError
        The formulas do not use the variable, or the comparison is not defined
        for such means.

    Examples
    --------
    >>> import ranef
    >>> fit = ranef.glmm("resp ~ age * smoke + (1 | id)", ranef.data.load("ohio"),
    ...                  family="binomial", quadrature=25)
    >>> ranef.average(fit, "smoke").tidy()[["contrast", "estimate", "std_error"]].round(4)
      contrast  estimate  std_error
    0    1 - 0    0.0341     0.0232
    >>> ranef.average(fit, "smoke", compare="ratio").tidy()[["contrast", "estimate"]].round(3)
      contrast  estimate
    0    1 / 0     1.243
    """
    question = _question(fit, variable, compare, kind, type, df, method)
    level = checks.conf_level(conf_level)
    people = read_people(fit, variable, population, by, weights)
    arms = arms_of(fit, people, variable, levels, reference, change, compare)
    found = question.means(fit.estimate, people, arms)
    if method == "bootstrap":
        return _by_bootstrap(question, people, arms, found, level, n, rng, progress)
    return _by_delta(question, people, arms, found, level)


@dataclass(frozen=True, eq=False)
class _Question:
    """What is asked of a fit."""

    fit: MixedModelFit
    variable: str
    compare: str
    kind: str
    type: str
    df: str | None
    method: str

    @property
    def linear(self) -> bool:
        return not isinstance(self.fit.estimate, GeneralisedEstimate)

    @property
    def categories(self) -> tuple[str, ...] | None:
        """Categories of the response that have an average each."""
        fit = self.fit
        if not isinstance(fit, GeneralizedMixedModelFit) or not fit._categorical:
            return None
        return fit._categories if self.type == "response" else None

    def means(self, estimate: Estimate, people: People, arms: Sequence[Arm]) -> Means:
        """Averages by arm, group and category; `read` keeps the rows of all arms."""
        return averaging.joined(
            [self._of_rows(estimate, people, r) for r in self.rows(people, arms)]
        )

    def rows(self, people: People, arms: Sequence[Arm]) -> list[Any]:
        """Matrices of the people under each arm."""
        read = [self._read(people.under(self.variable, arm.values)) for arm in arms]
        for _, frame in read:
            if frame.accounting.n_dropped:
                raise DataError(
                    f"{frame.accounting.n_dropped} rows of the population have no prediction once "
                    f"{self.variable!r} is replaced; leave them out"
                )
        return [rows for rows, _ in read]

    def _read(self, table: Any) -> tuple[Any, Any]:
        return read_for(self.fit.estimate, table, self.kind)

    def _of_rows(self, estimate: Estimate, people: People, rows: Any) -> Means:
        if isinstance(estimate, GeneralisedEstimate):
            return averaging.generalised_means(
                estimate, rows, people.weights, people.groups, kind=self.kind, type=self.type
            )
        return averaging.linear_means(
            estimate, rows, people.weights, people.groups, conditional=self.kind == "conditional"
        )


def read_for(estimate: Estimate, table: Any, kind: str) -> tuple[Any, Any]:
    """Read a table for predictions of one kind."""
    if isinstance(estimate, GeneralisedEstimate):
        effects = {"conditional": "own", "population": "new"}.get(kind)
        return read_parts(estimate, table, effects, trials=False)
    effects = "own" if kind == "conditional" else None
    return read_rows(estimate.specification, table, effects)


def _question(
    fit: Any, variable: Any, compare: str, kind: str, type: str, df: str | None, method: str
) -> _Question:
    if not isinstance(fit, LinearMixedModelFit | GeneralizedMixedModelFit):
        raise ModelError(f"average() takes a fit of ranef.lmm or ranef.glmm, not {fit!r:.60}")
    checks.choice("compare", compare, tuple(COMPARISONS))
    checks.choice("kind", kind, KINDS)
    checks.choice("type", type, ("response", "zero", "dispersion"))
    checks.choice("method", method, METHODS)
    if isinstance(fit, LinearMixedModelFit):
        if type != "response":
            raise ModelError(f"a linear model has no {type!r} part; use type='response'")
    else:
        target(fit.estimate, type)
    return _Question(fit, variable, compare, kind, type, df, method)


# --- the delta method


def _by_delta(
    question: _Question, people: People, arms: Sequence[Arm], found: Means, level: float
) -> AverageEffect:
    fit = question.fit
    vcov = fit._covariance(question.df)
    estimate = fit.estimate
    if isinstance(fit, LinearMixedModelFit):
        known = fit._parameters if found.effects is not None else None
        covariance, J = averaging.average_covariance(estimate, found, vcov, known)
    else:
        covariance, J = averaging.average_covariance(estimate, found)
    layout = _Layout(people, tuple(arms), question.categories)
    asked = _asked(question, layout, found)

    def answers(value: Floats, weights: Floats) -> Intervals:
        error = np.sqrt(np.maximum(np.sum(weights @ covariance * weights, axis=1), 0.0))
        df = np.full(len(value), np.inf)
        if question.linear and question.kind != "conditional":
            hypotheses = fit._hypotheses(weights @ J, level, question.df)
            error, df = hypotheses.std_error, hypotheses.df
        return wald(value, error, df, level)

    contrast = answers(asked.value, asked.weights)
    shown = layout.shown
    mean = shown @ found.value
    means = _carried(question, mean, answers(mean, shown), level)
    return AverageEffect(
        **_named(question, layout),
        comparisons=_on_own_scale(question.compare, contrast),
        averages=means,
        covariance=covariance,
        conf_level=level,
        n_failed=None,
    )


def _asked(question: _Question, layout: _Layout, found: Means) -> averaging.Comparison:
    high, low = layout.pairs()
    return averaging.compare(found.value, high, low, question.compare, layout.divisor)


def _on_own_scale(compare: str, found: Intervals) -> Intervals:
    """Carry comparisons back from the scale of their tests."""
    scale = COMPARISONS[compare]
    with np.errstate(over="ignore"):
        slope = scale.back_slope(found.estimate)
        return Intervals(
            scale.back(found.estimate),
            slope * found.std_error,
            found.df,
            found.statistic,
            found.p_value,
            scale.back(found.conf_low),
            scale.back(found.conf_high),
        )


def _carried(question: _Question, value: Floats, found: Intervals, level: float) -> Intervals:
    """Intervals of means within the range of means: made on the scale of a link."""
    if question.linear:
        return found
    assert isinstance(question.fit.estimate, GeneralisedEstimate)
    link = LINKS[target(question.fit.estimate, question.type).scale]
    with np.errstate(divide="ignore", invalid="ignore"):
        centre = link.function(value)
        half = quantile(level, found.df) * found.std_error / np.abs(link.first(centre))
        ends = np.sort([link.inverse(centre - half), link.inverse(centre + half)], axis=0)
    sure = found.std_error == 0
    low, high = np.where(sure, value, ends[0]), np.where(sure, value, ends[1])
    return Intervals(value, found.std_error, found.df, found.statistic, found.p_value, low, high)


# --- the bootstrap


def _by_bootstrap(
    question: _Question,
    people: People,
    arms: Sequence[Arm],
    found: Means,
    level: float,
    n: int,
    rng: Any,
    progress: bool | None,
) -> AverageEffect:
    if question.kind == "conditional":
        raise ModelError(
            "the parametric bootstrap draws new random effects, so that the levels' own effects "
            "are others in each draw; use kind='population', or method='delta'"
        )
    count = checks.count("n", n)
    if count < LEAST_DRAWS:
        raise ModelError(f"n={n} refits give no quantiles; use 200 or more")
    drawn = _refitted(question, people, arms, checks.generator(rng), count, progress)
    good = np.isfinite(drawn).all(axis=1)
    if good.sum() < LEAST_DRAWS:
        raise ModelError(f"only {good.sum()} of {count} refits succeeded; use method='delta'")
    layout = _Layout(people, tuple(arms), question.categories)
    asked = _asked(question, layout, found)
    high, low = layout.pairs()
    values = np.array(
        [
            averaging.compare(row, high, low, question.compare, layout.divisor).value
            for row in drawn[good]
        ]
    )
    contrast = _percentiles(asked.value, values, level, COMPARISONS[question.compare].null)
    back = COMPARISONS[question.compare].back
    own = Intervals(
        back(contrast.estimate),
        np.std(back(values), axis=0, ddof=1),
        contrast.df,
        contrast.statistic,
        contrast.p_value,
        back(contrast.conf_low),
        back(contrast.conf_high),
    )
    return AverageEffect(
        **_named(question, layout),
        comparisons=own,
        averages=_percentiles(
            layout.shown @ found.value, drawn[good] @ layout.shown.T, level, None
        ),
        covariance=np.atleast_2d(np.cov(drawn[good].T)),
        conf_level=level,
        n_failed=int(count - good.sum()),
    )


def _percentiles(value: Floats, drawn: Floats, level: float, null: float | None) -> Intervals:
    """Percentile intervals; the test is of a difference of zero on the draws' own scale."""
    tails = ((1 - level) / 2, (1 + level) / 2)
    low, high = np.quantile(drawn, tails, axis=0)
    error = np.std(drawn, axis=0, ddof=1)
    none = np.full(len(value), np.nan)
    p = none
    if null is not None:
        B = len(drawn)
        below = (1 + np.sum(drawn <= 0, axis=0)) / (B + 1)
        above = (1 + np.sum(drawn >= 0, axis=0)) / (B + 1)
        p = np.minimum(1.0, 2 * np.minimum(below, above))
    return Intervals(value, error, np.full(len(value), np.inf), none, p, low, high)


def _refitted(
    question: _Question,
    people: People,
    arms: Sequence[Arm],
    rng: np.random.Generator,
    n: int,
    progress: bool | None,
) -> Floats:
    """Averages (n, S) of refits to responses that the model draws; NaN where one failed."""
    estimate = question.fit.estimate
    rows = question.rows(people, arms)
    refit = _refitter(estimate)
    out = np.full((n, len(question.means(estimate, people, arms).value)), np.nan)
    draw = _drawer(estimate)
    for j in counted(range(n), "bootstrap", progress):
        try:
            again = refit(draw(rng))
        except ModelError:
            continue
        out[j] = averaging.joined([question._of_rows(again, people, r) for r in rows]).value
    return out


def _refitter(estimate: Estimate) -> Callable[[Floats], Estimate]:
    from ranef.models import glmm, lmm

    if isinstance(estimate, GeneralisedEstimate):
        return lambda y: glmm.refit_glmm(estimate, y)
    return lambda y: lmm.refit(estimate, y)


def _drawer(estimate: Estimate) -> Callable[[np.random.Generator], Floats]:
    from ranef import inference

    if isinstance(estimate, GeneralisedEstimate):
        return lambda rng: np.ascontiguousarray(generalised.simulate(estimate, 1, rng)[:, 0])
    return lambda rng: np.ascontiguousarray(inference.simulate(estimate, 1, rng)[:, 0])


# --- the answer


@dataclass(frozen=True, eq=False)
class _Layout:
    """Averages in order: by arm, group and category."""

    people: People
    arms: tuple[Arm, ...]
    categories: tuple[str, ...] | None

    @property
    def each(self) -> int:
        """Number of averages of an arm."""
        return len(self.people.labels) * len(self.categories or (None,))

    @property
    def divisor(self) -> float:
        return self.arms[0].divisor

    @property
    def shown(self) -> Floats:
        """Averages that a table shows, as functions of all; the two arms of a slope are one."""
        unit = np.eye(len(self.arms) * self.each)
        if not self.arms[0].slope:
            return unit
        half: Floats = (unit[: self.each] + unit[self.each :]) / 2
        return half

    @property
    def shown_labels(self) -> list[str]:
        """Values of the variable under which a table shows averages."""
        arms = self.arms[:1] if self.arms[0].slope else self.arms
        names = ["as it is"] if self.arms[0].slope else [arm.label for arm in arms]
        return [name for name in names for _ in range(self.each)]

    def pairs(self) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """Averages compared: each arm but the reference with it."""
        own = np.arange(self.each)
        others = [a for a, arm in enumerate(self.arms) if not arm.reference]
        base = next(a for a, arm in enumerate(self.arms) if arm.reference)
        high = np.concatenate([a * self.each + own for a in others])
        return high, np.tile(base * self.each + own, len(others))

    def columns(self, count: int) -> dict[str, Any]:
        """Groups and categories of `count` arms' averages."""
        K = len(self.categories or (None,))
        found: dict[str, Any] = {}
        for j, name in enumerate(self.people.by):
            values = [label[j] for label in self.people.labels for _ in range(K)]
            found[name] = values * count
        if self.categories is not None:
            found["category"] = list(self.categories) * (len(self.people.labels) * count)
        return found


def _named(question: _Question, layout: _Layout) -> dict[str, Any]:
    arms = layout.arms
    base = next(arm for arm in arms if arm.reference)
    others = [arm for arm in arms if not arm.reference]
    sign = {"difference": "-", "odds": "/", "ratio": "/", "lift": "/", "log ratio": "/"}
    names = [
        arm.slope or f"{arm.label} {sign[question.compare]} {base.label}"
        for arm in others
        for _ in range(layout.each)
    ]
    return {
        "question": question,
        "layout": layout,
        "contrasts": tuple(names),
    }


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

    question: _Question
    layout: _Layout
    contrasts: tuple[str, ...]
    comparisons: Intervals
    averages: Intervals
    covariance: Floats
    conf_level: float
    n_failed: int | None

    @property
    def _slope(self) -> bool:
        return any(arm.slope for arm in self.layout.arms)

    @property
    def _library(self) -> str:
        return self.layout.people.library

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
        own, others = self.comparisons, len(self.layout.arms) - 1
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
        0    1 - 0       NaN  fewer      87.9        inf
        1    1 - 0      29.3   more      12.6        inf
        """
        self._check_needed()
        own = self.comparisons
        labels = {
            "contrast": list(self.contrasts),
            **self.layout.columns(len(self.layout.arms) - 1),
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
        if question.linear or self._slope:
            return False
        family = question.fit.estimate.family  # type: ignore[attr-defined]
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
        from ranef.plots.averages import average_effect

        own = self.comparisons
        labels = self.layout.columns(len(self.layout.arms) - 1)
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
        parts.append(Paragraph((self._how(), self._causal())))
        title = f"Average effect of {self.question.variable}: {self.question.fit.formula}"
        return Summary(Page(title, tuple(parts)))

    def _outcome(self) -> str:
        question = self.question
        response = outcome_name(question.fit.estimate.specification)
        if question.type == "zero":
            return "probability of an extra zero"
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
        question, people = self.question, self.layout.people
        variable = question.variable
        base = next(arm for arm in self.layout.arms if arm.reference)
        if self._slope:
            what = f"the slope of the {self._outcome()} in {variable} (per unit)"
        elif base.own:
            what = (
                f"the {self._outcome()} if {variable} were changed as stated, beside that with "
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
        names = " and ".join(dict.fromkeys(f.name for f in factors_of(self.question.fit.estimate)))
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
        labels = self.layout.columns(len(self.layout.arms) - 1)
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
        labels = self.layout.columns(len(self.layout.arms) - 1)
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
        made = f" Tests and intervals on the scale of the {where}, carried back." if where else ""
        if self.question.linear:
            return f"Standard errors from the covariance of the fixed effects.{made}"
        return (
            "Standard errors by the delta method through all coefficients and variance "
            f"parameters.{made}"
        )

    def _causal(self) -> str:
        others = [c for c in self.layout.people.columns if c != self.question.variable]
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
