"""What all families have: predictors, core, mean, variance, draws, checks, starts."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ranef import _core
from ranef.errors import ModelError, suggestion
from ranef.families.links import LINKS, expit, logit

__all__ = ["Family", "Predictor", "Start"]

Floats = NDArray[np.float64]


DRAWABLE = 40.0
"""Logarithm of a dispersion or shape without a unit, beyond which a family is at its end."""


@dataclass(frozen=True)
class Predictor:
    """What one linear predictor of a family is.

    Attributes
    ----------
    name : str
        ``"mean"``, ``"dispersion"``, ``"shape"``, ``"threshold"`` or ``"zero"``.
    link : str
        The link from the parameter to the predictor.
    label : str
        The parameter as it is printed, such as ``"sigma"`` or ``"df"``.
    """

    name: str
    link: str
    label: str


@dataclass(frozen=True, eq=False)
class Start:
    """Where a search may start.

    Attributes
    ----------
    constants : (M,) array
        A constant for each predictor.
    eta : (n,) array or None
        A predictor of the mean for each row, where that is customary.
    thresholds : (k,) array or None
        The threshold parameters of a cumulative family.
    """

    constants: Floats
    eta: Floats | None = None
    thresholds: Floats | None = None


@lru_cache(maxsize=256)
def compiled(name: str, link: str, zero: bool, categories: int) -> _core.Family:
    """Return the compiled family of that name; it has no state, so one serves all."""
    return _core.make_family(name, link, zero, categories)


def columns(etas: ArrayLike) -> Floats:
    """Return predictors as an (M, n) array."""
    etas = np.asarray(etas, dtype=np.float64)
    return etas[:, None] if etas.ndim == 1 else etas


def centre(y: Floats) -> float:
    """The mean of y, or 1 of nothing."""
    return float(np.mean(y)) if y.size else 1.0


def spread(y: Floats) -> float:
    """The variance of y, positive."""
    v = float(np.var(y)) if y.size else 1.0
    return v if v > 0 else 1e-8


@dataclass(frozen=True)
class Family(ABC):
    """A family of distributions of a response given its linear predictors.

    ``etas`` is (M, n): the mean's predictor, then those of `parameters`, then zero
    inflation's if ``zero``. ``extra`` is what a row is besides y: trials, the upper end
    of an interval, the number of categories.

    Attributes
    ----------
    link : str
        The link of the mean.
    name : str
        R's and glmmTMB's name.
    response : str
        What a response is: ``"numbers"``; ``"successes"``, with trials; ``"interval"``,
        with upper ends; ``"ordered categories"``, with their number; ``"categories"``.
    unitless : tuple of int
        Predictors of dispersions and shapes, on the log scale, that have no unit.
    drawn : tuple of float
        Least and largest mean with which responses are drawn.
    """

    link: str

    name: ClassVar[str]
    response: ClassVar[str] = "numbers"
    links: ClassVar[tuple[str, ...]]
    others: ClassVar[tuple[Predictor, ...]] = ()
    unitless: ClassVar[tuple[int, ...]] = ()
    drawn: ClassVar[tuple[float, float]] = (-np.inf, np.inf)
    takes_zero: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if self.link not in self.links:
            raise ModelError(
                f"the family {self.name!r} takes no link {self.link!r}"
                f"{suggestion(str(self.link), self.links)}; it takes {', '.join(self.links)}"
            )

    # --- what it is

    @property
    def parameters(self) -> tuple[Predictor, ...]:
        return (Predictor("mean", self.link, "mean"), *self.others)

    def predictors(self, zero: bool = False) -> tuple[Predictor, ...]:
        """Return `parameters`, with the zero-inflation predictor last if ``zero``."""
        if not zero:
            return self.parameters
        self._may_have_zero()
        return (*self.parameters, Predictor("zero", "logit", "probability of an extra zero"))

    def core(self, zero: bool = False) -> _core.Family:
        """Return the compiled family: log density and derivatives."""
        if zero:
            self._may_have_zero()
        return compiled(self.name, self.link, zero, 0)

    def _may_have_zero(self) -> None:
        if not self.takes_zero:
            raise ModelError(f"the family {self.name!r} takes no zero inflation; leave zero out")

    def link_function(self, mu: ArrayLike) -> Floats:
        """Return the predictor of a mean."""
        return LINKS[self.link].function(np.asarray(mu, dtype=np.float64))

    def inverse_link(self, eta: ArrayLike) -> Floats:
        """Return the mean of a predictor."""
        return LINKS[self.link].inverse(np.asarray(eta, dtype=np.float64))

    def inverse_link_derivatives(self, eta: ArrayLike) -> tuple[Floats, Floats]:
        """Return the first and second derivative of the mean in its predictor."""
        eta = np.asarray(eta, dtype=np.float64)
        return LINKS[self.link].first(eta), LINKS[self.link].second(eta)

    def log_density(
        self, y: ArrayLike, etas: ArrayLike, extra: ArrayLike | None = None, *, zero: bool = False
    ) -> Floats:
        """Return the log density of each row, all constants included.

        Parameters
        ----------
        y : (n,) array
        etas : (M, n) array
        extra : (n,) array, optional
        zero : bool
            Whether the last predictor is that of zero inflation.

        Returns
        -------
        (n,) array
        """
        y = np.ascontiguousarray(y, dtype=np.float64)
        etas = columns(etas)
        etas = np.ascontiguousarray(np.broadcast_to(etas, (len(etas), y.size)))
        if extra is not None:
            extra = np.ascontiguousarray(
                np.broadcast_to(np.asarray(extra, dtype=np.float64), y.shape)
            )
        return np.asarray(self.core(zero).evaluate(y, extra, etas, 0, [])[0])

    # --- moments and draws of a response

    def mean(
        self, etas: ArrayLike, extra: ArrayLike | None = None, *, zero: bool = False
    ) -> Floats:
        """Return the mean of the response, (n,), zero inflation included."""
        etas = columns(etas)
        if not zero:
            return self._mean(etas, extra)
        return self._mean(etas[:-1], extra) * expit(-etas[-1])

    def variance(
        self, etas: ArrayLike, extra: ArrayLike | None = None, *, zero: bool = False
    ) -> Floats:
        """Return the variance of the response, (n,), zero inflation included."""
        etas = columns(etas)
        if not zero:
            return self._variance(etas, extra)
        mean, rest = self._mean(etas[:-1], extra), expit(-etas[-1])
        return rest * (self._variance(etas[:-1], extra) + expit(etas[-1]) * mean**2)

    @property
    def mean_link(self) -> str | None:
        """Return the link of the response's mean, None where that is no link of one predictor.

        Of a binomial response it is that of the probability.
        """
        return self.link

    @property
    def in_mean(self) -> tuple[int, ...]:
        """Return the predictors that the mean depends on, zero inflation apart."""
        return (0,)

    def mean_derivatives(
        self, etas: ArrayLike, extra: ArrayLike | None = None, *, zero: bool = False
    ) -> Floats:
        """Return the derivatives of `mean` in each predictor, (M, n).

        Of families of categories they are (M, n, J).

        Examples
        --------
        >>> from ranef.families import Poisson
        >>> Poisson().mean_derivatives([[0.0]])
        array([[1.]])
        """
        etas = columns(etas)
        if not zero:
            return self._mean_derivatives(etas, extra)
        rest = expit(-etas[-1])
        slopes = self._mean_derivatives(etas[:-1], extra) * rest
        last = -self._mean(etas[:-1], extra) * rest * expit(etas[-1])
        return np.vstack([slopes, last])

    def simulate(
        self,
        rng: np.random.Generator,
        etas: ArrayLike,
        extra: ArrayLike | None = None,
        *,
        zero: bool = False,
    ) -> Floats:
        """Return a draw of the response for each row, (n,)."""
        etas = self.drawable(columns(etas))
        with np.errstate(over="ignore", divide="ignore"):  # at the ends of a dispersion
            y = self._simulate(rng, etas[:-1] if zero else etas, extra)
        if not zero:
            return y
        return np.where(rng.random(y.shape) < expit(etas[-1]), 0.0, y)

    def drawable(self, etas: Floats) -> Floats:
        """Predictors within what can be drawn from.

        Draws of uncertain coefficients may lie where a mean has no value (below zero with
        the identity link, beyond infinity with the inverse one): the nearest one counts.
        """
        at, (low, high) = list(self.unitless), self._drawn_predictors()
        wide = np.any(np.abs(etas[at]) > DRAWABLE)
        if not wide and not np.any((etas[0] < low) | (etas[0] > high)):
            return etas
        out = etas.copy()
        out[at] = np.clip(etas[at], -DRAWABLE, DRAWABLE)
        out[0] = np.clip(etas[0], low, high)
        return out

    def _drawn_predictors(self) -> tuple[float, float]:
        """Least and largest predictor of a mean with which responses are drawn."""
        if not np.isfinite(self.drawn).all():
            return -np.inf, np.inf
        with np.errstate(divide="ignore"):
            low, high = np.sort(self.link_function(np.array(self.drawn)))
        return (-high, high) if self.link == "sqrt" else (low, high)

    @abstractmethod
    def _variance(self, etas: Floats, extra: ArrayLike | None) -> Floats: ...

    @abstractmethod
    def _simulate(
        self, rng: np.random.Generator, etas: Floats, extra: ArrayLike | None
    ) -> Floats: ...

    def _mean(self, etas: Floats, extra: ArrayLike | None) -> Floats:
        return self.inverse_link(etas[0])

    def _mean_derivatives(self, etas: Floats, extra: ArrayLike | None) -> Floats:
        slopes = np.zeros(etas.shape)
        slopes[0] = self.inverse_link_derivatives(etas[0])[0]
        return slopes

    # --- a response at hand

    def check(self, y: ArrayLike, extra: ArrayLike | None = None, *, zero: bool = False) -> None:
        """Refuse a response that the family cannot have.

        Raises
        ------
        DataError
            Naming the first bad row (counted from 0), its value, and how many there are.
        """
        y = np.asarray(y, dtype=np.float64)
        extra = None if extra is None else np.broadcast_to(np.asarray(extra, np.float64), y.shape)
        if zero:
            self._may_have_zero()
        self._check(y, extra, (y == 0) if zero else np.zeros(y.shape, dtype=bool))

    @abstractmethod
    def _check(self, y: Floats, extra: Floats | None, excused: NDArray[np.bool_]) -> None:
        """Refuse bad rows; those ``excused`` are zeros of a zero-inflated family."""

    def start(self, y: ArrayLike, extra: ArrayLike | None = None, *, zero: bool = False) -> Start:
        """Return constants for the predictors, by moments, and a mean for each row.

        Parameters
        ----------
        y : (n,) array
        extra : (n,) array, optional
        zero : bool
            Whether there is a zero-inflation predictor; it starts at half of the zeros.
        """
        y = np.asarray(y, dtype=np.float64)
        extra = None if extra is None else np.broadcast_to(np.asarray(extra, np.float64), y.shape)
        if not zero:
            return self._start(y, extra)
        some = y != 0
        part = self._start(y[some], None if extra is None else extra[some])
        share = np.clip(0.5 * np.mean(~some), 0.01, 0.9)
        return Start(np.append(part.constants, logit(share)))

    @abstractmethod
    def _start(self, y: Floats, extra: Floats | None) -> Start: ...
