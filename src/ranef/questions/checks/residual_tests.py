"""Tests of scaled residuals: are they uniform, and blind to everything we know of the rows?

All but the two that compare draws rest on the residuals being independent and uniform
if the model holds, which ``"posterior"`` ones are (`simulated`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ranef.errors import ModelError
from ranef.questions.checks.simulated_numbers import Simulated

__all__ = [
    "ResidualTest",
    "autocorrelation",
    "dispersion",
    "normal_scores",
    "outliers",
    "spatial",
    "trend",
    "uniformity",
    "zeros",
]

Floats = NDArray[np.float64]
Codes = NDArray[np.int_]

QUANTILES = np.array([0.25, 0.5, 0.75])
MOST_PLACES = 4000


@dataclass(frozen=True)
class ResidualTest:
    """One test.

    Attributes
    ----------
    name : str
    statistic : float
    expected : float
        What the statistic is about if the model holds.
    p_value : float
    method : str
        The test in a few words.
    """

    name: str
    statistic: float
    expected: float
    p_value: float
    method: str


def normal_scores(scaled: Floats) -> Floats:
    """Normal quantiles of the scaled residuals."""
    from scipy.special import ndtri

    return np.asarray(ndtri(scaled), dtype=np.float64)


def uniformity(simulated: Simulated) -> ResidualTest:
    """Test of Kolmogorov and Smirnov; exact up to 10,000 rows, then asymptotic."""
    from scipy.stats import kstest

    method = "exact" if len(simulated.scaled) <= 10_000 else "asymp"
    test = kstest(simulated.scaled, "uniform", method=method)
    expected = 0.87 / np.sqrt(len(simulated.scaled))
    return ResidualTest(
        "uniformity", float(test.statistic), expected, float(test.pvalue), "Kolmogorov-Smirnov"
    )


def dispersion(simulated: Simulated) -> ResidualTest:
    """Compare the spread of the data about the rows' means with that of the draws.

    The sum over rows of (y - m)^2 / v, m and v mean and variance of a row over data and
    draws together, so that data and draws are treated alike.
    """
    words = "spread of the data over that of the draws"
    y, draws = simulated.observed, simulated.draws
    total = draws.shape[1] + 1
    m = (draws.sum(axis=1) + y) / total
    v = (np.sum((draws - m[:, None]) ** 2, axis=1) + (y - m) ** 2) / total
    some = v > 0
    if not some.any():
        return ResidualTest("dispersion", 1.0, 1.0, 1.0, words)
    of_data = float(np.mean((y[some] - m[some]) ** 2 / v[some]))
    of_draws = np.mean((draws[some] - m[some, None]) ** 2 / v[some, None], axis=0)
    ratio = of_data / float(of_draws.mean())
    return ResidualTest("dispersion", ratio, 1.0, _among(of_data, of_draws), words)


def zeros(simulated: Simulated) -> ResidualTest:
    """Compare the number of zeros in the data with those of the draws."""
    in_data = float(np.count_nonzero(simulated.observed == 0))
    in_draws = np.count_nonzero(simulated.draws == 0, axis=0).astype(np.float64)
    expected = float(in_draws.mean())
    ratio = in_data / expected if expected > 0 else (1.0 if in_data == 0 else np.inf)
    return ResidualTest(
        "zeros", ratio, 1.0, _among(in_data, in_draws), "zeros in the data over those drawn"
    )


def _among(observed: float, drawn: Floats) -> float:
    """Two-sided p-value by rank; outside the range of the draws by a normal tail.

    Ties count half, so that a discrete statistic is not called extreme for being common.
    """
    from scipy.special import ndtr

    N = len(drawn)
    low, ties = np.count_nonzero(drawn < observed), np.count_nonzero(drawn == observed)
    below = (low + 0.5 * (ties + 1.0)) / (N + 1.0)
    p = 2.0 * min(below, 1.0 - below)
    spread = float(drawn.std())
    if ties == 0 and low in (0, N) and spread > 0:
        tail = 2.0 * float(ndtr(-abs(observed - float(drawn.mean())) / spread))
        return min(p, tail)
    return min(1.0, p)


def outliers(simulated: Simulated) -> ResidualTest:
    """Count rows beyond all their draws: binomial with probability 2 / (N + 1)."""
    from scipy.stats import binomtest

    N = simulated.draws.shape[1]
    edge = 1.0 / (N + 1.0)
    beyond = int(np.count_nonzero((simulated.scaled < edge) | (simulated.scaled > 1.0 - edge)))
    n = len(simulated.scaled)
    test = binomtest(beyond, n, 2.0 * edge)
    return ResidualTest(
        "outliers", beyond / n, 2.0 * edge, float(test.pvalue), "rows beyond all their draws"
    )


def trend(
    x: Floats, scaled: Floats, name: str, degree: int = 3, *, categories: bool = False
) -> ResidualTest:
    """Test whether the quartiles of the residuals depend on x.

    With D (n, 3) the rows' indicators of lying below each quartile minus its level, B an
    orthonormal basis in x (polynomials of its ranks; of few values, or with `categories`,
    one column a value)
    and S the covariance of a row of D, tr(S^-1 D'BB'D) is chi-squared: a score test for
    quantile regressions on x. The statistic shown is the multiple correlation that goes
    with it.
    """
    from scipy.special import chdtrc

    B = _basis(x, degree, categories)
    if B.shape[1] == 0:
        return ResidualTest(f"trend: {name}", 0.0, 0.0, 1.0, "quartiles against the predictor")
    D = (scaled[:, None] < QUANTILES) - QUANTILES
    S = np.minimum.outer(QUANTILES, QUANTILES) - np.outer(QUANTILES, QUANTILES)
    M = B.T @ D
    statistic = float(np.trace(M @ np.linalg.solve(S, M.T)))
    df = M.size
    size = np.sqrt(statistic / (len(QUANTILES) * len(x)))
    expected = np.sqrt(df / (len(QUANTILES) * len(x)))
    return ResidualTest(
        f"trend: {name}", size, expected, float(chdtrc(df, statistic)), "quartiles by predictor"
    )


def _basis(x: Floats, degree: int, categories: bool) -> Floats:
    """Orthonormal columns (n, k) in x, orthogonal to the constant."""
    values, codes, counts = np.unique(x, return_inverse=True, return_counts=True)
    if len(values) < 2:
        return np.empty((len(x), 0))
    if categories or len(values) <= degree + 1:
        columns = (codes[:, None] == np.arange(1, len(values))).astype(np.float64)
    else:
        place = (np.cumsum(counts) - 0.5 * counts) / len(x)
        columns = (2.0 * place[codes][:, None] - 1.0) ** np.arange(1, degree + 1)
    q, r = np.linalg.qr(np.column_stack([np.ones(len(x)), columns]))
    kept = np.abs(np.diag(r)) > 1e-8 * np.sqrt(len(x))
    return np.asarray(q[:, 1:][:, kept[1:]])


def autocorrelation(
    scaled: Floats, time: Floats, codes: Codes, rng: np.random.Generator, permutations: int = 499
) -> ResidualTest:
    """Correlation of neighbours in time within groups, tested by permutation within groups.

    The statistic is sum z_t z_(t-1) over the mean square times the number of pairs, z
    the normal scores centred within groups; code -1 leaves a row out.
    """
    kept = (codes >= 0) & np.isfinite(time)
    order = np.lexsort((time[kept], codes[kept]))
    groups = codes[kept][order]
    z = normal_scores(scaled[kept][order])
    pair = groups[1:] == groups[:-1]
    if not pair.any():
        raise ModelError(
            "no group has two rows at different times, so there are no neighbours to compare"
        )
    _, place = np.unique(groups, return_inverse=True)
    z = z - (np.bincount(place, z) / np.bincount(place))[place]
    scale = float(np.mean(z**2)) * np.count_nonzero(pair)

    def statistic(values: Floats) -> float:
        return float(np.sum((values[1:] * values[:-1])[pair])) / scale

    observed = statistic(z)
    drawn = np.empty(permutations)
    starts = place.astype(np.float64)
    for k in range(permutations):
        drawn[k] = statistic(z[np.argsort(starts + rng.random(len(z)), kind="stable")])
    return ResidualTest(
        "autocorrelation",
        float(observed - drawn.mean()),
        0.0,
        _among(observed, drawn),
        "neighbours in time within groups, by permutation",
    )


def spatial(
    scaled: Floats, x: Floats, y: Floats, rng: np.random.Generator, permutations: int = 499
) -> ResidualTest:
    """Moran's I of the normal scores with inverse distances as weights, by permutation."""
    kept = np.isfinite(x) & np.isfinite(y)
    z = normal_scores(scaled[kept])
    n = len(z)
    if n > MOST_PLACES:
        raise ModelError(
            f"the spatial test compares all pairs of rows and takes up to {MOST_PLACES:,} of "
            f"them, here are {n:,}; recalculate by place first: by='place'"
        )
    distance = np.hypot(np.subtract.outer(x[kept], x[kept]), np.subtract.outer(y[kept], y[kept]))
    positive = distance[distance > 0]
    if positive.size == 0:
        raise ModelError(
            "all rows are at one place, so there is no distance to compare; name the columns of "
            "the places"
        )
    W = 1.0 / np.maximum(distance, float(positive.min()))
    np.fill_diagonal(W, 0.0)
    W /= W.sum()
    z = (z - z.mean()) / z.std()

    def statistic(values: Floats) -> float:
        return float(n * (values @ W @ values) / (values @ values))

    observed = statistic(z)
    drawn = np.array([statistic(rng.permutation(z)) for _ in range(permutations)])
    return ResidualTest(
        "spatial autocorrelation", observed, -1.0 / (n - 1), _among(observed, drawn), "Moran's I"
    )
