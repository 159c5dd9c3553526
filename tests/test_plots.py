"""Pictures: the right marks in the right places, and nothing global touched."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
import pytest
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from scipy import stats

import ranef
from ranef import plots
from ranef.api import pictures
from ranef.display import canvas
from ranef.display.canvas import normal_order_statistics
from ranef.display.smooth import smooth_line
from ranef.errors import ModelError
from ranef.questions.checks import quantile_pictures, residual_picture
from ranef.questions.intervals import coefficients_picture
from ranef.questions.levels import caterpillar


@pytest.fixture(autouse=True)
def nothing_left_open() -> Iterator[None]:
    yield
    import matplotlib.pyplot as plt

    plt.close("all")


@pytest.fixture(scope="module")
def sleep() -> Any:
    return ranef.lmm("Reaction ~ Days + (Days | Subject)", ranef.data.load("sleepstudy"))


@pytest.fixture(scope="module")
def penicillin() -> Any:
    return ranef.lmm("diameter ~ 1 + (1 | plate) + (1 | sample)", ranef.data.load("Penicillin"))


def many_levels(q: int) -> Any:
    rng = np.random.default_rng(20240607)
    g = np.repeat(np.arange(q), 3)
    y = rng.normal(size=q)[g] + rng.normal(size=3 * q)
    return ranef.lmm("y ~ 1 + (1 | g)", pd.DataFrame({"y": y, "g": g}))


def panel() -> Any:
    return Figure(layout="constrained").subplots()


def points(ax: Any) -> tuple[np.ndarray, np.ndarray]:
    """The one line of an Axes that is drawn as dots."""
    (line,) = (line for line in ax.lines if line.get_marker() == "o")
    return np.asarray(line.get_xdata(), float), np.asarray(line.get_ydata(), float)


def smooth(ax: Any) -> Any:
    (line,) = (line for line in ax.lines if line.get_color() == canvas.ACCENT)
    return line


# --- residuals -----------------------------------------------------------------------


def test_residuals_show_every_row_at_its_fitted_value(sleep: Any) -> None:
    ax = panel()
    assert residual_picture.residuals(sleep, ax=ax) is ax
    x, y = points(ax)
    assert len(x) == 180
    np.testing.assert_array_equal(x, sleep.fitted())
    np.testing.assert_array_equal(y, sleep.residuals())
    assert ax.get_xlabel() == "Fitted Reaction"
    assert ax.get_ylabel() == "Residual"


def test_dropped_rows_are_not_drawn() -> None:
    data = ranef.data.load("sleepstudy").astype({"Reaction": float})
    data.loc[[3, 77], "Reaction"] = np.nan
    fit = ranef.lmm("Reaction ~ Days + (1 | Subject)", data)
    x, y = points(residual_picture.residuals(fit, ax=panel()))
    assert len(x) == 178
    assert np.isfinite(y).all()


def test_a_weighted_fit_shows_pearson_residuals() -> None:
    data = ranef.data.load("sleepstudy").assign(w=np.linspace(0.5, 2.0, 180))
    fit = ranef.lmm("Reaction ~ Days + (1 | Subject)", data, weights="w")
    ax = residual_picture.residuals(fit, ax=panel())
    np.testing.assert_array_equal(points(ax)[1], fit.residuals("pearson"))
    assert ax.get_ylabel() == "Pearson residual"


def test_the_smooth_line_can_be_left_out(sleep: Any) -> None:
    assert len(smooth(residual_picture.residuals(sleep, ax=panel())).get_xdata()) > 10
    without = residual_picture.residuals(sleep, smooth=False, ax=panel())
    assert canvas.ACCENT not in [line.get_color() for line in without.lines]


@pytest.mark.parametrize("library", ["polars", "pyarrow"])
def test_fits_of_every_table_library_are_drawn(library: str, sleep: Any) -> None:
    data = ranef.data.load("sleepstudy", library)
    fit = ranef.lmm("Reaction ~ Days + (Days | Subject)", data)
    drawn = [points(ax)[0] for ax in caterpillar.random(fit, figure=Figure())]
    expected = [points(ax)[0] for ax in caterpillar.random(sleep, figure=Figure())]
    np.testing.assert_allclose(drawn, expected, rtol=1e-8)
    assert len(points(residual_picture.residuals(fit, ax=panel()))[0]) == 180
    assert len(points(coefficients_picture.fixed(fit, ax=panel()))[0]) == 1


# --- random effects ------------------------------------------------------------------


def test_caterpillars_are_sorted_and_carry_their_levels(sleep: Any) -> None:
    axes = caterpillar.random(sleep, figure=Figure(layout="constrained"))
    table = sleep.tidy("random")
    assert [ax.get_title(loc="left") for ax in axes] == ["Subject: (Intercept)", "Subject: Days"]
    for ax, term in zip(axes, ["(Intercept)", "Days"], strict=True):
        expected = table[table["term"] == term].sort_values("estimate", kind="stable")
        x, y = points(ax)
        np.testing.assert_array_equal(x, expected["estimate"])
        np.testing.assert_array_equal(y, np.arange(18))
        shown = [text.get_text() for text in ax.get_yticklabels()]
        assert shown == [str(level) for level in expected["level"]]
        (intervals,) = (c for c in ax.collections if isinstance(c, LineCollection))
        ends = np.array([segment[:, 0] for segment in intervals.get_segments()])
        np.testing.assert_array_equal(ends, expected[["conf_low", "conf_high"]])


def test_many_levels_are_counted_and_not_named() -> None:
    fit = many_levels(1500)
    ax = caterpillar.random(fit, ax=panel())
    x, y = points(ax)
    assert len(x) == 1500
    assert (np.diff(x) >= 0).all()
    np.testing.assert_array_equal(y, np.arange(1, 1501))
    assert ax.get_ylabel() == "1,500 levels, sorted"
    assert len(ax.get_yticks()) < 15
    (comb,) = (line for line in ax.lines if line.get_color() == canvas.BAND)
    assert np.isfinite(comb.get_xdata()).sum() == 2 * 1500


def test_thousands_of_levels_are_kept_as_pixels() -> None:
    ax = caterpillar.random(many_levels(canvas.MANY_POINTS + 1), figure=Figure())
    assert all(line.get_rasterized() for line in ax.lines if len(line.get_xdata()) > 2)
    stream = io.BytesIO()
    ax.figure.savefig(stream, format="svg")
    assert stream.tell() < 600_000


def test_one_panel_is_chosen_by_group_and_term(sleep: Any, penicillin: Any) -> None:
    ax = panel()
    assert caterpillar.random(sleep, term="Days", ax=ax) is ax
    assert len(points(ax)[0]) == 18
    ax = panel()
    assert caterpillar.random(penicillin, group="sample", ax=ax) is ax
    assert len(points(ax)[0]) == 6


def test_several_panels_do_not_fit_on_one_axes(sleep: Any) -> None:
    with pytest.raises(ModelError, match=r"holds one panel.*has 2 \(Subject: \(Intercept\)"):
        caterpillar.random(sleep, ax=panel())
    with pytest.raises(ModelError, match="holds one panel"):
        quantile_pictures.qq(sleep, "random", ax=panel())


def test_unknown_names_are_refused_with_a_suggestion(sleep: Any) -> None:
    with pytest.raises(ModelError, match="did you mean 'Subject'"):
        caterpillar.random(sleep, group="subject")
    with pytest.raises(ModelError, match="no random effect of 'Day'"):
        caterpillar.random(sleep, term="Day")
    with pytest.raises(ModelError, match="'residual' or 'random'"):
        quantile_pictures.qq(sleep, "fixed")
    with pytest.raises(ModelError, match="picture is 'random'"):
        plots.alt_text(sleep, "pie")
    with pytest.raises(ModelError, match="ax= or figure="):
        coefficients_picture.fixed(sleep, ax=panel(), figure=Figure())


# --- fixed effects -------------------------------------------------------------------


def test_fixed_effects_leave_the_intercept_out_unless_asked(sleep: Any, penicillin: Any) -> None:
    ax = coefficients_picture.fixed(sleep, ax=panel())
    assert [text.get_text() for text in ax.get_yticklabels()] == ["Days"]
    row = sleep.tidy().set_index("term").loc["Days"]
    assert points(ax)[0].tolist() == [row["estimate"]]
    (intervals,) = ax.collections
    assert intervals.get_segments()[0][:, 0].tolist() == [row["conf_low"], row["conf_high"]]
    both = coefficients_picture.fixed(sleep, intercept=True, ax=panel())
    assert [text.get_text() for text in both.get_yticklabels()] == ["(Intercept)", "Days"]
    alone = coefficients_picture.fixed(penicillin, ax=panel())
    assert [text.get_text() for text in alone.get_yticklabels()] == ["(Intercept)"]


def test_the_first_coefficient_is_on_top(sleep: Any) -> None:
    bottom, top = coefficients_picture.fixed(sleep, intercept=True, ax=panel()).get_ylim()
    assert bottom > top


def test_the_level_of_the_intervals_is_the_one_asked_for(sleep: Any) -> None:
    ax = coefficients_picture.fixed(sleep, conf_level=0.5, ax=panel())
    row = sleep.tidy(conf_level=0.5).set_index("term").loc["Days"]
    assert ax.collections[0].get_segments()[0][0, 0] == row["conf_low"]
    assert ax.get_xlabel() == "Estimate, 50% interval"


# --- quantiles -----------------------------------------------------------------------


def test_quantiles_hold_every_residual_in_order(sleep: Any) -> None:
    x, y = points(quantile_pictures.qq(sleep, ax=panel()))
    np.testing.assert_array_equal(y, np.sort(sleep.residuals()))
    assert (np.diff(x) > 0).all()
    np.testing.assert_allclose(x, -x[::-1], atol=1e-12)


def test_quantiles_of_random_effects_have_a_panel_each(sleep: Any) -> None:
    axes = quantile_pictures.qq(sleep, "random", figure=Figure())
    assert [len(points(ax)[0]) for ax in axes] == [18, 18]


def test_order_statistics_are_those_of_scipy() -> None:
    median, low, high = normal_order_statistics(7)
    beta = stats.beta(np.arange(1, 8), 7 - np.arange(7))
    np.testing.assert_allclose(median, stats.norm.ppf(beta.ppf(0.5)), rtol=1e-10)
    np.testing.assert_allclose(low, stats.norm.ppf(beta.ppf(0.025)), rtol=1e-10)
    np.testing.assert_allclose(high, stats.norm.ppf(beta.ppf(0.975)), rtol=1e-10)


# --- the smooth line -----------------------------------------------------------------


def test_the_smooth_line_keeps_a_straight_line() -> None:
    x = np.random.default_rng(3).uniform(size=300)
    at, value = smooth_line(x, 3.0 - 2.0 * x)
    np.testing.assert_allclose(value, 3.0 - 2.0 * at, atol=1e-10)


def test_the_smooth_line_is_weighted_least_squares() -> None:
    rng = np.random.default_rng(4)
    x = np.sort(rng.uniform(size=60))
    y = np.sin(5 * x) + rng.normal(scale=0.1, size=60)
    at, value = smooth_line(x, y, points=5)
    for centre, found in zip(at, value, strict=True):
        distance = np.abs(x - centre)
        reach = np.sort(distance)[39] * 1.0001
        weight = np.clip(1 - (distance / reach) ** 3, 0, None) ** 3
        _, intercept = np.polyfit(x - centre, y, 1, w=np.sqrt(weight))
        np.testing.assert_allclose(found, intercept, rtol=1e-8)


def test_averaging_neighbours_hardly_moves_the_smooth_line() -> None:
    rng = np.random.default_rng(5)
    x = rng.normal(size=20_000)
    y = np.cos(x) + rng.normal(scale=0.2, size=20_000)
    exact = smooth_line(x, y, most=20_000)
    at, value = smooth_line(x, y, most=2000)
    np.testing.assert_allclose(value, np.interp(at, *exact), atol=0.02)


def test_too_few_places_have_no_smooth_line() -> None:
    at, value = smooth_line(np.array([1.0, 1.0, 2.0, 3.0]), np.arange(4.0))
    assert len(at) == len(value) == 0


# --- manners -------------------------------------------------------------------------


def test_new_figures_are_known_to_pyplot_and_given_ones_are_not(sleep: Any) -> None:
    import matplotlib.pyplot as plt

    for draw in (residual_picture.residuals, coefficients_picture.fixed, quantile_pictures.qq):
        draw(sleep, ax=panel())
    caterpillar.random(sleep, figure=Figure())
    assert plt.get_fignums() == []
    sleep.plot.random()
    assert len(plt.get_fignums()) == 1


def test_drawing_changes_no_setting(sleep: Any) -> None:
    import matplotlib.pyplot as plt

    plt.figure()
    backend, settings = matplotlib.get_backend(), dict(matplotlib.rcParams)
    sleep.plot.random()
    sleep.plot.residuals()
    sleep.plot.qq()
    sleep.plot.fixed()
    assert matplotlib.get_backend() == backend
    assert dict(matplotlib.rcParams) == settings


def test_labels_are_text_and_never_formulas() -> None:
    names = ["$\\frac", "a_b^c", "100%", "line\nbreak", "\x07bell", "x" * 200, "$$", "\\"]
    data = pd.DataFrame({"g": np.repeat(names, 4), "y": np.random.default_rng(1).normal(size=32)})
    data["y"] += np.repeat(np.arange(8.0), 4)
    ax = caterpillar.random(ranef.lmm("y ~ 1 + (1 | g)", data), figure=Figure(layout="constrained"))
    shown = {text.get_text() for text in ax.get_yticklabels()}
    assert {"$\\frac", "a_b^c", "line break", "bell", "$$"} <= shown
    assert max(len(text) for text in shown) == 24
    ax.figure.savefig(io.BytesIO(), format="svg")


def test_the_accessor_names_its_pictures(sleep: Any) -> None:
    assert isinstance(sleep.plot, pictures.FitPlots)
    for name in (".random()", ".residuals()", ".qq()", ".fixed()"):
        assert name in repr(sleep.plot)


# --- words ---------------------------------------------------------------------------


def test_alternative_texts_carry_the_numbers(sleep: Any) -> None:
    text = plots.alt_text(sleep, "random")
    assert "Days by Subject: 18 levels from -10.8 (335) to 9.2 (308)" in text
    assert "180 residuals" in plots.alt_text(sleep, "residuals")
    assert "180 residuals" in plots.alt_text(sleep, "qq")
    assert "Days: 10.5, 95% interval" in plots.alt_text(sleep, "fixed")
    assert "90% interval" in plots.alt_text(sleep, "fixed", conf_level=0.9)


# --- colours -------------------------------------------------------------------------

# Simulation of dichromacy in linear RGB, severity 1.0: Machado, Oliveira and
# Fernandes (2009), IEEE Trans. Vis. Comput. Graph. 15:1291, table 1.
DICHROMACY = {
    "protanopia": [
        [0.152286, 1.052583, -0.204868],
        [0.114503, 0.786281, 0.099216],
        [-0.003882, -0.048116, 1.051998],
    ],
    "deuteranopia": [
        [0.367322, 0.860646, -0.227968],
        [0.280085, 0.672501, 0.047413],
        [-0.011820, 0.042940, 0.968881],
    ],
    "tritanopia": [
        [1.255528, -0.076749, -0.178779],
        [-0.078411, 0.930809, 0.147602],
        [0.004733, 0.691367, 0.303900],
    ],
}


def lab(linear: np.ndarray) -> np.ndarray:
    """CIE Lab (D65) of linear RGB."""
    to_xyz = [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]
    ratio = np.array(to_xyz) @ np.clip(linear, 0, 1) / [0.9505, 1.0, 1.089]
    f = np.where(ratio > 0.008856, np.cbrt(ratio), 7.787 * ratio + 16 / 116)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


@pytest.mark.parametrize("vision", DICHROMACY)
def test_marks_and_lines_are_told_apart_by_every_colour_vision(vision: str) -> None:
    def seen(colour: str) -> np.ndarray:
        rgb = np.array(matplotlib.colors.to_rgb(colour))
        linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
        return lab(np.array(DICHROMACY[vision]) @ linear)

    assert np.linalg.norm(seen(canvas.MARK) - seen(canvas.ACCENT)) > 40


def test_pictures_show_names_without_backticks_and_tell_levels_apart():
    from matplotlib.text import Text

    data = ranef.data.load("sleepstudy").rename(
        columns={"Reaction": "time (ms)", "Days": "days awake", "Subject": "the person"}
    )
    data["the person"] = "Sleep laboratory, participant " + data["the person"].astype(str)
    fit = ranef.lmm("`time (ms)` ~ `days awake` + (`days awake` | `the person`)", data)
    drawn = {
        "fixed": fit.plot.fixed(),
        "random": fit.plot.random(),
        "shrinkage": fit.plot.shrinkage(),
        "ranks": fit.plot.ranks(),
        "predictions": fit.plot.predictions(),
        "residuals": fit.plot.residuals(),
        "qq": fit.plot.qq(effects="random"),
        "means": fit.plot.means("days awake", at={"days awake": [0, 9]}),
        "influence": fit.plot.influence(by="the person"),
        "profile": fit.plot.profile("sigma"),
    }
    for name, axes in drawn.items():
        figure = np.ravel(axes)[0].figure
        assert not [t.get_text() for t in figure.findobj(Text) if "`" in t.get_text()], name
    for name in ("random", "ranks"):
        shown = [t.get_text() for t in np.ravel(drawn[name])[0].get_yticklabels()]
        assert len(set(shown)) == 18, name
        assert all(len(text) <= 24 for text in shown)


def test_levels_stand_in_one_direction_in_all_pictures():
    fit = ranef.glmm(
        "cbind(incidence, size - incidence) ~ period + (1 | herd)",
        ranef.data.load("cbpp"),
        family="binomial",
    )
    ratios = ranef.standardized_ratios(fit)
    drawn = [
        fit.plot.random(), fit.plot.shrinkage(), fit.plot.ranks(),
        ranef.rank(fit, order="descending").plot(), ratios.plot(),
    ]  # fmt: skip
    effects = fit.tidy("random").set_index("level")["estimate"]
    for axes in drawn:
        ax = np.ravel(axes)[0]
        places = [(ax.transData.transform((0, t.get_position()[1]))[1], t.get_text())
                  for t in ax.get_yticklabels()]  # fmt: skip
        names = [name for _, name in sorted(places, reverse=True)]
        shown = effects[names].to_numpy()
        assert shown[:3].min() > shown[-3:].max()
