"""Draws and refits of generalised models, against integrals over the effects by brute force."""

from __future__ import annotations

import numpy as np
import pytest

import ranef
from ranef.errors import DataError

NODES, WEIGHTS = np.polynomial.hermite_e.hermegauss(60)


def diary() -> dict[str, np.ndarray]:
    """Binary, 150 people with three days each, cells missing: skewed posteriors."""
    rng = np.random.default_rng(31)
    person = np.repeat(np.arange(150), 3)
    x = rng.normal(size=450)
    eta = -1.2 + 0.7 * x + 2.0 * rng.normal(size=150)[person]
    y = (rng.random(450) < 1 / (1 + np.exp(-eta))).astype(float)
    y[rng.choice(450, 40, replace=False)] = np.nan
    return {"y": y, "x": x, "person": person}


@pytest.fixture(scope="module")
def binary():
    data = diary()
    return ranef.glmm("y ~ x + (1 | person)", data, family="binomial", quadrature=25), data


def exact_means(fit, data, x_new: np.ndarray) -> np.ndarray:
    """E(y_new | data) at each person's x_new, by quadrature at the estimates: (150,)."""
    a, b = fit.coef
    sd = fit.tidy("variance")["estimate"].iloc[0]
    kept = np.isfinite(data["y"])
    p = 1 / (1 + np.exp(-((a + b * data["x"])[:, None] + sd * NODES)))
    terms = np.where(kept[:, None], np.where(data["y"][:, None] == 1, p, 1 - p), 1.0)
    weight = WEIGHTS * np.multiply.reduceat(terms, np.arange(0, 450, 3), axis=0)
    new = 1 / (1 + np.exp(-((a + b * x_new)[:, None] + sd * NODES)))
    return (new * weight).sum(axis=1) / weight.sum(axis=1)


def test_posterior_draws_have_the_integral_s_means(binary):
    """The normal approximation is 6 standard errors off for people without an event."""
    fit, data = binary
    used = np.isfinite(data["y"])
    people = np.intersect1d(np.arange(150), data["person"][used])
    x_new = np.full(len(people), 0.3)
    new = {"x": np.repeat(x_new, 10), "person": np.repeat(people, 10)}
    drawn = fit.simulate(300, rng=4, kind="posterior", new=new).to_numpy()
    means = drawn.reshape(len(people), -1).mean(axis=1)
    exact = exact_means(fit, data, np.full(150, 0.3))[people]
    events = np.bincount(data["person"][used], data["y"][used], 150)[people]
    for group in (events == 0, events > 0):
        gap = (means[group] - exact[group]).mean()
        sd = (means[group] - exact[group]).std() / np.sqrt(group.sum())
        assert abs(gap) < 4 * sd
        assert abs(gap) < 0.004


def test_posterior_draws_with_drawn_parameters_scatter_more_and_agree_in_the_mean(binary):
    fit, _ = binary
    fixed = fit.simulate(200, rng=1, kind="posterior")
    drawn = fit.simulate(200, rng=1, kind="posterior", parameters="draw")
    totals = [np.nansum(d.to_numpy(), axis=0) for d in (fixed, drawn)]
    assert totals[1].std() > totals[0].std()
    assert totals[1].mean() == pytest.approx(totals[0].mean(), rel=0.03)


def test_many_refits_are_the_same_bits_on_any_number_of_threads(binary):
    fit, _ = binary
    Y = fit.simulate(7, rng=2)
    one, two = (fit.refit(Y, n_jobs=jobs) for jobs in (1, 3))
    for name in ("coef", "theta", "loglik", "evaluations", "converged"):
        np.testing.assert_array_equal(getattr(one, name), getattr(two, name))
    alone = fit.refit(Y["sim_3"])
    np.testing.assert_array_equal(one.coef[2], alone.coef)


def test_a_response_that_cannot_be_refitted_is_named(binary):
    fit, _ = binary
    Y = fit.simulate(3, rng=2)
    Y["sim_2"] = 0.5
    with pytest.raises(DataError, match="response 'sim_2'"):
        fit.refit(Y)
