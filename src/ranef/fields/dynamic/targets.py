"""Rows to be predicted and the outcomes before them, of the fit or of tables."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ranef.design.terms import GroupingFactor
from ranef.errors import DataError
from ranef.fields.dynamic.arrays import assembled, effect_columns
from ranef.fields.dynamic.estimate import DynamicEstimate
from ranef.fields.dynamic.forecasting import Targets
from ranef.fields.dynamic.problem import Posterior, Problem, gauss_hermite
from ranef.fields.dynamic.reading import CONDITIONAL, DISPERSION, INERTIA, INPUTS
from ranef.fits.new_rows import read_rows
from ranef.tables import Table
from ranef.tables.origin import Origin

__all__ = ["Found", "own_targets", "targets_of"]

Floats = NDArray[np.float64]
Ints = NDArray[np.intp]


@dataclass(frozen=True, eq=False)
class Found:
    """Rows to be predicted, with what is known of their persons.

    Attributes
    ----------
    problem : Problem
        Of the outcomes before.
    posterior : Posterior
        Of its persons; the last entry is a person without outcomes where there are such.
    rows : Targets
    offset : (m,) float64 array
    order : (m,) int array or None
        Where the rows stand in the user's table; None in their order.
    """

    problem: Problem
    posterior: Posterior
    rows: Targets
    offset: Floats
    order: Ints | None = None

    def placed(self, values: Floats, *, offset: bool = True) -> Floats:
        """Values in the order of the user's rows, the offset added."""
        out = np.array(values, dtype=np.float64)
        if self.order is not None:
            out[self.order] = values
        return out + self.offset if offset else out


@dataclass(frozen=True, eq=False)
class Series:
    """Rows of a table: whose they are, where they stand, their columns."""

    persons: list[Hashable]
    series: list[Hashable]
    times: Floats
    X: dict[str, Floats]
    columns: dict[str, Floats]
    offset: Floats
    frame: Origin


def own_targets(estimate: DynamicEstimate) -> Found:
    """Each row of the fit, by the row before it."""
    problem, spec = estimate.problem, estimate.parts[CONDITIONAL]
    last = np.where(problem.gap > 0, np.arange(len(problem.y)) - 1, -1)
    rows = Targets(
        problem.person, last, problem.gap, problem.X, problem.zm, problem.zi, problem.zp, problem.zs
    )
    offset = np.zeros(spec.n) if spec.offset is None else spec.offset
    return Found(problem, estimate.posterior, rows, offset, estimate.ordered.order)


def targets_of(fit: Any, table: Table, history: Table | None) -> tuple[Found, Origin]:
    """Rows of a table, by the outcomes of the fit or of another table."""
    own: DynamicEstimate = fit.estimate
    wanted = _series(fit, table)
    if history is None:
        problem, post = own.problem, own.posterior
        order, residual = own.ordered.order, own.parts[CONDITIONAL].residual
        assert residual is not None
        assert residual.group is not None
        persons: list[Hashable] = list(range(own.persons.n_levels))
        series = _names_of(residual.group, order)
        times = np.asarray(residual.parts[0].where, dtype=np.float64).reshape(-1)[order]
    else:
        problem, persons, series, times = _problem(fit, history)
        post = problem.posterior(own.end.theta, own.rule, problem.nodes(own.end.theta))
    place = {key: k for k, key in enumerate(persons)}
    none = len(persons)
    who = np.array([place.get(key, none) for key in wanted.persons], dtype=np.intp)
    if (who == none).any():
        post = _with_stranger(own, post)
    last, gap = _last(series, times, wanted)
    z = _columns(wanted.columns, len(who))
    rows = Targets(who, last, gap, wanted.X, *z)
    return Found(problem, post, rows, wanted.offset), wanted.frame


def _columns(columns: dict[str, Floats], n: int) -> tuple[Floats, Floats, Floats, Floats]:
    none = np.zeros((n, 0))
    a, b = columns[INERTIA].shape[1], columns[DISPERSION].shape[1]
    return (
        columns[CONDITIONAL], columns.get(INPUTS, none),
        np.hstack([columns[INERTIA], np.zeros((n, b))]),
        np.hstack([np.zeros((n, a)), columns[DISPERSION]]),
    )  # fmt: skip


def _series(fit: Any, table: Table) -> Series:
    own: DynamicEstimate = fit.estimate
    rows, frame = read_rows(fit, table, "new", noise="together")
    kept = frame.accounting.kept
    part = next(p for p, spec in own.parts.items() if spec.terms)
    spec = own.parts[part]
    codes, _ = spec.recipe.random(table, 0)
    unseen, labels = spec.recipe.unseen(table, spec.terms[0].factor)
    used = np.arange(table.n_rows) if kept is None else np.flatnonzero(kept)
    persons: list[Hashable] = [
        int(codes[i]) if codes[i] >= 0 else labels[unseen[i]] if unseen[i] >= 0 else ("",)
        for i in used
    ]
    residual = rows.parts[CONDITIONAL].residual
    assert residual is not None
    assert residual.group is not None
    series = _names_of(residual.group)
    times = np.asarray(residual.parts[0].where, dtype=np.float64).reshape(-1)
    columns = {
        p: effect_columns(own.layout, p, [z for _, z in rows.parts[p].random or ()], rows.n)
        for p in own.parts
    }
    offset = rows.parts[CONDITIONAL].offset
    return Series(
        persons, series, times, {p: rows.parts[p].X for p in own.parts}, columns,
        np.zeros(rows.n) if offset is None else offset, frame,
    )  # fmt: skip


def _names_of(group: GroupingFactor, order: Ints | None = None) -> list[Hashable]:
    """The series of each row by its name: codes are a table's own."""
    codes = group.codes if order is None else group.codes[order]
    return [str(group.levels[c]) for c in codes.tolist()]


def _problem(
    fit: Any, history: Table
) -> tuple[Problem, list[Hashable], list[Hashable], Floats]:  # fmt: skip
    """The outcomes of a table as a problem of their own."""
    own: DynamicEstimate = fit.estimate
    read = _series(fit, history)
    y = own.parts[CONDITIONAL].recipe.response(history)
    kept = read.frame.accounting.kept
    y = (y if kept is None else y[kept]) - read.offset
    seen = np.flatnonzero(np.isfinite(y))
    if not len(seen):
        raise DataError("history has no row with an outcome and all columns of the model")
    persons = list(dict.fromkeys(read.persons[i] for i in seen))
    who = np.array([persons.index(read.persons[i]) for i in seen])
    keys = list(dict.fromkeys(read.series[i] for i in seen))
    number = {key: k for k, key in enumerate(keys)}
    which = np.array([number[read.series[i]] for i in seen])
    times = read.times[seen]
    order = np.lexsort((times, which, who))
    who, which, times, rows = who[order], which[order], times[order], seen[order]
    begins = np.r_[True, (np.diff(which) != 0) | (np.diff(who) != 0)]
    gap = np.where(begins, 0.0, np.diff(times, prepend=times[:1]))
    first = np.r_[np.flatnonzero(np.diff(who, prepend=-1)), len(who)].astype(np.int32)
    problem = assembled(
        own.layout, own.memory, own.given_starts, own.problem.threads, y[rows],
        {p: X[rows] for p, X in read.X.items()}, {p: z[rows] for p, z in read.columns.items()},
        first, gap,
    )  # fmt: skip
    return problem, persons, [keys[k] for k in which], times


def _last(series: list[Hashable], times: Floats, wanted: Series) -> tuple[Ints, Floats]:
    """Row before each wanted one in its series, and the time between."""
    spans: dict[Hashable, tuple[int, int]] = {}
    for i, key in enumerate(series):
        spans[key] = (spans[key][0] if key in spans else i, i + 1)
    last, gap = np.full(len(wanted.series), -1, dtype=np.intp), np.zeros(len(wanted.series))
    for k, (key, time) in enumerate(zip(wanted.series, wanted.times, strict=True)):
        if key not in spans:
            continue
        begin, end = spans[key]
        at = begin + int(np.searchsorted(times[begin:end], time, side="left")) - 1
        if at >= begin:
            last[k], gap[k] = at, time - times[at]
    return last, gap


def _with_stranger(own: DynamicEstimate, post: Posterior) -> Posterior:
    """Add a person of whom nothing is known."""
    d, L = own.layout.d, own.layout.factor(own.end.theta)
    rule = gauss_hermite(own.end.points, d)
    weight = np.exp(rule.log_w - 0.5 * (rule.x**2).sum(axis=1) - 0.5 * d * np.log(2 * np.pi))
    C = L[d:, d:] @ L[d:, d:].T
    return Posterior(
        np.vstack([post.share, weight / weight.sum()]),
        np.concatenate([post.v, (rule.x @ L[:d, :d].T)[None]]),
        np.concatenate([post.mean, (rule.x @ L[d:, :d].T)[None]]),
        np.concatenate([post.covariance, np.broadcast_to(C, (1, len(weight), *C.shape))]),
    )
