"""From the parts of a model and one table to their Specifications.

What `specify` and `specify_generalised` share: the table is read once, a row
that any part misses is dropped from all, and parts share grouping factors.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ranef.design.contrasts import read_contrast
from ranef.design.grouping import GroupRecipe
from ranef.design.kernels import kernel_of
from ranef.design.matrix import Layout, lay_out, model_matrix
from ranef.design.random import RandomRecipe, check_identifiable, group_of, random_terms
from ranef.design.rank import independent_columns
from ranef.design.recipe import Recipe
from ranef.design.response import ResponseKind
from ranef.design.specification import Specification
from ranef.design.terms import GroupingFactor, RandomTerm
from ranef.design.variables import Frame
from ranef.errors import (
    DataError,
    FormulaError,
    ModelError,
    RankWarning,
    UnknownColumnError,
    suggestion,
    warn,
)
from ranef.formula.labels import count_text
from ranef.formula.model import Model
from ranef.formula.syntax import Node, print_node
from ranef.tables import Table
from ranef.tables.accounting import Accounting
from ranef.tables.columns import read_column

__all__ = ["Answer", "Builder", "Part", "response_of", "zero_weights"]

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Part:
    """A formula to be built, and what only one part of a model has.

    Attributes
    ----------
    model : Model
    dot : tuple of str or None
        What ``.`` stands for.
    words : str
        The fixed effects in messages.
    residual : str
        What a random effect of each row would be mistaken for; see
        `check_identifiable`.
    weights, offset : str, (N,) array or None
        Arguments of the call.
    """

    model: Model
    dot: tuple[str, ...] | None
    words: str = "fixed effects"
    residual: str = "the residual"
    weights: Any = None
    offset: Any = None


@dataclass(frozen=True, eq=False)
class Answer:
    """The response of the rows used.

    Attributes
    ----------
    name : str
    y : (n,) float64 array
    weights : (n,) float64 array or None
    kind : ResponseKind or None
        How to read it again; None for plain numbers.
    """

    name: str
    y: Floats
    weights: Floats | None = None
    kind: ResponseKind | None = None


class Builder:
    """Reads one table for all parts of a model.

    Call `given` for arguments, `evaluate` for each part, `account` once, and then
    `specification` for each part.

    Attributes
    ----------
    frame : Frame
    """

    def __init__(
        self,
        table: Table,
        functions: Mapping[str, Callable[..., Any]] | None,
        kernels: Mapping[str, Any] | None,
        policy: str,
    ) -> None:
        if policy not in ("drop", "raise"):
            raise ModelError(f"missing is 'drop' or 'raise', not {policy!r}")
        if table.n_rows == 0:
            raise DataError("the table has no rows")
        self.policy = policy
        self.kernels = kernels
        self.frame = Frame(table, _functions(functions), {}, fitting=True)
        self._groups: dict[str, tuple[GroupRecipe, GroupingFactor]] = {}
        self._arguments: dict[str, Floats] = {}

    def given(self, value: Any, what: str) -> Floats | None:
        """Read weights or offset, named or handed over; after `account`, of the rows used."""
        if value is None:
            return None
        if what not in self._arguments:
            self._arguments[what] = _given(value, what, self.frame)
        return self._arguments[what]

    def evaluate(self, model: Model) -> None:
        """Evaluate every variable of a part but its response."""
        self.frame.add_terms(model.fixed)
        for node in model.offsets:
            self.frame.numbers(node, print_node(node))
        for bar in model.bars:
            self.frame.add_terms(bar.left)
            for group in bar.groups:
                for node in group:
                    self.frame.add_group(node)

    def account(self, empty: Mask | None) -> Accounting:
        """Decide which rows are used, and keep only these.

        Parameters
        ----------
        empty : (N,) bool array or None
            Rows whose weight, or number of trials, is zero.
        """
        accounting = _account(self.frame, empty, self.policy)
        if accounting.kept is not None:
            self.frame.keep(accounting.kept)
            for what, values in self._arguments.items():
                self._arguments[what] = values[accounting.kept]
        return accounting

    def take_contrasts(self, models: Iterable[Model], contrasts: Mapping[str, Any] | None) -> None:
        """Set the contrasts of categorical variables."""
        linear = [terms for m in models for terms in (m.fixed, *(bar.left for bar in m.bars))]
        known = [key for terms in linear for key in terms.keys]
        given = dict(contrasts or {})
        for name in given:
            if name not in known or not self.frame.is_categorical(name):
                what = "is not categorical" if name in known else "is not in the formula"
                raise ModelError(f"contrasts for {name!r}, which {what}{suggestion(name, known)}")
        self.frame.contrasts = {name: read_contrast(value, name) for name, value in given.items()}

    def specification(self, part: Part, answer: Answer, accounting: Accounting) -> Specification:
        """Make the arrays of one part."""
        model, frame = part.model, self.frame
        fixed = _fixed(part, frame)
        random = self._random(part, fixed)
        recipe = Recipe(
            model,
            part.dot,
            frame.scope.state,
            fixed.kept,
            random.groups,
            random.recipes,
            part.weights if isinstance(part.weights, str) else None,
            part.offset if isinstance(part.offset, str) else None,
            part.offset is not None and not isinstance(part.offset, str),
            frame.scope.functions,
            tuple(name for name in model.names if name in frame.scope.table),
            answer.kind,
        )
        return Specification(
            formula=model.text,
            response=answer.name,
            y=answer.y,
            X=fixed.X,
            names=fixed.names,
            dropped_columns=fixed.redundant,
            weights=answer.weights,
            offset=self._offset(part),
            terms=random.terms,
            factors=random.factors,
            accounting=accounting,
            recipe=recipe,
        )

    def _group(self, nodes: tuple[Any, ...], name: str) -> tuple[GroupRecipe, GroupingFactor]:
        """Make a grouping factor, once for all parts."""
        if name not in self._groups:
            self._groups[name] = group_of(nodes, self.frame)
        return self._groups[name]

    def _random(self, part: Part, fixed: _Fixed) -> _Random:
        places: dict[str, int] = {}
        groups: list[GroupRecipe] = []
        factors: list[GroupingFactor] = []
        made: list[tuple[RandomRecipe, RandomTerm]] = []
        for index, bar in enumerate(part.model.bars):
            for nodes in bar.groups:
                name = ":".join(print_node(node) for node in nodes)
                if name not in places:
                    places[name] = len(factors)
                    group, factor = self._group(nodes, name)
                    groups.append(group)
                    factors.append(factor)
                shared = (fixed.layout, fixed.X)
                made += random_terms(index, bar, places[name], name, self.frame, shared)
        terms = [self._with_kernel(recipe, term, part.model, factors) for recipe, term in made]
        _check_terms(terms, factors, self.frame.n_rows, part.residual)
        recipes = tuple(recipe for recipe, _ in made)
        return _Random(tuple(groups), tuple(factors), recipes, tuple(terms))

    def _with_kernel(
        self, recipe: RandomRecipe, term: RandomTerm, model: Model, factors: list[GroupingFactor]
    ) -> RandomTerm:
        name = model.bars[recipe.bar].kernel
        if name is None:
            return term
        factor = factors[term.factor]
        return replace(term, kernel=kernel_of(self.kernels, name, factor.levels, factor.name))

    def _offset(self, part: Part) -> Floats | None:
        total = self.given(part.offset, "offset")
        for node in part.model.offsets:
            values = self.frame.numbers(node, print_node(node))
            total = values.copy() if total is None else total + values
        return total


@dataclass(frozen=True, eq=False)
class _Fixed:
    """The fixed effects: layout of all columns, matrix of those that are not redundant."""

    layout: Layout
    X: Floats
    kept: tuple[int, ...]

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self.layout.names[j] for j in self.kept)

    @property
    def redundant(self) -> tuple[str, ...]:
        kept = set(self.kept)
        return tuple(name for j, name in enumerate(self.layout.names) if j not in kept)


@dataclass(frozen=True, eq=False)
class _Random:
    """The random terms with their grouping factors, and the recipes of both."""

    groups: tuple[GroupRecipe, ...]
    factors: tuple[GroupingFactor, ...]
    recipes: tuple[RandomRecipe, ...]
    terms: tuple[RandomTerm, ...]


def _functions(given: Mapping[str, Callable[..., Any]] | None) -> dict[str, Callable[..., Any]]:
    functions = dict(given or {})
    for name, function in functions.items():
        if not callable(function):
            raise FormulaError(f"functions[{name!r}] is not a function")
    return functions


def _given(value: Any, what: str, frame: Frame) -> Floats:
    """Read weights or offset, named or handed over."""
    table = frame.scope.table
    if isinstance(value, str):
        if value not in table:
            raise UnknownColumnError(
                f"no column {value!r} for {what}{suggestion(value, table.columns)}"
            )
        values, name = table.numeric(value), value
    else:
        if np.ndim(value) == 0:
            raise DataError(f"{what} is a column's name or one number for each row")
        values, name = read_column(what, value).numeric(), what
    if len(values) != table.n_rows:
        raise DataError(f"{what} has {len(values)} values for {table.n_rows} rows")
    frame.note_missing(name, values)
    if what == "weights" and (values < 0).any():
        rows = np.flatnonzero(values < 0)
        raise DataError(
            f"{what} is negative in {count_text(len(rows), 'row')} (first {values[rows[0]]:g} in "
            f"row {rows[0]}); a weight is positive, or zero to leave the row out"
        )
    return np.array(values)


def response_of(model: Model) -> Node:
    """Return the response, which must be there."""
    if model.response is None:
        raise FormulaError(f"the formula has no response: write y {model.text.strip()}")
    return model.response


def zero_weights(weights: Floats | None) -> Mask | None:
    """Return the rows of weight zero; None where there is none."""
    if weights is None or not (weights == 0).any():
        return None
    return np.asarray(weights == 0)


def _account(frame: Frame, empty: Mask | None, policy: str) -> Accounting:
    """Decide which rows are used, and count by column why others are not."""
    n_rows = frame.n_rows
    counts = {name: int(np.count_nonzero(mask)) for name, mask in frame.missing.items()}
    gone = frame.missing_rows()
    if gone is not None and policy == "raise":
        listed = ", ".join(f"{name} ({count_text(n, 'row')})" for name, n in counts.items())
        raise DataError(f"values are missing in {listed}; missing='drop' leaves these rows out")
    if gone is None and empty is None:
        return Accounting(n_rows)
    kept = np.ones(n_rows, dtype=bool) if gone is None else ~gone
    n_zero = 0
    if empty is not None:
        n_zero = int(np.count_nonzero(kept & empty))
        kept &= ~empty
    if not kept.any():
        listed = ", ".join(f"{name} ({count})" for name, count in counts.items())
        causes = f"missing values: {listed}" if listed else "every weight is zero"
        raise DataError(f"no row of {n_rows} is left to use; {causes}")
    return Accounting(n_rows, kept, counts, n_zero)


def _fixed(part: Part, frame: Frame) -> _Fixed:
    """Make the fixed effects' matrix without redundant columns."""
    model = part.model
    variables = frame.variables(model.fixed)
    layout = lay_out(model.fixed, variables, frame.n_rows)
    X = model_matrix(layout, variables, frame.n_rows)
    kept = independent_columns(X)
    if len(kept) < X.shape[1]:
        X = np.ascontiguousarray(X[:, kept])
    fixed = _Fixed(layout, X, tuple(kept.tolist()))
    if fixed.redundant:
        warn(
            f"the {part.words} have {count_text(len(fixed.redundant), 'redundant column')}, "
            f"left out: {', '.join(fixed.redundant)}",
            RankWarning,
        )
    if frame.n_rows <= X.shape[1]:
        raise ModelError(
            f"{frame.n_rows} rows are too few for {X.shape[1]} {part.words}; "
            "a fit needs more rows than fixed effects"
        )
    return fixed


def _check_terms(
    terms: list[RandomTerm], factors: list[GroupingFactor], n: int, residual: str
) -> None:
    seen: set[str] = set()
    for term in terms:
        if term.label in seen:
            raise ModelError(f"the random term ({term.label}) appears twice")
        seen.add(term.label)
        check_identifiable(term, factors[term.factor], n, residual)
