"""Names as people have them, and answers in their shape: columns with spaces, booleans, no rows."""

import numpy as np
import pandas as pd
import polars as pl
import pytest

import ranef


@pytest.fixture(scope="module")
def diary():
    rng = np.random.default_rng(8)
    person = np.repeat([f"p{i}" for i in range(15)], 12)
    stress = rng.normal(size=180)
    mood = 5 + 0.5 * stress + np.repeat(rng.normal(size=15), 12) + rng.normal(size=180)
    return pd.DataFrame(
        {
            "person id": person,
            "stress level": stress,
            "study arm": np.tile(["a", "b", "c"], 60),
            "weekend": rng.random(180) < 0.3,
            "mood score": mood,
        }
    )


@pytest.fixture(scope="module")
def spaced(diary):
    return ranef.lmm(
        "`mood score` ~ `stress level` * `study arm` + weekend + (`stress level` | `person id`)",
        diary,
    )


def test_a_grouping_factor_has_the_name_of_its_column(spaced, diary):
    assert spaced.n_groups == {"person id": 15}
    assert set(spaced.tidy("random")["group"]) == {"person id"}
    ranks = ranef.rank(spaced, "person id", statistic="stress level")
    assert len(ranks.tidy()) == 15
    left_out = ranef.influence(spaced).tidy()
    assert diary.merge(left_out, on="person id").shape[0] == len(diary)
    assert "to a typical person id" in str(spaced).replace("\n", " ")


def test_coefficients_are_known_without_the_backticks_of_a_formula(spaced):
    assert spaced.test(["stress level"]).found == spaced.test(["`stress level`"]).found
    one = spaced.confint("profile", parameters=["stress level", "sd: person id: stress level"])
    assert one.term.tolist() == ["`stress level`", "`stress level`"]
    assert spaced.coef_by_level("person id").shape[0] == 30
    without = ranef.variance_test(
        ranef.lmm("`mood score` ~ `stress level` + (1 | `person id`)", rows_of(spaced)),
        fixed=["stress level"],
        n=500,
    )
    assert without.tests[0].df == 2


def rows_of(fit):
    return pd.DataFrame(fit.frame.rows_used())


def test_an_equation_has_no_backticks_in_latex(spaced):
    latex = spaced.equation().latex
    assert "`" not in latex
    assert r"\mathrm{stress\ level}" in latex


def test_interactions_of_spaced_columns_keep_a_colon(diary):
    fit = ranef.lmm("`mood score` ~ 1 + (1 | `person id`:`study arm`)", diary)
    assert list(fit.n_groups) == ["person id:study arm"]
    again = fit.predict(diary)
    np.testing.assert_allclose(again, fit.fitted())


def test_booleans_are_shown_as_python_writes_them(spaced):
    means = ranef.emmeans(spaced, "weekend")
    assert "False" in str(means)
    assert "FALSE" not in str(means)
    assert means.contrasts().tidy()["contrast"].tolist() == ["False - True"]


def test_no_rows_are_predicted_as_no_rows():
    sleep = ranef.data.load("sleepstudy").assign(half=lambda d: np.where(d.Days < 5, "a", "b"))
    fit = ranef.lmm("Reaction ~ half * Days + (Days | Subject)", sleep)
    nobody = sleep.iloc[:0]
    assert fit.predict(nobody).tolist() == []
    assert fit.predict(nobody, conf_level=0.9).shape == (0, 4)


def test_a_prediction_is_a_column_like_fitted(diary):
    fit = ranef.lmm("`mood score` ~ `stress level` + (1 | `person id`)", diary)
    some = diary.sample(7, random_state=1)
    value, table = fit.predict(some), fit.predict(some, conf_level=0.9)
    assert isinstance(value, pd.Series)
    assert value.index.equals(some.index)
    pd.testing.assert_series_equal(value, table["estimate"])
    np.testing.assert_array_equal(fit.predict(), fit.fitted())
    history = some.assign(**{"person id": "new"})
    assert fit.predict(history, history=history).index.equals(some.index)
    polars = fit.predict(pl.from_pandas(some))
    assert isinstance(polars, pl.Series)
    assert polars.name == "estimate"


def test_a_prediction_of_categories_is_a_table_like_fitted():
    wine = ranef.data.load("wine")
    fit = ranef.glmm("rating ~ temp + (1 | judge)", wine, family="cumulative")
    pd.testing.assert_frame_equal(fit.predict(), fit.fitted())
    assert fit.predict(wine, type="class").name == "estimate"


def test_the_overall_mean_is_asked_for_as_in_r(diary):
    fit = ranef.lmm("`mood score` ~ `study arm` + (1 | `person id`)", diary)
    overall = ranef.emmeans(fit, "~ 1").tidy()
    pd.testing.assert_frame_equal(ranef.emmeans(fit, "1").tidy(), overall)
    assert len(overall) == 1
    with pytest.raises(ranef.errors.ModelError, match="specs is empty"):
        ranef.emmeans(fit, "")


def test_warnings_point_at_the_line_of_the_caller(diary):
    with pytest.warns(ranef.errors.RankWarning) as seen:
        ranef.lmm(
            "y ~ x + z + (1 | g)",
            {
                "y": diary["mood score"],
                "x": diary["stress level"],
                "z": 2 * diary["stress level"],
                "g": diary["person id"],
            },
        )
    assert seen[0].filename == __file__


def test_a_polynomial_is_not_centred_by_advice():
    orth = ranef.data.load("Orthodont")
    fit = ranef.lmm("distance ~ poly(age, 2) * Sex + (1 | Subject)", orth)
    words = " ".join(str(ranef.anova(fit)).split())
    assert "Sex is tested where all columns of poly(age, 2) are 0; joint_tests()" in words
    assert "centre" not in words
    numeric = orth.assign(late=(orth["age"] > 9) * 1.0)
    fit = ranef.lmm("distance ~ Sex * (age + late) + (1 | Subject)", numeric)
    words = " ".join(str(ranef.anova(fit)).split())
    assert "Sex is tested where age and late are 0; centre them to test elsewhere." in words
