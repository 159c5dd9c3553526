"""Checks of a response: which row cannot be, with its value, and how many are like it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ranef.errors import DataError, row_text

__all__ = ["ResponseError", "refuse", "require"]

Floats = NDArray[np.float64]


class ResponseError(DataError):
    """Values that a family cannot have.

    Attributes
    ----------
    needs : str
        What was expected, of whom.
    row : int
        The first such value, counted from 0.
    value : float
    count : int
    hint : str
    """

    def __init__(self, needs: str, row: int, value: float, count: int, hint: str) -> None:
        self.needs, self.row, self.value, self.count, self.hint = needs, row, value, count, hint
        super().__init__(f"{needs}; row {row} has {value:g}; {self._number()}{hint}")

    def _number(self) -> str:
        return "1 row is like this" if self.count == 1 else f"{self.count:,} rows are like this"

    def of_column(self, name: str, row: int) -> DataError:
        """Return the error with the column's name and the row of the table."""
        return DataError(
            f"{self.needs}; {name} is {self.value:g} in {row_text(row)}; "
            f"{self._number()}{self.hint}"
        )


def refuse(name: str, needs: str, y: Floats, wrong: NDArray[np.bool_], hint: str = "") -> None:
    """Raise `DataError` for the first of the rows that are ``wrong``, if any is.

    Parameters
    ----------
    name, needs : str
        The family, and what it needs of a response, in words.
    y : (n,) array
        The values.
    wrong : (n,) bool array
        The rows that cannot be.
    hint : str
        What to do.

    Raises
    ------
    ResponseError
        If any row is wrong: with the first (counted from 0), its value, and their number.

    Examples
    --------
    >>> refuse("poisson", "whole numbers from 0", np.array([1.0, 2.5]), np.array([False, True]))
    Traceback (most recent call last):
    ranef.families.checks.ResponseError: poisson needs whole numbers from 0; row 1 has 2.5; 1 row
    is like this
    """
    rows = np.flatnonzero(wrong)
    if not rows.size:
        return
    first = int(rows[0])
    raise ResponseError(f"{name} needs {needs}", first, float(y[first]), rows.size, hint)


def require(name: str, needs: str, y: Floats, right: NDArray[np.bool_], hint: str = "") -> None:
    """Raise `DataError` unless all rows are ``right``; NaN is never right."""
    refuse(name, needs, y, ~right, hint)


def whole(y: Floats) -> NDArray[np.bool_]:
    """Which are finite whole numbers."""
    return np.asarray(np.isfinite(y) & (y == np.floor(y)))
