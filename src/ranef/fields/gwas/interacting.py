"""Tests of a variant and its product with an environment, both columns at once.

The profile likelihood of a model with two columns is analytic in t = log lambda as that with one
(`profiles`): its values at Chebyshev nodes give each variant's optimum, and quadratic forms there
the statistics. Arrays in, arrays out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ranef.fields.gwas.engine import Columns
from ranef.fields.gwas.profiles import COLLINEAR, GUARD, Products
from ranef.fields.gwas.spectrum import (
    HIGHEST,
    LOWEST,
    SEARCH_ORDER,
    Nodes,
    NullFit,
    Rotated,
    Window,
    around,
    nodes_at,
    windows,
)

__all__ = ["NAMES", "Crossed", "cross", "prepare_crossed"]

Floats = NDArray[np.float64]

NAMES = (
    "main", "main_error", "product", "product_error", "covariance", "wald", "lrt", "score",
    "joint_wald", "joint_lrt", "t_reml", "t_ml", "left",
)  # fmt: skip
MOST_STEPS = 40


@dataclass(frozen=True, eq=False)
class Forms:
    """Quadratic forms of b pairs of columns at q nodes, each (q, b), with the null's (q, 1)."""

    A11: Floats
    A12: Floats
    A22: Floats
    B1: Floats
    B2: Floats
    C: Floats
    logdet: Floats
    logdet_W: Floats

    @classmethod
    def of(cls, nodes: Nodes, products: Products, Z: Floats, ZE: Floats) -> Forms:
        """Multiply both columns, and their sum, with the nodes."""
        A11, B1 = products.times(Z, Z * Z)
        A22, B2 = products.times(ZE, ZE * ZE)
        both = Z + ZE
        A12 = 0.5 * (products.times(both, both * both)[0] - A11 - A22)
        null = [v[:, None] for v in (nodes.yPy, nodes.logdet_H, nodes.logdet_WHW)]
        return cls(A11, A12, A22, B1, B2, *null)

    def take(self, nodes: Any, rows: Any) -> Forms:
        """Those of some nodes and variants."""
        pairs = [getattr(self, name)[nodes][:, rows] for name in ("A11", "A12", "A22", "B1", "B2")]
        return Forms(*pairs, *(v[nodes] for v in (self.C, self.logdet, self.logdet_W)))

    def determinant(self, k: int) -> Floats:
        return self.A11 if k == 1 else self.A11 * self.A22 - self.A12**2

    def rest(self, k: int) -> Floats:
        """What k columns leave of y'Py."""
        first = self.B1**2 / self.A11
        if k == 1:
            return np.asarray(self.C - first)
        second = (self.B2 - self.A12 / self.A11 * self.B1) ** 2
        return np.asarray(self.C - first - second * self.A11 / self.determinant(2))

    def criterion(self, n: int, c: int, k: int, *, reml: bool) -> Floats:
        """Profile log-likelihood with k columns, less constants."""
        rest = np.log(np.maximum(self.rest(k), np.finfo(float).tiny))
        twice = self.logdet + n * rest
        if reml:
            log = np.log(np.maximum(self.determinant(k), np.finfo(float).tiny))
            twice = self.logdet + self.logdet_W + log + (n - c - k) * rest
        return np.asarray(-0.5 * twice)


@dataclass(frozen=True, eq=False)
class Crossed:
    """A model, its null, and nodes: a window, the null's ML and REML and lambda = 0, guards."""

    model: Rotated
    null: NullFit
    window: Window
    nodes: Nodes
    products: Products
    exact: bool


def prepare_crossed(model: Rotated, null: NullFit, *, exact: bool) -> Crossed:
    """Lay out the nodes of a model."""
    centre = around(null.t_reml) if np.isfinite(null.t_reml) else around(0.0)
    window = Window(centre.centre, centre.half, SEARCH_ORDER)
    guards = np.concatenate([
        np.arange(window.low - 1.0, LOWEST, -GUARD), np.arange(window.high + 1.0, HIGHEST, GUARD),
        [LOWEST, HIGHEST],
    ])  # fmt: skip
    fixed = np.array([null.t_ml, null.t_reml, -np.inf])
    nodes = nodes_at(model, np.concatenate([window.t, fixed, guards]) if exact else fixed)
    return Crossed(model, null, window, nodes, Products.of(nodes, False), exact)


def cross(held: Crossed, Z: Floats, ZE: Floats) -> Columns:
    """Test b variants, rotated, with their products, rotated."""
    model, b = held.model, len(Z)
    n, c = model.n, model.c
    found = Columns.empty(b, NAMES)
    size = np.sqrt(np.maximum(np.sum(ZE * ZE, axis=1), 1e-300) / np.maximum(
        np.sum(Z * Z, axis=1), 1e-300))  # fmt: skip
    ZE = ZE / np.maximum(size, 1e-300)[:, None]
    forms = Forms.of(held.nodes, held.products, Z, ZE)
    q = len(held.window.s) if held.exact else 0
    plain = forms.take([q + 2], slice(None))
    with np.errstate(invalid="ignore", divide="ignore"):
        left = plain.A11[0] / np.sum(Z * Z, axis=1)
        after = plain.determinant(2)[0] / plain.A11[0] / np.sum(ZE * ZE, axis=1)
    found.values["left"][:] = np.where(left > COLLINEAR, np.minimum(left, after), 0.0)
    good = np.flatnonzero(found["left"] > COLLINEAR)
    forms, Z, ZE = forms.take(slice(None), good), Z[good], ZE[good]
    null = forms.take([q], slice(None))
    before = float(held.nodes.likelihood(n, c, reml=False)[q])
    if held.exact:
        t_reml, at_reml = _optimum(held, forms, Z, ZE, 2, reml=True)
        t_ml, at_ml = _optimum(held, forms, Z, ZE, 2, reml=False)
        _, at_one = _optimum(held, forms, Z, ZE, 1, reml=False)
    else:
        at_reml, at_ml = forms.take([1], slice(None)), forms.take([0], slice(None))
        at_one = at_ml
        t_reml, t_ml = (np.full(len(good), t) for t in (held.null.t_reml, held.null.t_ml))
    both = at_ml.criterion(n, c, 2, reml=False)[0]
    one = at_one.criterion(n, c, 1, reml=False)[0]
    values = _statistics(at_reml, n, c)
    values["score"] = _score(at_one if held.exact else null, n)
    values["lrt"] = np.maximum(2.0 * (both - one), 0.0)
    values["joint_lrt"] = np.maximum(2.0 * (both - before), 0.0)
    values["t_reml"], values["t_ml"] = t_reml, t_ml
    scale = size[good]
    for name in ("product", "product_error", "covariance"):
        values[name] = values[name] / scale
    found.put(good, Columns(values))
    return found


def _statistics(at: Forms, n: int, c: int) -> dict[str, Floats]:
    nu = n - c - 2
    A11, A12, A22, B1, B2 = (v[0] for v in (at.A11, at.A12, at.A22, at.B1, at.B2))
    det = A11 * A22 - A12**2
    main, product = (A22 * B1 - A12 * B2) / det, (A11 * B2 - A12 * B1) / det
    rest = at.rest(2)[0]
    s2 = rest / nu
    return {
        "main": main,
        "main_error": np.sqrt(s2 * A22 / det),
        "product": product,
        "product_error": np.sqrt(s2 * A11 / det),
        "covariance": -s2 * A12 / det,
        "wald": product**2 * det / A11 / s2,
        "joint_wald": (at.C[0] - rest) / (2.0 * s2),
    }


def _score(null: Forms, n: int) -> Floats:
    """Of the product, at the ML lambda of the model with the variant itself."""
    one = null.rest(1)[0]
    gain = one - null.rest(2)[0]
    return np.asarray(n * gain / one)


def _optimum(
    held: Crossed, forms: Forms, Z: Floats, ZE: Floats, k: int, *, reml: bool
) -> tuple[Floats, Forms]:
    """Each variant's best t, and the forms there."""
    n, c, q = held.model.n, held.model.c, len(held.window.s)
    values = forms.criterion(n, c, k, reml=reml)
    s, lost = _newton(held.window, values[:q])
    guards = values[q + 3 :]
    lost |= guards.max(axis=0) > values[:q].max(axis=0)
    t = held.window.centre + held.window.half * s
    at = _interpolated(held.window, forms.take(slice(0, q), slice(None)), s)
    rows = np.flatnonzero(lost)
    if len(rows):
        t[rows], whole = _everywhere(held.model, Z[rows], ZE[rows], k, reml=reml)
        for name in ("A11", "A12", "A22", "B1", "B2", "C", "logdet", "logdet_W"):
            getattr(at, name)[:, rows] = getattr(whole, name)
    return t, at


def _interpolated(window: Window, forms: Forms, s: Floats) -> Forms:
    """The forms at s of each variant, (1, b) each."""
    T = window.basis(s)[0]
    f = window.transform.T
    pairs = [
        np.einsum("qb,qb->b", f @ getattr(forms, name), T)[None]
        for name in ("A11", "A12", "A22", "B1", "B2")
    ]
    null = [(v[:, 0] @ window.transform @ T)[None] for v in (forms.C, forms.logdet, forms.logdet_W)]
    return Forms(*pairs, *null)


def _newton(window: Window, values: Floats) -> tuple[Floats, NDArray[np.bool_]]:
    """The maximum of each series within a window; who ends at an edge that is no end of all."""
    series = window.transform.T @ values
    s = window.s[np.argmax(values, axis=0)].copy()
    for _ in range(MOST_STEPS):
        _, T1, T2 = window.basis(s)
        first, second = (np.einsum("qb,qb->b", series, T) for T in (T1, T2))
        step = np.where(second < 0, -first / np.minimum(second, -1e-300), 0.3 * np.sign(first))
        new = np.clip(s + np.clip(step, -0.5, 0.5), -1.0, 1.0)
        moved = np.abs(new - s).max(initial=0.0)
        s = new
        if moved < 1e-9:
            break
    edge = 1.0 - 1e-9
    lost = (s > edge) & (window.high < HIGHEST - 1e-9)
    lost |= (s < -edge) & (window.low > LOWEST + 1e-9)
    return s, lost


def _everywhere(
    model: Rotated, Z: Floats, ZE: Floats, k: int, *, reml: bool
) -> tuple[Floats, Forms]:
    """The best of all windows."""
    b = len(Z)
    best, t = np.full(b, -np.inf), np.zeros(b)
    at = Forms(*(np.zeros((1, b)) for _ in range(8)))
    for wide in windows():
        window = Window(wide.centre, wide.half, SEARCH_ORDER)
        nodes = nodes_at(model, window.t)
        forms = Forms.of(nodes, Products.of(nodes, False), Z, ZE)
        s, _ = _newton(window, forms.criterion(model.n, model.c, k, reml=reml))
        here = _interpolated(window, forms, s)
        value = here.criterion(model.n, model.c, k, reml=reml)[0]
        better = value > best
        best[better], t[better] = value[better], (window.centre + window.half * s)[better]
        for name in ("A11", "A12", "A22", "B1", "B2", "C", "logdet", "logdet_W"):
            getattr(at, name)[:, better] = getattr(here, name)[:, better]
    return t, at
