"""From specifications, or rows of another table, to the problem of a dynamic model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ranef.design.specification import Specification
from ranef.fields.dynamic.layout import Layout
from ranef.fields.dynamic.problem import Problem
from ranef.fields.dynamic.reading import (
    CONDITIONAL,
    DISPERSION,
    INERTIA,
    INPUTS,
    order_of,
    person_factor,
)

__all__ = ["Ordered", "effect_columns", "problem_of"]

Floats = NDArray[np.float64]
Ints = NDArray[np.intp]


@dataclass(frozen=True, eq=False)
class Ordered:
    """A problem, and which rows and persons stand in it.

    Attributes
    ----------
    problem : Problem
    order : (n,) int array
        Row of the specifications at each place.
    """

    problem: Problem
    order: Ints


def problem_of(
    specs: Mapping[str, Specification], layout: Layout, memory: str, given: bool, threads: int
) -> Ordered:
    """Make the problem of the rows of a fit."""
    order, gap, _ = order_of(specs)
    persons = person_factor(specs).codes[order]
    first = np.r_[np.flatnonzero(np.diff(persons, prepend=-1)), len(persons)]
    spec = specs[CONDITIONAL]
    y = spec.y if spec.offset is None else spec.y - spec.offset
    columns = {
        part: effect_columns(layout, part, [t.z for t in specs[part].terms], spec.n)[order]
        for part in specs
    }
    return Ordered(assembled(layout, memory, given, threads, y[order],
                             {p: s.X[order] for p, s in specs.items()}, columns,
                             first.astype(np.int32), gap), order)  # fmt: skip


def effect_columns(layout: Layout, part: str, z: list[Floats], n: int) -> Floats:
    """Columns of the effects of one part, in the layout's order, (n, .)."""
    own = [z[e.term][:, e.column] for e in layout.effects if e.part == part]
    return np.column_stack(own) if own else np.zeros((n, 0))


def assembled(
    layout: Layout, memory: str, given: bool, threads: int, y: Floats, X: dict[str, Floats],
    columns: Mapping[str, Floats], first: NDArray[np.int32], gap: Floats,
) -> Problem:  # fmt: skip
    """Put a problem together; effects of inertia and dispersion stand side by side."""
    n = len(y)
    none = np.zeros((n, 0))
    z = {part: columns.get(part, none) for part in (CONDITIONAL, INPUTS, INERTIA, DISPERSION)}
    a, b = z[INERTIA].shape[1], z[DISPERSION].shape[1]
    zp = np.hstack([z[INERTIA], np.zeros((n, b))])
    zs = np.hstack([np.zeros((n, a)), z[DISPERSION]])
    return Problem(
        layout, memory, given, np.ascontiguousarray(y), X, z[CONDITIONAL], z[INPUTS], zp, zs,
        first, np.ascontiguousarray(gap), threads=threads,
    )  # fmt: skip
