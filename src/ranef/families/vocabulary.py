"""Families by R's and glmmTMB's names."""

from __future__ import annotations

import re
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
    "bernoulli_logit": "binomial",
    "beta_binomial": "betabinomial",
    "beta_family": "beta",
    "betabin": "betabinomial",
    "clm": "cumulative",
    "clmm": "cumulative",
    "cmp": "compois",
    "com_poisson": "compois",
    "conway_maxwell_poisson": "compois",
    "categorical": "multinomial",
    "count": "poisson",
    "cumulative_logit": "cumulative",
    "exponential": "Gamma",
    "gamma": "Gamma",
    "generalised_poisson": "genpois",
    "generalized_poisson": "genpois",
    "inverse_gaussian": "inverse.gaussian",
    "inversegaussian": "inverse.gaussian",
    "ig": "inverse.gaussian",
    "logistic": "binomial",
    "logit": "binomial",
    "log_normal": "lognormal",
    "multinom": "multinomial",
    "nb": "nbinom2",
    "nb1": "nbinom1",
    "nb2": "nbinom2",
    "neg_binomial": "nbinom2",
    "neg_bin": "nbinom2",
    "neg_binom": "nbinom2",
    "nbinom": "nbinom2",
    "nbinomial": "nbinom2",
    "negative_binomial": "nbinom2",
    "negativebinomial": "nbinom2",
    "negbin": "nbinom2",
    "negbinom": "nbinom2",
    "negbinomial": "nbinom2",
    "nominal": "multinomial",
    "normal": "gaussian",
    "ordbeta": "ordbeta",
    "ordered_beta": "ordbeta",
    "ordinal": "cumulative",
    "ordered": "cumulative",
    "polr": "cumulative",
    "skew_normal": "skewnormal",
    "sn": "skewnormal",
    "student": "t",
    "student_t": "t",
    "t_family": "t",
    "tobit": "censored",
}

_WORDS = {
    "hurdle": "a hurdle model of counts is family='truncated_poisson' with zero='~ 1'",
    "hurdle_nb": "a hurdle model of counts is family='truncated_nbinom2' with zero='~ 1'",
    "probit": "a probit model is family=ranef.families.Binomial(link='probit')",
    "cloglog": "this link is family=ranef.families.Binomial(link='cloglog')",
    "quasi": "a quasi-likelihood is no likelihood; use ranef.gee, whose scale is free",
    "quasibinomial": "a quasi-likelihood is no likelihood; use 'betabinomial', or ranef.gee, "
    "whose scale is free",
    "quasipoisson": "a quasi-likelihood is no likelihood; use 'nbinom1', whose variance is a "
    "multiple of the mean, or ranef.gee, whose scale is free",
    "zib": "a zero-inflated model is family='binomial' with zero='~ 1'",
    "zibb": "a zero-inflated model is family='betabinomial' with zero='~ 1'",
    "zinb": "a zero-inflated model is family='nbinom2' with zero='~ 1'",
    "zip": "a zero-inflated model is family='poisson' with zero='~ 1'",
    "zero_inflated": "a zero-inflated model is family='poisson' with zero='~ 1'",
    "zero_inflated_poisson": "a zero-inflated model is family='poisson' with zero='~ 1'",
    "zero_inflated_negative_binomial": "a zero-inflated model is family='nbinom2' with zero='~ 1'",
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
            f"not {_kind(name)}"
        )
    given = {} if link is None else {"link": link}
    if name == Multinomial.name:
        if categories is None:
            raise ModelError("multinomial needs the number of categories")
        return Multinomial(categories, **given)
    if name not in _MAKERS:
        raise ModelError(f"no family {name!r}{_hint(name)}")
    return _MAKERS[name](**given)


def _kind(given: object) -> str:
    """Name what was given in place of a family; of a class say that it is called."""
    if isinstance(given, type):
        return f"the class {given.__name__}; call it: {given.__name__}()"
    return type(given).__name__


def _hint(name: str) -> str:
    called = re.fullmatch(r"\s*(\w+)\s*\(\s*(?:link\s*=\s*)?[\"']?(\w+)[\"']?\s*\)\s*", name)
    if called is not None and called[1].lower() in FAMILIES:
        return f"; write family={called[1].lower()!r}, link={called[2].lower()!r}"
    key = re.sub(r"[\s.-]+", "_", name.strip().lower())
    if "hurdle" in key:
        key = "hurdle"
    if key in _WORDS:
        return f"; {_WORDS[key]}"
    known = _ELSEWHERE.get(key)
    return suggestion(name, FAMILIES) if known is None else f"; did you mean {known!r}?"
