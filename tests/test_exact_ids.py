"""Whole-number ids of 64 bits and more: every library, gaps or none, to codes, files and back.

A float64 holds whole numbers exactly to 2^53 only. The ids here lie beyond, so a path
through floats merges levels: 20 groups became 11. The right number is known by construction.
"""

from __future__ import annotations

import decimal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from agreement import Agree

import ranef
from ranef.errors import DataError
from ranef.tables import Table

BASE = 2**53
GAP = [BASE + 3, None, BASE + 1, BASE, BASE + 2, BASE + 1]
WHOLE = [v for v in GAP if v is not None]
WIDE = [2**64 - 1, None, 2**64 - 2, 2**63]
HUGE = [2**100 + 1, None, 2**100]


def decimals(values: list[int | None]) -> list[decimal.Decimal | None]:
    return [None if v is None else decimal.Decimal(v) for v in values]


def columns() -> dict[str, tuple[Any, list[int | None]]]:
    polars: Any = pl
    made: dict[str, tuple[Any, list[int | None]]] = {
        "list": (GAP, GAP),
        "list with nan": ([float("nan") if v is None else v for v in GAP], GAP),
        "list without gaps": (WHOLE, WHOLE),
        "list of both signs": ([2**63, -1], [2**63, -1]),
        "masked array": (
            np.ma.masked_array([v or 0 for v in GAP], mask=[v is None for v in GAP]),
            GAP,
        ),
        "int64 array": (np.array(WHOLE), WHOLE),
        "uint64 array": (np.array([v for v in WIDE if v], dtype=np.uint64), [v for v in WIDE if v]),
        "objects": (np.array(GAP, dtype=object), GAP),
        "huge objects": (np.array(HUGE, dtype=object), HUGE),
        "decimals": (np.array(decimals(GAP), dtype=object), GAP),
        "pandas Int64": (pd.array(GAP, dtype="Int64"), GAP),
        "pandas UInt64": (pd.array(WIDE, dtype="UInt64"), WIDE),
        "pandas int64[pyarrow]": (pd.array(GAP, dtype="int64[pyarrow]"), GAP),
        "pandas uint64[pyarrow]": (pd.array(WIDE, dtype="uint64[pyarrow]"), WIDE),
        "pandas categorical": (pd.Categorical(pd.array(GAP, dtype="Int64")), GAP),
        "arrow int64": (pa.array(GAP), GAP),
        "arrow chunks": (pa.chunked_array([GAP[:2], GAP[2:]]), GAP),
        "arrow uint64": (pa.array(WIDE, pa.uint64()), WIDE),
        "arrow dictionary": (pa.array(GAP).dictionary_encode(), GAP),
        "arrow decimal": (pa.array(decimals(GAP)), GAP),
        "arrow wide decimal": (pa.array(decimals(HUGE)), HUGE),
        "arrow decimal with places": (pa.array(decimals(GAP), pa.decimal128(30, 2)), GAP),
        "pandas decimal with places": (
            pd.array(decimals(GAP), dtype=pd.ArrowDtype(pa.decimal128(30, 2))),
            GAP,
        ),
        "arrow run lengths": (pa.RunEndEncodedArray.from_arrays([1, 2, 3], WHOLE[:3]), WHOLE[:3]),
        "long doubles": (np.array(WHOLE, dtype=np.longdouble), WHOLE),
        "polars Int64": (pl.Series(GAP), GAP),
        "polars UInt64": (pl.Series(WIDE, dtype=pl.UInt64), WIDE),
        "polars Int128": (pl.Series(HUGE, dtype=polars.Int128), HUGE),
        "polars decimal": (pl.Series(decimals(GAP)), GAP),
        "polars decimal with places": (pl.Series(decimals(GAP), dtype=pl.Decimal(30, 2)), GAP),
    }
    return made


@pytest.mark.parametrize("kind", columns())
def test_codes_are_exact(kind: str) -> None:
    native, values = columns()[kind]
    table = Table.of({"g": native})
    codes, levels = table.codes("g")
    found = [None if code < 0 else int(levels[code]) for code in codes.tolist()]
    assert found == values
    if kind not in ("arrow dictionary",):  # it keeps the order of its own
        assert [int(level) for level in levels] == sorted({v for v in values if v is not None})


def frame() -> tuple[pd.DataFrame, list[int | None]]:
    rng = np.random.default_rng(0)
    n = 200
    g = np.arange(n) % 20
    data = pd.DataFrame({"y": rng.normal(size=20)[g] + rng.normal(size=n), "x": rng.normal(size=n)})
    return data, [None, *(BASE + g[1:]).tolist()]


def tables() -> dict[str, Any]:
    data, ids = frame()
    plain = {name: data[name].to_numpy() for name in data}
    return {
        "pandas": data.assign(g=pd.array(ids, dtype="Int64")),
        "pandas with Arrow types": data.assign(g=pd.array(ids, dtype="int64[pyarrow]")),
        "pyarrow": pa.table({**plain, "g": pa.array(ids)}),
        "polars": pl.DataFrame({**plain, "g": ids}),
        "dict": {**plain, "g": ids},
    }


@pytest.mark.parametrize("library", tables())
@pytest.mark.parametrize("group", ["g", "factor(g)"])
def test_fits_files_and_predictions_keep_every_group(
    library: str, group: str, tmp_path: Path, agree: Agree
) -> None:
    data = tables()[library]
    small = frame()[0].assign(g=pd.array([None, *(np.arange(1, 200) % 20)], dtype="Int64"))
    right = ranef.lmm("y ~ x + (1 | g)", small)
    fit = ranef.lmm(f"y ~ x + (1 | {group})", data)
    assert list(fit.n_groups.values()) == [20]
    agree("ranef.lmm", f"groups of ids beyond 2^53 beside a missing one, {library}, {group}",
          [*fit.n_groups.values(), fit.loglik], [20, right.loglik],
          peer="the same with ids of two digits")  # fmt: skip
    fit.save(tmp_path / "a.ranef")
    again = ranef.load(tmp_path / "a.ranef")
    kept = list(again.frame.columns.codes("g")[1])
    assert kept == [BASE + i for i in range(20)]
    expected = np.asarray(right.predict(small.iloc[1:]))
    new = {"y": np.zeros(199), "x": small["x"].to_numpy()[1:], "g": frame()[1][1:]}
    np.testing.assert_array_equal(np.asarray(again.predict(new)), expected)
    levels = Table.of(fit.tidy("random")).values("level").tolist()
    assert sorted(set(map(int, levels))) == [BASE + i for i in range(20)]


@pytest.mark.parametrize("values", [["0.25", None, "1.50"], ["0.1", "0.25", "0.1"]])
def test_decimals_of_few_digits_are_the_numbers_that_are_written(values: list[Any]) -> None:
    exact = [None if v is None else decimal.Decimal(v) for v in values]
    for native in (pa.array(exact), pl.Series(exact)):
        codes, levels = Table.of({"g": native}).codes("g")
        found = [None if code < 0 else levels[code] for code in codes.tolist()]
        assert found == [None if v is None else float(v) for v in values]


def test_decimals_of_more_digits_stay_apart() -> None:
    exact = [decimal.Decimal(f"{BASE}.{k}") for k in (1, 2, 1, 3)]
    for native in (pa.array(exact), pl.Series(exact)):
        codes, levels = Table.of({"g": native}).codes("g")
        assert [levels[code] for code in codes.tolist()] == exact


@pytest.mark.parametrize("kind", ["Datetime", "Duration"])
def test_times_that_differ_by_nanoseconds_keep_their_levels(kind: str, tmp_path: Path) -> None:
    """Python's own times end at microseconds: predictions took the effects of another group."""
    data = frame()[0]
    group = np.arange(200) % 20
    times = pl.Series((BASE + group).tolist()).cast(getattr(pl, kind)("ns"))
    table = pl.DataFrame({**{name: data[name].to_numpy() for name in data}, "g": times})
    right = ranef.lmm("y ~ x + (1 | g)", data.assign(g=group))
    fit = ranef.lmm("y ~ x + (1 | g)", table)
    assert list(fit.n_groups.values()) == [20]
    fit.save(tmp_path / "a.ranef")
    for known in (fit, ranef.load(tmp_path / "a.ranef")):
        new = np.asarray(known.predict(table.reverse()))
        np.testing.assert_allclose(new[::-1], right.predict(), rtol=1e-12)


def test_times_of_day_that_differ_by_nanoseconds_are_refused() -> None:
    with pytest.raises(DataError, match="less than a microsecond"):
        Table.of({"g": pa.array([1, 2, 1], pa.time64("ns"))}).codes("g")


@pytest.mark.parametrize("start", [2**64 - 20, 2**100])
def test_tables_of_arrow_hold_ids_beyond_int64(start: int) -> None:
    data = frame()[0]
    ids = [start + i % 20 for i in range(200)]
    held: Any = pa.array(ids, pa.uint64()) if start < 2**64 else pa.array(map(decimal.Decimal, ids))
    table = pa.table({**{name: data[name].to_numpy() for name in data}, "g": held})
    levels = ranef.lmm("y ~ x + (1 | g)", table).tidy("random")["level"].to_pylist()
    assert list(map(int, levels)) == [start + i for i in range(20)]


@pytest.mark.parametrize(
    "values", [[[1], [2], [1]], [{"a": 1}, {"a": 2}, {"a": 1}], [{1}, {2}, {1}]]
)
def test_what_can_be_no_level_is_refused(values: list[Any]) -> None:
    with pytest.raises(DataError, match="are no levels"):
        Table.of({"g": values}).codes("g")
    if not isinstance(values[0], set):
        with pytest.raises(DataError, match="are no levels"):
            Table.of(pl.DataFrame({"g": values})).codes("g")
