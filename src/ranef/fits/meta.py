"""What a fit of effects with known sampling variances knows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ranef import arguments
from ranef.covariance import structure_of
from ranef.description.meta import MetaDescription
from ranef.design.specification import Specification
from ranef.errors import ModelError
from ranef.families import Family
from ranef.fits.fit import Fit
from ranef.fits.protocol import Estimand
from ranef.inference.coefficients.clusters import ClusterRows, sandwich_of
from ranef.inference.coefficients.functions import Knowledge
from ranef.inference.coefficients.sandwich import Sandwich
from ranef.inference.coefficients.synthesis import (
    check_df,
    default_df,
    knowledge,
    tau2_interval,
)
from ranef.inference.coefficients.wald import Intervals, quantile
from ranef.inference.rows.evaluated import Values
from ranef.models.labels import CONDITIONAL, CoefficientLabel
from ranef.models.meta import METHODS, MetaEstimate, MetaOptimum, fit_meta
from ranef.models.rows import Rows
from ranef.solve.synthesis.dependent import profile_sd
from ranef.tables.origin import Origin

__all__ = ["MetaFit"]

Floats = NDArray[np.float64]

EFFECTS = ("fixed", "variance", "random")
STUDY = "study"


@dataclass(frozen=True, eq=False, repr=False)
class MetaFit(Fit):
    """A fitted meta-analysis, without the questions asked of it.

    Attributes
    ----------
    estimate : MetaEstimate
    frame : Origin
    df : str
        Method of the degrees of freedom of tests; ``"default"`` goes by the model.
    """

    estimate: MetaEstimate
    frame: Origin
    df: str = "default"

    kind_words = "a meta-analysis"

    # --- what it is

    @property
    def parts(self) -> Mapping[str, Specification]:
        return {CONDITIONAL: self.estimate.specification}

    @property
    def family(self) -> Family:
        return self.estimate.family

    @cached_property
    def labels(self) -> tuple[CoefficientLabel, ...]:
        names = self.estimate.specification.names
        return tuple(CoefficientLabel(CONDITIONAL, None, name) for name in names)

    @property
    def coefficients(self) -> Floats:
        return self.estimate.coefficients

    @property
    def description(self) -> MetaDescription:
        """What is said of the fit in words."""
        return MetaDescription(self)

    @property
    def synthesis(self) -> MetaEstimate:
        """The estimate, for questions that only effects with known variances are asked."""
        return self.estimate

    @property
    def studies(self) -> tuple[str, ...]:
        """Name of each effect in the model."""
        return self.estimate.model.studies

    @property
    def tau2(self) -> float:
        """Variance between true effects; of several levels their sum."""
        return self.estimate.tau2

    @property
    def optimum(self) -> MetaOptimum:
        """The end of the search; ``optimum.maxima`` counts local maxima."""
        return self.estimate.optimum

    @property
    def loglik(self) -> float:
        """The (restricted) log-likelihood; NaN of estimators that do not maximise one."""
        return self.estimate.loglik

    @property
    def n_groups(self) -> dict[str, int]:
        """Number of levels of each grouping factor of the formula."""
        return {factor.name: factor.n_levels for factor in self.estimate.specification.factors}

    def doubts(self) -> tuple[str, ...]:
        """Sentences on what makes the answers untrue; none of a sound fit."""
        if self.estimate.optimum.converged:
            return ()
        return ("the search for the variances ended without a proof of the optimum",)

    # --- tests

    def method(self, df: str | None) -> str:
        """Name the method of degrees of freedom; refuse one that the fit does not have."""
        wanted = self.df if df is None else df
        if wanted == "default":
            return default_df(self.estimate)
        return check_df(self.estimate, wanted)

    def knowledge(self, df: str | None = None) -> Knowledge:
        """How well the coefficients are known, and how functions of them are tested."""
        method = self.method(df)
        if method not in self._knowledge:
            self._knowledge[method] = knowledge(self.estimate, method)
        return self._knowledge[method]

    @cached_property
    def _knowledge(self) -> dict[str, Knowledge]:
        return {}

    def sandwich(self, codes: NDArray[np.intp], type: str | None = None) -> Sandwich:
        """Covariance of the coefficients from clusters of effects, see `ranef.robust`."""
        estimate, M = self.estimate, self.estimate.covariance_of_rows
        apart = codes[:, None] != codes[None, :]
        if np.any(apart & (M != 0)):
            raise ModelError(
                "effects in different clusters are correlated by the model, so clusters are not "
                "independent: choose clusters that hold whole levels, such as the outermost factor"
            )
        X, e = np.asarray(estimate.specification.X), estimate.residuals
        m = int(codes.max()) + 1
        rows = [np.flatnonzero(codes == c) for c in range(m)]
        batches = (
            ClusterRows(np.array([c]), X[own][None], M[np.ix_(own, own)][None], e[own][None])
            for c, own in enumerate(rows)
        )
        return sandwich_of(batches, self.coefficients, estimate.bread, m, len(e), type or "CR2")

    # --- tables

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
            The mean effects; standard deviations between true effects, with the interval of
            `confint`; or the true effect of each study, shrunken to the mean that its moderators
            give (of independent studies).
        conf_level : float
        df : {"knapp-hartung", "knapp-hartung-conservative", "t", "normal", "satterthwaite"}, \
optional
            Of tests and intervals; that of the fit if not given. The first two are for independent
            studies, the last for dependent effects, where it is the default.
        exponentiate : bool
            Carry estimates and bounds through exp: ratios from effects in logs.

        Returns
        -------
        table
            ``component, term, estimate, std_error, df, statistic, p_value, conf_low,
            conf_high``; of the variance ``component, group, term, term2, parameter, estimate,
            conf_low, conf_high``; of the studies ``study, effect, estimate, std_error, conf_low,
            conf_high, weight``, the weight in percent.

        Examples
        --------
        >>> import ranef
        >>> bcg = ranef.effect_sizes("RR", ranef.data.load("bcg"), ai="tpos", bi="tneg",
        ...                          ci="cpos", di="cneg")
        >>> fit = ranef.meta("yi ~ 1", bcg, variance="vi", study="author")
        >>> fit.tidy()[["term", "estimate", "std_error", "df", "p_value"]].round(4)
                  term  estimate  std_error    df  p_value
        0  (Intercept)   -0.7145     0.1808  12.0   0.0019
        >>> fit.tidy("variance")[["group", "parameter", "estimate", "conf_low"]].round(3)
           group parameter  estimate  conf_low
        0  study        sd      0.56     0.346
        """
        level = arguments.conf_level(conf_level)
        arguments.choice("effects", effects, EFFECTS)
        if effects == "variance":
            return self._made(self._variance_columns(level))
        if effects == "random":
            return self._made(self._study_columns(level))
        return super().tidy("fixed", conf_level=level, df=df, exponentiate=exponentiate)

    def _variance_columns(self, level: float, method: str | None = None) -> dict[str, Any]:
        """Standard deviations and correlations between true effects."""
        estimate, spec = self.estimate, self.estimate.specification
        rows: list[tuple[str, str | None, str | None, str, float]] = []
        if not spec.terms:
            sd = float(np.sqrt(estimate.covariances[0][0, 0]))
            rows.append((STUDY, "(Intercept)", None, "sd", sd))
        for term, psi in zip(spec.terms, estimate.covariances, strict=False):
            structure, group = structure_of(term), spec.factors[term.factor].name
            sds = np.sqrt(np.diag(psi))
            rows += [(group, n, None, "sd", float(s)) for n, s in zip(term.names, sds, strict=True)]
            if structure.size > 1 and np.any(psi - np.diag(np.diag(psi))):
                rows += [
                    (
                        group,
                        term.names[j],
                        term.names[i],
                        "corr",
                        float(psi[i, j] / sds[i] / sds[j]),
                    )
                    for j in range(len(sds))
                    for i in range(j + 1, len(sds))
                ]
        low, high = self._variance_intervals(level, method)
        groups, terms, others, kinds, values = zip(*rows, strict=True)
        return {
            "component": [CONDITIONAL] * len(rows),
            "group": list(groups),
            "term": list(terms),
            "term2": list(others),
            "parameter": list(kinds),
            "estimate": np.array(values),
            "conf_low": np.append(low, np.full(len(rows) - len(low), np.nan)),
            "conf_high": np.append(high, np.full(len(rows) - len(high), np.nan)),
        }

    def _variance_intervals(self, level: float, method: str | None) -> tuple[Floats, Floats]:
        """Intervals of standard deviations: by Q of independent studies, else by profiles."""
        estimate = self.estimate
        if estimate.model.method == "fe":
            return np.full(1, np.nan), np.full(1, np.nan)
        if not estimate.model.is_dependent:
            low, high = tau2_interval(estimate, method or "q-profile", level)
            return np.sqrt([low]), np.sqrt([high])
        if method == "q-profile":
            raise ModelError(
                "confint('q-profile') is of one variance between independent studies; this model "
                "has dependent effects: use confint('profile', parameters='variance')"
            )
        if method is None or any(len(psi) > 1 for psi in estimate.covariances):
            none = np.full(0, np.nan)
            if method is None:
                return none, none
            raise ModelError(
                "profiles are made of levels with one standard deviation each; a level of this "
                "model has several"
            )
        ends = [
            profile_sd(estimate.model.problem, estimate.phi, j, level)
            for j in range(len(estimate.covariances))
        ]
        return np.array([a for a, _ in ends]), np.array([b for _, b in ends])

    @property
    def interval_methods(self) -> tuple[str, ...]:
        """``"q-profile"`` and ``"profile"``, of standard deviations."""
        return ("q-profile", "profile")

    def interval_columns(
        self, method: str, parameters: str | Sequence[str], level: float
    ) -> dict[str, Any]:
        """Columns of the intervals of standard deviations between true effects."""
        if parameters != "variance":
            raise ModelError(
                f"confint({method!r}) is of the variance between studies: give "
                "parameters='variance'; the mean effects have confint('wald')"
            )
        if self.estimate.model.method == "fe":
            raise ModelError("method='fe' has no variance between studies")
        return self._variance_columns(level, method)

    @property
    def weights(self) -> Floats:
        """Weight (n,) of each effect in the mean, in percent of all: 1 / (v + tau^2)."""
        w = 1.0 / (self.estimate.model.variances + self.estimate.between)
        return np.asarray(100 * w / w.sum())

    def _study_columns(self, level: float) -> dict[str, Any]:
        """True effects given the observed ones (best linear predictions)."""
        estimate, model = self.estimate, self.estimate.model
        if model.is_dependent:
            raise ModelError("the true effects of studies are given for independent studies")
        tau2, v, X = estimate.tau2, model.variances, np.asarray(estimate.specification.X)
        own = tau2 / (tau2 + v)
        mean = X @ estimate.coefficients
        V = self.knowledge().covariance
        error = np.sqrt(own * v + (1 - own) ** 2 * np.sum(X @ V * X, axis=1))
        value = own * model.y + (1 - own) * mean
        reach = quantile(level, self.knowledge().degrees(X)) * error
        return {
            "study": list(self.studies),
            "effect": model.y,
            "estimate": value,
            "std_error": error,
            "conf_low": value - reach,
            "conf_high": value + reach,
            "weight": self.weights,
        }

    def glance(self) -> Any:
        """Return the fit in one row.

        ``n_obs, df_resid, method, tau2, tau, q, q_df, q_p, i2, h2, r2, maxima, loglik``; I^2 and
        R^2 in percent, R^2 NaN without moderators.
        """
        found = self.estimate.heterogeneity
        values = {
            "n_obs": self.n_obs,
            "df_resid": self.df_resid,
            "method": self.estimate.model.method,
            "tau2": self.tau2,
            "tau": float(np.sqrt(self.tau2)),
            "q": found.q,
            "q_df": found.df,
            "q_p": found.q_p,
            "i2": found.i2,
            "h2": found.h2,
            "r2": found.r2,
            "maxima": self.optimum.maxima,
            "loglik": self.loglik,
        }
        return self._made({name: [value] for name, value in values.items()})

    # --- rows

    def values(self, rows: Rows, what: Estimand) -> Values:
        part = rows.parts[CONDITIONAL]
        offset = part.offset if what.offset is None else what.offset
        eta = part.X @ self.coefficients + (0.0 if offset is None else offset)
        return Values(eta, part.X, self.knowledge(what.df), "identity", "identity", True)

    def predict(
        self,
        new: Any = None,
        *,
        kind: str = "typical",
        type: str = "response",
        conf_level: float | None = None,
        df: str | None = None,
        interval: str = "mean",
    ) -> Any:
        """Predict mean effects at rows of the table fitted, or of a new one.

        Parameters
        ----------
        new : table, optional
            Needs the columns of the moderators; without it the rows fitted are predicted.
        kind : {"typical", "population"}
            The same in a meta-analysis.
        type : {"response", "link"}
            The same.
        conf_level : float, optional
            Add standard errors and intervals at this level.
        df : str, optional
            Method of the degrees of freedom, as in `tidy`.
        interval : {"mean", "new"}
            Of the mean effect, or the prediction interval: of the true effect of a new study
            there, with the variances of all levels, and t with effects minus coefficients
            degrees of freedom (Higgins, Thompson & Spiegelhalter 2009; of ``df="normal"`` normal).

        Examples
        --------
        >>> import ranef
        >>> bcg = ranef.effect_sizes("RR", ranef.data.load("bcg"), ai="tpos", bi="tneg",
        ...                          ci="cpos", di="cneg")
        >>> fit = ranef.meta("yi ~ ablat", bcg, variance="vi")
        >>> fit.predict({"ablat": [13, 44]}, conf_level=0.95, interval="new").round(3)
           estimate  std_error  conf_low  conf_high
        0    -0.127      0.337    -0.869      0.615
        1    -1.029      0.319    -1.732     -0.326
        """
        which = arguments.choice("interval", interval, ("mean", "new"))
        if which == "mean" or conf_level is None:
            if which == "new":
                raise ModelError("interval='new' needs a conf_level, such as conf_level=0.95")
            return super().predict(new, kind=kind, type=type, conf_level=conf_level, df=df)
        arguments.choice("kind", kind, arguments.KINDS)
        level = arguments.conf_level(conf_level)
        rows, frame = self._rows(new)
        found = self._predicted(rows, type, df, level)
        made = self._of_new_study(found, level, df)
        names = ("estimate", "std_error", "conf_low", "conf_high")
        return frame.table({name: getattr(made, name) for name in names})

    def _of_new_study(self, found: Intervals, level: float, df: str | None) -> Intervals:
        """Prediction intervals of true effects."""
        if np.ptp(self.estimate.between) > 1e-12 * max(1.0, self.tau2):
            raise ModelError(
                "the variance between true effects differs between rows of this model, so that a "
                "new study has no one prediction interval"
            )
        error = np.sqrt(found.std_error**2 + self.tau2)
        normal = self.method(df) == "normal"
        degrees = np.full(len(error), np.inf if normal else float(self.df_resid))
        reach = quantile(level, degrees) * error
        return replace(
            found, std_error=error, conf_low=found.estimate - reach,
            conf_high=found.estimate + reach,
        )  # fmt: skip

    def _residuals(self, kind: str) -> Floats:
        gap = self.estimate.residuals
        if kind == "response":
            return gap
        return np.asarray(gap / np.sqrt(self.estimate.model.variances + self.estimate.between))

    def refit(self, y: Any) -> Any:
        """Fit the same model to other effects.

        Parameters
        ----------
        y : (N,) array
            One for each row of the table fitted, or of those in the model.
        """
        values = np.asarray(y, dtype=np.float64)
        rows = self.frame.accounting
        if values.shape == (rows.n_rows,) and rows.kept is not None:
            values = values[rows.kept]
        if values.shape != (self.n_obs,) or not np.isfinite(values).all():
            raise ModelError(f"refit needs one finite effect for each of the {self.n_obs} rows")
        model = replace(
            self.estimate.model, specification=self.estimate.specification.with_response(values)
        )
        return replace(self, estimate=fit_meta(model))

    def with_method(self, method: str) -> Any:
        """Return the fit of the same effects by another estimator of tau^2.

        Examples
        --------
        >>> import ranef
        >>> bcg = ranef.effect_sizes("RR", ranef.data.load("bcg"), ai="tpos", bi="tneg",
        ...                          ci="cpos", di="cneg")
        >>> fit = ranef.meta("yi ~ 1", bcg, variance="vi")
        >>> [round(fit.with_method(name).tau2, 4) for name in ("dl", "pm", "reml")]
        [0.3088, 0.3181, 0.3132]
        """
        name = arguments.choice("method", method, METHODS)
        return replace(self, estimate=fit_meta(replace(self.estimate.model, method=name)))
