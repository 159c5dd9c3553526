"""Families: the distribution of a response given its linear predictors.

Each class says what its predictors are and mean, checks a response, starts a
search, and gives mean, variance and draws; the log density and its derivatives
are in the compiled core (`Family.core`). May import `errors`, the core and
NumPy; SciPy inside functions.
"""

from ranef.families.categories import Cumulative, Multinomial
from ranef.families.continuous import CensoredGaussian, Gaussian, SkewNormal, StudentT
from ranef.families.counts import (
    Bell,
    ConwayMaxwellPoisson,
    GeneralisedPoisson,
    NegativeBinomial1,
    NegativeBinomial2,
    NegativeBinomial12,
    Poisson,
)
from ranef.families.family import Family, Predictor, Start
from ranef.families.positive import Gamma, InverseGaussian, Lognormal, Tweedie
from ranef.families.proportions import Beta, BetaBinomial, Binomial, OrderedBeta
from ranef.families.truncated import Truncated
from ranef.families.vocabulary import FAMILIES, family

__all__ = [
    "FAMILIES",
    "Bell",
    "Beta",
    "BetaBinomial",
    "Binomial",
    "CensoredGaussian",
    "ConwayMaxwellPoisson",
    "Cumulative",
    "Family",
    "Gamma",
    "Gaussian",
    "GeneralisedPoisson",
    "InverseGaussian",
    "Lognormal",
    "Multinomial",
    "NegativeBinomial1",
    "NegativeBinomial2",
    "NegativeBinomial12",
    "OrderedBeta",
    "Poisson",
    "Predictor",
    "SkewNormal",
    "Start",
    "StudentT",
    "Truncated",
    "Tweedie",
    "family",
]
