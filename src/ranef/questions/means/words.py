"""Marginal means and contrasts in words, and the columns of their tables."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ranef.description.doubts import doubt
from ranef.display.page import decimals, number, p_value
from ranef.families import BetaBinomial, Binomial, Cumulative, Multinomial, Truncated
from ranef.formula.labels import shown_level
from ranef.inference.coefficients.degrees import METHODS
from ranef.inference.coefficients.wald import Intervals
from ranef.models.family_words import zero_words
from ranef.models.labels import factors_of
from ranef.models.records import GeneralisedEstimate
from ranef.questions.means.functions import Examined
from ranef.questions.means.source import Source

if TYPE_CHECKING:
    from ranef.questions.means.means import MarginalMeans

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
    asked = source.asked
    response = asked.fit.estimate.specification.response
    family = getattr(asked.fit, "family", None)
    if family is None:
        return _linear_mean(source, response)
    if asked.component == "zero":
        assert isinstance(asked.fit.estimate, GeneralisedEstimate)
        zero = zero_words(asked.fit.estimate)
        return f"{'log odds' if asked.type == 'link' else 'probability'} of {zero}"
    if asked.component == "dispersion":
        return "dispersion" if asked.type == "response" else "linear predictor of the dispersion"
    if asked.type == "prob":
        return f"probability of each {response}"
    if asked.type == "mean_class":
        return f"mean {response}, its categories numbered from 1"
    if asked.type == "link":
        return _predictor(family, response)
    if isinstance(family, Binomial | BetaBinomial):
        return "probability"
    if _is_part(source):
        if isinstance(family, Truncated):
            return f"mean of the counts before truncation, {response}"
        return f"mean of {response} without its extra zeros"
    return f"mean of {response}"


def _is_part(source: Source) -> bool:
    """Tell whether means are those of the counts' part, which are not what is observed."""
    asked, estimate = source.asked, source.asked.fit.estimate
    if asked.component != "conditional" or not isinstance(estimate, GeneralisedEstimate):
        return False
    return "zero" in estimate.parts or isinstance(estimate.family, Truncated)


def _linear_mean(source: Source, response: str) -> str:
    if source.asked.transformed == "identity":
        return f"mean of {response}"
    return f"{response} transformed back from its mean"


def _predictor(family: Any, response: str) -> str:
    if isinstance(family, Cumulative):
        return f"latent {response}, less the mean threshold"
    if isinstance(family, Multinomial):
        return f"log odds of each {response} against the first"
    return f"linear predictor of {response} (link {family.link})"


def degrees_words(source: Source) -> str:
    """Say on what distribution tests and intervals rest."""
    asked = source.asked
    if hasattr(asked.fit, "family"):
        return "By normal tests"
    method = "satterthwaite" if asked.unit else asked.df or "satterthwaite"
    return f"By {METHODS[method].words}"


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


def means_notes(means: MarginalMeans, misleading: Sequence[str]) -> tuple[str, ...]:
    """What to know when reading a table of means."""
    asked = means.source.asked
    doubtful = doubt(asked.fit.estimate, getattr(asked.fit, "levels", None))
    lines = [] if doubtful is None else [doubtful]
    lines += [*_kind_note(means.source), *_over_note(means), *_at_note(means)]
    if misleading:
        names = " and ".join(misleading)
        lines.append(
            f"Averages may mislead: {' and '.join(means.specs)} interacts with {names}, over "
            "which they are taken."
        )
    return tuple(lines)


def _kind_note(source: Source) -> list[str]:
    asked = source.asked
    groups = " and ".join(dict.fromkeys(f.name for f in factors_of(asked.fit.estimate)))
    if asked.unit:
        named = ", ".join(f"{name} {level}" for name, level in asked.unit.items())
        return [
            f"For {named} itself: its own random effects are included, and the standard errors "
            "are those of predictions."
        ]
    if asked.transformed != "identity":
        if asked.kind == "population":
            return [
                "Means of the response, with the random effects and the residual integrated out."
            ]
        return [
            "Transformed back from the fitted scale: medians, not means, of the response for a "
            "typical level."
        ]
    if not hasattr(asked.fit, "family") or asked.type == "link":
        return []
    part = []
    if _is_part(source):
        part = ["Of the counts' part alone; component='response' is the mean of what is observed."]
    if asked.kind == "population":
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


def _over_note(means: MarginalMeans) -> list[str]:
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


def _at_note(means: MarginalMeans) -> list[str]:
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
    for name in source.asked.own:
        spec = source.asked.specifications.get(name)
        if spec is not None:
            own |= {*spec.recipe.formula_columns, *spec.recipe.model.fixed.keys}
            own |= {spec.recipe.offset_column or ""}
    return own


def _shown(value: Any) -> str:
    if isinstance(value, tuple):
        return "its mean"
    return f"{value:.5g}" if isinstance(value, float) else shown_level(value)
