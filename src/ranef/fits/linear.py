"""What a fit of a linear mixed model has of its own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ranef import arguments
from ranef.description.equation import Equation, equation
from ranef.description.summary import linear_summary
from ranef.display.answer import Summary
from ranef.errors import ModelError
from ranef.fits.fit import COMPONENTS, TYPES, checked_offset, checked_unit
from ranef.fits.mixed import MixedFit
from ranef.fits.protocol import Estimand
from ranef.formula.transformation import response_link
from ranef.models.records import LinearEstimate

__all__ = ["LinearFit"]


@dataclass(frozen=True, eq=False, repr=False)
class LinearFit(MixedFit):
    """A fitted linear mixed model, without the questions asked of it."""

    estimate: LinearEstimate

    kind_words = "a linear mixed model"

    @property
    def reml(self) -> bool:
        """True if the restricted likelihood was maximised."""
        return self.estimate.reml

    @property
    def sigma(self) -> float:
        """Residual standard deviation (of a row of weight 1)."""
        return self.estimate.sigma

    def summary(self, *, conf_level: float = 0.95, df: str | None = None) -> Summary:
        """Return the answer in words and tables.

        Parameters
        ----------
        conf_level : float
        df : {"satterthwaite", "kenward-roger", "containment", "residual", "normal"}
            Degrees of freedom of the t tests of the fixed effects; Kenward and Roger's
            method has standard errors of its own as well.

        Examples
        --------
        >>> import ranef
        >>> fit = ranef.lmm("Yield ~ 1 + (1 | Batch)", ranef.data.load("Dyestuff"))
        >>> "Optimum proved" in str(fit.summary())
        True
        """
        level = arguments.conf_level(conf_level)
        fixed = self.intervals(level, df)
        variance = self.variance_parameters(level)
        return linear_summary(self.estimate, fixed, variance, level, self.method(df))

    def tidy(
        self,
        effects: str = "fixed",
        *,
        conf_level: float = 0.95,
        df: str | None = None,
        exponentiate: bool = False,
    ) -> Any:
        """Return estimates as a table in the library the data came in.

        Parameters
        ----------
        effects : {"fixed", "variance", "random"}
            - ``"fixed"``: ``component, term, estimate, std_error, df, statistic,
              p_value, conf_low, conf_high``.
            - ``"variance"``: ``component, group, term, term2, parameter, estimate,
              conf_low, conf_high``; `parameter` is ``"sd"`` or ``"corr"`` and the
              last row is the residual's. Intervals are Wald's on the scale of
              log sd and of Fisher's z, from the exact Hessian; NaN where the
              estimate lies on a boundary, since there they do not apply.
            - ``"random"``: ``component, group, level, term, estimate, cond_sd,
              std_error, conf_low, conf_high``; `cond_sd` is the standard
              deviation of the effect given the parameters, `std_error` that of
              the prediction error, from which the (normal) interval is made.
        conf_level : float
        df : {"satterthwaite", "kenward-roger", "containment", "residual", "normal"}
            Degrees of freedom of the t tests of the fixed effects; Kenward and Roger's
            method has standard errors of its own as well.
        exponentiate : bool
            Carry the estimates and bounds of the fixed effects through exp, as
            for a response in logs; standard errors stay on the scale fitted.

        Examples
        --------
        >>> import ranef
        >>> fit = ranef.lmm("Reaction ~ Days + (Days | Subject)", ranef.data.load("sleepstudy"))
        >>> fit.tidy()[["term", "estimate", "df"]].round(2)
                  term  estimate    df
        0  (Intercept)    251.41  17.0
        1         Days     10.47  17.0
        >>> fit.tidy("variance")[["group", "parameter", "estimate"]].round(2)
              group parameter  estimate
        0   Subject        sd     24.74
        1   Subject        sd      5.92
        2   Subject      corr      0.07
        3  Residual        sd     25.59
        """
        return self._made(self.tidied(effects, conf_level, df, exponentiate))

    def carried(self, exponentiate: bool) -> NDArray[np.bool_]:
        """Which coefficients `exponentiate` carries through exp: as for a response in logs."""
        return np.full(len(self.coefficients), exponentiate, dtype=np.bool_)

    def glance(self) -> Any:
        """Return the fit in one row.

        Returns
        -------
        table
            ``n_obs, df_model, df_resid, sigma, loglik, deviance, aic, bic,
            criterion, converged, singular``.

        Examples
        --------
        >>> import ranef
        >>> fit = ranef.lmm("Yield ~ 1 + (1 | Batch)", ranef.data.load("Dyestuff"))
        >>> fit.glance()[["n_obs", "df_model", "criterion", "singular"]]
           n_obs  df_model criterion  singular
        0     30         3      REML     False
        """
        own = {"df_model": self.df_model, "df_resid": self.df_resid, "sigma": self.sigma}
        return self.glanced(own)

    def equation(self) -> Equation:
        """Return the model in symbols; prints as text, shows as LaTeX in notebooks.

        Examples
        --------
        >>> import ranef
        >>> fit = ranef.lmm("Yield ~ 1 + (1 | Batch)", ranef.data.load("Dyestuff"))
        >>> print(fit.equation())
        Yield[i] = b0 + u0[Batch[i]] + e[i]
        u0 ~ Normal(0, sd^2) over the levels of Batch
        e[i] ~ Normal(0, sigma^2)
        """
        return equation(self.estimate.specification)

    def estimand(
        self,
        *,
        component: str = "conditional",
        kind: str | None = None,
        type: str | None = None,
        df: str | None = None,
        unit: Mapping[str, Any] | None = None,
        offset: float | None = None,
    ) -> Estimand:
        """Check what is asked of rows, and fill in what it leaves open."""
        component = arguments.choice("component", component, COMPONENTS)
        if component != "conditional":
            raise ModelError(f"a linear mixed model has no component {component!r}; leave it out")
        type = "link" if type is None else arguments.choice("type", type, TYPES)
        kind, unit = checked_unit(kind, unit)
        number = checked_offset(offset)
        self.method(df)
        if type not in ("link", "response"):
            raise ModelError(f"type={type!r} is for categories; a linear mixed model has none")
        back = "identity" if type == "link" else response_link(self.response)
        kind = kind or "typical"
        effects = "own" if unit else "new" if kind == "population" and back != "identity" else None
        return Estimand(component, type, kind, df, unit, number, back=back, effects=effects)

    def _effects_of(self, kind: str, new_observation: bool) -> str | None:
        """The population's mean needs no random effects; a new observation of it does."""
        own = "new" if new_observation else None
        return {"conditional": "own", "population": own}.get(kind)

    def _by_level(self, found: Any, level: float) -> dict[str, Any]:
        columns = super()._by_level(found, level)
        del columns["component"]
        return columns
