"""The barrier that keeps matrices among the positive definite ones."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ranef import squares
from ranef.solve.structured.rows import GroupJet

__all__ = ["Wall", "added"]

Floats = NDArray[np.float64]

PARALLEL = 0.05
"""Misfit of a gradient to that of the barrier."""


@dataclass(frozen=True, eq=False)
class Wall:
    """-sum of log|R / (tr R / n)| over matrices, with derivatives in their parameters.

    Attributes
    ----------
    value : float
    gradient : (k,) float64 array
    hessian : (k, k) float64 array
    """

    value: float
    gradient: Floats
    hessian: Floats

    def weight(self, slope: Floats) -> float:
        """Its weight where it holds a criterion of this slope (k,); zero where it does not."""
        mu = -float(slope @ self.gradient) / float(self.gradient @ self.gradient)
        missed = float(np.linalg.norm(slope + mu * self.gradient))
        return mu if mu > 0 and missed < PARALLEL * float(np.linalg.norm(slope)) else 0.0


def added(jets: Iterable[GroupJet], parameters: int) -> Wall:
    """The barrier of all these matrices; raises LinAlgError where one is not positive definite."""
    out = Wall(0.0, np.zeros(parameters), np.zeros((parameters, parameters)))
    value = 0.0
    for jet in jets:
        with np.errstate(all="ignore"):
            if not np.all(np.isfinite(jet.value)):
                raise np.linalg.LinAlgError("a residual covariance is not finite")
            value += _add(jet, out)
    return replace(out, value=value)


def _add(jet: GroupJet, out: Wall) -> float:
    """Add the derivatives of n log(tr R / n) - log|R| of each group; returns its value."""
    lower = squares.cholesky(jet.value)
    pivots = np.diagonal(lower, axis1=1, axis2=2)
    inverse = squares.inverse(jet.value)
    own, n = jet.own, jet.value.shape[-1]
    size = np.trace(jet.value, axis1=1, axis2=2)
    ratio = inverse @ jet.first
    sizes = np.trace(jet.first, axis1=2, axis2=3) / size
    out.gradient[own] += n * sizes.sum(axis=1) - np.trace(ratio, axis1=2, axis2=3).sum(axis=1)
    flat = ratio.reshape(len(own), -1)
    turned = np.swapaxes(ratio, 2, 3).reshape(len(own), -1)
    out.hessian[np.ix_(own, own)] += flat @ turned.T - n * (sizes @ sizes.T)
    for (i, j), bent in jet.second.items():
        curved = n * float(np.sum(np.trace(bent, axis1=1, axis2=2) / size))
        curved -= float(np.sum(inverse * bent))
        pair = [i] if i == j else [i, j]
        out.hessian[own[pair], own[pair[::-1]]] += curved
    return float(n * np.log(size / n).sum() - 2.0 * np.log(pivots).sum())
