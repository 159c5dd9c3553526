"""Several tests at once: adjusted p-values, and intervals that hold together.

A family is the set of tests among which an error counts. Every method here controls
the probability of any false rejection in it, except Benjamini & Hochberg's and
Benjamini & Yekutieli's, which control the expected share of false ones.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ranef.errors import ModelError, suggestion
from ranef.inference.coefficients.wald import quantile, two_sided
from ranef.questions.means.multivariate_t import POINTS, MultivariateT, multivariate_t
from ranef.questions.means.studentized import range_quantile, range_tail

__all__ = ["ADJUSTMENTS", "Adjusted", "HypothesisFamily", "adjust", "check_adjustment", "stepwise"]

Floats = NDArray[np.float64]

ADJUSTMENTS = (
    "none",
    "tukey",
    "dunnett",
    "dunnettx",
    "mvt",
    "sidak",
    "scheffe",
    "bonferroni",
    "holm",
    "hochberg",
    "hommel",
    "bh",
    "by",
)
SYNONYMS = {"fdr": "bh", "single-step": "mvt"}
STEPWISE = ("holm", "hochberg", "hommel", "bh", "by")
SEED = 20_260
NODES = 12
DF_NODES = 6
MANY_TESTS = 24
"""Above, a quarter of the points: the integral's error, which is told, hardly grows."""


@dataclass(frozen=True, eq=False)
class HypothesisFamily:
    """Tests that are made together.

    Attributes
    ----------
    statistic : (m,) float64 array
        t statistics, NaN where there is no test.
    df : (m,) float64 array
    correlation : (m, m) float64 array
        Of the estimates.
    rank : int
        Dimensions of the hypotheses.
    means : int or None
        Number of means whose pairwise differences these are.
    raw : (m,) float64 array or None
        Unadjusted p-values of tests that are not two-sided.
    """

    statistic: Floats
    df: Floats
    correlation: Floats
    rank: int
    means: int | None = None
    raw: Floats | None = None

    @property
    def testable(self) -> NDArray[np.bool_]:
        return np.asarray(np.isfinite(self.df) | np.isposinf(self.df))

    @property
    def size(self) -> int:
        return int(np.count_nonzero(self.testable))


@dataclass(frozen=True, eq=False)
class Adjusted:
    """What an adjustment gives.

    Attributes
    ----------
    p_value, critical : (m,) float64 arrays
        `critical` is the half-width of the intervals in standard errors.
    method : str
        What was done to the p-values: ``"sidak"`` in place of ``"tukey"`` where these are
        not pairwise differences.
    interval_method : str
        What was done to the intervals: ``"bonferroni"`` where the method has none.
    error : float
        Standard error of the p-values, where they were integrated by Monte Carlo.
    """

    p_value: Floats
    critical: Floats
    method: str
    interval_method: str
    error: float = 0.0


def check_adjustment(method: str) -> str:
    """Return the method's name, or say which ones there are."""
    lowered = method.lower() if isinstance(method, str) else method
    name = SYNONYMS.get(lowered, lowered)
    if name not in ADJUSTMENTS:
        names = (*ADJUSTMENTS, *SYNONYMS)
        listed = ", ".join(map(repr, names))
        hint = suggestion(method, names) if isinstance(method, str) else ""
        raise ModelError(f"adjust={method!r} is not known{hint}; use one of {listed}")
    return str(name)


def adjust(
    family: HypothesisFamily,
    method: str,
    conf_level: float = 0.95,
    rng: np.random.Generator | None = None,
) -> Adjusted:
    """Adjust the tests of one family.

    Parameters
    ----------
    family : HypothesisFamily
    method : str
        - ``"tukey"``: the studentised range, of all pairwise differences of k means.
        - ``"mvt"``: the multivariate t distribution with the estimates' own
          correlations, by quasi-Monte Carlo; ``"dunnett"`` is the same.
        - ``"dunnettx"``: an approximation to it where the correlations are 1/2.
        - ``"scheffe"``: all linear functions in the span of the family.
        - ``"sidak"``, ``"bonferroni"``: by the number of tests.
        - ``"holm"``, ``"hochberg"``, ``"hommel"``: stepwise; ``"bh"`` (false discovery
          rate), ``"by"``. Their intervals are Bonferroni's, as they have none.
    conf_level : float
    rng : numpy.random.Generator or None
        Of the quasi-Monte Carlo integral; None has a seed of its own, so that the same
        question has the same answer.

    Examples
    --------
    >>> family = HypothesisFamily(np.array([2.5, 1.0]), np.full(2, np.inf), np.eye(2), 2)
    >>> adjust(family, "bonferroni").p_value.round(4)
    array([0.0248, 0.6346])
    """
    method = check_adjustment(method)
    m = family.size
    if m <= 1 and not (method == "tukey" and (family.means or 0) > 2):
        method = method if method == "scheffe" else "none"
    if method == "tukey" and family.means is None:
        method = "sidak"
    raw = two_sided(family.statistic, family.df) if family.raw is None else family.raw
    if method in STEPWISE:
        p = stepwise(raw, method)
        return Adjusted(p, _unadjusted(family, 1 - (1 - conf_level) / m), method, "bonferroni")
    if method in ("mvt", "dunnett"):
        return _multivariate(family, raw, method, conf_level, rng)
    p, critical = SINGLE_STEP[method](family, raw, conf_level)
    return Adjusted(np.minimum(p, 1.0), critical, method, method)


# --- one step: the same critical value for all


def _unadjusted(family: HypothesisFamily, level: float) -> Floats:
    return np.where(
        family.testable, quantile(level, np.where(family.testable, family.df, 1.0)), np.nan
    )


def _none(family: HypothesisFamily, raw: Floats, level: float) -> tuple[Floats, Floats]:
    return raw, _unadjusted(family, level)


def _bonferroni(family: HypothesisFamily, raw: Floats, level: float) -> tuple[Floats, Floats]:
    m = family.size
    return m * raw, _unadjusted(family, 1 - (1 - level) / m)


def _sidak(family: HypothesisFamily, raw: Floats, level: float) -> tuple[Floats, Floats]:
    m = family.size
    with np.errstate(divide="ignore"):
        p = -np.expm1(m * np.log1p(-raw))
    return p, _unadjusted(family, level ** (1 / m))


def _scheffe(family: HypothesisFamily, raw: Floats, level: float) -> tuple[Floats, Floats]:
    """Scheffe (1953, Biometrika 40): t^2 / r against F with r and df."""
    from scipy.special import chdtrc, chdtri, fdtrc, fdtri

    r, df = family.rank, family.df
    normal = np.isinf(df)
    finite = np.where(np.isfinite(df), df, 1.0)
    square = family.statistic**2
    p = np.where(normal, chdtrc(r, square), fdtrc(r, finite, square / r))
    reach = np.sqrt(np.where(normal, chdtri(r, 1 - level), r * fdtri(r, finite, level)))
    return p, np.where(family.testable, reach, np.nan)


def _by_df(
    family: HypothesisFamily,
    tail: Callable[[Floats, float], Floats],
    reach: Callable[[float], float],
) -> tuple[Floats, Floats]:
    """P-values and critical values where both depend on the degrees of freedom."""
    p, critical = np.full(len(family.df), np.nan), np.full(len(family.df), np.nan)
    groups = _groups(family, lambda df: 9)
    reaches = _reaches(np.array([df for df, _ in groups]), reach)
    for (df, rows), limit in zip(groups, reaches, strict=True):
        p[rows] = tail(np.abs(family.statistic[rows]), df)
        critical[rows] = limit
    return p, critical


def _reaches(df: Floats, reach: Callable[[float], float]) -> Floats:
    """Critical values at many degrees of freedom, by a polynomial in 1 / df where they are near.

    Quantiles are analytic in 1 / df: over a factor of four in df, twelve Chebyshev nodes
    give eleven digits.
    """
    if len(df) <= NODES or np.isinf(df).any() or df.max() > 4 * df.min() or df.min() < 4:
        return np.array([reach(float(nu)) for nu in df])
    low, high = 1 / df.max(), 1 / df.min()
    fitted = np.polynomial.Chebyshev.interpolate(
        lambda x: np.array([reach(float(1 / v)) for v in x]), NODES - 1, [low, high]
    )
    return np.asarray(fitted(1 / df), dtype=np.float64)


def _groups(
    family: HypothesisFamily, digits: Callable[[float], int]
) -> list[tuple[float, NDArray[np.intp]]]:
    """Tests whose degrees of freedom agree to some digits, taken together."""
    out: dict[float, list[int]] = {}
    for i in np.flatnonzero(family.testable):
        df = float(family.df[i])
        out.setdefault(df if np.isinf(df) else float(f"{df:.{digits(df)}g}"), []).append(int(i))
    return [(df, np.array(rows, dtype=np.intp)) for df, rows in out.items()]


def _tukey(family: HypothesisFamily, raw: Floats, level: float) -> tuple[Floats, Floats]:
    """Tukey's and Kramer's: the range of k means, sqrt(2) |t| against it."""
    k = float(family.means or 2)
    root = np.sqrt(2.0)
    return _by_df(
        family,
        lambda t, df: range_tail(root * t, k, df),
        lambda df: range_quantile(level, k, df) / float(root),
    )


def _dunnettx(family: HypothesisFamily, raw: Floats, level: float) -> tuple[Floats, Floats]:
    """Dunnett's test for correlations of 1/2, approximately.

    Between Tukey's, for as many means as have m pairs, and Sidak's, with weights
    (m - 1) / m and 1 / m. Exact for m = 1; above that the p-values are too large, by
    some 4% of themselves near 0.05.
    """
    m = family.size
    k = (1 + np.sqrt(1 + 8.0 * m)) / 2

    def tail(t: Floats, df: float) -> Floats:
        with np.errstate(divide="ignore"):
            single = -np.expm1(m * np.log1p(-two_sided(t, np.full(len(t), df))))
        wide = range_tail(np.sqrt(2.0) * t, k, df)
        return np.asarray(((m - 1) * wide + single) / m)

    return _by_df(
        family, tail, lambda df: _root(lambda t: float(tail(np.array([t]), df)[0]), level)
    )


def _root(tail: Callable[[float], float], level: float) -> float:
    from scipy.optimize import brentq

    high = 8.0
    while tail(high) > 1 - level and high < 1e8:
        high *= 4.0
    return float(brentq(lambda t: tail(t) - (1 - level), 0.0, high, xtol=1e-11, rtol=1e-11))


SINGLE_STEP = {
    "none": _none,
    "bonferroni": _bonferroni,
    "sidak": _sidak,
    "scheffe": _scheffe,
    "tukey": _tukey,
    "dunnettx": _dunnettx,
}


# --- the joint distribution


def _multivariate(
    family: HypothesisFamily,
    raw: Floats,
    method: str,
    level: float,
    rng: np.random.Generator | None,
) -> Adjusted:
    """P(max |T| > |t|), kept between the unadjusted and Bonferroni's."""
    generator = np.random.default_rng(SEED) if rng is None else rng
    testable = np.flatnonzero(family.testable)
    correlation = family.correlation[np.ix_(testable, testable)]
    p, critical = np.full(len(raw), np.nan), np.full(len(raw), np.nan)
    worst = 0.0
    # as many digits of df as change the integral by less than its own error
    groups = _groups(family, lambda df: 4 if df < 100 else 3)
    degrees = np.array([df for df, _ in groups])
    points = POINTS if len(testable) <= MANY_TESTS else POINTS // 4
    first = multivariate_t(correlation, float(degrees.min()), generator, points)

    def quantile_at(df: float) -> float:
        return first.at(df).quantile(level, *_bounds(family, df, level))

    limits = _smooth_in_df(quantile_at, degrees)
    for (df, rows), limit in zip(groups, limits, strict=True):
        critical[rows] = limit
        joint = first.at(df)
        for i, (value, error) in zip(rows, _tails(joint, family.statistic[rows]), strict=True):
            p[i] = np.clip(value, raw[i], min(1.0, len(testable) * raw[i]))
            worst = max(worst, error)
    return Adjusted(p, critical, method, method, worst)


def _smooth_in_df(function: Callable[[float], float], degrees: Floats) -> Floats:
    """A quantile at many degrees of freedom: by a polynomial in 1 / df through a few of them."""
    inverse = 1.0 / degrees
    low, high = float(inverse.min(initial=np.inf)), float(inverse.max(initial=0.0))
    if len(degrees) <= DF_NODES or high - low < 1e-12:
        return np.array([function(float(df)) for df in degrees])
    turns = np.cos(np.pi * np.arange(DF_NODES) / (DF_NODES - 1))
    nodes = low + (high - low) * (1 + turns) / 2
    values = [function(1.0 / u if u > 0 else np.inf) for u in nodes.tolist()]
    fitted = np.polynomial.Polynomial.fit(nodes, values, DF_NODES - 1, domain=[low, high])
    return np.asarray(fitted(inverse))


def _bounds(family: HypothesisFamily, df: float, level: float) -> tuple[float, float]:
    """What the critical value lies between: that of a single test, and Bonferroni's."""
    nu = np.array(df)
    return float(quantile(level, nu)), float(quantile(1 - (1 - level) / family.size, nu))


def _tails(joint: MultivariateT, statistic: Floats) -> list[tuple[float, float]]:
    sizes = np.abs(statistic).tolist()
    tails = {t: joint.outside(t) for t in set(sizes) if np.isfinite(t)}
    return [tails.get(t, (np.nan, 0.0)) for t in sizes]


# --- stepwise, from the p-values alone


def stepwise(raw: Floats, method: str) -> Floats:
    """Adjust p-values (m,) by one of `STEPS`; NaN stay."""
    out = np.full(len(raw), np.nan)
    finite = np.flatnonzero(np.isfinite(raw))
    order = finite[np.argsort(raw[finite], kind="stable")]
    out[order] = np.minimum(STEPS[method](raw[order]), 1.0)
    return out


def _ranks(p: Floats) -> Floats:
    return np.arange(1.0, len(p) + 1)


def _holm(p: Floats) -> Floats:
    """Holm (1979, Scand. J. Stat. 6)."""
    return np.maximum.accumulate((len(p) + 1 - _ranks(p)) * p)


def _hochberg(p: Floats) -> Floats:
    """Hochberg (1988, Biometrika 75)."""
    return _from_above((len(p) + 1 - _ranks(p)) * p)


def _hommel(p: Floats) -> Floats:
    """Hommel (1988, Biometrika 75), by closure over Simes' tests.

    The adjusted p_i is the largest over subset sizes j of Simes' p of the worst subset
    of that size that holds i: i itself with the j - 1 largest others.
    """
    m = len(p)
    out = p.copy()
    for j in range(2, m + 1):
        tail = p[m - j + 1 :]
        simes = float(np.min(j * tail / np.arange(2.0, j + 1)))
        inside = np.arange(m) >= m - j + 1
        whole = float(np.min(j * p[m - j :] / np.arange(1.0, j + 1)))
        small = np.minimum(j * p, simes)
        out = np.maximum(out, np.where(inside, whole, small))
    return out


def _bh(p: Floats) -> Floats:
    """Benjamini & Hochberg (1995, J. R. Stat. Soc. B 57)."""
    return _from_above(len(p) * p / _ranks(p))


def _by(p: Floats) -> Floats:
    """Benjamini & Yekutieli (2001, Ann. Stat. 29)."""
    return _from_above(np.sum(1 / _ranks(p)) * len(p) * p / _ranks(p))


def _from_above(values: Floats) -> Floats:
    return np.asarray(np.minimum.accumulate(values[::-1])[::-1])


STEPS: dict[str, Callable[[Floats], Floats]] = {
    "holm": _holm,
    "hochberg": _hochberg,
    "hommel": _hommel,
    "bh": _bh,
    "by": _by,
}
