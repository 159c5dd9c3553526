"""Families of counts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ranef.families.checks import require, whole
from ranef.families.family import Family, Predictor, Start, centre, spread

__all__ = [
    "Bell",
    "ConwayMaxwellPoisson",
    "Count",
    "GeneralisedPoisson",
    "NegativeBinomial1",
    "NegativeBinomial2",
    "NegativeBinomial12",
    "Poisson",
]

Floats = NDArray[np.float64]
PHI = (Predictor("dispersion", "log", "phi"),)
LIMITS = (1e-3, 1e4)
WIDE = 150.0
MOST = 1e18
"""The largest mean that counts are drawn with."""
LEAST = 1e-300
FAR = 2e4
"""Beyond this mean counts are drawn by their moments, where walking would take as many steps."""
NU_ENDS = (-15.0, 40.0)
"""Of log(1 / nu): beyond them the distribution is that of its limit, as the core takes it."""


def by_inversion(
    rng: np.random.Generator,
    n: int,
    log_mass: Callable[[NDArray[np.int64], int], Floats],
    lowest: int,
    rows: NDArray[np.int64] | None = None,
) -> Floats:
    """Draw counts by walking up their distribution functions.

    ``log_mass(rows, y)`` is the log probability of the count y in those rows; `rows` are
    those to be drawn, all of the n if left out.
    """
    y = np.full(n, float(lowest))
    left = rng.random(n)
    rows = np.arange(n) if rows is None else rows
    count = lowest
    largest = np.full(n, -np.inf)
    while rows.size:
        mass = log_mass(rows, count)
        left[rows] -= np.exp(mass)
        falling = mass < largest[rows]
        largest[rows] = np.maximum(largest[rows], mass)
        y[rows] = count
        rows = rows[(left[rows] > 0) & np.isfinite(mass) & ~(falling & (mass < -40))]
        count += 1
    return y


def by_moments(rng: np.random.Generator, mean: Floats, variance: Floats) -> Floats:
    """Draw counts far from zero, as the negative binomial or, if narrower, as the normal."""
    wide = variance > mean * (1 + 1e-9)
    shape = mean[wide] ** 2 / (variance[wide] - mean[wide])
    y = np.round(rng.normal(mean, np.sqrt(variance)))
    y[wide] = _poisson_gamma(rng, shape, mean[wide] / shape)
    return np.maximum(y, 0.0)


def walked(
    rng: np.random.Generator,
    mean: Floats,
    variance: Callable[[NDArray[np.int64]], Floats],
    log_mass: Callable[[NDArray[np.int64], int], Floats],
) -> Floats:
    """Draw counts by inversion, and those whose mean is far from zero by their moments."""
    far = np.flatnonzero(mean > FAR)
    y = by_inversion(rng, mean.size, log_mass, 0, np.flatnonzero(~(mean > FAR)))
    if far.size:
        y[far] = by_moments(rng, mean[far], variance(far))
    return y


@dataclass(frozen=True)
class Count(Family):
    """What families of counts share: whole numbers from 0, a positive mean."""

    link: str = "log"

    links: ClassVar[tuple[str, ...]] = ("log", "identity", "sqrt", "inverse")
    drawn: ClassVar[tuple[float, float]] = (0.0, MOST)
    takes_zero: ClassVar[bool] = True

    def _check(self, y: Floats, extra: Floats | None, excused: NDArray[np.bool_]) -> None:
        require(self.name, "whole numbers from 0", y, whole(y) & (y >= 0))

    def _start(self, y: Floats, extra: Floats | None) -> Start:
        mean = max(centre(y), 1e-2)
        constants = [float(self.link_function(mean))]
        if self.others:
            constants.append(float(np.log(np.clip(self._moment(mean, spread(y)), *LIMITS))))
        return Start(np.array(constants), self.link_function(y + 0.1))

    def _moment(self, mean: float, variance: float) -> float:
        """The dispersion parameter of a response with these moments."""
        return 1.0


@dataclass(frozen=True)
class Poisson(Count):
    """Poisson: Var(y) = mu. One predictor, the mean's.

    Examples
    --------
    >>> from ranef.families import Poisson
    >>> Poisson().log_density([0.0, 2.0], [[0.0, 0.0]]).round(4)
    array([-1.    , -1.6931])
    """

    name: ClassVar[str] = "poisson"

    def _variance(self, etas: Floats, extra: ArrayLike | None) -> Floats:
        return self.inverse_link(etas[0])

    def _simulate(self, rng: np.random.Generator, etas: Floats, extra: ArrayLike | None) -> Floats:
        return rng.poisson(self.inverse_link(etas[0])).astype(np.float64)


@dataclass(frozen=True)
class NegativeBinomial1(Count):
    """Negative binomial with linear variance: Var(y) = mu (1 + phi).

    Predictors: mean, log phi (glmmTMB's nbinom1).

    Examples
    --------
    >>> import numpy as np
    >>> from ranef.families import NegativeBinomial1
    >>> NegativeBinomial1().variance([[np.log(3.0)], [np.log(2.0)]])
    array([9.])
    """

    name: ClassVar[str] = "nbinom1"
    unitless: ClassVar[tuple[int, ...]] = (1,)
    others: ClassVar[tuple[Predictor, ...]] = PHI

    def _variance(self, etas: Floats, extra: ArrayLike | None) -> Floats:
        return np.asarray(self.inverse_link(etas[0]) * (1 + np.exp(etas[1])))

    def _simulate(self, rng: np.random.Generator, etas: Floats, extra: ArrayLike | None) -> Floats:
        phi = np.exp(etas[1])
        return _poisson_gamma(rng, self.inverse_link(etas[0]) / phi, phi)

    def _moment(self, mean: float, variance: float) -> float:
        return variance / mean - 1


@dataclass(frozen=True)
class NegativeBinomial2(Count):
    """Negative binomial with quadratic variance: Var(y) = mu (1 + mu / phi).

    Predictors: mean, log phi (glmmTMB's nbinom2, MASS's theta).

    Examples
    --------
    >>> import numpy as np
    >>> from ranef.families import NegativeBinomial2
    >>> NegativeBinomial2().variance([[np.log(3.0)], [np.log(2.0)]])
    array([7.5])
    """

    name: ClassVar[str] = "nbinom2"
    unitless: ClassVar[tuple[int, ...]] = (1,)
    others: ClassVar[tuple[Predictor, ...]] = PHI

    def _variance(self, etas: Floats, extra: ArrayLike | None) -> Floats:
        mu = self.inverse_link(etas[0])
        return np.asarray(mu * (1 + mu / np.exp(etas[1])))

    def _simulate(self, rng: np.random.Generator, etas: Floats, extra: ArrayLike | None) -> Floats:
        phi = np.exp(etas[1])
        return _poisson_gamma(rng, phi, self.inverse_link(etas[0]) / phi)

    def _moment(self, mean: float, variance: float) -> float:
        excess = variance - mean
        return mean**2 / excess if excess > 0 else LIMITS[1]


@dataclass(frozen=True)
class NegativeBinomial12(Count):
    """Negative binomial with linear and quadratic variance: Var(y) = mu (1 + phi + mu / psi).

    Predictors: mean, log phi, log psi (glmmTMB's nbinom12): nbinom1 where psi is large,
    nbinom2 where phi is small.

    Examples
    --------
    >>> import numpy as np
    >>> from ranef.families import NegativeBinomial12
    >>> NegativeBinomial12().variance([[np.log(3.0)], [np.log(2.0)], [np.log(1.5)]])
    array([15.])
    """

    name: ClassVar[str] = "nbinom12"
    unitless: ClassVar[tuple[int, ...]] = (1, 2)
    others: ClassVar[tuple[Predictor, ...]] = (*PHI, Predictor("shape", "log", "psi"))

    def _excess(self, etas: Floats) -> Floats:
        """Var(y) / mu - 1."""
        return np.asarray(np.exp(etas[1]) + self.inverse_link(etas[0]) * np.exp(-etas[2]))

    def _variance(self, etas: Floats, extra: ArrayLike | None) -> Floats:
        return np.asarray(self.inverse_link(etas[0]) * (1 + self._excess(etas)))

    def _simulate(self, rng: np.random.Generator, etas: Floats, extra: ArrayLike | None) -> Floats:
        mean = self.inverse_link(etas[0])
        excess = self._excess(etas)
        return _poisson_gamma(rng, mean / excess, excess)

    def _start(self, y: Floats, extra: Floats | None) -> Start:
        start = super()._start(y, extra)
        mean = max(centre(y), 1e-2)
        half = float(np.clip(0.5 * (spread(y) / mean - 1), *LIMITS))
        constants = [start.constants[0], np.log(half), np.log(mean / half)]
        return Start(np.array(constants), start.eta)


@dataclass(frozen=True)
class Bell(Count):
    """Bell (Castellares, Ferrari & Lemonte 2018): Var(y) = mu (1 + theta), theta exp(theta) = mu.

    One predictor, the mean's: overdispersed counts without a parameter for it.

    Examples
    --------
    >>> import numpy as np
    >>> from ranef.families import Bell
    >>> Bell().variance([[1.0]]).round(4)
    array([5.4366])
    """

    name: ClassVar[str] = "bell"

    def _theta(self, etas: Floats) -> Floats:
        from scipy.special import lambertw

        return np.asarray(lambertw(self.inverse_link(etas[0])).real)

    def _variance(self, etas: Floats, extra: ArrayLike | None) -> Floats:
        return np.asarray(self.inverse_link(etas[0]) * (1 + self._theta(etas)))

    def _simulate(self, rng: np.random.Generator, etas: Floats, extra: ArrayLike | None) -> Floats:
        # a Poisson number (mean exp(theta) - 1) of zero-truncated Poisson counts of mean theta
        theta, mean = self._theta(etas), self.inverse_link(etas[0])
        far = mean > FAR
        number = rng.poisson(np.where(far, 0.0, np.expm1(theta)))
        owner = np.repeat(np.arange(number.size), number)
        each = theta[owner]
        share = rng.random(each.size) * -np.expm1(-each)
        # the first arrival of a Poisson process that has one, and those after it
        first = -np.log1p(-share)
        counts = 1 + rng.poisson(each - first)
        y = np.bincount(owner, counts, minlength=number.size).astype(np.float64)
        y[far] = by_moments(rng, mean[far], (mean * (1 + theta))[far])
        return y


def _poisson_gamma(rng: np.random.Generator, shape: Floats, scale: Floats) -> Floats:
    return rng.poisson(np.minimum(rng.gamma(shape, scale), MOST)).astype(np.float64)


@dataclass(frozen=True)
class GeneralisedPoisson(Count):
    """Generalised Poisson (Consul and Famoye 1992): Var(y) = mu phi.

    Predictors: mean, log phi (glmmTMB's genpois). With phi < 1 the counts end
    where mu + (sqrt(phi) - 1) y reaches zero; the density is then, as is customary,
    not divided by its sum, and the moments are approximate.

    Examples
    --------
    >>> import numpy as np
    >>> from ranef.families import GeneralisedPoisson
    >>> GeneralisedPoisson().variance([[np.log(3.0)], [np.log(2.0)]])
    array([6.])
    """

    name: ClassVar[str] = "genpois"
    others: ClassVar[tuple[Predictor, ...]] = PHI

    def _variance(self, etas: Floats, extra: ArrayLike | None) -> Floats:
        return np.asarray(self.inverse_link(etas[0]) * np.exp(etas[1]))

    def _simulate(self, rng: np.random.Generator, etas: Floats, extra: ArrayLike | None) -> Floats:
        q = np.exp(-0.5 * etas[1])
        mean = self.inverse_link(etas[0])
        theta = mean * q

        def log_mass(rows: NDArray[np.int64], y: int) -> Floats:
            from scipy.special import gammaln

            if y == 0:
                return np.asarray(-theta[rows])
            rate = theta[rows] + (1 - q[rows]) * y
            with np.errstate(divide="ignore", invalid="ignore"):
                mass = np.log(theta[rows]) + (y - 1) * np.log(rate) - rate - gammaln(y + 1.0)
            return np.where(rate > 0, mass, -np.inf)

        return walked(rng, mean, lambda rows: self._variance(etas[:, rows], None), log_mass)

    def _moment(self, mean: float, variance: float) -> float:
        return variance / mean


@dataclass(frozen=True)
class ConwayMaxwellPoisson(Count):
    """Conway-Maxwell-Poisson by its mean (Huang 2017): P(y) = lambda^y / (y!)^nu / Z.

    Predictors: mean, log(1 / nu) (glmmTMB's compois). nu = 1 is Poisson; larger 1 / nu
    is wider. Var(y) has no closed form; it is about mu / nu.

    Examples
    --------
    >>> from ranef.families import ConwayMaxwellPoisson
    >>> ConwayMaxwellPoisson().log_density([2.0], [[0.0], [0.0]]).round(4)
    array([-1.6931])
    """

    name: ClassVar[str] = "compois"
    others: ClassVar[tuple[Predictor, ...]] = (Predictor("dispersion", "log", "1 / nu"),)

    def _variance(self, etas: Floats, extra: ArrayLike | None) -> Floats:
        zeros = np.zeros(etas.shape[1])
        # d log P(0) / d log mu = -mu^2 / Var(y)
        derivative = compois_log(self.inverse_link(etas[0]), etas[1], zeros, 1)[1]
        return np.asarray(-(self.inverse_link(etas[0]) ** 2) / derivative)

    def _simulate(self, rng: np.random.Generator, etas: Floats, extra: ArrayLike | None) -> Floats:
        mu, nu = np.maximum(self.inverse_link(etas[0]), LEAST), np.exp(-np.clip(etas[1], *NU_ENDS))
        zeros = np.zeros(mu.size)
        mass = compois_log(mu, etas[1], zeros, 0)[0]
        theta = compois_log(mu, etas[1], zeros + 1, 0)[0] - mass

        def log_mass(rows: NDArray[np.int64], y: int) -> Floats:
            if y:
                mass[rows] += theta[rows] - nu[rows] * np.log(y)
            return np.asarray(mass[rows])

        return walked(rng, mu, lambda rows: self._variance(etas[:, rows], None), log_mass)

    def _moment(self, mean: float, variance: float) -> float:
        # what the effects explain is in the variance too, and a wide distribution costs much
        return min(variance / mean, max(2.0, mean / WIDE))


def compois_log(mu: Floats, log_inverse_nu: Floats, y: Floats, order: int) -> Floats:
    """The Conway-Maxwell-Poisson log probability and its derivatives in log(mu)."""
    core = ConwayMaxwellPoisson().core()
    etas = np.ascontiguousarray(np.vstack([np.log(mu), log_inverse_nu]))
    return core.evaluate(y, None, etas, order, [0])
