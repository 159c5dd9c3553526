"""Metropolis steps of random effects against integrals: means, variances, what is left alone."""

from __future__ import annotations

import numpy as np
import pytest

import ranef
from ranef.derivatives.generalised import posterior_moments
from ranef.inference.draws import sampling

Draws = list[np.ndarray]


def walked(fit: ranef.GeneralizedMixedModelFit, count: int, sweeps: int = 25) -> list[Draws]:
    """Effects after steps that begin at the modes, so many times; the predictors must follow."""
    estimate = fit.estimate
    etas, design = estimate.predictors, estimate.design
    rng, out = np.random.default_rng(4), []
    for _ in range(count):
        moved, effects = sampling.metropolis(estimate, etas, estimate.modes, rng, sweeps)
        again = etas.copy()
        for t, term in enumerate(estimate.terms):
            d = (effects[t] - estimate.modes[t])[design.factors[term.factor].codes]
            again[design.owners[t][0]] += np.sum(term.z * d, axis=1)
        np.testing.assert_allclose(moved, again, atol=1e-9)
        out.append(list(effects))
    return out


def few_rows() -> ranef.GeneralizedMixedModelFit:
    ohio = ranef.data.load("ohio")
    kept = ohio[ohio["id"] % 4 == 1]
    return ranef.glmm("resp ~ age + (1 | id)", kept, family="binomial", quadrature=15)


def slopes() -> ranef.GeneralizedMixedModelFit:
    rng = np.random.default_rng(1)
    g, x = np.repeat(np.arange(40), 8), rng.normal(size=320)
    b = rng.normal(size=(40, 2)) @ np.array([[0.9, 0.3], [0.0, 0.6]])
    y = rng.poisson(np.exp(0.2 + 0.3 * x + b[g, 0] + b[g, 1] * x))
    return ranef.glmm("y ~ x + (x | g)", {"y": y, "x": x, "g": g}, family="poisson")


def ordered() -> ranef.GeneralizedMixedModelFit:
    wine = ranef.data.load("wine")
    return ranef.glmm("rating ~ temp + (1 | judge)", wine, family="cumulative", quadrature=15)


@pytest.mark.parametrize("make", [few_rows, slopes, ordered])
def test_moments_are_those_of_the_integral(make):
    fit = make()
    draws = np.array([effects[0] for effects in walked(fit, 300)])
    [(mean, covariance)] = posterior_moments(fit.estimate, 15)
    variance = np.einsum("qrr->qr", covariance)
    z = (draws.mean(axis=0) - mean) / np.sqrt(variance / 300)
    assert np.sqrt(np.mean(z**2)) < 1.25
    assert np.abs(z).max() < 5
    assert np.mean(draws.var(axis=0) / variance) == pytest.approx(1, abs=0.05)


def test_the_normal_approximation_would_not_pass():
    """The skewness that the steps are for: means differ from modes by much more than the noise."""
    fit = few_rows()
    [(mean, covariance)] = posterior_moments(fit.estimate, 15)
    gap = (fit.estimate.modes[0] - mean) / np.sqrt(np.einsum("qrr->qr", covariance) / 300)
    assert np.sqrt(np.mean(gap**2)) > 2.5


def test_crossed_factors_against_a_chain_that_was_left_to_run():
    rng = np.random.default_rng(2)
    a, b = (v.ravel() for v in np.indices((6, 5)))
    eta = -0.3 + rng.normal(size=6)[a] + rng.normal(size=5)[b]
    y = (rng.random(30) < 1 / (1 + np.exp(-eta))).astype(float)
    fit = ranef.glmm("y ~ 1 + (1 | a) + (1 | b)", {"y": y, "a": a, "b": b}, family="binomial",
                     fixed={"sd: a": 1.0, "sd: b": 1.0})  # fmt: skip
    estimate = fit.estimate
    etas, effects = estimate.predictors, estimate.modes
    chain_rng, chain = np.random.default_rng(5), []
    for _ in range(4000):
        etas, effects = sampling.metropolis(estimate, etas, effects, chain_rng, 3)
        chain.append(np.concatenate([e[:, 0] for e in effects]))
    many = np.array([np.concatenate([e[:, 0] for e in one]) for one in walked(fit, 600)])
    long = np.array(chain)
    z = (many.mean(axis=0) - long.mean(axis=0)) / (long.std(axis=0) / np.sqrt(600))
    assert np.sqrt(np.mean(z**2)) < 1.8
    assert np.mean(many.var(axis=0) / long.var(axis=0)) == pytest.approx(1, abs=0.08)


def test_what_cannot_vary_stays():
    cbpp = ranef.data.load("cbpp")
    call = {"family": "binomial", "fixed": {"sd: herd": 0.0}}
    fit = ranef.glmm("cbind(incidence, size - incidence) ~ period + (1 | herd)", cbpp, **call)
    [[effects]] = walked(fit, 1)
    np.testing.assert_array_equal(effects, 0.0)


def test_a_model_that_holds_is_not_accused_where_levels_have_few_binary_rows():
    ohio = ranef.data.load("ohio")
    fit = ranef.glmm("resp ~ age + smoke + (1 | id)", ohio, family="binomial", quadrature=25)
    drawn = fit.simulate(4, rng=3)
    healthy = [ranef.check(fit.refit(drawn[name])).healthy for name in drawn]
    assert sum(healthy) >= 3
