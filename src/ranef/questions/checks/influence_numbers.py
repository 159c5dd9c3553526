"""Influence: what the fit would be without a row, or without a group.

Exact: the model is fitted again, from the estimate's theta and, beside
residuals with a structure, from the usual starts. One-step: what can be said
without a search. Without a group, the linear model of the other rows is solved one
exact Newton step of theta from the estimate (generalised models: in the working
linear model, at theta; Xiang, Tse & Lee 2002, Comput. Stat. Data Anal. 40). Without a
row, at theta, with H = V / sigma^2, C = (X'H^-1 X)^-1, P = H^-1 - H^-1 X C X'H^-1 and
h_i the row of H^-1 X (Christensen, Pearson & Johnson 1992, Technometrics 34; Banerjee &
Frees 1997, J. Am. Stat. Assoc. 92):

    beta_(i) = beta - C h_i (Py)_i / P_ii,   r2_(i) = r2 - (Py)_i^2 / P_ii,
    C_(i) = C + C h_i h_i' C / P_ii,         P_ii = w_i (1 - hat_i).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ranef.covariance.factor import column_sizes
from ranef.design.deletion import deletable, independent_sets, without_rows
from ranef.design.specification import Specification
from ranef.errors import ModelError
from ranef.inference.coefficients.deviance import Deviance
from ranef.inference.coefficients.functions import squared_distance
from ranef.inference.effects.linearised import Linearised, is_constrained
from ranef.inference.protocol import Inference
from ranef.models.records import CONDITIONAL, Estimate
from ranef.models.refitting import refitted
from ranef.models.structured import usual_starts
from ranef.questions.checks.leverage import inverse_times, leverage, projected
from ranef.solve.point import LinearPoint
from ranef.solve.resources import available_cores, in_threads
from ranef.solve.structured.hat import rows_at

__all__ = ["Deletions", "influence_of_rows", "influence_of_sets"]

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
Codes = NDArray[np.int_]
Track = Callable[[Sequence[int]], Iterable[int]]

MOST_SOLVED = 100_000_000
"""Sets times rows times columns up to which one step solves every set's own problem."""


LOWER = 1e-6
"""Difference of criteria."""


@dataclass(frozen=True, eq=False)
class Deletions:
    """The estimates without each of G sets of rows; NaN where they cannot be had.

    Attributes
    ----------
    beta : (G, p) float64 array
        Coefficients of the mean without the set.
    dfbeta : (G, p) float64 array
        Estimate minus `beta`.
    dfbetas : (G, p) float64 array
        That over the standard error without the set.
    cook : (G,) float64 array
        dfbeta' vcov^-1 dfbeta / p, vcov of the whole fit.
    covratio : (G,) float64 array
        det vcov without the set over det vcov.
    theta : (G, k) float64 array
        Change of theta: without the set minus the estimate.
    sd : (G, s) float64 array
        Relative change of each standard deviation, the residual's last in a linear
        model: without the set over the estimate, minus 1.
    displacement : (G,) float64 array
        Twice what the log-likelihood of all rows falls from the estimate to the
        estimate without the set (Cook 1986, J. R. Stat. Soc. B 48). Under REML it is
        that of theta and sigma plus the quadratic form of beta.
    refitted : (G,) bool array
        True where it is known.
    """

    beta: Floats
    dfbeta: Floats
    dfbetas: Floats
    cook: Floats
    covratio: Floats
    theta: Floats
    sd: Floats
    displacement: Floats
    refitted: Bools


@dataclass(frozen=True, eq=False)
class _Without:
    """The estimates without one set."""

    beta: Floats
    vcov: Floats
    theta: Floats
    sd: Floats
    displacement: float


WithoutRows = Callable[[Bools], _Without]
"""From the rows that are kept (n,) to the estimates by them."""


def influence_of_rows(model: Inference) -> Deletions:
    """Influence of every row at the estimate's theta, in closed form."""
    estimate = model.estimate
    _refuse_constrained(estimate)
    working = model.linearised()
    spec, point = working.specification, working.point()
    hat, Pii, h, Py = _row_solves(model, working)
    Ch = h @ point.C
    dfbeta = Ch * (Py / Pii)[:, None]
    spread = np.sum(Ch * h, axis=1) / Pii
    r2 = point.r2 - Py**2 / Pii
    if working.known_sigma:
        scale, scales = 1.0, np.ones(spec.n)
    else:
        scale = point.r2 / point.degrees
        # without residual degrees of freedom, or digits, the other rows leave no variance
        some = (r2 > 0) & (point.degrees > 1)
        scales = np.where(some, r2, np.nan) / max(point.degrees - 1.0, 1.0)
    estimated = _estimated(estimate)
    C = point.C[np.ix_(estimated, estimated)]
    variance = scales[:, None] * (np.diag(C) + Ch[:, estimated] ** 2 / Pii[:, None])
    d = dfbeta[:, estimated]
    form = np.einsum("np,pq,nq->n", d, np.linalg.inv(C), d) if len(estimated) else np.zeros(spec.n)
    p, ratio = len(estimated), 1.0 + spread
    if p < spec.p:
        change = np.einsum("np,pq,nq->n", Ch[:, estimated], np.linalg.inv(C), Ch[:, estimated])
        ratio = 1.0 + change / Pii
    all_form = np.einsum("np,pq,nq->n", dfbeta, np.linalg.inv(point.C), dfbeta)
    moved = all_form if working.known_sigma else _sigma_part(point, scales, all_form)
    possible = deletable(spec.X, np.arange(spec.n)) & (Pii > 0) & np.isfinite(scales)
    if spec.residual is None:
        possible &= hat < 1.0 - 1e-9
    sd = np.full((spec.n, _deviations(estimate).size), np.nan)
    if not working.known_sigma:
        sd[:, -1] = np.sqrt(scales / scale) - 1.0
    return _masked(
        Deletions(
            beta=estimate.beta - d,
            dfbeta=d,
            dfbetas=d / np.sqrt(variance),
            cook=form / scale / max(p, 1),
            covratio=(scales / scale) ** p * ratio,
            theta=np.full((spec.n, len(estimate.theta)), np.nan),
            sd=sd,
            displacement=moved,
            refitted=possible,
        )
    )


def _row_solves(model: Inference, working: Linearised) -> tuple[Floats, Floats, Floats, Floats]:
    """Hat values, P_ii, V^-1 X and P y of the rows, relative to sigma^2."""
    spec = working.specification
    if spec.residual is not None:
        rows = rows_at(spec, working.theta, working.reml)
        return rows.hat, rows.precision, rows.VX, rows.Py
    hat = leverage(model, working).hat
    Pii = working.weights * np.maximum(1.0 - hat, 1e-12)
    return hat, Pii, inverse_times(working, spec.X), projected(working)


def _sigma_part(point: LinearPoint, scales: Floats, form: Floats) -> Floats:
    """Displacement at the same theta: of sigma^2 = scales and beta, with form in C^-1."""
    m = point.degrees
    s2 = point.r2 / m
    return np.asarray(m * np.log(scales / s2) + (point.r2 + form) / scales - m)


def influence_of_sets(
    model: Inference,
    sets: Codes,
    method: str,
    *,
    n_jobs: int | None = None,
    track: Track = iter,
) -> Deletions:
    """Influence of each set of rows.

    Parameters
    ----------
    model : Inference
    sets : (n,) int array
        Set of each row, 0 .. G - 1; -1 of rows that are always kept.
    method : {"exact", "one-step"}
    n_jobs : int or None
        Threads.
    track : callable
        Goes through the numbers of the sets, to show progress.

    Raises
    ------
    ModelError
        When there is only one set.
    """
    count = int(sets.max(initial=-1)) + 1
    if count < 2:
        raise ModelError(
            "influence compares the fit with fits that leave one group out, and there is only "
            f"{count} group; choose by= with more levels, or by='row'"
        )
    estimate, spec = model.estimate, model.estimate.specification
    possible = deletable(spec.X, sets)
    if method == "one-step":
        _refuse_constrained(estimate)
        working = model.linearised()
        columns = spec.p + sum(term.size for term in spec.terms)
        large = count * len(sets) * columns > MOST_SOLVED
        if large and independent_sets(working.specification, sets):
            return _masked(_at_theta(estimate, working, sets, possible))
        without, vcov = _one_step(model, working)
    else:
        without, vcov = _refits(model), _vcov(estimate)

    def without_set(g: int) -> _Without | None:
        keep = sets != g
        if not possible[g] or keep.sum() <= spec.p + 1:
            return None
        try:
            return without(keep)
        except (ModelError, np.linalg.LinAlgError):
            return None

    answers = in_threads(without_set, range(count), available_cores(n_jobs))
    estimates = [one for _, one in zip(track(range(count)), answers, strict=True)]
    return _gathered(estimate, estimates, vcov)


def _refuse_constrained(estimate: Estimate) -> None:
    if is_constrained(estimate):
        raise ModelError(
            "one-step influence takes all coefficients for free, and this model has parameters "
            "that are held or equal by request; use method='exact'"
        )


def _one_step(model: Inference, working: Linearised) -> tuple[WithoutRows, Floats]:
    """What solves for the other rows without a search, and vcov that distances are measured in."""
    estimate, whole = model.estimate, working.point()
    if not working.known_sigma:
        fall = _fall(model)
        return lambda keep: _stepped(working, keep, fall), _vcov(estimate)
    estimated = _estimated(estimate)
    block = np.ix_(estimated, estimated)
    theta = np.full(len(estimate.theta), np.nan)
    sd = np.full(_deviations(estimate).size, np.nan)

    def without(keep: Bools) -> _Without:
        point = working.point(without_rows(working.specification, keep))
        d = point.beta - whole.beta
        form = squared_distance(d, whole.C)
        return _Without(estimate.beta + d[estimated], point.C[block], theta, sd, form)

    return without, np.asarray(whole.C[block])


def _stepped(working: Linearised, keep: Bools, fall: Deviance) -> _Without:
    """One Newton step of theta from the estimate, sigma profiled out."""
    point = working.stepped(without_rows(working.specification, keep))
    if not point.r2 > 0:
        raise ModelError("the fixed effects reproduce the other rows; leave fewer rows out")
    s2 = point.r2 / point.degrees
    sd = _roots([s2 * psi for psi in point.covariances], point.sigma)
    moved = fall(point.beta, point.theta, point.sigma)
    return _Without(point.beta, s2 * point.C, point.theta, sd, moved)


def _refits(model: Inference) -> WithoutRows:
    """What fits the model to the other rows, from the estimate's theta."""
    estimate, fall = model.estimate, _fall(model)
    start = None if estimate.optimum.singular else estimate.theta

    def without(keep: Bools) -> _Without:
        parts = {name: without_rows(spec, keep) for name, spec in estimate.parts.items()}
        extra = None if estimate.extra is None else estimate.extra[keep]
        begun = _starts(start, parts[CONDITIONAL])
        again = refitted(estimate, parts, extra, start=begun, n_jobs=1)
        if start is not None and not again.optimum.converged:
            again = _lower(again, refitted(estimate, parts, extra, n_jobs=1))
        moved = fall(again.coefficients, again.theta, again.sigma)
        return _Without(again.beta, _vcov(again), again.theta, _deviations(again), moved)

    return without


def _starts(start: Floats | None, spec: Specification) -> Floats | None:
    """Theta to begin from; beside residuals with a structure the usual ones (m, k) too.

    The likelihood without a set may have its optimum elsewhere.
    """
    if start is None or spec.residual is None:
        return start
    return np.vstack([start, *usual_starts(spec)])


def _lower(one: Estimate, other: Estimate) -> Estimate:
    """The second where it is proved or lower; the first is not proved."""
    better = other.optimum.criterion < one.optimum.criterion - LOWER
    return other if better or other.optimum.converged else one


def _fall(model: Inference) -> Deviance:
    """Twice what the log-likelihood of all rows falls from the estimate to other parameters."""
    estimate, deviance = model.estimate, model.deviance_function()
    here = deviance(estimate.coefficients, estimate.theta, estimate.sigma)
    return lambda coefficients, theta, sigma: deviance(coefficients, theta, sigma) - here


def _vcov(estimate: Estimate) -> Floats:
    """Covariance of the mean's coefficients given theta."""
    of_mean = estimate.components[0].coefficients
    return np.asarray(estimate.coefficient_vcov[of_mean, of_mean])


def _at_theta(estimate: Estimate, working: Linearised, sets: Codes, possible: Bools) -> Deletions:
    """All sets at once where they share no random effect: sums over each one's rows.

    With e = y - X beta, A_g = X_g' H_g^-1 X_g and a_g = X_g' H_g^-1 e_g,

        beta_(g) = beta - (A - A_g)^-1 a_g.
    """
    spec, point = working.specification, working.point()
    count, p = len(possible), spec.p
    e = spec.y - spec.X @ point.beta
    if spec.offset is not None:
        e = e - spec.offset
    solved = inverse_times(working, np.column_stack([spec.X, e]))
    h, He = solved[:, :p], solved[:, p]
    rows = np.bincount(sets, minlength=count)
    A_g = np.empty((count, p, p))
    for i in range(p):
        for j in range(p):
            A_g[:, i, j] = np.bincount(sets, spec.X[:, i] * h[:, j], count)
    a = np.column_stack([np.bincount(sets, h[:, j] * e, count) for j in range(p)])
    A = np.linalg.inv(point.C)
    rest = np.where(possible[:, None, None], A - A_g, np.eye(p))
    C = np.linalg.inv(rest)
    d = np.einsum("gpq,gq->gp", C, a)
    r2 = point.r2 - np.bincount(sets, e * He, count) - np.sum(a * d, axis=1)
    if working.known_sigma:
        scale, scales = 1.0, np.ones(count)
    else:
        degrees = point.degrees - rows
        scale = point.r2 / point.degrees
        with np.errstate(divide="ignore", invalid="ignore"):
            scales = np.where(degrees > 0, r2 / degrees, np.nan)
    estimated = _estimated(estimate)
    part = np.ix_(np.arange(count), estimated, estimated)
    form = np.einsum("gp,pq,gq->g", d, A, d)
    moved = form if working.known_sigma else _sigma_part(point, scales, form)
    whole, small = scale * point.C[np.ix_(estimated, estimated)], scales[:, None, None] * C[part]
    columns = _deviations(estimate).size
    sd = np.full((count, columns), np.nan)
    if not working.known_sigma:
        sd[:, -1] = np.sqrt(scales / scale) - 1.0
    d = d[:, estimated]
    ld = np.linalg.slogdet(small)[1] - np.linalg.slogdet(whole)[1]
    return Deletions(
        beta=estimate.beta - d,
        dfbeta=d,
        dfbetas=d / np.sqrt(np.einsum("gpp->gp", small)),
        cook=np.einsum("gp,pq,gq->g", d, np.linalg.inv(whole), d) / max(len(estimated), 1),
        covratio=np.exp(ld),
        theta=np.full((count, len(estimate.theta)), np.nan),
        sd=sd,
        displacement=moved,
        refitted=possible & np.isfinite(scales),
    )


def _estimated(estimate: Estimate) -> NDArray[np.intp]:
    """Columns of X whose coefficients the estimate has: an ordinal model has no intercept."""
    kept = estimate.components[0].names
    names = estimate.specification.names
    return np.array([i for i, name in enumerate(names) if name in kept], dtype=np.intp)


def _deviations(estimate: Estimate) -> Floats:
    """Standard deviations of all random effects, the residual's last where it is profiled out."""
    return _roots(estimate.covariances, estimate.sigma)


def _roots(covariances: Sequence[Floats], sigma: float | None) -> Floats:
    parts = [np.sqrt(np.maximum(np.diag(psi), 0.0)) for psi in covariances]
    return np.concatenate([*parts, [] if sigma is None else [sigma]])


def _gathered(estimate: Estimate, without: Sequence[_Without | None], vcov: Floats) -> Deletions:
    p, k, s = len(estimate.beta), len(estimate.theta), _deviations(estimate).size
    beta, theta, sd, errors = (np.full((len(without), m), np.nan) for m in (p, k, s, p))
    ratio, displacement = np.full((2, len(without)), np.nan)
    free = np.flatnonzero(np.diag(vcov) > 0)
    block = np.ix_(free, free)
    log_whole = float(np.linalg.slogdet(vcov[block])[1]) if len(free) else 0.0
    for g, one in enumerate(without):
        if one is None:
            continue
        beta[g], theta[g], sd[g], displacement[g] = one.beta, one.theta, one.sd, one.displacement
        errors[g] = np.sqrt(np.diag(one.vcov))
        ratio[g] = 1.0
        if len(free):
            ratio[g] = np.exp(float(np.linalg.slogdet(one.vcov[block])[1]) - log_whole)
    dfbeta = estimate.beta - beta
    size = column_sizes(vcov) if p else np.ones(0)
    inverse = np.linalg.pinv(vcov / np.outer(size, size), hermitian=True) if p else vcov
    form = np.einsum("gp,pq,gq->g", dfbeta / size, inverse, dfbeta / size)
    with np.errstate(divide="ignore", invalid="ignore"):
        change = sd / _deviations(estimate) - 1.0
        dfbetas = np.where(errors > 0, dfbeta / errors, np.where(np.isnan(errors), np.nan, 0.0))
    return Deletions(
        beta=beta,
        dfbeta=dfbeta,
        dfbetas=dfbetas,
        cook=form / max(len(free), 1),
        covratio=ratio,
        theta=theta - estimate.theta,
        sd=change,
        displacement=displacement,
        refitted=np.array([one is not None for one in without]),
    )


def _masked(deletions: Deletions) -> Deletions:
    """NaN where a set cannot be left out."""
    known = deletions.refitted
    masked = {
        name: np.where(known.reshape(-1, *[1] * (values.ndim - 1)), values, np.nan)
        for name, values in vars(deletions).items()
    }
    return Deletions(**masked | {"refitted": known})
