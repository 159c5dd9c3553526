"""Rubin's rules: numbers of mice, and fits of imputed tables as one fit."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import ranef
from ranef.errors import ModelError
from ranef.inference.coefficients.pooling import barnard_rubin, joint_degrees, pooled

MICE = json.loads((Path(__file__).parent / "reference" / "mice.json").read_text())


def least_squares(data: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    X = np.column_stack([np.ones(len(data)), data[["age", "hyp", "chl"]]])
    y = data["bmi"].to_numpy()
    b, rss = np.linalg.lstsq(X, y, rcond=None)[:2]
    return b, rss[0] / (len(y) - 4) * np.linalg.inv(X.T @ X)


@pytest.fixture(scope="module")
def nhanes():
    pairs = [least_squares(g) for _, g in pd.DataFrame(MICE["data"]).groupby(".imp")]
    return tuple(np.array(parts) for parts in zip(*pairs, strict=True))


def rules(nhanes, complete):
    return pooled(*nhanes, lambda L: np.full(len(L), complete), lambda L, value: complete)


def test_the_numbers_of_mice(nhanes):
    found, unit, known = rules(nhanes, 21.0), np.eye(4), MICE["pool"]
    np.testing.assert_allclose(found.estimate, known["estimate"], rtol=1e-10)
    np.testing.assert_allclose(np.sqrt(np.diag(found.total)), known["std_error"], rtol=1e-10)
    np.testing.assert_allclose(found.degrees(unit), known["df"], rtol=1e-9)
    np.testing.assert_allclose(found.increase(unit), known["riv"], rtol=1e-9)
    np.testing.assert_allclose(found.missing(unit), known["fmi"], rtol=1e-9)
    without = rules(nhanes, np.inf)
    np.testing.assert_allclose(without.degrees(unit), MICE["pool_infinite"]["df"], rtol=1e-8)
    np.testing.assert_allclose(without.missing(unit), MICE["pool_infinite"]["fmi"], rtol=1e-9)


def test_the_joint_test_of_mice(nhanes):
    found = rules(nhanes, 21.0)
    test = found.joint(np.eye(4)[2:], found.estimate[2:])
    assert test.statistic == pytest.approx(MICE["D1"]["statistic"], rel=1e-9)
    assert (test.df1, test.df2) == (2, pytest.approx(MICE["D1"]["df2"], rel=1e-9))
    assert test.p_value == pytest.approx(MICE["D1"]["p_value"], rel=1e-9)


def test_a_joint_test_of_one_row_is_its_t_test(nhanes):
    found, L = rules(nhanes, 21.0), np.array([[0.0, 1.0, -2.0, 0.0]])
    test = found.joint(L, L @ found.estimate)
    t = (L @ found.estimate)[0] / np.sqrt((L @ found.total @ L.T)[0, 0])
    assert test.statistic == pytest.approx(t**2, rel=1e-10)
    assert test.df2 == pytest.approx(found.degrees(L)[0], rel=1e-12)


def test_a_joint_test_does_not_depend_on_how_it_is_written(nhanes):
    found, L = rules(nhanes, 21.0), np.eye(4)[1:]
    M = np.array([[1.0, 2.0, 0.0], [0.0, -1.0, 3.0], [1.0, 0.0, 1.0]])
    one, other = (found.joint(R @ L, R @ found.estimate[1:]) for R in (np.eye(3), M))
    assert one.statistic == pytest.approx(other.statistic, rel=1e-9)
    assert one.df2 == pytest.approx(other.df2, rel=1e-9)


def test_degrees_at_their_ends():
    """Nothing missing: nearly the complete ones; few draws, few degrees: finite and positive."""
    np.testing.assert_allclose(barnard_rubin(np.zeros(1), 5, np.array([20.0])), 21 / 23 * 20)
    assert barnard_rubin(np.zeros(1), 5, np.array([np.inf]))[0] == np.inf
    assert joint_degrees(0.25, 3, 5, 1e9) == pytest.approx(joint_degrees(0.25, 3, 5, np.inf), 1e-5)
    assert joint_degrees(0.0, 3, 5, 20.0) == pytest.approx(21 / 23 * 20)
    for m, complete in ((2, 5.0), (5, 5.0), (2, np.inf)):
        assert 0.5 < joint_degrees(0.8, 2, m, complete) < 50


# --- of fits


def imputed(seed: int, n: int = 4):
    """The sleep study by arms, some responses drawn anew."""
    rng = np.random.default_rng(seed)
    sleep = ranef.data.load("sleepstudy")
    sleep["arm"] = np.where(sleep["Subject"].astype(int) % 2, "a", "b")
    sleep["slow"] = (sleep["Reaction"] > 300).astype(int)
    for _ in range(n):
        y = sleep["Reaction"].to_numpy(copy=True)
        y[:40] += rng.normal(size=40) * 25
        yield sleep.assign(Reaction=y, slow=np.where(np.arange(180) < 20, y > 290, sleep["slow"]))


@pytest.fixture(scope="module")
def fits():
    return [ranef.lmm("Reaction ~ Days * arm + (Days | Subject)", d) for d in imputed(1)]


@pytest.fixture(scope="module")
def fit(fits):
    return ranef.pool(fits)


@pytest.mark.parametrize("df", ["satterthwaite", "kenward-roger"])
def test_the_rules_by_hand(fits, fit, df):
    """Of each coefficient, with the fits' own degrees of freedom and covariances."""
    tables = [f.tidy(df=df) for f in fits]
    q = np.array([t["estimate"] for t in tables])
    u = np.array([t["std_error"] for t in tables]) ** 2
    complete = np.mean([t["df"] for t in tables], axis=0)
    w, b, m = u.mean(axis=0), q.var(axis=0, ddof=1), len(fits)
    T = w + (1 + 1 / m) * b
    share = (1 + 1 / m) * b / T
    observed = (complete + 1) / (complete + 3) * complete * (1 - share)
    found = fit.tidy(df=df)
    np.testing.assert_allclose(found["estimate"], q.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(found["std_error"], np.sqrt(T), rtol=1e-10)
    nu = 1 / (share**2 / (m - 1) + 1 / observed)
    np.testing.assert_allclose(found["df"], nu, rtol=1e-10)
    np.testing.assert_allclose(found["riv"], share / (1 - share), rtol=1e-9)


def test_means_and_contrasts_are_those_of_the_fits_pooled(fits, fit):
    means = [f.emmeans("arm").tidy() for f in fits]
    found = fit.emmeans("arm").tidy()
    np.testing.assert_allclose(found["estimate"], np.mean([m["estimate"] for m in means], axis=0))
    q = np.array([f.contrasts("arm").tidy()["estimate"][0] for f in fits])
    u = np.array([f.contrasts("arm").tidy()["std_error"][0] for f in fits]) ** 2
    pair = fit.contrasts("arm").tidy()
    total = u.mean() + (1 + 1 / 4) * q.var(ddof=1)
    assert pair["std_error"][0] == pytest.approx(np.sqrt(total), rel=1e-10)
    assert len(fit.joint_tests().tidy()) == 3


def test_degrees_of_freedom_with_complete_data(fits):
    found = ranef.pool(fits, df_complete=50).tidy()
    r = found["riv"].to_numpy()
    np.testing.assert_allclose(found["df"], barnard_rubin(r, 4, np.full(4, 50.0)), rtol=1e-12)


def test_what_it_says_and_how_it_is_kept(fit, tmp_path):
    text = str(fit.summary())
    assert "pooled over 4 data sets" in text
    assert "pooled by Rubin's rules" in text
    most = 100 * fit.tidy()["fmi"].max()
    assert f"Of the information about a coefficient at most {most:.0f}% is missing." in text
    assert "Rubin's rules" in fit.methods()
    assert "pooled" in str(ranef.table({"pooled": fit, "one": fit.fits[0]}))
    fit.save(tmp_path / "pooled.ranef")
    again = ranef.load(tmp_path / "pooled.ranef")
    pd.testing.assert_frame_equal(again.tidy(), fit.tidy())
    pd.testing.assert_frame_equal(pickle.loads(pickle.dumps(fit)).tidy(), fit.tidy())
    with pytest.raises(ModelError, match="rank\\(\\) needs random effects"):
        fit.rank("Subject")


def test_generalised_fits():
    fits = [
        ranef.glmm("slow ~ Days + arm + (1 | Subject)", d, family="binomial") for d in imputed(2)
    ]
    fit = ranef.pool(fits)
    found, tables = fit.tidy(), [f.tidy() for f in fits]
    q = np.array([t["estimate"] for t in tables])
    np.testing.assert_allclose(found["estimate"], q.mean(axis=0), rtol=1e-12)
    share = found["riv"] / (1 + found["riv"])
    np.testing.assert_allclose(found["df"], 3 / share**2, rtol=1e-9)
    assert fit.tidy(exponentiate=True)["estimate"][1] == pytest.approx(np.exp(q.mean(axis=0)[1]))
    test = fit.test(["Days", "armb"])
    assert test.df1 == 2
    assert np.isfinite(test.df2)
    link = fit.emmeans("arm", type="link").tidy()["estimate"]
    assert link[1] - link[0] == pytest.approx(found["estimate"][2])
    with pytest.raises(ModelError, match="integrates over the random effects"):
        fit.average("arm")
    with pytest.raises(ModelError, match="no random effects to integrate over"):
        fit.emmeans("arm", kind="population")


def test_fits_that_are_not_of_one_model(fits):
    other = ranef.lmm("Reaction ~ Days + (Days | Subject)", next(imputed(1)))
    for given, message in (
        (fits[:1], "two or more imputed tables, not 1"),
        ([fits[0], other], "fit 0 and fit 1 differ in their coefficients, such as 'armb'"),
        ([fits[0], 3.0], r"pool\(\) takes a fit of"),
    ):
        with pytest.raises(ModelError, match=message):
            ranef.pool(given)
    alike = ranef.lmm("Reaction ~ Days * arm + (1 | Subject)", next(imputed(1)))
    with pytest.raises(ModelError, match="fit 1 is of"):
        ranef.pool([fits[0], alike])
    with pytest.raises(ModelError, match="df_complete must be above zero"):
        ranef.pool(fits, df_complete=-1)
    fewer = ranef.lmm(fits[0].formula, next(imputed(1)).iloc[:-3])
    with pytest.raises(ModelError, match=r"fit 0 has 180 and fit 2 has 177; fill in"):
        ranef.pool([fits[0], fits[1], fewer])


@pytest.mark.study
def test_pooled_intervals_cover():
    """600 draws, a third of the responses gone at random and drawn from the posterior, m = 5.

    Three standard errors of a share of 600 are 2.7 points.
    """
    rng, covered, draws = np.random.default_rng(5), 0, 600
    g, x = np.repeat(np.arange(15), 6), np.tile(np.arange(6.0), 15)
    for _ in range(draws):
        y = 1 + 0.5 * x + rng.normal(size=15)[g] + rng.normal(size=90)
        gone = rng.random(90) < 1 / 3
        data = pd.DataFrame({"y": y, "x": x, "g": g})
        seen = ranef.lmm("y ~ x + (1 | g)", data[~gone])
        new = seen.simulate(5, rng=rng, new=data, kind="posterior", parameters="draw").to_numpy()
        fits = [
            ranef.lmm("y ~ x + (1 | g)", data.assign(y=np.where(gone, drawn, y))) for drawn in new.T
        ]
        row = ranef.pool(fits).tidy().iloc[1]
        covered += row["conf_low"] <= 0.5 <= row["conf_high"]
    assert abs(covered / draws - 0.95) < 0.035, covered / draws
