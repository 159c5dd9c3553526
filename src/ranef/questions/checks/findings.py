"""Findings of a check, and how they are judged.

A `Candidate` holds the words for both outcomes. Those with a p-value are judged together
(`judged`): with m tests each has to be below alpha / m, and its effect large enough to
matter, so that correct models pass all of them with probability 1 - alpha or more.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ranef.fits.mixed import MixedFit
from ranef.inference.draws.posterior_draw import PosteriorDraw
from ranef.inference.undetermined import masked
from ranef.models.noise import whitened_residuals
from ranef.models.records import Estimate, LinearEstimate
from ranef.questions.checks import residual_tests
from ranef.questions.checks.influence import Influence
from ranef.questions.checks.simulated_residuals import SimulatedResiduals

__all__ = ["FINE", "LOOK", "NOTE", "Candidate", "Case", "Finding", "judged"]

Floats = NDArray[np.float64]

FINE, NOTE, LOOK = "fine", "note", "look"


@dataclass(frozen=True)
class Finding:
    """One row of a check.

    Attributes
    ----------
    what : str
        What was looked at.
    verdict : {"fine", "note", "look"}
        Nothing to see; something to know; something to act on.
    words : str
        The verdict in plain words.
    number : float
        The statistic; NaN where there is none.
    p_value : float
        NaN where it is no test.
    advice : str
        What to do; empty where there is nothing to do.
    after : str
        Another finding that this one may follow from: a note until that is mended.
    """

    what: str
    verdict: str
    words: str
    number: float
    p_value: float
    advice: str
    after: str = ""

    @property
    def what_to_do(self) -> str:
        """The advice; of what may follow from another finding, to mend that first."""
        if not self.after:
            return self.advice
        return f"May follow from {self.after}: mend that first and check again."


@dataclass(frozen=True)
class Candidate:
    """What was seen, with the words for both outcomes.

    Attributes
    ----------
    what : str
    calm, alarm, advice : str
    number, p_value : float
    matters : bool
        Whether the effect is large enough; of what is no test, whether it is there.
    verdict : str
        The verdict if it is.
    after : tuple of str
        Findings that would bring this one about.
    """

    what: str
    calm: str
    alarm: str
    advice: str
    number: float = float("nan")
    p_value: float = float("nan")
    matters: bool = False
    verdict: str = LOOK
    after: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class Case:
    """What the criteria share.

    Attributes
    ----------
    fit : fit
    residuals : SimulatedResiduals or None
        None where the response has no rank.
    draw : PosteriorDraw or None
        The draw of effects and coefficients that they rest on.
    left_out : dict of Influence
        By grouping factor.
    time, by : str, column or None
    rng : Generator
    """

    fit: MixedFit
    residuals: SimulatedResiduals | None
    draw: PosteriorDraw | None
    left_out: dict[str, Influence]
    time: Any
    by: Any
    rng: np.random.Generator

    @property
    def estimate(self) -> Estimate:
        return self.fit.estimate

    @cached_property
    def unknown_terms(self) -> frozenset[int]:
        """Random terms of whose covariance the data do not determine every entry."""
        other, own = self.fit.equally_good, self.estimate.covariances
        if other is None:
            return frozenset()
        both = masked(tuple(own), tuple(other.estimate.covariances))
        return frozenset(t for t, psi in enumerate(both) if np.isnan(psi).any())

    @property
    def normal(self) -> bool:
        """Whether residuals are normal with a standard deviation that is profiled out."""
        return self.estimate.sigma is not None

    @cached_property
    def scores(self) -> Floats:
        """Standardised residuals where they are normal, else their normal scores."""
        assert self.residuals is not None
        if self.draw is None or self.draw.sigma is None:
            return residual_tests.normal_scores(self.residuals.scaled)
        spec = self.estimate.specification
        if spec.residual is not None and isinstance(self.estimate, LinearEstimate):
            return whitened_residuals(self.estimate, spec.y - self.draw.predictors[0])
        w = 1.0 if spec.weights is None else np.sqrt(spec.weights)
        return np.asarray((spec.y - self.draw.predictors[0]) * w / self.draw.sigma)


def judged(candidates: Sequence[Candidate], alpha: float) -> tuple[Finding, ...]:
    """Decide what is fine, sorted with what needs a look first."""
    tests = sum(np.isfinite(c.p_value) for c in candidates)
    level = alpha / max(tests, 1)
    seen = {
        c.what: c.matters and (not np.isfinite(c.p_value) or c.p_value <= level) for c in candidates
    }
    out = []
    for c in candidates:
        if not seen[c.what]:
            out.append(Finding(c.what, FINE, c.calm, c.number, c.p_value, ""))
            continue
        root = next((name for name in c.after if seen.get(name)), "")
        verdict = NOTE if root else c.verdict
        out.append(Finding(c.what, verdict, c.alarm, c.number, c.p_value, c.advice, root))
    order = {LOOK: 0, NOTE: 1, FINE: 2}
    return tuple(sorted(out, key=lambda f: order[f.verdict]))
