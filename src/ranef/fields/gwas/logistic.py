"""The logistic model without a variant, with and without a relationship.

Related samples: logit P(y = 1) = W alpha + b, b ~ N(0, tau K), by penalised quasi-likelihood
(Breslow & Clayton 1993) with tau by average information (Gilmour et al. 1995), as GMMAT has it
(Chen et al. 2016). At the fixed point the working response has V = D^-1 + tau K with D the
diagonal of mu (1 - mu), and PY = y - mu. Arrays in, arrays out.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ranef.errors import DataError, ModelError
from ranef.squares import cholesky, inverse_of_triangle, product

__all__ = ["LogisticNull", "centred", "fit_logistic"]

Floats = NDArray[np.float64]

MOST_ROUNDS = 100
TOLERANCE = 1e-9
SMALL_TAU = 1e-4
TAU_TOLERANCE = 1e-6
MOST_TAU = 1e4
FAR = 25.0
"""A linear predictor that no finite odds give: covariates separate cases from controls."""
LOGISTIC_VARIANCE = np.pi**2 / 3.0


@dataclass(frozen=True, eq=False)
class LogisticNull:
    """The model without a variant, and what the variance of a score needs.

    Attributes
    ----------
    y, eta, mu : (n,) arrays
        Response, linear predictor (random effects among it), fitted probability.
    W : (n, c) array
        An orthogonal basis of the covariates, columns of mean square one: no unit of a covariate
        changes a digit of the tests.
    alpha, alpha_se : (c,) arrays
        Of the covariates as they were given.
    tau, tau_se : float
        Variance of the random effect per unit of K; 0 without one, its error NaN there.
    boundary : bool
        Whether tau is estimated at zero.
    trace : float
        Mean diagonal of K.
    loglik : float
        Bernoulli log-likelihood; NaN of related samples, whose criterion is no likelihood.
    root : (n, n) array or None
        L^-1 D^1/2, with L L' = I + tau D^1/2 K D^1/2; None of unrelated samples: D^1/2 alone.
    N : (n, c) array
        V^-1 W R^-1, with R'R = W'V^-1 W.
    ratio : float
        tr(PK) over tr(P0 K), P0 that of tau = 0: the expected ratio of variances of a score.
    """

    y: Floats
    W: Floats
    eta: Floats
    mu: Floats
    alpha: Floats
    alpha_se: Floats
    tau: float
    tau_se: float
    boundary: bool
    trace: float
    loglik: float
    root: Floats | None
    N: Floats
    ratio: float

    @property
    def weights(self) -> Floats:
        """Variances mu (1 - mu), (n,)."""
        return self.mu * (1.0 - self.mu)

    @property
    def residual(self) -> Floats:
        return self.y - self.mu

    @property
    def pve(self) -> float:
        """Share of the variance on the scale of the linear predictor, noise pi^2 / 3."""
        return self.tau * self.trace / (self.tau * self.trace + LOGISTIC_VARIANCE)

    @property
    def pve_se(self) -> float:
        scale = self.trace * LOGISTIC_VARIANCE
        return scale * self.tau_se / (self.tau * self.trace + LOGISTIC_VARIANCE) ** 2

    @property
    def loglik_reml(self) -> float:
        return float("nan")

    @property
    def loglik_ml(self) -> float:
        return self.loglik

    @property
    def lambda_reml(self) -> float:
        return self.tau

    def variance(self, X: NDArray[Any], root: NDArray[Any] | None) -> Floats:
        """Return x'Px of the rows of X, (b,); `root` is the null's own, or in single precision."""
        if root is None:
            whole = (X * X) @ self.weights.astype(X.dtype)
        else:
            half = X @ root.T
            whole = np.einsum("bn,bn->b", half, half)
        shared = X @ self.N.astype(X.dtype)
        return np.asarray(whole - np.einsum("bc,bc->b", shared, shared), dtype=np.float64)

    def adjusted(self, X: Floats) -> Floats:
        """Rows less their regression on the covariates with weights mu (1 - mu)."""
        if not self.W.shape[1]:
            return X
        WD = self.W * self.weights[:, None]
        return np.asarray(X - np.linalg.solve(WD.T @ self.W, WD.T @ X.T).T @ self.W.T)


def centred(K: Floats) -> Floats:
    """Centre a relationship over its samples, in place."""
    mean = K.mean(axis=0)
    K -= mean
    K -= (mean - mean.mean())[:, None]
    return K


def fit_logistic(y: Floats, W: Floats, K: Floats | None, names: tuple[str, ...]) -> LogisticNull:
    """Fit the model without a variant.

    Parameters
    ----------
    y : (n,) array
        0 or 1.
    W : (n, c) array
        Covariates, of full rank.
    K : (n, n) array or None
    names : tuple of str
        Of the covariates, for messages.
    """
    size = np.sqrt(np.mean(W**2, axis=0))
    Q, R = np.linalg.qr(W / size)
    root = np.sqrt(len(y))
    Q, back = np.ascontiguousarray(Q * root), np.linalg.inv(R) * root / size[:, None]
    gamma = _without_relationship(y, Q, W, back, names)
    if K is None:
        null, inverse = _unrelated(y, Q, Q @ gamma, gamma)
    else:
        null, inverse = _related(y, Q, K, Q @ gamma)
    errors = np.sqrt(np.einsum("ij,jk,ik->i", back, inverse, back))
    return replace(null, alpha=back @ null.alpha, alpha_se=errors)


def probability(eta: Floats) -> Floats:
    """Logistic function."""
    from scipy.special import expit

    return np.asarray(expit(eta))


def log_likelihood(y: Floats, eta: Floats) -> float:
    """Bernoulli log-likelihood of 0 and 1."""
    return float(-np.logaddexp(0.0, np.where(y > 0.5, -eta, eta)).sum())


def _without_relationship(
    y: Floats, W: Floats, given: Floats, back: Floats, names: tuple[str, ...]
) -> Floats:
    """Maximum likelihood by Newton's method with halved steps.

    W : (n, c) array, the basis; given : (n, c) array, the covariates; back : (c, c) array, by which
    coefficients of the basis become those of the covariates.
    """
    beta, best = np.zeros(W.shape[1]), log_likelihood(y, np.zeros(len(y)))
    for _ in range(MOST_ROUNDS if W.shape[1] else 0):
        mu = probability(W @ beta)
        D = mu * (1.0 - mu)
        step = np.linalg.lstsq(W.T @ (D[:, None] * W), W.T @ (y - mu), rcond=None)[0]
        value = log_likelihood(y, W @ (beta + step))
        while value < best - 1e-12 * abs(best) and np.abs(step).max() > 1e-14:
            step *= 0.5
            value = log_likelihood(y, W @ (beta + step))
        beta, best = beta + step, value
        eta = W @ beta
        if np.abs(eta).max() > FAR:
            raise _separated(given, back @ beta, names)
        if np.abs(W @ step).max() < TOLERANCE:
            return beta
    if W.shape[1]:
        raise _separated(given, back @ beta, names)
    return beta


def _separated(W: Floats, beta: Floats, names: tuple[str, ...]) -> DataError:
    size = np.abs(beta) * W.std(axis=0)
    which = names[int(np.argmax(size))] if len(names) else "a covariate"
    return DataError(
        f"the covariates tell cases from controls without fail, {which!r} above all: their odds "
        "have no estimate; leave it out, or join its rare values"
    )


def _unrelated(y: Floats, W: Floats, eta: Floats, alpha: Floats) -> tuple[LogisticNull, Floats]:
    """The model, and the inverse of the covariates' information."""
    mu = probability(eta)
    D = mu * (1.0 - mu)
    N, inverse = _projector(D[:, None] * W, W)
    nothing = float("nan")
    null = LogisticNull(
        y, W, eta, mu, alpha, np.sqrt(np.diag(inverse)), 0.0, nothing, False, 0.0,
        log_likelihood(y, eta), None, N, 1.0,
    )  # fmt: skip
    return null, inverse


def _projector(VW: Floats, W: Floats) -> tuple[Floats, Floats]:
    """V^-1 W R^-1 and (W'V^-1 W)^-1."""
    if not W.shape[1]:
        return VW, np.empty((0, 0))
    cross = W.T @ VW
    L = np.linalg.cholesky(0.5 * (cross + cross.T))
    return np.ascontiguousarray(np.linalg.solve(L, VW.T).T), np.asarray(
        np.linalg.inv(cross), np.float64
    )


# --- related samples


@dataclass(frozen=True, eq=False)
class _Mode:
    """Coefficients and u of eta = W alpha + tau K u at the joint mode for some tau."""

    alpha: Floats
    u: Floats
    eta: Floats


def _factored(K: Floats, D: Floats, tau: float) -> Floats:
    """L with L L' = I + tau D^1/2 K D^1/2."""
    s = np.sqrt(D)
    B = s[:, None] * K * s
    B *= tau
    B[np.diag_indices_from(B)] += 1.0
    try:
        return cholesky(B)
    except np.linalg.LinAlgError:
        raise DataError(
            "the relationship is indefinite, and no covariance has an eigenvalue below zero; make "
            "one of genotypes by gwas.grm()"
        ) from None


def _mode(y: Floats, W: Floats, K: Floats, tau: float, start: _Mode) -> _Mode:
    """Maximise the penalised likelihood l(eta) - tau u'Ku / 2 by Newton's method, steps halved."""
    from scipy.linalg import cho_solve

    def value(alpha: Floats, u: Floats, Ku: Floats) -> float:
        return log_likelihood(y, W @ alpha + tau * Ku) - 0.5 * tau * float(u @ Ku)

    alpha, u = start.alpha, start.u
    Ku = K @ u
    eta, best = W @ alpha + tau * Ku, value(alpha, u, Ku)
    for _ in range(MOST_ROUNDS):
        mu = probability(eta)
        D = np.maximum(mu * (1.0 - mu), 1e-12)
        s = np.sqrt(D)
        L = _factored(K, D, tau)
        Y = eta + (y - mu) / D
        both = s[:, None] * cho_solve((L, True), s[:, None] * np.column_stack([W, Y]))
        VW, VY = both[:, :-1], both[:, -1]
        to_alpha = np.linalg.solve(W.T @ VW, W.T @ VY) if W.shape[1] else alpha
        to_u = VY - VW @ to_alpha
        step, to_Ku = 1.0, K @ to_u
        for _ in range(40):
            parts = [old + step * (new - old)
                     for old, new in ((alpha, to_alpha), (u, to_u), (Ku, to_Ku))]  # fmt: skip
            tried = value(*parts)
            if tried >= best - 1e-11 * abs(best):
                break
            step *= 0.5
        alpha, u, Ku = parts
        new_eta = W @ alpha + tau * Ku
        moved = float(np.abs(new_eta - eta).max())
        eta, best = new_eta, tried
        if moved < 1e-8:
            break
        if np.abs(eta).max() > 4.0 * FAR:
            raise ModelError(
                "the logistic mixed model without a variant has no finite optimum: random effects "
                "fit every case; try relationship=None, or fewer covariates"
            )
    return _Mode(alpha, u, eta)


@dataclass(frozen=True, eq=False)
class _Working:
    """The working linear model at a mode: its projection, and the slope in tau."""

    root: Floats
    N: Floats
    inverse: Floats
    trace_PK: float
    score: float
    information: float

    @classmethod
    def of(cls, y: Floats, W: Floats, K: Floats, tau: float, mode: _Mode) -> _Working:
        mu = probability(mode.eta)
        D = np.maximum(mu * (1.0 - mu), 1e-12)
        half = inverse_of_triangle(_factored(K, D, tau))
        root = np.ascontiguousarray(half) * np.sqrt(D)
        N, inverse = _projector(root.T @ (root @ W), W)
        if tau > SMALL_TAU:
            whole = (len(y) - float(np.sum(half * half))) / tau
        else:
            whole = float(np.sum(product(root, K) * root))
        trace = whole - float(np.sum((K @ N) * N))
        PY = y - mu
        KPY = K @ PY
        pushed = root @ KPY
        information = 0.5 * float(pushed @ pushed - np.sum((N.T @ KPY) ** 2))
        score = 0.5 * (float(PY @ KPY) - trace)
        return cls(root, N, inverse, trace, score, information)


def _related(y: Floats, W: Floats, K: Floats, eta: Floats) -> tuple[LogisticNull, Floats]:
    """The model, and the inverse of the covariates' information."""
    alpha: Floats = np.empty(0)
    if W.shape[1]:
        alpha = np.asarray(np.linalg.lstsq(W, eta, rcond=None)[0], np.float64)
    mode = _Mode(alpha, y - probability(eta), eta)
    trace = float(np.mean(np.diag(K)))
    tau, at = 0.0, _Working.of(y, W, K, 0.0, mode)
    if at.score > 0:
        tau, mode, at = _best_tau(y, W, K, mode, max(trace, 1e-12))
    mu = probability(mode.eta)
    at_zero = tau == 0.0
    null = LogisticNull(
        y, W, mode.eta, mu, mode.alpha, np.sqrt(np.diag(at.inverse)), tau,
        float("nan") if at_zero else float(1.0 / np.sqrt(at.information)), at_zero, trace,
        log_likelihood(y, mode.eta) if at_zero else float("nan"), at.root, at.N,
        at.trace_PK / _trace_without(W, K, mu * (1.0 - mu)),
    )  # fmt: skip
    return null, at.inverse


def _best_tau(
    y: Floats, W: Floats, K: Floats, mode: _Mode, trace: float
) -> tuple[float, _Mode, _Working]:
    """The root of the score in tau: steps by average information, kept within a bracket."""
    low, high, tau = 0.0, np.inf, 0.5 / trace
    for _ in range(MOST_ROUNDS):
        mode = _mode(y, W, K, tau, mode)
        at = _Working.of(y, W, K, tau, mode)
        if at.score > 0:
            low = tau
        else:
            high = tau
        step = at.score / at.information
        if abs(step) < TAU_TOLERANCE * (tau + 1e-3 / trace):
            return tau, mode, at
        new = tau + step
        if not low < new < high:
            new = 3.0 * tau if np.isinf(high) else 0.5 * (low + high)
        tau = min(new, 4.0 * tau)
        if tau * trace > MOST_TAU:
            raise ModelError(
                "the variance of the relationship in the logistic model without a variant grows "
                "without end: relatives tell cases from controls; try relationship=None"
            )
        if high < 1e-9 / trace:
            break
    return tau, mode, at


def _trace_without(W: Floats, K: Floats, D: Floats) -> float:
    """tr(P0 K), P0 that of tau = 0."""
    N, _ = _projector(D[:, None] * W, W)
    return float(D @ np.diag(K) - np.sum((K @ N) * N))
