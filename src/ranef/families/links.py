"""Links: from a mean to its linear predictor and back, with derivatives."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["LINKS", "Link", "Scale", "expit", "link_on", "logit", "softplus"]

Floats = NDArray[np.float64]


def expit(x: ArrayLike) -> Floats:
    """Return 1 / (1 + exp(-x)), element by element, without overflow."""
    x = np.asarray(x, dtype=np.float64)
    e = np.exp(-np.abs(x))
    return np.asarray(np.where(x >= 0, 1.0, e) / (1 + e))


def logit(p: ArrayLike) -> Floats:
    """Return log(p / (1 - p)), element by element."""
    p = np.asarray(p, dtype=np.float64)
    return np.asarray(np.log(p) - np.log1p(-p))


def softplus(x: ArrayLike) -> Floats:
    """Return log(1 + exp(x)), element by element, without overflow."""
    return np.asarray(np.logaddexp(0.0, np.asarray(x, dtype=np.float64)))


def normal_density(x: Floats) -> Floats:
    return np.asarray(np.exp(-0.5 * x * x) / np.sqrt(2 * np.pi))


def normal_probability(x: Floats) -> Floats:
    from scipy.special import ndtr

    return np.asarray(ndtr(x))


def normal_quantile(p: Floats) -> Floats:
    from scipy.special import ndtri

    return np.asarray(ndtri(p))


@dataclass(frozen=True)
class Link:
    """A link: all functions go element by element.

    Attributes
    ----------
    function : callable
        eta of mu.
    inverse : callable
        mu of eta.
    first, second : callable
        d mu / d eta and d^2 mu / d eta^2 at eta.
    """

    function: Callable[[Floats], Floats]
    inverse: Callable[[Floats], Floats]
    first: Callable[[Floats], Floats]
    second: Callable[[Floats], Floats]

    @property
    def ends(self) -> tuple[float, float]:
        """Ends of the linear predictors that have a mean."""
        return -np.inf, np.inf


def _logit_first(eta: Floats) -> Floats:
    return expit(eta) * expit(-eta)


def _logit_second(eta: Floats) -> Floats:
    return _logit_first(eta) * (expit(-eta) - expit(eta))


def _cloglog_first(eta: Floats) -> Floats:
    return np.asarray(np.exp(eta - np.exp(eta)))


LINKS: dict[str, Link] = {
    "identity": Link(lambda m: m, lambda e: e, np.ones_like, np.zeros_like),
    "log": Link(np.log, np.exp, np.exp, np.exp),
    "logit": Link(logit, expit, _logit_first, _logit_second),
    "probit": Link(
        normal_quantile,
        normal_probability,
        normal_density,
        lambda e: -e * normal_density(e),
    ),
    "cloglog": Link(
        lambda m: np.log(-np.log1p(-m)),
        lambda e: -np.expm1(-np.exp(e)),
        _cloglog_first,
        lambda e: _cloglog_first(e) * -np.expm1(e),
    ),
    "cauchit": Link(
        lambda m: np.tan(np.pi * (m - 0.5)),
        lambda e: np.arctan2(1.0, -e) / np.pi,
        lambda e: 1 / (np.pi * (1 + e * e)),
        lambda e: -2 * e / (np.pi * (1 + e * e) ** 2),
    ),
    "inverse": Link(lambda m: 1 / m, lambda e: 1 / e, lambda e: -1 / e**2, lambda e: 2 / e**3),
    "sqrt": Link(np.sqrt, np.square, lambda e: 2 * e, lambda e: np.full_like(e, 2.0)),
    "1/mu^2": Link(
        lambda m: 1 / m**2,
        lambda e: e**-0.5,
        lambda e: -0.5 * e**-1.5,
        lambda e: 0.75 * e**-2.5,
    ),
}

Scale = str | Link
"""A link by its name, or one that has none of these."""


def link_on(scale: Scale) -> Link:
    """Return the link of a name, or the link itself."""
    return LINKS[scale] if isinstance(scale, str) else scale
