"""Linear functions of a reference grid: averages, contrasts, joint tests.

What a model says at each row of the grid is a value with its derivatives in the
parameters; averages and contrasts of rows are linear in both. Where columns of the
fixed effects depend on each other, a row can be asked for only if it depends on them in
the same way (Searle 1971, Linear Models, section 5.4); what cannot is NaN, not a number.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ranef.inference.coefficients.functions import ESTIMABLE, Functions, Knowledge
from ranef.inference.coefficients.wald import FTest, Intervals
from ranef.questions.means.alternatives import TWO_SIDED, Alternative
from ranef.questions.means.multiplicity import Adjusted, HypothesisFamily, adjust

__all__ = [
    "AdjustedTests",
    "adjusted_tests",
    "averaged",
    "estimable_basis",
    "joint_test",
    "row_basis",
]

Floats = NDArray[np.float64]
Ints = NDArray[np.intp]
Bools = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class AdjustedTests:
    """Estimates with adjusted tests and intervals.

    Attributes
    ----------
    intervals : Intervals
    families : tuple of Adjusted
        How each family was adjusted, in order.
    """

    intervals: Intervals
    families: tuple[Adjusted, ...]


def averaged(rows: Functions, cells: Ints, weights: Floats, size: int) -> Functions:
    """Weighted means of the rows of each cell; NaN in a cell without weight.

    rows : G of them; cells, weights : (G,); size : number of cells.
    """
    total = np.bincount(cells, weights, minlength=size)
    with np.errstate(divide="ignore", invalid="ignore"):
        share = np.where(total[cells] > 0, weights / total[cells], 0.0)
    empty = (total <= 0)[:, None].astype(np.float64)

    def mean(values: Floats) -> Floats:
        out = np.zeros((size, values.shape[1]))
        used = np.flatnonzero(share)
        np.add.at(out, cells[used], share[used, None] * values[used])
        return out

    value = mean(rows.value[:, None])[:, 0]
    gap = np.hstack([mean(rows.gap), empty * np.eye(size)[:, total <= 0]])
    return Functions(value, mean(rows.jacobian), gap)


def adjusted_tests(
    functions: Functions,
    knowledge: Knowledge,
    families: Sequence[Ints],
    method: str,
    conf_level: float,
    *,
    means: int | None = None,
    rng: np.random.Generator | None = None,
    alternative: Alternative = TWO_SIDED,
) -> AdjustedTests:
    """Test that each function is zero, or another hypothesis, adjusted within families.

    Parameters
    ----------
    functions : Functions
    knowledge : Knowledge
    families : sequence of int arrays
        Places of the functions that are tested together.
    method : str
        See `multiplicity.adjust`.
    conf_level : float
    means : int or None
        Number of means in each family, where the functions are their pairwise
        differences.
    rng : numpy.random.Generator or None
    alternative : Alternative
    """
    J, V = functions.jacobian, knowledge.covariance
    error = np.sqrt(np.maximum(np.sum(J @ V * J, axis=1), 0.0))
    df = np.full(len(error), np.nan)
    uncertain = np.flatnonzero(functions.estimable & (error > 0))
    if len(uncertain):
        df[uncertain] = knowledge.degrees(J[uncertain])
    error = knowledge.settled(error, J)
    value, error = (np.where(functions.estimable, x, np.nan) for x in (functions.value, error))
    testable = ~np.isnan(df)
    statistic = np.full(len(value), np.nan)
    statistic[testable] = alternative.statistic(value[testable], error[testable])
    raw = None if alternative.plain else alternative.p_value(statistic, df)
    p, critical = np.full(len(value), np.nan), np.full(len(value), np.nan)
    adjustments = []
    for rows in families:
        correlation = _correlation(J[rows] @ V @ J[rows].T)
        rank = len(row_basis(J[rows][testable[rows]]))
        own = None if raw is None else raw[rows]
        family = HypothesisFamily(statistic[rows], df[rows], correlation, rank, means, own)
        adjusted = adjust(family, method, conf_level, rng)
        p[rows] = adjusted.p_value
        critical[rows] = alternative.critical(adjusted, df[rows], conf_level)
        adjustments.append(adjusted)
    half = np.where(error == 0, 0.0, critical * error)
    low, high = alternative.ends(value - half, value + half)
    intervals = Intervals(value, error, df, statistic, p, low, high)
    return AdjustedTests(intervals, tuple(adjustments))


def _correlation(covariance: Floats) -> Floats:
    root = np.sqrt(np.maximum(np.diag(covariance), 0.0))
    root[root == 0] = 1.0
    return np.asarray(covariance / np.outer(root, root))


def row_basis(L: Floats) -> Floats:
    """Orthonormal basis (rank, K) of the rows of L."""
    if not L.size:
        return np.zeros((0, L.shape[1]))
    _, singular, Vt = np.linalg.svd(L, full_matrices=False)
    return np.asarray(Vt[singular > 1e-8 * singular.max(initial=0.0)])


def estimable_basis(functions: Functions) -> Floats:
    """Combinations (m, q) of functions that can be estimated, all of them independent.

    Functions that cannot be estimated one by one may have combinations that can.
    """
    q = len(functions.value)
    if not functions.gap.shape[1]:
        return np.eye(q)
    U, singular, _ = np.linalg.svd(functions.gap)
    rank = int(np.count_nonzero(singular > ESTIMABLE))
    return np.asarray(U[:, rank:].T)


def joint_test(functions: Functions, knowledge: Knowledge, scale: float) -> FTest | None:
    """Test that all functions are zero, as far as they can be estimated.

    None where nothing is left to test: the functions vanish, or none can be estimated.
    `scale` is the size of the derivatives that the functions are differences of. The
    functions are orthonormal contrasts of means: then degrees of freedom that depend on
    the basis do not depend on how the factors are coded.
    """
    combined = functions.combined(estimable_basis(functions))
    J = combined.jacobian
    if not J.size:
        return None
    U, singular, _ = np.linalg.svd(J, full_matrices=False)
    keep = U[:, singular > 1e-8 * scale].T
    if not len(keep):
        return None
    return knowledge.joint(np.asarray(keep @ J), np.asarray(keep @ combined.value))
