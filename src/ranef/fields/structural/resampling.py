"""Draws: of estimates, of tables, of units; and predictions of rows from the model's moments."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ranef.errors import ConvergenceWarning, DataError, ModelError, suggestion, warn
from ranef.fields.structural.estimate import Estimate, estimated
from ranef.fields.structural.model import Model
from ranef.fields.structural.problem import latent_slopes
from ranef.fields.structural.reading import Values, read_values
from ranef.fields.structural.standardized import level_moments_of
from ranef.tables import Table, make_table
from ranef.tables.origin import Origin

__all__ = [
    "bootstrapped", "drawn_estimates", "predicted", "redrawn", "refitted", "simulated",
]  # fmt: skip

Floats = NDArray[np.float64]
Ints = NDArray[np.intp]
LEAST = 0.5
"""Share of bootstrap samples that must be fitted."""


def drawn_estimates(estimate: Estimate, n: int, rng: np.random.Generator) -> Floats:
    """Draw (n, P) parameters from the normal distribution of the estimates."""
    V = estimate.covariance
    if not np.isfinite(V).all():
        raise ModelError("the estimates have no covariance matrix to draw from; simplify the model")
    w, v = np.linalg.eigh(V)
    z = rng.standard_normal((n, len(V)))
    return np.asarray(estimate.theta + (z * np.sqrt(np.maximum(w, 0.0))) @ v.T)


def resampled(model: Model, rng: np.random.Generator) -> Values:
    """Draw whole units of the highest level with replacement, rows where there is none."""
    values = model.values
    rows: list[Ints] = []
    fresh: list[list[Ints]] = [[] for _ in values.clusters]
    count = 0
    sizes = [0] * len(values.clusters)
    for places in model.rows.places:
        if not values.clusters:
            rows.append(rng.choice(places, len(places)))
            continue
        top = values.clusters[-1][places]
        order = np.argsort(top, kind="stable")
        own, starts = np.unique(top[order], return_index=True)
        ends = np.append(starts[1:], len(order))
        for k in rng.integers(0, len(own), len(own)):
            taken = places[order[starts[k] : ends[k]]]
            rows.append(taken)
            for level, codes in enumerate(values.clusters):
                _, inner = np.unique(codes[taken], return_inverse=True)
                fresh[level].append(inner.ravel() + sizes[level])
                sizes[level] += int(inner.max()) + 1
            count += 1
    every = np.concatenate(rows)
    return replace(
        values,
        columns={name: column[every] for name, column in values.columns.items()},
        clusters=tuple(np.concatenate(one) for one in fresh),
        labels=tuple(tuple(range(size)) for size in sizes),
        group=values.group[every],
    )


def bootstrapped(estimate: Estimate, n: int, rng: np.random.Generator) -> Floats:
    """Estimates (k, P) of samples of units; samples whose search does not end are left out."""
    found: list[Floats] = []
    for _ in range(n):
        try:
            model = Model(estimate.model.request, resampled(estimate.model, rng))
            again = estimated(model, estimate.theta)
        except (ModelError, DataError, np.linalg.LinAlgError):
            continue
        if again.end.converged:
            found.append(again.theta)
    if len(found) < max(2, LEAST * n):
        raise ModelError(f"only {len(found)} of {n} bootstrap samples could be fitted")
    if len(found) < n:
        warn(f"{n - len(found)} of {n} bootstrap samples could not be fitted", ConvergenceWarning)
    return np.array(found)


def refitted(fit: Any, data: Any) -> Any:
    """Fit the model of a fit to another table."""
    table = Table.of(data)
    model: Model = fit.estimate.model
    values = read_values(
        model.syntax, table, model.values.cluster_columns, model.values.group_column
    )
    again = Model(model.request, values, model.threads)
    columns = [*values.columns, *values.cluster_columns]
    columns += [values.group_column] if values.group_column else []
    return type(fit)(estimated(again), Origin.of(table, again.rows.accounting, columns))


def redrawn(fit: Any, method: str, rng: np.random.Generator) -> tuple[Estimate, Origin]:
    """The model fitted to one more table: drawn from it, or of whole units with replacement."""
    estimate: Estimate = fit.estimate
    model = estimate.model
    if method == "cluster":
        values = resampled(model, rng)
    else:
        drawn = _one_table(estimate, rng)
        columns = {
            name: np.where(np.isnan(column), np.nan, drawn[name])
            for name, column in model.values.columns.items()
        }
        values = replace(model.values, columns=columns)
    again = Model(model.request, values, model.threads)
    found = estimated(again, estimate.theta)
    if not np.isfinite(found.end.value):
        raise ModelError("the likelihood has no value")
    return found, Origin(fit.frame.library, None, again.rows.accounting)


# --- tables drawn from the model


def simulated(estimate: Estimate, n: int, rng: np.random.Generator) -> dict[str, Any]:
    """Columns of n tables drawn from the model, missing where the data are."""
    model, values = estimate.model, estimate.model.values
    names = list(values.columns)
    rows = np.sort(np.concatenate(model.rows.places))
    out: dict[str, list[Any]] = {"draw": []}
    labels = [*values.cluster_columns, *([values.group_column] if values.group_column else [])]
    out |= {name: [] for name in [*labels, *names]}
    for draw in range(n):
        table = _one_table(estimate, rng)
        out["draw"] += [draw + 1] * len(rows)
        for level, name in enumerate(values.cluster_columns):
            out[name] += [values.labels[level][c] for c in values.clusters[level][rows]]
        if values.group_column:
            out[values.group_column] += [values.groups[g] for g in values.group[rows]]
        for name in names:
            column = np.where(np.isnan(values.columns[name]), np.nan, table[name])
            out[name] += column[rows].tolist()
    return out


def _one_table(estimate: Estimate, rng: np.random.Generator) -> dict[str, Floats]:
    model, values = estimate.model, estimate.model.values
    out = {name: np.full(values.n, np.nan) for name in values.columns}
    for g in range(model.table.groups):
        places = model.rows.places[g]
        total = {name: np.zeros(len(places)) for name in values.columns}
        held: dict[str, Floats] = {}
        slopes: dict[str, Floats] = {}
        for level in range(model.table.levels, 0, -1):
            names = model.table.names[g, level]
            if level > 1:
                codes = values.clusters[level - 2][places]
                _, first, unit = np.unique(codes, return_index=True, return_inverse=True)
                unit = unit.ravel()
            else:
                first = unit = np.arange(len(places))
            drawn = _level_draws(estimate, g, level, rng, places[first], slopes, unit, first)
            for k, name in enumerate(names.all):
                column = drawn[:, k][unit]
                if name in names.fixed:
                    held[name] = values.columns[name][places]
                elif name in names.observed:
                    total[name] = total[name] + column
                elif name in names.slopes:
                    slopes[name] = slopes.get(name, np.zeros(len(places))) + column
        for name in values.columns:
            out[name][places] = held.get(name, total[name])
    return out


def _level_draws(
    estimate: Estimate, g: int, level: int, rng: np.random.Generator, rows: Ints,
    slopes: dict[str, Floats], unit: Ints, first: Ints,
) -> Floats:  # fmt: skip
    """Values (units, v) of a level's variables, given those that are held."""
    model = estimate.model
    names = model.table.names[g, level]
    ram, at = level_moments_of(estimate, estimate.theta, g, level)
    order = list(ram.names)
    x = np.array([order.index(n) for n in names.fixed], dtype=np.intp)
    free = np.array([i for i in range(len(order)) if i not in set(x.tolist())], dtype=np.intp)
    n = len(rows)
    # residuals of those that are not held, then the equations
    S = at.S[np.ix_(free, free)]
    w, v = np.linalg.eigh(S)
    if w[0] < -1e-8 * max(float(np.abs(w).max()), 1e-300):
        raise ModelError(
            "the model cannot draw: a covariance matrix between its residuals is not positive "
            f"semidefinite at level {level}"
        )
    s = np.zeros((n, len(order)))
    s[:, free] = (
        at.m[free] + (rng.standard_normal((n, len(free))) * np.sqrt(np.maximum(w, 0))) @ v.T
    )
    if len(x):
        X = np.column_stack([model.values.columns[name][rows] for name in names.fixed])
        cross = at.S[np.ix_(free, x)]
        if np.abs(cross).max() > 0:
            G = cross @ np.linalg.inv(at.S[np.ix_(x, x)])
            s[:, free] += (X - at.m[x]) @ G.T
        s[:, x] = X
    for row in model.table.block(g, level):
        if row.slope is not None and row.rhs in names.fixed:
            own = slopes[row.slope][first]
            s[:, order.index(row.lhs)] += own * s[:, order.index(row.rhs)]
    del unit
    integrated = [r for r in latent_slopes(model.table, g) if level == 1]
    if not integrated:
        return np.asarray(s @ at.T.T)
    A = np.broadcast_to(np.eye(len(order)) - np.linalg.inv(at.T), (n, *at.T.shape)).copy()
    for row in integrated:
        A[:, order.index(row.lhs), order.index(row.rhs)] += slopes[str(row.slope)][first]
    return np.asarray(np.linalg.solve(np.eye(len(order)) - A, s[:, :, None])[:, :, 0])


# --- predictions


def _total_moments(estimate: Estimate, g: int) -> tuple[list[str], Floats, Floats]:
    """Means and covariances of a row's variables over all levels."""
    names = list(estimate.model.values.columns)
    at = {name: i for i, name in enumerate(names)}
    mean, C = np.zeros(len(names)), np.zeros((len(names), len(names)))
    for level in range(1, estimate.model.table.levels + 1):
        ram, moments = level_moments_of(estimate, estimate.theta, g, level)
        observed = estimate.model.table.names[g, level].observed
        k = np.array([ram.names.index(n) for n in observed], dtype=np.intp)
        to = np.array([at[n] for n in observed], dtype=np.intp)
        mean[to] += moments.mu[k]
        C[np.ix_(to, to)] += moments.C[np.ix_(k, k)]
    return names, mean, C


def predicted(fit: Any, new: Any, outcomes: str | Sequence[str] | None) -> Any:
    """Expected outcomes of rows given their other variables."""
    estimate: Estimate = fit.estimate
    model, values = estimate.model, estimate.model.values
    if model.has_slopes:
        raise ModelError(
            "predict() gives expectations under one covariance matrix, which a model with random "
            "slopes has not; scores(level=2) gives the units' slopes"
        )
    names = list(values.columns)
    held = {n for own in model.table.names.values() for n in own.exogenous}
    wanted = [n for n in names if n not in held] if outcomes is None else (
        [outcomes] if isinstance(outcomes, str) else list(outcomes)
    )  # fmt: skip
    for name in wanted:
        if name not in names:
            raise ModelError(f"the model has no variable {name!r}{suggestion(name, names)}")
    if new is None:
        columns, group, library, index = (
            values.columns,
            values.group,
            fit.frame.library,
            fit.frame.index,
        )
    else:
        table = Table.of(new)
        columns = {n: table.numeric(n) for n in names if n in table.columns}
        group = _groups_of(table, values)
        library, index = table.library, table.index
    n = len(group)
    X = np.column_stack([columns[k] if k in columns and k not in wanted else np.full(n, np.nan)
                         for k in names])  # fmt: skip
    out = np.full((n, len(wanted)), np.nan)
    place = np.array([names.index(k) for k in wanted], dtype=np.intp)
    for g in range(model.table.groups):
        _, mean, C = _total_moments(estimate, g)
        own = np.flatnonzero(group == g)
        seen = ~np.isnan(X[own])
        for pattern in np.unique(seen, axis=0):
            rows = own[(seen == pattern).all(axis=1)]
            given = np.flatnonzero(pattern)
            gap = X[np.ix_(rows, given)] - mean[given]
            G = C[np.ix_(place, given)] @ np.linalg.pinv(C[np.ix_(given, given)], hermitian=True)
            out[rows] = mean[place] + gap @ G.T
    return make_table({name: out[:, k] for k, name in enumerate(wanted)}, library, index)


def _groups_of(table: Table, values: Values) -> Ints:
    if values.group_column is None:
        return np.zeros(table.n_rows, dtype=np.intp)
    if values.group_column not in table.columns:
        raise DataError(f"the new rows need the column {values.group_column!r} of the groups")
    codes, levels = table.codes(values.group_column)
    text = [f"{n:g}" if isinstance(n, float) else str(n) for n in levels]
    for name in text:
        if name not in values.groups:
            raise DataError(f"the model has no group {name!r}{suggestion(name, values.groups)}")
    place = np.array([values.groups.index(name) for name in text] + [-1], dtype=np.intp)
    return np.asarray(place[np.asarray(codes)])
