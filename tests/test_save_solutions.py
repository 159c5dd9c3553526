"""Saved fits of every kind solve the equations that their files are held to, a hundred times over.

A file is refused where its numbers are no solution of its rows. Nothing that a fit can end in
may come near that: extreme scales and weights, singular and unfinished fits, steps of conjugate
gradients.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
from random_models import problem

import ranef
from ranef.errors import RanefError
from ranef.storage import saving, solutions

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(autouse=True)
def strict(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(solutions, "LOOSE", solutions.LOOSE / 100)
    monkeypatch.setattr(solutions, "APART", solutions.APART / 100)


def table(n: int = 240) -> pd.DataFrame:
    rng = np.random.default_rng(3)
    g, h = np.arange(n) % 12, np.arange(n) // 12 % 8
    x, u = rng.normal(size=n), rng.normal(size=(12, 2))
    mean = 1 + 0.5 * x + u[g, 0] + 0.3 * u[g, 1] * x
    return pd.DataFrame({
        "y": mean + rng.normal(size=n), "noise": rng.normal(size=n), "x": x, "g": g, "h": h,
        "near": x + 1e-7 * rng.normal(size=n), "w": np.exp(3 * rng.normal(size=n)),
        "o": 100 * rng.normal(size=n), "f": np.array(list("abc"))[rng.integers(0, 3, n)],
        "t": np.arange(n) // 12, "c": rng.poisson(np.exp(0.3 * mean)), "one": 1 * (mean > 1),
        "far": mean + 1e9 + rng.normal(size=n), "large": 1e12 * (mean + rng.normal(size=n)),
    })  # fmt: skip


def again(fit: Any) -> None:
    assert str(saving.from_bytes(saving.to_bytes(fit)).summary()) == str(fit.summary())


FITS: dict[str, Callable[[pd.DataFrame], Any]] = {
    "slopes": lambda d: ranef.lmm("y ~ x + (x | g)", d),
    "maximum likelihood": lambda d: ranef.lmm("y ~ x + (x | g) + (1 | h)", d, reml=False),
    "a singular fit": lambda d: ranef.lmm("noise ~ x + (x | g) + (1 | h)", d),
    "a fit cut short": lambda d: ranef.lmm("y ~ x + (f | g)", d, start=[9.0, 0, 0, 9, 0, 9]),
    "no random effects": lambda d: ranef.lmm("y ~ x", d, random="none"),
    "weights": lambda d: ranef.lmm("y ~ x + (x | g)", d, weights="w"),
    "large weights": lambda d: ranef.lmm("y ~ x + (x | g)", d.assign(w=1e12 * d.w), weights="w"),
    "small weights": lambda d: ranef.lmm("y ~ x + (x | g)", d.assign(w=1e-14 * d.w), weights="w"),
    "an offset": lambda d: ranef.lmm("y ~ x + offset(o) + (1 | g)", d),
    "columns that nearly agree": lambda d: ranef.lmm("y ~ x + near + (1 | g)", d),
    "a dropped column": lambda d: ranef.lmm("y ~ x + I(2 * x) + (1 | g)", d),
    "a response far from zero": lambda d: ranef.lmm("far ~ x + (x | g)", d),
    "a large response": lambda d: ranef.lmm("large ~ x + (x | g)", d),
    "a large column": lambda d: ranef.lmm("y ~ x + (x | g)", d.assign(x=1e9 * d.x + 1e12)),
    "effects far above the residual": lambda d: ranef.lmm(
        "z ~ x + (1 | g)", d.assign(z=1e6 * d.g.mod(5) + 1e-3 * d.noise)
    ),
    "conjugate gradients": lambda d: ranef.lmm("y ~ x + (1 | g) + (1 | h)", d, path="iterative"),
    "a kernel": lambda d: ranef.lmm(
        "y ~ x + kernel(1 | g, K)", d,
        kernels={"K": pd.DataFrame(1e-6 * (np.eye(12) + 0.5), index=range(12), columns=range(12))},
    ),
    "memberships": lambda d: ranef.lmm("y ~ x + (1 | g + h)", d),
    "one for two": lambda d: ranef.lmm(
        "y ~ x + (1 | g) + (1 | k)", d.assign(k=-d.g), undetermined="keep"
    ),
    "a row a level": lambda d: ranef.lmm(
        "y ~ x + (1 | row)", d.assign(row=range(len(d))), weights="w"
    ),
    "correlated residuals": lambda d: ranef.lmm("y ~ x + (1 | h)", d, residual="ar1(t | g)"),
    "a power of the mean": lambda d: ranef.lmm(
        "y ~ x", d, dispersion="~ power(mean)", random="none"
    ),
    "counts": lambda d: ranef.glmm("c ~ x + (x | g) + (1 | h)", d, family="poisson"),
    "counts by quadrature": lambda d: ranef.glmm(
        "c ~ x + (1 | g)", d, family="nbinom2", quadrature=7
    ),
    "zeros of their own": lambda d: ranef.glmm(
        "c ~ x + (1 | g)", d, family="poisson", zero="~ 1 + (1 | h)"
    ),
    "counts of no variance": lambda d: ranef.glmm("c ~ y + (1 | h)", d, family="poisson"),
    "weighted counts": lambda d: ranef.glmm(
        "c ~ x + (1 | g)", d.assign(w=1e8 * d.w), family="poisson", weights="w"
    ),
    "a normal response": lambda d: ranef.glmm(
        "y ~ x + (1 | g)", d, family="gaussian", dispersion="~ x + (1 | g)"
    ),
    "held parameters": lambda d: ranef.lmm("y ~ x + (1 | g)", d, fixed={"x": 0.0}),
}  # fmt: skip


@pytest.mark.parametrize("name", FITS)
def test_what_is_fitted_is_far_from_being_refused(name: str) -> None:
    again(FITS[name](table()))


def test_a_fit_of_modes_that_only_its_search_finds_is_read_and_asked() -> None:
    fit = ranef.glmm("one ~ x + (1 | g)", table(), family="binomial")
    read = saving.from_bytes(saving.to_bytes(fit))
    np.testing.assert_array_equal(read.estimate.coefficients, fit.estimate.coefficients)
    assert "x" in str(read.summary())


def test_random_models_are_far_from_being_refused() -> None:
    read = 0
    for i in range(60):
        case = problem([12, i])
        try:
            fit = ranef.lmm(case.formula, case.table, **case.arguments)
        except RanefError:
            continue
        saving.from_bytes(saving.to_bytes(fit))
        read += 1
    assert read > 20
