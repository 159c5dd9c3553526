"""Errors of the first kind at 5e-8 with one case to 99 controls among relatives.

Traits of families are cut from a liability that is half polygenic; variants without an effect
descend through the same families, drawn as `gwas_tilted` says.
"""

from __future__ import annotations

import sys

import numpy as np
import pandas as pd
import pytest
from gwas_tilted import Families, draw_variants, kinship, rate

from ranef import gwas

pytestmark = pytest.mark.study

LEVELS = (1e-2, 1e-3, 1e-4, 1e-5, 1e-6, 5e-8)
CASES = ((0.02, 2), (0.05, 2), (0.05, 5), (0.3, 3))
"""Frequency of the variants, and the seed of trait and variants."""
FAMILIES, VARIANTS = Families(600), 2000


def trait(families: Families, rng: np.random.Generator) -> np.ndarray:
    """One in a hundred is a case: the largest liabilities."""
    n = families.n
    block = kinship(Families(1, families.children))
    own = rng.normal(size=(families.count, len(block))) @ np.linalg.cholesky(block).T
    liability = np.sqrt(0.5) * own.ravel() + np.sqrt(0.5) * rng.normal(size=n)
    return (liability > np.sort(liability)[-(n // 100) - 1]).astype(int)


def shares(p: float, seed: int) -> dict[str, list[tuple[float, float]]]:
    """Shares of variants of frequency p below each level, by saddlepoint and normal score."""
    rng = np.random.default_rng(seed)
    ill = trait(FAMILIES, rng)
    names = [f"i{k}" for k in range(FAMILIES.n)]
    x, weights = draw_variants(FAMILIES, ill - ill.mean(), p, VARIANTS, rng)
    variants = pd.DataFrame({
        "variant": [f"v{k}" for k in range(VARIANTS)], "chromosome": "1",
        "position": np.arange(VARIANTS) + 1,
    })  # fmt: skip
    table = gwas.scan(
        "ill ~ 1", gwas.from_array(x.T, samples=names, variants=variants),
        pd.DataFrame({"IID": names, "ill": ill}), family="binomial",
        relationship=pd.DataFrame(kinship(FAMILIES), index=names, columns=names),
        min_maf=0.0, min_mac=1, n_jobs=1,
    ).tidy()  # fmt: skip
    tested = (table["status"] == "ok").to_numpy()
    return {
        name: [
            rate(weights, tested & (table[f"neg_log10_p_{name}"] > -np.log10(a)).to_numpy(), tested)
            for a in LEVELS
        ]
        for name in ("spa", "score")
    }


def test_the_weighted_draws_are_those_of_families():
    families = Families(60)
    rng = np.random.default_rng(1)
    r = rng.normal(size=families.n)
    x, weights = draw_variants(families, r, 0.2, 20_000, rng)
    assert weights.mean() == pytest.approx(1.0, abs=0.05)
    assert weights @ x.mean(axis=1) / weights.sum() == pytest.approx(0.4, abs=0.005)
    z = x - 0.4
    T = z @ r
    expected = 2 * 0.2 * 0.8 * r @ kinship(families) @ r
    assert weights @ T**2 / weights.sum() == pytest.approx(expected, rel=0.06)


@pytest.mark.parametrize(("p", "seed"), CASES)
def test_errors_at_a_genome_wide_level(p, seed):
    found = shares(p, seed)
    for name, held in found.items():
        text = "  ".join(
            f"{a:g}: {r / a:.3g} ({se / a:.2g})" for a, (r, se) in zip(LEVELS, held, strict=True)
        )
        print(f"frequency {p}, seed {seed}, {name}: {text}", file=sys.stderr)
    for a, (share, error) in zip(LEVELS, found["spa"], strict=True):
        assert share - 3.0 * error < a
    assert found["spa"][-1][0] > 0.0
    if p < 0.1:
        assert found["score"][-1][0] > 10 * LEVELS[-1]
