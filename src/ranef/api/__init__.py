"""The public functions and the fits they return.

A function here checks its arguments once, calls one function of a lower floor
and wraps the answer: labels, the user's data-frame library, words. Numbers
happen below. May import every floor but `cli`.

Modules are imported when one of their names is first used, so that a fit does not wait
for the answers to questions that nobody asks.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ranef.api.average_answer import AverageEffect
    from ranef.api.average_effect import average
    from ranef.api.averages import PopulationAverage, marginal
    from ranef.api.bootstrapping import Bootstrap, bootstrap
    from ranef.api.checking import Check, check
    from ranef.api.comparisons import Contrasts, contrasts
    from ranef.api.fit import Fit
    from ranef.api.fitting import glmm, lmm, plan
    from ranef.api.generalised import GeneralizedMixedModelFit
    from ranef.api.left_out import Influence, Leverage, influence, leverage
    from ranef.api.likelihood import LikelihoodFit
    from ranef.api.likelihood_ratios import ModelComparison
    from ranef.api.linear import LinearMixedModelFit
    from ranef.api.means import JointTests, MarginalMeans, emmeans, joint_tests
    from ranef.api.paper import ModelTable, table
    from ranef.api.partition import ICC, R2, icc, r2
    from ranef.api.posteriors import LevelPosterior, posterior
    from ranef.api.predictors import Collinearity, Heterogeneity, collinearity, heterogeneity
    from ranef.api.profiles import Profile, profile
    from ranef.api.profiling import ControlLimits, StandardizedRatios, standardized_ratios
    from ranef.api.ranking import Ranking, rank
    from ranef.api.refits import Refits
    from ranef.api.robust_covariance import RobustCovariance, robust
    from ranef.api.saving import load
    from ranef.api.simulated import SimulatedResiduals, simulated_residuals
    from ranef.api.term_tests import TermTests
    from ranef.api.trends import emtrends
    from ranef.api.variance_analysis import anova
    from ranef.api.variance_tests import VarianceTest, variance_test

__all__ = [
    "ICC",
    "R2",
    "AverageEffect",
    "Bootstrap",
    "Check",
    "Collinearity",
    "Contrasts",
    "ControlLimits",
    "Fit",
    "GeneralizedMixedModelFit",
    "Heterogeneity",
    "Influence",
    "JointTests",
    "LevelPosterior",
    "Leverage",
    "LikelihoodFit",
    "LinearMixedModelFit",
    "MarginalMeans",
    "ModelComparison",
    "ModelTable",
    "PopulationAverage",
    "Profile",
    "Ranking",
    "Refits",
    "RobustCovariance",
    "SimulatedResiduals",
    "StandardizedRatios",
    "TermTests",
    "VarianceTest",
    "anova",
    "average",
    "bootstrap",
    "check",
    "collinearity",
    "contrasts",
    "emmeans",
    "emtrends",
    "glmm",
    "heterogeneity",
    "icc",
    "influence",
    "joint_tests",
    "leverage",
    "lmm",
    "load",
    "marginal",
    "plan",
    "posterior",
    "profile",
    "r2",
    "rank",
    "robust",
    "simulated_residuals",
    "standardized_ratios",
    "table",
    "variance_test",
]

HOMES = {
    "AverageEffect": "average_effect",
    "Bootstrap": "bootstrapping",
    "Check": "checking",
    "Collinearity": "predictors",
    "Contrasts": "comparisons",
    "ControlLimits": "profiling",
    "Fit": "fit",
    "GeneralizedMixedModelFit": "generalised",
    "Heterogeneity": "predictors",
    "ICC": "partition",
    "Influence": "left_out",
    "JointTests": "means",
    "LevelPosterior": "posteriors",
    "Leverage": "left_out",
    "LikelihoodFit": "likelihood",
    "LinearMixedModelFit": "linear",
    "MarginalMeans": "means",
    "ModelComparison": "likelihood_ratios",
    "ModelTable": "paper",
    "PopulationAverage": "averages",
    "Profile": "profiles",
    "R2": "partition",
    "Ranking": "ranking",
    "Refits": "refits",
    "RobustCovariance": "robust_covariance",
    "SimulatedResiduals": "simulated",
    "StandardizedRatios": "profiling",
    "TermTests": "term_tests",
    "VarianceTest": "variance_tests",
    "anova": "variance_analysis",
    "average": "average_effect",
    "bootstrap": "bootstrapping",
    "check": "checking",
    "collinearity": "predictors",
    "contrasts": "comparisons",
    "emmeans": "means",
    "emtrends": "trends",
    "glmm": "fitting",
    "heterogeneity": "predictors",
    "icc": "partition",
    "influence": "left_out",
    "joint_tests": "means",
    "leverage": "left_out",
    "lmm": "fitting",
    "load": "saving",
    "marginal": "averages",
    "plan": "fitting",
    "posterior": "posteriors",
    "profile": "profiles",
    "r2": "partition",
    "rank": "ranking",
    "robust": "robust_covariance",
    "simulated_residuals": "simulated",
    "standardized_ratios": "profiling",
    "table": "paper",
    "variance_test": "variance_tests",
}


def __getattr__(name: str) -> Any:
    if name in HOMES:
        return getattr(import_module(f"ranef.api.{HOMES[name]}"), name)
    raise AttributeError(f"ranef.api has no name {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
