"""Harsh inputs of generalised models: the right answer, or an error that says what to do."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import ranef
from ranef.errors import ConvergenceWarning, DataError, ModelError

FORMULA = "c ~ x + (1 | g)"


@pytest.fixture
def table() -> pd.DataFrame:
    rng = np.random.default_rng(5)
    g = np.repeat(np.arange(12), 10)
    x = rng.normal(size=120)
    counts = rng.poisson(np.exp(0.5 + 0.4 * x + rng.normal(0, 0.5, 12)[g]))
    return pd.DataFrame({"g": g, "x": x, "c": counts})


@pytest.mark.parametrize("kind", ["poisson", "nbinom2", "genpois", "compois"])
def test_counts_of_zero_alone_run_off(table, kind):
    with pytest.warns(ConvergenceWarning, match=r"\(Intercept\) towards minus infinity"):
        fit = ranef.glmm(FORMULA, table.assign(c=0), family=kind)
    assert not fit.optimum.converged


def test_successes_alone_run_off(table):
    with pytest.warns(ConvergenceWarning, match=r"\(Intercept\) towards plus infinity"):
        ranef.glmm(FORMULA, table.assign(c=1), family="binomial")


def test_separation_is_named(table):
    side = (table["x"] > 0).astype(float)
    with pytest.warns(ConvergenceWarning, match="s towards plus infinity"):
        ranef.glmm("c ~ s + (1 | g)", table.assign(c=side, s=side), family="binomial")


def test_no_overdispersion_is_no_separation(table):
    with pytest.warns(ConvergenceWarning, match="negative binomial is the Poisson"):
        fit = ranef.glmm("c ~ x + (x | g)", table, family="nbinom2")
    poisson = ranef.glmm("c ~ x + (x | g)", table, family="poisson")
    assert fit.loglik == pytest.approx(poisson.loglik, abs=1e-5)


@pytest.mark.parametrize("offset", [30.0, -30.0])
def test_an_offset_moves_the_intercept_alone(table, offset):
    plain = ranef.glmm(FORMULA, table, family="poisson")
    fit = ranef.glmm(FORMULA, table.assign(o=offset), family="poisson", offset="o")
    assert fit.loglik == pytest.approx(plain.loglik, abs=1e-8)
    assert fit.coef["(Intercept)"] == pytest.approx(plain.coef["(Intercept)"] - offset, abs=1e-6)


@pytest.mark.parametrize("weight", [np.nan, 0.0])
def test_rows_without_weight_are_left_out(table, weight):
    w = np.ones(120)
    w[3] = weight
    fit = ranef.glmm(FORMULA, table.assign(w=w), family="poisson", weights="w")
    rest = ranef.glmm(FORMULA, table.drop(index=3), family="poisson")
    assert fit.n_obs == 119
    assert fit.loglik == pytest.approx(rest.loglik, abs=1e-9)


@pytest.mark.parametrize("factor", [1e6, 1e-6])
def test_the_unit_of_a_covariate_does_not_matter(table, factor):
    plain = ranef.glmm("c ~ x + (x | g)", table, family="poisson")
    fit = ranef.glmm("c ~ x + (x | g)", table.assign(x=table.x * factor), family="poisson")
    assert fit.loglik == pytest.approx(plain.loglik, abs=1e-8)
    assert fit.coef["x"] * factor == pytest.approx(plain.coef["x"], rel=1e-6)


@pytest.mark.parametrize(
    ("change", "kind", "error", "words"),
    [
        ({"g": "a"}, "poisson", ModelError, "has one level"),
        ({"c": -1}, "poisson", DataError, "whole numbers from 0"),
        ({"c": 0.5}, "poisson", DataError, "whole numbers from 0"),
        ({"c": "a"}, "poisson", DataError, "holds text"),
        ({"c": np.inf}, "poisson", DataError, "infinite in 120 rows"),
        ({"c": 1}, "cumulative", DataError, "one category"),
        ({}, "binomial", DataError, "needs 0 or 1"),
        ({}, "Gamma", DataError, "positive numbers"),
        ({}, "nbinom3", ModelError, "did you mean 'nbinom2'"),
    ],
)
def test_what_cannot_be_is_refused(table, change, kind, error, words):
    with pytest.raises(error, match=words):
        ranef.glmm(FORMULA, table.assign(**change), family=kind)


def test_an_empty_table_is_refused(table):
    with pytest.raises(DataError, match="no rows"):
        ranef.glmm(FORMULA, table.head(0), family="poisson")


@pytest.mark.parametrize("unit", [1e-9, 1e-3, 1e4, 1e6, 1e9])
@pytest.mark.parametrize("family", ["gaussian", "t", "Gamma"])
def test_the_unit_of_the_response_does_not_matter(family: str, unit: float) -> None:
    """y c has the same model: the log-likelihood shifts by n log c, sds by c."""
    rng = np.random.default_rng(5)
    g = np.repeat(np.arange(15), 8)
    x = rng.normal(size=120)
    y = 6 + 0.8 * x + 0.7 * rng.normal(size=15)[g] + 0.6 * rng.standard_t(3, size=120)
    y = np.abs(y) + 0.5
    link = "identity"
    fits = [
        ranef.glmm("y ~ x + (1 | g)", {"y": y * c, "x": x, "g": g}, family=family, link=link)
        for c in (1.0, unit)
    ]
    one, other = fits
    assert one.optimum.converged
    assert other.optimum.converged
    assert not one.optimum.singular
    assert other.loglik == pytest.approx(one.loglik - 120 * np.log(unit), abs=1e-5)
    assert other.theta[0] == pytest.approx(unit * one.theta[0], rel=1e-4)
    np.testing.assert_allclose(other.coef, unit * np.asarray(one.coef), rtol=1e-4)
