"""Population-averaged coefficients of a generalised model.

A coefficient of a model with random effects compares two rows of the same level. The
marginal coefficients beta_m describe the mean over all levels instead,

    g(E[mu | x]) ~ X beta_m,

by least squares of the link of the marginal means on X (Hedeker, du Toit, Demirtas &
Gibbons 2018, Biometrics 74). The means are integrals over the random effects, and the
standard errors come from their exact derivatives in coefficients and theta.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ranef.errors import ModelError, suggestion
from ranef.families import Cumulative, Multinomial
from ranef.families.links import LINKS
from ranef.inference.coefficients.covariance import joint_covariance
from ranef.inference.coefficients.wald import Intervals, wald
from ranef.inference.rows.integration import Factor, expectation
from ranef.inference.rows.parts import LinearPart, linear_parts
from ranef.inference.rows.row_functions import component_link, predictor_of
from ranef.inference.rows.targets import STRIPS, target, through
from ranef.inference.rows.uncertainty import (
    expectation_gradient,
    linear_predictors,
    random_variance,
)
from ranef.models.records import GeneralisedEstimate
from ranef.models.rows import Rows

__all__ = ["Marginal", "marginal", "marginal_intervals"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int_]
Parts = tuple[LinearPart, ...]


@dataclass(frozen=True, eq=False)
class Marginal:
    """Population-averaged coefficients.

    Attributes
    ----------
    component : str
    names : tuple of str
        Of the m coefficients: those of the component, of ordered categories the
        thresholds after them, of a multinomial model those of each category.
    responses : tuple of str or None
        The category of each, in a multinomial model.
    columns : (m,) int array
        Their places among `GeneralisedEstimate.coefficients`.
    conditional : (m,) float64 array
        The coefficients of the model: given a level.
    estimate : (m,) float64 array
        The marginal ones.
    vcov : (m, m) float64 array
    jacobian : (m, P + k) float64 array
        Derivatives of `estimate` in coefficients and theta.
    attenuation : (m,) float64 array
        Marginal over conditional; NaN where the latter is zero.
    lack_of_fit : float
        Largest distance, on the scale of the link, of a row's marginal mean from
        the straight line X beta_m: how far the marginal model is from linear.
    intervals : Intervals
        Of `estimate`, with tests, by the normal distribution.
    """

    component: str
    names: tuple[str, ...]
    responses: tuple[str | None, ...]
    columns: Ints
    conditional: Floats
    estimate: Floats
    vcov: Floats
    jacobian: Floats
    attenuation: Floats
    lack_of_fit: float
    intervals: Intervals


def marginal(
    estimate: GeneralisedEstimate, *, component: str = "conditional", conf_level: float = 0.95
) -> Marginal:
    """Average a component's coefficients over the population.

    Parameters
    ----------
    estimate : GeneralisedEstimate
    component : str
        ``"conditional"``: of the mean without the zero part (of a truncated family,
        of its mean before truncation); ``"zero"``, ``"dispersion"``.
    conf_level : float

    Returns
    -------
    Marginal

    Raises
    ------
    ModelError
        When there is no such component, or its mean over the population does not
        exist (the inverse link).
    """
    parts = linear_parts(estimate, Rows.of(estimate.parts, estimate.extra))
    etas = linear_predictors(estimate, parts, False)
    variances = random_variance(estimate, parts)
    if component == "conditional" and isinstance(estimate.family, Cumulative):
        means = _below(estimate, parts, etas, variances)
    elif component == "conditional" and isinstance(estimate.family, Multinomial):
        means = _odds(estimate, parts, etas, variances)
    else:
        means = _one(estimate, component, parts, etas, variances)
    return _projected(estimate, component, means, conf_level)


def marginal_intervals(coefficients: Marginal, L: Floats, conf_level: float = 0.95) -> Intervals:
    """Estimate, test and interval of l'beta_m for each row of L (q, m)."""
    L = np.atleast_2d(np.asarray(L, dtype=np.float64))
    if L.shape[1] != len(coefficients.estimate):
        raise ModelError(
            f"the hypothesis has {L.shape[1]} columns but there are "
            f"{len(coefficients.estimate)} marginal coefficients; give one column a coefficient"
        )
    error = np.sqrt(np.sum(L @ coefficients.vcov * L, axis=1))
    return wald(L @ coefficients.estimate, error, np.full(len(L), np.inf), conf_level)


@dataclass(frozen=True, eq=False)
class _LinkedMeans:
    """Links of marginal means (S,), their derivatives (S, P + k), and what they are linear in."""

    X: Floats
    columns: Ints
    value: Floats
    slope: Floats


def _projected(
    estimate: GeneralisedEstimate, component: str, means: list[_LinkedMeans], conf_level: float
) -> Marginal:
    """Least squares of the links of the means on their columns."""
    columns = np.unique(np.concatenate([m.columns for m in means]))
    X = np.zeros((sum(len(m.value) for m in means), len(columns)))
    at = 0
    for m in means:
        X[at : at + len(m.value), np.searchsorted(columns, m.columns)] = m.X
        at += len(m.value)
    value, slope = np.concatenate([m.value for m in means]), np.vstack([m.slope for m in means])
    Q, R = np.linalg.qr(X)
    beta = np.linalg.solve(R, Q.T @ value)
    J = np.linalg.solve(R, Q.T @ slope)
    vcov = J @ joint_covariance(estimate) @ J.T
    conditional = estimate.coefficients[columns]
    names, responses = _labels(estimate, columns)
    attenuation = np.full(len(beta), np.nan)
    np.divide(beta, conditional, out=attenuation, where=conditional != 0)
    error = np.sqrt(np.maximum(np.diag(vcov), 0.0))
    return Marginal(
        component,
        names,
        responses,
        columns,
        conditional,
        beta,
        vcov,
        J,
        attenuation,
        float(np.abs(value - X @ beta).max()),
        wald(beta, error, np.full(len(beta), np.inf), conf_level),
    )


def _labels(
    estimate: GeneralisedEstimate, columns: Ints
) -> tuple[tuple[str, ...], tuple[str | None, ...]]:
    every = {
        k: (name, part.response)
        for part in estimate.components
        for k, name in enumerate(part.names, part.coefficients.start)
    }
    names, responses = zip(*(every[int(k)] for k in columns), strict=True)
    return names, responses


def _less_offset(value: Floats, part: LinearPart) -> Floats:
    return value if part.offset is None else value - part.offset


def _one(
    estimate: GeneralisedEstimate, component: str, parts: Parts, etas: Floats, variances: Floats
) -> list[_LinkedMeans]:
    """The mean of one predictor's parameter."""
    a, link = _predictor(estimate, component)
    means = expectation(through(link, a, len(parts)), etas, variances)
    value = LINKS[link].function(means.value[:, 0])
    slope = expectation_gradient(estimate, parts, means, 0) / LINKS[link].first(value)[:, None]
    part = parts[a]
    return [_LinkedMeans(part.X, part.columns, _less_offset(value, part), slope)]


def _predictor(estimate: GeneralisedEstimate, component: str) -> tuple[int, str]:
    """Number and link of the predictor of a component."""
    components = [c.name for c in estimate.components]
    names = [name for name in ("conditional", "zero", "dispersion") if name in components]
    if component not in names:
        raise ModelError(
            f"the model has no component {component!r}{suggestion(component, names)}; "
            f"there are {', '.join(map(repr, names))}"
        )
    return predictor_of(estimate, component), component_link(estimate, component)


def _below(
    estimate: GeneralisedEstimate, parts: Parts, etas: Floats, variances: Floats
) -> list[_LinkedMeans]:
    """P(y <= j) of ordered categories: F^-1 of it is threshold_j - eta."""
    link = LINKS[estimate.family.link]
    J = len(parts)

    def slope(etas: Floats) -> Floats:
        density = link.first(etas[1:] - etas[0])
        out = np.zeros((J, etas.shape[1], J - 1))
        for j in range(J - 1):
            out[0, :, j], out[j + 1, :, j] = -density[j], density[j]
        return out

    below = Factor(
        tuple(range(J)),
        lambda etas: link.inverse(etas[1:] - etas[0]).T,
        slope,
        None,
        STRIPS.get(estimate.family.link, np.pi / 2),
    )
    shares = expectation(below, etas, variances)
    means = []
    for j in range(J - 1):
        value = link.function(shares.value[:, j])
        J_value = expectation_gradient(estimate, parts, shares, j) / link.first(value)[:, None]
        X = np.hstack([-parts[0].X, parts[j + 1].X])
        columns = np.concatenate([parts[0].columns, parts[j + 1].columns])
        if parts[0].offset is not None:
            value = value + parts[0].offset
        means.append(_LinkedMeans(X, columns, value, J_value))
    return means


def _odds(
    estimate: GeneralisedEstimate, parts: Parts, etas: Floats, variances: Floats
) -> list[_LinkedMeans]:
    """Log odds of each category against the first."""
    shares = expectation(target(estimate, "response").factors[0], etas, variances)
    p = shares.value
    base = expectation_gradient(estimate, parts, shares, 0) / p[:, :1]
    return [
        _LinkedMeans(
            part.X,
            part.columns,
            _less_offset(np.log(p[:, k] / p[:, 0]), part),
            expectation_gradient(estimate, parts, shares, k) / p[:, k, None] - base,
        )
        for k, part in enumerate(parts, 1)
    ]
