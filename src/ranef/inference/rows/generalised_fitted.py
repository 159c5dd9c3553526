"""Fitted values and residuals of the rows in a generalised model."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from ranef.errors import ModelError, suggestion
from ranef.families import Binomial, CensoredGaussian
from ranef.families.links import expit
from ranef.inference.rows.generalised_prediction import predict
from ranef.inference.rows.parts import linear_parts
from ranef.inference.rows.targets import has_categories, has_zero
from ranef.inference.rows.uncertainty import linear_predictors
from ranef.models.records import GeneralisedEstimate
from ranef.models.rows import Rows

__all__ = ["RESIDUALS", "fitted", "predictors", "residuals"]

Floats = NDArray[np.float64]

RESIDUALS = ("response", "pearson", "deviance", "working")


def fitted(
    estimate: GeneralisedEstimate, *, kind: str = "conditional", type: str = "response"
) -> Floats:
    """Predicted values of the rows in the model; see `predict` for `kind` and `type`."""
    return predict(estimate, Rows.of(estimate.parts, estimate.extra), kind=kind, type=type).estimate


def predictors(estimate: GeneralisedEstimate, kind: str = "conditional") -> Floats:
    """Linear predictors (M, n) of the rows in the model, as the family's `mean` takes them."""
    rows = Rows.of(estimate.parts, estimate.extra)
    return linear_predictors(estimate, linear_parts(estimate, rows), kind == "conditional")


def residuals(
    estimate: GeneralisedEstimate, kind: str = "response", *, conditional: bool = True
) -> Floats:
    """Residuals of the rows in the model, (n,).

    Parameters
    ----------
    estimate : GeneralisedEstimate
    kind : str
        ``"response"``: response minus mean, of trials the proportion minus the
        probability. ``"pearson"``: that times sqrt(weight) over the standard
        deviation that the family gives it. ``"deviance"``: the root of the row's
        unit deviance, with the sign of the response residual. ``"working"``: the
        response residual times d eta / d mu.
    conditional : bool
        With the modes of the random effects, or with effects of zero.

    Returns
    -------
    (n,) float64 array
        NaN where a censored response was not observed.

    Raises
    ------
    ModelError
        Of categories, which have no difference from a mean; of deviance residuals
        where the family has no deviance or the model a zero part; of working
        residuals where the mean is no link of one predictor.
    """
    _check(estimate, kind)
    family = estimate.family
    etas = predictors(estimate, "conditional" if conditional else "typical")
    zero = has_zero(estimate)
    y, trials = _proportions(estimate)
    mean = family.mean(etas, None, zero=zero)
    gap = y - mean
    w = estimate.specification.weights
    root = np.ones_like(y) if w is None else np.sqrt(w)
    if kind == "pearson":
        extra = estimate.extra if isinstance(family, Binomial) else None
        return root * gap * trials / np.sqrt(family.variance(etas, extra, zero=zero))
    if kind == "working":
        return gap / family.inverse_link_derivatives(etas[0])[0]
    if kind == "deviance":
        unit = trials * DEVIANCES[family.name](y, mean, etas)
        return root * np.sign(gap) * np.sqrt(np.maximum(unit, 0.0))
    return gap


def _proportions(estimate: GeneralisedEstimate) -> tuple[Floats, Floats]:
    """Responses as the mean speaks of them, and the trials behind each."""
    y, extra = estimate.specification.y, estimate.extra
    if isinstance(estimate.family, Binomial) and extra is not None:
        return y / extra, extra
    if isinstance(estimate.family, CensoredGaussian) and extra is not None:
        return np.where(y == extra, y, np.nan), np.ones_like(y)
    return y, np.ones_like(y)


def _check(estimate: GeneralisedEstimate, kind: str) -> None:
    family = estimate.family
    if kind not in RESIDUALS:
        known = ", ".join(repr(k) for k in RESIDUALS)
        raise ModelError(
            f"no residuals of kind {kind!r}{suggestion(str(kind), RESIDUALS)}; use one of {known}"
        )
    if has_categories(family):
        raise ModelError(
            "a category has no residual: it is no number that could differ from a mean; "
            "compare the categories with the probabilities of fitted()"
        )
    if kind == "deviance" and has_zero(estimate):
        raise ModelError(
            "a model with a zero part is a mixture, which has no deviance residuals; use 'pearson'"
        )
    if kind == "deviance" and family.name not in DEVIANCES:
        raise ModelError(
            f"the family {family.name} has no deviance with a saturated model of its own; "
            "use 'pearson'"
        )
    if kind == "working" and (has_zero(estimate) or family.mean_link is None):
        raise ModelError(
            "working residuals are of a mean that is a link of one predictor; use 'pearson'"
        )


# --- unit deviances: McCullagh & Nelder 1989, table 2.1; Tweedie: Jorgensen 1997, p. 130


def _log_ratio(y: Floats, mu: Floats) -> Floats:
    """Return y log(y / mu), 0 where y is 0."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(y > 0, y * np.log(y / mu), 0.0)


def _gaussian(y: Floats, mu: Floats, etas: Floats) -> Floats:
    return np.asarray((y - mu) ** 2)


def _binomial(y: Floats, mu: Floats, etas: Floats) -> Floats:
    return 2 * (_log_ratio(y, mu) + _log_ratio(1 - y, 1 - mu))


def _poisson(y: Floats, mu: Floats, etas: Floats) -> Floats:
    return 2 * (_log_ratio(y, mu) - (y - mu))


def _gamma(y: Floats, mu: Floats, etas: Floats) -> Floats:
    return np.asarray(2 * ((y - mu) / mu - np.log(y / mu)))


def _inverse_gaussian(y: Floats, mu: Floats, etas: Floats) -> Floats:
    return np.asarray((y - mu) ** 2 / (y * mu**2))


def _nbinom2(y: Floats, mu: Floats, etas: Floats) -> Floats:
    phi = np.exp(etas[1])
    return np.asarray(2 * (_log_ratio(y, mu) - (y + phi) * np.log((y + phi) / (mu + phi))))


def _tweedie(y: Floats, mu: Floats, etas: Floats) -> Floats:
    p = 1 + expit(etas[2])
    whole = y ** (2 - p) / ((1 - p) * (2 - p))
    return np.asarray(2 * (whole - y * mu ** (1 - p) / (1 - p) + mu ** (2 - p) / (2 - p)))


DEVIANCES: dict[str, Callable[[Floats, Floats, Floats], Floats]] = {
    "gaussian": _gaussian,
    "binomial": _binomial,
    "poisson": _poisson,
    "Gamma": _gamma,
    "inverse.gaussian": _inverse_gaussian,
    "nbinom2": _nbinom2,
    "tweedie": _tweedie,
}
