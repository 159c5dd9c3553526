"""Files of classifiers: each as its program writes it, and files that are something else."""

from __future__ import annotations

import metagenomic_files as files
import numpy as np
import pandas as pd
import pytest

from ranef import metagenomics as mg
from ranef.errors import DataError, FileError, RanefError


def reads(table, sample="P1"):
    rows = table[table["sample"] == sample]
    return dict(zip(rows["taxon"], rows["reads"], strict=True))


def test_a_report_of_kraken_counts_clades_of_one_rank(tmp_path):
    table = mg.read(files.write(tmp_path, "P1.kraken2.report.txt", files.KRAKEN))
    assert reads(table) == {"562": 750, "10298": 100}
    assert set(table["total_reads"]) == {1000}
    assert dict(zip(table["taxon"], table["group"], strict=True)) == {
        "562": "bacteria",
        "10298": "virus",
    }


def test_another_rank_is_another_table(tmp_path):
    path = files.write(tmp_path, "P1.report", files.KRAKEN)
    assert reads(mg.read(path, rank="G")) == {"561": 790}
    assert reads(mg.read(path, rank="genus")) == {"561": 790}
    with pytest.raises(DataError, match="no taxa of rank 'F'"):
        mg.read(path, rank="F")


def test_a_report_with_minimizers_reads_alike(tmp_path):
    table = mg.read(files.write(tmp_path, "P1.report.gz", files.WITH_MINIMIZERS))
    assert reads(table) == {"562": 750, "10298": 100}


def test_without_ranks_no_read_counts_twice(tmp_path):
    table = mg.read(files.write(tmp_path, "P1.report", files.WITHOUT_RANKS))
    assert table["reads"].sum() == 900
    assert reads(table)["562"] == 700
    assert set(table["total_reads"]) == {1000}


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("P1_bracken.tsv", files.BRACKEN, {"562": 770, "10298": 80}),
        ("P1.krakenuniq", files.KRAKENUNIQ, {"562": 750}),
        ("P1_metaphlan.txt", files.METAPHLAN, {"562": 900}),
        ("P1_taxon_report.csv", files.CZID, {"562": 750, "10298": 100}),
        ("all.tsv", files.TAXPASTA_WIDE, {"562": 750}),
        ("all.tsv", files.TAXPASTA_LONG, {"562": 750}),
        ("table.biom", files.BIOM1, {"562": 750, "10298": 100}),
        ("wide.csv", "taxon,P1,P2\n562,750,3\n10298,100,0\n", {"562": 750, "10298": 100}),
        ("long.tsv", "sample\ttaxon\treads\nP1\t562\t750\n", {"562": 750}),
    ],
)
def test_each_format_is_told_from_its_content(tmp_path, name, content, expected):
    table = mg.read(files.write(tmp_path, name, content))
    assert {k: v for k, v in reads(table).items() if v} == expected


def test_cz_id_has_two_counts(tmp_path):
    path = files.write(tmp_path, "P1.csv", files.CZID)
    assert reads(mg.read(path, value="nr")) == {"562": 600}


def test_totals_of_metaphlan_and_krakenuniq(tmp_path):
    assert set(mg.read(files.write(tmp_path, "A.txt", files.METAPHLAN))["total_reads"]) == {1000}
    unique = mg.read(files.write(tmp_path, "B.txt", files.KRAKENUNIQ))
    assert set(unique["total_reads"]) == {900}


def test_biom_two_and_anndata(tmp_path):
    h5py = pytest.importorskip("h5py")
    with h5py.File(tmp_path / "t.biom", "w") as file:
        file["observation/ids"] = np.array([b"562", b"10298"])
        file["sample/ids"] = np.array([b"P1", b"P2"])
        file["observation/matrix/data"] = np.array([750.0, 3.0, 100.0])
        file["observation/matrix/indices"] = np.array([0, 1, 0])
        file["observation/matrix/indptr"] = np.array([0, 2, 3])
    assert reads(mg.read(tmp_path / "t.biom")) == {"562": 750, "10298": 100}
    with h5py.File(tmp_path / "t.h5ad", "w") as file:
        for part, names in (("obs", [b"P1", b"P2"]), ("var", [b"562", b"10298"])):
            file[f"{part}/_index"] = np.array(names)
            file[part].attrs["_index"] = "_index"
        file["X"] = np.array([[750.0, 100.0], [3.0, 0.0]])
    assert reads(mg.read(tmp_path / "t.h5ad")) == {"562": 750, "10298": 100}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (files.PER_READ, "report, which kraken2 writes with --report"),
        (files.METAPHLAN_RELATIVE, "rel_ab_w_read_stats"),
        ("", "is empty"),
        ("sample,taxon,reads\nP1,562,-3\n", "not a count of reads"),
        ("sample,taxon,reads\nP1,562,many\n", "is not a count of reads"),
        ("sample,taxon,reads\nP1,562\n", "2 cells under a heading of 3"),
        ("taxon,P1,P1\n562,1,2\n", "occurs twice"),
        ("sample;taxon;reads\nP1;562;12,5\n", "a decimal comma has no place in counts"),
        ("sample;taxon;reads\nP1;562;542,0\n", "a decimal comma has no place in counts"),
        ("sample,taxon,reads\nP1,562,1_0\n", "is not a count of reads"),
        ("PK\x03\x04 [Content_Types].xml", "is an Excel workbook: save it as CSV"),
        ("PK\x03\x04 P1.report", "is a zip archive: unpack it"),
    ],
)
def test_what_is_no_count_is_refused_in_words(tmp_path, content, words):
    with pytest.raises(RanefError, match=words):
        mg.read(files.write(tmp_path, "P1.txt", content))


def test_a_folder_and_patterns_and_names_that_clash(tmp_path):
    files.write(tmp_path, "P1.report", files.KRAKEN)
    files.write(tmp_path, "P2.report", files.KRAKEN)
    assert set(mg.read(tmp_path)["sample"]) == {"P1", "P2"}
    assert set(mg.read(str(tmp_path / "*.report"))["sample"]) == {"P1", "P2"}
    files.write(tmp_path, "P1.report.txt", files.KRAKEN)
    with pytest.raises(DataError, match="each library needs one file"):
        mg.read(tmp_path)
    with pytest.raises(FileError, match="no file"):
        mg.read(tmp_path / "nothing.report")
    with pytest.raises(FileError, match="did you mean 'kraken2'"):
        mg.read(tmp_path / "P2.report", format="kraken")


def test_pairs_that_stand_twice_are_refused():
    counts = pd.DataFrame({"sample": ["a", "a"], "taxon": ["x", "x"], "reads": [1, 2]})
    sheet = pd.DataFrame({"sample": ["a"]})
    with pytest.raises(DataError, match="occurs twice"):
        mg.screen(counts, sheet)


def test_thousands_are_read_and_lineages_are_names(tmp_path):
    path = files.write(tmp_path, "t.tsv", 'taxon\tP1\ttaxonomy\n562\t"1,234"\tk__B; s__x\n7\t2\t\n')
    table = mg.read(path)
    assert reads(table) == {"562": 1234, "7": 2}
    assert table["name"].tolist()[0] == "k__B; s__x"


def test_a_library_without_taxa_keeps_its_total(tmp_path):
    files.write(tmp_path, "P1.report", files.KRAKEN)
    files.write(tmp_path, "NTC.report", "100.00\t500\t500\tU\t0\tunclassified\n")
    table = mg.read(tmp_path)
    empty = table[table["sample"] == "NTC"]
    assert empty["reads"].tolist() == [0]
    assert empty["total_reads"].tolist() == [500]


SHEET = pd.DataFrame({"sample": ["P1", "P2", "N1"], "is_control": ["no", "no", "NTC"]})
WIDE = {"x": [90, 3, 1], "y": [0, 40, 2], "z": [5, 6, 7]}


def answers(found):
    return found.tidy().set_index(["sample", "taxon"])["probability"].sort_index()


def test_wide_files_are_read_either_way_round(tmp_path):
    table = pd.DataFrame(WIDE, index=pd.Index(SHEET["sample"], name="sample"))
    table.to_csv(tmp_path / "rows.csv")
    table.T.to_csv(tmp_path / "columns.csv")
    one, other = (mg.screen(tmp_path / name, SHEET) for name in ("rows.csv", "columns.csv"))
    pd.testing.assert_series_equal(answers(one), answers(other))


@pytest.mark.parametrize("ending", ["_bracken_S", ".filtered.db1", "_S4_L001_R1_001"])
def test_names_of_files_have_more_behind_them(ending):
    table = pd.DataFrame(WIDE, index=[name + ending for name in SHEET["sample"]]).T
    found = mg.screen(table.T.rename_axis("sample").reset_index().melt(
        "sample", var_name="taxon", value_name="reads"), SHEET)  # fmt: skip
    assert "sequenced-names" in {note.code for note in found.notes}
    assert found.control_rate == 0


def test_decimal_commas_of_a_sheet_are_read_where_they_are_sure():
    table = pd.DataFrame(WIDE, index=SHEET["sample"])
    plain = mg.screen(table, SHEET.assign(input_mass=[0.5, 12.25, 0.125]))
    comma = mg.screen(table, SHEET.assign(input_mass=["0,5", "12,25", "0,125"]))
    pd.testing.assert_series_equal(answers(plain), answers(comma))
    with pytest.raises(DataError, match="write a decimal point"):
        mg.screen(table, SHEET.assign(input_mass=["1,234", "2", "3"]))
    with pytest.raises(DataError, match="of a mass below the limit of detection write the limit"):
        mg.screen(table, SHEET.assign(input_mass=["below detection", "2", "3"]))


@pytest.mark.parametrize("name", ["Input mass (ng)", "input_mass_ng", "Input mass [ng/µl]"])
def test_units_in_names_of_columns_are_asked_about(name):
    table = pd.DataFrame(WIDE, index=SHEET["sample"])
    with pytest.raises(DataError, match="did you mean 'input_mass'"):
        mg.screen(table, SHEET.assign(**{name: [1.0, 2.0, 3.0]}))


def test_groups_of_other_taxa_are_refused():
    table = pd.DataFrame(WIDE, index=SHEET["sample"])
    with pytest.raises(DataError, match="none of the taxa of the counts"):
        mg.screen(table, SHEET, taxa={"562": "bacterium"})
