"""The parameters of every mixed model: names, tests and tables around its inference."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from ranef import arguments
from ranef.description import tables
from ranef.description.doubts import doubt
from ranef.design.specification import Specification
from ranef.design.terms import GroupingFactor, RandomTerm
from ranef.errors import ModelError, suggestion
from ranef.families import Family
from ranef.fits.likelihood import LikelihoodFit
from ranef.fits.protocol import Levelled, require
from ranef.fits.relatives import effects_without_data
from ranef.inference.coefficients.functions import Knowledge
from ranef.inference.coefficients.parameter_list import ModelParameter, model_parameters
from ranef.inference.coefficients.sandwich import Sandwich
from ranef.inference.coefficients.variance import VarianceParameter
from ranef.inference.coefficients.wald import FTest, Intervals
from ranef.inference.effects.effects import LevelEffects
from ranef.inference.kinds import inference_of, inference_of_kind
from ranef.inference.protocol import Inference
from ranef.inference.undetermined import masked
from ranef.models.equally_good import equally_good
from ranef.models.labels import CoefficientLabel, coefficient_labels
from ranef.models.records import Estimate
from ranef.tables.origin import Origin, vector

__all__ = ["MixedParameters"]

Floats = NDArray[np.float64]

EFFECTS = ("fixed", "variance", "random")


@dataclass(frozen=True, eq=False, repr=False)
class MixedParameters(LikelihoodFit):
    """What a fitted mixed model says of its parameters.

    Attributes
    ----------
    estimate : Estimate
        What the solver found, as arrays.
    frame : Origin
        Where the rows came from.
    """

    estimate: Estimate
    frame: Origin

    @cached_property
    def inference(self) -> Inference:
        """What the estimate says, in numbers."""
        return inference_of(self.estimate)

    @cached_property
    def parts(self) -> Mapping[str, Specification]:
        """Specification of each formula by name, ``"conditional"`` that of the mean."""
        return self.estimate.parts

    @cached_property
    def family(self) -> Family:
        """The family of the response, see `ranef.families`."""
        return self.estimate.family

    @cached_property
    def factors(self) -> tuple[GroupingFactor, ...]:
        """The grouping factors."""
        return self.estimate.factors

    @cached_property
    def terms(self) -> tuple[RandomTerm, ...]:
        """The random terms of all parts."""
        return self.estimate.terms

    @cached_property
    def labels(self) -> tuple[CoefficientLabel, ...]:
        """Component, category and name of each coefficient."""
        return coefficient_labels(self.estimate)

    @cached_property
    def coefficients(self) -> Floats:
        """All coefficients, (P,)."""
        return self.estimate.coefficients

    @property
    def parameters(self) -> tuple[ModelParameter, ...]:
        """All parameters by name: coefficients, those of the random terms, sigma."""
        return model_parameters(self.estimate)

    @property
    def n_groups(self) -> dict[str, int]:
        """Number of levels of each grouping factor."""
        return {f.name: len(f.shown) for f in self.factors}

    def doubts(self) -> tuple[str, ...]:
        """Sentences on what makes the answers untrue; none of a sound fit."""
        found = doubt(self.estimate)
        return () if found is None else (found,)

    # --- what the data determine

    @cached_property
    def equally_good(self) -> Self | None:
        """A fit of the same likelihood, where the data do not determine every parameter."""
        other = equally_good(self.estimate)
        return None if other is None else type(self)(other, self.frame)

    @property
    def coef(self) -> Any:
        """Fixed effects, labelled; NaN where the data do not determine them."""
        other = equally_good(self.estimate)
        values = self.coefficients
        values = values if other is None else masked(values, other.coefficients)
        return vector(values[self.of_mean], self.names, "estimate", self.frame.library)

    def hypotheses(
        self, L: Floats | None = None, conf_level: float = 0.95, df: str | None = None
    ) -> Intervals:
        """Estimate, test and interval of each row of L (q, P); of each coefficient without L."""
        found, other = super().hypotheses(L, conf_level, df), equally_good(self.estimate)
        if other is None:
            return found
        there = other.coefficients if L is None else np.atleast_2d(L) @ other.coefficients
        return found.without(np.isnan(masked(found.estimate, there)))

    @property
    def covariances_known(self) -> Floats:
        """Covariance matrix (P, P) of the coefficients; NaN where it is not determined."""
        other, own = equally_good(self.estimate), self.knowledge().covariance
        if other is None:
            return own
        plain = inference_of_kind(other).knowledge().covariance
        return np.asarray(masked(own, plain))

    # --- coefficients

    def method(self, df: str | None) -> str:
        """Name the method of degrees of freedom; refuse one that the fit does not have."""
        return self.inference.method(df)

    def knowledge(self, df: str | None = None) -> Knowledge:
        """How well the coefficients are known, and how functions of them are tested."""
        return self.inference.knowledge(df)

    def joint_test(self, L: Floats, rhs: Floats | None = None, df: str | None = None) -> FTest:
        """Test all rows of L (q, P) at once."""
        return self.inference.f_test(L, rhs, df)

    def variance_parameters(self, conf_level: float = 0.95) -> Sequence[VarianceParameter]:
        """Standard deviations and correlations with intervals."""
        return self.inference.variance_parameters(conf_level)

    def sandwich(self, codes: NDArray[np.intp], type: str | None = None) -> Sandwich:
        """Covariance of the coefficients from clusters, see `ranef.robust`."""
        return self.inference.sandwich(codes, type)

    def parameter_values(
        self, level: float, df: str | None, wanted: Sequence[int]
    ) -> tuple[Floats, Floats, Floats]:
        """Estimates and Wald's intervals of some parameters."""
        found = self.hypotheses(None, level, df)
        values = np.column_stack([found.estimate, found.conf_low, found.conf_high])
        if max(wanted, default=0) >= len(values):
            own = self.variance_parameters(level)
            values = np.vstack([values, [(v.estimate, v.conf_low, v.conf_high) for v in own]])
        estimate, low, high = values[list(wanted)].T
        return estimate, low, high

    # --- tables

    @cached_property
    def level_effects(self) -> tuple[LevelEffects, ...]:
        """Conditional modes of every term with their standard deviations."""
        return self.inference.level_effects()

    def tidy(
        self,
        effects: str = "fixed",
        *,
        conf_level: float = 0.95,
        df: str | None = None,
        exponentiate: bool = False,
        kernels: Mapping[str, Any] | None = None,
    ) -> Any:
        """Return estimates as a table in the library the data came in.

        Parameters
        ----------
        effects : {"fixed", "variance", "random"}
            - ``"fixed"``: ``component, term, estimate, std_error, df, statistic,
              p_value, conf_low, conf_high``. `component` is ``"conditional"`` (the mean),
              in generalised models also ``"zero"``, ``"dispersion"``, ``"threshold"`` or the
              name of a shape, each on the scale of its link; a multinomial model adds
              `response`, the category that is compared with the first.
            - ``"variance"``: ``component, group, term, term2, parameter, estimate,
              conf_low, conf_high``; `parameter` is ``"sd"`` or ``"corr"`` and the last row
              of a linear model is the residual's (in a generalised one standard deviations
              are on the scale of the link, and there is none). Intervals are Wald's on the
              scale of log sd and of Fisher's z, from the exact Hessian; NaN where the
              estimate lies on a boundary, since there they do not apply.
            - ``"random"``: ``component, group, level, term, estimate, cond_sd,
              std_error, conf_low, conf_high``; `cond_sd` is the standard
              deviation of the effect given the parameters, `std_error` that of
              the prediction error, from which the (normal) interval is made.
        conf_level : float
        df : str
            Degrees of freedom of the t tests of a linear model's fixed effects:
            ``"satterthwaite"``, ``"kenward-roger"``, ``"kenward-roger-observed"``,
            ``"containment"``, ``"residual"`` or ``"normal"``. Kenward and Roger's method has
            standard errors of its own as well; by the observed information it is that of SAS
            and mmrm. The tests of generalised models are normal.
        exponentiate : bool
            Carry the estimates and bounds of the fixed effects through exp: as for a
            response in logs, and where that makes ratios (links log, logit, cloglog);
            thresholds and standard errors stay on the scale fitted.
        kernels : dict, optional
            Of ``"random"``: the kernels of the model once more, as they were given to the fit.
            Levels that they have and the data have not are listed after the others, predicted
            through the kernel.

        Notes
        -----
        A parameter that is held (`fixed` of `glmm`) is known: its standard error is
        0, its interval the value itself, its statistic and p-value NaN. A standard
        deviation that is held has no interval (NaN).

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
        >>> fit = ranef.glmm("cbind(incidence, size - incidence) ~ period + (1 | herd)",
        ...                  ranef.data.load("cbpp"), family="binomial")
        >>> fit.tidy(exponentiate=True)[["term", "estimate", "conf_low", "conf_high"]].round(2)
                  term  estimate  conf_low  conf_high
        0  (Intercept)      0.25      0.16       0.39
        1      period2      0.37      0.20       0.68
        2      period3      0.32      0.17       0.61
        3      period4      0.21      0.09       0.48
        """
        effects = arguments.choice("effects", effects, EFFECTS)
        level = arguments.conf_level(conf_level)
        self.method(df)
        if arguments.flag("exponentiate", exponentiate) and effects != "fixed":
            raise ModelError("exponentiate=True applies to effects='fixed' only")
        if kernels is not None and effects != "random":
            raise ModelError("kernels= applies to effects='random' only")
        if effects == "variance":
            columns = tables.variance_columns(self.estimate, self.variance_parameters(level))
        elif effects == "random":
            require(self, "tidy('random')", Levelled)
            found = [*self.level_effects]
            found += [] if kernels is None else effects_without_data(self, kernels)
            columns = tables.random_columns(self.estimate, found, level)
        else:
            columns = self.fixed_columns(level, df, exponentiate)
        return self._made(columns)

    def coef_by_level(self, group: str | None = None, *, conf_level: float = 0.95) -> Any:
        """Return fixed plus random effect of every level of a grouping factor.

        Parameters
        ----------
        group : str, optional
            Name of the grouping factor; may be left out when there is one.
        conf_level : float

        Returns
        -------
        table
            ``group, level, term, estimate, std_error, conf_low, conf_high``, led by
            ``component`` in generalised models. The standard error counts the
            covariance of fixed and random effect.

        Examples
        --------
        >>> import ranef
        >>> fit = ranef.lmm("Reaction ~ Days + (Days | Subject)", ranef.data.load("sleepstudy"))
        >>> fit.coef_by_level("Subject").loc[:1, ["level", "term", "estimate"]].round(2)
          level         term  estimate
        0   308  (Intercept)    253.66
        1   309  (Intercept)    211.01
        """
        level = arguments.conf_level(conf_level)
        found = self.inference.coefficients_by_level(self.factor_number(group))
        return self._made(self._by_level(found, level))

    def _by_level(self, found: Sequence[LevelEffects], level: float) -> dict[str, Any]:
        return tables.coefficient_columns(self.estimate, found, level)

    def factor_number(self, group: str | None) -> int:
        """Index of a grouping factor."""
        names = [f.name for f in self.factors]
        if not names:
            raise ModelError("the model has no random effects")
        if group is None:
            if len(names) > 1:
                raise ModelError(f"say which group: one of {', '.join(map(repr, names))}")
            return 0
        if group not in names:
            known = ", ".join(map(repr, names))
            raise ModelError(
                f"the model has no grouping factor {group!r}{suggestion(str(group), names)}; "
                f"it has {known}"
            )
        return names.index(group)

    @property
    @abstractmethod
    def kind_columns(self) -> dict[str, Any]:
        """What `glance` says of this kind of model."""

    def glance(self) -> Any:
        """Return the fit in one row.

        Returns
        -------
        table
            ``n_obs``; of a linear model ``df_model, df_resid, sigma``, of a generalised one
            ``family, link, quadrature, df_model, df_resid``; ``loglik, deviance, aic, bic,
            criterion, converged, singular``.

        Examples
        --------
        >>> import ranef
        >>> fit = ranef.lmm("Yield ~ 1 + (1 | Batch)", ranef.data.load("Dyestuff"))
        >>> fit.glance()[["n_obs", "df_model", "criterion", "singular"]]
           n_obs  df_model criterion  singular
        0     30         3      REML     False
        """
        columns = {
            "n_obs": self.n_obs,
            **self.kind_columns,
            "loglik": self.loglik,
            "deviance": self.deviance,
            "aic": self.aic,
            "bic": self.bic,
            "criterion": self.criterion,
            "converged": self.optimum.converged,
            "singular": self.optimum.singular,
        }
        return self._made({name: [value] for name, value in columns.items()})

    @property
    def criterion(self) -> str:
        """What was maximised."""
        word = "REML" if self.estimate.reml else "ML"
        return f"penalised {word}" if self.estimate.priors else word
