"""``lag``: the value before, by time within a group, never by the order of the rows."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from ranef.design.arguments import Arguments, read_categories
from ranef.design.scope import Scope
from ranef.design.text_numbers import refuse_text_column
from ranef.design.values import Categories, Numbers, Value
from ranef.errors import DataError, row_text
from ranef.formula.labels import count_text, level_text
from ranef.formula.model import Model
from ranef.formula.syntax import Call, Name, Node, Number, walk
from ranef.tables.moments import are_times, written_times

__all__ = ["lag", "lagged_outcomes", "read_span", "steps_before", "times_of"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int32]
Rows = NDArray[np.intp]

UNITS = {"s": 1.0, "min": 60.0, "h": 3600.0, "d": 86400.0}
WORDS = {
    "sec": "s", "second": "s", "seconds": "s", "m": "min", "minute": "min", "minutes": "min",
    "hour": "h", "hours": "h", "day": "d", "days": "d",
}  # fmt: skip


def lag(node: Call, scope: Scope) -> Value:
    """Value of the row before in time within the group, and within the day if there is one.

    Of categories the category before.
    """
    given = Arguments(node, ("x", "g", "time", "day", "max_gap", "n"))
    of = given.node_of("x")
    x = scope.evaluate(of)
    if isinstance(of, Name) and isinstance(x, Categories) and scope.fitting:
        refuse_text_column(of.value, scope.table)
    categories = x if isinstance(x, Categories) else None
    numbers = given.rows("x", scope) if categories is None else None
    if isinstance(given.node_of("g"), Number):
        raise given.error(
            f"takes the group second and the steps by name: lag({of.printed}, g, time = t, "
            f"n = {given.node_of('g').printed})"
        )
    groups = read_categories(given.node_of("g"), node, scope)
    if "time" not in given.found:
        raise given.error(
            "needs the time, since the order of the rows says nothing: "
            f"lag({given.node_of('x').printed}, {given.node_of('g').printed}, time = prompt)"
        )
    steps = given.whole("n", scope, 1, 1, 10**6)
    time, clock = times_of(given.node_of("time"), given, scope)
    day = given.found.get("day")
    days = None if day is None else read_categories(day, node, scope)
    span = given.constant("max_gap", scope)
    gap = None if span is None else read_span(span, clock, f"{node.printed}: max_gap")
    what = (given.node_of("g").printed, given.node_of("time").printed)
    shown = _moments(given.node_of("time"), scope) if clock else None
    before = steps_before(time, groups, days, steps, gap, what, shown)
    if categories is not None:
        codes = np.where(before >= 0, categories.codes[before], -1).astype(np.int32)
        return Categories(codes, categories.levels)
    assert numbers is not None
    return Numbers(np.where(before >= 0, numbers[before], np.nan))


def lagged_outcomes(model: Model) -> Iterator[str]:
    """Yield what is to be known of an outcome that stands among its own predictors, lagged."""
    if model.response is None or not model.bars:
        return
    outcome = set(model.response.named)
    calls = (part for node in model.fixed.variables for part in walk(node))
    lagged = dict.fromkeys(
        part.printed
        for part in calls
        if isinstance(part, Call)
        and part.function == "lag"
        and part.arguments
        and outcome.intersection(part.arguments[0].named)
    )
    for printed in lagged:
        yield (
            f"{printed} is the outcome itself, earlier, and depends on the random effects that "
            "the model adds to it: its coefficient is biased, centred within groups downward by "
            "about (1 + coefficient) / (rows a group) (Nickell 1981), as it stands upward. Let "
            "the residuals remember instead (residual=, or ranef.dynamic with an inertia of each "
            "group's own), or have many rows a group"
        )


def times_of(node: Node, given: Arguments, scope: Scope) -> tuple[Floats, bool]:
    """Times of the rows (n,), and whether they are seconds of a clock."""
    inner = node.bare
    if isinstance(inner, Name) and inner.value in scope.table:
        if scope.table.kind(inner.value) in ("datetime", "duration"):
            return scope.table.seconds(inner.value), True
        if are_times(scope.table, inner.value):
            return written_times(scope.table, inner.value)[0], True
        if scope.table.kind(inner.value) in ("text", "categorical", "mixed"):
            raise DataError(
                f"{given.node.printed}: {inner.printed} holds {scope.table.kind(inner.value)}, "
                "not times as 2025-03-29T14:05 or 29.03.2025 14:05; convert it to numbers or to "
                "datetimes"
            )
    return given.rows("time", scope), False


def read_span(value: object, clock: bool, what: str) -> float:
    """Read the longest gap: a number in the unit of the times, or ``"3h"`` of datetimes.

    Examples
    --------
    >>> read_span("90min", True, "max_gap"), read_span(3.0, False, "max_gap")
    (5400.0, 3.0)
    """
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if number and not clock and float(value) > 0:  # type: ignore[arg-type]
        return float(value)  # type: ignore[arg-type]
    written = re.fullmatch(r"\s*(\d+(?:\.\d*)?)\s*([a-z]+)\s*", str(value).lower())
    unit = None if written is None else WORDS.get(written[2], written[2])
    if written is not None and clock and unit in UNITS and float(written[1]) > 0:
        return float(written[1]) * UNITS[unit]
    wanted = "a span with its unit, '90min', '3h' or '1d'" if clock else "a positive number"
    raise DataError(
        f"{what} is {wanted}, since the times are {'datetimes' if clock else 'numbers'}, "
        f"not {value!r}"
    )


def steps_before(
    time: Floats,
    groups: Categories,
    days: Categories | None,
    steps: int,
    gap: float | None,
    what: tuple[str, str],
    shown: Callable[[int], str] | None = None,
) -> Rows:
    """Row that stands `steps` before each row in time, -1 where there is none.

    Rows count within their group and, if given, their day; a longer gap than `gap` cuts a
    series in two. A row without group, day or time has no place in it.

    Raises
    ------
    DataError
        When two rows of a series have one time; `what` names group and time, `shown` writes
        the time of a row.
    """
    series = groups.codes.astype(np.int64)
    known = (series >= 0) & ~np.isnan(time)
    if days is not None:
        known &= days.codes >= 0
        series = series * (len(days.levels) + 1) + days.codes
    rows = np.flatnonzero(known)
    order = rows[np.lexsort((time[rows], series[rows]))]
    s, t = series[order], time[order]
    same = s[1:] == s[:-1]
    write: Callable[[int], str] = (lambda row: f"{time[row]:.10g}") if shown is None else shown
    _refuse_duplicates(order, same & (t[1:] == t[:-1]), write, groups, what)
    if gap is not None:
        same &= t[1:] - t[:-1] <= gap * (1 + 1e-12)
    run = np.concatenate([[0], np.cumsum(~same)])
    before = np.full(len(time), -1, dtype=np.intp)
    if steps < len(order):
        later = run[steps:] == run[:-steps]
        before[order[steps:][later]] = order[:-steps][later]
    return before


def _moments(node: Node, scope: Scope) -> Callable[[int], str]:
    """Writer of a row's datetime, as its column has it."""
    inner = node.bare
    assert isinstance(inner, Name)
    name = inner.value

    def write(row: int) -> str:
        codes, levels = scope.table.codes(name)
        return level_text(levels[codes[row]])

    return write


def _refuse_duplicates(
    order: Rows,
    equal: NDArray[np.bool_],
    write: Callable[[int], str],
    groups: Categories,
    what: tuple[str, str],
) -> None:
    if not equal.any():
        return
    k = int(np.flatnonzero(equal)[0])
    first, second = sorted((int(order[k]), int(order[k + 1])))
    count = int(np.count_nonzero(equal))
    more = "" if count == 1 else f", and {count_text(count - 1, 'more such row')}"
    raise DataError(
        f"{what[0]} {level_text(groups.levels[groups.codes[first]])} has two rows at one time, "
        f"{what[1]} {write(first)} ({row_text(first)} and {row_text(second)}{more}); "
        "keep one row a time, or say what tells them apart, such as day ="
    )
