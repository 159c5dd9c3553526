"""The command: exit codes, messages, files of every kind, and nothing half written."""

from __future__ import annotations

import bz2
import csv
import gzip
import io
import json
import lzma
import math
import os
import re
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from pyarrow import feather

import ranef
from ranef.cli.delimited import Dialect, read_delimited
from ranef.cli.reading import Reading, read_table
from ranef.cli.writing import strict
from ranef.errors import FileError

FOCUS_NOTE = (
    "ranef: note: --focus population (new groups) or --focus individual (the groups at hand) "
    "compares the models by what they are for\n"
)
FORMULA = "Reaction ~ Days + (Days | Subject)"
LOGLIK = -871.814136  # lme4, REML (tests/reference)

Ran = tuple[int, str, str]


@pytest.fixture
def sleep(tmp_path: Path) -> Path:
    path = tmp_path / "sleepstudy.csv"
    ranef.data.load("sleepstudy").to_csv(path, index=False)
    return path


def in_a_shell(*arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "ranef", *arguments]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    return subprocess.run(
        command, capture_output=True, text=True, timeout=120, env=environment, **options
    )


# --- help ----------------------------------------------------------------------------


def test_help_teaches(run: Callable[..., Ran]) -> None:
    code, out, _ = run("--help")
    assert code == 0
    assert 'ranef fit "Reaction ~ Days + (Days | Subject)" sleepstudy' in out
    code, out, _ = run("fit", "--help")
    assert code == 0
    for words in ("(x || g)", "(1 | school/class)", "exit codes:", "examples:", "--weights COL"):
        assert words in out


def test_the_examples_of_the_help_are_commands(run: Callable[..., Ran]) -> None:
    import shlex

    from ranef.cli.parser import make_parser

    _, out, _ = run("fit", "--help")
    lines = [line.strip().rpartition("| ranef ")[2] for line in out.splitlines()]
    examples = [line for line in lines if line.startswith(("ranef fit", 'fit "'))]
    assert len(examples) == 7
    for example in examples:
        words = [word for word in shlex.split(example) if word != "ranef"]
        assert make_parser().parse_args(words).command == "fit"


def test_the_examples_of_rank_and_compare_run(
    run: Callable[..., Ran], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import shlex

    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(3)
    data = pd.DataFrame({"g": np.repeat(list("abcdefgh"), 12), "x": rng.normal(size=96)})
    data["z"] = rng.normal(size=96)
    data["y"] = data["x"] + np.repeat(rng.normal(size=8), 12) + rng.normal(size=96)
    data.to_csv("data.csv", index=False)
    for command, count in (("rank", 3), ("compare", 5)):
        _, out, _ = run(command, "--help")
        joined = re.sub(r"\\\n +", "", out)
        examples = [line.strip() for line in joined.splitlines() if f"  ranef {command} " in line]
        assert len(examples) == count
        for example in examples:
            code, _, err = run(*shlex.split(example.replace(" 1000", " 20"))[1:])
            said = FOCUS_NOTE if command == "compare" and "--focus" not in example else ""
            assert (code, err) == (0, said), example
    assert {"ranks.png", "herds.csv", "models.json"} <= set(os.listdir())


def test_help_is_quick_because_it_imports_little() -> None:
    code = (
        "import sys; from ranef.cli import main; main(['--help']); "
        "sys.exit(any(m in sys.modules for m in ('pandas', 'numpy', 'scipy', 'formulaic')))"
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True)
    assert done.returncode == 0


def test_version(run: Callable[..., Ran]) -> None:
    assert run("--version")[:2] == (0, f"ranef {ranef.__version__}\n")


def test_no_command_shows_the_help(run: Callable[..., Ran]) -> None:
    code, out, err = run()
    assert (code, out) == (2, "")
    assert "usage: ranef" in err


# --- a fit ---------------------------------------------------------------------------


def test_a_fit_prints_its_summary(run: Callable[..., Ran], sleep: Path) -> None:
    code, out, err = run("fit", FORMULA, sleep)
    assert (code, err) == (0, "")
    assert out == f"{ranef.lmm(FORMULA, pd.read_csv(sleep)).summary()}\n"


def test_the_module_runs_as_the_command(sleep: Path) -> None:
    done = in_a_shell("fit", FORMULA, str(sleep))
    assert (done.returncode, done.stderr) == (0, "")
    assert "-871.814" in done.stdout


def test_a_bundled_data_set_needs_no_file(run: Callable[..., Ran]) -> None:
    code, out, _ = run("fit", FORMULA, "sleepstudy")
    assert code == 0
    assert "-871.814" in out


def test_a_file_comes_before_a_bundled_data_set(
    run: Callable[..., Ran], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("sleepstudy").write_text("y,g\n1,a\n2,a\n4,b\n5,b\n9,c\n7,c\n")
    code, out, _ = run("fit", "y ~ 1 + (1 | g)", "sleepstudy")
    assert code == 0
    assert "6 rows" in out


def test_standard_input(sleep: Path) -> None:
    done = in_a_shell("fit", FORMULA, "-", "--quiet", input=sleep.read_text())
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_options_reach_the_model(run: Callable[..., Ran], tmp_path: Path) -> None:
    data = ranef.data.load("sleepstudy")
    data["w"] = np.linspace(1, 2, 180)
    data["known"] = np.linspace(0, 9, 180)
    source, out = tmp_path / "d.csv", tmp_path / "fit.json"
    data.to_csv(source, index=False)
    options = ["--ml", "--weights", "w", "--offset", "known", "--path", "crossed", "--n-jobs", "1"]
    code, _, err = run(
        "fit", FORMULA, source, *options, "--out", out, "--conf-level", "0.8", "--quiet"
    )
    assert (code, err) == (0, "")
    found = json.loads(out.read_text())
    fit = ranef.lmm(
        FORMULA, pd.read_csv(source), reml=False, weights="w", offset="known", path="crossed"
    )
    assert found["optimum"]["path"] == "crossed"
    assert found["model"]["reml"] is False
    np.testing.assert_allclose(found["glance"]["loglik"], fit.loglik, rtol=1e-12)
    low = fit.tidy(conf_level=0.8)["conf_low"]
    np.testing.assert_allclose([row["conf_low"] for row in found["fixed"]], low, rtol=1e-12)


def test_plan(run: Callable[..., Ran], sleep: Path) -> None:
    code, out, err = run("plan", FORMULA, sleep)
    assert (code, err) == (0, "")
    assert out == f"{ranef.plan(FORMULA, pd.read_csv(sleep))}\n"
    assert run("plan", FORMULA, sleep, "--path", "crossed")[1] != out


def test_numbers_become_categories_by_factor(run: Callable[..., Ran], sleep: Path) -> None:
    code, out, _ = run("fit", "Reaction ~ Days + (1 | Subject)", sleep, "--factor", "Days")
    assert code == 0
    assert "Days9" in out


# --- questions -----------------------------------------------------------------------


def test_degrees_of_freedom_reach_everything(run: Callable[..., Ran], tmp_path: Path) -> None:
    from ranef.cli.verbs.fit import DF
    from ranef.inference.coefficients.degrees import METHODS

    assert tuple(METHODS) == DF
    oats = ranef.data.load("Oats").drop(index=[3, 17, 30])
    source = tmp_path / "oats.csv"
    oats.to_csv(source, index=False)
    formula = "yield ~ nitro + Variety + (1 | Block/Variety)"
    names = ("f.json", "f.csv", "f.html", "f.md")
    out, short, page, paper = (tmp_path / name for name in names)
    code, shown, _ = run(
        "fit", formula, source, "--df", "kenward-roger", "--out", out, "--out", short,
        "--report", page, "--table", paper,
    )  # fmt: skip
    assert code == 0
    fit = ranef.lmm(formula, pd.read_csv(source))
    wanted = fit.tidy(df="kenward-roger")
    assert f"{fit.summary(df='kenward-roger')}" in shown
    found = json.loads(out.read_text())["fixed"]
    np.testing.assert_allclose([r["df"] for r in found], wanted["df"], rtol=1e-10)
    np.testing.assert_allclose(pd.read_csv(short)["df"], wanted["df"], rtol=1e-10)
    assert not np.allclose(wanted["df"], fit.tidy()["df"], rtol=1e-4)
    assert f"{wanted['df'].iloc[2]:.1f}" in page.read_text()
    assert paper.read_text() == ranef.table(fit, df="kenward-roger").to_markdown()


def test_a_check_is_printed_after_the_summary(run: Callable[..., Ran], sleep: Path) -> None:
    fit = ranef.lmm(FORMULA, pd.read_csv(sleep))
    code, out, err = run("fit", FORMULA, sleep, "--check")
    assert (code, err) == (0, "")
    assert out == f"{fit.summary()}\n\n{fit.check()}\n"
    assert run("fit", FORMULA, sleep, "--check", "--quiet")[1] == f"{fit.check()}\n"


def test_a_check_that_is_refused_comes_after_the_results(
    run: Callable[..., Ran], tmp_path: Path
) -> None:
    rng = np.random.default_rng(8)
    data = pd.DataFrame({"way": rng.choice(list("abc"), 300), "town": np.repeat(range(20), 15)})
    source, out = tmp_path / "ways.csv", tmp_path / "ways.json"
    data.to_csv(source, index=False)
    given = ["way ~ 1 + (1 | town)", source, "--family", "multinomial", "--out", out, "--check"]
    code, shown, err = run("fit", *given)
    assert code == 2
    assert "categories without an order" in err
    assert "town" in shown
    assert json.loads(out.read_text())["model"]["family"] == "multinomial"


@pytest.mark.parametrize("name", ["t.docx", "t.tex", "t.html", "t.md", "t.txt"])
def test_tables_for_a_paper(run: Callable[..., Ran], sleep: Path, name: str) -> None:
    target = sleep.with_name(name)
    assert run("fit", FORMULA, sleep, "--table", target, "--quiet") == (0, "", "")
    content = target.read_bytes()
    if name == "t.docx":
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            content = archive.read("word/document.xml")
    assert b"10.47" in content


def test_ranks(run: Callable[..., Ran], sleep: Path, tmp_path: Path) -> None:
    out, short, plot = tmp_path / "r.json", tmp_path / "r.csv", tmp_path / "r.svg"
    code, shown, err = run(
        "rank", FORMULA, sleep, "--by", "Subject", "--statistic", "Days", "--top", 3,
        "--threshold", "5", "--order", "descending", "--draws", 500, "--seed", 7,
        "--conf-level", "0.9", "--out", out, "--out", short, "--plot", plot,
    )  # fmt: skip
    assert (code, err) == (0, "")
    ranking = ranef.lmm(FORMULA, pd.read_csv(sleep)).rank(
        "Subject", statistic="Days", top=3, threshold=5.0, order="descending", n=500, rng=7,
        conf_level=0.9,
    )  # fmt: skip
    assert shown == f"{ranking}\n"
    wanted = ranking.tidy(sort=True)
    found = json.loads(out.read_text())
    assert found["ranking"]["adjusted_for"] == ["Days"]
    assert [row["level"] for row in found["levels"]] == list(wanted["level"])
    read = pd.read_csv(short)
    np.testing.assert_allclose(read["expected_rank"], wanted["expected_rank"], rtol=1e-12)
    np.testing.assert_array_equal(read["rank_high"], wanted["rank_high"])
    assert plot.read_text().startswith("<?xml")


def test_comparisons_by_what_models_are_for(
    run: Callable[..., Ran], sleep: Path, tmp_path: Path
) -> None:
    small, out = "Reaction ~ Days + (1 | Subject)", tmp_path / "c.json"
    code, shown, err = run("compare", small, FORMULA, sleep, "--focus", "individual", "--out", out)
    assert (code, err) == (0, "")
    data = pd.read_csv(sleep)
    fits = [ranef.lmm(small, data), ranef.lmm(FORMULA, data)]
    assert shown == f"{ranef.compare(fits, focus='individual')}\n"
    found = json.loads(out.read_text())
    assert found["focus"] == "individual"
    assert abs(found["models"][1]["caic"] - 1711.5209) < 1e-3
    code, shown, _ = run(
        "compare", small, sleep, "--focus", "population", "--vary", "residual=none",
        "--vary", "residual=ar1(Days | Subject)",
    )  # fmt: skip
    assert code == 0
    assert "residuals ar1(Days | Subject)" in shown
    code, shown, _ = run(
        "compare", "count ~ mined + (1 | site)", "Salamanders", "--focus", "population",
        "--vary", "family=poisson", "--vary", "family=nbinom2", "--vary", "zero=none",
        "--vary", "zero=~ mined",
    )  # fmt: skip
    assert code == 0
    assert "fit 4: count ~ mined + (1 | site), nbinom2 (log), zero ~ mined" in shown
    for wrong, words in (
        (("--criterion", "bic"), "needs --focus"),
        (("--vary", "famly=poisson"), "did you mean 'family'"),
        (("--vary", "family"), "PART=VALUE"),
        (("--focus", "individual", "--criterion", "aic"), "criterion"),
    ):
        code, _, err = run("compare", small, FORMULA, sleep, *wrong)
        assert code == 2, wrong
        assert words in err, wrong


def test_comparisons(run: Callable[..., Ran], sleep: Path, tmp_path: Path) -> None:
    small = "Reaction ~ Days + (1 | Subject)"
    out, short = tmp_path / "c.json", tmp_path / "c.csv"
    code, shown, err = run("compare", small, FORMULA, sleep, "--out", out, "--out", short)
    assert (code, err) == (0, FOCUS_NOTE)
    data = pd.read_csv(sleep)
    comparison = ranef.anova(ranef.lmm(small, data), ranef.lmm(FORMULA, data))
    assert shown == f"{comparison}\n"
    found = json.loads(out.read_text())
    assert found["criterion"] == "ML"
    assert abs(found["models"][1]["statistic"] - 42.1393) < 1e-3  # lme4, anova() by ML
    assert len(pd.read_csv(short)) == 2
    as_they_are = run("compare", small, FORMULA, sleep, "--no-refit")[1]
    assert "Likelihood-ratio tests (REML)" in as_they_are
    drawn = run("compare", small, FORMULA, sleep, "--bootstrap", 30, "--seed", 2)[1]
    again = ranef.anova(
        ranef.lmm(small, data), ranef.lmm(FORMULA, data), method="bootstrap", n=30, rng=2
    )
    assert drawn == f"{again}\n"
    assert run("compare", small, FORMULA, sleep, "--quiet") == (0, "", "")


def test_rank_and_compare_complain_in_one_line(run: Callable[..., Ran], sleep: Path) -> None:
    small, other = "Reaction ~ Days + (1 | Subject)", "Reaction ~ 1 + (1 | Subject)"
    for arguments, code, said in (
        (("rank", FORMULA, sleep, "--by", "Subjekt"), 2, "did you mean 'Subject'?"),
        (("rank", FORMULA, sleep, "--statistic", "Dayz"), 2, "'Days'"),
        (("rank", FORMULA, sleep, "--top", 40), 2, "more than the 18 levels"),
        (("rank", FORMULA, sleep, "--scale", "ratio"), 2, "exponential"),
        (("rank", FORMULA, sleep, "--plot", "a.jpg"), 2, "must end in one of .png, .svg, .pdf"),
        (("rank", FORMULA, sleep, "--out", "a.txt"), 2, "must end in .json or .csv"),
        (("rank", sleep, FORMULA), 2, "ranef rank"),
        (("rank", FORMULA, sleep, "--zero", "~ 1"), 2, "add --family"),
        (("compare", FORMULA, sleep), 2, "two formulas or more"),
        (("compare", small, sleep, FORMULA), 2, "table last: ranef compare"),
        (("compare", small, "Reaction ~ Dayz + (1 | Subject)", sleep), 2, "'Days'"),
        (("compare", small, FORMULA, sleep, "--out", sleep), 2, "is what the command reads"),
        (("compare", small, FORMULA, "nowhere.csv"), 3, "no file 'nowhere.csv'"),
        (("compare", small, other, sleep, "--no-refit"), 2, "restricted likelihoods"),
        (("fit", FORMULA, sleep, "--table", "t.pdf"), 2, "must end in one of .docx"),
    ):  # fmt: skip
        found, err = complaint(run(*arguments))
        assert found == code, arguments
        assert said in err, (arguments, err)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["fit", "y ~ x", "d.csv", "--df", "kenward"], "invalid choice: 'kenward'"),
        (["rank", "y ~ x", "d.csv", "--threshold", "high"], "'high' is not a number"),
        (["rank", "y ~ x", "d.csv", "--threshold", "inf"], "inf is not a finite number"),
        (["rank", "y ~ x", "d.csv", "--seed", "-1"], "is not a whole number from 0 on"),
        (["rank", "y ~ x", "d.csv", "--top", "0"], "'0' is not a positive whole number"),
        (["compare", "y ~ x"], "DATA must be given: ranef compare"),
    ],
)
def test_wrong_questions_are_code_2(
    run: Callable[..., Ran], arguments: list[str], said: str
) -> None:
    code, out, err = run(*arguments)
    assert (code, out) == (2, "")
    assert said in err


# --- exit codes and messages ---------------------------------------------------------


def complaint(ran: Ran) -> tuple[int, str]:
    """Exit code and the one line of a failed command."""
    code, out, err = ran
    assert out == ""
    assert err.startswith("ranef: error: ")
    assert err.count("\n") == 1
    assert "Traceback" not in err
    return code, err


def test_a_wrong_column_is_named_with_the_right_one(run: Callable[..., Ran], sleep: Path) -> None:
    code, err = complaint(run("fit", "Reaction ~ Dayz + (1 | Subject)", sleep))
    assert code == 2
    assert "'Dayz'" in err
    assert "'Days'" in err
    code, err = complaint(run("fit", FORMULA, sleep, "--factor", "subject"))
    assert code == 2
    assert "did you mean 'Subject'?" in err
    code, err = complaint(run("fit", FORMULA, sleep, "--weights", "day"))
    assert code == 2
    assert "'day'" in err


@pytest.mark.parametrize("formula", ["Reaction ~ Days + (Days | Subject", "Reaction ~ + * Days"])
def test_a_formula_typo_is_one_line(run: Callable[..., Ran], sleep: Path, formula: str) -> None:
    assert complaint(run("fit", formula, sleep))[0] == 2


def test_swapped_arguments_are_recognised(run: Callable[..., Ran], sleep: Path) -> None:
    code, err = complaint(run("fit", sleep, FORMULA))
    assert code == 2
    assert "the formula comes first" in err
    code, err = complaint(run("fit", sleep, "sleepstudy"))
    assert code == 2
    assert "is a file" in err
    code, err = complaint(run("fit", "Reaction + Days", sleep))
    assert code == 2
    assert "has no '~'" in err


def test_missing_values_can_be_refused(run: Callable[..., Ran], tmp_path: Path) -> None:
    source = tmp_path / "d.csv"
    source.write_text("y,g\n1,a\n,a\n3,b\n4,b\n6,c\n5,c\n")
    assert run("fit", "y ~ 1 + (1 | g)", source)[0] == 0
    code, err = complaint(run("fit", "y ~ 1 + (1 | g)", source, "--missing", "raise"))
    assert code == 2
    assert "y (1 row)" in err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["fit"], "FORMULA, DATA must be given: ranef fit FORMULA DATA"),
        (["fit", "y ~ x", "d.csv", "--conf-level", "95"], "did you mean 0.95?"),
        (["fit", "y ~ x", "d.csv", "--conf-level", "high"], "'high' is not a number"),
        (["fit", "y ~ x", "d.csv", "--n-jobs", "0"], "'0' is not a positive whole number"),
        (["fit", "y ~ x", "d.csv", "--path", "short"], "invalid choice: 'short'"),
        (["fit", "y ~ x", "d.csv", "--sep", "ab"], "is not one character"),
        (["fit", "y ~ x", "d.csv", "--colour"], "no option --colour"),
        (["fti"], "no command 'fti'; did you mean 'fit'?"),
    ],
)
def test_wrong_usage_is_code_2(run: Callable[..., Ran], arguments: list[str], said: str) -> None:
    code, out, err = run(*arguments)
    assert (code, out) == (2, "")
    assert said in err
    assert "Traceback" not in err


def test_a_missing_file_brings_the_nearest_name(run: Callable[..., Ran], sleep: Path) -> None:
    code, err = complaint(run("fit", FORMULA, sleep.with_name("slepstudy.csv")))
    assert code == 3
    assert "no file 'slepstudy.csv'" in err
    assert "did you mean 'sleepstudy.csv'?" in err
    code, err = complaint(run("fit", FORMULA, sleep.parent / "nowhere" / "d.csv"))
    assert code == 3
    assert "there is no folder" in err
    code, err = complaint(run("fit", FORMULA, sleep.parent))
    assert code == 3
    assert "is a folder" in err


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is empty"),
        (b"  \n\n", "is empty"),
        (b"Reaction,Days,Subject\n", "column names but no rows"),
        (b"\x00\x01\x02binary", "neither text nor Parquet nor Feather"),
        (b"PAR1 and then nothing", "damaged Parquet file"),
        (b"ARROW1 and then nothing", "damaged Feather file"),
        (b"\x1f\x8b\x08 broken", "damaged gzip file"),
        (b"BZh9 broken", "damaged bzip2 file"),
        (b"\xfd7zXZ\x00 broken", "damaged xz file"),
        (b"PK\x03\x04 broken", "damaged zip file"),
        (b"\x28\xb5\x2f\xfd broken", "damaged zstd file"),
        (b"a,a\n1,2\n", "several columns named 'a'"),
        (b"a,b\n1,2,3,4\n", "2 column names and 4 fields in the first row"),
        (b"a,b\n1,2\n1,2,3\n", "line 3 has 3 fields, and the lines above it 2"),
        ("a,b\n1,2\nf\xfcr,3\n".encode("latin-1"), "is not UTF-8 text (line 3)"),
    ],
)
def test_a_file_without_a_table_is_code_3(
    run: Callable[..., Ran], tmp_path: Path, content: bytes, said: str
) -> None:
    source = tmp_path / "d.csv"
    source.write_bytes(content)
    code, err = complaint(run("fit", FORMULA, source))
    assert code == 3
    assert said in err


def test_an_unreadable_file(
    run: Callable[..., Ran], sleep: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def denied(*_: Any, **__: Any) -> bytes:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("ranef.cli.reading.Limit.read", denied)
    code, err = complaint(run("fit", FORMULA, sleep))
    assert code == 3
    assert "permission denied" in err


def test_an_unproved_optimum_is_code_1_and_still_printed(
    run: Callable[..., Ran], sleep: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ranef.models import linear as floor

    fit = floor.fit_lmm

    def stopped(*arguments: Any, **options: Any) -> Any:
        estimate = fit(*arguments, **options)
        optimum = replace(estimate.optimum, converged=False, message="the budget ran out")
        return replace(estimate, optimum=optimum)

    monkeypatch.setattr(floor, "fit_lmm", stopped)
    out = tmp_path / "fit.json"
    code, printed, err = run("fit", FORMULA, sleep, "--out", out)
    assert code == 1
    assert "-871.814" in printed
    assert err.startswith("ranef: warning: ")
    assert err.count("\n") == 1
    assert json.loads(out.read_text())["optimum"]["converged"] is False


def test_an_interruption_is_code_130_and_one_line(
    run: Callable[..., Ran], sleep: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*arguments: Any, **options: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr(ranef, "lmm", interrupted, raising=False)
    assert run("fit", FORMULA, sleep) == (130, "", "ranef: interrupted\n")


def test_ctrl_c_ends_a_running_command(tmp_path: Path) -> None:
    pipe = tmp_path / "endless.csv"
    os.mkfifo(pipe)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-m", "ranef", "fit", FORMULA, str(pipe)]
    running = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    )
    with pipe.open("w") as stream:
        stream.write("Reaction,Days,Subject\n")
        stream.flush()
        time.sleep(0.2)
        running.send_signal(signal.SIGINT)
        out, err = running.communicate(timeout=30)
    assert running.returncode in (130, -signal.SIGINT)  # the latter while modules are loaded
    assert (out, err) == ("", "ranef: interrupted\n")


def test_a_reader_that_goes_away_is_no_error(sleep: Path) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-m", "ranef", "fit", FORMULA, str(sleep)]
    with os.fdopen(writing, "wb") as stream:
        done = subprocess.run(command, stdout=stream, stderr=subprocess.PIPE, env=environment)
    assert (done.returncode, done.stderr) == (141, b"")


def test_a_bug_shows_its_traceback_and_is_code_70(
    run: Callable[..., Ran], sleep: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*arguments: Any, **options: Any) -> Any:
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr(ranef, "lmm", broken, raising=False)
    code, _, err = run("fit", FORMULA, sleep)
    assert code == 70
    assert "ZeroDivisionError: a bug" in err
    assert "please report it" in err


def test_warnings_are_sentences(run: Callable[..., Ran], tmp_path: Path) -> None:
    source = tmp_path / "d.csv"
    data = ranef.data.load("sleepstudy").assign(Twice=lambda d: 2 * d["Days"])
    data.to_csv(source, index=False)
    code, _, err = run("fit", "Reaction ~ Days + Twice + (1 | Subject)", source)
    assert code == 0
    assert err.startswith("ranef: warning: ")
    assert "Twice" in err
    assert err.count("\n") == 1


# --- kinds of files ------------------------------------------------------------------


def zipped(content: bytes) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("sleepstudy.csv", content)
        archive.writestr("__MACOSX/._sleepstudy.csv", b"junk")
    return stream.getvalue()


def zstandard(content: bytes) -> bytes:
    stream = pa.BufferOutputStream()
    with pa.CompressedOutputStream(stream, "zstd") as compressed:
        compressed.write(content)
    return bytes(stream.getvalue())


COMPRESSIONS: dict[str, Callable[[bytes], bytes]] = {
    "": bytes,
    ".gz": gzip.compress,
    ".bz2": bz2.compress,
    ".xz": lzma.compress,
    ".zip": zipped,
    ".zst": zstandard,
}


def as_csv(data: pd.DataFrame) -> bytes:
    return data.to_csv(index=False).encode()


def as_tsv(data: pd.DataFrame) -> bytes:
    return data.to_csv(index=False, sep="\t").encode()


def as_parquet(data: pd.DataFrame) -> bytes:
    return bytes(data.to_parquet())


def as_feather(data: pd.DataFrame) -> bytes:
    stream = pa.BufferOutputStream()
    feather.write_feather(data, stream, compression="uncompressed")
    return bytes(stream.getvalue())


FORMATS: dict[str, Callable[[pd.DataFrame], bytes]] = {
    ".csv": as_csv,
    ".tsv": as_tsv,
    ".parquet": as_parquet,
    ".feather": as_feather,
}


@pytest.mark.parametrize("compression", COMPRESSIONS)
@pytest.mark.parametrize("kind", FORMATS)
def test_every_format_and_compression_gives_the_same_fit(
    run: Callable[..., Ran], tmp_path: Path, kind: str, compression: str
) -> None:
    content = COMPRESSIONS[compression](FORMATS[kind](ranef.data.load("sleepstudy")))
    source, out = tmp_path / f"d{kind}{compression}", tmp_path / "fit.json"
    source.write_bytes(content)
    code, _, err = run("fit", FORMULA, source, "--out", out)
    assert (code, err) == (0, "")
    found = json.loads(out.read_text())
    assert abs(found["glance"]["loglik"] - LOGLIK) < 1e-6
    assert found["accounting"]["groups"] == {"Subject": 18}


def test_the_content_counts_and_not_the_name(run: Callable[..., Ran], tmp_path: Path) -> None:
    source = tmp_path / "misnamed.csv"
    source.write_bytes(gzip.compress(as_parquet(ranef.data.load("sleepstudy"))))
    assert run("fit", FORMULA, source, "--quiet") == (0, "", "")


def test_a_zip_must_hold_one_table(run: Callable[..., Ran], tmp_path: Path) -> None:
    source = tmp_path / "d.zip"
    with zipfile.ZipFile(source, "w") as archive:
        archive.writestr("a.csv", "x\n1\n")
        archive.writestr("b.csv", "x\n1\n")
    code, err = complaint(run("fit", FORMULA, source))
    assert code == 3
    assert "must hold one file and holds 2 ('a.csv', 'b.csv')" in err
    with zipfile.ZipFile(source, "w") as archive:
        archive.writestr("[Content_Types].xml", "<x/>")
        archive.writestr("xl/workbook.xml", "<x/>")
    code, err = complaint(run("fit", FORMULA, source))
    assert code == 3
    assert "Excel workbook" in err


def test_an_index_with_a_name_is_a_column(tmp_path: Path) -> None:
    source = tmp_path / "d.parquet"
    pd.DataFrame({"y": [1.0, 2.0]}, index=pd.Index(["a", "b"], name="id")).to_parquet(source)
    data = read_table(str(source), Reading()).data
    assert data.columns.tolist() == ["id", "y"]


# --- delimited text ------------------------------------------------------------------


def read(content: str | bytes, **dialect: Any) -> tuple[dict[str, list[Any]], list[str]]:
    raw = content.encode() if isinstance(content, str) else content
    data, notes, _ = read_delimited(raw, "'d.csv'", Dialect(**dialect))
    columns = {name: data[name].astype(object).tolist() for name in data.columns}
    return columns, [note.text for note in notes]


@pytest.mark.parametrize(
    "content",
    [
        "y,g\n1.5,a\n2,b c\n",
        "y;g\n1.5;a\n2;b c\n",
        "y;g\n1,5;a\n2;b c\n",
        "y\tg\n1.5\ta\n2\tb c\n",
        "y|g\n1.5|a\n2|b c\n",
        'y,g\r\n1.5,"a"\r\n2,"b c"\r\n',
        "\ufeffy,g\n1.5,a\n2,b c\n",
        "\n\ny,g\n\n1.5,a\n2,b c\n",
        '"y" "g"\n"1" 1.5 "a"\n"2" 2 "b c"\n',
        "y,g,\n1.5,a,\n2,b c,\n",
        "y,g\n1.5,a,\n2,b c,\n",
        '"","y","g"\n"1",1.5,"a"\n"2",2,"b c"\n',
    ],
)
def test_text_tables_are_read_as_they_were_meant(content: str) -> None:
    assert read(content)[0] == {"y": [1.5, 2.0], "g": ["a", "b c"]}


@pytest.mark.parametrize("encoding", ["utf-16", "utf-8-sig"])
def test_marked_encodings_are_found(encoding: str) -> None:
    assert read("y,g\n1,\u00e9\n02,b\n".encode(encoding))[0] == {
        "y": ["1", "02"],
        "g": ["\u00e9", "b"],
    }


def test_named_encodings_are_obeyed() -> None:
    assert read("y,g\n1,\u00e9\n".encode("cp1252"), encoding="cp1252")[0]["g"] == ["\u00e9"]
    with pytest.raises(FileError, match="no such encoding"):
        read("y,g\n1,2\n", encoding="utf-88")


def test_missing_marks_are_those_of_the_help() -> None:
    marks = ["", "NA", "N/A", "n/a", "#N/A", "#NA", "<NA>", "NaN", "nan", "."]
    columns, _ = read("x,y\n" + "".join(f"{mark},1\n" for mark in [*marks, "2.5"]))
    assert [math.isnan(value) for value in columns["x"]] == [True] * 10 + [False]


def test_words_that_only_look_missing_are_levels() -> None:
    columns, _ = read("g,y\nNone,1\nnull,2\nNULL,3\n-,4\n")
    assert columns["g"] == ["None", "null", "NULL", "-"]


def test_further_marks_can_be_given(run: Callable[..., Ran], tmp_path: Path) -> None:
    source, out = tmp_path / "d.csv", tmp_path / "o.json"
    source.write_text("y,g\n1,a\n-999,a\n3,b\n4,b\n6,c\n5,c\n")
    assert run("fit", "y ~ 1 + (1 | g)", source, "--na=-999", "--out", out)[0] == 0
    assert json.loads(out.read_text())["accounting"]["missing"] == {"y": 1}


def test_codes_with_leading_zeros_stay_text() -> None:
    columns, notes = read("id,zip,y\n007,01234,0.5\n010,98765,00.7\n")
    assert columns == {"id": ["007", "010"], "zip": ["01234", "98765"], "y": [0.5, 0.7]}
    assert len(notes) == 2
    assert "'id' has codes with leading zeros" in notes[0]


def test_leading_zeros_can_be_numbers(run: Callable[..., Ran], tmp_path: Path) -> None:
    source = tmp_path / "d.csv"
    source.write_text("y,g\n01,a\n02,a\n03,b\n04,b\n06,c\n05,c\n")
    code, _, err = run("fit", "y ~ 1 + (1 | g)", source)
    assert code == 2
    assert "ranef: note: column 'y' has codes with leading zeros" in err
    assert run("fit", "y ~ 1 + (1 | g)", source, "--number", "y", "--quiet") == (0, "", "")


def test_a_word_among_numbers_is_found(run: Callable[..., Ran], tmp_path: Path) -> None:
    source = tmp_path / "d.csv"
    source.write_text("y,g\n1,a\ntwo,a\n3,b\n4,b\n")
    code, err = complaint(run("fit", "y ~ 1 + (1 | g)", source, "--number", "y"))
    assert code == 2
    assert "'two' in line 3 is no number" in err


def test_whole_numbers_with_gaps_stay_whole(run: Callable[..., Ran], tmp_path: Path) -> None:
    source, out = tmp_path / "d.csv", tmp_path / "o.json"
    source.write_text("y,id\n1,308\n2,308\n3,\n4,309\n6,309\n5,310\n7,310\n")
    assert run("fit", "y ~ 1 + (1 | id)", source, "--out", out)[0] == 0
    found = json.loads(out.read_text())
    assert [row["level"] for row in found["random"]] == [308, 309, 310]
    assert found["accounting"]["missing"] == {"id": 1}


def test_row_names_are_left_out_with_a_note() -> None:
    columns, notes = read('"","y"\n"1",2\n"2",3\n')
    assert columns == {"y": [2, 3]}
    assert notes == ["a column without a name (row names?) is left out"]


# --- results -------------------------------------------------------------------------


def test_json_holds_everything_strictly(run: Callable[..., Ran], sleep: Path) -> None:
    out = sleep.with_name("fit.json")
    assert run("fit", FORMULA, sleep, "--out", out)[0] == 0

    def refuse(word: str) -> Any:
        raise AssertionError(f"{word} is not JSON")

    found = json.loads(out.read_text("utf-8"), parse_constant=refuse)
    assert list(found) == [
        "versions",
        "call",
        "model",
        "accounting",
        "glance",
        "fixed",
        "variance",
        "random",
        "optimum",
    ]
    fit = ranef.lmm(FORMULA, pd.read_csv(sleep))
    for name in ("fixed", "variance", "random"):
        table = fit.tidy(name)
        assert list(found[name][0]) == table.columns.tolist()
        estimates = [row["estimate"] for row in found[name]]
        np.testing.assert_allclose(estimates, table["estimate"], rtol=1e-12)
    assert found["accounting"]["n_used"] == 180
    assert found["optimum"]["converged"] is True
    assert found["optimum"]["singular"] is False
    np.testing.assert_allclose(found["optimum"]["theta"], fit.theta, rtol=1e-12)
    assert found["versions"]["ranef"] == ranef.__version__
    assert found["call"] == f"ranef fit '{FORMULA}' {sleep} --out {out}"


def test_values_json_does_not_know_are_null() -> None:
    values = [float("nan"), float("inf"), np.float64("-inf"), None, pd.NA, pd.NaT]
    assert [strict(value) for value in values] == [None] * 6
    assert [strict(value) for value in (np.bool_(True), np.int32(2), "a")] == [True, 2, "a"]
    assert strict(pd.Timestamp("2024-01-02")) == "2024-01-02 00:00:00"


def test_faces_are_in_the_json(run: Callable[..., Ran], tmp_path: Path) -> None:
    out = tmp_path / "fit.json"
    assert run("fit", "Yield ~ 1 + (1 | Batch)", "Dyestuff2", "--out", out)[0] == 0
    (face,) = json.loads(out.read_text())["optimum"]["faces"]
    assert (face["rank"], face["size"]) == (0, 1)
    assert face["curvature"] >= 0


def test_csv_holds_the_fixed_effects(run: Callable[..., Ran], sleep: Path) -> None:
    out = sleep.with_name("fixed.csv")
    assert run("fit", FORMULA, sleep, "--out", out)[0] == 0
    rows = list(csv.DictReader(out.read_text().splitlines()))
    table = ranef.lmm(FORMULA, pd.read_csv(sleep)).tidy()
    assert list(rows[0]) == table.columns.tolist()
    assert [row["term"] for row in rows] == ["(Intercept)", "Days"]
    np.testing.assert_allclose([float(r["estimate"]) for r in rows], table["estimate"], rtol=1e-12)


def test_every_result_at_once(run: Callable[..., Ran], sleep: Path) -> None:
    folder = sleep.parent
    names = ["a.json", "a.csv", "a.html", "a.ranef"]
    json_, csv_, html_, ranef_ = (folder / name for name in names)
    options = ["--out", json_, "--out", csv_, "--report", html_, "--save", ranef_, "--quiet"]
    assert run("fit", FORMULA, sleep, *options) == (0, "", "")
    assert {entry.name for entry in folder.iterdir()} == {*names, "sleepstudy.csv"}
    assert "<h1>Linear mixed model of Reaction</h1>" in html_.read_text("utf-8")
    assert f"ranef fit &#x27;{FORMULA}&#x27;" in html_.read_text("utf-8")
    assert abs(ranef.load(ranef_).loglik - LOGLIK) < 1e-6


@pytest.mark.parametrize(
    ("option", "name", "code", "said"),
    [
        ("--out", "fit.xlsx", 2, "must end in .json or .csv"),
        ("--out", "nowhere/fit.json", 3, "there is no folder"),
        ("--report", "nowhere/fit.html", 3, "there is no folder"),
        ("--save", "nowhere/fit.ranef", 3, "there is no folder"),
        ("--report", ".", 3, "it is a folder"),
    ],
)
def test_results_that_cannot_be_written_stop_before_the_work(
    run: Callable[..., Ran],
    sleep: Path,
    monkeypatch: pytest.MonkeyPatch,
    option: str,
    name: str,
    code: int,
    said: str,
) -> None:
    monkeypatch.chdir(sleep.parent)
    monkeypatch.setattr(ranef, "lmm", None, raising=False)
    found, err = complaint(run("fit", FORMULA, sleep, option, name))
    assert found == code
    assert said in err


def test_one_file_cannot_hold_two_results(run: Callable[..., Ran], sleep: Path) -> None:
    out = sleep.with_name("fit.json")
    code, err = complaint(run("fit", FORMULA, sleep, "--out", out, "--save", out))
    assert code == 2
    assert "asked for twice" in err


@pytest.mark.parametrize(
    ("verb", "option"),
    [("fit", "--save"), ("meta", "--forest"), ("diary", "--plot"), ("dynamic", "--persons"),
     ("sem", "--save"), ("gwas", "--out"), ("imaging", "--report")],
)  # fmt: skip
def test_an_option_of_one_file_is_not_given_twice(
    run: Callable[..., Ran], sleep: Path, verb: str, option: str
) -> None:
    code, _, err = run(verb, FORMULA, sleep, option, "a.html", f"{option}=b.html")
    assert code == 2
    assert f"{option} is given 2 times and names one file" in err


@pytest.mark.parametrize("verb", ["fit", "gee", "meta", "sem", "diary", "dynamic"])
@pytest.mark.parametrize("name", ["o.pdf", "o"])
def test_every_report_is_html(run: Callable[..., Ran], sleep: Path, verb: str, name: str) -> None:
    code, _, err = run(verb, FORMULA, sleep, "--report", name)
    assert code == 2
    assert f"{name!r} is the name of no page: a report is HTML" in err


def test_a_failed_fit_leaves_old_results(run: Callable[..., Ran], sleep: Path) -> None:
    out = sleep.with_name("fit.json")
    out.write_text("before")
    assert run("fit", "Reaction ~ Dayz + (1 | Subject)", sleep, "--out", out)[0] == 2
    assert out.read_text() == "before"


def test_the_table_that_is_read_cannot_be_overwritten(run: Callable[..., Ran], sleep: Path) -> None:
    before = sleep.read_bytes()
    code, err = complaint(run("fit", FORMULA, sleep, "--out", sleep))
    assert code == 2
    assert "is what the command reads" in err
    assert sleep.read_bytes() == before


# --- no traceback, whatever the input -------------------------------------------------


def small_table() -> bytes:
    return (
        "y,x,g\n" + "".join(f"{i * 37 % 11},{i % 7},{'abcde'[i % 5]}\n" for i in range(60))
    ).encode()


def without_middle(content: bytes) -> bytes:
    return content[: len(content) // 2] + content[len(content) // 2 + 7 :]


@pytest.mark.parametrize("hurt", [lambda c: c[:-9], lambda c: c[:14], without_middle])
@pytest.mark.parametrize("compression", [c for c in COMPRESSIONS if c])
def test_broken_compressed_files_end_in_a_sentence(
    run: Callable[..., Ran], tmp_path: Path, compression: str, hurt: Callable[[bytes], bytes]
) -> None:
    source = tmp_path / f"d.csv{compression}"
    source.write_bytes(hurt(COMPRESSIONS[compression](small_table())))
    code, out, err = run("fit", "y ~ x + (1 | g)", source)
    assert code in (2, 3)
    assert "Traceback" not in out + err


@pytest.mark.parametrize("compression", [c for c in COMPRESSIONS if c])
def test_what_unpacks_beyond_the_limit_is_refused(
    run: Callable[..., Ran], tmp_path: Path, compression: str
) -> None:
    source = tmp_path / "d"
    source.write_bytes(COMPRESSIONS[compression](b"y,x,g\n" + b"1,2,a\n" * 300_000))
    code, err = complaint(run("fit", "y ~ x + (1 | g)", source, "--max-gb", "0.001"))
    assert code == 3
    assert "holds more than 0.001 GB" in err
    assert "--max-gb" in err


@pytest.mark.skipif(not Path("/dev/zero").exists(), reason="no endless device here")
def test_an_endless_device_is_refused(run: Callable[..., Ran]) -> None:
    code, err = complaint(run("fit", "y ~ x + (1 | g)", "/dev/zero", "--max-gb", "0.01"))
    assert code == 3
    assert "holds more than 0.01 GB" in err


def test_a_parquet_file_of_one_value_a_billion_times_is_refused(
    run: Callable[..., Ran], tmp_path: Path
) -> None:
    source = tmp_path / "d.parquet"
    pa_table = pa.table({"y": pa.array(np.zeros(3_000_000))})
    import pyarrow.parquet as parquet

    parquet.write_table(pa_table, source)
    assert source.stat().st_size < 100_000
    code, err = complaint(run("fit", "y ~ 1 + (1 | y)", source, "--max-gb", "0.01"))
    assert code == 3
    assert "holds more than 0.01 GB" in err


@pytest.mark.parametrize("compression", ["zstd", "lz4", "uncompressed"])
def test_feather_files_are_bounded_before_they_are_unpacked(
    run: Callable[..., Ran], tmp_path: Path, compression: str
) -> None:
    from pyarrow import feather

    source = tmp_path / "d.feather"
    words = pa.array(["a", "b"] * 1_500_000).dictionary_encode()
    feather.write_feather(pa.table({"y": np.zeros(3_000_000), "g": words}), source, compression)
    code, err = complaint(run("fit", "y ~ 1 + (1 | g)", source, "--max-gb", "0.01"))
    assert code == 3
    assert "holds more than 0.01 GB" in err or "has more than 0.01 GB" in err
    nothing = tmp_path / "nothing.feather"
    feather.write_feather(pa.table({"y": pa.nulls(30_000_000)}), nothing)
    assert nothing.stat().st_size < 100_000
    code, err = complaint(run("fit", "y ~ 1 + (1 | y)", nothing, "--max-gb", "0.01"))
    assert code == 3
    assert "0.01 GB" in err


@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
def test_a_command_that_is_told_to_end_leaves_no_half_written_file(tmp_path: Path) -> None:
    from ranef.cli.main import _ended_in_order
    from ranef.display.files import replacing

    def write() -> None:
        with _ended_in_order(), replacing(tmp_path / "fit.ranef") as stream:
            stream.write(b"half")
            assert len(list(tmp_path.iterdir())) == 1
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(10)  # the signal comes before its end

    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(SystemExit) as stop:
        write()
    assert stop.value.code == 128 + signal.SIGTERM
    assert list(tmp_path.iterdir()) == []
    assert signal.getsignal(signal.SIGTERM) is before


@pytest.mark.parametrize("option", ["data", "--out", "--report", "--table", "--save"])
@pytest.mark.parametrize("name", ["a" * 300, "a" * 5000, "a\x00b", "\udcff/x"])
def test_names_that_no_file_can_have(
    run: Callable[..., Ran], sleep: Path, tmp_path: Path, option: str, name: str
) -> None:
    endings = {"--out": ".json", "--table": ".md"}
    path = f"{tmp_path}/{name}{endings.get(option, '')}"
    words = [path] if option == "data" else [sleep, option, path]
    code, out, err = run("fit", FORMULA, *words)
    assert code in (2, 3)
    assert "Traceback" not in err
    assert out == ""


@pytest.mark.parametrize(
    "options",
    [["--sep", "\u00e9"], ["--sep", "\U0001f600"], ["--sep", "\n"], ["--sep", '"'],
     ["--sep", ""], ["--n-jobs", "99999999999"], ["--n-jobs", "9" * 5000],
     ["--n-jobs", "\u0663"], ["--skip", "-1"],
     ["--encoding", "zlib"], ["--encoding", "x" * 1000], ["--encoding", "a\x00b"],
     ["--max-gb", "nan"], ["--max-gb", "0"], ["--decimal", ";"], ["--thousands", "x"],
     ["--na", "\x00"], ["--factor", "\ufffe"], ["--number", "g" * 3000]],
)  # fmt: skip
def test_odd_options_end_in_a_sentence(
    run: Callable[..., Ran], tmp_path: Path, options: list[str]
) -> None:
    source = tmp_path / "d.csv"
    source.write_bytes(small_table())
    code, _, err = run("fit", "y ~ x + (1 | g)", source, "--quiet", *options)
    assert code in ((0,) if options == ["--na", "\x00"] else (2, 3))
    assert "Traceback" not in err
    assert len(err) < 6000


def test_damaged_metadata_of_parquet_and_feather(run: Callable[..., Ran], tmp_path: Path) -> None:
    data = pd.DataFrame({"y": [1.0, 2.0], "g": ["a", "b"]})
    for kind, write in (("parquet", as_parquet), ("feather", as_feather)):
        content = write(data)
        for word in (b"pandas_type", b"column_indexes", b"index_columns"):
            assert word in content
            source = tmp_path / kind
            source.write_bytes(content.replace(word, b"x" * len(word)))
            code, _, err = run("fit", "y ~ 1 + (1 | g)", source)
            assert code in (2, 3)
            assert "Traceback" not in err


def test_errors_do_not_repeat_what_has_no_end(run: Callable[..., Ran], tmp_path: Path) -> None:
    source = tmp_path / "d.csv"
    long = "v" * 200_000
    source.write_bytes(small_table().replace(b"x", long.encode(), 1))
    for formula in (f"y ~ {long} + (1 | g)", f"y ~ {long}(y) + (1 | g)", "y ~ zz + (1 | g)",
                    f"y ~ I(y %in% c({', '.join(map(str, range(9000)))})) + (1 | nothing)",
                    f"{' + '.join(f'zz{i}' for i in range(5000))} + (1 | g)"):  # fmt: skip
        code, _, err = run("fit", formula, source)
        assert code in (2, 3)
        assert len(err) < 3000, err[:300]


def test_residual_structures_in_turn(run, tmp_path):
    data = pd.DataFrame({"g": np.repeat(np.arange(12), 4), "t": np.tile(np.arange(4), 12)})
    data["y"] = np.random.default_rng(4).normal(size=48) + (data["g"] % 3)
    data.loc[data["t"] == 3, "y"] = np.nan  # a visit that nobody made: us() of all is not there
    data.loc[3, "y"] = 1.0
    source, out = tmp_path / "d.csv", tmp_path / "o.json"
    data.to_csv(source, index=False)
    structures = ("us(t | g)", "toep(t | g)", "homcs(t | g)")
    options = [word for one in structures for word in ("--residual", one)]
    assert run("fit", "y ~ 1", source, *options, "--out", out)[0] == 0
    right = ranef.lmm("y ~ 1", pd.read_csv(source), residual=list(structures))
    document = json.loads(out.read_text("utf-8"))
    tried = document["residual_structures"]
    assert [row["structure"] for row in tried] == list(structures)
    chosen = [row["structure"] for row in tried if row["chosen"]]
    assert chosen == [right.estimate.specification.residual.label]
    assert document["glance"]["loglik"] == pytest.approx(right.loglik, abs=1e-9)
    code, _, err = run("plan", "y ~ 1", source, *options)
    assert (code, "give --residual once" in err) == (2, True)
    code, _, err = run("fit", "y ~ 1", source, *options, "--family", "poisson")
    assert (code, "--residual belongs to a linear model" in err) == (2, True)


@pytest.mark.parametrize(
    ("model", "options"),
    [
        ("Reaction ~ Days", ["--residual", "ar1(Days | Subject)"]),
        ("Reaction ~ Days", ["--random", "none"]),
        ("Reaction ~ Days", ["--random", "none", "--dispersion", "~ Days"]),
    ],
)
def test_every_file_of_a_model_without_random_terms(run, tmp_path, model, options):
    files = {name: tmp_path / f"a.{name}" for name in ("json", "csv", "html", "ranef", "md")}
    code, _, err = run(
        "fit", model, "sleepstudy", *options, "--quiet", "--out", files["json"], "--out",
        files["csv"], "--report", files["html"], "--save", files["ranef"], "--table", files["md"],
    )  # fmt: skip
    assert (code, err) == (0, "")
    assert json.loads(files["json"].read_text("utf-8"))["random"] == []
    assert all(path.stat().st_size > 0 for path in files.values())
