"""Degrees of freedom of tests that rest on few clusters.

- ``"clusters"``: clusters minus coefficients.
- ``"pan-wall"``: by the variance of the sandwich itself, 2 v^2 / Var(v) (Pan & Wall 2002,
  Statistics in Medicine 21).
- ``"fay-graubard"``: by the quadratic form that the sandwich is in the scores, with the
  covariance of a cluster's score taken as its share of their sum (Fay & Graubard 2001, Biometrics
  57, section 4), its correction taken as a matrix, so that the coding of categories is nothing to
  them.
- ``"small-sample"``: Fay and Graubard's, less by what makes up for the bias of the sandwich: the
  95% interval is as wide as that with the covariance of Kauermann and Carroll, see `made_up`.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ranef.covariance.factor import column_sizes
from ranef.solve.marginal.covariance import MOST_LEVERAGE

__all__ = ["fay_graubard", "made_up", "pan_wall"]

Floats = NDArray[np.float64]


def pan_wall(h: Floats, L: Floats) -> Floats:
    """Degrees of freedom (q,) of each row of L (q, p); h (K, p) as in `Influences`."""
    z = (h @ L.T) ** 2
    K, v = len(z), z.sum(axis=0)
    spread = K * np.sum((z - z.mean(axis=0)) ** 2, axis=0) / (K - 1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(2 * v**2 / spread)


def fay_graubard(M: Floats, scores: Floats, shares: Floats, L: Floats) -> Floats:
    """Degrees of freedom (q,) of each row of L (q, p).

    With c a row, the sandwich is sum over i of (h_i'(u_i - B_i M sum_j u_j))^2, h_i = G_i'M'c
    and G_i = (I - B_i M)^(-1/2), a quadratic form in the scores; with Psi_j their covariances,
    its degrees of freedom are tr(Psi A)^2 / tr(Psi A Psi A). The matrix of the form is diagonal
    but for terms of rank p, so that K clusters cost K p^2. Fay and Graubard's G_i is the diagonal
    of that matrix alone, which depends on how categories are coded; the whole one does not.

    Parameters
    ----------
    M : (p, p) array
        H^-1.
    scores : (K, p) array
    shares : (K, p, p) array
        B_i.
    """
    size = column_sizes(M)
    T = size[:, None] * np.linalg.cholesky((M + M.T) / 2 / np.outer(size, size))
    back = np.linalg.inv(T)
    M, shares = back @ M @ back.T, T.T @ shares @ T  # in which M is the identity
    scores, L = scores @ T, np.atleast_2d(L) @ T
    values, vectors = np.linalg.eigh((shares + shares.swapaxes(1, 2)) / 2)
    factor = 1 / np.sqrt(1 - np.minimum(values, MOST_LEVERAGE))
    correction = (vectors * factor[:, None, :]) @ vectors.swapaxes(1, 2)
    S = np.einsum("kij,kj->ki", correction, scores)
    return np.array([_degrees(M, shares, correction, S.T @ S, c) for c in L])


LEVEL = 0.975
FEWEST, MOST = 0.05, 1e9


def made_up(degrees: Floats, ratio: Floats) -> Floats:
    """Degrees of freedom (q,) of t whose 97.5% quantile is `ratio` times that of t with `degrees`.

    A standard error that is too small by `ratio` has with them the 95% interval that the larger
    one has with `degrees`; infinite where that would be shorter than the normal one.

    Examples
    --------
    >>> made_up(np.array([8.0, 8.0]), np.array([1.0, 1.2])).round(2)
    array([8.  , 4.03])
    """
    from scipy.optimize import brentq
    from scipy.special import ndtri, stdtrit

    found = []
    for d, r in zip(degrees.tolist(), ratio.tolist(), strict=True):
        wanted = r * (ndtri(LEVEL) if np.isinf(d) else stdtrit(d, LEVEL))
        if not np.isfinite(wanted):
            found.append(np.nan)
        elif wanted <= stdtrit(MOST, LEVEL):
            found.append(np.inf)
        elif wanted >= stdtrit(FEWEST, LEVEL):
            found.append(FEWEST)
        else:
            gap = lambda log_d, w=wanted: stdtrit(np.exp(log_d), LEVEL) / w - 1  # noqa: E731
            found.append(float(np.exp(brentq(gap, np.log(FEWEST), np.log(MOST), xtol=1e-12))))
    return np.array(found)


def _degrees(M: Floats, shares: Floats, correction: Floats, S: Floats, c: Floats) -> float:
    w = _weights(M, shares, c)
    h = correction @ (M.T @ c)
    A = np.einsum("ij,kjl,kl->ki", M, shares.swapaxes(1, 2), h)  # M B_i' h_i
    hS = w[:, None] * (h @ S)  # Psi_i h_i with Psi_i = w_i S
    X = np.hstack([-hS, -A, A @ S])
    Y = np.hstack([A, hS, A])
    d = np.sum(hS * h, axis=1)
    low = np.sum(X * Y, axis=1)
    trace = float(np.sum(d + low))
    squares = float(np.sum(d**2) + 2 * np.sum(d * low) + np.sum((X.T @ X) * (Y.T @ Y)))
    return trace**2 / squares if squares > 0 else np.nan


def _weights(M: Floats, shares: Floats, c: Floats) -> Floats:
    """Share of each cluster in what is known of c'beta: what its absence adds to the variance."""
    rest = np.linalg.inv(M) - shares
    with np.errstate(all="ignore"):
        added = np.array([c @ np.linalg.pinv(one) @ c for one in rest]) - c @ M @ c
    added = np.maximum(added, 0.0)
    return added / added.sum() if added.sum() > 0 else np.full(len(shares), 1 / len(shares))
