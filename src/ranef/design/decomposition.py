"""`decompose`: columns of a table in their parts within groups and between them."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ranef.design.evaluate import TableScope, unknown_column
from ranef.design.group_functions import Groups, grouping
from ranef.design.text_numbers import refuse_text_column
from ranef.design.values import Numbers
from ranef.design.variables import refuse_infinite
from ranef.errors import DataError, ModelError
from ranef.formula.backticks import with_backticks
from ranef.formula.labels import level_text
from ranef.formula.parser import parse_expression
from ranef.formula.syntax import Binary, Call, Name, Node, Text
from ranef.tables import Table

__all__ = ["decompose", "grouping_node"]

Floats = NDArray[np.float64]
Named = tuple[str, Node]
MOST_LEVELS = 50


def decompose(
    table: Any,
    columns: str | Sequence[str],
    by: str | Sequence[str],
    *,
    used: str | Sequence[str] = (),
) -> Any:
    """Add the parts of columns within groups and between them to a table.

    One grouping factor gives the deviation from the group's mean and the group's mean. Nested
    ones, ``by="person/day"``, give the deviation of a row from its day, of the day's mean from
    the person's, and the person's mean; the three add up to the column. Crossed ones,
    ``by=["subject", "item"]``, give the mean of each factor's level, and what is left when
    all of them are taken out together by least squares: it has the mean zero in every level
    of each, however unbalanced the table. Means are of rows, so that a day with more prompts
    counts more.

    Parameters
    ----------
    table : table
        pandas, polars or pyarrow, or a dict of arrays. Rows keep their order.
    columns : str or sequence of str
        Columns of numbers, of truth values (as 0 and 1) or of categories (a dummy variable for
        each level but the first). ``"stress:support"`` is an interaction, which is centred in
        both ways: ``stress_x_support_within`` is the product, centred;
        ``stress_within_x_support_within`` is the product of the centred columns, centred again
        (Giesselmann and Schmidt-Catran 2022, Sociol. Methods Res. 51), whose slope is that
        within groups alone.
    by : str or sequence of str
        ``"person"``, ``"person/day"``, or a sequence of crossed factors.
    used : str or sequence of str
        Further columns that a row must have to count for the means, such as the outcome: the
        parts are then those of ``within`` and ``between`` in the formula of a model of these
        rows. Without it a mean is that of all rows with a value.

    Returns
    -------
    table
        In the user's library, with ``<column>_within`` and ``<column>_between_<factor>`` for
        each column; NaN where the column or the group is missing.

    Raises
    ------
    ranef.errors.DataError
        A column exists already under one of the new names, or has one category alone.

    Examples
    --------
    >>> import ranef
    >>> diary = {"person": ["a", "a", "a", "b", "b"], "day": [1, 1, 2, 1, 1],
    ...          "stress": [1.0, 3.0, 5.0, 2.0, 4.0]}
    >>> parts = ranef.decompose(diary, "stress", "person/day")
    >>> parts[["stress_within", "stress_between_day", "stress_between_person"]].to_numpy().tolist()
    [[-1.0, -1.0, 3.0], [1.0, -1.0, 3.0], [0.0, 2.0, 3.0], [-1.0, 0.0, 3.0], [1.0, 0.0, 3.0]]
    """
    data = Table.of(table)
    node = grouping_node(by, data.columns)
    scope = TableScope(data, {}, {}, fitting=True)
    scope.used = _rows_with(data, _names("used", used))
    named = [one for name in _names("columns", columns) for one in _numbers(name, data, node)]
    if not named:
        raise ModelError("columns names the columns to take apart, such as 'stress'")
    parts: dict[str, Floats] = {}
    with np.errstate(all="ignore"):
        for name, value in named:
            for new, call in _calls(name, value, node):
                numbers = scope.evaluate(call)
                assert isinstance(numbers, Numbers)
                parts[new] = numbers.values
    taken = [name for name in parts if name in data]
    if taken:
        raise DataError(f"the table has a column {taken[0]!r} already; rename it")
    return data.extended(parts)


def grouping_node(by: str | Sequence[str], columns: Collection[str] = ()) -> Node:
    """Read nested or crossed grouping factors as a formula writes them."""
    names = _names("by", by)
    if not names:
        raise ModelError("by names the groups, such as 'person' or 'person/day'")
    text = names[0] if len(names) == 1 else " + ".join(names)
    return parse_expression(with_backticks(text, columns, ()))


def _names(what: str, value: Any) -> list[str]:
    names = [value] if isinstance(value, str) else list(value)
    for name in names:
        if not isinstance(name, str):
            raise ModelError(f"{what} takes names of columns, not {name!r}")
    return names


def _rows_with(data: Table, names: Sequence[str]) -> NDArray[np.bool_]:
    rows = np.ones(data.n_rows, dtype=bool)
    for name in names:
        rows &= ~data.missing(name)
    return rows


def _numbers(name: str, data: Table, by: Node) -> Iterator[Named]:
    """Yield what a column, or an interaction of columns, is centred as, by its name."""
    if name in data:
        yield from _column(name, data)
        return
    first, colon, second = name.partition(":")
    if not colon:
        raise unknown_column(name, data)
    for a, x in _column(first.strip(), data):
        for b, z in _column(second.strip(), data):
            yield f"{a}_x_{b}", Binary("*", x, z)
            if len(grouping(by)) == 1:
                inner = Binary("*", Call("within", (x, by)), Call("within", (z, by)))
                yield f"{a}_within_x_{b}", inner


def _column(name: str, data: Table) -> Iterator[Named]:
    if name not in data:
        raise unknown_column(name, data)
    kind = data.kind(name)
    if kind in ("numeric", "boolean", "empty"):
        if kind == "numeric":
            refuse_infinite(data.numeric(name), f"column {name!r}")
        yield name, Name(name)
    elif kind in ("text", "categorical"):
        refuse_text_column(name, data)
        codes, levels = data.codes(name)
        present = [levels[k] for k in np.unique(codes[codes >= 0]).tolist()]
        if len(present) > MOST_LEVELS:
            raise DataError(f"column {name!r} has {len(present)} categories; take fewer apart")
        if len(present) == 1:
            only = level_text(present[0])
            raise DataError(f"column {name!r} has one category alone, {only!r}: nothing varies")
        for level in present[1:]:
            text = level_text(level)
            yield f"{name}_{text}", Call("dummy", (Name(name), Text(text)))
    else:
        raise DataError(f"column {name!r} holds {kind} values, which have no mean here")


def _calls(name: str, value: Node, by: Node) -> Iterator[tuple[str, Call]]:
    """Yield each part of a number, by the name of its column."""
    yield f"{name}_within", Call("within", (value, by))
    if "_within_x_" in name:
        return
    for factor in grouping(by):
        around: Groups | None = factor
        while around is not None:
            yield f"{name}_between_{around.name}", Call("between", (value, around.node))
            around = around.around
