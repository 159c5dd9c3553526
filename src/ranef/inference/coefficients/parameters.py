"""The joint covariance of the variance parameters, from exact derivatives."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ranef.derivatives import linear, second_order
from ranef.models.records import LinearEstimate
from ranef.solve.optimum import MonteCarlo

__all__ = ["ParameterCovariance", "parameter_covariance"]

Floats = NDArray[np.float64]

LEAST = 1e-12
"""Eigenvalue of the scaled Hessian that counts as none."""
FLAT = 1e-7
"""The same where the criterion is known to be flat in some direction."""


@dataclass(frozen=True, eq=False)
class ParameterCovariance:
    """How well theta and sigma are known, and how vcov depends on them.

    Attributes
    ----------
    free : (k,) bool array
        The entries of theta that are free to move on the faces of the optimum.
    covariance : (f + 1, f + 1) float64 array
        Asymptotic covariance matrix of (theta[free], sigma): twice the inverse
        Hessian of the deviance.
    vcov_gradient : (f + 1, p, p) float64 array
        Derivative of vcov with respect to (theta[free], sigma).
    """

    free: NDArray[np.bool_]
    covariance: Floats
    vcov_gradient: Floats


def parameter_covariance(estimate: LinearEstimate) -> ParameterCovariance:
    """Covariance of (theta, sigma) and the derivatives of vcov.

    The engine has the deviance D(theta) with sigma profiled out. In the pair,

        d(theta, sigma) = logdets(theta) + m log(2 pi sigma^2) + r2(theta) / sigma^2,

    and at sigma^2 = r2 / m, with g = d log r2 / d theta, the Hessian is

        d_tt = D_tt + m g g',   d_ts = -2 m g / sigma,   d_ss = 4 m / sigma^2.

    vcov = sigma^2 C(theta) has the derivatives sigma^2 dC / d theta and
    2 vcov / sigma. (Parametrisation of Kuznetsova, Brockhoff & Christensen
    2017, J. Stat. Softw. 82(13); the derivatives here are exact.)
    """
    monte_carlo = estimate.optimum.monte_carlo
    if monte_carlo is not None:
        return _by_average_information(estimate, monte_carlo)
    found = second_order.curvature(estimate)
    m = residual_count(estimate)
    sigma, g = estimate.sigma, found.log_r2
    f = len(g)
    joint = np.empty((f + 1, f + 1))
    joint[:f, :f] = found.hessian + m * np.outer(g, g)
    joint[:f, f] = joint[f, :f] = -2.0 * m * g / sigma
    joint[f, f] = 4.0 * m / sigma**2
    gradient = np.empty((f + 1, *estimate.coefficient_vcov.shape))
    gradient[:f] = sigma**2 * found.fixed
    gradient[f] = 2.0 * estimate.coefficient_vcov / sigma
    return ParameterCovariance(
        found.free, 2.0 * parameter_inverse(estimate, joint, sigma), gradient
    )


def _by_average_information(estimate: LinearEstimate, found: MonteCarlo) -> ParameterCovariance:
    """The same of the iterative path, with average information for second derivatives."""
    free, m, sigma = estimate.theta > 0, residual_count(estimate), estimate.sigma
    g, f = found.log_r2[free], int(free.sum())
    joint = np.empty((f + 1, f + 1))
    joint[:f, :f] = found.information[np.ix_(free, free)] + m * np.outer(g, g)
    joint[:f, f] = joint[f, :f] = -2.0 * m * g / sigma
    joint[f, f] = 4.0 * m / sigma**2
    gradient = np.concatenate([
        sigma**2 * found.vcov_slopes[free], 2.0 * estimate.coefficient_vcov[None] / sigma
    ])  # fmt: skip
    return ParameterCovariance(free, 2.0 * positive_inverse(joint), gradient)


def residual_count(estimate: LinearEstimate) -> int:
    """Divisor of the residual variance: n - p under REML, n under ML."""
    spec = estimate.specification
    return spec.n - spec.p if estimate.reml else spec.n


def parameter_inverse(estimate: LinearEstimate, information: Floats, scale: float) -> Floats:
    """Inverse of the information (f + 1, f + 1) about the free entries of theta and a scale.

    Where the criterion is flat in some direction, a generalised inverse: it serves the
    functions of the parameters that do not depend on that direction.
    """
    if not estimate.optimum.flat:
        return positive_inverse(information)
    theta = np.abs(estimate.theta[linear.free(estimate)])
    unit = np.append(np.where(theta > 0, theta, 1.0), scale)
    sized = information * np.outer(unit, unit)
    kept = np.abs(np.diag(sized)) > FLAT * np.max(np.abs(np.diag(sized)))
    out = np.zeros_like(sized)
    at = np.ix_(kept, kept)
    out[at] = positive_inverse(sized[at], FLAT)
    return np.asarray(out * np.outer(unit, unit))


def positive_inverse(matrix: Floats, tolerance: float = LEAST) -> Floats:
    """Inverse on the directions of positive curvature, after scaling to unit diagonal."""
    diagonal = np.abs(np.diag(matrix))
    scale = 1.0 / np.sqrt(np.where(diagonal > 0, diagonal, 1.0))
    values, vectors = np.linalg.eigh(matrix * np.outer(scale, scale))
    keep = values > tolerance * max(1.0, float(values.max(initial=0.0)))
    kept = vectors[:, keep] * scale[:, None]
    inverse: Floats = (kept / values[keep]) @ kept.T
    return inverse
