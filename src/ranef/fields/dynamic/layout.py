"""Which effect and which parameter stands where."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from ranef.design.specification import Specification
from ranef.fields.dynamic.reading import CONDITIONAL, DISPERSION, INERTIA, INPUTS

__all__ = ["Effect", "Layout", "layout_of"]

Floats = NDArray[np.float64]
Ints = NDArray[np.intp]
NONLINEAR = (INERTIA, DISPERSION)


@dataclass(frozen=True)
class Effect:
    """One random effect of a person.

    Attributes
    ----------
    part : str
        ``"conditional"``, ``"inputs"``, ``"inertia"`` or ``"dispersion"``.
    name : str
        Of its column.
    block : int
        Effects of one block are correlated.
    diagonal : bool
        Whether they are independent all the same, ``(x || person)``.
    term, column : int
        Where it stands in the specification of its part.
    """

    part: str
    name: str
    block: int
    diagonal: bool
    term: int
    column: int


@dataclass(frozen=True)
class Layout:
    """The parameters of a dynamic model in one vector.

    Coefficients of the mean, of inputs, of inertia and of dispersion; the entries of L that are
    free, row by row; the logarithm of omega where there are inputs.

    Attributes
    ----------
    names : dict of tuple of str
        Columns of each part.
    effects : tuple of Effect
        Those of inertia and dispersion first: (v, b) = L u.
    """

    names: Mapping[str, tuple[str, ...]]
    effects: tuple[Effect, ...]

    @cached_property
    def slices(self) -> dict[str, slice]:
        """Where the coefficients of each part stand."""
        out, at = {}, 0
        for part, names in self.names.items():
            out[part] = slice(at, at + len(names))
            at += len(names)
        return out

    @cached_property
    def n_coefficients(self) -> int:
        """All coefficients."""
        return sum(len(names) for names in self.names.values())

    @cached_property
    def entries(self) -> tuple[Ints, Ints]:
        """Rows and columns of the free entries of L."""
        pairs = [
            (j, k)
            for j, one in enumerate(self.effects)
            for k, other in enumerate(self.effects[: j + 1])
            if j == k or (one.block == other.block and not one.diagonal)
        ]
        rows, columns = np.array(pairs, dtype=np.intp).reshape(-1, 2).T
        return rows, columns

    @property
    def r(self) -> int:
        """Effects of a person."""
        return len(self.effects)

    @cached_property
    def d(self) -> int:
        """Effects that inertia and dispersion have."""
        return sum(effect.part in NONLINEAR for effect in self.effects)

    @property
    def has_inputs(self) -> bool:
        """Whether omega is a parameter."""
        return INPUTS in self.names

    @cached_property
    def size(self) -> int:
        """All parameters."""
        return self.n_coefficients + len(self.entries[0]) + self.has_inputs

    @property
    def of_factor(self) -> slice:
        """Where the entries of L stand."""
        return slice(self.n_coefficients, self.n_coefficients + len(self.entries[0]))

    def factor(self, theta: Floats) -> Floats:
        """L (r, r)."""
        L = np.zeros((self.r, self.r))
        L[self.entries] = theta[self.of_factor]
        return L

    def omega(self, theta: Floats) -> float:
        """Variance of what drives a prompt that was not seen, over that of the innovations."""
        return float(np.exp(theta[-1])) if self.has_inputs else 1.0

    def with_factor(self, theta: Floats, L: Floats) -> Floats:
        """The parameters with another L."""
        out = theta.copy()
        out[self.of_factor] = L[self.entries]
        return out


def layout_of(specs: Mapping[str, Specification]) -> Layout:
    """Lay out the parameters of read formulas."""
    blocks: dict[object, int] = {}
    found: list[Effect] = []
    for part, spec in specs.items():
        for t, term in enumerate(spec.terms):
            block = blocks.setdefault(term.tie or (part, t), len(blocks))
            for column in term.columns_of(part):
                name = term.name_in(part, term.names[column])
                found.append(Effect(part, name, block, term.structure == "diag", t, column))
    first = [e for part in NONLINEAR for e in found if e.part == part]
    rest = [e for part in (CONDITIONAL, INPUTS) for e in found if e.part == part]
    return Layout({part: spec.names for part, spec in specs.items()}, (*first, *rest))
