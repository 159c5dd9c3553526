"""New responses drawn from a fitted model."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ranef.inference.means import fitted
from ranef.models.estimate import Estimate

__all__ = ["simulate"]

Floats = NDArray[np.float64]


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
    roots = [] if conditional else [square_root(psi) for psi in estimate.covariances]
    kernels = [None if t.kernel is None else square_root(t.kernel) for t in spec.terms]
    drawn = np.empty((n, spec.n))
    for row in drawn:
        row[:] = mean
        for term, root, kernel in zip(spec.terms, roots, kernels, strict=False):
            factor = spec.factors[term.factor]
            b = rng.standard_normal((factor.n_levels, term.size)) @ root.T
            b = b if kernel is None else kernel @ b
            row += np.einsum("nr,nr->n", term.z, b[factor.codes])
        row += sd * rng.standard_normal(spec.n)
    return drawn.T


def square_root(matrix: Floats) -> Floats:
    """R with R R' = matrix, for a positive semidefinite matrix."""
    values, vectors = np.linalg.eigh(matrix)
    root: Floats = vectors * np.sqrt(np.maximum(values, 0.0))
    return root
