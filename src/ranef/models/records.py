"""The estimates: what the solver found, frozen."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ranef.covariance import structure_of
from ranef.design.specification import Specification
from ranef.design.terms import RandomTerm
from ranef.families import Family
from ranef.priors import Prior
from ranef.solve.optimum import Optimum
from ranef.solve.problem import GeneralisedDesign

__all__ = [
    "Component",
    "Estimate",
    "GeneralisedEstimate",
    "LinearEstimate",
    "component_of",
    "theta_slices",
]

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Estimate:
    """A fitted mixed model as arrays: what every kind has.

    Attributes
    ----------
    specification : Specification
        Of the mean.
    reml : bool
    beta : (p,) float64 array
        Fixed effects of the mean.
    vcov : (p, p) float64 array
        Their covariance matrix.
    theta : (k,) float64 array
        Covariance parameters of all terms, see `Optimum.theta`: relative to sigma.
    sigma : float
        Residual standard deviation; 1 in generalised models, whose theta is
        absolute.
    covariances : tuple of (r, r) float64 arrays
        Covariance matrix of the effects of each random term of the mean.
    modes : tuple of (q, r) float64 arrays
        Conditional modes (BLUPs) of each of these terms, by level.
    loglik : float
        (Restricted) log-likelihood, all constants included.
    optimum : Optimum
    """

    specification: Specification
    reml: bool
    beta: Floats
    theta: Floats
    sigma: float
    covariances: tuple[Floats, ...]
    modes: tuple[Floats, ...]
    loglik: float
    optimum: Optimum

    if TYPE_CHECKING:

        @property
        def vcov(self) -> Floats: ...

    @property
    def deviance(self) -> float:
        """Minus twice the log-likelihood of the criterion fitted."""
        return -2.0 * self.loglik

    @property
    def n_parameters(self) -> int:
        """All free parameters."""
        raise AttributeError("an estimate of no particular kind")


@dataclass(frozen=True, eq=False)
class LinearEstimate(Estimate):
    """A fitted linear mixed model.

    Attributes
    ----------
    vcov : (p, p) float64 array
        Covariance matrix of beta given theta, sigma included.
    """

    vcov: Floats

    @property
    def n_parameters(self) -> int:
        """All free parameters: p + len(theta) + 1."""
        return len(self.beta) + len(self.theta) + 1


@dataclass(frozen=True, eq=False)
class Component:
    """One part of a generalised model: a linear predictor, or one for each response.

    Attributes
    ----------
    name : str
        ``"conditional"``, ``"zero"``, ``"dispersion"``, ``"threshold"``, or the
        family's name of a shape (``"df"``).
    response : str or None
        Category that the part belongs to (multinomial).
    predictor : int
        The first linear predictor that it enters.
    names : tuple of str
        Of its coefficients.
    coefficients : slice
        Where these stand among all.
    terms : slice
        Where its random terms stand among all.
    specification : Specification or None
        None where the part is a constant.
    """

    name: str
    response: str | None
    predictor: int
    names: tuple[str, ...]
    coefficients: slice
    terms: slice
    specification: Specification | None


@dataclass(frozen=True, eq=False)
class GeneralisedEstimate(Estimate):
    """A fitted generalised linear mixed model.

    Attributes
    ----------
    family : Family
    parts : dict of Specification
        As given: ``"conditional"`` and others by name.
    components : tuple of Component
        The mean's first.
    coefficients : (P,) float64 array
        Of all components.
    coefficient_vcov : (P, P) float64 array
        Their covariance given theta; for the covariance that allows for theta's
        uncertainty see `inference.joint_covariance`.
    term_covariances : tuple of (r, r) float64 arrays
        Of the random terms of all components.
    term_modes : tuple of (q, r) float64 arrays
    predictors : (M, n) float64 array
        Linear predictors of the rows at the modes, random effects included.
    extra : (n,) float64 array or None
        Trials, upper ends: what the family needs beside the response.
    quadrature : int
        Nodes; 1 is the Laplace approximation.
    runaway : tuple of int
        Coefficients that run off to infinity.
    design : GeneralisedDesign
    priors : dict of Prior
        As given; empty where the likelihood alone was maximised.
    fixed : dict of float
        Parameters that are held, as given; they have no uncertainty.
    equal : tuple of tuple of str
        Coefficients with a common value, as given.
    """

    family: Family
    parts: Mapping[str, Specification]
    components: tuple[Component, ...]
    coefficients: Floats
    coefficient_vcov: Floats
    term_covariances: tuple[Floats, ...]
    term_modes: tuple[Floats, ...]
    predictors: Floats
    extra: Floats | None
    quadrature: int
    runaway: tuple[int, ...]
    design: GeneralisedDesign
    priors: Mapping[str, Prior] = field(default_factory=dict)
    fixed: Mapping[str, float] = field(default_factory=dict)
    equal: tuple[tuple[str, ...], ...] = ()

    @property
    def terms(self) -> tuple[RandomTerm, ...]:
        """The random terms of all components."""
        return self.design.terms

    @property
    def n_parameters(self) -> int:
        """All free parameters: coefficients of every component, and theta."""
        return self.design.constraints.n_free(len(self.coefficients), len(self.theta))


def component_of(estimate: GeneralisedEstimate, term: int) -> Component:
    """Return the component that a term of the design belongs to."""
    return next(c for c in estimate.components if c.terms.start <= term < c.terms.stop)


def theta_slices(estimate: GeneralisedEstimate) -> list[slice]:
    """Return where the parameters of each term stand in theta."""
    ends = np.cumsum([0] + [structure_of(term).n_parameters for term in estimate.terms])
    return [slice(int(a), int(b)) for a, b in itertools.pairwise(ends)]
