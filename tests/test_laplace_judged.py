"""Whether the Laplace approximation is poor is judged by the data, not by its own estimate.

Right values: adaptive quadrature with 25 nodes, exact to the digits compared.
"""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd
import pytest

import ranef
from ranef.derivatives import quadrature_step
from ranef.derivatives.quadrature_step import laplace_error, level_information
from ranef.errors import DataWarning


def inverse_logit(x):
    return 1 / (1 + np.exp(-x))


def binary(levels, rows, sd, seed=5):
    rng = np.random.default_rng(seed)
    g = np.repeat(np.arange(levels), rows)
    x = rng.normal(size=len(g))
    p = inverse_logit(0.5 * x + sd * rng.normal(size=levels)[g])
    return pd.DataFrame({"g": g, "x": x, "y": (rng.random(len(g)) < p).astype(int)})


def fitted(formula, data, **how):
    """A fit and what it warns of the approximation."""
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        fit = ranef.glmm(formula, data, **how)
    said = [str(w.message) for w in heard if issubclass(w.category, DataWarning)]
    return fit, " ".join(text for text in said if "Laplace" in text)


def sds(fit):
    return [float(np.sqrt(np.diag(psi).max())) for psi in fit.estimate.covariances]


FORMULA = "y ~ x + (1 | g)"


@pytest.mark.parametrize(("rows", "levels"), [(2, 3000), (3, 3000), (2, 300)])
def test_few_binary_rows_are_found_though_the_estimate_is_small(rows, levels):
    data = binary(levels, rows, 1.0)
    fit, words = fitted(FORMULA, data, family="binomial")
    exact = ranef.glmm(FORMULA, data, family="binomial", quadrature=25)
    assert sds(fit)[0] < 1 < 1.1 * sds(exact)[0] / sds(fit)[0]
    assert f"is {sds(fit)[0]:.2f}, where quadrature finds {sds(exact)[0]:.2f}" in words
    assert "quadrature=25 integrates exactly" in words
    page = ranef.check(fit, n=100, influence=False).tidy()
    row = page[page.iloc[:, 0].astype(str).str.contains("Laplace")].iloc[0]
    assert "fine" not in row.tolist()


def trials(levels, size):
    rng = np.random.default_rng(2)
    g = np.arange(levels)
    p = inverse_logit(rng.normal(size=levels))
    s = rng.binomial(size, p)
    return pd.DataFrame({"g": g, "s": s, "f": size - s})


def counts(levels, rows, mean):
    rng = np.random.default_rng(3)
    g = np.repeat(np.arange(levels), rows)
    return pd.DataFrame({"g": g, "y": rng.poisson(mean * np.exp(rng.normal(size=levels)[g]))})


HEALTHY = {
    "many binary rows": (FORMULA, lambda: binary(60, 30, 0.5), "binomial"),
    "ten binary rows": (FORMULA, lambda: binary(200, 10, 1.0), "binomial"),
    "trials": ("cbind(s, f) ~ 1 + (1 | g)", lambda: trials(200, 30), "binomial"),
    "small counts": ("y ~ 1 + (1 | g)", lambda: counts(1500, 2, 1.0), "poisson"),
    "a count a level": ("y ~ 1 + (1 | g)", lambda: counts(500, 1, 2.0), "poisson"),
    "herds": (
        "cbind(incidence, size - incidence) ~ period + (1 | herd)",
        lambda: ranef.data.load("cbpp"),
        "binomial",
    ),
    "judges": (
        "rating ~ temp + contact + (1 | judge)",
        lambda: ranef.data.load("wine"),
        "cumulative",
    ),
    "salamanders": (
        "count ~ mined + (1 | site)",
        lambda: ranef.data.load("Salamanders"),
        "nbinom2",
    ),
}


@pytest.mark.parametrize("name", HEALTHY)
def test_healthy_fits_say_nothing_and_are_right(name, agree):
    formula, data, family = HEALTHY[name]
    fit, words = fitted(formula, data(), family=family)
    exact = ranef.glmm(formula, data(), family=family, quadrature=15)
    assert words == ""
    agree("ranef.glmm", f"sd by Laplace where nothing is said, {name}", sds(fit)[0], sds(exact)[0],
          peer="quadrature with 15 nodes", rtol=0.1)  # fmt: skip


def test_levels_with_much_information_cost_no_quadrature(monkeypatch):
    fit, _ = fitted(FORMULA, binary(60, 30, 0.5), family="binomial")
    assert level_information(fit.estimate, 0) > quadrature_step.LITTLE

    def never(*args, **how):
        raise AssertionError("quadrature was asked")

    monkeypatch.setattr(quadrature_step, "fit_generalised", never)
    assert quadrature_step._error(fit.estimate) is None


def test_crossed_factors_are_judged_one_by_one():
    rng = np.random.default_rng(8)
    people, items = 2000, 40
    person = np.repeat(np.arange(people), 3)
    item = rng.integers(0, items, 3 * people)
    eta = rng.normal(size=people)[person] + 0.7 * rng.normal(size=items)[item]
    data = pd.DataFrame({"p": person, "i": item, "y": rng.random(3 * people) < inverse_logit(eta)})
    fit, words = fitted("y ~ 1 + (1 | p) + (1 | i)", data.astype({"y": int}), family="binomial")
    assert "levels of p have a median of 3 trials" in words
    assert "where quadrature finds about" in words
    assert "Interpret them with care" in words
    found = laplace_error(fit.estimate)
    assert found.sd < found.better < 1.1
    assert laplace_error(fit.estimate) is found  # asked once


def test_nested_factors_are_followed_to_the_end():
    rng = np.random.default_rng(5)
    g = np.repeat(np.arange(600), 3)
    h = g // 10
    eta = rng.normal(size=600)[g] + 0.5 * rng.normal(size=60)[h]
    data = pd.DataFrame({"g": g, "h": h, "y": (rng.random(1800) < inverse_logit(eta)) * 1})
    formula = "y ~ 1 + (1 | h/g)"
    fit, words = fitted(formula, data, family="binomial")
    exact = ranef.glmm(formula, data, family="binomial", quadrature=9)
    worst = max(range(2), key=lambda t: abs(np.log(sds(exact)[t] / sds(fit)[t])))
    assert f"where quadrature finds {sds(exact)[worst]:.2f}" in words


def test_many_rows_are_sampled():
    data = binary(25_000, 3, 1.0)
    fit, words = fitted(FORMULA, data, family="binomial")
    assert "where quadrature finds about" in words
    found = laplace_error(fit.estimate)
    assert not found.final
    exact = ranef.glmm(FORMULA, data, family="binomial", quadrature=15)
    assert found.sd < found.better < 1.02 * sds(exact)[0]


def test_the_levels_that_are_drawn_are_not_those_of_one_grade():
    """Every second teacher teaches grade 1; of every second alone, grades could not be told."""
    rng = np.random.default_rng(4)
    pupil, grade = np.repeat(np.arange(6500), 2), np.tile([0, 1], 6500)
    teacher = 2 * rng.integers(0, 2200, 13_000) + grade
    eta = rng.normal(size=6500)[pupil] + rng.normal(size=4400)[teacher] + 0.5 * grade
    data = pd.DataFrame({"p": pupil, "t": teacher, "x": 1.0 * grade,
                         "y": (rng.random(13_000) < inverse_logit(eta)).astype(int)})  # fmt: skip
    estimate = fitted("y ~ x + (1 | p) + (1 | t)", data, family="binomial")[0].estimate
    taught = next(f for f, factor in enumerate(estimate.factors) if factor.n_levels < 6000)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = quadrature_step._conditional(estimate, taught)
    assert found is not None
    assert found.better > found.sd


def test_a_fit_by_quadrature_or_of_another_kind_is_not_asked():
    data = binary(300, 2, 1.0)
    exact = ranef.glmm(FORMULA, data, family="binomial", quadrature=25)
    assert quadrature_step._error(exact.estimate) is None
    held, words = fitted(FORMULA, data, family="binomial", fixed={"(Intercept)": 0.0})
    assert words == ""
    assert laplace_error(held.estimate) is None
