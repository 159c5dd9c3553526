"""What every fit has, whatever was fitted."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from os import PathLike
from typing import TYPE_CHECKING, Any

from ranef.api import checks

if TYPE_CHECKING:
    from ranef.api.equation import Equation
    from ranef.api.shown import Summary
    from ranef.plots.accessor import FitPlots

__all__ = ["Fit"]

CONFINT_METHODS = ("wald", "profile", "bootstrap")


class Fit(ABC):
    """A fitted model.

    A fit does not change: its methods return new tables and new fits. What
    costs work is a method.

    Attributes
    ----------
    estimate
        What the solver found, as arrays.
    """

    estimate: Any

    @property
    @abstractmethod
    def formula(self) -> str:
        """The formula as typed."""

    @property
    @abstractmethod
    def n_obs(self) -> int:
        """Number of rows in the model."""

    @property
    @abstractmethod
    def n_groups(self) -> dict[str, int]:
        """Number of levels of each grouping factor."""

    @property
    @abstractmethod
    def coef(self) -> Any:
        """Fixed effects, labelled."""

    @property
    @abstractmethod
    def vcov(self) -> Any:
        """Covariance matrix of the fixed effects, labelled."""

    @abstractmethod
    def summary(self, *, conf_level: float = 0.95, df: str = "satterthwaite") -> Summary:
        """Return the answer in words and tables."""

    @abstractmethod
    def tidy(
        self,
        effects: str = "fixed",
        *,
        conf_level: float = 0.95,
        df: str = "satterthwaite",
        exponentiate: bool = False,
    ) -> Any:
        """Return estimates as a table."""

    @abstractmethod
    def glance(self) -> Any:
        """Return the fit in one row."""

    @abstractmethod
    def augment(self, data: Any = None) -> Any:
        """Return the rows with what the fit says of each."""

    @abstractmethod
    def predict(self, new: Any = None, *, kind: str = "conditional", type: str = "response") -> Any:
        """Return predictions."""

    @abstractmethod
    def fitted(self, kind: str = "conditional") -> Any:
        """Return fitted values, one a row of the user's table."""

    @abstractmethod
    def residuals(self, kind: str = "response") -> Any:
        """Return residuals, one a row of the user's table."""

    @abstractmethod
    def simulate(self, n: int = 1, *, rng: Any = None, kind: str = "new") -> Any:
        """Return responses drawn from the fitted model."""

    @abstractmethod
    def refit(self, y: Any) -> Any:
        """Fit the same model to another response, or to many."""

    @abstractmethod
    def equation(self) -> Equation:
        """Return the model in symbols."""

    @abstractmethod
    def save(self, path: str | PathLike[str]) -> None:
        """Write the fit to a file that `ranef.load` reads."""

    def confint(
        self,
        method: str = "wald",
        *,
        parameters: str | Sequence[str] = "fixed",
        conf_level: float = 0.95,
        df: str | None = None,
        **options: Any,
    ) -> Any:
        """Return confidence intervals.

        Parameters
        ----------
        method : {"wald", "profile", "bootstrap"}
            Estimate plus and minus a quantile times the standard error (of standard
            deviations on the scale of logarithms, of correlations on that of Fisher's
            z); where the likelihood has fallen as far as the level allows, see
            `ranef.profile`; from refits to drawn data, see `ranef.bootstrap`.
        parameters : {"fixed", "variance", "all"} or list of names
            Names as in `ranef.profile`.
        conf_level : float
        df : str, optional
            Degrees of freedom for fixed effects: of Wald's quantile as in `tidy`
            (Satterthwaite's in linear models if not given); of a profile ``"normal"``, or
            ``"satterthwaite"`` where few groups tell of a coefficient, see
            `Profile.confint`.
        **options
            Of `ranef.profile` or `ranef.bootstrap`; of the latter also ``kind``, that
            of its intervals.

        Returns
        -------
        table
            Of fixed effects alone ``term, estimate, conf_low, conf_high``; otherwise
            ``component, group, term, term2, parameter, estimate, conf_low, conf_high``,
            as in ``tidy("variance")``, with `parameter` ``"coefficient"`` for fixed effects.
            NaN where the method has no interval.

        Examples
        --------
        >>> import ranef
        >>> fit = ranef.lmm("yield ~ 1 + (1 | Batch)", {
        ...     "yield": [15.1, 15.6, 14.2, 14.0, 16.3, 16.0], "Batch": list("aabbcc")})
        >>> fit.confint(conf_level=0.9).columns.tolist()
        ['term', 'estimate', 'conf_low', 'conf_high']
        >>> fit.confint("profile", parameters="variance").round(2)[
        ...     ["group", "parameter", "conf_low", "conf_high"]]
              group parameter  conf_low  conf_high
        0     Batch        sd      0.38       2.49
        1  Residual        sd      0.13       0.74
        """
        checks.choice("method", method, CONFINT_METHODS)
        return self._confint(method, parameters, checks.conf_level(conf_level), df, options)

    @abstractmethod
    def _confint(
        self,
        method: str,
        parameters: str | Sequence[str],
        conf_level: float,
        df: str | None,
        options: Mapping[str, Any],
    ) -> Any: ...

    @property
    def plot(self) -> FitPlots:
        """The pictures of the fit: ``fit.plot.residuals()`` and more."""
        from ranef.plots.accessor import FitPlots

        return FitPlots(self)

    def __repr__(self) -> str:
        return str(self.summary())

    def _repr_html_(self) -> str:
        return self.summary()._repr_html_()
