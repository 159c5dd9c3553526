"""One-sided, equivalence and non-inferiority tests of contrasts; means on a robust covariance."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

import ranef
from ranef.errors import ModelError


@pytest.fixture(scope="module")
def fit():
    return ranef.lmm("effort ~ Type + (1 | Subject)", ranef.data.load("ergoStool"))


def asked(fit, **how):
    return ranef.contrasts(fit, "Type", "reference", adjust="none", **how).tidy()


def test_one_sided_tests(fit):
    both, greater, less = (asked(fit, side=s) for s in ("two-sided", "greater", "less"))
    t = both["statistic"]
    np.testing.assert_allclose(greater["p_value"], stats.t.sf(t, both["df"]), rtol=1e-10)
    np.testing.assert_allclose(less["p_value"], stats.t.cdf(t, both["df"]), rtol=1e-10)
    reach = stats.t.ppf(0.95, both["df"]) * both["std_error"]
    np.testing.assert_allclose(greater["conf_low"], both["estimate"] - reach, rtol=1e-10)
    np.testing.assert_allclose(less["conf_high"], both["estimate"] + reach, rtol=1e-10)
    assert np.isinf(greater["conf_high"]).all()
    assert np.isneginf(less["conf_low"]).all()


def test_against_another_value(fit):
    both, moved = asked(fit), asked(fit, null=2.0)
    t = (both["estimate"] - 2.0) / both["std_error"]
    np.testing.assert_allclose(moved["statistic"], t, rtol=1e-10)
    np.testing.assert_allclose(moved["p_value"], 2 * stats.t.sf(abs(t), both["df"]), rtol=1e-9)
    assert "Tested against 2." in str(ranef.contrasts(fit, "Type", null=2.0))


@pytest.mark.parametrize(("side", "sign"), [("noninferiority", 1), ("nonsuperiority", -1)])
def test_within_a_margin_on_one_side(fit, side, sign, agree):
    """emmeans's test(side = "noninferiority", delta = 1): t = (estimate + delta) / SE."""
    both, found = asked(fit), asked(fit, side=side, delta=1.0)
    t = (both["estimate"] + sign) / both["std_error"]
    np.testing.assert_allclose(found["statistic"], t, rtol=1e-10)
    tail = stats.t.sf(t, both["df"]) if sign > 0 else stats.t.cdf(t, both["df"])
    agree(f"contrasts(side='{side}')", "p-values of Type, ergoStool, margin 1", found["p_value"],
          tail, peer="emmeans's definition of side and delta", rtol=1e-9)  # fmt: skip


def test_equivalence_is_two_one_sided_tests(fit, agree):
    both, found = asked(fit), asked(fit, side="equivalence", delta=1.5)
    above = asked(fit, side="noninferiority", delta=1.5)["p_value"]
    below = asked(fit, side="nonsuperiority", delta=1.5)["p_value"]
    np.testing.assert_allclose(found["p_value"], np.maximum(above, below), rtol=1e-10)
    t = (abs(both["estimate"]) - 1.5) / both["std_error"]
    agree("contrasts(side='equivalence')", "p-values of Type, ergoStool, margin 1.5",
          found["p_value"], stats.t.cdf(t, both["df"]),
          peer="emmeans's definition of side and delta", rtol=1e-9)  # fmt: skip


def test_several_of_them(fit):
    plain = ranef.contrasts(fit, "Type", side="greater", adjust="none").tidy()["p_value"]
    left_out = ranef.contrasts(fit, "Type", side="greater")
    m = len(plain)
    np.testing.assert_allclose(left_out.tidy()["p_value"], 1 - (1 - plain) ** m, rtol=1e-9)
    assert "Sidak" in str(left_out)
    found = ranef.contrasts(fit, "Type", side="greater", adjust="bonferroni").tidy()
    np.testing.assert_allclose(found["p_value"], np.minimum(1, m * plain), rtol=1e-9)
    reach = stats.t.ppf(1 - 0.05 / m, found["df"]) * found["std_error"]
    np.testing.assert_allclose(found["conf_low"], found["estimate"] - reach, rtol=1e-9)


def test_ratios_within_a_quarter():
    cbpp = ranef.data.load("cbpp")
    fit = ranef.glmm("incidence ~ period + offset(log(size)) + (1 | herd)", cbpp, family="poisson")
    found = ranef.contrasts(
        fit, "period", "consecutive", side="equivalence", delta=math.log(1.25), adjust="none"
    ).tidy()
    plain = ranef.contrasts(fit, "period", "consecutive", compare="ratio", adjust="none").tidy()
    error = plain["std_error"] / plain["estimate"]
    z = (abs(np.log(plain["estimate"])) - math.log(1.25)) / error
    np.testing.assert_allclose(found["p_value"], stats.norm.cdf(z), rtol=1e-8)


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ({"side": "up"}, "side"),
        ({"side": "equivalence"}, "needs a margin, delta > 0"),
        ({"side": "greater", "delta": 1.0}, "has no margin"),
        ({"side": "greater", "adjust": "tukey"}, "is for two-sided tests"),
        ({"null": "a"}, "null is a number"),
        ({"side": "noninferiority", "delta": -1.0}, "needs a margin"),
    ],
)
def test_what_is_refused(fit, how, words):
    with pytest.raises(ModelError, match=words):
        ranef.contrasts(fit, "Type", **how)


# --- means on a robust covariance


def test_means_on_a_robust_covariance(fit):
    robust = ranef.robust(fit)
    means = ranef.emmeans(fit, "Type", vcov=robust)
    L = np.eye(4)
    L[:, 0] = 1.0
    V = robust.covariance
    np.testing.assert_allclose(means.tidy()["std_error"], np.sqrt(np.diag(L @ V @ L.T)), rtol=1e-10)
    found = ranef.contrasts(fit, "Type", "reference", vcov=robust, adjust="none").tidy()
    own = robust.tidy().iloc[1:]
    for name in ("estimate", "std_error", "df", "p_value", "conf_low"):
        np.testing.assert_allclose(found[name], own[name], rtol=1e-9)
    joint = ranef.joint_tests(fit, vcov=robust).tidy().iloc[0]
    want = robust.test(["TypeT2", "TypeT3", "TypeT4"])
    assert joint["statistic"] == pytest.approx(want.statistic, rel=1e-8)
    assert joint["df2"] == pytest.approx(want.df2, rel=1e-8)
    assert joint["p_value"] == pytest.approx(want.p_value, rel=1e-8)
    assert "cluster-robust covariance (CR2, 9 clusters: Subject)" in str(means).replace("\n", " ")


def test_slopes_on_a_robust_covariance():
    fit = ranef.lmm("distance ~ age * Sex + (age | Subject)", ranef.data.load("Orthodont"))
    robust = ranef.robust(fit)
    slopes = ranef.emtrends(fit, "Sex", "age", vcov=robust).tidy()
    want = robust.tidy().set_index("term").loc["age"]
    assert slopes["std_error"][0] == pytest.approx(want["std_error"], rel=1e-6)
    assert slopes["df"][0] == pytest.approx(want["df"], rel=1e-6)


def test_of_a_generalised_model():
    fit = ranef.glmm("cbind(incidence, size - incidence) ~ period + (1 | herd)",
                     ranef.data.load("cbpp"), family="binomial")  # fmt: skip
    robust = ranef.robust(fit)
    found = ranef.contrasts(fit, "period", "reference", type="link", vcov=robust, adjust="none")
    own = robust.tidy().iloc[1:4]
    np.testing.assert_allclose(found.tidy()["std_error"], own["std_error"], rtol=1e-9)
    with pytest.raises(ModelError, match=r"variance parameters too.*kind='typical'"):
        ranef.emmeans(fit, "period", vcov=robust)


def test_covariances_that_do_not_fit(fit):
    other = ranef.lmm("effort ~ Type + (1 | Subject)", ranef.data.load("ergoStool"))
    with pytest.raises(ModelError, match="another fit"):
        ranef.emmeans(fit, "Type", vcov=ranef.robust(other))
    with pytest.raises(ModelError, match=r"of ranef\.robust"):
        ranef.emmeans(fit, "Type", vcov=np.eye(4))
    with pytest.raises(ModelError, match="leave df out"):
        ranef.emmeans(fit, "Type", vcov=ranef.robust(fit), df="normal")
