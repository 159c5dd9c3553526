"""Heritability: the share of the genetic effects in the variance that fixed effects leave."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from math import log, sqrt
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from ranef.covariance import structure_of
from ranef.design.terms import GroupingFactor, RandomTerm
from ranef.errors import ModelError
from ranef.models.noise import Noise
from ranef.models.records import Estimate, LinearEstimate, theta_slices
from ranef.questions.explained.partition import partition
from ranef.solve.point import linear_point

__all__ = ["Interval", "Shares", "delta_interval", "profile_interval", "shares"]

Floats = NDArray[np.float64]

HIGHEST = 1.0 - 1e-6
"""Share at which the profile ends; above it the criterion is taken to have its limit."""
SCALING = frozenset(("sd", "factor", "loading"))
"""Kinds of entries of theta that the size of the effects is proportional to."""
DIGITS = 1e-6
FIRST_STEP = 1e-3
IMPOSSIBLE = 1e12
"""The criterion where there is none."""
Interval = tuple[float, float]


@dataclass(frozen=True, eq=False)
class Shares:
    """Variances beside the fixed effects.

    Attributes
    ----------
    terms : (T,) float64 array
        Of each random term of the mean.
    residual : float
        Of an observation given all effects.
    chosen : tuple of int
        The terms whose share is asked for.
    """

    terms: Floats
    residual: float
    chosen: tuple[int, ...]

    @property
    def total(self) -> float:
        return float(self.terms.sum() + self.residual)

    @property
    def share(self) -> float:
        return float(self.terms[list(self.chosen)].sum()) / self.total


def shares(estimate: Estimate, chosen: Sequence[int], sample: bool, method: str) -> Shares:
    """Return the variances of the random terms and of an observation.

    A term counts by z' Psi z on average over the rows: a kernel's for a level whose own
    entry in it is 1 or, of the sample, by the variance that it makes expect among the rows.

    Parameters
    ----------
    chosen : sequence of int
    sample : bool
    method : str
        How an observation's variance is carried to the scale of the link, see `partition`.
    """
    parts = partition(estimate, method)
    return Shares(_variances(estimate, sample), parts.distribution, tuple(chosen))


def _variances(estimate: Estimate, sample: bool) -> Floats:
    spec = estimate.specification
    own = [estimate.covariances[t] for t in estimate.components[0].terms]
    return np.array(
        [
            _among_rows(term, spec.factors[term.factor], psi)
            if sample and term.kernel is not None
            else float(np.mean(np.einsum("ni,ij,nj->n", term.z, psi, term.z)))
            for term, psi in zip(spec.terms, own, strict=True)
        ]
    )


def _among_rows(term: RandomTerm, factor: GroupingFactor, psi: Floats) -> float:
    """Mean of the diagonal of C V C, V the covariance of the rows and C the centring."""
    n, codes, K = len(term.z), factor.codes, term.kernel
    assert K is not None
    diagonal = np.einsum("ni,ij,nj->n", term.z, psi, term.z) * np.diag(K)[codes]
    sums = np.zeros((factor.n_levels, term.size))
    np.add.at(sums, codes, term.z)
    return float(diagonal.mean() - np.einsum("ai,ij,bj,ab->", sums, psi, sums, K) / n**2)


def delta_interval(share: float, error: float, conf_level: float) -> Interval:
    """Wald's interval on the scale of the logit; NaN at the ends of the range."""
    if not (0.0 < share < 1.0 and error > 0.0):
        return float("nan"), float("nan")
    centre = log(share / (1.0 - share))
    half = NormalDist().inv_cdf((1.0 + conf_level) / 2.0) * error / (share * (1.0 - share))
    low, high = (1.0 / (1.0 + np.exp(-x)) for x in (centre - half, centre + half))
    return float(low), float(high)


def profile_interval(
    estimate: Estimate, chosen: Sequence[int], sample: bool, conf_level: float
) -> Interval:
    """Where the criterion of a linear model, all else optimised, has risen by a quantile.

    The share h depends on theta alone. At a given h the size of the chosen terms follows
    from all other entries of theta, s^2 = h / (1 - h) (v_others + v_residual) / v_chosen;
    the rest is optimised. An interval ends at 0 or 1 where the criterion does not rise so far.
    """
    profile = _Profile(estimate, chosen, sample)
    reach = NormalDist().inv_cdf((1.0 + conf_level) / 2.0) ** 2
    best, at = estimate.deviance, shares(estimate, chosen, sample, "auto").share
    bounds = []
    for end, bound in ((0.0, 0.0), (HIGHEST, 1.0)):
        profile.restart()
        bounds.append(_crossing(lambda h: profile.at(h) - best - reach, at, end, bound))
    return bounds[0], bounds[1]


def _crossing(excess: Callable[[float], float], start: float, end: float, bound: float) -> float:
    """Where the excess changes its sign between the estimate and an end; `bound` if nowhere.

    The end is come upon step by step, so that the optimum of the rest is followed.
    """
    inside, step = start, (end - start) / 8.0
    if step == 0.0:
        return bound
    for k in range(1, 9):
        outside = end if k == 8 else start + k * step
        if excess(outside) > 0.0:
            break
        inside = outside
    else:
        return bound
    from scipy.optimize import brentq

    return float(brentq(excess, inside, outside, xtol=DIGITS))


class _Profile:
    """The criterion of a linear model at a given share, all other parameters optimised."""

    def __init__(self, estimate: Estimate, chosen: Sequence[int], sample: bool) -> None:
        self.estimate, self.chosen, self.sample = estimate, list(chosen), sample
        self.slices = theta_slices(estimate)
        self.structures = [structure_of(term) for term in estimate.terms]
        self.scaling = np.zeros(len(estimate.theta), dtype=bool)
        for t in self.chosen:
            kinds = [p.kind in SCALING for p in self.structures[t].parameters()]
            self.scaling[self.slices[t]] = kinds
        only = np.count_nonzero(self.scaling) == 1
        self.rest = np.flatnonzero(~self.scaling if only else np.ones_like(self.scaling))
        self.restart()

    def restart(self) -> None:
        """Begin again at the estimate; of effects that are zero there, at a size of one."""
        theta = self.estimate.theta.copy()
        if not self._variances(theta)[self.chosen].sum() > 0.0:
            theta[self.scaling] = 1.0
        self.theta = theta

    def _variances(self, theta: Floats) -> Floats:
        psi = tuple(s.psi(theta[own]) for s, own in zip(self.structures, self.slices, strict=True))
        return _variances(replace(self.estimate, covariances=psi), self.sample)

    def _brought(self, theta: Floats, h: float) -> Floats:
        """Theta with the chosen terms sized so that their share is h."""
        v = self._variances(theta)
        chosen = float(v[self.chosen].sum())
        others = float(v.sum()) - chosen + self._residual(theta)
        factor = sqrt(h / (1.0 - h) * others / chosen)
        return np.where(self.scaling, factor * theta, theta)

    def _residual(self, theta: Floats) -> float:
        """Mean variance of the residuals, relative to sigma^2."""
        assert isinstance(self.estimate, LinearEstimate)
        spec = self.estimate.specification
        noise = Noise.of(self.estimate, spec.residual, spec.weights, spec.n, theta)
        return float(np.mean(noise.sds() ** 2))

    def _criterion(self, theta: Floats) -> float:
        own = self.estimate
        try:
            found = linear_point(own.specification, theta, reml=own.reml, path=own.optimum.path)
        except ModelError:  # no covariance there
            return IMPOSSIBLE
        return found.criterion if np.isfinite(found.criterion) else IMPOSSIBLE

    def at(self, h: float) -> float:
        """Minimise over the rest, from the last minimum on."""
        if not len(self.rest):
            return self._criterion(self._brought(self.theta, h))
        from scipy.optimize import minimize

        def free(x: Floats) -> float:
            theta = self.theta.copy()
            theta[self.rest] = x
            if not self._variances(theta)[self.chosen].sum() > 0.0:
                return IMPOSSIBLE
            return self._criterion(self._brought(theta, h))

        start = self.theta[self.rest]
        found = minimize(free, start, method="BFGS", options={"eps": FIRST_STEP * DIGITS**0.5})
        self.theta = self.theta.copy()
        self.theta[self.rest] = found.x
        return float(found.fun)
