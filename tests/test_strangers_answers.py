"""Words of strangers in the answers of every field: text, HTML, LaTeX, Word, pictures, files."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest
from test_strangers_words import HIDDEN, HOSTILE, assert_harmless_page

import ranef
import ranef.report
from ranef.errors import ModelError

WORDS = np.array([*HOSTILE, "$\\foo_{$", "a $b$ c_d"], dtype=object)
NAME = "na\x01me\ufffe<b>|"
QUOTED = f"`{NAME}`"
N = 240


def rows() -> pd.DataFrame:
    rng = np.random.default_rng(1)
    i = np.arange(N)
    person = i // 10
    data = pd.DataFrame(
        {
            "f": WORDS[i % 2],
            "g": [f"{k}{WORDS[k % len(WORDS)]}" for k in person],
            "arm": WORDS[person % 2 * 4],
            "visit": [f"{k:02d}{WORDS[k + 5]}" for k in i % 10],
            "t": i % 10.0,
            NAME: rng.normal(size=N),
            "b": rng.integers(0, 2, N),
            "c": rng.poisson(4, N),
            "o": pd.Categorical(WORDS[rng.integers(0, 3, N)]),
            "hour": pd.Timestamp("2024-03-01 09:00") + pd.to_timedelta(i % 10 * 5, "h"),
        }
    )
    return data.assign(y=data[NAME] / 3 + rng.normal(size=24)[person] + rng.normal(size=N))


def effects() -> pd.DataFrame:
    rng = np.random.default_rng(2)
    return pd.DataFrame(
        {
            "study": [f"{k}{word}" for k, word in enumerate(WORDS[:24])],
            "es": rng.normal(size=24),
            "v": rng.uniform(0.1, 0.5, 24),
            "f": WORDS[np.arange(24) % 2],
            NAME: rng.normal(size=24),
        }
    )


def mixed() -> Any:
    return ranef.lmm(f"y ~ f + {QUOTED} + (1 | g)", rows())


def marginal() -> Any:
    return ranef.gee(f"y ~ f + {QUOTED}", rows(), groups="g")


def synthesis() -> Any:
    return ranef.meta(f"es ~ f + {QUOTED}", effects(), variance="v", study="study")


def with_gaps() -> pd.DataFrame:
    data = rows()
    return data.assign(y=data["y"].where(np.random.default_rng(3).random(N) > 0.1))


ANSWERS: dict[str, Callable[[], Any]] = {
    "gee": marginal,
    "gee check": lambda: marginal().check(),
    "gee means": lambda: marginal().emmeans("f"),
    "meta": synthesis,
    "meta influence": lambda: synthesis().influence(),
    "meta of levels": lambda: ranef.meta("es ~ f + (1 | study)", effects(), variance="v"),
    "two stories": lambda: ranef.two_stories(rows(), "y", NAME, by="g"),
    "two answers": lambda: ranef.two_answers(
        f"b ~ {QUOTED}", rows(), groups="g", family="binomial"
    ),
    "missing patterns": lambda: ranef.missing_patterns(
        with_gaps(), "y", subject="g", visit="visit", arm="arm"
    ),
    "diary": lambda: ranef.diary(
        rows().rename(columns={"y": "mo\x01od"}), "mo\x01od", [NAME], person="g", time="hour"
    ),
    "comparison": lambda: ranef.compare(
        {HOSTILE[0]: mixed(), "\ufffe": ranef.lmm("y ~ f + (1 | g)", rows())}, focus="population"
    ),
    "leave out": lambda: mixed().leave_out(by="group"),
    "maximal": lambda: ranef.maximal(f"y ~ {QUOTED} + ({QUOTED} | g)", rows()),
    "trends": lambda: mixed().emtrends("f", NAME),
    "influence": lambda: mixed().influence(),
    "ratios": lambda: ranef.glmm(
        "c ~ f + (1 | g)", rows(), family="poisson"
    ).standardized_ratios(),
    "nominal": lambda: ranef.glmm(f"o ~ {QUOTED} + (1 | g)", rows(), family="multinomial"),
    "residuals": lambda: ranef.lmm(
        f"y ~ arm + {QUOTED}", rows(), residual=["us(t | g)", "homcs(visit | g)"]
    ),
    "imputed": lambda: ranef.impute(
        ranef.lmm("y ~ arm", with_gaps(), residual="homcs(visit | g)"),
        with_gaps(), n=2, rng=1, progress=False,
    ),
    "pooled": lambda: ranef.pool([mixed(), mixed().refit(rows()["y"] * 1.1)]),
    "plan": lambda: ranef.plan(f"y ~ f + {QUOTED} + (1 | g)", rows()),
}  # fmt: skip


def written(answer: Any, folder: Path) -> list[str]:
    """Everything an answer can be made into, as text."""
    out = [str(answer), repr(answer)]
    if hasattr(answer, "_repr_html_"):
        assert_harmless_page(answer._repr_html_())
    for table in answer.tables() if hasattr(answer, "tables") else ():
        if not table.printed:
            continue
        latex = answer.to_latex(table=table.name)
        assert "\\input{" not in latex
        out += [answer.to_markdown(table=table.name), latex]
        assert_harmless_page(answer.to_html(table=table.name))
        answer.to_docx(folder / "a.docx", table=table.name)
    if isinstance(answer, ranef.Fit):
        ranef.report.write(answer, folder / "r.html")
        assert_harmless_page((folder / "r.html").read_text("utf-8"))
    return out


def drawn(answer: Any) -> list[str]:
    """Every picture that an answer has without further words, as SVG."""
    import matplotlib.pyplot as plt

    plot, pictures = getattr(answer, "plot", None), []
    names = [n for n in dir(plot) if not n.startswith("_")] if plot is not None else []
    draws = [plot] if callable(plot) else [getattr(plot, name) for name in names if name != "fit"]
    for draw in draws:
        try:
            panels = draw()
        except (ModelError, TypeError):  # of other models; with an argument of its own
            continue
        stream = io.BytesIO()
        np.ravel(np.asarray(panels, dtype=object))[0].figure.savefig(stream, format="svg")
        plt.close("all")
        pictures.append(stream.getvalue().decode())
    return pictures


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", ANSWERS)
def test_words_stay_text_in_every_output(name: str, tmp_path: Path) -> None:
    answer = ANSWERS[name]()
    for text in written(answer, tmp_path):
        assert not HIDDEN.search(text)
    for picture in drawn(answer):
        assert not HIDDEN.search(picture)
        ElementTree.fromstring(picture)


def test_pictures_of_what_a_fit_has_not_are_refused_in_words() -> None:
    pooled = ranef.pool([mixed(), mixed().refit(rows()["y"] * 1.1)])
    for picture in ("residuals", "qq", "scale_location"):
        with pytest.raises(ModelError, match=r"one of fit\.fits"):
            getattr(pooled.plot, picture)()
    for picture in ("variogram", "autocorrelation"):
        with pytest.raises(ModelError, match="structure"):
            getattr(pooled.plot, picture)()
    plain = ranef.lmm("y ~ f", rows(), residual="homcs(visit | g)")
    with pytest.raises(ModelError, match="needs random effects"):
        plain.plot.shrinkage()
