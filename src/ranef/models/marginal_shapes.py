"""Shapes of variance functions by maximum likelihood, means given."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ranef.errors import DataError
from ranef.families import Family
from ranef.families.variance import shapes_of
from ranef.models.family_words import natural

__all__ = ["likeliest_shapes", "starting_shapes"]

Floats = NDArray[np.float64]
EDGE = 12.0


def starting_shapes(family: Family, y: Floats, trials: Floats | None) -> dict[str, float]:
    """Shapes to start from, by moments."""
    constants = family.start(y, trials).constants[1:]
    return _named(family, constants)


def likeliest_shapes(
    family: Family, y: Floats, eta: Floats, trials: Floats | None, weights: Floats | None
) -> dict[str, float]:
    """Maximise the likelihood of independent rows in the family's dispersion and shapes.

    Parameters
    ----------
    y, eta : (n,) arrays
        Responses, and linear predictors of their means.
    trials, weights : (n,) arrays or None
    """
    from scipy.optimize import minimize

    origin = np.clip(family.start(y, trials).constants[1:], -EDGE, EDGE)

    def loss(constants: Floats) -> float:
        if (np.abs(constants) > 2 * EDGE).any():
            return float(np.inf)
        etas = np.vstack([eta, np.tile(constants[:, None], (1, len(y)))])
        with np.errstate(all="ignore"):
            rows = family.log_density(y, etas, trials)
        return float(-np.average(rows, weights=weights))

    found = minimize(loss, origin, method="Nelder-Mead", options={"xatol": 1e-8, "fatol": 1e-14})
    if not np.isfinite(found.fun):
        raise DataError(
            f"no {', '.join(shapes_of(family))} of {family.name} was found that the responses can "
            "have; hold one, shapes={...}"
        )
    return _named(family, np.asarray(found.x))


def _named(family: Family, constants: Floats) -> dict[str, float]:
    wanted = shapes_of(family)
    return {
        p.label: natural(p.link, float(value))
        for p, value in zip(family.others, constants, strict=True)
        if p.label in wanted
    }
