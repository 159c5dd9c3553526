"""Which parameter each prior belongs to.

The keys are those of `models.keys`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from ranef.design.terms import GroupingFactor, RandomTerm
from ranef.errors import ModelError, suggestion
from ranef.models.held import held_deviations
from ranef.models.parameter_names import (
    coefficient_keys,
    deviation_keys,
    generality,
    matrix_keys,
    normal_form,
)
from ranef.models.records import Component, Estimate
from ranef.priors import LKJ, OF_COEFFICIENTS, OF_DEVIATIONS, Prior
from ranef.solve.constraints import Constraints
from ranef.solve.penalty import Penalty

__all__ = ["penalty_of", "refuse_penalised"]


def penalty_of(
    priors: Mapping[str, Any] | None,
    components: Sequence[Component],
    terms: Sequence[RandomTerm],
    factors: Sequence[GroupingFactor],
    constraints: Constraints,
) -> Penalty | None:
    """Match priors with the parameters of a model that are free.

    A prior of several parameters leaves out those that are held; coefficients that
    are equal have one.

    Raises
    ------
    ModelError
        When a key names no parameter, or only parameters that are held; or a prior
        is not for such a parameter.
    """
    if not priors:
        return None
    if not isinstance(priors, Mapping):
        raise ModelError('priors is a mapping such as {"sd": ranef.priors.HalfT(3, 2.5)}')
    by_coefficient = coefficient_keys(components)
    by_deviation = deviation_keys(terms, factors)
    by_matrix = matrix_keys(terms, factors)
    known = list(dict.fromkeys([*by_coefficient, *by_deviation, *by_matrix]))
    coefficients: dict[int, Prior] = {}
    deviations: list[list[Prior | None]] = [[None] * term.size for term in terms]
    correlations = [1.0] * len(terms)
    held = {k for k, _ in constraints.coefficients}
    still = held_deviations(constraints, terms)
    named = [(normal_form(key, components, "priors"), key, prior) for key, prior in priors.items()]
    for name, key, prior in sorted(named, key=generality):
        if name in by_coefficient:
            _check(key, prior, OF_COEFFICIENTS, "a coefficient")
            for k in _free(key, by_coefficient[name], held):
                coefficients[k] = prior
        elif name in by_deviation:
            _check(key, prior, OF_DEVIATIONS, "a standard deviation")
            for t, column in _free(key, by_deviation[name], still):
                deviations[t][column] = prior
        elif name in by_matrix:
            _check(key, prior, (LKJ,), "a correlation matrix")
            for t in by_matrix[name]:
                correlations[t] = float(prior.eta)
        else:
            raise ModelError(
                f"no parameter {key!r} for a prior{suggestion(name, known)}; "
                f"there are {', '.join(map(repr, known))}"
            )
    for group in constraints.equal:
        _join(coefficients, group, components)
    return Penalty(
        tuple(sorted(coefficients.items())), tuple(map(tuple, deviations)), tuple(correlations)
    )


def _check(key: str, prior: Any, kinds: tuple[type, ...], what: str) -> None:
    if not isinstance(prior, kinds):
        names = ", ".join(kind.__name__ for kind in kinds)
        raise ModelError(
            f"the prior of {key!r} is {prior!r}; {what} takes one of ranef.priors: {names}"
        )


def _free(key: str, named: list[Any], held: Collection[Any]) -> list[Any]:
    """Those of the parameters of a key that are not held."""
    free = [parameter for parameter in named if parameter not in held]
    if not free:
        raise ModelError(
            f"{key!r} has a prior and is held at a value as well; a parameter that does not "
            "move needs no prior: leave one of them out"
        )
    return free


def _join(
    coefficients: dict[int, Prior], group: tuple[int, ...], components: Sequence[Component]
) -> None:
    """Leave one prior to coefficients that are equal."""
    given = [coefficients.pop(k) for k in group if k in coefficients]
    if any(prior != given[0] for prior in given):
        names = ", ".join(
            c.names[k - c.coefficients.start]
            for k in group
            for c in components
            if c.coefficients.start <= k < c.coefficients.stop
        )
        raise ModelError(f"{names} are one coefficient: give them one prior, not several")
    if given:
        coefficients[group[0]] = given[0]


def refuse_penalised(estimate: Estimate, what: str) -> None:
    """Refuse fits with priors, whose likelihood is not at its maximum."""
    if estimate.priors:
        raise ModelError(
            f"{what} rests on a maximum of the likelihood, and this fit maximised the likelihood "
            "times its priors; fit it without priors"
        )
