"""Errors of a variant and its product with an environment where residual variances differ.

With V = K lambda + I the covariance that is worked with, in units of the residual variance, and
P = V^-1 - V^-1 W (W'V^-1 W)^-1 W'V^-1, the squares of q = P y have the expectation
diag(P) + M delta, M the squares of P's elements and delta what each sample's variance has more
than one. So delta = M^-1 (q^2 - diag(P)) without bias (Rao 1970, MINQUE), close to HC2 where there
is no relationship. The variance of an estimate g'y is g'Vg + sum g_i^2 delta_i. As
Var(q^2) = 2 (P * P) = 2 M it has (g'Vg)^2 / (s'M^-1 s) degrees of freedom, s_i = g_i^2
(Satterthwaite; Bell & McCaffrey 2002). Arrays in, arrays out.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ranef import squares
from ranef.errors import DataError
from ranef.fields.gwas.engine import Columns
from ranef.fields.gwas.profiles import COLLINEAR

__all__ = ["NAMES", "Varying", "cross_varying", "prepare_varying"]

Floats = NDArray[np.float64]

ALONE = 1.0 - 1e-6

NAMES = (
    "main", "main_error", "product", "product_error", "covariance", "df_main", "df_product", "left",
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class Varying:
    """What the variants of a lot share.

    Attributes
    ----------
    n, c : int
    sigma2 : float
        Residual variance of the model without a variant.
    q : (n,) array
        P y, y in units of the residual standard deviation.
    diagonal : (n,) array
        Of P.
    project : function
        Multiplies rows, (b, n), with P.
    resolve : function
        Multiplies rows, (b, n), with M^-1.
    """

    n: int
    c: int
    sigma2: float
    q: Floats
    diagonal: Floats
    project: Callable[[Floats], Floats]
    resolve: Callable[[Floats], Floats]


def prepare_varying(
    W: Floats, y: Floats, d: Floats, U: Any, lambda_: float, sigma2: float
) -> Varying:
    """Lay out P and M.

    Parameters
    ----------
    W, y : (n, c), (n,) arrays
        In the order of the samples.
    d, U : (n,) and (n, n) arrays
        Eigenvalues and eigenvectors of the relationship; U None of unrelated samples.
    lambda_, sigma2 : float
        Of the model without a variant.
    """
    unit = y / np.sqrt(sigma2)
    leverage = np.sum(np.linalg.qr(W)[0] ** 2, axis=1)
    if (leverage > ALONE).any():
        raise DataError(
            f"the covariates fit {int((leverage > ALONE).sum()):,} samples exactly, as a category "
            "of one does: their variances cannot be estimated; join such categories, or leave the "
            "samples out with remove="
        )
    if U is None:
        return _unrelated(W, unit, sigma2)
    P = squares.product(U / (lambda_ * d + 1.0), U.T)
    if W.shape[1]:
        VW = P @ W
        P -= VW @ np.linalg.solve(W.T @ VW, VW.T)
    P = 0.5 * (P + P.T)
    inverse = squares.inverse(P * P)
    return Varying(
        len(y), W.shape[1], sigma2, P @ unit, np.diag(P).copy(), lambda rows: rows @ P,
        lambda rows: rows @ inverse,
    )  # fmt: skip


def _unrelated(W: Floats, unit: Floats, sigma2: float) -> Varying:
    """P = I - QQ', so that M is a diagonal and the squares of QQ', of rank c (c + 1) / 2."""
    Q = np.linalg.qr(W)[0]
    leverage = np.sum(Q * Q, axis=1)
    a, b = np.triu_indices(Q.shape[1])
    F = Q[:, a] * Q[:, b] * np.where(a == b, 1.0, np.sqrt(2.0))
    base = 1.0 - 2.0 * leverage
    base = np.where(np.abs(base) < 1e-3, 1e-3, base)
    inner = np.linalg.inv(np.eye(F.shape[1]) + F.T @ (F / base[:, None]))

    def project(rows: Floats) -> Floats:
        return np.asarray(rows - (rows @ Q) @ Q.T)

    def resolve(rows: Floats) -> Floats:
        scaled = rows / base
        return np.asarray(scaled - ((scaled @ F) @ inner) @ F.T / base)

    q = project(unit[None])[0]
    return Varying(len(unit), W.shape[1], sigma2, q, 1.0 - leverage, project, resolve)


def cross_varying(held: Varying, X: Floats, XE: Floats) -> Columns:
    """Estimate b variants and their products, both (b, n), and the errors of both.

    A variance that is not above zero is NaN, as are the degrees of freedom then.
    """
    found = Columns.empty(len(X), NAMES)
    G1, G2 = held.project(X), held.project(XE)
    A11, A12, A22 = (np.sum(a * b, axis=1) for a, b in ((G1, X), (G1, XE), (G2, XE)))
    det = A11 * A22 - A12**2
    total = np.array([np.sum(rows * rows, axis=1) for rows in (X, XE)]) * held.diagonal.mean()
    with np.errstate(invalid="ignore", divide="ignore"):
        left = np.minimum(np.minimum(A11 / total[0], A22 / total[1]), det / (A11 * A22))
    found.values["left"][:] = np.where(np.isfinite(left), left, 0.0)
    good = np.flatnonzero(found["left"] > COLLINEAR)
    if not len(good):
        return found
    G1, G2, X, XE = G1[good], G2[good], X[good], XE[good]
    A11, A12, A22, det = A11[good], A12[good], A22[good], det[good]
    B1, B2 = X @ held.q, XE @ held.q
    main, product = (A22 * B1 - A12 * B2) / det, (A11 * B2 - A12 * B1) / det
    excess = _excess(held, G1, G2, (A11, A12, A22, det), (main, product))
    to_main = (A22[:, None] * G1 - A12[:, None] * G2) / det[:, None]
    to_product = (A11[:, None] * G2 - A12[:, None] * G1) / det[:, None]
    v1, df1 = _variance(held, to_main * to_main, A22 / det, excess)
    v2, df2 = _variance(held, to_product * to_product, A11 / det, excess)
    shared = np.sum(held.resolve(to_main * to_product) * excess, axis=1) - A12 / det
    sigma = np.sqrt(held.sigma2)
    values = {
        "main": main * sigma, "main_error": np.sqrt(v1) * sigma, "product": product * sigma,
        "product_error": np.sqrt(v2) * sigma, "covariance": shared * held.sigma2,
        "df_main": df1, "df_product": df2, "left": found["left"][good],
    }  # fmt: skip
    found.put(good, Columns(values))
    return found


def _excess(
    held: Varying, G1: Floats, G2: Floats, A: tuple[Floats, ...], effects: tuple[Floats, Floats]
) -> Floats:
    """Squares of each variant's residuals, freed of its leverage, less their expectation."""
    A11, A12, A22, det = (v[:, None] for v in A)
    rest = held.q - effects[0][:, None] * G1 - effects[1][:, None] * G2
    lever = (A22 * G1 * G1 - 2.0 * A12 * G1 * G2 + A11 * G2 * G2) / det
    own = np.maximum(held.diagonal - lever, 1e-3 * held.diagonal)
    return np.asarray(rest * rest * held.diagonal / own - held.diagonal)


def _variance(held: Varying, s: Floats, base: Floats, excess: Floats) -> tuple[Floats, Floats]:
    """The variance of estimates whose squared weights are s, and its degrees of freedom."""
    m = held.resolve(s)
    variance = base + np.sum(m * excess, axis=1)
    df = np.minimum(base**2 / np.sum(m * s, axis=1), float(held.n - held.c - 2))
    positive = variance > 0
    return np.where(positive, variance, np.nan), np.where(positive, df, np.nan)
