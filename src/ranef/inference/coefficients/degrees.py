"""Denominator degrees of freedom of tests on the fixed effects.

`METHODS` names the methods. Each says how many degrees of freedom the t test of a row of
L (q, p) has, how the F test of all rows is referred, and on which covariance of the
coefficients both rest.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ranef.errors import ModelError, suggestion
from ranef.inference.coefficients.containment import strata
from ranef.inference.coefficients.kenward import ScaledF, kenward_roger
from ranef.inference.coefficients.parameters import ParameterCovariance, parameter_covariance
from ranef.models.records import LinearEstimate

__all__ = [
    "METHODS",
    "Method",
    "ScaledF",
    "check_method",
    "combined_degrees",
    "degrees_of_freedom",
    "denominator",
    "scaled_f",
    "words_of",
]

Floats = NDArray[np.float64]
Parameters = Callable[[], ParameterCovariance]


@dataclass(frozen=True)
class Method:
    """What a method of degrees of freedom answers.

    Attributes
    ----------
    words : str
        Of t tests, for a summary: "t tests with ...".
    joint_words : str
        Of F tests.
    rows : callable
        (estimate, L, parameters) -> (q,) degrees of freedom of each row's t test.
    joint : callable
        (estimate, L, parameters) -> `ScaledF` of the q independent rows together.
    covariance : callable or None
        estimate -> (p, p) covariance of the coefficients; None for that given theta.
    """

    words: str
    joint_words: str
    rows: Callable[[LinearEstimate, Floats, Parameters], Floats]
    joint: Callable[[LinearEstimate, Floats, Parameters], ScaledF]
    covariance: Callable[[LinearEstimate], Floats] | None = None

    def of(self, estimate: LinearEstimate) -> Floats:
        """The covariance of the coefficients."""
        return estimate.coefficient_vcov if self.covariance is None else self.covariance(estimate)


ELSEWHERE = {
    "kr": "kenward-roger",
    "kenwardroger2": "kenward-roger",
    "kr2": "kenward-roger",
    "sat": "satterthwaite",
    "satterth": "satterthwaite",
    "lmertest": "satterthwaite",
    "contain": "containment",
    "bw": "containment",
    "betwithin": "containment",
    "betweenwithin": "containment",
    "resid": "residual",
    "none": "normal",
    "inf": "normal",
    "asymptotic": "normal",
    "z": "normal",
    "wald": "normal",
}
"""Methods as SAS, lmerTest, emmeans and pbkrtest call them (or their nearest)."""


def check_method(method: str) -> str:
    """Return the method's name, or say which ones there are."""
    if not isinstance(method, str) or method not in METHODS:
        known = ", ".join(repr(name) for name in METHODS)
        hint = ""
        if isinstance(method, str):
            name = ELSEWHERE.get(method.lower().replace(" ", "").replace("-", ""), "")
            hint = f"; did you mean {name!r}?" if name else suggestion(method, METHODS)
        raise ModelError(f"df={method!r} is not a known method{hint}; use one of {known}")
    return method


def degrees_of_freedom(
    estimate: LinearEstimate,
    L: Floats,
    method: str = "satterthwaite",
    parameters: Parameters | None = None,
) -> Floats:
    """Degrees of freedom of the t test of each row of L.

    Parameters
    ----------
    estimate : LinearEstimate
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
    rows = METHODS[check_method(method)].rows
    return rows(estimate, np.atleast_2d(L), _known(estimate, parameters))


def scaled_f(
    estimate: LinearEstimate,
    L: Floats,
    method: str = "satterthwaite",
    parameters: Parameters | None = None,
) -> ScaledF:
    """Scale and denominator degrees of freedom of the F test of all rows of L at once.

    The rows must be linearly independent.
    """
    joint = METHODS[check_method(method)].joint
    return joint(estimate, np.atleast_2d(L), _known(estimate, parameters))


def denominator(
    estimate: LinearEstimate,
    L: Floats,
    method: str = "satterthwaite",
    parameters: Parameters | None = None,
) -> float:
    """Denominator degrees of freedom of `scaled_f`."""
    return scaled_f(estimate, L, method, parameters).df2


def _known(estimate: LinearEstimate, parameters: Parameters | None) -> Parameters:
    return parameters or (lambda: parameter_covariance(estimate))


def satterthwaite(estimate: LinearEstimate, L: Floats, parameters: Parameters) -> Floats:
    """Satterthwaite's approximation for each row of L.

    With v = l' vcov l, g = dv / d(theta, sigma) and A the covariance matrix of
    (theta, sigma), df = 2 v^2 / (g' A g) (Giesbrecht & Burns 1985, Biometrics
    41; Fai & Cornelius 1996).
    """
    known = parameters()
    v = np.sum(L @ estimate.coefficient_vcov * L, axis=1)
    g = np.sum(L @ known.vcov_gradient * L, axis=2).T
    spread = np.sum(g @ known.covariance * g, axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        df: Floats = 2.0 * v**2 / spread
    return df


def fai_cornelius(estimate: LinearEstimate, L: Floats, parameters: Parameters) -> ScaledF:
    """Denominator of the F test by Satterthwaite's method.

    Fai & Cornelius (1996, J. Stat. Comput. Simul. 54): L vcov L' = P D P' gives
    q independent t tests with nu_i degrees of freedom; F with E = sum nu_i /
    (nu_i - 2) over nu_i > 2 has 2 E / (E - q). If some nu_i <= 2 it has 2.
    """
    _, vectors = np.linalg.eigh(L @ estimate.coefficient_vcov @ L.T)
    return ScaledF(1.0, combined_degrees(satterthwaite(estimate, vectors.T @ L, parameters)))


def combined_degrees(nu: Floats) -> float:
    """Denominator of the F test of which independent t tests have the degrees of freedom nu."""
    if np.isinf(nu).any():
        return float(np.inf)
    if np.ptp(nu) < 1e-8 * nu.max():
        return float(nu.mean())
    if (nu <= 2).any():
        return 2.0
    expected = float(np.sum(nu / (nu - 2)))
    return 2.0 * expected / (expected - len(nu))


def containment(estimate: LinearEstimate, L: Floats, parameters: Parameters) -> Floats:
    """Of the stratum of the coefficients that a row involves, the fewest of several."""
    return strata(estimate.specification).degrees_of_freedom(L)


def residual(estimate: LinearEstimate, L: Floats, parameters: Parameters) -> Floats:
    """Rows minus columns, n - p, for every hypothesis."""
    return np.full(len(L), float(estimate.specification.n - estimate.specification.p))


def normal(estimate: LinearEstimate, L: Floats, parameters: Parameters) -> Floats:
    """Infinite: the normal distribution in place of t."""
    return np.full(len(L), np.inf)


def fewest(
    rows: Callable[[LinearEstimate, Floats, Parameters], Floats],
) -> Callable[[LinearEstimate, Floats, Parameters], ScaledF]:
    """Return the F test with the fewest degrees of freedom among its rows, unscaled."""

    def joint(estimate: LinearEstimate, L: Floats, parameters: Parameters) -> ScaledF:
        return ScaledF(1.0, float(rows(estimate, L, parameters).min()))

    return joint


METHODS: dict[str, Method] = {
    "satterthwaite": Method(
        "t tests with Satterthwaite's degrees of freedom",
        "Satterthwaite's degrees of freedom",
        satterthwaite,
        fai_cornelius,
    ),
    "kenward-roger": Method(
        "t tests with Kenward and Roger's standard errors and degrees of freedom",
        "Kenward-Roger's covariance and degrees of freedom",
        lambda estimate, L, _: kenward_roger(estimate).degrees_of_freedom(L),
        lambda estimate, L, _: kenward_roger(estimate).scaled_f(L),
        lambda estimate: kenward_roger(estimate).adjusted,
    ),
    "kenward-roger-observed": Method(
        "t tests with Kenward and Roger's standard errors and degrees of freedom by the observed "
        "information",
        "Kenward-Roger's covariance and degrees of freedom by the observed information",
        lambda estimate, L, _: kenward_roger(estimate, observed=True).degrees_of_freedom(L),
        lambda estimate, L, _: kenward_roger(estimate, observed=True).scaled_f(L),
        lambda estimate: kenward_roger(estimate, observed=True).adjusted,
    ),
    "containment": Method(
        "t tests with degrees of freedom by strata (containment)",
        "containment degrees of freedom",
        containment,
        fewest(containment),
    ),
    "residual": Method(
        "t tests with n - p degrees of freedom",
        "n - p degrees of freedom",
        residual,
        fewest(residual),
    ),
    "normal": Method(
        "normal tests",
        "denominator degrees of freedom infinite",
        normal,
        fewest(normal),
    ),
}


OF_CLUSTERS: dict[str, tuple[str, str]] = {
    "clusters": (
        "t tests with clusters minus coefficients degrees of freedom",
        "clusters minus coefficients degrees of freedom",
    ),
    "fay-graubard": (
        "t tests with Fay and Graubard's degrees of freedom",
        "Fay and Graubard's degrees of freedom",
    ),
    "small-sample": (
        "t tests with degrees of freedom that make up for the sandwich of few clusters",
        "degrees of freedom that make up for the sandwich of few clusters",
    ),
    "pan-wall": (
        "t tests with Pan and Wall's degrees of freedom",
        "Pan and Wall's degrees of freedom",
    ),
}
"""Methods of covariances that rest on clusters, in words as `Method` has them."""


OF_STUDIES: dict[str, tuple[str, str]] = {
    "knapp-hartung": (
        "Knapp and Hartung's t tests",
        "Knapp and Hartung's F tests",
    ),
    "knapp-hartung-conservative": (
        "Knapp and Hartung's t tests, the variance never below that of the model",
        "Knapp and Hartung's F tests, the variance never below that of the model",
    ),
    "t": (
        "t tests with effects minus coefficients degrees of freedom",
        "effects minus coefficients degrees of freedom",
    ),
}
"""Methods of effects with known sampling variances, in words as `Method` has them."""


def words_of(method: str, *, joint: bool = False) -> str:
    """Say by what tests a method works, of single coefficients or of several at once."""
    for others in (OF_CLUSTERS, OF_STUDIES):
        if method in others:
            return others[method][joint]
    return METHODS[method].joint_words if joint else METHODS[method].words
