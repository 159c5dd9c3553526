"""Families on the whole line: Gaussian, skew normal, Student t, Gaussian in intervals."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ranef.errors import DataError
from ranef.families.checks import require
from ranef.families.family import Family, Predictor, Start, centre, spread

__all__ = ["CensoredGaussian", "Gaussian", "SkewNormal", "StudentT"]

Floats = NDArray[np.float64]
LINE = ("identity", "log", "inverse", "sqrt", "logit")
"""Links of a mean that may be any number."""


def inside(link: str, mean: float, scale: float) -> float:
    """A mean to start from that the link can have."""
    if link == "identity":
        return mean
    positive = max(mean, 1e-3 * scale)
    return min(positive, 0.99) if link == "logit" else positive


@dataclass(frozen=True)
class Gaussian(Family):
    """Gaussian: Var(y) = sigma^2.

    Predictors: mean, log sigma. (glmmTMB before 1.1.8 reports log sigma^2.)

    Examples
    --------
    >>> from ranef.families import Gaussian
    >>> [p.label for p in Gaussian().parameters]
    ['mean', 'sigma']
    """

    link: str = "identity"

    name: ClassVar[str] = "gaussian"
    links: ClassVar[tuple[str, ...]] = LINE
    others: ClassVar[tuple[Predictor, ...]] = (Predictor("dispersion", "log", "sigma"),)

    def _variance(self, etas: Floats, extra: ArrayLike | None) -> Floats:
        return np.asarray(np.exp(2 * etas[1]))

    def _simulate(self, rng: np.random.Generator, etas: Floats, extra: ArrayLike | None) -> Floats:
        return rng.normal(self.inverse_link(etas[0]), np.exp(etas[1]))

    def _check(self, y: Floats, extra: Floats | None, excused: NDArray[np.bool_]) -> None:
        require(self.name, "finite numbers", y, np.isfinite(y))

    def _start(self, y: Floats, extra: Floats | None) -> Start:
        mean = inside(self.link, centre(y), np.sqrt(spread(y)))
        eta = np.array(y) if self.link == "identity" else None
        return Start(np.array([self.link_function(mean), 0.5 * np.log(spread(y))]), eta)


@dataclass(frozen=True)
class CensoredGaussian(Gaussian):
    """Gaussian known to lie between a lower end (y) and an upper end (``extra``).

    Equal ends are an observation, an infinite end is none: y = -inf is left-censored,
    extra = inf right-censored. Predictors: mean, log sigma, those of the uncensored
    response, of which `mean` and `variance` speak and which `simulate` draws.

    Examples
    --------
    >>> import numpy as np
    >>> from ranef.families import CensoredGaussian
    >>> f = CensoredGaussian()
    >>> f.log_density([-np.inf], [[0.0], [0.0]], [0.0]).round(4)
    array([-0.6931])
    """

    name: ClassVar[str] = "censored"
    response: ClassVar[str] = "interval"

    def _check(self, y: Floats, extra: Floats | None, excused: NDArray[np.bool_]) -> None:
        upper = y if extra is None else extra
        ordered = (y <= upper) & (y < np.inf) & (upper > -np.inf)
        needs = "a lower end that is not above the upper end, the ends not both at one infinity"
        require(self.name, needs, y, ordered)
        if not np.any(np.isfinite(y) | np.isfinite(upper)):
            raise DataError(
                f"{self.name} needs at least one finite end; all {y.size:,} rows have none"
            )

    def _start(self, y: Floats, extra: Floats | None) -> Start:
        upper = y if extra is None else extra
        known = np.isfinite(y) | np.isfinite(upper)
        lower, upper = y[known], upper[known]
        middle = np.where(np.isfinite(lower), lower, upper)
        both = np.isfinite(lower) & np.isfinite(upper)
        middle[both] += 0.5 * (upper[both] - lower[both])
        return Start(super()._start(middle, None).constants)


@dataclass(frozen=True)
class SkewNormal(Family):
    """Skew normal (Azzalini 1985) by its mean and standard deviation: Var(y) = sigma^2.

    Predictors: mean, log sigma, and the shape alpha as it is (glmmTMB's skewnormal): zero is
    the normal, a positive one is skewed to the right. At zero the likelihood is flat in alpha
    to second order, whatever the data.

    Examples
    --------
    >>> from ranef.families import SkewNormal
    >>> SkewNormal().log_density([0.5], [[0.0], [0.0], [0.0]]).round(4)
    array([-1.0439])
    """

    link: str = "identity"

    name: ClassVar[str] = "skewnormal"
    links: ClassVar[tuple[str, ...]] = LINE
    others: ClassVar[tuple[Predictor, ...]] = (
        Predictor("dispersion", "log", "sigma"),
        Predictor("shape", "identity", "alpha"),
    )

    def _variance(self, etas: Floats, extra: ArrayLike | None) -> Floats:
        return np.asarray(np.exp(2 * etas[1]))

    def _simulate(self, rng: np.random.Generator, etas: Floats, extra: ArrayLike | None) -> Floats:
        mean, sigma, alpha = self.inverse_link(etas[0]), np.exp(etas[1]), etas[2]
        delta = alpha / np.sqrt(1 + alpha**2)
        omega = sigma / np.sqrt(1 - 2 * delta**2 / np.pi)
        u, v = np.abs(rng.standard_normal(mean.shape)), rng.standard_normal(mean.shape)
        z = delta * u + np.sqrt(1 - delta**2) * v
        return np.asarray(mean + omega * (z - delta * np.sqrt(2 / np.pi)))

    def _check(self, y: Floats, extra: Floats | None, excused: NDArray[np.bool_]) -> None:
        require(self.name, "finite numbers", y, np.isfinite(y))

    def _start(self, y: Floats, extra: Floats | None) -> Start:
        normal = Gaussian(self.link)._start(y, extra)
        skewness = float(np.mean((y - centre(y)) ** 3) / spread(y) ** 1.5) if y.size else 0.0
        return Start(np.append(normal.constants, _alpha(skewness)), normal.eta)


def _alpha(skewness: float) -> float:
    """The shape of a skew normal distribution by its skewness, at least 1: zero is stationary."""
    size = min(abs(skewness), 0.9) ** (2 / 3)
    m = size / (size + ((4 - np.pi) / 2) ** (2 / 3))  # (delta sqrt(2 / pi))^2 of the standard one
    delta = min(np.sqrt(np.pi / 2 * m), 0.995)
    alpha = float(delta / np.sqrt(1 - delta**2))
    return float(np.copysign(max(alpha, 1.0), skewness))


@dataclass(frozen=True)
class StudentT(Family):
    """Student t with location mu and scale sigma: Var(y) = sigma^2 df / (df - 2).

    Predictors: location, log sigma, log df (a shape, usually one constant).

    Examples
    --------
    >>> import numpy as np
    >>> from ranef.families import StudentT
    >>> StudentT().variance([[0.0], [np.log(2.0)], [np.log(4.0)]])
    array([8.])
    """

    link: str = "identity"

    name: ClassVar[str] = "t"
    unitless: ClassVar[tuple[int, ...]] = (2,)
    links: ClassVar[tuple[str, ...]] = LINE
    others: ClassVar[tuple[Predictor, ...]] = (
        Predictor("dispersion", "log", "sigma"),
        Predictor("shape", "log", "df"),
    )

    def _variance(self, etas: Floats, extra: ArrayLike | None) -> Floats:
        df = np.exp(etas[2])
        with np.errstate(divide="ignore", invalid="ignore"):
            factor = np.where(df > 2, 1 / (1 - 2 / df), np.inf)
        return np.asarray(np.exp(2 * etas[1]) * factor)

    def _simulate(self, rng: np.random.Generator, etas: Floats, extra: ArrayLike | None) -> Floats:
        z = rng.standard_t(np.exp(etas[2]))
        return np.asarray(self.inverse_link(etas[0]) + np.exp(etas[1]) * z)

    def _check(self, y: Floats, extra: Floats | None, excused: NDArray[np.bool_]) -> None:
        require(self.name, "finite numbers", y, np.isfinite(y))

    def _start(self, y: Floats, extra: Floats | None) -> Start:
        middle = float(np.median(y)) if y.size else 0.0
        scale = 1.4826 * float(np.median(np.abs(y - middle))) if y.size else 1.0
        scale = scale if scale > 0 else np.sqrt(spread(y))
        location = inside(self.link, middle, scale)
        return Start(np.array([self.link_function(location), np.log(scale), np.log(5.0)]))
