"""Rows centred by groups: the parts of a number within groups and between them.

Nested groups are centred from the finest up: what a row differs from its cell's mean, a cell's
mean from that of the cell around it, and so on; the parts add up to the number. Crossed groups
are taken out together, by least squares on all their levels, so that what is left has the mean
zero in every level of each, balanced or not.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

__all__ = ["crossed_effects", "fitted_effects", "group_means"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int32]
Mask = NDArray[np.bool_]

PRECISE = 1e-13


def group_means(x: Floats, codes: Ints, n_levels: int, used: Mask | None = None) -> Floats:
    """Mean of x (n,) at each level, over the rows used; NaN where there is none.

    A row counts where its x and its level are known.

    Examples
    --------
    >>> group_means(np.array([1.0, 3.0, 5.0]), np.array([0, 0, -1], dtype=np.int32), 2)
    array([ 2., nan])
    """
    rows = (codes >= 0) & ~np.isnan(x)
    if used is not None:
        rows &= used
    own, values = codes[rows], x[rows]
    counts = np.bincount(own, minlength=n_levels)
    with np.errstate(invalid="ignore"):
        means = np.bincount(own, values, minlength=n_levels) / counts
    # the mean of equal numbers is that number, without rounding
    one = np.full(n_levels, np.nan)
    one[own] = values
    same = np.bincount(own, values != one[own], minlength=n_levels) == 0
    return np.asarray(np.where(same, one, means))


def fitted_effects(effects: Sequence[Floats], codes: Sequence[Ints]) -> Floats:
    """Sum of the effects of each row's levels, (n,); NaN where a level has none."""
    parts = [np.append(e, np.nan)[c] for e, c in zip(effects, codes, strict=True)]
    return np.asarray(np.sum(parts, axis=0))


def crossed_effects(x: Floats, codes: Sequence[Ints], free: Sequence[Mask]) -> tuple[Floats, ...]:
    """Least-squares effects of the levels of crossed factors on x.

    Minimises ``sum_i (x_i - sum_f e_f[codes_f[i]])^2`` by conjugate gradients on the normal
    equations, scaled by the counts (Hestenes and Stiefel 1952). The equations are singular but
    consistent; the fitted values are unique.

    Parameters
    ----------
    x : (n,) array
        Known in every row.
    codes : sequence of (n,) int32 arrays
        Level of each row, one array a factor.
    free : sequence of (q,) bool arrays
        Levels whose effects are sought; the others have the effect zero.

    Returns
    -------
    tuple of (q,) arrays
        Effects, one array a factor; zero where a level has no row.

    Examples
    --------
    >>> rows, columns = np.divmod(np.arange(4, dtype=np.int32), 2)
    >>> x = np.array([1.0, 2.0, 3.0, 5.0])
    >>> every = np.ones(2, dtype=bool)
    >>> effects = crossed_effects(x, [rows, columns], [every, every])
    >>> (x - fitted_effects(effects, [rows, columns])).round(6)
    array([ 0.25, -0.25, -0.25,  0.25])
    """
    sizes = [len(mask) for mask in free]
    ends = np.cumsum(sizes)[:-1]
    mask = np.concatenate(list(free))
    weights = np.concatenate(
        [np.bincount(c, minlength=q) for c, q in zip(codes, sizes, strict=True)]
    )
    mask = mask & (weights > 0)
    scale = np.where(mask, np.maximum(weights, 1), 1.0)

    def gathered(values: Floats) -> Floats:
        sums = [np.bincount(c, values, minlength=q) for c, q in zip(codes, sizes, strict=True)]
        return np.where(mask, np.concatenate(sums), 0.0)

    effects = np.zeros(len(mask))
    residual = gathered(x)
    goal = PRECISE * float(np.sqrt(np.sum(residual**2 / scale)))
    direction = scaled = residual / scale
    power = float(residual @ scaled)
    for _ in range(20 + 4 * len(mask)):
        if np.sqrt(power) <= goal:
            break
        image = gathered(fitted_effects(np.split(direction, ends), codes))
        step = power / float(direction @ image)
        effects = effects + step * direction
        residual = residual - step * image
        scaled = residual / scale
        power, before = float(residual @ scaled), power
        direction = scaled + (power / before) * direction
    return tuple(np.split(effects, ends))
