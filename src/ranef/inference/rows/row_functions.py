"""What a generalised model says of rows, as functions of all its parameters.

The parameters are the coefficients of every component and theta, so that functions of
several rows have standard errors from one matrix, the joint covariance.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ranef.errors import ModelError
from ranef.families import Cumulative, Multinomial
from ranef.inference.rows.integration import Expectation
from ranef.inference.rows.parts import LinearPart, linear_parts, threshold_basis
from ranef.inference.rows.targets import Target, count_of, evaluate, has_categories, target, through
from ranef.inference.rows.uncertainty import (
    expectation_gradient,
    linear_predictors,
    random_spread,
)
from ranef.models.records import GeneralisedEstimate
from ranef.models.rows import Rows

__all__ = [
    "RowFunctions",
    "component_link",
    "conditional_parts",
    "parts_of",
    "predictor_of",
    "row_functions",
]

Floats = NDArray[np.float64]
Parts = tuple[LinearPart, ...]


@dataclass(frozen=True, eq=False)
class RowFunctions:
    """Values of N rows, K each.

    Attributes
    ----------
    value : (N, K) float64 array
    jacobian : (N, K, P + k) float64 array
        Derivatives in coefficients and theta.
    link : str
        Of the values, where they are linear predictors; else the link on whose scale
        their intervals are made.
    """

    value: Floats
    jacobian: Floats
    link: str


def row_functions(
    estimate: GeneralisedEstimate, rows: Rows, component: str, kind: str, type: str
) -> RowFunctions:
    """Evaluate rows without their own random effects.

    Parameters
    ----------
    estimate : GeneralisedEstimate
    rows : Rows
    component : str
        ``"conditional"``: the mean without the zero part (of a truncated family, before
        truncation); ``"zero"``, ``"dispersion"``; ``"response"``: the mean of what is
        observed.
    kind : str
        ``"typical"``: random effects zero; ``"population"``: integrated out.
    type : str
        ``"link"``: the linear predictor (typical). Of ordered categories that of the
        latent variable less the mean threshold; of a multinomial response the log odds
        of each category against the first. ``"response"``: the mean. ``"prob"``: the
        probability of each category. ``"mean_class"``: the mean of the categories,
        numbered from 1.
    """
    parts = linear_parts(estimate, rows)
    if type == "link":
        return _predictors(estimate, parts, component)
    wanted = _target(estimate, component, type)
    etas = linear_predictors(estimate, parts, False)
    spread = random_spread(estimate, parts) if kind == "population" else None
    found = evaluate(wanted, etas, spread)
    out = RowFunctions(found.value, _jacobian(estimate, parts, found), wanted.scale)
    if type != "mean_class":
        return out
    score = np.arange(1.0, found.value.shape[1] + 1)
    return RowFunctions(
        (out.value @ score)[:, None],
        np.einsum("nkp,k->np", out.jacobian, score)[:, None, :],
        "identity",
    )


def component_link(estimate: GeneralisedEstimate, component: str) -> str:
    """Link of the linear predictor of a component."""
    if component == "conditional":
        return estimate.family.link
    return target(estimate, component).scale


def parts_of(estimate: GeneralisedEstimate, component: str, type: str) -> tuple[str, ...]:
    """Names of the parts with a formula whose fixed effects an answer rests on."""
    if component == "response" and type not in ("mean_class", "prob"):
        wanted = target(estimate, type)
    else:
        wanted = _target(estimate, component, type)
    owners = [
        part.name
        for part in estimate.components
        for _ in (threshold_basis(estimate) if part.name == "threshold" else (None,))
    ]
    used = {owners[a] for factor in wanted.factors for a in factor.uses}
    return tuple(name for name in estimate.parts if name in used)


def _predictors(estimate: GeneralisedEstimate, parts: Parts, component: str) -> RowFunctions:
    """The linear predictors of a component."""
    family, own = estimate.family, [predictor_of(estimate, component)]
    if component == "conditional" and isinstance(family, Multinomial):
        own = list(range(len(parts)))
    N, total = len(parts[0].X), len(estimate.coefficients) + len(estimate.theta)
    value, J = np.zeros((N, len(own))), np.zeros((N, len(own), total))
    for k, a in enumerate(own):
        _add(estimate, parts[a], value[:, k], J[:, k], 1.0)
    if component == "conditional" and isinstance(family, Cumulative):
        for threshold in parts[1:]:
            _add(estimate, threshold, value[:, 0], J[:, 0], -1.0 / (len(parts) - 1))
    return RowFunctions(value, J, component_link(estimate, component))


def _add(
    estimate: GeneralisedEstimate, part: LinearPart, value: Floats, J: Floats, weight: float
) -> None:
    value += weight * (part.X @ estimate.coefficients[part.columns])
    if part.offset is not None:
        value += weight * part.offset
    J[:, part.columns] += weight * part.X


def predictor_of(estimate: GeneralisedEstimate, component: str) -> int:
    """Which predictor a component's is."""
    if component == "conditional":
        return 0
    if component == "response":
        raise ModelError("component='response' is a mean of several parts; it has no link")
    return target(estimate, component).factors[0].uses[0]


def _target(estimate: GeneralisedEstimate, component: str, type: str) -> Target:
    if has_categories(estimate.family) and component in ("conditional", "response"):
        return target(estimate, "prob")
    if component == "conditional":
        link = estimate.family.link
        return Target((through(link, 0, count_of(estimate)),), _interval_scale(link))
    if component == "response":
        return target(estimate, "response")
    return target(estimate, component)


def _interval_scale(link: str) -> str:
    return "log" if link in ("sqrt", "inverse", "1/mu^2") else link


def _jacobian(estimate: GeneralisedEstimate, parts: Parts, found: Expectation) -> Floats:
    N, K = found.value.shape
    out = np.empty((N, K, len(estimate.coefficients) + len(estimate.theta)))
    for k in range(K):
        out[:, k] = expectation_gradient(estimate, parts, found, k)
    return out


def conditional_parts(estimate: GeneralisedEstimate, rows: Rows, component: str) -> LinearPart:
    """Return the linear predictor of a component whose random effects stay."""
    if has_categories(estimate.family) or component == "response":
        raise ModelError(
            "unit= is for a mean with one linear predictor; for categories, or with a zero "
            "part, use predict(kind='conditional')"
        )
    return linear_parts(estimate, rows)[predictor_of(estimate, component)]
