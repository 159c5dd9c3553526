"""What kind of values a column holds: by its type, or value by value; and times."""

from __future__ import annotations

import datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "KINDS_OF_DTYPE",
    "arrow_kind",
    "is_missing",
    "kind_of_objects",
    "missing_objects",
    "narwhals_kind",
    "plain_time",
    "plain_times",
    "seconds",
    "times_of_objects",
]

KINDS_OF_DTYPE = {
    "f": "numeric",
    "i": "numeric",
    "u": "numeric",
    "b": "boolean",
    "M": "datetime",
    "m": "duration",
    "U": "text",
    "T": "text",
}


def arrow_kind(kind: Any) -> str:
    """Kind of a pyarrow type."""
    import pyarrow as pa

    types = pa.types
    if types.is_dictionary(kind):
        return "categorical"
    if types.is_boolean(kind):
        return "boolean"
    if types.is_integer(kind) or types.is_floating(kind) or types.is_decimal(kind):
        return "numeric"
    if types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind):
        return "text"
    if types.is_timestamp(kind) or types.is_date(kind):
        return "datetime"
    if types.is_duration(kind):
        return "duration"
    return "empty" if types.is_null(kind) else "mixed"


def narwhals_kind(dtype: Any) -> str:
    """Kind of a narwhals type."""
    import narwhals as nw

    if dtype.is_numeric():
        return "numeric"
    kinds: list[tuple[Any, str]] = [
        (nw.Boolean, "boolean"),
        (nw.String, "text"),
        (nw.Categorical, "categorical"),
        (nw.Enum, "categorical"),
        (nw.Datetime, "datetime"),
        (nw.Date, "datetime"),
        (nw.Duration, "duration"),
    ]
    for known, kind in kinds:
        if isinstance(dtype, known) or dtype == known:
            return kind
    return "empty" if type(dtype).__name__ in ("Null", "Unknown") else "mixed"


def missing_objects(array: NDArray[Any]) -> NDArray[np.bool_]:
    """Return True where an object is None, NaN, NaT or pandas.NA."""
    return np.fromiter((is_missing(v) for v in array), dtype=bool, count=len(array))


def is_missing(value: Any) -> bool:
    """True for None, NaN, NaT and pandas.NA."""
    if value is None:
        return True
    if isinstance(value, (float, np.floating, np.datetime64, np.timedelta64)):
        return bool(value != value)
    if type(value).__name__ == "Decimal":
        return bool(value.is_nan())
    return type(value).__name__ in ("NAType", "NaTType")


def kind_of_objects(array: NDArray[Any]) -> str:
    """Kind of Python objects; ``"mixed"`` when they differ."""
    import decimal
    import fractions

    kinds = set()
    numbers = (int, float, np.number, decimal.Decimal, fractions.Fraction)
    for value in array:
        if is_missing(value):
            continue
        if isinstance(value, str):
            kinds.add("text")
        elif isinstance(value, (bool, np.bool_)):
            kinds.add("boolean")
        elif isinstance(value, (np.timedelta64, datetime.timedelta)):
            kinds.add("duration")
        elif isinstance(value, (datetime.date, np.datetime64)):
            kinds.add("datetime")
        elif isinstance(value, numbers):
            kinds.add("numeric")
        else:
            kinds.add("mixed")
    if not kinds:
        return "empty"
    return kinds.pop() if len(kinds) == 1 else "mixed"


def times_of_objects(array: NDArray[Any]) -> NDArray[Any]:
    """Python dates, datetimes (in UTC) or durations as NumPy times."""

    def plain(value: Any) -> Any:
        if is_missing(value):
            return None
        if isinstance(value, datetime.datetime) and value.tzinfo is not None:
            value = value.astimezone(datetime.UTC).replace(tzinfo=None)
        return value

    values = [plain(value) for value in array]
    if any(isinstance(v, (datetime.timedelta, np.timedelta64)) for v in values):
        return np.array(values, dtype="timedelta64[us]")
    return np.array(values, dtype="datetime64[us]")


def seconds(times: NDArray[Any]) -> NDArray[np.float64]:
    """Times in seconds, those of a date from 1970-01-01."""
    unit = np.timedelta64(1, "s")
    if times.dtype.kind == "M":
        if np.datetime_data(times.dtype)[0] in ("Y", "M", "W", "D", "h", "m"):
            times = times.astype("datetime64[s]")
        times = times - np.zeros(1, dtype=times.dtype)
    return np.asarray(times / unit, dtype=np.float64)


def plain_time(value: Any) -> Any:
    """Return a time as Python's `datetime` has it; one finer than a microsecond as it is.

    Examples
    --------
    >>> plain_time(np.datetime64("2024-03-28T12:00"))
    datetime.datetime(2024, 3, 28, 12, 0)
    """
    if isinstance(value, (np.datetime64, np.timedelta64)):
        rounded = value.astype(f"{value.dtype.kind}8[us]")
        plain = rounded.item()
        held = isinstance(plain, (datetime.date, datetime.timedelta)) and rounded == value
        return plain if held else value
    if type(value).__name__ == "Timestamp" and not value.nanosecond:
        return value.to_pydatetime()
    if type(value).__name__ == "Timedelta" and not value.nanoseconds:
        return value.to_pytimedelta()
    return value


def plain_times(levels: list[Any]) -> list[Any]:
    """Return levels with times of one type, whatever library they come from: Python's."""
    if not any(map(_is_foreign, set(map(type, levels)))):
        return levels
    plain = [plain_time(level) for level in levels]
    return levels if any(map(_is_foreign, set(map(type, plain)))) else plain


def _is_foreign(kind: type) -> bool:
    """Tell whether a type is a time of NumPy's or pandas'."""
    return kind.__name__ in ("datetime64", "timedelta64", "Timestamp", "Timedelta")
