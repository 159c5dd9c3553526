"""Whether a combination of the predictors separates the responses, so that estimates run away."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ranef.solve.marginal.equations import Problem

__all__ = ["separating"]

Floats = NDArray[np.float64]


def separating(problem: Problem) -> Floats | None:
    """Return a direction (p,) along which every row that changes goes to an end of its range.

    Binomial responses: x'd >= 0 where y = 1, <= 0 where y = 0, and x'd = 0 elsewhere, not all zero
    (Albert & Anderson 1984, Biometrika 71); responses from zero up: x'd <= 0 where y = 0 and x'd =
    0 elsewhere (Correia, Guimaraes & Zylkin 2019). A linear programme decides.
    """
    low, high = problem.bounds
    if not np.isfinite(low):
        return None
    from scipy.optimize import linprog

    y = problem.y
    signs = np.where(y == low, -1.0, np.where(y == high, 1.0, 0.0))
    if problem.sampling is not None:  # rows that were planned and not seen say nothing
        seen = problem.sampling > 0
        signs, X = signs[seen], problem.X[seen]
    else:
        X = problem.X
    rows = np.unique(np.column_stack([signs, X]), axis=0)
    signs, X = rows[:, 0], rows[:, 1:]
    size = np.abs(X).max(axis=0)
    X = X / np.where(size > 0, size, 1.0)
    ends = signs != 0
    towards = signs[ends, None] * X[ends]
    held = X[~ends]
    found = linprog(
        -towards.sum(axis=0),
        A_ub=-towards if len(towards) else None,
        b_ub=np.zeros(len(towards)) if len(towards) else None,
        A_eq=held if len(held) else None,
        b_eq=np.zeros(len(held)) if len(held) else None,
        bounds=[(-1.0, 1.0)] * X.shape[1],
        method="highs",
    )
    if found.status != 0 or -found.fun < 1e-7:
        return None
    return np.asarray(found.x)
