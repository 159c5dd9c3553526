"""Groups of voxels under the null and not: fixed effects, least squares and mixed effects."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from ranef import imaging

pytestmark = pytest.mark.study

REALISATIONS = 10
VOXELS = 4000
LEVEL = 0.05


def shares(K, effect, seed):
    """Share of voxels with p < .05 in each realisation, by model (mean and standard error)."""
    found = {"FE": [], "RE": [], "ME": [], "plain": []}
    for r in range(REALISATIONS):
        rng = np.random.default_rng([seed, r])
        size = np.exp(0.7 * rng.normal(size=(K, 1)))  # CV about 0.75 between subjects
        V = size * rng.uniform(0.8, 1.25, (K, VOXELS))
        tau2 = np.where(rng.uniform(size=VOXELS) < 0.2, 0.0, 0.6 * rng.exponential(size=VOXELS))
        Y = effect + rng.normal(size=V.shape) * np.sqrt(V + tau2)
        X = np.ones((K, 1))
        fits = {
            "FE": imaging.mixed_effects(Y, V, X, method="fe", df="normal"),
            "RE": imaging.mixed_effects(Y, np.ones_like(V), X, method="fe", df="knapp-hartung"),
            "ME": imaging.mixed_effects(Y, V, X),
            "plain": imaging.mixed_effects(Y, V, X, df="knapp-hartung"),
        }
        for name, fit in fits.items():
            found[name].append(np.mean(fit.contrast([1.0]).p_value < LEVEL))
    error = REALISATIONS**-0.5
    return {k: (np.mean(v), np.std(v, ddof=1) * error) for k, v in found.items()}


@pytest.mark.parametrize("K", [12, 30])
def test_false_positives_and_power(K):
    null, power = shares(K, 0.0, K), shares(K, 0.5, 100 + K)
    mean, error = null["ME"]
    assert mean <= LEVEL + 0.005 + 3 * error  # the default holds its level
    assert null["FE"][0] > LEVEL + 0.04  # fixed effects do not
    assert abs(null["RE"][0] - LEVEL) < 0.008 + 3 * null["RE"][1]
    assert null["plain"][0] >= mean  # the plain factor rejects more
    assert power["ME"][0] > power["RE"][0] + (0.015 if K == 12 else 0.05)


def test_flips_hold_their_level_and_the_largest_statistic_its_own():
    rng = np.random.default_rng(8)
    K, N, runs = 8, 40, 150
    single, whole = [], []
    for _ in range(runs):
        V = np.exp(0.7 * rng.normal(size=(K, 1))) * rng.uniform(0.8, 1.2, (K, N))
        Y = rng.normal(size=V.shape) * np.sqrt(V + 0.3)
        found = imaging.sign_flips(Y, V, np.ones((K, 1)), n_perm="exact")
        assert found.exact
        single.append(np.mean(found.p_value <= LEVEL))
        whole.append(found.logp_max_t.max() >= -np.log10(LEVEL))
    assert abs(np.mean(single) - LEVEL) < 0.01
    assert stats.binomtest(int(np.sum(whole)), runs, LEVEL).pvalue > 0.001
