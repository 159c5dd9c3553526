"""Working correlations: estimated from products of residuals, applied by their inverse root.

Every structure has a root L with R = L L' in each cluster. `whiten` applies its inverse to
rows, so that R^-1 = L^-T L^-1 is never formed. Exchangeable, nested and Markov correlations
have closed forms, in time proportional to the rows; the others factor one small matrix for each
pattern of times that occurs.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from ranef.errors import ModelError
from ranef.solve.marginal.clusters import Clusters, Slice

__all__ = [
    "Autoregressive",
    "Continuous",
    "Exchangeable",
    "Independence",
    "Nested",
    "Working",
    "WorkingRows",
]

Floats = NDArray[np.float64]
Ints = NDArray[np.intp]


@dataclass(frozen=True, eq=False)
class WorkingRows:
    """Scaled rows of a slice.

    Attributes
    ----------
    e : (r,) array
        Pearson's residuals.
    F : (r, p) array
    y, mu : (r,) arrays
        Responses and means.
    root : (r,) array or None
        Roots of the sampling weights.
    bend : (r,) array or None
        Derivative of log(sqrt(w / V) dmu/deta) in eta, where it is needed.
    precision : (r,) array or None
        Roots of the precisions.
    """

    e: Floats
    F: Floats
    y: Floats
    mu: Floats
    root: Floats | None = None
    bend: Floats | None = None
    precision: Floats | None = None

    @property
    def pair_root(self) -> Floats | None:
        """Roots of what rows count in pairs, by sampling weights and precisions."""
        if self.root is None or self.precision is None:
            return self.precision if self.root is None else self.root
        return self.root * self.precision


@dataclass(frozen=True, eq=False)
class Working(ABC):
    """A working correlation with its parameters.

    Attributes
    ----------
    parameters : (k,) array
    shrunk : float
        Share of independence that was mixed in because the estimate was no correlation
        matrix; 0 of one that was.
    smallest : float
        Smallest eigenvalue of the estimate where it was mixed.
    gap : float
        How far an equation of its own is from zero, in units of its standard error; 0 of moments.
    """

    parameters: Floats
    shrunk: float = 0.0
    smallest: float = np.nan
    gap: float = 0.0

    name: ClassVar[str]
    counted: ClassVar[bool] = True
    """Whether it is estimated from products of residuals, of so many pairs."""
    of_means: ClassVar[bool] = False
    """Whether R moves with the means while its parameters are held."""

    @property
    def has_root(self) -> bool:
        """Whether R is a matrix L L'."""
        return True

    def at(self, rows: WorkingRows) -> Self:
        """The structure at these means; itself where it does not depend on them."""
        return self

    def reduced(self, counts: Floats, p: int, rows: float) -> Floats:
        """Counts of pairs where those of rows are less by p: in proportion, as in R's gee."""
        return counts * (1 - p / rows)

    def reduced_slopes(self, counts: Floats, p: int, rows: float) -> tuple[Floats, Floats]:
        """Derivatives (m,) of `reduced` in the counts, each in its own, and in the rows."""
        return np.full(len(counts), 1 - p / rows), counts * p / rows**2

    @abstractmethod
    def sums(self, v: Floats, clusters: Clusters, part: Slice) -> Floats:
        """Sums of products of two rows of a cluster that share a parameter, (k,)."""

    @abstractmethod
    def fitted(self, sums: Floats, counts: Floats, clusters: Clusters, floor: float) -> Working:
        """The correlation of which the products over the scale are these, of so many pairs.

        One with an eigenvalue below `floor` is mixed with independence until it has none.
        """

    def slopes(self, products: Floats, counts: Floats) -> tuple[Floats, Floats]:
        """Derivatives of the parameters in products over the scale and in counts of pairs.

        (m,) each where a parameter is the mean of one kind of product, else (k, m).
        """
        with np.errstate(divide="ignore", invalid="ignore"):
            own = np.where(counts > 0, 1 / counts, 0.0)
        return own, -own * mean(products, counts)

    @abstractmethod
    def whiten(self, rows: Floats, clusters: Clusters, part: Slice) -> Floats:
        """L^-1 of rows (r, q) of a slice."""

    def whiten_back(self, rows: Floats, clusters: Clusters, part: Slice) -> Floats:
        """L^-T of rows; the same where the root is symmetric."""
        return self.whiten(rows, clusters, part)

    def whiten_slopes(self, F: Floats, clusters: Clusters, part: Slice) -> Floats:
        """What stands left of whitened rows, so that both make F'R^-1."""
        return self.whiten(F, clusters, part)

    def covariance_slopes(
        self, left: Floats, right: Floats, clusters: Clusters, part: Slice
    ) -> Floats:
        """Derivatives (r,) in the means of tr(right' V left), of matrices (r, p) that are held."""
        raise NotImplementedError  # asked only of those whose R moves with the means

    def labels(self, clusters: Clusters) -> list[tuple[float | None, float | None]]:
        """The two times that a parameter belongs to; None for any."""
        return [(None, None)] * len(self.parameters)

    def normal_equations(
        self, F: Floats, e: Floats, clusters: Clusters, part: Slice
    ) -> tuple[Floats, Floats]:
        """F'R^-1 F (p, p) and F'R^-1 e (p,) of a slice."""
        white = self.whiten(np.column_stack([F, e]), clusters, part)
        return white[:, :-1].T @ white[:, :-1], white[:, :-1].T @ white[:, -1]

    def scores(self, F: Floats, e: Floats, clusters: Clusters, part: Slice) -> Floats:
        """F'R^-1 e of each cluster, (k, p)."""
        white = self.whiten(np.column_stack([F, e]), clusters, part)
        return part.sums(white[:, :-1] * white[:, -1:])

    def table(self, clusters: Clusters) -> Floats | None:
        """R (T, T) of all places in time; None of a correlation that is none of places."""
        return None


@dataclass(frozen=True, eq=False)
class Independence(Working):
    """R = I."""

    name = "independence"

    def sums(self, v: Floats, clusters: Clusters, part: Slice) -> Floats:
        return np.zeros(0)

    def fitted(self, sums: Floats, counts: Floats, clusters: Clusters, floor: float) -> Working:
        return self

    def whiten(self, rows: Floats, clusters: Clusters, part: Slice) -> Floats:
        return rows

    def normal_equations(
        self, F: Floats, e: Floats, clusters: Clusters, part: Slice
    ) -> tuple[Floats, Floats]:
        return F.T @ F, F.T @ e

    def scores(self, F: Floats, e: Floats, clusters: Clusters, part: Slice) -> Floats:
        return part.sums(F * e[:, None])

    def table(self, clusters: Clusters) -> Floats | None:
        return np.eye(len(clusters.places))


@dataclass(frozen=True, eq=False)
class Exchangeable(Working):
    """R = (1 - alpha) I + alpha 11'."""

    name = "exchangeable"

    def reduced(self, counts: Floats, p: int, rows: float) -> Floats:
        return np.where(counts > p, counts - p, counts)

    def reduced_slopes(self, counts: Floats, p: int, rows: float) -> tuple[Floats, Floats]:
        return np.ones(len(counts)), np.zeros(len(counts))

    def sums(self, v: Floats, clusters: Clusters, part: Slice) -> Floats:
        return np.array([0.5 * (np.sum(part.sums(v) ** 2) - v @ v)])

    def fitted(self, sums: Floats, counts: Floats, clusters: Clusters, floor: float) -> Working:
        alpha = float(mean(sums, counts)[0])
        low = -1.0 / max(clusters.largest - 1, 1)
        smallest = min(1 - alpha, 1 + (clusters.largest - 1) * alpha)
        if smallest >= floor:
            return Exchangeable(np.array([alpha]))
        held = 1 - floor if alpha > 0 else low * (1 - floor)
        return Exchangeable(np.array([held]), 1 - held / alpha, smallest)

    def whiten(self, rows: Floats, clusters: Clusters, part: Slice) -> Floats:
        alpha, m = self.parameters[0], part.sizes
        share = (1 - np.sqrt((1 - alpha) / (1 + (m - 1) * alpha))) / m
        sums = part.sums(rows)
        shared = share[:, None] * sums if rows.ndim == 2 else share * sums
        return np.asarray((rows - part.spread(shared)) / np.sqrt(1 - alpha))

    def _shared(self, part: Slice) -> Floats:
        """C of each cluster in R^-1 = (I - c 11') / (1 - alpha)."""
        alpha = self.parameters[0]
        return np.asarray(alpha / (1 + (part.sizes - 1) * alpha))

    def normal_equations(
        self, F: Floats, e: Floats, clusters: Clusters, part: Slice
    ) -> tuple[Floats, Floats]:
        sums, rest = part.sums(F), 1 - self.parameters[0]
        shared = self._shared(part)[:, None] * sums
        H = F.T @ F - sums.T @ shared
        return H / rest, (F.T @ e - shared.T @ part.sums(e)) / rest

    def scores(self, F: Floats, e: Floats, clusters: Clusters, part: Slice) -> Floats:
        shared = (self._shared(part) * part.sums(e))[:, None] * part.sums(F)
        return np.asarray((part.sums(F * e[:, None]) - shared) / (1 - self.parameters[0]))

    def table(self, clusters: Clusters) -> Floats | None:
        return np.where(np.eye(len(clusters.places), dtype=bool), 1.0, self.parameters[0])


@dataclass(frozen=True, eq=False)
class Nested(Working):
    """Two levels: alpha_1 within an inner cluster, alpha_2 between those of one cluster."""

    name = "nested"

    def sums(self, v: Floats, clusters: Clusters, part: Slice) -> Floats:
        first, _ = inner_parts(clusters, part)
        within = 0.5 * (np.sum(np.add.reduceat(v, first) ** 2) - v @ v)
        every = 0.5 * (np.sum(part.sums(v) ** 2) - v @ v)
        return np.array([within, every - within])

    def fitted(self, sums: Floats, counts: Floats, clusters: Clusters, floor: float) -> Working:
        within, between = mean(sums, counts)
        smallest = float(self._eigenvalues(within, between, clusters).min())
        if smallest >= floor:
            return Nested(np.array([within, between]))
        share = (floor - smallest) / (1 - smallest)
        return Nested((1 - share) * np.array([within, between]), share, smallest)

    @staticmethod
    def _eigenvalues(within: float, between: float, clusters: Clusters) -> Floats:
        """All distinct kinds of eigenvalues of R in the clusters."""
        found = [np.array([1 - within])]
        for part in clusters.slices:
            first, sizes = inner_parts(clusters, part)
            own = (1 - within) + sizes * (within - between)
            found.append(own)
            v2 = np.add.reduceat(sizes / np.where(own > 0, own, 1.0), _of(first, part))
            found.append(1 + between * v2)
        return np.concatenate(found)

    def _roots(self, clusters: Clusters, part: Slice) -> tuple[Floats, Floats, Floats]:
        """Share of the inner sums, the vector v of each row, and its share in each cluster."""
        within, between = self.parameters
        sizes = inner_parts(clusters, part)[1]
        own = (1 - within) + sizes * (within - between)
        share = (1 - np.sqrt((1 - within) / own)) / sizes
        v = np.repeat(1 / np.sqrt(own), sizes)
        v2 = part.sums(v * v)
        return share, v, (1 - 1 / np.sqrt(1 + between * v2)) / v2

    def _inner(self, rows: Floats, share: Floats, clusters: Clusters, part: Slice) -> Floats:
        first, sizes = inner_parts(clusters, part)
        sums = np.add.reduceat(rows, first, axis=0)
        shared = share[:, None] * sums if rows.ndim == 2 else share * sums
        shared = np.repeat(shared, sizes, axis=0)
        return np.asarray((rows - shared) / np.sqrt(1 - self.parameters[0]))

    @staticmethod
    def _outer(rows: Floats, v: Floats, share: Floats, part: Slice) -> Floats:
        side = v[:, None] if rows.ndim == 2 else v
        sums = part.sums(side * rows)
        shared = share[:, None] * sums if rows.ndim == 2 else share * sums
        return np.asarray(rows - side * part.spread(shared))

    def whiten(self, rows: Floats, clusters: Clusters, part: Slice) -> Floats:
        share, v, outer = self._roots(clusters, part)
        return self._outer(self._inner(rows, share, clusters, part), v, outer, part)

    def whiten_back(self, rows: Floats, clusters: Clusters, part: Slice) -> Floats:
        share, v, outer = self._roots(clusters, part)
        return self._inner(self._outer(rows, v, outer, part), share, clusters, part)


def inner_parts(clusters: Clusters, part: Slice) -> tuple[Ints, Ints]:
    """First rows and sizes of the inner clusters of a slice."""
    assert clusters.inner is not None
    inner = clusters.inner[part.rows]
    begins = np.empty(len(inner), dtype=bool)
    begins[0] = True
    begins[1:] = inner[1:] != inner[:-1]
    begins[part.starts] = True
    first = np.flatnonzero(begins)
    return first, np.diff(np.append(first, len(inner)))


def _of(first: Ints, part: Slice) -> Ints:
    """Place of each cluster's first inner cluster."""
    return np.searchsorted(first, part.starts)


CELLS = 1 << 22
FEW_PLACES = 64
MANY_ROWS = 200
"""Rows of a cluster beyond which its pairs are not visited one by one."""


def lags(clusters: Clusters, part: Slice, first: Ints, second: Ints) -> Ints:
    """Distance of pairs in places of time."""
    positions = clusters.positions[part.rows]
    return positions[second] - positions[first]


def by_places(v: Floats, clusters: Clusters, part: Slice) -> Floats:
    """Sums of products by pair of places, (T, T)."""
    count = len(clusters.places)
    square = np.zeros((count, count))
    step = max(1, CELLS // count)
    for begin in range(0, len(part.sizes), step):
        end = min(begin + step, len(part.sizes))
        first = part.starts[begin]
        last = part.starts[end] if end < len(part.starts) else len(v)
        table = np.zeros((end - begin, count))
        cluster = np.repeat(np.arange(end - begin), part.sizes[begin:end])
        table[cluster, clusters.positions[part.rows][first:last]] = v[first:last]
        square += table.T @ table
    return square


def by_lag(v: Floats, clusters: Clusters, part: Slice) -> Floats:
    """Sums of products by distance in places, (T,)."""
    count = len(clusters.places)
    if count <= FEW_PLACES:
        square = by_places(v, clusters, part)
        return np.array([np.trace(square, lag) for lag in range(count)])
    out = np.zeros(count)
    large = np.flatnonzero(part.sizes > MANY_ROWS)
    for k in large:
        rows = slice(part.starts[k], part.starts[k] + part.sizes[k])
        positions = clusters.positions[part.rows][rows]
        own = products_by_lag(v[rows], positions - positions[0])
        out[: len(own)] += own
    for first, second in clusters.pairs(part, MANY_ROWS if len(large) else None):
        code = lags(clusters, part, first, second)
        out += np.bincount(code, weights=v[first] * v[second], minlength=count)
    return out


def products_by_lag(v: Floats, positions: Ints) -> Floats:
    """Sums of products v_i v_j by the distance of their positions, by Fourier transforms.

    Parameters
    ----------
    v : (n,) array
    positions : (n,) array of int
        Increasing, from zero.

    Returns
    -------
    (span,) array
        Exactly 0 at distance 0, which is no pair, and at distances that no pair has.
    """
    from scipy import fft

    span = int(positions[-1]) + 1
    length = fft.next_fast_len(2 * span, real=True)
    placed = np.zeros((2, span))
    placed[0, positions], placed[1, positions] = v, 1.0
    transformed = fft.rfft(placed, length, axis=1)
    sums, pairs = fft.irfft(np.abs(transformed) ** 2, length, axis=1)[:, :span]
    return np.where((np.rint(pairs) > 0) & (np.arange(span) > 0), sums, 0.0)


def mean(sums: Floats, counts: Floats) -> Floats:
    """Sums over counts; 0 where there is no pair."""
    return np.divide(sums, counts, out=np.zeros_like(sums), where=counts > 0)


def markov_whiten(rows: Floats, rho: Floats) -> Floats:
    """L^-1 of rows: each less rho times the one before, over sqrt(1 - rho^2).

    rho is 0 in the first row of a cluster.
    """
    side = rho[:, None] if rows.ndim == 2 else rho
    out = np.array(rows)
    out[1:] -= side[1:] * rows[:-1]
    return np.asarray(out / np.sqrt(1 - side * side))


def markov_whiten_back(rows: Floats, rho: Floats) -> Floats:
    """L^-T of rows, of the same root."""
    side = rho[:, None] if rows.ndim == 2 else rho
    scaled = rows / np.sqrt(1 - side * side)
    out = np.array(scaled)
    out[:-1] -= side[1:] * scaled[1:]
    return np.asarray(out)


CLOSEST = 1e-4
"""How far a correlation that is searched for stays from one."""


def least_squares_power(rates: Floats, weights: Floats, exponents: Floats, low: float) -> float:
    """The alpha in (low, 1) of least sum of weights (rates - alpha^exponents)^2.

    From the best point of a grid by Newton's method within its neighbours.
    """
    top = 1 - CLOSEST

    def value(alpha: Floats) -> Floats:
        powers = np.power(alpha[:, None], exponents)
        return np.asarray(np.sum(weights * (rates - powers) ** 2, axis=1))

    grid = np.linspace(max(low, -top), top, 401)
    if low >= 0:
        grid = np.maximum(grid, 1e-8)
    best = int(np.argmin(value(grid)))
    a, b = grid[max(best - 1, 0)], grid[min(best + 1, len(grid) - 1)]

    def slope(alpha: float) -> float:
        powers = alpha**exponents
        inner = np.where(exponents > 0, exponents * alpha ** (exponents - 1.0), 0.0)
        return float(np.sum(weights * inner * (powers - rates)))

    if slope(float(a)) * slope(float(b)) > 0:
        return float(grid[best])
    from scipy.optimize import brentq

    return float(brentq(slope, float(a), float(b), xtol=1e-15, rtol=1e-14))


def power_slopes(
    alpha: float, sums: Floats, counts: Floats, exponents: Floats
) -> tuple[Floats, Floats]:
    """Derivatives (1, m) of `least_squares_power` in sums and counts, the rates their ratio.

    By the implicit function theorem on sum of d alpha^(d - 1) (count alpha^d - sum) = 0.
    """
    if not len(exponents) or alpha == 0:
        return np.zeros((1, len(sums))), np.zeros((1, len(sums)))
    d = exponents
    inner = np.where(d > 0, d * np.power(alpha, d - 1), 0.0)
    powers = np.power(alpha, d)
    bent = np.where(d > 0, d * (d - 1) * np.power(alpha, d - 2), 0.0)
    curve = float(np.sum(bent * (counts * powers - sums) + counts * inner**2))
    return (inner / curve)[None], (-inner * powers / curve)[None]


@dataclass(frozen=True, eq=False)
class Autoregressive(Working):
    """corr = alpha^(distance in places of time).

    Attributes
    ----------
    estimator : {"all", "adjacent"}
        Least squares of all products on alpha^distance, or the mean of those one place apart.
    """

    estimator: str = "all"

    name = "ar1"

    def sums(self, v: Floats, clusters: Clusters, part: Slice) -> Floats:
        if self.estimator == "all":
            return by_lag(v, clusters, part)
        one = np.flatnonzero(np.diff(clusters.positions[part.rows]) == 1)
        same = np.isfinite(clusters.steps[part.rows][one + 1])
        one = one[same]
        return np.array([v[one] @ v[one + 1]])

    def fitted(self, sums: Floats, counts: Floats, clusters: Clusters, floor: float) -> Working:
        if self.estimator == "adjacent":
            alpha = float(mean(sums, counts)[0])
        else:
            some = counts > 0
            exponents = np.flatnonzero(some).astype(np.float64)
            rates = sums[some] / counts[some]
            alpha = least_squares_power(rates, counts[some], exponents, -1.0) if some.any() else 0.0
        held = float(np.clip(alpha, CLOSEST - 1, 1 - CLOSEST))
        shrunk = 0.0 if held == alpha else 1 - held / alpha
        return replace(self, parameters=np.array([held]), shrunk=shrunk, smallest=1 - abs(alpha))

    def slopes(self, products: Floats, counts: Floats) -> tuple[Floats, Floats]:
        if self.estimator == "adjacent":
            return super().slopes(products, counts)
        exponents = np.arange(float(len(products)))
        return power_slopes(float(self.parameters[0]), products, counts, exponents)

    def _rho(self, clusters: Clusters, part: Slice) -> Floats:
        steps = np.diff(clusters.positions[part.rows], prepend=0)
        rho: Floats = np.power(self.parameters[0], np.maximum(steps, 0).astype(np.float64))
        rho[part.starts] = 0.0
        return rho

    def whiten(self, rows: Floats, clusters: Clusters, part: Slice) -> Floats:
        return markov_whiten(rows, self._rho(clusters, part))

    def whiten_back(self, rows: Floats, clusters: Clusters, part: Slice) -> Floats:
        return markov_whiten_back(rows, self._rho(clusters, part))

    def table(self, clusters: Clusters) -> Floats | None:
        place = np.arange(len(clusters.places), dtype=np.float64)
        return np.asarray(np.power(self.parameters[0], np.abs(np.subtract.outer(place, place))))


@dataclass(frozen=True, eq=False)
class Continuous(Working):
    """corr = alpha^|t - s| in the units of time, alpha in (0, 1).

    `distances` are those that occur, and `sums` those of their products: of all pairs, or of
    neighbours in time (`estimator` ``"adjacent"``).
    """

    estimator: str = "all"
    distances: Floats | None = None

    name = "car1"

    def _pairs(self, clusters: Clusters, part: Slice) -> list[tuple[Ints, Ints]]:
        if self.estimator == "all":
            return list(clusters.pairs(part))
        second = np.flatnonzero(np.isfinite(clusters.steps[part.rows]))
        return [(second - 1, second)]

    def _even(self, clusters: Clusters) -> bool:
        """Whether distances are counted in places: large clusters, at even steps of time."""
        large = clusters.largest > MANY_ROWS
        return self.estimator == "all" and large and clusters.even_step is not None

    def with_distances(self, clusters: Clusters) -> Continuous:
        """The structure that knows which distances there are."""
        if self._even(clusters):
            step = clusters.even_step
            assert step is not None
            return replace(self, distances=step * np.arange(1.0, len(clusters.places)))
        found = [np.zeros(0)]
        for part in clusters.slices:
            times = clusters.times[part.rows]
            found += [np.unique(times[b] - times[a]) for a, b in self._pairs(clusters, part)]
        return replace(self, distances=np.unique(np.concatenate(found)))

    def sums(self, v: Floats, clusters: Clusters, part: Slice) -> Floats:
        assert self.distances is not None
        if self._even(clusters):
            return by_lag(v, clusters, part)[1:]
        times, out = clusters.times[part.rows], np.zeros(len(self.distances))
        for first, second in self._pairs(clusters, part):
            code = np.searchsorted(self.distances, times[second] - times[first])
            out += np.bincount(code, weights=v[first] * v[second], minlength=len(out))
        return out

    def fitted(self, sums: Floats, counts: Floats, clusters: Clusters, floor: float) -> Working:
        assert self.distances is not None
        if not len(self.distances):
            return replace(self, parameters=np.array([0.5]))
        # alpha^unit is searched, the correlation of neighbours, whatever the unit of time
        unit = float(np.nanmedian(clusters.steps))
        some = counts > 0
        found = least_squares_power(
            sums[some] / counts[some], counts[some], self.distances[some] / unit, 0.0
        )
        alpha = found ** (1 / unit)
        if abs(alpha**unit - found) > 1e-6:
            raise ModelError(
                f"correlation='car1': the rows of a cluster are about {unit:.3g} apart in time, so "
                "that a correlation at distance 1 cannot be written as a number; give the time in "
                "units in which neighbours are about 1 apart"
            )
        return replace(self, parameters=np.array([alpha]))

    def slopes(self, products: Floats, counts: Floats) -> tuple[Floats, Floats]:
        assert self.distances is not None
        return power_slopes(float(self.parameters[0]), products, counts, self.distances)

    def table(self, clusters: Clusters) -> Floats | None:
        places = clusters.places
        return np.asarray(np.power(self.parameters[0], np.abs(np.subtract.outer(places, places))))

    def _rho(self, clusters: Clusters, part: Slice) -> Floats:
        steps = clusters.steps[part.rows]
        return np.where(np.isnan(steps), 0.0, np.power(self.parameters[0], np.nan_to_num(steps)))

    def whiten(self, rows: Floats, clusters: Clusters, part: Slice) -> Floats:
        return markov_whiten(rows, self._rho(clusters, part))

    def whiten_back(self, rows: Floats, clusters: Clusters, part: Slice) -> Floats:
        return markov_whiten_back(rows, self._rho(clusters, part))
