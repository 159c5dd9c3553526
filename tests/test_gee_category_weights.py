"""Precisions, Firth's penalty and dropout where responses are categories, or have odds ratios."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from test_gee_categories import clustered, joint_table, probabilities, slopes

import ranef
from ranef.errors import DataError, ModelError
from ranef.models.marginal_fitting import fit_marginal
from ranef.solve.marginal import equations
from ranef.solve.marginal.equations import solve, weight_derivatives
from ranef.solve.marginal.log_det import log_det_slopes

REFERENCE = json.loads(
    (Path(__file__).parent / "reference" / "gee_categories.json").read_text("utf-8")
)
STRUCTURES = [
    ("cumulative", "independence"), ("cumulative", "global odds ratio"),
    ("cumulative", "local odds ratio"), ("multinomial", "independence"),
    ("multinomial", "local odds ratio"),
]  # fmt: skip


@pytest.fixture(scope="module")
def respdis():
    return pd.DataFrame(REFERENCE["data"])


def dense(fit, table, weights):
    """H, and the scores of the clusters, with whole matrices of all categories but the last."""
    J, p = 4, len(fit.coefficients)
    P = probabilities(fit, table)
    Y = np.eye(J)[[list("abcd").index(v) for v in table.y]]
    X = table[["x", "z"]].to_numpy(float)
    H, U = np.zeros((p, p)), []
    for _, rows in table.groupby("g"):
        k = rows.sort_values("t").index.to_numpy()
        V = np.zeros((len(k), J - 1, len(k), J - 1))
        for a, b in itertools.product(range(len(k)), repeat=2):
            pa, pb = P[k[a]], P[k[b]]
            joint = np.diag(pa) if a == b else joint_table(fit, pa, pb)
            share = np.sqrt(weights[k[a]] * weights[k[b]])
            V[a, :, b] = (joint - np.outer(pa, pb))[:-1, :-1] / share
        V = V.reshape(len(k) * (J - 1), -1)
        D = np.vstack([slopes(fit, X[i], P[i]) for i in k])
        r = (Y[k] - P[k])[:, :-1].ravel()
        H += D.T @ np.linalg.solve(V, D)
        U.append(D.T @ np.linalg.solve(V, r))
    return H, np.array(U)


@pytest.mark.parametrize(("family", "correlation"), STRUCTURES)
def test_dense_twin_with_precisions(family, correlation):
    """The covariance of two responses over the root of the product of their weights."""
    table = clustered(n_clusters=20)
    weights = 0.5 + (np.arange(len(table)) % 3)
    fit = ranef.gee("y ~ x + z", table, groups="g", time="t", family=family,
                    correlation=correlation, weights=weights)  # fmt: skip
    H, U = dense(fit, table, weights)
    M = np.linalg.inv(H)
    np.testing.assert_allclose(U.sum(axis=0) / np.sqrt(np.sum(U**2, axis=0)), 0.0, atol=1e-6)
    np.testing.assert_allclose(fit.covariances_known, M @ U.T @ U @ M.T, rtol=1e-6)
    model = fit.with_covariance("model")
    np.testing.assert_allclose(model.covariances_known, M, rtol=1e-6)


@pytest.mark.parametrize("family", ["cumulative", "multinomial"])
def test_weighted_independence_is_weighted_likelihood(family):
    table = clustered().assign(w=lambda d: 0.5 + d.index % 4)
    fit = ranef.gee("y ~ x + z", table, groups="g", family=family, correlation="independence",
                    weights="w")  # fmt: skip
    one = ranef.glmm("y ~ x + z", table, family=family, weights="w", random="none")
    np.testing.assert_allclose(fit.coefficients, one.coefficients, rtol=1e-5)


@pytest.mark.parametrize(("family", "correlation"), STRUCTURES)
def test_equal_precisions_scale_the_model_alone(family, correlation):
    """All weights w: estimates and robust errors stay, the model's variance is 1 / w of it."""
    table = clustered(n_clusters=60)
    call = {"groups": "g", "time": "t", "family": family, "correlation": correlation}
    plain = ranef.gee("y ~ x + z", table, **call)
    three = ranef.gee("y ~ x + z", table, weights=np.full(len(table), 3.0), **call)
    np.testing.assert_allclose(three.coefficients, plain.coefficients, rtol=1e-7, atol=1e-9)
    np.testing.assert_allclose(three.estimate.correlations, plain.estimate.correlations, rtol=1e-7)
    np.testing.assert_allclose(three.tidy().std_error, plain.tidy().std_error, rtol=1e-7)
    np.testing.assert_allclose(
        three.tidy(covariance="model").std_error,
        plain.tidy(covariance="model").std_error / np.sqrt(3),
        rtol=1e-7,
    )


# --- the penalty


def test_firth_of_nominal_responses(respdis, agree):
    """Under independence the penalised likelihood of brglm2."""
    fit = ranef.gee("resp ~ trt + time", respdis, groups="id", family="multinomial",
                    correlation="independence", penalty="firth")  # fmt: skip
    agree("ranef.gee", "multinomial, respdis, independence, penalty='firth'", fit.coefficients,
          np.ravel(REFERENCE["firth"]), peer="brglm2 0.9, brmultinom", rtol=1e-7)  # fmt: skip


@pytest.mark.parametrize(("family", "correlation"), STRUCTURES)
def test_penalised_equations(family, correlation):
    """U + d log det H / d beta / 2 = 0, the odds ratios held: by dense matrices."""
    table = clustered(n_clusters=12)
    weights = 0.5 + (np.arange(len(table)) % 3)
    fit = ranef.gee("y ~ x + z", table, groups="g", time="t", family=family,
                    correlation=correlation, penalty="firth", weights=weights)  # fmt: skip
    U = dense(fit, table, weights)[1].sum(axis=0)
    more = np.empty_like(U)
    h = 1e-4
    for j in range(len(U)):
        ends = []
        for sign in (1.0, -1.0):
            beta = fit.coefficients.copy()
            beta[j] += sign * h
            moved = replace(fit, estimate=replace(fit.estimate, coefficients=beta))
            ends.append(np.linalg.slogdet(dense(moved, table, weights)[0])[1])
        more[j] = 0.5 * (ends[0] - ends[1]) / (2 * h)
    errors = fit.tidy(covariance="model").std_error.to_numpy()
    np.testing.assert_allclose((U + more) * errors, 0.0, atol=1e-6)
    assert np.abs(more * errors).max() > 1e-3


@pytest.mark.parametrize("family", ["cumulative", "multinomial"])
@pytest.mark.parametrize("correlation", ["independence", "exchangeable"])
def test_separated_categories_have_finite_estimates(family, correlation):
    table = clustered().assign(s=lambda d: (d.y > "b").astype(float))
    call = {"groups": "g", "family": family, "correlation": correlation}
    with pytest.raises(ModelError, match=r"penalty='firth' gives finite ones"):
        ranef.gee("y ~ s", table, **call)
    fit = ranef.gee("y ~ s", table, penalty="firth", **call)
    assert fit.estimate.converged
    assert np.abs(fit.coefficients).max() < 30


def test_two_categories_are_a_binary_response(respdis):
    table = respdis.assign(b=(respdis.resp == 3).astype(int), w=0.5 + respdis.index % 3)
    words = table.assign(b=table.b.map({0: "no", 1: "yes"}))
    call = {"groups": "id", "correlation": "independence", "weights": "w", "penalty": "firth"}
    one = ranef.gee("b ~ trt + time", table, family="binomial", scale=1.0, **call)
    two = ranef.gee("b ~ trt + time", words, family="multinomial", **call)
    np.testing.assert_allclose(two.coefficients, one.coefficients, rtol=1e-8)
    np.testing.assert_allclose(two.bse, one.bse, rtol=1e-8)


def test_one_odds_ratio_of_binary_responses(respdis):
    """Alternating logistic regressions with precisions and penalty: those of two categories."""
    table = respdis.assign(b=(respdis.resp == 3).astype(int), w=0.5 + respdis.index % 3)
    words = table.assign(b=pd.Categorical(table.b.map({0: "no", 1: "yes"})))
    call = {"groups": "id", "time": "time", "weights": "w", "penalty": "firth"}
    one = ranef.gee("b ~ trt", table, family="binomial", correlation="log odds ratio", **call)
    two = ranef.gee("b ~ trt", words, family="cumulative", **call)
    # the equations of the odds ratio differ, and so do estimates, a little
    np.testing.assert_allclose(one.coefficients[1], two.coefficients[0], rtol=0.01)
    np.testing.assert_allclose(one.estimate.correlations, two.estimate.correlations, rtol=0.05)
    assert one.estimate.gap < 1e-7


# --- dropout


def with_dropout(seed=0, K=300, T=4):
    """Ordered categories; those with high ones are seen less often later."""
    rng = np.random.default_rng(seed)
    rows = []
    for k in range(K):
        u, z, gone, before = rng.normal(), k % 2, False, 0
        for t in range(T):
            y = int(np.digitize(0.5 * t - 0.8 * z + u + rng.logistic(), [-1, 1, 2.5]))
            gone |= t > 0 and rng.random() < 1 / (1 + np.exp(2.5 - 1.4 * before))
            rows.append((k, t, z, "abcd"[y], None if gone else "abcd"[y]))
            before = y
    return pd.DataFrame(rows, columns=["id", "t", "z", "full", "y"])


DROPOUT = {"groups": "id", "time": "t", "dropout": "~ lag(y) + z"}


@pytest.mark.parametrize(("family", "correlation"), STRUCTURES)
def test_dropout_of_categories(family, correlation):
    """One large table: weighted equations find what all rows say, those seen alone do not."""
    table = with_dropout(seed=3, K=1500)
    call = {"family": family, "correlation": correlation}
    every = ranef.gee("full ~ t + z", table, groups="id", time="t", **call)
    seen = ranef.gee("y ~ t + z", table, groups="id", time="t", **call)
    found = ranef.gee("y ~ t + z", table, **DROPOUT, **call)
    own = [k for k, label in enumerate(every.labels) if label.term == "t"]
    error = found.tidy().std_error.to_numpy()
    gap = (found.coefficients - every.coefficients) / error
    assert np.abs(gap).max() < 3.5
    if correlation == "independence":
        naive = np.abs(seen.coefficients - every.coefficients)[own].max()
        assert naive > 2 * np.abs(found.coefficients - every.coefficients)[own].max()
    assert found.n_obs == seen.n_obs
    shown = found.tidy("dropout")
    assert [term.rpartition(")")[2] for term in shown.term][1:4] == ["b", "c", "d"]
    assert "planned and not seen" in str(found)
    assert "dropout=" in found.description.call()


@pytest.mark.parametrize("family", ["cumulative", "multinomial"])
def test_the_uncertainty_of_dropout_weights(family):
    """Coefficients move with those of the model of dropout as its part of the sandwich says."""
    fit = ranef.gee("y ~ t + z", with_dropout(K=2000), family=family, correlation="independence",
                    **DROPOUT)  # fmt: skip
    model = fit.estimate.model
    dropout, h = model.dropout, 1e-5
    slopes_ = np.repeat(model.sorted(dropout.slopes), 3, axis=0)
    C = weight_derivatives(model.problem, fit.estimate.solution, slopes_)
    said = np.linalg.inv(fit.estimate.bread) @ C
    near = 3e-3 if family == "cumulative" else 1e-6  # off the canonical link H is an expectation
    for j in range(len(dropout.coefficients)):
        ends = []
        for sign in (1.0, -1.0):
            weights = dropout.weights + sign * h * dropout.slopes[:, j]
            moved = replace(model, dropout=replace(dropout, weights=weights))
            ends.append(solve(moved.problem, moved.working, fit.coefficients).beta)
        np.testing.assert_allclose((ends[0] - ends[1]) / (2 * h), said[:, j], atol=near)


def test_dropout_with_weights_penalty_and_levels():
    table = with_dropout().assign(w=lambda d: 0.5 + d.index % 2)
    order = ["d", "c", "b", "a"]
    table["y"] = pd.Categorical(table.y, categories=order, ordered=True)
    table["arm"] = pd.Categorical(np.where(table.z > 0, "new", "old"), categories=["old", "new"])
    fit = ranef.gee("y ~ t + arm", table, family="cumulative", weights="w", penalty="firth",
                    groups="id", time="t", dropout="~ lag(y) + arm")  # fmt: skip
    assert fit.names[1] == "armnew"
    assert [f.term for f in fit.labels if f.component == "threshold"] == ["d|c", "c|b", "b|a"]
    assert fit.estimate.gap < 1e-7
    with pytest.raises(DataError, match="never missing"):
        ranef.gee("full ~ t", table, family="cumulative", groups="id", time="t", dropout="~ z")
    with pytest.raises(ModelError, match="needs time="):
        ranef.gee("y ~ t", table, family="cumulative", groups="id", dropout="~ z")


def test_dropout_of_binary_responses_with_an_odds_ratio():
    table = with_dropout(K=1500)
    table["full"] = (table.full > "b").astype(float)
    table["y"] = table.full.where(table.y.notna())
    call = {"family": "binomial", "correlation": "log odds ratio"}
    every = ranef.gee("full ~ t + z", table, groups="id", time="t", **call)
    found = ranef.gee("y ~ t + z", table, **DROPOUT, **call)
    assert np.abs((found.coefficients - every.coefficients) / found.bse.to_numpy()).max() < 3.5
    assert fit_marginal(found.estimate.model).gap < 1e-7


def test_lag_of_categories():
    table = with_dropout(K=20)
    table["before"] = table.groupby("id").full.shift().astype(object)
    call = {"groups": "id", "correlation": "independence"}
    one = ranef.gee("t ~ lag(full, id, time = t)", table, **call)
    two = ranef.gee("t ~ before", table, **call)
    np.testing.assert_allclose(one.coefficients, two.coefficients, rtol=1e-10)
    assert [name[-1] for name in one.names[1:]] == [name[-1] for name in two.names[1:]]


@pytest.mark.parametrize("weights", [{}, {"weights": "w"}, {"sampling_weights": "w"}])
@pytest.mark.parametrize(("family", "correlation"), [*STRUCTURES, ("binomial", "log odds ratio")])
def test_penalty_is_the_derivative_of_log_det(family, correlation, weights):
    """Against differences of log det H over the coefficients, the odds ratios held."""
    rng = np.random.default_rng(12)
    K, m = 60, 3
    g, x = np.repeat(np.arange(K), m), rng.normal(size=K * m)
    latent = 0.7 * x + rng.normal(size=K)[g] + rng.logistic(size=K * m)
    y = (latent > 0) * 1.0 if family == "binomial" else np.digitize(latent, [-1.0, 0.3, 1.4])
    table = pd.DataFrame({"y": y, "x": x, "g": g, "w": rng.uniform(0.5, 2.0, K * m)})
    call = {"family": family, "correlation": correlation, **weights}
    fit = ranef.gee("y ~ x", table, groups="g", **call)
    problem, solution = fit.estimate.model.problem, fit.estimate.solution
    H = equations.add_up(problem, solution.beta, solution.working, solution.working).H
    found = log_det_slopes(problem, solution.beta, solution.working, H)
    wanted = equations._log_det_differences(problem, solution.beta, solution.working)
    np.testing.assert_allclose(found, wanted, rtol=1e-8, atol=1e-9 * np.abs(wanted).max())
