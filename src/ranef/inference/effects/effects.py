"""Conditional modes of the levels with both of their standard deviations."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ranef.derivatives import generalised, linear
from ranef.models.records import Estimate, GeneralisedEstimate, component_of

__all__ = ["LevelEffects", "coefficients_by_level", "level_effects"]

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class LevelEffects:
    """The effects of the levels of one grouping factor.

    Attributes
    ----------
    factor : int
        Index into `Specification.factors`; of a generalised model, into those of
        its design.
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
    """

    factor: int
    names: tuple[str, ...]
    estimate: Floats
    cond_sd: Floats | None
    std_error: Floats
    component: str = "conditional"
    response: str | None = None


def level_effects(estimate: Estimate) -> tuple[LevelEffects, ...]:
    """Conditional modes of every term, in formula order, component by component."""
    if isinstance(estimate, GeneralisedEstimate):
        return _generalised(estimate)
    terms = estimate.specification.terms
    matrices = linear.conditional_covariances(estimate)
    return tuple(
        LevelEffects(term.factor, term.names, b, diagonal_roots(given), diagonal_roots(error))
        for term, b, (given, error) in zip(terms, estimate.modes, matrices, strict=True)
    )


def _generalised(estimate: GeneralisedEstimate) -> tuple[LevelEffects, ...]:
    matrices = generalised.generalised_conditional_covariances(estimate)
    out = []
    for t, (given, error) in enumerate(matrices):
        term, part = estimate.terms[t], component_of(estimate, t)
        roots = diagonal_roots(given), diagonal_roots(error)
        b = estimate.term_modes[t]
        out.append(LevelEffects(term.factor, term.names, b, *roots, part.name, part.response))
    return tuple(out)


def coefficients_by_level(estimate: Estimate, factor: int) -> LevelEffects:
    """Fixed plus random effect of each coefficient that varies over a factor's levels.

    The standard error is that of beta_j + b_j and counts the covariance of the
    two. A coefficient without a fixed effect of its name has its effect around
    zero.
    """
    spec = estimate.specification
    own = [t for t, term in enumerate(spec.terms) if term.factor == factor]
    names = tuple(dict.fromkeys(name for t in own for name in spec.terms[t].names))
    q = spec.factors[factor].n_levels
    value, error = np.zeros((q, len(names))), np.zeros((q, len(names)))
    for c, name in enumerate(names):
        value[:, c], error[:, c] = _one_coefficient(estimate, factor, own, name)
    return LevelEffects(factor, names, value, None, error)


def _one_coefficient(
    estimate: Estimate, factor: int, own: list[int], name: str
) -> tuple[Floats, Floats]:
    """Value and standard error (q,) of one coefficient at every level."""
    spec = estimate.specification
    q = spec.factors[factor].n_levels
    x = np.array([float(fixed == name) for fixed in spec.names])
    codes = np.arange(q, dtype=np.int32)
    random: list[tuple[NDArray[np.int32], Floats] | None] = [None] * len(spec.terms)
    value = np.full(q, x @ estimate.beta)
    for t in own:
        z = np.array([float(column == name) for column in spec.terms[t].names])
        random[t] = (codes, np.tile(z, (q, 1)))
        value = value + estimate.modes[t] @ z
    variance = linear.prediction_variance(estimate, np.tile(x, (q, 1)), random)
    return value, np.sqrt(np.maximum(variance, 0.0))


def diagonal_roots(matrices: Floats) -> Floats:
    """Square roots (q, r) of the diagonals of (q, r, r) matrices."""
    roots: Floats = np.sqrt(np.maximum(np.einsum("qrr->qr", matrices), 0.0))
    return roots
