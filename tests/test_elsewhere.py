"""Names that people bring from other packages are answered by those of ranef."""

from __future__ import annotations

import copy
import inspect
import pickle
import re
from typing import Any

import pytest

import ranef
from ranef.elsewhere import explained
from ranef.elsewhere.arguments import ADVICE
from ranef.elsewhere.attributes import ATTRIBUTES
from ranef.elsewhere.formulas import FORMULA as WRITTEN
from ranef.elsewhere.functions import FUNCTIONS
from ranef.errors import ArgumentError, ModelError, RanefError, UnknownColumnError
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
        explained(asks)(1)
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
    with pytest.raises(
        ArgumentError, match=r"needs model and test as well: .*formula is called 'model'"
    ):
        ranef.power(formula="y ~ x + (1 | g)", design={"g": 8})


@pytest.mark.parametrize(
    ("function", "named", "said"),
    [
        ("missing_patterns", {"id": "a"}, "did you mean 'subject'?"),
        ("missing_patterns", {"treatment": "a"}, "did you mean 'arm'?"),
        ("two_stories", {"person": "a"}, "did you mean 'by'?"),
        ("decompose", {"groups": "a"}, "it takes table, columns, by, used"),
        ("diary", {"participant": "a"}, "did you mean 'person'?"),
        ("lmm", {"id": "a"}, "grouping factors stand in the formula"),
    ],
)
def test_advice_on_formulas_is_for_functions_that_take_one(
    function: str, named: dict[str, Any], said: str
) -> None:
    with pytest.raises(ArgumentError) as caught:
        getattr(ranef, function)({}, "y", **named)
    assert said in str(caught.value)


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
    texts = [
        *FUNCTIONS.values(), *ATTRIBUTES.values(), *WRITTEN.values(), *ADVICE.values()
    ]  # fmt: skip
    faces: tuple[Any, ...] = (
        ranef.LinearMixedModelFit, ranef.MarginalModelFit, ranef.MetaModelFit,
        ranef.StructuralModelFit,
    )  # fmt: skip
    for text in texts:
        for name in re.findall(r"ranef\.([\w.]+)", text):
            found: Any = ranef
            for part in name.rstrip(".").split("."):
                found = getattr(found, part)
        for name in re.findall(r"\bfit\.(\w+)", text):
            assert any(hasattr(face, name) for face in faces) or name in STATED, (name, text)


STATED = {"family", "optimum", "theta", "vcov", "coef", "formula"}
"""What a fit carries by itself, and not by its class."""


@pytest.mark.parametrize(
    ("formula", "said"),
    [
        ("distance ~ age + s(age) + (1 | Subject)", "ns(x, 3); mgcv's s(g, bs='re') is (1 | g)"),
        ("distance ~ age + s(Subject, bs='re')", "for s(): mgcv's s(g, bs='re') is (1 | g)"),
        ("distance ~ age + Error(Subject)", "for Error(): a random intercept is (1 | g)"),
        ("distance ~ age + (1/Subject)", "parted by a bar, (1 | Subject)"),
        ("distance ~ zscore(age) + (1 | Subject)", "did you mean 'scale'?"),
        ("distance ~ ln(age) + (1 | Subject)", "did you mean 'log'?"),
        ("distance ~ rcs(age, 3) + (1 | Subject)", "natural splines are ns(x, 3)"),
        ("distance ~ I(age - mean(age)) + (1 | Subject)", "center(x) subtracts the mean"),
        ("distance ~ age - mean(age) + (1 | Subject)", "a term that the formula does not have"),
        ("distance ~ age + zerocorr(age | Subject)", "uncorrelated random effects are (x || g)"),
        ("distance ~ age + (1 | gr(Subject, by=Sex))", "the group stands alone: (1 | g)"),
        ("distance ~ age + (1 | Sex %in% Subject)", "Sex %in% Subject is Subject:Sex"),
        ("distance ~ age + (1 | 'Subject')", "a column's name has no quotes"),
        ("distance | weights(age) ~ Sex + (1 | Subject)", "weights='column'"),
        ("distance ~ i.Sex + (1 | Subject)", "a column read as categories is factor(Sex)"),
        ("distance ~ c.age + (1 | Subject)", "a column of numbers stands by its own name, age"),
        ("distance ~ L.age + (1 | Subject)", "lag(age, g, time = t)"),
        ("distance ~ age.Sex + (1 | Subject)", "the interaction of age and Sex is age:Sex"),
        ("distance ~ age & Sex + (1 | Subject)", "an interaction is a:b"),
        ("distance ~ Sex##age + (1 | Subject)", "an interaction is a:b"),
        ("distance ~ lag(age, 1, Subject) + (1 | Subject)", "lag(age, g, time = t, n = 1)"),
        ("distance ~ within(age) + (1 | Subject)", "within() needs 'g': within(x, g)"),
        ("bf(distance ~ age + (1 | Subject))", "stands alone, without bf(...)"),
        ("distance \u223c age + (1 | Subject)", "it looks like '~'"),
        ("distance ~ age + (1 \u2502 Subject)", "it looks like '|'"),
        ("distance ~ age \u00d7 Sex + (1 | Subject)", "it looks like '*'"),
        ("distance ~ age \u2013 Sex + (1 | Subject)", "it looks like '-'"),
        ("distance ~ age + (1 | Subject);", "a formula is one expression"),
    ],
)
def test_formulas_of_other_packages(formula: str, said: str) -> None:
    with pytest.raises(RanefError) as caught:
        ranef.lmm(formula, ranef.data.load("Orthodont"))
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("formula", "named"),
    [
        ("distance ~ center(age) + within(age, Subject) + (1 | Subject)", {}),
        ("distance ~ between(age, Subject) + (1 | Subject)", {}),
        ("distance ~ age + (1 | mm(Subject, other))", {}),
        ("distance ~ exp(0 + t | Subject)", {}),
        ("distance ~ age + homdiag(0 + Sex | Subject)", {}),
        ("distance ~ age + (0 + Sex || Subject)", {}),
        ("distance ~ lag(age, Subject, time = t, n = 1) + (1 | Subject)", {}),
        ("distance ~ age + I(pmax(age - 10, 0)) + (1 | Subject)", {}),
        ("distance ~ ns(age, 3) + ifelse(age > 10, 1, 0) + (1 | Subject)", {}),
        ("distance ~ age", {"residual": "ou(t | Subject)"}),
        ("distance ~ age", {"residual": "cs(t | Subject)"}),
        ("distance ~ age", {"residual": "ar1(t | Subject)"}),
    ],
)
@pytest.mark.filterwarnings("ignore")
def test_what_the_answers_write_can_be_written(formula: str, named: dict[str, Any]) -> None:
    data = ranef.data.load("Orthodont")
    data = data.assign(t=(data["age"] - 8) / 2, other=data["Subject"])
    assert ranef.lmm(formula, data, **named).n_obs > 50


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("gam", "penalised splines are not part of ranef"),
        ("stan_lmer", "ranef.lmm and ranef.glmm take priors="),
        ("MixedModel", "ranef.lmm(formula, data)"),
        ("mepoisson", "ranef.glmm with family='poisson'"),
        ("xtreg", "ranef.lmm with (1 | g)"),
        ("GENLINMIXED", "ranef.glmm"),
        ("aov_ez", "ranef.anova(fit)"),
        ("polr", "family='cumulative'"),
        ("glmer.nb", "family='nbinom2'"),
        ("BIC", "fit.bic"),
        ("tab_model", "ranef.table([a, b])"),
        ("rma.uni", "ranef.meta"),
        ("plink2", "ranef.gwas.scan"),
        ("flameo", "ranef.imaging.MixedEffectsSecondLevel"),
        ("modindices", "modification_indices()"),
        ("read_model", "ranef.load(path)"),
        ("GridSearchCV", "ranef.sklearn.MixedModel"),
        ("dredge", "ranef.subsets"),
    ],
)
def test_functions_of_other_packages(name: str, said: str) -> None:
    with pytest.raises(AttributeError) as caught:
        getattr(ranef, name)
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("std_errors", "fit.bse"),
        ("tstat", "fit.tvalues"),
        ("rsquared_adj", "fit.r2()"),
        ("getME", "fit.augment()"),
        ("REMLcrit", "fit.deviance"),
        ("qqnorm", "fit.plot.qq()"),
        ("get_margeff", "fit.average('x')"),
        ("lincom", "fit.test('x = 1')"),
        ("hatvalues", "fit.leverage()"),
        ("to_pickle", "fit.save(path)"),
        ("refitML", "reml=False"),
        ("pp_check", "fit.simulated_residuals()"),
    ],
)
def test_attributes_of_other_fits(fit: Any, name: str, said: str) -> None:
    with pytest.raises(AttributeError) as caught:
        getattr(fit, name)
    assert said in str(caught.value)


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
