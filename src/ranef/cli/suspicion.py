"""Values of a table that hardly are what they seem: marks of missing values, rows of sums."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ranef.tables.looks import unit_of
from ranef.tables.missing_codes import MissingCode, missing_codes

__all__ = [
    "are_percentages",
    "common_unit",
    "filled_once",
    "missing_marks",
    "percentages",
    "row_of_sums",
    "united",
]

NAMED = 3
HEADED = 0.6
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
    found: dict[float, list[tuple[str, MissingCode]]] = {}
    for name in columns:
        values = _numbers(data[name])
        for one in [] if values is None else missing_codes(values):
            found.setdefault(one.code, []).append((name, one))
    return [_said(places) for places in found.values()]


def _numbers(column: Any) -> NDArray[np.float64] | None:
    import pandas as pd

    if pd.api.types.is_bool_dtype(column.dtype) or not pd.api.types.is_numeric_dtype(column.dtype):
        return None
    values = column.to_numpy(dtype=np.float64, na_value=np.nan)
    return np.asarray(values[np.isfinite(values)])


def _said(places: list[tuple[str, MissingCode]]) -> str:
    name, first = places[0]
    mark, rows = f"{first.code:g}", f"{first.count:,} row{'s' * (first.count > 1)}"
    between = f"{first.low:g} to {first.high:g}"
    if len(places) == 1:
        where = f"column {name!r} has {mark} in {rows}, beside values from {between}"
    else:
        listed = ", ".join(repr(place) for place, _ in places[:NAMED])
        more = ", ..." if len(places) > NAMED else ""
        where = (
            f"{len(places)} columns ({listed}{more}) have {mark} beside values such as {between} "
            f"({name!r}, {rows})"
        )
    return f"{where}; if it marks missing values: --na={mark}"


def are_percentages(column: Any) -> bool:
    """Tell whether every cell of a column is a number with the sign % behind it."""
    cells = column.dropna()
    return bool(len(cells)) and all(
        isinstance(cell, str) and PERCENT.fullmatch(cell.strip()) for cell in cells.unique()
    )


PERCENT = re.compile(r"[+-]?(\d+([.,]\d+)?|\d{1,3}([.,' ]\d{3})+([.,]\d+)?)\s?%")
PLAIN = re.compile(r"[+-]?\d+([.,]\d{1,2})?\s?%")


def percentages(data: Any, columns: Iterable[str]) -> list[str]:
    """Say how columns of percentages are read as numbers.

    Examples
    --------
    >>> import pandas as pd
    >>> percentages(pd.DataFrame({"exam": ["42.5%", "60%"]}), ["exam"])
    ["column 'exam' holds percentages, which stay text; --number exam reads '42.5%' as 42.5"]
    """
    found = []
    for name in columns:
        if are_percentages(data[name]):
            cells = (str(cell).strip() for cell in data[name].dropna())
            first = next(filter(PLAIN.fullmatch, cells), "")
            value = first.rstrip("%").strip().replace(",", ".")
            how = f"reads {first!r} as {value}" if first else "reads them as numbers"
            found.append(
                f"column {name!r} holds percentages, which stay text; --number "
                f"{shlex.quote(name)} {how}"
            )
    return found


def common_unit(column: Any) -> str | None:
    """Return the unit that stands behind the number in every cell; None where there is none."""
    units = {unit_of(value) for value in column.dropna().unique()}
    return units.pop() if len(units) == 1 else None


def united(data: Any, columns: Iterable[str]) -> list[str]:
    """Say how columns of numbers with one unit are read as numbers.

    Examples
    --------
    >>> import pandas as pd
    >>> united(pd.DataFrame({"mass": ["3.4 kg", "2 kg"], "room": ["2a", "2b"]}), ["mass", "room"])
    ["column 'mass' holds numbers with a unit ('kg'), which stay text; --number mass reads them"]
    """
    found = []
    for name in columns:
        unit = common_unit(data[name])
        if unit is not None and data[name].nunique() > 1:
            found.append(
                f"column {name!r} holds numbers with a unit ({unit!r}), which stay text; --number "
                f"{shlex.quote(name)} reads them"
            )
    return found


def filled_once(data: Any, columns: Iterable[str]) -> list[str]:
    """Say which columns have a label only at the head of each block, as merged cells have.

    Examples
    --------
    >>> import pandas as pd
    >>> wards = pd.DataFrame({"ward": ["A", None, None, "B", None, "C", None]})
    >>> for words in filled_once(wards, ["ward"]):
    ...     print(words)
    column 'ward' is filled in 3 of 7 rows, each time with another label, as merged ...
    """
    import pandas as pd

    found = []
    for name in columns:
        column = data[name]
        if pd.api.types.is_float_dtype(column) or pd.api.types.is_bool_dtype(column):
            continue
        labels, n = column.dropna(), len(column)
        headed = NAMED <= len(labels) <= HEADED * n and bool(column.notna().iloc[0])
        if headed and labels.is_unique:
            found.append(
                f"column {str(name)!r} is filled in {len(labels):,} of {n:,} rows, each time with "
                "another label, as merged cells are; the other rows count as missing: repeat the "
                "label in each row"
            )
    return found


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
