"""New responses drawn from a fitted generalised model."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ranef.inference.generalised.rows import linear_parts, own_rows
from ranef.inference.generalised.targets import has_zero
from ranef.inference.generalised.uncertainty import linear_predictors
from ranef.inference.simulation import EffectDraws
from ranef.models.estimate import GeneralisedEstimate

__all__ = ["simulate"]

Floats = NDArray[np.float64]


def simulate(
    estimate: GeneralisedEstimate, n: int, rng: np.random.Generator, *, conditional: bool = False
) -> Floats:
    """Draw n responses for the rows in the model, in the form of the response.

    The random effects stay at their conditional modes if `conditional`, else they
    are drawn anew: b ~ N(0, K x Psi) per term, K the identity without a kernel.
    Binomial responses are numbers of successes, categories count from 0. Weights
    stand for no rows of their own: each row is drawn once from its family.

    Returns
    -------
    (n_used, n) float64 array
    """
    parts = linear_parts(estimate, own_rows(estimate))
    fixed = linear_predictors(estimate, parts, conditional)
    effects = [] if conditional else _effects(estimate)
    extra, zero = estimate.extra, has_zero(estimate)
    drawn = np.empty((n, len(estimate.specification.y)))
    for row in drawn:
        etas = fixed.copy()
        b = [one.draw(rng) for one in effects]
        for eta, part in zip(etas, parts, strict=True):
            for term, codes, z in part.random if effects else ():
                eta += np.einsum("nr,nr->n", z, b[term][codes])
        row[:] = estimate.family.simulate(rng, etas, extra, zero=zero)
    return drawn.T


def _effects(estimate: GeneralisedEstimate) -> list[EffectDraws]:
    factors = estimate.design.factors
    return [
        EffectDraws.of(factors[term.factor].n_levels, psi, term.kernel)
        for term, psi in zip(estimate.terms, estimate.term_covariances, strict=True)
    ]
