"""Long studies, run by ``make study``: local optima, and coverage by simulation."""

from __future__ import annotations

import interval_coverage
import numpy as np
import pytest
import shapes
from numpy.typing import NDArray

from ranef.design.specify import specify
from ranef.models.linear import fit_lmm

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


@pytest.mark.parametrize("design", interval_coverage.DESIGNS)
def test_coverage_of_intervals_of_fixed_effects(design: str) -> None:
    """2,000 draws: at least 93.5% of the 95% intervals of every coefficient cover.

    By Kenward and Roger's method and by Satterthwaite's; three standard errors of a share
    of 2,000 are 1.5 points, so that 93.5% is not told from 95%.
    """
    methods = ("kenward-roger", "satterthwaite")
    table = interval_coverage.table(design, methods, draws=2000)
    assert np.all(table["covered"] >= 0.935), table.to_string()
