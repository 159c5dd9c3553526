"""No pooling: the effects of each level that its own rows make most likely.

All else in the model stays where it is and acts as an offset. Where the log likelihood
is quadratic the maximum is that of least squares, else Newton's steps find it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ranef.errors import ModelError
from ranef.inference.rows.fitted import fitted
from ranef.models.noise import residual_covariance
from ranef.models.records import GeneralisedEstimate, LinearEstimate

__all__ = ["LevelRows", "Unpooled", "least_squares", "most_likely"]

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

MOST_STEPS = 60
FLAT = 1e-6
"""Information left, relative to that at zero, below which a maximum lies at infinity."""


@dataclass(frozen=True, eq=False)
class LevelRows:
    """The rows of a model as the effects of one factor see them.

    Attributes
    ----------
    codes : (n,) int32 array
    z : (n, m) float64 array
        Columns of the m effects of a level.
    q : int
        Number of levels.
    predictor : int
        The linear predictor that the effects enter.
    modes : (n,) float64 array
        What the modes of the effects give to it.
    """

    codes: NDArray[np.int32]
    z: Floats
    q: int
    predictor: int
    modes: Floats

    def sums(self, values: Floats) -> Floats:
        """Sum (n, ...) by level, (q, ...)."""
        flat = values.reshape(len(values), -1)
        out = np.stack([np.bincount(self.codes, v, self.q) for v in flat.T], axis=1)
        return np.asarray(out.reshape(self.q, *values.shape[1:]), dtype=np.float64)

    def linear(self, b: Floats) -> Floats:
        """What effects (q, m) give to the rows, (n,)."""
        return np.asarray(np.einsum("nm,nm->n", self.z, b[self.codes]))

    def information(self, w: Floats) -> Floats:
        """Z'WZ of each level, (q, m, m), for weights (n,)."""
        return self.sums(np.einsum("n,na,nb->nab", w, self.z, self.z))

    def determined(self) -> Bools:
        """Which levels' rows determine all their effects, (q,)."""
        gram = self.information(np.ones(len(self.codes)))
        scale = np.sqrt(np.einsum("qmm->qm", gram))
        unit = np.where(scale > 0, scale, 1.0)
        values = np.linalg.eigvalsh(gram / (unit[:, :, None] * unit[:, None, :]))
        return np.asarray((values[:, 0] > 1e-9) & (scale > 0).all(axis=1))


@dataclass(frozen=True, eq=False)
class Unpooled:
    """Effects of the levels as their own rows have them.

    Attributes
    ----------
    effects : (q, m) float64 array
    information : (q, m, m) float64 array
        Minus the second derivatives of the log likelihood there.
    exists : (q,) bool array
        Where there is a maximum.
    """

    effects: Floats
    information: Floats
    exists: Bools


def least_squares(estimate: LinearEstimate, rows: LevelRows) -> Unpooled:
    """Effects of the levels in a linear model."""
    spec = estimate.specification
    if spec.residual is not None:
        return _generalised_least_squares(estimate, rows)
    w = np.ones(spec.n) if spec.weights is None else spec.weights
    rest = spec.y - fitted(estimate) + rows.modes
    H, determined = rows.information(w), rows.determined()
    b = _solve(H, rows.sums((w * rest)[:, None] * rows.z), determined)
    return Unpooled(b, H / estimate.sigma**2, determined)


def _generalised_least_squares(estimate: LinearEstimate, rows: LevelRows) -> Unpooled:
    """The same where the residuals of a level's rows are correlated with each other."""
    spec = estimate.specification
    assert spec.residual is not None
    group = spec.residual.group
    if group is not None and not group.lies_within(rows.codes):
        raise ModelError(
            f"the residuals of {spec.residual.label} are correlated across the levels, so that no "
            "level has an estimate of its own"
        )
    W = residual_covariance(estimate).precision()
    rest = spec.y - fitted(estimate) + rows.modes
    Wz = np.asarray(W @ rows.z)
    H, determined = rows.sums(rows.z[:, :, None] * Wz[:, None, :]), rows.determined()
    b = _solve(H, rows.sums(rest[:, None] * Wz), determined)
    return Unpooled(b, H / estimate.sigma**2, determined)


def most_likely(estimate: GeneralisedEstimate, rows: LevelRows) -> Unpooled:
    """Effects of the levels in a generalised model; Newton's steps with halving."""
    design, m = estimate.design, rows.predictor
    y = np.ascontiguousarray(design.y)
    w = np.ones(len(y)) if design.weights is None else design.weights
    etas = np.array(estimate.predictors)
    etas[m] -= rows.modes
    base, determined = etas[m].copy(), rows.determined()

    def at(b: Floats) -> tuple[Floats, Floats, Floats]:
        etas[m] = base + rows.linear(b)
        f, f1, f2 = design.family.evaluate(y, design.extra, etas, 2, [m])[:3]
        H = rows.information(-w * f2)
        return rows.sums((w * f)[:, None])[:, 0], rows.sums((w * f1)[:, None] * rows.z), H

    b = np.zeros((rows.q, rows.z.shape[1]))
    value, g, H = at(b)
    first = np.abs(np.einsum("qmm->qm", H)).max(axis=1)
    for _ in range(MOST_STEPS):
        step = _solve(_positive(H, first), g, determined)
        gain = np.einsum("qm,qm->q", step, g)
        if np.all(gain < 1e-12):
            break
        reach = np.ones(rows.q)
        for _ in range(30):
            new, g_new, H_new = at(b + reach[:, None] * step)
            worse = ~(new >= value - 1e-10 * np.abs(value))
            if not worse.any():
                break
            reach = np.where(worse, reach / 2, reach)
        b, value, g, H = b + reach[:, None] * step, new, g_new, H_new
    values = np.linalg.eigvalsh(H)[:, 0]
    left = np.einsum("qm,qm->q", _solve(_positive(H, first), g, determined), g)
    return Unpooled(b, H, determined & (values > FLAT * first) & ~(left > 1e-6))


def _solve(H: Floats, g: Floats, which: Bools) -> Floats:
    out = np.zeros_like(g)
    out[which] = np.linalg.solve(H[which], g[which][..., None])[..., 0]
    return out


def _positive(H: Floats, first: Floats) -> Floats:
    """Matrices with their eigenvalues made positive."""
    values, vectors = np.linalg.eigh(H)
    floor = 1e-12 * np.maximum(first, 1e-300)[:, None]
    values = np.maximum(np.abs(values), floor)
    return np.asarray(np.einsum("qab,qb,qcb->qac", vectors, values, vectors))
