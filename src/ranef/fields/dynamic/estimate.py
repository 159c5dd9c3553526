"""What the solver found of a dynamic model, and what follows from it in numbers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from ranef import families
from ranef.design.specification import Specification
from ranef.design.terms import GroupingFactor
from ranef.families import Family
from ranef.fields.dynamic.arrays import Ordered, problem_of
from ranef.fields.dynamic.layout import Layout, layout_of
from ranef.fields.dynamic.problem import Nodes, Posterior, Problem, Rule, gauss_hermite
from ranef.fields.dynamic.reading import CONDITIONAL, Texts, person_factor
from ranef.fields.dynamic.search import SearchEnd
from ranef.solve.resources import available_cores

__all__ = ["DynamicEstimate", "PersonEffects"]

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class PersonEffects:
    """The effects of persons given the data.

    Attributes
    ----------
    mean : (N, r) float64 array
    given : (N, r) float64 array
        Their standard deviations, the parameters as they are.
    error : (N, r) float64 array
        With the uncertainty of the parameters.
    """

    mean: Floats
    given: Floats
    error: Floats


@dataclass(frozen=True, eq=False)
class DynamicEstimate:
    """The optimum of a dynamic model.

    Attributes
    ----------
    parts : dict of Specification
        ``"conditional"``, ``"inputs"`` where there are some, ``"inertia"``, ``"dispersion"``.
    texts : Texts
        The formulas as typed.
    memory : str
        ``"fisher"``, ``"plain"`` or ``"clock"``, see `Problem`.
    given_starts : bool
    end : SearchEnd
    """

    parts: Mapping[str, Specification]
    texts: Texts
    memory: str
    given_starts: bool
    end: SearchEnd

    extra: ClassVar[None] = None
    """What its family needs beside the response: nothing."""

    @property
    def specification(self) -> Specification:
        """That of the level."""
        return self.parts[CONDITIONAL]

    @property
    def family(self) -> Family:
        """Of the response."""
        return families.family("gaussian")

    @property
    def factors(self) -> tuple[GroupingFactor, ...]:
        """The persons."""
        return (self.persons,)

    @cached_property
    def layout(self) -> Layout:
        """Where the parameters stand."""
        return layout_of(self.parts)

    @cached_property
    def ordered(self) -> Ordered:
        """The rows as the likelihood takes them."""
        return problem_of(
            self.parts, self.layout, self.memory, self.given_starts, available_cores()
        )

    @property
    def problem(self) -> Problem:
        """The likelihood."""
        return self.ordered.problem

    @property
    def persons(self) -> GroupingFactor:
        """The grouping factor of the effects."""
        found: GroupingFactor = person_factor(self.parts)
        return found

    @cached_property
    def rule(self) -> Rule:
        """The quadrature."""
        return gauss_hermite(self.end.points, self.layout.d)

    @cached_property
    def nodes(self) -> Nodes:
        """Where it stands."""
        return self.problem.nodes(self.end.theta)

    @cached_property
    def posterior(self) -> Posterior:
        """Effects of persons given the data, as mixtures."""
        return self.problem.posterior(self.end.theta, self.rule, self.nodes)

    @cached_property
    def covariance(self) -> Floats:
        """Covariance (P, P) of the parameters; zero of entries of L that stand at zero."""
        free = ~self.end.zero
        own = self.end.information[np.ix_(free, free)]
        size = np.sqrt(np.abs(np.diag(own)))
        size[size == 0] = 1.0
        out = np.zeros((self.layout.size, self.layout.size))
        try:
            inverse = np.linalg.inv(own / np.outer(size, size)) / np.outer(size, size)
        except np.linalg.LinAlgError:
            inverse = np.full(own.shape, np.nan)
        out[np.ix_(free, free)] = (inverse + inverse.T) / 2
        return out

    @cached_property
    def scores(self) -> Floats:
        """Derivatives of each person's log-likelihood, (N, P)."""
        return self.problem.evaluate(self.end.theta, self.rule, self.nodes).scores

    @cached_property
    def effects(self) -> PersonEffects:
        """Posterior means of the effects, with both standard deviations.

        The second adds J C J', J the derivatives of the means in the parameters (Booth &
        Hobert 1998, Journal of the American Statistical Association 93: 262-272).
        """
        theta, problem = self.end.theta, self.problem
        found = problem.evaluate(theta, self.rule, self.nodes)
        variance = np.diagonal(found.second, axis1=1, axis2=2) - found.mean**2
        given = np.sqrt(np.maximum(variance, 0.0))
        C = self.covariance
        steps = 1e-3 * np.sqrt(np.maximum(np.diag(C), 0.0))
        J = np.zeros((*found.mean.shape, len(theta)))
        for k in np.flatnonzero((steps > 0) & np.isfinite(steps)):
            ends = []
            for sign in (1.0, -1.0):
                at = theta.copy()
                at[k] += sign * steps[k]
                moved = problem.nodes(at, self.nodes.mode)
                ends.append(problem.evaluate(at, self.rule, moved).mean)
            J[:, :, k] = (ends[0] - ends[1]) / (2 * steps[k])
        more = np.einsum("nrk,kl,nrl->nr", J, np.nan_to_num(C), J)
        return PersonEffects(found.mean, given, np.sqrt(given**2 + np.maximum(more, 0.0)))
