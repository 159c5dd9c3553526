"""Every variant's own optimum of the mixed model, many variants at once.

With z = U'x the model with variant x needs z'Pz and z'Py as functions of t = log lambda. At a few
nodes they come from two matrix products for all variants; between the nodes they are Chebyshev
series, on which Newton's method runs for all variants together. Nothing in it is of the order of
n a variant but those products. Wald, likelihood-ratio and score statistics come from one pass.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ranef.fields.gwas.spectrum import (
    HIGHEST,
    LOWEST,
    Nodes,
    NullFit,
    Rotated,
    Window,
    around,
    nodes_at,
    windows,
)

__all__ = ["Found", "Prepared", "prepare", "test_directly", "test_variants"]

Floats = NDArray[np.float64]
Real = NDArray[Any]
Flags = NDArray[np.bool_]

GUARD = 2.3
"""Distance of the nodes outside the window that watch for a better optimum elsewhere."""
EDGE = 1.0 - 1e-9
MOST_STEPS = 30
COLLINEAR = 1e-7
"""Share of a variant's sum of squares that covariates must leave."""
NARROW, WIDE = 1e-9, 1e-14
"""Shares of a column's length to which a basis has it, in single and in double precision."""


@dataclass(frozen=True, eq=False)
class Found:
    """What the tests found for b variants.

    Attributes
    ----------
    beta, std_error : (b,) arrays
    wald, lrt, score : (b,) arrays
        F with 1 and n - c - 1 degrees of freedom, chi-squared with one, F again.
    t_reml, t_ml : (b,) arrays
        log lambda.
    left : (b,) array
        Share of the variant's sum of squares that covariates leave.
    residual : (b,) array
        Share of the response's sum of squares that the variant leaves, at the optimum.
    """

    beta: Floats
    std_error: Floats
    wald: Floats
    lrt: Floats
    score: Floats
    t_reml: Floats
    t_ml: Floats
    left: Floats
    residual: Floats

    @classmethod
    def empty(cls, b: int) -> Found:
        """Nothing yet for b variants."""
        return cls(*(np.full(b, np.nan) for _ in fields(cls)))

    def put(self, rows: Any, other: Found) -> None:
        """Write the results of some variants in their places."""
        for field in fields(self):
            getattr(self, field.name)[rows] = getattr(other, field.name)

    def take(self, rows: Any) -> Found:
        """Return those of some variants."""
        return replace(self, **{f.name: getattr(self, f.name)[rows] for f in fields(self)})


@dataclass(frozen=True, eq=False)
class Spanned:
    """Columns to multiply variants with: a basis, and their coefficients in it.

    Columns at neighbouring nodes are nearly combinations of each other, so that a basis of half
    as many has all of them to a given precision.

    Attributes
    ----------
    basis : (n, r) array
    coefficients : (r, k) array or None
        None: the basis is the columns themselves.
    """

    basis: Real
    coefficients: Floats | None = None

    @classmethod
    def of(cls, columns: Floats, tolerance: float) -> Spanned:
        """Find a basis of columns, (n, k), that has each of them within a share of its length."""
        size = np.sqrt(np.einsum("nk,nk->k", columns, columns))
        size[size == 0.0] = 1.0
        U, s, V = np.linalg.svd(columns / size, full_matrices=False)
        keep = s > tolerance * s.max(initial=0.0)
        return cls(np.ascontiguousarray(U[:, keep]), s[keep, None] * V[keep] * size)

    def narrowed(self) -> Spanned:
        """Return the same with its basis in single precision."""
        return replace(self, basis=self.basis.astype(np.float32))

    def times(self, Z: Real) -> Floats:
        """Return the products of the rows of Z with the columns, (b, k)."""
        found = (Z @ self.basis).astype(np.float64, copy=False)
        return found if self.coefficients is None else np.asarray(found @ self.coefficients)


@dataclass(frozen=True, eq=False)
class Products:
    """The nodes of a model as columns to multiply variants with.

    Attributes
    ----------
    squares : Spanned
        D, q columns, for z * z.
    linear : Spanned
        N, q c columns, node by node.
    response : Spanned
        p, q columns, in double precision.
    """

    squares: Spanned
    linear: Spanned
    response: Spanned
    q: int
    c: int

    @classmethod
    def of(cls, nodes: Nodes, single: bool) -> Products:
        """Lay out the nodes."""
        q, n, c = nodes.N.shape
        linear = np.ascontiguousarray(np.swapaxes(nodes.N, 0, 1).reshape(n, q * c))
        squares, p = np.ascontiguousarray(nodes.D.T), np.ascontiguousarray(nodes.p.T)
        if not single:
            return cls(Spanned(squares), Spanned(linear), Spanned(p), q, c)
        return cls(
            Spanned.of(squares, NARROW).narrowed(), Spanned.of(linear, NARROW).narrowed(),
            Spanned.of(p, WIDE), q, c,
        )  # fmt: skip

    def times(self, Z: Real, squared: Real, zPy: Floats | None = None) -> tuple[Floats, Floats]:
        """Return z'Pz and z'Py of b variants at the nodes, each (q, b); zPy : (b, q), if known."""
        shared = self.linear.times(Z).reshape(len(Z), self.q, self.c)
        out = np.einsum("bqc,bqc->qb", shared, shared)
        if zPy is None:
            zPy = self.response.times(Z)
        return self.squares.times(squared).T - out, np.ascontiguousarray(zPy.T)


@dataclass(frozen=True, eq=False)
class Prepared:
    """A model with everything at its nodes that all variants share.

    Attributes
    ----------
    model : Rotated
    null : NullFit
    window : Window
    nodes : Nodes
        Those of the window, then the null model's ML, its REML, lambda = 0, then the guards.
    exact : bool
        Whether each variant has its own lambda, or all the null model's.
    double, single : Products
    response : Spanned or None
        The nodes' p in the coordinates of the samples, by which variants that are not rotated
        have their z'Py; beside products in single precision.
    """

    model: Rotated
    null: NullFit
    window: Window
    nodes: Nodes
    exact: bool
    double: Products
    single: Products | None
    response: Spanned | None = None


ML, REML, PLAIN = 0, 1, 2
EXTRA = 3


def prepare(
    model: Rotated,
    null: NullFit,
    *,
    exact: bool,
    single: bool,
    back: Callable[[Floats], Floats] | None = None,
) -> Prepared:
    """Lay out the nodes of a model, once for all variants.

    exact : each variant its own lambda; single : products in single precision too; back : takes
    columns to the coordinates of the samples.
    """
    window = around(null.t_reml)
    fixed = [null.t_ml, null.t_reml, -np.inf]
    t = np.array(fixed) if not exact else np.concatenate([window.t, fixed, _guards(window)])
    nodes = nodes_at(model, t)
    narrow = Products.of(nodes, True) if single else None
    response = None
    if narrow is not None and back is not None:
        response = replace(narrow.response, basis=back(narrow.response.basis))
    double = Products.of(nodes, False)
    return Prepared(model, null, window, nodes, exact, double, narrow, response)


def _guards(window: Window) -> Floats:
    below = np.arange(window.low - 1.0, LOWEST, -GUARD)
    above = np.arange(window.high + 1.0, HIGHEST, GUARD)
    ends = [end for end in (LOWEST, HIGHEST) if not window.low <= end <= window.high]
    return np.concatenate([below, above, ends])


def test_variants(prepared: Prepared, Z: Real, zPy: Floats | None) -> Found:
    """Test b variants.

    Parameters
    ----------
    Z : (b, n) array
        Rotated variants, in single precision if `prepared` has such products.
    zPy : (b, q) array or None
        z'Py at the nodes, where it is known better than Z tells it: an effect next to zero is a
        difference of large sums, of which single precision leaves no digits.
    """
    with np.errstate(invalid="ignore", divide="ignore"):  # those that leave no residual
        return _tested(prepared, Z, zPy)


def _tested(prepared: Prepared, Z: Real, zPy: Floats | None) -> Found:
    products = prepared.double if Z.dtype == np.float64 else prepared.single
    assert products is not None
    squared = Z * Z
    A, B = products.times(Z, squared, zPy)
    total = squared.sum(axis=1)
    model, null = prepared.model, prepared.null
    start = len(prepared.window.s) if prepared.exact else 0
    plain = A[start + PLAIN]
    left = np.where(total > 0, plain / total, 0.0)
    good = left > COLLINEAR
    A, B = np.where(good, A, 1.0), np.where(good, B, 0.0)
    score = _score(model, prepared.nodes, A, B, start + ML)
    if prepared.exact:
        found = _own_optima(prepared, A, B, Z)
    else:
        found = _statistics(
            model,
            null,
            np.full(len(Z), null.t_reml),
            np.full(len(Z), null.t_ml),
            _at_node(prepared.nodes, A, B, REML),
            _at_node(prepared.nodes, A, B, ML),
        )
    found = replace(found, score=score, left=left)
    for field in fields(found):
        if field.name != "left":
            getattr(found, field.name)[~good] = np.nan
    return found


def _score(model: Rotated, nodes: Nodes, A: Floats, B: Floats, k: int) -> Floats:
    """N (x'Py)^2 / (x'Px y'Py) at the null model's ML (Zhou & Stephens 2012)."""
    score: Floats = model.n * B[k] ** 2 / (A[k] * nodes.yPy[k])
    return score


@dataclass(frozen=True, eq=False)
class At:
    """Quadratic forms at each variant's own t: z'Pz, z'Py, yPy and log|H|, (b,) each."""

    A: Floats
    B: Floats
    C: Floats
    logdet: Floats


def _at_node(nodes: Nodes, A: Floats, B: Floats, k: int) -> At:
    b = A.shape[1]
    return At(A[k], B[k], np.full(b, nodes.yPy[k]), np.full(b, nodes.logdet_H[k]))


def _statistics(
    model: Rotated, null: NullFit, t_reml: Floats, t_ml: Floats, reml: At, ml: At
) -> Found:
    nu = model.n - model.c - 1
    rest = reml.C - reml.B**2 / reml.A
    base = nodes_at(model, np.array([null.t_ml]))
    gain = model.n * np.log(base.yPy[0] / (ml.C - ml.B**2 / ml.A)) + base.logdet_H[0] - ml.logdet
    nothing = np.full(len(t_reml), np.nan)
    return Found(
        beta=reml.B / reml.A,
        std_error=np.sqrt(rest / (nu * reml.A)),
        wald=nu * reml.B**2 / (reml.A * rest),
        lrt=np.maximum(gain, 0.0),
        score=nothing.copy(),
        t_reml=t_reml.copy(),
        t_ml=t_ml.copy(),
        left=nothing.copy(),
        residual=np.minimum(rest / reml.C, (ml.C - ml.B**2 / ml.A) / ml.C),
    )


# --- each variant's own optimum


@dataclass(frozen=True, eq=False)
class Series:
    """Chebyshev coefficients over a window: of variants (q, b), and of the null model (q,)."""

    window: Window
    A: Floats
    B: Floats
    C: Floats
    logdet_H: Floats
    logdet_WHW: Floats

    @classmethod
    def of(cls, window: Window, nodes: Nodes, A: Floats, B: Floats) -> Series:
        """Fit the series to values at the window's nodes, which come first."""
        q = len(window.s)
        f = window.transform.T
        null = (nodes.yPy, nodes.logdet_H, nodes.logdet_WHW)
        return cls(window, f @ A[:q], f @ B[:q], *(f @ values[:q] for values in null))

    def take(self, rows: Any) -> Series:
        """Return the series of some variants."""
        return replace(self, A=self.A[:, rows], B=self.B[:, rows])

    def at(self, s: Floats) -> At:
        """Evaluate the quadratic forms."""
        T, _, _ = self.window.basis(s)
        A, B = (np.einsum("qb,qb->b", f, T) for f in (self.A, self.B))
        return At(A, B, self.C @ T, self.logdet_H @ T)


def _own_optima(prepared: Prepared, A: Floats, B: Floats, Z: Real) -> Found:
    """Each variant's optimum within the window; where one lies elsewhere, over the whole range."""
    model, nodes, window = prepared.model, prepared.nodes, prepared.window
    q = len(window.s)
    series = Series.of(window, nodes, A, B)
    elsewhere = np.zeros(A.shape[1], dtype=bool)
    s = []
    for reml in (True, False):
        values = _criterion(model, nodes, A, B, reml)
        own, lost = _maximise(series, model, window.s[np.argmax(values[:q], axis=0)], reml)
        guards = values[q + EXTRA :]
        if len(guards):
            lost |= guards.max(axis=0) > values[:q].max(axis=0)
        elsewhere |= lost
        s.append(own)
    t = [window.centre + window.half * own for own in s]
    found = _statistics(model, prepared.null, t[0], t[1], series.at(s[0]), series.at(s[1]))
    rows = np.flatnonzero(elsewhere)
    if len(rows):
        found.put(rows, _over_all_windows(prepared, Z[rows].astype(np.float64)))
    return found


def _criterion(model: Rotated, nodes: Nodes, A: Floats, B: Floats, reml: bool) -> Floats:
    """Profile log-likelihood with each variant, less the null's constants, at all nodes (q, b)."""
    rest = np.log(np.maximum(nodes.yPy[:, None] - B**2 / A, np.finfo(float).tiny))
    twice: Floats = nodes.logdet_H[:, None] + model.n * rest
    if reml:
        nu = model.n - model.c - 1
        twice = (nodes.logdet_H + nodes.logdet_WHW)[:, None] + np.log(A) + nu * rest
    return -0.5 * twice


def _maximise(series: Series, model: Rotated, s: Floats, reml: bool) -> tuple[Floats, Flags]:
    """Newton's method from s for all variants; also who ends at an edge that is no end of all."""
    s, active = s.copy(), np.arange(len(s))
    for _ in range(MOST_STEPS):
        first, second = _slopes(series.take(active), model, s[active], reml)
        step = np.where(second < 0, -first / second, 0.3 * np.sign(first))
        new = np.clip(s[active] + np.clip(step, -0.5, 0.5), -1.0, 1.0)
        moved = np.abs(new - s[active])
        s[active] = new
        active = active[moved > 1e-8]
        if not len(active):
            break
    window = series.window
    lost = (s > EDGE) & (window.high < HIGHEST - 1e-9)
    lost |= (s < -EDGE) & (window.low > LOWEST + 1e-9)
    lost[active] = True
    return s, lost


def _slopes(series: Series, model: Rotated, s: Floats, reml: bool) -> tuple[Floats, Floats]:
    """First and second derivatives in s of the profile log-likelihood, (b,) each."""
    basis = series.window.basis(s)
    A, A1, A2 = (np.einsum("qb,qb->b", series.A, T) for T in basis)
    B, B1, B2 = (np.einsum("qb,qb->b", series.B, T) for T in basis)
    C, C1, C2 = (series.C @ T for T in basis)
    _, H1, H2 = (series.logdet_H @ T for T in basis)
    r = B / A
    rest = C - r * B
    r1 = (B1 - r * A1) / A
    rest1 = C1 - 2.0 * r * B1 + r * r * A1
    rest2 = C2 - 2.0 * r1 * B1 - 2.0 * r * B2 + 2.0 * r * r1 * A1 + r * r * A2
    weight = float(model.n)
    first, second = H1, H2
    if reml:
        weight = float(model.n - model.c - 1)
        _, W1, W2 = (series.logdet_WHW @ T for T in basis)
        first = H1 + W1 + A1 / A
        second = H2 + W2 + A2 / A - (A1 / A) ** 2
    share = rest1 / rest
    first = first + weight * share
    second = second + weight * (rest2 / rest - share**2)
    return -0.5 * first, -0.5 * second


def _over_all_windows(prepared: Prepared, Z: Floats) -> Found:
    """The best optimum of all windows, both ends of the range among them."""
    model, b = prepared.model, len(Z)
    squared = Z * Z
    best = [np.full(b, -np.inf), np.full(b, -np.inf)]
    t = [np.zeros(b), np.zeros(b)]
    forms = [At(*(np.zeros(b) for _ in range(4))) for _ in range(2)]
    for window in windows():
        nodes = nodes_at(model, window.t)
        A, B = Products.of(nodes, False).times(Z, squared)
        series = Series.of(window, nodes, A, B)
        for k, reml in enumerate((True, False)):
            values = _criterion(model, nodes, A, B, reml)
            s, _ = _maximise(series, model, window.s[np.argmax(values, axis=0)], reml)
            at = series.at(s)
            value = _value(series, model, at, s, reml)
            better = value > best[k]
            best[k][better] = value[better]
            t[k][better] = (window.centre + window.half * s)[better]
            for field in fields(at):
                getattr(forms[k], field.name)[better] = getattr(at, field.name)[better]
    return _statistics(model, prepared.null, t[0], t[1], forms[0], forms[1])


def _value(series: Series, model: Rotated, at: At, s: Floats, reml: bool) -> Floats:
    rest = np.log(np.maximum(at.C - at.B**2 / at.A, np.finfo(float).tiny))
    twice: Floats = at.logdet + model.n * rest
    if reml:
        W = series.logdet_WHW @ series.window.basis(s)[0]
        twice = at.logdet + W + np.log(at.A) + (model.n - model.c - 1) * rest
    return -0.5 * twice


# --- one variant, directly


def test_directly(model: Rotated, null: NullFit, z: Floats, *, exact: bool) -> Found:
    """Test one variant by least squares at each lambda that is tried.

    Slow, and right where next to nothing of the response is left: residuals are formed before
    they are squared.
    """
    n, c = model.n, model.c
    nu = n - c - 1

    def at(t: float) -> tuple[Any, float, float, float, float]:
        root = np.sqrt(1.0 / (1.0 + np.exp(t) * model.d))
        X = root[:, None] * np.column_stack([model.W, z])
        beta, *_ = np.linalg.lstsq(X, root * model.y, rcond=None)
        rest = root * model.y - X @ beta
        beta = beta + np.linalg.lstsq(X, rest, rcond=None)[0]
        rest = root * (model.y - np.column_stack([model.W, z]) @ beta)
        R = np.abs(np.diagonal(np.linalg.qr(X, mode="r")))
        logdet_H = -2.0 * float(np.log(root).sum())
        return beta, float(rest @ rest), logdet_H, float(2.0 * np.log(R).sum()), float(R[-1] ** 2)

    def criterion(t: float, reml: bool) -> float:
        _, rest, logdet_H, logdet_X, _ = at(t)
        log_rest = np.log(max(rest, 1e-300))
        if reml:
            return float(-0.5 * (logdet_H + logdet_X + nu * log_rest))
        return float(-0.5 * (logdet_H + n * log_rest))

    t_reml, t_ml = null.t_reml, null.t_ml
    if exact:
        t_reml, t_ml = (_search(criterion, reml) for reml in (True, False))
    beta, rest, _, _, left = at(t_reml)
    _, rest_ml, logdet_H, _, _ = at(t_ml)
    base = nodes_at(model, np.array([null.t_ml, t_reml, t_ml]))
    lrt = n * np.log(base.yPy[0] / max(rest_ml, 1e-300)) + base.logdet_H[0] - logdet_H
    p = base.p[0]
    zPz = float(base.D[0] @ (z * z) - np.sum((z @ base.N[0]) ** 2))
    score = n * float(z @ p) ** 2 / (zPz * base.yPy[0])
    effect = float(beta[-1])
    values = (
        effect, np.sqrt(rest / (nu * left)), nu * effect**2 * left / max(rest, 1e-300),
        max(lrt, 0.0), score, t_reml, t_ml, 1.0, min(rest / base.yPy[1], rest_ml / base.yPy[2]),
    )  # fmt: skip
    return Found(*(np.array([value]) for value in values))


def _search(criterion: Any, reml: bool) -> float:
    """The best t: a grid over the range, then the best stretch of it."""
    from scipy.optimize import minimize_scalar

    grid = np.linspace(LOWEST, HIGHEST, 47)
    values = np.array([criterion(t, reml) for t in grid])
    k = int(np.argmax(values))
    low, high = grid[max(k - 1, 0)], grid[min(k + 1, len(grid) - 1)]
    found = minimize_scalar(
        lambda t: -criterion(t, reml), bounds=(low, high), method="bounded",
        options={"xatol": 1e-9},
    )  # fmt: skip
    return float(found.x) if -found.fun >= values[k] else float(grid[k])
