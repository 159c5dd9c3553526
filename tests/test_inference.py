"""Degrees of freedom, tests and intervals against brute force on the dense twin."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import twin
from scipy import stats

import ranef
from ranef.errors import ModelError
from ranef.inference.coefficients import degrees, parameters
from ranef.inference.kinds import inference_of

MODELS = {
    "slope": ("sleepstudy", "Reaction ~ Days + (Days | Subject)"),
    "diagonal": ("sleepstudy", "Reaction ~ Days + (Days || Subject)"),
    "crossed": ("Penicillin", "diameter ~ 1 + (1 | plate) + (1 | sample)"),
    "nested": ("Pastes", "strength ~ 1 + (1 | batch/cask)"),
    "factor": ("ergoStool", "effort ~ Type + (1 | Subject)"),
}


@pytest.fixture(scope="module")
def fits():
    store = {}

    def get(name, reml=True):
        if (name, reml) not in store:
            table, formula = MODELS[name]
            store[name, reml] = ranef.lmm(formula, ranef.data.load(table), reml=reml)
        return store[name, reml]

    return get


def joint_deviance(estimate):
    """The deviance of (theta, sigma) by the dense twin."""
    spec = estimate.specification
    return lambda x: twin.unprofiled_deviance(spec, x[:-1], x[-1], estimate.reml)


def vcov_of(estimate):
    spec = estimate.specification
    return lambda x: x[-1] ** 2 * twin.profile(spec, x[:-1], estimate.reml).C


@pytest.mark.parametrize("reml", [True, False])
@pytest.mark.parametrize("name", ["slope", "diagonal", "crossed", "factor"])
def test_parameter_covariance_is_twice_the_inverse_of_a_differenced_hessian(fits, name, reml):
    estimate = fits(name, reml).estimate
    x = np.append(estimate.theta, estimate.sigma)
    hessian = twin.numerical_hessian(joint_deviance(estimate), x, step=2e-3)
    found = parameters.parameter_covariance(estimate)
    assert found.free.all()
    scale = np.sqrt(np.diag(found.covariance))
    difference = (found.covariance - 2 * np.linalg.inv(hessian)) / np.outer(scale, scale)
    assert np.abs(difference).max() < 1e-5
    expected = twin.numerical_gradient(vcov_of(estimate), x, step=1e-3)
    bound = 1e-7 * np.abs(expected).max()
    np.testing.assert_allclose(found.vcov_gradient, expected, atol=bound)


@pytest.mark.parametrize("reml", [True, False])
@pytest.mark.parametrize("name", ["slope", "crossed", "factor"])
def test_satterthwaite_of_any_contrast_by_brute_force(fits, name, reml):
    estimate = fits(name, reml).estimate
    p = estimate.specification.p
    L = np.vstack([np.eye(p), np.random.default_rng(0).normal(size=(3, p))])
    x = np.append(estimate.theta, estimate.sigma)
    A = 2 * np.linalg.inv(twin.numerical_hessian(joint_deviance(estimate), x, step=2e-3))
    expected = []
    for row in L:
        v = row @ estimate.coefficient_vcov @ row
        g = twin.numerical_gradient(lambda t, row=row: row @ vcov_of(estimate)(t) @ row, x, 1e-3)
        expected.append(2 * v**2 / (g @ A @ g))
    found = degrees.degrees_of_freedom(estimate, L, "satterthwaite")
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_split_plot_degrees_of_freedom_are_the_classical_ones(agree, fits):
    """Balanced layouts have exact tests: (blocks - 1)(treatments - 1) = 24 for ergoStool."""
    found = fits("factor").tidy()
    agree("tidy()", "df of Type, ergoStool", found["df"][1:], np.full(3, 24.0),
          peer="(blocks - 1)(types - 1)", rtol=1e-9)  # fmt: skip


def test_satterthwaite_on_a_face_counts_the_free_parameters_only():
    """With every variance at zero the model is a linear regression: n - p under REML."""
    fit = ranef.lmm("Yield ~ 1 + (1 | Batch)", ranef.data.load("Dyestuff2"))
    assert fit.optimum.singular
    assert parameters.parameter_covariance(fit.estimate).covariance.shape == (1, 1)
    assert fit.tidy()["df"][0] == pytest.approx(29.0, rel=1e-9)


def test_scaling_a_contrast_leaves_its_df(fits):
    estimate = fits("slope").estimate
    L = np.array([[1.0, 3.0], [1e6, 3e6]])
    found = degrees.degrees_of_freedom(estimate, L)
    assert found[0] == pytest.approx(found[1], rel=1e-10)


# --- Wald ----------------------------------------------------------------------------


def test_intervals_are_student_t(fits):
    estimate = fits("slope").estimate
    found = inference_of(estimate).intervals(np.eye(2), conf_level=0.9)
    se = np.sqrt(np.diag(estimate.coefficient_vcov))
    np.testing.assert_allclose(found.std_error, se)
    np.testing.assert_allclose(found.statistic, estimate.beta / se)
    np.testing.assert_allclose(found.p_value, 2 * stats.t.sf(np.abs(found.statistic), found.df))
    reach = stats.t.ppf(0.95, found.df) * se
    np.testing.assert_allclose(found.conf_low, estimate.beta - reach)
    np.testing.assert_allclose(found.conf_high, estimate.beta + reach)


def test_normal_intervals_are_the_limit(fits):
    found = inference_of(fits("slope").estimate).intervals(np.eye(2), df="normal")
    np.testing.assert_allclose(found.p_value, 2 * stats.norm.sf(np.abs(found.statistic)))


def test_one_row_f_is_t_squared(fits):
    estimate = fits("slope").estimate
    t = inference_of(estimate).intervals(np.array([[0.0, 1.0]]))
    f = inference_of(estimate).f_test(np.array([[0.0, 1.0]]))
    assert f.statistic == pytest.approx(t.statistic[0] ** 2)
    assert f.df2 == pytest.approx(t.df[0])
    assert f.p_value == pytest.approx(t.p_value[0])


def test_f_of_ergostool_types_is_the_anova_table(agree, fits):
    """Lmertest and the classical split by blocks: F = 22.3555814 on 3 and 24."""
    L = np.eye(4)[1:]
    found = inference_of(fits("factor").estimate).f_test(L)
    assert found.df1 == 3
    assert found.df2 == pytest.approx(24.0, rel=1e-5)
    table = ranef.data.load("ergoStool")
    wide = table.pivot(index="Subject", columns="Type", values="effort").to_numpy(float)
    residual = wide - wide.mean(0) - wide.mean(1)[:, None] + wide.mean()
    between = 9 * ((wide.mean(0) - wide.mean()) ** 2).sum() / 3
    agree("ranef.anova", "F of Type, ergoStool", found.statistic,
          between / ((residual**2).sum() / 24), peer="mean squares", rtol=1e-5)  # fmt: skip


def test_f_by_fai_and_cornelius_written_out(fits):
    estimate = fits("slope", reml=False).estimate
    L = np.array([[1.0, 0.0], [1.0, 5.0]])
    found = inference_of(estimate).f_test(L, np.array([250.0, 300.0]))
    gap = L @ estimate.beta - [250.0, 300.0]
    F = gap @ np.linalg.solve(L @ estimate.coefficient_vcov @ L.T, gap) / 2
    _, vectors = np.linalg.eigh(estimate.coefficient_vcov)
    nu = degrees.degrees_of_freedom(estimate, vectors.T)
    E = (nu / (nu - 2)).sum()
    assert found.statistic == pytest.approx(F)
    assert found.df2 == pytest.approx(2 * E / (E - 2), rel=1e-6)
    assert found.p_value == pytest.approx(stats.f.sf(F, 2, found.df2))


def test_f_ignores_redundant_rows_and_refuses_contradictions(fits):
    estimate = fits("slope").estimate
    plain = inference_of(estimate).f_test(np.eye(2))
    repeated = inference_of(estimate).f_test(np.vstack([np.eye(2), [[2.0, 3.0]]]))
    assert repeated.df1 == 2
    assert repeated.statistic == pytest.approx(plain.statistic)
    with pytest.raises(ModelError, match="contradict"):
        inference_of(estimate).f_test(np.array([[1.0, 0.0], [1.0, 0.0]]), np.array([0.0, 1.0]))
    with pytest.raises(ModelError, match="all zeros"):
        inference_of(estimate).f_test(np.zeros((1, 2)))
    with pytest.raises(ModelError, match="3 columns but the model has 2"):
        inference_of(estimate).f_test(np.ones((1, 3)))


def test_normal_f_is_chi_squared(fits):
    estimate = fits("slope").estimate
    found = inference_of(estimate).f_test(np.eye(2), df="normal")
    assert np.isinf(found.df2)
    assert found.p_value == pytest.approx(stats.chi2.sf(2 * found.statistic, 2))


# --- variance parameters -------------------------------------------------------------


def sds_and_correlations(estimate):
    """Log sds and atanh correlations as a function of (theta, sigma), term by term."""
    spec = estimate.specification

    def transformed(x):
        out = []
        for term, part in zip(spec.terms, twin.split(spec, x[:-1]), strict=True):
            psi = x[-1] ** 2 * twin.relative_covariance(term, part)
            sds = np.sqrt(np.diag(psi))
            out += list(np.log(sds))
            if term.structure == "us":
                out += [
                    np.arctanh(psi[i, j] / sds[i] / sds[j])
                    for j in range(term.size)
                    for i in range(j + 1, term.size)
                ]
        return np.array([*out, np.log(x[-1])])

    return transformed


@pytest.mark.parametrize("name", ["slope", "diagonal", "crossed", "nested"])
def test_variance_intervals_by_brute_force_delta_method(fits, name):
    fit = fits(name)
    estimate = fit.estimate
    x = np.append(estimate.theta, estimate.sigma)
    A = 2 * np.linalg.inv(twin.numerical_hessian(joint_deviance(estimate), x, step=2e-3))
    f = sds_and_correlations(estimate)
    J = twin.numerical_gradient(f, x, step=1e-3).T
    half = stats.norm.ppf(0.975) * np.sqrt(np.einsum("ij,jk,ik->i", J, A, J))
    table = fit.tidy("variance")
    back = np.where(table["parameter"] == "sd", np.exp(f(x) - half), np.tanh(f(x) - half))
    np.testing.assert_allclose(table["conf_low"], back, rtol=1e-4)
    back = np.where(table["parameter"] == "sd", np.exp(f(x) + half), np.tanh(f(x) + half))
    np.testing.assert_allclose(table["conf_high"], back, rtol=1e-4)


def test_a_correlation_of_one_has_no_interval_but_its_sds_do():
    rng = np.random.default_rng(0)
    x, g = np.tile(np.linspace(-1, 1, 6), 20), np.repeat(np.arange(20), 6)
    b = rng.normal(size=20)
    y = b[g] * (1 + x) + 0.5 * rng.normal(size=120)
    fit = ranef.lmm("y ~ x + (x | g)", pd.DataFrame({"y": y, "x": x, "g": g}))
    assert fit.optimum.singular
    table = fit.tidy("variance")
    corr, sds = table[table["parameter"] == "corr"], table[table["parameter"] == "sd"]
    assert corr["estimate"].tolist() == pytest.approx([1.0], abs=1e-8)
    assert corr[["conf_low", "conf_high"]].isna().all(axis=None)
    assert "rank 1 of 2" in str(fit)

    spec, free = fit.estimate.specification, np.append(fit.theta[:2], fit.sigma)

    def on_face(x):
        return twin.unprofiled_deviance(spec, np.array([x[0], x[1], 0.0]), x[2])

    A = 2 * np.linalg.inv(twin.numerical_hessian(on_face, free, step=2e-3))
    J = np.array(
        [[1 / free[0], 0, 1 / free[2]], [0, 1 / free[1], 1 / free[2]], [0, 0, 1 / free[2]]]
    )
    half = stats.norm.ppf(0.975) * np.sqrt(np.diag(J @ A @ J.T))
    np.testing.assert_allclose(sds["conf_high"], sds["estimate"] * np.exp(half), rtol=1e-4)


def test_parameters_of_a_structure_have_their_intervals():
    """An ar1 term: the twin differences log sd and atanh corr, theta being (sd, corr)."""
    rng = np.random.default_rng(9)
    day, g = np.tile(np.arange(5), 30), np.repeat(np.arange(30), 5)
    L = np.linalg.cholesky(0.7 ** np.abs(np.subtract.outer(np.arange(5), np.arange(5))))
    y = (rng.normal(size=(30, 5)) @ L.T).ravel() + 0.5 * rng.normal(size=150)
    fit = ranef.lmm("y ~ 1 + ar1(0 + day | g)", {"y": y, "day": day, "g": g})
    estimate = fit.estimate
    x = np.append(estimate.theta, estimate.sigma)
    A = 2 * np.linalg.inv(twin.numerical_hessian(joint_deviance(estimate), x, step=2e-3))
    J = np.diag([1 / x[0], 1 / (1 - x[1] ** 2), 1 / x[2]])
    J[0, 2] = 1 / x[2]
    half = stats.norm.ppf(0.975) * np.sqrt(np.diag(J @ A @ J.T))
    table = fit.tidy("variance")
    assert table["parameter"].tolist() == ["sd", "corr", "sd"]
    low = [
        x[0] * x[2] * np.exp(-half[0]), np.tanh(np.arctanh(x[1]) - half[1]), x[2] * np.exp(-half[2])
    ]  # fmt: skip
    np.testing.assert_allclose(table["conf_low"], low, rtol=1e-4)
