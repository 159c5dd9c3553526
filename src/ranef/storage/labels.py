"""Levels and row labels as JSON: plain values as they are, others by their kind."""

from __future__ import annotations

import datetime
import re
from collections.abc import Callable
from functools import partial
from importlib import import_module
from typing import Any

import numpy as np

from ranef.errors import DataError, FileError
from ranef.tables.kinds import plain_time

__all__ = ["PLAIN", "read_label", "written_label"]

PLAIN = frozenset((str, bool, int, float, type(None)))
LIBRARIES = frozenset(("builtins", "datetime", "decimal", "fractions", "numpy", "pandas", "uuid"))
ZONE = re.compile(r"[A-Za-z0-9_+\-]+(/[A-Za-z0-9_+\-]+)*")
MICROSECOND = datetime.timedelta(microseconds=1)


def written_label(value: Any) -> Any:
    """Return a label as a JSON value: ``{"date": ["2024-03-28"]}`` where JSON has no such type."""
    if isinstance(value, np.generic) and value.dtype.kind not in "mM":
        value = value.item()
    if value is None or isinstance(value, (str, bool, int, float)):
        return value
    for cls in type(value).__mro__:
        if cls.__name__ in KINDS and cls.__module__.partition(".")[0] in LIBRARIES:
            return {cls.__name__: KINDS[cls.__name__][0](value)}
    raise DataError(
        f"cannot save the label {value!r} of type {type(value).__name__}; "
        "use text, numbers, booleans or dates for levels and row labels"
    )


def read_label(data: Any) -> Any:
    """Read a label back in its type; those of ranef 0.1 too."""
    if type(data) in PLAIN:
        if type(data) is str:
            data.encode()  # half a character is a ValueError
        return data
    try:
        (kind, value), *more = data.items()
        parts = value if isinstance(value, list) else [value]
        return KINDS[kind][1](*parts, **dict(more))
    except (
        ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError
    ) as error:  # fmt: skip
        raise FileError(f"{str(data)[:40]!r} is no label") from error


def _moment(moment: datetime.datetime) -> list[str | None]:
    zone = getattr(moment.tzinfo, "key", None) or getattr(moment.tzinfo, "zone", None)
    return [moment.isoformat(), zone]


def _read_moment(text: str, zone: str | None = None) -> datetime.datetime:
    """Read a time, at its offset from UTC where its zone is not known here."""
    from zoneinfo import ZoneInfo

    moment = datetime.datetime.fromisoformat(text)
    try:
        return moment if zone is None else moment.astimezone(ZoneInfo(zone))
    except (LookupError, OSError, ValueError):
        return moment


def _read_time(text: str, value: str | None = None) -> Any:
    """Read a time of day; with a value, any kind of time of ranef 0.1."""
    if value is None:
        return datetime.time.fromisoformat(text)
    return float(value) * MICROSECOND if text == "duration" else read_label({text: value})


def _read_numpy(kind: str, count: int) -> Any:
    if np.dtype(kind).kind not in "mM":
        raise ValueError(f"{kind} is no time")
    return np.array([count], dtype=np.int64).view(kind)[0]


def _made(library: str, cls: str, *values: Any) -> Any:
    return getattr(import_module(library), cls)(*map(read_label, values))


def _read_timestamp(text: str, zone: str | None) -> Any:
    moment = _made("pandas", "Timestamp", text)
    if zone is None:
        return moment
    if zone.startswith(("dateutil", "tzlocal")) or not ZONE.fullmatch(zone):
        raise ValueError(f"{zone} is no time zone")  # pandas would open a file of that name
    return moment.tz_convert(zone)


def _count(time: Any) -> list[Any]:
    return [time.dtype.str, int(time.astype(np.int64))]


# how a label is written, as arguments, and read; the last two are of ranef 0.1
KINDS: dict[str, tuple[Callable[[Any], list[Any]], Callable[..., Any]]] = {
    "datetime": (_moment, _read_moment),
    "date": (lambda v: [v.isoformat()], datetime.date.fromisoformat),
    "time": (lambda v: [v.isoformat()], _read_time),
    "timedelta": (lambda v: [v // MICROSECOND], lambda count: count * MICROSECOND),
    "datetime64": (_count, _read_numpy),
    "timedelta64": (_count, _read_numpy),
    "Timestamp": (_moment, _read_timestamp),
    "Timedelta": (lambda v: [v.isoformat()], partial(_made, "pandas", "Timedelta")),
    "Period": (lambda v: [str(v), v.freqstr], partial(_made, "pandas", "Period")),
    "Interval": (
        lambda v: [written_label(v.left), written_label(v.right), v.closed],
        partial(_made, "pandas", "Interval"),
    ),
    "Decimal": (lambda v: [str(v)], partial(_made, "decimal", "Decimal")),
    "Fraction": (
        lambda v: [v.numerator, v.denominator],
        lambda above, below: _made("fractions", "Fraction", int(above), int(below)),
    ),
    "UUID": (lambda v: [v.hex], lambda text: _made("uuid", "UUID", text)),
    "bytes": (lambda v: [v.hex()], bytes.fromhex),
    "tuple": (lambda v: [[written_label(part) for part in v]], lambda v: tuple(map(read_label, v))),
    "numpy": (list, lambda text, unit: plain_time(np.datetime64(text, unit))),
    "timestamp": (list, lambda text, zone: plain_time(_read_timestamp(text, zone))),
}
