"""Rows to predict: from the model itself or from a new table."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ranef.api.frame import Frame
from ranef.design.specification import Accounting, Specification
from ranef.errors import DataError, UnknownColumnError, suggestion
from ranef.inference import NewRows
from ranef.tables import Table

__all__ = ["model_rows", "read_rows"]

Bools = NDArray[np.bool_]


def model_rows(spec: Specification) -> NewRows:
    """The rows in the model."""
    random = [(spec.factors[t.factor].codes, t.z) for t in spec.terms]
    return NewRows(spec.X, spec.offset, random, spec.weights)


def read_rows(spec: Specification, new: Any, effects: str | None) -> tuple[NewRows, Frame]:
    """Read a new table as the model's matrices; rows with a missing value are left out.

    `effects` says what the prediction needs of the random effects: those of the
    rows' ``"own"`` levels, of ``"new"`` levels, or nothing (None).
    """
    table = Table.of(new)
    recipe = spec.recipe
    X, kept = recipe.fixed(table)
    offset, weights = recipe.offset(table), _weights(recipe.weights_column, table)
    terms: list[tuple[NDArray[np.int32], NDArray[np.float64]]] = []
    if effects == "own":
        kept = kept & _known_groups(spec, table)
        terms = [recipe.random(table, t) for t in range(len(spec.terms))]
    elif effects == "new":
        unseen = np.full(table.n_rows, -1, dtype=np.int32)
        terms = [(unseen, recipe.random_columns(table, t)) for t in range(len(spec.terms))]
    for values in (offset, weights, *(z for _, z in terms)):
        if values is not None:
            finite = np.isfinite(values)
            kept = kept & (finite if finite.ndim == 1 else finite.all(axis=1))
    take = slice(None) if kept.all() else kept
    rows = NewRows(
        X[take],
        None if offset is None else offset[take],
        [(codes[take], z[take]) for codes, z in terms] if effects else None,
        None if weights is None else weights[take],
    )
    return rows, Frame.of(table, Accounting(table.n_rows, None if kept.all() else kept))


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
