"""Structural equation models: the language, hostile tables, words, files, the command."""

from __future__ import annotations

import json
import pickle
import re
import subprocess
import sys
import warnings
import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import ranef
from ranef.errors import (
    ConvergenceWarning,
    DataError,
    FormulaError,
    FormulaWarning,
    ModelError,
    RanefError,
    UnknownColumnError,
)
from ranef.fields.structural.measures import rmsea_interval
from ranef.fields.structural.mplus import read_mplus
from ranef.fields.structural.syntax import read_syntax
from ranef.report import html

HERE = Path(__file__).parent / "reference"
CFA = "st =~ st1 + st2 + st3\nna =~ na1 + na2 + na3\n"
TWO = """
level: 1
  fw =~ st1 + a*st2 + st3
  fw ~ b*x1
level: 2
  fb =~ st1 + st2 + st3
  fb ~ c*w1
ctx := c - b
"""


@pytest.fixture(scope="module")
def rows():
    return pd.read_csv(HERE / "structural_data.csv")


@pytest.fixture(scope="module")
def fit(rows):
    return ranef.sem(TWO, rows, cluster="person")


# --- the language


def statements(text):
    return [
        (b.group, b.level, s.lhs, s.op, s.rhs, {k: v for k, v in vars(s.modifiers).items() if v})
        for b in read_syntax(text).blocks
        for s in b.statements
    ]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("y ~ x", [("y", "~", "x", {})]),
        ("y~x;z~x", [("y", "~", "x", {}), ("z", "~", "x", {})]),
        ("y ~ x +\n  z # end", [("y", "~", "x", {}), ("y", "~", "z", {})]),
        ("y ~ x\n  + z", [("y", "~", "x", {}), ("y", "~", "z", {})]),
        ("y1 + y2 ~ 0*1", [(y, "~1", "", {"fixed": (0.0,)}) for y in ("y1", "y2")]),
        ("y ~ -0.5*x", [("y", "~", "x", {"fixed": (-0.5,)})]),
        ("y ~ a*x + start(2)*x", [("y", "~", "x", {"labels": ("a",), "start": (2.0,)})]),
        ("y ~ 0.3?x", [("y", "~", "x", {"start": (0.3,)})]),
        ('f =~ c("a", "b")*y', [("f", "=~", "y", {"labels": ("a", "b")})]),
        ("f =~ c(1, 0.5)*y", [("f", "=~", "y", {"fixed": (1.0, 0.5)})]),
        ("y ~~ lower(0)*y", [("y", "~~", "y", {"lower": (0.0,)})]),
        ('y ~ rv("s")*x', [("y", "~", "x", {"slope": "s"})]),
        ("`my score` ~ `x-1`", [("my score", "~", "x-1", {})]),
        ("größe ~ é.2", [("größe", "~", "é.2", {})]),
        ("a ~~ b\nb ~~ l*a", [("a", "~~", "b", {"labels": ("l",)})]),
    ],
)  # fmt: skip
def test_language_is_read(text, found):
    assert [s[2:] for s in statements(text)] == found


def test_levels_and_groups_stand_in_either_order():
    outer = "group: 1\nlevel: 1\ny~x\nlevel: 2\ny~w\ngroup: 2\nlevel: 1\ny~x\nlevel: 2\ny~w"
    inner = "level: 1\ngroup: 1\ny~x\ngroup: 2\ny~x\nlevel: 2\ngroup: 1\ny~w\ngroup: 2\ny~w"
    assert {s[:2] for s in statements(outer)} == {("1", "1"), ("1", "2"), ("2", "1"), ("2", "2")}
    assert sorted(statements(outer), key=str) == sorted(statements(inner), key=str)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "empty"),
        ("# nothing", "empty"),
        ("y x", "no operator"),
        ("y = x", "a regression 'y ~ x'"),
        ("~ x", "before"),
        ("y ~", "after"),
        ("y ~ + x", "missing before"),
        ("y ~ x + ", "missing after"),
        ("y ~ x:z", "product of variables"),
        ("y ~ x z", "no variable"),
        ("y ~ efa(1)*x", r"no modifier 'efa\(\)'"),
        ("y ~ starts(1)*x", r"did you mean 'start'"),
        ("f <~ x", "composites"),
        ("y | t1", "thresholds"),
        ("level 1\ny ~ x", "no operator"),
        ("levels: 1\ny ~ x", "did you mean 'level'"),
        ("level:\ny ~ x", "needs a number"),
        ("y ~ 2", "intercept"),
        ("f =~ 1", "intercept"),
        ("y ~ c(1, a)*x", "numbers or labels"),
        ("y ~ start(a)*x", "takes numbers"),
        ("y ~ (x", "no variable|not closed"),
        ("y ~ a*x\nb := a +", "number or a label"),
        ("y ~ a*x\nb := system(a)", "no function 'system'"),
        ("y ~ a*x\n2 := a", "a name stands before"),
        ('y ~~ rv("s")*x', "stands after '~'"),
        ("y ~ x $ z", "means nothing"),
        ("y ~ rv(\u201cs\u201d)*x", "printed quotation mark"),
        ('m <- "\nf =~ x\n"', "does not end on its line"),
        ('f =~ "x" + z', "no quotation marks"),
        ("f BY y1 y2", "BY, ON and WITH of Mplus"),
        ("y ~ a*x\na >= 1", "include the bound"),
        ("y ~ 1e400*x", "no finite number"),
        ('efa("b")*f + efa("b")*g =~ y + z', "exploratory blocks of factors"),
        ("y ~ Inf*x", "neither a number nor a label"),
        ("y ~ a*x\nb := " + "(" * 5000 + "a" + ")" * 5000, "deeply"),
    ],
)
def test_what_the_language_does_not_know_is_refused(text, words):
    with pytest.raises(FormulaError, match=words):
        read_syntax(text)


@pytest.mark.parametrize("junk", ["=~", "f =~", "*", "f =~ *x", "a := a", ":=", "f =~ x*", "c()*x",
                                  "y ~ c(*x", "level: 1 level: 2", "``~``", "y ~ NA", "== ==",
                                  "y ~ 1e999*x", "group: 1\ngroup: 2", "\x00 ~ x"])  # fmt: skip
def test_junk_is_a_typed_error_or_a_model(junk, rows):
    with pytest.raises(RanefError):
        ranef.sem(junk, rows)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('level: 1\n st1 ~ rv("st1")*x1\nlevel: 2\n st1 ~ w1\n', "name of a column"),
        ('level: 1\n st1 ~ rv("x2")*x1\nlevel: 2\n st1 ~ w1\n', "'x2' has the name of a column"),
        (
            'level: 1\n f =~ st1 + st2 + st3\n f ~ rv("g")*x1\nlevel: 2\n g =~ st1 + st2 + st3\n',
            "'g' is a latent variable and a random slope",
        ),
        ('level: 1\n st1 ~ x1\nlevel: 2\n st1 ~ rv("s")*w1\n', "level 1 random"),
    ],
)
def test_slopes_that_cannot_be_random_are_refused(rows, text, words):
    with pytest.raises(ModelError, match=words):
        ranef.sem(text, rows, cluster="person")


def test_labels_and_constraints_are_checked(rows):
    with pytest.raises(ModelError, match=r"no label \'d\'"):
        ranef.sem(CFA + "na ~ a*st\nt := a*d", rows)
    with pytest.raises(ModelError, match="is a label already"):
        ranef.sem(CFA + "na ~ a*st\na := 2*a", rows)
    with pytest.raises(ModelError, match="2 values"):
        ranef.sem("f =~ c(a, b)*st1 + st2 + st3", rows)
    with pytest.raises(ModelError, match=r"contradict|cannot be met|no free"):
        ranef.sem(CFA + "na ~ a*st\na == 1\na == 2", rows)


def test_a_label_that_is_a_column_is_told(rows):
    with pytest.warns(FormulaWarning, match="the product of two variables is a column of its own"):
        ranef.sem(CFA + "st ~ x1*x2", rows)


def test_every_group_has_a_block(rows):
    half = rows.assign(half=np.arange(len(rows)) % 2)
    with pytest.raises(ModelError, match="no block of group '1'"):
        ranef.sem("group: 0\n f =~ st1 + st2 + st3", half, group="half")


@pytest.mark.parametrize(
    ("commands", "words"),
    [
        ("VARIABLE: NAMES = y1-y3; CATEGORICAL = y1;", "CATEGORICAL"),
        ("VARIABLE: NAMES = y1-y3; WEIGHT IS w;", "WEIGHT"),
        ("VARIABLE: CLASSES = c(2); ANALYSIS: TYPE = MIXTURE;", "CLASSES"),
        ("ANALYSIS: TYPE = TWOLEVEL MIXTURE;", "MIXTURE"),
        ("DEFINE: z = y1*y2;", "DEFINE"),
    ],
)
def test_what_changes_a_model_of_mplus_is_not_left_out_silently(commands, words):
    with pytest.raises(FormulaError, match=words):
        read_mplus(commands + " MODEL: f BY y1-y3;")


def test_pairs_and_labels_of_groups_of_mplus():
    text = "VARIABLE: NAMES = y1-y4 g; GROUPING IS g (1=men 2=women); MODEL: f BY y1-y4;"
    text += " y1 y2 PWITH y3 y4; y1 y2 PON y3 y4; MODEL women: f BY y2;"
    lines = read_mplus(text).splitlines()
    assert lines[1:5] == ["y1 ~~ y3", "y2 ~~ y4", "y1 ~ y3", "y2 ~ y4"]
    assert lines[5:] == ["group: 2", "f =~ y2"]


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        # a label is of the parameters on its own line
        ("f BY y1\n y2 (a)\n y3 y4 (b c);", ["f =~ y1 + a*y2 + b*y3 + c*y4"]),
        ("f BY y1\n y2-y4 (a1-a3);", ["f =~ y1 + a1*y2 + a2*y3 + a3*y4"]),
        ("f BY y1-y3\n (a b c);", ["f =~ a*y1 + b*y2 + c*y3"]),
        ("y1\n y2 (v);", ["y1 ~~ y1", "y2 ~~ v*y2"]),
        ("y1 ON x (a); MODEL CONSTRAINT: NEW(q);\n q = EXP(a)**2 + SQRT(2);",
         ["y1 ~ a*x", "q := exp(a)^2 + sqrt(2)"]),
        ("i s | y1@0 y2@1\n y3@2.5;",
         ["i =~ 1*y1 + 1*y2 + 1*y3", "s =~ 0*y1 + 1*y2 + 2.5*y3", "i ~~ s", "i ~ 1", "s ~ 1",
          "y1 ~ 0*1", "y2 ~ 0*1", "y3 ~ 0*1"]),
        ("%WITHIN% i s q | y1@0 y2@2;",
         ["level: 1", "i =~ 1*y1 + 1*y2", "s =~ 0*y1 + 2*y2", "q =~ 0*y1 + 4*y2", "i ~~ s",
          "i ~~ q", "s ~~ q"]),
    ],
)  # fmt: skip
def test_lines_labels_and_growth_of_mplus(text, lines):
    assert read_mplus(f"MODEL: {text}").splitlines() == lines
    with pytest.raises(FormulaError, match="nor growth"):
        read_mplus("MODEL: i s | y1@0 y2*1;")


def test_mplus_input_is_read():
    text = """
    TITLE: an example; MODEL of two levels
    VARIABLE: NAMES = y1-y4 x w clus; WITHIN = x; BETWEEN = w; CLUSTER = clus;
    ANALYSIS: TYPE = TWOLEVEL RANDOM;
    MODEL:
      %WITHIN%
      fw BY y1 y2-y4* (a b c);   ! loadings
      s | fw ON x;
      %BETWEEN%
      fb BY y1-y4;
      y1-y4@0;
      [y1@0]; fb WITH s; fb ON w (g);
    MODEL CONSTRAINT: NEW(twice);
      twice = g**2; g > 0;
    """
    lines = read_mplus(text.replace("y1 y2-y4* (a b c)", "y1@1 y2-y4*1 (a b c d)")).splitlines()
    assert lines == [
        "level: 1",
        "fw =~ 1*a*y1 + NA*start(1)*b*y2 + NA*start(1)*c*y3 + NA*start(1)*d*y4",
        'fw ~ rv("s")*x',
        "level: 2",
        "fb =~ y1 + y2 + y3 + y4",
        *(f"y{k} ~~ 0*y{k}" for k in (1, 2, 3, 4)),
        "y1 ~ 0*1",
        "fb ~~ s",
        "fb ~ g*w",
        "twice := g^2",
        "g > 0",
    ]
    read_syntax("\n".join(lines))
    with pytest.raises(FormulaError, match=r"XWITH|nor growth"):
        read_mplus("MODEL: f BY y1-y3; i | f XWITH g;")
    with pytest.raises(FormulaError, match="no MODEL"):
        read_mplus("TITLE: nothing;")


# --- defaults


def test_parameters_are_completed_as_lavaan_does(rows):
    fit = ranef.sem("f =~ l*st1 + st2 + st3\nf ~ x1 + x2\ng =~ na1 + na2 + na3\ng ~ x1", rows)
    tidy = fit.tidy().set_index(["lhs", "op", "rhs"])
    assert tidy.estimate["f", "=~", "st1"] == 1  # a label leaves the first loading fixed
    assert tidy.std_error["x1", "~~", "x1"] == 0
    np.testing.assert_allclose(
        tidy.estimate["x1", "~~", "x2"], np.cov(rows.x1, rows.x2, ddof=0)[0, 1]
    )
    assert ("f", "~~", "g") in tidy.index  # last outcomes covary
    free = ranef.sem("f =~ NA*st1 + st2 + st3\nf ~~ 1*f", rows)
    std = ranef.sem("f =~ st1 + st2 + st3", rows, std_lv=True)
    np.testing.assert_allclose(free.loglik, std.loglik, atol=1e-7)
    np.testing.assert_allclose(free.coef.iloc[:3], std.coef.iloc[:3], atol=1e-5)


def test_roles_are_told(fit):
    roles = {r.variable: (r.role, r.level) for r in fit.roles.itertuples()}
    assert roles == {"st1": ("both", 1), "st2": ("both", 1), "st3": ("both", 1),
                     "x1": ("within", 1), "w1": ("between", 2)}  # fmt: skip
    assert "Decomposed within and between: st1, st2, st3." in str(fit)


def test_decomposed_covariate_of_a_saturated_model_leaves_nothing(rows):
    """Held at its own moments it would be no conditional likelihood: chi-squared on 0 df."""
    fit = ranef.sem("level: 1\n st1 ~ na1\nlevel: 2\n st1 ~ na1 + w1\n", rows, cluster="person")
    assert fit.measures["df"] == 0
    assert abs(fit.measures["chisq"]) < 1e-6


# --- hostile tables


def test_order_of_rows_and_names_of_units_do_not_matter(rows, fit):
    rng = np.random.default_rng(1)
    shuffled = rows.sample(frac=1.0, random_state=2)
    names = np.array([f"person {k:03}" for k in rng.permutation(1000)])
    shuffled["who"] = names[shuffled.person]
    again = ranef.sem(TWO, shuffled, cluster="who")
    np.testing.assert_allclose(again.loglik, fit.loglik, atol=1e-8)
    np.testing.assert_allclose(again.coef, fit.coef, atol=1e-6)
    first, other = fit.scores(1), again.scores(1)
    np.testing.assert_allclose(other.loc[first.index], first, atol=1e-5)
    by_person = fit.scores(2).set_index("person").fb
    for row in again.scores(2).itertuples():
        person = int(np.flatnonzero(names == row.who)[0])
        np.testing.assert_allclose(row.fb, by_person[person], atol=1e-5)
    assert fit.scores(1, se=True).shape == (len(rows), 2)


def test_missing_values_are_dropped_used_or_refused(rows):
    data = rows.assign(st1=rows.m_st1, st2=rows.m_st2, st3=rows.m_st3)
    data.loc[3, ["st1", "st2", "st3"]] = np.nan
    whole = data.dropna(subset=["st1", "st2", "st3"])
    listwise = ranef.sem(TWO, data, cluster="person")
    assert listwise.n_obs == len(whole)
    np.testing.assert_allclose(listwise.loglik, ranef.sem(TWO, whole, cluster="person").loglik)
    fiml = ranef.sem(TWO, data, cluster="person", missing="fiml")
    assert fiml.n_obs > listwise.n_obs
    assert fiml.coef.index.equals(listwise.coef.index)
    same = ranef.sem(TWO, rows, cluster="person", missing="fiml")
    np.testing.assert_allclose(
        same.loglik, ranef.sem(TWO, rows, cluster="person").loglik, atol=1e-7
    )
    with pytest.raises(DataError, match="missing in row"):
        ranef.sem(TWO, data, cluster="person", missing="raise")
    gone = data.assign(person=data.person.where(data.person != 5))
    assert ranef.sem(TWO, gone, cluster="person").n_groups == {"person": 79}
    np.testing.assert_allclose(fiml.scores(1).fw.isna().sum(), 0)


def test_a_variable_at_the_wrong_level_is_told(rows):
    with pytest.raises(DataError, match=r"'w1' has one value in every unit.*level 2 only"):
        ranef.sem(TWO.replace("x1", "x1 + w1"), rows, cluster="person")
    with pytest.raises(DataError, match=r"'x2' stands under level 2 only, and varies within"):
        ranef.sem(TWO.replace("w1", "w1 + x2"), rows, cluster="person")


@pytest.mark.parametrize(
    ("change", "how", "words"),
    [
        ({}, {}, "give the column of the units"),
        ({}, {"cluster": "persons"}, "did you mean 'person'"),
        ({"st1": "a"}, {"cluster": "person"}, "st1"),
        ({"st1": np.inf}, {"cluster": "person"}, "infinite"),
        ({"st1": 3.0}, {"cluster": "person"}, "one value"),
        ({"st1": np.nan}, {"cluster": "person"}, "no value|no row"),
        ({"person": 1}, {"cluster": "person"}, "one value|at least two|varies within"),
        ({"x1": 1.0}, {"cluster": "person"}, "one value in all rows"),
        ({}, {"cluster": "person", "group": "nowhere"}, "no column 'nowhere'"),
        ({}, {"cluster": "st1"}, "cannot be a variable"),
        ({}, {"cluster": "person", "fixed.x": False}, "did you mean fixed_x"),
        ({}, {"cluster": "person", "estimator": "WLSMV"}, "estimator='WLSMV' is not known"),
        ({}, {"cluster": "person", "estimator": "MLM"}, "one level"),
        ({}, {"cluster": "person", "group_equal": ("loadings",)}, "need groups"),
        ({}, {"cluster": ["person", "person"]}, "twice"),
        ({}, {"cluster": "person", "start": {"nothing": 1.0}}, "no free parameter 'nothing'"),
        ({}, {"cluster": "person", "missing": "drop"}, "missing='drop' is not known"),
    ],
)  # fmt: skip
def test_wrong_calls_and_tables_are_refused(rows, change, how, words):
    with pytest.raises(RanefError, match=words):
        ranef.sem(TWO, rows.assign(**change), **how)


def test_unknown_columns_and_collinear_covariates(rows):
    with pytest.raises(UnknownColumnError, match="no column 'st4'; did you mean 'st"):
        ranef.sem("f =~ st1 + st2 + st4", rows)
    with pytest.raises(DataError, match="collinear"):
        ranef.sem("st1 ~ x1 + x3", rows.assign(x3=2 * rows.x1 + 1))
    with pytest.raises(ModelError, match=r"cannot be latent"):
        ranef.sem("x1 =~ st1 + st2 + st3", rows)
    with pytest.raises(ModelError, match=r"level of its units|needs the column"):
        ranef.sem(TWO + "level: 3\n st1 ~~ st1\n", rows, cluster="person")


def test_a_model_that_the_data_do_not_determine_says_so(rows):
    with pytest.warns(ConvergenceWarning, match="do not determine|ended before"):
        fit = ranef.sem("f =~ NA*st1 + st2 + st3", rows)
    assert not fit.optimum.converged
    assert "not proved" in " ".join(fit.doubts())


def test_heywood_case_is_told_and_can_be_bounded():
    rng = np.random.default_rng(8)
    f = rng.normal(size=60)
    data = {"y1": f + 0.05 * rng.normal(size=60), "y2": f + rng.normal(size=60)}
    data["y3"] = 0.2 * f + rng.normal(size=60)
    free = ranef.sem("f =~ y1 + y2 + y3", data)
    assert any("Heywood" in line for line in free.doubts())
    assert "below zero (a Heywood case)" in str(free)
    held = ranef.sem("f =~ y1 + y2 + y3", data, bounds="pos_var")
    assert min(held.coef[n] for n in held.coef.index if n[:2] == n[4:]) > -1e-9
    assert held.loglik < free.loglik
    assert held.optimum.converged


def without_between(rng, exactly):
    unit = np.repeat(np.arange(30), 5)
    y = rng.normal(size=(150, 3)) + rng.normal(size=(150, 1))
    if exactly:
        y -= np.array([y[unit == u].mean(axis=0) for u in range(30)])[unit]
    y[unit == 3] = 0.25  # a unit without variance within
    return {"unit": unit} | {f"y{k + 1}": y[:, k] for k in range(3)}


SEPARATE = "level: 1\n f =~ y1 + y2 + y3\nlevel: 2\n" + "".join(
    f" y{k} ~~ y{k}\n" for k in (1, 2, 3)
)


def test_no_variance_between_and_none_within_a_unit():
    data = without_between(np.random.default_rng(3), exactly=False)
    fit = ranef.sem(SEPARATE, data, cluster="unit")
    assert fit.optimum.converged
    assert any("below zero" in line for line in fit.doubts())
    held = ranef.sem(SEPARATE, data, cluster="unit", bounds="pos_var")
    assert held.optimum.converged
    least = [held.coef[f"y{k}~~y{k}.l2"] for k in (1, 2, 3)]
    assert min(least) > -1e-9
    assert min(least) < 1e-7


def test_means_of_units_without_any_variance_are_told():
    """All equal means: unbounded, the likelihood has no maximum; bounded, it has one at zero."""
    data = without_between(np.random.default_rng(2), exactly=True)
    with pytest.warns(ConvergenceWarning, match="grow without bound|not proved|ended before"):
        ranef.sem(SEPARATE, data, cluster="unit")
    held = ranef.sem(SEPARATE, data, cluster="unit", bounds="pos_var")
    least = [held.coef[f"y{k}~~y{k}.l2"] for k in (1, 2, 3)]
    np.testing.assert_allclose(least, 0, atol=1e-6)


def test_fewer_units_than_parameters_is_told(rows):
    few = rows[rows.person < 7]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        fit = ranef.sem(TWO, few, cluster="person")
    assert any("cannot be relied on" in line for line in fit.doubts())


def test_names_with_spaces_and_other_libraries(rows):
    pl = pytest.importorskip("polars")
    data = rows.rename(columns={"st1": "stress, 1", "person": "the person"})
    text = TWO.replace("st1", "`stress, 1`")
    fit = ranef.sem(text, pl.from_pandas(data), cluster="the person")
    assert fit.tidy().__class__.__module__.startswith("polars")
    assert "stress, 1" in fit.roles["variable"].to_list()
    assert fit.scores(2).columns[0] == "the person"
    ET.fromstring(fit.diagram())


def test_scale_of_the_variables_does_not_matter(rows, fit):
    data = rows.assign(**{k: 1e5 * rows[k] + 1e7 for k in ("st1", "st2", "st3")})
    far = ranef.sem(TWO, data, cluster="person")
    assert far.optimum.converged
    n = len(rows) * 3 * np.log(1e5)
    np.testing.assert_allclose(far.loglik, fit.loglik - n, rtol=1e-9)
    np.testing.assert_allclose(far.coef["a"], fit.coef["a"], rtol=1e-4)
    np.testing.assert_allclose(far.measures["chisq"], fit.measures["chisq"], atol=1e-3)


# --- answers


@pytest.mark.parametrize(
    "sizes", [dict.fromkeys(("st1", "st2", "st3"), 1e-6), {"st1": 1e3, "st2": 1e-3, "x1": 1e4}]
)
def test_units_of_each_variable_do_not_matter(rows, fit, sizes):
    scaled = rows.assign(**{name: rows[name] * size for name, size in sizes.items()})
    again = ranef.sem(TWO, scaled, cluster="person", n_jobs=1)
    assert again.optimum.message == "optimum proved"
    factor = sum(np.log(sizes.get(name, 1.0)) for name in ("st1", "st2", "st3"))
    assert again.loglik + factor * fit.n_obs == pytest.approx(fit.loglik, abs=1e-6)
    assert again.measures["chisq"] == pytest.approx(fit.measures["chisq"], abs=1e-5)
    first, second = (f.tidy("free").statistic for f in (fit, again))
    np.testing.assert_allclose(second, first, rtol=1e-4)


def test_units_too_far_apart_for_one_matrix_are_told(rows):
    far = rows.assign(st1=rows.st1 * 1e5, st2=rows.st2 * 1e-5)
    with pytest.raises(DataError, match=r"'st1' .* and 'st2' .* times apart"):
        ranef.sem(TWO, far, cluster="person")
    near = ranef.sem(TWO, rows.assign(st1=rows.st1 * 1e4, st2=rows.st2 * 1e-4), cluster="person")
    assert near.optimum.message == "optimum proved"


@pytest.mark.parametrize("size", [1e-30, 1e-9, 1e30])
@pytest.mark.parametrize("text", [TWO, CFA])
def test_units_of_all_variables_do_not_matter(rows, text, size):
    names = [n for n in rows.columns if n[:2] in ("st", "na") and n in text]
    how = {"cluster": "person"} if text == TWO else {}
    fit = ranef.sem(text, rows, **how)
    again = ranef.sem(text, rows.assign(**{n: rows[n] * size for n in names}), **how)
    assert again.optimum.message == "optimum proved"
    n = len(names) * len(rows) * np.log(size)
    np.testing.assert_allclose(again.loglik + n, fit.loglik, atol=1e-6)


@pytest.mark.parametrize("size", [1e150, 1e-150, 1e300])
def test_units_whose_squares_are_no_numbers_are_told(rows, size):
    far = rows.assign(**{n: rows[n] * size for n in ("st1", "st2", "st3")})
    with pytest.raises(DataError, match="give it in other units"):
        ranef.sem(TWO, far, cluster="person")


def test_rows_of_no_unit_are_refused_where_nothing_may_be_missing(rows):
    for name, how in (("person", {"cluster": "person"}), ("site", {"group": "site"})):
        gone = rows.assign(**{name: np.where(rows.index == 7, np.nan, rows[name])})
        text = TWO if name == "person" else CFA
        assert ranef.sem(text, gone, **how).n_obs == len(rows) - 1
        with pytest.raises(DataError, match=rf"'{name}' is missing in row 7; 'listwise' leaves"):
            ranef.sem(text, gone, missing="raise", **how)


def test_units_of_a_model_without_levels_make_its_errors_robust(rows):
    """As in lavaan: rows of a unit are not independent."""
    fit = ranef.sem(CFA, rows, cluster="person")
    robust = ranef.sem(CFA, rows, cluster="person", estimator="MLR")
    np.testing.assert_array_equal(fit.vcov, robust.vcov)
    assert "MLR" in str(fit)
    plain = ranef.sem(CFA, rows, cluster="person", se="standard")
    np.testing.assert_allclose(plain.vcov, ranef.sem(CFA, rows).vcov, atol=1e-12)
    assert (fit.tidy("free").std_error / plain.tidy("free").std_error).max() > 1.2


def test_statistics_beyond_their_distribution_have_no_interval():
    assert np.isnan(rmsea_interval(1e150, 4, 100.0, 1)).all()
    assert np.isnan(rmsea_interval(float("nan"), 4, 100.0, 1)).all()
    low, high = rmsea_interval(20.0, 4, 100.0, 1)
    assert 0 < low < np.sqrt(16 / 400) < high


def test_a_column_of_one_value_and_arguments_of_others_are_refused(rows):
    with pytest.raises(DataError, match="one value in all rows"):
        ranef.sem(TWO, rows.assign(st1=2.0), cluster="person")
    with pytest.raises(ModelError, match="categorical ones are not offered"):
        ranef.sem(TWO, rows, cluster="person", ordered=["st1"])


def test_unrestricted_model_of_many_items_is_the_samples_moments():
    rng = np.random.default_rng(2)
    f = rng.normal(size=300)
    rows = {f"y{k}": f + rng.normal(size=300) for k in range(40)} | {"x": rng.normal(size=300)}
    text = "f =~ " + " + ".join(f"y{k}" for k in range(40)) + "\nf ~ x"
    fit = ranef.sem(text, rows, n_jobs=1)
    values = np.column_stack([rows[f"y{k}"] for k in range(40)])
    S = np.cov(np.column_stack([values, rows["x"]]).T, ddof=0)
    joint = -150 * (41 * np.log(2 * np.pi) + np.linalg.slogdet(S)[1] + 41)
    covariate = -150 * (np.log(2 * np.pi * S[-1, -1]) + 1)
    assert fit.measures["loglik_h1"] == pytest.approx(joint - covariate, abs=1e-6)
    assert fit.measures["baseline_df"] == 40 * 39 // 2 + 40


def test_measures_levels_and_defined(fit):
    m = fit.fit_measures()
    assert m.shape[0] == 1
    for name in ("chisq", "df", "p_value", "chisq_scaled", "scaling_factor", "scaling_h0",
                 "scaling_h1", "baseline_chisq", "baseline_df", "cfi", "tli", "rmsea", "rmsea_low",
                 "rmsea_high", "srmr", "srmr_within", "srmr_between", "loglik", "loglik_h1",
                 "aic", "bic"):  # fmt: skip
        assert name in m.columns
    levels = fit.level_fit()
    assert levels.n.tolist() == [824, 80]
    assert (levels.chisq > 0).all()
    delta, drawn = fit.defined(), fit.defined("monte_carlo", n=4000)
    np.testing.assert_allclose(drawn.std_error, delta.std_error, rtol=0.06)
    refits = fit.defined("bootstrap", n=60, rng=1)
    np.testing.assert_allclose(refits.std_error, delta.std_error, rtol=0.4)
    assert delta.estimate[0] == pytest.approx(fit.coef["c"] - fit.coef["b"])
    tidy = fit.tidy()
    assert list(tidy.columns) == ["level", "group", "lhs", "op", "rhs", "label", "estimate",
                                  "std_error", "statistic", "p_value", "conf_low",
                                  "conf_high"]  # fmt: skip
    assert tidy.op.iloc[-1] == ":="


def test_robust_test_has_its_scalings(rows):
    fit = ranef.sem(TWO, rows, cluster="person", estimator="MLR")
    m = fit.measures
    own = fit.comparisons.saturated_problem.size * m["scaling_h1"] - fit.df_model * m["scaling_h0"]
    np.testing.assert_allclose(m["scaling_factor"], own / m["df"])
    np.testing.assert_allclose(m["chisq_scaled"], m["chisq"] / m["scaling_factor"])
    smaller = ranef.sem(TWO.replace("c*w1", "0*w1").replace("ctx := c - b", ""), rows,
                        cluster="person", estimator="MLR")  # fmt: skip
    test = ranef.anova(smaller, fit).tidy()
    c0, c1 = smaller.measures["scaling_h0"], m["scaling_h0"]
    scaling = smaller.df_model * c0 - fit.df_model * c1
    np.testing.assert_allclose(test.scaling[1], -scaling)
    np.testing.assert_allclose(test.statistic[1], 2 * (fit.loglik - smaller.loglik) / -scaling)


def test_fits_that_do_not_compare_are_refused(rows, fit):
    with pytest.raises(DataError, match="different rows"):
        fit.anova(ranef.sem(TWO, rows.head(700), cluster="person"))
    with pytest.raises(DataError, match="different variables"):
        fit.anova(ranef.sem(TWO.replace("w1", "w2"), rows, cluster="person"))
    with pytest.raises(ModelError, match="give another fit"):
        fit.anova()
    with pytest.raises(ModelError, match="not with"):
        fit.anova(ranef.lmm("st1 ~ x1 + (1 | person)", rows))


def test_questions_of_regressions_are_refused_in_words(fit):
    for name in ("emmeans", "rank", "check", "profile", "average", "shrinkage"):
        with pytest.raises(ModelError, match=r"this fit \(a structural equation model\) has none"):
            getattr(ranef, name)(fit, *(["x1"] if name in ("emmeans", "average") else []))


def test_drawn_tables_have_the_models_moments(rows):
    fit = ranef.sem(CFA + "na ~ b*st + x2\n", rows)
    drawn = fit.simulate(40, rng=3)
    assert (drawn.groupby("draw").size() == fit.n_obs).all()
    again = ranef.sem(CFA + "na ~ b*st + x2\n", drawn)
    gap = (again.coef - fit.coef) / (np.sqrt(np.diag(fit.vcov)) / np.sqrt(40))
    assert np.abs(gap).max() < 4.5
    np.testing.assert_array_equal(drawn[drawn.draw == 1].x2, rows.x2)


def test_predictions_are_regressions_where_the_model_is_saturated(rows):
    fit = ranef.sem("st1 ~ x1 + x2", rows)
    X = np.column_stack([np.ones(len(rows)), rows.x1, rows.x2])
    expected = X @ np.linalg.lstsq(X, rows.st1, rcond=None)[0]
    np.testing.assert_allclose(fit.predict().st1, expected, atol=1e-6)
    new = fit.predict({"x1": [0.0, 1.0], "x2": [0.0, np.nan]})
    assert len(new) == 2
    with pytest.raises(ModelError, match="no variable 'st9'"):
        fit.predict(outcomes="st9")


def test_the_bootstrap_draws_whole_tables_or_units(rows):
    text = "level: 1\n f =~ st1 + st2 + st3\nlevel: 2\n st1 ~~ st2 + st3\n st2 ~~ st3\n"
    fit = ranef.sem(text, rows, cluster="person", n_jobs=1)
    error = np.sqrt(np.diag(fit.vcov))
    for method in ("parametric", "cluster"):
        boot = ranef.bootstrap(fit, 40, method=method, rng=3)
        assert boot.names == tuple(fit.coef.index)
        assert boot.n_failed == 0
        ratio = boot.tidy()["std_error"] / error
        assert 0.75 < ratio.median() < 1.35
        assert "were drawn" in str(boot)
        again = ranef.bootstrap(fit, 40, method=method, rng=3)
        np.testing.assert_array_equal(boot.draws, again.draws)
    share = ranef.bootstrap(fit, 5, statistic=lambda one: {"icc": one.icc()["icc"].iloc[0]}, rng=1)
    assert share.names == ("icc",)
    for how, words in [
        ({"method": "residual"}, "method"), ({"effects": "conditional"}, "effects"),
        ({"cluster": "person"}, "leave out cluster="),
    ]:  # fmt: skip
        with pytest.raises(ModelError, match=words):
            ranef.bootstrap(fit, 5, **how)
    with pytest.raises(ModelError, match="bca"):
        share.confint(kind="bca")


def test_groups_make_a_group_of_their_own(rows):
    fit = ranef.sem(CFA, rows, group="site")
    apart = [ranef.sem(CFA, rows[rows.site == s]) for s in (0, 1)]
    np.testing.assert_allclose(fit.loglik, sum(f.loglik for f in apart), atol=1e-6)
    assert fit.n_groups == {"site": 2}
    assert set(fit.tidy().group) == {"0", "1"}
    named = ranef.sem("group: 0\nst =~ st1 + st2 + st3\ngroup: 1\nst =~ st1 + c(a, b)*st2 + st3\n",
                      rows, group="site")  # fmt: skip
    assert named.coef["b"] != 0


def test_invariance_across_levels(rows):
    text = "level: 1\n fw =~ st1 + st2 + st3\nlevel: 2\n fb =~ st1 + st2 + st3\n"
    found = ranef.invariance(text, rows, cluster="person")
    assert found.tidy().step.tolist() == ["configural", "metric", "strict"]
    assert found.tidy()["df"].tolist() == [0, 2, 5]
    strict = found.fits["strict"].defined()
    assert strict.lhs.tolist() == ["icc_1"]
    assert 0 < strict.estimate[0] < 1
    assert "CFI" in str(found)
    with pytest.raises(ModelError, match="across groups"):
        ranef.invariance(CFA, rows)


# --- words and files


def test_saved_fit_comes_back(fit, tmp_path):
    fit.save(tmp_path / "fit.ranef")
    again = ranef.load(tmp_path / "fit.ranef")
    assert str(again) == str(fit)
    pd.testing.assert_frame_equal(again.scores(2), fit.scores(2))
    assert str(pickle.loads(pickle.dumps(fit))) == str(fit)
    code = f"import ranef; print(ranef.load({str(tmp_path / 'fit.ranef')!r}).loglik)"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert float(found.stdout) == fit.loglik


def test_report_table_and_diagram(fit, tmp_path):
    page = html(fit)
    for name in ("structure", "diagram", "fit", "parameters", "standardized", "search"):
        assert f'id="{name}"' in page
    assert 'id="fixed"' not in page
    assert "Level 1: regressions" in str(ranef.table({"stress": fit}))
    fit.diagram(tmp_path / "paths.svg", standardized=True)
    root = ET.parse(tmp_path / "paths.svg").getroot()
    words = " ".join(node.text or "" for node in root.iter())
    assert "Within person" in words
    assert "Between person" in words
    assert "fw is measured by st1, st2, st3" in words
    assert "two-level structural equation model" in fit.methods()


def test_intervals_are_asked_as_of_other_fits(fit):
    found, tidy = fit.confint(conf_level=0.9), fit.tidy("free", conf_level=0.9)
    pd.testing.assert_frame_equal(found, ranef.confint(fit, conf_level=0.9))
    assert len(found) == fit.df_model
    np.testing.assert_allclose(found.conf_low, tidy.conf_low)
    assert fit.confint(parameters=["b", "c"]).term.tolist() == ["b", "c"]
    with pytest.raises(ModelError, match="no parameter 'bb'"):
        fit.confint(parameters="bb")
    with pytest.raises(ModelError, match="method='profile' is not known"):
        fit.confint("profile")
    with pytest.raises(ModelError, match="normal: leave df= and options out"):
        fit.confint(df="satterthwaite")


def test_standardized_errors_and_indices_do_not_depend_on_units(rows, fit):
    """Steps of derivatives are in parts of the parameters: they were a millionth of one."""
    small = rows.assign(**{k: 1e-3 * rows[k] for k in ("st1", "st2", "st3")})
    again = ranef.sem(TWO, small, cluster="person")
    first, second = fit.standardized(), again.standardized()
    np.testing.assert_allclose(second.std_all, first.std_all, atol=1e-6)
    np.testing.assert_allclose(second.std_error, first.std_error, rtol=1e-3, atol=1e-8)
    assert not (np.abs(first.statistic) > 1e6).any()  # what is one by definition has no test
    one, other = fit.modification_indices(), again.modification_indices()
    assert len(one) == len(other)
    np.testing.assert_allclose(other.mi, one.mi, atol=1e-4)


@pytest.mark.parametrize("size", [1e-3, 1e-6, 1e3])
@pytest.mark.parametrize("name", ["na1", "x2"])
def test_random_slopes_do_not_depend_on_units(rows, name, size):
    text = (
        'level: 1\n na1 ~ rv("s")*x2 + st1\n st1 ~~ st1\n'
        "level: 2\n na1 ~ w1 + st1\n s ~ w2\n na1 ~~ s\n"
    )
    fit = ranef.sem(text, rows, cluster="person")
    again = ranef.sem(text, rows.assign(**{name: size * rows[name]}), cluster="person")
    assert again.optimum.message == "optimum proved"
    gone = len(rows) * np.log(size) if name == "na1" else 0.0
    np.testing.assert_allclose(again.loglik + gone, fit.loglik, atol=1e-7)
    np.testing.assert_allclose(again.tidy("free").statistic, fit.tidy("free").statistic, rtol=1e-3)


def test_table_for_a_paper_writes_parameters_as_the_model_does(fit):
    text = str(ranef.table(fit))
    for said in ("fw =~ st2 (a)", "fb =~ st3", "fb ~ w1 (c)", "st1 ~~ st1", "st1 ~ 1"):
        assert said in text
    assert ".l2" not in text
    assert "Loading 3" in str(ranef.table(fit, labels={"fb=~st3.l2": "Loading 3"}))


def test_diagram_of_long_names_tells_them_apart(rows):
    names = {f"st{k}": f"Momentary perceived stress, item {k} (0-100)" for k in (1, 2, 3)}
    items = " + ".join(f"`{n}`" for n in names.values())
    fit = ranef.sem(f"`Stress of the moment as felt` =~ {items}", rows.rename(columns=names))
    svg = fit.diagram()
    for k in (1, 2, 3):
        assert f">\N{HORIZONTAL ELLIPSIS}{k} (0-100)</text>" in svg
        assert f"<title>{names[f'st{k}']}</title>" in svg
    shown = re.findall(r"<text [^>]*>([^<]*)</text>", svg)
    assert max(len(text) for text in shown) <= 16
    assert "-0.00" not in svg.replace("\N{MINUS SIGN}", "-")


def test_covariances_in_a_column_pass_beside_it(rows):
    fit = ranef.sem(CFA.replace("na =~", "na =~ ") + "st1 ~~ na1\n", rows)
    svg = fit.diagram()
    path = re.search(
        r'<path d="M([\d.]+) ([\d.]+) Q(-?[\d.]+) [\d.]+ ([\d.]+) [\d.]+" class="c"', svg
    )
    left, _, middle, right = map(float, path.groups())
    assert middle < min(left, right)


def test_label_of_a_variable_is_no_markup(rows):
    fit = ranef.sem("f =~ `<b>` + st2 + st3", rows.rename(columns={"st1": "<b>"}))
    assert "<b>" not in fit.diagram()
    assert "<b>" not in html(fit).replace("<body>", "")


def test_command(tmp_path, rows):
    (tmp_path / "model.lav").write_text(TWO)
    rows.to_csv(tmp_path / "rows.csv", index=False)
    call = [sys.executable, "-m", "ranef", "sem", "model.lav", "rows.csv", "--cluster", "person",
            "--standardized", "--out", "fit.json", "--out", "fit.csv", "--diagram", "p.svg",
            "--scores", "s.csv", "--scores", "again.csv", "--diagram", "q.svg",
            "--save", "fit.ranef", "--report", "r.html"]  # fmt: skip
    done = subprocess.run(call, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "Level 2" in done.stdout
    document = json.loads((tmp_path / "fit.json").read_text())
    assert document["optimum"]["converged"]
    assert len(document["parameters"]) == len(pd.read_csv(tmp_path / "fit.csv"))
    assert len(pd.read_csv(tmp_path / "s.csv")) == len(rows)
    for one, other in (("s.csv", "again.csv"), ("p.svg", "q.svg")):
        assert (tmp_path / one).read_bytes() == (tmp_path / other).read_bytes()
    bad = subprocess.run([*call[:4], "f =~ nothing", "rows.csv"], cwd=tmp_path,
                         capture_output=True, text=True, check=False)  # fmt: skip
    assert bad.returncode != 0
    assert "no column 'nothing'" in bad.stderr
    assert "Traceback" not in bad.stderr
