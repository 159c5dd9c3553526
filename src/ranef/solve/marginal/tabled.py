"""Working correlations by places in time: one for each distance, or for each pair of places.

Those of all places make a matrix, whose parts are factored for each pattern of times that occurs;
those that end at a distance stand in bands, see `banded`.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from ranef.solve.marginal.banded import is_banded, near_products, smallest_eigenvalue, solved
from ranef.solve.marginal.clusters import Clusters, Slice
from ranef.solve.marginal.working import Working, by_lag, by_places, mean

__all__ = ["Fixed", "Stationary", "Unstructured"]

Floats = NDArray[np.float64]
Ints = NDArray[np.intp]

LARGE = 64
"""Rows of a cluster of which the inverse root is kept."""


@dataclass(frozen=True, eq=False)
class Tabled(Working):
    """A correlation of places in time, none beyond `reach` of them."""

    reach: int = 1

    @abstractmethod
    def between(self, clusters: Clusters, earlier: Ints, distance: Ints) -> Floats:
        """Correlations of places and of those so far after them, 1 to `reach`."""

    def table(self, clusters: Clusters) -> Floats:
        """R (T, T) of all places in time."""
        return np.asarray(self._matrices(clusters, np.arange(len(clusters.places))[None])[0])

    def band(self, clusters: Clusters, positions: Ints) -> Floats:
        """R of rows at these positions as a band, see `banded`."""
        found = np.zeros((self.reach + 1, len(positions)))
        found[0] = 1.0
        for step in range(1, min(self.reach, len(positions) - 1) + 1):
            apart = positions[step:] - positions[:-step]
            near = np.flatnonzero(apart <= self.reach)
            found[step, near] = self.between(clusters, positions[near], apart[near])
        return found

    def held(self, clusters: Clusters, floor: float) -> Working:
        """The structure itself if R is positive definite, else mixed with independence."""
        count = len(clusters.places)
        if is_banded(self.reach, count):
            smallest = smallest_eigenvalue(self.band(clusters, np.arange(count)), floor)
        else:
            smallest = float(np.linalg.eigvalsh(self.table(clusters))[0])
        if smallest >= floor:
            return self
        share = (floor - smallest) / (1 - smallest)
        return replace(
            self, parameters=(1 - share) * self.parameters, shrunk=share, smallest=smallest
        )

    def _matrices(self, clusters: Clusters, positions: Ints) -> Floats:
        """R (u, m, m) of rows at these positions (u, m)."""
        u, m = positions.shape
        R = np.zeros((u, m, m))
        R[:, np.arange(m), np.arange(m)] = 1.0
        first, second = np.triu_indices(m, 1)
        apart = positions[:, second] - positions[:, first]
        which, pair = np.nonzero(apart <= self.reach)
        values = self.between(clusters, positions[which, first[pair]], apart[which, pair])
        R[which, first[pair], second[pair]] = R[which, second[pair], first[pair]] = values
        return R

    def _roots(self, clusters: Clusters, positions: Ints) -> Floats:
        """L^-1 (u, m, m) of rows at these positions (u, m)."""
        if len(positions) > 1 or positions.shape[1] <= LARGE:
            return np.linalg.inv(np.linalg.cholesky(self._matrices(clusters, positions)))
        key = positions.tobytes()
        if key not in self._kept:
            from scipy.linalg import lapack

            root = np.linalg.cholesky(self._matrices(clusters, positions)[0])
            self._kept[key] = lapack.dtrtri(root, lower=1)[0][None]
        return self._kept[key]

    @cached_property
    def _kept(self) -> dict[bytes, Floats]:
        """Roots of large clusters by their positions: other parts of the rows need them again."""
        return {}

    def whiten(self, rows: Floats, clusters: Clusters, part: Slice) -> Floats:
        return self._applied(rows, clusters, part, False)

    def whiten_back(self, rows: Floats, clusters: Clusters, part: Slice) -> Floats:
        return self._applied(rows, clusters, part, True)

    def _applied(self, rows: Floats, clusters: Clusters, part: Slice, back: bool) -> Floats:
        out = np.empty_like(rows)
        wide = rows if rows.ndim == 2 else rows[:, None]
        result = out if rows.ndim == 2 else out[:, None]
        for pattern in clusters.patterns(part):
            if is_banded(self.reach, pattern.rows.shape[1]):
                for positions, own in pattern.each():
                    band = self.band(clusters, positions)
                    result[own] = solved(band, wide[own], back)
                continue
            roots = self._roots(clusters, pattern.positions)
            roots = roots.swapaxes(1, 2) if back else roots
            whole = roots[0] if len(roots) == 1 else roots[pattern.which]
            result[pattern.rows] = whole @ wide[pattern.rows]
        return out


@dataclass(frozen=True, eq=False)
class Stationary(Tabled):
    """A correlation for each distance in places of time."""

    name = "m-dependent"

    def sums(self, v: Floats, clusters: Clusters, part: Slice) -> Floats:
        if is_banded(self.reach, len(clusters.places)):
            return near_products(v, clusters, part, self.reach)
        return by_lag(v, clusters, part)[1 : self.reach + 1]

    def fitted(self, sums: Floats, counts: Floats, clusters: Clusters, floor: float) -> Working:
        return replace(self, parameters=mean(sums, counts), shrunk=0.0).held(clusters, floor)

    def between(self, clusters: Clusters, earlier: Ints, distance: Ints) -> Floats:
        return self.parameters[distance - 1]


@dataclass(frozen=True, eq=False)
class Unstructured(Tabled):
    """A correlation for each pair of places, one earlier place after the other."""

    name = "unstructured"

    def _codes(self, clusters: Clusters) -> tuple[Ints, Ints]:
        count = len(clusters.places)
        after = np.minimum(self.reach, np.arange(count)[::-1])
        first = np.repeat(np.arange(count), after)
        second = first + 1 + np.arange(len(first)) - np.repeat(np.cumsum(after) - after, after)
        return first, second

    def sums(self, v: Floats, clusters: Clusters, part: Slice) -> Floats:
        first, second = self._codes(clusters)
        if is_banded(self.reach, len(clusters.places)):
            found = near_products(v, clusters, part, self.reach, by_place=True)
            return np.asarray(found[second - first - 1, first])
        return by_places(v, clusters, part)[first, second]

    def fitted(self, sums: Floats, counts: Floats, clusters: Clusters, floor: float) -> Working:
        return replace(self, parameters=mean(sums, counts), shrunk=0.0).held(clusters, floor)

    def between(self, clusters: Clusters, earlier: Ints, distance: Ints) -> Floats:
        count = len(clusters.places)
        after = np.minimum(self.reach, np.arange(count)[::-1])
        return self.parameters[(np.cumsum(after) - after)[earlier] + distance - 1]

    def labels(self, clusters: Clusters) -> list[tuple[float | None, float | None]]:
        first, second = self._codes(clusters)
        places = clusters.places
        return [(float(places[a]), float(places[b])) for a, b in zip(first, second, strict=True)]


@dataclass(frozen=True, eq=False)
class Fixed(Unstructured):
    """A correlation that is given."""

    name = "fixed"

    def sums(self, v: Floats, clusters: Clusters, part: Slice) -> Floats:
        return np.zeros(len(self.parameters))

    def fitted(self, sums: Floats, counts: Floats, clusters: Clusters, floor: float) -> Working:
        return self
