"""The terms of a fixed part as tests see them: which columns, and what contains what.

A test of a term must not depend on the contrasts that code its factors, so each
term has one column for every combination of levels here, as in the models of
Searle (1987) and of SAS, beside the columns that the fit used.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ranef.design.contrasts import code_levels
from ranef.design.matrix import INTERCEPT, Layout, Variable, check_memory, lay_out, model_matrix
from ranef.design.recipe import Recipe
from ranef.design.values import Numbers
from ranef.errors import DataError
from ranef.formula.labels import level_text

__all__ = ["Effect", "Effects", "effects_of"]

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Effect:
    """One term of the fixed effects.

    Attributes
    ----------
    name : str
        ``"dose:sex"``; ``"(Intercept)"``.
    factors, covariates : frozenset of str
        Its categorical and its numeric variables.
    columns : (n, c) float64 array
        A column for each combination of levels (times covariates).
    empty : tuple of str
        Combinations of levels that no row has.
    """

    name: str
    factors: frozenset[str]
    covariates: frozenset[str]
    columns: Floats
    empty: tuple[str, ...] = ()

    def within(self, other: Effect) -> bool:
        """Tell whether `other` contains this one: the same covariates and more factors."""
        return self.covariates == other.covariates and self.factors < other.factors


@dataclass(frozen=True, eq=False)
class Effects:
    """All terms of the fixed effects, the intercept first where there is one.

    Attributes
    ----------
    effects : tuple of Effect
    assigned : (p,) int array
        The effect that each column of the fitted model matrix belongs to.
    short : tuple of str
        Factors whose contrasts have fewer columns than levels minus one.
    reference : (n, r) float64 array or None
        The model matrix with every factor compared with its first level, redundant
        columns included; None where the fit's own is that.
    """

    effects: tuple[Effect, ...]
    assigned: NDArray[np.intp]
    short: tuple[str, ...]
    reference: Floats | None
    reference_assigned: NDArray[np.intp]


def effects_of(recipe: Recipe, data: Any, rows: NDArray[np.bool_] | None = None) -> Effects:
    """Read the terms of a model's fixed effects over the rows in the model.

    Parameters
    ----------
    recipe : Recipe
    data : table
    rows : (N,) bool array or None
        Its rows that are in the model; None for all.
    """
    frame, variables, layout = recipe.laid_out(data, rows)
    terms, n_rows = recipe.model.fixed, frame.n_rows
    short = tuple(v.key for v in variables if _is_short(v))
    found = [] if not layout.intercept else [_intercept(n_rows)]
    for own in terms.terms:
        found.append(_effect([variables[i] for i in own], n_rows))
    every = layout.assigned(variables)
    if max(recipe.kept, default=-1) >= len(every):
        raise DataError(
            f"the terms make {len(every):,} columns, and one of a higher place is kept: the file "
            "that this comes from is damaged"
        )
    assigned = every[list(recipe.kept)]
    reference = _reference(recipe, variables, n_rows)
    return Effects(
        tuple(found), assigned, short, reference, assigned if reference is None else every
    )


def _reference(recipe: Recipe, variables: Sequence[Variable], n_rows: int) -> Floats | None:
    """Model matrix under treatment contrasts with the first level as reference."""
    if all(v.coding is None or v.coding.base == 0 or _is_short(v) for v in variables):
        return None
    coded = [v if v.coding is None or _is_short(v) else _treated(v) for v in variables]
    return model_matrix(lay_out(recipe.model.fixed, coded, n_rows), coded, n_rows)


def _treated(variable: Variable) -> Variable:
    assert variable.coding is not None
    coding = code_levels(None, variable.coding.levels, variable.key)
    return Variable(variable.key, variable.value, coding)


def _intercept(n_rows: int) -> Effect:
    return Effect(INTERCEPT, frozenset(), frozenset(), np.ones((n_rows, 1)))


def _effect(variables: Sequence[Variable], n_rows: int) -> Effect:
    part = tuple((i, v.coding is not None and not _is_short(v)) for i, v in enumerate(variables))
    width = int(np.prod([_width(variables[i], full) for i, full in part]))
    name = ":".join(v.key for v in variables)
    check_memory(n_rows, width, name)
    layout = Layout((part,), tuple(str(j) for j in range(width)), False)
    factors = [v for v in variables if v.coding is not None]
    return Effect(
        name,
        frozenset(v.key for v in factors),
        frozenset(v.key for v in variables if v.coding is None),
        model_matrix(layout, variables, n_rows),
        _empty_cells(factors) if len(factors) > 1 else (),
    )


def _is_short(variable: Variable) -> bool:
    coding = variable.coding
    if coding is None or not coding.rows:
        return False
    full = np.column_stack([np.ones(len(coding.rows)), np.array(coding.rows, dtype=np.float64)])
    return bool(np.linalg.matrix_rank(full) < len(coding.levels))


def _width(variable: Variable, full: bool) -> int:
    if variable.coding is not None:
        return len(variable.coding.levels) if full else len(variable.coding.suffixes)
    assert isinstance(variable.value, Numbers)
    return len(variable.value.suffixes)


def _empty_cells(factors: Sequence[Variable]) -> tuple[str, ...]:
    """Combinations of levels that no row has."""
    sizes = tuple(len(v.coding.levels) for v in factors if v.coding is not None)
    codes = [np.asarray(v.value.codes) for v in factors if not isinstance(v.value, Numbers)]
    seen = np.bincount(np.ravel_multi_index(codes, sizes), minlength=int(np.prod(sizes)))
    if seen.all():
        return ()
    named = [
        [v.key + level_text(level) for level in v.coding.levels]
        for v in factors
        if v.coding is not None
    ]
    cells = product(*named)
    return tuple(":".join(cell) for cell, count in zip(cells, seen, strict=True) if not count)
