"""Tests of a variant and its product with an environment for a binary trait.

The product is tested beside the variant itself: its score, free of covariates and of the variant,
with saddlepoint tails, at the model in which the variant has its effect. Where neither variant nor
product has p < 0.05 the model without both stands for that one. The two scores are independent of
each other where neither has an effect, so that their chi-squared values, each belonging to its
saddlepoint p value, add up to that of both.

Among relatives the variance x'Px is that of the working model, in which tau is such that it has
the mean of (x'r)^2 over variants with covariances K (the score equation). Products x * e have the
covariances K * ee', over which the two means differ: residuals of a penalised quasi-likelihood are
smaller than P says. The ratio of the two means, one number a trait, makes them equal again, as it
does where variants all over the genome have effects that differ with e. Arrays in, arrays out.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ranef.fields.gwas.binary import LOOK, few_of, firth_last, saddlepoint
from ranef.fields.gwas.engine import Columns
from ranef.fields.gwas.logistic import LogisticNull, probability
from ranef.fields.gwas.profiles import COLLINEAR
from ranef.fields.gwas.tails import LN10, log10_chi2_tail

__all__ = ["NAMES", "cross_cases", "spread_ratio"]

Floats = NDArray[np.float64]

NAMES = (
    "main", "main_error", "product", "product_error", "covariance", "score", "lrt", "log10_spa",
    "log10_joint", "left",
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class Pairs:
    """Scores of b variants and of their products, and their covariances, (b,) each."""

    s1: Floats
    s2: Floats
    A11: Floats
    A12: Floats
    A22: Floats

    @property
    def rest(self) -> Floats:
        """Variance of the product's score that is free of the variant's."""
        return np.asarray(self.A22 - self.A12**2 / self.A11)

    @property
    def free(self) -> Floats:
        """The product's score less its regression on the variant's."""
        return np.asarray(self.s2 - self.A12 / self.A11 * self.s1)


def spread_ratio(null: LogisticNull, K: Floats, e: Floats, *, own: bool) -> float:
    """Mean square of the scores of products over their mean variance, over variants like K.

    Parameters
    ----------
    K : (n, n) array
        The relationship that the model was fitted with.
    e : (n,) array
        The environment.
    own : bool
        Whether the variance is that of the relatives' model, or of unrelated samples.
    """
    r = null.residual * e
    square = float(r @ (K @ r))
    M = K * e
    M *= e[:, None]
    N = null.N
    if own and null.root is not None:
        whole = float(np.sum((null.root @ M) * null.root))
    else:
        D = null.weights
        whole = float(D @ np.diag(M))
        N = D[:, None] * null.W
        N = np.linalg.solve(np.linalg.cholesky(null.W.T @ N), N.T).T if N.shape[1] else N
    mean = whole - float(np.sum((M @ N) * N))
    return square / mean if square > 0 and mean > 0 else 1.0


def cross_cases(
    null: LogisticNull, X: Floats, XE: Floats, *, own: bool, ratio: float = 1.0
) -> Columns:
    """Test b variants with their products, both (b, n).

    own : whether each score has its own variance, or the expected ratio to unrelated samples;
    ratio : of the variance of a product's score to that, see `spread_ratio`.
    """
    found = Columns.empty(len(X), NAMES)
    G1, G2 = null.adjusted(X), null.adjusted(XE)
    D = null.weights
    plain = [(a * b) @ D for a, b in ((G1, G1), (G1, G2), (G2, G2))]
    with np.errstate(invalid="ignore", divide="ignore"):
        shares = [plain[0] / ((X * X) @ D), plain[2] / ((XE * XE) @ D),
                  1.0 - plain[1] ** 2 / (plain[0] * plain[2])]  # fmt: skip
    left = np.min(np.where(np.isfinite(shares), shares, 0.0), axis=0)
    found.values["left"][:] = left
    good = np.flatnonzero(left > COLLINEAR)
    if not len(good):
        return found
    X, XE, G1, G2 = X[good], XE[good], G1[good], G2[good]
    base = Pairs(X @ null.residual, XE @ null.residual, *(v[good] for v in plain))
    held = _related(null, X, XE, base, own=own, ratio=ratio)
    values = _one_step(held)
    chi_main = held.s1**2 / held.A11
    log_main = log10_chi2_tail(chi_main)
    for k in np.flatnonzero((chi_main > LOOK) | (values["score"] > LOOK)):
        ratios = (held.A11[k] / base.A11[k], held.rest[k] / base.rest[k])
        if chi_main[k] > LOOK:
            q = float(base.s1[k] / np.sqrt(ratios[0]))
            log_main[k] = saddlepoint(few_of(X[k], G1[k]), G1[k], null.mu, q)
        for name, value in _closely(null, X[k], XE[k], G1[k], G2[k], ratios).items():
            values[name][k] = value
    both = _chi_squared(log_main) + _chi_squared(values["log10_spa"])
    values["log10_joint"] = log10_chi2_tail(both, 2.0)
    values["left"] = left[good]
    found.put(good, Columns(values))
    return found


def _related(
    null: LogisticNull, X: Floats, XE: Floats, base: Pairs, *, own: bool, ratio: float
) -> Pairs:
    """The scores with the variances that related samples give them."""
    if null.root is None:
        return base
    if own:
        first, second = null.variance(X, null.root), null.variance(XE, null.root)
        both = null.variance(X + XE, null.root)
        held = Pairs(base.s1, base.s2, first, 0.5 * (both - first - second), second)
    else:
        held = Pairs(base.s1, base.s2, null.ratio * base.A11, null.ratio * base.A12, base.A22)
        # the ratio of products is to unrelated samples, and so is what is left of A22
        return replace(held, A22=held.A12**2 / held.A11 + ratio * base.rest)
    return replace(held, A22=held.A12**2 / held.A11 + ratio * held.rest)


def _one_step(held: Pairs) -> dict[str, Floats]:
    det = held.A11 * held.A22 - held.A12**2
    product = held.free / held.rest
    score = held.free**2 / held.rest
    return {
        "main": (held.A22 * held.s1 - held.A12 * held.s2) / det,
        "main_error": np.sqrt(held.A22 / det),
        "product": product,
        "product_error": np.sqrt(held.A11 / det),
        "covariance": -held.A12 / det,
        "score": score,
        "lrt": np.full(len(score), np.nan),
        "log10_spa": log10_chi2_tail(score),
    }


def _closely(
    null: LogisticNull, x: Floats, xe: Floats, g1: Floats, g2: Floats, ratios: tuple[float, float]
) -> dict[str, float]:
    """One variant: the product's score where the variant has its effect, and both estimates.

    Unrelated samples have all covariates estimated anew, related ones the rest of the model held.
    """
    if null.root is None:
        offset, first = np.zeros(len(x)), np.column_stack([null.W, x])
        both = np.column_stack([first, xe])
    else:
        offset, first = null.eta, g1[:, None]
        both = np.column_stack([g1, g2])
    beta, _, _ = firth_last(null.y, first, offset)
    mu = probability(offset + first @ beta)
    D = mu * (1.0 - mu)
    known = np.column_stack([null.W, x])
    g = xe - known @ np.linalg.lstsq(np.sqrt(D)[:, None] * known, np.sqrt(D) * xe, rcond=None)[0]
    s, variance = float(g @ (null.y - mu)), float((g * g) @ D)
    ratio = ratios[1]
    estimates, inverse, lrt = firth_last(null.y, both, offset)
    wide = inverse[-2:, -2:] / np.sqrt(np.outer(ratios, ratios))
    return {
        "main": float(estimates[-2]), "product": float(estimates[-1]),
        "main_error": float(np.sqrt(wide[0, 0])), "product_error": float(np.sqrt(wide[1, 1])),
        "covariance": float(wide[0, 1]), "score": s * s / (ratio * variance), "lrt": lrt / ratio,
        "log10_spa": saddlepoint(few_of(xe, g), g, mu, s / np.sqrt(ratio)),
    }  # fmt: skip


def _chi_squared(log10_p: Floats) -> Floats:
    """With one degree of freedom, of p values."""
    from scipy.special import ndtri_exp

    return np.asarray(ndtri_exp(np.minimum(log10_p * LN10, 0.0) - np.log(2.0)) ** 2)
