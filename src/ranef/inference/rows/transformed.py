"""Means of a response that a linear model took through a log or a square root.

With g(y) = x'beta + z'b + e the predictor of a new row is normal with mean mu = x'beta
and variance v = z' Psi z + sigma^2, so that

    E exp(mu + e) = exp(mu + v / 2),    E (mu + e)^2 = mu^2 + v.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ranef.covariance import structure_of
from ranef.inference.coefficients.parameters import ParameterCovariance
from ranef.models.records import LinearEstimate

__all__ = ["TransformedMeans", "transformed_means"]

Floats = NDArray[np.float64]


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
    link: str,
    parameters: ParameterCovariance,
) -> TransformedMeans:
    """Integrate random effects and residual out.

    X : (N, p); random : z (N, r) of each term; link : ``"log"`` or ``"sqrt"``.
    """
    mu = X @ estimate.beta + (0.0 if offset is None else offset)
    sigma = estimate.sigma
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
    if link == "log":
        value = np.exp(mu + v / 2)
        by_mu, by_v = value, value / 2
    else:
        value, by_mu, by_v = mu**2 + v, 2 * mu, np.ones_like(mu)
    jacobian = np.hstack([by_mu[:, None] * X, by_v[:, None] * by_parameters])
    p = X.shape[1]
    covariance = np.zeros((jacobian.shape[1], jacobian.shape[1]))
    covariance[:p, :p] = estimate.coefficient_vcov
    covariance[p:, p:] = parameters.covariance
    return TransformedMeans(value, jacobian, covariance)
