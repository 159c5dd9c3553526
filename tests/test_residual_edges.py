"""Residuals whose covariance is singular beside random effects: proved there, with all digits."""

from __future__ import annotations

import numpy as np
import pytest

import ranef
from ranef.errors import ModelError

pd = pytest.importorskip("pandas")


def table(seed: int, persons: int = 25, visits: int = 4):
    """Visits of which some were missed; what a person does at one is made up for at others."""
    rng = np.random.default_rng(seed)
    g, t = np.repeat(np.arange(persons), visits), np.tile(np.arange(visits), persons)
    e = rng.normal(size=(persons, visits))
    e = (e - e.mean(axis=1, keepdims=True)) * np.array([1.0, 1.6, 0.7, 2.0])[:visits]
    y = np.repeat(rng.normal(size=persons), visits) + e.ravel()
    rows = pd.DataFrame({"g": g, "t": t, "x": rng.normal(size=len(y)), "y": y})
    return rows[rng.random(len(y)) > 0.1]


def dense(rows, fit, rho: float, reml: bool, by: float = 1.0) -> float:
    """-2 log L at the standard deviations of a fit, that of the persons times `by`."""
    found = fit.tidy("variance")
    sd = found.query("component == 'residual' and parameter == 'sd'").estimate.to_numpy()
    psi = (by * found.query("group == 'g' and parameter == 'sd'").estimate.item()) ** 2
    s = sd[rows.t.to_numpy()]
    same = np.equal.outer(rows.g.to_numpy(), rows.g.to_numpy())
    V = np.where(same, psi + rho * np.outer(s, s), 0.0) + (1 - rho) * np.diag(s**2)
    X, y = np.column_stack([np.ones(len(rows)), rows.x]), rows.y.to_numpy()
    half = np.linalg.solve(V, X)
    A = X.T @ half
    r = y - X @ np.linalg.solve(A, half.T @ y)
    m = len(y) - 2 if reml else len(y)
    value = m * np.log(2 * np.pi) + float(r @ np.linalg.solve(V, r)) + np.linalg.slogdet(V)[1]
    return float(value + np.linalg.slogdet(A)[1] if reml else value)


@pytest.mark.parametrize("reml", [True, False])
@pytest.mark.parametrize("seed", [2, 3])
def test_equal_correlations_at_their_end_are_proved(seed, reml, agree):
    rows = table(seed)
    fit = ranef.lmm("y ~ x + (1 | g)", rows, residual="cs(t | g)", reml=reml)
    assert fit.optimum.converged
    assert any("singular beside the random effects" in end for end in fit.optimum.ends)
    rho, most = float(fit.theta[-1]), rows.groupby("g").size().max()
    assert abs(rho + 1 / (most - 1)) < 1e-4
    own = dense(rows, fit, rho, reml)
    agree(
        "ranef.lmm", "criterion where the residuals are singular beside an intercept",
        fit.optimum.criterion, own, peer="dense matrices", atol=1e-5,
    )  # fmt: skip
    near = [dense(rows, fit, rho + b, reml, a) for a in (0.97, 1.0, 1.03) for b in (0.0, 1e-3)]
    assert min(near) > own - 1e-5
    found = fit.tidy("variance").set_index("parameter")
    assert np.isfinite(found.estimate).all()
    assert np.isfinite(fit.tidy().std_error).all()


def test_the_words_say_where_it_is():
    fit = ranef.lmm("y ~ x + (1 | g)", table(2), residual="cs(t | g)")
    assert "singular beside the random effects" in str(fit.summary())


def test_a_likelihood_without_a_bound_is_still_refused():
    rows = table(4)
    flat = rows.assign(y=rows.groupby("g").y.transform("mean"))
    with pytest.raises(ModelError):
        ranef.lmm("y ~ 1", flat, residual="homcs(t | g)")


SEEDS = {23: 69.07831, 37: 131.73071, 157: 71.71919, 167: 246.02277, 646: 259.45419, 662: 181.42005}


@pytest.mark.filterwarnings("ignore::ranef.errors.RankWarning")
@pytest.mark.parametrize("seed", SEEDS)
def test_problems_of_the_study_that_ended_unproved(seed):
    from test_study_residuals import random_problem

    formula, structure, rows, _ = random_problem(seed)
    fit = ranef.lmm(formula, rows, residual=structure, reml=bool(seed % 2))
    assert fit.optimum.converged
    assert abs(fit.optimum.criterion - SEEDS[seed]) < 2e-4
    # 662 has a random intercept beside residuals that are equally correlated
    assert bool(fit.optimum.flat) == (seed == 662)


@pytest.mark.parametrize("kind", ["ar1", "cs", "us", "ou", "toep", "hetar1"])
def test_groups_of_one_row_have_nothing_to_correlate(kind):
    rows = table(3).groupby("g").head(1)
    rows = rows.assign(t=np.arange(len(rows)) % 3)
    with pytest.raises(ModelError, match=r"no group with two rows: nothing to correlate\. Leave"):
        ranef.lmm("y ~ x", rows, residual=f"{kind}(t | g)")
