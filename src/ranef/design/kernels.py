"""Known covariances between levels, matched to a grouping factor by label."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from ranef import arguments
from ranef.design.matrix import check_memory
from ranef.errors import DataError, LevelError, ModelError, UnknownColumnError, suggestion
from ranef.formula.labels import level_text, list_text
from ranef.squares import cholesky, eigen, solve_factored

__all__ = ["FurtherLevels", "further_levels", "kernel_of"]

Floats = NDArray[np.float64]
SYMMETRY = 1e-8
DEFINITENESS = 1e-8


@runtime_checkable
class Related(Protocol):
    """A kernel that knows the covariance of levels by their labels, as a pedigree does."""

    labels: Sequence[str]

    def relationship(self, individuals: Sequence[Any], /) -> Floats: ...


def kernel_of(
    kernels: Mapping[str, Any] | None,
    name: str,
    levels: Sequence[Any],
    factor: str,
    inverse: bool = False,
) -> Floats:
    """Return the rows and columns of a named kernel that belong to given levels.

    Parameters
    ----------
    kernels : mapping
        Each a square table with labels (pandas: index and columns; polars:
        column names, or a first column of labels), a pair ``(matrix, labels)`` of a dense
        or sparse matrix, or a pedigree.
    name : str
    levels : sequence
        Levels of the grouping factor; the kernel may hold more.
    factor : str
        Name of the grouping factor.
    inverse : bool
        Whether what is handed over is the inverse K^-1, of all its levels.

    Returns
    -------
    K : (q, q) float64 array
        Symmetric, positive semidefinite, in the order of `levels`.
    """
    given = _named(kernels, name)
    if isinstance(given, Related):
        if inverse:
            raise ModelError(
                f"{name!r} is no matrix but knows both A and its inverse; write "
                f"kernel(1 | {factor}, {name})"
            )
        _places(given.labels, levels, name, factor)
        return np.ascontiguousarray(given.relationship(levels))
    matrix, labels = _labelled(given, name)
    chosen = _places(labels, levels, name, factor)
    if inverse:
        return _inverted(matrix, chosen, name)
    part = matrix[chosen][:, chosen]
    return _checked(part.toarray() if _is_sparse(part) else part, name)


def check_used(kernels: Mapping[str, Any] | None, formulas: Sequence[str]) -> None:
    """Refuse a kernel that no formula names: a covariance that was meant would be left out."""
    given = arguments.mapping("kernels", kernels, "{'K': table}")
    used = used_kernels(given, " ".join(formulas))
    for name in given:
        if name not in used:
            raise ModelError(
                f"kernels= has {name!r}, which no term of the formula uses: write "
                f"kernel(1 | g, {name}) for levels with that covariance, or leave it out"
            )


def used_kernels(kernels: Mapping[str, Any] | None, formula: str) -> dict[str, Any]:
    """Return the kernels that a formula names.

    Examples
    --------
    >>> sorted(used_kernels({"A": 1, "D": 2}, "y ~ x + kernel(1 | id, A)"))
    ['A']
    """
    words = set(re.findall(r"[\w.]+", formula))
    return {name: given for name, given in (kernels or {}).items() if name in words}


def _named(kernels: Mapping[str, Any] | None, name: str) -> Any:
    kernels = kernels or {}
    if name not in kernels:
        hint = suggestion(name, kernels) or f"; pass it as kernels={{{name!r}: ...}}"
        raise UnknownColumnError(f"no kernel {name!r}{hint}")
    return kernels[name]


@dataclass(frozen=True, eq=False)
class FurtherLevels:
    """Levels of a kernel that the data have not, and how they are related to those that they have.

    Attributes
    ----------
    levels : tuple of m
    observed : (q, q) float64 array
        Of the levels with data.
    cross : (m, q) float64 array
    own : (m,) float64 array
        Their own entries.
    """

    levels: tuple[Any, ...]
    observed: Floats
    cross: Floats
    own: Floats


def further_levels(
    kernels: Mapping[str, Any],
    name: str,
    levels: Sequence[Any],
    factor: str,
    inverse: bool = False,
) -> FurtherLevels:
    """Return the levels of a named kernel that are not among `levels`, see `kernel_of`."""
    given = _named(kernels, name)
    labels = given.labels if isinstance(given, Related) else None
    if labels is None:
        labels = _labelled(given, name)[1]
    known = {level_text(level) for level in levels}
    others = tuple(label for label in labels if level_text(label) not in known)
    q, every = len(levels), len(levels) + len(others)
    check_memory(every, every, f"the kernel {name!r} with the levels that have no data")
    K = kernel_of(kernels, name, (*levels, *others), factor, inverse)
    return FurtherLevels(others, K[:q, :q], K[q:, :q], np.diag(K)[q:].copy())


def _places(labels: Sequence[Any], levels: Sequence[Any], name: str, factor: str) -> list[int]:
    """Where the levels of a factor stand among the labels of a kernel."""
    place = {level_text(label): i for i, label in enumerate(labels)}
    if len(place) < len(labels):
        raise DataError(f"kernel {name!r} has a label twice; leave one of its rows out")
    absent = [level for level in levels if level_text(level) not in place]
    if absent:
        raise LevelError(
            f"kernel {name!r} has no row for {len(absent)} of {len(levels)} levels of {factor!r}: "
            f"{list_text(absent)}"
        )
    return [place[level_text(level)] for level in levels]


def _inverted(precision: Any, chosen: list[int], name: str) -> Floats:
    """Rows and columns of the inverse of a positive definite matrix.

    Levels without data are integrated out: the matrix is inverted with them, and their rows
    are left out then.
    """
    _check_symmetric(precision, name)
    unit = np.zeros((precision.shape[0], len(chosen)))
    unit[chosen, np.arange(len(chosen))] = 1.0
    indefinite = DataError(
        f"kernel {name!r} is given by its inverse, which must be positive definite; it is not"
    )
    if _is_sparse(precision):
        from scipy.sparse.linalg import splu

        try:
            factor = splu(
                precision.tocsc(), permc_spec="MMD_AT_PLUS_A", diag_pivot_thresh=0.0,
                options={"SymmetricMode": True},
            )  # fmt: skip
        except RuntimeError:
            raise indefinite from None
        if not np.all(factor.U.diagonal() > 0):
            raise indefinite
        columns = factor.solve(unit)
    else:
        try:
            columns = solve_factored(cholesky(precision), unit)
        except np.linalg.LinAlgError:
            raise indefinite from None
    K = columns[chosen]
    return _checked(np.ascontiguousarray((K + K.T) / 2), name)


def _is_sparse(matrix: Any) -> bool:
    return hasattr(matrix, "tocsc")


def _labelled(kernel: Any, name: str) -> tuple[Any, list[Any]]:
    if isinstance(kernel, tuple) and len(kernel) == 2:
        return _square(kernel[0], list(kernel[1]), name)
    if hasattr(kernel, "index") and hasattr(kernel, "columns"):
        return _from_pandas(kernel, name)
    if hasattr(kernel, "columns") and hasattr(kernel, "get_column"):
        return _from_polars(kernel, name)
    raise DataError(
        f"kernel {name!r} has no labels; give a table whose row and column names are levels, "
        "or a pair (matrix, labels)"
    )


def _from_pandas(kernel: Any, name: str) -> tuple[Floats, list[Any]]:
    rows = [level_text(label) for label in kernel.index]
    columns = {level_text(label): i for i, label in enumerate(kernel.columns)}
    if set(rows) != set(columns):
        odd = sorted(set(rows) ^ set(columns))
        raise DataError(
            f"kernel {name!r} has different row and column labels, such as {list_text(odd)}"
        )
    values = kernel.to_numpy()[:, [columns[row] for row in rows]]
    return _square(values, list(kernel.index), name)


def _from_polars(kernel: Any, name: str) -> tuple[Floats, list[Any]]:
    columns = list(kernel.columns)
    labels: list[Any] = columns
    if kernel.height == len(columns) - 1:
        labels = kernel.get_column(columns[0]).to_list()
        columns = columns[1:]
        if {level_text(label) for label in labels} != set(columns):
            odd = sorted({level_text(label) for label in labels} ^ set(columns))
            raise DataError(
                f"kernel {name!r} has different row and column labels, such as {list_text(odd)}"
            )
        columns = [level_text(label) for label in labels]
    return _square(kernel.select(columns).to_numpy(), labels, name)


def _square(values: Any, labels: list[Any], name: str) -> tuple[Any, list[Any]]:
    try:
        if _is_sparse(values):
            matrix = values.tocsr().astype(np.float64)
        else:
            matrix = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError):
        raise DataError(
            f"kernel {name!r} holds something that is no number; give a matrix of numbers"
        ) from None
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1]:
        raise DataError(f"kernel {name!r} is not square: its shape is {matrix.shape}")
    if matrix.shape[0] != len(labels):
        raise DataError(f"kernel {name!r} has {matrix.shape[0]} rows and {len(labels)} labels")
    return matrix, labels


def _check_symmetric(matrix: Any, name: str) -> float:
    """Refuse a matrix, dense or sparse, that is not one of numbers and symmetric; its size."""
    if not np.isfinite(matrix.data if _is_sparse(matrix) else matrix).all():
        raise DataError(
            f"kernel {name!r} holds missing or infinite values; relate every pair of levels"
        )
    if not matrix.shape[0]:
        return 0.0
    size, skew = float(abs(matrix).max()), float(abs(matrix - matrix.T).max())
    if skew > SYMMETRY * size:
        raise DataError(f"kernel {name!r} is not symmetric")
    return size


def _checked(matrix: Floats, name: str) -> Floats:
    size = _check_symmetric(matrix, name)
    matrix = np.ascontiguousarray((matrix + matrix.T) / 2)
    lifted = matrix + (DEFINITENESS * size + 1e-300) * np.eye(len(matrix))
    try:
        cholesky(lifted)
    except np.linalg.LinAlgError:
        lowest = float(eigen(matrix)[0][0])
        raise DataError(
            f"kernel {name!r} is not positive semidefinite: its smallest eigenvalue is {lowest:.3g}"
        ) from None
    return matrix
