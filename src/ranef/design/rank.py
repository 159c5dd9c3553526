"""Redundant columns of a model matrix: found, and left out as R leaves them out."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["independent_columns"]

Floats = NDArray[np.float64]
TOLERANCE = 1e-7
DOUBTFUL = 1e-8


def independent_columns(X: Floats) -> NDArray[np.intp]:
    """Return the columns that do not depend linearly on those before them.

    A column is redundant when what the earlier columns leave of it is less
    than 1e-7 of its length: the rule of R's limited column pivoting. A
    Cholesky factorisation of the scaled cross-products settles the clear
    cases; only doubtful ones are settled by QR.

    Parameters
    ----------
    X : (n, p) float64 array

    Examples
    --------
    >>> one = np.ones(3)
    >>> independent_columns(np.column_stack([one, [1.0, 2, 3], 2 * one]))
    array([0, 1])
    """
    p = X.shape[1]
    if p == 0:
        return np.arange(0)
    if X.shape[0] >= p and _clearly_independent(X):
        return np.arange(p)
    largest = np.abs(X).max(axis=0, initial=0.0)
    scaled = X / np.where(largest > 0, largest, 1.0)
    return _limited_pivoting(np.asarray(np.linalg.qr(scaled, mode="r")))


def _clearly_independent(X: Floats) -> bool:
    with np.errstate(over="ignore"):
        gram = X.T @ X
    squares = np.diag(gram)
    if not (squares.min() > 1e-280 and squares.max() < 1e280):
        return False
    scale = 1.0 / np.sqrt(squares)
    try:
        factor = np.linalg.cholesky(gram * scale[:, None] * scale)
    except np.linalg.LinAlgError:
        return False
    return bool(np.diag(factor).min() ** 2 > DOUBTFUL)


def _limited_pivoting(R: Floats) -> NDArray[np.intp]:
    """Choose columns from left to right by Gram-Schmidt, twice for accuracy."""
    kept: list[int] = []
    basis = np.zeros((R.shape[0], min(R.shape)))
    for j in range(R.shape[1]):
        column = R[:, j]
        length = float(np.linalg.norm(column))
        if length == 0.0 or len(kept) == basis.shape[1]:
            continue
        known = basis[:, : len(kept)]
        rest = column - known @ (known.T @ column)
        rest -= known @ (known.T @ rest)
        left = float(np.linalg.norm(rest))
        if left < TOLERANCE * length:
            continue
        basis[:, len(kept)] = rest / left
        kept.append(j)
    return np.array(kept, dtype=np.intp)
