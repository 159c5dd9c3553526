"""Joint posteriors, ranks, raw effects and reliability against dense algebra and references."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import optimize, stats
from scipy.linalg import block_diag

import ranef
from ranef.derivatives.generalised import generalised_prediction_variance
from ranef.errors import LevelError, ModelError
from ranef.inference.coefficients.parameters import parameter_covariance
from ranef.inference.effects import combinations
from ranef.inference.kinds import inference_of
from ranef.inference.rows.parts import linear_parts
from ranef.models.rows import Rows
from ranef.questions.levels import ensemble, level_effects, ranks

REFERENCE = json.loads(
    (Path(__file__).parent / "reference" / "shrinkage_rank.json").read_text("utf-8")
)

MERTOOLS = "merTools 0.5.2"
LINEAR = {
    "slope": ("sleepstudy", "Reaction ~ Days + (Days | Subject)"),
    "diagonal": ("sleepstudy", "Reaction ~ Days + (Days || Subject)"),
    "crossed": ("Penicillin", "diameter ~ 1 + (1 | plate) + (1 | sample)"),
    "nested": ("Pastes", "strength ~ 1 + (1 | batch/cask)"),
}
GENERALISED = {
    "laplace": (
        "cbpp",
        "cbind(incidence, size - incidence) ~ period + (1 | herd)",
        {"family": "binomial"},
    ),
    "quadrature": ("ohio", "resp ~ age + (1 | id)", {"family": "binomial", "quadrature": 9}),
    "zero": (
        "Salamanders",
        "count ~ mined + (1 | site)",
        {"family": "nbinom2", "zero": "~ 1 + (1 | site)"},
    ),
    "ordinal": ("wine", "rating ~ temp + contact + (1 | judge)", {"family": "cumulative"}),
    "reml": (
        "cbpp",
        "cbind(incidence, size - incidence) ~ period + (1 | herd)",
        {"family": "binomial", "reml": True},
    ),
}


@pytest.fixture(scope="module")
def fits():
    store = {}

    def get(name):
        if name not in store:
            if name in LINEAR:
                table, formula = LINEAR[name]
                store[name] = ranef.lmm(formula, ranef.data.load(table))
            elif name == "uneven":
                store[name] = ranef.lmm("y ~ x + (1 | a) + (x | b)", uneven(), weights="w")
            else:
                table, formula, more = GENERALISED[name]
                with warnings.catch_warnings():
                    # true of the zero part: 1.70 by Laplace, 2.23 by 25 nodes
                    warnings.filterwarnings("ignore", "the Laplace approximation is poor")
                    store[name] = ranef.glmm(formula, ranef.data.load(table), **more)
        return store[name]

    return get


def uneven():
    """An unbalanced crossed table: levels of `a` with 2 to 12 rows, half of the cells empty."""
    rng = np.random.default_rng(11)
    a = np.repeat(np.arange(12), rng.integers(2, 13, 12))
    b = rng.integers(0, 7, len(a))
    x = rng.normal(size=len(a))
    y = 1 + x + rng.normal(0, 1.0, 12)[a] + rng.normal(0, 0.8, 7)[b] + rng.normal(size=len(a))
    y += rng.normal(0, 0.5, 7)[b] * x
    w = rng.uniform(0.5, 2.0, len(a))
    named = {"a": [f"a{i}" for i in a], "b": [f"b{i}" for i in b]}
    return pd.DataFrame({**named, "x": x, "y": y, "w": w})


# --- the joint posterior


def dense_posterior(estimate):
    """Covariance of (beta, all effects) from the mixed model equations, and its map."""
    spec = estimate.specification
    Z, priors = [], []
    for term, psi in zip(spec.terms, estimate.covariances, strict=True):
        of = spec.factors[term.factor]
        block = np.zeros((spec.n, of.n_levels * term.size))
        for k in range(term.size):
            block[np.arange(spec.n), of.codes * term.size + k] = term.z[:, k]
        Z.append(block)
        priors.append(np.kron(np.eye(of.n_levels), psi))
    w = np.ones(spec.n) if spec.weights is None else spec.weights
    W = np.hstack([spec.X, *Z])
    A = W.T @ (w[:, None] * W) / estimate.sigma**2
    A[spec.p :, spec.p :] += np.linalg.inv(block_diag(*priors))
    return np.linalg.inv(A)


def rows_of(estimate, what):
    """The combinations as rows over (beta, all effects)."""
    blocks = [what.X]
    for given, b in zip(what.random, estimate.modes, strict=True):
        block = np.zeros((len(what.X), b.size))
        if given is not None:
            codes, z = given
            for k in range(z.shape[1]):
                block[np.arange(len(z)), codes * z.shape[1] + k] = z[:, k]
        blocks.append(block)
    return np.hstack(blocks)


def questions(estimate):
    """Effects and coefficients of every factor in every part."""
    for part in estimate.components:
        for factor in range(len(estimate.factors)):
            effects = level_effects.FactorEffects(estimate, part, factor)
            for with_fixed in (False, True):
                if effects.names:
                    yield effects.coefficients(with_fixed=with_fixed)


@pytest.mark.parametrize("name", [*LINEAR, "uneven"])
def test_joint_covariance_is_that_of_the_mixed_model_equations(agree, fits, name):
    estimate = fits(name).estimate
    C, p = dense_posterior(estimate), estimate.specification.p
    given_beta = np.zeros_like(C)
    given_beta[p:, p:] = np.linalg.inv(np.linalg.inv(C)[p:, p:])
    asked = list(questions(estimate))
    assert len(asked) >= 2
    for what in asked:
        R = rows_of(estimate, what)
        for given, matrix in (("variance", C), ("parameters", given_beta)):
            expected = R @ matrix @ R.T
            found = inference_of(estimate).posterior(what, given)
            scale = np.abs(expected).max()
            np.testing.assert_allclose(found.covariance(), expected, atol=1e-10 * scale)
            np.testing.assert_allclose(found.variance, np.diag(expected), atol=1e-10 * scale)
            m = len(what.X) // len(np.unique(next(g for g in what.random if g)[0]))
            blocks = [expected[i : i + m, i : i + m] for i in range(0, len(expected), m)]
            np.testing.assert_allclose(found.covariances(m), blocks, atol=1e-10 * scale)
    if name != "uneven":
        return
    whole = np.abs(expected).max()
    agree("ranef.posterior", "joint covariance of all levels, unbalanced crossed factors",
          found.covariance(), expected, peer="mixed model equations",
          atol=1e-10 * whole)  # fmt: skip


@pytest.mark.parametrize("name", list(GENERALISED))
def test_generalised_covariances_are_of_the_curvature_at_the_mode(fits, name):
    estimate = fits(name).estimate
    for what in questions(estimate):
        found = inference_of(estimate).posterior(what)
        forms = generalised_prediction_variance(estimate, what.X, what.random)
        np.testing.assert_allclose(found.variance, forms, rtol=1e-9, atol=1e-12)
        if name == "ordinal":  # its thresholds enter by another road
            continue
        R = rows_of(estimate, what)
        expected = R @ np.linalg.inv(dense_precision(estimate)) @ R.T
        np.testing.assert_allclose(found.covariance(), expected, rtol=1e-6, atol=1e-9)


def dense_precision(estimate):
    """Negative second derivatives of log p(y, b | coefficients) in (coefficients, b), dense.

    By central differences of the compiled gradient of each row's log density, for models
    whose coefficients are all free.
    """
    design = estimate.design
    parts = Rows.of(estimate.parts, estimate.extra)
    linear = linear_parts(estimate, parts)
    P, n = len(estimate.coefficients), design.n
    sizes = [b.size for b in estimate.modes]
    starts = P + np.concatenate([[0], np.cumsum(sizes)[:-1]])
    maps = []
    for part in linear:
        J = np.zeros((n, P + sum(sizes)))
        J[:, part.columns] = part.X
        for term, codes, z in part.random:
            for k in range(z.shape[1]):
                J[np.arange(n), starts[term] + codes * z.shape[1] + k] += z[:, k]
        maps.append(J)
    etas, step = np.ascontiguousarray(estimate.predictors), 1e-5
    M = len(linear)

    def slopes(values):
        out = design.family.evaluate(design.y, design.extra, values, 1, list(range(M)))
        return out[1 : M + 1]

    A = np.zeros((P + sum(sizes),) * 2)
    w = np.ones(n) if design.weights is None else design.weights
    for m in range(M):
        up, down = etas.copy(), etas.copy()
        up[m] += step
        down[m] -= step
        second = (slopes(up) - slopes(down)) / (2 * step)
        for k in range(M):
            A -= maps[m].T @ ((w * second[k])[:, None] * maps[k])
    prior = [
        np.kron(np.eye(len(b)), np.linalg.inv(psi))
        for b, psi in zip(estimate.modes, estimate.covariances, strict=True)
    ]
    A[P:, P:] += block_diag(*prior)
    return A


@pytest.mark.parametrize("name", ["slope", "uneven", "laplace"])
def test_tidy_has_the_two_standard_deviations_of_the_posterior(fits, name):
    fit = fits(name)
    table = fit.tidy("random")
    for group in fit.n_groups:
        for given, column in (("parameters", "cond_sd"), ("variance", "std_error")):
            found = ranef.posterior(fit, group, given=given).tidy()
            joined = table[table["group"] == group].merge(
                found, on=["level", "term"], suffixes=("", "_joint")
            )
            assert len(joined) == len(found)
            np.testing.assert_allclose(joined[column], joined["std_error_joint"], rtol=1e-8)


@pytest.mark.parametrize("name", ["slope", "crossed", "nested", "laplace"])
def test_coefficients_by_level_and_their_matrices_agree(fits, name):
    fit = fits(name)
    for group in fit.n_groups:
        known = fit.coef_by_level(group).set_index(["level", "term"])["std_error"]
        long = fit.vcov_by_level(group)
        own = long[long["term"] == long["term2"]].set_index(["level", "term"])["covariance"]
        np.testing.assert_allclose(np.sqrt(own.loc[known.index]), known, rtol=1e-8)


STRUCTURED = {
    "cs": "y ~ t + cs(0 + f | g)",
    "homcs": "y ~ t + homcs(0 + f | g)",
    "ar1": "y ~ t + ar1(0 + f | g)",
    "toep": "y ~ t + toep(0 + f | g)",
    "diag": "y ~ t + diag(0 + f | g) + (1 | h)",
}


@pytest.mark.parametrize("name", list(STRUCTURED))
def test_every_structure_has_its_standard_deviations(name):
    rng = np.random.default_rng(17)
    g, t = np.repeat(np.arange(25), 8), np.tile(np.repeat(np.arange(4), 2), 25)
    root = np.linalg.cholesky(0.6 ** np.abs(np.subtract.outer(np.arange(4), np.arange(4))))
    h = rng.integers(0, 8, 200)
    y = 1 + 0.3 * t + (rng.normal(size=(25, 4)) @ root.T)[g, t] + rng.normal(size=8)[h]
    y += rng.normal(0, 0.6, 200)
    table = {"y": y, "t": t, "f": [f"t{k}" for k in t], "g": g, "h": h}
    fit = ranef.lmm(STRUCTURED[name], table)
    estimate, random = fit.estimate, fit.tidy("random").query("group == 'g'")
    C, p = dense_posterior(estimate), estimate.specification.p
    given_beta = np.linalg.inv(np.linalg.inv(C)[p:, p:])
    own = slice(0, 100)
    for column, matrix in (("std_error", C[p:, p:]), ("cond_sd", given_beta)):
        sd = np.sqrt(np.diag(matrix)[own]).reshape(25, 4).T.ravel()
        np.testing.assert_allclose(random[column], sd, rtol=1e-7)
    found = ranef.posterior(fit, "g").covariance().to_numpy()
    np.testing.assert_allclose(found, C[p:, p:][own, own], atol=1e-9 * np.abs(found).max())


def test_matrix_of_one_level_is_that_of_the_equations(fits):
    fit = fits("slope")
    C = dense_posterior(fit.estimate)
    R = np.zeros((2, len(C)))
    R[:, :2] = np.eye(2)
    R[:, 2 + 2 * 4 : 2 + 2 * 5] = np.eye(2)
    level = fit.estimate.specification.factors[0].levels[4]
    np.testing.assert_allclose(fit.vcov_by_level("Subject", level=level), R @ C @ R.T, rtol=1e-9)


def test_combinations_of_levels_that_do_not_belong_together(fits):
    """A cask with another batch: two ways up the chain, that meet in the fixed effects."""
    for name in ("nested", "uneven"):
        estimate = fits(name).estimate
        spec, rng = estimate.specification, np.random.default_rng(4)
        n = 30
        random = tuple(
            (
                rng.integers(0, spec.factors[t.factor].n_levels, n).astype(np.int32),
                rng.normal(size=(n, t.size)),
            )
            for t in spec.terms
        )
        what = combinations.Combinations(rng.normal(size=(n, spec.p)), random)
        R = rows_of(estimate, what)
        expected = R @ dense_posterior(estimate) @ R.T
        found = inference_of(estimate).posterior(what).covariance()
        np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-10 * np.abs(expected).max())


def test_a_crossed_generalised_model_and_three_nested_levels():
    rng = np.random.default_rng(21)
    a, b = np.repeat(np.arange(14), 25), rng.integers(0, 9, 350)
    y = rng.poisson(np.exp(0.3 + rng.normal(0, 0.5, 14)[a] + rng.normal(0, 0.5, 9)[b]))
    fit = ranef.glmm("y ~ 1 + (1 | a) + (1 | b)", {"y": y, "a": a, "b": b}, family="poisson")
    C = np.linalg.inv(dense_precision(fit.estimate))
    for what in questions(fit.estimate):
        R = rows_of(fit.estimate, what)
        found = inference_of(fit.estimate).posterior(what).covariance()
        np.testing.assert_allclose(found, R @ C @ R.T, rtol=1e-6, atol=1e-9)
    region = np.repeat(np.arange(5), 24)
    school = region * 4 + np.tile(np.repeat(np.arange(4), 6), 5)
    room = school * 3 + np.tile([0, 0, 1, 1, 2, 2], 20)
    effects = rng.normal(size=5)[region] + rng.normal(size=20)[school] + rng.normal(size=60)[room]
    table = {"y": effects + rng.normal(size=120), "region": region, "school": school, "room": room}
    nested = ranef.lmm("y ~ 1 + (1 | region) + (1 | school) + (1 | room)", table)
    C = dense_posterior(nested.estimate)
    for what in questions(nested.estimate):
        R = rows_of(nested.estimate, what)
        found = inference_of(nested.estimate).posterior(what).covariance()
        np.testing.assert_allclose(found, R @ C @ R.T, rtol=1e-8, atol=1e-10)


def test_draws_have_mean_and_covariance(fits):
    found = ranef.posterior(fits("uneven"), "a").found
    drawn = found.draws(40_000, np.random.default_rng(5))
    V = found.covariance()
    error = np.sqrt(np.diag(V) / len(drawn))
    assert np.abs((drawn.mean(axis=0) - found.mean) / error).max() < 5
    wide = np.sqrt((V**2 + np.outer(np.diag(V), np.diag(V))) / len(drawn))
    assert np.abs((np.cov(drawn.T) - V) / wide).max() < 5


def blups(spec, psis, sigma):
    """Effects of all terms from the mixed model equations at given variances."""
    Z, priors = [], []
    for term, psi in zip(spec.terms, psis, strict=True):
        of = spec.factors[term.factor]
        block = np.zeros((spec.n, of.n_levels * term.size))
        for k in range(term.size):
            block[np.arange(spec.n), of.codes * term.size + k] = term.z[:, k]
        Z.append(block)
        priors.append(np.kron(np.eye(of.n_levels), np.linalg.inv(psi)))
    W = np.hstack([spec.X, *Z])
    A = W.T @ W / sigma**2
    A[spec.p :, spec.p :] += block_diag(*priors)
    return np.linalg.solve(A, W.T @ spec.y / sigma**2)


def test_uncertainty_of_theta_moves_the_effects_of_a_linear_model(fits):
    estimate = fits("crossed").estimate
    spec, theta = estimate.specification, estimate.theta
    effects = level_effects.FactorEffects(estimate, estimate.components[0], 1)
    what = effects.coefficients(("(Intercept)",), with_fixed=True)

    def at(t):
        psis = [np.array([[(s * estimate.sigma) ** 2]]) for s in t]
        return rows_of(estimate, what) @ blups(spec, psis, estimate.sigma)

    J = np.column_stack([(at(theta + h) - at(theta - h)) / 2e-4 for h in 1e-4 * np.eye(len(theta))])
    S = parameter_covariance(estimate).covariance[:-1, :-1]
    given = inference_of(estimate).posterior(what).covariance()
    found = inference_of(estimate).posterior(what, "nothing").covariance()
    np.testing.assert_allclose(found, given + J @ S @ J.T, rtol=1e-5)
    assert np.all(np.diag(found) > np.diag(given))


def test_uncertainty_of_all_parameters_is_that_of_a_generalised_prediction(fits):
    fit = fits("laplace")
    rows = {"period": ["1"] * 15, "herd": [str(k) for k in range(1, 16)]}
    known = fit.predict(rows, type="link", conf_level=0.95)["std_error"]
    found = ranef.posterior(fit, scale="coefficient", given="nothing").tidy()
    order = found.set_index("level").loc[rows["herd"], "std_error"]
    np.testing.assert_allclose(order, known, rtol=1e-6)


def test_levels_that_are_asked_for_come_in_their_order(fits):
    fit = fits("slope")
    whole, few = ranef.posterior(fit), ranef.posterior(fit, levels=["370", "308"])
    names = [f"{s}: {t}" for s in ("370", "308") for t in ("(Intercept)", "Days")]
    assert few.covariance().columns.tolist() == names
    np.testing.assert_array_equal(few.covariance(), whole.covariance().loc[names, names])
    assert few.draws(3, rng=1).shape == (3, 2, 2)
    assert np.array_equal(few.draws(3, rng=1), few.draws(3, rng=1))
    assert "prediction" not in repr(few)
    assert "jointly" in repr(few)


# --- ranks


def test_expected_ranks_are_those_of_the_reference(agree, fits):
    """merTools::expectedRank 0.5.2; lme4 stops 1e-6 short of the optimum (0.00002 in a rank)."""
    table = ranef.rank(fits("slope"), statistic="Days", given="parameters").tidy()
    known = {r["groupLevel"]: r for r in REFERENCE["expectedRank_sleep_Days"]}
    rows = [known[str(level)] for level in table["level"]]
    agree("ranef.rank(statistic='Days')", "expected ranks of subjects, sleepstudy",
          table["expected_rank"], [r["ER"] for r in rows], peer=MERTOOLS, atol=5e-5)  # fmt: skip
    assert [round(p) for p in table["percentile"]] == [r["pctER"] for r in rows]


def test_expected_ranks_of_a_generalised_model_are_those_of_the_reference(agree, fits):
    """glmer at its default tolerances is 1e-3 from the optimum in the modes."""
    table = ranef.rank(fits("laplace"), given="parameters").tidy().set_index("level")
    known = REFERENCE["expectedRank_cbpp"]
    agree("ranef.rank", "expected ranks of herds, cbpp",
          table.loc[[r["groupLevel"] for r in known], "expected_rank"],
          [r["ER"] for r in known], peer=MERTOOLS, atol=3e-3)  # fmt: skip


def test_probability_of_the_top_is_that_of_200_000_draws(agree, fits):
    """Reference and ours are both Monte Carlo with 200,000 draws: 4 standard errors of 0.0008."""
    table = ranef.rank(fits("slope"), statistic="Days", top=3, n=200_000).tidy()
    known = {str(r["Subject"]): r for r in REFERENCE["mc_sleep_Days"]}
    assert known["308"]["P_top3"] == pytest.approx(0.933, abs=1e-3)
    p = np.array([known[str(level)]["P_top3"] for level in table["level"]])
    error = np.sqrt(2 * np.maximum(p * (1 - p), 1e-4) / 200_000)
    assert (np.abs(table["prob_top"] - p) < 4 * error).all()
    agree("ranef.rank(top=3)", "probability of the top three by draws, sleepstudy",
          table["prob_top"], p, peer="R 4.2.2, 200,000 draws", atol=4 * error.max())  # fmt: skip


def test_independent_levels_have_the_closed_form(agree, fits):
    fit = fits("laplace")
    found = ranef.rank(fit, given="parameters")
    b, sd = (fit.tidy("random")[c].to_numpy() for c in ("estimate", "cond_sd"))
    z = (b[:, None] - b) / np.sqrt(sd[:, None] ** 2 + sd**2)
    expected = 1 + stats.norm.cdf(z).sum(axis=1) - 0.5
    agree("ranef.rank(given='parameters')", "expected ranks of herds, cbpp",
          found.tidy()["expected_rank"], expected, peer="closed form", rtol=1e-8)  # fmt: skip
    pairs = found.pairwise().to_numpy()
    np.testing.assert_allclose(pairs + pairs.T, 1)
    np.testing.assert_allclose(pairs.sum(axis=1) + 0.5, expected, rtol=1e-8)


@pytest.mark.parametrize("group", ["a", "b"])
def test_ranks_in_an_unbalanced_crossed_design_by_monte_carlo(fits, group):
    """Everything from draws of the dense posterior, by code of its own."""
    fit = fits("uneven")
    estimate = fit.estimate
    C, spec = dense_posterior(estimate), estimate.specification
    factor = [f.name for f in spec.factors].index(group)
    start = spec.p + sum(
        estimate.modes[t].size for t in range(len(spec.terms)) if spec.terms[t].factor < factor
    )
    r, q = spec.terms[factor].size, spec.factors[factor].n_levels
    own = start + r * np.arange(q)
    mean = estimate.modes[factor][:, 0]
    n = 60_000
    drawn = np.random.default_rng(8).multivariate_normal(mean, C[np.ix_(own, own)], n)
    place = stats.rankdata(drawn, axis=1)
    table = ranef.rank(fit, group, statistic="(Intercept)", top=2, n=60_000, threshold=0.2).tidy()
    error = place.std(axis=0) / np.sqrt(n)
    assert np.abs((table["expected_rank"] - place.mean(axis=0)) / error).max() < 4.5
    for column, values in (
        ("prob_top", place > q - 2),
        ("prob_bottom", place <= 2),
        ("prob_above", drawn > 0.2),
    ):
        p = values.mean(axis=0)
        wide = np.sqrt(2 * np.maximum(p * (1 - p), 1e-4) / n)
        assert np.abs((table[column] - p) / wide).max() < 4.5, column
    limits = np.quantile(place, [0.025, 0.975], axis=0, method="inverted_cdf")
    assert np.abs(table["rank_low"] - limits[0]).max() <= 1
    assert np.abs(table["rank_high"] - limits[1]).max() <= 1
    pairs = ranef.rank(fit, group, statistic="(Intercept)").pairwise().to_numpy()
    for i in range(q):
        p = (drawn[:, i, None] > drawn).mean(axis=0)
        p[i] = 0.5
        assert np.abs(pairs[i] - p).max() < 4.5 * np.sqrt(0.25 / n)


def test_levels_are_not_independent_where_the_posterior_is_joint(fits):
    """Independent levels would give other ranks here: what merTools leaves out."""
    found = ranef.posterior(fits("crossed"), "sample").found
    V = found.covariance()
    assert V[0, 1] / V[0, 0] > 0.9
    joint = ranks.pairwise(found)
    alone = stats.norm.cdf((found.mean[:, None] - found.mean) / np.sqrt(2 * V[0, 0]))
    assert np.abs(joint - alone).max() > 0.2


def test_order_only_turns_the_ranks(fits):
    up = ranef.rank(fits("slope"), statistic="Days").tidy()
    down = ranef.rank(fits("slope"), statistic="Days", order="descending").tidy()
    np.testing.assert_allclose(down["expected_rank"], 19 - up["expected_rank"])
    assert (down["rank"] == 19 - up["rank"]).all()
    assert (down["rank_low"] == 19 - up["rank_high"]).all()
    for same in ("percentile", "prob_top", "prob_bottom", "estimate", "triple_goal"):
        np.testing.assert_allclose(down[same], up[same])
    league = ranef.rank(fits("slope"), statistic="Days", order="descending").tidy(sort=True)
    assert league["rank"].tolist() == list(range(1, 19))
    assert league["level"].iloc[0] == "308"


def test_a_function_that_is_a_coefficient_agrees_with_it(fits):
    fit = fits("slope")
    direct = ranef.rank(fit, statistic="Days", scale="coefficient", threshold=8, n=20_000)
    drawn = ranef.rank(fit, statistic=lambda c: c["Days"], threshold=8, n=20_000, rng=4)
    a, b = direct.tidy(), drawn.tidy()
    np.testing.assert_allclose(b["estimate"], a["estimate"])
    assert np.abs(a["expected_rank"] - b["expected_rank"]).max() < 0.12
    assert np.abs(a["prob_above"] - b["prob_above"]).max() < 0.02
    assert np.abs(a["triple_goal"] - b["triple_goal"]).max() < 0.35
    assert np.abs(a["constrained"] - b["constrained"]).max() < 0.2
    assert np.abs(direct.pairwise() - drawn.pairwise()).to_numpy().max() < 0.02


def test_a_ratio_of_coefficients(fits):
    def crossing(c):
        return (300 - c["(Intercept)"]) / c["Days"]

    found = ranef.rank(fits("slope"), statistic=crossing)
    assert found.statistic == "crossing"
    b = fits("slope").coef_by_level().pivot(index="level", columns="term", values="estimate")
    expected = (300 - b["(Intercept)"]) / b["Days"]
    own = found.tidy().set_index("level")["estimate"]
    np.testing.assert_allclose(own, expected.loc[own.index])


def test_scales_of_a_generalised_model(fits):
    fit = fits("laplace")
    effect = ranef.rank(fit, threshold=0.0).tidy()
    ratio = ranef.rank(fit, scale="ratio", threshold=1.0).tidy()
    for name in ("estimate", "conf_low", "conf_high", "triple_goal", "constrained"):
        np.testing.assert_allclose(ratio[name], np.exp(effect[name]))
    for name in ("expected_rank", "prob_above", "prob_top"):
        np.testing.assert_allclose(ratio[name], effect[name])
    at = {"period": "3"}
    response = ranef.rank(fit, scale="response", at=at, threshold=0.1).tidy()
    rows = {"period": ["3"] * 15, "herd": response["level"]}
    np.testing.assert_allclose(response["estimate"], fit.predict(rows), rtol=1e-9)
    average = ranef.rank(fit, scale="response").tidy()
    eta = fit.estimate.specification.X.mean(axis=0) @ fit.coef.to_numpy()
    expected = 1 / (1 + np.exp(-eta - effect["estimate"]))
    np.testing.assert_allclose(average["estimate"], expected)


def test_response_of_a_linear_model_with_slopes(fits):
    fit = fits("slope")
    at = pd.DataFrame({"Days": [5.0]})
    found = ranef.rank(fit, scale="response", at=at, given="nothing").tidy()
    rows = {"Days": [5.0] * 18, "Subject": found["level"]}
    known = fit.predict(rows, conf_level=0.95)
    np.testing.assert_allclose(found["estimate"], known["estimate"])
    error = (found["estimate"] - found["conf_low"]) / 1.959963984540054
    np.testing.assert_allclose(error, known["std_error"], rtol=1e-6)


def test_a_singular_fit_knows_no_order():
    fit = ranef.lmm("Yield ~ 1 + (1 | Batch)", ranef.data.load("Dyestuff2"))
    assert fit.optimum.singular
    table = ranef.rank(fit, threshold=0.0).tidy()
    np.testing.assert_allclose(table["expected_rank"], 3.5)
    np.testing.assert_allclose(table["prob_above"], 0.5)
    assert np.abs(table["prob_top"] - 1 / 6).max() < 0.03
    assert (table["rank_low"] == 1).all()
    assert (table["rank_high"] == 6).all()
    assert fit.reliability()["reliability"].isna().all()
    drawn = ranef.rank(fit, statistic=lambda c: c["(Intercept)"]).tidy()
    assert np.abs(drawn["prob_top"] - 1 / 6).max() < 0.03


def test_many_levels_are_ranked_by_draws_and_agree_with_the_exact_ones():
    rng = np.random.default_rng(2)
    g = np.repeat(np.arange(2500), 3)
    y = rng.normal(size=2500)[g] + rng.normal(size=len(g))
    fit = ranef.lmm("y ~ 1 + (1 | g)", {"y": y, "g": g})
    found = ranef.rank(fit, n=500)
    assert not found.found.exact
    known = found.known
    z = (known.mean[:50, None] - known.mean) / np.sqrt(known.variance[:50, None] + known.variance)
    expected = 0.5 + stats.norm.cdf(z).sum(axis=1)
    assert np.abs(found.found.expected[:50] - expected).max() < 150
    assert np.corrcoef(found.found.expected[:50], expected)[0, 1] > 0.999
    with pytest.raises(ModelError, match="n="):
        ranef.rank(fit, n=10_000_000)


def test_ranking_speaks_of_what_it_is_not(fits):
    text = repr(ranef.rank(fits("slope"), statistic="Days"))
    for words in (
        "do not test a level",
        "no causal statement",
        "Adjusted for: Days",
        "Rank 1 is the smallest",
    ):
        assert words in text, words
    crossed = repr(ranef.rank(fits("crossed"), "sample"))
    assert "the random effects of plate" in crossed
    assert "normal approximation at the mode" in repr(ranef.rank(fits("laplace")))
    assert "<table>" in ranef.rank(fits("crossed"), "sample")._repr_html_()


def test_polars_in_polars_out():
    pl = pytest.importorskip("polars")
    table = pl.from_pandas(ranef.data.load("sleepstudy"))
    fit = ranef.lmm("Reaction ~ Days + (Days | Subject)", table)
    for answer in (
        ranef.rank(fit, statistic="Days").tidy(),
        ranef.rank(fit, statistic="Days").pairwise(),
        ranef.posterior(fit).covariance(),
        ranef.posterior(fit).covariance_by_level(),
        fit.shrinkage(),
        fit.reliability(),
        fit.vcov_by_level(),
    ):
        assert isinstance(answer, pl.DataFrame)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda f: ranef.rank(f, "Subjekt"), "did you mean 'Subject'"),
        (lambda f: ranef.rank(f, statistic="Dayz"), "did you mean 'Days'"),
        (lambda f: ranef.rank(f, statistic="Days", scale="ratio"), "log, logit and cloglog"),
        (lambda f: ranef.rank(f, statistic="Days", scale="response"), "leave statistic out"),
        (lambda f: ranef.rank(f, scale="response", at={"Days": [1.0, 2.0]}), "one row"),
        (lambda f: ranef.rank(f, at={"Days": 1.0}), "scale='response'"),
        (lambda f: ranef.rank(f, top=19), "more than the 18 levels"),
        (lambda f: ranef.rank(f, threshold="high"), "threshold must be a number"),
        (lambda f: ranef.rank(f, order="down"), "order='down' is not known"),
        (lambda f: ranef.rank(f, given="theta"), "given='theta' is not known"),
        (lambda f: ranef.rank(f, component="zero"), "in the part 'zero'"),
        (lambda f: ranef.rank(f, statistic=lambda c: c["Days"][0]), r"shape \(18,\)"),
        (lambda f: ranef.rank(f, statistic=lambda c: c["Days"] * np.inf), "not finite"),
        (lambda f: ranef.rank(f, statistic=np.exp, scale="ratio"), "ranked as it is"),
        (lambda f: ranef.posterior(f, levels=["999"]), "has no level '999'"),
        (lambda f: ranef.posterior(f, terms=[]), "terms is empty"),
        (lambda f: ranef.rank("fit"), "takes a fit of ranef.lmm"),
    ],
)
def test_questions_that_cannot_be_answered_say_why(fits, call, message):
    with pytest.raises((ModelError, LevelError, ranef.errors.DataError), match=message):
        call(fits("slope"))


def test_a_factor_of_several_or_one_level_is_asked_for(fits):
    with pytest.raises(ModelError, match="say which group"):
        ranef.rank(fits("crossed"))
    with pytest.raises(ModelError, match="no one number"):
        ranef.rank(fits("ordinal"), scale="response")
    with pytest.raises(ModelError, match="zero part"):
        ranef.rank(fits("zero"), scale="response")


def test_parts_of_a_model_are_ranked_by_their_name(fits):
    found = ranef.rank(fits("zero"), component="zero").tidy()
    own = fits("zero").tidy("random").query("component == 'zero'")
    np.testing.assert_allclose(found["estimate"], own["estimate"])
    assert (found["component"] == "zero").all()


def test_categories_of_a_multinomial_response_are_chosen_by_name():
    rng = np.random.default_rng(12)
    g = np.repeat(np.arange(15), 20)
    logits = np.column_stack([np.zeros(len(g)), *(rng.normal(0, 0.8, 15)[g] for _ in range(2))])
    mode = np.array(["bus", "car", "train"])[(logits + rng.gumbel(size=logits.shape)).argmax(1)]
    fit = ranef.glmm("mode ~ 1 + (1 | g)", {"mode": mode, "g": g}, family="multinomial")
    found = ranef.rank(fit, response="train").tidy()
    own = fit.tidy("random").query("response == 'train'")
    np.testing.assert_allclose(found["estimate"], own["estimate"])
    np.testing.assert_allclose(
        ranef.posterior(fit, response="car").tidy()["std_error"],
        fit.tidy("random").query("response == 'car'")["std_error"],
    )
    with pytest.raises(ModelError, match="one of 'car', 'train'"):
        ranef.rank(fit)
    assert fit.shrinkage()["response"].tolist() == ["car"] * 15 + ["train"] * 15
    assert fit.reliability()["reliability"].between(0, 1).all()


def test_the_same_rng_gives_the_same_ranks(fits):
    a, b = (ranef.rank(fits("slope"), rng=5).tidy() for _ in range(2))
    assert a.equals(b)
    assert not a.equals(ranef.rank(fits("slope"), rng=6).tidy())


# --- ensembles


def test_triple_goal_estimates_have_the_distribution_that_is_expected(fits):
    found = ranef.posterior(fits("uneven"), "a").found
    values = np.sort(ensemble.mixture_quantiles(found.mean, found.sd))
    q = len(values)
    for j, t in enumerate(values):
        share = stats.norm.cdf((t - found.mean) / found.sd).mean()
        assert share == pytest.approx((2 * j + 1) / (2 * q), abs=1e-9)
    table = ranef.rank(fits("uneven"), "a").tidy()
    np.testing.assert_allclose(np.sort(table["triple_goal"]), values)
    assert (table["triple_goal"].rank() == table["rank"]).all()


def test_quantiles_by_interpolation_agree_with_those_by_bisection():
    rng = np.random.default_rng(1)
    mean, sd = rng.normal(size=700), rng.uniform(0.1, 1.0, 700)
    found = ensemble.mixture_quantiles(mean, sd)
    for j in (0, 10, 350, 699):
        share = stats.norm.cdf((found[j] - mean) / sd).mean()
        assert share == pytest.approx((2 * j + 1) / 1400, abs=2e-5)


def test_constrained_estimates_have_the_spread_that_is_expected(fits):
    found = ranef.posterior(fits("uneven"), "a").found
    drawn = found.draws(40_000, np.random.default_rng(4))
    expected = ((drawn - drawn.mean(axis=1, keepdims=True)) ** 2).sum(axis=1)
    own = ranef.rank(fits("uneven"), "a").tidy()["constrained"]
    spread = ((own - own.mean()) ** 2).sum()
    assert abs(spread - expected.mean()) < 4 * expected.std() / 200
    assert own.mean() == pytest.approx(found.mean.mean())
    assert spread > ((found.mean - found.mean.mean()) ** 2).sum()


# --- raw effects and reliability


def test_raw_estimates_are_least_squares_by_level(fits):
    table = fits("slope").shrinkage().pivot(index="level", columns="term", values="raw")
    sleep = ranef.data.load("sleepstudy")
    for level, rows in sleep.groupby("Subject", observed=True):
        slope, intercept = np.polyfit(rows["Days"], rows["Reaction"], 1)
        assert table.loc[level, "Days"] == pytest.approx(slope)
        assert table.loc[level, "(Intercept)"] == pytest.approx(intercept)
    assert fits("slope").shrinkage()["centre"].unique().tolist() == fits("slope").coef.tolist()


def test_raw_estimates_with_weights_hold_the_rest_of_the_model(fits):
    fit, table = fits("uneven"), uneven()
    found = fit.shrinkage("a", scale="effect").set_index("level")
    own = fit.tidy("random")
    b = own[own["group"] == "b"].pivot(index="level", columns="term", values="estimate")
    rest = table["y"] - fit.fitted("typical")
    rest -= table["b"].map(b["(Intercept)"]) + table["x"] * table["b"].map(b["x"])
    for level, rows in table.groupby("a"):
        w = rows["w"]
        assert found.loc[level, "raw"] == pytest.approx(np.average(rest[rows.index], weights=w))
        assert found.loc[level, "raw_std_error"] == pytest.approx(fit.sigma / np.sqrt(w.sum()))


def test_raw_rates_are_logs_of_observed_over_expected():
    rng = np.random.default_rng(3)
    g = np.repeat(np.arange(20), 5)
    days = rng.uniform(50, 500, len(g))
    y = rng.poisson(0.01 * days * np.exp(rng.normal(0, 0.5, 20))[g])
    y[g == 7] = 0
    fit = ranef.glmm("y ~ 1 + (1 | g) + offset(log(days))", {"y": y, "g": g, "days": days},
                     family="poisson")  # fmt: skip
    table = fit.shrinkage(scale="effect")
    expected = np.bincount(g, fit.fitted("typical"))
    with np.errstate(divide="ignore"):
        raw = np.log(np.bincount(g, y) / expected)
    there = np.arange(20) != 7
    np.testing.assert_allclose(table["raw"][there], raw[there], atol=1e-7)
    np.testing.assert_allclose(
        table["raw_std_error"][there], 1 / np.sqrt(np.bincount(g, y)[there]), rtol=1e-5
    )
    assert np.isnan(table["raw"][7])
    assert np.isfinite(table["estimate"]).all()


def test_raw_logistic_slopes_are_those_of_each_level_alone():
    rng = np.random.default_rng(6)
    g = np.repeat(np.arange(8), 40)
    x = rng.normal(size=len(g))
    eta = rng.normal(0, 0.7, 8)[g] + (0.5 + rng.normal(0, 0.5, 8)[g]) * x
    y = (rng.random(len(g)) < 1 / (1 + np.exp(-eta))).astype(float)
    y[g == 3] = (x[g == 3] > 0).astype(float)
    x[g == 5] = 1.0
    fit = ranef.glmm("y ~ x + (x | g)", {"y": y, "x": x, "g": g}, family="binomial")
    table = fit.shrinkage().pivot(index="level", columns="term", values="raw")
    for level in (0, 1, 2, 4, 6, 7):
        rows = g == level

        def minus(b, rows=rows):
            eta = b[0] + b[1] * x[rows]
            return np.sum(np.logaddexp(0, eta) - y[rows] * eta)

        best = optimize.minimize(minus, [0.0, 0.0], tol=1e-12).x
        np.testing.assert_allclose(table.loc[level, ["(Intercept)", "x"]], best, atol=1e-4)
    # separated: the slope runs off; constant covariate: not determined
    assert table.loc[[3, 5]].isna().all().all()


def test_reliability_of_a_random_intercept_is_the_textbooks(agree):
    fit = ranef.lmm("Yield ~ 1 + (1 | Batch)", ranef.data.load("Dyestuff"))
    tau2, sigma2 = float(fit.estimate.covariances[0][0, 0]), fit.sigma**2
    expected = 5 * tau2 / (5 * tau2 + sigma2)
    found = fit.reliability()["reliability"]
    agree("reliability()", "of batches, Dyestuff", found, np.full(6, expected),
          peer="n tau2 / (n tau2 + sigma2)", rtol=1e-7)  # fmt: skip
    # PEV of a balanced one-way layout: tau2 (1 - r) + r^2 var(mean of all)
    total = (tau2 + sigma2 / 5) / 6
    pev = tau2 * (1 - expected) + expected**2 * total
    found = fit.reliability(given="variance")["reliability"]
    agree("reliability(given='variance')", "of batches, Dyestuff", found,
          np.full(6, 1 - pev / tau2), peer="closed form", rtol=1e-7)  # fmt: skip
    with pytest.raises(ModelError, match="given='nothing'"):
        fit.reliability(given="nothing")


def test_reliability_of_vector_effects_is_by_coefficient(fits):
    fit = fits("slope")
    table = fit.reliability().set_index(["term", "level"])
    random = fit.tidy("random").set_index(["term", "level"])
    sds = fit.tidy("variance").query("parameter == 'sd'").set_index("term")["estimate"]
    for term in ("(Intercept)", "Days"):
        expected = 1 - random.loc[term, "cond_sd"] ** 2 / sds[term] ** 2
        np.testing.assert_allclose(table.loc[term, "reliability"], expected, rtol=1e-8)


def test_a_kernel_scales_the_prior_of_each_level():
    rng = np.random.default_rng(0)
    names = [f"i{k}" for k in range(10)]
    A = rng.normal(size=(10, 14))
    K = pd.DataFrame(A @ A.T / 14, index=names, columns=names)
    ids = np.repeat(names, 6)
    b = np.linalg.cholesky(K.to_numpy()) @ rng.normal(size=10)
    y = np.repeat(b, 6) + rng.normal(0, 0.5, 60)
    fit = ranef.lmm("y ~ 1 + kernel(1 | id, K)", {"y": y, "id": ids}, kernels={"K": K})
    term = fit.estimate.specification.terms[0]
    table = fit.reliability()
    tau2 = float(fit.estimate.covariances[0][0, 0]) * np.diag(term.kernel)
    np.testing.assert_allclose(table["tau"] ** 2, tau2)
    spec = fit.estimate.specification
    Z = np.zeros((60, 10))
    Z[np.arange(60), spec.factors[0].codes] = 1
    W = np.hstack([spec.X, Z])
    P = W.T @ W / fit.sigma**2
    P[1:, 1:] += np.linalg.inv(term.kernel * float(fit.estimate.covariances[0][0, 0]))
    found = ranef.posterior(fit)
    np.testing.assert_allclose(found.covariance(), np.linalg.inv(P)[1:, 1:], rtol=1e-6)


@pytest.mark.study
def test_intervals_of_effects_and_ranks_cover_in_an_unbalanced_crossed_design():
    """1,000 data sets: 12 x 7 crossed, half of the cells empty, variances estimated.

    At 95% the effects are covered 93.0% given the variance parameters and 93.7% with their
    uncertainty (docs/shrinkage.md states this shortfall; Monte Carlo error 0.3%); rank
    intervals, of whole ranks, 97.8%.
    """
    rng = np.random.default_rng(20)
    table = uneven()
    a, b = (np.unique(table[c], return_inverse=True)[1] for c in "ab")
    covered = {"effects": [], "nothing": [], "ranks": []}
    for _ in range(1000):
        effects = rng.normal(0, 1.0, 12)
        table["y"] = 1 + table["x"] + effects[a] + rng.normal(0, 0.8, 7)[b]
        table["y"] += rng.normal(size=len(a))
        fit = ranef.lmm("y ~ x + (1 | a) + (1 | b)", table)
        order = np.argsort(np.argsort(effects)) + 1
        names = np.unique(table["a"])
        for given in ("variance", "nothing"):
            own = ranef.posterior(fit, "a", given=given).tidy().set_index("level").loc[names]
            inside = (own["conf_low"] <= effects) & (effects <= own["conf_high"])
            covered["effects" if given == "variance" else given].append(inside.mean())
        ranking = ranef.rank(fit, "a", n=1000).tidy().set_index("level").loc[names]
        inside = (ranking["rank_low"] <= order) & (order <= ranking["rank_high"])
        covered["ranks"].append(inside.mean())
    share = {name: float(np.mean(values)) for name, values in covered.items()}
    assert share["effects"] == pytest.approx(0.930, abs=0.01)
    assert share["nothing"] == pytest.approx(0.937, abs=0.01)
    assert share["nothing"] > share["effects"]
    assert share["ranks"] > 0.95
