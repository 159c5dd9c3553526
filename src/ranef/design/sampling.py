"""Known sampling errors of effects, as columns of a table or a matrix beside it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ranef.design.evaluate import unknown_column
from ranef.design.variables import Frame
from ranef.errors import DataError, ModelError, row_text
from ranef.formula.labels import count_text, level_text
from ranef.tables import Table

__all__ = ["SamplingErrors"]

Floats = NDArray[np.float64]


@dataclass(eq=False)
class SamplingErrors:
    """Reads sampling variances, and the names of studies, beside the formula of a model.

    Attributes
    ----------
    variance, std_error : str, array or None
        One of the two, or `covariance`.
    covariance : (N, N) array or table
    study : str or None
        Column of the names that studies have in tables and pictures.
    variances : (n,) float64 array
        Filled by `take`.
    matrix : (n, n) float64 array or None
    names : tuple of str
    """

    variance: Any = None
    std_error: Any = None
    covariance: Any = None
    study: str | None = None

    def __post_init__(self) -> None:
        given = [name for name in ("variance", "std_error", "covariance") if self._is_given(name)]
        if len(given) != 1:
            said = "none is" if not given else f"{' and '.join(given)} are"
            raise ModelError(
                "meta() needs the sampling errors of the effects once: variance= or std_error= (a "
                f"column), or covariance= (a matrix); {said} given"
            )
        self.what = given[0]
        self.variances: Floats = np.zeros(0)
        self.matrix: Floats | None = None
        self.names: tuple[str, ...] = ()

    def _is_given(self, name: str) -> bool:
        return getattr(self, name) is not None

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the columns that are read."""
        named = (getattr(self, self.what), self.study)
        return tuple(dict.fromkeys(name for name in named if isinstance(name, str)))

    def note(self, frame: Frame) -> None:
        """Evaluate them in all rows, and note where they are missing."""
        table = frame.scope.table
        if self.study is not None and self.study not in table:
            raise unknown_column(self.study, table, "study")
        if self.what == "covariance":
            self._whole = _matrix(self.covariance, table)
            values: Any = np.diag(self._whole).copy()
        else:
            values = getattr(self, self.what)
        numbers = frame.given(values, self.what)
        assert numbers is not None
        _refuse(numbers, self.what)

    def take(self, frame: Frame) -> None:
        """Take them in the rows that are used."""
        numbers = frame.given(getattr(self, self.what), self.what)
        assert numbers is not None
        self.variances = np.asarray(numbers**2 if self.what == "std_error" else numbers)
        if len(self.variances) == 1:
            raise ModelError(
                "there is one study only: nothing is combined, and how far studies differ cannot "
                "be known from one. Its own effect, with normal limits of 1.96 standard errors, is "
                "all there is (metafor prints these, with a tau2 of 0)"
            )
        rows = slice(None) if frame.kept is None else np.flatnonzero(frame.kept)
        if self.what == "covariance":
            self.matrix = _checked(self._whole[rows][:, rows])
        self.names = self._named(frame.scope.table, rows)

    def _named(self, table: Table, rows: Any) -> tuple[str, ...]:
        if self.study is None:
            return tuple(str(i + 1) for i in np.arange(table.n_rows)[rows])
        codes, levels = table.codes(self.study)
        labels = [level_text(level) for level in levels]
        return tuple("" if code < 0 else labels[code] for code in codes[rows].tolist())


def _refuse(values: Floats, what: str) -> None:
    """Refuse sampling errors that are not positive."""
    rows = np.flatnonzero(values <= 0)
    if len(rows):
        named = {"std_error": "std_error", "covariance": "the diagonal of covariance"}
        raise DataError(
            f"{named.get(what, 'variance')} is not positive in "
            f"{count_text(len(rows), 'row')} (first {values[rows[0]]:g} in "
            f"{row_text(int(rows[0]))}): an effect without sampling error would have infinite "
            "weight; correct it, or leave the row out"
        )


def _matrix(value: Any, table: Table) -> Floats:
    """A covariance matrix of all rows of the table; a labelled one by its labels."""
    try:
        V = np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError):
        raise DataError("covariance must be a matrix of numbers") from None
    if V.shape != (table.n_rows, table.n_rows):
        raise DataError(
            f"covariance has shape {V.shape}; it needs one row and one column for each of the "
            f"{table.n_rows} rows of the table"
        )
    index, labels = getattr(value, "index", None), table.labels
    if index is None or callable(index) or labels is None:
        return V
    columns = list(value.columns)
    if list(index) == list(labels) == columns or list(index) == list(range(len(V))):
        return V
    if set(index) != set(labels) or set(columns) != set(labels) or len(set(labels)) < len(V):
        raise DataError(
            "the labels of covariance are not those of the table's rows; give a plain array in "
            "the order of the rows, or matching labels"
        )
    rows = [list(index).index(label) for label in labels]
    across = [columns.index(label) for label in labels]
    return V[np.ix_(rows, across)]


def _checked(V: Floats) -> Floats:
    """Refuse what is no covariance matrix."""
    if not np.isfinite(V).all():
        i, j = (int(k[0]) for k in np.nonzero(~np.isfinite(V)))
        raise DataError(
            f"covariance is missing or infinite in {row_text(i)}, column {j}; leave out the "
            "studies whose covariances are not known"
        )
    size = np.sqrt(np.diag(V))
    unit = V / np.outer(size, size)
    if not np.allclose(unit, unit.T, atol=1e-8):
        raise DataError("covariance is not symmetric")
    least = float(np.linalg.eigvalsh(0.5 * (unit + unit.T))[0])
    if least <= 1e-10:
        raise DataError(
            f"covariance is not positive definite (smallest eigenvalue {least:.1e} on the scale "
            "of correlations): are effects that determine each other in it twice?"
        )
    return np.ascontiguousarray(0.5 * (V + V.T))
