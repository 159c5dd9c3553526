"""Standard deviations, correlations and their like, with intervals."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ranef.covariance import Component, structure_of
from ranef.design.terms import RandomTerm
from ranef.inference.coefficients.parameters import ParameterCovariance
from ranef.inference.coefficients.residual_parameters import gradient_of, residual_parameters
from ranef.inference.coefficients.wald import quantile
from ranef.models.records import Estimate, GeneralisedEstimate, LinearEstimate, component_of
from ranef.models.sizes import effect_sizes

__all__ = [
    "VarianceParameter",
    "generalised_variances",
    "intraclass_correlations",
    "linear_variances",
]

Floats = NDArray[np.float64]

ZERO = 1e-8
UNIT_CORRELATION = 1.0 - 1e-8
LATENT = {"logit": np.pi**2 / 3, "probit": 1.0, "cloglog": np.pi**2 / 6}


@dataclass(frozen=True)
class VarianceParameter:
    """One standard deviation, correlation, range ...

    Attributes
    ----------
    term : int or None
        Index of the random term, of a generalised model among those of its
        design; None for the residual.
    name, name2 : str or None
        The coefficients: one of an sd, two of a correlation; ``"(all)"`` where
        all share the parameter.
    kind : str
        ``"sd"``, ``"corr"``, ``"rate"``, ``"range"`` or ``"smoothness"``.
    estimate : float
        Standard deviations with sigma included. NaN for the correlation with
        an effect that does not vary.
    conf_low, conf_high : float
        NaN on a face: a variance of zero, a correlation of one.
    component : str
        The part of the model that the term belongs to; of a correlation across parts that of
        the first effect, and the name of the second begins with its own.
    response : str or None
        Its category, in a multinomial model.
    """

    term: int | None
    name: str | None
    name2: str | None
    kind: str
    estimate: float
    conf_low: float
    conf_high: float
    component: str = "conditional"
    response: str | None = None


def linear_variances(
    estimate: LinearEstimate, known: ParameterCovariance, conf_level: float = 0.95
) -> tuple[VarianceParameter, ...]:
    """All parameters of the random effects, term by term, and the residual sd.

    Intervals are Wald's, carried back from the scale of the logarithm, for a
    correlation of Fisher's z = atanh(corr); standard errors there are by the
    delta method from the covariance matrix `known` of (theta, sigma). (Pinheiro & Bates
    2000, section 2.4.3, recommend these scales.)
    """
    reach = float(quantile(conf_level, np.array(np.inf)))
    found = []
    for t, term, component, gradient in _components(estimate.specification.terms, estimate.theta):
        se = np.nan
        if not _on_face(estimate, t, term, component):
            se = _standard_error(_transformed(component, gradient, estimate.sigma), known)
        scale = estimate.sigma if component.parameter.kind == "sd" else 1.0
        found.append(_named(term, _parameter(t, component, scale, reach * se)))
    if estimate.specification.residual is not None:
        return (*found, *residual_variances(estimate, known, reach))
    return (*found, _residual(estimate, known, reach))


def generalised_variances(
    estimate: GeneralisedEstimate, covariance: Floats, conf_level: float = 0.95
) -> tuple[VarianceParameter, ...]:
    """Absolute standard deviations and correlations of the terms of all components.

    covariance : (k, k) of theta; intervals as in `linear_variances`.
    """
    reach = float(quantile(conf_level, np.array(np.inf)))
    found = []
    for t, term, component, gradient in _components(estimate.terms, estimate.theta):
        se = np.nan
        if not _on_face(estimate, t, term, component):
            slope = _transformed(component, gradient, 1.0)[:-1]
            variance = float(slope @ covariance @ slope)
            se = np.sqrt(variance) if variance > 0 else np.nan
        part = component_of(estimate, t, component.parameter.term)
        one = _parameter(t, component, 1.0, reach * se)
        one = _named(term, one)
        names = [None if n is None else term.name_in(part.name, n) for n in (one.name, one.name2)]
        found.append(
            replace(one, name=names[0], name2=names[1], component=part.name, response=part.response)
        )
    return tuple(found)


def _named(term: RandomTerm, one: VarianceParameter) -> VarianceParameter:
    """The standard deviation of memberships by the effect that their levels have."""
    return one if term.member is None else replace(one, name=term.member)


def _parameter(t: int, component: Component, scale: float, half: float) -> VarianceParameter:
    """One row, from the half-width of its interval on the scale of log or atanh."""
    own = component.parameter
    low, high = _bounds(own.kind, component.value, half)
    value = scale * component.value
    return VarianceParameter(
        t, own.term, own.term2 or None, own.kind, value, scale * low, scale * high
    )


def intraclass_correlations(estimate: Estimate) -> tuple[float, ...] | None:
    """Share of each term's variance in the total, where that is one number.

    None unless every term is a random intercept without a kernel and the rows
    have equal weights. Of a generalised model the total is that of the latent
    response on the scale of the link, where the link is the distribution function
    of one: pi^2 / 3 for the logit, 1 for the probit, pi^2 / 6 for the cloglog is
    added to the terms' variances (Nakagawa, Johnson & Schielzeth 2017, J. R. Soc.
    Interface 14); of binary, binomial and ordered responses without a zero part.
    """
    spec = estimate.specification
    if spec.weights is not None or any(
        term.names != ("(Intercept)",) or term.kernel is not None for term in spec.terms
    ):
        return None
    residual = _residual_variance(estimate)
    if residual is None:
        return None
    own = [estimate.covariances[t] for t in estimate.components[0].terms]
    variances = np.array([float(psi[0, 0]) for psi in own])
    total = variances.sum() + residual
    return tuple(float(v) for v in variances / total)


def _residual_variance(estimate: Estimate) -> float | None:
    """Variance of a row beside the random effects, on the scale of the link."""
    if estimate.sigma is not None:
        structured = estimate.specification.residual is not None
        return None if structured else estimate.sigma**2
    family = estimate.family
    if family.name not in ("binomial", "cumulative") or "zero" in estimate.parts:
        return None
    return LATENT.get(family.link)


def _components(
    terms: Sequence[RandomTerm], theta: Floats
) -> Iterator[tuple[int, RandomTerm, Component, Floats]]:
    """Each component with its term and its gradient (k,) over all of theta."""
    start = 0
    for t, term in enumerate(terms):
        family = structure_of(term)
        own = slice(start, start + family.n_parameters)
        start = own.stop
        for component in family.components(theta[own], term.names):
            gradient = np.zeros(len(theta))
            gradient[own] = component.gradient
            yield t, term, component, gradient


def _on_face(estimate: Estimate, t: int, term: RandomTerm, component: Component) -> bool:
    """Tell whether a component stands at the boundary of its range."""
    value = component.value
    if np.isnan(value) or not np.isfinite(component.gradient).all():
        return True
    if component.parameter.kind == "corr":
        return abs(value) >= UNIT_CORRELATION
    if all(face.term != t for face in estimate.optimum.faces):
        return value <= 0.0
    name = component.parameter.term
    columns = [term.names.index(name)] if name in term.names else slice(None)
    scale = 1.0 if estimate.sigma is None else estimate.sigma
    return bool(value * scale * effect_sizes(estimate, t)[columns].max() <= ZERO)


def _transformed(component: Component, gradient: Floats, sigma: float) -> Floats:
    """Gradient (k + 1,) of log value or atanh value with respect to (theta, sigma)."""
    kind, value = component.parameter.kind, component.value
    slope = 1.0 / (1.0 - value**2) if kind == "corr" else 1.0 / value
    return np.append(slope * gradient, 1.0 / sigma if kind == "sd" else 0.0)


def _standard_error(gradient: Floats, parameters: ParameterCovariance) -> float:
    """Delta method; NaN when no free entry of theta moves the parameter."""
    g = gradient[np.append(parameters.free, True)]
    if not g[:-1].any():
        return float("nan")
    return float(np.sqrt(max(float(g @ parameters.covariance @ g), 0.0)))


def _bounds(kind: str, value: float, half: float) -> tuple[float, float]:
    """Interval from the half-width on the scale of log or atanh."""
    if np.isnan(half):
        return float("nan"), float("nan")
    if kind == "corr":
        z = np.arctanh(value)
        return float(np.tanh(z - half)), float(np.tanh(z + half))
    with np.errstate(over="ignore"):
        return float(value * np.exp(-half)), float(value * np.exp(half))


FISHER = frozenset({"corr", "phi", "rho"})
"""Kinds with an interval on the scale of Fisher's z."""
AS_THEY_ARE = frozenset({"theta", "power", "exponent"})
"""Kinds with an interval on their own scale."""


def residual_variances(
    estimate: LinearEstimate, known: ParameterCovariance, reach: float
) -> tuple[VarianceParameter, ...]:
    """The parameters of residuals with a structure, see `linear_variances`.

    A nugget has its interval on the scale of the logit; parameters of an ARMA process beyond
    one, powers and exponents have theirs on their own.
    """
    term = estimate.specification.residual
    assert term is not None
    out = []
    moved = np.append(known.free, True)
    for which, parameter in enumerate(residual_parameters(term)):
        value, gradient = gradient_of(estimate, which)
        g = gradient[moved]
        se = float(np.sqrt(max(float(g @ known.covariance @ g), 0.0))) if g.any() else np.nan
        low, high = _residual_bounds(parameter.kind, value, reach * se)
        out.append(
            VarianceParameter(
                None, parameter.term, parameter.term2, parameter.kind, value, low, high, "residual"
            )
        )
    return tuple(out)


def _residual_bounds(kind: str, value: float, half: float) -> tuple[float, float]:
    """Interval from the half-width on a parameter's own scale."""
    if not np.isfinite(value + half):
        return float("nan"), float("nan")
    if kind in {"corr", "rho"} and abs(value) >= UNIT_CORRELATION:
        return float("nan"), float("nan")
    if kind in FISHER and abs(value) < UNIT_CORRELATION:
        z, h = np.arctanh(value), half / (1.0 - value**2)
        return float(np.tanh(z - h)), float(np.tanh(z + h))
    if kind == "nugget":
        z, h = np.log(value / (1.0 - value)), half / (value * (1.0 - value))
        return float(1 / (1 + np.exp(h - z))), float(1 / (1 + np.exp(-h - z)))
    if kind in FISHER | AS_THEY_ARE or not value > 0:
        return value - half, value + half
    with np.errstate(over="ignore"):
        return float(value * np.exp(-half / value)), float(value * np.exp(half / value))


def _residual(
    estimate: LinearEstimate, parameters: ParameterCovariance, reach: float
) -> VarianceParameter:
    """The residual standard deviation."""
    half = reach * float(np.sqrt(parameters.covariance[-1, -1])) / estimate.sigma
    low, high = _bounds("sd", estimate.sigma, half)
    return VarianceParameter(None, None, None, "sd", estimate.sigma, low, high)
