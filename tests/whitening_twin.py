"""Sums over groups of residuals in plain NumPy: what the core's WhitenedGroups and Markov make."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass
class Groups:
    """Rows (g, n, w) of groups, the matrix that each has, and its cluster."""

    U: np.ndarray
    which: np.ndarray
    cluster: np.ndarray
    clusters: int

    def by_cluster(self, each: np.ndarray) -> np.ndarray:
        """Sums of what each group (g, ...) has."""
        out = np.zeros((self.clusters, *each.shape[1:]))
        np.add.at(out, self.cluster, each)
        return out


@dataclass
class Covariances:
    """R (m, n, n), its derivatives (k, m, n, n) and second ones by pairs."""

    R: np.ndarray
    first: np.ndarray
    second: dict[tuple[int, int], np.ndarray]

    @property
    def inverse(self) -> np.ndarray:
        half = np.linalg.inv(np.linalg.cholesky(self.R))
        return np.swapaxes(half, 1, 2) @ half

    @property
    def ratio(self) -> np.ndarray:
        return self.inverse @ self.first

    def log_determinants(self) -> np.ndarray:
        pivots = np.diagonal(np.linalg.cholesky(self.R), axis1=1, axis2=2)
        return 2.0 * np.log(pivots).sum(axis=1)

    def traces(self) -> np.ndarray:
        return np.trace(self.ratio, axis1=2, axis2=3)

    def middles(self) -> np.ndarray:
        return np.concatenate([self.inverse[None], self.ratio @ self.inverse])

    def forms(self, groups: Groups, K: np.ndarray) -> np.ndarray:
        each = np.swapaxes(groups.U, 1, 2) @ K[:, groups.which] @ groups.U
        return groups.by_cluster(np.swapaxes(each, 0, 1))

    def products(self, groups: Groups) -> np.ndarray:
        return self.forms(groups, self.middles())

    def second_products(self, groups: Groups) -> tuple[np.ndarray, np.ndarray]:
        k, n, w = len(self.first), self.R.shape[1], groups.U.shape[2]
        pairs = np.array([[r @ s @ self.inverse for s in self.ratio] for r in self.ratio])
        E = self.forms(groups, pairs.reshape(k * k, len(self.R), n, n))
        bent = np.array([self.inverse @ d @ self.inverse for d in self.second.values()])
        F = self.forms(groups, bent.reshape(-1, *self.R.shape))
        return E.reshape(groups.clusters, k, k, w, w).transpose(0, 1, 3, 2, 4), F

    def information(self, groups: Groups, vectors: np.ndarray) -> np.ndarray:
        v = np.einsum("gnw,gw->gn", groups.U, vectors[groups.cluster])
        inverse = self.inverse[groups.which]
        moved = self.first[:, groups.which] @ (inverse @ v[:, :, None])
        return np.einsum("kgab,lgab->kl", moved, inverse @ moved)

    def contracted(self, S: np.ndarray, counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        full, bent = [], []
        for G in (
            self.inverse * counts[:, None, None],
            *(self.inverse @ s @ self.inverse for s in S),
        ):
            full.append(np.einsum("kmab,lmbc,mca->kl", self.first, self.ratio, G, optimize=True))
            bent.append([np.sum(d * G) for d in self.second.values()])
        return np.array(full), np.array(bent).reshape(1 + len(S), len(self.second))

    def weighted(self, W: np.ndarray) -> np.ndarray:
        inner = np.einsum("kl,kmab,lmbc->mac", W, self.first, self.ratio, optimize=True)
        bent = np.zeros_like(self.R)
        for (i, j), d in self.second.items():
            bent += (1 if i == j else 2) * W[i, j] * d
        return np.array([self.inverse @ one @ self.inverse for one in (inner, bent)])


@dataclass
class Steps:
    """Correlations (g, n - 1) of successive rows, with derivatives in their one parameter."""

    rho: np.ndarray
    first: np.ndarray
    second: np.ndarray

    def totals(self) -> tuple[float, float, float, float]:
        r, d, dd, e = self.rho, self.first, self.second, 1.0 - self.rho**2
        bent = np.sum(-2.0 * r * dd / e)
        twice = np.sum(-2.0 * ((d * d + r * dd) * e + 2.0 * r * r * d * d) / (e * e))
        return np.log(e).sum(), np.sum(-2.0 * r * d / e), bent - twice, bent

    def inverse(self) -> np.ndarray:
        e = 1.0 - self.rho**2
        K = _band(1.0 / e, -self.rho / e, self.rho**2 / e)
        K[:, 0, 0] += 1.0
        return K

    def slope(self) -> np.ndarray:
        r, d, e = self.rho, self.first, 1.0 - self.rho**2
        by = 2.0 * r * d / (e * e)
        return _band(by, -d * (1.0 + r * r) / (e * e), by)

    def bend(self) -> np.ndarray:
        r, d, dd, e = self.rho, self.first, self.second, 1.0 - self.rho**2
        both = 2.0 * ((d * d + r * dd) * e + 4.0 * r * r * d * d) / e**3
        off = -(dd * (1.0 + r * r) * e + d * d * (6.0 * r + 2.0 * r**3)) / e**3
        return _band(both, off, both)

    def covariance(self) -> np.ndarray:
        """R: products of the correlations between two rows."""
        g, steps = self.rho.shape
        out = np.tile(np.eye(steps + 1), (g, 1, 1))
        for i in range(steps + 1):
            for j in range(i + 1, steps + 1):
                out[:, i, j] = out[:, j, i] = np.prod(self.rho[:, i:j], axis=1)
        return out

    def products(self, groups: Groups) -> np.ndarray:
        return self._forms(groups, self.inverse(), -self.slope())

    def second_products(self, groups: Groups) -> np.ndarray:
        twice = self.slope() @ self.covariance() @ self.slope()
        return self._forms(groups, twice, 2.0 * twice - self.bend())

    def information(self, groups: Groups, vectors: np.ndarray) -> float:
        v = np.einsum("gnw,gw->gn", groups.U, vectors[groups.cluster])
        y = np.einsum("gab,gb->ga", self.slope(), v)
        return float(np.einsum("ga,gab,gb->", y, self.covariance(), y))

    @staticmethod
    def _forms(groups: Groups, *matrices: np.ndarray) -> np.ndarray:
        each = [np.swapaxes(groups.U, 1, 2) @ K @ groups.U for K in matrices]
        return groups.by_cluster(np.stack(each, axis=1))


def _band(own: np.ndarray, off: np.ndarray, before: np.ndarray) -> np.ndarray:
    g, steps = own.shape
    out = np.zeros((g, steps + 1, steps + 1))
    j = np.arange(steps)
    out[:, j + 1, j + 1] += own
    out[:, j, j] += before
    out[:, j, j + 1] += off
    out[:, j + 1, j] += off
    return out
