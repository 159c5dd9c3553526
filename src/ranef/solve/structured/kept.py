"""A structured model at its optimum: modes, prediction errors and derivatives."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from ranef.covariance.factor import square_root
from ranef.errors import ModelError
from ranef.solve.structured.design import Batch, Chunk
from ranef.solve.structured.factors import curvature_of_factors
from ranef.solve.structured.marginal import curvature_of_wall, is_near_boundary, marginal_problem
from ranef.solve.structured.moments import (
    Products,
    Solved,
    batch_steps,
    check_dense,
    products_of,
    solved_clusters,
)
from ranef.solve.structured.problem import StructuredPoint, StructuredProblem
from ranef.solve.structured.rows import GroupJet
from ranef.squares import solve

__all__ = ["SolvedRows", "keep_solved", "solved_rows"]

Floats = NDArray[np.float64]
Ints = NDArray[np.integer]


BEND = 1e-4
"""Step along a second derivative of V, relative to sigma^2."""


@dataclass(frozen=True, eq=False)
class SolvedRows:
    """A structured model at one theta.

    Attributes
    ----------
    problem : StructuredProblem
    at : StructuredPoint
        With exact second derivatives.
    """

    problem: StructuredProblem
    at: StructuredPoint

    @cached_property
    def wall(self) -> Floats:
        """Curvature (k, k) across the boundary of R or a factor, of an optimum on it, or zero."""
        across_factors = curvature_of_factors(self.problem, self.at)
        return curvature_of_wall(self.problem, self.at) + across_factors

    @cached_property
    def hessian(self) -> Floats:
        """Second derivatives (k, k) of the criterion, on the boundary where the optimum is."""
        return np.asarray(self.at.hessian + self.wall)

    def beside_singular(self) -> SolvedRows:
        """The same by V of the groups made itself where R has hardly an inverse; else this.

        Products with R^-1 to the fourth power have no digits left there.
        """
        if not self.wall.any():
            return self
        marginal = marginal_problem(self.problem)
        at = None if marginal is None else marginal.point(self.theta, self.is_reml, 2)
        return self if marginal is None or at is None else SolvedRows(marginal, at)

    @property
    def is_reml(self) -> bool:
        return self.at.degrees < self.problem.spec.n

    @property
    def theta(self) -> Floats:
        return self.at.theta

    @property
    def sigma(self) -> float:
        return float(self.problem.scale * np.sqrt(self.at.r2 / self.at.degrees))

    @cached_property
    def clusters(self) -> tuple[tuple[Chunk, Products, Floats, Solved], ...]:
        """Products, Psi and the small systems of each chunk."""
        own = self.problem.split(self.theta)[1]
        out = []
        for chunk in self.problem.chunks:
            found = products_of(self.problem.rows, own, chunk, False)
            psi = self.problem.random(self.theta, chunk, False).psi
            out.append((chunk, found, psi, solved_clusters(found, psi)))
        return tuple(out)

    @cached_property
    def free(self) -> NDArray[np.bool_]:
        """Which entries of theta are inside their range and matter, (k,)."""
        parts, own = self.problem.split(self.theta)
        out = []
        for structure, part, term in zip(
            self.problem.structures, parts, self.problem.spec.terms, strict=True
        ):
            if structure.kind in ("us", "kernel"):
                rank = _rank(structure.psi(part))
                columns = np.repeat(np.arange(term.size), np.arange(term.size, 0, -1))
                out.append(columns < rank)
            else:
                out.append(structure.free(part))
        return np.concatenate([*out, self.problem.rows.loose(own)])

    def joint_hessian(self) -> Floats:
        """Second derivatives of minus twice the log-likelihood in (theta, log sigma)."""
        at = self.at
        scores = at.contracted(at.sums.first)
        g = -scores / at.r2
        m = at.degrees
        k = len(g)
        out = np.empty((k + 1, k + 1))
        out[:k, :k] = self.hessian + m * np.outer(g, g)
        out[:k, k] = out[k, :k] = -2.0 * m * g
        out[k, k] = 4.0 * m
        return out

    def bent_traces(self, W: Floats) -> Floats:
        """sum_ij W_ij tr(P V_ij P V_k), (k,): by central differences of tr(P V_k)."""
        problem, size = self.problem, float(np.abs(W).max(initial=0.0))
        if size == 0.0 or not problem.is_bent(self.theta):
            return np.zeros(problem.n_parameters)
        marginal = marginal_problem(problem)
        if marginal is not None and is_near_boundary(problem, self.theta):
            problem = marginal  # V is still definite where R is not
        up, down = (problem.mean_traces(self.theta, W / size, sign * BEND) for sign in (1.0, -1.0))
        return (down - up) / (2 * BEND) * size

    # --- modes

    def modes(self) -> tuple[Floats, ...]:
        """Modes (q, r) of each random term."""
        out = self._empty()
        if not out:
            return out
        for chunk, _, psi, solved in self.clusters:
            effects = (solved.T @ self.at.b) @ psi
            self._place(out, chunk, self.problem.scale * effects)
        return out

    def _empty(self, *shape: int) -> tuple[Floats, ...]:
        spec = self.problem.spec
        return tuple(
            np.zeros((spec.factors[t.factor].n_levels, t.size, *shape)) for t in spec.terms
        )

    def _place(self, out: tuple[Floats, ...], chunk: Chunk, effects: Floats) -> None:
        """Put effects (c, q, ...) of clusters where their levels are."""
        start = 0
        for own, levels, term in zip(out, chunk.levels, self.problem.spec.terms, strict=True):
            count = levels.shape[1]
            part = effects[:, start : start + count * term.size]
            part = part.reshape(len(levels), count, term.size, *effects.shape[2:])
            start += count * term.size
            known = levels >= 0
            own[levels[known]] = part[known]

    # --- solving with other responses

    def solved(self, Y: Floats) -> tuple[list[Floats], Floats, Floats]:
        """V^-1 of responses Y (n, m), rows weighted as they are.

        Returns
        -------
        by_chunk : list of (c, q, m) arrays
            Z'V^-1 Y.
        fixed : (p, m) array
            X'V^-1 Y, on the problem's scale of X.
        full : (n, m) array
            V^-1 Y, of rows as they stand, weights included.
        """
        p = self.problem.spec.p
        root = self.root
        fixed = np.zeros((p, Y.shape[1]))
        full = np.zeros_like(Y)
        scores = []
        for chunk, _, _, solved in self.clusters:
            q = solved.q
            Yc = root[chunk.rows, None] * Y[chunk.rows]
            turned = self.precision_times(chunk, Yc)
            cluster = self.cluster_of(chunk)
            zy = np.zeros((chunk.clusters, q, Y.shape[1]))
            if q:
                np.add.at(zy, cluster, chunk.U[:, :q, None] * turned[:, None, :])
                pulled = solved.W @ zy
                turned = turned - self.precision_times(
                    chunk, np.einsum("nq,nqm->nm", chunk.U[:, :q], pulled[cluster])
                )
                zy = zy - solved_products(self.clusters, chunk) @ pulled
            fixed += chunk.U[:, q : q + p].T @ turned
            full[chunk.rows] = root[chunk.rows, None] * turned
            scores.append(zy)
        return scores, fixed, full

    @cached_property
    def root(self) -> Floats:
        """Square roots of the weights, (n,)."""
        spec = self.problem.spec
        return np.ones(spec.n) if spec.weights is None else np.sqrt(spec.weights)

    def cluster_of(self, chunk: Chunk) -> Ints:
        """Cluster of each row of a chunk."""
        out = np.zeros(len(chunk.rows), dtype=np.intp)
        for batch in chunk.batches:
            out[batch.rows] = batch.clusters[:, None]
        return out

    def jet(self, chunk: Chunk, batch: Batch) -> GroupJet:
        """R of a batch."""
        own = self.problem.split(self.theta)[1]
        rows = chunk.rows[batch.rows[:1] if batch.shared else batch.rows]
        check_dense(rows.shape, self.problem.rows.n_parameters)
        return self.problem.rows.at(own, rows, batch.by)

    def precision_times(self, chunk: Chunk, Y: Floats) -> Floats:
        """R^-1 Y of the rows of a chunk."""
        out = np.empty_like(Y)
        own = self.problem.split(self.theta)[1]
        for batch in chunk.batches:
            if batch.in_order:
                steps, _ = batch_steps(self.problem.rows, own, chunk, batch)
                out[batch.rows] = steps.inverse.times(Y[batch.rows])
                continue
            R = self.jet(chunk, batch).value
            wide = np.broadcast_to(R, (len(batch.rows), *R.shape[1:]))
            out[batch.rows] = solve(wide, Y[batch.rows])
        return out

    def effects_of(self, Y: Floats) -> tuple[tuple[Floats, ...], Floats]:
        """Modes (q, r, m) of each term and fixed effects (p, m) of other responses (n, m)."""
        scores, fixed, _ = self.solved(Y)
        beta = self.at.C @ fixed
        out = self._empty(Y.shape[1])
        for (chunk, _, psi, solved), zy in zip(self.clusters, scores, strict=True):
            p = len(beta)
            left = zy - solved.T[:, :, :p] @ beta
            self._place(out, chunk, np.einsum("qt,ctm->cqm", psi, left))
        return out, np.asarray(self.problem.fixed.transform @ beta)

    @cached_property
    def projected(self) -> Floats:
        """Py of the model's own response, (n,), on the user's scale, weights included."""
        spec = self.problem.spec
        response = spec.y - (0.0 if spec.offset is None else spec.offset)
        beta = self.problem.coefficients(self.at)
        rest = response - spec.X @ beta
        return np.asarray(self.solved(rest[:, None])[2][:, 0])

    def moved_responses(self) -> Floats:
        """V_i Py, (n, k): how each parameter moves the response that would be explained."""
        problem, spec = self.problem, self.problem.spec
        out = np.zeros((spec.n, problem.n_parameters))
        Py = self.projected
        parts, _ = problem.split(self.theta)
        place = 0
        for structure, part, term in zip(problem.structures, parts, spec.terms, strict=True):
            codes = spec.factors[term.factor].codes
            scores = np.zeros((spec.factors[term.factor].n_levels, term.size))
            np.add.at(scores, codes, term.z * Py[:, None])
            for i, d in enumerate(structure.derivatives(part)):
                pulled = scores @ d
                if term.kernel is not None:
                    pulled = term.kernel @ pulled
                out[:, place + i] = np.sum(term.z * pulled[codes], axis=1)
            place += structure.n_parameters
        for chunk in problem.chunks:
            for batch in chunk.batches:
                jet = self.jet(chunk, batch)
                rows = chunk.rows[batch.rows]
                scaled = (Py[rows] / self.root[rows])[..., None]
                for i, k in enumerate(jet.own):
                    out[rows, place + k] = (jet.first[i] @ scaled)[..., 0] / self.root[rows]
        return out

    def scores(self) -> tuple[Floats, ...]:
        """Z'Py by level of each term, (q, r)."""
        spec = self.problem.spec
        out = self._empty()
        for own, term in zip(out, spec.terms, strict=True):
            np.add.at(own, spec.factors[term.factor].codes, term.z * self.projected[:, None])
        return out

    # --- covariances of what is predicted, relative to sigma^2

    def conditional(self) -> tuple[tuple[Floats, Floats], ...]:
        """Covariances (q, r, r) of each term's modes: given beta, and of the prediction error."""
        spec, p = self.problem.spec, self.problem.spec.p
        shapes = [(spec.factors[t.factor].n_levels, t.size, t.size) for t in spec.terms]
        out = [(np.zeros(shape), np.zeros(shape)) for shape in shapes]
        for chunk, _, psi, solved in self.clusters:
            given = psi - psi @ solved.M @ psi
            pulled = psi @ solved.T[:, :, :p]
            error = given + pulled @ self.at.C @ np.swapaxes(pulled, 1, 2)
            start = 0
            for (one, two), levels, term in zip(out, chunk.levels, spec.terms, strict=True):
                for place in range(levels.shape[1]):
                    cut = slice(start, start + term.size)
                    start = cut.stop
                    known = levels[:, place] >= 0
                    one[levels[known, place]] = given[known, cut, cut]
                    two[levels[known, place]] = error[known, cut, cut]
        return tuple(out)

    def variances(self, X: Floats, random: Sequence[tuple[Ints, Floats] | None]) -> Floats:
        """Variance (N,) of x'beta + z'b about its prediction, of known levels alone."""
        out = np.zeros(len(X))
        pulled = np.zeros_like(X)
        for c, row, cluster, loads in self._loads(random):
            given, T = self._conditional_of(c)
            forms = np.einsum("nq,nqt,nt->n", loads, given[cluster], loads, optimize=True)
            np.add.at(out, row, forms)
            np.add.at(pulled, row, np.einsum("nq,nqp->np", loads, T[cluster], optimize=True))
        d = X @ self.problem.fixed.transform - pulled
        return np.asarray(out + np.einsum("np,pr,nr->n", d, self.at.C, d, optimize=True))

    def covariance(self, X: Floats, random: Sequence[tuple[Ints, Floats] | None]) -> Floats:
        """Covariance (N, N) of x'beta + z'b about its prediction, of known levels alone."""
        out = np.zeros((len(X), len(X)))
        pulled = np.zeros_like(X)
        for c, row, cluster, loads in self._loads(random):
            given, T = self._conditional_of(c)
            half = np.einsum("nq,nqt->nt", loads, given[cluster], optimize=True)
            same = cluster[:, None] == cluster
            np.add.at(out, (row[:, None], row), np.where(same, half @ loads.T, 0.0))
            np.add.at(pulled, row, np.einsum("nq,nqp->np", loads, T[cluster], optimize=True))
        d = X @ self.problem.fixed.transform - pulled
        return np.asarray(out + d @ self.at.C @ d.T)

    def factors(
        self, X: Floats, random: Sequence[tuple[Ints, Floats] | None]
    ) -> tuple[Floats, Floats]:
        """Factors (N, m) and (N, p) of `covariance`: of the effects given beta, and of beta."""
        pulled = np.zeros_like(X)
        columns = []
        for c, row, cluster, loads in self._loads(random):
            given, T = self._conditional_of(c)
            np.add.at(pulled, row, np.einsum("nq,nqp->np", loads, T[cluster], optimize=True))
            used = np.flatnonzero(np.bincount(cluster, minlength=len(given)) > 0)
            root = square_root(given[used])
            number = np.searchsorted(used, cluster)
            q = given.shape[1]
            part = np.zeros((len(X), len(used), q))
            np.add.at(part, (row, number), np.einsum("nq,nqt->nt", loads, root[number]))
            columns.append(part.reshape(len(X), -1))
        d = X @ self.problem.fixed.transform - pulled
        return np.hstack([np.zeros((len(X), 0)), *columns]), d @ square_root(self.at.C)

    def _conditional_of(self, c: int) -> tuple[Floats, Floats]:
        """Psi - Psi M Psi (c, q, q) of the effects given beta, and Psi Z'V^-1 X (c, q, p)."""
        _, _, psi, solved = self.clusters[c]
        p = self.problem.spec.p
        return psi - psi @ solved.M @ psi, psi @ solved.T[:, :, :p]

    def _loads(
        self, random: Sequence[tuple[Ints, Floats] | None]
    ) -> list[tuple[int, Ints, Ints, Floats]]:
        """Loads of rows on the effects of the clusters that they meet: chunk, row, cluster, (u, q).

        A row whose levels lie in several clusters stands there once for each.
        """
        spec, out = self.problem.spec, []
        for c, (chunk, _, psi, _) in enumerate(self.clusters):
            entries, start = [], 0
            for t, (given, levels, term) in enumerate(
                zip(random, chunk.levels, spec.terms, strict=True)
            ):
                if given is not None:
                    codes, z = given
                    chunk_of, cluster_of, place_of = self._level_places[t]
                    own = np.flatnonzero((codes >= 0) & (chunk_of[codes] == c))
                    place = start + place_of[codes[own]] * term.size
                    entries.append((own, cluster_of[codes[own]], place, z[own]))
                start += levels.shape[1] * term.size
            keys = [own * chunk.clusters + cluster for own, cluster, _, _ in entries]
            joined = np.concatenate([*keys, np.empty(0, dtype=np.intp)])
            if not len(joined):
                continue
            pairs, inverse = np.unique(joined, return_inverse=True)
            loads = np.zeros((len(pairs), len(psi)))
            firsts = np.cumsum([0, *(len(key) for key in keys)])
            for first, (own, _, place, z) in zip(firsts, entries, strict=False):
                at = inverse.reshape(-1)[first : first + len(own)]
                for a in range(z.shape[1]):
                    np.add.at(loads, (at, place + a), z[:, a])
            out.append((c, pairs // chunk.clusters, pairs % chunk.clusters, loads))
        return out

    @cached_property
    def _level_places(self) -> list[tuple[Ints, Ints, Ints]]:
        """Chunk, cluster and local place of each level of each term."""
        spec = self.problem.spec
        out: list[tuple[Ints, Ints, Ints]] = []
        for t, term in enumerate(spec.terms):
            q = spec.factors[term.factor].n_levels
            chunk_of, cluster_of, place_of = (np.zeros(q + 1, dtype=np.intp) for _ in range(3))
            for c, chunk in enumerate(self.problem.chunks):
                levels = chunk.levels[t]
                cluster, place = np.nonzero(levels >= 0)
                own = levels[cluster, place]
                chunk_of[own], cluster_of[own], place_of[own] = c, cluster, place
            out.append((chunk_of, cluster_of, place_of))
        return out


def _rank(psi: Floats) -> int:
    sd = np.sqrt(np.maximum(np.diag(psi), 0.0))
    size = np.where(sd > 0, sd, 1.0)
    return int(np.linalg.matrix_rank(psi / np.outer(size, size), tol=1e-12, hermitian=True))


def solved_products(
    clusters: Sequence[tuple[Chunk, Products, Floats, Solved]], chunk: Chunk
) -> Floats:
    """A_zz of a chunk, (c, q, q)."""
    for own, found, _, solved in clusters:
        if own is chunk:
            return found.A[:, : solved.q, : solved.q]
    raise AssertionError("a chunk of another problem")


_last: WeakKeyDictionary[StructuredProblem, tuple[bool, StructuredPoint]] = WeakKeyDictionary()


def keep_solved(problem: StructuredProblem, at: StructuredPoint, reml: bool) -> None:
    """Keep an exact point for the next `solved_rows` of this problem at its theta."""
    if at.exact:
        _last[problem] = (reml, at)


def solved_rows(problem: StructuredProblem, theta: Floats, reml: bool) -> SolvedRows:
    """Solve a structured model at one theta, with exact second derivatives."""
    known = _last.get(problem)
    if known is not None and known[0] == reml and np.array_equal(known[1].theta, theta):
        return SolvedRows(problem, known[1])
    at = problem.point(theta, reml, 2)
    if at is None:
        raise ModelError("the covariance of the rows is not positive definite at this theta")
    keep_solved(problem, at, reml)
    return SolvedRows(problem, at)
