"""Read-only names that readers of statsmodels results expect.

With these a fit can be handed to table makers and to marginaleffects. Each
says the same as a method or attribute of `Fit`. `pvalues` and `tvalues` are
properties there, so they are here, though the first use computes degrees of
freedom.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from ranef import arguments
from ranef.inference.coefficients.wald import Intervals
from ranef.tables.origin import Origin, matrix, vector

__all__ = ["ReaderNames"]


class Readable(Protocol):
    """What the names are made from."""

    @property
    def coef(self) -> Any: ...
    @property
    def vcov(self) -> Any: ...
    @property
    def n_obs(self) -> int: ...
    @property
    def df_resid(self) -> int: ...
    @property
    def frame(self) -> Origin: ...
    @property
    def names(self) -> Sequence[str]: ...
    def fitted(self) -> Any: ...
    def residuals(self) -> Any: ...
    def intervals(self, conf_level: float = ...) -> Intervals: ...


class ReaderNames:
    """The names; a mixin of `Fit`."""

    @property
    def params(self: Readable) -> Any:
        """Fixed effects, as `coef`."""
        return self.coef

    @property
    def bse(self: Readable) -> Any:
        """Standard errors of the fixed effects."""
        return _by_term(self, self.intervals().std_error, "std_error")

    @property
    def tvalues(self: Readable) -> Any:
        """Estimates divided by their standard errors."""
        return _by_term(self, self.intervals().statistic, "statistic")

    @property
    def pvalues(self: Readable) -> Any:
        """Two-sided p-values, as `tidy`'s."""
        return _by_term(self, self.intervals().p_value, "p_value")

    def conf_int(self: Readable, alpha: float = 0.05) -> Any:
        """Return intervals at level 1 - alpha, columns 0 and 1 as in statsmodels."""
        found = self.intervals(1.0 - arguments.share("alpha", alpha))
        bounds = np.column_stack([found.conf_low, found.conf_high])
        return matrix(bounds, self.names, [0, 1], self.frame.library)

    def cov_params(self: Readable) -> Any:
        """Return the covariance matrix of the fixed effects, as `vcov`."""
        return self.vcov

    @property
    def nobs(self: Readable) -> int:
        """Rows in the model, as `n_obs`."""
        return self.n_obs

    @property
    def fittedvalues(self: Readable) -> Any:
        """Fitted values, as `fitted()`."""
        return self.fitted()

    @property
    def resid(self: Readable) -> Any:
        """Residuals, as `residuals()`."""
        return self.residuals()


def _by_term(fit: Readable, values: Any, name: str) -> Any:
    return vector(values, fit.names, name, fit.frame.library)
