"""The delta method for a function of all parameters that is known at estimates alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from ranef.covariance import structure_of
from ranef.inference.coefficients.parameters import ParameterCovariance
from ranef.models.records import Estimate, LinearEstimate, theta_slices

__all__ = ["EstimateFunction", "delta_error", "linear_delta"]

Floats = NDArray[np.float64]
EstimateFunction = Callable[[Estimate], float]

STEP = 1e-4
"""Of a parameter, in multiples of its size: the difference is good to about nine digits."""


def delta_error(function: Callable[[Floats], float], x: Floats, covariance: Floats) -> float:
    """Standard error of f(x): the root of g' V g, with g by central differences.

    Parameters
    ----------
    function : callable
        Of x (k,); it must be smooth there.
    x : (k,) float64 array
    covariance : (k, k) float64 array

    Examples
    --------
    >>> round(delta_error(lambda x: x[0] / x[1], np.array([1.0, 2.0]), np.eye(2)), 6)
    0.559017
    """
    steps = STEP * np.maximum(np.abs(x), np.sqrt(np.maximum(np.diag(covariance), 0.0)))
    gradient = np.zeros(len(x))
    for j in np.flatnonzero(steps > 0).tolist():
        up, down = x.copy(), x.copy()
        up[j] += steps[j]
        down[j] -= steps[j]
        gradient[j] = (function(up) - function(down)) / (up[j] - down[j])
    return float(np.sqrt(max(float(gradient @ covariance @ gradient), 0.0)))


def linear_delta(
    estimate: LinearEstimate, known: ParameterCovariance, function: EstimateFunction
) -> float:
    """Standard error of a function of a linear model's theta and sigma."""
    free = np.flatnonzero(known.free)

    def at(x: Floats) -> float:
        theta, sigma = estimate.theta.copy(), float(x[-1])
        theta[free] = x[:-1]
        covariances = tuple(
            sigma**2 * structure_of(term).psi(theta[own])
            for term, own in zip(estimate.terms, theta_slices(estimate), strict=True)
        )
        return function(replace(estimate, theta=theta, sigma=sigma, covariances=covariances))

    return delta_error(at, np.append(estimate.theta[free], estimate.sigma), known.covariance)
