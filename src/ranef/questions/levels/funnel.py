"""Funnel plots: control limits of ratios around a common target, by precision.

Exact limits with the interpolation of Spiegelhalter (2005, Stat. Med. 24, appendix
A.1), and limits that allow for overdispersion between levels, estimated robustly on a
variance-stabilised scale (ibid., section 4; Spiegelhalter et al. 2012, J. R. Stat. Soc. A
175): the square root of a ratio of counts, the arcsine of the root of a proportion.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ranef.errors import ModelError

__all__ = ["OVERDISPERSION", "ROBUST", "Counts", "Funnel", "funnel"]

Floats = NDArray[np.float64]

OVERDISPERSION = ("none", "additive", "multiplicative")
ROBUST = ("winsorise", "trim", "none")


@dataclass(frozen=True, eq=False)
class Counts:
    """What a funnel is made of.

    Attributes
    ----------
    observed, expected : (q,) float64 arrays
    trials : (q,) float64 array or None
        Of binomial counts; None for others.
    variance : callable or None
        From ratios (q,) to the variances (q,) of counts with these times the expected ones,
        where the model says that they are not Poisson; None for exact laws.
    """

    observed: Floats
    expected: Floats
    trials: Floats | None = None
    variance: Callable[[Floats], Floats] | None = None

    def inflation(self, target: float) -> Floats:
        """Variances (q,) of the counts at a target ratio, over those of the exact law."""
        if self.variance is None:
            return np.ones_like(self.expected)
        mean = target * self.expected
        exact = mean if self.trials is None else mean * (1 - np.minimum(mean / self.trials, 1.0))
        with np.errstate(divide="ignore", invalid="ignore"):
            over = self.variance(np.full_like(mean, target)) / exact
        return np.where(np.isfinite(over) & (over > 0), over, 1.0)


@dataclass(frozen=True, eq=False)
class Funnel:
    """Limits of ratios at their own precision, and how far the levels lie from the target.

    Attributes
    ----------
    counts : Counts
    target : float
        The ratio in the middle.
    levels : tuple of float
        Confidence levels of the limits, ascending.
    low, high : (levels, q) float64 arrays
        Limits of each level's ratio.
    z : (q,) float64 array
        Distance from the target in standard errors: beyond the normal quantile of a
        confidence level exactly where the ratio lies beyond its limits.
    phi : float
        Mean of the squared z, winsorised or trimmed.
    chance : float
        What it would be by chance alone: 1, and less after winsorising or trimming.
    tau : float
        Standard deviation between levels on the stabilised scale; 0 unless additive.
    overdispersion : str
    """

    counts: Counts
    target: float
    levels: tuple[float, ...]
    low: Floats
    high: Floats
    z: Floats
    phi: float
    chance: float
    tau: float
    overdispersion: str

    @property
    def ratio(self) -> Floats:
        """Observed over expected, (q,)."""
        return self.counts.observed / self.counts.expected

    @property
    def side(self) -> NDArray[np.int_]:
        """Where each level lies, (q,): 0 inside; k beyond the k-th limit, negative below."""
        out = np.zeros(len(self.ratio), dtype=np.int_)
        for low, high in zip(self.low, self.high, strict=True):
            out += (self.ratio > high).astype(np.int_) - (self.ratio < low).astype(np.int_)
        return out

    def curve(self, points: int = 200) -> tuple[Floats, Floats, Floats]:
        """Expected counts (g,) and limits (levels, g) along the picture.

        Of binomial counts at the average expected probability; where the model's variance
        is not that of the exact law, at its average ratio to that.
        """
        E = self.counts.expected
        at = np.geomspace(E.min() * 0.8, E.max() * 1.1, points)
        over = float(np.average(self.counts.inflation(self.target), weights=E))
        trials = None
        if self.counts.trials is not None:
            probability = E.sum() / self.counts.trials.sum()
            trials = np.unique(np.maximum(np.round(at / probability), 1.0))
            at = trials * probability
        low, high = _limits(Counts(at, at, trials), self, np.full_like(at, over))
        return at, low, high


def funnel(
    counts: Counts,
    *,
    target: float | None = None,
    levels: tuple[float, ...] = (0.95, 0.998),
    overdispersion: str = "none",
    robust: str = "winsorise",
    share: float = 0.1,
) -> Funnel:
    """Limits around a target ratio.

    Parameters
    ----------
    counts : Counts
    target : float or None
        None for the overall ratio, sum O / sum E.
    levels : tuple of float
    overdispersion : str
        ``"none"``: exact limits. ``"additive"``: a variance tau^2 between levels, by
        moments (DerSimonian & Laird). ``"multiplicative"``: limits sqrt(phi) times as
        wide, where phi exceeds 1.
    robust : str
        What is done to the `share` of smallest and of largest z before phi is taken.
    share : float
    """
    middle = float(counts.observed.sum() / counts.expected.sum()) if target is None else target
    if not middle > 0:
        raise ModelError("the target of a funnel must be a positive ratio; no events occurred?")
    inflation = counts.inflation(middle)
    scale = _scale(counts, middle, inflation)
    z = (scale.value - scale.target) / scale.error
    kept, weights = _robust(z, scale.error, robust, share)
    phi = float(np.mean(kept**2))
    tau = 0.0
    if overdispersion == "additive":
        tau = float(np.sqrt(_between(phi, len(kept), weights)))
    empty = np.empty((0, len(z)))
    chance = _by_chance(robust, share)
    bare = Funnel(
        counts, middle, tuple(sorted(levels)), empty, empty, z, phi, chance, tau, overdispersion
    )
    low, high = _limits(counts, bare, inflation)
    return replace(bare, low=low, high=high, z=_agreeing(bare, scale, inflation))


def _agreeing(by: Funnel, scale: _StableScale, inflation: Floats) -> Floats:
    """Distances that pass a normal quantile where the ratio passes its limit."""
    if by.overdispersion != "none":
        return np.asarray((scale.value - scale.target) / _allowed(by, scale))
    counts = by.counts
    below, above = _law(counts, by.target, inflation).tails(
        counts.observed / _unit(counts, inflation)
    )
    from scipy.special import ndtri

    with np.errstate(divide="ignore"):
        exact = np.where(below < 0.5, ndtri(below), -ndtri(above))
    return np.where(np.isfinite(exact), exact, by.z)


def _allowed(by: Funnel, scale: _StableScale) -> Floats:
    """Standard errors on the scale of stable variance, with what is allowed for."""
    if by.overdispersion == "additive":
        return np.asarray(np.sqrt(scale.error**2 + by.tau**2))
    return np.asarray(np.sqrt(max(by.phi, 1.0)) * scale.error)


def _robust(z: Floats, error: Floats, how: str, share: float) -> tuple[Floats, Floats]:
    """Scores after winsorising or trimming, and the weights 1 / s^2 of those that remain."""
    weights = 1 / error**2
    if how == "none" or share <= 0:
        return z, weights
    low, high = np.quantile(z, [share, 1 - share])
    if how == "winsorise":
        return np.clip(z, low, high), weights
    inside = (z >= low) & (z <= high)
    return z[inside], weights[inside]


def _by_chance(how: str, share: float) -> float:
    """Mean square of standard normal scores after the same treatment."""
    from scipy.special import ndtri

    if how == "none" or share <= 0:
        return 1.0
    c = float(ndtri(1 - share))
    inside = 1 - 2 * share - 2 * c * float(np.exp(-c * c / 2) / np.sqrt(2 * np.pi))
    return inside + 2 * share * c * c if how == "winsorise" else inside / (1 - 2 * share)


def _between(phi: float, count: int, w: Floats) -> float:
    """Variance between levels by moments, where the scores spread more than by chance."""
    if count * phi < count - 1:
        return 0.0
    return float((count * phi - (count - 1)) / (w.sum() - (w**2).sum() / w.sum()))


@dataclass(frozen=True, eq=False)
class _StableScale:
    """Ratios on a scale of stable variance, and the way back."""

    value: Floats
    target: Floats
    error: Floats
    back: Callable[[Floats], Floats]


def _scale(counts: Counts, target: float, inflation: Floats) -> _StableScale:
    E, wide = counts.expected, np.sqrt(inflation)
    if counts.trials is None:
        root = np.full_like(E, np.sqrt(target))
        return _StableScale(
            np.sqrt(counts.observed / E),
            root,
            wide / (2 * np.sqrt(E)),
            lambda v: np.square(np.maximum(v, 0.0)),
        )
    n, p = counts.trials, E / counts.trials
    return _StableScale(
        np.arcsin(np.sqrt(counts.observed / n)),
        np.arcsin(np.sqrt(np.minimum(target * p, 1.0))),
        wide / (2 * np.sqrt(n)),
        lambda v: np.square(np.sin(np.clip(v, 0.0, np.pi / 2))) / p,
    )


def _limits(counts: Counts, by: Funnel, inflation: Floats) -> tuple[Floats, Floats]:
    """Limits (levels, q) of ratios with these expected counts."""
    from scipy.special import ndtri

    if by.overdispersion == "none":
        law = _law(counts, by.target, inflation)
        per = _unit(counts, inflation) / counts.expected
        tails = [(1 - level) / 2 for level in by.levels]
        low = np.array([law.quantile(tail) * per for tail in tails])
        return low, np.array([law.quantile(1 - tail) * per for tail in tails])
    scale = _scale(counts, by.target, inflation)
    error = _allowed(by, scale)
    reach = [float(ndtri(0.5 + level / 2)) * error for level in by.levels]
    low = np.array([scale.back(scale.target - r) for r in reach])
    return low, np.array([scale.back(scale.target + r) for r in reach])


# --- exact laws


@dataclass(frozen=True, eq=False)
class _Law:
    """Laws of q counts, whose quantiles are interpolated between whole numbers."""

    law: Any

    def quantile(self, p: float) -> Floats:
        r = self.law.ppf(p)
        excess = (self.law.cdf(r) - p) / np.maximum(self.law.pmf(r), 1e-300)
        return np.asarray(np.maximum(r - excess, 0.0))

    def tails(self, x: Floats) -> tuple[Floats, Floats]:
        """Probability below and above x, so interpolated."""
        whole = np.floor(x + 1e-9)
        part = np.maximum(x - whole, 0.0) * self.law.pmf(whole + 1)
        below, above = self.law.cdf(whole) + part, self.law.sf(whole) - part
        return np.asarray(below), np.asarray(np.maximum(above, 0.0))


def _unit(counts: Counts, inflation: Floats) -> Floats:
    """What one count of the law stands for: of proportions an effective trial."""
    return np.ones_like(inflation) if counts.trials is None else inflation


def _law(counts: Counts, target: float, inflation: Floats) -> _Law:
    """The law of the counts at a target ratio.

    Where the model's variance is not the exact law's, a negative binomial count with the
    model's mean and variance, or a binomial one where it is smaller; of proportions the
    binomial of the effective number of trials.
    """
    from scipy import stats

    mean = target * counts.expected
    if counts.trials is not None:
        trials = np.maximum(np.round(counts.trials / inflation), 1.0)
        return _Law(stats.binom(trials, np.minimum(mean / counts.trials, 1.0)))
    if counts.variance is None and (inflation == 1).all():
        return _Law(stats.poisson(mean))
    over = np.abs(inflation - 1) > 1e-9
    wide, narrow = over & (inflation > 1), over & (inflation < 1)
    more = np.where(wide, inflation - 1, 1.0)
    trials = np.maximum(np.round(mean / np.where(narrow, 1 - inflation, 1.0)), np.ceil(mean))
    return _Law(
        _Mixed(
            (
                (~over, stats.poisson(mean)),
                (wide, stats.nbinom(mean / more, 1 / (1 + more))),
                (narrow, stats.binom(trials, np.minimum(mean / trials, 1.0))),
            )
        )
    )


@dataclass(frozen=True, eq=False)
class _Mixed:
    """Counts that follow one law or another."""

    laws: tuple[tuple[NDArray[np.bool_], Any], ...]

    def _of(self, name: str, x: Any) -> Floats:
        out = np.zeros(len(self.laws[0][0]))
        for where, law in self.laws:
            if where.any():
                out = np.where(where, getattr(law, name)(x), out)
        return out

    def ppf(self, p: float) -> Floats:
        return self._of("ppf", p)

    def cdf(self, x: Floats) -> Floats:
        return self._of("cdf", x)

    def sf(self, x: Floats) -> Floats:
        return self._of("sf", x)

    def pmf(self, x: Floats) -> Floats:
        return self._of("pmf", x)
