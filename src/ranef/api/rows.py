"""Rows to predict: from the model itself or from a new table."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ranef.api.frame import Frame
from ranef.design.specification import Accounting, Specification
from ranef.errors import UnknownColumnError, suggestion
from ranef.inference import NewRows
from ranef.tables import Table

__all__ = ["model_rows", "read_rows"]

Bools = NDArray[np.bool_]


def model_rows(spec: Specification) -> NewRows:
    """The rows in the model."""
    random = [(spec.factors[t.factor].codes, t.z) for t in spec.terms]
    return NewRows(spec.X, spec.offset, random, spec.weights)


def read_rows(spec: Specification, new: Any, kind: str, *, random: bool) -> tuple[NewRows, Frame]:
    """Read a new table as the model's matrices; rows with a missing value are left out.

    `random` says whether the prediction needs the random effects' columns.
    """
    table = Table.of(new)
    X, kept = spec.recipe.fixed(table)
    offset = spec.recipe.offset(table)
    if offset is not None:
        kept = kept & np.isfinite(offset)
    terms = []
    if random:
        terms = [spec.recipe.random(table, t) for t in range(len(spec.terms))]
        kept = kept & _known_groups(spec, table)
        for _, z in terms:
            kept = kept & np.isfinite(z).all(axis=1)
    everything = bool(kept.all())
    take = slice(None) if everything else kept
    rows = NewRows(
        X[take],
        None if offset is None else offset[take],
        [(codes[take], z[take]) for codes, z in terms] if random else None,
    )
    accounting = Accounting(table.n_rows, None if everything else kept)
    return rows, Frame.of(table, accounting)


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
