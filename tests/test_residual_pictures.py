"""Variogram and autocorrelation of residuals with a structure."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import ranef
from ranef.errors import ModelError
from ranef.plots import alt_text
from ranef.questions.checks.memory_numbers import by_distance, pairs_of

SLEEP = ranef.data.load("sleepstudy")


def test_every_two_rows_of_a_series_are_a_pair():
    rng = np.random.default_rng(1)
    series, where = rng.integers(0, 4, 40), rng.normal(size=(40, 2))
    found = pairs_of(series, where)
    mine = {tuple(sorted(pair)) for pair in zip(found.first, found.second, strict=True)}
    wanted = {
        (i, j) for i in range(40) for j in range(i + 1, 40) if series[i] == series[j]
    }  # fmt: skip
    assert mine == wanted
    at = np.linalg.norm(where[found.first] - where[found.second], axis=1)
    np.testing.assert_allclose(found.distance, at)


def test_means_by_distance_by_hand():
    r = np.array([1.0, -1.0, 2.0, 0.0])
    found = by_distance(r, pairs_of(np.zeros(4, dtype=int), np.arange(4.0)[:, None]), 12)
    assert found.distance.tolist() == [1.0, 2.0, 3.0]
    assert found.pairs.tolist() == [3, 2, 1]
    assert found.semivariance.tolist() == pytest.approx([17 / 6, 0.5, 0.5])
    assert found.correlation.tolist() == pytest.approx([-1 / 1.5, 1 / 1.5, 0.0])


def drawn(seed: int = 3) -> pd.DataFrame:
    """200 series of 12 times with residuals exp(-distance / 3)."""
    rng = np.random.default_rng(seed)
    t = np.sort(rng.uniform(0, 20, size=(200, 12)), axis=1)
    e = np.array([
        np.linalg.cholesky(np.exp(-np.abs(np.subtract.outer(x, x)) / 3)) @ rng.normal(size=12)
        for x in t
    ])  # fmt: skip
    return pd.DataFrame({"g": np.repeat(np.arange(200), 12), "t": t.ravel(), "y": 5 + e.ravel()})


def test_points_follow_the_line_and_whitened_ones_are_flat():
    fit = ranef.lmm("y ~ 1", drawn(), residual="ou(t | g)")
    panel = fit.plot.autocorrelation()
    model, points = (line.get_ydata() for line in panel.get_lines()[1:])
    assert len(points) == 12
    assert np.max(np.abs(points - model)) < 0.12
    assert points[0] > 0.7
    white = fit.plot.autocorrelation(whitened=True).get_lines()[-1].get_ydata()
    assert np.max(np.abs(white)) < 0.1
    semi, line = (line.get_ydata() for line in fit.plot.variogram().get_lines()[:2])
    assert np.max(np.abs(semi - line)) < 0.2
    flat = fit.plot.variogram(whitened=True).get_lines()[0].get_ydata()
    assert np.max(np.abs(flat - 1.0)) < 0.15


def test_visits_are_classes_of_their_own_and_partners_do_not_mix():
    orthodont = ranef.data.load("Orthodont")
    fit = ranef.lmm("distance ~ age", orthodont, residual="us(age | Subject)")
    assert fit.plot.variogram().get_lines()[0].get_xdata().tolist() == [1.0, 2.0, 3.0]
    rng = np.random.default_rng(2)
    couples = pd.DataFrame({
        "couple": np.repeat(np.arange(30), 8), "partner": np.tile(["a", "b"], 120),
        "day": np.tile(np.repeat(np.arange(4), 2), 30), "y": rng.normal(size=240),
    })  # fmt: skip
    both = ranef.lmm("y ~ partner", couples, residual="us(partner | couple) * ar1(day | couple)")
    assert both.plot.autocorrelation().get_lines()[-1].get_xdata().tolist() == [1.0, 2.0, 3.0]


def test_words_for_those_who_do_not_see_it():
    fit = ranef.lmm("Reaction ~ Days", SLEEP, residual="ar1(Days | Subject)")
    assert "fitted structure has 0.80" in alt_text(fit, "autocorrelation")
    assert "Semivariance" in alt_text(fit, "variogram")


def test_what_has_no_picture_is_refused():
    plain = ranef.lmm("Reaction ~ Days + (1 | Subject)", SLEEP)
    with pytest.raises(ModelError, match="fit the model with a structure"):
        plain.plot.variogram()
    same = ranef.lmm("Reaction ~ Days", SLEEP, residual="homcs(1 | Subject)")
    with pytest.raises(ModelError, match="no positions"):
        same.plot.autocorrelation()
    with pytest.raises(ModelError, match="classes"):
        ranef.lmm("Reaction ~ Days", SLEEP, residual="ar1(Days | Subject)").plot.variogram(
            classes=0
        )
