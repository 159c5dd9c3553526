"""Parameters drawn from the normal distribution of their estimates."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ranef.covariance import structure_of
from ranef.covariance.factor import square_root
from ranef.derivatives import linear
from ranef.errors import ModelError
from ranef.inference.coefficients.covariance import joint_covariance
from ranef.inference.coefficients.parameters import ParameterCovariance
from ranef.inference.draws.simulation import DrawnParameters, drawn_theta
from ranef.inference.effects.posterior import effect_posterior
from ranef.inference.rows.uncertainty import loose_shapes, mode_derivatives
from ranef.models.records import GeneralisedEstimate, LinearEstimate
from ranef.solve.structured.rows import row_covariance

__all__ = ["GeneralisedDraw", "generalised_draws", "linear_draws"]

Floats = NDArray[np.float64]


def linear_draws(
    estimate: LinearEstimate, known: ParameterCovariance
) -> Callable[[np.random.Generator], DrawnParameters]:
    """Return a function that draws the parameters of a linear model.

    (theta, log sigma) from the normal distribution of their estimates, theta on the
    unconstrained scale; beta given theta from N(beta_hat(theta), vcov). The modes move
    with all of them, to first order.
    """
    spec = estimate.specification
    by_beta, by_mode = linear.effect_derivatives(estimate)
    root_theta, root_beta = square_root(known.covariance), square_root(estimate.coefficient_vcov)
    rows = None if spec.residual is None else row_covariance(spec.residual)
    G: Sequence[Floats] = []
    if spec.terms:
        posterior = effect_posterior(estimate)
        G = posterior.split(-posterior.by_predictor(spec.X))

    def draw(rng: np.random.Generator) -> DrawnParameters:
        step = root_theta @ rng.standard_normal(len(root_theta))
        theta = np.zeros(len(estimate.theta))
        theta[known.free] = step[:-1]
        given = root_beta @ rng.standard_normal(spec.p)
        sigma = estimate.sigma * float(np.exp(step[-1] / estimate.sigma))
        parts = drawn_theta(spec.terms, estimate.theta, theta)
        covariances = [
            sigma**2 * structure_of(term).psi(part)
            for term, part in zip(spec.terms, parts, strict=True)
        ]
        modes = [
            b + d @ theta + np.moveaxis(g, 0, 2) @ given
            for b, d, g in zip(estimate.modes, by_mode, G, strict=True)
        ]
        beta = estimate.beta + by_beta @ theta + given
        own = None
        if rows is not None:
            k = rows.n_parameters
            first = len(theta) - k
            own = rows.moved(estimate.theta[first:], theta[first:])
        return DrawnParameters(beta, sigma, covariances, modes, own)

    return draw


@dataclass(frozen=True, eq=False)
class GeneralisedDraw:
    """Parameters of a generalised model as one response is drawn from.

    Attributes
    ----------
    coefficients : (P,) float64 array
    covariances : list of (r, r) float64 arrays
    modes : list of (q, r) float64 arrays
    """

    coefficients: Floats
    covariances: list[Floats]
    modes: list[Floats]


def generalised_draws(
    estimate: GeneralisedEstimate,
) -> Callable[[np.random.Generator], GeneralisedDraw]:
    """Return a function that draws coefficients and theta from their joint distribution."""
    covariance = joint_covariance(estimate).copy()
    if np.isnan(covariance).any():
        raise ModelError(
            "the parameters cannot be drawn: their estimates have no covariance matrix, since the "
            "matrix of second derivatives is not positive definite. parameters='fixed' draws "
            "responses at the estimates"
        )
    held = np.flatnonzero(loose_shapes(estimate, covariance))
    covariance[held] = covariance[:, held] = 0.0
    root = square_root(covariance)
    moved = mode_derivatives(estimate)
    P = len(estimate.coefficients)

    def draw(rng: np.random.Generator) -> GeneralisedDraw:
        step = root @ rng.standard_normal(len(root))
        parts = drawn_theta(estimate.terms, estimate.theta, step[P:])
        return GeneralisedDraw(
            estimate.coefficients + step[:P],
            [structure_of(t).psi(part) for t, part in zip(estimate.terms, parts, strict=True)],
            [b + d @ step for b, d in zip(estimate.modes, moved, strict=True)],
        )

    return draw
