"""How well the parameters of a working correlation are known.

They solve equations of their own beside those of the mean (Prentice 1988, Biometrics 44): each is a
function of sums over the clusters of products of residuals, of their counts and of the scale.
What a cluster adds to these moves the parameters, and so do the coefficients, at which the
residuals are taken; the sum of the squares of all moves is the sandwich of the stacked equations.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ranef.solve.marginal.associations import Association
from ranef.solve.marginal.clusters import Clusters, Slice
from ranef.solve.marginal.equations import (
    Counts,
    Problem,
    Solution,
    Sums,
    correlation_of,
    scale_of,
)

__all__ = ["association_covariance"]

Floats = NDArray[np.float64]

MOST_GROUPS = 4000
"""Clusters are taken together until there are no more; they are independent all the same."""
STEP = 1e-5


@dataclass(frozen=True, eq=False)
class Moments:
    """What a group of clusters adds to the equations of the correlation.

    Attributes
    ----------
    products, pairs : (k,) arrays
    squares, rows : float
    """

    products: Floats
    pairs: Floats
    squares: float
    rows: float

    @property
    def flat(self) -> Floats:
        """All of them, (2 k + 2,)."""
        return np.concatenate([self.products, self.pairs, [self.squares, self.rows]])


def association_covariance(problem: Problem, solution: Solution, h: Floats) -> Floats:
    """Covariance (k, k) of the parameters of the working correlation.

    Parameters
    ----------
    h : (K, p) array
        What each cluster moves the coefficients by, see `Influences`.
    """
    groups = list(_groups(problem.clusters))
    own = np.array([_moments(problem, solution, solution.beta, part).flat for part in groups])
    starts = np.array([part.clusters.start for part in groups])
    moves = np.add.reduceat(h, starts, axis=0)
    total = own.sum(axis=0)
    by_moments = _jacobian(problem, solution, total)
    by_beta = np.column_stack(
        [_difference(problem, solution, by_moments, j) for j in range(problem.p)]
    )
    found = own @ by_moments.T + moves @ by_beta.T
    return np.asarray(found.T @ found)


def _groups(clusters: Clusters) -> Iterator[Slice]:
    """Parts of whole clusters, one each where there are few."""
    step = -(-clusters.count // MOST_GROUPS)
    for first in range(0, clusters.count, step):
        last = min(first + step, clusters.count)
        begin, end = int(clusters.starts[first]), int(clusters.starts[last])
        yield Slice(
            slice(first, last), slice(begin, end), clusters.starts[first:last] - begin,
            clusters.sizes[first:last],
        )  # fmt: skip


def _moments(problem: Problem, solution: Solution, beta: Floats, part: Slice) -> Moments:
    rows = problem.working_rows(beta, part)
    root = np.ones(len(rows.e)) if rows.root is None else rows.root
    v, working = rows.e * root, solution.working.at(rows)
    products = np.atleast_1d(working.sums(v, problem.clusters, part))
    pairs = (
        working.sums(root, problem.clusters, part) if working.counted else np.zeros(len(products))
    )
    return Moments(products, pairs, float(v @ v), float(root @ root))


def _parameters(problem: Problem, solution: Solution, flat: Floats) -> Floats:
    """The parameters that moments make."""
    k = (len(flat) - 2) // 2
    counts = Counts(float(flat[-1]), flat[k : 2 * k])
    sums = Sums(np.zeros((0, 0)), np.zeros(0), float(flat[-2]), flat[:k])
    scale = scale_of(problem, sums, counts)
    return correlation_of(problem, solution.working, sums, counts, scale, 0.0).parameters


def _jacobian(problem: Problem, solution: Solution, total: Floats) -> Floats:
    """Derivatives (k, 2 k + 2) of the parameters in the moments, by central differences.

    Of an association of its own equation a step of scoring: score over information.
    """
    if isinstance(solution.working, Association):
        found = np.zeros((1, len(total)))
        found[0, 0] = 1 / total[1]
        return found
    columns = []
    for j, size in enumerate(np.abs(total)):
        step = STEP * max(float(size), 1e-8)
        ends = []
        for sign in (1.0, -1.0):
            moved = total.copy()
            moved[j] += sign * step
            ends.append(_parameters(problem, solution, moved))
        columns.append((ends[0] - ends[1]) / (2 * step))
    return np.column_stack(columns)


def _difference(problem: Problem, solution: Solution, by_moments: Floats, j: int) -> Floats:
    """Derivative (k,) of the parameters in a coefficient."""
    size = np.sqrt(max(float(np.linalg.inv(solution.bread)[j, j]), 1e-300) * solution.scale)
    step = 1e-3 * size
    ends = []
    for sign in (1.0, -1.0):
        beta = solution.beta.copy()
        beta[j] += sign * step
        parts = problem.clusters.slices
        ends.append(sum(_moments(problem, solution, beta, part).flat for part in parts))
    return np.asarray(by_moments @ (ends[0] - ends[1]) / (2 * step))
