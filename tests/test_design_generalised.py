"""Formulas of generalised models against a table: parts, responses, new tables, fuzz."""

import re
import warnings

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from saved import again, restored, stored, with_values
from test_formula_fuzz import (
    DATA,
    EASY,
    FUNCTIONS,
    KERNELS,
    bars,
    expressions,
    joined,
    json_values,
    places,
    spoiled,
    words,
)

from ranef.design.generalised import GeneralisedSpecification, specify_generalised
from ranef.design.recipe import Recipe
from ranef.design.specify import specify
from ranef.errors import (
    DataError,
    DataWarning,
    FormulaError,
    LevelError,
    ModelError,
    RanefError,
    RankWarning,
    UnknownColumnError,
)
from ranef.families import FAMILIES, Cumulative, Multinomial, Poisson

N = 60


@pytest.fixture
def data():
    rng = np.random.default_rng(5)
    frame = pd.DataFrame(
        {
            "count": rng.poisson(2, N),
            "x": rng.normal(size=N),
            "z": rng.uniform(1, 9, N),
            "f": pd.Categorical(np.tile(["lo", "mid", "hi"], 20), categories=["lo", "mid", "hi"]),
            "g": np.repeat(list("abcdef"), 10),
            "h": np.tile(np.arange(5), 12),
            "size": rng.integers(3, 9, N),
            "flag": rng.random(N) < 0.5,
            "word": rng.choice(["no", "yes"], N),
            "grade": pd.Categorical(
                np.tile(["poor", "fair", "good", "fair"], 15), categories=["poor", "fair", "good"]
            ),
            "low": rng.normal(size=N),
        }
    )
    frame["hits"] = rng.binomial(frame["size"], 0.4)
    frame["share"] = frame["hits"] / frame["size"]
    frame["high"] = frame["low"] + rng.uniform(0, 2, N)
    return frame


def conditional(*args, **kwargs):
    return specify_generalised(*args, **kwargs).parts["conditional"]


# --- parts


def test_parts_are_those_that_have_a_formula(data):
    spec = specify_generalised(
        "count ~ x + (1 | g)",
        data,
        family="nbinom2",
        zero="~ f + (1 | g)",
        dispersion="~ z + (x | h)",
    )
    assert isinstance(spec, GeneralisedSpecification)
    assert list(spec.parts) == ["conditional", "zero", "dispersion"]
    assert spec.formulas == {
        "conditional": "count ~ x + (1 | g)",
        "zero": "~ f + (1 | g)",
        "dispersion": "~ z + (x | h)",
    }
    zero, dispersion = spec.parts["zero"], spec.parts["dispersion"]
    assert zero.names == ("(Intercept)", "fmid", "fhi")
    assert dispersion.names == ("(Intercept)", "z")
    assert [t.label for t in dispersion.terms] == ["x | h"]
    assert zero.factors[0] is spec.parts["conditional"].factors[0]
    np.testing.assert_array_equal(spec.parts["conditional"].y, data["count"])
    assert spec.family.name == "nbinom2"
    assert spec.extra is None


@pytest.mark.parametrize("zero", ["~0", "~ 0", "~ -1", "~ 0 + 0"])
@pytest.mark.parametrize("dispersion", ["~1", " ~ 1", "~ 1 + 1"])
def test_defaults_are_no_parts(data, zero, dispersion):
    spec = specify_generalised(
        "count ~ (1 | g)", data, family="nbinom1", zero=zero, dispersion=dispersion
    )
    assert list(spec.parts) == ["conditional"]


def test_the_conditional_part_is_the_linear_sides(data):
    formula = "low ~ f * x + poly(z, 2) + offset(z) + (x || g) + (1 | g:f)"
    linear = specify(formula, data, weights="z", offset="x")
    part = conditional(formula, data, family="gaussian", weights="z", offset="x")
    for name in ("y", "X", "weights", "offset"):
        np.testing.assert_array_equal(getattr(part, name), getattr(linear, name))
    assert part.names == linear.names
    for one, two in zip(part.terms, linear.terms, strict=True):
        assert one.label == two.label
        np.testing.assert_array_equal(one.z, two.z)


def test_a_row_that_any_part_misses_is_dropped_from_all(data):
    data = data.astype({"count": float, "f": object})
    data.loc[2, "count"] = np.nan
    data.loc[[3, 4], "x"] = np.nan
    data.loc[4, "f"] = None
    data.loc[5, "h"] = np.nan
    data.loc[6, "z"] = np.nan
    options = {"family": "nbinom2", "zero": "~ f + (1 | h)", "dispersion": "~ z", "weights": "z"}
    spec = specify_generalised("count ~ x + (1 | g)", data, **options)
    assert spec.accounting.missing == {"z": 1, "count": 1, "x": 2, "f": 1, "h": 1}
    assert spec.accounting.n_used == N - 5
    for part in spec.parts.values():
        assert part.accounting is spec.accounting
        assert part.n == len(part.X) == N - 5
        assert all(len(term.z) == N - 5 for term in part.terms)
        assert all(len(factor.codes) == N - 5 for factor in part.factors)
    with pytest.raises(DataError, match=r"missing in z \(1 row\), count \(1 row\), x \(2 rows\)"):
        specify_generalised("count ~ x + (1 | g)", data, **options, missing="raise")


def test_what_is_learned_is_learned_once(data):
    spec = specify_generalised(
        "count ~ scale(x) + (1 | g)", data, family="poisson", zero="~ scale(x) + within(z, g)"
    )
    np.testing.assert_array_equal(spec.parts["conditional"].X[:, 1], spec.parts["zero"].X[:, 1])


def test_a_family_without_dispersion_has_no_such_part(data):
    spec = specify_generalised("count ~ (1 | g)", data, family="poisson", dispersion="~0")
    assert list(spec.parts) == ["conditional"]


def test_bars_may_stand_in_any_part(data):
    spec = specify_generalised("count ~ x", data, family="poisson", zero="~ (1 | g)")
    assert not spec.parts["conditional"].terms
    assert len(spec.parts["zero"].terms) == 1
    with pytest.raises(ModelError, match="the model has no random term"):
        specify_generalised("count ~ x", data, family="nbinom2", zero="~ x", dispersion="~ z")


def test_offsets_belong_to_their_part(data):
    spec = specify_generalised(
        "count ~ (1 | g) + offset(x)",
        data,
        family="nbinom2",
        zero="~ 1 + offset(log(z))",
        dispersion="~ 0 + offset(z)",
        offset="z",
    )
    np.testing.assert_array_equal(spec.parts["conditional"].offset, data["x"] + data["z"])
    np.testing.assert_array_equal(spec.parts["zero"].offset, np.log(data["z"]))
    assert spec.parts["dispersion"].X.shape == (N, 0)
    np.testing.assert_array_equal(spec.parts["dispersion"].offset, data["z"])
    assert spec.parts["zero"].recipe.offset_column is None


def test_the_dot_leaves_out_what_other_parts_group_by(data):
    table = data[["count", "x", "z", "g", "h", "size"]]
    spec = specify_generalised(
        "count ~ . + (1 | g)", table, family="poisson", zero="~ . + (1 | h)", weights="size"
    )
    for part in spec.parts.values():
        assert part.names == ("(Intercept)", "x", "z")


def test_contrasts_hold_in_all_parts(data):
    spec = specify_generalised(
        "count ~ x + (1 | g)", data, family="poisson", zero="~ f", contrasts={"f": "sum"}
    )
    assert spec.parts["zero"].names == ("(Intercept)", "f1", "f2")
    with pytest.raises(ModelError, match="contrasts for 'flag', which is not in the formula"):
        specify_generalised("count ~ (1 | g)", data, family="poisson", contrasts={"flag": "sum"})


def test_shapes_by_name(data):
    spec = specify_generalised(
        "low ~ (1 | g)", data, family="t", shapes={"df": "~ x"}, dispersion="~ z"
    )
    assert list(spec.parts) == ["conditional", "dispersion", "df"]
    constant = specify_generalised("low ~ (1 | g)", data, family="t", shapes={"df": "~1"})
    assert list(constant.parts) == ["conditional"]
    with pytest.raises(ModelError, match="'t' has no shape 'dff'; did you mean 'df'"):
        specify_generalised("low ~ (1 | g)", data, family="t", shapes={"dff": "~ x"})
    with pytest.raises(ModelError, match="'poisson' has no shape 'df'; it has none"):
        specify_generalised("count ~ (1 | g)", data, family="poisson", shapes={"df": "~1"})


@pytest.mark.parametrize("name", ["conditional", "zero", "dispersion"])
def test_a_part_is_no_shape(data, name):
    with pytest.raises(ModelError, match=f"no shape '{name}'"):
        specify_generalised("low ~ (1 | g)", data, family="t", shapes={name: "~ x"})


def test_redundant_columns_name_their_part(data):
    data["twice"] = 2 * data["x"]
    with pytest.warns(RankWarning, match="fixed effects of the zero part have 1 redundant"):
        spec = specify_generalised("count ~ (1 | g)", data, family="poisson", zero="~ x + twice")
    assert spec.parts["zero"].dropped_columns == ("twice",)


REFUSED = [
    ({"zero": "count ~ x"}, FormulaError, "zero part has no left side: write zero='~ x'"),
    ({"zero": "~ count"}, FormulaError, "the response count also stands in the zero formula"),
    ({"zero": None}, FormulaError, "zero takes a formula that begins with"),
    ({"zero": "~ nope"}, UnknownColumnError, "no column 'nope'"),
    ({"dispersion": "~0"}, ModelError, "leaves nothing of the dispersion"),
    ({"dispersion": "~ x | g"}, FormulaError, "a bar outside parentheses"),
    ({"family": "poisson", "dispersion": "~ x"}, ModelError, "'poisson' has no dispersion"),
    ({"family": "poison"}, ModelError, "no family 'poison'; did you mean 'poisson'"),
    ({"family": Poisson}, ModelError, "family must be a name"),
    ({"family": "t", "zero": "~ 1"}, ModelError, "'t' takes no zero inflation"),
    ({"missing": "omit"}, ModelError, "Use one of 'drop', 'raise'"),
]


@pytest.mark.parametrize(("options", "error", "words"), REFUSED)
def test_parts_that_cannot_be(data, options, error, words):
    with pytest.raises(error, match=words):
        specify_generalised("count ~ x + (1 | g)", data, **{"family": "nbinom2", **options})


def test_a_response_is_needed(data):
    with pytest.raises(FormulaError, match="the formula has no response"):
        specify_generalised("~ x + (1 | g)", data, family="poisson")


def test_effects_of_each_row(data):
    data["row"] = np.arange(N)
    assert conditional("count ~ (1 | row)", data, family="poisson").factors[0].n_levels == N
    for family, response in [("gaussian", "low"), ("lognormal", "z")]:
        with pytest.raises(ModelError, match="cannot be distinguished from the residual"):
            specify_generalised(f"{response} ~ (1 | row)", data, family=family)
    known = conditional(
        "low ~ (1 | row)", data, family="gaussian", dispersion="~ 0 + offset(log(z))"
    )
    assert known.factors[0].n_levels == N
    for family, response in [("binomial", "flag"), ("cumulative", "grade")]:
        with pytest.raises(ModelError, match="each row is a single choice"):
            specify_generalised(f"{response} ~ (1 | row)", data, family=family)
    assert conditional("cbind(hits, size - hits) ~ (1 | row)", data, family="binomial").terms
    assert conditional("count ~ (x | row)", data, family="poisson").terms  # x varies
    with pytest.raises(ModelError, match="its variances cannot be distinguished from each other"):
        specify_generalised("count ~ (flag | row)", data, family="poisson")
    held = {"dispersion: (Intercept)": 0.0}
    assert conditional("low ~ (1 | row)", data, family="gaussian", fixed=held).terms


# --- responses


BINARY = {
    "flag": np.bool_,
    "flag + 0": None,
    "I(word == 'yes')": None,
    "word": "levels",
    "factor(word)": "levels",
    "factor(flag + 0)": "numbers",
}


@pytest.mark.parametrize("response", BINARY)
@pytest.mark.parametrize("family", ["binomial", "betabinomial", "bernoulli"])
def test_two_values(data, response, family):
    spec = specify_generalised(f"{response} ~ x + (1 | g)", data, family=family)
    success = data["word"] == "yes" if "word" in response else data["flag"]
    np.testing.assert_array_equal(spec.parts["conditional"].y, success.astype(float))
    np.testing.assert_array_equal(spec.extra, np.ones(N))
    levels = {"levels": ("no", "yes"), "numbers": (0, 1)}
    assert spec.response.levels == levels.get(BINARY[response])


def test_the_first_of_two_levels_fails(data):
    data["c"] = pd.Categorical(data["word"], categories=["yes", "no", "unused"])
    spec = specify_generalised("c ~ (1 | g)", data, family="binomial")
    assert spec.response.levels == ("yes", "no")
    np.testing.assert_array_equal(spec.parts["conditional"].y, data["word"] == "no")
    data["c"] = pd.Categorical(["b"] * N, categories=["a", "b"])
    all_succeed = specify_generalised("c ~ (1 | g)", data, family="binomial")
    assert (all_succeed.parts["conditional"].y == 1).all()
    with pytest.raises(DataError, match=r"f has 3 categories .*a binomial response has two"):
        specify_generalised("f ~ (1 | g)", data, family="binomial")
    data["c"] = "only"
    with pytest.raises(DataError, match="c has one category"):
        specify_generalised("c ~ (1 | g)", data, family="binomial")


def test_successes_and_failures(data):
    spec = specify_generalised(
        "cbind(hits, size - hits) ~ x + (1 | g)", data, family="binomial", weights="z"
    )
    assert (spec.response.name, spec.response.kind) == (
        "cbind(hits, size - hits)",
        "counts of successes",
    )
    np.testing.assert_array_equal(spec.parts["conditional"].y, data["hits"])
    np.testing.assert_array_equal(spec.extra, data["size"])
    np.testing.assert_array_equal(spec.parts["conditional"].weights, data["z"])


@pytest.mark.parametrize("response", ["share", "hits / size"])
@pytest.mark.parametrize("family", ["binomial", "betabinomial"])
def test_proportions_take_their_trials_as_weights(data, response, family):
    spec = specify_generalised(f"{response} ~ x + (1 | g)", data, family=family, weights="size")
    assert spec.response.kind == "proportion"
    np.testing.assert_array_equal(spec.parts["conditional"].y, data["hits"])
    np.testing.assert_array_equal(spec.extra, data["size"])
    assert spec.parts["conditional"].weights is None


def test_proportions_of_many_trials(data):
    trials = np.full(N, 123_456_789.0)
    hits = np.random.default_rng(1).integers(0, 123_456_789, N)
    data["share"] = hits / trials
    spec = specify_generalised("share ~ (1 | g)", data, family="binomial", weights=trials)
    np.testing.assert_array_equal(spec.parts["conditional"].y, hits)


def test_weights_of_zeros_and_ones(data):
    halves = np.where(data["flag"], 0.5, 2.0)
    spec = specify_generalised("flag + 0 ~ (1 | g)", data, family="binomial", weights=halves)
    np.testing.assert_array_equal(spec.parts["conditional"].weights, halves)
    np.testing.assert_array_equal(spec.extra, np.ones(N))
    word = specify_generalised("word ~ (1 | g)", data, family="binomial", weights="size")
    np.testing.assert_array_equal(word.parts["conditional"].weights, data["size"])


def test_rows_without_trials_are_left_out(data):
    data.loc[[1, 7], ["hits", "size"]] = 0
    data["share"] = data["hits"] / data["size"]
    for formula, weights in [
        ("cbind(hits, size - hits) ~ x + (1 | g)", None),
        ("share ~ x + (1 | g)", "size"),
        ("hits / size ~ x + (1 | g)", "size"),
    ]:
        spec = specify_generalised(formula, data, family="binomial", weights=weights)
        assert spec.accounting.n_used == N - 2
        assert (spec.extra > 0).all()
        y, extra = spec.parts["conditional"].recipe.response_and_extra(data)
        np.testing.assert_array_equal(extra, data["size"])
        np.testing.assert_array_equal(y[spec.accounting.kept], spec.parts["conditional"].y)
    only = specify_generalised("cbind(hits, size - hits) ~ (1 | g)", data, family="binomial")
    assert only.accounting.n_zero_weight == 2


@pytest.mark.parametrize("family", ["cumulative", "multinomial"])
@pytest.mark.parametrize(
    ("response", "levels"),
    [
        ("grade", ("poor", "fair", "good")),
        ("as.factor(grade)", ("poor", "fair", "good")),
        ("word", ("no", "yes")),
        ("h", (0, 1, 2, 3, 4)),
        ("flag", (False, True)),
        ("factor(word, levels = c('yes', 'no'))", ("yes", "no")),
        ("pmin(h, 2)", (0, 1, 2)),
    ],
)
def test_categories_in_the_users_order(data, family, response, levels):
    spec = specify_generalised(f"{response} ~ x + (1 | g)", data, family=family)
    assert spec.response.levels == levels
    assert [type(v) for v in spec.response.levels] == [type(v) for v in levels]
    y = spec.parts["conditional"].y
    assert y.dtype == np.float64
    assert set(y) == set(range(len(levels)))
    if family == "cumulative":
        np.testing.assert_array_equal(spec.extra, np.full(N, len(levels)))
        assert spec.parts["conditional"].names == ("(Intercept)", "x")
    else:
        assert spec.extra is None
        assert spec.family == Multinomial(len(levels))
    spec.family.check(y, spec.extra)


def test_codes_are_the_places_of_levels(data):
    spec = specify_generalised("grade ~ (1 | g)", data, family=Cumulative(link="probit"))
    np.testing.assert_array_equal(
        np.array(spec.response.levels, dtype=object)[spec.parts["conditional"].y.astype(int)],
        data["grade"].astype(object),
    )
    assert spec.family == Cumulative(link="probit")


def test_unused_categories_are_left_out_with_a_warning(data):
    wide = data.assign(
        grade=data["grade"].cat.set_categories(["none", "poor", "fair", "mid", "good"])
    )
    with pytest.warns(DataWarning, match="no row used has 'none', 'mid' in grade"):
        spec = specify_generalised("grade ~ (1 | g)", wide, family="cumulative")
    assert spec.response.levels == ("poor", "fair", "good")
    data.loc[data["grade"] == "good", "x"] = np.nan
    with pytest.warns(DataWarning, match="no row used has 'good' in grade"):
        specify_generalised("grade ~ x + (1 | g)", data, family="multinomial")


def test_categories_that_are_none(data):
    with pytest.raises(DataError, match=r"x is .* in row 0; .*whole numbers or text \(60 rows"):
        specify_generalised("x ~ (1 | g)", data, family="cumulative")
    data["c"] = "same"
    with pytest.raises(DataError, match="c has one category in the rows used, 'same'"):
        specify_generalised("c ~ (1 | g)", data, family="multinomial")
    data["c"] = np.arange(N)
    with pytest.raises(DataError, match="c has 60 categories in 60 rows"):
        specify_generalised("c ~ (1 | g)", data, family="multinomial")
    with pytest.raises(ModelError, match="the family has 4 categories, the response 3"):
        specify_generalised("grade ~ (1 | g)", data, family=Multinomial(4))
    with pytest.raises(ModelError, match="the thresholds of an ordinal model are its intercepts"):
        specify_generalised("grade ~ 0 + x + (1 | g)", data, family="cumulative")


def test_intervals(data):
    data.loc[0, "low"] = np.nan
    data.loc[1, "low"] = -np.inf
    data.loc[2, "high"] = np.nan
    data.loc[3, "high"] = np.inf
    data.loc[4, ["low", "high"]] = np.nan
    data.loc[5, "low"] = data.loc[5, "high"]
    spec = specify_generalised("cbind(low, high) ~ x + (1 | g)", data, family="censored")
    part = spec.parts["conditional"]
    assert spec.accounting.missing == {"cbind(low, high)": 1}
    np.testing.assert_array_equal(np.isneginf(part.y[:3]), [True, True, False])
    np.testing.assert_array_equal(np.isposinf(spec.extra[:4]), [False, False, True, True])
    assert part.y[4] == spec.extra[4] == data.loc[5, "high"]
    np.testing.assert_array_equal(part.y[5:], data["low"][6:])


def test_intervals_on_another_scale(data):
    data["below"] = np.where(data["flag"], 0.0, data["z"])
    spec = specify_generalised("cbind(log(below), log(z)) ~ (1 | g)", data, family="censored")
    y = spec.parts["conditional"].y
    np.testing.assert_array_equal(np.isneginf(y), data["flag"])
    data["below"] -= 1
    with pytest.raises(DataError, match=r"log\(below\) is not a number"):
        specify_generalised("cbind(log(below), log(z)) ~ (1 | g)", data, family="censored")


def test_a_censored_family_takes_plain_numbers(data):
    spec = specify_generalised("log(z) ~ (1 | g)", data, family="censored")
    np.testing.assert_array_equal(spec.parts["conditional"].y, np.log(data["z"]))
    np.testing.assert_array_equal(spec.extra, np.log(data["z"]))


BAD = [
    # family, formula, column, row -> value, words
    ("poisson", "count", {"count": {4: 2.5}}, r"poisson needs whole.*count is 2.5 in row 4; 1 row"),
    ("poisson", "count", {"count": {4: -1, 9: -1}}, r"count is -1 in row 4; 2 rows are like this"),
    ("Gamma", "z", {"z": {6: 0.0}}, r"Gamma needs positive numbers; z is 0 in row 6"),
    ("beta", "z/10", {"z": {8: 10.0}}, r"z/10 is 1 in row 8; 1 row is like this; .*ordbeta"),
    ("binomial", "count", {}, r"binomial needs 0 or 1; count is .* are written cbind\(success"),
    (
        "binomial",
        "cbind(hits, size - hits)",
        {"hits": {5: 99}},
        r"cbind\(hits, size - hits\) needs whole.*; size - hits is -9\d in row 5; 1 row is",
    ),
    (
        "binomial",
        "cbind(hits, size)",
        {"hits": {5: 1.5}},
        r"hits is 1.5 in row 5; 1 row is like this",
    ),
    (
        "censored",
        "cbind(low, high)",
        {"high": {11: -50.0}},
        r"cbind\(low, high\) is .* in row 11",
    ),
    ("poisson", "word", {}, "column 'word' holds text, not numbers"),
    ("poisson", "grade", {}, "column 'grade' holds text, not numbers"),
    ("gaussian", "cbind(low, high)", {}, r"cbind\(low, high\) is the response of a binomial"),
    ("multinomial", "cbind(low, high)", {}, "multinomial needs one value in each row"),
    ("binomial", "cbind(hits)", {}, r"cbind\(\) takes two columns: cbind\(success, failure\)"),
    ("censored", "cbind(low, high, x)", {}, r"takes two columns: cbind\(lower, upper\)"),
    ("binomial", "cbind(hits, failure = size)", {}, "takes two columns"),
]


@pytest.mark.parametrize(("family", "response", "changes", "words"), BAD)
def test_what_no_family_has_is_named_by_row_of_the_table(data, family, response, changes, words):
    data = data.astype({"count": float, "hits": float})
    for column, rows in changes.items():
        for row, value in rows.items():
            data.loc[row, column] = value
    data.loc[0, "x"] = np.nan
    with pytest.raises(RanefError, match=words):
        specify_generalised(f"{response} ~ x + (1 | g)", data, family=family)


def test_proportions_that_are_none(data):
    data.loc[0, "x"] = np.nan
    for changes, message in [
        ({"share": {3: 0.3333}}, r"share times the weights.* in 1 row: in row 3 it is 0.3333 \* "),
        ({"size": {3: 4.5}}, r"whole numbers of trials.*; weights is 4.5 in row 3"),
        ({"share": {3: 2.0}}, r"proportions from 0 to 1.*share is 2 in row 3.*cbind\(success"),
    ]:
        bad = data.astype({"size": float})
        for column, rows in changes.items():
            bad.loc[list(rows), column] = list(rows.values())
        with pytest.raises(DataError, match=message):
            specify_generalised("share ~ x + (1 | g)", bad, family="binomial", weights="size")


def test_zeros_are_excused_where_they_have_a_part(data):
    with pytest.raises(DataError, match=r"whole numbers from 1; count is 0 in row \d+"):
        specify_generalised("count ~ (1 | g)", data, family="truncated_poisson")
    hurdle = specify_generalised("count ~ (1 | g)", data, family="truncated_poisson", zero="~1")
    np.testing.assert_array_equal(hurdle.parts["conditional"].y, data["count"])


def test_numbers_may_be_transformed(data):
    part = conditional("log(z) ~ (1 | g)", data, family="gaussian")
    assert part.response == "log(z)"
    np.testing.assert_array_equal(part.y, np.log(data["z"]))


@pytest.mark.parametrize(
    ("formula", "family", "weights"),
    [
        ("word ~ f + (1 | g)", "binomial", None),
        ("flag ~ f + (1 | g)", "binomial", None),
        ("cbind(hits, size - hits) ~ f + (x | g)", "betabinomial", None),
        ("share ~ f + (1 | g)", "binomial", "size"),
        ("grade ~ x + (1 | g)", "cumulative", None),
        ("word ~ x + (1 | h)", "multinomial", None),
        ("cbind(low, high) ~ x + (1 | g)", "censored", None),
        ("count ~ f + (1 | g)", "poisson", None),
    ],
)
def test_every_library_gives_the_same(data, formula, family, weights):
    base = specify_generalised(formula, data, family=family, weights=weights)
    arrow = pa.Table.from_pandas(data, preserve_index=False)
    tables = [
        pl.from_pandas(data).with_columns(
            pl.col("f").cast(pl.Enum(["lo", "mid", "hi"])),
            pl.col("grade").cast(pl.Enum(["poor", "fair", "good"])),
        ),
        arrow,
        data.convert_dtypes(),
        {name: data[name] if name in ("f", "grade") else data[name].to_numpy() for name in data},
    ]
    for table in tables:
        spec = specify_generalised(formula, table, family=family, weights=weights)
        one, two = spec.parts["conditional"], base.parts["conditional"]
        np.testing.assert_array_equal(one.y, two.y)
        np.testing.assert_array_equal(one.X, two.X)
        np.testing.assert_array_equal(one.factors[0].codes, two.factors[0].codes)
        assert spec.response == base.response
        assert (spec.extra is None) == (base.extra is None)
        if base.extra is not None:
            np.testing.assert_array_equal(spec.extra, base.extra)


def test_the_users_arrays_are_not_shared(data):
    weights = np.arange(1.0, N + 1)
    spec = specify_generalised("count ~ x + (1 | g)", data, family="poisson", weights=weights)
    part = spec.parts["conditional"]
    for mine, theirs in ((part.y, data["count"].to_numpy()), (part.weights, weights)):
        assert mine.dtype == np.float64
        assert mine.flags.c_contiguous
        assert not np.shares_memory(mine, theirs)
    shares = specify_generalised("hits/size ~ (1|g)", data, family="binomial", weights="size")
    assert not np.shares_memory(shares.extra, shares.parts["conditional"].y)


# --- new tables


RESPONSES = [
    ("count", "poisson", None),
    ("flag", "binomial", None),
    ("word", "binomial", None),
    ("cbind(hits, size - hits)", "binomial", None),
    ("share", "binomial", "size"),
    ("grade", "cumulative", None),
    ("h", "multinomial", None),
    ("cbind(low, high)", "censored", None),
    ("low", "censored", None),
    ("log(z)", "gaussian", "size"),
]


@pytest.mark.parametrize(("response", "family", "weights"), RESPONSES)
def test_the_response_of_a_table_is_read_as_in_the_fit(data, response, family, weights):
    data = data.astype({"x": float})
    data.loc[3, "x"] = np.nan
    spec = specify_generalised(
        f"{response} ~ x + (1 | g)", data, family=family, weights=weights, zero="~ 0"
    )
    part = spec.parts["conditional"]
    kept = spec.accounting.kept
    for recipe in (part.recipe, again(part.recipe)):
        assert recipe.reading == spec.response
        y, extra = recipe.response_and_extra(data)
        np.testing.assert_array_equal(y[kept], part.y)
        np.testing.assert_array_equal(recipe.response(data)[kept], part.y)
        assert (extra is None) == (spec.extra is None)
        if extra is not None:
            np.testing.assert_array_equal(extra[kept], spec.extra)
        few, _ = recipe.response_and_extra(data.iloc[[7, 5]])
        np.testing.assert_array_equal(few, y[[7, 5]])


def test_each_part_repeats_its_matrices(data):
    data.loc[3, "x"] = np.nan
    spec = specify_generalised(
        "count ~ poly(x, 2) + offset(z) + (x | g)",
        data,
        family="nbinom2",
        zero="~ scale(z) * f + (0 + f | h)",
        dispersion="~ within(z, g) + offset(x) + (1 | g:f)",
    )
    kept = spec.accounting.kept
    for part in spec.parts.values():
        for recipe in (part.recipe, again(part.recipe)):
            np.testing.assert_array_equal(recipe.fixed(data)[0][kept], part.X)
            for i, term in enumerate(part.terms):
                codes, z = recipe.random(data, i)
                np.testing.assert_array_equal(z[kept], term.z)
                np.testing.assert_array_equal(codes[kept], part.factors[term.factor].codes)
            shift = recipe.offset(data)
            if part.offset is None:
                assert shift is None
            else:
                np.testing.assert_array_equal(shift[kept], part.offset)
    with pytest.raises(ModelError, match="the formula has no response"):
        spec.parts["zero"].recipe.response(data)


def test_categories_of_another_table(data):
    part = conditional("grade ~ x + (1 | g)", data, family="cumulative")
    other = pd.DataFrame({"grade": ["good", None, "poor"]})
    np.testing.assert_array_equal(part.recipe.response(other), [2, np.nan, 0])
    with pytest.raises(LevelError, match=r"category that the fit has not seen: 'great'"):
        part.recipe.response(pd.DataFrame({"grade": ["good", "great"]}))


def test_missing_in_another_table(data):
    shares = conditional("share ~ (1 | g)", data, family="binomial", weights="size")
    other = pd.DataFrame({"share": [0.5, np.nan, 0.5], "size": [4.0, 4.0, np.nan]})
    y, extra = shares.recipe.response_and_extra(other)
    np.testing.assert_array_equal(y, [2, np.nan, np.nan])
    np.testing.assert_array_equal(extra, [4, 4, np.nan])
    ends = conditional("cbind(low, high) ~ (1 | g)", data, family="censored")
    other = pd.DataFrame({"low": [1.0, np.nan, np.nan], "high": [np.nan, 2.0, np.nan]})
    y, extra = ends.recipe.response_and_extra(other)
    np.testing.assert_array_equal(y, [1, -np.inf, np.nan])
    np.testing.assert_array_equal(extra, [np.inf, 2, np.nan])


def test_trials_given_as_an_array_are_not_there_again(data):
    part = conditional("share ~ (1 | g)", data, family="binomial", weights=data["size"].to_numpy())
    with pytest.raises(ModelError, match=r"trials of the proportions were given as an array"):
        part.recipe.response_and_extra(data)


def test_a_linear_recipe_has_nothing_beside_its_response(data):
    recipe = specify("low ~ (1 | g)", data).recipe
    saved = stored(recipe)
    assert saved.values["reading"] is None
    assert recipe.response_and_extra(data)[1] is None
    older = with_values(saved, {k: v for k, v in saved.values.items() if k != "reading"})
    np.testing.assert_array_equal(restored(older, Recipe).response(data), data["low"])


# --- whatever is typed


@pytest.fixture(scope="module")
def table():
    rng = np.random.default_rng(4)
    n = len(DATA)
    return DATA.assign(
        k=rng.integers(0, 4, n), w=rng.integers(1, 5, n), up=np.where(DATA.b, np.nan, DATA.y + 1)
    )


left = words(
    "y x k b s f t z m log(z) k/w w/w x/w cbind(k,w) cbind(y,up) cbind(k,w-k) I(k>1) factor(k) "
    "cbind(y) cbind(m,y) cbind(log(x),log(z)) offset(k) poly(x,2) nope d ordered(s) -y b+0"
)
sides = st.one_of(joined, expressions, st.sampled_from(["0", "1", "-1", "."]))
right = st.tuples(sides, st.lists(bars, max_size=2)).map(lambda p: " + ".join([p[0], *p[1]]))
models = st.fixed_dictionaries(
    {
        "formula": st.one_of(
            st.tuples(left, right).map(" ~ ".join), st.tuples(expressions, right).map(" ~ ".join)
        ),
        "family": st.sampled_from(FAMILIES),
        "zero": st.one_of(st.just("~0"), st.just("~1"), right.map("~ {}".format), st.text()),
        "dispersion": st.one_of(st.just("~1"), right.map("~ {}".format)),
        "weights": st.sampled_from([None, None, "w", "z", "m", "nope"]),
        "offset": st.sampled_from([None, None, "x", "m"]),
    }
)


SENSE = [
    ("poisson", "k", True, False),
    ("nbinom2", "k", True, True),
    ("truncated_nbinom1", "k+1", True, True),
    ("tweedie", "k", True, True),
    ("gaussian", "log(z)", False, True),
    ("t", "m", False, True),
    ("censored", "cbind(y, up)", False, True),
    ("binomial", "cbind(k, w)", True, False),
    ("binomial", "b", False, False),
    ("betabinomial", "s", False, True),
    ("cumulative", "f", False, False),
    ("multinomial", "k", False, False),
]
one = st.tuples(joined, words("(1|g) (1|g) (x|g) (1|s) (f||g) (1|g)+(1|f) (z|s)")).map(" + ".join)


@st.composite
def sound_models(draw):
    """Formulas that a family takes, most of which can be built."""
    family, left, zero, dispersion = draw(st.sampled_from(SENSE))
    options = {"formula": f"{left} ~ {draw(one)}", "family": family}
    parts = joined if draw(st.booleans()) else one
    if zero:
        options["zero"] = f"~ {draw(parts)}"
    if dispersion:
        options["dispersion"] = f"~ {draw(parts)}"
    if family in ("t", "tweedie"):
        options["shapes"] = {"df" if family == "t" else "p": f"~ {draw(parts)}"}
    return options | {"weights": draw(st.sampled_from([None, "w"]))}


@EASY
@given(sound_models())
def test_formulas_that_make_sense(table, options):
    check(table, options)


@EASY
@given(models)
def test_any_formulas(table, options):
    check(table, options)


def check(table, options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            spec = specify_generalised(data=table, kernels=KERNELS, functions=FUNCTIONS, **options)
        except RanefError:
            return
        holds_together(spec, table)


def holds_together(spec, table):
    """Parts have the same finite rows; the recipes repeat them."""
    n = spec.accounting.n_used
    y = spec.parts["conditional"].y
    spec.family.check(y, spec.extra, zero="zero" in spec.parts)
    assert any(part.terms for part in spec.parts.values())
    rows = slice(None) if spec.accounting.kept is None else spec.accounting.kept
    for part in spec.parts.values():
        assert part.X.shape == (n, len(part.names))
        assert np.isfinite(part.X).all()
        recipe = again(part.recipe, FUNCTIONS)
        try:
            np.testing.assert_array_equal(recipe.fixed(table)[0][rows], part.X)
            for i, term in enumerate(part.terms):
                codes, z = recipe.random(table, i)
                np.testing.assert_array_equal(codes[rows], part.factors[term.factor].codes)
                np.testing.assert_array_equal(z[rows], term.z)
        except LevelError:
            assert spec.accounting.kept is not None, "a level that only dropped rows have"
    try:
        again_y, extra = again(spec.parts["conditional"].recipe, FUNCTIONS).response_and_extra(
            table
        )
    except LevelError:
        assert spec.accounting.kept is not None, "a category that only dropped rows have"
        return
    np.testing.assert_array_equal(again_y[rows], y)
    if spec.extra is not None:
        np.testing.assert_array_equal(extra[rows], spec.extra)


@EASY
@given(st.data())
def test_spoiled_files_give_errors_only(table, data):
    formula, family, weights = data.draw(
        st.sampled_from(
            [
                ("cbind(k, w) ~ x + (1 | g)", "binomial", None),
                ("w/w ~ x + (1 | g)", "binomial", "w"),
                ("s ~ x + (1 | g)", "multinomial", None),
                ("cbind(y, up) ~ poly(x, 2) + (1 | g)", "censored", None),
            ]
        )
    )
    saved = stored(conditional(formula, table, family=family, weights=weights).recipe)
    inside = [path for path in places(saved.values) if path[:1] in (("reading",), ("formula",))]
    path = data.draw(st.sampled_from(sorted(inside, key=str)))
    broken = with_values(saved, spoiled(saved.values, path, data.draw(json_values)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            recipe = restored(broken, Recipe)
            y, extra = recipe.response_and_extra(table)
        except RanefError:
            return
        assert len(y) == len(table)
        assert extra is None or len(extra) == len(table)


def test_nothing_typed_is_run(data, tmp_path):
    mark = tmp_path / "ran"
    for text in (
        f"open('{mark}', 'w')",
        f"__import__('os').system('touch {mark}')",
        f"cbind(hits, open('{mark}', 'w'))",
    ):
        for options in ({"formula": f"{text} ~ (1 | g)"}, {"zero": f"~ {text}"}):
            with pytest.raises(RanefError):
                specify_generalised(
                    **{"formula": "hits ~ (1 | g)", "data": data, "family": "binomial", **options}
                )
    assert not mark.exists()


def test_messages_are_whole_sentences(data):
    with pytest.raises(DataError) as caught:
        specify_generalised("x ~ (1 | g)", data, family="poisson")
    assert re.fullmatch(
        r"poisson needs whole numbers from 0; x is -?[\d.]+ in row 0; 60 rows are like this",
        str(caught.value),
    )
