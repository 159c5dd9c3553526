"""The columns of a table that a fit keeps, and its row labels, as records."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ranef.errors import DataError, FileError
from ranef.storage.codec import stored_type
from ranef.storage.labels import written_label
from ranef.tables import Table
from ranef.tables.accounting import Accounting
from ranef.tables.kinds import plain_times
from ranef.tables.make import LIBRARIES
from ranef.tables.origin import Origin

__all__ = ["StoredColumn", "StoredOrigin"]


@dataclass(frozen=True, eq=False)
class StoredColumn:
    """A column of a table or of row labels.

    Attributes
    ----------
    kind : str
        ``"values"``; or ``"categorical"``, ``"labels"``: codes of `levels`.
    values : (N,) array
    levels : tuple
    """

    kind: str
    values: NDArray[Any]
    levels: tuple[Any, ...] = ()

    @classmethod
    def of(cls, table: Table, name: str) -> StoredColumn | None:
        """Return a column; None of what is no label, which only functions of the user's read."""
        kind, values = table.kind(name), table.values(name)
        if stored_type(values.dtype) is not None:
            return cls("values", values)
        if kind == "numeric":
            numbers = table.numeric(name)
            whole = values.dtype.kind in "iu" or values.dtype == object
            exact = not whole or (np.abs(numbers[~np.isnan(numbers)]) < 2.0**53).all()
            if exact and ((values.astype(object) == numbers) | np.isnan(numbers)).all():
                return cls("values", numbers)
        try:
            codes, levels = table.codes(name)
            for level in levels if kind == "mixed" else ():
                written_label(level)
        except DataError:
            return None
        return cls("categorical" if kind == "categorical" else "labels", codes, tuple(levels))

    @classmethod
    def of_index(cls, index: Any) -> StoredColumn:
        """Return row labels, or one level of them."""
        import pandas as pd

        values = index.to_numpy()
        if stored_type(values.dtype) is not None:
            return cls("values", values)
        codes, levels = pd.factorize(values)
        return cls("labels", codes.astype(np.int32), tuple(plain_times(list(levels))))

    def restored(self) -> Any:
        """Return the column as an array, or as a pandas categorical."""
        if self.kind == "values":
            return self.values
        if self.kind == "categorical":
            import pandas as pd

            return pd.Categorical.from_codes(self.values, categories=list(self.levels))
        labels = np.empty(len(self.levels) + 1, dtype=object)
        labels[:-1] = self.levels
        return labels[self.values]

    def check(self) -> None:
        """Refuse codes that stand for nothing."""
        if self.kind == "values":
            return
        codes = self.values
        if self.kind not in ("categorical", "labels") or codes.dtype.kind != "i":
            raise FileError(f"no column of kind {self.kind[:40]!r} holds {codes.dtype}")
        if len(codes) and (codes.min() < -1 or codes.max() >= len(self.levels)):
            raise FileError("a column has a value that is not listed")


@dataclass(frozen=True, eq=False)
class StoredOrigin:
    """An `Origin`, its row labels and the columns of its table one by one."""

    library: str
    accounting: Accounting
    index: tuple[StoredColumn, ...]
    index_names: tuple[str | None, ...]
    columns: Mapping[str, StoredColumn] | None
    remarks: tuple[str, ...] = ()

    @classmethod
    def of(cls, origin: Origin) -> StoredOrigin:
        data, columns = origin.data, None
        if data is not None:
            stored = {name: StoredColumn.of(data, name) for name in data.columns}
            columns = {name: column for name, column in stored.items() if column is not None}
        names, labels = row_labels(origin.index)
        return cls(origin.library, origin.accounting, labels, names, columns, origin.remarks)

    def restored(self) -> Origin:
        if self.library not in LIBRARIES:
            raise FileError(f"no data-frame library {self.library[:40]!r}")
        rows, index, data = self.accounting.n_rows, self.row_index(), None
        if self.columns is not None:
            native = {name: column.restored() for name, column in self.columns.items()}
            data = Table(native, {name: name for name in native}, rows, self.library, index)
        return Origin(self.library, index, self.accounting, data, self.remarks)

    def row_index(self) -> Any:
        """Return the row labels as a pandas index; None of the default one."""
        if not self.index:
            return None
        import pandas as pd

        levels = [level.restored() for level in self.index]
        levels = [list(level) if level.dtype == object else level for level in levels]
        if len(levels) == 1:
            return pd.Index(levels[0], name=self.index_names[0])
        return pd.MultiIndex.from_arrays(levels, names=self.index_names)


def row_labels(index: Any) -> tuple[tuple[str | None, ...], tuple[StoredColumn, ...]]:
    """Return the names and labels of a pandas index; none of one that counts the rows."""
    counted = type(index).__name__ == "RangeIndex" and (index.start, index.step) == (0, 1)
    if index is None or counted:
        return (), ()
    names = tuple(None if name is None else str(name) for name in index.names)
    levels = map(index.get_level_values, range(index.nlevels))
    return names, tuple(map(StoredColumn.of_index, levels))
