"""The specification: a model and its data as arrays, read once.

It is what `design` hands to `models`: nothing below this point sees a formula
or a data frame.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from ranef.design.recipe import Recipe

__all__ = ["Accounting", "GroupingFactor", "RandomTerm", "Specification"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int32]


@dataclass(frozen=True, eq=False)
class Accounting:
    """Which rows of the table are in the model, and why the others are not.

    Attributes
    ----------
    n_rows : int
        Rows of the table.
    kept : (n_rows,) bool array or None
        True where the row is used; None means every row.
    missing : dict
        Column name -> number of rows missing there (a row may count in
        several columns).
    n_zero_weight : int
        Rows dropped since their weight is zero, among those not missing.
    """

    n_rows: int
    kept: NDArray[np.bool_] | None = None
    missing: Mapping[str, int] = field(default_factory=dict)
    n_zero_weight: int = 0

    @property
    def n_used(self) -> int:
        return self.n_rows if self.kept is None else int(np.count_nonzero(self.kept))

    @property
    def n_dropped(self) -> int:
        return self.n_rows - self.n_used


@dataclass(frozen=True, eq=False)
class GroupingFactor:
    """A grouping factor: who belongs to which level.

    Attributes
    ----------
    name : str
        As in the formula and in tables: ``"Subject"``, ``"cask:batch"``.
    columns : tuple of str
        The columns it is made from, ``("cask", "batch")``.
    codes : (n,) int32 array
        Level of each used row, 0 .. n_levels - 1. Every level occurs.
    levels : sequence
        Labels in the user's order and type (an interaction's are strings
        joined by ``":"``).
    """

    name: str
    columns: tuple[str, ...]
    codes: Ints
    levels: Sequence[Any]

    @property
    def n_levels(self) -> int:
        return len(self.levels)


@dataclass(frozen=True, eq=False)
class RandomTerm:
    """One random-effects term after ``||`` and ``a/b`` are written out.

    Attributes
    ----------
    label : str
        ``"Days | Subject"``; of ``us``, ``diag`` ...: ``"diag(Days | Subject)"``.
    factor : int
        Index into `Specification.factors`.
    names : tuple of str
        Coefficient names of the r columns, ``("(Intercept)", "Days")``.
    z : (n, r) float64 array, C order
        Model matrix of the term; row i belongs to level ``codes[i]``.
    structure : str
        ``"us"``, ``"diag"``, ``"cs"`` ...: a name in `ranef.covariance`.
    rank : int or None
        Number of dimensions of ``rr``.
    positions : (r, d) float64 array or None
        Coordinates of the columns for ``ar1 ou exp gau mat`` (d = 1 for time).
    kernel : (q, q) float64 array or None
        Known covariance between levels, in the order of the factor's levels.
    """

    label: str
    factor: int
    names: tuple[str, ...]
    z: Floats
    structure: str = "us"
    rank: int | None = None
    positions: Floats | None = None
    kernel: Floats | None = None

    @property
    def size(self) -> int:
        return len(self.names)


@dataclass(frozen=True, eq=False)
class Specification:
    """A linear mixed model, or a part of a generalised one, as arrays.

    Attributes
    ----------
    formula : str
        As typed.
    response : str
        Name of the response, ``"Reaction"`` or ``"log(Reaction)"``.
    y : (n,) float64 array
    X : (n, p) float64 array, C order
        Fixed effects of full column rank.
    names : tuple of str
        Names of the p columns, R's way: ``"(Intercept)"``, ``"Days"``.
    dropped_columns : tuple of str
        Redundant columns that were left out of `X`.
    weights : (n,) float64 array or None
        All positive (rows of weight 0 are dropped): precisions in a linear model,
        factors of the log density in a generalised one.
    offset : (n,) float64 array or None
    terms : tuple of RandomTerm
        In formula order; at least one in a linear model.
    factors : tuple of GroupingFactor
        In order of first use.
    accounting : Accounting
    recipe : Recipe
        How to make the same matrices from another table.
    """

    formula: str
    response: str
    y: Floats
    X: Floats
    names: tuple[str, ...]
    dropped_columns: tuple[str, ...]
    weights: Floats | None
    offset: Floats | None
    terms: tuple[RandomTerm, ...]
    factors: tuple[GroupingFactor, ...]
    accounting: Accounting
    recipe: Recipe

    @property
    def n(self) -> int:
        return len(self.y)

    @property
    def p(self) -> int:
        return len(self.names)
