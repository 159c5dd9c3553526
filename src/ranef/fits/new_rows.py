"""Rows to predict: from the model itself or from a new table."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ranef.design.specification import Specification
from ranef.errors import DataError, ModelError, UnknownColumnError, suggestion
from ranef.fits.estimability import Redundant, determined
from ranef.models.records import CONDITIONAL
from ranef.models.rows import PartRows, Rows
from ranef.tables import Table
from ranef.tables.accounting import Accounting
from ranef.tables.origin import Origin

__all__ = ["Chosen", "chosen_terms", "only_terms", "read_rows"]

Chosen = Mapping[str, Collection[int]]
"""Of each part of a model, indices of random terms."""

Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]


def read_rows(
    fit: Redundant,
    new: Any,
    effects: str | None,
    *,
    trials: bool = False,
    weights: bool = False,
    noise: str | None = None,
    chosen: Chosen | None = None,
) -> tuple[Rows, Origin]:
    """Read a new table as the matrices of every part; rows with a missing value are left out.

    Parameters
    ----------
    fit : a fit, or what has its parts and the rows it was made from
    new : table
    effects : str or None
        What is needed of the random effects: those of the rows' ``"own"`` levels, of
        ``"new"`` levels, or nothing.
    trials : bool
        Read numbers of trials, where the family has them.
    weights : bool
        Read the precision weights of new observations.
    noise : str or None
        Read where new observations stand in the structure of the residuals, each by itself
        (``"single"``), or all of them, correlated within their groups (``"together"``).
    chosen : dict, optional
        Of each part the random terms that count, see `chosen_terms`; groups of others need
        not be in the table.
    """
    table = new if isinstance(new, Table) else Table.of(new)
    read = {name: _all_rows(fit, name, table, effects, chosen) for name in fit.parts}
    kept = np.logical_and.reduce([own for _, own in read.values()])
    recipe = fit.parts[CONDITIONAL].recipe
    extra = recipe.trials(table) if trials else None
    if extra is not None:
        kept = kept & np.isfinite(extra)
        extra = extra[kept]
    precision = _weights(recipe.weights_column, table) if weights else None
    if precision is not None:
        kept = kept & np.isfinite(precision)
        rows, own = read[CONDITIONAL]
        read[CONDITIONAL] = replace(rows, weights=precision), own
    spec = fit.parts[CONDITIONAL]
    apart = None
    if noise is None:
        recipe.check_places(table)
    if noise is not None and spec.residual is not None:
        apart, own = recipe.noise(table, spec.residual, noise == "together")
        kept = kept & own
        if apart is not None:
            apart = apart.taken(np.flatnonzero(kept[own]))
    parts = {name: _taken(rows, kept) for name, (rows, _) in read.items()}
    if apart is not None:
        parts[CONDITIONAL] = replace(parts[CONDITIONAL], residual=apart)
    return Rows(parts, extra), _frame(table, kept)


def _frame(table: Table, kept: Bools) -> Origin:
    return Origin.of(table, Accounting(table.n_rows, None if kept.all() else kept))


def _all_rows(
    fit: Redundant, name: str, table: Table, effects: str | None, chosen: Chosen | None
) -> tuple[PartRows, Bools]:
    """Matrices of all rows of the table, and which rows lack nothing."""
    spec = fit.parts[name]
    recipe, gap, whole = spec.recipe, None, bool(spec.dropped_columns)
    X, kept = recipe.fixed(table, redundant=whole)
    if whole:
        X, gap = determined(fit, name, X)
    offset = recipe.offset(table)
    terms: list[tuple[NDArray[np.int32], Floats]] = []
    if effects == "own":
        counted = range(len(spec.terms)) if chosen is None else chosen[name]
        kept = kept & _known_groups(spec, table, counted)
        terms = [
            recipe.random(table, t) if t in counted else _left_out(spec, t, table.n_rows)
            for t in range(len(spec.terms))
        ]
    elif effects == "new":
        unseen = np.full(table.n_rows, -1, dtype=np.int32)
        terms = [(unseen, recipe.random_columns(table, t)) for t in range(len(spec.terms))]
    for values in (offset, *(z for _, z in terms)):
        if values is not None:
            finite = np.isfinite(values)
            kept = kept & (finite if finite.ndim == 1 else finite.all(axis=1))
    return PartRows(X, offset, terms if effects else None, None, gap), kept


def _left_out(spec: Specification, t: int, n: int) -> tuple[NDArray[np.int32], Floats]:
    """Codes and matrix of a term that does not count: of any level, nothing."""
    return np.zeros(n, dtype=np.int32), np.zeros((n, spec.terms[t].size))


def chosen_terms(fit: Redundant, terms: Sequence[str]) -> Chosen:
    """Find random terms by their labels, ``"(1 | item)"``, or by their grouping factors.

    Raises
    ------
    ModelError
        When a name is that of no term.
    """
    if isinstance(terms, str) or not all(isinstance(term, str) for term in terms):
        raise ModelError('terms is a list of random terms, such as ["(1 | item)"]')
    wanted = {_plain(term): term for term in terms}
    found: dict[str, set[int]] = {name: set() for name in fit.parts}
    matched: set[str] = set()
    known: dict[str, None] = {}
    for name, spec in fit.parts.items():
        for t, term in enumerate(spec.terms):
            known[f"({term.label})"] = None
            own = {_plain(term.label), _plain(spec.factors[term.factor].name)} & wanted.keys()
            matched |= own
            if own:
                found[name].add(t)
    for key in wanted.keys() - matched:
        raise ModelError(
            f"no random term {wanted[key]!r}{suggestion(wanted[key], list(known))}; "
            f"there are {', '.join(known)}"
        )
    return found


def _plain(term: str) -> str:
    """A term without blanks and outer parentheses."""
    bare = "".join(term.split())
    return bare[1:-1] if bare.startswith("(") and bare.endswith(")") else bare


def only_terms(rows: Rows, chosen: Chosen) -> Rows:
    """Return the rows with the effects of some terms alone, the others set to zero."""
    parts = {}
    for name, part in rows.parts.items():
        random = [
            (codes, z if t in chosen[name] else np.zeros_like(z))
            for t, (codes, z) in enumerate(part.random or ())
        ]
        parts[name] = replace(part, random=random)
    return replace(rows, parts=parts)


def _taken(rows: PartRows, kept: Bools) -> PartRows:
    """The rows that lack nothing."""
    take = slice(None) if kept.all() else kept
    return PartRows(
        rows.X[take],
        None if rows.offset is None else rows.offset[take],
        None if rows.random is None else [(codes[take], z[take]) for codes, z in rows.random],
        None if rows.weights is None else rows.weights[take],
        None if rows.gap is None else rows.gap[take],
    )


def _weights(column: str | None, table: Table) -> NDArray[np.float64] | None:
    """Precision weights of the rows, where the model's column of weights is there."""
    if column is None or column not in table:
        return None
    weights = table.numeric(column)
    wrong = int(np.count_nonzero(weights <= 0))
    if wrong:
        raise DataError(f"weights must be positive; column {column!r} has {wrong} that are not")
    return weights


def _known_groups(spec: Specification, table: Table, counted: Collection[int]) -> Bools:
    """False where the label of a grouping factor is missing."""
    known = np.ones(table.n_rows, dtype=np.bool_)
    factors = [spec.factors[spec.terms[t].factor] for t in sorted(counted)]
    optional = {c for f in factors if f.members is not None for c in f.columns}
    needed = {c for f in factors if f.members is None for c in f.columns}
    for column in dict.fromkeys(c for f in factors for c in f.columns):
        if column not in table:
            raise UnknownColumnError(
                f"the new table has no column {column!r}{suggestion(column, table.columns)}; "
                "a conditional prediction needs the grouping factors "
                "(kind='typical' does without)"
            )
        if column in needed or column not in optional:
            known &= table.codes(column)[0] >= 0
    return known
