"""Variances as functions of means, for models of a mean and a variance alone.

A quasi-likelihood (Wedderburn 1974, Biometrika 61) needs no more of a family than Var(y) up to
a scale. Families that differ in the scale alone are one variance function; a shape that bends
the variance is held at a value.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ranef.errors import ModelError, suggestion
from ranef.families.family import Family

__all__ = ["MeanVariance", "mean_variance", "shapes_of"]

Floats = NDArray[np.float64]
Function = Callable[[Floats], Floats]
NODES, WEIGHTS = np.polynomial.legendre.leggauss(40)


@dataclass(frozen=True, eq=False)
class MeanVariance:
    """A variance function V, with Var(y) = scale V(mu) / weight.

    Attributes
    ----------
    words : str
        Var(y) in mu, ``"phi mu"``.
    variance, slope : callable
        V(mu) and its derivative.
    quasi : callable
        (y, mu) -> the quasi-likelihood, the integral of (y - t) / V(t) from any fixed value to
        mu, up to what depends on y alone.
    dispersed : bool
        False where the scale is one in the family itself (Poisson, binomial).
    """

    words: str
    variance: Function
    slope: Function
    quasi: Callable[[Floats, Floats], Floats]
    dispersed: bool = True


def _constant_quasi(y: Floats, mu: Floats) -> Floats:
    return -0.5 * (y - mu) ** 2


def _poisson_quasi(y: Floats, mu: Floats) -> Floats:
    return np.asarray(y * np.log(mu) - mu)


def _binomial_quasi(y: Floats, mu: Floats) -> Floats:
    return np.asarray(y * np.log(mu) + (1 - y) * np.log1p(-mu))


CONSTANT = MeanVariance("phi", np.ones_like, np.zeros_like, _constant_quasi)
LINEAR = MeanVariance("phi mu", lambda m: m, np.ones_like, _poisson_quasi)
BERNOULLI = MeanVariance(
    "phi mu (1 - mu)", lambda m: m * (1 - m), lambda m: 1 - 2 * m, _binomial_quasi
)
POISSON = MeanVariance("phi mu", LINEAR.variance, LINEAR.slope, LINEAR.quasi, False)
BINOMIAL = MeanVariance(
    "phi mu (1 - mu)", BERNOULLI.variance, BERNOULLI.slope, BERNOULLI.quasi, False
)


def power(p: float) -> MeanVariance:
    """V(mu) = mu^p."""

    def quasi(y: Floats, mu: Floats) -> Floats:
        return np.asarray(y * _power_integral(mu, 1 - p) - _power_integral(mu, 2 - p))

    return MeanVariance(f"phi mu^{p:g}", lambda m: m**p, lambda m: p * m ** (p - 1), quasi)


def _power_integral(mu: Floats, q: float) -> Floats:
    """(mu^q - 1) / q, the logarithm at q = 0."""
    return np.asarray(np.log(mu) if q == 0 else np.expm1(q * np.log(mu)) / q)


def quadratic(k: float, dispersed: bool) -> MeanVariance:
    """V(mu) = mu + mu^2 / k."""

    def quasi(y: Floats, mu: Floats) -> Floats:
        return np.asarray(y * (np.log(mu) - np.log1p(mu / k)) - k * np.log1p(mu / k))

    return MeanVariance(
        f"phi mu (1 + mu / {k:.4g})", lambda m: m + m * m / k, lambda m: 1 + 2 * m / k, quasi,
        dispersed,
    )  # fmt: skip


def by_family(family: Family, shapes: Mapping[str, float]) -> MeanVariance:
    """V(mu) as the family has it, with its shapes held; integrated by quadrature."""
    held = np.array([shapes[p.label] for p in family.others]).reshape(-1, 1)

    def variance(mu: Floats) -> Floats:
        etas = np.vstack([family.link_function(mu).ravel(), np.tile(held, (1, np.size(mu)))])
        return family.variance(etas).reshape(np.shape(mu))

    def slope(mu: Floats) -> Floats:
        step = 1e-5 * np.maximum(np.abs(mu), 1e-3)
        return np.asarray((variance(mu + step) - variance(mu - step)) / (2 * step))

    def quasi(y: Floats, mu: Floats) -> Floats:
        middle, half = np.log(mu) / 2, np.log(mu) / 2
        t = np.exp(middle[:, None] + half[:, None] * NODES)  # from 1 to mu, in log t
        slices = (y[:, None] - t) / variance(t) * t
        return np.asarray((slices @ WEIGHTS) * half)

    return MeanVariance("as the family has it", variance, slope, quasi, False)


SCALED: dict[str, MeanVariance] = {
    "gaussian": CONSTANT,
    "t": CONSTANT,
    "skewnormal": CONSTANT,
    "lognormal": CONSTANT,
    "poisson": POISSON,
    "nbinom1": LINEAR,
    "genpois": LINEAR,
    "binomial": BINOMIAL,
    "betabinomial": BERNOULLI,
    "beta": BERNOULLI,
    "Gamma": power(2),
    "inverse.gaussian": power(3),
}
"""Families of which only the scale is not in the variance function."""

SHAPES: dict[str, tuple[str, ...]] = {
    "nbinom2": ("phi",),
    "nbinom12": ("phi", "psi"),
    "tweedie": ("p",),
    "compois": ("1 / nu",),
    "betabinomial": ("phi",),
}
"""Parameters that bend a variance function, by the names that the family gives them."""


def shapes_of(family: Family) -> tuple[str, ...]:
    """Return the parameters of a family that its variance function needs at a value.

    Examples
    --------
    >>> from ranef.families import family
    >>> shapes_of(family("nbinom2")), shapes_of(family("Gamma"))
    (('phi',), ())
    """
    return SHAPES.get(family.name, ())


def mean_variance(family: Family, shapes: Mapping[str, float]) -> MeanVariance:
    """Return the variance function of a family, its shapes held at values.

    Parameters
    ----------
    family : Family
    shapes : dict
        Values of `shapes_of` on their own scale.

    Raises
    ------
    ModelError
        If the mean of the family is not that of one linear predictor, so that there is no
        variance function of it.

    Examples
    --------
    >>> import numpy as np
    >>> from ranef.families import family
    >>> mean_variance(family("nbinom2"), {"phi": 2.0}).variance(np.array([2.0]))
    array([4.])
    """
    name = family.name
    if name in SCALED:
        return SCALED[name]
    if name == "nbinom2":
        return quadratic(shapes["phi"], False)
    if name == "nbinom12":
        return quadratic((1 + shapes["phi"]) * shapes["psi"], True)
    if name == "tweedie":
        return power(shapes["p"])
    if name == "bell":
        return by_family(family, {})
    if name == "compois":
        return by_family(family, {"1 / nu": float(np.log(shapes["1 / nu"]))})
    known = [*SCALED, *SHAPES, "bell"]
    raise ModelError(
        f"the family {name!r} has no variance that is a function of one mean, which a "
        f"population-averaged model needs{suggestion(name, known)}; it takes "
        f"{', '.join(dict.fromkeys(known))}, and the categories of cumulative and multinomial"
    )
