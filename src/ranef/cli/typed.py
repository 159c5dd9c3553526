"""Columns of a large delimited file that are plainly numbers, read as such at once.

Text costs several times what numbers do. The first rows say which columns look like plain
numbers (a decimal point or none, no groups of digits, no codes); pandas reads these as numbers,
and what it says and a scan of the bytes prove that every field is what the first ones are.
A column of which that is not proved is read as text, as all columns of a small file are, so
that the answer is the same.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ranef.cli.convention import CODE, WHOLE, Convention, Look, pattern_of, whole_numbers

__all__ = ["LARGE", "Typed", "read_typed"]

LARGE = 200_000
"""Bytes of a file that is worth two looks."""
ROWS, BYTES = 1000, 100_000
PLAIN = Convention(".", None, True)
EXACT = 2.0**53
DIGIT, ZERO, POINT, NEWLINE, QUOTE = b"0"[0], b"0"[0], b"."[0], b"\n"[0], b'"'[0]

Read = Callable[[bytes, dict[str, Any]], Any]


@dataclass(frozen=True)
class Typed:
    """A table of which some columns are numbers, the others text.

    Attributes
    ----------
    data : pandas.DataFrame
    looks : list of Look
        At the first rows of the columns that are numbers.
    """

    data: Any
    looks: list[Look]


def read_typed(
    content: bytes, header: Sequence[str], options: dict[str, Any], read: Read
) -> Typed | None:
    """Read the columns that are plainly numbers as numbers, the others as text.

    Parameters
    ----------
    content : bytes
    header : sequence of str
    options : dict
        Of `pandas.read_csv`, for text.
    read : callable
        Reads bytes with options.

    Returns
    -------
    Typed or None
        None where no column is plainly of numbers.
    """
    if len(content) < LARGE or len(options["sep"].encode()) != 1 or not all(header):
        return None
    cut = content.rfind(b"\n", 0, BYTES)
    first = read(content[:cut], options | {"nrows": ROWS}) if cut > 0 else None
    if first is None or list(first.columns) != list(header):
        return None
    looks = {name: Look(name, first[name]) for name in header}
    likely = {name: look for name, look in looks.items() if _is_plain(look)}
    if not likely:
        return None
    text = {name: str for name in header if name not in likely}
    data = read(content, options | {"dtype": text, "low_memory": False} | _precisely())
    fields = _Fields(content, options["sep"].encode()[0])
    numbers = {
        name: values
        for name, look in likely.items()
        if (values := _proved(look, data[name], header.index(name), fields)) is not None
    }
    again = [name for name in likely if name not in numbers]
    if again:
        data[again] = read(content, options | {"usecols": again})[again]
    for name, values in numbers.items():
        data[name] = values
    return Typed(data, [looks[name] for name in numbers])


def _precisely() -> dict[str, Any]:
    """Options with which pandas reads every digit of a number."""
    import pandas as pd

    version = tuple(int(part) for part in pd.__version__.split(".")[:2])
    return {} if version >= (3, 1) else {"float_precision": "round_trip"}


def _is_plain(look: Look) -> bool:
    """Tell whether the first values are whole numbers, or fractions that say so themselves."""
    if len(look.distinct) == 0 or look.any_has(CODE):
        return False
    return look.all_have(WHOLE) or (
        look.all_have(pattern_of(PLAIN)) and look.speaks_for(PLAIN.decimal, None)
    )


def _proved(look: Look, column: Any, place: int, fields: _Fields) -> Any | None:
    """Return the values of a column whose fields are all plain numbers, else None."""
    if column.dtype.kind not in "iuf" or place in fields.with_codes:
        return None
    values = column.to_numpy()
    if column.dtype.kind != "f":
        return values
    known = values[~np.isnan(values)]
    if not look.all_have(WHOLE):
        return whole_numbers(values)
    # fractions after the first rows may be thousands; digits may be lost beyond 2^53
    if len(known) == len(values) or place in fields.with_points or np.any(np.abs(known) >= EXACT):
        return None
    return whole_numbers(values)


class _Fields:
    """Where in the lines some bytes stand: a scan without making any text."""

    def __init__(self, content: bytes, separator: int) -> None:
        self.bytes = np.frombuffer(content, dtype=np.uint8)
        self.separator = separator
        self._columns: dict[str, set[int]] = {}

    @property
    def with_codes(self) -> set[int]:
        """Columns with a field that begins with 0 and another digit."""
        if "codes" not in self._columns:
            b = self.bytes
            pairs = (b[1:-1] == ZERO) & (b[2:] - DIGIT < 10)
            before = b[:-2]
            inside = (before - DIGIT < 10) | (before == POINT) | (before == ord("-"))
            inside |= (before == ord("+")) | (before == ord(","))
            if self.separator == ord(","):
                inside &= before != ord(",")
            self._columns["codes"] = self._columns_of(np.flatnonzero(pairs & ~inside) + 1)
        return self._columns["codes"]

    @property
    def with_points(self) -> set[int]:
        """Columns with a point in some field below the names."""
        if "points" not in self._columns:
            points = np.flatnonzero(self.bytes == POINT)
            first = int(np.argmax(self.bytes == NEWLINE))
            self._columns["points"] = self._columns_of(points[points > first])
        return self._columns["points"]

    def _columns_of(self, places: NDArray[np.intp]) -> set[int]:
        """Columns of bytes, by the separators before them in their lines."""
        if not len(places):
            return set()
        b = self.bytes
        outside = np.cumsum(b == QUOTE, dtype=np.int64) % 2 == 0
        count = np.cumsum((b == self.separator) & outside, dtype=np.int64)
        ends = np.flatnonzero((b == NEWLINE) & outside)
        line = np.searchsorted(ends, places)
        start = np.where(line > 0, count[ends[np.maximum(line - 1, 0)]], 0)
        return set(np.unique(count[places] - start).tolist())
