"""Each criterion for its own question, and the degrees of freedom by simulation."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import ranef
from ranef.models.refitting import at_criterion
from ranef.questions.selection.conditional import conditional_linear, residual_parameters
from ranef.questions.selection.criteria import conditional_fit, marginal_fit
from ranef.questions.selection.penalty import conditional_generalised

STAFFING = ("y ~ x * w + (1 | ward)", "y ~ x + w + (x | ward)")
"""Slopes explained by what is known of a ward, or each ward's own."""
DESIGNS = ((30, 10, 0.6, 0.4), (40, 12, 0.5, 0.35), (30, 16, 0.5, 0.3))
"""Wards, rows of each, how slopes go with staffing, how else they differ."""


def wards(rng, count, rows, gamma, tau):
    """A table, and the true means of its rows."""
    ward = np.repeat(np.arange(count), rows)
    x, w = rng.normal(size=count * rows), rng.normal(size=count)
    slopes = 0.5 + gamma * w + tau * rng.normal(size=count)
    mean = 1 + rng.normal(size=count)[ward] + slopes[ward] * x
    table = pd.DataFrame({"y": mean + rng.normal(size=len(x)), "x": x, "w": w[ward], "ward": ward})
    return table, mean


def risk_of_individuals(fit, mean):
    """Expected minus log density of new rows of the same wards, sigma = 1."""
    s2 = fit.sigma**2
    gap = (mean - np.asarray(fit.fitted())) ** 2
    return 0.5 * float(np.mean(np.log(2 * np.pi * s2) + (gap + 1) / s2))


def risk_of_the_population(estimate, rows, gamma, tau):
    """Expected minus log density of the rows of a new ward together."""
    rng, total = np.random.default_rng(0), 0.0
    for _ in range(60):
        x, w = rng.normal(size=rows), rng.normal()
        columns = {"(Intercept)": np.ones(rows), "x": x, "w": np.full(rows, w), "x:w": x * w}
        gap = 1 + (0.5 + gamma * w) * x
        for name, b in zip(estimate.specification.names, estimate.coefficients, strict=True):
            gap = gap - b * columns[name]
        V = estimate.sigma**2 * np.eye(rows)
        for term, psi in zip(estimate.terms, estimate.covariances, strict=True):
            Z = np.column_stack([columns[name] for name in term.names])
            V = V + Z @ psi @ Z.T
        true = np.eye(rows) + 1 + tau**2 * np.outer(x, x)
        both = np.linalg.solve(V, true + np.outer(gap, gap))
        total += 0.5 * float(np.linalg.slogdet(V)[1] + np.trace(both))
    return total / 60


def survey(design, n, seed):
    """Criteria and risks (n, 2 models, 4): AIC, cAIC, for new wards, for these wards."""
    _, rows, gamma, tau = design
    rng = np.random.default_rng(seed)
    out = np.empty((n, 2, 4))
    for i in range(n):
        table, mean = wards(rng, *design)
        for k, formula in enumerate(STAFFING):
            fit = ranef.lmm(formula, table, progress=False)
            ml = at_criterion(fit.estimate, reml=False)
            out[i, k] = (
                marginal_fit(ml).aic,
                conditional_fit(fit.estimate).caic,
                risk_of_the_population(ml, rows, gamma, tau),
                risk_of_individuals(fit, mean),
            )
    return out


def shares(found):
    """How often AIC and cAIC pick what is better for new wards, and for these wards."""
    picks = found[:, :, :2].argmin(axis=1)
    better = found[:, :, 2:].argmin(axis=1)
    return np.array([[np.mean(picks[:, c] == better[:, q]) for c in (0, 1)] for q in (0, 1)])


@pytest.mark.study
@pytest.mark.parametrize("design", DESIGNS)
def test_each_focus_picks_better_for_its_own_question(design):
    n = 300
    found = shares(survey(design, n, 20))
    print(design, found.round(3).tolist())
    error = np.sqrt(0.5 / n)  # of a difference of shares of the same replicates, at most
    assert found[0, 0] - found[0, 1] > 2 * error
    assert found[1, 1] - found[1, 0] > 2 * error


def structures():
    rng = np.random.default_rng(7)
    sleep = ranef.data.load("sleepstudy").assign(w=rng.uniform(0.5, 2.0, 180))
    few = sleep[sleep["Subject"].isin(sleep["Subject"].unique()[:8])]
    K = np.exp(-np.abs(np.subtract.outer(np.arange(12), np.arange(12))) / 3)
    ids = [f"a{i}" for i in range(12)]
    related = pd.DataFrame({"id": np.repeat(ids, 4), "x": rng.normal(size=48)})
    related["y"] = (
        related["x"] + np.repeat(np.linalg.cholesky(K) @ rng.normal(size=12), 4)
        + rng.normal(size=48)
    )  # fmt: skip
    kernels = {"K": pd.DataFrame(K, index=ids, columns=ids)}
    penicillin = ranef.data.load("Penicillin")
    machines = ranef.data.load("Machines")
    return {
        "slopes": lambda: ranef.lmm("Reaction ~ Days + (Days | Subject)", sleep),
        "slopes by ML": lambda: ranef.lmm("Reaction ~ Days + (Days | Subject)", sleep, reml=False),
        "diagonal": lambda: ranef.lmm("Reaction ~ Days + (Days || Subject)", sleep),
        "weights": lambda: ranef.lmm("Reaction ~ Days + (Days | Subject)", sleep, weights="w"),
        "crossed": lambda: ranef.lmm("diameter ~ 1 + (1 | plate) + (1 | sample)", penicillin),
        "nested": lambda: ranef.lmm("strength ~ 1 + (1 | batch/cask)", ranef.data.load("Pastes")),
        "compound": lambda: ranef.lmm("score ~ Machine + cs(0 + Machine | Worker)", machines),
        "near zero": lambda: ranef.lmm("Yield ~ 1 + (1 | Batch)", ranef.data.load("Dyestuff2")),
        "kernel": lambda: ranef.lmm("y ~ x + kernel(1 | id, K)", related, kernels=kernels),
        "ar1": lambda: ranef.lmm(
            "Reaction ~ Days + (1 | Subject)", few, residual="ar1(Days | Subject)"
        ),
    }


@pytest.mark.study
@pytest.mark.parametrize("name", structures())
def test_degrees_of_freedom_against_the_bootstrap(name):
    """Averaged over draws, the derivative is the covariance of fitted and drawn values (Stein)."""
    fit = structures()[name]()
    mean = np.asarray(fit.fitted())
    residual = fit.estimate.specification.residual
    n = 80 if residual is not None else 300
    draws = np.asarray(fit.simulate(n, rng=3, kind="conditional"))
    from ranef.models.noise import residual_covariance

    noise = residual_covariance(fit.estimate)
    precision = np.asarray(noise.precision().todense()) / fit.sigma**2
    gaps = np.empty(n)
    for b in range(n):
        y = draws[:, b]
        again = fit.refit(y)
        found = conditional_linear(again.estimate)
        own = found.df - 1 - residual_parameters(again.estimate)
        e = y - mean
        # the noise of e'e about n is known: subtract its share
        share = own / len(y)
        gaps[b] = (
            e @ precision @ (np.asarray(again.fitted()) - mean)
            - own
            - share * (e @ precision @ e - len(y))
        )
    error = gaps.std(ddof=1) / np.sqrt(n)
    print(name, gaps.mean().round(3), error.round(3))
    assert abs(gaps.mean()) < 3.5 * error


@pytest.mark.study
@pytest.mark.parametrize("family", ["poisson", "binomial"])
def test_degrees_of_freedom_of_counts_and_events(family):
    """Against the covariance of responses and natural parameters, over draws given the effects."""
    rng = np.random.default_rng(11)
    table = pd.DataFrame({"g": np.repeat(np.arange(12), 5), "x": rng.normal(size=60)})
    eta = 0.8 + 0.4 * table["x"] + np.repeat(rng.normal(size=12) * 0.6, 5)
    if family == "poisson":
        table["y"] = rng.poisson(np.exp(eta)).astype(float)
    else:
        table["y"] = (rng.random(60) < 1 / (1 + np.exp(-eta))).astype(float)
    fit = ranef.glmm("y ~ x + (1 | g)", table, family=family)
    mu = np.asarray(fit.fitted())
    n = 120
    draws = np.asarray(fit.simulate(n, rng=5, kind="conditional"))
    gaps, dfs = np.empty(n), np.empty(n)
    for b in range(n):
        again = fit.refit(draws[:, b])
        dfs[b] = conditional_generalised(again.estimate).df
        gaps[b] = (draws[:, b] - mu) @ again.estimate.predictors[0] - dfs[b]
    error = gaps.std(ddof=1) / np.sqrt(n)
    print(family, dfs.mean().round(3), gaps.mean().round(3), error.round(3))
    # counts are unbiased; of events the means that are put in are shrunk estimates
    allowed = 3.5 * error + (0.0 if family == "poisson" else 0.15 * dfs.mean())
    assert abs(gaps.mean()) < allowed
