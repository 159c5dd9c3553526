"""The estimates: what the solver found, frozen."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ranef.covariance import structure_of
from ranef.design.specification import Specification
from ranef.design.terms import GroupingFactor, RandomTerm
from ranef.families import Family, Gaussian
from ranef.priors import Prior
from ranef.solve.optimum import Optimum
from ranef.solve.problem import GeneralisedDesign

__all__ = [
    "CONDITIONAL",
    "Component",
    "Composition",
    "Estimate",
    "GeneralisedEstimate",
    "LinearEstimate",
    "as_generalised",
    "columns_in",
    "component_of",
    "theta_slices",
]

Floats = NDArray[np.float64]

CONDITIONAL = "conditional"
"""The part of the mean."""

GAUSSIAN = Gaussian()


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
    terms : tuple of int
        Its random terms among all, in the order of its specification; a term whose effects
        are tied across parts belongs to each of them.
    specification : Specification or None
        None where the part is a constant.
    """

    name: str
    response: str | None
    predictor: int
    names: tuple[str, ...]
    coefficients: slice
    terms: tuple[int, ...]
    specification: Specification | None


@dataclass(frozen=True, eq=False)
class Composition:
    """The parts of a generalised model brought to one design.

    Attributes
    ----------
    design : GeneralisedDesign
    components : tuple of Component
        The mean's first.
    start : (P,) float64 array
        Coefficients to start from.
    """

    design: GeneralisedDesign
    components: tuple[Component, ...]
    start: Floats


@dataclass(frozen=True, eq=False, kw_only=True)
class Estimate:
    """A fitted mixed model as arrays: one record, whatever kind was fitted.

    What costs work is a function of it elsewhere, never an attribute.

    Attributes
    ----------
    parts : dict of Specification
        Of each formula by name, ``"conditional"`` that of the mean.
    reml : bool
    coefficients : (P,) float64 array
        Fixed effects of all components.
    coefficient_vcov : (P, P) float64 array
        Their covariance matrix given theta.
    theta : (k,) float64 array
        Covariance parameters of all terms, see `Optimum.theta`: relative to `sigma`
        where there is one, else absolute.
    covariances : tuple of (r, r) float64 arrays
        Covariance matrix of the effects of each term of `terms`.
    modes : tuple of (q, r) float64 arrays
        Conditional modes (BLUPs) of each term, by level.
    loglik : float
        (Restricted) log-likelihood, all constants included.
    optimum : Optimum
    family : Family
        Of the response.
    sigma : float or None
        Residual standard deviation of a row of weight 1, where it is profiled out.
    extra : (n,) float64 array or None
        Trials, upper ends: what the family needs beside the response.
    quadrature : int
        Nodes; 1 is the Laplace approximation, exact in a linear model.
    runaway : tuple of int
        Coefficients that run off to infinity.
    priors : dict of Prior
        As given; empty where the likelihood alone was maximised.
    fixed : dict of float
        Parameters that are held, as given; they have no uncertainty.
    equal : tuple of tuple of str
        Coefficients with a common value, as given.
    """

    parts: Mapping[str, Specification]
    reml: bool
    coefficients: Floats
    coefficient_vcov: Floats
    theta: Floats
    covariances: tuple[Floats, ...]
    modes: tuple[Floats, ...]
    loglik: float
    optimum: Optimum
    family: Family = GAUSSIAN
    sigma: float | None = None
    extra: Floats | None = None
    quadrature: int = 1
    runaway: tuple[int, ...] = ()
    priors: Mapping[str, Prior] = field(default_factory=dict)
    fixed: Mapping[str, float] = field(default_factory=dict)
    equal: tuple[tuple[str, ...], ...] = ()

    @cached_property
    def specification(self) -> Specification:
        """Of the mean."""
        return self.parts[CONDITIONAL]

    @cached_property
    def components(self) -> tuple[Component, ...]:
        """Linear predictors and constants of the model, the mean's first."""
        spec = self.specification
        terms = tuple(range(len(spec.terms)))
        return (Component(CONDITIONAL, None, 0, spec.names, slice(0, spec.p), terms, spec),)

    @cached_property
    def design(self) -> GeneralisedDesign | None:
        """The model as the solver of generalised models takes it; None of a linear one."""
        return None

    @cached_property
    def terms(self) -> tuple[RandomTerm, ...]:
        """Random terms of all components."""
        return self.specification.terms

    @cached_property
    def factors(self) -> tuple[GroupingFactor, ...]:
        """Grouping factors of all components."""
        return self.specification.factors

    @cached_property
    def beta(self) -> Floats:
        """Fixed effects of the mean (of its first predictor)."""
        return self.coefficients[self.components[0].coefficients]

    @cached_property
    def levels(self) -> tuple[Any, ...] | None:
        """Categories of a categorical response, in the user's order and type."""
        reading = self.specification.recipe.reading
        return None if reading is None else reading.levels

    @property
    def deviance(self) -> float:
        """Minus twice the log-likelihood of the criterion fitted."""
        return -2.0 * self.loglik

    @property
    def n_parameters(self) -> int:
        """All free parameters: coefficients, theta, and sigma where there is one."""
        return len(self.coefficients) + len(self.theta) + (self.sigma is not None)


@dataclass(frozen=True, eq=False, kw_only=True)
class LinearEstimate(Estimate):
    """A fitted linear mixed model, its residual standard deviation profiled out."""

    sigma: float = field()


@dataclass(frozen=True, eq=False, kw_only=True)
class GeneralisedEstimate(Estimate):
    """A fitted generalised linear mixed model, or a linear one with constraints or priors.

    Attributes
    ----------
    composition : Composition
        What was solved.
    predictors : (M, n) float64 array
        Linear predictors of the rows at the modes, random effects included.
    sampling : (q,) array or None
        Sampling weights of the levels of the only grouping factor; `loglik` is then that of a
        pseudo-likelihood, and covariances are sandwiches of the levels.
    """

    composition: Composition
    predictors: Floats
    sampling: Floats | None = None

    @cached_property
    def design(self) -> GeneralisedDesign:
        """The model as the solver takes it."""
        return self.composition.design

    @cached_property
    def components(self) -> tuple[Component, ...]:
        """Linear predictors and constants of the model, the mean's first."""
        return self.composition.components

    @cached_property
    def terms(self) -> tuple[RandomTerm, ...]:
        """Random terms of all components."""
        return self.design.terms

    @cached_property
    def factors(self) -> tuple[GroupingFactor, ...]:
        """Grouping factors of all components."""
        return self.design.factors

    @property
    def n_parameters(self) -> int:
        """All free parameters: coefficients of every component, and theta."""
        return self.design.constraints.n_free(len(self.coefficients), len(self.theta))


def as_generalised(estimate: Estimate) -> GeneralisedEstimate | None:
    """Return an estimate that came from the generalised engine as one, else None."""
    return estimate if isinstance(estimate, GeneralisedEstimate) else None


def component_of(estimate: Estimate, term: int, name: str | None = None) -> Component:
    """Return the component that a term of the design belongs to.

    Of a tied term, which belongs to several, that of the column of this name (or the first).
    """
    own = estimate.terms[term]
    part = None if name is None else own.part_of(name, "")
    return next(c for c in estimate.components if term in c.terms and (not part or c.name == part))


def columns_in(estimate: Estimate, term: int, part: Component) -> Floats:
    """Columns (n, r) of a term as they enter a part: zero where a tied one's are another's."""
    own = estimate.terms[term]
    if not own.parts:
        return own.z
    return np.where([name == part.name for name in own.parts], own.z, 0.0)


def theta_slices(estimate: Estimate) -> list[slice]:
    """Return where the parameters of each term stand in theta."""
    ends = np.cumsum([0] + [structure_of(term).n_parameters for term in estimate.terms])
    return [slice(int(a), int(b)) for a, b in itertools.pairwise(ends)]
