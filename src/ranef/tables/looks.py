"""What a text looks like to a reader: a number in some form, a date, or a word."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from typing import Any

__all__ = [
    "counted_visits",
    "look_alikes",
    "look_of",
    "natural_order",
    "plain_form",
    "reads_as_number",
    "two_numbers",
    "unit_of",
]

DECIMAL_COMMA = re.compile(r"[+-]?(\d+,\d+([eE][+-]?\d+)?|\d{1,3}([. ]\d{3})+(,\d+)?)")
GROUPED = re.compile(r"[+-]?\d{1,3}([,'\u2019\u00a0\u2009\u202f ]\d{3})+(\.\d+)?")
OTHER_GROUPS = re.compile(r"[+-]?\d{1,2}(,\d{2})+,\d{3}(\.\d+)?")
BEHIND = re.compile(r"\d[\d.,]*\s?[-\u2212]|\(\s?\d[\d.,]*\s?\)")
PERCENT = re.compile(r"[+-]?\d+([.,]\d+)?\s?[%\u2030]")
CURRENCY = (
    "((A|C|HK|NZ|R|S|US)?[$]|[\u20ac\u00a3\u00a5\u20b9\u20a9\u20bd\u20aa\u20ba\u0e3f\u20ab\u20a6\u20b1\u20b4]"
    "|CHF|EUR|GBP|JPY|USD|INR|CNY|AUD|CAD|SEK|NOK|DKK|PLN|CZK|HUF|BRL|ZAR|Rs[.]?|Fr[.]|kr[.]?"
    "|z\u0142|K\u010d|Ft)"
)
AMOUNT = r"[+-]?\d[\d.,' \u2019\u00a0\u202f]*(,-|,\u2013|\.-)?"
DASHED = re.compile(r"[\u2212\u2013\ufe63\uff0d](\d+([.,]\d+)?|[.,]\d+)([eE][+-]?\d+)?")
MONEY = re.compile(rf"[+-]?{CURRENCY}\s?{AMOUNT}|{AMOUNT}\s?{CURRENCY}")
TIME = r"([T ]\d{1,2}:\d{2}(:\d{2}([.,]\d+)?)?\s?(Z|[+-]\d{2}:?\d{2})?)?"
MONTH = (
    r"(jan|feb|f\u00e9v|fev|mar|m\u00e4r|m\u00e6r|mrt|apr|avr|abr|may|mai|mag|maj|jun|juin|giu|jul|juil|lug|aug"
    r"|ao\u00fb|ago|sep|set|oct|okt|ott|out|nov|dec|dez|d\u00e9c|dic|des|ene|gen)[^\W\d_]*\.?"
)
DAY = r"([^\W\d_]{2,9}\.?,? )?"
DATE = re.compile(
    rf"(\d{{4}}-\d{{1,2}}-\d{{1,2}}|\d{{4}}/\d{{1,2}}/\d{{1,2}}|\d{{1,2}}/\d{{1,2}}/(\d{{4}}|\d{{2}})"
    rf"|\d{{1,2}}\.\d{{1,2}}\.\d{{4}}|\d{{2}}\.\d{{2}}\.\d{{2}}|\d{{1,2}}-\d{{1,2}}-\d{{4}}"
    rf"|{DAY}\d{{1,2}}[- .]{{1,2}}(de )?{MONTH}[- .,]{{1,2}}(de )?(\d{{4}}|\d{{2}})"
    rf"|{DAY}{MONTH} \d{{1,2}},? \d{{4}}"
    rf"|\d{{4}}[\u5e74\ub144] ?\d{{1,2}}[\u6708\uc6d4] ?\d{{1,2}}[\u65e5\uc77c]){TIME}",
    re.IGNORECASE,
)
COMPARED = re.compile(r"[<>\u2264\u2265~\u2248]=?\s?[+-]?\d+([.,]\d+)?")
QUOTED = re.compile(r"=?\"[+-]?\d+([.,]\d+)?\"|'[+-]?\d+([.,]\d+)?'|'[+-]?\d+[.,]\d+")
OTHER_POINT = re.compile("[+-]?\\d+[\u00b7\u2219\u22c5\u066b]\\d+")
POWER = re.compile(
    r"[+-]?\d+([.,]\d+)?\s?[x\u00d7*\u00b7]\s?10(\^[+-]?\d+|[\u207b\u207a]?[\u2070\u00b9\u00b2\u00b3\u2074-\u2079]+)"
    r"|[+-]?\d*\.\d*[dD][+-]?\d+"
)
UNIT = re.compile(r"[+-]?\d+(?:[.,]\d+)?\s*([^\W\d_]{1,6}(?:/[^\W\d_]{1,6})?)")
ONE = r"[+-]?\d+(?:[.,]\d+)?"
TWO = re.compile(
    rf"{ONE}\s*(\u00b1|\+/?-|/|of|-|\u2013)\s*{ONE}\s*%?|{ONE}\s*([(\[])\s*{ONE}\s*%?[)\]]"
)
DIGITS = re.compile(r"(\d+(?:\.\d+)?)")
UNSEEN = re.compile("[\u200b\u200c\u200d\u2060\ufeff\u00ad]")


def natural_order(levels: Iterable[str]) -> list[str] | None:
    """Return labels in the order of the numbers in them, where that is not the alphabet's.

    None for labels that differ in more than numbers.

    Examples
    --------
    >>> natural_order(["Week 12", "Week 4"]), natural_order(["Week 1", "Week 2"])
    (['Week 4', 'Week 12'], None)
    >>> natural_order(["a1", "b10", "b2"])
    """
    alphabetical = sorted(levels)
    if len({tuple(DIGITS.split(level)[::2]) for level in alphabetical}) > 1:
        return None
    counted = sorted(
        alphabetical, key=lambda level: [float(number) for number in DIGITS.findall(level)]
    )
    return None if counted == alphabetical else counted


def counted_visits(levels: Iterable[str]) -> list[str] | None:
    """Return names of visits in the order of their numbers, where that is not the alphabet's.

    Those without a number come first.

    Examples
    --------
    >>> counted_visits(["Baseline", "Week 12", "Wk 4"])
    ['Baseline', 'Wk 4', 'Week 12']
    >>> counted_visits(["Baseline", "V1", "V2"])
    """
    alphabetical = sorted(levels)
    first = {level: DIGITS.search(level) for level in alphabetical}
    numbered = {level: float(found.group()) for level, found in first.items() if found}
    counted = sorted(numbered, key=lambda level: numbered[level])
    if counted == [level for level in alphabetical if level in numbered]:
        return None
    return [level for level in alphabetical if level not in numbered] + counted


def reads_as_number(value: Any) -> bool:
    """Tell whether a level stands for a number, as Python writes one."""
    try:
        float(value)
    except (TypeError, ValueError):
        return False
    return True


def look_of(value: Any) -> str | None:
    """Say what a text looks like; None of a word.

    Examples
    --------
    >>> [look_of(text) for text in ("2", "2.5", "2,5", "1,022", "20 %", "2024-01-03", "a1")]
    ['number', 'number', 'decimal comma', 'decimal comma', 'percentage', 'date', None]
    >>> look_of("12-") == look_of("(12)")
    True
    """
    if reads_as_number(value):
        return "number" if str(value).isascii() else "number in digits of another script"
    text = value.strip() if isinstance(value, str) else ""
    if not text or len(text) > 40:
        return None
    patterns = {
        "decimal comma": DECIMAL_COMMA,
        "number in groups of digits": GROUPED,
        "number in Indian groups of digits": OTHER_GROUPS,
        "number with its sign behind it or in brackets": BEHIND,
        "number with a dash for its sign": DASHED,
        "percentage": PERCENT,
        "date": DATE,
        "sum of money": MONEY,
        "number with a sign of comparison": COMPARED,
        "number in quotation marks": QUOTED,
        "number with another sign for its decimal point": OTHER_POINT,
        "number with a power of ten written out": POWER,
    }
    return next((name for name, pattern in patterns.items() if pattern.fullmatch(text)), None)


def unit_of(value: Any) -> str | None:
    """Return the unit behind a number; None of any other text.

    Examples
    --------
    >>> [unit_of(text) for text in ("249.5 ms", "12d", "12", "a 3")]
    ['ms', 'd', None, None]
    """
    found = UNIT.fullmatch(value.strip()) if isinstance(value, str) else None
    return None if found is None else found[1]


def two_numbers(value: Any) -> str | None:
    """Say how a cell with two numbers becomes two columns; None of any other text.

    Examples
    --------
    >>> two_numbers("10.2 \u00b1 7.3")
    "The cells hold two numbers each: make two columns of them, split at '\u00b1'"
    >>> two_numbers("ward 3") is None
    True
    """
    found = TWO.fullmatch(value.strip()) if isinstance(value, str) else None
    if found is None:
        return None
    mark = found[1] or found[2]
    return f"The cells hold two numbers each: make two columns of them, split at {mark!r}"


def look_alikes(texts: Iterable[str]) -> list[list[str]]:
    """Return the texts that differ from another only by blanks, case or Unicode form, together.

    Examples
    --------
    >>> look_alikes(["Ward A", "B", "ward a "])
    [['Ward A', 'ward a ']]
    """
    forms: dict[str, list[str]] = {}
    for text in texts:
        forms.setdefault(plain_form(text), []).append(text)
    return [alike for alike in forms.values() if len(alike) > 1]


def plain_form(text: str) -> str:
    """Return a text without what the eye does not see: blanks, case, Unicode's two ways.

    Examples
    --------
    >>> plain_form(" Ward  A") == plain_form("ward a\u200b")
    True
    """
    return " ".join(UNSEEN.sub("", unicodedata.normalize("NFKC", text)).split()).casefold()
