"""Residuals of rows of one group by the distance between them: semivariance and correlation."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["ByDistance", "Pairs", "by_distance", "pairs_of"]

Floats = NDArray[np.float64]
Ints = NDArray[np.intp]

MOST_PAIRS = 2_000_000


@dataclass(frozen=True, eq=False)
class Pairs:
    """Pairs of rows, (m,) each.

    Attributes
    ----------
    first, second : int arrays
    distance : float64 array
    """

    first: Ints
    second: Ints
    distance: Floats


@dataclass(frozen=True, eq=False)
class ByDistance:
    """Means over the pairs of each class of distances, (B,) each.

    Attributes
    ----------
    distance : array
        Their mean distance.
    pairs : int array
    semivariance : array
        Mean of (r_i - r_j)^2 / 2.
    correlation : array
        Mean of r_i r_j over the mean square of all residuals.
    place : (m,) int array
        Class of each pair.
    """

    distance: Floats
    pairs: Ints
    semivariance: Floats
    correlation: Floats
    place: Ints


def pairs_of(series: Ints, where: Floats) -> Pairs:
    """Every two rows of one series, the nearest in order first where there are too many.

    Parameters
    ----------
    series : (n,) int array
    where : (n, d) array
        Coordinates.

    Examples
    --------
    >>> found = pairs_of(np.array([0, 0, 0, 1]), np.array([[0.0], [3.0], [1.0], [0.0]]))
    >>> found.distance.tolist()
    [1.0, 2.0, 3.0]
    """
    order = np.lexsort((*where.T[::-1], series))
    s, firsts, seconds, count = series[order], [], [], 0
    for step in range(1, len(order)):
        same = np.flatnonzero(s[step:] == s[:-step])
        if not len(same):
            break
        firsts.append(order[same])
        seconds.append(order[same + step])
        count += len(same)
        if count > MOST_PAIRS:
            break
    none = np.empty(0, dtype=np.intp)
    first, second = np.concatenate([none, *firsts]), np.concatenate([none, *seconds])
    distance = np.sqrt(np.sum((where[first] - where[second]) ** 2, axis=1))
    return Pairs(first, second, np.asarray(distance, dtype=np.float64))


def by_distance(residual: Floats, pairs: Pairs, classes: int) -> ByDistance:
    """Average over pairs of about equal distance.

    Distances that are few (visits, days) are classes of their own; of others classes hold about
    equally many pairs.

    Parameters
    ----------
    residual : (n,) array
    pairs : Pairs
    classes : int
    """
    distinct, place = np.unique(np.round(pairs.distance, 9), return_inverse=True)
    place = place.reshape(-1)
    if len(distinct) > 2 * classes:
        edges = np.unique(np.quantile(pairs.distance, np.linspace(0.0, 1.0, classes + 1)))
        place = np.clip(np.searchsorted(edges, pairs.distance, side="right") - 1, 0, len(edges) - 2)
        _, place = np.unique(place, return_inverse=True)
        place = place.reshape(-1)
    a, b = residual[pairs.first], residual[pairs.second]
    counts = np.bincount(place)
    distance = np.bincount(place, pairs.distance) / counts
    semivariance = np.bincount(place, (a - b) ** 2) / counts / 2.0
    correlation = np.bincount(place, a * b) / counts / float(np.mean(residual**2))
    return ByDistance(distance, counts, semivariance, correlation, place.astype(np.intp))
