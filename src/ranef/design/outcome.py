"""The response of a generalised model in its fit: read, checked, named.

`read_outcome` settles what the family leaves open (the number of categories)
and refuses values that the family cannot have, by column and row of the table.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ranef.design.response import (
    CATEGORIES,
    NUMBERS,
    PROPORTION,
    SUCCESSES,
    ResponseKind,
    is_whole_product,
    read_pair,
    read_response,
)
from ranef.design.values import Categories, drop_unused
from ranef.design.variables import Frame
from ranef.errors import DataError, DataWarning, ModelError, row_text, warn
from ranef.families import Family, Multinomial, family
from ranef.families.checks import ResponseError, require, whole
from ranef.formula.labels import count_text, level_text, list_text
from ranef.formula.syntax import Call, Node
from ranef.tables.accounting import Accounting

__all__ = ["Outcome", "prototype", "read_outcome"]

Floats = NDArray[np.float64]
Ints = NDArray[np.intp]
LARGEST = 20


@dataclass(frozen=True, eq=False)
class Outcome:
    """The response as a generalised model takes it.

    Attributes
    ----------
    kind : ResponseKind
    y : (n,) float64 array
    extra : (n,) float64 array or None
        Trials, upper ends or the number of categories.
    weights : (n,) float64 array or None
        They multiply the log density.
    family : Family
        With its number of categories.
    """

    kind: ResponseKind
    y: Floats
    extra: Floats | None
    weights: Floats | None
    family: Family


def prototype(given: str | Family) -> Family:
    """Return a family; one whose number of categories is open has two."""
    return Multinomial(2) if given == Multinomial.name else family(given)


def read_outcome(
    node: Node,
    kind: str,
    takes: str,
    given: str | Family,
    frame: Frame,
    weights: Floats | None,
    accounting: Accounting,
    *,
    zero: bool,
) -> Outcome:
    """Read the response of the rows used.

    Parameters
    ----------
    kind : str
        As `note_response` found it.
    takes : str
        What the family's responses are.
    given : str or Family
    weights : (n,) array or None
    zero : bool
        Whether there is a zero-inflation part.

    Raises
    ------
    DataError
        For values that the family cannot have.
    """
    rows = _table_rows(accounting)
    if kind == SUCCESSES:
        _check_counts(node, frame, rows)
    if kind == PROPORTION:
        _check_proportions(node, frame, weights, rows)
    levels = _levels(node, takes, frame, rows) if kind == CATEGORIES else None
    reading = ResponseKind(node.printed, kind, takes, levels)
    y, extra = read_response(node, reading, frame, weights)
    finished = _finished(given, levels)
    single = takes == "successes" and kind == NUMBERS
    try:
        finished.check(y, None if single else extra, zero=zero)
    except ResponseError as error:
        raise error.of_column(reading.name, int(rows[error.row])) from None
    return Outcome(reading, y, extra, None if kind == PROPORTION else weights, finished)


def _table_rows(accounting: Accounting) -> Ints:
    """Return the row of the table of each row used."""
    if accounting.kept is None:
        return np.arange(accounting.n_rows)
    return np.flatnonzero(accounting.kept)


def _check_counts(node: Node, frame: Frame, rows: Ints) -> None:
    """Refuse counts of successes or failures that are none."""
    call = node.bare
    assert isinstance(call, Call)
    needs = "whole numbers of successes and failures from 0"
    for side, values in zip(call.arguments, read_pair(node, frame), strict=True):
        _require(node.printed, needs, side.printed, values, _count(values), rows)


def _check_proportions(node: Node, frame: Frame, trials: Floats | None, rows: Ints) -> None:
    """Refuse proportions that are none, or no whole number of successes of the trials."""
    assert trials is not None
    name = node.printed
    values = frame.numbers(node, name)
    needs = "whole numbers of trials: the weights are these where the response is a proportion"
    _require(name, needs, "weights", trials, _count(trials), rows)
    needs = "proportions from 0 to 1, of which the weights are the trials"
    hint = "; counts of successes are written cbind(success, failure)"
    _require(name, needs, name, values, (values >= 0) & (values <= 1), rows, hint)
    whole_product = is_whole_product(values * trials, trials)
    if not whole_product.all():
        first = int(np.flatnonzero(~whole_product)[0])
        count = count_text(int(np.count_nonzero(~whole_product)), "row")
        raise DataError(
            f"{name} times the weights, its trials, is no whole number of successes in {count}: "
            f"in {row_text(rows[first])} it is {values[first]:g} * {trials[first]:g} = "
            f"{values[first] * trials[first]:.10g}; write cbind(success, failure), or give the "
            "proportions in full precision"
        )


def _count(values: Floats) -> NDArray[np.bool_]:
    return np.asarray(whole(values) & (values >= 0))


def _require(
    name: str,
    needs: str,
    column: str,
    values: Floats,
    right: NDArray[np.bool_],
    rows: Ints,
    hint: str = "",
) -> None:
    try:
        require(name, needs, values, right, hint)
    except ResponseError as error:
        raise error.of_column(column, int(rows[error.row])) from None


def _levels(node: Node, takes: str, frame: Frame, rows: Ints) -> tuple[Any, ...]:
    """Return the categories that occur, two or more."""
    name = node.printed
    declared = frame.group(frame.add_group(node))
    if not frame.holds_categories(node):
        _refuse_decimals(name, declared, rows)
    levels = drop_unused(declared).levels
    if takes == "successes":
        return _two_levels(name, declared.levels, levels)
    unused = [level for level in declared.levels if level not in levels]
    if unused:
        warn(
            f"no row used has {list_text(unused)} in {name}; such categories are left out",
            DataWarning,
        )
    if len(levels) < 2:
        raise DataError(
            f"{name} has one category in the rows used, {list_text(list(levels))}; "
            "a model needs two or more"
        )
    if len(levels) > LARGEST and 2 * len(levels) > len(rows):
        raise DataError(
            f"{name} has {len(levels)} categories in {len(rows)} rows ({list_text(list(levels))}); "
            "a response of categories has few of them, each in several rows"
        )
    return tuple(levels)


def _two_levels(name: str, declared: Sequence[Any], used: Sequence[Any]) -> tuple[Any, ...]:
    """Return failure and success: the levels declared, or those that occur."""
    levels = declared if len(declared) == 2 else used
    if len(levels) != 2:
        number = "one category" if len(levels) == 1 else f"{len(levels)} categories"
        raise DataError(
            f"{name} has {number} in the rows used ({list_text(list(levels))}); a binomial "
            "response has two, the first the failure: write a comparison such as "
            f'I({name} == "{level_text(levels[0])}"), or take the family cumulative or multinomial'
        )
    return tuple(levels)


def _refuse_decimals(name: str, value: Categories, rows: Ints) -> None:
    odd = np.array([isinstance(v, float) and not v.is_integer() for v in value.levels] + [False])
    places = np.flatnonzero(odd[value.codes])
    if len(places):
        raise DataError(
            f"{name} is {value.levels[value.codes[places[0]]]:g} in {row_text(rows[places[0]])}; "
            f"categories are whole numbers or text ({count_text(len(places), 'row')} like this): "
            f"write factor({name}) if its numbers are names of categories"
        )


def _finished(given: str | Family, levels: tuple[Any, ...] | None) -> Family:
    """Return the family with its number of categories."""
    if isinstance(given, str):
        return family(given, categories=None if levels is None else len(levels))
    if isinstance(given, Multinomial) and levels is not None and given.categories != len(levels):
        raise ModelError(
            f"the family has {given.categories} categories, the response {len(levels)}: "
            f"{list_text(list(levels), 10)}; family='multinomial' counts them itself"
        )
    return given
