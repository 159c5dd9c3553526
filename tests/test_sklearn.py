"""The scikit-learn estimator: scikit-learn's own checks, and what a mixed model adds."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pandas as pd
import pytest

import ranef

sklearn = pytest.importorskip("sklearn")

from sklearn.base import clone  # noqa: E402
from sklearn.model_selection import (  # noqa: E402
    GridSearchCV,
    GroupKFold,
    KFold,
    cross_val_predict,
    cross_val_score,
)
from sklearn.utils.estimator_checks import check_estimator  # noqa: E402

from ranef.errors import DataError, ModelError, UnknownColumnError  # noqa: E402
from ranef.sklearn import MixedModel  # noqa: E402

FORMULA = "Reaction ~ Days + (Days | Subject)"
EXACT = "fits a response that its columns reproduce exactly, which has no likelihood"
EXPECTED = {
    "check_sample_weights_shape": EXACT,
    "check_sample_weights_not_overwritten": EXACT,
    "check_sample_weight_equivalence_on_dense_data": EXACT,
    "check_regressors_no_decision_function": EXACT,
}


@pytest.fixture(scope="module")
def sleep() -> Any:
    return ranef.data.load("sleepstudy")


@pytest.mark.filterwarnings("ignore")
def test_scikit_learns_own_checks() -> None:
    checks = check_estimator(
        MixedModel("y ~ .", random="none"), expected_failed_checks=EXPECTED, on_fail=None
    )
    failed = [one["check_name"] for one in checks if one["status"] == "failed"]
    assert failed == []
    assert sum(one["status"] == "passed" for one in checks) >= 50


def test_it_is_the_fit_of_lmm(sleep: Any) -> None:
    X, y = sleep[["Days", "Subject"]], sleep["Reaction"]
    model = MixedModel(FORMULA).fit(X, y)
    fit = ranef.lmm(FORMULA, sleep)
    assert model.fit_.loglik == fit.loglik
    np.testing.assert_array_equal(model.predict(X), fit.fitted())
    assert MixedModel(FORMULA).fit(sleep).fit_.loglik == fit.loglik
    assert list(model.feature_names_in_) == ["Days", "Subject"]


def test_levels_that_were_not_seen(sleep: Any) -> None:
    model = MixedModel(FORMULA).fit(sleep[["Days", "Subject"]], sleep["Reaction"])
    new = pd.DataFrame({"Days": [0, 9], "Subject": ["nobody", "nobody"]})
    expected = model.fit_.predict(new, kind="typical")
    np.testing.assert_allclose(model.predict(new), expected, rtol=1e-12)


def test_two_questions_by_cross_validation(sleep: Any) -> None:
    model = MixedModel(FORMULA)
    X, y = sleep[["Days", "Subject"]], sleep["Reaction"]
    within = cross_val_score(model, X, y, cv=KFold(10, shuffle=True, random_state=0))
    new = cross_val_score(model, X, y, cv=GroupKFold(6), groups=sleep["Subject"])
    assert within.mean() > 0.6 > 0.4 > new.mean()
    by_hand = np.empty(len(y))
    for train, test in GroupKFold(6).split(X, y, sleep["Subject"]):
        fit = ranef.lmm(FORMULA, sleep.iloc[train])
        by_hand[test] = fit.predict(sleep.iloc[test])
    predicted = cross_val_predict(model, X, y, cv=GroupKFold(6), groups=sleep["Subject"])
    np.testing.assert_allclose(predicted, by_hand, rtol=1e-10)


def test_grid_search_and_clone(sleep: Any) -> None:
    X, y = sleep[["Days", "Subject"]], sleep["Reaction"]
    formulas = ["Reaction ~ 1 + (1 | Subject)", FORMULA]
    search = GridSearchCV(MixedModel(FORMULA), {"formula": formulas}, cv=KFold(5)).fit(X, y)
    assert search.best_params_["formula"] == FORMULA
    copy = clone(MixedModel(FORMULA, options={"reml": False}))
    assert copy.get_params()["options"] == {"reml": False}
    assert copy.fit(X, y).fit_.estimate.reml is False
    again = pickle.loads(pickle.dumps(copy))
    np.testing.assert_array_equal(again.predict(X), copy.predict(X))


def test_generalised_and_weighted() -> None:
    cbpp = ranef.data.load("cbpp")
    share = cbpp["incidence"] / cbpp["size"]
    model = MixedModel("share ~ period + (1 | herd)", family="binomial")
    model.fit(cbpp[["period", "herd"]], share, sample_weight=cbpp["size"])
    fit = ranef.glmm(
        "cbind(incidence, size - incidence) ~ period + (1 | herd)", cbpp, family="binomial"
    )
    np.testing.assert_allclose(model.predict(cbpp[["period", "herd"]]), fit.fitted(), rtol=1e-6)
    assert model.predict(cbpp[["period", "herd"]]).max() < 1


def test_polars(sleep: Any) -> None:
    polars = pytest.importorskip("polars")
    X = polars.from_pandas(sleep[["Days", "Subject"]].astype({"Subject": str}))
    model = MixedModel(FORMULA).fit(X, sleep["Reaction"])
    assert model.predict(X).shape == (180,)


def test_arrays_have_names_of_columns() -> None:
    rng = np.random.default_rng(1)
    X = np.column_stack([rng.normal(size=60), np.repeat(np.arange(12.0), 5)])
    y = X[:, 0] + np.repeat(rng.normal(size=12), 5) + rng.normal(size=60)
    model = MixedModel("y ~ x0 + (1 | x1)").fit(X, y)
    assert model.fit_.n_groups == {"x1": 12}


@pytest.mark.parametrize(
    ("model", "change", "error", "said"),
    [
        (MixedModel("Reaction ~ Dayz + (1 | Subject)"), {}, UnknownColumnError, "did you mean"),
        (MixedModel(FORMULA, kind="fixed"), {}, ModelError, "kind='fixed' is not known"),
        (MixedModel(FORMULA), {"Days": np.nan}, DataError, "missing"),
        (MixedModel(FORMULA, options={"family": "poisson"}), {}, TypeError, "family"),
    ],
)
def test_what_is_wrong_is_answered(
    sleep: Any, model: Any, change: dict[str, Any], error: type[Exception], said: str
) -> None:
    X = sleep[["Days", "Subject"]].assign(**change)
    with pytest.raises(error, match=said):
        model.fit(X, sleep["Reaction"])


def test_lengths_and_responses(sleep: Any) -> None:
    with pytest.raises(DataError, match="y has 3 values, and X 180 rows"):
        MixedModel(FORMULA).fit(sleep[["Days", "Subject"]], [1.0, 2.0, 3.0])
    with pytest.raises(DataError, match="no column 'Reaction'"):
        MixedModel(FORMULA).fit(sleep[["Days", "Subject"]])


def test_wrong_inputs_are_answered_in_words(sleep: Any) -> None:
    X, y = sleep[["Days", "Subject"]], sleep["Reaction"]
    model = MixedModel(FORMULA).fit(X, y)
    with pytest.raises(DataError, match="fitted to a table with the columns 'Days', 'Subject'"):
        model.predict(X.to_numpy())
    with pytest.raises(DataError, match="data is a table"):
        MixedModel(FORMULA).fit("sleep.csv", y)
    with pytest.raises(DataError, match="more than one column named"):
        MixedModel(FORMULA).fit(pd.concat([X, X], axis=1), y)
    with pytest.raises(ModelError, match="options are further arguments"):
        MixedModel(FORMULA, options="reml").fit(X, y)  # type: ignore[arg-type]
    with pytest.raises(DataError, match="column 'weights' holds text"):
        MixedModel(FORMULA).fit(X, y, sample_weight=["a"] * 180)
    with pytest.raises(ModelError, match="give one"):
        MixedModel(FORMULA, options={"weights": y}).fit(X, y, sample_weight=y)


def test_pipeline_with_names_of_columns(sleep: Any) -> None:
    from sklearn.compose import ColumnTransformer
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    steps = ColumnTransformer(
        [("scaled", StandardScaler(), ["Days"])],
        remainder="passthrough", verbose_feature_names_out=False,
    ).set_output(transform="pandas")  # fmt: skip
    X, y = sleep[["Days", "Subject"]], sleep["Reaction"]
    found = make_pipeline(steps, MixedModel(FORMULA)).fit(X, y).predict(X)
    np.testing.assert_allclose(found, MixedModel(FORMULA).fit(X, y).predict(X), rtol=1e-5)


def test_a_response_among_the_columns_is_no_feature(sleep: Any) -> None:
    polars = pytest.importorskip("polars")
    expected = MixedModel(FORMULA).fit(sleep[["Days", "Subject"]], sleep["Reaction"])
    kinds = [sleep, polars.from_pandas(sleep.astype({"Subject": str})), dict(sleep)]
    for X in kinds:
        model = MixedModel(FORMULA).fit(X)
        np.testing.assert_allclose(model.predict(X), expected.predict(sleep[["Days", "Subject"]]))
    model = MixedModel(FORMULA).fit(sleep)
    assert list(model.feature_names_in_) == ["Days", "Subject"]
    new = sleep.drop(columns="Reaction")
    np.testing.assert_allclose(model.predict(new), model.predict(sleep))


def test_attributes_of_other_estimators_are_answered(sleep: Any) -> None:
    model = MixedModel(FORMULA).fit(sleep)
    with pytest.raises(AttributeError, match=r"no 'coef_'; after fit\(\) the fit is fit_"):
        model.coef_  # noqa: B018
