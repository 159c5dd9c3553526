"""Cluster-robust covariance of a generalised model: the sandwich of its scores."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ranef.derivatives import generalised
from ranef.derivatives.scores import cluster_scores
from ranef.errors import ModelError
from ranef.models.records import GeneralisedEstimate

__all__ = ["SANDWICH_TYPES", "sandwich"]

Floats = NDArray[np.float64]

SANDWICH_TYPES = ("CR0", "CR1")


def sandwich(estimate: GeneralisedEstimate, codes: NDArray[np.intp], kind: str) -> Floats:
    """Covariance (P, P) of all coefficients: H^-1 (sum_i s_i s_i') H^-1.

    s_i is the gradient of the (approximate) marginal log-likelihood of cluster i in
    coefficients and theta, H minus its second derivatives (White 1982; Liang & Zeger
    1986). CR1 multiplies by m / (m - 1), m the number of clusters.
    """
    if estimate.reml:
        raise ModelError(
            "the scores are those of the likelihood, and this fit is by restricted likelihood; "
            "fit it with reml=False"
        )
    scores = cluster_scores(estimate, codes)
    hessian, free = generalised.joint_hessian(estimate)
    inverse = np.zeros_like(hessian)
    keep = np.ix_(free, free)
    inverse[keep] = 2 * np.linalg.inv(hessian[keep])
    m = len(scores)
    factor = m / (m - 1) if kind == "CR1" else 1.0
    joint = factor * inverse @ (scores.T @ scores) @ inverse
    M = estimate.design.constraints.free(len(estimate.coefficients)).M
    count = M.shape[1]
    return np.asarray(M @ joint[:count, :count] @ M.T, dtype=np.float64)
