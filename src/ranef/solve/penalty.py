"""Priors of a generalised design, as the core takes them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ranef.priors import Prior

if TYPE_CHECKING:
    from ranef.solve.layout import Block
    from ranef.solve.parametrisation import Term

__all__ = ["Penalty", "core_terms"]

Floats = NDArray[np.float64]
CoreTerm = tuple[int, int, Floats, list[tuple[str, float, float, float]], float]


@dataclass(frozen=True, eq=False)
class Penalty:
    """Priors by coefficient and by random term.

    Attributes
    ----------
    coefficients : tuple of (int, Prior)
        Index of the coefficient and its prior.
    deviations : tuple of tuple of (Prior or None)
        For each term of the design, one for each of its columns.
    correlations : tuple of float
        For each term, eta of its correlation matrix; 1 is no prior.
    """

    coefficients: tuple[tuple[int, Prior], ...]
    deviations: tuple[tuple[Prior | None, ...], ...]
    correlations: tuple[float, ...]


def core_terms(penalty: Penalty, terms: Sequence[Term], blocks: Sequence[Block]) -> list[CoreTerm]:
    """Return the priors of the random terms by block and place in it."""
    out: list[CoreTerm] = []
    for i, term in enumerate(terms):
        given = penalty.deviations[i]
        if penalty.correlations[i] == 1.0 and all(prior is None for prior in given):
            continue
        place = blocks[term.block].terms.index(i)
        sd = [Prior().core() if prior is None else prior.core() for prior in given]
        basis = np.ascontiguousarray(term.basis)
        out.append((term.block, place, basis, sd, penalty.correlations[i]))
    return out
