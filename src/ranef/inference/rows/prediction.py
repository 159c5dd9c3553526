"""Predictions for rows, with the uncertainty of the fixed and the random effects."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ranef.derivatives import linear
from ranef.inference.coefficients.degrees import METHODS, Parameters, degrees_of_freedom
from ranef.inference.coefficients.parameters import ParameterCovariance, parameter_covariance
from ranef.inference.coefficients.wald import quantile
from ranef.inference.rows.fitted import linear_predictor
from ranef.models.noise import relative_sds, variance_slopes
from ranef.models.records import LinearEstimate
from ranef.models.rows import PartRows, at_levels

__all__ = ["Prediction", "Random", "by_theta", "degrees", "interval_of", "predict"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int32]
Random = Sequence[tuple[Ints, Floats]]

FEWEST = 2.0
"""Degrees of freedom at least."""


@dataclass(frozen=True, eq=False)
class Prediction:
    """Predicted values, (N,), or (N, J) where there is one for each category or predictor.

    The other three are None where no confidence level was given, and NaN for
    ``type="class"``.
    """

    estimate: Floats
    std_error: Floats | None = None
    conf_low: Floats | None = None
    conf_high: Floats | None = None

    def without(self, gone: NDArray[np.bool_]) -> Prediction:
        """Return it with NaN in some rows."""

        def left(values: Floats | None) -> Floats | None:
            where = gone if values is None or values.ndim == 1 else gone[:, None]
            return None if values is None else np.where(where, np.nan, values)

        return Prediction(*(left(v) for v in vars(self).values()))  # type: ignore[arg-type]


def predict(
    estimate: LinearEstimate,
    rows: PartRows,
    kind: str,
    *,
    conf_level: float,
    new: bool = False,
    df: str = "satterthwaite",
    parameters: Parameters | None = None,
    known_theta: bool = False,
) -> Prediction:
    """Predict rows and say how well.

    The variance of the prediction error given theta is v =

    - conditional: var(x'beta_hat + z'b_hat - x'beta - z'b); an unseen level
      has b_hat = 0 and adds z' Psi z;
    - typical, and the mean of the population: x' vcov x, vcov that of the method `df`;
    - a new observation (`new`) adds sigma^2 / w, and from the population
      z' Psi z of levels not seen.

    Theta is estimated, which tells in two ways. The prediction moves with it: with
    d its derivative and A the covariance of theta_hat, d' A d is added (Kackar &
    Harville 1984, J. Am. Stat. Assoc. 79; at the data at hand, as Booth & Hobert
    1998, J. Am. Stat. Assoc. 93, and Kass & Steffey 1989, J. Am. Stat. Assoc. 84,
    have it, and not averaged over data). And v is estimated: intervals are of the t
    distribution with Satterthwaite's degrees of freedom 2 v^2 / (g' A g), g the
    derivative of v in (theta, sigma), which matters most for a level not seen, whose
    variance rests on as few degrees of freedom as there are levels. For the means of
    typical levels and of the population these are the intervals of the coefficients, by
    the method `df`.

    `known_theta` leaves both out.
    """
    uses_random = kind == "conditional" or (kind == "population" and new)
    random = rows.random if uses_random else None
    value = linear_predictor(
        estimate, rows.X, rows.offset, (random or ()) if kind == "conditional" else ()
    )
    if kind == "population" and random is not None:
        random = _unseen(random)
    given = error_variance(estimate, rows.X, random)
    term = rows.residual
    if new:
        if term is not None:
            term = term.with_mean(linear_predictor(estimate, rows.X, rows.offset))
        sds = relative_sds(estimate, term, rows.weights, len(value))
        given = given + (estimate.sigma * sds) ** 2
    if not uses_random and not new:
        vcov = METHODS[df].of(estimate)
        given = np.sum(rows.X @ vcov * rows.X, axis=1)
        nu = degrees_of_freedom(estimate, rows.X, df, parameters)
        return interval_of(value, given, nu, conf_level)
    if known_theta:
        return interval_of(value, given, np.full(len(value), np.inf), conf_level)
    known = (parameters or (lambda: parameter_covariance(estimate)))()
    d, slopes = _derivatives(estimate, known, rows.X, random)
    moved = np.sum(d @ known.covariance[:-1, :-1] * d, axis=1)
    if new and term is not None:
        own = variance_slopes(estimate, term, rows.weights, len(value))
        slopes = slopes + estimate.sigma**2 * own[:, known.free]
    nu = degrees(estimate, known, slopes, given)
    return interval_of(value, given + moved, nu, conf_level)


def _unseen(random: Random) -> Random:
    """Levels drawn anew."""
    return [(np.full_like(codes, -1), z) for codes, z in random]


def interval_of(value: Floats, variance: Floats, df: Floats, conf_level: float) -> Prediction:
    """Predictions with these error variances and degrees of freedom."""
    error = np.sqrt(np.maximum(variance, 0.0))
    reach = np.where(error > 0, quantile(conf_level, df), 0.0) * error
    return Prediction(value, error, value - reach, value + reach)


def _derivatives(
    estimate: LinearEstimate, known: ParameterCovariance, X: Floats, random: Random | None
) -> tuple[Floats, Floats]:
    """Derivatives (N, f) of predictions and of their variances in theta[free], sigma held."""
    both = None if random is None else linear.prediction_derivatives(estimate, X, random)
    if both is None:
        d, slopes = (
            by_theta(estimate, X, random)[:, known.free],
            _slopes(estimate, known, X, random),
        )
        return d, slopes
    return both[0][:, known.free], both[1][:, known.free]


def by_theta(
    estimate: LinearEstimate, X: Floats, random: Sequence[tuple[Ints, Floats] | None] | None
) -> Floats:
    """Derivatives (N, k) of predictions x'beta + z'b in theta; b of a level not seen stays 0."""
    by_beta, by_mode = linear.effect_derivatives(estimate)
    d = X @ by_beta
    for moved, given in zip(by_mode, random or (), strict=False):
        if given is None:
            continue
        codes, z = given
        d += at_levels(moved, codes, z)
    return d


def _slopes(
    estimate: LinearEstimate, known: ParameterCovariance, X: Floats, random: Random | None
) -> Floats:
    """Derivatives (N, f) of the variance in theta[free], sigma held."""
    if random is not None:
        every = linear.prediction_variance_derivatives(estimate, X, random)
        return np.asarray(every[:, known.free])
    by_vcov = [np.sum(X @ d * X, axis=1) for d in known.vcov_gradient[:-1]]
    return np.column_stack(by_vcov or [np.empty((len(X), 0))])


def degrees(
    estimate: LinearEstimate, known: ParameterCovariance, slopes: Floats, variance: Floats
) -> Floats:
    """Satterthwaite's degrees of freedom (N,) of a variance that scales with sigma^2.

    Parameters
    ----------
    estimate : LinearEstimate
    known : ParameterCovariance
    slopes : (N, f) float64 array
        Derivatives in theta[free], sigma held.
    variance : (N,) float64 array

    Returns
    -------
    (N,) float64 array
        At least 2: where theta is next to unknown the formula has no lower end.
    """
    g = np.column_stack([slopes, 2 * variance / estimate.sigma])
    spread = np.sum(g @ known.covariance * g, axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        df = 2 * variance**2 / spread
    return np.asarray(np.where(spread > 0, np.maximum(df, FEWEST), np.inf))


def error_variance(estimate: LinearEstimate, X: Floats, random: Random | None) -> Floats:
    """Variance (N,) of the prediction error given theta."""
    if random is None:
        fixed: Floats = np.sum(X @ estimate.coefficient_vcov * X, axis=1)
        return fixed
    return np.asarray(linear.prediction_variance(estimate, X, random))
