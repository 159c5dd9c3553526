"""The order of the levels of a column of text: as asked, or as a reader would count."""

from __future__ import annotations

from typing import Any

from ranef.cli.spellings import is_text
from ranef.errors import DataError, suggestion

__all__ = ["in_order", "natural_order_note"]

MOST = 50


def in_order(column: Any, name: str, levels: tuple[str, ...]) -> Any:
    """Return a column as categories in the order asked for.

    Raises
    ------
    ranef.errors.DataError
        The column holds a level that is not named, or not one of those that are.
    """
    import pandas as pd

    text = column.astype("object").where(column.isna(), column.astype(str))
    present = [str(value) for value in pd.unique(text.dropna())]
    for level in levels:
        if level not in present:
            raise DataError(
                f"--levels {name}: the column has no {level!r}{suggestion(level, present)}"
            )
    missing = [value for value in present if value not in levels]
    if missing:
        named = ", ".join(repr(value) for value in missing[:10])
        raise DataError(
            f"--levels {name} leaves out {named}: name every level, or mark it as missing by --na"
        )
    return pd.Series(pd.Categorical(text, categories=list(levels)), index=column.index)


def natural_order_note(column: Any, name: str) -> str | None:
    """Suggest the order of numbers where that of the alphabet is another one.

    Examples
    --------
    >>> import pandas as pd
    >>> natural_order_note(pd.Series(["Week 4", "Week 12"]), "visit")
    "the levels of visit are ordered Week 12, Week 4; --levels 'visit=Week 4,Week 12' counts them"
    """
    import pandas as pd

    from ranef.tables.calendar import calendar_order
    from ranef.tables.looks import natural_order

    if not is_text(column):
        return None
    found = pd.unique(column.dropna())
    if not 2 <= len(found) <= MOST:
        return None
    counted, dated = natural_order(found), calendar_order(found)
    natural = dated if counted is None else counted
    if natural is None or any("," in value for value in found):
        return None
    does = "counts them" if counted is not None else "orders them as the calendar does"
    return (
        f"the levels of {name} are ordered {', '.join(sorted(found))}; "
        f"--levels '{name}={','.join(natural)}' {does}"
    )
