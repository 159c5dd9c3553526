"""Messages at the edges of models that no other test provokes, those beneath the face included."""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

import ranef
from ranef.api import imputation
from ranef.covariance.between_rows import row_correlation
from ranef.derivatives import generalised, joint_errors
from ranef.derivatives.scores import cluster_scores
from ranef.errors import ModelError, RanefError

N = 60


def table():
    rng, k = np.random.default_rng(1), np.arange(N)
    g = k % 6
    return pd.DataFrame(
        {"y": rng.normal(size=N) + 0.3 * g, "x": rng.normal(size=N), "g": g, "t": k // 6,
         "b": rng.integers(0, 2, N), "c": rng.poisson(3, N), "f": np.where(k % 2, "u", "v"),
         "v": 0.1 + (k % 7) / 10, "k": 1 + k % 3, "s": [f"s{i}" for i in k],
         "o": pd.Categorical(rng.choice(list("abc"), N), ordered=True)}
    )  # fmt: skip


class World:
    """A table, and small fits of it that are made once."""

    def __init__(self, folder):
        self.folder = folder
        self.data = table()

    def lmm(self, formula="y ~ x + (1 | g)", data=None, **how):
        return ranef.lmm(formula, self.data if data is None else data, **how)

    def glmm(self, formula="c ~ x + (1 | g)", family="poisson", **how):
        return ranef.glmm(formula, self.data, family=family, **how)

    @cached_property
    def linear(self):
        return self.lmm()

    @cached_property
    def two_groups(self):
        return self.lmm("y ~ f + (1 | g)")

    @cached_property
    def counts(self):
        return self.glmm()

    @cached_property
    def marginal(self):
        return ranef.gee("y ~ x", self.data, groups="g", time="t")

    @cached_property
    def paths(self):
        return ranef.sem("factor =~ y + x + c", self.data)

    @cached_property
    def by_clock(self):
        return self.lmm("y ~ x + (1 | k)", residual="ou(t | g)")

    @cached_property
    def visits(self):
        return self.lmm("y ~ x + (1 | k)", self.of_visits(), residual="homcs(t | g)")

    @cached_property
    def by_arm(self):
        return self.lmm("y ~ x", residual="ar1(t | g, by=f)")

    def of_visits(self):
        return self.data.assign(t=[f"v{i}" for i in self.data["t"]])

    def later(self, fit, data=None, **columns):
        past = self.data if data is None else data
        return fit.predict(past.head(3).assign(**columns), kind="conditional", history=past)


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return World(tmp_path_factory.mktemp("edges"))


def dropping_out(world):
    data = world.data.sort_values(["g", "t"], ignore_index=True)
    data["y"] = data["y"].where((data["g"] % 2 == 1) | (data["t"] <= 5))
    data["z"] = data["x"].where(data.index != 14)
    return ranef.gee("y ~ f", data, groups="g", time="t", dropout="~ z + t")


def missing_time(world):
    data = world.data.assign(t=world.data["t"].astype(float))
    data.loc[3, "t"] = np.nan
    return ranef.two_answers("b ~ x", data, groups="g", time="t", family="binomial")


def of_polars(world):
    polars = pytest.importorskip("polars")
    K = np.eye(6) + 0.1
    kernel = polars.DataFrame(
        {"id": [str(i) for i in range(6)], **{str(i + 1): K[i] for i in range(6)}}
    )
    return world.lmm("y ~ x + kernel(1 | g, K)", kernels={"K": kernel})


def covariance_with_a_hole(world):
    V = np.diag(world.data["v"])
    V[0, 1] = np.nan
    return ranef.meta("y ~ x + (1 | g)", world.data, covariance=V)


def a_visit_that_nobody_made(world):
    visits = pd.Categorical([f"v{i}" for i in world.data["t"]], [f"v{i}" for i in range(10)], True)
    data = world.data.assign(t=visits)
    return world.lmm("y ~ x + toep(0 + t | g)", data[data["t"] != "v5"])


def no_draw(rng):
    raise ModelError("no covariance matrix")


def far_point(world):
    return replace(world.counts.estimate, coefficients=np.array([1e5, 1e5]))


def state_far_away(world):
    estimate = world.counts.estimate
    assembly = generalised._assembly(estimate, None)
    spot = assembly.spot(estimate.theta, estimate.optimum.ranks)
    return generalised._state(assembly, np.array([1e5, 1e5]), spot)


WRONG = {
    # arguments
    "a number that no counter holds": (
        lambda w: ranef.bootstrap(w.linear, n=2**70), "n must be below 2,147,483,648, not"
    ),
    "a table for a word": (
        lambda w: ranef.effect_sizes(w.data, "RR", ai="c"), "is not known; use one of 'RR', 'OR'"
    ),
    "no hypothesis to have power for": (
        lambda w: ranef.power(w.linear, test={}),
        "test= names no hypothesis; name a coefficient, such as test='x'",
    ),
    "a design of other levels": (
        lambda w: ranef.power(w.two_groups, pd.DataFrame(
            {"f": list("uvw") * 10, "g": np.arange(30) % 5}), test="fv", n=3),
        "other coefficients than the fit has: (Intercept), fv, fw; give it the levels that",
    ),
    "a dispersion that is a number": (
        lambda w: w.lmm(dispersion=3), "dispersion takes a formula that begins with '~'"
    ),
    "a link that is a number": (
        lambda w: w.glmm(link=3), "the family 'poisson' takes no link 3; it takes log"
    ),
    # from tables to models
    "times that are missing": (
        missing_time, "the two models have other rows or columns than each other; leave out rows"
    ),
    "a predictor of dropout that is missing": (
        dropping_out,
        "no prediction for 1 row at risk (first in row 14): a predictor is missing there; fill it",
    ),
    "draws without a covariance": (
        lambda w: imputation._drawn(SimpleNamespace(completed=print), no_draw, "mar", None),
        "draws of the parameters had no covariance matrix: the data say too little of them",
    ),
    "knots among few values": (
        lambda w: w.lmm("y ~ ns(x, df=70) + (1 | g)"),
        "ns(x, df = 70) asks for 69 knots from 60 values",
    ),
    "too many categories to take apart": (
        lambda w: ranef.decompose(w.data.assign(s=[f"s{i % 55}" for i in range(N)]), "s", by="g"),
        "column 's' has 55 categories; take fewer apart",
    ),
    "a kernel with other labels in its rows": (
        of_polars, "kernel 'K' has different row and column labels, such as '0', '6'"
    ),
    "a dispersion beyond numbers": (
        lambda w: w.lmm("y ~ x", w.data.assign(z=w.data["x"] * 1e200, w=w.data["x"] * 1e200),
                        dispersion="~ z:w"),
        "z:w of the dispersion formula is not finite; divide it by its size",
    ),
    "a covariance with a hole": (
        covariance_with_a_hole, "covariance is missing or infinite in row 0, column 1; leave out"
    ),
    "a visit that nobody made": (
        a_visit_that_nobody_made, "needs all levels of t, and some do not occur: take them out of"
    ),
    "a structure of several positions": (
        lambda w: w.lmm("y ~ x", residual="ar1(t, x | g)"),
        "ar1() takes positions and a group: ar1(time | person)",
    ),
    "an unknown structure of residuals": (
        lambda w: row_correlation("ar2"), "no residual structure 'ar2'; did you mean 'ar1'?"
    ),
    # other rows
    "words where times were numbers": (
        lambda w: w.later(w.by_clock, t=list("abc")),
        "t holds numbers in the rows of the fit, and categories here; give numbers",
    ),
    "numbers where visits were words": (
        lambda w: w.later(w.visits, w.of_visits(), t=[1.0, 2.0, 3.0]),
        "t holds categories in the rows of the fit, and numbers here; give text",
    ),
    "a visit not seen": (
        lambda w: w.later(w.visits, w.of_visits(), t="v99"),
        "t has a place that the fit has not seen: 'v99'; leave such rows out",
    ),
    "an arm not seen": (
        lambda w: w.later(w.by_arm, t=20, f="w"),
        "f has a level that the fit has not seen, whose residuals have parameters of their own; "
        "leave such rows out",
    ),
    # derivatives where there is no likelihood
    "modes of what cannot be": (
        lambda w: generalised.modes_given(far_point(w)),
        "at the fitted parameters some of these observations are impossible",
    ),
    "a state without a likelihood": (
        state_far_away, "the likelihood is not finite a small step from the optimum"
    ),
    "scores of what cannot be": (
        lambda w: cluster_scores(w.counts.estimate, w.data["g"].to_numpy(),
                                 coefficients=np.array([1e5, 1e5])),
        "the likelihood of a cluster is not finite at the estimates",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
@pytest.mark.filterwarnings("ignore")
def test_it_is_refused_in_words(name, world):
    call, said = WRONG[name]
    with pytest.raises(RanefError) as caught:
        call(world)
    assert said in " ".join(str(caught.value).split())


def test_a_joint_posterior_without_room(monkeypatch):
    monkeypatch.setattr(joint_errors, "ALWAYS_THERE", 0)
    monkeypatch.setattr(joint_errors, "available_memory", lambda: 10)
    of_two = SimpleNamespace(layout=SimpleNamespace(order=2))
    said = r"the joint posterior of 100 numbers needs about .* ask about fewer levels"
    with pytest.raises(RanefError, match=said):
        joint_errors._check_memory(of_two, 100)


ROWS = "".join(f"{k},{k % 7},{k % 3}\n" for k in range(3000)).encode()
FILES = {
    "a byte of no coding far below": (
        b"y,x,g\n" + ROWS + b"\x81,2,3\n", "not UTF-8 text (line 3,002)"
    ),
    "an open quote that takes the rest": (
        b'# a\ny,x,g\n1,2,3\n"1,2,3\n' + 20 * ROWS, "a quotation mark that opens in line 4 is not"
    ),
    "an open quote below comments": (
        b'# a\n# b\ny,x,g\n1,2,3\n\n"1,2,3\n1,2,3\n', "a quotation mark that opens in line 6 is not"
    ),
    "an open quote in the first row": (
        b'y,x,g\n"1,2,3\n1,2,3\n', "a quotation mark that opens in line 2 is not closed"
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", FILES)
def test_a_file_is_told_by_its_lines(name, run, tmp_path):
    content, said = FILES[name]
    (tmp_path / "table.csv").write_bytes(content)
    code, _, error = run("fit", "y ~ x + (1 | g)", str(tmp_path / "table.csv"))
    assert code != 0
    assert said in error


def test_a_name_with_a_zero_byte(run):
    code, _, said = run("fit", "y ~ x + (1 | g)", "table\0.csv")
    assert code != 0
    assert "'table\\x00.csv' cannot be the name of a file" in said
