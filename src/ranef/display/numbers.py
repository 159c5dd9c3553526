"""Numbers in print: one rule for decimals and p-values, whatever the medium.

`number`, `significant` and `p_value` write plain text; `typeset` gives what they wrote the
signs of a page (a minus, thousands apart, an infinity, a dash for nothing).
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

__all__ = [
    "align",
    "apa_p_value",
    "count",
    "decimals",
    "exact",
    "number",
    "p_value",
    "rounded",
    "signed",
    "significant",
    "typeset",
]

FIGURE_SPACE = "\u2007"
PUNCTUATION_SPACE = "\u2008"
MINUS = "\u2212"
ABSENT = "\u2013"


def decimals(scale: float, digits: int = 3) -> int | None:
    """Return how many decimals show `digits` significant digits of a scale.

    None where a number is to be written with a power of ten.

    Examples
    --------
    >>> decimals(6.82), decimals(0.0231), decimals(1200.0), decimals(1e-12)
    (2, 4, 0, None)
    """
    if not math.isfinite(scale) or scale <= 0:
        return digits
    places = digits - 1 - math.floor(math.log10(scale))
    return min(max(places, 0), 12) if -9 <= places <= 9 else None


def number(value: float, places: int | None = 3) -> str:
    """Return a number with fixed decimals, or with a power of ten when `places` is None.

    Examples
    --------
    >>> number(1.5, 2), number(float("inf"), 2), number(2.5e12, 0), number(float("nan"))
    ('1.50', 'inf', '2.5e+12', '')
    """
    if math.isnan(value):
        return ""
    if math.isinf(value):
        return "inf" if value > 0 else "-inf"
    if places is None or (value != 0 and abs(value) >= 1e10):
        return f"{value:.4g}"
    text = f"{value:.{places}f}"
    return text[1:] if text.startswith("-") and not text.strip("-0.") else text


def significant(value: float, digits: int = 4) -> str:
    """Return a number with so many significant digits.

    Examples
    --------
    >>> significant(25.591816), significant(0.0655)
    ('25.59', '0.06550')
    """
    return number(value, decimals(abs(value), digits))


def rounded(value: float, places: int) -> str:
    """Return a number with so many decimals, or digits where these would leave zeros alone.

    Examples
    --------
    >>> rounded(25.5918, 2), rounded(-0.00042, 2), rounded(0.0, 2)
    ('25.59', '-0.00042', '0.00')
    """
    text = number(value, places)
    lost = value != 0 and math.isfinite(value) and not text.strip("-0.")
    return significant(value, max(places, 1)) if lost else text


def exact(value: float) -> str:
    """Return a criterion's value with the digits by which fits are compared.

    Examples
    --------
    >>> exact(1743.628272)
    '1743.6283'
    """
    return number(value, 4)


def p_value(value: float) -> str:
    """Return a p-value with four decimals, never rounded to zero.

    Examples
    --------
    >>> p_value(0.0312), p_value(1e-7)
    ('0.0312', '< 0.0001')
    """
    if math.isnan(value):
        return ""
    return "< 0.0001" if value < 1e-4 else f"{value:.4f}"


def apa_p_value(value: float) -> str:
    """Return a p-value as the manual of the APA writes it: three decimals, no leading zero.

    Examples
    --------
    >>> apa_p_value(0.0312), apa_p_value(0.0004), apa_p_value(1.0)
    ('.031', '< .001', '1.000')
    """
    if math.isnan(value):
        return ""
    return "< .001" if value < 1e-3 else f"{value:.3f}".removeprefix("0")


def count(value: int, singular: str, plural: str | None = None) -> str:
    """Return a count with its noun.

    Examples
    --------
    >>> count(1, "row"), count(1200, "row"), count(2, "factor of", "factors of")
    ('1 row', '1,200 rows', '2 factors of')
    """
    noun = singular if value == 1 else plural or f"{singular}s"
    return f"{value:,} {noun}"


def signed(written: str) -> str:
    r"""Return the numbers of a cell with the minus sign of a page; words as they are.

    Examples
    --------
    >>> ascii(signed("-1.45 to -0.2")), signed("3e-05"), signed("2020-11-30"), signed("a-1")
    ("'\\u22121.45 to \\u22120.2'", '3e-05', '2020-11-30', 'a-1')
    >>> ascii(signed("inf"))
    "'\\u221e'"
    """
    minus = re.sub(r"(?<![\w.)\]])-(?=\.?\d|inf\b)", MINUS, written)
    return re.sub(rf"^({MINUS}?)inf$", "\\1\u221e", minus)


def typeset(written: str) -> str:
    r"""Return a written number with the signs of a page.

    Examples
    --------
    >>> typeset("inf"), ascii(typeset("-1234567.5")), ascii(typeset(""))
    ('∞', "'\\u22121,234,567.5'", "'\\u2013'")
    >>> typeset("< 0.0001"), typeset("2.5e+12")
    ('< 0.0001', '2.5e12')
    """
    if written == "":
        return ABSENT
    body = written.removeprefix("-")
    if body == "inf":
        body = "∞"
    elif "e" in body:
        mantissa, _, power = body.partition("e")
        body = f"{mantissa}e{int(power)}".replace("-", MINUS)
    else:
        whole, point, fraction = body.partition(".")
        body = (f"{int(whole):,}" if whole.isdigit() else whole) + point + fraction
    return f"{MINUS}{body}" if written.startswith("-") else body


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
