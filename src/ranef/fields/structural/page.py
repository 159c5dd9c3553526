"""The sections of the report that structural equation models have."""

from __future__ import annotations

from typing import Any

import numpy as np

from ranef.display.characters import xml
from ranef.display.columns import Column, Fixed, Label, Listing, PValue
from ranef.display.markup import Markup, element, join, table
from ranef.errors import ModelError
from ranef.fields.structural.diagram import diagram_text, drawn
from ranef.report.section import Options, Section
from ranef.report.sections import add_section
from ranef.tables import Table

__all__ = ["SECTIONS_OF_STRUCTURE"]


def _structural(fit: Any) -> bool:
    return hasattr(fit, "role_rows")


def _model(fit: Any, how: Options) -> Markup:
    d = fit.description
    lines = [element("p", " ".join(d.sentences()))]
    lines += [element("p", line) for line in [*d.rows(), *d.reading()]]
    return join([*lines, element("pre", element("code", fit.formula.strip("\n")))])


def _fit(fit: Any, how: Options) -> Markup:
    shown = []
    for name, value in fit.measures.items():
        if value == value:
            digits = 0 if name in ("df", "baseline_df", "n_parameters") else 4
            shown.append((name.replace("_", " "), float(value), digits))
    names = Column("measure", [s[0] for s in shown], Label(), "Measure")
    values = Column("value", [f"{s[1]:.{s[2]}f}" for s in shown], Label(), "Value")
    parts = [table(Listing("measures", (names, values), "Measures of fit"))]
    try:
        found = fit.comparisons.level_fits()
    except ModelError:
        return join(parts)
    columns = (
        Column("level", [f.level for f in found], Fixed(0), "Level"),
        Column("chisq", [f.chisq for f in found], Fixed(3), "Chi-squared"),
        Column("df", [f.df for f in found], Fixed(0)),
        Column("cfi", [f.cfi for f in found], Fixed(3), "CFI"),
        Column("rmsea", [f.rmsea for f in found], Fixed(3), "RMSEA"),
        Column("srmr", [f.srmr for f in found], Fixed(3), "SRMR"),
        Column("n", [f.n for f in found], Fixed(0)),
    )
    caption = "Fit of each level, all others unrestricted; n is the level's own"
    return join([*parts, table(Listing("levels", columns, caption))])


def _picture(fit: Any, how: Options) -> Markup:
    svg = xml(drawn(fit, True)).split("?>", 1)[-1].strip()
    caption = (
        "Standardised estimates. A dot on a variable marks a random intercept, a dot on an arrow a "
        f"random slope. {diagram_text(fit)}"
    )
    return element("figure", Markup(svg), element("figcaption", caption))


def _estimates(fit: Any, how: Options) -> Markup:
    return join([table(listing) for listing in fit.listings(how.conf_level)])


def _standardized(fit: Any, how: Options) -> Markup:
    source = Table.of(fit.standardized(conf_level=how.conf_level))
    keep = [
        k
        for k in range(source.n_rows)
        if source.values("op")[k] in ("=~", "~") and not np.isnan(source.numeric("std_all")[k])
    ]
    if not keep:
        return element("p", "The model has no loading or regression.")
    terms = [" ".join(str(source.values(c)[k]) for c in ("lhs", "op", "rhs")) for k in keep]
    columns = (
        Column("level", [int(source.numeric("level")[k]) for k in keep], Fixed(0), "Level"),
        Column("term", terms, Label(), "Parameter"),
        *(
            Column(name, [float(source.numeric(name)[k]) for k in keep], Fixed(3))
            for name in ("std_lv", "std_all", "std_error", "conf_low", "conf_high")
        ),
        Column("p_value", [float(source.numeric("p_value")[k]) for k in keep], PValue(), "p"),
    )
    return table(Listing("standardized", columns, "Loadings and regressions, standardised", 2))


def _optimum(fit: Any, how: Options) -> Markup:
    lines = fit.description.endings()
    h1 = []
    if not fit.estimate.model.has_slopes:
        h1 = [f"The unrestricted model: {fit.comparisons.saturated.words()}."]
    return element("ul", *(element("li", line) for line in [*lines, *h1]))


SECTIONS_OF_STRUCTURE = [
    Section("structure", "Model", _model, _structural, False),
    Section("diagram", "Path diagram", _picture, _structural, False),
    Section("fit", "Fit", _fit, _structural, False),
    Section("parameters", "Parameters", _estimates, _structural, False),
    Section("standardized", "Standardised", _standardized, _structural, False),
    Section("search", "Certificate of the optimum", _optimum, _structural, False),
]

for _section in SECTIONS_OF_STRUCTURE:
    add_section(_section, before="model")
