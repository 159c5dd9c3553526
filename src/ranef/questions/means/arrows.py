"""Comparison arrows: intervals whose overlap shows which means differ.

Two means differ when their distance exceeds a critical difference d_ij. Arrows of
length r_i to the right of the lower and l_j to the left of the upper mean show that by
not meeting, if r_i + l_j can be made to agree with d_ij about every distance (Hochberg,
Weiss & Hart 1982, J. Am. Stat. Assoc. 77, for equal lengths to both sides).
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

__all__ = ["Arrows", "comparison_arrows"]

Floats = NDArray[np.float64]

MARGIN = 0.02
EVEN = 0.1
SHARED = 0.01


@dataclass(frozen=True, eq=False)
class Arrows:
    """Lengths of arrows.

    Attributes
    ----------
    left, right : (k,) float64 arrays
        0 where no mean lies on that side, NaN for a mean that is NaN.
    wrong : tuple of (int, int)
        Pairs about which the arrows mislead.
    """

    left: Floats
    right: Floats
    wrong: tuple[tuple[int, int], ...]


def comparison_arrows(estimate: Floats, critical: Floats) -> Arrows:
    """Find arrows that show which pairs of means differ.

    Parameters
    ----------
    estimate : (k,) array
        NaN is left out.
    critical : (k, k) array
        Differences that are just significant.

    Notes
    -----
    Least squares first: the sums near the critical differences, those of means that lie
    near their limit counting most, and both sides of a mean alike. Where that shows a
    pair wrongly, a linear program finds the nearest lengths that show all of them
    rightly by a small margin; what no lengths can show is in `wrong`.

    Examples
    --------
    >>> arrows = comparison_arrows(np.array([0.0, 1.0, 3.0]), np.full((3, 3), 1.5))
    >>> (arrows.right[:-1] + arrows.left[1:]).round(2), arrows.wrong
    (array([1.5, 1.5]), ())
    """
    k = len(estimate)
    left, right = np.full(k, np.nan), np.full(k, np.nan)
    finite = [i for i in np.argsort(estimate, kind="stable") if np.isfinite(estimate[i])]
    pairs = [(int(i), int(j)) for i, j in combinations(finite, 2) if np.isfinite(critical[i, j])]
    left[finite], right[finite] = 0.0, 0.0
    if not pairs:
        return Arrows(left, right, ())
    lengths = _solved(estimate, critical, pairs, k)
    left[finite], right[finite] = lengths[:k][finite], lengths[k:][finite]
    wrong = [
        (min(i, j), max(i, j))
        for i, j in pairs
        if (estimate[j] - estimate[i] > critical[i, j])
        != (estimate[j] - estimate[i] > right[i] + left[j])
    ]
    return Arrows(left, right, tuple(sorted(wrong)))


def _solved(estimate: Floats, critical: Floats, pairs: list[tuple[int, int]], k: int) -> Floats:
    """Lengths (2 k,), those to the left first."""
    gap = np.array([estimate[j] - estimate[i] for i, j in pairs])
    d = np.array([critical[i, j] for i, j in pairs])
    sums = np.zeros((len(pairs), 2 * k))
    for row, (i, j) in enumerate(pairs):
        sums[row, k + i] = sums[row, j] = 1.0
    fitted = _nearest(sums, gap, d, k)
    sign = np.where(gap > d, 1.0, -1.0)
    room = np.minimum(MARGIN * d, 0.5 * np.abs(gap - d))
    bound = sign * gap - room
    if (sign * (sums @ fitted) <= bound).all():
        return fitted
    return _moved(fitted, sign[:, None] * sums, bound)


def _nearest(sums: Floats, gap: Floats, d: Floats, k: int) -> Floats:
    """Least squares: sums near the critical differences, both sides of a mean alike.

    What that leaves open, as between two means, each mean has half of.
    """
    from scipy.optimize import nnls

    close = np.exp(-2.0 * np.abs(gap - d) / np.where(d > 0, d, 1.0))
    alike = EVEN * np.hstack([np.eye(k), -np.eye(k)])
    half = SHARED * 0.5 * np.mean(d) * np.ones(2 * k)
    stacked = np.vstack([close[:, None] * sums, alike, SHARED * np.eye(2 * k)])
    return np.asarray(nnls(stacked, np.concatenate([close * d, np.zeros(k), half]))[0])


def _moved(lengths: Floats, constraints: Floats, bound: Floats) -> Floats:
    """The lengths x nearest to these with constraints x <= bound, as far as they can hold."""
    from scipy.optimize import linprog

    m, n = constraints.shape
    A = np.vstack(
        [
            np.hstack([np.eye(n), -np.eye(n), np.zeros((n, m))]),
            np.hstack([-np.eye(n), -np.eye(n), np.zeros((n, m))]),
            np.hstack([constraints, np.zeros((m, n)), -np.eye(m)]),
        ]
    )
    b = np.concatenate([lengths, -lengths, bound])
    cost = np.concatenate([np.zeros(n), np.ones(n), np.full(m, 1e3)])
    return np.asarray(linprog(cost, A_ub=A, b_ub=b, bounds=(0, None), method="highs").x[:n])
