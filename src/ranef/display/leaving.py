"""What a page leaves out, and how it says so."""

from __future__ import annotations

from collections.abc import Callable

from ranef.display.markup import Markup, element
from ranef.errors import RanefError

__all__ = ["left_out", "or_why"]


def left_out(what: str, why: str) -> Markup:
    """Say what is not on the page, and the reason.

    Examples
    --------
    >>> left_out("The ranks", "there are 5,000 levels")
    '<p class="left-out">The ranks are left out, since there are 5,000 levels.</p>'
    """
    return element("p", f"{what} are left out, since {why.rstrip('.')}.", class_="left-out")


def or_why(what: str, make: Callable[[], Markup]) -> Markup:
    """Return what `make` makes; where the fit refuses the question, its reason."""
    try:
        return make()
    except RanefError as refusal:
        text = " ".join(str(refusal).split()).rstrip(".")
        return element("p", f"{what} are left out: {text}.", class_="left-out")
