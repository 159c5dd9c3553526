"""Columns as codes of levels: small integers, and the levels in order."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ranef.errors import DataError, row_text, shortened
from ranef.tables.kinds import is_missing, missing_objects
from ranef.tables.looks import look_of, reads_as_number, two_numbers, unit_of

__all__ = [
    "Codes",
    "codes_by_sorting",
    "codes_of_gaps",
    "codes_of_integers",
    "codes_of_objects",
    "minus_one",
    "mixed_for_numbers",
    "sorted_codes",
    "text_for_numbers",
]

Codes = tuple[NDArray[np.int32], list[Any]]


def minus_one(codes: NDArray[Any]) -> NDArray[np.int32]:
    """Codes in float64 with NaN where missing, as int32 with -1."""
    return np.asarray(np.nan_to_num(codes, nan=-1.0).astype(np.int32))


def codes_of_integers(array: NDArray[Any]) -> Codes:
    """Codes by counting where the range is narrow, else by hashing or sorting."""
    if len(array) == 0:
        return np.empty(0, dtype=np.int32), []
    low, high = int(array.min()), int(array.max())
    if high - low > 4 * len(array) + 1024:
        return codes_by_sorting(array)
    wide = array if array.dtype.itemsize == 8 else array.astype(np.int64)
    shifted = wide if low == 0 else (wide - np.asarray(low, dtype=wide.dtype))
    present = np.zeros(high - low + 1, dtype=bool)
    present[shifted] = True
    where = np.flatnonzero(present)
    levels = (where + low).tolist() if high < 2**62 else [v + low for v in where.tolist()]
    if len(where) == len(present):
        return shifted.astype(np.int32), levels
    lookup = np.cumsum(present, dtype=np.int32) - np.int32(1)
    return lookup[shifted], levels


def codes_of_gaps(present: NDArray[Any], missing: NDArray[np.bool_]) -> Codes:
    """Codes of whole numbers of which some are missing, exact to all their 64 bits.

    Parameters
    ----------
    present : (n,) array
        The values that are there; integers, or Python's where they are wider.
    missing : (N,) bool array
    """
    if present.dtype.kind in "iu":
        found, levels = codes_of_integers(present)
    else:
        found, levels = codes_of_objects("", present, "numeric")
    codes = np.full(len(missing), -1, dtype=np.int32)
    codes[~missing] = found
    return codes, levels


def codes_by_sorting(array: NDArray[Any]) -> Codes:
    """Codes of any plain NumPy type, the levels sorted."""
    pandas = sys.modules.get("pandas")
    if array.dtype.kind == "f" and array.dtype.itemsize > 8:
        array = array.astype(np.float64) if _in_double(array) else array
    if pandas is not None and array.dtype.kind in "iufMm" and array.dtype.itemsize <= 8:
        raw, uniques = pandas.factorize(array, sort=True)
        return raw.astype(np.int32), _level_list(np.asarray(uniques))
    if pandas is not None and array.dtype.kind in "UT":
        raw, uniques = pandas.factorize(array.astype(object), sort=True)
        return raw.astype(np.int32), [str(level) for level in uniques]
    missing = _missing_values(array)
    codes = np.full(len(array), -1, dtype=np.int32)
    uniques, inverse = np.unique(array[~missing], return_inverse=True)
    codes[~missing] = inverse
    return codes, _level_list(uniques)


def _level_list(uniques: NDArray[Any]) -> list[Any]:
    """Levels as Python scalars; times stay NumPy scalars, numbers of more digits are decimals."""
    if uniques.dtype.kind == "f" and uniques.dtype.itemsize > 8:
        return [_decimal(value) for value in uniques]
    return list(uniques) if uniques.dtype.kind in "Mm" else uniques.tolist()


def _in_double(array: NDArray[Any]) -> bool:
    """Tell whether numbers of more digits than a double has are doubles all the same."""
    present = array[~np.isnan(array)]
    return bool(np.all(present.astype(np.float64) == present))


def _decimal(value: Any) -> Any:
    """A number of more digits than a double as int where it is whole, else as a decimal."""
    import decimal

    exact = decimal.Decimal(np.format_float_positional(value, trim="0"))
    return int(exact) if exact == exact.to_integral_value() else exact


def _missing_values(array: NDArray[Any]) -> NDArray[np.bool_]:
    if array.dtype.kind == "f":
        return np.asarray(np.isnan(array))
    if array.dtype.kind in "Mm":
        return np.asarray(np.isnat(array))
    return np.zeros(len(array), dtype=bool)


def codes_of_objects(name: str, array: NDArray[Any], kind: str) -> Codes:
    """Codes of Python objects, the levels sorted."""
    if kind == "boolean":
        missing = missing_objects(array)
        return np.where(missing, -1, array == True).astype(np.int32), [False, True]  # noqa: E712
    pandas = sys.modules.get("pandas")
    try:
        if pandas is not None:
            raw, uniques = pandas.factorize(array)
            return sorted_codes(name, raw, list(uniques))
        lookup: dict[Any, int] = {}
        raw = np.fromiter(
            (-1 if is_missing(v) else lookup.setdefault(v, len(lookup)) for v in array),
            dtype=np.int32,
            count=len(array),
        )
    except TypeError:
        raise DataError(
            f"column {name!r} holds {_unhashable(array)}s, which are no levels; "
            "use text, numbers or dates"
        ) from None
    return sorted_codes(name, raw, list(lookup))


def _unhashable(array: NDArray[Any]) -> str:
    """Return the type of the first value that cannot be a level."""
    return next((type(v).__name__ for v in array if type(v).__hash__ is None), "mixed value")


def sorted_codes(name: str, raw: NDArray[Any], levels: list[Any]) -> Codes:
    """Renumber codes so that the levels are sorted."""
    try:
        order = sorted(range(len(levels)), key=levels.__getitem__)
    except TypeError:
        types = ", ".join(sorted({type(level).__name__ for level in levels}))
        raise DataError(
            f"column {name!r} mixes types ({types}), so its levels have no order; "
            "convert it to text or to one type"
        ) from None
    rank = np.empty(len(levels) + 1, dtype=np.int32)
    rank[order] = np.arange(len(levels), dtype=np.int32)
    rank[-1] = -1
    return rank[raw], [levels[i] for i in order]


def mixed_for_numbers(name: str, values: NDArray[Any]) -> str:
    """Say why a column of Python objects of several types is not a column of numbers."""
    wrong = [
        row
        for row, value in enumerate(values)
        if not is_missing(value) and not isinstance(value, (int, float, np.number))
    ]
    what = f"column {name!r} holds numbers and other values"
    if not wrong:
        return f"{what}; convert it to numbers"
    first = values[wrong[0]]
    rows = f"{len(wrong):,} such row{'s' * (len(wrong) > 1)}"
    return (
        f"{what}, the first {shortened(first)} in {row_text(wrong[0])} ({rows}); mark those as "
        "missing or correct them, and convert the column to numbers"
    )


def text_for_numbers(name: str, codes: NDArray[np.int32], levels: list[Any]) -> str:
    """Say why a column of text is not a column of numbers."""
    wrong = np.fromiter((not reads_as_number(v) for v in levels), dtype=bool, count=len(levels))
    rows = np.flatnonzero((codes >= 0) & np.append(wrong, False)[codes])
    what = f"column {name!r} holds text, not numbers"
    if len(rows) == 0:
        example = next((shortened(levels[c]) for c in codes.tolist() if c >= 0), "''")
        return f"{what}, though every value reads as one (such as {example}); convert it to numbers"
    first = levels[codes[rows[0]]]
    offending = f"the first is {shortened(first)} in {row_text(rows[0])}"
    look = look_of(first)
    if look is not None and all(look_of(v) is not None for v in levels):
        return f"{what}; {offending}, a {look}. Convert the column"
    units = {unit_of(v) for v in levels}
    if None not in units:
        shown = " or ".join(repr(unit) for unit in sorted(map(str, units))[:3])
        return f"{what}; {offending}. Take the unit ({shown}) away and convert the column"
    if wrong.all():
        two = two_numbers(first)
        return f"{what}; {offending}{'' if two is None else f'. {two}'}"
    return (
        f"{what}: most look like numbers, but {len(rows)} of {len(codes)} rows do not; "
        f"{offending}. Mark those as missing and convert the column"
        if len(rows) * 2 < len(codes)
        else f"{what}; {len(rows)} of {len(codes)} rows are no numbers, {offending}"
    )
