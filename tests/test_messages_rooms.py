"""Files, arrays and models of the fields that do not fit, and what is said of them."""

from __future__ import annotations

import json
import sys
import zipfile
from dataclasses import replace
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from refusals import refused

import ranef
from ranef import gwas, imaging
from ranef import metagenomics as mg
from ranef.errors import RanefError
from ranef.fields.diary.exports import read_export
from ranef.fields.dynamic.storing import check_estimate
from ranef.fields.imaging.reading import nibabel, nilearn
from ranef.fields.structural.levels import tied_across_levels


class World:
    """Small fits and files, each made where a case asks for it."""

    def __init__(self, folder=Path("/tmp")):
        self.folder = folder

    def file(self, name, content=""):
        path = self.folder / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    @cached_property
    def study(self):
        return gwas.simulate(n=60, m=80, h2=0.3, causal=1, causal_h2=0.2, chromosomes=2, rng=2)

    def people(self, **columns):
        return self.study.phenotypes.assign(**columns)

    def scan(self, formula="trait ~ sex", phenotypes=None, **how):
        table = self.study.phenotypes if phenotypes is None else phenotypes
        return gwas.scan(formula, self.study.genotypes, table, **how)

    def means(self, samples):
        return gwas.read_genotypes(self.file("m.geno", "rs1 A C 0 1 2\n"), samples=samples)

    @cached_property
    def series(self):
        rng = np.random.default_rng(3)
        made = pd.DataFrame(
            {
                "person": np.repeat(np.arange(10), 15), "beep": np.tile(np.arange(15), 10),
                "mood": rng.normal(size=150) + np.repeat(rng.normal(size=10), 15),
            }
        )  # fmt: skip
        return made.assign(week=made.beep // 5, half=made.beep / 2, run=made.person // 5)

    def dynamic(self, data=None, residual="ar1(beep | person)", **how):
        table = self.series if data is None else data
        return ranef.dynamic("mood ~ 1 + (1 | person)", table, residual=residual, **how)

    @cached_property
    def process(self):
        return self.dynamic()

    def lie(self, **changes):
        check_estimate(replace(self.process.estimate, **changes))

    def part(self, **changes):
        own = self.process.estimate.parts
        self.lie(parts={**own, "conditional": replace(own["conditional"], **changes)})

    def end(self, **changes):
        self.lie(end=replace(self.process.estimate.end, **changes))

    @cached_property
    def items(self):
        rng = np.random.default_rng(2)
        school = np.repeat(np.arange(30), 8)
        both = rng.normal(size=240) + rng.normal(size=30)[school]
        columns = {f"y{k}": both + rng.normal(size=240) for k in range(1, 5)}
        return pd.DataFrame({**columns, "school": school})

    def background(self, **changes):
        """Save a background, its head changed."""
        clinic = mg.simulate(rng=1)
        path = mg.train(clinic.counts, clinic.samples).save(self.folder / "c.background")
        with zipfile.ZipFile(path) as archive:
            held = {name: archive.read(name) for name in archive.namelist()}
        head = {**json.loads(held["background.json"]), **changes}
        held["background.json"] = json.dumps(
            {name: value for name, value in head.items() if value is not None}
        ).encode()
        with zipfile.ZipFile(path, "w") as archive:
            for name, content in held.items():
                archive.writestr(name, content)

    def sem(self, model="f =~ y1 + y2 + y3", data=None, **how):
        return ranef.sem(model, self.items if data is None else data, **how)


CASES = {
    "a list of samples without samples": (lambda w: w.means(w.file("s.txt")), "names no samples"),
    "a list of samples with a short line": (
        lambda w: w.means(w.file("s.txt", "f a\nf\nf c\n")),
        "has a line of 1 columns",
    ),
    "a table of samples with a short line": (
        lambda w: w.means(w.file("s.psam", "#FID IID SEX\nf a 1\nf b\nf c 1\n")),
        "has 2 columns; the heading has 3",
    ),
    "a table of samples without rows": (
        lambda w: w.means(w.file("s.psam", "#FID IID SEX\n")),
        "names no samples",
    ),
    "no samples": (lambda w: w.means([]), "samples"),
    "a matrix with names and samples": (
        lambda w: (
            gwas.grm(w.study.genotypes).save(w.folder / "g"),
            gwas.read_grm(w.folder / "g", samples=["a", "b"]),
        ),
        "comes with names of its own; leave samples= out",
    ),
    "a sparse matrix of nobody": (
        lambda w: (
            w.file("e.grm.id"),
            w.file("e.grm.sp", "0 0 1\n"),
            gwas.read_grm(w.folder / "e.grm.sp"),
        ),
        "names no samples",
    ),
    "a sparse matrix that is absent": (
        lambda w: gwas.read_grm(w.folder / "nothing.grm.sp"),
        "there is no file",
    ),
    "steps across levels without levels": (
        lambda w: tied_across_levels("f =~ y1 + y2 + y3", "metric"),
        "invariance across levels is of a model with 'level: 1' and 'level: 2'",
    ),
    "steps across levels of other factors": (
        lambda w: tied_across_levels(
            "level: 1\nf =~ y1 + y2 + y3\ng =~ y4 + y5 + y6\nlevel: 2\nh =~ y1 + y2 + y3", "metric"
        ),
        "level 1 has 2 factors and level 2 1",
    ),
    "steps across levels of other items": (
        lambda w: tied_across_levels(
            "level: 1\nf =~ y1 + y2 + y3\nlevel: 2\nh =~ y1 + y2 + y4", "metric"
        ),
        "'f' within and 'h' between have different indicators",
    ),
    "every row of a structural model lacks a value": (
        lambda w: w.sem(
            data=w.items.assign(
                y1=np.where(np.arange(240) % 2, np.nan, w.items.y1),
                y2=np.where(np.arange(240) % 2, w.items.y2, np.nan),
            )
        ),
        "is left: every one has a missing value",
    ),
    "names of fits": (
        lambda w: w.process.anova(w.dynamic(inertia="~ 1"), names=["a"]),
        "names= has 1 names for 2 fits; give one each",
    ),
    "starts of series": (
        lambda w: w.process.anova(w.dynamic(start="given")),
        "use one start=",
    ),
    "series of several persons": (
        lambda w: w.dynamic(w.series.assign(beep=np.arange(150)), residual="ar1(beep | run)"),
        "runs over several levels of person: a series belongs to one of them, 'ar1(time | person)'",
    ),
    "one mood": (lambda w: w.dynamic(w.series.assign(mood=3.0)), "same in all rows"),
    "saved parts": (lambda w: w.lie(parts={}), "are not those that it has"),
    "saved inertia": (lambda w: w.lie(memory="magic"), "an inertia of no known kind, 'magic'"),
    "saved process": (lambda w: w.part(residual=None), "has no process"),
    "saved theta": (
        lambda w: w.end(theta=np.ones(99)),
        "theta of the dynamic model has not one value a parameter",
    ),
    "saved parameters": (
        lambda w: w.end(theta=w.process.estimate.end.theta * np.nan),
        "has parameters that are no numbers",
    ),
    "saved quadrature": (lambda w: w.end(points=0), "a quadrature that it cannot have"),
    "saved terms": (
        lambda w: w.lie(
            parts={k: replace(p, terms=()) for k, p in w.process.estimate.parts.items()}
        ),
        "has no random term",
    ),
    "saved rows": (
        lambda w: w.part(X=np.ones((3, 1)), y=np.ones(3)),
        "different rows",
    ),
    "saved clock": (lambda w: w.lie(memory="clock"), "does not hold together"),
    "images of other shapes": (
        lambda w: imaging.mixed_effects(np.ones((5, 3)), np.ones((5, 2)), np.ones((5, 1))),
        "Y has shape (5, 3) and V (5, 2); they must agree",
    ),
    "a VCF that is a folder": (
        lambda w: ((w.folder / "d.vcf").mkdir(), gwas.read_genotypes(w.folder / "d.vcf")),
        "is no file, but a folder",
    ),
    "a table of means that is a folder": (
        lambda w: (
            (w.folder / "d.geno").mkdir(),
            gwas.read_genotypes(w.folder / "d.geno", samples=list("abc")),
        ),
        "is no file, but a folder",
    ),
    "a PGEN without variants": (
        lambda w: (
            w.file("q.psam", "#IID\na\n"),
            w.file("q.pvar", "#CHROM POS ID REF ALT\n"),
            w.file("q.pgen", b"l\x1b\x02" + bytes(9)),
            gwas.read_genotypes(w.folder / "q.pgen"),
        ),
        "lists no variants",
    ),
    "a background that is not one": (
        lambda w: mg.load(w.file("b.background", "none")),
        "b.background is not a background that ranef saved; give the file of its save()",
    ),
    "a background of another version": (
        lambda w: (w.background(file_version=99), mg.load(w.folder / "c.background")),
        "; train the background again",
    ),
    "a background of another kind": (
        lambda w: (w.background(kind="cheese"), mg.load(w.folder / "c.background")),
        "is not a background that ranef saved",
    ),
    "a background without its parts": (
        lambda w: (
            w.background(taxa=None, samples=None, settings=None),
            mg.load(w.folder / "c.background"),
        ),
        "c.background is damaged: 'taxa'; take another copy of it",
    ),
}


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return World(tmp_path_factory.mktemp("rooms"))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", CASES)
def test_what_does_not_fit_is_said(world, name):
    call, said = CASES[name]
    refused(call, world, said)


ABSENT = {
    "nibabel": (lambda: nibabel(), "pip install 'ranef[imaging]'"),
    "nilearn": (lambda: nilearn(), "pip install 'ranef[imaging]'"),
    "pyreadstat": (lambda: read_export("diary.sav"), "diary.sav is a file of SPSS, which needs"),
    "marginaleffects": (
        lambda: ranef.for_marginaleffects(
            ranef.lmm("Yield ~ 1 + (1 | Batch)", ranef.data.load("Dyestuff"))
        ),
        "pip install marginaleffects",
    ),
}


@pytest.mark.parametrize("package", ABSENT)
def test_a_package_that_is_absent_is_named_and_how_to_install_it(package, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "diary.sav").write_bytes(b"$FL2" + bytes(200))
    for name in [package, *(n for n in sys.modules if n.startswith(f"{package}."))]:
        monkeypatch.setitem(sys.modules, name, None)
    call, said = ABSENT[package]
    with pytest.raises(RanefError) as caught:
        call()
    assert said in " ".join(str(caught.value).split())
    assert package in str(caught.value)
