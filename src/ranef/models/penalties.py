"""Which parameter each prior belongs to.

Keys, from the general to the particular (the particular one counts):

- ``"fixed"``: every coefficient of the mean but its intercept;
- a coefficient of the mean by name, ``"Days"``; of another part ``"zero: Days"``;
- ``"sd"``: every standard deviation; ``"sd: Subject"``: those of a grouping factor;
  ``"sd: Subject: Days"``: that of one effect;
- ``"corr"``: every correlation matrix; ``"corr: Subject"``: those of a factor.

May import `priors`, `covariance`, `solve.penalty`, `design.specification`, `errors`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ranef.covariance.vocabulary import HOMOGENEOUS
from ranef.design.specification import GroupingFactor, RandomTerm
from ranef.errors import ModelError, suggestion
from ranef.models.estimate import Component
from ranef.priors import LKJ, OF_COEFFICIENTS, OF_DEVIATIONS, Prior
from ranef.solve.penalty import Penalty

__all__ = ["penalty_of"]

INTERCEPT = "(Intercept)"
CONDITIONAL = "conditional"


def penalty_of(
    priors: Mapping[str, Any] | None,
    components: Sequence[Component],
    terms: Sequence[RandomTerm],
    factors: Sequence[GroupingFactor],
) -> Penalty | None:
    """Match priors with the parameters of a model.

    Raises
    ------
    ModelError
        When a key names no parameter, or a prior is not for such a parameter.
    """
    if not priors:
        return None
    if not isinstance(priors, Mapping):
        raise ModelError('priors is a mapping such as {"sd": ranef.priors.HalfT(3, 2.5)}')
    by_coefficient = _coefficient_keys(components)
    by_deviation = _deviation_keys(terms, factors)
    by_matrix = _matrix_keys(terms, factors)
    known = list(dict.fromkeys([*by_coefficient, *by_deviation, *by_matrix]))
    coefficients: dict[int, Prior] = {}
    deviations: list[list[Prior | None]] = [[None] * term.size for term in terms]
    correlations = [1.0] * len(terms)
    heads = {"sd", "corr", *(component.name for component in components)}
    named = [(_normal_form(key, heads), key, prior) for key, prior in priors.items()]
    for name, key, prior in sorted(named, key=_generality):
        if name in by_coefficient:
            _check(key, prior, OF_COEFFICIENTS, "a coefficient")
            for k in by_coefficient[name]:
                coefficients[k] = prior
        elif name in by_deviation:
            _check(key, prior, OF_DEVIATIONS, "a standard deviation")
            for t, column in by_deviation[name]:
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
    return Penalty(
        tuple(sorted(coefficients.items())), tuple(map(tuple, deviations)), tuple(correlations)
    )


def _generality(named: tuple[str, str, Any]) -> tuple[bool, int]:
    """Sort what speaks of many parameters before what speaks of few."""
    return named[0] not in ("fixed", "sd", "corr"), named[0].count(":")


def _normal_form(key: Any, heads: set[str]) -> str:
    """Return a key with one space after each colon that separates its parts."""
    if not isinstance(key, str):
        raise ModelError(f"the names in priors are text, not {key!r}")
    head, *rest = key.split(":", 1)
    parted = bool(rest) and head.strip() in heads
    return f"{head.strip()}: {rest[0].strip()}" if parted else key.strip()


def _check(key: str, prior: Any, kinds: tuple[type, ...], what: str) -> None:
    if not isinstance(prior, kinds):
        names = ", ".join(kind.__name__ for kind in kinds)
        raise ModelError(
            f"the prior of {key!r} is {prior!r}; {what} takes one of ranef.priors: {names}"
        )


def _coefficient_keys(components: Sequence[Component]) -> dict[str, list[int]]:
    keys: dict[str, list[int]] = {}
    for component in components:
        for k, name in enumerate(component.names):
            own = name if component.name == CONDITIONAL else f"{component.name}: {name}"
            keys.setdefault(own, []).append(component.coefficients.start + k)
            if component.name == CONDITIONAL and name != INTERCEPT:
                keys.setdefault("fixed", []).append(component.coefficients.start + k)
    return keys


def _deviation_keys(
    terms: Sequence[RandomTerm], factors: Sequence[GroupingFactor]
) -> dict[str, list[tuple[int, int]]]:
    keys: dict[str, list[tuple[int, int]]] = {}
    for t, term in enumerate(terms):
        group = factors[term.factor].name
        # where all columns share one standard deviation, the first speaks for it
        count = 1 if term.structure in HOMOGENEOUS else term.size
        for column in range(count):
            for key in ("sd", f"sd: {group}", f"sd: {group}: {term.names[column]}"):
                keys.setdefault(key, []).append((t, column))
    return keys


def _matrix_keys(
    terms: Sequence[RandomTerm], factors: Sequence[GroupingFactor]
) -> dict[str, list[int]]:
    keys: dict[str, list[int]] = {}
    for t, term in enumerate(terms):
        if term.structure == "us" and term.size > 1:
            for key in ("corr", f"corr: {factors[term.factor].name}"):
                keys.setdefault(key, []).append(t)
    return keys
