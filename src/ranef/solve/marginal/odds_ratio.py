"""Alternating logistic regressions: binary responses associated by a log odds ratio.

Carey, Zeger & Diggle (1993, Biometrika 80). Two responses of a cluster have the odds ratio
exp(alpha), which with their means gives P(both) (Plackett 1965) and so their covariance in the
equations of the mean. alpha is that of a logistic regression of each response on each earlier one
of its cluster,

    logit P(y_j = 1 | y_k) = alpha y_k + log((mu_j - mu_jk) / (1 - mu_j - mu_k + mu_jk)),

one step of which is taken at each step of the mean.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ranef.solve.marginal.clusters import Clusters, Slice
from ranef.solve.marginal.working import Working

__all__ = ["OddsRatio", "both", "responses"]

Floats = NDArray[np.float64]
LARGEST = 20.0
NEAR_ONE = 1e-6
LONGEST_STEP = 1.0


def responses(e: Floats) -> tuple[Floats, Floats]:
    """Binary responses and their means, of Pearson's residuals: e^2 is the odds against y."""
    odds = e * e
    return (e > 0).astype(np.float64), np.where(e > 0, 1 / (1 + odds), odds / (1 + odds))


def both(first: Floats, second: Floats, alpha: float) -> Floats:
    """P(both) of two binary responses with these means and the log odds ratio alpha."""
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


@dataclass(frozen=True, eq=False)
class OddsRatio(Working):
    """One log odds ratio for all pairs of rows of a cluster.

    Its correlations depend on the means, so that `whiten` reads these from the last column of its
    rows, which must be Pearson's residuals.
    """

    name = "log odds ratio"

    def sums(self, v: Floats, clusters: Clusters, part: Slice) -> Floats:
        """Score and information of alpha."""
        y, mu = responses(v)
        alpha, found = float(self.parameters[0]), np.zeros(2)
        for first, second in clusters.pairs(part):
            joint = both(mu[second], mu[first], alpha)
            conditional = np.where(
                y[first] > 0, joint / mu[first], (mu[second] - joint) / (1 - mu[first])
            )
            slope = _slope(mu[second], mu[first], joint)
            slope = np.where(y[first] > 0, slope / mu[first], -slope / (1 - mu[first]))
            spread = np.maximum(conditional * (1 - conditional), 1e-300)
            found += [
                np.sum(slope / spread * (y[second] - conditional)),
                np.sum(slope * slope / spread),
            ]
        return found

    def fitted(self, sums: Floats, counts: Floats, clusters: Clusters, floor: float) -> Working:
        step = sums[0] / sums[1] if sums[1] > 0 else 0.0
        alpha = float(self.parameters[0]) + float(np.clip(step, -LONGEST_STEP, LONGEST_STEP))
        gap = abs(float(sums[0])) / float(np.sqrt(sums[1])) if sums[1] > 0 else 0.0
        return replace(self, parameters=np.array([np.clip(alpha, -LARGEST, LARGEST)]), gap=gap)

    def reduced(self, counts: Floats, p: int, rows: float) -> Floats:
        return counts

    def whiten(self, rows: Floats, clusters: Clusters, part: Slice) -> Floats:
        _, mu = responses(rows[:, -1])
        out, root = np.empty_like(rows), np.sqrt(mu * (1 - mu))
        for pattern in clusters.patterns(part):
            m, scale = mu[pattern.rows], root[pattern.rows]
            joint = both(m[:, :, None], m[:, None, :], float(self.parameters[0]))
            R = (joint - m[:, :, None] * m[:, None, :]) / (scale[:, :, None] * scale[:, None, :])
            diagonal = np.arange(m.shape[1])
            R[:, diagonal, diagonal] = 1.0
            out[pattern.rows] = np.linalg.solve(_root(R), rows[pattern.rows])
        return out


def _root(R: Floats) -> Floats:
    """Cholesky factors; pairwise odds ratios that no distribution has are mixed with none."""
    try:
        return np.asarray(np.linalg.cholesky(R))
    except np.linalg.LinAlgError:
        smallest = np.linalg.eigvalsh(R)[:, 0]
        share = np.where(smallest < NEAR_ONE, (NEAR_ONE - smallest) / (1 - smallest), 0.0)
        return np.asarray(
            np.linalg.cholesky(
                (1 - share)[:, None, None] * R + share[:, None, None] * np.eye(R.shape[1])
            )
        )
