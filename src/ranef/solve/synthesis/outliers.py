"""Outliers: true effects of two kinds, those of a population and those far from it.

y_k = x_k'b + u_k + e_k with e_k ~ N(0, v_k) known, and u_k from N(0, tau^2) with probability
1 - pi, from N(0, omega^2), omega >= tau, with probability pi: "an outlier" (Woolrich 2008,
NeuroImage 41, for images of a group; Beath 2014, Res. Synth. Methods 5, for studies). Maximum
likelihood by the EM algorithm for many outcomes at a time.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "FLAT",
    "Effects",
    "Mixture",
    "Profiled",
    "climbed",
    "likeliest_mixture",
    "normal_loglik",
    "one_normal",
    "profiled",
    "voxelwise",
]

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

MOST = 0.5
"""Outliers are the fewer: their share is at most this."""
SURE = 0.95
"""Probability of a member of the set that a search starts from."""
HALVINGS = 12
FLAT = 1e-6
"""Gain of the log-likelihood over one normal distribution that is none."""


@dataclass(frozen=True, eq=False)
class Effects:
    """Effects of K subjects in N outcomes, one design.

    Attributes
    ----------
    y, v : (K, N) arrays
        0 and 1 where there are no data.
    known : (K, N) bool array
    X : (K, p) array
    """

    y: Floats
    v: Floats
    known: Bools
    X: Floats

    @classmethod
    def of(cls, Y: Any, V: Any, X: Floats) -> Effects:
        """Effects that are not finite, or whose variance is not positive, are missing."""
        y, v = np.asarray(Y, dtype=np.float64), np.asarray(V, dtype=np.float64)
        known = np.isfinite(y) & np.isfinite(v) & (v > 0)
        return cls(np.where(known, y, 0.0), np.where(known, v, 1.0), known, X)

    @property
    def n(self) -> Floats:
        """Subjects with data (N,)."""
        return np.asarray(self.known.sum(axis=0, dtype=np.float64))

    @property
    def unit(self) -> Floats:
        """A scale (N,) of the effects and their errors, so that no square overflows."""
        count = np.maximum(self.n, 1)
        largest = np.maximum(np.abs(self.y), np.sqrt(np.where(self.known, self.v, 0.0))).max(axis=0)
        safe = np.where(largest > 0, largest, 1.0)
        within = np.where(self.known, self.v / safe / safe, 0.0)
        squares = ((self.y / safe) ** 2 + within).sum(axis=0) / count
        return np.asarray(safe * np.sqrt(np.where(squares > 0, squares, 1.0)))

    def over(self, unit: Floats) -> Effects:
        """The effects in other units (N,)."""
        v = np.where(self.known, self.v / unit / unit, 1.0)
        return Effects(self.y / unit, v, self.known, self.X)

    def take(self, columns: NDArray[Any]) -> Effects:
        """Some outcomes."""
        return Effects(self.y[:, columns], self.v[:, columns], self.known[:, columns], self.X)

    def coefficients(self, w: Floats) -> Floats:
        """Weighted least squares (p, N) with weights (K, N)."""
        X = self.X
        if X.shape[1] == 0:
            return np.zeros((0, self.y.shape[1]))
        if X.shape[1] == 1:
            x = X[:, :1]
            with np.errstate(divide="ignore", invalid="ignore"):
                return np.asarray((w * x * self.y).sum(axis=0) / (w * x * x).sum(axis=0))[None]
        A = np.einsum("ka,kn,kb->nab", X, w, X, optimize=True)
        b = np.einsum("ka,kn->na", X, w * self.y, optimize=True)
        return np.asarray(np.linalg.solve(A, b[..., None])[..., 0].T)


@dataclass(frozen=True, eq=False)
class Mixture:
    """The two kinds in each of N outcomes.

    Attributes
    ----------
    beta : (p, N) array
    tau2, omega2 : (N,) arrays
        Variances of true effects: of the population, and of outliers.
    share : (N,) array
        Probability pi of an outlier.
    probability : (K, N) array
        Of each subject, given the data; 0 where it has none.
    loglik : (N,) array
    """

    beta: Floats
    tau2: Floats
    omega2: Floats
    share: Floats
    probability: Floats
    loglik: Floats

    def times(self, unit: Floats, n: Floats) -> Mixture:
        """The mixture of effects that are `unit` (N,) times as large, of n subjects (N,)."""
        square = unit * unit
        return Mixture(
            self.beta * unit, self.tau2 * square, self.omega2 * square, self.share,
            self.probability, self.loglik - n * np.log(unit),
        )  # fmt: skip

    def take(self, columns: NDArray[Any]) -> Mixture:
        """Some outcomes."""
        return Mixture(*(np.asarray(getattr(self, name)[..., columns]) for name in FIELDS))

    def put(self, columns: NDArray[Any], other: Mixture) -> None:
        """Write some outcomes in place."""
        for name in FIELDS:
            getattr(self, name)[..., columns] = getattr(other, name)


FIELDS = tuple(Mixture.__dataclass_fields__)


def normal_loglik(data: Effects, beta: Floats, tau2: Floats) -> Floats:
    """Log-likelihood (N,) of one normal distribution."""
    total = data.v + tau2
    e = data.y - data.X @ beta
    value = np.log(2 * np.pi * total) + e**2 / total
    return np.asarray(-0.5 * np.sum(np.where(data.known, value, 0.0), axis=0))


def _densities(
    data: Effects, e2: Floats, tau2: Floats, omega2: Floats, share: Floats
) -> tuple[Floats, Floats]:
    """Probability of an outlier (K, N), and the log-likelihood (N,)."""
    inner, outer = data.v + tau2, data.v + omega2
    with np.errstate(divide="ignore"):
        low = np.log1p(-share) - 0.5 * (np.log(inner) + e2 / inner)
        high = np.log(share) - 0.5 * (np.log(outer) + e2 / outer)
    both = np.logaddexp(low, high)
    probability = np.where(data.known, np.exp(high - both), 0.0)
    value = np.where(data.known, both - 0.5 * np.log(2 * np.pi), 0.0)
    return probability, np.asarray(value.sum(axis=0))


def _variance(
    data: Effects, e2: Floats, weight: Floats, start: Floats, least: Floats | float
) -> Floats:
    """A step of Fisher's scoring (N,) for the variance of one kind that does not go down."""

    def value(t: Floats) -> Floats:
        total = data.v + t
        return np.asarray(-np.sum(weight * (np.log(total) + e2 / total), axis=0))

    w2 = weight / (data.v + start) ** 2
    down = w2.sum(axis=0)
    with np.errstate(divide="ignore", invalid="ignore"):
        goal = np.where(down > 0, (w2 * (e2 - data.v)).sum(axis=0) / down, start)
    goal = np.maximum(goal, least)
    before, now = value(start), goal
    for _ in range(HALVINGS):
        worse = value(now) < before
        if not worse.any():
            return np.asarray(now)
        now = np.where(worse, 0.5 * (now + start), now)
    return np.where(value(now) < before, start, now)


def _stepped(data: Effects, at: Mixture) -> Mixture:
    """One step of the algorithm; the log-likelihood that it returns is that of its start."""
    r = at.probability
    inner, outer = np.where(data.known, 1.0 - r, 0.0), r
    share = np.minimum(MOST, r.sum(axis=0) / data.n)
    beta = data.coefficients(inner / (data.v + at.tau2) + outer / (data.v + at.omega2))
    e2 = (data.y - data.X @ beta) ** 2
    tau2 = _variance(data, e2, inner, at.tau2, 0.0)
    omega2 = _variance(data, e2, outer, np.maximum(at.omega2, tau2), tau2)
    probability, loglik = _densities(data, e2, tau2, omega2, share)
    return Mixture(beta, tau2, omega2, share, probability, loglik)


def climbed(data: Effects, start: Mixture, *, steps: int, tolerance: float) -> Mixture:
    """Climb until the log-likelihood gains less than a tolerance in a step."""
    out = replace(start, **{name: getattr(start, name).copy() for name in FIELDS})
    open_ = np.arange(data.y.shape[1])
    for _ in range(steps):
        part, before = data.take(open_), out.loglik[open_]
        now = _stepped(part, out.take(open_))
        out.put(open_, now)
        open_ = open_[now.loglik - before > tolerance * (1 + np.abs(now.loglik))]
        if not len(open_):
            break
    return out


def started(data: Effects, members: Bools, tau2: Floats) -> Mixture:
    """Begin from a set (K, N) of outliers; `tau2` (N,) of one normal distribution."""
    r = np.where(data.known, np.where(members, SURE, 1 - SURE), 0.0)
    beta = data.coefficients(np.where(data.known, 1.0 - r, 0.0) / (data.v + tau2))
    e2 = (data.y - data.X @ beta) ** 2
    inner = np.where(data.known, 1.0 - r, 0.0)
    own = np.sum(inner * (e2 - data.v), axis=0) / inner.sum(axis=0)
    far = np.sum(r * (e2 - data.v), axis=0) / np.maximum(r.sum(axis=0), 1e-300)
    low = np.clip(own, 0.0, None)
    high = np.maximum(far, 4 * low + np.where(data.known, data.v, 0.0).mean(axis=0))
    share = np.minimum(MOST, r.sum(axis=0) / data.n)
    none = np.full(data.y.shape[1], -np.inf)
    return Mixture(beta, low, high, share, r, none)


def _repeated(data: Effects, times: int) -> Effects:
    """One outcome, several times."""
    return data.take(np.zeros(times, dtype=np.intp))


def likeliest_mixture(data: Effects, tau2: float) -> Mixture:
    """The likeliest mixture of one outcome (N = 1).

    Searches start from each subject as the outlier, then from the best set and each other subject,
    as long as the likelihood rises.
    """
    K = len(data.y)
    best: Mixture | None = None
    members = np.zeros(K, dtype=bool)
    while members.sum() < max(1, int(MOST * K)):
        others = np.flatnonzero(~members & data.known[:, 0])
        sets = np.repeat(members[:, None], len(others), axis=1)
        sets[others, np.arange(len(others))] = True
        many = _repeated(data, len(others))
        found = climbed(many, started(many, sets, np.full(len(others), tau2)),
                        steps=3000, tolerance=1e-12)  # fmt: skip
        top = int(np.argmax(found.loglik))
        if best is not None and found.loglik[top] <= best.loglik[0] + FLAT:
            break
        best, members = found.take(np.array([top])), sets[:, top]
    assert best is not None
    return best


# --- many outcomes

STARTS = 3
LOOK = 8
STEPS = 300
CLOSE = 1e-7


def _distances(data: Effects, tau2: Floats) -> Floats:
    """Standardised distances (K, N) from a fit by least absolute deviations."""
    root = np.sqrt(data.v + tau2)
    w = np.where(data.known, 1.0 / (data.v + tau2), 0.0)
    z = np.zeros_like(data.y)
    for _ in range(8):
        z = np.abs(data.y - data.X @ data.coefficients(w)) / root
        w = np.where(data.known, 1.0 / (root**2 * np.maximum(z, 1e-2)), 0.0)
    return np.where(data.known, z, -1.0)


def voxelwise(data: Effects, beta: Floats, tau2: Floats) -> tuple[Mixture, Floats]:
    """The mixture in each outcome, and what it gains (N,) over one normal distribution.

    Its two more parameters are worth it, by the Bayesian information criterion, where they raise
    the log-likelihood by more than log n. Searches start from the one to three subjects that are
    farthest from a fit by least absolute deviations.

    Parameters
    ----------
    beta, tau2 : (p, N), (N,) arrays
        By maximum likelihood.
    """
    order = np.argsort(-_distances(data, tau2), axis=0)
    best: Mixture | None = None
    for m in range(1, STARTS + 1):
        members = np.zeros(data.y.shape, dtype=bool)
        np.put_along_axis(members, order[:m], True, axis=0)
        found = climbed(data, started(data, members & data.known, tau2), steps=LOOK, tolerance=0.0)
        if best is None:
            best = found
        else:
            better = np.flatnonzero(found.loglik > best.loglik)
            best.put(better, found.take(better))
    assert best is not None
    plain = normal_loglik(data, beta, tau2)
    # a climb that is still far below one normal distribution is left
    near = np.flatnonzero(best.loglik > plain - 1.0)
    best.put(near, climbed(data.take(near), best.take(near), steps=STEPS, tolerance=CLOSE))
    return best, np.asarray(best.loglik - plain)


# --- one outcome, one coefficient

ROOTS = 60


@dataclass(frozen=True, eq=False)
class Profiled:
    """The likelihood of one outcome along each coefficient.

    Attributes
    ----------
    low, high : (p,) arrays
        Where twice the log-likelihood has fallen by a limit; infinite where it does not.
    at_zero : (p,) array
        Twice the fall of the log-likelihood at zero.
    """

    low: Floats
    high: Floats
    at_zero: Floats

    def times(self, unit: float) -> Profiled:
        """Of effects that are `unit` times as large."""
        return Profiled(self.low * unit, self.high * unit, self.at_zero)


def profiled(data: Effects, best: Mixture, limit: float) -> Profiled:
    """Profile each coefficient of one outcome (N = 1); one normal distribution if the share is 0.

    limit : a quantile of chi-squared with one degree of freedom.
    """
    p = data.X.shape[1]
    w = (1 - best.probability) / (data.v + best.tau2) + best.probability / (data.v + best.omega2)
    w = np.where(data.known, w, 0.0)[:, 0]
    errors = np.sqrt(np.diag(np.linalg.inv((data.X * w[:, None]).T @ data.X)))
    low, high, at_zero = np.empty(p), np.empty(p), np.empty(p)
    for j in range(p):
        centre = float(best.beta[j, 0])

        def fall(value: float, j: int = j) -> float:
            return 2 * float(best.loglik[0] - _fixed(data, best, j, value))

        at_zero[j] = max(0.0, fall(0.0))
        low[j] = _crossing(fall, centre, -float(errors[j]), limit)
        high[j] = _crossing(fall, centre, float(errors[j]), limit)
    return Profiled(low, high, at_zero)


def _fixed(data: Effects, best: Mixture, j: int, value: float) -> float:
    """The log-likelihood with one coefficient held, from the optimum and from each subject."""
    rest = Effects(
        data.y - data.X[:, j : j + 1] * value, data.v, data.known, np.delete(data.X, j, axis=1)
    )
    K = len(data.y)
    alone = best.share[0] == 0
    columns = 1 if alone else K + 1
    many = _repeated(rest, columns)
    members = np.zeros((K, columns), dtype=bool)
    if not alone:
        members[np.arange(K), np.arange(1, K + 1)] = True
    begin = started(many, members, np.repeat(best.tau2, columns))
    begin.probability[:, 0] = best.probability[:, 0]
    begin.tau2[0], begin.omega2[0], begin.share[0] = best.tau2[0], best.omega2[0], best.share[0]
    found = climbed(many, begin, steps=2000, tolerance=1e-11)
    return float(found.loglik.max())


def _crossing(fall: Any, centre: float, step: float, limit: float) -> float:
    """Where a function that rises from the centre meets a limit."""
    from scipy.optimize import brentq

    inner, outer = centre, centre + step
    for _ in range(ROOTS):
        if fall(outer) >= limit:
            return float(brentq(lambda x: fall(x) - limit, inner, outer, xtol=1e-9, rtol=1e-12))
        inner, outer = outer, outer + (outer - centre)
    return float(np.copysign(np.inf, step))


def one_normal(data: Effects, beta: Floats, tau2: float) -> Mixture:
    """One normal distribution as a mixture without outliers (N = 1)."""
    t = np.array([tau2])
    return Mixture(
        beta.reshape(-1, 1), t, t, np.zeros(1), np.zeros_like(data.y),
        normal_loglik(data, beta.reshape(-1, 1), t),
    )  # fmt: skip
