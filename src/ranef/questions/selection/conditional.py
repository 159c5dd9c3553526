"""The conditional likelihood of a fit, and the degrees of freedom that correct it.

With mu_hat the fitted means, random effects included, the conditional log-likelihood
log f(y | mu_hat) flatters the fit by the sum of the covariances of the fitted natural
parameters with the responses. In a linear model with residual covariance R that is, by Stein's
identity, the trace of the derivative of the fitted values (Vaida & Blanchard 2005, Biometrika 92;
Greven & Kneib 2010, Biometrika 97)

    df = tr(d mu_hat / d y') + 1 + parameters of R,

the variance parameters moving with y too. The response moves mu_hat = y - R P y at fixed theta
by I - R P, and theta by the implicit function theorem on the optimum of the criterion D:

    d theta / dy = D''^-1 (2 m / r2) (P V_j P y - (s_j / r2) P y),   s_j = y'P V_j P y, r2 = y'Py,
    d mu_hat / d theta_i = R P V_i P y - R_i P y,

V_i and R_i the derivatives of V and R over sigma^2, m = n - p (REML) or n. On a face theta
moves on the face alone. Since tr(P V) = n - p, tr(I - R P) = p + sum_k tr(P Z_k Psi_k Z_k').
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ranef.derivatives import linear, structured
from ranef.derivatives.second_order import Curvature, curvature
from ranef.inference.rows.fitted import fitted
from ranef.models.records import Estimate, LinearEstimate
from ranef.models.refitting import refitted
from ranef.models.rows import at_levels
from ranef.solve.resources import one_blas_thread
from ranef.solve.structured.kept import SolvedRows
from ranef.solve.structured.rows import row_covariance

__all__ = ["ConditionalFit", "by_refits", "conditional_linear", "conditional_loglik", "hat_trace"]

Floats = NDArray[np.float64]

EXACT = "derivative"

STEP = 0.02
"""Of a difference quotient in a response, relative to sigma."""

SMALL = 1000
"""Rows up to which BLAS starts no threads of its own."""


@dataclass(frozen=True, eq=False)
class ConditionalFit:
    """The likelihood of the rows given their random effects, and its correction.

    Attributes
    ----------
    loglik : float
        log f(y | mu_hat).
    df : float
        What the fit adapted itself to the response, all parameters counted.
    trace : float
        Degrees of freedom with the variance parameters taken as known (Vaida & Blanchard 2005).
    method : str
        How df was found: ``"derivative"``, ``"counts"``, ``"refits"``, ``"closed form"``.
    error : float
        Monte Carlo standard error of df; 0 where nothing was drawn.
    refits, failed : int
        Fits that were made for it, and those of them that failed.
    """

    loglik: float
    df: float
    trace: float
    method: str
    error: float = 0.0
    refits: int = 0
    failed: int = 0

    @property
    def caic(self) -> float:
        """Conditional AIC, -2 loglik + 2 df."""
        return -2.0 * self.loglik + 2.0 * self.df

    def shifted(self, by: float) -> ConditionalFit:
        """Return the same of a response on another scale, whose log density is so much more."""
        return replace(self, loglik=self.loglik + by)


@dataclass(frozen=True, eq=False)
class _Moved:
    """How the rows move with theta.

    Attributes
    ----------
    fitted : (n, f) float64 array
        Derivatives of the fitted values in the entries of theta that are free.
    pulled : (n, f) float64 array
        P V_j P y.
    projected : (n,) float64 array
        P y.
    """

    fitted: Floats
    pulled: Floats
    projected: Floats


def conditional_linear(estimate: LinearEstimate) -> ConditionalFit:
    """Return the conditional likelihood of a linear model, corrected exactly.

    Where the residual variance depends on the fitted mean itself, the derivative is taken by
    refits (`by_refits`).
    """
    if estimate.specification.n <= SMALL:
        return _conditional_linear(estimate)
    with one_blas_thread():
        return _conditional_linear(estimate)


def _conditional_linear(estimate: LinearEstimate) -> ConditionalFit:
    spec = estimate.specification
    own, curved = 1 + residual_parameters(estimate), _curved(estimate)
    if curved is not None and _is_plain(estimate):
        return _of_independent_rows(estimate, curved)
    trace, rest = hat_trace(estimate), spec.y - fitted(estimate)
    loglik = conditional_loglik(estimate, rest)
    if spec.residual is not None and spec.residual.of_mean is not None:
        total = float(by_refits(estimate).sum())
        return ConditionalFit(loglik, total + own, trace, "refits", refits=2 * spec.n)
    df = trace + own + (0.0 if curved is None else _moved_trace(estimate, curved, rest))
    return ConditionalFit(loglik, df, trace, EXACT)


def _of_independent_rows(estimate: LinearEstimate, curved: Curvature) -> ConditionalFit:
    """What the core knows at the optimum, its response the user's but for its scale.

    The gradient of REML in Psi is G = tr(P Z . Z') less (m / r2) s s', s = Z'Py, and P V P = P
    makes s'Psi s = r2 - y'P R P y, so that tr(I - R P) = n + <G, Psi> - (m / r2) y'P R P y.
    """
    moved, scale = linear.moved_means(estimate, curved.directions), linear.scale(estimate)
    if estimate.reml:
        pairs = zip(curved.gradient, estimate.covariances, strict=True)
        inner = sum(float((G * psi).sum()) for G, psi in pairs) / estimate.sigma**2
        trace = estimate.specification.n + inner - curved.ratio * moved.square
    else:
        trace = hat_trace(estimate)
    cross = moved.products + moved.own[:, None] * curved.log_r2
    df = trace + 1 + 2.0 * curved.ratio * _along(curved, cross)
    return ConditionalFit(_log_density(estimate, scale**2 * moved.square), df, trace, EXACT)


def _is_plain(estimate: LinearEstimate) -> bool:
    """Whether rows are independent given the effects, and levels too."""
    spec = estimate.specification
    return spec.residual is None and all(term.kernel is None for term in spec.terms)


def _along(curved: Curvature, cross: Floats) -> float:
    """sum_ij (D''^-1)_ij cross_ij."""
    return float((np.linalg.inv(curved.hessian) * cross).sum())


def _curved(estimate: LinearEstimate) -> Curvature | None:
    """Second derivatives of the criterion; None where no variance parameter moves."""
    residual = estimate.specification.residual
    if not linear.free(estimate).any() or (residual is not None and residual.of_mean is not None):
        return None
    return curvature(estimate)


def residual_parameters(estimate: LinearEstimate) -> int:
    """Number of parameters of the residual structure beside sigma."""
    residual = estimate.specification.residual
    return 0 if residual is None else row_covariance(residual).n_parameters


def conditional_loglik(estimate: LinearEstimate, rest: Floats | None = None) -> float:
    """Log density of the rows about their fitted values, residual structure included."""
    spec = estimate.specification
    rest = spec.y - fitted(estimate) if rest is None else rest
    if spec.residual is None:
        weighted = rest if spec.weights is None else rest * spec.weights
        return _log_density(estimate, float(rest @ weighted))
    found = structured.at_optimum(estimate)
    form = float(rest @ found.projected)  # R^-1 (y - mu_hat) = P y
    return _log_density(estimate, form, _log_determinant(found))


def _log_density(estimate: LinearEstimate, form: float, log_det: float = 0.0) -> float:
    """Normal log density of a quadratic form in R^-1 of the residuals, log|R| given."""
    spec, sigma2 = estimate.specification, estimate.sigma**2
    if spec.weights is not None:
        log_det -= float(np.log(spec.weights).sum())
    return -0.5 * (spec.n * math.log(2 * math.pi * sigma2) + log_det + form / sigma2)


def _log_determinant(found: SolvedRows) -> float:
    """log|R| of the rows as they are weighted."""
    total = 0.0
    for chunk in found.problem.chunks:
        for batch in chunk.batches:
            R = found.jet(chunk, batch).value
            logs = np.linalg.slogdet(R)[1]
            total += float(np.broadcast_to(logs, (len(batch.rows),)).sum())
    return total


def hat_trace(estimate: LinearEstimate) -> float:
    """tr(I - R P): degrees of freedom of the fitted values at fixed theta."""
    spec = estimate.specification
    if spec.residual is not None:
        found, p = structured.at_optimum(estimate), spec.p
        total = float(p)
        for _, _, psi, solved in found.clusters:
            T = solved.T[:, :, :p]
            inner = solved.M - T @ found.at.C @ np.swapaxes(T, 1, 2)
            total += float(np.einsum("cij,ji->", inner, psi))
        return total
    if not spec.terms:
        return float(spec.p)
    # the derivative of REML in Psi is tr(P Z . Z') less the part of the response
    assembly, (y, _, phi) = linear.solved(estimate).assembly, linear.at_end(estimate)
    state = assembly.core.state(y, True, phi, True)
    total, ratio = float(spec.p), float(state["degrees"]) / float(state["rss"])
    for term, covariance in zip(assembly.terms, estimate.covariances, strict=True):
        psi = covariance / estimate.sigma**2
        G = term.gradient_user(state["psi_gradient"][term.block])
        s = assembly.core.scores(y, True, phi, term.block)[:, term.columns] @ term.inverse_basis
        total += float(np.sum(G * psi)) + ratio * float(np.sum((s @ psi) * s))
    return total


def _moved_trace(estimate: LinearEstimate, curved: Curvature, rest: Floats) -> float:
    """sum_ij (D''^-1)_ij (2 m / r2) mu_i'(P V_j P y - (s_j / r2) P y)."""
    spec = estimate.specification
    moved = _moved(estimate, curved.free, rest)
    m = spec.n - (spec.p if estimate.reml else 0)
    r2 = estimate.sigma**2 * m
    slopes = -curved.log_r2  # s_j / r2
    cross = moved.fitted.T @ moved.pulled - np.outer(moved.fitted.T @ moved.projected, slopes)
    return 2.0 * m / r2 * _along(curved, cross)


def _moved(estimate: LinearEstimate, free: NDArray[np.bool_], rest: Floats) -> _Moved:
    """How the rows move where their residuals have a structure, or levels a kernel."""
    spec = estimate.specification
    beta, modes = linear.effect_derivatives(estimate)
    mean = spec.fixed_rows @ beta[:, free]
    for term, moved in zip(spec.terms, modes, strict=True):
        mean = mean + at_levels(moved[:, :, free], spec.factors[term.factor].codes, term.z)
    if spec.residual is None:  # R^-1 times d mu_hat is P V_i P y
        w = np.ones(spec.n) if spec.weights is None else spec.weights
        return _Moved(mean, w[:, None] * mean, w * rest)
    found = structured.at_optimum(estimate)
    _, _, solved = found.solved(found.moved_responses()[:, free])
    _, _, by_fixed = found.solved(spec.X)
    C = np.linalg.inv(spec.X.T @ by_fixed)
    pulled = solved - by_fixed @ (C @ (spec.X.T @ solved))
    return _Moved(mean, pulled, found.projected)


def by_refits(
    estimate: LinearEstimate, rows: NDArray[np.intp] | None = None, step: float = STEP
) -> Floats:
    """D mu_hat_i / d y_i of some rows (all by default) by refits, by central differences."""
    spec = estimate.specification
    rows = np.arange(spec.n) if rows is None else rows
    w = np.ones(spec.n) if spec.weights is None else spec.weights
    out = np.empty(len(rows))
    for k, i in enumerate(rows):
        h = step * estimate.sigma / np.sqrt(w[i])
        ends = []
        for sign in (1.0, -1.0):
            y = spec.y.copy()
            y[i] += sign * h
            ends.append(fitted(_again(estimate, y))[i])
        out[k] = (ends[0] - ends[1]) / (2 * h)
    return out


def _again(estimate: Estimate, y: Floats) -> LinearEstimate:
    """The same model of another response, from the estimate's theta."""
    parts = {**estimate.parts, "conditional": estimate.specification.with_response(y)}
    again = refitted(
        estimate, parts, estimate.extra, path=estimate.optimum.path, start=estimate.theta, n_jobs=1
    )
    assert isinstance(again, LinearEstimate)
    return again
