"""From raw files to answers: marks of missing values, names of samples, words of other programs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import ranef
from ranef.errors import DataError, FormulaError, ModelError, UnknownColumnError
from ranef.fields.gwas.matching import read_labelled
from ranef.tables.missing_codes import missing_codes

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def sleep() -> Any:
    return ranef.data.load("sleepstudy")


@pytest.fixture(scope="module")
def saved(sleep: Any, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("fits")
    paths = []
    for name, term in (("small", "1"), ("large", "Days")):
        fit = ranef.lmm(f"Reaction ~ Days + ({term} | Subject)", sleep)
        paths.append(folder / f"{name}.ranef")
        fit.save(paths[-1])
    return paths


# --- marks of missing values


def test_a_number_marks_missing_values_however_the_file_writes_it(run: Run, tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    data = pd.DataFrame({"g": np.repeat(range(8), 5), "y": rng.normal(5, 1, 40).round(1)})
    data.loc[[3, 17], "y"] = -77.0
    path = tmp_path / "diary.csv"
    data.to_csv(path, sep=";", decimal=",", index=False)
    assert "-77,0" in path.read_text()
    code, _, told = run("fit", "y ~ 1 + (1 | g)", path)
    assert code == 0
    assert "--na=-77" in told
    code, out, told = run("fit", "y ~ 1 + (1 | g)", path, "--na=-77")
    assert code == 0
    assert "38 of 40 rows used" in out
    assert "-77" not in told


def test_marks_are_taken_from_spss_files(run: Run, tmp_path: Path) -> None:
    pyreadstat = pytest.importorskip("pyreadstat")
    rng = np.random.default_rng(2)
    n = 12 * 15
    table = pd.DataFrame({"id": np.repeat(range(12), 15), "t": np.tile(range(15), 12)})
    table["stress"] = rng.normal(size=n)
    table["mood"] = 5 - 0.5 * table["stress"] + rng.normal(size=n)
    clean = table.copy()
    table.loc[::9, "stress"] = -77.0
    clean.loc[::9, "stress"] = np.nan
    pyreadstat.write_sav(table, str(tmp_path / "ema.sav"))
    columns = ["--outcome", "mood", "--predictor", "stress", "--person", "id", "--time", "t"]
    code, _, _ = run(
        "diary", tmp_path / "ema.sav", *columns, "--na=-77", "--out", tmp_path / "e.csv"
    )
    assert code == 0
    found = pd.read_csv(tmp_path / "e.csv")
    with pytest.warns(ranef.errors.DataWarning, match="reliability"):
        wanted = ranef.diary(clean, "mood", ["stress"], person="id", time="t").effects()
    assert found["estimate"].to_numpy() == pytest.approx(wanted["estimate"].to_numpy(), rel=1e-6)


@pytest.mark.parametrize(
    ("code", "count", "told"),
    [(-99, 1, True), (-99, 30, True), (-9, 30, True), (-9, 1, False), (-7, 2, False)],
)
def test_codes_below_values_on_both_sides_of_zero(code: float, count: int, told: bool) -> None:
    values = np.concatenate([np.linspace(-3.3, 4.4, 200), np.full(count, code)])
    assert [(c.code, c.count) for c in missing_codes(values)] == [(code, count)] * told


# --- coefficients that diverge, in columns that are nearly dependent


def test_only_what_diverges_is_named_where_a_year_is_not_centred() -> None:
    rng = np.random.default_rng(3)
    site = np.repeat(np.arange(30), 6)
    year = np.tile(np.arange(2015, 2021), 30)
    habitat = np.array(["bog", "forest", "meadow"])[site % 3].astype(object)
    count = rng.poisson(np.exp(0.5 + 0.7 * (habitat == "meadow") + 0.3 * rng.normal(size=30)[site]))
    habitat[site == 1] = "forest"
    rows = np.flatnonzero(habitat == "forest")[:2]
    habitat[rows], count[rows] = "forest ", 0
    data = {"count": count, "site": site, "year": year, "habitat": habitat}
    formula = "count ~ habitat + {} + (1 | site)"
    with pytest.warns(ranef.errors.ConvergenceWarning) as told:
        far = ranef.glmm(formula.format("year"), data, family="poisson")
    with pytest.warns(ranef.errors.ConvergenceWarning):
        near = ranef.glmm(formula.format("I(year - 2015)"), data, family="poisson")
    names = list(far.tidy()["term"])
    runs = {names[k] for k in far.estimate.runaway}
    assert runs == {list(near.tidy()["term"])[k] for k in near.estimate.runaway}
    assert "year" not in runs
    assert "habitatmeadow" not in runs
    assert len(told) == 1
    finite = ~np.isin(np.arange(len(names)), [*far.estimate.runaway, 0])
    errors = [f.tidy()["std_error"].to_numpy()[finite] for f in (far, near)]
    assert errors[0] == pytest.approx(errors[1], rel=1e-3)


# --- saved fits, levels not seen, tables


def test_saved_fits_are_compared(run: Run, saved: list[Path], tmp_path: Path) -> None:
    code, out, _ = run("anova", *saved, "--out", tmp_path / "c.csv")
    assert code == 0
    assert "Likelihood-ratio tests" in out
    wanted = ranef.anova(*map(ranef.load, saved)).tidy()
    found = pd.read_csv(tmp_path / "c.csv")
    assert found["statistic"].iloc[1] == pytest.approx(wanted["statistic"].iloc[1])


def test_what_is_no_saved_fit_is_named(run: Run, saved: list[Path], tmp_path: Path) -> None:
    table = tmp_path / "t.csv"
    table.write_text("y,g\n1,2\n")
    small, large = saved
    for arguments, words in (
        (("anova", small, table), "give the files of saved fits alone"),
        (("anova", small, tmp_path / "no.ranef"), "give the files that ranef fit --save wrote"),
        (("anova", "y ~ x", small, large), "ranef compare 'y ~ x' data.csv"),
        (("anova", small, large, "--df", "kenward-roger"), "terms of one fit"),
        (("compare", small, large), "ranef anova a.ranef b.ranef"),
        (("compare", small, large, large), "Saved fits are compared by ranef anova"),
    ):
        code, _, told = run(*arguments)
        assert code in (2, 3)
        assert words in told


def test_levels_not_seen_are_told(run: Run, saved: list[Path], tmp_path: Path) -> None:
    new = tmp_path / "new.csv"
    new.write_text("Days,Subject\n1,999\n2,308\n")
    code, out, told = run("predict", saved[1], "--new", new)
    assert code == 0
    assert "Subject has 1 level that the fit has not seen: '999'" in told
    assert "261.87" in out
    assert "not seen" not in run("predict", saved[1], "--new", new, "--kind", "population")[2]


def test_ranks_are_written_for_a_paper(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "ranks.md"
    call = ("rank", "Reaction ~ Days + (1 | Subject)", "sleepstudy", "--draws", 200, "--quiet")
    assert run(*call, "--table", path, "--title", "Who is slow")[0] == 0
    assert "Who is slow" in path.read_text()
    assert "expected rank" in path.read_text()


# --- words of other programs


def test_a_function_is_no_offset(sleep: Any) -> None:
    with pytest.raises(UnknownColumnError, match=r"offset\(log\(Days\)\)"):
        ranef.glmm("Reaction ~ 1 + (1 | Subject)", sleep, family="Gamma", offset="log(Days)")


@pytest.mark.parametrize(
    ("written", "name"),
    [("DerSimonian-Laird", "dl"), ("Paule & Mandel", "pm"), ("Hedges", "he"), ("fixed", "fe")],
)
def test_estimators_are_answered_by_their_names_here(written: str, name: str) -> None:
    table = {"yi": [0.1, 0.2, 0.4], "vi": [0.01, 0.02, 0.01]}
    with pytest.raises(ModelError, match=f"is called '{name}' here"):
        ranef.meta("yi ~ 1", table, variance="vi", method=written)
    assert ranef.meta("yi ~ 1", table, variance="vi", method=name).n_obs == 3


def test_an_mplus_input_is_read_as_it_is() -> None:
    rng = np.random.default_rng(4)
    factor = rng.normal(size=150)
    data = {f"y{k}": factor + rng.normal(size=150) for k in range(1, 5)}
    text = "TITLE: one factor;\nVARIABLE: NAMES = y1-y4;\nMODEL:\n  f BY y1-y4; ! all\n"
    fit = ranef.sem(text, data)
    assert fit.loglik == pytest.approx(ranef.sem("f =~ y1 + y2 + y3 + y4", data).loglik, abs=1e-6)
    with pytest.raises(FormulaError, match="with MODEL: before them"):
        ranef.sem("f BY y1 y2 y3", data)


# --- phenotypes


def test_phenotypes_have_decimal_commas(tmp_path: Path) -> None:
    path = tmp_path / "people.csv"
    path.write_text("IID;height;code\na;174,9;1,234\nb;180;5,678\nc;-9;1,000\n")
    found = read_labelled("phenotypes", path, ("-9",))
    assert found.columns["height"][:2].tolist() == [174.9, 180.0]
    assert np.isnan(found.columns["height"][2])
    assert found.columns["code"].tolist() == ["1,234", "5,678", "1,000"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Name;height\na;1.5\nb;2.5\n", "no column of it is called IID"),
        ("Export v3 of\nIID height\na 1\n", "no column of it is called IID"),
        ("Export v3 of\nName height\na x\n", "take titles above the names"),
    ],
)
def test_a_first_line_that_is_no_row_is_refused(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "people.txt"
    path.write_text(text)
    with pytest.raises(DataError, match=words):
        read_labelled("phenotypes", path, ("-9", "NA"))
