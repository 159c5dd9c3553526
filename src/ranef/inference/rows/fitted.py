"""Fitted values and residuals of the rows in the model."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ranef.models.records import Estimate
from ranef.models.rows import at_levels

__all__ = ["fitted", "linear_predictor", "residuals"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int32]


def linear_predictor(
    estimate: Estimate,
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


def fitted(estimate: Estimate, *, conditional: bool = True) -> Floats:
    """Fitted values (n,), with or without the random effects."""
    spec = estimate.specification
    random = [(spec.factors[t.factor].codes, t.z) for t in spec.terms] if conditional else []
    return linear_predictor(estimate, spec.X, spec.offset, random)


def residuals(estimate: Estimate, *, conditional: bool = True, pearson: bool = False) -> Floats:
    """Response minus fitted values (n,); `pearson` divides by sigma / sqrt(w)."""
    spec = estimate.specification
    e = spec.y - fitted(estimate, conditional=conditional)
    if pearson:
        w = 1.0 if spec.weights is None else np.sqrt(spec.weights)
        e = e * w / estimate.sigma
    return e
