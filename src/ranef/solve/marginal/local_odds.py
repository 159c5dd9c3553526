"""Local odds ratios of the tables of two responses of a cluster, pooled over clusters.

Association models (Goodman 1985, Annals of Statistics 13) as Touloumis, Agresti & Kateri (2013,
Biometrics 69) use them: log f_ab = row_a + column_b + association_ab in the table of each pair of
times, the association the same in all. Of ordered categories it is phi a b (uniform: one local log
odds ratio); of others phi s_a s_b with scores s that are estimated. By maximum likelihood, the
margins fitted by `tables_with_margins`.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ranef.solve.marginal.associations import tables_with_margins
from ranef.solve.marginal.clusters import Clusters

__all__ = ["pooled_tables", "scored", "uniform"]

Floats = NDArray[np.float64]
Ints = NDArray[np.intp]

LARGEST = 10.0


def pooled_tables(
    categories: Ints, count: int, clusters: Clusters, roots: Floats | None, timed: bool
) -> Floats:
    """Tables (P, J, J) of the pairs of responses of a cluster, one for each pair of times.

    Without times one table, of all pairs in both orders.

    Parameters
    ----------
    categories : (n,) array
        0 .. count - 1, rows as in `clusters`.
    count : int
        J.
    clusters : Clusters
        Of responses.
    roots : (n,) array or None
        Roots of sampling weights; a pair counts their product.
    timed : bool
    """
    T = len(clusters.places) if timed else 1
    tables = np.zeros(T * T * count * count)
    for part in clusters.slices:
        y = categories[part.rows]
        at = clusters.positions[part.rows] if timed else np.zeros(len(y), dtype=np.intp)
        w = None if roots is None else roots[part.rows]
        for first, second in clusters.pairs(part):
            code = ((at[first] * T + at[second]) * count + y[first]) * count + y[second]
            size = None if w is None else w[first] * w[second]
            tables += np.bincount(code, weights=size, minlength=len(tables))
    found = tables.reshape(T * T, count, count)
    if not timed:
        found = found + found.swapaxes(1, 2)
    return np.ascontiguousarray(found[found.sum(axis=(1, 2)) > 0])


def _fitted(tables: Floats, association: Floats) -> Floats:
    """Tables with the margins of these and an association."""
    total = tables.sum(axis=(1, 2))[:, None]
    rows, columns = tables.sum(axis=2) / total, tables.sum(axis=1) / total
    floor = 1e-12
    rows, columns = np.maximum(rows, floor), np.maximum(columns, floor)
    rows = rows / rows.sum(axis=1, keepdims=True)
    columns = columns / columns.sum(axis=1, keepdims=True)
    return np.asarray(total[:, :, None] * tables_with_margins(rows, columns, np.exp(association)))


def uniform(tables: Floats) -> Floats:
    """The local log odds ratio phi that all tables share, as parameters of `association`."""
    from scipy.optimize import brentq

    J = tables.shape[1]
    products = np.outer(np.arange(J), np.arange(J)).astype(np.float64)
    wanted = float(np.sum(tables * products))

    def gap(phi: float) -> float:
        return float(np.sum(_fitted(tables, phi * products) * products)) - wanted

    reach = 1.0
    while gap(-reach) * gap(reach) > 0 and reach < LARGEST:
        reach = min(2 * reach, LARGEST)
    if gap(-reach) * gap(reach) > 0:
        phi = LARGEST if gap(LARGEST) < 0 else -LARGEST
    else:
        phi = float(brentq(gap, -reach, reach, xtol=1e-13, rtol=1e-13))
    return np.full(J * (J - 1) // 2, phi)


def scored(tables: Floats) -> Floats:
    """Local log odds ratios (s_a+1 - s_a)(s_b+1 - s_b), or minus these, of estimated scores."""
    found = min((_searched(tables, sign) for sign in (1.0, -1.0)), key=lambda one: one[0])
    return found[1]


def _searched(tables: Floats, sign: float) -> tuple[float, Floats]:
    """Minus the log-likelihood and the parameters of one sign of the association."""
    from scipy.optimize import minimize

    J, total = tables.shape[1], float(tables.sum())

    def value(steps: Floats) -> tuple[float, Floats]:
        s = np.append(0.0, np.cumsum(steps))
        fitted = _fitted(tables, sign * np.outer(s, s))
        seen = tables > 0
        loss = -float(np.sum(tables[seen] * np.log(fitted[seen]))) / total
        gap = (fitted - tables).sum(axis=0) / total
        of_scores = sign * (gap @ s + gap.T @ s)
        return loss, np.cumsum(of_scores[:0:-1])[::-1]

    best: tuple[float, Floats] | None = None
    for begin in _starts(tables, sign):
        bounds = [(-LARGEST, LARGEST)] * (J - 1)
        found = minimize(
            value, begin, jac=True, method="L-BFGS-B", bounds=bounds,
            options={"maxiter": 2000, "ftol": 1e-16, "gtol": 1e-11},
        )  # fmt: skip
        if best is None or found.fun < best[0] - 1e-12:
            best = float(found.fun), np.asarray(found.x)
    assert best is not None
    steps = best[1]
    local = sign * np.outer(steps, steps)
    return best[0], local[np.triu_indices(J - 1)]


def _starts(tables: Floats, sign: float) -> list[Floats]:
    """Steps of scores to start from: of the leading vector of the log odds, and even ones."""
    pooled = np.log(tables.sum(axis=0) + tables.sum(axis=0).T + 1.0)
    centred = pooled - pooled.mean(axis=0) - pooled.mean(axis=1)[:, None] + pooled.mean()
    values, vectors = np.linalg.eigh(sign * centred)
    leading = np.sqrt(max(float(values[-1]), 0.01)) * vectors[:, -1]
    return [np.diff(leading), np.full(len(tables[0]) - 1, 0.5)]
