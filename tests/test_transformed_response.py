"""Transformed responses carried back: by the inverse of what was done, or refused in words.

In balanced one-way data the median of y is the inverse of the mean of f(y) by algebra; means
of y over random effects and residual are checked by the model's own draws. R's emmeans 1.8.4
gives the same 6.126488 and 14.703103 for log(y + 1).
"""

import warnings

import numpy as np
import pandas as pd
import pytest

import ranef
from ranef.design.state import Scaled
from ranef.design.transformation import response_transformation
from ranef.errors import DataWarning, ModelError
from ranef.report.page import html

DATA = pd.DataFrame(
    {
        "t": ["a"] * 8 + ["b"] * 8,
        "g": list("pqrsuvwx") * 2,
        "y": [3, 5, 6, 9, 4, 7, 8, 10, 9, 12, 14, 20, 11, 17, 18, 21.0],
    }
)
DATA["q"] = DATA.y / 25
NEW = {"t": ["a", "b"], "g": ["new", "another"]}


def odds(q):
    return q / (1 - q)


RESPONSES = {
    "log(y)": (np.log, np.exp),
    "np.log(y)": (np.log, np.exp),
    "I(log(y))": (np.log, np.exp),
    "log(y + 1)": (lambda y: np.log(y + 1), lambda z: np.exp(z) - 1),
    "log1p(y)": (np.log1p, np.expm1),
    "log(y / 10)": (lambda y: np.log(y / 10), lambda z: 10 * np.exp(z)),
    "log(2 * y + 3)": (lambda y: np.log(2 * y + 3), lambda z: (np.exp(z) - 3) / 2),
    "log10(y)": (np.log10, lambda z: 10**z),
    "log2(y)": (np.log2, lambda z: 2**z),
    "log(y, 10)": (np.log10, lambda z: 10**z),
    "log(y, base = 2)": (np.log2, lambda z: 2**z),
    "100 * log(y)": (lambda y: 100 * np.log(y), lambda z: np.exp(z / 100)),
    "log(y) / 2 - 1": (lambda y: np.log(y) / 2 - 1, lambda z: np.exp(2 * (z + 1))),
    "-log(y)": (lambda y: -np.log(y), lambda z: np.exp(-z)),
    "log(25 - y)": (lambda y: np.log(25 - y), lambda z: 25 - np.exp(z)),
    "log(1 / y)": (lambda y: -np.log(y), lambda z: np.exp(-z)),
    "log(log(y))": (lambda y: np.log(np.log(y)), lambda z: np.exp(np.exp(z))),
    "sqrt(y)": (np.sqrt, np.square),
    "sqrt(y + 0.5)": (lambda y: np.sqrt(y + 0.5), lambda z: z**2 - 0.5),
    "1/y": (lambda y: 1 / y, lambda z: 1 / z),
    "I(1/y)": (lambda y: 1 / y, lambda z: 1 / z),
    "1/sqrt(y)": (lambda y: y**-0.5, lambda z: z**-2.0),
    "-2 / (y + 1)": (lambda y: -2 / (y + 1), lambda z: -2 / z - 1),
    "y^2": (np.square, np.sqrt),
    "I(y**2)": (np.square, np.sqrt),
    "y^3": (lambda y: y**3, np.cbrt),
    "y^0.25": (lambda y: y**0.25, lambda z: z**4),
    "y^-1": (lambda y: 1 / y, lambda z: 1 / z),
    "cbrt(y)": (np.cbrt, lambda z: z**3),
    "exp(y / 10)": (lambda y: np.exp(y / 10), lambda z: 10 * np.log(z)),
    "scale(y)": (
        lambda y: (y - DATA.y.mean()) / DATA.y.std(),
        lambda z: DATA.y.mean() + DATA.y.std() * z,
    ),
    "y / 10": (lambda y: y / 10, lambda z: 10 * z),
    "10 - y": (lambda y: 10 - y, lambda z: 10 - z),
    "log(q / (1 - q))": (lambda y: np.log(odds(y / 25)), lambda z: 1 / (1 + np.exp(-z))),
    "log(q) - log(1 - q)": (lambda y: np.log(odds(y / 25)), lambda z: 1 / (1 + np.exp(-z))),
    "asin(sqrt(q))": (lambda y: np.arcsin(np.sqrt(y / 25)), lambda z: np.sin(z) ** 2),
    "logit(q)": (lambda y: np.log(odds(y / 25)), lambda z: 1 / (1 + np.exp(-z))),
    "qlogis(q)": (lambda y: np.log(odds(y / 25)), lambda z: 1 / (1 + np.exp(-z))),
    "asinh(y)": (np.arcsinh, np.sinh),
    "atanh(q)": (lambda y: np.arctanh(y / 25), np.tanh),
}
WITHOUT_MEAN = (
    "log(log(y))", "1/y", "I(1/y)", "1/sqrt(y)", "-2 / (y + 1)", "y^2", "I(y**2)", "y^3", "y^-1",
    "exp(y / 10)", "asin(sqrt(q))",
)  # fmt: skip
"""Their means over normal errors do not exist, or have no exact form."""

RATIOS = {
    "log(y)": ("Ratio:", lambda z: np.exp(z)),
    "log(y / 10)": ("Ratio:", np.exp),
    "log10(y)": ("Ratio:", lambda z: 10**z),
    "100 * log(y)": ("Ratio:", lambda z: np.exp(z / 100)),
    "-log(y)": ("Ratio:", lambda z: np.exp(-z)),
    "log(y + 1)": ("Ratio of y + 1:", np.exp),
    "log1p(y)": ("Ratio of y + 1:", np.exp),
    "log(25 - y)": ("Ratio of 25 - y:", np.exp),
    "log(q / (1 - q))": ("Odds ratio:", np.exp),
    "log(q) - log(1 - q)": ("Odds ratio:", np.exp),
    "logit(q)": ("Odds ratio:", np.exp),
    "qlogis(q)": ("Odds ratio:", np.exp),
}


@pytest.fixture(scope="module", params=RESPONSES)
def carried(request):
    forward, back = RESPONSES[request.param]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fit = ranef.lmm(f"{request.param} ~ t + (1 | g)", DATA)
    z = forward(DATA.y).groupby(DATA.t).mean().to_numpy()
    return request.param, fit, z, back


def test_medians_are_the_same_everywhere(carried):
    _, fit, z, back = carried
    means = ranef.emmeans(fit, "t", type="response")
    table, fitted = means.tidy(), ranef.emmeans(fit, "t").tidy()
    np.testing.assert_allclose(fitted.estimate, z, rtol=1e-7)
    np.testing.assert_allclose(table.estimate, back(z), rtol=1e-7)
    step = 1e-6 * np.abs(z)
    slope = (back(z + step) - back(z - step)) / (2 * step)
    np.testing.assert_allclose(table.std_error, np.abs(slope) * fitted.std_error, rtol=1e-5)
    assert "medians, not means" in str(means)
    said = fit.predict(NEW, kind="typical", type="response", conf_level=0.95)
    for name in ("estimate", "std_error", "conf_low", "conf_high"):
        np.testing.assert_allclose(said[name], table[name], rtol=1e-9)
    averages = ranef.average(fit, "t", kind="typical", type="response")
    np.testing.assert_allclose(averages.means()["estimate"], back(z), rtol=1e-7)
    np.testing.assert_allclose(averages.means()["conf_low"], table.conf_low, rtol=1e-7)
    assert "median" in str(averages)


def test_medians_of_log_y_plus_one_by_algebra(agree):
    fit = ranef.lmm("log(y + 1) ~ t + (1 | g)", DATA)
    own = ranef.emmeans(fit, "t", type="response").tidy()["estimate"]
    agree(
        "ranef.emmeans(type='response')",
        "medians of log(y + 1), balanced one-way layout",
        own,
        np.exp(np.log(DATA.y + 1).groupby(DATA.t).mean()) - 1,
        peer="algebra",
        rtol=1e-7,
    )


def test_what_was_fitted_is_the_default(carried):
    _, fit, z, _ = carried
    np.testing.assert_allclose(fit.predict(NEW), z, rtol=1e-7)
    np.testing.assert_allclose(fit.predict(NEW, type="link"), z, rtol=1e-7)
    effect = ranef.average(fit, "t").tidy()["estimate"][0]
    assert effect == pytest.approx(z[1] - z[0], rel=1e-7)


def test_intervals_of_new_observations_are_those_of_the_fit_carried_back(carried):
    _, fit, _, back = carried
    seen = DATA.iloc[[3, 12]]
    link = fit.predict(seen, conf_level=0.8, interval="new")
    said = fit.predict(seen, conf_level=0.8, interval="new", type="response")
    np.testing.assert_allclose(said.estimate, back(link.estimate), rtol=1e-9)
    with np.errstate(invalid="ignore"):
        ends = np.sort([back(link.conf_low), back(link.conf_high)], axis=0)
    if (fit.estimate.sigma < 0.5 * np.abs(link.estimate)).all():  # within what f takes
        np.testing.assert_allclose(said[["conf_low", "conf_high"]].T, ends, rtol=1e-9)


def test_means_of_the_population_are_those_of_its_draws(carried):
    name, fit, _, back = carried
    ask = {"type": "response", "kind": "population"}
    if name in WITHOUT_MEAN:
        for question in (
            lambda: ranef.emmeans(fit, "t", **ask),
            lambda: fit.predict(NEW, **ask),
            lambda: ranef.average(fit, "t", **ask),
        ):
            with pytest.raises(ModelError, match="does not exist, or has no exact form"):
                question()
        return
    many = 40_000
    drawn = back(fit.simulate(many, rng=1, new=NEW).to_numpy())
    error = drawn.std(axis=1) / np.sqrt(many)
    table = ranef.emmeans(fit, "t", **ask).tidy()
    assert (np.abs(table.estimate - drawn.mean(axis=1)) < 4.5 * error).all()
    said = fit.predict(NEW, conf_level=0.95, **ask)
    average = ranef.average(fit, "t", **ask)
    assert "residual integrated out" in " ".join(str(average).split())
    for other in (said, average.means()):
        np.testing.assert_allclose(other["estimate"], table.estimate, rtol=1e-9)
        np.testing.assert_allclose(other["conf_low"], table.conf_low, rtol=1e-7)


def test_contrasts_are_ratios_of_what_is_in_the_log(carried):
    name, fit, z, back = carried
    found = ranef.contrasts(fit, "t", type="response")
    value = found.tidy()["estimate"][0]
    if name in RATIOS:
        caption, carry = RATIOS[name]
        assert value == pytest.approx(carry(z[0] - z[1]), rel=1e-7)
        assert caption in str(found)
    elif not name.startswith(("log", "np.log", "I(log")):
        medians = back(z)
        assert value == pytest.approx(medians[0] - medians[1], rel=1e-6)
        assert "Difference:" in str(found)
    difference = ranef.contrasts(fit, "t", type="response", compare="difference").tidy()
    medians = back(z)
    assert difference["estimate"][0] == pytest.approx(medians[0] - medians[1], rel=1e-6)
    ratio = ranef.contrasts(fit, "t", type="response", compare="ratio")
    if "Ratio:" in str(ratio):
        assert ratio.tidy()["estimate"][0] == pytest.approx(medians[0] / medians[1], rel=1e-6)


REFUSED = {
    "log(y / n)": "uses 2 columns, y, n",
    "log(y) - log(n)": "uses 2 columns, y, n",
    "round(y)": r"round\(y\) cannot be undone|round\(\) cannot be undone",
    "sin(y)": r"sin\(\) cannot be undone",
    "pmax(y, 1)": "cannot be undone",
    "y * y": "several places",
    "log(y) + y": "several places",
    "1/d": "values on both sides of zero, between which",
    "d^2": "values on both sides of zero",
    "abs(d)": "values on both sides of zero",
    "d / (1 - d)": "both sides of 1, where it has a pole",
    "half(y)": r"half\(\) cannot be undone",
}


@pytest.mark.parametrize("response", REFUSED)
def test_what_cannot_be_undone_is_refused_in_the_same_words(response):
    data = DATA.assign(n=DATA.y + 30 + np.arange(16), d=DATA.y - 8.5)
    more = {"functions": {"half": lambda y: np.asarray(y) / 2}} if "half" in response else {}
    fit = ranef.lmm(f"{response} ~ t + (1 | g)", data, **more)
    for question in (
        lambda: ranef.emmeans(fit, "t", type="response"),
        lambda: ranef.contrasts(fit, "t", type="response"),
        lambda: ranef.average(fit, "t", type="response"),
        lambda: fit.predict(NEW, type="response"),
    ):
        with pytest.raises(ModelError, match=REFUSED[response]):
            question()
    assert np.isfinite(fit.predict(NEW)).all()
    assert np.isfinite(ranef.emmeans(fit, "t").tidy()["estimate"]).all()


def test_squares_of_negative_values_are_undone_on_their_side():
    data = DATA.assign(m=-DATA.y)
    fit = ranef.lmm("m^2 ~ t + (1 | g)", data)
    want = -np.sqrt((data.m**2).groupby(data.t).mean())
    np.testing.assert_allclose(ranef.emmeans(fit, "t", type="response").tidy()["estimate"], want)
    inverse = ranef.lmm("1/m ~ t + (1 | g)", data)
    want = 1 / (1 / data.m).groupby(data.t).mean()
    np.testing.assert_allclose(
        ranef.emmeans(inverse, "t", type="response").tidy()["estimate"], want
    )


def test_an_interval_ends_where_the_values_of_the_transformation_do():
    """sqrt(y) >= 0: an interval from -0.5 to 2 is one from 0 to 4, not from 0.25."""
    fit = ranef.lmm("sqrt(y) ~ t + (1 | g)", DATA)
    link = fit.predict(NEW, conf_level=0.9999999, interval="new")
    said = fit.predict(NEW, conf_level=0.9999999, interval="new", type="response")
    assert link.conf_low[0] < 0
    assert said.conf_low[0] == 0
    assert said.conf_high[0] == pytest.approx(link.conf_high[0] ** 2)


def test_a_prediction_beyond_the_values_of_the_transformation_has_no_response():
    fit = ranef.lmm("y^2 ~ t + (1 | g)", DATA)
    row = DATA.head(1)
    assert fit.predict(row).iloc[0] < 0
    with pytest.warns(DataWarning, match=r"1 prediction of y\^2 lie"):
        assert np.isnan(fit.predict(row, type="response").iloc[0])


def test_exponentials_of_coefficients_are_ratios_of_natural_logs_alone():
    for response in ("log(y)", "log(y + 1)", "y"):
        fit = ranef.lmm(f"{response} ~ t + (1 | g)", DATA)
        table = fit.tidy(exponentiate=True)
        np.testing.assert_allclose(table["estimate"], np.exp(fit.coef))
    for response in ("log10(y)", "sqrt(y)", "100 * log(y)"):
        fit = ranef.lmm(f"{response} ~ t + (1 | g)", DATA)
        with pytest.raises(ModelError, match="natural logarithm"):
            fit.tidy(exponentiate=True)


def test_a_saved_fit_carries_back_too(tmp_path):
    for response in ("scale(y)", "y^2", "log(y + 1)"):
        fit = ranef.lmm(f"{response} ~ t + (1 | g)", DATA)
        fit.save(tmp_path / "fit.ranef")
        again = ranef.load(tmp_path / "fit.ranef")
        np.testing.assert_array_equal(
            again.predict(NEW, type="response"), fit.predict(NEW, type="response")
        )


@pytest.mark.parametrize("response", RESPONSES)
def test_inverses_and_derivatives(response):
    y = np.random.default_rng(3).uniform(1.2, 24, 200)
    variable = y / 25 if "q" in response.replace("sqrt", "") else y
    state = {"scale(y)": Scaled(11.0, 5.0)}
    found = response_transformation(response, state, lambda name: variable)
    z = found.function(variable)
    np.testing.assert_allclose(found.inverse(z), variable, rtol=1e-9)
    step = 1e-5 * np.maximum(np.abs(z), 1e-3)
    rise = (found.inverse(z + step) - found.inverse(z - step)) / (2 * step)
    np.testing.assert_allclose(found.first(z), rise, rtol=1e-5)
    bend = (found.first(z + step) - found.first(z - step)) / (2 * step)
    np.testing.assert_allclose(found.second(z), bend, rtol=1e-4, atol=1e-6 * np.abs(bend).max())


def test_a_normal_model_with_a_dispersion_formula_carries_back_medians():
    data = pd.concat([DATA] * 3, ignore_index=True)
    data["y"] += np.random.default_rng(0).normal(size=48) * 0.3
    fit = ranef.glmm("log(y + 1) ~ t + (1 | g)", data, family="gaussian", dispersion="~ t")
    link = ranef.emmeans(fit, "t").tidy()["estimate"]
    means = ranef.emmeans(fit, "t", type="response")
    np.testing.assert_allclose(means.tidy()["estimate"], np.expm1(link))
    assert "medians, not means" in str(means)
    said = fit.predict(NEW, kind="typical", type="response")
    np.testing.assert_allclose(said, np.expm1(link))
    np.testing.assert_allclose(fit.predict(NEW, kind="typical"), link)
    ratio = ranef.contrasts(fit, "t", type="response")
    assert ratio.tidy()["estimate"][0] == pytest.approx(np.exp(link[0] - link[1]))
    for question in (
        lambda: ranef.emmeans(fit, "t", type="response", kind="population"),
        lambda: fit.predict(NEW, type="response", kind="population"),
        lambda: ranef.average(fit, "t", type="response"),
    ):
        with pytest.raises(ModelError, match="in fits of lmm alone"):
            question()
    refused = ranef.glmm("y * y ~ t + (1 | g)", data, family="gaussian", dispersion="~ t")
    with pytest.raises(ModelError, match="several places"):
        ranef.emmeans(refused, "t", type="response")


def test_pictures_and_letters_of_means_carried_back():
    fit = ranef.lmm("sqrt(y) ~ t + (1 | g)", DATA)
    means = ranef.emmeans(fit, "t", type="response")
    means.plot()
    means.contrasts().plot()
    assert means.letters()["letters"].tolist() == ["a", "b"]


def test_the_report_carries_means_back_or_says_why_not():
    page = html(ranef.lmm("log(y + 1) ~ t + (1 | g)", DATA))
    assert "Log(y + 1) transformed back from its mean by t" in page
    assert "medians, not means" in page
    assert "6.126" in page
    data = DATA.assign(n=DATA.y + 30 + np.arange(16))
    page = html(ranef.lmm("log(y / n) ~ t + (1 | g)", data))
    assert "uses 2 columns, y, n" in page
    assert "transformed back" not in html(ranef.lmm("y ~ t + (1 | g)", DATA))
