"""The next prompt given those before: mixtures over what is known of a person.

Given the effects, D_t has mean a D_s + inputs and variance s_t^2, s the last prompt with an
outcome and a = phi^(t - s); the effects are averaged over a person's nodes.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ranef.fields.dynamic.parameters import phi_of, size_of
from ranef.fields.dynamic.problem import Posterior, Problem
from ranef.fields.dynamic.reading import CONDITIONAL, DISPERSION, INERTIA, INPUTS

__all__ = ["Forecast", "Targets", "ahead", "carried", "normal_mixture"]

Floats = NDArray[np.float64]
Ints = NDArray[np.intp]
TERMS = 2000
CELLS = 4_000_000


@dataclass(frozen=True, eq=False)
class Targets:
    """Rows to be predicted.

    Attributes
    ----------
    person : (m,) int array
        Of the posterior.
    last : (m,) int array
        Row of the problem with the last outcome before in the series; -1 where none is.
    gap : (m,) float64 array
        Time since then; 0 where none is.
    X : dict of (m, p) float64 arrays
    zm, zi, zp, zs : (m, .) float64 arrays
    """

    person: Ints
    last: Ints
    gap: Floats
    X: dict[str, Floats]
    zm: Floats
    zi: Floats
    zp: Floats
    zs: Floats


@dataclass(frozen=True, eq=False)
class Forecast:
    """Means and variances of a row at each node, with the node's share, (m, K) each.

    `noise` is the part of the variance that is new at the row.
    """

    share: Floats
    mean: Floats
    variance: Floats
    noise: Floats

    @property
    def estimate(self) -> Floats:
        """The mean."""
        return np.asarray((self.share * self.mean).sum(axis=1))

    def expected(self) -> Forecast:
        """The same of the row's mean, without what is new at it."""
        return replace(self, variance=self.variance - self.noise, noise=np.zeros_like(self.noise))

    @property
    def spread(self) -> Floats:
        """The standard deviation of what is to be seen."""
        second = self.variance + (self.mean - self.estimate[:, None]) ** 2
        return np.asarray(np.sqrt((self.share * second).sum(axis=1)))


def carried(memory: str, phi: Floats, gap: Floats, omega: float) -> tuple[Floats, Floats]:
    """Coefficient of the deviation before, and variance over sigma^2, (m, K); gap (m,)."""
    begins = (gap == 0)[:, None]
    k = gap[:, None]
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        sign = np.where(k % 2 == 1, np.sign(phi), 1.0)
        a = np.where(begins, 0.0, sign * np.abs(phi) ** k)
        s = phi**2
        if memory == "clock":
            return a, np.where(begins, 1 / (1 - s), (1 - s**k) / (1 - s))
        unseen = np.where(begins, s / (1 - s), s * (1 - s ** (k - 1)) / (1 - s))
        if (s >= 1).any():
            unseen = np.where((s >= 1) & ~begins, _summed(s, k), unseen)
        return a, 1 + omega * unseen


def _summed(s: Floats, k: Floats) -> Floats:
    total, power = np.zeros(np.broadcast(s, k).shape), np.ones_like(s)
    for j in range(1, int(min(k.max(), TERMS))):
        power = power * s
        total = total + np.where(j < k, power, 0.0)
    return total


def ahead(problem: Problem, theta: Floats, post: Posterior, rows: Targets) -> Forecast:
    """Predict rows given the outcomes of a problem; offsets are not added."""
    m, K = len(rows.person), post.share.shape[1]
    step = max(CELLS // (K * (1 + problem.layout.r) ** 2), 1)
    parts = [_ahead(problem, theta, post, _some(rows, slice(i, i + step)))
             for i in range(0, max(m, 1), step)]  # fmt: skip
    return Forecast(*(np.concatenate([getattr(p, name) for p in parts])
                      for name in ("share", "mean", "variance", "noise")))  # fmt: skip


def _some(rows: Targets, part: slice) -> Targets:
    X = {name: values[part] for name, values in rows.X.items()}
    own = {name: value[part] for name, value in vars(rows).items() if name != "X"}
    return Targets(X=X, **own)


def _ahead(problem: Problem, theta: Floats, post: Posterior, rows: Targets) -> Forecast:
    layout, who = problem.layout, rows.person
    own = {part: X @ theta[layout.slices[part]] for part, X in rows.X.items()}
    share, v = post.share[who], post.v[who]
    b, C = post.mean[who], post.covariance[who]
    phi = phi_of(problem.memory, own[INERTIA][:, None] + np.einsum("md,mkd->mk", rows.zp, v))
    sigma = size_of(own[DISPERSION][:, None] + np.einsum("md,mkd->mk", rows.zs, v))
    a, g = carried(problem.memory, phi, rows.gap, layout.omega(theta))
    before = np.maximum(rows.last, 0)
    there = (rows.last >= 0)[:, None]
    fixed = (problem.y - problem.X[CONDITIONAL] @ theta[layout.slices[CONDITIONAL]])[before]
    q = layout.r - layout.d
    here = np.concatenate([rows.zm, rows.zi], axis=1)
    past = np.concatenate([problem.zm[before], np.zeros((len(who), rows.zi.shape[1]))], axis=1)
    h = here[:, None, :] - np.where(there, a, 0.0)[:, :, None] * past[:, None, :]
    mean = (own[CONDITIONAL] + own.get(INPUTS, 0.0))[:, None] + np.einsum("mkq,mkq->mk", h, b)
    mean = mean + np.where(there, a * fixed[:, None], 0.0)
    spread = np.einsum("mkq,mkqr,mkr->mk", h, C, h) if q else 0.0
    noise = sigma**2 * g
    return Forecast(share, mean, noise + spread, noise)


def normal_mixture(found: Forecast, p: float) -> Floats:
    """Quantiles of each row's mixture of normal distributions."""
    from scipy import special

    least = 1e-12 * np.maximum(found.spread, 1e-300)[:, None]
    sd = np.maximum(np.sqrt(np.maximum(found.variance, 0.0)), least)
    low = (found.mean - 12 * sd).min(axis=1)
    high = (found.mean + 12 * sd).max(axis=1)
    for _ in range(80):
        middle = (low + high) / 2
        below = (found.share * special.ndtr((middle[:, None] - found.mean) / sd)).sum(axis=1)
        low, high = np.where(below < p, middle, low), np.where(below < p, high, middle)
    return np.asarray((low + high) / 2)
