"""Answers as tables, in the library that the data came in."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from typing import Any

import numpy as np

from ranef.errors import DataError

__all__ = ["make_table"]

LIBRARIES = ("pandas", "polars", "pyarrow", "dict")


def make_table(columns: Mapping[str, Any], library: str = "pandas", index: Any = None) -> Any:
    """Make a table of a given library from named columns.

    Parameters
    ----------
    columns : mapping of str to array-like
        Columns of one length.
    library : {"pandas", "polars", "pyarrow", "dict"}
        As in `Table.library`. ``"dict"`` gives a pandas table where pandas is
        installed, else a dict of NumPy arrays.
    index : pandas index, optional
        Row labels; used by pandas only.

    Examples
    --------
    >>> make_table({"term": ["a", "b"], "estimate": [1.0, 2.5]}, "pandas")
      term  estimate
    0    a       1.0
    1    b       2.5
    """
    if library not in LIBRARIES:
        raise DataError(f"no table library {library!r}; use one of {', '.join(LIBRARIES)}")
    if library == "polars":
        return _polars(columns)
    if library == "pyarrow":
        return _pyarrow(columns)
    if library == "pandas" or find_spec("pandas") is not None:
        import pandas as pd

        return pd.DataFrame(dict(columns), index=index)
    return {name: np.asarray(values) for name, values in columns.items()}


def _plain(values: Any) -> Any:
    """Object arrays as lists of Python scalars, so that types are inferred."""
    if isinstance(values, np.ndarray):
        return values.tolist() if values.dtype == object else values
    return values


def _polars(columns: Mapping[str, Any]) -> Any:
    import polars as pl

    return pl.DataFrame(
        [pl.Series(name, _plain(values), strict=False) for name, values in columns.items()]
    )


def _pyarrow(columns: Mapping[str, Any]) -> Any:
    import pyarrow as pa

    arrays = [_arrow_array(_plain(values)) for values in columns.values()]
    return pa.Table.from_arrays(arrays, names=list(columns))


def _arrow_array(values: Any) -> Any:
    """Return an Arrow array; whole numbers beyond int64 as uint64 or decimals."""
    import decimal

    import pyarrow as pa

    try:
        return pa.array(values, from_pandas=True)
    except OverflowError:
        pass
    try:
        return pa.array(values, pa.uint64(), from_pandas=True)
    except OverflowError:
        exact = [decimal.Decimal(v) if type(v) is int else v for v in values]
        return pa.array(exact, from_pandas=True)
