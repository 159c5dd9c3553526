"""Responses of the model beside the data: where each row falls among its own draws.

A scaled residual is the rank of a row's response among responses that the model draws
for it, ties broken at random, as a number between 0 and 1: uniform if the model holds,
for any family (Dunn & Smyth 1996, J. Comput. Graph. Stat. 5).

What the random effects are in the draws decides what is compared:

- ``"posterior"``: one draw of effects and coefficients from their distribution given
  the data. If the model holds, data and draws then have the same joint distribution, so
  that the residuals are uniform *and independent* (Johnson 2007, Bayesian Anal. 2; Yuan
  & Johnson 2012, Biometrics 68). In a linear model this is exact given theta; in a
  generalised one coefficients are drawn from the normal distribution at their estimates,
  and effects from their own given these, by Metropolis steps.
- ``"conditional"``: effects at their modes. Modes follow the data, so residuals are
  too near the middle, the more so the fewer rows a level has.
- ``"new"``: effects of new levels. Rows of one level move together, so tests that take
  rows for independent do not hold.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ranef.covariance.factor import square_root
from ranef.derivatives.generalised import generalised_conditional_covariances
from ranef.errors import ModelError
from ranef.families import CensoredGaussian, Cumulative
from ranef.inference.draws import generalised, sampling, simulation
from ranef.inference.draws.quantile_residuals import ranked
from ranef.inference.draws.simulation import EffectDraws
from ranef.inference.effects.linearised import Linearised, linearised, refuse_unordered
from ranef.inference.rows import fitted
from ranef.inference.rows.parts import linear_parts, own_rows
from ranef.inference.rows.targets import has_zero
from ranef.inference.rows.uncertainty import linear_predictors
from ranef.models.records import Estimate, GeneralisedEstimate
from ranef.models.rows import at_levels

__all__ = ["EFFECTS", "Posterior", "Simulated", "grouped", "posterior", "simulated"]

Floats = NDArray[np.float64]
Codes = NDArray[np.int_]

EFFECTS = ("posterior", "conditional", "new")
MOST_CELLS = 200_000_000


@dataclass(frozen=True, eq=False)
class Simulated:
    """Data, draws of the model, and where the data fall among them.

    Attributes
    ----------
    observed : (m,) float64 array
        One a row, or a group of rows.
    draws : (m, N) float64 array
    scaled : (m,) float64 array
        Uniform on (0, 1) if the model holds.
    predicted : (m,) float64 array
        Linear predictor that the draws were made with, of new levels that of typical
        ones; of groups the mean of it.
    """

    observed: Floats
    draws: Floats
    scaled: Floats
    predicted: Floats


@dataclass(frozen=True, eq=False)
class Posterior:
    """One draw of what the data leave open, theta given.

    Attributes
    ----------
    predictors : (M, n) float64 array
        Linear predictors, offsets included; of a linear model the mean.
    effects : tuple of (q, r) float64 arrays
        Of the terms of the mean.
    sigma : float
        Of a linear model; 1 in a generalised one.
    """

    predictors: Floats
    effects: tuple[Floats, ...]
    sigma: float


def simulated(
    estimate: Estimate,
    n: int,
    effects: str,
    rng: np.random.Generator,
    given: Posterior | None = None,
) -> Simulated:
    """Draw n responses for each row and rank the data among them.

    `given` is a draw of `posterior` to use, where there is one already.

    Raises
    ------
    ModelError
        Of multinomial and censored responses, and where memory does not suffice.
    """
    refuse_unordered(estimate, "responses that can be ranked")
    family = estimate.family if isinstance(estimate, GeneralisedEstimate) else None
    if isinstance(family, CensoredGaussian):
        raise ModelError(
            "a censored response is not known where it is censored, so that it has no rank "
            "among draws; fit.residuals('pearson') has the rows that were observed"
        )
    y = estimate.specification.y
    if len(y) * n > MOST_CELLS:
        raise ModelError(
            f"{n:,} draws of {len(y):,} rows would take {8e-9 * len(y) * n:.1f} GB; "
            f"take n={max(MOST_CELLS // len(y), 19)} or fewer"
        )
    if given is None:
        draws, predicted = _draws(estimate, n, effects, rng)
    else:
        draws, predicted = drawn_around(estimate, given, n, rng), given.predictors[0]
    return Simulated(y, draws, ranked(y, [draws], rng), predicted)


def grouped(found: Simulated, codes: Codes, rng: np.random.Generator) -> Simulated:
    """Add rows up by group (code -1: none), data and draws alike, and rank again."""
    count = int(codes.max(initial=-1)) + 1
    kept = codes >= 0
    order = np.argsort(codes[kept], kind="stable")
    ordered = codes[kept][order]
    starts = np.flatnonzero(np.diff(ordered, prepend=-1))
    size = np.bincount(codes[kept], minlength=count).astype(np.float64)
    y = np.bincount(codes[kept], found.observed[kept], count).astype(np.float64)
    predicted = np.bincount(codes[kept], found.predicted[kept], count) / size
    draws = np.add.reduceat(found.draws[kept][order], starts, axis=0)
    return Simulated(y, draws, ranked(y, [draws], rng), predicted)


def _draws(
    estimate: Estimate, n: int, effects: str, rng: np.random.Generator
) -> tuple[Floats, Floats]:
    """Draws (n_used, n) and the linear predictor (n_used,) they were made with."""
    if effects != "posterior":
        conditional = effects == "conditional"
        if isinstance(estimate, GeneralisedEstimate):
            parts = linear_parts(estimate, own_rows(estimate))
            eta = linear_predictors(estimate, parts[:1], conditional)[0]
            return generalised.simulate(estimate, n, rng, conditional=conditional), eta
        mean = fitted.fitted(estimate, conditional=conditional)
        return simulation.simulate(estimate, n, rng, conditional=conditional), mean
    given = posterior(estimate, rng)
    return drawn_around(estimate, given, n, rng), given.predictors[0]


def drawn_around(estimate: Estimate, given: Posterior, n: int, rng: np.random.Generator) -> Floats:
    """Draw n responses for each row at one draw of everything else, (n_used, n)."""
    out = np.empty((n, estimate.specification.n))
    if isinstance(estimate, GeneralisedEstimate):
        zero = has_zero(estimate)
        for row in out:
            row[:] = estimate.family.simulate(rng, given.predictors, estimate.extra, zero=zero)
        return out.T
    w = estimate.specification.weights
    sd = given.sigma / (1.0 if w is None else np.sqrt(w))
    for row in out:
        row[:] = given.predictors[0] + sd * rng.standard_normal(out.shape[1])
    return out.T


def posterior(estimate: Estimate, rng: np.random.Generator) -> Posterior:
    """Draw coefficients, random effects and sigma given the data and theta.

    By conditioning a draw of the model: with b0 and y0 = Z b0 + e0 drawn, and (beta0,
    b0_hat) their solution, (beta_hat - beta0, b_hat + b0 - b0_hat) is a draw given the
    data under a flat prior of beta (Hoffman & Ribak 1991, Astrophys. J. 380); sigma^2
    is r2 over a chi-squared value on n - p degrees of freedom.
    """
    if isinstance(estimate, GeneralisedEstimate):
        return _generalised_posterior(estimate, rng)
    model = linearised(estimate)
    spec, point = model.specification, model.point()
    sigma = float(np.sqrt(point.r2 / rng.chisquare(spec.n - spec.p)))
    beta, moved = _deviation(model, sigma, rng)
    b = tuple(mode + d for mode, d in zip(estimate.modes, moved, strict=True))
    mean = spec.X @ (estimate.beta + beta)
    if spec.offset is not None:
        mean = mean + spec.offset
    for term, effect in zip(spec.terms, b, strict=True):
        mean = mean + at_levels(effect, spec.factors[term.factor].codes, term.z)
    return Posterior(mean[None], b, sigma)


def _deviation(
    model: Linearised, sigma: float, rng: np.random.Generator
) -> tuple[Floats, tuple[Floats, ...]]:
    """Draw the deviation of (beta, b) from their means given the data."""
    spec = model.specification
    y0 = sigma / np.sqrt(model.weights) * rng.standard_normal(spec.n)
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


def _generalised_posterior(estimate: GeneralisedEstimate, rng: np.random.Generator) -> Posterior:
    """Draw around the modes and let the effects walk from there.

    The mean's part is drawn in its working linear model, others by level; the steps of
    `metropolis` then take the effects from the normal distribution to their own.
    """
    own = estimate.components[0].terms
    etas, effects = estimate.predictors.copy(), list(estimate.term_modes)

    def move(t: int, d: Floats) -> None:
        term = estimate.terms[t]
        codes = estimate.design.factors[term.factor].codes
        etas[estimate.design.owners[t]] += at_levels(d, codes, term.z)
        effects[t] = effects[t] + d

    if own.stop > own.start:
        model = linearised(estimate)
        beta, moved = _deviation(model, 1.0, rng)
        etas[0] += model.specification.X @ beta
        for t, d in zip(range(own.start, own.stop), moved, strict=True):
            move(t, d)
    elsewhere = [t for t in range(len(estimate.terms)) if not own.start <= t < own.stop]
    if elsewhere:
        given = generalised_conditional_covariances(estimate)
        for t in elsewhere:
            move(t, _drawn(given[t][0], rng))
    etas, settled = sampling.metropolis(estimate, etas, effects, rng)
    if isinstance(estimate.family, Cumulative):
        # draws take all thresholds, the density those beside the response
        parts = linear_parts(estimate, own_rows(estimate))
        etas = np.vstack([etas[:1], linear_predictors(estimate, parts, True)[1:]])
    return Posterior(etas, settled[own], 1.0)


def _drawn(covariances: Floats, rng: np.random.Generator) -> Floats:
    """Draw (q, r) values with these (q, r, r) covariances."""
    roots = square_root(covariances)
    drawn: Floats = np.einsum("qij,qj->qi", roots, rng.standard_normal(roots.shape[:2]))
    return drawn
