"""The exact distribution of the likelihood ratio for one variance, by its spectrum.

Crainiceanu & Ruppert (2004, J. R. Stat. Soc. B 66): under the hypothesis that a variance is
zero the (restricted) likelihood ratio of a model with one random effect is distributed as

    sup over lambda >= 0 of m log(N + D) - m log D(lambda) - sum_s log(1 + lambda mu_s),
    D(lambda) = sum_s w_s^2 / (1 + lambda mu_s) + w_rest^2,   N + D = D(0),

with w independent standard normal, lambda the variance relative to sigma^2, m = n - p and
mu_s the eigenvalues of Z'P0 Z under REML; under ML m = n, and the determinant has the
eigenvalues of Z'Z. With other random effects beside the one under test the same
distribution is used as an approximation (Greven, Crainiceanu, Kuchenhoff & Peters 2008,
J. Comput. Graph. Stat. 17). Under ML fixed effects can be tested at the same time.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ranef.covariance.factor import square_root
from ranef.design.specification import Specification
from ranef.errors import ModelError

__all__ = ["NullDraws", "Spectrum", "simulate_ratio", "spectrum"]

Floats = NDArray[np.float64]

LARGEST = 4_000
MANY = 200
GRID = 64
CELLS = 4_000_000
SAME = 1e-9
CLOSE = 0.02


@dataclass(frozen=True, eq=False)
class Spectrum:
    """What the distribution depends on.

    Attributes
    ----------
    mu : (k,) float64 array
        Distinct positive eigenvalues of Z'P0 Z, ascending.
    counts : (k,) int array
        How often each occurs.
    xi : (l,) float64 array
        Distinct positive eigenvalues of Z'Z.
    xi_counts : (l,) int array
    n, p : int
        Rows and fixed effects.
    """

    mu: Floats
    counts: NDArray[np.intp]
    xi: Floats
    xi_counts: NDArray[np.intp]
    n: int
    p: int


@dataclass(frozen=True, eq=False)
class NullDraws:
    """Draws of the ratio under the hypothesis.

    Attributes
    ----------
    values : (B,) float64 array
    """

    values: Floats

    @property
    def mass_at_zero(self) -> float:
        """Share of draws that are zero."""
        return float(np.mean(self.values <= 0))

    def tail(self, statistic: float) -> float:
        """(1 + draws that are as large) / (1 + B); 1 at zero, the least value there is."""
        if statistic <= 0:
            return 1.0
        count = int(np.count_nonzero(self.values >= statistic))
        return (1 + count) / (1 + len(self.values))


def spectrum(spec: Specification, term: int) -> Spectrum:
    """Eigenvalues for the variance of one column, or of all columns if they share it.

    Rows are weighted by the precision weights.
    """
    if spec.residual is not None:
        raise ModelError(
            "the exact distribution is of models with independent residuals; here these have a "
            "structure: method='bootstrap'"
        )
    tested = spec.terms[term]
    factor = spec.factors[tested.factor]
    w: Floats = np.ones(spec.n) if spec.weights is None else spec.weights
    q, r = factor.n_levels, tested.size
    gram = np.zeros((q, r, r))
    for a in range(r):
        for b in range(a, r):
            gram[:, a, b] = gram[:, b, a] = np.bincount(
                factor.codes, w * tested.z[:, a] * tested.z[:, b], q
            )
    cross = np.zeros((q, r, spec.p))
    for a in range(r):
        for j in range(spec.p):
            cross[:, a, j] = np.bincount(factor.codes, w * tested.z[:, a] * spec.X[:, j], q)
    inner = np.linalg.cholesky(spec.X.T @ (w[:, None] * spec.X)) if spec.p else np.empty((0, 0))
    B: Floats = np.zeros((q * r, 0))
    if spec.p:
        B = np.asarray(np.linalg.solve(inner, cross.reshape(q * r, spec.p).T).T)
    if r == 1 and tested.kernel is None:
        xi = gram[:, 0, 0]
        mu = _downdated(xi, B)
    else:
        full = _dense(gram)
        if tested.kernel is not None:
            root = square_root(tested.kernel)
            full, B = root.T @ full @ root, root.T @ B
        xi, mu = (np.asarray(np.linalg.eigvalsh(a)) for a in (full, full - B @ B.T))
    top = float(xi.max())
    return Spectrum(*_distinct(mu, top), *_distinct(xi, top), spec.n, spec.p)


def _dense(gram: Floats) -> Floats:
    q, r, _ = gram.shape
    _check_order(q * r)
    out = np.zeros((q, r, q, r))
    out[np.arange(q), :, np.arange(q), :] = gram
    return out.reshape(q * r, q * r)


def _check_order(order: int) -> None:
    if order > LARGEST:
        raise ModelError(
            f"the exact distribution needs the eigenvalues of a matrix of order {order:,}; with so "
            "many levels the mixture of chi-squared distributions is as good: method='mixture'"
        )


def _downdated(d: Floats, B: Floats) -> Floats:
    """Eigenvalues of diag(d) - B B'.

    Levels with the same d share the eigenvalue d in all directions but the few of
    their rows of B, which a rotation brings together.
    """
    values, groups = np.unique(np.round(d / d.max(), 12), return_inverse=True)
    shared, diagonal, rows = [], [], []
    for k in range(len(values)):
        members = np.flatnonzero(groups == k)
        part, size = B[members], len(members)
        if size > B.shape[1]:
            part = np.asarray(np.linalg.qr(part, mode="r"))
            shared.append(np.full(size - len(part), d[members[0]]))
        diagonal.append(np.full(len(part), d[members[0]]))
        rows.append(part)
    small, left = np.vstack(rows), np.concatenate(diagonal)
    _check_order(len(left))
    eigenvalues = np.linalg.eigvalsh(np.diag(left) - small @ small.T)
    return np.concatenate([eigenvalues, *shared])


def _distinct(values: Floats, top: float) -> tuple[Floats, NDArray[np.intp]]:
    """Distinct eigenvalues above rounding, near ones put together where there are many."""
    kept = np.sort(values[values > SAME * top])
    if len(kept) == 0:
        return kept, np.zeros(0, dtype=np.intp)
    steps = np.diff(np.log(kept))
    groups = np.concatenate([[0], np.cumsum(steps > SAME)])
    if groups[-1] >= MANY:
        groups = np.floor((np.log(kept) - np.log(kept[0])) / CLOSE)
        groups = np.unique(groups, return_inverse=True)[1].reshape(-1)
    counts = np.bincount(groups)
    return np.bincount(groups, kept) / counts, counts


def simulate_ratio(
    eigen: Spectrum, draws: int, rng: np.random.Generator, *, reml: bool = True, fixed: int = 0
) -> NullDraws:
    """Draw the ratio under the hypothesis.

    Parameters
    ----------
    known : Spectrum
    draws : int
    rng : numpy.random.Generator
    reml : bool
    fixed : int
        Fixed effects that the hypothesis sets to zero as well (not under REML).
    """
    out = np.empty(draws)
    size = max(1, CELLS // (GRID + len(eigen.mu)))
    for first in range(0, draws, size):
        here = slice(first, min(first + size, draws))
        out[here] = _draw(eigen, here.stop - first, rng, reml, fixed)
    return NullDraws(out)


def _draw(eigen: Spectrum, draws: int, rng: np.random.Generator, reml: bool, fixed: int) -> Floats:
    m = eigen.n - eigen.p if reml else eigen.n
    rest = eigen.n - eigen.p - int(eigen.counts.sum())
    W = rng.chisquare(eigen.counts[:, None], (len(eigen.mu), draws))
    noise = rng.chisquare(rest, draws) if rest > 0 else np.zeros(draws)
    total = W.sum(axis=0) + noise
    roots, counts = (eigen.mu, eigen.counts) if reml else (eigen.xi, eigen.xi_counts)
    lambdas = np.exp(np.linspace(-9.0, 14.0, GRID)) / eigen.xi.mean()
    penalty = np.log1p(lambdas[:, None] * roots) @ counts
    D = (1 / (1 + lambdas[:, None] * eigen.mu)) @ W + noise
    height = -m * np.log(D / total) - penalty[:, None]
    best = height.argmax(axis=0)
    top = np.take_along_axis(height, best[None], axis=0)[0]
    ratio = np.maximum(top, 0.0)
    rising = np.flatnonzero((best > 0) & (best < GRID - 1))
    at = _refined(np.log(lambdas[best[rising]]), W[:, rising], noise[rising], eigen, m, reml)
    D = np.sum(W[:, rising] / (1 + at * eigen.mu[:, None]), axis=0) + noise[rising]
    value = -m * np.log(D / total[rising])
    value -= np.log1p(at[:, None] * roots) @ counts
    ratio[rising] = np.maximum(ratio[rising], value)
    if fixed and not reml:
        ratio = ratio + eigen.n * np.log1p(rng.chisquare(fixed, draws) / total)
    return np.asarray(ratio, dtype=np.float64)


def _refined(t: Floats, W: Floats, noise: Floats, eigen: Spectrum, m: int, reml: bool) -> Floats:
    """Two of Newton's steps for log lambda from the best point of the grid."""
    roots, counts = (eigen.mu, eigen.counts) if reml else (eigen.xi, eigen.xi_counts)
    low, high = t - 0.37, t + 0.37
    for _ in range(2):
        at = np.exp(t)
        share = 1 / (1 + at * eigen.mu[:, None])
        D = np.sum(W * share, axis=0) + noise
        first = -np.sum(W * share * (1 - share), axis=0)
        second = np.sum(W * share * (1 - share) * (1 - 2 * share), axis=0)
        shrunk = 1 / (1 + at[:, None] * roots)
        slope = -m * first / D - (1 - shrunk) @ counts
        curve = -m * (second / D - (first / D) ** 2) - (shrunk * (1 - shrunk)) @ counts
        t = np.clip(np.where(curve < 0, t - slope / curve, t), low, high)
    return np.exp(t)
