"""Predictions for rows, with the uncertainty of the fixed and the random effects."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ranef import solve
from ranef.inference.degrees import Parameters, degrees_of_freedom
from ranef.inference.means import linear_predictor
from ranef.inference.wald import coefficient_covariance, quantile
from ranef.models.estimate import Estimate

__all__ = ["NewRows", "Prediction", "predict"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int32]


@dataclass(frozen=True, eq=False)
class NewRows:
    """Rows to predict, as arrays without missing values.

    Attributes
    ----------
    X : (N, p) float64 array
    offset : (N,) float64 array or None
    random : sequence of (codes (N,), z (N, r)), or None
        One entry a term; -1 codes a level that the fit has not seen. None
        where the prediction needs no random effects.
    weights : (N,) float64 array or None
        Precision weights of new observations; None for 1.
    """

    X: Floats
    offset: Floats | None
    random: Sequence[tuple[Ints, Floats]] | None
    weights: Floats | None = None


@dataclass(frozen=True, eq=False)
class Prediction:
    """Predicted values with standard errors and intervals, all (N,)."""

    estimate: Floats
    std_error: Floats
    conf_low: Floats
    conf_high: Floats


def predict(
    estimate: Estimate,
    rows: NewRows,
    kind: str,
    *,
    conf_level: float,
    new: bool = False,
    df: str = "satterthwaite",
    parameters: Parameters | None = None,
) -> Prediction:
    """Predict rows and say how well.

    The variance of the prediction error is

    - conditional: var(x'beta_hat + z'b_hat - x'beta - z'b); an unseen level
      has b_hat = 0 and adds z' Psi z;
    - typical, and the mean of the population: x' vcov x, vcov that of the method `df`;
    - a new observation (`new`) adds sigma^2 / w, and from the population
      z' Psi z of levels not seen.

    Intervals take the t distribution with the degrees of freedom of `df` where the
    variance is x' vcov x, so that they agree with those of the coefficients, and the
    normal elsewhere.
    """
    uses_random = kind == "conditional" or (kind == "population" and new)
    random = rows.random if uses_random else None
    value = linear_predictor(
        estimate, rows.X, rows.offset, (random or ()) if kind == "conditional" else ()
    )
    nu = np.full(len(value), np.inf)
    if not uses_random and not new:
        vcov = coefficient_covariance(estimate, df)
        variance = np.sum(rows.X @ vcov * rows.X, axis=1)
        nu = degrees_of_freedom(estimate, rows.X, df, parameters)
    else:
        variance = error_variance(estimate, rows.X, random, unseen=kind == "population")
    if new:
        variance = variance + estimate.sigma**2 / (1.0 if rows.weights is None else rows.weights)
    error = np.sqrt(np.maximum(variance, 0.0))
    reach = np.where(error > 0, quantile(conf_level, nu), 0.0) * error
    return Prediction(value, error, value - reach, value + reach)


def error_variance(
    estimate: Estimate,
    X: Floats,
    random: Sequence[tuple[Ints, Floats]] | None,
    *,
    unseen: bool,
) -> Floats:
    """Variance (N,) of the prediction error; `unseen` draws every level anew."""
    if random is None:
        fixed: Floats = np.sum(X @ estimate.vcov * X, axis=1)
        return fixed
    given = [(np.full_like(codes, -1) if unseen else codes, z) for codes, z in random]
    return np.asarray(solve.prediction_variance(estimate, X, given))
