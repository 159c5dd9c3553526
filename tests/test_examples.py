"""The examples, the README and the pages of the documentation do what they show."""

from __future__ import annotations

import ast
import doctest
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parent.parent
SCRIPTS = sorted(path for path in (ROOT / "examples").glob("*.py") if path.stem != "demo")
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
FIGURE = re.compile(r"^Figure (\S+\.png): (.*?)(?=^Figure |^Usage|\Z)", re.MULTILINE | re.DOTALL)
FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def run(arguments: list[str], folder: Path) -> str:
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env={**os.environ, "MPLBACKEND": "Agg"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def fences(path: Path, language: str) -> list[str]:
    return [text for kind, text in FENCE.findall(path.read_text("utf-8")) if kind == language]


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_example_ends_in_an_answer_and_its_figures(script, tmp_path):
    described = {name: " ".join(alt.split()) for name, alt in figures(script)}
    assert described
    assert len(set(described.values())) == len(described)
    assert all(len(alt) > 30 for alt in described.values()), described
    shown = run([str(script), str(tmp_path)], tmp_path)
    assert len(shown.splitlines()) > 20
    left = {path.name: path.stat().st_size for path in tmp_path.glob("*.png")}
    assert set(left) == set(described)
    assert all(name.startswith(script.stem) for name in left)
    assert min(left.values()) > 5_000


def figures(script: Path) -> list[tuple[str, str]]:
    """The figures that the docstring of a script describes, as the documentation reads them."""
    told = ast.get_docstring(ast.parse(script.read_text("utf-8"))) or ""
    return FIGURE.findall(told)


def test_every_picture_of_a_fit_is_in_the_example_of_pictures():
    from ranef.api.pictures import FitPlots

    source = (ROOT / "examples" / "pictures.py").read_text("utf-8")
    names = [name for name in vars(FitPlots) if not name.startswith("_") and name != "fit"]
    assert len(names) > 10
    drawn = set(re.findall(r"\.plot\.(\w+)\(", source)) | {"funnel"} & set(
        re.findall(r"\.(funnel)\(\)\.plot\(", source)
    )
    assert set(names) <= drawn


def test_diary_study_finds_the_effects_it_was_made_with(tmp_path):
    shown = run([str(ROOT / "examples" / "diary_study.py"), str(tmp_path)], tmp_path)
    numbers = re.search(
        r"goes with (\S+) points of mood\s+\((\S+) to (\S+)\).*sd (\S+)\.\s+"
        r"Training changes the slope by (\S+)\s+\((\S+) to (\S+)\)",
        shown,
        re.DOTALL,
    )
    assert numbers is not None, shown
    slope, low, high, spread, change, change_low, change_high = map(float, numbers.groups())
    assert low < -0.50 < high
    assert low < slope < high
    assert 0.1 < spread < 0.3
    assert change_low < 0.25 < change_high
    assert change > 0


def test_diary_tables_come_from_their_script(tmp_path):
    folder = ROOT / "examples" / "data"
    copy = tmp_path / "make_diary.py"
    copy.write_text((folder / "make_diary.py").read_text("utf-8"), "utf-8")
    run([str(copy)], tmp_path)
    for name in ("diary_answers.csv", "diary_people.csv"):
        assert (tmp_path / name).read_text("utf-8") == (folder / name).read_text("utf-8")


def test_momentary_stress_finds_the_effects_it_was_made_with(tmp_path):
    shown = run([str(ROOT / "examples" / "ema.py"), str(tmp_path)], tmp_path)
    slopes = [
        tuple(map(float, found))
        for found in re.findall(r"([+-]\d\.\d\d)\s*\((-?\d\.\d\d) to (-?\d\.\d\d)\)", shown)
    ]
    truths = (-0.45, 0.25, 0.35)
    assert len(slopes) == len(truths)
    for (_, low, high), truth in zip(slopes, truths, strict=True):
        assert low < truth < high
    assert "30 rows of the same person and time left out as copies" in shown
    assert "not on the list of participants: P17; on it and silent: [46]" in shown
    assert "have opposite signs" in shown
    assert "Within and between" in (tmp_path / "ema.html").read_text("utf-8")


def test_growth_remembers(tmp_path):
    shown = run([str(ROOT / "examples" / "growth.py"), str(tmp_path)], tmp_path)
    found = re.search(r"a third in (\S+) days\s+\((\S+) to (\S+)\)", shown)
    assert found is not None, shown
    assert float(found[2]) < 6.0 < float(found[3])


def test_hospital_wards_finds_the_truth_it_was_made_with(tmp_path):
    sys.path.insert(0, str(ROOT / "examples" / "data"))
    try:
        import make_wards
    finally:
        sys.path.pop(0)
    truth = make_wards.wards(np.random.default_rng(20231231)).set_index("ward")
    shown = run([str(ROOT / "examples" / "hospital_wards.py"), str(tmp_path)], tmp_path)
    first = re.search(r"^(W\d\d) comes first.*?interval (\S+) to (\S+)\)", shown, re.M | re.S)
    assert first is not None, shown
    ward, low, high = first[1], float(first[2]), float(first[3])
    assert low < truth.loc[int(ward[1:]), "ratio"] < high
    assert truth["ratio"].rank(ascending=False)[int(ward[1:])] <= 3
    spread = re.search(r"ward +\(Intercept\) +(\S+) +(\S+) +(\S+)", shown)
    assert float(spread[2]) < make_wards.SPREAD < float(spread[3])
    kind = re.search(r"kindmedical.* (\S+) +(\S+)$", shown, re.M)
    assert float(kind[1]) < 1 / make_wards.INTENSIVE < float(kind[2])
    for words in ("15 were reported twice", "no causal statement", "Adjusted for: kind"):
        assert words in shown


def test_momentary_tables_come_from_their_script(tmp_path):
    folder = ROOT / "examples" / "data"
    copy = tmp_path / "make_ema.py"
    copy.write_text((folder / "make_ema.py").read_text("utf-8"), "utf-8")
    run([str(copy)], tmp_path)
    for name in ("ema_answers.csv", "ema_people.csv"):
        assert (tmp_path / name).read_text("utf-8") == (folder / name).read_text("utf-8")


def test_ward_tables_come_from_their_script(tmp_path):
    folder = ROOT / "examples" / "data"
    copy = tmp_path / "make_wards.py"
    copy.write_text((folder / "make_wards.py").read_text("utf-8"), "utf-8")
    run([str(copy)], tmp_path)
    for name in ("wards_register.csv", "wards_bed_days.csv"):
        assert (tmp_path / name).read_text("utf-8") == (folder / name).read_text("utf-8")


def test_demo_prints_a_summary_and_writes_a_report(tmp_path):
    shown = run([str(ROOT / "examples" / "demo.py"), str(tmp_path)], tmp_path)
    assert "10.47" in shown
    assert "sleepstudy.html" in shown
    assert "<html" in (tmp_path / "sleepstudy.html").read_text("utf-8")


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.stem)
def test_sessions_on_the_page_print_what_they_show(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    session = "\n".join(text for text in fences(page, "python") if ">>>" in text)
    parser, runner = (
        doctest.DocTestParser(),
        doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS),
    )
    test = parser.get_doctest(session, {"__name__": page.stem}, page.stem, str(page), 0)
    failures: list[str] = []
    runner.run(test, out=failures.append)
    assert not failures, "".join(failures)


def test_readme_example_prints_the_output_below_it(tmp_path):
    [code] = [text for text in fences(ROOT / "README.md", "python") if ">>>" not in text]
    [shown] = fences(ROOT / "README.md", "text")
    script = tmp_path / "example.py"
    script.write_text(code, "utf-8")
    assert run([str(script)], tmp_path).split() == shown.split()


def test_formula_page_names_every_function_and_structure():
    from ranef.design.functions import ELEMENTWISE, FUNCTIONS
    from ranef.formula.model import STRUCTURES

    page = (ROOT / "docs" / "formula.md").read_text("utf-8")
    words = set(re.findall(r"[\w.]+", page))
    assert {*ELEMENTWISE, *FUNCTIONS, *STRUCTURES} <= words


@pytest.mark.parametrize("name", ["fields", "from-other-software", "imaging", "structural"])
def test_calls_beside_those_of_other_software_exist(name):
    import inspect

    import ranef

    owners = {
        "ranef": [ranef],
        "gwas": [ranef.gwas],
        "mg": [ranef.metagenomics],
        "imaging": [ranef.imaging],
        "fit": [
            ranef.LinearMixedModelFit, ranef.GeneralizedMixedModelFit, ranef.MarginalModelFit,
            ranef.MetaModelFit, ranef.StructuralModelFit,
        ],
        "scan": [ranef.gwas.Scan],
        "screen": [ranef.metagenomics.Screen],
        "background": [ranef.metagenomics.Background],
        "diary": [ranef.Diary],
        "K": [ranef.gwas.Relationship],
    }  # fmt: skip
    page = (ROOT / "docs" / f"{name}.md").read_text("utf-8")
    lines = [line.replace("\\|", "/") for line in page.splitlines() if line.startswith("|")]
    rows = [line.strip("|").split("|", 1)[1] for line in lines]
    calls = re.findall(
        rf"`(?:[^`]*?[ (])?({'|'.join(owners)})\.([A-Za-z_]\w*)((?:\.\w+)*)(\([^`]*)?`",
        "\n".join(rows),
    )
    assert len(calls) >= (20 if name in ("fields", "from-other-software") else 1)
    for owner, first, _, arguments in calls:
        found = [getattr(o, first) for o in owners[owner] if hasattr(o, first)]
        assert found or first in PROPERTIES, f"{owner}.{first}"
        told = {k for k in re.findall(r"(?<![\w\"'])(\w+)=", arguments)}
        if owner != "fit" and found and callable(found[0]):
            taken = inspect.signature(found[0]).parameters
            assert told <= set(taken) or "model" in taken or "options" in taken, (first, told)


PROPERTIES = {
    "plot", "coef", "vcov", "loglik", "aic", "bic", "deviance", "sigma", "optimum", "loglik_h1"
}  # fmt: skip
"""Of a fit, set when it is made."""


def test_version_is_stated_the_same_everywhere():
    import ranef

    citation = (ROOT / "CITATION.cff").read_text("utf-8")
    assert f"\nversion: {ranef.__version__}\n" in citation
    assert f"\n## [{ranef.__version__}]" in (ROOT / "CHANGELOG.md").read_text("utf-8")


@pytest.mark.parametrize("program", ["python3.10-missing", "false"])
def test_preflight_names_what_is_missing_and_the_line_that_helps(program):
    done = subprocess.run(
        ["sh", str(ROOT / "tools" / "preflight.sh")],
        env={**os.environ, "PYTHON": program, "CXX": program},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "no Python 3.11 or later" in done.stderr
    assert "C++" in done.stderr
    assert "nstall" in done.stderr
