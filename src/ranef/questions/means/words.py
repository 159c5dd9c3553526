"""Marginal means and contrasts in words, and the columns of their tables."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ranef.display.numbers import decimals, number, p_value
from ranef.families import BetaBinomial, Binomial, Cumulative, Family, Multinomial, Truncated
from ranef.formula.labels import shown_level
from ranef.inference.coefficients.wald import Intervals
from ranef.models.family_words import zero_words
from ranef.questions.means.numbers import Examined
from ranef.questions.means.source import Source
from ranef.questions.means.table import MeansTable

__all__ = ["degrees_words", "interval_words", "means_notes", "quantity_of", "row_of", "table_of"]

ADJUSTED = {
    "tukey": "Tukey's method (studentised range)",
    "dunnett": "Dunnett's method (multivariate t)",
    "dunnettx": "Dunnett's method (approximation for correlations of 1/2)",
    "mvt": "the multivariate t distribution",
    "sidak": "Sidak's method",
    "scheffe": "Scheffe's method",
    "bonferroni": "Bonferroni's method",
    "holm": "Holm's method",
    "hochberg": "Hochberg's method",
    "hommel": "Hommel's method",
    "bh": "Benjamini and Hochberg's method (false discovery rate)",
    "by": "Benjamini and Yekutieli's method (false discovery rate)",
}


def table_of(found: Intervals, tested: bool) -> dict[str, Any]:
    """Columns of estimates with their intervals."""
    columns: dict[str, Any] = {
        "estimate": found.estimate,
        "std_error": found.std_error,
        "df": found.df,
    }
    if tested:
        columns |= {"statistic": found.statistic, "p_value": found.p_value}
    return {**columns, "conf_low": found.conf_low, "conf_high": found.conf_high}


def row_of(found: Intervals, j: int, tested: bool) -> tuple[str, ...]:
    """Cells of one estimate in print."""
    places = decimals(float(found.std_error[j]))
    df = float(found.df[j])
    tests = (number(float(found.statistic[j]), 2), p_value(float(found.p_value[j])))
    return (
        number(float(found.estimate[j]), places),
        number(float(found.std_error[j]), places),
        number(df, 1 if df < 1000 else 0),
        *(tests if tested else ()),
        number(float(found.conf_low[j]), places),
        number(float(found.conf_high[j]), places),
    )


def quantity_of(source: Source, slope: str | None = None) -> str:
    """Say what is estimated: ``"mean"``, ``"probability"``, ``"slope of age"``."""
    what = _what(source)
    return what if slope is None else f"slope of {slope}: change in the {what} per unit"


def _what(source: Source) -> str:
    fit, what = source.asked.fit, source.asked.what
    response, family = fit.response, fit.family
    if what.component == "zero":
        zero = zero_words(family)
        return f"{'log odds' if what.type == 'link' else 'probability'} of {zero}"
    if what.component == "dispersion":
        return "dispersion" if what.type == "response" else "linear predictor of the dispersion"
    if what.type == "prob":
        return f"probability of each {response}"
    if what.type == "mean_class":
        return f"mean {response}, its categories numbered from 1"
    if what.type == "link":
        return _predictor(family, response)
    if what.back != "identity":
        return f"{response} transformed back from its mean"
    if isinstance(family, Binomial | BetaBinomial):
        return "probability"
    if _is_part(source):
        if isinstance(family, Truncated):
            return f"mean of the counts before truncation, {response}"
        return f"mean of {response} without its extra zeros"
    return f"mean of {response}"


def _is_part(source: Source) -> bool:
    """Tell whether means are those of the counts' part, which are not what is observed."""
    fit = source.asked.fit
    part = "zero" in fit.parts or isinstance(fit.family, Truncated)
    return part and source.asked.what.component == "conditional"


def _predictor(family: Family, response: str) -> str:
    if isinstance(family, Cumulative):
        return f"latent {response}, less the mean threshold"
    if isinstance(family, Multinomial):
        return f"log odds of each {response} against the first"
    if family.link == "identity":
        return f"mean of {response}"
    return f"linear predictor of {response} (link {family.link})"


def degrees_words(source: Source) -> str:
    """Say on what distribution tests and intervals rest."""
    what = source.asked.what
    return f"By {source.asked.fit.test_words(None if what.unit else what.df)}"


def interval_words(examined: Examined, conf_level: float, link: str) -> str:
    """Say at which level intervals are, how adjusted, and on what scale they are made."""
    size = max((int(np.isfinite(made.critical).sum()) for made in examined.adjusted), default=0)
    scale = "" if link == "identity" else f", computed on the scale of the {link}"
    words = f"{100 * conf_level:g}% intervals"
    methods = {(made.method, made.interval_method) for made in examined.adjusted}
    for method, of_interval in sorted(methods - {("none", "none")}):
        words += f", simultaneous for {size} by {ADJUSTED[of_interval]}"
        if method != of_interval:
            words += f" ({ADJUSTED[method].partition(' (')[0]} has none)"
    return f"{words}{scale}."


def means_notes(means: MeansTable, misleading: Sequence[str]) -> tuple[str, ...]:
    """What to know when reading a table of means."""
    lines = [*means.source.asked.fit.doubts()]
    lines += [*_kind_note(means.source), *_over_note(means), *_at_note(means)]
    if misleading:
        names = " and ".join(misleading)
        lines.append(
            f"Averages may mislead: {' and '.join(means.specs)} interacts with {names}, over "
            "which they are taken."
        )
    return tuple(lines)


def _kind_note(source: Source) -> list[str]:
    fit, what = source.asked.fit, source.asked.what
    if what.unit:
        named = ", ".join(f"{name} {level}" for name, level in what.unit.items())
        return [
            f"For {named} itself: its own random effects are included, and the standard errors "
            "are those of predictions."
        ]
    if what.back != "identity":
        if what.kind == "population":
            return [
                "Means of the response, with the random effects and the residual integrated out."
            ]
        return [
            "Transformed back from the fitted scale: medians, not means, of the response for a "
            "typical level."
        ]
    if what.type == "link":
        return []
    part = []
    if _is_part(source):
        part = ["Of the counts' part alone; component='response' is the mean of what is observed."]
    groups = " and ".join(fit.n_groups)
    linear = fit.family.mean_link == "identity" and "zero" not in fit.parts
    if not groups or linear:
        return part
    if what.kind == "population":
        return [
            *part,
            f"Population means: averaged exactly over the random effects of {groups}; "
            "kind='typical' sets these to zero.",
        ]
    return [
        *part,
        f"For a typical {groups} (random effects zero), not the population mean; "
        "kind='population' gives that.",
    ]


def _over_note(means: MeansTable) -> list[str]:
    source = means.source
    own = _columns_of_component(source)
    over = [
        v.name
        for v in source.variables
        if len(v.values) > 1 and v.name not in means.names and v.name in own
    ]
    if not over:
        return []
    how = {
        "equal": "with equal weights",
        "proportional": "weighted by the frequencies of their combinations",
        "outer": "weighted by the product of the frequencies of their levels",
        "cells": "weighted by the frequencies within each cell",
        "flat": "with equal weights for the cells that occur",
        "given": "with the weights given",
    }[means.weights]
    return [f"Averaged over {', '.join(over)}, {how}."]


def _at_note(means: MeansTable) -> list[str]:
    own = _columns_of_component(means.source)
    fixed = [
        f"{v.name} = {_shown(v.values[0])}"
        for v in means.source.variables
        if len(v.values) == 1 and v.name not in means.names and v.name in own
    ]
    return [f"At {', '.join(fixed)}."] if fixed else []


def _columns_of_component(source: Source) -> set[str]:
    """Variables of the grid on which the means depend."""
    own: set[str] = set() if source.category is None else {source.category}
    for name in source.asked.what.parts:
        spec = source.asked.fit.parts.get(name)
        if spec is not None:
            own |= {*spec.recipe.formula_columns, *spec.recipe.model.fixed.keys}
            own |= {spec.recipe.offset_column or ""}
    return own


def _shown(value: Any) -> str:
    if isinstance(value, tuple):
        return "its mean"
    return f"{value:.5g}" if isinstance(value, float) else shown_level(value)
