"""Text that looks like numbers, labels that look alike, rows that stand there twice.

Each table is made with one flaw, so that what is to be said of it is known; clean tables
are silent.
"""

from __future__ import annotations

import datetime
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

import ranef
from ranef.cli.main import main
from ranef.errors import DataError, FormulaWarning, UnknownColumnError
from ranef.tables import Table, look_of
from ranef.tables.concerns import concerns

SLEEP = ranef.data.load("sleepstudy")
FORMULA = "Reaction ~ Days + (1 | Subject)"


# --- text that looks like numbers ----------------------------------------------------

FORMS: dict[str, tuple[Callable[[float], str], str]] = {
    "point": (lambda v: f"{v:.1f}", "numbers as text"),
    "comma": (lambda v: f"{v:.1f}".replace(".", ","), "numbers as text"),
    "percent": (lambda v: f"{v * 10:.0f}%", "percentages as text"),
    "percent with a blank": (lambda v: f"{v * 10:.1f} %", "percentages as text"),
    "thousands": (lambda v: f"{1000 + v:,.0f}", "numbers as text"),
    "German thousands": (lambda v: f"{1000 + v:,.0f}".replace(",", "."), "numbers as text"),
    "French thousands": (lambda v: f"{1000 + v:,.0f}".replace(",", "\u202f"), "numbers as text"),
    "Swiss thousands": (lambda v: f"{1000 + v:,.0f}".replace(",", "'"), "numbers as text"),
    "euros": (lambda v: f"{v:.2f} \u20ac".replace(".", ","), "sums of money as text"),
    "dollars": (lambda v: f"${1000 + v:,.0f}", "sums of money as text"),
    "dash for the sign": (lambda v: f"\u2212{v:.1f}", "numbers as text"),
    "comma and exponent": (lambda v: f"{v:.1f}E+02".replace(".", ","), "numbers as text"),
    "per mille": (lambda v: f"{v:.0f}\u2030", "percentages as text"),
    "francs": (lambda v: f"CHF {v:.2f}", "sums of money as text"),
    "English date": (lambda v: f"{int(v) + 1} Jan 2024", "dates as text"),
    "ISO date": (lambda v: f"2024-01-{int(v) + 1:02d}", "dates as text"),
    "moment": (lambda v: f"2024-01-{int(v) + 1:02d}T12:00:00Z", "dates as text"),
    "German date": (lambda v: f"{int(v) + 1}.1.2024", "dates as text"),
    "American date": (lambda v: f"1/{int(v) + 1}/24", "dates as text"),
}


@pytest.mark.parametrize("library", ["pandas", "polars", "pyarrow", "dict"])
@pytest.mark.parametrize("form", FORMS)
def test_text_that_looks_like_numbers_is_refused(form: str, library: str) -> None:
    write, said = FORMS[form]
    plain = {name: SLEEP[name].to_numpy() for name in ("Reaction", "Subject")}
    data: Any = {**plain, "Days": [write(v) for v in SLEEP["Days"]]}
    makers: dict[str, Callable[[Any], Any]] = {
        "pandas": pd.DataFrame, "polars": pl.DataFrame, "pyarrow": pa.table, "dict": dict,
    }  # fmt: skip
    with pytest.raises(DataError, match=said) as error:
        ranef.lmm(FORMULA, makers[library](data))
    assert "factor(Days)" in str(error.value)


@pytest.mark.parametrize("formula", [
    "Reaction ~ (Days | Subject)", "Reaction ~ Days:Subject + (1 | Subject)",
    "Days ~ 1 + (1 | Subject)",
    "Reaction ~ log(Days) + (1 | Subject)", "Reaction ~ poly(Days, 2) + (1 | Subject)",
])  # fmt: skip
@pytest.mark.parametrize("form", ["comma", "percent", "ISO date"])
def test_it_is_refused_wherever_numbers_belong(form: str, formula: str) -> None:
    data = SLEEP.assign(Days=SLEEP["Days"].map(FORMS[form][0]))
    with pytest.raises(DataError, match="Days"):
        ranef.lmm(formula, data)


ELSEWHERE: dict[str, Callable[[Any], Any]] = {
    "lag": lambda data: ranef.lmm("Reaction ~ lag(Days, Subject, time = t) + (1 | Subject)", data),
    "decompose": lambda data: ranef.decompose(data, "Days", "Subject"),
    "within_between": lambda data: ranef.within_between(FORMULA, data),
    "gee": lambda data: ranef.gee("Reaction ~ Days", data, groups="Subject"),
    "meta": lambda data: ranef.meta("Reaction ~ Days", data, variance="t"),
    "zero": lambda data: ranef.glmm("k ~ 1 + (1 | Subject)", data, family="poisson", zero="~ Days"),
    "dispersion": lambda data: ranef.lmm("Reaction ~ 1 + (1 | Subject)", data, dispersion="~ Days"),
    "residual": lambda data: ranef.lmm("Reaction ~ 1", data, residual="ar1(Days | Subject)"),
    "two answers": lambda data: ranef.two_answers(
        "k ~ Days", data.assign(k=data["k"] % 2), groups="Subject", family="binomial"
    ),
    "step": lambda data: ranef.step(FORMULA, data, focus="population"),
}


@pytest.mark.parametrize("form", ["comma", "percent", "ISO date"])
@pytest.mark.parametrize("question", ELSEWHERE)
def test_it_is_refused_by_every_function_that_reads_predictors(question: str, form: str) -> None:
    data = SLEEP.assign(t=SLEEP["Days"] + 1.0, k=np.arange(180) % 3)
    data["Days"] = data["Days"].map(FORMS[form][0])
    with pytest.raises(DataError, match=FORMS[form][1]):
        ELSEWHERE[question](data)


@pytest.mark.parametrize("form", FORMS)
def test_categories_said_to_be_such_are_taken(form: str) -> None:
    data = SLEEP.assign(Days=SLEEP["Days"].map(FORMS[form][0]))
    fit = ranef.lmm("Reaction ~ factor(Days) + (1 | Subject)", data)
    assert len(fit.coef) == 10
    assert ranef.lmm("Reaction ~ 1 + (1 | Days)", data).n_groups == {"Days": 10}
    declared = SLEEP.assign(Days=pd.Categorical(SLEEP["Days"].map(FORMS[form][0])))
    assert len(ranef.lmm(FORMULA, declared).coef) == 10


@pytest.mark.parametrize("texts", [
    ["1", "2", "3"], ["a", "b", "c"], ["1.2.3", "1.2.4", "1.3.0"], ["0-5", "5-10", "10-15"],
    ["08:00", "12:00", "20:00"], ["1,2,3", "1,2", "4"], ["day 1", "day 2", "day 3"],
    ["+", "-", "0"], ["10mg", "20mg", "40mg"], ["1/2", "1/4", "3/4"],
    ["\u2212", "+", "\u2212\u2212"],
    ["EUR", "USD", "CHF"], ["Jan", "Feb", "Mar"], ["1.2.10", "1.2.11", "1.2.9"],
])  # fmt: skip
def test_words_and_codes_stay_categories(texts: list[str]) -> None:
    data = SLEEP.assign(f=np.array(texts)[np.arange(180) % 3])
    assert len(ranef.lmm("Reaction ~ f + (1 | Subject)", data).coef) == 3


def test_looks() -> None:
    looks = {
        "1.022": "number", "1e5": "number", "1 022,5": "decimal comma", "5%": "percentage",
        "1,5E+02": "decimal comma", "5\u2030": "percentage",
        "1\u2009022": "number in groups of digits",
        "\u22122.5": "number with a dash for its sign",
        "\u20133": "number with a dash for its sign",
        "3 Jan 2024": "date", "January 3, 2024": "date", "03-Feb-24": "date", "31.12.24": "date",
        "2.5 EUR": "sum of money", "CHF 1'200.50": "sum of money", "\u2013": None, "May": None,
        "1.2.10": None, "Jan 3": None, "EUR": None, "\u2212": None,
    }  # fmt: skip
    assert {text: look_of(text) for text in looks} == looks
    assert look_of("x" * 10_000) is None


# --- dates ---------------------------------------------------------------------------


def dates() -> dict[str, Any]:
    days = [datetime.date(2024, 1, 1 + int(v)) for v in SLEEP["Days"]]
    return {
        "objects": days,
        "numpy": np.array(days, dtype="datetime64[D]"),
        "polars": pl.Series(days),
        "arrow date32": pa.array(days),
        "arrow date64": pa.array(days, pa.date64()),
        "pandas of Arrow": pd.array(days, dtype=pd.ArrowDtype(pa.date32())),
    }


@pytest.mark.parametrize("kind", dates())
def test_as_numeric_of_a_date_is_days(kind: str, tmp_path: Path) -> None:
    # R: as.numeric(as.Date("2024-01-01")) is 19723
    data = {"y": SLEEP["Reaction"].to_numpy(), "g": SLEEP["Subject"].to_numpy()}
    fit = ranef.lmm("y ~ as.numeric(d) + (1 | g)", {**data, "d": dates()[kind]})
    days = SLEEP["Days"].to_numpy() + 19723.0
    right = ranef.lmm("y ~ d + (1 | g)", {**data, "d": days})
    np.testing.assert_allclose(np.asarray(fit.coef), np.asarray(right.coef), rtol=1e-10)
    fit.save(tmp_path / "a.ranef")
    new = {"d": np.array(["2024-01-05T00:00"], dtype="datetime64[ns]"), "g": ["308"]}
    expected = right.predict({"d": [19727.0], "g": ["308"]})
    for again in (fit, ranef.load(tmp_path / "a.ranef")):  # a moment counts in the fit's unit
        np.testing.assert_allclose(np.asarray(again.predict(new)), np.asarray(expected), rtol=1e-9)
    with pytest.raises(DataError, match=r"as.numeric\(d\) for days since 1970"):
        ranef.lmm("y ~ d + (1 | g)", {**data, "d": dates()[kind]})


def test_as_numeric_of_a_moment_is_seconds() -> None:
    data = SLEEP.assign(t=pd.Timestamp("2024-01-01") + pd.to_timedelta(SLEEP["Days"], "D"))
    fit = ranef.lmm("Reaction ~ as.numeric(t) + (1 | Subject)", data)
    days = ranef.lmm(FORMULA, SLEEP).coef.iloc[1]
    assert abs(86400 * fit.coef.iloc[1] - days) < 1e-6 * days


# --- powers --------------------------------------------------------------------------


@pytest.mark.parametrize("formula", [
    "Reaction ~ Days + Days**2 + (1 | Subject)", "Reaction ~ Days^2 + (1 | Subject)",
    "Reaction ~ Days + (Days^2 | Subject)", "Reaction ~ I(Days)**3 + (1 | Subject)",
])  # fmt: skip
def test_a_power_of_one_variable_is_that_variable_and_is_said(formula: str) -> None:
    with pytest.warns(FormulaWarning, match=r"is (I\()?Days\)? itself .*write I\("):
        fit = ranef.lmm(formula, SLEEP)
    assert len(fit.coef) == 2
    fit.predict(SLEEP)  # said once, when fitted


def test_powers_of_sums_are_silent() -> None:
    data = SLEEP.assign(a=np.arange(180) % 3, b=np.arange(180) % 7)
    fit = ranef.lmm("Reaction ~ (a + b)^2 + I(Days^2) + (1 | Subject)", data)
    assert list(fit.coef.index) == ["(Intercept)", "a", "b", "I(Days^2)", "a:b"]


# --- labels, rows, codes -------------------------------------------------------------


def clean(n: int = 120) -> pd.DataFrame:
    rng = np.random.default_rng(3)
    g = np.arange(n) % 12
    return pd.DataFrame(
        {
            "y": np.round(50 + rng.normal(size=12)[g] * 5 + rng.normal(size=n), 3),
            "x": rng.integers(0, 60, n),
            "ward": [f"Ward {k}" for k in g],
        }
    )


def said(data: Any, formula: str = "y ~ x + (1 | ward)") -> tuple[str, ...]:
    return tuple(ranef.lmm(formula, data).description.concerns())


def test_clean_tables_are_silent() -> None:
    assert said(clean()) == ()
    for name in ranef.data.names():
        table = Table.of(ranef.data.load(name))
        for response in table.columns:
            if table.kind(response) == "numeric":
                assert concerns(table, (response,), None) == (), name


LIKE = {
    "blank after": lambda label: label + " ",
    "blank before": lambda label: " " + label,
    "two blanks": lambda label: label.replace(" ", "  "),
    "no-break space": lambda label: label.replace(" ", "\u00a0"),
    "zero width": lambda label: label + "\u200b",
    "case": str.upper,
    "fullwidth": lambda label: label.replace("W", "\uff37"),
    "decomposed": lambda label: label,
}


@pytest.mark.parametrize("column", ["group", "predictor"])
@pytest.mark.parametrize("way", LIKE)
def test_labels_that_look_alike_are_noted(way: str, column: str) -> None:
    data = clean()
    if way == "decomposed":
        data["ward"] = data["ward"].str.replace("a", "\u00e4")
        changed = data["ward"].iloc[:2].str.replace("\u00e4", "a\u0308")
    else:
        changed = data["ward"].iloc[:2].map(LIKE[way])
    data.loc[data.index[:2], "ward"] = changed
    data["ward"] = data["ward"].astype(str)
    data["z"] = np.arange(120) % 5
    formula = "y ~ x + (1 | ward)" if column == "group" else "y ~ ward + (1 | z)"
    (text,) = said(data, formula)
    assert text.startswith("2 levels differ from another of ward only by blanks, case or Unicode")
    fit = ranef.lmm(formula, data)
    assert " ".join(text.split()) in " ".join(str(fit.summary()).split())
    (finding,) = (f for f in ranef.check(fit, influence=False).findings if f.what == "table")
    assert (finding.verdict, finding.words) == ("note", text)


def test_notes_reach_the_report_the_file_and_the_command(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = clean()
    data.loc[0, "ward"] += " "
    data.to_csv(tmp_path / "d.csv", index=False)
    out, page, saved = (str(tmp_path / name) for name in ("o.json", "o.html", "o.ranef"))
    arguments = ["fit", "y ~ x + (1 | ward)", str(tmp_path / "d.csv")]
    assert main([*arguments, "--out", out, "--report", page, "--save", saved]) == 0
    text = "1 level differs from another of ward only by blanks"
    assert text in " ".join(capsys.readouterr().out.split())
    assert text in json.loads(Path(out).read_text())["accounting"]["notes"][0]
    assert text in Path(page).read_text()
    assert text in ranef.load(saved).description.concerns()[0]


@pytest.mark.parametrize("count", [1, 5])
def test_rows_that_stand_twice_are_noted(count: int) -> None:
    data = pd.concat([clean(), clean().iloc[10 : 10 + count]], ignore_index=True)
    (text,) = said(data)
    assert text.startswith(f"{count} row")
    assert "first row 120" in text


def test_replicates_with_rounded_responses_are_no_copies() -> None:
    rng = np.random.default_rng(1)
    g = np.repeat(np.arange(30), 6)
    data = pd.DataFrame({"y": np.round(rng.normal(size=30)[g] + rng.normal(size=180), 1), "g": g})
    assert said(data, "y ~ 1 + (1 | g)") == ()
    data["y"] = rng.poisson(2, 180)
    fit = ranef.glmm("y ~ 1 + (1 | g)", data, family="poisson")
    assert fit.description.concerns() == ()


@pytest.mark.parametrize(("column", "code", "rows"), [
    ("x", -99, 1), ("x", -9, 4), ("y", -999, 2), ("x", 999, 3), ("x", 9999, 1),
])  # fmt: skip
def test_codes_for_missing_are_noted(column: str, code: int, rows: int) -> None:
    data = clean()
    data[column] = data[column].astype(float)
    data.loc[data.index[:rows], column] = code
    (text,) = said(data)
    assert text.startswith(f"{code} stands in {rows} row")
    assert f" of {column}, far from its other values" in text


@pytest.mark.parametrize(
    ("others", "marks"),
    [
        (range(1, 8), [-99]), (range(1, 8), [-9]), (range(1, 8), [-9, -9]), (range(1, 8), [-8, -8]),
        (range(60, 71), [99, 99]), (range(1, 8), [99]), (range(1, 8), [99, 99]), ([1, 2], [99, 99]),
        (range(20, 80), [999]), (range(1000, 1010), [9999, 9999]), (range(-5, 5), [99, 99]),
        (range(1, 8), [7777, 8888, 8888]),
    ],
)  # fmt: skip
def test_tables_and_files_are_judged_by_one_rule(others: Any, marks: list[int]) -> None:
    from ranef.cli.suspicion import missing_marks

    table = pd.DataFrame({"q": [*map(float, others), *map(float, marks)]})
    said = concerns(Table.of(table), (), None)
    assert [m for m in set(marks) if any(f"{m} stands in" in words for words in said)] == [
        m for m in set(marks) if any(f"--na={m}" in words for words in missing_marks(table, ["q"]))
    ]


def test_values_that_only_look_like_codes_are_silent() -> None:
    data = clean()
    data["x"] = np.linspace(-99, 99, 120)
    assert said(data) == ()
    data["x"] = np.linspace(20, 99, 120).round()
    assert said(data) == ()


def test_ids_that_a_float_cannot_hold_are_noted() -> None:
    data = clean()
    data["ward"] = 2.0**53 + 2 * (np.arange(120) % 12)
    (text,) = said(data, "y ~ x + (1 | ward)")
    assert text.startswith("ward holds whole numbers beyond 2^53 as floating point")


def test_columns_whose_names_look_alike() -> None:
    data = clean().rename(columns={"x": "na\u00efve"})
    data["nai\u0308ve"] = 0.0
    (text,) = said(data, "y ~ na\u00efve + (1 | ward)")
    assert text == (
        "The table has another column whose name looks like 'na\u00efve': 'nai\\u0308ve'."
    )
    with pytest.raises(UnknownColumnError, match=r"did you mean 'nai\\u0308ve', which looks the"):
        ranef.lmm("y ~ na\u00efve + (1 | ward)", data.drop(columns="na\u00efve"))


def trial_like() -> pd.DataFrame:
    rng = np.random.default_rng(3)
    data = clean()
    data["visit"] = np.arange(120) // 12 * 1.0
    data["arm"] = np.where(np.arange(120) % 12 < 6, "Active", "Placebo")
    data["x"] = data["x"].astype(float)
    return data.assign(v=rng.uniform(0.1, 0.5, 120))


TOLD: dict[str, Callable[[Any], Any]] = {
    "gee": lambda data: ranef.gee("y ~ x + arm", data, groups="ward").summary(),
    "meta": lambda data: ranef.meta("y ~ x + arm", data, variance="v", study="ward").summary(),
    "residual": lambda data: ranef.lmm("y ~ x + arm", data, residual="homcs(visit | ward)"),
    "two stories": lambda data: ranef.two_stories(data, "y", "x", by="ward"),
    "missing patterns": lambda data: ranef.missing_patterns(
        data, "y", subject="ward", visit="visit"
    ),
    "diary": lambda data: ranef.diary(data, "y", ["x"], person="ward", time="visit"),
}


@pytest.mark.filterwarnings("ignore::ranef.errors.RanefWarning")
@pytest.mark.parametrize("question", TOLD)
def test_every_answer_that_reads_a_table_tells_of_it(question: str) -> None:
    data = trial_like()
    assert "differ from another" not in str(TOLD[question](data))
    data.loc[:1, "ward"] += " "
    if question != "missing patterns":  # which reads no predictor
        data.loc[7, "x"] = -99.0
    shown = " ".join(str(TOLD[question](data)).split())
    assert "2 levels differ from another of ward only by blanks" in shown
    assert question == "missing patterns" or "-99 stands in 1 row of x" in shown
