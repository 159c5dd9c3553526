"""Standard deviations and correlations of the random effects, with intervals."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ranef.design.specification import RandomTerm
from ranef.inference.parameters import ParameterCovariance
from ranef.inference.wald import quantile
from ranef.models.estimate import Estimate

__all__ = ["VarianceParameter", "intraclass_correlations", "variance_parameters"]

Floats = NDArray[np.float64]

ZERO_SHARE = 1e-10
UNIT_CORRELATION = 1.0 - 1e-8


@dataclass(frozen=True)
class VarianceParameter:
    """One standard deviation or correlation.

    Attributes
    ----------
    term : int or None
        Index of the random term; None for the residual.
    name, name2 : str or None
        The coefficients: one of an sd, two of a correlation.
    kind : {"sd", "corr"}
    estimate : float
        NaN for the correlation with an effect that does not vary.
    conf_low, conf_high : float
        NaN on a face: a variance of zero, a correlation of one.
    """

    term: int | None
    name: str | None
    name2: str | None
    kind: str
    estimate: float
    conf_low: float
    conf_high: float


@dataclass(frozen=True, eq=False)
class Covariance:
    """A term's relative covariance matrix and its derivatives with respect to theta.

    Attributes
    ----------
    psi : (r, r) float64 array
        Lambda Lambda'.
    derivatives : (k, r, r) float64 array
        Over all of theta, zero outside the term's own.
    """

    psi: Floats
    derivatives: Floats


def variance_parameters(
    estimate: Estimate, parameters: ParameterCovariance, conf_level: float = 0.95
) -> tuple[VarianceParameter, ...]:
    """All standard deviations and correlations, the residual's last.

    Intervals are Wald's on the scale of log sd and of Fisher's z = atanh(corr),
    by the delta method from the covariance matrix of (theta, sigma), carried
    back. (Pinheiro & Bates 2000, section 2.4.3, recommend these scales.)
    """
    reach = float(quantile(conf_level, np.array(np.inf)))
    found: list[VarianceParameter] = []
    on_face = {face.term for face in estimate.optimum.faces}
    for t, (term, matrix) in enumerate(_relative_covariances(estimate)):
        share = np.diag(matrix.psi) * np.mean(term.z**2, axis=0)
        zero = share <= (ZERO_SHARE if t in on_face else 0.0)
        for j, name in enumerate(term.names):
            gradient = _log_sd_gradient(matrix, j, estimate.sigma)
            se = np.nan if zero[j] else _standard_error(gradient, parameters)
            sd = estimate.sigma * float(np.sqrt(matrix.psi[j, j]))
            found.append(VarianceParameter(t, name, None, "sd", sd, *_log_interval(sd, reach * se)))
        for i, j in _pairs(term):
            found.append(_correlation(term, t, i, j, matrix, zero, parameters, reach))
    last = np.zeros(len(estimate.theta) + 1)
    last[-1] = 1.0 / estimate.sigma
    bounds = _log_interval(estimate.sigma, reach * _standard_error(last, parameters))
    found.append(VarianceParameter(None, None, None, "sd", estimate.sigma, *bounds))
    return tuple(found)


def intraclass_correlations(estimate: Estimate) -> tuple[float, ...] | None:
    """Share of each term's variance in the total, where that is one number.

    None unless every term is a random intercept without a kernel and the rows
    have equal weights.
    """
    spec = estimate.specification
    if spec.weights is not None or any(
        term.names != ("(Intercept)",) or term.kernel is not None for term in spec.terms
    ):
        return None
    variances = np.array([float(psi[0, 0]) for psi in estimate.covariances])
    total = variances.sum() + estimate.sigma**2
    return tuple(float(v) for v in variances / total)


def _relative_covariances(estimate: Estimate) -> Iterator[tuple[RandomTerm, Covariance]]:
    """Each term with its matrix and derivatives; Psi = Lambda Lambda', Lambda linear in theta."""
    start = 0
    k = len(estimate.theta)
    for term in estimate.specification.terms:
        rows, columns = _positions(term)
        own = slice(start, start + len(rows))
        factor = np.zeros((term.size, term.size))
        factor[rows, columns] = estimate.theta[own]
        derivatives = np.zeros((k, term.size, term.size))
        for entry, (i, j) in enumerate(zip(rows, columns, strict=True)):
            derivatives[start + entry, i, :] += factor[:, j]
            derivatives[start + entry, :, i] += factor[:, j]
        start = own.stop
        yield term, Covariance(factor @ factor.T, derivatives)


def _positions(term: RandomTerm) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Row and column in Lambda of each theta of a term."""
    if term.structure == "diag":
        diagonal = np.arange(term.size)
        return diagonal, diagonal
    columns, rows = np.triu_indices(term.size)
    return rows, columns


def _pairs(term: RandomTerm) -> list[tuple[int, int]]:
    """Pairs of coefficients whose correlation is a parameter, column by column."""
    if term.structure == "diag":
        return []
    return [(i, j) for j in range(term.size) for i in range(j + 1, term.size)]


def _log_sd_gradient(matrix: Covariance, j: int, sigma: float) -> Floats:
    """D log sd_j / d (theta, sigma)."""
    with np.errstate(divide="ignore", invalid="ignore"):
        theta = matrix.derivatives[:, j, j] / (2.0 * matrix.psi[j, j])
    return np.append(theta, 1.0 / sigma)


def _correlation(
    term: RandomTerm,
    t: int,
    i: int,
    j: int,
    matrix: Covariance,
    zero: NDArray[np.bool_],
    parameters: ParameterCovariance,
    reach: float,
) -> VarianceParameter:
    """The correlation of coefficients i and j of a term."""
    names = (term.names[j], term.names[i])
    if zero[i] or zero[j]:
        return VarianceParameter(t, *names, "corr", np.nan, np.nan, np.nan)
    vi, vj = matrix.psi[i, i], matrix.psi[j, j]
    rho = float(np.clip(matrix.psi[i, j] / np.sqrt(vi * vj), -1.0, 1.0))
    if abs(rho) >= UNIT_CORRELATION:
        return VarianceParameter(t, *names, "corr", rho, np.nan, np.nan)
    d = matrix.derivatives
    slope = d[:, i, j] / np.sqrt(vi * vj) - rho / 2.0 * (d[:, i, i] / vi + d[:, j, j] / vj)
    z_gradient = np.append(slope / (1.0 - rho**2), 0.0)
    half = reach * _standard_error(z_gradient, parameters)
    z = np.arctanh(rho)
    return VarianceParameter(
        t, *names, "corr", rho, float(np.tanh(z - half)), float(np.tanh(z + half))
    )


def _standard_error(gradient: Floats, parameters: ParameterCovariance) -> float:
    """Delta method: gradient (k + 1,) over all of theta and sigma."""
    g = gradient[np.append(parameters.free, True)]
    return float(np.sqrt(max(float(g @ parameters.covariance @ g), 0.0)))


def _log_interval(sd: float, half: float) -> tuple[float, float]:
    """Interval of an sd from the half-width on the log scale."""
    return float(sd * np.exp(-half)), float(sd * np.exp(half))
