"""What an estimate can be asked in numbers, whatever kind it is.

Arrays in, arrays or a small frozen dataclass out. A kind of estimate answers all of it in
one class (`LinearInference`, `GeneralisedInference`); fits and questions ask this one.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from ranef.families.links import Scale
from ranef.inference.coefficients.wald import f_test, standard_errors, wald

if TYPE_CHECKING:
    from ranef.derivatives.profiled import Slice
    from ranef.inference.coefficients.delta import EstimateFunction
    from ranef.inference.coefficients.deviance import Deviance
    from ranef.inference.coefficients.functions import Knowledge
    from ranef.inference.coefficients.parameter_list import ModelParameter
    from ranef.inference.coefficients.sandwich import Sandwich
    from ranef.inference.coefficients.variance import VarianceParameter
    from ranef.inference.coefficients.wald import FTest, Intervals
    from ranef.inference.draws.null_scores import NullScores
    from ranef.inference.draws.posterior_draw import PosteriorDraw
    from ranef.inference.draws.resampling import ResidualBootstrap
    from ranef.inference.effects.combinations import Combinations
    from ranef.inference.effects.effects import LevelEffects
    from ranef.inference.effects.joint_posterior import Posterior
    from ranef.inference.effects.linearised import Linearised
    from ranef.inference.effects.unpooled import LevelRows, Unpooled
    from ranef.inference.rows.averaging import Means
    from ranef.inference.rows.evaluated import Values
    from ranef.inference.rows.history import ObservedParts
    from ranef.inference.rows.prediction import Prediction
    from ranef.models.records import Estimate
    from ranef.models.rows import Rows

__all__ = ["Inference"]

Floats = NDArray[np.float64]
Ints = NDArray[np.intp]


@dataclass(frozen=True, eq=False)
class Inference(ABC):
    """An estimate, and what it says of its parameters, its levels, its rows and new data.

    Attributes
    ----------
    estimate : Estimate
    """

    estimate: Estimate

    usual_df: ClassVar[str]
    """Method of degrees of freedom where none is named."""

    def of(self, estimate: Estimate) -> Self:
        """Ask the same of another estimate of this kind, such as a refit."""
        return type(self)(estimate)

    # --- coefficients

    @abstractmethod
    def method(self, df: str | None) -> str:
        """Name the method of degrees of freedom; refuse one that this kind does not have."""

    @abstractmethod
    def covariance(self, df: str | None = None) -> Floats:
        """Covariance (P, P) of all coefficients on which the tests of a method rest."""

    @abstractmethod
    def degrees(self, L: Floats, df: str | None = None) -> Floats:
        """Degrees of freedom (q,) of the t test of each row of L (q, P)."""

    @abstractmethod
    def reference(self, basis: Floats, df: str | None = None) -> tuple[float, float]:
        """Scale and denominator of the F test of independent rows together."""

    def intervals(
        self, L: Floats | None = None, conf_level: float = 0.95, df: str | None = None
    ) -> Intervals:
        """Estimate, test and interval of l'coefficients for each row of L; of each without L."""
        b = self.estimate.coefficients
        L = np.eye(len(b)) if L is None else np.atleast_2d(np.asarray(L, dtype=np.float64))
        error = standard_errors(L, self.covariance(df))
        return wald(L @ b, error, self.degrees(L, df), conf_level)

    def f_test(self, L: Floats, rhs: Floats | None = None, df: str | None = None) -> FTest:
        """Test L coefficients = rhs, all rows at once; see `wald.f_test`."""
        return f_test(
            self.estimate.coefficients,
            self.covariance(df),
            L,
            rhs,
            lambda basis: self.reference(basis, df),
        )

    @abstractmethod
    def knowledge(self, df: str | None = None) -> Knowledge:
        """How well the coefficients are known, as `Functions` of them are tested."""

    @abstractmethod
    def variance_parameters(self, conf_level: float = 0.95) -> tuple[VarianceParameter, ...]:
        """Standard deviations and correlations with intervals, the residual's last."""

    @abstractmethod
    def delta_error(self, function: EstimateFunction) -> float:
        """Standard error of a function of the estimate, by the delta method in all parameters."""

    @abstractmethod
    def profile_slice(self, parameter: ModelParameter) -> Slice | None:
        """Criterion as a function of one parameter and the others; None if it is not free."""

    @abstractmethod
    def sandwich(self, codes: Ints, type: str | None = None) -> Sandwich:
        """Covariance of the coefficients from clusters, given by the code of each row."""

    @abstractmethod
    def deviance_function(self) -> Deviance:
        """Return minus twice the log-likelihood as a function of the parameters."""

    # --- levels

    @abstractmethod
    def level_effects(self) -> tuple[LevelEffects, ...]:
        """Conditional modes of every term, component by component."""

    @abstractmethod
    def coefficients_by_level(self, factor: int) -> tuple[LevelEffects, ...]:
        """Fixed plus random effect of what varies over a factor's levels, one a component."""

    @abstractmethod
    def posterior(self, what: Combinations, given: str = "variance") -> Posterior:
        """Joint posterior of combinations of effects and coefficients."""

    @abstractmethod
    def linearised(self) -> Linearised:
        """Return the linear mixed model that it is, or that it works with at its modes."""

    @abstractmethod
    def prediction_variance(self, what: Combinations) -> Floats:
        """Variances (N,) of the errors of combinations of effects and coefficients."""

    @abstractmethod
    def unpooled(self, rows: LevelRows) -> Unpooled:
        """Effects of the levels of a factor that each level's own rows make most likely."""

    # --- rows

    residual_kinds: ClassVar[tuple[str, ...]]
    types: ClassVar[tuple[str, ...]]

    @abstractmethod
    def fitted(self, kind: str = "conditional", type: str = "response") -> Floats:
        """Fitted means (n,), or (n, K) of categories, of the rows in the model."""

    @abstractmethod
    def residuals(self, kind: str, rng: np.random.Generator | None = None) -> Floats:
        """Residuals (n,) of the rows in the model, of one of `residual_kinds`."""

    @abstractmethod
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
        """Predict rows; with a level say how well, of a new observation if `new`."""

    @abstractmethod
    def parts_of(self, component: str, type: str, *, new: bool = False) -> tuple[str, ...]:
        """Parts on whose fixed effects an answer about rows rests; all that `new` draws use."""

    @abstractmethod
    def updated(self, observed: ObservedParts) -> Inference:
        """Return what predicts with the random effects that further observations give."""

    @abstractmethod
    def evaluate(
        self, rows: Rows, component: str, kind: str, type: str, df: str | None, back: Scale
    ) -> Values:
        """Evaluate rows as functions of the parameters.

        Parameters
        ----------
        rows : Rows
        component : str
            ``"conditional"``, ``"zero"``, ``"dispersion"`` or ``"response"``.
        kind : str
            ``"typical"``, ``"population"``, or ``"unit"``: with the random effects of the
            rows' own levels.
        type : str
            ``"link"``, ``"response"``, ``"prob"`` or ``"mean_class"``.
        df : str or None
        back : str
            Link that a linear model's response was put through and is carried back from.
        """

    @abstractmethod
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
        """Averages of predicted means in groups of rows, with their derivatives.

        `back` as in `evaluate`.
        """

    @abstractmethod
    def average_covariance(self, found: Means, df: str | None) -> tuple[Floats, Floats]:
        """Covariance (S, S) of averages, and their derivatives in the coefficients."""

    @abstractmethod
    def mean_scale(self, type: str, back: Scale = "identity") -> Scale:
        """Link on whose scale intervals of means are made."""

    @abstractmethod
    def prediction_parameters(self) -> tuple[Floats, Floats]:
        """Values and covariance of all parameters that a prediction without modes rests on."""

    @abstractmethod
    def moved(self, x: Floats) -> Estimate:
        """Return the estimate with other values of these; its modes are not to be read."""

    @abstractmethod
    def predictors(self, kind: str = "conditional") -> Floats:
        """Linear predictors (M, n) of the rows in the model, as its family takes them."""

    # --- draws

    refits_together: ClassVar[bool]
    """Whether refits to many responses are one call of the core."""

    @abstractmethod
    def resampled(self) -> ResidualBootstrap:
        """Return its residuals and effects, to be drawn from anew."""

    @abstractmethod
    def null_scores(
        self, small: Self, covariances: Sequence[Floats], rng: np.random.Generator
    ) -> NullScores:
        """Scores at a smaller model, `covariances` those of this model's terms in it."""

    @abstractmethod
    def posterior_draw(self, rng: np.random.Generator) -> PosteriorDraw:
        """Draw coefficients, random effects and predictors given the data and theta."""

    @abstractmethod
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
        """Draw n responses (N, n) for the rows in the model, or for others."""
