"""Spellings, copies, lines below the names: what a new user's file brings."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import ranef
from ranef.errors import DataError
from ranef.fields.diary.exports import read_export
from ranef.fields.imaging.group_design import joined
from ranef.fields.imaging.table_files import read_table

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def wards() -> pd.DataFrame:
    rng = np.random.default_rng(7)
    table = pd.DataFrame({"case": range(101, 401), "ward": np.repeat(list("ABCDEFGHIJ"), 30)})
    table["age"] = rng.normal(60, 10, 300).round()
    table["back"] = np.where(rng.random(300) < 0.2, "ja", "nein")
    return table


# --- spellings and copies


def test_spellings_and_copies_are_told_and_mended(
    run: Run, wards: pd.DataFrame, tmp_path: Path
) -> None:
    path = tmp_path / "wards.csv"
    table = wards.copy()
    table.loc[3, "ward"], table.loc[40, "ward"] = "a ", "B "
    pd.concat([table, table.iloc[[5, 77]]]).to_csv(path, index=False)
    code, out, told = run("fit", "age ~ 1 + (1 | ward)", path)
    assert code == 0
    assert "column 'ward' has 'a ' beside 'A', and 1 more; --unify ward makes each one" in told
    assert "line 302, line 303 repeat an earlier row in every column, 'case' too" in told
    code, out, told = run(
        "fit", "age ~ 1 + (1 | ward)", path, "--unify", "ward", "--distinct", "--quiet"
    )
    assert (code, told) == (0, "")
    code, out, told = run("fit", "age ~ 1 + (1 | ward)", path, "--unify", "ward", "--distinct")
    assert "300 rows, all used" in out
    assert "10 levels of ward" in out


def test_rows_without_an_identifier_may_agree(run: Run, tmp_path: Path) -> None:
    """Two of many rows agree by chance where nothing says which is which."""
    rng = np.random.default_rng(3)
    table = pd.DataFrame({"y": rng.normal(size=60).round(1), "g": np.repeat(list("abcdef"), 10)})
    assert table.duplicated().sum() > 0
    path = tmp_path / "rows.csv"
    table.iloc[: 60 - int(table.duplicated().sum()) + 2].to_csv(path, index=False)
    code, _, told = run("fit", "y ~ 1 + (1 | g)", path)
    assert code == 0
    assert "repeat" not in told


def test_lines_stay_those_of_the_file_without_copies(run: Run, tmp_path: Path) -> None:
    table = pd.DataFrame(
        {"id": range(40), "y": [str(k % 7) for k in range(40)], "g": ["a", "b"] * 20}
    )
    table = pd.concat([table.iloc[:2], table.iloc[[1]], table.iloc[2:]])
    table.iloc[20, 1] = "x9"  # line 22 of the file, row 20 of those kept
    path = tmp_path / "rows.csv"
    table.to_csv(path, index=False)
    code, _, told = run("fit", "y ~ 1 + (1 | g)", path, "--distinct")
    assert code == 2
    assert "line 22" in told


# --- lines below the names


QUALTRICS = (
    'StartDate,ResponseId,Q1,Q2_1\nStart Date,Response ID,"Your\ncode",Mood\n'
    + ",".join(f'"{{""ImportId"":""QID{k}""}}"' for k in range(4))
    + "\n"
)


def test_questions_below_the_names_are_left_out(run: Run, tmp_path: Path) -> None:
    """A question may run over two lines; errors name the lines of the file."""
    rows = "".join(f"2025-03-24 10:{k:02d}:00,R{k},P{k % 6},{k % 7}\n" for k in range(48))
    path = tmp_path / "export.csv"
    path.write_text(QUALTRICS + rows)
    code, out, told = run("fit", "Q2_1 ~ 1 + (1 | Q1)", path)
    assert code == 0
    assert "the questions and ids of Qualtrics" in told
    assert "48 rows, all used" in out
    path.write_text(QUALTRICS + rows.replace("R3,P3,3", "R3,P3,x"))
    code, _, told = run("fit", "Q2_1 ~ 1 + (1 | Q1)", path)
    assert code == 2
    assert "'x' in line 8" in told


def test_a_diary_of_qualtrics(tmp_path: Path) -> None:
    path = tmp_path / "export.csv"
    rows = "".join(f"2025-03-24 10:{k:02d}:00,R{k},P{k % 6},{k % 7}\n" for k in range(48))
    path.write_text(QUALTRICS + rows)
    export = read_export(path)
    assert export.kind == "Qualtrics"
    assert export.table["Q2_1"].tolist() == [k % 7 for k in range(48)]
    assert export.table["Q1"].nunique() == 6


# --- participants of a study of images


PEOPLE = "\ufeffID;Alter;Gruppe\nS1;52,2;Kontrolle\nS2;40;Patient\nS3;-1,5;Patient\n"


@pytest.mark.parametrize("name", ["people.csv", "people.tsv", "people.txt"])
def test_participants_as_spreadsheets_write_them(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_text(PEOPLE, encoding="utf-8")
    table = read_table(path)
    assert list(table.columns) == ["ID", "Alter", "Gruppe"]
    np.testing.assert_array_equal(table.numeric("Alter"), [52.2, 40.0, -1.5])
    tabs = tmp_path / "p.tsv"
    tabs.write_text("participant_id\tname, first\tage\n01\ta, b; c\t1.5\n", encoding="utf-8")
    found = read_table(tabs)
    assert list(found.values("participant_id")) == ["01"]
    assert found.numeric("age")[0] == 1.5


def test_subjects_of_other_names_are_shown() -> None:
    people = pd.DataFrame({"ID": ["S1", "S2", "S3", "S4"], "age": [1.0, 2.0, 3.0, 4.0]})
    with pytest.raises(DataError, match=r"not there\): its labels are 'S1', 'S2', 'S3' and 1 more"):
        joined(people, ["sub-01", "sub-02"], "ID")
    people["ID"] = ["sub-01", "sub-02", "sub-20", "sub-4"]
    with pytest.raises(DataError, match=r"no row of subject 'sub-10' in 'ID'$"):
        joined(people, ["sub-01", "sub-10"], "ID")
    with pytest.raises(DataError, match="no row of subject 'sub-04' in 'ID'; did you mean 'sub-4'"):
        joined(people, ["sub-01", "sub-04"], "ID")


# --- items of a questionnaire


def test_codes_for_missing_are_said_of_structural_equations() -> None:
    """A factor of four items, two of which hold -99: nothing but the words tells."""
    rng = np.random.default_rng(1)
    factor = rng.normal(size=300)
    items = pd.DataFrame({f"q{k}": factor + rng.normal(size=300) for k in range(1, 5)})
    items.loc[:9, ["q1", "q3"]] = -99.0
    fit = ranef.sem("f =~ q1 + q2 + q3 + q4", items)
    said = [line for line in str(fit).splitlines() if "-99 stands in 10 rows of" in line]
    assert [line.split(" of ")[1][:2] for line in said] == ["q1", "q3"]
    clean = items.iloc[10:]
    assert "-99" not in str(ranef.sem("f =~ q1 + q2 + q3 + q4", clean))
    clean = clean.assign(age=rng.normal(size=290))
    twice = pd.concat([clean, clean.iloc[[3, 7]]])
    assert "2 rows repeat another" in str(ranef.sem("f =~ q1 + q2 + q3 + q4\nf ~ age", twice))


def test_labels_reach_items_of_structural_equations() -> None:
    rng = np.random.default_rng(2)
    factor = rng.normal(size=300)
    items = pd.DataFrame({f"q{k}": factor + rng.normal(size=300) for k in range(1, 5)})
    fit = ranef.sem("f =~ q1 + q2 + q3 + q4", items)
    written = ranef.table(fit).to_markdown(labels={"q2": "Item 2", "f": "Factor"})
    assert "| Factor =\\~ Item 2 |" in written


@pytest.mark.parametrize(
    ("path", "reader"), [("a.sav", "spss"), ("a.dta", "stata"), ("a.xlsx", "excel"), ("a", "csv")]
)
def test_a_path_is_answered_by_what_reads_it(path: str, reader: str) -> None:
    with pytest.raises(DataError, match=f"as by pandas.read_{reader} or"):
        ranef.sem("f =~ a + b + c", path)


# --- units and calendars


def test_units_are_told_and_taken_away(run: Run, tmp_path: Path) -> None:
    rng = np.random.default_rng(4)
    mass = rng.normal(60, 5, 60).round(1)
    table = pd.DataFrame({"g": np.repeat(list("abcdef"), 10), "y": rng.normal(size=60)})
    table["mass"] = [f"{value} kg" for value in mass]
    path = tmp_path / "masses.csv"
    table.to_csv(path, index=False)
    code, _, told = run("fit", "y ~ mass + (1 | g)", path)
    assert "column 'mass' holds numbers with a unit ('kg'), which stay text; --number mass" in told
    code, out, told = run("fit", "y ~ mass + (1 | g)", path, "--number", "mass")
    assert code == 0
    assert "unit" not in told
    fit = ranef.lmm("y ~ mass + (1 | g)", table.assign(mass=mass))
    assert f"AIC {fit.aic:.2f}" in out


@pytest.mark.parametrize(
    ("labels", "wanted"),
    [
        (["Jan", "Feb", "Mar", "Apr"], "Jan,Feb,Mar,Apr"),
        (["Januar", "März", "Oktober", "Dezember"], "Januar,März,Oktober,Dezember"),
        (["Mo", "Di", "Mi"], "Mo,Di,Mi"),
        (["April", "June", "Mary", "Jules"], None),
        (["low", "mid", "high"], None),
    ],
)
def test_calendars_have_an_order(
    run: Run, tmp_path: Path, labels: list[str], wanted: str | None
) -> None:
    rng = np.random.default_rng(5)
    table = pd.DataFrame({"g": np.repeat(range(12), 8), "y": rng.normal(size=96)})
    table["when"] = (labels * 96)[:96]
    path = tmp_path / "when.csv"
    table.to_csv(path, index=False)
    code, _, told = run("fit", "y ~ when + (1 | g)", path)
    assert code == 0
    assert ("--levels 'when=" in told) == (wanted is not None)
    if wanted is not None:
        assert f"--levels 'when={wanted}' orders them as the calendar does" in told
        said = str(ranef.lmm("y ~ when + (1 | g)", table).summary())
        assert "alphabetical order" in said


def test_the_event_and_how_to_turn_it(run: Run, tmp_path: Path) -> None:
    rng = np.random.default_rng(6)
    table = pd.DataFrame({"g": np.repeat(range(12), 8), "back": ["ja", "nein", "nein"] * 32})
    table["age"] = rng.normal(size=96)
    path = tmp_path / "back.csv"
    table.to_csv(path, index=False)
    call = ("fit", "back ~ age + (1 | g)", path, "--family", "binomial")
    said = "the event is back = 'nein'; --levels back=nein,ja makes it 'ja'"
    assert said in run(*call)[2]
    code, out, told = run(*call, "--levels", "back=nein,ja")
    assert code == 0
    assert "the event is" not in told
    assert "The probability is that of ja" in " ".join(out.split())
    assert said not in run(*call, "--quiet")[2]
