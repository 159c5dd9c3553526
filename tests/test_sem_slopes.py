"""Random slopes of latent variables: the integral beside dense ones, its optimum beside closed
forms, and what can be asked of such fits."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import ranef
from ranef.errors import ModelError
from ranef.fields.structural.estimate import unit_scores
from ranef.fields.structural.grid import Posterior, fine_grid, posterior_of

MODEL = """
level: 1
  f =~ x1 + x2 + x3
  y ~ rv("s")*f
level: 2
  x1 ~~ x1
  x2 ~~ x2
  x3 ~~ x3
  s ~ w
  y ~ w
  y ~~ s
"""


def table(rng, units=40, spread=0.4, missing=0.0):
    unit = np.repeat(np.arange(units), np.resize([4, 8, 12], units))
    n, w = len(unit), rng.normal(size=units)
    s = 0.5 + 0.3 * w + spread * rng.normal(size=units)
    f = rng.normal(size=n)
    y = (0.6 * rng.normal(size=units) + 0.3 * (s - 0.5))[unit] + s[unit] * f
    columns = {"unit": unit, "w": w[unit], "y": y + 0.7 * rng.normal(size=n)}
    for k in range(3):
        own = f * (1.0, 0.8, 0.9)[k] + 0.5 * rng.normal(size=n)
        columns[f"x{k + 1}"] = own + 0.3 * rng.normal(size=units)[unit]
    for name in ("y", "x1", "x2"):
        columns[name] = np.where(rng.random(n) < missing, np.nan, columns[name])
    return pd.DataFrame(columns)


def dense_loglik(fit, data, nodes):
    """The log-likelihood by Gauss and Hermite's rule over each unit's slope and dense matrices."""
    group, theta = fit.estimate.model.main.groups[0], fit.estimate.theta
    A, S, m = group.rams[0].matrices(theta)
    two, within, between = group.rams[1].moments(theta), group.rams[0].names, group.rams[1].names
    names = ["x1", "x2", "x3", "y"]
    one, at = [within.index(n) for n in names], [between.index(n) for n in names]
    s, w = between.index("s"), between.index("w")
    z, weight = np.polynomial.hermite_e.hermegauss(nodes)
    weight = weight / np.sqrt(2 * np.pi)
    total = 0.0
    given = [*at, s]
    G = two.C[given, w] / two.C[w, w]
    spread = two.C[np.ix_(given, given)] - np.outer(G, two.C[given, w])
    for _, rows in data.groupby("unit"):
        mean = two.mu[given] + G * (rows.w.iloc[0] - two.mu[w])
        Y = rows[names].to_numpy()
        seen = ~np.isnan(Y.ravel())
        n = len(Y)
        logs = []
        for node in z:
            slope = mean[-1] + np.sqrt(spread[-1, -1]) * node
            R = spread[:-1, -1] / spread[-1, -1]
            B = spread[:-1, :-1] - np.outer(R, R) * spread[-1, -1]
            A[within.index("y"), within.index("f")] = slope
            T = np.linalg.inv(np.eye(len(A)) - A)
            W = (T @ S @ T.T)[np.ix_(one, one)]
            V = (np.kron(np.eye(n), W) + np.kron(np.ones((n, n)), B))[np.ix_(seen, seen)]
            gap = (Y - (T @ m)[one] - mean[:-1] - R * (slope - mean[-1])).ravel()[seen]
            _, log_det = np.linalg.slogdet(V)
            logs.append(
                -0.5 * (gap @ np.linalg.solve(V, gap) + log_det + len(gap) * np.log(2 * np.pi))
            )
        largest = max(logs)
        total += largest + np.log(weight @ np.exp(np.array(logs) - largest))
    return total


@pytest.fixture(scope="module")
def data():
    return table(np.random.default_rng(5))


@pytest.fixture(scope="module")
def fit(data):
    return ranef.sem(MODEL, data, cluster="unit", n_jobs=1)


def test_the_integral_is_that_of_101_nodes(fit, data, agree):
    assert fit.optimum.message == "optimum proved"
    dense = dense_loglik(fit, data, 101)
    agree("ranef.sem", "log-likelihood with a random slope of a latent variable", fit.loglik, dense,
          peer="101 nodes, dense matrices", atol=1e-5)  # fmt: skip
    assert abs(fit.optimum.quadrature_error) < 1e-5
    assert abs(fit.loglik + fit.optimum.quadrature_error - dense) < 1e-7


def test_missing_values_are_integrated_too():
    data = table(np.random.default_rng(6), 20, missing=0.15)
    fit = ranef.sem(MODEL, data, cluster="unit", missing="fiml", n_jobs=1)
    assert fit.optimum.converged
    assert abs(fit.loglik - dense_loglik(fit, data, 101)) < 1e-5


def test_gradient_is_that_of_differences(fit):
    rng = np.random.default_rng(2)
    problem, theta = fit.estimate.model.main, fit.estimate.theta
    here = theta * (1 + 0.03 * rng.normal(size=len(theta)))
    _, gradient = problem.value_gradient(here)
    for j in range(len(theta)):
        step = np.zeros(len(theta))
        step[j] = 1e-5 * max(1.0, abs(theta[j]))
        change = problem.value(here + step) - problem.value(here - step)
        assert abs(gradient[j] - change / (2 * step[j])) < 1e-5 * (1 + abs(gradient[j]))


def test_scores_of_units_sum_to_the_gradient(fit):
    problem, theta = fit.estimate.model.main, fit.estimate.theta * 1.02
    _, gradient = problem.value_gradient(theta)
    scores = unit_scores(fit.estimate.model, problem, theta)
    assert scores.shape == (40, len(theta))
    np.testing.assert_allclose(-2 * scores.sum(axis=0), gradient, rtol=1e-8, atol=1e-7)


def test_a_latent_variable_that_is_a_column_has_the_closed_forms_optimum(agree):
    data = table(np.random.default_rng(8), 60)
    text = 'level: 1\n{}\n y ~ rv("s")*{}\nlevel: 2\n s ~ w\n y ~ w\n y ~~ s\n'
    closed = ranef.sem(text.format("", "x1"), data, cluster="unit", n_jobs=1)
    single = " f =~ 1*c\n c ~~ 0*c\n f ~ 1\n c ~ 0*1"
    data["c"] = data["x1"]
    latent = ranef.sem(text.format(single, "f"), data, cluster="unit", n_jobs=1)
    n, variance = len(data), np.var(data["c"])
    margin = -n / 2 * (np.log(2 * np.pi * variance) + 1)
    agree("ranef.sem", "the same of one that is a column", latent.loglik - margin, closed.loglik,
          peer="closed form", atol=1e-6)  # fmt: skip
    shared = [n for n in closed.coef.index if n in latent.coef.index]
    assert len(shared) >= 8
    np.testing.assert_allclose(latent.coef[shared], closed.coef[shared], rtol=1e-4, atol=1e-5)
    errors = [np.sqrt(np.diag(f.vcov.loc[shared, shared])) for f in (latent, closed)]
    np.testing.assert_allclose(errors[0], errors[1], rtol=1e-3)
    own, other = latent.scores(2, se=True), closed.scores(2, se=True)
    np.testing.assert_allclose(own["s"], other["s"], atol=1e-4)
    np.testing.assert_allclose(own["s_se"], other["s_se"], rtol=1e-3)


def test_slopes_of_parts_within_beside_slopes_of_covariates():
    """A mediation whose paths vary: that of the covariate in closed form, that of m integrated."""
    rng = np.random.default_rng(11)
    unit = np.repeat(np.arange(60), 8)
    n = len(unit)
    a, b = rng.normal(size=(2, 60)) * 0.4 + 0.5
    x = rng.normal(size=n)
    m = a[unit] * x + rng.normal(size=n) + 0.5 * rng.normal(size=60)[unit]
    y = b[unit] * m + rng.normal(size=n) + 0.5 * rng.normal(size=60)[unit]
    text = """
        level: 1
          m ~ rv("a")*x
          y ~ rv("b")*m + x
        level: 2
          a ~~ b
          y ~ m
    """
    rows = {"unit": unit, "x": x, "m": m, "y": y}
    fit = ranef.sem(text, rows, cluster="unit", quadrature=9, n_jobs=1)
    assert fit.optimum.converged
    more = ranef.sem(text, rows, cluster="unit", quadrature=15, n_jobs=1)
    assert abs(fit.loglik + fit.optimum.quadrature_error - more.loglik) < 1e-4
    problem, theta = more.estimate.model.main, more.estimate.theta * 1.01
    _, gradient = problem.value_gradient(theta)
    for j in range(len(theta)):
        step = np.zeros(len(theta))
        step[j] = 1e-5
        change = problem.value(theta + step) - problem.value(theta - step)
        assert abs(gradient[j] - change / 2e-5) < 1e-4 * (1 + abs(gradient[j]))
    assert 0.3 < fit.coef["a~1.l2"] < 0.7
    assert 0.3 < fit.coef["b~1.l2"] < 0.7


def test_two_slopes_are_integrated_over_at_once():
    rng = np.random.default_rng(1)
    data = table(rng, 30)
    slope = 0.3 + 0.4 * rng.normal(size=30)
    data["q"] = slope[data.unit] * data.x1 + rng.normal(size=len(data))
    text = MODEL.replace("  y ~~ s\n", "  s ~~ r\n  q ~~ q\n")
    text = text.replace("level: 2", '  q ~ rv("r")*f\nlevel: 2')
    fit = ranef.sem(text, data, cluster="unit", quadrature=7, n_jobs=1)
    assert fit.optimum.converged
    problem, theta = fit.estimate.model.main, fit.estimate.theta
    value = problem.value(theta)
    for group in problem.groups:
        group.nodes = 15
    problem.adapt(theta)
    more = problem.value(theta)
    assert abs((more - value) / -2 - fit.optimum.quadrature_error) < 1e-5
    assert abs(more - value) < 1e-2
    theta = theta * 1.01
    _, gradient = problem.value_gradient(theta)
    for j in range(0, len(theta), 3):
        step = np.zeros(len(theta))
        step[j] = 1e-5
        change = problem.value(theta + step) - problem.value(theta - step)
        assert abs(gradient[j] - change / 2e-5) < 1e-4 * (1 + abs(gradient[j]))


def test_a_slope_that_does_not_vary_ends_at_zero():
    data = table(np.random.default_rng(3), 40, spread=0.0)
    data["y"] = 0.5 * data["x1"] + np.random.default_rng(4).normal(size=len(data))
    text = MODEL.replace("  y ~~ s\n", "").replace("  s ~ w\n", "  s ~ 1\n")
    fit = ranef.sem(text, data, cluster="unit", n_jobs=1)
    fixed = ranef.sem(
        text.replace('rv("s")*f', "f").replace("  s ~ 1\n", ""), data, cluster="unit", n_jobs=1
    )
    assert fit.optimum.converged
    assert fit.loglik >= fixed.loglik - 1e-6
    if fit.coef["s~~s.l2"] == 0.0:
        assert abs(fit.loglik - fixed.loglik) < 1e-6
        assert "at zero" in fit.optimum.message


def test_nodes_cover_a_normal_posterior():
    rng = np.random.default_rng(0)
    mean = rng.normal(size=(5, 2))
    spread = np.array([[[1.0, 0.6], [0.6, 0.5]]] * 5) * rng.uniform(0.2, 2.0, 5)[:, None, None]
    grid = fine_grid(Posterior(mean, spread), 15, lambda pairs: None)
    gap = grid.points[grid.node] - mean[grid.unit]
    inverse = np.linalg.inv(spread)[grid.unit]
    logs = -0.5 * np.einsum("ni,nij,nj->n", gap, inverse, gap)
    logs -= 0.5 * np.log(np.linalg.det(spread))[grid.unit] + np.log(2 * np.pi)
    weight = np.exp(logs + grid.volume)
    np.testing.assert_allclose(np.bincount(grid.unit, weight), 1.0, atol=1e-6)
    found = posterior_of(weight, grid)
    np.testing.assert_allclose(found.mean, mean, atol=1e-6)
    np.testing.assert_allclose(found.covariance, spread, atol=1e-5)


def test_what_can_be_asked_of_such_a_fit(fit, data, tmp_path):
    text = str(fit.summary())
    assert "15 adaptive nodes" in text
    assert np.isnan(fit.measures["chisq"])
    assert {"s", "s_se"} <= set(fit.scores(2, se=True).columns)
    level1 = fit.scores(1)
    assert np.corrcoef(level1["f"], data["x1"])[0, 1] > 0.8
    drawn = fit.simulate(rng=1)
    assert len(drawn) == len(data)
    fit.save(tmp_path / "slopes.ranef")
    again = ranef.load(tmp_path / "slopes.ranef")
    assert again.loglik == fit.loglik
    assert again.optimum.quadrature_error == fit.optimum.quadrature_error
    np.testing.assert_allclose(again.scores(2)["s"], fit.scores(2)["s"], atol=1e-7)
    robust = ranef.sem(MODEL, data, cluster="unit", estimator="MLR", n_jobs=1)
    assert robust.loglik == pytest.approx(fit.loglik, abs=1e-8)
    assert np.isfinite(robust.vcov).all().all()
    assert (
        "quadrature=9"
        in ranef.sem(MODEL, data, cluster="unit", quadrature=9, n_jobs=1).description.call()
    )


def test_draws_have_the_models_slopes(fit):
    """The regression of y on f within units of a large draw is the slope that was drawn."""
    drawn = fit.simulate(n=20, rng=3)
    means = drawn.groupby(["draw", "unit"])[["y", "x1"]].transform("mean")
    within = drawn[["y", "x1"]] - means
    slope = (within.y * within.x1).sum() / (within.x1**2).sum()
    C = fit.coef
    reliability = C["f~~f"] / (C["f~~f"] + C["x1~~x1"])
    assert abs(slope / reliability - (C["s~1.l2"] + C["s~w.l2"] * drawn.w.mean())) < 0.1


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ({"quadrature": 2}, "between 3 and"),
        ({"quadrature": 10_000}, "between 3 and"),
        ({"quadrature": "many"}, "quadrature"),
    ],
)
def test_wrong_numbers_of_nodes_are_refused(data, how, words):
    with pytest.raises(ModelError, match=words):
        ranef.sem(MODEL, data, cluster="unit", **how)


def test_slopes_of_latent_variables_are_of_two_levels(data):
    data = data.assign(top=data["unit"] % 8)
    text = MODEL + "level: 3\n  y ~~ y\n"
    with pytest.raises(ModelError, match="models of 3 levels"):
        ranef.sem(text, data, cluster=["unit", "top"])


def test_more_slopes_of_latent_variables_than_are_integrated_over_are_refused(data):
    data = data.assign(
        **{f"v{k}": data["y"] * 0 + np.arange(len(data)) % (k + 2) for k in range(4)}
    )
    latent = "".join(
        f'  l{k} =~ 1*v{k}\n  v{k} ~~ 0*v{k}\n  y ~ rv("s{k}")*l{k}\n' for k in range(4)
    )
    text = (
        "level: 1\n"
        + latent
        + "level: 2\n  y ~~ y\n"
        + "".join(f"  s{k} ~~ s{k}\n" for k in range(4))
    )
    with pytest.raises(ModelError, match="at most 3 are integrated over"):
        ranef.sem(text, data, cluster="unit")
