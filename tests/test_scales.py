"""Powers of ten in any argument that has a scale change what follows from them and nothing else.

Each invariance is exact by the algebra of the model: y to c y shifts the log-likelihood by
-m log c (m rows, less p under REML), a column of X by -log c under REML, precision weights,
columns of Z, distances and kernels by nothing.
"""

from __future__ import annotations

import warnings
from functools import cache
from typing import Any

import numpy as np
import pandas as pd
import pytest
from agreement import Agree

import ranef
from ranef.errors import ModelError, RanefWarning

POWERS = (-18, -6, 9, 18)
N, P, LEVELS = 240, 2, 24
STRUCTURES = {
    "intercept": "(1 | g)",
    "us": "(z | g)",
    "diag": "(z || g)",
    "homdiag": "homdiag(0 + factor(v) | g)",
    "cs": "cs(0 + factor(v) | g)",
    "homcs": "homcs(0 + factor(v) | g)",
    "ar1": "ar1(v | g)",
    "hetar1": "hetar1(v | g)",
    "toep": "toep(v | g)",
    "homtoep": "homtoep(v | g)",
    "ou": "ou(t | g)",
    "exp": "exp(t | g)",
    "gau": "gau(t | g)",
    "mat": "mat(t | g)",
    "rr": "rr(0 + factor(v) | g, 2)",
    "kernel": "kernel(1 | g, K)",
    "crossed": "(1 | g) + (1 | h)",
    "nested": "(1 | h/v)",
}
READS = {"z": ("us", "diag"), "t": ("ou", "exp", "gau", "mat"), "K": ("kernel",)}


@cache
def data() -> tuple[pd.DataFrame, np.ndarray]:
    """A table in which every structure has something to find, and a kernel of its levels."""
    rng = np.random.default_rng(4)
    g, v = np.repeat(np.arange(LEVELS), 10), np.tile(np.arange(5), 48)
    h = rng.integers(0, 8, N)
    t = np.array([0.0, 1.0, 2.5, 4.0, 7.0])
    x, z = rng.normal(size=(2, N))
    A = rng.normal(size=(LEVELS, 30))
    K = A @ A.T / 30 + 0.2 * np.eye(LEVELS)
    u = np.linalg.cholesky(K) @ rng.normal(size=LEVELS)
    C = np.exp(-np.abs(t[:, None] - t) / 3)
    U = rng.normal(size=(LEVELS, 5)) @ np.linalg.cholesky(C).T
    y = 1 + 0.5 * x + 0.8 * u[g] + 0.7 * U[g, v] + 0.4 * rng.normal(size=LEVELS)[g] * z
    y += 0.5 * rng.normal(size=8)[h] + 0.5 * rng.normal(size=N)
    w, o = rng.uniform(0.5, 2, N), rng.normal(size=N)
    eta = 0.5 * (y - 1)
    table = pd.DataFrame(
        {
            "y": y, "x": x, "z": z, "g": g, "h": h, "v": v, "t": t[v], "w": w, "o": o,
            "count": rng.poisson(np.exp(eta)),
            "binary": (rng.random(N) < 1 / (1 + np.exp(-eta))).astype(int),
            "positive": np.exp(eta) * rng.gamma(4, 0.25, N),
            "lower": np.where(y < 0, np.nan, y), "upper": np.where(y < 0, 0.0, y),
        }
    )  # fmt: skip
    return table.assign(some=np.where(rng.random(N) < 0.2, 0.0, table["positive"])), K


def scaled(argument: str, factor: float, columns: tuple[str, ...]) -> tuple[pd.DataFrame, Any]:
    """The table and the kernel with one argument multiplied."""
    table, K = data()
    names = {"y": columns}.get(argument, (argument,))
    if argument != "K":
        table = table.assign(**{name: factor * table[name] for name in names})
    K = K * factor if argument == "K" else K
    return table, {"K": pd.DataFrame(K, index=range(LEVELS), columns=range(LEVELS))}


@cache
def linear(name: str, reml: bool, argument: str = "y", power: int = 0) -> Any:
    table, kernels = scaled(argument, 10.0**power, ("y", "o"))
    formula = f"y ~ x + {STRUCTURES[name]}"
    known = {"kernels": kernels} if "K" in formula else {}
    return ranef.lmm(formula, table, reml=reml, weights="w", offset="o", **known)


def arguments(name: str) -> list[str]:
    return ["y", "w", "x", *(a for a, names in READS.items() if name in names)]


LINEAR = [
    (name, a, reml)
    for name in STRUCTURES
    for a in arguments(name)
    for reml in (True, False)
    if name != "mat" or (a in "yt" and not reml)  # slow
]


def t_values(fit: Any) -> np.ndarray:
    e = fit.estimate
    return e.coefficients / np.sqrt(np.diag(e.coefficient_vcov))


def assert_same_fit(fit: Any, base: Any, shift: float) -> None:
    """Log-likelihoods tell of false optima; estimates are known to the search's tolerance."""
    assert fit.loglik == pytest.approx(base.loglik + shift, rel=0, abs=1e-5)
    assert t_values(fit)[1] == pytest.approx(t_values(base)[1], rel=5e-3)
    assert fit.optimum.converged == base.optimum.converged
    assert [f.description for f in fit.optimum.faces] == [f.description for f in base.optimum.faces]


# the range of `mat` runs to its limit here, its smoothness is not determined, and the fit says so
@pytest.mark.filterwarnings("ignore::ranef.errors.ConvergenceWarning")
@pytest.mark.filterwarnings("ignore::ranef.errors.RankWarning")
@pytest.mark.parametrize(("name", "argument", "reml"), LINEAR)
def test_linear_models(name: str, argument: str, reml: bool, agree: Agree) -> None:
    base = linear(name, reml)
    m = N - P if reml else N
    for power in POWERS:
        fit = linear(name, reml, argument, power)
        by_argument = {"y": -m, "x": -1 if reml else 0}
        shift = by_argument.get(argument, 0) * power * np.log(10)
        assert_same_fit(fit, base, shift)
        agree("ranef.lmm", f"log-likelihood, {argument} times 10^±18, {name}", fit.loglik - shift,
              base.loglik, peer="the same without", atol=1e-5)  # fmt: skip


def in_units(fit: Any, numbers: pd.DataFrame, argument: str, factor: float) -> np.ndarray:
    """Variance parameters as if nothing had been multiplied."""
    words = numbers.select_dtypes(exclude="number").fillna("").agg(" ".join, axis=1)
    correlation = words.str.contains("corr|smooth").to_numpy()
    slope = words.str.contains(r"\bz\b").to_numpy() & ~correlation
    residual = words.str.contains("Residual").to_numpy()
    distance = words.str.contains("range").to_numpy()
    unit = np.ones(len(words))
    if argument == "y":
        unit[~correlation & ~distance] = factor
    if argument == "w":
        unit[residual] = np.sqrt(factor)
    if argument == "z":
        unit[slope] = 1 / factor
    if argument == "t":
        unit[distance] = factor
    if argument == "K":
        unit[~residual] = 1 / np.sqrt(factor)
    return numbers.select_dtypes("number").to_numpy() / unit[:, None]


ASKED = [(n, a) for n in ("us", "cs", "ar1", "exp", "kernel") for a in arguments(n) if a != "x"]


@pytest.mark.parametrize("power", [-18, 18])
@pytest.mark.parametrize(("name", "argument"), ASKED)
def test_answers_about_variances(name: str, argument: str, power: int) -> None:
    fit, base, factor = linear(name, True, argument, power), linear(name, True), 10.0**power
    for ask in (
        lambda f: f.tidy("variance"),
        lambda f: f.confint(parameters="variance", method="profile").drop(
            columns="std_error", errors="ignore"
        ),
    ):
        # profiles are followed to a ten-thousandth of their height
        np.testing.assert_allclose(
            in_units(fit, ask(fit), argument, factor), in_units(base, ask(base), "", 1.0), rtol=2e-3
        )


@pytest.mark.parametrize("power", [-18, 18])
@pytest.mark.parametrize(("name", "argument"), ASKED)
def test_other_answers(name: str, argument: str, power: int) -> None:
    fit, base = linear(name, True, argument, power), linear(name, True)
    unit = 10.0**power if argument == "y" else 1.0

    def numbers(f: Any, c: float) -> list[np.ndarray]:
        out = [f.tidy(df=df)[["df", "p_value"]] for df in ("satterthwaite", "kenward-roger")]
        out += [
            f.predict(kind=k, conf_level=0.9).to_numpy() / c for k in ("conditional", "population")
        ]
        out.append(ranef.influence(f, by="g").tidy().filter(regex="cook|covratio"))
        # what it says of the table is about digits: numbers beyond 2^53 look like ids
        findings = ranef.check(f).tidy().query("not what.str.startswith('table')")
        out.append(np.array([len(findings), ranef.r2(f).conditional]))
        out.append(f.bootstrap(20, rng=1, method="residual").singular)
        return [np.asarray(o, dtype=np.float64) for o in out]

    for one, other in zip(numbers(fit, unit), numbers(base, 1.0), strict=True):
        np.testing.assert_allclose(one, other, rtol=2e-3, atol=1e-4)


FAMILIES: dict[str, tuple[str, dict[str, Any], tuple[str, ...], int]] = {
    "gaussian": ("y", {"family": "gaussian"}, ("y", "o"), N),
    "gaussian REML": ("y", {"family": "gaussian", "reml": True}, ("y", "o"), N - P),
    "gaussian log": ("positive", {"family": "gaussian", "link": "log"}, ("positive",), N),
    "t": ("y", {"family": "t"}, ("y", "o"), N),
    "skewnormal": ("positive", {"family": "skewnormal"}, ("positive",), N),
    "censored": ("cbind(lower, upper)", {"family": "censored"}, ("lower", "upper", "o"), -1),
    "Gamma": ("positive", {"family": "Gamma", "link": "log"}, ("positive",), N),
    "Gamma identity": ("positive", {"family": "Gamma", "link": "identity"}, ("positive",), N),
    "Gamma inverse": ("positive", {"family": "Gamma", "link": "inverse"}, ("positive",), N),
    "lognormal": ("positive", {"family": "lognormal"}, ("positive",), N),
    "inverse.gaussian": ("positive", {"family": "inverse.gaussian", "link": "log"},
                         ("positive",), N),
    "tweedie": ("some", {"family": "tweedie"}, ("some",), -2),
    "poisson": ("count", {"family": "poisson"}, (), 0),
    "zero-inflated": ("count", {"family": "poisson", "zero": "~ z"}, (), 0),
    "nbinom2": ("count", {"family": "nbinom2", "dispersion": "~ z"}, (), 0),
    "binomial": ("binary", {"family": "binomial"}, (), 0),
    "quadrature": ("binary", {"family": "binomial", "quadrature": 7}, (), 0),
}  # fmt: skip


@cache
def generalised(name: str, term: str, argument: str = "x", power: int = 0) -> Any:
    response, said, columns, _ = FAMILIES[name]
    table, kernels = scaled(argument, 10.0**power, columns)
    known = {"kernels": kernels} if "K" in term else {}
    offset = "o" if "o" in columns else None
    return ranef.glmm(f"{response} ~ x + {term}", table, offset=offset, **said, **known)


GENERALISED = [
    (name, term, argument)
    for name in FAMILIES
    for term, own in (("(1 | g)", ""), ("(z | g)", "z"), ("kernel(1 | g, K)", "K"))
    for argument in ("y", "x", own)
    if argument
    and (argument != "y" or FAMILIES[name][2])
    and not (name == "quadrature" and "K" in term)
    and not (name == "t" and "z" in term)  # its df run off to infinity there
]


@pytest.mark.parametrize("power", [-18, 18])
@pytest.mark.parametrize(("name", "term", "argument"), GENERALISED)
def test_generalised_models(name: str, term: str, argument: str, power: int) -> None:
    table = data()[0]
    m = FAMILIES[name][3]
    m = {-1: int((table["y"] >= 0).sum()), -2: int((table["some"] > 0).sum())}.get(m, m)
    by_argument = {"y": -m, "x": -1 if name == "gaussian REML" else 0}
    shift = by_argument.get(argument, 0) * power * np.log(10)
    assert_same_fit(generalised(name, term, argument, power), generalised(name, term), shift)


@pytest.mark.parametrize("power", POWERS)
def test_a_linear_model_with_priors(power: int) -> None:
    """Fitted by the other engine, whose weights are part of the dispersion."""
    table = data()[0]
    said = {"weights": "w", "equal": [("x", "z")], "reml": False}
    base = ranef.lmm("y ~ x + z + (1 | g)", table, **said)
    fit = ranef.lmm("y ~ x + z + (1 | g)", table.assign(w=10.0**power * table["w"]), **said)
    assert_same_fit_but_for_sigma(fit, base)


def assert_same_fit_but_for_sigma(fit: Any, base: Any) -> None:
    assert fit.loglik == pytest.approx(base.loglik, rel=0, abs=1e-5)
    np.testing.assert_allclose(t_values(fit)[:3], t_values(base)[:3], rtol=1e-3)


def test_weights_of_unlike_groups() -> None:
    """Half the groups weigh 1e8 times the others: the optimum of dense algebra."""
    table = data()[0]
    w = np.where(table["g"] < LEVELS / 2, 1e-4, 1e4)
    fit = ranef.lmm("y ~ x + (1 | g)", table, reml=False, weights=w)
    X = np.column_stack([np.ones(N), table["x"]])
    Z = (table["g"].to_numpy()[:, None] == np.arange(LEVELS)).astype(float)

    def deviance(theta: float) -> float:
        V = np.diag(1 / w) + theta**2 * Z @ Z.T
        L = np.linalg.cholesky(V)
        yw, Xw = np.linalg.solve(L, table["y"]), np.linalg.solve(L, X)
        rest = yw - Xw @ np.linalg.lstsq(Xw, yw, rcond=None)[0]
        return N * (1 + np.log(2 * np.pi * float(rest @ rest) / N)) + 2 * np.log(np.diag(L)).sum()

    best = min(deviance(theta) for theta in np.geomspace(1e-6, 1e3, 400))
    assert fit.deviance <= best + 1e-6


def visits() -> pd.DataFrame:
    rng = np.random.default_rng(0)
    g = np.repeat(np.arange(15), 6)
    table = pd.DataFrame({"g": g, "t": np.tile(np.arange(6), 15), "x": rng.normal(size=90)})
    return table.assign(y=1 + 0.5 * table.x + rng.normal(size=15)[g] + rng.normal(size=90))


@pytest.mark.parametrize("factor", [60, 1000, 86400])
@pytest.mark.parametrize("residual", ["ar1(t | g)", "car1(t | g)", "ou(t | g)", "exp(t | g)"])
def test_units_of_time(residual: str, factor: int, agree: Agree) -> None:
    """A correlation at distance 1 of times that are minutes or seconds apart."""
    table = visits()
    base = ranef.lmm("y ~ x", table, residual=residual)
    fit = ranef.lmm("y ~ x", table.assign(t=factor * table.t), residual=residual)
    agree("lmm(residual=)", f"log-likelihood, times multiplied, {residual}", fit.loglik,
          base.loglik, peer="the same without", atol=1e-6)  # fmt: skip
    assert fit.loglik > -148.0  # -158.3 is the same without a correlation


@pytest.mark.parametrize("residual", ["hetar1(t | g)", "arma(t | g, p=1, q=1)"])
def test_units_of_time_of_other_processes(residual: str) -> None:
    table = visits()
    base = ranef.lmm("y ~ x", table, residual=residual)
    fit = ranef.lmm("y ~ x", table.assign(t=1000 * table.t), residual=residual)
    assert fit.loglik == pytest.approx(base.loglik, rel=0, abs=1e-5)


@pytest.mark.parametrize("factor", [1e-9, 1e-4, 1e12, 1e18])
def test_units_in_which_a_correlation_is_no_number(factor: float) -> None:
    table = visits()
    table = table.assign(t=factor * table.t)
    with pytest.raises(ModelError, match="cannot be written as a number"):
        ranef.lmm("y ~ x", table, residual="car1(t | g)")
    with pytest.raises(ModelError, match="cannot be written as a number"):
        ranef.gee("y ~ x", table, groups="g", time="t", correlation="car1")
    assert np.isfinite(ranef.lmm("y ~ x", table, residual="ou(t | g)").loglik)


@pytest.mark.parametrize("factor", [60, 1000])
def test_units_of_time_of_estimating_equations(factor: int) -> None:
    table = visits()
    base = ranef.gee("y ~ x", table, groups="g", time="t", correlation="car1")
    moved = table.assign(t=factor * table.t)
    fit = ranef.gee("y ~ x", moved, groups="g", time="t", correlation="car1")
    np.testing.assert_allclose(fit.coef, base.coef, rtol=1e-8)


def test_a_range_that_runs_away_is_no_raw_error() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RanefWarning)
        assert ranef.lmm("y ~ x", visits(), residual="mat(t | g)").loglik > -140.0
