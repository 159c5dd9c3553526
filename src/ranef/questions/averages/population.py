"""The people that an average is over, and the values that a column is given in turn."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ranef.errors import DataError, LevelError, ModelError, UnknownColumnError, suggestion
from ranef.fits.columns import own_columns
from ranef.fits.estimability import row_names
from ranef.fits.fit import Fit
from ranef.formula.labels import shown_level
from ranef.formula.syntax import column_names
from ranef.tables import Repeated, Table
from ranef.tables.accounting import Accounting
from ranef.tables.alignment import aligned
from ranef.tables.origin import Origin

__all__ = ["Population", "Setting", "read_population", "settings_of"]

Floats = NDArray[np.float64]

STEP = 1e-4
"""Half-width of the difference quotient of a slope, in standard deviations."""
FEW = 2
"""Numbers with so many different values are compared value by value."""


@dataclass(frozen=True, eq=False)
class Population:
    """Rows to average over.

    Attributes
    ----------
    table : dict of columns
        What the predictions need, N rows, without `variable` where it is not there.
    weights : (N,) float64 array
    groups : (N,) int array
        Entry of `labels` of each row.
    labels : tuple of tuples
        Values of the columns `by` of each group; one empty tuple without these.
    by : tuple of str
    library : str
        For the answers.
    own : bool
        The rows of the model.
    weighted : bool
    n_dropped : int
        Rows left out, since a value is missing.
    columns : tuple of str
        That the fixed effects use.
    names : (N,) array
        Of the rows, in the table that they come from.
    """

    table: Mapping[str, Any]
    weights: Floats
    groups: NDArray[np.intp]
    labels: tuple[tuple[Any, ...], ...]
    by: tuple[str, ...]
    library: str
    own: bool
    weighted: bool
    n_dropped: int
    columns: tuple[str, ...]
    names: NDArray[Any]

    @property
    def n(self) -> int:
        return len(self.weights)

    def under(self, variable: str, values: Any) -> dict[str, Any]:
        """Return the table with a column replaced."""
        return {**self.table, variable: values}

    def described(self) -> str:
        """Say who they are: ``"the 180 rows of the model"``."""
        who = "of the model" if self.own else "of the population given"
        return f"the {self.n:,} rows {who}{', weighted' if self.weighted else ''}"


@dataclass(frozen=True, eq=False)
class Setting:
    """A value that the variable is given in every row.

    Attributes
    ----------
    label : str
    values : (N,) array, or one value repeated
    reference : bool
        The arm with which the others are compared.
    own : bool
        The variable as it is in each row.
    slope : str
        Name of the comparison, where two arms make a difference quotient.
    divisor : float
        Of that quotient.
    """

    label: str
    values: Any
    reference: bool
    own: bool = False
    slope: str = ""
    divisor: float = 1.0


# --- people


def read_population(fit: Fit, variable: Any, population: Any, by: Any, weights: Any) -> Population:
    """Read the rows to average over; rows with a missing value are left out."""
    columns = _predictors(fit, variable)
    if population is None:
        table, library = Table.of(own_columns(fit)), fit.frame.library
        names = row_names(fit.frame)
    else:
        table = Table.of(population)
        library = table.library
        names = row_names(Origin.of(table, Accounting(table.n_rows, None)))
    named = _names("by", by)
    for name in named:
        _require(table, name, population)
    if not table.n_rows:
        raise DataError("the population has no rows to average over; was it filtered too far?")
    counts = _weights(fit, table, weights, population)
    groups, labels, grouped = _groups(table, named)
    kept = grouped & np.isfinite(counts) & _complete(fit, table, variable)
    if not kept.any():
        raise DataError(
            "every row of the population lacks a value; there is nobody to average over"
        )
    if np.any(counts[kept] < 0):
        raise DataError(f"weights must not be negative; {int(np.sum(counts[kept] < 0))} are")
    present = np.unique(groups[kept])
    codes = np.searchsorted(present, groups[kept])
    if np.any(np.bincount(codes, counts[kept]) <= 0):
        raise DataError("the weights of a group add up to zero; leave such a group out")
    return Population(
        table.mapping(None if kept.all() else kept),
        counts[kept],
        codes.astype(np.intp),
        tuple(labels[g] for g in present),
        named,
        library,
        population is None,
        weights is not None,
        int(np.sum(~kept)),
        columns,
        names[kept],
    )


def _used_columns(fit: Fit) -> list[str]:
    """Columns of the variables that the formulas predict from."""
    nodes = (node for spec in fit.parts.values() for node in spec.recipe.model.predictors)
    return list(dict.fromkeys(name for node in nodes for name in column_names(node)))


def _predictors(fit: Fit, variable: Any) -> tuple[str, ...]:
    """Columns of the predictors; refuse a variable that is none of them."""
    offsets = [spec.recipe.offset_column for spec in fit.parts.values()]
    used = tuple(dict.fromkeys([*_used_columns(fit), *(n for n in offsets if n is not None)]))
    if not isinstance(variable, str) or variable not in used:
        raise UnknownColumnError(
            f"no predictor {variable!r}{suggestion(str(variable), used)}; the formulas predict "
            f"from {', '.join(map(repr, used)) or 'none'}"
        )
    return used


def _names(what: str, value: Any) -> tuple[str, ...]:
    if value is None:
        return ()
    names = (value,) if isinstance(value, str) or not isinstance(value, Iterable) else tuple(value)
    if not all(isinstance(name, str) for name in names):
        raise ModelError(f"{what} must be names of columns, not {value!r}")
    return names


def _require(table: Table, name: str, population: Any) -> None:
    if name in table:
        return
    where, help_ = "the population", ""
    if population is None:
        where = "what the fit keeps of its table"
        help_ = " (only the columns that the formulas use); pass the table as population="
    raise UnknownColumnError(
        f"no column {name!r} in {where}{suggestion(name, table.columns)}{help_}"
    )


def _weights(fit: Fit, table: Table, weights: Any, population: Any) -> Floats:
    if weights is None:
        return np.ones(table.n_rows)
    if isinstance(weights, str):
        _require(table, weights, population)
        return table.numeric(weights)
    if population is None:
        weights = fit.frame.aligned(weights, "weights")
    else:
        weights = aligned(weights, table.labels, "weights")
    values = np.asarray(weights, dtype=np.float64)
    kept = fit.frame.accounting.kept
    if population is None and kept is not None and values.shape == kept.shape:
        values = values[kept]
    if values.shape != (table.n_rows,):
        raise DataError(
            f"the weights have the shape {values.shape}; there are {table.n_rows} rows to "
            "average over"
        )
    return values


def _groups(
    table: Table, names: Sequence[str]
) -> tuple[NDArray[np.int64], list[tuple[Any, ...]], NDArray[np.bool_]]:
    """Group of each row, labels of the groups, and which rows have one."""
    groups = np.zeros(table.n_rows, dtype=np.int64)
    labels: list[tuple[Any, ...]] = [()]
    grouped = np.ones(table.n_rows, dtype=np.bool_)
    for name in names:
        codes, levels = table.codes(name)
        grouped &= codes >= 0
        groups = groups * len(levels) + np.maximum(codes, 0)
        labels = [(*label, level) for label in labels for level in levels]
    return groups, labels, grouped


def _complete(fit: Fit, table: Table, variable: str) -> NDArray[np.bool_]:
    """Which rows have all columns that predictions need, `variable` apart."""
    kept = np.ones(table.n_rows, dtype=np.bool_)
    for name in _used_columns(fit):
        if name != variable and name in table:
            plain = table.kind(name) in ("numeric", "boolean", "empty")
            kept &= ~np.isnan(table.numeric(name)) if plain else table.codes(name)[0] >= 0
    return kept


# --- arms


def settings_of(
    fit: Fit,
    people: Population,
    variable: str,
    levels: Any,
    reference: Any,
    change: Any,
    compare: str,
) -> tuple[Setting, ...]:
    """Say which values the variable is given."""
    column = _column_of(fit, people, variable)
    categories = _coded(fit, variable) or column.kind(variable) not in ("numeric", "boolean")
    if change is not None and (levels is not None or reference is not None):
        raise ModelError("give levels and reference, or change, not both")
    if change is not None and categories:
        raise ModelError(
            f"{variable!r} holds categories, which cannot be changed by an amount; "
            "choose them by levels="
        )
    values = _values_of(column, variable)
    if change is None and (categories or levels is not None or len(values) <= FEW):
        return _level_settings(people, variable, values, levels, reference, categories)
    if reference is not None:
        raise ModelError(f"reference= needs levels= of {variable!r}, which holds numbers")
    return _change_settings(people, variable, column, change, compare)


def _column_of(fit: Fit, people: Population, variable: str) -> Table:
    """The table of the fit with its own values of the variable, or the people's."""
    if fit.frame.data is not None and variable in fit.frame.data:
        return Table.of({variable: fit.frame.rows_used()[variable]})
    if variable not in people.table:
        raise UnknownColumnError(
            f"neither the fit nor the population has a column {variable!r} with values to "
            "compare; give levels="
        )
    return Table.of({variable: people.table[variable]})


def _coded(fit: Fit, variable: str) -> bool:
    """Tell whether a formula makes categories of the column."""
    for spec in fit.parts.values():
        recipe = spec.recipe
        every = [recipe.model.fixed, *(bar.left for bar in recipe.model.bars)]
        for terms in every:
            for node, key in zip(terms.variables, terms.keys, strict=True):
                if variable in column_names(node) and f"levels of {key}" in recipe.state:
                    return True
    return False


def _values_of(column: Table, variable: str) -> list[Any]:
    """Different values, in the user's order."""
    codes, levels = column.codes(variable)
    present = np.unique(codes[codes >= 0])
    return [levels[k] for k in present.tolist()]


def _level_settings(
    people: Population,
    variable: str,
    values: list[Any],
    levels: Any,
    reference: Any,
    categories: bool,
) -> tuple[Setting, ...]:
    chosen = values if levels is None else list(levels)
    if levels is not None and categories:
        chosen = [_one_of(variable, level, values) for level in chosen]
    elif levels is not None:
        chosen = [_as_number(variable, level) for level in chosen]
    base = chosen[0] if reference is None and chosen else reference
    if base is not None and categories:
        base = _one_of(variable, base, values)
    if base is not None and not any(level == base for level in chosen):
        chosen = [base, *chosen]
    if len(chosen) < 2:
        raise ModelError(
            f"{variable!r} has one value ({shown_level(chosen[0]) if chosen else 'none'}), so "
            "there is nothing to compare; give levels="
        )
    if len({_printed(level) for level in chosen}) < len(chosen):
        raise ModelError(f"levels= names a value of {variable!r} twice")
    return tuple(
        Setting(_printed(level), Repeated(level, people.n), bool(level == base)) for level in chosen
    )


def _one_of(variable: str, level: Any, categories: list[Any]) -> Any:
    """The category that a value means, by value or in print."""
    names = [shown_level(category) for category in categories]
    for category in categories:
        if type(category) is type(level) and category == level:
            return category
    if shown_level(level) in names:
        return categories[names.index(shown_level(level))]
    raise LevelError(
        f"{variable!r} has no category {level!r}{suggestion(str(level), names)}; "
        f"it has {', '.join(map(repr, names[:10]))}"
    )


def _as_number(variable: str, value: Any) -> float:
    if isinstance(value, bool | int | float | np.bool_ | np.integer | np.floating):
        return value  # type: ignore[return-value]
    raise ModelError(f"{variable!r} holds numbers; {value!r} is none")


def _printed(level: Any) -> str:
    if isinstance(level, float | np.floating):
        return f"{level:g}"
    return shown_level(level)


def _change_settings(
    people: Population, variable: str, column: Table, change: Any, compare: str
) -> tuple[Setting, ...]:
    """Arms of a column of numbers."""
    values = column.numeric(variable)
    values = values[np.isfinite(values)]
    if isinstance(change, str) and change == "iqr":
        return _between(people, *np.quantile(values, [0.25, 0.75]))
    if isinstance(change, list | tuple | np.ndarray):
        if len(change) != 2:
            raise ModelError(f"change= takes two values, low and high, not {len(change)}")
        return _between(people, *(float(_as_number(variable, v)) for v in change))
    x = _own_values(people, variable)
    if change == "slope":
        if compare != "difference":
            raise ModelError("change='slope' is a difference quotient: use compare='difference'")
        step = STEP * (float(np.std(values)) or 1.0)
        return (
            Setting(f"{variable} - h", x - step, True, True, f"d/d{variable}", 2 * step),
            Setting(f"{variable} + h", x + step, False, True, f"d/d{variable}", 2 * step),
        )
    if isinstance(change, str) and change != "sd":
        raise ModelError(
            f"change={change!r} is not known; use a number, 'sd', 'iqr', 'slope' or two values"
        )
    if change == "sd":
        change = np.std(values, ddof=1)
    size = 1.0 if change is None else float(_as_number(variable, change))
    if not np.isfinite(size) or size == 0:
        raise ModelError(f"a change of {size:g} in {variable!r} changes nothing")
    named = f"({variable} {'+' if size > 0 else '-'} {abs(size):g})"
    return (Setting(variable, x, True, True), Setting(named, x + size, False, True))


def _own_values(people: Population, variable: str) -> Floats:
    if variable not in people.table:
        raise UnknownColumnError(
            f"the population has no column {variable!r}, whose values would be changed; give "
            "levels=, or change=(low, high)"
        )
    x = Table.of({variable: people.table[variable]}).numeric(variable)
    gone = int(np.sum(~np.isfinite(x)))
    if gone:
        raise DataError(
            f"column {variable!r} of the population has {gone} missing values that would be "
            "changed; leave these rows out"
        )
    return x


def _between(people: Population, low: float, high: float) -> tuple[Setting, ...]:
    if low == high:
        raise ModelError(f"the two values are the same, {low:g}; there is nothing to compare")
    return (
        Setting(f"{low:g}", Repeated(low, people.n), True),
        Setting(f"{high:g}", Repeated(high, people.n), False),
    )
