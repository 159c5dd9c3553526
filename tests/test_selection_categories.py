"""Categories left out: closed forms, refits and folds, with and without an order."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import ranef
from ranef.errors import ModelError
from ranef.families import Multinomial
from ranef.questions.selection.integrated import Predicted, joint_log_density


@pytest.fixture(scope="module")
def events():
    """Events in groups, as numbers and as names of two categories."""
    rng = np.random.default_rng(3)
    K, m = 14, 6
    g, x = np.repeat(np.arange(K), m), rng.normal(size=K * m)
    eta = 0.3 + 0.7 * x + 0.9 * rng.normal(size=K)[g]
    y = (rng.random(K * m) < 1 / (1 + np.exp(-eta))).astype(int)
    names = pd.Categorical(np.array(["no", "yes"])[y], ["no", "yes"], ordered=True)
    return pd.DataFrame({"g": g, "x": x, "y": y, "named": names, "word": names.astype(str)})


@pytest.fixture(scope="module")
def fits(events):
    return {
        "events": ranef.glmm("y ~ x + (1 | g)", events, family="binomial"),
        "ordered": ranef.glmm("named ~ x + (1 | g)", events, family="cumulative"),
        "unordered": ranef.glmm("word ~ x + (1 | g)", events, family="multinomial"),
    }


@pytest.mark.parametrize("kind", ["ordered", "unordered"])
@pytest.mark.parametrize("by", ["g", None])
def test_two_categories_are_events(fits, kind, by):
    wanted, found = fits["events"].leave_out(by), fits[kind].leave_out(by)
    np.testing.assert_allclose(found.scored.logs, wanted.scored.logs, atol=2e-3)
    assert np.isnan(found.rmse)
    assert "rmse" not in found.tidy()


@pytest.mark.parametrize("kind", ["ordered", "unordered"])
def test_two_categories_are_events_when_fitted_again(fits, kind):
    wanted, found = fits["events"].leave_out("g", refit=True), fits[kind].leave_out("g", refit=True)
    np.testing.assert_allclose(found.scored.logs, wanted.scored.logs, atol=2e-2)


@pytest.mark.parametrize("kind", ["ordered", "unordered"])
def test_scores_of_two_categories(fits, kind):
    scores = ["log", "brier"]
    wanted = ranef.cross_validate(fits["events"], "row", folds=5, score=scores).tidy()
    found = ranef.cross_validate(fits[kind], "row", folds=5, score=scores).tidy()
    np.testing.assert_allclose(found.estimate[0], wanted.estimate[0], atol=0.05)
    # the sum over both categories is twice that of the event
    np.testing.assert_allclose(found.estimate[1], 2 * wanted.estimate[1], atol=2e-3)


def test_ranked_probability_score_is_one_cut_of_two_categories(fits):
    found = ranef.cross_validate(fits["ordered"], "group", folds=4, score="all").tidy()
    assert list(found.score) == ["log", "crps", "brier"]
    np.testing.assert_allclose(2 * found.estimate[1], found.estimate[2], rtol=1e-10)


def test_density_of_several_log_odds_against_a_grid():
    """Two effects of a group enter the log odds of three categories in four rows."""
    rng = np.random.default_rng(1)
    y, m = np.array([0.0, 2.0, 1.0, 1.0]), 4
    etas = rng.normal(size=(2, m))
    L = np.zeros((2, m, 2))
    L[0, :, 0], L[1, :, 0], L[1, :, 1] = 0.8, 0.3, 1.1
    wide = L.reshape(2 * m, 2)
    family = Multinomial(3)
    found = joint_log_density(
        family.core(), y, None, None, Predicted(np.arange(m), etas, wide @ wide.T)
    )
    z, w = np.polynomial.hermite_e.hermegauss(60)
    total = 0.0
    for a, wa in zip(z, w / w.sum(), strict=True):
        for b, wb in zip(z, w / w.sum(), strict=True):
            p = family.mean(etas + L @ np.array([a, b]))
            total += wa * wb * np.prod(p[np.arange(m), y.astype(int)])
    assert abs(found - np.log(total)) < 5e-3


def test_refits_of_ordered_categories_are_near_the_closed_form():
    wine = ranef.glmm("rating ~ temp + contact + (1 | judge)", ranef.data.load("wine"),
                      family="cumulative")  # fmt: skip
    closed, again = wine.leave_out("judge"), wine.leave_out("judge", refit=True)
    assert closed.elpd > again.elpd
    # the optimism of few groups is found by refits without each of them
    assert abs(closed.elpd - closed.optimism() - again.elpd) < 0.01
    assert np.corrcoef(closed.scored.logs, again.scored.logs)[0, 1] > 0.9


def test_models_of_categories_are_compared_by_what_they_predict(events):
    """An effect that is there is seen by groups and by rows left out."""
    fits = {
        "with": ranef.glmm("word ~ x + (1 | g)", events, family="multinomial"),
        "without": ranef.glmm("word ~ 1 + (1 | g)", events, family="multinomial"),
    }
    for focus in ("population", "individual"):
        found = ranef.compare(fits, focus=focus, criterion="loo").tidy()
        assert found.elpd[0] > found.elpd[1]


@pytest.mark.parametrize(
    ("kind", "score"), [("ordered", "rmse"), ("unordered", "rmse"), ("unordered", "crps")]
)
def test_scores_that_categories_have_not(fits, kind, score):
    with pytest.raises(ModelError, match=r"is for .*; use score='log'"):
        ranef.cross_validate(fits[kind], score=score)
