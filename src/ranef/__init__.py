"""Mixed-effects models: from a formula and a table to a proved optimum.

Examples
--------
>>> import ranef
>>> sleep = ranef.data.load("sleepstudy")
>>> fit = ranef.lmm("Reaction ~ Days + (Days | Subject)", sleep)
>>> fit.coef.round(3).to_dict()
{'(Intercept)': 251.405, 'Days': 10.467}

Names are imported when first used, so that ``import ranef`` costs little.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from ranef._version import __version__

if TYPE_CHECKING:
    from ranef import data, errors, families, priors
    from ranef.api.average_effect import average
    from ranef.api.averages import marginal
    from ranef.api.bootstrapping import Bootstrap, bootstrap
    from ranef.api.checking import check
    from ranef.api.comparisons import contrasts
    from ranef.api.fit import Fit
    from ranef.api.fitting import glmm, lmm, plan
    from ranef.api.generalised import GeneralizedMixedModelFit
    from ranef.api.left_out import influence, leverage
    from ranef.api.likelihood import LikelihoodFit
    from ranef.api.linear import LinearMixedModelFit
    from ranef.api.means import emmeans, joint_tests
    from ranef.api.paper import table
    from ranef.api.partition import icc, r2
    from ranef.api.posteriors import posterior
    from ranef.api.predictors import collinearity, heterogeneity
    from ranef.api.profiles import Profile, profile
    from ranef.api.profiling import standardized_ratios
    from ranef.api.ranking import rank
    from ranef.api.robust_covariance import robust
    from ranef.api.saving import load
    from ranef.api.simulated import simulated_residuals
    from ranef.api.trends import emtrends
    from ranef.api.variance_analysis import anova
    from ranef.api.variance_tests import variance_test

__all__ = [
    "Bootstrap",
    "Fit",
    "GeneralizedMixedModelFit",
    "LikelihoodFit",
    "LinearMixedModelFit",
    "Profile",
    "__version__",
    "anova",
    "average",
    "bootstrap",
    "check",
    "collinearity",
    "contrasts",
    "data",
    "emmeans",
    "emtrends",
    "errors",
    "families",
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
    "priors",
    "profile",
    "r2",
    "rank",
    "robust",
    "simulated_residuals",
    "standardized_ratios",
    "table",
    "variance_test",
]

ROOMS = ("data", "errors", "families", "priors")


def __getattr__(name: str) -> Any:
    if name in ROOMS:
        return import_module(f"ranef.{name}")
    if name in __all__:
        return getattr(import_module("ranef.api"), name)
    from ranef.errors import suggestion

    raise AttributeError(f"ranef has no name {name!r}{suggestion(name, __all__)}")


def __dir__() -> list[str]:
    return sorted(__all__)
