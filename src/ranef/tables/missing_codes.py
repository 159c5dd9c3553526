"""Numbers that stand for "missing", such as -99 or 999: one rule for tables and for files."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["MissingCode", "missing_codes"]

BELOW = (
    -7.0, -8.0, -9.0, -77.0, -88.0, -99.0, -777.0, -888.0, -999.0, -7777.0, -8888.0, -9999.0,
    -99999.0,
)  # fmt: skip
ABOVE = (77.0, 88.0, 99.0, 777.0, 888.0, 999.0, 7777.0, 8888.0, 9999.0, 99999.0)
FEWEST = 5
"""Other values, without which nothing is far from them."""
FAR = 3.0
"""Times the largest other value, in size: so far a code lies above it, in two rows or more."""
FARTHER = 10.0
"""The same of a code in one row."""
APART = ((5, 0.5), (2, 1.0), (1, 3.0))
"""Where other values are below zero too: of so many rows, the gap in ranges of the others."""
ALONE = -77.0
"""A code below zero that needs no second row; so low at least."""


@dataclass(frozen=True)
class MissingCode:
    """A number that may stand for "missing".

    Attributes
    ----------
    code : float
    count : int
        Its rows.
    low, high : float
        The range of the column's other values.
    """

    code: float
    count: int
    low: float
    high: float


def missing_codes(values: NDArray[np.float64]) -> list[MissingCode]:
    """Return the numbers of a column that look like codes for "missing".

    They are all that is below zero, or lie far below or above everything else. NaN is left out.

    Examples
    --------
    >>> missing_codes(np.array([1.0, 2, 5, 4, 3, 1, -99, -99]))
    [MissingCode(code=-99.0, count=2, low=1.0, high=5.0)]
    >>> missing_codes(np.array([-1.5, 0.3, 0.1, 1.2, -0.4, 2.0, -99, -99]))
    [MissingCode(code=-99.0, count=2, low=-1.5, high=2.0)]
    >>> missing_codes(np.array([61.0, 64, 70, 66, 65, 99, 99]))
    []
    """
    present = values[np.isfinite(values)]
    below, above = np.isin(present, BELOW), np.isin(present, ABOVE)
    found = []
    if below.any() and np.sum(~below) >= FEWEST:
        least, most = float(present[~below].min()), float(present[~below].max())
        found += [
            (code, count)
            for code, count in _counted(present[below])[::-1]
            if (least >= 0 and (count > 1 or code <= ALONE))
            or (least < 0 and least - code > _gap(count) * (most - least))
        ]
    rest = present[~below & ~above]
    if above.any() and len(rest) >= FEWEST and present.max() in ABOVE:
        largest = float(np.abs(rest).max())
        found += [
            (code, count)
            for code, count in _counted(present[above])
            if code > FAR * largest
            and code > 3 * rest.max() - 2 * rest.min()
            and (count > 1 or code > FARTHER * largest)
        ]
    codes = [code for code, _ in found]
    others = present[~np.isin(present, codes)]
    return [MissingCode(c, n, float(others.min()), float(others.max())) for c, n in found]


def _gap(count: int) -> float:
    return next(gap for rows, gap in APART if count >= rows)


def _counted(values: NDArray[np.float64]) -> list[tuple[float, int]]:
    codes, counts = np.unique(values, return_counts=True)
    return list(zip(codes.tolist(), counts.tolist(), strict=True))
