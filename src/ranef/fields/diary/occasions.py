"""Who was asked when: the rows of a diary, in whatever order they come."""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ranef.design.centring import group_means
from ranef.design.evaluate import unknown_column
from ranef.design.lags import read_span, steps_before
from ranef.design.values import Categories
from ranef.errors import DataError, ModelError, row_text
from ranef.fields.diary.clock import Clock, read_clock
from ranef.formula.labels import count_text, level_text, number_text
from ranef.tables import Table

__all__ = ["Occasions", "Roles", "Schedule", "names", "read_occasions"]

Floats = NDArray[np.float64]
Rows = NDArray[np.intp]
DAY = 24.0


@dataclass(frozen=True)
class Roles:
    """Which column is what."""

    outcome: str
    predictors: tuple[str, ...]
    covariates: tuple[str, ...]
    person: str
    time: str
    day: str | None
    prompt: str | None
    scheduled: Any
    time_zone: str | None
    day_starts: float
    max_gap: Any

    @property
    def columns(self) -> tuple[str, ...]:
        """Every column that is named."""
        named = [self.outcome, *self.predictors, *self.covariates, self.person, self.time]
        for other in (self.day, self.prompt, self.scheduled):
            named += [other] if isinstance(other, str) else []
        return tuple(dict.fromkeys(named))


@dataclass(frozen=True, eq=False)
class Schedule:
    """What was asked of people.

    Attributes
    ----------
    rows : (n,) bool array
        Rows that stand for a scheduled prompt.
    by_person : (P,) array or None
        Prompts scheduled, where they are known by number; else the rows are counted.
    by_day : int or None
        Prompts scheduled a day.
    of_day : (n,) array or None
        Prompts scheduled on the row's own day.
    latency : (n,) array or None
        Hours from schedule to answer.
    known : bool
        Whether anything says what was scheduled.
    """

    rows: NDArray[np.bool_]
    by_person: Floats | None
    by_day: int | None
    latency: Floats | None
    known: bool
    of_day: Floats | None = None


@dataclass(frozen=True, eq=False)
class Occasions:
    """The rows of a diary that are used, in the table's order.

    Attributes
    ----------
    rows : (n,) int array
        Their places in the user's table.
    columns : dict of str to (n,) arrays
        Outcome, predictors and covariates.
    person, day : Categories
        `day` is None where nothing says which day a row is of; its levels are shared by all.
    study_day : (n,) int array or None
        1 on a person's first day.
    prompt : (n,) array or None
    clock : Clock
    before : (n,) int array
        Row before each row in its series, -1 where there is none.
    gap : float or None
        Longest time between two successive prompts, in the units of the clock.
    schedule : Schedule
    notes : tuple of str
        What was decided on the way.
    nights : int
        Successive prompts with a night between them.
    """

    rows: Rows
    columns: dict[str, Any]
    person: Categories
    day: Categories | None
    study_day: NDArray[np.int_] | None
    prompt: Floats | None
    clock: Clock
    before: Rows
    gap: float | None
    schedule: Schedule
    notes: tuple[str, ...]
    nights: int

    @property
    def n_persons(self) -> int:
        """Number of persons."""
        return len(self.person.levels)

    @property
    def labels(self) -> NDArray[Any]:
        """Label of each row's person."""
        return np.array([*self.person.levels, None], dtype=object)[self.person.codes]

    @property
    def day_labels(self) -> NDArray[Any] | None:
        """Label of each row's day."""
        if self.day is None:
            return None
        return np.array([*self.day.levels, None], dtype=object)[self.day.codes]

    @property
    def series(self) -> NDArray[np.int64]:
        """Number of each row's series, of its person and day; -1 where it has none."""
        return series_of(self.person, self.day)


def series_of(person: Categories, day: Categories | None) -> NDArray[np.int64]:
    """Number the series of a person, and of a day if there is one; -1 where a row has none."""
    codes = person.codes.astype(np.int64)
    if day is None:
        return codes
    joint = codes * (len(day.levels) + 1) + day.codes
    return np.where((codes < 0) | (day.codes < 0), -1, joint)


def read_occasions(table: Table, roles: Roles) -> Occasions:
    """Read who was asked when, and say what was decided about it."""
    for role, name in (("outcome", roles.outcome), ("person", roles.person), ("time", roles.time)):
        if not isinstance(name, str):
            raise ModelError(f"{role} is the name of a column, not {name!r}")
    for name in roles.columns:
        if name not in table:
            raise unknown_column(name, table)
    notes: list[str] = []
    answered = read_clock(table, roles.time, roles.time_zone)
    planned = _planned(table, roles)
    clock = answered if planned is None else _filled(answered, planned)
    codes, levels = table.codes(roles.person)
    day = _days(table, roles, clock, notes)
    outcome = table.numeric(roles.outcome)
    placed = (codes >= 0) & (~np.isnan(clock.time) | np.isnan(outcome))
    lost = int(np.count_nonzero(~placed & ~np.isnan(outcome)))
    if lost:
        notes.append(f"{count_text(lost, 'answered row')} without a person or a time left out")
    kept = _without_copies(table, roles, codes, clock.time, day, placed, outcome, notes)
    rows = np.flatnonzero(kept)
    if not len(rows):
        raise DataError(
            f"no row has both {roles.person} and {roles.time}; are the columns the right ones?"
        )
    person = _taken(Categories(codes, levels), rows)
    day = None if day is None else _taken(day, rows)
    clock = Clock(clock.time[rows], None if clock.wall is None else clock.wall[rows])
    _check_predictors(table, roles, rows, person)
    gap = _gap(roles.max_gap, clock)
    what = (roles.person, roles.time)
    before = steps_before(clock.time, person, day, 1, gap, what)
    return Occasions(
        rows=rows,
        columns={name: _values(table, name)[rows] for name in _model_columns(roles)},
        person=person,
        day=day,
        study_day=_study_days(person, day),
        prompt=None if roles.prompt is None else table.numeric(roles.prompt)[rows],
        clock=clock,
        before=before,
        gap=gap,
        schedule=_schedule(
            table,
            roles,
            rows,
            person,
            answered,
            planned,
            None if day is None else series_of(person, day),
        ),
        notes=tuple(notes),
        nights=_nights(clock, before, roles.day_starts),
    )


def _check_predictors(table: Table, roles: Roles, rows: Rows, person: Categories) -> None:
    """Refuse predictors that do not vary, or only between persons."""
    answered = ~np.isnan(table.numeric(roles.outcome)[rows])
    for name in roles.predictors:
        if table.kind(name) not in ("numeric", "boolean"):
            continue
        x = table.numeric(name)[rows]
        known = answered & ~np.isnan(x) & (person.codes >= 0)
        if not known.any():
            continue
        if np.ptp(x[known]) == 0:
            raise DataError(
                f"predictor {name!r} is {number_text(float(x[known][0]))} in all answered rows: it "
                "explains nothing; leave it out"
            )
        means = group_means(x[known], person.codes[known], len(person.levels))
        if (x[known] == means[person.codes[known]]).all():
            raise DataError(
                f"predictor {name!r} is the same at all prompts of each {roles.person}, so that it "
                f"has no effect within: give it as a covariate, covariates={name!r}"
            )


def _model_columns(roles: Roles) -> tuple[str, ...]:
    return tuple(dict.fromkeys((roles.outcome, *roles.predictors, *roles.covariates)))


def _values(table: Table, name: str) -> NDArray[Any]:
    if table.kind(name) in ("numeric", "boolean", "empty"):
        return table.numeric(name)
    codes, levels = table.codes(name)
    return np.array([*levels, None], dtype=object)[codes]


def _taken(value: Categories, rows: Rows) -> Categories:
    """Some rows, with the levels that occur there."""
    codes = value.codes[rows]
    present = np.unique(codes[codes >= 0])
    lookup = np.full(len(value.levels) + 1, -1, dtype=np.int32)
    lookup[present] = np.arange(len(present), dtype=np.int32)
    return Categories(lookup[codes], [value.levels[k] for k in present.tolist()], True)


def _days(table: Table, roles: Roles, clock: Clock, notes: list[str]) -> Categories | None:
    """Days as the table has them, or of the wall clock."""
    if roles.day is not None:
        codes, levels = table.codes(roles.day)
        return Categories(codes, levels)
    if clock.wall is None:
        return None
    number = np.floor((clock.wall - roles.day_starts) / DAY)
    known = ~np.isnan(number)
    values, inverse = np.unique(number[known], return_inverse=True)
    codes = np.full(table.n_rows, -1, dtype=np.int32)
    codes[known] = inverse
    first = datetime.date(1970, 1, 1)
    notes.append(
        f"days go from {int(roles.day_starts):02d}:{round(roles.day_starts % 1 * 60):02d} to the "
        "same hour of the next date, where the person was"
    )
    return Categories(codes, [first + datetime.timedelta(days=int(v)) for v in values])


def _without_copies(
    table: Table,
    roles: Roles,
    person: NDArray[np.int32],
    time: Floats,
    day: Categories | None,
    placed: NDArray[np.bool_],
    outcome: Floats,
    notes: list[str],
) -> NDArray[np.bool_]:
    """One row a person and time: copies dropped, unanswered ones first; contradictions refused."""
    kept = placed.copy()
    days = np.zeros(len(time)) if day is None else day.codes.astype(np.float64)
    rows = np.flatnonzero(placed)
    order = rows[np.lexsort((np.isnan(outcome[rows]), time[rows], days[rows], person[rows]))]
    same = (
        (person[order][1:] == person[order][:-1])
        & (days[order][1:] == days[order][:-1])
        & (time[order][1:] == time[order][:-1])
    )
    if not same.any():
        return kept
    columns = [_values(table, name) for name in _model_columns(roles)]
    first = order[0]
    for k in range(1, len(order)):
        row = order[k]
        if not same[k - 1]:
            first = row
            continue
        if not np.isnan(outcome[row]) and not all(_equal(c[first], c[row]) for c in columns):
            who = level_text(table.codes(roles.person)[1][person[row]])
            raise DataError(
                f"{roles.person} {who} has two different answers at one time ({row_text(first)} "
                f"and {row_text(row)}, {roles.time}); keep the one that counts, or say with day= "
                "what tells them apart"
            )
        kept[row] = False
    dropped = int(np.count_nonzero(placed & ~kept))
    notes.append(f"{count_text(dropped, 'row')} of the same person and time left out as copies")
    return kept


def _equal(a: Any, b: Any) -> bool:
    return bool(a == b or (a != a and b != b) or (a is None and b is None))


def _gap(span: Any, clock: Clock) -> float | None:
    if span is None:
        return None
    return read_span(span, clock.is_clock, "max_gap") / (3600.0 if clock.is_clock else 1.0)


def _study_days(person: Categories, day: Categories | None) -> NDArray[np.int_] | None:
    """1 on a person's first day; dates and numbers count days between, text those that occur."""
    if day is None:
        return None
    levels = day.levels
    if levels and isinstance(levels[0], (datetime.date, datetime.datetime)):
        number = np.array([d.toordinal() for d in levels], dtype=np.float64)
    elif levels and all(isinstance(v, (int, float)) for v in levels):
        number = np.floor(np.array(levels, dtype=np.float64))
    else:
        number = np.arange(len(levels), dtype=np.float64)
    value = np.append(number, np.nan)[day.codes]
    first = np.full(len(person.levels), np.inf)
    known = ~np.isnan(value)
    np.minimum.at(first, person.codes[known], value[known])
    return np.where(known, value - first[person.codes] + 1, 0).astype(np.int_)


def _planned(table: Table, roles: Roles) -> Clock | None:
    """When the prompts were scheduled, where a column has times."""
    column = roles.scheduled
    if not isinstance(column, str) or table.kind(column) in ("numeric", "boolean"):
        return None
    return read_clock(table, column, roles.time_zone)


def _filled(answered: Clock, planned: Clock) -> Clock:
    """The time of the answer, of a prompt that has none that of its schedule."""
    if answered.wall is None or planned.wall is None:
        return answered
    gone = np.isnan(answered.time)
    return Clock(
        np.where(gone, planned.time, answered.time), np.where(gone, planned.wall, answered.wall)
    )


def _schedule(
    table: Table,
    roles: Roles,
    rows: Rows,
    person: Categories,
    answered: Clock,
    planned: Clock | None,
    series: NDArray[np.int64] | None,
) -> Schedule:
    said = roles.scheduled
    every = np.ones(len(rows), dtype=bool)
    if said is None:
        missing = bool(np.isnan(table.numeric(roles.outcome)[rows]).any())
        return Schedule(every, None, None, None, missing)
    if isinstance(said, Mapping):
        named = {level_text(key): float(value) for key, value in said.items()}
        absent = [level_text(v) for v in person.levels if level_text(v) not in named]
        if absent:
            raise ModelError(
                f"scheduled= has no number for {roles.person} {', '.join(absent[:5])}"
                + (f" and {len(absent) - 5} more" if len(absent) > 5 else "")
            )
        numbers = np.array([named[level_text(v)] for v in person.levels])
        return Schedule(every, numbers, None, None, True)
    if isinstance(said, (int, np.integer)) and not isinstance(said, bool):
        if said < 1:
            raise ModelError(f"scheduled={said} is no number of prompts a day")
        if roles.day is None and not answered.is_clock:
            raise ModelError("scheduled= as a number of prompts a day needs day= too")
        return Schedule(every, None, int(said), None, True)
    if not isinstance(said, str):
        raise ModelError(
            "scheduled= is a column, a number of prompts a day, or a dict of prompts by person"
        )
    if planned is None:
        return _counted(table.numeric(said)[rows], series)
    latency = (answered.time - planned.time)[rows] if answered.is_clock else None
    return Schedule(~np.isnan(planned.time[rows]), None, None, latency, True)


def _counted(values: Floats, series: NDArray[np.int64] | None) -> Schedule:
    """Numbers: 0 and 1 by row, one number for each row of a day, or anything where scheduled."""
    every, known = np.ones(len(values), dtype=bool), ~np.isnan(values)
    if np.isin(values[known], (0.0, 1.0)).all():
        return Schedule(values > 0, None, None, None, True)
    if series is not None:
        use = known & (series >= 0)
        _, place = np.unique(series[use], return_inverse=True)
        first = np.full(int(place.max(initial=-1)) + 1, np.nan)
        first[place[::-1]] = values[use][::-1]
        if np.array_equal(first[place], values[use]):
            return Schedule(every, None, None, None, True, values)
    return Schedule(known, None, None, None, True)


def _nights(clock: Clock, before: Rows, day_starts: float) -> int:
    """Successive prompts that count as such with a night between them."""
    rows = np.flatnonzero(before >= 0)
    if clock.wall is not None:
        of = np.floor((clock.wall - day_starts) / DAY)
        return int(np.count_nonzero(of[rows] != of[before[rows]]))
    gaps = clock.time[rows] - clock.time[before[rows]]
    if not len(gaps):
        return 0
    return int(np.count_nonzero(gaps > 3.0 * np.median(gaps)))


def names(what: str, value: str | Sequence[str]) -> tuple[str, ...]:
    """Read one name or several."""
    found = tuple(value) if isinstance(value, Sequence) and not isinstance(value, str) else (value,)
    for name in found:
        if not isinstance(name, str):
            raise ModelError(f"{what} takes names of columns, not {name!r}")
    return tuple(dict.fromkeys(found))
