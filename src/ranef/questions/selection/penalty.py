"""The conditional AIC of a generalised model: how much it adapts itself to each response.

With l(y; e) the log density of a row at its predictors e, E over responses that the fitted
model draws, and e_i(y) the predictors of row i that the model has when its response is y,

    df = sum_i E_y [l(y; e_i(y)) - E_y* l(y*; e_i(y))],

the conditional covariance penalty (Efron 2004, J. Am. Stat. Assoc. 99, sections 4-5). Of a
Bernoulli response it is mu (1 - mu) (eta(1) - eta(0)) (Saefken, Kneib, van Waveren & Greven
2014, Electron. J. Stat. 8), of an exponential family with known dispersion the covariance of
response and natural parameter; with an estimated one it counts that too. The expectation over
y is taken by a rule of few points, at each of which the model is fitted again.

A Poisson response has an exact estimator, without an expectation (Chen 1975, Ann. Probab. 3;
Lian 2012, J. Stat. Comput. Simul. 82; Saefken et al. 2014):

    df = sum_i y_i (log mu_i(y) - log mu_i(y - 1)).

Of categories, ordered or not, the expectation over y is the sum over all of them.

Where that takes too many refits, df is sum_i w_i Var(eta_i), Var the covariance of the
predictors with that of the variance parameters in it (Wood, Pya & Saefken 2016, J. Am. Stat.
Assoc. 111), plus one for each parameter of the other parts, corrected by refits for a sample of
rows: the mean of what refits find more is added for every row (a control variate). Categories
without an order have no such form, and the rows of the sample stand for all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ranef.errors import RanefError
from ranef.families import Cumulative, Multinomial
from ranef.inference.effects.combinations import Combinations
from ranef.inference.effects.linearised import refuse_unordered
from ranef.inference.kinds import inference_of
from ranef.inference.rows.targets import has_zero
from ranef.models.records import CONDITIONAL, Estimate, GeneralisedEstimate, columns_in
from ranef.models.refitting import refitted
from ranef.questions.selection.conditional import ConditionalFit
from ranef.questions.selection.rules import Rule, rule_of
from ranef.solve.resources import available_cores, in_threads

__all__ = [
    "MOST_REFITS",
    "Draws",
    "closed_form",
    "conditional_generalised",
    "row_penalties",
]

Floats = NDArray[np.float64]
Ints = NDArray[np.intp]
THRESHOLD = "threshold"
Track = Callable[[Iterable[Floats]], Iterable[Floats]]
Draws = Callable[[], np.random.Generator]

MOST_REFITS = 1_500
"""Refits up to which every row has its own."""
SAMPLED = 80
"""Rows whose own refits correct a closed form."""


@dataclass(frozen=True, eq=False)
class _Closed:
    """Degrees of freedom without a refit.

    Attributes
    ----------
    rows : (n,) float64 array
        w_i Var(eta_i), the other parts' parameters spread over the rows.
    trace : float
        Their sum with the variance parameters known.
    """

    rows: Floats
    trace: float


def conditional_generalised(
    estimate: GeneralisedEstimate,
    *,
    refits: bool | None = None,
    draws: Draws | None = None,
    n_jobs: int | None = None,
    track: Track = iter,
) -> ConditionalFit:
    """Return the conditional likelihood of a generalised model, corrected.

    Parameters
    ----------
    estimate : GeneralisedEstimate
    refits : bool or None
        True refits for every row, False not at all; None refits for every row where that
        takes at most `MOST_REFITS` fits, else for a sample of rows.
    draws : callable, optional
        Gives the generator of the sample.
    n_jobs : int or None
        Threads over the rows.
    track : callable
        Goes through the rows' answers, to show progress.
    """
    if refits is False:
        refuse_unordered(estimate, "one linear predictor for the mean, or refits")
    loglik, n = conditional_loglik(estimate), estimate.specification.n
    unordered = isinstance(estimate.family, Multinomial)
    closed = _Closed(np.zeros(n), np.nan) if unordered else closed_form(estimate)
    total = float(closed.rows.sum())
    if refits is False or _has_nominal_effects(estimate):
        return ConditionalFit(loglik, total, closed.trace, "closed form")
    counts = counts_alone(estimate)
    needed = _refits_needed(estimate, np.arange(n))
    rows = np.arange(n)
    if refits is None and needed > MOST_REFITS and n > SAMPLED:
        generator = np.random.default_rng(0) if draws is None else draws()
        rows = np.sort(generator.choice(n, SAMPLED, replace=False))
    own = row_penalties(estimate, rows, n_jobs=n_jobs, track=track)
    lost = ~np.isfinite(own)
    own = np.where(lost, np.nanmean(own) if unordered else closed.rows[rows], own)
    made, failed = _refits_needed(estimate, rows), int(lost.sum())
    if len(rows) == n:
        method = "counts" if counts else "refits"
        return ConditionalFit(loglik, float(own.sum()), closed.trace, method, 0.0, made, failed)
    more = own - closed.rows[rows]
    df = total + n * float(more.mean())
    error = n * float(more.std(ddof=1)) / np.sqrt(len(rows)) * np.sqrt(1 - len(rows) / n)
    return ConditionalFit(loglik, df, closed.trace, "sampled refits", error, made, failed)


def conditional_loglik(estimate: GeneralisedEstimate) -> float:
    """Log density of the responses at the modes of the random effects."""
    return float(np.sum(_row_densities(estimate, estimate.specification.y, estimate.predictors)))


def _row_densities(estimate: GeneralisedEstimate, y: Floats, etas: Floats) -> Floats:
    weights = estimate.specification.weights
    core = estimate.design.family
    found = core.evaluate(
        np.ascontiguousarray(y), estimate.extra, np.ascontiguousarray(etas), 0, []
    )[0]
    return np.asarray(found if weights is None else weights * found)


# --- without refits


def closed_form(estimate: GeneralisedEstimate) -> _Closed:
    """Degrees of freedom of Wood, Pya & Saefken (2016), by rows."""
    model, spec = inference_of(estimate), estimate.specification
    own = estimate.components[0]
    what = mean_predictors(estimate)
    weights = np.maximum(_information(estimate), 0.0)
    others = sum(
        c.coefficients.stop - c.coefficients.start
        for c in estimate.components
        if c.predictor != own.predictor
    )
    held = len(estimate.fixed)
    spread = max(others - held, 0) / spec.n
    given = model.posterior(what, "variance").variance
    all_of_it = model.posterior(what, "nothing").variance
    return _Closed(weights * all_of_it + spread, float(weights @ given) + spread * spec.n)


def mean_predictors(estimate: Estimate) -> Combinations:
    """Linear predictor of the mean of each row, random effects included."""
    part, spec = estimate.components[0], estimate.specification
    X = np.zeros((spec.n, len(estimate.coefficients)))
    X[:, part.coefficients] = spec.X[:, [spec.names.index(name) for name in part.names]]
    random: list[tuple[NDArray[np.int32], Floats] | None] = [None] * len(estimate.terms)
    for t in part.terms:
        codes = estimate.factors[estimate.terms[t].factor].codes
        random[t] = (codes, columns_in(estimate, t, part))
    return Combinations(X, tuple(random))


def _information(estimate: GeneralisedEstimate) -> Floats:
    """Minus the second derivative of each row's log density in the mean's predictor."""
    found = estimate.design.family.evaluate(
        estimate.specification.y, estimate.extra, np.ascontiguousarray(estimate.predictors), 2, [0]
    )
    weights = estimate.specification.weights
    return np.asarray(-found[2] if weights is None else -found[2] * weights)


# --- by refits


def counts_alone(estimate: GeneralisedEstimate) -> bool:
    """Tell whether the response is Poisson and nothing else."""
    return estimate.family.name == "poisson" and not has_zero(estimate)


def _refits_needed(estimate: GeneralisedEstimate, rows: Ints) -> int:
    if counts_alone(estimate):
        return int(np.count_nonzero(estimate.specification.y[rows] > 0))
    if has_categories(estimate):
        return len(rows) * (_n_categories(estimate) - 1)
    total = 0
    for i in rows:
        rule = _rule(estimate, int(i))
        total += int(np.count_nonzero(rule.points != estimate.specification.y[i]))
    return total


def _rule(estimate: GeneralisedEstimate, i: int) -> Rule:
    extra = None if estimate.extra is None else float(estimate.extra[i])
    return rule_of(estimate.family, estimate.predictors[:, i], extra, zero=has_zero(estimate))


def row_penalties(
    estimate: GeneralisedEstimate,
    rows: Ints,
    *,
    n_jobs: int | None = None,
    track: Track = iter,
) -> Floats:
    """Each row's share of df, (m,); NaN where a refit failed."""
    one = _by_counts if counts_alone(estimate) else _by_rule
    one = _by_categories if has_categories(estimate) else one

    def penalty(i: int) -> Floats:
        try:
            return np.array([one(estimate, int(i))])
        except (RanefError, np.linalg.LinAlgError):
            return np.array([np.nan])

    found = in_threads(penalty, [int(i) for i in rows], available_cores(n_jobs))
    return np.concatenate([np.empty(0), *track(found)])


def _by_counts(estimate: GeneralisedEstimate, i: int) -> float:
    """Poisson: y (log mu(y) - log mu(y - 1))."""
    y, family = float(estimate.specification.y[i]), estimate.family
    if y == 0:
        return 0.0
    below = _predictors_at(estimate, i, y - 1)
    mean = family.inverse_link(np.array([estimate.predictors[0, i], below[0]]))
    weights = estimate.specification.weights
    w = 1.0 if weights is None else float(weights[i])
    return w * y * float(np.log(mean[0] / mean[1]))


def has_categories(estimate: GeneralisedEstimate) -> bool:
    """Tell whether a response is one of several categories."""
    return isinstance(estimate.family, Cumulative | Multinomial)


def _n_categories(estimate: GeneralisedEstimate) -> int:
    if isinstance(estimate.family, Multinomial):
        return estimate.family.categories
    assert estimate.extra is not None
    return int(estimate.extra[0])


def _has_nominal_effects(estimate: GeneralisedEstimate) -> bool:
    """Tell whether thresholds differ between rows."""
    return isinstance(estimate.family, Cumulative) and any(
        c.name == THRESHOLD and c.specification is not None for c in estimate.components
    )


def _by_categories(estimate: GeneralisedEstimate, i: int) -> float:
    """sum_k p_k [l(k; e(k)) - sum_j p_j l(j; e(k))] over all categories."""
    own, weights = int(estimate.specification.y[i]), estimate.specification.weights
    here = _category_logs(estimate, i)
    p, total = np.exp(here), 0.0
    for k in range(len(p)):
        logs = here if k == own else _category_logs(_with_response(estimate, i, float(k)), i)
        total += p[k] * float(logs[k] - p @ logs)
    return total * (1.0 if weights is None else float(weights[i]))


def _category_logs(estimate: GeneralisedEstimate, i: int) -> Floats:
    """Log probabilities (J,) of the categories of row i."""
    J, family = _n_categories(estimate), estimate.family
    y, eta = np.arange(float(J)), estimate.predictors[:, i]
    if isinstance(family, Cumulative):
        part = next(c for c in estimate.components if c.name == THRESHOLD)
        thresholds = family.threshold_basis(J) @ estimate.coefficients[part.coefficients]
        etas = family.rows(y, np.full(J, eta[0]), thresholds)
        extra: Floats | None = np.full(J, float(J))
    else:
        etas, extra = np.repeat(eta[:, None], J, axis=1), None
    found = estimate.design.family.evaluate(y, extra, np.ascontiguousarray(etas), 0, [])
    return np.asarray(found[0])


def _by_rule(estimate: GeneralisedEstimate, i: int) -> float:
    """sum_k p_k [l(y_k; e(y_k)) - sum_j p_j l(y_j; e(y_k))]."""
    rule, own = _rule(estimate, i), float(estimate.specification.y[i])
    weights = estimate.specification.weights
    w = 1.0 if weights is None else float(weights[i])
    extra = None if estimate.extra is None else np.full(len(rule.points), estimate.extra[i])
    total = 0.0
    for k, (y, p) in enumerate(zip(rule.points, rule.weights, strict=True)):
        eta = estimate.predictors[:, i] if y == own else _predictors_at(estimate, i, float(y))
        etas = np.ascontiguousarray(np.repeat(eta[:, None], len(rule.points), axis=1))
        density = estimate.design.family.evaluate(rule.points, extra, etas, 0, [])[0]
        total += p * float(density[k] - rule.weights @ density)
    return w * total


def _predictors_at(estimate: GeneralisedEstimate, i: int, response: float) -> Floats:
    """Predictors (M,) of row i when its response is another one."""
    return np.asarray(_with_response(estimate, i, response).predictors[:, i])


def _with_response(estimate: GeneralisedEstimate, i: int, response: float) -> GeneralisedEstimate:
    """The model fitted again where row i has another response."""
    y = estimate.specification.y.copy()
    y[i] = response
    parts = {**estimate.parts, CONDITIONAL: estimate.specification.with_response(y)}
    again = refitted(
        estimate, parts, estimate.extra, path=estimate.optimum.path, start=estimate.theta, n_jobs=1
    )
    assert isinstance(again, GeneralisedEstimate)
    return again
