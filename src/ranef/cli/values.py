"""Values of options as a user writes them, and one sentence for what is written wrongly."""

from __future__ import annotations

import math
import os
import stat
from argparse import ArgumentTypeError

__all__ = [
    "conf_level",
    "equal_names",
    "grouping",
    "held_value",
    "named_formula",
    "named_levels",
    "named_prior",
    "number",
    "number_columns",
    "page_file",
    "positive",
    "positive_number",
    "separator",
    "whole",
]

LARGEST = 2**31 - 1
PAGES = (".html", ".htm")


def named_formula(written: str) -> tuple[str, str]:
    """Read ``df=~ x``."""
    name, equals, formula = written.partition("=")
    if name.strip() and equals and formula.strip().startswith("~"):
        return name.strip(), formula.strip()
    raise ArgumentTypeError(f"{written!r} is not of the form 'df=~ x'")


def named_prior(written: str) -> tuple[str, tuple[str, tuple[float, ...]]]:
    """Read ``sd=Gamma(2, 0.1)``; a number is whole or not as in Python."""
    name, _, prior = written.rpartition("=")
    kind, bracket, rest = prior.strip().partition("(")
    try:
        texts = [text.strip() for text in rest.removesuffix(")").split(",") if text.strip()]
        numbers = tuple(int(text) if text.isdecimal() else float(text) for text in texts)
    except ValueError:
        numbers, bracket = (), ""
    if name.strip() and kind.isidentifier() and bracket and rest.endswith(")"):
        return name.strip(), (kind, numbers)
    raise ArgumentTypeError(f"{written!r} is not of the form 'sd=Gamma(2, 0.1)'")


def named_levels(written: str) -> tuple[str, tuple[str, ...]]:
    """Read ``visit=Week 4,Week 12``."""
    name, equals, values = written.partition("=")
    levels = tuple(value.strip() for value in values.split(","))
    if name.strip() and equals and all(levels) and len(set(levels)) == len(levels):
        return name.strip(), levels
    raise ArgumentTypeError(
        f"{written!r} is not of the form 'visit=Week 4,Week 12', each level once"
    )


def number_columns(written: str) -> tuple[tuple[str, str], ...]:
    """Read ``ai=tpos,bi=tneg``."""
    pairs = [part.partition("=") for part in written.split(",")]
    found = tuple((name.strip(), column.strip()) for name, _, column in pairs)
    if all(name and column for name, column in found):
        return found
    raise ArgumentTypeError(
        f"{written!r} is not of the form 'ai=events,n1i=persons': the name of each number, and its "
        "column"
    )


def held_value(written: str) -> tuple[str, float]:
    """Read ``x=0.5``."""
    name, _, value = written.rpartition("=")
    try:
        held = float(value)
    except ValueError:
        name, held = "", 0.0
    if name.strip():
        return name.strip(), held
    raise ArgumentTypeError(f"{written!r} is not of the form 'x=0.5'")


def equal_names(written: str) -> tuple[str, ...]:
    """Read ``x1 = x2``."""
    names = tuple(name.strip() for name in written.split(" = "))
    if len(names) > 1 and all(names):
        return names
    raise ArgumentTypeError(
        f"{written!r} is not of the form 'x1 = x2', with spaces around the sign"
    )


def conf_level(written: str) -> float:
    """Read a number between 0 and 1."""
    value = _number(written, "a number between 0 and 1")
    if 0.0 < value < 1.0:
        return value
    hint = f"; did you mean {value / 100:g}?" if 1.0 < value < 100.0 else ""
    raise ArgumentTypeError(f"{written} is not between 0 and 1{hint}")


def number(written: str) -> float:
    """Read a finite number."""
    value = _number(written, "a number")
    if math.isfinite(value):
        return value
    raise ArgumentTypeError(f"{written} is not a finite number")


def _number(written: str, what: str) -> float:
    try:
        return float(written)
    except ValueError:
        raise ArgumentTypeError(f"{written!r} is not {what}") from None


def positive(written: str) -> int:
    """Read a whole number from 1 on, of a size that a machine counts in."""
    if written.isascii() and written.isdecimal() and 0 < int(written[:20]) <= LARGEST:
        return int(written)
    if written.isascii() and written.isdecimal() and written.strip("0"):
        raise ArgumentTypeError(f"{written[:40]} is too large a number")
    raise ArgumentTypeError(f"{written!r} is not a positive whole number")


def positive_number(written: str) -> float:
    """Read a number above 0."""
    value = _number(written, "a number above 0")
    if value > 0 and math.isfinite(value):
        return value
    raise ArgumentTypeError(f"{written} is not a number above 0")


def whole(written: str) -> int:
    """Read a whole number from 0 on."""
    if written.isascii() and written.isdecimal() and len(written) < 4000:
        return int(written)
    raise ArgumentTypeError(f"{written[:40]!r} is not a whole number from 0 on")


def separator(written: str) -> str:
    r"""Read one character, a tab as ``\t``."""
    value = {"\\t": "\t", "tab": "\t", "space": " "}.get(written, written)
    if len(value) != 1:
        raise ArgumentTypeError(f"{written!r} is not one character (for a tab write '\\t')")
    if not value.isascii() or value in '\n\r"\0':
        raise ArgumentTypeError(f"{written!r} cannot separate fields; use one such as ',' ';' '|'")
    return value


def grouping(written: str) -> str:
    """Read the mark between groups of three digits."""
    value = {"space": " ", "blank": " ", "\u2019": "'"}.get(written, written)
    if value in (".", ",", "'", " "):
        return value
    raise ArgumentTypeError(f"{written!r} does not group digits; use '.' ',' \"'\" or space")


def page_file(written: str) -> str:
    """Read the name of a page: of HTML, or of what is no file (a pipe, a device)."""
    if os.path.splitext(written)[1].lower() in PAGES or _is_special(written):
        return written
    raise ArgumentTypeError(
        f"{written[:200]!r} is the name of no page: a report is HTML, and its name ends in .html"
    )


def _is_special(path: str) -> bool:
    try:
        return not stat.S_ISREG(os.stat(path).st_mode)
    except (OSError, ValueError):
        return False
