"""Searches of a generalised model from other correlations and sizes than it starts with.

The likelihood of a term whose columns are correlated by a structure often has several optima:
effects that are nearly the same at all times beside effects that are nearly independent. At the
end of a correlation's range the derivative vanishes whatever lies inside, so that a search that
ends there by chance goes on from inside as well.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ranef.covariance.correlated import Correlated
from ranef.solve.parametrisation import Term, at_an_end
from ranef.solve.predictors import GeneralisedAssembly

__all__ = ["from_other_correlations", "from_other_sizes"]

Floats = NDArray[np.float64]

TURNS = (-1.1, 0.0, 1.1)
"""Added to where the parameters of a correlation start, which are angles or like logarithms."""

INSIDE = 0.3
LOWER, AS_LOW = 1e-8, 1e-6
NEARLY = 1e-3
SIZES = (0.5, 1.2)
"""Standard deviations to start from, of columns of unit size."""

NO_SIZE = 1e-3
SMALL = 500
"""Rows up to which further searches cost next to nothing."""
AROUND = (0.3, 1.5)
"""Standard deviations, all alike, of columns of unit size; then the larger of one column alone."""
ALONE, MOST_ALONE = 0.3, 5


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
    best = first
    for term in assembly.terms:
        for phi in _others(assembly, term, start, best):
            best = _better(assembly, best, phi, max_evaluations)
    return best


def from_other_sizes(
    assembly: GeneralisedAssembly,
    start: Floats,
    first: dict[str, Any],
    max_evaluations: int,
    flat: Callable[[], Floats] | None,
) -> dict[str, Any]:
    """Return the best of a search and of others from effects that are all of one size.

    Parameters
    ----------
    flat : callable or None
        Gives other coefficients to start from.
    """
    design, count = assembly.design, assembly.core.parameters
    several = count > 1 or len(design.predictors) > 1
    if design.n > SMALL or not several or not count or design.penalty is not None:
        return first
    best = first
    small, large = (np.concatenate([t.core_start(size) for t in assembly.terms]) for size in AROUND)
    alone = np.flatnonzero(large)
    own = alone if 1 < len(alone) <= MOST_ALONE else alone[:0]
    for effects in (
        small,
        large,
        *(np.where(np.arange(count) == k, large, ALONE * small) for k in own),
    ):
        phi = start.copy()
        phi[:count] = effects
        best = _better(assembly, best, phi, max_evaluations)
    if flat is not None:
        phi = start.copy()
        phi[count:] = assembly.inner(flat())[assembly.outer]
        best = _better(assembly, best, phi, max_evaluations)
    return best


def _better(
    assembly: GeneralisedAssembly, best: dict[str, Any], phi: Floats, max_evaluations: int
) -> dict[str, Any]:
    """Search from another point, and return the better end, with how many searches agree."""
    other = assembly.core.fit(phi, max_evaluations, _Watch(best["criterion"]))
    starts, agreeing = best["starts"] + 1, best["agreeing"]
    size = 1 + abs(best["criterion"])
    gain = best["criterion"] - other["criterion"]
    if gain > LOWER * size and (other["converged"] or not best["converged"]):
        best, agreeing = other, 1
    elif abs(gain) <= AS_LOW * size or other["stopped"]:
        agreeing += int(other["criterion"] - 2 * other["decrement"] <= best["criterion"])
    return {**best, "starts": starts, "agreeing": agreeing}


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
