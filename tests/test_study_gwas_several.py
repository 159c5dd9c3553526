"""Interactions, joint tests, genetic correlations and sets, where the truth is known.

Families of five without any variant of effect; traits with a polygenic part by descent.
"""

from __future__ import annotations

import sys

import numpy as np
import pandas as pd
import pytest
from gwas_tilted import Families, draw_variants, kinship

from ranef import gwas

pytestmark = pytest.mark.study

FAMILIES = Families(80)
N = FAMILIES.n
NAMES = [f"i{k}" for k in range(N)]
K = pd.DataFrame(kinship(FAMILIES), index=NAMES, columns=NAMES)
BLOCK = np.linalg.cholesky(kinship(Families(1)))


def polygenic(rng: np.random.Generator, k: int) -> np.ndarray:
    """Values of k independent polygenic traits, (n, k)."""
    own = rng.normal(size=(FAMILIES.count, len(BLOCK), k))
    return np.einsum("ab,fbk->fak", BLOCK, own).reshape(N, k)


def variants(rng: np.random.Generator, m: int, low: float, high: float) -> gwas.Genotypes:
    parts = [
        draw_variants(FAMILIES, np.zeros(N), p, 20, rng)[0] for p in rng.uniform(low, high, m // 20)
    ]
    x = np.concatenate(parts)
    table = pd.DataFrame({"variant": [f"v{k}" for k in range(m)], "chromosome": "1",
                          "position": np.arange(m) + 1})  # fmt: skip
    return gwas.from_array(x.T, samples=NAMES, variants=table)


def told(what: str, shares: dict[str, float]) -> None:
    print(what, {name: round(share, 5) for name, share in shares.items()}, file=sys.stderr)


def within(share: float, level: float, count: int) -> bool:
    """Whether a share is within four standard errors of its level."""
    return abs(share - level) < 4.0 * np.sqrt(level * (1.0 - level) / count)


def shares_below(table: pd.DataFrame, columns: list[str], level: float) -> dict[str, float]:
    ok = table[table["status"] == "ok"] if "status" in table else table
    return {name: float(np.mean(ok[name].dropna() < level)) for name in columns}


def test_interactions_of_nothing():
    rng = np.random.default_rng(1)
    source = variants(rng, 4000, 0.1, 0.5)
    u = polygenic(rng, 1)[:, 0]
    env = rng.normal(size=N)
    table = pd.DataFrame({"IID": NAMES, "env": env, "y": u + 0.5 * env + rng.normal(size=N)})
    found = gwas.scan("y ~ 1", source, table, relationship=K, interaction="env").tidy()
    columns = ["p_wald", "p_lrt", "p_score", "p_joint_wald", "p_joint_lrt"]
    for level in (0.05, 0.01):
        shares = shares_below(found, columns, level)
        told(f"interaction, {level}", shares)
        assert all(within(share, level, 4000) for share in shares.values())


@pytest.mark.parametrize("kind", ["robust", "binomial"])
def test_other_interactions_of_nothing(kind):
    """With residual variances that differ ninefold; and of a binary trait, one case to four."""
    rng = np.random.default_rng(5)
    source = variants(rng, 4000, 0.1, 0.5)
    u = polygenic(rng, 1)[:, 0]
    env = (rng.random(N) < 0.25).astype(float)
    y = u + 0.5 * env + rng.normal(size=N) * np.where(env == 1, 2.4, 0.8)
    options: dict[str, object] = {"robust": True}
    columns = ["p_wald", "p_joint_wald"]
    if kind == "binomial":
        y = u + 0.5 * env + rng.normal(size=N)
        y, options = (y > np.quantile(y, 0.8)).astype(float), {"family": "binomial"}
        columns = ["p_spa", "p_joint_spa"]
    table = pd.DataFrame({"IID": NAMES, "env": env, "y": y})
    found = gwas.scan("y ~ 1", source, table, relationship=K, interaction="env", **options).tidy()
    if kind == "binomial":
        found["p_spa"] = 10.0 ** -found["neg_log10_p_spa"]
    else:
        plain = gwas.scan("y ~ 1", source, table, relationship=K, interaction="env").tidy()
        told("equal variances taken, 0.01", shares_below(plain, columns, 0.01))
        assert shares_below(plain, columns, 0.01)["p_wald"] > 0.02
    for level in (0.05, 0.01):
        shares = shares_below(found, columns, level)
        told(f"{kind} interaction, {level}", shares)
        assert all(share < level + 4 * np.sqrt(level / 4000) for share in shares.values())
        # tests of binary traits with relatives err on the safe side, of variants alone as well
        least = 0.5 if kind == "robust" else 0.2
        assert all(share > least * level for share in shares.values())


def test_joint_tests_of_nothing():
    rng = np.random.default_rng(2)
    source = variants(rng, 3000, 0.1, 0.5)
    u = polygenic(rng, 2)
    e = rng.normal(size=(N, 2))
    b = 0.6 * u[:, 0] + 0.8 * u[:, 1] - 0.5 * e[:, 0] + e[:, 1]
    table = pd.DataFrame({"IID": NAMES, "a": u[:, 0] + e[:, 0], "b": b})
    found = gwas.scan("~ 1", source, table, traits=["a", "b"], joint=True, relationship=K).tidy()
    for level in (0.05, 0.01):
        shares = shares_below(found, ["p_wald", "p_lrt", "p_score"], level)
        told(f"joint, {level}", shares)
        assert all(within(share, level, 3000) for share in shares.values())


@pytest.mark.parametrize("rg", [0.0, 0.6])
def test_intervals_of_genetic_correlations(rg):
    rng = np.random.default_rng(3)
    inside, below = [], []
    for _ in range(100):
        u = polygenic(rng, 2)
        e = rng.normal(size=(N, 2)) * 0.7
        b = rg * u[:, 0] + np.sqrt(1 - rg**2) * u[:, 1] + e[:, 1]
        table = pd.DataFrame({"IID": NAMES, "a": u[:, 0] + e[:, 0], "b": b})
        row = gwas.bivariate("~ 1", table, traits=["a", "b"], relationship=K).tidy().iloc[0]
        below.append(row["p_zero"] < 0.05)
        if not row["boundary"]:
            inside.append(row["conf_low"] < rg < row["conf_high"])
    told(f"rg {rg}", {"covered": np.mean(inside), "with an interval": len(inside) / 100,
                      "p_zero < 0.05": np.mean(below)})  # fmt: skip
    assert len(inside) > 80
    assert np.mean(inside) > 0.88
    if rg == 0.0:
        assert np.mean(below) < 0.12


@pytest.mark.parametrize("family", ["gaussian", "binomial"])
def test_sets_of_nothing(family):
    rng = np.random.default_rng(4)
    m, size = 12_000, 20
    source = variants(rng, m, 0.005, 0.03)
    u = polygenic(rng, 1)[:, 0]
    y = u + rng.normal(size=N)
    if family == "binomial":
        y = (y > np.quantile(y, 0.8)).astype(int)
    table = pd.DataFrame({"IID": NAMES, "y": y})
    sets = {f"s{k}": [f"v{j}" for j in range(k * size, (k + 1) * size)] for k in range(m // size)}
    found = gwas.gene_sets("y ~ 1", source, table, sets=sets, relationship=K, max_maf=0.06,
                           family=family).tidy()  # fmt: skip
    columns = [c for c in found.columns if c.startswith("p_")]
    for level in (0.05, 0.01):
        shares = shares_below(found, columns, level)
        told(f"sets, {family}, {level}", shares)
        most = 1.0 if family == "gaussian" else 1.2
        for share in shares.values():
            assert share < most * level + 4.0 * np.sqrt(level / len(found))
            assert share > 0.2 * level
