"""Compact letter displays of pairwise comparisons."""

from __future__ import annotations

from itertools import combinations

import numpy as np
from numpy.typing import NDArray

__all__ = ["compact_letters"]

Floats = NDArray[np.float64]


def compact_letters(estimate: Floats, p_value: Floats, alpha: float) -> list[str]:
    """Give each mean letters, such that two share one unless they differ.

    By inserting and absorbing (Piepho 2004, J. Comput. Graph. Stat. 13): start from one
    letter for all; a pair that differs splits every letter it shares in two; a letter
    whose means all have another in common is dropped.

    Parameters
    ----------
    estimate : (k,) array
        Letters go up with the estimates; NaN has none.
    p_value : (k (k - 1) / 2,) array
        Of the pairs (0, 1), (0, 2), ...
    alpha : float

    Examples
    --------
    >>> compact_letters(np.array([1.0, 2.0, 3.0]), np.array([0.2, 0.001, 0.3]), 0.05)
    ['a', 'ab', 'b']
    """
    k = len(estimate)
    groups = [frozenset(np.flatnonzero(np.isfinite(estimate)).tolist())]
    for (i, j), p in zip(combinations(range(k), 2), p_value, strict=True):
        if not (p < alpha):
            continue
        split = []
        for group in groups:
            both = i in group and j in group
            split += [group - {i}, group - {j}] if both else [group]
        groups = _absorbed(split)
    groups.sort(key=lambda group: sorted(estimate[i] for i in group))
    return ["".join(_letter(g) for g, group in enumerate(groups) if i in group) for i in range(k)]


def _absorbed(groups: list[frozenset[int]]) -> list[frozenset[int]]:
    """Leave out groups that lie within others."""
    unique = list(dict.fromkeys(groups))
    return [group for group in unique if group and not any(group < other for other in unique)]


def _letter(number: int) -> str:
    """Return a, b, ..., z, A, ..., Z, then with a count."""
    letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
    round_, place = divmod(number, len(letters))
    return letters[place] + (str(round_) if round_ else "")
