"""Correlations between the rows of one group: the structures of residuals.

A structure gives the correlation of two rows as a function of where they stand, a place
among few (visits), whole numbers (days) or coordinates (clock time, latitude and longitude),
with its first and second derivatives in its own parameters. A product of structures is the
product of their correlations (Kronecker's, row by row). Whether a matrix is positive definite
is for its factor to say. (Pinheiro & Bates 2000, section 5.3; Wolfinger 1996, J. Agric. Biol.
Environ. Stat. 1; Zimmerman & Nunez-Anton 2010 on antedependence.)
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ranef.covariance.structure import Parameter
from ranef.errors import ModelError, suggestion

__all__ = [
    "HETEROGENEOUS",
    "ON_COORDINATES",
    "ON_PLACES",
    "RESIDUAL_STRUCTURES",
    "ByDistance",
    "Jet",
    "RowCorrelation",
    "product",
    "row_correlation",
]

Floats = NDArray[np.float64]
Ints = NDArray[np.integer]

INSIDE = 0.9
"""How far towards a singular matrix correlations by moments may be."""
MOST_RANGE = 1e10
"""Range beside the median distance of rows."""
AT_ONCE = 200_000
"""Bessel functions of one call, which does not look for a signal."""
NUMERIC_STEP = 1e-2
"""Of the fourth-order differences that stand for derivatives in a Matern's smoothness."""


@dataclass(frozen=True, eq=False)
class Jet:
    """A matrix for each group with its derivatives.

    Attributes
    ----------
    value : (g, n, n) float64 array
    first : (k, g, n, n) float64 array
    second : dict of (i, j), i <= j, to (g, n, n) float64 arrays
        Those that are not zero.
    """

    value: Floats
    first: Floats
    second: Mapping[tuple[int, int], Floats] = field(default_factory=dict)


def product(parts: list[Jet]) -> Jet:
    """Elementwise product of jets in parameters of their own, one after the other."""
    out = parts[0]
    for other in parts[1:]:
        k = len(out.first)
        second = {at: d * other.value for at, d in out.second.items()}
        second.update({(k + i, k + j): out.value * d for (i, j), d in other.second.items()})
        for i, a in enumerate(out.first):
            for j, b in enumerate(other.first):
                second[i, k + j] = a * b
        first = np.concatenate([out.first * other.value, out.value * other.first])
        out = Jet(out.value * other.value, first, second)
    return out


@dataclass(frozen=True, eq=False)
class RowCorrelation(ABC):
    """The correlation of two rows of a group.

    Attributes
    ----------
    kind : str
        Name in the formula language.
    names : tuple of str
        Of the places, where there are few.
    """

    kind: str
    names: tuple[str, ...] = ()

    @property
    @abstractmethod
    def words(self) -> str:
        """In words, to follow "the residuals are"."""

    @abstractmethod
    def parameters(self) -> tuple[Parameter, ...]:
        """What its parameters are."""

    @abstractmethod
    def starts(self) -> list[Floats]:
        """Values (k,) to begin a search from."""

    def further_starts(self) -> list[Floats]:
        """More of them, for another search; empty where the range of the parameters has them."""
        return []

    def by_moments(self, covariance: Floats) -> Floats | None:
        """Parameters near to a covariance matrix (r, r) of the places; None if it tells none."""
        return None

    @abstractmethod
    def at(self, rho: Floats, where: Floats, second: bool = False) -> Jet:
        """Correlations of rows that stand at `where`, (g, n) places or (g, n, d) coordinates."""

    @property
    def positive(self) -> NDArray[np.bool_]:
        """Which parameters (k,) are positive, and searched for by their logarithm."""
        return np.zeros(len(self.parameters()), dtype=np.bool_)

    @property
    def limits(self) -> Floats:
        """Ends (k, 2) of the range of each parameter."""
        return np.tile([-1.0, 1.0], (len(self.parameters()), 1))

    @property
    def closed(self) -> NDArray[np.bool_]:
        """At which ends (k, 2) of its range a parameter may stand, and the matrix exists."""
        return np.zeros((len(self.parameters()), 2), dtype=np.bool_)

    def loose(self, rho: Floats) -> NDArray[np.bool_]:
        """Which parameters (k,) are at no end, and matter."""
        at_end = (rho[:, None] == self.limits) & self.closed
        return np.asarray(~at_end.any(axis=1))

    @property
    def scaled(self) -> bool:
        """Whether the matrix has variances of its own on its diagonal."""
        return False

    @property
    def is_whole(self) -> bool:
        """Whether it gives a correlation to any two of its places."""
        return True

    def canonical(self, rho: Floats) -> Floats:
        """Parameters of the same matrix, of several the ones that are reported."""
        return rho


@dataclass(frozen=True, eq=False)
class _Placed(RowCorrelation):
    """A matrix over few places, from which the rows take theirs."""

    @abstractmethod
    def table(self, rho: Floats, second: bool) -> Jet:
        """Correlations of all places: value (r, r), first (k, r, r), second by pairs."""

    def at(self, rho: Floats, where: Floats, second: bool = False) -> Jet:
        """Taken from the table of all places."""
        found = self.table(rho, second)
        at = where[:, :, None], where[:, None, :]
        return Jet(
            found.value[at],
            found.first[:, *at],
            {pair: d[at] for pair, d in found.second.items()},
        )


def _correlations(covariance: Floats) -> Floats:
    sd = np.sqrt(np.diag(covariance))
    return np.asarray(covariance / np.outer(sd, sd))


def _one_hot_pairs(size: int, start: int) -> list[tuple[int, int]]:
    return [(i, j) for j in range(size) for i in range(j + start, size)]


@dataclass(frozen=True, eq=False)
class Unstructured(_Placed):
    """Any covariance matrix of the places, its first variance one unless `whole`.

    The parameters are its entries themselves, in which it is linear.
    """

    whole: bool = False

    @property
    def words(self) -> str:
        return "unstructured"

    @property
    def scaled(self) -> bool:
        return True

    @cached_property
    def entries(self) -> list[tuple[int, int]]:
        """Rows and columns of the parameters, column by column of the lower triangle."""
        return _one_hot_pairs(len(self.names), 0)[0 if self.whole else 1 :]

    def parameters(self) -> tuple[Parameter, ...]:
        return tuple(Parameter("cov", self.names[j], self.names[i]) for i, j in self.entries)

    @property
    def limits(self) -> Floats:
        return np.tile([-np.inf, np.inf], (len(self.entries), 1))

    def starts(self) -> list[Floats]:
        eye = np.eye(len(self.names))
        return [np.array([eye[i, j] + 0.3 * (i != j) for i, j in self.entries])]

    def by_moments(self, covariance: Floats) -> Floats:
        """Its entries."""
        return np.array([covariance[i, j] for i, j in self.entries])

    def matrix(self, rho: Floats) -> Floats:
        """The covariance matrix (r, r), relative to the reference variance."""
        out = np.zeros((len(self.names),) * 2)
        out[0, 0] = 1.0
        for value, (i, j) in zip(rho, self.entries, strict=True):
            out[i, j] = out[j, i] = value
        return out

    @cached_property
    def slopes(self) -> Floats:
        """Derivatives (k, r, r) of the matrix, which are constant."""
        out = np.zeros((len(self.entries), *(len(self.names),) * 2))
        for k, (i, j) in enumerate(self.entries):
            out[k, i, j] = out[k, j, i] = 1.0
        return out

    def table(self, rho: Floats, second: bool) -> Jet:
        return Jet(self.matrix(rho), self.slopes)

    def moved(self, rho: Floats, step: Floats) -> Floats:
        """Parameters a step further, to first order, of a matrix that stays positive definite.

        The step is carried to the Cholesky factor, whose diagonal moves by its logarithm:
        dL = L Phi(L^-1 dA L^-T), Phi the lower triangle with half the diagonal (Pinheiro &
        Bates 1996, *Stat. Comput.* 6, for the coordinates).
        """
        L = np.linalg.cholesky(self.matrix(rho))
        half = np.linalg.solve(L, np.einsum("k,kij->ij", step, self.slopes))
        inner = np.linalg.solve(L, half.T)
        change = L @ (np.tril(inner, -1) + np.diag(np.diag(inner) / 2.0))
        d = np.diag(L)
        moved = np.tril(L + change, -1) + np.diag(d * np.exp(np.diag(change) / d))
        A = moved @ moved.T
        return np.array([A[i, j] for i, j in self.entries])


@dataclass(frozen=True, eq=False)
class Exchangeable(RowCorrelation):
    """One correlation of all pairs, down to where the matrix is singular."""

    @property
    def words(self) -> str:
        return "equally correlated"

    def parameters(self) -> tuple[Parameter, ...]:
        return (Parameter("rho"),)

    def starts(self) -> list[Floats]:
        return [np.array([0.2])]

    def by_moments(self, covariance: Floats) -> Floats | None:
        """The mean correlation, above where the matrix is singular."""
        r = len(covariance)
        pairs = _correlations(covariance)[np.tril_indices(r, -1)]
        return np.array([max(pairs.mean(), -INSIDE / (r - 1))]) if r > 1 else None

    def at(self, rho: Floats, where: Floats, second: bool = False) -> Jet:
        """The same for every pair of rows."""
        g, n = where.shape[:2]
        others = np.broadcast_to(1.0 - np.eye(n), (g, n, n))
        return Jet(np.eye(n) + rho[0] * others, others[None])


@dataclass(frozen=True, eq=False)
class Toeplitz(_Placed):
    """A correlation for each lag, of those at which two rows of a group stand.

    Attributes
    ----------
    lags : tuple of int
        These lags; empty where it is all.
    """

    lags: tuple[int, ...] = ()

    @property
    def words(self) -> str:
        return "of a correlation for each lag (Toeplitz)"

    @property
    def is_whole(self) -> bool:
        """Whether every lag has a correlation."""
        return len(self.known) == len(self.names) - 1

    @cached_property
    def known(self) -> tuple[int, ...]:
        """The lags that have a correlation."""
        return self.lags or tuple(range(1, len(self.names)))

    def parameters(self) -> tuple[Parameter, ...]:
        return tuple(Parameter("corr", "(all)", f"lag {k}") for k in self.known)

    def starts(self) -> list[Floats]:
        steps = np.array(self.known, dtype=np.float64) / min(self.known)
        return [0.3**steps, 0.7**steps]

    def by_moments(self, covariance: Floats) -> Floats:
        """The mean correlation at each lag, brought nearer to none until the matrix exists."""
        corr = _correlations(covariance)
        rho = np.array([np.diag(corr, -k).mean() for k in self.known])
        by_lag = np.zeros(len(corr))
        by_lag[list(self.known)] = rho
        place = np.arange(len(corr))
        others = by_lag[np.abs(place[:, None] - place)]
        lowest = float(np.linalg.eigvalsh(others)[0])
        return rho * min(1.0, INSIDE / max(-lowest, 1e-8))

    def table(self, rho: Floats, second: bool) -> Jet:
        place = np.arange(len(self.names))
        lag = np.abs(place[:, None] - place)
        first = (lag == np.array(self.known)[:, None, None]).astype(np.float64)
        by_lag = np.full(len(place), np.nan)
        by_lag[0] = 1.0
        by_lag[list(self.known)] = rho
        return Jet(by_lag[lag], first)

    def at(self, rho: Floats, where: Floats, second: bool = False) -> Jet:
        """Taken from the table; refused at a lag that has no correlation."""
        found = super().at(rho, where, second)
        if np.all(np.isfinite(rho)) and not np.all(np.isfinite(found.value)):
            raise ModelError(
                f"{self.kind}() has a correlation for each lag of the fit, "
                f"{', '.join(map(str, self.known))}, and rows stand at another one"
            )
        return found


@dataclass(frozen=True, eq=False)
class Antedependent(_Placed):
    """Correlations of neighbours, whose product is that of places further apart."""

    @property
    def words(self) -> str:
        return "antedependent of first order"

    def parameters(self) -> tuple[Parameter, ...]:
        pairs = zip(self.names[:-1], self.names[1:], strict=True)
        return tuple(Parameter("corr", a, b) for a, b in pairs)

    def starts(self) -> list[Floats]:
        return [np.full(len(self.names) - 1, value) for value in (0.3, 0.7)]

    def by_moments(self, covariance: Floats) -> Floats:
        """The correlations of neighbours."""
        return np.diag(_correlations(covariance), -1).copy()

    def table(self, rho: Floats, second: bool) -> Jet:
        r = len(self.names)

        def matrix(left_out: tuple[int, ...]) -> Floats:
            """Products over the steps between two places but some; zero where one is not there."""
            out = np.zeros((r, r))
            for i in range(r):
                value = 1.0
                for j in range(i + 1, r):
                    value *= 1.0 if j - 1 in left_out else float(rho[j - 1])
                    if all(i <= step < j for step in left_out):
                        out[i, j] = out[j, i] = value
            return out

        k = r - 1
        first = np.array([matrix((a,)) for a in range(k)]).reshape(k, r, r)
        pairs = [(a, b) for a in range(k) for b in range(a + 1, k)] if second else []
        return Jet(np.eye(r) + matrix(()), first, {pair: matrix(pair) for pair in pairs})


def _distance(where: Floats) -> Floats:
    """Euclidean distances (g, n, n) of places (g, n) or coordinates (g, n, d)."""
    at = where[..., None] if where.ndim == 2 else where
    if at.shape[2] == 1:
        return np.abs(at[:, :, None, 0] - at[:, None, :, 0])
    squares = [(at[:, :, None, d] - at[:, None, :, d]) ** 2 for d in range(at.shape[2])]
    return np.asarray(np.sqrt(sum(squares)))


@dataclass(frozen=True, eq=False)
class ByDistance(RowCorrelation):
    """A function of the distance of two rows."""

    @abstractmethod
    def at_distance(self, rho: Floats, distance: Floats, second: bool = False) -> Jet:
        """Correlations at distances of any shape."""

    def at(self, rho: Floats, where: Floats, second: bool = False) -> Jet:
        """At the Euclidean distances of the rows."""
        return self.at_distance(rho, _distance(where), second)


@dataclass(frozen=True, eq=False)
class Autoregressive(ByDistance):
    """phi to the power of the distance; of whole numbers phi may be negative.

    Attributes
    ----------
    gap : float
        Median distance of neighbours, at which a search begins.
    """

    gap: float = 1.0

    @property
    def words(self) -> str:
        time = "first-order autoregressive"
        return time if self.kind != "car1" else f"{time} in continuous time"

    def parameters(self) -> tuple[Parameter, ...]:
        return (Parameter("phi"),)

    @property
    def limits(self) -> Floats:
        return np.array([[0.0 if self.kind == "car1" else -1.0, 1.0]])

    def starts(self) -> list[Floats]:
        return [np.array([near ** (1.0 / self.gap)]) for near in (0.3, 0.7)]

    def at_distance(self, rho: Floats, distance: Floats, second: bool = False) -> Jet:
        d, phi = distance, float(rho[0])
        with np.errstate(divide="ignore", invalid="ignore"):
            value = np.where(d == 0, 1.0, phi**d)
            first = np.where(d == 0, 0.0, d * phi ** (d - 1.0))
            bent = np.where((d == 0) | (d == 1), 0.0, d * (d - 1.0) * phi ** (d - 2.0))
        return Jet(value, first[None], {(0, 0): bent} if second else {})


@dataclass(frozen=True, eq=False)
class Arma(RowCorrelation):
    """The autocorrelations of a stationary ARMA(p, q) process at whole lags.

    Attributes
    ----------
    order : tuple of int
        p and q.
    gap : float
        Median distance of neighbours, at which a search begins.
    """

    order: tuple[int, int] = (1, 1)
    gap: float = 1.0

    @property
    def words(self) -> str:
        return f"ARMA({self.order[0]}, {self.order[1]})"

    def parameters(self) -> tuple[Parameter, ...]:
        p, q = self.order
        one = [Parameter("phi", "(all)", str(k) if p > 1 else "") for k in range(1, p + 1)]
        return (
            *one,
            *(Parameter("theta", "(all)", str(k) if q > 1 else "") for k in range(1, q + 1)),
        )

    @property
    def limits(self) -> Floats:
        return np.tile([-np.inf, np.inf], (sum(self.order), 1))

    def starts(self) -> list[Floats]:
        return self._first(((0.5, 0.1), (0.2, 0.2), (0.8, -0.2)))

    def further_starts(self) -> list[Floats]:
        """With roots of either sign, near to the unit circle too."""
        return self._first(((-0.5, 0.2), (-0.6, 0.9), (0.6, -0.9), (0.9, -0.7), (-0.2, -0.5)))

    def _first(self, pairs: tuple[tuple[float, float], ...]) -> list[Floats]:
        """Parameters of which only the first of either kind is not zero."""
        p, q = self.order
        out = []
        for a, b in pairs:
            one = np.zeros(p + q)
            near = np.sign(a) * abs(a) ** (1.0 / self.gap)
            one[:1], one[p : p + 1] = (near, b) if p else (b, b)
            out.append(one)
        return out

    def at(self, rho: Floats, where: Floats, second: bool = False) -> Jet:
        lag = np.rint(_distance(where)).astype(np.intp)
        most, k = int(lag.max(initial=0)), len(rho)
        value = self._lags(rho, most)
        step = 1e-30
        unit = np.eye(k)
        slopes = np.array([self._lags(rho + 1j * step * u, most).imag / step for u in unit])
        bends = {}
        if second:
            wide = 1e-5
            for i in range(k):
                for j in range(i, k):
                    up, down = (
                        self._lags(rho + s * wide * unit[j] + 1j * step * unit[i], most).imag / step
                        for s in (1.0, -1.0)
                    )
                    bends[i, j] = ((up - down) / (2 * wide))[lag]
        return Jet(np.real(value)[lag], slopes.reshape(k, most + 1)[:, lag], bends)

    def is_stationary(self, rho: NDArray[Any]) -> bool:
        """Whether the roots of the autoregressive polynomial lie outside the unit circle.

        Those of the moving average may lie anywhere: at the circle, where many optima are, the
        matrix exists, and 1 / root has the same correlations as a root.
        """
        p = self.order[0]
        roots = np.roots(np.append(1.0, -rho[:p])) if p else np.empty(0)
        return not np.any(np.abs(roots) >= 1.0)

    def canonical(self, rho: Floats) -> Floats:
        """The same correlations with the roots of the moving average not inside the circle."""
        p, q = self.order
        if not q:
            return rho
        inverse = np.roots(np.append(1.0, rho[p:]))  # of the roots themselves
        far = np.abs(inverse) > 1.0
        if not far.any():
            return rho
        inverse = np.where(far, 1.0 / np.conj(np.where(far, inverse, 1.0)), inverse)
        back = np.real(np.poly(inverse))[1:]
        return np.append(rho[:p], np.append(back, np.zeros(q - len(back))))

    def _lags(self, rho: NDArray[Any], most: int) -> NDArray[Any]:
        """Autocorrelations at 0, 1, ... `most`; NaN where the process is not stationary.

        The Yule-Walker equations of the autocovariances with the impulse response on their
        right side (Brockwell & Davis 1991, section 3.3).
        """
        p, q = self.order
        if not self.is_stationary(np.real(rho)):
            return np.full(most + 1, np.nan, dtype=rho.dtype)
        phi, theta = rho[:p], np.append(1.0, rho[p:])
        psi = np.zeros(q + 1, dtype=rho.dtype)
        for j in range(q + 1):
            psi[j] = theta[j] + sum(phi[i] * psi[j - 1 - i] for i in range(min(p, j)))
        size = max(p, q) + 1
        left = np.eye(size, dtype=rho.dtype)
        right = np.zeros(size, dtype=rho.dtype)
        for h in range(size):
            for i in range(p):
                left[h, abs(h - 1 - i)] -= phi[i]
            right[h] = sum(theta[j] * psi[j - h] for j in range(h, q + 1))
        gamma = list(np.linalg.solve(left, right))
        while len(gamma) < most + 1:
            gamma.append(sum(phi[i] * gamma[-1 - i] for i in range(p)) if p else 0.0 * gamma[0])
        return np.asarray(np.asarray(gamma[: most + 1]) / gamma[0])


@dataclass(frozen=True, eq=False)
class _OfDistance(ByDistance):
    """A correlation that falls with distance over a range.

    Attributes
    ----------
    unit : float
        Median distance of rows of a group, near which a search begins.
    """

    unit: float = 1.0

    def parameters(self) -> tuple[Parameter, ...]:
        return (Parameter("range"),)

    @property
    def positive(self) -> NDArray[np.bool_]:
        return np.ones(len(self.parameters()), dtype=np.bool_)

    @property
    def limits(self) -> Floats:
        return np.tile([0.0, np.inf], (len(self.parameters()), 1))

    def starts(self) -> list[Floats]:
        return [np.array([self.unit * c]) for c in (0.1, 0.5, 2.0)]

    def checked_range(self, rho: Floats) -> float:
        """The range, as long as distances can be told from zero beside it.

        Raises
        ------
        LinAlgError
            Where they cannot.
        """
        span = float(rho[0])
        if not span < MOST_RANGE * self.unit:
            raise np.linalg.LinAlgError("the range is beyond all distances")
        return span


@dataclass(frozen=True, eq=False)
class _OfRatio(_OfDistance):
    """A function of distance / range alone."""

    @abstractmethod
    def in_logs(self, x: Floats) -> tuple[Floats, Floats, Floats]:
        """f(x), x f'(x) and x (x f'(x))', x = distance / range."""

    def at_distance(self, rho: Floats, distance: Floats, second: bool = False) -> Jet:
        span = self.checked_range(rho)
        value, slope, bend = self.in_logs(distance / span)
        return Jet(
            value,
            -slope[None] / span,
            {(0, 0): (bend + slope) / span**2} if second else {},
        )


@dataclass(frozen=True, eq=False)
class Exponential(_OfRatio):
    """exp(-distance / range)."""

    @property
    def words(self) -> str:
        if self.kind == "ou":
            return "of an Ornstein-Uhlenbeck process, exp(-time / range)"
        return "exponential in distance"

    def in_logs(self, x: Floats) -> tuple[Floats, Floats, Floats]:
        value = np.exp(-x)
        return value, -x * value, (x * x - x) * value


@dataclass(frozen=True, eq=False)
class Gaussian(_OfRatio):
    """exp(-(distance / range)^2)."""

    @property
    def words(self) -> str:
        return "Gaussian in distance"

    def in_logs(self, x: Floats) -> tuple[Floats, Floats, Floats]:
        square = x * x
        value = np.exp(-square)
        return value, -2.0 * square * value, (4.0 * square * square - 4.0 * square) * value


@dataclass(frozen=True, eq=False)
class Matern(_OfDistance):
    """2^(1 - nu) / Gamma(nu) x^nu K_nu(x), x = distance / range, nu the smoothness."""

    @property
    def words(self) -> str:
        return "Matern in distance"

    def parameters(self) -> tuple[Parameter, ...]:
        return (Parameter("range"), Parameter("smoothness"))

    def starts(self) -> list[Floats]:
        return [np.array([self.unit * c, nu]) for c in (0.1, 0.5) for nu in (0.5, 1.5)]

    def at_distance(self, rho: Floats, distance: Floats, second: bool = False) -> Jet:
        span, nu = self.checked_range(rho), float(rho[1])
        x = distance / span
        h = NUMERIC_STEP * max(nu, 0.05)
        places = {j: _matern(x, nu + j * h) for j in (-2, -1, 0, 1, 2)}
        value, slope, bend = places[0]

        def by_nu(i: int) -> Floats:
            return np.asarray(
                (8 * (places[1][i] - places[-1][i]) - (places[2][i] - places[-2][i])) / (12 * h)
            )

        first = np.stack([-slope / span, by_nu(0)])
        if not second:
            return Jet(value, first)
        far = 16 * (places[1][0] + places[-1][0]) - (places[2][0] + places[-2][0])
        twice = (far - 30 * value) / (12 * h * h)
        bent = {(0, 0): (bend + slope) / span**2, (0, 1): -by_nu(1) / span, (1, 1): twice}
        return Jet(value, first, bent)


def _matern(x: Floats, nu: float) -> tuple[Floats, Floats, Floats]:
    """Correlation, x times its slope, and x times the slope of that."""
    from scipy.special import gammaln

    with np.errstate(all="ignore"):
        log_scale = (1.0 - nu) * np.log(2.0) - gammaln(nu) + nu * np.log(x) - x
        scale = np.exp(log_scale)
        value = scale * _bessel(nu, x)
        # d/dx x^nu K_nu = -x^nu K_(nu - 1)
        less = scale * _bessel(nu - 1.0, x)
        slope = -x * less
        bend = x * x * value - 2.0 * nu * x * less
    none = ~np.isfinite(value) | (x == 0)
    near = none & (x < 1.0)
    value = np.where(near, 1.0, np.where(none, 0.0, value))
    return value, np.where(none, 0.0, slope), np.where(none, 0.0, bend)


def _bessel(nu: float, x: Floats) -> Floats:
    """e^x K_nu(x), a stretch at a time: those of one field of 2,500 rows take seconds."""
    from scipy.special import kve

    given, out = np.ravel(x), np.empty(x.size)
    for first in range(0, x.size, AT_ONCE):
        part = slice(first, first + AT_ONCE)
        out[part] = kve(nu, given[part])
    return out.reshape(x.shape)


@dataclass(frozen=True, eq=False)
class Nugget(RowCorrelation):
    """A part of the variance that no two rows share: (1 - nugget) times another correlation.

    Attributes
    ----------
    inner : RowCorrelation
    """

    inner: RowCorrelation = field(kw_only=True)

    @property
    def words(self) -> str:
        return f"{self.inner.words}, with a nugget"

    def parameters(self) -> tuple[Parameter, ...]:
        return (*self.inner.parameters(), Parameter("nugget"))

    @property
    def positive(self) -> NDArray[np.bool_]:
        return np.append(self.inner.positive, False)

    @property
    def limits(self) -> Floats:
        return np.vstack([self.inner.limits, [[0.0, 1.0]]])

    @property
    def closed(self) -> NDArray[np.bool_]:
        return np.vstack([self.inner.closed, [[True, True]]])

    def canonical(self, rho: Floats) -> Floats:
        """Those of the other correlation as it reports them."""
        return np.append(self.inner.canonical(rho[:-1]), rho[-1])

    def loose(self, rho: Floats) -> NDArray[np.bool_]:
        """Of a nugget of one nothing of the other correlation is left."""
        inner = self.inner.loose(rho[:-1]) & (rho[-1] < 1.0)
        return np.append(inner, 0.0 < rho[-1] < 1.0)

    def starts(self) -> list[Floats]:
        return [np.append(start, 0.2) for start in self.inner.starts()]

    def at(self, rho: Floats, where: Floats, second: bool = False) -> Jet:
        inner, part = self.inner.at(rho[:-1], where, second), float(rho[-1])
        k, rest = len(inner.first), 1.0 - part
        value, first = rest * inner.value, np.empty((k + 1, *inner.value.shape))
        np.multiply(inner.first, rest, out=first[:k])
        np.negative(inner.value, out=first[k])
        bent = {pair: rest * d for pair, d in inner.second.items()}
        if second:
            bent |= {(i, k): -d for i, d in enumerate(inner.first)}
        _set_diagonals(value, 1.0)
        for one in (first, *bent.values()):
            _set_diagonals(one, 0.0)
        return Jet(value, first, bent)


def _set_diagonals(matrices: Floats, value: float) -> None:
    """Let the diagonals of matrices (..., n, n) be this."""
    each = np.arange(matrices.shape[-1])
    matrices[..., each, each] = value


HETEROGENEOUS = frozenset({"cs", "hetar1", "toep", "ante"})
"""Structures with a standard deviation for each place; the unstructured one has its own."""
ON_PLACES = frozenset({"us", "cs", "homcs", "toep", "homtoep", "ante", "homante"})
ON_COORDINATES = frozenset({"car1", "ou", "exp", "gau", "mat"})

_KINDS: dict[str, Callable[..., RowCorrelation]] = {
    "us": Unstructured,
    "cs": Exchangeable,
    "homcs": Exchangeable,
    "ar1": Autoregressive,
    "hetar1": Autoregressive,
    "car1": Autoregressive,
    "arma": Arma,
    "toep": Toeplitz,
    "homtoep": Toeplitz,
    "ante": Antedependent,
    "homante": Antedependent,
    "ou": Exponential,
    "exp": Exponential,
    "gau": Gaussian,
    "mat": Matern,
}
RESIDUAL_STRUCTURES = tuple(_KINDS)


def row_correlation(kind: str, names: tuple[str, ...] = (), **given: object) -> RowCorrelation:
    """Return a structure of residuals by its name.

    Parameters
    ----------
    kind : str
        One of `RESIDUAL_STRUCTURES`.
    names : tuple of str
        Of the places that rows stand at.
    **given
        ``order`` of an ARMA process, ``unit`` of distances, ``whole`` of an unstructured matrix,
        ``lags`` that have a correlation.
    """
    if kind not in _KINDS:
        raise ModelError(
            f"no residual structure {kind!r}{suggestion(kind, RESIDUAL_STRUCTURES)}; there are "
            f"{', '.join(RESIDUAL_STRUCTURES)}"
        )
    return _KINDS[kind](kind, names, **given)
