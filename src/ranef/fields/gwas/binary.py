"""Tests of variants for a binary trait: score, saddlepoint, and Firth's penalised likelihood.

The score x'(y - mu) of a variant is normal only where both cases and carriers are many. Its
cumulants are those of independent Bernoulli variables, exactly, and the saddlepoint approximation
takes its tails from them (Kuonen 1999; Dey et al. 2017), scaled to the variance that related
samples give it (Zhou et al. 2018). Estimates of variants that look associated are Firth's (1993),
finite where a variant has no carriers among cases. Arrays in, arrays out.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ranef.fields.gwas.engine import Columns
from ranef.fields.gwas.logistic import LogisticNull, log_likelihood, probability
from ranef.fields.gwas.profiles import COLLINEAR
from ranef.fields.gwas.tails import LN10, log10_chi2_tail

__all__ = [
    "LOOK",
    "NAMES",
    "Penalised",
    "few_of",
    "firth",
    "firth_about",
    "firth_last",
    "saddlepoint",
    "test_binary",
]

Floats = NDArray[np.float64]

NAMES = ("beta", "std_error", "score", "lrt", "log10_spa", "left")
"""Log odds per unit of the effect's coding, and the error; chi-squared of the score and of the
penalised likelihood (NaN where it was not worked out); the score's p by saddlepoint; the share of
the variant's weighted sum of squares that covariates leave."""
LOOK = 3.841458820694124
"""Chi-squared of p = 0.05, from which on saddlepoint and Firth's estimates are worked out."""
MOST_STEPS = 60
ENUMERATED = 14


def test_binary(
    null: LogisticNull, X: Floats, single: NDArray[np.float32] | None, *, own: bool
) -> Columns:
    """Test b variants: `NAMES`.

    Parameters
    ----------
    X : (b, n) array
        Coded variants.
    single : (n, n) float32 array or None
        The null's `root` in single precision, for the first look.
    own : bool
        Whether each variant's score has its own variance, or the expected ratio to that of
        unrelated samples.
    """
    found = Columns.empty(len(X), NAMES)
    beta, std_error, score, lrt, log10_spa, left = (found[name] for name in NAMES)
    G = null.adjusted(X)
    plain = (G * G) @ null.weights
    total = (X * X) @ null.weights
    with np.errstate(invalid="ignore", divide="ignore"):
        left[:] = np.where(total > 0, plain / total, 0.0)
        good = left > COLLINEAR
        plain = np.where(good, plain, np.nan)
        if null.root is None or not own:
            variance = null.ratio * plain
        elif single is None:
            variance = np.where(good, null.variance(X, null.root), np.nan)
        else:
            variance = np.where(good, null.variance(X.astype(np.float32), single), np.nan)
        s = X @ null.residual
        again = np.flatnonzero(s * s > LOOK * variance)
        if single is not None and own and len(again):
            variance[again] = null.variance(X[again], null.root)
        beta[:] = s / variance
        std_error[:] = 1.0 / np.sqrt(variance)
        score[:] = s * s / variance
    log10_spa[:] = log10_chi2_tail(score)
    for k in np.flatnonzero(score > LOOK):
        ratio = float(variance[k] / plain[k])
        q = float(s[k]) / np.sqrt(ratio)
        log10_spa[k] = saddlepoint(few_of(X[k], G[k]), G[k], null.mu, q)
        fit = _estimate(null, X[k], G[k])
        beta[k] = fit.beta / ratio
        std_error[k] = fit.std_error / np.sqrt(ratio)
        lrt[k] = fit.lrt / ratio
    return found


def few_of(x: Floats, g: Floats) -> NDArray[np.bool_]:
    """Who has another value than the most frequent one; all where that is not frequent."""
    values, counts = np.unique(x, return_counts=True)
    most = int(np.argmax(counts))
    if counts[most] < 0.5 * len(x):
        return np.ones(len(g), dtype=bool)
    out: NDArray[np.bool_] = x != values[most]
    return out


def _estimate(null: LogisticNull, x: Floats, g: Floats) -> Penalised:
    if null.root is None:
        return firth(null.y, np.column_stack([null.W, x]))
    return firth_about(null.y, null.eta, g)


# --- the saddlepoint


def saddlepoint(few: NDArray[np.bool_], g: Floats, mu: Floats, q: float) -> float:
    """Return log10 P(|S| >= |q|) of S = sum g_i (y_i - mu_i), y_i independent Bernoulli.

    Parameters
    ----------
    few : (n,) bool array
        Samples whose cumulants are taken exactly; the sum over the others is taken as normal.
        Where they are no more than 14 all their outcomes are summed instead.
    g, mu : (n,) arrays
    q : float

    Examples
    --------
    >>> mu = np.full(100, 0.5)
    >>> round(saddlepoint(np.ones(100, dtype=bool), np.ones(100), mu, 20.0), 3)
    -4.283
    """
    held = g[few]
    if len(held) <= ENUMERATED:
        spread = float((g[~few] ** 2) @ (mu[~few] * (1.0 - mu[~few])))
        return _enumerated(held, mu[few], spread, abs(q))
    logit = np.log(mu[few]) - np.log1p(-mu[few])
    spread = float((g[~few] ** 2) @ (mu[~few] * (1.0 - mu[~few])))
    tails = [_log_tail(held, mu[few], logit, spread, side * abs(q)) for side in (1.0, -1.0)]
    return float(min(np.logaddexp(tails[0], tails[1]), 0.0) / LN10)


def _enumerated(g: Floats, mu: Floats, spread: float, q: float) -> float:
    """Sum over all outcomes of few samples."""
    from scipy.special import log_ndtr, logsumexp

    values, log = np.zeros(1), np.zeros(1)
    for gain, p in zip(g, mu, strict=True):
        values = np.concatenate([values - gain * p, values + gain * (1.0 - p)])
        log = np.concatenate([log + np.log1p(-p), log + np.log(p)])
    if spread > 0:
        sd = np.sqrt(spread)
        both = [log + log_ndtr((values - q) / sd), log + log_ndtr((-values - q) / sd)]
        return float(min(logsumexp(np.concatenate(both)), 0.0) / LN10)
    beyond = log[np.abs(values) >= q * (1.0 - 1e-9)]
    nothing = float(log.min())
    return float(min(logsumexp(beyond), 0.0) / LN10) if len(beyond) else nothing / LN10


def _log_tail(g: Floats, mu: Floats, logit: Floats, spread: float, q: float) -> float:
    """Log of the probability beyond q, on the side that q is on."""
    from scipy.special import log_ndtr

    sign = 1.0 if q >= 0 else -1.0
    g, q = sign * g, abs(q)
    most = float(np.where(g > 0, g * (1.0 - mu), -g * mu).sum())
    if spread == 0.0 and q >= most * (1.0 - 1e-9):
        # the last point of the support, or beyond it: its own probability
        return float(np.where(g > 0, np.log(mu), np.where(g < 0, np.log1p(-mu), 0.0)).sum())
    t = _root(g, mu, logit, spread, q)
    tilted = probability(logit + g * t)
    # log(1 - mu + mu e^gt), from the end that does not cancel
    K = float((np.logaddexp(np.log1p(-mu), np.log(mu) + g * t) - t * g * mu).sum())
    K += 0.5 * spread * t * t
    second = float((g * g) @ (tilted * (1.0 - tilted))) + spread
    w = np.sqrt(max(2.0 * (t * q - K), 0.0))
    v = t * np.sqrt(second)
    if w < 1e-3 or v <= 0:
        return float(log_ndtr(-q / np.sqrt((g * g) @ (mu * (1.0 - mu)) + spread)))
    return float(log_ndtr(-(w + np.log(v / w) / w)))


def _root(g: Floats, mu: Floats, logit: Floats, spread: float, q: float) -> float:
    """Find t > 0 with K'(t) = q, q > 0: Newton's method within a bracket."""
    at_zero = float((g * g) @ (mu * (1.0 - mu))) + spread
    low, high, t = 0.0, np.inf, q / at_zero
    for _ in range(4 * MOST_STEPS):
        p = probability(logit + g * t)
        gap = float(g @ (p - mu)) + spread * t - q
        if gap < 0:
            low = t
        else:
            high = t
        slope = float((g * g) @ (p * (1.0 - p))) + spread
        new = t - gap / slope if slope > 0 else np.inf
        if not low < new < high:
            new = 2.0 * t if np.isinf(high) else 0.5 * (low + high)
        if abs(new - t) <= 1e-10 * t:
            return new
        t = new
    return t


# --- Firth


@dataclass(frozen=True)
class Penalised:
    """An estimate by penalised likelihood: of the last coefficient.

    Attributes
    ----------
    beta, std_error : float
    lrt : float
        Twice the gain in penalised log-likelihood over a coefficient of zero.
    """

    beta: float
    std_error: float
    lrt: float


def firth(y: Floats, X: Floats) -> Penalised:
    """Maximise l(beta) + log|X'DX| / 2 (Firth 1993; Heinze & Schemper 2002).

    The likelihood ratio has the last coefficient fixed at zero, with the penalty of all.

    Examples
    --------
    >>> y = np.array([0.0] * 10 + [1.0] * 4)
    >>> x = np.array([1.0, 1.0, 1.0] + [0.0] * 11)
    >>> round(firth(y, np.column_stack([np.ones(14), x])).beta, 4)
    -1.4351
    """
    beta, inverse, lrt = firth_last(y, X, np.zeros(len(y)))
    return Penalised(float(beta[-1]), float(np.sqrt(inverse[-1, -1])), lrt)


def firth_last(y: Floats, X: Floats, offset: Floats) -> tuple[Floats, Floats, float]:
    """All coefficients, (X'DX)^-1 and the last one's likelihood ratio, beside an offset of eta."""
    scale = np.sqrt(np.mean(X**2, axis=0))
    Z = X / scale
    beta, value, inverse = _maximum(y, Z, offset, free=Z.shape[1])
    _, below, _ = _maximum(y, Z, offset, free=Z.shape[1] - 1)
    return beta / scale, inverse / np.outer(scale, scale), max(2.0 * (value - below), 0.0)


def _maximum(y: Floats, X: Floats, offset: Floats, free: int) -> tuple[Floats, float, Floats]:
    """Coefficients (the first `free` of them estimated), the criterion, and (X'DX)^-1."""
    beta = np.zeros(X.shape[1])
    value, score, inverse, step_of = _penalised(y, X, offset, beta, free)
    for _ in range(MOST_STEPS):
        step = step_of @ score
        size = float(np.abs(step).max()) if free else 0.0
        step *= min(1.0, 5.0 / max(size, 1e-300))
        new = beta.copy()
        for _ in range(40):
            new[:free] = beta[:free] + step
            tried = _penalised(y, X, offset, new, free)
            if tried[0] >= value - 1e-11 * abs(value):
                break
            step *= 0.5
        beta = new
        value, score, inverse, step_of = tried
        if np.abs(step).max(initial=0.0) < 1e-9:
            break
    return beta, value, inverse


def _penalised(
    y: Floats, X: Floats, offset: Floats, beta: Floats, free: int
) -> tuple[float, Floats, Floats, Floats]:
    """The criterion, its modified score, (X'DX)^-1, and that of the free coefficients."""
    eta = offset + X @ beta
    p = probability(eta)
    D = p * (1.0 - p)
    DX = D[:, None] * X
    information = X.T @ DX
    sign, logdet = np.linalg.slogdet(information)
    if sign <= 0:
        return -np.inf, np.zeros(free), np.eye(X.shape[1]), np.eye(free)
    inverse: Floats = np.asarray(np.linalg.inv(information), np.float64)
    hat = np.einsum("ij,ij->i", DX @ inverse, X)
    score: Floats = X[:, :free].T @ (y - p + hat * (0.5 - p))
    value = log_likelihood(y, eta) + 0.5 * float(logdet)
    own: Floats = np.asarray(np.linalg.inv(information[:free, :free]), np.float64)
    return value, score, inverse, own


def firth_about(y: Floats, eta: Floats, g: Floats) -> Penalised:
    """Maximise l(beta) + log(g'Dg) / 2 of one coefficient, the rest of eta held.

    That is the approximate correction of Mbatchou et al. (2021). g is free of the covariates,
    so that to first order they need no new estimates.
    """
    beta = 0.0
    value, score, information = _one(y, eta, g, beta)
    zero = value
    for _ in range(MOST_STEPS):
        step = score / information
        step = float(np.clip(step, -5.0 / np.sqrt(information), 5.0 / np.sqrt(information)))
        for _ in range(40):
            tried = _one(y, eta, g, beta + step)
            if tried[0] >= value - 1e-11 * abs(value):
                break
            step *= 0.5
        beta += step
        value, score, information = tried
        if abs(step) * np.sqrt(information) < 1e-9:
            break
    return Penalised(float(beta), float(1.0 / np.sqrt(information)), max(2.0 * (value - zero), 0.0))


def _one(y: Floats, eta: Floats, g: Floats, beta: float) -> tuple[float, float, float]:
    moved = eta + g * beta
    p = probability(moved)
    D = p * (1.0 - p)
    information = float((g * g) @ D)
    if not information > 0:
        return -np.inf, 0.0, 1.0
    third = float((g**3) @ (D * (1.0 - 2.0 * p)))
    value = log_likelihood(y, moved) + 0.5 * float(np.log(information))
    return value, float(g @ (y - p)) + 0.5 * third / information, information
