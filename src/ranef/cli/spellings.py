"""One category in several spellings, and rows that a file holds twice."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from typing import Any

from ranef.tables.looks import look_alikes, plain_form

__all__ = ["copies", "in_one_spelling", "is_text", "spellings_note"]

MOST_COPIES = 0.05
"""Share of rows up to which copies are slips, and a column that tells all others apart a key."""
NAMED = 3


def in_one_spelling(column: Any) -> Any:
    """Give values that differ only by blanks, case or Unicode form their commonest spelling.

    Examples
    --------
    >>> import pandas as pd
    >>> in_one_spelling(pd.Series(["Ward A", "ward a ", "Ward A", None, "B"])).tolist()[:3]
    ['Ward A', 'Ward A', 'Ward A']
    """
    return column.map(_renamed(column), na_action="ignore").astype(column.dtype)


def spellings_note(column: Any, name: str) -> str | None:
    """Say how a column of text is brought to one spelling, where it has several.

    Examples
    --------
    >>> import pandas as pd
    >>> print(spellings_note(pd.Series(["Ward A", "ward a ", "Ward A", "B"]), "ward"))
    column 'ward' has 'ward a ' beside 'Ward A'; --unify ward makes them one
    """
    if not is_text(column):
        return None
    several = look_alikes(column.value_counts().index)
    if not several:
        return None
    usual, odd, *_ = several[0]
    extra = sum(len(values) - 1 for values in several) - 1
    more = f", and {extra:,} more" if extra else ""
    return (
        f"column {name!r} has {odd!r} beside {usual!r}{more}; --unify {shlex.quote(name)} makes "
        f"{'each' if extra else 'them'} one"
    )


def is_text(column: Any) -> bool:
    """Tell whether all values of a column are text."""
    import pandas as pd

    return (column.dtype == object or pd.api.types.is_string_dtype(column.dtype)) and all(
        isinstance(value, str) for value in column.dropna().unique()
    )


def _renamed(column: Any) -> dict[str, str]:
    """Each value, and the commonest spelling of its form without blanks around it."""
    counts = column.dropna().astype(str).str.strip().value_counts()
    best: dict[str, str] = {}
    for value in counts.index:
        best.setdefault(plain_form(value), value)
    return {value: best[plain_form(value)] for value in column.dropna().astype(str).unique()}


def copies(data: Any, place: Callable[[int], str] | None) -> str | None:
    """Say which rows repeat another in every column, an identifier among them.

    A column is one if it tells all rows apart but for these.

    Examples
    --------
    >>> import pandas as pd
    >>> cases = pd.DataFrame({"case": [*range(101, 130), 103], "ward": "A", "days": [2] * 30})
    >>> print(copies(cases, None))
    row 30 repeats an earlier row in every column, 'case' too; --distinct leaves it out
    """
    try:
        repeated = data.duplicated().to_numpy()
    except TypeError:
        return None
    if not repeated.any() or repeated.mean() > MOST_COPIES:
        return None
    once = data[~repeated]
    keys = [str(name) for name in once.columns if _is_key(once[name])]
    if not keys:
        return None
    rows = repeated.nonzero()[0].tolist()
    where = [f"row {row + 1}" if place is None else place(row) for row in rows[:NAMED]]
    more = f" and {len(rows) - NAMED:,} more" if len(rows) > NAMED else ""
    verb, it = ("repeats", "it") if len(rows) == 1 else ("repeat", "them")
    return (
        f"{', '.join(where)}{more} {verb} an earlier row in every column, {keys[0]!r} too; "
        f"--distinct leaves {it} out"
    )


def _is_key(column: Any) -> bool:
    """Tell whether whole numbers or texts differ in all rows."""
    import pandas as pd

    if pd.api.types.is_float_dtype(column.dtype) or column.isna().any():
        return False
    return bool(column.is_unique)
