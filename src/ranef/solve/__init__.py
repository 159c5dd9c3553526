"""From a specification to its optimum: cross-products, search, certificate.

May import `design` (the specification), `covariance`, `errors` and the compiled
core. Policy lives here: which path, how many threads, what scale; the numbers
are made in `_core`.
"""

from ranef.solve.joint import (
    generalised_conditional_covariances,
    generalised_prediction_variance,
    joint_covariance,
    joint_gradient,
    joint_hessian,
    mode_derivatives,
)
from ranef.solve.laplace import GeneralisedSolution, fit_generalised
from ranef.solve.optimum import Face, Optimum
from ranef.solve.questions import (
    conditional_covariances,
    free,
    hessian,
    prediction_variance,
    psi_scores,
    r2_derivatives,
    vcov_derivatives,
)
from ranef.solve.scores import cluster_scores
from ranef.solve.search import Refits, Solution, fit, refit_many

__all__ = [
    "Face",
    "GeneralisedSolution",
    "Optimum",
    "Refits",
    "Solution",
    "cluster_scores",
    "conditional_covariances",
    "fit",
    "fit_generalised",
    "free",
    "generalised_conditional_covariances",
    "generalised_prediction_variance",
    "hessian",
    "joint_covariance",
    "joint_gradient",
    "joint_hessian",
    "mode_derivatives",
    "prediction_variance",
    "psi_scores",
    "r2_derivatives",
    "refit_many",
    "vcov_derivatives",
]
