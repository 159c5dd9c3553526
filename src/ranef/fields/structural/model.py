"""A model with its data: what is fitted, and the models that it is compared with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ranef.fields.structural.information import expected_information, is_expected
from ranef.fields.structural.messages import GroupData, messages
from ranef.fields.structural.parameters import (
    Defaults,
    Parameter,
    ParameterTable,
    parameter_table,
)
from ranef.fields.structural.problem import (
    Coordinates,
    GroupProblem,
    Problem,
    coordinates,
    latent_slopes,
)
from ranef.fields.structural.quadrature import QuadratureProblem
from ranef.fields.structural.reading import (
    Rows,
    Values,
    group_data,
    homes,
    kept_rows,
    sample_moments,
)
from ranef.fields.structural.search import Search, SearchEnd, minimise
from ranef.fields.structural.starts import natural_scale, start_values
from ranef.fields.structural.syntax import Syntax, read_syntax

__all__ = ["Model", "Request", "independent", "partly_saturated", "saturated", "solved"]

Floats = NDArray[np.float64]
START = 0.02
"""Variance of a random slope at the start, where its outcome's residual and predictor have one."""


@dataclass(frozen=True)
class Request:
    """What was asked for.

    Attributes
    ----------
    model : str
        In lavaan's language.
    cluster : tuple of str
        Columns of the units, innermost first.
    group : str or None
    estimator, missing, se, information : str
    fixed_x, std_lv : bool
    group_equal, group_partial : tuple of str
    bounds : str or None
    quadrature : int
        Nodes a random slope of a latent variable.
    """

    model: str
    cluster: tuple[str, ...] = ()
    group: str | None = None
    estimator: str = "ML"
    missing: str = "listwise"
    se: str = "default"
    information: str = "default"
    fixed_x: bool = True
    std_lv: bool = False
    group_equal: tuple[str, ...] = ()
    group_partial: tuple[str, ...] = ()
    bounds: str | None = None
    quadrature: int = 15

    @property
    def defaults(self) -> Defaults:
        return Defaults(self.fixed_x, self.std_lv, self.group_equal, self.group_partial)


class Model:
    """A model's parameters and data.

    Parameters
    ----------
    request : Request
    values : Values
    threads : int
    """

    def __init__(self, request: Request, values: Values, threads: int = 1) -> None:
        self.request, self.values, self.threads = request, values, threads
        self.syntax: Syntax = read_syntax(request.model)
        levels = 1 + len(self._levels_used())
        self.home = homes(self.syntax, values, levels)
        self.table = parameter_table(
            self.syntax, values.groups, levels, self.home, request.defaults
        )
        self.rows: Rows = kept_rows(values, self.table, self.home, request.missing)
        self._data: dict[tuple[int, Coordinates], GroupData] = {}
        self._kernels: dict[tuple[int, Coordinates], Any] = {}

    def _levels_used(self) -> tuple[str, ...]:
        """The clusters that are levels of the model: none where the text names no level."""
        named = any(b.level is not None for b in self.syntax.blocks)
        return self.values.cluster_columns if named else ()

    @property
    def levels(self) -> int:
        return self.table.levels

    @property
    def n_obs(self) -> int:
        return self.rows.accounting.n_used

    @cached_property
    def units(self) -> tuple[int, ...]:
        """Number of units of each level from 2, over the groups."""
        return tuple(
            sum(len(own[k]) for own in self.rows.units)
            for k in range(len(self.values.cluster_columns))
        )

    def data(self, g: int, c: Coordinates) -> GroupData:
        """The arrays of a group, made once."""
        if (g, c) not in self._data:
            self._data[g, c] = group_data(self.values, self.rows, g, c, self.home)
        return self._data[g, c]

    def problem(self, table: ParameterTable, latent: Sequence[int] = ()) -> Problem:
        """Return the criterion of a table of parameters on the data."""
        groups: list[GroupProblem] = []
        constant = 0.0
        for g in range(table.groups):
            c = coordinates(table, g, self.home, latent)
            data = self.data(g, c)
            sample, deviance = sample_moments(table, g, self.values, self.rows)
            constant -= deviance
            if (g, c) not in self._kernels:
                self._kernels[g, c] = messages(data, c.layout, threads=self.threads)
            if latent_slopes(table, g):
                nodes = self.request.quadrature
                groups.append(
                    QuadratureProblem(table, g, c, data, sample, None, self.threads, nodes)
                )
                continue
            groups.append(
                GroupProblem(table, g, c, data, sample, self._kernels[g, c], self.threads)
            )
        return Problem(table, groups, constant)

    @cached_property
    def main(self) -> Problem:
        """The criterion of the model itself."""
        return self.problem(self.table)

    @property
    def complete(self) -> bool:
        """Whether no value of the rows used is missing."""
        return all(group.data.complete for group in self.main.groups)

    @property
    def has_slopes(self) -> bool:
        """Whether a slope varies between units."""
        return any(row.slope is not None for row in self.table.rows)


def solved(
    problem: Problem, start: Mapping[str, float] | Floats | None = None, *, proof: bool = True,
    watch: Any = None, curvature: Floats | None = None,
) -> SearchEnd:  # fmt: skip
    """Find the optimum of a problem without constraints."""
    first = start if isinstance(start, np.ndarray) else start_values(problem, start)
    metric = (lambda x: 2 * expected_information(problem, x)) if is_expected(problem) else None
    search = Search(problem.value_gradient, metric, problem.hessian, watch)
    problem.scale = scale = natural_scale(problem, first)
    if (scale == 1.0).all():
        return minimise(search, first, proof=proof, curvature=curvature)
    return _scaled(search, scale, first, proof)


def _scaled(search: Search, scale: Floats, first: Floats, proof: bool) -> SearchEnd:
    """Minimise over the parameters in units of their sizes."""
    grid, metric = np.outer(scale, scale), search.metric

    def value_gradient(x: Floats) -> tuple[float, Floats]:
        f, g = search.value_gradient(scale * x)
        return f, g * scale

    inner = Search(
        value_gradient,
        None if metric is None else (lambda x: metric(scale * x) * grid),
        lambda x: search.hessian(scale * x) * grid,
        search.watch,
    )
    end = minimise(inner, first / scale, proof=proof)
    hessian = None if end.hessian is None else end.hessian / grid
    return replace(end, theta=scale * end.theta, gradient=end.gradient / scale, hessian=hessian)


def without_latent_slopes(table: ParameterTable) -> ParameterTable:
    """Return the model whose slopes of latent variables are the same in all units."""
    gone = {g: {str(r.slope) for r in latent_slopes(table, g)} for g in range(table.groups)}
    rows = []
    for row in table.rows:
        if row.slope in gone[row.group] and row.slope is not None:
            rows.append(replace(row, slope=None))
        elif not {row.lhs, row.rhs} & gone[row.group]:
            rows.append(row)
    names = {
        (g, level): replace(
            own,
            latent=tuple(n for n in own.latent if n not in gone[g]),
            slopes=tuple(n for n in own.slopes if n not in gone[g]),
        )
        for (g, level), own in table.names.items()
    }
    return ParameterTable(tuple(rows), names, table.groups, table.levels).numbered()


def slope_starts(model: Model, given: Mapping[str, float] | None) -> Floats:
    """Starts of a model with random slopes of latent variables: from that without."""
    table = model.table
    plain = model.problem(without_latent_slopes(table))
    theta = start_values(model.main, given)
    end = solved(plain, proof=False)
    known = {
        (r.group, r.level, r.lhs, r.op, r.rhs): end.theta[r.free]
        for r in plain.table.rows if r.free >= 0
    }  # fmt: skip
    for row in table.rows:
        key = (row.group, row.level, row.lhs, row.op, row.rhs)
        asked = row.name in (given or {}) or not np.isnan(row.start)
        if row.free >= 0 and key in known and not asked:
            theta[row.free] = known[key]
    for g, group in enumerate(plain.groups):
        moments = group.rams[0].moments(end.theta)
        at = {name: i for i, name in enumerate(group.rams[0].names)}
        for slope in latent_slopes(table, g):
            own = known.get((g, 1, slope.lhs, slope.op, slope.rhs), 0.0)
            i, j = at[slope.lhs], at[slope.rhs]
            spread = START * abs(moments.S[i, i] / max(moments.C[j, j], 1e-300))
            for row in table.block(g, 2):
                if row.lhs != slope.slope or row.free < 0 or row.name in (given or {}):
                    continue
                if row.op == "~1" and np.isnan(row.start):
                    theta[row.free] = own
                if row.op == "~~" and row.rhs == row.lhs and np.isnan(row.start):
                    theta[row.free] = spread
    return theta


# --- the models that it is compared with


def _covariances(
    table: ParameterTable, g: int, level: int, free: bool, home: Mapping[str, int]
) -> list[Parameter]:
    """Variances of one level with all covariances, or with none; and its means."""
    names = table.names[g, level]
    rows = []
    later = {
        n for m in range(level + 1, table.levels + 1) for n in table.names[g, m].observed
        if home.get(n, 9) < m
    }  # fmt: skip
    for i, a in enumerate(names.observed):
        rows.append(Parameter(g, level, a, "~~", a, sample=a in names.fixed))
        for b in names.observed[i + 1 :]:
            held = a in names.fixed and b in names.fixed
            if free or (a in names.exogenous and b in names.exogenous):
                rows.append(Parameter(g, level, a, "~~", b, sample=held))
    for a in names.observed:
        if a in names.fixed:
            rows.append(Parameter(g, level, a, "~1", "", sample=True))
        else:
            value = 0.0 if a in later else float("nan")
            rows.append(Parameter(g, level, a, "~1", "", value=value))
    return rows


def _comparison(table: ParameterTable, rows: Sequence[Parameter]) -> ParameterTable:
    names = {key: replace(own, latent=(), slopes=()) for key, own in table.names.items()}
    return ParameterTable(tuple(rows), names, table.groups, table.levels).numbered()


def _every(table: ParameterTable) -> list[tuple[int, int]]:
    return [(g, level) for g in range(table.groups) for level in range(1, table.levels + 1)]


def saturated(table: ParameterTable, home: Mapping[str, int]) -> ParameterTable:
    """Return the unrestricted model."""
    rows = [r for g, level in _every(table) for r in _covariances(table, g, level, True, home)]
    return _comparison(table, rows)


def independent(table: ParameterTable, home: Mapping[str, int]) -> ParameterTable:
    """Return the baseline: no covariances but of covariates."""
    rows = [r for g, level in _every(table) for r in _covariances(table, g, level, False, home)]
    return _comparison(table, rows)


def partly_saturated(
    table: ParameterTable, home: Mapping[str, int], level: int, *, baseline: bool = False
) -> ParameterTable:
    """Return the model at one level (or its baseline), all others unrestricted (Ryu & West 2009).

    Parameters that are equal across levels are free at each.
    """
    rows: list[Parameter] = []
    names = {}
    for g, own in _every(table):
        block = table.names[g, own]
        if own == level and not baseline:
            names[g, own] = block
            rows += [
                replace(r, tie=f"{r.tie or r.label}@{own}" if r.tie or r.label else "")
                for r in table.block(g, own)
            ]
        else:
            names[g, own] = replace(block, latent=(), slopes=())
            rows += _covariances(table, g, own, own != level, home)
    return ParameterTable(tuple(rows), names, table.groups, table.levels).numbered()
