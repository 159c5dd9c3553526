"""Numbers as a reader wants them: enough digits, one decimal point under the other."""

from __future__ import annotations

import math
from collections.abc import Sequence

__all__ = ["align", "count", "decimals", "exact", "number", "p_value", "significant"]

FIGURE_SPACE = "\u2007"
PUNCTUATION_SPACE = "\u2008"
MINUS = "\u2212"
ABSENT = "\u2013"


def decimals(scale: float, digits: int = 3) -> int:
    """Return how many decimals show `digits` significant digits of `scale`.

    Examples
    --------
    >>> decimals(6.82), decimals(0.0231), decimals(1200.0)
    (2, 4, 0)
    """
    if not math.isfinite(scale) or scale == 0.0:
        return digits - 1
    return max(0, digits - 1 - math.floor(math.log10(abs(scale))))


def number(value: float, places: int) -> str:
    r"""Return `value` with the given decimals; powers of ten where they would not fit.

    Examples
    --------
    >>> number(1.5, 2), number(float("inf"), 2), number(2.5e12, 0)
    ('1.50', '∞', '2.50e12')
    >>> ascii(number(-1234567.0, 0))
    "'\\u22121,234,567'"
    """
    if math.isnan(value):
        return ABSENT
    if math.isinf(value):
        return "∞" if value > 0 else f"{MINUS}∞"
    if places > 7 or abs(value) >= 1e9:
        mantissa, _, power = f"{value:.2e}".partition("e")
        return _sign(f"{mantissa}e{int(power)}")
    return _sign(f"{value:,.{places}f}")


def significant(value: float, digits: int = 4) -> str:
    """Return `value` with so many significant digits.

    Examples
    --------
    >>> significant(25.591816), significant(0.0655)
    ('25.59', '0.06550')
    """
    return number(value, decimals(value, digits))


def exact(value: float) -> str:
    """Return a criterion's value with the digits by which fits are compared.

    Examples
    --------
    >>> exact(1743.628272)
    '1,743.6283'
    """
    return number(value, 4)


def count(value: int, singular: str, plural: str | None = None) -> str:
    """Return a count with its noun.

    Examples
    --------
    >>> count(1, "row"), count(1200, "row"), count(2, "factor of", "factors of")
    ('1 row', '1,200 rows', '2 factors of')
    """
    noun = singular if value == 1 else plural or f"{singular}s"
    return f"{number(value, 0)} {noun}"


def p_value(value: float) -> str:
    """Return a p-value with three decimals.

    Examples
    --------
    >>> p_value(0.0312), p_value(1e-7)
    ('0.031', '<0.001')
    """
    return "<0.001" if value < 0.0005 else number(value, 3)


def align(cells: Sequence[str]) -> list[str]:
    """Pad on the right, so that decimal points of right-aligned cells meet.

    Examples
    --------
    >>> [cell.replace(FIGURE_SPACE, "_").replace(PUNCTUATION_SPACE, "'")
    ...  for cell in align(["10.5", "251.41", "7"])]
    ['10.5_', '251.41', "7'__"]
    """
    tails = [cell.partition(".")[2] for cell in cells]
    longest = max((len(tail) for tail in tails), default=0)
    return [
        cell
        + (PUNCTUATION_SPACE if longest and not tail else "")
        + FIGURE_SPACE * (longest - len(tail))
        for cell, tail in zip(cells, tails, strict=True)
    ]


def _sign(written: str) -> str:
    if written.startswith("-") and not any(c in "123456789" for c in written):
        written = written[1:]
    return written.replace("-", MINUS)
