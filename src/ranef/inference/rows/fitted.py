"""Fitted values and residuals of the rows in the model."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ranef.design.specification import Specification
from ranef.models.noise import relative_sds
from ranef.models.records import LinearEstimate
from ranef.models.rows import at_levels

__all__ = ["fitted", "linear_predictor", "log_deviations", "predictors", "residuals"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int32]


def linear_predictor(
    estimate: LinearEstimate,
    X: Floats,
    offset: Floats | None,
    random: Sequence[tuple[Ints, Floats]] = (),
) -> Floats:
    """Offset + X beta + sum of z'b over the terms given; b = 0 where a code is -1.

    X : (N, p), offset : (N,), random : (codes (N,), z (N, r)) per term.
    """
    total = X @ estimate.beta
    if offset is not None:
        total = total + offset
    for b, (codes, z) in zip(estimate.modes, random, strict=False):
        total = total + at_levels(b, codes, z)
    return total


def fitted(estimate: LinearEstimate, *, conditional: bool = True) -> Floats:
    """Fitted values (n,), with or without the random effects."""
    spec = estimate.specification
    random = [(spec.factors[t.factor].codes, t.z) for t in spec.terms] if conditional else []
    return linear_predictor(estimate, spec.fixed_rows, spec.offset, random)


def predictors(estimate: LinearEstimate, kind: str = "conditional") -> Floats:
    """Means and log standard deviations (2, n) of the rows: the predictors of the normal family."""
    mean = fitted(estimate, conditional=kind == "conditional")
    spec = estimate.specification
    if spec.residual is not None:
        sds = relative_sds(estimate, spec.residual, spec.weights, spec.n)
        return np.stack([mean, np.log(estimate.sigma * sds)])
    return np.stack([mean, log_deviations(spec, estimate.sigma)])


def log_deviations(spec: Specification, sigma: float) -> Floats:
    """Log standard deviations (n,) of the rows' residuals, log(sigma / sqrt(w))."""
    logs = np.full(spec.n, np.log(sigma))
    return logs if spec.weights is None else logs - 0.5 * np.log(spec.weights)


def residuals(
    estimate: LinearEstimate, *, conditional: bool = True, pearson: bool = False
) -> Floats:
    """Response minus fitted values (n,); `pearson` divides by their standard deviations."""
    spec = estimate.specification
    e = spec.y - fitted(estimate, conditional=conditional)
    if pearson and spec.residual is not None:
        return e / (estimate.sigma * relative_sds(estimate, spec.residual, spec.weights, spec.n))
    if pearson:
        w = 1.0 if spec.weights is None else np.sqrt(spec.weights)
        e = e * w / estimate.sigma
    return e
