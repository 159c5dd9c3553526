"""Families: the distribution of a response given its linear predictors.

Each class says what its predictors are and mean, checks a response, starts a
search, and gives mean, variance and draws; the log density and its derivatives
are in the compiled core (`Family.core`). May import `errors`, the core and
NumPy; SciPy inside functions.
"""

from typing import Any as _Any

from ranef.elsewhere import explained as _explained
from ranef.elsewhere import module_getattr as _module_getattr
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

_NAMED_ELSEWHERE = {
    "NegativeBinomial": "NegativeBinomial2",
    "NB": "NegativeBinomial2",
    "Bernoulli": "Binomial",
    "Ordinal": "Cumulative",
    "Normal": "Gaussian",
}


def __getattr__(name: str) -> _Any:
    here = _NAMED_ELSEWHERE.get(name)
    if here is not None:
        raise AttributeError(f"ranef.families has no name {name!r}; did you mean {here!r}?")
    return _module_getattr("ranef.families", __all__)(name)


for _class in (
    Bell, Beta, BetaBinomial, Binomial, CensoredGaussian, ConwayMaxwellPoisson, Cumulative, Gamma,
    GeneralisedPoisson, Gaussian, InverseGaussian, Lognormal, Multinomial, NegativeBinomial1,
    NegativeBinomial2, NegativeBinomial12, OrderedBeta, Poisson, SkewNormal, StudentT, Tweedie,
):  # fmt: skip
    _class.__init__ = _explained(_class.__init__, _class.__name__)  # type: ignore[method-assign]
