"""Means of a response that a linear model took through a log, a square root or the like.

With g(y) = x'beta + z'b + e the predictor of a new row is normal with mean mu = x'beta
and variance v = z' Psi z + sigma^2, so that

    E exp(mu + e) = exp(mu + v / 2),    E (mu + e)^2 = mu^2 + v,

and by Gauss-Hermite quadrature for what else can be undone on the whole line.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ranef.covariance import structure_of
from ranef.errors import ModelError
from ranef.families.links import Scale
from ranef.families.transformations import Transformation
from ranef.inference.coefficients.parameters import ParameterCovariance
from ranef.models.noise import refuse_unequal
from ranef.models.records import LinearEstimate

__all__ = ["TransformedMeans", "mean_scale", "transformed_means"]

Floats = NDArray[np.float64]

NODES = 80


@dataclass(frozen=True, eq=False)
class TransformedMeans:
    """Means of the response of N rows.

    Attributes
    ----------
    value : (N,) float64 array
    jacobian : (N, p + f + 1) float64 array
        Derivatives in beta, the f free entries of theta, and sigma.
    covariance : (p + f + 1, p + f + 1) float64 array
        Beta and the variance parameters are independent in large samples.
    """

    value: Floats
    jacobian: Floats
    covariance: Floats


def transformed_means(
    estimate: LinearEstimate,
    X: Floats,
    offset: Floats | None,
    random: Sequence[Floats],
    link: Scale,
    parameters: ParameterCovariance,
) -> TransformedMeans:
    """Integrate random effects and residual out.

    X : (N, p); random : z (N, r) of each term; link : ``"log"`` or a transformation.

    Raises
    ------
    ModelError
        Where the response has no mean under normal errors.
    """
    mu = X @ estimate.beta + (0.0 if offset is None else offset)
    sigma = estimate.sigma
    if estimate.specification.residual is not None:
        refuse_unequal(estimate)
    v = np.full(len(mu), sigma**2)
    by_theta, at = [], 0
    terms = estimate.specification.terms
    for term, psi, z in zip(terms, estimate.covariances, random, strict=True):
        v += np.einsum("ni,ij,nj->n", z, psi, z)
        structure = structure_of(term)
        own = estimate.theta[at : at + structure.n_parameters]
        slopes = np.einsum("ni,kij,nj->nk", z, structure.derivatives(own), z)
        by_theta.append(sigma**2 * np.where(np.isfinite(slopes), slopes, 0.0))
        at += structure.n_parameters
    by_parameters = np.hstack([np.hstack(by_theta)[:, parameters.free], (2 * v / sigma)[:, None]])
    value, by_mu, by_v = _expectation(link, mu, v)
    jacobian = np.hstack([by_mu[:, None] * X, by_v[:, None] * by_parameters])
    p = X.shape[1]
    covariance = np.zeros((jacobian.shape[1], jacobian.shape[1]))
    covariance[:p, :p] = estimate.coefficient_vcov
    covariance[p:, p:] = parameters.covariance
    return TransformedMeans(value, jacobian, covariance)


def _expectation(link: Scale, mu: Floats, v: Floats) -> tuple[Floats, Floats, Floats]:
    """E h(mu + e), e ~ N(0, v), of what carries back, and its derivatives in mu and v."""
    if not isinstance(link, Transformation):
        value = np.exp(mu + v / 2)
        return value, value, value / 2
    if link.name.startswith("sqrt(") and len(link.steps) == 1:
        return mu**2 + v, 2 * mu, np.ones_like(mu)
    if not link.integrable:
        raise ModelError(
            f"the mean of {link.variable} under normal errors of {link} does not exist, or has no "
            "exact form: the errors reach beyond the values that it takes, or it grows too fast; "
            "kind='typical' carries back medians"
        )
    x, w = np.polynomial.hermite_e.hermegauss(NODES)
    w = w / w.sum()
    with np.errstate(over="ignore"):
        at = link.derivatives(mu[:, None] + np.sqrt(v)[:, None] * x)
    value, by_mu, curved = (np.asarray(part @ w) for part in at)
    return value, by_mu, curved / 2


def mean_scale(link: Scale) -> Scale:
    """Return the scale on which intervals of means of a response carried back are made."""
    if not isinstance(link, Transformation):
        return link
    if link.logged is not None:
        return link
    return "log" if link.positive else "identity"
