"""Grouping factors: columns, and interactions of columns, as dense codes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ranef.design.values import Categories, match_levels
from ranef.formula.labels import level_text

__all__ = ["Crossed", "GroupRecipe", "cross"]

Ints = NDArray[np.int32]


@dataclass(frozen=True, eq=False)
class Crossed:
    """The combinations of several categories that occur.

    Attributes
    ----------
    codes : (N,) int32 array
        Index into `cells`, -1 where any part is missing.
    cells : (q, k) int32 array
        Code of each of the k parts, in lexicographic order.
    levels : tuple of sequences
        Levels of each part.
    """

    codes: Ints
    cells: Ints
    levels: tuple[Sequence[Any], ...]

    def labels(self, joint: str = ":", backwards: bool = False) -> list[str]:
        """Return the levels in print, joined; `backwards` writes the last part first."""
        printed = [[level_text(level) for level in levels] for levels in self.levels]
        columns = [
            [texts[code] for code in self.cells[:, part].tolist()]
            for part, texts in enumerate(printed)
        ]
        return [joint.join(cell) for cell in zip(*columns[:: -1 if backwards else 1], strict=True)]


def cross(parts: Sequence[Categories]) -> Crossed:
    """Combine categories by integer arithmetic on their codes.

    Examples
    --------
    >>> a = Categories(np.array([0, 1, 1], dtype=np.int32), ["x", "y"])
    >>> b = Categories(np.array([1, 0, 0], dtype=np.int32), ["u", "v"])
    >>> found = cross([a, b])
    >>> found.codes, found.labels()
    (array([0, 1, 1], dtype=int32), ['x:v', 'y:u'])
    """
    known = parts[0].codes >= 0
    for part in parts[1:]:
        known = known & (part.codes >= 0)
    whole = bool(known.all())
    codes: NDArray[Any] = parts[0].codes if whole else parts[0].codes[known]
    cells = np.arange(len(parts[0].levels), dtype=np.int32)[:, None]
    for part in parts[1:]:
        size = max(1, len(part.levels))
        index = codes.astype(np.int64) * size + (part.codes if whole else part.codes[known])
        codes, present = _dense(index, len(cells) * size)
        cells = np.column_stack([cells[present // size], present % size])
    out = np.full(len(known), -1, dtype=np.int32)
    out[known] = codes
    return Crossed(out, cells.astype(np.int32), tuple(part.levels for part in parts))


def _dense(index: NDArray[np.int64], size: int) -> tuple[Ints, NDArray[np.int64]]:
    """Renumber integers below `size` without gaps; return also the old numbers."""
    if size > 8 * len(index) + 100_000:
        values, inverse = np.unique(index, return_inverse=True)
        return inverse.astype(np.int32), values
    present = np.zeros(size, dtype=bool)
    present[index] = True
    lookup = np.cumsum(present, dtype=np.int32) - np.int32(1)
    return lookup[index], np.flatnonzero(present)


@dataclass(frozen=True, eq=False)
class GroupRecipe:
    """How to find a row's level of a grouping factor in another table.

    Attributes
    ----------
    keys : tuple of str
        The parts in print.
    levels : tuple of tuples
        Levels of each part.
    cells : (q, k) int32 array
        The combinations that are levels, by codes of the parts.
    """

    keys: tuple[str, ...]
    levels: tuple[tuple[Any, ...], ...]
    cells: Ints

    def codes(self, parts: Sequence[Categories]) -> Ints:
        """Return the level of each row of a table, -1 where the fit has not seen it."""
        matched = [
            Categories(match_levels(part, levels)[0], levels)
            for part, levels in zip(parts, self.levels, strict=True)
        ]
        if len(matched) == 1:
            return matched[0].codes
        crossed = cross(matched)
        place = {tuple(cell): i for i, cell in enumerate(self.cells.tolist())}
        found = [place.get(tuple(cell), -1) for cell in crossed.cells.tolist()]
        return np.array([*found, -1], dtype=np.int32)[crossed.codes]

    def unseen(self, parts: Sequence[Categories]) -> tuple[Ints, list[tuple[str, ...]]]:
        """Return the levels of a table that the fit has not seen.

        Returns
        -------
        codes : (N,) int32 array
            Index into `labels`; -1 where the level is known or missing.
        labels : list of tuples
            The parts of each such level in print.
        """
        unknown = self.codes(parts) < 0
        for part in parts:
            unknown &= part.codes >= 0
        crossed = cross([Categories(np.where(unknown, p.codes, -1), p.levels) for p in parts])
        labels = [
            tuple(level_text(p.levels[code]) for p, code in zip(parts, cell, strict=True))
            for cell in crossed.cells.tolist()
        ]
        if len(parts) > 1:
            return crossed.codes, labels
        present = np.unique(crossed.codes[unknown])
        places = np.full(len(labels) + 1, -1, dtype=np.int32)
        places[present] = np.arange(len(present))
        return places[crossed.codes], [labels[k] for k in present.tolist()]
