"""Expected information of two levels with missing values, without a matrix of a unit's values.

The rows of a unit have the covariance D + Q V Q' with D block diagonal by row, so that
K = Q'C^-1 Q = H (I + V H)^-1 with H = Q'D^-1 Q, and every trace is one of matrices as wide as the
level's coordinates. What is observed of the unit itself is conditioned on.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ranef.fields.structural.expected_moments import Moments
from ranef.fields.structural.problem import GroupProblem

__all__ = ["add_units", "is_plain"]

Floats = NDArray[np.float64]
Ints = NDArray[np.intp]


def is_plain(group: GroupProblem) -> bool:
    """Whether a group has two levels, and its coordinates are parts of the rows' variables."""
    layout = group.coordinates.layout
    return len(group.data.levels) == 1 and bool(
        (layout.response >= 0).all() and (layout.column == 0).all()
    )


@dataclass(frozen=True, eq=False)
class _Rows:
    """What the rows' patterns have in common.

    Attributes
    ----------
    F : (patterns, p, p) array
        Inverses of the observed parts, zero elsewhere.
    FdF : (patterns, P, c, c) array
        F dW F at the variables that have a part between.
    Fd : (patterns, P, c, k) array
        F dB there.
    """

    F: Floats
    FdF: Floats
    Fd: Floats

    @classmethod
    def of(cls, group: GroupProblem, at: Moments, into: Ints) -> _Rows:
        present = group.data.patterns.present.astype(bool)
        F = np.zeros((len(present), *at.W.shape))
        for o, seen in enumerate(present):
            grid = np.ix_(seen, seen)
            F[o][grid] = np.linalg.inv(at.W[grid])
        FdF = np.stack([(one[into] @ at.dW @ one[:, into]) for one in F])
        return cls(F, FdF, np.stack([one[into] @ at.dB for one in F]))


def add_units(group: GroupProblem, at: Moments, out: Floats) -> None:
    """Add the information (P, P) of every unit and row of a group."""
    data = group.data
    into = np.asarray(group.coordinates.layout.response, dtype=np.intp)
    rows = _Rows.of(group, at, into)
    units, patterns = data.levels[0].units, len(rows.F)
    of = np.asarray(data.levels[0].codes, dtype=np.intp)
    x = np.column_stack([np.ones(data.n), data.x])
    cell, place = np.unique(of * patterns + data.patterns.codes, return_inverse=True)
    counts = np.bincount(place.ravel(), minlength=len(cell)).astype(np.float64)
    sums = np.zeros((len(cell), x.shape[1]))
    np.add.at(sums, place.ravel(), x)
    between = np.zeros((patterns, len(into), len(into)))
    bounds = np.searchsorted(cell // patterns, np.arange(units + 1))
    seen = ~np.isnan(data.levels[0].z)
    kinds, kind = np.unique(seen, axis=0, return_inverse=True)
    for k, observed in enumerate(kinds):
        upper = _Upper.of(at, observed, len(into))
        members = np.flatnonzero(kind.ravel() == k)
        out += len(members) * upper.own
        for unit in members:
            cells = slice(bounds[unit], bounds[unit + 1])
            which = cell[cells] % patterns
            between[which] += upper.add(rows, into, which, counts[cells], sums[cells], out)
    for o in range(patterns):
        chosen = data.patterns.codes == o
        _add_rows(at, rows.F[o], into, x[chosen], between[o], out)


def _add_rows(at: Moments, F: Floats, into: Ints, x: Floats, G: Floats, out: Floats) -> None:
    """What rows of one pattern add by themselves; G is the sum of the units' (V^-1 + H)^-1."""
    P = len(out)
    Fd = F @ at.dW
    shared = F[:, into] @ G @ F[into]
    first = at.dW @ F
    out += len(x) / 2 * (Fd.reshape(P, -1) @ first.reshape(P, -1).T)
    out -= at.dW.reshape(P, -1) @ (F @ at.dW @ shared).reshape(P, -1).T
    means = at.dB @ (x.T @ x)
    out += (F @ at.dB).reshape(P, -1) @ means.reshape(P, -1).T


@dataclass(frozen=True, eq=False)
class _Upper:
    """Moments of a unit's coordinates given what is observed of the unit itself.

    Attributes
    ----------
    V, dV : (c, c) and (P, c, c) arrays
    dn : (P, c) array
        Derivatives of the mean where the unit is at its own mean.
    bent : (P, c, z) array
        Derivatives of the regression on what is observed, times a root of its covariance.
    own : (P, P) array
        Information in what is observed.
    """

    V: Floats
    dV: Floats
    dn: Floats
    bent: Floats
    own: Floats

    @classmethod
    def of(cls, at: Moments, observed: NDArray[np.bool_], c: int) -> _Upper:
        S, dS, dm = at.S[0], at.dS[0], at.dm[0]
        z = c + np.flatnonzero(observed)
        u = np.arange(c)
        Z, dZ = S[np.ix_(z, z)], dS[:, z[:, None], z[None, :]]
        root = np.linalg.cholesky(Z) if len(z) else Z
        inverse = np.linalg.inv(root)
        A = S[np.ix_(u, z)] @ inverse.T @ inverse
        dC = dS[:, u[:, None], z[None, :]]
        dA = (dC - A @ dZ) @ inverse.T @ inverse
        V = S[np.ix_(u, u)] - A @ S[np.ix_(z, u)]
        dV = dS[:, u[:, None], u[None, :]] - dC @ A.T - A @ dC.transpose(0, 2, 1) + A @ dZ @ A.T
        X = (inverse @ dZ @ inverse.T).reshape(len(dS), -1)
        m = dm[:, z] @ inverse.T
        return cls(V, dV, dm[:, u] - dm[:, z] @ A.T, dA @ root, X @ X.T / 2 + m @ m.T)

    def add(
        self, rows: _Rows, into: Ints, which: Ints, counts: Floats, sums: Floats, out: Floats
    ) -> Floats:
        """Add a unit's information; return its (V^-1 + H)^-1 times the counts of its patterns."""
        P, c = len(out), len(into)
        H = np.einsum("o,oab->ab", counts, rows.F[which][:, into[:, None], into[None, :]])
        M = np.linalg.inv(np.eye(c) + self.V @ H)
        K, G = H @ M, M @ self.V
        T = np.tensordot(counts, rows.FdF[which], axes=1)
        first, second = M.T @ T @ M, K @ self.dV
        cross = first.reshape(P, -1) @ self.dV.reshape(P, -1).T
        inner = T @ G
        out += _traces(inner) / 2 + _traces(second) / 2 + (cross + cross.T) / 2
        n = self.dn
        r = np.einsum("oPak,ok->Pa", rows.Fd[which], sums)
        out += r @ n.T + n @ r.T + n @ H @ n.T
        r = r + n @ H
        out -= r @ G @ r.T
        if self.bent.size:
            out += self.bent.reshape(P, -1) @ (K @ self.bent).reshape(P, -1).T
        return counts[:, None, None] * G


def _traces(X: Floats) -> Floats:
    """Traces (P, P) of the products of matrices (P, c, c)."""
    flat = X.reshape(len(X), -1)
    return np.asarray(flat @ X.transpose(0, 2, 1).reshape(len(X), -1).T)
