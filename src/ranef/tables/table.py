"""One view of a table, whatever library holds it, and its columns.

Plain NumPy, pandas and Arrow columns are read directly, since speed counts
there; everything else goes through narwhals.
"""

from __future__ import annotations

import datetime
import sys
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterable, Mapping
from copy import copy
from dataclasses import dataclass
from functools import cache
from os import PathLike
from pathlib import PurePath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ranef.errors import DataError, UnknownColumnError, shortened, suggestion
from ranef.tables.alignment import common_labels
from ranef.tables.codes import (
    Codes,
    codes_by_sorting,
    codes_of_gaps,
    codes_of_integers,
    codes_of_objects,
    minus_one,
    mixed_for_numbers,
    sorted_codes,
    text_for_numbers,
)
from ranef.tables.kinds import (
    KINDS_OF_DTYPE,
    arrow_kind,
    is_missing,
    kind_of_objects,
    missing_objects,
    narwhals_kind,
    plain_times,
    seconds,
    times_of_objects,
)
from ranef.tables.make import make_table

__all__ = ["Column", "Repeated", "Table", "read_column"]

WIDE = frozenset(("Int128", "UInt128", "Decimal"))
EXACT = 2**53


class Table:
    """A table read by column.

    Make one with `Table.of`. Columns are read when asked for and kept.

    Attributes
    ----------
    columns : list of str
        Column names, in order.
    n_rows : int
    library : {"pandas", "polars", "pyarrow", "dict"}
        Where the table came from, for `make_table`.
    index : pandas index or None
        Row labels of a pandas table.

    Examples
    --------
    >>> table = Table.of({"x": [1.0, 2.0, None], "g": ["b", "a", "b"]})
    >>> table.kind("g")
    'text'
    >>> table.numeric("x")
    array([ 1.,  2., nan])
    >>> table.codes("g")
    (array([1, 0, 1], dtype=int32), ['a', 'b'])
    """

    __slots__ = (
        "_given", "_keys", "_native", "_read", "columns", "index", "labels", "library", "n_rows",
    )  # fmt: skip

    def __init__(
        self,
        native: Any,
        keys: Mapping[str, Any],
        n_rows: int,
        library: str,
        index: Any,
        labels: Any = None,
    ) -> None:
        self._native = native
        self._keys = keys
        self._given: dict[str, Any] = {}
        self._read: dict[str, Column] = {}
        self.columns = list(keys)
        self.n_rows = n_rows
        self.library = library
        self.index = index
        self.labels = index if labels is None else labels

    @classmethod
    def of(cls, data: Any) -> Table:
        """Wrap a pandas, polars or pyarrow table or a mapping of arrays."""
        if isinstance(data, Table):
            return data
        pandas = sys.modules.get("pandas")
        if pandas is not None and isinstance(data, pandas.DataFrame):
            return cls(data, _pandas_keys(data), len(data), "pandas", data.index)
        polars = sys.modules.get("polars")
        if polars is not None and isinstance(data, polars.DataFrame):
            return cls(data, {name: name for name in data.columns}, data.height, "polars", None)
        if polars is not None and isinstance(data, polars.LazyFrame):
            raise DataError("the table is a polars LazyFrame; call .collect() on it first")
        arrow = sys.modules.get("pyarrow")
        if arrow is not None and isinstance(data, arrow.RecordBatch):
            data = arrow.Table.from_batches([data])
        if arrow is not None and isinstance(data, arrow.Table):
            return cls(data, _unique(data.column_names), data.num_rows, "pyarrow", None)
        if isinstance(data, Mapping):
            return cls._of_mapping(data)
        if isinstance(data, np.ndarray) and data.dtype.names:
            return cls._of_mapping({name: data[name] for name in data.dtype.names})
        return cls._of_other(data)

    @classmethod
    def _of_mapping(cls, data: Mapping[Any, Any]) -> Table:
        keys = _unique(list(data))
        lengths: dict[str, int] = {}
        for name, key in keys.items():
            try:
                lengths[name] = len(data[key])
            except TypeError:
                raise DataError(
                    f"column {name!r} is a single {type(data[key]).__name__}; give one value a row"
                ) from None
        if len(set(lengths.values())) > 1:
            stated = ", ".join(f"{name!r} has {length}" for name, length in lengths.items())
            raise DataError(f"the columns differ in length: {stated}")
        n_rows = next(iter(lengths.values()), 0)
        labels = common_labels({name: data[key] for name, key in keys.items()})
        return cls(data, keys, n_rows, "dict", None, labels)

    @classmethod
    def _of_other(cls, data: Any) -> Table:
        try:
            import narwhals as nw

            frame = nw.from_native(data, eager_only=True)
        except (ImportError, TypeError):
            raise DataError(f"{_no_table(data)}, or a dict of arrays") from None
        return cls.of(frame.to_polars() if "polars" in sys.modules else frame.to_arrow())

    def __len__(self) -> int:
        return self.n_rows

    def __contains__(self, name: object) -> bool:
        try:
            return name in self._keys
        except TypeError:
            raise DataError(f"a column is named by one text, not {shortened(name)}") from None

    def __repr__(self) -> str:
        return f"<Table: {self.n_rows} rows, {len(self.columns)} columns, from {self.library}>"

    def column(self, name: str) -> Column:
        """Return the column, read once."""
        found = self._read.get(name)
        if found is None:
            if name not in self._keys:
                raise UnknownColumnError(f"no column {name!r}{suggestion(name, self.columns)}")
            found = read_column(name, self._column_given(name))
            self._read[name] = found
        return found

    def _column_given(self, name: str) -> Any:
        """Return the column in the user's library, taken from the table once."""
        found = self._given.get(name)
        if found is None:
            found = self._given[name] = self._native[self._keys[name]]
        return found

    def snapshot(self, columns: Iterable[str]) -> Table:
        """Return a table of these columns that later changes of the user's own cannot reach.

        Columns of pandas 3 (copy on write), polars and Arrow are shared, others copied.
        """
        keys = {name: name for name in columns}
        keep = _as_it_is if self.library == "pandas" and _copies_on_write() else _kept
        native = {name: keep(self._column_given(name)) for name in keys}
        return Table(native, keys, self.n_rows, self.library, self.index, self.labels)

    def extended(self, columns: Mapping[str, Any]) -> Any:
        """Return the user's own table with columns added or replaced, one value a row each."""
        if self.library == "pandas":
            return self._native.assign(**columns)
        if self.library == "polars":
            import polars as pl

            return self._native.with_columns([pl.Series(n, v) for n, v in columns.items()])
        given = {name: self._column_given(name) for name in self.columns}
        return make_table({**given, **columns}, self.library)

    def mapping(self, rows: NDArray[Any] | None = None) -> dict[str, Any]:
        """Return the columns by name, of these rows (a mask, or places).

        Each is in its own type and with its levels.
        """
        take = slice(None) if rows is None else rows
        return {name: self._taken(name, take) for name in self.columns}

    def _taken(self, name: str, take: Any) -> Any:
        if self.kind(name) != "categorical":
            return self.values(name)[take]
        import pandas as pd

        codes, levels = self.codes(name)
        return pd.Categorical.from_codes(codes[take], categories=levels)

    def kind(self, name: str) -> str:
        """Say what a column holds.

        One of ``"numeric"``, ``"boolean"``, ``"categorical"``, ``"text"``,
        ``"datetime"``, ``"duration"``, ``"mixed"``, ``"empty"``.
        """
        return self.column(name).kind

    def numeric(self, name: str) -> NDArray[np.float64]:
        """Return a numeric or boolean column as float64, NaN where missing."""
        return self.column(name).numeric()

    def codes(self, name: str) -> tuple[NDArray[np.int32], list[Any]]:
        """Return int32 codes (-1 where missing) and the levels in the user's order.

        A categorical column keeps its own order and may have levels that do
        not occur; any other column's levels are sorted.
        """
        return self.column(name).codes()

    def missing(self, name: str) -> NDArray[np.bool_]:
        """Return where a column has no value."""
        if self.kind(name) in ("numeric", "boolean", "empty"):
            return np.isnan(self.numeric(name))
        return self.codes(name)[0] < 0

    def values(self, name: str) -> NDArray[Any]:
        """Return the column as a NumPy array of its own type."""
        return self.column(name).values()

    def holds_dates(self, name: str) -> bool:
        """Tell whether a column holds dates without a time of day."""
        return self.column(name).holds_dates()

    def time_zone(self, name: str) -> str | None:
        """Return the name of the time zone that a column's type has, None without one."""
        return self.column(name).time_zone()

    def seconds(self, name: str) -> NDArray[np.float64]:
        """Return a datetime or duration column in seconds, NaN where missing.

        Datetimes count from 1970-01-01 00:00 UTC; one without a time zone is
        read as UTC.
        """
        return self.column(name).seconds()


def _kept(native: Any) -> Any:
    """A column that nobody else can change."""
    pandas = sys.modules.get("pandas")
    if pandas is not None and isinstance(native, pandas.Series):
        return native.copy(deep=not _copies_on_write())
    if type(native).__module__.partition(".")[0] in ("polars", "pyarrow"):
        return native
    return copy(native)


def _as_it_is(native: Any) -> Any:
    """A column that pandas has taken from its table for us: nobody else has the object."""
    return native


@cache
def _copies_on_write() -> bool:
    """Tell whether pandas copies shared values before it changes them."""
    import pandas as pd

    return int(pd.__version__.split(".")[0]) >= 3


def _unique(names: list[Any]) -> dict[str, Any]:
    """Map names as text to the table's own keys; refuse duplicates."""
    keys = {str(name): name for name in names}
    if len(keys) != len(names):
        counts = Counter(str(name) for name in names)
        twice = ", ".join(repr(name) for name, count in counts.items() if count > 1)
        raise DataError(f"the table has more than one column named {twice}; rename them")
    return keys


def _pandas_keys(data: Any) -> dict[str, Any]:
    if data.columns.nlevels > 1:
        raise DataError(
            "the table's columns have several levels (a MultiIndex); flatten them to plain names"
        )
    return _unique(data.columns.tolist())


# --- columns


class Column(ABC):
    """A named column of a table.

    Attributes
    ----------
    name : str
    kind : str
        See `Table.kind`.
    """

    __slots__ = ("_codes", "_numeric", "kind", "name")

    def __init__(self, name: str, kind: str) -> None:
        self.name = name
        self.kind = kind
        self._codes: Codes | None = None
        self._numeric: NDArray[np.float64] | None = None

    def numeric(self) -> NDArray[np.float64]:
        if self._numeric is None:
            if self.kind not in ("numeric", "boolean", "empty"):
                raise DataError(self._not_numeric())
            self._numeric = self._as_float()
        return self._numeric

    def codes(self) -> Codes:
        if self._codes is None:
            codes, levels = self._as_codes()
            plain = levels and isinstance(levels[0], str | int | float)
            self._codes = codes, levels if plain else plain_times(levels)
        return self._codes

    def holds_dates(self) -> bool:
        """Tell whether the values are dates without a time of day, by their type."""
        return self.kind == "datetime" and self._are_dates()

    def _are_dates(self) -> bool:
        return False

    def time_zone(self) -> str | None:
        """Return the name of the time zone that the column's type has."""
        return None

    def seconds(self) -> NDArray[np.float64]:
        if self.kind not in ("datetime", "duration"):
            raise DataError(f"column {self.name!r} holds {self.kind} values, not times")
        return seconds(self._as_time())

    @abstractmethod
    def values(self) -> NDArray[Any]:
        """Return the column as a NumPy array of its own type."""

    @abstractmethod
    def _as_float(self) -> NDArray[np.float64]: ...

    @abstractmethod
    def _as_codes(self) -> Codes: ...

    @abstractmethod
    def _as_time(self) -> NDArray[Any]:
        """Return datetime64 (UTC) or timedelta64."""

    def _not_numeric(self) -> str:
        if self.kind in ("text", "categorical"):
            return text_for_numbers(self.name, *self.codes())
        if self.kind in ("datetime", "duration"):
            return (
                f"column {self.name!r} holds {self.kind}s, not numbers; "
                f"as.numeric({self.name}) in the formula gives "
                f"{'days' if self.holds_dates() else 'seconds'}"
            )
        return mixed_for_numbers(self.name, self.values())


@dataclass(frozen=True)
class Repeated:
    """One value in each of `count` rows, without an array of as many objects."""

    value: Any
    count: int

    def __len__(self) -> int:
        return self.count


def read_column(name: str, native: Any) -> Column:
    """Wrap a column of any library."""
    if isinstance(native, Repeated):
        return RepeatedColumn(name, native)
    pandas = sys.modules.get("pandas")
    if pandas is not None:
        if isinstance(native, pandas.Series):
            return _read_pandas(name, native)
        if isinstance(native, (pandas.Index, pandas.api.extensions.ExtensionArray)):
            return _read_pandas(name, pandas.Series(native))
    module = type(native).__module__.partition(".")[0]
    if module == "pyarrow":
        return ArrowColumn(name, native)
    if module == "polars":
        return PolarsColumn(name, native)
    return _read_numpy(name, native)


class NumpyColumn(Column):
    """A column that is a one-dimensional NumPy array."""

    __slots__ = ("_array",)

    def __init__(self, name: str, array: NDArray[Any]) -> None:
        self._array = array
        super().__init__(name, KINDS_OF_DTYPE.get(array.dtype.kind) or kind_of_objects(array))

    def values(self) -> NDArray[Any]:
        return self._array

    def _as_float(self) -> NDArray[np.float64]:
        if self._array.dtype != object:
            return self._array.astype(np.float64, copy=False)
        missing = missing_objects(self._array)
        out = np.full(len(self._array), np.nan)
        out[~missing] = self._array[~missing].astype(np.float64)
        return out

    def _as_codes(self) -> Codes:
        array = self._array
        if array.dtype == object:
            return codes_of_objects(self.name, array, self.kind)
        if array.dtype.kind == "b":
            return array.astype(np.int32), [False, True]
        if array.dtype.kind in "iu":
            return codes_of_integers(array)
        return codes_by_sorting(array)

    def _as_time(self) -> NDArray[Any]:
        if self._array.dtype != object:
            return self._array
        return times_of_objects(self._array)

    def _are_dates(self) -> bool:
        if self._array.dtype != object:
            return np.datetime_data(self._array.dtype)[0] in ("Y", "M", "W", "D")
        return all(type(v) is datetime.date for v in self._array if not is_missing(v))


class RepeatedColumn(Column):
    """A column that holds one value in every row."""

    __slots__ = ("_count", "_one")

    def __init__(self, name: str, native: Repeated) -> None:
        self._one = _read_numpy(name, [native.value])
        self._count = native.count
        super().__init__(name, self._one.kind)

    def values(self) -> NDArray[Any]:
        return np.repeat(self._one.values(), self._count)

    def _as_float(self) -> NDArray[np.float64]:
        return np.repeat(self._one.numeric(), self._count)

    def _as_codes(self) -> Codes:
        codes, levels = self._one.codes()
        return np.repeat(codes, self._count), levels

    def _as_time(self) -> NDArray[Any]:
        return np.repeat(self._one._as_time(), self._count)

    def _are_dates(self) -> bool:
        return self._one._are_dates()


class PandasColumn(Column):
    """A pandas column with a type of pandas' own."""

    __slots__ = ("_series",)

    def __init__(self, name: str, series: Any, kind: str) -> None:
        self._series = series
        super().__init__(name, kind)

    def values(self) -> NDArray[Any]:
        if self.kind in ("numeric", "boolean") and not self._series.hasnans:
            return np.asarray(self._series.to_numpy(dtype=self._plain_dtype()))
        return np.asarray(self._series.to_numpy(dtype=object, na_value=None))

    def _plain_dtype(self) -> Any:
        if self.kind == "boolean":
            return np.bool_
        return getattr(self._series.dtype, "numpy_dtype", np.float64)

    def _as_float(self) -> NDArray[np.float64]:
        return np.asarray(self._series.to_numpy(dtype=np.float64, na_value=np.nan))

    def _as_codes(self) -> Codes:
        import pandas as pd

        if self.kind == "categorical":
            categorical = self._series.array
            return categorical.codes.astype(np.int32), categorical.categories.tolist()
        if self.kind == "boolean":
            codes = self._series.to_numpy(dtype=np.float64, na_value=-1.0).astype(np.int32)
            return codes, [False, True]
        dtype = getattr(self._series.dtype, "numpy_dtype", None)
        if self.kind == "numeric" and dtype is not None and dtype.kind in "iu":
            missing = self._series.isna().to_numpy()
            if not missing.any():
                return codes_of_integers(self._series.to_numpy(dtype=dtype))
            return codes_of_gaps(self._series[~missing].to_numpy(dtype=dtype), missing)
        raw, uniques = pd.factorize(self._series)
        return sorted_codes(self.name, raw, uniques.tolist())

    def time_zone(self) -> str | None:
        zone = getattr(self._series.dtype, "tz", None)
        return None if zone is None else str(zone)

    def _as_time(self) -> NDArray[Any]:
        series = self._series
        if getattr(series.dtype, "tz", None) is not None:
            series = series.dt.tz_convert("UTC").dt.tz_localize(None)
        return np.asarray(series.to_numpy())


class ArrowColumn(Column):
    """A pyarrow column."""

    __slots__ = ("_array",)

    def __init__(self, name: str, array: Any) -> None:
        import pyarrow as pa

        if isinstance(array, pa.ChunkedArray):
            array = array.combine_chunks()
            if isinstance(array, pa.ChunkedArray):
                array = pa.concat_arrays(array.chunks) if array.num_chunks else array.chunk(0)
        if pa.types.is_run_end_encoded(array.type):
            import pyarrow.compute as pc

            array = pc.run_end_decode(array)
        self._array = array
        super().__init__(name, arrow_kind(array.type))

    def values(self) -> NDArray[Any]:
        if self._has_places():
            floats = self._as_float()
            if not np.any(np.abs(floats) > EXACT):  # NaN where missing
                return floats
        if self.kind in ("numeric", "boolean") and self._array.null_count == 0:
            return _whole_objects(self._array.to_numpy(zero_copy_only=False))
        out = np.empty(len(self._array), dtype=object)
        out[:] = self._array.to_pylist()
        return _whole_objects(out)

    def _has_places(self) -> bool:
        import pyarrow as pa

        return bool(pa.types.is_decimal(self._array.type) and self._array.type.scale > 0)

    def _as_float(self) -> NDArray[np.float64]:
        import pyarrow as pa

        array = self._array
        if pa.types.is_boolean(array.type):
            array = array.cast(pa.int8())
        array = array.cast(pa.float64(), safe=False)
        return np.asarray(array.to_numpy(zero_copy_only=False), dtype=np.float64)

    def _as_codes(self) -> Codes:
        import pyarrow as pa

        if self.kind == "numeric":
            if pa.types.is_floating(self._array.type):
                return codes_by_sorting(self.numeric())
            if self._array.null_count == 0 and pa.types.is_integer(self._array.type):
                return codes_of_integers(self.values())
            missing = np.asarray(self._array.is_null().to_numpy(zero_copy_only=False))
            present = self._array.drop_null().to_numpy(zero_copy_only=False)
            return codes_of_gaps(_plain_decimals(present), missing)
        if self.kind == "empty":
            return np.full(len(self._array), -1, dtype=np.int32), []
        if self.kind == "boolean":
            return minus_one(self._as_float()), [False, True]
        own_order = pa.types.is_dictionary(self._array.type)
        if pa.types.is_nested(self._array.type):
            raise DataError(
                f"column {self.name!r} holds lists or records, which are no levels; take one field "
                "of them"
            )
        encoded = self._array if own_order else self._array.dictionary_encode()
        raw = encoded.indices.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False)
        levels = encoded.dictionary.to_pylist()
        if pa.types.is_time(encoded.dictionary.type) and len(set(levels)) < len(levels):
            raise DataError(
                f"column {self.name!r} holds times of day that differ by less than a microsecond, "
                "which are no levels; cast it to whole numbers or text"
            )
        if own_order:
            return minus_one(raw), levels
        return sorted_codes(self.name, minus_one(raw), levels)

    def time_zone(self) -> str | None:
        return getattr(self._array.type, "tz", None)

    def _as_time(self) -> NDArray[Any]:
        import pyarrow as pa

        array = self._array
        if pa.types.is_timestamp(array.type):
            array = array.cast(pa.timestamp(array.type.unit))
        return np.asarray(array.to_numpy(zero_copy_only=False))

    def _are_dates(self) -> bool:
        import pyarrow as pa

        return bool(pa.types.is_date(self._array.type))


class PolarsColumn(Column):
    """A polars column, read through narwhals."""

    __slots__ = ("_native", "_series")

    def __init__(self, name: str, native: Any) -> None:
        import narwhals as nw

        self._native = native
        self._series: nw.Series[Any] = nw.from_native(native, series_only=True)
        super().__init__(name, narwhals_kind(self._series.dtype))

    def values(self) -> NDArray[Any]:
        if self._is_plain() and self._series.null_count() == 0:
            return np.asarray(self._series.to_numpy())
        out = np.empty(len(self._series), dtype=object)
        out[:] = self._series.to_list()
        return _whole_objects(out)

    def _is_plain(self) -> bool:
        """Tell whether NumPy has a type for the values: it has none of 128 bits, no decimals."""
        kind = type(self._series.dtype).__name__
        return self.kind in ("numeric", "boolean") and kind not in WIDE

    def _as_float(self) -> NDArray[np.float64]:
        import narwhals as nw

        return np.asarray(self._series.cast(nw.Float64).to_numpy(), dtype=np.float64)

    def _as_codes(self) -> Codes:
        import narwhals as nw

        series = self._series
        if self.kind == "numeric":
            if series.dtype.is_float():
                return codes_by_sorting(self.numeric())
            present = series.drop_nulls()
            some = present.to_numpy() if self._is_plain() else _objects(present.to_list())
            if len(some) == len(series) and some.dtype.kind in "iu":
                return codes_of_integers(some)
            return codes_of_gaps(_plain_decimals(some), series.is_null().to_numpy())
        if self.kind == "boolean":
            return minus_one(self._as_float()), [False, True]
        if isinstance(series.dtype, nw.Enum):
            return minus_one(_polars_floats(self._native.to_physical())), list(
                series.dtype.categories
            )
        if self.kind == "categorical":
            series = series.cast(nw.String)
        if self.kind == "mixed":
            return codes_of_objects(self.name, self.values(), self.kind)
        present = series.drop_nulls().unique().sort()
        levels = present.to_list()
        if self.kind in ("datetime", "duration") and len(set(levels)) < len(levels):
            levels = list(present.to_numpy())  # nanoseconds, which Python's own times do not have
        if not levels:
            return np.full(len(series), -1, dtype=np.int32), []
        numbers = np.arange(len(levels), dtype=np.float64)
        native = nw.to_native(series)
        raw = native.replace_strict(nw.to_native(present), numbers, default=None)
        return minus_one(_polars_floats(raw)), levels

    def time_zone(self) -> str | None:
        return getattr(self._series.dtype, "time_zone", None)

    def _as_time(self) -> NDArray[Any]:
        series = self._series
        if getattr(series.dtype, "time_zone", None) is not None:
            series = series.dt.convert_time_zone("UTC").dt.replace_time_zone(None)
        return np.asarray(series.to_numpy())

    def _are_dates(self) -> bool:
        import narwhals as nw

        return bool(self._series.dtype == nw.Date)


def _objects(values: list[Any]) -> NDArray[Any]:
    out = np.empty(len(values), dtype=object)
    out[:] = values
    return out


def _whole_objects(array: NDArray[Any]) -> NDArray[Any]:
    """Decimals that are whole numbers as int, exact; other arrays as they are."""
    if array.dtype != object or not any(type(v).__name__ == "Decimal" for v in array[:100]):
        return array
    return _objects([_whole_number(v) if type(v).__name__ == "Decimal" else v for v in array])


def _whole_number(value: Any) -> Any:
    """A decimal as int where it is one, and one that can be written out."""
    return int(value) if value.adjusted() < 60 and value == value.to_integral_value() else value


def _plain_decimals(array: NDArray[Any]) -> NDArray[Any]:
    """Decimals as int where they are whole, as float where it has their very digits."""
    whole = _whole_objects(array)
    if whole is array:
        return array
    return _objects([_faithful(v) if type(v).__name__ == "Decimal" else v for v in whole])


def _faithful(value: Any) -> Any:
    """A decimal as a float that is written with the same digits, else as it is."""
    near = float(value)
    return near if type(value)(repr(near)) == value else value


def _polars_floats(native: Any) -> NDArray[np.float64]:
    import narwhals as nw

    series = nw.from_native(native, series_only=True)
    return np.asarray(series.cast(nw.Float64).to_numpy(), dtype=np.float64)


def _read_pandas(name: str, series: Any) -> Column:
    dtype = series.dtype
    if isinstance(dtype, np.dtype):
        _refuse_complex(name, dtype)
        return NumpyColumn(name, series.to_numpy())
    import pandas as pd

    if isinstance(dtype, pd.CategoricalDtype):
        return PandasColumn(name, series, "categorical")
    if isinstance(dtype, pd.ArrowDtype):
        import pyarrow as pa

        return ArrowColumn(name, pa.array(series.array, from_pandas=True))
    if isinstance(dtype, pd.SparseDtype):
        return NumpyColumn(name, np.asarray(series))
    if isinstance(dtype, pd.StringDtype):
        return PandasColumn(name, series, "text")
    if isinstance(dtype, pd.DatetimeTZDtype):
        return PandasColumn(name, series, "datetime")
    kind = KINDS_OF_DTYPE.get(getattr(dtype, "kind", "O"), "mixed")
    if kind == "mixed":
        return NumpyColumn(name, series.to_numpy(dtype=object))
    return PandasColumn(name, series, kind)


def _read_numpy(name: str, native: Any) -> NumpyColumn:
    if isinstance(native, np.ma.MaskedArray):
        masked = np.ma.getmaskarray(native)
        native = native.data.astype(object)
        native[masked] = None
    if isinstance(native, (list, tuple, range)):
        array = _array_of_list(list(native))
    else:
        array = np.asarray(native)
    if array.ndim == 2 and 1 in array.shape[1:]:
        array = array[:, 0]
    if array.ndim != 1:
        raise DataError(
            f"column {name!r} has {array.ndim} dimensions (shape {array.shape}); "
            "a column has one value a row"
        )
    _refuse_complex(name, array.dtype)
    if array.dtype.kind == "S":
        array = np.char.decode(array, "utf-8", "replace")
    return NumpyColumn(name, array)


def _refuse_complex(name: str, dtype: np.dtype[Any]) -> None:
    if dtype.kind == "c":
        raise DataError(f"column {name!r} holds complex numbers; give its real part")


def _array_of_list(values: list[Any]) -> NDArray[Any]:
    if all(isinstance(v, (int, float)) and not isinstance(v, bool) for v in values):
        if not any(isinstance(v, int) and abs(v) > EXACT for v in values):
            return np.asarray(values)
        if all(isinstance(v, int) and -(2**63) <= v < 2**63 for v in values):
            return np.asarray(values, dtype=np.int64)
        return _objects(values)  # as numbers they would lose their last digits
    if values and all(isinstance(v, (bool, np.bool_)) for v in values):
        return np.asarray(values, dtype=bool)
    return _objects(values)


READERS = {
    ".sav": "read_spss", ".zsav": "read_spss", ".dta": "read_stata", ".sas7bdat": "read_sas",
    ".xpt": "read_sas", ".xlsx": "read_excel", ".xls": "read_excel", ".parquet": "read_parquet",
    ".feather": "read_feather",
}  # fmt: skip
"""What of pandas reads a file of such a name."""


def _reader(path: Any) -> str:
    return READERS.get(PurePath(path).suffix.lower(), "read_csv")


def _no_table(data: Any) -> str:
    """Say what was given in place of a table."""
    if isinstance(data, (str, PathLike)):
        return (
            f"data is a table, not the name of one: read {str(data)!r} first, as by pandas."
            f"{_reader(data)} or ranef.data.load; it may be a pandas, polars or pyarrow table"
        )
    if data is None:
        return "data is None; give a pandas, polars or pyarrow table"
    kind = type(data)
    module = "" if kind.__module__ == "builtins" else f"{kind.__module__}."
    hint = _as_table(data)
    return (
        f"cannot read a table from {module}{kind.__qualname__}{hint}; "
        "give a pandas, polars or pyarrow table"
    )


def _as_table(data: Any) -> str:
    """Say how what was given is made a table."""
    if isinstance(data, np.ndarray) and data.ndim == 2:
        return ", which has no names of columns: pandas.DataFrame(array, columns=[...])"
    if isinstance(data, list) and data and isinstance(data[0], Mapping):
        return ": pandas.DataFrame(rows) makes one of records"
    if hasattr(data, "to_frame"):
        return ", one column: the table that it was taken from has the others"
    return ", a grouped table: give the table itself" if hasattr(data, "groups") else ""
