"""Predictions of a generalised model, with the uncertainty of all its parameters."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from ranef.covariance.factor import square_root
from ranef.errors import ModelError, suggestion
from ranef.families import Binomial
from ranef.families.links import LINKS
from ranef.inference.coefficients.covariance import joint_covariance
from ranef.inference.coefficients.wald import Intervals, quantile, wald
from ranef.inference.rows.integration import Expectation
from ranef.inference.rows.parts import LinearPart, linear_parts
from ranef.inference.rows.prediction import Prediction
from ranef.inference.rows.targets import Target, evaluate, has_categories, has_zero, target
from ranef.inference.rows.uncertainty import (
    error_variance,
    expectation_gradient,
    linear_predictors,
    loose_shapes,
    random_spread,
)
from ranef.models.records import GeneralisedEstimate
from ranef.models.rows import Rows

__all__ = ["KINDS", "contrasts", "predict"]

Floats = NDArray[np.float64]
Parts = tuple[LinearPart, ...]

KINDS = ("conditional", "typical", "population")
DRAWS = 4000


def predict(
    estimate: GeneralisedEstimate,
    rows: Rows,
    *,
    kind: str = "conditional",
    type: str = "response",
    conf_level: float | None = None,
    interval: str = "mean",
    draws: int = DRAWS,
    rng: np.random.Generator | None = None,
) -> Prediction:
    """Predict rows and say how well.

    Parameters
    ----------
    estimate : GeneralisedEstimate
    rows : Rows
    kind : str
        ``"conditional"``: with the modes of the random effects; those of a level
        that the fit has not seen are zero. ``"typical"``: random effects zero.
        ``"population"``: random effects integrated out, as for levels not seen.
    type : str
        ``"response"``: the mean of the response, zero part included; of trials, the
        probability; of categories, all probabilities, as ``"prob"``. ``"class"``: the
        most probable category, from 0. ``"link"``: the linear predictor of the mean
        (of the population: the link of the mean, without a zero part). ``"zero"``:
        the probability of a zero from the zero part. ``"dispersion"``: the family's
        dispersion parameter.
    conf_level : float or None
        None leaves out standard errors and intervals.
    interval : str
        ``"mean"``: of the value predicted. ``"new"``: of a new response.
    draws : int
        Draws of each row for ``interval="new"``.
    rng : numpy.random.Generator or None
        For ``interval="new"``; None draws from a generator seeded with 0.

    Returns
    -------
    Prediction

    Notes
    -----
    Standard errors are by the delta method through coefficients and theta jointly;
    of conditional predictions also through the random effects (`error_variance`).
    Intervals are made on the scale of the link (where that is sqrt or inverse, or
    there is a zero part, or the mean is no link of one predictor: of the logarithm,
    or of the logit for means between 0 and 1) and carried back.

    An interval of a new response is that between two quantiles of its predictive
    distribution: the linear predictors are drawn from the normal distribution of
    their prediction errors (from the population: random effects anew as well), a
    response from the family at each, and the quantiles are those of the draws. Of
    trials it is the proportion. ``std_error`` is then the draws' standard deviation.
    """
    _check(estimate, kind, type, interval, conf_level)
    if kind != "typical":
        _check_random(estimate, rows)
    parts = linear_parts(estimate, rows)
    if kind == "population" and type == "link":
        return _population_link(estimate, parts, conf_level)
    wanted = target(estimate, type)
    conditional = kind == "conditional"
    etas = linear_predictors(estimate, parts, conditional)
    spread = random_spread(estimate, parts) if kind == "population" else None
    found = evaluate(wanted, etas, spread)
    if type == "class":
        return _classes(found.value, conf_level)
    if conf_level is None:
        return Prediction(_squeezed(found.value))
    if interval == "new":
        low, high, sd = _new(estimate, rows, parts, kind, conf_level, draws, rng)
        return Prediction(_squeezed(found.value), sd, low, high)
    if wanted.single and spread is None:
        return _through_link(estimate, parts, wanted, etas, conditional, conf_level)
    error = np.sqrt(_variances(estimate, parts, found, conditional))
    return _carried_back(found.value, error, wanted.scale, conf_level)


def contrasts(
    estimate: GeneralisedEstimate,
    rows: Rows,
    C: Floats,
    *,
    kind: str = "population",
    type: str = "response",
    conf_level: float = 0.95,
) -> Intervals:
    """Linear functions of predicted means, such as differences between rows.

    Parameters
    ----------
    estimate : GeneralisedEstimate
    rows : Rows
    C : (q, N) array
        One contrast a row: C @ means. An average marginal effect is the mean of
        the rows with a treatment minus that of the same rows without.
    kind : str
        ``"population"`` or ``"typical"``.
    type : str
        ``"response"``, ``"zero"``, ``"dispersion"`` or ``"link"`` (typical only).
    conf_level : float

    Raises
    ------
    ModelError
        Of conditional predictions, of categories, or when C has another width.
    """
    if kind == "conditional":
        raise ModelError(
            "contrasts are of kind 'population' or 'typical'; those of single levels are "
            "differences of their conditional predictions"
        )
    _check(estimate, kind, type, "mean", conf_level)
    if has_categories(estimate.family) and type != "link":
        raise ModelError("contrasts of the probabilities of categories are asked for one by one")
    C = np.atleast_2d(np.asarray(C, dtype=np.float64))
    if C.shape[1] != rows.n:
        raise ModelError(f"the contrast has {C.shape[1]} columns; there are {rows.n} rows")
    if kind == "population":
        _check_random(estimate, rows)
    parts = linear_parts(estimate, rows)
    etas = linear_predictors(estimate, parts, False)
    spread = random_spread(estimate, parts) if kind == "population" else None
    found = evaluate(target(estimate, type), etas, spread)
    G = C @ expectation_gradient(estimate, parts, found, 0)
    error = np.sqrt(np.sum(G @ joint_covariance(estimate) * G, axis=1))
    return wald(C @ found.value[:, 0], error, np.full(len(C), np.inf), conf_level)


def _check(
    estimate: GeneralisedEstimate, kind: str, type: str, interval: str, level: float | None
) -> None:
    if kind not in KINDS:
        known = ", ".join(repr(k) for k in KINDS)
        raise ModelError(
            f"kind={kind!r} is not a known kind{suggestion(kind, KINDS)}; use one of {known}"
        )
    if interval not in ("mean", "new"):
        raise ModelError(f"interval must be 'mean' or 'new', not {interval!r}")
    if interval == "new" and level is not None:
        if type != "response":
            raise ModelError("interval='new' is of the response: use it with type='response'")
        if has_categories(estimate.family):
            raise ModelError(
                "a new category has no interval; type='prob' gives the probabilities of all"
            )


def _check_random(estimate: GeneralisedEstimate, rows: Rows) -> None:
    for name, spec in estimate.parts.items():
        if spec.terms and rows.parts[name].random is None:
            raise ModelError(
                f"the part {name!r} has random effects, and the rows have no columns for them; "
                "only kind='typical' does without"
            )


def _squeezed(values: Floats) -> Floats:
    return values[:, 0] if values.shape[1] == 1 else values


def _variances(
    estimate: GeneralisedEstimate,
    parts: Parts,
    found: Expectation,
    conditional: bool,
) -> Floats:
    """Variances (N, K) of values."""
    N, K = found.value.shape
    out = np.empty((N, K))
    for k in range(K):
        if conditional:
            w = np.ascontiguousarray(found.by_mean[:, :, k])
            out[:, k] = error_variance(estimate, parts, w, True)
            continue
        J = expectation_gradient(estimate, parts, found, k)
        out[:, k] = np.sum(J @ joint_covariance(estimate) * J, axis=1)
    return np.maximum(out, 0.0)


def _reach(conf_level: float) -> float:
    return float(quantile(conf_level, np.array(np.inf)))


def _through_link(
    estimate: GeneralisedEstimate,
    parts: Parts,
    wanted: Target,
    etas: Floats,
    conditional: bool,
    conf_level: float,
) -> Prediction:
    """Predict the inverse of a link at one predictor, its interval from that predictor."""
    link, uses = LINKS[wanted.scale], wanted.factors[0].uses
    if len(uses) != 1:
        found = evaluate(wanted, etas, None)
        error = np.sqrt(_variances(estimate, parts, found, conditional))
        return _carried_back(found.value, error, "identity", conf_level)
    a, weights = uses[0], np.zeros_like(etas)
    weights[a] = 1.0
    error = np.sqrt(np.maximum(error_variance(estimate, parts, weights, conditional), 0.0))
    half = _reach(conf_level) * error
    with np.errstate(over="ignore"):  # an end at infinity is one
        return Prediction(
            link.inverse(etas[a]),
            np.abs(link.first(etas[a])) * error,
            link.inverse(etas[a] - half),
            link.inverse(etas[a] + half),
        )


def _carried_back(value: Floats, error: Floats, scale: str, conf_level: float) -> Prediction:
    """Intervals on the scale of a link, carried back."""
    link = LINKS[scale]
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        centre = link.function(value)
        half = _reach(conf_level) * error / link.first(centre)
        low, high = link.inverse(centre - half), link.inverse(centre + half)
    sure = error == 0
    low, high = np.where(sure, value, low), np.where(sure, value, high)
    return Prediction(*map(_squeezed, (value, error, low, high)))


def _population_link(
    estimate: GeneralisedEstimate, parts: Parts, conf_level: float | None
) -> Prediction:
    """Predict the link of the population mean of the conditional part."""
    family = estimate.family
    if has_categories(family) or family.mean_link is None:
        raise ModelError(
            f"the population mean of {family.name} is no link of one predictor; use "
            "type='response', or marginal() for population-averaged coefficients"
        )
    whole = target(estimate, "response")
    mean = replace(whole, factors=whole.factors[:1])
    etas = linear_predictors(estimate, parts, False)
    found = evaluate(mean, etas, random_spread(estimate, parts))
    link = LINKS[family.mean_link]
    value = link.function(found.value)
    if conf_level is None:
        return Prediction(_squeezed(value))
    error = np.sqrt(_variances(estimate, parts, found, False))
    return _carried_back(value, error / np.abs(link.first(value)), "identity", conf_level)


def _classes(probabilities: Floats, conf_level: float | None) -> Prediction:
    best = np.argmax(probabilities, axis=1).astype(np.float64)
    if conf_level is None:
        return Prediction(best)
    none = np.full_like(best, np.nan)
    return Prediction(best, none, none, none)


# --- new responses


def _new(
    estimate: GeneralisedEstimate,
    rows: Rows,
    parts: Parts,
    kind: str,
    conf_level: float,
    draws: int,
    rng: np.random.Generator | None,
) -> tuple[Floats, Floats, Floats]:
    """Lower and upper quantile and standard deviation (N,) of a new response."""
    if draws < 100:
        raise ModelError(f"draws must be 100 or more to give quantiles, not {draws}")
    generator = np.random.default_rng(0) if rng is None else rng
    if np.isnan(joint_covariance(estimate)).any():
        none = np.full(rows.n, np.nan)  # how well the predictors are known, nobody knows
        return none, none, none
    if kind == "population":
        parts = tuple(replace(p, random=_unseen(p)) for p in parts)
    random = kind != "typical"
    etas = linear_predictors(estimate, parts, random)
    roots = _error_roots(estimate, parts, random)
    trials = rows.extra if isinstance(estimate.family, Binomial) else None
    tails = ((1 - conf_level) / 2, (1 + conf_level) / 2)
    zero, (M, N) = has_zero(estimate), etas.shape
    low, high, spread = np.empty(N), np.empty(N), np.empty(N)
    step = max(1, 1_000_000 // draws)
    for i in range(0, N, step):
        own = slice(i, min(i + step, N))
        n = own.stop - own.start
        noise = np.einsum("nab,bnd->and", roots[own], generator.standard_normal((M, n, draws)))
        drawn = (etas[:, own, None] + noise).reshape(M, -1)
        extra = None if trials is None else np.repeat(trials[own], draws)
        y = estimate.family.simulate(generator, drawn, extra, zero=zero).reshape(n, draws)
        if trials is not None:
            y = y / trials[own, None]
        low[own], high[own] = np.quantile(y, tails, axis=1, method="inverted_cdf")
        with np.errstate(over="ignore", invalid="ignore"):  # it may be beyond all numbers
            spread[own] = np.where(np.isinf(y).any(axis=1), np.inf, y.std(axis=1))
    return low, high, spread


def _unseen(part: LinearPart) -> tuple[tuple[int, NDArray[np.int32], Floats], ...]:
    return tuple((term, np.full_like(codes, -1), z) for term, codes, z in part.random)


def _error_roots(estimate: GeneralisedEstimate, parts: Parts, random: bool) -> Floats:
    """Square roots (N, M, M) of the covariance of the prediction errors of the predictors."""
    M, N = len(parts), len(parts[0].X)

    def variance(*which: int) -> Floats:
        weights = np.zeros((M, N))
        weights[list(which)] = 1.0
        return error_variance(estimate, parts, weights, random)

    covariance = np.empty((N, M, M))
    for a in range(M):
        covariance[:, a, a] = variance(a)
    for a in range(M):
        for b in range(a):
            own = covariance[:, a, a] + covariance[:, b, b]
            covariance[:, a, b] = covariance[:, b, a] = (variance(a, b) - own) / 2
    loose = loose_shapes(estimate, joint_covariance(estimate))
    for a, part in enumerate(parts):
        if loose[part.columns].any():
            covariance[:, a] = covariance[:, :, a] = 0.0
    return square_root(covariance)
