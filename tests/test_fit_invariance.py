"""What must not change a fit, for data drawn by hypothesis."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import twin
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import ranef

FORMULAS = {
    "slope": "y ~ x + (x | g)",
    "diagonal": "y ~ x + (x || g)",
    "crossed": "y ~ x + (1 | g) + (1 | h)",
    "nested": "y ~ x + (1 | g/k)",
}
SETTINGS = settings(
    max_examples=12,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)


@st.composite
def tables(draw):
    """Unbalanced tables of 40 to 90 rows, with true sds that may be zero."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    n = draw(st.integers(40, 90))
    sds = draw(st.tuples(*[st.sampled_from([0.0, 0.5, 1.5])] * 3))
    g, h = rng.integers(0, 6, n), rng.integers(0, 5, n)
    k = rng.integers(0, 3, n)
    x = rng.normal(size=n)
    b = rng.normal(size=6) * sds[0]
    s = rng.normal(size=6) * sds[1]
    c = rng.normal(size=5) * sds[2]
    y = 1.0 + 0.5 * x + b[g] + s[g] * x + c[h] + rng.normal(size=n)
    return pd.DataFrame({"y": y, "x": x, "g": g, "h": h, "k": k, "w": rng.uniform(0.5, 2.0, n)})


def psis(fit):
    return [np.asarray(psi) for psi in fit.estimate.covariances]


def assert_same_model(one, two, *, shift=0.0, scale=1.0):
    """The same optimum; sds larger by `scale`, log-likelihood by `shift`."""
    assert two.loglik == pytest.approx(one.loglik + shift, abs=2e-6)
    assert two.sigma == pytest.approx(scale * one.sigma, rel=2e-4)
    for a, b in zip(psis(one), psis(two), strict=True):
        np.testing.assert_allclose(b, scale**2 * a, atol=5e-4 * scale**2 * (1 + np.abs(a).max()))


both = pytest.mark.parametrize("reml", [True, False])
every = pytest.mark.parametrize("kind", FORMULAS)


@every
@both
@given(table=tables())
@SETTINGS
def test_the_optimum_is_the_best_that_scipy_finds(kind, reml, table):
    fit = ranef.lmm(FORMULAS[kind], table, reml=reml)
    _, best = twin.optimum(fit.estimate.specification, reml, starts=3)
    assert fit.deviance <= best + 1e-5
    at = twin.profile(fit.estimate.specification, fit.theta, reml)
    assert fit.deviance == pytest.approx(at.deviance, abs=1e-7)
    np.testing.assert_allclose(fit.coef, at.beta, rtol=1e-7, atol=1e-9)
    np.testing.assert_allclose(fit.vcov, at.vcov, rtol=1e-6, atol=1e-12)


@every
@given(table=tables(), seed=st.integers(0, 1000))
@SETTINGS
def test_the_order_of_rows(kind, table, seed):
    fit = ranef.lmm(FORMULAS[kind], table)
    shuffled = table.sample(frac=1.0, random_state=seed)
    other = ranef.lmm(FORMULAS[kind], shuffled)
    assert_same_model(fit, other)
    np.testing.assert_allclose(other.fitted().loc[table.index], fit.fitted(), atol=1e-3 * fit.sigma)


@every
@given(table=tables(), seed=st.integers(0, 1000))
@SETTINGS
def test_the_names_of_levels(kind, table, seed):
    fit = ranef.lmm(FORMULAS[kind], table)
    names = np.random.default_rng(seed).permutation([f"level {i}" for i in range(6)])
    other = ranef.lmm(FORMULAS[kind], table.assign(g=names[table["g"]]))
    assert_same_model(fit, other)
    one = fit.tidy("random").query("group == 'g'").set_index(["level", "term"])["estimate"]
    two = other.tidy("random").query("group == 'g'").set_index(["level", "term"])["estimate"]
    for (level, term), value in one.items():
        assert two[names[int(level)], term] == pytest.approx(value, abs=2e-3 * fit.sigma)


@every
@both
@given(table=tables(), factor=st.sampled_from([1e-4, 0.3, 1e5]))
@SETTINGS
def test_the_unit_of_the_response(kind, reml, table, factor):
    fit = ranef.lmm(FORMULAS[kind], table, reml=reml)
    other = ranef.lmm(FORMULAS[kind], table.assign(y=factor * table["y"]), reml=reml)
    m = len(table) - 2 if reml else len(table)
    assert_same_model(fit, other, shift=-m * np.log(factor), scale=factor)


@every
@both
@given(table=tables(), factor=st.sampled_from([1e-4, 0.3, 1e5]))
@SETTINGS
def test_the_unit_of_a_covariate(kind, reml, table, factor):
    """ML is unchanged; REML moves by the logarithm of the column's scale."""
    fit = ranef.lmm(FORMULAS[kind], table, reml=reml)
    other = ranef.lmm(FORMULAS[kind], table.assign(x=factor * table["x"]), reml=reml)
    shift = -np.log(factor) if reml else 0.0
    assert other.loglik == pytest.approx(fit.loglik + shift, abs=2e-6)
    assert other.coef["x"] * factor == pytest.approx(fit.coef["x"], rel=1e-3, abs=1e-4)
    assert len(other.optimum.faces) == len(fit.optimum.faces)


@every
@both
@given(table=tables(), c=st.sampled_from([1e-3, 0.5, 40.0]))
@SETTINGS
def test_the_scale_of_precision_weights(kind, reml, table, c):
    """Weights c w: sigma^2 times c, log-likelihood and Psi as before."""
    fit = ranef.lmm(FORMULAS[kind], table, reml=reml, weights="w")
    other = ranef.lmm(FORMULAS[kind], table.assign(w=c * table["w"]), reml=reml, weights="w")
    assert other.loglik == pytest.approx(fit.loglik, abs=2e-6)
    assert other.sigma**2 == pytest.approx(c * fit.sigma**2, rel=4e-4)
    for a, b in zip(psis(fit), psis(other), strict=True):
        np.testing.assert_allclose(b, a, atol=5e-4 * (1 + np.abs(a).max()))


@both
@given(table=tables())
@SETTINGS
def test_an_offset_is_a_shift_of_the_response(reml, table):
    fit = ranef.lmm("y ~ x + (x | g)", table.assign(y=table["y"] - table["w"]), reml=reml)
    other = ranef.lmm("y ~ x + (x | g)", table, offset="w", reml=reml)
    assert_same_model(fit, other)
    np.testing.assert_allclose(other.fitted(), fit.fitted() + table["w"], atol=1e-3 * fit.sigma)


@given(table=tables())
@SETTINGS
def test_the_paths_agree(table):
    formula = "y ~ x + (1 | g) + (1 | g:k)"
    nested = ranef.lmm(formula, table, path="nested")
    crossed = ranef.lmm(formula, table, path="crossed")
    assert nested.optimum.path == "nested"
    assert crossed.optimum.path == "crossed"
    assert_same_model(nested, crossed)
