"""Messages of structural models, genomes and questions: what was wrong, and what is said."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import ranef
from ranef import gwas
from ranef.errors import RanefError
from ranef.fields.structural.mplus import read_mplus


class World:
    """Small fits, each made where a case asks for it."""

    def __init__(self, folder):
        self.folder = folder

    def file(self, name, content=""):
        path = self.folder / name
        if isinstance(content, bytes):
            path.write_bytes(content)
        else:
            path.write_text(content, encoding="utf-8")
        return path

    @cached_property
    def sleep(self):
        return ranef.data.load("sleepstudy")

    @cached_property
    def linear(self):
        return ranef.lmm("Reaction ~ Days + (Days | Subject)", self.sleep)

    @cached_property
    def cbpp(self):
        return ranef.glmm(
            "cbind(incidence, size - incidence) ~ period + (1 | herd)",
            ranef.data.load("cbpp"),
            family="binomial",
        )

    @cached_property
    def oats(self):
        return ranef.lmm("yield ~ nitro + Variety + (1 | Block/Variety)", ranef.data.load("Oats"))

    @cached_property
    def ohio(self):
        return ranef.gee(
            "resp ~ age + smoke", ranef.data.load("ohio"), groups="id", family="binomial"
        )

    @cached_property
    def visits(self):
        rng = np.random.default_rng(1)
        return pd.DataFrame(
            {
                "id": np.repeat([f"p{k}" for k in range(8)], 3),
                "visit": np.tile([1, 2, 3], 8),
                "arm": np.repeat(["a", "b"], 12),
                "x": rng.normal(size=24),
                "y": rng.normal(size=24),
                "one": "a",
            }
        )

    @cached_property
    def structured(self):
        return ranef.lmm("y ~ x + arm", self.visits, residual="us(visit | id)")

    @cached_property
    def items(self):
        rng = np.random.default_rng(2)
        school = np.repeat(np.arange(30), 8)
        between, within = rng.normal(size=30)[school], rng.normal(size=240)
        noise = rng.normal(size=(240, 4))
        columns = {f"y{k + 1}": within + between + noise[:, k] for k in range(4)}
        return pd.DataFrame({**columns, "school": school, "x": rng.normal(size=240)})

    def sem(self, model="f =~ y1 + y2 + y3", data=None, **how):
        return ranef.sem(model, self.items if data is None else data, **how)

    @cached_property
    def factor(self):
        return self.sem("f =~ y1 + y2 + y3 + y4")

    @cached_property
    def study(self):
        return gwas.simulate(n=60, m=80, h2=0.3, causal=1, causal_h2=0.2, chromosomes=2, rng=2)

    def scan(self, formula="trait ~ sex", phenotypes=None, **how):
        table = self.study.phenotypes if phenotypes is None else phenotypes
        return gwas.scan(formula, self.study.genotypes, table, **how)

    def people(self, **columns):
        return self.study.phenotypes.assign(**columns)

    @cached_property
    def grm(self):
        return gwas.grm(self.study.genotypes)


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return World(tmp_path_factory.mktemp("messages"))


TWO = "level: 1\nf =~ y1 + y2 + y3\nlevel: 2\n{}"

STRUCTURAL = {
    "a model that is a number": (lambda w: w.sem(3), "the model must be text such as 'f =~ y1"),
    "a model in a file": (lambda w: w.sem(Path("model.txt")), "the model"),
    "a plus at the end": (lambda w: w.sem("f + ~ y1"), "a name is missing after '+'"),
    "an open bracket": (lambda w: w.sem("f =~ start(1, 2 + y1"), "a bracket is not closed in"),
    "a strange modifier": (
        lambda w: w.sem("f =~ y1 + start(1 2)*y2"),
        "is no modifier; modifiers are a number, NA, a label",
    ),
    "a column as a factor": (
        lambda w: w.sem("y4 =~ y1 + y2 + y3"),
        "'y4' is a column of the table and cannot be latent as well",
    ),
    "a constant column": (
        lambda w: w.sem(data=w.items.assign(y3=1.0)),
        "column 'y3' has one value in all rows; leave it out",
    ),
    "powers without end": (
        lambda w: w.sem("f =~ y1 + a*y2 + y3\nb := " + "^".join(["a"] * 600)),
        "of the model is nested too deeply",
    ),
    "equal groups without groups": (
        lambda w: w.sem(group_equal="loadings"),
        "give the column as group=",
    ),
    "an unknown class of parameters": (
        lambda w: w.sem(group="school", group_equal="loading"),
        "did you mean 'loadings'?",
    ),
    "scores of a level without factors": (
        lambda w: w.sem(TWO.format("y1 ~~ y1\ny2 ~~ y2\ny3 ~~ y3"), cluster="school").scores(
            level=2
        ),
        "level 2 has no latent variable",
    ),
    "scores of a third level": (lambda w: w.factor.scores(level=3), "it has no level 3"),
    "degrees of freedom": (
        lambda w: w.factor.tidy(df="satterthwaite"),
        "tests of a structural equation model",
    ),
    "one unit": (
        lambda w: w.sem(
            TWO.format("f =~ y1 + y2 + y3"), w.items.assign(school=1), cluster="school"
        ),
        "levels need at least two",
    ),
    "Mplus that makes variables": (
        lambda w: read_mplus("DEFINE: z = y1 + y2;\nMODEL: f BY y1 y2 y3;"),
        "add the variables that it makes to the table",
    ),
    "Mplus mixtures": (
        lambda w: read_mplus("ANALYSIS: TYPE = MIXTURE;\nMODEL: f BY y1 y2 y3;"),
        "MIXTURE and EFA of Mplus are not read",
    ),
    "Mplus without a number": (
        lambda w: read_mplus("MODEL: f BY y1@ y2 y3;"),
        "a number is missing after '@'",
    ),
    "Mplus without a variable": (
        lambda w: read_mplus("MODEL: f BY @1 y2 y3;"),
        "a variable is missing before '@'",
    ),
    "Mplus brackets": (lambda w: read_mplus("MODEL: f BY y1 ] y2 y3;"), "']' is out of place"),
    "Mplus signs": (
        lambda w: read_mplus("MODEL: f BY y1 y% y3;"),
        "'y%' of the Mplus input is not read",
    ),
    "Mplus ranges": (lambda w: read_mplus("MODEL: f BY y3-y1;"), "'y3-y1' is no range of names"),
    "Mplus labels": (
        lambda w: read_mplus("MODEL: f BY y1 y2 y3 (a b);"),
        "labels and parameters differ in number",
    ),
    "a start by an unknown name": (
        lambda w: w.sem(start={"f=~y9": 1.0}),
        "start: no free parameter 'f=~y9'; did you mean 'f=~y3'?",
    ),
    "a start without a likelihood": (
        lambda w: w.sem(start={"y1~~y1": -50.0}),
        "the likelihood has no value at the start given; leave start out",
    ),
}

GENOMES = {
    "an interaction with a constant": (
        lambda w: w.scan("trait ~ sex + diet", w.people(diet=1.0), interaction="diet"),
        "diet",
    ),
    "an interaction with three diets": (
        lambda w: w.scan(
            "trait ~ sex + diet", w.people(diet=["a", "b", "c"] * 20), interaction="diet"
        ),
        "takes a column of numbers or of two categories",
    ),
    "infinite values": (
        lambda w: w.scan("trait ~ sex", w.people(trait=[np.inf] + [1.0, 2.0] * 29 + [3.0])),
        "infinite",
    ),
    "values without squares": (
        lambda w: w.scan("trait ~ sex", w.people(trait=w.study.phenotypes.trait * 1e200)),
        "give it in another unit",
    ),
    "no sample in common": (
        lambda w: w.scan(phenotypes=w.people(IID=[f"q{k}" for k in range(60)])),
        "no row of the phenotypes has the FID and IID of a sample",
    ),
    "phenotypes without IID in a file": (
        lambda w: w.scan(phenotypes=w.file("one.txt", "trait\n1\n2\n")),
        "has no column IID, nor FID and IID in front",
    ),
    "an empty file of phenotypes": (lambda w: w.scan(phenotypes=w.file("none.txt")), "is empty"),
    "the two-step path of a share": (
        lambda w: gwas.heritability("trait ~ sex", w.study.phenotypes, relationship="two-step"),
        "the two-step path is one of gwas.scan; give a relationship matrix here",
    ),
    "a share without a table": (
        lambda w: gwas.heritability("trait ~ sex", None, relationship=w.grm),
        "phenotypes is a table, or the path of one, with a column IID",
    ),
    "a matrix cut off": (
        lambda w: (
            w.file("cut.grm.id", "0 a\n0 b\n"),
            w.file("cut.grm.bin", b"\x00" * 5),
            gwas.read_grm(w.folder / "cut"),
        ),
        "is truncated: it ends within a number",
    ),
    "a matrix of nobody": (
        lambda w: (
            w.file("no.grm.id"),
            w.file("no.grm.bin", b"\x00" * 4),
            gwas.read_grm(w.folder / "no"),
        ),
        "names no samples",
    ),
    "a matrix of more samples": (
        lambda w: (
            w.file("few.grm.id", "0 a\n0 b\n"),
            w.file("few.grm.bin", b"\x00" * 4),
            gwas.read_grm(w.folder / "few"),
        ),
        "a triangle of 2 samples (.grm.id) has 3",
    ),
    "means without numbers": (
        lambda w: gwas.read_genotypes(w.file("m.geno", "rs1 A\n")),
        "has 2 columns; it takes a name",
    ),
    "copies beyond two": (
        lambda w: gwas.read_genotypes(w.file("b.geno", "rs1 A C 0 1 3\n"), samples=list("abc")),
        "copies of an allele go from 0 to 2",
    ),
    "copies as words": (
        lambda w: gwas.read_genotypes(w.file("w.geno", "rs1 A C 0 one 2\n"), samples=list("abc")),
        "holds what is no number",
    ),
    "places of other variants": (
        lambda w: gwas.read_genotypes(
            w.file("p.geno", "rs1 A C 0 1 2\n"),
            samples=list("abc"),
            annotation=w.file("p.ann", "rs9 100 1\n"),
        ),
        "names no variant of the genotypes, such as 'rs1'",
    ),
    "a VCF cut off": (
        lambda w: gwas.read_genotypes(
            w.file(
                "cut.vcf.gz", b"\x1f\x8b\x08\x04" + b"\x00" * 6 + b"\x06\x00BC\x02\x00" + b"1" * 40
            )
        ),
        "is truncated: the block that ends it is not there",
    ),
    "an empty VCF": (lambda w: gwas.read_genotypes(w.file("none.vcf.gz", b"")), "is empty"),
    "half a PLINK file": (
        lambda w: (
            w.file("h.fam", "0 a 0 0 1 1\n0 b 0 0 2 2\n"),
            w.file("h.bim", "1 rs1 0 1 A C\n"),
            w.file("h.bed", b"l\x1b"),
            gwas.read_genotypes(w.folder / "h.bed"),
        ),
        "h.bed",
    ),
    "a relationship read as a whole by chromosome": (
        lambda w: (
            w.grm.save(w.folder / "whole"),
            gwas.read_grm(w.folder / "whole").without("1"),
        ),
        "has no parts by chromosome; make it with gwas.grm",
    ),
}

QUESTIONS = {
    "a test of nothing": (lambda w: ranef.power(w.linear, test=[]), "test"),
    "a method of another fit": (lambda w: w.linear.confint("q-profile"), "method="),
    "a zero part of a linear fit": (lambda w: w.linear.predict(type="zero"), "use"),
    "an interval of another kind": (
        lambda w: w.cbpp.predict(interval="old", conf_level=0.9),
        "interval",
    ),
    "ranks of one level": (
        lambda w: ranef.lmm("y ~ x + (1 | id)", w.visits).rank("one"),
        "the model has no grouping factor 'one'; it has 'id'",
    ),
    "a reference of pairs": (
        lambda w: w.oats.contrasts("Variety", method="pairwise", ref="Victory"),
        "ref='Victory' goes with method='reference', not 'pairwise'",
    ),
    "weights that are none": (
        lambda w: w.oats.emmeans("Variety", weights="porportional"),
        "weights",
    ),
    "everything in by": (
        lambda w: w.oats.joint_tests(by=["Variety", "nitro"]),
        "there is nothing to test",
    ),
    "a slope of a number": (
        lambda w: w.oats.emtrends("Variety", 3),
        "var is the name of a numeric predictor",
    ),
    "a slope of categories": (
        lambda w: w.oats.emtrends("nitro", "Variety"),
        "so it has no slope; contrasts() compares its levels",
    ),
    "a share of another group": (lambda w: w.oats.heritability("Blok"), "Blok"),
    "a cluster that lacks a row": (
        lambda w: ranef.robust(
            ranef.lmm("y ~ x + (1 | id)", w.visits),
            cluster=pd.Series([None, *w.visits["id"][1:]]),
        ),
        "every row has a cluster",
    ),
    "two kinds of fits": (
        lambda w: ranef.anova(
            ranef.lmm("incidence ~ period + (1 | herd)", ranef.data.load("cbpp"), reml=False),
            ranef.glmm("incidence ~ 1 + (1 | herd)", ranef.data.load("cbpp"), family="poisson"),
        ),
        "fit both with the same function",
    ),
    "other rows": (
        lambda w: ranef.compare(
            w.linear,
            ranef.lmm("Reaction ~ 1 + (1 | Subject)", w.sleep.head(100)),
            focus="population",
        ),
        "use different rows (180 and 100), so their criteria cannot be compared",
    ),
    "a design of nobody": (
        lambda w: ranef.power("y ~ arm + (1 | person)", design={}, fixed={"armb": 1}, test="armb"),
        "design: give the number of at least one thing, {'person': 40}",
    ),
    "a design without levels": (
        lambda w: ranef.power(
            "y ~ arm + (1 | person)",
            design={"person": 40, "arm": {"person": []}},
            fixed={"armb": 1},
            test="armb",
        ),
        "needs levels, or a function of (rng, size)",
    ),
    "a design by two kinds of units": (
        lambda w: ranef.power(
            "y ~ arm + (1 | person)",
            design={"person": 40, "item": 3, "arm": {"person": ["a"], "item": ["b"]}},
            fixed={"armb": 1},
            test="armb",
        ),
        "varies between one kind of units",
    ),
    "dropout beyond one": (
        lambda w: ranef.power(
            "y ~ x + (1 | person)",
            design={"person": 40, "visit": 3},
            fixed={"x": 1},
            test="x",
            dropout=3,
        ),
        "dropout: name what units leave by, {'visit': 0.3}",
    ),
    "a level that was not seen": (
        lambda w: w.structured.predict(w.visits.assign(visit=7), history=w.visits),
        "has a place that the fit has not seen",
    ),
    "a question of one level": (
        lambda w: ranef.lmm("y ~ x + (1 | one)", w.visits),
        "needs two or more: leave the term out",
    ),
    "both weights and a dispersion": (
        lambda w: ranef.lmm(
            "y ~ x + (1 | id)",
            w.visits.assign(w=1.0),
            weights="w",
            dispersion="~ arm",
            fixed={"x": 1.0},
        ),
        "not both",
    ),
    "no threads": (
        lambda w: ranef.lmm("y ~ x + (1 | id)", w.visits, n_jobs=0),
        "n_jobs must be at least 1, not 0",
    ),
    "a formula as a list": (lambda w: ranef.lmm(["y", "x"], w.visits), "formula"),
    "a residual as a list of numbers": (
        lambda w: ranef.lmm("y ~ x", w.visits, residual=[3]),
        "residual",
    ),
    "a residual of another name": (
        lambda w: ranef.lmm("y ~ x", w.visits, residual="ar2(visit | id)"),
        "ar2",
    ),
    "residuals of one row a group": (
        lambda w: ranef.lmm("y ~ x", w.visits.groupby("id").head(1), residual="ar1(visit | id)"),
        "has no group with two rows: nothing to correlate",
    ),
    "a span of many steps": (
        lambda w: ranef.lmm(
            "y ~ x", w.visits.assign(visit=w.visits.visit * 10**6), residual="toep(visit | id)"
        ),
        "spans more than 10,000 steps",
    ),
    "a path of residuals": (
        lambda w: ranef.lmm("y ~ x", w.visits, residual="cs(visit | id)", path="single"),
        "has one path; leave path out",
    ),
    "a start of too few": (
        lambda w: ranef.lmm("y ~ x", w.visits, residual="cs(visit | id)", start=[1.0] * 9),
        "start must hold",
    ),
    "too few rows": (
        lambda w: ranef.gee("y ~ x + arm", w.visits.iloc[[0, 12]], groups="id"),
        "too few",
    ),
    "a jackknife of few clusters": (
        lambda w: w.ohio.tidy(covariance="jacknife"),
        "did you mean 'jackknife'? Use one of 'robust'",
    ),
    "history of nothing": (
        lambda w: w.linear.predict(
            w.sleep.head(3), history=w.sleep.head(4).assign(Reaction=np.nan)
        ),
        "the response of the history is missing in 4 rows; leave such rows out",
    ),
    "a picture of a few studies": (
        lambda w: ranef.meta(
            "yi ~ 1", {"yi": [0.1, 0.2], "vi": [0.1, 0.2]}, variance="vi"
        ).plot.baujat(),
        "plot.baujat() leaves out one study at a time: there are too few",
    ),
}

WRONG = {**STRUCTURAL, **GENOMES, **QUESTIONS}


@pytest.mark.parametrize("name", WRONG)
@pytest.mark.filterwarnings("ignore::ranef.errors.RanefWarning")
def test_it_is_refused_in_words(name, world):
    call, said = WRONG[name]
    with pytest.raises(RanefError) as caught:
        call(world)
    assert said in " ".join(str(caught.value).split())
