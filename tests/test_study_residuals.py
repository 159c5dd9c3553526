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


STRUCTURES = (
    "us(t | g)", "cs(t | g)", "homcs(t | g)", "ar1(t | g)", "hetar1(t | g)", "toep(t | g)",
    "homtoep(t | g)", "ante(t | g)", "homante(t | g)", "arma(t | g, p=1, q=1)", "car1(c | g)",
    "ou(c | g)", "ou(c | g, nugget=True)", "exp(c | g, nugget=True)", "gau(c | g, nugget=True)",
)  # fmt: skip
PROBLEMS, FROM_ELSEWHERE = 600, 6


def random_problem(seed: int) -> tuple[str, str, dict[str, np.ndarray], np.random.Generator]:
    """A formula, a structure and a table, a generator for what follows."""
    rng = np.random.default_rng(seed)
    n, m = int(rng.integers(6, 40)), int(rng.integers(3, 7))
    t, g = np.tile(np.arange(m), n), np.repeat(np.arange(n), m)
    phi, e = rng.uniform(-0.8, 0.95), rng.normal(size=(n, m))
    for j in range(1, m):
        e[:, j] = phi * e[:, j - 1] + np.sqrt(1 - phi**2) * e[:, j]
    e = e * np.exp(rng.normal(0, 0.5, size=m)) + rng.choice([0, 1.0]) * rng.normal(size=(n, 1))
    e = e + rng.choice([0, 0.5]) * rng.normal(size=(n, m))
    x = rng.normal(size=n * m)
    kept = rng.random(n * m) > rng.choice([0, 0.15])
    table = {
        "g": g[kept].astype(str), "t": t[kept], "x": x[kept], "y": (e.ravel() + 0.5 * x)[kept],
        "c": (np.arange(m) + rng.uniform(0, 0.6, size=(n, m))).ravel()[kept],
    }  # fmt: skip
    random = ("", " + (1 | g)", " + (x | g)")[(seed // len(STRUCTURES)) % 3]
    return f"y ~ x{random}", STRUCTURES[seed % len(STRUCTURES)], table, rng


def elsewhere(problem, reml, rng):
    """A random theta at which the criterion is defined, or None."""
    for _ in range(30):
        random = np.exp(rng.normal(-0.5, 1.0, problem.n_random)) * problem.units[: problem.n_random]
        own = problem.rows.starts()[0].copy()
        for k, (low, high) in enumerate(problem.rows.limits):
            if problem.rows.positive[k]:
                own[k] *= np.exp(rng.normal(0, 1.2))
            elif np.isfinite(high - low):
                own[k] = rng.uniform(low, high)
            else:
                own[k] += rng.normal(0, 0.5)
        theta = np.concatenate([random, own])
        if problem.point(theta, reml, 0) is not None:
            return theta
    return None


@pytest.mark.filterwarnings("ignore")
def test_proved_optima_are_not_beaten_from_elsewhere():
    """600 random problems, each searched again from random thetas.

    Counted are ends that are proved and not next to a singular covariance, where the likelihood
    of some models has no bound.
    """
    from ranef.solve.structured.problem import structured_problem
    from ranef.solve.structured.search import search

    beaten, proved = [], 0
    for seed in range(SEED, SEED + PROBLEMS):
        formula, structure, table, rng = random_problem(seed)
        reml = bool(seed % 2)
        try:
            fit = ranef.lmm(formula, table, residual=structure, reml=reml)
        except ranef.errors.ModelError:
            continue
        if not fit.optimum.converged:
            continue
        proved += 1
        problem = structured_problem(fit.estimate.specification)
        for _ in range(FROM_ELSEWHERE):
            theta = elsewhere(problem, reml, rng)
            found = None if theta is None else search(problem, [theta], reml, 300)
            if found is None or not found.converged:
                continue
            inside = problem.least_pivot(found.at.theta) > 1e-6
            if inside and found.at.criterion < fit.optimum.criterion - 2e-4:
                beaten.append((seed, formula, structure))
                break
    print(f"seed {SEED}: {proved} of {PROBLEMS} proved, {len(beaten)} beaten: {beaten}")
    assert proved > 0.75 * PROBLEMS
    assert not beaten
