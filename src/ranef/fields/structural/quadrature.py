"""Random slopes of latent variables: given the slopes a unit is normal, over them it is integrated.

With b_j = m + C t_j the slopes of unit j, t_j standard normal, the matrices within are W(b_j),
and the other effects between have their distribution given t_j, so that L_j is the integral of
L_j(b(t)) phi(t) over t (Rockwood 2020). The nodes t stay where they are while the search runs: the
sum over them is then a function with an exact gradient. They are placed anew until the optimum
stays.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ranef.errors import ModelError
from ranef.fields.structural.grid import (
    Grid,
    Posterior,
    coarse_grid,
    fine_grid,
    posterior_of,
    stencil_posterior,
)
from ranef.fields.structural.messages import GroupData, messages
from ranef.fields.structural.parameters import ParameterTable
from ranef.fields.structural.problem import (
    Coordinates,
    GroupProblem,
    Parts,
    Sample,
    latent_slopes,
)
from ranef.fields.structural.ram import Moments, smallest_correlated

__all__ = ["MOST_PAIRS", "QuadratureProblem"]

Floats = NDArray[np.float64]
MOST_PAIRS = 4_000_000
"""Nodes of all units together that are taken on."""
COARSE = {1: 41, 2: 21, 3: 13}
CROWDED = 0.75
"""Posterior weight of one node above which the nodes of a unit are too far apart to tell."""
CURVATURE = 9
"""Nodes a dimension for second derivatives: their relative error is of the order 1e-6."""
NOTHING = float("nan")


@dataclass(frozen=True, eq=False)
class NodeParts:
    """The kernel's moments at every node, and what made them.

    Attributes
    ----------
    flat : (nodes, moments) array
    within : Moments
        Of level 1, each matrix (nodes, v, v).
    between : Moments
    root : (d, d) array
        C, the Cholesky factor of the slopes' covariance.
    regression : (a + q, d) array
        Covariances of the other effects with t.
    t : (nodes, d) array
    """

    flat: Floats
    within: Moments
    between: Moments
    root: Floats
    regression: Floats
    t: Floats


class QuadratureProblem(GroupProblem):
    """One group's criterion with slopes that are integrated over.

    Parameters
    ----------
    nodes : int
        A dimension.
    others
        As of `GroupProblem`.
    """

    def __init__(
        self, table: ParameterTable, g: int, coordinates: Coordinates, data: GroupData,
        sample: Mapping[int, Sample], kernel: Any = None, threads: int = 1, nodes: int = 15,
    ) -> None:  # fmt: skip
        super().__init__(table, g, coordinates, data, sample, kernel, threads)
        rows = latent_slopes(table, g)
        first, second = self.rams[0].names, self.rams[1].names
        self.names = tuple(dict.fromkeys(str(r.slope) for r in rows))
        at = {name: i for i, name in enumerate(first)}
        self.row = np.array([at[r.lhs] for r in rows], dtype=np.intp)
        self.column = np.array([at[r.rhs] for r in rows], dtype=np.intp)
        self.which = np.array([self.names.index(str(r.slope)) for r in rows], dtype=np.intp)
        self.effects = np.array([second.index(n) for n in self.names], dtype=np.intp)
        if len(self.names) > max(COARSE):
            raise ModelError(
                f"{len(self.names)} slopes of latent variables are random "
                f"({', '.join(self.names)}): at most {max(COARSE)} are integrated over; leave rv() "
                "out of the others"
            )
        self.nodes = nodes
        self.grid: Grid | None = None
        self.placed = 0

    @property
    def kernel(self) -> Any:
        """The compiled problem, every unit by itself."""
        if self._kernel is None:
            self._kernel = messages(
                self.data, self.coordinates.layout, each=True, threads=self.threads
            )
        return self._kernel

    # --- moments at the nodes

    def slopes_at(self, between: Moments) -> tuple[Floats, Floats] | None:
        """Mean of the slopes and C; None where their covariance is indefinite."""
        S = between.C[np.ix_(self.effects, self.effects)]
        some = np.flatnonzero(np.diag(S) != 0.0)
        root = np.zeros_like(S)
        try:
            root[np.ix_(some, some)] = np.linalg.cholesky(S[np.ix_(some, some)])
        except np.linalg.LinAlgError:
            return None
        return between.mu[self.effects], root

    def node_parts(self, theta: Floats, t: Floats) -> NodeParts | None:
        """Return the kernel's moments at nodes (nodes, d); None where the slopes have no density.

        Nor have they where another effect's correlation with them is beyond one.
        """
        between = self.rams[1].moments(theta)
        slopes = self.slopes_at(between)
        if slopes is None:
            return None
        center, root = slopes
        at, real = self.places[0], self._real[0]
        d, K = len(at), len(t)
        full, cross = np.zeros((d, d)), np.zeros((d, len(root)))
        mean = -self._offsets[1].copy()
        among_all, among_own = self._grids[0]
        full[among_own] = between.C[among_all]
        cross[real] = between.C[np.ix_(at[real], self.effects)]
        mean[real] += between.mu[at[real]]
        regression = cross @ _inverse(root).T
        free = smallest_correlated(full)
        full -= regression @ regression.T
        if smallest_correlated(full) < min(free, 0.0) - 1e-10:
            return None
        within = self._within(theta, center + t @ root.T)
        pieces = self._rows_flat(within)
        pieces += [np.broadcast_to(full.ravel(), (K, d * d)), mean + t @ regression.T]
        flat = np.ascontiguousarray(np.concatenate(pieces, axis=1))
        return NodeParts(flat, within, between, root, regression, t)

    def _within(self, theta: Floats, points: Floats) -> Moments:
        A, S, m = self.rams[0].matrices(theta)
        every = np.broadcast_to(A, (len(points), *A.shape)).copy()
        every[:, self.row, self.column] = points[:, self.which]
        T = np.asarray(np.linalg.inv(np.eye(len(m)) - every), dtype=np.float64)
        return Moments(T, S, T @ S @ T.transpose(0, 2, 1), m, T @ m)

    def _rows_flat(self, at: Moments) -> list[Floats]:
        T, K = at.T[:, self.y], len(at.T)
        B = at.mu[:, self.y] - self._offsets[0]
        if not len(self.x):
            return [at.C[:, self.y][:, :, self.y].reshape(K, -1), B]
        means = np.concatenate([B[:, :, None], T[:, :, self.x]], axis=2)
        loadings = T[:, :, self.outcomes].transpose(0, 2, 1)
        W = T @ at.S @ T.transpose(0, 2, 1)
        return [W.reshape(K, -1), means.reshape(K, -1), loadings.reshape(K, -1)]

    def chain_nodes(self, parts: NodeParts, slope: Floats, out: Floats) -> None:
        """Add the gradient in theta of what has the gradients `slope` (nodes, moments)."""
        p, k, s, K = len(self.y), 1 + len(self.x), len(self.outcomes), len(slope)
        at, T = parts.within, parts.within.T
        v = T.shape[1]
        G, g = np.zeros((K, v, v)), np.zeros((K, v))
        G[:, self._own[0], self._own[1]] = slope[:, : p * p].reshape(K, p, p)
        B = slope[:, p * p : p * p + p * k].reshape(K, p, k)
        g[:, self.y] = B[:, :, 0]
        place = p * p + p * k
        turned = T.transpose(0, 2, 1)
        TG = turned @ G
        Tg = (turned @ g[:, :, None])[:, :, 0]
        dA = 2 * TG @ at.C + Tg[:, :, None] * at.mu[:, None, :]
        if len(self.x):
            own = turned[:, :, self.y]
            dA += own @ B[:, :, 1:] @ turned[:, self.x]
            L = slope[:, place : place + s * p].reshape(K, s, p)
            dA += own @ L.transpose(0, 2, 1) @ turned[:, self.outcomes]
            place += s * p
        self.rams[0].scatter(dA.sum(axis=0), np.einsum("kij,kjl->il", TG, T), Tg.sum(axis=0), out)
        db = np.zeros((K, len(self.names)))
        for row, column, which in zip(self.row, self.column, self.which, strict=True):
            db[:, which] += dA[:, row, column]
        d = len(self.places[0])
        self._chain_between(
            parts, slope[:, place : place + d * d].sum(axis=0).reshape(d, d),
            slope[:, place + d * d : place + d * d + d], db, out,
        )  # fmt: skip

    def _chain_between(
        self, parts: NodeParts, dS: Floats, dm: Floats, db: Floats, out: Floats
    ) -> None:
        """The part of level 2: effects given the slopes, and the slopes themselves."""
        R, C, t = parts.regression, parts.root, parts.t
        at, real = self.places[0], self._real[0]
        v = len(parts.between.m)
        G, g = np.zeros((v, v)), np.zeros(v)
        among_all, among_own = self._grids[0]
        G[among_all] += dS[among_own]
        inverse = _inverse(C)
        dR = dm.T @ t - 2 * dS @ R
        cross = 0.5 * dR @ inverse
        G[np.ix_(at[real], self.effects)] += cross[real]
        G[np.ix_(self.effects, at[real])] += cross[real].T
        dC = db.T @ t - inverse.T @ dR.T @ R
        half = np.tril(C.T @ dC)  # C is the factor of S: Murray (2016)
        half[np.diag_indices(len(C))] /= 2
        own = inverse.T @ half @ inverse
        G[np.ix_(self.effects, self.effects)] += 0.5 * (own + own.T)
        g[at[real]] += dm.sum(axis=0)[real]
        g[self.effects] += db.sum(axis=0)
        self.rams[1].add_gradient(parts.between, G, g, out)

    # --- the criterion

    def _asked(self, parts: NodeParts, grid: Grid, gradient: bool) -> dict[str, Any]:
        found: dict[str, Any] = self.kernel.nodes(
            parts.flat, grid.prior, grid.first, grid.node, grid.volume, gradient
        )
        return found

    def _parts_here(self, theta: Floats) -> NodeParts | None:
        if self.grid is None:
            self.adapt(theta)
        if self.grid is None:
            return None
        try:
            parts = self.node_parts(theta, self.grid.points)
        except np.linalg.LinAlgError:
            return None
        return parts if parts is not None and np.isfinite(parts.flat).all() else None

    def value(self, theta: Floats) -> float:
        parts = self._parts_here(theta)
        if parts is None or self.grid is None:
            return NOTHING
        return float(self._asked(parts, self.grid, False)["value"])

    def add_gradient(self, theta: Floats, out: Floats) -> float:
        parts = self._parts_here(theta)
        if parts is None or self.grid is None:
            return NOTHING
        found = self._asked(parts, self.grid, True)
        if np.isfinite(found["value"]):
            self.chain_nodes(parts, found["gradient"], out)
        return float(found["value"])

    def weights(self, theta: Floats) -> Floats | None:
        """Posterior weights of the pairs of the grid; None where there is no likelihood."""
        parts = self._parts_here(theta)
        if parts is None or self.grid is None:
            return None
        found = self._asked(parts, self.grid, False)
        return np.asarray(found["weight"]) if np.isfinite(found["value"]) else None

    def mixture(self, theta: Floats) -> Iterator[tuple[Floats | float, Parts, Floats]]:
        parts, weight = self._parts_here(theta), self.weights(theta)
        assert parts is not None
        assert weight is not None
        assert self.grid is not None
        slopes = self.slopes_at(parts.between)
        assert slopes is not None
        share = np.zeros((len(self.grid.first) - 1, len(self.grid.points)))
        share[self.grid.unit, self.grid.node] = weight
        for k, t in enumerate(self.grid.points):
            own = parts.within
            one = Moments(own.T[k], own.S, own.C[k], own.m, own.mu[k])
            yield share[:, k], Parts(parts.flat[k], (one, parts.between)), slopes[0] + slopes[1] @ t

    def scores(self, theta: Floats, kernel: Any = None) -> Floats:
        parts, weight = self._parts_here(theta), self.weights(theta)
        assert parts is not None
        assert weight is not None
        assert self.grid is not None
        grid = self.grid
        units = len(grid.first) - 1
        out = np.zeros((units, len(theta)))
        share = np.zeros((units, len(grid.points)))
        share[grid.unit, grid.node] = weight
        n = parts.flat.shape[1]
        for k in range(len(grid.points)):
            own = np.flatnonzero(share[:, k] > 1e-14)
            if not len(own):
                continue
            one = self._one_node(parts, k)
            J = np.zeros((n, len(theta)))
            for i, step in enumerate(np.eye(n)):
                self.chain_nodes(one, step[None], J[i])
            _, scores = self.kernel.units(parts.flat[k], J)
            out[own] += share[own, k, None] * scores[own]
        return out

    @staticmethod
    def _one_node(parts: NodeParts, k: int) -> NodeParts:
        own = parts.within
        return NodeParts(
            parts.flat[k : k + 1],
            Moments(own.T[k : k + 1], own.S, own.C[k : k + 1], own.m, own.mu[k : k + 1]),
            parts.between, parts.root, parts.regression, parts.t[k : k + 1],
        )  # fmt: skip

    # --- nodes

    def adapt(self, theta: Floats, nodes: int | None = None) -> None:
        """Place the nodes about the units' posteriors at theta."""
        count = nodes or self.nodes
        found = self._found_again(theta) or self._located(theta)
        for _ in range(4):
            if found is None:
                return
            self.grid, self.placed = fine_grid(found, count, self._spent), count
            again = self._found_again(theta)
            if again is None:
                return
            before, after = (np.sqrt(np.einsum("uii->ui", f.covariance)) for f in (found, again))
            moved = np.abs(again.mean - found.mean) / before
            found = again
            if (np.abs(np.log(after / before)) < 0.1).all() and (moved < 0.2).all():
                return

    def thinned(self, theta: Floats) -> Grid | None:
        kept = self.grid
        found = self._found_again(theta) if self.placed > CURVATURE else None
        if found is not None:
            self.grid = fine_grid(found, CURVATURE, self._spent)
        return kept

    def restore(self, grid: Any) -> None:
        self.grid = grid

    def refined(self, theta: Floats) -> float:
        kept = self.grid
        found = self._found_again(theta)
        if found is None:
            return NOTHING
        self.grid = fine_grid(found, 2 * self.nodes, self._spent)
        value = self.value(theta)
        self.grid = kept
        return value

    def _found_again(self, theta: Floats) -> Posterior | None:
        """The posteriors by the nodes there are; None where they do not reach."""
        weight = self.weights(theta) if self.grid is not None else None
        if weight is None or self.grid is None:
            return None
        found = posterior_of(weight, self.grid)
        largest = np.zeros(len(found.mean))
        np.maximum.at(largest, self.grid.unit, weight)
        return found if (largest < CROWDED).all() else None

    def _spent(self, pairs: int) -> None:
        if pairs > MOST_PAIRS:
            raise ModelError(
                f"{self.nodes} nodes for each of {len(self.names)} latent slopes and "
                f"{len(self.data.levels[0].z)} units are too many; take a smaller quadrature= or "
                "fewer random slopes of latent variables"
            )

    def _located(self, theta: Floats) -> Posterior | None:
        count, units = COARSE[len(self.names)], self.data.levels[0].units
        reach = 5.0
        for _ in range(6):
            grid = coarse_grid(len(self.names), units, count, reach)
            self._spent(len(grid.node))
            parts = self.node_parts(theta, grid.points)
            if parts is None:
                return None
            weight = self._log_weights(parts, grid)
            found = stencil_posterior(weight, grid, count) if weight is not None else None
            if found is not None:
                return found
            reach *= 2.5
        return None

    def _log_weights(self, parts: NodeParts, grid: Grid) -> Floats | None:
        """Log posterior weights (units, nodes), up to a constant, of a product grid."""
        out = np.empty((len(grid.first) - 1, len(grid.points)))
        for k in range(len(grid.points)):
            values, _ = self.kernel.units(parts.flat[k], None)
            out[:, k] = grid.prior[k] - values / 2
        return out if np.isfinite(out).all() else None


def _inverse(root: Floats) -> Floats:
    """Inverse of a triangular factor, zero where a slope has no variance."""
    some = np.flatnonzero(np.diag(root))
    out = np.zeros_like(root)
    out[np.ix_(some, some)] = np.linalg.inv(root[np.ix_(some, some)])
    return out
