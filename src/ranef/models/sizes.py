"""How large an effect is beside the noise of a row, whatever the units of the data."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ranef.covariance import lower_entries, structure_of
from ranef.models.records import Estimate
from ranef.solve.parametrisation import effect_unit, kernel_unit

__all__ = ["effect_sizes", "relative_theta"]

Floats = NDArray[np.float64]


def effect_sizes(estimate: Estimate, t: int) -> Floats:
    """What a standard deviation of one means in a row, for each column of a term.

    Returns
    -------
    (r,) float64 array
        In standard deviations of the residual of a row of middling weight; of a generalised
        model in units of the linear predictor.
    """
    term = estimate.terms[t]
    unit: float | Floats
    if estimate.design is None:
        assert estimate.sigma is not None
        unit = estimate.sigma * effect_unit(estimate.specification.weights)
    else:
        design = estimate.design
        unit = np.array([design.predictors[m].unit for m in design.owners[t]])
    return np.asarray(np.sqrt(np.mean(term.z**2, axis=0)) / (unit * kernel_unit(term)))


def relative_theta(estimate: Estimate, t: int, theta: Floats) -> Floats:
    """Entries (..., k) of theta of a term, standard deviations beside the noise of a row."""
    term = estimate.terms[t]
    sizes = effect_sizes(estimate, t) * (1.0 if estimate.sigma is None else estimate.sigma)
    if term.structure in ("us", "rr", "kernel"):
        rows = lower_entries(term.size, term.rank if term.structure == "rr" else None)[0]
        return np.asarray(theta * sizes[rows])
    if term.structure == "diag":
        return np.asarray(theta * sizes)
    deviations = [p.kind == "sd" for p in structure_of(term).parameters(term.names)]
    return np.asarray(np.where(deviations, theta * sizes[0], theta))
