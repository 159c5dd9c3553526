"""Columns whose names a formula cannot spell, recognised where they stand without backticks."""

from __future__ import annotations

import re
from collections.abc import Collection

__all__ = ["with_backticks"]

_SPELLED = re.compile(r"[^\W\d][\w.]*|\.[^\W\d][\w.]*")
_APART = re.compile(r"`(?:[^`\\]|\\.)*`|'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\"")


def with_backticks(text: str, columns: Collection[str], functions: Collection[str]) -> str:
    """Put backticks around each column that is named as it stands in the table.

    ``Reaktionszeit (ms)`` is a column where one has that name; ``log (x)`` stays a function of a
    column, and ``a-b`` the one column without the other, where all of these are known.

    Examples
    --------
    >>> with_backticks("Reaktionszeit (ms) ~ day", ["Reaktionszeit (ms)", "day"], ["log"])
    '`Reaktionszeit (ms)` ~ day'
    >>> with_backticks("log (x) ~ a-b", ["log (x)", "x", "a", "b", "a-b"], ["log"])
    'log (x) ~ a-b'
    """
    candidates = [name for name in columns if name in text and _is_odd(name)]
    if not candidates:
        return text
    known = {*columns, *functions}
    odd = [name for name in candidates if not _readable(name, known)]
    if not odd:
        return text
    pattern = "|".join(re.escape(name) for name in sorted(odd, key=len, reverse=True))
    own = re.compile(rf"{_APART.pattern}|(?<![\w.])(?P<column>{pattern})(?![\w.])")
    return own.sub(_quoted, text)


def _is_odd(name: str) -> bool:
    """Whether a name holds more than one word or a sign, and backticks can hold it."""
    return "`" not in name and "\\" not in name and not _SPELLED.fullmatch(name)


def _readable(name: str, known: Collection[str]) -> bool:
    """Whether a formula reads the name as something else: every word in it is known."""
    words = _SPELLED.findall(name)
    return all(word in known for word in words)


def _quoted(found: re.Match[str]) -> str:
    column = found["column"]
    return found[0] if column is None else f"`{column}`"
