"""Ranks of levels: what the joint posterior says of their order.

Rank 1 is the smallest number. The expected rank of a level is one plus the sum of
the probabilities that it exceeds each of the others (Laird & Louis 1989, J. Educ. Stat.
14; Lingsma et al. 2010, BMC Med. Res. Methodol. 10), and under squared error of the ranks
it is the optimal estimate.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ranef.errors import ModelError
from ranef.inference.effects.joint_posterior import Posterior
from ranef.questions.levels.ensemble import (
    constrained,
    exceeds,
    mixture_quantiles,
    pooled_quantiles,
    triple_goal,
)

__all__ = ["Ranks", "pairwise", "pairwise_of_draws", "ranks", "ranks_of_draws"]

Floats = NDArray[np.float64]

MOST_PAIRS = 2000
"""Up to this many levels expected ranks are exact; above, they are means of draws."""

BYTES = 2_000_000_000
JITTER = 1e-10


@dataclass(frozen=True, eq=False)
class Ranks:
    """The order of q numbers, as far as it is known; ascending.

    Attributes
    ----------
    estimate, sd, low, high : (q,) float64 arrays
        The numbers themselves, with equal-tailed intervals.
    expected : (q,) float64 array
        Expected rank, between 1 (smallest) and q.
    rank_low, rank_high : (q,) int arrays
        Equal-tailed interval of the rank.
    top, bottom : (q,) float64 arrays
        Probability to be among the k largest, the k smallest.
    above : (q,) float64 array or None
        Probability to exceed the threshold.
    triple_goal, constrained : (q,) float64 arrays
        See `ensemble`.
    exact : bool
        Whether expected ranks and pairwise probabilities come from the normal
        distribution and not from draws.
    draws : (n, q) float64 array or None
        Kept where they are all there is.
    """

    estimate: Floats
    sd: Floats
    low: Floats
    high: Floats
    expected: Floats
    rank_low: NDArray[np.int_]
    rank_high: NDArray[np.int_]
    top: Floats
    bottom: Floats
    above: Floats | None
    triple_goal: Floats
    constrained: Floats
    exact: bool
    draws: Floats | None = None

    def carried(self, through: Callable[[Floats], Floats]) -> Ranks:
        """Return the numbers on another scale, through a function that rises."""
        return replace(
            self,
            estimate=through(self.estimate),
            low=through(self.low),
            high=through(self.high),
            triple_goal=through(self.triple_goal),
            constrained=through(self.constrained),
        )

    def descending(self) -> Ranks:
        """Return the ranks counted from the largest number."""
        q = len(self.expected)
        return replace(
            self,
            expected=q + 1 - self.expected,
            rank_low=q + 1 - self.rank_high,
            rank_high=q + 1 - self.rank_low,
        )


def pairwise(posterior: Posterior) -> Floats:
    """Probabilities (q, q) that the row's number exceeds the column's; 1/2 on the diagonal.

    Phi((m_i - m_k) / sd(i - k)), with the covariance of the two.
    """
    V = posterior.covariance()
    v = np.diag(V)
    sd = np.sqrt(np.maximum(v[:, None] + v - 2 * V, 0.0))
    sd[sd <= 1e-7 * np.sqrt(v[:, None] + v)] = 0.0
    out = exceeds(posterior.mean[:, None] - posterior.mean, sd)
    np.fill_diagonal(out, 0.5)
    return out


def pairwise_of_draws(draws: Floats) -> Floats:
    """The same from draws (n, q)."""
    q = draws.shape[1]
    out = np.empty((q, q))
    for i in range(q):
        column = draws[:, i, None]
        out[i] = np.mean(column > draws, axis=0) + np.mean(column == draws, axis=0) / 2
    return out


def ranks(
    posterior: Posterior,
    *,
    k: int,
    threshold: float | None = None,
    conf_level: float = 0.95,
    draws: int = 4000,
    rng: np.random.Generator,
) -> Ranks:
    """Ranks of the numbers of a joint normal posterior.

    Expected ranks (up to 2,000 levels), probabilities of exceeding the threshold and
    estimates are exact; rank intervals and the probabilities of the ends of the list
    are by drawing.

    Parameters
    ----------
    found : Posterior
        Of q numbers.
    k : int
        The length of the top and of the bottom of the list.
    threshold : float or None
    conf_level : float
    draws : int
    rng : numpy.random.Generator
    """
    from scipy.special import ndtri

    q, sd, spread = len(posterior.mean), posterior.sd, posterior.spread
    drawn = _ranked(q, draws, conf_level, k, lambda n: posterior.draws(n, rng), rng)
    exact = q <= MOST_PAIRS
    expected = drawn.expected
    if exact:
        expected = pairwise(posterior).sum(axis=1) + 0.5
    reach = float(ndtri(0.5 + conf_level / 2)) * sd
    return Ranks(
        estimate=posterior.mean,
        sd=sd,
        low=posterior.mean - reach,
        high=posterior.mean + reach,
        expected=expected,
        rank_low=drawn.low,
        rank_high=drawn.high,
        top=drawn.top,
        bottom=drawn.bottom,
        above=None if threshold is None else exceeds(posterior.mean - threshold, sd),
        triple_goal=triple_goal(expected, mixture_quantiles(posterior.mean, sd)),
        constrained=constrained(posterior.mean, spread),
        exact=exact,
    )


def ranks_of_draws(
    values: Floats,
    estimate: Floats,
    *,
    k: int,
    threshold: float | None = None,
    conf_level: float = 0.95,
    rng: np.random.Generator,
) -> Ranks:
    """Ranks of numbers whose joint posterior is known by draws (n, q) only."""
    n, q = values.shape
    drawn = _ranked(q, n, conf_level, k, _served(values), rng)
    tails = np.quantile(values, [0.5 - conf_level / 2, 0.5 + conf_level / 2], axis=0)
    spread = float(np.var(values - values.mean(axis=1, keepdims=True), axis=0).sum())
    return Ranks(
        estimate=estimate,
        sd=values.std(axis=0),
        low=tails[0],
        high=tails[1],
        expected=drawn.expected,
        rank_low=drawn.low,
        rank_high=drawn.high,
        top=drawn.top,
        bottom=drawn.bottom,
        above=None if threshold is None else np.mean(values > threshold, axis=0),
        triple_goal=triple_goal(drawn.expected, pooled_quantiles(values)),
        constrained=constrained(values.mean(axis=0), spread),
        exact=False,
        draws=values,
    )


def _served(values: Floats) -> Callable[[int], Floats]:
    """Hand out rows in turn."""
    place = 0

    def take(n: int) -> Floats:
        nonlocal place
        place += n
        return values[place - n : place]

    return take


@dataclass(frozen=True, eq=False)
class _Drawn:
    """What draws say of the ranks of q numbers."""

    expected: Floats
    low: NDArray[np.int_]
    high: NDArray[np.int_]
    top: Floats
    bottom: Floats


def _ranked(
    q: int,
    n: int,
    conf_level: float,
    k: int,
    draw: Callable[[int], Floats],
    rng: np.random.Generator,
) -> _Drawn:
    """Rank n draws, some at a time; ties are broken at random."""
    if 4 * q * n > BYTES:
        raise ModelError(
            f"{n:,} draws of the ranks of {q:,} levels need {4 * q * n / 1e9:.1f} GB; "
            f"ask for fewer, such as n={BYTES // (4 * q):,}"
        )
    drawn = np.empty((q, n), dtype=np.int32)
    step = max(1, 2_000_000 // q)
    for start in range(0, n, step):
        values = draw(min(step, n - start))
        scale = float(np.std(values)) or 1.0
        values = values + JITTER * scale * rng.random(values.shape)
        order = np.argsort(values, axis=1)
        place = np.empty(values.shape, dtype=np.int32)
        np.put_along_axis(place, order, np.arange(1, q + 1, dtype=np.int32)[None], axis=1)
        drawn[:, start : start + len(values)] = place.T
    expected = drawn.mean(axis=1)
    top, bottom = (drawn > q - k).mean(axis=1), (drawn <= k).mean(axis=1)
    drawn.sort(axis=1)
    tail = (1 - conf_level) / 2
    low = drawn[:, max(int(np.ceil(n * tail)) - 1, 0)].astype(np.int_)
    high = drawn[:, min(int(np.ceil(n * (1 - tail))) - 1, n - 1)].astype(np.int_)
    return _Drawn(np.asarray(expected), low, high, top, bottom)
