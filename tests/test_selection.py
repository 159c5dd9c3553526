"""Models compared by what they are for: criteria, held-out densities, refusals."""

from __future__ import annotations

import json
import warnings
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import ranef
from ranef.arguments import later_generator
from ranef.derivatives import linear, second_order
from ranef.errors import DataError, DataWarning, ModelError, UnknownColumnError
from ranef.questions.selection import left_out, penalty, rules, unseen
from ranef.questions.selection.conditional import (
    by_refits,
    conditional_linear,
    residual_parameters,
)
from ranef.questions.selection.pareto import pareto_smoothed

CAIC = json.loads((Path(__file__).parent / "reference" / "caic.json").read_text("utf-8"))

GROWTH = "distance ~ age * Sex + "
LINEAR = {
    "sleepstudy_slope": ("sleepstudy", "Reaction ~ Days + (Days | Subject)"),
    "sleepstudy_diagonal": ("sleepstudy", "Reaction ~ Days + (Days || Subject)"),
    "sleepstudy_intercept": ("sleepstudy", "Reaction ~ Days + (1 | Subject)"),
    "Dyestuff": ("Dyestuff", "Yield ~ 1 + (1 | Batch)"),
    "Orthodont_intercept": ("Orthodont", GROWTH + "(1 | Subject)"),
    "Orthodont_slope": ("Orthodont", GROWTH + "(age | Subject)"),
}
ANCHORS = [
    ("sleepstudy", "Reaction ~ Days + (Days | Subject)", 31.2535, 1711.5209),
    ("sleepstudy", "Reaction ~ Days + (Days || Subject)", 31.0241, 1710.3543),
    ("sleepstudy", "Reaction ~ Days + (1 | Subject)", 19.0228, 1767.1045),
    ("Penicillin", "diameter ~ 1 + (1 | plate) + (1 | sample)", 28.61047, 266.18557),
    ("ergoStool", "effort ~ Type + (1 | Subject)", 12.12615, 122.46262),
    ("Oats", "yield ~ Variety + factor(nitro) + (1 | Block/Variety)", 19.68375, 592.20883),
    ("Dyestuff", "Yield ~ 1 + (1 | Batch)", 6.34758, 327.04944),
    ("Pastes", "strength ~ 1 + (1 | batch/cask)", 30.13178, 178.21454),
    ("Orthodont", GROWTH + "(1 | Subject)", 27.07558, 405.38724),
    ("Orthodont", GROWTH + "(age | Subject)", 36.35546, 404.72101),
]


def epil() -> pd.DataFrame:
    return pd.DataFrame(CAIC["data"]["epil"])


def sleep() -> pd.DataFrame:
    return ranef.data.load("sleepstudy")


def herds(**arguments):
    formula = arguments.pop("formula", "cbind(incidence, size - incidence) ~ period + (1 | herd)")
    family = arguments.pop("family", "binomial")
    return ranef.glmm(formula, ranef.data.load("cbpp"), family=family, **arguments)


# --- conditional AIC of linear models


@pytest.mark.parametrize(("data", "formula", "df", "caic"), ANCHORS)
def test_known_values(data, formula, df, caic):
    table = ranef.compare(ranef.lmm(formula, ranef.data.load(data)), focus="individual").tidy()
    assert table["df"][0] == pytest.approx(df, abs=6e-5)
    assert table["caic"][0] == pytest.approx(caic, abs=6e-5)


@pytest.mark.parametrize("name", LINEAR)
@pytest.mark.parametrize("method", ["REML", "ML"])
def test_refits_of_lme4(name, method):
    data, formula = LINEAR[name]
    fit = ranef.lmm(formula, ranef.data.load(data), reml=method == "REML")
    found, known = conditional_linear(fit.estimate), CAIC[name][method]
    assert found.df == pytest.approx(known["df"], abs=1.5e-4)
    assert found.loglik == pytest.approx(known["loglik"], abs=1e-3)


@pytest.mark.parametrize("reml", [True, False])
@pytest.mark.parametrize(
    ("formula", "data", "weights"),
    [
        ("Reaction ~ Days + (Days | Subject)", "sleepstudy", None),
        ("diameter ~ 1 + (1 | plate) + (1 | sample)", "Penicillin", "w"),
        ("strength ~ 1 + (1 | batch / cask)", "Pastes", "w"),
        ("score ~ Machine + cs(0 + Machine | Worker) + (1 | w)", "Machines", None),
    ],
)
def test_products_of_moved_means_by_dense_matrices(formula, data, weights, reml):
    """w_i'P R P w_j and its kin, of matrices of order n."""
    table = ranef.data.load(data)
    draws = np.random.default_rng(3)
    w = draws.uniform(1e2, 1e4, len(table)) if weights else draws.integers(0, 5, len(table))
    fit = ranef.lmm(formula, table.assign(w=w), weights=weights, reml=reml)
    estimate = fit.estimate
    found = linear.moved_means(estimate, second_order.curvature(estimate).directions)
    spec, assembly = estimate.specification, linear.solved(estimate).assembly
    R = np.diag(1 / (np.ones(spec.n) if spec.weights is None else spec.weights))
    H, slopes = R.copy(), []
    psis = assembly.psis(estimate.theta)
    for term, psi, own in zip(spec.terms, psis, assembly.slopes(estimate.theta), strict=True):
        codes = spec.factors[term.factor].codes
        same = codes[:, None] == codes
        H += same * (term.z @ psi @ term.z.T)
        slopes += [same * (term.z @ D @ term.z.T) for D in own]
    inverse = np.linalg.inv(H)
    fixed = inverse @ spec.X
    P = inverse - fixed @ np.linalg.solve(spec.X.T @ fixed, fixed.T)
    Py = P @ spec.y
    moved = np.stack(
        [P @ V @ Py for V, free in zip(slopes, linear.free(estimate), strict=True) if free]
    )
    unit = linear.scale(estimate) ** 2
    np.testing.assert_allclose(found.products * unit, moved @ R @ moved.T, rtol=1e-8)
    np.testing.assert_allclose(found.own * unit, moved @ R @ Py, rtol=1e-8)
    assert found.square * unit == pytest.approx(Py @ R @ Py, rel=1e-10)
    # and the identity by which degrees of freedom of REML go without the scores
    assert conditional_linear(estimate).trace == pytest.approx(spec.n - np.trace(R @ P), rel=1e-9)


def structured(name: str, reml: bool):
    rng = np.random.default_rng(5)
    table = sleep().assign(w=rng.uniform(0.5, 2.0, 180))
    short = table[table["Subject"].isin(table["Subject"].unique()[:6])]
    machines = ranef.data.load("Machines")
    return {
        "weights": lambda: ranef.lmm(
            "Reaction ~ Days + (Days | Subject)", table, weights="w", reml=reml
        ),
        "ar1": lambda: ranef.lmm(
            "Reaction ~ Days + (1 | Subject)", short, residual="ar1(Days | Subject)", reml=reml
        ),
        "weighted ar1": lambda: ranef.lmm(
            "Reaction ~ Days + (1 | Subject)", short, residual="ar1(Days | Subject)", weights="w",
            reml=reml,
        ),
        "compound symmetry": lambda: ranef.lmm(
            "score ~ Machine + cs(0 + Machine | Worker)", machines, reml=reml
        ),
        "crossed": lambda: ranef.lmm(
            "diameter ~ 1 + (1 | plate) + (1 | sample)", ranef.data.load("Penicillin"), reml=reml
        ),
    }[name]()  # fmt: skip


@pytest.mark.parametrize(
    ("name", "reml"),
    [
        ("weights", True),
        ("weights", False),
        ("ar1", True),
        ("weighted ar1", False),
        ("compound symmetry", True),
        ("compound symmetry", False),
        ("crossed", True),
    ],
)
def test_derivative_against_refits(name, reml):
    fit = structured(name, reml)
    found = conditional_linear(fit.estimate)
    own = found.df - 1 - residual_parameters(fit.estimate)
    step = 0.1 if "ar1" in name else 0.02
    assert own == pytest.approx(by_refits(fit.estimate, step=step).sum(), abs=4e-3)


def test_kernel_against_refits():
    rng = np.random.default_rng(3)
    q = 14
    B = rng.normal(size=(q, 40))
    K = pd.DataFrame(B @ B.T / 40, index=[f"a{i}" for i in range(q)])
    K.columns = K.index
    level = np.repeat(np.arange(q), 3)
    u = np.linalg.cholesky(K.to_numpy()) @ rng.normal(size=q)
    table = pd.DataFrame({"id": K.index[level], "x": rng.normal(size=len(level))})
    table["y"] = 1 + table["x"] + u[level] + 0.5 * rng.normal(size=len(level))
    fit = ranef.lmm("y ~ x + kernel(1 | id, K)", table, kernels={"K": K})
    found = conditional_linear(fit.estimate)
    assert found.df - 1 == pytest.approx(by_refits(fit.estimate).sum(), abs=1e-3)
    assert found.trace == pytest.approx(ranef.leverage(fit).effective, abs=1e-8)


def faced(seed: int):
    rng = np.random.default_rng(seed)
    table = pd.DataFrame({"g": np.repeat(np.arange(12), 5), "x": np.tile(np.arange(5.0), 12)})
    u = np.repeat(rng.normal(size=12), 5)
    table["y"] = 1 + 0.5 * table["x"] + u * (1 + 0.5 * table["x"]) + 0.4 * rng.normal(size=60)
    return ranef.lmm("y ~ x + (x | g)", table)


def test_on_a_correlation_of_one():
    fit = next(f for f in map(faced, range(20)) if f.optimum.singular)
    assert fit.optimum.faces[0].rank == 1
    found = conditional_linear(fit.estimate)
    assert found.df - 1 == pytest.approx(by_refits(fit.estimate).sum(), abs=1e-3)
    smaller = conditional_linear(ranef.lmm("y ~ x + (1 | g)", fit.frame.rows_used()).estimate)
    assert abs(found.df - smaller.df) > 0.1  # the model's own, not a smaller model's


def test_a_variance_of_zero_with_one_covariate_has_three():
    rng = np.random.default_rng(2)
    for _ in range(20):
        table = pd.DataFrame({"g": np.repeat(np.arange(8), 6), "x": rng.normal(size=48)})
        table["y"] = table["x"] + rng.normal(size=48)
        fit = ranef.lmm("y ~ x + (1 | g)", table)
        if fit.optimum.singular:
            break
    assert fit.optimum.singular
    assert conditional_linear(fit.estimate).df == pytest.approx(3.0, abs=1e-10)


def test_unit_of_the_response_is_only_a_constant():
    table = sleep()
    one = ranef.lmm("Reaction ~ Days + (Days | Subject)", table)
    other = ranef.lmm(
        "Reaction ~ Days + (Days | Subject)", table.assign(Reaction=table["Reaction"] * 1e6)
    )
    a, b = conditional_linear(one.estimate), conditional_linear(other.estimate)
    assert b.df == pytest.approx(a.df, rel=1e-6)
    assert b.loglik == pytest.approx(a.loglik - 180 * np.log(1e6), rel=1e-8)


# --- of generalised ones


def test_poisson_against_glmer():
    fit = ranef.glmm("y ~ ly + trt + period + (1 | subject)", epil(), family="poisson")
    found = penalty.conditional_generalised(fit.estimate)
    # cAIC4's 49.71817 is that of glmer's default settings, 3e-4 short of the optimum
    assert found.method == "counts"
    assert found.df == pytest.approx(CAIC["epil"]["df"], abs=1e-3)
    assert found.loglik == pytest.approx(CAIC["epil"]["loglik"], abs=1e-3)
    assert found.caic == pytest.approx(1271.89466, abs=0.05)


def test_bernoulli_is_flips_of_the_responses():
    rng = np.random.default_rng(1)
    table = pd.DataFrame({"g": np.repeat(np.arange(10), 6), "x": rng.normal(size=60)})
    eta = table["x"] + np.repeat(rng.normal(size=10), 6)
    table["y"] = (rng.random(60) < 1 / (1 + np.exp(-eta))).astype(float)
    fit = ranef.glmm("y ~ x + (1 | g)", table, family="binomial")
    found = penalty.conditional_generalised(fit.estimate)
    y, mu = table["y"].to_numpy(), np.asarray(fit.fitted())
    total = 0.0
    for i in range(60):
        other = y.copy()
        other[i] = 1 - y[i]
        flipped = fit.refit(other).predict(kind="conditional", type="link")[i]
        own = fit.predict(kind="conditional", type="link")[i]
        total += mu[i] * (1 - mu[i]) * (own - flipped) * (1 if y[i] else -1)
    assert found.df == pytest.approx(total, rel=1e-4)


def test_grouped_binomial_is_the_sum_over_all_counts():
    fit = herds()
    e = fit.estimate
    rows = np.array([0, 11])
    found = penalty.row_penalties(e, rows)
    size, y = e.extra, e.specification.y
    p = np.asarray(fit.fitted())
    from scipy.stats import binom

    for i, value in zip(rows, found, strict=True):
        counts = np.arange(size[i] + 1)
        mass = binom.pmf(counts, size[i], p[i])
        etas = []
        for k in counts:
            other = y.copy()
            other[i] = k
            etas.append(fit.refit(other).predict(type="link")[int(i)])
        # the covariance of response and natural parameter
        etas = np.array(etas)
        own = np.sum(mass * (counts - size[i] * p[i]) * etas)
        # five counts stand for all: a quarter of a percent at most in these
        assert value == pytest.approx(own, rel=1e-2)


def test_steins_identity_by_enumeration():
    """Averaged over all responses of a small model the flips are the covariance itself."""
    p = np.array([0.3, 0.6, 0.5, 0.45, 0.7, 0.35])
    table = pd.DataFrame({"g": [0, 0, 0, 1, 1, 1], "x": [0.0, 1, 2, 0, 1, 2]})
    table["y"] = [0.0, 1, 0, 1, 0, 1]
    fit = ranef.glmm(
        "y ~ 1 + (1 | g)", table, family="binomial", fixed={"(Intercept)": 0.1, "sd: g": 0.8}
    )
    etas = {}
    for y in product((0.0, 1.0), repeat=6):
        etas[y] = np.asarray(fit.refit(np.array(y)).predict(type="link"))
    covariance = flips = 0.0
    for y, eta in etas.items():
        mass = np.prod(np.where(np.array(y) == 1, p, 1 - p))
        covariance += mass * np.sum((np.array(y) - p) * eta)
        for i in range(6):
            up, down = list(y), list(y)
            up[i], down[i] = 1.0, 0.0
            flips += mass * p[i] * (1 - p[i]) * (etas[tuple(up)][i] - etas[tuple(down)][i])
    assert flips == pytest.approx(covariance, rel=1e-10)


@pytest.mark.parametrize("family", ["nbinom2", "Gamma"])
def test_dispersed_families_sampled_and_whole(family):
    table = epil().assign(z=lambda d: d["y"] + 0.5)
    table = table[table["subject"] <= 24]
    link = {"link": "log"} if family == "Gamma" else {}
    fit = ranef.glmm("z ~ ly + (1 | subject)" if link else "y ~ ly + (1 | subject)", table,
                     family=family, **link)  # fmt: skip
    whole = penalty.conditional_generalised(fit.estimate, refits=True)
    closed = penalty.conditional_generalised(fit.estimate, refits=False)
    assert 3 < whole.df < 24 + 4
    assert closed.df == pytest.approx(whole.df, rel=0.2)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(penalty, "MOST_REFITS", 10)
        patch.setattr(penalty, "SAMPLED", 40)
        part = penalty.conditional_generalised(fit.estimate, draws=later_generator(1))
    assert part.method == "sampled refits"
    assert part.error > 0
    assert abs(part.df - whole.df) < 4 * part.error


def test_rules_integrate_polynomials():
    from scipy.stats import binom

    support = np.arange(31.0)
    mass = binom.pmf(support, 30, 0.2)
    rule = rules.gauss(support, mass)
    for power in range(10):
        assert rule.weights @ rule.points**power == pytest.approx(mass @ support**power, rel=1e-9)


def three_categories(seed=1, groups=16):
    rng = np.random.default_rng(seed)
    g = np.repeat(np.arange(groups), 5)
    x, u = rng.normal(size=len(g)), rng.normal(size=groups)
    y = np.digitize(0.8 * x + u[g] + rng.logistic(size=len(g)), [-0.6, 0.8])
    return pd.DataFrame({"g": g, "x": x, "y": np.array(list("abc"))[y], "b": (y > 0).astype(int)})


@pytest.mark.parametrize("family", ["cumulative", "multinomial"])
def test_two_categories_have_the_degrees_of_freedom_of_a_binary_response(family):
    table = three_categories().assign(two=lambda d: d.b.map({0: "no", 1: "yes"}))
    call = {"focus": "individual"}
    one = ranef.compare(ranef.glmm("b ~ x + (1 | g)", table, family="binomial"), **call).tidy()
    two = ranef.compare(ranef.glmm("two ~ x + (1 | g)", table, family=family), **call).tidy()
    np.testing.assert_allclose(two[["df", "caic"]], one[["df", "caic"]], rtol=1e-4)


@pytest.mark.filterwarnings("ignore:the Laplace approximation is poor")
@pytest.mark.parametrize("family", ["cumulative", "multinomial"])
def test_categories_are_refitted_to_each_other_one(family):
    """The covariance penalty of one row, written out with the predicted probabilities."""
    table = three_categories()
    fit = ranef.glmm("y ~ x + (1 | g)", table, family=family)
    found = penalty.row_penalties(fit.estimate, np.array([7, 30]))
    for i, value in zip((7, 30), found, strict=True):
        p = fit.predict(kind="conditional", type="prob").iloc[i].to_numpy()
        total = 0.0
        for k, category in enumerate("abc"):
            moved = table.assign(y=table.y.where(table.index != i, category))
            other = ranef.glmm("y ~ x + (1 | g)", moved, family=family)
            logs = np.log(other.predict(kind="conditional", type="prob").iloc[i].to_numpy())
            total += p[k] * (logs[k] - p @ logs)
        assert value == pytest.approx(total, rel=1e-4)


@pytest.mark.filterwarnings("ignore:the Laplace approximation is poor")
def test_conditional_criteria_of_categories(monkeypatch):
    table = three_categories()
    fits = {
        name: ranef.glmm(f"y ~ x + {name}", table, family="multinomial")
        for name in ("(1 | g)", "(x || g)")
    }
    found = ranef.compare(fits, focus="individual")
    shown = found.tidy()
    assert (shown.df > 4).all()
    assert shown.other_focus.notna().all()
    assert "other_focus" not in ranef.compare(fits, focus="population").tidy()
    monkeypatch.setattr(penalty, "MOST_REFITS", 10)
    monkeypatch.setattr(penalty, "SAMPLED", 60)
    sampled = ranef.compare(fits, focus="individual").tidy()
    gap = (sampled.df - shown.df) / sampled.df_error
    assert (abs(gap) < 3.5).all()
    nominal = ranef.glmm("y ~ 1 + (1 | g)", table, family="cumulative", nominal="~ x")
    assert "closed form" in str(ranef.compare(nominal, focus="individual"))
    assert nominal.leave_out("g").elpd < nominal.loglik


# --- the population


def test_criteria_of_the_population():
    table = sleep()
    fits = {
        "one": ranef.lmm("Reaction ~ Days + (1 | Subject)", table),
        "two": ranef.lmm("Reaction ~ Days + (Days | Subject)", table),
    }
    found = ranef.compare(fits, focus="population")
    tidy = found.tidy().set_index("model")
    assert tidy.loc["two", "loglik"] == pytest.approx(-875.969672, abs=1e-5)
    d, n, g = 6, 180, 18
    deviance = -2 * tidy.loc["two", "loglik"]
    assert tidy.loc["two", "aic"] == pytest.approx(deviance + 2 * d)
    assert tidy.loc["two", "aicc"] == pytest.approx(
        deviance + 2 * d + 2 * d * (d + 1) / (n - d - 1)
    )
    assert tidy.loc["two", "bic"] == pytest.approx(deviance + np.log(n) * d)
    assert tidy.loc["two", "bic_groups"] == pytest.approx(deviance + np.log(g) * d)
    # the slope has an effect of its own: sigma alone counts by rows
    assert tidy.loc["two", "bic_hybrid"] == pytest.approx(deviance + np.log(n) + np.log(g) * 5)
    assert tidy.loc["one", "bic_hybrid"] == pytest.approx(
        -2 * tidy.loc["one", "loglik"] + 2 * np.log(n) + 2 * np.log(g)
    )
    assert tidy["weight"].sum() == pytest.approx(1.0)
    # both questions side by side
    individual = ranef.compare(fits, focus="individual").tidy().set_index("model")
    assert np.allclose(tidy["other_focus"], individual["caic"])
    assert np.allclose(individual["other_focus"], tidy["aic"])
    # the right null: half of chi2(1), half of chi2(2)
    tests = found.tidy("tests")
    from scipy.stats import chi2

    x = tests["statistic"][0]
    assert tests["p_value"][0] == pytest.approx(0.5 * chi2.sf(x, 1) + 0.5 * chi2.sf(x, 2))
    assert tests["p_naive"][0] == pytest.approx(chi2.sf(x, 2))
    assert tests["p_value"][0] == ranef.anova(*fits.values()).tidy()["p_value"][1]
    assert "Refitted by ML" in str(found)
    assert found.best is fits["two"]


def test_the_choice_flips_and_is_said():
    growth = ranef.data.load("Orthodont")
    fits = [ranef.lmm(GROWTH + f"({x} | Subject)", growth) for x in ("1", "age")]
    population = ranef.compare(fits, focus="population")
    individual = ranef.compare(fits, focus="individual")
    assert population.best is fits[0]
    assert individual.best is fits[1]
    assert "Both are right" in str(population)
    assert "Both are right" in str(individual)


def test_bootstrap_of_the_ratio():
    table = ranef.data.load("Dyestuff2")
    one = ranef.lmm("Yield ~ 1 + (1 | Batch)", table)
    growth = ranef.data.load("Orthodont")
    fits = [ranef.lmm(GROWTH + f"({x} | Subject)", growth) for x in ("1", "age")]
    found = ranef.compare(fits, focus="population", bootstrap=100, rng=1).tidy("tests")
    assert found["p_bootstrap"][0] == pytest.approx(found["p_value"][0], abs=0.15)
    with pytest.raises(ModelError, match="bootstrap"):
        ranef.compare(one, focus="individual", bootstrap=10)


@pytest.mark.parametrize("reml", [True, False])
def test_the_ratio_of_one_variance_has_its_exact_distribution(reml):
    """That of `variance_test`, with fixed effects that go too by maximum likelihood alone."""
    table = ranef.data.load("Dyestuff2")
    none = ranef.lmm("Yield ~ 1", table, random="none", reml=reml)
    one = ranef.lmm("Yield ~ 1 + (1 | Batch)", table, reml=reml)
    found = ranef.compare([none, one], focus="population", refit=False)
    shown = found.tidy("tests")
    wanted = ranef.variance_test(one, method="exact").tidy()
    assert shown.p_value[0] == pytest.approx(wanted.p_value[0], abs=0.01)
    assert shown.distribution[0].startswith("exact")
    assert "Crainiceanu" in str(found)
    growth = ranef.data.load("Orthodont")
    small = ranef.lmm("distance ~ age + Sex + (1 | Subject)", growth)
    large = ranef.lmm("distance ~ age * Sex + (age || Subject)", growth)
    both = ranef.compare([small, large], focus="population", bootstrap=400, rng=2)
    test = both.tidy("tests")
    assert test.distribution[0].startswith("exact")
    assert "approximation" in str(both)
    p = test.p_bootstrap[0]
    assert abs(test.p_value[0] - p) < 4 * np.sqrt(p * (1 - p) / 400) + 0.005
    slopes = ranef.lmm("distance ~ age * Sex + (age | Subject)", growth)
    law = ranef.compare([small, slopes], focus="population").tidy("tests").distribution[0]
    assert "chi2" in law


def test_estimating_equations():
    ohio = ranef.data.load("ohio")
    fits = {
        name: ranef.gee("resp ~ age * smoke", ohio, groups="id", time="age", family="binomial",
                        correlation=name)
        for name in ("independence", "exchangeable", "ar1")
    }  # fmt: skip
    found = ranef.compare(fits, focus="population")
    assert found.criterion == "cic"
    tidy = found.tidy()
    assert "loglik" not in tidy
    assert "weight" not in tidy
    own = fits["exchangeable"].criteria()
    assert tidy["cic"][1] == pytest.approx(own["cic"][0])
    smaller = ranef.gee("resp ~ age", ohio, groups="id", time="age", family="binomial")
    means = ranef.compare(smaller, fits["exchangeable"], focus="population")
    assert means.criterion == "qicu"
    assert means.tidy()["qicu"][0] == pytest.approx(smaller.criteria(scale=1.0)["qicu"][0])
    with pytest.raises(ModelError, match="one mean"):
        ranef.compare(smaller, fits["ar1"], focus="population", criterion="cic")
    with pytest.raises(ModelError, match="has no likelihood"):
        ranef.compare(fits["ar1"], herds(), focus="population")
    with pytest.raises(ModelError, match="groups at hand"):
        ranef.compare(fits["ar1"], focus="individual")


def test_transformed_responses():
    table = sleep()
    plain = ranef.lmm("Reaction ~ Days + (1 | Subject)", table, reml=False)
    logs = ranef.lmm("log(Reaction) ~ Days + (1 | Subject)", table, reml=False)
    with pytest.raises(DataError, match="jacobian=True"):
        ranef.compare(plain, logs, focus="population")
    found = ranef.compare(plain, logs, focus="population", jacobian=True).tidy()
    assert found["loglik"][0] == pytest.approx(plain.loglik)
    assert found["loglik"][1] == pytest.approx(logs.loglik - np.log(table["Reaction"]).sum())
    other = ranef.lmm("log(Days + 1) ~ 1 + (1 | Subject)", table, reml=False)
    with pytest.raises(DataError, match="not transformations of the same"):
        ranef.compare(plain, other, focus="population", jacobian=True)


def test_refusals():
    table = sleep()
    one = ranef.lmm("Reaction ~ Days + (1 | Subject)", table)
    fewer = ranef.lmm("Reaction ~ 1 + (1 | Subject)", table)
    with pytest.raises(ModelError, match="say what the model is for"):
        ranef.compare(one, fewer)
    with pytest.raises(ModelError, match="different fixed effects"):
        ranef.compare(one, fewer, focus="population", refit=False)
    mixed = [one, ranef.lmm("Reaction ~ Days + (1 | Subject)", table, reml=False)]
    with pytest.raises(ModelError, match="refit=True"):
        ranef.compare(mixed, focus="individual", refit=False)
    with pytest.raises(DataError, match="different rows"):
        ranef.compare(one, ranef.lmm("Reaction ~ Days + (1 | Subject)", table[:170]),
                      focus="population")  # fmt: skip
    heavy = ranef.lmm("Reaction ~ 1 + (1 | Subject)", table, weights=np.arange(1.0, 181))
    with pytest.raises(DataError, match="different weights"):
        ranef.compare(one, heavy, focus="population")
    counts = epil()
    normal = ranef.lmm("y ~ ly + (1 | subject)", counts)
    poisson = ranef.glmm("y ~ ly + (1 | subject)", counts, family="poisson")
    with pytest.raises(ModelError, match="different constants"):
        ranef.compare(normal, poisson, focus="population")
    with pytest.raises(ModelError, match="different quadratures"):
        ranef.compare(herds(), herds(quadrature=9), focus="population")
    two = ranef.lmm("diameter ~ 1 + (1 | plate) + (1 | sample)", ranef.data.load("Penicillin"))
    with pytest.raises(ModelError, match="one grouping factor"):
        ranef.compare(two, focus="population", criterion="bic_groups")
    for bad in ([], {}, 3.0):
        with pytest.raises(ModelError):
            ranef.compare(bad, focus="population")
    with pytest.raises(ModelError, match="criterion"):
        ranef.compare(one, focus="individual", criterion="aic")


def test_restricted_likelihoods_of_one_mean():
    table = sleep()
    fits = [ranef.lmm(f"Reaction ~ Days + ({x} | Subject)", table) for x in ("1", "Days")]
    found = ranef.compare(fits, focus="population", refit=False)
    assert found.tidy()["loglik"][1] == pytest.approx(-871.814136, abs=1e-5)
    assert found.tidy("tests")["statistic"][0] == pytest.approx(42.8368, abs=1e-3)


def test_names_parts_and_picture():
    frogs = ranef.data.load("Salamanders")
    fits = {
        "plain": ranef.glmm("count ~ mined + (1 | site)", frogs, family="poisson"),
        "zeros": ranef.glmm("count ~ mined + (1 | site)", frogs, family="nbinom2", zero="~ mined"),
    }
    found = ranef.compare(fits, focus="population")
    text = str(found)
    assert "zeros: count ~ mined + (1 | site), nbinom2 (log), zero ~ mined" in text
    axes = found.plot()
    assert [t.get_text() for t in axes.get_yticklabels()] == ["plain", "zeros"]
    assert "plain:" in found.alt_text()
    assert "zeros" in found.to_markdown()


def test_averages_over_models():
    growth = ranef.data.load("Orthodont")
    fits = [ranef.lmm(GROWTH + f"({x} | Subject)", growth) for x in ("1", "age")]
    found = ranef.compare(fits, focus="individual")
    w = found.weights
    each = [fit.predict() for fit in fits]
    assert np.allclose(found.predict(), w[0] * each[0] + w[1] * each[1])
    table = found.predict(growth.head(3), conf_level=0.9)
    parts = [fit.predict(growth.head(3), conf_level=0.9) for fit in fits]
    mean = w[0] * parts[0]["estimate"] + w[1] * parts[1]["estimate"]
    spread = sum(
        wm * np.sqrt(p["std_error"] ** 2 + (p["estimate"] - mean) ** 2)
        for wm, p in zip(w, parts, strict=True)
    )
    assert np.allclose(table["std_error"], spread)
    effects = found.average("age")
    own = [fit.average("age").tidy()["estimate"] for fit in fits]
    assert np.allclose(effects["estimate"], w[0] * own[0] + w[1] * own[1])


def test_a_model_without_the_variable_has_no_effect_of_it():
    growth = ranef.data.load("Orthodont")
    fits = [ranef.lmm(f"distance ~ {x} + (1 | Subject)", growth) for x in ("age + Sex", "age")]
    found = ranef.compare(fits, focus="population")
    shown, own = found.average("Sex"), fits[0].average("Sex").tidy()
    w = found.weights
    assert shown["estimate"][0] == pytest.approx(w[0] * own["estimate"][0])
    spread = w[0] * np.hypot(own["std_error"][0], own["estimate"][0] - shown["estimate"][0])
    spread += w[1] * abs(shown["estimate"][0])
    assert shown["std_error"][0] == pytest.approx(spread)
    with pytest.raises(UnknownColumnError):
        found.average("sex")


# --- rows left out


def brute_force(fit, sets):
    """Log densities of sets given all others, by the dense covariance."""
    e = fit.estimate
    spec = e.specification
    V = np.diag(np.ones(spec.n) if spec.weights is None else 1 / spec.weights)
    for term, psi in zip(spec.terms, e.covariances, strict=True):
        codes = spec.factors[term.factor].codes
        same = codes[:, None] == codes
        V = V + np.where(same, term.z @ psi @ term.z.T / e.sigma**2, 0.0)
    out = []
    for g in range(sets.max() + 1):
        own, rest = np.flatnonzero(sets == g), np.flatnonzero(sets != g)
        W = np.linalg.inv(V[np.ix_(rest, rest)])
        X, y = spec.X[rest], spec.y[rest]
        C = np.linalg.inv(X.T @ W @ X)
        beta = C @ X.T @ W @ y
        A = V[np.ix_(own, rest)] @ W
        mean = spec.X[own] @ beta + A @ (y - X @ beta)
        D = spec.X[own] - A @ X
        S = V[np.ix_(own, own)] - A @ V[np.ix_(rest, own)] + D @ C @ D.T
        r = spec.y[own] - mean
        out.append(-0.5 * (len(own) * np.log(2 * np.pi * e.sigma**2) + np.linalg.slogdet(S)[1]
                           + r @ np.linalg.solve(S, r) / e.sigma**2))  # fmt: skip
    return np.array(out)


@pytest.mark.parametrize("by", ["plate", "sample", "rows"])
def test_left_out_crossed_against_dense(by):
    fit = ranef.lmm("diameter ~ 1 + (1 | plate) + (1 | sample)", ranef.data.load("Penicillin"))
    e = fit.estimate
    codes = {f.name: f.codes for f in e.factors} | {"rows": np.arange(144)}
    found = left_out.left_out(left_out.LinearModel.of(e), codes[by])
    assert np.allclose(left_out.log_densities(found, e.sigma), brute_force(fit, codes[by]))


def test_left_out_with_slopes_and_weights_against_dense():
    table = sleep().assign(w=np.random.default_rng(1).uniform(0.5, 2, 180))
    fit = ranef.lmm("Reaction ~ Days + (Days | Subject)", table, weights="w")
    e = fit.estimate
    for sets in (e.factors[0].codes, np.arange(180), np.arange(180) % 7):
        found = left_out.left_out(left_out.LinearModel.of(e), sets)
        assert np.allclose(left_out.log_densities(found, e.sigma), brute_force(fit, sets))


def test_leave_out_against_refits_and_its_optimism():
    fit = ranef.lmm("Reaction ~ Days + (Days | Subject)", sleep())
    closed, exact = fit.leave_out("Subject"), fit.leave_out("Subject", refit=True)
    gap = closed.elpd - exact.elpd
    assert gap > 0
    assert closed.optimism() == pytest.approx(gap, rel=0.4)
    assert exact.optimism() == 0
    assert closed.tidy().columns.tolist() == ["level", "elpd", "n", "rmse"]
    assert closed.std_error == pytest.approx(np.sqrt(18) * closed.tidy()["elpd"].std())
    # by hand, one subject
    table = sleep()
    other = ranef.lmm("Reaction ~ Days + (Days | Subject)", table[table["Subject"] != "308"])
    own = table[table["Subject"] == "308"]
    X = np.column_stack([np.ones(10), own["Days"]])
    Psi = other.estimate.covariances[0]
    V = X @ (Psi + other.vcov.to_numpy()) @ X.T + other.sigma**2 * np.eye(10)
    r = own["Reaction"].to_numpy() - X @ other.coef.to_numpy()
    density = -0.5 * (10 * np.log(2 * np.pi) + np.linalg.slogdet(V)[1] + r @ np.linalg.solve(V, r))
    assert exact.tidy().set_index("level").loc["308", "elpd"] == pytest.approx(density, abs=1e-5)


def test_leave_out_rows_and_residual_structure():
    fit = ranef.lmm("Reaction ~ Days + (1 | Subject)", sleep(), residual="ar1(Days | Subject)")
    rows = fit.leave_out()
    assert rows.focus == "individual"
    assert rows.elpd > fit.leave_out("Subject").elpd
    assert "optimistic" in str(rows)


def test_leave_out_generalised():
    fit = herds()
    closed, exact = fit.leave_out("herd"), fit.leave_out("herd", refit=True)
    assert closed.elpd == pytest.approx(exact.elpd + closed.optimism(), abs=0.3)
    assert np.allclose(closed.tidy()["elpd"], exact.tidy()["elpd"], atol=0.6)
    assert fit.leave_out().elpd < fit.loglik + 30


def test_importance_sampling_where_it_holds_and_where_not():
    fit = ranef.lmm("Reaction ~ Days + (Days | Subject)", sleep())
    with pytest.raises(ModelError, match=r"Pareto shape .* above 0\.7"):
        fit.leave_out("Subject", method="psis", n=1000)
    with pytest.raises(ModelError, match=r"of 180 rows: the Pareto shape"):
        fit.leave_out(method="psis", n=500)
    rng = np.random.default_rng(8)
    table = pd.DataFrame({"g": np.repeat(np.arange(80), 4), "x": rng.normal(size=320)})
    table["y"] = table["x"] + np.repeat(rng.normal(size=80), 4) + rng.normal(size=320)
    many = ranef.lmm("y ~ x + (1 | g)", table)
    found = many.leave_out("g", method="psis", n=1000)
    assert np.all(found.pareto_k < 0.7)
    assert found.elpd == pytest.approx(many.leave_out("g", refit=True).elpd, abs=0.5)
    rows = many.leave_out(method="psis", n=1000)
    assert np.all(rows.pareto_k < 0.7)
    exact = many.leave_out(refit=True)
    assert rows.elpd == pytest.approx(exact.elpd, abs=0.5)
    np.testing.assert_allclose(rows.scored.logs, exact.scored.logs, atol=0.15)
    pairs = many.leave_out(table.index.to_numpy() // 2, method="psis", n=1000)
    again = many.leave_out(table.index.to_numpy() // 2, refit=True)
    assert pairs.elpd == pytest.approx(again.elpd, abs=0.5)
    crossed = table.assign(h=np.arange(320) % 7)
    both = ranef.lmm("y ~ x + (1 | g) + (1 | h)", pd.concat([crossed, crossed]))
    with pytest.raises(ModelError, match="closed form"):
        both.leave_out(method="psis")


def test_random_effects_of_other_parts_are_left_out_too():
    rng = np.random.default_rng(6)
    table = pd.DataFrame({"g": np.repeat(np.arange(20), 12)})
    sigma = np.exp(np.repeat(rng.normal(size=20) * 0.6, 12))
    table["y"] = np.repeat(rng.normal(size=20), 12) + sigma * rng.normal(size=240)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DataWarning)  # of the Laplace approximation
        fit = ranef.glmm("y ~ 1 + (1 | g)", table, family="gaussian", dispersion="~ 1 + (1 | g)")
    exact = fit.leave_out("g", refit=True).elpd
    closed = fit.leave_out("g").elpd
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(unseen, "_others", lambda e, rows: e.predictors[:, rows].copy())
        flattered = fit.leave_out("g").elpd
    # the dispersions that rows gave themselves would make them far too likely
    assert abs(closed - exact) < 0.4 * (flattered - exact)


def test_fits_without_criteria_are_named():
    table = pd.DataFrame({"y": [0.1, 0.4, -0.2, 0.3], "v": [0.2, 0.1, 0.3, 0.2]})
    with pytest.raises(ModelError, match="meta-analysis"):
        ranef.compare(ranef.meta("y ~ 1", table, variance="v"), focus="population")


def test_pareto_shape_is_recovered():
    rng = np.random.default_rng(4)
    for k in (0.2, 0.9):
        weights = (rng.random(20_000) ** -k - 1) / k
        assert pareto_smoothed(np.log(weights))[1] == pytest.approx(k, abs=0.15)


def test_leave_out_refusals():
    table = sleep()
    fit = ranef.lmm("Reaction ~ Days + (1 | Subject)", table)
    with pytest.raises(ModelError, match="takes a fit"):
        ranef.leave_out(3)
    with pytest.raises(ModelError, match="one level"):
        fit.leave_out(np.zeros(180))
    half = ranef.lmm("Reaction ~ Days + Subject + (1 | Days)", table)
    with pytest.raises(ModelError, match="do not determine"):
        half.leave_out("Subject")
    with pytest.raises(ranef.errors.RanefError, match="Sbject"):
        fit.leave_out("Sbject")


# --- cross-validation


def test_cross_validation_by_groups_by_hand():
    table = sleep()
    fit = ranef.lmm("Reaction ~ Days + (1 | Subject)", table)
    found = ranef.cross_validate(fit, by="group", folds=18, score="all")
    exact = fit.leave_out("Subject", refit=True)
    assert found.focus == "population"
    tidy = found.tidy().set_index("score")
    assert tidy.loc["log", "estimate"] == pytest.approx(exact.elpd, abs=1e-4)
    assert tidy.loc["rmse", "estimate"] == pytest.approx(exact.rmse, rel=1e-6)
    assert tidy.loc["log", "std_error"] == pytest.approx(exact.std_error, rel=1e-4)


def test_rows_of_known_groups_are_easier():
    fit = ranef.lmm("Reaction ~ Days + (Days | Subject)", sleep())
    rows = fit.cross_validate("row", folds=5, score=["crps", "rmse"]).tidy()
    groups = fit.cross_validate("group", folds=5, score=["crps", "rmse"]).tidy()
    assert (rows["estimate"] < groups["estimate"]).all()


def test_the_future_is_predicted_from_the_past_alone():
    table = sleep()
    fit = ranef.lmm("Reaction ~ Days + (Days | Subject)", table)
    found = fit.cross_validate("future", time="Days", folds=2, score="rmse")
    assert found.focus == "individual"
    folds = found.folding.folds
    days = table["Days"].to_numpy()
    for fold in folds:
        ahead = np.concatenate(fold.sets)
        assert days[fold.keep].max() < days[ahead].min()
    # the last fold by hand
    cut = days[np.concatenate(folds[-1].sets)].min()
    past = ranef.lmm("Reaction ~ Days + (Days | Subject)", table[days < cut])
    gap = table[days >= cut]["Reaction"] - past.predict(table[days >= cut])
    units = found.tidy("units")
    last = units[units["unit"].str.endswith(f"{cut:g}")]
    assert np.sqrt(np.mean(gap**2)) == pytest.approx(np.sqrt(np.mean(last["rmse"] ** 2)), rel=1e-5)
    with pytest.raises(ModelError, match="order of the rows"):
        fit.cross_validate("future")


def test_normal_crps_against_integral():
    from scipy.integrate import quad
    from scipy.stats import norm

    from ranef.questions.selection.scores import linear_rows

    for y, mean, sd in ((0.3, 0.0, 1.0), (5.0, 2.0, 0.7)):
        value = linear_rows(np.array([y]), np.array([mean]), np.array([sd])).crps[0]
        below = quad(lambda t, m=mean, s=sd: norm.cdf(t, m, s) ** 2, mean - 9 * sd, y)[0]
        above = quad(lambda t, m=mean, s=sd: norm.sf(t, m, s) ** 2, y, y + 12 * sd)[0]
        assert value == pytest.approx(below + above, rel=1e-6)


def test_scores_of_events():
    fit = herds()
    found = fit.cross_validate("group", folds=5, score="all").tidy().set_index("score")
    assert set(found.index) == {"log", "crps", "brier", "rmse"}
    assert found.loc["rmse", "estimate"] == pytest.approx(found.loc["brier", "estimate"] ** 0.5)
    with pytest.raises(ModelError, match="Brier"):
        ranef.lmm("Reaction ~ Days + (1 | Subject)", sleep()).cross_validate(score="brier")


def test_integrated_density_of_a_group_against_quadrature():
    from scipy.integrate import quad
    from scipy.stats import binom, norm

    from ranef.questions.selection.integrated import Predicted, joint_log_density

    fit = herds()
    core = fit.estimate.design.family
    y, size = np.array([2.0, 0, 5]), np.array([10.0, 8, 12])
    eta, v = np.array([-1.0, -1.5, -0.5]), 0.8
    found = Predicted(np.arange(3), eta[None], np.full((3, 3), v))
    value = joint_log_density(core, y, size, None, found)

    def density(u):
        p = 1 / (1 + np.exp(-(eta + u)))
        return np.prod(binom.pmf(y, size, p)) * norm.pdf(u, 0, np.sqrt(v))

    assert value == pytest.approx(np.log(quad(density, -8, 8)[0]), abs=1e-8)
    wide = Predicted(np.arange(3), eta[None], np.full((3, 3), v) + 0.01 * np.eye(3))
    assert joint_log_density(core, y, size, None, wide) == pytest.approx(value, abs=0.03)


def test_compared_by_rows_and_groups_left_out():
    """Sums and differences of `leave_out`, with the standard error of the difference."""
    fits = [ranef.lmm(f"Reaction ~ Days + ({x} | Subject)", sleep()) for x in ("1", "Days")]
    for focus, by in (("population", "Subject"), ("individual", None)):
        found = ranef.compare(fits, focus=focus, criterion="loo")
        shown = found.tidy()
        each = [fit.leave_out(by) for fit in fits]
        np.testing.assert_allclose(shown.elpd, [one.elpd for one in each], rtol=1e-10)
        gap = each[0].scored.logs - each[1].scored.logs
        assert shown.difference[0] == pytest.approx(gap.sum(), rel=1e-8)
        assert shown.se_difference[0] == pytest.approx(np.sqrt(len(gap)) * gap.std(ddof=1))
        assert f"{each[1].optimism():.1f}" in str(found)
    with pytest.raises(ModelError, match="folds belong to"):
        ranef.compare(fits, focus="population", criterion="loo", folds=3)
    with pytest.raises(ModelError, match="jacobian belongs"):
        ranef.compare(fits, focus="population", criterion="loo", jacobian=True)
    with pytest.raises(ModelError, match="left out by rows"):
        ranef.compare(fits, focus="individual", criterion="loo", group="Subject")


def test_compared_by_cross_validation():
    growth = ranef.data.load("Orthodont")
    fits = [ranef.lmm(GROWTH + f"({x} | Subject)", growth) for x in ("1", "age")]
    found = ranef.compare(fits, focus="population", criterion="cv", folds=9, rng=2)
    own = [fit.cross_validate("group", folds=9, rng=2) for fit in fits]
    tidy = found.tidy()
    logs = [one.tidy("units")["log"] for one in own]
    assert tidy["elpd"].tolist() == pytest.approx([float(x.sum()) for x in logs])
    gap = logs[0] - logs[1]
    assert max(tidy["se_difference"]) == pytest.approx(np.sqrt(27) * gap.std(), rel=1e-9)
    assert "standard error" in str(found)
    again = ranef.compare(fits, focus="population", criterion="cv", folds=9, rng=2).tidy()
    assert again.equals(tidy)


def test_reasons_are_those_of_the_fits():
    """Why fits are fitted again or refused, and whose criterion was meant."""
    sleep_, growth = ranef.data.load("sleepstudy"), ranef.data.load("Orthodont")
    one = ranef.lmm("Reaction ~ Days + (1 | Subject)", sleep_)
    two = ranef.lmm("Reaction ~ Days + (Days | Subject)", sleep_)
    logged = ranef.lmm("log(Reaction) ~ Days + (Days | Subject)", sleep_)
    by_ml = ranef.lmm("Reaction ~ Days + (Days | Subject)", sleep_, reml=False)
    assert "their fixed effects are the same" in str(ranef.anova(one, two))
    population = ranef.compare({"one": one, "two": two}.values(), focus="population")
    assert "their fixed effects are the same" in str(population)
    assert "the others are by ML" in str(ranef.compare(one, by_ml, focus="population"))
    scaled = ranef.compare(two, logged, focus="population", jacobian=True)
    assert "different responses" in str(scaled)
    small = ranef.lmm("distance ~ age + (1 | Subject)", growth)
    large = ranef.lmm("distance ~ age * Sex + (1 | Subject)", growth)
    assert "of different fixed effects" in str(ranef.compare(small, large, focus="population"))
    # REML criteria of different data do not stand side by side
    held = ranef.compare(small, large, focus="individual", refit=False)
    assert held.other_focus is None
    assert "other_focus" not in held.tidy()
    assert "is left out" in str(held)
    with pytest.raises(ModelError, match="belongs to focus='population'"):
        ranef.compare(one, two, focus="individual", criterion="bic")
    with pytest.raises(ModelError, match="belongs to focus='individual'"):
        ranef.step("Reaction ~ Days + (1 | Subject)", sleep_, focus="population", criterion="caic")
    with pytest.raises(ModelError, match="folds must be a whole number"):
        ranef.compare(one, two, focus="population", criterion="cv", folds=2.5)
    events = sleep_.assign(late=(sleep_["Reaction"] > 300).astype(int))
    with pytest.raises(ModelError, match="a density"):
        ranef.compare(
            ranef.glmm("late ~ Days + (1 | Subject)", events, family="binomial"),
            ranef.lmm("late ~ Days + (1 | Subject)", events),
            focus="population",
        )
    marginal = ranef.gee("late ~ Days", events, groups="Subject", family="binomial")
    with pytest.raises(ModelError, match="equations have neither"):
        ranef.compare(marginal, focus="population", criterion="aic")


def test_the_other_focus_waits_until_it_is_looked_at(monkeypatch):
    from ranef.questions.selection import compare as room

    made = []
    honest = room.at_criterion

    def counted(estimate, reml):
        made.extend([reml] if estimate.reml != reml else [])
        return honest(estimate, reml)

    monkeypatch.setattr(room, "at_criterion", counted)
    fit = ranef.lmm("Reaction ~ Days + (Days | Subject)", ranef.data.load("sleepstudy"))
    found = ranef.compare(fit, focus="individual")
    assert found.values[0] == pytest.approx(1711.5209, abs=6e-5)
    assert not made
    assert found.tidy()["other_focus"][0] == pytest.approx(1763.9393, abs=1e-3)
    assert "AIC (other focus)" in str(found)
    assert made == [False]
