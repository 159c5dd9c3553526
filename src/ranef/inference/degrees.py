"""Denominator degrees of freedom of tests on the fixed effects.

A method is a function of an estimate, the hypotheses L (q, p) and the
covariance of the variance parameters; `METHODS` names them. A further method
(Kenward-Roger, containment) is one more function and one more entry.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from ranef.errors import ModelError, suggestion
from ranef.inference.parameters import ParameterCovariance, parameter_covariance
from ranef.models.estimate import Estimate

__all__ = ["METHODS", "check_method", "degrees_of_freedom", "denominator"]

Floats = NDArray[np.float64]
Parameters = Callable[[], ParameterCovariance]


def check_method(method: str) -> str:
    """Return the method's name, or say which ones there are."""
    if not isinstance(method, str) or method not in METHODS:
        known = ", ".join(repr(name) for name in METHODS)
        hint = suggestion(method, METHODS) if isinstance(method, str) else ""
        raise ModelError(f"df={method!r} is not a known method{hint}; use one of {known}")
    return method


def degrees_of_freedom(
    estimate: Estimate,
    L: Floats,
    method: str = "satterthwaite",
    parameters: Parameters | None = None,
) -> Floats:
    """Degrees of freedom of the t test of each row of L.

    Parameters
    ----------
    estimate : Estimate
    L : (q, p) float64 array
        One hypothesis l'beta a row.
    method : str
        A name in `METHODS`.
    parameters : callable, optional
        Gives the `ParameterCovariance` when a method needs it.

    Returns
    -------
    (q,) float64 array
        Infinite for ``"normal"``; NaN for a row of zeros.
    """
    known = parameters or (lambda: parameter_covariance(estimate))
    return METHODS[check_method(method)](estimate, np.atleast_2d(L), known)


def satterthwaite(estimate: Estimate, L: Floats, parameters: Parameters) -> Floats:
    """Satterthwaite's approximation for each row of L.

    With v = l' vcov l, g = dv / d(theta, sigma) and A the covariance matrix of
    (theta, sigma), df = 2 v^2 / (g' A g) (Giesbrecht & Burns 1985, Biometrics
    41; Fai & Cornelius 1996).
    """
    known = parameters()
    v = np.sum(L @ estimate.vcov * L, axis=1)
    g = np.column_stack([np.sum(L @ d * L, axis=1) for d in known.vcov_gradient])
    spread = np.sum(g @ known.covariance * g, axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        df: Floats = 2.0 * v**2 / spread
    return df


def residual(estimate: Estimate, L: Floats, parameters: Parameters) -> Floats:
    """Rows minus columns, n - p, for every hypothesis."""
    return np.full(len(L), float(estimate.specification.n - estimate.specification.p))


def normal(estimate: Estimate, L: Floats, parameters: Parameters) -> Floats:
    """Infinite: the normal distribution in place of t."""
    return np.full(len(L), np.inf)


def denominator(
    estimate: Estimate,
    L: Floats,
    method: str = "satterthwaite",
    parameters: Parameters | None = None,
) -> float:
    """Denominator degrees of freedom of the F test of all rows of L at once.

    Fai & Cornelius (1996, J. Stat. Comput. Simul. 54): L vcov L' = P D P' gives
    q independent t tests with nu_i degrees of freedom; F with E = sum nu_i /
    (nu_i - 2) over nu_i > 2 has 2 E / (E - q). If some nu_i <= 2 it has 2.
    Methods that give each row the same df give it here too.
    """
    L = np.atleast_2d(L)
    if check_method(method) == "normal":
        return float(np.inf)
    _, vectors = np.linalg.eigh(L @ estimate.vcov @ L.T)
    nu = degrees_of_freedom(estimate, vectors.T @ L, method, parameters)
    if np.isinf(nu).any():
        return float(np.inf)
    if np.ptp(nu) < 1e-8 * nu.max():
        return float(nu.mean())
    if (nu <= 2).any():
        return 2.0
    expected = float(np.sum(nu / (nu - 2)))
    return 2.0 * expected / (expected - len(nu))


METHODS: dict[str, Callable[[Estimate, Floats, Parameters], Floats]] = {
    "satterthwaite": satterthwaite,
    "residual": residual,
    "normal": normal,
}
