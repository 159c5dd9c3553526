"""Redundant columns of a model matrix: found, and left out as R leaves them out."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ranef.design.matrix import check_memory

if TYPE_CHECKING:
    from scipy.sparse import csr_array

__all__ = ["cross_products", "independent_columns", "whole"]

Floats = NDArray[np.float64]
TOLERANCE = 1e-7
DOUBTFUL = 1e-8


def independent_columns(X: Floats | csr_array) -> NDArray[np.intp]:
    """Return the columns that do not depend linearly on those before them.

    A column is redundant when what the earlier columns leave of it is less
    than 1e-7 of its length: the rule of R's limited column pivoting. A
    Cholesky factorisation of the scaled cross-products settles the clear
    cases; only doubtful ones are settled by QR.

    Parameters
    ----------
    X : (n, p) float64 array or csr_array
        In doubtful cases the latter is made dense.

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
    X = whole(X, "the matrix of the fixed effects, whose rank is in doubt,")
    largest = np.abs(X).max(axis=0, initial=0.0)
    scaled = X / np.where(largest > 0, largest, 1.0)
    return _limited_pivoting(np.asarray(np.linalg.qr(scaled, mode="r")))


def _clearly_independent(X: Floats | csr_array) -> bool:
    with np.errstate(over="ignore"):
        gram = cross_products(X)
    squares = np.diag(gram)
    if not (squares.min() > 1e-280 and squares.max() < 1e280):
        return False
    if len(squares) == 1:
        return True
    scale = 1.0 / np.sqrt(squares)
    try:
        factor = np.linalg.cholesky(gram * scale[:, None] * scale)
    except np.linalg.LinAlgError:
        return False
    return bool(np.diag(factor).min() ** 2 > DOUBTFUL)


def cross_products(X: Floats | csr_array) -> Floats:
    """Return X'X, (p, p); of rows without their zeros by counting."""
    products = X.T @ X
    return np.asarray(products if isinstance(products, np.ndarray) else products.toarray())


def whole(X: Floats | csr_array, what: str) -> Floats:
    """Return the matrix with its zeros, if this machine can hold it."""
    if isinstance(X, np.ndarray):
        return X
    n, p = X.shape
    check_memory(n, p, what)
    return np.ascontiguousarray(X.toarray())


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
