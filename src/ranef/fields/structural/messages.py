"""The data of one group as the message kernel takes them.

Rows are summed by unit and pattern of missing values. Where the values of two levels are
complete, units of one size are replaced by as many as their values have dimensions, with the
same sums of products: then the cost of an evaluation does not depend on the number of units.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ranef import _core

__all__ = ["GroupData", "Layout", "LevelData", "Patterns", "messages"]

Floats = NDArray[np.float64]
Ints = NDArray[np.intp]


@dataclass(frozen=True, eq=False)
class LevelData:
    """The units of one level above the rows.

    Attributes
    ----------
    z : (units, q) array
        Values of its own variables, NaN where missing.
    codes : array
        Unit of each unit of the level below (of each row at level 2).
    """

    z: Floats
    codes: Ints

    @property
    def units(self) -> int:
        return len(self.z)


@dataclass(frozen=True, eq=False)
class GroupData:
    """The values of one group.

    Attributes
    ----------
    y : (n, p) array
        Of the rows, NaN where missing.
    x : (n, k) array
        Covariates that the likelihood is conditional on, complete.
    levels : tuple of LevelData
        From level 2 upwards. The units of each are in the order of those above them.
    center : (p,) array
        Subtracted from y.
    """

    y: Floats
    x: Floats
    levels: tuple[LevelData, ...]
    center: Floats
    z_center: tuple[Floats, ...]

    @property
    def n(self) -> int:
        return len(self.y)

    @property
    def p(self) -> int:
        return int(self.y.shape[1])

    @cached_property
    def complete(self) -> bool:
        """Whether nothing is missing."""
        return not (np.isnan(self.y).any() or any(np.isnan(level.z).any() for level in self.levels))

    @cached_property
    def patterns(self) -> Patterns:
        """Patterns of missing values of the rows."""
        return Patterns.of(~np.isnan(self.y))

    @cached_property
    def sizes(self) -> Ints:
        """Rows of each unit of level 2."""
        return np.bincount(self.levels[0].codes, minlength=self.levels[0].units)


@dataclass(frozen=True, eq=False)
class Patterns:
    """Which rows have which values.

    Attributes
    ----------
    present : (patterns, p) int32 array
    codes : (n,) array
        Pattern of each row.
    """

    present: NDArray[np.int32]
    codes: Ints

    @classmethod
    def of(cls, seen: NDArray[np.bool_]) -> Patterns:
        if seen.all() or seen.shape[1] == 0:
            every = np.ones((1, seen.shape[1]), dtype=np.int32)
            return cls(every, np.zeros(len(seen), dtype=np.intp))
        packed = np.packbits(seen, axis=1)
        keys = np.ascontiguousarray(packed).view([("", packed.dtype)] * packed.shape[1]).ravel()
        _, first, codes = np.unique(keys, return_index=True, return_inverse=True)
        return cls(seen[first].astype(np.int32), codes.ravel())


@dataclass(frozen=True, eq=False)
class Layout:
    """Which coordinates each level has.

    Attributes
    ----------
    column, response : int32 arrays
        Of each coordinate of level 2, see ``messages.hpp``.
    slopes : int
        Rows of loadings.
    up : tuple of int32 arrays
        Coordinate of the level above that each coordinate adds to, or -1.
    """

    column: NDArray[np.int32]
    response: NDArray[np.int32]
    slopes: int
    up: tuple[NDArray[np.int32], ...]


def messages(
    data: GroupData, layout: Layout, *, each: bool = False, units: Ints | None = None,
    threads: int = 1,
) -> Any:  # fmt: skip
    """Make the kernel's problem.

    Parameters
    ----------
    data : GroupData
    layout : Layout
    each : bool
        Keep every unit with the products of its rows, for scores and posteriors.
    units : (n,) int array, optional
        Of a model of one level: which unit each row belongs to in `each`; every row is its own
        by default.
    threads : int
    """
    pattern, present = data.patterns.codes, data.patterns.present
    levels = data.levels
    if not levels:
        own = np.arange(data.n) if units is None else units
        levels = (LevelData(np.zeros((int(own.max()) + 1, 0)), own),) if each else ()
    if levels:
        pieces, piece_unit, xx, xy, yy = _pieces(data, levels[0].codes, each)
        first = np.searchsorted(piece_unit, np.arange(levels[0].units + 1))
    else:
        pieces = np.zeros(0, dtype=np.intp)
        first = np.zeros(1, dtype=np.intp)
        xx, xy, yy = (np.zeros((0, a, b)) for a, b in _shapes(data))
    totals = _totals(data, pattern, len(present))
    share = unit = None
    described = [_level(level, k, levels, first, layout) for k, level in enumerate(levels)]
    fits = len(levels) == 1 and data.x.shape[1] == 0 and len(present) == 1
    if fits and not each and data.complete and 0 < levels[0].units == len(pieces):
        pieces, xx, xy, described, share, unit = _condensed(levels[0], xx, xy, layout)
    return _core.Messages(
        present, *totals, _int32(pieces), xx, xy, yy if each else None, layout.column,
        layout.response, layout.slopes, described, share, unit, threads,
    )  # fmt: skip


def _int32(values: Any) -> NDArray[np.int32]:
    return np.ascontiguousarray(values, dtype=np.int32)


def _shapes(data: GroupData) -> tuple[tuple[int, int], ...]:
    k, p = 1 + data.x.shape[1], data.p
    return (k, k), (k, p), (p, p)


def _rows(data: GroupData) -> tuple[Floats, Floats]:
    """Rows of x with a column of ones, and of y with zeros where missing."""
    x = np.column_stack([np.ones(data.n), data.x])
    return x, np.nan_to_num(data.y, nan=0.0)


def _products(
    data: GroupData, order: Ints, starts: Ints, squares: bool
) -> tuple[Floats, Floats, Floats]:
    """Sums of products of rows in runs of an order."""
    x, y = _rows(data)
    x, y = x[order], y[order]
    n, p = len(starts), data.p
    if len(order) == 0:
        return tuple(np.zeros((n, a, b)) for a, b in _shapes(data))  # type: ignore[return-value]

    def summed(a: Floats, b: Floats) -> Floats:
        width = a.shape[1] * b.shape[1]
        flat = (a[:, :, None] * b[:, None, :]).reshape(len(a), width)
        return np.add.reduceat(flat, starts, axis=0).reshape(n, a.shape[1], b.shape[1])

    yy = summed(y, y) if squares and p else np.zeros((n if squares else 0, p, p))
    return summed(x, x), summed(x, y) if p else np.zeros((n, x.shape[1], 0)), yy


def _pieces(
    data: GroupData, unit: Ints, squares: bool
) -> tuple[Ints, Ints, Floats, Floats, Floats]:
    """Rows summed by unit and pattern: patterns, units, and products."""
    count = len(data.patterns.present)
    key = unit * count + data.patterns.codes
    order = np.argsort(key, kind="stable")
    sorted_key = key[order]
    starts = np.flatnonzero(np.diff(sorted_key, prepend=-1))
    xx, xy, yy = _products(data, order, starts, squares)
    keys = sorted_key[starts]
    return keys % count, keys // count, xx, xy, yy


def _totals(data: GroupData, pattern: Ints, count: int) -> tuple[Floats, Floats, Floats]:
    x, y = _rows(data)
    k, p = x.shape[1], data.p
    out = np.zeros((count, k, k)), np.zeros((count, k, p)), np.zeros((count, p, p))
    order = np.argsort(pattern, kind="stable")
    bounds = np.searchsorted(pattern[order], np.arange(count + 1))
    for o in range(count):
        own = slice(None) if count == 1 else order[bounds[o] : bounds[o + 1]]
        xs, ys = x[own], y[own]
        out[0][o], out[1][o], out[2][o] = xs.T @ xs, xs.T @ ys, ys.T @ ys
    return out


def _level(
    level: LevelData, k: int, levels: Sequence[LevelData], first: Ints, layout: Layout
) -> dict[str, Any]:
    if k > 0:
        first = np.searchsorted(level.codes, np.arange(level.units + 1))
    seen = ~np.isnan(level.z)
    patterns = Patterns.of(seen)
    return {
        "z": np.ascontiguousarray(np.nan_to_num(level.z, nan=0.0)),
        "present": patterns.present,
        "pattern": _int32(patterns.codes),
        "first": _int32(first),
        "up": layout.up[k] if layout.up else np.zeros(0, dtype=np.int32),
    }


def _condensed(
    level: LevelData, xx: Floats, xy: Floats, layout: Layout
) -> tuple[Ints, Floats, Floats, list[dict[str, Any]], Floats, Floats]:
    """Units of one size as few that have the same sums of products."""
    sizes = xx[:, 0, 0]
    values = np.column_stack([np.ones(len(sizes)), xy[:, 0], level.z])
    width = values.shape[1]
    rows, share, size = [], [], []
    for s in np.unique(sizes):
        own = values[sizes == s]
        if len(own) > width:
            rows.append(np.linalg.qr(own, mode="r"))
        else:
            rows.append(own)
        share.append(np.full(len(rows[-1]), len(own) / len(rows[-1])))
        size.append(np.full(len(rows[-1]), s))
    every = np.concatenate(rows)
    n, p = len(every), xy.shape[2]
    described = {
        "z": np.ascontiguousarray(every[:, 1 + p :]),
        "present": np.ones((1, level.z.shape[1]), dtype=np.int32),
        "pattern": np.zeros(n, dtype=np.int32),
        "first": np.arange(n + 1, dtype=np.int32),
        "up": layout.up[0],
    }
    return (
        np.zeros(n, dtype=np.intp), np.concatenate(size).reshape(n, 1, 1),
        np.ascontiguousarray(every[:, 1 : 1 + p]).reshape(n, 1, p), [described],
        np.concatenate(share), np.ascontiguousarray(every[:, 0]),
    )  # fmt: skip
