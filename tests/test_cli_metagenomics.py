"""`ranef metagenomics`."""

from __future__ import annotations

import json

import pandas as pd
import pytest

from ranef import metagenomics as mg


@pytest.fixture(scope="module")
def laboratory(tmp_path_factory):
    """Kraken reports and a sheet of each of two parts of a clinic."""
    folder = tmp_path_factory.mktemp("laboratory")
    clinic = mg.simulate(batches=3, patients=4, controls=2, taxa=40, organisms=1.5, rng=6)
    total = clinic.samples.set_index("sample")["total_reads"]
    for part, chosen in (("old", {"B1", "B2"}), ("new", {"B3"})):
        sheet = clinic.samples[clinic.samples["batch"].isin(chosen)]
        sheet.drop(columns="total_reads").to_csv(folder / f"{part}.csv", index=False)
        (folder / part).mkdir()
        for name in sheet["sample"]:
            own = clinic.counts[clinic.counts["sample"] == name]
            free = total[name] - own["reads"].sum()
            lines = [f"0\t{free}\t{free}\tU\t0\tunclassified"]
            lines += [
                f"0\t{row.reads}\t{row.reads}\tS\t{int(row.taxon[5:])}\t      {row.taxon}"
                for row in own.itertuples()
            ]
            (folder / part / f"{name}.report").write_text("\n".join(lines) + "\n")
    return folder


def test_a_screen_writes_all_it_is_asked_for(run, laboratory, tmp_path):
    out, page = tmp_path / "s.json", tmp_path / "s.html"
    code, said, _ = run(
        "metagenomics", "screen", laboratory / "old", "--samples", laboratory / "old.csv",
        "--out", out, "--report", page, "--list-by", "sample",
    )  # fmt: skip
    assert code == 0
    assert "research use only" in said
    held = json.loads(out.read_text())
    assert held["list_by"] == "sample"
    assert any(held["pairs"]["present"])
    assert "ranef metagenomics screen" in page.read_text()


def test_a_background_is_trained_used_and_watched(run, laboratory, tmp_path):
    kept, table, chart = (tmp_path / name for name in ("lab.background", "d.csv", "d.png"))
    old = (laboratory / "old", "--samples", laboratory / "old.csv")
    new = (laboratory / "new", "--samples", laboratory / "new.csv", "--background", kept)
    assert run("metagenomics", "train", *old, "--save", kept)[0] == 0
    code, _, _ = run("metagenomics", "screen", *new, "--out", tmp_path / "s.csv", "--quiet")
    assert code == 0
    pairs = pd.read_csv(tmp_path / "s.csv")
    assert set(pairs["sample"]) <= {path.stem for path in (laboratory / "new").iterdir()}
    code, said, _ = run("metagenomics", "drift", *new, "--out", table, "--plot", chart)
    assert code == 0
    assert "Drift from background" in said
    assert pd.read_csv(table)["batch"].tolist() == ["B3"]
    assert chart.read_bytes()[:4] == b"\x89PNG"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (("--samples", "none.csv"), "none.csv"),
        (("--background", "none"), "no file"),
        (("--out", "no/folder/s.json"), "no folder"),
        (("--out", "pairs.xlsx"), "must end in one of .json, .csv, .tsv"),
        (("--fdr", "2"), "between 0 and 1"),
        (("--batch", "plates"), "no column 'plates'"),
        (("--exposure", "mass"), "input_mass"),
    ],
)
def test_what_is_wrong_is_said_in_a_line(run, laboratory, change, words):
    arguments = {"--samples": laboratory / "old.csv", change[0]: change[1]}
    options = [item for pair in arguments.items() for item in pair]
    code, _, err = run("metagenomics", "screen", laboratory / "old", *options)
    assert code != 0
    assert words in err
    assert "Traceback" not in err


def test_endings_of_the_drift_are_checked_before_the_work(run, laboratory):
    code, _, err = run(
        "metagenomics", "drift", laboratory / "new", "--samples", laboratory / "new.csv",
        "--background", "none", "--plot", "chart.xlsx",
    )  # fmt: skip
    assert code != 0
    assert ".png" in err


def test_what_is_read_is_not_overwritten(run, laboratory):
    sheet = laboratory / "old.csv"
    before = sheet.read_bytes()
    code, _, err = run("metagenomics", "screen", laboratory / "old", "--samples", sheet,
                       "--out", sheet)  # fmt: skip
    assert code != 0
    assert "is what the command reads" in err
    assert sheet.read_bytes() == before
