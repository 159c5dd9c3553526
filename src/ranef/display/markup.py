"""HTML from text: escaping, elements, tables.

`Markup` marks what is HTML already; every other value is text and is escaped
on its way in, so that a label can never become markup.
"""

from __future__ import annotations

import html as _html
from collections.abc import Iterable

from ranef.display.characters import visible
from ranef.display.columns import Listing
from ranef.display.numbers import ABSENT

__all__ = ["Markup", "element", "join", "table", "text", "wide_equation"]


class Markup(str):
    """HTML that is safe to put into a page."""

    __slots__ = ()


def text(value: object) -> Markup:
    """Escape a value for an element's content or a quoted attribute.

    Characters that cannot be seen, or that HTML does not allow, are replaced.

    Examples
    --------
    >>> text('<b> & "q"')
    '&lt;b&gt; &amp; &quot;q&quot;'
    >>> text(Markup("<b>bold</b>"))
    '<b>bold</b>'
    """
    if isinstance(value, Markup):
        return value
    return Markup(_html.escape(visible(str(value), lines=True), quote=True))


def join(parts: Iterable[object], between: str = "") -> Markup:
    """Join values, escaping those that are text."""
    return Markup(between.join(text(part) for part in parts))


def element(name: str, *content: object, **attributes: object) -> Markup:
    """Return ``<name ...>content</name>``.

    A trailing underscore of an attribute's name is dropped and the others
    become hyphens.

    Examples
    --------
    >>> element("p", "a < b", class_="note")
    '<p class="note">a &lt; b</p>'
    """
    written = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{text(value)}"'
        for key, value in attributes.items()
        if value is not None
    )
    return Markup(f"<{name}{written}>{join(content)}</{name}>")


WORDS = {
    "estimate": "Estimate",
    "std_error": "Standard error",
    "group": "Group",
    "parameter": "Parameter",
}
"""Headings of a page for the names that columns have in text."""


def _heading(text: str, class_: str | None) -> Markup:
    """Return the head of a column; of one without a name an empty cell."""
    return element("th", text, scope="col", class_=class_) if text else element("td")


def wide_equation(mathml: Markup, name: str) -> Markup:
    """Return an equation that scrolls where it is wide, by the keyboard too."""
    return element("div", mathml, class_="equation", tabindex="0", role="region", aria_label=name)


def table(listing: Listing, **attributes: object) -> Markup:
    """Return a table with a caption, column headers and row headers.

    Examples
    --------
    >>> from ranef.display.columns import Column, Fixed
    >>> columns = (Column("Group", ["Subject"]), Column("SD", [24.74], Fixed(2)))
    >>> print(table(Listing("sd", columns, "Spread")))  # doctest: +ELLIPSIS
    <div class="wide" ...><caption>Spread</caption>...<td class="n">24.74</td></tr></tbody>...
    """
    columns = listing.printed
    classes = ["n" if c.style.numeric else None for c in columns]
    written = [c.typeset for c in columns]
    head = [
        _heading(WORDS.get(head, head) or c.name.capitalize(), class_)
        for c, head, class_ in zip(columns, listing.header, classes, strict=True)
    ]
    lines = []
    for first, *others in zip(*written, strict=True):
        cells = [element("td", cell, class_=c) for cell, c in zip(others, classes[1:], strict=True)]
        lines.append(element("tr", element("th", first or ABSENT, scope="row"), *cells))
    inside = element(
        "table",
        element("caption", listing.caption),
        element("thead", element("tr", *head)),
        element("tbody", *lines),
        **attributes,
    )
    name = f"Table: {listing.caption}"
    return element("div", inside, class_="wide", tabindex="0", role="region", aria_label=name)
