"""What people type wrongly, and the words that put it right."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import ranef
from ranef.cli import main
from ranef.errors import RanefError

FORMULA = "Reaction ~ Days + (Days | Subject)"


@pytest.fixture(scope="module")
def sleep() -> Any:
    return ranef.data.load("sleepstudy")


def changed(table: Any, **columns: Any) -> Any:
    return table.assign(**columns)


PYTHON: dict[str, tuple[Callable[[Any], Any], str]] = {
    "column": (lambda s: ranef.lmm("Reaction ~ Dayz + (Days | Subject)", s), "mean 'Days'"),
    "group": (lambda s: ranef.lmm("Reaction ~ Days + (1 | Subjct)", s), "mean 'Subject'"),
    "case": (lambda s: ranef.lmm("reaction ~ Days + (1 | Subject)", s), "mean 'Reaction'"),
    "comma for bar": (
        lambda s: ranef.lmm("Reaction ~ Days + (Days , Subject)", s),
        "parted by a bar: (x | g)",
    ),
    "backslash for bar": (
        lambda s: ranef.lmm("Reaction ~ Days + (Days \\ Subject)", s),
        "parted by a bar, (x | g)",
    ),
    "bar without parentheses": (
        lambda s: ranef.lmm("Reaction ~ Days + Days | Subject", s),
        "put a random term in parentheses",
    ),
    "open parenthesis": (
        lambda s: ranef.lmm("Reaction ~ Days + (Days | Subject", s),
        "a ')' is missing",
    ),
    "equals for tilde": (
        lambda s: ranef.lmm("Reaction = Days + (Days | Subject)", s),
        "write ~ between the response and the predictors",
    ),
    "no tilde": (lambda s: ranef.lmm("Reaction + (1 | Subject)", s), "has no '~'"),
    "two tildes": (lambda s: ranef.lmm("Reaction ~ Days ~ (1 | Subject)", s), "has one '~'"),
    "family": (lambda s: ranef.glmm(FORMULA, s, family="binomail"), "mean 'binomial'"),
    "link": (lambda s: ranef.families.Binomial(link="logits"), "mean 'logit'"),
    "family of other numbers": (
        lambda s: ranef.glmm(FORMULA, s, family="binomial"),
        "cbind(success, failure)",
    ),
    "counts with fractions": (
        lambda s: ranef.glmm(FORMULA, s, family="poisson"),
        "poisson needs whole numbers from 0",
    ),
    "keyword": (lambda s: ranef.lmm(FORMULA, s, weigths="Days"), "mean 'weights'"),
    "infinite": (
        lambda s: ranef.lmm(FORMULA, changed(s, Days=[np.inf, *s.Days[1:]])),
        "infinite in 1 row (first in row 0)",
    ),
    "constant response": (
        lambda s: ranef.lmm(FORMULA, changed(s, Reaction=2.0)),
        "is the response constant",
    ),
    "units": (
        lambda s: ranef.lmm(FORMULA, changed(s, Reaction=s.Reaction.astype(str) + " ms")),
        "Take the unit ('ms') away",
    ),
    "all missing": (
        lambda s: ranef.lmm(FORMULA, changed(s, Reaction=np.nan)),
        "no row of 180 is left to use; missing values: Reaction (180)",
    ),
    "length of weights": (
        lambda s: ranef.lmm(FORMULA, s, weights=np.ones(3)),
        "weights has 3 values for 180 rows",
    ),
    "index for a column": (
        lambda s: ranef.lmm(FORMULA, s.set_index("Subject")),
        "table.reset_index()",
    ),
    "path for a table": (lambda s: ranef.lmm(FORMULA, "sleep.csv"), "read 'sleep.csv' first"),
    "path object": (lambda s: ranef.lmm(FORMULA, Path("sleep.csv")), "read 'sleep.csv' first"),
    "nothing for a table": (lambda s: ranef.lmm(FORMULA, None), "data is None"),
    "table before formula": (lambda s: ranef.lmm(s, FORMULA), "the order is formula, then data"),
    "no rows": (lambda s: ranef.lmm(FORMULA, s.iloc[:0]), "the table has no rows"),
    "a name twice": (
        lambda s: ranef.lmm(FORMULA, pd.concat([s, s[["Days"]]], axis=1)),
        "more than one column named 'Days'",
    ),
    "predictor of means": (
        lambda s: ranef.lmm(FORMULA, s).emmeans("Dais"),
        "mean 'Days'",
    ),
    "double bar in two": (
        lambda s: ranef.lmm("Reaction ~ Days + (Days | | Subject)", s),
        "written without a blank: (x || g)",
    ),
    "family as R calls it": (
        lambda s: ranef.glmm(FORMULA, s, family="binomial(logit)"),
        "write family='binomial', link='logit'",
    ),
    "link by its argument": (
        lambda s: ranef.glmm(FORMULA, s, family="poisson(link = 'log')"),
        "write family='poisson', link='log'",
    ),
    "class for a family": (
        lambda s: ranef.glmm(FORMULA, s, family=ranef.families.Poisson),
        "not the class Poisson; call it: Poisson()",
    ),
    "hurdle": (
        lambda s: ranef.glmm(FORMULA, s, family="hurdle poisson"),
        "family='truncated_poisson' with zero='~ 1'",
    ),
    "level of an interval": (
        lambda s: ranef.lmm(FORMULA, s).confint(level=0.9),
        "mean 'conf_level'",
    ),
    "moderators of metafor": (
        lambda s: ranef.meta("yi ~ 1", s, variance="vi", mods="~ year"),
        "moderators stand in the formula",
    ),
    "person of a diary": (
        lambda s: ranef.diary(s, "Reaction", "Days", id="Subject", time="Days"),
        "mean 'person'",
    ),
    "Mplus for lavaan": (lambda s: ranef.sem("f BY a b c", s), "of Mplus are =~, ~ and ~~"),
    "table of a table": (lambda s: ranef.table(s), "takes fits: one, a list, or a dict"),
    "option of a profile": (
        lambda s: ranef.lmm(FORMULA, s).confint(maximum=3),
        "takes no 'maximum'",
    ),
    "column of new rows": (
        lambda s: ranef.lmm(FORMULA, s).predict(s[["Days"]]),
        "no column 'Subject'",
    ),
}


@pytest.mark.parametrize("name", PYTHON)
def test_in_python(sleep: Any, name: str) -> None:
    call, said = PYTHON[name]
    with pytest.raises(RanefError) as caught:
        call(sleep)
    assert said in str(caught.value)


FILES = {
    "sleep.csv": None,
    "euro.csv": "price;x;g\n" + "€ 1,20;1;a\n€ 2,30;2;b\n€ 3,10;3;c\n" * 8,
    "div.csv": "y,x,g\n" + "1.2,1,a\n#DIV/0!,2,b\n3.1,3,c\n2.2,4,a\n2.5,5,b\n" * 8,
    "quote.csv": 'y,x,g\n1,2,"a\n2,3,b\n4,2,c\n' * 8,
}

SHELL = {
    "option": (["fit", FORMULA, "sleep.csv", "--famliy", "poisson"], 2, "mean '--family'"),
    "command": (["fti", FORMULA, "sleep.csv"], 2, "mean 'fit'"),
    "no quotes": (["fit", "Reaction", "~", "Days", "sleep.csv"], 2, "needs quotes"),
    "euro signs": (["fit", "price ~ x + (1 | g)", "euro.csv"], 2, "a sum of money"),
    "#DIV/0!": (["fit", "y ~ x + (1 | g)", "div.csv"], 2, "--na='#DIV/0!'"),
    "open quotation mark": (
        ["fit", "y ~ x + (1 | g)", "quote.csv"], 2, "is a quotation mark not closed?",
    ),
    "folder of results": (
        ["fit", FORMULA, "sleep.csv", "--out", "nowhere/x.csv"], 3, "no folder 'nowhere'",
    ),
    "file": (["fit", FORMULA, "slep.csv"], 3, "mean 'sleep.csv'"),
    "folder": (["fit", FORMULA, "data/sleep.csv"], 3, "no folder 'data'"),
    "table first": (["fit", "sleep.csv", FORMULA], 2, "the formula comes first"),
    "column": (["fit", "Reaction ~ Dais + (1 | Subject)", "sleep.csv"], 2, "mean 'Days'"),
    "weights": (["fit", FORMULA, "sleep.csv", "--weights", "wt"], 2, "no column 'wt' for weights"),
}  # fmt: skip


@pytest.mark.parametrize("name", SHELL)
def test_on_the_command_line(
    sleep: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str], name: str,
) -> None:  # fmt: skip
    arguments, code, said = SHELL[name]
    monkeypatch.chdir(tmp_path)
    for file, text in FILES.items():
        if text is None:
            sleep.to_csv(file, index=False)
        else:
            Path(file).write_text(text, encoding="utf-8")
    assert main(arguments) == code
    assert said in capsys.readouterr().err


def test_a_decimal_comma_is_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, out = tmp_path / "comma.csv", tmp_path / "fixed.csv"
    rng = np.random.default_rng(2)
    table = pd.DataFrame({"y": rng.normal(size=60), "x": range(60), "g": list("abcde") * 12})
    table.to_csv(path, index=False, sep=";", decimal=",")
    assert main(["fit", "y ~ x + (1 | g)", str(path), "--quiet", "--out", str(out)]) == 0
    expected = ranef.lmm("y ~ x + (1 | g)", table).coef
    np.testing.assert_allclose(pd.read_csv(out)["estimate"], expected, rtol=1e-6)


def test_half_of_a_column_missing_is_counted(sleep: Any) -> None:
    table = sleep.copy()
    table.loc[::2, "Reaction"] = np.nan
    said = str(ranef.lmm(FORMULA, table))
    assert "90 of 180 rows" in said or "90 rows" in said
    assert "Reaction" in said


NAMES = {
    "isContaminant": (ranef.metagenomics, "ranef.metagenomics.screen(counts, sheet)"),
    "SecondLevelModel": (ranef.imaging, "ranef.imaging.MixedEffectsSecondLevel"),
    "screem": (ranef.metagenomics, "did you mean 'screen'?"),
    "scna": (ranef.gwas, "did you mean 'scan'?"),
    "cAIC": (ranef, "ranef.compare(fits, focus='individual')"),
}


@pytest.mark.parametrize("name", NAMES)
def test_names_in_sub_packages(name: str) -> None:
    module, said = NAMES[name]
    with pytest.raises(AttributeError) as caught:
        getattr(module, name)
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("cAIC", "focus='individual'"),
        ("isSingular", "optimum.singular"),
        ("cld", "contrasts"),
        ("logLik", "did you mean 'loglik'?"),
    ],
)
def test_names_of_fits(sleep: Any, name: str, said: str) -> None:
    with pytest.raises(AttributeError) as caught:
        getattr(ranef.lmm(FORMULA, sleep), name)
    assert said in str(caught.value)


def test_tables_of_models_take_decimals_and_the_apa(sleep: Any) -> None:
    fit = ranef.lmm(FORMULA, sleep)
    plain = ranef.table(fit).to_markdown()
    apa = ranef.table(fit, digits=1, style="apa").to_markdown()
    assert "| Days | 10.47 | 7.21 to 13.73 | < 0.0001 |" in plain
    assert "| Days | 10.5 | 7.2 to 13.7 | < .001 |" in apa
    assert "1755.63" in apa
    for wrong in ({"digits": -1}, {"digits": "two"}, {"style": "vancouver"}):
        with pytest.raises(RanefError):
            ranef.table(fit, **wrong)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("simulate", "no distribution to draw from"),
        ("loglik", "has no likelihood"),
        ("AIC", "fit.criteria()"),
        ("QIC", "fit.criteria()"),
    ],
)
def test_what_a_gee_has_not(name: str, said: str) -> None:
    ohio = ranef.data.load("ohio")
    fit = ranef.gee("resp ~ age", ohio, groups="id", family="binomial")
    with pytest.raises(AttributeError) as caught:
        getattr(fit, name)
    assert said in str(caught.value)


def test_a_mean_that_a_latent_variable_does_not_use() -> None:
    ohio = ranef.data.load("ohio")
    fit = ranef.glmm("resp ~ age + (1 | id)", ohio, family="binomial", quadrature=5)
    with pytest.raises(RanefError, match="does not depend on the mean: leave mean= out"):
        ranef.r2(fit, mean=0.2)
    assert ranef.r2(fit, mean=0.2, method="delta").parts.residual > 0
