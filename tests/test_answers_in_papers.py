"""Tables of answers as a paper wants them: decimals, APA style, names, formats."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
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
    assert cells[0] == f"{table['estimate'][0]:.1f}".replace("-", "\u2212")
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


HOSTILE = [
    "<script>alert(1)</script>", "a|b", "one\ntwo", "5%_x & {y} #1 $z^2~ \\cmd",
    "\U0001f600", "L" * 200,
]  # fmt: skip


@pytest.fixture(scope="module")
def hostile() -> Any:
    rng = np.random.default_rng(1)
    data = pd.DataFrame({"g & <b>|": HOSTILE * 20, "s": np.repeat(np.arange(10), 12)})
    data["y_%"] = rng.normal(size=120) + rng.normal(size=10)[data["s"]]
    return ranef.lmm("`y_%` ~ `g & <b>|` + (1 | s)", data)


def test_hostile_names_and_levels(hostile: Any, tmp_path: Path) -> None:
    docx = pytest.importorskip("docx")
    means = hostile.emmeans("`g & <b>|`")
    assert "<script>" not in means.to_html()
    rows = [line for line in means.to_markdown().splitlines() if line.startswith("| ")]
    assert {line.count(" | ") for line in rows} == {5}
    latex = means.to_latex()
    assert r"5\%\_x \& \{y\} \#1 \$z\textasciicircum{}2\textasciitilde{}" in latex
    table = docx.Document(str(means.to_docx(tmp_path / "means.docx"))).tables[0]
    labels = [row.cells[0].text.strip().replace("\u00a0", " ") for row in table.rows]
    assert set(labels) >= {"a|b", "one two", "L" * 200, "<script>alert(1)</script>"}


def test_names_with_a_bar_stand_in_backticks(hostile: Any) -> None:
    assert len(hostile.contrasts("pairwise ~ `g & <b>|`").tidy()) == 15


def test_labels_find_terms_in_backticks(hostile: Any) -> None:
    assert "| Group |" in hostile.anova().to_markdown(labels={"g & <b>|": "Group"})


def test_counts_stay_whole_and_headings_are_words(answers: dict[str, Any]) -> None:
    line = answers["anova"].to_markdown(digits=3).splitlines()
    assert "| sum sq | mean sq | df1 |" in line[2]
    assert line[4].split(" | ")[3] == "1"


def test_negative_numbers_have_minus_signs(answers: dict[str, Any]) -> None:
    found = answers["contrasts"]
    assert (found.tidy()["estimate"] < 0).any()
    assert "$-$" in found.to_latex()
    assert "| -" not in found.to_markdown()


def test_joint_tests_are_f_tests(oats: Any) -> None:
    assert "By F tests with" in str(oats.joint_tests())


def test_joint_test_takes_rows_of_numbers(oats: Any) -> None:
    with pytest.raises(ModelError, match=r"fit.test\(\) takes names of coefficients"):
        oats.joint_test("nitro")


@pytest.fixture(scope="module")
def coded() -> Any:
    rng = np.random.default_rng(0)
    table = pd.DataFrame(
        {
            "ward": rng.integers(0, 20, 900).astype(str),
            "icd": [f"C{k:03d}" for k in rng.permutation(900) % 150],
            "visit": rng.choice(["Week 1", "Week 2", "Week 10"], 900),
            "length (days)": rng.normal(size=900),
            "y": rng.normal(size=900),
        }
    )
    return ranef.lmm("y ~ icd + visit + `length (days)` + (1 | ward)", table)


def test_many_categories_print_few_lines(coded: Any) -> None:
    means = coded.emmeans("icd")
    whole, short = repr(means), str(means.summary(short=True))
    assert len(means.tidy()) == 150
    assert "... 125 more: tidy()" in whole
    assert len(whole.splitlines()) < 36
    assert "... 138 more: tidy()" in short
    assert len(short.splitlines()) < 24
    assert len(str(coded.summary(short=True)).splitlines()) < 36
    assert means.to_markdown().count("| C") == 150
    with pytest.raises(ModelError, match="short"):
        means.summary(short="yes")


def test_names_in_papers_have_no_backticks(coded: Any) -> None:
    written = ranef.table(coded).to_markdown() + coded.anova().to_markdown()
    assert "length (days)" in written
    assert "`" not in written


def test_the_order_of_numbered_categories_is_pointed_out(coded: Any) -> None:
    said = "The levels of visit are in alphabetical order: Week 1, Week 10, Week 2"
    text = " ".join(str(coded.summary()).split())
    assert said in text
    assert "with Week 1, Week 2, Week 10 keeps the order" in text
    assert "levels of icd stand" not in text
    table = pd.DataFrame(coded.frame.rows_used())
    table["visit"] = pd.Categorical(table["visit"], ["Week 1", "Week 2", "Week 10"])
    ordered = ranef.lmm("y ~ visit + (1 | ward)", table)
    assert "alphabetical" not in str(ordered.summary())
    assert list(ordered.tidy()["term"])[1:] == ["visitWeek 2", "visitWeek 10"]
    grouped = ranef.lmm("y ~ 1 + (1 | visit)", table.assign(visit=table["visit"].astype(str)))
    assert "alphabetical" not in str(grouped.summary())


def test_a_joint_test_is_an_answer(oats: Any, tmp_path: Path) -> None:
    names = ["VarietyMarvellous", "VarietyVictory"]
    for found in (oats.test(names), ranef.robust(oats).test(names)):
        table = found.tidy()
        assert list(table.columns) == ["hypothesis", "statistic", "df1", "df2", "p_value"]
        assert table["statistic"][0] == found.statistic
        assert "VarietyMarvellous = 0; VarietyVictory = 0" in str(found)
        assert found.to_docx(tmp_path / "t.docx").exists()
    row = oats.test([[0, 1, 0, 0]], [0.5])
    assert row.tidy()["hypothesis"][0] == "nitro = 0.5"
    herds = ranef.glmm(
        "cbind(incidence, size - incidence) ~ period + (1 | herd)",
        ranef.data.load("cbpp"), family="binomial",
    )  # fmt: skip
    wald = herds.test(["period2", "period3"])
    assert "\u221e" in wald.to_markdown()
    assert r"$\infty$" in wald.to_latex()
    assert "df1 times F is Wald's chi-squared" in " ".join(str(wald).split())


def test_a_table_that_is_not_printed_can_be_written(oats: Any) -> None:
    rows = oats.leverage().to_markdown().splitlines()
    assert sum(line.startswith("| ") for line in rows) >= len(ranef.data.load("Oats"))


# --- the same wishes of every table


LABELS = {
    "Variety": "Sorte", "Marvellous": "Wunderbar", "nitro": "Stickstoff", "yield": "Ertrag",
    "Block": "Feld",
}  # fmt: skip


@pytest.fixture(scope="module")
def tiny() -> Any:
    sleep = ranef.data.load("sleepstudy")
    sleep["Reaction"] = sleep["Reaction"] / 1e5
    return ranef.lmm("Reaction ~ Days + (Days | Subject)", sleep)


def cells(markdown: str, begin: str) -> list[str]:
    """The cells of the line whose name begins so."""
    line = next(x for x in markdown.splitlines() if x.startswith(f"| {begin}"))
    return [cell.strip() for cell in line.strip("| ").split(" | ")]


def test_models_side_by_side_take_the_wishes_of_answers(oats: Any, tmp_path: Path) -> None:
    made = ranef.table(oats)
    how = {"digits": 1, "style": "apa", "labels": LABELS, "title": "Oats & more"}
    written = made.to_markdown(**how)
    assert written == ranef.table(oats, **how).to_markdown()
    assert written.startswith("**Oats & more**")
    assert cells(written, "Stickstoff")[1:] == ["73.7", "60.1 to 87.3", "< .001"]
    assert cells(written, "Sorte: Wunderbar")[1] == f"{oats.coef['VarietyMarvellous']:.1f}"
    assert cells(written, "Levels of Feld")[1] == "6"
    assert "Sorte: Wunderbar" in made.to_latex(**how)
    assert "Sorte: Wunderbar" in made.to_html(**how)
    assert "Sorte: Wunderbar" in made.to_text(**how)
    docx = pytest.importorskip("docx")
    for path in (made.to_docx(tmp_path / "a.docx", **how), made.write(tmp_path / "b.docx", **how)):
        document = docx.Document(str(path))
        names = [row.cells[0].text.replace("\u00a0", " ") for row in document.tables[0].rows]
        assert "\u2003Sorte: Wunderbar" in names
        assert document.paragraphs[0].text == "Oats & more"
    assert made.to_markdown() == ranef.table(oats).to_markdown()
    assert made.restyled(digits=1).to_markdown(style="apa") == made.to_markdown(
        digits=1, style="apa"
    )
    with pytest.raises(ModelError, match="digits must be from 0 to 12"):
        made.to_markdown(digits=-1)
    with pytest.raises(DataError, match="labels names a term 'nitrogen' that no model has"):
        made.to_latex(labels={"nitrogen": "N"})
    with pytest.raises(ModelError, match="title must be text"):
        made.to_html(title=3)


def test_decimals_do_not_make_zeros_of_small_numbers(tiny: Any, oats: Any) -> None:
    """0.00010 of 1.05e-4: two digits where two decimals would leave nothing."""
    row = cells(ranef.table(tiny).to_markdown(digits=2), "Days")
    low, high = tiny.tidy().set_index("term").loc["Days", ["conf_low", "conf_high"]]
    assert row[1:3] == ["0.00010", f"{low:.6f} to {high:.5f}"]
    means = tiny.emmeans("Days", at={"Days": [0]}).to_markdown(digits=2)
    assert cells(means, "0")[1:3] == ["0.0025", "0.000068"]
    shares = oats.collinearity()
    found = shares.listing("condition").table
    values = np.concatenate([v for name, v in found.items() if name.startswith("share")])
    small = int(((values > 0) & (values < 0.05)).sum())
    assert small > 2
    assert shares.to_markdown(table="condition", digits=1).count("< 0.1 |") == small


@pytest.mark.filterwarnings("ignore:The persons")
def test_decimals_reach_numbers_beside_words() -> None:
    sleep = ranef.data.load("sleepstudy").assign(x=lambda d: d["Days"] + d["Reaction"] / 100)
    found = ranef.diary(sleep, "Reaction", "x", person="Subject", time="Days")
    written = found.to_markdown(digits=1)
    assert cells(written, "x")[-1] == f"{found.effects()['slope_sd'][0]:.1f}"
    both = ranef.two_answers(
        "y ~ x", sleep.assign(y=(sleep["Reaction"] > 300).astype(int)), groups="Subject",
        family="binomial",
    )  # fmt: skip
    ratio = np.exp(both.tidy().query("term == 'x'")["estimate"]).iloc[0]
    assert cells(both.to_markdown(digits=1), "subject | x")[-2] == f"{ratio:.1f}"


def test_counts_are_whole_numbers_and_shares_are_not(oats: Any) -> None:
    assert cells(oats.icc().to_markdown(digits=2), "Block")[3:5] == ["6", "12"]
    assert cells(oats.collinearity().to_markdown(digits=2), "nitro")[1:] == ["1", "1.00", "1.00"]
    found = oats.check(n=50, influence=False).to_markdown(digits=2)
    assert cells(found, "levels of Block")[3] == "6"


def test_labels_of_levels_reach_coefficients_of_every_answer(oats: Any) -> None:
    names = ["VarietyMarvellous", "VarietyVictory"]
    for answer in (
        oats.bootstrap(3, rng=1), oats.profile(names), ranef.robust(oats), oats.test(names[:1]),
        oats.contrast({names[0]: 1}), oats.refit(oats.simulate(2, rng=1)),
        oats.influence(by="Block", method="one-step"),
    ):  # fmt: skip
        written = answer.to_markdown(labels=LABELS)
        assert "Sorte: Wunderbar" in written, type(answer).__name__
        assert "VarietyMarvellous |" not in written
    power = ranef.power(
        "y ~ arm + (1 | g)", {"g": 9, "arm": ["a", "b"]}, fixed={"armb": 1.0}, sd={"g": 1.0},
        sigma=1.0, test="armb", n=5, rng=1,
    )  # fmt: skip
    assert "| arm: Verum |" in power.to_markdown(labels={"b": "Verum"})
    variances = oats.r2().to_markdown(labels=LABELS)
    assert r"| 1 \| Feld |" in variances


def test_names_of_rows_have_their_heads_in_the_head(oats: Any) -> None:
    means = oats.emmeans(["Variety", "nitro"], at={"nitro": [0, 0.2]}).to_markdown().splitlines()
    assert means[2].startswith("| Variety | nitro | estimate |")
    assert means[4].startswith("| Golden Rain | 0 | ")
    page = oats.emmeans("Variety").to_html()
    assert '<th scope="col" class="words">Variety</th>' in page
    assert '<th scope="rowgroup"' not in page
    assert "Variety & estimate" in oats.emmeans("Variety").to_latex()
    lines = oats.emmeans("Variety").sheet().text().splitlines()
    assert lines[2].startswith("Variety")
    assert lines[3].startswith("Golden Rain")
    heads = oats.contrast({"nitro": 1}).to_markdown().splitlines()[2]
    assert "| 95% low | 95% high |" in heads
