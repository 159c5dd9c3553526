"""From a specification to its optimum: cross-products, search, certificate.

May import `design` (the specification), `covariance`, `errors` and the compiled
core. Policy lives here: which path, how many threads, what scale; the numbers
are made in `_core`.
"""

from ranef.models.refits import Refits, refit_many
from ranef.solve.joint import (
    generalised_conditional_covariances,
    generalised_criterion,
    generalised_prediction_variance,
    joint_covariance,
    joint_gradient,
    joint_hessian,
    mode_derivatives,
    modes_given,
    posterior_moments,
)
from ranef.solve.laplace import GeneralisedSolution, fit_generalised
from ranef.solve.layout import cheapest_path
from ranef.solve.optimum import Face, Optimum
from ranef.solve.point import LinearPoint, linear_point, stepped_point
from ranef.solve.quadrature import check_nodes, comfortable_nodes, integrable
from ranef.solve.questions import (
    conditional_covariances,
    effect_derivatives,
    free,
    modes_of,
    prediction_variance,
    prediction_variance_derivatives,
    psi_scores,
)
from ranef.solve.scores import cluster_scores
from ranef.solve.search import Solution, fit
from ranef.solve.second_order import Curvature, Information, curvature, information
from ranef.solve.whitening import (
    Whitened,
    error_covariance,
    error_covariance_derivatives,
    generalised_whitened,
    unseen_covariance,
    whitened,
)

__all__ = [
    "Curvature",
    "Face",
    "GeneralisedSolution",
    "Information",
    "LinearPoint",
    "Optimum",
    "Refits",
    "Solution",
    "Whitened",
    "cheapest_path",
    "check_nodes",
    "cluster_scores",
    "comfortable_nodes",
    "conditional_covariances",
    "curvature",
    "effect_derivatives",
    "error_covariance",
    "error_covariance_derivatives",
    "fit",
    "fit_generalised",
    "free",
    "generalised_conditional_covariances",
    "generalised_criterion",
    "generalised_prediction_variance",
    "generalised_whitened",
    "information",
    "integrable",
    "joint_covariance",
    "joint_gradient",
    "joint_hessian",
    "linear_point",
    "mode_derivatives",
    "modes_given",
    "modes_of",
    "posterior_moments",
    "prediction_variance",
    "prediction_variance_derivatives",
    "psi_scores",
    "refit_many",
    "stepped_point",
    "unseen_covariance",
    "whitened",
]
