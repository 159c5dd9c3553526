"""Unstructured residuals over few places, without random effects: a trial by visit.

R of a group is a part of one matrix A (r, r) over all places, whose entries are the parameters.
Groups are padded to all places, U (G, r, w), with zeros where they have no row, and R^-1 likewise;
groups with rows at the same places share R. With Y = R^-1 U all first-order sums are entries of
Y'Y over groups, (r, w, r, w), and second-order ones entries of sums of R^-1 by matrices of places:

    b'E_kl b = sum over patterns of tr(A_k R^-1 A_l S),  S = sum of (Y b)(Y b)',

A_k = e_i e_j' + e_j e_i' for a covariance, e_i e_i' for a variance.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from ranef.covariance.between_rows import Unstructured
from ranef.solve.structured.contractions import Contracted
from ranef.solve.structured.design import Chunk
from ranef.solve.structured.moments import Sums
from ranef.solve.structured.rows import RowCovariance

__all__ = ["AtPlaces", "Places", "places_of"]

Floats = NDArray[np.float64]
Ints = NDArray[np.intp]

MOST_PLACES = 20
MOST_COLUMNS = 1_000
"""Places times columns, up to which sums over all pairs of places are kept."""


@dataclass(frozen=True, eq=False)
class Places:
    """Rows of groups at places.

    Attributes
    ----------
    part : Unstructured
    U : (G, r, w) float64 array
        [X, y] at each place, zero where there is no row.
    pattern : (G,) int array
        Which places a group has.
    seen : (P, r) bool array
        Of each pattern.
    """

    part: Unstructured
    U: Floats
    pattern: Ints
    seen: NDArray[np.bool_]

    @cached_property
    def counts(self) -> Floats:
        """Groups of each pattern."""
        return np.bincount(self.pattern, minlength=len(self.seen)).astype(np.float64)

    @cached_property
    def pairs(self) -> tuple[Ints, Ints, Floats]:
        """Places i, j of each parameter, and one half where they are the same."""
        i, j = (np.array(one, dtype=np.intp) for one in zip(*self.part.entries, strict=True))
        return i, j, np.where(i == j, 0.5, 1.0)

    def at(self, theta: Floats) -> AtPlaces:
        """Evaluate; raises LinAlgError where R is not positive definite."""
        A = self.part.matrix(theta)
        both = self.seen[:, :, None] & self.seen[:, None, :]
        R = np.where(both, A, 0.0) + np.eye(len(A)) * ~self.seen[:, :, None]
        lower = np.linalg.cholesky(R)
        pivots = np.diagonal(lower, axis1=1, axis2=2)
        if np.any(pivots**2 < 1e-14 * np.diagonal(R, axis1=1, axis2=2)):
            raise np.linalg.LinAlgError("a residual covariance is singular")
        half = np.linalg.inv(lower)
        inverse = np.where(both, np.swapaxes(half, 1, 2) @ half, 0.0)
        log_determinant = 2.0 * float(self.counts @ np.log(pivots).sum(axis=1))
        return AtPlaces(self, inverse, log_determinant)


@dataclass(frozen=True, eq=False)
class AtPlaces:
    """The same at one theta.

    Attributes
    ----------
    places : Places
    inverse : (P, r, r) float64 array
        R^-1 of each pattern, zero at places that it has not.
    log_determinant : float
        log|R| of all groups.
    """

    places: Places
    inverse: Floats
    log_determinant: float

    @cached_property
    def Y(self) -> Floats:
        """R^-1 U, (G, r, w)."""
        return np.asarray(self.inverse[self.places.pattern] @ self.places.U)

    def sums(self, derivatives: bool = True) -> Sums:
        """Sums over groups, with those of first derivatives."""
        U, Y = self.places.U, self.Y
        r, w = U.shape[1:]
        S = U.reshape(-1, w).T @ Y.reshape(-1, w)
        S = (S + S.T) / 2
        if not derivatives:
            return Sums(self.log_determinant, S, np.zeros((0, w, w)), np.zeros(0))
        flat = Y.reshape(len(Y), r * w)
        crossed = (flat.T @ flat).reshape(r, w, r, w)
        i, j, half = self.places.pairs
        one = crossed[i, :, j, :]
        first = half[:, None, None] * (one + np.swapaxes(one, 1, 2))
        total = np.tensordot(self.places.counts, self.inverse, axes=1)
        return Sums(self.log_determinant, S, first, 2.0 * half * total[i, j])

    def information(self, b: Floats) -> Floats:
        """b'U'R^-1 A_k R^-1 A_l R^-1 U b, (k, k)."""
        s = self.Y @ b
        return self._quadruple(self._by_pattern(s[:, :, None] * s[:, None, :]))

    def contracted(self, b: Floats, C: Floats) -> Contracted:
        """Second-order sums, contracted."""
        X = self.Y[:, :, :-1]
        projected = self._by_pattern(X @ C @ np.swapaxes(X, 1, 2))
        traces = self.places.counts[:, None, None] * self.inverse
        none = np.zeros((len(self.places.pairs[0]),) * 2)
        return Contracted(
            self.information(b), self._quadruple(projected), self._quadruple(traces), none,
            none, none,
        )  # fmt: skip

    def weighted(self, W: Floats) -> tuple[Floats, Floats]:
        """Sums over pairs of parameters, weighted, as `contractions.weighted` has them."""
        slopes, r = self.places.part.slopes, self.places.U.shape[1]
        flat = slopes.reshape(len(slopes), r * r)
        # A_k[a, c] A_l[d, b] as (a b, c d)
        four = (flat.T @ W @ flat).reshape(r, r, r, r).transpose(0, 3, 1, 2).reshape(r * r, r * r)
        inner = (self.inverse.reshape(-1, r * r) @ four.T).reshape(-1, r, r)
        w = self.Y.shape[2]
        moved = inner[self.places.pattern] @ self.Y
        out = self.Y.reshape(-1, w).T @ moved.reshape(-1, w)
        return (out + out.T) / 2, np.zeros((w, w))

    def _by_pattern(self, matrices: Floats) -> Floats:
        """Sums (P, r, r) of matrices (G, r, r) of groups."""
        out = np.zeros_like(self.inverse)
        np.add.at(out, self.places.pattern, matrices)
        return out

    def _quadruple(self, S: Floats) -> Floats:
        """Sum over patterns of tr(A_k R^-1 A_l S_p), (k, k)."""
        r = S.shape[1]
        T = self.inverse.reshape(-1, r * r).T @ S.reshape(-1, r * r)
        T = T.reshape(r, r, r, r)
        i, j, half = self.places.pairs
        p, q = i[None], j[None]
        a, c = i[:, None], j[:, None]
        found = T[a, p, c, q] + T[a, q, c, p] + T[c, p, a, q] + T[c, q, a, p]
        return np.asarray(half[:, None] * half * found)


def places_of(rows: RowCovariance, chunks: tuple[Chunk, ...]) -> Places | None:
    """Pad a model's groups to all places; None of models of another kind, or of many places."""
    term = rows.term
    plain = len(term.parts) == 1 and not term.scales and term.by is None and term.group is not None
    part = rows.correlations[0][0] if plain else None
    if not isinstance(part, Unstructured) or len(chunks) != 1 or chunks[0].levels:
        return None
    chunk, r = chunks[0], len(part.names)
    w = chunk.U.shape[1]
    assert term.group is not None
    if r > MOST_PLACES or r * w > MOST_COLUMNS:
        return None
    codes = np.unique(term.group.codes[chunk.rows], return_inverse=True)[1].reshape(-1)
    where = np.asarray(term.parts[0].where, dtype=np.intp).reshape(-1)[chunk.rows]
    U = np.zeros((int(codes.max()) + 1, r, w))
    U[codes, where] = chunk.U
    has = np.zeros(U.shape[:2], dtype=np.bool_)
    has[codes, where] = True
    seen, pattern = np.unique(has, axis=0, return_inverse=True)
    return Places(part, U, pattern.reshape(-1).astype(np.intp), seen)
