"""Tables of answers as a paper wants them: decimals, APA style, names, formats."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import ranef
from ranef.errors import DataError, FileError, ModelError


@pytest.fixture(scope="module")
def oats() -> Any:
    return ranef.lmm("yield ~ nitro + Variety + (1 | Block/Variety)", ranef.data.load("Oats"))


@pytest.fixture(scope="module")
def answers(oats: Any) -> dict[str, Any]:
    herds = ranef.glmm(
        "cbind(incidence, size - incidence) ~ period + (1 | herd)",
        ranef.data.load("cbpp"), family="binomial",
    )  # fmt: skip
    return {
        "means": oats.emmeans("Variety"),
        "contrasts": oats.contrasts("Variety"),
        "anova": oats.anova(),
        "ranks": herds.rank(),
        "ratios": herds.standardized_ratios(),
        "variances": oats.variance_test(),
    }


NAMES = ["means", "contrasts", "anova", "ranks", "ratios", "variances"]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("ending", [".docx", ".tex", ".html", ".md", ".txt"])
def test_every_answer_in_every_format(
    answers: dict[str, Any], tmp_path: Path, name: str, ending: str
) -> None:
    path = tmp_path / f"t{ending}"
    assert answers[name].write(path, title="A title & more") == path
    if ending == ".docx":
        from docx import Document

        document = Document(str(path))
        assert document.paragraphs[0].text == "A title & more"
        assert len(document.tables[0].rows) > 2
    else:
        assert "A title" in path.read_text(encoding="utf-8")


def test_decimals_and_apa(answers: dict[str, Any]) -> None:
    apa = answers["contrasts"].to_markdown(style="apa", digits=1)
    row = next(line for line in apa.splitlines() if "Golden Rain - Marvellous" in line)
    table = answers["contrasts"].tidy()
    cells = [cell.strip() for cell in row.split("|")[2:-1]]
    assert cells[0] == f"{table['estimate'][0]:.1f}"
    assert f"{table['p_value'][0]:.3f}".removeprefix("0") in cells
    nitro = answers["anova"].to_markdown(style="apa")
    assert "< .001" in nitro
    assert "< 0.0001" not in nitro


def test_labels(answers: dict[str, Any]) -> None:
    written = answers["means"].to_latex(labels={"Victory": "Victory oats", "estimate": "Mean"})
    assert "Victory oats" in written
    assert "Mean" in written
    assert "estimate" not in written


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ({"digits": -1}, "digits must be from 0 to 12"),
        ({"digits": 2.5}, "digits must be a whole number"),
        ({"style": "APA7"}, "style='APA7' is not known"),
        ({"table": "absent"}, "table='absent' is not known"),
    ],
)
def test_wrong_wishes(answers: dict[str, Any], how: dict[str, Any], said: str) -> None:
    with pytest.raises(ModelError, match=said):
        answers["means"].to_html(**how)


def test_an_ending_that_is_none(answers: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(FileError, match=r"one of \.docx, \.tex"):
        answers["means"].write(tmp_path / "t.pdf")


def test_models_of_a_comparison_are_named_with_families_and_parts() -> None:
    counts = ranef.data.load("Salamanders")
    small = ranef.glmm("count ~ mined + (1 | site)", counts, family="poisson")
    large = ranef.glmm("count ~ mined + (1 | site)", counts, family="nbinom2", zero="~ mined")
    found = ranef.anova({"counts": small, "with zeros": large})
    assert list(found.tidy()["model"]) == ["counts", "with zeros"]
    said = str(found)
    assert "counts: count ~ mined + (1 | site), poisson (log)" in said
    assert "with zeros: count ~ mined + (1 | site), nbinom2 (log), zero ~ mined" in said
    assert "counts in with zeros: " in said
    table = str(ranef.table({"counts": small, "with zeros": large}))
    assert table.split("Family")[1].split()[:4] == ["poisson", "(log)", "nbinom2", "(log)"]


def test_labels_reach_responses_columns_and_levels() -> None:
    counts = ranef.data.load("Salamanders")
    fit = ranef.glmm("count ~ mined + (1 | site)", counts, family="poisson")
    labels = {"count": "Salamanders", "mined": "Mining", "no": "none", "yes": "some"}
    assert "Mean of Salamanders" in fit.emmeans("mined").to_markdown(labels=labels)
    assert "| some / none |" in fit.contrasts("mined").to_markdown(labels=labels)
    table = ranef.table(fit, labels=labels).to_text()
    assert table.startswith("Mixed model of Salamanders")
    assert "Mining: none " in table
    with pytest.raises(DataError, match="labels names a term 'minned' that no model has; did you"):
        ranef.table(fit, labels={"minned": "Mining"})
