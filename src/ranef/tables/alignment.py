"""Row labels: values handed over beside a table belong to its rows by label, not by place."""

from __future__ import annotations

import sys
from typing import Any

from ranef.errors import DataError

__all__ = ["aligned", "common_labels"]


def aligned(values: Any, labels: Any, what: str, *parts: Any) -> Any:
    """Bring labelled values into the order of a table's rows.

    Parameters
    ----------
    values : any
        What was handed over. A pandas Series or DataFrame has row labels; anything else has
        none, goes by position, and is returned as it is.
    labels : pandas index or None
        Of the table's rows; None where they have no labels, so that all goes by position.
    what : str
        The argument's name, for the message.
    *parts : pandas index or None
        Labels of other sets of rows that the values may belong to, tried in turn.

    Raises
    ------
    DataError
        When the values have other labels than the rows, or a label stands there twice.

    Examples
    --------
    >>> import pandas as pd
    >>> rows = pd.Index([3, 1, 2])
    >>> aligned(pd.Series([10.0, 20.0, 30.0], index=[1, 2, 3]), rows, "weights").tolist()
    [30.0, 10.0, 20.0]
    >>> aligned([10.0, 20.0, 30.0], rows, "weights")
    [10.0, 20.0, 30.0]
    """
    pandas = sys.modules.get("pandas")
    if pandas is None or not isinstance(values, (pandas.Series, pandas.DataFrame)):
        return values
    known = [index for index in (labels, *parts) if index is not None]
    if not known or any(values.index.equals(index) for index in known):
        return values
    if values.index.is_unique:
        for index in known:
            if len(index) and index.isin(values.index).all():
                return values.reindex(index)
    raise DataError(_refusal(values.index, known[0], what))


def _refusal(own: Any, labels: Any, what: str) -> str:
    if not own.is_unique:
        reason = f"the label {own[own.duplicated()][0]!r} stands there more than once"
    else:
        lacking = labels[~labels.isin(own)]
        reason = f"it has none for the row {lacking[0]!r}"
        if len(lacking) > 1:
            reason += f" and {len(lacking) - 1:,} others"
    return (
        f"{what} has other row labels than the table, and {reason}: give it the table's index, or "
        f"pass {what}.to_numpy() if its values stand in the order of the rows"
    )


def common_labels(columns: dict[str, Any]) -> Any:
    """Return the index that all pandas Series among some columns have; None without any.

    Raises
    ------
    DataError
        When two of them differ, so that their values belong to different rows.
    """
    pandas = sys.modules.get("pandas")
    if pandas is None:
        return None
    series = {name: c for name, c in columns.items() if isinstance(c, pandas.Series)}
    if not series:
        return None
    first = next(iter(series))
    for name, column in series.items():
        if not column.index.equals(series[first].index):
            raise DataError(
                f"the columns {first!r} and {name!r} are Series with different row labels; make a "
                "pandas.DataFrame of them, which brings rows together by label, or pass "
                f"{name}.to_numpy() to go by position"
            )
    return series[first].index
