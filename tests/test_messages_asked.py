"""Fits, questions and commands that cannot be answered as they were asked, and what is said."""

from __future__ import annotations

import io
import sys
import zipfile
from functools import cached_property

import numpy as np
import pandas as pd
import pytest
from refusals import refused

import ranef
from ranef import cli
from ranef.formula.parser import parse_formula as parse
from ranef.solve.resources import available_cores

PEOPLE = [f"p{k}" for k in range(8)]


class World:
    """Small fits, each made where a case asks for it."""

    @cached_property
    def table(self):
        rng = np.random.default_rng(1)
        x = rng.normal(size=24)
        return pd.DataFrame(
            {
                "id": np.repeat(PEOPLE, 3),
                "visit": np.tile([1, 2, 3], 8),
                "arm": np.repeat(["a", "b"], 12),
                "x": x,
                "y": rng.normal(size=24) + x + np.repeat(rng.normal(size=8), 3),
                "count": rng.poisson(3.0, size=24),
                "hit": rng.integers(0, 2, 24),
                "pupil": np.tile(["u", "v", "w"], 8),
            }
        )

    @cached_property
    def kernels(self):
        return {"K": pd.DataFrame(np.eye(8) + 0.1, index=PEOPLE, columns=PEOPLE)}

    def lmm(self, formula="y ~ x + (1 | id)", data=None, **how):
        return ranef.lmm(formula, self.table if data is None else data, **how)

    def trials(self, right, more):
        """A binomial fit with so many failures more in each row."""
        table = self.table.assign(count=self.table["count"] + more)
        return ranef.glmm(f"cbind(hit, count) ~ {right} + (1 | id)", table, family="binomial")

    @cached_property
    def plain(self):
        return self.lmm("y ~ x", random="none")

    @cached_property
    def simple(self):
        return self.lmm()

    @cached_property
    def kin(self):
        return self.lmm("y ~ x + kernel(1 | id, K)", kernels=self.kernels)

    @cached_property
    def memory(self):
        return self.lmm("y ~ x", residual="ar1(visit | id)")

    @cached_property
    def visits(self):
        return self.lmm("y ~ x", residual="us(visit | id)")

    @cached_property
    def sleep(self):
        return ranef.lmm("Reaction ~ Days + (Days | Subject)", ranef.data.load("sleepstudy"))

    @cached_property
    def slopes(self):
        return self.lmm("y ~ x + (0 + arm | pupil)")

    @cached_property
    def oats(self):
        return ranef.lmm("yield ~ nitro * Variety + (1 | Block/Variety)", ranef.data.load("Oats"))

    @cached_property
    def counts(self):
        return ranef.glmm("count ~ x + (1 | id)", self.table, family="poisson")

    @cached_property
    def ohio(self):
        return ranef.gee(
            "resp ~ age + smoke", ranef.data.load("ohio"), groups="id", family="binomial"
        )

    @cached_property
    def wine(self):
        return ranef.glmm(
            "rating ~ temp + (1 | judge)", ranef.data.load("wine"), family="cumulative"
        )

    @cached_property
    def zeros(self):
        return ranef.glmm(
            "count ~ mined", ranef.data.load("Salamanders"), family="poisson",
            zero="~ mined + (1 | site)",
        )  # fmt: skip

    @cached_property
    def studies(self):
        rng = np.random.default_rng(1)
        return pd.DataFrame(
            {
                "g": np.repeat(list("abcdefgh"), 3), "arm": np.tile([0, 1, 1], 8),
                "d": rng.normal(size=24), "v": 0.1,
            }
        )  # fmt: skip

    def power(self, formula="y ~ x + (1 | person)", test="x", **how):
        asked = {
            "design": {"person": 6, "visit": 3, "x": {"row": "normal"}},
            "fixed": {"x": 1.0}, "sd": {"person": 1.0},
            "sigma": 1.0, "n": 2, "progress": False, **how,
        }  # fmt: skip
        return ranef.power(formula, test=test, **asked)


CASES = {
    "level and kind": (
        lambda w: w.simple.emmeans("x", kind="population", unit={"id": "p1"}),
        "unit= asks for one level's own means",
    ),
    "a unit of equations": (lambda w: w.ohio.emmeans("age", unit={"id": 1}), "this one has none"),
    "profiles of levels with slopes": (
        lambda w: ranef.meta("d ~ 1 + (arm | g)", w.studies, variance="v").confint(
            "profile", parameters="variance"
        ),
        "profiles are made of levels with one standard deviation each",
    ),
    "fixed effects of levels": (
        lambda w: ranef.meta("d ~ 1 + (1 | g)", w.studies, variance="v", method="fe"),
        "method='fe' has no variance between levels: take the random terms out",
    ),
    "vary two factors": (
        lambda w: ranef.power(
            w.oats, test="nitro", vary={"Block": [8], "Variety:Block": [9]}, n=2, progress=False
        ),
        "vary: one grouping factor at a time",
    ),
    "loadings": (
        lambda w: w.power(
            "y ~ x + rr(0 + visit1 + visit2 + x | person, d=1)",
            design={
                "person": 9,
                "visit": 3,
                **{k: {"row": "normal"} for k in ("visit1", "visit2", "x")},
            },
        ),
        "cannot be stated: give a fit",
    ),
    "columns of sd": (
        lambda w: w.power("y ~ x + (x | person)", sd={"person": {"(Intercept)": 1.0}}),
        "'x' is not stated",
    ),
    "no correlation matrix": (
        lambda w: w.power("y ~ x + (x | person)", sd={"person": [1.0, 1.0]}, corr={"person": 3.0}),
        "corr: that is no correlation matrix of the 2 columns of (x | person)",
    ),
    "sigma of counts": (
        lambda w: w.power("y ~ x + (1 | person)", family="poisson"),
        "sigma= is for linear models",
    ),
    "residual sds by other names": (
        lambda w: w.power(
            "y ~ x",
            residual="ar1(visit | person)",
            sd={"residual": {"a": 1.0}},
            corr={"residual": 0.3},
        ),
        "sd: the residuals have standard deviations of",
    ),
    "residual sds of another count": (
        lambda w: w.power(
            "y ~ x",
            residual="ar1(visit | person)",
            sd={"residual": [1.0, 2.0]},
            corr={"residual": 0.3},
        ),
        "sd: beside sigma the residuals have",
    ),
    "no residual correlation": (
        lambda w: w.power("y ~ x", residual="ar1(visit | person)", sd={}),
        "state the 1 parameters of the residuals' correlation: corr={'residual': ...}",
    ),
    "unstructured sds": (
        lambda w: w.power(
            "y ~ x",
            residual="us(visit | person)",
            sd={"residual": [-1.0, 1.0, 1.0]},
            corr={"residual": 0.3},
        ),
        "sd: give one above zero for each of",
    ),
    "unstructured correlations": (
        lambda w: w.power(
            "y ~ x",
            residual="us(visit | person)",
            sd={"residual": [1.0, 1.0, 1.0]},
            corr={"residual": 3.0},
        ),
        "corr: no correlation matrix of the 3 places of the residuals",
    ),
    "over": (
        lambda w: w.power(vary={"person": [5, 6]}).smallest(0.8, over="persons"),
        "over: nothing varies by the name 'persons'; did you mean 'person'?",
    ),
    "dropout that returns": (
        lambda w: w.power(dropout={"visit": [1.0, 0.5, 0.9]}),
        "dropout: give the share that has left by the last of the 3 'visit'",
    ),
    "a function of one number": (
        lambda w: w.power(design={"person": 6, "visit": 3, "x": {"row": lambda rng, size: 1.0}}),
        "not one value for each of",
    ),
    "other responses": (
        lambda w: ranef.compare(
            w.simple, w.lmm(data=w.table.assign(y=w.table.y * 2)), focus="population"
        ),
        "fit both to one table",
    ),
    "other trials": (
        lambda w: ranef.anova(
            w.trials("x", 1),
            w.trials("1", 2),
        ),
        "have different trials; fit both to the same response",
    ),
    "criteria of other trials": (
        lambda w: ranef.compare(
            w.trials("x", 1),
            w.trials("1", 2),
            focus="population",
        ),
        "have different trials; fit both to the same response",
    ),
    "robust kin": (lambda w: ranef.robust(w.kin), "a cluster-robust covariance does not apply"),
    "the future of one time": (
        lambda w: ranef.cross_validate(w.lmm(), by="future", time=np.ones(24)),
        "there is no future to predict",
    ),
    "a gap in time": (
        lambda w: ranef.cross_validate(w.lmm(), by="future", time=np.r_[np.nan, w.table.x[1:]]),
        "is missing in rows of the model; leave these out",
    ),
    "rank of slopes": (
        lambda w: ranef.rank(w.slopes, "pupil"),
        "several coefficients vary over 'pupil'; say which one to rank by: statistic= one of",
    ),
    "a category of its own": (
        lambda w: ranef.rank(
            ranef.glmm("pupil ~ x + (1 | id)", w.table, family="multinomial"), "id", response="z"
        ),
        "is no category with effects of its own",
    ),
    "simple and by": (
        lambda w: w.oats.emmeans(["Variety", "nitro"]).contrasts(simple="Variety", by="nitro"),
        "simple= compares within all other predictors; leave by out",
    ),
    "a ratio of negative means": (
        lambda w: w.simple.emmeans("x", at={"x": [-9.0, 9.0]}).contrasts(compare="ratio"),
        "use compare='difference'",
    ),
    "ref of a matrix": (
        lambda w: w.oats.emmeans("Variety").contrasts([[1, -1, 0]], ref="Victory"),
        "ref= goes with method='reference'",
    ),
    "everything in by": (
        lambda w: w.oats.emmeans("Variety", by="Variety").joint_tests(by="Variety"),
        "there is nothing to test",
    ),
    "weights of words": (
        lambda w: w.oats.emmeans("Variety", weights=["a", "b"]),
        "or numbers, not ['a', 'b']",
    ),
    "a slope at an edge": (
        lambda w: ranef.emtrends(
            w.lmm("y ~ log(v) + (1 | id)", w.table.assign(v=w.table.x.abs() + 1)),
            "v",
            var="v",
            at={"v": 0.0},
        ),
        "choose another with at=",
    ),
    "shares of another part": (
        lambda w: ranef.heritability(
            ranef.glmm(
                "y ~ x + (1 | pupil)", w.table, family="gaussian", dispersion="~ 1 + (1 | id)"
            ),
            "id",
        ),
        "no random term of the mean has the grouping factor 'id'",
    ),
    "panels of three": (
        lambda w: ranef.simulated_residuals(w.simple, n=50).plot(axes=[None, None, None]),
        "give axes= two panels, or figure=, not both",
    ),
    "one place": (
        lambda w: ranef.simulated_residuals(w.simple, n=50).spatial(np.zeros(24), np.zeros(24)),
        "all rows are at one place",
    ),
    "gaps in contrasts": (
        lambda w: ranef.marginal(
            ranef.glmm("hit ~ x + (1 | id)", w.table, family="binomial")
        ).contrasts({"x": [0.0, np.nan]}, [[-1, 1]]),
        "rows of the table lack a value; contrasts need all",
    ),
    "history without values": (
        lambda w: w.counts.predict(w.table.head(2), history=w.table.tail(3).assign(x=np.nan)),
        "every row of the history lacks a value",
    ),
    "start of another length": (
        lambda w: w.lmm("y ~ x + (1 | id) + (1 | pupil)", path="iterative", start=[1.0]),
        "start must hold 2 numbers, one for each entry of theta",
    ),
    "exact response, iterative": (
        lambda w: w.lmm(
            "y ~ x + (1 | id) + (1 | pupil)",
            data=w.table.assign(y=w.table.x * 2.0),
            path="iterative",
        ),
        "exactly",
    ),
    "exact response, structured": (
        lambda w: w.lmm("y ~ x", data=w.table.assign(y=w.table.x * 2.0), residual="us(visit | id)"),
        "exactly",
    ),
    "jackknife with dropout": (
        lambda w: ranef.gee(
            "y ~ x",
            w.table.assign(y=w.table.y.where(w.table.visit < 3)),
            groups="id",
            time="visit",
            dropout="~ x",
            missing="drop",
        ).tidy(covariance="jackknife-full"),
        "jackknife",
    ),
    "impute of kin": (
        lambda w: ranef.impute(w.kin, w.table, time="visit", n=2),
        "impute() takes patients who are independent; a kernel relates them",
    ),
    "impute of crossed": (
        lambda w: ranef.impute(w.lmm("y ~ x + (1 | id) + (1 | pupil)"), w.table, time="visit", n=2),
        "the patients; this one has",
    ),
    "inverse in the population": (
        lambda w: ranef.two_answers(
            "z ~ x",
            w.table.assign(z=np.exp(w.table.y)),
            groups="id",
            family="Gamma",
            link="inverse",
        ),
        "the mean over the population does not exist",
    ),
    "too many models": (
        lambda w: ranef.subsets(
            "y ~ " + " + ".join(f"x{k}" for k in range(21)) + " + (1 | id)",
            w.table.loc[w.table.index.repeat(2)].assign(
                **{f"x{k}": np.random.default_rng(k).normal(size=48) for k in range(21)}
            ),
            focus="population",
        ),
        "21 terms make more than a million models; keep= some of them",
    ),
    "folds of one group": (
        lambda w: ranef.cross_validate(w.simple, by="group", group=np.repeat("a", 24)),
        "cross-validation by groups needs two or more",
    ),
    "parameters of a structure": (
        lambda w: ranef.power(
            w.lmm("y ~ x + cs(0 + arm | pupil)"),
            test="x",
            corr={"pupil": [0.1, 0.2, 0.3]},
            n=2,
            progress=False,
        ),
        "parameters beside its standard deviations, not 3",
    ),
    "averages of transformed responses": (
        lambda w: ranef.compare(
            w.lmm("log(z) ~ x + (1 | id)", w.table.assign(z=np.exp(w.table.y))),
            w.lmm("z ~ x + (1 | id)", w.table.assign(z=np.exp(w.table.y))),
            focus="population",
            jacobian=True,
        ).predict(w.table.head(2)),
        "predict by each",
    ),
    "residuals of other columns": (
        lambda w: w.visits.predict(w.table.assign(visit="one"), history=w.table),
        "visit",
    ),
    "several parts pooled": (
        lambda w: ranef.pool([w.wine, w.wine]).predict(),
        "pool what each fit says of them",
    ),
    "a formula that is a number": (lambda w: parse(3), "a formula is a text"),
    "no words in a formula": (lambda w: parse("  "), "write one such as 'y ~ x + (1 | g)'"),
    "a search of few groups": (
        lambda w: ranef.step("y ~ x + visit + (1 | pupil)", w.table, focus="population").split(),
        "splitting a sample needs four groups or more, and there are 3",
    ),
    "ranks of structural zeros": (
        lambda w: ranef.rank(w.zeros, "site", component="zero", scale="response"),
        "scale='response' is for effects on the mean",
    ),
    "new rows of relatives": (
        lambda w: w.lmm(
            "y ~ x + kernel(1 | id, K)", residual="ar1(visit | id)", kernels=w.kernels
        ).predict(w.table.head(1), history=w.table.tail(3)),
        "history= is not for levels that a kernel correlates beside residuals",
    ),
    "a new place of a structure": (
        lambda w: w.visits.predict(w.table.assign(visit=9).head(2), interval="new", conf_level=0.9),
        "visit has a place that the fit has not seen: 9",
    ),
    "a component that is not there": (
        lambda w: w.ohio.estimand(component="zero"),
        "the model has no component 'zero'",
    ),
    "a scale that is not there": (
        lambda w: w.ohio.mean_scale("zero"),
        "the model has no 'zero' part; use type='response'",
    ),
    "intervals that are not there": (
        lambda w: w.ohio.interval_columns("magic", "fixed", 0.9),
        "method='magic' is not one of",
    ),
    "threads as zero": (lambda w: available_cores(0), "n_jobs is 0; give a positive number"),
}


@pytest.fixture(scope="module")
def world():
    return World()


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", CASES)
def test_what_cannot_be_answered_is_said(world, name):
    call, said = CASES[name]
    refused(call, world, said)


def book(*rows):
    openpyxl = pytest.importorskip("openpyxl")
    made, stream = openpyxl.Workbook(), io.BytesIO()
    for row in rows:
        made.active.append(row)
    made.save(stream)
    return stream.getvalue()


def zipped(**members):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, content in members.items():
            archive.writestr(name.replace("_", "."), content)
    return stream.getvalue()


def locked():
    """An archive whose member is marked as encrypted."""
    content = bytearray(zipped(a_csv="y,x\n1,2\n"))
    content[6] |= 1
    content[content.index(b"PK\x01\x02") + 8] |= 1
    return bytes(content)


TABLE = "y,x,g\n" + "\n".join(f"{k % 5},{k % 7},{k % 4}" for k in range(24)) + "\n"
FORMULA = "y ~ x + (1 | g)"
COMMANDS = {
    "a sheet of another office": (
        {"t.ods": zipped(mimetype="x", content_xml="x")}, ["fit", FORMULA, "t.ods"],
        "is an OpenDocument file; save the sheet as CSV or .xlsx",
    ),
    "an encrypted archive": ({"t.zip": locked()}, ["fit", FORMULA, "t.zip"], "cannot unpack"),
    "an empty workbook": ({"t.xlsx": lambda: book()}, ["fit", FORMULA, "t.xlsx"], "is empty"),
    "a workbook after its end": (
        {"t.xlsx": lambda: book(["y", "x"], [1, 2])}, ["fit", FORMULA, "t.xlsx", "--skip", "9"],
        "is empty",
    ),
    "a workbook with a name twice": (
        {"t.xlsx": lambda: book(["y", "x", "x"], [1, 2, 3])}, ["fit", FORMULA, "t.xlsx"],
        "has several columns named 'x'; rename them",
    ),
    "a table after its end": (
        {"t.csv": TABLE}, ["fit", FORMULA, "t.csv", "--skip", "99"], "has no line",
    ),
    "an empty table": ({"t.csv": " \n"}, ["fit", FORMULA, "t.csv"], "'t.csv' is empty"),
    "columns that are no pairs": (
        {"t.csv": TABLE}, ["meta", "y ~ 1", "t.csv", "--measure", "RR", "--columns", "ai"],
        "is not of the form 'ai=events,n1i=persons'",
    ),
    "columns without a measure": (
        {"t.csv": TABLE}, ["meta", "y ~ 1", "t.csv", "--columns", "ai=y"],
        "--columns belongs to --measure: add it, such as --measure RR",
    ),
    "no precision": (
        {"t.csv": TABLE}, ["meta", "y ~ 1", "t.csv"],
        "--variance or --std-error names its column",
    ),
    "the new table in place of the result": (
        {"t.csv": TABLE, "n.csv": TABLE},
        ["predict", FORMULA, "t.csv", "--new", "n.csv", "--out", "n.csv"],
        "give the result another name",
    ),
    "a column called as the prediction": (
        {"t.csv": TABLE, "n.csv": "x,g,estimate\n1,2,3\n"},
        ["predict", FORMULA, "t.csv", "--new", "n.csv"],
        "the table has a column 'estimate' already; rename it",
    ),
    "the table as the result": (
        {"t.csv": TABLE}, ["means", FORMULA, "t.csv", "--of", "x", "--out", "t.csv"],
        "is what the command reads; name the result otherwise",
    ),
    "a model in Latin-1": (
        {"t.csv": TABLE, "m.lav": b"f =~ y + x # \xe4"}, ["sem", "m.lav", "t.csv"],
        "it is no text in UTF-8",
    ),
    "a field without end": (
        {"t.csv": 'y,x,g\n"' + "a" * 200_000 + '",2,3\n'}, ["fit", FORMULA, "t.csv"],
        "column 'y' holds text, not numbers",
    ),
    "bytes that are no text": (
        {"t.csv": TABLE.encode() + b"1,\xff\xfe\x81,3\n"}, ["fit", FORMULA, "t.csv"], "--encoding",
    ),
    "a name that no file can have": (
        {}, ["fit", FORMULA, "a\0b.csv"], "name of a file",
    ),
    "a model in a letter": (
        {"t.csv": TABLE, "m.docx": "f =~ y"}, ["sem", "m.docx", "t.csv"],
        "a file with a model ends in",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_says_what_is_wrong(name, tmp_path, monkeypatch, capsys):
    files, command, said = COMMANDS[name]
    for file, content in files.items():
        content = content() if callable(content) else content
        (tmp_path / file).write_bytes(content.encode() if isinstance(content, str) else content)
    monkeypatch.chdir(tmp_path)
    try:
        code = cli.main(command)
    except SystemExit as stop:
        code = stop.code
    assert code not in (0, None)
    assert said in " ".join(capsys.readouterr().err.split())


def test_a_folder_that_takes_no_file_is_named(tmp_path, monkeypatch, capsys):
    (tmp_path / "t.csv").write_text(TABLE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("ranef.cli.writing.os.access", lambda path, mode: False)
    assert cli.main(["means", FORMULA, "t.csv", "--of", "x", "--out", "m.csv"]) != 0
    assert "cannot write 'm.csv': the folder is not writable" in capsys.readouterr().err


def test_a_workbook_names_the_package_that_reads_it(tmp_path, monkeypatch, capsys):
    (tmp_path / "t.xlsx").write_bytes(book(["y", "x", "g"], [1, 2, 3]))
    monkeypatch.setitem(sys.modules, "openpyxl", None)
    assert cli.main(["fit", FORMULA, str(tmp_path / "t.xlsx")]) != 0
    said = " ".join(capsys.readouterr().err.split())
    assert "needs openpyxl: pip install 'ranef[excel]'; or save the sheet as CSV" in said
