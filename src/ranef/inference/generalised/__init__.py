"""Questions asked of a generalised estimate: predictions, residuals, draws, averages.

The answers that linear and generalised models have in common (`intervals`,
`variance_parameters`, `level_effects`, `f_test`) are one floor up and take either
estimate. Every function takes a `GeneralisedEstimate` and arrays (`Rows`) and gives
arrays or a small frozen dataclass. May import what `ranef.inference` may.
"""

from ranef.inference.generalised.drawing import simulate
from ranef.inference.generalised.effects import (
    PosteriorMeans,
    coefficients_by_level,
    posterior_means,
)
from ranef.inference.generalised.marginal import Marginal, marginal, marginal_intervals
from ranef.inference.generalised.moments import RESIDUALS, fitted, residuals
from ranef.inference.generalised.prediction import (
    KINDS,
    GeneralisedPrediction,
    contrasts,
    predict,
)
from ranef.inference.generalised.quantile import quantile_residuals
from ranef.inference.generalised.rows import Rows, own_rows
from ranef.inference.generalised.sampling import metropolis
from ranef.inference.generalised.targets import TYPES

__all__ = [
    "KINDS",
    "RESIDUALS",
    "TYPES",
    "GeneralisedPrediction",
    "Marginal",
    "PosteriorMeans",
    "Rows",
    "coefficients_by_level",
    "contrasts",
    "fitted",
    "marginal",
    "marginal_intervals",
    "metropolis",
    "own_rows",
    "posterior_means",
    "predict",
    "quantile_residuals",
    "residuals",
    "simulate",
]
