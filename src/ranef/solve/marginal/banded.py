"""Correlations that end at a distance, as bands: in time proportional to the rows.

The correlations of the rows of one cluster, ordered in time, stand near the diagonal where places
more than `reach` apart have none: gaps bring rows nearer to each other, never farther. A band (k +
1, m) holds the diagonal and k diagonals below it, column by column, as LAPACK has it.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ranef.solve.marginal.clusters import Clusters, Slice

__all__ = ["is_banded", "near_products", "smallest_eigenvalue", "solved"]

Floats = NDArray[np.float64]
Ints = NDArray[np.intp]

FEW_ROWS = 24
SHARE = 4
"""Bands serve where rows are at least so many, and so many times the reach."""
BISECTIONS = 60


def is_banded(reach: int, rows: int) -> bool:
    """Tell whether bands are less work than whole matrices."""
    return rows >= FEW_ROWS and SHARE * reach < rows


def solved(band: Floats, rows: Floats, back: bool) -> Floats:
    """L^-1 (or L^-T) of rows, with L L' the positive definite matrix of the band.

    Parameters
    ----------
    band : (k + 1, m) array
    rows : (b, m, q) array
        Of b clusters that share the matrix.
    """
    from scipy.linalg import cholesky_banded, lapack

    root = cholesky_banded(band, lower=True, check_finite=False)
    b, m, q = rows.shape
    columns = np.asfortranarray(rows.transpose(1, 0, 2).reshape(m, b * q))
    found, info = lapack.dtbtrs(root, columns, uplo="L", trans="T" if back else "N", overwrite_b=1)
    assert info == 0
    return np.asarray(found.reshape(m, b, q).transpose(1, 0, 2))


def smallest_eigenvalue(band: Floats, floor: float) -> float:
    """The smallest eigenvalue where it is less than `floor`, else `floor`.

    A matrix has none below x where x may be taken from its diagonal and a Cholesky factor is left;
    bisection between there and the bound by Gershgorin.
    """
    if _definite(band, floor):
        return floor
    low, high = 1.0 - 2.0 * float(np.abs(band[1:]).max(axis=1).sum()), floor
    for _ in range(BISECTIONS):
        middle = 0.5 * (low + high)
        low, high = (middle, high) if _definite(band, middle) else (low, middle)
    return low


def _definite(band: Floats, less: float) -> bool:
    from scipy.linalg import LinAlgError, cholesky_banded

    moved = band.copy()
    moved[0] -= less
    try:
        cholesky_banded(moved, lower=True, overwrite_ab=True, check_finite=False)
    except LinAlgError:
        return False
    return True


def near_products(
    v: Floats, clusters: Clusters, part: Slice, reach: int, by_place: bool = False
) -> Floats:
    """Sums (reach,) of products of two rows of a cluster by their distance in places.

    Or (reach, T) by distance and by the earlier place.
    """
    positions = clusters.positions[part.rows]
    count = len(clusters.places) if by_place else 1
    found = np.zeros(reach * count)
    ends = np.repeat(part.starts + part.sizes, part.sizes)
    for step in range(1, min(reach, int(part.sizes.max()) - 1) + 1):
        first = np.flatnonzero(np.arange(step, len(v) + step) < ends)
        apart = positions[first + step] - positions[first]
        near = apart <= reach
        if not near.all():
            first, apart = first[near], apart[near]
        code = (apart - 1) * count + (positions[first] if by_place else 0)
        found += np.bincount(code, v[first] * v[first + step], len(found))
    return found.reshape(reach, count) if by_place else found
