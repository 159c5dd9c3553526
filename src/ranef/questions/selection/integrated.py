"""The density of responses whose predictors are known up to a normal error.

log integral of prod_i f(y_i; eta_i) N(eta; m, V) d eta: with V = L L', by Gauss-Hermite
quadrature about the mode where V has rank one, else by importance sampling from the Laplace
approximation with a fixed set of draws, each with its opposite.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ranef import _core

__all__ = ["Predicted", "joint_log_density", "row_mixture"]

Floats = NDArray[np.float64]

NODES = 25
DRAWS = 200
STEPS = 50
RANK = 1e-10


@dataclass(frozen=True, eq=False)
class Predicted:
    """Rows whose response is not known to the fit.

    Attributes
    ----------
    rows : (m,) int array
    etas : (M, m) float64 array
        Predictors, the mean's first.
    covariance : (q m, q m) float64 array or (m,) float64 array
        Of the errors of the first q predictors, joint, those of one predictor together; or
        variances of the mean's alone. q is 1 but for categories without an order.
    thresholds : (J - 1, m) float64 array or None
        Of ordered categories.
    """

    rows: NDArray[np.intp]
    etas: Floats
    covariance: Floats
    thresholds: Floats | None = None

    @property
    def uncertain(self) -> int:
        """Number q of predictors that are not known."""
        return len(self.covariance) // max(len(self.rows), 1)

    @property
    def variances(self) -> Floats:
        """Of each row, (m,)."""
        return self.covariance if self.covariance.ndim == 1 else np.diag(self.covariance)

    def each(self) -> list[Predicted]:
        """The rows one by one."""
        m, q = len(self.rows), self.uncertain
        if self.covariance.ndim == 1:
            blocks = self.covariance[:, None, None]
        else:
            own = np.arange(m)
            blocks = self.covariance.reshape(q, m, q, m)[:, own, :, own]
        return [
            Predicted(
                self.rows[[i]], self.etas[:, [i]], blocks[i],
                None if self.thresholds is None else self.thresholds[:, [i]],
            )
            for i in range(m)
        ]  # fmt: skip


def _density(
    core: _core.Family, y: Floats, extra: Floats | None, weights: Floats | None, q: int
) -> Callable[[Floats, int], Floats]:
    """Log densities, and derivatives in the first q predictors up to an order, of rows (M, m).

    One row of the answer each: the density, the q first derivatives, the second ones of the upper
    triangle.
    """

    def at(etas: Floats, order: int) -> Floats:
        active = list(range(q)) if order else []
        found = np.asarray(core.evaluate(y, extra, np.ascontiguousarray(etas), order, active))
        return found if weights is None else weights * found

    return at


def joint_log_density(
    core: _core.Family,
    y: Floats,
    extra: Floats | None,
    weights: Floats | None,
    found: Predicted,
) -> float:
    """Log density of the rows together; minus infinity where they are impossible."""
    q, m = found.uncertain, len(found.rows)
    density = _density(core, np.ascontiguousarray(y), extra, weights, q)
    values, vectors = np.linalg.eigh(found.covariance)
    kept = values > RANK * max(float(values[-1]), 1e-300)
    L = vectors[:, kept] * np.sqrt(values[kept])
    if not L.shape[1] or values[-1] <= 0:
        return float(density(found.etas, 0)[0].sum())
    u, H = _mode(density, found.etas, L)
    half = np.linalg.inv(np.linalg.cholesky(H)).T
    log_det = -float(np.linalg.slogdet(H)[1])
    if L.shape[1] == 1:
        z, w = np.polynomial.hermite_e.hermegauss(NODES)
        points, log_w = z[:, None], np.log(w / w.sum())
    else:
        rng = np.random.default_rng(L.shape[1])
        z = rng.standard_normal((DRAWS // 2, L.shape[1]))
        points = np.vstack([z, -z])
        log_w = np.full(DRAWS, -np.log(DRAWS))
    at = u + points @ half.T
    total = np.empty(len(at))
    etas = found.etas.copy()
    for k, one in enumerate(at):
        etas[:q] = found.etas[:q] + (L @ one).reshape(q, m)
        total[k] = float(density(etas, 0)[0].sum()) - 0.5 * float(one @ one)
    total = total + 0.5 * np.sum(points**2, axis=1) + 0.5 * log_det + log_w
    top = float(np.max(total))
    return top + float(np.log(np.exp(total - top).sum())) if np.isfinite(top) else -np.inf


def _mode(
    density: Callable[[Floats, int], Floats], etas: Floats, L: Floats
) -> tuple[Floats, Floats]:
    """Mode of log f - u'u / 2, and the curvature there, by a safeguarded Newton search."""
    m = etas.shape[1]
    q = len(L) // m
    u, at = np.zeros(L.shape[1]), etas.copy()
    by_predictor = L.reshape(q, m, -1)
    first, second = np.triu_indices(q)

    def value(x: Floats) -> tuple[float, Floats, Floats]:
        at[:q] = etas[:q] + (L @ x).reshape(q, m)
        found = density(at, 2)
        f, g, h = found[0], found[1 : q + 1], found[q + 1 :]
        return float(f.sum() - 0.5 * x @ x), L.T @ g.ravel() - x, h

    def curvature(h: Floats) -> Floats:
        H = np.eye(len(u))
        for a, b, w in zip(first, second, h, strict=True):
            if a == b:
                w = np.minimum(w, 0.0) if q == 1 else w
                H -= by_predictor[a].T @ (w[:, None] * by_predictor[a])
            else:
                part = by_predictor[a].T @ (w[:, None] * by_predictor[b])
                H -= part + part.T
        return H

    best, gradient, h = value(u)
    for _ in range(STEPS):
        step = np.linalg.solve(curvature(h), gradient)
        size = 1.0
        for _ in range(20):
            new = value(u + size * step)
            if np.isfinite(new[0]) and new[0] >= best - 1e-12 * (1 + abs(best)):
                break
            size /= 2
        else:
            break
        moved = float(np.abs(size * step).max())
        u, (best, gradient, h) = u + size * step, new
        if moved < 1e-7:
            break
    return u, curvature(h)


@dataclass(frozen=True, eq=False)
class Mixture:
    """Each row's distribution as a mixture over nodes of its predictor.

    Attributes
    ----------
    etas : (nodes, M, m) float64 array
    weights : (nodes,) float64 array
    """

    etas: Floats
    weights: Floats


def row_mixture(found: Predicted) -> Mixture:
    """Return the distribution of each row by itself, by Gauss-Hermite quadrature."""
    z, w = np.polynomial.hermite_e.hermegauss(NODES)
    sd = np.sqrt(np.maximum(found.variances, 0.0))
    etas = np.repeat(found.etas[None], NODES, axis=0)
    etas[:, 0] = found.etas[0] + z[:, None] * sd
    return Mixture(etas, w / w.sum())
