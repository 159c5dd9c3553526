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

from ranef.solve.marginal.clusters import Clusters, Slice
from ranef.solve.marginal.equations import Problem, Solution

__all__ = ["association_variances"]

Floats = NDArray[np.float64]

MOST_GROUPS = 4000
"""Clusters are taken together until there are no more; they are independent all the same."""


@dataclass(frozen=True, eq=False)
class Moments:
    """What a group of clusters adds to the equations of the correlation.

    Attributes
    ----------
    products, pairs : (m,) arrays
    squares, rows : float
    """

    products: Floats
    pairs: Floats
    squares: float = 0.0
    rows: float = 0.0

    def __add__(self, other: Moments) -> Moments:
        return Moments(
            self.products + other.products, self.pairs + other.pairs,
            self.squares + other.squares, self.rows + other.rows,
        )  # fmt: skip


def association_variances(problem: Problem, solution: Solution, h: Floats) -> Floats:
    """Variances (k,) of the parameters of the working correlation.

    Parameters
    ----------
    h : (K, p) array
        What each cluster moves the coefficients by, see `Influences`.
    """
    total = _total(problem, solution, solution.beta)
    moved = _Moved(problem, solution, total)
    by_beta = np.column_stack([_difference(problem, solution, moved, j) for j in range(problem.p)])
    found = np.zeros(len(by_beta))
    for part in _groups(problem.clusters):
        own = moved.by(_moments(problem, solution, solution.beta, part))
        found += (own + by_beta @ h[part.clusters].sum(axis=0)) ** 2
    return found


class _Moved:
    """What changes of the moments move the parameters by, to first order."""

    def __init__(self, problem: Problem, solution: Solution, total: Moments) -> None:
        self.problem, self.total, self.scale = problem, total, solution.scale
        working = solution.working
        self.factor, self.by_rows = np.ones(len(total.pairs)), np.zeros(len(total.pairs))
        pairs = total.pairs
        if problem.adjusted and working.counted:
            self.factor, self.by_rows = working.reduced_slopes(pairs, problem.p, total.rows)
            pairs = working.reduced(pairs, problem.p, total.rows)
        self.products = total.products / self.scale if working.counted else total.products
        self.of_products, self.of_pairs = working.slopes(self.products, pairs)
        self.counted = working.counted

    def by(self, more: Moments) -> Floats:
        """Moves (k,) of the parameters where the moments change by so much."""
        products = more.products
        if self.counted:
            held = self.problem.scale is not None
            less = self.problem.p if self.problem.adjusted else 0
            scale = (
                0.0 if held else (more.squares - self.scale * more.rows) / (self.total.rows - less)
            )
            products = (products - self.products * scale) / self.scale
        pairs = self.factor * more.pairs + self.by_rows * more.rows
        if self.of_products.ndim == 1:  # one moment for each parameter
            return np.asarray(self.of_products * products + self.of_pairs * pairs)
        return np.asarray(self.of_products @ products + self.of_pairs @ pairs)


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


def _total(problem: Problem, solution: Solution, beta: Floats) -> Moments:
    first, *others = problem.clusters.slices
    found = _moments(problem, solution, beta, first)
    for part in others:
        found = found + _moments(problem, solution, beta, part)
    return found


def _difference(problem: Problem, solution: Solution, moved: _Moved, j: int) -> Floats:
    """Derivative (k,) of the parameters in a coefficient."""
    size = np.sqrt(max(float(np.linalg.inv(solution.bread)[j, j]), 1e-300) * solution.scale)
    step = 1e-3 * size
    ends = []
    for sign in (1.0, -1.0):
        beta = solution.beta.copy()
        beta[j] += sign * step
        ends.append(_total(problem, solution, beta))
    high, low = ends
    gap = Moments(
        high.products - low.products, high.pairs - low.pairs, high.squares - low.squares,
        high.rows - low.rows,
    )  # fmt: skip
    return np.asarray(moved.by(gap) / (2 * step))
