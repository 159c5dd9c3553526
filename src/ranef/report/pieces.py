"""Pieces that the pages of several fields are made of."""

from __future__ import annotations

from collections.abc import Iterable
from types import ModuleType
from typing import Any

from ranef.display.figures import figure
from ranef.display.leaving import or_why
from ranef.display.markup import Markup, element, join

__all__ = ["drawn", "facts_of", "paragraphs"]


def facts_of(entries: Iterable[tuple[str, Any]]) -> Markup:
    """Return what a reader asks first: names and values."""
    pairs = (element("div", element("dt", name), element("dd", value)) for name, value in entries)
    return element("dl", *pairs, class_="facts")


def paragraphs(*lines: str) -> Markup:
    """Return sentences, a paragraph each."""
    return join([element("p", line) for line in lines])


def drawn(pictures: ModuleType, name: str, about: Any, field: str, caption: str) -> Markup:
    """Return a picture ``pictures.NAME`` with the words of ``pictures.NAME_text``, or why not."""
    draw, told = getattr(pictures, name), getattr(pictures, f"{name}_text")
    return or_why(
        name.capitalize(),
        lambda: figure(
            lambda canvas: draw(about, figure=canvas),
            name=f"{field}-{name}",
            alt=told(about),
            caption=caption,
        ),
    )
