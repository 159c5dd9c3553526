"""Predictions with the effects of some random terms (lme4's re.form), groupings written out."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import ranef
from ranef.errors import DataError, FormulaError, LevelError, ModelError


@pytest.fixture(scope="module")
def table():
    rng = np.random.default_rng(5)
    n = 300
    person, item = rng.integers(0, 20, n), rng.integers(0, 12, n)
    x = rng.normal(size=n)
    eta = 0.5 + 0.4 * x + rng.normal(size=20)[person] + 0.7 * rng.normal(size=12)[item]
    return pd.DataFrame(
        {
            "person": person, "item": item, "x": x, "y": eta + rng.normal(size=n),
            "count": rng.poisson(np.exp(0.5 * eta)), "f": np.array(list("abc"))[item % 3],
        }
    )  # fmt: skip


FORMULA = "x + (x | person) + (1 | item)"


@pytest.fixture(scope="module", params=["lmm", "glmm"])
def fit(request, table):
    if request.param == "lmm":
        return ranef.lmm(f"y ~ {FORMULA}", table)
    return ranef.glmm(f"count ~ {FORMULA}", table, family="poisson")


def by_hand(fit, table, people, items):
    """Fixed effects and the modes of the terms that count."""
    spec, (b, c) = fit.estimate.specification, fit.estimate.modes
    x = table["x"].to_numpy()
    value = spec.X[: len(x)] @ fit.estimate.beta
    if people:
        value = value + b[table["person"], 0] + b[table["person"], 1] * x
    return value + c[table["item"], 0] if items else value


@pytest.mark.parametrize(
    ("terms", "people", "items"),
    [
        (["(1 | item)"], False, True),
        (["(1|item)"], False, True),
        (["item"], False, True),
        (["(x | person)"], True, False),
        (["person", "(1 | item)"], True, True),
        ([], False, False),
    ],
)
def test_the_effects_of_some_terms(fit, table, terms, people, items, agree):
    want = by_hand(fit, table, people, items)
    own = fit.predict(kind="conditional", terms=terms, type="link")
    agree(f"fit.predict(terms={terms!r})", "linear predictor, simulated", own, want,
          peer="sums of the effects by hand", atol=1e-8)  # fmt: skip
    new = fit.predict(table.iloc[:40], terms=terms, type="link")
    np.testing.assert_allclose(new, want[:40], atol=1e-8)


def test_intervals_are_of_what_counts(fit, table):
    how = {"conf_level": 0.95, "type": "link"}
    typical = fit.predict(kind="typical", **how)
    none = fit.predict(terms=[], **how)
    np.testing.assert_allclose(none["estimate"], typical["estimate"], atol=1e-8)
    # conditional errors also carry what the variance parameters do to the fixed effects
    np.testing.assert_allclose(none["std_error"], typical["std_error"], rtol=0.02)
    every = fit.predict(terms=["person", "item"], **how)
    np.testing.assert_allclose(every["std_error"], fit.predict(**how)["std_error"], rtol=1e-8)


def test_groups_of_other_terms_need_not_be_there(fit, table):
    new = table[["x", "item"]].iloc[:5]
    got = fit.predict(new, terms=["(1 | item)"])
    want = fit.predict(table.iloc[:5], terms=["(1 | item)"])
    np.testing.assert_allclose(got, want)
    got = fit.predict(new, terms=["item"], new_levels="raise")
    np.testing.assert_allclose(got, want)
    with pytest.raises(LevelError):
        fit.predict(new.assign(item=99), terms=["item"], new_levels="raise")


def test_what_is_refused(fit):
    with pytest.raises(ModelError, match=r"no random term '\(1 | itm\)'; did you mean"):
        fit.predict(terms=["(1 | itm)"])
    with pytest.raises(ModelError, match="terms is a list"):
        fit.predict(terms="item")
    with pytest.raises(ModelError, match="kind='typical' has none"):
        fit.predict(terms=["item"], kind="typical")


# --- grouping factors written out


@pytest.mark.parametrize(
    ("short", "long"),
    [
        ("(1 | person + item)", "(1 | person) + (1 | item)"),
        ("(1 | f*person)", "(1 | f) + (1 | person) + (1 | f:person)"),
        ("(x | item + f)", "(x | item) + (x | f)"),
        ("(1 | a*b*c)", "(1 | a) + (1 | b) + (1 | a:b) + (1 | c) + (1 | a:c) + (1 | b:c) "
         "+ (1 | a:b:c)"),
    ],
)  # fmt: skip
def test_groupings(table, short, long):
    """As reformulas::expandAllGrpVar writes them out."""
    rng = np.random.default_rng(0)
    more = table.assign(**{name: rng.integers(0, 4, len(table)) for name in "abc"})
    one, other = (ranef.lmm(f"y ~ x + {bar}", more) for bar in (short, long))
    assert {t.label for t in one.terms} == {t.label for t in other.terms}
    assert one.loglik == pytest.approx(other.loglik, abs=1e-6)


@pytest.mark.parametrize("bar", ["(1 | (a + b)/c)", "(1 | a:(b + c))", "(1 | a - b)"])
def test_groupings_that_mean_nothing(table, bar):
    with pytest.raises(FormulaError, match=r"nesting|grouping factor"):
        ranef.lmm(f"y ~ x + {bar}", table.assign(a=1, b=1, c=1))


# --- dummy()


def test_dummy(table):
    """lme4's dummy(f, level) is one where f is that level, as I(f == level) is."""
    one = ranef.lmm("y ~ f + (0 + dummy(f, 'b') | person)", table)
    other = ranef.lmm("y ~ f + (0 + mark | person)", table.assign(mark=(table["f"] == "b") * 1.0))
    assert one.loglik == pytest.approx(other.loglik, abs=1e-8)
    assert one.terms[0].names == ('dummy(f, "b")',)
    new = table.iloc[:6]
    np.testing.assert_allclose(
        one.predict(new), other.predict(new.assign(mark=(new["f"] == "b") * 1.0))
    )
    several = ranef.lmm("y ~ dummy(f, c('b', 'c')) + (1 | person)", table)
    plain = ranef.lmm("y ~ f + (1 | person)", table)
    assert several.loglik == pytest.approx(plain.loglik, abs=1e-8)
    gone = one.predict(new.assign(f=[None, *new["f"].iloc[1:]]))
    assert np.isnan(np.asarray(gone)[0])


def test_dummies_that_mean_nothing(table):
    with pytest.raises((LevelError, DataError), match="'z' is no level of f"):
        ranef.lmm("y ~ x + (0 + dummy(f, 'z') | person)", table)
    with pytest.raises(FormulaError, match="needs the level to mark"):
        ranef.lmm("y ~ x + (0 + dummy(f) | person)", table)
