"""What marginal means are asked of: a fit at the rows of a reference grid."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ranef import arguments
from ranef.errors import LevelError, ModelError, UnknownColumnError, suggestion
from ranef.fits.fit import Fit
from ranef.fits.protocol import Estimand, Estimating, require
from ranef.inference.coefficients.functions import Functions, Knowledge
from ranef.questions.means.grid import GridVariable, ReferenceGrid, reference_grid
from ranef.tables import Table

__all__ = ["Asked", "Source", "ask", "read_question", "source_of"]

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Asked:
    """The question, whatever the rows: a fit, and what is asked of it."""

    fit: Fit
    what: Estimand


@dataclass(frozen=True, eq=False)
class Source:
    """A grid and what the model says at its rows.

    Attributes
    ----------
    asked : Asked
    variables : tuple of GridVariable
        Those of the grid; of categories, the response last.
    grid : ReferenceGrid
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
        Rows of the grid at which a formula has no value.
    linear : bool
        Whether the rows are linear in the coefficients, and stay so.
    """

    asked: Asked
    variables: tuple[GridVariable, ...]
    grid: ReferenceGrid
    rows: Functions
    counts: Floats
    link: str
    scale: str
    knowledge: Knowledge
    unseen: Bools
    linear: bool

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(v.name for v in self.variables)

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(len(v.values) for v in self.variables)

    @property
    def category(self) -> str | None:
        """Name of the response, where its categories are a variable of the grid."""
        extra = len(self.variables) > len(self.grid.variables)
        return self.variables[-1].name if extra else None


def read_question(fit: Any, **question: Any) -> Asked:
    """Check a question and fill in what it leaves open, see `Fit.estimand`."""
    fit = require(fit, "emmeans() and its like", Estimating)
    return Asked(fit, fit.estimand(**question))


def ask(
    asked: Asked,
    *,
    at: Mapping[str, Any] | None = None,
    cov_reduce: Any = "mean",
    keep: Sequence[str] = (),
) -> ReferenceGrid:
    """Make the grid of a question."""
    frame = asked.fit.frame
    frame.rows_used()
    assert frame.data is not None
    grid = reference_grid(
        [spec.recipe for spec in asked.fit.parts.values()],
        frame.data,
        frame.accounting.kept,
        at=arguments.mapping("at", at, "{'age': [40, 60]}"),
        cov_reduce=cov_reduce,
        random=asked.what.kind in ("population", "unit"),
        keep=keep,
    )
    return _with_unit(asked, grid) if asked.what.unit else grid


def _with_unit(asked: Asked, grid: ReferenceGrid) -> ReferenceGrid:
    """Add the columns of the unit, its level in every row."""
    factors = [f for spec in asked.fit.parts.values() for f in spec.factors]
    known = list(dict.fromkeys(c for f in factors for c in f.columns))
    columns = dict(grid.columns)
    for name, level in asked.what.unit.items():
        if name not in known:
            raise UnknownColumnError(
                f"unit names {name!r}, which groups nothing{suggestion(str(name), known)}; the "
                f"grouping columns are {', '.join(map(repr, known))}"
            )
        if name in grid.names:
            raise ModelError(
                f"unit names {name!r}, which is also a predictor; choose its level with at="
            )
        data = asked.fit.frame.data
        assert data is not None
        levels = data.codes(name)[1]
        texts = {str(v): v for v in levels}
        if str(level) not in texts:
            raise LevelError(
                f"unit: {level!r} is no level of {name}{suggestion(str(level), texts)}"
            )
        values = np.empty(grid.size, dtype=object)
        values[:] = [texts[str(level)]] * grid.size
        columns[name] = values
    return replace(grid, columns=columns)


def source_of(asked: Asked, grid: ReferenceGrid) -> Source:
    """Evaluate the rows of a grid."""
    table = Table.of(grid.columns or {"(row)": np.zeros(grid.size)})
    found = asked.fit.evaluate(table, asked.what, grid.held)
    variables, counts = grid.variables, grid.counts
    if found.categories is not None:
        name = asked.fit.response
        if name in grid.names:
            raise ModelError(f"a predictor has the name of the response, {name!r}")
        variables = (*variables, GridVariable(name, found.categories, True))
        counts = np.tile(counts, len(found.categories))
    return Source(
        asked, variables, grid, found.functions, counts, found.link, found.scale,
        found.knowledge, found.unseen, found.linear and found.link == "identity",
    )  # fmt: skip
