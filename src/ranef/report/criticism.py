"""A check as one HTML page."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from ranef import plots
from ranef.report.figures import figure
from ranef.report.files import write_atomically
from ranef.report.markup import Column, Markup, element, join, table
from ranef.report.numbers import p_value, significant
from ranef.report.page import document

__all__ = ["check_html", "findings_tables", "write_check"]

WORDS = {"look": "Needs a look", "note": "To know", "fine": "In order"}


class Checked(Protocol):
    """What the page reads of a check."""

    @property
    def findings(self) -> Sequence[Any]: ...
    @property
    def fit(self) -> Any: ...
    @property
    def residuals(self) -> Any: ...
    @property
    def left_out(self) -> Mapping[str, Any]: ...
    @property
    def headline(self) -> str: ...
    @property
    def small_print(self) -> tuple[str, ...]: ...
    @property
    def healthy(self) -> bool: ...


def check_html(check: Checked, *, title: str | None = None) -> str:
    """Return a check as one HTML page.

    Examples
    --------
    >>> import ranef
    >>> fit = ranef.lmm("Yield ~ 1 + (1 | Batch)", ranef.data.load("Dyestuff"))
    >>> check_html(ranef.check(fit)).splitlines()[0]
    '<!DOCTYPE html>'
    """
    heading = f"Check of {check.fit.formula}" if title is None else title
    status = "proved" if check.healthy else "unproved"
    verdict = element("p", check.headline, class_=f"verdict {status}")
    return document(heading, [verdict], [_findings(check), _pictures(check)])


def write_check(check: Checked, path: str | os.PathLike[str], *, title: str | None = None) -> Path:
    """Write a check to a file, whole or not at all.

    Examples
    --------
    >>> import tempfile, ranef
    >>> fit = ranef.lmm("Yield ~ 1 + (1 | Batch)", ranef.data.load("Dyestuff"))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_check(ranef.check(fit), f"{folder}/check.html").name
    'check.html'
    """
    return write_atomically(path, check_html(check, title=title))


def _findings(check: Checked) -> Markup:
    parts = [
        element("h2", "Findings", id="findings-heading"),
        *findings_tables(check, ("look", "note", "fine")),
        *(element("p", line) for line in check.small_print),
    ]
    return element("section", join(parts, "\n"), id="findings", aria_labelledby="findings-heading")


def findings_tables(check: Checked, verdicts: Sequence[str]) -> list[Markup]:
    """Return a table of the findings of each verdict that has any."""
    parts = []
    for verdict in verdicts:
        own = [f for f in check.findings if f.verdict == verdict]
        if not own:
            continue
        columns = [
            Column("Finding", [f.words for f in own], numeric=False),
            Column("Number", ["" if f.number != f.number else significant(f.number) for f in own]),
            Column("p", ["" if f.p_value != f.p_value else p_value(f.p_value) for f in own]),
        ]
        if verdict != "fine":
            columns.append(Column("What to do", [_advice(f) for f in own], numeric=False))
        parts.append(table(WORDS[verdict], Column("What", [f.what for f in own]), columns))
    return parts


def _advice(finding: Any) -> str:
    """What to do: mend the graver finding first that this one may follow from."""
    if not finding.after:
        return str(finding.advice)
    return f"May follow from {finding.after}: mend that first and check again."


def _pictures(check: Checked) -> Markup:
    drawn = figure(
        lambda canvas: plots.check_page(check, figure=canvas),
        name="check",
        alt=_alt(check),
        caption="Dashed lines and bands show where points and lines lie if the model holds.",
        size=(10.8, 6.9),
    )
    heading = element("h2", "Pictures", id="pictures-heading")
    return element("section", heading, drawn, id="pictures", aria_labelledby="pictures-heading")


def _alt(check: Checked) -> str:
    words = [
        "Six panels: residuals against fitted values, normal quantiles of residuals and of "
        "random effects, scaled residuals against the fit, influence, and size of residuals."
    ]
    words += [f.words for f in check.findings if f.verdict == "look"]
    return " ".join(words)
