"""Denominator degrees of freedom by strata: the inner-outer rule of nested groups."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from ranef.design.specification import Specification
from ranef.design.terms import GroupingFactor
from ranef.errors import ModelError

__all__ = ["Strata", "strata"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int_]

CONSTANT = 1e-9
"""A column that varies less than this within a group, relative to its size, is constant there."""


@dataclass(frozen=True, eq=False)
class Strata:
    """The nested levels of grouping, coarsest first, and the stratum of every coefficient.

    Attributes
    ----------
    factors : tuple of str
        Names of the Q grouping factors; stratum Q + 1 is that of the rows.
    sizes : (Q + 1,) int array
        m_i: groups of each factor, then rows.
    counts : (Q + 1,) int array
        p_i: coefficients of each stratum, the intercept not among them.
    df : (Q + 1,) float64 array
        Of each stratum; NaN where none are left.
    stratum : (p,) int array
        From 0 for each coefficient; the intercept has the last, Q.
    """

    factors: tuple[str, ...]
    sizes: Ints
    counts: Ints
    df: Floats
    stratum: Ints

    def degrees_of_freedom(self, L: Floats) -> Floats:
        """Smallest df among the coefficients that each row of L (q, p) involves."""
        own = self.df[self.stratum]
        size = np.abs(L).max(axis=1, initial=0.0, keepdims=True)
        involved = np.abs(L) > 1e-10 * size
        spent = np.any(involved & np.isnan(own), axis=1)
        smallest = np.where(involved, np.nan_to_num(own, nan=np.inf), np.inf).min(
            axis=1, initial=np.inf
        )
        return np.where(spent | ~involved.any(axis=1), np.nan, smallest)


def strata(spec: Specification) -> Strata:
    """Find the stratum of each fixed effect and its degrees of freedom.

    With the grouping factors i = 1 .. Q from the coarsest to the finest, m_i their
    groups, m_0 = 1 if there is an intercept and 0 if not, and m_{Q+1} = n, a coefficient
    belongs to the first stratum within whose groups its column does not vary (stratum
    Q + 1 if it varies within all). With p_i coefficients in stratum i,

        df_i = m_i - (m_{i-1} + p_i).

    The intercept counts in none and takes df_{Q+1}. (Pinheiro & Bates 2000, section 2.4.2.)

    Raises
    ------
    ModelError
        When the grouping factors cross, or a kernel relates their levels.
    """
    factors = _nested_factors(spec)
    constant = [_constant_within(spec.X, factor.codes) for factor in factors]
    intercept = _constant_within(spec.X, np.zeros(spec.n, dtype=np.int32))
    Q = len(factors)
    stratum = np.full(spec.p, Q)
    for i in reversed(range(Q)):
        stratum[constant[i]] = i
    stratum[intercept] = Q
    counts = np.bincount(stratum[~intercept], minlength=Q + 1)
    sizes = np.array([*(factor.n_levels for factor in factors), spec.n])
    before = np.array([int(intercept.any()), *sizes[:-1]])
    df = (sizes - before - counts).astype(np.float64)
    df[df <= 0] = np.nan
    return Strata(tuple(f.name for f in factors), sizes, counts, df, stratum)


def _nested_factors(spec: Specification) -> list[GroupingFactor]:
    """The grouping factors of the random effects, coarsest first, each partition once."""
    for term in spec.terms:
        if term.kernel is not None:
            raise ModelError(
                f"df='containment' counts groups, and a kernel relates those of {term.label!r} to "
                "each other; use df='kenward-roger' or df='satterthwaite'"
            )
        if term.member is not None:
            raise ModelError(
                "df='containment' counts groups of rows, and a row may belong to several levels of "
                f"{term.label!r}; use df='kenward-roger' or df='satterthwaite'"
            )
    used = sorted({term.factor for term in spec.terms})
    order = sorted((spec.factors[i] for i in used), key=lambda f: f.n_levels)
    for coarse, fine in pairwise(order):
        if not _nests(fine, coarse):
            raise ModelError(
                f"df='containment' is defined for nested grouping factors; {coarse.name!r} and "
                f"{fine.name!r} cross, so that no stratum belongs to a coefficient; use "
                "df='kenward-roger' or df='satterthwaite'"
            )
    distinct = {factor.n_levels: factor for factor in reversed(order)}
    return [distinct[levels] for levels in sorted(distinct)]


def _nests(fine: GroupingFactor, coarse: GroupingFactor) -> bool:
    parent = np.empty(fine.n_levels, dtype=np.int32)
    parent[fine.codes] = coarse.codes
    return bool(np.array_equal(parent[fine.codes], coarse.codes))


def _constant_within(X: Floats, codes: NDArray[np.int32]) -> NDArray[np.bool_]:
    """Which columns of X (n, p) do not vary within any group."""
    order = np.argsort(codes, kind="stable")
    first = np.flatnonzero(np.diff(codes[order], prepend=-1))
    rows = X[order]
    spread = np.maximum.reduceat(rows, first) - np.minimum.reduceat(rows, first)
    size = np.abs(X).max(axis=0)
    constant: NDArray[np.bool_] = spread.max(axis=0) <= CONSTANT * size
    return constant
