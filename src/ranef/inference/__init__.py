"""Questions asked of an estimate: degrees of freedom, tests, intervals, predictions.

Every function takes an `Estimate` and arrays and returns arrays or a small
frozen dataclass; none sees a formula or a data frame. Those here answer for linear
models, and `intervals`, `f_test`, `variance_parameters` and `level_effects` for
generalised ones as well; what only a generalised model can be asked is in
`ranef.inference.generalised`. What is costly (the
second derivatives of the criterion) is computed by the caller once, as a
`ParameterCovariance`, and handed on. May import `ranef.models`, `ranef.solve`
and the floors below; SciPy inside functions only.
"""

from ranef.inference import generalised
from ranef.inference.containment import Strata, strata
from ranef.inference.degrees import (
    METHODS,
    Method,
    check_method,
    degrees_of_freedom,
    denominator,
    scaled_f,
)
from ranef.inference.effects import LevelEffects, coefficients_by_level, level_effects
from ranef.inference.kenward import KenwardRoger, ScaledF, kenward_roger
from ranef.inference.listing import ModelParameter, chosen, model_parameters
from ranef.inference.means import fitted, linear_predictor, residuals
from ranef.inference.parameters import ParameterCovariance, parameter_covariance
from ranef.inference.prediction import Prediction, predict
from ranef.inference.simulation import simulate
from ranef.inference.variance import (
    VarianceParameter,
    intraclass_correlations,
    variance_parameters,
)
from ranef.inference.wald import (
    FTest,
    Intervals,
    coefficient_covariance,
    f_test,
    intervals,
    method_of,
)
from ranef.models.rows import NewRows

__all__ = [
    "METHODS",
    "FTest",
    "Intervals",
    "KenwardRoger",
    "LevelEffects",
    "Method",
    "ModelParameter",
    "NewRows",
    "ParameterCovariance",
    "Prediction",
    "ScaledF",
    "Strata",
    "VarianceParameter",
    "check_method",
    "chosen",
    "coefficient_covariance",
    "coefficients_by_level",
    "degrees_of_freedom",
    "denominator",
    "f_test",
    "fitted",
    "generalised",
    "intervals",
    "intraclass_correlations",
    "kenward_roger",
    "level_effects",
    "linear_predictor",
    "method_of",
    "model_parameters",
    "parameter_covariance",
    "predict",
    "residuals",
    "scaled_f",
    "simulate",
    "strata",
    "variance_parameters",
]
