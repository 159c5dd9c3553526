"""Marginal means and contrasts in words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ranef.families import BetaBinomial, Binomial, Cumulative, Family, Multinomial, Truncated
from ranef.formula.labels import shown_level
from ranef.models.family_words import zero_words
from ranef.questions.means.evaluated_grid import EvaluatedGrid
from ranef.questions.means.grid import GridVariable
from ranef.questions.means.numbers import AdjustedTests
from ranef.questions.means.table import MeansTable

__all__ = ["adjustment_words", "degrees_words", "interval_words", "means_notes", "quantity_of"]

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
AVERAGED = {
    "equal": "with equal weights",
    "proportional": "weighted by the frequencies of their combinations",
    "outer": "weighted by the product of the frequencies of their levels",
    "cells": "weighted by the frequencies within each cell",
    "flat": "with equal weights for the cells that occur",
    "given": "with the weights given",
}


def quantity_of(grid: EvaluatedGrid, slope: str | None = None) -> str:
    """Say what is estimated: ``"mean"``, ``"probability"``, ``"slope of age"``."""
    mean = _mean_of(grid)
    return mean if slope is None else f"slope of {slope}: change in the {mean} per unit"


def _mean_of(grid: EvaluatedGrid) -> str:
    fit, estimand = grid.fit, grid.estimand
    response, family = fit.response, fit.family
    if estimand.component == "zero":
        zero = zero_words(family)
        return f"{'log odds' if estimand.type == 'link' else 'probability'} of {zero}"
    if estimand.component == "dispersion":
        on_link = estimand.type != "response"
        return "linear predictor of the dispersion" if on_link else "dispersion"
    if estimand.type == "prob":
        return f"probability of each {response}"
    if estimand.type == "mean_class":
        return f"mean {response}, its categories numbered from 1"
    if estimand.type == "link":
        return _predictor(family, response)
    if estimand.back != "identity":
        return f"{response} transformed back from its mean"
    if isinstance(family, Binomial | BetaBinomial):
        return "probability"
    if _is_part(grid):
        if isinstance(family, Truncated):
            return f"mean of the counts before truncation, {response}"
        return f"mean of {response} without its extra zeros"
    return f"mean of {response}"


def _is_part(grid: EvaluatedGrid) -> bool:
    """Tell whether means are those of the counts' part, which are not what is observed."""
    part = "zero" in grid.fit.parts or isinstance(grid.fit.family, Truncated)
    return part and grid.estimand.component == "conditional"


def _predictor(family: Family, response: str) -> str:
    if isinstance(family, Cumulative):
        return f"latent {response}, less the mean threshold"
    if isinstance(family, Multinomial):
        return f"log odds of each {response} against the first"
    if family.link == "identity":
        return f"mean of {response}"
    return f"linear predictor of {response} (link {family.link})"


def degrees_words(grid: EvaluatedGrid) -> str:
    """Say on what distribution tests and intervals rest."""
    estimand = grid.estimand
    return f"By {grid.fit.test_words(None if estimand.unit else estimand.df)}"


def interval_words(tests: AdjustedTests, conf_level: float, link: str) -> str:
    """Say at which level intervals are, how adjusted, and on what scale they are made."""
    size = max((int(np.isfinite(a.critical).sum()) for a in tests.families), default=0)
    scale = "" if link == "identity" else f", computed on the scale of the {link}"
    words = f"{100 * conf_level:g}% intervals"
    methods = {(a.method, a.interval_method) for a in tests.families}
    for method, of_interval in sorted(methods - {("none", "none")}):
        words += f", simultaneous for {size} by {ADJUSTED[of_interval]}"
        if method != of_interval:
            words += f" ({ADJUSTED[method].partition(' (')[0]} has none)"
    return f"{words}{scale}."


def adjustment_words(
    tests: AdjustedTests,
    families: Sequence[NDArray[np.intp]],
    by: Sequence[str],
    compared: int | None,
    adjust: str,
) -> str:
    """Say for how many tests the p-values of contrasts are adjusted, and how."""
    methods = {a.method for a in tests.families} - {"none"}
    if not methods:
        return "p-values not adjusted."
    named = " and ".join(ADJUSTED[name] for name in sorted(methods))
    within = " in each level of " + " and ".join(by) if by else ""
    size = max(len(rows) for rows in families)
    count = f"{compared} means" if methods == {"tukey"} else f"{size} tests"
    error = max(a.error for a in tests.families)
    stated = f" (standard error of the integral {error:.1g})" if error else ""
    instead = ""
    if adjust == "tukey" and "sidak" in methods:
        instead = "; Tukey's is for all pairs of means alone"
    return f"p-values adjusted for {count}{within} by {named}{stated}{instead}."


def means_notes(means: MeansTable, misleading: Sequence[str]) -> tuple[str, ...]:
    """What to know when reading a table of means."""
    grid = means.grid
    lines = [*grid.fit.doubts(), *_kind_note(grid), *_over_note(means), *_at_note(means)]
    if misleading:
        names = " and ".join(misleading)
        lines.append(
            f"Averages may mislead: {' and '.join(means.specs)} interacts with {names}, over "
            "which they are taken."
        )
    return tuple(lines)


def _kind_note(grid: EvaluatedGrid) -> list[str]:
    fit, estimand = grid.fit, grid.estimand
    if estimand.unit:
        named = ", ".join(f"{name} {level}" for name, level in estimand.unit.items())
        return [
            f"For {named} itself: its own random effects are included, and the standard errors "
            "are those of predictions."
        ]
    if estimand.back != "identity":
        if estimand.kind == "population":
            return [
                "Means of the response, with the random effects and the residual integrated out."
            ]
        return [
            "Transformed back from the fitted scale: medians, not means, of the response for a "
            "typical level."
        ]
    if estimand.type == "link":
        return []
    part = []
    if _is_part(grid):
        part = ["Of the counts' part alone; component='response' is the mean of what is observed."]
    groups = " and ".join(fit.n_groups)
    linear = fit.family.mean_link == "identity" and "zero" not in fit.parts
    if not groups or linear:
        return part
    if estimand.kind == "population":
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
    over = [v.name for v in _aside(means) if len(v.values) > 1]
    return [f"Averaged over {', '.join(over)}, {AVERAGED[means.weights]}."] if over else []


def _at_note(means: MeansTable) -> list[str]:
    fixed = [f"{v.name} = {_value(v.values[0])}" for v in _aside(means) if len(v.values) == 1]
    return [f"At {', '.join(fixed)}."] if fixed else []


def _aside(means: MeansTable) -> list[GridVariable]:
    """Variables that the means depend on and the table does not name."""
    grid = means.grid
    columns: set[str] = set() if grid.category is None else {grid.category}
    for name in grid.estimand.parts:
        spec = grid.fit.parts.get(name)
        if spec is not None:
            columns |= {*spec.recipe.formula_columns, *spec.recipe.model.fixed.keys}
            columns |= {spec.recipe.offset_column or ""}
    return [v for v in grid.variables if v.name in columns and v.name not in means.names]


def _value(value: Any) -> str:
    if isinstance(value, tuple):
        return "its mean"
    return f"{value:.5g}" if isinstance(value, float) else shown_level(value)
