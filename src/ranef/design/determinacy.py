"""Whether the data can tell variances apart: the rank of what they do to Cov(y).

Cov(y) = sum_k psi_k G_k + sigma^2 R is linear in the entries of a covariance matrix. Those
are determined if the G_k and R are linearly independent, however many effects there are.
G_k W for a few random columns W (n, m) has the rank of the G_k themselves, at the price of
some passes over the rows.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from ranef.covariance import structure_of
from ranef.design.terms import GroupingFactor, RandomTerm

__all__ = [
    "DEPENDENT",
    "Sketch",
    "Triangle",
    "images",
    "is_determined",
    "null_space",
    "probes_for",
    "side_by_side",
    "without_correlations",
]

Floats = NDArray[np.float64]

DEPENDENT = 1e-8
"""Singular value of the normalised columns that counts as none."""
SKETCH = 2000
BLOCK = 1 << 17
"""Numbers held at once while each direction's columns are made: 1 MB."""
AT_ONCE = 250_000
"""Values of rows that are brought to a triangle at once, where that is more than it holds."""
GENERIC = 0.3
"""Correlation at which structures are looked at."""


def is_determined(term: RandomTerm, factor: GroupingFactor, residual: Floats | None) -> bool:
    """Tell whether the variances of one term can be told from each other and the residual.

    Parameters
    ----------
    residual : (n,) array or None
        Residual variance of each row up to sigma^2; None where it is known or there is none.
    """
    z = term.z / np.sqrt(np.mean(term.z**2, axis=0))
    if term.structure == "us":
        if len(z) < term.size:
            return False
        q, r = np.linalg.qr(z)
        if np.min(np.abs(np.diag(r))) < DEPENDENT * np.sqrt(len(z)):
            return False
        z = q * np.sqrt(len(z))  # which spans the same matrices
    n, slopes = len(z), _slopes(term)
    rng = np.random.default_rng(0)
    count = len(slopes) + (residual is not None)
    sketch, triangle = Sketch(n, rng), Triangle(count)
    for _ in range(probes_for(count, n)):
        w = rng.standard_normal(n)
        short = (sketch(block) for block in images(z, factor, slopes, w, term.kernel))
        own = [] if residual is None else [sketch((residual * w)[:, None])]
        triangle.add(side_by_side(chain(short, own), sketch.rows, count))
    size = np.linalg.norm(triangle.R, axis=0)
    return bool(np.all(size > 0)) and len(null_space(triangle.R / size)) == 0


def without_correlations(term: RandomTerm) -> RandomTerm:
    """The term as || has it."""
    return replace(term, structure="diag")


def _slopes(term: RandomTerm) -> list[Floats]:
    """Directions in which the covariance matrix of a term's effects can move."""
    r, unit = term.size, np.eye(term.size)
    if term.structure == "us":
        pairs = [(a, b) for b in range(r) for a in range(b, r)]
        return [(np.outer(unit[a], unit[b]) + np.outer(unit[b], unit[a])) / 2 for a, b in pairs]
    structure = structure_of(term)
    kinds = [p.kind for p in structure.parameters(term.names)]
    at = np.array([GENERIC if kind == "corr" else 1.0 for kind in kinds])
    return list(structure.derivatives(at))


def probes_for(count: int, room: int) -> int:
    """Return how many random columns tell `count` matrices of rank `room` apart."""
    return int(np.clip(np.ceil(4 * count / max(room, 1)), 3, 12))


def images(
    z: Floats,
    factor: GroupingFactor,
    slopes: Sequence[Floats],
    w: Floats,
    kernel: Floats | None = None,
) -> Iterator[Floats]:
    """Yield Z (K x D) Z'w for each D: how Cov(y) w moves with a term's covariance matrix.

    Parameters
    ----------
    z : (n, r) array
    slopes : sequence of (r, r) arrays
        The matrices D, symmetric.
    w : (n,) array
    kernel : (q, q) array or None

    Yields
    ------
    (n, k) array
        Columns of the next k matrices D, few enough to be no burden on memory.
    """
    z = np.asfortranarray(z)
    sums = np.stack([np.bincount(factor.codes, c * w, factor.n_levels) for c in z.T], axis=1)
    if kernel is not None:
        sums = np.asarray(kernel @ sums)
    of_rows = np.empty(z.shape, order="F")
    for a, some in enumerate(sums.T):
        of_rows[:, a] = some[factor.codes]
    few = max(1, BLOCK // len(z))
    for start in range(0, len(slopes), few):
        block = slopes[start : start + few]
        out = np.empty((len(z), len(block)), order="F")
        for k, D in enumerate(block):
            used = np.flatnonzero(np.any(D != 0, axis=0))
            effects = of_rows[:, used] @ D[np.ix_(used, used)]
            np.einsum("na,na->n", z[:, used], effects, out=out[:, k])
        yield out


def null_space(M: Floats) -> Floats:
    """Orthonormal rows (d, c) that M (m, c) takes to zero."""
    # of many rows the triangle says the same; their orthogonal matrix is (m, m)
    few = np.asarray(np.linalg.qr(M, mode="r")) if len(M) > M.shape[1] else M
    _, s, Vt = np.linalg.svd(few, full_matrices=True)
    values = np.zeros(M.shape[1])
    values[: len(s)] = s
    return np.asarray(Vt[values <= DEPENDENT * max(float(values.max(initial=0.0)), 1.0)])


def side_by_side(blocks: Iterable[Floats], rows: int, count: int) -> Floats:
    """Blocks of columns, which come one after the other, as one matrix (rows, count)."""
    out, at = np.empty((rows, count)), 0
    for block in blocks:
        out[:, at : at + block.shape[1]] = block
        at += block.shape[1]
    return out


class Triangle:
    """What orthogonal transformations leave of many rows: R'R = M'M, and M's null space.

    Rows come some at a time, and are not kept: (c, c) is held where M may be much larger.

    Attributes
    ----------
    R : (at most c, c) float64 array

    Examples
    --------
    >>> triangle = Triangle(2)
    >>> for _ in range(3):
    ...     triangle.add(np.array([[3.0, 0.0], [0.0, 1.0]]))
    >>> (triangle.R.T @ triangle.R).round(12).tolist()
    [[27.0, 0.0], [0.0, 3.0]]
    """

    def __init__(self, columns: int) -> None:
        self.R = np.empty((0, columns))

    def add(self, rows: Floats) -> None:
        c = self.R.shape[1]
        step = max(AT_ONCE // max(c, 1), 2 * c)
        for first in range(0, len(rows), step):
            below = np.vstack((self.R, rows[first : first + step]))
            self.R = np.asarray(np.linalg.qr(below, mode="r"))


class Sketch:
    """Random signed sums of rows: fewer numbers of the same rank."""

    def __init__(self, n: int, rng: np.random.Generator) -> None:
        self.few = n <= SKETCH
        self.rows = min(n, SKETCH)
        if not self.few:
            self.place = rng.integers(0, SKETCH, n)
            self.sign = rng.choice([-1.0, 1.0], n)

    def __call__(self, columns: Floats) -> Floats:
        """Sums (m, k) of the rows of columns (n, k)."""
        if self.few:
            return columns
        sums = [np.bincount(self.place, self.sign * c, SKETCH) for c in columns.T]
        return np.stack(sums, axis=1)
