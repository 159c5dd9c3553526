"""Text that was meant as numbers: refused wherever a column would become categories."""

from __future__ import annotations

import numpy as np

from ranef.design.values import Categories
from ranef.errors import DataError, row_text, shortened
from ranef.tables import Table, look_of, reads_as_number

__all__ = ["refuse_numbers_as_text", "refuse_text_column"]

HELD = {"percentage": "percentages", "date": "dates", "sum of money": "sums of money"}
COMPARED = "number with a sign of comparison"
CONVERSIONS = {
    "number with a dash for its sign": "convert it, with '-' for the dash",
    "number with its sign behind it or in brackets": "convert it, with '-' in front",
    COMPARED: ("values below or above a limit are known in part: put a number in their place"),
    "number in quotation marks": "convert it, without the marks",
    "sum of money": "convert it, without the sign of the currency",
    "percentage": "convert it, without the %",
    "date": "convert it; as.numeric() in the formula gives the days of dates, the seconds of times",
}


def refuse_numbers_as_text(name: str, value: Categories) -> None:
    """Refuse text that was meant as numbers or dates: most levels look like one of them."""
    codes, levels = value.codes, value.levels
    looks = [look_of(level) for level in levels]
    wrong = [level for level, look in zip(levels, looks, strict=True) if look is None]
    n_right = len(levels) - len(wrong)
    if wrong and n_right >= 5 and n_right >= 4 * len(wrong):
        row = int(np.flatnonzero(codes == levels.index(wrong[0]))[0])
        raise DataError(
            f"column {name!r} holds numbers as text, but {shortened(wrong[0])} in {row_text(row)} "
            f"is no number; mark it as missing and convert the column, or write factor({name}) "
            "for categories"
        )
    telling = [look for look in looks if look not in (None, "number")]
    if set(looks) <= {COMPARED, None}:  # bands such as "<65" and ">=65"
        return
    decimal = any("." in level for level in levels if reads_as_number(level))
    if wrong or not (telling or decimal):
        return
    look = telling[0] if telling else "number"
    held = HELD.get(str(look), "numbers")
    how = CONVERSIONS.get(str(look), "convert it")
    raise DataError(
        f"column {name!r} holds {held} as text (first {shortened(levels[codes[codes >= 0][0]])}); "
        f"{how}, or write factor({name}) for categories"
    )


def refuse_text_column(name: str, table: Table) -> None:
    """Refuse a column of text that was meant as numbers or dates; declared categories are such."""
    if name in table and table.kind(name) == "text":
        codes, levels = table.codes(name)
        refuse_numbers_as_text(name, Categories(codes, levels))
