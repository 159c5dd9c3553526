"""Model matrices: terms, coded by R's rule of marginality, as columns.

A factor of a term is coded by contrasts when the term without it is contained
in an earlier term (or is the intercept), and by one column for each level
otherwise (Chambers and Hastie 1992, section 2.4.1). In an interaction the
first variable runs fastest.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ranef.design.state import Coding
from ranef.design.values import Categories, Numbers
from ranef.errors import ModelError
from ranef.formula.labels import level_text
from ranef.formula.model import Terms

if TYPE_CHECKING:
    from scipy.sparse import csr_array

__all__ = ["Layout", "Variable", "check_memory", "compressed_matrix", "lay_out", "model_matrix"]

Floats = NDArray[np.float64]
INTERCEPT = "(Intercept)"
LEAST_COMPRESSED = 100
"""Columns below which a matrix is dense."""
MOST_COMPRESSED = 10_000
"""Columns up to which one without zeros may exceed memory: cross-products are dense."""
DENSE_SHARE = 0.1
"""Values a row, of its columns, from which a matrix is dense."""


@dataclass(frozen=True, eq=False)
class Variable:
    """A variable of a model: its values, and its coding if it is categorical."""

    key: str
    value: Numbers | Categories
    coding: Coding | None = None


@dataclass(frozen=True)
class Layout:
    """The columns of a model matrix.

    Attributes
    ----------
    parts : tuple of tuple of (int, bool)
        Of each term: which variable, and whether it takes a column for each
        level.
    names : tuple of str
    intercept : bool
    """

    parts: tuple[tuple[tuple[int, bool], ...], ...]
    names: tuple[str, ...]
    intercept: bool

    def assigned(self, variables: Sequence[Variable]) -> NDArray[np.intp]:
        """Term of each column, the intercept first where there is one, from 0."""
        widths = [1] * self.intercept
        for part in self.parts:
            widths.append(math.prod(len(_suffixes(variables[i], full)) for i, full in part))
        return np.repeat(np.arange(len(widths)), widths)


def lay_out(
    terms: Terms, variables: Sequence[Variable], n_rows: int, compressed: bool = False
) -> Layout:
    """Decide the coding of each term, and name the columns.

    `compressed`: the matrix may be held without its zeros, where that pays.
    """
    parts = _marginality(terms, [variable.coding is not None for variable in variables])
    width = int(terms.intercept)
    for term in parts:
        count = 1
        for index, full in term:
            count *= len(_suffixes(variables[index], full))
        width += count
        if not (compressed and width <= MOST_COMPRESSED):
            check_memory(n_rows, width, ":".join(variables[index].key for index, _ in term))
    names = [INTERCEPT] if terms.intercept else []
    for term in parts:
        joined = [""]
        for index, full in term:
            key = variables[index].key
            ends = [key + end for end in _suffixes(variables[index], full)]
            joined = [f"{start}:{end}" if start else end for end in ends for start in joined]
        names.extend(joined)
    return Layout(parts, tuple(names), terms.intercept)


def _marginality(
    terms: Terms, categorical: Sequence[bool]
) -> tuple[tuple[tuple[int, bool], ...], ...]:
    out: list[tuple[tuple[int, bool], ...]] = []
    earlier: list[frozenset[int]] = []
    first_is_full = not terms.intercept
    for term in terms.terms:
        coded = []
        for index in term:
            rest = frozenset(term) - {index}
            margin = not rest or any(rest <= other for other in earlier)
            full = categorical[index] and (not margin or first_is_full)
            first_is_full = first_is_full and not categorical[index]
            coded.append((index, full))
        out.append(tuple(coded))
        earlier.append(frozenset(term))
    return tuple(out)


def _suffixes(variable: Variable, full: bool) -> tuple[str, ...]:
    if variable.coding is None:
        assert isinstance(variable.value, Numbers)
        return variable.value.suffixes
    if full:
        return tuple(level_text(level) for level in variable.coding.levels)
    return variable.coding.suffixes


def check_memory(n_rows: int, columns: int, what: str) -> None:
    """Refuse a dense matrix that this machine cannot hold."""
    needed = 8.0 * n_rows * columns
    if columns > 100_000 or needed > 0.5 * _memory():
        raise ModelError(
            f"{what} makes {columns} columns for {n_rows} rows ({needed / 1e9:.1f} GB); "
            "a variable with so many levels belongs in a random term: (1 | g)"
        )


def _memory() -> float:
    """Bytes of memory of this machine; 8 GB where it does not tell."""
    try:
        return float(os.sysconf("SC_PHYS_PAGES")) * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):
        return 8e9


def model_matrix(layout: Layout, variables: Sequence[Variable], n_rows: int) -> Floats:
    """Fill the model matrix, (n_rows, p) in C order."""
    out = np.empty((n_rows, len(layout.names)))
    start = 0
    if layout.intercept:
        out[:, 0] = 1.0
        start = 1
    made: dict[tuple[int, bool], Floats] = {}
    for term in layout.parts:
        block: Floats | None = None
        for index, full in term:
            if (index, full) not in made:
                made[index, full] = _columns(variables[index], full)
            block = _product(block, made[index, full])
        assert block is not None
        width = 1 if block.ndim == 1 else block.shape[1]
        out[:, start if block.ndim == 1 else slice(start, start + width)] = block
        start += width
    return out


def compressed_matrix(
    layout: Layout, variables: Sequence[Variable], n_rows: int
) -> csr_array | None:
    """Make the model matrix without its zeros; None where few columns are of categories."""
    p = len(layout.names)
    made = {
        (index, full): _entries(variables[index], full) if p >= LEAST_COMPRESSED else None
        for term in layout.parts
        for index, full in term
    }
    if not made or any(entries is None for entries in made.values()):
        return None
    blocks = [_Entries.intercept(n_rows)] if layout.intercept else []
    for term in layout.parts:
        block: _Entries | None = None
        for part in term:
            entries = made[part]
            assert entries is not None
            block = entries if block is None else block.times(entries)
        assert block is not None
        blocks.append(block)
    if sum(block.columns.shape[1] for block in blocks) > DENSE_SHARE * p:
        return None
    return _rows_of(blocks, n_rows)


@dataclass(frozen=True, eq=False)
class _Entries:
    """Columns of a term with k values in each row, of which some may be zero.

    Attributes
    ----------
    columns : (n, k) int32 array
    values : (n, k) float64 array
    width : int
    """

    columns: NDArray[np.int32]
    values: Floats
    width: int

    @staticmethod
    def intercept(n_rows: int) -> _Entries:
        return _Entries(np.zeros((n_rows, 1), dtype=np.int32), np.ones((n_rows, 1)), 1)

    def times(self, second: _Entries) -> _Entries:
        """Multiply all pairs of columns, these running fastest."""
        n = len(self.columns)
        columns = second.columns[:, :, None] * np.int32(self.width) + self.columns[:, None, :]
        values = second.values[:, :, None] * self.values[:, None, :]
        return _Entries(columns.reshape(n, -1), values.reshape(n, -1), self.width * second.width)


def _entries(variable: Variable, full: bool) -> _Entries | None:
    """Return what is not zero of a variable's columns; None for contrasts without a zero."""
    if isinstance(variable.value, Numbers):
        values = variable.value.values
        values = values[:, None] if values.ndim == 1 else values
        n, width = values.shape
        columns = np.broadcast_to(np.arange(width, dtype=np.int32), (n, width))
        return _Entries(columns, values, width)
    assert variable.coding is not None
    if variable.coding.rows and not full:
        values = np.asarray(_columns(variable, full))
        if values.shape[1] > LEAST_COMPRESSED * DENSE_SHARE:
            return None
        columns = np.broadcast_to(np.arange(values.shape[1], dtype=np.int32), values.shape)
        return _Entries(columns, values, values.shape[1])
    place = _place(variable.coding, full)[variable.value.codes].astype(np.int32)[:, None]
    values = (place >= 0).astype(np.float64)
    return _Entries(np.maximum(place, 0), values, len(variable.coding.levels) - (not full))


def _rows_of(blocks: Sequence[_Entries], n_rows: int) -> csr_array:
    """Put blocks of columns beside each other, without their zeros."""
    from scipy.sparse import csr_array

    starts = np.cumsum([0] + [block.width for block in blocks])
    columns = np.hstack([b.columns + np.int32(s) for b, s in zip(blocks, starts, strict=False)])
    values = np.hstack([block.values for block in blocks])
    kept = values != 0  # a missing value stays
    ptr = np.concatenate([[0], np.cumsum(kept.sum(axis=1))])
    return csr_array((values[kept], columns[kept], ptr), shape=(n_rows, int(starts[-1])))


def _place(coding: Coding, full: bool) -> NDArray[np.intp]:
    """Column of each level, -1 for one that has none."""
    place = np.arange(len(coding.levels))
    if not full:
        place = place - (place > coding.base)
        place[coding.base] = -1
    return place


def _columns(variable: Variable, full: bool) -> Floats:
    if isinstance(variable.value, Numbers):
        values = variable.value.values
        return values[:, 0] if values.ndim == 2 and values.shape[1] == 1 else values
    assert variable.coding is not None
    coding, codes = variable.coding, variable.value.codes
    if coding.rows and not full:
        table = np.array(coding.rows, dtype=np.float64)
        return np.asarray(table[codes])
    out = np.zeros((len(codes), len(coding.levels) - (not full)))
    columns = _place(coding, full)[codes]
    rows = np.flatnonzero(columns >= 0)
    out[rows, columns[rows]] = 1.0
    return out


def _product(first: Floats | None, second: Floats) -> Floats:
    """Multiply all pairs of columns, those of `first` running fastest."""
    if first is None:
        return second
    if first.ndim == 1 and second.ndim == 1:
        return first * second
    a = first if first.ndim == 2 else first[:, None]
    b = second if second.ndim == 2 else second[:, None]
    return np.asarray((b[:, :, None] * a[:, None, :]).reshape(len(a), a.shape[1] * b.shape[1]))
