"""`ranef meta`."""

from __future__ import annotations

import csv
import json

import pytest

import ranef


@pytest.fixture
def trials(tmp_path):
    bcg = ranef.data.load("bcg")
    bcg = ranef.effect_sizes("RR", bcg, ai="tpos", bi="tneg", ci="cpos", di="cneg")
    bcg["se"] = bcg.vi**0.5
    path = tmp_path / "trials.csv"
    bcg.to_csv(path, index=False)
    return path


def test_it_writes_every_result(run, trials, tmp_path):
    files = {
        kind: tmp_path / f"fit.{kind}" for kind in ("json", "csv", "html", "ranef", "md", "svg")
    }
    code, out, err = run(
        "meta", "yi ~ ablat", trials, "--std-error", "se", "--study", "author",
        "--out", files["json"], "--out", files["csv"], "--report", files["html"],
        "--save", files["ranef"], "--table", files["md"], "--forest", files["svg"],
    )  # fmt: skip
    assert (code, err) == (0, "")
    assert "The moderators explain 75.6% of the heterogeneity." in out
    written = json.loads(files["json"].read_text("utf-8"))
    assert written["glance"]["tau2"] == pytest.approx(0.0763480, abs=1e-6)
    assert written["studies"][0]["study"] == "Aronson"
    assert written["variance"][0]["parameter"] == "sd"
    with files["csv"].open(encoding="utf-8") as stream:
        assert [row["term"] for row in csv.DictReader(stream)] == ["(Intercept)", "ablat"]
    assert "Random-effects meta-regression of yi" in files["html"].read_text("utf-8")
    assert ranef.load(files["ranef"]).tau2 == written["glance"]["tau2"]
    assert "<svg" in files["svg"].read_text("utf-8")


def test_methods_and_tests_can_be_chosen(run, trials):
    code, out, _ = run(
        "meta", "yi ~ 1", trials, "--variance", "vi", "--method", "dl", "--df", "normal"
    )
    assert code == 0
    assert "DerSimonian" in out
    assert "0.3088" in out


def test_what_is_wrong_is_said(run, trials):
    code, _, err = run("meta", "yi ~ 1", trials)
    assert code == 2
    assert "--variance" in err
    code, _, err = run("meta", "yi ~ 1", trials, "--variance", "cneg", "--forest", "a.txt")
    assert code == 2
    assert ".svg" in err
    code, _, err = run("meta", "yi ~ 1", trials, "--variance", "v")
    assert code == 2
    assert "no column 'v'" in err


COUNTS = ("--measure", "RR", "--columns", "ai=tpos,bi=tneg", "--columns", "ci=cpos,di=cneg")


def test_effects_are_computed_from_counts(run, trials, tmp_path):
    out = tmp_path / "fit.csv"
    code, text, _ = run("meta", "logRR ~ 1", "bcg", *COUNTS, "--out", out)
    assert code == 0
    assert "logRR ~ 1" in text
    with out.open(encoding="utf-8") as stream:
        found = float(next(csv.DictReader(stream))["estimate"])
    known = ranef.meta(
        "yi ~ 1",
        ranef.effect_sizes(
            "RR", ranef.data.load("bcg"), ai="tpos", bi="tneg", ci="cpos", di="cneg"
        ),
        variance="vi",
    )
    assert found == pytest.approx(known.coef["(Intercept)"], rel=1e-9)


def test_columns_of_their_own_names_need_not_be_given(run, tmp_path):
    table = tmp_path / "counts.csv"
    table.write_text("ai,n1i,ci,n2i\n4,123,11,139\n6,306,29,303\n3,231,11,220\n", "utf-8")
    code, text, err = run("meta", "yi ~ 1", table, "--measure", "OR")
    assert (code, err) == (0, "")
    assert "3 rows, all used." in text


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ((), "--measure RR (OR, SMD ...) computes effects and variances from counts or means"),
        (("--columns", "ai=tpos"), "--columns belongs to --measure: add it"),
        (("--variance", "vi", "--measure", "RR"), "not allowed with argument"),
        (("--measure", "RR", "--columns", "ai"), "is not of the form 'ai=events,n1i=persons'"),
        (("--measure", "RRR"), "did you mean 'RR'? Use one of 'RR', 'OR'"),
        (("--measure", "RR"), "needs 'ai', the column of its numbers: give ai='...'"),
        (
            ("--measure", "RR", "--columns", "ai=tpos,n1i=tneg"),
            "needs 'ci', the column of its numbers",
        ),
        (("--measure", "RR", "--columns", "ai=tps"), "no column 'tps' for ai; did you mean 'tpos'"),
    ],
)
def test_wrong_counts(run, given, said):
    try:
        _, _, err = run("meta", "yi ~ 1", "bcg", *given)
    except SystemExit:
        raise AssertionError("an exit without a code") from None
    assert said in " ".join(err.split())
