"""A mixed model as the linear model that it is, or that it is locally.

A generalised model at its modes is a linear one in the working response
z = eta + u / w with weights w, u and -w the derivatives of a row's log density in
the predictor of the mean (McCullagh & Nelder 1989, section 2.5; of a mixed model
Breslow & Clayton 1993, J. Am. Stat. Assoc. 88): theta absolute, sigma 1. Leverage,
one-step influence and posterior draws are those of this linear model.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ranef.design.specification import Specification
from ranef.errors import ModelError
from ranef.families import CensoredGaussian, Cumulative, Multinomial
from ranef.inference.rows.targets import has_zero
from ranef.models.records import Estimate, GeneralisedEstimate, LinearEstimate, theta_slices
from ranef.solve.point import LinearPoint, linear_point, stepped_point

__all__ = ["Linearised", "is_constrained", "itself", "linearised", "refuse_unordered"]

Floats = NDArray[np.float64]

EXPECTED = ("gaussian", "binomial", "poisson", "Gamma", "inverse.gaussian", "tweedie")
LEAST_WEIGHT = 1e-4


@dataclass(frozen=True, eq=False)
class Linearised:
    """A linear mixed model at its theta.

    Attributes
    ----------
    specification : Specification
        Response, weights and random terms of the linear model.
    theta : (k,) float64 array
        Of its terms, relative to sigma.
    sigma : float
    known_sigma : bool
        True where sigma is 1 by definition.
    reml : bool
    path : str or None
    ranks : mapping
        Rank of each term that lies on a face.
    covariances : tuple of (r, r) float64 arrays
        Absolute.
    """

    specification: Specification
    theta: Floats
    sigma: float
    known_sigma: bool
    reml: bool
    path: str | None
    ranks: Mapping[int, int]
    covariances: tuple[Floats, ...]

    @property
    def weights(self) -> Floats:
        """Weights of the rows, (n,)."""
        w = self.specification.weights
        return np.ones(self.specification.n) if w is None else w

    def point(self, spec: Specification | None = None, y: Floats | None = None) -> LinearPoint:
        """Solve it at its theta, for other rows or another response."""
        path = self.path if spec is None else None
        return linear_point(
            spec or self.specification,
            self.theta,
            reml=self.reml,
            path=path,
            ranks=self.ranks,
            y=y,
            n_jobs=None if spec is None else 1,
        )

    def stepped(self, spec: Specification) -> LinearPoint:
        """Solve it for other rows, one Newton step of theta further."""
        return stepped_point(spec, self.theta, reml=self.reml, ranks=self.ranks, n_jobs=1)

    def vcov_scale(self, point: LinearPoint) -> float:
        """The residual variance at a point."""
        return 1.0 if self.known_sigma else point.r2 / point.degrees


def itself(estimate: LinearEstimate) -> Linearised:
    """Return a linear estimate in this form."""
    return Linearised(
        estimate.specification,
        estimate.theta,
        estimate.sigma,
        False,
        estimate.reml,
        estimate.optimum.path,
        estimate.optimum.ranks,
        estimate.covariances,
    )


def linearised(estimate: GeneralisedEstimate) -> Linearised:
    """Return the linear model that a generalised one works with at its modes.

    Raises
    ------
    ModelError
        Of a multinomial model, and where other parts have random effects and the mean has none.
    """
    refuse_unordered(estimate, "one linear predictor for the mean")
    spec = estimate.specification
    if estimate.terms and not spec.terms:
        raise ModelError(
            "the mean of this model has no random effects (they stand in another part), so it "
            "has no working linear mixed model; this question is about the random effects of "
            "the mean"
        )
    own = estimate.components[0].terms
    slices = theta_slices(estimate)
    theta = np.concatenate([estimate.theta[:0], *(estimate.theta[slices[t]] for t in own)])
    z, w = _working(estimate)
    ranks = estimate.optimum.ranks
    return Linearised(
        replace(_constrained(estimate, spec), y=z, weights=w),
        theta,
        1.0,
        True,
        True,
        None,
        {t: rank for t, rank in ranks.items() if t in own},
        tuple(estimate.covariances[t] for t in own),
    )


def is_constrained(estimate: Estimate) -> bool:
    """Tell whether parameters are held or equal by request."""
    return bool(estimate.fixed or estimate.equal)


def _constrained(estimate: GeneralisedEstimate, spec: Specification) -> Specification:
    """Columns of the coefficients that are free; those that are held go into the offset."""
    if not is_constrained(estimate) or isinstance(estimate.family, Cumulative):
        return spec
    free = estimate.design.constraints.free(len(estimate.coefficients))
    own = estimate.components[0].coefficients
    M, c = free.M[own], free.c[own]
    X = spec.X @ M[:, M.any(axis=0)]
    offset = spec.X @ c + (0.0 if spec.offset is None else spec.offset)
    names = tuple(f"free {j}" for j in range(X.shape[1]))
    return replace(spec, X=X, names=names, offset=offset)


def refuse_unordered(estimate: Estimate, wants: str) -> None:
    """Refuse families whose response has no order."""
    if isinstance(estimate.family, Multinomial):
        raise ModelError(
            "a multinomial response has categories without an order and a linear predictor for "
            f"each, but this needs {wants}; fit the comparison of two categories as a binomial "
            "model to ask it there"
        )


def _working(estimate: GeneralisedEstimate) -> tuple[Floats, Floats]:
    """Working response and weights (n,) of the mean's predictor.

    Expected weights of exponential families, observed ones of the others; those that
    are not positive are raised to a small value. Thresholds of ordered categories stay
    where they are, but for a common shift.
    """
    family, spec = estimate.family, estimate.specification
    zero = has_zero(estimate)
    etas = np.ascontiguousarray(estimate.predictors)
    core = family.core(zero) if not isinstance(family, Cumulative) else estimate.design.family
    found = core.evaluate(spec.y, estimate.extra, etas, 2, [0])
    u, w = found[1], -found[2]
    if family.name in EXPECTED and not zero and not isinstance(family, CensoredGaussian):
        slope = family.inverse_link_derivatives(etas[0])[0]
        trials = estimate.extra if family.name == "binomial" else None
        many = 1.0 if trials is None else trials
        with np.errstate(divide="ignore", invalid="ignore"):
            w = (many * slope) ** 2 / family.variance(etas, trials)
    if spec.weights is not None:
        u, w = u * spec.weights, w * spec.weights
    w = np.where(np.isfinite(w), w, 0.0)
    usual = float(np.mean(w[w > 0])) if np.any(w > 0) else 1.0
    w = np.maximum(w, LEAST_WEIGHT * usual)
    return etas[0] + np.where(np.isfinite(u), u, 0.0) / w, w
