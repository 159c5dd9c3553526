"""How widely new responses of rows are drawn."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ranef.models.noise import Noise
from ranef.models.records import CONDITIONAL, Estimate, LinearEstimate
from ranef.models.rows import Rows

__all__ = ["variances_of_draws"]


def variances_of_draws(estimate: Estimate, rows: Rows) -> NDArray[np.float64]:
    """Variance (K, N) of each linear predictor at rows of new levels, residuals included."""
    out = []
    for component in estimate.components:
        if component.name not in rows.parts:
            continue
        part = rows.parts[component.name]
        variance = np.zeros(len(part.X))
        for t, (_, z) in zip(component.terms, part.random or (), strict=True):
            variance += np.einsum("ni,ij,nj->n", z, estimate.covariances[t], z)
        if component.name == CONDITIONAL and isinstance(estimate, LinearEstimate):
            term = part.residual
            if term is not None:
                term = term.with_mean(part.X @ estimate.beta)
            noise = Noise.of(estimate, term, part.weights, len(part.X))
            variance += (estimate.sigma * noise.sds()) ** 2
        out.append(variance)
    return np.array(out)
