"""The Poisson-Gamma model of standardised ratios, in closed form.

O_k ~ Poisson(r_k E_k), r_k ~ Gamma(a, rate b): the textbook's shrinkage of ratios
(Clayton & Kaldor 1987, Biometrics 43), beside which a model with normal effects on the
log scale may be held.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ranef.errors import ModelError

__all__ = ["PoissonGamma", "poisson_gamma"]

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class PoissonGamma:
    """Shrunken ratios under a gamma distribution.

    Attributes
    ----------
    a, b : float
        Shape and rate of the distribution of the ratios; inf where they do not vary.
    loglik : float
        Of the negative binomial counts, all constants included.
    estimate, low, high : (q,) float64 arrays
        Posterior means (a + O) / (b + E) with equal-tailed intervals.
    above : (q,) float64 array
        Posterior probability of a ratio above 1.
    reliability : (q,) float64 array
        E / (b + E).
    """

    a: float
    b: float
    loglik: float
    estimate: Floats
    low: Floats
    high: Floats
    above: Floats
    reliability: Floats


def poisson_gamma(observed: Floats, expected: Floats, conf_level: float = 0.95) -> PoissonGamma:
    """Fit the distribution of the ratios by maximum likelihood and shrink each.

    Examples
    --------
    >>> import numpy as np
    >>> found = poisson_gamma(np.array([4.0, 9.0, 1.0, 20.0]), np.array([5.0, 6.0, 4.0, 9.0]))
    >>> found.estimate.round(2)
    array([0.98, 1.42, 0.69, 1.98])
    """
    from scipy.optimize import minimize
    from scipy.special import gammaincc, gammaincinv, gammaln

    def minus(x: Floats) -> float:
        a, b = np.exp(x)
        logs = (
            gammaln(a + observed)
            - gammaln(a)
            - gammaln(observed + 1)
            - a * np.log1p(expected / b)
            + observed * np.log(expected / (b + expected))
        )
        return -float(logs.sum())

    mean = float(observed.sum() / expected.sum())
    if mean <= 0:
        raise ModelError("no events were observed: there is no ratio to shrink")
    starts = [np.log([a, a / mean]) for a in (1.0, 10.0)]
    options = {"xatol": 1e-10, "fatol": 1e-13, "maxiter": 8000}
    optimum = min(
        (minimize(minus, start, method="Nelder-Mead", options=options) for start in starts),
        key=lambda one: float(one.fun),
    )
    a, b = (float(v) for v in np.exp(optimum.x))
    if a > 1e6:
        raise ModelError(
            "the counts vary no more than Poisson counts do around one ratio: their gamma "
            "distribution has no spread, and each shrunken ratio is the overall one"
        )
    tail = (1 - conf_level) / 2
    shape, rate = a + observed, b + expected
    return PoissonGamma(
        a,
        b,
        -float(optimum.fun),
        shape / rate,
        gammaincinv(shape, tail) / rate,
        gammaincinv(shape, 1 - tail) / rate,
        gammaincc(shape, rate),
        expected / (b + expected),
    )
