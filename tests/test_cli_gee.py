"""`ranef gee`."""

from __future__ import annotations

import csv
import json

import pytest

import ranef

CALL = ("gee", "resp ~ age * smoke", "ohio", "--groups", "id", "--family", "binomial")


def test_it_writes_every_result(run, tmp_path):
    files = {kind: tmp_path / f"fit.{kind}" for kind in ("json", "csv", "html", "ranef", "md")}
    code, out, err = run(
        *CALL, "--time", "age", "--correlation", "ar1", "--estimator", "adjacent",
        "--out", files["json"], "--out", files["csv"], "--report", files["html"],
        "--save", files["ranef"], "--table", files["md"],
    )  # fmt: skip
    assert (code, err) == (0, "")
    assert "first-order autoregressive, 0.399" in out
    written = json.loads(files["json"].read_text("utf-8"))
    assert written["correlation"][0]["estimate"] == pytest.approx(0.39942, abs=1e-5)
    assert written["accounting"]["groups"] == {"id": 537}
    assert written["equations"]["converged"] is True
    assert written["criteria"]["scale"] == 1.0
    with files["csv"].open(encoding="utf-8") as stream:
        assert [row["term"] for row in csv.DictReader(stream)][-1] == "age:smoke"
    page = files["html"].read_text("utf-8")
    assert "Population-averaged model of resp" in page
    assert "ranef gee" in page
    fit = ranef.load(files["ranef"])
    assert fit.estimate.gap == written["equations"]["gap"]
    assert "odds" in files["md"].read_text("utf-8") or "smoke" in files["md"].read_text("utf-8")


def test_both_questions(run):
    code, out, _ = run(*CALL, "--both", "--quiet")
    assert code == 0
    assert "a question of policy" in " ".join(out.split())


def test_what_is_wrong_is_said(run):
    code, _, err = run(*CALL, "--correlation", "ar1")
    assert code == 2
    assert "needs time=" in err
    assert run(*CALL, "--scale", "m")[0] == 2
    assert "groups" in run("gee", "resp ~ age", "ohio", "--family", "binomial")[2]


@pytest.mark.parametrize("family", ["cumulative", "multinomial"])
def test_categories(run, tmp_path, family):
    out = tmp_path / "fit.json"
    code, text, err = run(
        "gee", "rating ~ contact", "wine", "--groups", "judge", "--family", family,
        "--correlation", "independence", "--out", out, "--report", tmp_path / "fit.html",
    )  # fmt: skip
    assert (code, err) == (0, "")
    assert "Population-averaged model" in text
    written = json.loads(out.read_text("utf-8"))
    assert len(written["fixed"]) == {"cumulative": 5, "multinomial": 8}[family]
