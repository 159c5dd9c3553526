"""Second derivatives of the log density at an estimate."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ranef.models.records import Estimate, GeneralisedEstimate, LinearEstimate

__all__ = ["information_weights"]

Floats = NDArray[np.float64]


def information_weights(estimate: Estimate) -> list[list[Floats]]:
    """Minus the second derivatives of the log density in the predictors with random effects.

    Returns
    -------
    list of lists of (n,) arrays
        By pairs of these predictors (`GeneralisedDesign.random`); in a linear model the
        weights over sigma^2.
    """
    spec = estimate.specification
    if isinstance(estimate, LinearEstimate):
        w = np.ones(spec.n) if spec.weights is None else spec.weights
        return [[w / estimate.sigma**2]]
    assert isinstance(estimate, GeneralisedEstimate)
    design = estimate.design
    active = list(design.random)
    values = design.family.evaluate(design.y, design.extra, estimate.predictors, 2, active)
    M = len(active)
    # value, first derivatives, then the upper triangle of the second
    second = -values[1 + M :] if design.weights is None else -values[1 + M :] * design.weights
    found: list[list[Floats]] = [[np.empty(0)] * M for _ in range(M)]
    for a, b, w in zip(*np.triu_indices(M), second, strict=True):
        found[a][b] = found[b][a] = w
    return found
