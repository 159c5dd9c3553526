"""Searches of a generalised model from other correlations than those it starts with.

The likelihood of a term whose columns are correlated by a structure often has several optima:
effects that are nearly the same at all times beside effects that are nearly independent. At the
end of a correlation's range the derivative vanishes whatever lies inside, so that a search that
ends there by chance goes on from inside as well.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ranef.covariance.correlated import Correlated
from ranef.solve.parametrisation import Term, at_an_end
from ranef.solve.predictors import GeneralisedAssembly

__all__ = ["from_other_correlations"]

Floats = NDArray[np.float64]

TURNS = (-1.1, 0.0, 1.1)
"""Added to where the parameters of a correlation start, which are angles or like logarithms."""

INSIDE = 0.3
LOWER, AS_LOW = 1e-8, 1e-6
NEARLY = 1e-3
SIZES = (0.5, 1.2)
"""Standard deviations to start from, of columns of unit size."""

NO_SIZE = 1e-3


def from_other_correlations(
    assembly: GeneralisedAssembly,
    start: Floats,
    first: dict[str, Any],
    max_evaluations: int,
) -> dict[str, Any]:
    """Return the best of a search and of others, and say in it how many there were.

    Parameters
    ----------
    assembly : GeneralisedAssembly
    start : (K,) float64 array
        Where the search started, on the core's scale.
    first : dict
        Its end, as the core describes it.
    max_evaluations : int
    """
    best, starts, agreeing = first, first["starts"], first["agreeing"]
    for term in assembly.terms:
        for phi in _others(assembly, term, start, best):
            other = assembly.core.fit(phi, max_evaluations, _Watch(best["criterion"]))
            starts += 1
            size = 1 + abs(best["criterion"])
            gain = best["criterion"] - other["criterion"]
            if gain > LOWER * size and (other["converged"] or not best["converged"]):
                best, agreeing = other, 1
            elif abs(gain) <= AS_LOW * size or other["stopped"]:
                agreeing += int(other["criterion"] - 2 * other["decrement"] <= best["criterion"])
    return best if starts == 1 else {**best, "starts": starts, "agreeing": agreeing}


class _Watch:
    """Stops a search that is about to end where nothing lower lies."""

    def __init__(self, best: float) -> None:
        self.best = best

    def __call__(self, count: int, criterion: float, decrement: float) -> bool:
        near = count > 2 and decrement < NEARLY
        return not (near and criterion - 2 * decrement > self.best - LOWER)


def _others(
    assembly: GeneralisedAssembly, term: Term, start: Floats, best: dict[str, Any]
) -> Iterator[Floats]:
    """Yield the end of the search, and its start, with another correlation of one term."""
    structure = term.structure
    if not isinstance(structure, Correlated) or structure.correlation is None:
        return
    middle = term.offset + structure.n_sds
    sizes, shape = slice(term.offset, middle), slice(middle, term.offset + term.count)
    first = np.array(best["phi"])
    if (np.abs(first[sizes]) > NO_SIZE).any():
        yield from _turned(first, shape, term.core_start(1.0)[structure.n_sds :])
    for size in SIZES:
        phi, own = start.copy(), term.core_start(size)
        phi[sizes] = own[: structure.n_sds]
        yield from _turned(phi, shape, own[structure.n_sds :])
    theta = assembly.split(assembly.end(best)[0])[assembly.terms.index(term)]
    stuck = at_an_end(term, term.relative(theta))
    inside = np.array(best["phi"])
    if len(stuck) and np.diag(best["hessian"])[stuck].min() < 0:
        inside[stuck] -= INSIDE * np.sign(inside[stuck])
        yield inside


def _turned(phi: Floats, shape: slice, middle: Floats) -> Iterator[Floats]:
    """Yield phi with other parameters of a correlation."""
    for turn in TURNS:
        out = phi.copy()
        out[shape] = middle + turn
        yield out
