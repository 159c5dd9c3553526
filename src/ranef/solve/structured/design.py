"""The rows of a structured model by group and cluster, as its cross-products need them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ranef.design.connected import connected_rows
from ranef.design.specification import Specification
from ranef.design.terms import ResidualTerm
from ranef.errors import ModelError
from ranef.solve.resources import available_memory
from ranef.solve.structured.rows import RowCovariance

__all__ = ["Batch", "Chunk", "chunks_of", "clusters_of"]

Floats = NDArray[np.float64]
Ints = NDArray[np.intp]

CELLS = 6_000_000
"""Numbers of one array of a chunk at most, unless a single cluster needs more."""
SHARED = 4
"""Groups a pattern from which on patterns are worked on one by one."""
WIDEST_MOMENTS = 300
"""Rows of a group times columns up to which a pattern keeps its cross-products."""


@dataclass(frozen=True, eq=False)
class Batch:
    """Groups of residuals with one number of rows.

    Attributes
    ----------
    rows : (g, n) int array
    by : int
        Level of the factor that has parameters of its own.
    clusters : (g,) int array
        Of the chunk.
    shared : bool
        Whether all have the same R, that of the first.
    moments : (n, n, w, w) float64 array or None
        Sums of u_a u_b' over groups, where these share R and one cluster.
    in_order : bool
        Whether rows stand in order of time, of a first-order process, to be taken step by step.
    """

    rows: Ints
    by: int
    clusters: Ints
    shared: bool
    moments: Floats | None = None
    in_order: bool = False


@dataclass(frozen=True, eq=False)
class Chunk:
    """Clusters that are worked on together: no row of one is correlated with another's.

    Attributes
    ----------
    rows : (m,) int array
    U : (m, w) float64 array
        [Z, X, y], the columns of Z by term and local level; those not needed are zero.
    clusters : int
    levels : tuple of (c, q) int arrays
        Level of each term that stands at each local place of each cluster, -1 for none.
    batches : tuple of Batch
        Rows counted within the chunk.
    threads : int
        That may work on it.
    """

    rows: Ints
    U: Floats
    clusters: int
    levels: tuple[Ints, ...]
    batches: tuple[Batch, ...]
    threads: int = 1


def clusters_of(spec: Specification, residual: ResidualTerm) -> Ints:
    """Cluster of each row: rows that a chain of levels and groups connects, (n,)."""
    n = spec.n
    codes = [spec.factors[term.factor].codes for term in spec.terms]
    if any(term.kernel is not None for term in spec.terms):
        return np.zeros(n, dtype=np.intp)
    if residual.group is not None:
        codes.append(residual.group.codes)
    if not codes:
        return np.arange(n)
    return connected_rows(codes)


def chunks_of(
    spec: Specification, covariance: RowCovariance, X: Floats, y: Floats, n_parameters: int
) -> tuple[Chunk, ...]:
    """Cut a model into chunks.

    Parameters
    ----------
    X, y : (n, p), (n,) arrays
        As they enter the cross-products, weights included.
    n_parameters : int
        Covariance parameters of the residuals, each with a derivative.
    """
    n, p = X.shape
    residual = covariance.term
    if not spec.terms:
        whole = np.arange(n)
        U = np.column_stack([X, y])
        return (_chunk(spec, covariance, whole, np.zeros(n, dtype=np.intp), 1, U, (), p),)
    cluster = clusters_of(spec, residual)
    locals_ = [_local(spec.factors[t.factor].codes, cluster) for t in spec.terms]
    widths = np.stack([counts for _, counts in locals_])
    columns = widths.T @ np.array([t.size for t in spec.terms])
    order = np.lexsort((np.arange(len(columns)), columns))
    out = []
    rows_of = np.argsort(cluster, kind="stable")
    starts = np.concatenate([[0], np.cumsum(np.bincount(cluster))])
    first = 0
    while first < len(order):
        last = first + 1
        while last < len(order) and _fits(
            columns[order[first]], columns[order[last]], p, last + 1 - first, n_parameters
        ):
            last += 1
        chosen = order[first:last]
        rows = np.concatenate([rows_of[starts[c] : starts[c + 1]] for c in chosen])
        number = np.empty(len(starts) - 1, dtype=np.intp)
        number[chosen] = np.arange(len(chosen))
        out.append(
            _mixed_chunk(spec, covariance, rows, number[cluster[rows]], chosen, locals_, X, y)
        )
        first = last
    return tuple(out)


def _fits(narrow: int, wide: int, p: int, clusters: int, k: int) -> bool:
    """Whether clusters of so many random effects are alike, and not too many for an array
    (k, k, clusters, width, width).
    """
    width = int(wide) + p + 1
    return wide <= 1.5 * narrow + 8 and clusters * width * width * (1 + k) * (2 + k) / 2 <= CELLS


def _local(codes: NDArray[np.int32], cluster: Ints) -> tuple[Ints, Ints]:
    """Number of each row's level within its cluster, and how many each cluster has."""
    owner = np.zeros(int(codes.max()) + 1, dtype=np.intp)
    owner[codes] = cluster
    order = np.argsort(owner, kind="stable")
    counts = np.bincount(owner, minlength=int(cluster.max()) + 1)
    first = np.concatenate([[0], np.cumsum(counts)])[:-1]
    place = np.empty(len(owner), dtype=np.intp)
    place[order] = np.arange(len(owner)) - first[owner[order]]
    return place[codes], counts


def _mixed_chunk(
    spec: Specification,
    covariance: RowCovariance,
    rows: Ints,
    number: Ints,
    chosen: Ints,
    locals_: Sequence[tuple[Ints, Ints]],
    X: Floats,
    y: Floats,
) -> Chunk:
    """Lay out the rows of some clusters."""
    counts = [int(count[chosen].max()) for _, count in locals_]
    q = sum(count * term.size for count, term in zip(counts, spec.terms, strict=True))
    p = X.shape[1]
    _check_memory(len(rows), q + p + 1)
    U = np.zeros((len(rows), q + p + 1))
    U[:, q : q + p], U[:, -1] = X[rows], y[rows]
    root = np.ones(len(rows)) if spec.weights is None else np.sqrt(spec.weights[rows])
    levels, first = [], 0
    everyone = np.arange(len(rows))
    for term, (place, _), count in zip(spec.terms, locals_, counts, strict=True):
        own = place[rows]
        for a in range(term.size):
            U[everyone, first + own * term.size + a] = root * term.z[rows, a]
        at = np.full((len(chosen), count), -1, dtype=np.intp)
        at[number, own] = spec.factors[term.factor].codes[rows]
        levels.append(at)
        first += count * term.size
    return _chunk(spec, covariance, rows, number, len(chosen), U, tuple(levels), p)


def _check_memory(rows: int, width: int) -> None:
    needed = 8 * (3 * rows * width + 6 * width * width)
    free = available_memory() if needed > 100_000_000 else None
    if free is not None and needed > free:
        raise ModelError(
            f"the residual structure connects {rows:,} rows with {width:,} random and fixed "
            f"effects, which need about {needed / 1e9:.1f} GB, and {free / 1e9:.1f} GB are free; "
            "nest the groups of the residuals in the grouping factors, or leave a factor out"
        )


def _chunk(
    spec: Specification,
    covariance: RowCovariance,
    rows: Ints,
    number: Ints,
    clusters: int,
    U: Floats,
    levels: tuple[Ints, ...],
    p: int,
) -> Chunk:
    """Sort the rows of a chunk into batches."""
    m, residual = len(rows), covariance.term
    if residual.group is None:
        codes = np.arange(m)
    else:
        codes = np.unique(residual.group.codes[rows], return_inverse=True)[1].reshape(-1)
    by = np.zeros(m, dtype=np.intp) if residual.by is None else residual.by.codes[rows]
    order = np.argsort(codes, kind="stable")
    sizes = np.bincount(codes)
    starts = np.concatenate([[0], np.cumsum(sizes)])
    batches: list[Batch] = []
    together = not spec.terms
    for size in np.unique(sizes):
        groups = np.flatnonzero(sizes == size)
        inside = order[starts[groups][:, None] + np.arange(size)]
        if covariance.is_first_order and size > 1:
            inside = _by_time(inside, residual, rows)
            few_kinds = together and size * U.shape[1] <= WIDEST_MOMENTS
            if not few_kinds:
                for level in np.unique(by[inside[:, 0]]):
                    own = inside[by[inside[:, 0]] == level]
                    batches.append(Batch(own, int(level), number[own[:, 0]], False, None, True))
                continue
        keys = _patterns(residual, rows[inside], by[inside[:, 0]])
        kinds, which = np.unique(keys, axis=0, return_inverse=True)
        which = which.reshape(-1)
        few = len(kinds) * SHARED <= len(groups) or (size == 1 and len(kinds) < 50)
        if few:
            for kind in range(len(kinds)):
                own = inside[which == kind]
                batches.append(_batch(own, int(by[own[0, 0]]), number, U, True, together))
            continue
        for level in np.unique(by[inside[:, 0]]):
            own = inside[by[inside[:, 0]] == level]
            step = max(1, CELLS // int(size) ** 2)
            for first in range(0, len(own), step):
                part = own[first : first + step]
                batches.append(_batch(part, int(level), number, U, len(part) == 1, together))
    return Chunk(rows, U, clusters, levels, tuple(batches))


def _by_time(inside: Ints, residual: ResidualTerm, rows: Ints) -> Ints:
    """Rows of groups (g, n) in order of time."""
    time = np.asarray(residual.parts[0].where[rows], dtype=np.float64).reshape(len(rows))
    return np.take_along_axis(inside, np.argsort(time[inside], axis=1, kind="stable"), axis=1)


def _patterns(residual: ResidualTerm, rows: Ints, by: Ints) -> Floats:
    """What R of each group (g, n) depends on, one row a group."""
    g = len(rows)
    columns = [by[:, None].astype(np.float64)]
    for part in residual.parts:
        where = np.asarray(part.where[rows], dtype=np.float64)
        if not part.names and where.ndim == 3 and where.shape[2] == 1:
            where = where - where.min(axis=1, keepdims=True)
        columns.append(where.reshape(g, -1))
    if residual.scales:
        columns.append(residual.W[rows].reshape(g, -1))
    return np.hstack(columns)


def _batch(rows: Ints, by: int, number: Ints, U: Floats, shared: bool, together: bool) -> Batch:
    clusters = number[rows[:, 0]]
    moments = None
    width = rows.shape[1] * U.shape[1]
    if together and shared and width <= WIDEST_MOMENTS and len(rows) > 1:
        flat = U[rows].reshape(len(rows), -1)
        n, w = rows.shape[1], U.shape[1]
        moments = np.ascontiguousarray((flat.T @ flat).reshape(n, w, n, w).transpose(0, 2, 1, 3))
    return Batch(rows, by, clusters, shared, moments)
