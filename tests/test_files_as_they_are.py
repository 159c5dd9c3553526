"""Tables as people have them: other decimal marks, comments, words among numbers, workbooks.

What the command reads is compared with what the file was written from, so every right
value here is known by construction.
"""

from __future__ import annotations

import codecs
import datetime
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from agreement import Agree
from pyarrow import feather, parquet

import ranef
from ranef.cli.delimited import Dialect, read_delimited
from ranef.cli.reading import Reading, read_table
from ranef.errors import DataError, FileError
from ranef.tables import Table

Ran = tuple[int, str, str]


def read(content: str | bytes, **dialect: Any) -> tuple[dict[str, list[Any]], list[str]]:
    raw = content.encode() if isinstance(content, str) else content
    data, notes, _ = read_delimited(raw, "'d.csv'", Dialect(**dialect))
    columns = {name: data[name].astype(object).tolist() for name in data.columns}
    return columns, [note.text for note in notes]


# --- decimal marks and thousands -----------------------------------------------------


def written(values: list[float], decimal: str, thousands: str) -> list[str]:
    """Write numbers as a locale does: grouped by threes, up to two decimals."""
    texts = []
    for value in values:
        whole, _, rest = f"{value:.2f}".rstrip("0").rstrip(".").partition(".")
        groups = f"{int(whole):,}".replace(",", thousands)
        texts.append(groups + (decimal + rest if rest else ""))
    return texts


AMOUNTS = [812.0, 1059.0, 22.5, 1234567.25, 3.0]
DAYS = [800.0, 948.0, 1022.0, 1059.0, 31.0]


@pytest.mark.parametrize("separator", [";", "\t", ",", "|"])
@pytest.mark.parametrize(
    ("decimal", "thousands", "given"),
    [
        (",", ".", {}),
        (".", ",", {}),
        (",", ".", {"decimal": ","}),
        (".", ",", {"decimal": "."}),
        (",", ".", {"thousands": "."}),
        (".", ",", {"thousands": ","}),
        (",", " ", {"thousands": " "}),
        (",", "\u202f", {"thousands": " "}),
        (",", "\u00a0", {"thousands": " ", "decimal": ","}),
        (".", "'", {"thousands": "'"}),
        (".", "\u2019", {"thousands": "'"}),
    ],
)
def test_numbers_are_read_as_their_locale_writes_them(
    separator: str, decimal: str, thousands: str, given: dict[str, str], agree: Agree
) -> None:
    columns = {"a": AMOUNTS, "days": DAYS, "p": [0.5, 1.25, 2.0, 3.0, 4.5]}
    texts = {name: written(values, decimal, thousands) for name, values in columns.items()}
    quoted = pd.DataFrame(texts).to_csv(index=False, sep=separator, quoting=1)
    found, notes = read(quoted, **given)
    assert found.keys() == columns.keys()
    agree("ranef fit", f"numbers of a file, decimal {decimal!r}, thousands {thousands!r}",
          list(found.values()), list(columns.values()), peer="what was written")  # fmt: skip
    said = [note for note in notes if "groups digits" in note]
    assert len(said) == 2  # of the two columns in which digits are grouped


@pytest.mark.parametrize("values", [[-1, 2, -30], [-0.5, 2.25, 3.0], [-1022.5, 812.0, 1059.0]])
def test_a_minus_as_printers_set_it_is_a_sign(values: list[float]) -> None:
    """U+2212 made categories of a column of numbers, without a word."""
    table = pd.DataFrame({"g": ["a", "\u2212", "\u22125 mg"], "x": [f"{v:,}" for v in values]})
    found, _ = read(table.to_csv(index=False, sep=";").replace("-", "\u2212"))
    assert found["x"] == values
    assert found["g"] == ["a", "\u2212", "\u22125 mg"]


def test_one_column_decides_for_the_others() -> None:
    # without 'p' nothing says what the point is; with it the comma is the decimal mark
    table = "g;days;p\na;812;0,5\nb;1.059;1,5\n"
    assert read(table)[0]["days"] == [812, 1059]
    columns, notes = read("g;days\na;812\nb;1.059\n")
    assert columns["days"] == ["812", "1.059"]
    assert "--decimal=." in notes[0]
    assert "--thousands=." in notes[0]
    assert read("g;days\na;812\nb;1.059\n", decimal=".")[0]["days"] == [812.0, 1.059]
    assert read("g;days\na;812\nb;1.059\n", thousands=".")[0]["days"] == [812, 1059]


def test_three_decimals_in_a_file_of_points_are_decimals() -> None:
    assert read("y,g\n1.059,a\n2.344,b\n")[0]["y"] == [1.059, 2.344]
    assert read("y,x\n1.059,0.5\n812,2\n")[0]["y"] == [1.059, 812.0]


def test_what_contradicts_the_file_stays_text_and_is_said() -> None:
    columns, notes = read("p;q\n0,5;1.5\n1,5;2.5\n2,5;3\n", decimal=",")
    assert columns == {"p": [0.5, 1.5, 2.5], "q": ["1.5", "2.5", "3"]}
    assert "'q' is read as text: '1.5' in line 2 contradicts the decimal mark" in notes[0]


def test_a_contradiction_is_refused_where_the_model_uses_it(
    run: Callable[..., Ran], tmp_path: Path
) -> None:
    rows = "".join(f"g{i % 5};{i},5;{i}.5;{(i * 7) % 11}\n" for i in range(40))
    source = tmp_path / "d.csv"
    source.write_text("g;p;q;z\n" + rows)
    code, _, err = run("fit", "p ~ z + (1 | g)", source, "--quiet")
    assert (code, err) == (0, "")
    code, _, err = run("fit", "p ~ q + (1 | g)", source)
    assert code == 2
    assert "'0.5' in line 2 contradicts" in err
    code, _, err = run("fit", "q ~ z + (1 | g)", source)
    assert code == 2


def test_the_two_marks_differ(run: Callable[..., Ran], tmp_path: Path) -> None:
    source = tmp_path / "d.csv"
    source.write_text("y,g\n1,a\n2,b\n")
    code, _, err = run("fit", "y ~ 1 + (1 | g)", source, "--decimal=,", "--thousands=,")
    assert code == 2
    assert "the same mark" in err


def test_dates_versions_and_choices_are_no_numbers() -> None:
    table = "d;v;c;y\n01.02.2024;1.2.3;1,2;0,5\n03.02.2024;1.2.4;3;1,5\n04.02.2024;1.3;1,2,3;2\n"
    columns, notes = read(table)
    assert columns["d"] == ["01.02.2024", "03.02.2024", "04.02.2024"]
    assert columns["v"] == ["1.2.3", "1.2.4", "1.3"]
    assert columns["c"] == ["1,2", "3", "1,2,3"]
    assert columns["y"] == [0.5, 1.5, 2.0]
    assert notes == []


@pytest.mark.parametrize(
    ("text", "value"),
    [("1e3", 1000.0), ("+1.5", 1.5), (".5", 0.5), ("5.", 5.0), ("-2.5E-3", -0.0025),
     ("inf", np.inf), ("-Infinity", -np.inf), (" 1.5 ", 1.5), ("0.1", 0.1),
     ("9007199254740993.5", 9007199254740994.0)],
)  # fmt: skip
def test_numbers_in_all_their_forms(text: str, value: float) -> None:
    assert read(f"x,y\n{text},0.5\n1.5,1\n")[0]["x"] == [value, 1.5]


def test_truth_values() -> None:
    columns, _ = read("t,u,y\nTRUE,true,1\nFALSE,,2\n")
    assert columns["t"] == [True, False]
    assert columns["u"][0] is True
    assert columns["u"][1] is pd.NA


# --- what stands around the table ----------------------------------------------------


@pytest.mark.parametrize(
    "content",
    [
        "sep=;\ny;g\n1,5;a\n2;b c\n",
        'sep=,\ny,g\n1.5,a\n2,"b c"\n',
        "# made by hand\n# in 2024\ny,g\n1.5,a\n2,b c\n",
        "# one, two\ny,g\n1.5,a\n# amid, the rows\n2,b c\n",
        "#y,g\n1.5,a\n2,b c\n",
        "# y\tg\n1.5\ta\n2\tb c\n",
        "# a comment\n\ny;g\n1,5;a\n2;b c\n",
    ],
)
def test_comments_and_excels_first_line(content: str) -> None:
    assert read(content)[0] == {"y": [1.5, 2.0], "g": ["a", "b c"]}


def test_marks_that_only_look_like_comments_are_data() -> None:
    assert read("g,y\n#1,0.5\n#2,1\n")[0]["g"] == ["#1", "#2"]


def test_lines_above_the_names_are_skipped() -> None:
    columns, _ = read("Study 12\nprinted today, again\n\ny,g\n1,a\n2,b\n", skip=2)
    assert columns == {"y": [1, 2], "g": ["a", "b"]}
    with pytest.raises(FileError, match="--skip"):
        read("Study\ny,g\n1,a\n")
    with pytest.raises(FileError, match="has no line 10"):
        read("y,g\n1,a\n", skip=9)


def test_rows_are_the_lines_of_the_file(run: Callable[..., Ran], tmp_path: Path) -> None:
    source = tmp_path / "d.csv"
    source.write_text('# note\n\ng,c\n"a\nb",1\n\nd,2\nd,-3\n"a\nb",4\nd,5\n')
    code, _, err = run("fit", "c ~ 1 + (1 | g)", source, "--family", "poisson")
    assert code == 2
    assert "c is -3 in line 8" in err


def test_a_line_of_names_may_be_of_any_length() -> None:
    names = [f"column_{i}" for i in range(20_000)]
    columns, _ = read(",".join(names) + "\n" + ",".join("1" for _ in names) + "\n")
    assert list(columns) == names


@pytest.mark.parametrize("word", ["k.A.", "ND", "#DIV/0!", "n. d.", "<LOD"])
def test_the_word_in_the_way_is_named(run: Callable[..., Ran], tmp_path: Path, word: str) -> None:
    source = tmp_path / "d.csv"
    rows = [f"{i % 4},{word if i in (5, 9) else i * 1.5},{(i * 5) % 7}" for i in range(40)]
    source.write_text("g,y,x\n" + "\n".join(rows) + "\n")
    code, _, err = run("fit", "y ~ x + (1 | g)", source)
    assert code == 2
    assert f"since {word!r} in line 7 is no number" in err
    option = next(part for part in err.split("; ") if "--na=" in part).split(" marks")[0]
    given = option.strip().removeprefix("--na=").strip("'")
    assert given == word
    assert run("fit", "y ~ x + (1 | g)", source, f"--na={given}", "--quiet") == (0, "", "")
    assert run("fit", "x ~ 1 + (1 | g)", source, "--quiet") == (0, "", "")


@pytest.mark.parametrize("encoding", ["utf-16", "utf-32", "utf-8-sig"])
def test_marked_encodings(encoding: str) -> None:
    assert read("y;g\n1,5;\u00e9\n".encode(encoding))[0] == {"y": [1.5], "g": ["\u00e9"]}


@pytest.mark.parametrize("name", ["zlib", "hex", "base64", "rot13", "bz2", "punycode", "undefined"])
def test_what_is_no_encoding_of_text_is_refused(name: str) -> None:
    with pytest.raises(FileError, match="no such encoding"):
        read("y,g\n1,a\n", encoding=name)


def test_text_in_another_encoding_than_named() -> None:
    with pytest.raises(FileError, match="is not UTF-16-LE text"):
        read(b"y,g\n1,a\n\n", encoding="utf-16-le")
    with pytest.raises(FileError, match=r"line 2.*latin-1"):
        read(codecs.BOM_UTF8 + b"y,g\n1,\xe9\n")


# --- ids of 64 bits ------------------------------------------------------------------

IDS = [None, 2**53, 2**53 + 1, 2**63 - 1, -(2**60) - 1, -(2**60), 7]


def levels_read(source: Path, **reading: Any) -> list[Any]:
    data = read_table(str(source), Reading(**reading)).data
    return Table.of(data).codes("g")[1]


@pytest.mark.parametrize("factors", [(), ("g",)])
@pytest.mark.parametrize("kind", ["csv", "parquet", "feather"])
def test_ids_from_files_are_exact(tmp_path: Path, kind: str, factors: tuple[str, ...]) -> None:
    table, source = pa.table({"g": pa.array(IDS), "y": list(range(7))}), tmp_path / "d"
    if kind == "csv":
        source.write_text("g,y\n" + "".join(f"{g or ''},{i}\n" for i, g in enumerate(IDS)))
    elif kind == "parquet":
        parquet.write_table(table, source)
    else:
        feather.write_feather(table, str(source))
    assert levels_read(source, factors=factors) == sorted(i for i in IDS if i is not None)


def test_ids_without_sign_and_ids_beyond_64_bits(tmp_path: Path) -> None:
    source = tmp_path / "d.csv"
    source.write_text(f"g,y\n{2**64 - 1},1\n,2\n{2**64 - 2},3\n")
    assert levels_read(source) == [2**64 - 2, 2**64 - 1]
    source.write_text(f"g,y\n{10**25 + 1},1\n,2\n{10**25},3\n")
    assert levels_read(source) == [str(10**25), str(10**25 + 1)]


# --- workbooks -----------------------------------------------------------------------


def workbook(**sheets: list[list[Any]]) -> bytes:
    openpyxl = pytest.importorskip("openpyxl")
    book = openpyxl.Workbook()
    book.remove(book.active)
    for name, rows in sheets.items():
        sheet = book.create_sheet(name)
        for row in rows:
            sheet.append(row)
    stream = io.BytesIO()
    book.save(stream)
    return stream.getvalue()


def test_a_workbook_gives_the_same_fit(run: Callable[..., Ran], tmp_path: Path) -> None:
    sleep = ranef.data.load("sleepstudy")
    rows = [list(sleep.columns), *sleep.astype(object).values.tolist()]
    source, out = tmp_path / "sleep.xlsx", tmp_path / "o.csv"
    source.write_bytes(workbook(data=rows, empty=[]))
    formula = "Reaction ~ Days + (Days | Subject)"
    assert run("fit", formula, source, "--out", out, "--quiet") == (0, "", "")
    fit = ranef.lmm(formula, sleep)
    np.testing.assert_allclose(pd.read_csv(out)["estimate"], fit.coef, rtol=1e-9)


def test_sheets_titles_and_words_in_workbooks(tmp_path: Path) -> None:
    rows = [["A study"], [], ["g", "y", "z"], ["a", 1.5, "1,5"], ["b", "k.A.", "2"],
            ["a", 3, "2,5"], ["b", 4, "2,5"], ["b", 5, None]]  # fmt: skip
    source = tmp_path / "d.xlsx"
    source.write_bytes(workbook(raw=rows, notes=[["x"], [1]]))
    with pytest.raises(FileError, match=r"2 sheets with cells \('raw', 'notes'\).*--sheet"):
        read_table(str(source), Reading(skip=1))
    with pytest.raises(FileError, match="no sheet 'row'; did you mean 'raw'"):
        read_table(str(source), Reading(sheet="row"))
    found = read_table(str(source), Reading(sheet="raw", skip=1))
    assert found.data["y"].tolist() == ["1,5", "k.A.", "3", "4", "5"]
    assert "'k.A.' in row 5 of the sheet" in found.notes[0]
    data = read_table(str(source), Reading(sheet="raw", skip=1, missing=("k.A.",))).data
    assert data["y"].tolist()[2:] == [3.0, 4.0, 5.0]
    assert data["z"].tolist()[:4] == [1.5, 2.0, 2.5, 2.5]
    with pytest.raises(DataError, match="row 5 of the sheet"):
        read_table(str(source), Reading(sheet="raw", skip=1, numbers=("y",)))


def test_dates_of_a_workbook_count_in_days(run: Callable[..., Ran], tmp_path: Path) -> None:
    rows = [["g", "y", "d"]]
    for i in range(40):
        rows.append([f"g{i % 5}", float((i * 7) % 11), datetime.datetime(2024, 1, 1 + i % 20)])  # type: ignore[list-item]
    source, out = tmp_path / "d.xlsx", tmp_path / "o.csv"
    source.write_bytes(workbook(raw=rows))
    assert run("fit", "y ~ as.numeric(d) + (1 | g)", source, "--out", out, "--quiet")[0] in (0, 1)
    days = pd.DataFrame({"g": [r[0] for r in rows[1:]], "y": [r[1] for r in rows[1:]],
                         "d": [19723.0 + i % 20 for i in range(40)]})  # fmt: skip
    right = ranef.lmm("y ~ d + (1 | g)", days)
    np.testing.assert_allclose(pd.read_csv(out)["estimate"], right.coef, rtol=1e-6)


def test_workbooks_that_cannot_be_read_say_so(tmp_path: Path) -> None:
    source = tmp_path / "d.xlsx"
    content = workbook(data=[["y"], [1]])
    source.write_bytes(content[:200] + content[260:])
    with pytest.raises(FileError, match="damaged"):
        read_table(str(source), Reading())
    source.write_bytes(b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + b"0" * 100)
    with pytest.raises(FileError, match="Excel before 2007"):
        read_table(str(source), Reading())


@pytest.mark.parametrize("mark", ["\n", "\r\n"])
@pytest.mark.parametrize("begin", ["", "\ufeff"])
def test_decimal_commas_make_no_title_of_the_names(begin: str, mark: str) -> None:
    lines = [
        "id;y;f;n",
        "a;50,37;b;8.845,50",
        "a;54,18;a;2.476,25",
        "b;40,1;b;1.100,75",
        "b;1,5;a;9,5",
    ]
    columns, notes = read(begin + mark.join(lines))
    assert columns["y"] == [50.37, 54.18, 40.1, 1.5]
    assert columns["n"] == [8845.5, 2476.25, 1100.75, 9.5]
    assert not any("above the names" in note for note in notes)


@pytest.mark.parametrize("mark", ["'", "\u2019", "\u202f", "\u00a0"])
def test_blanks_and_apostrophes_that_group_are_told_with_the_option(mark: str) -> None:
    text = "n;y\n" + "\n".join(f"{k}{mark}{100 + k};{k}.5" for k in range(1, 7))
    columns, notes = read(text)
    assert columns["n"][0] == f"1{mark}101"
    option = " " if mark in "\u202f\u00a0" else "'"
    assert any("seems to group the digits" in note for note in notes)
    assert read(text, thousands=option)[0]["n"] == [1000 * k + 100 + k for k in range(1, 7)]


@pytest.mark.parametrize(
    "write",
    [
        lambda k: f"{k}-",
        lambda k: f"({k})",
        lambda k: f"1,{k:02d},{100 + k}",
        lambda k: "".join(chr(0x660 + int(d)) for d in str(k)),
        lambda k: "".join(chr(0xFF10 + int(d)) for d in str(k)),
    ],
)
def test_numbers_in_other_ways_of_writing_are_refused(write: Callable[[int], str]) -> None:
    rng = np.random.default_rng(1)
    table = pd.DataFrame({"g": np.arange(60) % 10, "x": [write(k % 7) for k in range(60)]})
    table["y"] = rng.normal(size=60)
    with pytest.raises(DataError, match="numbers as text"):
        ranef.lmm("y ~ x + (1 | g)", table)
    ranef.lmm("y ~ factor(x) + (1 | g)", table)


@pytest.mark.parametrize("verb", [["rank", "--by", "g"], ["meta", "--variance", "x"], ["fit"]])
def test_a_name_that_no_file_can_have_is_refused(verb: list[str], run: Callable[..., Ran]) -> None:
    code, _, said = run(verb[0], "y ~ 1", "a\0b.csv", *verb[1:])
    assert code == 3
    assert "bug" not in said
    assert "a\\x00b.csv" in said
