"""What every fit of a mixed model says of rows: predictions, residuals and draws."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ranef import arguments
from ranef.description.doubts import warn_about
from ranef.description.mixed import MixedDescription
from ranef.description.summary import variance_listings
from ranef.design.transformation import response_transformation
from ranef.display.columns import Listing
from ranef.errors import DataWarning, ModelError, RankWarning, warn
from ranef.families.links import Scale
from ranef.fits.estimability import row_names, undetermined_words, warn_of
from ranef.fits.fit import row_functions_of, shown_intervals
from ranef.fits.mixed_parameters import MixedParameters
from ranef.fits.new_levels import (
    NEW_LEVELS,
    check_history,
    history_of,
    placed,
    settled,
    simulated_rows,
)
from ranef.fits.new_rows import chosen_terms, only_terms, read_rows
from ranef.fits.protocol import Estimand
from ranef.fits.refits import read_responses, refit_many
from ranef.formula.labels import count_text
from ranef.inference.coefficients.functions import carried_back
from ranef.inference.coefficients.wald import Intervals
from ranef.inference.draws.simulation import KINDS as SIMULATIONS
from ranef.inference.draws.spread import variances_of_draws
from ranef.inference.rows.averaging import Means
from ranef.inference.rows.evaluated import Values
from ranef.inference.rows.prediction import Prediction
from ranef.inference.undetermined import masked
from ranef.models.equally_good import equally_good
from ranef.models.records import CONDITIONAL
from ranef.models.refitting import refit
from ranef.models.rows import Rows
from ranef.tables import Table, make_table
from ranef.tables.origin import Origin

__all__ = ["MixedFit"]

Floats = NDArray[np.float64]

KINDS = ("conditional", "typical", "population")


@dataclass(frozen=True, eq=False, repr=False)
class MixedFit(MixedParameters):
    """A fitted mixed model, linear or generalised.

    Attributes
    ----------
    estimate : Estimate
        What the solver found, as arrays.
    frame : Origin
        Where the rows came from.
    """

    def model_columns(self) -> dict[str, Any]:
        """Response and grouping factors, one value a row of the user's table."""
        columns = super().model_columns()
        for factor in self.factors:
            if factor.members is not None:
                continue
            named = np.empty(factor.n_levels, dtype=object)
            named[:] = list(factor.levels)
            columns[factor.name] = self.frame.expand(named[factor.codes])
        return columns

    def row_columns(self) -> dict[str, NDArray[Any]]:
        """What `augment` says of each row in the model."""
        fitted = self.inference.fitted()
        if self.categories is not None:
            return {
                f"fitted_{name}": np.ascontiguousarray(fitted[:, j])
                for j, name in enumerate(self.categories)
            }
        return {
            "fitted": fitted,
            "typical": self.inference.fitted("typical"),
            "residual": self.inference.residuals("response"),
            "pearson": self.inference.residuals("pearson"),
        }

    @property
    @abstractmethod
    def description(self) -> MixedDescription:
        """What is said of the fit in words."""

    def variance_listings(self, level: float) -> tuple[Listing, ...]:
        """The tables of variances in a summary."""
        return variance_listings(self.estimate, self.variance_parameters(level), level)

    # --- rows

    @property
    def own_rows(self) -> Rows:
        """The rows in the model."""
        return Rows.of(self.parts, self.estimate.extra)

    def values(self, rows: Rows, what: Estimand) -> Values:
        """What the model says of rows without missing values."""
        return self.inference.evaluate(
            rows, what.component, what.kind, what.type, what.df, what.back
        )

    def parts_of(self, type: str) -> tuple[str, ...]:
        """Parts on whose fixed effects means of a type rest."""
        return self.inference.parts_of("response", type)

    def rows_for(self, new: Any, kind: str, back: Scale = "identity") -> tuple[Rows, Origin]:
        """Read a table for averages of one kind."""
        whole = back != "identity"  # its mean depends on the variances
        return read_rows(self, Table.of(new), self._effects_of(kind, whole))

    def means(
        self,
        rows: Rows,
        weights: Floats,
        groups: NDArray[np.intp],
        *,
        kind: str,
        type: str,
        back: Scale = "identity",
    ) -> Means:
        """Averages of means in groups of rows, with their derivatives."""
        return self.inference.means(rows, weights, groups, kind=kind, type=type, back=back)

    def means_covariance(self, found: Means, df: str | None) -> tuple[Floats, Floats]:
        """Covariance (S, S) of averages, and their derivatives in the coefficients."""
        return self.inference.average_covariance(found, df)

    def mean_scale(self, type: str, back: Scale = "identity") -> Scale:
        """Link on whose scale intervals of means are made."""
        return self.inference.mean_scale(type, back)

    def predict(
        self,
        new: Any = None,
        *,
        kind: str = "conditional",
        type: str | None = None,
        conf_level: float | None = None,
        interval: str = "mean",
        df: str | None = None,
        new_levels: str = "draw",
        history: Any = None,
        terms: Sequence[str] | None = None,
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
            quadrature. The last two differ unless the link is the identity; in a linear
            model they predict the same value, but a new observation from the population
            varies with its levels.
        type : {"response", "link", "prob", "class", "conditional", "zero", "dispersion"}, optional
            Of a linear model the first two, which differ where the formula transforms its
            response: left out, predictions are of ``log(y)`` as it was fitted;
            ``"response"`` carries them back to y, exactly: medians, of the population
            means, with the random effects and the residual integrated out.
            Of other models, ``"response"`` if left out:
            the mean of the response (of a binomial one the probability), zero
            part included; the linear predictor of the mean; the probability of
            each category, which is also the ``"response"`` where it has them;
            the most probable category; the mean without the zero part, of truncated
            counts that before truncation; the probability of an extra zero (of any in
            a hurdle); the dispersion.
        conf_level : float, optional
            Add standard errors and intervals at this level.
        interval : {"mean", "new"}
            For the expected value, or for a new observation: in a linear model its
            weight is read from the column that `weights` named, else it is 1; in a
            generalised one its predictive distribution is drawn.
        df : str, optional
            Method of the degrees of freedom, as in `tidy`, of a linear model for the mean
            of ``"typical"`` and ``"population"``. Needs `conf_level`.
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
        terms : list of str, optional
            Of conditional predictions: the random terms whose effects count,
            ``["(1 | item)"]``, or grouping factors; those of others are set to zero, and
            their groups need not be in `new`.
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
        inference, places = self.inference, None
        inference.method(df)
        kind = arguments.choice("kind", kind, KINDS)
        back = self._carried_from(type)
        type = arguments.choice("type", "response" if type is None else type, inference.types)
        policy = arguments.choice("new_levels", new_levels, NEW_LEVELS)
        new_observation = arguments.choice("interval", interval, ("mean", "new")) == "new"
        if conf_level is None and new_observation:
            raise ModelError("interval='new' needs a conf_level, such as conf_level=0.95")
        level = None if conf_level is None else arguments.conf_level(conf_level)
        generator = arguments.generator(rng)
        chosen = None if terms is None else chosen_terms(self, terms)
        if chosen is not None and kind != "conditional":
            raise ModelError(
                f"terms chooses among the effects of conditional predictions, and kind={kind!r} "
                "has none: leave terms out"
            )
        if history is not None:
            check_history(kind)
            observed, places = history_of(self, history)
            inference = inference.updated(observed)
        rows, frame = self.own_rows, self.frame
        if new is not None:
            table, parts = Table.of(new), self.parts
            effects = self._effects_of(kind, new_observation or back != "identity")
            precise = self.estimate.sigma is not None
            rows, frame = read_rows(
                self, table, effects, trials=new_observation and not precise, weights=precise,
                noise="together" if places is not None else "single" if new_observation else None,
                chosen=chosen,
            )  # fmt: skip
            if places is not None:
                rows = placed(parts, rows, table, frame, places)
            if kind == "conditional":
                rows = settled(parts, rows, table, frame, policy)
        if chosen is not None:
            rows = only_terms(rows, chosen)
        found = inference.predict(
            rows, kind, type, conf_level=level, new=new_observation, df=df,
            rng=generator,
        )  # fmt: skip
        if back != "identity":
            found = self._on_response(found, rows, kind, back, level, df, new_observation)
        found = self._determined(
            found, rows, frame, inference.parts_of("response", type, new=new_observation)
        )
        columns = {name: values for name, values in vars(found).items() if values is not None}
        if type == "class":
            return frame.column(self.labelled(found.estimate), "estimate")
        if found.estimate.ndim > 1:
            return self._by_category(columns, frame, type, level)
        return frame.column(found.estimate, "estimate") if level is None else frame.table(columns)

    def _determined(
        self, found: Prediction, rows: Rows, frame: Origin, parts: Sequence[str]
    ) -> Prediction:
        """A prediction without its rows that the data do not determine, of which it warns."""
        gone = rows.undetermined(parts)
        if not gone.any():
            return found
        warn_of(
            undetermined_words(self, rows, parts, row_names(frame)), "the prediction is NaN there"
        )
        return found.without(gone)

    @cached_property
    def transformation(self) -> Scale:
        """The link that the formula put its response through; refused if it has no inverse."""
        spec = self.parts[CONDITIONAL]

        def values(name: str) -> NDArray[np.float64]:
            kept, column = self.frame.accounting.kept, self.frame.columns.numeric(name)
            return column if kept is None else column[kept]

        found = response_transformation(spec.response, spec.recipe.state, values)
        if found is None:
            return "identity"
        plain = len(found.steps) == 1 and found.of_ratios
        return "log" if plain else found

    def _carried_from(self, type: str | None) -> Scale:
        """The link that predictions of a type are carried back from."""
        return "identity"

    def _on_response(
        self,
        found: Prediction,
        rows: Rows,
        kind: str,
        back: Scale,
        level: float | None,
        df: str | None,
        new: bool,
    ) -> Prediction:
        """Carry predictions of a transformed response back; means of the population."""
        none = np.full(len(found.estimate), np.nan)
        error, low, high = (
            none if values is None else values
            for values in (found.std_error, found.conf_low, found.conf_high)
        )
        there = carried_back(Intervals(found.estimate, error, none, none, none, low, high), back)
        mean = there
        if kind == "population":
            values = self.inference.evaluate(rows, "conditional", kind, "response", df, back)
            mean = shown_intervals(
                row_functions_of(values, rows, (CONDITIONAL,)), values, level or 0.95, on_mean=True
            )
        beyond = int(np.sum(np.isnan(mean.estimate) & ~rows.undetermined((CONDITIONAL,))))
        if beyond:
            warn(
                f"{count_text(beyond, 'prediction')} of {self.response} lie beyond the values that "
                "it takes, and cannot be carried back: NaN",
                DataWarning,
            )
        if level is None:
            return Prediction(mean.estimate)
        ends = there if new else mean
        return Prediction(mean.estimate, ends.std_error, ends.conf_low, ends.conf_high)

    def _effects_of(self, kind: str, new_observation: bool) -> str | None:
        """Random effects that predictions of a kind need of the rows."""
        return {"conditional": "own", "population": "new"}.get(kind)

    def _by_category(
        self, columns: dict[str, NDArray[Any]], frame: Origin, type: str, level: float | None
    ) -> Any:
        """A column a category; with intervals a row for each row of the table and category."""
        names = (self.categories or ())[type == "link" :]
        if level is None:
            return frame.table(dict(zip(names, columns["estimate"].T, strict=True)))
        full = {name: frame.expand(values) for name, values in columns.items()}
        n, count = full["estimate"].shape
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
            As in `predict`: with random effects at their conditional modes, at zero,
            averaged over (the last two agree in a linear model).

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
        values = self.inference.fitted(arguments.choice("kind", kind, KINDS))
        if values.ndim == 1:
            return self.frame.column(values, "fitted")
        return self.frame.table(dict(zip(self.categories or (), values.T, strict=True)))

    def residuals(self, kind: str = "response", *, rng: Any = 0) -> Any:
        """Return residuals, one a row of the user's table; NaN where a row was dropped.

        Parameters
        ----------
        kind : str
            - ``"response"``: response minus fitted mean, the random effects at
              their modes; of trials the proportion minus the probability.
            - ``"pearson"``: that divided by the standard deviation that the
              family gives it (in a linear model sigma / sqrt(weight)).

            Of a linear model also

            - ``"conditional"``: y - offset - X beta - Z b, the same as ``"response"``.
            - ``"marginal"``: y - offset - X beta, random effects left in.

            Of a generalised model also

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
        >>> fit = ranef.lmm("Yield ~ 1 + (1 | Batch)", ranef.data.load("Dyestuff"))
        >>> bool(abs(fit.residuals("marginal").sum()) < 1e-6)
        True
        >>> fit = ranef.glmm("cbind(incidence, size - incidence) ~ period + (1 | herd)",
        ...                  ranef.data.load("cbpp"), family="binomial")
        >>> round(float((fit.residuals("pearson") ** 2).sum()), 1)
        63.1
        """
        kind = arguments.choice("kind", kind, self.inference.residual_kinds)
        values = self.inference.residuals(kind, arguments.generator(rng))
        return self.frame.column(values, "residual")

    # --- draws

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
            their distribution given the data and the parameters, which is normal in a
            linear model; in a generalised one by Metropolis steps that begin at a draw of
            its normal approximation (effects with a kernel stay at that draw).
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
        >>> fit = ranef.lmm("Yield ~ 1 + (1 | Batch)", ranef.data.load("Dyestuff"))
        >>> fit.simulate(3, rng=1, new={"Batch": ["A", "another"]}, kind="posterior").shape
        (2, 3)
        """
        n = arguments.count("n", n)
        kind = arguments.choice("kind", kind, SIMULATIONS)
        drawn_parameters = arguments.choice("parameters", parameters, ("fixed", "draw")) == "draw"
        rows, n_levels, frame = None, None, self.frame
        if new is not None:
            rows, n_levels, frame = simulated_rows(self, new)
        drawn = self.inference.simulate(
            n,
            arguments.generator(rng),
            kind=kind,
            rows=rows,
            n_levels=n_levels,
            draw_parameters=drawn_parameters,
        )
        if rows is not None and (gone := rows.undetermined(self.parts)).any():
            words = undetermined_words(self, rows, self.parts, row_names(frame))
            warn_of(words, "no response is drawn there")
            drawn[gone] = np.nan
        if kind == "new" or rows is not None:
            drawn[self._unknown_draws(rows)] = np.nan
        return frame.table({f"sim_{j + 1}": self.labelled(drawn[:, j]) for j in range(n)})

    def _unknown_draws(self, rows: Rows | None) -> NDArray[np.bool_]:
        """Rows (N,) whose new responses have a variance that the data do not determine."""
        estimate, other = self.estimate, equally_good(self.estimate)
        rows = Rows.of(estimate.parts, estimate.extra) if rows is None else rows
        if other is None:
            return np.zeros(len(rows.parts[CONDITIONAL].X), dtype=bool)
        both = (variances_of_draws(which, rows) for which in (estimate, other))
        gone = np.isnan(masked(*both)).any(axis=0)
        if gone.any():
            warn(
                f"the variance of new responses in {count_text(int(gone.sum()), 'row')} rests on "
                "what the data do not determine: no response is drawn there (NaN); "
                "kind='conditional' keeps the random effects at their modes",
                RankWarning,
            )
        return np.asarray(gone)

    def refit(self, y: Any, *, n_jobs: int | None = None, progress: bool | None = None) -> Any:
        """Fit the same model to another response, or to many.

        Parameters
        ----------
        y : (n,) array, (n, k) array or table of k columns
            One value for each row in the model, or for each row of its table,
            as `simulate` draws them: on the scale of the formula's left side (logs for
            ``log(y) ~ ...``), of a binomial response the number of successes, of categories
            their labels.
        n_jobs : int, optional
            Threads; None for all this process may use. The estimates are the same, to
            the bit, for any number.
        progress : bool, optional
            Show a progress bar for many responses; None shows one when the
            work is long.

        Returns
        -------
        fit
            Of the same kind, for one response.
        Refits
            For a matrix or table: the estimates, one row a response.

        Examples
        --------
        >>> import ranef
        >>> fit = ranef.glmm("cbind(incidence, size - incidence) ~ period + (1 | herd)",
        ...                  ranef.data.load("cbpp"), family="binomial")
        >>> fit.refit(fit.simulate(3, rng=1)).converged.tolist()
        [True, True, True]
        >>> fit = ranef.lmm("Yield ~ 1 + (1 | Batch)", ranef.data.load("Dyestuff"))
        >>> again = fit.refit(fit.simulate(1, rng=2)["sim_1"])
        >>> again.n_obs
        30
        """
        shown = arguments.optional_flag("progress", progress)
        jobs = None if n_jobs is None else arguments.count("n_jobs", n_jobs)
        responses = read_responses(y, self.frame, self.levels)
        if not responses.single:
            many = refit_many(
                self.estimate, responses, self.frame.library, n_jobs=jobs, progress=shown
            )
            return replace(many, coded=self.coded)
        estimate = refit(self.estimate, np.ascontiguousarray(responses.y[:, 0]), n_jobs=jobs)
        warn_about(estimate)
        return type(self)(estimate, self.frame)
