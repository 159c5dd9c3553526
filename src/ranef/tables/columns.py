"""Columns: what one holds, as numbers, as codes of levels, as values.

Plain NumPy, pandas and Arrow columns are read directly, since speed counts
there; everything else goes through narwhals.
"""

from __future__ import annotations

import sys
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ranef.errors import DataError
from ranef.tables.codes import (
    Codes,
    codes_by_sorting,
    codes_of_floats,
    codes_of_integers,
    codes_of_objects,
    minus_one,
    sorted_codes,
    text_for_numbers,
)
from ranef.tables.kinds import (
    KINDS_OF_DTYPE,
    arrow_kind,
    kind_of_objects,
    missing_objects,
    narwhals_kind,
    plain_times,
    seconds,
    times_of_objects,
)

__all__ = ["Column", "Repeated", "read_column"]


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
            self._codes = codes, plain_times(levels)
        return self._codes

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
                f"as.numeric({self.name}) in the formula gives seconds"
            )
        return f"column {self.name!r} holds mixed types, not numbers; convert it first"


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
        raw, uniques = pd.factorize(self._series)
        return sorted_codes(self.name, raw, uniques.tolist())

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
        if pa.types.is_decimal(array.type):
            array = array.cast(pa.float64(), safe=False)
        self._array = array
        super().__init__(name, arrow_kind(array.type))

    def values(self) -> NDArray[Any]:
        if self.kind in ("numeric", "boolean") and self._array.null_count == 0:
            return np.asarray(self._array.to_numpy(zero_copy_only=False))
        out = np.empty(len(self._array), dtype=object)
        out[:] = self._array.to_pylist()
        return out

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
            whole = pa.types.is_integer(self._array.type)
            if self._array.null_count == 0 and whole:
                return codes_of_integers(self.values())
            return codes_of_floats(self.numeric(), whole)
        if self.kind == "empty":
            return np.full(len(self._array), -1, dtype=np.int32), []
        if self.kind == "boolean":
            return minus_one(self._as_float()), [False, True]
        own_order = pa.types.is_dictionary(self._array.type)
        encoded = self._array if own_order else self._array.dictionary_encode()
        raw = encoded.indices.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False)
        levels = encoded.dictionary.to_pylist()
        if own_order:
            return minus_one(raw), levels
        return sorted_codes(self.name, minus_one(raw), levels)

    def _as_time(self) -> NDArray[Any]:
        import pyarrow as pa

        array = self._array
        if pa.types.is_timestamp(array.type):
            array = array.cast(pa.timestamp(array.type.unit))
        return np.asarray(array.to_numpy(zero_copy_only=False))


class PolarsColumn(Column):
    """A polars column, read through narwhals."""

    __slots__ = ("_native", "_series")

    def __init__(self, name: str, native: Any) -> None:
        import narwhals as nw

        self._native = native
        self._series: nw.Series[Any] = nw.from_native(native, series_only=True)
        super().__init__(name, narwhals_kind(self._series.dtype))

    def values(self) -> NDArray[Any]:
        if self.kind in ("numeric", "boolean") and self._series.null_count() == 0:
            return np.asarray(self._series.to_numpy())
        out = np.empty(len(self._series), dtype=object)
        out[:] = self._series.to_list()
        return out

    def _as_float(self) -> NDArray[np.float64]:
        import narwhals as nw

        return np.asarray(self._series.cast(nw.Float64).to_numpy(), dtype=np.float64)

    def _as_codes(self) -> Codes:
        import narwhals as nw

        series = self._series
        if self.kind == "numeric":
            whole = series.dtype.is_integer()
            if series.null_count() == 0 and whole:
                return codes_of_integers(self.values())
            return codes_of_floats(self.numeric(), whole)
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
        if not levels:
            return np.full(len(series), -1, dtype=np.int32), []
        numbers = np.arange(len(levels), dtype=np.float64)
        native = nw.to_native(series)
        raw = native.replace_strict(nw.to_native(present), numbers, default=None)
        return minus_one(_polars_floats(raw)), levels

    def _as_time(self) -> NDArray[Any]:
        series = self._series
        if getattr(series.dtype, "time_zone", None) is not None:
            series = series.dt.convert_time_zone("UTC").dt.replace_time_zone(None)
        return np.asarray(series.to_numpy())


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
        try:
            return np.asarray(values)
        except OverflowError:
            return np.asarray([float(v) for v in values])
    if values and all(isinstance(v, (bool, np.bool_)) for v in values):
        return np.asarray(values, dtype=bool)
    array = np.empty(len(values), dtype=object)
    array[:] = values
    return array
