"""Average predicted means over rows, and compare such averages.

An average is  m = sum_i w_i mu(x_i) / sum_i w_i  over rows i of a table; comparing the
averages of one table with a column replaced by one value and by another is
standardisation, the g-formula (Robins 1986, Math. Modelling 7; Lane & Nelder 1982,
Biometrics 38). From a model with random effects mu may be integrated over them, the
mean in the population, from which people of the population differ by as much as the
model says.

Derivatives in all parameters are exact and summed over the rows as they are made, so
that no matrix of rows by parameters is held.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ranef.errors import ModelError

__all__ = [
    "COMPARISONS",
    "Comparison",
    "NumberNeeded",
    "compare",
    "number_needed",
]

Floats = NDArray[np.float64]
Codes = NDArray[np.intp]

# --- comparisons


@dataclass(frozen=True)
class ComparisonScale:
    """The scale on which a comparison of two means has its test and interval.

    Attributes
    ----------
    forward : callable
        Means to (value, derivative) on the scale; the comparison is a difference there.
    back : callable
        A difference on the scale to the comparison.
    back_slope : callable
        Its derivative.
    null : float
        What the comparison is where the means are equal.
    """

    forward: Callable[[Floats], tuple[Floats, Floats]]
    back: Callable[[Floats], Floats]
    back_slope: Callable[[Floats], Floats]
    null: float


def _identity(m: Floats) -> tuple[Floats, Floats]:
    return m, np.ones_like(m)


def _log(m: Floats) -> tuple[Floats, Floats]:
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.log(np.abs(m)), 1 / m


def _logit(m: Floats) -> tuple[Floats, Floats]:
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.log(m / (1 - m)), 1 / (m * (1 - m))


COMPARISONS: dict[str, ComparisonScale] = {
    "difference": ComparisonScale(_identity, np.asarray, np.ones_like, 0.0),
    "ratio": ComparisonScale(_log, np.exp, np.exp, 1.0),
    "log ratio": ComparisonScale(_log, np.asarray, np.ones_like, 0.0),
    "lift": ComparisonScale(_log, np.expm1, np.exp, 0.0),
    "odds": ComparisonScale(_logit, np.exp, np.exp, 1.0),
}


@dataclass(frozen=True, eq=False)
class Comparison:
    """C comparisons of averages, on their scale.

    Attributes
    ----------
    value : (C,) float64 array
        Differences on the scale of the test.
    weights : (C, S) float64 array
        Their derivatives in the averages.
    """

    value: Floats
    weights: Floats


def compare(
    means: Floats,
    high: Codes,
    low: Codes,
    how: str,
    divisor: float = 1.0,
    undetermined: NDArray[np.bool_] | None = None,
) -> Comparison:
    """Compare averages number `high` with averages number `low`.

    Parameters
    ----------
    means : (S,) float64 array
    high, low : (C,) int arrays
    how : str
        ``"difference"``; ``"ratio"``, ``"log ratio"``, ``"lift"`` (ratio minus one),
        whose tests are on the scale of the logarithm; ``"odds"``: the ratio of the odds
        m / (1 - m) of the averages, on that of the logit.
    divisor : float
        Of differences, by which a difference quotient is a slope.
    undetermined : (S,) bool array or None
        Averages whose values say nothing, whatever range they lie in.

    Raises
    ------
    ModelError
        Where the means have no ratio or odds.
    """
    used = np.concatenate([high, low])
    _check_range(means, used if undetermined is None else used[~undetermined[used]], how)
    value, slope = COMPARISONS[how].forward(means)
    weights = np.zeros((len(high), len(means)))
    rows = np.arange(len(high))
    weights[rows, high] += slope[high] / divisor
    weights[rows, low] -= slope[low] / divisor
    return Comparison((value[high] - value[low]) / divisor, weights)


def _check_range(means: Floats, used: Codes, how: str) -> None:
    if not len(used):
        return
    low, high = means[used].min(), means[used].max()
    run = f"the means run from {low:.4g} to {high:.4g}"
    if how == "odds" and not (low >= 0 and high <= 1):
        raise ModelError(
            f"compare='odds' is of probabilities; {run}. Use compare='difference' or 'ratio'"
        )
    if how in ("ratio", "log ratio", "lift") and not (low >= 0 or high <= 0):
        raise ModelError(
            f"{run}, and a ratio of means on both sides of zero says nothing; use "
            "compare='difference'"
        )


@dataclass(frozen=True)
class NumberNeeded:
    """How many people to treat for one event more or fewer.

    Attributes
    ----------
    estimate : float
    event : str
        ``"more"`` or ``"fewer"``: which the estimate speaks of.
    intervals : tuple of (event, low, high)
        One part, or two that meet at infinity where the difference may be zero.
    """

    estimate: float
    event: str
    intervals: tuple[tuple[str, float, float], ...]


def number_needed(difference: float, low: float, high: float) -> NumberNeeded:
    """Turn a risk difference and its interval into numbers needed to treat.

    An interval of the difference from L < 0 to H > 0 becomes two: from 1 / H to infinity
    for one event more, and from 1 / |L| to infinity for one fewer (Altman 1998, BMJ 317).

    Examples
    --------
    >>> number_needed(0.1, 0.05, 0.2).intervals
    (('more', 5.0, 20.0),)
    >>> number_needed(0.1, -0.05, 0.25).intervals
    (('fewer', 20.0, inf), ('more', 4.0, inf))
    """

    def inverse(x: float) -> float:
        return float(np.inf) if x == 0 else 1.0 / abs(x)

    event = "fewer" if difference < 0 else "more"
    if low < 0 < high:
        parts = (("fewer", inverse(low), np.inf), ("more", inverse(high), np.inf))
        return NumberNeeded(inverse(difference), event, parts)
    ends = sorted((inverse(low), inverse(high)))
    side = "fewer" if high <= 0 else "more"
    return NumberNeeded(inverse(difference), event, ((side, ends[0], ends[1]),))
