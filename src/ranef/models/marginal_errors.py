"""What is known of the coefficients of a population-averaged model: errors, criteria, refits."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from ranef.errors import ModelError
from ranef.models.marginal import MarginalEstimate, MarginalModel
from ranef.solve.marginal import covariance as covariances
from ranef.solve.marginal.association_errors import association_variances
from ranef.solve.marginal.criteria import Criteria, criteria
from ranef.solve.marginal.equations import Solution, add_up, solve, weight_derivatives

__all__ = [
    "constrained",
    "correlation_errors",
    "covariance",
    "criteria_of",
    "influences",
]

Floats = NDArray[np.float64]


def covariance(estimate: MarginalEstimate, kind: str) -> Floats:
    """Covariance (p, p) of the coefficients, a name of `covariances.COVARIANCES`."""
    problem, solution = estimate.model.problem, estimate.solution
    if kind == "model":
        if estimate.model.row_weights is not None:
            raise ModelError(
                "covariance='model' takes rows for what they are; with sampling_weights or dropout "
                "only the variation between clusters tells: covariance='robust' or its corrections"
            )
        return covariances.model_covariance(solution)
    if kind == "jackknife-full":
        if estimate.model.dropout is not None:
            raise ModelError(
                "covariance='jackknife-full' would fit the model of dropout anew without each "
                "cluster; with dropout= use 'robust', which carries its uncertainty"
            )
        return _jackknife(estimate)
    found = influences(estimate, kind)
    if found.whole.any():
        level = estimate.model.clusters[0].levels[int(np.flatnonzero(found.whole)[0])]
        raise ModelError(
            f"covariance={kind!r} asks what the estimates would be without a cluster, and without "
            f"{estimate.model.clusters[0].name} {level} a coefficient is not determined; use "
            "covariance='robust' or 'fay-graubard'"
        )
    V = covariances.covariance_of(problem, solution, kind, found)
    if kind != "jackknife":
        return V
    K, p = problem.clusters.count, problem.p
    return V * (_left_over(estimate) / (K - p))


def _left_over(estimate: MarginalEstimate) -> int:
    """Clusters less all parameters, to which a jackknife is scaled."""
    K, q = estimate.model.problem.clusters.count, estimate.n_estimated
    if q >= K:
        raise ModelError(
            f"the jackknife is scaled by clusters less parameters, and there are {K} clusters for "
            f"{q} parameters, those of the working correlation counted; use "
            "covariance='mancl-derouen', or a simpler correlation"
        )
    return K - q


def influences(estimate: MarginalEstimate, kind: str) -> covariances.Influences:
    """What each cluster adds to a covariance.

    With weights of dropout it moves these as well: u_i + C I^-1 s_i, C the derivative of the
    equations in the coefficients of dropout, I their information, s_i the cluster's score there.
    """
    problem, dropout = estimate.model.problem, estimate.model.dropout
    found = covariances.influences(problem, estimate.solution, kind)
    if dropout is None:
        return found
    slopes = estimate.model.sorted(dropout.slopes)
    if estimate.model.sampling is not None:
        slopes = slopes * estimate.model.sorted(estimate.model.sampling)[:, None]
    slopes = np.repeat(slopes, problem.clusters.n // len(slopes), axis=0)  # indicators of a row
    C = weight_derivatives(problem, estimate.solution, slopes)
    more = dropout.scores @ dropout.covariance @ C.T @ np.linalg.inv(estimate.bread).T
    return replace(found, h=found.h + more)


def correlation_errors(estimate: MarginalEstimate) -> Floats:
    """Standard errors (k,) of the parameters of the working correlation.

    NaN of those that are given, were mixed with independence or held at tables, and with dropout,
    whose weights move them as well.
    """
    model, count = estimate.model, len(estimate.correlations)
    unknown = model.equations.correlation in ("fixed", "local odds ratio")
    if unknown or not count or estimate.shrunk > 0 or model.dropout is not None:
        return np.full(count, np.nan)
    h = influences(estimate, "robust").h
    found = association_variances(model.problem, estimate.solution, h)
    return np.asarray(np.sqrt(np.where(found > 0, found, np.nan)))


def _jackknife(estimate: MarginalEstimate) -> Floats:
    """Refits without each cluster: (K - q) / K sum of squares, q all parameters."""
    model = estimate.model
    K = model.clusters[0].n_levels
    moves = np.empty((K, len(estimate.coefficients)))
    codes = model.clusters[0].codes
    for k in range(K):
        part = without(model, codes != k)
        found = solve(part.problem, part.working, estimate.coefficients)
        moves[k] = found.beta - estimate.coefficients
    return np.asarray(moves.T @ moves * (_left_over(estimate) / K))


def without(model: MarginalModel, keep: NDArray[np.bool_]) -> MarginalModel:
    """The model of some of its rows."""
    spec, occasions = model.specification, model.occasions
    rows = replace(
        spec,
        y=spec.y[keep],
        X=spec.X[keep],
        weights=None if spec.weights is None else spec.weights[keep],
        offset=None if spec.offset is None else spec.offset[keep],
    )
    clusters = []
    for factor in model.clusters:
        used, codes = np.unique(factor.codes[keep], return_inverse=True)
        levels = [factor.levels[k] for k in used]
        clusters.append(replace(factor, codes=codes.reshape(-1).astype(np.int32), levels=levels))
    return replace(
        model,
        specification=rows,
        trials=None if model.trials is None else model.trials[keep],
        clusters=tuple(clusters),
        occasions=None if occasions is None else replace(occasions, values=occasions.values[keep]),
        sampling=None if model.sampling is None else model.sampling[keep],
        dropout=None,
    )


def criteria_of(estimate: MarginalEstimate, scale: float | None) -> Criteria:
    """The criteria at one scale.

    By default the family's own, one, where it has one, else that of independence, which all
    correlations of one mean share.
    """
    if scale is None:
        scale = 1.0
        if estimate.model.problem.moments.dispersed:
            equations = replace(estimate.model.equations, correlation="independence")
            other = replace(estimate.model, equations=equations)
            scale = solve(other.problem, other.working, estimate.coefficients).scale
    robust = covariance(estimate, "robust")
    return criteria(estimate.model.problem, estimate.solution, robust, scale)


def constrained(estimate: MarginalEstimate, L: Floats) -> Solution:
    """Solve the equations under L beta = 0; the bread is that of all coefficients there."""
    problem, working = estimate.model.problem, estimate.model.working
    _, singular, rows = np.linalg.svd(L)
    rank = int(np.count_nonzero(singular > 1e-10 * singular.max(initial=0.0)))
    basis = rows[rank:].T
    if basis.shape[1]:
        inner = replace(problem, X=np.ascontiguousarray(problem.X @ basis))
        found = solve(inner, working, inner.start())
        beta = basis @ found.beta
        current, scale = found.working, found.scale
    else:
        beta = np.zeros(problem.p)
        current, scale = estimate.solution.working, estimate.scale
    sums = add_up(problem, beta, current, current)
    return replace(estimate.solution, beta=beta, working=current, scale=scale, bread=sums.H)
