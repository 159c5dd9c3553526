"""Funnel plots: control limits of ratios around a common target, by precision.

Exact limits with the interpolation of Spiegelhalter (2005, Stat. Med. 24, appendix
A.1), and limits that allow for overdispersion between levels, estimated robustly on a
variance-stabilised scale (ibid., section 4; Spiegelhalter et al. 2012, J. R. Stat. Soc. A
175): the square root of a ratio of counts, the arcsine of the root of a proportion.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

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
        Of binomial counts; None for Poisson counts.
    """

    observed: Floats
    expected: Floats
    trials: Floats | None = None


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
        Distance from the target in standard errors, before any allowance.
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

        Of binomial counts at the average expected probability.
        """
        E = self.counts.expected
        at = np.geomspace(E.min() * 0.8, E.max() * 1.1, points)
        trials = None
        if self.counts.trials is not None:
            probability = E.sum() / self.counts.trials.sum()
            trials = np.unique(np.maximum(np.round(at / probability), 1.0))
            at = trials * probability
        low, high = _limits(Counts(at, at, trials), self)
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
    scale = _scale(counts, middle)
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
    low, high = _limits(counts, bare)
    return replace(bare, low=low, high=high)


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


def _scale(counts: Counts, target: float) -> _StableScale:
    E = counts.expected
    if counts.trials is None:
        root = np.full_like(E, np.sqrt(target))
        return _StableScale(
            np.sqrt(counts.observed / E),
            root,
            1 / (2 * np.sqrt(E)),
            lambda v: np.square(np.maximum(v, 0.0)),
        )
    n, p = counts.trials, E / counts.trials
    return _StableScale(
        np.arcsin(np.sqrt(counts.observed / n)),
        np.arcsin(np.sqrt(np.minimum(target * p, 1.0))),
        1 / (2 * np.sqrt(n)),
        lambda v: np.square(np.sin(np.clip(v, 0.0, np.pi / 2))) / p,
    )


def _limits(counts: Counts, by: Funnel) -> tuple[Floats, Floats]:
    """Limits (levels, q) of ratios with these expected counts."""
    from scipy.special import ndtri

    if by.overdispersion == "none":
        pairs = [_exact(counts, by.target, (1 - level) / 2) for level in by.levels]
        return np.array([p[0] for p in pairs]), np.array([p[1] for p in pairs])
    scale = _scale(counts, by.target)
    if by.overdispersion == "additive":
        error = np.sqrt(scale.error**2 + by.tau**2)
    else:
        error = np.sqrt(max(by.phi, 1.0)) * scale.error
    reach = [float(ndtri(0.5 + level / 2)) * error for level in by.levels]
    low = np.array([scale.back(scale.target - r) for r in reach])
    return low, np.array([scale.back(scale.target + r) for r in reach])


def _exact(counts: Counts, target: float, tail: float) -> tuple[Floats, Floats]:
    """Interpolated quantiles of the count at the target, over the expected count."""
    from scipy import stats

    mean = target * counts.expected
    if counts.trials is None:
        law = stats.poisson(mean)
    else:
        law = stats.binom(np.round(counts.trials), np.minimum(mean / counts.trials, 1.0))

    def quantile(p: float) -> Floats:
        r = law.ppf(p)
        excess = (law.cdf(r) - p) / np.maximum(law.pmf(r), 1e-300)
        return np.asarray(np.maximum(r - excess, 0.0))

    return quantile(tail) / counts.expected, quantile(1 - tail) / counts.expected
