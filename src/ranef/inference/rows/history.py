"""Levels with observations of their own that the fit has not seen, at its parameters.

The observations are added to those of the fit, and the random effects of all levels
are found anew with coefficients and covariance parameters held where the fit has them:
the conditional modes given all observations, by one factorisation and without a
search. A new level starts from the fitted distribution, N(0, Psi); a known one has its
earlier observations and these. In a linear model the modes are the best linear
predictors, exactly, whatever the terms, nested or crossed, weights and covariance
structures; in a generalised one they are the modes that the Laplace approximation
rests on. A level new to a kernel is independent of the others, its own entry 1.

Holding beta keeps what is said of one new level free of what is known of another, which
updating it would not.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ranef.derivatives import generalised, linear
from ranef.design.specification import Specification
from ranef.design.terms import GroupingFactor, RandomTerm
from ranef.errors import ModelError
from ranef.families import Cumulative
from ranef.inference.coefficients.covariance import share
from ranef.inference.coefficients.parameters import ParameterCovariance
from ranef.inference.rows.prediction import Prediction, Random, degrees, interval_of
from ranef.models.generalised import compose
from ranef.models.records import CONDITIONAL, GeneralisedEstimate, LinearEstimate
from ranef.models.rows import PartRows, Rows, at_levels
from ranef.solve import layout
from ranef.tables.accounting import Accounting

__all__ = [
    "Observed",
    "ObservedParts",
    "Updated",
    "predict_updated",
    "predicted_updated",
    "updated_generalised",
    "updated_linear",
]

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Observed:
    """Rows with a response.

    Attributes
    ----------
    rows : PartRows
        H rows; codes from n_levels on are new levels.
    y : (H,) float64 array
    labels : sequence of sequences
        By factor: names of its new levels.
    """

    rows: PartRows
    y: Floats
    labels: Sequence[Sequence[str]]


@dataclass(frozen=True, eq=False)
class ObservedParts:
    """Rows with a response, for every part of a model.

    Attributes
    ----------
    rows : Rows
    y : (H,) float64 array
    labels : dict of sequences of sequences
        By part and factor: names of new levels.
    """

    rows: Rows
    y: Floats
    labels: Mapping[str, Sequence[Sequence[str]]]

    def part(self, name: str = CONDITIONAL) -> Observed:
        """Return what one part has of them."""
        return Observed(self.rows.parts[name], self.y, self.labels[name])


@dataclass(frozen=True, eq=False)
class Updated:
    """A linear model's random effects given its observations and further ones.

    Attributes
    ----------
    estimate : LinearEstimate
        With X beta as an offset and no fixed effects.
    by_beta : tuple of (q, r, p) float64 arrays
        Derivatives of the modes with respect to beta.
    by_theta : tuple of (q, r, k) float64 arrays
        With respect to theta, beta held.
    """

    estimate: LinearEstimate
    by_beta: tuple[Floats, ...]
    by_theta: tuple[Floats, ...]


def updated_linear(estimate: LinearEstimate, observed: Observed) -> Updated:
    """Random effects of a linear model with further observations."""
    if estimate.specification.residual is not None:
        raise ModelError(
            "history= is not for models whose residuals have a structure: the new rows would be "
            "correlated with those of the fit; fit the model to all rows"
        )
    spec = _extended(estimate.specification, observed)
    held = _without_fixed(spec, estimate.beta)
    path = replace(estimate.optimum, path=layout.cheapest_path(held))
    start = LinearEstimate(
        parts={CONDITIONAL: held},
        reml=estimate.reml,
        coefficients=np.empty(0),
        theta=estimate.theta,
        sigma=estimate.sigma,
        covariances=estimate.covariances,
        modes=tuple(np.zeros((held.factors[t.factor].n_levels, t.size)) for t in held.terms),
        loglik=np.nan,
        optimum=path,
        coefficient_vcov=np.empty((0, 0)),
    )
    offset = np.zeros(held.n) if held.offset is None else held.offset
    found, _ = linear.modes_of(start, np.vstack([held.y - offset, spec.X.T]))
    now = replace(start, modes=tuple(np.ascontiguousarray(m[0]) for m in found))
    _, by_theta = linear.effect_derivatives(now)
    by_beta = tuple(-np.moveaxis(m[1:], 0, 2) for m in found)
    return Updated(now, by_beta, by_theta)


def predict_updated(
    estimate: LinearEstimate,
    updated: Updated,
    rows: PartRows,
    *,
    conf_level: float,
    new: bool,
    known: ParameterCovariance,
) -> Prediction:
    """Predict rows of levels with further observations, and say how well.

    Given the parameters the variance of z'b is z' C z; beta_hat and theta_hat, which
    are those of the fit, move the prediction x'beta + z'b(beta, theta) by (x + z'db)
    and, beta_hat moving with theta_hat, by d. In the degrees of freedom x + z'db counts
    as known.
    """
    random = rows.random or ()
    value = predicted_updated(estimate, updated, rows)
    empty = np.empty((len(rows.X), 0))
    given = linear.prediction_variance(updated.estimate, empty, list(random))
    if new:
        given = given + estimate.sigma**2 / (1.0 if rows.weights is None else rows.weights)
    J, d = rows.X.copy(), np.zeros((len(rows.X), len(estimate.theta)))
    for codes, z, by_beta, by_theta in _paired(random, updated):
        J += at_levels(by_beta, codes, z)
        d += at_levels(by_theta, codes, z)
    d += J @ linear.effect_derivatives(estimate)[0]
    given = given + np.sum(J @ estimate.coefficient_vcov * J, axis=1)
    d = d[:, known.free]
    moved = np.sum(d @ known.covariance[:-1, :-1] * d, axis=1)
    slopes = linear.prediction_variance_derivatives(updated.estimate, empty, list(random))
    by_vcov = [np.sum(J @ one * J, axis=1) for one in known.vcov_gradient[:-1]]
    slopes = slopes[:, known.free] + np.column_stack(by_vcov or [np.empty((len(J), 0))])
    df = degrees(estimate, known, slopes, given)
    return interval_of(value, given + moved, df, conf_level)


def predicted_updated(estimate: LinearEstimate, updated: Updated, rows: PartRows) -> Floats:
    """Values (N,) predicted."""
    value = rows.X @ estimate.beta
    if rows.offset is not None:
        value = value + rows.offset
    for (codes, z), b in zip(rows.random or (), updated.estimate.modes, strict=True):
        value = value + at_levels(b, codes, z)
    return value


def _paired(
    random: Random, updated: Updated
) -> Sequence[tuple[NDArray[np.int32], Floats, Floats, Floats]]:
    both = zip(random, updated.by_beta, updated.by_theta, strict=True)
    return [(codes, z, b, t) for (codes, z), b, t in both]


def updated_generalised(
    estimate: GeneralisedEstimate, observed: ObservedParts
) -> GeneralisedEstimate:
    """Return the estimate with the modes that further observations give.

    Coefficients, theta and their covariance are those of the fit.
    """
    parts = {}
    for name, spec in estimate.parts.items():
        parts[name] = _extended(spec, observed.part(name))
    extra = _extended_extra(estimate, observed)
    plan = compose(
        parts,
        estimate.family,
        extra,
        priors=estimate.priors,
        fixed=estimate.fixed,
        equal=estimate.equal,
    )
    path = replace(estimate.optimum, path=layout.cheapest_path(plan.design))
    held = replace(
        estimate,
        parts=parts,
        composition=plan,
        extra=plan.design.extra,
        quadrature=1,
        optimum=path,
    )
    found = generalised.modes_given(held)
    now = replace(
        held,
        modes=found.modes,
        predictors=found.predictors,
        coefficient_vcov=found.coefficient_vcov,
    )
    # theirs, of the fit, not those of a fit to all rows
    share(estimate, now)
    return now


def _extended_extra(estimate: GeneralisedEstimate, observed: ObservedParts) -> Floats | None:
    if estimate.extra is None:
        return None
    extra = observed.rows.extra
    if extra is None:
        if not isinstance(estimate.family, Cumulative):
            raise ModelError(
                "the history has no numbers of trials; give the column that the fit read them from"
            )
        extra = np.full(len(observed.y), estimate.extra[0])
    return np.concatenate([estimate.extra, extra])


def _extended(spec: Specification, observed: Observed) -> Specification:
    """Return the rows of the fit and further ones."""
    rows = observed.rows
    H = len(observed.y)
    random = rows.random or ()
    factors = []
    for f, factor in enumerate(spec.factors):
        term = next(t for t, one in enumerate(spec.terms) if one.factor == f)
        codes = np.concatenate([factor.codes, random[term][0]]).astype(np.int32)
        levels = [*factor.levels, *observed.labels[f]]
        factors.append(GroupingFactor(factor.name, factor.columns, codes, levels))
    terms = tuple(
        _longer(term, z, len(observed.labels[term.factor]))
        for term, (_, z) in zip(spec.terms, random, strict=True)
    )
    return replace(
        spec,
        y=np.concatenate([spec.y, observed.y]),
        X=np.ascontiguousarray(np.vstack([spec.X, rows.X])),
        weights=_stacked(spec.weights, rows.weights, spec.n, H, 1.0),
        offset=_stacked(spec.offset, rows.offset, spec.n, H, 0.0),
        terms=terms,
        factors=tuple(factors),
        accounting=Accounting(spec.n + H),
    )


def _longer(term: RandomTerm, z: Floats, added: int) -> RandomTerm:
    kernel = term.kernel
    if kernel is not None and added:
        q = len(kernel)
        kernel = np.eye(q + added)
        kernel[:q, :q] = term.kernel
    return replace(term, z=np.ascontiguousarray(np.vstack([term.z, z])), kernel=kernel)


def _stacked(
    own: Floats | None, more: Floats | None, n: int, H: int, default: float
) -> Floats | None:
    if own is None and more is None:
        return None
    first = np.full(n, default) if own is None else own
    return np.concatenate([first, np.full(H, default) if more is None else more])


def _without_fixed(spec: Specification, beta: Floats) -> Specification:
    offset = spec.X @ beta
    if spec.offset is not None:
        offset = offset + spec.offset
    return replace(spec, X=np.empty((spec.n, 0)), names=(), offset=offset)
