"""Checks of a response: which row cannot be, with its value, and how many are like it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ranef.errors import DataError

__all__ = ["refuse", "require"]

Floats = NDArray[np.float64]


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
    DataError
        If any row is wrong: with the first (counted from 0), its value, and their number.

    Examples
    --------
    >>> refuse("poisson", "whole numbers from 0", np.array([1.0, 2.5]), np.array([False, True]))
    Traceback (most recent call last):
    ranef.errors.DataError: poisson needs whole numbers from 0; row 1 has 2.5; 1 row is like this
    """
    rows = np.flatnonzero(wrong)
    if not rows.size:
        return
    first = int(rows[0])
    number = "1 row is like this" if rows.size == 1 else f"{rows.size:,} rows are like this"
    raise DataError(f"{name} needs {needs}; row {first} has {y[first]:g}; {number}{hint}")


def require(name: str, needs: str, y: Floats, right: NDArray[np.bool_], hint: str = "") -> None:
    """Raise `DataError` unless all rows are ``right``; NaN is never right."""
    refuse(name, needs, y, ~right, hint)


def whole(y: Floats) -> NDArray[np.bool_]:
    """Which are finite whole numbers."""
    return np.asarray(np.isfinite(y) & (y == np.floor(y)))
