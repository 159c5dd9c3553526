"""Families by R's and glmmTMB's names."""

from __future__ import annotations

from collections.abc import Callable

from ranef.errors import ModelError, suggestion
from ranef.families.categories import Cumulative, Multinomial
from ranef.families.continuous import CensoredGaussian, Gaussian, SkewNormal, StudentT
from ranef.families.counts import (
    Bell,
    ConwayMaxwellPoisson,
    Count,
    GeneralisedPoisson,
    NegativeBinomial1,
    NegativeBinomial2,
    NegativeBinomial12,
    Poisson,
)
from ranef.families.family import Family
from ranef.families.positive import Gamma, InverseGaussian, Lognormal, Tweedie
from ranef.families.proportions import Beta, BetaBinomial, Binomial, OrderedBeta
from ranef.families.truncated import Truncated

__all__ = ["FAMILIES", "family"]

_COUNTS: tuple[type[Count], ...] = (
    Poisson,
    NegativeBinomial1,
    NegativeBinomial2,
    NegativeBinomial12,
    ConwayMaxwellPoisson,
    GeneralisedPoisson,
    Bell,
)
_OTHERS: tuple[type[Family], ...] = (
    Gaussian,
    CensoredGaussian,
    SkewNormal,
    StudentT,
    Binomial,
    BetaBinomial,
    Gamma,
    InverseGaussian,
    Lognormal,
    Tweedie,
    Beta,
    OrderedBeta,
    Cumulative,
)


def _truncated(base: type[Count]) -> Callable[..., Family]:
    return lambda **link: Truncated(base(**link))


_MAKERS: dict[str, Callable[..., Family]] = {
    **{cls.name: cls for cls in (*_COUNTS, *_OTHERS)},
    **{f"truncated_{cls.name}": _truncated(cls) for cls in _COUNTS},
    "bernoulli": Binomial,
}

_ELSEWHERE = {
    "beta_family": "beta",
    "exponential": "Gamma",
    "gamma": "Gamma",
    "hurdle": "truncated_poisson",
    "logistic": "binomial",
    "multinom": "multinomial",
    "negative_binomial": "nbinom2",
    "negbin": "nbinom2",
    "negbinomial": "nbinom2",
    "normal": "gaussian",
    "ordinal": "cumulative",
    "ordered": "cumulative",
    "polr": "cumulative",
    "skew_normal": "skewnormal",
    "sn": "skewnormal",
    "student": "t",
    "t_family": "t",
    "tobit": "censored",
    "zip": "poisson",
}

FAMILIES: tuple[str, ...] = (*_MAKERS, Multinomial.name)
"""The names that `family` knows."""


def family(name: str | Family, link: str | None = None, categories: int | None = None) -> Family:
    """Return the family of that name.

    Parameters
    ----------
    name : str or Family
        R's or glmmTMB's name, such as ``"binomial"``, ``"nbinom2"``, ``"truncated_poisson"``;
        a family is returned as it is.
    link : str, optional
        The link of the mean; by default the family's own.
    categories : int, optional
        The number of categories; for ``"multinomial"`` only, which needs it.

    Raises
    ------
    ModelError
        If there is no family of that name, or it takes no such link.

    Examples
    --------
    >>> from ranef.families import family
    >>> family("poisson", link="sqrt")
    Poisson(link='sqrt')
    >>> family("nbinom3")
    Traceback (most recent call last):
    ranef.errors.ModelError: no family 'nbinom3'; did you mean 'nbinom2'?
    """
    if isinstance(name, Family):
        if link is not None and link != name.link:
            raise ModelError(f"the family {name.name!r} has the link {name.link!r}, not {link!r}")
        return name
    if not isinstance(name, str):
        raise ModelError(
            "family must be a name such as 'binomial' or an object of ranef.families, "
            f"not {type(name).__name__}"
        )
    given = {} if link is None else {"link": link}
    if name == Multinomial.name:
        if categories is None:
            raise ModelError("multinomial needs the number of categories")
        return Multinomial(categories, **given)
    if name not in _MAKERS:
        raise ModelError(f"no family {name!r}{_hint(name)}")
    return _MAKERS[name](**given)


def _hint(name: str) -> str:
    known = _ELSEWHERE.get(name.lower())
    return suggestion(name, FAMILIES) if known is None else f"; did you mean {known!r}?"
