"""Recovery and coverage of models whose residuals have a structure; runs by ``make study``."""

from __future__ import annotations

import os

import numpy as np
import pytest
from study_structures import MODELS, study

import ranef

pytestmark = pytest.mark.study

SEED = int(os.environ.get("RANEF_SEED", "20"))
REPLICATES = int(os.environ.get("RANEF_REPLICATES", "300"))


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.filterwarnings("ignore")
def test_recovery_and_coverage(name):
    """Intervals hold the truth, estimates lie around it; of parameters Wald's, in small samples.

    An interval of Kenward and Roger covers within three standard errors of the simulation; those
    of standard deviations, correlations and ranges, together, within three and two points of
    small-sample bias.
    """
    found = study(name, REPLICATES, SEED)
    print(
        f"{name}: seed {SEED}, {found.draws} draws, {found.failed} failed; fixed effect "
        f"{100 * found.fixed:.1f}%, parameters {100 * np.nanmean(found.parameters):.1f}% "
        f"({100 * found.missing:.1f}% at an end)"
    )
    error = np.sqrt(0.95 * 0.05 / (found.draws - found.failed))
    assert found.failed <= 0.02 * found.draws
    assert abs(found.fixed - 0.95) < 3 * error
    assert found.missing < 0.15
    assert abs(np.nanmean(found.parameters) - 0.95) < 3 * error + 0.02
    assert np.all(np.abs(found.bias) < 4 * found.spread + 0.05 * np.maximum(1, abs(found.truth)))


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
