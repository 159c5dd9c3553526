"""Models: a specification in, an estimate out."""

from ranef.models.estimate import Component, Estimate, GeneralisedEstimate, LinearEstimate
from ranef.models.glmm import fit_glmm, refit_glmm
from ranef.models.lmm import fit_lmm, refit

__all__ = [
    "Component",
    "Estimate",
    "GeneralisedEstimate",
    "LinearEstimate",
    "fit_glmm",
    "fit_lmm",
    "refit",
    "refit_glmm",
]
