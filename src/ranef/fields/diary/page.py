"""The report of a diary: its own sections, then those of its model."""

from __future__ import annotations

from os import PathLike
from pathlib import Path
from typing import Any

from ranef.display.columns import Listing
from ranef.display.files import write_page
from ranef.display.markup import Markup, element, join, table
from ranef.fields.diary import pictures
from ranef.report.page import composed
from ranef.report.pieces import drawn, facts_of, paragraphs
from ranef.report.section import Options, Section
from ranef.report.sections import SECTIONS

__all__ = ["html", "write"]

MOST_LISTED = 60
OF_THE_MODEL = ("model", "data", "fixed", "variance", "optimum", "reproduce")


def html(diary: Any, call: str | None = None) -> str:
    """Return the report as one HTML page."""
    how = Options(diary.conf_level, call, None)
    own = [(section, diary) for section in OWN if section.applies(diary)]
    model = [
        (section, diary.fit)
        for section in SECTIONS
        if section.name in OF_THE_MODEL and section.applies(diary.fit)
    ]
    return composed(diary.title, [_facts(diary)], [*own, *model], how)


def write(diary: Any, path: str | PathLike[str], call: str | None = None) -> Path:
    """Write the report to a file, whole or not at all."""
    return write_page(path, html(diary, call))


def _facts(diary: Any) -> Markup:
    occasions = diary.occasions
    entries = [
        ("Persons", f"{occasions.n_persons:,}"),
        ("Rows in the model", f"{diary.fit.n_obs:,}"),
        ("Outcome", diary.roles.outcome),
        ("Predictors", ", ".join(diary.roles.predictors)),
    ]
    return facts_of(entries)


def _drawn(diary: Any, name: str, caption: str) -> Markup:
    return drawn(pictures, name, diary, "diary", caption)


def _concerns(diary: Any, how: Options) -> Markup:
    lines = [element("li", concern.text) for concern in diary.concerns]
    return element("ul", *lines)


def _effects(diary: Any, how: Options) -> Markup:
    words = paragraphs(
        "Within: what goes with a value above the person's own mean. Between: what goes with a "
        "person whose mean is higher. Contextual: the between minus the within slope."
    )
    caption = f"Slopes with {how.level} intervals."
    return join([words, _drawn(diary, "effects", caption), table(diary.listing("effects"))])


def _variance(diary: Any, how: Options) -> Markup:
    words = paragraphs(
        "The shares are those of a model without predictors. The reliability of a mean is the "
        "share of its variance that is not due to the sampling of prompts."
    )
    return join([words, table(diary.listing("icc")), table(diary.listing("reliability"))])


def _memory(diary: Any, how: Options) -> Markup:
    words = paragraphs(
        "Correlation of two residuals of one series, given predictors and persons, by the time "
        "between them. A plateau at long times reflects what the prompts of a day share, which "
        "the model includes. Where the first values lie clearly above it, successive prompts hold "
        "less information than independent ones; the model's residual structure allows for it.",
        diary.remembered(),
    )
    caption = "Autocorrelation by the time between prompts; the band is that of independence."
    shown = table(diary.listing("autocorrelation"))
    tried = table(diary.listing("residual"))
    return join([words, _drawn(diary, "autocorrelation", caption), shown, tried])


def _dynamics(diary: Any, how: Options) -> Markup:
    caption = "Some persons, from the most to the least variable; the line is a person's mean."
    words = paragraphs(
        *diary.summary_sentences()[1:2],
        "RMSSD is the root mean squared difference of successive prompts (instability), inertia "
        "the slope of a value on the one before.",
    )
    return join([words, _drawn(diary, "series", caption), _long(diary.listing("dynamics"))])


def _compliance(diary: Any, how: Options) -> Markup:
    parts = [paragraphs(*diary.summary_sentences()[2:])]
    if diary.occasions.study_day is not None:
        caption = "One row per person, one column per day; darker where more prompts were answered."
        parts.append(_drawn(diary, "compliance", caption))
    return join([*parts, _long(diary.listing("compliance"))])


def _slopes(diary: Any, how: Options) -> Markup:
    caption = (
        "Each person's slope, estimated from the person's rows alone and shrunken towards the "
        "mean slope, the more so the less precise it is."
    )
    return join([_drawn(diary, "slopes", caption), _long(diary.listing("slopes"))])


def _long(listing: Listing) -> Markup:
    """A table, folded where it is long."""
    if len(listing.rows) <= MOST_LISTED // 3:
        return table(listing)
    return element("details", element("summary", f"{listing.caption}, as a table"), table(listing))


def _reading(diary: Any, how: Options) -> Markup:
    return paragraphs(*diary.reading())


def _warned(diary: Any) -> bool:
    return bool(diary.concerns)


def _sloped(diary: Any) -> bool:
    return bool(diary.formula.slopes)


OWN: list[Section] = [
    Section("reading", "What was read", _reading),
    Section("concerns", "Cautions", _concerns, _warned),
    Section("effects", "Within and between", _effects),
    Section("levels", "Where it varies", _variance),
    Section("slopes", "Each person's slope", _slopes, _sloped),
    Section("memory", "What a residual remembers", _memory),
    Section("dynamics", "Instability and inertia", _dynamics),
    Section("compliance", "Compliance", _compliance),
]
