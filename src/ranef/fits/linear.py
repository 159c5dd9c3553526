"""A fitted linear mixed model: methods that check, call one function below, and wrap."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ranef import arguments
from ranef.description.convergence import warn_unless_proved
from ranef.description.equation import Equation, equation
from ranef.description.summary import linear_summary
from ranef.display.answer import Summary
from ranef.errors import ModelError
from ranef.fits.mixed import MixedModelFit
from ranef.fits.new_levels import (
    NEW_LEVELS,
    check_history,
    history_of,
    placed,
    settled,
    simulated_rows,
)
from ranef.fits.new_rows import model_rows, read_rows
from ranef.fits.refits import Refits, read_responses, wrap_refits
from ranef.inference.coefficients import degrees
from ranef.inference.coefficients.degrees import Parameters
from ranef.inference.coefficients.parameters import ParameterCovariance, parameter_covariance
from ranef.inference.coefficients.variance import VarianceParameter, variance_parameters
from ranef.inference.coefficients.wald import Intervals
from ranef.inference.draws import simulation
from ranef.inference.draws.parameter_draws import linear_draws
from ranef.inference.draws.simulation import KINDS as SIMULATIONS
from ranef.inference.effects.effects import LevelEffects, coefficients_by_level
from ranef.inference.rows import fitted as fitted_
from ranef.inference.rows import prediction
from ranef.inference.rows.history import predict_updated, predicted_updated, updated_linear
from ranef.models.records import Estimate
from ranef.tables import Table
from ranef.tables.frame import Frame

__all__ = ["LinearFit"]

KINDS = ("conditional", "typical", "population")
RESIDUALS = ("response", "pearson", "conditional", "marginal")


@dataclass(frozen=True, eq=False, repr=False)
class LinearFit(MixedModelFit):
    """A fitted linear mixed model, without the questions asked of it.

    Attributes
    ----------
    estimate : Estimate
        What the solver found, as arrays.
    frame : Frame
        Where the rows came from.
    """

    estimate: Estimate
    frame: Frame

    @property
    def reml(self) -> bool:
        """True if the restricted likelihood was maximised."""
        return self.estimate.reml

    @property
    def sigma(self) -> float:
        """Residual standard deviation (of a row of weight 1)."""
        return self.estimate.sigma

    @cached_property
    def _parameters(self) -> ParameterCovariance:
        return parameter_covariance(self.estimate)

    def intervals(self, conf_level: float = 0.95, df: str = "satterthwaite") -> Intervals:
        """Return tests and intervals of the fixed effects as arrays."""
        identity = np.eye(self.estimate.specification.p)
        return self._hypotheses(
            identity, arguments.conf_level(conf_level), degrees.check_method(df)
        )

    def _known_parameters(self) -> Parameters:
        return lambda: self._parameters

    def summary(self, *, conf_level: float = 0.95, df: str = "satterthwaite") -> Summary:
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
        variance = self._variance_parameters(level)
        return linear_summary(self.estimate, fixed, variance, level, df)

    def tidy(
        self,
        effects: str = "fixed",
        *,
        conf_level: float = 0.95,
        df: str = "satterthwaite",
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
        return self._tidy(effects, conf_level, df, exponentiate)

    def _coefficient_intervals(self, conf_level: float, df: str) -> Intervals:
        return self.intervals(conf_level, df)

    def _carried(self, exponentiate: bool) -> bool:
        return exponentiate

    def _variance_parameters(self, conf_level: float) -> tuple[VarianceParameter, ...]:
        return variance_parameters(self.estimate, self._parameters, conf_level)

    def _coefficients_by_level(self, factor: int) -> tuple[LevelEffects, ...]:
        return (coefficients_by_level(self.estimate, factor),)

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
        return self._glanced(own)

    def _row_columns(self) -> dict[str, NDArray[Any]]:
        """What `augment` says of each row in the model."""
        return {
            "fitted": fitted_.fitted(self.estimate),
            "typical": fitted_.fitted(self.estimate, conditional=False),
            "residual": fitted_.residuals(self.estimate),
            "pearson": fitted_.residuals(self.estimate, pearson=True),
        }

    def predict(
        self,
        new: Any = None,
        *,
        kind: str = "conditional",
        type: str = "response",
        conf_level: float | None = None,
        interval: str = "mean",
        df: str = "satterthwaite",
        new_levels: str = "draw",
        history: Any = None,
    ) -> Any:
        """Predict rows of the table fitted, or of a new one.

        Parameters
        ----------
        new : table, optional
            Needs the columns that the formula uses, but the response. Without
            it the rows of the table fitted are predicted.
        kind : {"conditional", "typical", "population"}
            With the random effects of the row's own levels; with random effects
            set to zero; averaged over the population. In a linear model the last
            two predict the same value, but a new observation from the population
            varies with its levels.
        type : {"response", "link"}
            The same in a linear model.
        conf_level : float, optional
            Add standard errors and intervals at this level.
        interval : {"mean", "new"}
            For the expected value, or for a new observation. In a new table its
            weight is read from the column that `weights` named, else it is 1.
        df : str
            Method of the degrees of freedom, as in `tidy`, for the mean of
            ``"typical"`` and ``"population"``. Needs `conf_level`.
        new_levels : {"draw", "zero", "raise"}
            Of conditional predictions for a level that the fit has not seen: its
            effect is drawn from the fitted distribution, 0 in the mean, with its
            variance in the interval; it is known to be 0; it is refused.
        history : table, optional
            Rows with a response, such as the first observations of a new patient:
            the random effects of conditional predictions are those that these
            observations and those of the fit give together, at the fitted
            parameters and without a refit. For a known level they are added to
            its own in the fit.

        Returns
        -------
        column or table
            Without `conf_level` a column ``estimate`` in the library of the rows (in
            pandas a Series with their index), as `fitted` gives it; with it a table
            ``estimate, std_error, conf_low, conf_high``. NaN where a needed
            value is missing. Standard errors carry the uncertainty of the fixed
            and the random effects and of the variance parameters; intervals are
            of the t distribution with Satterthwaite's degrees of freedom of the
            error variance (at least 2), see `ranef.inference.rows.prediction`.

        Examples
        --------
        >>> import ranef
        >>> fit = ranef.lmm("Reaction ~ Days + (Days | Subject)", ranef.data.load("sleepstudy"))
        >>> new = {"Days": [0.0, 10.0], "Subject": ["308", "somebody new"]}
        >>> fit.predict(new).round(2).tolist()
        [253.66, 356.08]
        >>> fit.predict(new, kind="typical", conf_level=0.95).round(2)
           estimate  std_error  conf_low  conf_high
        0    251.41       6.82    237.01     265.80
        1    356.08      16.02    322.29     389.87
        >>> seen = {"Days": [0.0, 1.0], "Subject": ["somebody new"] * 2, "Reaction": [300.0, 310.0]}
        >>> fit.predict(new, history=seen).round(2).tolist()
        [253.66, 400.47]
        """
        kind = arguments.choice("kind", kind, KINDS)
        arguments.choice("type", type, ("response", "link"))
        degrees.check_method(df)
        policy = arguments.choice("new_levels", new_levels, NEW_LEVELS)
        new_observation = arguments.choice("interval", interval, ("mean", "new")) == "new"
        if conf_level is None and new_observation:
            raise ModelError("interval='new' needs a conf_level, such as conf_level=0.95")
        level = None if conf_level is None else arguments.conf_level(conf_level)
        if history is not None:
            check_history(kind)
            return self._predict_updated(new, history, level, new_observation, policy)
        effects = {"conditional": "own", "population": "new" if new_observation else None}.get(kind)
        spec = self.estimate.specification
        if new is None:
            rows, frame = model_rows(spec), self.frame
        else:
            table = Table.of(new)
            rows, frame = read_rows(spec, table, effects)
            if kind == "conditional":
                rows = settled(spec, rows, table, frame, policy)
        if level is None:
            given = (rows.random or ()) if kind == "conditional" else ()
            value = fitted_.linear_predictor(self.estimate, rows.X, rows.offset, given)
            return frame.column(value, "estimate")
        found = prediction.predict(
            self.estimate,
            rows,
            kind,
            conf_level=level,
            new=new_observation,
            df=df,
            parameters=self._known_parameters(),
        )
        return frame.table(vars(found))

    def _predict_updated(
        self, new: Any, history: Any, level: float | None, new_observation: bool, policy: str
    ) -> Any:
        """Predict with the random effects that further observations give."""
        spec = self.estimate.specification
        observed, places = history_of(spec, history)
        updated = updated_linear(self.estimate, observed)
        if new is None:
            rows, frame = model_rows(spec), self.frame
        else:
            table = Table.of(new)
            rows, frame = read_rows(spec, table, "own")
            rows = placed(spec, rows, table, frame, places)
            rows = settled(spec, rows, table, frame, policy)
        if level is None:
            return frame.column(predicted_updated(self.estimate, updated, rows), "estimate")
        found = predict_updated(
            self.estimate,
            updated,
            rows,
            conf_level=level,
            new=new_observation,
            known=self._parameters,
        )
        return frame.table(vars(found))

    def fitted(self, kind: str = "conditional") -> Any:
        """Return fitted values, one a row of the user's table; NaN where a row was dropped.

        Parameters
        ----------
        kind : {"conditional", "typical", "population"}
            With random effects at their conditional modes; without them (the
            last two agree in a linear model).

        Examples
        --------
        >>> import ranef
        >>> fit = ranef.lmm("Yield ~ 1 + (1 | Batch)", ranef.data.load("Dyestuff"))
        >>> fit.fitted("typical").round(1).unique().tolist()
        [1527.5]
        """
        conditional = arguments.choice("kind", kind, KINDS) == "conditional"
        values = fitted_.fitted(self.estimate, conditional=conditional)
        return self.frame.column(values, "fitted")

    def residuals(self, kind: str = "response") -> Any:
        """Return residuals, one a row of the user's table; NaN where a row was dropped.

        Parameters
        ----------
        kind : {"response", "pearson", "conditional", "marginal"}
            - ``"response"``: y - fitted, the random effects at their modes.
            - ``"conditional"``: y - offset - X beta - Z b, the same in a linear model.
            - ``"pearson"``: the same divided by its standard deviation,
              sigma / sqrt(weight).
            - ``"marginal"``: y - offset - X beta, random effects left in.

        Examples
        --------
        >>> import ranef
        >>> fit = ranef.lmm("Yield ~ 1 + (1 | Batch)", ranef.data.load("Dyestuff"))
        >>> bool(abs(fit.residuals("marginal").sum()) < 1e-6)
        True
        """
        kind = arguments.choice("kind", kind, RESIDUALS)
        values = fitted_.residuals(
            self.estimate, conditional=kind != "marginal", pearson=kind == "pearson"
        )
        return self.frame.column(values, "residual")

    def simulate(
        self,
        n: int = 1,
        *,
        rng: Any = None,
        kind: str = "new",
        new: Any = None,
        parameters: str = "fixed",
    ) -> Any:
        """Draw responses from the fitted model.

        Parameters
        ----------
        n : int
            Number of responses.
        rng : int or numpy.random.Generator, optional
            The same gives the same draws.
        kind : {"new", "conditional", "posterior"}
            Draw the random effects anew; keep them at their modes; draw them from
            their distribution given the data.
        new : table, optional
            Rows to draw responses for, with the columns that the formula uses, but
            the response; the rows of the model if left out. Each level that the fit
            has not seen has an effect of its own, drawn from the fitted distribution
            whatever `kind` is.
        parameters : {"fixed", "draw"}
            At the estimates, or drawn for each response from the normal distribution
            of their estimates, the random effects' modes moving with them.

        Returns
        -------
        table
            Columns ``sim_1 .. sim_n``, one row a row of the table; NaN
            where a row was dropped. `refit` takes it as it is.

        Examples
        --------
        >>> import ranef
        >>> fit = ranef.lmm("Yield ~ 1 + (1 | Batch)", ranef.data.load("Dyestuff"))
        >>> fit.simulate(2, rng=1).shape
        (30, 2)
        >>> fit.simulate(3, rng=1, new={"Batch": ["A", "another"]}, kind="posterior").shape
        (2, 3)
        """
        n = arguments.count("n", n)
        kind = arguments.choice("kind", kind, SIMULATIONS)
        drawn_parameters = arguments.choice("parameters", parameters, ("fixed", "draw")) == "draw"
        rows, frame = None, self.frame
        if new is not None:
            rows, frame = simulated_rows(self.estimate.specification, new)
        drawn = simulation.simulate(
            self.estimate,
            n,
            arguments.generator(rng),
            kind=kind,
            rows=rows,
            draws=linear_draws(self.estimate, self._parameters) if drawn_parameters else None,
        )
        return frame.table({f"sim_{j + 1}": drawn[:, j] for j in range(n)})

    def refit(self, y: Any, *, n_jobs: int | None = None) -> LinearFit | Refits:
        """Fit the same model to another response, or to many at once.

        Parameters
        ----------
        y : (n,) array, (n, k) array or table of k columns
            One value for each row in the model, or for each row of its table.
            On the scale of the formula's left side: logs for ``log(y) ~ ...``.
        n_jobs : int, optional
            Threads for many responses; None for all this process may use.

        Returns
        -------
        LinearMixedModelFit
            For one response.
        Refits
            For a matrix or table: the estimates, one row a response.

        Examples
        --------
        >>> import ranef
        >>> fit = ranef.lmm("Yield ~ 1 + (1 | Batch)", ranef.data.load("Dyestuff"))
        >>> again = fit.refit(fit.simulate(1, rng=2)["sim_1"])
        >>> again.n_obs
        30
        """
        from ranef.models import linear, refits

        jobs = None if n_jobs is None else arguments.count("n_jobs", n_jobs)
        responses = read_responses(y, self.frame)
        if responses.single:
            estimate = linear.refit(self.estimate, np.ascontiguousarray(responses.y[:, 0]))
            warn_unless_proved(estimate)
            return type(self)(estimate, self.frame)
        found = refits.refit_many(self.estimate, responses.y, n_jobs=jobs)
        return wrap_refits(self.estimate, found, responses.names, self.frame.library)

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
