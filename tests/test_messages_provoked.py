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
        "column 'z' holds numbers and other values, the first 'a' in row 1",
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


@pytest.fixture(scope="module")
def fits():
    oats = ranef.data.load("Oats")
    herds = ranef.data.load("cbpp")
    return {
        "sleep": ranef.lmm("Reaction ~ Days + (Days | Subject)", SLEEP),
        "oats": ranef.lmm("yield ~ nitro * Variety + (1 | Block/Variety)", oats),
        "herds": ranef.glmm(
            "cbind(incidence, size - incidence) ~ period + (1 | herd)", herds, family="binomial"
        ),
        "two": ranef.lmm(
            "diameter ~ 1 + (1 | plate) + (1 | sample)", ranef.data.load("Penicillin")
        ),
        "one": ranef.lmm("y ~ x", table(), random="none"),
        "meta": meta(variance="vi"),
    }


ASKED = {
    "bootstrap of few": (
        "herds",
        lambda f: f.average("period", method="bootstrap", n=2),
        "give no quantiles; use 200 or more",
    ),
    "a change of nothing": ("sleep", lambda f: f.average("Days", change=0), "changes nothing"),
    "an unknown change": ("sleep", lambda f: f.average("Days", change="much"), "is not known"),
    "three values": ("sleep", lambda f: f.average("Days", change=(1, 2, 3)), "takes two values"),
    "the same value twice": ("sleep", lambda f: f.average("Days", change=(1, 1)), "are the same"),
    "levels twice": (
        "herds",
        lambda f: f.average("period", levels=["1", "1"]),
        "names a value of 'period' twice",
    ),
    "a population of nobody": (
        "sleep",
        lambda f: f.average("Days", population=SLEEP.head(0)),
        "no rows|empty",
    ),
    "no such effect": (
        "sleep",
        lambda f: f.plot.qq(effects="random", term="Dayz"),
        "no random effect of 'Dayz'",
    ),
    "heritability of nothing": (
        "sleep",
        lambda f: f.heritability("id"),
        "no random term|grouping factor",
    ),
    "an infinite mean": ("herds", lambda f: f.r2(mean=np.inf), "finite number"),
    "a mean out of range": ("herds", lambda f: f.r2(mean=3.0, method="delta"), "outside the range"),
    "a method of counts": ("herds", lambda f: f.r2(method="trigamma"), "log link|not known"),
    "no levels": ("sleep", lambda f: ranef.posterior(f, levels=[]), "levels is empty"),
    "one to rank by": (
        "sleep",
        lambda f: f.rank("Subject", statistic="Dayz"),
        "Dayz",
    ),
    "a pair of three": (
        "sleep",
        lambda f: f.plot.shrinkage(terms=["a", "b", "c"]),
        "one coefficient or a pair",
    ),
    "one side below a half": (
        "oats",
        lambda f: f.contrasts("Variety", side="greater", conf_level=0.4),
        "conf_level above 0.5",
    ),
    "letters at no level": ("oats", lambda f: f.emmeans("Variety").letters(alpha=2), "alpha"),
    "nothing to compare": (
        "oats",
        lambda f: f.contrasts("Variety", by="Variety"),
        "nothing to compare|by",
    ),
    "a reference of pairs": (
        "oats",
        lambda f: f.contrasts("Variety", method="pairwise", ref="Victory"),
        "goes with method='reference'",
    ),
    "infinite coefficients": (
        "oats",
        lambda f: f.contrasts("Variety", method={"odd": [np.inf, 0, 0]}),
        "finite numbers",
    ),
    "a method of no kind": (
        "oats",
        lambda f: f.contrasts("Variety", method=object()),
        "method is a name",
    ),
    "settings given twice": (
        "oats",
        lambda f: ranef.contrasts(f.emmeans("Variety"), "Variety"),
        "have their predictors|settings already",
    ),
    "two numbers at one place": (
        "oats",
        lambda f: f.emmeans("Variety", weights="heavy"),
        "weights='heavy' is not known",
    ),
    "a trace of nothing": (
        "oats",
        lambda f: f.emmeans(["Variety", "nitro"], at={"nitro": [0, 0.6]}).plot(
            kind="interaction", x="Variety", trace="Varieti"
        ),
        "trace='Varieti'",
    ),
    "an axis of nothing": (
        "oats",
        lambda f: f.emmeans(["Variety", "nitro"], at={"nitro": [0, 0.6]}).plot(
            kind="interaction", x="Varieti"
        ),
        "x='Varieti' is none of the predictors",
    ),
    "a trace of no interaction": (
        "oats",
        lambda f: f.emmeans("Variety").plot(x="Variety"),
        "are for kind='interaction'",
    ),
    "a slope of words": (
        "oats",
        lambda f: f.emtrends(3, "Variety"),
        "specs is a name or a list of names",
    ),
    "a group that is not crossed": (
        "sleep",
        lambda f: ranef.compare(f, focus="individual", group="Subject"),
        "group belongs to criterion='cv' and 'loo'",
    ),
    "folds of conditional AIC": (
        "sleep",
        lambda f: ranef.compare(f, focus="individual", folds=3),
        "folds belong to criterion='cv'",
    ),
    "no score": ("sleep", lambda f: ranef.cross_validate(f, score=[]), "names no score"),
    "one fold": ("sleep", lambda f: ranef.cross_validate(f, folds=1), "folds must be"),
    "time of groups": ("sleep", lambda f: ranef.cross_validate(f, time="Days"), "time belongs to"),
    "a group of rows": (
        "sleep",
        lambda f: ranef.cross_validate(f, by="row", group="Subject"),
        "group belongs to",
    ),
    "crossed groups": (
        "two",
        lambda f: ranef.cross_validate(f, by="group"),
        "none holds all others",
    ),
    "a refit of importance": (
        "sleep",
        lambda f: f.leave_out("Subject", method="psis", refit=True),
        "stands in for refits",
    ),
    "groups of a model without": (
        "one",
        lambda f: ranef.robust(f),
        "name the clusters by cluster=",
    ),
    "folds by groups of a model without": (
        "one",
        lambda f: ranef.cross_validate(f, by="group"),
        "the model has none",
    ),
    "a fixed effect that is not there": (
        "sleep",
        lambda f: ranef.variance_test(f, fixed=["Dayz"]),
        "no fixed-effects term 'Dayz'",
    ),
    "intervals beyond the profile": (
        "sleep",
        lambda f: ranef.profile(f, "sigma", conf_level=0.9).plot.density(conf_level=0.99),
        "at most that of the profile",
    ),
}


@pytest.mark.parametrize("what", list(ASKED))
def test_what_is_asked_wrongly_is_said(fits, what):
    fit, ask, said = ASKED[what]
    with pytest.raises((RanefError, TypeError), match=said):
        ask(fits[fit])
