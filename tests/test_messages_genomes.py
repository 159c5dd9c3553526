"""Messages of genomes that no other test provokes: spoiled files, disks that fail, odd studies."""

from __future__ import annotations

import io
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from gwas_data import random_calls, write_files
from gwas_formats import of_calls, of_dosages, write_bgen, write_bimbam, write_pgen, write_zarr

from ranef import gwas
from ranef.errors import RanefError
from ranef.fields.gwas import kinblocks, logistic, plink, spool
from ranef.fields.gwas.plink import read_text_lines
from ranef.fields.gwas.vcf import _check_end

N = 60
BLOCKS = np.kron(np.eye(2), np.ones((30, 30)))
HUGE = np.where(np.arange(N) % 2, 1.7e308, 1e300)
TURNS = np.where(np.arange(N) % 2, 1.0, -1.0) / np.sqrt(N)


class World:
    """A study of made-up genotypes, and files of every kind in folders of their own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.study = gwas.simulate(n=N, m=80, h2=0.3, causal=1, causal_h2=0.2, chromosomes=2, rng=2)
        self.calls_of = random_calls(12, 30, 3)
        self.calls = of_calls(self.calls_of)
        self.kin = gwas.grm(self.study.genotypes)

    def people(self, **columns):
        return self.study.phenotypes.assign(**columns)

    def scan(self, formula="trait ~ sex", table=None, **how):
        people = self.study.phenotypes if table is None else table
        return gwas.scan(formula, self.study.genotypes, people, **how)

    def path(self, name):
        place = self.folder / name.replace(" ", "_")
        place.mkdir(exist_ok=True)
        return place

    def text(self, name, content):
        (self.folder / name).write_text(content, encoding="utf-8")
        return self.folder / name


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return World(tmp_path_factory.mktemp("genomes"))


def related(values, kin=None):
    """A relationship of the study's samples with these values."""
    return pd.DataFrame(values, index=kin.iid, columns=kin.iid)


def cases(world, ill):
    return world.people(ill=np.asarray(ill).astype(int))


def bgen(world, name, spoil=None, samples=True):
    path = write_bgen(world.calls, world.path(name) / "study.bgen")
    if not samples:
        path.with_suffix(".sample").unlink()
    if spoil is not None:
        path.write_bytes(spoil(bytearray(path.read_bytes())))
    return path


def nameless_bgen(world, name):
    """A file that does not name its samples."""
    from bgen import BgenWriter

    path = world.path(name) / "study.bgen"
    with BgenWriter(str(path), 3) as out:
        out.add_variant("", "rs1", "1", 5, ["G", "A"], np.full((3, 3), 1 / 3))
    return path


def empty_bgen(world, name):
    from bgen import BgenWriter

    path = world.path(name) / "study.bgen"
    with BgenWriter(str(path), 3, ["a", "b", "c"]):
        pass
    return path


def foreign_index(world, name, shorter):
    """A file beside the index of another, of fewer variants or at other places."""
    path = bgen(world, name)
    if shorter:
        index = write_bgen(of_calls(world.calls_of[:5]), world.path(f"{name} other") / "s.bgen")
        shutil.copy(f"{index}.bgi", f"{path}.bgi")
        return path
    with closing(sqlite3.connect(f"{path}.bgi")) as base:
        of = "select file_start_position from Variant where rsid = 'rs3'"
        base.execute(f"update Variant set file_start_position = ({of}) where rsid = 'rs2'")
        base.commit()
    return path


def polyploid_bgen(world, name):
    from bgen import BgenWriter

    path = world.path(name) / "study.bgen"
    with BgenWriter(str(path), 3, ["a", "b", "c"]) as out:
        out.add_variant("", "rs1", "1", 5, ["G", "A"], np.full((3, 4), 0.25), ploidy=3)
    return path


def zarr_store(world, name, change=None, study=None):
    import zarr

    path = write_zarr(world.calls if study is None else study, world.path(name) / "study.zarr")
    if change is not None:
        change(zarr.open_group(str(path), mode="a"), path)
    return path


def four_copies(store, path):
    codes = np.zeros((12, 30, 3), dtype=np.int8)
    del store["call_genotype"]
    store.create_array("call_genotype", data=codes)


def damaged(array):
    def change(store, path):
        for part in (path / array).rglob("*"):
            if part.is_file() and part.name != "zarr.json":
                part.write_bytes(b"no chunk")

    return change


def scanned(path):
    genotypes = gwas.read_genotypes(path)
    return genotypes.read(0, len(genotypes.variants))


def pgen(world, name, spoil):
    path = write_pgen(world.calls, world.path(name) / "study")
    spoil(path)
    return path


def shortened_header(path):
    content = bytearray(path.read_bytes())
    content[11] = 4
    path.write_bytes(content[:21])


def packed_pvar(path):
    path.with_suffix(".pvar").unlink()
    path.with_name("study.pvar.zst").write_bytes(b"\x28\xb5\x2f\xfd" + b"no frame" * 9)


def two_traits(world, **other):
    return world.scan("~ sex", world.people(**other), traits=["trait", "other"], joint=True)


def few_in_common(world):
    trait, other = np.random.default_rng(1).normal(size=(2, N))
    trait[40:], other[:31] = np.nan, np.nan
    return two_traits(world, trait=trait, other=other)


def constant_in_common(world):
    trait = world.study.phenotypes["trait"].to_numpy().copy()
    other = np.r_[np.ones(40), np.random.default_rng(1).normal(size=20)]
    trait[40:] = np.nan
    return two_traits(world, trait=trait, other=other)


def of_one_sample_twice(world):
    kin = world.kin
    twice = (*kin.iid[:-1], kin.iid[0])
    return type(kin)(kin.matrix, ("0",) * N, twice, kin.n_variants, kin.kind, kin.chromosomes,
                     kin.library)  # fmt: skip


def dependent(world):
    """Covariates that are apart, until a second trait's missing values take a level away."""
    u = np.r_[np.zeros(10), np.ones(N - 10)]
    other = np.random.default_rng(4).normal(size=N)
    other[:10] = np.nan
    return world.scan(
        "~ sex + u", world.people(u=u, other=other), traits=["trait", "other"], joint=True
    )


def no_common_variants(world):
    calls = np.zeros((20, 30), dtype=np.int8)
    return gwas.from_array(calls.T, samples=[f"S{k}" for k in range(30)])


def steps(world):
    genotypes = no_common_variants(world)
    people = pd.DataFrame({"IID": list(genotypes.samples.iid), "y": np.arange(30.0) ** 1.5})
    return gwas.scan("y ~ 1", genotypes, people, relationship=gwas.two_step(None))


def of_one_chromosome(world):
    calls = random_calls(12, 30, 3)
    calls[6:] = 0
    prefix = write_files(world.path("one chromosome"), calls=calls)
    return gwas.scan("phenotype ~ 1", prefix, relationship="loco")


WRONG = {
    "BGEN that is none": (
        lambda w: gwas.read_genotypes(bgen(w, "no bgen", lambda b: b[:30])), "cannot be read"
    ),
    "BGEN damaged at a variant": (
        lambda w: scanned(bgen(w, "hurt bgen", lambda b: b[:-40] + b"\xff" * 40)),
        "is damaged at the variant",
    ),
    "BGEN without variants": (
        lambda w: gwas.read_genotypes(empty_bgen(w, "empty bgen")), "study.bgen' holds no variants"
    ),
    "an index of fewer variants": (
        lambda w: scanned(foreign_index(w, "fewer bgen", True)),
        "study.bgen.bgi' belongs to another file; delete it or make it again",
    ),
    "an index of other positions": (
        lambda w: scanned(foreign_index(w, "other bgen", False)),
        "study.bgen.bgi' belongs to another file; delete it or make it again",
    ),
    "BGEN of nobody": (
        lambda w: gwas.read_genotypes(nameless_bgen(w, "nobody bgen")),
        "does not name its samples, and there is no .sample beside it; give "
        "gwas.read_genotypes(path, samples=...)",
    ),
    "BGEN of three alleles a sample": (
        lambda w: scanned(polyploid_bgen(w, "three bgen")),
        "variant 'rs1' has samples with 3 alleles; one and two are read: leave it out",
    ),
    "Zarr of three alleles a sample": (
        lambda w: scanned(zarr_store(w, "three zarr", four_copies)),
        "variant 'rs0' has samples with 3 alleles; one and two are read",
    ),
    "Zarr of another field": (
        lambda w: gwas.read_genotypes(zarr_store(w, "field zarr"), field="GP"),
        "field is one of 'GT' and 'DS' of a Zarr store, not 'GP'",
    ),
    "Zarr with damaged positions": (
        lambda w: gwas.read_genotypes(zarr_store(w, "hurt zarr", damaged("variant_position"))),
        "variant_position is damaged",
    ),
    "Zarr with damaged genotypes": (
        lambda w: scanned(zarr_store(w, "hurt calls", damaged("call_genotype"))), "is damaged"
    ),
    "families of a sample twice": (
        lambda w: gwas.read_genotypes(zarr_store(w, "twice zarr"), samples=w.text(
            "twice.psam", "#FID IID SEX\n" + "".join(
                f"{a} S{k:03d} 1\n" for k in range(30) for a in ("a", "b"))[: -len("b S029 1\n")]
            + "c S000 1\n")),
        "samples= has the IID 'S000' twice",
    ),
    "families of some samples": (
        lambda w: gwas.read_genotypes(zarr_store(w, "some zarr"), samples=w.text(
            "some.psam", "#IID SEX\n" + "".join(f"S{k + 1:03d} 1\n" for k in range(30)))),
        "samples= has no row for 1 samples of",
    ),
    "PGEN within its header": (
        lambda w: gwas.read_genotypes(pgen(w, "short pgen", shortened_header)), "is truncated"
    ),
    "a packed .pvar that is none": (
        lambda w: gwas.read_genotypes(pgen(w, "packed pgen", packed_pvar)),
        "cannot be read",
    ),
    "too few values of every trait": (
        few_in_common, "9 samples have values of every trait: too few for a joint test"
    ),
    "a trait without variation in common": (
        constant_in_common, "other does not vary among samples with values of every trait"
    ),
    "covariates that depend on each other": (dependent, "depend on each other among the analysed"),
    "no variant for kin": (
        lambda w: gwas.sparse_grm(no_common_variants(w)),
        "has no variant that a relationship could be made of",
    ),
    "no variant to predict by": (steps, "is frequent enough and typed well enough to predict by"),
    "one chromosome with variants": (
        of_one_chromosome, "only chromosome '1' has variants for a relationship"
    ),
    "an indefinite relationship of cases": (
        lambda w: w.scan("ill ~ 1", cases(w, np.arange(N) < 30), family="binomial",
                         relationship=related(BLOCKS - 5 * np.outer(TURNS, TURNS), w.kin)),
        "the relationship is indefinite, and no covariance has an eigenvalue below zero; make one",
    ),
    "nobody in common": (
        lambda w: w.scan(
            "trait ~ age", w.study.phenotypes.head(30)[["IID", "trait"]],
            covariates=w.people(age=1.0).tail(30)[["IID", "age"]],
        ),
        "no sample of the genotypes is left",
    ),
    "a trait that leaves the numbers with its offset": (
        lambda w: w.scan("trait ~ offset(o)", w.people(trait=HUGE, o=-HUGE)),
        "'trait' holds infinite values in 30 samples; mark them as missing",
    ),
    "a relationship that names a sample twice": (
        lambda w: w.scan(relationship=of_one_sample_twice(w)),
        "names the sample 'I000001' twice; leave one of its rows out",
    ),
    "a relationship whose IIDs name nobody": (
        lambda w: of_one_sample_twice(w).relationship(["1"]),
        "the relationship has the IID 'I000001' twice, so that an IID alone names nobody",
    ),
    "an environment of one value": (
        lambda w: w.scan("trait ~ 0 + diet", w.people(diet=5.0), interaction="diet"),
        "does not vary",
    ),
    "no trait with a share of variance": (
        lambda w: gwas.heritability(
            "~ sex", w.people(a=1.0, b=2.0), traits=["a", "b"], relationship=w.kin),
        "no trait can be analysed",
    ),
    "pictures of two different scans": (
        lambda w: w.scan().plot.miami(other=gwas.scan(
            "y ~ 1",
            gwas.from_array(random_calls(12, 30, 3).T, samples=[f"T{k}" for k in range(30)]),
            pd.DataFrame({"IID": [f"T{k}" for k in range(30)], "y": np.arange(30.0) ** 1.5}),
            relationship=None)),
        "the two scans are of different variants",
    ),
    "a picture of nothing tested": (
        lambda w: gwas.scan(
            "y ~ 1", no_common_variants(w),
            pd.DataFrame({"IID": [f"S{k}" for k in range(30)], "y": np.arange(30.0) ** 1.5}),
            relationship=None).plot.qq(),
        "no variant of y was tested: there is nothing to draw",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
@pytest.mark.filterwarnings("ignore")
def test_it_is_refused_in_words(name, world):
    call, said = WRONG[name]
    with pytest.raises(RanefError) as caught:
        call(world)
    assert said in " ".join(str(caught.value).split())


BEYOND = {
    "relatives that tell cases from controls": ("MOST_TAU", "grows without end: relatives tell"),
    "random effects that fit every case": ("FAR", "has no finite optimum: random effects fit"),
}


@pytest.mark.parametrize("name", BEYOND)
def test_a_logistic_model_without_an_end(name, world, monkeypatch):
    """No data of this size go so far: the bounds are lowered."""
    bound, said = BEYOND[name]
    monkeypatch.setattr(logistic, bound, 0.5)
    with pytest.raises(RanefError, match=said):
        world.scan("ill ~ 1", cases(world, np.arange(N) < 30), family="binomial",
                   relationship=related(BLOCKS, world.kin))  # fmt: skip


def test_blocks_of_kin_that_are_too_large(world, monkeypatch):
    monkeypatch.setattr(kinblocks, "LARGEST", 3)
    kin = gwas.sparse_grm(world.study.genotypes, cut=0.02)
    said = "samples are connected by kin .* more than 3 is not decomposed: cut it higher"
    with pytest.raises(RanefError, match=said):
        world.scan(relationship=gwas.two_step(kin))


def test_a_name_that_no_table_can_hold(world, tmp_path):
    calls = random_calls(12, 30, 3).T
    names = [f'rs{k}","' if k else "rs\x07," for k in range(12)]
    people = pd.DataFrame({"IID": [f"T{k}" for k in range(30)], "y": np.arange(30.0) ** 1.5})
    genotypes = gwas.from_array(calls, samples=list(people["IID"]), variants=names)
    found = gwas.scan("y ~ 1", genotypes, people, relationship=None)
    with pytest.raises(RanefError, match="cannot stand in a table between tabs; rename it"):
        found.save(tmp_path / "found.tsv")


class FullDisk(io.BytesIO):
    def write(self, content):
        raise OSError(28, "No space left on device")


def test_no_room_for_genotypes_that_are_kept(world, tmp_path, monkeypatch):
    path = write_bimbam(of_dosages(12, 30, 2), tmp_path / "study.geno.txt")
    monkeypatch.setattr(spool.tempfile, "SpooledTemporaryFile", lambda size: FullDisk())
    with pytest.raises(RanefError, match=r"there is no room: No space left .* set TMPDIR"):
        gwas.read_genotypes(path)


def test_disks_that_fail(world, tmp_path, monkeypatch):
    """Every reader names the file and the reason where the disk ends a read."""
    prefix = write_files(tmp_path)
    bed = gwas.read_genotypes(prefix)
    bimbam = write_bimbam(of_dosages(12, 30, 2), tmp_path / "other.geno.txt")
    two = write_pgen(world.calls, tmp_path / "two")
    matrix = tmp_path / "K.rel.bin"
    matrix.write_bytes(world.kin.matrix.tobytes())
    (tmp_path / "K.rel.bin.id").write_text("\n".join(world.kin.iid))
    from ranef.fields.gwas import bimbam as of_bimbam
    from ranef.fields.gwas import matrices, pgen, vcf

    def failing(*given, **more):
        raise OSError(5, "Input/output error")

    for module in (of_bimbam, pgen, vcf, plink):
        monkeypatch.setattr(module, "open", failing, raising=False)
    monkeypatch.setattr(plink, "file_bytes", failing)
    monkeypatch.setattr(matrices.Path, "read_bytes", failing)
    calls = {
        "study.bed": lambda: bed.read(0, 3),
        "study.fam": lambda: read_text_lines(tmp_path / "study.fam"),
        "other.geno.txt": lambda: gwas.read_genotypes(bimbam),
        "two.pgen": lambda: pgen._size(two),
        "two.pgen'": lambda: list(pgen._kinds_of_records(two, 12, 0x44)),
        "K.rel.bin": lambda: matrices._bytes(matrix, np.dtype(float)),
        "some.vcf.gz": lambda: _check_end(tmp_path / "some.vcf.gz"),
    }
    for file, call in calls.items():
        with pytest.raises(RanefError, match=f"cannot read .*{file}.*nput/output error"):
            call()
