"""Pictures as SVG inside the page.

Colours become the page's custom properties (so that dark mode and print can
change them), text stays text in the page's own font, and names are prefixed,
since all pictures share one document.
"""

from __future__ import annotations

import io
import re
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

from ranef.display import canvas as style
from ranef.display.characters import visible, xml
from ranef.display.markup import Markup, element, text

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["figure"]

SVG = "http://www.w3.org/2000/svg"
XLINK = "http://www.w3.org/1999/xlink"

PROPERTIES = {
    style.INK: "var(--ink)",
    style.MUTED: "var(--muted)",
    style.GRID: "var(--line)",
    style.MARK: "var(--mark)",
    style.ACCENT: "var(--accent)",
    style.BAND: "var(--band)",
    "#ffffff": "var(--paper)",
}

_ONE_AT_A_TIME = threading.Lock()
"""matplotlib's settings are shared by all threads."""

_FONT = re.compile(r"font: (?:(\w+) )?([\d.]+)px [^;]*")


def figure(
    draw: Callable[[Figure], object],
    *,
    name: str,
    alt: str,
    caption: str,
    size: tuple[float, float] | None = None,
) -> Markup:
    """Return a ``<figure>`` with the picture that `draw` makes on an empty figure.

    Parameters
    ----------
    draw : callable
        Takes a matplotlib figure and draws on it.
    name : str
        Prefix of the names in the SVG, different for each picture of a page.
    alt : str
        The picture in words.
    caption : str
    size : tuple of float, optional
        Width and height in inches; else as `draw` sets them.
    """
    root = _parsed(draw, name, size)
    width = float(root.get("width", "460pt").removesuffix("pt"))
    _adapt(root, name)
    root.attrib = {
        "viewBox": root.get("viewBox", ""),
        "role": "img",
        "aria-label": visible(alt),
        "style": f"max-width: {1.36 * width:.0f}px",
    }
    drawing = ElementTree.tostring(root, encoding="unicode", short_empty_elements=False)
    drawing = drawing.replace(f' xmlns="{SVG}"', "").replace(f' xmlns:xlink="{XLINK}"', "")
    return element("figure", Markup(drawing), element("figcaption", text(caption)))


def _parsed(
    draw: Callable[[Figure], object], name: str, size: tuple[float, float] | None
) -> ElementTree.Element:
    from matplotlib import rc_context
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    settings: Any = {"svg.fonttype": "none", "svg.hashsalt": name, "path.simplify": True}
    stream = io.StringIO()
    with _ONE_AT_A_TIME, rc_context(settings), _quiet_about_glyphs():
        canvas = Figure(layout="constrained", dpi=180)
        FigureCanvasSVG(canvas)
        draw(canvas)
        if size is not None:
            canvas.set_size_inches(*size)
        nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
        canvas.savefig(stream, format="svg", transparent=True, dpi=180, metadata=nothing)
    for prefix, space in (("", SVG), ("xlink", XLINK)):
        ElementTree.register_namespace(prefix, space)
    return ElementTree.fromstring(xml(stream.getvalue()))


@contextmanager
def _quiet_about_glyphs() -> Iterator[None]:
    """The browser has glyphs that matplotlib's own font lacks."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from", category=UserWarning)
        yield


def _adapt(root: ElementTree.Element, name: str) -> None:
    for parent in root.iter():
        for child in list(parent):
            if child.tag == f"{{{SVG}}}style":
                parent.remove(child)
    for node in root.iter():
        for key, value in list(node.attrib.items()):
            node.set(key, _attribute(key, value, name))


def _attribute(key: str, value: str, name: str) -> str:
    if key == "id":
        return f"{name}-{value}"
    if key in ("href", f"{{{XLINK}}}href") and value.startswith("#"):
        return f"#{name}-{value[1:]}"
    if key == "clip-path":
        return value.replace("url(#", f"url(#{name}-")
    if key == "style":
        for colour, variable in PROPERTIES.items():
            value = value.replace(colour, variable)
        return _FONT.sub(_sized, value)
    return value


def _sized(found: re.Match[str]) -> str:
    weight = f"font-weight: {found[1]}; " if found[1] else ""
    return f"{weight}font-size: {found[2]}px"
