"""Studies with known sampling variances, and everything that depends on tau^2 alone.

y_i = x_i'b + u_i + e_i with u_i ~ N(0, tau^2) and e_i ~ N(0, v_i), v_i known. With
W = diag(1 / (v_i + tau^2)) and P = W - W X (X'W X)^-1 X'W all estimators of tau^2 are functions of
y'Py, y'PPy, tr P and determinants (Viechtbauer 2005, J. Educ. Behav. Stat. 30; 2010, J. Stat.
Softw. 36).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

__all__ = ["Moments", "Studies", "Weighted"]

Floats = NDArray[np.float64]

EXTREME = (1e-40, 1e40)
"""Sizes of effects between which cubes of their weights keep their digits."""


@dataclass(frozen=True, eq=False)
class Moments:
    """What depends on tau^2, at G values of it.

    Attributes
    ----------
    q1, q2, q3 : (G,) arrays
        y'Py, y'PPy and y'PPPy.
    trace1, trace2 : (G,) arrays
        tr P and tr PP.
    weight1, weight2 : (G,) arrays
        tr W and tr WW.
    log_weights : (G,) array
        log det W.
    log_information : (G,) array
        log det X'WX, less that of X'X.
    """

    q1: Floats
    q2: Floats
    q3: Floats
    trace1: Floats
    trace2: Floats
    weight1: Floats
    weight2: Floats
    log_weights: Floats
    log_information: Floats

    def loglik(self, restricted: bool, n: int, p: int) -> Floats:
        """The (restricted) log-likelihood, all constants but log det X'X included."""
        value = 0.5 * (self.log_weights - self.q1 - n * np.log(2 * np.pi))
        if restricted:
            value += 0.5 * (p * np.log(2 * np.pi) - self.log_information)
        return np.asarray(value)

    def score(self, restricted: bool) -> Floats:
        """Derivative of the (restricted) log-likelihood in tau^2."""
        return 0.5 * (self.q2 - (self.trace1 if restricted else self.weight1))

    def curvature(self, restricted: bool) -> Floats:
        """Second derivative."""
        return 0.5 * ((self.trace2 if restricted else self.weight2) - 2 * self.q3)


@dataclass(frozen=True, eq=False)
class Weighted:
    """Weighted least squares at one tau^2.

    Attributes
    ----------
    beta : (p,) array
    bread : (p, p) array
        (X'WX)^-1.
    weights : (n,) array
    residuals : (n,) array
    q : float
        Weighted sum of squared residuals.
    """

    beta: Floats
    bread: Floats
    weights: Floats
    residuals: Floats
    q: float

    def hat(self, X: Floats) -> Floats:
        """Diagonal (n,) of X (X'WX)^-1 X'W."""
        return np.asarray(np.sum(X @ self.bread * X, axis=1) * self.weights)


@dataclass(frozen=True, eq=False)
class Studies:
    """Effects of studies.

    Attributes
    ----------
    y : (n,) array
        Effects, less their offsets.
    v : (n,) array
        Sampling variances, all positive.
    X : (n, p) array
        Of full column rank, n > p.
    """

    y: Floats
    v: Floats
    X: Floats

    @property
    def n(self) -> int:
        return len(self.y)

    @property
    def p(self) -> int:
        return int(self.X.shape[1])

    @property
    def df(self) -> int:
        """Studies minus coefficients."""
        return self.n - self.p

    @cached_property
    def _basis(self) -> tuple[Floats, Floats]:
        if self.p == 1:
            length = np.sqrt(self.X[:, 0] @ self.X[:, 0])
            if 1e-100 < length < 1e100:
                return self.X / length, np.array([[length]])
        Q, R = np.linalg.qr(self.X)
        return Q, R

    @cached_property
    def _squares(self) -> Floats:
        """Products (n, p * p) of the columns of the basis."""
        Q, _ = self._basis
        return np.asarray((Q[:, :, None] * Q[:, None, :]).reshape(self.n, -1))

    @cached_property
    def ordinary(self) -> Floats:
        """Residuals (n,) of ordinary least squares."""
        Q, _ = self._basis
        return np.asarray(self.y - Q @ (Q.T @ self.y))

    @cached_property
    def unit(self) -> float:
        """A scale of effects so large or small that powers of their weights have no digits; 1."""
        size = float(np.sqrt(max(np.max(self.v), np.finfo(float).tiny)))
        size = max(size, float(np.max(np.abs(self.y))))
        return 1.0 if EXTREME[0] < size < EXTREME[1] else float(2.0 ** np.round(np.log2(size)))

    def over(self, unit: float) -> Studies:
        """The studies in other units."""
        return Studies(self.y / unit, self.v / unit / unit, self.X)

    def without(self, row: int) -> Studies:
        """The studies but one."""
        keep = np.arange(self.n) != row
        return Studies(self.y[keep], self.v[keep], self.X[keep])

    def at(self, tau2: float) -> Weighted:
        """Weighted least squares with the weights of one tau^2."""
        w = 1.0 / (self.v + tau2)
        root = np.sqrt(w)
        if self.p == 1:
            x = root * self.X[:, 0]
            bread = np.array([[1 / (x @ x)]])
            beta = bread[0] * (x @ (root * self.y))
        else:
            Q, R = np.linalg.qr(root[:, None] * self.X)
            beta = np.linalg.solve(R, Q.T @ (root * self.y))
            inverse = np.linalg.inv(R)
            bread = inverse @ inverse.T
        residuals = self.y - self.X @ beta
        return Weighted(beta, bread, w, residuals, float((w * residuals**2).sum()))

    def moments(self, tau2: Floats) -> Moments:
        """What depends on tau^2, at each of G values (G,)."""
        Q, _ = self._basis
        p = self.p
        t = np.asarray(tau2, dtype=np.float64).reshape(-1)
        w = 1.0 / (self.v + t[:, None])
        if p == 1:
            return self._of_one_column(w)
        w2 = w * w
        A1, A2, A3 = ((one @ self._squares).reshape(-1, p, p) for one in (w, w2, w2 * w))
        b = (w * self.ordinary) @ Q
        solved = np.linalg.solve(A1, np.concatenate((b[:, :, None], A2, A3), axis=2))
        inner = solved[:, :, 1 : 1 + p]
        r = self.ordinary - solved[:, :, 0] @ Q.T
        r2 = r * r
        u = (w2 * r) @ Q
        lost = np.sum(u * np.linalg.solve(A1, u[:, :, None])[:, :, 0], axis=1)
        weight1, weight2 = w.sum(axis=1), w2.sum(axis=1)
        third = np.trace(solved[:, :, 1 + p :], axis1=1, axis2=2)
        root = np.linalg.cholesky(A1)
        return Moments(
            q1=np.sum(w * r2, axis=1),
            q2=np.sum(w2 * r2, axis=1),
            q3=np.sum(w2 * w * r2, axis=1) - lost,
            trace1=weight1 - np.trace(inner, axis1=1, axis2=2),
            trace2=weight2 - 2 * third + np.sum(inner * inner.transpose(0, 2, 1), axis=(1, 2)),
            weight1=weight1,
            weight2=weight2,
            log_weights=np.log(w).sum(axis=1),
            log_information=2 * np.log(np.diagonal(root, axis1=1, axis2=2)).sum(axis=1),
        )

    def _of_one_column(self, w: Floats) -> Moments:
        """`moments` of weights (G, n) where X has one column: all that is inverted are numbers."""
        q, square = self._basis[0][:, 0], self._squares[:, 0]
        w2 = w * w
        w3 = w2 * w
        information = w @ square
        r = self.ordinary - ((w * self.ordinary) @ q / information)[:, None] * q
        r2, u, one = r * r, (w2 * r) @ q, np.ones(self.n)
        inner, third = w2 @ square / information, w3 @ square / information
        weight1, weight2 = w @ one, w2 @ one
        return Moments(
            q1=(w * r2) @ one,
            q2=(w2 * r2) @ one,
            q3=(w3 * r2) @ one - u * u / information,
            trace1=weight1 - inner,
            trace2=weight2 - 2 * third + inner * inner,
            weight1=weight1,
            weight2=weight2,
            log_weights=np.log(w) @ one,
            log_information=np.log(information),
        )
