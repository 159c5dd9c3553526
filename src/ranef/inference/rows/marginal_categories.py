"""What a population-averaged model of categories says of rows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ranef.families import Cumulative, Family

__all__ = ["CategoryRows", "category_rows"]

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class CategoryRows:
    """Values (N, K) of rows and their derivatives (N, K, P) in the coefficients."""

    value: Floats
    jacobian: Floats


def category_rows(
    family: Family, basis: Floats | None, X: Floats, offset: Floats | None, beta: Floats, type: str
) -> CategoryRows:
    """Evaluate rows.

    Parameters
    ----------
    family : Family
        Cumulative or multinomial.
    basis : (J - 1, k) array or None
        From the parameters of thresholds to these, of ordered categories.
    X : (N, p) array
        Columns of the mean, of ordered categories without an intercept.
    offset : (N,) array or None
    beta : (P,) array
        Effects and thresholds, or the effects of each category but the first.
    type : {"link", "prob", "mean_class"}
        The predictor (of ordered categories less the mean threshold; of others the log odds of
        each against the first), probabilities of the categories, or the mean of their numbers.
    """
    etas, slopes = _predictors(family, basis, X, offset, beta)
    if type == "link":
        return _as_link(family, etas, slopes)
    value = family.mean(etas)
    by = family.mean_derivatives(etas)
    jacobian = np.einsum("ank,anp->nkp", by, slopes)
    if type == "mean_class":
        score = np.arange(1.0, value.shape[1] + 1)
        return CategoryRows(
            (value @ score)[:, None], np.einsum("nkp,k->np", jacobian, score)[:, None, :]
        )
    return CategoryRows(value, jacobian)


def _predictors(
    family: Family, basis: Floats | None, X: Floats, offset: Floats | None, beta: Floats
) -> tuple[Floats, Floats]:
    """Predictors (M, N) as the family takes them, and their derivatives (M, N, P)."""
    n, p = X.shape
    shift = np.zeros(n) if offset is None else offset
    if basis is not None:
        cuts = len(basis)
        etas = np.empty((1 + cuts, n))
        slopes = np.zeros((1 + cuts, n, len(beta)))
        etas[0] = X @ beta[:p] + shift
        etas[1:] = (basis @ beta[p:])[:, None]
        slopes[0, :, :p] = X
        slopes[1:, :, p:] = basis[:, None, :]
        return etas, slopes
    M = len(beta) // max(p, 1)
    slopes = np.zeros((M, n, len(beta)))
    for m in range(M):
        slopes[m, :, m * p : (m + 1) * p] = X
    return slopes @ beta + shift, slopes


def _as_link(family: Family, etas: Floats, slopes: Floats) -> CategoryRows:
    if isinstance(family, Cumulative):
        value = etas[0] - etas[1:].mean(axis=0)
        return CategoryRows(value[:, None], (slopes[0] - slopes[1:].mean(axis=0))[:, None, :])
    return CategoryRows(etas.T, slopes.swapaxes(0, 1))
