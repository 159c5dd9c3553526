"""New responses drawn from a fitted model."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ranef.inference.means import fitted
from ranef.models.estimate import Estimate

__all__ = ["EffectDraws", "simulate"]

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class EffectDraws:
    """The random effects of one term, ready to be drawn: b ~ N(0, K x Psi).

    Attributes
    ----------
    n_levels : int
    root : (r, r) float64 array
        A square root of Psi.
    kernel_root : (q, q) float64 array or None
        A square root of K; None without a kernel.
    """

    n_levels: int
    root: Floats
    kernel_root: Floats | None

    @classmethod
    def of(cls, n_levels: int, psi: Floats, kernel: Floats | None) -> EffectDraws:
        """Take the square roots of Psi and K."""
        return cls(n_levels, square_root(psi), None if kernel is None else square_root(kernel))

    def draw(self, rng: np.random.Generator) -> Floats:
        """Return the effects of all levels, (q, r)."""
        b: Floats = rng.standard_normal((self.n_levels, len(self.root))) @ self.root.T
        return b if self.kernel_root is None else self.kernel_root @ b


def simulate(
    estimate: Estimate, n: int, rng: np.random.Generator, *, conditional: bool = False
) -> Floats:
    """Draw n responses for the rows in the model.

    y = offset + X beta + Z b + e with e_i ~ N(0, sigma^2 / w_i). The random
    effects stay at their conditional modes if `conditional`, else they are
    drawn anew: b ~ N(0, K x Psi) per term, K the identity without a kernel.

    Returns
    -------
    (n_used, n) float64 array
    """
    spec = estimate.specification
    mean = fitted(estimate, conditional=conditional)
    sd = estimate.sigma / (1.0 if spec.weights is None else np.sqrt(spec.weights))
    effects = [
        EffectDraws.of(spec.factors[term.factor].n_levels, psi, term.kernel)
        for term, psi in zip(spec.terms, () if conditional else estimate.covariances, strict=False)
    ]
    drawn = np.empty((n, spec.n))
    for row in drawn:
        row[:] = mean
        for term, effect in zip(spec.terms, effects, strict=False):
            b = effect.draw(rng)
            row += np.einsum("nr,nr->n", term.z, b[spec.factors[term.factor].codes])
        row += sd * rng.standard_normal(spec.n)
    return drawn.T


def square_root(matrix: Floats) -> Floats:
    """R with R R' = matrix, for a positive semidefinite matrix."""
    values, vectors = np.linalg.eigh(matrix)
    root: Floats = vectors * np.sqrt(np.maximum(values, 0.0))
    return root
