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

import numpy as np
from numpy.typing import NDArray

from ranef.design.state import Coding
from ranef.design.values import Categories, Numbers
from ranef.errors import ModelError
from ranef.formula.labels import level_text
from ranef.formula.model import Terms

__all__ = ["Layout", "Variable", "check_memory", "lay_out", "model_matrix"]

Floats = NDArray[np.float64]
INTERCEPT = "(Intercept)"


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


def lay_out(terms: Terms, variables: Sequence[Variable], n_rows: int) -> Layout:
    """Decide the coding of each term, and name the columns."""
    parts = _marginality(terms, [variable.coding is not None for variable in variables])
    width = int(terms.intercept)
    for term in parts:
        count = 1
        for index, full in term:
            count *= len(_suffixes(variables[index], full))
        width += count
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


def _columns(variable: Variable, full: bool) -> Floats:
    if isinstance(variable.value, Numbers):
        values = variable.value.values
        return values[:, 0] if values.ndim == 2 and values.shape[1] == 1 else values
    assert variable.coding is not None
    coding, codes = variable.coding, variable.value.codes
    if coding.rows and not full:
        table = np.array(coding.rows, dtype=np.float64)
        return np.asarray(table[codes])
    size = len(coding.levels)
    place = np.arange(size)
    if not full:
        place = place - (place > coding.base)
        place[coding.base] = -1
        size -= 1
    out = np.zeros((len(codes), size))
    columns = place[codes]
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
