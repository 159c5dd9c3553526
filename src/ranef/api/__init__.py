"""The public functions and the fits they return.

A function here checks its arguments once, calls one function of a lower floor
and wraps the answer: labels, the user's data-frame library, words. Numbers
happen below. May import every floor but `cli`.
"""

from ranef.api.averages import PopulationAverage, marginal
from ranef.api.checking import Check, check
from ranef.api.fit import Fit
from ranef.api.fitting import glmm, lmm, plan
from ranef.api.generalised import GeneralizedMixedModelFit
from ranef.api.left_out import Influence, Leverage, influence, leverage
from ranef.api.likelihood import LikelihoodFit
from ranef.api.linear import LinearMixedModelFit
from ranef.api.partition import ICC, R2, icc, r2
from ranef.api.predictors import Collinearity, Heterogeneity, collinearity, heterogeneity
from ranef.api.refits import Refits
from ranef.api.saving import load
from ranef.api.simulated import SimulatedResiduals, simulated_residuals

__all__ = [
    "ICC",
    "R2",
    "Check",
    "Collinearity",
    "Fit",
    "GeneralizedMixedModelFit",
    "Heterogeneity",
    "Influence",
    "Leverage",
    "LikelihoodFit",
    "LinearMixedModelFit",
    "PopulationAverage",
    "Refits",
    "SimulatedResiduals",
    "check",
    "collinearity",
    "glmm",
    "heterogeneity",
    "icc",
    "influence",
    "leverage",
    "lmm",
    "load",
    "marginal",
    "plan",
    "r2",
    "simulated_residuals",
]
