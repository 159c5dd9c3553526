"""Rows of a structured model one by one: hat values, and what leaving one out changes.

With V = Z Psi Z' + R relative to sigma^2, P = V^-1 - V^-1 X C X'V^-1 and W of `moments`, the
conditional fit y_hat = X beta + Z b is H y with

    H = I - R P = Z W Z'R^-1 + R V^-1 X C X'V^-1.

Where R is not diagonal H is not symmetric either, and its diagonal not bound to lie between 0
and 1. Without row i the model has r2 - (Py)_i^2 / P_ii in the place of r2, and beta moves by
C X'V^-1 e_i (Py)_i / P_ii (the row's own parameter would be (Py)_i / P_ii; Martin 1992,
Commun. Stat. Theory Methods 21).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ranef.design.specification import Specification
from ranef.solve.structured.design import Chunk
from ranef.solve.structured.kept import SolvedRows
from ranef.solve.structured.moments import batch_steps
from ranef.solve.structured.problem import structured_problem
from ranef.squares import inverse

__all__ = ["RowSolves", "rows_at"]

Floats = NDArray[np.float64]

CELLS = 4_000_000


@dataclass(frozen=True, eq=False)
class RowSolves:
    """What is known of each row.

    Attributes
    ----------
    hat : (n,) float64 array
        Of the conditional fit.
    fixed : (n,) float64 array
        Of the generalised least squares fit X beta.
    precision : (n,) float64 array
        P_ii, of rows as they stand, weights included.
    VX : (n, p) float64 array
        V^-1 X, the same.
    Py : (n,) float64 array
        The same, on the user's scale of y.
    """

    hat: Floats
    fixed: Floats
    precision: Floats
    VX: Floats
    Py: Floats


def rows_at(spec: Specification, theta: Floats, reml: bool) -> RowSolves:
    """Hat values and diagonals of a structured model at one theta."""
    problem = structured_problem(spec)
    at = problem.point(theta, reml, 0)
    if at is None:
        raise np.linalg.LinAlgError("the covariance is not positive definite at this theta")
    return _row_solves(SolvedRows(problem, at))


def _row_solves(found: SolvedRows) -> RowSolves:
    problem, C = found.problem, found.at.C
    n, p = problem.spec.n, problem.spec.p
    hat, fixed, own = np.empty(n), np.empty(n), np.empty(n)
    VX = np.empty((n, p))
    for chunk, _, _, solved in found.clusters:
        q, cluster = solved.q, found.cluster_of(chunk)
        RU = found.precision_times(chunk, chunk.U)
        diagonal = _inverse_diagonal(found, chunk)
        step = max(1, CELLS // (RU.shape[1] * (p + 1)))
        for first in range(0, len(cluster), step):
            cut = slice(first, first + step)
            rows, c = chunk.rows[cut], cluster[cut]
            U, R = chunk.U[cut], RU[cut]
            e, W = solved.e[c][:, :, :p], solved.W[c]
            moved, turned = np.einsum("nw,nwp->np", U, e), np.einsum("nw,nwp->np", R, e)
            pulled = np.einsum("nqt,nt->nq", W, R[:, :q])
            by_random = np.sum(U[:, :q] * pulled, axis=1)
            hat[rows] = by_random + np.einsum("np,pr,nr->n", moved, C, turned)
            fixed[rows] = np.einsum("np,pr,nr->n", U[:, q : q + p], C, turned)
            own[rows] = diagonal[cut] - np.sum(R[:, :q] * pulled, axis=1)
            own[rows] -= np.einsum("np,pr,nr->n", turned, C, turned)
            VX[rows] = turned
    root, T = found.root, problem.fixed.transform
    VX = root[:, None] * (VX @ np.linalg.inv(T) if p else VX)
    return RowSolves(hat, fixed, root**2 * own, VX, found.projected)


def _inverse_diagonal(found: SolvedRows, chunk: Chunk) -> Floats:
    """Diagonal of R^-1 of the rows of a chunk, weights aside."""
    out = np.empty(len(chunk.rows))
    own = found.problem.split(found.theta)[1]
    for batch in chunk.batches:
        if batch.in_order:
            steps, _ = batch_steps(found.problem.rows, own, chunk, batch)
            out[batch.rows] = steps.inverse.diagonal
            continue
        R = found.jet(chunk, batch).value
        out[batch.rows] = np.diagonal(inverse(R), axis1=1, axis2=2)
    return out
