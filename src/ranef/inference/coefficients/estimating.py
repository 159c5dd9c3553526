"""Tests of coefficients of estimating equations, by their clusters."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from ranef.errors import DataError, ModelError, suggestion
from ranef.inference.coefficients.degrees import OF_CLUSTERS, combined_degrees
from ranef.inference.coefficients.functions import Knowledge, wald_test
from ranef.inference.coefficients.wald import FTest, f_tail
from ranef.models.marginal import MarginalEstimate
from ranef.models.marginal_errors import constrained, covariance, influences
from ranef.solve.marginal import degrees
from ranef.solve.marginal.equations import Problem, Solution, add_up, by_cluster, scores

__all__ = ["METHODS", "added_column", "check_df", "default_df", "knowledge", "score_test"]

Floats = NDArray[np.float64]
Rows = Callable[[Floats], Floats]

METHODS = ("normal", *OF_CLUSTERS)
MANY = 50
"""Clusters from which the normal distribution is the default."""
DEFAULTS = {
    "kauermann-carroll": "fay-graubard",
    "fay-graubard": "fay-graubard",
    "mancl-derouen": "pan-wall",
    "morel": "pan-wall",
}
"""Methods whose intervals hold with few clusters, by covariance; of others ``"small-sample"``."""
EIGENVALUES = 1e-12


def default_df(estimate: MarginalEstimate, kind: str) -> str:
    """The method of degrees of freedom that holds for its clusters and a covariance."""
    K = estimate.model.clusters[0].n_levels
    if K >= MANY:
        return "normal"
    if kind != "model":
        return DEFAULTS.get(kind, "small-sample")
    return "clusters" if len(estimate.coefficients) < K else "normal"


def check_df(method: str) -> str:
    """Return the name, or say which there are."""
    if method not in METHODS:
        raise ModelError(
            f"df={method!r} is not a method of population-averaged models"
            f"{suggestion(str(method), METHODS)}; there are {', '.join(METHODS)}"
        )
    return method


def knowledge(estimate: MarginalEstimate, kind: str, method: str) -> Knowledge:
    """How well the coefficients are known, by a covariance and a method of `METHODS`."""
    V = covariance(estimate, kind)
    if method == "normal":
        return Knowledge.normal(V)
    rows = _rows(estimate, kind, method)
    M = np.linalg.inv(estimate.bread)
    return Knowledge(V, rows, lambda L, value: _joint(V, (M + M.T) / 2, rows, L, value))


def _rows(estimate: MarginalEstimate, kind: str, method: str) -> Rows:
    """Degrees of freedom of the t test of each row of L."""
    K, p = estimate.model.clusters[0].n_levels, len(estimate.coefficients)
    if method == "clusters":
        if p >= K:
            raise DataError(
                f"df='clusters' is clusters minus coefficients, and there are {K} clusters and {p} "
                "coefficients: nothing can be tested so; take fewer predictors, or df='normal'"
            )
        return lambda L: np.full(len(L), float(K - p))
    if kind == "model":
        raise ModelError(
            f"df={method!r} belongs to covariances that rest on clusters, covariance='robust' and "
            "its corrections; that of the model has df='normal' or 'clusters'"
        )
    if method == "pan-wall":
        h = influences(estimate, "robust" if kind.startswith("jackknife") else kind).h
        return lambda L: degrees.pan_wall(h, L)
    M = np.asarray(np.linalg.inv(estimate.bread))
    parts = [(u, B) for _, u, B in by_cluster(estimate.model.problem, estimate.solution)]
    scores = np.vstack([u for u, _ in parts])
    shares = np.vstack([B for _, B in parts])
    if method == "fay-graubard":
        return lambda L: degrees.fay_graubard(M, scores, shares, L)
    own = covariance(estimate, kind)
    unbiased = influences(estimate, "kauermann-carroll")
    if unbiased.whole.any():
        unbiased = influences(estimate, "fay-graubard")

    def made_up(L: Floats) -> Floats:
        wide = np.sum((unbiased.h @ L.T) ** 2, axis=0)
        with np.errstate(invalid="ignore", divide="ignore"):
            ratio = np.sqrt(wide / np.sum(L @ own * L, axis=1))
        return degrees.made_up(degrees.fay_graubard(M, scores, shares, L), ratio)

    return made_up


def _joint(V: Floats, M: Floats, rows: Rows, L: Floats, value: Floats) -> FTest:
    """Wald's F; denominators of its independent parts combined (Fai & Cornelius 1996).

    The parts are independent by V and by the covariance M of the model too, so that they are the
    same whatever rows state the hypothesis.
    """
    test = wald_test(L, value, V)
    values, vectors = np.linalg.eigh(L @ M @ L.T)
    some = values > EIGENVALUES * values.max(initial=0.0)
    basis = (vectors[:, some] / np.sqrt(values[some])).T @ L
    values, vectors = np.linalg.eigh(basis @ V @ basis.T)
    some = values > EIGENVALUES * values.max(initial=0.0)
    return f_tail(test.statistic, test.df1, combined_degrees(rows(vectors[:, some].T @ basis)))


def score_test(estimate: MarginalEstimate, L: Floats) -> FTest:
    """Generalised score test that L beta = 0 (Rotnitzky & Jewell 1990, Biometrika 77; Boos 1992).

    With the equations solved under the hypothesis, U their function there, M = H^-1 and C the sum
    of u_i u_i', it is U'M L'(L M C M L')^-1 L M U, chi-squared with q degrees of freedom.
    """
    restricted = constrained(estimate, L)
    problem = estimate.model.problem
    found = scores(problem, restricted)
    M = np.linalg.inv(restricted.bread)
    moves = found @ M.T @ L.T
    return wald_test(np.eye(len(L)), moves.sum(axis=0), moves.T @ moves)


def added_column(problem: Problem, solution: Solution) -> FTest:
    """Generalised score test of the last column of X, the solution that of the others."""
    beta = np.append(solution.beta, 0.0)
    sums = add_up(problem, beta, solution.working, solution.working)
    wide = replace(solution, beta=beta, bread=sums.H)
    moves = scores(problem, wide) @ np.linalg.inv(sums.H)[-1]
    return wald_test(np.eye(1), np.array([moves.sum()]), np.array([[moves @ moves]]))
