"""Linear mixed models of many outcomes with one design and one grouping factor, in arrays."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ranef import _core

__all__ = ["MOST_FIXED", "MOST_RANDOM", "RepeatedFits", "repeated_measures", "unpacked"]

Floats = NDArray[np.float64]

MOST_FIXED = 16
MOST_RANDOM = 3
CONVERGED = 1e-8
"""What the deviance may still fall by."""
DEPENDENT = 1e-10


@dataclass(frozen=True, eq=False)
class RepeatedFits:
    """One linear mixed model for each of N outcomes.

    Attributes
    ----------
    beta : (p, N) array
    vcov : (p (p + 1) / 2, N) array
        Covariance of beta, upper triangles by rows.
    spread : (f, p (p + 1) / 2, N) array
        Matrices E_k with Satterthwaite's df of c'beta = 2 (c'vcov c)^2 / sum_k (c'E_k c)^2.
    psi : (q (q + 1) / 2, N) array
        Covariance of the random effects over sigma^2, upper triangles.
    sigma2, loglik : (N,) arrays
    rank : (N,) array
        Of psi: less than q on the boundary.
    converged : (N,) bool array
    n : (N,) int array
        Rows with data.
    """

    beta: Floats
    vcov: Floats
    spread: Floats
    psi: Floats
    sigma2: Floats
    loglik: Floats
    rank: Floats
    converged: NDArray[np.bool_]
    n: NDArray[np.int64]


def unpacked(packed: Floats, size: int) -> Floats:
    """Upper triangles (..., size (size + 1) / 2, N) as matrices (..., size, size, N)."""
    full = np.empty((*packed.shape[:-2], size, size, packed.shape[-1]))
    for place, (a, b) in enumerate(zip(*np.triu_indices(size), strict=True)):
        full[..., a, b, :] = full[..., b, a, :] = packed[..., place, :]
    return full


def repeated_measures(
    Y: NDArray[np.floating], X: Floats, Z: Floats, codes: NDArray[np.integer], *, reml: bool = True,
    n_jobs: int = 1,
) -> RepeatedFits:  # fmt: skip
    """Fit y = X b + Z u + e to each column of Y, u of each level ~ N(0, sigma^2 Psi).

    Where a row has no finite value it is left out for that outcome; outcomes with the same rows
    are fitted together. Levels with equal rows of X and Z are one class, and the likelihood of an
    outcome costs as much as there are classes (Newton's method on the factor of Psi with exact
    second derivatives; Lindstrom & Bates 1988, J. Am. Stat. Assoc. 83).

    Parameters
    ----------
    Y : (n, N) float32 or float64 array
    X : (n, p) array
        Of full rank, at most 16 columns.
    Z : (n, q) array
        At most 3 columns.
    codes : (n,) int array
        Level of each row.
    """
    N, p, q = Y.shape[1], X.shape[1], Z.shape[1]
    P2, T = p * (p + 1) // 2, q * (q + 1) // 2
    shapes = {"beta": (p, N), "vcov": (P2, N), "spread": (T + 1, P2, N), "psi": (T, N),
              "sigma2": (N,), "loglik": (N,), "rank": (N,)}  # fmt: skip
    out = {name: np.full(shape, np.nan) for name, shape in shapes.items()}
    converged = np.zeros(N, dtype=np.bool_)
    there = np.isfinite(Y)
    n = there.sum(axis=0)
    for keep, columns in _patterns(there):
        if not keep.any():
            continue
        part = Y if keep.all() and len(columns) == N else Y[np.ix_(keep, columns)]
        found = _together(part, X[keep], Z[keep], np.asarray(codes)[keep], reml, n_jobs)
        if found is None:
            continue
        for name in shapes:
            out[name][..., columns] = found[name]
        converged[columns] = found["decrement"] <= CONVERGED
    return RepeatedFits(**out, converged=converged, n=n)


def _patterns(
    there: NDArray[np.bool_],
) -> list[tuple[NDArray[np.bool_], NDArray[np.intp]]]:
    """Sets of outcomes with data in the same rows."""
    if there.all():
        return [(np.ones(len(there), dtype=np.bool_), np.arange(there.shape[1]))]
    packed = np.packbits(there, axis=0).T
    _, first, which = np.unique(packed, axis=0, return_index=True, return_inverse=True)
    order = np.argsort(np.asarray(which).reshape(-1), kind="stable")
    ends = np.cumsum(np.bincount(np.asarray(which).reshape(-1)))[:-1]
    return [
        (there[:, one], columns) for one, columns in zip(first, np.split(order, ends), strict=True)
    ]


def _together(
    Y: NDArray[np.floating], X: Floats, Z: Floats, codes: NDArray[np.integer], reml: bool, jobs: int
) -> dict[str, Floats] | None:
    """Outcomes without gaps; None where the rows do not determine the coefficients."""
    p, q = X.shape[1], Z.shape[1]
    if len(X) <= p + 1:
        return None
    Q, R = np.linalg.qr(X)
    size = np.linalg.norm(X, axis=0)
    if (np.abs(np.diag(R)) <= DEPENDENT * np.where(size > 0, size, 1.0)).any():
        return None
    unit = np.sqrt(np.mean(Z**2, axis=0))
    if (unit == 0).any():
        return None
    levels, level = np.unique(codes, return_inverse=True)
    level = np.asarray(level).reshape(-1).astype(np.int32)
    if len(levels) < 2:
        return None
    kind = _classes(np.column_stack([X, Z]), level, len(levels))
    found = _core.repeated_measures(
        np.ascontiguousarray(Y), np.ascontiguousarray(Q), np.ascontiguousarray(Z / unit), level,
        kind, reml, jobs,
    )  # fmt: skip
    back = np.linalg.inv(R)
    T = q * (q + 1) // 2
    out = {name: found[name] for name in ("sigma2", "rank", "decrement")}
    out["beta"] = back @ found["beta"]
    out["vcov"] = _turned(found["bread"], back)
    out["spread"] = _turned(found["spread"].reshape(T + 1, -1, Y.shape[1]), back)
    a, b = np.triu_indices(q)
    out["psi"] = found["psi"] / (unit[a] * unit[b])[:, None]
    shift = float(np.log(np.abs(np.diag(R))).sum()) if reml else 0.0
    out["loglik"] = found["loglik"] - shift
    return out


def _turned(packed: Floats, back: Floats) -> Floats:
    """B M B' of packed upper triangles (..., p (p + 1) / 2, N), packed again."""
    p = len(back)
    a, b = np.triu_indices(p)
    weights = np.zeros((len(a), len(a)))
    for place, (i, j) in enumerate(zip(a, b, strict=True)):
        E = np.zeros((p, p))
        E[i, j] = E[j, i] = 1.0
        weights[:, place] = (back @ E @ back.T)[a, b]
    return np.asarray(weights @ packed)


def _classes(rows: Floats, level: NDArray[np.int32], count: int) -> NDArray[np.int32]:
    """Code of the class of each level: the same rows, in whatever order."""
    order = np.lexsort([*rows.T[::-1], level])
    ends = np.cumsum(np.bincount(level, minlength=count))[:-1]
    seen: dict[bytes, int] = {}
    kinds = [
        seen.setdefault(np.ascontiguousarray(part + 0.0).tobytes(), len(seen))
        for part in np.split(rows[order], ends)
    ]
    return np.array(kinds, dtype=np.int32)
