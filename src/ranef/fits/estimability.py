"""What the data determine where columns of the fixed effects depend on each other.

A row can be asked for only if its redundant columns depend on the others as they do in the
data (Searle 1971, Linear Models, section 5.4). How far a row is from that is its gap, a
column for each redundant one. Every answer at rows rests on this one test: marginal means,
predictions, draws, averages, rankings.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ranef.design.specification import Specification
from ranef.errors import RankWarning, warn
from ranef.formula.labels import count_text, list_text
from ranef.inference.coefficients.functions import ESTIMABLE, redundancy
from ranef.models.rows import Rows
from ranef.tables import Table
from ranef.tables.origin import Origin

__all__ = ["Redundancy", "Redundant", "determined", "row_names", "undetermined_words", "warn_of"]

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Redundancy:
    """How the d redundant columns of a part depend on its p others in the data.

    Attributes
    ----------
    kept, left_out : (p,) and (d,) int arrays
        Places of the columns.
    coefficients : (p, d) float64 array
    size : (d,) float64 array
        Largest value of each redundant column.
    """

    kept: NDArray[np.intp]
    left_out: NDArray[np.intp]
    coefficients: Floats
    size: Floats

    @classmethod
    def of(cls, spec: Specification, frame: Origin) -> Redundancy:
        """Read it off the rows in the model."""
        # rows that were left out may hold levels that no other row has
        X = spec.recipe.fixed(Table.of(frame.rows_used()), redundant=True)[0]
        kept = np.array(spec.recipe.kept, dtype=np.intp)
        left_out = np.setdiff1d(np.arange(X.shape[1]), kept)
        size = np.abs(X[:, left_out]).max(axis=0)
        coefficients = redundancy(X[:, kept], X[:, left_out])
        return cls(kept, left_out, coefficients, np.where(size > 0, size, 1.0))

    def gap(self, full: Floats) -> Floats:
        """What the redundant columns say at each row beyond what the others say, (N, d).

        Exactly zero where it is rounding: at a row far from the data that is more.
        """
        full = np.nan_to_num(full)
        X, redundant = full[:, self.kept], full[:, self.left_out]
        beyond = redundant - X @ self.coefficients
        reach = np.abs(X) @ np.abs(self.coefficients) + np.abs(redundant)
        beyond[np.abs(beyond) <= ESTIMABLE * np.maximum(reach, self.size)] = 0.0
        return np.asarray(beyond / self.size)


class Redundant(Protocol):
    """A fit whose fixed effects may have redundant columns."""

    @property
    def frame(self) -> Origin: ...
    @property
    def parts(self) -> Mapping[str, Specification]: ...
    @property
    def redundancies(self) -> dict[str, Redundancy]: ...


def determined(fit: Redundant, name: str, full: Floats) -> tuple[Floats, Floats]:
    """Columns (N, p) of a part that were not left out, and gaps (N, d), of all its columns."""
    if name not in fit.redundancies:
        fit.redundancies[name] = Redundancy.of(fit.parts[name], fit.frame)
    known = fit.redundancies[name]
    return np.ascontiguousarray(full[:, known.kept]), known.gap(full)


def row_names(origin: Origin) -> NDArray[Any]:
    """Names (N,) of the rows in use: their labels in pandas, else their places from 0."""
    index, kept = origin.index, origin.accounting.kept
    names = np.arange(origin.accounting.n_rows) if index is None else np.asarray(index)
    return names if kept is None else names[kept]


def undetermined_words(
    fit: Redundant, rows: Rows, parts: Iterable[str], names: NDArray[Any]
) -> str | None:
    """Name the rows that the data do not determine, and the columns that were left out.

    `names` (N,) are those of the rows.
    """
    gone = rows.undetermined(parts)
    if not gone.any():
        return None
    parts = [name for name in parts if name in rows.parts]
    columns = [
        column
        for name in parts
        if rows.undetermined([name]).any()
        for column in fit.parts[name].dropped_columns
    ]
    count, single = int(gone.sum()), len(columns) == 1
    return (
        f"{count_text(count, 'row')} of the table ({list_text(list(names[gone]))}) "
        f"{'is' if count == 1 else 'are'} not determined by the data: the fixed effects left out "
        f"{list_text(columns)}, which {'depends' if single else 'depend'} on the other columns in "
        f"the rows of the fit, but not in {'this one' if count == 1 else 'these'}"
    )


def warn_of(words: str | None, what: str) -> None:
    """Warn of rows that are not determined, and that the answer is NaN there."""
    if words is not None:
        warn(f"{words}; {what}", RankWarning)
