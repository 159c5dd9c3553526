"""Times of prompts: on the world's clock, which orders them, and on the wall, which has days."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ranef.errors import DataError, ModelError, row_text, shortened
from ranef.tables import Table

__all__ = ["Clock", "read_clock"]

Floats = NDArray[np.float64]
HOUR = 3600.0
MONTHS = 12
MINUTES = r":\d{2}(?::\d{2}(?:\.\d+)?)?"
DAY_FIRST = re.compile(rf"(\d{{1,2}})\.(\d{{1,2}})\.(\d{{4}})(?:,?[ T]+(\d{{1,2}})({MINUTES}))?")
SLASHES = re.compile(rf"(\d{{1,2}})/(\d{{1,2}})/(\d{{4}})(,?[ T]+\d{{1,2}}{MINUTES})?")
OFFSET = r"\s*(?:Z|[+-]\d{2}:?\d{2})$"


@dataclass(frozen=True, eq=False)
class Clock:
    """When each row was.

    Attributes
    ----------
    time : (n,) array
        Hours on the world's clock of datetimes; numbers as they are.
    wall : (n,) array or None
        Hours on the wall of whoever answered; None where the times are numbers.
    """

    time: Floats
    wall: Floats | None

    @property
    def is_clock(self) -> bool:
        """Whether the times are datetimes, in hours."""
        return self.wall is not None


def read_clock(table: Table, name: str, zone: str | None) -> Clock:
    """Read a column of times: datetimes, text in ISO 8601 with or without offset, or numbers.

    Parameters
    ----------
    zone : str or None
        A zone of the IANA database, or a column of such: where times without a zone were
        taken, and on whose wall times with one are read.
    """
    kind = table.kind(name)
    if kind in ("numeric", "duration"):
        if zone is not None:
            raise ModelError(f"time_zone= is for datetimes, and {name!r} holds {kind} values")
        hours = table.seconds(name) / HOUR if kind == "duration" else table.numeric(name)
        return Clock(hours, None)
    if kind == "datetime":
        world, wall, aware = _datetimes(table, name)
    elif kind in ("text", "categorical"):
        world, wall, aware = _texts(table, name)
    else:
        raise DataError(f"column {name!r} holds {kind} values, not times")
    if zone is not None:
        zones = _zones(table, zone)
        wall = np.where(aware, _on_the_wall(world, zones), wall)
        world = np.where(aware, world, _on_the_world(wall, zones))
    return Clock(world / HOUR, wall / HOUR)


def _datetimes(table: Table, name: str) -> tuple[Floats, Floats, NDArray[np.bool_]]:
    world, zone = table.seconds(name), table.time_zone(name)
    aware = np.full(table.n_rows, zone is not None)
    if zone is None or zone == "UTC":
        return world, world, aware
    return world, _on_the_wall(world, np.full(table.n_rows, zone, dtype=object)), aware


def _texts(table: Table, name: str) -> tuple[Floats, Floats, NDArray[np.bool_]]:
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
    numbers = [np.append(_seconds(times), np.nan)[codes] for times in (world, wall)]
    return numbers[0], numbers[1], np.append(aware, False)[codes]


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
    texts = [str(level).strip() for level in levels]
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


def _zones(table: Table, zone: str) -> NDArray[Any]:
    """The zone of each row."""
    from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

    if zone in table:
        codes, levels = table.codes(zone)
        zones = np.array([*map(str, levels), None], dtype=object)[codes]
    else:
        zones = np.full(table.n_rows, zone, dtype=object)
    for name in {z for z in zones.tolist() if z is not None}:
        try:
            ZoneInfo(name)
        except (ZoneInfoNotFoundError, ValueError):
            raise ModelError(
                f"time_zone={zone!r}: {name!r} is neither a column nor a time zone such as "
                "'Europe/Berlin'"
            ) from None
    return zones


def _on_the_wall(world: Floats, zones: NDArray[Any]) -> Floats:
    import pandas as pd

    return _by_zone(
        world, zones, lambda t, z: pd.DatetimeIndex(t).tz_localize("UTC").tz_convert(z)
        .tz_localize(None),
    )  # fmt: skip


def _on_the_world(wall: Floats, zones: NDArray[Any]) -> Floats:
    """An hour that the clocks go back over is its second run, one they skip the hour after."""
    import pandas as pd

    return _by_zone(
        wall, zones, lambda t, z: pd.DatetimeIndex(t)
        .tz_localize(z, ambiguous=np.zeros(len(t), dtype=bool), nonexistent="shift_forward")
        .tz_convert("UTC").tz_localize(None),
    )  # fmt: skip


def _by_zone(seconds: Floats, zones: NDArray[Any], move: Any) -> Floats:
    import pandas as pd

    out = np.full(len(seconds), np.nan)
    for zone in {z for z in zones.tolist() if z is not None}:
        rows = np.flatnonzero((zones == zone) & ~np.isnan(seconds))
        times = pd.to_datetime(np.round(seconds[rows] * 1e6).astype(np.int64), unit="us")
        out[rows] = _seconds(pd.Series(move(times, zone)))
    return out


def _seconds(times: Any) -> Floats:
    """Seconds since 1970 of a pandas Series of datetimes, NaN where missing."""
    if getattr(times.dtype, "tz", None) is not None:
        times = times.dt.tz_convert("UTC").dt.tz_localize(None)
    values = times.to_numpy().astype("datetime64[us]")
    out = values.astype(np.int64) / 1e6
    out[np.isnat(values)] = np.nan
    return np.asarray(out, dtype=np.float64)
