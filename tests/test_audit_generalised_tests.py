"""Likelihood ratios of generalised models on a boundary: the mixture against draws."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy.stats import chi2

import ranef

A = np.repeat(np.arange(14), 12)
ROOM = np.repeat(np.arange(42), 4)
C = np.tile(np.arange(12), 14)


def counts(rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Counts without ward (a) or room effects, rooms in wards: their variances compete."""
    x = rng.normal(size=168)
    eta = 0.2 + 0.3 * x + 0.5 * rng.normal(size=12)[C]
    return {"y": rng.poisson(np.exp(eta)), "x": x, "a": A, "room": ROOM, "c": C}


def test_two_variances_that_compete_have_the_weights_of_their_information():
    """Uncorrelated estimates would have 1/4, 1/2, 1/4: both positive in 25%, truly in 13%."""
    rng = np.random.default_rng(3)
    found = np.zeros(3)
    for k in range(250):
        data = counts(rng)
        large = ranef.glmm("y ~ x + (1 | c) + (1 | a) + (1 | room)", data, family="poisson")
        sd = large.tidy("variance").set_index("group")["estimate"]
        found[int(sd["a"] > 1e-6) + int(sd["room"] > 1e-6)] += 1 / 250
        if k == 0:
            small = ranef.glmm("y ~ x + (1 | c)", data, family="poisson")
            law = ranef.anova(small, large).models[1].test.distribution
    assert law.degrees.tolist() == [0, 1, 2]
    se = np.sqrt(found * (1 - found) / 250)
    assert np.abs((law.weights - found) / se).max() < 3
    assert law.weights[2] < 0.18
    assert not law.assumed


@pytest.mark.parametrize(
    ("family", "more"),
    [("nbinom2", {}), ("poisson", {"zero": "~ x"}), ("nbinom1", {"dispersion": "~ x"})],
)
def test_the_information_is_there_for_every_part(family, more):
    data = counts(np.random.default_rng(5))
    data["y"][::5] = 0
    large = ranef.glmm("y ~ x + (1 | c) + (1 | a) + (1 | room)", data, family=family, **more)
    small = ranef.glmm("y ~ x + (1 | c)", data, family=family, **more)
    law = ranef.anova(small, large).models[1].test.distribution
    assert law.weights.sum() == pytest.approx(1)
    assert 0.05 < law.weights[2] < 0.22


def test_effects_of_categories_compete_too():
    """With three equally frequent categories residuals of two correlate by -1/2, the scores,
    which are squares, by 1/4, and both variances are positive with 1/4 - asin(1/4) / 2 pi.
    """
    rng = np.random.default_rng(6)
    g = np.repeat(np.arange(100), 10)
    data = {"y": rng.permutation(np.resize(["a", "b", "c"], 1000)), "g": g}
    fit = ranef.glmm("y ~ 1 + (1 | g)", data, family="multinomial")
    test = ranef.variance_test(fit).tests[0]
    weight = float(test.distribution.split(" chi2(2)")[0].split("+ ")[-1])
    assert weight == pytest.approx(0.25 - np.arcsin(0.25) / (2 * np.pi), abs=0.01)
    assert not test.assumed


def test_weights_that_are_taken_as_uncorrelated_are_called_so():
    rng = np.random.default_rng(7)
    g = np.repeat(np.arange(20), 10)
    data = {"y": rng.poisson(2.0, 200), "f": np.tile(list("abcde"), 40), "g": g, "h": g % 7}
    large = ranef.glmm("y ~ 1 + (1 | h) + homdiag(0 + f | g) + (1 | g)", data, family="poisson")
    small = ranef.glmm("y ~ 1 + (1 | h)", data, family="poisson")
    page = str(ranef.anova(small, large))
    assert "as uncorrelated" in page


def test_a_laplace_criterion_that_breaks_down_is_left_early():
    """It took all 500 evaluations to say so."""
    data = ranef.data.load("Salamanders")
    with pytest.warns(ranef.errors.ConvergenceWarning, match="breaks down"):
        fit = ranef.glmm("count ~ spp + mined + (1 | site)", data, family="nbinom2",
                         zero="~ mined + (1 | site)", dispersion="~ mined")  # fmt: skip
    assert 60 <= fit.optimum.evaluations < 120


def overdispersion(seed, count=25, rows=8):
    rng = np.random.default_rng(seed)
    g = np.repeat(np.arange(count), rows)
    mean = np.exp(0.8 + 0.4 * rng.normal(size=count)[g])
    return pd.DataFrame({"g": g, "x": rng.normal(size=len(g)), "y": rng.poisson(mean)}), mean, rng


@pytest.mark.parametrize(
    ("small", "large", "law"),
    [
        ("poisson", "nbinom2", "0.5 chi2(0) + 0.5 chi2(1)"),
        ("poisson", "nbinom1", "0.5 chi2(0) + 0.5 chi2(1)"),
        ("poisson", "genpois", "chi2(1)"),
    ],
)
def test_families_with_a_dispersion_contain_those_without(small, large, law):
    table, mean, rng = overdispersion(1)
    table["y"] = rng.negative_binomial(1.5, 1.5 / (1.5 + mean))
    fits = [ranef.glmm("y ~ x + (1 | g)", table, family=family) for family in (small, large)]
    found = ranef.anova(*fits)
    test = found.models[1].test
    assert str(test.distribution) == law
    statistic = 2 * (fits[1].loglik - fits[0].loglik)
    assert test.statistic == pytest.approx(statistic, rel=1e-9)
    share = 0.5 if "0.5" in law else 1.0
    assert test.p_value == pytest.approx(share * chi2.sf(statistic, 1), rel=1e-6)
    assert ("overdispersion" in str(found)) == (share == 0.5)


def test_a_dispersion_that_varies_has_no_distribution_beside_none():
    table, mean, rng = overdispersion(2)
    table["y"] = rng.negative_binomial(1.5, 1.5 / (1.5 + mean))
    small = ranef.glmm("y ~ x + (1 | g)", table, family="poisson")
    large = ranef.glmm("y ~ x + (1 | g)", table, family="nbinom2", dispersion="~ x")
    assert "dispersion varies" in str(ranef.anova(small, large))


@pytest.mark.filterwarnings("ignore::ranef.errors.RanefWarning")
def test_the_mixture_of_a_dispersion_holds_under_poisson_counts():
    """In half of the samples there is no sign of overdispersion."""
    p = []
    for seed in range(60):
        table, _, _ = overdispersion(100 + seed, count=12, rows=6)
        fits = [ranef.glmm("y ~ 1 + (1 | g)", table, family=f) for f in ("poisson", "nbinom2")]
        p.append(ranef.anova(*fits).models[1].test.p_value)
    assert 0.3 < np.mean(np.array(p) > 0.45) < 0.75
    assert np.mean(np.array(p) < 0.1) < 0.23
