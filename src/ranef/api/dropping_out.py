"""Rows that were planned and not observed, and the model of why: for `gee` with dropout."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ranef.design.clusters import ClusterColumns, in_order
from ranef.design.generalised import specify_generalised
from ranef.errors import DataError, FormulaError, ModelError, row_text
from ranef.formula.labels import count_text
from ranef.formula.parser import parse_formula
from ranef.formula.syntax import Call, Name, walk
from ranef.models.dropout import Dropout, fit_dropout
from ranef.tables import Table

__all__ = ["Planned", "planned_rows", "read_dropout"]

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Planned:
    """The table of all planned rows.

    Attributes
    ----------
    table : dict of columns
        The response filled in where it is missing, so that those rows stay.
    given : array
        The response as it is.
    observed : (N,) bool array
        Where the response is there.
    response : str
    """

    table: dict[str, Any]
    given: Any
    observed: Mask
    response: str


def planned_rows(formula: str, data: Any) -> Planned:
    """Keep the rows in which nothing but the response is missing."""
    table = Table.of(data)
    response, _ = parse_formula(formula)
    if not isinstance(response, Name) or response.value not in table:
        raise FormulaError(
            "with dropout= the response is a column of its own, such as bdi ~ ..., so that a row "
            "without it is known as one that was planned"
        )
    name = response.value
    observed = ~table.missing(name)
    if observed.all():
        raise DataError(
            f"dropout= was given and {name!r} is never missing: a row that was planned and not "
            "observed stands in the table with a missing response"
        )
    if not observed.any():
        raise DataError(f"{name!r} is missing in every row; is it the right column?")
    columns = table.mapping()
    filled = np.where(observed, np.arange(len(observed)), np.flatnonzero(observed)[0])
    given, y = columns[name], table.mapping(filled)[name]
    if table.kind(name) in ("numeric", "boolean"):
        given = np.where(observed, table.numeric(name), np.nan)
        y = table.numeric(name)[filled]
    return Planned({**columns, name: y}, given, observed, name)


def read_dropout(
    formula: str, planned: Planned, columns: ClusterColumns, kept: Mask | None
) -> Dropout:
    """Fit the model of dropout to the rows used.

    Parameters
    ----------
    formula : str
        ``"~ lag(y) + arm"``.
    planned : Planned
    columns : ClusterColumns
        Of the rows used.
    kept : (N,) bool array or None
        Which rows of the table these are.
    """
    if columns.occasions is None:
        raise ModelError("dropout= needs time=: a row is at risk while all rows before it are seen")
    used = np.arange(len(planned.observed)) if kept is None else np.flatnonzero(kept)
    observed = planned.observed[used]
    order = in_order(columns.factors, columns.occasions)
    order = np.arange(len(used)) if order is None else order
    codes = columns.factors[0].codes[order]
    begins = np.append(True, codes[1:] != codes[:-1])
    seen, risk = _histories(observed[order], begins)
    name = f"{planned.response} observed"
    at_risk = np.full(len(planned.observed), np.nan)
    at_risk[used[order[risk]]] = seen[risk].astype(np.float64)
    table = {**planned.table, planned.response: planned.given, name: at_risk}
    text = f"`{name}` ~ {_right_side(formula, columns)}"
    spec = specify_generalised(text, table, "binomial", random="none")
    mean, own = spec.parts["conditional"], spec.accounting.kept
    rows = np.arange(len(at_risk)) if own is None else np.flatnonzero(own)
    missing = np.setdiff1d(used[order[risk]], rows)
    if len(missing):
        raise DataError(
            f"the model of dropout has no prediction for {count_text(len(missing), 'row')} at "
            f"risk (first in {row_text(int(missing[0]))}): a predictor is missing there; fill it "
            "in, or leave it out of dropout="
        )
    place = np.full(len(at_risk), -1)
    place[used[order]] = np.arange(len(used))
    found = fit_dropout(text, mean.names, mean.X, mean.y, place[rows], begins, seen)
    return found.in_order(order)


def _histories(observed: Mask, begins: Mask) -> tuple[Mask, Mask]:
    """Rows seen (all before them too), and rows at risk (all before them seen), sorted rows."""
    group = np.cumsum(begins) - 1
    gone = (~observed).astype(np.intp)
    before = np.cumsum(gone) - gone
    start = before[begins][group]
    seen = observed & (before == start)
    risk = (before == start) & ~begins
    return seen, risk


def _right_side(formula: str, columns: ClusterColumns) -> str:
    """The predictors, ``lag(y)`` written out with clusters and times."""
    if not isinstance(formula, str) or "~" not in formula:
        raise FormulaError(f"dropout is a formula that begins with '~', not {formula!r}")
    response, right = parse_formula(formula)
    if response is not None:
        raise FormulaError(f"dropout={formula!r} has no left side: write '~ ...'")
    text = formula.partition("~")[2]
    for node in walk(right):
        if isinstance(node, Call) and node.function == "lag" and len(node.arguments) == 1:
            if node.keywords:
                continue
            inside = node.arguments[0].printed
            text = text.replace(
                node.printed, f"lag({inside}, {columns.groups}, time = `{columns.time}`)"
            )
    return text.strip()
