"""Functions of a model's parameters, and how well the parameters are known.

What a model says at a row is a value with its derivatives in the parameters; averages and
contrasts of rows are linear in both. Where columns of the fixed effects depend on each
other, a row can be asked for only if it depends on them in the same way (Searle 1971,
Linear Models, section 5.4).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ranef.covariance.factor import column_sizes
from ranef.families.links import Scale, link_on
from ranef.inference.coefficients.wald import FTest, Intervals, f_tail, scaled_rank

__all__ = [
    "ESTIMABLE",
    "Functions",
    "Knowledge",
    "carried_back",
    "gaps_of_values",
    "redundancy",
    "squared_distance",
    "wald_test",
]

Floats = NDArray[np.float64]
Ints = NDArray[np.intp]
Bools = NDArray[np.bool_]


ESTIMABLE = 1e-7


@dataclass(frozen=True, eq=False)
class Functions:
    """Functions of the parameters.

    Attributes
    ----------
    value : (q,) float64 array
    jacobian : (q, K) float64 array
        Derivatives in the K parameters.
    gap : (q, d) float64 array
        How far each is from one that the data determine, in each of the d redundant
        columns; all zero where it can be estimated.
    """

    value: Floats
    jacobian: Floats
    gap: Floats

    @property
    def estimable(self) -> Bools:
        return np.asarray((np.abs(self.gap) <= ESTIMABLE).all(axis=1))

    def combined(self, C: Floats) -> Functions:
        """Return the linear functions C (m, q) of these."""
        return Functions(C @ self.value, C @ self.jacobian, C @ self.gap)

    def taken(self, rows: Ints) -> Functions:
        """Return some of them."""
        return Functions(self.value[rows], self.jacobian[rows], self.gap[rows])

    def transformed(self, link: Scale) -> Functions:
        """Return the link of each; their gaps no longer cancel."""
        known = link_on(link)
        if link == "identity":
            return self
        with np.errstate(divide="ignore", invalid="ignore"):
            value = known.function(self.value)
            slope = known.first(value)
            return Functions(value, self.jacobian / slope[:, None], self.own_gaps())

    def back(self, link: Scale) -> Functions:
        """Return the inverse link of each."""
        if link == "identity":
            return self
        known = link_on(link)
        slope = known.first(self.value)
        return Functions(known.inverse(self.value), slope[:, None] * self.jacobian, self.own_gaps())

    def own_gaps(self) -> Floats:
        """A column for each that cannot be estimated, so that differences do not hide it."""
        missing = np.flatnonzero(~self.estimable)
        out = np.zeros((len(self.value), len(missing)))
        out[missing, np.arange(len(missing))] = 1.0
        return out


def gaps_of_values(gaps: Floats, K: int) -> Floats:
    """Gaps (K N, K d) of K values a row, from those of N rows (N, d).

    Each of the K rests on coefficients of its own (the log odds of several categories), so
    that what one of them cannot say is not made up for by another.

    Examples
    --------
    >>> gaps_of_values(np.array([[0.0], [1.0]]), 2)
    array([[0., 0.],
           [1., 0.],
           [0., 0.],
           [0., 1.]])
    """
    return np.asarray(np.kron(np.eye(K), gaps))


@dataclass(frozen=True, eq=False)
class Knowledge:
    """How well the parameters are known.

    Attributes
    ----------
    covariance : (K, K) float64 array
    degrees : callable
        Degrees of freedom (q,) of linear functions of the parameters (q, K).
    joint : callable
        F test that functions with the derivatives (q, K), all independent, and the
        values (q,) are zero.
    open : callable or None
        Which functions (q, K) the data do not determine, as a bool array (q,); None where
        they determine all.
    """

    covariance: Floats
    degrees: Callable[[Floats], Floats]
    joint: Callable[[Floats, Floats], FTest]
    open: Callable[[Floats], Bools] | None = None

    def settled(self, error: Floats, L: Floats) -> Floats:
        """Standard errors (q,) of functions of the parameters; NaN of what is not determined."""
        return error if self.open is None else np.where(self.open(L), np.nan, error)

    @classmethod
    def normal(cls, covariance: Floats) -> Knowledge:
        """Parameters that are normal with this covariance."""
        return cls(
            covariance,
            lambda L: np.full(len(L), np.inf),
            lambda L, value: wald_test(L, value, covariance),
        )


def redundancy(X: Floats, left_out: Floats) -> Floats:
    """Coefficients (p, d) of the redundant columns `left_out` (n, d) in the others X (n, p)."""
    return np.asarray(np.linalg.lstsq(X, left_out, rcond=None)[0])


def wald_test(L: Floats, value: Floats, covariance: Floats) -> FTest:
    """Chi-squared test, as F with infinite denominator, that functions of these values are zero."""
    spread = L @ covariance @ L.T
    rank = scaled_rank(spread)
    return f_tail(squared_distance(value, spread) / max(rank, 1), rank, float(np.inf))


def squared_distance(value: Floats, covariance: Floats) -> float:
    """Return v' C^-1 v of v (q,), C (q, q) inverted in units of its diagonal as far as it goes."""
    if not value.any():
        return 0.0
    size = column_sizes(covariance)
    inverse = np.linalg.pinv(covariance / np.outer(size, size), hermitian=True)
    return float(value / size @ inverse @ (value / size))


def carried_back(found: Intervals, link: Scale) -> Intervals:
    """Carry estimates and intervals from the scale of a link to that of the mean.

    An interval that goes beyond the values of a transformation ends where these end.
    """
    if link == "identity":
        return found
    known, (least, most) = link_on(link), link_on(link).ends
    beyond = (found.conf_high < least) | (found.conf_low > most)
    with np.errstate(over="ignore"):  # an end at infinity is one
        low, high = (
            known.inverse(np.where(beyond, np.nan, np.clip(end, least, most)))
            for end in (found.conf_low, found.conf_high)
        )
    return replace(
        found,
        estimate=known.inverse(found.estimate),
        std_error=np.abs(known.first(found.estimate)) * found.std_error,
        conf_low=np.fmin(low, high),
        conf_high=np.fmax(low, high),
    )
