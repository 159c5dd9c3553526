"""The answer of `check`: findings in words, on one page."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ranef import arguments
from ranef.display.answer import Answer, Part
from ranef.display.columns import Column, Listing, PValue, Written
from ranef.display.numbers import number, p_value, significant
from ranef.display.page import Paragraph
from ranef.questions.checks import html, page_picture
from ranef.questions.checks.findings import FINE, LOOK, NOTE, Finding
from ranef.questions.checks.influence import Influence
from ranef.questions.checks.simulated_residuals import SimulatedResiduals

__all__ = ["Check"]

CAPTIONS = {LOOK: "Needs a look", NOTE: "To know", FINE: "In order"}


@dataclass(frozen=True, eq=False, repr=False)
class Check(Answer):
    """A fit criticised; `check` makes it.

    Attributes
    ----------
    findings : tuple of Finding
        What needs a look first.
    fit : fit
    residuals : SimulatedResiduals or None
        None where the response has no rank.
    left_out : dict of Influence
        By grouping factor, one step from the estimate.
    alpha : float
    timed : bool
        Whether the order in time was looked at.

    Examples
    --------
    >>> import ranef
    >>> fit = ranef.glmm("cbind(incidence, size - incidence) ~ period + (1 | herd)",
    ...                  ranef.data.load("cbpp"), family="binomial")
    >>> ranef.check(fit).verdict
    'fine'
    """

    findings: tuple[Finding, ...]
    fit: Any
    residuals: SimulatedResiduals | None
    left_out: Mapping[str, Influence]
    alpha: float
    timed: bool

    @property
    def verdict(self) -> str:
        """The gravest: ``"look"``, ``"note"`` or ``"fine"``."""
        return self.findings[0].verdict if self.findings else FINE

    @property
    def healthy(self) -> bool:
        """True when nothing needs a look."""
        return self.verdict != LOOK

    @property
    def title(self) -> str:
        return f"Check of {self.fit.formula}"

    @property
    def library(self) -> str:
        return str(self.fit.frame.library)

    def of(self, verdict: str) -> tuple[Finding, ...]:
        """Return the findings with a verdict."""
        return tuple(f for f in self.findings if f.verdict == verdict)

    def tidy(self) -> Any:
        """Return ``what, verdict, words, number, p_value, advice``, one row a finding."""
        return super().tidy()

    def tables(self) -> tuple[Listing, ...]:
        return (_listing("findings", self.findings),)

    def by_verdict(self, verdicts: Sequence[str]) -> list[Listing]:
        """Return a table of the findings of each verdict that has any."""
        findings = {verdict: self.of(verdict) for verdict in verdicts}
        return [_listing(v, own, CAPTIONS[v], verdict=v) for v, own in findings.items() if own]

    def plot(self, *, figure: Any = None) -> NDArray[np.object_]:
        """Draw six pictures on one page.

        Residuals against fitted values, normal quantiles of residuals and of random
        effects, simulated residuals, influence, and size of residuals.

        Examples
        --------
        >>> import ranef
        >>> fit = ranef.lmm("Yield ~ 1 + (1 | Batch)", ranef.data.load("Dyestuff"))
        >>> len(ranef.check(fit).plot())
        6
        """
        return page_picture.check_page(self, figure=figure)

    def plot_text(self) -> str:
        """Describe the pictures."""
        return str(page_picture.check_page_text(self))

    def save(self, path: str | PathLike[str], *, title: str | None = None) -> Path:
        """Write the check as one HTML page that needs nothing else.

        Examples
        --------
        >>> import ranef, tempfile
        >>> fit = ranef.lmm("Yield ~ 1 + (1 | Batch)", ranef.data.load("Dyestuff"))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     ranef.check(fit).save(f"{folder}/check.html").name
        'check.html'
        """
        return html.write_check(self, arguments.path(path), title=title)

    @property
    def headline(self) -> str:
        """The answer in one sentence."""
        looks = len(self.of(LOOK))
        if looks == 0:
            return "No evidence against the model was found."
        return f"{looks} {'thing needs' if looks == 1 else 'things need'} a look."

    @property
    def calm_line(self) -> str:
        """What was found in order, in one sentence."""
        fine = [f.what for f in self.of(FINE)]
        return f"No problem found with: {', '.join(fine)}." if fine else ""

    @property
    def follow_line(self) -> str:
        """What may follow from a graver finding, in one sentence."""
        by_root: dict[str, list[str]] = {}
        for f in self.findings:
            if f.after:
                by_root.setdefault(f.after, []).append(f.what)
        said = [f"from {root}: {', '.join(whats)}" for root, whats in by_root.items()]
        if not said:
            return ""
        return f"Also seen, but may follow {'; '.join(said)}. Fix that first and check again."

    @property
    def small_print(self) -> tuple[str, ...]:
        """How it was judged, and what was not looked at."""
        tests = sum(np.isfinite(f.p_value) for f in self.findings)
        lines = [
            f"{tests} tests, judged together: {100 * (1 - self.alpha):g}% of correct models pass "
            "them all."
        ]
        missing = [] if self.timed else ["order in time (time=)"]
        if self.residuals is None:
            missing.insert(0, "residuals, since the responses have no rank")
        if missing:
            lines.append(f"Not looked at: {'; '.join(missing)}.")
        return tuple(lines)

    def body(self) -> Iterable[Part]:
        notes = [f for f in self.of(NOTE) if not f.after]
        findings = [_lines(f) for f in (*self.of(LOOK), *notes)]
        lines = [(line,) for line in (self.follow_line, self.calm_line) if line]
        return map(Paragraph, [(self.headline,), *findings, *lines, self.small_print])


def _figure(value: float) -> str:
    """A count as such, anything else with four digits."""
    return number(value, 0) if float(value).is_integer() else significant(value)


FIGURE = Written(_figure)


def _listing(
    name: str, findings: Sequence[Finding], caption: str = "", verdict: str | None = None
) -> Listing:
    """State findings as a table, of one verdict where the caption says which."""
    columns = (
        Column("what", [f.what for f in findings], heading="What"),
        Column("verdict", [f.verdict for f in findings], printed=verdict is None),
        Column("words", [f.words for f in findings], heading="Finding"),
        Column("number", np.array([f.number for f in findings]), FIGURE, "Number"),
        Column("p_value", np.array([f.p_value for f in findings]), PValue(), "p"),
        Column("advice", [f.advice for f in findings], printed=False),
        Column(
            "follow", [f.what_to_do for f in findings], heading="What to do", tabled=False,
            printed=verdict != FINE,
        ),
    )  # fmt: skip
    return Listing(name, columns, caption)


def _lines(finding: Finding) -> tuple[str, ...]:
    numbers = [] if np.isnan(finding.number) else [number(finding.number, 2)]
    numbers += [] if np.isnan(finding.p_value) else [f"p {p_value(finding.p_value)}"]
    brackets = f" [{', '.join(numbers)}]" if numbers else ""
    first = f"{finding.verdict.upper()}: {finding.what}{brackets}"
    return tuple(line for line in (first, finding.words, finding.advice) if line)
