"""Long studies, run by ``make study``: local optima, and coverage by simulation."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
import shapes
from numpy.typing import NDArray

import ranef
from ranef.design import specify
from ranef.models.lmm import fit_lmm

pytestmark = pytest.mark.study

Floats = NDArray[np.float64]


def test_300_boundary_problems_reach_the_best_of_many_starts() -> None:
    """600 rows, three crossed terms, true sds from 0, 0.1, 0.5: no local optimum is taken."""
    rng = np.random.default_rng(20)
    missed = []
    for i in range(300):
        shape = shapes.boundary(i)
        spec = specify(shape.formula, shape.frame())
        e = fit_lmm(spec)
        starts = np.abs(rng.normal(size=(8, len(e.theta)))) * rng.choice([0.1, 0.5, 1, 3], (8, 1))
        best = max(fit_lmm(spec, start=start).loglik for start in starts)
        if not e.optimum.converged or 2 * (best - e.loglik) > 1e-4:
            missed.append((i, 2 * (best - e.loglik)))
    assert missed == []


def unbalanced_groups(rng: np.random.Generator) -> pd.DataFrame:
    """Six groups of about five rows, a slope between and one within groups."""
    sizes = np.array([3, 4, 5, 5, 6, 7])
    g = np.repeat(np.arange(6), sizes)
    x, w = rng.normal(size=len(g)), rng.normal(size=6)[g]
    y = 1 + 0.5 * x + 0.3 * w + rng.normal(size=6)[g] + rng.normal(size=len(g))
    return pd.DataFrame({"y": y, "x": x, "w": w, "g": g})


def crossed_cells(rng: np.random.Generator) -> pd.DataFrame:
    """Twelve by eight cells of one row, a tenth of them missing."""
    a, b = (v.ravel() for v in np.indices((12, 8)))
    keep = rng.permutation(96)[:86]
    a, b = a[keep], b[keep]
    x, w = rng.normal(size=86), rng.normal(size=12)[a]
    effects = rng.normal(size=12)[a] + 0.7 * rng.normal(size=8)[b]
    return pd.DataFrame(
        {"y": 1 + 0.5 * x + 0.3 * w + effects + rng.normal(size=86), "x": x, "w": w, "a": a, "b": b}
    )


@pytest.mark.parametrize(
    ("draw", "formula"),
    [
        (unbalanced_groups, "y ~ x + w + (1 | g)"),
        (crossed_cells, "y ~ x + w + (1 | a) + (1 | b)"),
    ],
    ids=["6 groups unbalanced", "12 x 8 crossed"],
)
def test_coverage_of_satterthwaite_intervals(
    draw: Callable[[np.random.Generator], pd.DataFrame], formula: str
) -> None:
    """1,000 draws: 95% intervals of the slopes cover within four standard errors of 95%.

    Four standard errors of a proportion over 1,000 draws are 2.8 points. Where the
    slope varies between six groups the method is known to be conservative:
    only too little coverage fails.
    """
    rng = np.random.default_rng(7)
    truth = np.array([0.5, 0.3])
    covered = np.zeros(2)
    draws = 1000
    for _ in range(draws):
        table = ranef.lmm(formula, draw(rng)).tidy().set_index("term").loc[["x", "w"]]
        covered += (table["conf_low"] <= truth) & (truth <= table["conf_high"])
    assert np.all(covered / draws > 0.95 - 0.028), covered / draws
