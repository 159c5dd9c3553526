"""Nodes of integrals over standard normal effects of units, where the units' posteriors are.

The trapezoidal rule converges exponentially for integrands like the normal density: with a step of
h standard deviations its error is of the order exp(-2 pi^2 / h^2), that of ending at r standard
deviations exp(-r^2 / 2) (Trefethen & Weideman 2014). n nodes a dimension balance the two with
h^2 = 4 pi / n. The nodes of all units lie on one lattice, each unit on the multiples of a step of
its own, so that what depends on the effects alone is made once a node.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

__all__ = ["Grid", "Posterior", "coarse_grid", "fine_grid", "posterior_of", "stencil_posterior"]

Floats = NDArray[np.float64]
Ints = NDArray[np.intp]


@dataclass(frozen=True, eq=False)
class Grid:
    """The nodes of every unit.

    Attributes
    ----------
    points : (nodes, d) array
    first : (units + 1) array
        The pairs of each unit.
    node : (pairs) array
    volume : (pairs) array
        Log of what each node stands for.
    """

    points: Floats
    first: NDArray[np.int32]
    node: NDArray[np.int32]
    volume: Floats

    @cached_property
    def prior(self) -> Floats:
        """Log density (nodes) of the standard normal distribution."""
        squares = np.einsum("ki,ki->k", self.points, self.points)
        return np.asarray(-0.5 * (squares + self.points.shape[1] * np.log(2 * np.pi)))

    @cached_property
    def unit(self) -> Ints:
        """Unit of each pair."""
        return np.repeat(np.arange(len(self.first) - 1), np.diff(self.first))


@dataclass(frozen=True, eq=False)
class Posterior:
    """Where each unit's effects are: means (units, d) and covariances (units, d, d)."""

    mean: Floats
    covariance: Floats


def coarse_grid(d: int, units: int, count: int, reach: float) -> Grid:
    """One product grid for all units, `count` nodes a dimension from -reach to reach."""
    axis = np.linspace(-reach, reach, count)
    points = np.stack(np.meshgrid(*[axis] * d, indexing="ij"), axis=-1).reshape(-1, d)
    n = len(points)
    node = np.tile(np.arange(n, dtype=np.int32), units)
    first = (np.arange(units + 1) * n).astype(np.int32)
    return Grid(points, first, node, np.full(len(node), d * float(np.log(axis[1] - axis[0]))))


def stencil_posterior(weight: Floats, grid: Grid, count: int) -> Posterior | None:
    """Means and covariances by the curvature of log weights about the largest, on a product grid.

    None where the largest of some unit lies on the edge.

    Parameters
    ----------
    weight : (units, nodes) array
        Log posterior weights of a grid of `coarse_grid`.
    """
    d = grid.points.shape[1]
    shape = (count,) * d
    cells = weight.reshape(-1, *shape)
    best = np.array(np.unravel_index(weight.argmax(axis=1), shape)).T
    if (best < 1).any() or (best > count - 2).any():
        return None
    axes = grid.points.reshape(*shape, d)
    step = (axes[(-1,) * d] - axes[(0,) * d]) / (count - 1)
    units = np.arange(len(cells))

    def at(*moves: tuple[int, int]) -> Floats:
        place = best.copy()
        for axis, move in moves:
            place[:, axis] += move
        return np.asarray(cells[(units, *place.T)])

    gradient, H = np.zeros((len(units), d)), np.zeros((len(units), d, d))
    centre = at()
    for i in range(d):
        up, down = at((i, 1)), at((i, -1))
        gradient[:, i] = (up - down) / (2 * step[i])
        H[:, i, i] = (up + down - 2 * centre) / step[i] ** 2
        for j in range(i):
            mixed = at((i, 1), (j, 1)) + at((i, -1), (j, -1))
            mixed -= at((i, 1), (j, -1)) + at((i, -1), (j, 1))
            H[:, i, j] = H[:, j, i] = mixed / (4 * step[i] * step[j])
    values, vectors = np.linalg.eigh(-H)
    least = 1e-12 * values.max(axis=1, keepdims=True)
    covariance = np.einsum("uij,uj,ukj->uik", vectors, 1 / np.maximum(values, least), vectors)
    shift = np.einsum("uij,uj->ui", covariance, gradient)
    mean = grid.points[weight.argmax(axis=1)] + np.clip(shift, -step, step)
    return Posterior(mean, covariance)


def posterior_of(weight: Floats, grid: Grid) -> Posterior:
    """Means and covariances of the nodes under posterior weights (pairs)."""
    units, d = len(grid.first) - 1, grid.points.shape[1]
    points = grid.points[grid.node]
    mean, second = np.zeros((units, d)), np.zeros((units, d, d))
    np.add.at(mean, grid.unit, weight[:, None] * points)
    gap = points - mean[grid.unit]
    np.add.at(second, grid.unit, weight[:, None, None] * gap[:, :, None] * gap[:, None, :])
    return Posterior(mean, second)


def fine_grid(posterior: Posterior, nodes: int, spent: Callable[[int], None]) -> Grid:
    """Place nodes on a lattice about each unit's posterior.

    Parameters
    ----------
    posterior : Posterior
    nodes : int
        A dimension.
    spent : callable
        Told the number of pairs so far, to refuse what is too much.
    """
    step, reach = np.sqrt(4 * np.pi / nodes), np.sqrt(np.pi * nodes)
    precision = np.linalg.inv(posterior.covariance)
    d = posterior.mean.shape[1]
    narrow = step / np.sqrt(np.einsum("uii->ui", precision))  # widest step of each unit
    wide = reach * np.sqrt(np.einsum("uii->ui", posterior.covariance))
    lattice = narrow.min(axis=0)
    stride = np.floor(np.maximum(narrow / lattice, 1.0) + 1e-9).astype(np.intp)
    origin = np.median(posterior.mean, axis=0)
    low = np.ceil((posterior.mean - wide - origin) / (lattice * stride)).astype(np.intp)
    high = np.floor((posterior.mean + wide - origin) / (lattice * stride)).astype(np.intp)
    high = np.maximum(high, low)
    every, counts = _lattice_places(low, high, stride, spent)
    if d > 1:
        gap = origin + every * lattice - np.repeat(posterior.mean, counts, axis=0)
        unit = np.repeat(np.arange(len(low)), counts)
        inside = np.einsum("ni,nij,nj->n", gap, precision[unit], gap) <= reach**2
        inside |= (np.bincount(unit[inside], minlength=len(low)) == 0)[unit]
        every, counts = every[inside], np.bincount(unit[inside], minlength=len(low))
    points, node = _distinct(every)
    first = np.concatenate([[0], np.cumsum(counts)]).astype(np.int32)
    volume = np.log(lattice * stride).sum(axis=1)
    return Grid(origin + points * lattice, first, node.astype(np.int32), np.repeat(volume, counts))


def _lattice_places(
    low: Ints, high: Ints, stride: Ints, spent: Callable[[int], None]
) -> tuple[Ints, Ints]:
    """Multiples (pairs, d) of each unit's stride from low to high; how many each unit has."""
    widths = high - low + 1
    counts = widths.prod(axis=1)
    spent(int(counts.sum()))
    unit = np.repeat(np.arange(len(low)), counts)
    rest = np.arange(len(unit)) - np.repeat(np.cumsum(counts) - counts, counts)
    out = np.empty((len(unit), low.shape[1]), dtype=np.intp)
    for i in range(low.shape[1]):
        width = widths[unit, i]
        out[:, i] = (low[unit, i] + rest % width) * stride[unit, i]
        rest = rest // width
    return out, counts


def _distinct(places: Ints) -> tuple[Ints, Ints]:
    """Distinct rows, and which of them each row is."""
    start = places.min(axis=0)
    width = places.max(axis=0) - start + 1
    code = np.zeros(len(places), dtype=np.intp)
    for i in range(places.shape[1]):
        code = code * width[i] + places[:, i] - start[i]
    known, at = np.unique(code, return_inverse=True)
    points = np.empty((len(known), places.shape[1]), dtype=np.intp)
    for i in reversed(range(places.shape[1])):
        points[:, i] = known % width[i] + start[i]
        known = known // width[i]
    return points, at.ravel()
