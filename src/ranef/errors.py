"""What ranef says when something is wrong: typed errors and warnings.

Every message names what was wrong, where, and what to do.
"""

from __future__ import annotations

import difflib
import re
import sys
import unicodedata
import warnings
from collections.abc import Callable, Iterable
from contextvars import ContextVar
from typing import Any

__all__ = [
    "ArgumentError",
    "ConvergenceWarning",
    "DataError",
    "DataWarning",
    "FileError",
    "FormulaError",
    "FormulaWarning",
    "Interrupted",
    "LevelError",
    "ModelError",
    "RanefError",
    "RanefWarning",
    "RankWarning",
    "UnknownColumnError",
    "cut",
    "name_rows",
    "row_text",
    "shortened",
    "suggestion",
    "warn",
]

LONGEST = 1200
_ROWS: ContextVar[Callable[[int], str] | None] = ContextVar("rows", default=None)


class RanefError(Exception):
    """Base of every error that ranef raises on purpose.

    A message names what was given; of a formula or a name without end the middle is left out.
    """

    def __str__(self) -> str:
        return _after_questions(cut(super().__str__()))


def _after_questions(text: str) -> str:
    """Begin what follows a question as a sentence of its own."""
    capital = re.sub(r"\?; ([a-z])(?=[a-z]* )", lambda found: f"? {found[1].upper()}", text)
    return capital.replace("?; ", "? ")


class ArgumentError(RanefError, TypeError):
    """A function was called with an argument that it does not have."""


class FormulaError(RanefError, ValueError):
    """The formula cannot be read, or asks for something it may not."""


class UnknownColumnError(FormulaError, KeyError):
    """A name in the formula is neither a column nor a known function."""

    def __str__(self) -> str:
        return _after_questions(cut(str(self.args[0]))) if self.args else ""


class DataError(RanefError, ValueError):
    """The table holds something that the model cannot use."""


class LevelError(DataError):
    """A category or level that the fit has not seen."""


class ModelError(RanefError, ValueError):
    """The model asked for cannot be fitted, or the question does not apply."""


class FileError(RanefError, OSError):
    """A file cannot be read or written."""


class Interrupted(KeyboardInterrupt):
    """Ctrl-C in the midst of long work: what was done until then is not lost.

    A KeyboardInterrupt, so that a script ends as it would, and no partial answer is
    taken for a whole one.

    Attributes
    ----------
    partial : object
        The answer from what was done: of `ranef.bootstrap` a `Bootstrap` with fewer draws.
    """

    def __init__(self, message: str, partial: Any) -> None:
        super().__init__(message)
        self.partial = partial


class RanefWarning(UserWarning):
    """Base of every warning that ranef gives."""


class ConvergenceWarning(RanefWarning):
    """The search ended without a proof that it stands at the optimum."""


class RankWarning(RanefWarning):
    """Columns of the fixed effects depend on each other; some were left out."""


class DataWarning(RanefWarning):
    """The data were used, but something about them deserves a look."""


class FormulaWarning(RanefWarning):
    """The formula was read by its rules, and may mean something else than was meant."""


def row_text(row: int) -> str:
    """Say which row of the table is meant, as whoever made the table counts.

    Examples
    --------
    >>> row_text(3)
    'row 3'
    """
    place = _ROWS.get()
    return f"row {row}" if place is None else place(int(row))


def name_rows(place: Callable[[int], str] | None) -> None:
    """Let errors name rows by where they stand in a file, in this context from here on."""
    _ROWS.set(place)


def shortened(value: object, room: int = 60) -> str:
    """Write a value as Python does, its middle left out where it is long.

    Examples
    --------
    >>> shortened("a" * 100, 20)
    "'aaaaaaa...aaaaaaaa'"
    """
    text = repr(value)
    half = (room - 3) // 2
    return text if len(text) <= room else f"{text[:half]}...{text[-half - 1 :]}"


def cut(text: str) -> str:
    """Return a text, its middle left out where it is longer than anybody reads."""
    if len(text) <= LONGEST:
        return text
    return f"{text[: LONGEST // 2]} ... {text[-LONGEST // 4 :]}"


def suggestion(name: str, known: Iterable[str]) -> str:
    """Return ``"; did you mean 'x'?"`` for the closest known name, or ``""``.

    Examples
    --------
    >>> suggestion("Dayz", ["Days", "Subject"])
    "; did you mean 'Days'?"
    >>> suggestion("qqq", ["Days"])
    ''
    """
    names = sorted({str(k) for k in known})
    alike = [n for n in names if n != name and _seen(n) == _seen(name)]
    if alike:
        return f"; did you mean {alike[0]!a}, which looks the same?"
    lowered = {n.lower(): n for n in names}
    if name.lower() in lowered:
        return f"; did you mean {lowered[name.lower()]!r}?"
    plain = {_letters(n): n for n in names}
    if len(_letters(name)) > 1 and _letters(name) in plain:
        return f"; did you mean {plain[_letters(name)]!r}?"
    begun = [n for n in names if len(name) > 2 and n.lower().startswith(name.lower())]
    if len(begun) == 1:
        return f"; did you mean {begun[0]!r}?"
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.6)
    return f"; did you mean {close[0]!r}?" if close else ""


def _letters(name: str) -> str:
    """Return a name's letters and digits alone, in lower case."""
    return "".join(ch for ch in name.lower() if ch.isalnum())


def _seen(name: str) -> str:
    """Return a name as the eye sees it."""
    return " ".join(unicodedata.normalize("NFKC", name).split())


def warn(message: str, category: type[RanefWarning]) -> None:
    """Warn at the line of whoever called ranef, however deep inside it is noticed."""
    inside = __name__.partition(".")[0]
    level, frame = 2, sys._getframe(1)
    while frame.f_back is not None and frame.f_globals.get("__name__", "").split(".")[0] == inside:
        level, frame = level + 1, frame.f_back
    warnings.warn(message, category, stacklevel=level)
