"""Factorisations of square matrices, which an interrupt stops within a second.

NumPy and SciPy do not come back before they are done. What would take them long goes to the core,
which works by panels and looks for a signal between them; of matrices that are small NumPy's
answer is taken.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ranef import _core
from ranef.errors import ModelError

__all__ = [
    "cholesky",
    "eigen",
    "inverse",
    "inverse_of_triangle",
    "product",
    "solve",
    "solve_factored",
    "use_lapack",
]

Floats = NDArray[np.float64]

AT_ONCE = 2e9
"""Operations of one call that does not look for a signal: a fraction of a second. The core's own
bound."""


def use_lapack() -> None:
    """Hand SciPy's BLAS and LAPACK to the core, once.

    Raises
    ------
    ModelError
        When SciPy's routines do not have the signatures that the core calls.
    """
    if _core.has_lapack():
        return
    from scipy.linalg import cython_blas, cython_lapack

    try:
        _core.set_lapack(cython_blas.__pyx_capi__, cython_lapack.__pyx_capi__)
    except ValueError as error:
        raise ModelError(
            f"this SciPy cannot be used for large models: {error}; install SciPy from PyPI"
        ) from error


def cholesky(A: Any) -> Floats:
    """Return the lower triangle L with L L' = A, or that of each of several.

    Raises
    ------
    numpy.linalg.LinAlgError
        When A is not positive definite.

    Examples
    --------
    >>> cholesky(np.array([[4.0, 2.0], [2.0, 2.0]])).tolist()
    [[2.0, 0.0], [1.0, 1.0]]
    """
    if not _is_long(A, 1 / 3):
        return np.asarray(np.linalg.cholesky(A))
    if A.ndim > 2:
        return np.stack([cholesky(one) for one in A])
    found = _core.cholesky(_given(A))
    if found is None:
        raise np.linalg.LinAlgError("the matrix is not positive definite")
    return np.asarray(found.T)


def inverse(A: Any) -> Floats:
    """Return the inverse of a symmetric matrix, or of each of several.

    Raises
    ------
    numpy.linalg.LinAlgError
        When A is singular.

    Examples
    --------
    >>> inverse(np.array([[4.0, 2.0], [2.0, 2.0]])).round(12).tolist()
    [[0.5, -0.5], [-0.5, 1.0]]
    """
    if not _is_long(A, 1.0):
        return np.asarray(np.linalg.inv(A))
    if A.ndim > 2:
        return np.stack([inverse(one) for one in A])
    found = _core.inverse(_given(A))
    return np.asarray(np.linalg.inv(A) if found is None else found)


def eigen(A: Floats, count: int | None = None) -> tuple[Floats, Floats]:
    """Return eigenvalues, ascending, and eigenvectors by column of a symmetric matrix.

    Parameters
    ----------
    count : int or None
        Of the largest only.

    Examples
    --------
    >>> eigen(np.array([[3.0, 0.0], [0.0, 1.0]]), 1)[0].tolist()
    [3.0]
    """
    n = len(A)
    if not _is_long(A, 4.0):
        values, vectors = np.linalg.eigh(A)
        first = 0 if count is None else n - count
        return values[first:], vectors[:, first:]
    values, rows = _core.spectrum(_given(A), n if count is None else count)
    return values, rows.T


def inverse_of_triangle(L: Floats) -> Floats:
    """Return the inverse of a lower triangle, or of each of several, by panels of columns.

    Examples
    --------
    >>> inverse_of_triangle(np.array([[2.0, 0.0], [1.0, 1.0]])).tolist()
    [[0.5, 0.0], [-0.5, 1.0]]
    """
    if not _is_long(L, 1 / 3):
        return np.asarray(np.linalg.inv(L))
    if L.ndim > 2:
        return np.stack([inverse_of_triangle(one) for one in L])
    from scipy.linalg import solve_triangular

    n = len(L)
    out = np.zeros((n, n), order="F")
    first = 0
    while first < n:
        rest = n - first
        width = _columns(rest, 1.0)
        unit = np.eye(rest, min(width, rest))
        out[first:, first : first + width] = solve_triangular(
            L[first:, first:], unit, lower=True, overwrite_b=True, check_finite=False
        )
        first += width
    return out


def solve_factored(L: Floats, B: Floats) -> Floats:
    """Return A^-1 B, (n, k), from the lower triangle of A, some columns at a time.

    Examples
    --------
    >>> solve_factored(np.array([[2.0, 0.0], [1.0, 1.0]]), np.array([[6.0], [4.0]])).tolist()
    [[1.0], [1.0]]
    """
    from scipy.linalg import cho_solve

    out = np.empty(B.shape)
    width = _columns(len(L), 2.0)
    for first in range(0, B.shape[1], width):
        own = slice(first, first + width)
        out[:, own] = cho_solve((L, True), B[:, own], check_finite=False)
    return out


def solve(A: Floats, B: Floats) -> Floats:
    """Return A^-1 B of a positive definite matrix, or of each of several.

    Examples
    --------
    >>> solve(np.array([[4.0, 2.0], [2.0, 2.0]]), np.array([[6.0], [4.0]])).tolist()
    [[1.0], [1.0]]
    """
    if not _is_long(A, 2 / 3):
        return np.asarray(np.linalg.solve(A, B))
    if A.ndim > 2:
        return np.stack([solve(one, b) for one, b in zip(A, B, strict=True)])
    return solve_factored(cholesky(A), B)


def product(A: Floats, B: Floats) -> Floats:
    """Return A B, some rows at a time.

    Examples
    --------
    >>> product(np.array([[1.0, 2.0]]), np.array([[3.0], [4.0]])).tolist()
    [[11.0]]
    """
    height = max(int(AT_ONCE / (2.0 * max(B.size, 1))), 16)
    if height >= len(A):
        return np.asarray(A @ B)
    out = np.empty((len(A), B.shape[1]))
    for first in range(0, len(A), height):
        np.matmul(A[first : first + height], B, out=out[first : first + height])
    return out


def _is_long(A: Any, each: float) -> bool:
    """Whether `each` n^3 operations, those of one matrix, are too many for one call."""
    n = float(A.shape[-1])
    return each * n**3 > AT_ONCE and np.isfinite(A).all()


def _columns(n: int, each: float) -> int:
    """Columns of which one call may take `each` n^2 operations apiece."""
    return max(int(AT_ONCE / (each * max(n, 1) ** 2)), 16)


def _given(A: Any) -> Floats:
    use_lapack()
    return np.ascontiguousarray(A, dtype=np.float64)
