"""Answers of fits in which the data do not determine every parameter."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import is_dataclass
from functools import wraps
from typing import Any, TypeVar, cast

from ranef.inference.undetermined import masked
from ranef.tables import Table, make_table

__all__ = ["where_determined"]

Question = TypeVar("Question", bound=Callable[..., Any])


def where_determined(question: Question) -> Question:
    """Ask an equally good fit as well, where there is one, and keep what both say.

    The numbers about which they differ become NaN.
    """

    @wraps(question)
    def ask(fit: Any, *args: Any, **more: Any) -> Any:
        answer = question(fit, *args, **more)
        other = getattr(fit, "equally_good", None)
        if other is None:
            return answer
        return _masked(answer, question(other, *args, **more))

    return cast(Question, ask)


def _masked(one: Any, other: Any) -> Any:
    if is_dataclass(one) or not hasattr(one, "columns"):
        return masked(one, other)
    first, second = Table.of(one), Table.of(other)
    columns = {name: masked(first.values(name), second.values(name)) for name in first.columns}
    return make_table(columns, first.library)
