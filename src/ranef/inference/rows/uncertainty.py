"""How well linear predictors are known: derivatives, variances, what random effects add.

Weights (M, N) stand for one function of each row: its derivatives with respect to
the M linear predictors, so that the variance of sum_a w_a eta_a is that of the
function by the delta method.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from ranef.covariance import structure_of
from ranef.derivatives import generalised
from ranef.inference.coefficients.covariance import joint_covariance
from ranef.inference.rows.integration import Expectation, Spread
from ranef.inference.rows.parts import LinearPart
from ranef.models.records import Estimate, GeneralisedEstimate, theta_slices
from ranef.models.rows import at_levels

__all__ = [
    "covariance_gradient",
    "error_variance",
    "expectation_gradient",
    "gradient",
    "in_both",
    "linear_predictors",
    "loose_shapes",
    "mode_derivatives",
    "random_spread",
    "random_variance",
    "random_variance_gradient",
    "tied_pairs",
]

Floats = NDArray[np.float64]
Parts = Sequence[LinearPart]

LOOSE = 9.0
"""Variance, on the scale of a logarithm: a factor of 20 for each standard error."""


def loose_shapes(estimate: GeneralisedEstimate, covariance: Floats) -> NDArray[np.bool_]:
    """Which coefficients (P,) belong to a dispersion or shape that the data leave open.

    At an end of its family's range, where the likelihood is flat, the normal distribution of
    a shape's estimate reaches as far into what the data exclude as into what they do not; to be
    drawn from it is worse than to be held at the estimate.
    """
    out = np.zeros(len(estimate.coefficients), dtype=np.bool_)
    for part in estimate.components:
        if part.name in ("conditional", "zero", "threshold"):
            continue
        own = np.arange(part.coefficients.start, part.coefficients.stop)
        out[own] = np.isin(own, estimate.runaway)
        if part.specification is None:
            out[own] |= np.diag(covariance)[own] > LOOSE
    return out


def linear_predictors(estimate: Estimate, parts: Parts, conditional: bool) -> Floats:
    """Return the predictors (M, N), with the modes of the random effects or without."""
    out = np.empty((len(parts), len(parts[0].X)))
    for eta, part in zip(out, parts, strict=True):
        eta[:] = part.X @ estimate.coefficients[part.columns]
        if part.offset is not None:
            eta += part.offset
        for term, codes, z in part.random if conditional else ():
            eta += at_levels(estimate.modes[term], codes, z)
    return out


def random_variance(estimate: GeneralisedEstimate, parts: Parts) -> Floats:
    """Variance (M, N) that the random effects of new levels give to each predictor.

    The sum of z' Psi z over a predictor's terms, which are independent; a term with a
    kernel counts as for a level whose own entry in it is 1.
    """
    out = np.zeros((len(parts), len(parts[0].X)))
    for v, part in zip(out, parts, strict=True):
        for term, _, z in part.random:
            v += np.einsum("ni,ij,nj->n", z, estimate.covariances[term], z)
    return out


def random_spread(estimate: GeneralisedEstimate, parts: Parts) -> Spread:
    """The distribution that random effects of new levels give to the predictors."""
    covariances = {}
    for a, b in tied_pairs(parts):
        covariances[a, b] = np.sum(
            [
                np.einsum("ni,ij,nj->n", z, estimate.covariances[term], other)
                for term, z, other in in_both(parts[a], parts[b])
            ],
            axis=0,
        )
    return Spread(random_variance(estimate, parts), covariances)


def tied_pairs(parts: Parts) -> list[tuple[int, int]]:
    """Pairs of predictors that share a random term, whose effects a label ties."""
    own = [{term for term, _, _ in part.random} for part in parts]
    pairs = itertools.combinations(range(len(parts)), 2)
    return [(a, b) for a, b in pairs if own[a] & own[b]]


def in_both(one: LinearPart, other: LinearPart) -> list[tuple[int, Floats, Floats]]:
    """The terms that two predictors share, with their columns in each."""
    there = {term: z for term, _, z in other.random}
    return [(term, z, there[term]) for term, _, z in one.random if term in there]


def covariance_gradient(estimate: GeneralisedEstimate, parts: Parts, weights: Floats) -> Floats:
    """Derivatives (N, P + k) of the weighted sum of the covariances of pairs of predictors.

    weights : (M, M, N), above the diagonal.
    """
    P, own = len(estimate.coefficients), theta_slices(estimate)
    out = np.zeros((weights.shape[2], P + len(estimate.theta)))
    for a, b in tied_pairs(parts):
        for term, z, other in in_both(parts[a], parts[b]):
            place = own[term]
            slopes = structure_of(estimate.terms[term]).derivatives(estimate.theta[place])
            forms = np.einsum("ni,kij,nj->nk", z, slopes, other)
            out[:, P + place.start : P + place.stop] += weights[a, b][:, None] * forms
    return np.where(np.isfinite(out), out, 0.0)


def random_variance_gradient(
    estimate: GeneralisedEstimate, parts: Parts, weights: Floats
) -> Floats:
    """Derivatives (N, P + k) of the weighted sum of the `random_variance` of the predictors.

    Zero where Psi has none: on a face, where theta is held.
    """
    P, own = len(estimate.coefficients), theta_slices(estimate)
    out = np.zeros((weights.shape[1], P + len(estimate.theta)))
    for w, part in zip(weights, parts, strict=True):
        for term, _, z in part.random:
            place = own[term]
            slopes = structure_of(estimate.terms[term]).derivatives(estimate.theta[place])
            forms = np.einsum("ni,kij,nj->nk", z, slopes, z)
            out[:, P + place.start : P + place.stop] += w[:, None] * forms
    return np.where(np.isfinite(out), out, 0.0)


def gradient(
    estimate: GeneralisedEstimate, parts: Parts, weights: Floats, conditional: bool
) -> Floats:
    """Derivatives (N, P + k) of sum_a w_a eta_a with respect to coefficients and theta.

    With `conditional` those of the modes count, which move with both.
    """
    out = np.zeros((weights.shape[1], len(estimate.coefficients) + len(estimate.theta)))
    for w, part in zip(weights, parts, strict=True):
        out[:, part.columns] += w[:, None] * part.X
        for term, codes, z in part.random if conditional else ():
            out += at_levels(mode_derivatives(estimate)[term], codes, w[:, None] * z)
    return out


def expectation_gradient(
    estimate: GeneralisedEstimate, parts: Parts, found: Expectation, k: int
) -> Floats:
    """Derivatives (N, P + k) of the k-th value, the modes held, in coefficients and theta."""
    J = gradient(estimate, parts, np.ascontiguousarray(found.by_mean[:, :, k]), False)
    J += random_variance_gradient(estimate, parts, found.by_variance[:, :, k])
    if found.by_covariance is not None:
        J += covariance_gradient(estimate, parts, found.by_covariance[:, :, :, k])
    return J


def error_variance(
    estimate: GeneralisedEstimate, parts: Parts, weights: Floats, conditional: bool
) -> Floats:
    """Variance (N,) of the error of sum_a w_a eta_a.

    Without the random effects J V J', V the joint covariance of coefficients and
    theta. With them (Kass & Steffey 1989, J. Am. Stat. Assoc. 84: the variance given
    the parameters, and that of the modes as the parameters vary)

        z' C z + J V J',

    C the covariance of the effects given data and parameters, J with the movement
    of the modes. The solver gives z' C z + J_b V_b J_b', V_b the covariance of the
    coefficients given theta. An unseen level adds z' Psi z.
    """
    J = gradient(estimate, parts, weights, conditional)
    joint: Floats = np.sum(J @ joint_covariance(estimate) * J, axis=1)
    if not conditional:
        return joint
    P = len(estimate.coefficients)
    X = np.zeros((weights.shape[1], P))
    random: list[tuple[NDArray[np.int32], Floats] | None] = [None] * len(estimate.terms)
    for w, part in zip(weights, parts, strict=True):
        X[:, part.columns] += w[:, None] * part.X
        for term, codes, z in part.random:
            here, known = w[:, None] * z, random[term]  # a tied term comes with several parts
            random[term] = (codes, np.ascontiguousarray(here if known is None else known[1] + here))
    given = generalised.generalised_prediction_variance(estimate, X, random)
    fixed = J[:, :P]
    return np.asarray(given + joint - np.sum(fixed @ estimate.coefficient_vcov * fixed, axis=1))


_moved: WeakKeyDictionary[GeneralisedEstimate, tuple[Floats, ...]] = WeakKeyDictionary()


def mode_derivatives(estimate: GeneralisedEstimate) -> tuple[Floats, ...]:
    """Return `solve.mode_derivatives`, made once an estimate."""
    if estimate not in _moved:
        _moved[estimate] = generalised.mode_derivatives(estimate)
    return _moved[estimate]
