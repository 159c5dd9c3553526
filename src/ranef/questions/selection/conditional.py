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
    own, curved = residual_parameters(estimate), _curved(estimate)
    trace, rest = hat_trace(estimate, curved), spec.y - fitted(estimate)
    loglik = conditional_loglik(estimate, rest)
    if spec.residual is not None and spec.residual.of_mean is not None:
        total = float(by_refits(estimate).sum())
        return ConditionalFit(loglik, total + 1 + own, trace, "refits", refits=2 * spec.n)
    df = trace + (0.0 if curved is None else _moved_trace(estimate, curved, rest)) + 1 + own
    return ConditionalFit(loglik, df, trace, "derivative")


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
    spec, sigma = estimate.specification, estimate.sigma
    rest = spec.y - fitted(estimate) if rest is None else rest
    log_weights = 0.0 if spec.weights is None else float(np.log(spec.weights).sum())
    if spec.residual is None:
        weighted = rest if spec.weights is None else rest * spec.weights
        form, log_det = float(rest @ weighted), -log_weights
    else:
        found = structured.at_optimum(estimate)
        form = float(rest @ found.projected)  # R^-1 (y - mu_hat) = P y
        log_det = _log_determinant(found) - log_weights
    return -0.5 * float(spec.n * np.log(2 * np.pi * sigma**2) + log_det + form / sigma**2)


def _log_determinant(found: SolvedRows) -> float:
    """log|R| of the rows as they are weighted."""
    total = 0.0
    for chunk in found.problem.chunks:
        for batch in chunk.batches:
            R = found.jet(chunk, batch).value
            logs = np.linalg.slogdet(R)[1]
            total += float(np.broadcast_to(logs, (len(batch.rows),)).sum())
    return total


def hat_trace(estimate: LinearEstimate, curved: Curvature | None = None) -> float:
    """tr(I - R P): degrees of freedom of the fitted values at fixed theta.

    `curved` is the curvature of a REML fit where it is known, whose gradient serves.
    """
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
    end, total = linear.solved(estimate), float(spec.p)
    # under REML the derivative in Psi is tr(P Z . Z') less the part of the response
    if curved is not None and estimate.reml:
        gradients, ratio, scores = curved.gradient, curved.ratio, end.scores
    else:
        gradients, ratio, scores = _restricted(estimate)
    for covariance, G, s in zip(estimate.covariances, gradients, scores, strict=True):
        psi = covariance / estimate.sigma**2
        total += float(np.sum(G * psi)) + ratio * float(np.sum((s @ psi) * s))
    return total


def _restricted(estimate: LinearEstimate) -> tuple[tuple[Floats, ...], float, tuple[Floats, ...]]:
    """Gradient of the REML criterion in Psi of each term, m / r2, and Z'Py."""
    assembly, (y, _, phi) = linear.solved(estimate).assembly, linear.at_end(estimate)
    core, terms = assembly.core, assembly.terms
    state = core.state(y, True, phi, True)
    gradients = tuple(t.gradient_user(state["psi_gradient"][t.block]) for t in terms)
    scores = tuple(
        core.scores(y, True, phi, t.block)[:, t.columns] @ t.inverse_basis for t in terms
    )
    return gradients, float(state["degrees"]) / float(state["rss"]), scores


def _moved_trace(estimate: LinearEstimate, curved: Curvature, rest: Floats) -> float:
    """sum_ij (D''^-1)_ij (2 m / r2) mu_i'(P V_j P y - (s_j / r2) P y)."""
    spec = estimate.specification
    moved = _moved(estimate, curved.free, rest)
    m = spec.n - (spec.p if estimate.reml else 0)
    r2 = estimate.sigma**2 * m
    slopes = -curved.log_r2  # s_j / r2
    cross = moved.fitted.T @ moved.pulled - np.outer(moved.fitted.T @ moved.projected, slopes)
    return float(np.sum(np.linalg.inv(curved.hessian) * cross)) * 2.0 * m / r2


def _moved(estimate: LinearEstimate, free: NDArray[np.bool_], rest: Floats) -> _Moved:
    spec = estimate.specification
    if spec.residual is None and not any(term.kernel is not None for term in spec.terms):
        # R^-1 times d mu_hat is P V_j P y
        mean = linear.moved_means(estimate)
        if spec.weights is None:
            return _Moved(mean, mean, rest)
        return _Moved(mean, spec.weights[:, None] * mean, spec.weights * rest)
    beta, modes = linear.effect_derivatives(estimate)
    mean = spec.fixed_rows @ beta[:, free]
    for term, moved in zip(spec.terms, modes, strict=True):
        mean = mean + at_levels(moved[:, :, free], spec.factors[term.factor].codes, term.z)
    if spec.residual is None:
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
