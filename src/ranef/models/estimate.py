"""The estimate: what the solver found, frozen."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ranef.design.specification import Specification
from ranef.solve.optimum import Optimum

__all__ = ["Estimate"]

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Estimate:
    """A fitted linear mixed model as arrays.

    Attributes
    ----------
    specification : Specification
    reml : bool
    beta : (p,) float64 array
        Fixed effects.
    vcov : (p, p) float64 array
        Their covariance matrix, given theta (sigma included).
    theta : (k,) float64 array
        Relative covariance parameters, see `Optimum.theta`.
    sigma : float
        Residual standard deviation (of a row of weight 1).
    covariances : tuple of (r, r) float64 arrays
        Covariance matrix of each random term's effects (sigma included).
    modes : tuple of (q, r) float64 arrays
        Conditional modes (BLUPs) of each term, by level.
    loglik : float
        (Restricted) log-likelihood, all constants included.
    optimum : Optimum
    """

    specification: Specification
    reml: bool
    beta: Floats
    vcov: Floats
    theta: Floats
    sigma: float
    covariances: tuple[Floats, ...]
    modes: tuple[Floats, ...]
    loglik: float
    optimum: Optimum

    @property
    def deviance(self) -> float:
        """Minus twice the log-likelihood of the criterion fitted."""
        return -2.0 * self.loglik

    @property
    def n_parameters(self) -> int:
        """All free parameters: p + len(theta) + 1."""
        return len(self.beta) + len(self.theta) + 1
