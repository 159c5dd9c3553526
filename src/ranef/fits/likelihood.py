"""What a fit by (restricted) maximum likelihood adds."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ranef.fits.fit import Fit
from ranef.inference.undetermined import masked
from ranef.models.records import Estimate
from ranef.solve.optimum import Optimum

__all__ = ["InformationCriteria", "LikelihoodFit"]


class InformationCriteria:
    """What follows from a fit's log-likelihood, its parameters and its rows.

    For a class on `Fit` that has `loglik`, `deviance` and `df_model`.
    """

    if TYPE_CHECKING:

        @property
        def loglik(self) -> float: ...
        @property
        def deviance(self) -> float: ...
        @property
        def df_model(self) -> int: ...
        @property
        def n_obs(self) -> int: ...

    @property
    def llf(self) -> float:
        """Log-likelihood by its name in statsmodels, as `loglik`."""
        return self.loglik

    @property
    def aic(self) -> float:
        """Akaike's criterion, deviance + 2 df_model."""
        return self.deviance + 2.0 * self.df_model

    @property
    def bic(self) -> float:
        """Schwarz's criterion, deviance + log(n) df_model, n the number of rows."""
        return self.deviance + math.log(self.n_obs) * self.df_model


class LikelihoodFit(InformationCriteria, Fit):
    """A fit that maximised a (restricted) likelihood."""

    estimate: Estimate

    @property
    def loglik(self) -> float:
        """The (restricted) log-likelihood at the optimum, all constants included."""
        return self.estimate.loglik

    @property
    def deviance(self) -> float:
        """Minus twice `loglik`."""
        return self.estimate.deviance

    @property
    def df_model(self) -> int:
        """Number of free parameters: all coefficients, covariance parameters, dispersion."""
        return self.estimate.n_parameters

    @property
    def aic(self) -> float:
        """Akaike's criterion, deviance + 2 df_model; NaN of a pseudo-likelihood."""
        return math.nan if self._is_pseudo else super().aic

    @property
    def bic(self) -> float:
        """Schwarz's criterion, deviance + log(n) df_model, n the number of rows.

        NaN of a pseudo-likelihood.
        """
        return math.nan if self._is_pseudo else super().bic

    @property
    def _is_pseudo(self) -> bool:
        """Whether sampling weights make it a pseudo-likelihood."""
        return getattr(self.estimate, "sampling", None) is not None

    @property
    def theta(self) -> NDArray[np.float64]:
        """Covariance parameters, relative to sigma in linear models; see `Optimum.theta`.

        NaN where the data do not determine them.
        """
        theta, other = self.estimate.theta, self.optimum.elsewhere
        return theta.copy() if other is None else np.asarray(masked(theta, other))

    @property
    def optimum(self) -> Optimum:
        """The end of the search and its certificate."""
        return self.estimate.optimum
