"""How a person's series moves: its level, spread, instability and inertia."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Dynamics", "dynamics", "shrunken_inertia"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int_]
Rows = NDArray[np.intp]

FEWEST_PAIRS = 5
LEAST_ERROR = 0.05


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
    shrunken : array
        The same, drawn towards the mean of all persons, the more the fewer its pairs; see
        `shrunken_inertia`.
    """

    n: Ints
    mean: Floats
    sd: Floats
    pairs: Ints
    rmssd: Floats
    inertia: Floats
    shrunken: Floats


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
    return Dynamics(n, mean, sd, pairs, rmssd, inertia, shrunken_inertia(inertia, pairs))


def shrunken_inertia(inertia: Floats, pairs: Ints) -> Floats:
    """Inertia of persons, shrunken towards their mean.

    In a long series of inertia phi its estimate from T pairs has the variance (1 - phi^2) / T
    (Brockwell & Davis 1991, section 8.8), here at the mean phi of all persons. The variance
    between persons is what exceeds that (DerSimonian & Laird 1986), and each estimate is
    weighted with the mean by the two.

    Parameters
    ----------
    inertia : (P,) array
        NaN where unknown.
    pairs : (P,) array

    Examples
    --------
    >>> shrunken_inertia(np.array([0.8, 0.0, np.nan]), np.array([200, 5, 2])).round(2)
    array([0.8, 0.1, nan])
    """
    known = np.isfinite(inertia)
    out = np.full(len(inertia), np.nan)
    if not known.any():
        return out
    slope, T = inertia[known], pairs[known].astype(np.float64)
    centre = float(np.average(slope, weights=T))
    error = max(1.0 - centre**2, LEAST_ERROR) / T
    weight = 1.0 / error
    spread = 0.0
    if len(slope) > 1:
        Q = float(np.sum(weight * (slope - np.average(slope, weights=weight)) ** 2))
        scale = float(weight.sum() - np.sum(weight**2) / weight.sum())
        spread = max(0.0, (Q - (len(slope) - 1)) / scale) if scale > 0 else 0.0
    mean = float(np.average(slope, weights=1.0 / (error + spread)))
    own = spread / (spread + error)
    out[known] = own * slope + (1.0 - own) * mean
    return out
