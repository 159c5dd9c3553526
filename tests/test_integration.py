"""Integrals over normal random effects: the rule adapts to very wide distributions.

A step of width one in a density of width s is a step at zero: for |eta| and s large the mean
tends to Phi(eta / s), with an error of the order of (width / s)^2. Beside it stands a
brute-force sum over a grid of the predictor, fine where the function changes.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy.special import ndtr

import ranef
from ranef.errors import ModelError
from ranef.inference.rows import integration
from ranef.inference.rows.targets import through

LINKS = ("logit", "cloglog", "cauchit")


def expected(link: str, eta: float, s: float, rule=integration.expectation):
    return rule(through(link, 0, 1), np.array([[eta]]), np.array([[s**2]]))


@pytest.mark.parametrize("link", LINKS)
@pytest.mark.parametrize(("eta", "s"), [(0.0, 31.0), (60.0, 40.0), (-90.0, 35.0)])
def test_panels_agree_with_the_trapezoidal_rule(link, eta, s):
    one = expected(link, eta, s)
    factor = through(link, 0, 1)
    other = integration._trapezoidal(factor, [0], np.array([[eta]]), np.array([[s]]))
    for a, b in ((one.value, other.value), (one.by_mean, other.by_mean)):
        np.testing.assert_allclose(a, b, rtol=1e-9)
    np.testing.assert_allclose(one.by_variance, other.by_variance, rtol=1e-7, atol=1e-12)


@pytest.mark.parametrize("link", ["logit", "cloglog"])
@pytest.mark.parametrize("s", [1e4, 1e7, 1e12, 1e18])
@pytest.mark.parametrize("ratio", [-3.0, 0.0, 0.7])
def test_a_step_in_a_wide_density(link, s, ratio):
    found = expected(link, ratio * s, s)
    density = np.exp(-0.5 * ratio**2) / np.sqrt(2 * np.pi)
    rtol = 3.0 / s + 1e-12
    assert found.value[0, 0] == pytest.approx(ndtr(ratio), rel=10 * rtol, abs=1e-13)
    assert found.by_mean[0, 0, 0] == pytest.approx(density / s, rel=10 * rtol)
    assert found.by_variance[0, 0, 0] == pytest.approx(
        -ratio * density / (2 * s**2), rel=10 * rtol, abs=density / s**3
    )


def test_derivatives_are_those_of_the_value():
    def value(eta, variance):
        factor = through("logit", 0, 1)
        return integration.expectation(factor, np.array([[eta]]), np.array([[variance]])).value[
            0, 0
        ]

    found = expected("logit", 25.0, 50.0)
    by_mean = (value(25.01, 2500.0) - value(24.99, 2500.0)) / 0.02
    by_variance = (value(25.0, 2501.0) - value(25.0, 2499.0)) / 2
    assert found.by_mean[0, 0, 0] == pytest.approx(by_mean, rel=1e-6)
    assert found.by_variance[0, 0, 0] == pytest.approx(by_variance, rel=1e-5)


def test_pieces_of_a_grid_sum_to_the_whole(monkeypatch):
    whole = expected("logit", 0.3, 5.0)
    monkeypatch.setattr(integration, "CHUNK", 17)
    np.testing.assert_allclose(expected("logit", 0.3, 5.0).value, whole.value, rtol=1e-13)


@pytest.fixture(scope="module")
def slopes():
    """Binary and three-category responses with random slopes."""
    rng = np.random.default_rng(0)
    g = rng.integers(0, 20, 400)
    table = pd.DataFrame({"x": rng.normal(size=400), "g": g})
    b, s = rng.normal(size=20), 0.5 * rng.normal(size=20)
    eta = table["x"] * (1 + s[g]) + b[g]
    table["y"] = (rng.random(400) < 1 / (1 + np.exp(-eta))).astype(int)
    table["grade"] = pd.Categorical(np.digitize(eta + rng.logistic(size=400), [-1, 1]))
    return table


@pytest.mark.parametrize("family", ["binomial", "cumulative"])
def test_far_rows_tend_to_the_share_of_levels_whose_slope_is_positive(slopes, family):
    response = {"binomial": "y", "cumulative": "grade"}[family]
    table = slopes.assign(grade=slopes["grade"].cat.as_ordered())
    fit = ranef.glmm(f"{response} ~ x + (x | g)", table, family=family)
    slope = fit.coef["x"] / np.sqrt(fit.estimate.covariances[0][1, 1])
    near = fit.predict(pd.DataFrame({"x": [1.0], "g": [0]}), kind="population", type="response")
    for x in (1e5, 1e9):
        new = pd.DataFrame({"x": [x, 1.0], "g": [0, 0]})
        found = np.asarray(fit.predict(new, kind="population", type="response")).reshape(2, -1)
        assert found[0, -1] == pytest.approx(ndtr(slope), abs=1e-4)
        np.testing.assert_allclose(found[1], np.asarray(near).ravel(), rtol=1e-12)


def test_a_grid_that_would_not_end_is_refused_in_words(slopes):
    fit = ranef.glmm("grade ~ x + (x | g)", slopes, family="multinomial")
    with pytest.raises(ModelError, match=r"far outside the data.*kind='typical'"):
        fit.predict(pd.DataFrame({"x": [1e7], "g": [0]}), kind="population")
