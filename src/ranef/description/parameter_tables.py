"""Tables of intervals: one row a parameter, coefficients and variance parameters alike."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ranef.display.numbers import decimals, number
from ranef.display.page import TextTable
from ranef.inference.coefficients.parameter_list import ModelParameter

__all__ = ["PARAMETERS", "interval_columns", "interval_table", "parameter_columns"]

Floats = NDArray[np.float64]

PARAMETERS = ("fixed", "variance", "all")


def parameter_columns(parameters: Sequence[ModelParameter], repeats: Any = 1) -> dict[str, Any]:
    """Return ``component, [response], group, term, term2, parameter``, coherent with `tidy`."""
    times = np.broadcast_to(np.asarray(repeats, dtype=np.intp), (len(parameters),))
    rows = [p for p, count in zip(parameters, times.tolist(), strict=True) for _ in range(count)]
    columns: dict[str, Any] = {"component": [p.component for p in rows]}
    if any(p.response is not None for p in parameters):
        columns["response"] = [p.response for p in rows]
    return columns | {
        "group": [p.group for p in rows],
        "term": [p.term for p in rows],
        "term2": [p.term2 for p in rows],
        "parameter": [p.kind for p in rows],
    }


def interval_columns(
    parameters: Sequence[ModelParameter], estimate: Floats, low: Floats, high: Floats, form: str
) -> dict[str, Any]:
    """Columns of a table of intervals; of fixed effects alone those of `Fit.confint`."""
    named: dict[str, Any] = (
        {"term": [p.label for p in parameters]}
        if form == "fixed"
        else parameter_columns(parameters)
    )
    return named | {"estimate": estimate, "conf_low": low, "conf_high": high}


def interval_table(
    caption: str,
    parameters: Sequence[ModelParameter],
    columns: dict[str, Floats],
) -> TextTable:
    """Text of a table of intervals; every column has the decimals of the row's interval."""
    names = ["standard deviation" if p.kind == "sd" else p.kind for p in parameters]
    rows = []
    for i, p in enumerate(parameters):
        values = [float(column[i]) for column in columns.values()]
        finite = [v for v in values if np.isfinite(v)]
        places = decimals(max(np.ptp(finite) if len(finite) > 1 else 0.0, 1e-12) / 4, 3)
        group = _place(p)
        term = " with ".join(x for x in (p.term, p.term2) if x)
        rows.append(
            (p.label if p.fixed else term, group, names[i], *(number(v, places) for v in values))
        )
    header = ("", "group", "parameter", *columns)
    return TextTable(caption, header, tuple(rows), 3)


def _place(p: ModelParameter) -> str:
    """Grouping factor, with the part or category where that is not the mean's only one."""
    if p.fixed or not p.group:
        return p.group or ""
    remarks = [] if p.component == "conditional" else [p.component]
    remarks += [] if p.response is None else [p.response]
    return f"{p.group} ({', '.join(remarks)})" if remarks else p.group
