"""What a linear model says of rows that it is not given, without fitting it again.

With P = H^-1 - H^-1 X C X'H^-1, H = V / sigma^2, the rows S given all others, the fixed effects
estimated from these, are normal at fixed variance parameters:

    y_S - E(y_S | y_-S) = P_SS^-1 (P y)_S,   Var(y_S | y_-S) = sigma^2 P_SS^-1

(Haslett 1999, J. R. Stat. Soc. B 61, deletion formulas; the inverse of a block of the precision
of the residual contrasts). P_SS is made block by block of rows that share few columns with
others: what lies within a block goes into V_B = R_B + Z_B Psi Z_B', the columns A of all else
(fixed effects, crossed effects scaled to unit variance) into one system of their own,

    T = sum_B A_B'V_B^-1 A_B + diag(0, I),   P_BB = V_B^-1 - V_B^-1 A_B T^-1 A_B'V_B^-1.

The restricted likelihood of all rows is that of the others times the density of S, so that the
parameters without S are to first order psi - 2 D''^-1 g_S, g_S the gradient of log p(y_S | y_-S)
and D'' the Hessian of minus twice the log-likelihood; taking psi as fixed then flatters the sum
of log densities by sum_S 2 g_S' D''^-1 g_S, the optimism.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ranef import squares
from ranef.covariance import structure_of
from ranef.covariance.factor import square_root
from ranef.derivatives import linear
from ranef.derivatives.second_order import curvature
from ranef.design.connected import connected_rows
from ranef.design.specification import Specification
from ranef.errors import ModelError
from ranef.models.noise import Noise
from ranef.models.records import LinearEstimate, theta_slices
from ranef.solve.resources import one_blas_thread

__all__ = ["LeftOut", "LinearModel", "left_out", "log_densities", "optimism", "rows_of"]

Floats = NDArray[np.float64]
Ints = NDArray[np.intp]

MOST_SHARED = 5_000
"""Columns that blocks may share."""
MOST_ROWS = 4_000
"""Rows of a block."""
UNDETERMINED = 1e9
"""A variance this many times that given the other rows of its set is none."""
WAITING = 4_000_000
CELLS = 2_000_000
"""Numbers of one array at most, unless one block needs more."""
STEP = 1e-4


@dataclass(frozen=True, eq=False)
class LinearModel:
    """A linear model at given variance parameters.

    Attributes
    ----------
    spec : Specification
    psis : sequence of (r, r) arrays
        Covariances of the effects of each term, relative to sigma^2.
    noise : Noise
        Of the residuals.
    sigma : float
    """

    spec: Specification
    psis: Sequence[Floats]
    noise: Noise
    sigma: float

    @classmethod
    def of(
        cls,
        estimate: LinearEstimate,
        theta: Floats | None = None,
        spec: Specification | None = None,
    ) -> LinearModel:
        """That of an estimate, at another theta or for other rows."""
        theta = estimate.theta if theta is None else theta
        spec = estimate.specification if spec is None else spec
        psis = [
            structure_of(term).psi(theta[place])
            for term, place in zip(estimate.terms, theta_slices(estimate), strict=True)
        ]
        noise = Noise.of(estimate, spec.residual, spec.weights, spec.n, theta)
        return cls(spec, psis, noise, estimate.sigma)


@dataclass(frozen=True, eq=False)
class LeftOut:
    """Sets of rows given all rows outside the set.

    Attributes
    ----------
    rows : list of (m,) int arrays
        Of each set.
    rest : list of (m,) float64 arrays
        Response minus its expectation.
    covariance : list of (m, m) float64 arrays
        Relative to sigma^2.
    """

    rows: list[Ints]
    rest: list[Floats]
    covariance: list[Floats]


def rows_of(codes: NDArray[np.integer]) -> list[Ints]:
    """Rows of each set 0 .. G - 1; those of code -1 are in none."""
    order = np.argsort(codes, kind="stable").astype(np.intp)
    order = order[np.searchsorted(codes[order], 0) :]
    ends = np.cumsum(np.bincount(codes[order])) if len(order) else np.zeros(0, dtype=np.intp)
    return [np.asarray(part) for part in np.split(order, ends[:-1])]


def left_out(model: LinearModel, sets: NDArray[np.integer], only: int | None = None) -> LeftOut:
    """Return what each set of rows is expected to be, given all others.

    Parameters
    ----------
    model : LinearModel
    sets : (n,) int array
        Set of each row; -1 of rows that are in none.
    only : int, optional
        One set instead of all; the lists have one entry.

    Raises
    ------
    ModelError
        Where the others do not determine the fixed effects, or too much is shared.
    """
    with one_blas_thread():  # many small matrices
        return _left_out(model, sets, only)


def _left_out(model: LinearModel, sets: NDArray[np.integer], only: int | None) -> LeftOut:
    blocks = _Blocks(model, _partition(model.spec, sets))
    wanted = rows_of(sets)
    chosen = np.arange(len(wanted)) if only is None else np.array([only])
    of_block = blocks.codes[np.array([wanted[s][0] for s in chosen])]
    place = blocks.place
    found: dict[int, tuple[Floats, Floats]] = {}
    for batch in blocks.batches:
        here = np.flatnonzero(np.isin(of_block, batch.blocks))
        if not len(here):
            continue
        at = np.searchsorted(batch.blocks, of_block[here])
        kept, inverse = np.unique(at, return_inverse=True)
        P, Py = blocks.precision(batch, kept)
        sizes = np.array([len(wanted[s]) for s in chosen[here]])
        for m in np.unique(sizes):
            own = np.flatnonzero(sizes == m)
            inside = place[np.stack([wanted[s] for s in chosen[here[own]]])]
            k = inverse.reshape(-1)[own][:, None]
            block = P[k[:, :, None], inside[:, :, None], inside[:, None, :]]
            S = _inverted(block)
            rest = np.einsum("gij,gj->gi", S, Py[k, inside])
            for j, s in enumerate(chosen[here[own]]):
                found[int(s)] = rest[j], S[j]
    return LeftOut(
        [wanted[s] for s in chosen],
        [found[int(s)][0] for s in chosen],
        [found[int(s)][1] for s in chosen],
    )


def _inverted(P: Floats) -> Floats:
    """Inverses (g, m, m) of precisions that must be definite."""
    here = np.einsum("gii->gi", P)
    try:
        S = np.linalg.inv(P)
    except np.linalg.LinAlgError:
        S = np.full_like(P, np.inf)
    there = np.einsum("gii->gi", S)
    if np.any(here <= 0) or not np.all(here * there < UNDETERMINED) or np.any(there <= 0):
        raise ModelError(
            "without some of the sets the other rows do not determine the fixed effects; leave "
            "out smaller sets, or take out the coefficients that rest on one set"
        )
    return np.asarray((S + np.swapaxes(S, 1, 2)) / 2)


def _partition(spec: Specification, sets: NDArray[np.integer]) -> NDArray[np.intp]:
    """Blocks of rows: the sets, or levels of a factor that hold whole sets and share less."""
    alone = np.asarray(sets, dtype=np.intp).copy()
    free = alone < 0
    alone[free] = alone.max(initial=-1) + 1 + np.arange(int(free.sum()))
    if spec.residual is not None and spec.residual.group is not None:
        alone = connected_rows([alone, spec.residual.group.codes])
    candidates = [alone]
    for factor in spec.factors:
        candidates.append(connected_rows([alone, factor.codes]))
    usable = [c for c in candidates if np.bincount(c).max() <= MOST_ROWS]
    return min(usable or candidates[:1], key=lambda c: _shared(spec, c))


def _shared(spec: Specification, blocks: NDArray[np.intp]) -> int:
    return sum(
        spec.factors[t.factor].n_levels * t.size
        for t in spec.terms
        if t.kernel is not None or not spec.factors[t.factor].lies_within(blocks)
    )


@dataclass(frozen=True, eq=False)
class _Batch:
    """Blocks of one size.

    Attributes
    ----------
    blocks : (g,) int array
        Their numbers, rising.
    rows : (g, m) int array
    inverse : (g, m, m) float64 array
        V_B^-1.
    """

    blocks: Ints
    rows: Ints
    inverse: Floats


class _Sums:
    """Sums of weights by entry, taken a few millions at a time."""

    def __init__(self, size: int) -> None:
        self.out, self.waiting, self.count = np.zeros(size), list[tuple[Ints, Floats]](), 0

    def add(self, entries: Ints, weights: Floats) -> None:
        self.waiting.append((entries.ravel(), weights.ravel()))
        self.count += entries.size
        if self.count > WAITING:
            self.total()

    def total(self) -> Floats:
        if self.waiting:
            entries, weights = (np.concatenate(part) for part in zip(*self.waiting, strict=True))
            self.out += np.bincount(entries, weights, minlength=len(self.out))
        self.waiting, self.count = [], 0
        return self.out


class _Blocks:
    """A linear model by blocks of rows, and the system of what they share.

    A row has p fixed effects, and for each shared term r entries in columns of its level.
    """

    def __init__(self, model: LinearModel, codes: NDArray[np.intp]) -> None:
        spec = model.spec
        self.model, self.codes = model, codes
        shared = _shared(spec, codes)
        if shared > MOST_SHARED:
            raise ModelError(
                f"the rows left out share {shared:,} random effects with others, and a closed form "
                f"takes at most {MOST_SHARED:,}; leave out levels of the largest factor, or use "
                "cross_validate() with folds"
            )
        sizes = np.bincount(codes)
        if sizes.max() > MOST_ROWS:
            raise ModelError(
                f"a set of {sizes.max():,} rows is left out together, and a closed form takes at "
                f"most {MOST_ROWS:,}; use cross_validate()"
            )
        self._share()
        rows = rows_of(codes)
        self.place = np.empty(spec.n, dtype=np.intp)
        for own in rows:
            self.place[own] = np.arange(len(own))
        self.batches = []
        for m in np.unique(sizes):
            numbers = np.flatnonzero(sizes == m)
            step = max(1, CELLS // int(m) ** 2)
            for first in range(0, len(numbers), step):
                own = numbers[first : first + step]
                self.batches.append(self._batch(own, np.stack([rows[b] for b in own])))
        self._solve()

    def _share(self) -> None:
        """Columns (n, k) that each row has in the shared effects, its values, and their prior."""
        spec, ids, values, start = self.model.spec, [], [], 0
        self.inside: list[tuple[NDArray[np.int32], Floats, Floats]] = []
        priors: list[Any] = []
        for term, psi in zip(spec.terms, self.model.psis, strict=True):
            factor = spec.factors[term.factor]
            if term.kernel is None and factor.lies_within(self.codes):
                self.inside.append((factor.codes, term.z, psi))
                continue
            r = term.size
            ids.append(start + factor.codes[:, None].astype(np.intp) * r + np.arange(r))
            values.append(term.z @ square_root(psi[None])[0])
            start += factor.n_levels * r
            size = factor.n_levels * r
            priors.append(None if term.kernel is None else np.kron(term.kernel, np.eye(r)))
            if priors[-1] is None:
                priors[-1] = np.eye(size) if any(t.kernel is not None for t in spec.terms) else None
        n = spec.n
        self.ids = np.hstack([np.empty((n, 0), dtype=np.intp), *ids])
        self.values = np.hstack([np.empty((n, 0)), *values])
        self.shared = start
        self.prior: Floats | None = None
        if any(t.kernel is not None for t in spec.terms):
            from scipy.linalg import block_diag

            self.prior = block_diag(*priors)

    def _batch(self, blocks: Ints, rows: Ints) -> _Batch:
        V = self.model.noise.covariance(rows)
        for codes, z, psi in self.inside:
            own, columns = codes[rows], z[rows]
            products = columns @ psi @ np.swapaxes(columns, 1, 2)
            V = V + np.where(own[:, :, None] == own[:, None, :], products, 0.0)
        return _Batch(blocks, rows, squares.inverse(V))

    def _solve(self) -> None:
        """Covariance C of fixed and shared effects, and their estimates."""
        spec, p, q = self.model.spec, self.model.spec.p, self.shared
        y = spec.y if spec.offset is None else spec.y - spec.offset
        T, right = np.zeros((p + q, p + q)), np.zeros(p + q)
        cross = _Sums(q * q)
        for batch in self.batches:
            rows, inverse = batch.rows, batch.inverse
            X, Y = spec.X[rows], y[rows]
            pulled = inverse @ X
            T[:p, :p] += np.einsum("gmi,gmj->ij", X, pulled, optimize=True)
            solved = np.einsum("gij,gj->gi", inverse, Y)
            right[:p] += np.einsum("gmi,gm->i", X, solved)
            ids, values = self.ids[rows], self.values[rows]
            for a in range(ids.shape[2]):
                column, value = ids[:, :, a], values[:, :, a]
                np.add.at(right, p + column, value * solved)
                for j in range(p):
                    weights = (value * pulled[:, :, j]).ravel()
                    T[j, p:] += np.bincount(column.ravel(), weights, minlength=q)
                for b in range(ids.shape[2]):
                    entry = column[:, :, None] * q + ids[:, None, :, b]
                    weights = value[:, :, None] * inverse * values[:, None, :, b]
                    cross.add(entry, weights)
        T[p:, :p], T[p:, p:] = T[:p, p:].T, cross.total().reshape(q, q)
        if self.prior is None:
            T[np.arange(p, p + q), np.arange(p, p + q)] += 1.0
            self.gamma = squares.solve(T, right[:, None])[:, 0]
            self.C = squares.inverse(T)
            return
        # effects with covariance D that may be singular: (D T + I) in place of T + D^-1
        T[p:] = self.prior @ T[p:]
        T[np.arange(p, p + q), np.arange(p, p + q)] += 1.0
        D = np.eye(p + q)
        D[p:, p:] = self.prior
        C = np.linalg.solve(T, D)
        self.C = (C + C.T) / 2
        self.gamma = self.C @ right

    def precision(self, batch: _Batch, kept: Ints) -> tuple[Floats, Floats]:
        """P_BB (g, m, m) and (P y)_B (g, m) of some blocks of a batch."""
        spec, p = self.model.spec, self.model.spec.p
        rows, inverse = batch.rows[kept], batch.inverse[kept]
        X, ids, values = spec.X[rows], self.ids[rows], self.values[rows]
        C = self.C
        inner = X @ C[:p, :p] @ np.swapaxes(X, 1, 2)
        mean = X @ self.gamma[:p]
        for a in range(ids.shape[2]):
            column, value = ids[:, :, a], values[:, :, a]
            mean = mean + value * self.gamma[p + column]
            crossed = X @ (np.moveaxis(C[:p, p + column], 0, 1) * value[:, None, :])
            inner = inner + crossed + np.swapaxes(crossed, 1, 2)
            for b in range(ids.shape[2]):
                block = C[p + column[:, :, None], p + ids[:, None, :, b]]
                inner = inner + value[:, :, None] * block * values[:, None, :, b]
        P = inverse - inverse @ inner @ inverse
        rest = spec.y[rows] - mean - (0.0 if spec.offset is None else spec.offset[rows])
        return (P + np.swapaxes(P, 1, 2)) / 2, np.einsum("gij,gj->gi", inverse, rest)


def log_densities(found: LeftOut, sigma: float) -> Floats:
    """Log density (G,) of each set, of its rows together."""
    with one_blas_thread():
        sizes, forms, log_dets = _forms(found)
    twice = sizes * np.log(2 * np.pi * sigma**2) + log_dets + forms / sigma**2
    return np.asarray(-0.5 * twice)


def _forms(found: LeftOut) -> tuple[Floats, Floats, Floats]:
    """Sizes of the sets, e'S^-1 e and log|S|, each (G,)."""
    sizes = np.array([len(e) for e in found.rest])
    forms, log_dets = np.empty(len(sizes)), np.empty(len(sizes))
    for m in np.unique(sizes):
        own = np.flatnonzero(sizes == m)
        lower = np.linalg.cholesky(np.stack([found.covariance[k] for k in own]))
        e = np.stack([found.rest[k] for k in own])
        forms[own] = np.sum(np.linalg.solve(lower, e[:, :, None])[:, :, 0] ** 2, axis=1)
        log_dets[own] = 2.0 * np.log(np.einsum("gii->gi", lower)).sum(axis=1)
    return sizes.astype(np.float64), forms, log_dets


def optimism(estimate: LinearEstimate, sets: NDArray[np.integer], found: LeftOut) -> float:
    """How much the sum of log densities gains from variance parameters that have seen the sets.

    To first order, see the module. 0 where sigma alone is estimated and the sets are many.
    """
    base = log_densities(found, estimate.sigma)
    curved = curvature(estimate) if len(estimate.theta) else None
    free = np.flatnonzero(linear.free(estimate)) if curved is not None else np.empty(0, np.intp)
    spec = estimate.specification
    m = spec.n - (spec.p if estimate.reml else 0)
    k = len(free)
    slopes = np.empty((len(base), k + 1))
    for j, model in enumerate(_moved_models(estimate, free)):
        step, at = model
        slopes[:, j] = (log_densities(left_out(at, sets), at.sigma) - base) / step
    sizes, forms, _ = _forms(found)
    slopes[:, k] = -sizes + forms / estimate.sigma**2
    H = np.full((1, 1), 4.0 * m)
    if curved is not None and k:
        g = curved.log_r2
        H = np.block(
            [
                [curved.hessian + m * np.outer(g, g), -2.0 * m * g[:, None]],
                [-2.0 * m * g[None, :], np.array([[4.0 * m]])],
            ]
        )
    H[-1, -1] = 4.0 * m
    return 2.0 * float(np.sum(slopes * np.linalg.solve(H, slopes.T).T))


def _moved_models(
    estimate: LinearEstimate, free: NDArray[np.intp]
) -> Iterator[tuple[float, LinearModel]]:
    for i in free:
        theta = estimate.theta.copy()
        step = STEP * max(abs(float(theta[i])), 1e-2)
        theta[i] += step
        yield step, LinearModel.of(estimate, theta)
