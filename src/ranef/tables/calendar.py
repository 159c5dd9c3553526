"""Names of months and of days of the week, in the order of the calendar."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

__all__ = ["calendar_order"]

MONTHS = (
    "january february march april may june july august september october november december",
    "januar februar märz april mai juni juli august september oktober november dezember",
    "janvier février mars avril mai juin juillet août septembre octobre novembre décembre",
    "enero febrero marzo abril mayo junio julio agosto septiembre octubre noviembre diciembre",
    "gennaio febbraio marzo aprile maggio giugno luglio agosto settembre ottobre novembre dicembre",
    "januari februari maart april mei juni juli augustus september oktober november december",
)
DAYS = (
    "monday tuesday wednesday thursday friday saturday sunday",
    "montag dienstag mittwoch donnerstag freitag samstag sonntag",
    "lundi mardi mercredi jeudi vendredi samedi dimanche",
    "lunes martes miércoles jueves viernes sábado domingo",
    "lunedì martedì mercoledì giovedì venerdì sabato domenica",
    "maandag dinsdag woensdag donderdag vrijdag zaterdag zondag",
)
FEWEST = 3
"""Months or days that a column must hold to be taken for one of them."""


def calendar_order(levels: Iterable[str]) -> list[str] | None:
    """Return months or days of the week in the calendar's order, where that is not the alphabet's.

    They may be cut; a language is not mixed with another.

    Examples
    --------
    >>> calendar_order(["Apr", "Feb", "Jan"]), calendar_order(["Di", "Mi", "Mo"])
    (['Jan', 'Feb', 'Apr'], ['Mo', 'Di', 'Mi'])
    >>> calendar_order(["April", "June", "Mary"])
    """
    alphabetical = sorted(levels)
    if len(alphabetical) < FEWEST:
        return None
    for names, shortest in ((MONTHS, 3), (DAYS, 2)):
        for language in names:
            places = _places(alphabetical, language.split(), shortest)
            if places is not None:
                ordered = [level for _, level in sorted(zip(places, alphabetical, strict=True))]
                return None if ordered == alphabetical else ordered
    return None


def _places(levels: Sequence[str], names: Sequence[str], shortest: int) -> list[int] | None:
    """Place of each level among names; None where one is none of them, or two are the same."""
    found = []
    for level in levels:
        text = level.strip().rstrip(".").casefold()
        begun = [k for k, name in enumerate(names) if name.startswith(text)]
        if len(text) < shortest or len(begun) != 1:
            return None
        found += begun
    return found if len(set(found)) == len(found) else None
