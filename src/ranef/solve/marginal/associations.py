"""Odds ratios as association: of binary responses, and of categories.

A response of c + 1 categories is c rows, the indicators of y <= j, of which the covariance within
the response follows from the means. Two responses of a cluster are associated by odds ratios,
which with the means give their joint probabilities and so the covariance in the equations of the
mean:

- one odds ratio of binary responses, by alternating logistic regressions (Carey, Zeger & Diggle
  1993, Biometrika 80): a logistic regression of each response on each earlier one of its cluster,

    logit P(y_j = 1 | y_k) = alpha y_k + log((mu_j - mu_jk) / (1 - mu_j - mu_k + mu_jk));

- one global odds ratio of all pairs of cuts of ordered categories (Heagerty & Zeger 1996, JASA 91),
  by an equation of the products of indicators;
- local odds ratios of the tables of two responses, whose margins are those of the model (Touloumis,
  Agresti & Kateri 2013, Biometrics 69), estimated once, see `local_odds_ratios`.

One step of an equation of its own is taken at each step of the mean.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
from numpy.typing import NDArray

from ranef.solve.marginal.clusters import Clusters, Slice
from ranef.solve.marginal.working import Working, WorkingRows, markov_whiten, markov_whiten_back

__all__ = [
    "Association",
    "GlobalOddsRatio",
    "LocalOddsRatios",
    "OddsRatio",
    "Within",
    "both",
    "tables_with_margins",
]

Floats = NDArray[np.float64]
Ints = NDArray[np.intp]

LARGEST = 20.0
NEAR_ONE = 1e-6
LONGEST_STEP = 1.0
CELLS = 1 << 21
"""The most cells of matrices that are worked on at once."""
PAIRS_CELLS = 1 << 18
FITTED = 1e-13
FITTINGS = 5000


def both(first: Floats, second: Floats, alpha: float) -> Floats:
    """P(both) of two binary responses with these means and the log odds ratio alpha.

    Plackett (1965, JASA 60).
    """
    psi = np.exp(alpha)
    if abs(psi - 1) < NEAR_ONE:
        # first-order in psi - 1 about independence
        return np.asarray(first * second * (1 + (psi - 1) * (1 - first) * (1 - second)))
    a = 1 + (first + second) * (psi - 1)
    root = np.sqrt(a * a - 4 * psi * (psi - 1) * first * second)
    return np.asarray((a - root) / (2 * (psi - 1)))


def _slope(first: Floats, second: Floats, joint: Floats) -> Floats:
    """Derivative of P(both) in alpha: the harmonic sum of the four cells."""
    cells = (joint, first - joint, second - joint, 1 - first - second + joint)
    return np.asarray(1 / sum(1 / np.maximum(cell, 1e-300) for cell in cells))


def _both_slope(first: Floats, second: Floats, alpha: float) -> Floats:
    """Derivative of `both` in the first mean."""
    psi = np.exp(alpha)
    if abs(psi - 1) < NEAR_ONE:
        return np.asarray(second * (1 + (psi - 1) * (1 - second) * (1 - 2 * first)))
    a = 1 + (first + second) * (psi - 1)
    root = np.sqrt(a * a - 4 * psi * (psi - 1) * first * second)
    return np.asarray(0.5 * (1 - (a - 2 * psi * second) / root))


def _slopes_of_both(
    first: Floats, second: Floats, K: Floats, alpha: float
) -> tuple[Floats, Floats]:
    """Derivatives in both means (..., c) of sum K_jk P(y <= j and y' <= k), K held."""
    one, two = first[..., :, None], second[..., None, :]
    by_first = np.sum(K * _both_slope(one, two, alpha), axis=-1)
    return by_first, np.asarray(np.sum(K * _both_slope(two, one, alpha), axis=-2))


def _within_slopes(K: Floats, mu: Floats) -> Floats:
    """Derivatives (..., c) in mu of sum K_jk V_jk, V_jk = mu_j (1 - mu_k) for j <= k."""
    both_sides = np.triu(K + K.swapaxes(-1, -2), 1)
    found = np.diagonal(K, axis1=-2, axis2=-1) * (1 - 2 * mu)
    found = found + (both_sides @ (1 - mu)[..., None])[..., 0]
    return np.asarray(found - (both_sides.swapaxes(-1, -2) @ mu[..., None])[..., 0])


def tables_with_margins(rows: Floats, columns: Floats, odds: Floats) -> Floats:
    """Tables (N, J, J) with these margins (N, J) and the odds ratios of `odds` (J, J).

    By iterative proportional fitting (Deming & Stephan 1940).
    """
    b = np.ones_like(columns)
    for _ in range(FITTINGS):
        a = rows / (b @ odds.T)
        scaled = a @ odds
        if np.abs(b * scaled - columns).max(initial=0.0) < FITTED:
            break
        b = columns / scaled
    return np.asarray(a[:, :, None] * odds * b[:, None, :])


@dataclass(frozen=True, eq=False)
class Within(Working):
    """Responses that are independent; the indicators of one are correlated as they must be.

    Those of y <= j and y <= k, j < k, have the correlation of a Markov chain, the root of
    odds(j) / odds(k).
    """

    cuts: int = 1
    mu: Floats | None = None

    name = "independence"
    counted = False
    of_means = True

    def at(self, rows: WorkingRows) -> Self:
        return replace(self, mu=rows.mu)

    def _rho(self) -> Floats:
        assert self.mu is not None
        odds = (self.mu / (1 - self.mu)).reshape(-1, self.cuts)
        rho = np.zeros_like(odds)
        rho[:, 1:] = np.sqrt(odds[:, :-1] / odds[:, 1:])
        return rho.ravel()

    def sums(self, v: Floats, clusters: Clusters, part: Slice) -> Floats:
        return np.zeros(0)

    def fitted(self, sums: Floats, counts: Floats, clusters: Clusters, floor: float) -> Working:
        return self

    def whiten(self, rows: Floats, clusters: Clusters, part: Slice) -> Floats:
        return markov_whiten(rows, self._rho())

    def whiten_back(self, rows: Floats, clusters: Clusters, part: Slice) -> Floats:
        return markov_whiten_back(rows, self._rho())

    def covariance_slopes(
        self, left: Floats, right: Floats, clusters: Clusters, part: Slice
    ) -> Floats:
        assert self.mu is not None
        mu = self.mu.reshape(-1, self.cuts)
        K = left.reshape(*mu.shape, -1) @ right.reshape(*mu.shape, -1).swapaxes(1, 2)
        return _within_slopes(K, mu).ravel()


@dataclass(frozen=True, eq=False)
class Association(Working):
    """Odds ratios of the responses of a cluster, of which the correlations depend on the means.

    Attributes
    ----------
    cuts : int
        Rows of a response.
    rows : WorkingRows or None
        The means at which it stands.
    """

    cuts: int = 1
    rows: WorkingRows | None = None

    counted = False
    of_means = True

    def at(self, rows: WorkingRows) -> Self:
        return replace(self, rows=rows)

    def reduced(self, counts: Floats, p: int, rows: float) -> Floats:
        return counts

    def slopes(self, products: Floats, counts: Floats) -> tuple[Floats, Floats]:
        """A step of scoring, score over information: see `sums`."""
        return np.array([[1 / products[1], 0.0]]), np.zeros((1, 2))

    @abstractmethod
    def joint(self, first: Floats, second: Floats) -> Floats:
        """P(y <= j and y' <= k), (..., c, c), of means (..., c) of two responses."""

    def blocks(self, part: Slice) -> Iterator[Ints]:
        """Rows (b, m, c) of clusters of one size, of so many that their matrices are small."""
        for size in np.unique(part.sizes):
            starts = part.starts[part.sizes == size]
            step = max(1, CELLS // int(size) ** 2)
            for begin in range(0, len(starts), step):
                rows = starts[begin : begin + step, None] + np.arange(size)
                yield rows.reshape(len(rows), -1, self.cuts)

    def whiten(self, rows: Floats, clusters: Clusters, part: Slice) -> Floats:
        out = np.empty_like(rows)
        wide = rows if rows.ndim == 2 else rows[:, None]
        result = out if rows.ndim == 2 else out[:, None]
        for block in self.blocks(part):
            R, apart = self._correlations(block)
            own = block.reshape(len(block), -1)
            result[own] = np.linalg.solve(_root(R, apart)[0], wide[own])
        return out

    def whiten_back(self, rows: Floats, clusters: Clusters, part: Slice) -> Floats:
        out = np.empty_like(rows)
        wide = rows if rows.ndim == 2 else rows[:, None]
        result = out if rows.ndim == 2 else out[:, None]
        for block in self.blocks(part):
            own = block.reshape(len(block), -1)
            root = _root(*self._correlations(block))[0]
            result[own] = np.linalg.solve(root.swapaxes(1, 2), wide[own])
        return out

    @abstractmethod
    def joint_slopes(self, first: Floats, second: Floats, K: Floats) -> tuple[Floats, Floats]:
        """Derivatives (..., c) in both means of sum K_jk P(y <= j and y' <= k), K held."""

    def covariance_slopes(
        self, left: Floats, right: Floats, clusters: Clusters, part: Slice
    ) -> Floats:
        assert self.rows is not None
        out = np.empty(len(left))
        for block in self.blocks(part):
            b, m, c = block.shape
            mu, own = self.rows.mu[block], block.reshape(b, m * c)
            K = (left[own] @ right[own].swapaxes(1, 2)).reshape(b, m, c, m, c)
            at = np.arange(m)
            found = _within_slopes(K[:, at, :, at, :].swapaxes(0, 1), mu)
            first, second = np.triu_indices(m, 1)
            if len(first):
                kept = (
                    1 - _root(*self._correlations(block))[1]
                )  # what is not mixed with independence
                pairs = K[:, first, :, second, :] + K[:, second, :, first, :].swapaxes(2, 3)
                pairs = pairs.swapaxes(0, 1) * kept[:, None, None, None]
                one, two = mu[:, first], mu[:, second]
                by_one, by_two = self.joint_slopes(one, two, pairs)
                by_one = by_one - (pairs @ two[..., None])[..., 0]
                by_two = by_two - (pairs.swapaxes(2, 3) @ one[..., None])[..., 0]
                np.add.at(found.swapaxes(0, 1), first, by_one.swapaxes(0, 1))
                np.add.at(found.swapaxes(0, 1), second, by_two.swapaxes(0, 1))
            out[own] = found.reshape(b, m * c)
        return out

    def mixed(self, part: Slice) -> Floats:
        """Share of independence (k,) in each cluster's matrix, which had to be mixed with it."""
        found = [np.zeros(0)]
        found += [_root(*self._correlations(block))[1] for block in self.blocks(part)]
        return np.concatenate(found)

    def _correlations(self, block: Ints) -> tuple[Floats, Floats]:
        """R (b, mc, mc) of clusters, and the same where responses are independent."""
        assert self.rows is not None
        mu = self.rows.mu[block]
        b, m, c = mu.shape
        root = np.sqrt(mu * (1 - mu))
        odds = mu / (1 - mu)
        inner = np.sqrt(
            np.minimum(odds[..., :, None], odds[..., None, :])
            / np.maximum(odds[..., :, None], odds[..., None, :])
        )
        apart = np.zeros((b, m, c, m, c))
        at = np.arange(m)
        apart[:, at, :, at, :] = inner.swapaxes(0, 1)
        R = apart.copy()
        first, second = np.triu_indices(m, 1)
        if len(first):
            one, two = mu[:, first], mu[:, second]
            found = self.joint(one, two) - one[..., :, None] * two[..., None, :]
            found /= root[:, first][..., :, None] * root[:, second][..., None, :]
            R[:, first, :, second, :] = found.swapaxes(0, 1)
            R[:, second, :, first, :] = found.swapaxes(0, 1).swapaxes(2, 3)
        return R.reshape(b, m * c, m * c), apart.reshape(b, m * c, m * c)

    def pairs(self, part: Slice) -> Iterator[tuple[Floats, Floats, Floats, Floats, Floats]]:
        """Yield means and responses (..., c) of pairs of responses, and the pairs' weights.

        A pair counts the root of the product of its weights: precisions do not change what a
        pair is expected to be, but how much is known from it.
        """
        assert self.rows is not None
        root = self.rows.pair_root
        for block in self.blocks(part):
            mu, y = self.rows.mu[block], self.rows.y[block]
            w = None if root is None else root[block[..., 0]]
            for lag in range(1, block.shape[1]):
                weight = np.ones(mu[:, lag:, 0].shape)
                weight = weight if w is None else w[:, :-lag] * w[:, lag:]
                yield mu[:, :-lag], mu[:, lag:], y[:, :-lag], y[:, lag:], weight

    def stepped(self, sums: Floats) -> Working:
        """Move the log odds ratio by a step of its equation: score and information.

        Where means are so near their ends that the equation has no value it stays.
        """
        if not np.isfinite(sums).all():
            return replace(self, gap=np.inf)
        step = sums[0] / sums[1] if sums[1] > 0 else 0.0
        alpha = float(self.parameters[0]) + float(np.clip(step, -LONGEST_STEP, LONGEST_STEP))
        gap = abs(float(sums[0])) / float(np.sqrt(sums[1])) if sums[1] > 0 else 0.0
        held = np.array([np.clip(alpha, -LARGEST, LARGEST)])
        return replace(self, parameters=held, gap=gap)


@dataclass(frozen=True, eq=False)
class OddsRatio(Association):
    """One log odds ratio for all pairs of binary responses of a cluster."""

    name = "log odds ratio"

    def joint(self, first: Floats, second: Floats) -> Floats:
        return both(first[..., :, None], second[..., None, :], float(self.parameters[0]))

    def joint_slopes(self, first: Floats, second: Floats, K: Floats) -> tuple[Floats, Floats]:
        return _slopes_of_both(first, second, K, float(self.parameters[0]))

    def sums(self, v: Floats, clusters: Clusters, part: Slice) -> Floats:
        """Score and information of alpha."""
        alpha, found = float(self.parameters[0]), np.zeros(2)
        for before, mu, earlier, y, weight in self.pairs(part):
            joint, seen = both(mu, before, alpha), earlier > 0
            conditional = np.where(seen, joint / before, (mu - joint) / (1 - before))
            slope = _slope(mu, before, joint)
            slope = np.where(seen, slope / before, -slope / (1 - before))
            size = weight[..., None] / np.maximum(conditional * (1 - conditional), 1e-300)
            found += [
                np.sum(size * slope * (y - conditional)),
                np.sum(size * slope * slope),
            ]
        return found

    def fitted(self, sums: Floats, counts: Floats, clusters: Clusters, floor: float) -> Working:
        return self.stepped(sums)


@dataclass(frozen=True, eq=False)
class GlobalOddsRatio(Association):
    """One log odds ratio of y <= j and y' <= k, for all cuts and all pairs of a cluster.

    Attributes
    ----------
    as_ordgee : bool
        Take the matrix of geepack 1.3.9, which is no covariance and has no root: of y <= j and
        y <= k, j < k, within a response P(y <= k) P(y > j), where the covariance is P(y <= j) P(y >
        k); and the covariances of two responses in the same places below the diagonal as above it,
        where they belong transposed.
    """

    as_ordgee: bool = False

    name = "global odds ratio"

    @property
    def has_root(self) -> bool:
        return not self.as_ordgee

    def joint(self, first: Floats, second: Floats) -> Floats:
        return both(first[..., :, None], second[..., None, :], float(self.parameters[0]))

    def joint_slopes(self, first: Floats, second: Floats, K: Floats) -> tuple[Floats, Floats]:
        return _slopes_of_both(first, second, K, float(self.parameters[0]))

    def whiten(self, rows: Floats, clusters: Clusters, part: Slice) -> Floats:
        if not self.as_ordgee:
            return super().whiten(rows, clusters, part)
        out = np.empty_like(rows)
        wide = rows if rows.ndim == 2 else rows[:, None]
        result = out if rows.ndim == 2 else out[:, None]
        for block in self.blocks(part):
            own = block.reshape(len(block), -1)
            result[own] = np.linalg.solve(self._as_ordgee(block), wide[own])
        return out

    def _as_ordgee(self, block: Ints) -> Floats:
        R, apart = self._correlations(block)
        b, m, c = block.shape
        R = R - apart + np.where(apart != 0, 1 / np.where(apart != 0, apart, 1.0), 0.0)
        R = R.reshape(b, m, c, m, c)
        assert self.rows is not None
        mu = self.rows.mu[block]
        root = np.sqrt(mu * (1 - mu))
        first, second = np.triu_indices(m, 1)
        if len(first):
            scale = root[:, first][..., :, None] * root[:, second][..., None, :]
            mirrored = R[:, first, :, second, :] * scale.swapaxes(0, 1)
            R[:, second, :, first, :] = mirrored / scale.swapaxes(0, 1).swapaxes(2, 3)
        return R.reshape(b, m * c, m * c)

    def whiten_slopes(self, F: Floats, clusters: Clusters, part: Slice) -> Floats:
        return F if self.as_ordgee else super().whiten_slopes(F, clusters, part)

    def normal_equations(
        self, F: Floats, e: Floats, clusters: Clusters, part: Slice
    ) -> tuple[Floats, Floats]:
        ours = self.whiten_slopes(F, clusters, part)
        white = self.whiten(np.column_stack([F, e]), clusters, part)
        return ours.T @ white[:, :-1], ours.T @ white[:, -1]

    def scores(self, F: Floats, e: Floats, clusters: Clusters, part: Slice) -> Floats:
        ours = self.whiten_slopes(F, clusters, part)
        return part.sums(ours * self.whiten(e, clusters, part)[:, None])

    def sums(self, v: Floats, clusters: Clusters, part: Slice) -> Floats:
        """Score and information of alpha, of products of residuals of two responses.

        The c^2 products of a pair have the covariance that follows from its table; different
        pairs are taken as independent.
        """
        found, c = np.zeros(2), self.cuts
        for one, two, y, z, weight in self.pairs(part):
            own = weight.ravel()
            m, n, y, z = (values.reshape(-1, c) for values in (one, two, y, z))
            step = max(1, PAIRS_CELLS // c**4)
            for begin in range(0, len(own), step):
                some = slice(begin, begin + step)
                with np.errstate(all="ignore"):
                    more = self._of_products(m[some], n[some], y[some], z[some], own[some])
                found += more
        return found

    def _of_products(
        self, one: Floats, two: Floats, y: Floats, z: Floats, weight: Floats
    ) -> Floats:
        m, n, y, z = (np.ascontiguousarray(values.T) for values in (one, two, y, z))
        first, second = m[:, None], n[None, :]
        joint = both(first, second, float(self.parameters[0]))
        slope = _slope(first, second, joint).reshape(self.cuts**2, -1)
        K = joint - first * second
        gap = ((y - m)[:, None] * (z - n)[None, :] - K).reshape(slope.shape)
        V = _covariance_of_products(m, n, K, self.as_ordgee)
        size = _solved(V, slope) * weight
        return np.array([np.sum(size * gap), np.sum(size * slope)])

    def fitted(self, sums: Floats, counts: Floats, clusters: Clusters, floor: float) -> Working:
        return self.stepped(sums)


def _covariance_of_products(m: Floats, n: Floats, K: Floats, as_ordgee: bool) -> Floats:
    """Covariances (c^2, c^2, N) of the products r_a s_b of the residuals of two responses.

    With a <= d the product r_a r_d is linear in the indicators, (1 - m_d) r_a - m_a r_d + m_a (1 -
    m_d), and so is s_b s_e, so that its moments follow from the covariances K (c, c, N) of the two
    responses and their means m and n (c, N).
    """
    c, N = m.shape
    V = np.empty((c * c, c * c, N))
    ofs, ons = (
        [[_product(values, a, d, as_ordgee) for d in range(c)] for a in range(c)]
        for values in (m, n)
    )
    for p in range(c * c):
        a, b = divmod(p, c)
        for q in range(p, c * c):
            d, e = divmod(q, c)
            of_a, of_d, left = ofs[a][d]
            of_b, of_e, right = ons[b][e]
            found = left * right - K[a, b] * K[d, e]
            found += of_a * (of_b * K[a, b] + of_e * K[a, e])
            found += of_d * (of_b * K[d, b] + of_e * K[d, e])
            V[p, q] = V[q, p] = found
    return V


def _product(m: Floats, a: int, d: int, as_ordgee: bool) -> tuple[Floats, Floats, Floats]:
    """Coefficients of r_a and r_d in their product, and its mean."""
    low, high = (a, d) if a <= d else (d, a)
    if as_ordgee:
        low, high = high, low
    of_low, of_high = 1 - m[high], -m[low]
    mean = m[low] * (1 - m[high])
    return (of_low, of_high, mean) if low == a else (of_high, of_low, mean)


def _solved(V: Floats, right: Floats) -> Floats:
    """V^-1 (k, N) of right sides, by elimination in all N matrices (k, k, N) at once."""
    A, x = V.copy(), right.copy()
    for k in range(len(A)):
        for i in range(k + 1, len(A)):
            factor = A[i, k] / A[k, k]
            A[i, k + 1 :] -= factor * A[k, k + 1 :]
            x[i] -= factor * x[k]
    for k in range(len(A) - 1, -1, -1):
        x[k] = (x[k] - np.sum(A[k, k + 1 :] * x[k + 1 :], axis=0)) / A[k, k]
    return x


@dataclass(frozen=True, eq=False)
class LocalOddsRatios(Association):
    """Local log odds ratios (c, c), held: those of neighbouring categories of two responses.

    `parameters` are those on and above the diagonal of a symmetric matrix.
    """

    name = "local odds ratio"

    def _tables(self, first: Floats, second: Floats) -> Floats:
        """P(y = j and y' = k), (..., c + 1, c + 1)."""
        odds = np.exp(association(self.parameters, self.cuts))
        shape = (*first.shape[:-1], self.cuts + 1, self.cuts + 1)
        rows, columns = (_probabilities(mu).reshape(-1, self.cuts + 1) for mu in (first, second))
        return tables_with_margins(rows, columns, odds).reshape(shape)

    def joint(self, first: Floats, second: Floats) -> Floats:
        below = np.cumsum(np.cumsum(self._tables(first, second), axis=-1), axis=-2)
        return np.asarray(below[..., :-1, :-1])

    def joint_slopes(self, first: Floats, second: Floats, K: Floats) -> tuple[Floats, Floats]:
        """By the adjoint of d log P = a_j + b_k, which keep the odds and move the margins.

        The last b is held at 0: what is added to all a and taken from all b moves nothing.
        """
        J, c = self.cuts + 1, self.cuts
        P = self._tables(first, second).reshape(-1, J, J)
        by_cell = np.zeros_like(P)
        above = np.cumsum(K.reshape(-1, c, c)[:, ::-1, ::-1], axis=1).cumsum(axis=2)
        by_cell[:, :c, :c] = above[:, ::-1, ::-1]
        weighted, own = by_cell * P, np.arange(J)
        A = np.zeros((len(P), 2 * J, 2 * J))
        A[:, own, own], A[:, J + own, J + own] = P.sum(axis=2), P.sum(axis=1)
        A[:, :J, J:], A[:, J:, :J] = P, P.swapaxes(1, 2)
        right = np.hstack([weighted.sum(axis=2), weighted.sum(axis=1)])[:, :-1, None]
        found = np.zeros((len(P), 2 * J))
        found[:, :-1] = np.linalg.solve(A[:, :-1, :-1], right)[..., 0]
        of_rows, of_columns = found[:, :J], found[:, J:]
        shape = first.shape
        return (
            (of_rows[:, :-1] - of_rows[:, 1:]).reshape(shape),
            (of_columns[:, :-1] - of_columns[:, 1:]).reshape(shape),
        )

    def sums(self, v: Floats, clusters: Clusters, part: Slice) -> Floats:
        return np.zeros(0)

    def fitted(self, sums: Floats, counts: Floats, clusters: Clusters, floor: float) -> Working:
        return self


def association(parameters: Floats, cuts: int) -> Floats:
    """Log odds (c + 1, c + 1), zero in the first row and column, with these local log odds ratios.

    Examples
    --------
    >>> association(np.array([0.5, 0.5, 0.5]), 2)
    array([[0. , 0. , 0. ],
           [0. , 0.5, 1. ],
           [0. , 1. , 2. ]])
    """
    local = np.zeros((cuts, cuts))
    first, second = np.triu_indices(cuts)
    local[first, second] = local[second, first] = parameters
    found = np.zeros((cuts + 1, cuts + 1))
    found[1:, 1:] = np.cumsum(np.cumsum(local, axis=0), axis=1)
    return found


def _probabilities(mu: Floats) -> Floats:
    """Probabilities (..., c + 1) of categories of the cumulated ones (..., c)."""
    ends = (*mu.shape[:-1], 1)
    return np.diff(np.concatenate([np.zeros(ends), mu, np.ones(ends)], axis=-1), axis=-1)


def _root(R: Floats, apart: Floats) -> tuple[Floats, Floats]:
    """Cholesky factors (b, k, k), and the shares of independence that were mixed in (b,).

    Odds ratios between pairs that no distribution of all has make matrices that are not positive
    definite.
    """
    try:
        return np.asarray(np.linalg.cholesky(R)), np.zeros(len(R))
    except np.linalg.LinAlgError:
        inner = np.linalg.inv(np.linalg.cholesky(apart))
        smallest = np.linalg.eigvalsh(inner @ R @ inner.swapaxes(1, 2))[:, 0]
        share = np.where(smallest < NEAR_ONE, (NEAR_ONE - smallest) / (1 - smallest), 0.0)
        kept = share[:, None, None]
        return np.asarray(np.linalg.cholesky((1 - kept) * R + kept * apart)), share
