"""The report: complete, well formed, safe from hostile labels, and seen in a browser."""

from __future__ import annotations

import itertools
import json
import os
import re
import shutil
import subprocess
import threading
from html import unescape
from html.parser import HTMLParser
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import ranef
from ranef.display.files import write_atomically
from ranef.display.markup import Markup, element, text
from ranef.display.numbers import align, decimals, number, p_value, typeset
from ranef.errors import FileError
from ranef.report.page import html, write

VOID = {"meta", "link", "br", "img", "hr", "input", "col", "wbr"}

EVIL = "<script>document.title='pwned'</script>"
EVIL_IMAGE = '"><img src=x onerror="document.title=\'pwned\'">'


class Page(HTMLParser):
    """A page read strictly: every element is closed in order."""

    def __init__(self, source: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.words: dict[str, list[str]] = {}
        self.feed(source)
        self.close()
        assert self.open == [], f"never closed: {self.open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert len(dict(attrs)) == len(attrs), f"attribute given twice in <{tag}>"
        self.elements.append((tag, dict(attrs)))
        if tag in ("h1", "h2", "caption", "th", "figcaption", "title"):
            self.words.setdefault(tag, []).append("")
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> closes nothing"
        assert self.open[-1] == tag, f"</{tag}> closes <{self.open[-1]}>"
        self.open.pop()

    def handle_data(self, data: str) -> None:
        for tag in self.open:
            if tag in self.words:
                self.words[tag][-1] += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


@pytest.fixture(scope="module")
def sleep() -> Any:
    return ranef.lmm("Reaction ~ Days + (Days | Subject)", ranef.data.load("sleepstudy"))


@pytest.fixture(scope="module")
def page(sleep: Any) -> str:
    return html(sleep, call="ranef fit 'Reaction ~ Days + (Days | Subject)' sleepstudy")


@pytest.fixture(scope="module")
def hostile() -> Any:
    data = ranef.data.load("sleepstudy")
    levels = [f"{EVIL}{EVIL_IMAGE}{level}" for level in data["Subject"].cat.categories]
    renamed = pd.DataFrame(
        {
            EVIL: data["Reaction"],
            EVIL_IMAGE: data["Days"],
            "g&<b>": data["Subject"].cat.rename_categories(levels),
        }
    )
    renamed.loc[2, EVIL] = np.nan
    return ranef.lmm(f"`{EVIL}` ~ `{EVIL_IMAGE}` + (1 | `g&<b>`)", renamed)


# --- structure -----------------------------------------------------------------------


def test_the_page_is_well_formed_and_in_order(page: str) -> None:
    read = Page(page)
    assert page.startswith("<!DOCTYPE html>\n")
    assert read.all("html") == [{"lang": "en"}]
    assert len(read.all("h1")) == 1
    assert read.words["h2"] == [
        "Model",
        "Data",
        "Fixed effects",
        "Predictions",
        "Variance components",
        "Random effects",
        "Does the model fit?",
        "Profile of the likelihood",
        "Certificate of the optimum",
        "How to reproduce",
    ]
    order = [int(tag[1]) for tag, _ in read.elements if re.fullmatch(r"h[1-6]", tag)]
    assert order[0] == 1
    assert all(later - earlier <= 1 for earlier, later in itertools.pairwise(order))
    assert [tag for tag in ("header", "main", "footer", "nav") if len(read.all(tag)) != 1] == []
    assert read.words["title"] == ["Linear mixed model of Reaction"]


def test_names_are_unique_and_links_lead_somewhere(page: str) -> None:
    read = Page(page)
    ids = [a["id"] for _, a in read.elements if "id" in a]
    assert len(ids) == len(set(ids))
    links = [a["href"] for a in read.all("a")]
    assert len(links) == 10
    assert {str(link).removeprefix("#") for link in links} <= set(ids)
    used = [str(a["xlink:href"]).removeprefix("#") for a in read.all("use")]
    assert used
    assert set(used) <= set(ids)
    clips = re.findall(r"url\(#([^)]*)\)", page)
    assert clips
    assert set(clips) <= set(ids)


def test_the_page_needs_no_network_and_no_script(page: str) -> None:
    read = Page(page)
    assert "http:" not in page
    assert "https:" not in page
    assert not read.all("script")
    assert not read.all("link")
    assert not read.all("iframe")
    assert "@import" not in page
    for _, attributes in read.elements:
        for name, value in attributes.items():
            assert not name.startswith("on")
            if name in ("src", "href", "xlink:href"):
                assert str(value).startswith(("#", "data:image/png;base64,"))


def test_every_table_has_a_caption_and_headers_with_scope(page: str) -> None:
    read = Page(page)
    assert len(read.all("table")) == len(read.all("caption")) >= 6
    assert {a["scope"] for a in read.all("th")} == {"row", "col"}
    assert all(words.strip() for words in read.words["caption"])
    assert all(words.strip() for words in read.words["th"])


def test_every_picture_has_words(page: str) -> None:
    read = Page(page)
    pictures = ["fixed", "predictions", "random", "shrinkage", "ranks", "residuals", "qq", "scale"]
    pictures += ["influence0", "simulated", "effects", "profile"]
    assert len(read.all("svg")) == len(read.all("figcaption")) == len(pictures)
    assert len(read.all("figure")) == len(pictures)
    ids = {str(a["id"]) for _, a in read.elements if "id" in a}
    for name in pictures:
        assert any(found.startswith(f"{name}-") for found in ids), name
    words = [str(picture["aria-label"]) for picture in read.all("svg")]
    assert len(set(words)) == len(words)
    for picture in read.all("svg"):
        assert picture["role"] == "img"
        assert len(str(picture["aria-label"])) > 40


# --- content -------------------------------------------------------------------------


def test_the_page_says_what_was_found(sleep: Any, page: str) -> None:
    plain = re.sub(r"<style>.*?</style>|<[^>]*>", " ", page, flags=re.DOTALL)
    plain = re.sub(r"\s+", " ", plain.replace("\u2212", "-"))
    for found in (
        "Reaction ~ Days + (Days | Subject)",
        "fitted by restricted maximum likelihood (REML) to 180 rows",
        "The intercept and the coefficient of Days vary between the 18 levels of Subject",
        "-871.814",
        "251.41",
        "10.47",
        "24.74",
        "5.922",
        "25.59",
        "0.066",
        "The optimum is proved",
        "0.96673, 0.01517, 0.23091",
        "ranef.lmm(&#x27;Reaction ~ Days + (Days | Subject)&#x27;, data)",
        "ranef fit &#x27;Reaction ~ Days + (Days | Subject)&#x27; sleepstudy",
        ranef.__version__,
    ):
        assert found in plain, found
    assert f"Evaluations {sleep.optimum.evaluations} " in plain


def test_dropped_rows_and_redundant_columns_are_accounted_for() -> None:
    data = ranef.data.load("sleepstudy").assign(Twice=lambda d: 2 * d["Days"])
    data.loc[[0, 5, 9], "Reaction"] = np.nan
    with pytest.warns(ranef.errors.RankWarning):
        fit = ranef.lmm("Reaction ~ Days + Twice + (1 | Subject)", data)
    page = html(fit)
    assert "The table has 180 rows; 177 are in the model and 3 are left out." in page
    assert '<th scope="row">Reaction</th><td class="n">3</td>' in page
    assert "<code>Twice</code>" in page


def test_a_boundary_is_reported_in_words() -> None:
    fit = ranef.lmm("Yield ~ 1 + (1 | Batch)", ranef.data.load("Dyestuff2"))
    page = html(fit)
    assert "it lies on a boundary" in page
    assert fit.optimum.faces[0].description in page
    assert "rank 0 of 1" in page


def test_an_unproved_optimum_is_not_called_proved(sleep: Any) -> None:
    from dataclasses import replace

    optimum = replace(sleep.optimum, converged=False, message="the budget ran out")
    unproved = type(sleep)(replace(sleep.estimate, optimum=optimum), sleep.frame)
    page = html(unproved)
    assert "The search did not prove an optimum: the budget ran out." in page
    assert "<dd>not proved</dd>" in page


@pytest.mark.parametrize(
    ("formula", "name", "said"),
    [
        ("diameter ~ 1 + (1 | plate) + (1 | sample)", "Penicillin", "varies between the 24 levels"),
        ("strength ~ 1 + (1 | batch/cask)", "Pastes", "varies between the 30 levels of cask:batch"),
        (
            "angle ~ recipe * temperature + (1 | recipe:replicate)",
            "cake",
            "recipe, temperature and recipe:temperature.",
        ),
        ("distance ~ age + (age || Subject)", "Orthodont", "The coefficient of age varies"),
        ("score ~ 0 + Machine + (0 + Machine | Worker)", "Machines", "all correlated"),
    ],
)
def test_models_of_every_shape_make_a_page(formula: str, name: str, said: str) -> None:
    page = html(ranef.lmm(formula, ranef.data.load(name)))
    Page(page)
    assert said in page


def test_options_reach_the_page(sleep: Any) -> None:
    page = html(sleep, title="Sleep & time", conf_level=0.8)
    assert "<h1>Sleep &amp; time</h1>" in page
    assert "80% low" in page
    said = page.replace("holds 95% of the points", "").replace("95% of correct models", "")
    assert "95%" not in said


def test_the_page_says_how_to_reproduce_the_fit() -> None:
    data = ranef.data.load("sleepstudy").assign(w=2.0, start=lambda d: d["Days"] / 2)
    formula = "Reaction ~ Days + (1 | Subject)"
    named = html(ranef.lmm(formula, data, reml=False, weights="w", offset="start"))
    assert "data, reml=False, weights=&#x27;w&#x27;, offset=&#x27;start&#x27;)" in named
    given = html(ranef.lmm(formula, data, weights=data["w"], offset=data["start"]))
    assert "data, weights=weights, offset=offset)" in given


def test_the_same_fit_makes_the_same_page(sleep: Any, page: str) -> None:
    again = html(sleep, call="ranef fit 'Reaction ~ Days + (Days | Subject)' sleepstudy")
    assert again == page


# --- what the fit is asked ------------------------------------------------------------


def plain_words(page: str) -> str:
    """The text of a page on one line, with plain minus signs."""
    words = re.sub(r"<style>.*?</style>|<[^>]*>", " ", page, flags=re.DOTALL)
    return re.sub(r"\s+", " ", unescape(words).replace("\u2212", "-"))


def test_the_page_answers_what_is_asked_of_a_fit(sleep: Any, page: str) -> None:
    words = plain_words(page)
    icc = sleep.icc().groups[0]
    profile = sleep.profile("Days").confint(0.95).iloc[0]
    worst = sleep.influence().tidy().nlargest(1, "cook").iloc[0]
    for found in (
        f"Marginal R² {sleep.r2().marginal:.3f}",
        f"conditional R² {sleep.r2().conditional:.3f}",
        f"{icc.adjusted:.3f}",
        f"{icc.design_effect:.2f}",
        sleep.check().headline,
        "The residuals are heavier in the tails than normal",
        f"{profile['conf_low']:.2f} {profile['conf_high']:.2f}",
        "nor a causal claim",
        sleep.methods(),
    ):
        assert found in words, found
    said = " ".join(str(picture["aria-label"]) for picture in Page(page).all("svg"))
    for found in (
        "population goes from 251 (0) to 346 (9)",
        "from 2.0 (309)",
        f"the largest is {worst['cook']:.2g} ({worst['Subject']})",
        "Raw and shrunken estimates of Days by Subject, centre 10.5: 18 of 18 levels",
        "0 of 18 outside the band",
    ):
        assert found in said, found


def test_degrees_of_freedom_reach_table_means_and_methods() -> None:
    oats = ranef.data.load("Oats").drop(index=[3, 17, 30])
    fit = ranef.lmm("yield ~ nitro + Variety + (1 | Block/Variety)", oats)
    words = plain_words(html(fit, df="kenward-roger"))
    fixed = fit.tidy(df="kenward-roger").set_index("term").loc["VarietyVictory"]
    low, high = fixed["conf_low"], fixed["conf_high"]
    assert f"{low:.2f} {high:.2f} {fixed['df']:.1f}" in words
    means = fit.emmeans("Variety", df="kenward-roger").tidy(tests=False).iloc[0]
    assert f"Golden Rain {means['estimate']:.2f}" in words
    assert f"{means['conf_low']:.2f} {means['conf_high']:.2f}" in words
    assert fit.methods(df="kenward-roger") in words
    assert "Kenward" in words
    assert words.count("Variety:Block: expected") == 1


def test_factors_have_their_means_and_arrows() -> None:
    fit = ranef.lmm("effort ~ Type + (1 | Subject)", ranef.data.load("ergoStool"))
    page = html(fit)
    words = plain_words(page)
    assert "Mean of effort by Type" in words
    assert "Arrows that do not overlap: different at the 5% level" in words
    assert "T1 8.556 0.576" in words
    said = [str(a["aria-label"]) for a in Page(page).all("svg")]
    assert any(text.startswith("Marginal means by Type") and "T2: 12.4" in text for text in said)


def test_factors_that_interact_are_shown_together() -> None:
    cake = ranef.data.load("cake")
    fit = ranef.lmm("angle ~ recipe * temperature + (1 | recipe:replicate)", cake)
    said = [str(a["aria-label"]) for a in Page(html(fit)).all("svg")]
    (together,) = [t for t in said if t.startswith("Marginal means by temperature and recipe")]
    first = fit.emmeans(["temperature", "recipe"]).tidy(tests=False).iloc[0]
    assert f"{first['temperature']}, {first['recipe']}: {first['estimate']:.3g}" in together
    assert "arrows" not in together


def test_nothing_is_ranked_where_no_level_differs() -> None:
    page = html(ranef.lmm("Yield ~ 1 + (1 | Batch)", ranef.data.load("Dyestuff2")))
    read = Page(page)
    assert "Shrinkage and ranks are left out, since no level differs from another." in page
    assert "Predictions" not in read.words["h2"]
    assert "Profile of the likelihood" not in read.words["h2"]
    assert "Keep it if the design asks for it" in page


def test_many_levels_are_left_out_in_words() -> None:
    rng = np.random.default_rng(6)
    g = np.repeat(np.arange(1100), 3)
    x = rng.normal(size=len(g))
    y = x + rng.normal(size=1100)[g] + rng.normal(size=len(g))
    page = html(ranef.lmm("y ~ x + (1 | g)", pd.DataFrame({"y": y, "x": x, "g": g})))
    assert "1,100 arrows would hide each other; fit.plot.shrinkage() draws them" in page
    assert "Ranks are left out, since g has 1,100 levels" in page
    assert "shrinkage-" not in page
    assert len(page) < 2_000_000


def test_a_refusal_is_told_and_the_page_is_made(
    sleep: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(self: Any, *arguments: Any, **options: Any) -> Any:
        raise ranef.errors.ModelError("no answer to <that>.")

    for name in ("r2", "shrinkage", "rank", "check", "profile"):
        monkeypatch.setattr(type(sleep), name, refused)
    page = html(sleep)
    Page(page)
    assert page.count("no answer to &lt;that&gt;.") == 5


def test_too_many_rows_are_not_drawn_anew(sleep: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from ranef.questions.checks import section

    monkeypatch.setattr(section, "MOST_ROWS", 100)
    page = html(sleep)
    assert "since each of 180 rows would be drawn 99 times; ranef.check(fit)" in page
    assert "residuals-" in page
    assert "simulated-" not in page


# --- hostile labels ------------------------------------------------------------------


def test_labels_are_never_markup(hostile: Any) -> None:
    page = html(hostile, title=EVIL, call=EVIL_IMAGE)
    read = Page(page)
    assert not read.all("script")
    assert not read.all("img")
    assert not [a for _, a in read.elements if any(key.startswith("on") for key in a)]
    assert text(EVIL) in page
    assert EVIL not in page
    assert EVIL_IMAGE not in page


def test_markup_escapes_on_the_way_in() -> None:
    assert element("p", "<b>", title='"') == '<p title="&quot;">&lt;b&gt;</p>'
    assert element("p", Markup("<b></b>")) == "<p><b></b></p>"
    assert text("a\x00b\x07c\ud800") == "a\u2400b\u2407c\ufffd"


# --- numbers -------------------------------------------------------------------------


def test_numbers_have_the_digits_their_error_allows() -> None:
    assert [decimals(value) for value in (123.0, 9.99, 0.01, 0.0, float("nan"))] == [0, 2, 4, 3, 3]
    assert decimals(1e-12) is None
    assert number(-0.0001, 2) == "0.00"
    assert typeset(number(float("nan"), 3)) == "\u2013"
    assert typeset(number(float("-inf"), 0)) == "\u2212\u221e"
    assert typeset(number(-12345.6, 1)) == "\u221212,345.6"
    assert typeset(number(3.2e-12, None)) == "3.2e\u221212"
    assert [p_value(p) for p in (0.00004, 0.0005, 1.0)] == ["< 0.0001", "0.0005", "1.0000"]


def test_decimal_points_stand_under_each_other() -> None:
    cells = align(["1.25", "10", "3.5"])
    assert len({len(cell) - cell.find(".") for cell in cells if "." in cell}) == 1
    assert len(cells[1]) == len("10.25")


# --- contrast ------------------------------------------------------------------------


def luminance(colour: str) -> float:
    """Relative luminance, WCAG 2.2."""
    digits = colour.lstrip("#")
    digits = digits if len(digits) == 6 else "".join(2 * d for d in digits)
    rgb = np.array([int(digits[i : i + 2], 16) for i in (0, 2, 4)]) / 255
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    return float(linear @ [0.2126, 0.7152, 0.0722])


def contrast(one: str, other: str) -> float:
    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def test_words_and_marks_meet_wcag_aa_in_light_dark_and_print() -> None:
    style = files("ranef.display").joinpath("page.css").read_text("utf-8")
    palettes = [
        dict(re.findall(r"--(\w+): (#\w+);", block))
        for block in re.findall(r":root \{(.*?)\}", style, flags=re.DOTALL)
    ]
    assert len(palettes) == 3
    for colours in palettes:
        for ground in ("paper", "soft"):
            for words in ("ink", "muted", "mark"):
                assert contrast(colours[words], colours[ground]) >= 4.5, (words, ground)
            for mark in ("mark", "accent", "good"):
                assert contrast(colours[mark], colours[ground]) >= 3.0, (mark, ground)
        assert contrast(colours["mark"], colours["band"]) >= 3.0


# --- files ---------------------------------------------------------------------------


def test_a_report_is_written_whole(sleep: Any, page: str, tmp_path: Path) -> None:
    target = tmp_path / "fit.html"
    target.write_text("before")
    call = "ranef fit 'Reaction ~ Days + (Days | Subject)' sleepstudy"
    assert write(sleep, target, call=call) == target
    assert target.read_text("utf-8") == page
    assert [entry.name for entry in tmp_path.iterdir()] == ["fit.html"]


def test_a_failed_write_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "fit.html"
    target.write_text("before")

    def full(handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(FileError, match="no space left on device"):
        write_atomically(target, "after")
    assert target.read_text() == "before"
    assert [entry.name for entry in tmp_path.iterdir()] == ["fit.html"]


def test_an_interrupted_write_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(handle: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_atomically(tmp_path / "fit.html", "after")
    assert list(tmp_path.iterdir()) == []


def test_places_that_cannot_hold_a_file_are_named(tmp_path: Path) -> None:
    with pytest.raises(FileError, match="is a folder"):
        write_atomically(tmp_path, "x")
    with pytest.raises(FileError, match="no such file or directory"):
        write_atomically(tmp_path / "nowhere" / "a.html", "x")


def test_a_new_file_is_as_readable_as_any_other(tmp_path: Path) -> None:
    ordinary = tmp_path / "ordinary"
    ordinary.write_text("x")
    made = write_atomically(tmp_path / "made", "x")
    assert made.stat().st_mode == ordinary.stat().st_mode


# --- a real browser ------------------------------------------------------------------

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
BROWSER = next((found for name in BROWSERS if (found := shutil.which(name))), None)

needs_browser = pytest.mark.skipif(
    BROWSER is None, reason=f"no browser found (looked for {', '.join(BROWSERS)})"
)

MEASURE = """<script>
const size = node => { const box = node.getBoundingClientRect(); return [box.width, box.height]; };
const sizes = name => [...document.querySelectorAll(name)].map(size);
document.documentElement.setAttribute("data-measured", JSON.stringify({
  title: document.title, overflow: document.documentElement.scrollWidth - window.innerWidth,
  width: window.innerWidth, math: sizes("math"), svg: sizes("figure > svg"), h1: sizes("h1"),
  images: document.images.length, requests: performance.getEntriesByType("resource").length,
  text: document.body.innerText.length,
}));
</script></body>"""


def browse(folder: Path, page: str, *options: str) -> str:
    """Open a page in a new headless browser without network; return its output."""
    source = folder / "page.html"
    source.write_text(page, encoding="utf-8")
    command = [
        str(BROWSER),
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-quic",
        "--disable-dev-shm-usage",
        "--no-first-run",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
        "--host-resolver-rules=MAP * ~NOTFOUND",
        f"--user-data-dir={folder / 'profile'}",
        *options,
        source.as_uri(),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    return done.stdout


def measured(folder: Path, page: str, width: int) -> dict[str, Any]:
    """Lay the page out at a width and return what the browser measured."""
    output = browse(
        folder, page.replace("</body>", MEASURE), f"--window-size={width},900", "--dump-dom"
    )
    (written,) = (a["data-measured"] for a in Page(output.strip()).all("html"))
    found: dict[str, Any] = json.loads(str(written))
    return found


@needs_browser
@pytest.mark.parametrize("width", [1200, 500])
def test_a_browser_lays_the_page_out(page: str, tmp_path: Path, width: int) -> None:
    found = measured(tmp_path, page, width)
    assert found["title"] == "Linear mixed model of Reaction"
    assert found["requests"] == 0
    assert found["text"] > 1500
    assert found["overflow"] <= 0
    assert len(found["math"]) == 2
    assert all(wide > 60 and high > 30 for wide, high in found["math"])
    assert len(found["svg"]) == 12
    assert all(150 < wide < found["width"] and high > 60 for wide, high in found["svg"])
    assert all(wide > 100 for wide, _ in found["h1"])


@needs_browser
def test_hostile_labels_do_nothing_in_a_browser(hostile: Any, tmp_path: Path) -> None:
    page = html(hostile, title="unharmed", call=EVIL_IMAGE)
    found = measured(tmp_path, page, 1000)
    assert found["title"] == "unharmed"
    assert found["images"] == 0


@needs_browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_screenshot_shows_ink_on_paper(page: str, tmp_path: Path, scheme: str) -> None:
    from matplotlib.image import imread

    picture = tmp_path / "page.png"
    preference = "1" if scheme == "light" else "0"
    browse(
        tmp_path,
        page,
        "--window-size=1000,2400",
        "--hide-scrollbars",
        f"--blink-settings=preferredColorScheme={preference}",
        f"--screenshot={picture}",
    )
    pixels = imread(picture)[:, :, :3]
    paper = {"light": "#ffffff", "dark": "#14191f"}[scheme]
    ground = np.array([int(paper[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    inked = np.abs(pixels - ground).max(axis=2) > 0.25
    assert pixels.shape[:2] == (2400, 1000)
    assert 0.01 < inked.mean() < 0.25
    bands = inked.reshape(8, 300, 1000).any(axis=(1, 2))
    assert bands.all()


@needs_browser
def test_the_page_prints(page: str, tmp_path: Path) -> None:
    printed = tmp_path / "page.pdf"
    browse(tmp_path, page, "--no-pdf-header-footer", f"--print-to-pdf={printed}")
    content = printed.read_bytes()
    assert content.startswith(b"%PDF-")
    assert 2 <= len(re.findall(rb"/Type\s*/Page\b", content)) <= 12


def test_reports_of_two_threads_do_not_mix(sleep: Any, page: str) -> None:
    call = "ranef fit 'Reaction ~ Days + (Days | Subject)' sleepstudy"
    made: list[str] = []
    threads = [
        threading.Thread(target=lambda: made.append(html(sleep, call=call))) for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert made == [page, page, page]


def test_many_terms_are_counted() -> None:
    table = ranef.data.load("sleepstudy")
    rng = np.random.default_rng(1)
    for k in range(9):
        table[f"x{k}"] = rng.normal(size=len(table))
    fit = ranef.lmm("Reaction ~ " + " + ".join(f"x{k}" for k in range(9)) + " + (1|Subject)", table)
    assert "an intercept, x0, x1, x2, x3, x4, x5, x6 and 2 more terms." in html(fit)


def test_two_fields_may_name_their_sections_alike():
    from ranef.fields.dynamic.page import SECTIONS_OF_DYNAMICS
    from ranef.fields.structural.page import SECTIONS_OF_STRUCTURE
    from ranef.report.sections import SECTIONS

    for own in (SECTIONS_OF_DYNAMICS, SECTIONS_OF_STRUCTURE):
        places = [SECTIONS.index(section) for section in own]
        assert places == sorted(places)
        assert all(SECTIONS.count(section) == 1 for section in own)
