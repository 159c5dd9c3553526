"""`check`, `simulated_residuals`, `influence`, `r2`, `icc`: the public side, and planted faults."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
import polars as pl
import pytest
from matplotlib.figure import Figure

import ranef
from ranef.display import canvas
from ranef.errors import DataError, LevelError, ModelError, UnknownColumnError
from ranef.questions.checks import html

matplotlib.use("Agg")


@pytest.fixture(autouse=True)
def nothing_left_open() -> Iterator[None]:
    yield
    import matplotlib.pyplot as plt

    plt.close("all")


@pytest.fixture(scope="module")
def sleep() -> Any:
    return ranef.lmm("Reaction ~ Days + (Days | Subject)", ranef.data.load("sleepstudy"))


@pytest.fixture(scope="module")
def salamanders() -> Any:
    return ranef.glmm(
        "count ~ mined + (1 | site)", ranef.data.load("Salamanders"), family="poisson"
    )


@pytest.fixture(scope="module")
def wine() -> Any:
    return ranef.glmm(
        "rating ~ temp + contact + (1 | judge)", ranef.data.load("wine"), family="cumulative"
    )


def groups(seed: int, G: int = 30, m: int = 10) -> tuple[np.random.Generator, Any, Any, Any]:
    rng = np.random.default_rng(seed)
    g = np.repeat(np.arange(G), m)
    return rng, g, rng.normal(size=G * m), rng.normal(size=G)[g]


def looks(check: Any) -> list[str]:
    return [f.what for f in check.of("look")]


# --- planted faults


def test_a_healthy_fit_gets_a_short_calm_page():
    rng, g, x, b = groups(1)
    fit = ranef.lmm("y ~ x + (1 | g)", {"y": x + b + rng.normal(size=300), "x": x, "g": g})
    check = ranef.check(fit)
    assert check.healthy
    assert check.verdict == "fine"
    assert "No evidence against the model" in repr(check)
    assert len(repr(check).splitlines()) < 15
    assert (check.tidy()["verdict"] == "fine").all()
    assert (check.tidy()["advice"] == "").all()


def test_overdispersed_counts_are_found_and_what_follows_is_not_a_wall(salamanders):
    check = ranef.check(salamanders)
    assert looks(check) == ["dispersion"]
    [found] = check.of("look")
    assert "nbinom2" in found.advice
    assert found.number > 2
    assert "may follow from dispersion: zeros" in repr(check)
    assert all(f.after == "dispersion" for f in check.of("note"))


def test_underdispersed_counts_are_found():
    rng, g, x, b = groups(2)
    y = rng.binomial(12, 1 / (1 + np.exp(-0.3 * x - 0.3 * b)))
    check = ranef.check(ranef.glmm("y ~ x + (1 | g)", {"y": y, "x": x, "g": g}, family="poisson"))
    [found] = [f for f in check.of("look") if f.what == "dispersion"]
    assert "underdispersion" in found.words
    assert "compois" in found.advice


def test_extra_zeros_are_found():
    rng, g, x, b = groups(3)
    mu = np.exp(1.5 + 0.3 * x + 0.4 * b)
    y = np.where(rng.random(300) < 0.25, 0, rng.poisson(mu))
    table = {"y": y, "x": x, "g": g}
    fit = ranef.glmm("y ~ x + (1 | g)", table, family="poisson")
    zeros = {t.name: t for t in ranef.simulated_residuals(fit).tests}["zeros"]
    assert zeros.statistic > 1.5
    assert zeros.p_value < 1e-3
    seen = [f.what for f in ranef.check(fit).findings if f.verdict != "fine"]
    assert "zeros" in seen
    mended = ranef.glmm("y ~ x + (1 | g)", table, family="poisson", zero="~ 1")
    assert ranef.check(mended).healthy


def test_a_curve_is_found():
    rng, g, x, b = groups(4)
    y = x + 0.6 * x**2 + b + rng.normal(size=300)
    table = {"y": y, "x": x, "g": g}
    check = ranef.check(ranef.lmm("y ~ x + (1 | g)", table))
    assert "residuals against x" in looks(check)
    assert ranef.check(ranef.lmm("y ~ poly(x, 2) + (1 | g)", table)).healthy


def test_a_spread_that_grows_is_found():
    rng, g, x, b = groups(5)
    mu = np.exp(1 + 0.6 * x + 0.3 * b)
    y = mu * np.exp(0.4 * rng.normal(size=300))
    check = ranef.check(ranef.lmm("y ~ x + (1 | g)", {"y": y, "x": x, "g": g}))
    assert "spread against the fit" in looks(check)
    logged = ranef.check(ranef.lmm("log(y) ~ x + (1 | g)", {"y": y, "x": x, "g": g}))
    assert logged.healthy


def test_a_spread_that_differs_between_groups_is_found():
    rng, g, x, b = groups(6)
    sd = np.exp(0.6 * rng.normal(size=30))[g]
    fit = ranef.lmm("y ~ x + (1 | g)", {"y": x + b + sd * rng.normal(size=300), "x": x, "g": g})
    assert "spread by g" in looks(ranef.check(fit))


def test_order_in_time_is_found_when_it_is_asked_for():
    rng, g, x, b = groups(7)
    e = rng.normal(size=(30, 10))
    for t in range(1, 10):
        e[:, t] = 0.6 * e[:, t - 1] + 0.8 * e[:, t]
    time = np.tile(np.arange(10.0), 30)
    table = {"y": x + b + e.ravel(), "x": x, "g": g}
    fit = ranef.lmm("y ~ x + (1 | g)", table)
    assert "order in time" in looks(ranef.check(fit, time=time))
    assert "Not looked at: order in time" in repr(ranef.check(fit))


def test_heavy_tails_and_skewness_are_found():
    rng, g, x, b = groups(8)
    for e, word in ((rng.standard_t(2, size=300), "tails"), (rng.exponential(size=300), "right")):
        fit = ranef.lmm("y ~ x + (1 | g)", {"y": 5 + x + b + e, "x": x, "g": g})
        [found] = [f for f in ranef.check(fit).of("look") if f.what == "residuals normal"]
        assert word in found.words


def test_effects_that_are_not_normal_are_found():
    rng = np.random.default_rng(9)
    g = np.repeat(np.arange(80), 8)
    b = rng.exponential(size=80) ** 1.5
    fit = ranef.lmm("y ~ 1 + (1 | g)", {"y": b[g] + 0.5 * rng.normal(size=640), "g": g})
    [found] = [f for f in ranef.check(fit).findings if f.what == "effects of g: intercept"]
    assert found.verdict != "fine"
    assert "is the most extreme" in found.advice
    assert found.after in ("", "influence of g")


def test_slopes_that_differ_within_and_between_are_found():
    rng, g, _, b = groups(10)
    centre = rng.normal(size=30)[g]
    x = centre + rng.normal(size=300)
    y = 0.5 * (x - centre) - 1.5 * centre + 0.5 * b + rng.normal(size=300)
    table = {"y": y, "x": x, "g": g}
    check = ranef.check(ranef.lmm("y ~ x + (1 | g)", table))
    [found] = [f for f in check.of("look") if f.what == "x within and between g"]
    assert found.advice == "Write within(x, g) + between(x, g) instead of x."
    mended = ranef.lmm("y ~ within(x, g) + between(x, g) + (1 | g)", table)
    assert ranef.check(mended).healthy


def test_a_level_that_carries_the_result_is_found():
    rng, g, x, b = groups(11, 15, 8)
    x = np.where(g == 3, x + 6, x)
    y = 0.5 * x + 0.3 * b + rng.normal(size=120) - np.where(g == 3, 8.0, 0.0)
    check = ranef.check(ranef.lmm("y ~ x + (1 | g)", {"y": y, "x": x, "g": g}))
    [found] = [f for f in check.of("look") if f.what == "influence of g"]
    assert "Without g 3" in found.words


def test_collinear_predictors_are_found():
    rng, g, x, b = groups(12)
    table = {"y": x + b + rng.normal(size=300), "x": x, "z": x + 0.1 * rng.normal(size=300), "g": g}
    check = ranef.check(ranef.lmm("y ~ x + z + (1 | g)", table))
    [found] = [f for f in check.of("look") if f.what == "collinearity"]
    assert "x (" in found.words
    assert "z (" in found.words


def test_singular_fits_and_few_levels_are_notes_with_advice():
    check = ranef.check(ranef.lmm("Yield ~ 1 + (1 | Batch)", ranef.data.load("Dyestuff2")))
    [found] = check.of("note")
    assert found.what == "singularity (Batch)"
    assert "no variation that this term would explain" in found.advice
    assert check.healthy
    assert check.verdict == "note"
    rng, g, x, b = groups(13, 4, 20)
    few = ranef.check(
        ranef.lmm("y ~ x + (1 | g)", {"y": x + b + rng.normal(size=80), "x": x, "g": g})
    )
    assert any("has 4 levels" in f.words for f in few.of("note"))


def test_a_correlation_of_one_is_explained():
    rng, g, x, b = groups(14)
    y = x + b * (1 + x) + rng.normal(size=300)
    fit = ranef.lmm("y ~ x + (x | g)", {"y": y, "x": x, "g": g})
    assert fit.optimum.singular
    [found] = [f for f in ranef.check(fit).of("note") if f.what.startswith("singularity")]
    assert "||" in found.advice


@pytest.mark.filterwarnings("ignore::ranef.errors.RanefWarning")
def test_separation_is_found():
    _, g, x, _ = groups(15, 10, 10)
    y = (x > 0).astype(int)
    fit = ranef.glmm("y ~ x + (1 | g)", {"y": y, "x": x, "g": g}, family="binomial")
    assert "separation" in looks(ranef.check(fit))


# --- the object


def test_check_of_ordered_categories_weights_and_missing_rows(wine):
    assert ranef.check(wine).healthy
    table = ranef.data.load("sleepstudy").assign(w=1.0)
    table.loc[[3, 50], "Days"] = np.nan
    fit = ranef.lmm("Reaction ~ Days + (Days | Subject)", table, weights="w")
    assert len(ranef.check(fit).findings) > 8


def test_check_is_reproducible_and_in_the_users_library(sleep):
    assert ranef.check(sleep, rng=3).tidy().equals(ranef.check(sleep, rng=3).tidy())
    fit = ranef.lmm("Yield ~ 1 + (1 | Batch)", ranef.data.load("Dyestuff", "polars"))
    assert isinstance(ranef.check(fit).tidy(), pl.DataFrame)


def test_check_shows_and_saves_itself(sleep, tmp_path):
    check = sleep.check(time="Days")
    assert "order in time" in check._repr_html_()
    axes = check.plot(figure=Figure(layout="constrained"))
    assert [ax.get_title(loc="left") for ax in axes][2:5] == [
        "Normal quantiles of Subject: (Intercept)",
        "Scaled residuals against the fit",
        "Cook's distance, without each Subject",
    ]
    page = check.save(tmp_path / "check.html").read_text("utf-8")
    assert page.count("<svg") == 1
    assert "Needs a look" in page
    assert page == html.check_html(check)


def test_hostile_labels_cannot_become_markup():
    rng, g, x, b = groups(16, 12, 10)
    names = np.array([f"<script>alert({i})</script>" for i in range(12)])
    table = {"y": x + b + rng.normal(size=120), "x": x, "g": names[g]}
    page = html.check_html(ranef.check(ranef.lmm("y ~ x + (1 | g)", table)))
    assert "<script>" not in page


def test_check_of_what_has_no_rank_or_no_effects_in_the_mean():
    rng, g, x, b = groups(17)
    y = x + b + rng.normal(size=300)
    table = {"low": np.where(y < -1, np.nan, y), "high": np.maximum(y, -1), "x": x, "g": g}
    fit = ranef.glmm("cbind(low, high) ~ x + (1 | g)", table, family="censored")
    check = ranef.check(fit)
    assert check.residuals is None
    assert "no rank" in repr(check)
    check.plot(figure=Figure(layout="constrained"))


def test_check_refuses_multinomial_models_and_other_things():
    rng, g, x, _ = groups(18)
    y = np.array(["a", "b", "c"])[rng.integers(0, 3, 300)]
    fit = ranef.glmm("y ~ x + (1 | g)", {"y": y, "x": x, "g": g}, family="multinomial")
    for ask in (ranef.check, ranef.simulated_residuals, ranef.influence, ranef.r2, ranef.icc,
                ranef.leverage, ranef.within_between, ranef.collinearity):  # fmt: skip
        with pytest.raises(ModelError, match="multinomial"):
            ask(fit)
    with pytest.raises(ModelError, match=r"takes a fit of ranef"):
        ranef.check({"y": [1]})


# --- the example


def test_falls_are_criticised_mended_and_answered(tmp_path):
    root = Path(__file__).parent.parent
    done = subprocess.run(
        [sys.executable, str(root / "examples" / "falls.py"), str(tmp_path)],
        env={**os.environ, "MPLBACKEND": "Agg"},
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    for fault in ("LOOK: dispersion", "LOOK: staff within and between home",
                  "LOOK: influence of home"):  # fmt: skip
        assert fault in done.stdout
    assert "No evidence against the model" in done.stdout
    within, low, high = map(
        float, re.search(r"than usual: (\S+) \((\S+) to (\S+)\)", done.stdout).groups()
    )
    assert low < np.exp(-0.30) < high
    assert low < within < high
    assert (tmp_path / "falls.png").stat().st_size > 5_000


def test_the_table_of_falls_comes_from_its_script(tmp_path):
    folder = Path(__file__).parent.parent / "examples" / "data"
    copy = tmp_path / "make_falls.py"
    copy.write_text((folder / "make_falls.py").read_text("utf-8"), "utf-8")
    subprocess.run([sys.executable, str(copy)], check=True)
    assert (tmp_path / "falls.csv").read_text("utf-8") == (folder / "falls.csv").read_text("utf-8")


# --- simulated residuals


@pytest.mark.parametrize("effects", ["posterior", "conditional", "new"])
@pytest.mark.parametrize("which", ["sleep", "salamanders", "wine"])
def test_residuals_lie_between_zero_and_one_row_by_row(effects, which, request):
    fit = request.getfixturevalue(which)
    found = ranef.simulated_residuals(fit, 99, effects=effects, rng=4)
    u = np.asarray(found.residuals, float)
    assert len(u) == fit.n_obs
    assert ((u > 0) & (u < 1)).all()
    assert effects == "posterior" or "do not hold their level" in " ".join(repr(found).split())
    again = ranef.simulated_residuals(fit, 99, effects=effects, rng=4)
    np.testing.assert_array_equal(u, again.residuals)


def test_dropped_rows_have_no_residual_in_the_users_library():
    table = pl.DataFrame({"y": [1.0, 2.0, 3.0, None, 2.5, 1.5] * 5, "g": list("aabbcc") * 5})
    fit = ranef.lmm("y ~ 1 + (1 | g)", table)
    u = ranef.simulated_residuals(fit).residuals
    assert isinstance(u, pl.Series)
    assert np.isnan(u.to_numpy()).sum() == 5
    rows = ranef.influence(fit, by="row").tidy()
    assert isinstance(rows, pl.DataFrame)
    assert rows.height == 30
    assert np.isnan(rows["cook"].to_numpy()).sum() == 5
    assert np.isnan(ranef.leverage(fit).tidy()["hat"].to_numpy()).sum() == 5


def test_residuals_by_group_are_of_sums(salamanders):
    found = ranef.simulated_residuals(salamanders, by="site")
    table = ranef.data.load("Salamanders")
    sums = table.groupby("site", observed=True)["count"].sum()
    np.testing.assert_array_equal(found.found.observed, sums.loc[list(found.levels)])
    assert found.residuals.columns.tolist() == ["site", "residual"]
    assert found.found.draws.shape == (23, 250)
    with pytest.raises(ModelError, match="without by="):
        found.temporal("mined")


def test_residuals_take_columns_and_values(sleep):
    found = ranef.simulated_residuals(sleep)
    days = ranef.data.load("sleepstudy")["Days"]
    assert found.against("Days").p_value == found.against(days).p_value
    assert found.temporal("Days").p_value == found.temporal(days.to_numpy()).p_value
    dates = pd.Timestamp("2024-01-01") + pd.to_timedelta(days, unit="D")
    assert found.temporal(dates, by="Subject").statistic == pytest.approx(
        found.temporal("Days").statistic
    )
    with pytest.raises(UnknownColumnError, match="did you mean 'Days'"):
        found.against("Dayz")
    with pytest.raises(DataError, match="180"):
        found.temporal(np.arange(7))


def test_residuals_refuse_what_has_no_rank():
    table = {"low": [1.0, 2.0, np.nan, 3.0] * 6, "high": [1.0, 2.0, 1.0, 3.0] * 6,
             "g": list("aabbccdd") * 3}  # fmt: skip
    fit = ranef.glmm("cbind(low, high) ~ 1 + (1 | g)", table, family="censored")
    with pytest.raises(ModelError, match="no rank"):
        ranef.simulated_residuals(fit)


def test_residuals_refuse_bad_arguments(sleep):
    with pytest.raises(ModelError, match="did you mean 'conditional'"):
        ranef.simulated_residuals(sleep, effects="conditonal")
    with pytest.raises(ModelError, match="too few"):
        ranef.simulated_residuals(sleep, 5)
    with pytest.raises(ModelError, match="GB"):
        ranef.simulated_residuals(sleep, 2_000_000)
    with pytest.raises(UnknownColumnError, match="did you mean 'Subject'"):
        ranef.simulated_residuals(sleep, by="Subjekt")


def test_effects_of_other_parts_are_drawn_too():
    rng, g, x, b = groups(19, 40, 12)
    zero = rng.random(480) < 1 / (1 + np.exp(1 - 1.2 * b))
    y = np.where(zero, 0, rng.poisson(np.exp(1.2 + 0.4 * x)))
    fit = ranef.glmm("y ~ x + (1 | g)", {"y": y, "x": x, "g": g}, family="poisson",
                     zero="~ 1 + (1 | g)")  # fmt: skip
    p = {t.name: t.p_value for t in ranef.simulated_residuals(fit).tests}
    assert min(p.values()) > 0.01


# --- influence, R2 and ICC as objects


def test_influence_of_a_column_that_is_no_grouping_factor(sleep):
    found = ranef.influence(sleep, by="Days")
    assert found.by == "Days"
    assert len(found) == 10
    table = ranef.data.load("sleepstudy")
    again = ranef.lmm(sleep.formula, table[table.Days != 9])
    np.testing.assert_allclose(found.found.beta[-1], again.coef, rtol=1e-6)


def test_influence_tables(sleep):
    found = ranef.influence(sleep, n_jobs=1, progress=False)
    assert found.tidy().columns.tolist() == [
        "Subject", "rows", "cook", "covratio", "displacement",
    ]  # fmt: skip
    assert found.tidy("variance").columns.tolist()[2:] == [
        "Subject: (Intercept)", "Subject: Days", "Residual",
    ]  # fmt: skip
    assert found.tidy("theta").shape == (18, 5)
    threads = ranef.influence(sleep, n_jobs=2).tidy("dfbetas")
    pd.testing.assert_frame_equal(found.tidy("dfbetas"), threads)
    assert "Subject" in repr(found)
    assert "<table" in found._repr_html_()


def test_influence_refuses_what_it_cannot_do(sleep):
    crossed = ranef.lmm("diameter ~ 1 + (1 | plate) + (1 | sample)", ranef.data.load("Penicillin"))
    with pytest.raises(ModelError, match="'plate', 'sample'"):
        ranef.influence(crossed)
    with pytest.raises(UnknownColumnError, match="did you mean 'plate'"):
        ranef.influence(crossed, by="plates")
    with pytest.raises(ModelError, match="only 1 group"):
        ranef.influence(sleep, by=np.zeros(180))
    with pytest.raises(ModelError, match="did you mean 'exact'"):
        ranef.influence(sleep, method="exakt")


def test_influence_of_ordered_categories_and_singular_fits(wine):
    exact, step = ranef.influence(wine), ranef.influence(wine, method="one-step")
    assert exact.terms == ("tempwarm", "contactyes")
    # the thresholds move by a common shift only
    assert np.corrcoef(exact.cook, step.cook)[0, 1] > 0.8
    assert np.argmax(exact.cook) == np.argmax(step.cook)
    singular = ranef.lmm("Yield ~ 1 + (1 | Batch)", ranef.data.load("Dyestuff2"))
    assert np.isfinite(ranef.influence(singular).cook).all()
    assert np.isfinite(ranef.influence(singular, by="row").cook).all()


def test_augment_adds_leverage_and_distance(sleep, wine):
    table = sleep.augment(influence=True)
    np.testing.assert_allclose(table["hat"], ranef.leverage(sleep).found.hat)
    np.testing.assert_allclose(table["cooksd"], ranef.influence(sleep, by="row").cook)
    assert sleep.augment().columns.tolist()[-1] == "pearson"
    assert wine.augment(influence=True).columns.tolist()[-2:] == ["hat", "cooksd"]


def test_icc_refuses_unknown_columns_and_levels(sleep):
    with pytest.raises(UnknownColumnError, match="did you mean 'Days'"):
        ranef.icc(sleep, at={"Dais": 3})
    machines = ranef.lmm("score ~ Machine + (Machine | Worker)", ranef.data.load("Machines"))
    assert (
        ranef.icc(machines, at={"Machine": "B"}).adjusted
        > ranef.icc(machines, at={"Machine": "A"}).adjusted
    )
    with pytest.raises(LevelError, match="'Z'"):
        ranef.icc(machines, at={"Machine": "Z"})
    with pytest.raises(ModelError, match="generalised"):
        ranef.r2(sleep, method="delta")


def test_r2_and_icc_show_themselves(sleep, salamanders):
    assert "0.7992" in repr(ranef.r2(sleep))
    assert "at Days = 9" in repr(ranef.icc(sleep, at={"Days": 9}))
    text = repr(ranef.r2(salamanders))
    assert "log-normal" in text
    assert "method='lognormal'" in text
    assert "<table" in ranef.icc(salamanders)._repr_html_()


def test_a_loaded_fit_is_checked_like_the_fit(sleep, tmp_path):
    sleep.save(tmp_path / "fit.ranef")
    again = ranef.load(tmp_path / "fit.ranef")
    pd.testing.assert_frame_equal(ranef.check(again).tidy(), ranef.check(sleep).tidy())


def test_many_rows_are_checked_without_a_refit_by_level(monkeypatch):
    rng = np.random.default_rng(1)
    g, x = rng.integers(0, 2000, 30_000), rng.normal(size=30_000)
    y = x + rng.normal(size=2000)[g] + rng.normal(size=30_000)
    fit = ranef.lmm("y ~ x + (1 | g)", {"y": y, "x": x, "g": g})
    from ranef.models import refitting

    monkeypatch.setattr(refitting, "fit_lmm", lambda *a, **k: pytest.fail("a refit by level"))
    from ranef.questions.checks.check import _left_out

    [found] = _left_out(fit).values()
    assert np.isfinite(found.cook).all()


# --- pictures


def panel() -> Any:
    return Figure(layout="constrained").subplots()


def test_influence_picture_shows_the_largest_first(sleep):
    found = ranef.influence(sleep)
    ax = found.plot(most=5, ax=panel())
    labels = [text.get_text() for text in ax.get_yticklabels()]
    order = np.argsort(-found.cook)[:5]
    assert labels == [str(found.labels[i]) for i in order]
    assert ax.get_xlabel() == "Value (the 5 largest of 18)"
    assert len(found.plot("variance")) == 3
    assert found.plot("dfbetas", term="Days").get_title(loc="left") == "Days"
    with pytest.raises(ModelError, match="did you mean 'cook'"):
        found.plot("cok")
    with pytest.raises(ModelError, match="did you mean 'Days'"):
        found.plot("dfbetas", term="Day")


def test_simulated_picture_has_quartiles_and_a_band(salamanders):
    left, right = salamanders.plot.simulated()
    assert left.get_xlabel() == "Uniform quantile"
    # three dashed lines, the cloud, three smooth lines in the accent colour
    assert len(right.lines) == 7
    assert right.lines[-1].get_color() == canvas.ACCENT


def test_scale_location_and_accessor(sleep, salamanders):
    ax = sleep.plot.scale_location(ax=panel())
    assert ax.get_ylabel() == "Root of |standardised|"
    assert "linear predictor" in salamanders.plot.scale_location().get_title(loc="left")
    assert sleep.plot.influence("dfbetas", term="Days", ax=panel()).get_title(loc="left") == "Days"
    assert "scale_location" in repr(sleep.plot)


def test_the_page_in_the_documentation_is_the_page(salamanders):
    text = (Path(__file__).parent.parent / "docs" / "diagnostics.md").read_text("utf-8")
    [shown] = re.findall(r"```text\n(.*?)\n```", text, re.DOTALL)
    assert shown == repr(ranef.check(salamanders))


# --- models at the edges


def test_models_without_fixed_effects_or_with_held_ones():
    rng, g, x, b = groups(30)
    table = {"y": b + rng.normal(size=300), "c": rng.poisson(np.exp(0.4 * x + 0.5 * b)), "x": x,
             "g": g}  # fmt: skip
    bare = ranef.lmm("y ~ 0 + (1 | g)", table)
    assert ranef.check(bare).healthy
    assert ranef.influence(bare).found.beta.shape == (30, 0)
    assert len(ranef.collinearity(bare).tidy()) == 0
    held = ranef.glmm("c ~ x + (1 | g)", table, family="poisson", fixed={"x": 0.4})
    assert ranef.check(held).healthy
    found = ranef.influence(held).found
    np.testing.assert_array_equal(found.dfbeta[:, 1], 0.0)
    vcov = held.estimate.coefficient_vcov[0, 0]
    np.testing.assert_allclose(found.cook, found.dfbeta[:, 0] ** 2 / vcov, rtol=1e-8)
    with pytest.raises(ModelError, match="method='exact'"):
        ranef.influence(held, method="one-step")


@pytest.mark.parametrize("term", ["cs(f | g)", "ar1(0 + f | g)", "kernel(1 | g, K)", "(1 | g/h)"])
def test_structures_kernels_and_nesting_are_checked(term):
    rng, g, x, b = groups(31, 20, 12)
    K = pd.DataFrame(np.exp(-np.abs(np.subtract.outer(np.arange(20), np.arange(20))) / 3.0))
    table = {"y": x + b + rng.normal(size=240), "x": x, "g": g, "f": np.tile(list("abcd"), 60),
             "h": np.tile(np.repeat(["u", "v"], 6), 20)}  # fmt: skip
    kernels = {"K": K} if "K" in term else None
    fit = ranef.lmm(f"y ~ x + {term}", table, kernels=kernels)
    assert ranef.check(fit).healthy
    again = ranef.lmm(fit.formula, {k: np.asarray(v)[g != 4] for k, v in table.items()},
                      kernels=kernels and {"K": K.drop(index=4, columns=4)})  # fmt: skip
    exact = ranef.influence(fit, by="g").found
    np.testing.assert_allclose(exact.beta[4], again.coef, rtol=1e-5, atol=1e-7)


def test_effects_in_another_part_only():
    rng, g, x, b = groups(32)
    y = np.where(rng.random(300) < 1 / (1 + np.exp(-b)), 0, rng.poisson(np.exp(1 + 0.3 * x)))
    fit = ranef.glmm("y ~ x", {"y": y, "x": x, "g": g}, family="poisson", zero="~ 1 + (1 | g)")
    check = ranef.check(fit)
    assert check.healthy
    check.plot(figure=Figure(layout="constrained"))
    with pytest.raises(ModelError, match="stand in another part"):
        ranef.leverage(fit)
    assert np.isfinite(ranef.influence(fit, by="g").cook).all()
