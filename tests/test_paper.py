"""Tables of several models, and the paragraph that says what was done."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import numpy as np
import polars as pl
import pytest
from docx import Document

import ranef
from ranef.display.sheet import Block, Row, Sheet
from ranef.errors import DataError, FileError, ModelError

SLEEP = ranef.data.load("sleepstudy")
INTERCEPTS = ranef.lmm("Reaction ~ Days + (1 | Subject)", SLEEP)
SLOPES = ranef.lmm("Reaction ~ Days + (Days | Subject)", SLEEP)
COUNTS = ranef.glmm(
    "count ~ mined + (1 | site)", ranef.data.load("Salamanders"), family="nbinom2", zero="~ mined"
)


def value(found: ranef.api.ModelTable, model: str, label: str, column: str = "estimate") -> float:
    rows = found.tidy()
    own = rows[(rows["model"] == model) & (rows["label"] == label)]
    assert len(own) == 1
    return float(own[column].iloc[0])


def test_numbers_are_those_of_the_fits():
    found = ranef.table({"a": INTERCEPTS, "b": SLOPES})
    assert value(found, "b", "Days") == SLOPES.coef["Days"]
    assert value(found, "b", "Days", "df") == pytest.approx(17)
    assert value(found, "a", "Subject: (Intercept)") == pytest.approx(37.123827, rel=1e-6)
    assert value(found, "b", "Subject: (Intercept) with Days") == pytest.approx(0.0655, abs=1e-4)
    assert value(found, "a", "ICC Subject") == pytest.approx(
        37.123827**2 / (37.123827**2 + 30.991234**2), rel=1e-6
    )
    assert value(found, "b", "AIC") == SLOPES.aic


def test_explained_variance_and_intraclass_correlations_with_slopes():
    found = ranef.table({"a": SLOPES, "b": COUNTS})
    assert value(found, "a", "Marginal R2") == ranef.r2(SLOPES).marginal
    assert value(found, "a", "Conditional R2") == pytest.approx(0.7992, abs=5e-5)
    assert value(found, "a", "ICC Subject") == ranef.icc(SLOPES).groups[0].adjusted
    assert value(found, "a", "ICC Subject") != pytest.approx(value(found, "a", "Conditional R2"))
    assert value(found, "b", "Conditional R2") == ranef.r2(COUNTS).conditional
    assert value(found, "b", "ICC site") == ranef.icc(COUNTS).adjusted
    with pytest.raises(ModelError, match="statistics"):
        ranef.table(SLOPES, statistics=["r22"])


def test_a_model_without_an_r2_has_no_line_of_one():
    rng = np.random.default_rng(8)
    group = np.repeat(np.arange(12), 15)
    y = np.array(["a", "b", "c"])[rng.integers(0, 3, len(group))]
    fit = ranef.glmm("y ~ 1 + (1 | group)", {"y": y, "group": group}, family="multinomial")
    with pytest.raises(ModelError):
        ranef.r2(fit)
    labels = [row.label for block in ranef.table(fit).sheet.blocks for row in block.rows]
    assert "Rows" in labels
    assert not any("R2" in label or "ICC" in label for label in labels)


def test_ratios_of_generalised_models_only():
    found = ranef.table([SLOPES, COUNTS], exponentiate=True)
    plain = COUNTS.tidy().set_index(["component", "term"])
    mined = plain.loc[("conditional", "minedno")]
    assert value(found, "Model 1", "Days") == SLOPES.coef["Days"]
    rows = found.tidy()
    own = rows[(rows["model"] == "Model 2") & (rows["label"] == "minedno")]
    assert own["section"].tolist()[0] == "Fixed effects"
    assert own["estimate"].iloc[0] == pytest.approx(np.exp(mined["estimate"]))
    assert own["std_error"].iloc[0] == pytest.approx(np.exp(mined["estimate"]) * mined["std_error"])
    assert own["conf_low"].iloc[0] == pytest.approx(np.exp(mined["conf_low"]))
    assert "Rate ratio" in repr(found)
    assert "Rate ratio" not in repr(ranef.table(COUNTS))


def test_lines_that_only_one_model_has_stand_in_their_order():
    other = ranef.lmm("Reaction ~ I(Days^2) + Days + (1 | Subject)", SLEEP)
    found = ranef.table([INTERCEPTS, other])
    labels = [row.label for row in found.sheet.blocks[0].rows]
    assert labels == ["(Intercept)", "I(Days^2)", "Days"]


def test_what_may_not_be_compared_is_said():
    other = ranef.lmm("Reaction ~ Days + I(Days^2) + (1 | Subject)", SLEEP)
    assert "differ in their fixed effects" in repr(ranef.table([INTERCEPTS, other]))
    assert "differ in their fixed effects" not in repr(ranef.table([INTERCEPTS, SLOPES]))
    ml = ranef.lmm("Reaction ~ Days + (1 | Subject)", SLEEP, reml=False)
    assert "some by ML" in repr(ranef.table([INTERCEPTS, ml]))
    fewer = ranef.lmm("Reaction ~ Days + (1 | Subject)", SLEEP.iloc[5:])
    assert "different rows" in repr(ranef.table([INTERCEPTS, fewer]))
    assert "different responses" in repr(ranef.table([INTERCEPTS, COUNTS]))
    flat = ranef.lmm("Yield ~ 1 + (1 | Batch)", ranef.data.load("Dyestuff2"))
    assert "(singular): Model" in repr(ranef.table(flat))


def test_names_of_the_paper():
    found = ranef.table(SLOPES, labels={"Days": "Day", "Subject": "Person"}, title="Sleep")
    labels = [row.label for block in found.sheet.blocks for row in block.rows]
    assert {"Day", "Person: Day", "Person: (Intercept) with Day"} <= set(labels)
    assert repr(found).startswith("Sleep\n")
    with pytest.raises(DataError, match="did you mean 'Days'"):
        ranef.table(SLOPES, labels={"Dayz": "Day"})


class Cells(HTMLParser):
    """Counts the columns that each line of a table spans."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[int] = []

    def handle_starttag(self, tag, attrs):
        if tag == "tr":
            self.lines.append(0)
        if tag in ("td", "th"):
            self.lines[-1] += int(dict(attrs).get("colspan", 1))


def test_every_line_of_every_format_has_all_columns(tmp_path):
    found = ranef.table({"a|b & c_d": SLOPES, "<b>": COUNTS}, columns=["estimate", "df", "p_value"])
    parser = Cells()
    parser.feed(found.to_html())
    assert set(parser.lines) == {7}
    assert "&lt;b&gt;" in found.to_html()
    tex = found.to_latex()
    rows = [line for line in tex.splitlines() if line.endswith(r"\\")]
    for row in rows:
        spans = [int(n) for n in re.findall(r"\\multicolumn\{(\d+)\}", row)]
        cells = len(re.findall(r"(?<!\\)&", row)) + 1
        assert cells + sum(spans) - len(spans) == 7
    assert r"a\textbar{}b \& c\_d" in tex
    pipes = [line for line in found.to_markdown().splitlines() if line.startswith("|")]
    assert {len(re.findall(r"(?<!\\)\|", line)) for line in pipes} == {8}
    found.save(tmp_path / "t.docx")
    document = Document(str(tmp_path / "t.docx"))
    [table] = document.tables
    assert len(table.columns) == 7
    texts = [row.cells[0].text for row in table.rows]
    assert "\u2003Days" in texts
    row = table.rows[texts.index("\u2003Days")]
    assert row.cells[1].text == "10.47"
    assert any("Optimum" in p.text or "likelihood" in p.text for p in document.paragraphs)


@pytest.mark.parametrize("ending", ["tex", "html", "md", "txt"])
def test_files_by_their_ending(tmp_path, ending):
    target = tmp_path / f"t.{ending}"
    ranef.table(SLOPES, out=target)
    assert "10.47" in target.read_text("utf-8")


def test_what_is_refused(tmp_path):
    with pytest.raises(FileError, match=r"\.docx, \.tex"):
        ranef.table(SLOPES, out=tmp_path / "t.xlsx")
    with pytest.raises(FileError, match="cannot write"):
        ranef.table(SLOPES, out=tmp_path / "nowhere" / "t.docx")
    with pytest.raises(ModelError, match="did you mean 'estimate'"):
        ranef.table(SLOPES, columns=["estimates"])
    with pytest.raises(ModelError, match="must be a list"):
        ranef.table(SLOPES, columns="estimate")
    with pytest.raises(ModelError, match="columns is empty"):
        ranef.table(SLOPES, columns=[])
    with pytest.raises(ModelError, match="no model"):
        ranef.table([])
    with pytest.raises(ModelError, match="'Model' is no fit"):
        ranef.table([SLEEP])


def test_polars_and_all_columns():
    fit = ranef.lmm("Reaction ~ Days + (Days | Subject)", pl.DataFrame(SLEEP.to_dict("list")))
    found = ranef.table(fit, columns=["estimate", "std_error", "interval", "statistic", "df"])
    assert isinstance(found.tidy(), pl.DataFrame)
    assert "17.0" in repr(found)


def test_categories_and_thresholds():
    wine = ranef.data.load("wine")
    fit = ranef.glmm("rating ~ temp + contact + (1 | judge)", wine, family="cumulative")
    found = ranef.table(fit, exponentiate=True)
    headings = [block.heading for block in found.sheet.blocks]
    assert "Thresholds" in headings
    row = next(r for b in found.sheet.blocks if b.heading == "Thresholds" for r in b.rows)
    threshold = fit.tidy().query("component == 'threshold'")["estimate"].iloc[0]
    assert float(row.cells[0][0].replace("\u2212", "-")) == pytest.approx(threshold, abs=0.01)


def test_an_empty_cell_and_a_wide_one_keep_the_columns_aligned():
    rows = Row("a", (("1",), ())), Row("b", ((), ("22", "333"))), Row("c", ((), ("w",)))
    heads = ("one", "a very long name of a model"), (("x",), ("x", "y"))
    sheet = Sheet("t", *heads, (Block("h", rows),), ())
    lines = sheet.text().splitlines()[2:]
    assert lines[0].endswith("a very long name of a model")
    assert lines[5].index("22") > lines[4].index("1")


def test_methods_say_what_was_done():
    text = SLOPES.methods()
    known = "restricted maximum likelihood", "180 rows", "18 levels of Subject", "Satterthwaite"
    for words in (*known, "95%", SLOPES.formula, f"ranef {ranef.__version__}"):
        assert words in text
    assert "n - p" in SLOPES.methods(df="residual")
    text = COUNTS.methods(conf_level=0.9)
    for words in ("nbinom2", "Laplace", "extra zero depended on mined", "90%", "yes for mined"):
        assert words in text
    with pytest.raises(ModelError, match="linear models"):
        COUNTS.methods(df="satterthwaite")


def test_methods_name_missing_rows_priors_and_boundaries():
    gaps = SLEEP.copy()
    gaps.loc[[3, 4], "Reaction"] = np.nan
    fit = ranef.lmm(
        "Reaction ~ Days + (1 | Subject)", gaps, priors={"sd": ranef.priors.Gamma(2, 0.1)}
    )
    assert "Of 180 rows, 2 were left out for missing values in Reaction (2)." in fit.methods()
    assert "penalised by the priors Gamma(shape=2, rate=0.1) on sd" in fit.methods()
    flat = ranef.lmm("Yield ~ 1 + (1 | Batch)", ranef.data.load("Dyestuff2"))
    assert "boundary of the parameter space" in flat.methods()


WORDS = Sheet(
    "Checks",
    ("",),
    (("Finding", "Verdict", "Number", "Limits"),),
    (
        Block(
            "What",
            (
                Row(
                    "a", (("The residuals are not normal: their tails are long.", "fine", "", ""),)
                ),
                Row("b", (("4 rows lie outside", "poor", "\u22120.25", "[0.1, 0.2]"),)),
                Row("c", (("Nothing", "fine", "< 0.001", ""),)),
            ),
        ),
    ),
    (),
)


def test_words_stand_left_and_numbers_right(tmp_path):
    assert WORDS.words() == [51, 4, 0, 0]
    assert r"\begin{tabular}{lp{0.50\linewidth}lrr}" in WORDS.latex()
    assert "|:--|:--|:--|--:|--:|" in WORDS.markdown()
    page = WORDS.html()
    assert '<th scope="col" class="words">Verdict</th><th scope="col">Number</th>' in page
    assert '<td class="words">fine</td><td>&lt; 0.001</td>' in page
    WORDS.write(tmp_path / "t.docx")
    [table] = Document(str(tmp_path / "t.docx")).tables
    sides = [str(cell.paragraphs[0].alignment).split()[0] for cell in table.rows[3].cells]
    assert sides == ["LEFT", "LEFT", "LEFT", "RIGHT", "RIGHT"]


def test_a_table_without_names_of_models_has_no_row_for_them(tmp_path):
    assert "cmidrule" not in WORDS.latex()
    assert r"\multicolumn{4}" not in WORDS.latex()
    assert '<tr class="models">' not in WORDS.html()
    WORDS.write(tmp_path / "t.docx")
    [table] = Document(str(tmp_path / "t.docx")).tables
    assert [cell.text for cell in table.rows[0].cells] == ["", *WORDS.columns[0]]
    assert len(table.rows) == 5
