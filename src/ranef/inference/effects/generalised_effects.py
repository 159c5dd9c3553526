"""Posterior means of the random effects of a generalised model."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ranef.derivatives import generalised
from ranef.models.records import GeneralisedEstimate
from ranef.solve import quadrature

__all__ = ["PosteriorMeans", "posterior_means"]

Floats = NDArray[np.float64]

NODES = 15


@dataclass(frozen=True, eq=False)
class PosteriorMeans:
    """Mean and standard deviation of the effects of one term, given data and parameters.

    Attributes
    ----------
    term : int
        Index into ``estimate.terms``.
    mean, sd : (q, r) float64 arrays
    """

    term: int
    mean: Floats
    sd: Floats


def posterior_means(
    estimate: GeneralisedEstimate, nodes: int | None = None
) -> tuple[PosteriorMeans, ...]:
    """Posterior means of the random effects, beside which the modes may stand.

    By adaptive Gauss-Hermite quadrature around the modes (Pinheiro & Chao 2006,
    J. Comput. Graph. Stat. 15), at the estimated parameters.

    Parameters
    ----------
    estimate : GeneralisedEstimate
        With one grouping factor or factors nested in each other, without kernels, and
        at most three random effects a level.
    nodes : int or None
        Of each dimension. None takes 15, or fewer where a row has so many effects that
        they would make more than 20,000 points.

    Raises
    ------
    ModelError
        When the model is another.
    """
    chosen = quadrature.comfortable_nodes(estimate.design, NODES) if nodes is None else nodes
    found = generalised.posterior_moments(estimate, chosen)
    return tuple(
        PosteriorMeans(t, mean, np.sqrt(np.maximum(np.einsum("qrr->qr", covariance), 0.0)))
        for t, (mean, covariance) in enumerate(found)
    )
