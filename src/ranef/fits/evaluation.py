"""A fit evaluated at the rows of a table: matrices made once, and what the data determine.

Where columns of the fixed effects depend on each other, `estimability` says how far each row
is from one that the data determine.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ranef.design.specification import Specification
from ranef.fits.estimability import Redundancy, determined
from ranef.fits.protocol import Estimand, Evaluated
from ranef.formula.syntax import Name
from ranef.inference.coefficients.functions import Functions, gaps_of_values
from ranef.inference.rows.evaluated import Values
from ranef.models.rows import PartRows, Rows
from ranef.tables import Table
from ranef.tables.origin import Origin

__all__ = ["evaluated"]

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
Held = Mapping[str, Floats]

STATIONARY = ("ar1", "ou", "exp", "gau", "mat")


class Evaluating(Protocol):
    """A fit as it is evaluated."""

    @property
    def frame(self) -> Origin: ...
    @property
    def parts(self) -> Mapping[str, Specification]: ...
    @property
    def levels(self) -> tuple[Any, ...] | None: ...
    @property
    def redundancies(self) -> dict[str, Redundancy]: ...
    def values(self, rows: Rows, what: Estimand) -> Values: ...


def evaluated(fit: Evaluating, table: Table, what: Estimand, held: Held) -> Evaluated:
    """Evaluate a fit at every row of a table, see `Fit.evaluate`."""
    N = table.n_rows
    gaps, parts = [np.zeros((N, 0))], {}
    unseen = np.zeros(N, dtype=np.bool_)
    for name, spec in fit.parts.items():
        own = {key: v for key, v in held.items() if key in _keys(spec)}
        X, missing, gap = _fixed(fit, name, spec, table, own)
        if name in what.parts:
            gaps.append(gap)
            unseen |= missing
        offset = _offset(spec, table, what.offset if name in what.parts else None)
        parts[name] = PartRows(X, offset, _random(spec, table, own, what.effects))
    alone = np.flatnonzero(unseen)
    gaps.append((np.arange(N)[:, None] == alone).astype(np.float64))
    found = fit.values(Rows(parts), what)
    K = len(found.value) // max(N, 1)
    own_gaps = found.with_gap(gaps_of_values(np.hstack(gaps), K))
    functions = Functions(found.value, found.jacobian, own_gaps)
    if not found.linear:
        functions = Functions(found.value, found.jacobian, functions.own_gaps())
    categories = _categories(fit, K)
    return Evaluated(
        functions, found.knowledge, found.link, found.scale, unseen, found.linear, categories
    )


def _categories(fit: Evaluating, K: int) -> tuple[Any, ...] | None:
    """Categories of the response of K values a row: all, or all but the first."""
    if K <= 1:
        return None
    levels = fit.levels or ()
    return tuple(levels) if len(levels) == K else tuple(levels[1:])


def _fixed(
    fit: Evaluating, name: str, spec: Specification, table: Table, held: Held
) -> tuple[Floats, Bools, Floats]:
    """Fixed effects (N, p), rows without a value, and gaps (N, d) of one part."""
    whole = bool(spec.dropped_columns)
    X, kept = spec.recipe.fixed(table, held, redundant=whole, unseen_is_missing=True)
    gap = np.zeros((len(X), 0))
    if whole:
        X, gap = determined(fit, name, X)
    X[~kept] = 0.0  # `unseen` marks them
    return X, ~kept, gap


def _keys(spec: Specification) -> set[str]:
    model = spec.recipe.model
    return {*model.fixed.keys, *(key for bar in model.bars for key in bar.left.keys)}


def _offset(spec: Specification, table: Table, given: float | None) -> Floats | None:
    if spec.offset is None:
        return None
    if given is not None:
        return np.full(table.n_rows, given)
    if spec.recipe.offset_given:
        return np.full(table.n_rows, float(spec.offset.mean()))
    return spec.recipe.offset(table)


def _random(spec: Specification, table: Table, held: Held, effects: str | None) -> Any:
    """Codes and matrices of the random terms, zero for a term whose group is not named."""
    if effects is None:
        return None
    found = []
    for t, term in enumerate(spec.terms):
        z = spec.recipe.random_columns(_at_positions(spec, t, table), t, held)
        codes = np.full(table.n_rows, -1, dtype=np.int32)
        if effects == "own" and all(c in table for c in spec.factors[term.factor].columns):
            codes = spec.recipe.levels_of(table, t)
        elif effects == "own":
            z = np.zeros_like(z)
        found.append((codes, z))
    return found


def _at_positions(spec: Specification, t: int, table: Table) -> Table:
    """The table with a term's coordinates moved to the nearest that the fit has.

    The variance of these structures is the same at every position.
    """
    recipe, term = spec.recipe.random_recipes[t], spec.terms[t]
    names = [
        n.value for n in spec.recipe.model.bars[recipe.bar].left.variables if isinstance(n, Name)
    ]
    if recipe.positions is None or term.structure not in STATIONARY:
        return table
    if len(names) != recipe.positions.shape[1] or not all(name in table for name in names):
        return table
    here = np.column_stack([table.numeric(name) for name in names])
    far = ((here[:, None, :] - recipe.positions[None]) ** 2).sum(axis=2)
    nearest = recipe.positions[far.argmin(axis=1)]
    columns = {name: table.values(name) for name in table.columns}
    return Table.of({**columns, **dict(zip(names, nearest.T, strict=True))})
