"""The joint posterior of combinations of effects and coefficients.

Given the variance parameters, and with a flat prior for the fixed effects, the
posterior of a linear model is normal with the BLUPs as its mean and the covariance of
their errors of prediction (Henderson 1975, Biometrics 31; Dempster, Rubin & Tsutakawa
1981, J. Am. Stat. Assoc. 76). Of a generalised model it is the normal approximation at
the mode, with the curvature there. The uncertainty of the variance parameters enters to
first order, as the movement of the means (Kass & Steffey 1989, J. Am. Stat. Assoc. 84).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ranef.derivatives import generalised, joint_errors
from ranef.inference.coefficients.parameters import parameter_covariance
from ranef.inference.effects.combinations import Combinations
from ranef.inference.rows.prediction import by_theta
from ranef.inference.rows.uncertainty import mode_derivatives
from ranef.models.records import GeneralisedEstimate, LinearEstimate
from ranef.models.rows import at_levels

__all__ = ["GIVEN", "Posterior", "by_parameters", "generalised_posterior", "linear_posterior"]

Floats = NDArray[np.float64]

GIVEN = ("variance", "parameters", "nothing")
"""What the posterior takes as known: the variance parameters; these and the fixed
effects; neither."""

BLOCK = 4_000_000


@dataclass(frozen=True, eq=False)
class Posterior:
    """A joint normal distribution of N numbers: mean + chain e + dense f.

    The vectors e and f are independent and standard normal, so that the covariance
    matrix is ``chain chain' + dense dense'`` and a draw costs no factorisation.

    Attributes
    ----------
    mean : (N,) float64 array
    chain : (N, c) sparse array (CSR)
    dense : (N, d) float64 array
    """

    mean: Floats
    chain: Any
    dense: Floats

    @property
    def variance(self) -> Floats:
        """Variances, (N,)."""
        own = np.asarray(self.chain.multiply(self.chain).sum(axis=1)).ravel()
        return np.asarray(own + np.einsum("nd,nd->n", self.dense, self.dense))

    @property
    def spread(self) -> float:
        """Trace of (I - J / q) V: expected squared deviation from the mean of the q."""
        chain, dense = np.asarray(self.chain.mean(axis=0)).ravel(), self.dense.mean(axis=0)
        return float(self.variance.sum() - len(self.mean) * (chain @ chain + dense @ dense))

    @property
    def sd(self) -> Floats:
        """Standard deviations, (N,)."""
        return np.asarray(np.sqrt(self.variance))

    def covariance(self) -> Floats:
        """Return the covariance matrix, (N, N)."""
        own = (self.chain @ self.chain.T).toarray()
        return np.asarray(own + self.dense @ self.dense.T)

    def covariances(self, m: int) -> Floats:
        """Return the covariance matrices of consecutive m numbers, (N / m, m, m)."""
        blocks = self.dense.reshape(len(self.mean) // m, m, self.dense.shape[1])
        out: Floats = blocks @ blocks.transpose(0, 2, 1)
        rows = [self.chain[a::m] for a in range(m)]
        for a in range(m):
            for b in range(m):
                out[:, a, b] += np.asarray(rows[a].multiply(rows[b]).sum(axis=1)).ravel()
        return out

    def take(self, rows: NDArray[np.intp]) -> Posterior:
        """Return the distribution of some of the numbers, in the order given."""
        return Posterior(self.mean[rows], self.chain[rows], self.dense[rows])

    def draws(self, n: int, rng: np.random.Generator) -> Floats:
        """Draw n times, (n, N)."""
        used = np.unique(self.chain.indices)
        chain = self.chain[:, used].tocsr()
        out = np.empty((n, len(self.mean)))
        width = max(1, len(used) + self.dense.shape[1], len(self.mean))
        step = max(1, BLOCK // width)
        for start in range(0, n, step):
            count = min(step, n - start)
            e = rng.standard_normal((count, len(used)))
            f = rng.standard_normal((count, self.dense.shape[1]))
            out[start : start + count] = self.mean + (chain @ e.T).T + f @ self.dense.T
        return out


def linear_posterior(
    estimate: LinearEstimate, what: Combinations, given: str = "variance"
) -> Posterior:
    """Joint posterior of combinations of effects and coefficients.

    Parameters
    ----------
    estimate : LinearEstimate
    what : Combinations
    given : str
        One of `GIVEN`.

    Raises
    ------
    ModelError
        When the parts of so many combinations do not fit into memory.
    """
    found = joint_errors.whitened(estimate, what.X, what.random)
    parts = [found.tail] if given == "parameters" else [found.tail, found.fixed]
    if given == "nothing":
        known = parameter_covariance(estimate)
        J = by_theta(estimate, what.X, what.random)[:, known.free]
        parts.append(np.asarray(J @ _root(known.covariance[:-1, :-1])))
    return Posterior(what.value(estimate), found.chain, np.hstack(parts))


def generalised_posterior(
    estimate: GeneralisedEstimate, what: Combinations, given: str = "variance"
) -> Posterior:
    """Do the same by the normal approximation at the modes.

    Raises
    ------
    ModelError
        As `linear_posterior`, and (given "nothing") when the second derivatives of the
        likelihood are not definite.
    """
    found = joint_errors.generalised_whitened(estimate, what.X, what.random)
    parts = [found.tail]
    if given == "variance":
        parts.append(found.fixed)
    elif given == "nothing":
        root = _root(generalised.joint_covariance(estimate))
        parts.append(np.asarray(by_parameters(estimate, what) @ root))
    return Posterior(what.value(estimate), found.chain, np.hstack(parts))


def by_parameters(estimate: GeneralisedEstimate, what: Combinations) -> Floats:
    """Derivatives (N, P + k) of combinations in coefficients and theta, modes moving with both."""
    G = np.hstack([what.X, np.zeros((len(what.X), len(estimate.theta)))])
    for given, moved in zip(what.random, mode_derivatives(estimate), strict=True):
        if given is not None:
            codes, z = given
            G += at_levels(moved, codes, z)
    return G


def _root(matrix: Floats) -> Floats:
    """R with R R' = matrix, positive semidefinite."""
    scale = np.sqrt(np.maximum(np.diag(matrix), 0.0))
    unit = np.where(scale > 0, scale, 1.0)
    values, vectors = np.linalg.eigh(matrix / np.outer(unit, unit))
    return np.asarray(unit[:, None] * vectors * np.sqrt(np.maximum(values, 0.0)))
