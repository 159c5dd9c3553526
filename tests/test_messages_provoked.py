"""Messages that no other test provokes: what was given wrongly, and what is said of it."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import ranef
from ranef.errors import RanefError

SLEEP = ranef.data.load("sleepstudy")
OHIO = ranef.data.load("ohio")
BCG = ranef.data.load("bcg")
COUNTS = {"ai": "tpos", "bi": "tneg", "ci": "cpos", "di": "cneg"}


def table(n=24, **columns):
    """Three visits of eight persons."""
    rng = np.random.default_rng(1)
    made = {
        "id": np.repeat([f"p{k}" for k in range(n // 3)], 3),
        "visit": np.tile([1, 2, 3], n // 3),
        "arm": np.repeat(["a", "b"], n // 2),
        "x": rng.normal(size=n),
        "y": rng.normal(size=n),
    }
    return pd.DataFrame({**made, **columns})


def gee(formula="resp ~ age", data=OHIO, **how):
    return ranef.gee(formula, data, **{"groups": "id", "time": "age", "family": "binomial", **how})


def structured(residual="ar1(visit | id)", data=None, **how):
    return ranef.lmm("y ~ x", table() if data is None else data, residual=residual, **how)


def with_dispersion(dispersion, data=None):
    return ranef.lmm(
        "y ~ x", table() if data is None else data, dispersion=dispersion, random="none"
    )


def meta(**how):
    return ranef.meta("yi ~ 1", ranef.effect_sizes("RR", BCG, **COUNTS), **how)


WRONG = {
    "no formula": (lambda: ranef.lmm(3, SLEEP), "the formula must be text such as"),
    "an empty formula": (lambda: ranef.lmm("  ", SLEEP), "the formula is empty"),
    "an endless formula": (
        lambda: ranef.lmm("y ~ " + "x + " * 200_000 + "x", table()),
        r"the formula has [\d,]+ (characters|parts)|more than",
    ),
    "residual as a number": (lambda: structured(3), "residual is a text or a list of texts"),
    "residual without a group": (lambda: structured("ar1(visit)"), "each place may be taken once"),
    "residual with two bars": (
        lambda: structured("ar1(visit | id | arm)"),
        "a bar outside parentheses",
    ),
    "a nugget that is a word": (
        lambda: structured("exp(visit | id, nugget='yes')"),
        "nugget",
    ),
    "orders of arma": (
        lambda: structured("arma(visit | id, p=1, q=9)"),
        "a whole number from 0 to 5",
    ),
    "two columns of a place": (
        lambda: structured("ar1(visit:x | id)"),
        "positions are single columns",
    ),
    "words as coordinates": (lambda: structured("exp(arm | id)"), "needs numbers or times"),
    "dispersion without a tilde": (lambda: with_dispersion("arm"), "begins with '~'"),
    "dispersion with a response": (
        lambda: with_dispersion("~ offset(x)"),
        "no response and no offset",
    ),
    "a power in an interaction": (
        lambda: with_dispersion("~ power(mean) * arm"),
        "stands alone in a dispersion formula",
    ),
    "an infinite dispersion": (
        lambda: with_dispersion("~ log(z)", table(z=np.r_[0.0, np.ones(23)])),
        "not finite|infinite|log",
    ),
    "knots from few values": (
        lambda: ranef.lmm("y ~ ns(visit, df=6) + (1 | id)", table()),
        "distinct values|knots",
    ),
    "a spline of one value": (
        lambda: ranef.lmm("y ~ ns(z, df=3) + (1 | id)", table(z=1.0)),
        "distinct values",
    ),
    "boundary knots": (
        lambda: ranef.lmm("y ~ ns(x, df=3, boundary=c(1, 1)) + (1 | id)", table()),
        "boundary knots|no argument",
    ),
    "contrasts without a name": (
        lambda: ranef.lmm("y ~ C(arm, 3) + (1 | id)", table()),
        "contrasts",
    ),
    "an argument of contrasts": (
        lambda: ranef.lmm("y ~ C(arm, Sum(deep=2)) + (1 | id)", table()),
        "has no argument|contrasts",
    ),
    "a mixed column": (
        lambda: ranef.lmm("y ~ z + (1 | id)", table(z=pd.Series([1, "a"] * 12, dtype=object))),
        "mixes types",
    ),
    "a kernel with two sets of labels": (
        lambda: ranef.lmm(
            "y ~ x + kernel(1 | id, K)",
            table(),
            kernels={
                "K": pd.DataFrame(np.eye(8), index=list("abcdefgh"), columns=list("hgfedcba"))
            },
        ),
        "has no row for 8 of 8 levels",
    ),
    "weights beside a dispersion": (
        lambda: ranef.glmm(
            "y ~ x + (1 | id)", table(), family="gaussian", dispersion="~ arm", weights="x"
        ),
        "weights",
    ),
    "groups of a gee as a list": (lambda: gee(groups=["id"]), "groups names the column"),
    "a link that has no column": (lambda: gee(time=3), "time is the name of a column, not int"),
    "a matrix of words": (
        lambda: gee(correlation="fixed", matrix="identity"),
        "square matrix of numbers",
    ),
    "a negative shape": (
        lambda: ranef.gee(
            "y ~ x",
            table(y=np.arange(24)),
            groups="id",
            family="nbinom2",
            shapes={"phi": -1.0},
        ),
        "is a positive number",
    ),
    "dropout without a tilde": (
        lambda: gee(data=OHIO.assign(resp=OHIO["resp"].where(OHIO["age"] < 1)), dropout="age"),
        "begins with '~'",
    ),
    "dropout with a response": (
        lambda: gee(data=OHIO.assign(resp=OHIO["resp"].where(OHIO["age"] < 1)), dropout="y ~ age"),
        "begins with '~'|no left side",
    ),
    "dropout of everybody": (
        lambda: gee(data=OHIO.assign(resp=np.nan), dropout="~ smoke"),
        "missing in every row",
    ),
    "impute without patients": (
        lambda: ranef.impute(ranef.lmm("y ~ x + (1 | id) + (1 | visit)", table()), table()),
        "name the column of the visits",
    ),
    "power of counts and a table": (
        lambda: ranef.power(
            "y ~ x + (1 | id)",
            table(),
            fixed={"x": 1.0},
            sd={"id": 1.0},
            sigma=1.0,
            test="x",
            n=2,
            missing=0.1,
        ),
        "design of counts",
    ),
    "power without a test": (
        lambda: ranef.power(ranef.lmm("Reaction ~ Days + (1 | Subject)", SLEEP), test=[], n=2),
        "test must name coefficients or a term",
    ),
    "power that varies over nothing": (
        lambda: ranef.power(
            ranef.lmm("Reaction ~ Days + (1 | Subject)", SLEEP),
            test="Days",
            vary={"Subject": []},
            n=2,
        ),
        "has no values",
    ),
    "a search of data": (
        lambda: ranef.step("y ~ x + (1 | id)", table(), focus="population", formula="y ~ 1"),
        "multiple values|formula",
    ),
    "sizes without a column": (lambda: ranef.effect_sizes("RR", BCG, ai="tpos"), "needs"),
    "sizes of a number": (
        lambda: ranef.effect_sizes("RR", BCG, **{**COUNTS, "ai": 3}),
        "ai is the name of a column, not int",
    ),
    "a negative correction": (
        lambda: ranef.effect_sizes("RR", BCG, **COUNTS, add=-1),
        "not a number from zero on",
    ),
    "a study that is a number": (
        lambda: meta(variance="vi", study=3),
        "study is the name of a column",
    ),
    "a covariance of words": (lambda: meta(covariance="vi"), "matrix of numbers"),
    "a covariance with holes": (
        lambda: meta(covariance=np.full((13, 13), np.nan)),
        "no row of 13 is left to use",
    ),
    "within and between of nothing": (
        lambda: ranef.within_between("y ~ x", table()),
        "no grouping factor; say with by=",
    ),
}


@pytest.mark.parametrize("what", list(WRONG))
def test_what_is_wrong_is_said(what):
    call, said = WRONG[what]
    with pytest.raises((RanefError, TypeError), match=said):
        call()
