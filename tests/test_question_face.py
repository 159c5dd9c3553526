"""The face that all questions share: names of methods and columns, and what refusals say."""

import dataclasses
import inspect
import pickle
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import ranef
from ranef.errors import DataError, LevelError, ModelError, UnknownColumnError
from ranef.questions.means.arrows import comparison_arrows


def table(seed=3):
    rng = np.random.default_rng(seed)
    g, x = np.repeat(np.arange(20), 8), rng.normal(size=160)
    arm = np.where(g % 2, "b", "a")
    eta = 0.3 + 0.4 * x + 0.5 * (arm == "b") + rng.normal(scale=0.7, size=20)[g]
    return pd.DataFrame(
        {
            "g": [f"g{k:02d}" for k in g],
            "h": rng.integers(0, 4, 160).astype(str),
            "x": x,
            "arm": arm,
            "time": rng.uniform(1, 5, 160),
            "y": eta + rng.normal(size=160),
            "yes": (rng.random(160) < 1 / (1 + np.exp(-eta))).astype(int),
            "count": rng.poisson(np.exp(eta / 2)),
            "word": np.array(["u", "v", "w"])[rng.integers(0, 3, 160)],
        }
    )


DATA = table()


@pytest.fixture(scope="module")
def linear():
    return ranef.lmm("y ~ x + arm + (1 | g)", DATA)


@pytest.fixture(scope="module")
def binary():
    return ranef.glmm("yes ~ x + arm + (1 | g)", DATA, family="binomial")


@pytest.fixture(scope="module")
def counts():
    return ranef.glmm("count ~ x + offset(log(time)) + (1 | g)", DATA, family="poisson")


ANSWERS = {
    "anova": lambda f, b, c: ranef.anova(f),
    "anova of a generalised model": lambda f, b, c: ranef.anova(b),
    "comparison": lambda f, b, c: ranef.anova(ranef.lmm("y ~ x + (1 | g)", DATA), f),
    "variance_test": lambda f, b, c: ranef.variance_test(f, n=50),
    "emmeans": lambda f, b, c: ranef.emmeans(b, "arm"),
    "contrasts": lambda f, b, c: ranef.contrasts(b, "arm"),
    "emtrends": lambda f, b, c: ranef.emtrends(f, "arm", "x"),
    "joint_tests": lambda f, b, c: ranef.joint_tests(f),
    "average": lambda f, b, c: ranef.average(b, "arm"),
    "marginal": lambda f, b, c: ranef.marginal(b),
    "bootstrap": lambda f, b, c: ranef.bootstrap(f, 5, rng=1),
    "profile": lambda f, b, c: ranef.profile(f),
    "robust": lambda f, b, c: ranef.robust(f),
    "posterior": lambda f, b, c: ranef.posterior(f),
    "rank": lambda f, b, c: ranef.rank(f, n=50),
    "standardized_ratios": lambda f, b, c: ranef.standardized_ratios(c, n=50),
    "funnel": lambda f, b, c: ranef.standardized_ratios(c, n=50).funnel(),
    "simulated_residuals": lambda f, b, c: ranef.simulated_residuals(f, 20),
    "influence": lambda f, b, c: ranef.influence(f, method="one-step"),
    "leverage": lambda f, b, c: ranef.leverage(f),
    "r2": lambda f, b, c: ranef.r2(f),
    "icc": lambda f, b, c: ranef.icc(f),
    "heritability": lambda f, b, c: ranef.heritability(f),
    "collinearity": lambda f, b, c: ranef.collinearity(f),
    "within_between": lambda f, b, c: ranef.within_between(f),
    "check": lambda f, b, c: ranef.check(f, n=50, influence=False),
    "refits": lambda f, b, c: f.refit(f.simulate(2, rng=1)),
}
SPELLINGS = {"p", "pvalue", "p.value", "se", "stderr", "chisq", "F", "t", "z", "lower", "upper"}


@pytest.mark.parametrize("name", ANSWERS)
def test_every_answer_is_frozen_and_shows_and_tidies(name, linear, binary, counts):
    answer = ANSWERS[name](linear, binary, counts)
    assert dataclasses.is_dataclass(answer)
    assert answer.__dataclass_params__.frozen
    found = answer.tidy()
    assert isinstance(found, pd.DataFrame)
    assert len(found)
    assert not hasattr(answer, "table"), "tidy() is the one name"
    assert str(answer.summary()) == repr(answer)
    assert "<div" in answer._repr_html_()
    # z is the funnel's own score, not a test's
    assert not SPELLINGS & (set(found.columns) - ({"z"} if name == "funnel" else set()))


TABLES = {
    "emmeans": ("means",),
    "contrasts": ("contrasts",),
    "emtrends": ("means",),
    "joint_tests": ("tests",),
    "average": ("comparisons", "means", "number_needed"),
    "marginal": ("coefficients",),
    "bootstrap": ("intervals",),
    "profile": ("intervals",),
}


@pytest.mark.parametrize("name", TABLES)
def test_answers_leave_as_tables_for_papers(name, linear, binary, counts):
    answer = ANSWERS[name](linear, binary, counts)
    for table in (None, *TABLES[name]):
        listing = answer.listing(table or TABLES[name][0])
        head = " & ".join(listing.header[listing.labels :]).replace("_", " ")
        assert head.replace("%", r"\%") in answer.to_latex(table=table)
        assert answer.to_html(table=table).count("<tr>") >= len(listing.rows)
        lines = answer.to_markdown(table=table).splitlines()
        assert sum(line.startswith("|") for line in lines) == len(listing.rows) + 2
    with pytest.raises(ModelError, match="table="):
        answer.to_markdown(table="nothing")


def test_fits_to_a_table_and_to_its_complete_rows_compare():
    holes = DATA.copy()
    holes.loc[[3, 50], "x"] = np.nan
    large = ranef.lmm("y ~ x + arm + (1 | g)", holes)
    small = ranef.lmm("y ~ arm + (1 | g)", holes.dropna())
    same = ranef.lmm("y ~ arm + (1 | g)", holes.assign(arm=DATA.arm.mask(holes.x.isna())))
    assert ranef.anova(small, large).tidy().statistic[1] == pytest.approx(
        ranef.anova(same, large).tidy().statistic[1], rel=1e-9
    )
    with pytest.raises(DataError, match="different responses"):
        ranef.anova(ranef.lmm("y ~ arm + (1 | g)", DATA.drop(index=[7, 9])), large)
    with pytest.raises(DataError, match="different rows"):
        ranef.anova(ranef.lmm("y ~ arm + (1 | g)", DATA), large)


def test_a_new_binary_response_needs_no_response(binary):
    new = {"x": [0.0, 1.0], "arm": ["a", "b"], "g": ["g00", "new"]}
    found = binary.predict(new, conf_level=0.9, interval="new")
    assert set(found.conf_low) | set(found.conf_high) <= {0.0, 1.0}
    p = found.estimate.iloc[0]
    assert found.std_error.iloc[0] == pytest.approx(np.sqrt(p * (1 - p)), rel=0.02)
    trials = ranef.glmm("cbind(yes, 3 - yes) ~ x + arm + (1 | g)", DATA, family="binomial")
    with pytest.raises(UnknownColumnError, match="yes"):
        trials.predict(new, conf_level=0.9, interval="new")


def test_numbers_for_categories_are_levels_or_refused(linear):
    new = {"x": [0.0], "arm": [1], "g": ["g00"]}
    with pytest.raises(LevelError, match="arm has a level that the fit has not seen: 1"):
        linear.predict(new)
    dose = DATA.assign(dose=pd.Categorical(np.repeat([1, 2, 4, 8], 40)))
    fit = ranef.lmm("y ~ dose + (1 | h)", dose)
    as_numbers = fit.predict({"dose": [2.0, 8.0], "h": ["0", "1"]})
    as_levels = fit.predict(pd.DataFrame({"dose": pd.Categorical([2, 8]), "h": ["0", "1"]}))
    np.testing.assert_array_equal(as_numbers, as_levels)
    two = ranef.lmm("y ~ dose + (1 | h)", dose[dose.dose.isin([1, 2])])
    np.testing.assert_allclose(
        np.diff(two.predict({"dose": [1, 2], "h": ["0", "0"]})), two.coef["dose2"], rtol=1e-12
    )


def test_text_for_numbers_is_refused(linear):
    with pytest.raises(DataError, match="x holds categories here"):
        linear.predict({"x": ["one"], "arm": ["a"], "g": ["g00"]})


def test_degrees_of_freedom_are_an_argument_of_both_kinds(linear, binary):
    for fit in (linear, binary):
        found = fit.predict(kind="typical", conf_level=0.9, df="normal")
        reach = (found.conf_high - found.conf_low) / 2
        if fit is linear:
            np.testing.assert_allclose(reach, 1.6448536 * found.std_error, rtol=1e-6)
    with pytest.raises(ModelError, match="generalised"):
        binary.predict(conf_level=0.9, df="satterthwaite")
    held = ranef.lmm("y ~ x + arm + (1 | g)", DATA, fixed={"x": 0.4})
    with pytest.raises(ModelError, match="held or equal"):
        held.tidy(df="satterthwaite")


def test_refusals_say_what_to_do(linear, binary):
    with pytest.raises(ModelError, match="unit must be a dict"):
        ranef.emmeans(linear, "arm", unit="g00")
    with pytest.raises(ModelError, match="at must be a dict"):
        ranef.emmeans(linear, "arm", at=["x"])
    with pytest.raises(ModelError, match="at must be a dict"):
        ranef.icc(linear, at="x")
    with pytest.raises(ModelError, match="offset must be a finite number"):
        ranef.emmeans(linear, "arm", offset="0")
    with pytest.raises(ModelError, match="leave response='q' out"):
        ranef.rank(linear, response="q")
    words = ranef.glmm("word ~ x + (1 | g)", DATA, family="multinomial")
    with pytest.raises(ModelError, match="each category has effects of its own; say which"):
        ranef.rank(words)
    with pytest.raises(ModelError, match="alpha must be a number between 0 and 1"):
        ranef.check(linear, alpha=2)
    with pytest.raises(UnknownColumnError, match="by='q'"):
        ranef.check(linear, by="q")
    with pytest.raises(ModelError, match="labels must be a dict"):
        ranef.table(linear, labels=3)
    with pytest.raises(ModelError, match="title must be text"):
        ranef.table(linear, title=3)
    with pytest.raises(ModelError, match="not int"):
        ranef.marginal(3)
    crossed = ranef.glmm("yes ~ x + (1 | g) + (1 | h)", DATA, family="binomial")
    with pytest.raises(ModelError, match=r"Use method='parametric'$"):
        ranef.bootstrap(crossed, 5, method="cluster")


def test_the_equation_of_one_trial_is_bernoulli(binary):
    assert binary.equation().text.startswith("yes[i] ~ Bernoulli(mu[i])\n")
    assert r"\text{Bernoulli}(\mu_i)" in binary.equation().latex
    trials = ranef.glmm("cbind(yes, 3 - yes) ~ x + (1 | g)", DATA, family="binomial")
    assert "~ Binomial(n[i], mu[i])" in trials.equation().text


CODE = re.compile(r"`([^`]+)`")
CALL = re.compile(r"\b(ranef|fit)\.(\w+)(\(([^()]*)\))?")
PAGE = Path(__file__).parent.parent / "docs" / "from-other-software.md"


@pytest.mark.skipif(not PAGE.exists(), reason="the docs are not part of an installation")
def test_calls_named_for_people_of_other_software_exist(linear):
    """Every `ranef.x(...)` and `fit.x(...)` of the page: the name and the keywords."""
    called = [m for code in CODE.findall(PAGE.read_text("utf-8")) for m in CALL.finditer(code)]
    assert len(called) > 50
    for match in called:
        owner, name, _, arguments = match.groups()
        assert hasattr(ranef if owner == "ranef" else linear, name), match.group()
        if arguments:
            known = inspect.signature(getattr(ranef if owner == "ranef" else linear, name))
            for keyword in re.findall(r"(\w+)=", arguments):
                assert keyword in known.parameters, match.group()


@pytest.mark.parametrize("estimate", [[0.0, 0.1], [0.0, 1.0], [1.0, 0.0, np.nan]])
def test_the_arrows_of_two_means_share_their_difference(estimate):
    critical = np.full((len(estimate), len(estimate)), 0.6)
    found = comparison_arrows(np.array(estimate), critical)
    np.testing.assert_allclose(found.left[:2], 0.3, rtol=0.02)
    np.testing.assert_allclose(found.right[:2], 0.3, rtol=0.02)
    assert found.wrong == ()


def test_levels_without_variance_are_said_to_be_ties():
    flat = ranef.lmm("Yield ~ 1 + (1 | Batch)", ranef.data.load("Dyestuff2"))
    for answer in (flat.rank(n=50), ranef.posterior(flat), flat.standardized_ratios(n=50)):
        words = " ".join(str(answer).split())
        assert "The variance of (Intercept) over Batch is estimated as zero" in words
        assert "all are ties" in words
    assert "estimated as zero" not in str(ranef.posterior(ranef.lmm("y ~ x + (1 | g)", DATA)))


@pytest.mark.parametrize("family", ["linear", "binomial", "priors"])
def test_fits_go_through_pickle(family):
    hand = {"functions": {"doubled": doubled}}
    formula = "y ~ doubled(x) + arm + (1 | g)"
    if family == "linear":
        fit = ranef.lmm(formula, DATA, **hand)
    elif family == "priors":
        prior = {"sd": ranef.priors.Gamma(2, 0.1)}
        fit = ranef.lmm(formula, DATA, reml=False, priors=prior, **hand)
    else:
        fit = ranef.glmm(formula.replace("y ~", "yes ~"), DATA, family="binomial", **hand)
    again = pickle.loads(pickle.dumps(fit))
    pd.testing.assert_frame_equal(again.tidy(), fit.tidy())
    pd.testing.assert_frame_equal(again.tidy("random"), fit.tidy("random"))
    new = {"x": [0.5], "arm": ["b"], "g": ["g01"]}
    np.testing.assert_array_equal(again.predict(new), fit.predict(new))


def doubled(x):
    return 2 * x


def test_linear_hypotheses_are_those_of_terms_and_of_wald(linear, binary):
    whole = ranef.anova(linear, df="kenward-roger").tidy().set_index("term")
    found = linear.test("x", df="kenward-roger")
    assert found.statistic == pytest.approx(whole.statistic["x"], rel=1e-10)
    assert found.df2 == pytest.approx(whole.df2["x"], rel=1e-10)
    L, rhs = np.array([[0.0, 1, 0], [0, 1, -1]]), np.array([0.3, 0.1])
    shifted = binary.test(L, rhs)
    gap, V = L @ binary.coef.to_numpy() - rhs, L @ binary.vcov.to_numpy() @ L.T
    assert shifted.statistic == pytest.approx(gap @ np.linalg.solve(V, gap) / 2, rel=1e-8)
    assert (shifted.df1, shifted.df2) == (2, np.inf)
    for owner in (linear, ranef.robust(linear)):
        with pytest.raises(ModelError, match="no coefficient 'armz'; did you mean 'armb'"):
            owner.test(["x", "armz"])
        with pytest.raises(ModelError, match="2 columns but the model has 3 coefficients"):
            owner.test([[1, 2]])
        with pytest.raises(DataError, match=r"rhs has the shape \(2,\); there are 1"):
            owner.test("x", [1, 2])
        with pytest.raises(ModelError, match="a hypothesis is a matrix"):
            owner.test([["a", 1.0, object()]])
    with pytest.raises(ModelError, match="for linear models"):
        binary.test("x", df="satterthwaite")


@pytest.mark.skipif(not PAGE.exists(), reason="the docs are not part of an installation")
def test_every_public_function_is_on_the_api_page():
    listed = (PAGE.parent / "api.md").read_text("utf-8")
    functions = [n for n in ranef.__all__ if inspect.isfunction(getattr(ranef, n))]
    assert len(functions) > 25
    assert [n for n in functions if f"autofunction:: ranef.{n}\n" not in listed] == []


QUESTIONS = [
    name
    for name in ranef.__all__
    if inspect.isfunction(function := getattr(ranef, name))
    and next(iter(inspect.signature(function).parameters), "") == "fit"
]


@pytest.mark.parametrize("name", QUESTIONS)
def test_every_question_of_a_fit_is_its_method_too(name, linear, binary):
    """With the function's own arguments, in its order."""
    function = getattr(ranef, name)
    wanted = list(inspect.signature(function).parameters.values())[1:]
    for fit in (linear, binary):
        method = getattr(fit, name)
        assert list(inspect.signature(method).parameters.values()) == wanted
        assert method.__doc__ == function.__doc__
        assert method.__self__ is fit
        assert name in dir(fit)


def test_a_question_and_its_method_answer_alike(linear, binary):
    assert len(QUESTIONS) >= 22
    pd.testing.assert_frame_equal(linear.anova().tidy(), ranef.anova(linear).tidy())
    pd.testing.assert_frame_equal(
        binary.contrasts("arm").tidy(), ranef.contrasts(binary, "arm").tidy()
    )
    smaller = ranef.lmm("y ~ x + (1 | g)", DATA)
    assert repr(smaller.anova(linear)) == repr(ranef.anova(smaller, linear))
    with pytest.raises(ModelError, match="linear"):
        linear.marginal()


def test_every_name_of_the_face_has_a_home():
    from ranef import api

    for name in set(ranef.__all__) - {"__version__"}:
        found = getattr(ranef, name)
        assert name in dir(ranef)
        assert found.__name__.rpartition(".")[2] == name
        assert getattr(api, name) is found
    with pytest.raises(AttributeError, match="no name 'wrong'"):
        _ = api.wrong
