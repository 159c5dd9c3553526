"""Columns of estimates with their intervals, stated once for the table and for print."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ranef.display.columns import Column, Degrees, Fixed, Listing, PValue, Sized, Style
from ranef.inference.coefficients.parameter_list import ModelParameter
from ranef.inference.coefficients.wald import Intervals

__all__ = [
    "ESTIMATES",
    "TESTED_ESTIMATES",
    "bounds",
    "estimate_columns",
    "interval_columns",
    "interval_listing",
    "parameter_columns",
]

Floats = NDArray[np.float64]

ESTIMATES = ("estimate", "std_error", "df", "conf_low", "conf_high")
TESTED_ESTIMATES = (*ESTIMATES[:3], "statistic", "p_value", *ESTIMATES[3:])
NARROWEST = 1e-12


def bounds(conf_level: float) -> dict[str, str]:
    """Return the headings of an interval's ends.

    Examples
    --------
    >>> bounds(0.95)
    {'conf_low': '95% low', 'conf_high': '95% high'}
    """
    return {f"conf_{end}": f"{100 * conf_level:g}% {end}" for end in ("low", "high")}


def estimate_columns(
    intervals: Intervals,
    conf_level: float,
    names: Sequence[str] = TESTED_ESTIMATES,
    headings: Mapping[str, str | None] | None = None,
) -> tuple[Column, ...]:
    """State the columns of estimates, each with the decimals of its standard error.

    Parameters
    ----------
    intervals : Intervals
    conf_level : float
    names : sequence of str
        The columns, in order.
    headings : mapping, optional
        Headings in print other than the usual ones; None for a column of the table alone.
    """
    heads: dict[str, str | None] = {"p_value": "p", **bounds(conf_level), **(headings or {})}
    sized = Sized(intervals.std_error)
    styles: dict[str, Style] = {"df": Degrees(), "statistic": Fixed(2), "p_value": PValue()}
    return tuple(
        Column(
            name,
            getattr(intervals, name),
            styles.get(name, sized),
            heads.get(name),
            printed=heads.get(name, name) is not None,
        )
        for name in names
    )


def parameter_columns(parameters: Sequence[ModelParameter], repeats: Any = 1) -> list[Column]:
    """State ``component, [response], group, term, term2, parameter``, coherent with `tidy`."""
    times = np.broadcast_to(np.asarray(repeats, dtype=np.intp), (len(parameters),))
    rows = [p for p, count in zip(parameters, times.tolist(), strict=True) for _ in range(count)]
    values: dict[str, Any] = {"component": [p.component for p in rows]}
    if any(p.response is not None for p in parameters):
        values["response"] = [p.response for p in rows]
    values |= {name: [getattr(p, name) for p in rows] for name in ("group", "term", "term2")}
    values["parameter"] = [p.kind for p in rows]
    return [Column(name, column, printed=False) for name, column in values.items()]


def interval_listing(
    parameters: Sequence[ModelParameter],
    values: Mapping[str, Floats],
    conf_level: float,
    caption: str = "",
    *,
    form: str = "all",
    unprinted: Sequence[str] = (),
) -> Listing:
    """State a table of intervals, a row a parameter.

    Decimals are those of its standard error, or of a quarter of its interval.

    Parameters
    ----------
    parameters : sequence of ModelParameter
    values : mapping
        Arrays by name: `estimate`, `conf_low` and `conf_high`, `std_error` where there is one.
    conf_level : float
    caption : str
    form : str
        ``"fixed"``: of coefficients alone, which one column names, as in `Fit.confint`.
    unprinted : sequence of str
        Names of values that stand in the table alone.
    """
    identity = parameter_columns(parameters)
    if form == "fixed":
        identity = [Column("term", [p.label for p in parameters], printed=False)]
    kinds = ["standard deviation" if p.kind == "sd" else p.kind for p in parameters]
    named = (
        Column("name", [_name(p) for p in parameters], heading="", tabled=False),
        Column("place", [_place(p) for p in parameters], heading="group", tabled=False),
        Column("kind", kinds, heading="parameter", tabled=False),
    )
    sized = Sized(values["std_error"] if "std_error" in values else _quarters(values))
    heads = bounds(conf_level)
    numbers = [
        Column(name, column, sized, heads.get(name), printed=name not in unprinted)
        for name, column in values.items()
    ]
    return Listing("intervals", (*identity, *named, *numbers), caption, labels=len(named))


def _quarters(values: Mapping[str, Floats]) -> Floats:
    """About a standard error each: a quarter of the distance between an interval's ends."""
    ends = np.array([values[name] for name in ("estimate", "conf_low", "conf_high")])
    ends[~np.isfinite(ends)] = np.nan
    width: Floats = np.fmax.reduce(ends) - np.fmin.reduce(ends)
    return np.fmax(width, NARROWEST) / 4


def interval_columns(
    parameters: Sequence[ModelParameter], estimate: Floats, low: Floats, high: Floats, form: str
) -> dict[str, Any]:
    """Columns of a table of intervals, as `Fit.confint` returns it."""
    values = {"estimate": estimate, "conf_low": low, "conf_high": high}
    return interval_listing(parameters, values, 0.95, form=form).table


def _name(p: ModelParameter) -> str:
    return p.label if p.fixed else " with ".join(x for x in (p.term, p.term2) if x)


def _place(p: ModelParameter) -> str:
    """Grouping factor, with the part or category where that is not the mean's only one."""
    if p.fixed or not p.group:
        return p.group or ""
    remarks = [] if p.component in ("conditional", "residual") else [p.component]
    remarks += [] if p.response is None else [p.response]
    return f"{p.group} ({', '.join(remarks)})" if remarks else p.group
