"""Kenward and Roger's covariance of the fixed effects and their scaled F test."""

from __future__ import annotations

from dataclasses import dataclass
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from ranef.derivatives import second_order
from ranef.errors import ModelError
from ranef.inference.coefficients.parameters import (
    parameter_covariance,
    parameter_inverse,
    residual_count,
)
from ranef.models.records import LinearEstimate

__all__ = ["KenwardRoger", "ScaledF", "kenward_roger"]

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class ScaledF:
    """An F statistic times `scale` is F with `df2` denominator degrees of freedom."""

    scale: float
    df2: float


@dataclass(frozen=True, eq=False)
class KenwardRoger:
    """How the uncertainty of the variance parameters tells on the fixed effects.

    The s parameters are the free entries of theta, and sigma^2; Phi = (X'Sigma^-1X)^-1 is
    the model's vcov.

    Attributes
    ----------
    vcov : (p, p) float64 array
        Phi, the covariance given the variance parameters.
    adjusted : (p, p) float64 array
        Phi_A, which tests and intervals use.
    W : (s, s) float64 array
        Covariance matrix of the parameters, from the expected information.
    slopes : (s, p, p) float64 array
        Phi P_i Phi = -dPhi / d parameter i.
    """

    vcov: Floats
    adjusted: Floats
    W: Floats
    slopes: Floats

    def degrees_of_freedom(self, L: Floats) -> Floats:
        """Of the t test of each row of L (q, p): 2 v^2 / sum_ij W_ij v_i v_j.

        v = l'Phi l and v_i = l'Phi P_i Phi l. The scale of one row is 1.
        """
        v = np.einsum("qa,ab,qb->q", L, self.vcov, L)
        slopes = np.einsum("qa,iab,qb->qi", L, self.slopes, L)
        spread = np.einsum("qi,ij,qj->q", slopes, self.W, slopes)
        with np.errstate(invalid="ignore", divide="ignore"):
            df: Floats = 2.0 * v**2 / spread
        return df

    def scaled_f(self, L: Floats) -> ScaledF:
        """Scale and denominator degrees of freedom of the F test of the l rows of L.

        With Theta = L'(L Phi L')^-1 L,

            A1 = sum_ij W_ij tr(Theta Phi P_i Phi) tr(Theta Phi P_j Phi),
            A2 = sum_ij W_ij tr(Theta Phi P_i Phi Theta Phi P_j Phi),

        mean and variance of F are matched to those of an F distribution, so
        corrected that the exact cases (Hotelling's T^2, balanced layouts) come out
        exactly (Kenward & Roger 1997, section 3).
        """
        q = len(L)
        if q == 1:
            return ScaledF(1.0, float(self.degrees_of_freedom(L)[0]))
        root = np.linalg.cholesky(L @ self.vcov @ L.T)
        half = np.linalg.solve(root, L)
        M = np.einsum("ka,iab,lb->ikl", half, self.slopes, half)
        trace = np.einsum("ikk->i", M)
        A1 = float(trace @ self.W @ trace)
        A2 = float(np.einsum("ij,ikl,jlk->", self.W, M, M))
        return _matched(q, A1, A2)


def _matched(q: int, A1: float, A2: float) -> ScaledF:
    """Scale and degrees of freedom from A1 and A2; see `KenwardRoger.scaled_f`."""
    if not A2 > 0:
        return ScaledF(1.0, float(np.inf))
    B = (A1 + 6.0 * A2) / (2.0 * q)
    g = ((q + 1) * A1 - (q + 4) * A2) / ((q + 2) * A2)
    below = 3.0 * q + 2.0 * (1.0 - g)
    c1, c2, c3 = g / below, (q - g) / below, (q + 2 - g) / below
    one, two, three = 1.0 + c1 * B, 1.0 - c2 * B, 1.0 - c3 * B
    mean = 1.0 - A2 / q
    if min(one, two, three, mean) <= 0:
        # too few degrees of freedom for an F that has a variance
        return ScaledF(1.0, 2.0)
    rho = (mean / two) ** 2 * one / three / q
    if q * rho <= 1.0:
        return ScaledF(1.0, float(np.inf))
    df2 = 4.0 + (q + 2) / (q * rho - 1.0)
    return ScaledF(df2 * mean / (df2 - 2.0), df2)


_known: WeakKeyDictionary[LinearEstimate, dict[bool, KenwardRoger]] = WeakKeyDictionary()


def kenward_roger(estimate: LinearEstimate, *, observed: bool = False) -> KenwardRoger:
    """Adjusted covariance of the fixed effects of a REML fit; made once a fit.

    With Sigma = sigma^2 H, P_i = -X'Sigma^-1 Sigma_i Sigma^-1 X,
    Q_ij = X'Sigma^-1 Sigma_i Sigma^-1 Sigma_j Sigma^-1 X,
    R_ij = X'Sigma^-1 Sigma_ij Sigma^-1 X, P_REML = Sigma^-1 less its part in X, and
    W = 2 [tr(P_REML Sigma_i P_REML Sigma_j)]^-1,

        Phi_A = Phi + 2 Phi { sum_ij W_ij (Q_ij - P_i Phi P_j - R_ij / 4) } Phi
                + sum_i b_i Phi P_i Phi,
        b_i = - sum_jkl W_ij W_kl tr(P_REML Sigma_kl P_REML Sigma_j) / 4.

    Where Sigma is linear in its parameters R and b vanish, and this is Kenward & Roger
    (1997, Biometrics 53, 983-997). The last sum is the bias of the parameters that they
    added in 2009 (Comput. Stat. Data Anal. 53, 2583-2595): with it Phi_A does not depend on
    how Sigma is parametrised.

    With `observed` W is twice the inverse Hessian of the deviance: the observed information,
    as SAS and mmrm take it, which stays right where responses are missing at random but not
    completely so (Kenward & Molenberghs 1998, Stat. Sci. 13, 236-247). Of the bias, whose first
    W stays the expected one, invariance remains.

    Parameters
    ----------
    estimate : LinearEstimate
    observed : bool

    Raises
    ------
    ModelError
        When the fit is by ML.
    """
    if not estimate.reml:
        raise ModelError(
            "df='kenward-roger' rests on the restricted likelihood and this model was fitted by "
            "ML; fit it with reml=True, or use df='satterthwaite'"
        )
    found = _known.setdefault(estimate, {})
    if observed not in found:
        found[observed] = _kenward_roger(estimate, observed)
    return found[observed]


def _kenward_roger(estimate: LinearEstimate, observed: bool) -> KenwardRoger:
    found = second_order.information(estimate)
    s, m = estimate.sigma**2, residual_count(estimate)
    f, p = len(found.mean), len(estimate.beta)
    Phi = s * found.C
    information = np.empty((f + 1, f + 1))
    information[:f, :f] = found.traces
    information[:f, f] = information[f, :f] = found.mean / s
    information[f, f] = m / s**2
    expected = W = 2.0 * parameter_inverse(estimate, information, s)
    if observed:
        unit = np.append(np.ones(f), 2.0 * estimate.sigma)
        W = parameter_covariance(estimate).covariance * np.outer(unit, unit)
    slopes = np.empty((f + 1, p, p))
    slopes[:f] = -s * found.fixed
    slopes[f] = -found.C
    products, bent_fixed, bent_traces = found.weighted(W[:f, :f])
    # Phi (Q_ij - P_i Phi P_j) Phi is zero where i or j is sigma^2
    spread = s * products
    # sum_ij W_ij Phi R_ij Phi
    bent = s * bent_fixed + 2.0 * np.einsum("i,iab->ab", W[:f, f], found.fixed)
    # sum_kl W_kl tr(P Sigma_kl P Sigma_j)
    pull = np.empty(f + 1)
    pull[:f] = bent_traces + 2.0 / s * found.traces @ W[:f, f]
    pull[f] = np.sum(W[:f, :f] * found.bent_mean) / s + 2.0 / s**2 * found.mean @ W[:f, f]
    bias = -expected @ pull / 4.0
    adjusted = Phi + 2.0 * spread - bent / 2.0 + np.einsum("i,iab->ab", bias, slopes)
    return KenwardRoger(Phi, (adjusted + adjusted.T) / 2.0, W, slopes)
