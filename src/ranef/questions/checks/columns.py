"""The columns of the fixed effects: which term each belongs to, and how they depend."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ranef.design.specification import Specification

__all__ = ["FixedTerm", "VarianceInflation", "collinearity", "terms_of_columns"]

Floats = NDArray[np.float64]

INTERCEPT = "(Intercept)"


@dataclass(frozen=True)
class FixedTerm:
    """A term of the fixed effects.

    Attributes
    ----------
    name : str
    columns : tuple of int
        Its columns of X.
    interaction : bool
    """

    name: str
    columns: tuple[int, ...]
    interaction: bool


@dataclass(frozen=True, eq=False)
class VarianceInflation:
    """How much the coefficients of each term pay for the others.

    Attributes
    ----------
    terms : tuple of FixedTerm
    gvif : (t,) float64 array
        Generalised variance inflation.
    df : (t,) int array
        Columns of the term.
    condition : (p,) float64 array
        Condition indices of X with columns of unit length, ascending.
    proportions : (p, p) float64 array
        Share of each coefficient's variance (column) by condition index (row).
    """

    terms: tuple[FixedTerm, ...]
    gvif: Floats
    df: NDArray[np.int_]
    condition: Floats
    proportions: Floats

    @property
    def adjusted(self) -> Floats:
        """gvif^(1 / df): on the scale of a VIF whatever the number of columns."""
        return np.asarray(self.gvif ** (1.0 / self.df))


def terms_of_columns(
    spec: Specification, names: Sequence[str] | None = None
) -> tuple[FixedTerm, ...]:
    """Gather the columns of X by term of the formula; without the intercept.

    A column belongs to the term whose variables, in order, begin its name's parts; of
    several the longest.
    """
    keys = spec.recipe.model.fixed.keys
    terms = [tuple(keys[i] for i in term) for term in spec.recipe.model.fixed.terms]
    by_term: dict[tuple[str, ...], list[int]] = {}
    for j, name in enumerate(spec.names if names is None else names):
        if name == INTERCEPT:
            continue
        possible = [term for term in terms if _begins(name, term)]
        best = max(possible, key=lambda term: sum(map(len, term)), default=(name,))
        by_term.setdefault(best, []).append(j)
    return tuple(FixedTerm(":".join(t), tuple(c), len(t) > 1) for t, c in by_term.items())


def _begins(name: str, term: tuple[str, ...]) -> bool:
    """Tell whether a column's name can be that of the term."""
    if not name.startswith(term[0]):
        return False
    rest = name[len(term[0]) :]
    for key in term[1:]:
        place = rest.find(":" + key)
        if place < 0:
            return False
        rest = rest[place + 1 + len(key) :]
    return True


def collinearity(X: Floats, vcov: Floats, terms: Sequence[FixedTerm]) -> VarianceInflation:
    """Variance inflation of each term from the covariance of the coefficients.

    GVIF = det R_1 det R_2 / det R, R the correlation of the coefficients but the
    intercept's, R_1 the term's part, R_2 the others' (Fox & Monette 1992, J. Am. Stat.
    Assoc. 87); NaN where a coefficient is held, has no finite variance, or R no digits. Condition
    indices
    of Belsley, Kuh & Welsch (1980, Regression Diagnostics).
    """
    columns = [j for term in terms for j in term.columns]
    gvif = np.ones(len(terms))
    if columns and not np.all(np.diag(vcov)[columns] > 0):
        gvif[:] = np.nan
    elif columns:
        sd = np.sqrt(np.diag(vcov))[columns]
        R = vcov[np.ix_(columns, columns)] / np.outer(sd, sd)
        place = {j: i for i, j in enumerate(columns)}
        whole = np.linalg.slogdet(R)[1]
        for t, term in enumerate(terms):
            inside = [place[j] for j in term.columns]
            outside = [i for i in range(len(columns)) if i not in inside]
            parts = np.linalg.slogdet(R[np.ix_(inside, inside)])[1]
            parts += np.linalg.slogdet(R[np.ix_(outside, outside)])[1] if outside else 0.0
            gvif[t] = np.exp(parts - whole) if np.isfinite(whole) else np.nan
    if X.shape[1] == 0:
        nothing = np.empty((0, 0))
        return VarianceInflation((), gvif, np.empty(0, dtype=np.int_), np.empty(0), nothing)
    scale = np.sqrt(np.sum(X**2, axis=0))
    _, singular, Vt = np.linalg.svd((X / scale).T @ (X / scale))
    roots = np.sqrt(np.maximum(singular, 1e-300))
    phi = (Vt.T**2 / singular).T
    return VarianceInflation(
        tuple(terms),
        gvif,
        np.array([len(term.columns) for term in terms], dtype=np.int_),
        roots[0] / roots,
        phi / phi.sum(axis=0),
    )
