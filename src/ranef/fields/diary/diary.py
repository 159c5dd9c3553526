"""`diary`: the analysis of experience sampling data in one call."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ranef import arguments
from ranef.display.answer import Answer
from ranef.display.canvas import percent
from ranef.display.columns import Column, Degrees, Fixed, Listing, PValue, Sized, Written
from ranef.display.page import Paragraph
from ranef.errors import DataWarning, ModelError, warn
from ranef.fields.diary import page
from ranef.fields.diary import residual as residual_
from ranef.fields.diary.compliance import Compliance, compliance
from ranef.fields.diary.concerns import Concern, concerns
from ranef.fields.diary.dynamics import Dynamics, dynamics
from ranef.fields.diary.memory import Memory, memory
from ranef.fields.diary.model import (
    Formula,
    Slopes,
    effects,
    formula_of,
    levels_of,
    slopes,
    within_persons,
)
from ranef.fields.diary.occasions import Occasions, Roles, names, read_occasions
from ranef.fields.diary.pictures import DiaryPlots
from ranef.fields.diary.residual import AUTO, Choice
from ranef.fields.diary.variance import Levels, reliabilities
from ranef.tables import Table
from ranef.tables.concerns import concerns as of_table

__all__ = ["Diary", "diary"]

Floats = NDArray[np.float64]
DAY_STARTS = 4.0
LEVELS = ("person", "day", "prompt")


@dataclass(frozen=True, eq=False, repr=False)
class Diary(Answer):
    """The analysis of a diary; `diary` makes it.

    Attributes
    ----------
    fit : LinearMixedModelFit
        The within-between model.
    formula : Formula
    residual : Choice
        What the residuals remember.
    occasions : Occasions
        Who was asked when, of the rows used.
    roles : Roles
        Which column is what.
    variances : dict of str to Levels
        Of outcome and predictors.
    concerns : tuple of Concern
        What to know before the numbers are believed.
    conf_level : float
    title, library : str

    Examples
    --------
    >>> import numpy as np, ranef
    >>> rng = np.random.default_rng(1)
    >>> person = np.repeat(np.arange(30), 40)
    >>> stress = rng.normal(size=30)[person] + rng.normal(size=1200)
    >>> rows = {"person": person, "time": np.tile(np.arange(40), 30), "stress": stress,
    ...         "day": np.tile(np.arange(40) // 5, 30),
    ...         "mood": 5 - 0.5 * stress + rng.normal(size=1200)}
    >>> found = ranef.diary(rows, "mood", "stress", person="person", time="time", day="day",
    ...                     scheduled=5)
    >>> found.effects()[["predictor", "effect"]].values.tolist()
    [['stress', 'within'], ['stress', 'between'], ['stress', 'contextual']]
    """

    fit: Any
    formula: Formula
    residual: Choice
    occasions: Occasions
    roles: Roles
    variances: dict[str, Levels]
    concerns: tuple[Concern, ...]
    conf_level: float
    title: str
    library: str

    # --- tables

    def tidy(self, table: str = "effects") -> Any:
        """Return a table: ``effects``, ``icc``, ``reliability``, ``dynamics``,
        ``compliance``, ``autocorrelation`` or ``slopes``, as the method of that name does; or
        ``residual``, the structures of the residuals that were compared.
        """
        return self.tabled(self.listing(table))

    def effects(self) -> Any:
        """Return the effects of the predictors.

        Returns
        -------
        table
            ``predictor, effect, estimate, std_error, df, statistic, p_value, conf_low,
            conf_high, slope_sd``. `effect` is ``"within"``, ``"between"`` or
            ``"contextual"`` (between minus within); of predictors taken apart by day
            ``"between_day"`` too. `slope_sd` is the standard deviation of the persons' own
            slopes.
        """
        return self.tidy("effects")

    def icc(self) -> Any:
        """Return the shares of the outcome's variance: ``level, variance, icc``.

        Levels are ``"person"``, ``"day"`` (of a person) and ``"moment"``, of a model without
        predictors.
        """
        return self.tidy("icc")

    def reliability(self) -> Any:
        """Return the reliability of means: ``variable, level, prompts, reliability``.

        Of the means of persons, and of the means of a person's days, for the outcome and each
        predictor.
        """
        return self.tidy("reliability")

    def dynamics(self) -> Any:
        """Return how each person's outcome moves.

        Returns
        -------
        table
            ``person, n, mean, sd, pairs, rmssd, inertia, inertia_shrunken``: prompts answered,
            mean, standard deviation, successive prompts (of one day, no further apart than
            `max_gap`), root mean squared successive difference, the slope on the value before,
            and that slope drawn towards the mean of all persons as far as its pairs are few.
        """
        return self.tidy("dynamics")

    def compliance(self, by: str = "person") -> Any:
        """Return the prompts answered of those scheduled.

        Parameters
        ----------
        by : {"person", "day", "prompt"}
            By person, by day of the study, or by prompt of the day.

        Returns
        -------
        table
            ``person`` (or ``day``, ``prompt``), ``scheduled, answered, compliance``, and
            ``latency``, the median minutes to the answer, where the schedule has times.
        """
        by = arguments.choice("by", by, LEVELS)
        return self.tabled(self._compliance(by))

    def autocorrelation(self) -> Any:
        """Return the residuals' autocorrelation by the time between two prompts.

        Residuals are what is left of predictors and persons. The day's own level stays in:
        without it neighbours in a day would repel each other, and what it shares shows as a
        plateau at long times.

        Returns
        -------
        table
            ``gap_low, gap_high, gap, pairs, autocorrelation``, in hours of datetimes and in the
            units of numeric times.
        """
        return self.tidy("autocorrelation")

    def slopes(self) -> Any:
        """Return each person's own slopes within.

        Returns
        -------
        table
            ``person, predictor, n, estimate, std_error, conf_low, conf_high, raw``: `estimate`
            is shrunken towards the mean slope, `raw` that of the person's own rows alone.
        """
        return self.tidy("slopes")

    # --- numbers

    def compliance_by(self, by: str) -> Compliance:
        """Prompts answered of those scheduled, as arrays."""
        return compliance(self.occasions, self.roles.outcome, by)

    def series(self, name: str | None = None) -> Dynamics:
        """How each person's series of a variable moves, as arrays."""
        values = self.occasions.columns[self.roles.outcome if name is None else name]
        return dynamics(
            values, self.occasions.person.codes, self.occasions.before, self.occasions.n_persons
        )

    def _memory(self) -> Listing:
        tried = self.residual.candidates
        name = self.residual.structure or "independent"
        columns = (
            Column("residual", [one.structure for one in tried] or [name]),
            Column("loglik", [one.loglik for one in tried] or [self.fit.loglik], Fixed(2)),
            Column("aic", [one.aic for one in tried] or [self.fit.aic], Fixed(2), "AIC"),
            Column("chosen", [one.structure == name for one in tried] or [True]),
        )
        return Listing("residual", columns, "Structures of the residuals")

    def memory(self) -> Memory:
        """The residuals' autocorrelation, as arrays."""
        deviations = within_persons(self.fit, self.formula)
        return memory(deviations, self.occasions.clock.time, self.occasions.series)

    def own_slopes(self) -> Slopes:
        """Each person's slopes, as arrays."""
        return slopes(self.fit, self.formula, self.occasions, self.roles, self.conf_level)

    # --- how it is said

    def tables(self) -> tuple[Listing, ...]:
        return (
            self._effects(), self._icc(), self._reliability(), self._autocorrelation(),
            self._memory(), self._dynamics(), self._compliance("person"), self._slopes(),
        )  # fmt: skip

    def _effects(self) -> Listing:
        found = effects(self.fit, self.formula, self.conf_level)
        sized = Sized(found.std_error)
        low = f"{percent(self.conf_level)} low"
        columns = (
            Column("predictor", list(found.predictors)),
            Column("effect", list(found.effects)),
            Column("estimate", found.estimate, sized),
            Column("std_error", found.std_error, sized, "std. error"),
            Column("df", found.df, Degrees(), printed=False),
            Column("statistic", found.statistic, Fixed(2), printed=False),
            Column("p_value", found.p_value, PValue(), "p"),
            Column("conf_low", found.conf_low, sized, low),
            Column("conf_high", found.conf_high, sized, "high"),
            Column("slope_sd", found.slope_sd, Written(_or_dash, measured=True), "sd of slopes"),
        )
        caption = f"Effects on {self.roles.outcome} within persons and between them"
        return Listing("effects", columns, caption, labels=2)

    def _icc(self) -> Listing:
        levels = self.variances[self.roles.outcome]
        labels, variances = zip(*levels.rows, strict=True)
        variance = np.array(variances)
        columns = (
            Column("level", list(labels)),
            Column("variance", variance, Fixed(3)),
            Column("icc", variance / levels.total, Fixed(3), "share (ICC)"),
        )
        return Listing("icc", columns, f"Where {self.roles.outcome} varies")

    def _reliability(self) -> Listing:
        rows = [
            (name, *row)
            for name, levels in self.variances.items()
            for row in _reliabilities(levels, self.occasions, name)
        ]
        variable, level, prompts, value = zip(*rows, strict=True)
        columns = (
            Column("variable", list(variable)),
            Column("level", list(level)),
            Column("prompts", np.array(prompts), Fixed(1), "prompts (mean)"),
            Column("reliability", np.array(value), Fixed(2)),
        )
        return Listing("reliability", columns, "Reliability of means", labels=2)

    def _autocorrelation(self) -> Listing:
        found = self.memory()
        unit = "hours" if self.occasions.clock.is_clock else self.roles.time
        columns = (
            Column("gap_low", found.low, Fixed(1), f"{unit}, from"),
            Column("gap_high", found.high, Fixed(1), "to"),
            Column("gap", found.gap, Fixed(2), "mean"),
            Column("pairs", found.pairs, Written("{:,}".format)),
            Column("autocorrelation", found.correlation, Fixed(3)),
        )
        caption = "Autocorrelation of the residuals by the time between prompts"
        return Listing("autocorrelation", columns, caption)

    def _dynamics(self) -> Listing:
        found = self.series()
        columns = (
            Column("person", list(self.occasions.person.levels)),
            Column("n", found.n),
            Column("mean", found.mean, Fixed(2)),
            Column("sd", found.sd, Fixed(2)),
            Column("pairs", found.pairs),
            Column("rmssd", found.rmssd, Fixed(2)),
            Column("inertia", found.inertia, Fixed(2)),
            Column("inertia_shrunken", found.shrunken, Fixed(2), "shrunken"),
        )
        return Listing("dynamics", columns, f"How {self.roles.outcome} moves")

    def _compliance(self, by: str) -> Listing:
        found = self.compliance_by(by)
        timed = () if found.latency is None else (
            Column("latency", found.latency, Fixed(1), "minutes to the answer"),
        )  # fmt: skip
        columns = (
            Column(by, found.labels),
            Column("scheduled", found.scheduled, Fixed(0)),
            Column("answered", found.answered, Fixed(0)),
            Column("compliance", found.share, Fixed(2)),
            *timed,
        )
        return Listing("compliance", columns, f"Prompts answered, by {by}")

    def _slopes(self) -> Listing:
        found = self.own_slopes()
        sized = Sized(found.std_error)
        columns = (
            Column("person", list(found.persons)),
            Column("predictor", list(found.predictors)),
            Column("n", found.n),
            Column("estimate", found.estimate, sized),
            Column("std_error", found.std_error, sized, "std. error"),
            Column("conf_low", found.conf_low, sized),
            Column("conf_high", found.conf_high, sized),
            Column("raw", found.raw, Written(_or_dash, measured=True)),
        )
        return Listing("slopes", columns, "Slopes of each person", labels=2)

    def sentences(self) -> tuple[str, ...]:
        told = [*self.reading(), *self.summary_sentences()]
        return (*told, *(f"Caution: {concern.text}" for concern in self.concerns))

    def reading(self) -> tuple[str, ...]:
        """What was read, and how."""
        o = self.occasions
        answered = int(np.count_nonzero(~np.isnan(o.columns[self.roles.outcome])))
        days = "" if o.day is None else f" on {len(np.unique(o.series[o.series >= 0])):,} days"
        return (
            f"{answered:,} prompts answered by {o.n_persons:,} persons{days}; {self.fit.n_obs:,} "
            f"rows in the model {self.fit.formula}.",
            *(f"{note[0].upper()}{note[1:]}." for note in o.notes),
        )

    def summary_sentences(self) -> tuple[str, ...]:
        """Instability, inertia and compliance in a sentence each."""
        found, said = self.series(), []
        said.append(self.remembered())
        if np.isfinite(found.rmssd).any():
            said.append(
                f"Median over persons: standard deviation {np.nanmedian(found.sd):.2f}, RMSSD "
                f"{np.nanmedian(found.rmssd):.2f}"
                + (
                    f", inertia {np.nanmedian(found.inertia):.2f}."
                    if np.isfinite(found.inertia).any()
                    else "."
                )
            )
        if self.occasions.schedule.known:
            done = self.compliance_by("person")
            share = float(done.answered.sum() / done.scheduled.sum())
            said.append(
                f"Compliance {100 * share:.0f}% of {done.scheduled.sum():,.0f} prompts (persons "
                f"from {100 * np.nanmin(done.share):.0f}% to {100 * np.nanmax(done.share):.0f}%)."
            )
        return tuple(said)

    def remembered(self) -> str:
        """What the residuals remember, in a sentence."""
        choice, unit = self.residual, "hours" if self.occasions.clock.is_clock else "units of time"
        how = "" if not choice.candidates else f" (by AIC, of {len(choice.candidates)} structures)"
        if len(choice.candidates) == 1 and self.fit.n_obs > residual_.MOST_ROWS:
            return (
                "Residuals are independent: in a table of this size nothing else was compared, as "
                f"it takes minutes; residual='ou({self.formula.time} | {self.formula.series})' "
                "lets them remember."
            )
        if choice.structure is None:
            return f"Residuals are independent{how}."
        said = f"Residuals are {choice.structure}{how}"
        if np.isfinite(choice.range):
            low, high = choice.half_life_interval
            said += f": half of what is remembered is gone after {choice.half_life:.2g} {unit}"
            said += f" ({low:.2g} to {high:.2g})" if np.isfinite(low + high) else ""
        if np.isfinite(choice.nugget):
            said += f", and {100 * choice.nugget:.0f}% of the residual variance is not remembered"
        return f"{said}."

    def body(self) -> Any:
        yield self._effects()
        yield self._icc()
        yield self._reliability()
        yield self._autocorrelation()
        yield Paragraph(self.sentences())

    @property
    def plot(self) -> DiaryPlots:
        """The pictures: ``plot.effects()``, ``plot.slopes()``, ``plot.autocorrelation()``,
        ``plot.compliance()``, ``plot.series()``.
        """
        return DiaryPlots(self)

    def report(self, path: str | PathLike[str], *, call: str | None = None) -> Path:
        """Write the report, one HTML page with tables and pictures.

        Parameters
        ----------
        path : path-like
            An existing file is replaced.
        call : str, optional
            The command that made it, shown under "How to reproduce".
        """
        return page.write(self, path, call)


def _or_dash(value: float) -> str:
    return "-" if np.isnan(value) else f"{value:.3g}"


def _reliabilities(
    levels: Levels, occasions: Occasions, name: str
) -> list[tuple[str, float, float]]:
    rows = ~np.isnan(occasions.columns[name])
    counted = np.bincount(occasions.person.codes[rows], minlength=occasions.n_persons)
    prompts = counted[counted > 0].astype(np.float64)
    if levels.day is None:
        return reliabilities(levels, prompts, None, None)
    use = rows & (occasions.series >= 0)
    _, first, counts = np.unique(occasions.series[use], return_index=True, return_counts=True)
    days = np.bincount(occasions.person.codes[use][first], minlength=occasions.n_persons)
    days = days[counted > 0]
    return reliabilities(
        levels, prompts, np.maximum(days, 1).astype(np.float64), counts.astype(np.float64)
    )


def diary(
    data: Any,
    outcome: str,
    predictors: str | Sequence[str],
    *,
    person: str,
    time: str,
    day: str | None = None,
    prompt: str | None = None,
    scheduled: Any = None,
    covariates: str | Sequence[str] = (),
    by_day: bool = False,
    slopes: bool = True,
    lagged: bool = False,
    residual: str | None = AUTO,
    max_gap: Any = None,
    time_zone: str | None = None,
    day_starts: float = DAY_STARTS,
    conf_level: float = 0.95,
) -> Diary:
    """Analyse a diary: experience sampling, ecological momentary assessment, daily reports.

    The model has each predictor's part within persons, which varies in slope between them, and
    its part between them; random intercepts of persons and of a person's days. Beside it stand
    the shares of variance by level, the reliability of means, the residuals' autocorrelation by
    clock time, each person's instability and inertia, compliance, and the persons' own slopes.
    Rows may come in any order.

    Parameters
    ----------
    data : table or path
        A table; or a file: SPSS (``.sav``, with the extra ``ranef[spss]``), a CSV export of
        m-Path, movisensXS, LifeData or Qualtrics, or any other CSV.
    outcome : str
        Column of numbers.
    predictors : str or sequence of str
        Columns of numbers that are taken apart within and between persons.
    person, time : str
        Columns. Times are datetimes (hours are then the unit), text in ISO 8601, or numbers.
    day : str, optional
        Column of days. Of datetimes it is the date by default, from `day_starts` to the same hour
        of the next. No lag, pair or difference crosses from one day to the next.
    prompt : str, optional
        Column with the number of the prompt in the day.
    scheduled : optional
        What was scheduled: a column (times of schedule, or 0 and 1, or the number of prompts of
        the row's day), a number of prompts a day, or a dict of person -> prompts. Without it
        rows with a missing outcome count as prompts that were not answered.
    covariates : str or sequence of str
        Columns that enter as they stand: age, a group, the number of the day.
    by_day : bool
        Take predictors apart by day as well: moment in day, day in person, person.
    slopes : bool
        Let slopes within vary between persons.
    lagged : bool
        Add the outcome at the prompt before, within persons. It warns (Nickell bias).
    residual : str or None
        What the residuals remember over the time within a series (of a person's day):
        ``"auto"`` compares independent residuals, an Ornstein-Uhlenbeck process, and one with a
        nugget, and takes the one that AIC says (above 6,000 rows without the nugget, above
        20,000 nothing is compared, and the answer says so); None for independent ones; or a
        structure of `ranef.lmm`, such as ``"ar1(beep | id/day)"``, of the columns of the model.
    max_gap : optional
        Longest time between prompts that count as successive: ``"3h"`` of datetimes, a number
        in the units of numeric times.
    time_zone : str, optional
        A zone such as ``"Europe/Berlin"``, or a column of zones: where times without a zone
        were taken, and on whose wall times with one are read, to tell the day.
    day_starts : float
        Hour at which a day begins.
    conf_level : float

    Returns
    -------
    Diary
        ``effects()``, ``icc()``, ``reliability()``, ``dynamics()``, ``compliance()``,
        ``autocorrelation()``, ``slopes()``, ``plot``, ``report(path)`` and ``fit``.

    Raises
    ------
    ranef.errors.DataError
        A person has two different answers at one time, or a column cannot be read.

    Warns
    -----
    ranef.errors.DataWarning
        What an expert would warn of: few prompts, a raw covariate that mixes two effects, times
        that are counts from 1970, nights crossed. All of it stands in ``concerns`` too.
    ranef.errors.FormulaWarning
        A lagged outcome (Nickell bias).

    Examples
    --------
    >>> import numpy as np, ranef
    >>> rng = np.random.default_rng(1)
    >>> person = np.repeat(np.arange(30), 40)
    >>> stress = rng.normal(size=30)[person] + rng.normal(size=1200)
    >>> rows = {"person": person, "time": np.tile(np.arange(40), 30), "stress": stress,
    ...         "day": np.tile(np.arange(40) // 5, 30),
    ...         "mood": 5 - 0.5 * stress + rng.normal(size=1200)}
    >>> found = ranef.diary(rows, "mood", "stress", person="person", time="time", day="day",
    ...                     scheduled=5)
    >>> found.icc().level.tolist(), found.dynamics().shape
    (['person', 'day', 'moment'], (30, 8))
    """
    table = _table(data)
    roles = Roles(
        outcome, names("predictors", predictors), names("covariates", covariates), person, time,
        day, prompt, scheduled, time_zone, arguments.number("day_starts", day_starts), max_gap,
    )  # fmt: skip
    if not roles.predictors:
        raise ModelError("predictors names the columns to take apart, such as 'stress'")
    by_day, varying = arguments.flag("by_day", by_day), arguments.flag("slopes", slopes)
    lagged, level = arguments.flag("lagged", lagged), arguments.conf_level(conf_level)
    occasions = read_occasions(table, roles)
    if occasions.n_persons == 1:
        raise ModelError(
            f"diary() compares persons, and {person} is one alone: what a single series remembers "
            f"says lmm('{outcome} ~ {roles.predictors[0]}', residual='ou({time} | {person})')"
        )
    formula = formula_of(occasions, roles, by_day=by_day, slopes=varying, lagged=lagged)
    fit, choice = residual_.fitted(formula, residual_.check(residual))
    variances = {name: levels_of(name, formula, occasions) for name in (outcome, *roles.predictors)}
    reliable = {
        name: _reliabilities(variances[name], occasions, name)[0][2] for name in roles.predictors
    }
    found = concerns(occasions, roles, lagged, reliable)
    used = (outcome, *roles.predictors, person, time)
    of_columns = of_table(table.snapshot(dict.fromkeys(used)), (outcome,), _answered(table, roles))
    found = (*found, *(Concern("columns", text) for text in of_columns))
    for concern in found:
        if concern.about in ("few prompts", "raw predictor", "epochs", "nights"):
            warn(concern.text, DataWarning)
    title = f"Diary of {outcome} on {', '.join(roles.predictors)}"
    return Diary(
        fit, formula, choice, occasions, roles, variances, found, level, title, table.library
    )


def _answered(table: Table, roles: Roles) -> NDArray[np.bool_]:
    """Rows (N,) with an answer and a time, one of each person and time."""
    rows = ~table.missing(roles.outcome) & ~table.missing(roles.time)
    person, time = table.codes(roles.person)[0], table.codes(roles.time)[0]
    places = np.flatnonzero(rows)
    _, first = np.unique(np.column_stack([person, time])[places], axis=0, return_index=True)
    out = np.zeros(len(rows), dtype=np.bool_)
    out[places[first]] = True
    return out


def _table(data: Any) -> Table:
    if isinstance(data, (str, PathLike)):
        from ranef.fields.diary.exports import read_export

        data = read_export(data).table
    return Table.of(data)
