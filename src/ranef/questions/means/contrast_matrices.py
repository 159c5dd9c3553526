"""Contrasts of k means as matrices: pairs, references, neighbours, trends, deviations."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import combinations
from math import gcd, lcm

import numpy as np
from numpy.typing import NDArray

from ranef.errors import LevelError, ModelError, suggestion

__all__ = ["CONTRASTS", "ContrastMatrix", "contrast_matrix", "contrast_method"]

Floats = NDArray[np.float64]
Rows = list[tuple[str, list[float]]]

DEGREES = ("linear", "quadratic", "cubic", "quartic")
MAX_DEGREE = 6

SYNONYMS = {
    "tukey": "pairwise",
    "pairs": "pairwise",
    "trt.vs.ctrl": "reference",
    "trt.vs.ctrl1": "reference",
    "dunnett": "reference",
    "trt.vs.ctrlk": "reference_last",
    "consec": "consecutive",
    "poly": "polynomial",
    "eff": "effects",
    "del.eff": "deleted_effects",
    "mean_chg": "mean_change",
}


@dataclass(frozen=True, eq=False)
class ContrastMatrix:
    """Named contrasts.

    Attributes
    ----------
    names : tuple of str
    C : (q, k) float64 array
        One contrast a row.
    method : str
    adjust : str
        The adjustment that is customary with it.
    """

    names: tuple[str, ...]
    C: Floats
    method: str
    adjust: str


def contrast_method(name: str) -> str:
    """Return the name of a method, or say which ones there are."""
    method = SYNONYMS.get(name.lower(), name.lower())
    if method not in CONTRASTS:
        hint = suggestion(name, [*CONTRASTS, *SYNONYMS])
        raise ModelError(
            f"method={name!r} is not known{hint}; use one of "
            f"{', '.join(map(repr, CONTRASTS))}, a dict of coefficients or a matrix"
        )
    return method


def contrast_matrix(
    method: str, labels: Sequence[str], *, ref: str | None = None, minus: str = " - "
) -> ContrastMatrix:
    """Make the contrasts of a method among means with these labels.

    Parameters
    ----------
    method : str
        A name in `CONTRASTS`, or R's name for it.
    labels : sequence of str
    ref : str, optional
        Label of the reference, of method ``"reference"``; the first without it.
    minus : str
        What stands between two labels; ``" / "`` for ratios.

    Examples
    --------
    >>> contrast_matrix("pairwise", ["a", "b", "c"]).names
    ('a - b', 'a - c', 'b - c')
    >>> contrast_matrix("polynomial", ["1", "2", "3", "4"]).C
    array([[-3., -1.,  1.,  3.],
           [ 1., -1., -1.,  1.],
           [-1.,  3., -3.,  1.]])
    """
    method = contrast_method(method)
    labels = list(labels)
    if ref is not None:
        if method != "reference":
            raise ModelError(f"ref={ref!r} goes with method='reference', not {method!r}")
        if ref not in labels:
            listed = ", ".join(map(repr, labels))
            raise LevelError(f"ref={ref!r} is none of {listed}{suggestion(ref, labels)}")
        rows = _reference(labels, minus, labels.index(ref))
    else:
        rows = CONTRASTS[method](labels, minus)
    C = np.array([row for _, row in rows], dtype=np.float64).reshape(len(rows), len(labels))
    return ContrastMatrix(tuple(name for name, _ in rows), C, method, ADJUST.get(method, "none"))


def _differences(labels: list[str], minus: str, pairs: Iterable[tuple[int, int]]) -> Rows:
    """The first of each pair less the second."""
    k = len(labels)
    return [
        (f"{labels[i]}{minus}{labels[j]}", [float(m == i) - float(m == j) for m in range(k)])
        for i, j in pairs
    ]


def _pairwise(labels: list[str], minus: str) -> Rows:
    return _differences(labels, minus, combinations(range(len(labels)), 2))


def _reversed_pairs(labels: list[str], minus: str) -> Rows:
    return _differences(labels, minus, ((i, j) for i in range(len(labels)) for j in range(i)))


def _reference(labels: list[str], minus: str, ref: int = 0) -> Rows:
    return _differences(labels, minus, ((i, ref) for i in range(len(labels)) if i != ref))


def _reference_last(labels: list[str], minus: str) -> Rows:
    return _reference(labels, minus, len(labels) - 1)


def _consecutive(labels: list[str], minus: str) -> Rows:
    return _differences(labels, minus, ((i, i - 1) for i in range(1, len(labels))))


def _mean_change(labels: list[str], minus: str) -> Rows:
    """Mean of all later levels less that of all earlier ones."""
    k = len(labels)
    cuts = range(1, k)
    return [(f"{labels[i - 1]}|{labels[i]}", [-1 / i] * i + [1 / (k - i)] * (k - i)) for i in cuts]


def _helmert(labels: list[str], minus: str) -> Rows:
    """Each level less the mean of those before it."""
    k = len(labels)
    return [
        (_less_mean(labels[i], labels[:i], minus), [-1 / i] * i + [1.0] + [0.0] * (k - i - 1))
        for i in range(1, k)
    ]


def _less_mean(label: str, earlier: list[str], minus: str) -> str:
    if len(earlier) == 1:
        return f"{label}{minus}{earlier[0]}"
    return f"{label}{minus}mean({earlier[0]}..{earlier[-1]})"


def _effects(labels: list[str], minus: str) -> Rows:
    """Each level less the mean of all."""
    k = len(labels)
    return _deviations(labels, 1 - 1 / k, -1 / k)


def _deleted_effects(labels: list[str], minus: str) -> Rows:
    """Each level less the mean of all others."""
    k = len(labels)
    return _deviations(labels, 1.0, -1 / (k - 1)) if k > 1 else []


def _deviations(labels: list[str], of_level: float, of_others: float) -> Rows:
    k = len(labels)
    return [
        (f"{label} effect", [of_level if i == j else of_others for j in range(k)])
        for i, label in enumerate(labels)
    ]


def _polynomial(labels: list[str], minus: str) -> Rows:
    """Orthogonal polynomials over equally spaced levels, in the smallest whole numbers."""
    k = len(labels)
    earlier: list[list[Fraction]] = [[Fraction(1)] * k]
    out: Rows = []
    for degree in range(1, min(k - 1, MAX_DEGREE) + 1):
        row = [Fraction(i) ** degree for i in range(k)]
        for other in earlier:
            share = _dot(row, other) / _dot(other, other)
            row = [a - share * b for a, b in zip(row, other, strict=True)]
        earlier.append(row)
        name = DEGREES[degree - 1] if degree <= len(DEGREES) else f"degree {degree}"
        out.append((name, _whole(row)))
    return out


def _dot(a: list[Fraction], b: list[Fraction]) -> Fraction:
    return sum((x * y for x, y in zip(a, b, strict=True)), Fraction(0))


def _whole(row: list[Fraction]) -> list[float]:
    scale = lcm(*(x.denominator for x in row))
    whole = [int(x * scale) for x in row]
    shared = gcd(*whole) or 1
    return [float(x // shared) for x in whole]


def _identity(labels: list[str], minus: str) -> Rows:
    k = len(labels)
    return [(label, [float(i == j) for j in range(k)]) for i, label in enumerate(labels)]


CONTRASTS: dict[str, Callable[[list[str], str], Rows]] = {
    "pairwise": _pairwise,
    "revpairwise": _reversed_pairs,
    "reference": _reference,
    "reference_last": _reference_last,
    "consecutive": _consecutive,
    "mean_change": _mean_change,
    "polynomial": _polynomial,
    "helmert": _helmert,
    "effects": _effects,
    "deleted_effects": _deleted_effects,
    "identity": _identity,
}

ADJUST = {
    "pairwise": "tukey",
    "revpairwise": "tukey",
    "reference": "dunnettx",
    "reference_last": "dunnettx",
    "consecutive": "mvt",
    "mean_change": "mvt",
    "effects": "bh",
    "deleted_effects": "bh",
}
