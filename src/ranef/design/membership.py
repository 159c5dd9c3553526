"""Rows that belong to several levels of one factor, with weights.

The effects of the q levels are the columns of one term, independent with one variance, and a row
of its matrix holds the weights of the row's levels. One column more stands for levels that the
fit has not seen: its effect has no data, and the same variance.
(Browne, Goldstein & Rasbash 2001, Stat. Model. 1; Hill & Goldstein 1998, J. Educ. Behav. Stat. 23)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ranef.design.grouping import GroupRecipe
from ranef.design.terms import GroupingFactor
from ranef.design.values import Categories, drop_unused, match_levels
from ranef.errors import DataError, row_text
from ranef.formula.labels import count_text
from ranef.formula.membership import Membership
from ranef.formula.model import Grouping

__all__ = ["Memberships", "membership_factor", "membership_matrix", "memberships_of"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int32]
EVERYONE = "all"


@dataclass(frozen=True, eq=False)
class Memberships:
    """The levels of each row and how much each counts.

    Attributes
    ----------
    columns : tuple of Categories
        Code -1 where there is no such membership.
    weights : (N, k) float64 array
        Zero where there is none.
    """

    columns: tuple[Categories, ...]
    weights: Floats

    def codes(self, levels: Sequence[Any]) -> Ints:
        """Codes (N, k) of the memberships among levels: -1 where there is none of them."""
        return np.column_stack([match_levels(column, levels)[0] for column in self.columns])

    def unseen(self, levels: Sequence[Any]) -> tuple[list[Any], int]:
        """Return levels that are not among these, and in how many rows they stand."""
        found: dict[Any, None] = {}
        rows = np.zeros(len(self.weights), dtype=np.bool_)
        for column in self.columns:
            new = match_levels(column, levels)[1]
            rows |= new
            found |= dict.fromkeys(column.levels[k] for k in np.unique(column.codes[new]).tolist())
        return list(found), int(rows.sum())


def memberships_of(
    columns: Sequence[Categories], given: Sequence[Floats] | None, own: Membership
) -> Memberships:
    """Bring the memberships of N rows together.

    Parameters
    ----------
    columns : sequence of Categories
    given : sequence of (N,) arrays or None
        Their weights; None counts all alike.
    own : Membership

    Raises
    ------
    DataError
        When weights are negative, or none of a row's is above zero, where they are to sum to one.
    """
    there = np.column_stack([column.codes >= 0 for column in columns])
    weights = there.astype(np.float64)
    if given is not None:
        weights = np.where(there, np.column_stack(given), 0.0)
    if own.scale:
        weights = _scaled(weights, there, own)
    return Memberships(tuple(columns), weights)


def _scaled(weights: Floats, there: NDArray[np.bool_], own: Membership) -> Floats:
    """Weights that sum to one in each row; NaN where there is no membership."""
    known = np.isfinite(weights).all(axis=1) & there.any(axis=1)
    negative = np.flatnonzero(known & (weights < 0).any(axis=1))
    if len(negative):
        raise DataError(
            f"a weight of {own.name} is negative in {count_text(len(negative), 'row')} (first in "
            f"{row_text(int(negative[0]))}), so that weights cannot sum to one; scale = FALSE "
            "takes them as they are"
        )
    total = weights.sum(axis=1)
    empty = np.flatnonzero(known & (total == 0))
    if len(empty):
        raise DataError(
            f"all weights of {own.name} are zero in {count_text(len(empty), 'row')} (first in "
            f"{row_text(int(empty[0]))}); leave such rows out, or give a membership a weight"
        )
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(np.where(total[:, None] > 0, weights / total[:, None], np.nan))


def membership_factor(group: Grouping, found: Memberships) -> tuple[GroupRecipe, GroupingFactor]:
    """Make the factor of memberships: its levels are those of all columns.

    As a grouping factor it has one level, to which all rows belong.
    """
    levels: list[Any] = []
    for column in found.columns:
        used = drop_unused(column)
        unseen = match_levels(used, levels)[1]
        levels += [used.levels[k] for k in np.unique(used.codes[unseen]).tolist()]
    cells = np.arange(len(levels), dtype=np.int32)[:, None]
    recipe = GroupRecipe(group.keys, (tuple(levels),), cells)
    codes = np.zeros(len(found.weights), dtype=np.int32)
    factor = GroupingFactor(group.name, group.columns, codes, [EVERYONE], tuple(levels))
    return recipe, factor


def membership_matrix(found: Memberships, levels: Sequence[Any], z: Floats) -> Floats:
    """Spread a column (N, 1) over the levels, (N, q + 1), by the rows' weights.

    The last column is for levels that are not among these: independent effects of a row's
    such levels count together as one of weight sqrt(sum of squares).

    Examples
    --------
    >>> one = Categories(np.array([0, 1], dtype=np.int32), ["a", "x"])
    >>> two = Categories(np.array([1, -1], dtype=np.int32), ["a", "b"])
    >>> rows = Memberships((one, two), np.array([[0.25, 0.75], [1.0, 0.0]]))
    >>> membership_matrix(rows, ["a", "b"], np.ones((2, 1)))
    array([[0.25, 0.75, 0.  ],
           [0.  , 0.  , 1.  ]])
    """
    codes, weights = found.codes(levels), found.weights
    out = np.zeros((len(weights), len(levels) + 1))
    rows = np.arange(len(weights))
    for j in range(codes.shape[1]):
        known = codes[:, j] >= 0
        np.add.at(out, (rows[known], codes[known, j]), weights[known, j])
    out[:, -1] = np.sqrt(np.sum(np.where(codes < 0, weights, 0.0) ** 2, axis=1))
    return np.asarray(out * z)
