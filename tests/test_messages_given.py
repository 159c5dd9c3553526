"""Files, models and images given wrongly to the fields, and what is said: no other test does."""

from __future__ import annotations

import tempfile
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from refusals import refused

import ranef
from ranef import gwas, imaging
from ranef import metagenomics as mg
from ranef.fields.structural.mplus import read_mplus

ONE = "f =~ y1 + y2 + y3"
TWO = "level: 1\n w =~ y1 + y2 + y3\nlevel: 2\n b =~ y1 + y2 + y3"
REPORT = "1.0\t2\t2\tU\t0\tunclassified\n99.0\t98\t98\tS\t562\tEscherichia coli\n"


class World:
    @cached_property
    def folder(self):
        return Path(tempfile.mkdtemp())

    def file(self, name, text):
        p = self.folder / name
        p.write_bytes(text) if isinstance(text, bytes) else p.write_text(text, "utf-8")
        return p

    @cached_property
    def items(self):
        rng = np.random.default_rng(6)
        person = np.repeat(np.arange(40), 8)
        shared = 0.7 * rng.normal(size=40)[person] + rng.normal(size=320)
        made = {f"y{k}": shared + rng.normal(size=320) for k in range(1, 5)}
        return pd.DataFrame(
            {
                **made,
                "id": person,
                "sex": np.where(person % 2, "f", "m"),
                "x": rng.normal(size=320),
                "two": 2.0,
                "of": rng.normal(size=40)[person],
            }
        )

    @cached_property
    def one(self):
        return ranef.sem(ONE, self.items)

    @cached_property
    def two(self):
        return ranef.sem(TWO, self.items, cluster="id")

    @cached_property
    def groups(self):
        return ranef.sem(ONE, self.items, group="sex")

    @cached_property
    def diary(self):
        rng = np.random.default_rng(2)
        n = 12
        return pd.DataFrame(
            {
                "id": np.repeat(range(12), n),
                "t": list(range(n)) * 12,
                "x": (rng.normal(size=(12, 1)) * 2 + rng.normal(size=(12, n))).ravel(),
                "y": rng.normal(size=12 * n),
                "beep": 1,
                "day": np.repeat(range(48), 3),
            }
        )

    @cached_property
    def asked(self):
        return ranef.diary(self.diary, "y", ["x"], person="id", time="t", residual=None)

    @cached_property
    def person(self):
        return ranef.dynamic("y ~ 1 + (1 | id)", self.diary, residual="ar1(t | id)")

    @cached_property
    def voxels(self):
        rng = np.random.default_rng(1)
        return (
            rng.normal(size=(12, 5)),
            np.full((12, 5), 0.3),
            np.column_stack([np.ones(12), np.arange(12.0)]),
        )

    @cached_property
    def second(self):
        return imaging.mixed_effects(*self.voxels)

    @cached_property
    def study(self):
        return gwas.simulate(n=60, m=80, h2=0.3, causal=1, causal_h2=0.2, chromosomes=2, rng=2)

    @cached_property
    def scan(self):
        return gwas.scan(
            "trait ~ sex", self.study.genotypes, self.study.phenotypes, relationship="centred"
        )

    def scanned(self, formula="trait ~ sex", phenotypes=None, **how):
        return gwas.scan(
            formula,
            self.study.genotypes,
            self.study.phenotypes if phenotypes is None else phenotypes,
            **how,
        )

    @cached_property
    def clinic(self):
        return mg.simulate(batches=2, patients=4, controls=2, taxa=20, rng=3)

    def sheet(self, **c):
        return pd.DataFrame(self.clinic.samples).assign(**c)


WRONG = {
    "diary times of truth values": (
        lambda w: ranef.diary(w.diary.assign(t=w.diary.t > 3), "y", ["x"], person="id", time="t"),
        "values, not times",
    ),
    "compliance by days that are not there": (
        lambda w: w.asked.compliance("day"),
        "compliance by",
    ),
    "compliance drawn without days": (
        lambda w: w.asked.plot.compliance(),
        "the picture of compliance needs days; give day=",
    ),
    "prompts a day without days": (
        lambda w: ranef.diary(w.diary, "y", ["x"], person="id", time="t", scheduled=5),
        "scheduled= as a number of prompts a day needs day= too",
    ),
    "by day with one prompt": (
        lambda w: ranef.diary(
            w.diary.assign(d=range(144)), "y", ["x"], person="id", time="t", day="d", by_day=True
        ),
        "by_day=True needs days with several prompts; give day=",
    ),
    "predictors as a number": (
        lambda w: ranef.diary(w.diary, "y", 3, person="id", time="t"),
        "takes names of columns, not",
    ),
    "slopes of nobody": (
        lambda w: ranef.diary(
            w.diary, "y", ["x"], person="id", time="t", residual=None, slopes=False
        ).plot.slopes(),
        "the model has no slopes that vary between persons",
    ),
    "damaged SPSS": (
        lambda w: ranef.diary(
            str(w.file("a.sav", b"$FL2 not a file")), "y", ["x"], person="id", time="t"
        ),
        "is a damaged file of SPSS",
    ),
    "no file of a diary": (
        lambda w: ranef.diary("nothere.csv", "y", ["x"], person="id", time="t"),
        "cannot read 'nothere.csv': no such file or directory",
    ),
    "bytes for a diary": (
        lambda w: ranef.diary(
            str(w.file("b.csv", b"\xff\xfe\x00\x81\x00")), "y", ["x"], person="id", time="t"
        ),
        "is no table of text",
    ),
    "dynamic beside linear": (
        lambda w: ranef.anova(w.person, ranef.lmm("y ~ x + (1 | id)", w.diary)),
        "anova() compares fits of ranef.dynamic with each other, not with",
    ),
    "dynamic of other rows": (
        lambda w: ranef.anova(
            w.person, ranef.dynamic("y ~ 1 + (1 | id)", w.diary.head(100), residual="ar1(t | id)")
        ),
        "the fits use different rows or responses: their likelihoods differ",
    ),
    "two responses of a dynamic model": (
        lambda w: w.person.refit(np.zeros((144, 2))),
        "refit() of a dynamic model takes one response at a time",
    ),
    "inertia with many effects": (
        lambda w: ranef.dynamic(
            "y ~ 1 + (1 | p | id)",
            w.diary,
            residual="ar1(t | id)",
            inertia="~ 1 + x + (1 + x + beep | p | id)",
            dispersion="~ 1 + (1 + x + t | p | id)",
        ),
        ") are the same, so their variances cannot be distinguished; leave one out",
    ),
    "history without outcome": (
        lambda w: w.person.predict(
            w.diary.head(1).assign(t=99), history=w.diary.head(3).assign(y=np.nan)
        ),
        "history has no row with an outcome and all columns of the model",
    ),
    "names of other variants": (
        lambda w: gwas.from_array(
            np.zeros((4, 3)),
            samples=list("abcd"),
            variants=pd.DataFrame({"variant": ["a"], "chromosome": ["1"], "position": [1]}),
        ),
        "columns and variants names",
    ),
    "a gap in the samples": (
        lambda w: gwas.from_array(
            np.zeros((2, 1)),
            samples=pd.DataFrame({"IID": ["a", None]}),
            variants=pd.DataFrame({"variant": ["v"], "chromosome": ["1"], "position": [1]}),
        ),
        "is missing in row",
    ),
    "a position that is missing": (
        lambda w: gwas.from_array(
            np.zeros((2, 1)),
            samples=["a", "b"],
            variants=pd.DataFrame({"variant": ["v"], "chromosome": ["1"], "position": [np.nan]}),
        ),
        "column 'position' of variants has missing or infinite values",
    ),
    "interaction with a category": (
        lambda w: w.scanned(
            "trait ~ sex", w.study.phenotypes.assign(diet=["a", "b", "c"] * 20), interaction="diet"
        ),
        "interaction= takes a column of numbers or of two categories, and",
    ),
    "traits of nobody": (
        lambda w: w.scanned(
            "~ sex", w.study.phenotypes.assign(a=np.nan, b=np.nan), traits=["a", "b"]
        ),
        "no trait can be analysed",
    ),
    "a file of two columns IID": (
        lambda w: w.scanned(phenotypes=str(w.file("p1.txt", "IID\tIID\ttrait\na\ta\t1\n"))),
        "has more than one column",
    ),
    "an empty file of phenotypes": (
        lambda w: w.scanned(phenotypes=str(w.file("p2.txt", ""))),
        "is empty",
    ),
    "a file of a heading": (
        lambda w: w.scanned(phenotypes=str(w.file("p3.txt", "FID\tIID\ttrait\n"))),
        "has a heading and no rows",
    ),
    "a ragged file of phenotypes": (
        lambda w: w.scanned(phenotypes=str(w.file("p5.txt", "FID\tIID\ttrait\na\ta\t1\nb\tb\n"))),
        "columns; the first line has",
    ),
    "a matrix without names": (
        lambda w: gwas.read_grm(str(w.file("k.cXX.txt", "1\t0\n0\t1\n"))),
        "has no names of samples; give samples=, the .fam that the matrix was made",
    ),
    "a matrix with other names": (
        lambda w: gwas.read_grm(str(w.file("k2.cXX.txt", "1\t0\n0\t1\n")), samples=["a", "b", "c"]),
        "rows and samples= names",
    ),
    "no matrix": (
        lambda w: gwas.read_grm("nothere.cXX.txt"),
        "there is no file",
    ),
    "extract nothing": (
        lambda w: w.scanned(extract=[]),
        "names no variants",
    ),
    "an empty file of sets": (
        lambda w: gwas.gene_sets(
            "trait ~ sex", w.study.genotypes, w.study.phenotypes, sets=str(w.file("s.txt", ""))
        ),
        "the file of sets",
    ),
    "a set with a gap": (
        lambda w: gwas.gene_sets(
            "trait ~ sex",
            w.study.genotypes,
            w.study.phenotypes,
            sets=pd.DataFrame({"set": ["a", None], "variant": ["v1", "v2"]}),
        ),
        "of sets has missing values",
    ),
    "a ragged file of sets": (
        lambda w: gwas.gene_sets(
            "trait ~ sex",
            w.study.genotypes,
            w.study.phenotypes,
            sets=str(w.file("s2.txt", "set\tvariant\na\n")),
        ),
        "cells, the heading",
    ),
    "a set that starts nowhere": (
        lambda w: gwas.gene_sets(
            "trait ~ sex",
            w.study.genotypes,
            w.study.phenotypes,
            sets=pd.DataFrame({"set": ["a"], "chromosome": ["1"], "start": ["x"], "end": [5]}),
        ),
        "has a start or an end that is no number",
    ),
    "a VCF without dosages": (
        lambda w: gwas.read_genotypes(
            str(
                w.file(
                    "b.vcf",
                    '##fileformat=VCFv4.2\n##FORMAT=<ID=GT,Number=1,Type=String,Description="g">\n#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\tFORMAT\ta\tb\n1\t5\tv\tA\tC\t.\t.\t.\tGT\t0/1\t0/0\n',
                )
            ),
            field="DS",
        ),
        "does not declare",
    ),
    "a VCF with three copies": (
        lambda w: gwas.scan(
            "t ~ 1",
            str(
                w.file(
                    "c.vcf",
                    '##fileformat=VCFv4.2\n##FORMAT=<ID=DS,Number=1,Type=Float,Description="d">\n#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\tFORMAT\ta\tb\tc\td\n1\t5\tv\tA\tC\t.\t.\t.\tDS\t0.1\t3.5\t1\t0\n',
                )
            ),
            pd.DataFrame({"IID": list("abcd"), "t": [1.0, 2.0, 3.0, 5.0]}),
            relationship=None,
        ),
        "copies of an allele go from 0 to 2",
    ),
    "the folder of a scan": (
        lambda w: w.scanned(resume=str(w.file("dir", "x"))),
        "cannot make the folder",
    ),
    "significance beyond": (
        lambda w: imaging.tfce(np.ones(5), adjacency=[[0, 1.5]]),
        "adjacency is a sparse matrix, or pairs of whole numbers (E, 2)",
    ),
    "values of a surface": (
        lambda w: imaging.tfce(np.ones((2, 5)), adjacency=[[0, 1]]),
        "with adjacency= values are a vector, not of shape",
    ),
    "a mask on a surface": (
        lambda w: imaging.tfce(np.ones(5), adjacency=[[0, 1]], mask=np.ones(5, bool)),
        "mask= is of volumes; on a surface mark places outside by NaN",
    ),
    "flips of nothing": (
        lambda w: imaging.sign_flips(*w.voxels, contrast=[0, 0], n_perm=10, rng=1),
        "finite weights that are not all zero",
    ),
    "flips of the same rows": (
        lambda w: imaging.sign_flips(*w.voxels, contrast=[[0, 1], [0, 2]], n_perm=10, rng=1),
        "rows of the contrast depend on each other",
    ),
    "flips of clusters without places": (
        lambda w: imaging.sign_flips(*w.voxels, contrast=[0, 1], n_perm=10, rng=1, cluster_p=0.01),
        "clusters need neighbours: mask= of a volume, or adjacency=",
    ),
    "no design of FSL": (
        lambda w: imaging.read_design("nothere.mat"),
        "there is no file",
    ),
    "no design at all": (
        lambda w: imaging.read_design(str(w.file("x.txt", "1 2"))),
        "is none of FSL's files of a design (",
    ),
    "a design without a matrix": (
        lambda w: imaging.read_design(str(w.file("x.mat", "/NumWaves 2\n"))),
        "has no line /Matrix: it is not FSL's",
    ),
    "a ragged design": (
        lambda w: imaging.read_design(
            str(w.file("y.mat", "/NumWaves 2\n/NumPoints 2\n/Matrix\n1 2\n1\n"))
        ),
        "numbers; each has one a column",
    ),
    "a design of words": (
        lambda w: imaging.read_design(
            str(w.file("z.mat", "/NumWaves 2\n/NumPoints 2\n/Matrix\n1 a\n1 2\n"))
        ),
        "which is no number",
    ),
    "few subjects": (
        lambda w: imaging.mixed_effects(np.ones((2, 3)), np.ones((2, 3)), np.eye(2)),
        "columns: more subjects are needed",
    ),
    "many random effects": (
        lambda w: imaging.lmm(
            "~ x + (x + t + y + day + np.exp(x) | id)",
            w.diary,
            outcomes=np.random.default_rng(1).normal(size=(144, 3)),
        ),
        "are fitted to many outcomes",
    ),
    "a second level that is not fitted": (
        lambda w: imaging.MixedEffectsSecondLevel().compute_contrast("age"),
        "the model is not fitted; call fit() first",
    ),
    "contrast of two rows": (
        lambda w: w.second.contrast([[1, 0], [0, 1]]),
        "weights, one a column of X, finite and not all zero",
    ),
    "a library of the background": (
        lambda w: mg.train(w.clinic.counts, w.clinic.samples, version=3),
        "version must be text such as '2025-01', not",
    ),
    "no background": (
        lambda w: mg.load(w.file("x.background", "{}")),
        "is not a background that ranef saved",
    ),
    "binary reports": (
        lambda w: mg.read(w.file("a.report", b"\x00\x01\x02\xff")),
        "is not text; say which format it has: format=",
    ),
    "a report of seven columns": (
        lambda w: mg.read(w.file("b.report", "1\t2\t3\tS\t5\n"), format="kraken2"),
        "a report has 6 or 8 columns, not",
    ),
    "Bracken without its column": (
        lambda w: mg.read(w.file("d.tsv", "name\ttaxonomy_id\nx\t1\n"), format="bracken"),
        "has no column new_est_reads, which Bracken writes",
    ),
    "MetaPhlAn without a heading": (
        lambda w: mg.read(w.file("e.tsv", "a\tb\n1\t2\n"), format="metaphlan"),
        "has no heading clade_name",
    ),
    "BIOM that is none": (
        lambda w: mg.read(w.file("f.biom", "{}"), format="biom"),
        "is not a BIOM table",
    ),
    "AnnData that is none": (
        lambda w: mg.read(w.file("g.h5ad", b"\x89HDF\r\n\x1a\n"), format="anndata"),
        "is not an AnnData file",
    ),
    "CZ ID by family": (
        lambda w: mg.read(
            w.file("h.csv", "tax_id,name,tax_level,nt_count\n1,a,1,4\n"), format="czid", rank="F"
        ),
        "CZ ID's reports have species (S) and genera (G), not rank",
    ),
    "CZ ID without counts": (
        lambda w: mg.read(w.file("i.csv", "tax_id,name,tax_level\n1,a,1\n"), format="czid"),
        "value= is 'nt' or 'nr'",
    ),
    "rank as a number": (
        lambda w: mg.read(w.file("j.report", REPORT), rank=3),
        "rank must be a letter such as 'S' (species) or 'G', not",
    ),
    "no reports": (
        lambda w: mg.read([]),
        "no files are given; name at least one",
    ),
    "an empty folder": (
        lambda w: ((w.folder / "empty").mkdir(exist_ok=True), mg.read(w.folder / "empty")),
        "holds no files",
    ),
    "a report without reads": (
        lambda w: mg.read(w.file("k.report", "100\t2\t2\tU\t0\tunclassified\n")),
        "there are no reads of any taxon in",
    ),
    "a taxon that is missing": (
        lambda w: mg.screen(
            pd.DataFrame({"sample": ["a"], "taxon": [None], "reads": [3]}), w.clinic.samples
        ),
        "is missing in row",
    ),
    "counts of no shape": (
        lambda w: mg.screen(pd.DataFrame({"p": [1], "q": [2]}), w.clinic.samples),
        "the counts have neither the columns sample, taxon and reads, nor a row or",
    ),
    "a taxon twice": (
        lambda w: mg.screen(
            pd.DataFrame({"taxon": ["a", "a"], w.clinic.samples["sample"][0]: [1, 2]}),
            w.clinic.samples,
        ),
        "occurs twice in the counts",
    ),
    "no sheet": (
        lambda w: mg.screen(w.clinic.counts, None),
        "samples= needs a sheet with a column 'sample', a table or a path",
    ),
    "a sheet without rows": (
        lambda w: mg.screen(w.clinic.counts, w.file("s.csv", "sample,is_control\n")),
        "has no rows",
    ),
    "a library without a name": (
        lambda w: mg.screen(w.clinic.counts, w.sheet(sample=None)),
        "of the sheet has no sample",
    ),
    "a column as a number": (
        lambda w: mg.screen(w.clinic.counts, w.clinic.samples, batch=3),
        "must be text, not",
    ),
    "a patient's control": (
        lambda w: mg.screen(w.clinic.counts, w.sheet(is_control=False, control_type="water")),
        "but is_control says it is a patient's",
    ),
    "a clinic of nobody": (
        lambda w: mg.simulate(patients=0),
        "a clinic has at least one batch, one patient and one taxon",
    ),
    "a dilution without masses": (
        lambda w: mg.screen(
            w.clinic.counts,
            w.sheet().drop(
                columns=[c for c in ("input_mass", "spike_reads", "spike_mass") if c in w.sheet()]
            ),
        ).plot.dilution(w.clinic.counts["taxon"][0]),
        "a dilution curve needs the libraries' mass or spike-in",
    ),
    "a prior below zero": (
        lambda w: mg.screen(w.clinic.counts, w.clinic.samples, prior=mg.Prior(prevalence=-1)),
        "of the prior must be above 0, not",
    ),
    "other estimators": (
        lambda w: w.one.anova(ranef.sem(ONE, w.items, estimator="MLR")),
        "the fits have different estimators; fit both by the same",
    ),
    "df of a structural model": (
        lambda w: w.one.tidy(df="satterthwaite"),
        "the tests of a structural equation model are normal",
    ),
    "ratios of loadings": (
        lambda w: w.one.tidy(exponentiate=True),
        "exponentiate=True: the parameters of the model are no logarithms",
    ),
    "nothing defined": (
        lambda w: w.one.defined(),
        "the model defines no parameter; write one as 'ind := a*b'",
    ),
    "expected information of slopes": (
        lambda w: ranef.sem(
            "level: 1\n w =~ y1 + y2 + y3\n y4 ~ rv('s')*w\nlevel: 2\n y4 ~~ s",
            w.items,
            cluster="id",
            information="expected",
            quadrature=5,
        ),
        "information='expected' is of models without random slopes of latent",
    ),
    "a bracket that is open": (
        lambda w: ranef.sem(f"{ONE}\nk := (a*2", w.items),
        "of the model: a bracket is not closed",
    ),
    "a word in an expression": (
        lambda w: ranef.sem("f =~ y1 + a*y2 + y3\nk := a 2", w.items),
        "does not belong in an expression",
    ),
    "a deep expression": (
        lambda w: ranef.sem(f"f =~ y1 + a*y2 + y3\nk := {'(' * 3000}a{')' * 3000}", w.items),
        "of the model is nested too deeply",
    ),
    "correlations of one level": (
        lambda w: w.one.icc(),
        "intraclass correlations need levels, 'level: 1' and 'level: 2'",
    ),
    "a level that is not there": (
        lambda w: w.two.scores(level=3),
        "it has no level",
    ),
    "an argument of prediction": (
        lambda w: w.one.predict(w.items, kind="typical"),
        "predict() of a structural equation model has no argument",
    ),
    "no steps": (
        lambda w: ranef.invariance(ONE, w.items, group="sex", steps=[]),
        "steps is empty; the first is 'configural'",
    ),
    "steps as text": (
        lambda w: ranef.invariance(ONE, w.items, group="sex", steps="metric"),
        "steps must be a list such as ['configural', 'metric'], not",
    ),
    "equal groups in invariance": (
        lambda w: ranef.invariance(ONE, w.items, group="sex", group_equal=["loadings"]),
        "invariance() makes parameters equal itself; leave group_equal out",
    ),
    "invariance of one level": (
        lambda w: ranef.invariance(ONE, w.items),
        "invariance() is across groups, group=, or across levels, cluster=",
    ),
    "a group that is not there": (
        lambda w: ranef.sem(f"group: x\n{ONE}\ngroup: m\n{ONE}", w.items, group="sex"),
        "' is none of the data's",
    ),
    "groups without a column": (
        lambda w: ranef.sem(f"group: f\n{ONE}", w.items),
        "the model has a block 'group",
    ),
    "a group of measurements": (
        lambda w: ranef.sem(ONE, w.items, group="x"),
        "values; is it a measurement?",
    ),
    "a line above the levels": (
        lambda w: ranef.sem(f"y1 ~ x\n{TWO}", w.items, cluster="id"),
        "of the model stands above 'level: 1'; a model of several levels has each",
    ),
    "equal to nothing": (
        lambda w: ranef.sem('f =~ y1 + y2 + equal("f=~y9")*y3', w.items),
        ") names no parameter",
    ),
    "partly free of nothing": (
        lambda w: ranef.sem(
            ONE, w.items, group="sex", group_equal=["loadings"], group_partial=["f=~y9"]
        ),
        "which is no parameter",
    ),
    "both sides": (
        lambda w: ranef.sem("y1 ~ y1", w.items),
        "stands on both sides of",
    ),
    "a slope without units": (
        lambda w: ranef.sem('y1 ~ rv("s")*x', w.items),
        "a random slope needs the column of its units, cluster=",
    ),
    "cluster as a number": (
        lambda w: ranef.sem(TWO, w.items, cluster=3),
        "must be a name or a list of names, not",
    ),
    "a covariate without variation": (
        lambda w: ranef.sem(f"{ONE}\nf ~ two", w.items),
        "does not vary at level",
    ),
    "new rows without the group": (
        lambda w: w.groups.predict(w.items.drop(columns="sex")),
        "the new rows need the column",
    ),
    "new rows of another group": (
        lambda w: w.groups.predict(w.items.assign(sex="x")),
        "the model has no group",
    ),
    "the model as a number": (
        lambda w: ranef.sem(3, w.items),
        "the model must be text such as 'f =~ y1 + y2 + y3', not",
    ),
    "all is fixed": (
        lambda w: ranef.sem("y1 ~~ 1*y1\ny1 ~ 0*1", w.items),
        "every parameter of the model is fixed; there is nothing to estimate",
    ),
    "one row a unit": (
        lambda w: ranef.sem(TWO, w.items.assign(id=range(320)), cluster="id"),
        "has one row, so nothing varies within them",
    ),
    "one unit": (
        lambda w: ranef.sem(TWO, w.items.assign(id=0), cluster="id"),
        "levels need at least two",
    ),
    "an endless model": (
        lambda w: ranef.sem("f =~ y1" + " + y1" * 300_000, w.items),
        "the model's text is longer than a million characters",
    ),
    "a slope of two names": (
        lambda w: ranef.sem(
            'level: 1\n y1 ~ rv("a", "b")*x\nlevel: 2\n y1 ~~ a', w.items, cluster="id"
        ),
        "() takes one name, as in",
    ),
    "a product on the left": (
        lambda w: ranef.sem("2*f =~ y1 + y2", w.items),
        "cannot stand before the operator; names joined by + can",
    ),
    "the equation of a structure": (
        lambda w: w.one.equation(),
        "a structural equation model is shown by its text (formula) and by",
    ),
    "all on one chromosome": (
        lambda w: gwas.grm(
            gwas.simulate(n=30, m=20, h2=0.3, chromosomes=1, rng=1).genotypes
        ).without("1"),
        "all variants of the relationship are on chromosome",
    ),
    "names of the folder of a scan": (
        lambda w: (
            (w.folder / "parts").mkdir(exist_ok=True),
            (w.folder / "parts" / "x").write_text("1"),
            w.scanned(resume=str(w.folder / "parts")),
        ),
        "for parts of the scan holds other files",
    ),
    "a trait of two to draw": (
        lambda w: w.scanned(
            "~ sex",
            w.study.phenotypes.assign(b=lambda d: d.trait**2),
            traits=["trait", "b"],
            relationship="centred",
        ).plot.qq(),
        "traits; name one: trait=",
    ),
    "positions without columns": (
        lambda w: gwas.read_genotypes(
            str(w.file("e.bimbam", "rs1, A, C, 1, 0\n")),
            samples=["a", "b"],
            annotation=str(w.file("e.pos", "rs1\n")),
        ),
        "columns; it takes variant, position, chromosome",
    ),
    "a short BIMBAM line": (
        lambda w: gwas.scan(
            "t ~ 1",
            gwas.read_genotypes(
                str(w.file("f.bimbam", "rs1, A, C, 1, 0, 2, 1\nrs2, A\n")), samples=list("abcd")
            ),
            pd.DataFrame({"IID": list("abcd"), "t": [1.0, 2.0, 3.0, 5.0]}),
            relationship=None,
        ),
        "columns; it takes a name, two alleles, and a number for each sample",
    ),
    "too few subjects of images": (
        lambda w: imaging.mixed_effects(np.ones((3, 5)), np.ones((3, 5)), np.ones((2, 1))),
        "it needs one row for each of the",
    ),
    "a contrast of a longitudinal model": (
        lambda w: imaging.lmm(
            "~ x + (1 | id)", w.diary, outcomes=np.random.default_rng(1).normal(size=(144, 3))
        ).contrast([[0, 1], [1, 0]]),
        "a contrast is one row; joint() tests several",
    ),
    "many fixed effects of voxels": (
        lambda w: imaging.lmm(
            "~ factor(day) + (1 | id)",
            w.diary,
            outcomes=np.random.default_rng(1).normal(size=(144, 3)),
        ),
        "are fitted to many outcomes",
    ),
    "a range of Mplus": (
        lambda w: read_mplus("MODEL: f BY y1-z3;"),
        "is no range of names",
    ),
    "a part of Mplus that is not read": (
        lambda w: read_mplus("MODEL: %FOO% f BY y1 y2;"),
        "% of Mplus is not read; %WITHIN% and %BETWEEN% are",
    ),
    "a number of Mplus": (
        lambda w: read_mplus("MODEL: f BY y1@ y2;"),
        "a number is missing after '@'",
    ),
    "a test of Mplus that is not read": (
        lambda w: read_mplus("MODEL: f BY y1 y2;\nMODEL TEST: 0 = a;"),
        "of Mplus is not read; write it with := or anova()",
    ),
    "a word of Mplus that is not read": (
        lambda w: read_mplus("MODEL: f XWITH y1 y2;"),
        "of Mplus is not read",
    ),
    "a slope of two outcomes of Mplus": (
        lambda w: read_mplus("MODEL: %WITHIN% s | y1 y2 ON x;"),
        "one random slope has one outcome and one covariate",
    ),
    "nothing before a word of Mplus": (
        lambda w: read_mplus("MODEL: BY y1 y2;"),
        "the Mplus input has no MODEL command",
    ),
    "labels of Mplus": (
        lambda w: read_mplus("MODEL: f BY y1 y2 (a b c);"),
        "labels and parameters differ in number",
    ),
    "a constraint of Mplus": (
        lambda w: read_mplus("MODEL: f BY y1 y2;\nMODEL CONSTRAINT: huh;"),
        "a line of MODEL CONSTRAINT is not read",
    ),
}


@pytest.fixture(scope="module")
def world():
    return World()


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", WRONG)
def test_the_message_says_what_is_wrong(world, name):
    call, said = WRONG[name]
    refused(call, world, said)
