"""Few points and weights that stand for the distribution of one response.

sum_k w_k g(y_k) is E g(y) for polynomials of degree 2 K - 1 where the points are those of
Gauss (Golub & Welsch 1969, Math. Comput. 23), of degree K - 1 where they are rounded to counts.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ranef.families import Family

__all__ = ["Rule", "gauss", "rule_of"]

Floats = NDArray[np.float64]

POINTS = 5
DRAWS = 4_000
TAIL = 1e-12
MOST_COUNTS = 20_000
COUNTS = (
    "poisson",
    "nbinom1",
    "nbinom2",
    "nbinom12",
    "genpois",
    "compois",
    "truncated_poisson",
    "truncated_nbinom1",
    "truncated_nbinom2",
    "truncated_genpois",
    "truncated_compois",
    "bell",
)


@dataclass(frozen=True, eq=False)
class Rule:
    """A rule of K points.

    Attributes
    ----------
    points, weights : (K,) float64 arrays
        The weights sum to one; of counts one may be negative.
    """

    points: Floats
    weights: Floats


def rule_of(family: Family, etas: Floats, extra: float | None, *, zero: bool = False) -> Rule:
    """Return a rule for the response of one row with predictors etas (M,)."""
    if family.response == "successes" or family.name in COUNTS:
        most = extra if family.response == "successes" else None
        return _of_counts(family, etas, extra, zero, most)
    if family.name == "gaussian" and len(etas) > 1:
        mean = float(family.mean(etas[:, None])[0])
        sd = float(np.sqrt(family.variance(etas[:, None])[0]))
        z, w = np.polynomial.hermite_e.hermegauss(POINTS)
        return Rule(mean + sd * z, w / w.sum())
    if family.name == "Gamma" and not zero:
        from scipy.special import roots_genlaguerre

        mean = float(family.mean(etas[:, None])[0])
        shape = mean**2 / float(family.variance(etas[:, None])[0])
        x, w = roots_genlaguerre(POINTS, shape - 1)
        return Rule(x * mean / shape, w / w.sum())
    rng = np.random.default_rng(0)
    wide = np.repeat(etas[:, None], DRAWS, axis=1)
    many = None if extra is None else np.full(DRAWS, extra)
    drawn = family.simulate(rng, wide, many, zero=zero)
    return _with_zero(drawn, np.full(DRAWS, 1.0 / DRAWS))


def _with_zero(values: Floats, mass: Floats) -> Rule:
    """A rule of a distribution that may have an atom at zero, which is a point of its own."""
    none = values == 0
    if not none.any():
        return gauss(values, mass)
    rest = 1.0 - float(mass[none].sum())
    if none.all() or rest <= 0:
        return Rule(np.zeros(1), np.ones(1))
    inside = gauss(values[~none], mass[~none] / rest)
    return Rule(np.append(0.0, inside.points), np.append(1 - rest, rest * inside.weights))


def _mass(family: Family, support: Floats, etas: Floats, extra: float | None, zero: bool) -> Floats:
    many = None if extra is None else np.full(len(support), extra)
    wide = np.repeat(etas[:, None], len(support), axis=1)
    return np.exp(family.log_density(support, wide, many, zero=zero))


def _of_counts(
    family: Family, etas: Floats, extra: float | None, zero: bool, most: float | None
) -> Rule:
    """Counts: all of them where these are few, else those next to the points of Gauss."""
    if most is None:
        one = None if extra is None else np.array([extra])
        mean = float(family.mean(etas[:, None], one, zero=zero)[0])
        sd = float(np.sqrt(family.variance(etas[:, None], one, zero=zero)[0]))
        most = min(np.ceil(mean + 12 * sd + 20), float(MOST_COUNTS))
    support = np.arange(float(most) + 1)
    rule = _normalised(support, _mass(family, support, etas, extra, zero))
    if len(rule.points) <= POINTS + 1:
        return rule
    exact = _with_zero(rule.points, rule.weights) if zero else gauss(rule.points, rule.weights)
    points = np.unique(np.clip(np.round(exact.points), rule.points[0], rule.points[-1]))
    centre = float(rule.points @ rule.weights)
    scale = float(np.sqrt(np.maximum((rule.points - centre) ** 2 @ rule.weights, 1e-12)))
    powers = np.arange(len(points))[:, None]
    moments = ((rule.points - centre) / scale) ** powers @ rule.weights
    weights = np.linalg.solve(((points - centre) / scale) ** powers, moments)
    return Rule(points, np.asarray(weights))


def _normalised(support: Floats, mass: Floats) -> Rule:
    mass = np.where(np.isfinite(mass), mass, 0.0)
    kept = mass > TAIL
    return Rule(support[kept], mass[kept] / mass[kept].sum())


def gauss(values: Floats, mass: Floats, points: int = POINTS) -> Rule:
    """Gauss's rule of a discrete distribution, by its orthogonal polynomials (Stieltjes)."""
    centre = float(mass @ values)
    scale = float(np.sqrt(mass @ (values - centre) ** 2))
    if scale == 0:
        return Rule(np.array([centre]), np.ones(1))
    x = (values - centre) / scale
    count = min(points, len(np.unique(values)))
    before, here = np.zeros_like(x), np.ones_like(x)
    a, b = np.zeros(count), np.zeros(count)
    norm = float(mass @ here**2)
    for k in range(count):
        a[k] = float(mass @ (x * here**2)) / norm
        following = (x - a[k]) * here - b[k] * before
        before, here = here, following
        if k + 1 < count:
            new = float(mass @ here**2)
            b[k + 1] = new / norm
            norm = new
    off = np.sqrt(b[1:])
    nodes, vectors = np.linalg.eigh(np.diag(a) + np.diag(off, 1) + np.diag(off, -1))
    return Rule(centre + scale * nodes, vectors[0] ** 2)
