"""Simulated studies, and what is said to the words of other programs."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from ranef import gwas
from ranef.errors import ArgumentError
from ranef.fields.gwas import simulation
from ranef.fields.gwas.genotypes import unpack


def calls(study) -> np.ndarray:
    source = study.genotypes
    x = unpack(source.read(0, len(source.variants)).packed, len(source.samples)).astype(float)
    return np.where(x < 0, np.nan, x)


def standardised(study) -> np.ndarray:
    x = calls(study)
    z = (x - np.nanmean(x, axis=1, keepdims=True)) / np.nanstd(x, axis=1, keepdims=True)
    return np.nan_to_num(z)


def test_files_written_in_pieces_are_those_of_the_study(tmp_path, monkeypatch):
    settings = {"n": 63, "m": 777, "family_size": 4, "populations": 2, "rng": 5}
    monkeypatch.setattr(simulation, "LARGEST_PIECE", 50)
    whole = gwas.simulate(**settings)
    whole.save(tmp_path / "whole")
    written = gwas.simulate(**settings, out=tmp_path / "pieces")
    for end in (".bed", ".bim", ".fam", ".pheno.tsv"):
        assert (tmp_path / f"whole{end}").read_bytes() == (tmp_path / f"pieces{end}").read_bytes()
    assert written.causal.equals(whole.causal)
    assert written.save(tmp_path / "pieces").stat().st_size == 3 + 777 * 16
    written.save(tmp_path / "copy")
    assert (tmp_path / "copy.bed").read_bytes() == (tmp_path / "whole.bed").read_bytes()


def test_families_linkage_and_missing_calls():
    study = gwas.simulate(n=4000, m=400, chromosomes=4, missing=0.03, rng=6)
    assert np.isnan(calls(study)).mean() == pytest.approx(0.03, abs=0.001)
    z = standardised(study)
    by_family = z.reshape(400, -1, 5)
    kin = np.einsum("vfa,vfb->ab", by_family, by_family) / by_family[:, :, 0].size
    expected = np.full((5, 5), 0.5)
    np.fill_diagonal(expected, 1.0)
    expected[0, 1] = expected[1, 0] = 0.0
    assert np.abs(kin / 0.97 - expected).max() < 0.03
    neighbours = (z[:-1] * z[1:]).mean(axis=1)
    ends = np.arange(99, 399, 100)
    assert np.abs(neighbours[ends]).max() < 0.06
    assert np.delete(neighbours, ends).mean() > 0.25


def test_populations_differ_as_fst_says():
    study = gwas.simulate(n=4000, m=800, populations=2, fst=0.1, missing=0.0, family_size=1, rng=7)
    x = calls(study)
    second = study.phenotypes["population"].to_numpy() == "2"
    p, q = x[:, ~second].mean(axis=1) / 2, x[:, second].mean(axis=1) / 2
    # Hudson's estimator: twice the variance of frequencies between populations is their gap's.
    gap = np.mean((p - q) ** 2 - (p * (1 - p) + q * (1 - q)) / 4000)
    assert gap / np.mean(p * (1 - q) + q * (1 - p)) == pytest.approx(0.1, abs=0.02)


def test_shares_of_the_trait():
    study = gwas.simulate(n=3000, m=1000, family_size=1, h2=0.3, causal=5, causal_h2=0.2, rng=8)
    x = np.nan_to_num(calls(study), nan=0.0)
    own = study.causal.set_index("variant")["effect"]
    rows = [study.genotypes.variants.id.tolist().index(name) for name in own.index]
    table = study.phenotypes
    fixed = 0.3 * (table["sex"] == "male") + 0.01 * (table["age"] - 45.0)
    trait = table["trait"] - fixed
    assert (own.to_numpy() @ x[rows]).var() == pytest.approx(0.2, rel=0.2)
    assert trait.var() == pytest.approx(1.0, rel=0.1)


@pytest.mark.parametrize("size", [1, 2, 3])
def test_families_of_few(size):
    study = gwas.simulate(n=7, m=30, family_size=size, chromosomes=3, causal=0, rng=1)
    assert calls(study).shape == (30, 7)


WORDS = [
    ("scan", {"maf": 0.05}, "did you mean 'min_maf'?"),
    ("scan", {"kinship": None}, "did you mean 'relationship'?"),
    ("scan", {"loco": True}, "relationship='loco' is the default"),
    ("scan", {"condition": "rs1"}, "did you mean 'given'?"),
    ("scan", {"out": "x"}, "scan.save(path, format=...)"),
    ("scan", {"threads": 2}, "did you mean 'n_jobs'?"),
    ("grm", {"geno": 0.1}, "did you mean 'max_missing'?"),
    ("simulate", {"seed": 1}, "did you mean 'rng'?"),
    ("null", {"K": None}, "did you mean 'relationship'?"),
    ("heritability", {"pheno": None}, "did you mean 'phenotypes'?"),
    ("bivariate", {"grm": None}, "did you mean 'relationship'?"),
    ("gene_sets", {"maf": 0.01}, "did you mean"),
    ("gblup", {"kinship": None}, "did you mean 'relationship'?"),
    ("two_step", {"max_variant": 5}, "did you mean 'max_variants'?"),
    ("read_grm", {"sample": []}, "did you mean 'samples'?"),
]


@pytest.mark.parametrize(("name", "named", "words"), WORDS)
def test_words_of_other_programs(name, named, words):
    with pytest.raises(ArgumentError) as caught:
        getattr(gwas, name)("trait ~ 1", **named)
    assert f"{name}() takes no argument {next(iter(named))!r}" in str(caught.value)
    assert words in str(caught.value)


def test_words_asked_of_a_scan():
    study = gwas.simulate(n=60, m=300, rng=1)
    scan = gwas.scan("trait ~ 1", study.genotypes, study.phenotypes)
    with pytest.raises(ArgumentError, match="did you mean 'format'"):
        scan.save("nowhere", fmt="gemma")
    with pytest.raises(
        AttributeError, match=r"ranef\.gwas has no name 'scann'; did you mean 'scan'"
    ):
        gwas.scann  # noqa: B018


def test_the_catalogues_format_takes_numbers_and_catalogued_names(tmp_path):
    rng = np.random.default_rng(1)
    names = ["rs1", "mine", "rs7", "1:500_A_C"]
    variants = pd.DataFrame({"variant": names, "chromosome": ["chr1", "chrX", "M", "scaffold_9"],
                             "position": [1, 2, 3, 4]})  # fmt: skip
    ids = [f"p{k}" for k in range(60)]
    source = gwas.from_array(rng.integers(0, 3, (60, 4)), samples=ids, variants=variants)
    table = pd.DataFrame({"IID": ids, "y": rng.normal(size=60)})
    scan = gwas.scan("y ~ 1", source, table, relationship=None, min_maf=0.0, max_missing=1.0)
    found = pd.read_csv(scan.save(tmp_path / "a.tsv"), sep="\t", dtype=str, keep_default_na=False)
    by_name = found.set_index("variant")
    assert by_name.loc["mine", ["chromosome", "rsid"]].tolist() == ["23", "#NA"]
    assert by_name.loc["rs1", ["chromosome", "rsid"]].tolist() == ["1", "rs1"]
    assert by_name.loc["1:500_A_C", "chromosome"] == "scaffold_9"
