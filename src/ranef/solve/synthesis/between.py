"""Estimators of the variance tau^2 between studies, the likelihood's looked at as a whole."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ranef.solve.synthesis.studies import Moments, Studies

__all__ = ["LIKELIHOODS", "METHODS", "Between", "between", "first_crossing", "search_range"]

Floats = NDArray[np.float64]

METHODS = ("fe", "dl", "he", "hs", "sj", "eb", "pm", "ml", "reml")
LIKELIHOODS = ("ml", "reml")
STEPS_PER_FOLD = 8
"""Points of the grid for each doubling of tau^2 plus the smallest variance."""
CHUNK = 4_000_000
STEPS = 200
CLOSE = 1e-10
"""Of a root: where a step of Newton is so short, the next one is below rounding."""


@dataclass(frozen=True, eq=False)
class Between:
    """An estimate of tau^2.

    Attributes
    ----------
    tau2 : float
    maxima : (m,) array
        Local maxima of the likelihood's profile, in order; of another estimator tau^2 alone.
    logliks : (m,) array
        The log-likelihood at each; NaN for other estimators.
    score : float
        Derivative of the log-likelihood at tau^2; NaN for other estimators.
    """

    tau2: float
    maxima: Floats
    logliks: Floats
    score: float


def between(studies: Studies, method: str) -> Between:
    """Estimate tau^2 by one of `METHODS`, zero where an estimator falls below."""
    unit = studies.unit
    if unit != 1.0:
        return _in_units(between(studies.over(unit), method), unit, studies, method)
    if method in LIKELIHOODS:
        return likeliest(studies, method == "reml")
    tau2 = max(0.0, CLOSED[method](studies))
    return Between(tau2, np.array([tau2]), np.array([np.nan]), float("nan"))


def _in_units(found: Between, unit: float, studies: Studies, method: str) -> Between:
    """An estimate from studies divided by a unit."""
    square = unit * unit
    df = studies.df if method == "reml" else studies.n
    return Between(
        found.tau2 * square, found.maxima * square, found.logliks - df * np.log(unit),
        found.score / square,
    )  # fmt: skip


# --- estimators by moments


def _none(studies: Studies) -> float:
    return 0.0


def _dersimonian_laird(studies: Studies) -> float:
    """(Q - (n - p)) / tr P at tau^2 = 0 (DerSimonian & Laird 1986)."""
    at = studies.moments(np.zeros(1))
    return float((at.q1[0] - studies.df) / at.trace1[0])


def _hedges(studies: Studies) -> float:
    """Variance of the unweighted residuals less its part by sampling (Hedges 1983)."""
    Q, _ = np.linalg.qr(studies.X)
    sampling = np.sum(studies.v * (1 - np.sum(Q**2, axis=1)))
    return float((np.sum(studies.ordinary**2) - sampling) / studies.df)


def _hunter_schmidt(studies: Studies) -> float:
    """(Q - n) / tr W at tau^2 = 0 (Hunter & Schmidt 2004)."""
    at = studies.moments(np.zeros(1))
    return float((at.q1[0] - studies.n) / at.weight1[0])


def _sidik_jonkman(studies: Studies) -> float:
    """One step from the variance of the effects (Sidik & Jonkman 2005)."""
    first = float(np.var(studies.y))
    if first <= 0:
        return 0.0
    return first * float(studies.moments(np.array([first])).q1[0]) / studies.df


def _paule_mandel(studies: Studies) -> float:
    """Where y'Py = n - p: Paule & Mandel's estimate, and that of empirical Bayes (Morris 1983).

    y'Py falls in tau^2, so that there is one solution.
    """
    return level_of(studies, float(studies.df))


CLOSED: dict[str, Callable[[Studies], float]] = {
    "fe": _none,
    "dl": _dersimonian_laird,
    "he": _hedges,
    "hs": _hunter_schmidt,
    "sj": _sidik_jonkman,
    "eb": _paule_mandel,
    "pm": _paule_mandel,
}


def level_of(studies: Studies, level: float) -> float:
    """The tau^2 at which y'Py has a level; zero where it is below that from the start."""

    def gap(t: Floats) -> tuple[Floats, Floats]:
        at = studies.moments(t)
        return at.q1 - level, -at.q2

    low = 0.0
    if gap(np.zeros(1))[0][0] <= 0:
        return 0.0
    high = float(np.sum(studies.ordinary**2)) / max(level, 1e-300)
    return first_crossing(gap, low, high)


def first_crossing(
    function: Callable[[Floats], tuple[Floats, Floats]],
    low: float,
    high: float,
    start: float | None = None,
) -> float:
    """Root of a function that is positive at `low` and not at `high`: Newton, kept in between."""
    t = 0.5 * (low + high) if start is None or not low < start < high else start
    for _ in range(STEPS):
        value, slope = (float(part[0]) for part in function(np.array([t])))
        if value > 0:
            low = t
        else:
            high = t
        step = t - value / slope if slope < 0 else np.nan
        inside = low < step < high
        new = step if inside else 0.5 * (low + high)
        if inside and abs(new - t) <= CLOSE * abs(t):
            return new
        if abs(new - t) <= 4e-16 * max(abs(new), abs(t)) or not low < high:
            return new
        t = new
    return t


# --- likelihood


def search_range(studies: Studies, restricted: bool) -> tuple[float, float]:
    """Where the profile may turn more than once, and beyond which it only falls.

    The score has the sign of y'PPy / tr P - 1. With s^2 the variance of the ordinary residuals,
    y'PPy <= RSS / (min v + t)^2 and tr P >= (n - p) / (max v + t), so that it is negative once
    (min v + t)^2 > s^2 (max v + t). Since y'PPPy >= y'PPy / (max v + t) and
    tr PP <= tr P / (min v + t), the ratio falls where t > max v - 2 min v: it crosses one at most
    once beyond. For the likelihood tr W, which is larger, takes the place of tr P.
    """
    least, most = float(studies.v.min()), float(studies.v.max())
    spread = float(np.sum(studies.ordinary**2)) / (studies.df if restricted else studies.n)
    end = 0.5 * (spread + np.sqrt(spread * spread + 4 * spread * most))
    return min(max(0.0, most - 2 * least), end), end


def likeliest(studies: Studies, restricted: bool) -> Between:
    """The tau^2 of the highest (restricted) likelihood: every local maximum is found."""
    grid = _grid(studies, restricted)
    score, bend = _scored(studies, restricted, grid)
    brackets = zip(*_brackets(grid, score), strict=True)
    roots = [_root(studies, restricted, low, high, start) for low, high, start in brackets]
    roots += _hidden(studies, restricted, grid, score, bend)
    if score[0] <= 0:
        roots.append(0.0)
    maxima = np.unique(np.array(roots))
    at = studies.moments(maxima)
    logliks = at.loglik(restricted, studies.n, studies.p)
    best = int(np.argmax(logliks))
    return Between(float(maxima[best]), maxima, logliks, float(at.score(restricted)[best]))


def _grid(studies: Studies, restricted: bool) -> Floats:
    turns, end = search_range(studies, restricted)
    least = float(studies.v.min())
    folds = np.log2(1 + turns / least)
    count = max(2, int(np.ceil(STEPS_PER_FOLD * folds)) + 1)
    inner = least * np.expm1(np.linspace(0.0, folds * np.log(2.0), count))
    return np.unique(np.append(inner, end * (1 + 1e-9)))


def _scored(studies: Studies, restricted: bool, grid: Floats) -> tuple[Floats, Floats]:
    """Relative scores q2 / trace - 1 (G,) and the signs of their derivatives (G,)."""
    step = max(1, CHUNK // (studies.n * max(studies.p, 1) ** 2))
    values, bends = [], []
    for first in range(0, len(grid), step):
        at = studies.moments(grid[first : first + step])
        values.append(_relative(at, restricted))
        trace, second = (at.trace1, at.trace2) if restricted else (at.weight1, at.weight2)
        bends.append(at.q2 * second - 2 * at.q3 * trace)
    return np.concatenate(values), np.concatenate(bends)


def _relative(at: Moments, restricted: bool) -> Floats:
    return np.asarray(at.q2 / (at.trace1 if restricted else at.weight1) - 1)


def _brackets(grid: Floats, score: Floats) -> tuple[Floats, Floats, Floats]:
    """Ends of the intervals in which the score falls through zero, and where a line does."""
    down = np.flatnonzero((score[:-1] > 0) & (score[1:] <= 0))
    low, high, above = grid[down], grid[down + 1], score[down]
    return low, high, low + (high - low) * above / (above - score[down + 1])


def _root(studies: Studies, restricted: bool, low: float, high: float, start: float) -> float:
    def function(t: Floats) -> tuple[Floats, Floats]:
        at = studies.moments(t)
        return at.score(restricted), at.curvature(restricted)

    return first_crossing(function, low, high, start)


def _hidden(
    studies: Studies, restricted: bool, grid: Floats, score: Floats, bend: Floats
) -> list[float]:
    """Maxima between two points of one sign: where the relative score turns on its way."""
    up = (score[:-1] <= 0) & (score[1:] <= 0) & (bend[:-1] > 0) & (bend[1:] < 0)
    dip = (score[:-1] > 0) & (score[1:] > 0) & (bend[:-1] < 0) & (bend[1:] > 0)
    roots = []
    for i in np.flatnonzero(up | dip):
        fine = np.linspace(grid[i], grid[i + 1], 201)
        inner, _ = _scored(studies, restricted, fine)
        for low, high, start in zip(*_brackets(fine, inner), strict=True):
            roots.append(_root(studies, restricted, low, high, start))
    return roots
