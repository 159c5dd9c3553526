"""Searches that began where a link or a family has no likelihood: they begin elsewhere now."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

import ranef


def counts(seed: int, family: str) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    g, x = np.repeat(np.arange(20), 10), rng.normal(size=200)
    m, size = rng.choice([0.3, 1, 3, 10, 40]), rng.choice([0.5, 2, 20])
    mu = m * np.exp(0.4 * x + 0.5 * rng.normal(size=20)[g])
    y = rng.negative_binomial(size, size / (size + mu))
    kept = y > 0 if family.startswith("truncated") else y >= 0
    return {"y": y[kept], "x": x[kept], "g": g[kept]}


@pytest.mark.parametrize(
    ("seed", "family", "link"),
    [
        (4, "truncated_poisson", "inverse"),
        (5, "genpois", "inverse"),
        (13, "truncated_genpois", "inverse"),
        (20, "truncated_genpois", "sqrt"),
        (21, "truncated_nbinom2", "inverse"),
        (29, "genpois", "inverse"),
    ],
)
def test_a_finite_start_is_found(seed, family, link):
    data = counts(seed, family)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fit = ranef.glmm("y ~ x + (1 | g)", data, family=family, link=link)
        flat = ranef.glmm("y ~ 1 + (1 | g)", data, family=family, link=link)
    assert np.isfinite(fit.loglik)
    assert fit.loglik > flat.loglik - 1e-6
    assert np.all(fit.fitted("typical") > 0)
