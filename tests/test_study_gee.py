"""Coverage of small-sample corrections of population-averaged models, run by ``make study``.

A table each for 10, 20 and 40 clusters is printed; docs/population-averaged.md shows it.
"""

from __future__ import annotations

import pytest
from gee_coverage import coverage

pytestmark = pytest.mark.study

SHORT = 0.02
"""How far a share of 1,000 draws may lie below 95% by chance alone, three errors."""


@pytest.mark.parametrize("n_clusters", [10, 20, 40])
def test_corrected_intervals_hold(n_clusters):
    table = coverage(n_clusters, 1000, n_clusters)
    print(f"\n{n_clusters} clusters\n{table.round(3).to_string()}")
    shares = table[["(Intercept)", "arm", "x"]]
    corrected = shares.loc["kauermann-carroll, fay-graubard"]
    assert (corrected > 0.95 - SHORT).all()
    default = shares.loc["robust, default"]
    assert (default > 0.95 - SHORT).all()
    assert (default < 0.95 + 2 * SHORT).all()
    assert (default > shares.loc["robust, normal"]).all()
