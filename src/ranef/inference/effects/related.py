"""Effects of levels without data, which a kernel relates to those that have them.

With b_1 the effects of the levels with data and K the kernel, the others are

    b_2 = A b_1 + e,   A = K_21 K_11^-,   Var(e) = (K_22 - A K_12) x Psi,

so that their means given the data are A times those of b_1, and their variances follow
(Henderson 1977, J. Dairy Sci. 60: prediction of breeding values of animals without records).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ranef.inference.effects.posterior import effect_posterior
from ranef.models.records import Estimate
from ranef.squares import eigen

__all__ = ["RelatedEffects", "related_effects"]

Floats = NDArray[np.float64]
SINGULAR = 1e-10
"""Eigenvalue of a kernel, relative to the largest, that counts as zero."""
AT_ONCE = 100
"""Levels worked on together."""


@dataclass(frozen=True, eq=False)
class RelatedEffects:
    """Of m levels: means (m, r) of their effects, and their standard deviations given the
    parameters, and of the prediction error.
    """

    estimate: Floats
    cond_sd: Floats
    std_error: Floats


def related_effects(
    estimate: Estimate, t: int, observed: Floats, cross: Floats, own: Floats
) -> RelatedEffects:
    """Predict the effects of levels without data.

    Parameters
    ----------
    estimate : Estimate
    t : int
        The term with the kernel.
    observed, cross, own : (q, q), (m, q), (m,) float64 arrays
        The kernel among the levels with data, between the others and these, and the
        others' own entries.
    """
    A = _regression(observed, cross)
    apart = np.maximum(own - np.einsum("mq,mq->m", A, cross), 0.0)
    psi, b = estimate.covariances[t], estimate.modes[t]
    given, error = np.empty((len(A), b.shape[1])), np.empty((len(A), b.shape[1]))
    X, posterior = _fixed(estimate), effect_posterior(estimate)
    for first in range(0, len(A), AT_ONCE):
        rows = slice(first, first + AT_ONCE)
        for j in range(b.shape[1]):
            functions = [np.zeros((len(A[rows]), *mode.shape)) for mode in estimate.modes]
            functions[t][:, :, j] = A[rows]
            given[rows, j] = np.diag(posterior.covariance(functions))
            J = posterior.movement(functions, X)
            error[rows, j] = np.sum(J @ estimate.coefficient_vcov * J, axis=1)
    given = given + apart[:, None] * np.diag(psi)
    return RelatedEffects(A @ b, np.sqrt(given), np.sqrt(given + error))


def _regression(observed: Floats, cross: Floats) -> Floats:
    """K_21 K_11^-, a generalised inverse where K_11 is singular."""
    values, vectors = eigen(observed)
    kept = values > SINGULAR * max(float(values[-1]), 1e-300)
    V = vectors[:, kept]
    return np.asarray((cross @ V / values[kept]) @ V.T)


def _fixed(estimate: Estimate) -> Floats:
    """Derivatives (n M, P) of the predictors with random effects in all coefficients."""
    design = estimate.design
    if design is None:
        return estimate.specification.X
    out = np.zeros((len(design.random), design.n, len(estimate.coefficients)))
    for here, m in zip(out, design.random, strict=True):
        part = design.predictors[m]
        here[:, part.coefficients] += part.X
    return np.asarray(out.reshape(-1, out.shape[2]))
