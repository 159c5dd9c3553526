"""Genotypes: the decoder beside its twin, counts, sexes, exact proportions, matching of names."""

from __future__ import annotations

from fractions import Fraction
from math import comb

import numpy as np
import pandas as pd
import pytest
from gwas_data import bytes_of, random_calls, write_files
from scipy.special import gammaln, logsumexp

from ranef import _core, gwas
from ranef.errors import DataError, FileError, ModelError
from ranef.fields.gwas.genotypes import Chosen, Packed, Samples, Variants, pack, unpack
from ranef.fields.gwas.matching import match, split_rows
from ranef.fields.gwas.plink import BedFile

ZERO = np.zeros(1, np.int32)


@pytest.mark.parametrize("n", [1, 4, 5, 18, 63])
def test_packing_is_that_of_plink(n):
    calls = random_calls(9, n, n)
    assert np.array_equal(pack(calls), bytes_of(calls))
    assert np.array_equal(unpack(pack(calls), n), calls)


@pytest.mark.parametrize("single", [False, True])
@pytest.mark.parametrize("groups", [1, 2])
def test_decoder_agrees_with_its_twin(single, groups):
    calls, rng = random_calls(40, 37, 3), np.random.default_rng(4)
    samples = rng.permutation(37)[:21].astype(np.int32)
    group = rng.integers(0, groups, 21).astype(np.int32)
    tables = rng.normal(size=(40, 4 * groups))
    codes = np.array([3, 2, 0, 1])[calls][:, samples]  # calls -1 is the last
    twin = np.take_along_axis(tables, codes + 4 * group, axis=1)
    if single:
        found = _core.decode_genotypes_single(
            pack(calls), samples, group, groups, tables.astype(np.float32)
        )
        assert found.dtype == np.float32
        assert np.array_equal(found, twin.astype(np.float32))
    else:
        found = _core.decode_genotypes(pack(calls), samples, group, groups, tables)
        assert np.array_equal(found, twin)
    counts = _core.count_genotypes(pack(calls), samples, group, groups)
    kinds = [((codes + 4 * group) == k).sum(axis=1) for k in range(4 * groups)]
    assert np.array_equal(counts, np.stack(kinds, axis=1))


def test_samples_in_order_take_the_straight_way():
    calls = random_calls(5, 10, 8)
    every = np.arange(10, dtype=np.int32)
    tables = np.tile([2.0, -9.0, 1.0, 0.0], (5, 1))
    found = _core.decode_genotypes(pack(calls), every, np.zeros(10, np.int32), 1, tables)
    assert np.array_equal(found, np.where(calls < 0, -9.0, calls))


def test_padding_that_is_not_zero_is_found():
    packed = pack(random_calls(6, 10, 5))
    assert _core.first_padded_wrongly(packed, 10) == -1
    packed[3, -1] |= 0b01000000
    assert _core.first_padded_wrongly(packed, 10) == 3
    assert _core.first_padded_wrongly(packed, 12) == -1


def by_enumeration(two: int, one: int, none: int) -> float:
    """Mid-p of the exact test, in fractions."""
    n, rare = two + one + none, min(2 * two + one, 2 * none + one)
    weight = {}
    for het in range(rare % 2, rare + 1, 2):
        hom = (rare - het) // 2
        weight[het] = Fraction(comb(n, het) * comb(n - het, hom) * 2**het)
    total, seen = sum(weight.values()), weight[one]
    tail = sum(w for w in weight.values() if w < seen)
    return float((tail + Fraction(1, 2) * sum(w for w in weight.values() if w == seen)) / total)


def test_exact_proportions_agree_with_enumeration():
    rng = np.random.default_rng(6)
    counts = rng.integers(0, 30, (60, 3)).astype(np.int32)
    counts[0], counts[1], counts[2] = (0, 25, 0), (40, 0, 1), (0, 0, 12)
    found = _core.exact_proportions(counts)
    twin = [by_enumeration(*row) for row in counts.tolist()]
    np.testing.assert_allclose(found, twin, rtol=1e-11)
    assert np.isnan(_core.exact_proportions(np.zeros((1, 3), np.int32))[0])


def by_logarithms(two: int, one: int, none: int) -> float:
    """The same of many people: every number of heterozygotes, by log factorials."""
    n, rare = two + one + none, min(2 * two + one, 2 * none + one)
    het = np.arange(rare % 2, rare + 1, 2)
    hom = (rare - het) // 2
    w = het * np.log(2) - gammaln(hom + 1) - gammaln(het + 1) - gammaln(n - hom - het + 1)
    seen = w[het == one][0]
    as_likely = np.abs(w - seen) < 1e-7
    tail = logsumexp(w[~as_likely & (w < seen)]) if np.any(w < seen - 1e-7) else -np.inf
    return float(np.exp(np.logaddexp(tail, logsumexp(w[as_likely]) - np.log(2)) - logsumexp(w)))


@pytest.mark.parametrize(
    "counts",
    [
        (100_000, 200_100, 100_000), (100_000, 198_000, 101_000), (3, 2_400, 500_000),
        (90_000, 210_500, 100_000), (250_000, 300, 250_000), (0, 100_001, 0),
    ],
)  # fmt: skip
def test_exact_proportions_of_many_people(counts):
    """The sum ends where its digits end, on both sides; far out it is as exact."""
    found = _core.exact_proportions(np.array([counts], np.int32))[0]
    assert found == pytest.approx(by_logarithms(*counts), rel=2e-6, abs=1e-290)


def test_exact_proportions_agree_with_plink2(agree):
    """plink2 --hardy midp (2.00a3.5); the first has another number that is exactly as likely."""
    counts = np.array([[74, 25, 1], [36, 42, 22], [50, 46, 4], [63, 37, 0]], np.int32)
    known = [0.688825, 0.129018, 0.101668, 0.0128432]
    agree(
        "gwas.scan(min_hwe=)", "mid-p of Hardy-Weinberg proportions",
        _core.exact_proportions(counts), known, peer="plink2 2.00a3.5", rtol=5e-6,
    )  # fmt: skip


def sexed(kind: str, calls: list[list[int]], sex: list[int]) -> Packed:
    n, m = len(sex), len(calls)
    names = tuple(f"s{k}" for k in range(n))
    samples = Samples(("0",) * n, names, np.array(sex, dtype=np.int32))
    text = np.array([kind] * m, dtype=object)
    ids = np.array([f"v{k}" for k in range(m)], dtype=object)
    variants = Variants(text, ids, np.arange(m), ids, ids)
    return Packed("test", samples, variants, pack(np.array(calls, dtype=np.int8)))


def test_males_have_one_x():
    source = sexed("X", [[2, 1, 0, 2, 0, 1]], [1, 1, 1, 2, 2, 2])
    chosen = Chosen.of(source.samples, np.arange(6))
    block = source.read(0, 1)
    tally = block.tally(chosen, "additive")
    # males: A, missing (heterozygous), a; females AA, aa, Aa
    assert (tally.n[0], tally.n_missing[0]) == (5, 1)
    assert (tally.copies[0], tally.alleles[0]) == (1 + 2 + 1, 2 + 6)
    assert tally.genotypes.tolist() == [[1, 1, 1]]
    x = block.coded(np.array([0]), chosen, tally, centred=False, single=False)[0]
    mean = (2 + 0 + 2 + 0 + 1) / 5
    assert x.tolist() == pytest.approx([2, mean, 0, 2, 0, 1])


def test_females_have_no_y_and_mt_counts_once():
    source = sexed("Y", [[2, 0, 1, 2]], [1, 1, 1, 2])
    chosen = Chosen.of(source.samples, np.arange(4))
    tally = source.read(0, 1).tally(chosen, "additive")
    assert (tally.n[0], tally.n_missing[0], tally.copies[0], tally.alleles[0]) == (2, 1, 1, 2)
    assert tally.mean[0] == 0.5
    source = sexed("chrM", [[2, 0, 1, -1]], [0, 0, 0, 0])
    tally = source.read(0, 1).tally(Chosen.of(source.samples, np.arange(4)), "additive")
    assert (tally.n[0], tally.n_missing[0], tally.copies[0], tally.alleles[0]) == (2, 2, 1, 2)


@pytest.mark.parametrize(
    ("name", "kind"),
    [("X", "X"), ("chrX", "X"), ("23", "X"), ("24", "Y"), ("25", "diploid"), ("MT", "MT"),
     ("chrI", "diploid"), ("scaffold_9", "diploid"), ("0", "diploid")],
)  # fmt: skip
def test_chromosomes_of_the_sexes_are_told_by_name(name, kind):
    source = sexed(name, [[0, 1]], [1, 2])
    assert source.variants.kinds.tolist() == [kind]


def test_numerals_are_ordinary_where_there_are_more_than_26():
    ids = np.array(["a", "b"], dtype=object)
    many = Variants(np.array(["23", "29"], dtype=object), ids, np.arange(2), ids, ids)
    assert many.kinds.tolist() == ["diploid", "diploid"]


@pytest.mark.parametrize(
    ("effect", "values"),
    [("additive", [2, 1, 0]), ("dominant", [1, 1, 0]), ("recessive", [1, 0, 0])],
)
def test_effects_are_coded(effect, values):
    source = sexed("1", [[2, 1, 0, -1]], [0] * 4)
    chosen = Chosen.of(source.samples, np.arange(4))
    block = source.read(0, 1)
    tally = block.tally(chosen, effect)
    x = block.coded(np.array([0]), chosen, tally, centred=True, single=False)[0]
    mean = np.mean(values)
    assert x.tolist() == pytest.approx([v - mean for v in values] + [0.0])


def test_files_and_arrays_hold_the_same(tmp_path):
    calls = random_calls(12, 30, 2)
    file = BedFile(write_files(tmp_path, calls=calls))
    array = gwas.from_array(calls.T, samples=file.samples.iid)
    chosen = Chosen.of(file.samples, np.arange(3, 25))
    for source in (file, array):
        assert np.array_equal(
            source.read(2, 9).tally(chosen, "additive").copies,
            np.where(calls < 0, 0, calls)[2:9, 3:25].sum(axis=1),
        )
    assert (file.take([0, 5]).packed == array.take([0, 5]).packed).all()


def test_dosages_are_tallied():
    values = np.array([[0.0, 0.5, 2.0, np.nan], [1.0, 1.0, 1.0, 1.0]]).T
    source = gwas.from_array(values, samples=list("abcd"))
    assert not source.calls
    chosen = Chosen.of(source.samples, np.arange(4))
    tally = source.read(0, 2).tally(chosen, "additive")
    assert tally.n.tolist() == [3, 4]
    assert tally.levels.tolist() == [2, 1]
    assert tally.frequency[0] == pytest.approx(2.5 / 6)
    p = 2.5 / 6
    assert tally.info[0] == pytest.approx(np.var([0, 0.5, 2]) / (2 * p * (1 - p)))
    with pytest.raises(ModelError, match="needs called genotypes"):
        source.read(0, 2).tally(chosen, "dominant")


def test_names_of_a_table_of_genotypes_are_matched():
    values = np.arange(6).reshape(2, 3) % 3
    table = pd.DataFrame(values, index=["b", "a"], columns=["x", "y", "z"])

    def calls(source):
        return unpack(source.read(0, 3).packed, 2).T.tolist()

    found = gwas.from_array(table, samples=["a", "b"], variants=["z", "x", "y"])
    assert calls(found) == [[2, 0, 1], [2, 0, 1]]
    assert found.variants.id.tolist() == ["z", "x", "y"]
    other = gwas.from_array(pd.DataFrame([[0, 1, 2], [2, 2, 1]], index=["b", "a"]),
                            samples=["a", "b"])  # fmt: skip
    assert calls(other) == [[2, 2, 1], [0, 1, 2]]
    assert gwas.from_array(table, samples=["b", "a"]).variants.id.tolist() == ["x", "y", "z"]
    with pytest.raises(DataError, match="rows of G are named 'b', 'a'"):
        gwas.from_array(table, samples=["a", "c"])
    with pytest.raises(DataError, match="columns of G are named"):
        gwas.from_array(table, samples=["a", "b"], variants=["z", "x", "w"])


def test_masked_genotypes_are_missing_and_positions_are_whole():
    masked = np.ma.array([[0, 1], [2, 9], [1, 1]], mask=[[0, 0], [0, 1], [1, 0]])
    found = gwas.from_array(masked, samples=["a", "b", "c"])
    assert unpack(found.read(0, 2).packed, 3).tolist() == [[0, 2, -1], [1, -1, 1]]
    with pytest.raises(DataError, match="no whole numbers"):
        gwas.from_array(np.zeros((1, 1)), samples=["a"],
                        variants={"variant": ["v"], "position": [1.5]})  # fmt: skip


def test_whole_dosages_are_calls():
    source = gwas.from_array(np.array([[0.0, 2.0], [np.nan, 1.0]]), samples=["a", "b"])
    assert source.calls


# --- tables of phenotypes


def people(iid: list[str], fid: list[str] | None = None) -> Samples:
    return Samples(tuple(fid or ["0"] * len(iid)), tuple(iid), np.zeros(len(iid), np.int32))


def matched(samples, table, **more):
    allowed = np.ones(len(samples), dtype=bool)
    return match(samples, table, None, na=("NA", "-9", ""), allowed=allowed, **more)


def test_rows_are_matched_by_name_in_any_order():
    found = matched(people(["a", "b", "c"]), {"IID": ["c", "x", "a"], "y": [3.0, 9.0, 1.0]})
    assert found.places.tolist() == [0, 2]
    assert found.columns["y"].tolist() == [1.0, 3.0]
    assert dict(found.counts) == {
        "samples in the genotypes": 3,
        "sample without a row in the phenotypes": 1,
        "row of the phenotypes without genotypes": 1,
    }


def test_families_count_where_both_have_them():
    samples = people(["1", "1"], ["A", "B"])
    found = matched(samples, {"FID": ["B", "A"], "IID": ["1", "1"], "y": [2.0, 1.0]})
    assert found.columns["y"].tolist() == [1.0, 2.0]
    with pytest.raises(DataError, match="give a column FID"):
        matched(samples, {"IID": ["1"], "y": [2.0]})
    alone = matched(people(["1", "2"], ["A", "B"]), {"FID": [0, 0], "IID": [1, 2], "y": [1.0, 2.0]})
    assert alone.columns["y"].tolist() == [1.0, 2.0]


def test_leading_zeros_count_and_are_told():
    samples = people(["007", "010"])
    assert matched(samples, {"IID": ["007"], "y": [1.0]}).places.tolist() == [0]
    with pytest.raises(DataError, match="leading zeros"):
        matched(samples, {"IID": [7, 10], "y": [1.0, 2.0]})
    partly = matched(people(["007", "8"]), {"IID": [7, 8], "y": [1.0, 2.0]})
    assert "leading zeros" in " ".join(partly.notes)


def test_marks_of_missing_values(tmp_path):
    found = matched(people(["a", "b"]), {"IID": ["a", "b"], "y": [-9.0, 2.0]}, traits=["y"])
    assert np.isnan(found.columns["y"][0])
    assert "'-9'" in found.notes[0]
    kept = matched(people(["a", "b"]), {"IID": ["a", "b"], "y": [-9.0, 2.0]})
    assert kept.columns["y"][0] == -9.0
    path = tmp_path / "p.txt"
    path.write_text("IID\ty\tz\na\tNA\tx\nb\t1.5\t-9\n")
    read = matched(people(["a", "b"]), path)
    assert np.isnan(read.columns["y"][0])
    assert read.columns["z"].tolist() == ["x", None]


@pytest.mark.parametrize(
    "text",
    ["#FID IID y\r\n0 a 1\r\n0 b 2\r\n", "\ufeffFID\tIID\ty\n0\ta\t1\n0\tb\t2\n\n",
     "IID,y\na,1\nb,2\n", "0 \t a   1\n0 b\t2\n", "#IID\ty\na\t1\nb\t2",
     "FID;IID;y\n0;a;1\n0;b;2\n", '"FID" "IID" "y"\n"0" "a" 1\n"0" "b" 2\n',
     '"IID"\t"y"\n"a"\t1\n"b"\t2\n', '"IID";"y"\n"a";1\n"b";2\n'],
)  # fmt: skip
def test_files_as_programs_write_them(tmp_path, text):
    path = tmp_path / "p.txt"
    path.write_bytes(text.encode())
    found = matched(people(["b", "a"]), path)
    assert [v.tolist() for v in found.columns.values()] == [[2.0, 1.0]]


def test_names_of_rows_by_r_are_told(tmp_path):
    path = tmp_path / "p.txt"
    path.write_text('"IID" "y"\n"1" "a" 1\n"2" "b" 2\n')
    with pytest.raises(DataError, match=r"row\.names=FALSE"):
        matched(people(["a", "b"]), path)


@pytest.mark.parametrize(
    ("mine", "words"), [("s01", "upper and lower case"), ("'S01'", "quotes about them")]
)
def test_why_nobody_is_found(mine, words):
    with pytest.raises(DataError, match=words):
        matched(people(["S01", "S02"]), {"IID": [mine], "y": [1.0]})


def test_names_that_plink_joined_and_workbooks_are_answered(tmp_path):
    with pytest.raises(DataError, match="each name twice, as plink writes FID_IID into a VCF"):
        matched(people(["S01_S01", "S02_S02"]), {"IID": ["S01"], "y": [1.0]})
    path = tmp_path / "p.xlsx"
    pd.DataFrame({"IID": ["S01"], "y": [1.0]}).to_excel(path, index=False)
    with pytest.raises(DataError, match="is a workbook: save its sheet as text"):
        matched(people(["S01", "S02"]), path)


def test_codes_for_missing_and_names_that_stand_twice_are_told(tmp_path):
    prefix = write_files(tmp_path, m=12, n=40)
    source = gwas.read_genotypes(prefix)
    table = {"IID": list(source.samples.iid), "y": np.r_[999.0, 999.0, np.linspace(-1, 1, 38)],
             "age": np.r_[-9.0, -9.0, np.linspace(20, 60, 38) ** 1.01]}  # fmt: skip
    bim = prefix.with_suffix(".bim")
    bim.write_text(bim.read_text().replace("rs1 ", "rs0 "))
    said = " ".join(str(gwas.scan("y ~ age", prefix, table, relationship=None)).split())
    assert "999 stands in 2 rows of y" in said
    assert "-9 stands in 2 rows of age" in said
    assert "1 name stands for more than one variant, such as 'rs0'" in said


def test_lines_are_split_as_the_first_is():
    assert split_rows(["a\tb\tc", "1\t\t3"]) == [["a", "b", "c"], ["1", "", "3"]]
    assert split_rows(["a\tb c", "1 2\t3"]) == [["a", "b", "c"], ["1", "2", "3"]]


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileError, match=r"nothing\.txt"):
        matched(people(["a"]), tmp_path / "nothing.txt")
