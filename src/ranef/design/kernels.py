"""Known covariances between levels, matched to a grouping factor by label."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ranef.errors import DataError, LevelError, UnknownColumnError, suggestion
from ranef.formula.labels import level_text, list_text

__all__ = ["kernel_of"]

Floats = NDArray[np.float64]
SYMMETRY = 1e-8
DEFINITENESS = 1e-8


def kernel_of(
    kernels: Mapping[str, Any] | None, name: str, levels: Sequence[Any], factor: str
) -> Floats:
    """Return the rows and columns of a named kernel that belong to given levels.

    Parameters
    ----------
    kernels : mapping
        Each a square table with labels (pandas: index and columns; polars:
        column names, or a first column of labels), or a pair
        ``(matrix, labels)``.
    name : str
    levels : sequence
        Levels of the grouping factor; the kernel may hold more.
    factor : str
        Name of the grouping factor.

    Returns
    -------
    K : (q, q) float64 array
        Symmetric, positive semidefinite, in the order of `levels`.
    """
    kernels = kernels or {}
    if name not in kernels:
        hint = suggestion(name, kernels) or f"; hand it over with kernels={{{name!r}: ...}}"
        raise UnknownColumnError(f"no kernel {name!r}{hint}")
    matrix, labels = _labelled(kernels[name], name)
    place = {level_text(label): i for i, label in enumerate(labels)}
    if len(place) < len(labels):
        raise DataError(f"kernel {name!r} has a label twice")
    absent = [level for level in levels if level_text(level) not in place]
    if absent:
        raise LevelError(
            f"kernel {name!r} has no row for {len(absent)} of {len(levels)} levels of {factor!r}: "
            f"{list_text(absent)}"
        )
    chosen = [place[level_text(level)] for level in levels]
    return _checked(matrix[np.ix_(chosen, chosen)], name)


def _labelled(kernel: Any, name: str) -> tuple[Floats, list[Any]]:
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
            raise DataError(f"kernel {name!r} has different row and column labels")
        columns = [level_text(label) for label in labels]
    return _square(kernel.select(columns).to_numpy(), labels, name)


def _square(values: Any, labels: list[Any], name: str) -> tuple[Floats, list[Any]]:
    try:
        matrix = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError):
        raise DataError(f"kernel {name!r} holds something that is no number") from None
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1]:
        raise DataError(f"kernel {name!r} is not square: its shape is {matrix.shape}")
    if matrix.shape[0] != len(labels):
        raise DataError(f"kernel {name!r} has {matrix.shape[0]} rows and {len(labels)} labels")
    return matrix, labels


def _checked(matrix: Floats, name: str) -> Floats:
    if not np.isfinite(matrix).all():
        raise DataError(f"kernel {name!r} holds missing or infinite values")
    size = float(np.abs(matrix).max(initial=0.0))
    if float(np.abs(matrix - matrix.T).max(initial=0.0)) > SYMMETRY * size:
        raise DataError(f"kernel {name!r} is not symmetric")
    matrix = np.ascontiguousarray((matrix + matrix.T) / 2)
    lifted = matrix + (DEFINITENESS * size + 1e-300) * np.eye(len(matrix))
    try:
        np.linalg.cholesky(lifted)
    except np.linalg.LinAlgError:
        lowest = float(np.linalg.eigvalsh(matrix)[0])
        raise DataError(
            f"kernel {name!r} is not positive semidefinite: its smallest eigenvalue is {lowest:.3g}"
        ) from None
    return matrix
