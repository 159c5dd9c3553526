"""What a fit remembers of its columns, so that prediction repeats them.

Each kind is a small frozen dataclass of plain values, as a file holds them too: knots,
means, levels, contrasts.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Any

from ranef.errors import FileError

__all__ = [
    "Coding", "CrossedMeans", "GroupMeans", "Polynomial", "Scaled", "Spline", "State",
    "check_state",
]  # fmt: skip


@dataclass(frozen=True)
class Scaled:
    """Centre and scale of ``scale(x)``."""

    center: float
    scale: float


@dataclass(frozen=True)
class Polynomial:
    """Recurrence of orthogonal polynomials.

    ``p[k+1] = (x - alpha[k]) p[k] - norm2[k] / norm2[k-1] p[k-1]``, each
    divided by the root of its ``norm2`` in the end.
    """

    alpha: tuple[float, ...]
    norm2: tuple[float, ...]


@dataclass(frozen=True)
class Spline:
    """Knots of a B-spline (``bs``) or natural cubic spline (``ns``)."""

    knots: tuple[float, ...]
    boundary: tuple[float, ...]
    degree: int
    intercept: bool


@dataclass(frozen=True)
class GroupMeans:
    """Means by group, for ``within`` and ``between``."""

    levels: tuple[Any, ...]
    means: tuple[float, ...]


@dataclass(frozen=True)
class CrossedMeans:
    """Effects of the levels of crossed factors around a centre, for ``within(x, a + b)``."""

    center: float
    levels: tuple[tuple[Any, ...], ...]
    effects: tuple[tuple[float, ...], ...]


@dataclass(frozen=True)
class Coding:
    """Levels of a categorical variable and their contrasts.

    Attributes
    ----------
    levels : tuple
    base : int
        Index of the reference level of treatment contrasts; -1 when `rows`
        holds the contrasts.
    rows : tuple of tuple of float
        Contrast matrix, a row for each level; empty for treatment contrasts.
    suffixes : tuple of str
        Ends of the coefficients' names, one for each column.
    """

    levels: tuple[Any, ...]
    base: int
    rows: tuple[tuple[float, ...], ...]
    suffixes: tuple[str, ...]


State = Scaled | Polynomial | Spline | GroupMeans | CrossedMeans | Coding


def check_state(state: State) -> None:
    """Refuse a state, read from a file, whose parts do not fit together."""
    right = _is_known(tuple(getattr(state, part.name) for part in fields(state)))
    if isinstance(state, Polynomial):
        right &= len(state.norm2) == len(state.alpha) + 1 and min(state.norm2) > 0
    elif isinstance(state, Spline):
        low, high = state.boundary if len(state.boundary) == 2 else (0.0, 0.0)
        inside = all(low < knot < high for knot in state.knots)
        right &= low < high and inside and 1 <= state.degree <= 20
    elif isinstance(state, GroupMeans):
        right &= len(state.levels) == len(state.means)
    elif isinstance(state, CrossedMeans):
        right &= [*map(len, state.levels)] == [*map(len, state.effects)]
    elif isinstance(state, Coding):
        right &= _coding_fits(state)
    if not right:
        raise FileError(f"the saved model's {type(state).__name__} does not hold together")


def _is_known(value: Any) -> bool:
    """Tell whether no part of a value is missing or infinite."""
    if isinstance(value, tuple):
        return all(map(_is_known, value))
    return value is not None and (not isinstance(value, float) or math.isfinite(value))


def _coding_fits(state: Coding) -> bool:
    n_levels = len(state.levels)
    if state.base >= 0:
        return state.base < n_levels == len(state.suffixes) + 1 and not state.rows
    widths = {len(row) for row in state.rows}
    return state.base == -1 and len(state.rows) == n_levels and widths <= {len(state.suffixes)}
