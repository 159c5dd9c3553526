"""Moments of one level from its parameters, and their derivatives (McArdle & McDonald 1984).

All variables, observed and latent, are v = A v + m + s with Cov(s) = S, so that with
T = (I - A)^-1 their mean is T m and their covariance T S T'.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from ranef.fields.structural.parameters import BlockNames, Parameter

__all__ = ["INDEFINITE", "Moments", "Ram", "smallest_correlated"]

Floats = NDArray[np.float64]
Ints = NDArray[np.intp]
DIRECTED, SYMMETRIC, MEAN = 0, 1, 2
INDEFINITE = 1e-8
"""Eigenvalue of a correlation matrix below zero that is no rounding."""


@dataclass(frozen=True, eq=False)
class Moments:
    """Matrices of one level at one point.

    Attributes
    ----------
    T, S, C : (v, v) arrays
        Total effects, covariance of the residuals, covariance of the variables.
    m, mu : (v,) arrays
        Intercepts, means.
    """

    T: Floats
    S: Floats
    C: Floats
    m: Floats
    mu: Floats


@dataclass(frozen=True, eq=False)
class Ram:
    """One level's matrices as functions of the free parameters.

    Attributes
    ----------
    names : tuple of str
        All variables, observed ones first.
    A, S : (v, v) arrays
        With what is fixed, zero elsewhere.
    m : (v,) array
    kind, row, column, place : (r,) int arrays
        Matrix and cell of each free parameter, and its place among all.
    """

    names: tuple[str, ...]
    A: Floats
    S: Floats
    m: Floats
    kind: Ints
    row: Ints
    column: Ints
    place: Ints

    @classmethod
    def of(
        cls,
        block: Sequence[Parameter],
        names: BlockNames,
        sample: Mapping[tuple[str, str], float],
    ) -> Ram:
        """Make the matrices of a block; `sample` has the values held at the data's own."""
        at = {name: i for i, name in enumerate(names.all)}
        v = len(at)
        A, S, m = np.zeros((v, v)), np.zeros((v, v)), np.zeros(v)
        free: list[tuple[int, int, int, int]] = []
        for p in block:
            if p.slope is not None:
                continue
            i = at[p.rhs] if p.op == "=~" else at[p.lhs]
            j = at[p.lhs] if p.op == "=~" else at.get(p.rhs, 0)
            kind = {"=~": DIRECTED, "~": DIRECTED, "~~": SYMMETRIC, "~1": MEAN}[p.op]
            if p.free >= 0:
                free.append((kind, i, j, p.free))
                continue
            value = sample.get((p.lhs, p.rhs), 0.0) if p.sample else p.value
            if kind == DIRECTED:
                A[i, j] = value
            elif kind == SYMMETRIC:
                S[i, j] = S[j, i] = value
            else:
                m[i] = value
        cells = np.array(free, dtype=np.intp).reshape(-1, 4)
        return cls(names.all, A, S, m, *(np.ascontiguousarray(cells[:, k]) for k in range(4)))

    @cached_property
    def _of_kind(self) -> tuple[Ints, Ints, Ints]:
        kinds = (DIRECTED, SYMMETRIC, MEAN)
        return tuple(np.flatnonzero(self.kind == kind) for kind in kinds)  # type: ignore[return-value]

    def matrices(self, theta: Floats) -> tuple[Floats, Floats, Floats]:
        """A, S and m where the free parameters are theta."""
        A, S, m = self.A.copy(), self.S.copy(), self.m.copy()
        values = theta[self.place]
        a, s, e = self._of_kind
        A[self.row[a], self.column[a]] = values[a]
        S[self.row[s], self.column[s]] = values[s]
        S[self.column[s], self.row[s]] = values[s]
        m[self.row[e]] = values[e]
        return A, S, m

    def moments(self, theta: Floats) -> Moments:
        """Return the matrices where the free parameters are theta."""
        A, S, m = self.matrices(theta)
        v = len(m)
        if len(self._of_kind[0]) == 0 and not self.A.any():
            return Moments(np.eye(v), S, S, m, m)
        T = np.asarray(np.linalg.inv(np.eye(v) - A), dtype=np.float64)
        return Moments(T, S, T @ S @ T.T, m, T @ m)

    def add_gradient(
        self, at: Moments, G: Floats, g: Floats, out: Floats, extra: Floats | None = None
    ) -> None:
        """Add to `out` the gradient of a function with gradients G (v, v) and g (v,).

        G is that with respect to the covariance of all variables, every entry counted; g that
        of their means; `extra` one of the directed effects themselves.
        """
        TG: Floats = at.T.T @ G
        Tg = at.T.T @ g
        dA = None
        if len(self._of_kind[0]):
            dA = 2 * (TG @ at.C) + np.outer(Tg, at.mu)
            if extra is not None:
                dA += extra
        self.scatter(dA, TG @ at.T, Tg, out)

    def scatter(self, dA: Floats | None, dS: Floats, dm: Floats, out: Floats) -> None:
        """Add derivatives with respect to the matrices (every entry of S counted) to `out`."""
        a, s, e = self._of_kind
        if dA is not None:
            np.add.at(out, self.place[a], dA[self.row[a], self.column[a]])
        if len(s):
            i, j = self.row[s], self.column[s]
            np.add.at(out, self.place[s], np.where(i == j, 1.0, 2.0) * dS[i, j])
        if len(e):
            np.add.at(out, self.place[e], dm[self.row[e]])

    def derivatives(self, at: Moments, rows: Ints) -> tuple[Floats, Floats]:
        """Derivatives (r, c, c) of the covariance and (r, c) of the means of some variables.

        One for each free cell; `rows` are the variables.
        """
        T, C = at.T[rows], at.C[rows]
        r, c = len(self.kind), len(rows)
        dC, dm = np.zeros((r, c, c)), np.zeros((r, c))
        a, s, e = self._of_kind
        first = np.einsum("ca,da->acd", T[:, self.row[a]], C[:, self.column[a]])
        dC[a] = first + first.transpose(0, 2, 1)
        dm[a] = (T[:, self.row[a]] * at.mu[self.column[a]]).T
        second = np.einsum("ca,da->acd", T[:, self.row[s]], T[:, self.column[s]])
        diagonal = (self.row[s] == self.column[s])[:, None, None]
        dC[s] = np.where(diagonal, second, second + second.transpose(0, 2, 1))
        dm[e] = T[:, self.row[e]].T
        return dC, dm


def smallest_correlated(S: Floats) -> float:
    """Smallest eigenvalue of a symmetric matrix, scaled to a unit diagonal; -inf without any."""
    if not np.isfinite(S).all():
        return -np.inf
    root = np.sqrt(np.abs(np.diag(S)))
    root = np.where(root > 0, root, 1.0)
    return float(np.linalg.eigvalsh(S / np.outer(root, root))[0]) if len(S) else 0.0
