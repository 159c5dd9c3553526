"""What must not change a p value: units, origins, the order of rows, which allele is counted."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from ranef import gwas
from ranef.fields.gwas.genotypes import unpack

N, M = 72, 80
SINGLE = 6e-5
"""Single precision, in log10 p; double precision keeps seven digits more."""
EXACT = 1e-7

OPTIONS = {
    "leave one chromosome out": {},
    "centred": {"relationship": "centred"},
    "standardised": {"relationship": "standardised"},
    "least squares": {"relationship": None},
    "one ratio for all": {"variance": "null"},
    "a matrix": {"relationship": "matrix"},
    "close kin": {"relationship": "kin"},
    "two steps": {"relationship": "steps"},
    "dominant": {"effect": "dominant"},
    "recessive": {"effect": "recessive"},
    "interaction": {"interaction": "env"},
    "interaction, one ratio": {"interaction": "env", "variance": "null"},
    "joint": {"traits": ["trait", "other"], "joint": True},
    "joint, one ratio": {"traits": ["trait", "other"], "joint": True, "variance": "null"},
    "several": {"traits": ["trait", "other"]},
    "normal scores": {"transform": "inverse-normal"},
    "given": {"given": "rs5"},
    "binary": {"family": "binomial"},
    "binary, expected variance": {"family": "binomial", "variance": "null"},
    "binary, unrelated": {"family": "binomial", "relationship": None},
}


@pytest.fixture(scope="module")
def study():
    made = gwas.simulate(n=N, m=M, family_size=3, chromosomes=3, causal=2, causal_h2=0.3,
                         missing=0.02, rng=3)  # fmt: skip
    rng = np.random.default_rng(5)
    table = made.phenotypes
    table["other"] = 0.3 * table["trait"] + rng.normal(size=N)
    table["ill"] = (table["trait"] + rng.normal(size=N) > 0.4).astype(int)
    table["env"] = rng.normal(size=N)
    relationships = {
        "matrix": gwas.grm(made.genotypes),
        "kin": gwas.sparse_grm(made.genotypes, cut=0.3),
        "steps": gwas.two_step(gwas.sparse_grm(made.genotypes, cut=0.3)),
    }
    return made.genotypes, table, relationships


def scanned(study, genotypes, table, option, **more) -> pd.DataFrame:
    options = {**OPTIONS[option], **more}
    options["relationship"] = study[2].get(options.get("relationship", "loco"),
                                           options.get("relationship", "loco"))  # fmt: skip
    trait = "ill" if options.get("family") else "" if "traits" in options else "trait"
    return gwas.scan(
        f"{trait} ~ sex + age", genotypes, table, min_maf=0.05, n_jobs=1, **options
    ).tidy()


def agree(one, other, tolerance) -> None:
    assert one["status"].tolist() == other["status"].tolist()
    assert (one["status"] == "ok").sum() > 40
    for name in (c for c in one.columns if c.startswith("neg_log10")):
        np.testing.assert_allclose(other[name], one[name], rtol=0, atol=tolerance, err_msg=name)


@pytest.mark.parametrize("option", OPTIONS)
def test_units_origins_and_order(study, option):
    genotypes, table, _ = study
    base = scanned(study, genotypes, table, option)
    moved = table.sample(frac=1.0, random_state=2)
    moved["trait"] = moved["trait"] * 1e-5 + 3.0
    moved["other"] = moved["other"] * 1e6 - 2e6
    moved["age"] = moved["age"] * 1e6 + 1e8
    moved["env"] = moved["env"] * 1e4
    agree(base, scanned(study, genotypes, moved, option), SINGLE)


@pytest.mark.parametrize("option", ["leave one chromosome out", "least squares", "dominant"])
def test_double_precision_keeps_more(study, option):
    genotypes, table, _ = study
    moved = table.sample(frac=1.0, random_state=3)
    moved["trait"] = 1e5 * moved["trait"] - 7e4
    base, other = (scanned(study, genotypes, t, option, precision="double") for t in (table, moved))
    agree(base, other, EXACT)


@pytest.mark.parametrize("option", OPTIONS)
def test_the_order_of_samples_in_the_file(study, option):
    genotypes, table, _ = study
    calls = unpack(genotypes.read(0, M).packed, N)
    order = np.random.default_rng(4).permutation(N)
    v = genotypes.variants
    variants = pd.DataFrame({"variant": v.id, "chromosome": v.chromosome, "position": v.position})
    samples = pd.DataFrame({"FID": genotypes.samples.fid, "IID": genotypes.samples.iid})
    shuffled = gwas.from_array(
        calls[:, order].T, samples=samples.iloc[order].reset_index(drop=True), variants=variants
    )
    base = scanned(study, genotypes, table, option)
    agree(base, scanned(study, shuffled, table, option), SINGLE)
    if option not in ("dominant", "recessive"):
        flipped = np.where(calls < 0, -1, 2 - calls)
        other = gwas.from_array(flipped.T, samples=samples, variants=variants)
        agree(base, scanned(study, other, table, option), SINGLE)


def test_the_order_of_variants_in_the_file():
    """Of two steps, whose blocks are neighbours on the chromosome, and of the exact path."""
    made = gwas.simulate(n=150, m=600, chromosomes=3, causal=2, causal_h2=0.3, rng=3)
    calls, v = unpack(made.genotypes.read(0, 600).packed, 150), made.genotypes.variants
    order = np.random.default_rng(6).permutation(600)
    variants = pd.DataFrame({"variant": v.id, "chromosome": v.chromosome, "position": v.position})
    names = list(made.genotypes.samples.iid)
    shuffled = gwas.from_array(
        calls[order].T, samples=names, variants=variants.iloc[order].reset_index(drop=True)
    )
    for relationship in ("loco", gwas.two_step(None)):
        base, other = (
            gwas.scan(
                "trait ~ sex + age", genotypes, made.phenotypes, relationship=relationship, n_jobs=1
            ).tidy()
            for genotypes in (gwas.from_array(calls.T, samples=names, variants=variants), shuffled)
        )
        other = other.set_index("variant").loc[base["variant"]].reset_index()
        agree(base, other, SINGLE)
