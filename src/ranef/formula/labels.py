"""How numbers and levels are written in names of coefficients: R's way."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

__all__ = [
    "count_text",
    "level_text",
    "list_text",
    "number_text",
    "shown_level",
    "spelled",
]


def number_text(value: float) -> str:
    """Write a number as R does: 15 digits, the shorter of fixed and scientific.

    Examples
    --------
    >>> [number_text(v) for v in (2.0, 0.1, 1e5, 123456.0, 1e-4)]
    ['2', '0.1', '1e+05', '123456', '1e-04']
    """
    if value != value or value in (float("inf"), float("-inf")):
        return str(value)
    target = float(f"{value:.14e}")
    digits = next(d for d in range(15) if float(f"{value:.{d}e}") == target)
    scientific = f"{value:.{digits}e}"
    exponent = int(scientific.partition("e")[2])
    fixed = f"{value:.{max(0, digits - exponent)}f}" if abs(exponent) < 40 else scientific
    return fixed if len(fixed) <= len(scientific) else scientific


def level_text(level: Any) -> str:
    """Write a level as R does.

    Examples
    --------
    >>> [level_text(v) for v in ("a", 3, 2.0, True)]
    ['a', '3', '2', 'TRUE']
    """
    if isinstance(level, str):
        return level
    kind = type(level).__name__
    if kind in ("bool", "bool_"):
        return "TRUE" if level else "FALSE"
    if isinstance(level, float):
        return number_text(level)
    return str(level)


def shown_level(level: Any) -> str:
    """Write a level as its owner does, in tables and pictures: ``True``, not R's ``TRUE``.

    Examples
    --------
    >>> [shown_level(v) for v in ("a", 2.0, True)]
    ['a', '2', 'True']
    """
    return str(bool(level)) if type(level).__name__ in ("bool", "bool_") else level_text(level)


def spelled(name: str, known: Iterable[str]) -> str:
    """Return a known name, also where it was written without the backticks of a formula.

    Examples
    --------
    >>> spelled("blood pressure", ["(Intercept)", "`blood pressure`"])
    '`blood pressure`'
    """
    names = list(known)
    if name in names:
        return name
    bare = [k for k in names if k.replace("`", "") == name]
    return bare[0] if len(bare) == 1 else name


def list_text(items: list[Any], limit: int = 5) -> str:
    """Write the first few of a list: ``'a', 'b' and 3 more``."""
    shown = ", ".join(repr(_plain(item)) for item in items[:limit])
    more = len(items) - limit
    return f"{shown} and {more} more" if more > 0 else shown


def count_text(count: int, what: str) -> str:
    """Write a count with its noun: ``1 row``, ``3 rows``."""
    return f"{count} {what}" if count == 1 else f"{count} {what}s"


def _plain(item: Any) -> Any:
    return item.item() if hasattr(item, "item") else item
