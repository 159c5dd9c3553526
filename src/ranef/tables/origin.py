"""Answers in the user's own data-frame library, with the user's rows and labels."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib.util import find_spec
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ranef.errors import ModelError
from ranef.tables.accounting import Accounting
from ranef.tables.alignment import aligned
from ranef.tables.concerns import concerns, namesakes
from ranef.tables.make import make_table
from ranef.tables.table import Table

__all__ = ["Origin", "matrix", "vector"]

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Origin:
    """Where the rows of a model came from.

    Attributes
    ----------
    library : str
        As in `ranef.tables.Table.library`.
    index : pandas index or None
        Row labels of the user's table.
    accounting : Accounting
        Which of its rows are in the model.
    data : Table or None
        The columns that the model's formulas use, all rows; None for a fit from a file
        that does not hold them.
    remarks : tuple of str
        What is to be known of the table beyond these columns.
    """

    library: str
    index: Any
    accounting: Accounting
    data: Table | None = None
    remarks: tuple[str, ...] = ()

    @classmethod
    def of(cls, table: Table, accounting: Accounting, columns: Iterable[str] = ()) -> Origin:
        used = tuple(columns)
        remarks = namesakes(used, table.columns)
        return cls(table.library, table.index, accounting, table.snapshot(used), remarks)

    def concerns(self, response: Sequence[str]) -> tuple[str, ...]:
        """Return what is to be known of the columns in use, those of the response named."""
        if self.data is None:
            return self.remarks
        key = tuple(response)
        if key not in self._concerns:
            self._concerns[key] = concerns(self.data, key, self.accounting.kept)
        return (*self.remarks, *self._concerns[key])

    @cached_property
    def _concerns(self) -> dict[tuple[str, ...], tuple[str, ...]]:
        return {}

    @property
    def columns(self) -> Table:
        """The columns that the formulas use, all rows; refused where a file has not kept them."""
        if self.data is None:
            raise ModelError(
                "the fit comes from a file that does not hold the columns of its table; "
                "fit the model again, or pass the table"
            )
        return self.data

    @property
    def labels(self) -> Any:
        """Labels of all rows, a pandas index; None where they have none."""
        if self.index is not None or self.data is None:
            return self.index
        return self.data.labels

    @property
    def labels_used(self) -> Any:
        """Labels of the rows in the model; None where they have none."""
        labels, kept = self.labels, self.accounting.kept
        return labels if labels is None or kept is None else labels[kept]

    def aligned(self, values: Any, what: str) -> Any:
        """Labelled values in the order of the table's rows, or of those in the model."""
        return aligned(values, self.labels, what, self.labels_used)

    def rows_used(self) -> dict[str, Any]:
        """Return the columns that the formulas use, of the rows in the model."""
        return self.columns.mapping(self.accounting.kept)

    def expand(self, values: NDArray[Any]) -> NDArray[Any]:
        """Put values of the used rows (n_used, ...) in their places, NaN or None elsewhere."""
        kept = self.accounting.kept
        if kept is None:
            return values
        missing = None if values.dtype == object else np.nan
        full = np.full((self.accounting.n_rows, *values.shape[1:]), missing, dtype=values.dtype)
        full[kept] = values
        return full

    def column(self, values: Floats, name: str) -> Any:
        """One value a row of the user's table, as a column of its library."""
        return column(self.expand(values), name, self.library, self.index)

    def table(self, columns: Mapping[str, NDArray[Any]]) -> Any:
        """Several columns of one value a used row."""
        full = {name: self.expand(values) for name, values in columns.items()}
        return make_table(full, self.library, self.index)


def uses_pandas(library: str) -> bool:
    """Tell whether answers come in pandas."""
    return library == "pandas" or (library == "dict" and find_spec("pandas") is not None)


def column(values: Floats, name: str, library: str, index: Any = None) -> Any:
    """Return a column in the library: a Series, an Arrow array, or a NumPy array."""
    if uses_pandas(library):
        import pandas as pd

        return pd.Series(values, index=index, name=name)
    if library == "polars":
        import polars as pl

        return pl.Series(name, values)
    if library == "pyarrow":
        import pyarrow as pa

        return pa.array(values)
    return values


def vector(values: Floats, names: Sequence[str], name: str, library: str) -> Any:
    """Return named values: a pandas Series, else a table with a column ``term``."""
    if uses_pandas(library):
        import pandas as pd

        return pd.Series(np.array(values), index=pd.Index(list(names)), name=name)
    return make_table({"term": list(names), name: np.array(values)}, library)


def matrix(
    values: Floats, rows: Sequence[str], columns: Sequence[Any], library: str, label: str = "term"
) -> Any:
    """Return a labelled matrix: a pandas DataFrame, else a table whose first column labels rows."""
    if uses_pandas(library):
        import pandas as pd

        return pd.DataFrame(np.array(values), index=list(rows), columns=list(columns))
    body = {str(name): np.array(values[:, j]) for j, name in enumerate(columns)}
    return make_table({label: list(rows), **body}, library)
