"""Families of positive responses, and Tweedie's, which may be zero."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ranef.families.checks import require
from ranef.families.family import Family, Predictor, Start, centre, spread
from ranef.families.links import expit, softplus

__all__ = ["Gamma", "InverseGaussian", "Lognormal", "Tweedie"]

Floats = NDArray[np.float64]

LEAST = float(np.finfo(np.float64).tiny)
MOST_JUMPS = 1e15
"""Jumps of a Tweedie response beyond which it is its mean."""


@dataclass(frozen=True)
class Positive(Family):
    """What families of positive responses share."""

    link: str = "log"

    links: ClassVar[tuple[str, ...]] = ("log", "identity", "inverse", "sqrt")
    drawn: ClassVar[tuple[float, float]] = (1e-150, 1e150)
    takes_zero: ClassVar[bool] = True

    def _check(self, y: Floats, extra: Floats | None, excused: NDArray[np.bool_]) -> None:
        right = ((y > 0) & np.isfinite(y)) | excused
        hint = "; with zero='~ 1' zeros have a part of their own" if np.any(y == 0) else ""
        require(self.name, "positive numbers", y, right, hint)

    def _start(self, y: Floats, extra: Floats | None) -> Start:
        mean = max(centre(y), 1e-300)
        constants = [float(self.link_function(mean)), self._dispersion(mean, spread(y))]
        return Start(np.array(constants), self.link_function(y))

    def _dispersion(self, mean: float, variance: float) -> float:
        """The dispersion predictor of a response with these moments."""
        return 0.5 * float(np.log(variance))


@dataclass(frozen=True)
class Gamma(Positive):
    """Gamma with shape 1 / sigma^2: Var(y) = (sigma mu)^2.

    Predictors: mean, log sigma. The link is by default the inverse, as in R; ``"log"``
    keeps the mean positive. With ``zero``, zeros have a part of their own (glmmTMB's ziGamma).

    Examples
    --------
    >>> import numpy as np
    >>> from ranef.families import Gamma
    >>> Gamma(link="log").variance([[np.log(3.0)], [np.log(0.5)]])
    array([2.25])
    """

    link: str = "inverse"

    name: ClassVar[str] = "Gamma"
    others: ClassVar[tuple[Predictor, ...]] = (Predictor("dispersion", "log", "sigma"),)

    def _variance(self, etas: Floats, extra: ArrayLike | None) -> Floats:
        return np.asarray((np.exp(etas[1]) * self.inverse_link(etas[0])) ** 2)

    def _simulate(self, rng: np.random.Generator, etas: Floats, extra: ArrayLike | None) -> Floats:
        shape = np.exp(-2 * etas[1])
        return np.asarray(rng.gamma(shape, self.inverse_link(etas[0]) / shape))

    def _dispersion(self, mean: float, variance: float) -> float:
        return 0.5 * float(np.log(variance)) - float(np.log(mean))


@dataclass(frozen=True)
class InverseGaussian(Positive):
    """Inverse Gaussian: Var(y) = phi mu^3.

    Predictors: mean, log phi. The link is by default the log; R's is ``"1/mu^2"``.

    Examples
    --------
    >>> import numpy as np
    >>> from ranef.families import InverseGaussian
    >>> InverseGaussian().variance([[np.log(2.0)], [np.log(0.5)]])
    array([4.])
    """

    name: ClassVar[str] = "inverse.gaussian"
    links: ClassVar[tuple[str, ...]] = ("log", "identity", "inverse", "sqrt", "1/mu^2")
    others: ClassVar[tuple[Predictor, ...]] = (Predictor("dispersion", "log", "phi"),)

    def _variance(self, etas: Floats, extra: ArrayLike | None) -> Floats:
        return np.asarray(np.exp(etas[1]) * self.inverse_link(etas[0]) ** 3)

    def _simulate(self, rng: np.random.Generator, etas: Floats, extra: ArrayLike | None) -> Floats:
        # Michael, Schucany & Haas 1976, Am. Stat. 30: both roots of the quadratic without what
        # cancels, so that a dispersion of any size keeps its distribution
        mu = self.inverse_link(etas[0])
        with np.errstate(over="ignore"):
            r = 0.5 * mu * np.exp(etas[1]) * rng.chisquare(1.0, mu.shape)
            low = 1.0 / (1.0 + r + np.sqrt(r) * np.sqrt(2.0 + r))
        low = np.maximum(low, LEAST)
        y = np.where(rng.random(mu.shape) * (1.0 + low) <= 1.0, low, 1.0 / low)
        return np.asarray(np.maximum(mu * y, LEAST))

    def _dispersion(self, mean: float, variance: float) -> float:
        return float(np.log(variance)) - 3 * float(np.log(mean))


@dataclass(frozen=True)
class Lognormal(Positive):
    """Lognormal by the mean and standard deviation of y itself: Var(y) = sigma^2.

    Predictors: mean, log sigma (glmmTMB's lognormal).

    Examples
    --------
    >>> import numpy as np
    >>> from ranef.families import Lognormal
    >>> Lognormal().variance([[np.log(2.0)], [np.log(3.0)]])
    array([9.])
    """

    name: ClassVar[str] = "lognormal"
    others: ClassVar[tuple[Predictor, ...]] = (Predictor("dispersion", "log", "sigma"),)

    def _variance(self, etas: Floats, extra: ArrayLike | None) -> Floats:
        return np.asarray(np.exp(2 * etas[1]))

    def _simulate(self, rng: np.random.Generator, etas: Floats, extra: ArrayLike | None) -> Floats:
        log_mu = np.log(self.inverse_link(etas[0]))
        s2 = softplus(2 * (etas[1] - log_mu))
        return rng.lognormal(log_mu - 0.5 * s2, np.sqrt(s2))


@dataclass(frozen=True)
class Tweedie(Positive):
    """Tweedie, a Poisson number of gamma variates: Var(y) = phi mu^p, 1 < p < 2.

    Predictors: mean, log phi, logit(p - 1) (a shape, usually one constant). y may be zero.
    The density's series is exact within 1e-12 times the sum of the magnitudes of its
    largest term's factors (see ``cpp/families/tweedie.cpp``).

    Examples
    --------
    >>> import numpy as np
    >>> from ranef.families import Tweedie
    >>> Tweedie().variance([[np.log(4.0)], [0.0], [0.0]])
    array([8.])
    """

    name: ClassVar[str] = "tweedie"
    others: ClassVar[tuple[Predictor, ...]] = (
        Predictor("dispersion", "log", "phi"),
        Predictor("shape", "logit(p - 1)", "p"),
    )

    def _variance(self, etas: Floats, extra: ArrayLike | None) -> Floats:
        return np.asarray(
            np.exp(etas[1] + (1 + expit(etas[2])) * np.log(self.inverse_link(etas[0])))
        )

    def _simulate(self, rng: np.random.Generator, etas: Floats, extra: ArrayLike | None) -> Floats:
        log_mu = np.log(self.inverse_link(etas[0]))
        less, more = expit(-etas[2]), expit(etas[2])  # 2 - p, p - 1
        rate = np.exp(less * log_mu - etas[1]) / np.maximum(less, 1e-300)
        number = rng.poisson(np.minimum(rate, MOST_JUMPS))
        scale = np.exp(etas[1] + more * log_mu) * more
        sums = rng.gamma(np.maximum(number, 1) * (less / more), scale)
        return np.where(rate > MOST_JUMPS, np.exp(log_mu), np.where(number > 0, sums, 0.0))

    def _check(self, y: Floats, extra: Floats | None, excused: NDArray[np.bool_]) -> None:
        require(self.name, "numbers from 0", y, (y >= 0) & np.isfinite(y))

    def _start(self, y: Floats, extra: Floats | None) -> Start:
        mean = max(centre(y), 1e-300)
        log_phi = np.log(spread(y)) - 1.5 * np.log(mean)
        constants = np.array([float(self.link_function(mean)), log_phi, 0.0])
        return Start(constants, self.link_function(y + 0.1 * mean))
