"""The reference grid: the combinations of predictors at which a model's means are taken.

Factors stand at all of their levels, numbers at one value, which is the mean of the
column before any transformation (Searle, Speed & Milliken 1980, Am. Stat. 34; Lenth
2016, J. Stat. Softw. 69). Numbers with no more than two values are kept at both, as a
factor is. A variable that cannot be evaluated without its group, such as
``within(x, g)``, stands for itself and takes its own mean.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ranef import arguments
from ranef.design.arguments import same_as
from ranef.design.recipe import Recipe
from ranef.design.values import Numbers
from ranef.errors import DataError, LevelError, ModelError, UnknownColumnError, suggestion
from ranef.families import Multinomial
from ranef.families.links import Scale
from ranef.fits.fit import Fit
from ranef.fits.protocol import Estimand, Estimating, require
from ranef.formula.labels import level_text, list_text
from ranef.formula.model import Terms
from ranef.formula.syntax import Call, Name, Node, column_names, print_node, strip_parens, walk
from ranef.inference.coefficients.functions import Functions, Knowledge
from ranef.questions.means.contrast_matrices import contrast_method
from ranef.questions.means.numbers import averaged
from ranef.questions.means.specs import Specs
from ranef.tables import Table

__all__ = [
    "Combinations",
    "EvaluatedGrid",
    "GridVariable",
    "ReferenceGrid",
    "categories_variable",
    "evaluated_grid",
    "grid_of",
    "interacting",
    "placed",
    "read_estimand",
    "reference_grid",
    "unknown_variable",
]

Floats = NDArray[np.float64]
Ints = NDArray[np.intp]
Mask = NDArray[np.bool_]
Bools = NDArray[np.bool_]

CATEGORICAL = ("text", "categorical", "boolean")
AS_FACTOR = ("factor", "as.factor", "ordered", "C", "relevel", "interaction")
OF_GROUPS = ("within", "between", "lag")
PLAIN = {"boolean": np.bool_, "numeric": np.float64}
KEPT_VALUES = 2
LARGEST = 200_000

Reduction = str | Callable[[Floats], Any]
REDUCTIONS: dict[str, Callable[[Floats], Any]] = {
    "mean": lambda x: [x.mean()],
    "median": lambda x: [np.median(x)],
    "range": lambda x: [x.min(), x.max()],
    "around": lambda x: [x.mean() - 1.0, x.mean() + 1.0],
    "keep": np.unique,
}


@dataclass(frozen=True, eq=False)
class GridVariable:
    """One dimension of the grid.

    Attributes
    ----------
    name : str
        A column, or a variable of the formula that stands for itself.
    values : tuple
        Levels in the user's order and type; numbers; of a variable with several
        columns one row of them.
    factor : bool
        Whether the values are levels, with frequencies, and not chosen numbers.
    held : bool
        Whether it is a variable of the formula and not a column.
    """

    name: str
    values: tuple[Any, ...]
    factor: bool
    held: bool = False


@dataclass(frozen=True, eq=False)
class Combinations:
    """All combinations of the values of variables, the first running fastest."""

    variables: tuple[GridVariable, ...]

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(v.name for v in self.variables)

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(len(v.values) for v in self.variables)

    @property
    def size(self) -> int:
        return int(np.prod(self.shape, dtype=np.int64))

    @property
    def codes(self) -> Ints:
        """Place of each combination's value in each variable, (variables, size)."""
        return np.indices(self.shape, dtype=np.intp).reshape(len(self.shape), self.size, order="F")

    def variable(self, name: str) -> GridVariable:
        """Return a variable by name."""
        return self.variables[self.names.index(name)]

    def numbered(self, names: Sequence[str]) -> tuple[Ints, int]:
        """Number each one's combination of some variables; and how many of these there are."""
        places = [self.names.index(name) for name in names]
        shape = [self.shape[i] for i in places]
        if not places:
            return np.zeros(self.size, dtype=np.intp), 1
        cells = np.ravel_multi_index(list(self.codes[places]), shape, order="F")
        return np.asarray(cells, dtype=np.intp), int(np.prod(shape, dtype=np.int64))


@dataclass(frozen=True, eq=False)
class ReferenceGrid(Combinations):
    """All combinations of the variables' values, the first running fastest.

    Attributes
    ----------
    variables : tuple of GridVariable
    counts : (G,) float64 array
        Rows of the data in each combination of levels (numbers do not count).
    columns : dict
        Arrays (G,) of the table's columns, each in its own type.
    held : dict
        Arrays (G,) or (G, c) of the variables that stand for themselves.
    """

    counts: Floats
    columns: dict[str, Any]
    held: dict[str, Floats]

    def moved(self, name: str, step: float) -> ReferenceGrid:
        """Return the grid with one numeric variable moved by a step."""
        columns, held = dict(self.columns), dict(self.held)
        target = held if self.variable(name).held else columns
        target[name] = np.asarray(target[name], dtype=np.float64) + step
        return replace(self, columns=columns, held=held)


def reference_grid(
    recipes: Sequence[Recipe],
    table: Table,
    kept: Mask | None,
    *,
    at: Mapping[str, Any] | None = None,
    cov_reduce: Reduction | Mapping[str, Reduction] = "mean",
    random: bool = False,
    keep: Sequence[str] = (),
) -> ReferenceGrid:
    """Make the grid of the variables that formulas use.

    Parameters
    ----------
    recipes : sequence of Recipe
        Of the model's parts.
    table : Table
        The columns, all rows.
    kept : (N,) bool array or None
        Rows in the model.
    at : mapping, optional
        Values to take in place of the levels or the mean.
    cov_reduce : str, callable or mapping
        What numbers are reduced to: ``"mean"``, ``"median"``, ``"range"`` (smallest
        and largest), ``"around"`` (one below and above the mean), ``"keep"`` (all
        values), a function; by name, or for all.
    random : bool
        With the columns that random terms multiply.
    keep : sequence of str
        Numbers that need not be kept at two values: they are a slope's variable.

    Examples
    --------
    >>> from ranef.design import specify
    >>> data = {"y": [1.0, 2, 4, 3, 5, 7], "x": [0.0, 1, 2, 0, 1, 2], "f": list("ababab"),
    ...         "g": list("aaabbb")}
    >>> spec = specify("y ~ log(x + 1) + f + (1 | g)", data)
    >>> grid = reference_grid([spec.recipe], Table.of(data), None)
    >>> [(v.name, v.values) for v in grid.variables]
    [('x', (1.0,)), ('f', ('a', 'b'))]
    """
    reader = _GridReader(table, kept, dict(at or {}), cov_reduce, tuple(keep))
    for recipe in recipes:
        for node in _nodes(recipe, random):
            reader.read(recipe, node)
    reader.check()
    variables = tuple(reader.variables.values())
    size = float(np.prod([len(v.values) for v in variables], dtype=np.float64))
    if size > LARGEST:
        largest = sorted(variables, key=lambda v: -len(v.values))[:3]
        named = ", ".join(f"{v.name} ({len(v.values):,})" for v in largest)
        raise ModelError(
            f"the grid would have {size:,.0f} combinations; most values have {named}: choose "
            "some of them with at={...}"
        )
    grid = ReferenceGrid(variables, reader.counts(), {}, {})
    for variable, codes in zip(variables, grid.codes, strict=True):
        target = grid.held if variable.held else grid.columns
        target[variable.name] = _filled(table, variable, codes)
    return grid


def _nodes(recipe: Recipe, random: bool) -> Iterator[Node]:
    """Yield the variables of a recipe, offsets after the fixed effects."""
    model = recipe.model
    yield from model.fixed.variables
    yield from model.offsets
    if recipe.offset_column is not None:
        yield Name(recipe.offset_column)
    for bar in model.bars if random else ():
        yield from bar.left.variables


def stands_for_itself(node: Node) -> bool:
    """Tell whether a variable needs its group to be evaluated."""
    return any(isinstance(part, Call) and part.function in OF_GROUPS for part in walk(node))


class _GridReader:
    """Settles the values of each variable, in order of first use."""

    def __init__(
        self,
        table: Table,
        kept: Mask | None,
        at: dict[str, Any],
        cov_reduce: Reduction | Mapping[str, Reduction],
        free: tuple[str, ...],
    ) -> None:
        self.table, self.at, self.cov_reduce, self.free = table, at, cov_reduce, free
        self.rows: Any = slice(None) if kept is None else kept
        self.variables: dict[str, GridVariable] = {}

    def read(self, recipe: Recipe, node: Node) -> None:
        """Add the columns of a variable, or the variable itself."""
        column = isinstance(node, Name)
        if not column and stands_for_itself(node):
            key = print_node(node)
            if key not in self.variables:
                value = recipe.evaluate(self.table, node)
                assert isinstance(value, Numbers)
                self.variables[key] = self.itself(key, value.values[self.rows])
            return
        factors = set() if column else set(_taken_as_factors(node))
        for name in (node.value,) if isinstance(node, Name) else column_names(node):
            before = self.variables.get(name)
            if name in self.table and (before is None or (name in factors and not before.factor)):
                self.variables[name] = self.column(name, name in factors)

    def column(self, name: str, as_factor: bool) -> GridVariable:
        kind = self.table.kind(name)
        if kind in CATEGORICAL or as_factor:
            return self.levels(name)
        if kind in ("datetime", "duration"):
            return self.times(name)
        x = self.table.numeric(name)[self.rows]
        x = x[np.isfinite(x)]
        explicit = isinstance(self.cov_reduce, Mapping) and name in self.cov_reduce
        if name in self.at or explicit or name in self.free:
            return GridVariable(name, self.numbers(name, x), False)
        if len(np.unique(x[:1000])) <= KEPT_VALUES and len(np.unique(x)) <= KEPT_VALUES:
            return GridVariable(name, tuple(np.unique(x).tolist()), True)
        return GridVariable(name, self.numbers(name, x), False)

    def levels(self, name: str) -> GridVariable:
        codes, levels = self.table.codes(name)
        present = np.bincount(codes[self.rows] + 1, minlength=len(levels) + 1)[1:] > 0
        used = [level for level, here in zip(levels, present.tolist(), strict=True) if here]
        if name in self.at:
            used = [_match(name, v, used) for v in _listed(self.at[name])]
        return GridVariable(name, tuple(used), True)

    def times(self, name: str) -> GridVariable:
        values = self.table.values(name)
        whole = values.astype("m8[us]" if self.table.kind(name) == "duration" else "M8[us]")
        if name in self.at:
            return GridVariable(name, tuple(np.array(_listed(self.at[name]), whole.dtype)), False)
        counted = whole[self.rows].astype(np.int64)
        middle = counted[0] + int(np.mean(counted - counted[0]))
        return GridVariable(name, (np.int64(middle).astype(whole.dtype),), False)

    def itself(self, key: str, values: Floats) -> GridVariable:
        if values.ndim == 2 and values.shape[1] > 1:
            if key in self.at:
                raise ModelError(f"{key} has {values.shape[1]} columns; at= takes single numbers")
            return GridVariable(key, (tuple(np.nanmean(values, axis=0).tolist()),), False, True)
        x = values.ravel()
        return GridVariable(key, self.numbers(key, x[np.isfinite(x)]), False, True)

    def numbers(self, name: str, x: Floats) -> tuple[float, ...]:
        if name in self.at:
            values = _listed(self.at[name])
        else:
            values = list(np.atleast_1d(self.reduction(name)(x)))
        try:
            numbers = [float(v) for v in values]
        except (TypeError, ValueError):
            numbers = []
        if not numbers or not np.isfinite(numbers).all():
            raise DataError(f"{name} is numeric: its values must be finite numbers, not {values!r}")
        if len(set(numbers)) < len(numbers):
            raise DataError(f"{name} is given a value twice: {values!r}")
        return tuple(numbers)

    def reduction(self, name: str) -> Callable[[Floats], Any]:
        chosen = self.cov_reduce
        if isinstance(chosen, Mapping):
            chosen = chosen.get(name, "mean")
        if callable(chosen):
            return chosen
        if chosen not in REDUCTIONS:
            names = ", ".join(repr(k) for k in REDUCTIONS)
            raise ModelError(
                f"cov_reduce={chosen!r} is not known{suggestion(str(chosen), REDUCTIONS)}; "
                f"use one of {names}, or a function"
            )
        return REDUCTIONS[chosen]

    def check(self) -> None:
        """Refuse names that the grid does not have."""
        named = [("at", self.at)]
        if isinstance(self.cov_reduce, Mapping):
            named.append(("cov_reduce", dict(self.cov_reduce)))
        for argument, values in named:
            for name in values:
                if name not in self.variables:
                    raise unknown_variable(f"{argument} names", name, self.variables)

    def counts(self) -> Floats:
        """Rows in each combination of levels, repeated along the numbers."""
        variables = list(self.variables.values())
        factors = [v for v in variables if v.factor]
        n = len(np.arange(self.table.n_rows)[self.rows])
        codes = np.array([self.coded(v) for v in factors], dtype=np.intp).reshape(-1, n)
        shape = tuple(len(v.values) for v in factors)
        cells = np.zeros(n, dtype=np.intp)
        if factors:
            cells = np.ravel_multi_index(list(codes.clip(0)), shape, order="F")
        size = int(np.prod(shape, dtype=np.int64))
        counted = np.bincount(cells[(codes >= 0).all(axis=0)], minlength=size)
        spread = counted.reshape([len(v.values) if v.factor else 1 for v in variables], order="F")
        every = np.broadcast_to(spread, [len(v.values) for v in variables])
        return np.ascontiguousarray(every.ravel(order="F"), dtype=np.float64)

    def coded(self, factor: GridVariable) -> Ints:
        """Place among the grid's values of each row's level; -1 where it is not there."""
        codes, levels = self.table.codes(factor.name)
        places = [next((j for j, v in enumerate(factor.values) if v == lv), -1) for lv in levels]
        return np.asarray(np.array([*places, -1], dtype=np.intp)[codes[self.rows]])


def unknown_variable(said: str, name: str, variables: Iterable[str]) -> UnknownColumnError:
    """Return the error for a name that is no variable of the grid."""
    names = [str(variable) for variable in variables]
    return UnknownColumnError(
        f"{said} {name!r}, which is no predictor of the model{suggestion(str(name), names)}; "
        f"its predictors are {list_text(names, 12) or 'none'}"
    )


def _taken_as_factors(node: Node) -> Iterator[str]:
    """Yield the columns that a variable turns into categories as they are."""
    for part in walk(node):
        if isinstance(part, Call) and part.function in AS_FACTOR:
            for argument in part.arguments[: None if part.function == "interaction" else 1]:
                inner = strip_parens(argument)
                if isinstance(inner, Name):
                    yield inner.value


def _listed(value: Any) -> list[Any]:
    if isinstance(value, (str, bytes)) or np.ndim(value) == 0:
        return [value]
    return list(value)


def _match(name: str, value: Any, levels: Sequence[Any]) -> Any:
    for level in levels:
        if level == value or same_as(level, value):
            return level
    texts = [level_text(level) for level in levels]
    raise LevelError(
        f"{value!r} is no level of {name} in the rows used{suggestion(level_text(value), texts)}; "
        f"its levels are {list_text(list(levels), 10)}"
    )


def _filled(table: Table, variable: GridVariable, codes: Ints) -> Any:
    """A variable's values at the grid's rows, in the type of its column."""
    values = variable.values
    if variable.held or not variable.factor:
        return np.array(values)[codes]
    kind = table.kind(variable.name)
    if kind == "categorical":
        import pandas as pd

        return pd.Categorical.from_codes(codes, categories=list(values))
    if kind in PLAIN:
        return np.array(values, dtype=PLAIN[kind])[codes]
    objects = np.empty(len(values), dtype=object)
    objects[:] = list(values)
    return objects[codes]


def interacting(terms: Terms, first: Sequence[str], second: Sequence[str]) -> bool:
    """Tell whether a term multiplies variables of two sets of names."""
    columns = [
        {print_node(node)} if stands_for_itself(node) else set(column_names(node))
        for node in terms.variables
    ]
    for term in terms.terms:
        names = [columns[i] for i in term]
        for i, one in enumerate(names):
            others = set().union(*(names[:i] + names[i + 1 :]))
            if one & set(first) and others & set(second):
                return True
    return False


# --- what a fit says at the rows of a grid


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
    words : str or None
        On what tests rest; None for what the fit says.
    """

    fit: Fit
    estimand: Estimand
    reference: ReferenceGrid
    rows: Functions
    counts: Floats
    link: Scale
    scale: Scale
    knowledge: Knowledge
    unseen: Bools
    linear: bool
    words: str | None = None

    def averaged(self, names: Sequence[str], weights: str | Floats) -> Functions:
        """Return the averages of the rows in each combination of some variables."""
        cells, size = self.numbered(names)
        over = [name for name in self.names if name not in names]
        return averaged(self.rows, cells, self.row_weights(over, weights), size)

    def row_weights(self, over: Sequence[str], weights: str | Floats) -> Floats:
        """How much each row counts in the average over some variables."""
        counts = self.counts
        cells, size = self.numbered(over)
        if not isinstance(weights, str):
            if len(weights) != size:
                names = " x ".join(over) or "nothing"
                raise DataError(
                    f"weights has {len(weights)} numbers; averaging over {names} takes {size}"
                )
            return weights[cells]
        if weights == "cells":
            return counts
        if weights == "flat":
            return (counts > 0).astype(np.float64)
        if weights == "proportional":
            return np.asarray(np.bincount(cells, counts, minlength=size)[cells], dtype=np.float64)
        product = np.ones(len(counts))
        for name in over if weights == "outer" else ():
            levels, k = self.numbered([name])
            product *= np.bincount(levels, counts, minlength=k)[levels]
        return product

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
    grid = reference_grid(
        [spec.recipe for spec in fit.parts.values()],
        origin.columns,
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
    levels = {str(v): v for v in fit.frame.columns.codes(name)[1]}
    if str(level) not in levels:
        raise LevelError(f"unit: {level!r} is no level of {name}{suggestion(str(level), levels)}")
    return levels[str(level)]


def categories_variable(fit: Fit, estimand: Estimand) -> tuple[str, ...]:
    """Name of the response, where each of its categories is asked for."""
    multinomial = isinstance(fit.family, Multinomial)
    if estimand.type != "prob" and not multinomial:
        return ()
    count = len(fit.levels or ())
    of_each = multinomial and count > 2  # log odds against the first
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
            raise ModelError(
                f"a predictor has the name of the response, {name!r}; rename one of the columns"
            )
        variables = (*variables, GridVariable(name, said.categories, True))
        counts = np.tile(counts, len(said.categories))
    return EvaluatedGrid(
        variables, fit, estimand, grid, said.functions, counts, said.link, said.scale,
        said.knowledge, said.unseen, said.linear and said.link == "identity",
    )  # fmt: skip
