"""Responses drawn from a dynamic model."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ranef.fields.dynamic.forecasting import carried
from ranef.fields.dynamic.parameters import phi_of, size_of
from ranef.fields.dynamic.problem import Problem
from ranef.fields.dynamic.reading import CONDITIONAL, DISPERSION, INERTIA, INPUTS

__all__ = ["drawn"]

Floats = NDArray[np.float64]


def drawn(
    problem: Problem, theta: Floats, rng: np.random.Generator, given: Floats | None
) -> Floats:
    """Draw all rows once, (n,): of new persons, or of persons whose effects (N, r) are given.

    A series of given starts begins with its own first outcome.
    """
    layout, n = problem.layout, len(problem.y)
    if given is None:
        given = rng.standard_normal((problem.persons, layout.r)) @ layout.factor(theta).T
    effects = given[problem.person]
    d, qm = layout.d, problem.zm.shape[1]
    v, bm, bi = effects[:, :d], effects[:, d : d + qm], effects[:, d + qm :]
    own = {part: X @ theta[layout.slices[part]] for part, X in problem.X.items()}
    level = own[CONDITIONAL] + (problem.zm * bm).sum(axis=1)
    inputs = own.get(INPUTS, np.zeros(n)) + (problem.zi * bi).sum(axis=1)
    phi = phi_of(problem.memory, own[INERTIA] + (problem.zp * v).sum(axis=1))
    sigma = size_of(own[DISPERSION] + (problem.zs * v).sum(axis=1))
    a, g = carried(problem.memory, phi[:, None], problem.gap, layout.omega(theta))
    shock = inputs + sigma * np.sqrt(g[:, 0]) * rng.standard_normal(n)
    D = np.empty(n)
    last = 0.0
    for t in range(n):
        if problem.gap[t] == 0 and problem.given_starts:
            last = float(problem.y[t] - level[t])
        else:
            last = float(a[t, 0]) * last + float(shock[t])
        D[t] = last
    return np.asarray(level + D)
