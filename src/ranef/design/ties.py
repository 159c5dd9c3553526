"""Random effects that a label ties across the parts of a model: ``(1 | p | g)``.

The terms of one label become one term with a common covariance matrix. Each part keeps a term
of all its columns, zero where they are another part's, so that what is linear in the effects
needs to know nothing of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from ranef.design.random import spread
from ranef.design.specification import Specification
from ranef.design.terms import RandomTerm
from ranef.errors import ModelError

__all__ = ["tied"]

CONDITIONAL = "conditional"


def tied(parts: Mapping[str, Specification]) -> dict[str, Specification]:
    """Bring the terms of each label together.

    Raises
    ------
    ModelError
        When a label stands in one part alone, twice in a part, or with several grouping factors.
    """
    found: dict[str, list[tuple[str, int]]] = {}
    for name, spec in parts.items():
        for t, term in enumerate(spec.terms):
            if term.tie is not None:
                found.setdefault(term.tie, []).append((name, t))
    out = dict(parts)
    for label, places in found.items():
        _check(label, places, parts)
        _tie(places, out)
    return out


def _check(label: str, places: list[tuple[str, int]], parts: Mapping[str, Specification]) -> None:
    """Refuse a label that ties nothing, or what cannot be tied."""
    terms = [parts[name].terms[t] for name, t in places]
    names = [name for name, _ in places]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise ModelError(
            f"the label {label} occurs twice in the {twice} part: write its effects into one "
            f"term, such as (1 + x | {label} | g)"
        )
    if len(places) == 1:
        plain = terms[0].label.replace(f" | {label} | ", " | ")
        raise ModelError(
            f"the label {label} of ({terms[0].label}) ties nothing: no other part has it. Write "
            f"({plain}), or ({terms[0].label}) in zero= or dispersion= as well"
        )
    factors = [parts[name].factors[parts[name].terms[t].factor].name for name, t in places]
    if len(set(factors)) > 1:
        raise ModelError(
            f"the label {label} ties effects of one grouping factor, not those of "
            f"{' and '.join(dict.fromkeys(factors))}"
        )


def _tie(places: list[tuple[str, int]], parts: dict[str, Specification]) -> None:
    """Give each part the term with all columns."""
    own = {name: parts[name].terms[t] for name, t in places}
    owners = tuple(name for name, term in own.items() for _ in term.names)
    names = tuple(
        column if name == CONDITIONAL else f"{name}: {column}"
        for name, term in own.items()
        for column in term.names
    )
    for name, t in places:
        columns = tuple(j for j, part in enumerate(owners) if part == name)
        term = replace(
            own[name], names=names, z=spread(own[name].z, columns, len(names)), parts=owners
        )
        parts[name] = _with_term(parts[name], t, term, columns)


def _with_term(
    spec: Specification, t: int, term: RandomTerm, columns: tuple[int, ...]
) -> Specification:
    """Replace one term, and how it is made again."""
    recipe = spec.recipe
    recipes = list(recipe.random_recipes)
    recipes[t] = replace(recipes[t], tied=(*columns, term.size))
    again = replace(recipe, random_recipes=tuple(recipes))
    vars(again)["model"] = recipe.model  # as `Recipe.model` would read it again
    terms = (*spec.terms[:t], term, *spec.terms[t + 1 :])
    return replace(spec, terms=terms, X=spec.fixed_rows, recipe=again)
