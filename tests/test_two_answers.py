"""Subject-specific and population-averaged coefficients in one table."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import ranef
from ranef.errors import ModelError


@pytest.fixture(scope="module")
def both():
    return ranef.two_answers(
        "resp ~ age * smoke", ranef.data.load("ohio"), groups="id", family="binomial"
    )


def test_three_rows_a_coefficient(both):
    table = both.tidy()
    assert list(table.columns) == [
        "question", "term", "estimate", "std_error", "conf_low", "conf_high", "attenuation",
    ]  # fmt: skip
    assert list(table.question.unique()) == ["subject", "population", "gee"]
    by = {name: rows.set_index("term") for name, rows in table.groupby("question")}
    np.testing.assert_allclose(by["subject"].estimate, both.mixed.coef)
    np.testing.assert_allclose(by["gee"].estimate, both.marginal.coef)
    marginal = both.mixed.marginal().tidy().set_index("term")
    np.testing.assert_allclose(by["population"].estimate, marginal.estimate)
    np.testing.assert_allclose(by["population"].std_error, marginal.std_error)
    np.testing.assert_allclose(by["population"].attenuation, marginal.attenuation)
    np.testing.assert_allclose(by["subject"].attenuation, 1.0)
    np.testing.assert_allclose(by["gee"].attenuation, by["gee"].estimate / by["subject"].estimate)


def test_reference(both, agree):
    """Coefficients of ohio: adaptive quadrature with 25 nodes, the projection, exchangeable GEE."""
    table = both.tidy().set_index("term")
    values = {
        "subject": ([-0.21637, 0.46203, 0.10533], "lme4 1.1-31 (25 nodes)"),
        "population": ([-0.14156, 0.30043, 0.07101], "Hedeker's projection by 101 nodes in R"),
        "gee": ([-0.14124, 0.31383, 0.07083], "geepack 1.3.9"),
    }
    for question, (value, peer) in values.items():
        rows = table[table.question == question].estimate[["age", "smoke", "age:smoke"]]
        agree("ranef.two_answers", f"{question}, ohio", rows, value, peer=peer, atol=6e-5)


def test_words(both):
    text = str(both)
    assert "0.65 to 0.67 times the subject's" in " ".join(text.split())
    assert "a question of policy" in " ".join(text.split())
    assert "agree within the error of their difference" in " ".join(text.split())
    assert both.apart == []
    assert "population goes from 0.174" in both.plot_text()
    assert both.to_markdown().count("| population") + both.to_markdown().count("population") > 3


def test_picture(both):
    pytest.importorskip("matplotlib").use("agg")
    axes = both.plot()
    labels = [text.get_text() for text in axes.get_legend().get_texts()]
    assert "gee" in labels
    assert "typical level" in labels
    lines = {line.get_label(): line for line in axes.lines}
    along = lines["gee"].get_xdata()
    held = {"age": along, "smoke": np.full(len(along), ranef.data.load("ohio").smoke.mean())}
    np.testing.assert_allclose(lines["gee"].get_ydata(), both.marginal.predict(held), rtol=1e-10)


def test_a_linear_model_has_one_answer():
    both = ranef.two_answers("Reaction ~ Days", ranef.data.load("sleepstudy"), groups="Subject")
    table = both.tidy()
    np.testing.assert_allclose(table.attenuation, 1.0, rtol=1e-6)
    assert "both questions have one answer" in " ".join(str(both).split())


def informative(informed: bool) -> pd.DataFrame:
    """Patients with a higher level have more rows, or as many as others."""
    rng = np.random.default_rng(11)
    u = 1.5 * rng.normal(size=600)
    size = np.where(u > 0, 9, 2) if informed else rng.choice([2, 9], 600)
    g = np.repeat(np.arange(600), size)
    x = rng.normal(size=len(g))
    p = 1 / (1 + np.exp(-(-0.5 + 0.7 * x + u[g])))
    return pd.DataFrame({"g": g, "x": x, "y": (rng.random(len(g)) < p).astype(int)})


def test_answers_that_differ_say_what_it_means():
    found = ranef.two_answers("y ~ x", informative(True), groups="g", family="binomial",
                              correlation="independence")  # fmt: skip
    assert found.apart == ["(Intercept)"]
    assert "size of a cluster" in " ".join(str(found).split())
    calm = ranef.two_answers("y ~ x", informative(False), groups="g", family="binomial",
                             correlation="independence")  # fmt: skip
    assert calm.apart == []


def patients(informed: bool) -> pd.DataFrame:
    """Those who are ill are seen less often later, or all alike."""
    rng = np.random.default_rng(1)
    u, rows = 1.8 * rng.normal(size=600), []
    for k in range(600):
        for t in range(6):
            y = int(rng.random() < 1 / (1 + np.exp(-(-1 + 0.5 * t + u[k]))))
            rows.append((k, t, k % 2, y))
            if rng.random() < ((0.6 if y else 0.02) if informed else 0.2):
                break
    return pd.DataFrame(rows, columns=["g", "t", "arm", "y"])


@pytest.mark.parametrize("informed", [True, False])
def test_dropout_that_depends_on_responses(informed):
    two = ranef.two_answers("y ~ t + arm", patients(informed), groups="g", time="t",
                            family="binomial", correlation="independence")  # fmt: skip
    assert two.apart == (["t"] if informed else [])
    words = "dropout that depends on earlier responses" in " ".join(str(two).split())
    assert words == informed


@pytest.mark.parametrize("sd", [0.0, 0.35])
def test_slopes_that_were_left_out(sd):
    rng = np.random.default_rng(2)
    g, x = np.repeat(np.arange(400), 8), np.tile(np.arange(8) / 2.0, 400)
    u, s = rng.normal(size=400), sd * rng.normal(size=400)
    y = rng.poisson(np.exp(0.2 + 0.3 * x + 0.4 * u[g] + s[g] * x))
    table = pd.DataFrame({"g": g, "x": x, "y": y})
    two = ranef.two_answers("y ~ x", table, groups="g", family="poisson")
    assert two.apart == (["x"] if sd else [])
    if sd:
        assert "random slopes that were left out" in " ".join(str(two).split())
        with_slopes = ranef.two_answers("y ~ x", table, groups="g", family="poisson", random="x")
        assert "not straight on the scale of the link" in " ".join(str(with_slopes).split())
        # the means of the population are those of the data, by both
        mixed = with_slopes.mixed.predict(table, kind="population")
        seen = table.groupby("x").y.mean()
        np.testing.assert_allclose(mixed.groupby(table.x).mean(), seen, rtol=0.2)


def test_trials_with_large_variation_between_patients():
    """As of toenails: half of the coefficients is left, and the two agree."""
    rng = np.random.default_rng(3)
    u, rows = 4 * rng.normal(size=294), []
    for k in range(294):
        for t in (0, 1, 2, 3, 6, 9, 12):
            eta = -1.6 - 0.4 * t - 0.14 * (k % 2) * t + u[k]
            if rng.random() > 0.07:
                rows.append((k, t, k % 2, int(rng.random() < 1 / (1 + np.exp(-eta)))))
    table = pd.DataFrame(rows, columns=["id", "month", "arm", "y"])
    two = ranef.two_answers("y ~ arm * month", table, groups="id", time="month", family="binomial")
    attenuation = two.attenuation[two.terms.index("month")]
    assert 0.3 < attenuation < 0.5
    assert two.apart == []


@pytest.mark.parametrize("family", ["cumulative", "multinomial"])
def test_categories_have_no_two_answers(family):
    with pytest.raises(ModelError, match="compares coefficients of one mean"):
        ranef.two_answers("rating ~ temp", ranef.data.load("wine"), groups="judge", family=family)


def test_nested_groups_and_slopes():
    counts = ranef.data.load("Salamanders")
    two = ranef.two_answers("count ~ mined", counts, groups="site", family="poisson", random="DOY")
    assert two.mixed.terms[0].names == ("(Intercept)", "DOY")
    with pytest.raises(ModelError, match="what stands left of the bar"):
        ranef.two_answers("count ~ mined", counts, groups="site", family="poisson",
                          random="(1 | site)")  # fmt: skip


@pytest.mark.study
def test_marginal_coefficients_are_those_of_gee():
    """Over 500 draws where both are right: equal within Monte Carlo error."""
    rng = np.random.default_rng(3)
    differences = []
    for _ in range(500):
        g = np.repeat(np.arange(100), 5)
        x = rng.normal(size=len(g))
        arm = np.repeat(np.arange(100) % 2, 5)
        u = 1.2 * rng.normal(size=100)
        p = 1 / (1 + np.exp(-(-0.3 + 0.6 * x + 0.5 * arm + u[g])))
        table = {"g": g, "x": x, "arm": arm, "y": (rng.random(len(g)) < p).astype(int)}
        two = ranef.two_answers("y ~ x + arm", table, groups="g", family="binomial")
        differences.append(two.difference)
    found = np.array(differences)
    error = found.std(axis=0, ddof=1) / np.sqrt(len(found))
    print(found.mean(axis=0), error)
    # the projection is of the means over the rows of the model: a hundredth of a coefficient
    assert (np.abs(found.mean(axis=0)) < 3 * error + 0.005).all()


def test_under_a_log_link_averaging_moves_the_intercept_alone():
    rng = np.random.default_rng(2)
    g, x = np.repeat(np.arange(60), 5), rng.normal(size=300)
    table = {"g": g, "x": x, "n": rng.poisson(np.exp(0.4 + 0.5 * x + 0.6 * rng.normal(size=60)[g]))}
    both = ranef.two_answers("n ~ x", table, groups="g", family="poisson")
    assert "moves the intercept alone" in str(both).replace("\n", " ")
    assert "flattens" not in str(both)
