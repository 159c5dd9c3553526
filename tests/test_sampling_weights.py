"""Sampling weights of `glmm`: the pseudo-likelihood by brute force, copies of what is weighted."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy.special import expit

import ranef
from ranef import _core
from ranef.errors import DataError, ModelError, UnknownColumnError
from ranef.models.sampling import scaled_within

NODES, SHARES = np.polynomial.hermite_e.hermegauss(61)
SHARES = SHARES / np.sqrt(2 * np.pi)


@pytest.fixture(scope="module")
def survey():
    rng = np.random.default_rng(3)
    K = 60
    m = rng.integers(2, 8, K)
    g = np.repeat(np.arange(K), m)
    x = rng.normal(size=len(g))
    y = (rng.random(len(g)) < expit(-0.3 + 0.7 * x + rng.normal(size=K)[g])).astype(float)
    names = rng.permutation(K)
    return pd.DataFrame({
        "g": [f"s{names[k]:02d}" for k in g], "x": x, "y": y,
        "wl": rng.uniform(0.5, 4, K)[g], "wr": rng.uniform(0.5, 2, len(g)),
        "copies": rng.integers(1, 4, K)[g], "twice": rng.integers(1, 3, len(g)),
    })  # fmt: skip


CALL = {"family": "binomial", "quadrature": 21}


def level_logs(table, beta, sd, rows, levels):
    """Weighted log integrals of the levels, at 61 nodes around zero."""
    codes = pd.factorize(table.g)[0]
    eta = (beta[0] + beta[1] * table.x.to_numpy())[:, None] + sd * NODES
    y = table.y.to_numpy()[:, None]
    logs = rows[:, None] * (y * eta - np.logaddexp(0, eta))
    sums = np.zeros((codes.max() + 1, len(NODES)))
    np.add.at(sums, codes, logs)
    weights = np.zeros(len(sums))
    weights[codes] = levels
    return weights / weights.mean() * np.log(np.exp(sums) @ SHARES)


def test_brute_force(survey):
    """The optimum, the pseudo-likelihood and the sandwich, by sums over nodes written out."""
    fit = ranef.glmm("y ~ x + (1 | g)", survey, sampling_weights={"g": "wl", "row": "wr"}, **CALL)
    at = np.append(fit.coefficients, np.log(fit.tidy("variance").estimate.item()))

    def logs(p):
        return level_logs(survey, p[:2], np.exp(p[2]), survey.wr.to_numpy(), survey.wl.to_numpy())

    np.testing.assert_allclose(fit.loglik, logs(at).sum(), rtol=1e-7)
    h = 1e-4
    moves = h * np.eye(3)
    S = np.array([(logs(at + e) - logs(at - e)) / (2 * h) for e in moves]).T
    assert (np.abs(S.sum(axis=0)) < 2e-3).all()
    h = 1e-2
    moves = h * np.eye(3)
    H = np.array([
        [
            (logs(at + a + b) - logs(at + a - b) - logs(at - a + b) + logs(at - a - b)).sum()
            / (4 * h * h)
            for b in moves
        ]
        for a in moves
    ])  # fmt: skip
    V = np.linalg.inv(H) @ (S.T @ S) @ np.linalg.inv(H) * len(S) / (len(S) - 1)
    np.testing.assert_allclose(fit.bse, np.sqrt(np.diag(V))[:2], rtol=1e-3)
    assert fit.optimum.converged
    words = str(fit)
    assert "pseudo-likelihood" in words
    assert "AIC" not in words
    assert np.isnan(fit.aic)


@pytest.mark.parametrize("family", ["binomial", "poisson", "gaussian"])
def test_weights_of_levels_are_copies(survey, family):
    """A level of weight 2 is two levels, whatever the unit of the weights."""
    call = {"family": family, "quadrature": 9}
    copies = survey.copies
    table = survey if family == "binomial" else survey.assign(y=lambda d: d.y + (d.x > 1))
    many = pd.concat([table[copies > k].assign(g=lambda d, k=k: d.g + f".{k}") for k in range(3)])
    plain = ranef.glmm("y ~ x + (1 | g)", many, **call)
    for unit in (1.0, 1000.0):
        fit = ranef.glmm("y ~ x + (1 | g)", table, sampling_weights={"g": unit * copies}, **call)
        np.testing.assert_allclose(fit.coefficients, plain.coefficients, rtol=2e-5)
        np.testing.assert_allclose(fit.theta, plain.theta, rtol=2e-5)
    by_level = table.drop_duplicates("g").copies
    np.testing.assert_allclose(fit.loglik * by_level.mean(), plain.loglik, rtol=1e-7)


def test_weights_of_rows_are_copies(survey):
    fit = ranef.glmm("y ~ x + (1 | g)", survey, sampling_weights={"row": "twice"}, **CALL)
    many = survey.loc[np.repeat(survey.index, survey.twice)]
    plain = ranef.glmm("y ~ x + (1 | g)", many, **CALL)
    np.testing.assert_allclose(fit.coefficients, plain.coefficients, rtol=1e-5)
    np.testing.assert_allclose(fit.loglik, plain.loglik, rtol=1e-9)
    robust = ranef.robust(plain, cluster="g", type="CR1").tidy().std_error
    np.testing.assert_allclose(fit.bse, robust, rtol=1e-4)


def test_random_slopes(survey):
    call = {"family": "binomial", "quadrature": 7}
    copies = survey.copies
    many = pd.concat([survey[copies > k].assign(g=lambda d, k=k: d.g + f".{k}") for k in range(3)])
    plain = ranef.glmm("y ~ x + (x || g)", many, **call)
    fit = ranef.glmm("y ~ x + (x || g)", survey, sampling_weights={"g": "copies"}, **call)
    np.testing.assert_allclose(fit.coefficients, plain.coefficients, rtol=1e-4)
    np.testing.assert_allclose(fit.theta, plain.theta, rtol=1e-4, atol=1e-4)


def test_scales_of_weights_of_rows(survey):
    codes, w = pd.factorize(survey.g)[0].astype(np.int32), survey.wr.to_numpy()
    rows = np.bincount(codes)
    sized = scaled_within(w, codes, "size")
    np.testing.assert_allclose(np.bincount(codes, sized), rows)
    effective = scaled_within(w, codes, "effective")
    np.testing.assert_allclose(
        np.bincount(codes, effective), np.bincount(codes, w) ** 2 / np.bincount(codes, w**2)
    )
    given = ranef.glmm("y ~ x + (1 | g)", survey, sampling_weights={"row": sized}, **CALL)
    named = ranef.glmm("y ~ x + (1 | g)", survey, sampling_weights={"row": "wr"},
                       sampling_scale="size", **CALL)  # fmt: skip
    np.testing.assert_allclose(named.coefficients, given.coefficients, rtol=1e-12)


def test_it_recovers_the_population():
    """Levels and rows sampled by what they answer: weights undo it, and without them it is off."""
    rng = np.random.default_rng(5)
    gap = {"weighted": [], "plain": []}
    for _ in range(6):
        K, m = 1500, 12
        u = rng.normal(size=K)
        taken = np.where(u > 0.5, 0.6, 0.15)
        keep = rng.random(K) < taken
        g = np.repeat(np.flatnonzero(keep), m)
        x = rng.normal(size=len(g))
        y = (rng.random(len(g)) < expit(-0.5 + x + u[g])).astype(float)
        table = pd.DataFrame({"g": g, "x": x, "y": y, "w": 1 / taken[g]})
        call = {"family": "binomial", "quadrature": 9}
        weighted = ranef.glmm("y ~ x + (1 | g)", table, sampling_weights={"g": "w"}, **call)
        plain = ranef.glmm("y ~ x + (1 | g)", table, **call)
        for name, fit in (("weighted", weighted), ("plain", plain)):
            gap[name].append((fit.coefficients - [-0.5, 1.0]) / weighted.bse.to_numpy())
    assert (np.abs(np.mean(gap["weighted"], axis=0)) < 1.6).all()
    assert np.mean(gap["plain"], axis=0)[0] > 3


def nested_problem(y, X, *nested):
    """Poisson responses with intercepts of two nested factors, five nodes each."""
    factors = [
        {
            "codes": codes.astype(np.int32), "z": np.ones((len(y), 1)),
            "levels": int(codes.max()) + 1, "owners": [0],
            "terms": [{"structure": "us", "size": 1, "rank": 0, "positions": np.empty((1, 0))}],
        }
        for codes in nested
    ]  # fmt: skip
    return _core.GeneralisedProblem(
        _core.make_family("poisson", "log"), y, None, None,
        [{"X": X, "coefficients": [0, 1], "offset": None}], 2, factors, [0, 1], 1, 5, [],
    )  # fmt: skip


def test_the_core_weighs_nested_levels():
    """The sum over the coarsest levels, and its gradient by differences."""
    rng = np.random.default_rng(2)
    n, fine, coarse = 60, np.repeat(np.arange(12), 5), np.repeat([2, 0, 3, 1], 15)
    y, X = rng.poisson(2.0, n).astype(float), np.column_stack([np.ones(n), rng.normal(size=n)])
    weights = np.array([1.0, 3.0, 2.0, 0.5])
    core = nested_problem(y, X, fine, coarse)
    core.weigh_levels(weights)
    x = np.array([0.5, 0.7, 0.6, 0.2])
    state = core.state(x, True)
    for k in range(4):
        step = 1e-5 * np.eye(4)[k]
        up, down = (core.state(x + sign * step, False)["criterion"] for sign in (1, -1))
        np.testing.assert_allclose(state["gradient"][k], (up - down) / 2e-5, rtol=1e-5, atol=1e-6)
    total = 0.0
    for level, weight in enumerate(weights):
        own = coarse == level
        codes = [np.unique(c[own], return_inverse=True)[1] for c in (fine, coarse)]
        part = nested_problem(y[own], np.ascontiguousarray(X[own]), *codes)
        total += weight * part.state(x, False)["criterion"]
    np.testing.assert_allclose(state["criterion"], total, rtol=1e-10)
    with pytest.raises(ValueError, match="weights must be above zero"):
        core.weigh_levels(np.array([1.0, 0.0, 1.0, 1.0]))
    with pytest.raises(ValueError, match=r".+"):
        core.weigh_levels(np.ones(3))


def test_questions(survey, tmp_path):
    fit = ranef.glmm("y ~ x + (1 | g)", survey, sampling_weights={"g": "wl", "row": "wr"}, **CALL)
    fit.save(tmp_path / "fit.ranef")
    again = ranef.load(tmp_path / "fit.ranef")
    assert str(again) == str(fit)
    np.testing.assert_allclose(again.bse, fit.bse, rtol=1e-10)
    same = fit.refit(survey.y)
    np.testing.assert_allclose(same.coefficients, fit.coefficients, rtol=1e-5)
    assert fit.anova().tidy().statistic.item() == pytest.approx(fit.tvalues["x"] ** 2)
    effect = fit.average("x").tidy()
    assert 0 < effect.std_error.item() < 0.2
    assert len(fit.predict(survey.head(3), kind="population", conf_level=0.9)) == 3
    marginal = ranef.marginal(fit).tidy()
    assert (marginal.std_error > 0).all()
    for question in (ranef.profile, ranef.bootstrap, ranef.r2):
        with pytest.raises(ModelError, match="pseudo-likelihood"):
            question(fit)
    with pytest.raises(ModelError, match="pseudo-likelihood"):
        ranef.anova(fit, fit)
    with pytest.raises(ModelError, match="a sandwich already"):
        ranef.robust(fit, cluster="g").tidy()
    with pytest.raises(ModelError, match=r"profile|pseudo"):
        fit.confint(method="profile")


@pytest.mark.parametrize(
    ("how", "error", "words"),
    [
        ({"sampling_weights": "wl"}, ModelError, "says of which level"),
        ({"sampling_weights": {}}, ModelError, "says of which level"),
        ({"sampling_weights": {"h": "wl"}}, ModelError, "weights of 'h'"),
        ({"sampling_weights": {"g": "wr"}}, DataError, "have different weights of g"),
        ({"sampling_weights": {"g": "nobody"}}, UnknownColumnError, "no column 'nobody'"),
        ({"sampling_weights": {"g": "g"}}, DataError, "holds no numbers"),
        ({"sampling_weights": {"row": [1.0, 2.0]}}, DataError, "has shape"),
        ({"sampling_weights": {"row": "zero"}}, DataError, r"must be positive numbers; 1 row"),
        ({"sampling_weights": {"row": "wr"}, "quadrature": 1}, ModelError, "give quadrature"),
        ({"sampling_weights": {"row": "wr"}, "fixed": {"x": 1.0}}, ModelError, "no fixed"),
        ({"sampling_scale": "size"}, ModelError, "which are not given"),
        ({"sampling_weights": {"row": "wr"}, "sampling_scale": "rows"}, ModelError, "size"),
    ],
)
def test_what_is_wrong_is_refused(survey, how, error, words):
    table = survey.assign(zero=np.where(survey.index == 3, 0.0, 1.0))
    with pytest.raises(error, match=words):
        ranef.glmm("y ~ x + (1 | g)", table, **{**CALL, **how})


def test_one_grouping_factor(survey):
    table = survey.assign(h=survey.g.str[:2])
    with pytest.raises(ModelError, match="of one grouping factor, and the model has 2"):
        ranef.glmm("y ~ x + (1 | h / g)", table, family="binomial", quadrature=5,
                   sampling_weights={"row": "wr"})  # fmt: skip
    missing = survey.assign(x=survey.x.where(survey.index % 9 > 0))
    fit = ranef.glmm("y ~ x + (1 | g)", missing, sampling_weights={"g": "wl", "row": "wr"}, **CALL)
    kept = survey[survey.index % 9 > 0]
    other = ranef.glmm("y ~ x + (1 | g)", kept, sampling_weights={"g": "wl", "row": "wr"}, **CALL)
    np.testing.assert_allclose(fit.coefficients, other.coefficients, rtol=1e-10)


def test_wemix_and_gllamm(agree):
    """Sleepstudy, reactions of 300 and more; three subjects' rows stand for two.

    Table 3 of "Introduction to Mixed Effects Models With WeMix", the vignette of WeMix 3 (Bailey,
    Kelley & Nguyen): WeMix with 13 nodes, and GLLAMM of Stata, each to its own stopping rule; the
    log pseudo-likelihood here is GLLAMM's to all its digits, and the largest.
    """
    table = ranef.data.load("sleepstudy")
    table["slow"] = (table.Reaction >= 300).astype(int)
    table["w"] = 1.0 + table.Subject.astype(str).isin(["308", "309", "310"])
    fit = ranef.glmm("slow ~ Days + (1 | Subject)", table, family="binomial", quadrature=25,
                     sampling_weights={"row": "w"})  # fmt: skip
    what = "sleepstudy, Reaction >= 300, weighted rows"
    found = {
        "log pseudo-likelihood": [fit.loglik], "coefficients": fit.coef, "std. errors": fit.bse,
        "variance": [fit.tidy("variance").estimate[0] ** 2],
    }  # fmt: skip
    stata = {
        "log pseudo-likelihood": ([-93.75168], 1e-7), "coefficients": ([-3.34499, 0.59285], 3e-4),
        "std. errors": ([0.9250737, 0.1244216], 6e-4), "variance": ([4.13350], 1.3e-3),
    }  # fmt: skip
    wemix = {
        "log pseudo-likelihood": ([-93.75179], 2e-6), "coefficients": ([-3.34411, 0.59271], 1e-4),
        "std. errors": ([0.92390, 0.12429], 1e-3), "variance": ([4.127208], 4e-4),
    }  # fmt: skip
    for peer, values in (("Stata, GLLAMM", stata), ("WeMix, 13 nodes", wemix)):
        for name, (wanted, tolerance) in values.items():
            agree("ranef.glmm", f"{name}, {what}", found[name], wanted, peer=peer, rtol=tolerance)
