"""Random terms: columns, grouping, structures, positions, kernels."""

import numpy as np
import pandas as pd
import polars as pl
import pytest

from ranef.design.grouping import cross
from ranef.design.specify import specify
from ranef.design.values import Categories
from ranef.errors import (
    DataError,
    FormulaError,
    LevelError,
    ModelError,
    RankWarning,
    UnknownColumnError,
)

N = 120


@pytest.fixture
def data():
    rng = np.random.default_rng(5)
    return pd.DataFrame(
        {
            "y": rng.normal(size=N),
            "x": rng.normal(size=N),
            "u": rng.integers(0, 5, N) / 4,
            "v": rng.integers(0, 3, N) * 1.0,
            "t": np.tile([1, 2, 4, 5, 7, 8], 20),
            "f": np.tile(["p", "q", "r"], 40),
            "a": np.repeat(list("ABCD"), 30),
            "b": np.tile(np.repeat(list("uvw"), 10), 4),
            "g": np.repeat(np.arange(10), 12),
        }
    )


def summary(spec):
    return [(term.label, spec.factors[term.factor].name, term.names) for term in spec.terms]


@pytest.mark.parametrize(
    ("bar", "expected"),
    [
        ("(1 | g)", [("1 | g", "g", ("(Intercept)",))]),
        ("(x | g)", [("x | g", "g", ("(Intercept)", "x"))]),
        ("(0 + x | g)", [("0 + x | g", "g", ("x",))]),
        ("(x - 1 | g)", [("x - 1 | g", "g", ("x",))]),
        ("us(x | g)", [("x | g", "g", ("(Intercept)", "x"))]),
        ("(f | g)", [("f | g", "g", ("(Intercept)", "fq", "fr"))]),
        ("(0 + f | g)", [("0 + f | g", "g", ("fp", "fq", "fr"))]),
        ("(x || g)", [("1 | g", "g", ("(Intercept)",)), ("0 + x | g", "g", ("x",))]),
        (
            "(f || g)",
            [("1 | g", "g", ("(Intercept)",)), ("0 + f | g", "g", ("fp", "fq", "fr"))],
        ),
        ("(0 + f || g)", [("0 + f | g", "g", ("fp", "fq", "fr"))]),
        ("diag(0 + f | g)", [("diag(0 + f | g)", "g", ("fp", "fq", "fr"))]),
        (
            "(x * f || g)",
            [
                ("1 | g", "g", ("(Intercept)",)),
                ("0 + x | g", "g", ("x",)),
                ("0 + f | g", "g", ("fp", "fq", "fr")),
                ("0 + x:f | g", "g", ("x:fp", "x:fq", "x:fr")),
            ],
        ),
        ("(1 | a/b)", [("1 | b:a", "b:a", ("(Intercept)",)), ("1 | a", "a", ("(Intercept)",))]),
        ("(1 | a:b)", [("1 | a:b", "a:b", ("(Intercept)",))]),
        ("cs(f | g)", [("cs(f | g)", "g", ("(Intercept)", "fq", "fr"))]),
        ("rr(f | g, 2)", [("rr(f | g, 2)", "g", ("(Intercept)", "fq", "fr"))]),
        (
            "(poly(x, 2) | g)",
            [("poly(x, 2) | g", "g", ("(Intercept)", "poly(x, 2)1", "poly(x, 2)2"))],
        ),
        ("(0 + x:f | g)", [("0 + x:f | g", "g", ("x:fp", "x:fq", "x:fr"))]),
    ],
)
def test_labels_factors_and_columns(data, bar, expected):
    assert summary(specify(f"y ~ x + {bar}", data)) == expected


def test_several_terms_share_a_factor(data):
    spec = specify("y ~ x + (1 | g) + (0 + x | g) + (1 | a/b) + (x | a)", data)
    assert [factor.name for factor in spec.factors] == ["g", "b:a", "a"]
    assert [term.factor for term in spec.terms] == [0, 0, 1, 2, 2]


def test_z_holds_the_values(data):
    spec = specify("y ~ 1 + (0 + x:f | g) + (x | g)", data)
    expected = data.x.to_numpy()[:, None] * (data.f.to_numpy()[:, None] == np.array(list("pqr")))
    np.testing.assert_array_equal(spec.terms[0].z, expected)
    np.testing.assert_array_equal(spec.terms[1].z, np.column_stack([np.ones(N), data.x]))


def test_a_term_with_the_columns_of_the_fixed_effects_shares_them(data):
    spec = specify("y ~ x + (x | g)", data)
    assert spec.terms[0].z is spec.X
    with pytest.warns(RankWarning):
        spec = specify("y ~ x + I(x * 2) + (x + I(x * 2) | g)", data)
    assert spec.X.shape[1] == 2
    assert spec.terms[0].z.shape[1] == 3


def test_nested_levels_are_joined_in_the_factors_order(data):
    spec = specify("y ~ 1 + (1 | a/b)", data)
    inner, outer = spec.factors
    assert inner.columns == ("b", "a")
    assert list(inner.levels) == [f"{b}:{a}" for b in "uvw" for a in "ABCD"]
    assert list(outer.levels) == list("ABCD")
    labels = [inner.levels[code] for code in inner.codes]
    assert labels == [f"{b}:{a}" for a, b in zip(data.a, data.b, strict=True)]


def test_crossed_codes_agree_with_pandas():
    rng = np.random.default_rng(1)
    for sizes in ((3, 4), (2000, 3000), (5, 1, 7), (50_000, 50_000, 50_000)):
        parts = [
            Categories(rng.integers(-1, min(size, 900), 4000).astype(np.int32), range(size))
            for size in sizes
        ]
        crossed = cross(parts)
        frame = pd.DataFrame({str(i): part.codes for i, part in enumerate(parts)})
        known = (frame >= 0).all(axis=1)
        expected = frame[known].groupby(list(frame)).ngroup()
        np.testing.assert_array_equal(crossed.codes[known], expected)
        assert (crossed.codes[~known] == -1).all()
        np.testing.assert_array_equal(crossed.cells[crossed.codes[known]], frame[known])


def test_grouping_by_numbers_booleans_dates_and_expressions(data):
    data["day"] = pd.to_datetime("2020-01-01") + pd.to_timedelta(data.g, unit="D")
    data["half"] = data.x > 0
    data["real"] = data.g / 2
    for group in ("day", "half", "real", "factor(g)", "interaction(a, b)"):
        spec = specify(f"y ~ x + (1 | {group})", data)
        assert spec.factors[0].name == group
        assert spec.factors[0].n_levels == len(np.unique(spec.factors[0].codes))
    assert list(specify("y ~ x + (1 | half)", data).factors[0].levels) == [False, True]


@pytest.mark.parametrize("structure", ["ar1", "hetar1"])
def test_time_as_a_number_keeps_its_gaps(data, structure):
    term = specify(f"y ~ 1 + {structure}(t | g)", data).terms[0]
    assert term.structure == structure
    assert term.names == ("t1", "t2", "t4", "t5", "t7", "t8")
    np.testing.assert_array_equal(term.positions, [[1], [2], [4], [5], [7], [8]])
    np.testing.assert_array_equal(term.z, data.t.to_numpy()[:, None] == term.positions[:, 0])


def test_time_as_a_factor_counts_its_levels(data):
    term = specify("y ~ 1 + ar1(0 + factor(t) | g)", data).terms[0]
    np.testing.assert_array_equal(term.positions[:, 0], range(6))
    assert term.names[0] == "factor(t)1"
    data["when"] = pd.Categorical(data.t, categories=range(1, 9))
    term = specify("y ~ 1 + ar1(when | g)", data).terms[0]
    np.testing.assert_array_equal(term.positions[:, 0], [0, 1, 3, 4, 6, 7])
    assert term.names == tuple(f"when{t}" for t in (1, 2, 4, 5, 7, 8))


def test_coordinates_get_a_column_for_each_place(data):
    term = specify("y ~ 1 + exp(u + v | a)", data).terms[0]
    places = sorted(set(zip(data.u, data.v, strict=True)))
    np.testing.assert_array_equal(term.positions, places)
    np.testing.assert_array_equal(term.positions[term.z.argmax(axis=1)], data[["u", "v"]])
    assert term.names[1] == "(u,v)(0,1)"
    for structure in ("ou", "gau", "mat"):
        term = specify(f"y ~ 1 + {structure}(0 + u | a)", data).terms[0]
        np.testing.assert_array_equal(term.positions[:, 0], np.unique(data.u))


def test_one_group_is_enough_for_a_field(data):
    term = specify("y ~ 1 + exp(u + v | all)", data.assign(all=1)).terms[0]
    assert term.size == len(data[["u", "v"]].drop_duplicates())


def test_structures_that_are_wrong(data):
    for formula, kind, message in [
        ("y ~ ar1(u | g)", ModelError, "whole numbers as times.*use ou"),
        ("y ~ ar1(t + v | g)", FormulaError, "one time variable"),
        ("y ~ exp(f | g)", FormulaError, "numbers as coordinates; f is not one"),
        ("y ~ ar1(1 | g)", FormulaError, "needs a time or coordinates"),
        ("y ~ exp(u:v | g)", FormulaError, "needs a time or coordinates"),
        ("y ~ toep(t | g)", ModelError, "equally spaced times"),
        ("y ~ rr(f | g, 4)", ModelError, "rank 4, but has 3 columns"),
    ]:
        with pytest.raises(kind, match=message):
            specify(formula, data)


def test_zero_columns_are_left_out_and_equal_ones_refused(data):
    data["nil"] = 0.0
    with pytest.warns(RankWarning, match=r"\(x \+ nil \| g\) leaves out .* nil"):
        spec = specify("y ~ x + (x + nil | g)", data)
    assert spec.terms[0].names == ("(Intercept)", "x")
    np.testing.assert_array_equal(spec.recipe.random_columns(data, 0), spec.terms[0].z)
    with pytest.raises(ModelError, match=r"the columns x and I\(x \+ 0\).*are the same"):
        specify("y ~ 1 + (x + I(x + 0) | g)", data)
    with pytest.raises(ModelError, match="every column of the random term"):
        specify("y ~ 1 + (0 + nil | g)", data)


def test_identifiability_is_not_asked_of_known_or_structured_covariances(data):
    data["id"] = np.arange(N)
    K = (np.eye(N) + 0.5, range(N))
    assert specify("y ~ 1 + kernel(1 | id, K)", data, kernels={"K": K}).terms[0].kernel.shape == (
        N,
        N,
    )
    assert specify("y ~ 1 + ar1(t | g)", data).terms[0].size == 6
    with pytest.raises(ModelError, match="as many levels as there are rows"):
        specify("y ~ 1 + (1 | id)", data)


@pytest.fixture
def kernel():
    rng = np.random.default_rng(3)
    half = rng.normal(size=(14, 14))
    return half @ half.T / 14


def test_kernels_are_matched_by_label(data, kernel):
    order = np.random.default_rng(1).permutation(14)
    shuffled = kernel[np.ix_(order, order)]
    labels = [int(i) for i in order]
    text = [str(i) for i in labels]
    frame = pd.DataFrame(shuffled, index=labels, columns=labels)
    columns = pl.DataFrame(shuffled, schema=text)
    forms = [
        (shuffled, labels),
        frame,
        frame.iloc[:, ::-1],
        columns,
        columns.select(pl.Series("id", text), *text),
    ]
    for form in forms:
        term = specify("y ~ x + kernel(1 | g, K)", data, kernels={"K": form}).terms[0]
        np.testing.assert_allclose(term.kernel, kernel[:10, :10], rtol=0, atol=1e-15)
        assert term.label == "kernel(1 | g, K)"


def test_kernels_that_are_wrong(data, kernel):
    labels = list(range(14))
    skew = kernel.copy()
    skew[0, 1] += 1
    cases = [
        ({}, UnknownColumnError, "no kernel 'K'; pass it as kernels="),
        ({"k": (kernel, labels)}, UnknownColumnError, "no kernel 'K'; did you mean 'k'"),
        ({"K": (kernel[:8, :8], labels[:8])}, LevelError, "no row for 2 of 10 levels of 'g': 8, 9"),
        ({"K": (skew, labels)}, DataError, "not symmetric"),
        (
            {"K": (kernel - 2 * np.eye(14), labels)},
            DataError,
            "not positive semidefinite: its smallest",
        ),
        ({"K": (kernel[:, :3], labels)}, DataError, "not square"),
        ({"K": (kernel, labels[:3])}, DataError, "14 rows and 3 labels"),
        ({"K": (kernel, [0] * 14)}, DataError, "a label twice"),
        ({"K": kernel}, DataError, "has no labels"),
        (
            {"K": pd.DataFrame(kernel, columns=list("abcdefghijklmn"))},
            DataError,
            "different row and",
        ),
        ({"K": (np.full((14, 14), np.nan), labels)}, DataError, "missing or infinite"),
        ({"K": ([["a"]], [0])}, DataError, "no number"),
    ]
    for kernels, kind, message in cases:
        with pytest.raises(kind, match=message):
            specify("y ~ x + kernel(1 | g, K)", data, kernels=kernels)


def test_a_kernel_of_less_than_full_rank_is_one(data):
    ones = np.ones((10, 10))
    term = specify("y ~ x + kernel(1 | g, K)", data, kernels={"K": (ones, range(10))}).terms[0]
    np.testing.assert_array_equal(term.kernel, ones)
