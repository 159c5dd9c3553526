"""Quantile residuals by simulation, for responses that are not normal."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from ranef.errors import ModelError
from ranef.families import CensoredGaussian, Multinomial
from ranef.inference.draws.generalised import simulate
from ranef.models.records import GeneralisedEstimate

__all__ = ["quantile_residuals", "ranked"]

Floats = NDArray[np.float64]

DRAWS = 250
AT_ONCE = 10


def quantile_residuals(estimate: GeneralisedEstimate, rng: np.random.Generator) -> Floats:
    """Normal quantiles of the rank of each response among responses of the model.

    Responses are drawn with new random effects; ties are broken at random, so that
    the rank is uniform and the residual standard normal for every family if the
    model holds (Dunn & Smyth 1996, J. Comput. Graph. Stat. 5; ranks among draws in
    place of the distribution function as in Gelman & Hill 2007, section 8.3).

    Returns
    -------
    (n_used,) float64 array

    Raises
    ------
    ModelError
        Of categories without an order, and of censored responses.
    """
    if isinstance(estimate.family, Multinomial | CensoredGaussian):
        raise ModelError(
            f"the family {estimate.family.name} has no quantile residuals: its responses "
            "have no order or are not known"
        )
    from scipy.special import ndtri

    batches = (simulate(estimate, AT_ONCE, rng) for _ in range(DRAWS // AT_ONCE))
    share = ranked(estimate.specification.y, batches, rng)
    return np.asarray(ndtri(share), dtype=np.float64)


def ranked(y: Floats, batches: Iterable[Floats], rng: np.random.Generator) -> Floats:
    """Rank of y (m,) among itself and batches of N draws (m, N_k), ties at random, over N + 1."""
    below, equal, N = np.zeros(len(y)), np.zeros(len(y)), 0
    for drawn in batches:
        below += np.count_nonzero(drawn < y[:, None], axis=1)
        equal += np.count_nonzero(drawn == y[:, None], axis=1)
        N += drawn.shape[1]
    return np.asarray((below + rng.random(len(y)) * (equal + 1.0)) / (N + 1.0))
