"""Stacked ridge regression of traits on all variants (Mbatchou et al. 2021), out of fold.

Level 0: in each block of variants, ridge regressions at several shrinkages, fitted without a fold
of samples and predicted in it. Level 1: a ridge regression of the trait on all these predictions,
its shrinkage by cross-validation. The prediction by the blocks of all chromosomes but one is what
the variants of that one are tested beside.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["FOLDS", "SHARES", "Stacked", "first_level", "folds_of", "second_level"]

Floats = NDArray[np.float64]
Singles = NDArray[np.float32]

FOLDS = 5
SHARES = (0.01, 0.25, 0.5, 0.75, 0.99)
"""Shares of variance of which the shrinkages are those of a polygenic model."""


def folds_of(
    n: int, families: Sequence[NDArray[np.intp]] = (), names: Sequence[Any] | None = None
) -> list[NDArray[np.intp]]:
    """Samples of each fold: every fifth family, so that nobody is predicted by kin.

    families : arrays of families of one size, a row each; without them everybody is one, and
    families of more than a tenth of all are split; names : by which samples are counted, so that
    their order in a file says nothing.

    Examples
    --------
    >>> [fold.tolist() for fold in folds_of(6)]
    [[0, 5], [1], [2], [3], [4]]
    >>> [fold.tolist() for fold in folds_of(6, names=list("fedcba"))]
    [[0, 5], [4], [3], [2], [1]]
    """
    rank = np.arange(n)
    if names is not None:
        rank[sorted(range(n), key=names.__getitem__)] = np.arange(n)
    whole = [f for f in families if f.shape[1] <= max(n // 10, 1)]
    fold = rank % FOLDS
    for members in whole:
        first = np.argsort(rank[members].min(axis=1))
        fold[members[first]] = (np.arange(len(members)) % FOLDS)[:, None]
    return [np.flatnonzero(fold == k) for k in range(FOLDS)]


def ridge_solutions(G: Floats, C: Floats, shrinkages: Iterable[float]) -> list[Floats]:
    """Solve (G + s I) b = C for each shrinkage s.

    G : (p, p); C : (p, k).
    """
    from scipy.linalg import cho_factor, cho_solve

    out = []
    for s in shrinkages:
        A = G.copy()
        A[np.diag_indices_from(A)] += s
        out.append(cho_solve(cho_factor(A, lower=True, overwrite_a=True), C, check_finite=False))
    return out


def first_level(X: Singles, Y: Floats, folds: Sequence[NDArray[np.intp]], total: int) -> Singles:
    """Predictions of a block of variants, out of fold.

    Parameters
    ----------
    X : (b, n) float32 array
        Variants by row, of variance one, covariates projected out.
    Y : (n, k) array
        Traits, likewise.
    total : int
        Variants of all blocks: a share h of variance has the shrinkage total (1 - h) / h.

    Returns
    -------
    (k, len(SHARES), n) float32 array
    """
    n = X.shape[1]
    G = [(X[:, fold] @ X[:, fold].T).astype(np.float64) for fold in folds]
    C = [X[:, fold].astype(np.float64) @ Y[fold] for fold in folds]
    whole_G, whole_C = np.sum(G, axis=0), np.sum(C, axis=0)
    shrinkages = [total * (1.0 - h) / h for h in SHARES]
    out = np.empty((Y.shape[1], len(SHARES), n), dtype=np.float32)
    for fold, own_G, own_C in zip(folds, G, C, strict=True):
        solved = ridge_solutions(whole_G - own_G, whole_C - own_C, shrinkages)
        for r, beta in enumerate(solved):
            out[:, r, fold] = beta.T.astype(np.float32) @ X[:, fold]
    return out


@dataclass(frozen=True, eq=False)
class Stacked:
    """The second level of a trait.

    Attributes
    ----------
    share : float
        Of `SHARES`, the one that predicted best.
    r2 : float
        Squared correlation of prediction and trait, out of fold.
    without : dict of str to (n,) arrays
        The prediction by the blocks of all chromosomes but one; by all of them under ``""``.
    """

    share: float
    r2: float
    without: dict[str, Floats]


def second_level(
    predictions: Singles, chromosome: Sequence[str], y: Floats, folds: Sequence[NDArray[np.intp]]
) -> Stacked:
    """Stack the predictions of the blocks.

    Parameters
    ----------
    predictions : (L, n) float32 array
        Of all blocks and shrinkages.
    chromosome : sequence of L str
        Of each row's block.
    y : (n,) array
    """
    scale = predictions.std(axis=1, dtype=np.float64)
    kept = scale > 1e-8 * max(float(scale.max(initial=0.0)), 1e-30)
    names = np.array(chromosome, dtype=object)
    if not kept.any():
        nothing = np.zeros(len(y))
        return Stacked(SHARES[0], 0.0, {"": nothing})
    W = predictions[kept] / scale[kept].astype(np.float32)[:, None]
    of = names[kept]
    L = len(W)
    shrinkages = [L * (1.0 - h) / h for h in SHARES]
    G = [(W[:, f] @ W[:, f].T).astype(np.float64) for f in folds]
    C = [W[:, f].astype(np.float64) @ y[f] for f in folds]
    whole_G, whole_C = np.sum(G, axis=0), np.sum(C, axis=0)
    solved = [
        ridge_solutions(whole_G - g, (whole_C - c)[:, None], shrinkages)
        for g, c in zip(G, C, strict=True)
    ]
    errors = np.zeros(len(SHARES))
    for fold, betas in zip(folds, solved, strict=True):
        for r, beta in enumerate(betas):
            fitted = beta[:, 0].astype(np.float32) @ W[:, fold]
            errors[r] += float(np.sum((y[fold] - fitted) ** 2))
    best = int(np.argmin(errors))

    def predicted(rows: NDArray[np.bool_]) -> Floats:
        out = np.empty(len(y))
        for fold, betas in zip(folds, solved, strict=True):
            out[fold] = betas[best][rows, 0].astype(np.float32) @ W[np.ix_(rows, fold)]
        return out

    everything = predicted(np.ones(L, dtype=bool))
    without = {"": everything}
    for name in dict.fromkeys(of.tolist()):
        without[name] = everything - predicted(of == name)
    spread = float(everything.std() * y.std())
    shared = float(np.mean((everything - everything.mean()) * (y - y.mean())))
    correlation = shared / spread if spread else 0.0
    return Stacked(SHARES[best], max(correlation, 0.0) ** 2, without)
