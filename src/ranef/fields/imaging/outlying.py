"""Outliers at every voxel: subjects whose effect is far from the group's, weighed down."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ranef import _core
from ranef.solve.synthesis.outliers import Effects, voxelwise

__all__ = ["Outlying", "outlying"]

Floats = NDArray[np.float64]

TILE = 8192
"""Voxels whose mixtures are climbed together, so that they stay in the processor's memory."""


@dataclass(frozen=True, eq=False)
class Outlying:
    """Which subjects are outliers at N voxels.

    Attributes
    ----------
    probability : (K, N) float32 array
        Of each subject; 0 at voxels where one normal distribution describes the group as well.
    V : (K, N) array
        Variances that weigh subjects as the mixture does, less the variance between subjects.
    """

    probability: NDArray[np.float32]
    V: NDArray[Any]


def outlying(Y: NDArray[Any], V: NDArray[Any], Q: Floats, threads: int) -> Outlying:
    """Find outliers by a mixture of two normal distributions at each voxel.

    Where the mixture is preferred to one distribution (by the Bayesian information criterion), a
    subject weighs (1 - r) / (v + tau2) + r / (v + omega2), r its probability of being an outlier.
    """
    probability = np.zeros(Y.shape, dtype=np.float32)
    weighing = np.array(V)
    for first in range(0, Y.shape[1], TILE):
        part = slice(first, first + TILE)
        y, v = np.ascontiguousarray(Y[:, part]), np.ascontiguousarray(V[:, part])
        plain = _core.mixed_effects(y, v, Q, "ml", threads)
        fitted = np.flatnonzero(np.isfinite(plain["tau2"]))
        data = Effects.of(y, v, Q).take(fitted)
        unit = data.unit
        data = data.over(unit)
        tau2 = plain["tau2"][fitted] / unit / unit
        found, gain = voxelwise(data, plain["beta"][:, fitted] / unit, tau2)
        chosen = np.flatnonzero(gain > np.log(data.n))
        if not len(chosen):
            continue
        own, at = data.take(chosen), found.take(chosen)
        r = at.probability
        w = (1 - r) / (own.v + at.tau2) + r / (own.v + at.omega2)
        columns = first + fitted[chosen]
        probability[:, columns] = r
        own_v = (1 / w - at.tau2) * unit[chosen] * unit[chosen]
        weighing[:, columns] = np.where(own.known, own_v, V[:, columns])
    return Outlying(probability, weighing)
