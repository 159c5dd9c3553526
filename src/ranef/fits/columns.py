"""What the diagnostic functions read of a fit: columns and groups of its rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ranef.design.recipe import GIVEN_OFFSET
from ranef.design.terms import GroupingFactor
from ranef.errors import DataError, ModelError, UnknownColumnError, suggestion
from ranef.fits.protocol import Estimating
from ranef.tables import Table

__all__ = ["column_of", "groups_of", "is_categorical", "labels_of", "own_columns", "time_of"]

Floats = NDArray[np.float64]
Codes = NDArray[np.int_]


def own_columns(fit: Estimating) -> dict[str, Any]:
    """Columns that the formulas use, of the rows in the model, an offset given as array too."""
    columns = fit.frame.rows_used()
    for spec in fit.parts.values():
        if spec.recipe.offset_given and spec.offset is not None:
            columns[GIVEN_OFFSET] = spec.offset - spec.recipe.formula_offset(columns)
    return columns


def groups_of(fit: Estimating, by: Any) -> tuple[Codes, list[Any], str]:
    """Group of each row in the model (-1 where missing), the groups' labels, and a name.

    `by` is a grouping factor, a column that the formulas use, or one value a row.
    """
    if not isinstance(by, str):
        values = _row_values(fit, by, "by")
        codes, levels = Table.of({"by": values}).codes("by")
        return _present(codes, levels, "group")
    factors: Sequence[GroupingFactor] = getattr(fit, "factors", ())
    for factor in factors:
        if factor.name == by and factor.members is not None:
            raise ModelError(
                f"a row may belong to several levels of {by}, so that they are no groups of rows; "
                "give another grouping factor, a column, or one value a row"
            )
        if factor.name == by:
            return factor.codes.astype(np.int_), list(factor.levels), by
    table = fit.frame.data
    if table is None or by not in table:
        known = [factor.name for factor in factors]
        known += [] if table is None else [c for c in table.columns if c not in known]
        raise UnknownColumnError(
            f"by={by!r} is no grouping factor and no column of the model's formulas"
            f"{suggestion(by, known)}; there are {', '.join(map(repr, known))}. "
            "Another column can be passed as values: by=table['...']"
        )
    codes, levels = table.codes(by)
    return _present(_used(fit, codes), levels, by)


def _present(codes: Any, levels: Sequence[Any], name: str) -> tuple[Codes, list[Any], str]:
    """Number only the levels that occur."""
    codes = np.asarray(codes, dtype=np.int_)
    present = np.flatnonzero(np.bincount(codes[codes >= 0], minlength=len(levels)))
    place = np.full(len(levels) + 1, -1)
    place[present] = np.arange(len(present))
    return place[codes], [levels[int(i)] for i in present], name


def column_of(fit: Estimating, column: Any, argument: str) -> tuple[Floats, str]:
    """Numbers of the rows in the model: a column of the formulas, or values; and a name.

    Categories count by their codes.
    """
    if not isinstance(column, str):
        values = _row_values(fit, column, argument)
        return _numbers(Table.of({argument: values}), argument), argument
    table = _data(fit, column, argument)
    return _used(fit, _numbers(table, column)), column


def is_categorical(fit: Estimating, column: Any) -> bool:
    """Tell whether a column, or values, have no order of numbers or times."""
    table = fit.frame.data if isinstance(column, str) else Table.of({"x": np.asarray(column)})
    name = column if isinstance(column, str) else "x"
    numbers = ("numeric", "boolean", "datetime", "duration")
    return table is not None and name in table and table.kind(name) not in numbers


def time_of(fit: Estimating, column: Any) -> Floats:
    """Times of the rows in the model, dates in seconds."""
    return column_of(fit, column, "time")[0]


def _data(fit: Estimating, name: str, argument: str) -> Table:
    table = fit.frame.data
    if table is None or name not in table:
        known = [] if table is None else table.columns
        raise UnknownColumnError(
            f"{argument}={name!r} is no column of the model's formulas{suggestion(name, known)}; "
            f"there are {', '.join(map(repr, known)) or 'none'}. Another column can be handed "
            f"over as values: {argument}=table[{name!r}]"
        )
    return table


def _numbers(table: Table, name: str) -> Floats:
    kind = table.kind(name)
    if kind in ("numeric", "boolean"):
        return table.numeric(name)
    if kind in ("datetime", "duration"):
        return table.seconds(name)
    codes, _ = table.codes(name)
    return np.where(codes >= 0, codes, np.nan).astype(np.float64)


def _row_values(fit: Estimating, values: Any, argument: str) -> Any:
    """Values of the rows in the model, from those of all rows or of these."""
    values = fit.frame.aligned(values, argument)
    try:
        array = np.asarray(values)
    except (TypeError, ValueError):
        array = np.empty(())
    rows = fit.frame.accounting
    if array.ndim != 1 or len(array) not in (rows.n_rows, rows.n_used):
        shape = " x ".join(map(str, array.shape)) or "one value"
        raise DataError(
            f"{argument} must name a column or hold one value a row ({rows.n_rows} rows of the "
            f"table, or the {rows.n_used} in the model), not {shape}"
        )
    return _used(fit, array) if len(array) == rows.n_rows else array


def _used(fit: Estimating, values: NDArray[Any]) -> NDArray[Any]:
    kept = fit.frame.accounting.kept
    return values if kept is None else values[kept]


def labels_of(levels: Sequence[Any]) -> Any:
    """Labels as a column: in their own type if they share one, else as text."""
    kinds = {type(level) for level in levels}
    return list(levels) if len(kinds) == 1 else [str(level) for level in levels]
