"""Marginal coefficients of the mixed model and of estimating equations, run by ``make study``.

Under the probit link a normal random intercept leaves a probit of the population, and under the log
link a log, so that there both models are right: over 500 draws they agree, with each other and
with the truth, within Monte Carlo error.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy.special import ndtr

import ranef

pytestmark = pytest.mark.study

DRAWS = 500
WITHIN = 3.5
"""Monte Carlo errors that a mean over the draws may lie from what it estimates."""
BETA, SD, CLUSTERS, ROWS = np.array([-0.4, 0.6, 0.5]), 0.9, 80, 6


def table_of(family: str, rng: np.random.Generator) -> pd.DataFrame:
    g = np.repeat(np.arange(CLUSTERS), ROWS)
    x, z = rng.normal(size=len(g)), (g % 2).astype(float)
    eta = BETA[0] + BETA[1] * x + BETA[2] * z + SD * rng.normal(size=CLUSTERS)[g]
    y = rng.random(len(g)) < ndtr(eta) if family == "binomial" else rng.poisson(np.exp(eta))
    return pd.DataFrame({"g": g, "x": x, "z": z, "y": y.astype(float)})


@pytest.mark.parametrize(("family", "link"), [("binomial", "probit"), ("poisson", "log")])
def test_both_are_right(family, link):
    rng = np.random.default_rng(7)
    truth = (
        BETA / np.sqrt(1 + SD**2) if link == "probit" else BETA + np.array([SD**2 / 2, 0.0, 0.0])
    )
    population, marginal, apart = [], [], 0
    for _ in range(DRAWS):
        both = ranef.two_answers(
            "y ~ x + z", table_of(family, rng), groups="g", family=family, link=link
        )
        population.append(both.population.estimate)
        marginal.append(both.gee.estimate)
        apart += len(both.apart) > 0
    estimates = {"population": np.array(population), "gee": np.array(marginal)}
    difference = estimates["gee"] - estimates["population"]
    print(f"\n{family}, {link}: truth {truth.round(4)}")
    for name, values in estimates.items():
        error = values.std(axis=0, ddof=1) / np.sqrt(DRAWS)
        print(f"{name}: mean {values.mean(axis=0).round(4)}, Monte Carlo error {error.round(4)}")
    error = difference.std(axis=0, ddof=1) / np.sqrt(DRAWS)
    print(f"difference: {difference.mean(axis=0).round(5)}, Monte Carlo error {error.round(5)}")
    print(f"called different: {apart} of {DRAWS}")
    assert (np.abs(difference.mean(axis=0)) < np.maximum(WITHIN * error, 0.02 * abs(truth))).all()
    for values in estimates.values():
        spread = values.std(axis=0, ddof=1) / np.sqrt(DRAWS)
        # of the order of one over the clusters both are biased
        room = WITHIN * spread + 2.0 / CLUSTERS * np.abs(truth)
        assert (np.abs(values.mean(axis=0) - truth) < room).all()
    assert apart < 0.06 * DRAWS  # 4% by chance
