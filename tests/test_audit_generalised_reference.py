"""Generalised fits and their answers beside lme4, glmmTMB, ordinal and emmeans.

The tables are simulated and used by no other test; `reference/audit_generalised.R` made the
values (versions in `ver`). Where a search of R's ends early, ours is not lower.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import ranef

HERE = Path(__file__).parent / "reference"
DATA = json.loads((HERE / "audit_generalised_data.json").read_text())
R = json.loads((HERE / "audit_generalised.json").read_text())

FITS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "diary": ("diary", "drink ~ trt + stress + day + (stress | person)", {"family": "binomial"}),
    "wards": ("wards", "inf ~ type + age + offset(log(days)) + (1 | ward)", {"family": "poisson"}),
    "nb2": ("counts", "y2 ~ x + hab + (1 | site)", {"family": "nbinom2", "dispersion": "~ x"}),
    "nb1": ("counts", "y1 ~ x + hab + (1 | site)", {"family": "nbinom1", "dispersion": "~ x"}),
    "zinb": ("counts", "zi ~ x + hab + (1 | site)", {"family": "nbinom2", "zero": "~ hab"}),
    "zip": ("counts", "zip ~ x + hab + (1 | site)",
            {"family": "poisson", "zero": "~ hab + (1 | site)"}),
    "hur": ("counts", "hur ~ x + hab + (1 | site)",
            {"family": "truncated_poisson", "zero": "~ hab"}),
    "bin": ("crossed", "cbind(s, tr - s) ~ x + grp + (1 | rater) + (1 | item)",
            {"family": "binomial"}),
    "bb": ("crossed", "cbind(s, tr - s) ~ x + grp + (1 | rater) + (1 | item)",
           {"family": "betabinomial"}),
    "beta": ("crossed", "beta ~ x + grp + (1 | rater) + (1 | item)", {"family": "beta"}),
    "gam": ("crossed", "cost ~ x + grp + (1 | rater) + (1 | item)",
            {"family": "Gamma", "link": "log"}),
    "tw": ("crossed", "tw ~ x + grp + (1 | rater) + (1 | item)", {"family": "tweedie"}),
    "cl": ("crossed", "yb ~ x + grp + (1 | rater) + (1 | item)",
           {"family": "binomial", "link": "cloglog"}),
    "ord": ("crossed", "ord ~ x + grp + (x | rater)", {"family": "cumulative"}),
}  # fmt: skip


@pytest.fixture(scope="module")
def fits() -> dict[str, ranef.GeneralizedMixedModelFit]:
    return {
        name: ranef.glmm(formula, DATA[table], **how)
        for name, (table, formula, how) in FITS.items()
    }


def values(x: Any) -> np.ndarray:
    return np.array(x if isinstance(x, list) else [x], dtype=float)


@pytest.mark.parametrize("name", FITS)
def test_log_likelihood_coefficients_and_errors(fits, name):
    fit, theirs = fits[name], R[name]
    assert fit.optimum.converged
    assert fit.loglik > theirs["ll"] - 1e-6
    assert fit.loglik == pytest.approx(theirs["ll"], abs=1e-4)
    table = fit.tidy()
    mean = table[table["component"] == "conditional"]
    count = len(mean)
    first = 4 if name == "ord" else 0  # clmm puts its thresholds first
    at = slice(first, first + count)
    np.testing.assert_allclose(mean["estimate"], values(theirs["b"])[at], atol=5e-5)
    np.testing.assert_allclose(mean["std_error"], values(theirs["se"])[at], atol=5e-5)


def test_deviations(fits):
    for name in set(FITS) - {"ord"}:
        sd = fits[name].tidy("variance").query("parameter == 'sd' and component == 'conditional'")
        np.testing.assert_allclose(sd["estimate"], values(R[name]["sd"]), atol=2e-5, err_msg=name)


def test_the_hurdle_s_standard_deviation_is_that_of_the_higher_likelihood(fits):
    assert fits["hur"].loglik >= R["hur"]["ll"]


@pytest.mark.parametrize(
    ("name", "key", "question", "column"),
    [
        ("diary", "diary", {"specs": "trt", "type": "link"}, "emmean"),
        ("diary", "diary_r", {"specs": "trt", "kind": "typical"}, "prob"),
        ("wards", "wards_def", {"specs": "type", "kind": "typical"}, "rate"),
        ("wards", "wards_r", {"specs": "type", "kind": "typical", "at": {"days": 100}}, "rate"),
        ("zinb", "zi", {"specs": "hab", "kind": "typical", "component": "zero"}, "response"),
    ],
)
def test_marginal_means_are_emmeans_s_at_an_effect_of_zero(fits, name, key, question, column):
    found = ranef.emmeans(fits[name], **question).tidy()
    np.testing.assert_allclose(found["estimate"], R["em"][key][column], rtol=5e-5)
    np.testing.assert_allclose(found["std_error"], R["em"][key]["SE"], rtol=1e-4)


def test_contrasts_trends_and_joint_tests(fits):
    ratios = ranef.contrasts(fits["nb2"], "hab", "pairwise", kind="typical").tidy()
    np.testing.assert_allclose(ratios["estimate"], R["em"]["nb2"]["ratio"], rtol=5e-5)
    np.testing.assert_allclose(ratios["std_error"], R["em"]["nb2"]["SE"], rtol=1e-4)
    odds = ranef.contrasts(fits["bin"], "grp", "revpairwise", kind="typical").tidy()
    np.testing.assert_allclose(odds["estimate"], R["em"]["bin"]["odds.ratio"], rtol=1e-5)
    slopes = ranef.emtrends(fits["diary"], "trt", "stress").tidy()
    np.testing.assert_allclose(slopes["estimate"], R["em"]["tr"]["stress.trend"], rtol=1e-5)
    joint = ranef.joint_tests(fits["nb2"]).tidy()
    np.testing.assert_allclose(joint["statistic"], R["em"]["joint"]["F.ratio"], rtol=3e-4)


def test_profiles_are_lme4_s_and_end_where_the_likelihood_says(fits):
    """glmmTMB interpolates more coarsely: its end for the intercept is 7e-4 off."""
    found = fits["wards"].confint("profile", parameters="all")
    order = [1, 2, 3, 4, 0]  # of lme4, the sd first
    for side, theirs in (("conf_low", "2.5 %"), ("conf_high", "97.5 %")):
        lme4 = np.array(R["profg"][theirs])[order]
        np.testing.assert_allclose(found[side], lme4, atol=1e-4)
        np.testing.assert_allclose(found[side].iloc[:4], R["prof"][theirs], atol=1e-3)
    end = float(found["conf_low"].iloc[0])
    table, formula, how = FITS["wards"]
    for value, tolerance in ((end, 1e-5), (R["prof"]["2.5 %"][0], 1.0)):
        there = ranef.glmm(formula, DATA[table], **how, fixed={"(Intercept)": value})
        rise = 2 * (fits["wards"].loglik - there.loglik)
        gap = abs(rise - 3.841458821)
        assert gap < tolerance
        assert (gap > 1e-3) == (value != end)


# averages by brute force


NODES, WEIGHTS = np.polynomial.hermite_e.hermegauss(80)


def integrated(mean: np.ndarray, sd: np.ndarray, of: Any) -> np.ndarray:
    at = mean[:, None] + np.broadcast_to(sd, mean.shape)[:, None] * NODES
    return (of(at) * WEIGHTS).sum(axis=1) / np.sqrt(2 * np.pi)


def expit(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


@pytest.mark.parametrize("target", [False, True])
def test_average_effects_with_random_slopes(fits, target):
    fit, data = fits["diary"], {k: np.array(v) for k, v in DATA["diary"].items()}
    used = [a is not None and b is not None for a, b in zip(data["drink"], data["stress"],
                                                            strict=True)]  # fmt: skip
    people = {"stress": data["stress"][used].astype(float), "day": data["day"][used],
              "share": np.ones(sum(used))}  # fmt: skip
    more: dict[str, Any] = {}
    if target:
        people = {"stress": np.array([-1.0, 0, 2]), "day": np.array([0.0, 3, 10]),
                  "share": np.array([5.0, 1, 2])}  # fmt: skip
        more = {"population": people, "weights": "share"}
    b, psi = fit.coef.to_numpy(), fit.estimate.covariances[0]
    s = people["stress"]
    sd = np.sqrt(psi[0, 0] + 2 * psi[0, 1] * s + psi[1, 1] * s**2)
    drug, placebo = (
        np.average(integrated(b[0] + b[1] * t + b[2] * s + b[3] * people["day"], sd, expit),
                   weights=people["share"])
        for t in (0, 1)
    )  # fmt: skip
    expected = {
        "difference": placebo - drug,
        "ratio": placebo / drug,
        "odds": placebo / (1 - placebo) / (drug / (1 - drug)),
    }
    for compare, value in expected.items():
        found = ranef.average(fit, "trt", compare=compare, **more).tidy()["estimate"].iloc[0]
        assert found == pytest.approx(value, rel=1e-9)


def test_average_effects_count_zeros_and_truncation(fits):
    x = np.array(DATA["counts"]["x"])
    for name in ("zinb", "hur"):
        fit = fits[name]
        table = fit.tidy()
        c, z = (table[table["component"] == part]["estimate"].to_numpy()
                for part in ("conditional", "zero"))  # fmt: skip
        sd = fit.tidy("variance")["estimate"].iloc[0]

        def mean(level: int, name: str = name, c: Any = c, z: Any = z, sd: Any = sd) -> float:
            shift = np.array([0.0, c[2], c[3]])[level]
            of = np.exp if name == "zinb" else (lambda v: np.exp(v) / -np.expm1(-np.exp(v)))
            count = integrated(c[0] + c[1] * x + shift, sd, of).mean()
            return float(count * (1 - expit(z[0] + np.array([0.0, z[1], z[2]])[level])))

        found = ranef.average(fit, "hab").tidy()["estimate"]
        np.testing.assert_allclose(found, [mean(1) - mean(0), mean(2) - mean(0)], rtol=1e-8)


def test_population_probabilities(fits):
    crossed = DATA["crossed"]
    cl, b = fits["cl"], fits["cl"].coef.to_numpy()
    sd = np.sqrt(np.sum(cl.tidy("variance")["estimate"] ** 2))
    eta = b[0] + b[1] * np.array(crossed["x"]) + b[2] * (np.array(crossed["grp"]) == "new")
    np.testing.assert_allclose(
        cl.predict(crossed, kind="population"),
        integrated(eta, sd, lambda e: -np.expm1(-np.exp(e))), rtol=1e-7,
    )  # fmt: skip
    fit = fits["ord"]
    table = fit.tidy()["estimate"].to_numpy()
    psi, x = fit.estimate.covariances[0], np.array(crossed["x"])
    eta = table[0] * x + table[1] * (np.array(crossed["grp"]) == "new")
    sd = np.sqrt(psi[0, 0] + 2 * psi[0, 1] * x + psi[1, 1] * x**2)
    below = [integrated(cut - eta, sd, expit) for cut in table[2:]]
    steps = np.diff(np.stack([np.zeros(len(x)), *below, np.ones(len(x))], axis=1), axis=1)
    np.testing.assert_allclose(fit.predict(crossed, kind="population"), steps, atol=1e-9)


def test_the_mean_without_the_zero_part(fits):
    """glmmTMB's type = "conditional": exp(eta), whatever zeros and truncation do to it."""
    for name in ("zinb", "hur", "nb2"):
        fit, table = fits[name], DATA["counts"]
        eta = fit.predict(table, kind="typical", type="link")
        mean = fit.predict(table, kind="typical", type="conditional", conf_level=0.95)
        np.testing.assert_allclose(mean["estimate"], np.exp(eta), rtol=1e-12)
        assert np.all(mean["conf_low"] < mean["estimate"])
        sd = fit.tidy("variance")["estimate"].iloc[0]
        population = fit.predict(table, kind="population", type="conditional")
        np.testing.assert_allclose(population, np.exp(eta + sd**2 / 2), rtol=1e-9)
    with pytest.raises(ranef.errors.ModelError, match="has categories"):
        fits["ord"].predict(type="conditional")
