"""From a specification to its optimum: cross-products, search, certificate.

May import `design` (the specification), `covariance`, `errors` and the compiled
core. Policy lives here: which path, how many threads, what scale; the numbers
are made in `_core`.
"""

from ranef.solve.optimum import Face, Optimum
from ranef.solve.questions import (
    conditional_covariances,
    free,
    hessian,
    prediction_variance,
    r2_derivatives,
    vcov_derivatives,
)
from ranef.solve.search import Refits, Solution, fit, refit_many

__all__ = [
    "Face",
    "Optimum",
    "Refits",
    "Solution",
    "conditional_covariances",
    "fit",
    "free",
    "hessian",
    "prediction_variance",
    "r2_derivatives",
    "refit_many",
    "vcov_derivatives",
]
