"""`check`: the fit criticised on one page."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from numbers import Real
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ranef import arguments
from ranef.display.answer import Answer, Part
from ranef.display.columns import Column, Listing, PValue, Significant
from ranef.display.numbers import number, p_value
from ranef.display.page import Paragraph
from ranef.errors import ModelError
from ranef.fits.columns import groups_of
from ranef.fits.mixed import MixedFit
from ranef.fits.protocol import Generative, Likelihood, Refittable, require
from ranef.inference.draws.posterior_draw import PosteriorDraw
from ranef.inference.effects import linearised
from ranef.questions.checks import html, page_picture, simulated_numbers
from ranef.questions.checks.criteria import CRITERIA
from ranef.questions.checks.findings import FINE, LOOK, NOTE, Case, Finding, judged
from ranef.questions.checks.influence import Influence, influence
from ranef.questions.checks.simulated_residuals import SimulatedResiduals

__all__ = ["Check", "check"]

MOST_DRAWS, FEWEST_DRAWS = 1000, 99
CELLS = 20_000_000
MOST_WORK = 20_000_000
UNRANKED = ("multinomial", "censored")
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
    fit: MixedFit
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
        return self.fit.frame.library

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
            return "Nothing found that speaks against the model."
        return f"{looks} {'thing needs' if looks == 1 else 'things need'} a look."

    @property
    def calm_line(self) -> str:
        """What was found in order, in one sentence."""
        fine = [f.what for f in self.of(FINE)]
        return f"In order: {', '.join(fine)}." if fine else ""

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


def _listing(
    name: str, findings: Sequence[Finding], caption: str = "", verdict: str | None = None
) -> Listing:
    """State findings as a table, of one verdict where the caption says which."""
    columns = (
        Column("what", [f.what for f in findings], heading="What"),
        Column("verdict", [f.verdict for f in findings], printed=verdict is None),
        Column("words", [f.words for f in findings], heading="Finding"),
        Column("number", np.array([f.number for f in findings]), Significant(), "Number"),
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


def check(
    fit: Any,
    *,
    time: Any = None,
    by: Any = None,
    n: int | None = None,
    influence: bool = True,
    alpha: float = 0.05,
    rng: Any = 0,
) -> Check:
    """Criticise a fit on one page.

    Looks at the optimum, singularity, separation and the Laplace approximation; at the
    distribution of the responses by simulation (dispersion, zeros, outliers, normality);
    at residuals and their spread against the fit, predictors, groups and time; at the
    random effects' distribution; at slopes that differ within and between groups,
    collinearity, few levels, and single levels that carry the result. What is in order is
    listed in one line.

    Parameters
    ----------
    fit : a fit of ranef
    time : str or column, optional
        When the rows were observed: a column that the formulas use, or one value a row.
    by : str or column, optional
        The groups within which time runs.
    n : int, optional
        Draws for each row; 1000, fewer for many rows.
    influence : bool
        Whether to leave out each level in turn.
    alpha : float
        Probability at most that the page of a correct model needs a look, all tests
        together.
    rng : int or numpy.random.Generator
        The same gives the same page.

    Returns
    -------
    Check

    Notes
    -----
    Residuals are taken at one draw of the random effects given the data (see
    `simulated_residuals`), so that they are independent if the model holds. Each test
    must be below alpha over the number of tests, and its effect large enough to matter.

    Examples
    --------
    >>> import ranef
    >>> salamanders = ranef.data.load("Salamanders")
    >>> fit = ranef.glmm("count ~ mined + (1 | site)", salamanders, family="poisson")
    >>> print(ranef.check(fit).headline)
    1 thing needs a look.
    >>> better = ranef.glmm("count ~ mined + spp + (1 | site)", salamanders, family="nbinom2")
    >>> print(ranef.check(better).headline)
    Nothing found that speaks against the model.
    """
    fit = require(fit, "check()", Likelihood, Generative, Refittable)
    if fit.family.name == "multinomial":
        raise ModelError(
            "a multinomial response has categories without an order: no residuals, and a "
            "coefficient for each category; check the binomial models of pairs of categories"
        )
    if isinstance(alpha, bool) or not isinstance(alpha, Real) or not 0 < alpha < 1:
        raise ModelError(f"alpha must be a number between 0 and 1, such as 0.05, not {alpha!r}")
    if by is not None:
        groups_of(fit, by)
    generator = arguments.generator(rng)
    residuals, draw = _residuals(fit, n, generator)
    left_out = _left_out(fit) if arguments.flag("influence", influence) else {}
    case = Case(fit, residuals, draw, left_out, time, by, generator)
    candidates = [c for criterion in CRITERIA for c in criterion(case)]
    findings = judged(candidates, float(alpha))
    return Check(findings, fit, residuals, left_out, float(alpha), time is not None)


def _residuals(
    fit: MixedFit, n: int | None, rng: np.random.Generator
) -> tuple[SimulatedResiduals | None, PosteriorDraw | None]:
    """Residuals at one draw given the data, and that draw."""
    if fit.family.name in UNRANKED:
        return None, None
    rows = max(fit.n_obs, 1)
    draws = int(np.clip(CELLS // rows, FEWEST_DRAWS, MOST_DRAWS)) if n is None else n
    draw = fit.inference.posterior_draw(rng)
    simulated = simulated_numbers.simulated(
        fit.inference, arguments.count("n", draws), "posterior", rng, draw
    )
    return SimulatedResiduals(simulated, fit, "posterior", None, None), draw


def _left_out(fit: MixedFit) -> dict[str, Influence]:
    """Leave out each level of every factor with enough of them, one step from the estimate."""
    spec = fit.estimate.specification
    out: dict[str, Influence] = {}
    if linearised.is_constrained(fit.estimate):
        return out
    for factor in spec.factors:
        if not 3 <= factor.n_levels < fit.n_obs:
            continue
        cheap = factor.n_levels * fit.n_obs <= MOST_WORK or len(spec.factors) == 1
        if cheap and all(term.kernel is None for term in spec.terms):
            out[factor.name] = influence(fit, by=factor.name, method="one-step", progress=False)
    return out
