"""Marginal means and their contrasts as functions of the parameters, in rows."""

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
from ranef.questions.means.grid import codes_of, unknown_variable
from ranef.questions.means.numbers import Examined, examined
from ranef.questions.means.source import Source
from ranef.tables import reads_as_number

__all__ = ["ContrastTable", "MeansTable"]

Floats = NDArray[np.float64]
Ints = NDArray[np.intp]


@dataclass(frozen=True, eq=False, repr=False)
class MeansTable:
    """Marginal means as functions of the parameters, in the order of a table.

    Attributes
    ----------
    source : Source
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

    source: Source
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

    @property
    def names(self) -> tuple[str, ...]:
        """Predictors of the table, those of `by` last."""
        return (*self.specs, *self.by)

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(len(self.levels(name)) for name in self.names)

    def levels(self, name: str) -> tuple[Any, ...]:
        """Values of a predictor of the table."""
        return self.source.variables[self.source.names.index(name)].values

    @cached_property
    def cells(self) -> dict[str, list[Any]]:
        """Value of each predictor, a row each."""
        own = zip(self.names, codes_of(self.shape), strict=True)
        return {name: [self.levels(name)[i] for i in code] for name, code in own}

    def labels(self, names: Sequence[str]) -> list[str]:
        """Levels of some predictors in print, joined, a row each."""
        texts = [self._printed(name) for name in names]
        size = len(self.functions.value)
        return [" ".join(t[i] for t in texts) or "overall" for i in range(size)]

    def _printed(self, name: str) -> list[str]:
        """Levels of a predictor in print; those that are numbers with its name."""
        shown = [shown_level(v) for v in self.cells[name]]
        return [name + text for text in shown] if all(map(reads_as_number, shown)) else shown

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
        size = len(self.functions.value)
        order = [self.names.index(name) for name in (*rest, *by)]
        index = np.arange(size).reshape(self.shape or (1,), order="F")
        if order:
            index = index.transpose(order)
        inner = int(np.prod([len(self.levels(name)) for name in rest], dtype=np.int64))
        flat = index.ravel(order="F").reshape(inner, -1, order="F")
        return rest, tuple(np.ascontiguousarray(flat[:, j]) for j in range(flat.shape[1]))

    @cached_property
    def examined(self) -> Examined:
        """Tests and intervals on the scale of `link`."""
        return examined(
            self.functions,
            self.source.knowledge,
            self.families,
            self.adjust,
            self.conf_level,
            rng=self.rng,
        )

    @property
    def intervals(self) -> Intervals:
        """Estimates, standard errors and intervals as arrays."""
        return carried_back(self.examined.found, self.link)

    @property
    def cell_columns(self) -> dict[str, Any]:
        """Columns that name each row."""
        return dict(self.cells) if self.names else {"term": ["overall"]}


@dataclass(frozen=True, eq=False, repr=False)
class ContrastTable:
    """Comparisons of marginal means as functions of the parameters.

    Attributes
    ----------
    means : MeansTable
    by : tuple of str
    columns : dict
        What each is, and its levels of `by`.
    functions : Functions
    families : tuple of int arrays
        Tests that are made together.
    link : str
        ``"identity"``, or ``"log"`` where ratios are shown.
    adjust : str
    conf_level : float
    quantity : str
        ``"difference"``, ``"ratio"``, ``"odds ratio"``.
    matrix : (q, k) float64 array
        Coefficients of the means in each family.
    compared : int or None
        Number of means whose pairs these are.
    """

    means: MeansTable
    by: tuple[str, ...]
    columns: dict[str, list[Any]]
    functions: Functions
    families: tuple[Ints, ...]
    link: str
    adjust: str
    conf_level: float
    quantity: str
    matrix: Floats
    compared: int | None = None
    rng: np.random.Generator | None = None

    @cached_property
    def examined(self) -> Examined:
        """Tests and intervals on the scale where means are subtracted."""
        return examined(
            self.functions,
            self.means.source.knowledge,
            self.families,
            self.adjust,
            self.conf_level,
            means=self.compared,
            rng=self.rng,
        )

    @property
    def intervals(self) -> Intervals:
        """Estimates, tests and intervals as arrays."""
        return carried_back(self.examined.found, self.link)
