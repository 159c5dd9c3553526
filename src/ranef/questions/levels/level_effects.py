"""What is asked of the levels of a factor: linear combinations of coefficients and effects."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ranef.inference.effects.combinations import Combinations, fixed_effects
from ranef.models.labels import factors_of, terms_of
from ranef.models.records import Component, Estimate, GeneralisedEstimate

__all__ = [
    "coefficients",
    "components_of",
    "names_of",
    "own_terms",
    "predictions",
]

Floats = NDArray[np.float64]
Codes = NDArray[np.int32]


def components_of(estimate: Estimate) -> tuple[Component, ...]:
    """Return the parts of a model that have random terms; a linear one has one part."""
    if isinstance(estimate, GeneralisedEstimate):
        return tuple(c for c in estimate.components if c.terms.stop > c.terms.start)
    spec = estimate.specification
    whole = slice(0, spec.p), slice(0, len(spec.terms))
    return (Component("conditional", None, 0, spec.names, *whole, spec),)


def own_terms(estimate: Estimate, part: Component, factor: int) -> tuple[int, ...]:
    """Return the random terms that a part has for a factor."""
    terms = terms_of(estimate)
    return tuple(t for t in range(part.terms.start, part.terms.stop) if terms[t].factor == factor)


def names_of(estimate: Estimate, part: Component, factor: int) -> tuple[str, ...]:
    """Return the coefficients of a part that vary over the levels of a factor."""
    terms = terms_of(estimate)
    own = own_terms(estimate, part, factor)
    return tuple(dict.fromkeys(name for t in own for name in terms[t].names))


def coefficients(
    estimate: Estimate, part: Component, factor: int, names: Sequence[str], *, with_fixed: bool
) -> Combinations:
    """Return the effects of each level, or fixed plus random effect (`with_fixed`).

    Rows go level by level, (q m): all m coefficients of the first level first. A
    coefficient without a fixed effect of its name varies around zero.
    """
    q, m = factors_of(estimate)[factor].n_levels, len(names)
    X = np.zeros((q * m, len(fixed_effects(estimate))))
    if with_fixed:
        fixed = np.array([[float(have == name) for have in part.names] for name in names])
        X[:, part.coefficients] = np.tile(fixed.reshape(m, len(part.names)), (q, 1))
    columns = {
        t: np.array([[float(have == name) for have in term.names] for name in names])
        for t, term in enumerate(terms_of(estimate))
    }
    return Combinations(X, _random(estimate, part, factor, columns, m))


def predictions(
    estimate: Estimate,
    part: Component,
    factor: int,
    x: Floats,
    z: Sequence[Floats],
    constant: float = 0.0,
) -> Combinations:
    """Return the linear predictor of each level (q) for one row of covariates.

    Parameters
    ----------
    x : (c,) array
        For the coefficients of the part.
    z : sequence of (r,) arrays
        For each random term of the part; those of other factors are not read: their
        effects are zero.
    constant : float
        Of the offset.
    """
    q = factors_of(estimate)[factor].n_levels
    X = np.zeros((q, len(fixed_effects(estimate))))
    X[:, part.coefficients] = x
    columns = {part.terms.start + t: np.atleast_2d(row) for t, row in enumerate(z)}
    return Combinations(X, _random(estimate, part, factor, columns, 1), constant)


def _random(
    estimate: Estimate, part: Component, factor: int, columns: dict[int, Floats], m: int
) -> tuple[tuple[Codes, Floats] | None, ...]:
    """Rows of random effects (q m): `columns` has (m, r) for each term that counts."""
    q = factors_of(estimate)[factor].n_levels
    codes = np.repeat(np.arange(q, dtype=np.int32), m)
    own = own_terms(estimate, part, factor)
    return tuple(
        (codes, np.tile(columns[t], (q, 1))) if t in own else None
        for t in range(len(terms_of(estimate)))
    )
