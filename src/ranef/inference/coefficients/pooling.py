"""Rubin's rules: estimates of several completed data sets as one.

Estimates Q_i with covariances U_i of m data sets, completed by draws of what is missing:

    Q = mean Q_i,   W = mean U_i,   B = covariance of the Q_i,   T = W + (1 + 1/m) B

(Rubin 1987, *Multiple Imputation for Nonresponse in Surveys*).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ranef.inference.coefficients.functions import Knowledge
from ranef.inference.coefficients.wald import FTest, f_tail, independent_rows

__all__ = ["Pooled", "barnard_rubin", "joint_degrees", "pooled"]

Floats = NDArray[np.float64]
Degrees = Callable[[Floats], Floats]
JointDegrees = Callable[[Floats, Floats], float]


@dataclass(frozen=True, eq=False)
class Pooled:
    """Estimates of m completed data sets, pooled.

    Attributes
    ----------
    estimate : (P,) float64 array
    within, between : (P, P) float64 arrays
        W and B.
    m : int
    complete : callable
        Degrees of freedom (q,) that rows L (q, P) would have with complete data.
    complete_joint : callable
        The same of independent rows together, of (L, values).
    """

    estimate: Floats
    within: Floats
    between: Floats
    m: int
    complete: Degrees
    complete_joint: JointDegrees

    @property
    def total(self) -> Floats:
        """T (P, P)."""
        return np.asarray(self.within + (1.0 + 1.0 / self.m) * self.between)

    def increase(self, L: Floats) -> Floats:
        """Relative increase in variance due to nonresponse (q,) of rows L: (1 + 1/m) b / w."""
        w, b = (np.sum(L @ V * L, axis=1) for V in (self.within, self.between))
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.asarray((1.0 + 1.0 / self.m) * b / w)

    def degrees(self, L: Floats) -> Floats:
        """Barnard and Rubin's degrees of freedom (q,) of rows L."""
        return barnard_rubin(self.increase(L), self.m, self.complete(L))

    def missing(self, L: Floats) -> Floats:
        """Fraction of missing information (q,) of rows L: (r + 2 / (nu + 3)) / (r + 1)."""
        r = self.increase(L)
        return np.asarray((r + 2.0 / (self.degrees(L) + 3.0)) / (r + 1.0))

    def joint(self, L: Floats, value: Floats) -> FTest:
        """Test that functions with these derivatives and values are all zero: D1.

        D1 = value' (L W L')^-1 value / (k (1 + r)), r the mean increase in variance (Li,
        Raghunathan & Rubin 1991, J. Am. Stat. Assoc. 86); of one row it is the square of the
        t statistic, with its degrees of freedom.
        """
        L, value = independent_rows(L.shape[1], L, value)
        W, B, k = L @ self.within @ L.T, L @ self.between @ L.T, len(L)
        r = (1.0 + 1.0 / self.m) * float(np.trace(np.linalg.solve(W, B))) / k
        statistic = float(value @ np.linalg.solve(W, value)) / (k * (1.0 + r))
        if k == 1:
            return f_tail(statistic, 1, float(self.degrees(L)[0]))
        return f_tail(statistic, k, joint_degrees(r, k, self.m, self.complete_joint(L, value)))

    @property
    def knowledge(self) -> Knowledge:
        """How well the coefficients are known."""
        return Knowledge(self.total, self.degrees, self.joint)


def pooled(
    estimates: Floats, covariances: Floats, complete: Degrees, complete_joint: JointDegrees
) -> Pooled:
    """Pool estimates (m, P) with covariances (m, P, P)."""
    m = len(estimates)
    gap = estimates - estimates.mean(axis=0)
    return Pooled(
        estimates.mean(axis=0), covariances.mean(axis=0), gap.T @ gap / (m - 1), m, complete,
        complete_joint,
    )  # fmt: skip


def barnard_rubin(r: Floats, m: int, complete: Floats) -> Floats:
    """Degrees of freedom of t tests, (q,).

    1 / nu = 1 / nu_m + 1 / nu_obs,  nu_m = (m - 1) (1 + 1/r)^2,  nu_obs = (nu_com + 1) /
    (nu_com + 3) nu_com (1 - lambda),  lambda = r / (1 + r) (Barnard & Rubin 1999,
    *Biometrika* 86).

    Parameters
    ----------
    r : (q,) float64 array
        Relative increase in variance.
    m : int
    complete : (q,) float64 array
        Degrees of freedom with complete data; may be infinite.

    Examples
    --------
    >>> barnard_rubin(np.array([0.25, 0.0]), 5, np.array([20.0, 20.0])).round(4)
    array([12.7466, 18.2609])
    """
    with np.errstate(divide="ignore"):
        by_draws = (m - 1) * (1.0 + 1.0 / r) ** 2
        finite = np.where(np.isinf(complete), 1.0, complete)
        observed = (finite + 1.0) / (finite + 3.0) * finite / (1.0 + r)
        observed = np.where(np.isinf(complete), np.inf, observed)
        return np.asarray(1.0 / (1.0 / by_draws + 1.0 / observed))


def joint_degrees(r: float, k: int, m: int, complete: float) -> float:
    """Denominator degrees of freedom of D1 for k > 1 rows.

    Reiter's (2007, *Biometrika* 94) where they are defined: with complete data of finite
    degrees nu_com and k (m - 1) > 4; with infinite ones those of Li, Raghunathan & Rubin
    (1991), which Reiter's tend to. Where nu_com is too small for his expansion, these are
    brought together with the observed ones as in `barnard_rubin`.

    Parameters
    ----------
    r : float
        Mean relative increase in variance.
    k, m : int
        Rows and data sets.
    complete : float
        Degrees of freedom with complete data.

    Examples
    --------
    >>> round(joint_degrees(0.25, 2, 5, 20.0), 4), round(joint_degrees(0.25, 2, 5, np.inf), 4)
    (12.111, 68.0)
    """
    if r <= 0.0:
        return float(barnard_rubin(np.zeros(1), m, np.array([complete]))[0])
    t = k * (m - 1)
    by_draws = t * (1.0 + 1.0 / k) * (1.0 + 1.0 / r) ** 2 / 2.0
    if t > 4:
        by_draws = 4.0 + (t - 4.0) * (1.0 + (1.0 - 2.0 / t) / r) ** 2
    if np.isinf(complete):
        return by_draws
    a = r * t / (t - 2.0) if t > 2 else r
    shrunk = complete * (complete + 1.0) / (complete + 3.0)
    first, second = shrunk - 2.0 * (1.0 + a), shrunk - 4.0 * (1.0 + a)
    if t <= 4 or second <= 0.0:
        observed = shrunk / (1.0 + r)
        return 1.0 / (1.0 / by_draws + 1.0 / observed)
    terms = (
        a**2 * first / ((1.0 + a) ** 2 * second),
        8.0 * a**2 * first / ((1.0 + a) * second**2),
        4.0 * a**2 / ((1.0 + a) * second),
        4.0 * a**2 / (second * first),
        16.0 * a**2 * first / second**3,
        8.0 * a**2 / second**2,
    )
    return 4.0 + 1.0 / (1.0 / second + sum(terms) / (t - 4.0))
