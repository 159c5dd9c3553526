"""What the parts of a formula evaluate to: numbers or categories, row by row."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ranef.formula.labels import level_text
from ranef.tables.kinds import plain_time

__all__ = ["Categories", "Constant", "Numbers", "Value", "drop_unused", "match_levels"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int32]


@dataclass(frozen=True, eq=False)
class Numbers:
    """A number, or several, for each row.

    Attributes
    ----------
    values : (N,) or (N, k) float64 array
        NaN where missing.
    suffixes : tuple of str
        What names of coefficients end in, one for each of the k columns.
    logical : bool
        True when the numbers stand for TRUE (1) and FALSE (0).
    """

    values: Floats
    suffixes: tuple[str, ...] = ("",)
    logical: bool = False


@dataclass(frozen=True, eq=False)
class Categories:
    """A category for each row.

    Attributes
    ----------
    codes : (N,) int32 array
        Index into `levels`, -1 where missing.
    levels : sequence
        In the user's order and type.
    complete : bool
        True when every level is known to occur.
    contrast : object or None
        A `ranef.design.contrasts.Contrast` asked for by ``C()``.
    """

    codes: Ints
    levels: Sequence[Any]
    complete: bool = False
    contrast: Any = None


Constant = float | str | bool | tuple[Any, ...] | None
Value = Numbers | Categories | Constant


def drop_unused(value: Categories) -> Categories:
    """Return the same categories without levels that do not occur."""
    if value.complete:
        return value
    present = np.zeros(len(value.levels) + 1, dtype=bool)
    present[value.codes] = True
    present = present[:-1]
    if present.all():
        return Categories(value.codes, value.levels, True, value.contrast)
    lookup = np.append(np.cumsum(present, dtype=np.int32) - np.int32(1), np.int32(-1))
    levels = [level for level, here in zip(value.levels, present.tolist(), strict=True) if here]
    return Categories(lookup[value.codes], levels, True, value.contrast)


def match_levels(value: Categories, levels: Sequence[Any]) -> tuple[Ints, NDArray[np.bool_]]:
    """Recode by other levels.

    Levels agree by value; where one side holds texts and the other does not
    (``"308"`` and 308), they agree in print, as they do in R.

    Returns
    -------
    codes : (N,) int32 array
        Index into `levels`, -1 where missing or not among them.
    unseen : (N,) bool array
        True where there is a level that is not among `levels`.
    """
    place = {_hashable(level): i for i, level in enumerate(levels)}
    if _is_text(levels) != _is_text(value.levels):
        place = {level_text(level): i for i, level in enumerate(levels)}
        found = [place.get(level_text(level), -1) for level in value.levels]
    else:
        found = [place.get(_hashable(level), -1) for level in value.levels]
    codes = np.array([*found, -1], dtype=np.int32)[value.codes]
    return codes, (codes < 0) & (value.codes >= 0)


def _is_text(levels: Sequence[Any]) -> bool:
    return len(levels) > 0 and isinstance(levels[0], str)


def _hashable(level: Any) -> Any:
    """Return a level such that 1, 1.0 and numpy's 1 agree, and True does not."""
    if isinstance(level, (bool, np.bool_)):
        return ("logical", bool(level))
    if isinstance(level, (str, int, float)):
        return level
    level = plain_time(level)
    return level.item() if isinstance(level, np.generic) else level
