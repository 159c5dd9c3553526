"""Covariance of additive genetic effects among relatives, from who descends from whom.

Individuals are numbered so that parents stand before their offspring. Then u = T m with
T unit lower triangular and m the Mendelian samplings, independent with variances d, so that

    A = T diag(d) T',    A^-1 = (I - P)' diag(1 / d) (I - P),    T = (I - P)^-1,

row i of P one half at each parent of i (Henderson 1976, *Biometrics* 32; with the
inbreeding that d needs Quaas 1976, *Biometrics* 32).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ranef.errors import DataError, ModelError

__all__ = ["Ancestry", "parents_first"]

Floats = NDArray[np.float64]
Ints = NDArray[np.intp]

UNKNOWN = -1
BLOCK = 2**24
"""Numbers of A that stand at a time while it is asked column by column."""


def parents_first(sire: Ints, dam: Ints, labels: Sequence[str]) -> tuple[Ints, Ints]:
    """Order individuals so that parents stand before their offspring.

    Parameters
    ----------
    sire, dam : (n,) int arrays
        Number of each parent, -1 where unknown.
    labels : sequence of str
        Names of the individuals, for the message.

    Returns
    -------
    order : (n,) int array
        Individuals by generation, those of one generation as they came.
    generation : (n,) int array
        Of each individual as it came: 0 where no parent is known, else one more than the
        later of its parents.

    Raises
    ------
    DataError
        Someone is an ancestor of itself; the message names the circle.

    Examples
    --------
    >>> order, generation = parents_first(np.array([1, -1]), np.array([-1, -1]), ("b", "a"))
    >>> order.tolist(), generation.tolist()
    ([1, 0], [1, 0])
    """
    generation = np.zeros(len(sire), dtype=np.intp)
    parents = np.stack([sire, dam])
    for _ in range(len(sire) + 1):
        above = np.where(parents == UNKNOWN, 0, generation[parents] + 1).max(axis=0, initial=0)
        if np.array_equal(above, generation):
            return np.argsort(generation, kind="stable"), generation
        generation = above
    raise DataError(f"the pedigree has a circle: {_circle(parents, generation, labels)}")


def _circle(parents: Ints, generation: Ints, labels: Sequence[str]) -> str:
    """Name a circle of parents, found by going up from someone whose generation never ends."""
    at, path = int(np.argmax(generation)), list[int]()
    while at not in path:
        path.append(at)
        at = max((int(p) for p in parents[:, at] if p != UNKNOWN), key=lambda p: generation[p])
    names = [labels[i] for i in [*path[path.index(at) :], at]]
    if len(names) == 2:
        return f"{names[0]!r} is its own parent"
    return ", a child of ".join(map(repr, names))


@dataclass(frozen=True, eq=False)
class Ancestry:
    """Who descends from whom, parents before their offspring.

    Attributes
    ----------
    sire, dam : (n,) int arrays
        Number of each parent, -1 where unknown; the same where one selfed.
    generation : (n,) int array
        Ascending.

    Examples
    --------
    A plant, its selfed offspring, and theirs:

    >>> selfed = Ancestry(np.array([-1, 0, 1]), np.array([-1, 0, 1]), np.arange(3))
    >>> selfed.inbreeding.tolist()
    [0.0, 0.5, 0.75]
    >>> selfed.matrix.toarray()
    array([[1.  , 1.  , 1.  ],
           [1.  , 1.5 , 1.5 ],
           [1.  , 1.5 , 1.75]])
    """

    sire: Ints
    dam: Ints
    generation: Ints

    @cached_property
    def halves(self) -> Any:
        """P, sparse (n, n): one half at each known parent, one where both are the same."""
        from scipy.sparse import csr_array

        n = len(self.sire)
        child = np.tile(np.arange(n), 2)
        parent = np.concatenate([self.sire, self.dam])
        known = parent != UNKNOWN
        entries = (np.full(int(known.sum()), 0.5), (child[known], parent[known]))
        return csr_array(entries, shape=(n, n))

    @cached_property
    def _descent(self) -> Any:
        """I - P factored, which its own order leaves as it is."""
        from scipy.sparse import eye_array
        from scipy.sparse.linalg import splu

        descent = (eye_array(len(self.sire), format="csr") - self.halves).tocsc()
        return splu(descent, permc_spec="NATURAL", diag_pivot_thresh=0.0)

    def _relations(self, columns: Ints, d: Floats) -> Iterator[tuple[slice, Floats]]:
        """Columns of A = T diag(d) T', (n, block), by two sparse solves; blocks of them in turn."""
        n = len(self.sire)
        width = max(BLOCK // max(n, 1), 1)
        for start in range(0, len(columns), width):
            block = columns[start : start + width]
            unit = np.zeros((n, len(block)))
            unit[block, np.arange(len(block))] = 1.0
            shares = self._descent.solve(unit, trans="T")
            yield slice(start, start + len(block)), self._descent.solve(d[:, None] * shares)

    @cached_property
    def inbreeding(self) -> Floats:
        """Coefficient F of each individual, (n,): A has 1 + F on its diagonal.

        Generation by generation, as half the relationship of the parents, which depends on
        the inbreeding of their ancestors alone; a column of A for each of the scarcer parents
        (after Colleau 2002, *Genet. Sel. Evol.* 34).
        """
        n = len(self.sire)
        F, d = np.zeros(n), np.ones(n)
        ends = np.searchsorted(self.generation, np.unique(self.generation), side="right")
        for start, stop in zip([0, *ends[:-1]], ends, strict=True):
            of = slice(start, stop)
            d[of] = _sampled(self.sire[of], self.dam[of], F)
            both = start + np.flatnonzero(np.minimum(self.sire[of], self.dam[of]) != UNKNOWN)
            F[both] = self._parents_relation(both, d) / 2.0
        return F

    def _parents_relation(self, of: Ints, d: Floats) -> Floats:
        """Entries of A between the parents of individuals who have both."""
        if not len(of):
            return np.empty(0)
        pair = (np.unique(p[of], return_inverse=True) for p in (self.sire, self.dam))
        (sires, by_sire), (dams, by_dam) = pair
        few = len(sires) <= len(dams)
        columns, place = (sires, by_sire) if few else (dams, by_dam)
        rows, out = (self.dam if few else self.sire)[of], np.empty(len(of))
        for block, relations in self._relations(columns, d):
            own = np.flatnonzero((block.start <= place) & (place < block.stop))
            out[own] = relations[rows[own], place[own] - block.start]
        return out

    @cached_property
    def sampling(self) -> Floats:
        """Variances d of the Mendelian sampling, (n,): 1/2 - (F_sire + F_dam) / 4, both known."""
        return _sampled(self.sire, self.dam, self.inbreeding)

    @property
    def logdet(self) -> float:
        """Logarithm of the determinant of A; -inf where someone adds no variance."""
        with np.errstate(divide="ignore"):
            return float(np.log(self.sampling).sum())

    @property
    def matrix(self) -> Any:
        """A, sparse (n, n): entries between individuals without a common ancestor are left out.

        With T = (I + P) (I + P^2) (I + P^4) ..., which ends with the generations.
        """
        from scipy.sparse import diags_array, eye_array

        power, shares = self.halves, eye_array(len(self.sire), format="csr")
        while power.nnz:
            shares = (shares + shares @ power).tocsr()
            power = power @ power
        return (shares @ diags_array(self.sampling) @ shares.T).tocsr()

    def among(self, rows: Ints) -> Floats:
        """A of some individuals, (m, m), whatever their ancestors outside."""
        out = np.empty((len(rows), len(rows)))
        for block, relations in self._relations(rows, self.sampling):
            out[:, block] = relations[rows]
        return np.asarray((out + out.T) / 2.0)

    @property
    def inverse(self) -> Any:
        """A^-1, sparse (n, n), by Henderson's rules.

        Raises
        ------
        ModelError
            A is singular: parents that are both wholly inbred leave nothing to chance.
        """
        from scipy.sparse import diags_array, eye_array

        if not np.all(self.sampling > 0):
            raise ModelError(
                "the relationship matrix is singular, since offspring of wholly inbred parents "
                "vary no more; it has no inverse"
            )
        rest = eye_array(len(self.sire), format="csr") - self.halves
        return (rest.T @ diags_array(1.0 / self.sampling) @ rest).tocsr()


def _sampled(sire: Ints, dam: Ints, F: Floats) -> Floats:
    """Mendelian variances of individuals: 1, less (1 + F) / 4 for each known parent."""
    shares = [np.where(of == UNKNOWN, 0.0, (1.0 + F[of]) / 4.0) for of in (sire, dam)]
    return np.asarray(1.0 - shares[0] - shares[1])
