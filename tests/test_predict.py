"""Predictions: three kinds, means and new observations, known and unseen levels."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import twin
from scipy import stats

import ranef
from ranef.errors import LevelError, ModelError, RanefError, UnknownColumnError
from ranef.fits.new_rows import read_rows
from ranef.inference.rows import prediction
from ranef.models.rows import Rows

FORMULA = "Reaction ~ Days + (Days | Subject)"


@pytest.fixture(scope="module")
def fit():
    return ranef.lmm(FORMULA, ranef.data.load("sleepstudy"))


@pytest.fixture(scope="module")
def new():
    return pd.DataFrame(
        {"Days": [0.0, 10.0, 4.0, 4.0], "Subject": ["308", "309", "nobody", "372"]},
        index=list("wxyz"),
    )


def rows_of(fit, new):
    """Matrices of the new rows, by hand."""
    levels = [str(level) for level in fit.estimate.specification.factors[0].levels]
    codes = [levels.index(s) if s in levels else -1 for s in new["Subject"]]
    X = np.c_[np.ones(len(new)), new["Days"]]
    return X, np.array(codes, dtype=np.int32)


def given_theta(fit, new, kind, interval="mean"):
    """What is predicted if the variance parameters were known."""
    effects = "own" if kind == "conditional" else "new"
    rows = read_rows(fit, new, effects, weights=True)[0].parts["conditional"]
    return prediction.predict(
        fit.estimate, rows, kind, conf_level=0.9, new=interval == "new", known_theta=True
    )


def test_three_kinds_of_value(fit, new):
    X, codes = rows_of(fit, new)
    typical = X @ fit.coef.to_numpy()
    b = np.where(codes[:, None] >= 0, fit.estimate.modes[0][codes], 0.0)
    np.testing.assert_allclose(fit.predict(new, kind="typical"), typical)
    np.testing.assert_allclose(fit.predict(new, kind="population"), typical)
    np.testing.assert_allclose(fit.predict(new), typical + (X * b).sum(axis=1))
    np.testing.assert_array_equal(fit.predict(new, type="link"), fit.predict(new))
    assert fit.predict(new).name == "estimate"


@pytest.mark.parametrize("interval", ["mean", "new"])
@pytest.mark.parametrize("kind", ["conditional", "typical", "population"])
def test_standard_errors_by_the_twin(fit, new, kind, interval):
    spec = fit.estimate.specification
    X, codes = rows_of(fit, new)
    unseen = np.full_like(codes, -1)
    random = {
        ("conditional", "mean"): (codes, X),
        ("conditional", "new"): (codes, X),
        ("population", "new"): (unseen, X),
    }.get((kind, interval))
    variance = twin.prediction_variance(spec, fit.theta, X, [random])
    variance = variance + (fit.sigma**2 if interval == "new" else 0.0)
    found = fit.predict(new, kind=kind, conf_level=0.9, interval=interval)
    assert list(found.columns) == ["estimate", "std_error", "conf_low", "conf_high"]
    assert list(found.index) == list("wxyz")
    known = given_theta(fit, new, kind, interval)
    np.testing.assert_allclose(known.std_error, np.sqrt(variance), rtol=1e-6)
    if random is None and interval == "mean":
        np.testing.assert_allclose(found["std_error"], known.std_error)
    else:
        assert (found["std_error"] > 0.999999 * known.std_error).all()
        assert (found["std_error"] < 1.2 * known.std_error).all()
    reach = found["conf_high"] - found["estimate"]
    assert (reach > stats.norm.ppf(0.95) * found["std_error"]).all()
    assert (reach < stats.t.ppf(0.95, 10) * found["std_error"]).all()


def test_the_prediction_at_zero_is_the_intercepts_row(fit):
    found = fit.predict({"Days": [0.0]}, kind="typical", conf_level=0.95)
    row = fit.tidy().iloc[0]
    for column in ("estimate", "std_error", "conf_low", "conf_high"):
        assert found[column][0] == pytest.approx(row[column], rel=1e-10)


def test_an_unseen_level_is_less_certain_than_a_known_one(fit):
    table = fit.predict({"Days": [5.0, 5.0], "Subject": ["308", "who?"]}, conf_level=0.95)
    assert table["std_error"][1] > 2 * table["std_error"][0]
    assert table["estimate"][1] == pytest.approx(fit.predict({"Days": [5.0]}, kind="typical")[0])


def test_typical_and_population_need_no_grouping_column(fit):
    assert fit.predict({"Days": [1.0]}, kind="population").shape == (1,)
    with pytest.raises(UnknownColumnError, match="Subject"):
        fit.predict({"Days": [1.0]})


def test_the_population_has_its_interval_without_the_group(fit):
    found = fit.predict({"Days": [1.0]}, kind="population", conf_level=0.9, interval="new")
    x = np.array([[1.0, 1.0]])
    unseen = [(np.array([-1], dtype=np.int32), x)]
    variance = twin.prediction_variance(fit.estimate.specification, fit.theta, x, unseen)
    assert found["std_error"][0] == pytest.approx(np.sqrt(variance[0] + fit.sigma**2), rel=1e-6)


def test_rows_with_missing_values_are_nan(fit):
    new = {"Days": [1.0, np.nan, 2.0], "Subject": ["308", "308", None]}
    np.testing.assert_array_equal(np.isnan(fit.predict(new)), [False, True, True])
    np.testing.assert_array_equal(np.isnan(fit.predict(new, kind="typical")), [False, True, False])
    assert fit.predict(new, conf_level=0.9).isna().sum().tolist() == [2, 2, 2, 2]


def test_without_a_table_the_fitted_rows_are_predicted():
    table = ranef.data.load("sleepstudy").set_index(np.arange(180) + 1000)
    table.loc[1003, "Reaction"] = np.nan
    fit = ranef.lmm(FORMULA, table, weights=np.linspace(1, 2, 180))
    np.testing.assert_array_equal(fit.predict(), fit.fitted())
    spec = fit.estimate.specification
    found = fit.predict(conf_level=0.95, interval="new")
    assert list(found.index) == list(table.index)
    assert found.loc[1003].isna().all()
    random = [(spec.factors[0].codes, spec.terms[0].z)]
    variance = twin.prediction_variance(spec, fit.theta, spec.X, random)
    variance = variance + fit.sigma**2 / spec.weights
    known = prediction.predict(
        fit.estimate,
        Rows.of(fit.estimate.parts).parts["conditional"],
        "conditional",
        conf_level=0.9,
        new=True,
        known_theta=True,
    )
    np.testing.assert_allclose(known.std_error, np.sqrt(variance), rtol=1e-6)
    ratio = found["std_error"].dropna() / known.std_error
    assert ratio.between(1.0, 1.05).all()


def test_intervals_for_new_observations_cover(fit):
    """New days of known subjects: 95% intervals hold about 95% of draws."""
    truth = fit.simulate(400, rng=1, kind="conditional").to_numpy()
    found = fit.predict(conf_level=0.95, interval="new")
    low, high = found["conf_low"].to_numpy(), found["conf_high"].to_numpy()
    inside = (low[:, None] < truth) & (truth < high[:, None])
    assert 0.94 < inside.mean() < 0.99


def test_crossed_effects_share_their_covariance():
    fit = ranef.lmm("diameter ~ 1 + (1 | plate) + (1 | sample)", ranef.data.load("Penicillin"))
    spec = fit.estimate.specification
    new = {"plate": ["a", "zz", "a"], "sample": ["A", "B", "new"]}
    one = np.ones((3, 1))
    random = [
        (np.array([0, -1, 0], dtype=np.int32), one),
        (np.array([0, 1, -1], dtype=np.int32), one),
    ]
    variance = twin.prediction_variance(spec, fit.theta, one, random)
    known = given_theta(fit, new, "conditional").std_error
    np.testing.assert_allclose(known, np.sqrt(variance), rtol=1e-6)


def test_a_category_never_seen_is_an_error_that_names_it():
    fit = ranef.lmm("effort ~ Type + (1 | Subject)", ranef.data.load("ergoStool"))
    with pytest.raises(LevelError, match="T9"):
        fit.predict({"Type": ["T1", "T9"], "Subject": ["A", "A"]})


def test_an_offset_in_the_formula_is_predicted_too():
    sleep = ranef.data.load("sleepstudy").assign(shift=np.linspace(0, 50, 180))
    fit = ranef.lmm("Reaction ~ Days + offset(shift) + (1 | Subject)", sleep)
    new = sleep.head(4)
    expected = np.c_[np.ones(4), new["Days"]] @ fit.coef.to_numpy() + new["shift"]
    np.testing.assert_allclose(fit.predict(new, kind="typical"), expected)
    np.testing.assert_allclose(fit.predict(sleep), fit.fitted())


def test_an_empty_table_gives_an_empty_answer(fit):
    assert fit.predict({"Days": [], "Subject": []}).shape == (0,)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"kind": "marginal"}, ModelError, "use one of 'conditional', 'typical', 'population'"),
        ({"type": "odds"}, ModelError, "'response', 'link'"),
        ({"interval": "new"}, ModelError, "needs a conf_level"),
        ({"conf_level": 0.9, "interval": "old"}, ModelError, "'mean', 'new'"),
        ({"conf_level": 2.0}, ModelError, "between 0 and 1"),
        ({"new": {"Dayz": [1.0], "Subject": ["308"]}}, RanefError, "Days"),
        ({"new": {"Days": ["one"], "Subject": ["308"]}}, RanefError, "Days"),
        ({"new": 5}, RanefError, "cannot read a table"),
    ],
)
def test_predict_says_what_is_wrong(fit, arguments, error, message):
    with pytest.raises(error, match=message):
        fit.predict(**arguments)
