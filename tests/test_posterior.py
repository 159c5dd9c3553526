"""The joint distribution of the random effects: against the core, by brute force, by draws."""

from __future__ import annotations

import numpy as np
import pytest
from test_inference_generalised import fit as generalised_fit

import ranef
from ranef.derivatives import generalised, linear
from ranef.inference.effects.posterior import effect_posterior

SLEEP = "Reaction ~ Days + (Days | Subject)"


def own_blocks(posterior, given):
    """Covariance of each level's effects, to set beside the core's (q, r, r)."""
    for t, (expected, _) in enumerate(given):
        q, r, _ = expected.shape
        for level in (0, q // 2, q - 1):
            effects = [np.zeros((r, *size)) for size in posterior.sizes]
            effects[t][np.arange(r), level, np.arange(r)] = 1.0
            yield posterior.covariance(effects), expected[level]


@pytest.mark.parametrize(
    ("formula", "name"),
    [
        (SLEEP, "sleepstudy"),
        ("diameter ~ 1 + (1 | plate) + (1 | sample)", "Penicillin"),
        ("strength ~ 1 + (1 | batch / cask)", "Pastes"),
        ("Yield ~ 1 + (1 | Batch)", "Dyestuff2"),
        ("Reaction ~ Days + ar1(0 + factor(Days) | Subject)", "sleepstudy"),
    ],
)
def test_linear_effects_have_the_core_s_covariance(formula, name):
    fit = ranef.lmm(formula, ranef.data.load(name))
    posterior = effect_posterior(fit.estimate)
    for found, expected in own_blocks(posterior, linear.conditional_covariances(fit.estimate)):
        np.testing.assert_allclose(found, expected, rtol=1e-7, atol=1e-9 * fit.sigma**2)


@pytest.mark.parametrize(
    "name", ["slopes", "trials", "probit", "hurdle", "ordinal", "multinomial", "gamma"]
)
def test_generalised_effects_have_the_core_s_covariance(name):
    estimate = generalised_fit(name)
    posterior = effect_posterior(estimate)
    given = generalised.generalised_conditional_covariances(estimate)
    for found, expected in own_blocks(posterior, given):
        np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-10)


def test_effects_of_crossed_levels_by_brute_force():
    """(Z'Z / sigma^2 + Psi^-1)^-1, levels of both factors together."""
    fit = ranef.lmm("diameter ~ 1 + (1 | plate) + (1 | sample)", ranef.data.load("Penicillin"))
    spec = fit.estimate.specification
    Z = np.hstack([np.eye(f.n_levels)[f.codes] for f in spec.factors])
    psi = np.repeat([c[0, 0] for c in fit.estimate.covariances], [f.n_levels for f in spec.factors])
    full = np.linalg.inv(Z.T @ Z / fit.sigma**2 + np.diag(1 / psi))
    rng = np.random.default_rng(1)
    effects = [rng.normal(size=(3, f.n_levels, 1)) for f in spec.factors]
    m = np.hstack([e[:, :, 0] for e in effects])
    posterior = effect_posterior(fit.estimate)
    np.testing.assert_allclose(posterior.covariance(effects), m @ full @ m.T, rtol=1e-8)
    moved = posterior.movement(effects, spec.X)
    np.testing.assert_allclose(moved, -m @ full @ Z.T @ spec.X / fit.sigma**2, rtol=1e-8)
    drawn = np.hstack([d[:, :, 0] for d in posterior.deviations(rng, 40_000)])
    error = np.abs(np.cov(drawn.T) - full).max()
    assert error < 5 * np.sqrt(2 / 40_000) * full.max()
    assert np.abs(drawn.mean(axis=0)).max() < 5 * np.sqrt(full.max() / 40_000)
