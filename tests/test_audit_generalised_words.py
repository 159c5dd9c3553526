"""What answers of generalised models say they are, and questions that a part or a hold changes."""

from __future__ import annotations

import numpy as np
import pytest

import ranef


@pytest.fixture(scope="module")
def counts() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(11)
    site, x = np.repeat(np.arange(30), 10), rng.normal(size=300)
    kind = rng.choice(["a", "b"], 300)
    mu = np.exp(0.7 + 0.4 * x + 0.3 * (kind == "b") + 0.4 * rng.normal(size=30)[site])
    y = rng.poisson(mu) * (rng.random(300) > 0.25)
    return {"y": y, "x": x, "kind": kind, "site": site}


@pytest.fixture(scope="module")
def choice() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(12)
    g, x = np.repeat(np.arange(25), 12), rng.normal(size=300)
    eta = np.stack([np.zeros(300), 0.6 * x + rng.normal(size=25)[g], -0.3 - 0.4 * x], 1)
    p = np.exp(eta) / np.exp(eta).sum(axis=1, keepdims=True)
    y = np.array(["bus", "car", "walk"])[[rng.choice(3, p=row) for row in p]]
    return {"mode": y, "x": x, "sex": rng.choice(["f", "m"], 300), "g": g}


def test_means_of_the_counts_part_are_not_called_means_of_the_response(counts):
    """Both tables said "Mean of y", with different numbers."""
    inflated = ranef.glmm("y ~ x + kind + (1 | site)", counts, family="poisson", zero="~ 1")
    part = str(ranef.emmeans(inflated, "kind"))
    assert "Mean of y without its extra zeros" in part
    assert "component='response' is the mean of what is observed" in part
    whole = str(ranef.emmeans(inflated, "kind", component="response"))
    assert "Mean of y\n" in whole
    assert "component='response'" not in whole
    hurdle = ranef.glmm("y ~ x + kind + (1 | site)", counts, family="truncated_poisson",
                        zero="~ kind")  # fmt: skip
    assert "Mean of the counts before truncation, y" in str(ranef.emmeans(hurdle, "kind"))


def test_a_hurdle_has_no_extra_zeros(counts):
    hurdle = ranef.glmm("y ~ x + (1 | site)", counts, family="truncated_poisson",
                        zero="~ kind + (1 | site)")  # fmt: skip
    for text in (str(hurdle), hurdle.methods(), str(ranef.table([hurdle])),
                 str(ranef.average(hurdle, "kind", type="zero"))):  # fmt: skip
        assert "extra zero" not in text
        assert "a zero" in text
    assert "The log odds of a zero depended on kind. " in hurdle.methods()


def test_joint_tests_of_categories_do_not_depend_on_which_is_first(choice):
    """One row for x averaged log odds against the first category, another differed by it."""
    formula, call = "mode ~ x * sex + (1 | g)", {"family": "multinomial", "fixed": {"sd": 0.0}}
    found = ranef.joint_tests(ranef.glmm(formula, choice, **call)).tidy().set_index("term")
    assert found.index.tolist() == ["x", "sex", "x:sex"]
    assert found["df1"].tolist() == [2, 2, 2]
    other = {"bus": "c", "car": "a", "walk": "b"}
    moved = {**choice, "mode": np.array([other[m] for m in choice["mode"]])}
    again = ranef.joint_tests(ranef.glmm(formula, moved, **call)).tidy()
    np.testing.assert_allclose(again["statistic"], found["statistic"], rtol=1e-5)
    wald = ranef.anova(ranef.glmm("mode ~ x + sex + (1 | g)", choice, family="multinomial")).tidy()
    joint = ranef.joint_tests(
        ranef.glmm("mode ~ x + sex + (1 | g)", choice, family="multinomial")
    ).tidy()
    np.testing.assert_allclose(2 * joint["statistic"], wald["statistic"], rtol=1e-6)


def test_the_methods_paragraph_names_the_category_of_each_effect(choice):
    text = ranef.glmm("mode ~ x + (1 | g)", choice, family="multinomial").methods()
    assert "In the log odds of category car the intercept varies between the 25 levels of g" in text
    assert "In the log odds of category walk the intercept varies between" in text


def test_profiles_of_a_fit_with_a_held_deviation_are_those_of_that_model(counts):
    """They let it go, and ended where the likelihood had not fallen: ten times too narrow."""
    call = {"family": "poisson", "fixed": {"sd: site": 0.7}}
    formula = "y ~ x + kind + (1 | site)"
    fit = ranef.glmm(formula, counts, **call)
    found = ranef.profile(fit).confint().set_index("term")
    slope = found.loc["x"]
    for end in (slope["conf_low"], slope["conf_high"]):
        there = ranef.glmm(formula, counts, family="poisson", fixed={"sd: site": 0.7, "x": end})
        assert 2 * (fit.loglik - there.loglik) == pytest.approx(1.959964**2, rel=1e-3)
    sd = ranef.profile(fit).confint().query("parameter == 'sd'").iloc[0]
    assert np.isnan(sd["conf_low"])
    assert np.isnan(sd["conf_high"])


def test_predictions_say_where_the_other_columns_are_held(counts):
    fit = ranef.glmm("y ~ x + kind + (1 | site)", counts, family="poisson")
    words = [t.get_text() for t in fit.plot.predictions().texts]
    frequent = max(("a", "b"), key=lambda k: int(np.sum(counts["kind"] == k)))
    assert words == [f"Population at kind = {frequent}."]
    along = [t.get_text() for t in fit.plot.predictions("kind").texts]
    assert along == [f"Population at x = {counts['x'].mean():.4g}."]
    assert not any(a.texts for a in fit.plot.predictions(by="kind"))


def test_the_report_has_the_profiles_of_a_generalised_fit(counts):
    from ranef.report.page import html

    page = html(ranef.glmm("y ~ x + kind + (1 | site)", counts, family="poisson"))
    assert "Profile of the likelihood" in page
    assert "Profile intervals, 95%" in page


def test_answers_of_a_fit_without_a_finite_optimum_say_so(counts):
    """A difference from a coefficient that runs off looked as sure as any."""
    rare = np.where((counts["y"] > 0) & (counts["x"] > 1.2), "yes", "no")
    data = {**counts, "hit": (counts["y"] > 0).astype(float), "rare": rare}
    with pytest.warns(ranef.errors.RanefWarning, match="diverges"):
        fit = ranef.glmm("hit ~ rare + (1 | site)", data, family="binomial")
    pages = [ranef.emmeans(fit, "rare"), ranef.contrasts(fit, "rare"), ranef.average(fit, "rare")]
    for page in pages:
        assert "Doubtful: rareyes of the fit runs off to infinity" in " ".join(str(page).split())
    sound = ranef.glmm("hit ~ x + (1 | site)", data, family="binomial")
    assert "Doubtful" not in str(ranef.emmeans(sound, "x"))


def test_tables_say_held_and_pages_name_the_category(counts, choice):
    fit = ranef.glmm("y ~ x + kind + (1 | site)", counts, family="poisson",
                     fixed={"x": 0.3, "sd: site": 0.4})  # fmt: skip
    page = str(ranef.table([fit]))
    assert page.count("held") == 2
    assert "0.300 to 0.300" not in page
    multinomial = ranef.glmm("mode ~ x + (1 | g)", choice, family="multinomial")
    text = str(ranef.profile(multinomial, "variance"))
    assert "g (car)" in text
    assert "g (walk)" in text


def test_what_a_profile_finds_stands_on_the_report(counts):
    """With a root link eta and -eta are one mean: the profile came upon a better optimum."""
    from ranef.report.page import html

    data = ranef.data.load("Salamanders")
    fit = ranef.glmm("count ~ mined + (1 | site)", data, dispersion="~ mined",
                     family=ranef.families.NegativeBinomial2("sqrt"),
                     priors={"sd": ranef.priors.Gamma(2, 0.5)})  # fmt: skip
    assert "the likelihood has a better optimum elsewhere" in html(fit)
