"""A reference grid, and what a fit says at its rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ranef import arguments
from ranef.errors import LevelError, ModelError, UnknownColumnError, suggestion
from ranef.families import Multinomial
from ranef.fits.fit import Fit
from ranef.fits.protocol import Estimand, Estimating, require
from ranef.inference.coefficients.functions import Functions, Knowledge
from ranef.questions.means.contrast_matrices import contrast_method
from ranef.questions.means.grid import (
    Combinations,
    GridVariable,
    ReferenceGrid,
    reference_grid,
    unknown_variable,
)
from ranef.questions.means.specs import Specs
from ranef.tables import Table

__all__ = [
    "EvaluatedGrid",
    "categories_variable",
    "evaluated_grid",
    "grid_of",
    "placed",
    "read_estimand",
]

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class EvaluatedGrid(Combinations):
    """A grid and what the model says at its rows.

    Attributes
    ----------
    variables : tuple of GridVariable
        Those of the reference grid; of categories, the response last.
    fit : Fit
    estimand : Estimand
        What is asked of it.
    reference : ReferenceGrid
    rows : Functions
        One a combination of the variables' values, the first running fastest.
    counts : (R,) float64 array
        Rows of the data in each combination of levels.
    link : str
        Of the rows; ``"identity"`` where they are means themselves.
    scale : str
        The link on whose scale intervals are made.
    knowledge : Knowledge
    unseen : (G,) bool array
        Rows of the reference grid at which a formula has no value.
    linear : bool
        Whether the rows are linear in the coefficients, and stay so.
    """

    fit: Fit
    estimand: Estimand
    reference: ReferenceGrid
    rows: Functions
    counts: Floats
    link: str
    scale: str
    knowledge: Knowledge
    unseen: Bools
    linear: bool

    @property
    def category(self) -> str | None:
        """Name of the response, where its categories are a variable of the grid."""
        return next(iter(categories_variable(self.fit, self.estimand)), None)


def read_estimand(fit: Any, **question: Any) -> Estimand:
    """Check what is asked of a fit and fill in what is left open, see `Fit.estimand`."""
    estimand: Estimand = require(fit, "emmeans() and its like", Estimating).estimand(**question)
    return estimand


def grid_of(
    fit: Fit,
    estimand: Estimand,
    *,
    at: Mapping[str, Any] | None = None,
    cov_reduce: Any = "mean",
    keep: Sequence[str] = (),
) -> ReferenceGrid:
    """Make the grid on which an estimand is averaged."""
    origin = fit.frame
    origin.rows_used()
    assert origin.data is not None
    grid = reference_grid(
        [spec.recipe for spec in fit.parts.values()],
        origin.data,
        origin.accounting.kept,
        at=arguments.mapping("at", at, "{'age': [40, 60]}"),
        cov_reduce=cov_reduce,
        random=estimand.kind in ("population", "unit"),
        keep=keep,
    )
    if not estimand.unit:
        return grid
    levels = {
        name: np.full(grid.size, _unit_level(fit, grid, name, level), dtype=object)
        for name, level in estimand.unit.items()
    }
    return replace(grid, columns={**grid.columns, **levels})


def _unit_level(fit: Fit, grid: ReferenceGrid, name: str, level: Any) -> Any:
    """The level of a grouping column that is meant."""
    factors = [f for spec in fit.parts.values() for f in spec.factors]
    columns = list(dict.fromkeys(c for f in factors for c in f.columns))
    if name not in columns:
        raise UnknownColumnError(
            f"unit names {name!r}, which groups nothing{suggestion(str(name), columns)}; the "
            f"grouping columns are {', '.join(map(repr, columns))}"
        )
    if name in grid.names:
        raise ModelError(
            f"unit names {name!r}, which is also a predictor; choose its level with at="
        )
    assert fit.frame.data is not None
    levels = {str(v): v for v in fit.frame.data.codes(name)[1]}
    if str(level) not in levels:
        raise LevelError(f"unit: {level!r} is no level of {name}{suggestion(str(level), levels)}")
    return levels[str(level)]


def categories_variable(fit: Fit, estimand: Estimand) -> tuple[str, ...]:
    """Name of the response, where each of its categories is asked for."""
    count = len(fit.levels or ())
    of_each = isinstance(fit.family, Multinomial) and count > 2  # log odds against the first
    return (fit.response,) if count and (estimand.type == "prob" or of_each) else ()


def placed(specs: Specs, fit: Fit, estimand: Estimand, grid: ReferenceGrid) -> Specs:
    """Check names against the grid; categories that are not named split the table."""
    if specs.method is not None:
        contrast_method(specs.method)
    categories = categories_variable(fit, estimand)
    for name in (*specs.factors, *specs.by):
        if name not in (*grid.names, *categories):
            raise unknown_variable("specs name", name, (*grid.names, *categories))
    split = [name for name in categories if name not in (*specs.factors, *specs.by)]
    return replace(specs, by=(*specs.by, *split))


def evaluated_grid(fit: Fit, estimand: Estimand, grid: ReferenceGrid) -> EvaluatedGrid:
    """Evaluate the rows of a grid."""
    table = Table.of(grid.columns or {"(row)": np.zeros(grid.size)})
    said = fit.evaluate(table, estimand, grid.held)
    variables, counts = grid.variables, grid.counts
    if said.categories is not None:
        name = fit.response
        if name in grid.names:
            raise ModelError(f"a predictor has the name of the response, {name!r}")
        variables = (*variables, GridVariable(name, said.categories, True))
        counts = np.tile(counts, len(said.categories))
    return EvaluatedGrid(
        variables, fit, estimand, grid, said.functions, counts, said.link, said.scale,
        said.knowledge, said.unseen, said.linear and said.link == "identity",
    )  # fmt: skip
