"""Counts of a million to ten thousand millions: densities to the last digits, and proofs."""

from __future__ import annotations

import warnings
from decimal import Decimal, getcontext

import numpy as np
import pytest

import ranef

getcontext().prec = 60

BERNOULLI = [(1, 6), (-1, 30), (1, 42), (-1, 30), (5, 66), (-691, 2730), (7, 6)]
HALF_LOG_2PI = Decimal("0.918938533204672741780329736405617639861397473637783412817151540")


def log_gamma(x: Decimal) -> Decimal:
    """Stirling's series from 60 on; smaller arguments are carried there."""
    shift = Decimal(0)
    while x < 60:
        shift += x.ln()
        x += 1
    series = sum(
        Decimal(a) / Decimal(b) / (2 * k * (2 * k - 1) * x ** (2 * k - 1))
        for k, (a, b) in enumerate(BERNOULLI, 1)
    )
    return (x - Decimal("0.5")) * x.ln() - x + HALF_LOG_2PI + series - shift


def poisson(y: Decimal, log_mu: Decimal) -> Decimal:
    return y * log_mu - log_mu.exp() - log_gamma(y + 1)


def negative_binomial(y: Decimal, log_mu: Decimal, log_size: Decimal) -> Decimal:
    mu, size = log_mu.exp(), log_size.exp()
    choose = log_gamma(y + size) - log_gamma(size) - log_gamma(y + 1)
    return choose + size * (size / (size + mu)).ln() + y * (mu / (size + mu)).ln()


def value(family, y: float, *etas: float) -> float:
    found = family.core(False).evaluate(np.array([y]), None, np.array(etas)[:, None], 0, [])
    return float(found[0, 0])


@pytest.mark.parametrize("y", [16385.0, 3e5, 1e7, 1e9, 1e11])
def test_densities_keep_their_digits(y):
    """Written as y log(mu) - mu - log y! they have lost 1e-6 at 1e9.

    What remains is the rounding of log(mu) itself: |y - mu| times its last digit.
    """
    for away in (0.0, 1e-5, -1e-3, 0.05):
        log_mu = float(np.log(y) + away)
        last = 4e-15 * abs(y * np.expm1(away)) + 2e-8 * y * 4e-15 + 2e-13
        exact = poisson(Decimal(y), Decimal(log_mu))
        error = abs(value(ranef.families.Poisson(), y, log_mu) - float(exact))
        assert error < last + 2e-16 * abs(float(exact))
        for log_size in (-1.0, 1.8, 8.0, float(np.log(y)), float(np.log(y)) + 3):
            size = np.exp(log_size)
            exact = negative_binomial(Decimal(y), Decimal(log_mu), Decimal(log_size))
            found = value(ranef.families.NegativeBinomial2(), y, log_mu, log_size)
            enough = last + 4e-14 * min(size, y) * (1 + abs(away)) + 1e-15 * abs(float(exact))
            assert abs(found - float(exact)) < enough


@pytest.mark.parametrize(
    "family", [ranef.families.Poisson(), ranef.families.NegativeBinomial1(),
               ranef.families.NegativeBinomial2()],
)  # fmt: skip
def test_the_two_forms_meet(family):
    """Rows of 16,384 and 16,385: one is written in full, the other by its deviance."""
    core = family.core(False)
    etas = np.repeat([[np.log(16390.0)], [1.3]], 2, axis=1)[: core.predictors]
    active = list(range(core.predictors))
    found = core.evaluate(np.array([16384.0, 16385.0]), None, etas, 2, active)
    np.testing.assert_allclose(found[0, 1], found[0, 0], rtol=3e-4)
    np.testing.assert_allclose(found[1:, 1], found[1:, 0], rtol=1e-3, atol=1.01)


def reads(scale: float, shape: float | None, slope: float = 0.0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(1)
    g, x = np.repeat(np.arange(20), 10), rng.normal(size=200)
    b = rng.normal(size=(20, 2))[g]
    mu = scale * np.exp(0.3 * x + 0.4 * b[:, 0] + slope * b[:, 1] * x)
    if shape is not None:
        mu = mu * rng.gamma(shape, 1 / shape, 200)
    return {"y": rng.poisson(mu), "x": x, "g": g}


@pytest.mark.parametrize("scale", [1e7, 1e9])
@pytest.mark.parametrize(("random", "slope"), [("(1 | g)", 0.0), ("(x | g)", 0.2)])
def test_optima_are_proved_and_silent(scale, random, slope):
    """At 1e7 and 1e9 the search ended in "no further decrease", or in a ValueError."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        spread = reads(scale, 50.0, slope)
        fit = ranef.glmm(f"y ~ x + {random}", spread, family="nbinom2")
        bare = ranef.glmm(f"y ~ x + {random}", reads(scale, None, slope), family="poisson")
    assert fit.optimum.converged
    assert bare.optimum.converged
    assert bare.coef.iloc[1] == pytest.approx(0.3, abs=3e-4 if slope == 0 else 0.15)


def test_what_large_counts_say_of_groups_is_what_logs_say():
    """With counts of 1e9 and size 50, log y is normal but for its skewness: the same answer."""
    data = reads(1e9, 50.0)
    fit = ranef.glmm("y ~ x + (1 | g)", data, family="nbinom2")
    logs = ranef.lmm("log(y) ~ x + (1 | g)", data, reml=False)
    np.testing.assert_allclose(
        fit.tidy("variance")["estimate"].iloc[0],
        logs.tidy("variance")["estimate"].iloc[0],
        rtol=0.01,
    )
    np.testing.assert_allclose(fit.coef, logs.coef + np.array([0.01, 0.0]), rtol=1e-3, atol=2e-3)
