"""What a linear mixed model says, in numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Self

import numpy as np
from numpy.typing import NDArray

from ranef.derivatives import linear
from ranef.derivatives.profiled import Slice, coefficient_slice, covariance_slice, scale_slice
from ranef.derivatives.structured_profile import (
    HeldResidual,
    structured_coefficient_slice,
    structured_covariance_slice,
    structured_residual_slice,
)
from ranef.errors import ModelError
from ranef.families.links import Scale
from ranef.inference.coefficients import degrees
from ranef.inference.coefficients.clusters import ClusterCovariance, cluster_covariance
from ranef.inference.coefficients.delta import EstimateFunction, linear_delta
from ranef.inference.coefficients.deviance import Deviance, linear_deviance
from ranef.inference.coefficients.functions import Knowledge
from ranef.inference.coefficients.parameter_list import ModelParameter
from ranef.inference.coefficients.parameters import ParameterCovariance, parameter_covariance
from ranef.inference.coefficients.residual_parameters import residual_parameters
from ranef.inference.coefficients.variance import VarianceParameter, linear_variances
from ranef.inference.coefficients.wald import FTest, f_tail
from ranef.inference.draws.null_scores import NullScores, linear_null_scores
from ranef.inference.draws.parameter_draws import linear_draws
from ranef.inference.draws.posterior_draw import PosteriorDraw, linear_posterior_draw
from ranef.inference.draws.resampling import ResidualBootstrap
from ranef.inference.draws.simulation import simulate
from ranef.inference.effects.average_covariance import linear_average_covariance
from ranef.inference.effects.combinations import Combinations
from ranef.inference.effects.effects import LevelEffects, coefficients_by_level, linear_effects
from ranef.inference.effects.joint_posterior import Posterior, linear_posterior
from ranef.inference.effects.linearised import Linearised, itself
from ranef.inference.effects.one_level import linear_unit
from ranef.inference.effects.unpooled import LevelRows, Unpooled, least_squares
from ranef.inference.protocol import Inference
from ranef.inference.rows.averaging import Means, linear_means, transformed_row_means
from ranef.inference.rows.evaluated import Values
from ranef.inference.rows.fitted import fitted, linear_predictor, predictors, residuals
from ranef.inference.rows.history import (
    Observed,
    ObservedParts,
    Updated,
    predict_updated,
    predicted_updated,
    updated_linear,
)
from ranef.inference.rows.next_rows import predict_next
from ranef.inference.rows.parts import LinearPart
from ranef.inference.rows.prediction import Prediction, predict
from ranef.inference.rows.transformed import mean_scale, transformed_means
from ranef.models.records import CONDITIONAL, LinearEstimate
from ranef.models.rows import PartRows, Rows

__all__ = ["LinearInference"]

Floats = NDArray[np.float64]
Ints = NDArray[np.intp]


@dataclass(frozen=True, eq=False)
class LinearInference(Inference):
    """A linear mixed model's answers."""

    estimate: LinearEstimate

    usual_df = "satterthwaite"
    residual_kinds = ("response", "pearson", "conditional", "marginal")
    types = ("response", "link")

    @cached_property
    def parameters(self) -> ParameterCovariance:
        """How well theta and sigma are known; made when first asked for."""
        return parameter_covariance(self.estimate)

    def _known(self) -> ParameterCovariance:
        return self.parameters

    # --- coefficients

    def method(self, df: str | None) -> str:
        return self.usual_df if df is None else degrees.check_method(df)

    def covariance(self, df: str | None = None) -> Floats:
        method = degrees.METHODS[self.method(df)]
        given_theta = method.covariance is None
        return self.estimate.coefficient_vcov if given_theta else method.of(self.estimate)

    def degrees(self, L: Floats, df: str | None = None) -> Floats:
        return degrees.degrees_of_freedom(self.estimate, L, self.method(df), self._known)

    def reference(self, basis: Floats, df: str | None = None) -> tuple[float, float]:
        found = degrees.scaled_f(self.estimate, basis, self.method(df), self._known)
        return found.scale, found.df2

    def knowledge(self, df: str | None = None) -> Knowledge:
        beta = self.estimate.coefficients

        def joint(L: Floats, value: Floats) -> FTest:
            found = self.f_test(L, L @ beta - value, df)
            if self.method(df) != "satterthwaite":
                return found
            # of the rows as they stand: Fai and Cornelius's depend on how they are written
            return f_tail(found.statistic, found.df1, self.reference(L)[1])

        return Knowledge(self.covariance(df), lambda L: self.degrees(L, df), joint)

    def variance_parameters(self, conf_level: float = 0.95) -> tuple[VarianceParameter, ...]:
        return linear_variances(self.estimate, self.parameters, conf_level)

    def delta_error(self, function: EstimateFunction) -> float:
        return linear_delta(self.estimate, self.parameters, function)

    def profile_slice(self, parameter: ModelParameter) -> Slice | None:
        if parameter.fixed and self.estimate.reml:
            raise ModelError("the restricted likelihood does not depend on the fixed effects")
        if self.estimate.specification.residual is not None:
            return self._structured_slice(parameter)
        if parameter.fixed:
            return coefficient_slice(self.estimate, parameter.coefficient)
        if parameter.random is None or parameter.held is None:
            return scale_slice(self.estimate)
        return covariance_slice(self.estimate, parameter.random, parameter.held)

    def _structured_slice(self, parameter: ModelParameter) -> Slice | None:
        """The same where the residuals have a structure; None where nothing determines it."""
        if not np.isfinite(parameter.estimate):
            return None
        if parameter.fixed:
            return structured_coefficient_slice(self.estimate, parameter.coefficient)
        if parameter.random is not None and parameter.held is not None:
            return structured_covariance_slice(self.estimate, parameter.random, parameter.held)
        residual = self.estimate.specification.residual
        assert residual is not None
        assert parameter.residual is not None
        own = residual_parameters(residual)[parameter.residual]
        held = HeldResidual(own.kind, own.entry, own.variances, own.covariance)
        return structured_residual_slice(self.estimate, held)

    def sandwich(self, codes: Ints, type: str | None = None) -> ClusterCovariance:
        return cluster_covariance(self.estimate, codes, type or "CR2")

    def deviance_function(self) -> Deviance:
        return linear_deviance(self.estimate)

    # --- levels

    def level_effects(self) -> tuple[LevelEffects, ...]:
        return linear_effects(self.estimate)

    def coefficients_by_level(self, factor: int) -> tuple[LevelEffects, ...]:
        return coefficients_by_level(
            self.estimate, factor, lambda X, b: linear.prediction_variance(self.estimate, X, b)
        )

    def posterior(self, what: Combinations, given: str = "variance") -> Posterior:
        return linear_posterior(self.estimate, what, given)

    def linearised(self) -> Linearised:
        return itself(self.estimate)

    def prediction_variance(self, what: Combinations) -> Floats:
        return linear.prediction_variance(self.estimate, what.X, what.random)

    def unpooled(self, rows: LevelRows) -> Unpooled:
        return least_squares(self.estimate, rows)

    # --- rows

    def fitted(self, kind: str = "conditional", type: str = "response") -> Floats:
        return fitted(self.estimate, conditional=kind == "conditional")

    def residuals(self, kind: str, rng: np.random.Generator | None = None) -> Floats:
        return residuals(self.estimate, conditional=kind != "marginal", pearson=kind == "pearson")

    def predict(
        self,
        rows: Rows,
        kind: str,
        type: str = "response",
        *,
        conf_level: float | None = None,
        new: bool = False,
        df: str | None = None,
        rng: np.random.Generator | None = None,
    ) -> Prediction:
        own = rows.parts[CONDITIONAL]
        if conf_level is None:
            return Prediction(self._values(own, kind))
        return predict(
            self.estimate,
            own,
            kind,
            conf_level=conf_level,
            new=new,
            df=self.method(df),
            parameters=self._known,
        )

    def _values(self, rows: PartRows, kind: str) -> Floats:
        given = (rows.random or ()) if kind == "conditional" else ()
        return linear_predictor(self.estimate, rows.X, rows.offset, given)

    def parts_of(self, component: str, type: str, *, new: bool = False) -> tuple[str, ...]:
        return (CONDITIONAL,)

    def updated(self, observed: ObservedParts) -> Inference:
        if self.estimate.specification.residual is not None:
            return RememberingInference(self.estimate, observed.part())
        return UpdatedInference(self.estimate, updated_linear(self.estimate, observed.part()))

    def evaluate(
        self, rows: Rows, component: str, kind: str, type: str, df: str | None, back: Scale
    ) -> Values:
        own = rows.parts[CONDITIONAL]
        if kind == "unit":
            columns = np.arange(own.X.shape[1])
            random = tuple((t, codes, z) for t, (codes, z) in enumerate(own.random or ()))
            part = LinearPart(own.X, columns, own.offset, random)
            found = linear_unit(self.estimate, part, self.parameters)
            return Values(found.value, found.jacobian, found.knowledge, back, back, True)
        if kind == "population" and back != "identity":
            z = [z for _, z in own.random or ()]
            means = transformed_means(self.estimate, own.X, own.offset, z, back, self.parameters)
            known = Knowledge.normal(means.covariance)
            return Values(means.value, means.jacobian, known, "identity", mean_scale(back), False)
        value = linear_predictor(self.estimate, own.X, own.offset)
        return Values(value, own.X, self.knowledge(df), back, back, True)

    def means(
        self,
        rows: Rows,
        weights: Floats,
        groups: Ints,
        *,
        kind: str,
        type: str = "response",
        back: Scale = "identity",
    ) -> Means:
        own, conditional = rows.parts[CONDITIONAL], kind == "conditional"
        if kind == "population" and back != "identity":
            z = [z for _, z in own.random or ()]
            means = transformed_means(self.estimate, own.X, own.offset, z, back, self.parameters)
            return transformed_row_means(means, own, weights, groups)
        return linear_means(self.estimate, own, weights, groups, conditional=conditional, back=back)

    def average_covariance(self, found: Means, df: str | None) -> tuple[Floats, Floats]:
        known = None if found.effects is None else self.parameters
        return linear_average_covariance(self.estimate, found, self.covariance(df), known)

    def mean_scale(self, type: str, back: Scale = "identity") -> Scale:
        if type != "response":
            raise ModelError(f"a linear model has no {type!r} part; use type='response'")
        return mean_scale(back)

    def prediction_parameters(self) -> tuple[Floats, Floats]:
        return self.estimate.coefficients, self.estimate.coefficient_vcov

    def moved(self, x: Floats) -> LinearEstimate:
        return replace(self.estimate, coefficients=x)

    def predictors(self, kind: str = "conditional") -> Floats:
        return predictors(self.estimate, kind)

    # --- draws

    @property
    def refits_together(self) -> bool:  # type: ignore[override]
        """Whether many responses are one call of the core."""
        return self.estimate.specification.residual is None

    def resampled(self) -> ResidualBootstrap:
        return ResidualBootstrap.of(self.estimate)

    def null_scores(
        self, small: Self, covariances: Sequence[Floats], rng: np.random.Generator
    ) -> NullScores:
        return linear_null_scores(small.estimate, self.estimate, covariances, rng)

    def posterior_draw(self, rng: np.random.Generator) -> PosteriorDraw:
        return linear_posterior_draw(self.estimate, rng)

    def simulate(
        self,
        n: int,
        rng: np.random.Generator,
        *,
        kind: str = "new",
        rows: Rows | None = None,
        n_levels: Sequence[int] | None = None,
        draw_parameters: bool = False,
    ) -> Floats:
        return simulate(
            self.estimate,
            n,
            rng,
            kind=kind,
            rows=None if rows is None else rows.parts[CONDITIONAL],
            n_levels=n_levels,
            draws=linear_draws(self.estimate, self.parameters) if draw_parameters else None,
        )


@dataclass(frozen=True, eq=False)
class RememberingInference(LinearInference):
    """Predictions from all rows that a new one is correlated with, further ones among them."""

    history: Observed

    def predict(
        self,
        rows: Rows,
        kind: str,
        type: str = "response",
        *,
        conf_level: float | None = None,
        new: bool = False,
        df: str | None = None,
        rng: np.random.Generator | None = None,
    ) -> Prediction:
        own = rows.parts[CONDITIONAL]
        return predict_next(self.estimate, self.history, own, conf_level=conf_level, new=new)


@dataclass(frozen=True, eq=False)
class UpdatedInference(LinearInference):
    """Predictions with the random effects that further observations give."""

    history: Updated

    def predict(
        self,
        rows: Rows,
        kind: str,
        type: str = "response",
        *,
        conf_level: float | None = None,
        new: bool = False,
        df: str | None = None,
        rng: np.random.Generator | None = None,
    ) -> Prediction:
        own = rows.parts[CONDITIONAL]
        if conf_level is None:
            return Prediction(predicted_updated(self.estimate, self.history, own))
        return predict_updated(
            self.estimate,
            self.history,
            own,
            conf_level=conf_level,
            new=new,
            known=self.parameters,
        )
