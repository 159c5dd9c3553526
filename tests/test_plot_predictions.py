"""Predictions by group as a picture: what is drawn is what the fit predicts."""

from __future__ import annotations

import matplotlib
import numpy as np
import pandas as pd
import pytest

import ranef
from ranef.errors import ModelError, UnknownColumnError

matplotlib.use("Agg")
import matplotlib.pyplot as plt

SLEEP = "Reaction ~ Days + (Days | Subject)"


@pytest.fixture(autouse=True)
def _closed():
    yield
    plt.close("all")


def by_label(ax, start):
    return next(line for line in ax.lines if str(line.get_label()).startswith(start))


def test_every_subject_has_its_line_and_the_population_its_band():
    fit = ranef.lmm(SLEEP, ranef.data.load("sleepstudy"))
    ax = fit.plot.predictions()
    lines = [line for line in ax.lines if len(line.get_xdata()) == 60]
    assert len(lines) == 19
    population = by_label(ax, "population")
    at = np.asarray(population.get_xdata())
    shown = fit.predict({"Days": at}, kind="population", conf_level=0.95)
    np.testing.assert_allclose(population.get_ydata(), shown["estimate"])
    band = ax.collections[0].get_paths()[0].vertices
    assert band[:, 1].min() == pytest.approx(shown["conf_low"].min())
    own = by_label(ax, "each Subject")
    np.testing.assert_allclose(
        own.get_ydata(), fit.predict({"Days": own.get_xdata(), "Subject": ["308"] * 60})
    )
    dots = ax.lines[0]
    np.testing.assert_array_equal(dots.get_ydata(), fit.estimate.specification.y)
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("Days", "Reaction")


def test_panels_hold_their_own_rows():
    data = ranef.data.load("Orthodont")
    fit = ranef.lmm("distance ~ age * Sex + (age | Subject)", data)
    axes = fit.plot.predictions(by="Sex")
    assert [a.get_title(loc="left") for a in axes] == ["Sex: Male", "Sex: Female"]
    assert axes[0].get_ylim() == axes[1].get_ylim()
    for ax, sex in zip(axes, ("Male", "Female"), strict=True):
        line = by_label(ax, "population")
        expected = fit.predict({"age": line.get_xdata(), "Sex": [sex] * 60}, kind="population")
        np.testing.assert_allclose(line.get_ydata(), expected)
        count = data[data["Sex"] == sex]["Subject"].nunique()
        assert len(ax.lines) == count + 2
    with pytest.raises(ModelError, match="ax= holds one panel"):
        fit.plot.predictions(by="Sex", ax=axes[0])


def test_categories_along_the_axis_and_trials():
    fit = ranef.glmm(
        "cbind(incidence, size - incidence) ~ period + (1 | herd)",
        ranef.data.load("cbpp"),
        family="binomial",
    )
    ax = fit.plot.predictions()
    assert [t.get_text() for t in ax.get_xticklabels()] == ["1", "2", "3", "4"]
    assert ax.get_ylabel() == "Probability of incidence"
    line = by_label(ax, "population")
    expected = fit.predict({"period": list("1234")}, kind="population")
    np.testing.assert_allclose(line.get_ydata(), expected)
    assert np.max(ax.lines[0].get_ydata()) <= 1
    typical = by_label(fit.plot.predictions(kind="typical"), "typical herd")
    assert (np.asarray(typical.get_ydata()) < expected).all()


def test_other_factors_and_many_levels():
    oats = ranef.lmm("yield ~ nitro + Variety + (1 | Block/Variety)", ranef.data.load("Oats"))
    axes = oats.plot.predictions(by="Variety", group="Block")
    assert len(axes) == 3
    penicillin = ranef.data.load("Penicillin")
    penicillin["x"] = np.arange(len(penicillin)) % 7
    crossed = ranef.lmm("diameter ~ x + (1 | plate) + (1 | sample)", penicillin)
    ax = crossed.plot.predictions(group="sample")
    one = by_label(ax, "each sample")
    own = crossed.predict({"x": one.get_xdata(), "plate": ["?"] * 60, "sample": ["A"] * 60})
    np.testing.assert_allclose(one.get_ydata(), own)
    ohio = ranef.glmm(
        "resp ~ age + (1 | id)", ranef.data.load("ohio"), family="binomial", quadrature=9
    )
    ax = ohio.plot.predictions()
    assert by_label(ax, "200 of 537 id") is not None
    y = np.asarray(ax.lines[0].get_ydata())
    assert ((y >= 0) & (y <= 1)).all()


def test_categorical_responses_show_one_category():
    wine = ranef.glmm(
        "rating ~ temp + contact + (1 | judge)", ranef.data.load("wine"), family="cumulative"
    )
    ax = wine.plot.predictions(category="3")
    line = by_label(ax, "population")
    new = {"temp": ["cold", "warm"], "contact": ["no", "no"]}
    np.testing.assert_allclose(line.get_ydata(), wine.predict(new, kind="population")["3"])
    with pytest.raises(ModelError, match="choose one by category="):
        wine.plot.predictions()


def test_refusals():
    fit = ranef.lmm(SLEEP, ranef.data.load("sleepstudy"))
    with pytest.raises(UnknownColumnError, match="no predictor 'Day'; did you mean 'Days'"):
        fit.plot.predictions("Day")
    with pytest.raises(ModelError, match="no grouping factor 'Subjekt'"):
        fit.plot.predictions(group="Subjekt")
    with pytest.raises(UnknownColumnError, match="no column 'Sex'"):
        fit.plot.predictions(by="Sex")
    with pytest.raises(ModelError, match="kind is 'population' or 'typical'"):
        fit.plot.predictions(kind="new")
    with pytest.raises(ModelError, match="panels are for up to 12"):
        fit.plot.predictions(by="Subject")
    flat = ranef.lmm("Yield ~ 1 + (1 | Batch)", ranef.data.load("Dyestuff"))
    with pytest.raises(ModelError, match="an intercept alone"):
        flat.plot.predictions()


def test_numbers_that_a_formula_takes_for_categories_are_predicted_where_they_are():
    sleep = ranef.data.load("sleepstudy")
    fit = ranef.lmm("Reaction ~ Days + ar1(0 + factor(Days) | Subject)", sleep)
    ax = fit.plot.predictions()
    population = ax.lines[-1]
    np.testing.assert_array_equal(population.get_xdata(), np.arange(10.0))
    levels = ranef.lmm("Reaction ~ factor(Days) + (1 | Subject)", sleep).plot.predictions()
    assert len(levels.lines[-1].get_xdata()) == 10


def test_categories_that_are_numbers_are_held_as_categories():
    oats = ranef.data.load("Oats")
    oats["Variety"] = pd.Categorical(oats["Variety"].cat.codes + 1)
    fit = ranef.lmm("yield ~ nitro + Variety + (1 | Block)", oats)
    ax = fit.plot.predictions()
    expected = fit.predict(
        {"nitro": [0.0], "Variety": pd.Categorical([1], [1, 2, 3])}, kind="population"
    )
    np.testing.assert_allclose(ax.lines[-1].get_ydata()[0], np.asarray(expected)[0])


def rates():
    """Counts over unequal times at two kinds of places that differ in age."""
    rng = np.random.default_rng(11)
    n = 400
    kind = rng.choice(["new", "old"], n)
    age = np.where(kind == "new", 20.0, 60.0) + rng.normal(0, 3, n)
    place = rng.integers(0, 20, n)
    years = np.exp(rng.normal(1, 0.9, n))
    x = rng.normal(size=n)
    mean = years * np.exp(-1 + 0.5 * x + 0.02 * age + 0.3 * rng.normal(size=20)[place])
    return {
        "y": rng.poisson(mean), "x": x, "age": age, "kind": kind, "place": place, "years": years
    }  # fmt: skip


def test_panels_differ_by_their_column_alone_and_counts_are_brought_to_one_exposure():
    data = rates()
    fit = ranef.glmm(
        "y ~ x * kind + age + offset(log(years)) + (1 | place)", data, family="poisson"
    )
    axes = fit.plot.predictions("x", by="kind")
    years = data["years"].mean()
    for ax, kind in zip(axes, ("new", "old"), strict=True):
        line = by_label(ax, "population")
        n = len(line.get_xdata())
        at = {
            "x": line.get_xdata(), "kind": [kind] * n, "age": np.full(n, data["age"].mean()),
            "years": np.full(n, years),
        }  # fmt: skip
        np.testing.assert_allclose(line.get_ydata(), fit.predict(at, kind="population"))
        own = data["kind"] == kind
        brought = data["y"][own] / data["years"][own] * years
        np.testing.assert_allclose(np.sort(ax.lines[0].get_ydata()), np.sort(brought))
        assert not ax.texts  # notes of panels beside each other would overlap
    said = axes[0].get_figure().get_supxlabel().replace("\n", " ")
    assert f"years = {years:.4g}. Responses are brought to that offset." in said


def test_an_offset_given_as_an_array_brings_responses_too():
    data = rates()
    fit = ranef.glmm("y ~ x + (1 | place)", data, family="poisson", offset=np.log(data["years"]))
    shown = fit.plot.predictions().lines[0].get_ydata()
    held = np.exp(np.log(data["years"]).mean())
    np.testing.assert_allclose(shown, data["y"] / data["years"] * held)
    linear = ranef.lmm("y ~ x + (1 | place)", data, offset="years")
    moved = linear.plot.predictions().lines[0].get_ydata()
    np.testing.assert_allclose(moved, data["y"] - data["years"] + data["years"].mean())
