"""Messages of the fields that no other test provokes: what was given wrongly, and what is said."""

from __future__ import annotations

import dataclasses
import sys
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

import ranef
from ranef import gwas
from ranef import metagenomics as mg
from ranef.errors import RanefError
from ranef.fields.metagenomics import reading


@pytest.fixture(scope="module")
def study():
    return gwas.simulate(n=60, m=80, h2=0.3, causal=1, causal_h2=0.2, chromosomes=2, rng=2)


@pytest.fixture(scope="module")
def scan(study):
    return gwas.scan("trait ~ sex", study.genotypes, study.phenotypes, relationship="centred")


def people(study, **columns):
    return study.phenotypes.assign(**columns)


def scanned(study, formula="trait ~ sex", phenotypes=None, **how):
    table = study.phenotypes if phenotypes is None else phenotypes
    return gwas.scan(formula, study.genotypes, table, **how)


GENOMES = {
    "no table": (lambda s: gwas.scan("trait ~ sex", s.genotypes), "give phenotypes="),
    "an empty table": (lambda s: scanned(s, phenotypes=s.phenotypes.head(0)), "no rows|empty"),
    "without IID": (
        lambda s: scanned(s, phenotypes=s.phenotypes.drop(columns=["IID"])),
        "no column IID",
    ),
    "infinite covariates": (
        lambda s: scanned(s, "trait ~ sex + z", people(s, z=np.r_[np.inf, np.ones(59)])),
        "infinite",
    ),
    "traits as a number": (lambda s: scanned(s, "~ sex", traits=3), "traits"),
    "an interaction of nothing": (lambda s: scanned(s, interaction="diet"), "no column 'diet'"),
    "an offset of cases": (
        lambda s: scanned(
            s,
            "ill ~ sex + offset(age)",
            people(s, ill=(s.phenotypes["trait"] > 0).astype(int)),
            family="binomial",
        ),
        r"takes no offset\(\)",
    ),
    "keep as a number": (lambda s: scanned(s, keep=3), "is a list of names or a file"),
    "keep nobody": (lambda s: scanned(s, keep=["nobody"]), "no sample|none of"),
    "one chromosome left out": (
        lambda s: (
            scanned(s, chromosomes=["1"], extract=None, relationship="loco").relationship
            and gwas.grm(s.genotypes).without("77")
        ),
        "no variant of chromosome 77|takes no|has no|attribute",
    ),
    "more components than samples": (
        lambda s: gwas.pca(s.genotypes, n=999),
        "samples have at most",
    ),
    "alpha beyond reason": (lambda s: gwas.grm(s.genotypes, alpha=9), "alpha is a number from -5"),
    "no relationship for a share": (
        lambda s: gwas.heritability("trait ~ sex", s.phenotypes, relationship=None),
        "needs a relationship",
    ),
    "two steps of nothing to scan": (
        lambda s: gwas.heritability("trait ~ sex", s.phenotypes, relationship=gwas.two_step()),
        "relationship is .*TwoStep",
    ),
    "two steps of cases": (
        lambda s: scanned(
            s,
            "ill ~ sex",
            people(s, ill=(s.phenotypes["trait"] > 0).astype(int)),
            family="binomial",
            relationship=gwas.two_step(),
        ),
        "tests Gaussian traits",
    ),
    "transformed cases": (
        lambda s: gwas.gene_sets(
            "ill ~ sex",
            s.genotypes,
            people(s, ill=(s.phenotypes["trait"] > 0).astype(int)),
            sets={"a": list(s.genotypes.variants.id[:5])},
            family="binomial",
            transform="rank",
        ),
        "transform|sets",
    ),
    "three weights": (
        lambda s: gwas.gene_sets(
            "trait ~ sex",
            s.genotypes,
            s.phenotypes,
            sets={"a": list(s.genotypes.variants.id[:5])},
            weights=(1, 2, 3),
        ),
        "weights are two numbers|sets",
    ),
    "shares above one": (
        lambda s: gwas.simulate(n=20, m=30, h2=0.9, causal=1, causal_h2=0.5),
        "shares of one variance",
    ),
    "a share of two": (lambda s: gwas.simulate(n=20, m=30, h2=2.0), "must lie between 0 and 1"),
    "more causes than variants": (
        lambda s: gwas.simulate(n=20, m=30, causal=99, causal_h2=0.1),
        "causal is a number of variants from 0 to",
    ),
    "an array without its variants": (
        lambda s: gwas.from_array(
            np.zeros((4, 3)),
            samples=["a", "b", "c", "d"],
            variants=pd.DataFrame({"id": ["v1"], "chromosome": ["1"], "position": [1]}),
        ),
        "columns and variants names 1|variants",
    ),
    "samples twice": (
        lambda s: gwas.from_array(
            np.zeros((2, 1)),
            samples=["a", "a"],
            variants=pd.DataFrame({"id": ["v"], "chromosome": ["1"], "position": [1]}),
        ),
        "more than once",
    ),
    "samples as a number": (
        lambda s: gwas.from_array(np.zeros((2, 1)), samples=3, variants=["v"]),
        "is a list of names or a table",
    ),
}

SCANS = {
    "an empty region": (lambda s: s.clump(kb=-1), "kb must be positive"),
    "a threshold of two": (lambda s: s.clump(r2=2.0), "must lie between 0 and 1"),
    "two scans and traits": (
        lambda s: s.plot.miami(traits=["a", "b"], other=s),
        "give traits= of this scan or other=",
    ),
}


@pytest.mark.parametrize("what", list(GENOMES))
def test_scans_say_what_is_wrong(study, what):
    call, said = GENOMES[what]
    with pytest.raises((RanefError, TypeError), match=said):
        call(study)


@pytest.mark.parametrize("what", list(SCANS))
def test_answers_of_scans_say_what_is_wrong(scan, what):
    call, said = SCANS[what]
    with pytest.raises((RanefError, TypeError), match=said):
        call(scan)


def series(n=12, times=20):
    rng = np.random.default_rng(4)
    return pd.DataFrame(
        {
            "person": np.repeat([f"p{k}" for k in range(n)], times),
            "beep": np.tile(np.arange(times), n),
            "mood": rng.normal(size=n * times),
            "x": rng.normal(size=n * times),
            "arm": np.repeat(["a", "b"], n * times // 2),
        }
    )


def dynamic(formula="mood ~ 1 + (1 | person)", data=None, residual="ar1(beep | person)", **how):
    return ranef.dynamic(formula, series() if data is None else data, residual=residual, **how)


DYNAMIC = {
    "half a prompt": (
        lambda: dynamic(data=series().assign(beep=lambda d: d["beep"] + 0.5)),
        "whole numbers",
    ),
    "no random term": (lambda: dynamic("mood ~ 1"), "no part has a random term"),
    "another series": (
        lambda: dynamic(residual="ar1(beep | arm)"),
        "several levels|same|twice|series",
    ),
    "a structure of effects": (
        lambda: dynamic("mood ~ 1 + ar1(0 + factor(beep) | person)"),
        "unstructured|random effects of a dynamic model",
    ),
    "an offset of inertia": (
        lambda: dynamic(inertia="~ 1 + offset(x) + (1 | person)"),
        "has an offset, which only the mean can have",
    ),
    "an inertia by arm of the residual": (
        lambda: dynamic(residual="ar1(beep | person, by=arm)"),
        "inertia",
    ),
    "the identity by the clock": (
        lambda: dynamic(residual="ou(beep | person)", link="identity"),
        "link='logit'",
    ),
    "two responses": (lambda: dynamic("cbind(mood, x) ~ 1 + (1 | person)"), "one number a row"),
}


@pytest.mark.parametrize("what", list(DYNAMIC))
def test_dynamic_models_say_what_is_wrong(what):
    call, said = DYNAMIC[what]
    with pytest.raises((RanefError, TypeError), match=said):
        call()


def test_questions_of_a_dynamic_model_say_what_is_wrong():
    fit = dynamic()
    for ask, said in (
        (lambda: fit.tidy(df="satterthwaite"), "tests of a dynamic model are normal"),
        (lambda: fit.tidy(exponentiate=True), "makes no ratio"),
        (lambda: fit.predict(kind="typical", interval="new"), "interval='new' goes with"),
        (lambda: fit.check(by="person"), "leave out by="),
        (lambda: fit.profile(criterion="reml"), "fitted by ML"),
        (lambda: fit.plot.shrinkage(), "draws those of this fit"),
        (lambda: fit.predict(series().head(3), kind="population", history=series().head(2)),
         "history= goes with kind='conditional'"),
    ):  # fmt: skip
        with pytest.raises(RanefError, match=said):
            ask()


def test_screens_say_what_is_wrong():
    clinic = mg.simulate(batches=2, patients=3, controls=1, taxa=30, rng=5)
    for ask, said in (
        (lambda: mg.screen(clinic.counts, clinic.samples, fdr=2.0), "fdr"),
        (lambda: mg.screen(clinic.counts.head(0), clinic.samples), "no |empty"),
        (lambda: mg.screen(clinic.counts, clinic.samples.head(0)), "no |empty"),
        (lambda: mg.screen(clinic.counts, clinic.samples, controls="kontrolle"), "kontrolle"),
        (lambda: mg.screen(clinic.counts, clinic.samples, exposure="guess"), "exposure"),
        (lambda: mg.screen(clinic.counts, clinic.samples, list_by="moon"), "list_by"),
    ):
        with pytest.raises(RanefError, match=said):
            ask()


def nothing_read(clinic):
    return clinic.counts.assign(reads=0, total_reads=0)


def far_too_many(monkeypatch):
    monkeypatch.setattr(reading, "MOST_CELLS", 10)


def hide_h5py(monkeypatch):
    monkeypatch.setitem(sys.modules, "h5py", None)


class Unnamed(SimpleNamespace):
    """An AnnData object, as far as it is looked at."""


def anndata(X):
    return Unnamed(X=X, obs_names=["P1"], var_names=["1", "2"], var={})


def of_controls(clinic):
    """Counts of the controls alone."""
    controls = set(clinic.samples.loc[clinic.samples["is_control"].astype(bool), "sample"])
    return clinic.counts[clinic.counts["sample"].isin(controls)]


def unlabelled(clinic):
    """A column a library, and nothing that names the taxa."""
    wide = clinic.counts.pivot_table(index="taxon", columns="sample", values="reads", fill_value=0)
    return {name: wide[name].to_numpy() for name in wide.columns}


def of_other_groups(clinic, background):
    counts = clinic.counts.assign(
        group=[
            "fungus" if k % 2 else "virus"
            for k in clinic.counts["taxon"].astype("category").cat.codes
        ]
    )
    return background.screen(counts, clinic.samples)  # fmt: skip


def text(folder, name, content):
    (folder / name).write_text(content, encoding="utf-8")
    return folder / name


KRAKENUNIQ = "%\treads\ttaxReads\tkmers\tdup\tcov\ttaxID\trank\ttaxName\n"
SHEET = "sample,is_control,total_reads\nP1,0,100\n\n,0,100\n"
COUNTS = "# made by hand\nsample,taxon,reads\nP1,562,4\n\nP2,562,4 500 x\n"
CLINICS = {
    "no reads at all": (
        lambda c, f, m: mg.screen(nothing_read(c), c.samples.drop(columns="total_reads",
                                                                  errors="ignore")),
        "no library has reads; there is nothing to screen",
    ),
    "controls alone in the counts": (
        lambda c, f, m: mg.screen(of_controls(c), c.samples.drop(columns="total_reads",
                                                                 errors="ignore")),
        "no patient's library of the sheet is in the counts",
    ),
    "taxa without names": (
        lambda c, f, m: mg.screen(unlabelled(c), c.samples),
        "the rows of the counts have no names: give a column 'taxon'",
    ),
    "more than fit": (
        lambda c, f, m: (far_too_many(m), mg.screen(c.counts, c.samples)),
        "are more than fit in memory; leave out taxa",
    ),
    "negative reads of AnnData": (
        lambda c, f, m: mg.screen(anndata(np.array([[1.0, -2.0]])), c.samples),
        "X of the AnnData object holds values that are no counts of reads: missing, infinite",
    ),
    "a line that is cut": (
        lambda c, f, m: mg.read(text(f, "a.report", KRAKENUNIQ + "\n1\t2\t3\n")),
        "a.report, line 3: 3 cells under a heading of 9",
    ),
    "JSON without an object": (
        lambda c, f, m: mg.read(text(f, "b.biom", "[1, 2]"), format="biom"),
        "it holds no object of JSON",
    ),
    "BIOM 2 without h5py": (
        lambda c, f, m: (hide_h5py(m), (f / "c.biom").write_bytes(b"\x89HDF\r\n\x1a\n" + b"0" * 99),
                         mg.read(f / "c.biom")),
        "need the package h5py; pip install 'ranef[metagenomics]'",
    ),
    "a nameless line of the sheet": (
        lambda c, f, m: mg.screen(c.counts, text(f, "sheet.csv", SHEET)),
        "line 4 of the sheet has no sample; name its library",
    ),
    "a nameless row of the sheet": (
        lambda c, f, m: mg.screen(
            c.counts, c.samples.assign(sample=["", *c.samples["sample"][1:]])),
        "row 0 of the sheet has no sample; name its library",
    ),
    "a cell that is no count": (
        lambda c, f, m: mg.read(text(f, "d.csv", COUNTS)), "d.csv, line 5: '4 500 x' is not a count"
    ),
    "a nameless row of the counts": (
        lambda c, f, m: mg.screen(
            c.counts.assign(taxon=[None, *c.counts["taxon"][1:]]), c.samples),
        "taxon is missing in row 0 of the counts; fill it in",
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def clinic():
    return mg.simulate(batches=2, patients=3, controls=1, taxa=30, rng=5)


@pytest.mark.parametrize("name", CLINICS)
@pytest.mark.filterwarnings("ignore")
def test_what_is_wrong_with_counts_and_sheets(name, clinic, tmp_path, monkeypatch):
    call, said = CLINICS[name]
    with pytest.raises(RanefError) as caught:
        call(clinic, tmp_path, monkeypatch)
    assert said in " ".join(str(caught.value).split())


@pytest.mark.filterwarnings("ignore")
def test_a_background_of_another_kind(clinic):
    background = mg.train(clinic.counts, clinic.samples)
    bare = mg.simulate(batches=2, patients=3, controls=1, taxa=30, rng=5, exposure="depth")
    with pytest.raises(RanefError, match="cannot be compared: give both runs the same columns"):
        background.screen(bare.counts, bare.samples)
    grouped = dataclasses.replace(background, groups=("bacteria", "virus"))
    with pytest.raises(RanefError, match=r"no taxa of group 'fungus'; .* as the learned run does"):
        of_other_groups(clinic, grouped)
