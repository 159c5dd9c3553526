"""Wald tests and intervals of linear functions of the fixed effects."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ranef.errors import ModelError

__all__ = [
    "FTest",
    "Intervals",
    "f_tail",
    "f_test",
    "quantile",
    "scaled_rank",
    "standard_errors",
    "two_sided",
    "wald",
]

Floats = NDArray[np.float64]

NEARLY_DEPENDENT = 1e-6


@dataclass(frozen=True, eq=False)
class Intervals:
    """Estimates with tests and intervals, one a hypothesis.

    Attributes
    ----------
    estimate, std_error, df, statistic, p_value, conf_low, conf_high : (q,) float64 arrays
    """

    estimate: Floats
    std_error: Floats
    df: Floats
    statistic: Floats
    p_value: Floats
    conf_low: Floats
    conf_high: Floats

    def without(self, gone: NDArray[np.bool_]) -> Intervals:
        """Return them with NaN where the data do not determine one."""
        return Intervals(*(np.where(gone, np.nan, values) for values in vars(self).values()))


@dataclass(frozen=True)
class FTest:
    """Test of several linear hypotheses at once.

    Attributes
    ----------
    statistic : float
    df1 : int
        Rank of the hypothesis.
    df2 : float
        Denominator degrees of freedom.
    p_value : float
    """

    statistic: float
    df1: int
    df2: float
    p_value: float


def standard_errors(L: Floats, covariance: Floats) -> Floats:
    """Standard errors (q,) of L beta; NaN where a covariance matrix that is none has no root."""
    variance = np.sum(L @ covariance * L, axis=1)
    rounding = 1e-14 * np.sum((np.abs(L) @ np.abs(covariance)) * np.abs(L), axis=1)
    return np.sqrt(np.where(variance < -rounding, np.nan, np.maximum(variance, 0.0)))


def wald(value: Floats, error: Floats, df: Floats, conf_level: float) -> Intervals:
    """Tests and intervals of values with these standard errors and degrees of freedom.

    What has a standard error of zero is known, not estimated (a coefficient that is
    held): it has no test, and its interval is the value.
    """
    statistic = np.divide(value, error, out=np.full(len(value), np.nan), where=error != 0)
    reach = quantile(conf_level, df) * error
    return Intervals(
        value, error, df, statistic, two_sided(statistic, df), value - reach, value + reach
    )


def f_test(
    beta: Floats,
    vcov: Floats,
    L: Floats,
    rhs: Floats | None,
    reference: Callable[[Floats], tuple[float, float]],
) -> FTest:
    """Test L beta = rhs by F = scale (L beta - rhs)' (L vcov L')^-1 (L beta - rhs) / rank.

    Redundant rows of L are reduced to a basis of its row space first; `rhs`
    must then lie in its range.

    Parameters
    ----------
    beta : (p,) array
    vcov : (p, p) array
    L : (q, p) array
    rhs : (q,) array or None
        Zero for None.
    reference : callable
        Scale and denominator degrees of freedom of independent rows together. Where
        these are infinite, rank times F is chi-squared.
    """
    basis, target = independent_rows(len(beta), L, rhs)
    gap = basis @ beta - target
    rank = len(basis)
    known = basis @ vcov @ basis.T
    if scaled_rank(known) < rank:
        raise ModelError(
            "the hypothesis is about coefficients that are held at a value or equal by request: "
            "there is nothing to test; leave them out of it"
        )
    scale, df2 = reference(basis)
    return f_tail(scale * float(gap @ np.linalg.solve(known, gap)) / rank, rank, df2)


def scaled_rank(covariance: Floats) -> int:
    """Rank of a covariance matrix, whatever the units of what varies."""
    sd = np.sqrt(np.maximum(np.diag(covariance), 0.0))
    unit = np.where(sd > 0, sd, 1.0)
    return int(np.linalg.matrix_rank(covariance / np.outer(unit, unit), hermitian=True))


def f_tail(statistic: float, df1: int, df2: float) -> FTest:
    """An F test with its p-value; of infinite df2 that of chi-squared."""
    from scipy.special import chdtrc, fdtrc

    tail = chdtrc(df1, df1 * statistic) if np.isinf(df2) else fdtrc(df1, df2, statistic)
    return FTest(statistic, df1, df2, float(tail))


def independent_rows(p: int, L: Floats, rhs: Floats | None) -> tuple[Floats, Floats]:
    """Return rows (rank, p) that ask the same as those of L, and their right-hand side.

    The rows themselves where they are independent, since Fai and Cornelius's degrees of
    freedom depend on how a hypothesis is written; else an orthonormal basis of their space.
    """
    try:
        L = np.atleast_2d(np.asarray(L, dtype=np.float64))
    except ValueError:
        raise ModelError(
            "a hypothesis is given here as rows of numbers, one column a coefficient; "
            "fit.test() takes names of coefficients"
        ) from None
    if L.shape[1] != p:
        raise ModelError(
            f"the hypothesis has {L.shape[1]} columns but the model has {p} coefficients; "
            "give one column a coefficient"
        )
    wanted = np.zeros(len(L)) if rhs is None else np.broadcast_to(rhs, len(L)).astype(np.float64)
    length = np.linalg.norm(L, axis=1)
    unit = L / np.where(length > 0, length, 1.0)[:, None]
    U, singular, Vt = np.linalg.svd(unit, full_matrices=False)
    largest = singular.max(initial=0.0)
    if largest == 0:
        raise ModelError("the hypothesis is all zeros: it asks nothing of the coefficients")
    if len(L) <= p and singular.min() > NEARLY_DEPENDENT * largest:
        return L, wanted
    keep = singular > largest * max(L.shape) * np.finfo(float).eps
    scaled = np.divide(wanted, length, out=wanted.copy(), where=length > 0)
    target = (U[:, keep].T @ scaled) / singular[keep]
    if not np.allclose(unit @ (Vt[keep].T @ target), scaled):
        raise ModelError("the rows of the hypothesis contradict each other; test them apart")
    return Vt[keep], target


def quantile(conf_level: float, df: Floats) -> Floats:
    """Half-width, in standard errors, of a two-sided interval: t, or normal at infinite df."""
    from scipy.special import ndtri, stdtrit

    upper = (1.0 + conf_level) / 2.0
    finite = np.where(np.isinf(df), 1.0, df)
    reach: Floats = np.where(np.isinf(df), ndtri(upper), stdtrit(finite, upper))
    return reach


def two_sided(statistic: Floats, df: Floats) -> Floats:
    """P(|T| > |statistic|) by t, or by the normal at infinite df."""
    from scipy.special import ndtr, stdtr

    lower = -np.abs(statistic)
    finite = np.where(np.isinf(df), 1.0, df)
    tails: Floats = 2.0 * np.where(np.isinf(df), ndtr(lower), stdtr(finite, lower))
    return tails
