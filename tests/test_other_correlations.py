"""Generalised models whose effects are correlated by a structure: the best of several optima.

The tables are drawn; what is right is the best log-likelihood that searches from a grid of starts
(`start=`) find, and for a correlation of one that of the random intercept, which is that model.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from agreement import Agree
from scipy.special import gammaln

import ranef

STARTS = {
    "ar1": (0.99, 0.7, 0.3, -0.5),
    "ou": (1e-3, 0.3, 1.0, 3.0),
    "exp": (1e3, 10.0, 1.0, 0.3),
    "gau": (1e3, 10.0, 1.0, 0.3),
}
DRAWN = {
    20: ("ou", "nbinom2"),
    52: ("ar1", "nbinom2"),
    73: ("ar1", "nbinom2"),
    84: ("ou", "nbinom2"),
    109: ("exp", "nbinom2"),
    167: ("gau", "nbinom2"),
    198: ("gau", "nbinom1"),
    242: ("exp", "nbinom1"),
    331: ("gau", "nbinom2"),
}
"""Seeds at which one search ended lower, by up to 1.8, or at a correlation of one that was none."""


def counts(seed: int) -> pd.DataFrame:
    """Counts of a few times in each group, with effects that are the same at all of them."""
    rng = np.random.default_rng(seed)
    q, m = rng.integers(8, 25), rng.integers(3, 6)
    g, t = np.repeat(np.arange(q), m), np.tile(np.arange(m) * 1.0, q)
    u, x = 0.6 * rng.normal(size=q), rng.normal(size=len(g))
    size, mu = rng.choice([0.5, 1, 3]), np.exp(1 + 0.3 * x + u[g])
    rng.choice(["nbinom2", "nbinom1", "poisson", "nbinom2"])
    y = rng.negative_binomial(size, size / (size + mu))
    return pd.DataFrame({"y": y, "x": x, "g": g, "t": t})


# some of the starts end where a coefficient diverges
@pytest.mark.filterwarnings("ignore::ranef.errors.ConvergenceWarning")
@pytest.mark.parametrize("seed", DRAWN)
def test_the_best_of_searches_from_a_grid(seed: int, agree: Agree) -> None:
    structure, family = DRAWN[seed]
    table, formula = counts(seed), f"y ~ x + {structure}(t | g)"
    fit = ranef.glmm(formula, table, family=family)
    others = [
        ranef.glmm(formula, table, family=family, start=[0.5, rho]).loglik
        for rho in STARTS[structure]
    ]
    others.append(ranef.glmm("y ~ x + (1 | g)", table, family=family).loglik)
    agree("ranef.glmm", f"log-likelihood, {structure}, {family}", max(fit.loglik, max(others)),
          fit.loglik, peer="the best of searches from a grid", atol=1e-5)  # fmt: skip
    assert all(face.curvature > -1e-4 for face in fit.optimum.faces)
    # the best may lie where the dispersion runs off to that of the Poisson family
    assert fit.optimum.converged or fit.estimate.runaway
    assert fit.optimum.starts > 1


def test_a_range_without_end_has_derivatives() -> None:
    """Its square is beyond the numbers."""
    from ranef.covariance import structure

    for kind in ("exp", "gau"):
        one = structure(kind, 3, positions=np.arange(3.0)[:, None])
        theta = np.array([1.0, 1e200])
        assert np.isfinite(one.derivatives(theta)).all()
        assert np.isfinite(one.second_derivatives(theta)).all()


@pytest.mark.parametrize("seed", [1, 40])
def test_a_gaussian_kernel_of_counts_proved_at_zero_has_no_lower_point(seed: int) -> None:
    """Laplace's criterion by dense algebra on a grid of standard deviations, ranges and means."""
    levels, times = 8, np.arange(6.0)
    distance = np.subtract.outer(times, times) ** 2
    one, many = np.eye(6), np.arange(8).repeat(6)
    rng = np.random.default_rng(seed)
    wave = np.exp(-distance / 2.25) * 0.05 + 1e-9 * one
    u = rng.multivariate_normal(np.zeros(6), wave, size=levels)
    y = rng.poisson(np.exp(0.7 + u.ravel()))
    table = pd.DataFrame({"g": many, "t": np.tile(times, levels), "y": y})
    fit = ranef.glmm("y ~ 1 + gau(t | g)", table, family="poisson")
    assert fit.optimum.converged
    assert fit.tidy("variance")["estimate"][0] == 0
    Y = y.reshape(levels, 6)

    def loglik(b: float, sd: float, reach: float) -> float:
        K = sd**2 * (np.exp(-distance / reach**2) + 1e-8 * one)
        inverse, u = np.linalg.inv(K), np.zeros((levels, 6))
        for _ in range(60):
            mu = np.exp(b + u)
            H = inverse + mu[:, :, None] * one
            step = np.linalg.solve(H, (mu - Y + u @ inverse)[:, :, None])[:, :, 0]
            u = u - step / max(1.0, np.abs(step).max())
        mu = np.exp(b + u)
        determinant = np.linalg.slogdet(one + mu[:, :, None] * K)[1].sum()
        prior = np.einsum("ki,ij,kj", u, inverse, u)
        return float((Y * (b + u) - mu - gammaln(Y + 1)).sum() - 0.5 * (prior + determinant))

    highest = max(
        loglik(np.log(y.mean()) - sd**2 / 2 + moved, sd, reach)
        for sd in (0.02, 0.05, 0.1, 0.2, 0.4, 0.8)
        for reach in (0.3, 1.0, 2.0, 5.0, 20.0)
        for moved in (-0.05, 0.0, 0.05)
    )
    assert highest < fit.loglik + 1e-6
