"""Meta-analyses whose data and results are printed in the documentation of pimeta and bayesmeta.

Numbers alone, typed from those pages: the vignette of pimeta 1.1.4 (cisapride against placebo,
Hartung and Knapp 2001, Statistics in Medicine 20), that of bayesmeta (coaching in eight schools,
Rubin 1981; rejection after transplantation, Crins et al. 2014), and Roever 2020 for its priors.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import ranef
from ranef.solve.synthesis.studies import Studies

PIMETA = "pimeta 1.1.4, its vignette"
BAYESMETA = "bayesmeta, its vignette"
CISAPRIDE = pd.DataFrame({
    "ai": [15, 12, 29, 42, 14, 44, 14, 29, 10, 17, 38, 19, 21],
    "n1": [16, 16, 34, 56, 22, 54, 17, 58, 14, 26, 44, 29, 38],
    "ci": [9, 1, 18, 31, 6, 17, 7, 23, 3, 6, 12, 22, 19],
    "n2": [16, 16, 34, 56, 22, 55, 15, 58, 15, 27, 45, 30, 38],
})  # fmt: skip
CRINS = pd.DataFrame({
    "ai": [14, 16, 3, 9, 4, 0], "n1": [61, 28, 18, 54, 36, 50],
    "ci": [15, 19, 8, 29, 11, 3], "n2": [20, 28, 12, 54, 36, 34],
})  # fmt: skip
SCHOOLS = pd.DataFrame({
    "effect": [28.39, 7.94, -2.75, 6.82, -0.64, 0.63, 18.01, 12.16],
    "stderr": [14.9, 10.2, 16.3, 11.0, 9.4, 11.4, 10.4, 17.6],
})  # fmt: skip


def odds(table, more=0.0):
    """Log odds ratios, with a number added to every cell."""
    cells = table.assign(bi=table.n1 - table.ai, di=table.n2 - table.ci) + more
    return ranef.effect_sizes("OR", cells, ai="ai", bi="bi", ci="ci", di="di")


@pytest.fixture(scope="module")
def cisapride():
    return odds(CISAPRIDE, more=0.5)  # pimeta adds a half to all cells of all studies


def test_effects_are_those_printed(cisapride, agree):
    agree("ranef.effect_sizes", "log odds ratios, cisapride", cisapride.yi[:3],
          [2.098986, 3.357026, 1.565232], peer=PIMETA, atol=5e-7)  # fmt: skip
    agree("ranef.effect_sizes", "their standard errors, cisapride", np.sqrt(cisapride.vi[:3]),
          [0.9847737, 1.0165653, 0.5747840], peer=PIMETA, atol=6e-8)  # fmt: skip
    crins = odds(CRINS)
    agree("ranef.effect_sizes", "log odds ratios, transplantation", crins.yi,
          [-2.3097, -0.4595, -2.3026, -1.7579, -1.2585, -2.4179], peer=BAYESMETA,
          atol=5.1e-5)  # fmt: skip
    agree("ranef.effect_sizes", "their variances, transplantation", crins.vi,
          [0.3594, 0.3096, 0.7750, 0.2078, 0.4122, 2.3373], peer=BAYESMETA,
          atol=5.1e-5)  # fmt: skip


def test_the_mean_and_its_heterogeneity_are_pimetas(cisapride, agree):
    fit = ranef.meta("yi ~ 1", cisapride, variance="vi", method="dl")
    agree("ranef.meta", "odds ratio (dl), cisapride", np.exp(fit.tidy().estimate), 4.141,
          peer=PIMETA, atol=5e-4)  # fmt: skip
    known = fit.glance().iloc[0]
    agree("ranef.meta", "tau^2 (dl), cisapride", known.tau2, 0.718, peer=PIMETA, atol=5e-4)
    agree("ranef.meta", "I^2 (dl), cisapride", known.i2, 69.9, peer=PIMETA, atol=0.05)
    # its intervals are a parametric bootstrap of tau^2 (Nagashima et al. 2019): near, and wider
    mean = np.exp(fit.tidy()[["conf_low", "conf_high"]].to_numpy()[0])
    assert np.allclose(mean, [2.224, 7.820], rtol=0.02)
    new = fit.predict({"any": [0]}, conf_level=0.95, interval="new")
    low, high = np.exp(new[["conf_low", "conf_high"]].to_numpy()[0])
    assert 0.533 < low < 0.65
    assert 26.0 < high < 33.692


def test_likelihood_estimates_are_bayesmetas(agree):
    fit = ranef.meta("effect ~ 1", SCHOOLS, std_error="stderr", method="ml")
    agree("ranef.meta", "mean (ml), eight schools", fit.tidy().estimate, 7.870546,
          peer=BAYESMETA, atol=5e-7)  # fmt: skip
    for method in ("ml", "reml"):
        found = ranef.meta("effect ~ 1", SCHOOLS, std_error="stderr", method=method)
        assert found.tau2 == 0.0  # its ML joint and ML marginal


def test_the_restricted_likelihood_has_bayesmetas_posterior(agree):
    """tau ~ half-Cauchy(25), mu ~ N(0, 50^2), integrated over ranef's restricted likelihood."""
    y, s = SCHOOLS.effect.to_numpy(), SCHOOLS.stderr.to_numpy()
    studies = Studies(y, s * s, np.ones((len(y), 1)))
    tau = np.concatenate([np.linspace(0, 60, 6001), np.geomspace(60.05, 5e4, 3000)])
    marginal = studies.moments(tau**2).loglik(True, studies.n, studies.p)
    w = 1 / (s * s + tau[:, None] ** 2)
    info = w.sum(axis=1)
    mean = (w @ y) / info
    spread = 1 / info + 50.0**2  # of the estimate of mu, before the data
    logs = marginal - 0.5 * np.log(spread) - 0.5 * mean**2 / spread - np.log1p((tau / 25) ** 2)
    density = np.exp(logs - logs.max())
    area = np.append(0.0, np.cumsum((density[1:] + density[:-1]) / 2 * np.diff(tau)))
    density /= area[-1]

    def over(values):
        return float(np.sum((values[1:] * density[1:] + values[:-1] * density[:-1]) / 2
                            * np.diff(tau)))  # fmt: skip

    first = over(tau)
    what = "ranef's restricted likelihood integrated, eight schools"
    agree("ranef.meta", f"median of tau, {what}", np.interp(0.5, area / area[-1], tau), 4.758539,
          peer=BAYESMETA, rtol=1e-4)  # fmt: skip
    agree("ranef.meta", f"mean of tau, {what}", first, 5.884511, peer=BAYESMETA, rtol=1e-4)
    agree("ranef.meta", f"sd of tau, {what}", np.sqrt(over((tau - first) ** 2)), 4.869904,
          peer=BAYESMETA, rtol=1e-3)  # fmt: skip
    precision = info + 1 / 50.0**2
    at = mean * info / precision
    centre = over(at)
    agree("ranef.meta", f"mean of mu, {what}", centre, 7.985729, peer=BAYESMETA, rtol=1e-3)
    agree("ranef.meta", f"sd of mu, {what}", np.sqrt(over(1 / precision + (at - centre) ** 2)),
          4.995762, peer=BAYESMETA, rtol=3e-3)  # fmt: skip
