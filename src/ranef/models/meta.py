"""Meta-analysis: a Specification with known sampling variances in, a `MetaEstimate` out."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ranef.covariance import structure_of
from ranef.covariance.structure import Structure
from ranef.design.specification import Specification
from ranef.errors import DataWarning, ModelError, warn
from ranef.families import Family, family
from ranef.solve.synthesis.between import LIKELIHOODS, METHODS, Between, between
from ranef.solve.synthesis.dependent import Dependent, Level, Solved, maximise
from ranef.solve.synthesis.studies import Studies, Weighted

__all__ = [
    "METHODS",
    "Heterogeneity",
    "MetaEstimate",
    "MetaModel",
    "MetaOptimum",
    "fit_meta",
    "warn_of",
]

Floats = NDArray[np.float64]

ROUNDING = 1e-28
"""Sum of squares of residuals, relative to that of the effects, that is rounding alone."""
MAGNITUDES = 1e5
"""Ratio of the largest to the smallest sampling variance that asks for the units."""


@dataclass(frozen=True, eq=False, kw_only=True)
class MetaModel:
    """What is fitted.

    Attributes
    ----------
    specification : Specification
        Of the mean effect; its random terms are levels beyond the study's own.
    variances : (n,) array
        Known sampling variances.
    covariance : (n, n) array or None
        Of sampling errors that are correlated.
    method : str
        One of `METHODS`.
    studies : tuple of str
        Name of each row.
    """

    specification: Specification
    variances: Floats
    covariance: Floats | None = None
    method: str = "reml"
    studies: tuple[str, ...] = ()

    @property
    def is_dependent(self) -> bool:
        """Whether effects are correlated, or vary on levels that the formula names."""
        return self.covariance is not None or bool(self.specification.terms)

    @cached_property
    def y(self) -> Floats:
        """The effects less their offset."""
        spec = self.specification
        return spec.y if spec.offset is None else spec.y - spec.offset

    @cached_property
    def data(self) -> Studies:
        """The studies as arrays."""
        return Studies(self.y, self.variances, np.asarray(self.specification.X))

    @cached_property
    def problem(self) -> Dependent:
        """The model of dependent effects as arrays."""
        spec = self.specification
        V = np.diag(self.variances) if self.covariance is None else self.covariance
        levels = []
        for term in spec.terms:
            structure = structure_of(term)
            codes = spec.factors[term.factor].codes
            shared = codes[:, None] == codes[None, :]
            if term.kernel is not None:
                K = np.asarray(term.kernel, dtype=np.float64)
                levels.append(Level(structure, term.z, K[np.ix_(codes, codes)]))
            else:
                levels.append(Level(structure, term.z, shared.astype(np.float64)))
        if not spec.terms and self.method != "fe":
            one = np.ones((spec.n, 1))
            levels.append(Level(self.structures[0], one, np.eye(spec.n)))
        return Dependent(self.y, V, np.asarray(spec.X), tuple(levels), self.method != "ml")

    @cached_property
    def structures(self) -> tuple[Structure, ...]:
        """Covariance structure of each term; of the rows where there is none."""
        from ranef.covariance import structure

        terms = self.specification.terms
        return tuple(structure_of(t) for t in terms) if terms else (structure("us", 1),)


@dataclass(frozen=True, eq=False)
class MetaOptimum:
    """The end of the search for the variance between studies.

    Attributes
    ----------
    maxima : int
        Local maxima of the likelihood over all values of tau^2, zero included; of several
        variances those that the search met; 1 of an estimator that solves one equation.
    where : (m,) array
        tau^2 at each; NaN where there are several variances.
    logliks : (m,) array
    at_zero : bool
        Whether a variance is zero.
    gradient : float
        Derivative of the log-likelihood, relative: what a variance larger by its own standard
        error would gain; not negative inside, negative on the boundary.
    """

    maxima: int
    where: Floats
    logliks: Floats
    at_zero: bool
    gradient: float

    @property
    def converged(self) -> bool:
        """Whether the derivative is zero, or negative on the boundary."""
        return abs(self.gradient) < 1e-4 or (self.at_zero and self.gradient <= 0)


@dataclass(frozen=True, eq=False)
class Heterogeneity:
    """How much the effects differ beyond their sampling errors.

    Attributes
    ----------
    q : float
        Weighted sum of squares around the model without heterogeneity.
    df : int
    q_p : float
    i2 : float
        Percent of the variance of a typical study's effect that is not sampling error.
    h2 : float
        Variance of a typical effect over that by sampling.
    r2 : float
        Percent of the heterogeneity that the moderators explain; NaN without moderators.
    """

    q: float
    df: int
    q_p: float
    i2: float
    h2: float
    r2: float


@dataclass(frozen=True, eq=False, kw_only=True)
class MetaEstimate:
    """A fitted meta-analysis as arrays.

    Attributes
    ----------
    model : MetaModel
    coefficients : (p,) array
    bread : (p, p) array
        (X' M^-1 X)^-1, M the covariance of the effects.
    phi : (k,) array
        Of dependent effects, the parameters that were searched for.
    covariances : tuple of (r, r) arrays
        Between the levels of each term; one of the studies where there is none.
    logliks, where : (m,) arrays
        Local maxima.
    gradient : float
    """

    model: MetaModel
    coefficients: Floats
    bread: Floats
    phi: Floats
    covariances: tuple[Floats, ...]
    logliks: Floats
    where: Floats
    gradient: float

    @property
    def specification(self) -> Specification:
        """Of the mean."""
        return self.model.specification

    @cached_property
    def family(self) -> Family:
        """Effects are normal."""
        known = family("gaussian")
        assert isinstance(known, Family)
        return known

    @property
    def sigma(self) -> None:
        """The sampling variances are known: there is no residual variance."""
        return None

    @property
    def n_estimated(self) -> int:
        """Coefficients and variance parameters."""
        free = 0 if self.model.method == "fe" else 1
        return len(self.coefficients) + (len(self.phi) if self.model.is_dependent else free)

    @property
    def loglik(self) -> float:
        """The log-likelihood; NaN of estimators that do not maximise one."""
        return float(np.max(self.logliks))

    @cached_property
    def tau2(self) -> float:
        """Variance between true effects; of several levels their sum, on average over rows."""
        if not self.model.is_dependent:
            return float(self.covariances[0][0, 0])
        return float(np.mean(self.between))

    @cached_property
    def between(self) -> Floats:
        """Variance (n,) of each row's true effect."""
        if not self.model.is_dependent:
            return np.full(self.specification.n, float(self.covariances[0][0, 0]))
        problem = self.model.problem
        return np.asarray(np.diag(problem.covariance(self.phi) - problem.V))

    @cached_property
    def weighted(self) -> Weighted:
        """Of independent studies: weighted least squares at tau^2."""
        return self.model.data.at(self.tau2)

    @cached_property
    def solved(self) -> Solved:
        """Of dependent effects: the model at its parameters."""
        found = self.model.problem.at(self.phi)
        assert found is not None
        return found

    @cached_property
    def covariance_of_rows(self) -> Floats:
        """M (n, n)."""
        if self.model.is_dependent:
            return self.model.problem.covariance(self.phi)
        return np.diag(self.model.variances + self.tau2)

    @cached_property
    def residuals(self) -> Floats:
        """Effects less their means (n,)."""
        return np.asarray(self.model.y - self.specification.X @ self.coefficients)

    @cached_property
    def scatter(self) -> float:
        """Weighted sum of squares of the residuals over n - p: what Knapp and Hartung scale by.

        Of independent studies; exactly zero where the model reproduces all effects.
        """
        spec = self.specification
        y, found = self.model.y, self.weighted
        none = ROUNDING * float(np.sum(found.weights * y**2))
        return 0.0 if found.q <= none else found.q / (spec.n - spec.p)

    @property
    def optimum(self) -> MetaOptimum:
        """The end of the search."""
        at_zero = any(float(np.min(np.diag(psi))) == 0.0 for psi in self.covariances)
        return MetaOptimum(len(self.logliks), self.where, self.logliks, at_zero, self.gradient)

    @cached_property
    def heterogeneity(self) -> Heterogeneity:
        """Q and what follows from it."""
        return _heterogeneity(self)


def fit_meta(model: MetaModel) -> MetaEstimate:
    """Fit a meta-analysis."""
    return _dependent(model) if model.is_dependent else _independent(model)


def _independent(model: MetaModel) -> MetaEstimate:
    studies = model.data
    found = between(studies, model.method)
    at = studies.at(found.tau2)
    constant = 0.0
    if model.method == "reml":
        constant = 0.5 * float(np.linalg.slogdet(studies.X.T @ studies.X)[1])
    return MetaEstimate(
        model=model,
        coefficients=at.beta,
        bread=at.bread,
        phi=np.zeros(0),
        covariances=(np.array([[found.tau2]]),),
        logliks=found.logliks - constant,
        where=found.maxima,
        gradient=_relative(studies, found, model.method),
    )


def _relative(studies: Studies, found: Between, method: str) -> float:
    """The score in units of the standard error of tau^2; 0 of other estimators."""
    if method not in LIKELIHOODS:
        return 0.0
    square = studies.unit**2
    at = studies.over(studies.unit).moments(np.array([found.tau2 / square]))
    trace = at.trace2 if method == "reml" else at.weight2
    return found.score * square * float(np.sqrt(2 / trace[0]))


def _dependent(model: MetaModel) -> MetaEstimate:
    if model.method not in ("fe", *LIKELIHOODS):
        raise ModelError(
            f"method={model.method!r} is for independent studies with one variance between them; "
            "with levels in the formula, or covariance=, use 'reml', 'ml' or 'fe'"
        )
    if model.method == "fe" and model.specification.terms:
        raise ModelError("method='fe' has no variance between levels: take the random terms out")
    problem = model.problem
    phi, logliks = maximise(problem)
    at = problem.at(phi)
    assert at is not None
    if model.method == "fe":
        logliks = np.array([np.nan])
    info, _ = problem.information(phi)
    scale = np.sqrt(np.maximum(np.diag(info), 1e-300))
    gradient = float(np.max(np.abs(at.gradient) / scale, initial=0.0))
    return MetaEstimate(
        model=model,
        coefficients=at.beta,
        bread=at.bread,
        phi=phi,
        covariances=tuple(problem.psis(phi)) or (np.zeros((1, 1)),),
        logliks=logliks,
        where=np.full(len(logliks), np.nan),
        gradient=gradient,
    )


def _heterogeneity(estimate: MetaEstimate) -> Heterogeneity:
    from scipy.special import chdtrc

    model, spec = estimate.model, estimate.specification
    df = spec.n - spec.p
    if model.covariance is not None:
        P = _projection(model.covariance, np.asarray(spec.X))
        q, trace = float(model.y @ P @ model.y), float(np.trace(P))
    else:
        at = model.data.over(model.data.unit).moments(np.zeros(1))
        q, trace = float(at.q1[0]), float(at.trace1[0])
    typical = df / trace if trace > 0 else float("nan")  # studies without weight
    unit = 1.0 if model.covariance is not None else model.data.unit
    tau2 = estimate.tau2 / unit / unit
    h2 = (tau2 + typical) / typical
    i2 = 100 * tau2 / (tau2 + typical)
    if model.method == "fe":
        h2, i2 = q / df, 100 * max(0.0, (q - df) / q) if q > 0 else 0.0
    return Heterogeneity(q, df, float(chdtrc(df, q)), i2, h2, _explained(estimate))


def _projection(V: Floats, X: Floats) -> Floats:
    W = np.linalg.inv(V)
    WX = W @ X
    return np.asarray(W - WX @ np.linalg.solve(X.T @ WX, WX.T))


def _explained(estimate: MetaEstimate) -> float:
    """Percent by which moderators lower tau^2 (Raudenbush 2009)."""
    model, spec = estimate.model, estimate.specification
    moderated = "(Intercept)" in spec.names and spec.p > 1
    if not moderated or model.is_dependent or model.method == "fe":
        return float("nan")
    alone = Studies(model.y, model.variances, np.ones((spec.n, 1)))
    total = between(alone, model.method).tau2
    if total == 0:
        return 0.0
    return 100 * max(0.0, (total - estimate.tau2) / total)


def warn_of(estimate: MetaEstimate) -> None:
    """Warn of variances that look like several units, and of effects without any spread."""
    if not estimate.model.is_dependent and estimate.scatter == 0:
        warn(
            "the model reproduces all effects exactly, so that Knapp and Hartung's standard errors "
            "are zero and there is no test; df='knapp-hartung-conservative' takes the sampling "
            "variances as they are",
            DataWarning,
        )
    v = estimate.model.variances
    ratio = float(v.max() / v.min())
    if ratio > MAGNITUDES:
        names: Any = estimate.model.studies or [str(i + 1) for i in range(len(v))]
        warn(
            f"the sampling variances span {np.log10(ratio):.1f} orders of magnitude (from "
            f"{v.min():.3g} in {names[int(v.argmin())]} to {v.max():.3g} in "
            f"{names[int(v.argmax())]}): are all effects in the same units?",
            DataWarning,
        )
