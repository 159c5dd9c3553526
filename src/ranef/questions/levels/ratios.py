"""Indirect standardisation: what each level had beside what the model expects of it.

With the linear predictor eta_i of row i without the level's own effect, and the effect b
of level l on its rows,

    O_l = sum y_i,   E_l = sum mu(eta_i),   R_l(b) = sum mu(eta_i + z_i'b) / E_l,

O / E is the raw standardised ratio and R at the posterior of b the shrunken one
(predicted over expected; Krumholz et al. 2006, Circulation 113). Under a log link with
a random intercept R_l = exp(b). The expectation is that of a level with effect zero
(`typical`), or of the population of levels, over which the effects are integrated.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ranef.errors import ModelError
from ranef.families import Binomial, Family, Gaussian
from ranef.families.counts import Count
from ranef.inference.protocol import Inference
from ranef.models.records import CONDITIONAL, Estimate, columns_in
from ranef.questions.levels.ensemble import exceeds
from ranef.questions.levels.level_effects import FactorEffects
from ranef.questions.levels.limits import (
    binomial_limits,
    moment_limits,
    normal_limits,
    poisson_limits,
)

__all__ = ["REFERENCES", "Ratios", "ratios"]

Floats = NDArray[np.float64]
Mean = Callable[[Floats], Floats]

REFERENCES = ("typical", "population")
NODES = 31
BISECTIONS = 60
BLOCK = 4_000_000


@dataclass(frozen=True, eq=False)
class Ratios:
    """Standardised ratios of the levels of a factor.

    Attributes
    ----------
    kind : str
        ``"counts"``, ``"proportions"`` or ``"numbers"``.
    limits : str
        How the limits of the raw ratios were made.
    rows : (q,) int array
    exposure, observed, expected : (q,) float64 arrays
        Of proportions the exposure is the number of trials; of counts the exponential
        of the offset, else the number of rows.
    raw, raw_low, raw_high : (q,) float64 arrays
        O / E.
    shrunken, low, high : (q,) float64 arrays
    reliability : (q,) float64 array
        1 - v / tau^2 of the effect at the average row of the level.
    above : (q,) float64 array
        Posterior probability that the ratio exceeds the threshold.
    variance : callable or None
        From ratios (q,) to the variances (q,) of sums that are these times the expected
        ones, given the effects; None of Poisson and binomial sums.
    """

    kind: str
    limits: str
    rows: NDArray[np.int_]
    exposure: Floats
    observed: Floats
    expected: Floats
    raw: Floats
    raw_low: Floats
    raw_high: Floats
    shrunken: Floats
    low: Floats
    high: Floats
    reliability: Floats
    above: Floats
    variance: Callable[[Floats], Floats] | None = None


@dataclass(frozen=True, eq=False)
class _Rows:
    """The rows of a model as standardisation sees them; n rows, q levels.

    Attributes
    ----------
    mean, variance : callable
        Of the response, trials included, as functions of the mean's predictor: (n,), the
        mean also (n, B).
    """

    kind: str
    family: Family
    poisson: bool
    y: Floats
    eta: Floats
    mean: Mean
    variance: Mean
    exposure: Floats
    trials: Floats | None
    codes: NDArray[np.int32]
    z: Floats
    q: int

    def sums(self, values: Floats) -> Floats:
        return np.bincount(self.codes, values, self.q).astype(np.float64)


def ratios(
    model: Inference,
    factor: int,
    *,
    reference: str = "typical",
    threshold: float = 1.0,
    conf_level: float = 0.95,
    given: str = "variance",
    draws: int = 2000,
    rng: np.random.Generator,
) -> Ratios:
    """Observed, expected, and their ratio raw and shrunken, of each level of a factor.

    Fixed effects enter the expected sums at their estimates; what is not known of them
    is in the posterior of the effects. Where a level has one effect, intervals and
    probabilities come from the (monotone) function R_l; where it has several, from draws.

    Parameters
    ----------
    model : Inference
    factor : int
    reference : str
        One of `REFERENCES`. The effects of other factors are treated as those of this
        one: zero, or integrated out.
    threshold : float
    conf_level : float
    given : str
        See `joint_posterior`.
    draws : int
    rng : numpy.random.Generator
    """
    effects = _effects(model.estimate, factor)
    rows = _rows(model, effects)
    mean, unit = rows.mean, rows.mean
    if reference == "population":
        by_factor, by_others = _variances(effects)
        mean = _integrated(rows.mean, by_others)
        unit = _integrated(rows.mean, by_factor + by_others)
    expected = rows.sums(unit(rows.eta))
    if np.any(expected <= 0):
        raise ModelError(
            f"the expected sum is not positive in {int(np.sum(expected <= 0))} of "
            f"{len(expected)} levels: a ratio to it says nothing; compare differences instead "
            "(fit.tidy('random'))"
        )
    observed = rows.sums(rows.y)
    limits, raw_low, raw_high = _raw_limits(rows, observed, expected, conf_level)
    posterior = model.posterior(effects.coefficients(), given)
    b = posterior.mean.reshape(rows.q, -1)
    ratio = _Ratio(rows, mean, expected, threshold, conf_level, reference == "typical")
    if b.shape[1] == 1 and np.all(rows.z >= 0):
        shrunken = ratio.monotone(b[:, 0], posterior.sd)
    else:
        shrunken = ratio.drawn(b, posterior.draws(draws, rng).reshape(draws, rows.q, -1))
    return Ratios(
        kind=rows.kind,
        limits=limits,
        rows=np.bincount(rows.codes, minlength=rows.q).astype(np.int_),
        exposure=rows.sums(rows.exposure),
        observed=observed,
        expected=expected,
        raw=observed / expected,
        raw_low=raw_low,
        raw_high=raw_high,
        shrunken=shrunken.estimate,
        low=shrunken.low,
        high=shrunken.high,
        reliability=_reliability(model, effects, rows),
        above=shrunken.above,
        variance=None if limits.startswith("exact") else _sum_variance(rows, expected),
    )


# --- the rows


def _effects(estimate: Estimate, factor: int) -> FactorEffects:
    """The effects of the levels on the mean."""
    effects = FactorEffects(estimate, estimate.components[0], factor)
    if effects.part.name != CONDITIONAL or not effects.terms:
        raise ModelError(
            f"the mean of the model has no random effects of {estimate.factors[factor].name!r}; "
            "standardised ratios compare levels whose effects on the mean are random"
        )
    return effects


def _rows(model: Inference, effects: FactorEffects) -> _Rows:
    estimate = model.estimate
    family, spec = estimate.family, estimate.specification
    kind, zero = _kind(family), "zero" in estimate.parts
    etas = model.predictors("typical")
    trials, exposure = None, np.ones(spec.n)
    if kind == "proportions":
        trials = exposure = exposure if estimate.extra is None else estimate.extra
    elif kind == "counts" and family.link == "log" and spec.offset is not None:
        exposure = np.exp(spec.offset)
    times = np.ones(spec.n) if trials is None else trials

    def with_others(eta: Floats) -> Floats:
        return np.vstack([eta[None], etas[1:]])

    def mean(eta: Floats) -> Floats:
        if eta.ndim == 1:
            return np.asarray(times * family.mean(with_others(eta), None, zero=zero))
        return np.stack([mean(np.ascontiguousarray(column)) for column in eta.T], axis=1)

    def variance(eta: Floats) -> Floats:
        return np.asarray(family.variance(with_others(eta), estimate.extra, zero=zero))

    return _Rows(
        kind=kind,
        family=family,
        poisson=family.name == "poisson" and not zero,
        y=spec.y,
        eta=etas[0],
        mean=mean,
        variance=variance,
        exposure=exposure,
        trials=trials,
        codes=effects.codes,
        z=effects.columns,
        q=effects.n_levels,
    )


def _kind(family: Family) -> str:
    if isinstance(family, Count):
        return "counts"
    if isinstance(family, Binomial):
        return "proportions"
    if isinstance(family, Gaussian):
        return "numbers"
    raise ModelError(
        f"standardised ratios compare counts, proportions and sums of normal responses; the "
        f"family {family.name!r} has none of these"
    )


def _variances(effects: FactorEffects) -> tuple[Floats, Floats]:
    """Variances (n,) that the mean's predictor has by the factor, and by the other factors."""
    estimate, part = effects.estimate, effects.part
    by_factor, by_others = np.zeros((2, estimate.specification.n))
    for t in part.terms:
        term = estimate.terms[t]
        total = by_factor if term.factor == effects.factor else by_others
        z = columns_in(estimate, t, part)
        total += np.einsum("na,ab,nb->n", z, estimate.covariances[t], z)
    return by_factor, by_others


def _integrated(mean: Mean, variance: Floats) -> Mean:
    """Mean over a normal predictor with these variances, by Gauss-Hermite quadrature."""
    if not np.any(variance > 0):
        return mean
    x, w = np.polynomial.hermite_e.hermegauss(NODES)
    sd = np.sqrt(variance)

    def over(eta: Floats) -> Floats:
        wide = sd if eta.ndim == 1 else sd[:, None]
        out = np.zeros(eta.shape)
        for node, weight in zip(x, w / w.sum(), strict=True):
            out += weight * mean(eta + node * wide)
        return out

    return over


# --- raw ratios


def _raw_limits(
    rows: _Rows, observed: Floats, expected: Floats, conf_level: float
) -> tuple[str, Floats, Floats]:
    """Limits of the raw ratios, and what they are called."""
    at = observed, expected
    if rows.trials is not None:
        trials = rows.sums(rows.trials)
        if rows.family.name == "binomial":
            return "exact binomial", *binomial_limits(observed, trials, expected, conf_level)
        # trials that would give binomial counts the variance that these have
        inflated = _trial_inflation(rows)
        scaled = observed / inflated, trials / inflated, expected / inflated
        limits = binomial_limits(*scaled, conf_level)
        return "binomial of the effective number of trials", *limits
    if rows.kind == "numbers":
        sd = np.sqrt(rows.sums(rows.variance(rows.eta)))
        return "normal", *normal_limits(*at, sd, conf_level)
    if rows.poisson:
        return "exact Poisson", *poisson_limits(*at, conf_level)
    limits = moment_limits(*at, _count_variance(rows, expected), conf_level)
    return "negative binomial by moments", *limits


def _count_variance(rows: _Rows, expected: Floats) -> Callable[[Floats], Floats]:
    """Variance of the sums where they are a ratio times the expected ones.

    Under a log link at predictors moved by the log of the ratio; under others in
    proportion to the mean.
    """
    scale = rows.sums(rows.mean(rows.eta)) / expected
    if rows.family.link != "log":
        proportion = rows.sums(rows.variance(rows.eta)) / scale
        return lambda ratio: ratio * proportion

    def moved(ratio: Floats) -> Floats:
        shift = np.log(np.maximum(ratio / scale, 1e-12))[rows.codes]
        return rows.sums(rows.variance(rows.eta + shift))

    return moved


def _sum_variance(rows: _Rows, expected: Floats) -> Callable[[Floats], Floats]:
    """Variance of sums of counts, or of proportions by the effective number of trials."""
    if rows.trials is None:
        return _count_variance(rows, expected)
    trials = rows.sums(rows.trials)
    inflated = _trial_inflation(rows)

    def moved(ratio: Floats) -> Floats:
        mean = ratio * expected
        return np.asarray(inflated * mean * (1 - np.minimum(mean / trials, 1.0)))

    return moved


def _trial_inflation(rows: _Rows) -> Floats:
    """Variance of the sums of proportions over that of binomial ones, (q,)."""
    assert rows.trials is not None
    p = rows.mean(rows.eta) / rows.trials
    return rows.sums(rows.variance(rows.eta)) / rows.sums(rows.trials * p * (1 - p))


# --- shrunken ratios


@dataclass(frozen=True, eq=False)
class _Shrunken:
    """Shrunken ratios (q,) with limits, and the probability that they exceed the threshold."""

    estimate: Floats
    low: Floats
    high: Floats
    above: Floats


@dataclass(frozen=True, eq=False)
class _Ratio:
    """R_l(b) of all levels, and what a posterior of b makes of it."""

    rows: _Rows
    mean: Mean
    expected: Floats
    threshold: float
    conf_level: float
    typical: bool

    def at(self, b: Floats) -> Floats:
        """R (q,) at one effect a level."""
        rows = self.rows
        eta = rows.eta + rows.z[:, 0] * b[rows.codes]
        return np.asarray(rows.sums(self.mean(eta)) / self.expected)

    def monotone(self, b: Floats, sd: Floats) -> _Shrunken:
        """Ratio, limits and probability of one effect a level, by the monotone R."""
        from scipy.special import ndtri

        reach = float(ndtri(0.5 + self.conf_level / 2)) * sd
        root = np.zeros_like(b)
        if not (self.typical and self.threshold == 1.0):
            root = self._root(b, sd)
        low, high = self.at(b - reach), self.at(b + reach)
        return _Shrunken(self.at(b), low, high, exceeds(b - root, sd))

    def _root(self, b: Floats, sd: Floats) -> Floats:
        """Where R crosses the threshold, within 12 standard deviations."""
        low, high = b - 12 * sd, b + 12 * sd
        for _ in range(BISECTIONS):
            middle = (low + high) / 2
            short = self.at(middle) < self.threshold
            low, high = np.where(short, middle, low), np.where(short, high, middle)
        return np.asarray((low + high) / 2)

    def drawn(self, b: Floats, draws: Floats) -> _Shrunken:
        """Ratio, limits and probability from draws (n, q, m) of the effects."""
        rows = self.rows
        values = np.empty(draws.shape[:2])
        step = max(1, BLOCK // len(rows.eta))
        for start in range(0, len(draws), step):
            block = draws[start : start + step]
            eta = rows.eta[:, None] + np.einsum("nm,bnm->nb", rows.z, block[:, rows.codes])
            means = self.mean(eta)
            sums = [rows.sums(np.ascontiguousarray(column)) for column in means.T]
            values[start : start + step] = np.array(sums) / self.expected
        tail = (1 - self.conf_level) / 2
        low, high = np.quantile(values, [tail, 1 - tail], axis=0)
        eta = rows.eta + np.einsum("nm,nm->n", rows.z, b[rows.codes])
        ratio = rows.sums(self.mean(eta)) / self.expected
        return _Shrunken(ratio, low, high, np.mean(values > self.threshold, axis=0))


def _reliability(model: Inference, effects: FactorEffects, rows: _Rows) -> Floats:
    """1 - v / tau^2 of z'b at the average row of each level."""
    psi = effects.prior_covariance
    count = np.bincount(rows.codes, minlength=rows.q)
    z = np.stack([rows.sums(column) for column in rows.z.T], axis=1) / count[:, None]
    posterior = model.posterior(effects.coefficients(), "parameters")
    prior = np.einsum("qa,ab,qb->q", z, psi, z)
    left = np.einsum("qa,qab,qb->q", z, posterior.covariances(len(psi)), z)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(np.where(prior > 0, 1 - left / prior, np.nan))
