"""Profiles: against lme4, against refits with a parameter held, against dense likelihoods."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from pathlib import Path
from statistics import NormalDist
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
import polars as pl
import pytest
from agreement import Agree
from numpy.typing import NDArray
from scipy.optimize import brentq, minimize, minimize_scalar

import ranef
from ranef.derivatives.profiled import coefficient_slice, scale_slice
from ranef.errors import ConvergenceWarning, DataWarning, ModelError, RankWarning
from ranef.inference.coefficients.parameter_list import chosen, model_parameters, parameter_values
from ranef.models.refitting import at_criterion
from ranef.questions.intervals.profile_numbers import Curve, trace
from ranef.solve.charts import Reading

mpl.use("Agg")

Floats = NDArray[np.float64]
PEER = json.loads((Path(__file__).parent / "reference" / "confint.json").read_text())["fits"]
LME4 = "lme4 1.1-31"
Z95 = NormalDist().inv_cdf(0.975)
Z99 = NormalDist().inv_cdf(0.995)

MODELS = [name for name in PEER if name != "cbpp_laplace"]
# Where lme4 interpolates too coarsely the right values come from `dense` below, by root
# solves of the profile of the likelihood written out; see the tests that do so.
PEER_IS_OFF = {
    ("sleep_slope", "profile99", "cor_Days.(Intercept)|Subject"): (None, 0.86217486),
    ("dyestuff", "profile", "sd_(Intercept)|Batch"): (12.19650528, None),
    ("dyestuff2", "profile", "(Intercept)"): (4.31283749, 7.01836251),
    ("dyestuff2", "profile99", "(Intercept)"): (3.73200048, None),
}


def peer_name(p: Any) -> str:
    """lme4's name of a parameter."""
    if p.fixed:
        return str(p.term)
    if p.group == "Residual":
        return "sigma"
    if p.kind == "sd":
        return f"sd_{p.term}|{p.group}"
    return f"cor_{p.term2}.{p.term}|{p.group}"


CALL = "confint('profile')"


@pytest.mark.parametrize("level", ["profile", "profile99"])
def test_limits_of_lme4(agree: Agree, level: str) -> None:
    """Within 1e-4 relative, and 0 where the profile does not cross."""
    ours, theirs, exact, right = [], [], [], []
    for name in MODELS:
        fit = ranef.lmm(PEER[name]["formula"], ranef.data.load(PEER[name]["table"]))
        prof = ranef.profile(fit)
        table = prof.confint(0.95 if level == "profile" else 0.99)
        rows = {peer_name(p): k for k, p in enumerate(prof.parameters)}
        peer = PEER[name][level]
        assert rows.keys() == peer.keys()
        for term, ends in peer.items():
            found = table.loc[rows[term], ["conf_low", "conf_high"]].tolist()
            better = PEER_IS_OFF.get((name, level, term), (None, None))
            for own, known, value in zip(found, ends, better, strict=True):
                if value is None:
                    ours.append(own)
                    theirs.append(known or 0.0)
                else:
                    assert abs(own - value) < 0.2 * abs(own - known), (term, own, known)
                    exact.append(own)
                    right.append(value)
    percent = {"profile": 95, "profile99": 99}[level]
    what = f"{percent}% limits of every parameter, {len(MODELS)} models"
    agree(CALL, what, ours, theirs, peer=LME4, rtol=1e-4)
    agree(CALL, f"{percent}% limits where lme4 is off (Dyestuff, Dyestuff2, sleepstudy)", exact,
          right, peer="likelihood written out", rtol=1e-4)  # fmt: skip


def test_limits_of_glmer(agree: Agree) -> None:
    """cbpp by the Laplace approximation, within 1e-4 relative."""
    fit = cbpp()
    prof = ranef.profile(fit, n_jobs=1)
    ours = prof.confint()[["conf_low", "conf_high"]]
    theirs = [PEER["cbpp_laplace"]["profile"][peer_name(p)] for p in prof.parameters]
    agree(CALL, "95% limits of every parameter, cbpp", ours, theirs, peer=LME4, rtol=1e-4)


# --- the likelihood written out ---------------------------------------------------------------


def minus_twice(e: Floats, V: Floats, X: Floats | None = None, reml: bool = False) -> float:
    """Minus twice the (restricted) log-likelihood of y ~ N(X beta, V), beta profiled out."""
    n = len(e)
    inverse = np.linalg.inv(V)
    value = float(np.linalg.slogdet(V)[1])
    if X is not None:
        A = X.T @ inverse @ X
        e = e - X @ np.linalg.solve(A, X.T @ inverse @ e)
        if reml:
            value += float(np.linalg.slogdet(A)[1])
            n -= X.shape[1]
    return n * np.log(2 * np.pi) + value + float(e @ inverse @ e)


def same_level(codes: Any) -> Floats:
    values = np.asarray(codes).astype(str)
    return np.asarray(values[:, None] == values, dtype=np.float64)


def best_of(f: Callable[[Floats], float], starts: list[list[float]]) -> float:
    options = {"xatol": 1e-9, "fatol": 1e-11, "maxiter": 4000}
    return min(
        float(minimize(f, start, method="Nelder-Mead", options=options).fun) for start in starts
    )


def test_sd_of_dyestuff_by_the_likelihood_written_out(agree: Agree) -> None:
    """lme4's lower limit 12.19854 is not the root; 12.19650528 is."""
    data = ranef.data.load("Dyestuff")
    y, J, X = data["Yield"].to_numpy(float), same_level(data["Batch"]), np.ones((30, 1))

    def D(s: float) -> float:
        def f(log_sigma: float) -> float:
            return minus_twice(y, s**2 * J + np.exp(2 * log_sigma) * np.eye(30), X)

        return float(minimize_scalar(f, bracket=(3.5, 4.2), tol=1e-13).fun)

    lowest = ranef.lmm("Yield ~ 1 + (1 | Batch)", data, reml=False).deviance
    low = brentq(lambda s: D(s) - lowest - Z95**2, 1, 30, xtol=1e-11)
    high = brentq(lambda s: D(s) - lowest - Z95**2, 60, 120, xtol=1e-11)
    assert low == pytest.approx(12.19650528, rel=1e-8)
    found = ranef.profile(ranef.lmm("Yield ~ 1 + (1 | Batch)", data), "sd").confint()
    agree(CALL, "95% limits of the sd of Batch, Dyestuff", found.loc[0, ["conf_low", "conf_high"]],
          [low, high], peer="roots of the likelihood", rtol=2e-6)  # fmt: skip


def test_mean_of_dyestuff2_by_the_likelihood_written_out(agree: Agree) -> None:
    """The sd of batches leaves zero on the way: lme4's 4.3121 is not the root."""
    data = ranef.data.load("Dyestuff2")
    y, J = data["Yield"].to_numpy(float), same_level(data["Batch"])

    def D(mu: float) -> float:
        def f(x: Floats) -> float:
            return minus_twice(y - mu, x[0] ** 2 * J + np.exp(2 * x[1]) * np.eye(30))

        return best_of(f, [[0.0, 1.3], [0.5, 1.3], [2.0, 1.3]])

    mean = float(y.mean())
    lowest = D(mean)
    for z, ends in ((Z95, (4.31283749, 7.01836251)), (Z99, (3.73200048, 7.59919952))):
        for sign, expected in zip((-1, 1), ends, strict=True):
            root = brentq(
                lambda m, z=z: D(m) - lowest - z**2, mean + 0.2 * sign, mean + 4 * sign, xtol=1e-9
            )
            assert root == pytest.approx(expected, rel=1e-7)
    prof = ranef.profile(ranef.lmm("Yield ~ 1 + (1 | Batch)", data), "fixed")
    found = prof.confint().loc[0, ["conf_low", "conf_high"]]
    agree(CALL, "95% limits of the mean, Dyestuff2", found,
          [4.31283749, 7.01836251], peer="roots of the likelihood", rtol=2e-6)  # fmt: skip


def test_correlation_of_sleepstudy_by_the_likelihood_written_out(agree: Agree) -> None:
    """The upper 99% limit: lme4's 0.86202 is not the root, 0.86217 is."""
    data = ranef.data.load("sleepstudy")
    y, x = data["Reaction"].to_numpy(float), data["Days"].to_numpy(float)
    X, J = np.column_stack([np.ones(180), x]), same_level(data["Subject"])

    def D(r: float) -> float:
        def f(p: Floats) -> float:
            a, b, s = np.exp(p)
            psi = a * a + r * a * b * (x[:, None] + x) + b * b * np.outer(x, x)
            return minus_twice(y, psi * J + s * s * np.eye(180), X)

        found = minimize(f, [np.log(24), np.log(5.7), np.log(25.6)], method="BFGS")
        return float(found.fun)

    fit = ranef.lmm("Reaction ~ Days + (Days | Subject)", data, reml=False)
    assert D(0.86217486) - fit.deviance == pytest.approx(Z99**2, abs=2e-5)
    assert D(0.8620228) - fit.deviance < Z99**2 - 1e-3
    found = ranef.profile(fit, "corr").confint(0.99).loc[0, "conf_high"]
    agree(CALL, "upper 99% limit of the correlation, sleepstudy", found, 0.86217486,
          peer="root of the likelihood", rtol=5e-6)  # fmt: skip


def test_reml_profile_by_the_likelihood_written_out(agree: Agree) -> None:
    data = ranef.data.load("Dyestuff")
    y, J, X = data["Yield"].to_numpy(float), same_level(data["Batch"]), np.ones((30, 1))

    def D(sd: float | None, sigma: float | None) -> float:
        def f(log_other: float) -> float:
            s, e = (np.exp(log_other), sigma) if sd is None else (sd, np.exp(log_other))
            return minus_twice(y, s**2 * J + e**2 * np.eye(30), X, reml=True)

        return float(minimize_scalar(f, bracket=(3.0, 4.0), tol=1e-13).fun)

    fit = ranef.lmm("Yield ~ 1 + (1 | Batch)", data, reml=False)
    prof = ranef.profile(fit, criterion="reml")
    assert [p.label for p in prof.parameters] == ["sd: Batch: (Intercept)", "sigma"]
    lowest = ranef.lmm("Yield ~ 1 + (1 | Batch)", data).deviance
    table = prof.confint()
    falls = [D(end, None) - lowest for end in table.loc[0, ["conf_low", "conf_high"]]]
    falls += [D(None, end) - lowest for end in table.loc[1, ["conf_low", "conf_high"]]]
    agree("ranef.profile(criterion='reml')", "fall of the deviance at the 95% limits, Dyestuff",
          falls, np.full(4, Z95**2), peer="likelihood written out", atol=1e-4)  # fmt: skip
    assert "The fit is by ML; these profiles, and the estimates in this table, are by REML" in str(
        prof
    ).replace("\n", " ")


# --- refits with a parameter held ---------------------------------------------------------------


def grouped(
    seed: int, groups: int = 8, rho: float = 0.3, sds: tuple[float, float] = (1.0, 0.5)
) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    x = np.tile(np.arange(6) - 2.5, groups)
    g = np.repeat(np.arange(groups), 6)
    b = rng.normal(size=(groups, 2))
    b[:, 1] = rho * b[:, 0] + np.sqrt(1 - rho**2) * b[:, 1]
    y = 1 + 0.5 * x + sds[0] * b[g, 0] + sds[1] * b[g, 1] * x + rng.normal(size=len(x))
    return pd.DataFrame(
        {
            "y": y, "x": x, "g": [f"g{k}" for k in g], "q": np.sin(2 * x + g),
            "w": rng.uniform(0.5, 2, len(x)), "o": rng.normal(size=len(x)),
            "h": [f"h{k}" for k in rng.integers(0, 5, len(x))],
        }
    )  # fmt: skip


CASES: dict[str, tuple[str, pd.DataFrame, dict[str, Any]]] = {
    "plain": ("y ~ x + (x | g)", grouped(0), {}),
    "singular": ("y ~ x + (x | g)", grouped(1, sds=(1.0, 0.0)), {}),
    "nothing varies": ("y ~ x + (x || g)", grouped(5, sds=(0.0, 0.0)), {}),
    "weights and offset": ("y ~ x + q + offset(o) + (x | g)", grouped(7), {"weights": "w"}),
    "crossed": ("y ~ x + (1 | g) + (1 | h)", grouped(9), {}),
    "rows dropped": (
        "y ~ x + (1 | g)",
        grouped(2).assign(x=lambda d: d["x"].where(d.index % 9 != 3)),
        {},
    ),
    "reml": ("y ~ x + (x | g)", grouped(4), {"reml": True}),
    "one coefficient": ("y ~ 1 + (1 | g)", grouped(3), {}),
}


@pytest.mark.parametrize("case", CASES)
def test_coefficients_by_refits_with_an_offset(case: str) -> None:
    """At both ends of the interval the model with the coefficient held is z^2 above the optimum."""
    formula, data, more = CASES[case]
    fit = ranef.lmm(formula, data, **{"reml": False, **more})
    prof = ranef.profile(fit, "fixed")
    spec = fit.estimate.specification
    lowest = at_criterion(fit.estimate, False).deviance
    table = prof.confint()
    for j, name in enumerate(spec.names):
        rest = [n for n in spec.names if n != name]
        frame = pd.DataFrame(fit.frame.rows_used())
        columns = dict(zip(spec.names, spec.X.T, strict=True))
        for end in table.loc[j, ["conf_low", "conf_high"]]:
            frame["held"] = end * columns[name] + (0 if spec.offset is None else spec.offset)
            own = formula.split("+ (")[1:]
            right = "1" if "(Intercept)" in rest else "0"
            right += "".join(f" + {n}" for n in rest if n != "(Intercept)")
            again = ranef.lmm(
                f"y ~ {right} + offset(held) + (" + "+ (".join(own), frame, reml=False,
                weights=more.get("weights"),
            )  # fmt: skip
            assert again.deviance - lowest == pytest.approx(Z95**2, abs=2e-4), (case, name)


def cbpp(**more: Any) -> Any:
    formula = "cbind(incidence, size - incidence) ~ period + (1 | herd)"
    return ranef.glmm(formula, ranef.data.load("cbpp"), family="binomial", **more)


@pytest.mark.parametrize("more", [{}, {"quadrature": 7}, {"fixed": {"period3": -1.0}}])
def test_generalised_parameters_by_refits_that_hold_them(more: dict[str, Any]) -> None:
    fit = cbpp(**more)
    prof = ranef.profile(fit, n_jobs=1)
    table = prof.confint()
    for k, p in enumerate(prof.parameters):
        ends = table.loc[k, ["conf_low", "conf_high"]]
        if p.label in more.get("fixed", {}):
            assert ends.isna().all()
            assert p.label in str(prof)
            continue
        key = "sd: herd" if p.kind == "sd" else p.label
        for end in ends:
            held = cbpp(**{**more, "fixed": {**more.get("fixed", {}), key: float(end)}})
            assert held.deviance - fit.deviance == pytest.approx(Z95**2, abs=2e-4), p.label


def test_parts_of_a_generalised_model() -> None:
    """Zero part and dispersion: coefficients of every part, by refits that hold them."""
    data = ranef.data.load("Salamanders")
    options: dict[str, Any] = {"family": "nbinom2", "zero": "~ mined"}
    fit = ranef.glmm("count ~ mined + (1 | site)", data, **options)
    wanted = ["mined" + fit.coef.index[1].removeprefix("mined"), "sd: site"]
    zero = [p.label for p in model_parameters(fit.estimate) if p.label.startswith("zero: mined")]
    prof = ranef.profile(fit, [*wanted, *zero], n_jobs=1)
    table = prof.confint()
    assert table["component"].tolist() == ["conditional", "conditional", "zero"]
    for k, key in ((0, wanted[0]), (1, "sd: site"), (2, zero[0])):
        ends = table.loc[k, ["conf_low", "conf_high"]]
        assert np.isfinite(ends).any()
        for end in ends[np.isfinite(ends)]:
            held = ranef.glmm(
                "count ~ mined + (1 | site)", data, **options, fixed={key: float(end)}
            )
            assert held.deviance - fit.deviance == pytest.approx(Z95**2, abs=5e-4), key


def test_multinomial_and_ordinal() -> None:
    wine = ranef.data.load("wine")
    ordinal = ranef.glmm("rating ~ temp + (1 | judge)", wine, family="cumulative")
    name = next(p.label for p in model_parameters(ordinal.estimate) if p.label.startswith("temp"))
    table = ranef.profile(ordinal, name).confint()
    for end in table.loc[0, ["conf_low", "conf_high"]]:
        held = ranef.glmm(
            "rating ~ temp + (1 | judge)", wine, family="cumulative", fixed={name: float(end)}
        )
        assert held.deviance - ordinal.deviance == pytest.approx(Z95**2, abs=2e-4)
    rng = np.random.default_rng(2)
    g = np.repeat(np.arange(30), 10)
    data = pd.DataFrame({"y": rng.choice(["a", "b", "c"], 300), "x": rng.normal(size=300), "g": g})
    fit = ranef.glmm("y ~ x + (1 | g)", data, family="multinomial")
    found = ranef.profile(fit, "fixed").confint()
    assert found["response"].tolist() == ["b", "b", "c", "c"]
    assert (found["conf_low"] < found["estimate"]).all()


# --- the slices ---------------------------------------------------------------------------------

STRUCTURED = {
    "us": ("y ~ x + (x | g)", grouped(0, 12)),
    "us of three": ("y ~ x + (x + q | g)", grouped(3, 30)),
    "diag": ("y ~ x + (x || g)", grouped(0, 12)),
    "cs": ("y ~ x + cs(1 + x + q | g)", grouped(3, 30)),
    "homcs": ("y ~ x + homcs(1 + x | g)", grouped(3, 30)),
    "ar1": ("y ~ x + ar1(0 + factor(x) | g)", grouped(3, 30)),
    "toep": ("y ~ x + toep(0 + factor(x) | g)", grouped(3, 40)),
    "rr": ("y ~ x + rr(1 + x + q | g, 1)", grouped(3, 30)),
    "crossed": ("y ~ x + (x | g) + (1 | h)", grouped(3, 12)),
}  # fmt: skip


def slices_of(fit: Any) -> list[tuple[str, Any]]:
    """Those of all parameters that can be held; fixed effects have none under REML."""
    kept = [p for p in fit.parameters if not (p.fixed and fit.estimate.reml)]
    found = [(p.label, fit.inference.profile_slice(p)) for p in kept]
    return [(label, own) for label, own in found if own is not None]


@pytest.mark.parametrize("case", STRUCTURED)
@pytest.mark.parametrize("reml", [False, True])
def test_derivatives_of_slices(case: str, reml: bool) -> None:
    """Away from the optimum too, against central differences."""
    formula, data = STRUCTURED[case]
    fit = ranef.lmm(formula, data, reml=False)
    fit = ranef.lmm(formula, data) if reml else fit
    check_slices(slices_of(fit), 2e-5)


@pytest.mark.parametrize(
    ("formula", "more"),
    [
        ("cbind(incidence, size - incidence) ~ period + (1 | herd)", {"family": "binomial"}),
        (
            "cbind(incidence, size - incidence) ~ period + (1 | herd)",
            {"family": "binomial", "quadrature": 5},
        ),
        ("count ~ x + diag(1 + x | g) + (1 | h)", {"family": "poisson"}),
        ("count ~ x + ar1(0 + factor(x) | g)", {"family": "nbinom2"}),
        ("count ~ x + (x | g)", {"family": "poisson"}),
    ],
)
def test_derivatives_of_generalised_slices(formula: str, more: dict[str, Any]) -> None:
    counts = grouped(3, 30)
    counts["count"] = np.random.default_rng(1).poisson(np.exp(0.3 * counts["y"].clip(-4, 6)))
    data = ranef.data.load("cbpp") if "period" in formula else counts
    fit = ranef.glmm(formula, data, **more)
    check_slices(slices_of(fit), 2e-4)


def check_slices(found: list[tuple[str, Any]], tolerance: float) -> None:
    rng = np.random.default_rng(0)
    assert found
    for name, own in found:
        x = own.x + 0.2 * own.units * rng.normal(size=len(own.x))
        c = own.c + 0.1 * own.unit
        at = own.finish(x, c, own.evaluate(x, c))
        assert np.isfinite(at.value)
        for k in range(len(x) + 1):
            step = np.zeros(len(x) + 1)
            step[k] = 1e-4 * (np.append(own.units, own.unit)[k])
            up, down = (own.evaluate(x + s * step[:-1], c + s * step[-1]) for s in (1, -1))
            numeric = (up.value - down.value) / (2 * step[k])
            exact = np.append(at.gradient, at.slope)[k]
            scale = np.append(own.units, own.unit)[k]
            assert abs(exact - numeric) * scale < tolerance * max(1, abs(exact) * scale), (name, k)


def test_two_structures_of_one_model_have_one_profile() -> None:
    """Compound symmetry of two columns with an sd each is unstructured."""
    data = ranef.data.load("sleepstudy")
    us = ranef.lmm("Reaction ~ Days + (Days | Subject)", data, reml=False)
    cs = ranef.lmm("Reaction ~ Days + cs(1 + Days | Subject)", data, reml=False)
    one, two = (ranef.profile(f).confint()[["conf_low", "conf_high"]] for f in (us, cs))
    np.testing.assert_allclose(one, two, rtol=2e-5)


def test_a_boundary_is_left_where_the_likelihood_says_so() -> None:
    """Without `leave` the sd of batches stays at zero along the profile of the mean."""
    fit = ranef.lmm("Yield ~ 1 + (1 | Batch)", ranef.data.load("Dyestuff2"), reml=False)
    own = coefficient_slice(fit.estimate, 0)
    assert own.x.tolist() == [0.0]
    stuck = own.evaluate(np.zeros(1), 2.0)
    assert stuck.gradient.tolist() == [0.0]
    free = own.leave(np.zeros(1), 2.0, stuck)
    assert free is not None
    assert own.evaluate(free, 2.0).value < stuck.value
    assert own.leave(np.zeros(1), 0.1, own.evaluate(np.zeros(1), 0.1)) is None


# --- curves -------------------------------------------------------------------------------------


def test_curves_are_monotone_and_end_at_bounds() -> None:
    for formula, data, more in CASES.values():
        fit = ranef.lmm(formula, data, **{"reml": False, **more})
        prof = ranef.profile(fit)
        for p, curve in zip(prof.parameters, prof.curves, strict=True):
            assert curve is not None
            assert np.all(np.diff(curve.zeta) >= 0)
            assert np.all(np.diff(curve.value) > 0)
            fine = np.linspace(curve.c[0], curve.c[-1], 400)
            assert np.all(np.diff(curve.at(fine)[0]) > -1e-12)
            assert curve.better < 1e-6
            if p.kind == "sd":
                assert curve.value[0] >= 0
            if p.kind == "corr":
                assert curve.value[0] >= -1
                assert curve.value[-1] <= 1


def test_interpolation_is_accurate_between_points() -> None:
    """The optimum of the rest, found anew between the points, against the spline."""
    fit = ranef.lmm("Reaction ~ Days + (Days | Subject)", ranef.data.load("sleepstudy"), reml=False)
    for _, own in slices_of(fit):
        curve = trace(own, Z99)
        middles = (curve.c[1:] + curve.c[:-1]) / 2
        lowest = own.evaluate(own.x, own.c).value
        for c in middles[::3]:
            found = minimize(
                lambda x, c=c, own=own: own.evaluate(x, c).value,
                own.x,
                jac=lambda x, c=c, own=own: own.evaluate(x, c).gradient,
                method="BFGS",
                options={"gtol": 1e-7},
            )
            exact = np.sign(c - own.c) * np.sqrt(found.fun - lowest)
            assert curve.at(np.array([c]))[0][0] == pytest.approx(exact, abs=2e-4)


def test_solving_a_curve() -> None:
    """A straight zeta gives Wald's interval; beyond its ends the bounds."""
    c = np.linspace(-2.0, 3.0, 6)
    curve = Curve(c, c + 1, c, np.ones(6), -np.inf, 7.0, Reading(shift=1.0), 0, 0.0)
    assert curve.interval(1.5) == pytest.approx((-0.5, 2.5))
    assert curve.interval(2.5) == pytest.approx((-np.inf, 3.5))
    assert curve.interval(4.0) == (-np.inf, 7.0)


def test_unbounded_profile_has_an_infinite_limit() -> None:
    """Separated data: the coefficient may be as large as it likes."""
    rng = np.random.default_rng(0)
    g = np.repeat(np.arange(20), 4)
    x = np.tile([0, 0, 1, 1], 20)
    y = np.where(x == 1, 1, (rng.random(80) < 0.4).astype(int))
    data = pd.DataFrame({"y": y, "x": x, "g": g})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fit = ranef.glmm("y ~ x + (1 | g)", data, family="binomial")
        found = ranef.profile(fit, "x").confint()
    assert found.loc[0, "conf_high"] == np.inf
    assert np.isfinite(found.loc[0, "conf_low"])


# --- calibrated intervals -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("formula", "data"),
    [
        ("Yield ~ 1 + (1 | Batch)", "Dyestuff"),
        ("Reaction ~ Days + (Days | Subject)", "sleepstudy"),
        ("effort ~ Type + (1 | Subject)", "ergoStool"),
    ],
)
def test_calibrated_profiles_of_balanced_data_are_exact(
    agree: Agree, formula: str, data: str
) -> None:
    """There Student's t with Satterthwaite's degrees of freedom is exact."""
    fit = ranef.lmm(formula, ranef.data.load(data))
    exact = fit.confint(df="satterthwaite")
    found = fit.confint("profile", df="satterthwaite")
    # the intercept of ergoStool is a mean over groups plus a difference within them
    kept = slice(1 if data == "ergoStool" else 0, None)
    half = (exact["conf_high"] - exact["conf_low"]) / 2
    for end in ("conf_low", "conf_high"):
        assert ((found[end] - exact[end]).abs() / half).max() < 0.01
    agree("confint('profile', df='satterthwaite')", f"limits of coefficients, {data} (balanced)",
          found[["conf_low", "conf_high"]][kept], exact[["conf_low", "conf_high"]][kept],
          peer="Student's t, exact", atol=2e-4 * half[kept].min())  # fmt: skip
    # the normal ones are too short
    short = fit.confint("profile")
    assert (short["conf_high"] - short["conf_low"] < 0.99 * 2 * half).all()


def test_calibration_refuses_what_it_cannot_do() -> None:
    fit = ranef.lmm("Yield ~ 1 + (1 | Batch)", ranef.data.load("Dyestuff"))
    prof = ranef.profile(fit, conf_level=0.95)
    with pytest.raises(ModelError, match=r"profile with conf_level=0\.97"):
        prof.confint(df="satterthwaite")
    with pytest.raises(ModelError, match="generalised model has no degrees of freedom"):
        cbpp().confint("profile", df="satterthwaite")


# --- the face -----------------------------------------------------------------------------------


def sleepstudy(**more: Any) -> Any:
    return ranef.lmm("Reaction ~ Days + (Days | Subject)", ranef.data.load("sleepstudy"), **more)


def test_a_fit_by_reml_is_profiled_by_ml_and_says_so() -> None:
    prof = ranef.profile(sleepstudy())
    assert prof.criterion == "ML"
    assert prof.refitted
    assert "The fit is by REML" in str(prof)
    ml = ranef.profile(sleepstudy(reml=False))
    assert not ml.refitted
    assert "The fit is by" not in str(ml)
    np.testing.assert_allclose(
        prof.confint()[["conf_low", "conf_high"]], ml.confint()[["conf_low", "conf_high"]]
    )
    assert prof.parameters[2].estimate == pytest.approx(ml.parameters[2].estimate)


def test_confint_of_a_fit() -> None:
    fit = sleepstudy()
    fixed = fit.confint("profile")
    assert fixed.columns.tolist() == ["term", "estimate", "conf_low", "conf_high"]
    everything = fit.confint("profile", parameters="all", conf_level=0.9)
    assert everything.columns.tolist() == [
        "component", "group", "term", "term2", "parameter", "estimate", "conf_low", "conf_high",
    ]  # fmt: skip
    variance = fit.confint("profile", parameters="variance", criterion="reml")
    tidy = fit.tidy("variance")
    for column in ("component", "group", "term", "term2", "parameter"):
        assert variance[column].fillna("").tolist() == tidy[column].fillna("").tolist()
    np.testing.assert_allclose(variance["estimate"], tidy["estimate"], rtol=1e-9)
    wald = fit.confint(parameters="all")
    np.testing.assert_allclose(wald["conf_low"][2:], tidy["conf_low"])
    np.testing.assert_allclose(wald["conf_low"][:2], fit.tidy()["conf_low"])
    # a level above that of a plain profile
    assert len(fit.confint("profile", conf_level=0.999)) == 2


def test_names_of_parameters() -> None:
    fit = ranef.lmm("y ~ x + (x | g) + (1 | h)", grouped(3, 12), reml=False)
    known = model_parameters(fit.estimate)
    labels = [p.label for p in known]
    assert labels == [
        "(Intercept)", "x", "sd: g: (Intercept)", "sd: g: x", "corr: g: (Intercept): x",
        "sd: h: (Intercept)", "sigma",
    ]  # fmt: skip
    assert [labels[k] for k in chosen(known, "sd: g")] == labels[2:4]
    assert [labels[k] for k in chosen(known, ["sigma", "corr", "x"])] == [labels[6], labels[4], "x"]
    assert chosen(known, "variance") == (2, 3, 4, 5, 6)
    values = parameter_values(
        fit.estimate, fit.estimate.beta[None], fit.theta[None], np.array([fit.sigma])
    )
    np.testing.assert_allclose(values[0, 2:], fit.tidy("variance")["estimate"])
    with pytest.raises(ModelError, match=r"no parameter 'sd: G'.*did you mean 'sd: g: x'|'sd: G'"):
        ranef.profile(fit, "sd: G")
    with pytest.raises(ModelError, match="did you mean 'sigma'"):
        ranef.profile(fit, "sigmo")
    with pytest.raises(ModelError, match="names of parameters are text"):
        ranef.profile(fit, [3])  # type: ignore[list-item]


def test_what_is_refused() -> None:
    fit = sleepstudy()
    with pytest.raises(ModelError, match=r"restricted likelihood does not depend.*\(Intercept\)"):
        ranef.profile(fit, "all", criterion="reml")
    with pytest.raises(ModelError, match="fits of lmm"):
        ranef.profile(cbpp(), criterion="reml")
    with pytest.raises(ModelError, match="criterion='rmel' is not known"):
        ranef.profile(fit, criterion="rmel")
    with pytest.raises(ModelError, match=r"profile with conf_level=0\.999"):
        ranef.profile(fit, "sigma").confint(0.999)
    with pytest.raises(ModelError, match="takes a fit"):
        ranef.profile(fit.tidy())
    with pytest.raises(ModelError, match="takes no 'n_jobs'"):
        fit.confint(n_jobs=2)
    with pytest.raises(ModelError, match="method='profil' is not known"):
        fit.confint("profil")


def test_what_cannot_be_held_is_left_out_and_named() -> None:
    fit = ranef.lmm("y ~ x + rr(1 + x + q | g, 1)", grouped(3, 30))
    prof = ranef.profile(fit, "variance")
    table = prof.confint()
    assert table["conf_low"].isna().tolist() == [True] * 6 + [False]
    assert "Not profiled" in str(prof)
    assert "sd: g: (Intercept), sd: g: x" in str(prof).replace("\n", " ")
    none = ranef.lmm("y ~ x + (x | g)", grouped(5, sds=(0.0, 0.0)).assign(y=lambda d: d["y"]))
    assert np.isfinite(ranef.profile(none, "sd").confint()["conf_high"]).all()


def test_tables_come_in_the_users_library() -> None:
    data = pl.from_pandas(ranef.data.load("sleepstudy").astype({"Subject": str}))
    fit = ranef.lmm("Reaction ~ Days + (1 | Subject)", data)
    prof = ranef.profile(fit, "fixed")
    assert isinstance(prof.confint(), pl.DataFrame)
    assert isinstance(prof.tidy(), pl.DataFrame)
    assert isinstance(fit.confint("profile"), pl.DataFrame)


def test_tidy_holds_the_points() -> None:
    prof = ranef.profile(sleepstudy(), ["Days", "corr"])
    points = prof.tidy()
    assert points["parameter"].unique().tolist() == ["coefficient", "corr"]
    own = points[points["parameter"] == "corr"]
    assert prof.curves[1] is not None
    np.testing.assert_array_equal(own["zeta"], prof.curves[1].zeta)
    assert own["value"].between(-1, 1).all()
    assert len(ranef.profile(sleepstudy(), "sigma").tidy()) > 8


def test_threads_do_not_change_the_answer() -> None:
    rng = np.random.default_rng(0)
    g = np.repeat(np.arange(100), 30)
    x = rng.normal(size=3000)
    data = pd.DataFrame({"y": x + rng.normal(size=100)[g] + rng.normal(size=3000), "x": x, "g": g})
    fit = ranef.lmm("y ~ x + (x | g)", data)
    one, two = (ranef.profile(fit, n_jobs=jobs).confint() for jobs in (1, 2))
    pd.testing.assert_frame_equal(one, two, check_exact=True)
    for seen in ranef.profile(fit, "sigma", progress=False).curves:
        assert seen is not None


def test_progress_is_shown_on_request(capsys: pytest.CaptureFixture[str]) -> None:
    ranef.profile(sleepstudy(), "fixed", progress=True)
    shown = capsys.readouterr().err
    assert "profiling" in shown
    assert "2/2" in shown


def test_an_interrupt_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    import ranef.questions.intervals.profile_numbers as module

    def interrupted(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "trace", interrupted)
    monkeypatch.setattr(module, "WORTH_THREADS", 0)
    with pytest.raises(KeyboardInterrupt):
        ranef.profile(sleepstudy(), n_jobs=2)


def test_a_better_optimum_on_the_way_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """A profile from an estimate that is no maximum, as a search that was stopped leaves one."""
    import ranef.questions.intervals.profile_numbers as module

    def shifted(model: Any, parameters: Any, level: float, **_: Any) -> tuple[Curve, ...]:
        own = scale_slice(model.estimate)
        moved = type(own)(**{**vars_of(own), "c": own.c * 1.3})
        return (trace(moved, 2.0),)

    monkeypatch.setattr(module, "profile", shifted)
    with pytest.warns(ConvergenceWarning, match=r"profile of sigma the deviance falls .* below"):
        ranef.profile(sleepstudy(), "sigma")


def vars_of(own: Any) -> dict[str, Any]:
    from dataclasses import fields

    return {f.name: getattr(own, f.name) for f in fields(own)}


def test_collinear_columns_and_dropped_rows() -> None:
    data = grouped(2)
    data["twice"] = 2 * data["x"]
    data.loc[[3, 9], "x"] = np.nan
    with pytest.warns(RankWarning):
        fit = ranef.lmm("y ~ x + twice + (1 | g)", data, reml=False)
    plain = ranef.lmm("y ~ x + (1 | g)", data.dropna(), reml=False)
    np.testing.assert_allclose(
        ranef.profile(fit).confint()[["conf_low", "conf_high"]],
        ranef.profile(plain).confint()[["conf_low", "conf_high"]],
        rtol=1e-5,
    )


def test_pictures() -> None:
    prof = ranef.profile(sleepstudy())
    panels = prof.plot.zeta()
    assert len(panels) == 6
    assert panels[1].get_title(loc="left") == "Days"
    assert panels[2].get_title(loc="left") == "Subject: sd (Intercept)"
    one = ranef.profile(ranef.lmm("Yield ~ 1 + (1 | Batch)", ranef.data.load("Dyestuff2")), "sd")
    density = one.plot.density()
    line = next(line for line in density.lines if len(line.get_xdata()) > 50)
    x, y = np.asarray(line.get_xdata()), np.asarray(line.get_ydata())
    # half of the normal distribution lies below the bound at zero, 0.5% beyond the grid
    assert np.trapezoid(y, x) == pytest.approx(0.495, abs=0.005)
    assert x[0] == 0.0
    fit = sleepstudy()
    assert fit.plot.profile("sigma", kind="density").get_ylabel() == "density"
    with pytest.raises(ModelError, match="kind='zata' is not known"):
        fit.plot.profile(kind="zata")
    with pytest.raises(ModelError, match="no curve to draw"):
        ranef.profile(cbpp(fixed={"period2": -1.0}), "period2").plot.zeta()
    mpl.pyplot.close("all")


def test_a_fit_from_a_file_can_be_profiled(tmp_path: Path) -> None:
    fit = sleepstudy()
    fit.save(tmp_path / "fit.ranef")
    again = ranef.load(tmp_path / "fit.ranef")
    pd.testing.assert_frame_equal(fit.confint("profile"), again.confint("profile"))


def test_penalised_likelihood() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DataWarning)
        fit = cbpp(priors={"fixed": ranef.priors.Normal(0, 0.5)})
    prof = ranef.profile(fit, "fixed")
    assert prof.criterion == "penalised ML"
    plain = ranef.profile(cbpp(), "fixed").confint()
    found = prof.confint()
    assert (found["conf_low"][1:] > plain["conf_low"][1:]).all()
    curve = prof.curves[1]
    assert curve is not None
    assert curve.better < 1e-6


# --- where a parameter loses its meaning on a face of another


def correlation_interval(fit, **how):
    table = ranef.profile(fit, parameters="corr", **how).confint()
    return table.conf_low.tolist(), table.conf_high.tolist()


@pytest.fixture(scope="module")
def girls():
    return ranef.data.load("Orthodont").query("Sex == 'Female'")


def test_a_correlation_is_as_good_as_free_where_a_standard_deviation_may_be_zero(girls):
    """For any correlation sd(age) -> 0 is there to be taken: the profile is bounded by its drop."""
    fit = ranef.lmm("distance ~ age + (age | Subject)", girls, reml=False)
    line = ranef.lmm("distance ~ age + (1 | Subject)", girls, reml=False)
    drop = fit.loglik - line.loglik
    assert drop == pytest.approx(1.7605636, abs=1e-6)
    curve = ranef.profile(fit, parameters="corr")
    table = curve.tidy()
    assert curve.confint().conf_low[0] == -1.0
    assert curve.confint().conf_high[0] == 1.0
    assert (table.zeta**2 / 2).max() == pytest.approx(drop, abs=1e-4)
    assert table.value.min() == -1.0
    below = 2 * NormalDist().cdf(float(np.sqrt(2 * drop))) - 1  # the level that the drop stands for
    low = curve.confint(below - 0.02).conf_low[0]
    assert -0.9 < low < -0.7
    assert fit.confint("profile", parameters="corr").conf_low[0] == -1.0
    whole = ranef.profile(fit).confint()
    assert whole[whole.parameter == "corr"].conf_low.iloc[0] == -1.0


def test_by_a_dense_search_with_the_correlation_held(girls, agree):
    """Minus twice the log-likelihood at r = -0.95, minimised over both sds, sigma and beta."""
    fit = ranef.lmm("distance ~ age + (age | Subject)", girls, reml=False)
    age = girls.age.to_numpy(float)[:4]
    X = np.column_stack([np.ones(4), age])
    y = girls.distance.to_numpy(float).reshape(-1, 4)

    def deviance(x):
        a, b, s = np.exp(x)
        psi = np.array([[a * a, -0.95 * a * b], [-0.95 * a * b, b * b]])
        V = X @ psi @ X.T + s * s * np.eye(4)
        W = np.linalg.inv(V)
        beta = np.linalg.solve(X.T @ W @ X, X.T @ W @ y.mean(axis=0))
        r = y - X @ beta
        forms = np.einsum("ij,jk,ik->", r, W, r)
        return len(y) * np.linalg.slogdet(2 * np.pi * V)[1] + forms

    starts = [(0.5, b, -0.3) for b in (-8.0, -3.0, -2.0, -1.0)]
    best = min(minimize(deviance, x, method="Nelder-Mead",
               options={"maxiter": 4000, "fatol": 1e-10}).fun for x in starts)  # fmt: skip
    drop = (best + 2 * fit.loglik) / 2
    curve = ranef.profile(fit, parameters="corr").curves[0]
    c = np.array([float(np.arcsin(-0.95))])
    agree(
        "ranef.profile(parameters='corr')",
        "drop at -0.95, girls of Orthodont",
        curve.at(c)[0][0] ** 2 / 2,
        drop,
        peer="the dense likelihood",
        atol=2e-3,
    )


def test_the_same_by_reml_and_in_other_structures(girls):
    fit = ranef.lmm("distance ~ age + (age | Subject)", girls)
    assert correlation_interval(fit, criterion="reml") == ([-1.0], [1.0])
    two = ranef.lmm("distance ~ age + cs(1 + age | Subject)", girls, reml=False)
    low, high = correlation_interval(two)
    assert (low[0], high[0]) == (-1.0, 1.0)


def test_three_effects_and_a_generalised_model():
    rng = np.random.default_rng(4)
    g, t = np.repeat(np.arange(12), 6), np.tile(np.arange(6.0), 12)
    y = rng.normal(size=72) + 0.5 * rng.normal(size=12)[g] + 0.1 * rng.normal(size=12)[g] * t
    data = pd.DataFrame({"g": g, "t": t, "y": y, "n": rng.poisson(np.exp(0.3 + 0.3 * y))})
    fit = ranef.lmm("y ~ t + (1 + t + I(t^2) | g)", data, reml=False)
    assert correlation_interval(fit) == ([-1.0] * 3, [1.0] * 3)
    fit = ranef.glmm("n ~ t + (t | g)", data, family="poisson")
    assert correlation_interval(fit) == ([-1.0], [1.0])


def test_a_correlation_whose_standard_deviations_are_far_from_zero_stays():
    fit = ranef.lmm("Reaction ~ Days + (Days | Subject)", ranef.data.load("sleepstudy"))
    low, high = correlation_interval(fit)
    assert low[0] == pytest.approx(-0.4815, abs=1e-4)  # lme4 1.1-31
    assert high[0] == pytest.approx(0.6850, abs=1e-4)


def test_a_shared_correlation_is_profiled_where_one_of_three_columns_does_not_vary() -> None:
    rng = np.random.default_rng(4)
    x, _ = rng.normal(size=96), rng.normal(size=96)
    table = pd.DataFrame({"g": np.repeat(np.arange(16), 6), "f": np.tile(list("abcabc"), 16)})
    table["y"] = rng.normal(size=96) + 0.2 * x
    fit = ranef.lmm("y ~ f + cs(0 + f | g)", table)
    assert fit.estimate.covariances[0][0, 0] < 1e-12
    found = fit.profile().confint()
    own = found[found["parameter"] == "corr"].iloc[0]
    # by dense algebra the deviance is 260.50 at 1 and nowhere above 261.18: the whole range
    assert (own["conf_low"], own["conf_high"]) == pytest.approx((-0.5, 1.0), abs=1e-6)
