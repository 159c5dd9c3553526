"""Messages of structural equations, diaries, dynamic models, saved files and selection, inside."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace as Fake

import numpy as np
import pandas as pd
import pytest
from lies import changed
from test_messages_edges import World
from test_messages_saved import array

import ranef
from ranef.design import evaluate, random
from ranef.errors import FormulaError, ModelError, RanefError
from ranef.fields.diary import compliance
from ranef.fields.dynamic import fitting
from ranef.fields.dynamic import resampling as redrawing
from ranef.fields.dynamic import storing as stored_series
from ranef.fields.structural import (
    core,
    expected,
    measures,
    posterior,
    quadrature,
    resampling,
    sem,
    storing,
)
from ranef.models import marginal_shapes
from ranef.questions.selection import generalised_importance, importance, searches, unseen
from ranef.storage import checks, saving
from ranef.tables.origin import Origin


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return World(tmp_path_factory.mktemp("inside"))


def unwell(*given, **more):
    raise ModelError("no value there")


def series(**columns):
    rng = np.random.default_rng(2)
    table = pd.DataFrame({"person": np.repeat(range(8), 8), "beep": np.tile(range(8), 8)})
    return table.assign(mood=rng.normal(size=64), **columns)


def dynamic(data=None, **how):
    given = {"residual": "ar1(beep | person)", **how}
    return ranef.dynamic("mood ~ 1 + (1 | person)", series() if data is None else data, **given)


def two_levels(world, **how):
    data = world.data.assign(x=world.data["x"].where(world.data.index != 4))
    return ranef.sem(
        "level: 1\n y ~~ x\nlevel: 2\n y ~~ x", data, cluster="g", missing="fiml", **how
    )


def information(estimate):
    return expected.information_given_missing(estimate.model.main, estimate.theta)


def lost_units(m):
    """A unit of a level whose likelihood has no value."""
    kernel = Fake(posterior=lambda parts, k: (np.full((1, 1), np.nan), np.ones((1, 1, 1))))
    problem = Fake(
        coordinates=Fake(unseen=[None]), kernel=kernel,
        mixture=lambda theta: [(1.0, Fake(flat=None), None)],
    )  # fmt: skip
    m.setattr(posterior, "_problem", lambda *given: problem)
    group = Fake(data=Fake(levels=[Fake(z=np.ones((1, 0)))]))
    model = Fake(table=Fake(names={(0, 2): Fake(latent=("f",))}), main=Fake(groups=[group]))
    return posterior._of_units(Fake(model=model, theta=np.ones(1)), 0, 2)


def stored_units(**lies):
    given = {
        "group": np.zeros(3, dtype=int), "groups": ("",), "columns": np.ones((1, 3)),
        "names": ("y",), "clusters": (np.array([0, 0, 1]),), "labels": (("a", "b"),),
        "request": Fake(cluster=("g",)),
    }  # fmt: skip
    return storing.StoredStructuralModel._check(Fake(**{**given, **lies}))


def stored_value(m):
    def failing(theta):
        raise ValueError

    own = Fake(end=Fake(theta=np.ones(1), value=1.0))
    return storing.StoredStructuralModel._check_value(own, Fake(main=Fake(value=failing)))


def read(kind, change):
    return saving.from_bytes(changed(kind, change))


def no_covariance(m):
    from ranef.models.meta import MetaModel

    own = read("nested studies", lambda head, arrays: None).estimate
    m.setattr(type(own.model.problem), "at", lambda *given, **more: None)
    assert isinstance(own.model, MetaModel)
    return checks.check_meta(own)


def far_draws():
    lost = Fake(estimate=Fake(coefficients=np.ones(1)), densities=lambda *given: None)
    return generalised_importance._Blocks._round(
        lost, 4, np.ones(2), np.eye(2), np.random.default_rng(1)
    )


def search_that_fails(world):
    own = Fake(
        fit=world.linear, data=world.data, library="pandas", procedure=unwell
    )  # fmt: skip
    return searches.Search.bootstrap(own, 3)


def of_a_kernel():
    term = Fake(kernel=np.eye(2), factor=0, z=np.ones((2, 1)))
    factor = Fake(codes=np.array([0, 1]), name="g")
    return unseen.Trained._unseen(
        Fake(whole=Fake(terms=[term], factors=[factor]), keep=np.array([0])), np.array([1]), None
    )


def no_shapes(world):
    family = ranef.families.Gamma()
    y = np.array([1.0, -2.0, 3.0])
    return marginal_shapes.likeliest_shapes(family, y, np.zeros(3), None, None)


KERNEL = [Fake(kernel=np.eye(2))]
WRONG = {
    # structural equations
    "a path of a model": (
        lambda w, m: ranef.sem(Path("model.txt"), w.data),
        "the model is text, and 'model.txt' is the path of a file: read it first",
    ),
    "an open bracket": (
        lambda w, m: ranef.sem("f =~ y + c(1, 2*x + c", w.data), "a bracket is not closed in"
    ),
    "pairs of one and two": (
        lambda w, m: ranef.sem("MODEL: f BY y x c; y x PON c;", w.data),
        "PON and PWITH pair variables, and 2 stand on the left and 1 on the right of",
    ),
    "one predictor of equations": (
        lambda w, m: core.StructuralFit.values(Fake(), None, None),
        "has no linear predictor of one response; predict() gives expectations",
    ),
    "expected information of slopes": (
        lambda w, m: (m.setattr(expected, "latent_slopes", lambda *given: True),
                      expected.information_given_missing(
                          Fake(groups=[Fake(g=0)], table=None), np.ones(1))),
        "information='expected' is of models without random slopes of latent variables",
    ),
    "expected information of large units": (
        lambda w, m: (m.setattr(expected, "MOST_VALUES", 1),
                      m.setattr(expected, "is_plain", lambda group: False),
                      information(two_levels(w).estimate)),
        "values of one unit; it takes 1 at most. Use 'observed'",
    ),
    "no unrestricted model of slopes": (
        lambda w, m: measures.Comparisons.saturated_problem.func(
            Fake(model=Fake(has_slopes=True))),
        "a model with random slopes has no unrestricted model to be compared with",
    ),
    "units without a likelihood": (
        lambda w, m: lost_units(m), "the likelihood has no value at the estimates"
    ),
    "too many nodes": (
        lambda w, m: quadrature.QuadratureProblem._spent(
            Fake(nodes=15, names=("s",), data=Fake(levels=[Fake(z=np.ones(9))])), 10**12),
        "15 nodes for each of 1 latent slopes and 9 units are too many; take a smaller quadrature=",
    ),
    "draws of estimates without a covariance": (
        lambda w, m: resampling.drawn_estimates(
            Fake(covariance=np.full((1, 1), np.nan)), 1, np.random.default_rng(1)),
        "the estimates have no covariance matrix to draw from",
    ),
    "samples that cannot be fitted": (
        lambda w, m: (m.setattr(resampling, "resampled", unwell),
                      resampling.bootstrapped(Fake(model=Fake(request=None)), 3, None)),
        "only 0 of 3 bootstrap samples could be fitted",
    ),
    "a redrawn table without a likelihood": (
        lambda w, m: (
            m.setattr(resampling, "resampled", lambda *given: None),
            m.setattr(resampling, "Model", lambda *given: None),
            m.setattr(resampling, "estimated", lambda *given: Fake(end=Fake(value=np.inf))),
            resampling.redrawn(Fake(estimate=Fake(
                model=Fake(request=None, threads=1), theta=None)), "cluster", None)),
        "the likelihood has no value",
    ),
    "predictions of slopes": (
        lambda w, m: resampling.predicted(
            Fake(estimate=Fake(model=Fake(has_slopes=True, values=None))), None, None),
        "predict() gives expectations under one covariance matrix",
    ),
    "no start of equations": (
        lambda w, m: (m.setattr(sem, "estimated", lambda *given: Fake(end=Fake(value=np.inf))),
                      ranef.sem("factor =~ y + x + c + v", w.data)),
        "the likelihood has no value at any start that was tried: look for variables that are sums",
    ),
    "stored columns of other rows": (
        lambda w, m: stored_units(columns=np.ones((1, 2))), "the columns do not fit the rows"
    ),
    "stored units of other levels": (
        lambda w, m: stored_units(labels=()), "the units do not fit the model"
    ),
    "stored units of other rows": (
        lambda w, m: stored_units(clusters=(np.array([0, 0, 7]),)), "the units do not fit the rows"
    ),
    "stored columns of another model": (
        lambda w, m: stored_value(m), "the columns do not fit the model"
    ),
    # diaries and dynamic models
    "prompts of unknown days": (
        lambda w, m: compliance._by_day(Fake(study_day=None), 5, "person", 1),
        "scheduled= as a number of prompts a day needs days: give day=",
    ),
    "a diary without times": (
        lambda w, m: ranef.diary(
            series(stress=1.0, at=np.nan), "mood", "stress", person="person", time="at"),
        "no row has both person and at; are the columns the right ones?",
    ),
    "too many effects for quadrature": (
        lambda w, m: (m.setattr(fitting, "MOST_EFFECTS", 0),
                      dynamic(inertia="~ 1 + (1 | person)")),
        "1 random effects of inertia and dispersion are too many for quadrature, which takes 0",
    ),
    "times between the beeps": (
        lambda w, m: (m.setattr(fitting, "order_of", lambda parts: (None, np.array([.5]), False)),
                      fitting.check_process({}, "beep", False)),
        "ar1() needs whole numbers as times",
    ),
    "series of one row": (
        lambda w, m: fitting._check(
            Fake(persons=2, gap=np.zeros(2), y=np.arange(2.0)),
            {"conditional": Fake(residual=Fake(label="ar1(beep | person)"))}),
        "no series has two rows, so there is nothing to remember",
    ),
    "drawn series without a likelihood": (
        lambda w, m: (
            m.setattr(redrawing, "problem_of", lambda *given: Fake(problem=None)),
            m.setattr(redrawing, "started", lambda *given: None),
            m.setattr(redrawing, "search", lambda *given: Fake(loglik=np.nan)),
            redrawing._again(Fake(layout=None, memory=None, given_starts=False,
                                  end=Fake(points=1, theta=None)), {})),
        "the likelihood has no value at the data drawn",
    ),
    "stored times of other rows": (
        lambda w, m: stored_series.check_estimate(Fake(
            memory=next(iter(stored_series.LINKS.values())),
            parts={name: Fake(n=2, terms=(1,), residual=Fake(
                group=1, parts=[Fake(where=np.ones(3))]))
                for name in ("conditional", "inertia", "dispersion")})),
        "the times of the dynamic model do not fit its rows",
    ),
    # saved files
    "a call that was not learned": (
        lambda w, m: evaluate.TableScope.remembered(Fake(state={}), "poly(x, 2)", dict),
        "the saved model does not hold what poly(x, 2) needs; the file is damaged",
    ),
    "positions that do not fit": (
        lambda w, m: random._at_positions(
            np.ones((2, 1)), [], np.ones(1, dtype=bool), Fake(structure="ar1", text="t")),
        "the saved positions of ar1(t | ...) do not fit",
    ),
    "residuals of several levels": (
        lambda w, m: checks.check_residual(Fake(
            W=np.ones((2, 1)), scales=[1], parts=(), by=Fake(codes=np.array([0, 1])),
            group=Fake(codes=np.zeros(2), lies_within=lambda codes: False))),
        "a group of residuals belongs to several levels",
    ),
    "a correlation of one": (
        lambda w, m: read("equations", array("correlations", lambda a: a * 0 + 1.0)),
        "the working correlation is none",
    ),
    "a correlation beyond numbers": (
        lambda w, m: (m.setattr(checks, "scores", lambda *given: np.array([np.nan])),
                      read("equations", lambda head, arrays: None)),
        "the working correlation is none",
    ),
    "effects without a covariance": (
        lambda w, m: no_covariance(m), "the covariance of the effects is not positive definite"
    ),
    "columns that a file has not kept": (
        lambda w, m: Origin.columns.fget(Fake(data=None)),
        "the fit comes from a file that does not hold the columns of its table",
    ),
    # selection
    "a setting without predictions": (
        lambda w, m: ranef.average(w.linear, "x", levels=[0.0, np.nan]),
        "60 rows of the population have no prediction once 'x' is replaced; leave them out",
    ),
    "draws of what is held": (
        lambda w, m: ranef.leave_out(w.glmm(fixed={"x": 0.1}), "g", method="psis"),
        "importance sampling draws all parameters, and some are held or equal by request",
    ),
    "more densities than can be": (
        lambda w, m: (m.setattr(generalised_importance, "CELLS", 1),
                      ranef.leave_out(w.counts, method="psis")),
        "densities at each draw, and takes 1; use the closed form",
    ),
    "draws where nothing is": (
        lambda w, m: far_draws(),
        "of 4 draws of the parameters 4 lie where the model has no likelihood",
    ),
    "densities of a kernel": (
        lambda w, m: generalised_importance._Blocks(
            Fake(terms=KERNEL, specification=None), None, "g"),
        "the levels are related by a kernel, so that all rows depend on each other",
    ),
    "linear densities of a kernel": (
        lambda w, m: importance._blocks(Fake(specification=Fake(terms=KERNEL)), None, "g"),
        "the levels are related by a kernel, so that all rows depend on each other",
    ),
    "levels of a kernel left out": (
        lambda w, m: of_a_kernel(),
        "the levels of g are related by a kernel, so that a level left out is no new one",
    ),
    "searches that all fail": (
        lambda w, m: search_that_fails(w), "no search of 3 samples of g could be made"
    ),
    "shapes that nothing has": (
        lambda w, m: no_shapes(w), "was found that the responses can have; hold one, shapes={...}"
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
@pytest.mark.filterwarnings("ignore")
def test_it_is_refused_in_words(name, world, monkeypatch):
    call, said = WRONG[name]
    with pytest.raises(RanefError) as caught:
        call(world, monkeypatch)
    assert said in " ".join(str(caught.value).split())


def test_a_dispersion_without_a_tilde_and_residuals_of_unordered_categories_are_answered():
    rng = np.random.default_rng(1)
    table = pd.DataFrame({"y": rng.normal(size=90), "x": rng.normal(size=90)})
    table["g"], table["c"] = np.arange(90) % 9, np.array(list("abc"))[rng.integers(0, 3, 90)]
    with pytest.raises(FormulaError, match="dispersion takes a formula that begins with '~'"):
        ranef.lmm("y ~ x + (1 | g)", table, dispersion="x")
    fit = ranef.glmm("c ~ x", table, family="multinomial", random="none")
    with pytest.raises(ModelError, match="multinomial has no quantile residuals"):
        fit.residuals("quantile")
