"""Values of a table that hardly are what they seem: marks of missing values, rows of sums."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["missing_marks", "row_of_sums"]

BELOW = (-7.0, -8.0, -9.0, -77.0, -88.0, -99.0, -777.0, -888.0, -999.0, -7777.0, -8888.0, -9999.0)
ABOVE = (77.0, 88.0, 99.0, 777.0, 888.0, 999.0, 7777.0, 8888.0, 9999.0, 99999.0)
FEWEST = 5
NAMED = 3
WORDS = "totals?|sum|overall|gesamt(summe)?|insgesamt|summe|somme|suma|totaal|totale"
SUMS = re.compile(rf"(grand |sub)?({WORDS})\W*", re.IGNORECASE)


def missing_marks(data: Any, columns: Iterable[str]) -> list[str]:
    """Say where a number such as -99 stands far from all other values of its column.

    Examples
    --------
    >>> import pandas as pd
    >>> answers = pd.DataFrame({"q1": [1, 2, 5, 4, 3, 1, -99, -99]})
    >>> for words in missing_marks(answers, ["q1"]):
    ...     print(words)
    column 'q1' has -99 in 2 rows, beside values from 1 to 5; if it marks missing values: --na=-99
    """
    found: dict[float, list[tuple[str, int, float, float]]] = {}
    for name in columns:
        values = _numbers(data[name])
        if values is None:
            continue
        for mark in _marks(values):
            others = values[values >= 0] if mark < 0 else values[~np.isin(values, ABOVE)]
            count = int((values == mark).sum())
            found.setdefault(mark, []).append((name, count, others.min(), others.max()))
    return [_said(mark, places) for mark, places in found.items()]


def _numbers(column: Any) -> NDArray[np.float64] | None:
    import pandas as pd

    if pd.api.types.is_bool_dtype(column.dtype) or not pd.api.types.is_numeric_dtype(column.dtype):
        return None
    values = column.to_numpy(dtype=np.float64, na_value=np.nan)
    return np.asarray(values[np.isfinite(values)])


def _marks(values: NDArray[np.float64]) -> list[float]:
    """Marks of a column: all that is below zero, or far above everything else."""
    negative = np.unique(values[values < 0])
    rest = values[values >= 0]
    if len(negative) and np.isin(negative, BELOW).all() and len(rest) >= FEWEST:
        return [float(mark) for mark in negative if (values == mark).sum() > 1 or mark <= -77]
    high = np.unique(values[np.isin(values, ABOVE)])
    rest = values[~np.isin(values, ABOVE)]
    if len(high) == 0 or len(rest) < FEWEST:
        return []
    reach = rest.max() + 2 * (rest.max() - rest.min())
    return [float(mark) for mark in high if mark > reach and (values == mark).sum() > 1]


def _said(mark: float, places: list[tuple[str, int, float, float]]) -> str:
    name, count, low, high = places[0]
    rows = f"{count:,} row{'s' * (count > 1)}"
    if len(places) == 1:
        where = f"column {name!r} has {mark:g} in {rows}, beside values from {low:g} to {high:g}"
    else:
        listed = ", ".join(repr(place[0]) for place in places[:NAMED])
        more = ", ..." if len(places) > NAMED else ""
        where = (
            f"{len(places)} columns ({listed}{more}) have {mark:g} beside values such as "
            f"{low:g} to {high:g} ({name!r}, {rows})"
        )
    return f"{where}; if it marks missing values: --na={mark:g}"


def row_of_sums(data: Any, place: Callable[[int], str] | None) -> str | None:
    """Say whether the last row holds the sums of those above.

    Examples
    --------
    >>> import pandas as pd
    >>> wards = pd.DataFrame({"ward": ["A", "B", "C", "Total"], "deaths": [3, 4, 5, 12]})
    >>> row_of_sums(wards, None)
    "row 4 ('Total') holds the sum of 'deaths' over the others; --na=Total leaves it out"
    """
    if len(data) < NAMED + 1:
        return None
    last = {name: data[name].iloc[-1] for name in data.columns}
    words = [value for value in last.values() if isinstance(value, str)]
    word = next((w for w in words if SUMS.fullmatch(w.strip())), None)
    if word is None:
        return None
    summed = [repr(str(name)) for name in data.columns if _is_sum(data[name])]
    if not summed:
        return None
    where = f"row {len(data):,}" if place is None else place(len(data) - 1)
    listed = ", ".join(summed[:NAMED])
    plural = "s" * (len(summed) > 1)
    return (
        f"{where} ({word!r}) holds the sum{plural} of {listed} over the others; "
        f"--na={shlex.quote(word)} leaves it out"
    )


def _is_sum(column: Any) -> bool:
    import pandas as pd

    if pd.api.types.is_bool_dtype(column.dtype) or not pd.api.types.is_numeric_dtype(column.dtype):
        return False
    values = column.to_numpy(dtype=np.float64, na_value=np.nan)
    above, last = float(np.nansum(values[:-1])), float(values[-1])
    several = np.count_nonzero(np.nan_to_num(values[:-1])) > 1
    return bool(several and abs(above - last) <= 1e-3 * abs(above))
