"""Reading a bundled data set into the user's data-frame library."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, Literal, overload

from ranef.data.catalogue import describe
from ranef.errors import DataError, suggestion

if TYPE_CHECKING:
    import pandas
    import polars
    import pyarrow

__all__ = ["load"]

LIBRARIES = ("pandas", "polars", "pyarrow")


@overload
def load(name: str, library: Literal["pandas"] = "pandas") -> pandas.DataFrame: ...
@overload
def load(name: str, library: Literal["polars"]) -> polars.DataFrame: ...
@overload
def load(name: str, library: Literal["pyarrow"]) -> pyarrow.Table: ...
def load(name: str, library: str = "pandas") -> Any:
    """Load a bundled data set.

    Factors arrive as categories in R's order of levels: ``Categorical`` in
    pandas, ``Enum`` in polars, dictionary columns in pyarrow.

    Parameters
    ----------
    name : str
        One of `ranef.data.names()`.
    library : {"pandas", "polars", "pyarrow"}
        Whose table to return.

    Returns
    -------
    pandas.DataFrame, polars.DataFrame or pyarrow.Table

    Raises
    ------
    ranef.errors.DataError
        No such data set or library, or the library is not installed.

    Examples
    --------
    >>> load("Penicillin").head(2)
       diameter plate sample
    0      27.0     a      A
    1      23.0     a      B
    >>> load("cake", "pyarrow").num_rows
    270
    """
    if library not in LIBRARIES:
        raise DataError(
            f"library={library!r} is not known{suggestion(str(library), LIBRARIES)} "
            f"(choose {', '.join(LIBRARIES)})"
        )
    table = _read(describe(name).name)
    if library == "pandas":
        _require("pandas")
        return table.to_pandas().copy()  # the user's own: Arrow's memory is read-only
    return _polars(table) if library == "polars" else table


def _read(name: str) -> pyarrow.Table:
    from importlib.resources import files

    parquet = _require("pyarrow.parquet")
    with (files("ranef.data") / f"{name}.parquet").open("rb") as stream:
        return parquet.read_table(stream)


def _polars(table: pyarrow.Table) -> polars.DataFrame:
    """Convert to polars; its own reading of a dictionary forgets the order of levels."""
    pl, pa = _require("polars"), _require("pyarrow")
    columns = []
    for name, column in zip(table.column_names, table.columns, strict=True):
        if pa.types.is_dictionary(column.type):
            levels = column.chunk(0).dictionary.to_pylist()
            columns.append(pl.Series(name, column.to_pylist(), dtype=pl.Enum(levels)))
        else:
            columns.append(pl.Series(name, column.to_numpy()))
    frame: polars.DataFrame = pl.DataFrame(columns)
    return frame


def _require(module: str) -> Any:
    package = module.partition(".")[0]
    try:
        return import_module(module)
    except ImportError as error:
        raise DataError(
            f"bundled data as a {package} table need {package}, which cannot be imported "
            f"({error}); install it with: pip install {package}"
        ) from error
