"""From a formula and a table to a Specification: the data are read once."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ranef.design.contrasts import read_contrast
from ranef.design.frame import Frame
from ranef.design.grouping import GroupRecipe
from ranef.design.kernels import kernel_of
from ranef.design.labels import count_text
from ranef.design.matrix import Layout, lay_out, model_matrix
from ranef.design.model import Model, expand_dot, model_with_dot
from ranef.design.random import RandomRecipe, check_identifiable, group_of, random_terms
from ranef.design.rank import independent_columns
from ranef.design.recipe import Recipe
from ranef.design.specification import Accounting, GroupingFactor, RandomTerm, Specification
from ranef.design.syntax import Call, print_node, strip_parens
from ranef.errors import (
    DataError,
    FormulaError,
    ModelError,
    RankWarning,
    UnknownColumnError,
    suggestion,
)
from ranef.tables import Table
from ranef.tables.columns import read_column

__all__ = ["specify"]

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]


def specify(
    formula: str,
    data: Any,
    *,
    weights: Any = None,
    offset: Any = None,
    contrasts: Mapping[str, Any] | None = None,
    missing: str = "drop",
    kernels: Mapping[str, Any] | None = None,
    functions: Mapping[str, Callable[..., Any]] | None = None,
) -> Specification:
    """Read a formula against a table.

    Parameters
    ----------
    formula : str
        ``"y ~ x + (x | g)"``.
    data : table
        pandas, polars or pyarrow, or a dict of arrays.
    weights, offset : str or (n_rows,) array-like, optional
        A column's name, or the numbers themselves.
    contrasts : mapping, optional
        Categorical variable -> name of contrasts (``"sum"``) or matrix.
    missing : {"drop", "raise"}
        What to do with rows that miss a value in a column used.
    kernels : mapping, optional
        Labelled matrices that ``kernel(1 | id, K)`` names.
    functions : mapping, optional
        Functions that the formula may call.

    Examples
    --------
    >>> table = {"y": [1.0, 2, 4, 3, 5, 7], "x": [0, 1, 2, 0, 1, 2], "g": list("aaabbb")}
    >>> spec = specify("y ~ x + (1 | g)", table)
    >>> spec.names, spec.factors[0].levels
    (('(Intercept)', 'x'), ['a', 'b'])
    """
    if missing not in ("drop", "raise"):
        raise ModelError(f"missing is 'drop' or 'raise', not {missing!r}")
    table = Table.of(data)
    weights_column = weights if isinstance(weights, str) else None
    offset_column = offset if isinstance(offset, str) else None
    reserved = [name for name in (weights_column, offset_column) if name is not None]
    dot = expand_dot(formula, table.columns, reserved)
    model = model_with_dot(formula, dot)
    _check_model(model)
    if table.n_rows == 0:
        raise DataError("the table has no rows")
    frame = Frame(table, _functions(functions), {}, fitting=True)
    w = _given(weights, "weights", frame)
    shift = _given(offset, "offset", frame)
    _evaluate(model, frame)
    accounting = _account(frame, w, missing)
    kept = accounting.kept
    if kept is not None:
        frame.keep(kept)
        w = None if w is None else w[kept]
        shift = None if shift is None else shift[kept]
    _take_contrasts(model, frame, contrasts)
    fixed = _fixed(model, frame)
    random = _random(model, frame, fixed, kernels)
    recipe = Recipe(
        model,
        dot,
        frame.scope.state,
        fixed.kept,
        random.groups,
        random.recipes,
        weights_column,
        offset_column,
        offset is not None and offset_column is None,
        frame.scope.functions,
        tuple(name for name in model.names if name in table),
    )
    return Specification(
        formula=model.text,
        response=_response_key(model),
        y=np.array(_response(model, frame)),
        X=fixed.X,
        names=fixed.names,
        dropped_columns=fixed.redundant,
        weights=w,
        offset=_offset(model, frame, shift),
        terms=random.terms,
        factors=random.factors,
        accounting=accounting,
        recipe=recipe,
    )


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


def _check_model(model: Model) -> None:
    """Refuse what a linear mixed model cannot be."""
    if model.response is None:
        raise FormulaError(f"the formula has no response: write y {model.text.strip()}")
    response = strip_parens(model.response)
    if isinstance(response, Call) and response.function == "cbind":
        raise ModelError(
            f"{print_node(response)} counts successes and failures: a generalised (binomial) "
            "model's response. A linear model needs one number for each row"
        )
    if not model.bars:
        raise ModelError(
            "the formula has no random term; a mixed model needs one, such as (1 | g): "
            "without it, ordinary least squares is the method"
        )


def _given(value: Any, what: str, frame: Frame) -> Floats | None:
    """Read weights or offset, named or handed over."""
    if value is None:
        return None
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


def _response_key(model: Model) -> str:
    assert model.response is not None
    return print_node(model.response)


def _response(model: Model, frame: Frame) -> Floats:
    assert model.response is not None
    return frame.numbers(model.response, _response_key(model))


def _evaluate(model: Model, frame: Frame) -> None:
    _response(model, frame)
    frame.add_terms(model.fixed)
    for node in model.offsets:
        frame.numbers(node, print_node(node))
    for bar in model.bars:
        frame.add_terms(bar.left)
        for group in bar.groups:
            for node in group:
                frame.add_group(node)


def _account(frame: Frame, weights: Floats | None, policy: str) -> Accounting:
    """Decide which rows are used, and count by column why others are not."""
    n_rows = frame.n_rows
    counts = {name: int(np.count_nonzero(mask)) for name, mask in frame.missing.items()}
    gone = frame.missing_rows()
    if gone is not None and policy == "raise":
        listed = ", ".join(f"{name} ({count_text(n, 'row')})" for name, n in counts.items())
        raise DataError(f"values are missing in {listed}; missing='drop' leaves these rows out")
    zero = weights is not None and bool((weights == 0).any())
    if gone is None and not zero:
        return Accounting(n_rows)
    kept = np.ones(n_rows, dtype=bool) if gone is None else ~gone
    n_zero = 0
    if weights is not None and zero:
        n_zero = int(np.count_nonzero(kept & (weights == 0)))
        kept &= weights != 0
    if not kept.any():
        listed = ", ".join(f"{name} ({count})" for name, count in counts.items())
        causes = f"missing values: {listed}" if listed else "every weight is zero"
        raise DataError(f"no row of {n_rows} is left to use; {causes}")
    return Accounting(n_rows, kept, counts, n_zero)


def _take_contrasts(model: Model, frame: Frame, contrasts: Mapping[str, Any] | None) -> None:
    given = dict(contrasts or {})
    known = [*model.fixed.keys, *(key for bar in model.bars for key in bar.left.keys)]
    for name in given:
        if name not in known or not frame.is_categorical(name):
            what = "is not categorical" if name in known else "is not in the formula"
            raise ModelError(f"contrasts for {name!r}, which {what}{suggestion(name, known)}")
    frame.contrasts = {name: read_contrast(value, name) for name, value in given.items()}


def _fixed(model: Model, frame: Frame) -> _Fixed:
    """Make the fixed effects' matrix without redundant columns."""
    variables = frame.variables(model.fixed)
    layout = lay_out(model.fixed, variables, frame.n_rows)
    X = model_matrix(layout, variables, frame.n_rows)
    kept = independent_columns(X)
    if len(kept) < X.shape[1]:
        X = np.ascontiguousarray(X[:, kept])
    fixed = _Fixed(layout, X, tuple(kept.tolist()))
    if fixed.redundant:
        warnings.warn(
            f"the fixed effects have {count_text(len(fixed.redundant), 'redundant column')}, "
            f"left out: {', '.join(fixed.redundant)}",
            RankWarning,
            stacklevel=3,
        )
    if frame.n_rows <= X.shape[1]:
        raise ModelError(
            f"{frame.n_rows} rows are too few for {X.shape[1]} fixed effects; "
            "a fit needs more rows than fixed effects"
        )
    return fixed


def _random(
    model: Model, frame: Frame, fixed: _Fixed, kernels: Mapping[str, Any] | None
) -> _Random:
    places: dict[str, int] = {}
    groups: list[GroupRecipe] = []
    factors: list[GroupingFactor] = []
    made: list[tuple[RandomRecipe, RandomTerm]] = []
    for index, bar in enumerate(model.bars):
        for nodes in bar.groups:
            name = ":".join(print_node(node) for node in nodes)
            if name not in places:
                places[name] = len(factors)
                group, factor = group_of(nodes, frame)
                groups.append(group)
                factors.append(factor)
            shared = (fixed.layout, fixed.X)
            made += random_terms(index, bar, places[name], name, frame, shared)
    terms = [_with_kernel(recipe, term, model, factors, kernels) for recipe, term in made]
    _check_terms(terms, factors, frame.n_rows)
    recipes = tuple(recipe for recipe, _ in made)
    return _Random(tuple(groups), tuple(factors), recipes, tuple(terms))


def _with_kernel(
    recipe: RandomRecipe,
    term: RandomTerm,
    model: Model,
    factors: list[GroupingFactor],
    kernels: Mapping[str, Any] | None,
) -> RandomTerm:
    name = model.bars[recipe.bar].kernel
    if name is None:
        return term
    factor = factors[term.factor]
    return replace(term, kernel=kernel_of(kernels, name, factor.levels, factor.name))


def _check_terms(terms: list[RandomTerm], factors: list[GroupingFactor], n: int) -> None:
    seen: set[str] = set()
    for term in terms:
        if term.label in seen:
            raise ModelError(f"the random term ({term.label}) appears twice")
        seen.add(term.label)
        check_identifiable(term, factors[term.factor], n)


def _offset(model: Model, frame: Frame, shift: Floats | None) -> Floats | None:
    total = shift
    for node in model.offsets:
        values = frame.numbers(node, print_node(node))
        total = values.copy() if total is None else total + values
    return total
