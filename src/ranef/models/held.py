"""Which parameters of a model are held at a value, and which are equal.

The keys are those of `models.keys`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np

from ranef.covariance import structure_of
from ranef.design.terms import GroupingFactor, RandomTerm
from ranef.errors import ModelError, suggestion
from ranef.models.parameter_names import (
    GENERAL,
    coefficient_keys,
    deviation_keys,
    generality,
    matrix_keys,
    normal_form,
)
from ranef.models.records import Component
from ranef.solve.constraints import Constraints

__all__ = ["constraints_of", "held_deviations"]

SEPARATE = ("diag", "homdiag")


def constraints_of(
    fixed: Mapping[str, float] | None,
    equal: Sequence[Collection[str]] | None,
    components: Sequence[Component],
    terms: Sequence[RandomTerm],
    factors: Sequence[GroupingFactor],
) -> Constraints:
    """Match held values and groups of equal parameters with those of a model.

    Raises
    ------
    ModelError
        When a key names no parameter or one that cannot be held, a value cannot be
        that of its parameter, or the coefficients of a group are not of one part.
    """
    coefficients, deviations = _held(fixed, components, terms, factors)
    groups = _groups(equal, components, terms, factors)
    together = {k for group in groups for k in group}
    both = [k for k in coefficients if k in together]
    if both:
        raise ModelError(
            f"{_name(both[0], components)!r} is held at a value and equal to others as well; "
            "hold each of them, or leave one of the two out"
        )
    return Constraints(
        tuple(sorted(coefficients.items())), tuple(groups), tuple(sorted(deviations.items()))
    )


def held_deviations(constraints: Constraints, terms: Sequence[RandomTerm]) -> set[tuple[int, int]]:
    """Standard deviations that are held, as (term, column)."""
    held = {i for i, _ in constraints.deviations}
    return {
        (t, column)
        for t, term in enumerate(terms)
        if _separate(term)
        for column in range(structure_of(term).n_parameters)
        if _first(terms, t) + column in held
    }


def _held(
    fixed: Mapping[str, float] | None,
    components: Sequence[Component],
    terms: Sequence[RandomTerm],
    factors: Sequence[GroupingFactor],
) -> tuple[dict[int, float], dict[int, float]]:
    """Held coefficients and entries of theta with their values."""
    if fixed is None:
        return {}, {}
    if not isinstance(fixed, Mapping):
        raise ModelError(f'fixed is a mapping such as {{"x": 0.5}}, not {fixed!r}')
    by_coefficient = coefficient_keys(components)
    by_deviation = deviation_keys(terms, factors)
    by_matrix = matrix_keys(terms, factors)
    coefficients: dict[int, float] = {}
    deviations: dict[int, float] = {}
    named = [(normal_form(key, components, "fixed"), key, value) for key, value in fixed.items()]
    for name, key, value in sorted(named, key=generality):
        number = _number(key, value)
        if name in by_coefficient:
            coefficients |= dict.fromkeys(by_coefficient[name], number)
        elif name in by_deviation:
            _check_deviation(key, number)
            for t, column in by_deviation[name]:
                _check_term(key, terms[t], factors)
                deviations[_first(terms, t) + column] = number
        elif name in by_matrix or name.startswith("corr"):
            raise ModelError(
                f"{key!r} cannot be held: of correlations only that of zero can, by writing "
                "(x || g) in place of (x | g)"
            )
        else:
            raise _unknown(key, "hold", [*by_coefficient, *by_deviation])
    return coefficients, deviations


def _number(key: str, value: Any) -> float:
    if isinstance(value, bool | np.bool_) or not isinstance(value, int | float | np.number):
        raise ModelError(f"fixed[{key!r}] is a number, not {value!r}")
    if not np.isfinite(value):
        raise ModelError(f"fixed[{key!r}] must be finite, not {value!r}")
    return float(value)


def _check_deviation(key: str, value: float) -> None:
    if value < 0:
        raise ModelError(f"fixed[{key!r}] is a standard deviation: 0 or more, not {value!r}")


def _check_term(key: str, term: RandomTerm, factors: Sequence[GroupingFactor]) -> None:
    if _separate(term):
        return
    name = factors[term.factor].name
    advice = (
        f"write (x || {name}) or diag(x | {name}), whose standard deviations stand alone"
        if term.structure == "us"
        else "those of diag(...) and homdiag(...) and of terms with one column can"
    )
    raise ModelError(
        f"{key!r} cannot be held: the standard deviations of ({term.label}) are tied to its "
        f"correlations; {advice}"
    )


def _separate(term: RandomTerm) -> bool:
    """Tell whether each parameter of a term is a standard deviation."""
    return term.structure in SEPARATE or (term.structure == "us" and term.size == 1)


def _first(terms: Sequence[RandomTerm], t: int) -> int:
    """First entry of theta of a term."""
    return sum(structure_of(term).n_parameters for term in terms[:t])


def _groups(
    equal: Sequence[Collection[str]] | None,
    components: Sequence[Component],
    terms: Sequence[RandomTerm],
    factors: Sequence[GroupingFactor],
) -> list[tuple[int, ...]]:
    """Groups of coefficients with one value."""
    if equal is None:
        return []
    if isinstance(equal, str) or not isinstance(equal, Sequence):
        raise ModelError(_how(equal))
    by_coefficient = coefficient_keys(components)
    by_deviation = deviation_keys(terms, factors)
    seen: set[str] = set()
    groups = []
    for given in equal:
        if isinstance(given, str) or not isinstance(given, Collection) or len(given) < 2:
            raise ModelError(_how(given))
        names = [normal_form(key, components, "equal") for key in given]
        for key, name in zip(given, names, strict=True):
            _check_member(key, name, by_coefficient, by_deviation, seen)
            seen.add(name)
        groups += _by_component(names, by_coefficient, components)
    return groups


def _how(given: object) -> str:
    return (
        'equal is a list of groups of two or more coefficients, such as [("x1", "x2")]; '
        f"{given!r} is none"
    )


def _check_member(
    key: str,
    name: str,
    by_coefficient: Mapping[str, object],
    by_deviation: Mapping[str, object],
    seen: Collection[str],
) -> None:
    if name in by_deviation or name.startswith(("sd:", "corr")):
        raise ModelError(
            f"{key!r} cannot be made equal to others: equal is for coefficients. One standard "
            "deviation for all effects of a term is homdiag(x | g), with correlations homcs(x | g)"
        )
    if name in GENERAL or name not in by_coefficient:
        raise _unknown(key, "make equal", [k for k in by_coefficient if k not in GENERAL])
    if name in seen:
        raise ModelError(f"{key!r} stands in equal twice; put all that are equal into one group")


def _by_component(
    names: Sequence[str],
    by_coefficient: Mapping[str, list[int]],
    components: Sequence[Component],
) -> list[tuple[int, ...]]:
    """Return the group in each component that has it: a multinomial model has several."""
    members = [by_coefficient[name] for name in names]
    groups = [tuple(sorted(group)) for group in zip(*members, strict=False)]
    for group in groups:
        owners = {c.coefficients.start for c in components for k in group if _owns(c, k)}
        if len(owners) > 1:
            raise ModelError(
                f"{', '.join(names)} belong to several parts of the model, whose linear predictors "
                "are on different scales; only coefficients of one part can be equal"
            )
    return groups


def _owns(component: Component, k: int) -> bool:
    own = component.coefficients
    return k in range(own.start, own.stop)


def _name(k: int, components: Sequence[Component]) -> str:
    own = next(c for c in components if _owns(c, k))
    first: int = own.coefficients.start
    return own.names[k - first]


def _unknown(key: str, what: str, known: Sequence[str]) -> ModelError:
    return ModelError(
        f"no parameter {key!r} to {what}{suggestion(key, known)}; "
        f"there are {', '.join(map(repr, known))}"
    )
