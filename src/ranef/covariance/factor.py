"""Factors of covariance matrices that may be singular."""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray

from ranef.errors import ModelError
from ranef.squares import cholesky

__all__ = ["column_sizes", "lower_entries", "lower_factor", "square_root", "standard_deviations"]

Floats = NDArray[np.float64]
Indices = NDArray[np.intp]

SAFE_PIVOT = 1e-8
"""A pivot of a correlation matrix above this is not made of rounding."""
UNLIKE = 1e5
"""Standard deviations this many times each other are brought to one size first."""
DEPENDENT = 1e3
"""A row whose rest is below this many rounding units depends on the rows above."""


@cache
def lower_entries(size: int, rank: int | None = None) -> tuple[Indices, Indices]:
    """Rows and columns of a lower triangle or trapezoid, column by column.

    Parameters
    ----------
    size : int
        Number of rows r.
    rank : int, optional
        Number of columns, r if not given.

    Returns
    -------
    rows, columns : int arrays
        The order of theta in Lambda.

    Examples
    --------
    >>> rows, columns = lower_entries(3)
    >>> list(zip(rows.tolist(), columns.tolist()))
    [(0, 0), (1, 0), (2, 0), (1, 1), (2, 1), (2, 2)]
    """
    columns, rows = np.triu_indices(size if rank is None else rank, m=size)
    for entries in (rows, columns):
        entries.flags.writeable = False
    return rows, columns


def standard_deviations(psi: Floats) -> tuple[Floats, Floats]:
    """Return standard deviations and correlations of a covariance matrix.

    Parameters
    ----------
    psi : (r, r) float64 array

    Returns
    -------
    sd : (r,) float64 array
    corr : (r, r) float64 array
        Within -1 and 1, the diagonal one; NaN where a variance is zero.

    Examples
    --------
    >>> sd, corr = standard_deviations(np.array([[4.0, 3.0], [3.0, 9.0]]))
    >>> sd.tolist(), corr.tolist()
    ([2.0, 3.0], [[1.0, 0.5], [0.5, 1.0]])
    """
    psi = np.asarray(psi, dtype=np.float64)
    sd = np.sqrt(np.maximum(np.diag(psi), 0.0))
    with np.errstate(divide="ignore", invalid="ignore"):
        corr = np.clip(psi / np.outer(sd, sd), -1.0, 1.0)
    corr[np.outer(sd, sd) == 0.0] = np.nan
    np.fill_diagonal(corr, np.where(sd > 0.0, 1.0, np.nan))
    return sd, corr


def lower_factor(psi: Floats) -> Floats:
    """Lower triangular Lambda with Lambda Lambda' = Psi, Psi of any rank.

    The diagonal is not negative. A column of zeros stands where a direction
    is null given the rows above it: Lambda has as many other columns as Psi
    has rank (up to rounding).

    Parameters
    ----------
    psi : (r, r) float64 array
        Symmetric, positive semidefinite.

    Returns
    -------
    (r, r) float64 array
        ``lower_factor(psi)[lower_entries(r)]`` is theta of an unstructured term.

    Notes
    -----
    Plain Cholesky of the correlation matrix where no pivot is lost in
    rounding; otherwise Cholesky with complete pivoting (Higham 2002, *Accuracy
    and Stability of Numerical Algorithms*, section 10.3), brought back to
    lower triangular form by reflections of the rows.

    Examples
    --------
    >>> lower_factor(np.array([[4.0, 2.0], [2.0, 1.0]]))
    array([[2., 0.],
           [1., 0.]])
    """
    psi = np.asarray(psi, dtype=np.float64)
    size = len(psi)
    sd = np.sqrt(np.maximum(np.diag(psi), 0.0))
    alive = sd > 0.0
    corr = psi[np.ix_(alive, alive)] / np.outer(sd[alive], sd[alive])
    lam = np.zeros((size, size))
    lam[np.ix_(alive, alive)] = sd[alive, None] * _factor_of_correlations(corr)
    unit = np.where(alive, sd, sd.max(initial=0.0) or 1.0)
    error = np.abs(lam @ lam.T - psi) / np.outer(unit, unit)
    if not float(error.max(initial=0.0)) <= 1e-7:
        raise ModelError(
            f"a covariance matrix of order {size} is not positive semidefinite: its smallest "
            f"eigenvalue is {np.linalg.eigvalsh((psi + psi.T) / 2)[0]:.3g}"
        )
    return lam


def _factor_of_correlations(corr: Floats) -> Floats:
    rounding = 8.0 * len(corr) * np.finfo(np.float64).eps
    try:
        lam = cholesky(corr)
    except np.linalg.LinAlgError:
        pass
    else:
        if np.all(np.diag(lam) ** 2 > SAFE_PIVOT):
            return np.asarray(lam)
    return _triangle(_pivoted(corr, rounding), DEPENDENT * rounding)


def _pivoted(corr: Floats, rounding: float) -> Floats:
    """B (r, d) with B B' = R, by Cholesky with complete pivoting."""
    size = len(corr)
    rest = np.ones(size)
    factor = np.zeros((size, size))
    chosen = np.zeros(size, dtype=bool)
    for k in range(size):
        p = int(np.argmax(np.where(chosen, -np.inf, rest)))
        if rest[p] <= rounding:
            return factor[:, :k]
        column = corr[:, p] - factor[:, :k] @ factor[p, :k]
        column[chosen] = 0.0
        column /= np.sqrt(rest[p])
        column[p] = np.sqrt(rest[p])
        factor[:, k] = column
        rest -= column**2
        chosen[p] = True
    return factor


def _triangle(factor: Floats, negligible: float) -> Floats:
    """B times an orthogonal matrix, as a lower triangle with zero columns."""
    size, rank = factor.shape
    rows = factor.copy()
    lam = np.zeros((size, size))
    c = 0
    for i in range(size):
        v = rows[i, c:].copy()
        norm = float(np.linalg.norm(v))
        if c == rank or norm <= negligible:
            continue
        v[0] += np.copysign(norm, v[0])
        rows[i:, c:] -= np.outer(rows[i:, c:] @ v, v) * (2.0 / (v @ v))
        lam[i:, i] = np.copysign(1.0, rows[i, c]) * rows[i:, c]
        c += 1
    return lam


def square_root(matrix: Floats) -> Floats:
    """R with R R' = matrix, for positive semidefinite matrices (..., r, r)."""
    size = column_sizes(matrix)
    values, vectors = np.linalg.eigh(matrix / (size[..., :, None] * size[..., None, :]))
    root: Floats = vectors * np.sqrt(np.maximum(values, 0.0))[..., None, :]
    return np.asarray(size[..., :, None] * root)


def column_sizes(matrix: Floats) -> Floats:
    """Powers of two (..., r) near the standard deviations of a covariance matrix (..., r, r).

    Ones where these are of like size, since an eigendecomposition then loses nothing.
    """
    variances = np.maximum(np.diagonal(matrix, axis1=-2, axis2=-1), 0.0)
    sd = np.sqrt(variances)
    some = sd > 0
    low = np.min(np.where(some, sd, np.inf), axis=-1, keepdims=True)
    high = np.max(sd, axis=-1, keepdims=True)
    unlike = some & (high > UNLIKE * low)
    return np.asarray(2.0 ** np.round(np.log2(np.where(unlike, sd, 1.0))))
