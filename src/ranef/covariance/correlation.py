"""Correlation matrices of few parameters."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ranef.covariance.pairs import UNIT
from ranef.covariance.structure import EVERY, Parameter
from ranef.errors import ModelError

__all__ = [
    "Autoregressive",
    "Correlation",
    "Exchangeable",
    "Exponential",
    "Gaussian",
    "Matern",
    "Toeplitz",
    "Uncorrelated",
]

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Correlation(ABC):
    """A correlation matrix R of its natural parameters rho, and the map from phi.

    Attributes
    ----------
    distance : (r, r) float64 array
        Between columns: lags, times or Euclidean distances; zero on the diagonal only.
    """

    distance: Floats

    @property
    @abstractmethod
    def description(self) -> str:
        """In words."""

    @abstractmethod
    def parameters(self) -> tuple[Parameter, ...]:
        """What the entries of rho are."""

    @abstractmethod
    def matrix(self, rho: Floats) -> Floats:
        """R (r, r)."""

    @abstractmethod
    def derivatives(self, rho: Floats) -> Floats:
        """Derivatives of R, (c, r, r)."""

    @abstractmethod
    def second_derivatives(self, rho: Floats) -> Floats:
        """Second derivatives of R, (c, c, r, r)."""

    @abstractmethod
    def to_phi(self, rho: Floats) -> Floats:
        """A phi (c,) of the same R; any phi is valid."""

    @abstractmethod
    def from_phi(self, phi: Floats) -> Floats:
        """Natural parameters (c,)."""

    def boundary(self, rho: Floats) -> tuple[str, ...]:
        """In words, the limits of the family that rho has reached."""
        off = np.abs(self.matrix(rho)[np.triu_indices(len(self.distance), 1)])
        if np.all(off >= 1.0 - UNIT):
            return ("the columns are perfectly correlated",)
        if np.all(off <= UNIT):
            return ("no two columns are near enough to be correlated",)
        return ()

    def free(self, rho: Floats) -> NDArray[np.bool_]:
        """Which entries of rho (c,) are inside their range."""
        return np.full(len(rho), not self.boundary(rho))


def within(value: float, low: float, high: float, what: str) -> float:
    """`value`, checked to lie in a closed interval."""
    if not low <= value <= high:
        raise ModelError(f"{what} lies between {low:.4g} and {high:.4g}, not at {value:.6g}")
    return value


@dataclass(frozen=True, eq=False)
class Uncorrelated(Correlation):
    """R = I."""

    @property
    def description(self) -> str:
        return "diagonal, no correlation"

    def parameters(self) -> tuple[Parameter, ...]:
        """There are none."""
        return ()

    def matrix(self, rho: Floats) -> Floats:
        """The identity."""
        return np.eye(len(self.distance))

    def derivatives(self, rho: Floats) -> Floats:
        """None."""
        return np.empty((0, *self.distance.shape))

    def second_derivatives(self, rho: Floats) -> Floats:
        """None."""
        return np.empty((0, 0, *self.distance.shape))

    def to_phi(self, rho: Floats) -> Floats:
        """Nothing to map."""
        return np.empty(0)

    def from_phi(self, phi: Floats) -> Floats:
        """Nothing to map."""
        return np.empty(0)

    def boundary(self, rho: Floats) -> tuple[str, ...]:
        """There is none."""
        return ()


@dataclass(frozen=True, eq=False)
class Exchangeable(Correlation):
    """One correlation for every pair, from -1 / (r - 1) to 1, through a sine.

    rho = middle + half sin(phi): the ends of the range are interior points of phi.
    """

    @property
    def low(self) -> float:
        """Lowest correlation, at which R is singular."""
        return -1.0 / (len(self.distance) - 1)

    @property
    def description(self) -> str:
        return "compound symmetric, one correlation for all pairs"

    def parameters(self) -> tuple[Parameter, ...]:
        """Return the correlation."""
        return (Parameter("corr"),)

    def matrix(self, rho: Floats) -> Floats:
        """Ones on the diagonal, rho elsewhere."""
        return np.where(self.distance > 0.0, rho[0], 1.0)

    def derivatives(self, rho: Floats) -> Floats:
        """Ones off the diagonal."""
        return np.where(self.distance > 0.0, 1.0, 0.0)[None]

    def second_derivatives(self, rho: Floats) -> Floats:
        """Zero: R is linear in rho."""
        return np.zeros((1, 1, *self.distance.shape))

    def to_phi(self, rho: Floats) -> Floats:
        """Inverse sine within the range."""
        value = within(float(rho[0]), self.low, 1.0, "the correlation of compound symmetry")
        return np.asarray(np.arcsin(np.array([2.0 * (value - self.low) / (1.0 - self.low) - 1.0])))

    def from_phi(self, phi: Floats) -> Floats:
        """Sine within the range."""
        return np.asarray(self.low + (1.0 - self.low) * 0.5 * (1.0 + np.sin(phi)))

    def boundary(self, rho: Floats) -> tuple[str, ...]:
        """Return the two ends of the range."""
        if rho[0] >= 1.0 - UNIT:
            return ("the correlation is 1",)
        if rho[0] <= self.low + UNIT:
            return (f"the correlation is at its lowest, {self.low:.4g}: the effects sum to zero",)
        return ()


@dataclass(frozen=True, eq=False)
class Autoregressive(Correlation):
    """rho^lag, rho = sin(phi)."""

    @property
    def description(self) -> str:
        return "first-order autoregressive over time"

    def parameters(self) -> tuple[Parameter, ...]:
        """Return the correlation at lag one."""
        return (Parameter("corr"),)

    def matrix(self, rho: Floats) -> Floats:
        """rho^lag."""
        return np.asarray(rho[0] ** self.distance)

    def derivatives(self, rho: Floats) -> Floats:
        """Lag rho^(lag - 1)."""
        return np.asarray(self.distance * rho[0] ** np.maximum(self.distance - 1.0, 0.0))[None]

    def second_derivatives(self, rho: Floats) -> Floats:
        """Lag (lag - 1) rho^(lag - 2)."""
        lag = self.distance
        return np.asarray(lag * (lag - 1.0) * rho[0] ** np.maximum(lag - 2.0, 0.0))[None, None]

    def to_phi(self, rho: Floats) -> Floats:
        """Inverse sine."""
        return np.asarray(
            np.arcsin(np.array([within(float(rho[0]), -1.0, 1.0, "an autocorrelation")]))
        )

    def from_phi(self, phi: Floats) -> Floats:
        """Sine."""
        return np.asarray(np.sin(phi))

    def boundary(self, rho: Floats) -> tuple[str, ...]:
        """Return the two ends of the range."""
        if abs(rho[0]) < 1.0 - UNIT:
            return ()
        return (f"the autocorrelation is {'1' if rho[0] > 0.0 else '-1'}",)


@dataclass(frozen=True, eq=False)
class Toeplitz(Correlation):
    """A correlation for each lag, through partial autocorrelations sin(phi_k).

    Any partial autocorrelations are valid (Barndorff-Nielsen & Schou 1973,
    J. Multivariate Anal. 3, 408-419). From them to rho by the rotations of the
    normalised lattice (Gray & Markel 1975, IEEE Trans. ASSP 23, 268-277), which
    lose nothing near a singular R; back by the Durbin-Levinson recursion.
    """

    @property
    def description(self) -> str:
        return "Toeplitz, a correlation for each lag"

    @property
    def lags(self) -> NDArray[np.intp]:
        """Lag of each pair, (r, r)."""
        return self.distance.astype(np.intp)

    def parameters(self) -> tuple[Parameter, ...]:
        """Return the correlations at lag 1, 2, ..."""
        return tuple(Parameter("corr", EVERY, f"lag {k}") for k in range(1, len(self.distance)))

    def matrix(self, rho: Floats) -> Floats:
        """R_ij = rho of the lag."""
        return np.append(1.0, rho)[self.lags]

    def derivatives(self, rho: Floats) -> Floats:
        """Ones at the lag."""
        return np.where(self.lags == np.arange(1, len(self.distance))[:, None, None], 1.0, 0.0)

    def second_derivatives(self, rho: Floats) -> Floats:
        """Zero: R is linear in rho."""
        return np.zeros((len(rho), len(rho), *self.distance.shape))

    def to_phi(self, rho: Floats) -> Floats:
        """Partial autocorrelations; zero after one of +-1, where nothing is left."""
        partial = np.zeros(len(rho))
        ar = np.empty(0)
        variance = 1.0
        for k in range(len(rho)):
            rest = float(rho[k] - ar @ rho[:k][::-1])
            if variance <= UNIT:
                within(rest, -1e-6, 1e-6, f"what is left of the correlation at lag {k + 1}")
                break
            partial[k] = within(
                rest / variance, -1.0 - UNIT, 1.0 + UNIT, f"the partial correlation at lag {k + 1}"
            )
            ar = np.append(ar - partial[k] * ar[::-1], partial[k])
            variance *= 1.0 - partial[k] ** 2
        return np.arcsin(np.clip(partial, -1.0, 1.0))

    def from_phi(self, phi: Floats) -> Floats:
        """Autocorrelations of the partial ones.

        The lattice runs without input: b_k is the correlation of x_0 with the
        normalised error of predicting x_(t - k) from the k values after it, f
        that of the forward errors, f_0 = b_0 the autocorrelation.
        """
        sines, cosines = np.sin(phi).tolist(), np.cos(phi).tolist()
        b = [1.0] + [0.0] * len(phi)
        rho = []
        for t in range(len(phi)):
            f = 0.0
            for k in range(t, -1, -1):
                behind = b[k]
                b[k + 1] = cosines[k] * behind - sines[k] * f
                f = cosines[k] * f + sines[k] * behind
            b[0] = f
            rho.append(f)
        return np.array(rho)

    def boundary(self, rho: Floats) -> tuple[str, ...]:
        """Return the lag from which on the process is determined by its past."""
        inside = int(np.sum(self.free(rho)))
        if inside == len(rho):
            return ()
        return (f"an effect is determined by the {inside + 1} before it",)

    def free(self, rho: Floats) -> NDArray[np.bool_]:
        """Lags before the first partial autocorrelation of one."""
        partial = np.sin(self.to_phi(rho))
        return np.logical_and.accumulate(np.abs(partial) < 1.0 - UNIT)


TINY = 1e-150
"""A distance below this, in units of the range, is none."""


def median_distance(distance: Floats) -> float:
    """Median over pairs, the unit of phi."""
    return float(np.median(distance[np.triu_indices(len(distance), 1)]))


@dataclass(frozen=True, eq=False)
class Exponential(Correlation):
    """exp(-distance / range), phi = sqrt(median distance / range).

    Attributes
    ----------
    rate : bool
        The parameter is 1 / range (`ou`), not the range.
    """

    rate: bool = False

    @property
    def description(self) -> str:
        if self.rate:
            return "Ornstein-Uhlenbeck over time, correlation exp(-rate times the time between)"
        return "exponential, correlation exp(-distance / range)"

    def parameters(self) -> tuple[Parameter, ...]:
        """Return the rate or the range."""
        return (Parameter("rate" if self.rate else "range"),)

    def matrix(self, rho: Floats) -> Floats:
        """exp(-rate distance)."""
        with np.errstate(divide="ignore"):
            rate = rho[0] if self.rate else np.divide(1.0, rho[0])
        return np.exp(-np.where(self.distance > 0.0, rate, 0.0) * self.distance)

    def derivatives(self, rho: Floats) -> Floats:
        """-distance R in the rate, distance / range^2 R in the range."""
        slope = -self.distance if self.rate else self.distance / rho[0] / rho[0]
        return np.asarray(slope * self.matrix(rho))[None]

    def second_derivatives(self, rho: Floats) -> Floats:
        """distance^2 R in the rate; (distance^2 / range - 2 distance) / range^3 R in the range."""
        d, at = self.distance, float(rho[0])
        bend = d**2 if self.rate else (d**2 / at - 2.0 * d) / at / at / at
        return np.asarray(bend * self.matrix(rho))[None, None]

    def to_phi(self, rho: Floats) -> Floats:
        """Return the root of the rate in units of the median distance."""
        positive(float(rho[0]), "the rate" if self.rate else "the range", zero=self.rate)
        rate = float(rho[0]) if self.rate else 1.0 / float(rho[0])
        return np.asarray(np.sqrt(np.array([rate * median_distance(self.distance)])))

    def from_phi(self, phi: Floats) -> Floats:
        """Infinite range, or rate zero, at phi = 0."""
        unit = median_distance(self.distance)
        with np.errstate(divide="ignore"):
            return phi**2 / unit if self.rate else unit / phi**2


def positive(value: float, what: str, *, zero: bool = False) -> float:
    """`value`, checked to be positive, or zero where that is allowed."""
    if not (value > 0.0 or (zero and value == 0.0)):
        raise ModelError(f"{what} is positive, not {value:.6g}")
    return value


@dataclass(frozen=True, eq=False)
class Gaussian(Correlation):
    """exp(-(distance / range)^2), phi = +- median distance / range."""

    @property
    def description(self) -> str:
        return "Gaussian, correlation exp(-(distance / range)^2)"

    def parameters(self) -> tuple[Parameter, ...]:
        """Return the range."""
        return (Parameter("range"),)

    def matrix(self, rho: Floats) -> Floats:
        """exp(-(distance / range)^2)."""
        return np.asarray(np.exp(-((self.distance / float(rho[0])) ** 2)))

    def derivatives(self, rho: Floats) -> Floats:
        """2 distance^2 / range^3 R."""
        at = rho[0]
        return np.asarray(2.0 * self.distance**2 / at / at / at * self.matrix(rho))[None]

    def second_derivatives(self, rho: Floats) -> Floats:
        """(4 distance^4 / range^6 - 6 distance^2 / range^4) R."""
        at = float(rho[0])
        square = (self.distance / at) ** 2
        return np.asarray((4.0 * square**2 - 6.0 * square) / at / at * self.matrix(rho))[None, None]

    def to_phi(self, rho: Floats) -> Floats:
        """Median distance / range."""
        return np.array([median_distance(self.distance) / positive(float(rho[0]), "the range")])

    def from_phi(self, phi: Floats) -> Floats:
        """Infinite at phi = 0."""
        with np.errstate(divide="ignore"):
            return np.asarray(median_distance(self.distance) / np.abs(phi))


def matern(x: float, nu: float) -> tuple[float, float, float]:
    """Matern correlation and its derivatives in log x and nu.

    2 K_nu(x) is the integral over the line of exp(nu t - x cosh t), on which the
    trapezoidal rule is accurate to rounding (Trefethen & Weideman 2014, SIAM
    Review 56, 385-458); the derivatives of log K are means under that density.

    Examples
    --------
    >>> value, in_log_x, in_nu = matern(2.0, 0.5)
    >>> np.allclose([value, in_log_x], [np.exp(-2), -2 * np.exp(-2)], rtol=1e-13)
    True
    """
    from scipy.special import digamma

    at = _matern_moments(x, nu)
    if at is None:
        return float(x < TINY), 0.0, 0.0
    in_log_x = -at.excess - at.c
    in_nu = math.log(nu) - float(digamma(nu)) + at.log_ratio + at.t
    return at.value, at.value * in_log_x, at.value * in_nu


def matern_bends(x: float, nu: float) -> tuple[float, float, float]:
    """Second derivatives of `matern` in log x twice, log x and nu, nu twice.

    Those of log K are covariances under the same density, of t and x cosh t.

    Examples
    --------
    >>> in_log_x = matern_bends(2.0, 0.5)[0]
    >>> np.allclose(in_log_x, (4 - 2) * np.exp(-2), rtol=1e-12)
    True
    """
    from scipy.special import digamma, polygamma

    at = _matern_moments(x, nu)
    if at is None:
        return 0.0, 0.0, 0.0
    in_log_x = -at.excess - at.c
    in_nu = math.log(nu) - float(digamma(nu)) + at.log_ratio + at.t
    return (
        at.value * (at.cc - (nu + at.excess + at.c) + in_log_x**2),
        at.value * (1.0 - at.ct + in_log_x * in_nu),
        at.value * (at.tt - float(polygamma(1, nu)) + in_nu**2),
    )


@dataclass(frozen=True)
class _Moments:
    """Matern correlation and moments of t and c = x cosh t - (nu + excess), t from the peak."""

    value: float
    excess: float
    log_ratio: float
    c: float
    t: float
    cc: float
    ct: float
    tt: float


def _matern_moments(x: float, nu: float) -> _Moments | None:
    """None where the correlation is one or zero to rounding."""
    if x < TINY:
        return None
    peak_c = math.hypot(x, nu)
    excess = x * x / (nu + peak_c)
    log_ratio = math.log1p(0.5 * excess / nu)
    log_peak = math.log(2.0) + 0.5 * math.log(0.5 * nu / math.pi) - stirling_rest(nu)
    log_peak += nu * log_ratio - excess
    if not log_peak > -800.0:
        return None
    step = min(0.125, 0.5 / math.sqrt(peak_c))
    peak_t, end = math.asinh(nu / x), math.log(2.0 * (peak_c + 10.0 * nu + 50.0) / x)
    t = step * np.arange(math.floor((-end - peak_t) / step), math.ceil((end - peak_t) / step) + 1)
    c = (nu + 0.5 * excess) * np.expm1(t) + 0.5 * excess * np.expm1(-t)
    weight = np.exp(nu * t - c)
    total = float(weight.sum())
    value = math.exp(log_peak + math.log(0.5 * step * total))
    weight = weight / total
    mean_c, mean_t = float(weight @ c), float(weight @ t)
    from_c, from_t = c - mean_c, t - mean_t
    cc, ct, tt = (
        float(weight @ (a * b)) for a, b in ((from_c,) * 2, (from_c, from_t), (from_t,) * 2)
    )
    return _Moments(value, excess, log_ratio, mean_c, mean_t, cc, ct, tt)


def stirling_rest(x: float) -> float:
    """Return log Gamma(x) less (x - 1/2) log x - x + log(2 pi) / 2.

    Examples
    --------
    >>> abs(stirling_rest(1e3) - 1 / 12e3) < 1e-11
    True
    """
    if x < 12.0:
        return math.lgamma(x) - (x - 0.5) * math.log(x) + x - 0.5 * math.log(2.0 * math.pi)
    terms = (1 / 12, -1 / 360, 1 / 1260, -1 / 1680, 1 / 1188, -691 / 360360)
    return sum(c / x ** (2 * k + 1) for k, c in enumerate(terms))


@dataclass(frozen=True, eq=False)
class Matern(Correlation):
    """2^(1 - nu) / Gamma(nu) x^nu K_nu(x), x = distance / range, nu the smoothness.

    phi = (log(median distance / range), log nu). (Stein 1999, *Interpolation of
    Spatial Data*, section 2.7.)
    """

    @property
    def description(self) -> str:
        return "Matern over distance, with a range and a smoothness"

    def parameters(self) -> tuple[Parameter, ...]:
        """Range and smoothness."""
        return (Parameter("range"), Parameter("smoothness"))

    def matrix(self, rho: Floats) -> Floats:
        """R (r, r)."""
        return self.spread(1.0, lambda x: matern(x, float(rho[1]))[0], float(rho[0]))

    def derivatives(self, rho: Floats) -> Floats:
        """-1 / range times the slope in log x, and the slope in nu."""
        range_, nu = float(rho[0]), float(rho[1])
        in_range = self.spread(0.0, lambda x: -matern(x, nu)[1] / range_, range_)
        return np.stack([in_range, self.spread(0.0, lambda x: matern(x, nu)[2], range_)])

    def spread(self, diagonal: float, of: Callable[[float], float], range_: float) -> Floats:
        """Matrix of a function of distance / range, computed once a distinct distance."""
        distinct, place = np.unique(self.distance, return_inverse=True)
        values = [diagonal, *(of(float(d) / range_) for d in distinct[1:])]
        return np.array(values)[place.reshape(self.distance.shape)]

    def second_derivatives(self, rho: Floats) -> Floats:
        """By the chain rule from log x = log distance - log range, and nu."""
        range_, nu = float(rho[0]), float(rho[1])
        slope = self.spread(0.0, lambda x: matern(x, nu)[1], range_)

        def bend(i: int) -> Floats:
            return self.spread(0.0, lambda x: matern_bends(x, nu)[i], range_)

        mixed = -bend(1) / range_
        return np.array([[(bend(0) + slope) / (range_ * range_), mixed], [mixed, bend(2)]])

    def to_phi(self, rho: Floats) -> Floats:
        """Logarithms."""
        range_ = positive(float(rho[0]), "the range")
        nu = positive(float(rho[1]), "the smoothness")
        return np.log([median_distance(self.distance) / range_, nu])

    def from_phi(self, phi: Floats) -> Floats:
        """Exponentials."""
        return np.array([median_distance(self.distance) * np.exp(-phi[0]), np.exp(phi[1])])
