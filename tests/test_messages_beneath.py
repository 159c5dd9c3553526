"""Messages of functions beneath the face: lower limits, solvers that fail, odd arguments.

Data that reach these from above would be large, or far from any that are at hand.
"""

from __future__ import annotations

from types import SimpleNamespace as Fake

import numpy as np
import pytest
from lies import stored
from scipy.sparse import csc_array
from test_messages_edges import World

import ranef
from ranef import squares
from ranef.errors import ModelError, RanefError
from ranef.inference import refits
from ranef.inference.coefficients import clusters, sandwich
from ranef.inference.draws import resampling
from ranef.inference.effects import posterior
from ranef.inference.linear import LinearInference
from ranef.inference.nested import exact
from ranef.inference.rows import generalised_prediction as prediction
from ranef.inference.rows import history, integration, next_rows, row_functions
from ranef.models import (
    dropout,
    generalised,
    linear,
    marginal_errors,
    marginal_fitting,
    noise,
    structured,
)
from ranef.questions.averages import bootstrap as averages
from ranef.questions.averages import population
from ranef.questions.checks import (
    influence_numbers,
    memory_picture,
    residual_tests,
    simulated_picture,
)
from ranef.questions.explained import partition
from ranef.questions.intervals import bootstrap
from ranef.questions.levels import funnel, level_effects, ranking, ratios
from ranef.questions.means import grid, trends
from ranef.questions.selection import averaging, compare, left_out, searches
from ranef.solve import forecast, iterative
from ranef.solve.marginal.equations import Outside
from ranef.solve.structured import design, kept, moments
from ranef.tables import Table


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return World(tmp_path_factory.mktemp("beneath"))


def robust(world, groups, family=None):
    data = world.data[world.data["g"] < groups]
    formula = "y ~ x + f + t + (1 | g)" if family is None else "c ~ x + f + t + (1 | g)"
    fit = ranef.lmm(formula, data) if family is None else ranef.glmm(formula, data, family=family)
    return ranef.robust(fit)


def memberships(world):
    return world.lmm("y ~ x + (1 | mm(g, k))")


def after_first(count=1):
    """A statistic that the fit has, and no refit."""
    calls = iter(range(10**6))

    def read(fit):
        if next(calls) >= count:
            raise ModelError("no value there")
        return {"a": 1.0}

    return read


WRONG = {
    # inference
    "as many hypotheses as clusters carry": (
        lambda w, m: robust(w, 3).test(np.eye(4)[1:]),
        "3 clusters carry 1.5 degrees of freedom, too few to test 3 hypotheses at once",
    ),
    "more hypotheses than clusters": (
        lambda w, m: robust(w, 3).test(np.eye(4)),
        "3 clusters give a covariance of rank less than the 4 hypotheses: test fewer at a time",
    ),
    "more hypotheses than clusters of counts": (
        lambda w, m: robust(w, 3, "poisson").test(np.eye(4)[1:]),
        "3 clusters are too few to test 3 hypotheses at once",
    ),
    "a large cluster with weights": (
        lambda w, m: (m.setattr(clusters, "LARGEST", 3), ranef.robust(w.lmm(weights="v"))),
        "its covariance is a dense matrix of that order; take smaller clusters",
    ),
    "singular second derivatives": (
        lambda w, m: (m.setattr(sandwich, "cluster_scores", lambda *given: np.ones((6, 3))),
                      m.setattr(sandwich.generalised, "joint_hessian",
                                lambda estimate: (np.zeros((3, 3)), np.arange(3))),
                      sandwich.score_influences(w.counts.estimate, np.zeros(60, dtype=int))),
        "the second derivatives of the likelihood are singular",
    ),
    "draws in which columns depend": (
        lambda w, m: resampling._check_rank(np.ones((5, 2)), ["a", "b"]),
        "the fixed effects depend on each other in the rows drawn",
    ),
    "one level to draw": (
        lambda w, m: (m.setattr(resampling, "FEWEST_LEVELS", 99),
                      resampling.cluster_factor(w.linear.estimate)),
        "'g' has one level: there is nothing to draw from",
    ),
    "an indefinite curvature": (
        lambda w, m: posterior.factorise(csc_array(-np.eye(3))),
        "the second derivatives at their modes are not definite",
    ),
    "residuals across levels": (
        lambda w, m: ranef.shrinkage(
            w.lmm("y ~ x + (1 | h)", w.data.assign(h=np.arange(60) % 4), residual="ar1(t | g)")),
        "are correlated across the levels, so that no level has an estimate of its own",
    ),
    "a restricted likelihood of the mean": (
        lambda w, m: LinearInference.profile_slice(
            Fake(estimate=Fake(reml=True)), Fake(fixed=True)),
        "the restricted likelihood does not depend on the fixed effects",
    ),
    "a zero part of a linear model": (
        lambda w, m: LinearInference.mean_scale(Fake(), "zero"),
        "a linear model has no 'zero' part; use type='response'",
    ),
    "a matrix whose eigenvalues are too many": (
        lambda w, m: exact._check_order(10**6), "is as good: method='mixture'"
    ),
    "statistics of different lengths": (
        lambda w, m: refits._stacked([np.ones(2), np.ones(3)]),
        "the statistic has 2 values for one refit and 3 for another; return as many each time",
    ),
    "contrasts of categories": (
        lambda w, m: prediction.contrasts(
            w.glmm("o ~ x + (1 | g)", "cumulative").estimate, Fake(n=1), np.ones((1, 1))),
        "contrasts of the probabilities of categories are asked for one by one",
    ),
    "an unknown interval": (
        lambda w, m: prediction._check(w.counts.estimate, "typical", "response", "x", 0.9),
        "interval must be 'mean' or 'new', not 'x'",
    ),
    "few draws": (
        lambda w, m: prediction._new(w.counts.estimate, None, None, "typical", 0.9, 10, None),
        "draws must be 100 or more to give quantiles, not 10",
    ),
    "a history beside correlated rows": (
        lambda w, m: history.updated_linear(w.by_clock.estimate, None),
        "history= is not for models whose residuals have a structure",
    ),
    "a history without trials": (
        lambda w, m: history._extended_extra(
            Fake(extra=np.ones(3), family=None), Fake(rows=Fake(extra=None))),
        "the history has no numbers of trials; give the column that the fit read them from",
    ),
    "an integral of four dimensions": (
        lambda w, m: (m.setattr(integration, "defined", lambda *given: None),
                      integration.expectation(Fake(uses=range(4), link=""), np.ones((4, 2)),
                                              np.ones((4, 2)))),
        "random effects enter 4 linear predictors of the mean",
    ),
    "a joint integral of four dimensions": (
        lambda w, m: integration.joint_expectation(
            Fake(uses=range(4), link=""), np.ones((4, 2)), np.tile(np.eye(4), (2, 1, 1))),
        "they can be integrated out of at most 3",
    ),
    "rows that all depend on each other": (
        lambda w, m: (m.setattr(next_rows, "MOST", 1), w.later(w.by_clock, t=20)),
        "rows are correlated with a new one, more than 1",
    ),
    "a link of several parts": (
        lambda w, m: row_functions.predictor_of(w.counts.estimate, "response"),
        "component='response' is a mean of several parts; it has no link",
    ),
    "one unit of several parts": (
        lambda w, m: row_functions.conditional_parts(w.counts.estimate, None, "response"),
        "unit= is for a mean with one linear predictor",
    ),
    # models
    "nobody who drops out": (
        lambda w, m: dropout._logistic(np.ones((5, 1)), np.ones(5), ("(Intercept)",)),
        "the model of dropout separates those who are seen from those who are not",
    ),
    "nominal effects with an offset": (
        lambda w, m: generalised._nominal(Fake(terms=(), offset=np.ones(3), names=())),
        "nominal effects are fixed effects beside the intercept",
    ),
    "a likelihood without a bound": (
        lambda w, m: (m.setattr(linear, "assemble", lambda *given: Fake(
            own=Fake(rest=None), core=Fake(fit=lambda *given: {"criterion": np.inf}))),
            w.lmm()),
        "the likelihood is unbounded: the random effects can reproduce the response exactly",
    ),
    "a mean that does not rest": (
        lambda w, m: (m.setattr(linear, "MOST_TURNS", 0), linear._of_fitted_mean(
            Fake(residual=1, offset=None, X=np.ones((3, 1)), y=np.arange(3.0)),
            *[None] * (linear._of_fitted_mean.__code__.co_argcount - 1))),
        "did not come to rest together; use a column of the table, such as power(x)",
    ),
    "coefficients of one cluster": (
        lambda w, m: (m.setattr(marginal_errors, "influences",
                                lambda *given: Fake(whole=np.ones(1))),
                      marginal_errors.covariance(w.marginal.estimate, "jackknife")),
        "without g 0 a coefficient is not determined; use covariance='robust' or 'fay-graubard'",
    ),
    "means out of range": (
        lambda w, m: (m.setattr(marginal_fitting, "solve", outside),
                      ranef.gee("c ~ x", w.data, groups="g", family="poisson")),
        "no coefficients were found whose means the family can have: under the link 'log'",
    ),
    "residuals without a covariance": (
        lambda w, m: noise._root(np.array([[[1.0, 2.0], [2.0, 1.0]]])),
        "the residuals have no covariance at the parameters of this fit",
    ),
    "one variance where there are several": (
        lambda w, m: noise.refuse_unequal(w.lmm("y ~ x", dispersion="~ f").estimate),
        "differs between rows in this model; ask on the scale of the model (type='link')",
    ),
    "no start of residuals": (
        lambda w, m: (m.setattr(structured, "_searched", lambda *given: None),
                      w.lmm("y ~ x", residual="ar1(t | g)")),
        "positive definite and finite; give a start, or use a simpler structure",
    ),
    # questions
    "averages without refits": (
        lambda w, m: (m.setattr(averages, "_refitted", lambda *given: np.full((200, 0), np.nan)),
                      ranef.average(w.linear, "x", method="bootstrap", n=200)),
        "only 0 of 200 refits succeeded; use method='delta'",
    ),
    "a column that nobody has": (
        lambda w, m: population._column_of(
            Fake(frame=Fake(data=None)), Fake(table=Table.of({"a": [1]})), "x"),
        "neither the fit nor the population has a column 'x' with values to compare; give levels=",
    ),
    "rows that the mean reproduces": (
        lambda w, m: (m.setattr(influence_numbers, "without_rows", lambda *given: None),
                      influence_numbers._stepped(
                          Fake(specification=None, stepped=lambda rows: Fake(r2=0.0)), None, None)),
        "the fixed effects reproduce the other rows",
    ),
    "no two places in a group": (
        lambda w, m: (m.setattr(memory_picture, "pairs_of", lambda *given: Fake(first=())),
                      memory_picture._found(w.by_clock, False, 5)),
        "no group has two rows at different places",
    ),
    "too many places": (
        lambda w, m: (m.setattr(residual_tests, "MOST_PLACES", 3), residual_tests.spatial(
            np.full(5, 0.5), np.arange(5.0), np.ones(5), np.random.default_rng(1))),
        "the spatial test compares all pairs of rows and takes up to 3 of them, here are 5",
    ),
    "a picture of no residuals": (
        lambda w, m: simulated_picture.uniform_quantiles(None, Fake(scaled=np.array([]))),
        "there are no residuals to draw",
    ),
    "a variance without an end": (
        lambda w, m: (m.setattr(partition, "_distribution", lambda *given: (np.inf, "delta", 1.0)),
                      partition.partition(w.counts.estimate)),
        "is not finite, so there is no R2 and no ICC; another method= may have one",
    ),
    "refits that all fail": (
        lambda w, m: ranef.bootstrap(w.linear, 3, statistic=after_first(), n_jobs=1),
        "every refit failed; the first: no value there",
    ),
    "refits of equations that all fail": (
        lambda w, m: ranef.bootstrap(w.paths, 3, statistic=after_first()),
        "every refit failed; the first: the model cannot draw: a covariance matrix between its",
    ),
    "bytes of another model": (
        lambda w, m: bootstrap._loaded(ranef.MetaModelFit, stored("linear")),
        "the bytes sent are not those of a MetaModelFit",
    ),
    "a funnel of nothing": (
        lambda w, m: funnel.funnel(
            Fake(observed=np.zeros(2), expected=np.ones(2)), target=None, levels=(0.95,),
            overdispersion="none", robust="none", share=0.1),
        "the target of a funnel must be a positive ratio; no events occurred?",
    ),
    "rows of several levels": (
        lambda w, m: level_effects.FactorEffects.codes.fget(
            Fake(estimate=Fake(factors=[Fake(members=1, name="club")]), factor=0)),
        "a row may belong to several levels of club",
    ),
    "a ranking of one": (
        lambda w, m: (m.setattr(ranking, "place_of", lambda *given, **more: Fake(
            levels=["a"], group="g")), ranef.rank(w.linear, "g")),
        "'g' has one level: there is nothing to rank",
    ),
    "ratios of a zero part": (
        lambda w, m: ratios._effects(w.glmm("c ~ x", zero="~ 1 + (1 | g)").estimate, 0),
        "the mean of the model has no random effects of 'g'",
    ),
    "a predictor called as the response": (
        lambda w, m: grid.evaluated_grid(
            Fake(response="o", evaluate=lambda *given: Fake(categories=("a", "b"))), None,
            Fake(columns={}, size=1, held=(), variables=(), counts=np.ones(1), names=("o",))),
        "a predictor has the name of the response, 'o'",
    ),
    "a polynomial held at a number": (
        lambda w, m: grid._GridReader.itself(
            Fake(at={"poly(x, 2)": 1.0}), "poly(x, 2)", np.ones((3, 2))),
        "poly(x, 2) has 2 columns; at= takes single numbers",
    ),
    "a slope of what does not move alone": (
        lambda w, m: trends._check_variable(
            Fake(names=("x",), held=("log(x)",),
                 variable=lambda name: Fake(factor=False, values=(1.0,), held=False)), "x"),
        "x enters through log(x), which does not move with it alone; ask for the slope of",
    ),
    "averages of different effects": (
        lambda w, m: averaging.tables(
            [{"estimate": [1.0], "std_error": [1.0]}, {"estimate": [1.0, 2.0],
                                                       "std_error": [1.0, 1.0]}],
            np.full(2, 0.5), "pandas"),
        "the models give different effects, and these cannot be averaged",
    ),
    "folds that failed": (
        lambda w, m: (m.setattr(compare, "scored_folds", lambda *given, **more: Fake(failed=2)),
                      compare._cross_validated([w.linear], None, None, None)),
        "2 folds of one model could not be fitted",
    ),
    "one level to leave out": (
        lambda w, m: compare._left_out([w.linear], "population", np.ones(60)),
        "there is one level of",
    ),
    "rows left out that share too much": (
        lambda w, m: (m.setattr(left_out, "MOST_SHARED", -1), ranef.leave_out(
            w.lmm("y ~ x + (1 | g) + (1 | h)", w.data.assign(h=np.arange(60) // 15)), "g")),
        "random effects with others, and a closed form takes at most -1; leave out levels",
    ),
    "sets left out that are large": (
        lambda w, m: (m.setattr(left_out, "MOST_ROWS", 1), ranef.leave_out(w.linear, "g")),
        "a set of 10 rows is left out together, and a closed form takes at most 1",
    ),
    "no groups to draw": (
        lambda w, m: searches._groups(Fake(factors=()), None),
        "the model has no groups that could be drawn; name a column: by=",
    ),
    "clusters of several memberships": (
        lambda w, m: ranef.robust(memberships(w), cluster="k"),
        "rows may belong to several levels of",
    ),
    # solving
    "a path of correlated rows": (
        lambda w, m: forecast._structured_plan(None, "dense"),
        "a model with a structure of its residuals has one path; leave path out",
    ),
    "gradients that do not arrive": (
        lambda w, m: (m.setattr(iterative, "MOST_STEPS", 1), w.lmm(
            "y ~ x + (1 | g) + (1 | h)", w.data.assign(h=np.arange(60) * 7 % 13),
            path="iterative")),
        "conjugate gradients did not arrive in 1 steps",
    ),
    "another SciPy": (
        lambda w, m: (m.setattr(squares, "_core", Fake(
            has_lapack=lambda: False, set_lapack=other_signature)), squares.use_lapack()),
        "this SciPy cannot be used for large models: dgemm differs; install SciPy from PyPI",
    ),
    "rows connected beyond memory": (
        lambda w, m: (m.setattr(design, "available_memory", lambda: 10),
                      design._check_memory(10**6, 10**4)),
        "the residual structure connects 1,000,000 rows with 10,000 random and fixed effects",
    ),
    "groups beyond memory": (
        lambda w, m: (m.setattr(moments, "available_memory", lambda: 10),
                      moments.check_dense((1, 10**5), 1)),
        "a group of 100,000 rows needs matrices of about",
    ),
    "a point without a covariance": (
        lambda w, m: kept.solved_rows(Unsolved(), np.ones(1), True),
        "the covariance of the rows is not positive definite at this theta",
    ),
}  # fmt: skip


class Unsolved:
    """A problem without a solution."""

    def point(self, *given):
        return None


def outside(*given):
    raise Outside


def other_signature(*given):
    raise ValueError("dgemm differs")


@pytest.mark.parametrize("name", WRONG)
@pytest.mark.filterwarnings("ignore")
def test_it_is_refused_in_words(name, world, monkeypatch):
    call, said = WRONG[name]
    with pytest.raises(RanefError) as caught:
        call(world, monkeypatch)
    assert said in " ".join(str(caught.value).split())
