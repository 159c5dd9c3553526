"""Prediction repeats the fit; a recipe survives JSON exactly; strangers' files run nothing."""

import datetime as dt
import json
from dataclasses import dataclass

import numpy as np
import pandas as pd
import polars as pl
import pytest
from saved import again, restored, stored

from ranef.design.recipe import Recipe
from ranef.design.specify import specify
from ranef.errors import (
    DataError,
    FileError,
    LevelError,
    ModelError,
    RanefError,
    UnknownColumnError,
)
from ranef.storage.codec import Bundle
from ranef.tables import Table

N = 60
FORMULA = (
    "y ~ poly(x, 2) + ns(z, 3) * f + bs(z, 4) + scale(x) + C(s, contr.sum) + within(x, g) "
    "+ I(z > 5) + offset(log(z)) + (f || g) + (x | g:s) + ar1(t | h)"
)


@pytest.fixture
def data():
    rng = np.random.default_rng(7)
    return pd.DataFrame(
        {
            "y": rng.normal(size=N),
            "x": rng.normal(size=N),
            "z": rng.uniform(1, 9, N),
            "t": np.tile(np.arange(5), 12),
            "f": np.tile(["p", "q", "r"], 20),
            "s": rng.choice(["m", "n"], N),
            "g": np.repeat(np.arange(6), 10),
            "h": np.repeat(list("abcd"), 15),
        }
    )


@pytest.fixture
def spec(data):
    with pytest.warns(UserWarning, match="redundant"):
        return specify(FORMULA, data)


def test_the_fit_is_repeated_bit_by_bit(data, spec):
    for recipe in (spec.recipe, again(spec.recipe)):
        for table in (data, pl.from_pandas(data), Table.of(data)):
            X, kept = recipe.fixed(table)
            np.testing.assert_array_equal(X, spec.X)
            assert kept.all()
            np.testing.assert_array_equal(recipe.offset(table), spec.offset)
            np.testing.assert_array_equal(recipe.response(table), spec.y)
            for i, term in enumerate(spec.terms):
                codes, z = recipe.random(table, i)
                np.testing.assert_array_equal(codes, spec.factors[term.factor].codes)
                np.testing.assert_array_equal(z, term.z)
                np.testing.assert_array_equal(recipe.random_columns(table, i), term.z)


def test_a_few_rows_give_the_same_rows(data, spec):
    some = data.iloc[[40, 3, 17]]
    X, _ = spec.recipe.fixed(some)
    np.testing.assert_allclose(X, spec.X[[40, 3, 17]], rtol=1e-13)
    codes, _ = spec.recipe.random(some, 3)
    np.testing.assert_array_equal(codes, spec.factors[spec.terms[3].factor].codes[[40, 3, 17]])


def test_json_is_plain_and_exact(spec):
    text = json.dumps(stored(spec.recipe).values, allow_nan=False)
    assert json.dumps(stored(again(spec.recipe)).values) == text


def test_columns_are_those_used(data, spec):
    assert spec.recipe.columns == ("y", "x", "z", "f", "s", "g", "t", "h")
    spec = specify("y ~ x + (1 | g)", data.assign(w=1.0, k=0.5), weights="w", offset="k")
    assert again(spec.recipe).columns == ("y", "x", "g", "w", "k")


def test_rows_with_a_missing_value_are_marked(data, spec):
    new = data.iloc[:6].copy()
    new.loc[1, "x"] = np.nan
    new.loc[2, "f"] = None
    new.loc[3, "g"] = np.nan
    X, kept = spec.recipe.fixed(new)
    np.testing.assert_array_equal(kept, [True, False, False, False, True, True])
    assert np.isnan(X[[1, 2, 3]]).all()
    assert np.isfinite(X[[0, 4, 5]]).all()
    codes, z = spec.recipe.random(new, 2)
    assert codes[3] == -1
    assert np.isnan(z[1]).all()


def test_an_unseen_category_is_named(data, spec):
    new = data.iloc[:5].assign(f=["p", "q", "zz", "zz", "r"])
    message = (
        r"f has a level that the fit has not seen: 'zz' \(in 2 rows\); its levels are 'p', 'q', 'r'"
    )
    with pytest.raises(LevelError, match=message):
        spec.recipe.fixed(new)
    with pytest.raises(LevelError, match="'zz'"):
        spec.recipe.random_columns(new, 1)


def test_a_category_that_only_dropped_rows_have_is_unseen(data):
    data.loc[data.f == "r", "x"] = np.nan
    spec = specify("y ~ x + f + (1 | g)", data)
    with pytest.raises(LevelError, match="'r'"):
        spec.recipe.fixed(data.assign(x=1.0))


def test_an_unseen_group_is_minus_one(data, spec):
    new = data.iloc[:3].assign(g=[0, 99, 1], s=["m", "n", "never"])
    nested = next(i for i, t in enumerate(spec.terms) if t.label == "x | g:s")
    new_s = new.drop(columns="s").assign(s="m")
    codes, _ = spec.recipe.random(new_s, nested)
    assert codes[1] == -1
    assert codes[0] == list(spec.factors[spec.terms[nested].factor].levels).index("0:m")
    assert spec.recipe.random(new, nested)[0].tolist()[1:] == [-1, -1]


def test_an_unseen_time_is_named(data, spec):
    last = len(spec.terms) - 1
    with pytest.raises(LevelError, match=r"row 1 has t at 77, where the fit has no row"):
        spec.recipe.random(data.iloc[:3].assign(t=[0, 77, 1]), last)


def test_levels_match_across_types_of_columns(data):
    spec = specify("y ~ factor(t) + (1 | g)", data)
    for kind in (np.int8, np.float64, "Int64", "category", str):
        X, _ = spec.recipe.fixed(data.assign(t=data.t.astype(kind)))
        np.testing.assert_array_equal(X, spec.X)
        codes, _ = spec.recipe.random(data.assign(g=data.g.astype(kind)), 0)
        np.testing.assert_array_equal(codes, spec.factors[0].codes)


def test_levels_of_times_survive(data):
    days = pd.to_datetime("2020-01-01") + pd.to_timedelta(data.g, unit="D")
    for values in (days, days.dt.date, days.dt.tz_localize("UTC"), days - days[0]):
        table = data.assign(day=values)
        spec = specify("y ~ x + (1 | day)", table)
        codes, _ = again(spec.recipe).random(table, 0)
        np.testing.assert_array_equal(codes, spec.factors[0].codes)
    polars = pl.DataFrame(
        {"y": data.y, "x": data.x, "day": [dt.date(2020, 1, 1 + g) for g in data.g]}
    )
    spec = specify("y ~ x + (1 | day)", polars)
    assert spec.factors[0].levels[0] == dt.date(2020, 1, 1)


def test_new_groups_of_between_have_their_own_means(data):
    spec = specify("y ~ between(x, g) + within(x, g) + (1 | g)", data)
    new = pd.DataFrame({"x": [1.0, 3.0, 5.0], "g": [0, 77, 77]})
    X, _ = again(spec.recipe).fixed(new)
    known = data.x[data.g == 0].mean()
    np.testing.assert_allclose(X[:, 1:], [[known, 1 - known], [4, -1], [4, 1]], atol=1e-12)


def test_natural_splines_are_straight_beyond_the_boundary(data):
    spec = specify("y ~ ns(z, 3) + (1 | g)", data)
    z = np.array([-10.0, -20, -30, 50, 60, 70])
    X, _ = spec.recipe.fixed({"z": z})
    for side in (X[:3], X[3:]):
        steps = np.diff(side[:, 1:], axis=0)
        np.testing.assert_allclose(steps[0], steps[1], rtol=1e-10)
        assert np.abs(steps).max() > 0.1


def test_offsets(data):
    by_column = specify("y ~ x + (1 | g)", data.assign(k=2.0), offset="k").recipe
    np.testing.assert_array_equal(by_column.offset({"k": [1.0, 2.0]}), [1.0, 2.0])
    by_value = specify("y ~ x + (1 | g)", data, offset=np.ones(N)).recipe
    with pytest.raises(ModelError, match="was given as an array"):
        again(by_value).offset(data)
    assert specify("y ~ x + (1 | g)", data).recipe.offset(data) is None


def test_a_column_that_is_not_there(data, spec):
    with pytest.raises(UnknownColumnError, match="no column 'z'"):
        spec.recipe.fixed(data.drop(columns="z"))
    with pytest.raises(DataError, match="x is infinite in 1 row"):
        spec.recipe.fixed(data.assign(x=[np.inf] + [0.0] * (N - 1)))
    X, _ = spec.recipe.fixed(data.drop(columns=["y", "h", "t"]))
    np.testing.assert_array_equal(X, spec.X)


def test_functions_are_handed_over_again(data):
    functions = {"bend": lambda x: np.minimum(x, 0.5)}
    spec = specify("y ~ bend(x) + (1 | g)", data, functions=functions)
    with pytest.raises(
        ModelError, match="the formula uses bend, which a saved model does not hold"
    ):
        again(spec.recipe).fixed(data)
    for recipe in (
        again(spec.recipe, functions),
        again(spec.recipe).with_functions(functions),
    ):
        np.testing.assert_array_equal(recipe.fixed(data)[0], spec.X)


def test_the_dot_stands_for_the_same_columns(data):
    few = data[["y", "x", "z", "g"]]
    spec = specify("y ~ . + (1 | g)", few)
    X, _ = again(spec.recipe).fixed(data)
    np.testing.assert_array_equal(X, spec.X)
    assert again(spec.recipe).columns == ("y", "x", "z", "g")


def use(saved, data):
    recipe = restored(saved, Recipe)
    recipe.fixed(data)
    recipe.random(data, 0)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("class",), "Specification"),
        (("class",), None),
        (("formula",), 3),
        (("formula",), None),
        (("formula",), "y ~ x + (1 | other)"),
        (("formula",), "y ~ __import__('os').system('ls') + (1 | g)"),
        (("state",), []),
        (("state", "poly(x, 2)"), "eval"),
        (("state", "poly(x, 2)", "class"), "os.system"),
        (("state", "poly(x, 2)", "class"), "Scaled"),
        (("state", "poly(x, 2)", "alpha"), [1.0]),
        (("state", "poly(x, 2)", "alpha"), [float("nan"), 1.0]),
        (("state", "ns(z, 3)", "knots"), [1e9]),
        (("state", "ns(z, 3)", "boundary"), [3.0, 1.0]),
        (("state", "bs(z, 4)", "degree"), 10**9),
        (("state", "levels of f", "levels"), ["p"]),
        (("state", "levels of f", "levels"), [{"date": ["x"]}, "a", "b"]),
        (("state", "levels of f", "levels"), [None, "a", "b"]),
        (("state", "levels of f", "base"), 7),
        (("kept",), [10**5]),
        (("kept",), [-1]),
        (("kept",), "01"),
        (("groups", 0, "keys"), ["os"]),
        (("groups", 0, "levels"), []),
        (("random_recipes", 0, "bar"), 99),
        (("random_recipes", 0, "factor"), -1),
        (("random_recipes", 0, "picked"), [99]),
        (("dot",), 5),
        (("formula_columns",), 5),
    ],
)
def test_damaged_files_are_refused(data, spec, path, value):
    saved = stored(spec.recipe)
    here = saved.values
    for key in path[:-1]:
        here = here[key]
    here[path[-1]] = value
    with pytest.raises(RanefError):
        use(saved, data)


@pytest.mark.parametrize("value", [None, 3, "x", [], {}, {"class": 1}])
def test_what_is_no_recipe(value):
    with pytest.raises(FileError, match="should hold a Recipe"):
        restored(Bundle(value, {}), Recipe)


@dataclass(frozen=True, order=True)
class Ward:
    number: int


def test_levels_that_json_cannot_hold(data):
    levels = [Ward(int(g)) for g in data.g]
    spec = specify("y ~ x + (1 | k)", {**{c: data[c] for c in "yx"}, "k": levels})
    assert spec.factors[0].n_levels == 6
    with pytest.raises(DataError, match=r"cannot save the label .* of type Ward"):
        stored(spec.recipe)
