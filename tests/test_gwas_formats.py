"""The same genotypes from every kind of file give the same numbers."""

from __future__ import annotations

import gzip
from pathlib import Path

import gwas_formats as written
import numpy as np
import pandas as pd
import pytest
from gwas_data import random_calls, write_files

from ranef import gwas
from ranef.cli import main
from ranef.errors import DataError, FileError, ModelError

pytest.importorskip("pgenlib")
pytest.importorskip("bgen")
pytest.importorskip("cyvcf2")
zarr = pytest.importorskip("zarr")

M, N = 30, 60
COLUMNS = ["n", "n_missing", "frequency", "estimate", "std_error", "p_wald", "p_lrt", "p_score"]


def write_bed(study: written.Study, prefix: Path) -> Path:
    calls = np.where(np.isnan(study.dosages), -1, study.dosages).astype(np.int8)
    return write_files(
        prefix.parent, prefix.name, calls=calls, chromosome=study.chromosome,
        sex=[str(s) for s in study.sex], ids=study.names,
    )  # fmt: skip


def write_vcf_gz(study: written.Study, prefix: Path) -> Path:
    return written.write_vcf(study, prefix.with_suffix(".vcf.gz"))


WRITERS = {
    "pgen": written.write_pgen,
    "bgen": lambda s, p: written.write_bgen(s, p.with_suffix(".bgen")),
    "vcf": lambda s, p: written.write_vcf(s, p.with_suffix(".vcf")),
    "vcf.gz": write_vcf_gz,
    "zarr": lambda s, p: written.write_zarr(s, p.with_suffix(".zarr")),
    "bimbam": lambda s, p: written.write_bimbam(s, p.with_suffix(".geno.txt.gz")),
}  # fmt: skip


def people(seed: int = 4) -> dict[str, object]:
    rng = np.random.default_rng(seed)
    return {"IID": [f"S{k:03d}" for k in range(N)], "y": rng.normal(size=N),
            "x": rng.normal(size=N)}  # fmt: skip


def scanned(source, **more) -> pd.DataFrame:
    more.setdefault("relationship", "centred")
    more.setdefault("precision", "double")
    return gwas.scan("y ~ x", source, people(), min_maf=0.0, max_missing=1.0, **more).tidy()


def sexed(study: written.Study, kind: str, path: Path, folder: Path):
    """The genotypes of a file, with the sexes that VCF and Zarr do not hold."""
    more = {}
    if kind.startswith(("vcf", "zarr")):
        more["samples"] = written.write_fam(study, folder / "own.fam")
    return gwas.read_genotypes(path, **more)


@pytest.mark.parametrize(
    ("kind", "sexes"), [*((k, False) for k in WRITERS), *((k, True) for k in WRITERS)][:-1]
)
def test_calls_are_the_same_from_every_format(tmp_path, kind, sexes):
    study = written.of_calls(random_calls(M, N, 2), sexes)
    bed = scanned(write_bed(study, tmp_path / "plain"))
    source = sexed(study, kind, WRITERS[kind](study, tmp_path / "study"), tmp_path)
    assert source.calls == (kind != "bgen")
    found = scanned(source)
    assert found["variant"].tolist() == study.ids
    assert (found["effect_allele"] == "A").all()
    assert (found["status"] == "ok").all()
    np.testing.assert_array_equal(found["n"], bed["n"])
    np.testing.assert_allclose(found[COLUMNS], bed[COLUMNS], rtol=1e-9)


@pytest.mark.parametrize("kind", [k for k in WRITERS if k != "vcf.gz"])
def test_dosages_are_the_same_from_every_format(tmp_path, kind):
    study = written.of_dosages(M, N, 5)
    table = pd.DataFrame({
        "variant": study.ids, "chromosome": study.chromosome, "position": study.position,
    })  # fmt: skip
    array = scanned(gwas.from_array(study.dosages.T, samples=study.names, variants=table))
    source = gwas.read_genotypes(WRITERS[kind](study, tmp_path / "study"))
    assert not source.calls
    # 16 bits of two probabilities each hold a dosage to 1/65535.
    np.testing.assert_allclose(
        scanned(source)[[*COLUMNS, "info"]], array[[*COLUMNS, "info"]],
        rtol=2e-3 if kind == "bgen" else 1e-6, atol=1e-12,
    )  # fmt: skip
    part = scanned(source, extract=[study.ids[k] for k in (3, 4, 20)], block=7)
    whole = scanned(source)
    np.testing.assert_allclose(
        part.loc[[3, 4, 20], COLUMNS], whole.loc[[3, 4, 20], COLUMNS], rtol=1e-6
    )


def test_information_is_a_filter_of_dosages(tmp_path):
    study = written.of_dosages(M, N, 6)
    study.dosages[4] = 1.0 + 0.05 * np.random.default_rng(1).normal(size=N)
    source = gwas.read_genotypes(WRITERS["pgen"](study, tmp_path / "study"))
    found = scanned(source, min_info=0.3)
    assert found["status"][4] == "info"
    p = study.dosages[0] / 2
    p = np.nanmean(p)
    twin = np.nanvar(study.dosages[0]) / (2 * p * (1 - p))
    assert found["info"][0] == pytest.approx(twin, rel=1e-4)
    with pytest.raises(ModelError, match="min_hwe counts called"):
        scanned(source, min_hwe=1e-6)


@pytest.mark.parametrize("phased", [False, True])
def test_bgen_in_eight_bits_phased_or_not(tmp_path, phased):
    study = written.of_calls(random_calls(M, N, 3, missing=0.02))
    path = written.write_bgen(study, tmp_path / "s.bgen", bits=8, phased=phased)
    bed = scanned(write_bed(study, tmp_path / "plain"))
    np.testing.assert_allclose(scanned(path)[COLUMNS], bed[COLUMNS], rtol=1e-9)


@pytest.mark.parametrize("size", [M, 3 * M])
def test_a_bgen_file_without_an_index(tmp_path, size):
    """Its reader stands at the file's end after a look at all variants, as of plink2's files."""
    study = written.of_calls(random_calls(size, N, 6, missing=0.02))
    bed = scanned(write_bed(study, tmp_path / "plain"))
    path = written.write_bgen(study, tmp_path / "s.bgen", bits=8)
    path.with_name("s.bgen.bgi").unlink()
    np.testing.assert_allclose(scanned(path)[COLUMNS], bed[COLUMNS], rtol=1e-9)


def test_dosages_on_the_chromosomes_of_the_sexes(tmp_path):
    """A male's X is one allele and twice a dosage; Y and MT are one; females have no Y."""
    rng = np.random.default_rng(7)
    values = np.round(rng.uniform(0, 2, (6, N)), 2)
    table = pd.DataFrame(
        {"variant": list("abcdef"), "chromosome": ["1", "X", "Y", "MT", "23", "25"]}
    )
    sex = np.array([1 + k % 2 for k in range(N)])
    values[4][sex == 1] = np.where(values[4][sex == 1] > 1, 1.9, 0.1)
    samples = pd.DataFrame({"IID": people()["IID"], "sex": sex})
    source = gwas.from_array(values.T, samples=samples, variants=table)
    scan = gwas.scan("y ~ x", source, people(), relationship=None, min_maf=0, max_missing=1)
    found = scan.tidy()
    male = sex == 1
    x = values[1]
    assert found["frequency"][1] == pytest.approx(
        (x[male].sum() / 2 + x[~male].sum()) / (male.sum() + 2 * (~male).sum())
    )
    assert found["n"].tolist() == [N, N, male.sum(), N, N, N]
    assert found["n_missing"].tolist() == [0] * 6
    assert found["frequency"][2] == pytest.approx(values[2][male].mean() / 2)
    assert found["frequency"][3] == pytest.approx(values[3].mean() / 2)
    assert found["frequency"][4] == pytest.approx(
        (values[4][male].sum() / 2 + values[4][~male].sum()) / (male.sum() + 2 * (~male).sum())
    )
    assert found["frequency"][5] == pytest.approx(values[5].mean() / 2)
    assert "on x the 30 males" in " ".join(str(scan).lower().split())


VCF = """##fileformat=VCFv4.2
##contig=<ID=1>
##FORMAT=<ID=GT,Number=1,Type=String,Description="-">
##FORMAT=<ID=DS,Number=A,Type=Float,Description="-">
##FORMAT=<ID=GP,Number=G,Type=Float,Description="-">
#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\tFORMAT\ta\tb\tc\td
1\t10\tr1\tA\tG\t.\t.\t.\tGT:DS:GP\t0/1:0.9:0.1,0.8,0.1\t1|1:1.9:0,0.2,0.8\t./.:.:.\t0/0:0.1:1,0,0
1\t20\tr2\tA\tG,T\t.\t.\t.\tGT\t0/1\t1/2\t2/2\t0/0
1\t30\t.\tA\tG\t.\t.\t.\tGT\t0/1\t./1\t1\t0/0
1\t40\tr4\tA\t.\t.\t.\t.\tGT\t0/0\t0/0\t0/0\t0/0
"""


def values_of(source) -> np.ndarray:
    from ranef.fields.gwas.genotypes import Chosen

    chosen = Chosen.of(source.samples, np.arange(len(source.samples)))
    block = source.read(0, len(source.variants))
    tally = block.tally(chosen, "additive")
    rows = np.arange(len(source.variants))
    return block.coded(rows, chosen, tally, centred=False, single=False)


def test_fields_of_a_vcf(tmp_path):
    path = tmp_path / "s.vcf"
    path.write_text(VCF)
    calls = gwas.read_genotypes(path, field="GT")
    assert values_of(calls)[0].tolist() == [1, 2, 1, 0]
    assert values_of(calls)[2].tolist() == [1, 1, 2, 0]  # half a call is none, one allele is two
    dosages = gwas.read_genotypes(path)
    assert dosages.name.endswith("(DS)")
    mean = (0.9 + 1.9 + 0.1) / 3
    assert values_of(dosages)[0].tolist() == pytest.approx([0.9, 1.9, mean, 0.1])
    probable = gwas.read_genotypes(path, field="GP")
    assert values_of(probable)[0].tolist() == pytest.approx([1.0, 1.8, 2.8 / 3, 0.0])
    assert calls.variants.id.tolist() == ["r1", "r2", "1:30:A:G", "r4"]
    assert calls.variants.several.tolist() == [False, True, False, False]
    with pytest.raises(ModelError, match="field is one of"):
        gwas.read_genotypes(path, field="PL")


def test_more_than_two_alleles_are_flagged(tmp_path):
    study = written.of_calls(random_calls(M, N, 8))
    path = written.write_vcf(study, tmp_path / "s.vcf")
    path.write_text(path.read_text().replace("rs5\tG\tA", "rs5\tG\tA,T"))
    found = scanned(path)
    assert found["status"][5] == "multiallelic"
    assert np.isnan(found["p_wald"][5])
    assert found["effect_allele"][5] == "A,T"
    others = found.drop(index=5)
    assert (others["status"] == "ok").all()
    prefix = written.write_pgen(study, tmp_path / "t")
    pvar = prefix.with_suffix(".pvar")
    pvar.write_text(pvar.read_text().replace("rs5\tG\tA", "rs5\tG\tA,T"))
    same = scanned(prefix)
    assert same["status"].tolist() == found["status"].tolist()
    np.testing.assert_allclose(same.drop(index=5)[COLUMNS], others[COLUMNS], rtol=1e-9)


def test_zarr_arrays_are_read_in_pieces(tmp_path):
    study = written.of_dosages(M, N, 9)
    array = zarr.create_array(
        str(tmp_path / "G.zarr"), data=study.dosages.T.astype(np.float32), chunks=(20, 7)
    )
    lazy = gwas.from_array(array, samples=study.names)
    plain = gwas.from_array(study.dosages.T.astype(np.float32), samples=study.names)
    np.testing.assert_array_equal(values_of(lazy), values_of(plain))
    calls = np.where(np.isnan(study.dosages), -1, np.rint(study.dosages)).astype(np.int8)
    whole = gwas.from_array(
        zarr.create_array(str(tmp_path / "H.zarr"), data=calls.T), samples=study.names
    )
    assert whole.calls
    pd.testing.assert_frame_equal(
        scanned(whole), scanned(gwas.from_array(calls.T, samples=study.names))
    )


def test_many_rows_go_to_the_disk(tmp_path, monkeypatch):
    from ranef.fields.gwas import spool

    study = written.of_dosages(M, N, 5)
    path = WRITERS["vcf"](study, tmp_path / "study")
    small = values_of(gwas.read_genotypes(path))
    monkeypatch.setattr(spool, "MOST_IN_MEMORY", 1000)
    source = gwas.read_genotypes(path)
    assert isinstance(source._values, np.memmap)
    np.testing.assert_array_equal(values_of(source), small)


# --- lists of samples, as programs write them


@pytest.mark.parametrize(
    "text",
    ["#FID\tIID\tSEX\r\n0\ta\t1\r\n0\tb\t2\r\n", "\ufeff#IID SEX\na 1\nb 2\n",
     "##comment\n#FID IID SID PAT MAT SEX PHENO1\n0 a 0 0 0 M 1\n0 b 0 0 0 F 2\n",
     "0 a 0 0 1 -9\n0 b 0 0 2 -9\n"],
)  # fmt: skip
def test_lists_of_samples(tmp_path, text):
    study = written.of_calls(random_calls(M, 2, 2, missing=0.0))
    prefix = written.write_pgen(study, tmp_path / "t")
    prefix.with_suffix(".psam").write_bytes(text.encode())
    samples = gwas.read_genotypes(prefix).samples
    assert samples.iid == ("a", "b")
    assert samples.sex.tolist() == [1, 2]


def test_names_keep_their_zeros_and_bgen_has_a_list_beside(tmp_path):
    study = written.of_calls(random_calls(M, 3, 2, missing=0.0))
    study.names = ["007", "7", "0"]
    path = written.write_bgen(study, tmp_path / "s.bgen")
    assert gwas.read_genotypes(path).samples.iid == ("007", "7", "0")
    path.with_suffix(".sample").unlink()
    assert gwas.read_genotypes(path).samples.iid == ("007", "7", "0")
    assert gwas.read_genotypes(path, samples=["x", "y", "z"]).samples.iid == ("x", "y", "z")
    with pytest.raises(DataError, match="has 3 samples, and samples names 2"):
        gwas.read_genotypes(path, samples=["x", "y"])


def test_compressed_lists_of_variants(tmp_path):
    """plink2 --make-pgen vzs writes .pvar.zst; the bytes are a frame of Zstandard stored raw."""
    numcodecs = pytest.importorskip("numcodecs")
    study = written.of_calls(random_calls(M, N, 2))
    prefix = written.write_pgen(study, tmp_path / "t")
    plain = scanned(prefix)
    pvar = prefix.with_suffix(".pvar")
    packed = numcodecs.Zstd().encode(pvar.read_bytes())
    Path(f"{pvar}.zst").write_bytes(packed)
    pvar.unlink()
    pd.testing.assert_frame_equal(scanned(prefix), plain)


# --- damaged and foreign files: (written as, what is done to it, what is said)


def spoil(change):
    return lambda path: path.write_bytes(change(path.read_bytes()))


def replaced(ending: str, old: str, new: str):
    def change(path: Path) -> None:
        other = path.with_suffix(ending)
        text = other.read_text()
        assert old in text
        other.write_text(text.replace(old, new, 1))

    return change


HALF = spoil(lambda b: b[: len(b) // 2])
EMPTY = spoil(lambda b: b"")
GARBAGE = spoil(lambda b: bytes(np.random.default_rng(3).integers(0, 256, 900, dtype=np.uint8)))
LONG = spoil(lambda b: b + b"\0" * 40)

DAMAGE = {
    "pgen half": ("pgen", HALF, "truncated|cannot be read"),
    "pgen empty": ("pgen", EMPTY, "no .pgen"),
    "pgen garbage": ("pgen", GARBAGE, "no .pgen"),
    "pgen that is a bed": ("pgen", spoil(lambda b: b"\x6c\x1b\x01" + b[3:]), "PLINK 1"),
    "pgen cut in its head": ("pgen", spoil(lambda b: b[:14]), "truncated|cannot be read"),
    "pgen without .pvar": ("pgen", lambda p: p.with_suffix(".pvar").unlink(), "pvar"),
    "pgen without .psam": ("pgen", lambda p: p.with_suffix(".psam").unlink(), "psam"),
    "pgen, a sample too few": (
        "pgen", replaced(".psam", "S000\t0\n", ""), "has 60 samples, and .* names 59"),
    "pgen, a variant too few": (
        "pgen", replaced(".pvar", "1\t1000\trs0\tG\tA\n", ""), "30 variants, and .* lists 29"),
    "pgen, a sample twice": ("pgen", replaced(".psam", "S001", "S000"), "twice"),
    "pgen, a position in words": ("pgen", replaced(".pvar", "\t1000\t", "\t1e3\t"), "position"),
    "pgen, a short line": ("pgen", replaced(".pvar", "rs0\tG\tA", "rs0"), "columns"),
    "pgen, no ALT": ("pgen", replaced(".pvar", "\tALT", "\tOTHER"), "no column ALT"),
    "bgen half": ("bgen", HALF, "truncated"),
    "bgen empty": ("bgen", EMPTY, "bgen"),
    "bgen garbage": ("bgen", GARBAGE, "bgen"),
    "bgen too long": ("bgen", LONG, "truncated|damaged|cannot be read"),
    "bgen, a sample too few": (
        "bgen", replaced(".sample", "0 S000 0 0\n", ""), "has 60 samples, and .* names 59"),
    "bgen, a sample twice": ("bgen", replaced(".sample", "S001", "S000"), "twice"),
    "vcf half": ("vcf", HALF, "damaged or truncated"),
    "vcf empty": ("vcf", EMPTY, "empty"),
    "vcf garbage": ("vcf", GARBAGE, "cannot be read"),
    "vcf without records": ("vcf", spoil(lambda b: b.partition(b"\n1\t")[0] + b"\n"),
                            "no records"),
    "vcf, a call in words": ("vcf", replaced(".vcf", "0/0", "x/0"), "damaged or truncated"),
    "vcf, three alleles a sample": ("vcf", replaced(".vcf", "0/0", "0/0/1"), "3 alleles"),
    "vcf, a position in words": ("vcf", replaced(".vcf", "1\t1000", "1\tabc"), "damaged"),
    "vcf, a sample twice": ("vcf", replaced(".vcf", "S001", "S000"), "twice|cannot be read"),
    "vcf without GT": ("vcf", replaced(".vcf", "ID=GT", "ID=XX"), "no genotypes"),
    "vcf.gz half": ("vcf.gz", HALF, "truncated|damaged|cannot be read"),
    "zarr, no names": ("zarr", lambda p: drop(p, "sample_id"), "no array sample_id"),
    "zarr, no genotypes": ("zarr", lambda p: drop(p, "call_genotype"), "no call_genotype"),
    "zarr, fewer names": ("zarr", lambda p: put(p, "sample_id", np.array(["a"])), "names 30 var"),
    "zarr, a contig too few": ("zarr", lambda p: put(p, "contig_id", np.array(["1"])), "disagree"),
    "zarr, an empty folder": ("zarr", lambda p: drop(p, ""), "no Zarr store"),
    "bimbam half": ("bimbam", HALF, "truncated"),
    "bimbam garbage": ("bimbam", GARBAGE, "UTF-8|columns"),
    "bimbam empty": ("bimbam", EMPTY, "no variants"),
    "bimbam, a number too few": (
        "bimbam", lambda p: unzipped(p, lambda t: t.rpartition(",")[0] + "\n"), "has 59 genotypes"),
    "bimbam, words": (
        "bimbam", lambda p: unzipped(p, lambda t: t.replace(" 1,", " one,", 1)), "no number"),
    "bimbam, three copies": (
        "bimbam", lambda p: unzipped(p, lambda t: t.replace(" 1,", " 3,", 1)), "value 3"),
    "bimbam without names": (
        "bimbam", lambda p: (p.parent / "study.fam").unlink(), "samples="),
    "bimbam, a position in words": (
        "bimbam", lambda p: edit(p.parent / "study.anno.txt", "1000", "1e3"),
        "position '1e3'"),
}  # fmt: skip


def drop(path: Path, name: str) -> None:
    import shutil

    shutil.rmtree(path / name)
    path.mkdir(exist_ok=True)


def put(path: Path, name: str, values: np.ndarray) -> None:
    store = zarr.open_group(str(path), mode="a")
    del store[name]
    store.create_array(name, data=values.astype(np.dtypes.StringDType()))


def unzipped(path: Path, change) -> None:
    path.write_bytes(gzip.compress(change(gzip.decompress(path.read_bytes()).decode()).encode()))


def edit(path: Path, old: str, new: str) -> None:
    path.write_text(path.read_text().replace(old, new, 1))


@pytest.mark.parametrize("case", DAMAGE)
def test_damaged_files(tmp_path, case):
    kind, damage, words = DAMAGE[case]
    path = WRITERS[kind](written.of_calls(random_calls(M, N, 2)), tmp_path / "study")
    damage(path)
    with pytest.raises((DataError, FileError, ModelError), match=words) as caught:
        scanned(path)
    if words != "samples=":
        assert "study" in str(caught.value)


@pytest.mark.parametrize("kind", WRITERS)
def test_files_that_are_not_there(tmp_path, kind):
    ending = {"bimbam": "geno.txt.gz"}.get(kind, kind)
    with pytest.raises(FileError, match="there is no file"):
        gwas.read_genotypes(tmp_path / f"nothing.{ending}")


def test_a_package_that_is_absent_is_named(tmp_path, monkeypatch):
    import sys

    study = written.of_calls(random_calls(M, N, 2))
    for kind, name in (("pgen", "pgenlib"), ("bgen", "bgen"), ("vcf", "cyvcf2"), ("zarr", "zarr")):
        path = WRITERS[kind](study, tmp_path / kind)
        with monkeypatch.context() as patch:
            patch.setitem(sys.modules, name, None)
            with pytest.raises(FileError, match=rf"needs {name}: pip install 'ranef\[gwas\]'"):
                gwas.read_genotypes(path)


def test_words_that_do_not_apply(tmp_path):
    bed = write_bed(written.of_calls(random_calls(M, N, 2)), tmp_path / "plain")
    with pytest.raises(ModelError, match="samples does not apply"):
        gwas.read_genotypes(bed, samples=["a"])
    with pytest.raises(ModelError, match="not vcf"):
        gwas.read_genotypes(f"{bed}.bed", kind="vcf")
    with pytest.raises(ModelError, match="kind"):
        gwas.read_genotypes(bed, kind="bad")


# --- the command line


@pytest.mark.parametrize("kind", [k for k in WRITERS if k != "vcf.gz"])
def test_command_line(tmp_path, kind):
    study = written.of_calls(random_calls(M, N, 2))
    path = WRITERS[kind](study, tmp_path / "study")
    table = tmp_path / "people.tsv"
    pd.DataFrame(people()).to_csv(table, sep="\t", index=False)
    option = {"pgen": "--pfile"}.get(kind, f"--{kind}")
    given = str(path.with_suffix("")) if kind == "pgen" else str(path)
    out = tmp_path / "out.txt"
    words = ["gwas", "scan", "y ~ x", option, given, "--pheno", str(table), "--maf", "0",
             "--geno", "1", "--relationship", "centred", "--out", str(out), "--format", "gemma",
             "--quiet"]  # fmt: skip
    assert main(words) == 0
    direct = scanned(path)
    found = pd.read_csv(out, sep="\t")
    np.testing.assert_allclose(found["beta"], direct["estimate"], rtol=1e-5)
    words[4] = str(tmp_path / "nothing")
    assert main(words) == 3


def test_one_kind_of_genotypes_on_the_command_line(tmp_path, capsys):
    assert main(["gwas", "grm", "--bfile", "a", "--vcf", "b", "--out", str(tmp_path / "K")]) == 2
    assert "not allowed with" in capsys.readouterr().err
    assert main(["gwas", "grm", "--vcf", str(tmp_path / "a.bed"), "--out", str(tmp_path)]) == 2
