"""Linear functions of a reference grid: averages, contrasts, joint tests.

What a model says at each row of the grid is a value with its derivatives in the
parameters; averages and contrasts of rows are linear in both. Where columns of the
fixed effects depend on each other, a row can be asked for only if it depends on them in
the same way (Searle 1971, Linear Models, section 5.4); what cannot is NaN, not a number.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ranef.families.links import LINKS, Link
from ranef.inference.coefficients.wald import FTest, Intervals, f_tail
from ranef.questions.means.multiplicity import Adjusted, Family, adjust

__all__ = [
    "Examined",
    "Functions",
    "Knowledge",
    "averaged",
    "estimable_basis",
    "examined",
    "joint_test",
    "redundancy",
    "row_basis",
    "shown",
    "wald_test",
]

Floats = NDArray[np.float64]
Ints = NDArray[np.intp]
Bools = NDArray[np.bool_]

ESTIMABLE = 1e-7


@dataclass(frozen=True, eq=False)
class Functions:
    """Functions of the parameters.

    Attributes
    ----------
    value : (q,) float64 array
    jacobian : (q, K) float64 array
        Derivatives in the K parameters.
    gap : (q, d) float64 array
        How far each is from one that the data determine, in each of the d redundant
        columns; all zero where it can be estimated.
    """

    value: Floats
    jacobian: Floats
    gap: Floats

    @property
    def estimable(self) -> Bools:
        return np.asarray((np.abs(self.gap) <= ESTIMABLE).all(axis=1))

    def combined(self, C: Floats) -> Functions:
        """Return the linear functions C (m, q) of these."""
        return Functions(C @ self.value, C @ self.jacobian, C @ self.gap)

    def taken(self, rows: Ints) -> Functions:
        """Return some of them."""
        return Functions(self.value[rows], self.jacobian[rows], self.gap[rows])

    def transformed(self, link: str) -> Functions:
        """Return the link of each; their gaps no longer cancel."""
        known: Link = LINKS[link]
        if link == "identity":
            return self
        with np.errstate(divide="ignore", invalid="ignore"):
            value = known.function(self.value)
            slope = known.first(value)
            return Functions(value, self.jacobian / slope[:, None], self.own_gaps())

    def back(self, link: str) -> Functions:
        """Return the inverse link of each."""
        if link == "identity":
            return self
        known: Link = LINKS[link]
        slope = known.first(self.value)
        return Functions(known.inverse(self.value), slope[:, None] * self.jacobian, self.own_gaps())

    def own_gaps(self) -> Floats:
        """A column for each that cannot be estimated, so that differences do not hide it."""
        missing = np.flatnonzero(~self.estimable)
        out = np.zeros((len(self.value), len(missing)))
        out[missing, np.arange(len(missing))] = 1.0
        return out


@dataclass(frozen=True, eq=False)
class Knowledge:
    """How well the parameters are known.

    Attributes
    ----------
    covariance : (K, K) float64 array
    degrees : callable
        Degrees of freedom (q,) of linear functions of the parameters (q, K).
    joint : callable
        F test that functions with the derivatives (q, K), all independent, and the
        values (q,) are zero.
    """

    covariance: Floats
    degrees: Callable[[Floats], Floats]
    joint: Callable[[Floats, Floats], FTest]


@dataclass(frozen=True, eq=False)
class Examined:
    """Estimates with adjusted tests and intervals.

    Attributes
    ----------
    found : Intervals
    adjusted : tuple of Adjusted
        One a family, in order.
    """

    found: Intervals
    adjusted: tuple[Adjusted, ...]


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


def redundancy(X: Floats, left_out: Floats) -> Floats:
    """Coefficients (p, d) of the redundant columns `left_out` (n, d) in the others X (n, p)."""
    return np.asarray(np.linalg.lstsq(X, left_out, rcond=None)[0])


def examined(
    functions: Functions,
    knowledge: Knowledge,
    families: Sequence[Ints],
    method: str,
    conf_level: float,
    *,
    means: int | None = None,
    null: float = 0.0,
    rng: np.random.Generator | None = None,
) -> Examined:
    """Test each function against a value, adjusted within families.

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
    null : float
    rng : numpy.random.Generator or None
    """
    J, V = functions.jacobian, knowledge.covariance
    unknown = ~functions.estimable
    error = np.sqrt(np.maximum(np.sum(J @ V * J, axis=1), 0.0))
    df = np.full(len(error), np.nan)
    asked = np.flatnonzero(~unknown & (error > 0))
    if len(asked):
        df[asked] = knowledge.degrees(J[asked])
    value, error = (np.where(unknown, np.nan, x) for x in (functions.value, error))
    statistic = np.divide(
        value - null, error, out=np.full(len(value), np.nan), where=np.isfinite(df) | (df == np.inf)
    )
    p, critical = np.full(len(value), np.nan), np.full(len(value), np.nan)
    done = []
    for own in families:
        spread = J[own] @ V @ J[own].T
        known = np.isfinite(df[own]) | (df[own] == np.inf)
        family = Family(statistic[own], df[own], _correlation(spread), _rank(J[own][known]), means)
        made = adjust(family, method, conf_level, rng)
        p[own], critical[own] = made.p_value, made.critical
        done.append(made)
    half = np.where(error == 0, 0.0, critical * error)
    found = Intervals(value, error, df, statistic, p, value - half, value + half)
    return Examined(found, tuple(done))


def _correlation(covariance: Floats) -> Floats:
    root = np.sqrt(np.maximum(np.diag(covariance), 0.0))
    root[root == 0] = 1.0
    return np.asarray(covariance / np.outer(root, root))


def _rank(L: Floats) -> int:
    return len(row_basis(L)) if len(L) else 0


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


def wald_test(L: Floats, value: Floats, covariance: Floats) -> FTest:
    """Chi-squared test, as F with infinite denominator, that functions of these values are zero."""
    spread = L @ covariance @ L.T
    rank = int(np.linalg.matrix_rank(spread, hermitian=True))
    statistic = float(value @ np.linalg.pinv(spread, hermitian=True) @ value) / max(rank, 1)
    return f_tail(statistic, rank, float(np.inf))


def shown(found: Intervals, link: str) -> Intervals:
    """Carry estimates and intervals from the scale of a link to that of the mean."""
    if link == "identity":
        return found
    known = LINKS[link]
    with np.errstate(over="ignore"):  # an end at infinity is one
        low, high = known.inverse(found.conf_low), known.inverse(found.conf_high)
    return replace(
        found,
        estimate=known.inverse(found.estimate),
        std_error=np.abs(known.first(found.estimate)) * found.std_error,
        conf_low=np.fmin(low, high),
        conf_high=np.fmax(low, high),
    )
