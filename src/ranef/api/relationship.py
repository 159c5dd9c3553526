"""`pedigree`: the relationship of individuals, from a table of their parents."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ranef.covariance.pedigree import UNKNOWN, Ancestry, parents_first
from ranef.display.answer import Answer
from ranef.display.columns import Column, Listing
from ranef.display.numbers import number, significant
from ranef.errors import DataError, LevelError, ModelError
from ranef.formula.labels import count_text, level_text, list_text
from ranef.tables import Table

__all__ = ["Pedigree", "pedigree"]

Floats = NDArray[np.float64]
Ints = NDArray[np.intp]

NOBODY = frozenset(("", "0", "NA", "."))
"""Labels that stand for an unknown parent, beside missing values."""


def pedigree(table: Any, *, id: str, sire: str, dam: str) -> Pedigree:
    """Return the additive relationship of individuals, from a table of their parents.

    It is a kernel of a formula: ``kernel(1 | id, A)`` with ``kernels={"A": pedigree}``.

    Parameters
    ----------
    table : table
        One row an individual, in any order. Rows that say the same again are taken once, so
        that a table of repeated records will do.
    id, sire, dam : str
        Columns: the individual and its parents. A parent is unknown where it is missing,
        ``0``, ``"NA"``, a dot or empty. A parent without a row of its own is a founder. Both
        parents may be the same (selfing), and a parent may be sire of one and dam of another.

    Returns
    -------
    Pedigree

    Raises
    ------
    ranef.errors.DataError
        An individual has two different pairs of parents, or is its own ancestor, or has no
        name; the message says which.

    Notes
    -----
    Individuals without a known parent are taken as unrelated and not inbred (the base
    population). A parent that is unknown counts as another member of it.

    Examples
    --------
    Full sibs, 3 and 4, and their inbred offspring:

    >>> import ranef
    >>> family = {"animal": [5, 3, 4], "father": [3, 1, 1], "mother": [4, 2, 2]}
    >>> A = ranef.pedigree(family, id="animal", sire="father", dam="mother")
    >>> A.tidy()[["id", "generation", "inbreeding"]]
      id  generation  inbreeding
    0  1           0        0.00
    1  2           0        0.00
    2  3           1        0.00
    3  4           1        0.00
    4  5           2        0.25
    >>> A
    Pedigree: 5 individuals
    <BLANKLINE>
    2 of 5 individuals are founders; 3 generations.
    1 individual is inbred, by 0.250 at most; the mean over all is 0.0500.
    The logarithm of the relationship matrix's determinant is -2.079.
    """
    data = Table.of(table)
    twice = next((name for name in (id, sire, dam) if (id, sire, dam).count(name) > 1), None)
    if twice is not None:
        raise ModelError(f"id=, sire= and dam= are three columns; {twice!r} is given twice")
    columns = [_labels(data, name) for name in (id, sire, dam)]
    if not data.n_rows:
        raise DataError("the pedigree has no rows; give a row for each individual")
    names, parents = _distinct(*columns)
    labels = [*names, *_founders(names, parents)]
    place = {label: i for i, label in enumerate(labels)}
    codes = np.full((2, len(labels)), UNKNOWN, dtype=np.intp)
    for row, pair in enumerate(parents):
        codes[:, row] = [UNKNOWN if p is None else place[p] for p in pair]
    order, generation = parents_first(codes[0], codes[1], labels)
    rank = np.empty(len(order) + 1, dtype=np.intp)
    rank[order], rank[UNKNOWN] = np.arange(len(order)), UNKNOWN
    ancestry = Ancestry(rank[codes[0, order]], rank[codes[1, order]], generation[order])
    return Pedigree(tuple(labels[i] for i in order), ancestry, data.library)


def _labels(data: Table, name: str) -> list[str | None]:
    """The labels of one column, None where nobody is named."""
    codes, levels = data.codes(name)
    texts = [level_text(level) for level in levels]
    known = [None if text.strip() in NOBODY else text for text in texts]
    return [None if code < 0 else known[code] for code in codes.tolist()]


Pair = tuple[str | None, str | None]


def _distinct(
    ids: Sequence[str | None], sires: Sequence[str | None], dams: Sequence[str | None]
) -> tuple[list[str], list[Pair]]:
    """Each individual once, with its parents."""
    parents: dict[str, Pair] = {}
    for row, (name, sire, dam) in enumerate(zip(ids, sires, dams, strict=True)):
        if name is None:
            raise DataError(
                f"row {row} of the pedigree names no individual: its id is missing, empty, NA, a "
                "dot or 0, which stand for an unknown parent"
            )
        pair = (sire, dam)
        if parents.setdefault(name, pair) != pair:
            first, other = (
                " and ".join("an unknown one" if p is None else repr(p) for p in own)
                for own in (parents[name], pair)
            )
            raise DataError(
                f"individual {name!r} has two pairs of parents: {first}; in row {row} {other}"
            )
    return list(parents), list(parents.values())


def _founders(names: Sequence[str], parents: Sequence[Pair]) -> list[str]:
    """Parents without a row of their own, as they come."""
    known = set(names)
    every = (parent for pair in parents for parent in pair)
    return [p for p in dict.fromkeys(every) if p is not None and p not in known]


@dataclass(frozen=True, eq=False, repr=False)
class Pedigree(Answer):
    """Individuals and their parents; `ranef.pedigree` makes it.

    Attributes
    ----------
    labels : tuple of str
        The individuals, parents before their offspring: the order of all arrays.
    ancestry : Ancestry
    library : str

    Examples
    --------
    >>> import ranef
    >>> family = {"animal": [5, 3, 4], "father": [3, 1, 1], "mother": [4, 2, 2]}
    >>> A = ranef.pedigree(family, id="animal", sire="father", dam="mother")
    >>> A.matrix().toarray()
    array([[1.  , 0.  , 0.5 , 0.5 , 0.5 ],
           [0.  , 1.  , 0.5 , 0.5 , 0.5 ],
           [0.5 , 0.5 , 1.  , 0.5 , 0.75],
           [0.5 , 0.5 , 0.5 , 1.  , 0.75],
           [0.5 , 0.5 , 0.75, 0.75, 1.25]])
    >>> A.inverse().toarray()
    array([[ 2. ,  1. , -1. , -1. ,  0. ],
           [ 1. ,  2. , -1. , -1. ,  0. ],
           [-1. , -1. ,  2.5,  0.5, -1. ],
           [-1. , -1. ,  0.5,  2.5, -1. ],
           [ 0. ,  0. , -1. , -1. ,  2. ]])
    """

    labels: tuple[str, ...]
    ancestry: Ancestry
    library: str

    @property
    def title(self) -> str:
        return f"Pedigree: {count_text(len(self), 'individual')}"

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def inbreeding(self) -> Floats:
        """Inbreeding coefficient of each individual, (n,)."""
        return self.ancestry.inbreeding

    @property
    def logdet(self) -> float:
        """Logarithm of the determinant of the relationship matrix."""
        return self.ancestry.logdet

    def matrix(self) -> Any:
        """Return the relationship matrix A, sparse (n, n)."""
        return self.ancestry.matrix

    def inverse(self) -> Any:
        """Return A^-1, sparse (n, n), by Henderson's rules."""
        return self.ancestry.inverse

    @cached_property
    def _places(self) -> dict[str, int]:
        return {label: i for i, label in enumerate(self.labels)}

    def relationship(self, individuals: Sequence[Any]) -> Floats:
        """Return A of some individuals, (m, m), in their order.

        Examples
        --------
        >>> import ranef
        >>> family = {"animal": [5, 3, 4], "father": [3, 1, 1], "mother": [4, 2, 2]}
        >>> A = ranef.pedigree(family, id="animal", sire="father", dam="mother")
        >>> A.relationship([5, 1])
        array([[1.25, 0.5 ],
               [0.5 , 1.  ]])
        """
        texts = [level_text(one) for one in individuals]
        absent = [one for one, text in zip(individuals, texts, strict=True)
                  if text not in self._places]  # fmt: skip
        if absent:
            raise LevelError(
                f"{len(absent)} of {len(texts)} individuals are not in the pedigree: "
                f"{list_text(absent)}"
            )
        return self.ancestry.among(np.array([self._places[text] for text in texts], dtype=np.intp))

    def tidy(self) -> Any:
        """Return ``id, sire, dam, generation, inbreeding``, parents before their offspring."""
        return super().tidy()

    def tables(self) -> tuple[Listing, ...]:
        names = np.array([*self.labels, None], dtype=object)
        values = {
            "id": names[:-1],
            "sire": names[self.ancestry.sire],
            "dam": names[self.ancestry.dam],
            "generation": self.ancestry.generation,
            "inbreeding": self.inbreeding,
        }
        columns = (Column(name, value, printed=False) for name, value in values.items())
        return (Listing("pedigree", tuple(columns)),)

    def sentences(self) -> tuple[str, ...]:
        F, generations = self.inbreeding, int(self.ancestry.generation.max(initial=-1)) + 1
        founders = int(np.count_nonzero(self.ancestry.generation == 0))
        inbred = int(np.count_nonzero(F > 0))
        lines = [
            f"{founders:,} of {count_text(len(self), 'individual')} are founders; "
            f"{count_text(generations, 'generation')}.",
            "Nobody is inbred."
            if not inbred
            else f"{count_text(inbred, 'individual')} {'is' if inbred == 1 else 'are'} inbred, by "
            f"{number(float(F.max()), 3)} at most; the mean over all is {number(F.mean(), 4)}.",
            f"The logarithm of the relationship matrix's determinant is "
            f"{significant(self.logdet, 4)}.",
        ]
        return tuple(lines)
