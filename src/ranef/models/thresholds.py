"""Thresholds of an ordinal response as a linear function of free parameters.

May import `errors`.
"""

from __future__ import annotations

from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from ranef.errors import ModelError

__all__ = ["THRESHOLDS", "first_thresholds", "threshold_matrix", "threshold_names"]

Floats = NDArray[np.float64]

THRESHOLDS = ("flexible", "symmetric", "equidistant")


def threshold_matrix(categories: int, kind: str) -> Floats:
    """Return A (J - 1, k) with thresholds = A @ parameters, J the number of categories.

    ``"flexible"``: the thresholds themselves. ``"equidistant"``: the first and
    their distance. ``"symmetric"``: the centre (two of them where J - 1 is even),
    then the distances from it outwards.

    Raises
    ------
    ModelError
        When `kind` is unknown or there are fewer than three categories.

    Examples
    --------
    >>> threshold_matrix(4, "equidistant")
    array([[1., 0.],
           [1., 1.],
           [1., 2.]])
    """
    if kind not in THRESHOLDS:
        raise ModelError(f"thresholds must be one of {', '.join(THRESHOLDS)}, not {kind!r}")
    count = categories - 1
    if count < 2:
        raise ModelError(
            f"an ordinal response needs at least three categories, this one has {categories}; "
            "the binomial family is for two"
        )
    if kind == "flexible":
        return np.eye(count)
    if kind == "equidistant":
        return np.column_stack([np.ones(count), np.arange(count)])
    centres, side = (1, count // 2) if count % 2 else (2, count // 2 - 1)
    A = np.zeros((count, centres + side))
    A[: side + 1, 0] = 1
    A[side + centres - 1 :, centres - 1] = 1
    for i in range(1, side + 1):
        A[side - i, centres + i - 1] = -1
        A[side + centres - 1 + i, centres + i - 1] = 1
    return A


def threshold_names(categories: int, kind: str) -> tuple[str, ...]:
    """Names of the parameters of `threshold_matrix`.

    Examples
    --------
    >>> threshold_names(4, "flexible")
    ('1|2', '2|3', '3|4')
    """
    count = categories - 1
    if kind == "flexible":
        return tuple(f"{j}|{j + 1}" for j in range(1, categories))
    if kind == "equidistant":
        return ("threshold.1", "spacing")
    centres, side = (
        (("central",), count // 2)
        if count % 2
        else (
            ("central.1", "central.2"),
            count // 2 - 1,
        )
    )
    return centres + tuple(f"spacing.{i}" for i in range(1, side + 1))


def first_thresholds(y: Floats, categories: int, link: str) -> Floats:
    """Thresholds (J - 1,) of the cumulative proportions, whatever the link."""
    counts = np.bincount(y.astype(np.int_), minlength=categories) + 0.5
    share = np.cumsum(counts)[:-1] / counts.sum()
    if link == "probit":
        return np.array([NormalDist().inv_cdf(p) for p in share])
    if link == "cloglog":
        return np.asarray(np.log(-np.log1p(-share)), dtype=np.float64)
    if link == "cauchit":
        return np.asarray(np.tan(np.pi * (share - 0.5)), dtype=np.float64)
    return np.asarray(np.log(share / (1 - share)), dtype=np.float64)
