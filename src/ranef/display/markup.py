"""HTML from text: escaping, elements, tables.

`Markup` marks what is HTML already; every other value is text and is escaped
on its way in, so that a label can never become markup.
"""

from __future__ import annotations

import html as _html
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

__all__ = ["Column", "Markup", "element", "join", "table", "text"]


class Markup(str):
    """HTML that is safe to put into a page."""

    __slots__ = ()


def text(value: object) -> Markup:
    """Escape a value for an element's content or a quoted attribute.

    Control characters, which HTML does not allow, are left out.

    Examples
    --------
    >>> text('<b> & "q"')
    '&lt;b&gt; &amp; &quot;q&quot;'
    >>> text(Markup("<b>bold</b>"))
    '<b>bold</b>'
    """
    if isinstance(value, Markup):
        return value
    kept = (c for c in str(value) if c in "\n\t" or unicodedata.category(c) not in ("Cc", "Cs"))
    return Markup(_html.escape("".join(kept), quote=True))


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


@dataclass(frozen=True)
class Column:
    """One column of a table: its header and one cell a row."""

    header: object
    cells: Sequence[object]
    numeric: bool = True


def table(caption: object, rows: Column, columns: Sequence[Column], **attributes: object) -> Markup:
    """Return a table with a caption, column headers and row headers."""
    corner = element("th", rows.header, scope="col")
    head = [
        element("th", c.header, scope="col", class_="n" if c.numeric else None) for c in columns
    ]
    lines = []
    for i, name in enumerate(rows.cells):
        cells = [element("td", c.cells[i], class_=_class(c)) for c in columns]
        lines.append(element("tr", element("th", name, scope="row"), *cells))
    inside = element(
        "table",
        element("caption", caption),
        element("thead", element("tr", corner, *head)),
        element("tbody", *lines),
        **attributes,
    )
    return element("div", inside, class_="wide", tabindex="0", role="region", aria_label=caption)


def _class(column: Column) -> str | None:
    return "n" if column.numeric else None
