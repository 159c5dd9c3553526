"""Files as people have them: titles above the names, marks, sums, dates of spreadsheets."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import ranef
from ranef import metagenomics as mg
from ranef.cli import main
from ranef.errors import DataError, RanefError

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    def call(*arguments: object) -> tuple[int, str, str]:
        capsys.readouterr()
        code = main([str(argument) for argument in arguments])
        out, err = capsys.readouterr()
        return code, out, " ".join(err.split())

    return call


def diary_text(prompts: int = 12, persons: int = 9) -> str:
    draw = np.random.default_rng(5)
    lines = ["Person;gesendet am;Stimmung (0-100);Stress (0-100)"]
    for person in range(persons):
        own = draw.normal(0, 8)
        for k in range(prompts):
            stress = draw.uniform(0, 100)
            mood = 50 + own - 0.2 * (stress - 50) + draw.normal(0, 8)
            when = f"{6 + k // 4:02d}.05.2024 {9 + 3 * (k % 4):02d}:15"
            cells = [f"{mood:.1f}", f"{stress:.1f}"] if draw.random() > 0.1 else ["-", "-"]
            lines.append(";".join([f"P{person:02d}", when, *(c.replace(".", ",") for c in cells)]))
    return "\n".join(lines) + "\n"


DIARY = (
    "--outcome", "Stimmung (0-100)", "--predictor", "Stress (0-100)", "--person", "Person",
    "--time", "gesendet am", "--na=-",
)  # fmt: skip


def test_a_diary_from_an_export(run: Run, tmp_path: Path) -> None:
    plain, titled = tmp_path / "plain.csv", tmp_path / "titled.csv"
    plain.write_text(diary_text(), "utf-8")
    titled.write_text("Export der Studie\nerstellt am 3. Juli\n\n" + diary_text(), "utf-8")
    first, second = tmp_path / "a.csv", tmp_path / "b.csv"
    assert run("diary", plain, *DIARY, "--out", first)[0] == 0
    code, _, said = run(
        "diary", titled, *DIARY, "--out", second, "--table", tmp_path / "t.docx",
        "--plot", tmp_path / "p.png",
    )  # fmt: skip
    assert code == 0
    assert "3 lines above the names left out, which stand in line 4" in said
    assert first.read_text() == second.read_text()
    assert (tmp_path / "p.png").read_bytes().startswith(b"\x89PNG")
    assert "Stress" in words_of(tmp_path / "t.docx")


def words_of(path: Path) -> str:
    docx = pytest.importorskip("docx")
    table = docx.Document(str(path)).tables[0]
    return " ".join(cell.text for row in table.rows for cell in row.cells)


ABOVE = {
    "a title of one word": ("Results\n", ",", 1),
    "a title padded by the spreadsheet": ("Results of May,,\n,,\n", ",", 2),
    "a title with a comma": ("Results, final\n", ";", 1),
    "a title and tabs": ("# none\nResults of May\n", "\t", 1),
}


@pytest.mark.parametrize(("above", "mark", "count"), ABOVE.values(), ids=ABOVE)
def test_titles_above_the_names(
    run: Run, tmp_path: Path, above: str, mark: str, count: int
) -> None:
    rows = [("g", "x", "y"), *((f"g{k % 4}", k, (k * 7) % 11) for k in range(16))]
    text = "".join(mark.join(map(str, row)) + "\n" for row in rows)
    path = tmp_path / "t.csv"
    path.write_text(above + text, "utf-8")
    code, _, said = run("fit", "y ~ x + (1 | g)", path)
    assert code in (0, 3)
    assert "above the names left out" in said
    assert ("one line" if count == 1 else f"{count} lines") in said


def test_titles_are_told_from_tables(run: Run, tmp_path: Path) -> None:
    """R's row names, ragged rows and two columns are no titles."""
    for text in ("x,y\n1,2,3\n4,5,6\n7,8,9\n1,1,1\n", "a\nb,c\nd,e\nf,g\nh,i\n"):
        path = tmp_path / "t.csv"
        path.write_text(text, "utf-8")
        assert "above the names left out" not in run("fit", "y ~ x + (1 | a)", path)[2]


def test_a_title_in_a_workbook(run: Run, tmp_path: Path) -> None:
    openpyxl = pytest.importorskip("openpyxl")
    book = openpyxl.Workbook()
    sheet = book.active
    for row in [["HAMD by visit"], [], ["Patient", "Arm", "Change"]]:
        sheet.append(row)
    for k in range(12):
        sheet.append([f"P{k}", "ab"[k % 2], float((k * 5) % 7)])
    book.save(tmp_path / "t.xlsx")
    code, printed, said = run("fit", "Change ~ Arm", tmp_path / "t.xlsx", "--random", "none")
    assert code == 0
    assert "12 rows, all used" in printed
    assert "2 lines above the names left out, which stand in row 3" in said


def test_marks_of_missing_values(run: Run, tmp_path: Path) -> None:
    draw = np.random.default_rng(1)
    table = pd.DataFrame({"g": np.repeat(list("abcdef"), 8), "x": draw.integers(1, 6, 48)})
    table["y"] = draw.normal(10, 1, 48).round(2)
    table.loc[[3, 9], ["x", "y"]] = -99
    table["other"] = -99
    table.to_csv(tmp_path / "t.csv", index=False)
    said = run("fit", "y ~ x + (1 | g)", tmp_path / "t.csv")[2]
    assert "2 columns ('x', 'y') have -99 beside values such as 1 to 5 ('x', 2 rows)" in said
    assert "--na=-99" in said
    _, printed, said = run("fit", "y ~ x + (1 | g)", tmp_path / "t.csv", "--na=-99")
    assert "-99" not in said
    assert "46 of 48 rows used" in printed


@pytest.mark.parametrize(
    "values",
    [[-9, -8, -3, 0, 2, 5, 9], [1, 2, 5, 88, 99, 70, 60], [99] * 7, [-99, 3, -98, 4, 5, 6, 7]],
    ids=["below zero anyhow", "near the others", "the only value", "no mark beside it"],
)
def test_numbers_that_mark_nothing(run: Run, tmp_path: Path, values: list[int]) -> None:
    table = pd.DataFrame({"y": np.arange(14.0) ** 1.5, "x": values * 2, "g": list("abcdefg") * 2})
    table.to_csv(tmp_path / "t.csv", index=False)
    assert "missing values" not in run("fit", "y ~ x + (1 | g)", tmp_path / "t.csv")[2]


def test_a_row_of_sums(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "wards.csv"
    deaths = [12, 7, 9, 22, 5, 13]
    rows = [f"Ward {k},{d},{10 + k}" for k, d in enumerate(deaths)]
    path.write_text("ward,deaths,expected\n" + "\n".join([*rows, "Total,68,75"]) + "\n")
    formula = "deaths ~ offset(log(expected)) + (1 | ward)"
    said = run("ratios", formula, path, "--family", "poisson")[2]
    assert "line 8 ('Total') holds the sums of 'deaths', 'expected' over the others" in said
    _, printed, said = run("ratios", formula, path, "--family", "poisson", "--na=Total")
    assert "6 levels of ward" in printed
    assert "Total" not in said


def test_pictures_of_many_levels_are_as_high_as_their_labels(run: Run, tmp_path: Path) -> None:
    """A picture of `--plot` had one size whatever it showed, and its labels overlapped."""
    image = pytest.importorskip("PIL.Image")
    draw = np.random.default_rng(4)
    table = pd.DataFrame({"ward": [f"Ward {k}" for k in range(46)], "n": 50.0})
    table["d"] = draw.poisson(50 * np.exp(draw.normal(0, 0.3, 46)))
    table.to_csv(tmp_path / "w.csv", index=False)
    picture = tmp_path / "w.png"
    run(
        "ratios", "d ~ offset(log(n)) + (1 | ward)", tmp_path / "w.csv", "--family", "poisson",
        "--plot", picture,
    )  # fmt: skip
    width, height = image.open(picture).size
    assert height > 150 * 0.2 * 46 > width


def when(times: list[str]) -> Any:
    n = len(times)
    draw = np.random.default_rng(2)
    table = {
        "id": np.repeat(np.arange(6), n),
        "t": times * 6,
        "x": (draw.normal(size=(6, 1)) * 3 + draw.normal(size=(6, n))).ravel(),
    }
    return ranef.diary({**table, "y": draw.normal(size=6 * n)}, "y", ["x"], person="id", time="t",
                       residual=None)  # fmt: skip


@pytest.mark.parametrize(
    "written", ["{d}.5.2024 {h}:05", "{d:02d}/05/2024 {h:02d}:05", "05/{d:02d}/2024 {h:02d}:05:00"]
)
def test_days_and_months(written: str) -> None:
    moments = [(d, h) for d in (11, 12, 13, 14) for h in (9, 12, 15)]
    found = when([written.format(d=d, h=h) for d, h in moments]).occasions.clock
    plain = when([f"2024-05-{d}T{h:02d}:05" for d, h in moments]).occasions.clock
    np.testing.assert_array_equal(found.wall, plain.wall)


@pytest.mark.parametrize(
    ("times", "said"),
    [
        (["01/02/2024", "03/04/2024", "05/06/2024"], "either number may be the month"),
        (["13/02/2024", "02/14/2024", "05/06/2024"], "first in some and second in others"),
        (["31.02.2024", "01.03.2024", "02.03.2024"], r"29\.03\.2025 14:05"),
    ],
)
def test_days_and_months_that_nothing_tells(times: list[str], said: str) -> None:
    with pytest.raises(DataError, match=said):
        when(times)


COLUMNS = {
    "two numbers in a cell": (["10.2 ± 7.3", "9 ± 5"], "split at '±'"),
    "a number and a share": (["12 (4.5)", "9 (1)"], r"split at '\('"),
    "a fraction of patients": (["3/20", "11/28"], "split at '/'"),
    "several types": ([3.5, "."], r"the first '\.' in row 1 \(1 such row\); mark those as missing"),
}


@pytest.mark.parametrize(("values", "said"), COLUMNS.values(), ids=COLUMNS)
def test_cells_that_are_no_numbers(values: list[Any], said: str) -> None:
    table = pd.DataFrame({"m": pd.Series(values, dtype=object), "s": 1.0, "n": 20, "k": 1.0})
    with pytest.raises(RanefError, match=said):
        ranef.effect_sizes("MD", table, m1i="m", sd1i="s", n1i="n", m2i="k", sd2i="s", n2i="n")


def test_a_column_that_is_not_there_is_answered_with_those_that_are() -> None:
    with pytest.raises(RanefError, match="no column 'vi' for variance; the table has 'effect'"):
        ranef.meta("effect ~ 1", {"effect": [0.1, 0.2, 0.4]}, variance="vi")


def test_a_table_of_models_for_word(tmp_path: Path) -> None:
    fit = ranef.lmm("Reaction ~ Days + (Days | Subject)", ranef.data.load("sleepstudy"))
    assert "Days" in words_of(ranef.table(fit).to_docx(tmp_path / "t.docx"))


# --- a run of sequencing


@pytest.fixture
def sequenced(tmp_path: Path) -> Path:
    draw = np.random.default_rng(3)
    taxa = [("Ralstonia", 329, 60.0), ("Cutibacterium", 1747, 30.0), ("Homo sapiens", 9606, 9e4),
            ("Neisseria", 487, 0.3)]  # fmt: skip
    folder = tmp_path / "run"
    folder.mkdir()
    for k in range(10):
        control = k > 7
        counts = [int(draw.poisson(mean * (0.01 if control and i == 9606 else 1)))
                  + 400 * (k == 3 and i == 487) for _, i, mean in taxa]  # fmt: skip
        total = sum(counts)
        lines = [f"{100 * c / total:.2f}\t{c}\t{c}\tS\t{i}\t{name}\n"
                 for c, (name, i, _) in zip(counts, taxa, strict=True) if c]  # fmt: skip
        (folder / f"CSF-{k}_S{k + 1}_L001.report").write_text("".join(lines))
    return folder


def sheet(**columns: Any) -> pd.DataFrame:
    names = [f"CSF-{k}" for k in range(10)]
    return pd.DataFrame({"sample": names, "is_control": [k > 7 for k in range(10)], **columns})


def test_a_screen_from_a_workbook(run: Run, sequenced: Path, tmp_path: Path) -> None:
    pytest.importorskip("openpyxl")
    sheet().to_excel(tmp_path / "s.xlsx", index=False)
    code, printed, said = run(
        "metagenomics", "screen", sequenced, "--samples", tmp_path / "s.xlsx", "--exclude", "9606",
        "--table", tmp_path / "t.docx", "--plot", tmp_path / "p.png",
    )  # fmt: skip
    assert code == 0
    assert "Homo" not in printed
    assert said == ""
    assert "'CSF-0_S1_L001' is 'CSF-0' of the sheet" in " ".join(printed.split())
    assert "Neisseria" in words_of(tmp_path / "t.docx")
    assert (tmp_path / "p.png").read_bytes().startswith(b"\x89PNG")
    said = run("metagenomics", "screen", sequenced, "--samples", tmp_path / "s.xlsx")[2]
    assert "--exclude 9606 leaves them out" in said


WRONG = {
    "a taxon": (("--exclude", "Nisseria"), r"no such taxon; did you mean 'Neisseria'\?"),
    "a table": (("--table", "t.pdf"), r"must end in one of \.docx,"),
    "a picture": (("--plot", "p.bmp"), r"must end in one of \.png, \.svg, \.pdf"),
    "a folder": (("--table", "none/t.docx"), "no folder 'none'"),
}


@pytest.mark.parametrize(("given", "expected"), WRONG.values(), ids=WRONG)
def test_options_of_a_screen(
    run: Run, sequenced: Path, tmp_path: Path, given: tuple[str, str], expected: str
) -> None:
    sheet().to_csv(tmp_path / "s.csv", index=False)
    code, _, said = run(
        "metagenomics", "screen", sequenced, "--samples", tmp_path / "s.csv", *given
    )
    assert code != 0
    assert re.search(expected, said), said


def test_every_taxon_left_out(run: Run, sequenced: Path, tmp_path: Path) -> None:
    sheet().to_csv(tmp_path / "s.csv", index=False)
    every = [word for i in (329, 1747, 9606, 487) for word in ("--exclude", i)]
    code, _, said = run(
        "metagenomics", "screen", sequenced, "--samples", tmp_path / "s.csv", *every
    )
    assert code != 0
    assert "leaves no reads" in said


SHEETS = {
    "another name": (sheet().rename(columns={"sample": "Sample Name"}), "is it 'Sample Name'"),
    "no names": (sheet().rename(columns={"sample": "tube"}), "the sheet has 'tube', 'is_control'"),
    "a unit": (sheet(input_mass=["0.8 ng"] * 10), "'0.8 ng', which is no number; leave the unit"),
    "a word": (sheet(is_control=["perhaps"] * 10), "is 'perhaps'; write True or False"),
}


@pytest.mark.parametrize(("table", "said"), SHEETS.values(), ids=SHEETS)
def test_sheets_of_libraries(sequenced: Path, table: pd.DataFrame, said: str) -> None:
    with pytest.raises(RanefError, match=said):
        mg.screen(mg.read(sequenced), table)


def test_a_workbook_in_python_is_answered(sequenced: Path, tmp_path: Path) -> None:
    pytest.importorskip("openpyxl")
    sheet().to_excel(tmp_path / "s.xlsx", index=False)
    with pytest.raises(RanefError, match=r"give pandas.read_excel\('s.xlsx'\) as the sheet"):
        mg.screen(mg.read(sequenced), tmp_path / "s.xlsx")
