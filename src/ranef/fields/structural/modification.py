"""Score tests of parameters that the model holds: modification indices and expected changes."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ranef.fields.structural.estimate import Estimate
from ranef.fields.structural.expected import information_given_missing
from ranef.fields.structural.expected_units import is_plain
from ranef.fields.structural.information import expected_information
from ranef.fields.structural.parameters import Parameter, ParameterTable
from ranef.fields.structural.problem import Problem
from ranef.fields.structural.standardized import level_moments_of

__all__ = ["Modification", "modifications"]

Floats = NDArray[np.float64]
DETERMINED = 1e-8
"""Share of a parameter's information that the others must leave."""


@dataclass(frozen=True)
class Modification:
    """One parameter that could be freed.

    Attributes
    ----------
    row : Parameter
    index : float
        The score statistic, chi-squared on one degree of freedom.
    change : float
        Expected change of the parameter.
    standardized : float
        The same in standard deviations of the variables.
    """

    row: Parameter
    index: float
    change: float
    standardized: float


def _candidates(table: ParameterTable, g: int, level: int) -> list[Parameter]:
    """Loadings of indicators on other factors, and covariances of residuals."""
    names, block = table.names[g, level], table.block(g, level)
    known = {(r.lhs, r.op, r.rhs) for r in block}
    known |= {(r.rhs, r.op, r.lhs) for r in block if r.op == "~~"}
    indicators = list(dict.fromkeys(r.rhs for r in block if r.op == "=~"))
    factors = list(dict.fromkeys(r.lhs for r in block if r.op == "=~"))
    outcomes = {r.lhs for r in block if r.op == "~"}
    found = []
    for factor in factors:
        for name in indicators:
            if name != factor and (factor, "=~", name) not in known and name not in factors:
                found.append(Parameter(g, level, factor, "=~", name))
    plain = [n for n in names.observed if n not in names.exogenous]
    latent = [n for n in names.latent]
    for some in (plain, latent):
        for i, a in enumerate(some):
            for b in some[i + 1 :]:
                if (a, "~~", b) not in known:
                    found.append(Parameter(g, level, a, "~~", b))
    for lhs in [n for n in names.all if n in outcomes]:
        for rhs in [*names.exogenous, *latent]:
            linked = {(lhs, "~", rhs), (rhs, "~", lhs)} & known
            if lhs != rhs and not linked and rhs not in outcomes:
                found.append(Parameter(g, level, lhs, "~", rhs))
    for row in block:
        if row.free < 0 and not row.sample and row.slope is None and row.typed:
            found.append(replace(row, value=float("nan"), label="", tie=""))
    return found


def modifications(estimate: Estimate) -> list[Modification]:
    """Score tests of every candidate, one at a time."""
    table = estimate.model.table
    tests = []
    extra = [c for key in table.names for c in _candidates(table, *key)]
    if not extra:
        return []
    P = table.size
    rows = [r for r in table.rows if not any(_same(r, c) for c in extra)]
    held = {(_key(r)): r.value for r in table.rows if r.free < 0}
    more = [replace(c, free=P + k) for k, c in enumerate(extra)]
    wide = replace(table, rows=(*rows, *more), constraints=(), defined=())
    problem = estimate.model.problem(wide)
    start = [held.get(_key(c), 0.0) for c in extra]
    theta = np.concatenate([estimate.theta, np.array(start)])
    _, gradient = problem.value_gradient(theta)
    information = _information(estimate, problem, theta)
    score = -gradient / 2
    N = estimate.basis
    inside = _inverse(N.T @ information[:P, :P] @ N)
    known = {key: level_moments_of(estimate, estimate.theta, *key) for key in table.names}
    for k, row in enumerate(more):
        at = P + k
        cross = N.T @ information[:P, at]
        left = float(information[at, at] - cross @ inside @ cross)
        if not left > DETERMINED * abs(float(information[at, at])):
            continue
        change = float(score[at]) / left
        tests.append(
            Modification(row, float(score[at]) * change, change, change * _unit(row, known))
        )
    return sorted(tests, key=lambda t: -t.index)


def _information(estimate: Estimate, problem: Problem, theta: Floats) -> Floats:
    """Expected information given which values are missing.

    Away from the optimum of the wider model the observed one is a poor measure of a step; it is
    taken where there are slopes or more than two levels.
    """
    if estimate._expected_offered:
        return expected_information(problem, theta)
    if not problem.integrated and all(not g.data.levels or is_plain(g) for g in problem.groups):
        return information_given_missing(problem, theta)
    return problem.hessian(theta) / 2


def _inverse(information: Floats) -> Floats:
    """Generalised inverse, in units in which the diagonal is one."""
    root = np.sqrt(np.maximum(np.diag(information), 1e-300))
    scaled = np.linalg.pinv(information / np.outer(root, root), rcond=1e-12, hermitian=True)
    return np.asarray(scaled / np.outer(root, root))


def _key(row: Parameter) -> tuple[int, int, str, str, str]:
    return row.group, row.level, row.lhs, row.op, row.rhs


def _same(a: Parameter, b: Parameter) -> bool:
    return _key(a) == _key(b)


def _unit(row: Parameter, known: dict) -> float:  # type: ignore[type-arg]
    """What a parameter is multiplied with to be in standard deviations; NaN where one is zero."""
    ram, at = known[row.group, row.level]
    i = ram.names.index(row.lhs)
    if row.op == "~1":
        return _root(1.0, at.C[i, i])
    j = ram.names.index(row.rhs)
    if row.op == "~~":
        return _root(1.0, at.S[i, i] * at.S[j, j])
    a, b = (i, j) if row.op == "=~" else (j, i)
    return _root(at.C[a, a], at.C[b, b])


def _root(above: float, below: float) -> float:
    return float(np.sqrt(above / below)) if above >= 0 and below > 0 else float("nan")
