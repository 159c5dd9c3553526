"""Levels, names and titles of strangers in every output: they stay text, and can be seen."""

from __future__ import annotations

import csv
import html.parser
import json
import re
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import ranef
import ranef.report
from ranef.cli.main import main
from ranef.display.characters import markdown, paragraph, tex, visible
from ranef.display.sheet import Block, Row, Sheet

HOSTILE = [
    "<script>alert(1)</script>", "<img src=x onerror=alert(1)>", "[x](javascript:alert(1))",
    "![x](http://evil.example/a.png)", "a\nb|c", "a\r\n\r\n# head", "\x1b[31mred\x1b[0m", "\ufffe",
    "\x00nul", "\x07bell\x7f", "https://evil.example", "www.evil.example", "a &amp; &lt;b&gt;",
    "`code`", "**bold** _it_", "~~gone~~", "$x$ \\cmd {y} \\input{/etc/passwd}", "100% #1 a_b^c~d",
    "\u202egnp.exe", "|", "\\", "-- x", "=cmd|' /C calc'!A0", "<!-- x", "]]>", "\u2028line",
]  # fmt: skip
HIDDEN = re.compile("[\x00-\x08\x0b-\x1f\x7f\u202a-\u202e\u2066-\u2069\ufffe\uffff\u2028]")


def table(word: str) -> Any:
    data = ranef.data.load("sleepstudy")
    group = np.where(np.arange(180) // 10 % 2 == 0, word, "plain")
    return data.assign(f=group, g=[f"{s} {word}" for s in data["Subject"]])


@pytest.fixture(scope="module")
def fit() -> Any:
    """Return a fit with all the words at once, in a predictor, a group and a column's name."""
    data = ranef.data.load("sleepstudy")
    words = np.array(HOSTILE, dtype=object)
    data["f"] = words[np.arange(180) % len(words)]
    data["g"] = [f"{s}{words[int(s) % len(words)]}" for s in data["Subject"]]
    name = "na\x01me\ufffe<b>|"
    data[name] = data["Days"]
    return ranef.lmm(f"Reaction ~ f + `{name}` + (1 | g)", data)


class Tags(html.parser.HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.seen: set[str] = set()
        self.attributes: set[str] = set()

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.seen.add(tag)
        self.attributes |= {key for key, _ in attrs}
        for key, value in attrs:
            assert not (key in ("href", "src") and value and not value.startswith(("#", "data:")))


def assert_harmless_page(page: str) -> None:
    assert not HIDDEN.search(page)
    tags = Tags()
    tags.feed(page)
    assert not tags.seen & {"img", "iframe", "object", "base", "form"}
    assert not any(name.startswith("on") for name in tags.attributes)
    assert "alert(1)</script>" not in page


@pytest.mark.parametrize("word", HOSTILE)
def test_a_cell_of_markdown_stays_one_cell_of_text(word: str) -> None:
    blocks = (Block(word, (Row(word, ((word,), (word,))),)),)
    sheet = Sheet(word, (word, "B"), ((word,), (word,)), blocks, (word, f"# {word}"))
    text = sheet.markdown()
    assert not HIDDEN.search(text)
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert len(rows) == 4
    assert {len(re.findall(r"(?<!\\)(?:\\\\)*\|", row)) for row in rows} == {4}
    bare = re.sub(r"\\.", "", text)
    assert not re.search(r"<[A-Za-z/!?]|\]\(|[`~]|(?<!:)//|www\.", bare)
    assert not re.search(r"^(#|>|\+|-|=|\d+[.)])", text.rpartition("|\n")[2], re.MULTILINE)


@pytest.mark.parametrize("word", HOSTILE)
def test_pieces_of_latex_stay_text(word: str) -> None:
    written = tex(word)
    assert not HIDDEN.search(written)
    assert "\n" not in written
    commands = set(re.findall(r"\\([A-Za-z]+)", written))
    assert commands <= {"textbackslash", "textasciitilde", "textasciicircum", "textbar",
                        "textless", "textgreater"}  # fmt: skip
    assert not re.search(r"(?<!\\)[%$&#_]", written)


def test_tables_for_papers_hold_every_word(fit: Any, tmp_path: Path) -> None:
    made = ranef.table({HOSTILE[0]: fit}, title=HOSTILE[4])
    for ending in ("docx", "tex", "html", "md", "txt"):
        made.save(tmp_path / f"a.{ending}")
    for ending in ("tex", "html", "md", "txt"):
        assert not HIDDEN.search((tmp_path / f"a.{ending}").read_text("utf-8"))
    assert_harmless_page((tmp_path / "a.html").read_text("utf-8"))
    with zipfile.ZipFile(tmp_path / "a.docx") as archive:
        document = archive.read("word/document.xml").decode()
    assert "&lt;script&gt;" in document
    assert not HIDDEN.search(document)


QUESTIONS: dict[str, Callable[[Any], Any]] = {
    "summary": lambda fit: fit.summary(),
    "repr": lambda fit: fit,
    "rank": lambda fit: fit.rank("g"),
    "means": lambda fit: fit.emmeans("f"),
    "anova": lambda fit: fit.anova(),
    "check": lambda fit: fit.check(influence=False, n=99),
    "posterior": lambda fit: fit.posterior("g"),
}


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("question", QUESTIONS)
def test_every_answer_shows_what_can_be_seen(fit: Any, question: str, tmp_path: Path) -> None:
    answer = QUESTIONS[question](fit)
    assert not HIDDEN.search(str(answer))
    assert_harmless_page(answer._repr_html_())
    if hasattr(answer, "to_markdown"):
        assert not HIDDEN.search(answer.to_markdown())
        assert not HIDDEN.search(answer.to_latex())
        assert_harmless_page(answer.to_html())
        answer.to_docx(tmp_path / "a.docx")


def test_equations_and_methods(fit: Any) -> None:
    assert not HIDDEN.search(str(fit.equation()))
    assert not HIDDEN.search(fit.equation().mathml)
    assert not HIDDEN.search(fit.methods())


def test_the_report_and_the_saved_file(fit: Any, tmp_path: Path) -> None:
    ranef.report.write(fit, tmp_path / "r.html", title=HOSTILE[0])
    assert_harmless_page((tmp_path / "r.html").read_text("utf-8"))
    fit.check(influence=False, n=99).save(tmp_path / "c.html")
    assert_harmless_page((tmp_path / "c.html").read_text("utf-8"))
    fit.save(tmp_path / "a.ranef")
    again = ranef.load(tmp_path / "a.ranef")
    assert again.names == fit.names  # words are changed in print alone
    assert list(again.factors[0].levels) == list(fit.factors[0].levels)


def test_a_spreadsheet_runs_no_level(tmp_path: Path) -> None:
    data = table("=cmd|' /C calc'!A0").assign(Subject=lambda d: "=1+2+" + d["Subject"].astype(str))
    data.to_csv(tmp_path / "d.csv", index=False)
    out = tmp_path / "o.csv"
    arguments = ["rank", "Reaction ~ f + (1 | Subject)", str(tmp_path / "d.csv"), "--out", str(out)]
    assert main([*arguments, "--quiet"]) == 0
    with out.open(newline="") as stream:
        levels = [row["level"] for row in csv.DictReader(stream)]
    assert len(levels) == 18
    assert all(level.startswith("'=1+2+") for level in levels)


def test_the_command_prints_and_writes_odd_words(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = table("a\ufffe\x1b[31m").to_csv(index=False)
    (tmp_path / "d.csv").write_text(text, encoding="utf-8")
    files = {option: tmp_path / name for option, name in (
        ("--report", "r.html"), ("--out", "o.json"), ("--table", "t.docx"), ("--save", "s.ranef"),
    )}  # fmt: skip
    options = [str(word) for pair in files.items() for word in pair]
    arguments = ["fit", "Reaction ~ f + (1 | g)", str(tmp_path / "d.csv"), "--check", *options]
    assert main(arguments) == 0
    out, err = capsys.readouterr()
    assert not HIDDEN.search(out + err)
    assert all(path.exists() for path in files.values())
    json.loads(files["--out"].read_text("utf-8"))


def test_plain_words_are_untouched() -> None:
    for word in (
        "Days",
        "(Intercept)",
        "x:y",
        "a & b",
        "p < 0.01",
        "50 - 60",
        "\u03b2\u00b2",
        "1.5",
    ):
        assert visible(word) == word
        assert markdown(word) == word
    assert paragraph("1.5 is a number") == "1\\.5 is a number"
    assert paragraph("Fitted by REML.") == "Fitted by REML."
