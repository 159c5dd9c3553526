"""Models: a specification in, an estimate out."""

from ranef.models.estimate import Estimate
from ranef.models.lmm import fit_lmm, refit

__all__ = ["Estimate", "fit_lmm", "refit"]
