"""Sampling weights of rows and of the levels of a grouping factor: their scale.

Rabe-Hesketh & Skrondal (2006, Journal of the Royal Statistical Society A 169) multiply the log
density of a row by its weight given its level, and the log integral of a level by that of the
level; Pfeffermann and others (1998, B 60) scale the weights of rows within levels.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["SCALINGS", "of_levels", "scaled_within"]

Floats = NDArray[np.float64]
Codes = NDArray[np.int32]

SCALINGS = ("none", "size", "effective")


def scaled_within(weights: Floats, codes: Codes, scaling: str) -> Floats:
    """Weights of rows (n,), scaled within levels.

    Parameters
    ----------
    weights : (n,) array
    codes : (n,) array
        Level of each row.
    scaling : {"none", "size", "effective"}
        As they are; so that they add up to the rows of a level; or to its effective rows,
        (sum w)^2 / sum w^2.

    Examples
    --------
    >>> scaled_within(np.array([1.0, 3.0, 2.0]), np.array([0, 0, 1]), "size")
    array([0.5, 1.5, 1. ])
    """
    if scaling == "none":
        return weights
    total = np.bincount(codes, weights)
    rows = np.bincount(codes).astype(np.float64)
    wanted = rows if scaling == "size" else total**2 / np.bincount(codes, weights**2)
    return np.asarray(weights * (wanted / total)[codes])


def of_levels(weights: Floats, codes: Codes) -> tuple[Floats, NDArray[np.intp]]:
    """Weights (q,) of levels, over their mean; and rows that differ from their level's first."""
    first = np.unique(codes, return_index=True)[1]
    found = weights[first]
    wrong = np.flatnonzero(np.abs(weights - found[codes]) > 1e-9 * np.abs(weights))
    return np.asarray(found / found.mean()), wrong
