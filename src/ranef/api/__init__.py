"""The public functions and the fits they return.

A function here checks its arguments once, calls one function of a lower floor
and wraps the answer: labels, the user's data-frame library, words. Numbers
happen below. May import every floor but `cli`.
"""

from ranef.api.averages import PopulationAverage, marginal
from ranef.api.fit import Fit
from ranef.api.fitting import glmm, lmm, plan
from ranef.api.generalised import GeneralizedMixedModelFit
from ranef.api.likelihood import LikelihoodFit
from ranef.api.likelihood_ratios import ModelComparison
from ranef.api.linear import LinearMixedModelFit
from ranef.api.refits import Refits
from ranef.api.robust_covariance import RobustCovariance, robust
from ranef.api.saving import load
from ranef.api.term_tests import TermTests
from ranef.api.variance_analysis import anova
from ranef.api.variance_tests import VarianceTest, variance_test

__all__ = [
    "Fit",
    "GeneralizedMixedModelFit",
    "LikelihoodFit",
    "LinearMixedModelFit",
    "ModelComparison",
    "PopulationAverage",
    "Refits",
    "RobustCovariance",
    "TermTests",
    "VarianceTest",
    "anova",
    "glmm",
    "lmm",
    "load",
    "marginal",
    "plan",
    "robust",
    "variance_test",
]
