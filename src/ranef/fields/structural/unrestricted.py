"""Covariance matrices without a model, held positive semidefinite above the rows.

Where the free optimum of such a matrix is indefinite, the search is over its Cholesky factor L.
On the boundary the optimum is proved by the derivative G with respect to the matrix S: G S = 0,
and no direction of the null space has a negative one.

A model whose own matrices are indefinite is no part of that one. It is compared with the optimum
over all matrices where the likelihood has a value, which `beyond` finds from the model's moments.
There may be none: where fewer units have the most rows than there are variables, the likelihood
grows without bound as a matrix comes to the end of that set.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ranef.fields.structural.information import expected_information, is_expected
from ranef.fields.structural.model import solved
from ranef.fields.structural.problem import Problem
from ranef.fields.structural.ram import INDEFINITE, smallest_correlated
from ranef.fields.structural.search import Search, SearchEnd, minimise

__all__ = ["Unrestricted", "beyond", "is_indefinite", "moments_of", "solved_unrestricted"]

Floats = NDArray[np.float64]
Ints = NDArray[np.intp]
ROUNDING = 1e-10


@dataclass(frozen=True, eq=False)
class Chart:
    """Factors of the matrices in place of the matrices.

    Attributes
    ----------
    x : array
        Where the search ended.
    jacobian : (P, x) array
        Derivatives of the parameters.
    hessian : (x, x) array
        Second derivatives of -2 log L.
    """

    x: Floats
    jacobian: Floats
    hessian: Floats


@dataclass(frozen=True, eq=False)
class Unrestricted:
    """The optimum of a model with unrestricted covariance matrices.

    Attributes
    ----------
    theta : (P,) array
    value : float
        -2 log L.
    converged : bool
    gain : float
        What one further step would gain.
    faces : tuple of (group, level, rank, size)
        Matrices on the boundary.
    slope : float
        Smallest derivative into the matrices from their null spaces, relative; not negative at
        an optimum, NaN where there is no boundary.
    evaluations : int
    chart : Chart or None
        The parameters that the search was over, where there is a boundary.
    indefinite : bool
        Whether it is over all matrices where the likelihood has a value.
    """

    theta: Floats
    value: float
    converged: bool
    gain: float
    faces: tuple[tuple[int, int, int, int], ...]
    slope: float
    evaluations: int
    chart: Chart | None = None
    indefinite: bool = False

    def words(self) -> str:
        """Say how the optimum is known."""
        if self.indefinite and not self.converged:
            return (
                "a covariance matrix of the model between units is indefinite; the unrestricted "
                "model has no largest likelihood among such matrices, so no chi-squared"
            )
        if not self.converged:
            return "the search ended before its optimum"
        if self.indefinite:
            return (
                "its covariance matrices between units may be indefinite, as one of the model is; "
                "no step is left to gain"
            )
        if not self.faces:
            return "no step is left to gain"
        ranks = ", ".join(
            f"{rank} of {size} at level {level}" for _, level, rank, size in self.faces
        )
        return f"on the boundary, ranks {ranks}; no direction leads to a larger likelihood"


@dataclass(frozen=True, eq=False)
class _Block:
    """One unrestricted matrix: where its cells are among the parameters."""

    group: int
    level: int
    names: tuple[str, ...]
    place: Ints  # (d, d), -1 where it is held
    held: Floats  # (d, d)
    first: int  # its leading variables are held at the sample's moments
    full: bool  # or diagonal


def solved_unrestricted(
    problem: Problem, blocks: Sequence[tuple[int, int]], start: Floats | None = None
) -> Unrestricted:
    """Find the optimum where the matrices of these blocks (group, level) are not negative.

    Parameters
    ----------
    problem : Problem
    blocks : sequence of (group, level)
    start : array, optional
    """
    known = _sample_moments(problem)
    if known is not None:
        return known
    end = solved(problem, start, proof=False)
    cells = [_cells(problem, g, level) for g, level in blocks]
    wrong = [b for b in cells if len(b.names) and _smallest(b, end.theta) < -ROUNDING]
    if not wrong:
        return Unrestricted(
            end.theta, end.value, end.converged, end.decrement, (), float("nan"), end.evaluations
        )
    try:
        return _bounded(problem, cells, end)
    except np.linalg.LinAlgError:  # far out, where the likelihood grows without bound
        return Unrestricted(
            end.theta, end.value, False, end.decrement, (), float("nan"), end.evaluations
        )


def is_indefinite(problem: Problem, theta: Floats) -> bool:
    """Whether observed variables of a level above the rows have an indefinite matrix."""
    for group in problem.groups:
        for level in range(2, problem.table.levels + 1):
            S, _ = _implied(problem, theta, group.g, level)
            if smallest_correlated(S) < -INDEFINITE:
                return True
    return False


def _implied(problem: Problem, theta: Floats, g: int, level: int) -> tuple[Floats, Floats]:
    """Covariance and means of a level's observed variables, in the order of their names."""
    ram = problem.groups[g].rams[level - 1]
    at = [ram.names.index(name) for name in problem.table.names[g, level].observed]
    found = ram.moments(theta)
    return found.C[np.ix_(at, at)], found.mu[at]


def moments_of(problem: Problem, theta: Floats, unrestricted: Problem) -> Floats:
    """The parameters of the unrestricted model that have the moments of another."""
    out = np.zeros(unrestricted.size)
    for group in problem.groups:
        mean: dict[str, float] = {}
        for level in range(1, problem.table.levels + 1):
            names = problem.table.names[group.g, level].observed
            at = {name: i for i, name in enumerate(names)}
            S, mu = _implied(problem, theta, group.g, level)
            for name in names:  # a mean is the sum of those of its levels, and stands at the last
                mean[name] = mean.get(name, 0.0) + mu[at[name]]
            for row in unrestricted.table.block(group.g, level):
                if row.free >= 0 and row.op == "~~":
                    out[row.free] = S[at[row.lhs], at[row.rhs]]
                elif row.free >= 0:
                    out[row.free] = mean[row.lhs]
    return out


def beyond(problem: Problem, start: Floats) -> Unrestricted:
    """Find the optimum over all matrices where the likelihood has a value, from moments."""
    end = solved(problem, start)
    return Unrestricted(
        end.theta, end.value, end.converged, end.decrement, (), float("nan"), end.evaluations,
        indefinite=True,
    )  # fmt: skip


def _sample_moments(problem: Problem) -> Unrestricted | None:
    """The optimum where it is the sample's moments: of complete data in one level.

    Of the baseline model too, whose covariance matrix is made of unrestricted blocks.
    """
    if any(group.data.levels or not group.data.complete for group in problem.groups):
        return None
    theta, curvature = np.zeros(problem.size), np.zeros(problem.size)
    for group in problem.groups:
        names, y = group.coordinates.y, group.data.y
        at = {name: i for i, name in enumerate(names)}
        mean = y.mean(axis=0)
        S = (y - mean).T @ (y - mean) / len(y)
        for row in problem.table.block(group.g, 1):
            if row.free < 0:
                continue
            i, j = at[row.lhs], at.get(row.rhs, -1)
            theta[row.free] = mean[i] + group.data.center[i] if row.op == "~1" else S[i, j]
            curvature[row.free] = len(y) / (S[i, i] if row.op == "~1" else S[i, i] * S[j, j])
    value, gradient = problem.value_gradient(theta)
    gain = float(np.sum(gradient**2 / curvature))
    fine = bool(np.isfinite(value) and gain < 1e-6)
    return Unrestricted(theta, value, fine, gain, (), float("nan"), 1) if fine else None


def _cells(problem: Problem, g: int, level: int) -> _Block:
    names = problem.table.names[g, level]
    order = [*names.fixed, *(n for n in names.observed if n not in names.fixed)]
    at = {name: i for i, name in enumerate(order)}
    d = len(order)
    place = np.full((d, d), -1, dtype=np.intp)
    held = np.zeros((d, d))
    sample = problem.groups[g].sample.get(level, {})
    for row in problem.table.block(g, level):
        if row.op != "~~":
            continue
        i, j = at[row.lhs], at[row.rhs]
        place[i, j] = place[j, i] = row.free
        if row.sample:
            held[i, j] = held[j, i] = sample[row.lhs, row.rhs]
    full = bool((place[np.tril_indices(d)] >= 0).sum() > d) or len(names.fixed) > 0
    return _Block(g, level, tuple(order), place, held, len(names.fixed), full)


def _matrix(block: _Block, theta: Floats) -> Floats:
    return np.where(block.place >= 0, theta[np.maximum(block.place, 0)], block.held)


def _smallest(block: _Block, theta: Floats) -> float:
    return smallest_correlated(_matrix(block, theta))


class _Factors:
    """The map from factors L and the other parameters to all parameters."""

    def __init__(self, blocks: Sequence[_Block], size: int) -> None:
        self.blocks = blocks
        self.size = size
        used = np.zeros(size, dtype=bool)
        self.cells: list[tuple[Ints, Ints]] = []
        self.starts = []
        count = 0
        for block in blocks:
            used[block.place[block.place >= 0]] = True
            i, j = np.tril_indices(len(block.names))
            free = block.place[i, j] >= 0
            i, j = i[free], j[free]
            self.cells.append((i, j))
            self.starts.append(count)
            count += len(i)
        self.rest = np.flatnonzero(~used)
        self.count = count

    def lower(self, x: Floats, k: int) -> Floats:
        block, (i, j) = self.blocks[k], self.cells[k]
        d, f = len(block.names), block.first
        L = np.zeros((d, d))
        if f:
            L[:f, :f] = np.linalg.cholesky(block.held[:f, :f])
        L[i, j] = x[self.starts[k] : self.starts[k] + len(i)]
        return L

    def theta(self, x: Floats) -> Floats:
        out = np.empty(self.size)
        out[self.rest] = x[self.count :]
        for k, block in enumerate(self.blocks):
            L = self.lower(x, k)
            S = L @ L.T
            own = block.place >= 0
            out[block.place[own]] = S[own]
        return out

    def x(self, theta: Floats) -> Floats:
        out = [np.zeros(0)]
        for k, block in enumerate(self.blocks):
            S = _matrix(block, theta)
            root = np.sqrt(np.maximum(np.diag(S), 1e-3 * np.abs(np.diag(S)).max()))
            R = S / np.outer(root, root)
            values, vectors = np.linalg.eigh((R + R.T) / 2)
            R = (vectors * np.maximum(values, 0.02)) @ vectors.T
            own = np.sqrt(np.diag(R))
            root = np.where(np.arange(len(S)) < block.first, np.sqrt(np.abs(np.diag(S))), root)
            S = R / np.outer(own, own) * np.outer(root, root)
            if block.first:
                f = block.first
                L11 = np.linalg.cholesky(block.held[:f, :f])
                L21 = np.linalg.solve(L11, S[:f, f:]).T
                rest = S[f:, f:] - L21 @ L21.T
                w, v = np.linalg.eigh(rest)
                rest = (v * np.maximum(w, 1e-3 * max(w[-1], 1e-12))) @ v.T
                L = np.zeros_like(S)
                L[:f, :f], L[f:, :f], L[f:, f:] = L11, L21, np.linalg.cholesky(rest)
            else:
                L = np.linalg.cholesky(S) if block.full else np.diag(np.sqrt(np.diag(S)))
            i, j = self.cells[k]
            out.append(L[i, j])
        out.append(theta[self.rest])
        return np.concatenate(out)

    def gradients(self, g: Floats, k: int) -> Floats:
        """The derivative with respect to a matrix, every entry counted, from that of its cells."""
        block = self.blocks[k]
        G = np.where(block.place >= 0, g[np.maximum(block.place, 0)], 0.0)
        half = 0.5 * G
        np.fill_diagonal(half, np.diag(G))
        return half

    def pulled(self, x: Floats, g: Floats) -> Floats:
        out = np.empty(self.count + len(self.rest))
        out[self.count :] = g[self.rest]
        for k in range(len(self.blocks)):
            slope = 2 * self.gradients(g, k) @ self.lower(x, k)
            i, j = self.cells[k]
            out[self.starts[k] : self.starts[k] + len(i)] = slope[i, j]
        return out

    def jacobian(self, x: Floats) -> Floats:
        J = np.zeros((self.size, self.count + len(self.rest)))
        J[self.rest, self.count + np.arange(len(self.rest))] = 1.0
        for k, block in enumerate(self.blocks):
            L = self.lower(x, k)
            i, j = self.cells[k]
            d = len(block.names)
            for c, (a, b) in enumerate(zip(i, j, strict=True)):
                dS = np.zeros((d, d))
                dS[a] += L[:, b]
                dS[:, a] += L[:, b]
                own = np.tril(block.place) >= 0
                own &= np.tri(d, dtype=bool)
                J[block.place[own], self.starts[k] + c] = dS[own]
        return J

    def curved(self, M: Floats, g: Floats) -> Floats:
        """Add the curvature of S in L to a metric."""
        for k in range(len(self.blocks)):
            G = self.gradients(g, k)
            w, v = np.linalg.eigh(G)
            G = (v * np.maximum(w, 0.0)) @ v.T
            i, j = self.cells[k]
            at = self.starts[k] + np.arange(len(i))
            M[np.ix_(at, at)] += 2 * G[np.ix_(i, i)] * (j[:, None] == j[None, :])
        return M


def _bounded(problem: Problem, blocks: Sequence[_Block], end: SearchEnd) -> Unrestricted:
    factors = _Factors([b for b in blocks if len(b.names)], problem.size)

    def value_gradient(x: Floats) -> tuple[float, Floats]:
        f, g = problem.value_gradient(factors.theta(x))
        return f, factors.pulled(x, g)

    def metric(x: Floats) -> Floats:
        theta = factors.theta(x)
        J = factors.jacobian(x)
        _, g = problem.value_gradient(theta)
        return factors.curved(2 * J.T @ expected_information(problem, theta) @ J, g)

    def hessian(x: Floats) -> Floats:
        n = len(x)
        out = np.zeros((n, n))
        for j in range(n):
            step = 1e-4 * max(1.0, abs(x[j]))
            e = np.zeros(n)
            e[j] = step
            out[j] = (value_gradient(x + e)[1] - value_gradient(x - e)[1]) / (2 * step)
        return (out + out.T) / 2

    search = Search(value_gradient, metric if is_expected(problem) else None, hessian)
    start = factors.x(end.theta)
    found = minimise(search, start, proof=False)
    again = minimise(search, found.theta, proof=False)
    found = again if again.value <= found.value else found
    theta = factors.theta(found.theta)
    _, g = problem.value_gradient(theta)
    faces, slope = [], np.inf
    for k, block in enumerate(factors.blocks):
        S = _matrix(block, theta)
        root = np.sqrt(np.maximum(np.abs(np.diag(S)), 1e-300))
        w, v = np.linalg.eigh(S / np.outer(root, root))
        null = v[:, w < 1e-6]
        if null.shape[1]:
            G = factors.gradients(g, k) * np.outer(root, root)
            slope = min(slope, float(np.linalg.eigvalsh(null.T @ G @ null)[0]))
            faces.append((block.group, block.level, len(w) - null.shape[1], len(w)))
    fine = found.decrement < 1e-5 and (not faces or slope > -1e-3)
    return Unrestricted(
        theta, found.value, bool(fine), found.decrement, tuple(faces),
        slope if faces else float("nan"), end.evaluations + found.evaluations,
        Chart(found.theta, factors.jacobian(found.theta), hessian(found.theta)),
    )  # fmt: skip
