"""Parameters on the scale of standard deviations, level by level; shares that follow from them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ranef.fields.structural.estimate import Estimate
from ranef.fields.structural.parameters import Parameter
from ranef.fields.structural.ram import Moments, Ram

__all__ = [
    "Reliability",
    "level_moments_of",
    "r_squared",
    "reliabilities",
    "standardized_errors",
    "standardized_values",
]

Floats = NDArray[np.float64]
NAN = float("nan")
STEP = 1e-5
KNOWN = 1e-8


def level_moments_of(estimate: Estimate, theta: Floats, g: int, level: int) -> tuple[Ram, Moments]:
    """Matrices of one level, covariates at their sample moments."""
    model = estimate.model
    group = model.main.groups[g]
    ram = Ram.of(
        model.table.block(g, level), model.table.names[g, level], group.sample.get(level, {})
    )
    return ram, ram.moments(theta)


def standardized_values(estimate: Estimate, theta: Floats) -> Floats:
    """``std_lv, std_all, std_nox`` (rows, 3) of every parameter; NaN of random slopes."""
    table = estimate.model.table
    out = np.full((len(table.rows), 3), NAN)
    known = {}
    for key in table.names:
        known[key] = level_moments_of(estimate, theta, *key)
    for k, row in enumerate(table.rows):
        if row.slope is None:
            out[k] = _row(estimate, row, theta, *known[row.group, row.level])
    return out


def _row(
    estimate: Estimate, row: Parameter, theta: Floats, ram: Ram, at: Moments
) -> tuple[float, float, float]:
    names = estimate.model.table.names[row.group, row.level]
    place = {name: i for i, name in enumerate(ram.names)}
    i = place[row.lhs]
    j = place.get(row.rhs, i)

    def sd(k: int, which: int) -> float:
        name = ram.names[k]
        if which == 0 and name not in names.latent:
            return 1.0
        if which == 2 and name in names.exogenous:
            return 1.0
        return _root(at.C[k, k])

    if row.op == "=~":
        value = _value(row, theta, 0.0)
        return tuple(value * sd(i, w) / sd(j, w) for w in range(3))  # type: ignore[return-value]
    if row.op == "~":
        value = _value(row, theta, 0.0)
        return tuple(value * sd(j, w) / sd(i, w) for w in range(3))  # type: ignore[return-value]
    if row.op == "~1":
        return tuple(at.m[i] / sd(i, w) for w in range(3))
    value = at.S[i, j]
    if i == j:
        return tuple(value / sd(i, w) ** 2 for w in range(3))

    def residual(k: int, which: int) -> float:
        name = ram.names[k]
        if (which == 0 and name not in names.latent) or (which == 2 and name in names.exogenous):
            return 1.0
        return _root(at.S[k, k])

    return tuple(value / (residual(i, w) * residual(j, w)) for w in range(3))


def _value(row: Parameter, theta: Floats, sample: float) -> float:
    if row.free >= 0:
        return float(theta[row.free])
    return sample if row.sample else row.value


def _root(x: float) -> float:
    return float(np.sqrt(x)) if x > 0 else NAN


def by_differences(f: Callable[[Floats], Floats], theta: Floats, sizes: Floats) -> Floats:
    """Derivatives (values, P) of a function of the parameters, by steps in parts of their sizes."""
    columns = []
    for j in range(len(theta)):
        step = STEP * sizes[j]
        ahead, behind = theta.copy(), theta.copy()
        ahead[j] += step
        behind[j] -= step
        columns.append((f(ahead) - f(behind)).ravel() / (2 * step))
    return np.array(columns).T if columns else np.zeros((f(theta).size, 0))


def standardized_errors(estimate: Estimate, which: int = 1) -> Floats:
    """Standard errors of ``std_all`` (or another column), by the delta method."""
    own = np.nan_to_num(np.sqrt(np.maximum(np.diag(estimate.covariance), 0.0)))
    sizes = np.maximum(np.abs(estimate.theta), own)
    J = by_differences(
        lambda t: standardized_values(estimate, t)[:, which], estimate.theta,
        np.where(sizes > 0, sizes, 1.0),
    )  # fmt: skip
    J = np.where(np.isfinite(J), J, 0.0)
    V = np.einsum("ij,jk,ik->i", J, estimate.covariance, J)
    values = standardized_values(estimate, estimate.theta)[:, which]
    error = np.sqrt(np.maximum(V, 0.0))
    error = np.where(error > KNOWN * np.abs(values), error, 0.0)  # a value of one by definition
    return np.where(np.isfinite(values) & np.isfinite(V), error, NAN)


def r_squared(estimate: Estimate) -> list[tuple[int, int, str, float]]:
    """Explained share of each outcome and indicator: group, level, variable, R^2."""
    found = []
    table = estimate.model.table
    for g, level in table.names:
        ram, at = level_moments_of(estimate, estimate.theta, g, level)
        explained = dict.fromkeys(
            r.rhs if r.op == "=~" else r.lhs
            for r in table.block(g, level)
            if r.op in ("=~", "~") and r.slope is None
        )
        random = {r.lhs for r in table.block(g, level) if r.slope is not None}
        for name in explained:
            if name in random:  # its variance depends on the covariates' values
                found.append((g, level, name, NAN))
                continue
            k = ram.names.index(name)
            total = at.C[k, k]
            found.append((g, level, name, 1 - at.S[k, k] / total if total > 0 else NAN))
    return found


@dataclass(frozen=True)
class Reliability:
    """Reliability of a sum of indicators.

    Attributes
    ----------
    group, level : int
    factor : str
    items : int
    alpha : float
        Cronbach's, of the model's covariances at the level.
    omega : float
        Share of the factor in the variance of the sum at the level (McDonald 1999).
    omega_means : float
        At level 2 of the sum's means over a unit's rows, whose errors count too (Lai 2021).
    """

    group: int
    level: int
    factor: str
    items: int
    alpha: float
    omega: float
    omega_means: float


def reliabilities(estimate: Estimate) -> list[Reliability]:
    """Reliability of each factor's sum, by level."""
    table, found = estimate.model.table, []
    for g, level in table.names:
        ram, at = level_moments_of(estimate, estimate.theta, g, level)
        rows = [r for r in table.block(g, level) if r.op == "=~"]
        observed = table.names[g, level].observed
        for factor in dict.fromkeys(r.lhs for r in rows):
            items = [r.rhs for r in rows if r.lhs == factor and r.rhs in observed]
            if len(items) < 2:
                continue
            k = np.array([ram.names.index(n) for n in items])
            S = at.C[np.ix_(k, k)]
            f = ram.names.index(factor)
            direct = sum(at_loading(r, estimate.theta) for r in rows
                         if r.lhs == factor and r.rhs in observed)  # fmt: skip
            true, total = direct**2 * at.C[f, f], float(S.sum())
            n = len(items)
            alpha = n / (n - 1) * (1 - float(np.trace(S)) / total) if total > 0 else NAN
            means = NAN
            if level == 2:
                within, own = level_moments_of(estimate, estimate.theta, g, 1)
                if all(n in within.names for n in items):
                    w = np.array([within.names.index(n) for n in items])
                    sizes = estimate.model.main.groups[g].data.sizes
                    size = len(sizes[sizes > 0]) / float(np.sum(1 / sizes[sizes > 0]))
                    means = true / (total + float(own.C[np.ix_(w, w)].sum()) / size)
            omega = true / total if total > 0 else NAN
            found.append(Reliability(g, level, factor, n, alpha, omega, means))
    return found


def at_loading(row: Parameter, theta: Floats) -> float:
    """The value of a loading."""
    return _value(row, theta, 0.0)
