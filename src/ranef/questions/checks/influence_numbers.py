"""Influence: what the fit would be without a row, or without a group.

Exact: the model is fitted again, from the estimate's theta. One-step: what can be said
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
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ranef.derivatives.generalised import generalised_criterion
from ranef.design.specification import Specification
from ranef.errors import ModelError
from ranef.families import Cumulative
from ranef.inference.effects.linearised import Linearised, is_constrained, linearised
from ranef.models.generalised import fit_glmm
from ranef.models.records import Estimate, GeneralisedEstimate
from ranef.questions.checks.deletion import (
    deletable,
    independent_sets,
    parts_without_rows,
    without_rows,
)
from ranef.questions.checks.leverage import inverse_times, leverage, projected
from ranef.solve import search
from ranef.solve.point import LinearPoint, linear_point
from ranef.solve.resources import available_cores, in_threads

__all__ = ["Influence", "influence_of_rows", "influence_of_sets"]

Floats = NDArray[np.float64]
Codes = NDArray[np.int_]
Track = Callable[[Sequence[int]], Iterable[int]]

MOST_SOLVED = 100_000_000
"""Sets times rows times columns up to which one step solves every set's own problem."""


@dataclass(frozen=True, eq=False)
class Influence:
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
    refitted: NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class _Without:
    """The estimates without one set."""

    beta: Floats
    vcov: Floats
    theta: Floats
    sd: Floats
    displacement: float


def influence_of_rows(estimate: Estimate) -> Influence:
    """Influence of every row at the estimate's theta, in closed form."""
    _refuse_constrained(estimate)
    model = linearised(estimate)
    spec, point = model.specification, model.point()
    weights = model.weights
    hat = leverage(estimate, model).hat
    Pii = weights * np.maximum(1.0 - hat, 1e-12)
    h = inverse_times(model, spec.X)
    Py = projected(model)
    Ch = h @ point.C
    dfbeta = Ch * (Py / Pii)[:, None]
    spread = np.sum(Ch * h, axis=1) / Pii
    r2 = point.r2 - Py**2 / Pii
    if model.known_sigma:
        scale, scales = 1.0, np.ones(spec.n)
    else:
        scale, scales = point.r2 / point.degrees, r2 / (point.degrees - 1.0)
    shown = _shown(estimate)
    C = point.C[np.ix_(shown, shown)]
    variance = scales[:, None] * (np.diag(C) + Ch[:, shown] ** 2 / Pii[:, None])
    d = dfbeta[:, shown]
    form = np.einsum("np,pq,nq->n", d, np.linalg.inv(C), d) if len(shown) else np.zeros(spec.n)
    p = len(shown)
    if p == spec.p:
        ratio = 1.0 + spread
    else:
        change = np.einsum("np,pq,nq->n", Ch[:, shown], np.linalg.inv(C), Ch[:, shown])
        ratio = 1.0 + change / Pii
    all_form = np.einsum("np,pq,nq->n", dfbeta, np.linalg.inv(point.C), dfbeta)
    moved = all_form if model.known_sigma else _sigma_part(point, scales, all_form)
    possible = _possible(spec.X, np.arange(spec.n)) & (hat < 1.0 - 1e-9)
    sigma = np.sqrt(scales / scale)[:, None] - 1.0
    sd = np.zeros((spec.n, 0)) if model.known_sigma else sigma
    unknown = np.full((spec.n, _sd(estimate).size - sd.shape[1]), np.nan)
    beta = _beta(estimate)[None, :] - d
    found = Influence(
        beta,
        d,
        d / np.sqrt(variance),
        form / scale / max(p, 1),
        (scales / scale) ** p * ratio,
        np.full((spec.n, len(estimate.theta)), np.nan),
        np.hstack([unknown, sd]),
        moved,
        possible,
    )
    return _masked(found)


def _sigma_part(point: LinearPoint, scales: Floats, form: Floats) -> Floats:
    """Displacement at the same theta: of sigma^2 = scales and beta, with form in C^-1."""
    m = point.degrees
    s2 = point.r2 / m
    return np.asarray(m * np.log(scales / s2) + (point.r2 + form) / scales - m)


def influence_of_sets(
    estimate: Estimate,
    sets: Codes,
    method: str,
    *,
    n_jobs: int | None = None,
    track: Track = iter,
) -> Influence:
    """Influence of each set of rows.

    Parameters
    ----------
    estimate : Estimate
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
    possible = _possible(estimate.specification.X, sets)
    one_step = method == "one-step"
    if one_step:
        _refuse_constrained(estimate)
    model = linearised(estimate) if one_step else None
    spec = estimate.specification
    columns = spec.p + sum(term.size for term in spec.terms)
    large = count * len(sets) * columns > MOST_SOLVED
    if model is not None and large and independent_sets(model.specification, sets):
        return _masked(_at_theta(estimate, model, sets, possible))
    whole = None if model is None else model.point()
    rows = replace(estimate.specification)  # its cross-products are one thread's own

    def work(g: int) -> _Without | None:
        keep = sets != g
        if not possible[g] or keep.sum() <= estimate.specification.p + 1:
            return None
        try:
            if model is not None and whole is not None:
                return _one_step(estimate, model, whole, keep, rows)
            return _refitted(estimate, keep, rows)
        except (ModelError, np.linalg.LinAlgError):
            return None

    answers = in_threads(work, range(count), available_cores(n_jobs))
    found = [one for _, one in zip(track(range(count)), answers, strict=True)]
    return _gathered(estimate, found, _reference_vcov(estimate, model, whole))


def _refuse_constrained(estimate: Estimate) -> None:
    if is_constrained(estimate):
        raise ModelError(
            "one-step influence takes all coefficients for free, and this model has parameters "
            "that are held or equal by request; use method='exact'"
        )


def _possible(X: Floats, sets: Codes) -> NDArray[np.bool_]:
    return deletable(X, sets)


def _one_step(
    estimate: Estimate,
    model: Linearised,
    whole: LinearPoint,
    keep: NDArray[np.bool_],
    rows: Specification,
) -> _Without:
    rest = without_rows(model.specification, keep)
    shown = _shown(estimate)
    if model.known_sigma:
        point = model.point(rest)
        beta = _beta(estimate) + (point.beta - whole.beta)[shown]
        d = point.beta - whole.beta
        unknown = np.full(len(estimate.theta), np.nan)
        nothing = np.full(_sd(estimate).size, np.nan)
        form = float(d @ np.linalg.solve(whole.C, d))
        return _Without(beta, point.C[np.ix_(shown, shown)], unknown, nothing, form)
    point = model.stepped(rest)
    s2 = point.r2 / point.degrees
    sd = _deviations([s2 * psi for psi in point.covariances], np.sqrt(s2))
    moved = _displacement(estimate, rows, point.beta, point.theta, s2)
    return _Without(point.beta, s2 * point.C, point.theta, sd, moved)


def _refitted(estimate: Estimate, keep: NDArray[np.bool_], rows: Specification) -> _Without:
    start = None if estimate.optimum.singular else estimate.theta
    if isinstance(estimate, GeneralisedEstimate):
        again = fit_glmm(
            parts_without_rows(estimate.parts, keep),
            estimate.family,
            extra=None if estimate.extra is None else estimate.extra[keep],
            quadrature=estimate.quadrature,
            reml=estimate.reml,
            priors=estimate.priors,
            fixed=estimate.fixed,
            equal=estimate.equal,
            start=start,
            n_jobs=1,
        )
        moved = generalised_criterion(estimate, again.coefficients, again.theta)
        moved -= generalised_criterion(estimate, estimate.coefficients, estimate.theta)
        own = again.components[0].coefficients
        vcov = again.coefficient_vcov[own, own]
        return _Without(again.beta, vcov, again.theta, _sd(again), moved)
    found = search.fit(
        without_rows(estimate.specification, keep), reml=estimate.reml, start=start, n_jobs=1
    )
    s2 = found.sigma**2
    sd = _deviations(found.covariances, found.sigma)
    moved = _displacement(estimate, rows, found.beta, found.theta, s2)
    return _Without(found.beta, found.vcov, found.theta, sd, moved)


def _displacement(
    estimate: Estimate, rows: Specification, beta: Floats, theta: Floats, s2: float
) -> float:
    """Minus twice the log-likelihood of all rows at a point, minus that at the estimate."""
    point = linear_point(rows, theta, reml=estimate.reml, path=estimate.optimum.path, n_jobs=1)
    m = point.degrees
    gap = beta - point.beta
    form = float(gap @ np.linalg.solve(point.C, gap)) if len(gap) else 0.0
    there = point.criterion - m * (1.0 + np.log(point.r2 / m))
    there += m * np.log(s2) + (point.r2 + form) / s2
    return float(there - estimate.optimum.criterion)


def _at_theta(
    estimate: Estimate, model: Linearised, sets: Codes, possible: NDArray[np.bool_]
) -> Influence:
    """All sets at once where they share no random effect: sums over each one's rows.

    With e = y - X beta, A_g = X_g' H_g^-1 X_g and a_g = X_g' H_g^-1 e_g,

        beta_(g) = beta - (A - A_g)^-1 a_g.
    """
    spec, point = model.specification, model.point()
    count, p = len(possible), spec.p
    e = spec.y - spec.X @ point.beta
    if spec.offset is not None:
        e = e - spec.offset
    solved = inverse_times(model, np.column_stack([spec.X, e]))
    h, He = solved[:, :p], solved[:, p]
    rows = np.bincount(sets, minlength=count)
    own = np.empty((count, p, p))
    for i in range(p):
        for j in range(p):
            own[:, i, j] = np.bincount(sets, spec.X[:, i] * h[:, j], count)
    a = np.column_stack([np.bincount(sets, h[:, j] * e, count) for j in range(p)])
    A = np.linalg.inv(point.C)
    rest = np.where(possible[:, None, None], A - own, np.eye(p))
    C = np.linalg.inv(rest)
    d = np.einsum("gpq,gq->gp", C, a)
    r2 = point.r2 - np.bincount(sets, e * He, count) - np.sum(a * d, axis=1)
    if model.known_sigma:
        scale, scales = 1.0, np.ones(count)
    else:
        degrees = point.degrees - rows
        scale = point.r2 / point.degrees
        with np.errstate(divide="ignore", invalid="ignore"):
            scales = np.where(degrees > 0, r2 / degrees, np.nan)
    shown = _shown(estimate)
    part = np.ix_(np.arange(count), shown, shown)
    form = np.einsum("gp,pq,gq->g", d, A, d)
    moved = form if model.known_sigma else _sigma_part(point, scales, form)
    whole, small = scale * point.C[np.ix_(shown, shown)], scales[:, None, None] * C[part]
    columns = _sd(estimate).size
    sd = np.full((count, columns), np.nan)
    if not model.known_sigma:
        sd[:, -1] = np.sqrt(scales / scale) - 1.0
    d = d[:, shown]
    ld = np.linalg.slogdet(small)[1] - np.linalg.slogdet(whole)[1]
    return Influence(
        _beta(estimate)[None, :] - d,
        d,
        d / np.sqrt(np.einsum("gpp->gp", small)),
        np.einsum("gp,pq,gq->g", d, np.linalg.inv(whole), d) / max(len(shown), 1),
        np.exp(ld),
        np.full((count, len(estimate.theta)), np.nan),
        sd,
        moved,
        possible & np.isfinite(scales),
    )


def _shown(estimate: Estimate) -> NDArray[np.intp]:
    """Columns of X whose coefficients the estimate has: an ordinal model has no intercept."""
    names = estimate.specification.names
    kept = estimate.components[0].names if isinstance(estimate, GeneralisedEstimate) else names
    if isinstance(estimate, GeneralisedEstimate) and not isinstance(estimate.family, Cumulative):
        kept = names
    return np.array([i for i, name in enumerate(names) if name in kept], dtype=np.intp)


def _beta(estimate: Estimate) -> Floats:
    return estimate.beta


def _deviations(covariances: Sequence[Floats], sigma: float | None) -> Floats:
    parts = [np.sqrt(np.maximum(np.diag(psi), 0.0)) for psi in covariances]
    return np.concatenate([*parts, *([np.array([sigma])] if sigma is not None else [])])


def _sd(estimate: Estimate) -> Floats:
    """Standard deviations of all random effects, the residual's last in a linear model."""
    if isinstance(estimate, GeneralisedEstimate):
        return _deviations(estimate.term_covariances, None)
    return _deviations(estimate.covariances, estimate.sigma)


def _reference_vcov(
    estimate: Estimate, model: Linearised | None, whole: LinearPoint | None
) -> Floats:
    """Covariance of beta that the distances are measured in."""
    if not isinstance(estimate, GeneralisedEstimate):
        return estimate.vcov
    if model is not None and whole is not None:
        shown = _shown(estimate)
        return np.asarray(whole.C[np.ix_(shown, shown)])
    own = estimate.components[0].coefficients
    return np.asarray(estimate.coefficient_vcov[own, own])


def _gathered(estimate: Estimate, found: Sequence[_Without | None], vcov: Floats) -> Influence:
    p, k, s = len(estimate.beta), len(estimate.theta), _sd(estimate).size
    G = len(found)
    beta, theta = np.full((G, p), np.nan), np.full((G, k), np.nan)
    sd, errors = np.full((G, s), np.nan), np.full((G, p), np.nan)
    ratio, moved = np.full(G, np.nan), np.full(G, np.nan)
    known = np.flatnonzero(np.diag(vcov) > 0)
    own = np.ix_(known, known)
    log_whole = float(np.linalg.slogdet(vcov[own])[1]) if len(known) else 0.0
    for g, one in enumerate(found):
        if one is None:
            continue
        beta[g], theta[g], sd[g], moved[g] = one.beta, one.theta, one.sd, one.displacement
        errors[g] = np.sqrt(np.diag(one.vcov))
        ratio[g] = 1.0
        if len(known):
            ratio[g] = np.exp(float(np.linalg.slogdet(one.vcov[own])[1]) - log_whole)
    dfbeta = estimate.beta - beta
    inverse = np.linalg.pinv(vcov, hermitian=True) if p else np.zeros((0, 0))
    form = np.einsum("gp,pq,gq->g", dfbeta, inverse, dfbeta)
    with np.errstate(divide="ignore", invalid="ignore"):
        change = sd / _sd(estimate) - 1.0
        dfbetas = np.where(errors > 0, dfbeta / errors, np.where(np.isnan(errors), np.nan, 0.0))
    return Influence(
        beta,
        dfbeta,
        dfbetas,
        form / max(len(known), 1),
        ratio,
        theta - estimate.theta,
        change,
        moved,
        np.array([one is not None for one in found]),
    )


def _masked(found: Influence) -> Influence:
    """NaN where a set cannot be left out."""
    out = {}
    for name, values in vars(found).items():
        if name == "refitted":
            out[name] = values
        else:
            shape = (-1,) + (1,) * (values.ndim - 1)
            out[name] = np.where(found.refitted.reshape(shape), values, np.nan)
    return Influence(**out)
