"""Rows that the fixed effects do not determine: NaN in words, whatever asks, order or coding.

Right by algebra: models that are one column space give one answer, and a row whose redundant
columns do not depend on the others as in the data has none (Searle 1971, Linear Models, 5.4;
R's emmeans says nonEst for such cells).
"""

import warnings

import numpy as np
import pandas as pd
import pytest

import ranef
from ranef.errors import DataError, ModelError, RankWarning
from ranef.questions.predictions.picture import predictions_text
from ranef.report.page import html

CELLS = pd.DataFrame(
    {
        "f1": ["a"] * 12 + ["b"] * 6,
        "f2": (["A"] * 6 + ["B"] * 6) + ["A"] * 6,
        "g": list("uvwxyz") * 3,
        "y": [9, 11, 10, 12, 8, 10, 13, 15, 12, 15, 13, 14, 17, 18, 16, 20, 17, 19.0],
    }
)
CODINGS = (
    "y ~ f1 * f2 + (1 | g)",
    "y ~ f2 * f1 + (1 | g)",
    "y ~ 0 + f1:f2 + (1 | g)",
    "y ~ C(f1, contr.sum) * C(f2, contr.helmert) + (1 | g)",
    "y ~ f1 / f2 + (1 | g)",
    "y ~ f2 + f2:f1 + (1 | g)",
)
NEW = {"f1": ["b", "b"], "f2": ["A", "B"], "g": ["new", "u"]}
"""A cell with rows, whose mean is 107 / 6, and the empty one."""


def quietly(fit, *args, **more):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RankWarning)
        return fit(*args, **more)


def gone(values):
    """Which rows of an answer are NaN, each wholly or not at all."""
    missing = np.isnan(np.atleast_2d(np.asarray(values, dtype=float).T).T)
    assert (missing.all(axis=1) == missing.any(axis=1)).all()
    return missing.any(axis=1).tolist()


@pytest.fixture(scope="module", params=CODINGS)
def linear(request):
    return quietly(ranef.lmm, request.param, CELLS)


@pytest.mark.parametrize("kind", ["conditional", "typical", "population"])
@pytest.mark.parametrize("interval", [None, "mean", "new"])
def test_linear_predictions(linear, kind, interval, agree):
    more = {} if interval is None else {"conf_level": 0.9, "interval": interval}
    with pytest.warns(RankWarning, match=r"1 row of the table \(1\) is not determined.*left out"):
        found = linear.predict(NEW, kind=kind, **more)
    assert gone(found) == [False, True]
    value = found.iloc[0] if interval is None else found.estimate[0]
    agree("fit.predict", "cell of a design with an empty one, and the empty one",
          [value, np.nan], [107 / 6, np.nan], peer="least squares by hand", atol=1e-7)  # fmt: skip


def test_draws_averages_and_history(linear):
    with pytest.warns(RankWarning, match="no response is drawn there"):
        assert gone(linear.simulate(3, rng=1, new=NEW)) == [False, True]
    effect = ranef.average(linear, "f1")
    assert gone(effect.tidy()["estimate"]) == [True]
    assert gone(effect.means()["estimate"]) == [False, True]
    assert "rows of the table (6, 7, 8, 9, 10 and 1 more) are not determined" in " ".join(
        str(effect).split()
    )
    inside = CELLS[CELLS.f2 == "A"]
    within = ranef.average(linear, "f1", population=inside)
    assert within.tidy()["estimate"][0] == pytest.approx(107 / 6 - 10, abs=1e-7)
    with pytest.raises(DataError, match="leave such rows out of the history"):
        linear.predict(NEW, history={"f1": ["b"], "f2": ["B"], "g": ["u"], "y": [3.0]})
    drawn = ranef.average(linear, "f1", method="bootstrap", n=20, rng=1)
    assert gone(drawn.tidy()["estimate"]) == [True]


def test_a_coefficient_that_was_left_out_is_not_tested():
    fit = quietly(ranef.lmm, CODINGS[0], CELLS)
    with pytest.raises(ModelError, match="do not determine a coefficient of 'f1b:f2B'"):
        fit.test(["f1b:f2B"])


def test_the_row_is_named_as_in_the_table(linear):
    table = pd.DataFrame(NEW, index=["here", "there"])
    with pytest.warns(RankWarning, match=r"\('there'\) is not determined"):
        linear.predict(table)


def test_words_and_pictures(linear):
    means = ranef.emmeans(linear, ["f1", "f2"])
    assert gone(means.tidy()["estimate"]) == [False, False, False, True]
    assert "left out" in str(means)
    page = quietly(html, linear)
    assert "left out" in page
    assert ">nan<" not in page.lower()


@pytest.mark.parametrize("formula", ["y ~ x1 + x2 + (1 | g)", "y ~ x2 + x1 + (1 | g)"])
def test_collinear_numbers(formula):
    x = np.arange(18.0) % 7
    data = CELLS.assign(x1=x, x2=2 * x + 1)
    fit = quietly(ranef.lmm, formula, data)
    off = {"x1": [0.0, 3.0, 1e6], "x2": [50.0, 7.0, 2e6 + 1], "g": ["new"] * 3}
    assert gone(quietly(fit.predict, off)) == [True, False, False]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ax = fit.plot.predictions("x1")
        words = predictions_text(fit)
    assert any("Lines break" in text.get_text() for text in ax.texts)
    assert "nan" not in words
    assert "do not determine" in words
    for change in (None, "sd", "slope"):
        assert gone(ranef.average(fit, "x1", change=change).tidy()["estimate"]) == [True]
    assert gone(ranef.emtrends(fit, "~ 1", "x2").tidy()["estimate"]) == [True]
    both = quietly(ranef.lmm, formula.replace("x2", "I(2 * x1 + 1)"), data)
    slope = ranef.average(both, "x1", change="slope").tidy()["estimate"][0]
    assert slope == pytest.approx(ranef.lmm("y ~ x1 + (1 | g)", data).coef["x1"], rel=1e-6)


@pytest.mark.parametrize("scale", [1e-9, 1.0, 1e9])
def test_differences_that_do_not_depend_on_what_is_missing(scale):
    """A row off the line has no mean, but the effect of another predictor has."""
    x = np.arange(18.0) % 7
    data = CELLS.assign(x1=x * scale, x2=(2 * x + 1) * scale)
    fit = quietly(ranef.lmm, "y ~ x1 + x2 + f1 + (1 | g)", data)
    people = {"x1": [0.0], "x2": [50.0 * scale], "g": ["u"], "f1": ["a"]}
    effect = ranef.average(fit, "f1", population=people)
    assert gone(effect.means()["estimate"]) == [True, True]
    assert effect.tidy()["estimate"][0] == pytest.approx(fit.coef["f1b"], rel=1e-9)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ratio = ranef.average(fit, "f1", population=people, compare="ratio")
    assert gone(ratio.tidy()["estimate"]) == [True]


# --- generalised models


def counts():
    rng = np.random.default_rng(4)
    table = pd.concat([CELLS] * 8, ignore_index=True)
    eta = 0.4 + 0.3 * (table.f1 == "b") + 0.2 * (table.f2 == "B")
    return table.assign(
        n=rng.poisson(np.exp(eta)),
        e=(rng.random(len(table)) < 0.5) * 1.0,
        c=rng.integers(0, 3, len(table)).astype(str),
        z=np.where(rng.random(len(table)) < 0.3, 0, rng.negative_binomial(3, 0.4, len(table))),
    )


MODELS = {
    "binomial": ("e ~ f1 * f2 + (1 | g)", {"family": "binomial"}),
    "poisson": ("n ~ f1 * f2 + (1 | g)", {"family": "poisson"}),
    "gaussian": ("y ~ f1 * f2 + (1 | g)", {"family": "gaussian", "dispersion": "~ f1"}),
    "cumulative": ("c ~ f1 * f2 + (1 | g)", {"family": "cumulative"}),
    "multinomial": ("c ~ f1 * f2 + (1 | g)", {"family": "multinomial"}),
}


@pytest.fixture(scope="module", params=MODELS)
def generalised(request):
    formula, more = MODELS[request.param]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return ranef.glmm(formula, counts(), **more)


def test_generalised_predictions(generalised):
    types = ("response", "prob", "class") if generalised.categories else ("response", "link")
    for kind in ("conditional", "typical", "population"):
        for type in types:
            if kind == "population" and type == "link" and generalised.categories:
                continue
            found = quietly(generalised.predict, NEW, kind=kind, type=type)
            missing = pd.DataFrame(found).isna()
            assert missing.all(axis=1).tolist() == [False, True], (kind, type)
    with pytest.warns(RankWarning, match="'f1b:f2B'"):
        generalised.predict(NEW, conf_level=0.9)
    drawn = quietly(generalised.simulate, 2, rng=1, new=NEW)
    assert drawn.isna().all(axis=1).tolist() == [False, True]
    effect = ranef.average(generalised, "f1")
    assert effect.tidy()["estimate"].isna().all()
    assert (
        not ranef.average(generalised, "f2", population=CELLS[CELLS.f1 == "a"])
        .tidy()["estimate"]
        .isna()
        .any()
    )


def test_a_part_that_an_answer_does_not_rest_on_leaves_it_be():
    """The zero part has an empty cell; the mean of the counts has none."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fit = ranef.glmm(
            "z ~ f1 + (1 | g)", counts(), family="nbinom2", zero="~ f1 * f2", dispersion="~ f2"
        )
    for type in ("conditional", "link", "dispersion"):
        assert gone(fit.predict(NEW, type=type, kind="typical")) == [False, False]
    for type in ("response", "zero"):
        assert gone(quietly(fit.predict, NEW, type=type, kind="typical")) == [False, True]
    assert gone(ranef.average(fit, "f2", type="zero").tidy()["estimate"]) == [True]
    assert gone(ranef.average(fit, "f2", type="dispersion").tidy()["estimate"]) == [False]
    grid = ["f1", "f2"]
    assert gone(ranef.emmeans(fit, grid, component="zero").tidy()["estimate"])[-1]
    assert gone(ranef.emmeans(fit, grid, component="response").tidy()["estimate"])[-1]
    assert not any(gone(ranef.emmeans(fit, grid).tidy()["estimate"]))


def test_contrasts_of_the_population():
    formula, more = MODELS["poisson"]
    fit = quietly(ranef.glmm, formula, counts(), **more)
    with pytest.warns(RankWarning, match="contrasts that use them are NaN"):
        found = ranef.marginal(fit).contrasts(NEW, [[1, 0], [1, -1]])
    assert gone(found["estimate"]) == [False, True]
    with pytest.raises(DataError, match="choose a row whose mean"):
        ranef.rank(fit, "g", scale="response", at={"f1": "b", "f2": "B"})


# --- random designs against brute force

PAIRS = (
    ("f1 * f2", "f2 * f1"),
    ("f1 * f2", "0 + f1:f2"),
    ("f1 * f2", "f1 / f2"),
    ("x + z", "x + I(2 * x + 1) + z"),
    ("f1 * f2 + x + z", "z + x + f2 * f1"),
    ("f1 * x + z", "z + x * f1"),
    ("f1 + f2 + x + w + poly(x, 2)", "poly(x, 2) + w + x + f2 + f1"),
    ("f1 * f2 * x", "x * f2 * f1"),
)


def random_design(seed):
    rng = np.random.default_rng(seed)
    n = int(rng.integers(14, 40))
    x = rng.integers(0, 4, n) * 1.0
    data = pd.DataFrame(
        {
            "f1": [f"a{k}" for k in rng.integers(0, rng.integers(2, 4), n)],
            "f2": [f"b{k}" for k in rng.integers(0, rng.integers(2, 4), n)],
            "x": x,
            "z": 2 * x + 1,
            "w": x**2,
            "g": rng.integers(0, 5, n),
            "y": rng.normal(size=n),
        }
    )
    if rng.random() < 0.6:
        data = data[~((data.f1 == "a1") & (data.f2 == "b1"))]
    new = pd.DataFrame(
        {
            "f1": rng.choice(data.f1.unique(), 8),
            "f2": rng.choice(data.f2.unique(), 8),
            "x": rng.integers(0, 5, 8) * 1.0,
        }
    )
    new["z"] = np.where(rng.random(8) < 0.5, 2 * new.x + 1, rng.normal(size=8))
    new["w"] = np.where(rng.random(8) < 0.6, new.x**2, 9.0)
    return data, new, PAIRS[rng.integers(len(PAIRS))]


def in_row_space(fit, data, new):
    """Rows that are combinations of the data's, by the null space of all columns."""
    recipe = fit.estimate.specification.recipe
    X, N = (recipe.fixed(table, redundant=True)[0] for table in (data, new))
    size = np.abs(X).max(axis=0)
    size[size == 0] = 1.0
    _, s, V = np.linalg.svd(X / size)
    null = V[np.pad(s, (0, len(V) - len(s))) < 1e-9 * s[0]]
    return (np.abs(N / size @ null.T) < 1e-7).all(axis=1)


def agrees_with_brute_force(seed):
    """Compare two writings of one model with each other and with the row space; count rows."""
    data, new, formulas = random_design(seed)
    if data.f1.nunique() < 2 or data.f2.nunique() < 2 or data.x.nunique() < 4:
        return 0
    try:
        fits = [quietly(ranef.lmm, f"y ~ {f} + (1 | g)", data) for f in formulas]
    except ranef.errors.RanefError:
        return 0  # as many coefficients as rows
    there = in_row_space(fits[0], data, new)
    for fit in fits:
        said = quietly(fit.predict, new, kind="typical").to_numpy()
        assert (np.isnan(said) == ~there).all(), seed
        first = quietly(fits[0].predict, new, kind="typical").to_numpy()
        np.testing.assert_allclose(said, first, atol=1e-4, err_msg=str(seed))
        if "f1" in formulas[0]:
            effects = [ranef.average(f, "f1").tidy()["estimate"] for f in (fits[0], fit)]
            np.testing.assert_allclose(*effects, atol=1e-4, err_msg=str(seed))
    return int((~there).sum())


@pytest.mark.filterwarnings("ignore::ranef.errors.RanefWarning")
def test_random_designs():
    assert sum(agrees_with_brute_force(seed) for seed in range(60)) > 50


@pytest.mark.study
@pytest.mark.filterwarnings("ignore::ranef.errors.RanefWarning")
def test_many_random_designs():
    assert sum(agrees_with_brute_force(seed) for seed in range(3000)) > 1000
