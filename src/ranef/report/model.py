"""What was modelled, and with which rows."""

from __future__ import annotations

import numpy as np

from ranef.display.columns import Column, Fixed, Listing, Written
from ranef.display.markup import Markup, element, join, table, wide_equation
from ranef.display.numbers import count, number
from ranef.fits.fit import Fit
from ranef.report.pieces import facts_of
from ranef.report.section import Options
from ranef.tables.accounting import Accounting

__all__ = ["data", "facts", "model"]


def facts(fit: Fit) -> Markup:
    """Return what a reader asks first."""
    return facts_of(fit.description.facts())


def model(fit: Fit, how: Options) -> Markup:
    """Return the model in words, as formulas and in symbols."""
    description = fit.description
    parts = [element("p", " ".join([*description.sentences(), *description.parts()]))]
    parts += _items(description.random())
    for name, formula in description.formulas.items():
        text = formula if name == "conditional" else f"{name}: {formula}"
        parts.append(element("pre", element("code", text)))
    parts += _items([*description.reading(), *description.constants(), *description.held()])
    equation = Markup(description.equation().mathml)
    return join([*parts, wide_equation(equation, "Equations of the model")])


def _items(lines: list[str]) -> list[Markup]:
    return [element("ul", *(element("li", line) for line in lines))] if lines else []


def data(fit: Fit, how: Options) -> Markup:
    """Return which rows are in the model, and its groups."""
    rows = fit.description.mean.accounting
    parts = [
        element(
            "p",
            f"The table has {count(rows.n_rows, 'row')}; {rows.n_used:,} are in the model and "
            f"{_left_out(rows)}",
        )
    ]
    if rows.missing:
        columns = (
            Column("Column", list(rows.missing)),
            Column("Rows missing", list(rows.missing.values()), Fixed(0)),
        )
        parts.append(table(Listing("missing", columns, "Rows with a missing value, by column")))
    if fit.description.groups():
        parts.append(_groups(fit))
    parts += _items(list(fit.description.concerns()))
    redundant = fit.description.mean.dropped_columns
    if redundant:
        parts.append(
            element(
                "p",
                "Redundant columns of the fixed effects, left out because others determine them: ",
                join([element("code", name) for name in redundant], ", "),
                ".",
            )
        )
    return join(parts)


def _left_out(rows: Accounting) -> str:
    if rows.n_dropped == 0:
        return "none is left out."
    verb = "is" if rows.n_dropped == 1 else "are"
    zero = rows.n_zero_weight
    reason = f", {zero:,} of them because the weight is zero" if zero else ""
    return f"{rows.n_dropped:,} {verb} left out{reason}."


def _groups(fit: Fit) -> Markup:
    groups = fit.description.groups()
    sizes = list(groups.values())
    columns = (
        Column("Factor", list(groups)),
        Column("Levels", [len(s) for s in sizes], Fixed(0)),
        Column("Fewest rows", [s.min() for s in sizes], Fixed(0)),
        Column("Median", [float(np.median(s)) for s in sizes], Written(_half)),
        Column("Most rows", [s.max() for s in sizes], Fixed(0)),
    )
    return table(Listing("groups", columns, "Grouping factors and their rows per level"))


def _half(median: float) -> str:
    """Write the median of whole numbers."""
    return number(median, 0 if median.is_integer() else 1)
