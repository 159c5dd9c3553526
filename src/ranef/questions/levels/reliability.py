"""How much of the variance of effects is known: reliability of each level."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ranef.inference.protocol import Inference
from ranef.questions.levels.level_effects import FactorEffects

__all__ = ["Reliability", "reliability"]

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Reliability:
    """Reliability of the m effects of q levels.

    Attributes
    ----------
    estimate, variance : (q, m) float64 arrays
        1 - v / tau^2, and v.
    prior : (q, m) float64 array
        tau^2.
    """

    estimate: Floats
    variance: Floats
    prior: Floats


def reliability(model: Inference, effects: FactorEffects, given: str = "parameters") -> Reliability:
    """Reliability 1 - v_i / tau^2 of each effect.

    With v_i the variance of the effect given data and parameters it is the reliability
    of Raudenbush & Bryk (2002, Hierarchical Linear Models, eq. 3.54), n tau^2 /
    (n tau^2 + sigma^2) for a random intercept; given the variance parameters alone it is
    that of animal breeding, 1 - PEV / tau^2 (Mrode 2014). The effects of a level that
    are correlated inform each other; each has its own v_i and tau^2 here. NaN where
    tau is zero.
    """
    estimate, names = effects.estimate, effects.names
    variance = model.posterior(effects.coefficients(), given).variance.reshape(-1, len(names))
    prior = np.zeros(variance.shape)
    for t in effects.terms:
        term = estimate.terms[t]
        scale = np.ones(len(prior)) if term.kernel is None else np.diag(term.kernel)
        for a, place in zip(*effects.owned(t), strict=True):
            prior[:, place] += scale * estimate.covariances[t][a, a]
    with np.errstate(divide="ignore", invalid="ignore"):
        share = np.where(prior > 0, 1 - variance / prior, np.nan)
    return Reliability(share, variance, prior)
