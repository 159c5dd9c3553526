"""Responses with categories as rows of estimating equations.

A response of J categories is J - 1 rows, the indicators of y <= j. Of ordered categories
P(y <= j) = F(threshold_j - x'b), each row a mean of its own predictor. Of others the rows of one
response share their predictors, the log odds of each category against the first. Equations do not
depend on which J - 1 indicators stand for a response, so that these serve both.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ranef.solve.marginal.clusters import Slice
from ranef.solve.marginal.equations import Outside, Problem
from ranef.solve.marginal.working import WorkingRows

__all__ = ["CategoryProblem", "indicators", "nominal_rows", "ordinal_rows"]

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class CategoryProblem(Problem):
    """Indicators of y <= j, the J - 1 of a response one after the other.

    Attributes
    ----------
    cuts : int
        J - 1.
    ordered : bool
    """

    cuts: int = 1
    ordered: bool = True

    @property
    def observations(self) -> int:
        """Number of responses."""
        return self.clusters.n // self.cuts

    def means(self, beta: Floats, part: Slice) -> Floats:
        """Means of the rows of a slice."""
        eta = self.predictor(beta, part)
        if self.ordered:
            return self.inverse(eta)
        return np.cumsum(_softmax(eta.reshape(-1, self.cuts))[:, :-1], axis=1).ravel()

    def quasi(self, beta: Floats, part: Slice) -> Floats:
        """Log-likelihood of the responses of a slice, in the first row of each."""
        eta = self.predictor(beta, part).reshape(-1, self.cuts)
        if self.ordered:
            ends = np.ones((len(eta), 1))
            p = np.diff(np.hstack([0 * ends, self.inverse(eta), ends]), axis=1)
        else:
            p = _softmax(eta)
        seen = self.cuts - self.y[part.rows].reshape(-1, self.cuts).sum(axis=1).astype(np.intp)
        found = np.zeros_like(eta)
        with np.errstate(divide="ignore"):
            found[:, 0] = np.log(p[np.arange(len(p)), seen])
        return found.ravel()

    def start(self) -> Floats:
        """Coefficients to start from: categories as they are over all rows."""
        y = self.y.reshape(-1, self.cuts)
        weights = np.ones(len(y))
        for w in (self.sampling, self.weights):
            weights = weights if w is None else weights * w.reshape(-1, self.cuts)[:, 0]
        below = np.average(y, axis=0, weights=weights)
        share = np.diff(np.concatenate([[0.0], below, [1.0]]))
        share = (share + 1e-3) / (1 + 1e-3 * len(share))
        target = self.link(np.cumsum(share)[:-1]) if self.ordered else np.log(share[1:] / share[0])
        wanted = np.tile(target, len(y))
        if self.offset is not None:
            wanted = wanted - self.offset
        return np.asarray(np.linalg.lstsq(self.X.T @ self.X, self.X.T @ wanted, rcond=1e-12)[0])

    def curves(self, beta: Floats, part: Slice) -> tuple[Floats, Floats]:
        eta = self.predictor(beta, part).reshape(-1, self.cuts)
        if not self.ordered:
            return _nominal_curves(_softmax(eta))
        own = np.arange(self.cuts)
        slopes = np.zeros((*eta.shape, self.cuts))
        bends = np.zeros((*eta.shape, self.cuts, self.cuts))
        slopes[:, own, own], bends[:, own, own, own] = self.first(eta), self.second(eta)
        return slopes, bends

    def working_rows(self, beta: Floats, part: Slice, bend: bool = False) -> WorkingRows:
        """Scale the rows of a slice at beta."""
        assert not bend
        eta = self.predictor(beta, part).reshape(-1, self.cuts)
        X = self.X[part.rows]
        with np.errstate(all="ignore"):
            if self.ordered:
                mu, slope = self.inverse(eta), self.first(eta)
                D = slope.reshape(-1, 1) * X
            else:
                p = _softmax(eta)
                mu = np.cumsum(p, axis=1)[:, :-1]
                D = _nominal_slopes(p, mu) @ X.reshape(len(eta), self.cuts, -1)
                D = D.reshape(len(X), -1)
            steps = np.diff(mu, axis=1, prepend=0.0, append=1.0)
            if not (np.isfinite(D).all() and (steps > 0).all() and (mu < 1).all()):
                raise Outside
        y, mu = self.y[part.rows], mu.ravel()
        root, precision = np.sqrt(mu * (1 - mu)), self.root_precision(part)
        if precision is not None:
            root = root / precision
        return WorkingRows(
            (y - mu) / root, D / root[:, None], y, mu, self.root_sampling(part),
            precision=precision,
        )  # fmt: skip


def _softmax(eta: Floats) -> Floats:
    """Probabilities (N, J) of log odds (N, J - 1) against the first."""
    full = np.hstack([np.zeros((len(eta), 1)), eta])
    odds = np.exp(full - full.max(axis=1, keepdims=True))
    return np.asarray(odds / odds.sum(axis=1, keepdims=True))


def _nominal_slopes(p: Floats, mu: Floats) -> Floats:
    """Derivatives (N, c, c) of P(y <= j) in the log odds of category k."""
    c = mu.shape[1]
    held = np.tril(np.ones((c, c)), -1)  # category k + 1 is at most j: k < j
    return np.asarray(p[:, None, 1:] * (held - mu[:, :, None]))


def _nominal_curves(p: Floats) -> tuple[Floats, Floats]:
    """First (N, c, c) and second derivatives (N, c, c, c) of P(y <= j) in log odds."""
    mu = np.cumsum(p, axis=1)[:, :-1]
    slopes, own = _nominal_slopes(p, mu), p[:, 1:]
    c = mu.shape[1]
    moved = own[:, :, None] * (np.eye(c) - own[:, None, :])  # of p_k in log odds l
    held = np.tril(np.ones((c, c)), -1) - mu[:, :, None]
    bends = held[..., None] * moved[:, None] - own[:, None, :, None] * slopes[:, :, None, :]
    return slopes, np.asarray(bends)


def indicators(y: Floats, cuts: int) -> Floats:
    """Indicators (n c,) of y <= j of categories 0 .. c."""
    return np.asarray((y[:, None] <= np.arange(cuts)).astype(np.float64).ravel())


def ordinal_rows(X: Floats, basis: Floats) -> Floats:
    """Rows (n c, p + k) of threshold_j - x'b: -x, and row j of the thresholds' basis (c, k)."""
    c = len(basis)
    return np.ascontiguousarray(np.hstack([np.repeat(-X, c, axis=0), np.tile(basis, (len(X), 1))]))


def nominal_rows(X: Floats, cuts: int) -> Floats:
    """Rows (n c, c p), the predictors of each category in columns of its own."""
    n, p = X.shape
    found = np.zeros((n, cuts, cuts, p))
    for k in range(cuts):
        found[:, k, k] = X
    return found.reshape(n * cuts, cuts * p)
