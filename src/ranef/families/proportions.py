"""Families of successes of trials, and of proportions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ranef.families.checks import require, whole
from ranef.families.family import Family, Predictor, Start, centre, spread
from ranef.families.links import expit, logit

__all__ = ["Beta", "BetaBinomial", "Binomial", "OrderedBeta"]

Floats = NDArray[np.float64]
PHI = Predictor("dispersion", "log", "phi")
DRAWN = (1e-290, 1 - 1e-15)
"""Least and largest mean of a beta distribution that is drawn from."""
BEYOND = 32.0
"""So far from the mean, on the scale of the logit, nothing lies beyond a cut."""
LINKS = ("logit", "probit", "cloglog", "cauchit", "log", "identity")


def trials(y: ArrayLike, extra: ArrayLike | None) -> Floats:
    """The number of trials of each row: 1 where none is given."""
    return np.ones(np.shape(y)) if extra is None else np.asarray(extra, dtype=np.float64)


def inside(p: ArrayLike) -> Floats:
    return np.clip(p, 1e-3, 1 - 1e-3)


@dataclass(frozen=True)
class Binomial(Family):
    """Binomial: y successes of n trials (``extra``; 1 without): Var(y) = n mu (1 - mu).

    One predictor, that of the probability mu; `mean` is n mu.

    Examples
    --------
    >>> from ranef.families import Binomial
    >>> f = Binomial(link="logit")
    >>> f.log_density([3.0], [[0.0]], [4.0]).round(4)
    array([-1.3863])
    >>> f.check([3.0, 5.0], [4.0, 4.0])
    Traceback (most recent call last):
    ranef.families.checks.ResponseError: binomial needs whole numbers from 0 to the number of
    trials; row 1 has 5; 1 row is like this
    """

    link: str = "logit"

    name: ClassVar[str] = "binomial"
    response: ClassVar[str] = "successes"
    links: ClassVar[tuple[str, ...]] = LINKS
    drawn: ClassVar[tuple[float, float]] = (0.0, 1.0)
    takes_zero: ClassVar[bool] = True

    def _mean(self, etas: Floats, extra: ArrayLike | None) -> Floats:
        return trials(etas[0], extra) * self.inverse_link(etas[0])

    def _mean_derivatives(self, etas: Floats, extra: ArrayLike | None) -> Floats:
        return super()._mean_derivatives(etas, extra) * trials(etas[0], extra)

    def _variance(self, etas: Floats, extra: ArrayLike | None) -> Floats:
        p = self.inverse_link(etas[0])
        return trials(p, extra) * p * (1 - p)

    def _simulate(self, rng: np.random.Generator, etas: Floats, extra: ArrayLike | None) -> Floats:
        n = trials(etas[0], extra).astype(np.int64)
        return rng.binomial(n, self.inverse_link(etas[0])).astype(np.float64)

    def _check(self, y: Floats, extra: Floats | None, excused: NDArray[np.bool_]) -> None:
        n = trials(y, extra)
        require(self.name, "whole numbers of trials from 0", n, whole(n) & (n >= 0))
        needs = "whole numbers from 0 to the number of trials" if extra is not None else "0 or 1"
        hint = "; counts are written cbind(success, failure), proportions take trials as weights"
        require(self.name, needs, y, whole(y) & (y >= 0) & (y <= n), hint if extra is None else "")

    def _start(self, y: Floats, extra: Floats | None) -> Start:
        n = trials(y, extra)
        p = inside(y.sum() / max(n.sum(), 1.0))
        constants = [float(self.link_function(p)), *self._dispersion()]
        return Start(np.array(constants), self.link_function((y + 0.5) / (n + 1)))

    def _dispersion(self) -> tuple[float, ...]:
        return ()


@dataclass(frozen=True)
class BetaBinomial(Binomial):
    """Beta-binomial (Morris 1997): Var(y) = n mu (1 - mu) (phi + n) / (phi + 1).

    Predictors: mean, log phi (glmmTMB's betabinomial). Large phi is binomial.

    Examples
    --------
    >>> import numpy as np
    >>> from ranef.families import BetaBinomial
    >>> BetaBinomial().variance([[0.0], [np.log(3.0)]], [4.0])
    array([1.75])
    """

    name: ClassVar[str] = "betabinomial"
    unitless: ClassVar[tuple[int, ...]] = (1,)
    drawn: ClassVar[tuple[float, float]] = DRAWN
    others: ClassVar[tuple[Predictor, ...]] = (PHI,)

    def _variance(self, etas: Floats, extra: ArrayLike | None) -> Floats:
        n, phi = trials(etas[0], extra), np.exp(etas[1])
        return np.asarray(super()._variance(etas, extra) * (phi + n) / (phi + 1))

    def _simulate(self, rng: np.random.Generator, etas: Floats, extra: ArrayLike | None) -> Floats:
        p, phi = self.inverse_link(etas[0]), np.exp(etas[1])
        n = trials(p, extra).astype(np.int64)
        return rng.binomial(n, rng.beta(p * phi, (1 - p) * phi)).astype(np.float64)

    def _dispersion(self) -> tuple[float, ...]:
        return (float(np.log(10.0)),)


@dataclass(frozen=True)
class Beta(Family):
    """Beta: Var(y) = mu (1 - mu) / (1 + phi), y strictly between 0 and 1.

    Predictors: mean, log phi (Ferrari and Cribari-Neto 2004; glmmTMB's beta). With
    ``zero``, zeros have a part of their own.

    Examples
    --------
    >>> import numpy as np
    >>> from ranef.families import Beta
    >>> Beta().variance([[0.0], [np.log(4.0)]])
    array([0.05])
    """

    link: str = "logit"

    name: ClassVar[str] = "beta"
    unitless: ClassVar[tuple[int, ...]] = (1,)
    links: ClassVar[tuple[str, ...]] = LINKS
    drawn: ClassVar[tuple[float, float]] = DRAWN
    others: ClassVar[tuple[Predictor, ...]] = (PHI,)
    takes_zero: ClassVar[bool] = True

    def _variance(self, etas: Floats, extra: ArrayLike | None) -> Floats:
        p = self.inverse_link(etas[0])
        return np.asarray(p * (1 - p) / (1 + np.exp(etas[1])))

    def _simulate(self, rng: np.random.Generator, etas: Floats, extra: ArrayLike | None) -> Floats:
        p, phi = self.inverse_link(etas[0]), np.exp(etas[1])
        return np.asarray(rng.beta(p * phi, (1 - p) * phi))

    def _check(self, y: Floats, extra: Floats | None, excused: NDArray[np.bool_]) -> None:
        right = ((y > 0) & (y < 1)) | excused
        ends = np.any((y == 0) | (y == 1))
        hint = "; the ordered beta family (ordbeta) has 0 and 1 in it" if ends else ""
        require(self.name, "numbers between 0 and 1, both excluded", y, right, hint)

    def _start(self, y: Floats, extra: Floats | None) -> Start:
        p = float(inside(centre(y)))
        constants = np.array([float(self.link_function(p)), _log_phi(p, spread(y))])
        return Start(constants, self.link_function(inside(y)))


def _log_phi(mean: float, variance: float) -> float:
    return float(np.log(np.clip(mean * (1 - mean) / variance - 1, 1e-2, 1e6)))


@dataclass(frozen=True)
class OrderedBeta(Family):
    """Ordered beta (Kubinec 2022): proportions with 0 and 1 among them.

    P(y = 0) = expit(cut1 - eta), P(y = 1) = expit(eta - cut2), and between them a beta
    variate with mean expit(eta) and variance mu (1 - mu) / (1 + phi). Predictors: mean,
    log phi, cut1, log(cut2 - cut1) (the shapes are usually constants; glmmTMB's ordbeta).

    Examples
    --------
    >>> from ranef.families import OrderedBeta
    >>> OrderedBeta().mean([[0.0], [1.0], [-2.0], [1.0]]).round(4)
    array([0.6043])
    """

    link: str = "logit"

    name: ClassVar[str] = "ordbeta"
    unitless: ClassVar[tuple[int, ...]] = (1,)
    links: ClassVar[tuple[str, ...]] = ("logit",)
    drawn: ClassVar[tuple[float, float]] = DRAWN
    others: ClassVar[tuple[Predictor, ...]] = (
        PHI,
        Predictor("shape", "identity", "cut 1"),
        Predictor("shape", "log", "cut 2 - cut 1"),
    )

    @staticmethod
    def _shares(etas: Floats) -> tuple[Floats, Floats]:
        cut2 = etas[2] + np.exp(etas[3])
        return expit(etas[2] - etas[0]), expit(etas[0] - cut2)

    def _mean(self, etas: Floats, extra: ArrayLike | None) -> Floats:
        zero, one = self._shares(etas)
        return one + (1 - zero - one) * self.inverse_link(etas[0])

    @property
    def mean_link(self) -> str | None:
        return None

    @property
    def in_mean(self) -> tuple[int, ...]:
        return (0, 2, 3)

    def _mean_derivatives(self, etas: Floats, extra: ArrayLike | None) -> Floats:
        zero, one = self._shares(etas)
        p, gap = self.inverse_link(etas[0]), np.exp(etas[3])
        dp, dzero, done = p * (1 - p), zero * (1 - zero), one * (1 - one)
        slopes = np.zeros(etas.shape)
        slopes[0] = done + (dzero - done) * p + (1 - zero - one) * dp
        slopes[2] = (done - dzero) * p - done
        slopes[3] = -done * (1 - p) * gap
        return slopes

    def _variance(self, etas: Floats, extra: ArrayLike | None) -> Floats:
        zero, one = self._shares(etas)
        p = self.inverse_link(etas[0])
        second = p * (1 - p) / (1 + np.exp(etas[1])) + p * p
        return np.asarray(one + (1 - zero - one) * second - self._mean(etas, extra) ** 2)

    def _simulate(self, rng: np.random.Generator, etas: Floats, extra: ArrayLike | None) -> Floats:
        zero, one = self._shares(etas)
        p, phi = self.inverse_link(etas[0]), np.exp(etas[1])
        y = rng.beta(p * phi, (1 - p) * phi)
        u = rng.random(p.size)
        return np.where(u < zero, 0.0, np.where(u > 1 - one, 1.0, y))

    def _check(self, y: Floats, extra: Floats | None, excused: NDArray[np.bool_]) -> None:
        require(self.name, "numbers from 0 to 1", y, (y >= 0) & (y <= 1))
        ends = (y == 0) | (y == 1)
        hint = "; a response of 0 and 1 alone is binomial"
        require(self.name, "numbers between 0 and 1", y, ~ends | ~ends.all(), hint)

    def _start(self, y: Floats, extra: Floats | None) -> Start:
        between = y[(y > 0) & (y < 1)]
        p = float(inside(centre(between) if between.size else 0.5))
        eta = float(logit(p))
        zero, one = (float(inside((np.sum(y == v) + 0.5) / (y.size + 1))) for v in (0, 1))
        # without a 0 (a 1) its cut has no end, and the search starts where it is flat
        cut1 = eta + (float(logit(zero)) if np.any(y == 0) else -BEYOND)
        cut2 = eta - (float(logit(one)) if np.any(y == 1) else -BEYOND)
        gap = float(np.log(max(cut2 - cut1, 1e-2)))
        phi = _log_phi(p, spread(between)) if between.size > 1 else 0.0
        return Start(np.array([eta, phi, cut1, gap]))
