"""One view of a table, whatever library holds it."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterable, Mapping
from copy import copy
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ranef.errors import DataError, UnknownColumnError, suggestion
from ranef.tables.columns import Column, read_column

__all__ = ["Table"]


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

    __slots__ = ("_given", "_keys", "_native", "_read", "columns", "index", "library", "n_rows")

    def __init__(
        self, native: Any, keys: Mapping[str, Any], n_rows: int, library: str, index: Any
    ) -> None:
        self._native = native
        self._keys = keys
        self._given: dict[str, Any] = {}
        self._read: dict[str, Column] = {}
        self.columns = list(keys)
        self.n_rows = n_rows
        self.library = library
        self.index = index

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
        return cls(data, keys, n_rows, "dict", None)

    @classmethod
    def _of_other(cls, data: Any) -> Table:
        try:
            import narwhals as nw

            frame = nw.from_native(data, eager_only=True)
        except (ImportError, TypeError):
            raise DataError(
                f"cannot read a table from {type(data).__module__}.{type(data).__qualname__}; "
                "give a pandas, polars or pyarrow table, or a dict of arrays"
            ) from None
        return cls.of(frame.to_polars() if "polars" in sys.modules else frame.to_arrow())

    def __len__(self) -> int:
        return self.n_rows

    def __contains__(self, name: object) -> bool:
        return name in self._keys

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
        return Table(native, keys, self.n_rows, self.library, self.index)

    def mapping(self, rows: NDArray[np.bool_] | None = None) -> dict[str, Any]:
        """Return the columns by name, of these rows, each in its own type and with its levels."""
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

    def values(self, name: str) -> NDArray[Any]:
        """Return the column as a NumPy array of its own type."""
        return self.column(name).values()

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
