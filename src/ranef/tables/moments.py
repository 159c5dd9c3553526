"""Times that are written as text: ISO 8601, or dates with the day first."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ranef.errors import DataError, row_text, shortened
from ranef.tables.table import Table

__all__ = ["are_dates", "are_times", "seconds_of", "written_times"]

Floats = NDArray[np.float64]
MONTHS = 12
MINUTES = r":\d{2}(?::\d{2}(?:\.\d+)?)?"
DAY_FIRST = re.compile(rf"(\d{{1,2}})\.(\d{{1,2}})\.(\d{{4}})(?:,?[ T]+(\d{{1,2}})({MINUTES}))?")
SLASHES = re.compile(rf"(\d{{1,2}})/(\d{{1,2}})/(\d{{4}})(,?[ T]+\d{{1,2}}{MINUTES})?")
OFFSET = r"\s*(?:Z|[+-]\d{2}:?\d{2})$"
HALVES = re.compile(r"(\d{1,2})(:\d{2}(?::\d{2})?)\s*([AaPp])\.?[Mm]\.?$")
"""A time of day by a clock of twelve hours, 2:05 PM."""
NOON = 12
DATE = re.compile(r"\d{4}-\d{2}-\d{2}|\d{1,2}([./])\d{1,2}\1\d{4}")
LIKE = re.compile(rf"(?:{DATE.pattern})(?:,?[ T]+\d{{1,2}}{MINUTES}(?:{OFFSET[:-1]})?)?")


def are_times(table: Table, name: str) -> bool:
    """Tell whether a column is text of which most values look like a date or a time.

    `written_times` refuses the others by name.

    Examples
    --------
    >>> table = Table.of({"t": ["2025-03-29T14:05", "29.3.2025 9:30"], "g": ["a", "b"]})
    >>> are_times(table, "t"), are_times(table, "g")
    (True, False)
    """
    if table.kind(name) not in ("text", "categorical"):
        return False
    _, levels = table.codes(name)
    like = sum(LIKE.fullmatch(_of_the_day(str(level))) is not None for level in levels)
    return 2 * like > len(levels)


def are_dates(table: Table, name: str) -> bool:
    """Tell whether no value of a column of written times has a time of day."""
    _, levels = table.codes(name)
    return all(DATE.fullmatch(str(level).strip()) for level in levels)


def written_times(table: Table, name: str) -> tuple[Floats, Floats, NDArray[np.bool_]]:
    """Seconds on the world's clock and on the wall's, and whether there is an offset, (n,) each."""
    import pandas as pd

    codes, levels = table.codes(name)
    texts = pd.Series([_iso(str(level)) for level in _day_and_month(name, levels)], dtype="string")
    aware = texts.str.contains(OFFSET, regex=True).to_numpy(dtype=bool)
    world = pd.to_datetime(texts, utc=True, format="ISO8601", errors="coerce")
    wall = pd.to_datetime(
        texts.str.replace(OFFSET, "", regex=True), format="ISO8601", errors="coerce"
    )
    wrong = np.flatnonzero(world.isna().to_numpy())
    used = np.flatnonzero(np.isin(codes, wrong))
    if len(used):
        raise DataError(
            f"column {name!r} holds text, and {shortened(levels[codes[used[0]]])} in "
            f"{row_text(used[0])} is no time as 2025-03-29T14:05, 2025-03-29T14:05+01:00 or "
            f"29.03.2025 14:05; mark it as missing or convert the column ({len(used):,} such rows)"
        )
    numbers = [np.append(seconds_of(times), np.nan)[codes] for times in (world, wall)]
    return numbers[0], numbers[1], np.append(aware, False)[codes]


def _of_the_day(written: str) -> str:
    """Return a time by a clock of twelve hours as one of twenty-four.

    Examples
    --------
    >>> _of_the_day("3/29/2025 2:05 PM"), _of_the_day("3/29/2025 12:05 a.m.")
    ('3/29/2025 14:05', '3/29/2025 00:05')
    """
    text = written.strip()
    found = HALVES.search(text)
    if found is None or not 1 <= int(found[1]) <= NOON:
        return text
    hour = int(found[1]) % NOON + (NOON if found[3].lower() == "p" else 0)
    return f"{text[: found.start()]}{hour:02d}{found[2]}"


def _iso(written: str) -> str:
    """Return a time with the day first as ISO 8601 has it.

    Examples
    --------
    >>> _iso("29.03.2025 9:05"), _iso("2025-03-29T09:05")
    ('2025-03-29T09:05', '2025-03-29T09:05')
    """
    found = DAY_FIRST.fullmatch(written.strip())
    if found is None:
        return written
    day, month, year, hour, rest = found.groups()
    clock = "" if hour is None else f"T{int(hour):02d}{rest}"
    return f"{year}-{int(month):02d}-{int(day):02d}{clock}"


def _day_and_month(name: str, levels: Sequence[Any]) -> list[str]:
    """Write dates with slashes with the day first; which number is the day, the column says.

    Raises
    ------
    ranef.errors.DataError
        Nothing says it, or the column has dates of both kinds.
    """
    texts = [_of_the_day(str(level)) for level in levels]
    found = [SLASHES.fullmatch(text) for text in texts]
    dates = [match for match in found if match is not None]
    if not dates:
        return texts
    first = max(int(match[1]) for match in dates)
    second = max(int(match[2]) for match in dates)
    if (first > MONTHS) == (second > MONTHS):
        both = "the day stands first in some and second in others" if first > MONTHS else (
            "either number may be the month"
        )  # fmt: skip
        raise DataError(
            f"column {name!r} holds dates as {shortened(dates[0][0])}, and {both}; write them as "
            "2025-03-29T14:05 or 29.03.2025 14:05"
        )
    order = (1, 2) if first > MONTHS else (2, 1)
    return [
        text if match is None else f"{match[order[0]]}.{match[order[1]]}.{match[3]}{match[4] or ''}"
        for text, match in zip(texts, found, strict=True)
    ]


def seconds_of(times: Any) -> Floats:
    """Seconds since 1970 of a pandas Series of datetimes, NaN where missing."""
    if getattr(times.dtype, "tz", None) is not None:
        times = times.dt.tz_convert("UTC").dt.tz_localize(None)
    values = times.to_numpy().astype("datetime64[us]")
    out = values.astype(np.int64) / 1e6
    out[np.isnat(values)] = np.nan
    return np.asarray(out, dtype=np.float64)
