"""A check as one HTML page."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from ranef.display.figures import figure
from ranef.display.files import write_page
from ranef.display.html import document
from ranef.display.markup import Markup, element, join, table

__all__ = ["check_html", "write_check"]


def check_html(check: Any, *, title: str | None = None) -> str:
    """Return a check as one HTML page.

    Examples
    --------
    >>> import ranef
    >>> fit = ranef.lmm("Yield ~ 1 + (1 | Batch)", ranef.data.load("Dyestuff"))
    >>> check_html(ranef.check(fit)).splitlines()[0]
    '<!DOCTYPE html>'
    """
    heading = check.title if title is None else title
    status = "proved" if check.healthy else "unproved"
    verdict = element("p", check.headline, class_=f"verdict {status}")
    return document(heading, [verdict], [_findings(check), _pictures(check)])


def write_check(check: Any, path: str | os.PathLike[str], *, title: str | None = None) -> Path:
    """Write a check to a file, whole or not at all.

    Examples
    --------
    >>> import tempfile, ranef
    >>> fit = ranef.lmm("Yield ~ 1 + (1 | Batch)", ranef.data.load("Dyestuff"))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_check(ranef.check(fit), f"{folder}/check.html").name
    'check.html'
    """
    return write_page(path, check_html(check, title=title))


def _findings(check: Any) -> Markup:
    parts = [
        element("h2", "Findings", id="findings-heading"),
        *map(table, check.by_verdict(("look", "note", "fine"))),
        *(element("p", line) for line in check.small_print),
    ]
    return element("section", join(parts, "\n"), id="findings", aria_labelledby="findings-heading")


def _pictures(check: Any) -> Markup:
    drawn = figure(
        lambda canvas: check.plot(figure=canvas),
        name="check",
        alt=check.plot_text(),
        caption="Dashed lines and bands show where points and lines lie if the model holds.",
        size=(10.8, 6.9),
    )
    heading = element("h2", "Pictures", id="pictures-heading")
    return element("section", heading, drawn, id="pictures", aria_labelledby="pictures-heading")
