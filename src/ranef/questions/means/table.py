"""Marginal means as functions of the parameters, in the order of a table, and what they are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ranef.design.specification import Specification
from ranef.families import BetaBinomial, Binomial, Cumulative, Family, Multinomial, Truncated
from ranef.families.links import Scale
from ranef.fits.protocol import Levelled, offers
from ranef.formula.labels import level_text, shown_level
from ranef.formula.syntax import column_names
from ranef.inference.coefficients.functions import Functions, carried_back
from ranef.inference.coefficients.wald import Intervals
from ranef.models.family_words import zero_words
from ranef.questions.means.grid import (
    Combinations,
    EvaluatedGrid,
    GridVariable,
    interacting,
    unknown_variable,
)
from ranef.questions.means.numbers import AdjustedTests, adjusted_tests
from ranef.tables import reads_as_number

__all__ = ["MeansTable"]

Ints = NDArray[np.intp]


@dataclass(frozen=True, eq=False, repr=False)
class MeansTable:
    """Marginal means as functions of the parameters, in the order of a table.

    Attributes
    ----------
    grid : EvaluatedGrid
        The grid, and what the model says at its rows.
    specs, by : tuple of str
        Predictors whose levels have a mean each, and those that split the table.
    functions : Functions
        The means as functions of the parameters, on the scale of `link`.
    link : str
        On whose scale intervals are made.
    conf_level : float
    adjust : str
        Of the intervals.
    slope : str or None
        The predictor whose slopes these are.
    """

    grid: EvaluatedGrid
    specs: tuple[str, ...]
    by: tuple[str, ...]
    functions: Functions
    link: Scale
    conf_level: float
    adjust: str
    slope: str | None = None
    rng: np.random.Generator | None = None
    weights: str = "equal"

    def __len__(self) -> int:
        return len(self.functions.value)

    @property
    def slopes(self) -> bool:
        """Whether these are slopes."""
        return self.slope is not None

    @property
    def quantity(self) -> str:
        """What is estimated, in words."""
        return quantity_of(self.grid, self.slope)

    @cached_property
    def notes(self) -> tuple[str, ...]:
        """What to know when reading the table."""
        return means_notes(self)

    @property
    def names(self) -> tuple[str, ...]:
        """Predictors of the table, those of `by` last."""
        return (*self.specs, *self.by)

    def levels(self, name: str) -> tuple[Any, ...]:
        """Values of a predictor of the table."""
        return self.grid.variable(name).values

    @cached_property
    def combinations(self) -> Combinations:
        """The rows as combinations of levels."""
        return Combinations(tuple(self.grid.variable(name) for name in self.names))

    @cached_property
    def cells(self) -> dict[str, list[Any]]:
        """Value of each predictor, a row each."""
        pairs = zip(self.combinations.variables, self.combinations.codes, strict=True)
        return {v.name: [v.values[i] for i in codes] for v, codes in pairs}

    def labels(self, names: Sequence[str]) -> list[str]:
        """Levels of some predictors in print, joined, a row each."""
        texts = [self._printed(name) for name in names]
        return [" ".join(t[i] for t in texts) or "overall" for i in range(len(self))]

    def _printed(self, name: str) -> list[str]:
        """Levels of a predictor in print; those that are numbers with its name."""
        levels = [shown_level(v) for v in self.cells[name]]
        return [name + text for text in levels] if all(map(reads_as_number, levels)) else levels

    @cached_property
    def families(self) -> tuple[Ints, ...]:
        """Rows of each combination of `by`."""
        return self.regrouped(self.by)[1]

    def regrouped(self, by: Sequence[str]) -> tuple[tuple[str, ...], tuple[Ints, ...]]:
        """Predictors that are not in `by`, and the rows of each combination of `by`."""
        for name in by:
            if name not in self.names:
                raise unknown_variable("by names", name, self.names)
        rest = tuple(name for name in self.names if name not in by)
        inner, _ = self.combinations.numbered(rest)
        outer, count = self.combinations.numbered(by)
        order = np.lexsort((inner, outer))
        return rest, tuple(order.reshape(count, -1))

    @cached_property
    def tests(self) -> AdjustedTests:
        """Tests and intervals on the scale of `link`."""
        return adjusted_tests(
            self.functions,
            self.grid.knowledge,
            self.families,
            self.adjust,
            self.conf_level,
            rng=self.rng,
        )

    @property
    def intervals(self) -> Intervals:
        """Estimates, standard errors and intervals as arrays."""
        return carried_back(self.tests.intervals, self.link)


# --- in words

AVERAGED = {
    "equal": "with equal weights",
    "proportional": "weighted by the frequencies of their combinations",
    "outer": "weighted by the product of the frequencies of their levels",
    "cells": "weighted by the frequencies within each cell",
    "flat": "with equal weights for the cells that occur",
    "given": "with the weights given",
}


def quantity_of(grid: EvaluatedGrid, slope: str | None) -> str:
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
        reading = fit.parts["conditional"].recipe.reading
        levels = None if reading is None else reading.levels
        return "probability" if not levels else f"probability of {level_text(levels[1])}"
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


def means_notes(means: MeansTable) -> tuple[str, ...]:
    """What to know when reading a table of means."""
    grid = means.grid
    lines = [*grid.fit.doubts(), *_kind_note(grid), *_over_note(means), *_at_note(means)]
    misleading = _misleading(means)
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
    if not offers(fit, Levelled):
        return [fit.mean_words] if fit.n_groups else part
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
    fixed += _offsets(means)
    return [f"At {', '.join(fixed)}."] if fixed else []


def _offsets(means: MeansTable) -> list[str]:
    """The offset that the means have, where no column of the grid has it."""
    grid = means.grid
    named = (grid.fit.parts.get(name) for name in grid.estimand.parts)
    parts = [spec for spec in named if spec is not None and spec.offset is not None]
    if parts and grid.estimand.offset is not None:
        return [f"offset = {grid.estimand.offset:.5g}"]
    return [
        f"offset = {float(spec.offset.mean()):.5g} (the mean of those given)"
        for spec in parts
        if spec.recipe.offset_given and spec.offset is not None
    ]


def _offset_alone(spec: Specification) -> set[str]:
    """Columns that nothing but the offset uses."""
    model = spec.recipe.model
    fixed = {name for node in model.fixed.variables for name in column_names(node)}
    offset = {name for node in model.offsets for name in column_names(node)}
    return (offset | {spec.recipe.offset_column or ""}) - fixed


def _aside(means: MeansTable) -> list[GridVariable]:
    """Variables that the means depend on and the table does not name."""
    grid = means.grid
    columns: set[str] = set() if grid.category is None else {grid.category}
    for name in grid.estimand.parts:
        spec = grid.fit.parts.get(name)
        if spec is not None:
            columns |= {*spec.recipe.formula_columns, *spec.recipe.model.fixed.keys}
            columns |= {spec.recipe.offset_column or ""}
            if grid.estimand.offset is not None:
                columns -= _offset_alone(spec)
    return [v for v in grid.variables if v.name in columns and v.name not in means.names]


def _value(value: Any) -> str:
    if isinstance(value, tuple):
        return "its mean"
    return f"{value:.5g}" if isinstance(value, float) else shown_level(value)


def _misleading(means: MeansTable) -> list[str]:
    """Predictors that are averaged over though the effect of a named one depends on them."""
    grid = means.grid
    over = [v.name for v in grid.variables if len(v.values) > 1 and v.name not in means.names]
    parts = [grid.fit.parts[name] for name in grid.estimand.parts if name in grid.fit.parts]
    return [
        name
        for name in over
        if any(interacting(part.recipe.model.fixed, [name], list(means.specs)) for part in parts)
    ]
