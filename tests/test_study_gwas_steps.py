"""Two steps beside the exact path: errors of the first kind on a chromosome without effects."""

from __future__ import annotations

import numpy as np
import pytest

from ranef import gwas
from ranef.fields.gwas.genotypes import Chosen

pytestmark = pytest.mark.study

TRAITS = 12


def rates() -> dict[str, float]:
    """Shares of p below 0.01 on chromosome 4, polygenic traits of chromosomes 1 to 3."""
    study = gwas.simulate(n=600, m=3000, family_size=4, chromosomes=4, rng=8)
    source = study.genotypes
    rng = np.random.default_rng(9)
    chosen = Chosen.of(source.samples, np.arange(600))
    block = source.read(0, 2250)
    tally = block.tally(chosen, "additive")
    x = block.coded(np.arange(2250), chosen, tally, centred=True, single=False)
    x /= np.maximum(x.std(axis=1), 1e-9)[:, None]
    table = study.phenotypes
    names = [f"t{k}" for k in range(TRAITS)]
    for name in names:
        g = rng.normal(size=2250) @ x
        table[name] = g / g.std() + rng.normal(size=600)
    found = {}
    for path, relationship in (
        ("exact", "loco"), ("two steps", gwas.two_step(cut=0.15)), ("least squares", None),
    ):  # fmt: skip
        scan = gwas.scan("~ 1", source, table, traits=names, relationship=relationship,
                         chromosomes="4")  # fmt: skip
        p = scan.tidy()["neg_log10_p_wald"].to_numpy()
        found[path] = float(np.mean(p[np.isfinite(p)] > 2.0))
    return found


def test_errors_of_the_first_kind():
    found = rates()
    assert 0.004 < found["exact"] < 0.016
    assert 0.004 < found["two steps"] < 0.016
    assert found["least squares"] > 1.5 * found["exact"]
