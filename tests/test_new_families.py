"""Families of glmmTMB 1.1.8 and later, and links: fits against brute force.

Debian's glmmTMB (1.1.5) has none of them. The likelihood is integrated here by a fine
grid over scipy's densities (and Bell's numbers by their recursion), and no small move of a
parameter raises it.
"""

from __future__ import annotations

from math import comb

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from scipy.special import gammaln, lambertw

import ranef
from ranef.errors import ModelError
from ranef.families import FAMILIES, family

LEVELS, ROWS = 30, 20


def log_bell_numbers(n: int) -> np.ndarray:
    numbers = [1]
    for k in range(n):
        numbers.append(sum(comb(k, j) * numbers[j] for j in range(k + 1)))
    return np.array([float(np.log(float(b))) for b in numbers])


BELL = log_bell_numbers(80)


def skewnormal(y, mu, sigma, alpha):
    delta = alpha / np.sqrt(1 + alpha**2)
    omega = sigma / np.sqrt(1 - 2 * delta**2 / np.pi)
    return stats.skewnorm.logpdf(y, alpha, mu - omega * delta * np.sqrt(2 / np.pi), omega)


def nbinom12(y, mu, phi, psi):
    size = mu / (phi + mu / psi)
    return stats.nbinom.logpmf(y, size, size / (size + mu))


def bell(y, mu):
    theta = lambertw(mu).real
    return y * np.log(theta) - np.expm1(theta) + BELL[y.astype(int)] - gammaln(y + 1)


def positive(log_mass):
    return lambda y, *at: log_mass(y, *at) - np.log(-np.expm1(log_mass(np.zeros_like(y), *at)))


def wald(y, mu, phi):
    return stats.invgauss.logpdf(y, mu * phi, scale=1 / phi)


INVERSE = {
    "identity": lambda e: e,
    "log": np.exp,
    "sqrt": np.square,
    "logit": lambda e: 1 / (1 + np.exp(-e)),
    "1/mu^2": lambda e: e**-0.5,
}
EXP, SAME = np.exp, lambda v: v
# family, link, intercept, slope, sd, further predictors with their inverse links, log density
CASES = {
    "skewnormal": ("identity", 1.0, 0.5, 0.5, ((0.0, EXP), (3.0, SAME)), skewnormal),
    "skewnormal left": ("identity", 1.0, 0.5, 0.5, ((0.0, EXP), (-3.0, SAME)), skewnormal),
    "nbinom12": ("log", 1.4, 0.9, 0.5, ((0.9, EXP), (1.2, EXP)), nbinom12),
    "bell": ("log", 0.6, 0.3, 0.4, (), bell),
    "truncated_bell": ("log", 0.6, 0.3, 0.4, (), positive(bell)),
    "gaussian sqrt": ("sqrt", 2.0, 0.2, 0.3, ((-1.0, EXP),), stats.norm.logpdf),
    "gaussian logit": ("logit", 0.3, 0.3, 0.3, ((-2.0, EXP),), stats.norm.logpdf),
    "t sqrt": ("sqrt", 2.0, 0.2, 0.3, ((-1.0, EXP), (1.5, EXP)),
               lambda y, m, s, df: stats.t.logpdf(y, df, m, s)),
    "inverse.gaussian 1/mu^2": ("1/mu^2", 3.0, 0.3, 0.25, ((-1.0, EXP),), wald),
}  # fmt: skip


@pytest.fixture(scope="module", params=CASES)
def case(request):
    link, intercept, slope, sd, others, log_density = CASES[request.param]
    name = request.param.split()[0]
    rng = np.random.default_rng(4)
    g, x = np.repeat(np.arange(LEVELS), ROWS), rng.normal(size=LEVELS * ROWS)
    eta = intercept + slope * x + sd * rng.normal(size=LEVELS)[g]
    if link == "1/mu^2":
        eta = np.maximum(eta, 0.5)
    etas = np.vstack([eta, *(np.full(eta.size, value) for value, _ in others)])
    y = family(name, link).simulate(rng, etas)
    table = pd.DataFrame({"y": y, "x": x, "g": g})
    fit = ranef.glmm("y ~ x + (1 | g)", table, family=name, link=link, quadrature=21)
    return fit, table, log_density, [inverse for _, inverse in others], INVERSE[link]


def log_likelihood(case, coefficients, sd):
    """By the trapezoidal rule on 1,500 nodes of the standardised effect."""
    _, table, log_density, others, mean = case
    nodes = np.linspace(-7.5, 7.5, 1500)
    weights = np.exp(-0.5 * nodes**2)
    x, y = table["x"].to_numpy(), table["y"].to_numpy()
    eta = coefficients[0] + coefficients[1] * x
    shapes = [inverse(v) for inverse, v in zip(others, coefficients[2:], strict=True)]
    with np.errstate(all="ignore"):
        rows = log_density(y[:, None], mean(eta[:, None] + sd * nodes), *shapes)
    rows = np.where(np.isnan(rows), -np.inf, rows)
    by_level = rows.reshape(LEVELS, ROWS, -1).sum(axis=1)
    top = by_level.max(axis=1, keepdims=True)
    inside = np.exp(by_level - top) @ (weights / weights.sum())
    return float((top[:, 0] + np.log(inside)).sum())


def test_the_likelihood_is_that_of_brute_force(case, agree):
    fit = case[0]
    assert fit.optimum.converged
    here = log_likelihood(case, fit.coefficients, fit.estimate.theta[0])
    what = f"log-likelihood, {fit.family.name} ({fit.family.link}), 21 nodes, simulated"
    agree("ranef.glmm", what, fit.loglik, here, peer="textbook density, 1,500 nodes", atol=2e-6)


def test_no_move_of_a_parameter_raises_it(case):
    fit = case[0]
    at = np.append(fit.coefficients, fit.estimate.theta)
    here = log_likelihood(case, at[:-1], at[-1])
    for j in range(len(at)):
        step = np.zeros(len(at))
        step[j] = 0.01 * max(abs(at[j]), 0.1)
        for move in (step, -step):
            assert log_likelihood(case, (at + move)[:-1], (at + move)[-1]) < here + 1e-6


def test_files_and_draws(case, tmp_path):
    fit = case[0]
    fit.save(tmp_path / "fit.ranef")
    assert str(ranef.load(tmp_path / "fit.ranef")) == str(fit)
    drawn = fit.simulate(1, rng=1)["sim_1"]
    assert fit.refit(drawn).loglik == pytest.approx(fit.loglik, rel=0.25)


def test_the_limits_of_nbinom12():
    y = np.arange(60.0)
    one, two, both = (family(name) for name in ("nbinom1", "nbinom2", "nbinom12"))
    mean, phi = np.full(60, 1.3), np.full(60, 0.4)
    np.testing.assert_allclose(
        both.log_density(y, [mean, phi, np.full(60, 40.0)]),
        one.log_density(y, [mean, phi]),
        rtol=1e-12,
    )
    np.testing.assert_allclose(
        both.log_density(y, [mean, np.full(60, -40.0), phi]),
        two.log_density(y, [mean, phi]),
        rtol=1e-12,
    )


def test_bell_far_out():
    """Log probabilities sum to one where counts are large."""
    y = np.arange(3000.0)
    for eta in (0.0, 3.0, 6.0):
        total = np.exp(family("bell").log_density(y, np.full((1, y.size), eta))).sum()
        assert total == pytest.approx(1.0, abs=1e-10)


def test_a_skew_normal_without_skew_is_normal():
    y = np.linspace(-3, 3, 7)
    at = np.array([[0.2], [0.3], [0.0]]) + np.zeros((3, 7))
    np.testing.assert_allclose(
        family("skewnormal").log_density(y, at),
        family("gaussian").log_density(y, at[:2]),
        rtol=1e-13,
    )


def test_names_and_links():
    assert {"skewnormal", "bell", "nbinom12", "truncated_bell", "truncated_nbinom12"} < {*FAMILIES}
    with pytest.raises(ModelError, match="did you mean 'skewnormal'"):
        family("skew_normal")
    assert family("inverse.gaussian", link="1/mu^2").link_function(0.5) == pytest.approx(4.0)
    with pytest.raises(ModelError, match="takes no link"):
        family("poisson", link="1/mu^2")


def test_there_is_no_population_mean_of_the_inverse_square():
    rng = np.random.default_rng(1)
    table = pd.DataFrame({"g": np.repeat(np.arange(10), 8), "y": rng.wald(0.6, 2.0, 80)})
    fit = ranef.glmm(
        "y ~ 1 + (1 | g)", table, family="inverse.gaussian", link="1/mu^2", fixed={"sd: g": 0.2}
    )
    with pytest.raises(ModelError, match=r"no population mean.*kind='typical'"):
        ranef.emmeans(fit, "~ 1", kind="population")
