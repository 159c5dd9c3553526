"""New responses drawn from a fitted generalised model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ranef.inference.draws.sampling import settled
from ranef.inference.draws.simulation import deviations, effect_draws, known_and_new
from ranef.inference.rows.parts import LinearPart, linear_parts
from ranef.inference.rows.targets import has_zero
from ranef.models.records import GeneralisedEstimate
from ranef.models.rows import Rows

if TYPE_CHECKING:
    from ranef.inference.draws.parameter_draws import GeneralisedDraw

__all__ = ["simulate"]

Floats = NDArray[np.float64]


def simulate(
    estimate: GeneralisedEstimate,
    n: int,
    rng: np.random.Generator,
    *,
    kind: str | None = None,
    conditional: bool = False,
    rows: Rows | None = None,
    n_levels: Sequence[int] | None = None,
    draws: Callable[[np.random.Generator], GeneralisedDraw] | None = None,
) -> Floats:
    """Draw n responses for the rows in the model, or for others, in the form of the response.

    The random effects are drawn anew, b ~ N(0, K x Psi) per term (``kind="new"``), stay
    at their modes (``"conditional"``), or are drawn from their distribution given data
    and parameters (``"posterior"``: `metropolis`, begun at a draw of the normal
    approximation); those of levels that the fit has not seen are drawn anew in any case.
    Binomial responses are numbers of successes, categories count from 0. Weights stand
    for no rows of their own: each row is drawn once from its family.

    Parameters
    ----------
    estimate : GeneralisedEstimate
    n : int
    rng : numpy.random.Generator
    kind : str
    conditional : bool
        What `kind` is where it is not given: ``"conditional"`` or ``"new"``.
    rows : Rows or None
        None for the rows in the model. Codes from the fit's number of levels on are
        levels that it has not seen.
    n_levels : sequence of int, optional
        Of each term, those not seen included.
    draws : callable, optional
        Draws parameters for each response; None keeps them at their estimates.

    Returns
    -------
    (n_rows, n) float64 array
    """
    kind = kind or ("conditional" if conditional else "new")
    own = Rows.of(estimate.parts, estimate.extra) if rows is None else rows
    parts = linear_parts(estimate, own)
    factors = estimate.design.factors
    seen = [factors[term.factor].n_levels for term in estimate.terms]
    levels = seen if n_levels is None else list(n_levels)
    any_new = levels != seen
    beta, modes, covariances = (
        estimate.coefficients, list(estimate.modes), list(estimate.covariances)
    )  # fmt: skip
    anew = effect_draws(estimate.terms, covariances, levels) if any_new or kind == "new" else []
    fixed = _fixed(parts, beta)
    extra, zero = own.extra, has_zero(estimate)
    drawn = np.empty((n, own.n))
    for row, deviation in zip(drawn, deviations(estimate, n, rng, kind), strict=True):
        if draws is not None:
            now = draws(rng)
            beta, modes, covariances = now.coefficients, now.modes, now.covariances
            fixed = _fixed(parts, beta)
            if anew:
                anew = effect_draws(estimate.terms, covariances, levels)
        etas = fixed.copy()
        known: Sequence[Floats] = modes
        if deviation is not None:
            begun = [b + d for b, d in zip(modes, deviation, strict=True)]
            known = settled(estimate, beta, begun, rng, None if draws is None else covariances)
        b = known_and_new(kind, known, None, anew, rng)
        for eta, part in zip(etas, parts, strict=True):
            for term, codes, z in part.random:
                eta += np.einsum("nr,nr->n", z, b[term][codes])
        row[:] = estimate.family.simulate(rng, etas, extra, zero=zero)
    return drawn.T


def _fixed(parts: Sequence[LinearPart], coefficients: Floats) -> Floats:
    """Linear predictors (M, N) without random effects."""
    out = np.empty((len(parts), len(parts[0].X)))
    for eta, part in zip(out, parts, strict=True):
        eta[:] = part.X @ coefficients[part.columns]
        if part.offset is not None:
            eta += part.offset
    return out
