"""Questions of a saved fit, or of a formula and a table, on the command line."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import ranef

FORMULA = "yield ~ nitro + Variety + (1 | Block/Variety)"
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def oats() -> Any:
    return ranef.lmm(FORMULA, ranef.data.load("Oats"))


@pytest.fixture(scope="module")
def saved(oats: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("fits") / "oats.ranef"
    oats.save(path)
    return path


@pytest.mark.parametrize("source", ["saved", "formula"])
def test_means(run: Run, oats: Any, saved: Path, tmp_path: Path, source: str) -> None:
    model = [saved] if source == "saved" else [FORMULA, "Oats"]
    out = tmp_path / "m.csv"
    code, printed, _ = run(
        "means", *model, "--of", "Variety", "--at", "nitro=0.2", "--df", "kenward-roger",
        "--out", out, "--table", tmp_path / "m.docx", "--table", tmp_path / "m.md",
        "--plot", tmp_path / "m.png", "--title", "Yield by variety",
    )  # fmt: skip
    assert code == 0
    assert "Mean of yield" in printed
    expected = oats.emmeans("Variety", at={"nitro": [0.2]}, df="kenward-roger").tidy()
    np.testing.assert_allclose(pd.read_csv(out)["estimate"], expected["estimate"], rtol=1e-8)
    assert (tmp_path / "m.md").read_text().startswith("**Yield by variety**")
    assert (tmp_path / "m.png").read_bytes().startswith(b"\x89PNG")
    assert (tmp_path / "m.docx").stat().st_size > 1000


def test_contrasts(run: Run, oats: Any, saved: Path, tmp_path: Path) -> None:
    out = tmp_path / "c.json"
    code, _, _ = run(
        "contrasts", saved, "--of", "Variety", "--method", "reference", "--ref", "Victory",
        "--side", "greater", "--null", "-5", "--quiet", "--out", out,
    )  # fmt: skip
    assert code == 0
    found = json.loads(out.read_text())
    expected = oats.contrasts("Variety", "reference", ref="Victory", side="greater", null=-5.0)
    table = expected.tidy()
    assert [r["p_value"] for r in found["contrasts"]] == pytest.approx(list(table["p_value"]))
    assert found["side"] == "greater"
    assert found["formula"] == FORMULA


def test_anova(run: Run, oats: Any, saved: Path, tmp_path: Path) -> None:
    out = tmp_path / "a.csv"
    code, printed, _ = run("anova", saved, "--df", "kenward-roger", "--out", out)
    assert code == 0
    assert "Kenward-Roger" in printed
    expected = oats.anova(df="kenward-roger").tidy()
    np.testing.assert_allclose(pd.read_csv(out)["p_value"], expected["p_value"], rtol=1e-8)


def test_predict(run: Run, oats: Any, saved: Path, tmp_path: Path) -> None:
    rows = pd.DataFrame(
        {"nitro": [0.0, 0.6], "Variety": "Victory", "Block": "I", "plot": ["a", "b"]}
    )
    rows.to_csv(tmp_path / "new.csv", index=False)
    out = tmp_path / "p.csv"
    code, printed, _ = run(
        "predict", saved, "--new", tmp_path / "new.csv", "--interval", "new", "--out", out
    )
    assert code == 0
    assert "plot" in printed
    expected = oats.predict(rows, interval="new", conf_level=0.95)
    found = pd.read_csv(out)
    assert list(found["plot"]) == ["a", "b"]
    for name in ("estimate", "conf_low", "conf_high"):
        np.testing.assert_allclose(found[name], expected[name], rtol=1e-8)


def test_predict_of_the_rows_fitted(run: Run, oats: Any, tmp_path: Path) -> None:
    out = tmp_path / "p.csv"
    code, printed, _ = run("predict", FORMULA, "Oats", "--out", out)
    assert code == 0
    assert "60 more rows" in printed
    np.testing.assert_allclose(pd.read_csv(out)["estimate"], oats.fitted(), rtol=1e-8)


def test_ratios(run: Run, tmp_path: Path) -> None:
    out = tmp_path / "r.csv"
    formula = "cbind(incidence, size - incidence) ~ period + (1 | herd)"
    code, printed, _ = run(
        "ratios",
        formula,
        "cbpp",
        "--family",
        "binomial",
        "--out",
        out,
        "--plot",
        tmp_path / "r.svg",
    )
    assert code == 0
    assert "Standardised ratios" in printed
    fit = ranef.glmm(formula, ranef.data.load("cbpp"), family="binomial")
    expected = fit.standardized_ratios().tidy()
    assert set(pd.read_csv(out)["level"].astype(str)) == set(expected["level"].astype(str))


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["means", "absent.ranef", "--of", "x"], 3, "no file 'absent.ranef', and it is no formula"),
        (["means", "y ~ x + (1 | g)", "--of", "x"], 2, "a formula needs its table"),
        (["means", "d.csv", "y ~ x + (1 | g)", "--of", "x"], 2, "the formula comes first"),
        (["means", FORMULA, "Oats", "--of", "Varietty"], 2, "did you mean 'Variety'?"),
        (["means", FORMULA, "Oats"], 2, "--of must be given"),
        (["means", FORMULA, "Oats", "--of", "Variety", "--at", "nitro"], 2, "NAME=VALUE"),
        (["means", FORMULA, "Oats", "--of", "Variety", "--table", "m.pdf"], 2, "must end in"),
        (["predict", FORMULA, "Oats", "--new", "absent.csv"], 3, "no file 'absent.csv'"),
        (["contrast", FORMULA, "Oats"], 2, "did you mean 'contrasts'?"),
        (["lmer", "y ~ x", "d.csv"], 2, "did you mean 'fit'?"),
        (["y ~ x + (1 | g)", "d.csv"], 2, "ranef fit 'y ~ x + (1 | g)' d.csv"),
        (["fit", "y", "~", "x", "+", "(1|g)", "d.csv"], 2, 'ranef fit "y ~ x + (1|g)" d.csv'),
        (["fit", "y ~ x", "d.csv", "--repot", "r.html"], 2, "did you mean '--report'?"),
        (["fit", "y ~ x", "d.csv", "e.csv"], 2, "does not know what e.csv is for"),
    ],
)
def test_what_is_wrong_is_answered(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], code: int,
    said: str,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    found, _, err = run(*arguments)
    assert found == code
    assert said in err


def test_a_tilde_that_the_shell_made_a_folder(run: Run) -> None:
    code, _, err = run("fit", "y", str(Path.home()), "x", "d.csv")
    assert code == 2
    assert 'ranef fit "y ~ x" d.csv' in err


def test_the_saved_fit_is_not_overwritten(run: Run, saved: Path) -> None:
    before = saved.read_bytes()
    code, _, err = run("means", saved, "--of", "Variety", "--save", saved)
    assert code == 2
    assert "name the result otherwise" in err
    assert saved.read_bytes() == before


@pytest.fixture
def visits(tmp_path: Path) -> Path:
    rng = np.random.default_rng(4)
    table = pd.DataFrame({
        "id": np.repeat(np.arange(30), 3), "AVISIT": np.tile(["Week 4", "Week 12", "Week 16"], 30)
    })  # fmt: skip
    table["y"] = rng.normal(size=90) + np.repeat(rng.normal(size=30), 3)
    path = tmp_path / "visits.csv"
    table.to_csv(path, index=False)
    return path


def test_levels_in_the_order_asked_for(run: Run, visits: Path, tmp_path: Path) -> None:
    out = tmp_path / "f.csv"
    order = "AVISIT=Week 4,Week 12,Week 16"
    code, _, err = run("fit", "y ~ AVISIT + (1 | id)", visits, "--levels", order, "--out", out)
    assert code == 0
    assert "note" not in err
    assert list(pd.read_csv(out)["term"]) == ["(Intercept)", "AVISITWeek 12", "AVISITWeek 16"]


def test_the_natural_order_is_suggested(run: Run, visits: Path) -> None:
    _, _, err = run("fit", "y ~ AVISIT + (1 | id)", visits)
    assert "--levels 'AVISIT=Week 4,Week 12,Week 16'" in err
    _, _, err = run("fit", "y ~ 1 + (1 | id)", visits)
    assert "--levels" not in err


@pytest.mark.parametrize(
    ("levels", "said"),
    [
        ("AVISIT=Week 4,Week 12", "leaves out 'Week 16'"),
        ("AVISIT=Week 4,Week 12,Week 18", "did you mean 'Week 16'?"),
        ("AVISTI=Week 4", "did you mean 'AVISIT'?"),
        ("AVISIT", "is not of the form"),
        ("AVISIT=Week 4,Week 4", "each level once"),
    ],
)
def test_wrong_levels(run: Run, visits: Path, levels: str, said: str) -> None:
    code, _, err = run("fit", "y ~ AVISIT + (1 | id)", visits, "--levels", levels)
    assert code == 2
    assert said in err


def test_several_files_with_a_title(run: Run, visits: Path, tmp_path: Path) -> None:
    files = [tmp_path / name for name in ("a.html", "b.html", "a.tex", "b.md")]
    code, _, _ = run(
        "fit", "y ~ 1 + (1 | id)", visits, "--report", files[0], "--report", files[1],
        "--table", files[2], "--table", files[3], "--title", "A title of its own", "--quiet",
    )  # fmt: skip
    assert code == 0
    assert all("A title of its own" in file.read_text() for file in files)


def test_a_table_behind_a_saved_fit_is_predicted(run: Run, saved: Path, tmp_path: Path) -> None:
    new = tmp_path / "new.csv"
    new.write_text("nitro,Variety,Block\n0.2,Victory,I\n")
    assert run("predict", saved, new)[1] == run("predict", saved, "--new", new)[1]
    code, _, told = run("predict", saved, new, "--new", new)
    assert code == 2
    assert "are both rows to predict: give one" in told
    code, _, told = run("predict", tmp_path / "gone.ranef", new)
    assert code == 3
    assert "no file" in told


def test_the_order_of_a_saved_fit_is_not_questioned(run: Run, visits: Path, tmp_path: Path) -> None:
    kept = tmp_path / "v.ranef"
    run(
        "fit", "y ~ AVISIT + (1 | id)", visits, "--levels", "AVISIT=Week 4,Week 12,Week 16",
        "--save", kept,
    )  # fmt: skip
    code, _, told = run("predict", kept, visits)
    assert code in (0, 1)
    assert "levels of AVISIT are ordered" not in told


def test_each_category_is_predicted(run: Run, tmp_path: Path) -> None:
    wine = ranef.data.load("wine")
    wine.to_csv(tmp_path / "wine.csv", index=False)
    kept, out = tmp_path / "wine.ranef", tmp_path / "p.csv"
    fit = ranef.glmm("rating ~ temp + (1 | judge)", wine, family="cumulative")
    fit.save(kept)
    code, printed, _ = run("predict", kept, tmp_path / "wine.csv", "--out", out)
    assert code == 0
    assert "category" in printed
    found, expected = pd.read_csv(out), fit.predict(wine)
    assert len(found) == len(wine) * 5
    assert list(found["judge"][:5].astype(str)) == [str(wine["judge"][0])] * 5
    np.testing.assert_allclose(found["estimate"][:5], np.asarray(expected)[0], rtol=1e-6)
    assert "row" not in found


def test_ranks_of_a_saved_fit(run: Run, saved: Path, tmp_path: Path) -> None:
    out = tmp_path / "r.csv"
    code, printed, _ = run("rank", saved, "--by", "Block", "--out", out)
    assert code == 0
    assert "Ranking of 6 levels of Block" in printed
    assert len(pd.read_csv(out)) == 6


def test_a_reference_is_enough(run: Run, saved: Path) -> None:
    stated = run("contrasts", saved, "--of", "Variety", "--ref", "Victory", "--method", "reference")
    assert run("contrasts", saved, "--of", "Variety", "--ref", "Victory") == stated
    assert stated[0] == 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("means", "a.ranef", "Arm"), "--of must be given: ranef means MODEL [DATA] --of FACTORS"),
        (("contrasts",), "MODEL, --of must be given"),
        (("fit",), "FORMULA, DATA must be given: ranef fit FORMULA DATA"),
        (("contrasts", "a.ranef", "--of", "A", "--reference", "B"), "did you mean '--ref'?"),
        (("table", "a.ranef"), "ranef.table(ranef.load(saved), 'table.docx')"),
        (("summary", "a.ranef"), "print(ranef.load(saved))"),
    ],
)
def test_what_is_missing_is_said_by_itself(run: Run, arguments: tuple[str, ...], said: str) -> None:
    code, _, told = run(*arguments)
    assert code == 2
    assert said in told


def test_numbers_are_not_a_table_for_a_paper(run: Run, saved: Path, tmp_path: Path) -> None:
    code, _, told = run("means", saved, "--of", "Variety", "--table", tmp_path / "t.csv")
    assert code == 2
    assert "numbers are written by --out" in told
