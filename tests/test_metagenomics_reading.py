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
        ("taxon,P1,P1\n562,1,2\n", "stands twice"),
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
    with pytest.raises(DataError, match="stands twice"):
        mg.screen(counts, sheet)
