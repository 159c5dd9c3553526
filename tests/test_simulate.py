"""Draws: for every covariance structure, for new rows, from the posterior, of parameters."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import ranef
from ranef.derivatives import linear
from ranef.errors import ModelError
from ranef.inference.coefficients import parameters
from ranef.inference.coefficients.covariance import joint_covariance
from ranef.inference.effects import generalised_effects
from ranef.inference.effects.posterior import effect_posterior

SLEEP = "Reaction ~ Days + (Days | Subject)"
N = 4000


def agrees(sample, expected, factor=5.0):
    """Compare a covariance of N normal draws with what it should be."""
    v = np.diag(expected)
    error = np.sqrt((np.outer(v, v) + expected**2) / sample.shape[1])
    assert np.abs((np.cov(sample) - expected) / error).max() < factor


def kernel():
    data = ranef.data.load("sleepstudy")
    levels = sorted(data["Subject"].astype(str).unique())
    A = np.random.default_rng(3).normal(size=(18, 40))
    K = A @ A.T / 40 + 0.1 * np.eye(18)
    return {"K": pd.DataFrame(K, index=levels, columns=levels)}


STRUCTURES = {
    "us": "Reaction ~ Days + (Days | Subject)",
    "diag": "Reaction ~ Days + (Days || Subject)",
    "homdiag": "Reaction ~ Days + homdiag(0 + factor(Days > 4) | Subject)",
    "cs": "Reaction ~ Days + cs(0 + factor(Days > 4) | Subject)",
    "homcs": "Reaction ~ Days + homcs(0 + factor(Days > 4) | Subject)",
    "ar1": "Reaction ~ Days + ar1(0 + factor(Days) | Subject)",
    "hetar1": "Reaction ~ Days + hetar1(0 + factor(Days > 4) | Subject)",
    "toep": "Reaction ~ Days + toep(0 + factor(Days > 4) | Subject)",
    "ou": "Reaction ~ Days + ou(Days | Subject)",
    "exp": "Reaction ~ Days + exp(Days | Subject)",
    "gau": "Reaction ~ Days + gau(Days | Subject)",
    "mat": "Reaction ~ Days + mat(Days | Subject)",
    "rr": "Reaction ~ Days + rr(0 + factor(Days > 4) + Days | Subject, 1)",
    "kernel": "Reaction ~ Days + kernel(1 | Subject, K)",
    "nested": "strength ~ 1 + (1 | batch / cask)",
}


def fitted(name):
    if name == "nested":
        return ranef.lmm(STRUCTURES[name], ranef.data.load("Pastes"))
    kernels = kernel() if name == "kernel" else None
    return ranef.lmm(STRUCTURES[name], ranef.data.load("sleepstudy"), kernels=kernels)


def marginal_covariance(fit, rows):
    """Z Psi Z' + sigma^2 of rows of the fit."""
    spec = fit.estimate.specification
    V = fit.sigma**2 * np.eye(len(rows))
    for term, psi in zip(spec.terms, fit.estimate.covariances, strict=True):
        codes, z = spec.factors[term.factor].codes[rows], term.z[rows]
        same = (codes[:, None] == codes).astype(float)
        if term.kernel is not None:
            same = term.kernel[np.ix_(codes, codes)]
        V += same * (z @ psi @ z.T)
    return V


@pytest.mark.parametrize("name", STRUCTURES)
def test_new_effects_have_the_fitted_covariance(name):
    fit = fitted(name)
    rows = np.array([0, 4, 9, 12, 25, 31])
    drawn = fit.simulate(N, rng=1).to_numpy()[rows]
    agrees(drawn, marginal_covariance(fit, rows))
    mean = fit.fitted("typical").to_numpy()[rows]
    error = np.sqrt(np.diag(marginal_covariance(fit, rows)) / N)
    assert np.abs((drawn.mean(axis=1) - mean) / error).max() < 5


@pytest.mark.parametrize("name", STRUCTURES)
def test_posterior_effects_have_the_modes_and_their_covariance(name):
    fit = fitted(name)
    rows = np.array([0, 4, 9, 12, 25, 31])
    drawn = fit.simulate(N, rng=2, kind="posterior").to_numpy()[rows]
    posterior = effect_posterior(fit.estimate)
    effects = [np.zeros((6, *size)) for size in posterior.sizes]
    spec = fit.estimate.specification
    for e, term in zip(effects, spec.terms, strict=True):
        e[np.arange(6), spec.factors[term.factor].codes[rows]] = term.z[rows]
    expected = posterior.covariance(effects) + fit.sigma**2 * np.eye(6)
    agrees(drawn, expected)
    error = np.sqrt(np.diag(expected) / N)
    assert np.abs((drawn.mean(axis=1) - fit.fitted().to_numpy()[rows]) / error).max() < 5


def test_posterior_draws_are_the_core_s_covariance_for_crossed_factors():
    fit = ranef.lmm("diameter ~ 1 + (1 | plate) + (1 | sample)", ranef.data.load("Penicillin"))
    deviations = effect_posterior(fit.estimate).deviations(np.random.default_rng(1), N)
    for d, (given, _) in zip(deviations, linear.conditional_covariances(fit.estimate), strict=True):
        error = given[:, 0, 0] * np.sqrt(2 / N)
        assert np.abs((d[:, :, 0].var(axis=0) - given[:, 0, 0]) / error).max() < 5


# --- new rows


def test_rows_of_a_new_level_share_its_effect_and_known_ones_keep_theirs():
    fit = ranef.lmm(SLEEP, ranef.data.load("sleepstudy"))
    new = {"Days": [0.0, 9.0, 0.0, 4.0], "Subject": ["x", "x", "y", "308"]}
    drawn = fit.simulate(N, rng=1, new=new, kind="conditional").to_numpy()
    psi, z = fit.estimate.covariances[0], np.array([[1, 0], [1, 9], [1, 0], [1, 4.0]])
    expected = fit.sigma**2 * np.eye(4)
    expected[:2, :2] += z[:2] @ psi @ z[:2].T
    expected[2, 2] += psi[0, 0]
    agrees(drawn, expected)
    error = np.sqrt(np.diag(expected) / N)
    assert np.abs((drawn.mean(axis=1) - fit.predict(new)) / error).max() < 5
    anew = fit.simulate(N, rng=1, new=new).to_numpy()
    expected[3, 3] += z[3] @ psi @ z[3]
    agrees(anew, expected)


def test_intervals_are_the_quantiles_of_draws_with_drawn_parameters():
    """kind="posterior", parameters="draw": the distribution that predict's intervals stand for."""
    fit = ranef.lmm(SLEEP, ranef.data.load("sleepstudy"))
    new = {"Days": [0.0, 9.0, 5.0], "Subject": ["308", "309", "308"]}
    shown = fit.predict(new, conf_level=0.95, interval="new")
    drawn = fit.simulate(N, rng=3, new=new, kind="posterior", parameters="draw").to_numpy()
    np.testing.assert_allclose(drawn.std(axis=1), shown["std_error"], rtol=0.06)
    np.testing.assert_allclose(drawn.mean(axis=1), shown["estimate"], atol=3)
    fixed = fit.simulate(N, rng=3, new=new, kind="posterior").to_numpy()
    assert (fixed.std(axis=1) < drawn.std(axis=1) + 0.5).all()


def test_drawn_parameters_stay_in_their_family():
    for name in ("ar1", "hetar1", "cs", "mat"):
        fit = fitted(name)
        drawn = fit.simulate(50, rng=1, parameters="draw", kind="posterior").to_numpy()
        assert np.isfinite(drawn).all()
    fit = ranef.lmm("Yield ~ 1 + (1 | Batch)", ranef.data.load("Dyestuff2"))
    assert fit.optimum.singular
    assert np.isfinite(fit.simulate(20, rng=1, parameters="draw", kind="posterior")).all().all()


def test_weights_and_missing_rows_of_new_tables():
    data = ranef.data.load("sleepstudy").assign(w=np.linspace(0.5, 4, 180))
    fit = ranef.lmm("Reaction ~ Days + (1 | Subject)", data, weights="w")
    new = pd.DataFrame(
        {"Days": [1.0, np.nan, 1.0], "Subject": ["308"] * 3, "w": [0.25, 1, 100.0]},
        index=list("abc"),
    )
    drawn = fit.simulate(N, rng=1, new=new, kind="conditional")
    assert list(drawn.index) == list("abc")
    assert drawn.loc["b"].isna().all()
    sd = drawn.std(axis=1)
    np.testing.assert_allclose(sd[["a", "c"]], [fit.sigma * 2, fit.sigma / 10], rtol=0.06)


# --- generalised


def test_counts_with_a_zero_part_for_new_rows():
    data = ranef.data.load("Salamanders")
    fit = ranef.glmm(
        "count ~ mined + (1 | site)", data, family="nbinom2", zero="~ mined", dispersion="~ mined"
    )
    new = {"mined": ["no", "yes", "no"], "site": ["R-1", "R-1", "elsewhere"]}
    drawn = fit.simulate(N, rng=1, new=new, kind="conditional").to_numpy()
    mean = fit.predict(new)
    mean[2] = fit.predict(new, kind="population")[2]
    error = drawn.std(axis=1) / np.sqrt(N)
    assert np.abs((drawn.mean(axis=1) - mean) / error).max() < 5
    assert (drawn[0] == 0).mean() > fit.predict(new, type="zero")[0] - 0.03


def test_trials_and_categories_of_new_rows():
    fit = ranef.glmm(
        "cbind(incidence, size - incidence) ~ period + (1 | herd)",
        ranef.data.load("cbpp"),
        family="binomial",
    )
    new = {"period": ["1", "1"], "herd": ["1", "new"], "incidence": [0, 0], "size": [40, 7]}
    drawn = fit.simulate(N, rng=1, new=new, kind="posterior").to_numpy()
    assert drawn.max(axis=1).tolist() <= [40, 7]
    assert drawn[1].mean() == pytest.approx(7 * fit.predict(new, kind="population")[1], rel=0.06)
    wine = ranef.glmm("rating ~ temp + (1 | judge)", ranef.data.load("wine"), family="cumulative")
    rows = {"temp": ["cold", "warm"], "judge": ["1", "me"]}
    labels = wine.simulate(200, rng=1, new=rows, kind="posterior")
    assert set(np.unique(labels.to_numpy().astype(str))) <= {"1", "2", "3", "4", "5"}


def test_generalised_posterior_draws_against_the_exact_posterior():
    """Poisson counts of one level: mean and sd by quadrature, near the normal approximation."""
    fit = ranef.glmm("count ~ mined + (1 | site)", ranef.data.load("Salamanders"),
                     family="poisson")  # fmt: skip
    exact = generalised_effects.posterior_means(fit.estimate)[0]
    deviations = effect_posterior(fit.estimate).deviations(np.random.default_rng(1), N)[0]
    drawn = fit.estimate.modes[0] + deviations
    many = np.bincount(fit.estimate.design.factors[0].codes) > 20
    assert many.any()
    # the modes lie a part of a standard deviation from the means, the posterior being skewed
    gap = np.abs(drawn.mean(axis=0) - exact.mean)[many] / exact.sd[many]
    assert gap.max() < 0.25
    np.testing.assert_allclose(drawn.std(axis=0)[many], exact.sd[many], rtol=0.1)


def test_generalised_parameters_are_drawn_jointly():
    fit = ranef.glmm(
        "cbind(incidence, size - incidence) ~ period + (1 | herd)",
        ranef.data.load("cbpp"),
        family="binomial",
    )
    from ranef.inference.draws.parameter_draws import generalised_draws

    draw, rng = generalised_draws(fit.estimate), np.random.default_rng(1)
    found = [draw(rng) for _ in range(N)]
    coefficients = np.array([d.coefficients for d in found]).T
    agrees(coefficients, joint_covariance(fit.estimate)[:4, :4])
    assert fit.simulate(3, rng=1, kind="new", parameters="draw").shape == (56, 3)
    # what moves with the parameters: the predictors' errors by predict, theta and b and all
    new = {"period": ["1"], "herd": ["1"]}
    error = fit.predict(new, type="link", conf_level=0.9)["std_error"][0]
    eta = [d.coefficients[0] + d.modes[0][0, 0] for d in found]
    deviation = effect_posterior(fit.estimate).deviations(rng, N)[0][:, 0, 0]
    assert np.std(np.array(eta) + deviation) == pytest.approx(error, rel=0.05)


def test_the_same_rng_gives_the_same_draws_and_bad_kinds_are_refused():
    fit = ranef.lmm(SLEEP, ranef.data.load("sleepstudy"))
    one, two = (fit.simulate(2, rng=4, kind="posterior", parameters="draw") for _ in range(2))
    pd.testing.assert_frame_equal(one, two)
    with pytest.raises(ModelError, match="kind='posteror' is not known; did you mean"):
        fit.simulate(kind="posteror")
    with pytest.raises(ModelError, match="parameters='drawn' is not known"):
        fit.simulate(parameters="drawn")


def test_linear_draws_have_the_covariance_of_the_estimates():
    fit = ranef.lmm(SLEEP, ranef.data.load("sleepstudy"))
    from ranef.inference.draws.parameter_draws import linear_draws

    draw = linear_draws(fit.estimate, parameters.parameter_covariance(fit.estimate))
    rng = np.random.default_rng(1)
    found = [draw(rng) for _ in range(N)]
    agrees(np.array([d.beta for d in found]).T, fit.estimate.coefficient_vcov)
    known = fit.inference.parameters.covariance[-1, -1]
    assert np.std([np.log(d.sigma) for d in found]) == pytest.approx(
        np.sqrt(known) / fit.sigma, rel=0.05
    )
    # z'b + x'beta: given parameters, and as they vary, is predict's variance of the mean
    new = {"Days": [9.0], "Subject": ["308"]}
    x = np.array([1.0, 9.0])
    value = [x @ (d.beta + d.modes[0][0]) for d in found]
    deviation = effect_posterior(fit.estimate).deviations(rng, N)[0][:, 0] @ x
    error = fit.predict(new, conf_level=0.9)["std_error"][0]
    assert np.std(np.array(value) + deviation) == pytest.approx(error, rel=0.05)
