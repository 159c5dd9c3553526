"""The page: head, facts, sections, foot."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ranef.display.files import write_page
from ranef.display.html import document
from ranef.display.markup import Markup, element, join
from ranef.fits.fit import Fit
from ranef.report.model import facts
from ranef.report.section import Options, Section
from ranef.report.sections import SECTIONS

__all__ = ["composed", "html", "write"]


def html(
    fit: Fit,
    *,
    title: str | None = None,
    conf_level: float = 0.95,
    call: str | None = None,
    df: str | None = None,
) -> str:
    """Return the report of a fit as one HTML page.

    Parameters
    ----------
    fit : a fit of ranef
    title : str, optional
        Heading of the page; the response by default.
    conf_level : float
        Level of all intervals on the page.
    call : str, optional
        The command that made the fit, shown under "How to reproduce".
    df : str, optional
        Method of the degrees of freedom, as in ``fit.tidy``.

    Examples
    --------
    >>> import ranef
    >>> fit = ranef.lmm("Reaction ~ Days + (Days | Subject)", ranef.data.load("sleepstudy"))
    >>> html(fit).splitlines()[0]
    '<!DOCTYPE html>'
    """
    how = Options(conf_level, call, df)
    heading = fit.description.heading if title is None else title
    sections = [(section, fit) for section in SECTIONS if section.shows(fit)]
    return composed(heading, [facts(fit)], sections, how)


def composed(
    heading: str, front: Sequence[Markup], sections: Sequence[tuple[Section, Any]], how: Options
) -> str:
    """Return a page of sections, each with what it is about.

    Parameters
    ----------
    heading : str
    front : sequence of Markup
        What stands before the contents.
    sections : sequence of (Section, object)
    how : Options
    """
    contents = [_section(section, section.content(about, how)) for section, about in sections]
    links = _contents([section for section, _ in sections])
    return document(heading, [*front, links], contents)


def write(
    fit: Fit,
    path: str | os.PathLike[str],
    *,
    title: str | None = None,
    conf_level: float = 0.95,
    call: str | None = None,
    df: str | None = None,
) -> Path:
    """Write the report of a fit to a file, whole or not at all.

    Parameters
    ----------
    fit : a fit of ranef
    path : path-like
        An existing file is replaced.
    title, conf_level, call, df
        See `html`.

    Returns
    -------
    pathlib.Path

    Examples
    --------
    >>> import tempfile, ranef
    >>> fit = ranef.lmm("Reaction ~ Days + (Days | Subject)", ranef.data.load("sleepstudy"))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write(fit, f"{folder}/sleep.html").name
    'sleep.html'
    """
    return write_page(path, html(fit, title=title, conf_level=conf_level, call=call, df=df))


def _contents(sections: list[Section]) -> Markup:
    links = [element("li", element("a", s.heading, href=f"#{s.name}")) for s in sections]
    return element("nav", element("ul", *links), aria_label="Contents")


def _section(section: Section, content: Markup) -> Markup:
    name = f"{section.name}-heading"
    heading = element("h2", section.heading, id=name)
    inside = join([heading, content], "\n")
    return element("section", inside, id=section.name, aria_labelledby=name)
