"""Answers that show as words and tables."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

from ranef.display.page import Page

pass

__all__ = ["Shown", "Summary"]


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


@dataclass(frozen=True)
class Summary:
    """A fit in words and tables; prints as text, shows as HTML in notebooks.

    Examples
    --------
    >>> import ranef
    >>> fit = ranef.lmm("Yield ~ 1 + (1 | Batch)", ranef.data.load("Dyestuff"))
    >>> print(fit.summary().page.title)
    Linear mixed model by REML: Yield ~ 1 + (1 | Batch)
    """

    page: Page

    def __str__(self) -> str:
        return self.page.text()

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return self.page.html()
