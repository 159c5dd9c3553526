"""Names that people bring from other packages are answered by those of ranef."""

from __future__ import annotations

import copy
import inspect
import pickle
from typing import Any

import pytest

import ranef
from ranef import elsewhere
from ranef.errors import ArgumentError, ModelError, UnknownColumnError
from ranef.families.vocabulary import _ELSEWHERE, _WORDS, FAMILIES, family

FORMULA = "Reaction ~ Days + (Days | Subject)"


@pytest.fixture(scope="module")
def sleep() -> Any:
    return ranef.data.load("sleepstudy")


@pytest.fixture(scope="module")
def fit(sleep: Any) -> Any:
    return ranef.lmm(FORMULA, sleep)


@pytest.mark.parametrize(
    ("named", "said"),
    [
        ({"family": "poisson"}, "use ranef.glmm(formula, data, family=...)"),
        ({"ziformula": "~1"}, "zero inflation belongs to ranef.glmm"),
        ({"groups": "Subject"}, "grouping factors stand in the formula"),
        ({"ci": 0.9}, "fit.tidy(conf_level=...)"),
        ({"null": 0}, "contrasts(..., null=)"),
        ({"REML": False}, "did you mean 'reml'?"),
        ({"correlation": "ar1"}, "did you mean 'residual'?"),
        ({"weigths": "w"}, "did you mean 'weights'?"),
        ({"na_action": "drop"}, "did you mean 'missing'?"),
        ({"subset": "x > 1"}, "choose the rows of the table before"),
    ],
)
def test_arguments_of_lmm(sleep: Any, named: dict[str, Any], said: str) -> None:
    with pytest.raises(ArgumentError) as caught:
        ranef.lmm(FORMULA, sleep, **named)
    assert f"lmm() takes no argument {next(iter(named))!r}" in str(caught.value)
    assert said in str(caught.value)
    assert isinstance(caught.value, TypeError)


@pytest.mark.parametrize(
    ("question", "arguments", "named", "said"),
    [
        ("emmeans", ("Days",), {"ci": 0.9}, "did you mean 'conf_level'?"),
        ("tidy", (), {"level": 0.9}, "did you mean 'conf_level'?"),
        ("bootstrap", (), {"nsim": 10}, "did you mean 'n'?"),
        ("bootstrap", (), {"seed": 1}, "did you mean 'rng'?"),
        ("predict", (), {"re_form": None}, "did you mean 'kind'?"),
        ("predict", (), {"newdata": None}, "did you mean 'new'?"),
        ("anova", (), {"ddf": "Kenward-Roger"}, "did you mean 'df'?"),
    ],
)
def test_arguments_of_questions(
    fit: Any, question: str, arguments: tuple[Any, ...], named: dict[str, Any], said: str
) -> None:
    with pytest.raises(ArgumentError) as caught:
        getattr(fit, question)(*arguments, **named)
    assert said in str(caught.value)


def test_errors_from_within_a_function_stay_theirs(sleep: Any) -> None:
    def broken(x: Any) -> Any:
        raise TypeError("mine")

    def asks(fit: Any) -> None:
        raise TypeError("mine too")

    with pytest.raises(TypeError, match="mine too"):
        elsewhere.explained(asks)(1)
    with pytest.raises(Exception, match="mine"):
        ranef.lmm("Reaction ~ f(Days) + (1 | Subject)", sleep, functions={"f": broken})


def test_missing_arguments_and_too_many_places(fit: Any) -> None:
    with pytest.raises(ArgumentError, match=r"needs data as well: lmm\(formula, data, \.\.\.\)"):
        ranef.lmm("y ~ x")
    with pytest.raises(
        ArgumentError, match=r"needs groups as well: gee\(formula, data, groups=\.\.\."
    ):
        ranef.gee("y ~ x", {})
    with pytest.raises(TypeError, match="takes formula, data by position, and other arguments by"):
        ranef.lmm("y ~ x", {}, "ar1(t | g)")
    with pytest.raises(ArgumentError, match=r"needs L as well: test\(L, "):
        fit.test()


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("lmer", "lme4's lmer is ranef.lmm"),
        ("glmer", "ranef.glmm"),
        ("glmmTMB", "ranef.glmm"),
        ("pairs", "ranef.contrasts"),
        ("VarCorr", "fit.tidy('variance')"),
        ("geeglm", "ranef.gee"),
        ("emmean", "did you mean 'emmeans'?"),
    ],
)
def test_functions(name: str, said: str) -> None:
    with pytest.raises(AttributeError) as caught:
        getattr(ranef, name)
    assert said in str(caught.value)


def test_attributes_of_a_fit(fit: Any) -> None:
    with pytest.raises(AttributeError, match=r"fit\.coef"):
        fit.fixef  # noqa: B018
    with pytest.raises(AttributeError, match="did you mean 'loglik'"):
        fit.loglikk  # noqa: B018
    assert not hasattr(fit, "predict_proba")
    assert copy.copy(fit).loglik == pickle.loads(pickle.dumps(fit)).loglik == fit.loglik


def test_a_function_of_the_face_is_itself() -> None:
    """It keeps its signature, and a copy in another process is the same function."""
    assert list(inspect.signature(ranef.lmm).parameters)[:2] == ["formula", "data"]
    assert pickle.loads(pickle.dumps(ranef.emmeans)) is ranef.emmeans


def test_every_hint_names_what_exists() -> None:
    """A hint that sends people to a name that is not there is worse than none."""
    import re

    texts = [*elsewhere._FUNCTIONS.values(), *elsewhere._ADVICE.values()]
    texts += elsewhere._ATTRIBUTES.values()
    for text in texts:
        for name in re.findall(r"ranef\.([\w.]+)", text):
            found: Any = ranef
            for part in name.rstrip(".").split("."):
                found = getattr(found, part)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("negative binomial", "did you mean 'nbinom2'?"),
        ("Negative-Binomial", "did you mean 'nbinom2'?"),
        ("zip", "family='poisson' with zero='~ 1'"),
        ("ZINB", "family='nbinom2' with zero='~ 1'"),
        ("hurdle", "family='truncated_poisson'"),
        ("quasipoisson", "'nbinom1'"),
        ("probit", "ranef.families.Binomial(link='probit')"),
        ("logistic", "did you mean 'binomial'?"),
        ("nb", "did you mean 'nbinom2'?"),
    ],
)
def test_families(name: str, said: str) -> None:
    with pytest.raises(ModelError) as caught:
        family(name)
    assert said in str(caught.value)


def test_hints_of_families_name_families() -> None:
    assert set(_ELSEWHERE.values()) <= set(FAMILIES)
    assert not set(_WORDS) & set(_ELSEWHERE)


@pytest.fixture(scope="module")
def odd(sleep: Any) -> Any:
    return sleep.rename(columns={"Reaction": "Reaktionszeit (ms)", "Subject": "School ID"}).assign(
        **{"Income ($)": sleep.Days.astype(float), "pre-post": sleep.Days}
    )


@pytest.mark.parametrize(
    "formula",
    [
        "Reaktionszeit (ms) ~ Days + (Days | School ID)",
        "`Reaktionszeit (ms)` ~ Days + (Days | School ID)",
        "Reaktionszeit (ms) ~ pre-post + (pre-post | School ID)",
        "Reaktionszeit (ms) ~ Income ($) + (Income ($) | School ID)",
    ],
)
def test_columns_without_backticks(odd: Any, fit: Any, formula: str) -> None:
    found = ranef.lmm(formula, odd)
    assert found.loglik == pytest.approx(fit.loglik, rel=1e-12)
    assert found.response.strip("`") == "Reaktionszeit (ms)"


def test_columns_without_backticks_elsewhere(odd: Any, sleep: Any) -> None:
    one = ranef.gee("Reaktionszeit (ms) ~ Days", odd, groups="School ID")
    two = ranef.gee("Reaction ~ Days", sleep, groups="Subject")
    assert list(one.coef) == list(two.coef)
    parts = ranef.decompose(odd, "Income ($)", "School ID")
    assert "Income ($)_within" in parts
    logged = ranef.lmm("log(Reaktionszeit (ms)) ~ Days + (1 | School ID)", odd)
    assert logged.loglik == ranef.lmm("log(Reaction) ~ Days + (1 | Subject)", sleep).loglik


def test_a_formula_that_reads_otherwise_stays(sleep: Any) -> None:
    table = sleep.assign(**{"log (Days)": 1.0, "a": sleep.Days, "b": sleep.Days**2, "a-b": 1.0})
    found = ranef.lmm("Reaction ~ a + b + a-b + (1 | Subject)", table)
    assert list(found.coef.index) == ["(Intercept)", "a"]


def test_a_misspelt_column_with_parentheses(odd: Any) -> None:
    with pytest.raises(UnknownColumnError, match=r"did you mean 'Reaktionszeit \(ms\)'"):
        ranef.lmm("Reaktionzeit(ms) ~ Days + (1 | School ID)", odd)
