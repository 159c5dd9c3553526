"""All standard deviations and correlations of a matrix, with their gradients."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ranef.covariance.factor import standard_deviations
from ranef.covariance.structure import Component, Parameter

__all__ = ["NULL", "UNIT", "ZERO", "Pairs", "not_zero"]

Floats = NDArray[np.float64]

ZERO = 1e-7
"""A standard deviation below this, relative to the largest or to sigma, is zero."""
UNIT = 1e-9
"""A correlation within this of one is one."""
NULL = 1e-13
"""An eigenvalue of a correlation matrix below this is zero."""


def not_zero(sds: Floats) -> NDArray[np.bool_]:
    """Which standard deviations are above zero, beside the largest and sigma."""
    return np.asarray(sds > ZERO * max(1.0, float(sds.max(initial=0.0))))


@dataclass(frozen=True, eq=False)
class Pairs:
    """Standard deviations of all columns and correlations of all pairs, with gradients.

    Attributes
    ----------
    psi : (r, r) float64 array
    derivatives : (k, r, r) float64 array
    """

    psi: Floats
    derivatives: Floats
    sd: Floats = field(init=False)
    corr: Floats = field(init=False)

    def __post_init__(self) -> None:
        sd, corr = standard_deviations(self.psi)
        object.__setattr__(self, "sd", sd)
        object.__setattr__(self, "corr", corr)

    def components(self, names: Sequence[str]) -> tuple[Component, ...]:
        """Return every sd, then every correlation, column by column."""
        size = len(self.psi)
        sds = [self.sd_component(names, i) for i in range(size)]
        pairs = [(i, j) for j in range(size) for i in range(j + 1, size)]
        return (*sds, *(self.corr_component(names, i, j) for i, j in pairs))

    def sd_component(self, names: Sequence[str], i: int) -> Component:
        """The sd of column i; at zero the gradient is NaN."""
        with np.errstate(divide="ignore", invalid="ignore"):
            gradient = self.derivatives[:, i, i] / (2.0 * self.sd[i])
        gradient = np.where(np.isfinite(gradient), gradient, np.nan)
        return Component(Parameter("sd", names[i]), float(self.sd[i]), gradient)

    def corr_component(self, names: Sequence[str], i: int, j: int) -> Component:
        """The correlation of columns j and i."""
        d = self.derivatives
        with np.errstate(divide="ignore", invalid="ignore"):
            vi, vj = self.psi[i, i], self.psi[j, j]
            gradient = d[:, i, j] / np.sqrt(vi * vj) - self.corr[i, j] / 2.0 * (
                d[:, i, i] / vi + d[:, j, j] / vj
            )
        return Component(Parameter("corr", names[j], names[i]), float(self.corr[i, j]), gradient)

    def boundary(self, names: Sequence[str]) -> tuple[str, ...]:
        """Name zero variances, correlations of one, and what rank is left otherwise."""
        size = len(self.psi)
        zero = ~not_zero(self.sd)
        notes = [f"the variance of {names[int(i)]} is zero" for i in np.flatnonzero(zero)]
        for j in range(size):
            for i in range(j + 1, size):
                if not (zero[i] or zero[j]) and abs(self.corr[i, j]) >= 1.0 - UNIT:
                    sign = "1" if self.corr[i, j] > 0.0 else "-1"
                    notes.append(f"the correlation of {names[j]} and {names[i]} is {sign}")
        alive = np.flatnonzero(~zero)
        rank = self.rank(alive)
        if not notes and rank < len(alive):
            notes.append(f"the covariance matrix has rank {rank} of {size}")
        return tuple(notes)

    def rank(self, alive: NDArray[np.intp]) -> int:
        """Rank of the correlations of the columns that vary."""
        if not len(alive):
            return 0
        return int(np.sum(np.linalg.eigvalsh(self.corr[np.ix_(alive, alive)]) > NULL))
