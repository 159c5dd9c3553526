"""Times of prompts: on the world's clock, which orders them, and on the wall, which has days."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ranef.errors import DataError, ModelError
from ranef.tables import Table
from ranef.tables.moments import seconds_of, written_times

__all__ = ["Clock", "read_clock"]

Floats = NDArray[np.float64]
HOUR = 3600.0


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
        world, wall, aware = written_times(table, name)
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
        out[rows] = seconds_of(pd.Series(move(times, zone)))
    return out
