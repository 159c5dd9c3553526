"""Tests of mean effects: Knapp and Hartung's, Satterthwaite's, normal; intervals of tau."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ranef.errors import ModelError, suggestion
from ranef.inference.coefficients.degrees import combined_degrees
from ranef.inference.coefficients.functions import Knowledge, wald_test
from ranef.inference.coefficients.wald import FTest, f_tail
from ranef.models.meta import MetaEstimate
from ranef.solve.synthesis.between import LIKELIHOODS, Between
from ranef.solve.synthesis.intervals import profile_interval, q_profile

__all__ = ["DEPENDENT", "INDEPENDENT", "check_df", "default_df", "knowledge", "tau2_interval"]

Floats = NDArray[np.float64]

INDEPENDENT: tuple[str, ...] = ("knapp-hartung", "knapp-hartung-conservative", "t", "normal")
DEPENDENT: tuple[str, ...] = ("satterthwaite", "t", "normal")


def default_df(estimate: MetaEstimate) -> str:
    """Knapp and Hartung's; Satterthwaite's of dependent effects; normal of fixed effects."""
    if estimate.model.method == "fe":
        return "normal"
    return DEPENDENT[0] if estimate.model.is_dependent else INDEPENDENT[0]


def check_df(estimate: MetaEstimate, method: str) -> str:
    """Return the name, or say which there are."""
    known = DEPENDENT if estimate.model.is_dependent else INDEPENDENT
    if method == "satterthwaite" and estimate.model.method == "fe":
        known = tuple(name for name in known if name != method)
    if method not in known:
        kind = "dependent effects" if estimate.model.is_dependent else "independent studies"
        raise ModelError(
            f"df={method!r} is not a method for {kind}{suggestion(str(method), known)}; there are "
            f"{', '.join(known)}"
        )
    return method


def knowledge(estimate: MetaEstimate, method: str) -> Knowledge:
    """How well the mean effects are known.

    Knapp and Hartung (2003, Stat. Med. 22) multiply the covariance by the weighted sum of squares
    of the residuals over n - p, and take t with n - p degrees of freedom; the conservative variant
    never multiplies by less than one.
    """
    V = estimate.bread
    if method == "normal":
        return Knowledge.normal(V)
    if method == "satterthwaite":
        return _satterthwaite(estimate)
    df = float(estimate.specification.n - estimate.specification.p)
    factor = 1.0
    if method != "t":
        factor = estimate.scatter
    if method == "knapp-hartung-conservative":
        factor = max(1.0, factor)
    scaled = factor * V

    def joint(L: Floats, value: Floats) -> FTest:
        if factor == 0:
            return f_tail(float("nan"), len(L), df)
        test = wald_test(L, value, scaled)
        return f_tail(test.statistic, test.df1, df)

    return Knowledge(scaled, lambda L: np.full(len(np.atleast_2d(L)), df), joint)


def _satterthwaite(estimate: MetaEstimate) -> Knowledge:
    """Degrees of freedom from the information of the variances (Giesbrecht & Burns 1985)."""
    V = estimate.bread
    info, slopes = estimate.model.problem.information(estimate.phi)
    size = np.sqrt(np.diag(info))
    inside = size > 1e-8 * max(1.0, float(size.max(initial=0.0)))
    kept = np.flatnonzero(inside)
    inverse = np.linalg.pinv(info[np.ix_(kept, kept)], hermitian=True)

    def rows(L: Floats) -> Floats:
        L = np.atleast_2d(L)
        out = np.full(len(L), np.inf)
        for i, row in enumerate(L):
            g = np.array([row @ slopes[k] @ row for k in kept])
            spread = float(g @ inverse @ g)
            variance = float(row @ V @ row)
            if spread > 0:
                out[i] = 2 * variance**2 / spread
        return out

    def joint(L: Floats, value: Floats) -> FTest:
        test = wald_test(L, value, V)
        values, vectors = np.linalg.eigh(L @ V @ L.T)
        some = values > 1e-12 * values.max(initial=0.0)
        return f_tail(test.statistic, test.df1, combined_degrees(rows(vectors[:, some].T @ L)))

    return Knowledge(V, rows, joint)


def tau2_interval(estimate: MetaEstimate, method: str, conf_level: float) -> tuple[float, float]:
    """Ends of an interval of tau^2 of independent studies, by ``"q-profile"`` or ``"profile"``."""
    model = estimate.model
    if method == "q-profile":
        return q_profile(model.data, conf_level)
    if model.method not in LIKELIHOODS:
        raise ModelError(
            f"method={model.method!r} maximises no likelihood that could be profiled; "
            "confint('q-profile') needs none"
        )
    at = model.data.moments(estimate.where)
    logliks = at.loglik(model.method == "reml", model.data.n, model.data.p)
    found = Between(estimate.tau2, estimate.where, logliks, 0.0)
    return profile_interval(model.data, found, model.method == "reml", conf_level)
