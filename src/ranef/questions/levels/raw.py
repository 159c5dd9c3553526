"""No pooling: the effect of each level from its own rows alone."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ranef.inference.effects.combinations import modes_of
from ranef.inference.rows.fitted import fitted
from ranef.models.labels import factors_of, terms_of
from ranef.models.records import Component, Estimate, GeneralisedEstimate
from ranef.models.rows import at_levels
from ranef.questions.levels.level_effects import components_of, names_of, own_terms

__all__ = ["RawEffects", "raw_effects"]

Floats = NDArray[np.float64]

MOST_STEPS = 60
FLAT = 1e-6
"""Information left, relative to that at zero, below which a maximum lies at infinity."""


@dataclass(frozen=True, eq=False)
class RawEffects:
    """Maximum likelihood estimates of the effects of each level, as if fixed.

    Attributes
    ----------
    names : tuple of str
        The m coefficients.
    estimate, std_error : (q, m) float64 arrays
        NaN where a level has none.
    exists : (q,) bool array
        False where the rows of the level do not determine its effects: fewer rows than
        effects, a covariate that does not vary, or (in generalised models) an estimate
        at infinity, such as a rate without events.
    """

    names: tuple[str, ...]
    estimate: Floats
    std_error: Floats
    exists: NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class _Rows:
    """The rows of a model as the effects of one factor see them."""

    codes: NDArray[np.int32]
    z: Floats
    q: int

    def sums(self, values: Floats) -> Floats:
        """Sum (n, ...) by level, (q, ...)."""
        flat = values.reshape(len(values), -1)
        out = np.stack([np.bincount(self.codes, v, self.q) for v in flat.T], axis=1)
        return np.asarray(out.reshape(self.q, *values.shape[1:]), dtype=np.float64)

    def linear(self, b: Floats) -> Floats:
        return np.asarray(np.einsum("nm,nm->n", self.z, b[self.codes]))

    def information(self, w: Floats) -> Floats:
        return self.sums(np.einsum("n,na,nb->nab", w, self.z, self.z))


def raw_effects(estimate: Estimate, part: Component, factor: int) -> RawEffects:
    """Effects of each level that maximise the likelihood of its rows.

    Fixed effects, other parts and the effects of other factors stay at their estimates
    (they act as an offset), so that where every coefficient varies over the levels,
    fixed plus raw effect is what the level's rows alone give.
    """
    rows = _rows(estimate, part, factor)
    names = names_of(estimate, part, factor)
    full = _full_rank(rows.information(np.ones(len(rows.codes))))
    if isinstance(estimate, GeneralisedEstimate):
        b, information, finite = _newton(estimate, part, factor, rows, full)
    else:
        b, information = _least_squares(estimate, factor, rows, full)
        finite = full
    exists = full & finite
    error = np.full(b.shape, np.nan)
    inverse = np.linalg.inv(information[exists])
    error[exists] = np.sqrt(np.maximum(np.einsum("qmm->qm", inverse), 0.0))
    return RawEffects(names, np.where(exists[:, None], b, np.nan), error, exists)


def _rows(estimate: Estimate, part: Component, factor: int) -> _Rows:
    """Columns of the factor's effects; terms that share a coefficient are added."""
    own, names = own_terms(estimate, part, factor), names_of(estimate, part, factor)
    of = factors_of(estimate)[factor]
    z = np.zeros((len(of.codes), len(names)))
    for t in own:
        term = terms_of(estimate)[t]
        for a, name in enumerate(term.names):
            z[:, names.index(name)] = term.z[:, a]
    return _Rows(of.codes, z, of.n_levels)


def _own_part(estimate: Estimate, part: Component, factor: int) -> Floats:
    """What the modes of the factor give to the predictor of each row."""
    codes = factors_of(estimate)[factor].codes
    out = np.zeros(len(codes))
    for t in own_terms(estimate, part, factor):
        out += at_levels(modes_of(estimate)[t], codes, terms_of(estimate)[t].z)
    return out


def _full_rank(gram: Floats) -> NDArray[np.bool_]:
    """Which levels determine all their effects."""
    scale = np.sqrt(np.einsum("qmm->qm", gram))
    unit = np.where(scale > 0, scale, 1.0)
    values = np.linalg.eigvalsh(gram / (unit[:, :, None] * unit[:, None, :]))
    return np.asarray((values[:, 0] > 1e-9) & (scale > 0).all(axis=1))


def _solve(H: Floats, g: Floats, which: NDArray[np.bool_]) -> Floats:
    out = np.zeros_like(g)
    out[which] = np.linalg.solve(H[which], g[which][..., None])[..., 0]
    return out


def _least_squares(
    estimate: Estimate, factor: int, rows: _Rows, full: NDArray[np.bool_]
) -> tuple[Floats, Floats]:
    """Effects (q, m) and their information (q, m, m) in a linear model."""
    spec = estimate.specification
    w = np.ones(spec.n) if spec.weights is None else spec.weights
    (part,) = components_of(estimate)
    rest = spec.y - fitted(estimate) + _own_part(estimate, part, factor)
    H = rows.information(w)
    b = _solve(H, rows.sums((w * rest)[:, None] * rows.z), full)
    return b, H / estimate.sigma**2


def _newton(
    estimate: GeneralisedEstimate,
    part: Component,
    factor: int,
    rows: _Rows,
    full: NDArray[np.bool_],
) -> tuple[Floats, Floats, NDArray[np.bool_]]:
    """Effects, their information, and which levels have a maximum; Newton with halving."""
    design, m = estimate.design, part.predictor
    y = np.ascontiguousarray(design.y)
    w = np.ones(len(y)) if design.weights is None else design.weights
    etas = np.array(estimate.predictors)
    etas[m] -= _own_part(estimate, part, factor)
    base = etas[m].copy()

    def at(b: Floats) -> tuple[Floats, Floats, Floats]:
        etas[m] = base + rows.linear(b)
        f, f1, f2 = design.family.evaluate(y, design.extra, etas, 2, [m])[:3]
        H = rows.information(-w * f2)
        return rows.sums((w * f)[:, None])[:, 0], rows.sums((w * f1)[:, None] * rows.z), H

    b = np.zeros((rows.q, rows.z.shape[1]))
    value, g, H = at(b)
    first = np.abs(np.einsum("qmm->qm", H)).max(axis=1)
    for _ in range(MOST_STEPS):
        step = _solve(_positive(H, first), g, full)
        fine = np.einsum("qm,qm->q", step, g)
        if np.all(fine < 1e-12):
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
    gone = np.einsum("qm,qm->q", _solve(_positive(H, first), g, full), g) > 1e-6
    return b, H, (values > FLAT * first) & ~gone


def _positive(H: Floats, first: Floats) -> Floats:
    """Matrices with their eigenvalues made positive."""
    values, vectors = np.linalg.eigh(H)
    floor = 1e-12 * np.maximum(first, 1e-300)[:, None]
    values = np.maximum(np.abs(values), floor)
    return np.asarray(np.einsum("qab,qb,qcb->qac", vectors, values, vectors))
