"""A dynamic model fitted again: to another response, to drawn responses, to drawn persons."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ranef.design.specification import Specification
from ranef.errors import ModelError
from ranef.fields.dynamic.arrays import problem_of
from ranef.fields.dynamic.drawing import drawn
from ranef.fields.dynamic.estimate import DynamicEstimate
from ranef.fields.dynamic.reading import CONDITIONAL
from ranef.fields.dynamic.search import search, started
from ranef.inference.draws.resampling import Clusters
from ranef.solve.resources import available_cores

__all__ = ["redrawn", "refitted", "responses"]

Floats = NDArray[np.float64]
EFFECTS = ("new", "conditional")


def responses(estimate: DynamicEstimate, rng: np.random.Generator, effects: str) -> Floats:
    """Draw a response (n,), offset included, of new persons or of these."""
    given = estimate.effects.mean if effects == "conditional" else None
    y = np.empty(estimate.parts[CONDITIONAL].n)
    y[estimate.ordered.order] = drawn(estimate.problem, estimate.end.theta, rng, given)
    offset = estimate.parts[CONDITIONAL].offset
    return y if offset is None else y + offset


def refitted(estimate: DynamicEstimate, y: Floats) -> DynamicEstimate:
    """Fit the same model to another response (n,)."""
    spec = estimate.parts[CONDITIONAL]
    return _again(estimate, {**estimate.parts, CONDITIONAL: replace(spec, y=y)})


def redrawn(
    estimate: DynamicEstimate, method: str, rng: np.random.Generator, effects: str
) -> DynamicEstimate:
    """Fit the model to responses drawn from it, or to persons drawn with replacement."""
    if method == "parametric":
        return refitted(estimate, responses(estimate, rng, effects))
    whose: Any = estimate
    persons = Clusters.of(whose, 0)
    parts, _ = persons.take(rng.integers(persons.count, size=persons.count))
    return _again(estimate, parts)


def _again(estimate: DynamicEstimate, parts: Mapping[str, Specification]) -> DynamicEstimate:
    """Search from the estimate on."""
    problem = problem_of(
        parts, estimate.layout, estimate.memory, estimate.given_starts, available_cores()
    ).problem
    end = search(problem, estimate.end.points, None, started(problem, estimate.end.theta))
    if not np.isfinite(end.loglik):
        raise ModelError("the likelihood has no value at the data drawn")
    return replace(estimate, parts=parts, end=end)
