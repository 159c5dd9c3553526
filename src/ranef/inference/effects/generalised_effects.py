"""Random effects of a generalised model: by coefficient and level, posterior means."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ranef.derivatives import generalised
from ranef.inference.effects.effects import LevelEffects
from ranef.models.records import Component, GeneralisedEstimate
from ranef.solve import quadrature

__all__ = ["PosteriorMeans", "coefficients_by_level", "posterior_means"]

Floats = NDArray[np.float64]

NODES = 15


def coefficients_by_level(
    estimate: GeneralisedEstimate, factor: int, component: str | None = None
) -> tuple[LevelEffects, ...]:
    """Fixed plus random effect of each coefficient that varies over a factor's levels.

    Parameters
    ----------
    estimate : GeneralisedEstimate
    factor : int
        Index into ``estimate.design.factors``.
    component : str or None
        Only of components of that name.

    Returns
    -------
    tuple of LevelEffects
        One for each component with such terms. The standard error is that of
        beta_j + b_j, counts the covariance of the two, and is given theta. A
        coefficient without a fixed effect of its name has its effect around zero.
    """
    found = []
    for part in estimate.components:
        own = [
            t
            for t in range(part.terms.start, part.terms.stop)
            if estimate.terms[t].factor == factor
        ]
        if own and component in (None, part.name):
            found.append(_of_component(estimate, part, factor, own))
    return tuple(found)


def _of_component(
    estimate: GeneralisedEstimate, part: Component, factor: int, own: list[int]
) -> LevelEffects:
    names = tuple(dict.fromkeys(name for t in own for name in estimate.terms[t].names))
    q = estimate.design.factors[factor].n_levels
    codes = np.arange(q, dtype=np.int32)
    values, errors = np.zeros((q, len(names))), np.zeros((q, len(names)))
    for c, name in enumerate(names):
        x = np.zeros(len(estimate.coefficients))
        x[part.coefficients] = [float(fixed == name) for fixed in part.names]
        values[:, c] = x @ estimate.coefficients
        random: list[tuple[NDArray[np.int32], Floats] | None] = [None] * len(estimate.terms)
        for t in own:
            z = np.array([float(column == name) for column in estimate.terms[t].names])
            random[t] = (codes, np.tile(z, (q, 1)))
            values[:, c] += estimate.term_modes[t] @ z
        variance = generalised.generalised_prediction_variance(estimate, np.tile(x, (q, 1)), random)
        errors[:, c] = np.sqrt(np.maximum(variance, 0.0))
    return LevelEffects(factor, names, values, None, errors, part.name, part.response)


@dataclass(frozen=True, eq=False)
class PosteriorMeans:
    """Mean and standard deviation of the effects of one term, given data and parameters.

    Attributes
    ----------
    term : int
        Index into ``estimate.terms``.
    mean, sd : (q, r) float64 arrays
    """

    term: int
    mean: Floats
    sd: Floats


def posterior_means(
    estimate: GeneralisedEstimate, nodes: int | None = None
) -> tuple[PosteriorMeans, ...]:
    """Posterior means of the random effects, beside which the modes may stand.

    By adaptive Gauss-Hermite quadrature around the modes (Pinheiro & Chao 2006,
    J. Comput. Graph. Stat. 15), at the estimated parameters.

    Parameters
    ----------
    estimate : GeneralisedEstimate
        With one grouping factor or factors nested in each other, without kernels, and
        at most three random effects a level.
    nodes : int or None
        Of each dimension. None takes 15, or fewer where a row has so many effects that
        they would make more than 20,000 points.

    Raises
    ------
    ModelError
        When the model is another.
    """
    chosen = quadrature.comfortable_nodes(estimate.design, NODES) if nodes is None else nodes
    found = generalised.posterior_moments(estimate, chosen)
    return tuple(
        PosteriorMeans(t, mean, np.sqrt(np.maximum(np.einsum("qrr->qr", covariance), 0.0)))
        for t, (mean, covariance) in enumerate(found)
    )
