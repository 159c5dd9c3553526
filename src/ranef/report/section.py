"""What a section of the report is: its name in links, its heading, when it applies, its content."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ranef.display.canvas import percent
from ranef.display.markup import Markup

__all__ = ["Options", "Section"]


@dataclass(frozen=True)
class Options:
    """How a report was asked for.

    Attributes
    ----------
    conf_level : float
    call : str or None
        The command that made the fit.
    df : str or None
        Method of the degrees of freedom.
    """

    conf_level: float = 0.95
    call: str | None = None
    df: str | None = None

    @property
    def level(self) -> str:
        """The confidence level in print."""
        return percent(self.conf_level)


def always(fit: Any) -> bool:
    """A section of every fit."""
    return True


@dataclass(frozen=True)
class Section:
    """A part of the page.

    Attributes
    ----------
    name : str
        In links.
    heading : str
    content : callable
        (fit, options) -> the section's markup.
    applies : callable
        fit -> whether the fit has what the section shows.
    formulas : bool
        Whether it is of fits of formulas alone.
    """

    name: str
    heading: str
    content: Callable[[Any, Options], Markup]
    applies: Callable[[Any], bool] = always
    formulas: bool = True

    def shows(self, fit: Any) -> bool:
        """Tell whether the section is one of the fit's."""
        return (not self.formulas or bool(fit.parts)) and self.applies(fit)
