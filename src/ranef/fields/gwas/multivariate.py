"""Several traits at once: Var(row i) = d_i Vg + Ve in the coordinates of K's eigenvectors.

A congruence A that turns Ve into I and Vg into diag(l) makes the d traits independent, each with
the variances 1 + l_j d_i (Zhou & Stephens 2014): restricted likelihood, its gradient, average
information and the tests of a variant are then sums over d univariate models. Arrays in, arrays
out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "Apart",
    "Covariances",
    "Several",
    "apart",
    "basis_of_columns",
    "directions",
    "fit_several",
    "symmetric",
]

Floats = NDArray[np.float64]

MOST_STEPS = 400
ENOUGH = 1e-10
"""Gain in log-likelihood, as predicted, at which the search ends."""
INWARDS = 1e-3
"""Share of the variance that a start is moved away from a singular covariance."""


@dataclass(frozen=True, eq=False)
class Several:
    """Traits and covariates, rotated.

    Attributes
    ----------
    d : (n,) array
        Eigenvalues.
    W : (n, c) array
    Y : (n, k) array
    """

    d: Floats
    W: Floats
    Y: Floats

    @property
    def n(self) -> int:
        return len(self.Y)

    @property
    def c(self) -> int:
        return int(self.W.shape[1])

    @property
    def k(self) -> int:
        return int(self.Y.shape[1])


@dataclass(frozen=True, eq=False)
class Apart:
    """The model with its traits made independent, at some Vg and Ve.

    Attributes
    ----------
    A : (k, k) array
        A Ve A' = I, A Vg A' = diag(l).
    D : (k, n) array
        1 / (1 + l_j d_i).
    N : (k, n, c) array
        D_j W L^-T with L L' = W'D_jW.
    p : (k, n) array
        P_j of the transformed traits.
    loglik : float
    """

    A: Floats
    D: Floats
    N: Floats
    p: Floats
    loglik: float

    def project(self, q: Floats) -> Floats:
        """P_j q_j, (k, n)."""
        inner = np.einsum("jnc,jn->jc", self.N, q)
        return np.asarray(self.D * q - np.einsum("jnc,jc->jn", self.N, inner))

    def forms(self, Z: Floats) -> tuple[Floats, Floats]:
        """z'P_j z and z'P_j y_j of the rows of Z, each (b, k)."""
        shared = np.einsum("bn,jnc->bjc", Z, self.N)
        zPz = (Z * Z) @ self.D.T - np.sum(shared * shared, axis=2)
        return np.asarray(zPz), np.asarray(Z @ self.p.T)


def basis_of_columns(W: Floats) -> Floats:
    """Orthogonal columns that span the same, with the same determinant of W'W."""
    if not W.shape[1]:
        return W
    scale = np.sqrt(np.mean(W**2, axis=0))
    Q, R = np.linalg.qr(W / scale)
    log_size = np.mean(np.log(np.abs(np.diag(R))) + np.log(scale))
    return np.asarray(Q * np.exp(log_size))


def apart(model: Several, Vg: Floats, Ve: Floats, *, reml: bool) -> Apart | None:
    """Make the traits independent; None where Ve is no covariance."""
    try:
        L = np.linalg.cholesky(Ve)
    except np.linalg.LinAlgError:
        return None
    half = np.linalg.solve(L, np.linalg.solve(L, Vg).T)
    ratios, Q = np.linalg.eigh(0.5 * (half + half.T))
    ratios = np.maximum(ratios, 0.0)
    A = Q.T @ np.linalg.inv(L)
    spread = 1.0 + ratios[:, None] * model.d
    D = 1.0 / spread
    y = A @ model.Y.T
    n, c, k = model.n, model.c, model.k
    logdet_Ve = 2.0 * float(np.log(np.diag(L)).sum())
    twice = (n - c if reml else n) * (k * np.log(2.0 * np.pi) + logdet_Ve)
    twice += float(np.log(spread).sum())
    N = np.zeros((k, n, c))
    p = D * y
    if c:
        DW: Any = D[:, :, None] * model.W
        cross: Any = np.swapaxes(DW, 1, 2) @ model.W
        R: Any = np.linalg.cholesky(cross)
        N = np.swapaxes(np.linalg.solve(R, np.swapaxes(DW, 1, 2)), 1, 2)
        p = p - np.einsum("jnc,jc->jn", N, np.einsum("jnc,jn->jc", N, y))
        if reml:
            twice += 2.0 * float(np.log(np.diagonal(R, axis1=1, axis2=2)).sum())
    twice += float(np.sum(y * p))
    return Apart(A, D, N, p, -0.5 * twice)


@dataclass(frozen=True, eq=False)
class Covariances:
    """Estimates of a model of several traits.

    Attributes
    ----------
    Vg, Ve : (k, k) arrays
    loglik : float
    information : (2 q, 2 q) array
        Average information of the distinct elements of Vg, then Ve; q = k (k + 1) / 2.
    at : Apart
    """

    Vg: Floats
    Ve: Floats
    loglik: float
    information: Floats
    at: Apart


def directions(k: int) -> list[Floats]:
    """The symmetric matrices of the distinct elements, by rows of the lower triangle."""
    found = []
    for i in range(k):
        for j in range(i + 1):
            E = np.zeros((k, k))
            E[i, j] = E[j, i] = 1.0
            found.append(E)
    return found


def symmetric(values: Floats, k: int) -> Floats:
    """The symmetric matrix of its distinct elements."""
    V = np.zeros((k, k))
    V[np.tril_indices(k)] = values
    return np.asarray(V + np.tril(V, -1).T)


def slopes(model: Several, at: Apart, *, reml: bool) -> tuple[Floats, Floats]:
    """Gradient and average information in the distinct elements of Vg and Ve."""
    k = model.k
    score, pushed = [], []
    for kappa in (model.d, np.ones(model.n)):
        traces = at.D @ kappa
        if reml:
            traces = traces - np.einsum("jnc,n->j", at.N**2, kappa)
        G = at.A.T @ ((at.p * kappa) @ at.p.T - np.diag(traces)) @ at.A
        for E in directions(k):
            score.append(0.5 * float(np.sum(G * E)))
            pushed.append((at.A @ E @ at.A.T) @ (at.p * kappa))
    projected = [at.project(q) for q in pushed]
    information = np.array([[0.5 * float(np.sum(q * P)) for P in projected] for q in pushed])
    return np.array(score), information


def fit_several(
    model: Several,
    *,
    reml: bool,
    start: tuple[Floats, Floats] | None = None,
    free: NDArray[np.bool_] | None = None,
) -> Covariances:
    """Maximise the likelihood over Vg = L L' and Ve = M M', by damped average information.

    start : Vg and Ve; free : which distinct elements of Vg are estimated, the others zero (of two
    traits the covariance, whose factor's element is held at zero). The search is in units in which
    every trait's residual variance is one.
    """
    rest = model.Y - model.W @ np.linalg.lstsq(model.W, model.Y, rcond=None)[0]
    size = np.sqrt(np.mean(rest**2, axis=0))
    size = np.where(size > 0, size, 1.0)
    units = np.outer(size, size)
    if start is not None:
        start = (start[0] / units, start[1] / units)
    Vg, Ve = _searched(Several(model.d, model.W, model.Y / size), reml, start, free)
    Vg, Ve = Vg * units, Ve * units
    at = apart(model, Vg, Ve, reml=reml)
    assert at is not None
    return Covariances(Vg, Ve, at.loglik, slopes(model, at, reml=reml)[1], at)


def _searched(
    model: Several,
    reml: bool,
    start: tuple[Floats, Floats] | None,
    free: NDArray[np.bool_] | None,
) -> tuple[Floats, Floats]:
    """Vg and Ve at the maximum."""
    k = model.k
    lower = np.tril_indices(k)
    q = len(lower[0])
    if start is None:
        start = _start(model)
    # Off the boundary, where the slope in a factor vanishes even if the likelihood rises inwards.
    whole = INWARDS * (np.trace(start[0]) * model.d.mean() + np.trace(start[1])) / k
    floors = (whole / max(float(model.d.mean()), 1e-12), whole)
    x = np.concatenate([_factor(V, f)[lower] for V, f in zip(start, floors, strict=True)])
    moving = np.ones(2 * q, dtype=bool)
    if free is not None:
        moving[:q] = free
        x[:q][~free] = 0.0
    first = _at(model, x, reml)
    assert first is not None
    at = first
    damping = 0.0
    for _ in range(MOST_STEPS):
        jacobian = _jacobian(x, k)
        score, information = slopes(model, at, reml=reml)
        g = (jacobian.T @ score)[moving]
        H = jacobian.T @ information @ jacobian - _bend(score, k)
        w, Q = np.linalg.eigh(H[np.ix_(moving, moving)])
        w = np.maximum(np.abs(w), 1e-10 * np.abs(w).max() + 1e-300)
        better: Apart | None = None
        for _ in range(40):
            step = Q @ ((Q.T @ g) / (w * (1.0 + damping)))
            tried = x.copy()
            tried[moving] += step
            new = _at(model, tried, reml)
            if new is not None and new.loglik >= at.loglik:
                better = new
                break
            damping = max(4.0 * damping, 0.5)
        gain = 0.5 * float(np.sum((Q.T @ g) ** 2 / w))
        if better is None:
            break
        x, at, damping = tried, better, damping / 8.0 if damping > 1e-6 else 0.0
        if gain < ENOUGH:
            break
    return _covariances(x, k)


def _start(model: Several) -> tuple[Floats, Floats]:
    """Half of the residual covariance each, in the units of the eigenvalues."""
    rest = model.Y - model.W @ np.linalg.lstsq(model.W, model.Y, rcond=None)[0]
    S = rest.T @ rest / max(model.n - model.c, 1)
    S += 1e-8 * np.diag(np.diag(S))
    return 0.5 * S / max(float(model.d.mean()), 1e-12), 0.5 * S


def _factor(V: Floats, floor: float) -> Floats:
    """A lower triangular factor of a covariance that may be singular."""
    return np.asarray(np.linalg.cholesky(V + floor * np.eye(len(V))))


def _covariances(x: Floats, k: int) -> tuple[Floats, Floats]:
    lower = np.tril_indices(k)
    q = len(lower[0])
    made = []
    for part in (x[:q], x[q:]):
        L = np.zeros((k, k))
        L[lower] = part
        made.append(L @ L.T)
    return made[0], made[1]


def _at(model: Several, x: Floats, reml: bool) -> Apart | None:
    Vg, Ve = _covariances(x, model.k)
    return apart(model, Vg, Ve, reml=reml)


def _bend(score: Floats, k: int) -> Floats:
    """What the second derivatives of L L' add: sum over elements of score times d2 V / dL dL."""
    lower = np.tril_indices(k)
    q = len(lower[0])
    out = np.zeros((2 * q, 2 * q))
    rows, columns = lower
    for block in range(2):
        G = symmetric(score[block * q : (block + 1) * q], k)
        G = 0.5 * (G + np.diag(np.diag(G)))
        here = 2.0 * G[np.ix_(rows, rows)] * (columns[:, None] == columns)
        out[block * q : (block + 1) * q, block * q : (block + 1) * q] = here
    return out


def _jacobian(x: Floats, k: int) -> Floats:
    """Of the distinct elements of both covariances in those of both factors."""
    lower = np.tril_indices(k)
    q = len(lower[0])
    out = np.zeros((2 * q, 2 * q))
    for block, part in enumerate((x[:q], x[q:])):
        L = np.zeros((k, k))
        L[lower] = part
        for column, (i, j) in enumerate(zip(*lower, strict=True)):
            E = np.zeros((k, k))
            E[i, j] = 1.0
            moved = E @ L.T + L @ E.T
            out[block * q : (block + 1) * q, block * q + column] = moved[lower]
    return out
