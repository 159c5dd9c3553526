"""The mixed model y = W alpha + u + e, Var(u) = lambda tau^-1 K, Var(e) = tau^-1 I, rotated.

With K = U diag(d) U', rows of U'y are independent with variances proportional to
1 + lambda d (Kang et al. 2008; Zhou & Stephens 2012), and every likelihood is a function of t =
log lambda alone. It is analytic within an imaginary distance of pi from the real line, so that
few Chebyshev nodes in a window of t give it to rounding.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ranef import squares

__all__ = [
    "HIGHEST",
    "LOWEST",
    "Nodes",
    "NullFit",
    "Rotated",
    "Window",
    "eigen",
    "fit_null",
    "nodes_at",
    "windows",
]

Floats = NDArray[np.float64]

LOWEST, HIGHEST = float(np.log(1e-5)), float(np.log(1e5))
"""Range of log lambda, that of GEMMA."""
HALF_WIDTH = 1.5
ORDER = 18
SEARCH_ORDER = 20
SMALLEST_EIGENVALUE = 1e-10


@dataclass(frozen=True, eq=False)
class Rotated:
    """A model in the coordinates of K's eigenvectors.

    Attributes
    ----------
    d : (n,) array
        Eigenvalues, none below zero.
    W : (n, c) array
        Covariates, of full rank.
    y : (n,) array
    """

    d: Floats
    W: Floats
    y: Floats

    @property
    def n(self) -> int:
        return len(self.y)

    @property
    def c(self) -> int:
        return int(self.W.shape[1])

    @cached_property
    def logdet_WW(self) -> float:
        """Log |W'W|."""
        return float(np.linalg.slogdet(self.W.T @ self.W)[1])


def eigen(K: Floats) -> tuple[Floats, Floats]:
    """Return eigenvalues, (n,), and eigenvectors, (n, n) by column, of a symmetric matrix.

    Eigenvalues that are zero but for rounding are zero.
    """
    d, U = squares.eigen(K)
    d = np.where(np.abs(d) < SMALLEST_EIGENVALUE, 0.0, d)
    return d, U


@dataclass(frozen=True, eq=False)
class Nodes:
    """What the model is at q values of t, and what a variant meets there.

    For a variant z (rotated), x'Px = (z * z)'D_k - |z'N_k|^2 and x'Py = z'p_k, with P the
    projection of the null model.

    Attributes
    ----------
    t : (q,) array
    D : (q, n) array
        1 / (1 + lambda d).
    N : (q, n, c) array
        D W L^-T, with L L' = W'DW.
    p : (q, n) array
        Py.
    yPy, logdet_H, logdet_WHW : (q,) arrays
    """

    t: Floats
    D: Floats
    N: Floats
    p: Floats
    yPy: Floats
    logdet_H: Floats
    logdet_WHW: Floats

    def likelihood(self, n: int, c: int, *, reml: bool) -> Floats:
        """Profile log-likelihood of the null model at the nodes, constants left out, (q,)."""
        twice: Floats = self.logdet_H + n * np.log(self.yPy)
        if reml:
            twice = self.logdet_H + self.logdet_WHW + (n - c) * np.log(self.yPy)
        return -0.5 * twice


def nodes_at(model: Rotated, t: Floats) -> Nodes:
    """Evaluate the null model at some values of t; -inf is lambda = 0."""
    t = np.atleast_1d(np.asarray(t, dtype=np.float64))
    lambda_d = np.exp(t)[:, None] * model.d
    D = 1.0 / (1.0 + lambda_d)
    DW: Any = D[:, :, None] * model.W
    WHW: Any = np.swapaxes(DW, 1, 2) @ model.W
    L: Any = np.linalg.cholesky(WHW) if model.c else np.empty((len(t), 0, 0))
    N: Any = np.swapaxes(np.linalg.solve(L, np.swapaxes(DW, 1, 2)), 1, 2) if model.c else DW
    v: Any = np.swapaxes(N, 1, 2) @ model.y
    p = D * model.y - (N @ v[:, :, None])[:, :, 0]
    # the residual of y, formed before it is squared, keeps the digits of a small yPy
    residual = model.y - (model.W @ np.swapaxes(_solved(L, v), 0, 1)).T
    yPy = np.sum(D * residual * residual, axis=1)
    diagonal = np.diagonal(L, axis1=1, axis2=2)
    return Nodes(
        t, D, N, p, yPy, np.log1p(lambda_d).sum(axis=1), 2.0 * np.log(diagonal).sum(axis=1)
    )


def _solved(L: Floats, v: Floats) -> Floats:
    """L'^-1 v of each node, (q, c)."""
    if not L.shape[1]:
        return v
    return np.asarray(np.linalg.solve(np.swapaxes(L, 1, 2), v[:, :, None])[:, :, 0], np.float64)


@dataclass(frozen=True)
class Window:
    """A stretch of t with Chebyshev nodes in it.

    Attributes
    ----------
    centre, half : float
    order : int
    """

    centre: float
    half: float
    order: int = ORDER

    @cached_property
    def s(self) -> Floats:
        """Nodes within [-1, 1], (order,)."""
        return np.cos(np.pi * (np.arange(self.order) + 0.5) / self.order)

    @property
    def t(self) -> Floats:
        return self.centre + self.half * self.s

    @property
    def low(self) -> float:
        return self.centre - self.half

    @property
    def high(self) -> float:
        return self.centre + self.half

    @cached_property
    def transform(self) -> Floats:
        """(order, order): values at the nodes times it are coefficients."""
        k = np.arange(self.order)
        T = np.cos(np.outer(np.pi * (k + 0.5) / self.order, k)) * (2.0 / self.order)
        T[:, 0] /= 2.0
        return np.asarray(T)

    def basis(self, s: Floats) -> tuple[Floats, Floats, Floats]:
        """Chebyshev polynomials at s with two derivatives in s, each (order, len(s))."""
        q = self.order
        T, first, second = (np.zeros((q, len(s))) for _ in range(3))
        T[0], T[1], first[1] = 1.0, s, 1.0
        twice = 2.0 * s
        for k in range(2, q):
            T[k] = twice * T[k - 1] - T[k - 2]
            first[k] = 2.0 * T[k - 1] + twice * first[k - 1] - first[k - 2]
            second[k] = 4.0 * first[k - 1] + twice * second[k - 1] - second[k - 2]
        return T, first, second


def windows(low: float = LOWEST, high: float = HIGHEST, half: float = HALF_WIDTH) -> list[Window]:
    """Windows side by side over a range of t."""
    count = int(np.ceil((high - low) / (2.0 * half)))
    step = (high - low) / count
    return [Window(low + (k + 0.5) * step, 0.5 * step) for k in range(count)]


def around(t: float, half: float = HALF_WIDTH) -> Window:
    """The window about a value of t, within the range of all."""
    centre = min(max(t, LOWEST + half), HIGHEST - half)
    return Window(centre, half)


@dataclass(frozen=True, eq=False)
class NullFit:
    """The model without a variant.

    Attributes
    ----------
    n, c : int
    t_reml, t_ml : float
        log lambda at the optimum of each criterion.
    loglik_reml, loglik_ml : float
        All constants included; REML without log|W'W|.
    loglik_zero : float
        REML at lambda = 0.
    trace : float
        Mean of the eigenvalues.
    lambda_se : float
        Of REML; NaN at the boundary.
    boundary : bool
        Whether REML has its optimum at the lowest or highest lambda.
    sigma2 : float
        REML estimate of Var(e).
    beta, beta_se : (c,) arrays
        Of the covariates, by REML.
    """

    n: int
    c: int
    t_reml: float
    t_ml: float
    loglik_reml: float
    loglik_ml: float
    loglik_zero: float
    trace: float
    lambda_se: float
    boundary: bool
    sigma2: float
    beta: Floats
    beta_se: Floats

    @property
    def lambda_reml(self) -> float:
        return float(np.exp(self.t_reml))

    @property
    def lambda_ml(self) -> float:
        return float(np.exp(self.t_ml))

    @property
    def pve(self) -> float:
        """Share of variance that K explains: lambda tr(K)/n over 1 + the same."""
        v = self.trace * self.lambda_reml
        return v / (1.0 + v)

    @property
    def pve_se(self) -> float:
        """Its standard error, by the delta method."""
        return self.trace / (1.0 + self.trace * self.lambda_reml) ** 2 * self.lambda_se

    @property
    def p_zero(self) -> float:
        """P value of lambda = 0, by the mixture of chi-squared with none and one df."""
        from scipy.special import chdtrc

        gain = 2.0 * (self.loglik_reml - self.loglik_zero)
        return 1.0 if gain <= 0 or self.t_reml <= LOWEST else 0.5 * float(chdtrc(1.0, gain))


def fit_null(model: Rotated) -> NullFit:
    """Fit the model without a variant by REML and by ML, over the whole range of lambda."""
    n, c = model.n, model.c
    looked = [Window(w.centre, w.half, SEARCH_ORDER) for w in windows()]
    seen = [(window, nodes_at(model, window.t)) for window in looked]
    t_reml, gain, curvature = _optimum(model, seen, reml=True)
    t_ml, gain_ml, _ = _optimum(model, seen, reml=False)
    reml_constant, ml_constant = constants(n, c)
    boundary = t_reml <= LOWEST or t_reml >= HIGHEST
    lambda_reml = np.exp(t_reml)
    se = float("nan")
    if not boundary and curvature < 0:
        se = float(lambda_reml / np.sqrt(-curvature))
    at = nodes_at(model, np.array([t_reml, -np.inf]))
    sigma2 = float(at.yPy[0] / (n - c))
    beta: Floats = np.empty(0)
    beta_se: Floats = np.empty(0)
    if c:
        cross = model.W.T @ (at.D[0][:, None] * model.W)
        inverse = np.linalg.inv(cross)
        beta = np.linalg.solve(cross, model.W.T @ (at.D[0] * model.y))
        beta_se = np.sqrt(sigma2 * np.diag(inverse))
    zero = float(at.likelihood(n, c, reml=True)[1])
    return NullFit(
        n, c, t_reml, t_ml, gain + reml_constant, gain_ml + ml_constant, zero + reml_constant,
        float(model.d.mean()), se, boundary, sigma2, beta, beta_se,
    )  # fmt: skip


def constants(n: int, c: int) -> tuple[float, float]:
    """What the profile log-likelihoods of REML and ML leave out."""
    nu = n - c
    reml = 0.5 * nu * (np.log(nu / (2.0 * np.pi)) - 1.0)
    return float(reml), float(0.5 * n * (np.log(n / (2.0 * np.pi)) - 1.0))


def _optimum(
    model: Rotated, seen: Sequence[tuple[Window, Nodes]], *, reml: bool
) -> tuple[float, float, float]:
    """The best t over the whole range, the criterion there and its second derivative in t."""
    n, c = model.n, model.c
    ends = nodes_at(model, np.array([LOWEST, HIGHEST])).likelihood(n, c, reml=reml)
    best = (LOWEST, float(ends[0]), np.nan)
    if ends[1] > ends[0]:
        best = (HIGHEST, float(ends[1]), np.nan)
    for window, at in seen:
        values = at.likelihood(n, c, reml=reml)
        coefficients = values @ window.transform
        s = _stationary(window, coefficients, float(window.s[np.argmax(values)]))
        if s is None:
            continue
        t = window.centre + window.half * s
        value = float(nodes_at(model, np.array([t])).likelihood(n, c, reml=reml)[0])
        if value > best[1]:
            second = float((coefficients @ window.basis(np.array([s]))[2])[0])
            best = (t, value, second / window.half**2)
    return best


def _stationary(window: Window, coefficients: Floats, s: float) -> float | None:
    """A maximum within the window by Newton's method from s; None where there is none."""
    for _ in range(50):
        _, first, second = (float((coefficients @ b)[0]) for b in window.basis(np.array([s])))
        step = -first / second if second < 0 else 0.3 * np.sign(first)
        new = min(max(s + float(np.clip(step, -0.5, 0.5)), -1.0), 1.0)
        if abs(new - s) < 1e-12:
            inside = -1.0 < new < 1.0 or abs(first) < 1e-9
            return new if inside and second <= 0 else None
        s = new
    return s if -1.0 < s < 1.0 else None
