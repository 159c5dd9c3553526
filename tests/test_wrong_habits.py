"""A hundred wrong inputs as people of other packages make them: each answer names what is meant."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import ranef
from ranef import gwas, metagenomics
from ranef import imaging as im
from ranef.cli import main
from ranef.errors import RanefError
from ranef.tables import Table

GROWTH = "Reaction ~ Days + (Days | Subject)"
SLEEP, CBPP = ranef.data.load("sleepstudy"), ranef.data.load("cbpp")
OHIO, BCG = ranef.data.load("ohio"), ranef.data.load("bcg")
OATS, WINE = ranef.data.load("Oats"), ranef.data.load("wine")
COUNT = "incidence ~ period + (1 | herd)"


class World:
    """Fits and tables that questions are asked of."""

    @cached_property
    def fit(self) -> Any:
        return ranef.lmm(GROWTH, SLEEP)

    @cached_property
    def oats(self) -> Any:
        return ranef.lmm("yield ~ nitro + Variety + (1 | Block)", OATS)

    @cached_property
    def means(self) -> Any:
        return self.oats.emmeans("Variety")

    @cached_property
    def effects(self) -> Any:
        return ranef.effect_sizes("RR", BCG, ai="tpos", bi="tneg", ci="cpos", di="cneg")

    @cached_property
    def meta(self) -> Any:
        return ranef.meta("yi ~ 1", self.effects, variance="vi")

    @cached_property
    def items(self) -> Any:
        rng = np.random.default_rng(3)
        table = pd.DataFrame(rng.normal(size=(200, 3)), columns=["a", "b", "c"])
        return table.assign(b=table.b + table.a, c=table.c + table.a, g=np.repeat(range(20), 10))

    @cached_property
    def sem(self) -> Any:
        return ranef.sem("f =~ a + b + c", self.items)

    @cached_property
    def diary(self) -> Any:
        rng = np.random.default_rng(4)
        person, prompt = np.repeat(range(10), 12), np.tile(range(12), 10)
        columns = {"id": person, "t": prompt, "x": rng.normal(size=120), "y": rng.normal(size=120)}
        return pd.DataFrame(columns)

    @cached_property
    def study(self) -> Any:
        return gwas.simulate(n=60, m=30, rng=1)

    @cached_property
    def clinic(self) -> Any:
        return metagenomics.simulate(batches=2, patients=3, controls=1, taxa=20, rng=1)


@pytest.fixture(scope="module")
def world() -> World:
    return World()


def lmm(formula: str, data: Any = SLEEP, **named: Any) -> Any:
    return ranef.lmm(formula, data, **named)


def count(formula: str = COUNT, **named: Any) -> Any:
    return ranef.glmm(formula, CBPP, **{"family": "poisson", **named})


VOXELS = np.ones((4, 5)) + np.arange(20.0).reshape(4, 5)

WRONG: dict[str, tuple[Callable[[World], Any], str]] = {
    # formulas
    "random = in a formula": (
        lambda w: lmm("Reaction ~ Days, random = ~ 1 | Subject"),
        "random= is no part of a formula: a random term is written in it, y ~ x + (1 | g)",
    ),
    "no effect": (lambda w: lmm("Reaction ~ Days + ( | Subject)"), "belong before the bar"),
    "no group": (lambda w: lmm("Reaction ~ Days + (1 | )"), "a grouping factor stands after the"),
    "plus first": (lambda w: lmm("Reaction ~ + (1 | Subject)"), "1 before a '+' that comes first"),
    "stata": (lambda w: lmm("Reaction ~ Days || Subject: Days"), "a random term in parentheses"),
    "cubic splines": (
        lambda w: lmm("Reaction ~ cs(Days, df=3) + (1 | Subject)"),
        "natural splines are ns(x, 3)",
    ),
    "ln": (lambda w: lmm("ln(Reaction) ~ Days + (1 | Subject)"), "did you mean 'log'?"),
    "poly": (lambda w: lmm("Reaction ~ poly(Days, 20) + (1 | Subject)"), "there are 10"),
    "cut": (lambda w: lmm("Reaction ~ cut(Days, 3) + (1 | Subject)"), "pandas.cut before"),
    "column of a table": (
        lambda w: lmm("S['Reaction'] ~ Days + (1 | Subject)"), "a column is named without its table"
    ),
    "quoted group": (lambda w: lmm("Reaction ~ (1 | 'Subject')"), "a column's name has no quotes"),
    "cbind of one": (
        lambda w: count("cbind(incidence) ~ 1 + (1 | herd)", family="binomial"), "takes two columns"
    ),
    "zero below a log": (
        lambda w: count("incidence ~ period + offset(log(incidence)) + (1 | herd)"),
        "log(incidence) is infinite in 22 rows (first in row 3)",
    ),
    "random term of a GEE": (
        lambda w: ranef.gee("resp ~ age + (1 | id)", OHIO, groups="id", family="binomial"),
        "a population-averaged model does not have",
    ),
    "random term of a scan": (
        lambda w: gwas.scan("trait ~ 1 + (1 | FID)", w.study.genotypes, w.study.phenotypes),
        "(1 | FID) is a random term, which a model without random effects does not have",
    ),
    # families and links
    "neg_binomial": (lambda w: count(family="neg_binomial"), "did you mean 'nbinom2'?"),
    "zinb": (lambda w: count(family="zinb"), "family='nbinom2' with zero='~ 1'"),
    "quasi": (lambda w: count(family="quasipoisson"), "ranef.gee, whose scale is free"),
    "link": (lambda w: count(link="logg"), "did you mean 'log'?"),
    "argument of a family": (
        lambda w: ranef.families.Poisson(linkk="log"), "Poisson() takes no argument 'linkk'; did",
    ),
    "argument of a prior": (
        lambda w: ranef.priors.Normal(mu=0, sigma=1), "Normal() takes no argument 'mu'",
    ),
    "three categories": (
        lambda w: ranef.glmm("rating ~ temp + (1 | judge)", WINE, family="binomial"),
        "rating has 5 categories in the rows used",
    ),
    "one and two": (
        lambda w: ranef.glmm("resp ~ 1 + (1 | id)", OHIO.assign(resp=OHIO.resp + 1),
                             family="binomial"),
        "326 rows are like this",
    ),
    # arguments
    "exposure": (lambda w: count(exposure="size"), "y ~ x + offset(log(size)), or is offset="),
    "offset": (lambda w: count(offset="log(size)"), "as in y ~ x + offset(log(size))"),
    "trials": (lambda w: count(trials="size"), "cbind(success, trials - success) ~ x"),
    "zi": (lambda w: count(zi="~1"), "did you mean 'zero'?"),
    "zero": (lambda w: count(zero=True), "a formula that begins with '~', such as '~ x'"),
    "contrasts": (lambda w: lmm(GROWTH, contrasts="sum"), "contrasts must be a dict such as"),
    "contrasts of a number": (
        lambda w: lmm(GROWTH, contrasts={"Days": "contr.sum"}),
        "which holds numbers: write factor(Days) in the formula",
    ),
    "contrasts of no column": (lambda w: lmm(GROWTH, contrasts={"Day": "sum"}), "mean 'Days'?"),
    "kernels": (
        lambda w: lmm(GROWTH, kernels={"K": np.eye(18)}), "kernel(1 | g, K) for levels with that"
    ),
    "kernels of glmm": (lambda w: count(kernels={"K": np.eye(15)}), "no term of the formula uses"),
    "kernel alone": (lambda w: lmm(GROWTH, kernels=np.eye(18)), "kernels must be a dict such as"),
    "missing": (lambda w: lmm(GROWTH, missing="na.omit"), "did you mean 'drop'?"),
    "re_formula": (lambda w: lmm(GROWTH, re_formula="~Days"), "random effects stand in the form"),
    "vc_formula": (lambda w: lmm(GROWTH, vc_formula={"a": "0"}), "random effects stand in the"),
    "groups": (lambda w: lmm(GROWTH, groups=SLEEP.Subject), "grouping factors stand in the form"),
    "weights": (lambda w: lmm(GROWTH, weights=-SLEEP.Days), "negative in 162 rows (first -1"),
    "a text for a number": (
        lambda w: count(quadrature="25"), "quadrature must be a whole number, not str ('25')",
    ),
    # tables
    "array": (lambda w: lmm(GROWTH, SLEEP.to_numpy()), "pandas.DataFrame(array, columns=[...])"),
    "records": (lambda w: lmm(GROWTH, SLEEP.to_dict("records")), "pandas.DataFrame(rows) makes"),
    "series": (lambda w: lmm(GROWTH, SLEEP.Reaction), "one column: the table that it was taken"),
    "grouped": (lambda w: lmm(GROWTH, SLEEP.groupby("Subject")), "a grouped table: give the table"),
    "several names": (lambda w: ["Days"] in Table.of(SLEEP), "a column is named by one text"),
    # residuals
    "un": (lambda w: lmm(GROWTH, residual="un(Days | Subject)"), "did you mean 'us'?"),
    "AR(1)": (lambda w: lmm(GROWTH, residual="AR(1)"), "did you mean 'ar1'?"),
    "arh1": (lambda w: lmm(GROWTH, residual="arh1(Days | Subject)"), "did you mean 'hetar1'?"),
    "ar1 of a clock": (lambda w: lmm(GROWTH, residual="ar1(Reaction | Subject)"), "use car1() or"),
    # GEE
    "column for groups": (
        lambda w: ranef.gee("resp ~ age", OHIO, groups=OHIO["id"]), "not its values: groups='id'"
    ),
    "sandwich": (
        lambda w: ranef.gee("resp ~ age", OHIO, groups="id", covariance="sandwich"),
        "did you mean 'robust'?",
    ),
    "naive": (
        lambda w: ranef.gee("resp ~ age", OHIO, groups="id", covariance="naive"), "mean 'model'?"
    ),
    "corstr": (lambda w: ranef.gee("resp ~ age", OHIO, groups="id", corstr="ar1"), "'correlation'"),
    # questions of a fit
    "alpha": (lambda w: w.fit.conf_int(alpha=5), "alpha must lie between 0 and 1, such as 0.05"),
    "parm": (lambda w: w.fit.confint(parm="Days"), "fit.confint().loc['x'] takes one"),
    "ran_vals": (lambda w: w.fit.tidy("ran_vals"), "did you mean 'random'?"),
    "re_form": (lambda w: w.fit.predict(SLEEP, re_form=None), "did you mean 'kind'?"),
    "prediction interval": (lambda w: w.fit.predict(SLEEP, interval="prediction"), "mean 'new'?"),
    "kind of prediction": (lambda w: w.fit.predict(SLEEP, kind="fixed"), "did you mean 'typical'?"),
    "decimals of a summary": (lambda w: w.fit.summary(digits=3), "ranef.table(fit, digits=2)"),
    "hypothesis": (lambda w: w.fit.test("Dayz = 0"), "did you mean 'Days'? A hypothesis may hold"),
    "call of pictures": (lambda w: w.fit.plot(), "each picture has a name: .plot."),
    "bonf": (lambda w: w.oats.contrasts("Variety", adjust="bonf"), "did you mean 'bonferroni'?"),
    "left": (lambda w: w.oats.contrasts("Variety", side="left"), "did you mean 'less'?"),
    "reference": (
        lambda w: w.oats.contrasts("Variety", reference="Victory"),
        "contrasts() takes no argument 'reference'; did you mean 'ref'?",
    ),
    "argument of an answer": (lambda w: w.means.contrasts(reff="a"), "did you mean 'ref'?"),
    "too many of an answer": (lambda w: w.means.tidy(3), "tidy() takes nothing by position"),
    "data of a fit": (
        lambda w: ranef.within_between(w.fit, by="Days"), "data=, by=, terms= and family= belong"
    ),
    "folds": (lambda w: ranef.cross_validate(w.fit, cv=5), "did you mean 'folds'?"),
    "odds ratios": (lambda w: ranef.average(w.fit, "Days", compare="OR"), "did you mean 'odds'?"),
    # studies, imputations, effects
    "number of imputations": (lambda w: ranef.impute(w.fit, SLEEP, m=20), "did you mean 'n'?"),
    "arm of numbers": (
        lambda w: ranef.impute(w.fit, SLEEP, method="j2r", arm="Days", reference="placebo"),
        "'Days' has no level 'placebo'; it has 0, 1, 2, 3, 4, 5 and 4 more",
    ),
    "table before measure": (
        lambda w: ranef.effect_sizes("odds ratio", BCG, ai="tpos"), "did you mean 'OR'?"
    ),
    "knha": (
        lambda w: ranef.meta("yi ~ 1", w.effects, variance="vi", test="knha"), "df='knapp-hartung'"
    ),
    "variance of zero": (
        lambda w: ranef.meta("yi ~ 1", w.effects.assign(vi=0.0), variance="vi"), "13 rows (first 0"
    ),
    "power": (lambda w: ranef.power(w.fit, test="Dayz", n=9), "did you mean 'Days'? It has"),
    # within and between
    "several predictors": (
        lambda w: ranef.two_stories(w.diary, "y", ["x", "t"], by="id"), "names one column, not ['x'"
    ),
    "constant": (
        lambda w: ranef.two_stories(w.diary.assign(x=3.0), "y", "x", by="id"),
        "x is 3 in every row: it has no slope, neither within id nor between",
    ),
    "inertia": (
        lambda w: ranef.dynamic("y ~ 1 + (1 | id)", w.diary, residual="ar1(t | id)", inertia="1"),
        "inertia is a formula such as '~ 1 + (1 | p | person)'",
    ),
    "lag": (
        lambda w: ranef.dynamic("y ~ 1 + (1 | id)", w.diary, lag=1), "residual='ar1(prompt | pers"
    ),
    "subject": (lambda w: ranef.diary(w.diary, "y", "x", subject="id", time="t"), "'person'?"),
    # structural equations
    "tilde first": (lambda w: ranef.sem("f ~= a + b", w.items), "(a latent variable is defined by"),
    "equals": (lambda w: ranef.sem("f = a + b", w.items), "a latent variable is 'f =~ a + b + c'"),
    "sample.cov": (
        lambda w: ranef.sem("f =~ a + b + c", w.items, sample_cov=1), "fitted to rows, not to their"
    ),
    "cfi": (lambda w: w.sem.fit_measures("cfi"), "fit_measures() takes nothing by position"),
    "standardized": (lambda w: w.sem.tidy(standardized=True), "takes no argument 'standardized'"),
    # genomes, metagenomes, images
    "maf": (
        lambda w: gwas.scan("trait ~ 1", w.study.genotypes, w.study.phenotypes, maf=0.05),
        "did you mean 'min_maf'?",
    ),
    "van raden": (lambda w: gwas.grm(w.study.genotypes, kind="vanraden"), "mean 'centred'?"),
    "k of components": (lambda w: gwas.pca(w.study.genotypes, n_pcs=3), "did you mean 'n'?"),
    "traits": (
        lambda w: gwas.scan("t ~ 1", w.study.genotypes, w.study.phenotypes, traits=["trait"]),
        "with traits= the formula has no response and begins with '~'",
    ),
    "skat": (
        lambda w: gwas.gene_sets("trait ~ 1", w.study.genotypes, sets={"a": ["v"]}, method="SKAT"),
        "the burden test, SKAT and SKAT-O are all in its table",
    ),
    "column of controls": (
        lambda w: metagenomics.screen(w.clinic.counts, w.clinic.samples, controls="neg"),
        "the sheet has no column 'neg'; it has sample, is_control",
    ),
    "background": (
        lambda w: metagenomics.screen(w.clinic.counts, w.clinic.samples, background="bg.zip"),
        "ranef.metagenomics.load(path) returned, not 'bg.zip'",
    ),
    "variances below zero": (
        lambda w: im.mixed_effects(VOXELS, -VOXELS, np.ones((4, 1))), "no value of V is positive"
    ),
    "contrast of voxels": (
        lambda w: im.mixed_effects(VOXELS, VOXELS, np.ones((4, 1)), contrast=[1]),
        "contrasts are asked of what it returns",
    ),
    "images": (
        lambda w: im.LongitudinalModel("~ age + (1 | subject)").fit(
            pd.DataFrame({"subject": ["a", "a"], "age": [1.0, 2.0]})
        ),
        "the formula has no response, which names the column of the images",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_in_python(world: World, name: str) -> None:
    call, said = WRONG[name]
    with pytest.raises(RanefError) as caught:
        call(world)
    assert said in str(caught.value)


NAMES: dict[str, tuple[Callable[[World], Any], str]] = {
    "fixefs": (lambda w: w.fit.fixefs, "fixed effects are fit.coef"),
    "ranefs": (lambda w: w.fit.ranefs, "conditional modes are fit.tidy('random')"),
    "fit()": (lambda w: w.fit.fit(), "it is fitted already"),
    "tables of statsmodels": (
        lambda w: w.fit.summary().tables,
        "its numbers are tables of the fit",
    ),
    "pairs": (lambda w: w.means.pairs(), "comparisons of marginal means are .contrasts()"),
    "p values": (lambda w: w.means.pvalues, "p values are the column 'p_value' of .tidy()"),
    "csv": (lambda w: w.means.to_csv("x.csv"), ".tidy().to_csv(path)"),
    "slip": (lambda w: w.means.tidi(), "did you mean 'tidy'?"),
    "forest": (lambda w: w.meta.forest(), "fit.plot.forest()"),
    "caterpillar": (lambda w: w.fit.plot.caterpillar(), "drawn by fit.plot.random()"),
    "cfi": (lambda w: w.sem.cfi, "fit.fit_measures()"),
    "model": (lambda w: ranef.model, "a model is fitted by ranef.lmm(formula, data)"),
    "manhattan": (lambda w: gwas.manhattan, "scan.plot.manhattan()"),
    "negative binomial": (lambda w: ranef.families.NegativeBinomial, "mean 'NegativeBinomial2'?"),
    "family": (lambda w: ranef.families.Poison, "did you mean 'Poisson'?"),
    "data set": (lambda w: ranef.data.sleepstudy, "did you mean load('sleepstudy')?"),
    "no data set": (lambda w: ranef.data.penguins, "ranef.data has no name 'penguins'"),
}


@pytest.mark.parametrize("name", NAMES)
def test_names(world: World, name: str) -> None:
    call, said = NAMES[name]
    with pytest.raises(AttributeError) as caught:
        call(world)
    assert said in str(caught.value)


SHELL = {
    "saved fit for a table": (
        ["fit", GROWTH, "fit.ranef"],
        3,
        "is a fit that ranef has saved, not a table",
    ),
    "table for a saved fit": (["anova", "sleep.csv"], 3, "ranef fit --save PATH write one"),
    "task": (["gwas", "scna"], 2, "did you mean 'scan'? There are"),
    "task of plink": (["gwas", "assoc"], 2, "did you mean 'scan'?"),
    "method": (["fit", GROWTH, "sleep.csv", "--df", "KR"], 2, "did you mean 'kenward-roger'?"),
    "one dash": (["fit", GROWTH, "sleep.csv", "-f", "poisson"], 2, "options have two dashes"),
}


@pytest.mark.parametrize("name", SHELL)
def test_on_the_command_line(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str], name: str,
) -> None:  # fmt: skip
    words, code, said = SHELL[name]
    monkeypatch.chdir(tmp_path)
    SLEEP.to_csv("sleep.csv", index=False)
    world.fit.save("fit.ranef")
    try:
        found = main(words)
    except SystemExit as end:
        found = int(str(end.code))
    shown = " ".join(capsys.readouterr().err.split())
    assert said in shown
    assert found == code


def test_an_estimator_answers_names_of_arguments() -> None:
    sklearn = pytest.importorskip("ranef.sklearn")
    X, y = SLEEP[["Days", "Subject"]], SLEEP["Reaction"]
    with pytest.raises(RanefError, match="grouping factors stand in the formula"):
        sklearn.MixedModel(GROWTH, groups="Subject")
    with pytest.raises(RanefError, match="grouping factors stand in the formula"):
        sklearn.MixedModel(GROWTH).fit(X, y, groups=X.Subject)
    with pytest.raises(RanefError, match="did you mean 'reml'"):
        sklearn.MixedModel(GROWTH, options={"reeml": False}).fit(X, y)


def test_fits_to_pool_may_have_names(world: World) -> None:
    two = {"a": world.fit, "b": world.fit}
    np.testing.assert_allclose(ranef.pool(two).coef, ranef.pool(list(two.values())).coef)


def test_a_search_leaves_the_kernels_of_terms_that_go() -> None:
    labels = sorted(SLEEP.Subject.unique())
    K = pd.DataFrame(np.eye(18), labels, labels)
    formula = "Reaction ~ Days + (1 | Subject) + kernel(0 + Days | Subject, K)"
    found = ranef.maximal(formula, SLEEP, kernels={"K": K}, progress=False)
    assert "Days" in str(found)
