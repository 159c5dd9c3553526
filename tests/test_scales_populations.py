"""Powers of ten in estimating equations and meta-analyses change units and nothing else.

Exact by the algebra: the t values, degrees of freedom and p values of all coefficients, the
likelihood but for its shift, standard deviations in the units of the effects.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pandas as pd
import pytest
from agreement import Agree

import ranef

POWERS = (-18, -9, 9, 18)


@cache
def table() -> pd.DataFrame:
    rng = np.random.default_rng(3)
    n, g = 60, np.repeat(np.arange(15), 4)
    x, z, o = rng.normal(size=(3, n))
    v, w = 0.1 + 0.2 * rng.random(n), rng.uniform(0.5, 2, n)
    y = 1 + 0.5 * x + 0.6 * rng.normal(size=15)[g] + 0.5 * rng.normal(size=15)[g] * z
    y += rng.normal(size=n) * (0.3 + np.sqrt(v))
    return pd.DataFrame({
        "y": y, "x": x, "z": z, "o": o, "v": v, "w": w, "g": g, "t": np.tile(np.arange(4), 15),
        "b": (y > 1).astype(int), "p": np.exp(y),
    })  # fmt: skip


EQUATIONS: dict[str, dict[str, Any]] = {
    "independence": {"correlation": "independence", "weights": "w"},
    "exchangeable": {"correlation": "exchangeable", "weights": "w"},
    "ar1": {"correlation": "ar1", "covariance": "mancl-derouen"},
    "unstructured": {"correlation": "unstructured", "covariance": "fay-graubard"},
    "toeplitz": {"correlation": "toeplitz", "covariance": "kauermann-carroll"},
    "logit": {"family": "binomial", "correlation": "exchangeable"},
    "gamma": {"family": "Gamma", "link": "log", "correlation": "exchangeable", "weights": "w"},
}


@cache
def equations(name: str, argument: str = "x", power: int = 0) -> Any:
    changed = table().assign(**{argument: 10.0**power * table()[argument]})
    said = EQUATIONS[name]
    response = {"binomial": "b", "Gamma": "p"}.get(said.get("family", ""), "y")
    return ranef.gee(f"{response} ~ x + o", changed, groups="g", time="t", **said)


def said_of(name: str) -> list[str]:
    response = {"logit": [], "gamma": ["p"]}.get(name, ["y"])
    return [*response, "x", *(["w"] if "weights" in EQUATIONS[name] else [])]


@pytest.mark.parametrize("name", EQUATIONS)
@pytest.mark.parametrize("df", [None, "fay-graubard", "pan-wall"])
def test_estimating_equations(name: str, df: str | None, agree: Agree) -> None:
    """The default's degrees of freedom of an intercept were 15.7, or infinite with x in 1e-9."""
    how = {} if df is None else {"df": df}
    columns = ["statistic", "df", "p_value"]
    base = equations(name).tidy(**how)[columns].to_numpy(float)
    for argument in said_of(name):
        for power in POWERS:
            found = equations(name, argument, power).tidy(**how)[columns].to_numpy(float)
            # a logarithm moves its intercept with the response's unit
            kept = slice(1 if argument == "p" else 0, None)
            what = f"t, df, p, {argument} times 10^±18, {name}, {df or 'default'}"
            agree("ranef.gee", what, found[kept], base[kept], peer="the same without",
                  rtol=1e-6, atol=1e-9)  # fmt: skip


MODELS = (
    "y ~ x",
    "y ~ x + (1 | g/t)",
    "y ~ x + (z | g)",
    "y ~ x + (z || g)",
    "y ~ x + ar1(0 + factor(t) | g)",
)


@cache
def synthesis(formula: str, argument: str = "y", power: int = 0) -> Any:
    factor = 10.0**power
    changed = table().assign(**{argument: factor * table()[argument]})
    if argument == "y":
        changed["v"] *= factor**2
    return ranef.meta(formula, changed, variance="v")


@pytest.mark.parametrize("formula", MODELS)
def test_meta_analyses(formula: str, agree: Agree) -> None:
    """A slope's t was 8.4, or 11.4 with effects in units of 1e9; z in units of 1e-9 raised."""
    base, n = synthesis(formula), len(table())
    for argument in ("y", "x", *("z" if "z" in formula else "")):
        for power in POWERS:
            fit, shift = synthesis(formula, argument, power), 0.0
            if argument == "y":
                shift = -(n - 2) * power * np.log(10)
            if argument == "x":
                shift = -power * np.log(10)
            what = f"log-likelihood, {argument} times 10^±18, {formula}"
            agree("ranef.meta", what, fit.loglik - shift, base.loglik, peer="the same without",
                  atol=1e-6)  # fmt: skip
            np.testing.assert_allclose(fit.tidy()["statistic"], base.tidy()["statistic"], rtol=1e-4)
