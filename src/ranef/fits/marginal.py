"""What a fit of a population-averaged model knows."""

from __future__ import annotations

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
from ranef.families import Family
from ranef.fits.fit import Fit
from ranef.fits.protocol import Estimand
from ranef.inference.coefficients import estimating
from ranef.inference.coefficients.functions import Knowledge
from ranef.inference.coefficients.wald import FTest, wald
from ranef.inference.rows.evaluated import Values
from ranef.models.labels import CONDITIONAL, CoefficientLabel
from ranef.models.marginal import MarginalEstimate, criteria_of, doubts
from ranef.models.rows import Rows
from ranef.solve.marginal.covariance import COVARIANCES
from ranef.solve.marginal.working import Autoregressive, Stationary
from ranef.tables.origin import Origin

__all__ = ["MarginalFit"]

Floats = NDArray[np.float64]
EFFECTS = ("fixed", "correlation", "dropout")


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
        names = self.estimate.model.specification.names
        return tuple(CoefficientLabel(CONDITIONAL, None, name) for name in names)

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
        effects : {"fixed", "correlation", "dropout"}
            The coefficients, the parameters of the working correlation, or the coefficients of
            the model of dropout (log odds of being seen).
        conf_level : float
        df : {"normal", "clusters", "fay-graubard", "pan-wall"}, optional
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
            conf_high``; of the correlation ``group, time, time2, lag, parameter, estimate``.

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
        >>> fit.tidy("correlation")[["group", "estimate"]].round(4)
          group  estimate
        0    id    0.3546
        """
        if covariance is not None:
            other = self.with_covariance(covariance, df)
            return other.tidy(effects, conf_level=conf_level, exponentiate=exponentiate)
        if arguments.choice("effects", effects, EFFECTS) == "correlation":
            return self._made(self._correlation_columns())
        if effects == "dropout":
            return self._made(self._dropout_columns(arguments.conf_level(conf_level)))
        return super().tidy(effects, conf_level=conf_level, df=df, exponentiate=exponentiate)

    def _correlation_columns(self) -> dict[str, Any]:
        model, working = self.estimate.model, self.estimate.solution.working
        values = self.estimate.correlations
        count = len(values)
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

    def values(self, rows: Rows, what: Estimand) -> Values:
        part = rows.parts[CONDITIONAL]
        offset = part.offset if what.offset is None else what.offset
        eta = part.X @ self.coefficients + (0.0 if offset is None else offset)
        link = "identity" if what.type == "link" else self.family.link
        return Values(eta, part.X, self.knowledge(what.df), link, link, True)

    @property
    def _response(self) -> Floats:
        """The response; of successes of trials their share."""
        return self.estimate.model.proportions

    def _residuals(self, kind: str) -> Floats:
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
