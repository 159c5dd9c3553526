"""A fitted generalised linear mixed model: check, call one function below, and wrap."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ranef import arguments
from ranef.description import tables
from ranef.description.doubts import warn_about
from ranef.description.equation import Equation
from ranef.description.equation_generalised import generalised_equation
from ranef.description.generalised_summary import generalised_summary
from ranef.display.answer import Summary
from ranef.errors import ModelError
from ranef.families import Cumulative, Family, Multinomial
from ranef.fits.mixed import MixedModelFit
from ranef.fits.new_levels import (
    NEW_LEVELS,
    check_history,
    history_of_parts,
    placed_parts,
    settled_parts,
    simulated_parts,
)
from ranef.fits.new_rows import read_parts
from ranef.fits.refits import Refits
from ranef.fits.refits_generalised import coded_responses, refit_many
from ranef.inference.coefficients import wald
from ranef.inference.coefficients.variance import VarianceParameter, variance_parameters
from ranef.inference.coefficients.wald import Intervals
from ranef.inference.draws import generalised, quantile_residuals
from ranef.inference.draws.parameter_draws import generalised_draws
from ranef.inference.draws.simulation import KINDS as SIMULATIONS
from ranef.inference.effects import generalised_effects
from ranef.inference.effects.effects import LevelEffects
from ranef.inference.rows import generalised_fitted, generalised_prediction, parts, targets
from ranef.inference.rows.history import updated_generalised
from ranef.models import labels as naming
from ranef.models.family_words import EXPONENTIAL, link_of, natural, predictor_of
from ranef.models.generalised import refit_glmm
from ranef.models.records import GeneralisedEstimate
from ranef.tables import Table, make_table
from ranef.tables.frame import Frame

__all__ = ["GeneralisedFit"]

KINDS = ("conditional", "typical", "population")


@dataclass(frozen=True, eq=False, repr=False)
class GeneralisedFit(MixedModelFit):
    """A fitted generalised linear mixed model, without the questions asked of it.

    Attributes
    ----------
    estimate : GeneralisedEstimate
        What the solver found, as arrays.
    frame : Frame
        Where the rows came from.
    """

    estimate: GeneralisedEstimate
    frame: Frame

    @property
    def family(self) -> Family:
        """The family of the response, see `ranef.families`."""
        return self.estimate.family

    @property
    def quadrature(self) -> int:
        """Nodes of the quadrature; 1 is the Laplace approximation."""
        return self.estimate.quadrature

    @property
    def dispersion(self) -> dict[str, float]:
        """Dispersion and shapes that are one number each, on their own scale.

        Examples
        --------
        >>> import ranef
        >>> fit = ranef.glmm("count ~ mined + (1 | site)", ranef.data.load("Salamanders"),
        ...                  family="nbinom2")
        >>> {name: round(value, 3) for name, value in fit.dispersion.items()}
        {'phi': 0.639}
        """
        found = {}
        for part in self.estimate.components:
            if part.specification is None and part.name != "threshold":
                own = predictor_of(self.estimate, part)
                value = self.estimate.coefficients[part.coefficients]
                found[own.label] = natural(own.link, float(value[0]))
        return found

    @property
    def _criterion(self) -> str:
        word = "REML" if self.estimate.reml else "ML"
        return f"penalised {word}" if self.estimate.priors else word

    @property
    def df_resid(self) -> int:
        """Rows minus free coefficients of the mean."""
        labels = naming.coefficient_labels(self.estimate)
        own = [k for k, label in enumerate(labels) if label.component == "conditional"]
        return self.n_obs - self.estimate.design.constraints.n_free_of(own)

    @property
    def levels(self) -> tuple[Any, ...] | None:
        """Categories of a categorical response, in the user's order and type."""
        reading = self.estimate.specification.recipe.reading
        return None if reading is None else reading.levels

    @property
    def _levels(self) -> Sequence[Any] | None:
        return self.levels

    def intervals(self, conf_level: float = 0.95, df: str = "normal") -> Intervals:
        """Return tests and intervals of the coefficients of the mean as arrays."""
        found = self._coefficient_intervals(arguments.conf_level(conf_level), df)
        named = naming.coefficient_labels(self.estimate, self.levels)
        own = np.array([label.component == "conditional" for label in named], dtype=np.bool_)
        return Intervals(**{name: values[own] for name, values in vars(found).items()})

    def _coefficient_intervals(self, conf_level: float, df: str) -> Intervals:
        identity = np.eye(len(self.estimate.coefficients))
        return wald.intervals(self.estimate, identity, conf_level=conf_level, df=df)

    def _variance_parameters(self, conf_level: float) -> tuple[VarianceParameter, ...]:
        return variance_parameters(self.estimate, conf_level=conf_level)

    def _coefficients_by_level(self, factor: int) -> tuple[LevelEffects, ...]:
        return generalised_effects.coefficients_by_level(self.estimate, factor)

    def _carried(self, exponentiate: bool) -> NDArray[np.bool_]:
        """Coefficients whose exponential is a ratio, if it is asked for."""
        carried = np.zeros(len(self.estimate.coefficients), dtype=np.bool_)
        if not exponentiate:
            return carried
        for part in self.estimate.components:
            link = link_of(self.estimate, part)
            if part.name == "conditional" and link not in (*EXPONENTIAL, "identity"):
                raise ModelError(
                    f"exponentiate=True makes no ratio of coefficients under the link {link!r}; "
                    f"it does under {', '.join(EXPONENTIAL)}"
                )
            carried[part.coefficients] = part.name != "threshold" and (
                link in EXPONENTIAL or part.name == "conditional"
            )
        return carried

    def summary(self, *, conf_level: float = 0.95, df: str = "normal") -> Summary:
        """Return the answer in words and tables.

        Beside the coefficients stand odds or rate ratios where the link makes
        them; zero part, dispersion and thresholds have their own tables.

        Parameters
        ----------
        conf_level : float
        df : {"normal"}
            The tests are normal.

        Examples
        --------
        >>> import ranef
        >>> fit = ranef.glmm("cbind(incidence, size - incidence) ~ period + (1 | herd)",
        ...                  ranef.data.load("cbpp"), family="binomial")
        >>> "odds ratio" in str(fit.summary())
        True
        """
        level = arguments.conf_level(conf_level)
        found = self._coefficient_intervals(level, df)
        variance = self._variance_parameters(level)
        return generalised_summary(self.estimate, self.levels, found, variance, level)

    def tidy(
        self,
        effects: str = "fixed",
        *,
        conf_level: float = 0.95,
        df: str = "normal",
        exponentiate: bool = False,
    ) -> Any:
        """Return estimates as a table in the library the data came in.

        Parameters
        ----------
        effects : {"fixed", "variance", "random"}
            The tables of `LinearMixedModelFit.tidy`. Their `component` is
            ``"conditional"`` (the mean), ``"zero"``, ``"dispersion"``,
            ``"threshold"`` or the name of a shape, each on the scale of its
            link; a multinomial model adds `response`, the category that is
            compared with the first. Standard deviations are on the scale of
            the link, and there is no residual row.
        conf_level : float
        df : {"normal"}
            The tests are normal.
        exponentiate : bool
            Carry the estimates and bounds of the fixed effects through exp
            where that makes ratios (links log, logit, cloglog); thresholds and
            standard errors stay on the scale fitted.

        Notes
        -----
        A parameter that is held (`fixed` of `glmm`) is known: its standard error is
        0, its interval the value itself, its statistic and p-value NaN. A standard
        deviation that is held has no interval (NaN).

        Examples
        --------
        >>> import ranef
        >>> fit = ranef.glmm("cbind(incidence, size - incidence) ~ period + (1 | herd)",
        ...                  ranef.data.load("cbpp"), family="binomial")
        >>> fit.tidy(exponentiate=True)[["term", "estimate", "conf_low", "conf_high"]].round(2)
                  term  estimate  conf_low  conf_high
        0  (Intercept)      0.25      0.16       0.39
        1      period2      0.37      0.20       0.68
        2      period3      0.32      0.17       0.61
        3      period4      0.21      0.09       0.48
        >>> fit.tidy("variance")[["component", "group", "parameter", "estimate"]].round(3)
             component group parameter  estimate
        0  conditional  herd        sd     0.642
        """
        return self._tidy(effects, conf_level, df, exponentiate)

    def glance(self) -> Any:
        """Return the fit in one row.

        Returns
        -------
        table
            ``n_obs, family, link, quadrature, df_model, df_resid, loglik,
            deviance, aic, bic, criterion, converged, singular``.

        Examples
        --------
        >>> import ranef
        >>> fit = ranef.glmm("resp ~ age + smoke + (1 | id)", ranef.data.load("ohio"),
        ...                  family="binomial", quadrature=25)
        >>> fit.glance()[["family", "link", "quadrature", "df_model"]]
             family   link  quadrature  df_model
        0  binomial  logit          25         4
        """
        own = {
            "family": self.family.name,
            "link": self.family.link,
            "quadrature": self.quadrature,
            "df_model": self.df_model,
            "df_resid": self.df_resid,
        }
        return self._glanced(own)

    def _row_columns(self) -> dict[str, NDArray[Any]]:
        """What `augment` says of each row in the model."""
        fitted = generalised_fitted.fitted(self.estimate)
        if self._categorical:
            return {
                f"fitted_{name}": np.ascontiguousarray(fitted[:, j])
                for j, name in enumerate(self._categories)
            }
        return {
            "fitted": fitted,
            "typical": generalised_fitted.fitted(self.estimate, kind="typical"),
            "residual": generalised_fitted.residuals(self.estimate, "response"),
            "pearson": generalised_fitted.residuals(self.estimate, "pearson"),
        }

    @property
    def _categorical(self) -> bool:
        return isinstance(self.family, Cumulative | Multinomial)

    @property
    def _categories(self) -> tuple[str, ...]:
        """Names of the categories of the response."""
        return tuple(str(level) for level in self.levels or ())

    def _response_column(self) -> NDArray[Any]:
        """The response of the rows in the model, categories by their labels."""
        return self._labelled(self.estimate.specification.y)

    def _labelled(self, y: NDArray[np.float64]) -> NDArray[Any]:
        """Values of a response, categories by their labels."""
        if self.levels is None:
            return y
        named = np.empty(len(self.levels), dtype=object)
        named[:] = list(self.levels)
        return named[y.astype(np.intp)]

    def predict(
        self,
        new: Any = None,
        *,
        kind: str = "conditional",
        type: str = "response",
        conf_level: float | None = None,
        interval: str = "mean",
        df: str = "normal",
        new_levels: str = "draw",
        history: Any = None,
        rng: Any = 0,
    ) -> Any:
        """Predict rows of the table fitted, or of a new one.

        Parameters
        ----------
        new : table, optional
            Needs the columns that the formulas use, but the response. Without
            it the rows of the table fitted are predicted.
        kind : {"conditional", "typical", "population"}
            With the random effects of the row's own levels; with random effects
            set to zero; averaged over the population's random effects, by
            quadrature. The last two differ unless the link is the identity.
        type : {"response", "link", "prob", "class", "conditional", "zero", "dispersion"}
            The mean of the response (of a binomial one the probability), zero
            part included; the linear predictor of the mean; the probability of
            each category, which is also the ``"response"`` where it has them;
            the most probable category; the mean without the zero part, of truncated
            counts that before truncation; the probability of an extra zero (of any in
            a hurdle); the dispersion.
        conf_level : float, optional
            Add standard errors and intervals at this level.
        interval : {"mean", "new"}
            For the expected value, or for a new observation, whose predictive
            distribution is drawn.
        df : str
            ``"normal"``, as in `tidy`.
        new_levels : {"draw", "zero", "raise"}
            Of conditional predictions for a level that the fit has not seen: its
            effect is drawn from the fitted distribution, with its variance in the
            interval, around the value at effect 0, the median; it is known to be
            0; it is refused.
        history : table, optional
            Rows with a response, such as the first observations of a new patient:
            the random effects of conditional predictions are the modes that these
            observations and those of the fit give together, at the fitted
            parameters and without a refit. For a known level they are added to
            its own in the fit.
        rng : int or numpy.random.Generator
            For ``interval="new"``; the same gives the same interval.

        Returns
        -------
        column or table
            Without `conf_level` a column ``estimate`` in the library of the rows, as
            `fitted` gives it (where the response has categories a table with a column
            for each); with it a table ``estimate,
            std_error, conf_low, conf_high``, led by ``row`` and ``category``
            where the response has categories. NaN where a needed value is
            missing. Standard errors carry the uncertainty of all coefficients
            and of the covariance parameters, and of the random effects where
            they are conditional. Intervals are made on the scale of the link.

        Examples
        --------
        >>> import ranef
        >>> fit = ranef.glmm("cbind(incidence, size - incidence) ~ period + (1 | herd)",
        ...                  ranef.data.load("cbpp"), family="binomial")
        >>> new = {"period": ["1", "4"], "herd": ["1", "1"]}
        >>> fit.predict(new).round(3).tolist()
        [0.308, 0.084]
        >>> fit.predict(new, kind="typical").round(3).tolist()
        [0.198, 0.048]
        >>> seen = {"period": ["1"], "herd": ["16"], "incidence": [6], "size": [15]}
        >>> fit.predict({"period": ["1", "2"], "herd": ["16", "16"]}, history=seen)
        0    0.306...
        1    0.140...
        Name: estimate, dtype: float64
        """
        kind = arguments.choice("kind", kind, KINDS)
        type = arguments.choice("type", type, targets.TYPES)
        wald.method_of(self.estimate, df)
        new_observation = arguments.choice("interval", interval, ("mean", "new")) == "new"
        policy = arguments.choice("new_levels", new_levels, NEW_LEVELS)
        if conf_level is None and new_observation:
            raise ModelError("interval='new' needs a conf_level, such as conf_level=0.95")
        level = None if conf_level is None else arguments.conf_level(conf_level)
        estimate, places = self.estimate, None
        if history is not None:
            check_history(kind)
            observed, places = history_of_parts(estimate, history)
            estimate = updated_generalised(estimate, observed)
        effects = {"conditional": "own", "population": "new"}.get(kind)
        if new is None:
            rows, frame = parts.own_rows(self.estimate), self.frame
        else:
            table = Table.of(new)
            rows, frame = read_parts(self.estimate, table, effects, trials=new_observation)
            if places is not None:
                rows = placed_parts(self.estimate, rows, table, frame, places)
            if kind == "conditional":
                rows = settled_parts(self.estimate, rows, table, frame, policy)
        found = generalised_prediction.predict(
            estimate,
            rows,
            kind=kind,
            type=type,
            conf_level=level,
            interval=interval,
            rng=arguments.generator(rng),
        )
        columns = {name: values for name, values in vars(found).items() if values is not None}
        if type == "class":
            return frame.column(self._labelled(found.estimate), "estimate")
        if level is None and found.estimate.ndim == 1:
            return frame.column(found.estimate, "estimate")
        if level is None:
            names = self._categories if type != "link" else self._categories[1:]
            return frame.table(dict(zip(names, found.estimate.T, strict=True)))
        if found.estimate.ndim == 1:
            return frame.table(columns)
        return self._long(columns, frame, type)

    def _long(self, columns: dict[str, NDArray[Any]], frame: Frame, type: str) -> Any:
        """One row for each row of the table and category (or predictor) of the response."""
        full = {name: frame.expand(values) for name, values in columns.items()}
        n, count = full["estimate"].shape
        names = self._categories if type != "link" else self._categories[1:]
        return make_table(
            {
                "row": np.repeat(np.arange(n), count),
                "category": list(names) * n,
                **{name: values.ravel() for name, values in full.items()},
            },
            frame.library,
        )

    def fitted(self, kind: str = "conditional") -> Any:
        """Return fitted values, one a row of the user's table; NaN where a row was dropped.

        Parameters
        ----------
        kind : {"conditional", "typical", "population"}
            As in `predict`.

        Returns
        -------
        column
            The mean of the response, of a binomial one the probability. Where
            the response has categories a table of their probabilities.

        Examples
        --------
        >>> import ranef
        >>> fit = ranef.glmm("rating ~ temp + contact + (1 | judge)", ranef.data.load("wine"),
        ...                  family="cumulative")
        >>> fit.fitted("typical").round(2).head(2)
              1     2     3     4    5
        0  0.16  0.65  0.17  0.01  0.0
        1  0.16  0.65  0.17  0.01  0.0
        """
        kind = arguments.choice("kind", kind, KINDS)
        values = generalised_fitted.fitted(self.estimate, kind=kind)
        if values.ndim == 1:
            return self.frame.column(values, "fitted")
        columns = dict(zip(self._categories, values.T, strict=True))
        return self.frame.table(columns)

    def residuals(self, kind: str = "response", *, rng: Any = 0) -> Any:
        """Return residuals, one a row of the user's table; NaN where a row was dropped.

        Parameters
        ----------
        kind : {"response", "pearson", "deviance", "working", "quantile"}
            - ``"response"``: response minus fitted mean, the random effects at
              their modes; of trials the proportion minus the probability.
            - ``"pearson"``: that divided by the standard deviation that the
              family gives it.
            - ``"deviance"``: the root of the row's unit deviance, with the sign
              of the response residual, for families that have one.
            - ``"working"``: the response residual on the scale of the link.
            - ``"quantile"``: the normal quantile of the response's rank among
              responses that the model draws, ties broken at random: standard
              normal for every family if the model holds.
        rng : int or numpy.random.Generator
            For ``"quantile"``; the same gives the same residuals.

        Raises
        ------
        ranef.errors.ModelError
            Categories have no difference from a mean; some families have no
            deviance.

        Examples
        --------
        >>> import ranef
        >>> fit = ranef.glmm("cbind(incidence, size - incidence) ~ period + (1 | herd)",
        ...                  ranef.data.load("cbpp"), family="binomial")
        >>> round(float((fit.residuals("pearson") ** 2).sum()), 1)
        63.1
        """
        kind = arguments.choice("kind", kind, (*generalised_fitted.RESIDUALS, "quantile"))
        if kind == "quantile":
            values = quantile_residuals.quantile_residuals(self.estimate, arguments.generator(rng))
        else:
            values = generalised_fitted.residuals(self.estimate, kind)
        return self.frame.column(values, "residual")

    def posterior_means(self) -> Any:
        """Return posterior means of the random effects beside their modes.

        By adaptive quadrature around the modes, given the estimated parameters;
        for one grouping factor, or factors nested in each other, and up to three
        effects a level. Where a level has few rows the two differ, as the posterior
        is skewed.

        Returns
        -------
        table
            ``component, group, level, term, mode, mean, sd``; a multinomial
            model adds `response`.

        Raises
        ------
        ranef.errors.ModelError
            The model has crossed grouping factors, a kernel, or more effects.

        Examples
        --------
        >>> import ranef
        >>> fit = ranef.glmm("cbind(incidence, size - incidence) ~ period + (1 | herd)",
        ...                  ranef.data.load("cbpp"), family="binomial")
        >>> fit.posterior_means()[["level", "mode", "mean", "sd"]].round(2).head(2)
          level  mode  mean    sd
        0     1  0.59  0.57  0.35
        1     2 -0.30 -0.33  0.37
        """
        means = generalised_effects.posterior_means(self.estimate)
        columns = tables.random_columns(self.estimate, self._level_effects, 0.95, self.levels)
        kept = ("component", "response", "group", "level", "term")
        table = {name: columns[name] for name in kept if name in columns}
        table["mode"] = columns["estimate"]
        table["mean"] = np.concatenate([found.mean.T.ravel() for found in means])
        table["sd"] = np.concatenate([found.sd.T.ravel() for found in means])
        return make_table(table, self.frame.library)

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
            their distribution given the data and the parameters, by Metropolis steps
            that begin at a draw of its normal approximation (effects with a kernel
            stay at that draw).
        new : table, optional
            Rows to draw responses for, with the columns that the formulas use, but
            the response; the rows of the model if left out. Each level that the fit
            has not seen has an effect of its own, drawn from the fitted distribution
            whatever `kind` is.
        parameters : {"fixed", "draw"}
            At the estimates, or drawn for each response from the normal distribution
            of their estimates, the random effects' modes moving with them.

        Returns
        -------
        table
            Columns ``sim_1 .. sim_n``, one row a row of the table; missing
            where a row was dropped. A binomial response is its number
            of successes. `refit` takes the table as it is.

        Examples
        --------
        >>> import ranef
        >>> fit = ranef.glmm("cbind(incidence, size - incidence) ~ period + (1 | herd)",
        ...                  ranef.data.load("cbpp"), family="binomial")
        >>> fit.simulate(2, rng=1).shape
        (56, 2)
        """
        n = arguments.count("n", n)
        kind = arguments.choice("kind", kind, SIMULATIONS)
        drawn_parameters = arguments.choice("parameters", parameters, ("fixed", "draw")) == "draw"
        rows, n_levels, frame = None, None, self.frame
        if new is not None:
            rows, n_levels, frame = simulated_parts(self.estimate, new)
        drawn = generalised.simulate(
            self.estimate,
            n,
            arguments.generator(rng),
            kind=kind,
            rows=rows,
            n_levels=n_levels,
            draws=generalised_draws(self.estimate) if drawn_parameters else None,
        )
        return frame.table({f"sim_{j + 1}": self._labelled(drawn[:, j]) for j in range(n)})

    def refit(
        self, y: Any, *, n_jobs: int | None = None, progress: bool | None = None
    ) -> GeneralisedFit | Refits:
        """Fit the same model to another response, or to many.

        Parameters
        ----------
        y : (n,) array, (n, k) array or table of k columns
            One value for each row in the model, or for each row of its table,
            as `simulate` draws them: of a binomial response the number of
            successes, of categories their labels.
        n_jobs : int, optional
            Threads; None for all this process may use. The estimates are the same, to
            the bit, for any number.
        progress : bool, optional
            Show a progress bar for many responses; None shows one when the
            work is long.

        Returns
        -------
        GeneralizedMixedModelFit
            For one response.
        Refits
            For a matrix or table: the estimates, one row a response.

        Examples
        --------
        >>> import ranef
        >>> fit = ranef.glmm("cbind(incidence, size - incidence) ~ period + (1 | herd)",
        ...                  ranef.data.load("cbpp"), family="binomial")
        >>> fit.refit(fit.simulate(3, rng=1)).converged.tolist()
        [True, True, True]
        """
        shown = arguments.optional_flag("progress", progress)
        jobs = None if n_jobs is None else arguments.count("n_jobs", n_jobs)
        responses = coded_responses(y, self.frame, self.levels)
        if responses.single:
            one = np.ascontiguousarray(responses.y[:, 0])
            estimate = refit_glmm(self.estimate, one, n_jobs=jobs)
            warn_about(estimate, self.levels)
            return type(self)(estimate, self.frame)
        return refit_many(
            self.estimate, responses, self.frame.library, levels=self.levels,
            n_jobs=jobs, progress=shown,
        )  # fmt: skip

    def equation(self) -> Equation:
        """Return the model in symbols; prints as text, shows as LaTeX in notebooks.

        Examples
        --------
        >>> import ranef
        >>> fit = ranef.glmm("count ~ mined + (1 | site)", ranef.data.load("Salamanders"),
        ...                  family="nbinom2", zero="~ 1")
        >>> print(fit.equation())
        count[i] ~ 0 with probability p[i], else Negative binomial 2(mu[i], phi)
        log(mu[i]) = b0 + b1*minedno[i] + u0[site[i]]
        logit(p[i]) = g0
        u0 ~ Normal(0, sd^2) over the levels of site
        """
        return generalised_equation(self.estimate, self.levels)
