"""Random-effects terms and their grouping factors, as arrays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ranef.covariance.vocabulary import HOMOGENEOUS
from ranef.errors import ModelError

__all__ = [
    "FITTED_MEAN",
    "GroupingFactor",
    "RandomTerm",
    "RareColumn",
    "ResidualPart",
    "ResidualScale",
    "ResidualTerm",
    "rare_columns",
]

Floats = NDArray[np.float64]
Ints = NDArray[np.int32]


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
    members : tuple or None
        Where a row may belong to several levels, ``mm(a, b)``: these levels, whose effects are
        the columns of the factor's terms. The factor itself has one level then, of all rows.
    """

    name: str
    columns: tuple[str, ...]
    codes: Ints
    levels: Sequence[Any]
    members: tuple[Any, ...] | None = None

    @cached_property
    def n_levels(self) -> int:
        return len(self.levels)

    @property
    def shown(self) -> Sequence[Any]:
        """The levels that have effects: those of memberships, where there are such."""
        return self.levels if self.members is None else self.members

    def lies_within(self, codes: NDArray[np.integer[Any]]) -> bool:
        """Tell whether the rows of each level share one code (n,): it is nested in theirs."""
        first = np.zeros(self.n_levels, dtype=codes.dtype)
        first[self.codes] = codes
        return bool(np.array_equal(first[self.codes], codes))


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
    tie : str or None
        Label of effects that several parts of a model share: each part's term has all r
        columns, those of other parts zero in `z`, and their names begin with the part's.
    parts : tuple of str
        The part of each column of a tied term; empty of others.
    member : str or None
        Of memberships, whose columns are levels: the effect that these have,
        ``"(Intercept)"``. The last column stands for levels that the fit has not seen.
    """

    label: str
    factor: int
    names: tuple[str, ...]
    z: Floats
    structure: str = "us"
    rank: int | None = None
    positions: Floats | None = None
    kernel: Floats | None = None
    tie: str | None = None
    parts: tuple[str, ...] = ()
    member: str | None = None

    @cached_property
    def size(self) -> int:
        return len(self.names)

    def columns_of(self, part: str) -> tuple[int, ...]:
        """The columns that enter one part of a model; all of a term that is not tied."""
        if not self.parts:
            return tuple(range(self.size))
        return tuple(j for j, own in enumerate(self.parts) if own == part)

    def name_in(self, part: str, name: str) -> str:
        """The name of a column, or of a parameter's effect, without that of its part."""
        return name.removeprefix(f"{part}: ") if part in self.parts else name

    def names_in(self, part: str) -> tuple[str, ...]:
        """Names of the r columns in one part of a model; empty those of other parts."""
        if not self.parts:
            return self.names
        own = self.columns_of(part)
        return tuple(
            self.name_in(part, name) if j in own else "" for j, name in enumerate(self.names)
        )

    def part_of(self, name: str, default: str) -> str:
        """The part of a column by its name; `default` of a term that is not tied."""
        return self.parts[self.names.index(name)] if name in self.names and self.parts else default


@dataclass(frozen=True, eq=False)
class ResidualPart:
    """One structure of the residuals of a group; a product has several.

    Attributes
    ----------
    kind : str
        A name in `ranef.covariance.between_rows`.
    names : tuple of str
        Of the places, in order; empty where coordinates count.
    where : (n,) int64 or (n, d) float64 array
        Place of each row, or its coordinates.
    nugget : bool
    order : tuple of int or None
        Of an ARMA process.
    lags : tuple of int
        At which rows of a group stand, of a structure that has a parameter for each.
    """

    kind: str
    names: tuple[str, ...]
    where: NDArray[Any]
    nugget: bool = False
    order: tuple[int, int] | None = None
    lags: tuple[int, ...] = ()


FITTED_MEAN = "(fitted mean)"
"""Name of the column of the residual scale that is the logarithm of the fitted mean."""


@dataclass(frozen=True, eq=False)
class ResidualScale:
    """A column w of the logarithm of the residual standard deviation, log sigma + w gamma.

    Attributes
    ----------
    parameter : str
        What it is in tables: ``"sd"`` (of rows where w is 1), ``"power"`` or ``"exponent"``.
    name : str
    """

    parameter: str
    name: str


@dataclass(frozen=True, eq=False)
class ResidualTerm:
    """Covariance of the residuals, relative to sigma^2: S R S within groups, S diagonal.

    Attributes
    ----------
    label : str
        ``"ar1(time | person)"``; empty where only the standard deviation varies.
    group : GroupingFactor or None
        Whose levels hold rows that are correlated; None where no rows are.
    parts : tuple of ResidualPart
        R is the product of their correlations.
    by : GroupingFactor or None
        The parameters of `parts` are those of its levels, each for itself.
    scales : tuple of ResidualScale
    W : (n, k) float64 array
        log S = W gamma.
    dispersion : str or None
        Formula of the standard deviation, as typed.
    stated : tuple of str
        The sequence of structures that this one was taken from, where one was stated.
    reasons : tuple of str
        Why each of those before it was passed over.
    """

    label: str
    group: GroupingFactor | None
    parts: tuple[ResidualPart, ...]
    by: GroupingFactor | None
    scales: tuple[ResidualScale, ...]
    W: Floats
    dispersion: str | None = None
    stated: tuple[str, ...] = ()
    reasons: tuple[str, ...] = ()

    @property
    def of_mean(self) -> int | None:
        """Which column of W is the logarithm of the fitted mean; None where none is."""
        own = [k for k, scale in enumerate(self.scales) if scale.name == FITTED_MEAN]
        return own[0] if own else None

    def with_mean(self, mean: Floats) -> ResidualTerm:
        """Return the structure of rows with this fitted mean (n,).

        Raises
        ------
        ModelError
            Where a mean is zero, which has no power.
        """
        k = self.of_mean
        if k is None:
            return self
        size = np.abs(mean)
        if not np.all(size > SMALLEST_MEAN * size.max(initial=0.0)):
            raise ModelError(
                "power(mean) needs fitted means away from zero, and some are zero: use a column "
                "of the table, such as power(x), or another formula"
            )
        W = self.W.copy()
        W[:, k] = np.log(size)
        return replace(self, W=W)

    def taken(self, rows: NDArray[np.intp], group: GroupingFactor | None = None) -> ResidualTerm:
        """Return the structure of some of the rows, in this order.

        `group` stands for the groups where a row may come more than once.
        """
        own = self.group if group is not None else _taken_factor(self.group, rows)
        return replace(
            self,
            group=group or own,
            parts=tuple(replace(part, where=part.where[rows]) for part in self.parts),
            by=None if self.by is None else replace(self.by, codes=self.by.codes[rows]),
            W=np.ascontiguousarray(self.W[rows]),
        )


def _taken_factor(factor: GroupingFactor | None, rows: NDArray[np.intp]) -> GroupingFactor | None:
    """The factor of some rows, with the levels that occur."""
    if factor is None:
        return None
    kept, codes = np.unique(factor.codes[rows], return_inverse=True)
    levels = [factor.levels[k] for k in kept.tolist()]
    return replace(factor, codes=codes.reshape(-1).astype(np.int32), levels=levels)


SMALLEST_MEAN = 1e-10
"""Of a fitted mean, relative to the largest."""
FEW_ROWS = 2
"""Rows in which a column is not zero, up to which its variance rests on next to nothing."""


@dataclass(frozen=True)
class RareColumn:
    """A column of a random term that is zero in all but a few rows.

    Attributes
    ----------
    name : str
    rows, levels : int
        Rows in which it is not zero, and levels of the factor that have such rows.
    """

    name: str
    rows: int
    levels: int


def rare_columns(term: RandomTerm, factor: GroupingFactor) -> tuple[RareColumn, ...]:
    """List the columns whose variance rests on a row or two, or on one level of many.

    Columns that share one variance, as the times of ``ou`` do, have none of their own.
    """
    found: list[RareColumn] = []
    if term.member is not None or (term.structure in HOMOGENEOUS and term.size > 1):
        return ()
    for name, column in zip(term.names, term.z.T, strict=True):
        rows = np.flatnonzero(column)
        levels = len(np.unique(factor.codes[rows])) if len(rows) < factor.n_levels else None
        if len(rows) <= FEW_ROWS or levels == 1:
            found.append(RareColumn(name, len(rows), levels or 1))
    return tuple(found)
