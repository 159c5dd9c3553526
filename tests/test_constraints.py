"""Parameters that are held at a value, or equal: against offsets, sums, profiles, glmmTMB."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from agreement import Agree
from numpy.typing import NDArray

import ranef
from ranef import priors
from ranef.errors import ModelError
from ranef.inference.coefficients.covariance import joint_covariance

Floats = NDArray[np.float64]

REFERENCE = Path(__file__).parent / "reference"
PEER = json.loads((REFERENCE / "fixed.json").read_text(encoding="utf-8"))["answers"]
GLMMTMB = "glmmTMB 1.1.5"
CBPP = "cbind(incidence, size - incidence) ~ period + (1 | herd)"


def peer_table(name: str) -> pd.DataFrame:
    tables = json.loads((REFERENCE / "glmm.json").read_text(encoding="utf-8"))["tables"]
    return pd.DataFrame(tables[name])


def table(seed: int = 4, n: int = 400) -> pd.DataFrame:
    """Poisson counts; x2 is x1 on another scale and some noise: nearly dependent columns."""
    rng = np.random.default_rng(seed)
    g = rng.integers(0, 20, n)
    x1 = rng.normal(2.0, 1.0, n)
    x2 = 100 * x1 + rng.normal(0.0, 5.0, n)
    b = rng.normal(size=(20, 2)) * [0.5, 0.2]
    eta = 0.2 + 0.3 * x1 + 0.002 * x2 - 0.2 * (x1 - 2) + b[g, 0] + b[g, 1] * x1
    return pd.DataFrame({"y": rng.poisson(np.exp(eta)), "x1": x1, "x2": x2, "g": g})


PEERS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "cbpp": (
        "cbind(incidence, healthy) ~ period + (1 | herd)",
        "cbpp",
        {
            "family": "binomial",
            "fixed": {"period4": -1.5},
            "equal": [("period2", "period3")],
        },
    ),
    "cbpp_sd": (
        "cbind(incidence, healthy) ~ period + (1 | herd)",
        "cbpp",
        {"family": "binomial", "fixed": {"sd: herd": 1.0}},
    ),
    "owls": (
        "calls ~ FoodTreatment + SexParent + offset(log_brood) + (1 | Nest)",
        "Owls",
        {
            "family": "nbinom1",
            "zero": "~ 1",
            "fixed": {
                "dispersion: (Intercept)": 1.5,
                "zero: (Intercept)": -1,
                "sd: Nest": 0.5,
            },
        },
    ),
    "sleep": (
        "Reaction ~ Days + (Days || Subject)",
        "sleepstudy",
        {"family": "gaussian", "fixed": {"Days": 10, "sd: Subject: Days": 6}},
    ),
    "sleep_reml": (
        "Reaction ~ Days + (Days || Subject)",
        "sleepstudy",
        {"family": "gaussian", "reml": True, "fixed": {"sd: Subject: Days": 6}},
    ),
}


def test_as_glmmtmb_with_a_map(agree: Agree) -> None:
    """Log-likelihood to 1e-6, estimates to 1e-5, standard errors to 1e-4 (its Hessian)."""
    logliks, coefficients, errors, sds = [], [], [], []
    for name, (formula, source, how) in PEERS.items():
        data = ranef.data.load(source) if source == "sleepstudy" else peer_table(source)
        fit, peer = ranef.glmm(formula, data, **how), PEER[name]
        assert fit.optimum.converged
        assert fit.df_model == peer["df"]
        logliks.append((fit.loglik, peer["loglik"]))
        coefficients += zip(fit.coef, peer["coef"], strict=True)
        known = [0.0 if se is None else se for se in peer["se"]]
        errors += zip(np.sqrt(np.diag(fit.vcov)), known, strict=True)
        sds += zip(fit.theta, np.atleast_1d(peer["sd"]), strict=True)
    call, models = "glmm(fixed=..., equal=...)", "five models of cbpp, Owls, sleepstudy"
    for what, pairs, allowed in (
        ("log-likelihood", logliks, {"atol": 1e-6}),
        ("coefficients", coefficients, {"rtol": 1e-5}),
        ("standard errors", errors, {"rtol": 1e-4}),
        ("standard deviations", sds, {"rtol": 2e-5}),
    ):
        agree(call, f"{what}, {models}", *zip(*pairs, strict=True), peer=GLMMTMB, **allowed)


@pytest.mark.parametrize("reml", [False, True])
def test_a_held_coefficient_is_an_offset(reml: bool) -> None:
    """Also where the core makes nearly dependent columns orthogonal."""
    data = table()
    held = ranef.glmm(
        "y ~ x1 + x2 + (x1 | g)", data, family="poisson", reml=reml, fixed={"x1": 0.25}
    )
    data["o"] = 0.25 * data["x1"]
    by_hand = ranef.glmm("y ~ x2 + (x1 | g)", data, family="poisson", reml=reml, offset="o")
    assert held.loglik == pytest.approx(by_hand.loglik, abs=1e-8)
    assert held.df_model == by_hand.df_model
    assert held.df_resid == by_hand.df_resid
    assert held.aic == pytest.approx(by_hand.aic, abs=1e-7)
    assert held.coef["x1"] == 0.25
    np.testing.assert_allclose(held.coef.drop("x1"), by_hand.coef, rtol=1e-7)
    np.testing.assert_allclose(held.theta, by_hand.theta, rtol=1e-6)
    own = [0, 2, 3, 4, 5]
    joint = joint_covariance(held.estimate)
    np.testing.assert_allclose(
        joint[np.ix_(own, own)], joint_covariance(by_hand.estimate), rtol=1e-5, atol=1e-12
    )
    assert not joint[1].any()
    assert not joint[:, 1].any()


def test_equal_coefficients_are_one_of_the_summed_column() -> None:
    data = ranef.data.load("Salamanders")
    dummies = {"PR": "sppPR", "DM": "sppDM"}
    tied = ranef.glmm(
        "count ~ spp + (1 | site)", data, family="nbinom2", equal=[tuple(dummies.values())]
    )
    joined = data.assign(spp=data["spp"].astype(str).replace({"PR": "PRDM", "DM": "PRDM"}))
    by_hand = ranef.glmm("count ~ 0 + spp + (1 | site)", joined, family="nbinom2")
    assert tied.loglik == pytest.approx(by_hand.loglik, abs=1e-8)
    assert tied.df_model == by_hand.df_model
    assert tied.coef["sppPR"] == tied.coef["sppDM"]
    expected = by_hand.coef["sppPRDM"] - by_hand.coef["sppGP"]
    assert tied.coef["sppPR"] == pytest.approx(expected, rel=1e-6)
    V = by_hand.vcov
    variance = V.loc["sppPRDM", "sppPRDM"] + V.loc["sppGP", "sppGP"] - 2 * V.loc["sppPRDM", "sppGP"]
    for other in dummies.values():
        assert tied.vcov.loc["sppPR", other] == pytest.approx(variance, rel=1e-5)
    np.testing.assert_allclose(
        tied.predict(kind="typical"), by_hand.predict(kind="typical"), rtol=1e-6
    )
    mine, other = (f.predict(kind="conditional", conf_level=0.9) for f in (tied, by_hand))
    np.testing.assert_allclose(mine["std_error"], other["std_error"], rtol=1e-4)


def profile_table() -> pd.DataFrame:
    rng = np.random.default_rng(8)
    g = np.repeat(np.arange(15), 8)
    x = rng.normal(size=120)
    y = 1 + 0.5 * x + 0.8 * rng.normal(size=15)[g] + rng.normal(size=120)
    return pd.DataFrame({"y": y, "x": x, "g": g})


@pytest.mark.parametrize("reml", [False, True])
@pytest.mark.parametrize("sd", [0.0, 0.3, 1.5])
def test_a_held_standard_deviation_by_brute_force(sd: float, reml: bool) -> None:
    """A linear model: the likelihood in sigma alone, by its formula."""
    from scipy.optimize import minimize_scalar

    data = profile_table()
    fit = ranef.lmm("y ~ x + (1 | g)", data, reml=reml, fixed={"sd: g": sd})
    y, X = data["y"].to_numpy(), np.column_stack([np.ones(120), data["x"]])
    same = data["g"].to_numpy()[:, None] == data["g"].to_numpy()

    def deviance(log_sigma: float) -> float:
        V = sd**2 * same + np.exp(2 * log_sigma) * np.eye(120)
        A = X.T @ np.linalg.solve(V, X)
        r = y - X @ np.linalg.solve(A, X.T @ np.linalg.solve(V, y))
        value = np.linalg.slogdet(V)[1] + r @ np.linalg.solve(V, r)
        value += np.linalg.slogdet(A)[1] if reml else 0.0
        return float(value + (120 - 2 * reml) * np.log(2 * np.pi))

    best = minimize_scalar(deviance, bounds=(-2, 2), method="bounded", options={"xatol": 1e-10})
    assert fit.optimum.converged
    assert fit.loglik == pytest.approx(-0.5 * best.fun, abs=1e-8)
    assert np.log(fit.dispersion["sigma"]) == pytest.approx(best.x, abs=1e-6)
    assert fit.theta == pytest.approx([sd], abs=1e-15)
    assert fit.df_model == 3
    assert not fit.optimum.singular
    assert not joint_covariance(fit.estimate)[3].any()


def test_the_profile_of_a_standard_deviation_has_its_top_at_the_estimate() -> None:
    data = table()
    free = ranef.glmm("y ~ x1 + (x1 || g)", data, family="poisson")
    at = float(free.theta[1])
    values = [
        ranef.glmm("y ~ x1 + (x1 || g)", data, family="poisson", fixed={"sd: g: x1": v})
        for v in (0.8 * at, at, 1.2 * at)
    ]
    assert values[1].loglik == pytest.approx(free.loglik, abs=1e-8)
    assert values[0].loglik < values[1].loglik - 1e-3
    assert values[2].loglik < values[1].loglik - 1e-3
    assert values[0].theta[1] == pytest.approx(0.8 * at, rel=1e-12)
    assert values[0].theta[0] != pytest.approx(free.theta[0], rel=1e-6)


def test_a_zero_standard_deviation_takes_the_effect_out() -> None:
    data = table()
    without = ranef.glmm("y ~ x1 + (1 | g)", data, family="poisson")
    zero = ranef.glmm("y ~ x1 + (x1 || g)", data, family="poisson", fixed={"sd: g: x1": 0})
    assert zero.loglik == pytest.approx(without.loglik, abs=1e-8)
    assert zero.df_model == without.df_model


def test_one_standard_deviation_of_homdiag_is_held() -> None:
    data = table()
    both = ranef.glmm("y ~ x1 + homdiag(x1 | g)", data, family="poisson", fixed={"sd: g": 0.4})
    each = ranef.glmm("y ~ x1 + (x1 || g)", data, family="poisson", fixed={"sd: g": 0.4})
    assert both.loglik == pytest.approx(each.loglik, abs=1e-8)
    assert both.df_model == each.df_model == 2


def test_everything_can_be_held() -> None:
    """The likelihood at a point, here the optimum; and a quadrature's."""
    for nodes in (1, 9):
        how: dict[str, Any] = {"family": "binomial", "quadrature": nodes}
        data = ranef.data.load("cbpp")
        free = ranef.glmm(CBPP, data, **how)
        values = {**free.coef.to_dict(), "sd: herd": float(free.theta[0])}
        held = ranef.glmm(CBPP, data, fixed=values, **how)
        assert held.loglik == pytest.approx(free.loglik, abs=1e-9)
        assert held.df_model == 0
        assert held.optimum.converged
        assert held.optimum.evaluations <= 3
        np.testing.assert_allclose(held.fitted(), free.fitted(), rtol=1e-6)


def test_a_held_threshold_and_a_multinomial_coefficient() -> None:
    wine = ranef.data.load("wine")
    free = ranef.glmm("rating ~ temp + contact + (1 | judge)", wine, family="cumulative")
    names = free.tidy().set_index("term")["estimate"]
    second = float(names["2|3"])
    held = ranef.glmm(
        "rating ~ temp + contact + (1 | judge)",
        wine,
        family="cumulative",
        fixed={"threshold: 2|3": second},
    )
    assert held.loglik == pytest.approx(free.loglik, abs=1e-8)
    assert held.df_model == free.df_model - 1
    assert held.tidy().set_index("term").loc["2|3", "std_error"] == 0
    rng = np.random.default_rng(2)
    data = pd.DataFrame(
        {
            "y": rng.integers(0, 3, 200).astype(str),
            "x": rng.normal(size=200),
            "g": np.arange(200) % 9,
        }
    )
    none = ranef.glmm("y ~ 1 + (1 | g)", data, family="multinomial")
    zero = ranef.glmm("y ~ x + (1 | g)", data, family="multinomial", fixed={"x": 0})
    assert zero.loglik == pytest.approx(none.loglik, abs=1e-7)
    assert zero.df_model == none.df_model


def test_the_tables_show_what_is_held(tmp_path: Path) -> None:
    how: dict[str, Any] = {"fixed": {"period4": -1.5}, "equal": [("period2", "period3")]}
    cbpp = ranef.data.load("cbpp")
    fit = ranef.glmm(CBPP, cbpp, family="binomial", **how)
    row = fit.tidy().set_index("term").loc["period4"]
    assert row["std_error"] == 0
    assert row[["estimate", "conf_low", "conf_high"]].tolist() == [-1.5] * 3
    assert np.isnan(row["statistic"])
    assert np.isnan(row["p_value"])
    text = str(fit.summary())
    assert "Held, not estimated: period4 = -1.5." in text
    assert "Equal by request: period2 = period3." in text
    assert "on 3 parameters" in text
    fit.save(tmp_path / "fit.ranef")
    loaded = ranef.load(tmp_path / "fit.ranef")
    assert isinstance(loaded.estimate, type(fit.estimate))
    assert str(loaded.summary()) == text
    np.testing.assert_allclose(
        joint_covariance(loaded.estimate), joint_covariance(fit.estimate), rtol=1e-8
    )
    y = fit.simulate(1, rng=3)["sim_1"]
    again, other = (f.refit(y) for f in (fit, loaded))
    assert again.coef["period4"] == -1.5
    assert again.coef["period2"] == again.coef["period3"]
    assert other.loglik == again.loglik
    population = ranef.marginal(fit)
    assert np.isfinite(population.tidy()["estimate"]).all()
    new = {"period": ["1", "4"], "herd": ["1", "2"]}
    for kind in ("conditional", "typical", "population"):
        assert np.isfinite(fit.predict(new, kind=kind, conf_level=0.9)).all(axis=None)


def test_priors_of_what_is_free() -> None:
    """A general prior leaves out what is held; equal coefficients have one."""
    data = table()
    general = {"fixed": priors.Normal(0, 0.1), "sd": priors.HalfNormal(0.2)}
    held = {"x1": 0.25, "sd: g: x1": 0.3}
    fit = ranef.glmm("y ~ x1 + x2 + (x1 || g)", data, family="poisson", priors=general, fixed=held)
    single = {"x2": priors.Normal(0, 0.1), "sd: g: (Intercept)": priors.HalfNormal(0.2)}
    same = ranef.glmm("y ~ x1 + x2 + (x1 || g)", data, family="poisson", priors=single, fixed=held)
    assert fit.loglik == pytest.approx(same.loglik, abs=1e-9)
    data["s"] = data["x1"] + data["x2"]
    tied = ranef.glmm(
        "y ~ x1 + x2 + (1 | g)",
        data,
        family="poisson",
        equal=[("x1", "x2")],
        priors={"fixed": priors.Normal(0, 0.001)},
    )
    summed = ranef.glmm(
        "y ~ s + (1 | g)", data, family="poisson", priors={"s": priors.Normal(0, 0.001)}
    )
    assert tied.loglik == pytest.approx(summed.loglik, abs=1e-8)
    with pytest.raises(ModelError, match="has a prior and is held"):
        ranef.glmm(
            "y ~ x1 + (1 | g)",
            data,
            family="poisson",
            priors={"x1": priors.Normal()},
            fixed={"x1": 0},
        )
    with pytest.raises(ModelError, match="x1, x2 are one coefficient"):
        ranef.glmm(
            "y ~ x1 + x2 + (1 | g)",
            data,
            family="poisson",
            priors={"x1": priors.Normal(), "x2": priors.Normal(0, 2)},
            equal=[("x1", "x2")],
        )


def test_evaluations_stay_what_they_were() -> None:
    """Counts of searches without constraints, as they were before there were any."""
    sleep = ranef.lmm("Reaction ~ Days + (Days || Subject)", ranef.data.load("sleepstudy"))
    assert sleep.optimum.evaluations == 4
    cbpp = ranef.glmm(CBPP, ranef.data.load("cbpp"), family="binomial")
    assert cbpp.optimum.evaluations == 4
    zero = ranef.glmm(
        "count ~ spp * mined + (1 | site)",
        ranef.data.load("Salamanders"),
        family="poisson",
        zero="~ mined + (1 | site)",
    )
    assert zero.optimum.evaluations == 6


def test_a_hypothesis_about_what_is_held_is_refused() -> None:
    fit = ranef.glmm(CBPP, ranef.data.load("cbpp"), family="binomial", fixed={"period4": -1.5})
    assert fit.inference.f_test(np.eye(4)[1:3]).df1 == 2
    with pytest.raises(ModelError, match="held at a value or equal by request"):
        fit.inference.f_test(np.eye(4)[1:])


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"fixed": {"z": 1}}, "no parameter 'z' to hold"),
        ({"fixed": {"sd: h": 1}}, "no parameter 'sd: h' to hold"),
        ({"fixed": {"x1": "a"}}, r"fixed\['x1'\] is a number, not 'a'"),
        ({"fixed": {"x1": True}}, r"fixed\['x1'\] is a number"),
        ({"fixed": {"x1": float("nan")}}, r"fixed\['x1'\] must be finite"),
        ({"fixed": {3: 1.0}}, "names in fixed are text"),
        ({"fixed": [("x1", 1.0)]}, "fixed is a mapping"),
        ({"fixed": {"sd: g": 1}}, r"tied to its correlations; write \(x \|\| g\)"),
        ({"fixed": {"sd: g: x1": 1}}, "cannot be held: the standard deviations"),
        ({"fixed": {"corr: g": 0}}, "of correlations only that of zero"),
        ({"equal": ("x1", "x2")}, "equal is a list of groups"),
        ({"equal": "x1"}, "equal is a list of groups"),
        ({"equal": [("x1",)]}, "equal is a list of groups of two or more"),
        ({"equal": [("x1", "z")]}, "no parameter 'z' to make equal"),
        ({"equal": [("x1", "fixed")]}, "no parameter 'fixed' to make equal"),
        ({"equal": [("x1", "x1")]}, "stands in equal twice"),
        ({"equal": [("x1", "x2"), ("x2", "(Intercept)")]}, "stands in equal twice"),
        ({"equal": [("sd: g: x1", "sd: g: (Intercept)")]}, "homdiag"),
        ({"equal": [("x1", "zero: (Intercept)")], "zero": "~ 1"}, "several parts of the model"),
        ({"equal": [("x1", "x2")], "fixed": {"x2": 1}}, "'x2' is held at a value and equal"),
    ],
)
def test_what_cannot_be_is_refused(how: dict[str, Any], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        ranef.glmm("y ~ x1 + x2 + (x1 | g)", table(), family="poisson", **how)


def test_a_negative_standard_deviation_is_refused() -> None:
    with pytest.raises(ModelError, match="0 or more, not -1"):
        ranef.glmm("y ~ x1 + (1 | g)", table(), family="poisson", fixed={"sd": -1})


def test_no_rest_beside_a_face_that_the_criterion_wants_to_leave():
    """At an sd next to zero the gradient in theta vanishes though Psi wants to grow."""
    trial = json.loads((REFERENCE / "marginal_means_data.json").read_text("utf-8"))["trial"]
    data = pd.DataFrame(trial)
    n = len(data)
    rng = np.random.default_rng(0)
    rng.choice(2, n), rng.integers(0, 300, n), rng.uniform(0.5, 2, n), rng.integers(0, 4, n)
    clinics = 0.3 * rng.normal(size=12)[pd.Categorical(data["clinic"]).codes]
    data["n"] = rng.poisson(np.exp(0.3 + 0.5 * (data["treatment"] == "B") + clinics))
    call = {"family": "poisson", "fixed": {"treatmentB": 0.0}}
    fit = ranef.glmm("n ~ treatment + (1 | clinic)", data, **call)
    assert fit.optimum.converged
    assert fit.tidy("variance")["estimate"][0] == pytest.approx(0.003626, rel=1e-2)
    assert fit.tidy()["std_error"][0] > 0.05
    for sd in (0.0, 1e-4, 3e-3, 5e-3, 1e-2):
        held = {**call, "fixed": {"treatmentB": 0.0, "sd: clinic": sd}}
        beside = ranef.glmm("n ~ treatment + (1 | clinic)", data, **held)
        assert beside.loglik <= fit.loglik + 1e-9
