"""Recovery and coverage of models whose residuals have a structure; runs by ``make study``."""

from __future__ import annotations

import os
from dataclasses import replace

import numpy as np
import pytest

import ranef
from ranef.inference.kinds import inference_of

pytestmark = pytest.mark.study

SEED = int(os.environ.get("RANEF_SEED", "20"))
REPLICATES = 300

MODELS = {
    "ar1": ("y ~ x + (1 | g)", "ar1(t | g)", [0.6, 0.5]),
    "ou": ("y ~ x + (1 | g)", "ou(t | g)", [0.6, 2.0]),
    "homcs": ("y ~ x", "homcs(t | g)", [0.3]),
    "us": ("y ~ x + arm", "us(t | g)", None),
    "hetar1": ("y ~ x", "hetar1(t | g)", None),
}


@pytest.mark.parametrize("name", MODELS)
def test_recovery_and_coverage(name):
    """Estimates without bias beyond Monte Carlo error and small-sample bias; intervals cover."""
    formula, residual, theta = MODELS[name]
    rng = np.random.default_rng(SEED)
    print(f"{name}: seed {SEED}")
    n, m = 40, 5
    data = {
        "g": np.repeat(np.arange(n), m),
        "t": np.tile(np.arange(m, dtype=float), n),
        "x": rng.normal(size=n * m),
        "arm": np.repeat(np.where(np.arange(n) % 2, "a", "b"), m),
        "y": rng.normal(size=n * m),
    }
    first = ranef.lmm(formula, data, residual=residual)
    own = first.estimate
    if theta is None:
        theta = own.theta.copy()
    truth = replace(
        own,
        theta=np.asarray(theta, dtype=float),
        sigma=1.0,
        coefficients=np.arange(len(own.coefficients), dtype=float),
        covariances=tuple(np.array([[theta[0] ** 2]]) for _ in own.covariances),
    )
    responses = inference_of(truth).simulate(REPLICATES, rng)
    inside, thetas = [], []
    for y in responses.T:
        fit = first.refit(y)
        row = fit.tidy(df="kenward-roger").iloc[1]
        inside.append(row["conf_low"] < truth.coefficients[1] < row["conf_high"])
        thetas.append(fit.theta)
    assert abs(np.mean(inside) - 0.95) < 3 * np.sqrt(0.95 * 0.05 / REPLICATES)
    middle = np.median(thetas, axis=0)
    spread = np.std(thetas, axis=0) / np.sqrt(REPLICATES)
    assert np.all(np.abs(middle - truth.theta) < 6 * spread + 0.05 * np.maximum(1, np.abs(middle)))
