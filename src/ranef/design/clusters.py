"""Clusters of rows and their order in time, as columns of a table name them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ranef.design.evaluate import unknown_column
from ranef.design.random import factor_of
from ranef.design.terms import GroupingFactor
from ranef.design.variables import Frame
from ranef.errors import DataError, ModelError, shortened
from ranef.formula.labels import count_text, level_text, number_text
from ranef.formula.model import Grouping, model_with_dot
from ranef.formula.syntax import Name
from ranef.tables import Table

__all__ = ["ClusterColumns", "Occasions", "in_order"]

Floats = NDArray[np.float64]
Ints = NDArray[np.intp]
SAMPLING = "sampling_weights"
DAY = 86_400.0


@dataclass(frozen=True, eq=False)
class Occasions:
    """When the rows of a model were observed.

    Attributes
    ----------
    name : str
        Of the column.
    values : (n,) float64 array
        Numbers, days of dates, or places of ordered categories.
    levels : tuple or None
        The categories, in their order.
    """

    name: str
    values: Floats
    levels: tuple[Any, ...] | None = None

    def label(self, value: float) -> str:
        """A time as the user writes it."""
        return number_text(value) if self.levels is None else level_text(self.levels[int(value)])


@dataclass(eq=False)
class ClusterColumns:
    """Reads clusters, times and sampling weights beside the formulas of a model.

    Attributes
    ----------
    groups : str
        ``"id"``; ``"Lot/Wafer"`` of clusters within clusters; ``"site:id"``.
    time : str or None
    sampling : str, array or None
    factors : tuple of GroupingFactor
        Filled by `take`: the clusters, and those within them.
    occasions : Occasions or None
    weights : (n,) float64 array or None
    """

    groups: str
    time: str | None
    sampling: Any = None
    factors: tuple[GroupingFactor, ...] = ()
    occasions: Occasions | None = None
    weights: Floats | None = None
    _groupings: tuple[Grouping, ...] = field(default=(), init=False)

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the columns."""
        named = [name for grouping in self._read() for name in grouping.columns]
        extra = [self.time, self.sampling if isinstance(self.sampling, str) else None]
        return tuple(dict.fromkeys([*named, *(name for name in extra if name is not None)]))

    def _read(self) -> tuple[Grouping, ...]:
        if not self._groupings:
            self._groupings = _groupings(self.groups)
        return self._groupings

    def note(self, frame: Frame) -> None:
        """Evaluate them in all rows, and note where they are missing."""
        table = frame.scope.table
        if self.groups in table:
            self._groupings = (Grouping((Name(self.groups),)),)
        for name in self.columns:
            if name not in table:
                what = "time" if name == self.time else "groups"
                raise unknown_column(name, table, what)
        for grouping in self._read():
            for node in grouping.nodes:
                frame.add_group(node)
        if self.time is not None:
            _note_time(frame, self.time)
        frame.given(self.sampling, SAMPLING)

    def take(self, frame: Frame) -> None:
        """Take them in the rows that are used."""
        found = [factor_of(grouping, frame)[1] for grouping in self._read()]
        self.factors = tuple(reversed(found))
        if self.time is not None:
            self.occasions = _occasions(frame, self.time)
        self.weights = frame.given(self.sampling, SAMPLING)
        if self.weights is not None:
            wrong = np.flatnonzero(self.weights <= 0)
            if len(wrong):
                raise DataError(
                    f"sampling_weights must be positive; {count_text(len(wrong), 'row')} have "
                    f"others (first {self.weights[wrong[0]]:g}): leave such rows out"
                )


def _given(groups: Any) -> str:
    """Say what was given in place of a column's name; a column taken from the table by its name."""
    name = getattr(groups, "name", None)
    return f"its values: groups={name!r}" if isinstance(name, str) else shortened(groups)


def _groupings(groups: str) -> tuple[Grouping, ...]:
    if not isinstance(groups, str) or not groups.strip():
        raise ModelError(
            "groups names the column of the clusters, 'id', or two that are nested, 'Lot/Wafer', "
            f"not {_given(groups)}"
        )
    found = model_with_dot(f"~ (1 | {groups})", None).bars[0].groups
    nested = len(found) == 2 and set(found[1].keys) < set(found[0].keys)
    if len(found) > 2 or (len(found) == 2 and not nested):
        raise ModelError(
            f"groups={groups!r} makes {len(found)} grouping factors; clusters are one, 'id', or "
            "two that are nested, 'Lot/Wafer'"
        )
    return found


def _note_time(frame: Frame, time: str) -> None:
    kind = frame.scope.table.kind(time)
    if kind in ("text", "mixed"):
        raise DataError(
            f"time={time!r} holds text, which has no order in time: make it numbers, dates or an "
            "ordered category"
        )
    if _is_number(frame.scope.table, time):
        frame.numbers(Name(time), time)
    else:
        frame.add_group(Name(time))


def _is_number(table: Table, name: str) -> bool:
    return table.kind(name) in ("numeric", "boolean")


def _occasions(frame: Frame, time: str) -> Occasions:
    table = frame.scope.table
    if _is_number(table, time):
        return Occasions(time, frame.numbers(Name(time), time))
    found = frame.group(time)
    levels: Sequence[Any] = found.levels
    if table.kind(time) in ("datetime", "duration"):
        seconds = np.array([np.nan] * len(levels))
        every, codes = table.seconds(time), table.codes(time)[0]
        seconds[codes[codes >= 0]] = every[codes >= 0]
        return Occasions(time, seconds[found.codes] / DAY)
    return Occasions(time, found.codes.astype(np.float64), tuple(levels))


def in_order(factors: Sequence[GroupingFactor], occasions: Occasions | None) -> Ints | None:
    """Order of the rows by cluster, cluster within, and time; None where they stand in it.

    Raises
    ------
    DataError
        Naming the first cluster that has two rows at one time.
    """
    keys: list[NDArray[Any]] = [factor.codes for factor in factors]
    keys += [] if occasions is None else [occasions.values]
    order = None if _sorted(keys) else np.lexsort(tuple(keys[::-1]))
    if occasions is not None:
        _refuse_twice(factors[-1], occasions, order)
    return order


def _sorted(keys: Sequence[NDArray[Any]]) -> bool:
    """Tell whether rows stand in lexicographic order."""
    tied = np.ones(len(keys[0]) - 1, dtype=np.bool_)
    for values in keys:
        step = np.diff(values)
        if (step[tied] < 0).any():
            return False
        tied &= step == 0
    return True


def _refuse_twice(finest: GroupingFactor, occasions: Occasions, order: Ints | None) -> None:
    """Refuse two rows of one cluster at one time, by name."""
    codes, times = finest.codes, occasions.values
    if order is not None:
        codes, times = codes[order], times[order]
    twice = np.flatnonzero((np.diff(codes) == 0) & (np.diff(times) == 0))
    if not len(twice):
        return
    level = level_text(finest.levels[codes[twice[0]]])
    raise DataError(
        f"{finest.name} {level} has two rows at {occasions.name} "
        f"{occasions.label(times[twice[0]])}; {count_text(len(twice), 'row')} repeat a time. A "
        "cluster has one row at a time: name another column as time, make the rows one, or nest "
        f"them, groups='{finest.name}/...'"
    )
