"""What the exponential of a coefficient is, and what a dispersion means, in words.

Knows families by their names and links.
"""

from __future__ import annotations

import math

from ranef.families import Family, Predictor, Truncated
from ranef.models.records import Component, Estimate

__all__ = [
    "EXPONENTIAL",
    "approximation",
    "counts",
    "criterion",
    "end_words",
    "exact",
    "for_all",
    "link_of",
    "natural",
    "predictor_of",
    "ratio",
    "ratio_word",
    "variance_words",
    "zero_words",
]

EXPONENTIAL = ("log", "logit", "cloglog")
"""Links whose coefficients become ratios by the exponential."""

ZERO = "zero"
COUNTS = ("poisson", "nbinom1", "nbinom2", "nbinom12", "compois", "genpois", "bell")

VARIANCES = {
    "gaussian": "Var(y) = sigma^2",
    "censored": "Var(y) = sigma^2 before censoring",
    "t": "Var(y) = sigma^2 df / (df - 2) where df > 2",
    "nbinom1": "Var(y) = mu (1 + phi)",
    "nbinom2": "Var(y) = mu (1 + mu / phi); a larger phi is less overdispersion",
    "nbinom12": "Var(y) = mu (1 + phi + mu / psi); a larger psi is less overdispersion",
    "skewnormal": "Var(y) = sigma^2",
    "compois": "Var(y) is about mu times (1 / nu); 1 / nu = 1 is Poisson",
    "genpois": "Var(y) = mu phi; phi = 1 is Poisson",
    "Gamma": "Var(y) = (sigma mu)^2; sigma is the coefficient of variation",
    "inverse.gaussian": "Var(y) = phi mu^3",
    "lognormal": "Var(y) = sigma^2, of the response itself",
    "tweedie": "Var(y) = phi mu^p",
    "betabinomial": (
        "Var(y) = n mu (1 - mu) (phi + n) / (phi + 1) of n trials; "
        "a larger phi is less overdispersion"
    ),
    "beta": "Var(y) = mu (1 - mu) / (1 + phi); a larger phi is less variance",
    "ordbeta": "Var(y) = mu (1 - mu) / (1 + phi) between 0 and 1; a larger phi is less variance",
}

ENDS = {
    ("nbinom1", "phi", -1): "without overdispersion the negative binomial is the Poisson",
    ("nbinom12", "phi", -1): "without phi the nbinom12 is the nbinom2",
    ("nbinom12", "psi", 1): "without the part of psi the nbinom12 is the nbinom1",
    ("nbinom2", "phi", 1): "without overdispersion the negative binomial is the Poisson",
    ("compois", "1 / nu", 1): (
        "with all the overdispersion that it has the Conway-Maxwell-Poisson is the geometric, "
        "the nbinom2 with phi = 1; a negative binomial may have more"
    ),
    ("compois", "1 / nu", -1): "only the two counts beside the mean are left",
    ("genpois", "phi", -1): "hardly any variance is left",
    ("betabinomial", "phi", 1): "without overdispersion the beta-binomial is the binomial",
    ("betabinomial", "phi", -1): (
        "the trials of a row all end alike, so that a row is one binary response"
    ),
    ("beta", "phi", -1): "all is at 0 and 1, where the beta has no values",
    ("ordbeta", "phi", -1): "all is at 0 and 1, where a binary response says as much",
    ("t", "df", 1): "with infinite df the t is the normal",
    ("t", "df", -1): "the tails are heavier than those of any t",
    ("skewnormal", "alpha", -1): "the skew normal is the half-normal, with no value above its end",
    ("skewnormal", "alpha", 1): "the skew normal is the half-normal, with no value below its end",
    ("truncated_nbinom2", "phi", -1): ("the truncated negative binomial is the logarithmic series"),
    ("tweedie", "p", -1): "with p = 1 the Tweedie is a scaled Poisson",
    ("tweedie", "p", 1): "with p = 2 the Tweedie is the gamma",
    ("ordbeta", "cut 1", -1): "no response is 0; the other estimates hold",
    ("ordbeta", "cut 1", 1): "every response is 0: nothing is left to explain",
    ("ordbeta", "cut 2 - cut 1", -1): (
        "no response lies between 0 and 1: without such values it is the binomial"
    ),
    ("ordbeta", "cut 2 - cut 1", 1): "no response is 1; the other estimates hold",
}
"""What a family becomes at an end of a dispersion or shape on the scale of its link."""

PRECISIONS = {
    "beta": "phi", "ordbeta": "phi", "betabinomial": "phi", "nbinom2": "phi", "nbinom12": "psi",
}  # fmt: skip
"""Families and their precisions: more of it is less variance."""

SIMPLER = ("nbinom1", "nbinom2", "nbinom12", "betabinomial", "t", "tweedie", "ordbeta")
"""Families that become others at their ends."""

NO_FAMILY = (
    ("betabinomial", "phi", -1), ("ordbeta", "phi", -1), ("ordbeta", "cut 1", 1), ("t", "df", -1),
    ("nbinom2", "phi", -1),
)  # fmt: skip
"""Ends of these that are no family of their own."""


def end_words(family: Family, label: str, sign: int) -> str:
    """Say what a family is at an end of its dispersion or shape, and what to use.

    Examples
    --------
    >>> from ranef.families import family
    >>> end_words(family("compois"), "1 / nu", -1)
    'only the two counts beside the mean are left. Use another family'
    """
    base = _base(family)
    words = ENDS.get((family.name, label, sign)) or ENDS.get((base, label, sign))
    if words is not None:
        if words.endswith("hold"):
            return f"{words}. Leave it so"
        named = base in SIMPLER and (base, label, sign) not in NO_FAMILY
        which = "that family" if named else "another family"
        return f"{words}. Use {which}"
    none = 1 if PRECISIONS.get(base) == label else -1
    if sign == none:
        return "the model reproduces the response without variance. Look for what makes it do so"
    return "the variance has no limit. Use another family"


def approximation(estimate: Estimate) -> str:
    """How the likelihood was approximated; empty where nothing is integrated out."""
    if not estimate.terms and not estimate.reml:
        return ""
    if estimate.quadrature == 1:
        return f"the Laplace approximation{' (exact in this model)' if exact(estimate) else ''}"
    return f"adaptive Gauss-Hermite quadrature with {estimate.quadrature} nodes"


def exact(estimate: Estimate) -> bool:
    """Tell whether the response and the random effects are normal together."""
    family, own = estimate.family, estimate.components[0].terms
    normal = family.name == "gaussian" and family.link == "identity"
    if any(term.parts for term in estimate.terms):
        return False
    return normal and ZERO not in estimate.parts and len(own) == len(estimate.terms)


def for_all(estimate: Estimate) -> bool:
    """Tell whether the mean is linear in the effects, so that it averages to the population's."""
    return estimate.family.mean_link == "identity" and ZERO not in estimate.parts


def counts(family: Family) -> bool:
    """Tell whether a response is a count.

    Examples
    --------
    >>> from ranef.families import family
    >>> counts(family("truncated_nbinom2")), counts(family("binomial"))
    (True, False)
    """
    return _base(family) in COUNTS


def criterion(estimate: Estimate) -> str:
    """Name what was maximised: ``"restricted likelihood"``, ``"penalised likelihood"``."""
    words = ["penalised"] if estimate.priors else []
    words += ["restricted"] if estimate.reml else []
    return " ".join([*words, "likelihood"])


def predictor_of(estimate: Estimate, part: Component) -> Predictor:
    """Say which linear predictor of the family a component is."""
    zero = "zero" in estimate.parts
    return estimate.family.predictors(zero)[part.predictor]


def link_of(estimate: Estimate, part: Component) -> str:
    """Link of a component: of the mean the family's own."""
    if part.name == "conditional":
        return estimate.family.link
    return predictor_of(estimate, part).link


def ratio(estimate: Estimate, part: Component) -> str | None:
    """Name what exp of a component's coefficients is; None where it is no ratio."""
    link = link_of(estimate, part)
    if part.name == "zero":
        return "odds ratio"
    if part.name == "threshold" or link not in EXPONENTIAL:
        return None
    if part.name != "conditional":
        return "ratio"
    return ratio_word(estimate.family)


def ratio_word(family: Family) -> str | None:
    """Name what exp of a coefficient of the mean is: ``"odds ratio"``, ``"rate ratio"``.

    Examples
    --------
    >>> from ranef.families import family
    >>> ratio_word(family("binomial")), ratio_word(family("nbinom2"))
    ('odds ratio', 'rate ratio')
    >>> ratio_word(family("binomial", link="probit")) is None
    True
    """
    if family.link == "logit":
        return "odds ratio"
    if family.link == "cloglog":
        return "hazard ratio"
    if family.link != "log":
        return None
    if _base(family) in ("binomial", "betabinomial"):
        return "risk ratio"
    return "rate ratio" if _base(family) in COUNTS else "ratio of means"


def variance_words(family: Family) -> str:
    """State Var(y) in the family's mean and dispersion."""
    words = VARIANCES[_base(family)]
    if isinstance(family, Truncated):
        return f"{words} (of the counts before truncation)"
    return words


def natural(link: str, value: float) -> float:
    """Carry a constant dispersion or shape back from its link.

    Examples
    --------
    >>> natural("log", 0.0), natural("logit(p - 1)", 0.0), natural("identity", 2.0)
    (1.0, 1.5, 2.0)
    """
    if link == "log":
        return math.exp(value) if value < 700 else math.inf
    if link == "logit(p - 1)":
        return 1.0 + 1.0 / (1.0 + math.exp(-value) if value > -700 else math.inf)
    return value


def _base(family: Family) -> str:
    return family.base.name if isinstance(family, Truncated) else family.name


def zero_words(family: Family) -> str:
    """What the zero part speaks of: all zeros in a hurdle, else those beyond the family's own.

    Examples
    --------
    >>> import ranef
    >>> fit = ranef.glmm("count ~ mined + (1 | site)", ranef.data.load("Salamanders"),
    ...                  family="truncated_poisson", zero="~ mined")
    >>> zero_words(fit.family)
    'a zero'
    """
    return "a zero" if isinstance(family, Truncated) else "an extra zero"
