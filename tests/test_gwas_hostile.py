"""Hostile inputs: a clear error that names the thing, or a flagged row, never a wrong number."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from gwas_data import random_calls, write_files

from ranef import gwas
from ranef.errors import DataError, FileError, ModelError, RanefError

M, N = 12, 30


@dataclass
class Files:
    """A study on the disk that a case spoils."""

    prefix: Path

    def path(self, suffix: str) -> Path:
        return self.prefix.with_suffix(suffix)

    def edit(self, suffix: str, change: Callable[[list[str]], list[str]]) -> None:
        lines = self.path(suffix).read_text().splitlines()
        self.path(suffix).write_text("\n".join(change(lines)) + "\n")

    def bytes(self, change: Callable[[bytes], bytes]) -> None:
        self.path(".bed").write_bytes(change(self.path(".bed").read_bytes()))


@pytest.fixture
def files(tmp_path):
    return Files(write_files(tmp_path, m=M, n=N))


def people(**columns: Any) -> dict[str, Any]:
    rng = np.random.default_rng(5)
    table = {"IID": [f"S{k:03d}" for k in range(N)], "y": rng.normal(size=N),
             "x": rng.normal(size=N)}  # fmt: skip
    return {**table, **columns}


def scan(files, formula="phenotype ~ 1", phenotypes=None, **more):
    more.setdefault("relationship", "centred")
    return gwas.scan(formula, files.prefix, phenotypes, **more)


# --- files of genotypes: (what is done to them, the error, what it says)

GENOTYPES = {
    "no .bed": (lambda f: f.path(".bed").unlink(), FileError, r"there is no file '.*study\.bed'"),
    "no .bim": (lambda f: f.path(".bim").unlink(), FileError, r"study\.bim"),
    "no .fam": (lambda f: f.path(".fam").unlink(), FileError, r"study\.fam"),
    "truncated": (lambda f: f.bytes(lambda b: b[:-1]), DataError, "truncated"),
    "half of it": (lambda f: f.bytes(lambda b: b[: len(b) // 2]), DataError, "truncated"),
    "too long": (lambda f: f.bytes(lambda b: b + b"\0"), DataError, "too long"),
    "sample-major": (lambda f: f.bytes(lambda b: b[:2] + b"\0" + b[3:]), DataError, "sample-major"),
    "a third mode": (lambda f: f.bytes(lambda b: b[:2] + b"\7" + b[3:]), DataError, "marked 07"),
    "foreign": (lambda f: f.bytes(lambda b: b"chr1\t100\t200\n" + b[3:]), DataError, "no PLINK 1"),
    "empty": (lambda f: f.bytes(lambda b: b""), DataError, "no PLINK 1"),
    "only a head": (lambda f: f.bytes(lambda b: b[:3]), DataError, "truncated"),
    "a .fam line too few": (
        lambda f: f.edit(".fam", lambda x: x[:-1]), DataError, "genotypes behind its last sample"),
    "two .fam lines too few": (lambda f: f.edit(".fam", lambda x: x[:-2]), DataError, "too long"),
    "a .fam line too many": (
        lambda f: f.edit(".fam", lambda x: [*x, *(f"F S{k} 0 0 0 1" for k in "abc")]), DataError,
        "truncated"),
    "a .bim line too few": (lambda f: f.edit(".bim", lambda x: x[:-1]), DataError, "too long"),
    "a .bim line too many": (
        lambda f: f.edit(".bim", lambda x: [*x, x[0]]), DataError, "truncated"),
    "an empty .fam": (lambda f: f.path(".fam").write_text(""), DataError, "lists no samples"),
    "an empty .bim": (lambda f: f.path(".bim").write_text("\n"), DataError, "lists no variants"),
    "a short line": (
        lambda f: f.edit(".fam", lambda x: [*x[:3], "F3 S003", *x[4:]]), DataError, "line 4 of"),
    "a position in words": (
        lambda f: f.edit(".bim", lambda x: [*x[:2], "1 rs 0 1e6 A G", *x[3:]]), DataError,
        "line 3 .* position '1e6'"),
    "a sample twice": (
        lambda f: f.edit(".fam", lambda x: [x[0], x[0], *x[2:]]), DataError,
        "sample twice: .F0 S000"),
    "a packed .fam": (
        lambda f: f.path(".fam").write_bytes(b"\x1f\x8b\x08\xff\xfe\xfd"), DataError, "no UTF-8"),
    "zeros in a .bim": (
        lambda f: f.path(".bim").write_bytes(b"1 rs 0 1 A G\0\n" * M), DataError, "zero bytes"),
}  # fmt: skip


@pytest.mark.parametrize("case", GENOTYPES)
def test_files_of_genotypes(files, case):
    spoil, error, words = GENOTYPES[case]
    spoil(files)
    with pytest.raises(error, match=words):
        scan(files)


def test_bits_behind_the_last_sample_far_into_the_file(tmp_path):
    calls = random_calls(200, 30, 3)
    files = Files(write_files(tmp_path, calls=calls))
    files.bytes(lambda b: b[:-9] + bytes([b[-9] | 0b01000000]) + b[-8:])
    with pytest.raises(DataError, match="rs198"):
        scan(files)


@pytest.mark.parametrize("more", [1, 2])
@pytest.mark.parametrize("place", ["first", "last"])
def test_lines_of_a_fam_too_many_that_fit_into_the_unused_bits(tmp_path, more, place):
    files = Files(write_files(tmp_path, calls=random_calls(200, 30, 4)))
    extra = [f"FID IID{k} 0 0 0 -9" for k in range(more)]
    files.edit(".fam", lambda x: [*extra, *x] if place == "first" else [*x, *extra])
    with pytest.raises(DataError, match=f"last {more} of {30 + more} samples .*unused bits"):
        scan(files)


def test_a_last_sample_with_two_copies_at_few_variants_is_read(tmp_path):
    calls = random_calls(12, 30, 4)
    calls[:, -1] = 2
    files = Files(write_files(tmp_path, calls=calls))
    assert scan(files).glance()["n"][0] == 30
    calls = random_calls(200, 29, 4)
    calls[:, -1] = 2  # four samples a byte: the 29th is alone in its own
    assert scan(Files(write_files(tmp_path, "b", calls=calls))).glance()["n"][0] == 29


# --- phenotypes, formulas, options: (keywords of the scan, the error, what it says)

HOLED = np.where(np.arange(N) < 25, np.nan, 1.0 * np.arange(N))

CALLS = {
    "no common name": (
        {"phenotypes": people(IID=[f"T{k}" for k in range(N)])}, DataError, "no row of the pheno"),
    "lost zeros": (
        {"phenotypes": people(IID=[f"S{k}" for k in range(N)])}, DataError, "no row|least"),
    "no column IID": (
        {"phenotypes": {"name": ["a"], "y": [1.0]}}, DataError, "have no column IID"),
    "a name twice": (
        {"phenotypes": people(IID=["S000"] * N)}, DataError, "samples more than once"),
    "a name missing": (
        {"phenotypes": people(IID=[None, *[f"S{k:03d}" for k in range(1, N)]])}, DataError,
        "missing in row 0"),
    "constant": ({"phenotypes": people(y=np.ones(N))}, DataError, "does not vary"),
    "all missing": ({"phenotypes": people(y=np.full(N, np.nan))}, RanefError, "missing|no rows"),
    "few left": ({"phenotypes": people(y=HOLED)}, DataError, "5 samples are left"),
    "infinite": ({"phenotypes": people(y=[np.inf, *range(N - 1)])}, RanefError, "infinite|finite"),
    "text": ({"phenotypes": people(y=list("ab" * 15))}, RanefError, "y"),
    "an infinite covariate": (
        {"formula": "y ~ x", "phenotypes": people(x=[-np.inf, *range(N - 1)])}, RanefError,
        "infinite|finite"),
    "a covariate that is the trait": (
        {"formula": "y ~ I(2 * y)", "phenotypes": people()}, RanefError, "y"),
    "as many covariates as samples": (
        {"formula": "y ~ factor(z)", "phenotypes": people(z=[f"l{k}" for k in range(N)])},
        RanefError, "too few|are left"),
    "an unknown column": (
        {"formula": "y ~ xx", "phenotypes": people()}, RanefError, "no column 'xx'"),
    "no tilde": ({"formula": "y", "phenotypes": people()}, RanefError, "no '~'"),
    "no trait": ({"formula": "~ x", "phenotypes": people()}, RanefError, "names no trait"),
    "a random term": (
        {"formula": "y ~ (1 | x)", "phenotypes": people()}, RanefError, "random"),
    "no formula": ({"formula": None, "phenotypes": people()}, RanefError, "formula"),
    "a trait in front and traits": (
        {"formula": "y ~ x", "traits": ["x"], "phenotypes": people()}, RanefError, "begins with"),
    "traits twice": (
        {"formula": "~ 1", "traits": ["y", "y"], "phenotypes": people()}, ModelError, "twice"),
    "a column in both tables": (
        {"phenotypes": people(), "covariates": people()}, DataError, "both tables have a column"),
    "a file of phenotypes that is not there": (
        {"phenotypes": "nowhere.tsv"}, FileError, "nowhere.tsv"),
    "keeping nobody": ({"keep": ["nobody"]}, DataError, "keep names no sample"),
    "an empty list": ({"keep": []}, ModelError, "keep names no samples"),
    "removing all": ({"remove": [f"S{k:03d}" for k in range(N)]}, DataError, "no sample is left"),
    "extracting nothing": ({"extract": ["rs99"]}, DataError, "extract names no variant"),
    "excluding all": ({"exclude": [f"rs{k}" for k in range(M)]}, DataError, "no variant is left"),
    "a chromosome that is not there": ({"chromosomes": "chr1"}, DataError, "no variant is on"),
    "a filter above its range": ({"min_maf": 0.7}, ModelError, "between 0 and 0.5"),
    "a filter that is no number": ({"max_missing": "much"}, ModelError, "max_missing"),
    "information of calls": ({"min_info": 0.8}, ModelError, "these genotypes are called"),
    "an unknown variant to condition on": ({"given": "rs999"}, DataError, "named 'rs999'"),
    "an unknown relationship": ({"relationship": "locco"}, ModelError, "did you mean 'loco'"),
    "an unknown effect": ({"effect": "additiv"}, ModelError, "did you mean 'additive'"),
    "an unknown variance": ({"variance": "own"}, ModelError, "variance='own'"),
    "no block": ({"block": 0}, ModelError, "block"),
    "no thread": ({"n_jobs": 0}, ModelError, "n_jobs"),
    "memory in words": ({"memory": "lots"}, ModelError, "memory"),
    "marks in one word": ({"na": "NA"}, ModelError, "na is a list"),
}  # fmt: skip


@pytest.mark.parametrize("case", CALLS)
def test_calls(files, case):
    given, error, words = CALLS[case]
    given = dict(given)
    formula = given.pop("formula", "y ~ 1" if "phenotypes" in given else "phenotype ~ 1")
    with pytest.raises(error, match=words):
        scan(files, formula, given.pop("phenotypes", None), **given)


# --- relationships: (the matrix made of a good one, what is said)


def named(K: np.ndarray) -> pd.DataFrame:
    names = [f"S{k:03d}" for k in range(len(K))]
    return pd.DataFrame(K, names, names)


def spoiled(K: np.ndarray, i: int, j: int, value: float) -> np.ndarray:
    out = K.copy()
    out[i, j] = value
    return out


MATRICES = {
    "asymmetric": (lambda K: named(spoiled(K, 2, 5, 9.0)), "not symmetric"),
    "a hole": (lambda K: named(spoiled(K, 3, 3, np.nan)), "no finite number in row 4, column 4"),
    "infinite": (lambda K: named(spoiled(K, 3, 4, np.inf)), "no finite number"),
    "indefinite": (lambda K: named(K - 3.0 * np.diag(np.arange(N) % 2)), "indefinite"),
    "too small": (lambda K: named(K).iloc[:20, :20], "no row for 10 of 30"),
    "other names": (lambda K: (K, [f"T{k}" for k in range(N)]), "no row for 30 of 30"),
    "a name twice": (lambda K: (K, ["S000"] * N), "twice"),
    "not square": (lambda K: (K[:10], [f"S{k:03d}" for k in range(10)]), r"\(10, 30\)"),
    "rows and columns differ": (
        lambda K: pd.DataFrame(K, named(K).index, [f"T{k}" for k in range(N)]), "different names"),
    "without names": (lambda K: K, "named"),
    "words": (lambda K: (np.full((N, N), "x"), [f"S{k:03d}" for k in range(N)]), "no number"),
}  # fmt: skip


@pytest.mark.parametrize("case", MATRICES)
def test_relationships(files, case):
    make, words = MATRICES[case]
    K = gwas.grm(files.prefix, min_maf=0.0, max_missing=1.0).matrix
    with pytest.raises(RanefError, match=words):
        scan(files, relationship=make(K))


def test_one_chromosome_cannot_be_left_out(tmp_path):
    files = Files(write_files(tmp_path, chromosome=["7"] * M))
    with pytest.raises(ModelError, match=r"chromosome '7'.*relationship='centred'"):
        scan(files, relationship="loco")


MATRIX_FILES = {
    "text that is not square": ("K.txt", b"1 2\n3\n", "no square"),
    "words": ("K.txt", b"1 a\na 1\n", "no number"),
    "a truncated .grm.bin": ("K.grm.bin", b"\0" * 7, "within a number"),
    "a short .grm.bin": ("K.grm.bin", b"\0" * 8, "2 values"),
    "a triangle": ("K.rel.bin", b"\0" * 24, "24 bytes"),
}


@pytest.mark.parametrize("case", MATRIX_FILES)
def test_files_of_relationships(tmp_path, case):
    name, content, words = MATRIX_FILES[case]
    (tmp_path / name).write_bytes(content)
    for suffix in (".grm.id", ".rel.id"):
        (tmp_path / f"K{suffix}").write_text("F a\nF b\nF c\n")
    with pytest.raises(DataError, match=words):
        gwas.read_grm(tmp_path / name, samples=["a", "b"] if name == "K.txt" else None)


# --- variants that cannot be tested are rows with a reason


def test_variants_that_cannot_be_tested_are_flagged(tmp_path):
    calls = random_calls(M, N, 1, missing=0.0)
    sex = np.arange(N) % 2
    calls[0] = 1  # all heterozygous
    calls[1] = 0
    calls[2] = -1
    calls[3, :10] = -1
    calls[4] = 0
    calls[4, 0] = 1
    calls[5] = 2 * sex
    calls[6] = calls[7]
    files = Files(write_files(tmp_path, calls=calls))
    table = people(x=sex.astype(float))
    result = scan(files, "y ~ x", table, min_maf=0.05).tidy()
    assert result["status"].tolist() == [
        "all_heterozygous", "monomorphic", "all_missing", "missingness", "maf", "collinear",
        *["ok"] * 6,
    ]  # fmt: skip
    flagged = result[result.status != "ok"]
    assert flagged[["estimate", "std_error", "p_wald", "p_lrt", "p_score"]].isna().all(axis=None)
    alike = result.iloc[[6, 7]]
    assert alike["p_wald"].nunique() == 1


def test_a_recessive_test_without_carriers(tmp_path):
    calls = random_calls(M, N, 1, missing=0.0)
    calls[0] = np.arange(N) % 2
    files = Files(write_files(tmp_path, calls=calls))
    result = scan(files, effect="recessive").tidy()
    assert result["status"][0] == "no_carriers"


def test_a_variant_that_is_the_trait(tmp_path):
    calls = random_calls(M, N, 1, missing=0.0)
    files = Files(write_files(tmp_path, calls=calls))
    for relationship in ("centred", None):
        result = scan(
            files, "y ~ 1", people(y=3.0 * calls[4] - 1.0), relationship=relationship
        ).tidy()
        assert result["status"][4] == "exact_fit"
        assert np.isnan(result["p_wald"][4])


def test_proportions_and_counts_as_filters(tmp_path):
    calls = random_calls(M, N, 1, missing=0.0)
    calls[0] = np.where(np.arange(N) < 15, 0, 2)  # no heterozygote
    calls[1] = 0
    calls[1, :3] = 1
    files = Files(write_files(tmp_path, calls=calls))
    status = scan(files, min_hwe=1e-4, min_mac=5, min_maf=0.0).tidy()["status"]
    assert status[0] == "hwe"
    assert status[1] == "mac"


def test_no_variant_left_for_a_relationship(tmp_path):
    files = Files(write_files(tmp_path, calls=np.ones((M, N), dtype=np.int8)))
    with pytest.raises(DataError, match="nothing to make a relationship of"):
        scan(files)
    result = scan(files, relationship=None)
    assert (result.tidy()["status"] == "all_heterozygous").all()
    assert np.isnan(result.glance()["lambda_gc"][0])


def test_redundant_covariates_are_left_out_with_a_word(files):
    from ranef.errors import RankWarning

    table = people(z=np.ones(N))
    table["w"] = 2.0 * table["x"]
    plain = scan(files, "y ~ x", table)
    with pytest.warns(RankWarning):
        other = scan(files, "y ~ x + w + z", table)
    columns = ["p_wald", "p_lrt", "p_score"]
    np.testing.assert_allclose(other.tidy()[columns], plain.tidy()[columns], rtol=1e-6)


ARRAYS = {
    "a cube": (np.zeros((2, 2, 2)), "2 dimensions|3 dimensions"),
    "words": (np.full((2, 2), "x"), "matrix of numbers"),
    "three copies": (np.array([[0, 3], [1, 1]]), "value 3"),
    "infinite": (np.array([[0.0, np.inf], [1, 1]]), "value inf"),
    "below zero": (np.array([[0.0, -0.5], [1, 1]]), "value -0.5"),
    "other names": (np.zeros((3, 2)), "samples names 2"),
    "nothing": (np.zeros((2, 0)), "no genotypes"),
}


@pytest.mark.parametrize("case", ARRAYS)
def test_arrays(case):
    G, words = ARRAYS[case]
    with pytest.raises(DataError, match=words):
        gwas.from_array(G, samples=["a", "b"])


def test_foreign_kinds_of_files_are_named(tmp_path):
    (tmp_path / "a.xlsx").write_bytes(b"PK")
    with pytest.raises(DataError, match="of no known kind; genotypes end with"):
        gwas.grm(tmp_path / "a.xlsx")
    with pytest.raises(ModelError, match="not int"):
        gwas.grm(3)


def test_a_name_with_a_comma_or_a_quote_can_be_written(tmp_path):
    rng = np.random.default_rng(1)
    G = rng.integers(0, 3, (40, 30))
    names = [f'v"{k},x' for k in range(30)]
    source = gwas.from_array(G, samples=[f"s{k}" for k in range(40)], variants=names)
    table = {"IID": [f"s{k}" for k in range(40)], "y": rng.normal(size=40)}
    result = gwas.scan("y ~ 1", source, table, relationship=None)
    text = result.save(tmp_path / "r.tsv").read_text().splitlines()
    assert text[1].split("\t")[10] == names[0]


def test_the_list_is_long_enough():
    assert len(GENOTYPES) + len(CALLS) + len(MATRICES) + len(MATRIX_FILES) + len(ARRAYS) >= 60


def test_files_moved_while_they_are_read(files, tmp_path):
    source = gwas.scan("phenotype ~ 1", files.prefix, relationship=None).genotypes
    shutil.copy(files.path(".bed"), tmp_path / "kept")
    files.bytes(lambda b: b[:20])
    with pytest.raises(FileError, match="ended early"):
        source.read(0, M)


@pytest.mark.parametrize("unit", [0.0, 1e-30, 1e6, 1e200])
def test_relationships_in_strange_units(files, unit):
    genotypes = gwas.read_genotypes(files.prefix)
    K = gwas.grm(genotypes)
    names = list(genotypes.samples.iid)
    with pytest.raises(DataError, match="mean diagonal"):
        gwas.scan("phenotype ~ 1", genotypes, relationship=(unit * K.matrix, names))


@pytest.mark.parametrize(("unit", "words"), [(1e300, "another unit"), (1e-300, "another unit")])
def test_traits_whose_squares_no_number_holds(files, unit, words):
    genotypes = gwas.read_genotypes(files.prefix)
    rng = np.random.default_rng(1)
    table = pd.DataFrame({"IID": genotypes.samples.iid})
    table["y"] = unit * rng.uniform(1.0, 2.0, len(table))
    with pytest.raises(DataError, match=words):
        gwas.scan("y ~ 1", genotypes, table, relationship=None)
    with pytest.raises(DataError, match="no rows"):
        gwas.scan("y ~ 1", genotypes, table.head(0), relationship=None)


def test_a_chromosome_by_its_number(tmp_path):
    prefix = write_files(tmp_path, m=12, n=40)
    for given in (2, np.int64(2), [2], "2", ["2"]):
        found = gwas.scan("phenotype ~ 1", prefix, relationship=None, chromosomes=given).tidy()
        assert set(found.loc[found["status"] != "excluded", "chromosome"]) == {"2"}
    for given in ("1,2", "1-22", ["1", "2-9"], "2, 1"):
        found = gwas.scan("phenotype ~ 1", prefix, relationship=None, chromosomes=given).tidy()
        assert "excluded" not in set(found["status"])
    with pytest.raises(DataError, match="no variant is on chromosome '3-4'"):
        gwas.scan("phenotype ~ 1", prefix, relationship=None, chromosomes="1,3-4")
    with pytest.raises(DataError, match="no variant is on chromosome '7'"):
        gwas.scan("phenotype ~ 1", prefix, relationship=None, chromosomes=7)
