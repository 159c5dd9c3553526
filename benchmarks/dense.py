"""The REML criterion of the boundary problems by dense algebra, and its best minimum.

Independent of ranef: cross-products of the whole random-effects matrix, an
exact gradient, and scipy's unbounded L-BFGS from many starts. With
V = I + Z Lambda Lambda' Z', P the usual projector, t = Z'Py, U = Z'V^-1 X and
S = (X'V^-1 X)^-1, the derivative of the criterion with respect to Lambda is
2 (Z'V^-1 Z - U S U' - (m / r2) t t') Lambda, m = n - p, r2 = y'Py.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["Criterion", "best"]

Floats = NDArray[np.float64]


class Criterion:
    """Minus twice the REML log-likelihood of ``y ~ x + (1 + x | g) + (1 | h) + (1 | k)``.

    theta : (5,) array; the lower triangle of g's factor by columns, then h, k.
    """

    def __init__(self, columns: dict[str, NDArray[np.generic]]) -> None:
        y, x = (np.asarray(columns[name], float) for name in ("y", "x"))
        X = np.column_stack([np.ones_like(x), x])
        g, h, k = (
            (np.asarray(columns[name])[:, None] == np.unique(columns[name])).astype(float)
            for name in "ghk"
        )
        self.sizes = (g.shape[1], h.shape[1], k.shape[1])
        pairs = np.stack([g, g * x[:, None]], axis=2).reshape(len(y), -1)
        Z = np.hstack([pairs, h, k])
        self.ZZ, self.ZX, self.Zy = Z.T @ Z, Z.T @ X, Z.T @ y
        self.XX, self.Xy, self.yy = X.T @ X, X.T @ y, y @ y
        self.m = len(y) - X.shape[1]

    def factor(self, theta: Floats) -> Floats:
        """Lambda, (q, q)."""
        of_g, of_h, of_k = self.sizes
        block = np.array([[theta[0], 0.0], [theta[1], theta[2]]])
        lambda_ = np.zeros_like(self.ZZ)
        lambda_[: 2 * of_g, : 2 * of_g] = np.kron(np.eye(of_g), block)
        tail = np.repeat(theta[3:], [of_h, of_k])
        lambda_[2 * of_g :, 2 * of_g :] = np.diag(tail)
        return lambda_

    def __call__(self, theta: Floats) -> tuple[float, Floats]:
        """Value and gradient."""
        lambda_ = self.factor(theta)
        left = self.ZZ @ lambda_
        A = lambda_.T @ left + np.eye(len(lambda_))
        inside = np.linalg.solve(A, np.column_stack([left.T, lambda_.T @ self.ZX]))
        q = len(lambda_)
        inverse_a_y = np.linalg.solve(A, lambda_.T @ self.Zy)
        W = self.ZZ - left @ inside[:, :q]
        U = self.ZX - left @ inside[:, q:]
        XVX = self.XX - self.ZX.T @ lambda_ @ inside[:, q:]
        XVy = self.Xy - self.ZX.T @ lambda_ @ inverse_a_y
        yVy = self.yy - self.Zy @ lambda_ @ inverse_a_y
        S = np.linalg.inv(XVX)
        beta = S @ XVy
        r2 = yVy - XVy @ beta
        t = self.Zy - left @ inverse_a_y - U @ beta
        value = np.linalg.slogdet(A)[1] + np.linalg.slogdet(XVX)[1]
        value += self.m * (1 + np.log(2 * np.pi * r2 / self.m))
        G = 2 * (W - U @ S @ U.T - (self.m / r2) * np.outer(t, t)) @ lambda_
        return float(value), self.gradient(G)

    def gradient(self, G: Floats) -> Floats:
        """Sum the entries of dd/dLambda that each parameter moves."""
        of_g, of_h, _ = self.sizes
        first, second = np.arange(0, 2 * of_g, 2), np.arange(1, 2 * of_g, 2)
        tail = np.diag(G)[2 * of_g :]
        return np.array(
            [
                G[first, first].sum(),
                G[second, first].sum(),
                G[second, second].sum(),
                tail[:of_h].sum(),
                tail[of_h:].sum(),
            ]
        )


def best(criterion: Criterion, starts: int = 8, seed: int = 0) -> float:
    """Return the smallest value of unbounded L-BFGS from several starts."""
    from scipy.optimize import minimize

    rng = np.random.default_rng(seed)
    first = np.array([1.0, 0.0, 1.0, 1.0, 1.0])
    drawn = [rng.normal(0, 0.5, 5) for _ in range(starts - 1)]
    options = {"ftol": 1e-15, "gtol": 1e-7, "maxiter": 500}
    found = [
        minimize(criterion, start, jac=True, method="L-BFGS-B", options=options)
        for start in (first, *drawn)
    ]
    return float(min(result.fun for result in found))
