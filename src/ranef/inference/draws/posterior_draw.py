"""One draw of coefficients, random effects and predictors given the data, theta known.

If the model holds, the data and responses drawn around it have the same joint
distribution (Johnson 2007, Bayesian Anal. 2; Yuan & Johnson 2012, Biometrics 68).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ranef.covariance.factor import square_root
from ranef.derivatives.generalised import generalised_conditional_covariances
from ranef.families import Cumulative
from ranef.inference.draws.sampling import metropolis
from ranef.inference.draws.simulation import EffectDraws
from ranef.inference.effects.linearised import Linearised, itself, linearised
from ranef.inference.rows.fitted import log_deviations
from ranef.inference.rows.generalised_fitted import predictors
from ranef.models.noise import Noise, residual_covariance
from ranef.models.records import GeneralisedEstimate, LinearEstimate
from ranef.models.rows import at_levels
from ranef.solve.structured.rows import row_covariance

__all__ = ["PosteriorDraw", "generalised_posterior_draw", "linear_posterior_draw"]

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class PosteriorDraw:
    """One draw of what the data leave open.

    Attributes
    ----------
    predictors : (M, n) float64 array
        Linear predictors as the family takes them, offsets included.
    effects : tuple of (q, r) float64 arrays
        Of the terms of the mean.
    sigma : float or None
        Residual standard deviation, of a model that has it beside its predictors.
    """

    predictors: Floats
    effects: tuple[Floats, ...]
    sigma: float | None


def linear_posterior_draw(estimate: LinearEstimate, rng: np.random.Generator) -> PosteriorDraw:
    """Draw coefficients, random effects and sigma given the data and theta.

    By conditioning a draw of the model: with b0 and y0 = Z b0 + e0 drawn, and (beta0,
    b0_hat) their solution, (beta_hat - beta0, b_hat + b0 - b0_hat) is a draw given the
    data under a flat prior of beta (Hoffman & Ribak 1991, Astrophys. J. 380); sigma^2
    is r2 over a chi-squared value on n - p degrees of freedom.
    """
    model = itself(estimate)
    spec, point = model.specification, model.point()
    sigma = float(np.sqrt(point.r2 / rng.chisquare(spec.n - spec.p)))
    beta, moved = _deviation(model, sigma, rng)
    effects = tuple(mode + d for mode, d in zip(estimate.modes, moved, strict=True))
    mean = spec.X @ (estimate.beta + beta)
    if spec.offset is not None:
        mean = mean + spec.offset
    for term, b in zip(spec.terms, effects, strict=True):
        mean = mean + at_levels(b, spec.factors[term.factor].codes, term.z)
    logs = log_deviations(spec, sigma)
    if spec.residual is not None:
        logs = np.log(sigma * residual_covariance(estimate).sds())
    return PosteriorDraw(np.stack([mean, logs]), effects, sigma)


def generalised_posterior_draw(
    estimate: GeneralisedEstimate, rng: np.random.Generator
) -> PosteriorDraw:
    """Draw around the modes and let the effects walk from there.

    The mean's part is drawn in its working linear model, others by level; the steps of
    `metropolis` then take the effects from the normal distribution to their own.
    """
    own = estimate.components[0].terms
    etas, effects = estimate.predictors.copy(), list(estimate.modes)

    def move(t: int, d: Floats) -> None:
        term = estimate.terms[t]
        codes = estimate.factors[term.factor].codes
        for m in set(estimate.design.owners[t]):
            etas[m] += at_levels(d, codes, estimate.design.columns(t, m))
        effects[t] = effects[t] + d

    if own:
        model = linearised(estimate)
        beta, moved = _deviation(model, 1.0, rng)
        etas[0] += model.specification.X @ beta
        for t, d in zip(own, moved, strict=True):
            move(t, d)
    elsewhere = [t for t in range(len(estimate.terms)) if t not in own]
    if elsewhere:
        covariances = generalised_conditional_covariances(estimate)
        for t in elsewhere:
            move(t, _normal(covariances[t][0], rng))
    etas, settled = metropolis(estimate, etas, effects, rng)
    if isinstance(estimate.family, Cumulative):
        # draws take all thresholds, the density those beside the response
        etas = np.vstack([etas[:1], predictors(estimate, "conditional")[1:]])
    return PosteriorDraw(etas, tuple(settled[t] for t in own), None)


def _deviation(
    model: Linearised, sigma: float, rng: np.random.Generator
) -> tuple[Floats, tuple[Floats, ...]]:
    """Draw the deviation of (beta, b) from their means given the data."""
    spec = model.specification
    if spec.residual is None:
        y0 = sigma / np.sqrt(model.weights) * rng.standard_normal(spec.n)
    else:
        own = model.theta[len(model.theta) - row_covariance(spec.residual).n_parameters :]
        y0 = sigma * Noise(spec.residual, spec.weights, spec.n, own).draw(rng)
    ratio = (sigma / model.sigma) ** 2
    drawn = []
    for term, psi in zip(spec.terms, model.covariances, strict=True):
        factor = spec.factors[term.factor]
        b0 = EffectDraws.of(factor.n_levels, ratio * psi, term.kernel).draw(rng)
        y0 = y0 + at_levels(b0, factor.codes, term.z)
        drawn.append(b0)
    offset = 0.0 if spec.offset is None else spec.offset
    point = model.point(y=y0 + offset)
    return -point.beta, tuple(b0 - hat for b0, hat in zip(drawn, point.modes, strict=True))


def _normal(covariances: Floats, rng: np.random.Generator) -> Floats:
    """Draw (q, r) values with these (q, r, r) covariances."""
    roots = square_root(covariances)
    drawn: Floats = np.einsum("qij,qj->qi", roots, rng.standard_normal(roots.shape[:2]))
    return drawn
