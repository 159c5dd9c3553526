"""What a fit of a population-averaged model knows."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ranef import arguments
from ranef.description import tables
from ranef.description.marginal import MarginalDescription
from ranef.design.specification import Specification
from ranef.errors import ModelError
from ranef.families import Cumulative, Family
from ranef.families.links import Scale
from ranef.fits.estimability import row_names, undetermined_words, warn_of
from ranef.fits.fit import Fit
from ranef.fits.protocol import Estimand
from ranef.inference.coefficients import estimating
from ranef.inference.coefficients.functions import Knowledge
from ranef.inference.coefficients.wald import FTest, quantile, wald
from ranef.inference.rows.evaluated import Values
from ranef.inference.rows.marginal_categories import category_rows
from ranef.models.labels import CONDITIONAL, CoefficientLabel
from ranef.models.marginal import MarginalEstimate
from ranef.models.marginal_categories import mean_columns, threshold_basis
from ranef.models.marginal_errors import correlation_errors, criteria_of
from ranef.models.marginal_fitting import doubts
from ranef.models.rows import Rows
from ranef.solve.marginal.covariance import COVARIANCES
from ranef.solve.marginal.tabled import Stationary
from ranef.solve.marginal.working import Autoregressive
from ranef.tables import make_table
from ranef.tables.origin import Origin

__all__ = ["MarginalFit"]

Floats = NDArray[np.float64]
EFFECTS = ("fixed", "correlation", "thresholds", "dropout")
FOUR = ("estimate", "std_error", "conf_low", "conf_high")
CATEGORY_TYPES = ("response", "prob", "link", "class", "mean_class")


@dataclass(frozen=True, eq=False, repr=False)
class MarginalFit(Fit):
    """A fitted population-averaged model, without the questions asked of it.

    Attributes
    ----------
    estimate : MarginalEstimate
    frame : Origin
    covariance : str
        Where standard errors come from, a name in `COVARIANCES`.
    df : str
        Method of the degrees of freedom of tests; ``"default"`` goes by the clusters.
    """

    estimate: MarginalEstimate
    frame: Origin
    covariance: str = "robust"
    df: str = "default"

    kind_words = "a population-averaged model"

    # --- what it is

    @property
    def parts(self) -> Mapping[str, Specification]:
        return {CONDITIONAL: self.estimate.model.specification}

    @property
    def family(self) -> Family:
        return self.estimate.model.family

    @cached_property
    def labels(self) -> tuple[CoefficientLabel, ...]:
        return self.estimate.model.labels

    @property
    def coefficients(self) -> Floats:
        return self.estimate.coefficients

    @property
    def description(self) -> MarginalDescription:
        """What is said of the fit in words."""
        return MarginalDescription(self)

    @property
    def mean_words(self) -> str:
        """Whose means an answer about rows gives."""
        return (
            f"Population-averaged: the means of the model are those over all "
            f"{self.estimate.model.clusters[0].name}, not those of one."
        )

    @property
    def n_obs(self) -> int:
        """Number of rows in the model; of those planned the ones that were seen."""
        dropout = self.estimate.model.dropout
        return super().n_obs if dropout is None else int(np.count_nonzero(dropout.weights))

    @property
    def n_groups(self) -> dict[str, int]:
        """Number of clusters."""
        return {factor.name: factor.n_levels for factor in self.estimate.model.clusters}

    @property
    def n_clusters(self) -> int:
        """Number of independent clusters."""
        return self.estimate.model.clusters[0].n_levels

    @property
    def scale(self) -> float:
        """Phi in Var(y) = phi V(mu), by Pearson's residuals."""
        return self.estimate.scale

    @property
    def dispersion(self) -> dict[str, float]:
        """The scale, and shapes of the variance that are held."""
        if self.categories is not None:
            return {}
        return {"phi": self.scale, **self.estimate.model.shapes}

    def doubts(self) -> tuple[str, ...]:
        """Sentences on what makes the answers untrue; none of a sound fit."""
        return tuple(text for text, _ in doubts(self.estimate))

    # --- tests

    def method(self, df: str | None) -> str:
        """Name the method of degrees of freedom; refuse one that the fit does not have."""
        wanted = self.df if df is None else df
        if wanted == "default":
            return estimating.default_df(self.estimate, self.covariance)
        return estimating.check_df(wanted)

    def knowledge(self, df: str | None = None) -> Knowledge:
        """How well the coefficients are known, and how functions of them are tested."""
        method = self.method(df)
        if method not in self._knowledge:
            found = estimating.knowledge(self.estimate, self.covariance, method)
            self._knowledge[method] = found
        return self._knowledge[method]

    @cached_property
    def _knowledge(self) -> dict[str, Knowledge]:
        return {}

    def with_covariance(self, covariance: str, df: str | None = None) -> Any:
        """Return the same fit with standard errors of another kind.

        Parameters
        ----------
        covariance : {"robust", "model", "jackknife", "jackknife-full", "mancl-derouen", \
"kauermann-carroll", "fay-graubard", "morel"}
        df : str, optional
            Method of the degrees of freedom; that of the fit if not given.

        Examples
        --------
        >>> import ranef
        >>> fit = ranef.gee("resp ~ age * smoke", ranef.data.load("ohio"), groups="id", time="age",
        ...                 family="binomial")
        >>> fit.with_covariance("mancl-derouen").bse.round(4).to_dict()["smoke"]
        0.1887
        """
        kind = arguments.choice("covariance", covariance, COVARIANCES)
        return replace(self, covariance=kind, df=self.df if df is None else df)

    def tidy(
        self,
        effects: str = "fixed",
        *,
        conf_level: float = 0.95,
        df: str | None = None,
        exponentiate: bool = False,
        covariance: str | None = None,
    ) -> Any:
        """Return estimates as a table in the library the data came in.

        Parameters
        ----------
        effects : {"fixed", "correlation", "thresholds", "dropout"}
            The coefficients, the parameters of the working correlation, the thresholds of ordered
            categories alone, or the coefficients of the model of dropout (log odds of being
            seen).
        conf_level : float
        df : {"normal", "clusters", "fay-graubard", "pan-wall", "small-sample"}, optional
            Of tests and intervals; that of the fit if not given. `clusters` is clusters minus
            coefficients.
        exponentiate : bool
            Carry estimates and bounds through exp: odds or rate ratios.
        covariance : str, optional
            Where standard errors come from, see `with_covariance`.

        Returns
        -------
        table
            ``component, term, estimate, std_error, df, statistic, p_value, conf_low,
            conf_high``; of the correlation ``group, time, time2, lag, parameter, estimate,
            std_error, conf_low, conf_high``: errors are those of the stacked equations of the
            mean, the scale and the correlation (Prentice 1988), intervals normal on the
            scale of Fisher's z, of log odds ratios on their own. NaN where the parameters are
            given, had to be mixed with independence or are local odds ratios, and with dropout.

        Examples
        --------
        >>> import ranef
        >>> fit = ranef.gee("resp ~ age * smoke", ranef.data.load("ohio"), groups="id", time="age",
        ...                 family="binomial")
        >>> fit.tidy()[["term", "estimate", "std_error"]].round(4)
                  term  estimate  std_error
        0  (Intercept)   -1.9005     0.1191
        1          age   -0.1412     0.0582
        2        smoke    0.3138     0.1878
        3    age:smoke    0.0708     0.0883
        >>> fit.tidy("correlation")[["group", "estimate", "std_error"]].round(4)
          group  estimate  std_error
        0    id    0.3546      0.036
        """
        if covariance is not None:
            other = self.with_covariance(covariance, df)
            return other.tidy(effects, conf_level=conf_level, exponentiate=exponentiate)
        if arguments.choice("effects", effects, EFFECTS) == "correlation":
            return self._made(self._correlation_columns(arguments.conf_level(conf_level)))
        if effects == "dropout":
            return self._made(self._dropout_columns(arguments.conf_level(conf_level)))
        if effects == "thresholds":
            return self._made(self._threshold_columns(arguments.conf_level(conf_level), df))
        return super().tidy(effects, conf_level=conf_level, df=df, exponentiate=exponentiate)

    def _correlation_columns(self, level: float) -> dict[str, Any]:
        found = self._correlations()
        count = len(found["estimate"])
        error = correlation_errors(self.estimate)[:count]
        values = np.asarray(found["estimate"])
        reach = quantile(level, np.full(count, np.inf)) * error
        logs = any("odds" in word for word in found["parameter"])
        if logs:
            low, high = values - reach, values + reach
        else:  # on the scale of Fisher's z
            z, slope = np.arctanh(values), 1 - values**2
            low, high = np.tanh(z - reach / slope), np.tanh(z + reach / slope)
        return {**found, "std_error": error, "conf_low": low, "conf_high": high}

    def _correlations(self) -> dict[str, Any]:
        model, working = self.estimate.model, self.estimate.solution.working
        values = self.estimate.correlations
        count = len(values)
        if self.categories is not None:
            return self._association_columns(values)
        nested = model.equations.correlation == "nested"
        groups = [model.clusters[1 - k if nested else 0].name for k in range(count)]
        if not nested:
            groups = [model.clusters[0].name] * count
        kind = "log odds ratio" if model.equations.correlation == "log odds ratio" else "corr"
        lags: list[float] = [np.nan] * count
        if isinstance(working, Stationary | Autoregressive):
            lags = [float(k + 1) for k in range(count)]
        times: list[tuple[str | None, str | None]] = [(None, None)] * count
        if model.occasions is not None:
            label = model.occasions.label
            times = [
                (None, None) if a is None or b is None else (label(a), label(b))
                for a, b in working.labels(model.laid_out)
            ]
        return {
            "group": groups,
            "time": [a for a, _ in times],
            "time2": [b for _, b in times],
            "lag": lags,
            "parameter": [kind] * count,
            "estimate": values,
        }

    def _association_columns(self, values: Floats) -> dict[str, Any]:
        """Of categories: one log odds ratio, or those of neighbouring categories."""
        model = self.estimate.model
        words = [model.equations.correlation.replace("odds", "log odds")] * len(values)
        if model.equations.correlation == "local odds ratio":
            names = self.categories or ()
            first, second = np.triu_indices(len(names) - 1)
            cuts = [f"{a}|{b}" for a, b in itertools.pairwise(names)]
            if isinstance(self.family, Cumulative):
                values, words = values[:1], words[:1]
            else:
                words = [
                    f"{words[0]} {cuts[a]}, {cuts[b]}" for a, b in zip(first, second, strict=True)
                ]
        count = len(values)
        return {
            "group": [model.clusters[0].name] * count,
            "time": [None] * count,
            "time2": [None] * count,
            "lag": [np.nan] * count,
            "parameter": words,
            "estimate": values,
        }

    def _threshold_columns(self, level: float, df: str | None) -> dict[str, Any]:
        own = [k for k, label in enumerate(self.labels) if label.component == "threshold"]
        if not own:
            raise ModelError("thresholds belong to ordered categories, family='cumulative'")
        found = self.hypotheses(np.eye(len(self.labels))[own], level, df)
        labels = [self.labels[k] for k in own]
        return tables.fixed_columns(labels, found, np.zeros(len(own), dtype=np.bool_))

    def _dropout_columns(self, level: float) -> dict[str, Any]:
        model = self.estimate.model.dropout
        if model is None:
            raise ModelError("the fit has no model of dropout; gee(dropout='~ ...') makes one")
        error = np.sqrt(np.diag(model.covariance))
        found = wald(model.coefficients, error, np.full(len(error), np.inf), level)
        labels = [CoefficientLabel("dropout", None, name) for name in model.names]
        return tables.fixed_columns(labels, found, np.zeros(len(labels), dtype=np.bool_))

    def score_test(self, L: Floats) -> FTest:
        """Test that L (q, P) of the coefficients are zero by the generalised score test."""
        return estimating.score_test(self.estimate, L)

    # --- criteria

    def criteria(self, *, scale: float | None = None) -> Any:
        """Return criteria to choose the working correlation or the mean by, in one row.

        Compare fits at one scale only: by default that is one where the family has none (binomial,
        Poisson), else the scale under independence, which all correlations of one mean share. Of
        fits with different means give the scale of the largest one. CIC, RJC and GHYC choose the
        correlation, QICu the mean; smaller is better.

        Parameters
        ----------
        scale : float, optional

        Returns
        -------
        table
            ``quasi, qic, qicu, cic, rjc, ghyc, scale``: quasi-likelihood over the scale; QIC
            (Pan 2001) is -2 quasi + 2 CIC, CIC = tr(Omega V) with Omega the model-based
            information of independence at the coefficients of this fit and V the robust
            covariance; QICu is -2 quasi + 2 p; RJC and GHYC are distances of the working from the
            observed covariance. GHYC is NaN with more than 200 times and for nested clusters.

        Examples
        --------
        >>> import ranef
        >>> fit = ranef.gee("resp ~ age * smoke", ranef.data.load("ohio"), groups="id", time="age",
        ...                 family="binomial")
        >>> fit.criteria()[["qic", "cic", "scale"]].round(3)
                qic    cic  scale
        0  1830.348  5.434    1.0
        """
        number = None if scale is None else arguments.number("scale", scale)
        found = criteria_of(self.estimate, number)
        names = ("quasi", "qic", "qicu", "cic", "rjc", "ghyc", "scale")
        return self._made({name: [getattr(found, name)] for name in names})

    # --- rows

    def carried(self, exponentiate: bool) -> NDArray[np.bool_]:
        """Which coefficients `exponentiate` carries through exp; thresholds stay."""
        found = super().carried(exponentiate)
        own = [label.component != "threshold" for label in self.labels]
        return found & np.array(own, dtype=np.bool_)

    def values(self, rows: Rows, what: Estimand) -> Values:
        if self.categories is not None:
            return self._category_values(rows, what)
        part = rows.parts[CONDITIONAL]
        offset = part.offset if what.offset is None else what.offset
        eta = part.X @ self.coefficients + (0.0 if offset is None else offset)
        link = "identity" if what.type == "link" else self.family.link
        return Values(eta, part.X, self.knowledge(what.df), link, link, True)

    def _category_values(self, rows: Rows, what: Estimand) -> Values:
        model, part = self.estimate.model, rows.parts[CONDITIONAL]
        offset = part.offset
        if offset is not None and what.offset is not None:
            offset = np.full(len(part.X), what.offset)
        basis = threshold_basis(model) if isinstance(self.family, Cumulative) else None
        found = category_rows(
            self.family, basis, part.X[:, mean_columns(model)], offset, self.coefficients, what.type
        )
        linear = what.type == "link"
        return Values(
            found.value.T.ravel(),
            np.concatenate(list(found.jacobian.swapaxes(0, 1))),
            self.knowledge(what.df),
            "identity",
            "logit" if what.type == "prob" else "identity",
            linear,
        )

    def mean_scale(self, type: str, back: Scale = "identity") -> Scale:
        """Link on whose scale intervals of means are made."""
        if self.categories is None:
            return super().mean_scale(type, back)
        return "identity" if type in ("link", "mean_class") else "logit"

    def predict(
        self,
        new: Any = None,
        *,
        kind: str = "typical",
        type: str = "response",
        conf_level: float | None = None,
        df: str | None = None,
    ) -> Any:
        """Predict rows of the table fitted, or of a new one.

        Parameters
        ----------
        new : table, optional
            Needs the columns that the formula uses, but the response. Without
            it the rows of the table fitted are predicted.
        kind : {"typical", "population"}
            The same in a model without random effects.
        type : {"response", "link", "prob", "class", "mean_class"}
            Mean of the response, or linear predictor. Of categories: the probability of each
            (``"prob"``, the same as ``"response"``); the most probable one (``"class"``); of
            ordered ones the mean of their numbers, counted from 1.
        conf_level : float, optional
            Add standard errors and intervals at this level; of categories the table is led by
            ``row`` and ``category``.
        df : str, optional
            Method of the degrees of freedom, as in `tidy`.

        Examples
        --------
        >>> import ranef
        >>> fit = ranef.gee("rating ~ temp + contact", ranef.data.load("wine"), groups="judge",
        ...                 family="cumulative")
        >>> fit.predict({"temp": ["cold", "warm"], "contact": ["no", "no"]}).round(3)
               1      2      3      4      5
        0  0.203  0.578  0.190  0.023  0.006
        1  0.020  0.200  0.506  0.200  0.074
        """
        if self.categories is None:
            return super().predict(new, kind=kind, type=type, conf_level=conf_level, df=df)
        arguments.choice("kind", kind, arguments.KINDS)
        wanted = arguments.choice("type", type, CATEGORY_TYPES)
        rows, frame = self._rows(new)
        found = self._predicted(rows, "prob" if wanted == "class" else wanted, df, conf_level)
        words = undetermined_words(self, rows, self.parts_of("prob"), row_names(frame))
        warn_of(words, "the prediction is NaN there")
        names = self._category_names(wanted)
        each = {name: getattr(found, name).reshape(len(names), -1) for name in FOUR}
        if wanted == "class":
            best = np.argmax(np.nan_to_num(each["estimate"], nan=-1.0), axis=0).astype(np.float64)
            best[np.isnan(each["estimate"]).any(axis=0)] = np.nan
            return frame.column(self.labelled(best), "estimate")
        if conf_level is None and len(names) == 1:
            return frame.column(each["estimate"][0], "estimate")
        if conf_level is None:
            return frame.table(dict(zip(names, each["estimate"], strict=True)))
        if len(names) == 1:
            return frame.table({name: values[0] for name, values in each.items()})
        full = {name: frame.expand(values.T) for name, values in each.items()}
        count = len(full["estimate"])
        return make_table(
            {
                "row": np.repeat(np.arange(count), len(names)),
                "category": list(names) * count,
                **{name: values.ravel() for name, values in full.items()},
            },
            frame.library,
        )

    def _category_names(self, type: str) -> tuple[str, ...]:
        """Names of the values of a row."""
        names = self.categories or ()
        if type == "mean_class" or (type == "link" and isinstance(self.family, Cumulative)):
            return ("estimate",)
        return names[1:] if type == "link" else names

    def fitted(self, kind: str = "typical") -> Any:
        """Return fitted means, one a row of the user's table; of categories a table.

        NaN where a row was dropped.
        """
        return super().fitted(kind) if self.categories is None else self.predict(kind=kind)

    def row_columns(self) -> dict[str, NDArray[Any]]:
        """What `augment` says of each row in the model."""
        if self.categories is None:
            return super().row_columns()
        found = self._means.reshape(len(self.categories), -1)
        return {f"fitted_{n}": v for n, v in zip(self.categories, found, strict=True)}

    @property
    def _response(self) -> Floats:
        """The response; of successes of trials their share."""
        return self.estimate.model.proportions

    def _residuals(self, kind: str) -> Floats:
        if self.categories is not None:
            raise ModelError(
                "categories have no difference from a mean, so that there are no residuals; "
                "augment() gives the fitted probabilities"
            )
        mu, dropout = self._means, self.estimate.model.dropout
        gap = self._response - mu
        if dropout is not None:
            gap = np.where(dropout.weights > 0, gap, np.nan)
        if kind == "response":
            return np.asarray(gap)
        variance = self.estimate.model.moments.variance(mu)
        weights = self.estimate.model.precisions
        return np.asarray(gap / np.sqrt(variance if weights is None else variance / weights))

    def model_columns(self) -> dict[str, Any]:
        """Response and clusters, one value a row of the user's table."""
        columns = super().model_columns()
        for factor in self.estimate.model.clusters[:1]:
            levels = np.empty(factor.n_levels, dtype=object)
            levels[:] = list(factor.levels)
            columns[factor.name] = self.frame.expand(levels[factor.codes])
        return columns

    def glance(self) -> Any:
        """Return the fit in one row.

        ``n_obs, n_clusters, df_resid, family, link, correlation, scale, covariance, df``.
        """
        description = self.description
        values = {
            "n_obs": self.n_obs,
            "n_clusters": self.n_clusters,
            "df_resid": self.df_resid,
            "family": self.family.name,
            "link": self.family.link,
            "correlation": description.correlation_argument,
            "scale": self.scale,
            "covariance": self.covariance,
            "df": self.method(None),
        }
        return self._made({name: [value] for name, value in values.items()})
