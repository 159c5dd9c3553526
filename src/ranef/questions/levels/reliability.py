"""How much of the variance of effects is known: reliability of each level."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ranef.inference.protocol import Inference
from ranef.models.records import Component, Estimate
from ranef.questions.levels.level_effects import coefficients, names_of, own_terms

__all__ = ["Reliability", "prior_covariance", "reliability"]

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Reliability:
    """Reliability of the effects of one factor in one part of a model.

    Attributes
    ----------
    names : tuple of str
        The m coefficients.
    estimate, variance : (q, m) float64 arrays
        1 - v / tau^2, and v.
    prior : (q, m) float64 array
        tau^2.
    """

    names: tuple[str, ...]
    estimate: Floats
    variance: Floats
    prior: Floats


def reliability(
    model: Inference, part: Component, factor: int, given: str = "parameters"
) -> Reliability:
    """Reliability 1 - v_i / tau^2 of each effect.

    With v_i the variance of the effect given data and parameters it is the reliability
    of Raudenbush & Bryk (2002, Hierarchical Linear Models, eq. 3.54), n tau^2 /
    (n tau^2 + sigma^2) for a random intercept; given the variance parameters alone it is
    that of animal breeding, 1 - PEV / tau^2 (Mrode 2014). The effects of a level that
    are correlated inform each other; each has its own v_i and tau^2 here. NaN where
    tau is zero.
    """
    estimate = model.estimate
    names = names_of(estimate, part, factor)
    what = coefficients(estimate, part, factor, names, with_fixed=False)
    variance = model.posterior(what, given).variance.reshape(-1, len(names))
    prior = np.zeros(variance.shape)
    for t in own_terms(estimate, part, factor):
        term = estimate.terms[t]
        own = np.ones(len(prior)) if term.kernel is None else np.diag(term.kernel)
        for a, name in enumerate(term.names):
            prior[:, names.index(name)] += own * estimate.covariances[t][a, a]
    with np.errstate(divide="ignore", invalid="ignore"):
        share = np.where(prior > 0, 1 - variance / prior, np.nan)
    return Reliability(names, share, variance, prior)


def prior_covariance(estimate: Estimate, part: Component, factor: int) -> Floats:
    """Covariance matrix (m, m) of the effects of a level, terms added, without a kernel."""
    names = names_of(estimate, part, factor)
    out = np.zeros((len(names), len(names)))
    for t in own_terms(estimate, part, factor):
        where = [names.index(name) for name in estimate.terms[t].names]
        out[np.ix_(where, where)] += estimate.covariances[t]
    return out
