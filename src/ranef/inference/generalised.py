"""What a generalised linear mixed model says, in numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
from numpy.typing import NDArray

from ranef.covariance import structure_of
from ranef.derivatives import generalised
from ranef.derivatives.profiled import Slice, generalised_slice
from ranef.errors import ModelError
from ranef.families.links import Scale
from ranef.inference.coefficients.covariance import joint_covariance
from ranef.inference.coefficients.degrees import check_method
from ranef.inference.coefficients.delta import EstimateFunction, delta_error
from ranef.inference.coefficients.deviance import Deviance, generalised_deviance
from ranef.inference.coefficients.functions import Knowledge
from ranef.inference.coefficients.parameter_list import ModelParameter
from ranef.inference.coefficients.sandwich import ScoreSandwich, score_sandwich
from ranef.inference.coefficients.variance import VarianceParameter, generalised_variances
from ranef.inference.draws.generalised import simulate
from ranef.inference.draws.null_scores import NullScores, generalised_null_scores
from ranef.inference.draws.parameter_draws import generalised_draws
from ranef.inference.draws.posterior_draw import PosteriorDraw, generalised_posterior_draw
from ranef.inference.draws.quantile_residuals import quantile_residuals
from ranef.inference.draws.resampling import ResidualBootstrap
from ranef.inference.effects.average_covariance import generalised_average_covariance
from ranef.inference.effects.combinations import Combinations
from ranef.inference.effects.effects import (
    LevelEffects,
    coefficients_by_level,
    generalised_effects,
)
from ranef.inference.effects.joint_posterior import Posterior, generalised_posterior
from ranef.inference.effects.linearised import Linearised, linearised
from ranef.inference.effects.one_level import generalised_unit
from ranef.inference.effects.unpooled import LevelRows, Unpooled, most_likely
from ranef.inference.protocol import Inference
from ranef.inference.rows import generalised_fitted
from ranef.inference.rows.averaging import Means, generalised_means
from ranef.inference.rows.evaluated import Values
from ranef.inference.rows.generalised_prediction import predict
from ranef.inference.rows.history import ObservedParts, updated_generalised
from ranef.inference.rows.prediction import Prediction
from ranef.inference.rows.row_functions import (
    component_link,
    conditional_parts,
    parts_of,
    row_functions,
)
from ranef.inference.rows.targets import TYPES, target
from ranef.models.records import GeneralisedEstimate, theta_slices
from ranef.models.rows import Rows

__all__ = ["GeneralisedInference"]

Floats = NDArray[np.float64]
Ints = NDArray[np.intp]


@dataclass(frozen=True, eq=False)
class GeneralisedInference(Inference):
    """A generalised linear mixed model's answers: normal in large samples."""

    estimate: GeneralisedEstimate

    usual_df = "normal"
    residual_kinds = (*generalised_fitted.RESIDUALS, "quantile")
    types = TYPES

    # --- coefficients

    def method(self, df: str | None) -> str:
        if df in (None, "normal"):
            return "normal"
        assert df is not None
        check_method(df)
        why = (
            "is for linear models whose parameters are all free, without priors, held or equal "
            "ones or a dispersion formula: the tests of this one rest"
            if self.estimate.family.name == "gaussian"
            else "is for linear models: the tests of a generalised model rest"
        )
        raise ModelError(
            f"df={df!r} {why} on the normal distribution of its estimates in large samples; use "
            "df='normal'"
        )

    def covariance(self, df: str | None = None) -> Floats:
        self.method(df)
        P = len(self.estimate.coefficients)
        return joint_covariance(self.estimate)[:P, :P]

    def degrees(self, L: Floats, df: str | None = None) -> Floats:
        return np.full(len(np.atleast_2d(L)), np.inf)

    def reference(self, basis: Floats, df: str | None = None) -> tuple[float, float]:
        return 1.0, np.inf

    def knowledge(self, df: str | None = None) -> Knowledge:
        return Knowledge.normal(self.covariance(df))

    def variance_parameters(self, conf_level: float = 0.95) -> tuple[VarianceParameter, ...]:
        P = len(self.estimate.coefficients)
        covariance = joint_covariance(self.estimate)[P:, P:]
        return generalised_variances(self.estimate, covariance, conf_level)

    def delta_error(self, function: EstimateFunction) -> float:
        x, covariance = self.prediction_parameters()
        return delta_error(lambda at: function(self.moved(at)), x, covariance)

    def profile_slice(self, parameter: ModelParameter) -> Slice | None:
        if parameter.fixed:
            return generalised_slice(self.estimate, coefficient=parameter.coefficient)
        assert parameter.random is not None
        return generalised_slice(self.estimate, t=parameter.random, held=parameter.held)

    def sandwich(self, codes: Ints, type: str | None = None) -> ScoreSandwich:
        return score_sandwich(self.estimate, codes, type or "CR1")

    def deviance_function(self) -> Deviance:
        return generalised_deviance(self.estimate)

    # --- levels

    def level_effects(self) -> tuple[LevelEffects, ...]:
        return generalised_effects(self.estimate)

    def coefficients_by_level(self, factor: int) -> tuple[LevelEffects, ...]:
        return coefficients_by_level(
            self.estimate,
            factor,
            lambda X, b: generalised.generalised_prediction_variance(self.estimate, X, b),
        )

    def posterior(self, what: Combinations, given: str = "variance") -> Posterior:
        return generalised_posterior(self.estimate, what, given)

    def linearised(self) -> Linearised:
        return linearised(self.estimate)

    def prediction_variance(self, what: Combinations) -> Floats:
        return generalised.generalised_prediction_variance(self.estimate, what.X, what.random)

    def unpooled(self, rows: LevelRows) -> Unpooled:
        return most_likely(self.estimate, rows)

    # --- rows

    def fitted(self, kind: str = "conditional", type: str = "response") -> Floats:
        return generalised_fitted.fitted(self.estimate, kind=kind, type=type)

    def residuals(self, kind: str, rng: np.random.Generator | None = None) -> Floats:
        if kind == "quantile":
            return quantile_residuals(self.estimate, rng or np.random.default_rng(0))
        return generalised_fitted.residuals(self.estimate, kind)

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
        interval = "new" if new else "mean"
        return predict(
            self.estimate, rows, kind=kind, type=type, conf_level=conf_level, interval=interval,
            rng=rng,
        )  # fmt: skip

    def parts_of(self, component: str, type: str, *, new: bool = False) -> tuple[str, ...]:
        return tuple(self.estimate.parts) if new else parts_of(self.estimate, component, type)

    def updated(self, observed: ObservedParts) -> Inference:
        return self.of(updated_generalised(self.estimate, observed))

    def evaluate(
        self, rows: Rows, component: str, kind: str, type: str, df: str | None, back: Scale
    ) -> Values:
        estimate = self.estimate
        if kind == "unit":
            part = conditional_parts(estimate, rows, component)
            link: Scale = "identity" if type == "link" else component_link(estimate, component)
            link = link if back == "identity" else back
            unit = generalised_unit(estimate, part)
            return Values(unit.value, unit.jacobian, unit.knowledge, link, link, True)
        as_link = type == "link" or (
            kind == "typical" and type == "response" and component != "response"
        )
        try:
            found = row_functions(estimate, rows, component, kind, "link" if as_link else type)
        except ModelError as error:
            if kind != "population":
                raise
            raise ModelError(f"{error}; kind='typical' sets the random effects to zero") from None
        K = found.value.shape[1]
        if back != "identity":
            known = Knowledge.normal(joint_covariance(estimate))
            return Values(found.value[:, 0], found.jacobian[:, 0], known, back, back, True)
        return Values(
            found.value.T.ravel(),
            np.concatenate([found.jacobian[:, k] for k in range(K)]),
            Knowledge.normal(joint_covariance(estimate)),
            found.link if as_link and type != "link" else "identity",
            "identity" if type == "link" else found.link,
            as_link,
        )

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
        if back != "identity":
            raise ModelError(
                "averages of a response that the formula transforms are carried back in fits of "
                "lmm alone; leave type out for averages of it as it was fitted"
            )
        return generalised_means(self.estimate, rows, weights, groups, kind=kind, type=type)

    def average_covariance(self, found: Means, df: str | None) -> tuple[Floats, Floats]:
        self.method(df)
        return generalised_average_covariance(self.estimate, found)

    def mean_scale(self, type: str, back: Scale = "identity") -> Scale:
        return target(self.estimate, type).scale

    def prediction_parameters(self) -> tuple[Floats, Floats]:
        own = self.estimate
        return np.concatenate([own.coefficients, own.theta]), joint_covariance(own)

    def moved(self, x: Floats) -> GeneralisedEstimate:
        own, P = self.estimate, len(self.estimate.coefficients)
        theta = x[P:]
        covariances = tuple(
            structure_of(term).psi(theta[place])
            for term, place in zip(own.terms, theta_slices(own), strict=True)
        )
        return replace(own, coefficients=x[:P], theta=theta, covariances=covariances)

    def predictors(self, kind: str = "conditional") -> Floats:
        return generalised_fitted.predictors(self.estimate, kind)

    # --- draws

    refits_together = False

    def resampled(self) -> ResidualBootstrap:
        raise ModelError(
            "residuals can be drawn anew in a linear model only: in a generalised one they "
            "are not exchangeable, since their variance goes with the mean. Use "
            "method='parametric' or method='cluster'"
        )

    def null_scores(
        self, small: Self, covariances: Sequence[Floats], rng: np.random.Generator
    ) -> NullScores:
        return generalised_null_scores(small.estimate, self.estimate, rng)

    def posterior_draw(self, rng: np.random.Generator) -> PosteriorDraw:
        return generalised_posterior_draw(self.estimate, rng)

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
            rows=rows,
            n_levels=n_levels,
            draws=generalised_draws(self.estimate) if draw_parameters else None,
        )
