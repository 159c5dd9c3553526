"""Words of other packages, slips of formulas and tables of other kinds: each is answered."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import ranef
from ranef.errors import FileError, RanefError

SLEEP, CBPP = ranef.data.load("sleepstudy"), ranef.data.load("cbpp")
OHIO, BCG = ranef.data.load("ohio"), ranef.data.load("bcg")
GROWTH = "Reaction ~ Days + (Days | Subject)"


class World:
    """Fits that questions are asked of."""

    @cached_property
    def linear(self):
        return ranef.lmm(GROWTH, SLEEP)

    @cached_property
    def herds(self):
        return ranef.glmm(
            "cbind(incidence, size - incidence) ~ period + (1 | herd)", CBPP, family="binomial"
        )

    @cached_property
    def oats(self):
        return ranef.lmm("yield ~ nitro + Variety + (1 | Block/Variety)", ranef.data.load("Oats"))


@pytest.fixture(scope="module")
def world():
    return World()


WRONG = {
    "REML=": (lambda w: ranef.lmm(GROWTH, SLEEP, REML=False), "did you mean 'reml'?"),
    "control=": (
        lambda w: ranef.lmm(GROWTH, SLEEP, control="bobyqa"),
        "there are no settings of the search to choose",
    ),
    "na.action": (
        lambda w: ranef.lmm(GROWTH, SLEEP, na_action="na.omit"),
        "did you mean 'missing'?",
    ),
    "subset=": (
        lambda w: ranef.lmm(GROWTH, SLEEP, subset="Days>2"),
        "choose the rows of the table before",
    ),
    "nAGQ": (
        lambda w: ranef.glmm("incidence/size ~ period+(1|herd)", CBPP, family="binomial", nAGQ=9),
        "did you mean 'quadrature'?",
    ),
    "dispformula": (
        lambda w: ranef.glmm(
            "incidence ~ period+(1|herd)", CBPP, family="nbinom2", dispformula="~1"
        ),
        "did you mean 'dispersion'?",
    ),
    "correlation=": (
        lambda w: ranef.lmm("Reaction ~ Days", SLEEP, correlation="corAR1"),
        "did you mean 'residual'?",
    ),
    "varIdent": (
        lambda w: ranef.lmm(
            "Reaction ~ Days + (1|Subject)", SLEEP, weights="varIdent(form=~1|Subject)"
        ),
        "the table has 'Reaction', 'Days', 'Subject'",
    ),
    "re_formula sm": (
        lambda w: ranef.lmm("Reaction ~ Days", SLEEP, re_formula="~Days", groups="Subject"),
        "random effects stand in the formula: y ~ x + (x | g); of",
    ),
    "vc_formula": (
        lambda w: ranef.lmm("Reaction ~ Days", SLEEP, vc_formula={"a": "0"}),
        "random effects stand in the formula: y ~ x + (x | g)",
    ),
    "no random": (
        lambda w: ranef.lmm("Reaction ~ Days", SLEEP),
        "a mixed model needs one, such as (1 | g). random='none' (--random",
    ),
    "random=~1|S": (
        lambda w: ranef.lmm("Reaction ~ Days", SLEEP, random="~1|Subject"),
        "random='none' fits a model without them",
    ),
    "nlme lme": (
        lambda w: ranef.lme(GROWTH, SLEEP),
        "nlme's lme is ranef.lmm, with the random effects in the formula: y",
    ),
    "mixedlm": (
        lambda w: ranef.mixedlm(GROWTH, SLEEP),
        "statsmodels' mixedlm is ranef.lmm, with the groups in the formula:",
    ),
    "Lmer": (lambda w: ranef.Lmer(GROWTH, SLEEP), "lme4's lmer is ranef.lmm"),
    "PROC MIXED": (lambda w: ranef.proc_mixed(GROWTH, SLEEP), "PROC MIXED of SAS is ranef.lmm"),
    "lsmeans": (lambda w: ranef.lsmeans(w.linear, "Days"), "least-squares means are ranef.emmeans"),
    "fit.lsmeans": (
        lambda w: w.linear.lsmeans("Days"),
        "least-squares means are fit.emmeans('treatment')",
    ),
    "ranef": (lambda w: w.linear.ranef(), "conditional modes are fit.tidy('random')"),
    "fixef": (
        lambda w: w.linear.fixef(),
        "fixed effects are fit.coef, or fit.tidy() with their errors",
    ),
    "VarCorr": (lambda w: w.linear.VarCorr(), "variance components are fit.tidy('variance')"),
    "fe_params": (lambda w: w.linear.fe_params, "fixed effects are fit.coef"),
    "cov_re": (lambda w: w.linear.cov_re, "variance components are fit.tidy('variance')"),
    "random_effects": (
        lambda w: w.linear.random_effects,
        "conditional modes are fit.tidy('random')",
    ),
    "fit.fit": (
        lambda w: w.linear.fit(),
        "it is fitted already; fit.refit(y) fits another response",
    ),
    "pvalue typo": (lambda w: w.linear.pvalue, "did you mean 'pvalues'?"),
    "emmeans adjust": (
        lambda w: w.oats.emmeans("Variety", adjust="tukeyy"),
        "did you mean 'tukey'? Use one of 'none', 'tukey', 'dunnett',",
    ),
    "ddf": (lambda w: w.linear.tidy(ddf="Kenward-Roger"), "did you mean 'df'?"),
    "df KR": (
        lambda w: w.linear.tidy(df="KR"),
        "did you mean 'kenward-roger'? Use one of 'satterthwaite',",
    ),
    "df Kenward-Roger": (
        lambda w: w.linear.tidy(df="Kenward-Roger"),
        "did you mean 'kenward-roger'? Use one of 'satterthwaite',",
    ),
    "df between-within": (
        lambda w: w.linear.tidy(df="bw"),
        "did you mean 'containment'? Use one of 'satterthwaite',",
    ),
    "alpha": (lambda w: w.linear.confint(alpha=0.1), "did you mean 'conf_level'?"),
    "level": (lambda w: w.linear.confint(level=0.9), "did you mean 'conf_level'?"),
    "conf 95": (lambda w: w.linear.confint(conf_level=95), "for 95 percent write 0.95"),
    "confint Wald": (
        lambda w: w.linear.confint("Wald"),
        "did you mean 'wald'? Use one of 'wald', 'profile', 'bootstrap'",
    ),
    "confint boot": (
        lambda w: w.linear.confint("boot"),
        "did you mean 'bootstrap'? Use one of 'wald', 'profile', 'bootstrap'",
    ),
    "test chisq": (lambda w: w.oats.anova(test="Chisq"), "use one of 'wald', 'score'"),
    "family nb": (
        lambda w: ranef.glmm("incidence ~ period+(1|herd)", CBPP, family="nb"),
        "did you mean 'nbinom2'?",
    ),
    "family quasipoisson": (
        lambda w: ranef.glmm("incidence ~ period+(1|herd)", CBPP, family="quasipoisson"),
        "a quasi-likelihood is no likelihood; use 'nbinom1', whose variance",
    ),
    "family normal": (
        lambda w: ranef.glmm("incidence ~ period+(1|herd)", CBPP, family="normal"),
        "did you mean 'gaussian'?",
    ),
    "family zinb": (
        lambda w: ranef.glmm("incidence ~ period+(1|herd)", CBPP, family="zinb"),
        "a zero-inflated model is family='nbinom2' with zero='~ 1'",
    ),
    "family hurdle": (
        lambda w: ranef.glmm("incidence ~ period+(1|herd)", CBPP, family="hurdle"),
        "a hurdle model of counts is family='truncated_poisson' with zero='~",
    ),
    "family logit": (
        lambda w: ranef.glmm("incidence ~ period+(1|herd)", CBPP, family="logit"),
        "did you mean 'binomial'?",
    ),
    "family lognormal": (
        lambda w: ranef.glmm("incidence ~ period+(1|herd)", CBPP, family="log-normal"),
        "did you mean 'lognormal'?",
    ),
    "family class": (
        lambda w: ranef.glmm("resp ~ age+(1|id)", OHIO, family=ranef.families.Binomial),
        "call it: Binomial()",
    ),
    "link": (
        lambda w: ranef.glmm("resp ~ age+(1|id)", OHIO, family="binomial", link="logistic"),
        "did you mean 'logit'? It takes logit, probit, cloglog, cauchit,",
    ),
    "poisson neg": (
        lambda w: ranef.glmm("y ~ age+(1|id)", OHIO.assign(y=-1), family="poisson"),
        "y is -1 in row 0; 2,148 rows are like this",
    ),
    "binomial 2": (
        lambda w: ranef.glmm("y ~ age+(1|id)", OHIO.assign(y=2 * OHIO.resp), family="binomial"),
        "y is 2 in row 951; 326 rows are like this; counts are written",
    ),
    "gee corstr": (
        lambda w: ranef.gee(
            "resp ~ age", OHIO, groups="id", family="binomial", corstr="exchangeable"
        ),
        "did you mean 'correlation'?",
    ),
    "gee corr ar1": (
        lambda w: ranef.gee("resp ~ age", OHIO, groups="id", family="binomial", correlation="AR-1"),
        "did you mean 'ar1'? There are independence, exchangeable, ar1,",
    ),
    "gee id": (
        lambda w: ranef.gee("resp ~ age", OHIO, id="id", family="binomial"),
        "did you mean 'groups'?",
    ),
    "gee cov_struct": (
        lambda w: ranef.gee("resp ~ age", OHIO, groups="id", cov_struct="ind"),
        "did you mean 'correlation'?",
    ),
    "meta rma": (lambda w: ranef.rma("yi~1", BCG), "metafor's rma is ranef.meta"),
    "meta sei": (
        lambda w: ranef.meta("yi ~ 1", BCG.assign(yi=1.0, sei=1.0), sei="sei"),
        "did you mean 'std_error'?",
    ),
    "meta vi arr short": (
        lambda w: ranef.meta("yi ~ 1", BCG.assign(yi=1.0), variance=[0.1, 0.2]),
        "variance has 2 values for 13 rows",
    ),
    "meta no variance": (lambda w: ranef.meta("yi ~ 1", BCG.assign(yi=1.0)), "none is given"),
    "meta method": (
        lambda w: ranef.meta(
            "yi ~ 1", BCG.assign(yi=1.0, vi=0.1), variance="vi", method="DerSimonian-Laird"
        ),
        "method='DerSimonian-Laird' is called 'dl' here",
    ),
    "formula smart quotes": (
        lambda w: ranef.lmm("Reaction ~ Days + (1 | “Subject”)", SLEEP),
        "names stand without quotes, those with blanks in backticks: `my",
    ),
    "formula ==": (
        lambda w: ranef.lmm("Reaction ~ Days == 3 + (1|Subject)", SLEEP),
        "'==' belongs inside I(): I(Days == 3) Reaction ~ Days == 3 +",
    ),
    "formula =": (
        lambda w: ranef.lmm("Reaction = Days + (1|Subject)", SLEEP),
        "write ~ between the response and the predictors Reaction = Days +",
    ),
    "formula <-": (
        lambda w: ranef.lmm("Reaction <- Days + (1|Subject)", SLEEP),
        "write response ~ predictors",
    ),
    "formula df$": (
        lambda w: ranef.lmm("s$Reaction ~ s$Days + (1|Subject)", SLEEP),
        "a column is named without its table, as y ~ x; a name with such",
    ),
    "formula df[]": (
        lambda w: ranef.lmm("SLEEP['Reaction'] ~ Days + (1|Subject)", SLEEP),
        "a column is named without its table, as y ~ x; a name with such",
    ),
    "formula trailing +": (
        lambda w: ranef.lmm("Reaction ~ Days + (1|Subject) +", SLEEP),
        "the formula ends too early Reaction ~ Days + (1|Subject) + ^",
    ),
    "formula no rhs": (
        lambda w: ranef.lmm("Reaction ~", SLEEP),
        "write 1 for an intercept alone Reaction ~ ^",
    ),
    "formula unclosed": (
        lambda w: ranef.lmm("Reaction ~ Days + (1|Subject", SLEEP),
        "a ')' is missing Reaction ~ Days + (1|Subject ^",
    ),
    "formula bar no paren": (
        lambda w: ranef.lmm("Reaction ~ Days + 1|Subject", SLEEP),
        "put a random term in parentheses: (1 | g) Reaction ~ Days +",
    ),
    "formula two tilde": (
        lambda w: ranef.lmm("Reaction ~ Days ~ (1|Subject)", SLEEP),
        "a formula has one '~' Reaction ~ Days ~ (1|Subject) ^",
    ),
    "formula comma": (
        lambda w: ranef.lmm("Reaction ~ Days, (1|Subject)", SLEEP),
        "effects and their groups are parted by a bar: (x | g) Reaction ~",
    ),
    "group const": (
        lambda w: ranef.lmm("Reaction ~ Days + (1|g)", SLEEP.assign(g=1)),
        "the variance of (1 | g) needs two or more: leave the term out",
    ),
    "group unique": (
        lambda w: ranef.lmm("Reaction ~ Days + (1|g)", SLEEP.assign(g=range(180))),
        "group by a coarser factor; undetermined='keep' fits it all the same",
    ),
    "y const": (
        lambda w: ranef.lmm("y ~ Days + (1|Subject)", SLEEP.assign(y=1.0)),
        "the fixed effects reproduce the response y exactly: nothing varies",
    ),
    "y inf": (
        lambda w: ranef.lmm("y ~ Days + (1|Subject)", SLEEP.assign(y=np.inf)),
        "mark such values as missing or leave the rows out",
    ),
    "x euro": (
        lambda w: ranef.lmm(
            "Reaction ~ x + (1|Subject)", SLEEP.assign(x=["€ 1.200,50"] * 90 + ["€ 800,00"] * 90)
        ),
        "convert it, without the sign of the currency, or write factor(x)",
    ),
    "x comma": (
        lambda w: ranef.lmm(
            "x ~ Days + (1|Subject)",
            SLEEP.assign(x=SLEEP.Reaction.map(lambda v: str(v).replace(".", ","))),
        ),
        "the first is '249,56' in row 0, a decimal comma. Convert the column",
    ),
    "y lt": (
        lambda w: ranef.lmm(
            "x ~ Days + (1|Subject)",
            SLEEP.assign(x=["<0.5", *SLEEP.Reaction.astype(str).tolist()[1:]]),
        ),
        "the first is '<0.5' in row 0, a number with a sign of comparison. Convert the column",
    ),
    "table path": (
        lambda w: ranef.lmm(GROWTH, "sleepstudy.csv"),
        "it may be a pandas, polars or pyarrow table, or a dict of arrays",
    ),
    "table name": (
        lambda w: ranef.lmm(GROWTH, "sleepstudy"),
        "it may be a pandas, polars or pyarrow table, or a dict of arrays",
    ),
    "table none": (
        lambda w: ranef.lmm(GROWTH, None),
        "give a pandas, polars or pyarrow table, or a dict of arrays",
    ),
    "table swapped": (lambda w: ranef.lmm(SLEEP, GROWTH), "the order is formula, then data"),
    "table array": (
        lambda w: ranef.lmm(GROWTH, SLEEP.to_numpy()),
        "give a pandas, polars or pyarrow table, or a dict of arrays",
    ),
    "table groupby": (
        lambda w: ranef.lmm(GROWTH, SLEEP.groupby("Subject")),
        "give a pandas, polars or pyarrow table, or a dict of arrays",
    ),
    "index not column": (
        lambda w: ranef.lmm(GROWTH, SLEEP.set_index("Subject")),
        "'Subject' is the index of the table: table.reset_index() makes it a",
    ),
    "multiindex": (
        lambda w: ranef.lmm(GROWTH, SLEEP.set_index(["Subject", "Days"])),
        "'Days' is the index of the table: table.reset_index() makes it a",
    ),
    "multi columns": (
        lambda w: ranef.lmm(GROWTH, pd.concat({"a": SLEEP}, axis=1)),
        "flatten them to plain names",
    ),
    "dup columns": (
        lambda w: ranef.lmm(GROWTH, pd.concat([SLEEP, SLEEP[["Days"]]], axis=1)),
        "rename them",
    ),
    "empty": (lambda w: ranef.lmm(GROWTH, SLEEP.head(0)), "the table has no rows"),
    "weights len": (
        lambda w: ranef.lmm(GROWTH, SLEEP, weights=[1, 2, 3]),
        "weights has 3 values for 180 rows",
    ),
    "weights neg": (
        lambda w: ranef.lmm(GROWTH, SLEEP, weights=-np.ones(180)),
        "a weight is positive, or zero to leave the row out",
    ),
    "offset col": (
        lambda w: ranef.lmm(GROWTH, SLEEP, offset="nope"),
        "the table has 'Reaction', 'Days', 'Subject'",
    ),
    "predict missing col": (
        lambda w: w.linear.predict(SLEEP.drop(columns="Days")),
        "the table has 'Reaction', 'Subject'",
    ),
    "predict re.form": (lambda w: w.linear.predict(SLEEP, re_form=None), "did you mean 'kind'?"),
    "predict newdata=": (lambda w: w.linear.predict(newdata=SLEEP), "did you mean 'new'?"),
    "predict type": (lambda w: w.herds.predict(type="prob"), "use type='response'"),
    "plot effects": (
        lambda w: w.linear.plot.predictons("Days"),
        "did you mean 'predictions'? (autocorrelation, fixed, funnel,",
    ),
    "two_stories col": (
        lambda w: ranef.two_stories(SLEEP, "Reaction", "Dayz", by="Subject"),
        "did you mean 'Days'?",
    ),
    "diary group": (
        lambda w: ranef.diary(SLEEP, "Reaction", "Days", group="Subject", time="Days"),
        "it takes data, outcome, predictors, person, time, day, prompt,",
    ),
    "sem latent typo": (
        lambda w: ranef.sem(
            "f =~ y1 + y22",
            pd.DataFrame(np.eye(50, 3), columns=["y1", "y2", "y3"]),
        ),
        "did you mean 'y2'? A latent variable is defined by =~",
    ),
    "sem estimator": (
        lambda w: ranef.sem(
            "f =~ y1 + y2 + y3",
            pd.DataFrame(np.eye(50, 3), columns=["y1", "y2", "y3"]),
            estimator="WLSMV",
        ),
        "use one of 'ML', 'MLR', 'MLM'",
    ),
    "power effect": (
        lambda w: ranef.power(w.linear, effect={"Days": 5}),
        "power() needs test as well: power(model, test=..., ...)",
    ),
    "power nsim": (lambda w: ranef.power(w.linear, test="Days", nsim=100), "did you mean 'n'?"),
    "simulate nsim": (lambda w: w.linear.simulate(nsim=3), "did you mean 'n'?"),
    "bootstrap B": (lambda w: w.linear.bootstrap(B=3), "did you mean 'n'?"),
    "bootstrap float": (
        lambda w: w.linear.bootstrap(1000.0),
        "n must be a whole number, not float (1000.0)",
    ),
    "rng text": (
        lambda w: w.linear.bootstrap(10, rng="a"),
        "rng must be a whole number or a numpy.random.Generator, not str",
    ),
    "seed": (lambda w: w.linear.bootstrap(10, seed=1), "did you mean 'rng'?"),
    "emmeans typo": (
        lambda w: w.oats.emmeans("Varety"),
        "did you mean 'Variety'? Its predictors are 'nitro', 'Variety'",
    ),
    "emmeans at level": (
        lambda w: w.oats.emmeans("Variety", at={"Variety": ["Gold"]}),
        "did you mean 'Golden Rain'? Its levels are 'Golden Rain', 'Marvellous', 'Victory'",
    ),
    "emtrends": (
        lambda w: w.oats.emtrends("Variety"),
        "emtrends() needs var as well: emtrends(fit, specs, var, ...)",
    ),
    "rank typo": (lambda w: w.herds.rank("hrd"), "did you mean 'herd'? It has 'herd'"),
    "anova two forms": (
        lambda w: ranef.anova(w.linear, "x"),
        "anova(), fit 2, takes a fit of ranef.lmm or ranef.glmm, or of",
    ),
    "icc": (
        lambda w: ranef.icc(SLEEP),
        "icc() takes a fit of ranef.lmm or ranef.glmm, or of another",
    ),
    "priors": (
        lambda w: ranef.lmm(GROWTH, SLEEP, priors={"sd": "gamma"}),
        "a standard deviation takes one of ranef.priors: HalfNormal, HalfT,",
    ),
    "kernels": (
        lambda w: ranef.lmm(
            "Reaction ~ Days + kernel(1|Subject,K)", SLEEP, kernels={"K": np.eye(18)}
        ),
        "give a table whose row and column names are levels, or a pair",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_it_is_answered(name, world):
    call, said = WRONG[name]
    with pytest.raises((RanefError, AttributeError)) as caught:
        call(world)
    assert said in " ".join(str(caught.value).split())


@pytest.mark.parametrize("ending", ["pdf", "docx", "png", "txt"])
def test_a_report_is_a_page(world, tmp_path: Path, ending: str):
    with pytest.raises(FileError, match=r"a report is a page of HTML.* call it 'r.html'"):
        world.linear.report(tmp_path / f"r.{ending}")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("fitt", "y ~ x + (1 | g)", "t.csv"), "no command 'fitt'; did you mean 'fit'? There are"),
        (
            ("fit", GROWTH, "sleepstudy", "--report", "r.pdf"),
            "a report is HTML, and its name ends in .html",
        ),
        (("fit", GROWTH, "sleepstudy", "--REML"), "did you mean '--reml'?"),
        (("fit", GROWTH, "sleepstudy", "--ddf", "KR"), "did you mean '--df'?"),
        (("fit", GROWTH, "sleepstudy", "--zi", "~1"), "did you mean '--zero'?"),
        (("fit", GROWTH, "sleepstudy", "--table", "t.xls"), "must end in one of .docx"),
        (("fit", GROWTH, "sleepstudy", "--conf-level", "95"), "did you mean 0.95?"),
        (("fit", GROWTH, "sleepstud"), "did you mean 'sleepstudy'?"),
        (
            ("gee", "resp ~ age", "ohio", "--groups", "id", "--corstr", "ar1"),
            "did you mean '--correlation'?",
        ),
        (("rank", "y ~ x + (1 | g)", "t.csv", "--of", "g"), "did you mean '--by'?"),
        (("--verson",), "did you mean '--version'?"),
        (("help", "fit"), "help is an option: ranef fit --help"),
        (("power",), "power is asked in Python: ranef.power(formula, design, test=...)"),
        (("means", "nofit.ranef", "--of", "Days"), "give the file that ranef fit --save wrote"),
    ],
)
def test_a_command_is_answered(arguments, said, capsys):
    from ranef.cli.main import main

    assert main(list(arguments)) != 0
    assert said in " ".join(capsys.readouterr().err.split())


def test_a_quotation_mark_that_is_not_closed_is_placed(tmp_path: Path, capsys):
    from ranef.cli.main import main

    table = tmp_path / "t.csv"
    table.write_text('id,x,y\n1,"2,3\n1,2.5,4\n', "utf-8")
    assert main(["fit", "y ~ x + (1 | id)", str(table)]) != 0
    assert "a quotation mark that opens in line 2 is not closed" in capsys.readouterr().err


def test_a_picture_that_there_is_not(world):
    with pytest.raises(
        AttributeError, match=r"no picture 'predictons'; did you mean 'predictions'"
    ):
        world.linear.plot.predictons("Days")
    assert not hasattr(world.linear.plot, "_ipython_display_")
