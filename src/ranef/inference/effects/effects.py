"""Conditional modes of the levels with both of their standard deviations."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ranef.derivatives import generalised, linear
from ranef.design.terms import RandomTerm
from ranef.models.records import (
    Component,
    Estimate,
    GeneralisedEstimate,
    LinearEstimate,
    component_of,
)

__all__ = [
    "LevelEffects",
    "coefficients_by_level",
    "generalised_effects",
    "linear_effects",
]

Floats = NDArray[np.float64]
Random = Sequence[tuple[NDArray[np.int32], Floats] | None]


@dataclass(frozen=True, eq=False)
class LevelEffects:
    """The effects of the levels of one grouping factor.

    Attributes
    ----------
    factor : int
        Index into `Estimate.factors`.
    names : tuple of str
        The r coefficients.
    estimate : (q, r) float64 array
    cond_sd : (q, r) float64 array or None
        Standard deviation of the effect given the data and the parameters.
    std_error : (q, r) float64 array
        Standard deviation of the prediction error: with the uncertainty of
        the fixed effects.
    component : str
        The part of the model that the effects belong to.
    response : str or None
        Its category, in a multinomial model.
    levels : tuple or None
        Where they are not those of the factor.
    """

    factor: int
    names: tuple[str, ...]
    estimate: Floats
    cond_sd: Floats | None
    std_error: Floats
    component: str = "conditional"
    response: str | None = None
    levels: tuple[Any, ...] | None = None


def linear_effects(estimate: LinearEstimate) -> tuple[LevelEffects, ...]:
    """Conditional modes of every term, in formula order."""
    terms = estimate.specification.terms
    matrices = linear.conditional_covariances(estimate)
    return tuple(
        _by_member(
            term,
            LevelEffects(term.factor, term.names, b, diagonal_roots(given), diagonal_roots(error)),
        )
        for term, b, (given, error) in zip(terms, estimate.modes, matrices, strict=True)
    )


def _by_member(term: RandomTerm, found: LevelEffects) -> LevelEffects:
    """Effects of the levels of memberships, which are columns, as rows."""
    if term.member is None:
        return found
    given = None if found.cond_sd is None else found.cond_sd[:, :-1].T
    return replace(
        found,
        names=(term.member,),
        estimate=found.estimate[:, :-1].T,
        cond_sd=given,
        std_error=found.std_error[:, :-1].T,
    )


def generalised_effects(estimate: GeneralisedEstimate) -> tuple[LevelEffects, ...]:
    """Conditional modes of every term, component by component."""
    matrices = generalised.generalised_conditional_covariances(estimate)
    out = []
    for t, (given, error) in enumerate(matrices):
        term = estimate.terms[t]
        roots = diagonal_roots(given), diagonal_roots(error)
        for part in _parts(estimate, t):
            own = list(term.columns_of(part.name))
            names = tuple(term.name_in(part.name, term.names[j]) for j in own)
            b, cond_sd, std_error = (v[:, own] for v in (estimate.modes[t], *roots))
            one = LevelEffects(term.factor, names, b, cond_sd, std_error, part.name, part.response)
            out.append(_by_member(term, one))
    return tuple(out)


def _parts(estimate: Estimate, t: int) -> list[Component]:
    """The components that a term belongs to: several of a tied one."""
    if not estimate.terms[t].parts:
        return [component_of(estimate, t)]
    return [c for c in estimate.components if t in c.terms]


def coefficients_by_level(
    estimate: Estimate,
    factor: int,
    variance: Callable[[Floats, Random], Floats],
) -> tuple[LevelEffects, ...]:
    """Fixed plus random effect of each coefficient that varies over a factor's levels.

    Parameters
    ----------
    estimate : Estimate
    factor : int
        Index into `Estimate.factors`.
    variance : callable
        Variance (N,) of the errors of N combinations of the coefficients, X (N, P), and
        of random effects, one entry a term.

    Returns
    -------
    tuple of LevelEffects
        One for each component with such terms. The standard error is that of
        beta_j + b_j, counts the covariance of the two, and is given theta. A
        coefficient without a fixed effect of its name has its effect around zero.
    """
    found = []
    for part in estimate.components:
        own = [t for t in part.terms if estimate.terms[t].factor == factor]
        if own:
            found.append(_of_component(estimate, part, factor, own, variance))
    return tuple(found)


def _of_component(
    estimate: Estimate,
    part: Component,
    factor: int,
    own: list[int],
    variance: Callable[[Floats, Random], Floats],
) -> LevelEffects:
    place = _of_levels if estimate.factors[factor].members is None else _of_members
    names, q, effect = place(estimate, part, factor, own)
    values, errors = np.zeros((q, len(names))), np.zeros((q, len(names)))
    for c, name in enumerate(names):
        x = np.zeros(len(estimate.coefficients))
        x[part.coefficients] = [float(fixed == name) for fixed in part.names]
        values[:, c] = x @ estimate.coefficients
        random: list[Placed | None] = [None] * len(estimate.terms)
        for t in own:
            random[t], added = effect(t, name)
            values[:, c] += added
        found = variance(np.tile(x, (q, 1)), random)
        errors[:, c] = np.sqrt(np.maximum(found, 0.0))
    return LevelEffects(factor, names, values, None, errors, part.name, part.response)


Placed = tuple[NDArray[np.int32], Floats]
"""A term's level and the values of its columns, one row each."""
Effect = Callable[[int, str], tuple[Placed | None, Floats]]
"""Of a term and a coefficient: where the term has it at each level, and its predicted values."""


def _of_levels(
    estimate: Estimate, part: Component, factor: int, own: list[int]
) -> tuple[tuple[str, ...], int, Effect]:
    """Names of the coefficients, number of levels, and what each term gives."""
    columns = {t: estimate.terms[t].names_in(part.name) for t in own}
    names = tuple(dict.fromkeys(name for t in own for name in columns[t] if name))
    q = estimate.factors[factor].n_levels
    codes = np.arange(q, dtype=np.int32)

    def effect(t: int, name: str) -> tuple[Placed | None, Floats]:
        z = np.array([float(column == name) for column in columns[t]])
        return (codes, np.tile(z, (q, 1))), estimate.modes[t] @ z

    return names, q, effect


def _of_members(
    estimate: Estimate, part: Component, factor: int, own: list[int]
) -> tuple[tuple[str, ...], int, Effect]:
    """The same of levels of memberships, each with all of a row's weight."""
    names = tuple(dict.fromkeys(estimate.terms[t].member or "" for t in own))
    q = len(estimate.factors[factor].shown)
    codes = np.zeros(q, dtype=np.int32)

    def effect(t: int, name: str) -> tuple[Placed | None, Floats]:
        if estimate.terms[t].member != name:
            return None, np.zeros(q)
        return (codes, np.eye(q, q + 1)), estimate.modes[t][0, :q]

    return names, q, effect


def diagonal_roots(matrices: Floats) -> Floats:
    """Square roots (q, r) of the diagonals of (q, r, r) matrices."""
    roots: Floats = np.sqrt(np.maximum(np.einsum("qrr->qr", matrices), 0.0))
    return roots
