"""Answers that show as words and tables."""

from __future__ import annotations

from abc import ABC, abstractmethod

from ranef.api.rendering import Page
from ranef.api.summary import Summary

__all__ = ["Shown"]


class Shown(ABC):
    """An answer with a page: prints as text, shows as HTML in notebooks."""

    @property
    @abstractmethod
    def page(self) -> Page:
        """The answer in words and tables."""

    def summary(self) -> Summary:
        """Return the answer in words and tables, as it prints."""
        return Summary(self.page)

    def __repr__(self) -> str:
        return self.page.text()

    def _repr_html_(self) -> str:
        return self.page.html()
