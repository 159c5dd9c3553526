"""Leverage of the rows: diagonals of the matrices that turn responses into fitted values.

With H = V / sigma^2 and W the weights, the conditional fit y_hat = X beta + Z b is
linear in y. Its hat value is w_i x_i' C x_i, with x_i the row of [X Z] and C the
covariance of (beta, b) over sigma^2; their sum is the effective number of parameters
of Hodges & Sargent (2001, Biometrika 88). Its marginal part is that of the
generalised least squares fit X beta (Demidenko & Stukel 2005, Stat. Med. 24). Where the
residuals have a structure see `solve.structured.hat`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ranef.inference.effects.combinations import Combinations
from ranef.inference.effects.linearised import Linearised
from ranef.inference.protocol import Inference
from ranef.models.records import Estimate, columns_in
from ranef.models.rows import at_levels
from ranef.solve.point import linear_point
from ranef.solve.structured.hat import rows_at

__all__ = ["HatValues", "inverse_times", "leverage", "projected"]

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class HatValues:
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


def leverage(model: Inference, working: Linearised | None = None) -> HatValues:
    """Return the hat values of a fit, of a generalised one in its working linear model."""
    working = model.linearised() if working is None else working
    spec = working.specification
    if spec.residual is not None:
        rows = rows_at(spec, working.theta, working.reml)
        return HatValues(rows.hat, rows.fixed, rows.hat - rows.fixed)
    variance = model.prediction_variance(_conditional_means(model.estimate))
    hat = working.weights * variance / working.sigma**2
    HX = inverse_times(working, spec.X)
    fixed = np.einsum("ni,ij,nj->n", spec.X, working.point().C, HX)
    return HatValues(hat, fixed, hat - fixed)


def _conditional_means(estimate: Estimate) -> Combinations:
    """Linear predictor of the mean of each row, random effects included."""
    part, spec = estimate.components[0], estimate.specification
    X = np.zeros((spec.n, len(estimate.coefficients)))
    X[:, part.coefficients] = spec.X[:, [spec.names.index(name) for name in part.names]]
    random: list[tuple[NDArray[np.int32], Floats] | None] = [None] * len(estimate.terms)
    for t in part.terms:
        term = estimate.terms[t]
        z = columns_in(estimate, t, part)
        random[t] = (estimate.factors[term.factor].codes, z)
    return Combinations(X, tuple(random))


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
