"""Levels beside each other: joint posteriors, ranks, reliability, standardised ratios.

Every function takes an `Estimate` and arrays and returns a small frozen dataclass; none
sees a formula or a data frame. May import `ranef.inference` (which does not import this
room), `ranef.models`, `ranef.solve` and the floors below; SciPy inside functions only.
"""

from ranef.inference.combinations import Combinations, fixed_effects
from ranef.inference.joint_posterior import GIVEN, Posterior, posterior
from ranef.shrinkage.combinations import (
    coefficients,
    components_of,
    names_of,
    own_terms,
    predictions,
)
from ranef.shrinkage.ensemble import constrained, mixture_quantiles, triple_goal
from ranef.shrinkage.funnel import OVERDISPERSION, ROBUST, Counts, Funnel, funnel
from ranef.shrinkage.limits import binomial_limits, moment_limits, normal_limits, poisson_limits
from ranef.shrinkage.poisson_gamma import PoissonGamma, poisson_gamma
from ranef.shrinkage.ranks import Ranks, pairwise, pairwise_of_draws, ranks, ranks_of_draws
from ranef.shrinkage.ratios import REFERENCES, Ratios, ratios
from ranef.shrinkage.raw import RawEffects, raw_effects
from ranef.shrinkage.reliability import Reliability, prior_covariance, reliability

__all__ = [
    "GIVEN",
    "OVERDISPERSION",
    "REFERENCES",
    "ROBUST",
    "Combinations",
    "Counts",
    "Funnel",
    "PoissonGamma",
    "Posterior",
    "Ranks",
    "Ratios",
    "RawEffects",
    "Reliability",
    "binomial_limits",
    "coefficients",
    "components_of",
    "constrained",
    "fixed_effects",
    "funnel",
    "mixture_quantiles",
    "moment_limits",
    "names_of",
    "normal_limits",
    "own_terms",
    "pairwise",
    "pairwise_of_draws",
    "poisson_gamma",
    "poisson_limits",
    "posterior",
    "predictions",
    "prior_covariance",
    "ranks",
    "ranks_of_draws",
    "ratios",
    "raw_effects",
    "reliability",
    "triple_goal",
]
