"""Firth's penalty where the covariance of responses moves with their means.

Of categories, and of responses that odds ratios associate, H = sum of D'V^-1 W D, D derivatives of
the means, V their covariance with the odds ratios held and W sampling weights. Its derivatives are

    d log det H = tr H^-1 (dD'B_2 + B_1'W dD - B_1'dV B_2),  B_1 = V^-1 D,  B_2 = V^-1 W D,

summed over rows in the means and their predictors, never over the coefficients one by one.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from ranef.solve.marginal.clusters import Clusters, Slice
from ranef.solve.marginal.working import Working, WorkingRows

__all__ = ["log_det_slopes"]

Floats = NDArray[np.float64]


class Rows(Protocol):
    """The rows of a marginal model."""

    @property
    def X(self) -> Floats: ...
    @property
    def p(self) -> int: ...
    @property
    def clusters(self) -> Clusters: ...
    def working_rows(self, beta: Floats, part: Slice) -> WorkingRows: ...
    def curves(self, beta: Floats, part: Slice) -> tuple[Floats, Floats]: ...


def log_det_slopes(problem: Rows, beta: Floats, working: Working, H: Floats) -> Floats:
    """Derivatives (p,) of log det H / 2 in beta, the parameters of the association held.

    Under independence H is the information of a likelihood, and this is Jeffreys' prior.
    """
    inverse: Floats = np.linalg.inv(H).astype(np.float64)
    total = np.zeros(problem.p)
    for part in problem.clusters.slices:
        rows = problem.working_rows(beta, part)
        by_predictor = _by_predictor(problem, beta, working, rows, part, inverse)
        total = total + np.asarray(problem.X[part.rows]).T @ by_predictor
    return 0.5 * total


def _by_predictor(
    problem: Rows, beta: Floats, working: Working, rows: WorkingRows, part: Slice, inverse: Floats
) -> Floats:
    """Derivatives (r,) of log det H in the linear predictors of a slice."""
    working, clusters = working.at(rows), problem.clusters
    precision = 1.0 if rows.precision is None else rows.precision[:, None]
    root = np.sqrt(rows.mu * (1 - rows.mu))[:, None]

    def solved(F: Floats) -> Floats:
        return working.whiten_back(working.whiten(F, clusters, part), clusters, part) / root

    ours = solved(rows.F)
    if rows.root is None:
        left = ours @ inverse
        moved = 2 * precision * left
    else:
        omega = (rows.root**2)[:, None]
        left = solved(omega * rows.F) @ inverse
        moved = precision * (left + omega * (ours @ inverse.T))
    by_mean = working.covariance_slopes(left, ours, clusters, part)
    slopes, bends = problem.curves(beta, part)
    N, c, _ = slopes.shape
    X = problem.X[part.rows].reshape(N, c, -1)
    M = moved.reshape(N, c, -1) @ X.swapaxes(1, 2)
    found = np.einsum("njk,njkl->nl", M, bends)
    found -= np.einsum("nj,njl->nl", by_mean.reshape(N, c), slopes)
    return np.asarray(found.ravel())
