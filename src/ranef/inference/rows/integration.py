"""Expectations of functions of linear predictors over the normal random effects.

Random effects give the predictors of a row normal distributions, independent of each other
but where a label ties the effects of several (`joint_expectation`). Where the integral
has a closed form that is taken; elsewhere the trapezoidal rule on the standardised
effects, whose error falls like exp(-2 pi d / (s h)) for a function analytic within d
of the real line, s the standard deviation and h the step (Trefethen & Weideman 2014,
SIAM Rev. 56). At equal accuracy it needs fewer nodes than Gauss-Hermite quadrature
where s is large, since the poles of a logit draw near. Where s is very large (a row far
outside the data) a function of one predictor is a narrow step in a wide density: then
Gauss-Legendre panels follow both scales. Memory is bounded whatever is asked; a grid
over several predictors that would be too fine to finish is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from math import prod

import numpy as np
from numpy.typing import NDArray

from ranef.covariance.factor import square_root
from ranef.errors import ModelError
from ranef.families.links import LINKS

__all__ = [
    "MAX_DIMENSIONS",
    "Expectation",
    "Factor",
    "Spread",
    "at",
    "defined",
    "expectation",
    "joint_expectation",
]

Floats = NDArray[np.float64]
Function = Callable[[Floats], Floats]

MAX_DIMENSIONS = 3
REACH = 8.5
LARGEST_STEP = 0.5
DIGITS = {1: 36.0, 2: 24.0, 3: 18.0}
CHUNK = 2_000_000
"""Values of a function held at a time."""
MOST_NODES = 50_000_000
"""Of the grid of one row."""
WIDE = 30.0
"""A standard deviation on the scale of the link above which panels follow the function."""
LARGEST_EXPONENT = 709.0
STEP_HALF = 40
"""A bounded function is constant beyond so far from where it changes, or falls algebraically."""
FARTHEST_CHANGE = 300.0
ORDER = 16


UNDEFINED: dict[str | None, str] = {
    "inverse": (
        "the inverse link has no population mean: 1 / eta is not integrable over normal "
        "random effects; the log link has one"
    ),
    "1/mu^2": (
        "the link 1/mu^2 has no population mean: normal random effects reach below zero, where "
        "no mean has this link; the log link has one"
    ),
}


@dataclass(frozen=True, eq=False)
class Factor:
    """A function of some of the predictors.

    Attributes
    ----------
    uses : tuple of int
        The predictors that it depends on.
    value : callable
        (M, N) predictors to (N, K) values.
    slope : callable
        To their derivatives in the predictors, (M, N, K).
    link : str or None
        Where it is the inverse of a link at one predictor: the link.
    strip : float
        Distance from the real line within which it is analytic.
    grows : bool
        Whether it may grow like an exponential.
    """

    uses: tuple[int, ...]
    value: Function
    slope: Function
    link: str | None
    strip: float
    grows: bool = False


@dataclass(frozen=True, eq=False)
class Expectation:
    """Values (N, K), and derivatives (M, N, K) in the predictors' means and variances.

    `by_covariance` (M, M, N, K) are those in the covariances of two predictors, above the
    diagonal, where they are correlated and the function depends on both; else None.
    """

    value: Floats
    by_mean: Floats
    by_variance: Floats
    by_covariance: Floats | None = None


@dataclass(frozen=True, eq=False)
class Spread:
    """The normal distribution that random effects give to the M predictors of N rows.

    Attributes
    ----------
    variances : (M, N) float64 array
    covariances : dict of (N,) float64 arrays
        Of pairs (a, b), a < b, of predictors whose effects are tied.
    """

    variances: Floats
    covariances: Mapping[tuple[int, int], Floats]

    def correlated(self, uses: Collection[int]) -> bool:
        """Tell whether some of these predictors are."""
        return any(a in uses and b in uses and np.any(c) for (a, b), c in self.covariances.items())

    @property
    def matrices(self) -> Floats:
        """Covariance matrices (N, M, M)."""
        M, N = self.variances.shape
        out = np.zeros((N, M, M))
        out[:, np.arange(M), np.arange(M)] = self.variances.T
        for (a, b), c in self.covariances.items():
            out[:, a, b] = out[:, b, a] = c
        return out


def at(factor: Factor, etas: Floats) -> Expectation:
    """Return the function and its derivatives without random effects."""
    slope = factor.slope(etas)
    return Expectation(factor.value(etas), slope, np.zeros_like(slope))


def defined(factor: Factor, variances: Floats) -> None:
    """Refuse a function that has no expectation where its predictors vary."""
    if factor.link in UNDEFINED and any(np.any(variances[a] > 0) for a in factor.uses):
        raise ModelError(UNDEFINED[factor.link])


def expectation(factor: Factor, etas: Floats, variances: Floats) -> Expectation:
    """Integrate a function over independent normal predictors.

    Parameters
    ----------
    factor : Factor
    etas, variances : (M, N) float64 arrays
        Means and variances of the predictors.

    Raises
    ------
    ModelError
        When the integral does not exist, or has more than three dimensions.
    """
    active = [a for a in factor.uses if np.any(variances[a] > 0)]
    if not active:
        return at(factor, etas)
    defined(factor, variances)
    if factor.link in CLOSED:
        return _closed(factor, active[0], etas, variances)
    if len(active) > MAX_DIMENSIONS:
        raise ModelError(
            f"random effects enter {len(active)} linear predictors of the mean; they can be "
            f"integrated out of at most {MAX_DIMENSIONS}"
        )
    return _quadrature(factor, active, etas, variances)


def joint_expectation(factor: Factor, etas: Floats, covariances: Floats) -> Expectation:
    """Integrate a function over correlated normal predictors.

    The derivatives in the covariance matrix S are half the expectation of the second
    derivatives H of the function, and E[f' t'] = H R for predictors mu + R t, S = R R'
    (Price 1958, IRE Trans. Inf. Theory 4; Stein 1981, Ann. Stat. 9).

    Parameters
    ----------
    factor : Factor
    etas : (M, N) float64 array
    covariances : (N, M, M) float64 array

    Raises
    ------
    ModelError
        When the integral does not exist, or has more than three dimensions.
    """
    variances = np.einsum("naa->an", covariances)
    active = [a for a in factor.uses if np.any(variances[a] > 0)]
    if len(active) > MAX_DIMENSIONS:
        raise ModelError(
            f"random effects enter {len(active)} linear predictors of the mean; they can be "
            f"integrated out of at most {MAX_DIMENSIONS}"
        )
    roots = square_root(covariances[:, active][:, :, active])
    reach = np.zeros_like(etas)
    reach[active] = np.abs(roots).sum(axis=1).T
    grid = _grid(factor, active, reach)
    rows = max(1, CHUNK // grid.size)
    return _joined(
        [
            _correlated(factor, active, etas[:, i : i + rows], roots[i : i + rows], grid)
            for i in range(0, etas.shape[1], rows)
        ]
    )


def _correlated(
    factor: Factor, active: list[int], etas: Floats, roots: Floats, grid: _Grid
) -> Expectation:
    """Sum over the grid, in pieces of bounded size."""
    (M, N), total, D = etas.shape, grid.total(), len(active)
    K = factor.value(etas).shape[1]
    value, by_mean, moments = np.zeros((N, K)), np.zeros((M, N, K)), np.zeros((D, D, N, K))
    for first in range(0, grid.size, CHUNK):
        nodes = grid.nodes(first, min(first + CHUNK, grid.size))
        weights = np.exp(-0.5 * np.sum(nodes**2, axis=0)) / total
        G = len(weights)
        points = np.repeat(etas, G, axis=1).reshape(M, N, G)
        points[active] += np.einsum("nad,dg->ang", roots, nodes)
        flat = points.reshape(M, N * G)
        slope = factor.slope(flat).reshape(M, N, G, K)
        value += np.einsum("ngk,g->nk", factor.value(flat).reshape(N, G, K), weights)
        by_mean += np.einsum("mngk,g->mnk", slope, weights)
        moments += np.einsum("angk,dg->adnk", slope[active], weights * nodes)
    second = np.einsum("adnk,ndb->abnk", moments, np.linalg.pinv(roots, rcond=1e-10))
    by_variance = np.zeros_like(by_mean)
    by_covariance = np.zeros((M, *by_mean.shape))
    for i, a in enumerate(active):
        by_variance[a] = second[i, i] / 2
        for j, b in enumerate(active):
            if a < b:
                by_covariance[a, b] = (second[i, j] + second[j, i]) / 2
    return Expectation(value, by_mean, by_variance, by_covariance)


# --- closed forms: value, derivative in the mean, derivative in the variance


def _identity(eta: Floats, v: Floats) -> tuple[Floats, Floats, Floats]:
    return eta, np.ones_like(eta), np.zeros_like(eta)


def _log(eta: Floats, v: Floats) -> tuple[Floats, Floats, Floats]:
    mean = np.exp(eta + v / 2)
    return mean, mean, mean / 2


def _sqrt(eta: Floats, v: Floats) -> tuple[Floats, Floats, Floats]:
    return eta**2 + v, 2 * eta, np.ones_like(eta)


def _probit(eta: Floats, v: Floats) -> tuple[Floats, Floats, Floats]:
    root = np.sqrt(1 + v)
    x = eta / root
    density = LINKS["probit"].first(x)
    return LINKS["probit"].inverse(x), density / root, -x * density / (2 * (1 + v))


CLOSED: dict[str | None, Callable[[Floats, Floats], tuple[Floats, Floats, Floats]]] = {
    "identity": _identity,
    "log": _log,
    "sqrt": _sqrt,
    "probit": _probit,
}


def _closed(factor: Factor, a: int, etas: Floats, variances: Floats) -> Expectation:
    with np.errstate(over="ignore"):  # far outside the data a mean may have no number
        mean, by_mean, by_variance = CLOSED[factor.link](etas[a], variances[a])
    out = Expectation(mean[:, None], np.zeros((*etas.shape, 1)), np.zeros((*etas.shape, 1)))
    out.by_mean[a, :, 0], out.by_variance[a, :, 0] = by_mean, by_variance
    return out


# --- the trapezoidal rule


@dataclass(frozen=True, eq=False)
class _Grid:
    """A product grid of standard normal variables, made in pieces.

    Attributes
    ----------
    axes : tuple of (n,) float64 arrays
    shape : tuple of int
    """

    axes: tuple[Floats, ...]

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(len(axis) for axis in self.axes)

    @property
    def size(self) -> int:
        return prod(self.shape)

    def total(self) -> float:
        """Sum of the densities at all nodes."""
        return float(np.prod([np.exp(-0.5 * axis**2).sum() for axis in self.axes]))

    def nodes(self, first: int, last: int) -> Floats:
        """Nodes (D, last - first)."""
        places = np.unravel_index(np.arange(first, last), self.shape)
        return np.array([axis[i] for axis, i in zip(self.axes, places, strict=True)])


def _grid(factor: Factor, active: list[int], sd: Floats) -> _Grid:
    """The grid that is fine enough for the largest of these standard deviations (M, N).

    Raises
    ------
    ModelError
        When it has too many nodes.
    """
    counts, steps = [], []
    for a in active:
        s = float(sd[a].max())
        finest = s * DIGITS[len(active)]  # none varies where only wide rows do
        step = min(LARGEST_STEP, 2 * np.pi * factor.strip / finest) if s > 0 else LARGEST_STEP
        counts.append(np.ceil((REACH + (s if factor.grows else 0.0)) / step))
        steps.append(step)
    size = float(np.prod([2 * half + 1 for half in counts]))
    if not size <= MOST_NODES:
        widest = max(float(sd[a].max()) for a in active)
        raise ModelError(
            f"integrating random effects out of {len(active)} linear predictor"
            f"{'s' if len(active) > 1 else ''} takes {size:.1g} points for a row where their "
            f"standard deviation is {widest:.3g} on the scale of the link, more than the "
            f"{MOST_NODES:.1g} that are allowed: is the row far outside the data? "
            "kind='typical' or 'conditional' predicts it without integrating"
        )
    return _Grid(
        tuple(step * np.arange(-half, half + 1) for half, step in zip(counts, steps, strict=True))
    )


def _quadrature(factor: Factor, active: list[int], etas: Floats, variances: Floats) -> Expectation:
    """Integrate the rows by the rule that is right for each."""
    sd = np.sqrt(variances)
    M, N = etas.shape
    wide = np.zeros(N, dtype=np.bool_)
    if len(active) == 1:
        wide = sd[active[0]] > WIDE
    if not wide.any():
        return _trapezoidal(factor, active, etas, sd)
    pieces = [(wide, _wide(factor, active[0], etas[:, wide], sd[:, wide]))]
    if not wide.all():
        pieces.append((~wide, _trapezoidal(factor, active, etas[:, ~wide], sd[:, ~wide])))
    K = pieces[0][1].value.shape[1]
    out = Expectation(np.empty((N, K)), np.empty((M, N, K)), np.empty((M, N, K)))
    for rows, piece in pieces:
        out.value[rows] = piece.value
        out.by_mean[:, rows], out.by_variance[:, rows] = piece.by_mean, piece.by_variance
    return out


def _trapezoidal(factor: Factor, active: list[int], etas: Floats, sd: Floats) -> Expectation:
    """Integrate, with derivatives in the variances by E[f'(eta + s t) t] / (2 s)."""
    grid = _grid(factor, active, sd)
    N, G = etas.shape[1], grid.size
    rows = max(1, CHUNK // G)
    pieces = [
        _integrate(factor, active, etas[:, i : i + rows], sd[:, i : i + rows], grid)
        for i in range(0, N, rows)
    ]
    return _joined(pieces)


def _joined(pieces: list[Expectation]) -> Expectation:
    return Expectation(
        np.concatenate([p.value for p in pieces]),
        np.concatenate([p.by_mean for p in pieces], axis=1),
        np.concatenate([p.by_variance for p in pieces], axis=1),
        None
        if pieces[0].by_covariance is None
        else np.concatenate(
            [p.by_covariance for p in pieces if p.by_covariance is not None], axis=2
        ),
    )


def _integrate(
    factor: Factor, active: list[int], etas: Floats, sd: Floats, grid: _Grid
) -> Expectation:
    """Sum over the grid, in pieces of bounded size."""
    total, out = grid.total(), None
    for first in range(0, grid.size, CHUNK):
        nodes = grid.nodes(first, min(first + CHUNK, grid.size))
        weights = np.exp(-0.5 * np.sum(nodes**2, axis=0)) / total
        piece = _weighted(factor, active, etas, sd, nodes, weights)
        out = piece if out is None else _sum(out, piece)
    assert out is not None
    return out


def _sum(one: Expectation, other: Expectation) -> Expectation:
    return Expectation(
        one.value + other.value,
        one.by_mean + other.by_mean,
        one.by_variance + other.by_variance,
    )


def _weighted(
    factor: Factor,
    active: list[int],
    etas: Floats,
    sd: Floats,
    nodes: Floats,
    weights: Floats,
) -> Expectation:
    M, N = etas.shape
    G = len(weights)
    points = np.repeat(etas, G, axis=1).reshape(M, N, G)
    for t, a in zip(nodes, active, strict=True):
        points[a] += sd[a][:, None] * t
    flat = points.reshape(M, N * G)
    value = factor.value(flat)
    K = value.shape[1]
    slope = factor.slope(flat).reshape(M, N, G, K)
    by_mean = np.einsum("mngk,g->mnk", slope, weights)
    by_variance = np.zeros((M, N, K))
    for t, a in zip(nodes, active, strict=True):
        moment = np.einsum("ngk,g->nk", slope[a], weights * t)
        twice = np.where(sd[a] > 0, 2 * sd[a], np.inf)
        by_variance[a] = moment / twice[:, None]
    mean = np.einsum("ngk,g->nk", value.reshape(N, G, K), weights)
    return Expectation(mean, by_mean, by_variance)


# --- one predictor with a very large standard deviation


def _wide(factor: Factor, a: int, etas: Floats, sd: Floats) -> Expectation:
    """Integrate row by row: panels as narrow as the function near its change, wide elsewhere."""
    others = [b for b in factor.uses if b != a]
    changes = np.zeros(etas.shape[1])
    if factor.link is None:
        changes = np.sum(np.abs(etas[others]), axis=0)
    pieces = []
    for i in range(etas.shape[1]):
        row, s = etas[:, i : i + 1], sd[:, i : i + 1]
        if factor.grows and row[a, 0] + s[a, 0] ** 2 / 2 > LARGEST_EXPONENT:
            pieces.append(_endless(factor, row))
        elif factor.grows or changes[i] > FARTHEST_CHANGE:
            pieces.append(_trapezoidal(factor, [a], row, s))
        else:
            pieces.append(_by_panels(factor, a, row, float(s[a, 0]), float(changes[i])))
    return _joined(pieces)


def _endless(factor: Factor, etas: Floats) -> Expectation:
    """A mean beyond what numbers can hold."""
    slope = factor.slope(etas)
    shape = factor.value(etas).shape
    return Expectation(np.full(shape, np.inf), np.full_like(slope, np.nan), slope * np.nan)


def _by_panels(factor: Factor, a: int, etas: Floats, s: float, change: float) -> Expectation:
    """Integrate over x = eta + s t, for one row (M, 1) whose function changes within `change`."""
    x, weights = _panels(float(etas[a, 0]), s, change)
    t = (x - etas[a, 0]) / s
    weights = weights / s * np.exp(-0.5 * t**2) / np.sqrt(2 * np.pi)
    points = np.repeat(etas, len(x), axis=1)
    points[a] = x
    with np.errstate(over="ignore"):
        value, slope = factor.value(points), factor.slope(points)
    by_variance = np.zeros((len(etas), 1, value.shape[1]))
    by_variance[a, 0] = (weights * t) @ slope[a] / (2 * s)
    by_mean = np.einsum("mgk,g->mk", slope, weights)[:, None]
    return Expectation((weights @ value)[None], by_mean, by_variance)


def _panels(eta: float, s: float, change: float) -> tuple[Floats, Floats]:
    """Nodes and weights (G,) of Gauss-Legendre panels over eta +- `REACH` s.

    Unit panels where the function changes; beyond, panels that grow with the distance; none
    wider than half a standard deviation.
    """
    low, high = eta - REACH * s, eta + REACH * s
    near = float(np.ceil(STEP_HALF + change))
    doublings = max(0, int(np.ceil(np.log2(max(abs(low), abs(high)) / near))))
    far = near * 2.0 ** np.arange(doublings + 1)
    density = eta + s * np.arange(-REACH, REACH + 0.25, 0.5)
    cuts = np.concatenate([np.arange(-near, near + 1), far, -far, density])
    cuts = np.unique(np.clip(cuts, low, high))
    nodes, weights = np.polynomial.legendre.leggauss(ORDER)
    half, middle = np.diff(cuts)[:, None] / 2, (cuts[1:] + cuts[:-1])[:, None] / 2
    return (middle + half * nodes).ravel(), (half * weights).ravel()
