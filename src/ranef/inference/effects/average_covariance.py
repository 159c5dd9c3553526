"""The covariance of averages: of coefficients, and of effects that they rest on."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ranef.derivatives import linear
from ranef.inference.coefficients.covariance import joint_covariance
from ranef.inference.coefficients.parameters import ParameterCovariance
from ranef.inference.effects.posterior import effect_posterior
from ranef.inference.rows.averaging import Means
from ranef.inference.rows.uncertainty import mode_derivatives
from ranef.models.records import GeneralisedEstimate, LinearEstimate

__all__ = ["generalised_average_covariance", "linear_average_covariance"]

Floats = NDArray[np.float64]


def linear_average_covariance(
    estimate: LinearEstimate, found: Means, vcov: Floats, known: ParameterCovariance | None = None
) -> tuple[Floats, Floats]:
    """Covariance (S, S) of averages, and their full derivatives in the coefficients.

    J V J' with V the covariance of beta (`vcov`). Averages at the modes move with these,
    and the effects are not known even if the parameters are (Kass & Steffey 1989, J. Am.
    Stat. Assoc. 84): m' C m is added, C the covariance of the effects of all levels given
    the parameters; with `known` also what the uncertainty of theta moves them.
    """
    if found.covariance is not None:
        beta = found.jacobian[:, : len(estimate.beta)]
        return found.jacobian @ found.covariance @ found.jacobian.T, beta
    if found.effects is None or not estimate.terms:
        return found.jacobian @ vcov @ found.jacobian.T, found.jacobian
    posterior = effect_posterior(estimate)
    J = found.jacobian + posterior.movement(found.effects, estimate.specification.X)
    covariance = J @ vcov @ J.T + posterior.covariance(found.effects)
    if known is not None:
        by_beta, by_mode = linear.effect_derivatives(estimate)
        d = found.jacobian @ by_beta
        for m, moved in zip(found.effects, by_mode, strict=True):
            d = d + np.einsum("sqr,qrk->sk", m, moved)
        d = d[:, known.free]
        covariance = covariance + d @ known.covariance[:-1, :-1] @ d.T
    return covariance, J


def generalised_average_covariance(
    estimate: GeneralisedEstimate, found: Means
) -> tuple[Floats, Floats]:
    """Do the same with the joint covariance of coefficients and theta."""
    V = joint_covariance(estimate)
    if found.effects is None or not estimate.terms:
        return found.jacobian @ V @ found.jacobian.T, found.jacobian
    J = found.jacobian.copy()
    for m, moved in zip(found.effects, mode_derivatives(estimate), strict=True):
        J += np.einsum("sqr,qrd->sd", m, moved)
    return J @ V @ J.T + effect_posterior(estimate).covariance(found.effects), J
