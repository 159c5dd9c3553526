"""What a check found, as tables of a page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from ranef.display.columns import Column, Listing, PValue, Significant
from ranef.display.markup import Markup, table

__all__ = ["Checked", "findings_tables"]

WORDS = {"look": "Needs a look", "note": "To know", "fine": "In order"}


class Checked(Protocol):
    """What the page reads of a check."""

    @property
    def findings(self) -> Sequence[Any]: ...
    @property
    def fit(self) -> Any: ...
    @property
    def residuals(self) -> Any: ...
    @property
    def left_out(self) -> Mapping[str, Any]: ...
    @property
    def headline(self) -> str: ...
    @property
    def small_print(self) -> tuple[str, ...]: ...
    @property
    def healthy(self) -> bool: ...


def findings_tables(check: Checked, verdicts: Sequence[str]) -> list[Markup]:
    """Return a table of the findings of each verdict that has any."""
    parts = []
    for verdict in verdicts:
        own = [f for f in check.findings if f.verdict == verdict]
        if not own:
            continue
        columns = [
            Column("What", [f.what for f in own]),
            Column("Finding", [f.words for f in own]),
            Column("Number", [_some(f.number) for f in own], Significant()),
            Column("p", [_some(f.p_value) for f in own], PValue()),
        ]
        if verdict != "fine":
            columns.append(Column("What to do", [_advice(f) for f in own]))
        parts.append(table(Listing(verdict, tuple(columns), WORDS[verdict])))
    return parts


def _some(value: float) -> float | None:
    """The value, or None where there is none."""
    return None if value != value else value


def _advice(finding: Any) -> str:
    """What to do: mend the graver finding first that this one may follow from."""
    if not finding.after:
        return str(finding.advice)
    return f"May follow from {finding.after}: mend that first and check again."
