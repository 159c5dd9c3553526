"""Standard deviations and correlations of the effects, inertia and residual sd, with errors."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ranef.families.links import expit
from ranef.fields.dynamic.estimate import DynamicEstimate
from ranef.fields.dynamic.reading import CONDITIONAL, DISPERSION, INERTIA
from ranef.inference.coefficients.wald import quantile

__all__ = ["Parameter", "effect_parameters", "phi_of", "size_of", "typical_parameters"]

Floats = NDArray[np.float64]
UNIT, ZERO = 1.0 - 1e-6, 1e-6


@dataclass(frozen=True)
class Parameter:
    """One parameter of a table of variances.

    Attributes
    ----------
    component : str
        Part of the model; ``"residual"`` of the typical person's process.
    group : str
    term, term2 : str or None
    kind : str
        ``"sd"``, ``"corr"`` or ``"phi"``.
    estimate, conf_low, conf_high : float
        NaN where there is none.
    effects : tuple of int
        Which effects of the layout it is of.
    """

    component: str
    group: str
    term: str | None
    term2: str | None
    kind: str
    estimate: float
    conf_low: float
    conf_high: float
    effects: tuple[int, ...] = ()

    @property
    def label(self) -> str:
        """Its one name, ``"sd: person: inertia: (Intercept)"``."""
        own = None if self.component in (CONDITIONAL, "residual") else self.component
        parts = (self.kind, self.group, own, self.term, self.term2)
        return ": ".join(part for part in parts if part)


def phi_of(memory: str, eta: Floats) -> Floats:
    """Inertia of one prompt or unit of time, of its predictor."""
    if memory == "plain":
        return eta
    return np.tanh(eta) if memory == "fisher" else expit(eta)


def size_of(log_sd: Floats) -> Floats:
    """Standard deviation of its predictor; infinite beyond all numbers."""
    with np.errstate(over="ignore"):
        return np.asarray(np.exp(log_sd))


def effect_parameters(estimate: DynamicEstimate, level: float) -> list[Parameter]:
    """Standard deviations of all effects, then the correlations of those that have one.

    Intervals are Wald's, carried back from log sd and from Fisher's z.
    """
    layout, theta = estimate.layout, estimate.end.theta
    L, group, reach = layout.factor(theta), estimate.persons.name, _reach(level)
    sd = np.sqrt((L**2).sum(axis=1))
    C = estimate.covariance[layout.of_factor, layout.of_factor]
    rows, columns = layout.entries
    zero = estimate.end.zero[layout.of_factor]
    singular = {int(i) for i, j, z in zip(rows, columns, zero, strict=True) if z and i == j}
    out = []
    for j, effect in enumerate(layout.effects):
        g = np.where(rows == j, L[j, columns], 0.0) / max(sd[j], 1e-300)
        error = _error(g, C) / max(sd[j], 1e-300)
        fine = sd[j] > ZERO and np.isfinite(error)
        ends = sd[j] * size_of(reach * error * np.array([-1.0, 1.0]))
        low, high = ends.tolist() if fine else _none()
        out.append(Parameter(effect.part, group, effect.name, None, "sd", sd[j], low, high, (j,)))
    for j, effect in enumerate(layout.effects):
        for k, other in enumerate(layout.effects[:j]):
            if effect.block != other.block or effect.diagonal:
                continue
            found = _correlation(estimate, C, sd, (k, j), singular, reach)
            out.append(replace(found, effects=(k, j)))
    return out


def _correlation(
    estimate: DynamicEstimate, C: Floats, sd: Floats, pair: tuple[int, int], singular: set[int],
    reach: float,
) -> Parameter:  # fmt: skip
    layout, group = estimate.layout, estimate.persons.name
    L = layout.factor(estimate.end.theta)
    rows, columns = layout.entries
    k, j = pair
    one, two = layout.effects[k], layout.effects[j]
    second = two.name if two.part == CONDITIONAL else f"{two.part}: {two.name}"
    first = (one.part, group, one.name, second, "corr")
    if min(sd[k], sd[j]) <= ZERO:
        return Parameter(*first, np.nan, *_none())
    rho = float(L[k] @ L[j] / (sd[k] * sd[j]))
    g = np.where(rows == j, L[k, columns] / (sd[k] * sd[j]) - rho * L[j, columns] / sd[j] ** 2, 0.0)
    g += np.where(rows == k, L[j, columns] / (sd[k] * sd[j]) - rho * L[k, columns] / sd[k] ** 2, 0)
    if abs(rho) > UNIT or singular & {j, k}:
        return Parameter(*first, float(np.clip(rho, -1, 1)), *_none())
    z, error = np.arctanh(rho), _error(g, C) / (1 - rho**2)
    if not np.isfinite(error):
        return Parameter(*first, rho, *_none())
    return Parameter(*first, rho, float(np.tanh(z - reach * error)),
                     float(np.tanh(z + reach * error)))  # fmt: skip


def typical_parameters(estimate: DynamicEstimate, level: float) -> list[Parameter]:
    """Inertia and innovation sd of a person whose effects are zero, where they are constants."""
    layout, theta, C = estimate.layout, estimate.end.theta, estimate.covariance
    reach, out = _reach(level), []
    for part, kind in ((INERTIA, "phi"), (DISPERSION, "sd")):
        if layout.names[part] != ("(Intercept)",):
            continue
        k = layout.slices[part].start
        error = np.sqrt(max(C[k, k], 0.0))
        ends = theta[k] + error * np.array([0.0, -reach, reach])
        values = size_of(ends) if kind == "sd" else phi_of(estimate.memory, ends)
        out.append(Parameter("residual", "Residual", None, None, kind, *values.tolist()))
    return out


def _error(g: Floats, C: Floats) -> float:
    return float(np.sqrt(max(float(g @ C @ g), 0.0))) if np.isfinite(C).all() else np.nan


def _reach(level: float) -> float:
    return float(quantile(level, np.array(np.inf)))


def _none() -> tuple[float, float]:
    return np.nan, np.nan
