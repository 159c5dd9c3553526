"""The public functions and the fits they return.

A function here checks its arguments once, calls one function of a lower floor
and wraps the answer: labels, the user's data-frame library, words. Numbers
happen below. May import every floor but `cli`.
"""

from ranef.api.averages import PopulationAverage, marginal
from ranef.api.bootstrapping import Bootstrap, bootstrap
from ranef.api.fit import Fit
from ranef.api.fitting import glmm, lmm, plan
from ranef.api.generalised import GeneralizedMixedModelFit
from ranef.api.likelihood import LikelihoodFit
from ranef.api.linear import LinearMixedModelFit
from ranef.api.profiles import Profile, profile
from ranef.api.refits import Refits
from ranef.api.saving import load

__all__ = [
    "Bootstrap",
    "Fit",
    "GeneralizedMixedModelFit",
    "LikelihoodFit",
    "LinearMixedModelFit",
    "PopulationAverage",
    "Profile",
    "Refits",
    "bootstrap",
    "glmm",
    "lmm",
    "load",
    "marginal",
    "plan",
    "profile",
]
