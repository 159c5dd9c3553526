"""Spellings, copies, lines below the names: what a new user's file brings."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from ranef.fields.diary.exports import read_export

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
