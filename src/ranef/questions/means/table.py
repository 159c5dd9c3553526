"""Marginal means as functions of the parameters, in the order of a table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ranef.formula.labels import shown_level
from ranef.inference.coefficients.functions import Functions, carried_back
from ranef.inference.coefficients.wald import Intervals
from ranef.questions.means.evaluated_grid import EvaluatedGrid
from ranef.questions.means.grid import Combinations, unknown_variable
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
    quantity : str
        What is estimated, in words.
    slopes : bool
        Whether these are slopes.
    notes : tuple of str
        What to know when reading the table.
    """

    grid: EvaluatedGrid
    specs: tuple[str, ...]
    by: tuple[str, ...]
    functions: Functions
    link: str
    conf_level: float
    adjust: str
    quantity: str
    slopes: bool = False
    rng: np.random.Generator | None = None
    weights: str = "equal"
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.functions.value)

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
