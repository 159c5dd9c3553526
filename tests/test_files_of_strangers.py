"""Files from other programs and other countries: read rightly, or refused with the way out.

Right values are known by construction: each file is written from them.
"""

from __future__ import annotations

import bz2
import decimal
import gzip
import io
import lzma
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

import ranef
from ranef.cli import main
from ranef.cli.delimited import Dialect, read_delimited
from ranef.cli.reading import Reading, read_table
from ranef.errors import DataError, FileError

Run = Callable[..., tuple[int, str, str]]

TABLE = {"y": [1, 2, 3], "x": [2.5, 3.5, 4.0], "g": ["a", "b", "c"]}
CSV = "y,x,g\n1,2.5,a\n2,3.5,b\n3,4,c\n"


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    def call(*arguments: object) -> tuple[int, str, str]:
        capsys.readouterr()
        code = main([str(argument) for argument in arguments])
        out, err = capsys.readouterr()
        return code, out, " ".join(err.split())

    return call


def read(content: str | bytes, **dialect: Any) -> tuple[dict[str, list[Any]], list[str]]:
    raw = content.encode() if isinstance(content, str) else content
    data, notes, _ = read_delimited(raw, "'d.csv'", Dialect(**dialect))
    columns = {name: data[name].astype(object).tolist() for name in data.columns}
    return columns, [note.text for note in notes]


# --- lines ---------------------------------------------------------------------------


@pytest.mark.parametrize("content", [
    CSV.replace("\n", "\r"),
    "sep=;\r" + CSV.replace("\n", "\r").replace(",", ";"),
    "# exported\r" + CSV.replace("\n", "\r"),
    CSV.replace("\n", "\r\n") + "\x1a",
    "\ufeff\ufeff" + CSV,
    CSV.replace(",", ", "),
    " y , x , g \n" + CSV[6:],
    'y, "x", g\n1, "2.5", a\n2, 3.5, "b"\n3, 4, c\n',
])  # fmt: skip
def test_ends_of_lines_and_blanks_around_names(content: str) -> None:
    assert read(content)[0] == TABLE


def test_a_separator_within_quotation_marks_after_a_blank() -> None:
    columns, _ = read('y, place\n1, "Bern, CH"\n2, "Rom, IT"\n')
    assert columns == {"y": [1, 2], "place": ["Bern, CH", "Rom, IT"]}


@pytest.mark.parametrize("name", ["weight, kg", "income, gross, EUR"])
def test_commas_in_names_and_in_numbers(name: str) -> None:
    columns, _ = read(f"{name};g\n1,5;a\n2,5;b\n3,5;c\n")
    assert columns == {name: [1.5, 2.5, 3.5], "g": ["a", "b", "c"]}


def test_semicolons_in_a_table_of_commas() -> None:
    columns, _ = read("y,x,a;b\n1,2,p;q\n3,4,r;s\n")
    assert columns == {"y": [1, 3], "x": [2, 4], "a;b": ["p;q", "r;s"]}


def test_names_may_run_over_lines() -> None:
    columns, _ = read('"mass\n(kg)";g\n1,5;a\n2,5;b\n')
    assert columns == {"mass\n(kg)": [1.5, 2.5], "g": ["a", "b"]}


def test_a_file_with_a_quotation_mark_alone_is_empty() -> None:
    with pytest.raises(FileError, match="is empty"):
        read('""\n')


def test_comments_among_the_rows_are_counted() -> None:
    columns, notes = read('# c\nid,y\n1,2\n#2,3\n#DIV/0!,4\n5,"a\n#b"\n')
    assert columns["id"] == ["1", "#DIV/0!", "5"]
    assert columns["y"] == ["2", "4", "a\n#b"]
    assert notes[0] == (
        "1 line of comments (#) left out, and 1 below the names that begins with # (line 4)"
    )
    assert read("# c\nid,y\n#1,2\n#2,3\n3,4\n")[1] == [
        "1 line of comments (#) left out, and 2 below the names that begin with # (line 3)"
    ]


def test_rows_that_end_early_are_said() -> None:
    columns, notes = read("y,x,g\n1,2,a\n3\n4,5\n6,7,b\n")
    assert columns["y"] == [1, 3, 4, 6]
    assert notes == [
        "2 rows have fewer fields than there are columns (line 3 has 1 of 3); what lacks at the "
        "end counts as missing"
    ]
    assert read("y,x,g\n1,2,a\n3,4,\n")[1] == []


def test_values_behind_the_last_name_are_not_lost() -> None:
    with pytest.raises(FileError, match=r"3 column names, and behind them '77' in line 3"):
        read("y;x;g\n1;2;a;\n3;4;b;77\n5;6;c;\n")
    assert read("y;x;g\n1;2;a;\n3;4;b;\n")[0]["g"] == ["a", "b"]


def test_a_row_that_is_too_long_is_named_by_its_line() -> None:
    with pytest.raises(FileError, match=r"line 5 has 4 fields, and the lines above it 3"):
        read("# a comment\n\ny,x,g\n1,2,a\n3,4,b,9\n")


def test_lines_of_blanks_count_as_lines() -> None:
    _, notes = read("y,x\n  \n\n" + "1,2\n" * 8 + "k.A.,2\n")
    assert "'k.A.' in line 12" in notes[0]


def test_fields_may_be_of_any_length() -> None:
    columns, notes = read('y,t\n1,"' + "z" * 200_000 + '"\n' + "2,b\n" * 8 + "k.A.,c\n")
    assert len(columns["t"][0]) == 200_000
    assert "'k.A.' in line 11" in notes[0]


def test_fields_that_nothing_splits_are_said() -> None:
    assert read("y:x\n1:2\n3:4\n")[1] == ["the table has one column, 'y:x'; --sep=: splits it"]
    assert read("y:x\n1:2\n3:4\n", separator=":")[0] == {"y": [1, 3], "x": [2, 4]}


# --- numbers -------------------------------------------------------------------------


def test_lakhs_and_crores() -> None:
    columns, notes = read('y,x\n"1,00,000",1\n"12,34,567.5",2\n"5,000",3\n')
    assert columns["y"] == [100000.0, 1234567.5, 5000.0]
    assert "the comma groups digits, '1,00,000' is read as 100000" in notes[0]


def test_blanks_and_apostrophes_beside_decimal_commas_are_told() -> None:
    text = "y;g\n1 234,50;a\n2 345,10;b\n500;c\n"
    columns, notes = read(text)
    assert columns["y"][0] == "1 234,50"
    assert "--thousands=' ' --decimal=, reads numbers" in notes[0]
    again, _ = read(text, thousands=" ", decimal=",")
    assert again["y"] == [1234.5, 2345.1, 500.0]


def test_a_column_called_numbers_is_not_guessed(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "d.csv"
    days = [800 + 37 * i % 600 for i in range(60)]
    text = [f"{d // 1000}.{d % 1000:03d}" if d >= 1000 else str(d) for d in days]
    path.write_text("w;days\n" + "".join(f"w{i % 6};{t}\n" for i, t in enumerate(text)), "utf-8")
    code, _, said = run("fit", "days ~ 1 + (1 | w)", path, "--number", "days")
    assert code == 2
    assert "whether '1.022' is a fraction or has groups of digits" in said
    found = read_table(str(path), Reading(numbers=("days",), thousands="."))
    assert found.data["days"].tolist() == days


@pytest.mark.parametrize(("cells", "values"), [
    (["42,5%", "60%", "7,25 %"], [42.5, 60.0, 7.25]),
    (["1.234,5%", "60%", "7,25 %"], [1234.5, 60.0, 7.25]),
    (["1,234.5%", "60%", "7.25 %"], [1234.5, 60.0, 7.25]),
])  # fmt: skip
def test_percentages_have_their_own_marks(
    tmp_path: Path, cells: list[str], values: list[float]
) -> None:
    path = tmp_path / "d.csv"
    path.write_text("x;g\n" + "".join(f"{cell};a\n" for cell in cells), "utf-8")
    assert read_table(str(path), Reading(numbers=("x",))).data["x"].tolist() == values


def test_percentages_that_may_be_thousands_are_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "d.csv"
    path.write_text('x,g\n"1,500%",a\n5%,b\n', "utf-8")
    with pytest.raises(DataError, match=r"--number x: .*whether '1,500' is a fraction"):
        read_table(str(path), Reading(numbers=("x",)))


@pytest.mark.parametrize("write", [
    lambda v: f"\u20b9{v}.50", lambda v: f"Rs. {v}.50", lambda v: f"{v},50 kr",
    lambda v: f"{v},5 z\u0142", lambda v: f"A${v}", lambda v: f"{v}. M\u00e4rz 2024",
    lambda v: f"{v} janv. 2024", lambda v: f"2024\u5e741\u6708{v}\u65e5", lambda v: f"{v}-01-2024",
    lambda v: f"Mon, {v} Jan 2024", lambda v: f"'{v}.5'", lambda v: f'="{v}.5"',
    lambda v: f"{v}\u00b75", lambda v: f"{v}.5\u00d710^3", lambda v: f"{v}.5D+02",
    lambda v: f"<{v}.5" if v < 5 else f"{v}.5",
])  # fmt: skip
def test_numbers_money_and_dates_of_other_countries(write: Callable[[int], str]) -> None:
    sleep = ranef.data.load("sleepstudy")
    data = sleep.assign(Days=[write(int(v) + 1) for v in sleep["Days"]])
    with pytest.raises(DataError, match=r"as text \(first .*factor\(Days\) for categories"):
        ranef.lmm("Reaction ~ Days + (1 | Subject)", data)
    assert len(ranef.lmm("Reaction ~ factor(Days) + (1 | Subject)", data).coef) == 10


@pytest.mark.parametrize("levels", [
    ["<65", ">=65"], ["<18", "18-64", ">=65"], ["'80", "'90"], ["3D1", "3D2"], ["5 kg", "10 kg"],
])  # fmt: skip
def test_bands_and_codes_stay_categories(levels: list[str]) -> None:
    sleep = ranef.data.load("sleepstudy")
    data = sleep.assign(f=np.array(levels)[np.arange(180) % len(levels)])
    assert len(ranef.lmm("Reaction ~ f + (1 | Subject)", data).coef) == len(levels)


# --- files that are no tables --------------------------------------------------------


def packed(**members: bytes) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, content in members.items():
            archive.writestr(name.replace("__", ".").replace("_of_", "/"), content)
    return out.getvalue()


def tarred(content: bytes) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as archive:
        member = tarfile.TarInfo("a.csv")
        member.size = len(content)
        archive.addfile(member, io.BytesIO(content))
    return out.getvalue()


NOUGHT = bytes(600)
FOREIGN = {
    "SPSS": (b"$FL2@(#) SPSS DATA FILE" + NOUGHT, "an SPSS file; save it as CSV"),
    "Stata": (b"<stata_dta><header>" + NOUGHT, "a Stata file; in Stata: export delimited"),
    "Stata 12": (b"\x72\x02\x01\x00" + NOUGHT, "a Stata file"),
    "SAS": (bytes.fromhex("000000000000000000000000c2ea8160") + NOUGHT, "a SAS file"),
    "SAS transport": (b"HEADER RECORD*******LIBRARY" + NOUGHT, "a SAS transport file"),
    "R": (gzip.compress(b"X\n\0\0\0\x03" + NOUGHT), r"a file of R \(.rds\); in R: write.csv"),
    "R data": (bz2.compress(b"RDX3\nX\n" + NOUGHT), r"a file of R \(.RData\)"),
    "R as text": (b"A\n3\n262657\n197888\n5\nUTF-8\n", r"a file of R \(.rds\)"),
    "JSON": (b'[\n {"y": 1, "x": 2}]', "JSON, not a table"),
    "JSON lines": (b'{"y": 1}\n{"y": 2}\n', "JSON, not a table"),
    "HTML": (b"<html><table><tr><td>y", r"a page \(HTML\), whatever its name says"),
    "XML": (b'<?xml version="1.0"?>\n<Workbook>', "XML, not a table"),
    "PDF": (b"%PDF-1.4\n%\xe2\xe3", "a PDF; save the table behind it"),
    "pickle": (b"\x80\x04\x95" + NOUGHT, "a pickle of Python"),
    "tar": (tarred(CSV.encode()), r"an archive \(tar\); unpack it first"),
    "LZMA": (lzma.compress(CSV.encode(), format=lzma.FORMAT_ALONE), "an LZMA file; unpack it"),
    "three times": (
        gzip.compress(gzip.compress(gzip.compress(CSV.encode()))), "compressed more than twice",
    ),
    "empty zip": (packed(), "an empty zip archive"),
    "Word": (packed(word_of_document__xml=b"<x/>"), r"a document \(Word\)"),
    "slides": (packed(ppt_of_presentation__xml=b"<x/>"), "a presentation"),
    "xlsb": (packed(xl_of_workbook__bin=b"<x/>"), r"a binary workbook \(.xlsb\)"),
    "Numbers": (packed(Index_of_a__iwa=b"<x/>"), "a file of Numbers"),
    "saved fit": (packed(fit__json=b"{}"), "a fit that ranef has saved.* ask it"),
    "locked": (
        b"\xd0\xcf\x11\xe0" + NOUGHT + "EncryptedPackage".encode("utf-16-le"),
        "locked with a password",
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", FOREIGN)
def test_files_that_are_no_tables_are_named(kind: str, tmp_path: Path) -> None:
    content, said = FOREIGN[kind]
    path = tmp_path / "d.dat"
    path.write_bytes(content)
    with pytest.raises(FileError, match=f"is {said}"):
        read_table(str(path), Reading())


@pytest.mark.parametrize("content", [
    gzip.compress(gzip.compress(CSV.encode())), packed(a__zip=packed(a__csv=CSV.encode())),
    packed(a__gz=gzip.compress(CSV.encode())),
])  # fmt: skip
def test_files_compressed_twice_are_read(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "d.dat"
    path.write_bytes(content)
    data = read_table(str(path), Reading()).data
    assert {name: data[name].tolist() for name in data.columns} == TABLE


@pytest.mark.parametrize("text", ["A\n2\n3\n", "ORC,y\n1,2\n", "[1],y\n1,2\n", "RDX,y\n1,2\n"])
def test_tables_that_begin_like_other_files_are_tables(text: str, tmp_path: Path) -> None:
    path = tmp_path / "d.csv"
    path.write_text(text, "utf-8")
    assert len(read_table(str(path), Reading()).data) == text.count("\n") - 1


# --- workbooks -----------------------------------------------------------------------


def workbook(path: Path, rows: list[list[Any]]) -> str:
    import openpyxl

    book = openpyxl.Workbook()
    for row in rows:
        book.active.append(row)
    book.save(path)
    return str(path)


def test_formulas_without_values_are_told(tmp_path: Path) -> None:
    path = workbook(tmp_path / "a.xlsx", [["g", "y", "z"], ["a", 1, "=B2*2"], ["b", 2, "=B3*2"]])
    assert read_table(path, Reading()).notes == [
        "column 'z' holds formulas of which the file has no values; open it in Excel or "
        "LibreOffice and save it, which computes them"
    ]


def test_ids_that_excel_cuts_are_told(tmp_path: Path) -> None:
    rows = [["g", "y"], [2**53 + 1, 1], [2**53 + 3, 2]]
    notes = read_table(workbook(tmp_path / "a.xlsx", rows), Reading()).notes
    assert len(notes) == 1
    assert "more than 15 digits, of which Excel keeps 15" in notes[0]


def test_merged_cells_are_told(run: Run, tmp_path: Path) -> None:
    draw = np.random.default_rng(3)
    rows = [[f"w{i // 6}" if i % 6 == 0 else None, draw.normal()] for i in range(60)]
    path = workbook(tmp_path / "a.xlsx", [["ward", "y"], *rows])
    _, _, said = run("fit", "y ~ 1 + (1 | ward)", path)
    assert "column 'ward' is filled in 10 of 60 rows" in said
    assert "repeat the label in each row" in said


# --- columns of Python ---------------------------------------------------------------


def test_decimals_that_are_no_numbers_are_missing() -> None:
    sleep = ranef.data.load("sleepstudy")
    exact = [decimal.Decimal(int(v)) for v in sleep["Days"]]
    for odd in ("NaN", "sNaN"):
        data = sleep.assign(Days=[decimal.Decimal(odd), *exact[1:]])
        fit = ranef.lmm("Reaction ~ Days + (1 | Subject)", data)
        right = ranef.lmm("Reaction ~ Days + (1 | Subject)", sleep.iloc[1:])
        assert fit.n_obs == 179
        assert abs(fit.loglik - right.loglik) < 1e-9


def test_records_of_arrow_are_no_levels() -> None:
    sleep = ranef.data.load("sleepstudy")
    table = pa.table({
        "y": sleep["Reaction"].to_numpy(), "g": pa.array([{"a": int(v)} for v in sleep["Days"]]),
    })  # fmt: skip
    for data in (table, pd.DataFrame(table.to_pandas(types_mapper=pd.ArrowDtype))):
        with pytest.raises(DataError, match=r"'g' holds lists or records, which are no levels"):
            ranef.lmm("y ~ 1 + (1 | g)", data)
