"""Tables: every library and every type of column reads the same."""

import datetime as dt
import subprocess
import sys
from decimal import Decimal

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from ranef.errors import DataError, UnknownColumnError
from ranef.tables import Table, make_table

NUMBERS = [1.5, None, -2.0, 1.5]
WHOLE = [3, None, 1, 3]
TEXTS = ["b", None, "a", "b"]
FLAGS = [True, None, False, True]
TIMES = [dt.datetime(2020, 1, 2), None, dt.datetime(2020, 1, 1), dt.datetime(2020, 1, 2)]
SPANS = [dt.timedelta(days=1), None, dt.timedelta(hours=1), dt.timedelta(days=1)]
COLUMNS = {"f": NUMBERS, "i": WHOLE, "s": TEXTS, "b": FLAGS, "d": TIMES, "td": SPANS}
ARROW = pa.table(COLUMNS)

LIBRARIES = {
    "dict of lists": dict(COLUMNS),
    "dict of objects": {k: np.array(v, dtype=object) for k, v in COLUMNS.items()},
    "pandas": pd.DataFrame(COLUMNS),
    "pandas objects": pd.DataFrame(COLUMNS, dtype=object),
    "pandas nullable": pd.DataFrame(COLUMNS).convert_dtypes(),
    "pandas on arrow": ARROW.to_pandas(types_mapper=pd.ArrowDtype),
    "polars": pl.DataFrame(COLUMNS),
    "pyarrow": ARROW,
    "pyarrow in chunks": pa.concat_tables([ARROW.slice(0, 2), ARROW.slice(2)]),
    "record batch": ARROW.to_batches()[0],
}


@pytest.fixture(params=LIBRARIES, ids=list(LIBRARIES))
def table(request):
    return Table.of(LIBRARIES[request.param])


def test_numbers(table):
    np.testing.assert_array_equal(table.numeric("f"), [1.5, np.nan, -2.0, 1.5])
    np.testing.assert_array_equal(table.numeric("i"), [3, np.nan, 1, 3])
    np.testing.assert_array_equal(table.numeric("b"), [1, np.nan, 0, 1])
    assert table.numeric("f").dtype == np.float64


def test_kinds(table):
    kinds = [table.kind(name) for name in COLUMNS]
    assert kinds == ["numeric", "numeric", "text", "boolean", "datetime", "duration"]


@pytest.mark.parametrize("name", list(COLUMNS))
def test_codes_are_sorted_levels_and_minus_one(table, name):
    codes, levels = table.codes(name)
    assert codes.dtype == np.int32
    np.testing.assert_array_equal(codes, [1, -1, 0, 1])
    assert len(levels) == 2
    if name in "fisb":
        assert levels == sorted(set(COLUMNS[name]) - {None})


def test_seconds(table):
    first = dt.datetime(2020, 1, 1, tzinfo=dt.UTC).timestamp()
    np.testing.assert_array_equal(table.seconds("d"), [first + 86400, np.nan, first, first + 86400])
    np.testing.assert_array_equal(table.seconds("td"), [86400, np.nan, 3600, 86400])


def test_values_keep_the_types(table):
    assert table.values("s")[0] == "b"
    assert float(table.values("f")[2]) == -2.0
    assert len(table.values("d")) == 4


def test_time_zones_are_read_in_utc():
    local = pd.to_datetime(["2020-07-01 02:00", None]).tz_localize("Europe/Paris")
    arrow = pa.table({"d": pa.array(local)})
    for data in (pd.DataFrame({"d": local}), pl.from_arrow(arrow), arrow, {"d": list(local)}):
        seconds = Table.of(data).seconds("d")
        assert seconds[0] == dt.datetime(2020, 7, 1, tzinfo=dt.UTC).timestamp()
        assert np.isnan(seconds[1])


def test_dates_count_from_midnight():
    days = [dt.date(1970, 1, 2), None]
    for data in ({"d": days}, pl.DataFrame({"d": days}), pa.table({"d": days})):
        np.testing.assert_array_equal(Table.of(data).seconds("d"), [86400, np.nan])


def test_categorical_columns_keep_their_own_order():
    order = ["low", "high", "never"]
    values = ["high", None, "low"]
    tables = [
        pd.DataFrame({"g": pd.Categorical(values, categories=order)}),
        pd.DataFrame({"g": pd.Categorical(values, categories=order, ordered=True)}),
        pl.DataFrame({"g": pl.Series(values, dtype=pl.Enum(order))}),
        pa.table({"g": pa.DictionaryArray.from_arrays(pa.array([1, None, 0]), pa.array(order))}),
    ]
    for data in tables:
        table = Table.of(data)
        assert table.kind("g") == "categorical"
        codes, levels = table.codes("g")
        assert levels == order
        np.testing.assert_array_equal(codes, [1, -1, 0])


def test_a_polars_categorical_has_no_order_of_its_own():
    codes, levels = Table.of({"g": pl.Series(["z", None, "a"], dtype=pl.Categorical)}).codes("g")
    assert levels == ["a", "z"]
    np.testing.assert_array_equal(codes, [1, -1, 0])


@pytest.mark.parametrize("low", [0, -7, 10**12, 2**62])
def test_codes_of_integers_of_any_range(low):
    rng = np.random.default_rng(1)
    for spread in (5, 400, 10**6):
        values = low + rng.integers(0, spread, 50)
        for data in ({"g": values}, pd.DataFrame({"g": values}), pl.DataFrame({"g": values})):
            codes, levels = Table.of(data).codes("g")
            assert levels == sorted(set(values.tolist()))
            np.testing.assert_array_equal(np.array(levels)[codes], values)


def test_levels_are_of_the_users_type():
    table = Table.of({"i": np.array([2, 1]), "f": [2.0, 1.5], "b": [True, False], "s": ["x", "y"]})
    kinds = [type(table.codes(name)[1][0]) for name in "ifbs"]
    assert kinds == [int, float, bool, str]


def test_unsigned_and_short_integers():
    for kind in (np.int8, np.uint8, np.uint64, np.float32):
        table = Table.of({"g": np.array([200 % 120, 3, 200 % 120], dtype=kind)})
        codes, levels = table.codes("g")
        np.testing.assert_array_equal(np.array(levels)[codes], [80, 3, 80])
        np.testing.assert_array_equal(table.numeric("g"), [80.0, 3.0, 80.0])


def test_codes_of_int8_over_its_full_range():
    for extreme in ([-128, 127, 0, 127], [-100, 100, -100]):
        values = np.array(extreme, dtype=np.int8)
        codes, levels = Table.of({"g": values}).codes("g")
        assert [levels[c] for c in codes] == values.tolist()


def test_masked_and_structured_arrays():
    masked = np.ma.array([1.0, 2.0], mask=[False, True])
    np.testing.assert_array_equal(Table.of({"x": masked}).numeric("x"), [1.0, np.nan])
    structured = np.array([(1, "a"), (2, "b")], dtype=[("x", int), ("g", "U1")])
    assert Table.of(structured).codes("g")[1] == ["a", "b"]


def test_empty_columns():
    for data in (
        {"e": [None, None]},
        pd.DataFrame({"e": [None, None]}),
        pa.table({"e": [None, None]}),
    ):
        table = Table.of(data)
        assert np.isnan(table.numeric("e")).all()
        assert table.codes("e")[1] == []


def test_text_for_numbers_names_the_first_offence():
    with pytest.raises(DataError, match=r"'x' holds text, not numbers.*'n/a' in row 2"):
        Table.of({"x": ["1", "2", "n/a", "4", "5"]}).numeric("x")
    with pytest.raises(DataError, match=r"every value reads as one \(such as '1,5'|'1.5'"):
        Table.of({"x": ["1.5", "2"]}).numeric("x")
    with pytest.raises(DataError, match="first is 'a' in row 0"):
        Table.of({"x": ["a", "b"]}).numeric("x")


def test_times_are_no_numbers_unless_asked():
    table = Table.of({"d": TIMES, "x": [1, 2, 3, 4]})
    with pytest.raises(DataError, match=r"datetimes, not numbers; as.numeric\(d\)"):
        table.numeric("d")
    with pytest.raises(DataError, match="numeric values, not times"):
        table.seconds("x")


def test_mixed_types():
    table = Table.of({"m": [1, "a", None]})
    assert table.kind("m") == "mixed"
    with pytest.raises(DataError, match="mixes types"):
        table.codes("m")
    with pytest.raises(DataError, match="holds numbers and other values"):
        table.numeric("m")


def test_duplicate_and_unknown_names():
    twice = pd.DataFrame(np.zeros((2, 3)), columns=["x", "x", "y"])
    with pytest.raises(DataError, match="more than one column named 'x'"):
        Table.of(twice)
    with pytest.raises(DataError, match="more than one column named '1'"):
        Table.of({1: [1.0], "1": [2.0]})
    with pytest.raises(UnknownColumnError, match="no column 'Dayz'; did you mean 'Days'"):
        Table.of({"Days": [1.0]}).numeric("Dayz")


def test_what_is_no_table():
    with pytest.raises(DataError, match="cannot read a table from int"):
        Table.of(3)
    with pytest.raises(DataError, match="LazyFrame; call"):
        Table.of(pl.LazyFrame({"x": [1]}))
    with pytest.raises(DataError, match="differ in length: 'x' has 1, 'y' has 2"):
        Table.of({"x": [1], "y": [1, 2]})
    with pytest.raises(DataError, match="'x' is a single int"):
        Table.of({"x": 1})
    with pytest.raises(DataError, match="2 dimensions"):
        Table.of({"x": np.zeros((2, 2))}).numeric("x")
    with pytest.raises(DataError, match="complex"):
        Table.of({"x": np.array([1j])}).numeric("x")
    wide = pd.DataFrame(np.zeros((1, 1)), columns=pd.MultiIndex.from_tuples([("a", "b")]))
    with pytest.raises(DataError, match="MultiIndex"):
        Table.of(wide)


@pytest.mark.parametrize("library", ["pandas", "polars", "pyarrow", "dict"])
def test_tables_go_out_as_they_came_in(library):
    columns = {
        "term": np.array(["a", "b"], dtype=object),
        "n": np.array([1, 2]),
        "x": np.array([0.5, np.nan]),
    }
    made = make_table(columns, library)
    table = Table.of(made)
    assert table.columns == ["term", "n", "x"]
    assert table.library == ("pandas" if library == "dict" else library)
    np.testing.assert_array_equal(table.numeric("x"), columns["x"])
    assert table.codes("term")[1] == ["a", "b"]


def test_pandas_keeps_its_index():
    frame = pd.DataFrame({"x": [1.0, 2.0]}, index=["r", "s"])
    made = make_table({"fitted": [1.0, 2.0]}, "pandas", Table.of(frame).index)
    assert made.index.tolist() == ["r", "s"]
    with pytest.raises(DataError, match="no table library 'excel'"):
        make_table({}, "excel")


def test_reading_a_dict_imports_no_library():
    code = (
        "import sys; from ranef.tables import Table; import numpy as np;"
        "t = Table.of({'x': np.arange(3.0), 'g': list('aba')}); t.codes('g'); t.numeric('x');"
        "bad = {'pandas', 'polars', 'pyarrow', 'narwhals', 'scipy'} & set(sys.modules);"
        "sys.exit(str(bad) if bad else 0)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("name", ["d", "td"])
def test_levels_of_times_are_those_of_python_in_every_library(table, name):
    levels = table.codes(name)[1]
    assert levels == sorted(set(COLUMNS[name]) - {None})
    assert {type(level) for level in levels} == {dt.datetime if name == "d" else dt.timedelta}


def test_times_finer_than_a_microsecond_stay_apart():
    for kind in ("M8[ns]", "m8[ns]"):
        codes, levels = Table.of({"t": np.array([1, 0, 1000], dtype=kind)}).codes("t")
        np.testing.assert_array_equal(codes, [1, 0, 2])
        assert levels == list(np.array([0, 1, 1000], dtype=kind))


def test_times_with_a_zone_and_dates_keep_theirs():
    local = pd.Series(pd.to_datetime(["2024-07-01 02:00"])).dt.tz_localize("Europe/Paris")
    for data in (pd.DataFrame({"d": local}), pl.DataFrame({"d": local})):
        (level,) = Table.of(data).codes("d")[1]
        assert type(level) is dt.datetime
        assert str(level) == "2024-07-01 02:00:00+02:00"
        assert str(level.tzinfo) == "Europe/Paris"
    days = [dt.date(2024, 7, 1)]
    for data in ({"d": days}, pl.DataFrame({"d": days}), pa.table({"d": days})):
        assert Table.of(data).codes("d")[1] == days


def test_decimals_of_arrow_are_numbers_everywhere():
    table = Table.of(pa.table({"x": pa.array([Decimal("0.1"), None, Decimal("2.5")])}))
    np.testing.assert_array_equal(table.values("x")[[0, 2]], [0.1, 2.5])
    assert table.codes("x")[1] == [0.1, 2.5]
