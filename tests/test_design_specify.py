"""From formula and table to arrays: accounting, weights, ranks, libraries."""

import re
import subprocess
import sys
import warnings

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from ranef.design.rank import independent_columns
from ranef.design.specify import specify
from ranef.errors import DataError, LevelError, ModelError, RankWarning, UnknownColumnError

N = 60


@pytest.fixture
def data():
    rng = np.random.default_rng(3)
    return pd.DataFrame(
        {
            "y": rng.normal(size=N),
            "x": rng.normal(size=N),
            "n": rng.uniform(1, 9, N),
            "f": pd.Categorical(np.tile(["lo", "mid", "hi"], 20), categories=["lo", "mid", "hi"]),
            "s": np.tile(["b", "a"], 30),
            "flag": rng.random(N) > 0.5,
            "g": np.repeat(np.arange(10, 16), 10),
            "h": np.tile(list("vwxyz"), 12),
        }
    )


FORMULAS = [
    "y ~ x + (x | g)",
    "y ~ f * x + s + flag + (1 | g) + (1 | h)",
    "log(n) ~ poly(x, 2) + scale(n) + (0 + f | g) + offset(x)",
    "y ~ x + (1 | g/h)",
]


@pytest.mark.parametrize("formula", FORMULAS)
def test_every_library_gives_the_same(data, formula):
    base = specify(formula, data)
    arrow = pa.Table.from_pandas(data, preserve_index=False)
    tables = {
        "polars": pl.from_pandas(data).with_columns(
            pl.col("f").cast(pl.Enum(["lo", "mid", "hi"])), pl.col("s").cast(pl.Categorical)
        ),
        "pyarrow": arrow,
        "pandas on arrow": arrow.drop(["f"]).to_pandas(types_mapper=pd.ArrowDtype).assign(f=data.f),
        "pandas nullable": data.convert_dtypes(),
        "dict": {name: data[name].to_numpy() if name != "f" else data["f"] for name in data},
    }
    for name, table in tables.items():
        spec = specify(formula, table)
        assert spec.names == base.names, name
        np.testing.assert_array_equal(spec.X, base.X, err_msg=name)
        np.testing.assert_array_equal(spec.y, base.y, err_msg=name)
        for one, two in zip(spec.factors, base.factors, strict=True):
            assert list(one.levels) == list(two.levels), name
            np.testing.assert_array_equal(one.codes, two.codes, err_msg=name)
        for one, two in zip(spec.terms, base.terms, strict=True):
            np.testing.assert_array_equal(one.z, two.z, err_msg=name)


def test_arrays_are_contiguous_and_the_users_are_not_touched(data):
    spec = specify("y ~ x + f + (x | g)", data, weights="n", offset="x")
    for array in (spec.y, spec.X, spec.weights, spec.offset, spec.terms[0].z):
        assert array.dtype == np.float64
        assert array.flags.c_contiguous
    assert spec.factors[0].codes.dtype == np.int32
    for mine, name in ((spec.y, "y"), (spec.weights, "n"), (spec.offset, "x")):
        assert not np.shares_memory(mine, data[name].to_numpy())


@pytest.mark.parametrize(
    "formula",
    [
        "y ~ x",
        "y ~ f",
        "y ~ f * x",
        "y ~ f * s * x",
        "y ~ x:f + x",
        "y ~ 0 + f + x",
        "y ~ s + x:s + s:f + f",
    ],
)
def test_columns_span_what_formulaic_builds(data, formula):
    """Where the rules of rank agree, formulaic's matrix has the same columns."""
    from formulaic import model_matrix

    theirs = np.asarray(model_matrix(formula, data).rhs)
    ours = specify(f"{formula} + (1 | g)", data).X
    assert ours.shape == theirs.shape
    together = np.linalg.matrix_rank(np.column_stack([ours, theirs]))
    assert together == np.linalg.matrix_rank(ours) == ours.shape[1]
    order = [np.lexsort(matrix) for matrix in (ours, theirs)]
    np.testing.assert_allclose(ours[:, order[0]], theirs[:, order[1]])


def test_missing_rows_are_counted_by_column(data):
    data.loc[[0, 1], "x"] = np.nan
    data.loc[1, "y"] = np.nan
    data.loc[5, "f"] = None
    data.loc[7, "s"] = None
    data["g"] = data["g"].astype("Int64")
    data.loc[9, "g"] = pd.NA
    data["w"] = 1.0
    data.loc[11, "w"] = np.nan
    data["shift"] = 0.0
    data.loc[12, "shift"] = np.nan
    data.loc[20, "n"] = np.nan
    spec = specify("y ~ x + f + (x | g) + (1 | s)", data, weights="w", offset="shift")
    assert dict(spec.accounting.missing) == {
        "w": 1,
        "shift": 1,
        "y": 1,
        "x": 2,
        "f": 1,
        "g": 1,
        "s": 1,
    }
    assert spec.n == spec.accounting.n_used == N - 7
    assert spec.accounting.n_dropped == 7
    assert spec.accounting.n_zero_weight == 0
    kept = spec.accounting.kept
    np.testing.assert_array_equal(spec.y, data.y[kept])
    np.testing.assert_array_equal(spec.X[:, 1], data.x[kept])
    with pytest.raises(DataError, match=r"w \(1 row\), shift \(1 row\), y \(1 row\), x \(2 rows\)"):
        specify("y ~ x + f + (x | g)", data, weights="w", offset="shift", missing="raise")
    with pytest.raises(ModelError, match="'drop', 'raise'"):
        specify("y ~ x + (1 | g)", data, missing="ignore")


def test_no_missing_rows_is_no_mask(data):
    spec = specify("y ~ x + (1 | g)", data)
    assert spec.accounting.kept is None
    assert spec.accounting.n_dropped == 0


def test_levels_that_only_dropped_rows_have_are_gone(data):
    data.loc[data.f == "hi", "x"] = np.nan
    data.loc[data.g == 10, "x"] = np.nan
    spec = specify("y ~ x + f + (1 | g)", data)
    assert spec.names == ("(Intercept)", "x", "fmid")
    assert list(spec.factors[0].levels) == [11, 12, 13, 14, 15]
    assert set(spec.factors[0].codes) == set(range(5))


def test_rows_of_weight_zero_are_dropped_and_counted(data):
    weights = np.ones(N)
    weights[[0, 3, 5]] = 0
    data.loc[5, "x"] = np.nan
    spec = specify("y ~ x + (1 | g)", data, weights=weights)
    assert spec.n == N - 3
    assert spec.accounting.n_zero_weight == 2
    assert (spec.weights > 0).all()
    with pytest.raises(DataError, match="every weight is zero"):
        specify("y ~ x + (1 | g)", data.drop(index=5), weights=np.zeros(N - 1))


def test_weights_and_offsets_by_name_and_by_value(data):
    by_name = specify("y ~ x + (1 | g)", data, weights="n", offset="x")
    for values in (data.n, data.n.to_numpy(), data.n.tolist(), pl.Series(data.n.to_numpy())):
        spec = specify("y ~ x + (1 | g)", data, weights=values, offset=data.x)
        np.testing.assert_array_equal(spec.weights, by_name.weights)
        np.testing.assert_array_equal(spec.offset, by_name.offset)
    both = specify("y ~ x + (1 | g) + offset(log(n)) + offset(2 * x)", data, offset="x")
    np.testing.assert_allclose(both.offset, 3 * data.x + np.log(data.n))
    assert specify("y ~ x + (1 | g)", data).offset is None


def test_weights_that_are_wrong(data):
    bad = data.n.to_numpy().copy()
    bad[4] = -2
    with pytest.raises(DataError, match=r"weights is negative in 1 row \(first -2 in row 4\)"):
        specify("y ~ x + (1 | g)", data, weights=bad)
    bad[4] = np.inf
    with pytest.raises(DataError, match="weights is infinite in 1 row"):
        specify("y ~ x + (1 | g)", data, weights=bad)
    with pytest.raises(DataError, match="weights has 3 values for 60 rows"):
        specify("y ~ x + (1 | g)", data, weights=[1, 2, 3])
    with pytest.raises(UnknownColumnError, match="no column 'nn' for weights"):
        specify("y ~ x + (1 | g)", data, weights="nn")
    with pytest.raises(DataError, match="column's name or one number for each row"):
        specify("y ~ x + (1 | g)", data, weights=2.0)
    with pytest.raises(DataError, match="holds text"):
        specify("y ~ x + (1 | g)", data, offset="s")


@pytest.mark.parametrize("column", ["y", "x"])
def test_infinite_values_are_named(data, column):
    data.loc[[3, 8], column] = [np.inf, -np.inf]
    with pytest.raises(DataError, match=rf"{column} is infinite in 2 rows \(first in row 3\)"):
        specify("y ~ x + (1 | g)", data)
    with pytest.raises(DataError, match=rf"{column} is infinite in 2 rows"):
        specify("y ~ poly(x, 2) + (1 | g)", data)


def test_responses(data):
    assert specify("log(n) ~ x + (1 | g)", data).response == "log(n)"
    np.testing.assert_array_equal(specify("flag ~ x + (1 | g)", data).y, data.flag)
    assert specify("g ~ x + (1 | h)", data).y.dtype == np.float64
    constant = specify("k ~ x + (1 | g)", data.assign(k=2.0))
    assert (constant.y == 2).all()
    with pytest.raises(DataError, match="'s' holds text, not numbers; the first is 'b' in row 0"):
        specify("s ~ x + (1 | g)", data)
    with pytest.raises(DataError, match="'f' holds text, not numbers"):
        specify("f ~ x + (1 | g)", data)


def test_numbers_read_as_text(data):
    data["y"] = data.y.astype(str)
    with pytest.raises(DataError, match="though every value reads as one"):
        specify("y ~ x + (1 | g)", data)
    data["t"] = data.x.round(2).astype(str)
    with pytest.raises(DataError, match=r"'t' holds numbers as text \(first"):
        specify("n ~ t + (1 | g)", data)
    data.loc[4, "t"] = "n/a"
    with pytest.raises(
        DataError, match="'t' holds numbers as text, but 'n/a' in row 4 is no number"
    ):
        specify("n ~ t + (1 | g)", data)
    data["code"] = (data.g % 3).astype(str)
    assert specify("n ~ code + (1 | g)", data).names == ("(Intercept)", "code1", "code2")


def test_times_need_a_word(data):
    data["when"] = pd.date_range("2020-01-01", periods=N)
    data["span"] = data["when"] - data["when"].iloc[0]
    with pytest.raises(
        DataError, match=r"write as.numeric\(when\) for seconds since 1970-01-01 00:00 UTC"
    ):
        specify("y ~ when + (1 | g)", data)
    with pytest.raises(DataError, match=r"as.numeric\(span\) for seconds, or"):
        specify("y ~ span + (1 | g)", data)
    spec = specify("y ~ as.numeric(span) + (1 | g)", data)
    np.testing.assert_array_equal(spec.X[:, 1], np.arange(N) * 86400.0)


def test_tables_with_nothing_in_them(data):
    with pytest.raises(DataError, match="the table has no rows"):
        specify("y ~ x + (1 | g)", data.iloc[:0])
    data["x"] = np.nan
    with pytest.raises(DataError, match=r"no row of 60 is left to use; missing values: x \(60\)"):
        specify("y ~ x + (1 | g)", data)
    data["x"] = None
    with pytest.raises(DataError, match="no row of 60 is left"):
        specify("y ~ x + (1 | g)", data)


def test_too_few_rows(data):
    with pytest.raises(ModelError, match="4 rows are too few for 4 fixed effects"):
        specify("y ~ x + n + I(x^2) + (1 | s)", data.iloc[:4])


def test_one_level(data):
    one = data.assign(k="only")
    with pytest.raises(ModelError, match=r"k has 1 level \('only'\).*leave it out"):
        specify("y ~ k + (1 | g)", one)
    with pytest.raises(ModelError, match=r"grouping factor 'k' has one level \('only'\)"):
        specify("y ~ x + (1 | k)", one)


def test_as_many_effects_as_rows(data):
    data["id"] = np.arange(N)
    with pytest.raises(ModelError, match=r"'id' has as many levels as there are rows \(60\)"):
        specify("y ~ x + (1 | id)", data)
    assert specify("y ~ x + (x | g:h)", data).terms[0].size == 2  # x differs between the levels
    same = data.assign(x=data.groupby(["g", "h"]).cumcount())
    with pytest.raises(ModelError, match=r"30 x 2 = 60 random effects.*a term of its own"):
        specify("y ~ x + (x | g:h)", same)
    assert specify("y ~ x + (x | g:h)", same, undetermined="keep").terms[0].size == 2
    assert len(specify("y ~ x + (x || g:h)", same).terms) == 2


def test_redundant_columns_are_left_out_and_named(data):
    data["twice"] = 2 * data.x
    with pytest.warns(RankWarning, match="1 redundant column, left out: twice"):
        spec = specify("y ~ x + twice + f + (1 | g)", data)
    assert spec.names == ("(Intercept)", "x", "fmid", "fhi")
    assert spec.dropped_columns == ("twice",)
    with pytest.warns(RankWarning, match="2 redundant columns"):
        spec = specify("y ~ x + I(x + 0) + I(x * 1e8) + (1 | g)", data)
    assert spec.dropped_columns == ("I(x + 0)", "I(x * 1e+08)")


@pytest.mark.parametrize("scale", [1e-9, 1.0, 1e9, 1e150, 1e-150])
def test_scale_does_not_change_the_rank(scale):
    rng = np.random.default_rng(1)
    X = np.column_stack([np.ones(50), rng.normal(size=(50, 3))])
    X = np.column_stack([X, X @ [1.0, 2, -1, 0.5]])
    X[:, 2] *= scale
    X[:, 4] *= scale
    np.testing.assert_array_equal(independent_columns(X), [0, 1, 2, 3])


def test_nearly_redundant_columns_are_kept_as_r_keeps_them():
    rng = np.random.default_rng(2)
    one, x, noise = np.ones(200), rng.normal(size=200), rng.normal(size=200)
    for size, kept in ((1e-5, 3), (1e-6, 3), (1e-8, 2), (1e-12, 2), (0.0, 2)):
        X = np.column_stack([one, x, x + size * noise])
        assert len(independent_columns(X)) == kept
    wide = rng.normal(size=(5, 9))
    np.testing.assert_array_equal(independent_columns(wide), range(5))
    assert len(independent_columns(np.zeros((4, 2)))) == 0
    assert len(independent_columns(np.zeros((4, 0)))) == 0


def test_a_constant_column_is_redundant_with_the_intercept(data):
    with pytest.warns(RankWarning, match="left out: k"):
        spec = specify("y ~ k + x + (1 | g)", data.assign(k=3.0))
    assert spec.dropped_columns == ("k",)


def test_too_many_columns_are_refused_before_they_are_made():
    n = 20_000
    ids = np.arange(n)
    data = {"y": ids * 1.0, "a": ids.astype(str), "b": (ids % 5000).astype(str), "g": ids % 7}
    with pytest.raises(ModelError, match="so many levels belongs in a random term"):
        specify("y ~ a:b + (1 | g)", data)


def test_contrasts_by_argument(data):
    coded = {
        "sum": [[1, 0], [0, 1], [-1, -1]],
        "contr.helmert": [[-1, -1], [1, -1], [0, 2]],
        "contr.SAS": [[1, 0], [0, 1], [0, 0]],
        "Treatment(reference='mid')": [[1, 0], [0, 0], [0, 1]],
        "contr.treatment(base = 3)": [[1, 0], [0, 1], [0, 0]],
        "contr.sdif": np.array([[-2, -1], [1, -1], [1, 2]]) / 3,
    }
    for given, rows in coded.items():
        spec = specify("y ~ f + (1 | g)", data, contrasts={"f": given})
        np.testing.assert_allclose(spec.X[:3, 1:], rows, atol=1e-15)
    matrix = pd.DataFrame(
        {"up": [0.0, 1.0, 0.5], "bend": [1.0, 0.0, 0.0]}, index=["hi", "lo", "mid"]
    )
    spec = specify("y ~ f + (1 | g)", data, contrasts={"f": matrix})
    assert spec.names == ("(Intercept)", "fup", "fbend")
    np.testing.assert_array_equal(spec.X[:3, 1:], [[1, 0], [0.5, 0], [0, 1]])
    spec = specify("y ~ f + (1 | g)", data, contrasts={"f": [[1], [0], [-1]]})
    assert spec.names == ("(Intercept)", "f1")


def test_contrasts_that_are_wrong(data):
    for given, kind, message in [
        ({"f": "smu"}, Exception, "did you mean 'sum'"),
        ({"ff": "sum"}, ModelError, "'ff', which is not in the formula; did you mean 'f'"),
        ({"x": "sum"}, ModelError, "'x', which holds numbers"),
        ({"f": [[1, 0], [0, 1]]}, DataError, "have 2 rows for 3 levels"),
        ({"f": np.eye(3)}, DataError, "3 columns; 3 levels allow 1 to 2"),
        ({"f": object()}, ModelError, "neither a name such as 'sum' nor a matrix"),
        ({"f": [[1.0], [np.nan], [2]]}, ModelError, "finite"),
        ({"f": pd.DataFrame({"a": [1.0, 2]}, index=["lo", "hi"])}, LevelError, "no row for 'mid'"),
        ({"f": "Treatment('no')"}, LevelError, "is no level of f"),
    ]:
        with pytest.raises(kind, match=re.escape(message) if kind is ModelError else message):
            specify("y ~ f + x + (1 | g)", data, contrasts=given)


def test_ordered_categories_take_treatment_coding(data):
    data["f"] = data["f"].cat.as_ordered()
    assert specify("y ~ f + (1 | g)", data).names == ("(Intercept)", "fmid", "fhi")


def test_a_boolean_is_a_factor_and_a_number_where_numbers_are_needed(data):
    assert specify("y ~ flag + (1 | g)", data).names == ("(Intercept)", "flagTRUE")
    spec = specify("y ~ I(2 * flag) + (1 | g)", data)
    assert spec.names == ("(Intercept)", "I(2 * flag)")
    np.testing.assert_array_equal(spec.X[:, 1], 2 * data.flag)


def test_lag_within_and_between(data):
    data["order"] = np.arange(len(data))
    shuffled = data.sample(frac=1, random_state=1)
    lag = "lag(x, g, time = order)"
    spec = specify(f"y ~ {lag} + within(n, g) + between(n, g) + (1 | g)", shuffled)
    kept = spec.accounting.kept
    assert dict(spec.accounting.missing) == {lag: 6}
    before = data.groupby("g").x.shift(1).reindex(shuffled.index)
    np.testing.assert_array_equal(spec.X[:, 1], before[kept])
    used = shuffled[kept]
    means = used.groupby("g").n.transform("mean")
    np.testing.assert_allclose(spec.X[:, 3], means)
    np.testing.assert_allclose(spec.X[:, 2], used.n - means, atol=1e-12)
    spec = specify("y ~ lag(x, g, n = 2, time = order) + (1 | g)", shuffled)
    expected = data.groupby("g").x.shift(2).reindex(shuffled.index)
    np.testing.assert_array_equal(spec.X[:, 1], expected[expected.notna()])


def test_what_a_function_learns_comes_from_all_rows_with_a_value(data):
    data.loc[:9, "y"] = np.nan
    data.loc[10:12, "x"] = np.nan
    spec = specify("y ~ scale(x) + (1 | g)", data)
    expected = ((data.x - data.x.mean()) / data.x.std())[spec.accounting.kept]
    np.testing.assert_allclose(spec.X[:, 1], expected)


def test_a_plain_model_imports_no_heavy_library():
    code = (
        "import sys; from ranef.design import specify; import numpy as np;"
        "r = np.random.default_rng(1); d = {'y': r.normal(size=40), 'x': r.normal(size=40),"
        "'f': list('abcd') * 10, 'g': np.arange(40) // 8};"
        "specify('y ~ x * f + (x | g)', d);"
        "heavy = {'pandas', 'polars', 'pyarrow', 'narwhals', 'scipy', 'formulaic'};"
        "bad = heavy & set(sys.modules);"
        "sys.exit(str(bad) if bad else 0)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_healthy_model_warns_of_nothing(data):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for formula in FORMULAS:
            specify(formula, data)
