"""Expected information of complete data at one or two levels.

With V the covariance of a cluster's own values and the root of its size times its means, and W
that within clusters, both of which the likelihood separates (McDonald & Goldstein 1989):
(N - J)/2 tr(W^-1 dW W^-1 dW) + sum over sizes of n {1/2 tr(V^-1 dV V^-1 dV) + dm' V^-1 dm}.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ranef.fields.structural.problem import GroupProblem, Problem, latent_slopes

__all__ = ["expected_information", "is_expected"]

Floats = NDArray[np.float64]


def is_expected(problem: Problem) -> bool:
    """Tell whether the formula holds for the problem: no slopes, no more than two levels."""
    return all(
        len(g.x) == 0 and len(g.rams) <= 2 and not latent_slopes(problem.table, g.g)
        for g in problem.groups
    )


def expected_information(problem: Problem, theta: Floats) -> Floats:
    """Return the information (P, P) about the parameters, as if nothing were missing."""
    out = np.zeros((len(theta), len(theta)))
    for group in problem.groups:
        _add(group, theta, out)
    return out


def _whitened(root: Floats, d: Floats) -> Floats:
    """L^-1 D L^-T of each D (P, c, c), flat."""
    inverse = np.linalg.inv(root)
    return (inverse @ d @ inverse.T).reshape(len(d), -1)


def _factor(V: Floats) -> Floats:
    """Cholesky factor of a covariance matrix."""
    return np.asarray(np.linalg.cholesky(V), dtype=np.float64)


def _add(group: GroupProblem, theta: Floats, out: Floats) -> None:
    dW, dmu, levels = group.directions(theta)
    W, _, moments = group.levels_at(group.parts(theta).flat)
    data, p = group.data, len(W)
    root = _factor(W)
    X = _whitened(root, dW)
    if not levels:
        m = np.linalg.solve(root, dmu.T)
        out += data.n / 2 * X @ X.T + data.n * m.T @ m
        return
    (dS, dm), (S, _) = levels[0], moments[0]
    units = data.levels[0].units
    out += max(data.n - units, 0) / 2 * X @ X.T
    names = group.coordinates.unseen[0]
    a, q = len(names), S.shape[0] - len(names)
    at = np.array([group.coordinates.y.index(n) for n in names], dtype=np.intp)
    into = np.zeros((q + p, S.shape[0]))
    into[np.arange(q), a + np.arange(q)] = 1.0
    for size, count in zip(*np.unique(data.sizes, return_counts=True), strict=True):
        if size == 0:
            continue
        scale = np.sqrt(size)
        into[q + at, np.arange(a)] = scale
        V = into @ S @ into.T
        V[q:, q:] += W
        dV = into @ dS @ into.T
        dV[:, q:, q:] += dW
        root = _factor(V)
        X = _whitened(root, dV)
        mean = dm @ into.T
        mean[:, q:] += scale * dmu
        m = np.linalg.solve(root, mean.T)
        out += count / 2 * X @ X.T + count * m.T @ m
