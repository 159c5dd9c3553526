"""Questions asked wrongly of fits that are there, and what is said: no other test provokes it."""

from __future__ import annotations

from functools import cached_property

import numpy as np
import pandas as pd
import pytest
from refusals import refused

import ranef


class World:
    """Fits that the questions below are asked of, each made once."""

    sleep = property(lambda self: ranef.data.load("sleepstudy"))

    @cached_property
    def linear(self):
        return ranef.lmm("Reaction ~ Days + (Days | Subject)", self.sleep)

    @cached_property
    def plain(self):
        return ranef.lmm("Reaction ~ Days", self.sleep, random="none")

    @cached_property
    def herds(self):
        return ranef.glmm(
            "cbind(incidence, size - incidence) ~ period + (1 | herd)",
            ranef.data.load("cbpp"),
            family="binomial",
        )

    @cached_property
    def oats(self):
        return ranef.lmm("yield ~ nitro * Variety + (1 | Block/Variety)", ranef.data.load("Oats"))

    @cached_property
    def wine(self):
        return ranef.glmm(
            "rating ~ temp + (1 | judge)", ranef.data.load("wine"), family="cumulative"
        )

    @cached_property
    def zeros(self):
        return ranef.glmm(
            "count ~ mined + (1 | site)",
            ranef.data.load("Salamanders"),
            family="poisson",
            zero="~ mined",
        )

    @cached_property
    def gee(self):
        return ranef.gee(
            "resp ~ age", ranef.data.load("ohio"), groups="id", time="age", family="binomial"
        )

    @cached_property
    def table(self):
        rng = np.random.default_rng(1)
        n = 24
        return pd.DataFrame(
            {
                "id": np.repeat([f"p{k}" for k in range(8)], 3),
                "visit": np.tile([1, 2, 3], 8),
                "arm": np.repeat(["a", "b"], 12),
                "x": rng.normal(size=n),
                "y": rng.normal(size=n),
                "one": "a",
                "two": 1.0,
                "gap": np.where(np.arange(n) == 4, np.nan, 1.0),
            }
        )

    @cached_property
    def visits(self):
        return ranef.lmm("y ~ x + arm", self.table, residual="cs(visit | id)")

    @cached_property
    def bcg(self):
        return ranef.effect_sizes(
            "RR", ranef.data.load("bcg"), ai="tpos", bi="tneg", ci="cpos", di="cneg"
        )

    @cached_property
    def meta(self):
        return ranef.meta("yi ~ 1", self.bcg, variance="vi")

    @cached_property
    def moderated(self):
        return ranef.meta("yi ~ ablat", self.bcg, variance="vi")

    @cached_property
    def nested(self):
        return ranef.meta("yi ~ 1 + (1 | alloc/author)", self.bcg, variance="vi")

    @cached_property
    def means(self):
        return self.oats.emmeans("Variety")


WRONG = {
    "impute a made column": (
        lambda w: ranef.impute(
            ranef.lmm("log(z) ~ x", w.table.assign(z=np.exp(w.table.y)), residual="cs(visit | id)"),
            w.table,
            arm="arm",
            reference="a",
        ),
        "is made of one: add it to the table as a column",
    ),
    "power of a fit with a family": (
        lambda w: ranef.power(w.linear, test="Days", family="poisson"),
        "power() of a fit takes no",
    ),
    "sampling weights as text": (
        lambda w: ranef.glmm(
            "resp ~ age + (1 | id)",
            ranef.data.load("ohio"),
            family="binomial",
            quadrature=5,
            sampling_weights={"id": ["a"] * 3},
        ),
        "] is a column or one number a row",
    ),
    "a strange argument of a search": (
        lambda w: ranef.subsets(
            "Reaction ~ Days + (1 | Subject)", w.sleep, focus="population", weigths="Days"
        ),
        "() takes no argument",
    ),
    "a missing column of counts": (
        lambda w: ranef.effect_sizes("RR", ranef.data.load("bcg"), ai="tpos"),
        "the column of its numbers",
    ),
    "knots that are the same": (
        lambda w: ranef.lmm("y ~ bs(x, Boundary.knots = c(1, 1)) + (1 | id)", w.table),
        "the boundary knots of",
    ),
    "a polynomial of few values": (
        lambda w: ranef.lmm("y ~ poly(visit, 5) + (1 | id)", w.table),
        "distinct values; there are",
    ),
    "names in c()": (
        lambda w: ranef.lmm("y ~ bs(x, knots = c(a = 1)) + (1 | id)", w.table),
        "c() takes no names",
    ),
    "groups as a formula": (
        lambda w: ranef.gee(
            "resp ~ age", ranef.data.load("ohio"), groups="id + age", family="binomial"
        ),
        "grouping factors; clusters are one, 'id', or two that are nested,",
    ),
    "kernel with other labels in a term": (
        lambda w: ranef.lmm(
            "y ~ x + kernel(1 | id, K)",
            w.table,
            kernels={
                "K": pd.DataFrame(
                    np.eye(8),
                    index=[f"p{k}" for k in range(8)],
                    columns=[f"q{k}" for k in range(8)],
                )
            },
        ),
        "has different row and column labels, such as",
    ),
    "a place of several columns": (
        lambda w: ranef.lmm("y ~ x", w.table, residual="ar1(poly(visit, 2) | id)"),
        "() takes one position, and",
    ),
    "one place alone": (
        lambda w: ranef.lmm("y ~ x", w.table, residual="us(two | id)"),
        ") has a single place",
    ),
    "a place that was not seen": (
        lambda w: w.visits.predict(w.table.assign(visit=9), history=w.table),
        "has a place that the fit has not seen",
    ),
    "power of two variables": (
        lambda w: ranef.lmm(
            "y ~ x", w.table.assign(z=np.exp(w.table.x)), dispersion="~ power(z, x)", random="none"
        ),
        "() takes one variable",
    ),
    "covariance with other labels": (
        lambda w: ranef.meta(
            "yi ~ 1",
            w.bcg,
            covariance=pd.DataFrame(
                np.eye(13) * 0.1,
                index=[f"s{k}" for k in range(13)],
                columns=[f"s{k}" for k in range(13)],
            ),
        ),
        "the labels of covariance are not those of the table's rows; give a plain",
    ),
    "a component that is not there": (
        lambda w: w.zeros.emmeans("mined", component="dispersion"),
        "the model has no component",
    ),
    "several parts on the link": (
        lambda w: w.zeros.emmeans("mined", component="response", type="link"),
        "component='response' is a mean of several parts; use type='response'",
    ),
    "unit of categories": (
        lambda w: w.wine.emmeans("temp", unit={"judge": "1"}),
        "unit= is for a mean with one linear predictor; for categories use",
    ),
    "profile of dependent effects": (
        lambda w: w.nested.confint("q-profile", parameters="variance"),
        "confint('q-profile') is of one variance between independent studies; this",
    ),
    "q-profile of the mean": (
        lambda w: w.meta.confint("q-profile"),
        ") is of the variance between studies: give parameters='variance'; the mean",
    ),
    "q-profile of a fixed model": (
        lambda w: ranef.meta("yi ~ 1", w.bcg, variance="vi", method="fe").confint(
            "q-profile", parameters="variance"
        ),
        "method='fe' has no variance between studies",
    ),
    "profile of moments": (
        lambda w: ranef.meta("yi ~ 1", w.bcg, variance="vi", method="dl").confint(
            "profile", parameters="variance"
        ),
        "maximises no likelihood that could be profiled; confint('q-profile') needs",
    ),
    "effects of dependent studies": (
        lambda w: w.nested.tidy("random"),
        "the true effects of studies are given for independent studies",
    ),
    "new study without a level": (
        lambda w: w.meta.predict({"any": [0]}, interval="new"),
        "interval='new' needs a conf_level, such as conf_level=0.95",
    ),
    "new study of a model by outcome": (
        lambda w: ranef.meta("yi ~ 1 + (ablat | author)", w.bcg, variance="vi").predict(
            {"ablat": [10.0]}, interval="new", conf_level=0.9
        ),
        "the variance between true effects differs between rows of this model, so",
    ),
    "test of a non-finite matrix": (
        lambda w: w.linear.test(np.array([[np.nan, 1.0]])),
        "and all must be finite numbers",
    ),
    "new weights below zero": (
        lambda w: ranef.lmm(
            "Reaction ~ Days + (1 | Subject)", w.sleep.assign(k=1.0), weights="k"
        ).predict(w.sleep.assign(k=-1.0), conf_level=0.9, interval="new"),
        "weights must be positive; column",
    ),
    "refit of an empty table": (
        lambda w: w.linear.refit(pd.DataFrame(index=range(180))),
        "the table of responses has no columns",
    ),
    "dict beside fits": (
        lambda w: ranef.anova({"a": w.linear}, w.linear),
        "takes one dict of fits, or fits one after the other",
    ),
    "residual without a place": (
        lambda w: ranef.lmm("y ~ x", w.table, residual="ar1(| id)"),
        "effects or times belong before the bar: (x | g), ar1(time | g) ar1(| id) ^",
    ),
    "residual with two bars": (
        lambda w: ranef.lmm("y ~ x", w.table, residual="ar1(visit || id)"),
        "() takes a single bar",
    ),
    "clusters and coefficients": (
        lambda w: ranef.gee(
            "y ~ x + arm", w.table[w.table.id.isin(["p0", "p7", "p3"])], groups="id"
        ).tidy(df="clusters"),
        "coefficients: nothing can be tested so; take fewer predictors, or",
    ),
    "exact with correlated residuals": (
        lambda w: ranef.variance_test(
            ranef.lmm("y ~ x + (1 | arm)", w.table, residual="cs(visit | id)"), method="exact"
        ),
        "the exact distribution is of models with independent residuals; here these",
    ),
    "levels of numbers": (
        lambda w: ranef.average(w.linear, "Days", reference=0),
        "reference= needs levels= of",
    ),
    "weights that vanish": (
        lambda w: ranef.average(w.linear, "Days", population=w.sleep.assign(k=0.0), weights="k"),
        "the weights of a group add up to zero",
    ),
    "by as a number": (
        lambda w: ranef.average(w.linear, "Days", by=3),
        "must be names of columns, not",
    ),
    "text for numbers": (
        lambda w: ranef.average(w.linear, "Days", levels=["a", "b"]),
        "holds numbers",
    ),
    "one value to compare": (
        lambda w: ranef.average(
            ranef.lmm("y ~ arm + (1 | id)", w.table),
            "arm",
            population=w.table[w.table.arm == "a"],
            levels=["a"],
        ),
        "), so there is nothing to compare; give levels=",
    ),
    "changes with gaps": (
        lambda w: ranef.average(w.linear, "Days", population=w.sleep.assign(Days=np.nan), change=1),
        "missing values that would be changed; leave these rows out",
    ),
    "a change of no column": (
        lambda w: ranef.average(
            w.linear, "Days", population=w.sleep.drop(columns="Days"), change=1
        ),
        "whose values would be changed; give levels=, or change=(low, high)",
    ),
    "a threshold beyond": (
        lambda w: ranef.rank(w.herds, "herd", scale="ratio", threshold=-1),
        "is no value on the scale",
    ),
    "unit is a predictor": (
        lambda w: w.oats.emmeans("Variety", unit={"Variety": "Victory"}),
        "which is also a predictor; choose its level with at=",
    ),
    "a value twice": (
        lambda w: w.oats.emmeans("Variety", at={"nitro": [0.2, 0.2]}),
        "is given a value twice",
    ),
    "nothing to test": (
        lambda w: w.oats.joint_tests(by=["nitro", "Variety"]),
        "there is nothing to test: no predictor varies",
    ),
    "alpha of a picture": (
        lambda w: w.means.plot(alpha=3),
        "alpha must lie between 0 and 1, not",
    ),
    "power beyond one": (
        lambda w: ranef.power(w.linear, test="Days", n=4, rng=1).smallest(power=2),
        "power must lie between 0 and 1, not",
    ),
    "average of categories": (
        lambda w: ranef.compare(
            w.wine,
            ranef.glmm(
                "rating ~ contact + (1 | judge)", ranef.data.load("wine"), family="cumulative"
            ),
            focus="population",
        ).predict(ranef.data.load("wine").head(2), conf_level=0.9),
        "averages over models of categories come without intervals: leave",
    ),
    "different families": (
        lambda w: ranef.compare(
            ranef.gee("resp ~ age", ranef.data.load("ohio"), groups="id", family="binomial"),
            ranef.gee("resp ~ age", ranef.data.load("ohio"), groups="id", family="poisson"),
            focus="population",
        ),
        "have different families, whose quasi-likelihoods have different constants:",
    ),
    "future without time": (
        lambda w: ranef.cross_validate(w.linear, by="future", time="Weeks"),
        ". Another column can be handed over as values",
    ),
    "trim with moderators": (
        lambda w: w.moderated.trim_and_fill(),
        "trim_and_fill() is of one mean effect: fit without moderators",
    ),
    "trim of two": (
        lambda w: ranef.meta("yi ~ 1", w.bcg.head(2), variance="vi").trim_and_fill(),
        "trim_and_fill() needs 3 studies or more; there are",
    ),
    "exact of many": (
        lambda w: ranef.meta("yi ~ 1", pd.concat([w.bcg] * 3), variance="vi").permutation_test(
            exact=True
        ),
        "flips of signs; give n= instead of exact=True",
    ),
    "permutation without an intercept": (
        lambda w: ranef.meta("yi ~ 0 + ablat", w.bcg, variance="vi").permutation_test(n=10),
        "permutation_test() is of a mean effect, or of moderators beside an",
    ),
    "cluster with gaps": (
        lambda w: ranef.robust(
            ranef.lmm(
                "y ~ x + (1 | id)", w.table.assign(c=np.where(w.table.visit == 2, None, w.table.id))
            ),
            cluster="c",
        ),
        "is neither a grouping factor nor a column that the formulas use",
    ),
    "fixed as a number": (
        lambda w: ranef.variance_test(w.linear, fixed=3),
        "fixed holds names of fixed-effects terms, such as fixed=['Days']",
    ),
    "prior with REML": (
        lambda w: ranef.glmm(
            "resp ~ age + (1 | id)",
            ranef.data.load("ohio"),
            family="binomial",
            reml=True,
            priors={"age": ranef.priors.Normal(0, 1)},
        ),
        "priors on coefficients and reml=True exclude each other: one maximises",
    ),
    "quadrature of relatives": (
        lambda w: ranef.glmm(
            "z ~ x + kernel(1 | id, K)",
            w.table.assign(z=(w.table.y > 0).astype(int)),
            family="binomial",
            quadrature=5,
            kernels={
                "K": pd.DataFrame(
                    np.eye(8),
                    index=[f"p{k}" for k in range(8)],
                    columns=[f"p{k}" for k in range(8)],
                )
            },
        ),
        "quadrature takes levels that are independent, and a kernel ties those of",
    ),
    "a classifier's answer": (
        lambda w: (
            __import__("ranef.sklearn")
            .sklearn.MixedModel("rating ~ temp + (1 | judge)", family="cumulative")
            .fit(ranef.data.load("wine"))
            .predict(ranef.data.load("wine"))
        ),
        "predict() of scikit-learn gives one number a row, and the response has",
    ),
    "dropout without a tilde": (
        lambda w: ranef.gee("y ~ x", w.table, groups="id", time="visit", dropout="x"),
        "is never missing: a row that was planned and not observed stands in the",
    ),
    "two answers without times": (
        lambda w: ranef.two_answers(
            "resp ~ age",
            ranef.data.load("ohio").assign(k=lambda d: np.where(d.age == 0, np.nan, 1.0)),
            groups="id",
            family="binomial",
            time="k",
        ),
        "repeat a time. A cluster has one row at a time: name another column as",
    ),
    "interaction with a reference": (
        lambda w: w.oats.contrasts("nitro * Variety", interaction="pairwise", ref="Victory"),
        "interaction= names the methods; leave method and ref out",
    ),
}


@pytest.fixture(scope="module")
def world():
    return World()


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", WRONG)
def test_the_message_says_what_is_wrong(world, name):
    call, said = WRONG[name]
    refused(call, world, said)
