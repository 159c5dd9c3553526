"""Rows to predict: from the model itself or from a new table."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ranef.design.specification import Specification
from ranef.errors import DataError, UnknownColumnError, suggestion
from ranef.fits.estimability import Redundant, determined
from ranef.models.records import CONDITIONAL
from ranef.models.rows import PartRows, Rows
from ranef.tables import Table
from ranef.tables.accounting import Accounting
from ranef.tables.origin import Origin

__all__ = ["read_rows"]

Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]


def read_rows(
    fit: Redundant,
    new: Any,
    effects: str | None,
    *,
    trials: bool = False,
    weights: bool = False,
) -> tuple[Rows, Origin]:
    """Read a new table as the matrices of every part; rows with a missing value are left out.

    Parameters
    ----------
    fit : a fit, or what has its parts and the rows it was made from
    new : table
    effects : str or None
        What is needed of the random effects: those of the rows' ``"own"`` levels, of
        ``"new"`` levels, or nothing.
    trials : bool
        Read numbers of trials, where the family has them.
    weights : bool
        Read the precision weights of new observations.
    """
    table = new if isinstance(new, Table) else Table.of(new)
    read = {name: _all_rows(fit, name, table, effects) for name in fit.parts}
    kept = np.logical_and.reduce([own for _, own in read.values()])
    recipe = fit.parts[CONDITIONAL].recipe
    extra = recipe.trials(table) if trials else None
    if extra is not None:
        kept = kept & np.isfinite(extra)
        extra = extra[kept]
    precision = _weights(recipe.weights_column, table) if weights else None
    if precision is not None:
        kept = kept & np.isfinite(precision)
        rows, own = read[CONDITIONAL]
        read[CONDITIONAL] = replace(rows, weights=precision), own
    return Rows({name: _taken(rows, kept) for name, (rows, _) in read.items()}, extra), _frame(
        table, kept
    )


def _frame(table: Table, kept: Bools) -> Origin:
    return Origin.of(table, Accounting(table.n_rows, None if kept.all() else kept))


def _all_rows(
    fit: Redundant, name: str, table: Table, effects: str | None
) -> tuple[PartRows, Bools]:
    """Matrices of all rows of the table, and which rows lack nothing."""
    spec = fit.parts[name]
    recipe, gap, whole = spec.recipe, None, bool(spec.dropped_columns)
    X, kept = recipe.fixed(table, redundant=whole)
    if whole:
        X, gap = determined(fit, name, X)
    offset = recipe.offset(table)
    terms: list[tuple[NDArray[np.int32], Floats]] = []
    if effects == "own":
        kept = kept & _known_groups(spec, table)
        terms = [recipe.random(table, t) for t in range(len(spec.terms))]
    elif effects == "new":
        unseen = np.full(table.n_rows, -1, dtype=np.int32)
        terms = [(unseen, recipe.random_columns(table, t)) for t in range(len(spec.terms))]
    for values in (offset, *(z for _, z in terms)):
        if values is not None:
            finite = np.isfinite(values)
            kept = kept & (finite if finite.ndim == 1 else finite.all(axis=1))
    return PartRows(X, offset, terms if effects else None, None, gap), kept


def _taken(rows: PartRows, kept: Bools) -> PartRows:
    """The rows that lack nothing."""
    take = slice(None) if kept.all() else kept
    return PartRows(
        rows.X[take],
        None if rows.offset is None else rows.offset[take],
        None if rows.random is None else [(codes[take], z[take]) for codes, z in rows.random],
        None if rows.weights is None else rows.weights[take],
        None if rows.gap is None else rows.gap[take],
    )


def _weights(column: str | None, table: Table) -> NDArray[np.float64] | None:
    """Precision weights of the rows, where the model's column of weights is there."""
    if column is None or column not in table:
        return None
    weights = table.numeric(column)
    wrong = int(np.count_nonzero(weights <= 0))
    if wrong:
        raise DataError(f"weights must be positive; column {column!r} has {wrong} that are not")
    return weights


def _known_groups(spec: Specification, table: Table) -> Bools:
    """False where the label of a grouping factor is missing."""
    known = np.ones(table.n_rows, dtype=np.bool_)
    for column in dict.fromkeys(c for f in spec.factors for c in f.columns):
        if column not in table:
            raise UnknownColumnError(
                f"the new table has no column {column!r}{suggestion(column, table.columns)}; "
                "a conditional prediction needs the grouping factors "
                "(kind='typical' does without)"
            )
        known &= table.codes(column)[0] >= 0
    return known
