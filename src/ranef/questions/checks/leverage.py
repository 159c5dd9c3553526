"""Leverage of the rows: diagonals of the matrices that turn responses into fitted values.

With H = V / sigma^2 and W the weights, the conditional fit y_hat = X beta + Z b is
linear in y. Its hat value is w_i x_i' C x_i, with x_i the row of [X Z] and C the
covariance of (beta, b) over sigma^2; their sum is the effective number of parameters
of Hodges & Sargent (2001, Biometrika 88). Its marginal part is that of the
generalised least squares fit X beta (Demidenko & Stukel 2005, Stat. Med. 24).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ranef.derivatives import generalised, linear
from ranef.inference.effects.linearised import Linearised, linearised
from ranef.inference.rows.parts import linear_parts, own_rows
from ranef.models.records import Estimate, GeneralisedEstimate
from ranef.models.rows import at_levels
from ranef.solve.point import linear_point

__all__ = ["Leverage", "inverse_times", "leverage", "projected"]

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Leverage:
    """Hat values of the rows.

    Attributes
    ----------
    hat : (n,) float64 array
        Of the conditional fit.
    fixed : (n,) float64 array
        Its part by the fixed effects alone (generalised least squares).
    random : (n,) float64 array
        The rest, by the random effects.
    """

    hat: Floats
    fixed: Floats
    random: Floats

    @property
    def effective(self) -> float:
        """Effective number of parameters of the conditional fit."""
        return float(self.hat.sum())


def leverage(estimate: Estimate, model: Linearised | None = None) -> Leverage:
    """Return the hat values of a fit, of a generalised one in its working linear model."""
    model = linearised(estimate) if model is None else model
    hat = _conditional(estimate, model)
    spec = model.specification
    HX = inverse_times(model, spec.X)
    C = model.point().C
    fixed = np.einsum("ni,ij,nj->n", spec.X, C, HX)
    return Leverage(hat, fixed, hat - fixed)


def _conditional(estimate: Estimate, model: Linearised) -> Floats:
    spec = model.specification
    if not isinstance(estimate, GeneralisedEstimate):
        random = [(spec.factors[t.factor].codes, t.z) for t in spec.terms]
        variance = linear.prediction_variance(estimate, spec.X, random)
        return np.asarray(model.weights * variance / estimate.sigma**2)
    part = linear_parts(estimate, own_rows(estimate))[0]
    X = np.zeros((spec.n, len(estimate.coefficients)))
    X[:, part.columns] = part.X
    own: list[tuple[NDArray[np.int32], Floats] | None] = [None] * len(estimate.terms)
    for term, codes, z in part.random:
        own[term] = (codes, z)
    variance = generalised.generalised_prediction_variance(estimate, X, own)
    return np.asarray(model.weights * variance)


def inverse_times(model: Linearised, columns: Floats) -> Floats:
    """H^-1 times columns (n, k): w (c - Z b(c)), b(c) the modes for the response c.

    The model without fixed effects is solved for each column as a response.
    """
    spec = model.specification
    bare = replace(spec, X=np.empty((spec.n, 0)), names=(), offset=None)
    out = np.empty_like(columns)
    for j, column in enumerate(columns.T):
        if not np.any(column):
            out[:, j] = 0.0
            continue
        point = linear_point(bare, model.theta, reml=False, ranks=model.ranks, y=column)
        out[:, j] = column - _random_part(model, point.modes)
    return np.asarray(model.weights[:, None] * out)


def projected(model: Linearised) -> Floats:
    """P y times sigma^2: w (y - X beta - Z b), (n,)."""
    spec, point = model.specification, model.point()
    fitted = spec.X @ point.beta + _random_part(model, point.modes)
    if spec.offset is not None:
        fitted = fitted + spec.offset
    return np.asarray(model.weights * (spec.y - fitted))


def _random_part(model: Linearised, modes: tuple[Floats, ...]) -> Floats:
    spec = model.specification
    total = np.zeros(spec.n)
    for term, b in zip(spec.terms, modes, strict=True):
        total += at_levels(b, spec.factors[term.factor].codes, term.z)
    return total
