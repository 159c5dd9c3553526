"""Minus twice the log-likelihood of a fitted model as a function of its parameters."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from ranef.derivatives.generalised import generalised_criterion
from ranef.inference.coefficients.functions import squared_distance
from ranef.models.records import GeneralisedEstimate, LinearEstimate
from ranef.solve.point import linear_point

__all__ = ["Deviance", "generalised_deviance", "linear_deviance"]

Floats = NDArray[np.float64]
Deviance = Callable[[Floats, Floats, float | None], float]
"""Of coefficients (P,), theta (k,) and the residual standard deviation."""


def linear_deviance(estimate: LinearEstimate) -> Deviance:
    """Deviance of a linear model; under REML that of theta and sigma plus beta's quadratic form.

    It may be asked by several threads at once: each takes one core.
    """
    rows = replace(estimate.specification)  # its cross-products are one thread's own

    def at(beta: Floats, theta: Floats, sigma: float | None) -> float:
        assert sigma is not None
        point = linear_point(rows, theta, reml=estimate.reml, path=estimate.optimum.path, n_jobs=1)
        m, s2 = point.degrees, sigma**2
        gap = beta - point.beta
        form = squared_distance(gap, point.C)
        there = point.criterion - m * (1.0 + np.log(point.r2 / m))
        return float(there + m * np.log(s2) + (point.r2 + form) / s2)

    return at


def generalised_deviance(estimate: GeneralisedEstimate) -> Deviance:
    """Deviance of a generalised model, by the criterion that was fitted."""

    def at(coefficients: Floats, theta: Floats, sigma: float | None) -> float:
        return generalised_criterion(estimate, coefficients, theta)

    return at
