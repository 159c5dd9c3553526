"""A whole page of HTML: head, header, main, foot."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from importlib.resources import files

from ranef._version import __version__
from ranef.display.markup import Markup, element

__all__ = ["document"]


def document(heading: str, header: Sequence[Markup], main: Sequence[Markup]) -> str:
    """Return a whole page, with what its header holds below the heading."""
    head = element(
        "head",
        Markup('<meta charset="utf-8">\n'),
        Markup('<meta name="viewport" content="width=device-width, initial-scale=1">\n'),
        Markup(f'<meta name="generator" content="ranef {__version__}">\n'),
        element("title", heading),
        element("style", Markup(files("ranef.display").joinpath("page.css").read_text("utf-8"))),
    )
    body = element(
        "body",
        element("header", element("h1", heading), *header),
        element("main", *main),
        element("footer", element("p", f"Made with ranef {__version__}.")),
    )
    return f"<!DOCTYPE html>\n{element('html', head, _told_apart(body), lang='en')}\n"


def _told_apart(body: Markup) -> Markup:
    """Number regions of one name, which a reader of the page's landmarks could not tell apart."""
    seen: Counter[str] = Counter()

    def numbered(found: re.Match[str]) -> str:
        name = found[1]
        seen[name] += 1
        return (
            f'role="region" aria-label="{name}"'
            if seen[name] == 1
            else (f'role="region" aria-label="{name} ({seen[name]})"')
        )

    return Markup(re.sub(r'role="region" aria-label="([^"]*)"', numbered, body))
