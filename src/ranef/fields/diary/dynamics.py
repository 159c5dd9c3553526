"""How a person's series moves: its level, spread, instability and inertia."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Dynamics", "dynamics"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int_]
Rows = NDArray[np.intp]

FEWEST_PAIRS = 5


@dataclass(frozen=True, eq=False)
class Dynamics:
    """One number a person, (P,) each.

    Attributes
    ----------
    n : array
        Prompts with a value.
    mean, sd : array
    pairs : array
        Prompts that follow another in the same series.
    rmssd : array
        Root of the mean squared successive difference, over the pairs.
    inertia : array
        Slope of a value on the one before, both as deviations from the person's mean; NaN with
        fewer than five pairs.
    """

    n: Ints
    mean: Floats
    sd: Floats
    pairs: Ints
    rmssd: Floats
    inertia: Floats


def dynamics(y: Floats, person: NDArray[np.int32], before: Rows, n_persons: int) -> Dynamics:
    """Describe each person's series.

    Parameters
    ----------
    y : (n,) array
        NaN where missing.
    person : (n,) int32 array
        -1 where missing.
    before : (n,) array
        Row before each row in its series, -1 where there is none.

    Examples
    --------
    >>> y = np.array([1.0, 2.0, 4.0, 3.0])
    >>> found = dynamics(y, np.zeros(4, dtype=np.int32), np.array([-1, 0, 1, 2]), 1)
    >>> found.n, found.pairs, found.rmssd.round(4)
    (array([4]), array([3]), array([1.4142]))
    """
    known = (person >= 0) & ~np.isnan(y)
    codes = person[known]
    n = np.bincount(codes, minlength=n_persons)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = np.bincount(codes, y[known], minlength=n_persons) / n
        centred = np.where(known, y - mean[person], np.nan)
        squares = np.bincount(codes, centred[known] ** 2, minlength=n_persons)
        sd = np.sqrt(np.where(n > 1, squares / (n - 1), np.nan))
        rows = np.flatnonzero(known & (before >= 0))
        rows = rows[~np.isnan(y[before[rows]])]
        own, earlier = centred[rows], centred[before[rows]]
        of = person[rows]
        pairs = np.bincount(of, minlength=n_persons)
        rmssd = np.sqrt(np.bincount(of, (own - earlier) ** 2, minlength=n_persons) / pairs)
        slope = np.bincount(of, own * earlier, minlength=n_persons) / np.bincount(
            of, earlier**2, minlength=n_persons
        )
    inertia = np.where((pairs >= FEWEST_PAIRS) & np.isfinite(slope), slope, np.nan)
    return Dynamics(n, mean, sd, pairs, rmssd, inertia)
