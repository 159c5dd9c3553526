"""What can be asked of rows: means, probabilities, predictors, as functions to integrate."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ranef.errors import ModelError, suggestion
from ranef.families import (
    Beta,
    Binomial,
    Cumulative,
    Family,
    Multinomial,
    OrderedBeta,
    Truncated,
)
from ranef.families.links import LINKS
from ranef.inference.rows.integration import (
    Expectation,
    Factor,
    Spread,
    at,
    defined,
    expectation,
    joint_expectation,
)
from ranef.inference.rows.parts import threshold_basis
from ranef.models.records import Estimate, GeneralisedEstimate

__all__ = ["TYPES", "Target", "evaluate", "has_categories", "has_zero", "target"]

Floats = NDArray[np.float64]

TYPES = ("response", "link", "prob", "class", "conditional", "zero", "dispersion")
STRIPS = {"cauchit": 1.0, "logit": np.pi}


@dataclass(frozen=True, eq=False)
class Target:
    """A product of functions of different predictors.

    Attributes
    ----------
    factors : tuple of Factor
    scale : str
        The link on whose scale intervals are made.
    """

    factors: tuple[Factor, ...]
    scale: str

    @property
    def single(self) -> bool:
        """Tell whether it is the inverse of the scale's link at one predictor."""
        return len(self.factors) == 1 and self.factors[0].link == self.scale


def has_zero(estimate: Estimate) -> bool:
    """Tell whether the last predictor is that of a zero part."""
    return "zero" in estimate.parts


def has_categories(family: Family) -> bool:
    """Tell whether the response is a category."""
    return isinstance(family, Cumulative | Multinomial)


def target(estimate: GeneralisedEstimate, type: str) -> Target:
    """Return what `type` asks for.

    Raises
    ------
    ModelError
        When there is no such type, or the family has none of it.
    """
    if type not in TYPES:
        known = ", ".join(repr(t) for t in TYPES)
        raise ModelError(
            f"type={type!r} is not a known type{suggestion(type, TYPES)}; use one of {known}"
        )
    if type in ("prob", "class") and not has_categories(estimate.family):
        raise ModelError(
            f"the family {estimate.family.name} has no categories: type={type!r} is for "
            "cumulative and multinomial responses; use type='response'"
        )
    if type in ("response", "prob", "class"):
        return _response(estimate)
    if type == "link":
        return Target((_link(estimate.family),), "identity")
    if type == "conditional":
        return _part_of_mean(estimate)
    return _zero(estimate) if type == "zero" else _dispersion(estimate)


def evaluate(wanted: Target, etas: Floats, spread: Spread | None) -> Expectation:
    """Value and derivatives, by the product rule; integrated where a spread is given."""
    if spread is not None and spread.correlated({a for f in wanted.factors for a in f.uses}):
        for factor in wanted.factors:
            defined(factor, spread.variances)
        return joint_expectation(_product(wanted.factors), etas, spread.matrices)
    variances = None if spread is None else spread.variances
    found = [
        at(f, etas) if variances is None else expectation(f, etas, variances)
        for f in wanted.factors
    ]
    total = found[0]
    for other in found[1:]:
        total = Expectation(
            total.value * other.value,
            total.by_mean * other.value + total.value * other.by_mean,
            total.by_variance * other.value + total.value * other.by_variance,
        )
    return total


def _product(factors: Sequence[Factor]) -> Factor:
    """The product of functions as one."""
    uses = tuple(dict.fromkeys(a for f in factors for a in f.uses))

    def value(etas: Floats) -> Floats:
        out = factors[0].value(etas)
        for other in factors[1:]:
            out = out * other.value(etas)
        return out

    def slope(etas: Floats) -> Floats:
        here, total = factors[0].value(etas), factors[0].slope(etas)
        for other in factors[1:]:
            more = other.value(etas)
            total = total * more + here * other.slope(etas)
            here = here * more
        return total

    strip = min(f.strip for f in factors)
    return Factor(uses, value, slope, None, strip, grows=True)


def through(link: str, a: int, count: int) -> Factor:
    """Return the inverse of a link at predictor a of `count`."""
    known = LINKS[link]

    def slope(etas: Floats) -> Floats:
        out = np.zeros((count, etas.shape[1], 1))
        out[a, :, 0] = known.first(etas[a])
        return out

    return Factor(
        (a,), lambda etas: known.inverse(etas[a])[:, None], slope, link, STRIPS.get(link, np.pi / 2)
    )


def count_of(estimate: GeneralisedEstimate) -> int:
    """Return the number of predictors of the family's `mean`."""
    family = estimate.family
    if isinstance(family, Cumulative):
        return 1 + len(threshold_basis(estimate))
    return len(family.predictors(has_zero(estimate)))


def _response(estimate: GeneralisedEstimate) -> Target:
    family, count = estimate.family, count_of(estimate)
    factors = [_mean(family, count, has_zero(estimate))]
    if has_zero(estimate):
        factors.append(_rest(count))
    bounded = isinstance(family, Binomial | Beta | OrderedBeta) or has_categories(family)
    link = None if has_zero(estimate) else family.mean_link
    return Target(tuple(factors), _scale(link, bounded))


def _part_of_mean(estimate: GeneralisedEstimate) -> Target:
    """Return the mean without the zero part; of truncated counts that before truncation."""
    family, count = estimate.family, count_of(estimate)
    if has_categories(family):
        raise ModelError(
            f"the family {family.name} has categories, and no mean beside a zero part: "
            "type='conditional' is for other responses; use type='prob'"
        )
    if isinstance(family, Truncated):
        return Target((through(family.link, 0, count),), _scale(family.link, False))
    mean = _mean(family, count, has_zero(estimate))
    bounded = isinstance(family, Binomial | Beta | OrderedBeta)
    return Target((mean,), _scale(family.mean_link, bounded))


def _scale(link: str | None, bounded: bool) -> str:
    """Return the scale of an interval of a mean with this link."""
    if link is None or link in ("sqrt", "inverse", "1/mu^2"):
        return "logit" if bounded else "log"
    return link


def _mean(family: Family, count: int, zero: bool) -> Factor:
    """Return the mean of a response; of trials, the probability; without the zero part."""
    if family.mean_link is not None:
        return through(family.mean_link, 0, count)
    own = count - 1 if zero else count

    def value(etas: Floats) -> Floats:
        mean = family.mean(etas[:own])
        return mean if mean.ndim == 2 else mean[:, None]

    def slope(etas: Floats) -> Floats:
        found = family.mean_derivatives(etas[:own])
        out = np.zeros((count, found.shape[1], found.shape[2] if found.ndim == 3 else 1))
        out[:own] = found.reshape(own, found.shape[1], -1)
        return out

    uses = tuple(range(count)) if isinstance(family, Cumulative) else family.in_mean
    strip = STRIPS.get(family.link, np.pi / 2)
    return Factor(uses, value, slope, None, strip, grows=not has_categories(family))


def _rest(count: int) -> Factor:
    """Return the probability that the zero part lets pass."""
    last, logit = count - 1, LINKS["logit"]

    def slope(etas: Floats) -> Floats:
        out = np.zeros((count, etas.shape[1], 1))
        out[last, :, 0] = -logit.first(etas[last])
        return out

    return Factor((last,), lambda etas: logit.inverse(-etas[last])[:, None], slope, None, np.pi)


def _link(family: Family) -> Factor:
    """Return the predictor of the mean; of multinomial responses all of them."""
    K = family.categories - 1 if isinstance(family, Multinomial) else 1

    def slope(etas: Floats) -> Floats:
        out = np.zeros((*etas.shape, K))
        for k in range(K):
            out[k, :, k] = 1.0
        return out

    return Factor(tuple(range(K)), lambda etas: etas[:K].T, slope, "identity", np.pi)


def _zero(estimate: GeneralisedEstimate) -> Target:
    if not has_zero(estimate):
        raise ModelError("the model has no zero part, so type='zero' asks for nothing")
    count = count_of(estimate)
    return Target((through("logit", count - 1, count),), "logit")


def _dispersion(estimate: GeneralisedEstimate) -> Target:
    family = estimate.family
    own = [a for a, p in enumerate(family.parameters) if p.name == "dispersion"]
    if not own:
        raise ModelError(f"the family {family.name} has no dispersion parameter")
    link = family.parameters[own[0]].link
    return Target((through(link, own[0], count_of(estimate)),), link)
