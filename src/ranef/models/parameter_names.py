"""Names of the parameters of a generalised model, for priors and constraints.

From the general to the particular (the particular one counts):

- ``"fixed"``: every coefficient of the mean but its intercept;
- a coefficient of the mean by name, ``"Days"``; of another part ``"zero: Days"``;
- ``"sd"``: every standard deviation; ``"sd: Subject"``: those of a grouping factor;
  ``"sd: Subject: Days"``: that of one effect;
- ``"corr"``: every correlation matrix; ``"corr: Subject"``: those of a factor.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ranef.covariance.vocabulary import HOMOGENEOUS
from ranef.design.terms import GroupingFactor, RandomTerm
from ranef.errors import ModelError
from ranef.models.records import Component

__all__ = [
    "GENERAL",
    "coefficient_keys",
    "deviation_keys",
    "generality",
    "matrix_keys",
    "normal_form",
]

INTERCEPT = "(Intercept)"
CONDITIONAL = "conditional"
GENERAL = ("fixed", "sd", "corr")


def generality(named: tuple[str, Any, Any]) -> tuple[bool, int]:
    """Sort what speaks of many parameters before what speaks of few."""
    return named[0] not in GENERAL, named[0].count(":")


def normal_form(key: Any, components: Sequence[Component], where: str) -> str:
    """Return a key of `where` with one space after each colon that separates its parts."""
    if not isinstance(key, str):
        raise ModelError(f"the names in {where} are text, not {key!r}")
    heads = {"sd", "corr", *(component.name for component in components)}
    head, *rest = key.split(":", 1)
    parted = bool(rest) and head.strip() in heads
    return f"{head.strip()}: {rest[0].strip()}" if parted else key.strip()


def coefficient_keys(components: Sequence[Component]) -> dict[str, list[int]]:
    """Coefficients by the names that speak of them."""
    keys: dict[str, list[int]] = {}
    for component in components:
        for k, name in enumerate(component.names):
            own = name if component.name == CONDITIONAL else f"{component.name}: {name}"
            keys.setdefault(own, []).append(component.coefficients.start + k)
            if component.name == CONDITIONAL and name != INTERCEPT:
                keys.setdefault("fixed", []).append(component.coefficients.start + k)
    return keys


def deviation_keys(
    terms: Sequence[RandomTerm], factors: Sequence[GroupingFactor]
) -> dict[str, list[tuple[int, int]]]:
    """Standard deviations, as (term, column), by the names that speak of them."""
    keys: dict[str, list[tuple[int, int]]] = {}
    for t, term in enumerate(terms):
        group = factors[term.factor].name
        # where all columns share one standard deviation, the first speaks for it
        count = 1 if term.structure in HOMOGENEOUS else term.size
        for column in range(count):
            name = term.member or term.names[column]
            bare = term.name_in(term.part_of(name, ""), name)
            for key in dict.fromkeys(("sd", *(f"sd: {x}" for x in _names(group, name, bare)))):
                keys.setdefault(key, []).append((t, column))
    return keys


def _names(group: str, name: str, bare: str) -> tuple[str, ...]:
    """A factor, and an effect of it with and without the name of its part."""
    return group, f"{group}: {bare}", f"{group}: {name}"


def matrix_keys(
    terms: Sequence[RandomTerm], factors: Sequence[GroupingFactor]
) -> dict[str, list[int]]:
    """Terms with a correlation matrix by the names that speak of them."""
    keys: dict[str, list[int]] = {}
    for t, term in enumerate(terms):
        if term.structure == "us" and term.size > 1:
            for key in ("corr", f"corr: {factors[term.factor].name}"):
                keys.setdefault(key, []).append(t)
    return keys
