"""What is asked of the levels of a factor: linear combinations of coefficients and effects."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ranef.inference.effects.combinations import Combinations
from ranef.models.records import Component, Estimate

__all__ = [
    "coefficients",
    "columns_of",
    "components_of",
    "names_of",
    "own_terms",
    "predictions",
]

Floats = NDArray[np.float64]
Codes = NDArray[np.int32]


def components_of(estimate: Estimate) -> tuple[Component, ...]:
    """Return the parts of a model that have random terms."""
    return tuple(c for c in estimate.components if c.terms.stop > c.terms.start)


def own_terms(estimate: Estimate, part: Component, factor: int) -> tuple[int, ...]:
    """Return the random terms that a part has for a factor."""
    terms = estimate.terms
    return tuple(t for t in range(part.terms.start, part.terms.stop) if terms[t].factor == factor)


def names_of(estimate: Estimate, part: Component, factor: int) -> tuple[str, ...]:
    """Return the coefficients of a part that vary over the levels of a factor."""
    terms = estimate.terms
    own = own_terms(estimate, part, factor)
    return tuple(dict.fromkeys(name for t in own for name in terms[t].names))


def columns_of(estimate: Estimate, part: Component, factor: int) -> Floats:
    """Return the columns (n, m) of a factor's effects in a part, in the order of `names_of`."""
    names = names_of(estimate, part, factor)
    z = np.zeros((len(estimate.factors[factor].codes), len(names)))
    for t in own_terms(estimate, part, factor):
        term = estimate.terms[t]
        for a, name in enumerate(term.names):
            z[:, names.index(name)] = term.z[:, a]
    return z


def coefficients(
    estimate: Estimate, part: Component, factor: int, names: Sequence[str], *, with_fixed: bool
) -> Combinations:
    """Return the effects of each level, or fixed plus random effect (`with_fixed`).

    Rows go level by level, (q m): all m coefficients of the first level first. A
    coefficient without a fixed effect of its name varies around zero.
    """
    q, m = estimate.factors[factor].n_levels, len(names)
    X = np.zeros((q * m, len(estimate.coefficients)))
    if with_fixed:
        fixed = np.array([[float(have == name) for have in part.names] for name in names])
        X[:, part.coefficients] = np.tile(fixed.reshape(m, len(part.names)), (q, 1))
    columns = {
        t: np.array([[float(have == name) for have in term.names] for name in names])
        for t, term in enumerate(estimate.terms)
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
    q = estimate.factors[factor].n_levels
    X = np.zeros((q, len(estimate.coefficients)))
    X[:, part.coefficients] = x
    columns = {part.terms.start + t: np.atleast_2d(row) for t, row in enumerate(z)}
    return Combinations(X, _random(estimate, part, factor, columns, 1), constant)


def _random(
    estimate: Estimate, part: Component, factor: int, columns: dict[int, Floats], m: int
) -> tuple[tuple[Codes, Floats] | None, ...]:
    """Rows of random effects (q m): `columns` has (m, r) for each term that counts."""
    q = estimate.factors[factor].n_levels
    codes = np.repeat(np.arange(q, dtype=np.int32), m)
    own = own_terms(estimate, part, factor)
    return tuple(
        (codes, np.tile(columns[t], (q, 1))) if t in own else None
        for t in range(len(estimate.terms))
    )
