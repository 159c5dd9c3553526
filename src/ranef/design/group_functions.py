"""``within`` and ``between``: a predictor's parts within groups and between them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ranef.design.arguments import Arguments, read_categories
from ranef.design.centring import crossed_effects, fitted_effects, group_means
from ranef.design.grouping import cross
from ranef.design.scope import Scope
from ranef.design.state import CrossedMeans, GroupMeans
from ranef.design.values import Categories, Numbers, Value, match_levels
from ranef.formula.syntax import Binary, Call, Name, Node, Sum

__all__ = ["Groups", "between", "grouping", "within"]

Floats = NDArray[np.float64]

JOINT = "\x1f"
"""Between the parts of a cell's name; no label has it."""


@dataclass(frozen=True)
class Groups:
    """One factor of a grouping, a column or several combined.

    Attributes
    ----------
    node : Node
        ``person``, ``person/day`` or ``person:day``.
    """

    node: Node

    @property
    def columns(self) -> tuple[Node, ...]:
        """The columns that make it, the outermost first."""
        node = self.node.bare
        if isinstance(node, Binary) and node.operator in ("/", ":"):
            return Groups(node.left).columns + Groups(node.right).columns
        return (node,)

    @property
    def around(self) -> Groups | None:
        """The groups in which these lie, of nested ones."""
        node = self.node.bare
        nested = isinstance(node, Binary) and node.operator == "/"
        return Groups(node.left) if nested else None  # type: ignore[union-attr]

    @property
    def name(self) -> str:
        """Its innermost column, as it stands in the names of the parts."""
        node = self.node.bare
        if isinstance(node, Binary) and node.operator == "/":
            return Groups(node.right).name
        return "_".join(
            part.value if isinstance(part, Name) else part.printed for part in self.columns
        )


def within(node: Call, scope: Scope) -> Value:
    """Deviation from the mean of the row's finest cell, or from what crossed factors explain."""
    given = Arguments(node, ("x", "g"))
    factors = grouping(given.node_of("g"))
    x = given.rows("x", scope)
    if len(factors) == 1:
        return Numbers(x - _means(given, factors[0], scope))
    return Numbers(x - _crossed(given, factors, scope))


def between(node: Call, scope: Scope) -> Value:
    """Mean of the row's group; of nested groups its deviation from the mean around it."""
    given = Arguments(node, ("x", "g"))
    factors = grouping(given.node_of("g"))
    if len(factors) > 1:
        x = given.node_of("x").printed
        terms = " + ".join(f"between({x}, {factor.node.printed})" for factor in factors)
        raise given.error(f"takes one factor or nested ones; of crossed ones write {terms}")
    means, around = _means(given, factors[0], scope), factors[0].around
    return Numbers(means if around is None else means - _means(given, around, scope))


def grouping(node: Node) -> list[Groups]:
    """Return the crossed factors of a grouping; one where nothing is crossed."""
    bare = node.bare
    if isinstance(bare, Sum) and set(bare.signs) == {"+"}:
        return [factor for part in bare.parts for factor in grouping(part)]
    return [Groups(bare)]


def _categories(given: Arguments, groups: Groups, scope: Scope) -> Categories:
    """The row's group; a cell of several columns by a name made of all its parts."""
    columns = [read_categories(node, given.node, scope) for node in groups.columns]
    if len(columns) == 1:
        return columns[0]
    crossed = cross(columns)
    return Categories(crossed.codes, crossed.labels(JOINT), complete=True)


def _means(given: Arguments, groups: Groups, scope: Scope) -> Floats:
    """Mean of x in the row's group: the fit's, or of the new rows for a new group."""
    x = given.rows("x", scope)
    levels = _categories(given, groups, scope)
    key = f"mean({given.node_of('x').printed}, {groups.node.printed})"
    means = group_means(x, levels.codes, len(levels.levels), scope.used)
    if scope.fitting:
        occur = ~np.isnan(means)
        scope.state[key] = GroupMeans(_taken(levels.levels, occur), tuple(means[occur].tolist()))
    else:
        state = scope.remembered(key, GroupMeans)
        place, unseen = _places(levels, state.levels)
        means = np.where(unseen, means, np.array([*state.means, np.nan])[place])
    return np.append(means, np.nan)[levels.codes]


def _crossed(given: Arguments, factors: Sequence[Groups], scope: Scope) -> Floats:
    """What all factors together say of x: the fit's effects, of new levels those of new rows."""
    x = given.rows("x", scope)
    columns = [_categories(given, factor, scope) for factor in factors]
    key = f"effects({given.node_of('x').printed}, {given.node_of('g').printed})"
    known = ~np.isnan(x) if scope.used is None else scope.used & ~np.isnan(x)
    for column in columns:
        known = known & (column.codes >= 0)
    if scope.fitting:
        center = float(x[known].mean()) if known.any() else 0.0
        earlier = [np.zeros(len(c.levels)) for c in columns]
        free = [np.ones(len(c.levels), dtype=bool) for c in columns]
    else:
        state = scope.remembered(key, CrossedMeans)
        center, earlier, free = state.center, [], []
        for column, levels, effects in zip(columns, state.levels, state.effects, strict=True):
            place, unseen = _places(column, levels)
            earlier.append(np.where(unseen, 0.0, np.array([*effects, 0.0])[place]))
            free.append(unseen)
    codes = [column.codes[known] for column in columns]
    rest = x[known] - center - fitted_effects(earlier, codes)
    found = crossed_effects(rest, codes, free)
    effects = [a + b for a, b in zip(earlier, found, strict=True)]
    if scope.fitting:
        occur = [np.bincount(c, minlength=len(e)) > 0 for c, e in zip(codes, effects, strict=True)]
        scope.state[key] = CrossedMeans(
            center,
            tuple(_taken(c.levels, o) for c, o in zip(columns, occur, strict=True)),
            tuple(tuple(e[o].tolist()) for e, o in zip(effects, occur, strict=True)),
        )
    return center + fitted_effects(effects, [column.codes for column in columns])


def _taken(levels: Sequence[Any], mask: NDArray[np.bool_]) -> tuple[Any, ...]:
    return tuple(v for v, here in zip(levels, mask.tolist(), strict=True) if here)


def _places(value: Categories, levels: Sequence[Any]) -> tuple[Any, NDArray[np.bool_]]:
    """Where each level of a table is among those of the fit, and which are new."""
    every = Categories(np.arange(len(value.levels), dtype=np.int32), value.levels)
    return match_levels(every, levels)
