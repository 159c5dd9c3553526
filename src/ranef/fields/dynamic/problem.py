"""The likelihood of a dynamic model as arrays: values, scores of persons, nodes.

Of the rows t of a person, in the order of series and time, with D_t = y_t - x_t'beta - z_t'b,

    D_t = a_t D_{t-1} + inputs_t + e_t,  e_t ~ N(0, s_t^2),  a_t = phi_t^gap,

the level is latent: a deviation is one from the person's own mean, not from that of the rows
(Asparouhov, Hamaker & Muthen 2018, Structural Equation Modeling 25: 359-388). The effects of
phi and of log sigma are integrated by adaptive Gauss-Hermite quadrature, all others in closed
form given these.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from ranef import _core
from ranef.fields.dynamic.layout import Layout
from ranef.fields.dynamic.reading import CONDITIONAL, DISPERSION, INERTIA, INPUTS

__all__ = ["Evaluated", "Nodes", "Posterior", "Problem", "Rule", "gauss_hermite"]

Floats = NDArray[np.float64]
Ints = NDArray[np.intp]
LEAST = -26.0
"""Logarithm of a weight, relative to the largest, below which a corner is left out."""


@dataclass(frozen=True, eq=False)
class Rule:
    """A product rule for a standard normal vector.

    Attributes
    ----------
    points : int
        Along one effect.
    x : (K, d) float64 array
    log_w : (K,) float64 array
        Logarithm of the weight over the normal density at x.
    """

    points: int
    x: Floats
    log_w: Floats


def gauss_hermite(points: int, d: int) -> Rule:
    """The rule of so many points along each of d effects, without corners of no weight.

    Examples
    --------
    >>> gauss_hermite(5, 2).x.shape, gauss_hermite(17, 2).x.shape
    ((25, 2), (241, 2))
    """
    x, w = np.polynomial.hermite_e.hermegauss(points)
    log_w = np.log(w) - 0.5 * np.log(2 * np.pi)
    cells = np.array(list(itertools.product(range(points), repeat=d)), dtype=np.intp)
    cells = cells.reshape(points**d, d)
    X = x[cells]
    density = -0.5 * (X**2).sum(axis=1) - 0.5 * d * np.log(2 * np.pi)
    log_W = log_w[cells].sum(axis=1)
    kept = log_W > log_W.max() + LEAST
    return Rule(points, np.ascontiguousarray(X[kept]), (log_W - density)[kept])


@dataclass(frozen=True, eq=False)
class Nodes:
    """Where each person's integrand has its top, and its spread there.

    Attributes
    ----------
    mode : (N, d) float64 array
    factor : (N, d, d) float64 array
        Lower factor of the inverse curvature.
    """

    mode: Floats
    factor: Floats


@dataclass(frozen=True, eq=False)
class Evaluated:
    """The likelihood at a point.

    Attributes
    ----------
    loglik : (N,) float64 array
        Of each person.
    scores : (N, P) float64 array
        Derivatives of it.
    mean, second : (N, r), (N, r, r) float64 arrays
        First and second moments of the effects given the data.
    """

    loglik: Floats
    scores: Floats
    mean: Floats
    second: Floats


@dataclass(frozen=True, eq=False)
class Posterior:
    """The effects of each person given the data, as a mixture over nodes.

    Attributes
    ----------
    share : (N, K) float64 array
    v : (N, K, d) float64 array
        Effects of inertia and dispersion.
    mean : (N, K, q) float64 array
        Of the effects of the mean and of inputs, given v.
    covariance : (N, K, q, q) float64 array
    """

    share: Floats
    v: Floats
    mean: Floats
    covariance: Floats


@dataclass(frozen=True, eq=False)
class Problem:
    """A dynamic model of rows in the order of persons, series and time.

    Attributes
    ----------
    layout : Layout
    memory : str
        ``"fisher"`` (phi = tanh of its predictor), ``"plain"`` (the predictor itself) or
        ``"clock"`` (phi of one unit of time, its logit).
    given_starts : bool
        Whether the first row of a series is conditioned on.
    y : (n,) float64 array
        Without the offset.
    X : dict of (n, p) float64 arrays
        By part.
    zm, zi, zp, zs : (n, .) float64 arrays
        Columns of the effects of the mean, of inputs, of inertia and of dispersion.
    first : (N + 1,) int32 array
        Row where each person begins.
    gap : (n,) float64 array
    log_unit : float
        Of y, in the scale of dispersion: the problem may be one of y over its unit.
    threads : int
    """

    layout: Layout
    memory: str
    given_starts: bool
    y: Floats
    X: dict[str, Floats]
    zm: Floats
    zi: Floats
    zp: Floats
    zs: Floats
    first: NDArray[np.int32]
    gap: Floats
    log_unit: float = 0.0
    threads: int = 1

    @cached_property
    def core(self) -> _core.Dynamic:
        """The kernel."""
        return _core.Dynamic(
            self.memory, self.given_starts, self.first, self.gap,
            np.ascontiguousarray(self.zm), np.ascontiguousarray(self.zi),
            np.ascontiguousarray(self.zp), np.ascontiguousarray(self.zs), self.threads,
        )  # fmt: skip

    @property
    def persons(self) -> int:
        """How many."""
        return len(self.first) - 1

    @cached_property
    def n_counted(self) -> int:
        """Rows that have a density."""
        return int(np.count_nonzero(self.gap)) if self.given_starts else len(self.y)

    @cached_property
    def person(self) -> Ints:
        """Of each row."""
        return np.repeat(np.arange(self.persons), np.diff(self.first))

    def taken(self, persons: Ints) -> Problem:
        """The problem of some persons."""
        rows = np.concatenate([np.arange(self.first[i], self.first[i + 1]) for i in persons])
        sizes = np.diff(self.first)[persons]
        return replace(
            self, y=self.y[rows], X={k: v[rows] for k, v in self.X.items()}, zm=self.zm[rows],
            zi=self.zi[rows], zp=self.zp[rows], zs=self.zs[rows], gap=self.gap[rows],
            first=np.r_[0, np.cumsum(sizes)].astype(np.int32),
        )  # fmt: skip

    def rows_at(self, theta: Floats) -> tuple[Floats, Floats, Floats, Floats]:
        """Deviations, inputs and predictors of phi and log sigma, without random effects."""
        own = {part: X @ theta[self.layout.slices[part]] for part, X in self.X.items()}
        inputs = own.get(INPUTS, np.zeros(len(self.y)))
        return self.y - own[CONDITIONAL], inputs, own[INERTIA], own[DISPERSION] - self.log_unit

    def _at(self, theta: Floats) -> tuple[Floats, Floats, Floats, Floats, Floats, float]:
        return (*self.rows_at(theta), self.layout.factor(theta), self.layout.omega(theta))

    def nodes(self, theta: Floats, start: Floats | None = None) -> Nodes:
        """Find the modes, from others on."""
        begin = np.zeros((self.persons, self.layout.d)) if start is None else start
        mode, factor, steps = self.core.modes(*self._at(theta), np.ascontiguousarray(begin))
        lost = ~np.isfinite(mode).all(axis=1) | (steps < 0)
        mode[lost] = 0.0
        factor[lost] = np.eye(self.layout.d)
        return Nodes(mode, factor)

    def loglik(self, theta: Floats, rule: Rule, nodes: Nodes) -> Floats:
        """Log-likelihood of each person."""
        found = self.core.evaluate(
            *self._at(theta), rule.x, rule.log_w, nodes.mode, nodes.factor, False
        )
        return np.asarray(found["loglik"])

    def evaluate(self, theta: Floats, rule: Rule, nodes: Nodes) -> Evaluated:
        """Log-likelihood of each person with its derivatives, at nodes that stay."""
        found = self.core.evaluate(
            *self._at(theta), rule.x, rule.log_w, nodes.mode, nodes.factor, True
        )
        rows = {
            CONDITIONAL: -found["deviation"], INPUTS: found["input"],
            INERTIA: found["memory"], DISPERSION: found["scale"],
        }  # fmt: skip
        begins = self.first[:-1]
        columns = [
            np.add.reduceat(X * rows[part][:, None], begins, axis=0) for part, X in self.X.items()
        ]
        i, j = self.layout.entries
        columns.append(found["L"][:, i, j])
        if self.layout.has_inputs:
            columns.append(found["omega"][:, None])
        return Evaluated(found["loglik"], np.hstack(columns), found["mean"], found["second"])

    def posterior(self, theta: Floats, rule: Rule, nodes: Nodes) -> Posterior:
        """The effects given the data."""
        share, mean, covariance = self.core.shares(
            *self._at(theta), rule.x, rule.log_w, nodes.mode, nodes.factor
        )
        u = nodes.mode[:, None, :] + np.einsum("njk,mk->nmj", nodes.factor, rule.x)
        d = self.layout.d
        v = u @ self.layout.factor(theta)[:d, :d].T
        return Posterior(share, v, mean, covariance)
