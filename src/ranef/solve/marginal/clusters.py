"""Rows in clusters, ordered in time, and the pairs of rows within a cluster."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

__all__ = ["Clusters", "Patterns", "Slice"]

Floats = NDArray[np.float64]
Ints = NDArray[np.intp]

ROWS = 1 << 16
"""Rows that are worked on at once: few enough for their matrices to stay near the processor."""
KEPT_PAIRS = 1 << 22
"""The most pairs of rows that are written down instead of being found again."""


@dataclass(frozen=True, eq=False)
class Slice:
    """Whole clusters that are worked on at once.

    Attributes
    ----------
    clusters, rows : slice
    starts : (k,) array
        First row of each cluster, counted from the first row of the slice.
    sizes : (k,) array
    """

    clusters: slice
    rows: slice
    starts: Ints
    sizes: Ints

    def sums(self, values: Floats) -> Floats:
        """Sums (k, ...) over the rows of each cluster."""
        return np.add.reduceat(values, self.starts, axis=0)

    def spread(self, values: Floats) -> Floats:
        """The value of its cluster for each row."""
        return np.repeat(values, self.sizes, axis=0)


@dataclass(frozen=True, eq=False)
class Patterns:
    """Clusters of one size in a slice, by where in time their rows lie.

    Attributes
    ----------
    rows : (b, m) array
        Rows of each cluster, counted in the slice.
    positions : (u, m) array
        The patterns that occur.
    which : (b,) array
        Pattern of each cluster.
    """

    rows: Ints
    positions: Ints
    which: Ints

    def each(self) -> Iterator[tuple[Ints, Ints]]:
        """Yield the positions (m,) of each pattern with the rows (b, m) of its clusters."""
        order = np.argsort(self.which, kind="stable")
        ends = np.cumsum(np.bincount(self.which, minlength=len(self.positions)))
        for positions, own in zip(self.positions, np.split(order, ends[:-1]), strict=True):
            yield positions, self.rows[own]


@dataclass(frozen=True, eq=False)
class Clusters:
    """Rows sorted by cluster and, within, by time.

    Attributes
    ----------
    starts : (K + 1,) array
        Cluster i holds the rows starts[i] .. starts[i + 1] - 1.
    times : (n,) array
        Of each row; those of one cluster increase.
    grid : (float, float) or None
        First time and step, where places in time are a grid; None where they are the times
        that occur.
    inner : (n,) array or None
        Number of the cluster within the cluster, which increases along the rows; None where
        clusters are not divided.
    """

    starts: Ints
    times: Floats
    grid: tuple[float, float] | None = None
    inner: Ints | None = None

    @cached_property
    def _placed(self) -> tuple[Floats, Ints]:
        if self.grid is None:
            places, positions = np.unique(self.times, return_inverse=True)
            return places, positions.reshape(-1)
        first, step = self.grid
        positions = np.round((self.times - first) / step).astype(np.intp)
        return first + step * np.arange(positions.max() + 1), positions

    @property
    def places(self) -> Floats:
        """Times by position, (T,)."""
        return self._placed[0]

    @property
    def positions(self) -> Ints:
        """Place of each row's time, (n,)."""
        return self._placed[1]

    @cached_property
    def sizes(self) -> Ints:
        return np.diff(self.starts)

    @property
    def n(self) -> int:
        """Number of rows."""
        return int(self.starts[-1])

    @property
    def count(self) -> int:
        """Number of clusters."""
        return len(self.starts) - 1

    @cached_property
    def largest(self) -> int:
        """Rows of the largest cluster."""
        return int(self.sizes.max())

    @cached_property
    def slices(self) -> tuple[Slice, ...]:
        """The clusters in parts of about `ROWS` rows."""
        out, first = [], 0
        while first < self.count:
            last = int(np.searchsorted(self.starts, self.starts[first] + ROWS, side="right")) - 1
            last = max(last, first + 1)
            begin, end = int(self.starts[first]), int(self.starts[last])
            starts = self.starts[first:last] - begin
            out.append(Slice(slice(first, last), slice(begin, end), starts, self.sizes[first:last]))
            first = last
        return tuple(out)

    @cached_property
    def n_pairs(self) -> int:
        """Pairs of rows of one cluster."""
        sizes = self.sizes.astype(np.int64)
        return int(np.sum(sizes * (sizes - 1) // 2))

    def pairs(self, part: Slice, most: int | None = None) -> Iterator[tuple[Ints, Ints]]:
        """Yield the pairs of rows of a slice, one distance in order after the other.

        Of clusters of at most `most` rows, where it is given.
        """
        key = (part.clusters.start, part.clusters.stop)
        if self.n_pairs > KEPT_PAIRS or most is not None or key not in self._pairs_by_slice:
            yield from _pairs(part, most)
        else:
            yield from self._pairs_by_slice[key]

    @cached_property
    def _pairs_by_slice(self) -> dict[tuple[int, int], list[tuple[Ints, Ints]]]:
        found = {}
        for part in self.slices:
            both = list(_pairs(part))
            firsts = [first for first, _ in both] or [np.zeros(0, dtype=np.intp)]
            seconds = [second for _, second in both] or [np.zeros(0, dtype=np.intp)]
            found[part.clusters.start, part.clusters.stop] = [
                (np.concatenate(firsts), np.concatenate(seconds))
            ]
        return found

    def patterns(self, part: Slice) -> tuple[Patterns, ...]:
        """Return the clusters of a slice by size and by pattern of their times."""
        key = (part.clusters.start, part.clusters.stop)
        if key not in self._patterns:
            self._patterns[key] = _patterns(part, self.positions[part.rows])
        return self._patterns[key]

    @cached_property
    def _patterns(self) -> dict[tuple[int, int], tuple[Patterns, ...]]:
        return {}

    @cached_property
    def even_step(self) -> float | None:
        """The step from each place in time to the next, where all are the same."""
        steps = np.diff(self.places)
        if not len(steps) or np.ptp(steps) > 1e-9 * steps[0]:
            return None
        return float((self.places[-1] - self.places[0]) / len(steps))

    @cached_property
    def steps(self) -> Floats:
        """Time since the row before, (n,); NaN in the first row of a cluster."""
        out = np.full(self.n, np.nan)
        out[1:] = np.diff(self.times)
        out[self.starts[:-1]] = np.nan
        return out


def _pairs(part: Slice, most: int | None = None) -> Iterator[tuple[Ints, Ints]]:
    starts = part.starts
    sizes = part.sizes if most is None else np.where(part.sizes > most, 0, part.sizes)
    for distance in range(1, int(sizes.max(initial=1))):
        some = sizes > distance
        counts = sizes[some] - distance
        before = np.cumsum(counts) - counts
        first = np.arange(counts.sum()) - np.repeat(before - starts[some], counts)
        yield first, first + distance


def _patterns(part: Slice, positions: Ints) -> tuple[Patterns, ...]:
    found = []
    for size in np.unique(part.sizes):
        starts = part.starts[part.sizes == size]
        rows = starts[:, None] + np.arange(size)
        own = positions[rows]
        if (own == own[0]).all():
            found.append(Patterns(rows, own[:1], np.zeros(len(rows), dtype=np.intp)))
        else:
            unique, which = np.unique(own, axis=0, return_inverse=True)
            found.append(Patterns(rows, unique, which.reshape(-1)))
    return tuple(found)
