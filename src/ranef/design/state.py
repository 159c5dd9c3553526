"""What a fit remembers of its columns, so that prediction repeats them.

Each kind is a small frozen dataclass of plain values, which `to_json` and
`from_json` carry exactly: knots, means, levels, contrasts.
"""

from __future__ import annotations

import datetime
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from ranef.errors import FileError

__all__ = [
    "Coding",
    "GroupMeans",
    "Polynomial",
    "Scaled",
    "Spline",
    "State",
    "level_from_json",
    "level_to_json",
    "state_from_json",
    "state_to_json",
]


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


State = Scaled | Polynomial | Spline | GroupMeans | Coding
KINDS: dict[str, type[Any]] = {
    kind.__name__: kind for kind in (Scaled, Polynomial, Spline, GroupMeans, Coding)
}


def state_to_json(state: State) -> dict[str, Any]:
    """Return the state as plain JSON values."""
    out: dict[str, Any] = {"kind": type(state).__name__}
    for field in fields(state):
        value = getattr(state, field.name)
        if field.name == "levels":
            out[field.name] = [level_to_json(level) for level in value]
        elif field.name == "rows":
            out[field.name] = [list(row) for row in value]
        else:
            out[field.name] = list(value) if isinstance(value, tuple) else value
    return out


def state_from_json(data: Any) -> State:
    """Read a state back; anything unexpected is an error."""
    if not isinstance(data, Mapping) or data.get("kind") not in KINDS:
        raise FileError("the saved model holds a state of unknown kind; the file is damaged")
    kind = KINDS[data["kind"]]
    values = {field.name: READERS[field.name](data.get(field.name)) for field in fields(kind)}
    state: State = kind(**values)
    _check(state)
    return state


def _check(state: State) -> None:
    """Check that the parts of a state fit together."""
    right = True
    if isinstance(state, Polynomial):
        right = len(state.norm2) == len(state.alpha) + 1 and min(state.norm2) > 0
    elif isinstance(state, Spline):
        low, high = state.boundary if len(state.boundary) == 2 else (0.0, 0.0)
        inside = all(low < knot < high for knot in state.knots)
        right = low < high and inside and 1 <= state.degree <= 20
    elif isinstance(state, GroupMeans):
        right = len(state.levels) == len(state.means)
    elif isinstance(state, Coding):
        right = _coding_fits(state)
    if not right:
        raise FileError(f"the saved model's {type(state).__name__} does not hold together")


def _coding_fits(state: Coding) -> bool:
    n_levels = len(state.levels)
    if state.base >= 0:
        return state.base < n_levels == len(state.suffixes) + 1 and not state.rows
    widths = {len(row) for row in state.rows}
    return state.base == -1 and len(state.rows) == n_levels and widths <= {len(state.suffixes)}


def level_to_json(level: Any) -> Any:
    """Return a level as a JSON value; times become ``{"time": kind, "value": text}``."""
    if isinstance(level, np.generic):
        level = (
            level.astype("M8[us]" if level.dtype.kind == "M" else "m8[us]").item()
            if (level.dtype.kind in "Mm")
            else level.item()
        )
    if type(level).__name__ == "Timestamp":
        level = level.to_pydatetime()
    if isinstance(level, (str, int)) or (isinstance(level, float) and math.isfinite(level)):
        return level
    if isinstance(level, datetime.datetime):
        return {"time": "datetime", "value": level.isoformat()}
    if isinstance(level, datetime.date):
        return {"time": "date", "value": level.isoformat()}
    if isinstance(level, datetime.timedelta):
        return {"time": "duration", "value": repr(level / datetime.timedelta(microseconds=1))}
    raise FileError(
        f"levels of type {type(level).__name__} cannot be saved ({level!r}); make them text"
    )


def level_from_json(data: Any) -> Any:
    """Read a level back."""
    if isinstance(data, (str, int)) or (isinstance(data, float) and math.isfinite(data)):
        return data
    if isinstance(data, Mapping) and isinstance(data.get("value"), str):
        readers: dict[Any, Callable[[str], Any]] = {
            "datetime": datetime.datetime.fromisoformat,
            "date": datetime.date.fromisoformat,
            "duration": lambda text: datetime.timedelta(microseconds=float(text)),
        }
        try:
            return readers[data.get("time")](data["value"])
        except (KeyError, TypeError, ValueError, OverflowError):
            pass
    raise FileError("the saved model holds a level that cannot be read; the file is damaged")


def _float(data: Any) -> float:
    if isinstance(data, bool) or not isinstance(data, (int, float)):
        raise _damaged("a number", data)
    try:
        value = float(data)
    except OverflowError:
        raise _damaged("a finite number", "a huge integer") from None
    if not math.isfinite(value):
        raise _damaged("a finite number", data)
    return value


def _int(data: Any) -> int:
    if isinstance(data, bool) or not isinstance(data, int) or abs(data) > 2**31:
        raise _damaged("a whole number", data)
    return data


def _bool(data: Any) -> bool:
    if not isinstance(data, bool):
        raise _damaged("true or false", data)
    return data


def _text(data: Any) -> str:
    if not isinstance(data, str):
        raise _damaged("a text", data)
    return data


def _tuple(read: Callable[[Any], Any]) -> Callable[[Any], tuple[Any, ...]]:
    def reader(data: Any) -> tuple[Any, ...]:
        if not isinstance(data, list):
            raise _damaged("a list", data)
        return tuple(read(item) for item in data)

    return reader


def _damaged(wanted: str, got: Any) -> FileError:
    return FileError(
        f"the saved model is damaged: {wanted} should stand where {str(got)[:40]!r} is"
    )


READERS: dict[str, Callable[[Any], Any]] = {
    "center": _float,
    "scale": _float,
    "alpha": _tuple(_float),
    "norm2": _tuple(_float),
    "knots": _tuple(_float),
    "boundary": _tuple(_float),
    "degree": _int,
    "intercept": _bool,
    "levels": _tuple(level_from_json),
    "means": _tuple(_float),
    "base": _int,
    "rows": _tuple(_tuple(_float)),
    "suffixes": _tuple(_text),
}
