"""The sections of the report that dynamic models have."""

from __future__ import annotations

from typing import Any

import numpy as np

from ranef.display.columns import Column, Fixed, Label, Listing
from ranef.display.markup import Markup, element, join, table
from ranef.fields.dynamic.persons import person_processes
from ranef.report.section import Options, Section
from ranef.report.sections import add_section

__all__ = ["SECTIONS_OF_DYNAMICS"]

QUANTILES = (0.1, 0.25, 0.5, 0.75, 0.9)
WORDS = {"phi": "Inertia (phi)", "sd": "Innovation sd"}


def _dynamic(fit: Any) -> bool:
    return getattr(fit, "file_kind", None) == "dynamic"


def _variances(fit: Any, how: Options) -> Markup:
    return join([table(listing) for listing in fit.variance_listings(how.conf_level)])


def _persons(fit: Any, how: Options) -> Markup:
    found = person_processes(fit.estimate, how.conf_level)
    columns = [Column("parameter", [WORDS[p.kind] for p in found], Label(), "")]
    for q in QUANTILES:
        values = [float(np.quantile(p.estimate, q)) for p in found]
        columns.append(Column(f"q{100 * q:g}", values, Fixed(3), f"{100 * q:g}%"))
    caption = f"Quantiles of the predicted values over the levels of {fit.estimate.persons.name}"
    said = "fit.dynamics() gives those of every person, with intervals."
    return join([table(Listing("persons", tuple(columns), caption)), element("p", said)])


def _optimum(fit: Any, how: Options) -> Markup:
    end = fit.optimum
    lines = [
        *fit.description.endings(),
        f"{end.points} points of quadrature; four more change the log-likelihood by "
        f"{end.quadrature_error:.1e}.",
    ]
    return element("ul", *(element("li", line) for line in lines))


SECTIONS_OF_DYNAMICS = [
    Section("process", "Differences between persons", _variances, _dynamic),
    Section("persons", "Inertia and innovation of persons", _persons, _dynamic),
    Section("search", "Certificate of the optimum", _optimum, _dynamic),
]

for _section, _place in zip(SECTIONS_OF_DYNAMICS, ("check", "check", "reproduce"), strict=True):
    add_section(_section, before=_place)
