"""The next rows of groups whose residuals remember: the last ones tell of them.

Given the covariance parameters, a new row is predicted from all rows that it is correlated
with, by its level's effects or by its group's residuals (universal kriging; Goldberger 1962,
J. Am. Stat. Assoc. 57): with V of these rows, v its covariance with the new one and e their
distance from X beta,

    x'beta + v'V^-1 e,   error variance v_00 - v'V^-1 v + d' vcov d,   d = x - X'V^-1 v.

Further observations are added to those of the fit; beta and the parameters stay where the fit
has them, and count as known but for beta.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ranef.design.connected import connected_rows
from ranef.design.terms import GroupingFactor, ResidualTerm
from ranef.errors import ModelError
from ranef.inference.rows.history import Observed
from ranef.inference.rows.prediction import Prediction, interval_of
from ranef.models.noise import Noise
from ranef.models.records import LinearEstimate
from ranef.models.rows import PartRows
from ranef.solve.structured.rows import row_covariance

__all__ = ["predict_next"]

Floats = NDArray[np.float64]
Ints = NDArray[np.intp]

MOST = 6000
"""Rows that are correlated with a new one at most."""


@dataclass(frozen=True, eq=False)
class _Rows:
    """Rows of the fit, further observations and new rows, one below the other."""

    X: Floats
    rest: Floats  # of the new ones zero
    codes: tuple[Ints, ...]  # by random term; -1 of a level of its own
    z: tuple[Floats, ...]
    noise: Noise
    group: Ints
    known: int  # rows with a response


def predict_next(
    estimate: LinearEstimate,
    observed: Observed,
    rows: PartRows,
    *,
    conf_level: float | None,
    new: bool,
) -> Prediction:
    """Predict rows from those of the fit and further observations.

    Parameters
    ----------
    observed : Observed
        Observations that stand at a place of the fit's rows are those of the fit.
    rows : PartRows
        With `residual`.
    conf_level : float or None
    new : bool
        Interval of an observation, not of its mean given the others.

    Raises
    ------
    ModelError
        When levels are correlated by a kernel, or too many rows with one another.
    """
    spec = estimate.specification
    if any(term.kernel is not None for term in spec.terms):
        raise ModelError(
            "history= is not for levels that a kernel correlates beside residuals with a structure"
        )
    every = _stacked(estimate, _not_twice(estimate, observed), rows)
    first, count = every.known, len(rows.X)
    value = rows.X @ estimate.beta + (0.0 if rows.offset is None else rows.offset)
    variance, noise = np.empty(count), np.empty(count)
    component = connected_rows([codes[:first] for codes in (*every.codes, every.group)])
    touched = [_touched(every, component, first + i) for i in range(count)]
    for key in sorted(set(touched)):
        own = np.array([i for i in range(count) if touched[i] == key], dtype=np.intp)
        S = np.flatnonzero(np.isin(component[:first], key))
        if len(S) > MOST:
            raise ModelError(
                f"{len(S):,} rows are correlated with a new one, more than {MOST:,}: the random "
                "effects and the groups of the residuals connect them"
            )
        at = np.concatenate([S, first + own])
        R = estimate.sigma**2 * every.noise.covariance(at[None])[0]
        V = R + _by_effects(estimate, every, at)
        s = len(S)
        weights = np.linalg.solve(V[:s, :s], V[:s, s:]).T if s else np.zeros((len(own), 0))
        value[own] += weights @ every.rest[S]
        d = rows.X[own] - weights @ every.X[S]
        left = np.diag(V)[s:] - np.sum(weights * V[s:, :s], axis=1)
        variance[own] = left + np.sum(d @ estimate.coefficient_vcov * d, axis=1)
        told = np.linalg.solve(R[:s, :s], R[:s, s:]).T if s else np.zeros((len(own), 0))
        noise[own] = np.diag(R)[s:] - np.sum(told * R[s:, :s], axis=1)
    if conf_level is None:
        return Prediction(value)
    given = variance if new else np.maximum(variance - noise, 0.0)
    return interval_of(value, given, np.full(count, np.inf), conf_level)


def _by_effects(estimate: LinearEstimate, every: _Rows, at: Ints) -> Floats:
    """What the random effects give to the covariance of some rows."""
    out = np.zeros((len(at), len(at)))
    for psi, codes, z in zip(estimate.covariances, every.codes, every.z, strict=True):
        level = codes[at]
        same = (level[:, None] == level) & (level >= 0)[:, None]
        same |= np.eye(len(at), dtype=np.bool_)
        out += np.where(same, z[at] @ psi @ z[at].T, 0.0)
    return out


def _touched(every: _Rows, component: Ints, row: int) -> tuple[int, ...]:
    """The components that a new row is correlated with."""
    found: set[int] = set()
    for codes in (*every.codes, every.group):
        if codes[row] >= 0:
            found |= set(component[codes[: every.known] == codes[row]].tolist())
    return tuple(sorted(found))


def _not_twice(estimate: LinearEstimate, observed: Observed) -> Observed:
    """Leave out observations at places that rows of the fit have."""
    own, theirs = estimate.specification.residual, observed.rows.residual
    assert own is not None
    if theirs is None or own.group is None or theirs.group is None or not own.parts:
        return observed
    taken = {key: None for key in _places(own, _names(own))}
    kept = np.array([key not in taken for key in _places(theirs, _names(theirs))], dtype=np.bool_)
    at = np.flatnonzero(kept)
    rows = observed.rows
    group = replace(theirs.group, codes=theirs.group.codes[at])
    return Observed(
        PartRows(
            rows.X[at],
            None if rows.offset is None else rows.offset[at],
            None if rows.random is None else [(codes[at], z[at]) for codes, z in rows.random],
            None if rows.weights is None else rows.weights[at],
            residual=theirs.taken(at, group),
        ),
        observed.y[at],
        observed.labels,
    )


def _names(term: ResidualTerm) -> list[str]:
    """The group of each row by name."""
    assert term.group is not None
    return [str(term.group.levels[k]) for k in term.group.codes.tolist()]


def _places(term: ResidualTerm, names: list[str]) -> list[tuple[object, ...]]:
    columns = [np.asarray(part.where, dtype=float).reshape(len(names), -1) for part in term.parts]
    where = np.hstack(columns)
    return [(name, *row) for name, row in zip(names, where.tolist(), strict=True)]


def _stacked(estimate: LinearEstimate, observed: Observed, rows: PartRows) -> _Rows:
    """The rows of the fit, those observed and the new ones."""
    spec = estimate.specification
    offset = 0.0 if spec.offset is None else spec.offset
    more = 0.0 if observed.rows.offset is None else observed.rows.offset
    rest = spec.y - spec.X @ estimate.beta - offset
    further = observed.y - observed.rows.X @ estimate.beta - more
    random = list(zip(spec.terms, observed.rows.random or (), rows.random or (), strict=True))
    codes = tuple(
        np.concatenate([spec.factors[term.factor].codes, a[0], b[0]]).astype(np.intp)
        for term, a, b in random
    )
    n, H, N = spec.n, len(observed.y), len(rows.X)
    weights = [
        np.ones(count) if own is None else own
        for count, own in ((n, spec.weights), (H, observed.rows.weights), (N, rows.weights))
    ]
    term = _joined(spec.residual, observed.rows.residual, rows.residual)
    own = estimate.theta[len(estimate.theta) - row_covariance(term).n_parameters :]
    total = n + H + N
    group = np.full(total, -1) if term.group is None else term.group.codes.astype(np.intp)
    return _Rows(
        np.vstack([spec.X, observed.rows.X, rows.X]),
        np.concatenate([rest, further, np.zeros(N)]),
        codes,
        tuple(np.vstack([term.z, a[1], b[1]]) for term, a, b in random),
        Noise(term, np.concatenate(weights), total, own),
        group,
        n + H,
    )


def _joined(*terms: ResidualTerm | None) -> ResidualTerm:
    """One structure of several tables' rows, their groups matched by name."""
    parts = [term for term in terms if term is not None]
    first = parts[0]
    group, by = None, None
    if first.group is not None:
        names = [name for term in parts for name in _names(term)]
        levels = list(dict.fromkeys(names))
        place = {name: k for k, name in enumerate(levels)}
        codes = np.array([place[name] for name in names], dtype=np.int32)
        group = GroupingFactor(first.group.name, first.group.columns, codes, levels)
    if first.by is not None:
        codes = np.concatenate([term.by.codes for term in parts if term.by is not None])
        by = replace(first.by, codes=codes)
    where = [
        replace(part, where=np.concatenate([term.parts[i].where for term in parts]))
        for i, part in enumerate(first.parts)
    ]
    W = np.vstack([term.W for term in parts])
    return replace(first, group=group, parts=tuple(where), by=by, W=W)
