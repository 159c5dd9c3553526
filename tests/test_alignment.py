"""Values handed over beside a table belong to its rows by label, or are refused."""

from __future__ import annotations

import numpy as np
import pandas as pd
import polars as pl
import pytest

import ranef
from ranef.errors import DataError


@pytest.fixture(scope="module")
def table():
    rng = np.random.default_rng(3)
    g = np.repeat(np.arange(10), 8)
    x = rng.normal(size=80)
    y = 1 + x + rng.normal(size=10)[g] + rng.normal(size=80)
    out = pd.DataFrame({"x": x, "g": g, "y": y, "w": rng.uniform(0.5, 2, 80)})
    out["o"] = rng.normal(size=80)
    out["count"] = rng.poisson(np.exp(0.3 * y))
    out["time"] = np.tile(np.arange(8), 10)
    return out.set_index(pd.Index(rng.permutation(80) + 100))


@pytest.fixture(scope="module")
def fit(table):
    return ranef.lmm("y ~ x + (1 | g)", table)


def shuffled(column):
    return column.sample(frac=1.0, random_state=5)


def foreign(column):
    return column.reset_index(drop=True)


LINEAR = ("weights", "offset")


@pytest.mark.parametrize("argument", LINEAR)
@pytest.mark.parametrize("model", ["lmm", "glmm", "plan"])
def test_arguments_of_a_model(table, model, argument):
    def fitted(value):
        if model == "lmm":
            return ranef.lmm("y ~ x + (1 | g)", table, **{argument: value}).loglik
        if model == "glmm":
            family = {"family": "poisson", argument: value}
            return ranef.glmm("count ~ x + (1 | g)", table, **family).loglik
        return ranef.plan("y ~ x + (1 | g)", table, **{argument: value}).n

    column = table["w" if argument == "weights" else "o"]
    want = fitted(column.to_numpy())
    assert fitted(column) == want
    assert fitted(shuffled(column)) == want
    longer = pd.concat([pd.Series([3.0, 4.0], index=[-1, -2]), shuffled(column)])
    assert fitted(longer) == want
    with pytest.raises(DataError, match=rf"{argument} has other row labels.*to_numpy"):
        fitted(foreign(column))


def test_a_label_that_stands_twice_is_refused(table):
    w = pd.concat([table["w"].iloc[1:], table["w"].iloc[-1:]])
    with pytest.raises(DataError, match="more than once"):
        ranef.lmm("y ~ x + (1 | g)", table, weights=w)


def test_a_filtered_table_takes_weights_of_the_whole(table):
    some = table[table["x"] > -1]
    want = ranef.lmm("y ~ x + (1 | g)", some, weights="w").loglik
    assert ranef.lmm("y ~ x + (1 | g)", some, weights=table["w"]).loglik == want


def test_tables_without_labels_go_by_position(table):
    want = ranef.lmm("y ~ x + (1 | g)", table, weights="w").loglik
    plain = pl.DataFrame(table.to_dict("list"))
    assert ranef.lmm("y ~ x + (1 | g)", plain, weights=table["w"]).loglik == want
    assert ranef.lmm("y ~ x + (1 | g)", plain, weights=plain["w"]).loglik == want


def test_a_mapping_of_series(table):
    columns = {name: table[name] for name in ("y", "x", "g")}
    want = ranef.lmm("y ~ x + (1 | g)", table, weights="w").loglik
    assert ranef.lmm("y ~ x + (1 | g)", columns, weights=shuffled(table["w"])).loglik == want
    with pytest.raises(DataError, match="'y' and 'x' are Series with different row labels"):
        ranef.lmm("y ~ x + (1 | g)", {**columns, "x": shuffled(table["x"])})


def test_responses_of_a_refit(table, fit):
    new = table["y"] + 0.3 * table["time"]
    want = fit.refit(new.to_numpy()).loglik
    assert fit.refit(shuffled(new)).loglik == want
    with pytest.raises(DataError, match="y has other row labels"):
        fit.refit(foreign(new))
    both = pd.DataFrame({"a": new, "b": table["y"]})
    assert fit.refit(both.sample(frac=1.0, random_state=1)).tidy()["loglik"][0] == pytest.approx(
        want
    )


def test_responses_of_a_refit_with_dropped_rows(table):
    holed = table.assign(x=table["x"].where(table["time"] > 0))
    fit = ranef.lmm("y ~ x + (1 | g)", holed)
    want = fit.refit(table["y"].to_numpy()).loglik
    assert fit.refit(shuffled(table["y"])).loglik == want
    used = table["y"][table["time"] > 0]
    assert fit.refit(shuffled(used)).loglik == want


QUESTIONS = {
    "robust": ("g", lambda fit, v: ranef.robust(fit, cluster=v).tidy()["std_error"].to_numpy()),
    "influence": ("g", lambda fit, v: ranef.influence(fit, by=v).tidy().iloc[:, 1].to_numpy()),
    "average": ("w", lambda fit, v: ranef.average(fit, "x", weights=v).tidy()["estimate"]),
    "time": (
        "time",
        lambda fit, v: [ranef.simulated_residuals(fit, n=50, rng=1).temporal(v, rng=1).statistic],
    ),
    "predictor": (
        "time",
        lambda fit, v: [ranef.simulated_residuals(fit, n=50, rng=1).against(v).statistic],
    ),
}


@pytest.mark.parametrize("question", QUESTIONS)
def test_arguments_of_questions(table, fit, question):
    name, ask = QUESTIONS[question]
    column = table[name]
    want = np.asarray(ask(fit, column.to_numpy()), dtype=float)
    np.testing.assert_array_equal(np.asarray(ask(fit, shuffled(column)), dtype=float), want)
    with pytest.raises(DataError, match="other row labels than the table"):
        ask(fit, foreign(column))


# --- comparisons of fits whose rows stand in another order


@pytest.mark.parametrize("kind", ["lmm", "glmm"])
def test_anova_brings_rows_together_by_label(table, kind):
    def fitted(formula, data):
        if kind == "lmm":
            return ranef.lmm(f"y ~ {formula}", data, weights="w")
        return ranef.glmm(f"count ~ {formula}", data, family="poisson")

    some = table.assign(x=table["x"].where(table["time"] != 2))
    large = fitted("x + (1 | g)", some)
    small = fitted("x + (x || g)", some)
    mixed = fitted("x + (x || g)", some.sample(frac=1.0, random_state=2))
    want = ranef.anova(large, small).tidy()
    np.testing.assert_allclose(
        ranef.anova(large, mixed).tidy()["statistic"], want["statistic"], atol=1e-6
    )


def test_anova_of_sleepstudy_backwards():
    """lme4/lme4#622; 23.537 is the likelihood ratio of lme4's vignette (anova of fm1 and fm2)."""
    sleep = ranef.data.load("sleepstudy")
    one = ranef.lmm("Reaction ~ 1 + (Days | Subject)", sleep.iloc[::-1])
    two = ranef.lmm("Reaction ~ Days + (Days | Subject)", sleep)
    assert ranef.anova(one, two).tidy()["statistic"][1] == pytest.approx(23.5365, abs=1e-3)


def test_anova_says_when_only_the_order_differs(table):
    one = ranef.lmm("y ~ x + (1 | g)", table)
    other = ranef.lmm("y ~ 1 + (1 | g)", table.iloc[::-1].set_axis(table.index))
    with pytest.raises(DataError, match="another order, and their row labels do not say"):
        ranef.anova(one, other)
    changed = ranef.lmm("y ~ 1 + (1 | g)", table.assign(y=table["y"] + 1))
    with pytest.raises(DataError, match=r"different responses \(other values of 'y'\)"):
        ranef.anova(one, changed)


# --- offsets that were handed over as an array


@pytest.fixture(scope="module")
def exposures():
    rng = np.random.default_rng(1)
    table = pd.DataFrame({"a": np.tile(["p", "q"], 60), "s": np.repeat(np.arange(10), 12)})
    table["lg"], table["more"] = rng.normal(4, 1, 120), rng.normal(size=120)
    rate = np.exp(-2 + 0.4 * (table["a"] == "q") + table["lg"] + rng.normal(0, 0.3, 10)[table["s"]])
    table["y"] = rng.poisson(rate)
    table.loc[7, "a"] = None
    return table


FORMULAS = ("y ~ a + (1 | s)", "y ~ a + offset(more) + (1 | s)", "y ~ a + (a | s)")


@pytest.fixture(scope="module", params=FORMULAS)
def offsets(request, exposures):
    said = {"family": "poisson"}
    named = ranef.glmm(request.param, exposures, offset="lg", **said)
    given = ranef.glmm(request.param, exposures, offset=exposures["lg"].to_numpy(), **said)
    return named, given


def test_averages_over_the_own_rows_have_their_offset(offsets):
    """rvlenth/emmeans#424, lme4/lme4#250: a column and an array are the same model."""
    named, given = offsets
    for ask in (
        lambda f: ranef.average(f, "a").tidy()["estimate"],
        lambda f: ranef.average(f, "a", by="s").tidy()["estimate"],
        lambda f: ranef.icc(f, at={"a": "p"}).tidy().select_dtypes("number").to_numpy().ravel(),
        lambda f: ranef.emmeans(f, "a").tidy()["estimate"],
    ):
        np.testing.assert_allclose(ask(given), ask(named), rtol=1e-10)


def test_marginal_means_state_the_offset(offsets, exposures):
    named, given = offsets
    mean = f"{exposures['lg'].drop(7).mean():.5g}"
    assert f"lg = {mean}" in str(ranef.emmeans(named, "a"))
    whole = given.estimate.specification.offset.mean()
    assert f"offset = {whole:.5g} (the mean of those given)" in str(ranef.emmeans(given, "a"))
    for fit in offsets:
        text = str(ranef.emmeans(fit, "a", offset=1.5))
        assert "offset = 1.5" in text
        assert "lg = " not in text


def test_new_rows_may_bring_their_offset(offsets, exposures):
    named, given = offsets
    new = exposures.iloc[:5].rename(columns={"lg": "(offset)"})
    np.testing.assert_allclose(given.predict(new), named.predict(exposures.iloc[:5]), rtol=1e-8)
    with pytest.raises(ranef.errors.ModelError, match=r"column '\(offset\)'"):
        given.predict(exposures.iloc[:5])


def test_pictures_hold_the_offset_at_its_mean(offsets):
    pytest.importorskip("matplotlib")
    named, given = offsets
    for fit in (named, given):
        assert fit.plot.predictions("a") is not None
