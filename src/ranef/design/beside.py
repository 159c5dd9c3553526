"""What a model reads of its table beside the formulas."""

from __future__ import annotations

from typing import Protocol

from ranef.design.variables import Frame

__all__ = ["Beside"]


class Beside(Protocol):
    """Columns that a model reads beside those of its formulas."""

    @property
    def columns(self) -> tuple[str, ...]:
        """Their names, for which a dot in a formula does not stand."""

    def note(self, frame: Frame) -> None:
        """Evaluate them in all rows, and note where they are missing."""

    def take(self, frame: Frame) -> None:
        """Take them in the rows that are used."""
