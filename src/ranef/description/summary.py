"""The answer a person reads first: estimates, spread, rows, and how sure the optimum is."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ranef.description.model import ModelDescription
from ranef.display.answer import Summary
from ranef.display.columns import Column, Fixed, Listing, Sized
from ranef.display.numbers import number
from ranef.display.page import MOST_ROWS, SHORT_ROWS, Page, Paragraph, TextTable
from ranef.inference.coefficients.variance import VarianceParameter
from ranef.inference.coefficients.wald import Intervals
from ranef.models.labels import CONDITIONAL, category, group_name
from ranef.models.records import Estimate

__all__ = ["summarise", "variance_listings"]


def summarise(
    description: ModelDescription,
    intervals: Intervals,
    conf_level: float,
    df: str,
    variances: Sequence[Listing] = (),
    *,
    short: bool = False,
) -> Summary:
    """Summarise a fit; `intervals` are those of all coefficients."""
    blocks = description.blocks()
    of_mean = [b for b in blocks if b.heading.startswith("Fixed effects")] or blocks[:1]

    def tables(shown: Sequence[object]) -> list[TextTable]:
        listings = (b.listing(intervals, conf_level, df) for b in blocks if b in shown)
        return [listing.text.shortened(SHORT_ROWS if short else MOST_ROWS) for listing in listings]

    others = [b for b in blocks if b not in of_mean]
    parts: list[Paragraph | TextTable] = [Paragraph(tuple(description.rows()))]
    parts += tables(of_mean)
    parts += [] if short else _paragraph(description.reading())
    parts += tables(others)
    parts += _paragraph(description.constants(intervals, conf_level))
    parts += [listing.text for listing in variances]
    parts += [] if short else _paragraph(description.shares())
    parts += _paragraph(description.endings())
    return Summary(Page(description.title, tuple(parts)))


def _paragraph(lines: Sequence[str]) -> list[Paragraph]:
    return [Paragraph(tuple(lines))] if lines else []


def variance_listings(
    estimate: Estimate, parameters: Sequence[VarianceParameter], conf_level: float
) -> tuple[Listing, ...]:
    """Standard deviations of all random terms, correlations beside them or, of many, below."""
    shown = [v for v in parameters if not _is_pair(v)]
    if not shown:
        return ()
    apart = [term for term in _tied(parameters) if len(_effects(parameters, term)) > MOST_BESIDE]
    below = tuple(_correlations(estimate, parameters, term) for term in apart)
    places = [(_place(estimate, v), v.term) for v in shown]
    groups = [
        "" if i and places[i] == places[i - 1] else place for i, (place, _) in enumerate(places)
    ]
    sized = Sized(np.array([v.estimate for v in shown]), 4)
    low, high = (f"{100 * conf_level:g}% {side}" for side in ("low", "high"))
    partners = [_partners(v, parameters, v.term in apart) for v in shown]
    columns: tuple[Column, ...] = (
        Column("group", groups),
        Column("term", [_parameter_name(v) for v in shown]),
        Column("sd", [v.estimate for v in shown], sized),
        Column("conf_low", [v.conf_low for v in shown], sized, low),
        Column("conf_high", [v.conf_high for v in shown], sized, high),
        Column("correlations", partners, heading=PARTNERS),
    )
    if not any(partners):
        columns = columns[:-1]
    what = "Random effects" if estimate.terms else "Residual standard deviation"
    spread = Listing("variance", columns, f"{what} (Wald intervals on the log scale)", 2)
    return (spread, *below)


PARTNERS = "correlation with"
MOST_BESIDE = 4
"""Effects of a term whose correlations stand beside their standard deviations."""


def _tied(parameters: Sequence[VarianceParameter]) -> list[int | None]:
    """Terms with correlations."""
    return list(dict.fromkeys(v.term for v in parameters if _is_pair(v)))


def _effects(parameters: Sequence[VarianceParameter], term: int | None) -> list[str | None]:
    """Names of the effects that correlations of a term are of."""
    pairs = [v for v in parameters if _is_pair(v) and v.term == term]
    return list(dict.fromkeys([*(_first(v, v) for v in pairs), *(v.name2 for v in pairs)]))


def _correlations(
    estimate: Estimate, parameters: Sequence[VarianceParameter], term: int | None
) -> Listing:
    """Correlations of the effects of a term, the lower triangle."""
    own = [v for v in parameters if v.term == term]
    found = {(v.name2, _first(v, v)): v.estimate for v in own if _is_pair(v)}
    names = _effects(parameters, term)
    columns = [Column("term", [f"{j + 1} {name}" for j, name in enumerate(names)], heading="")]
    for j, first in enumerate(names[:-1]):
        cells = [found.get((second, first)) if i > j else None for i, second in enumerate(names)]
        columns.append(Column(str(j + 1), cells, Fixed(2)))
    place = _place(estimate, own[0])
    title = f"Correlations of the effects of {place}"
    if own[0].component == "residual":
        title = "Correlations of the residuals"
    return Listing("correlations", tuple(columns), title)


def _place(estimate: Estimate, v: VarianceParameter) -> str:
    """Grouping factor of a term, and the component where that is not the mean."""
    group, response = group_name(estimate, v.term), category(v.response, estimate.levels)
    remarks = [] if v.component in (CONDITIONAL, "residual") else [v.component]
    remarks += [] if response is None else [response]
    return f"{group} ({', '.join(remarks)})" if remarks else group


def _is_pair(v: VarianceParameter) -> bool:
    """Tell whether it is the correlation of two columns, shown beside the second one's sd."""
    return v.kind == "corr" and v.name2 is not None and not v.name2.startswith("lag ")


def _parameter_name(v: VarianceParameter) -> str:
    """Column of an sd; of another parameter also its kind."""
    if v.kind == "sd":
        return v.name or ""
    return " ".join(part for part in (v.kind, v.name2 or v.name) if part)


def _names(pair: VarianceParameter, parameter: VarianceParameter) -> tuple[str | None, ...]:
    """What a coefficient is called as the second of a pair."""
    if pair.component == parameter.component:
        return (parameter.name,)
    return (f"{parameter.component}: {parameter.name}",)


def _first(pair: VarianceParameter, parameter: VarianceParameter) -> str | None:
    """The first of a pair, with its part where that is neither the mean nor the second's."""
    if pair.component in (CONDITIONAL, parameter.component):
        return pair.name
    return f"{pair.component}: {pair.name}"


def _partners(parameter: VarianceParameter, every: Sequence[VarianceParameter], below: bool) -> str:
    """Correlations of a coefficient with those before it, unless they stand below the table."""
    if np.isnan(parameter.estimate):
        return "not determined"
    if parameter.kind != "sd" or below:
        return ""
    pairs = [
        f"{_first(v, parameter)} {number(v.estimate, 2)}"
        for v in every
        if _is_pair(v)
        and v.term == parameter.term
        and v.name2 in _names(v, parameter)
        and not np.isnan(v.estimate)
    ]
    return ", ".join(pairs)
