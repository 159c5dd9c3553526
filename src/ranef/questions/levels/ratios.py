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
from ranef.inference.effects.joint_posterior import posterior
from ranef.inference.rows.fitted import fitted
from ranef.inference.rows.parts import linear_parts, own_rows
from ranef.inference.rows.targets import has_zero
from ranef.inference.rows.uncertainty import linear_predictors
from ranef.models.labels import factors_of, terms_of
from ranef.models.records import Estimate, GeneralisedEstimate
from ranef.questions.levels.level_effects import coefficients, components_of, names_of, own_terms
from ranef.questions.levels.limits import (
    binomial_limits,
    moment_limits,
    normal_limits,
    poisson_limits,
)
from ranef.questions.levels.normal import exceeds
from ranef.questions.levels.reliability import prior_covariance

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


@dataclass(frozen=True, eq=False)
class _Model:
    """A model as far as standardisation sees it; n rows, q levels.

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
    estimate: Estimate,
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
    estimate : Estimate
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
    model = _model(estimate, factor)
    own = _variances(estimate, factor, own=True)
    others = _variances(estimate, factor, own=False)
    integrated = reference == "population"
    mean = _integrated(model.mean, others) if integrated else model.mean
    unit = _integrated(model.mean, own + others) if integrated else model.mean
    expected = model.sums(unit(model.eta))
    if np.any(expected <= 0):
        raise ModelError(
            f"the expected sum is not positive in {int(np.sum(expected <= 0))} of "
            f"{len(expected)} levels: a ratio to it says nothing; compare differences instead "
            "(fit.tidy('random'))"
        )
    observed = model.sums(model.y)
    limits, raw_low, raw_high = _raw_limits(model, observed, expected, conf_level)
    part = components_of(estimate)[0]
    names = names_of(estimate, part, factor)
    effects = posterior(
        estimate, coefficients(estimate, part, factor, names, with_fixed=False), given
    )
    shrunk = _Shrunk(model, mean, expected, threshold, conf_level, reference == "typical")
    b = effects.mean.reshape(model.q, -1)
    if len(names) == 1 and np.all(model.z >= 0):
        found = shrunk.monotone(b[:, 0], effects.sd)
    else:
        found = shrunk.drawn(b, effects.draws(draws, rng).reshape(draws, model.q, -1))
    return Ratios(
        kind=model.kind,
        limits=limits,
        rows=np.bincount(model.codes, minlength=model.q).astype(np.int_),
        exposure=model.sums(model.exposure),
        observed=observed,
        expected=expected,
        raw=observed / expected,
        raw_low=raw_low,
        raw_high=raw_high,
        shrunken=found[0],
        low=found[1],
        high=found[2],
        reliability=_reliability(estimate, factor, model),
        above=found[3],
    )


# --- the model


def _model(estimate: Estimate, factor: int) -> _Model:
    part = components_of(estimate)[0]
    of = factors_of(estimate)[factor]
    if part.name != "conditional" or not own_terms(estimate, part, factor):
        raise ModelError(
            f"the mean of the model has no random effects of {of.name!r}; standardised ratios "
            "compare levels whose effects on the mean are random"
        )
    names = names_of(estimate, part, factor)
    z = np.zeros((len(of.codes), len(names)))
    for t in own_terms(estimate, part, factor):
        for a, name in enumerate(terms_of(estimate)[t].names):
            z[:, names.index(name)] = terms_of(estimate)[t].z[:, a]
    spec = estimate.specification
    offset = np.zeros(spec.n) if spec.offset is None else spec.offset
    place = of.codes, z, of.n_levels
    if isinstance(estimate, GeneralisedEstimate):
        return _generalised(estimate, offset, *place)
    w = np.ones(spec.n) if spec.weights is None else spec.weights
    spread = estimate.sigma**2 / w
    eta = fitted(estimate, conditional=False)
    same, constant = (lambda e: e), (lambda e: spread)
    ones = np.ones(spec.n)
    return _Model("numbers", Gaussian(), False, spec.y, eta, same, constant, ones, None, *place)


def _generalised(
    estimate: GeneralisedEstimate,
    offset: Floats,
    codes: NDArray[np.int32],
    z: Floats,
    q: int,
) -> _Model:
    family, spec = estimate.family, estimate.specification
    kind = _kind(family)
    etas = linear_predictors(estimate, linear_parts(estimate, own_rows(estimate)), False)
    zero = has_zero(estimate)
    trials, exposure = None, np.ones(spec.n)
    if kind == "proportions":
        trials = exposure = exposure if estimate.extra is None else estimate.extra
    elif kind == "counts" and family.link == "log":
        exposure = np.exp(offset)
    poisson = family.name == "poisson" and not zero
    times = np.ones(spec.n) if trials is None else trials

    def with_others(eta: Floats) -> Floats:
        return np.vstack([eta[None], etas[1:]])

    def mean(eta: Floats) -> Floats:
        if eta.ndim == 1:
            return np.asarray(times * family.mean(with_others(eta), None, zero=zero))
        return np.stack([mean(np.ascontiguousarray(column)) for column in eta.T], axis=1)

    def variance(eta: Floats) -> Floats:
        return np.asarray(family.variance(with_others(eta), estimate.extra, zero=zero))

    return _Model(
        kind, family, poisson, spec.y, etas[0], mean, variance, exposure, trials, codes, z, q
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


def _variances(estimate: Estimate, factor: int, *, own: bool) -> Floats:
    """Variance (n,) that random effects give to the mean's predictor: of the factor, or not."""
    part = components_of(estimate)[0]
    covariances = (
        estimate.term_covariances
        if isinstance(estimate, GeneralisedEstimate)
        else estimate.covariances
    )
    out = np.zeros(estimate.specification.n)
    for t in range(part.terms.start, part.terms.stop):
        term = terms_of(estimate)[t]
        if (term.factor == factor) == own:
            out += np.einsum("na,ab,nb->n", term.z, covariances[t], term.z)
    return out


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
    model: _Model, observed: Floats, expected: Floats, conf_level: float
) -> tuple[str, Floats, Floats]:
    """Limits of the raw ratios, and what they are called."""
    at = observed, expected
    if model.trials is not None:
        trials = model.sums(model.trials)
        if model.family.name == "binomial":
            return "exact binomial", *binomial_limits(observed, trials, expected, conf_level)
        # trials that would give binomial counts the variance that these have
        p = model.mean(model.eta) / model.trials
        inflated = model.sums(model.variance(model.eta)) / model.sums(model.trials * p * (1 - p))
        scaled = observed / inflated, trials / inflated, expected / inflated
        found = binomial_limits(*scaled, conf_level)
        return "binomial of the effective number of trials", *found
    if model.kind == "numbers":
        sd = np.sqrt(model.sums(model.variance(model.eta)))
        return "normal", *normal_limits(*at, sd, conf_level)
    if model.poisson:
        return "exact Poisson", *poisson_limits(*at, conf_level)
    found = moment_limits(*at, _count_variance(model, expected), conf_level)
    return "negative binomial by moments", *found


def _count_variance(model: _Model, expected: Floats) -> Callable[[Floats], Floats]:
    """Variance of the sums where they are a ratio times the expected ones.

    Under a log link at predictors moved by the log of the ratio; under others in
    proportion to the mean.
    """
    scale = model.sums(model.mean(model.eta)) / expected
    if model.family.link != "log":
        proportion = model.sums(model.variance(model.eta)) / scale
        return lambda ratio: ratio * proportion

    def moved(ratio: Floats) -> Floats:
        shift = np.log(np.maximum(ratio / scale, 1e-12))[model.codes]
        return model.sums(model.variance(model.eta + shift))

    return moved


# --- shrunken ratios


@dataclass(frozen=True, eq=False)
class _Shrunk:
    """R_l(b) of all levels, and what a posterior of b makes of it."""

    model: _Model
    mean: Mean
    expected: Floats
    threshold: float
    conf_level: float
    typical: bool

    def at(self, b: Floats) -> Floats:
        """R (q,) at one effect a level."""
        model = self.model
        eta = model.eta + model.z[:, 0] * b[model.codes]
        return np.asarray(model.sums(self.mean(eta)) / self.expected)

    def monotone(self, b: Floats, sd: Floats) -> tuple[Floats, Floats, Floats, Floats]:
        """Ratio, limits and probability of one effect a level, by the monotone R."""
        from scipy.special import ndtri

        reach = float(ndtri(0.5 + self.conf_level / 2)) * sd
        root = np.zeros_like(b)
        if not (self.typical and self.threshold == 1.0):
            root = self._root(b, sd)
        return self.at(b), self.at(b - reach), self.at(b + reach), exceeds(b - root, sd)

    def _root(self, b: Floats, sd: Floats) -> Floats:
        """Where R crosses the threshold, within 12 standard deviations."""
        low, high = b - 12 * sd, b + 12 * sd
        for _ in range(BISECTIONS):
            middle = (low + high) / 2
            short = self.at(middle) < self.threshold
            low, high = np.where(short, middle, low), np.where(short, high, middle)
        return np.asarray((low + high) / 2)

    def drawn(self, b: Floats, draws: Floats) -> tuple[Floats, Floats, Floats, Floats]:
        """Ratio, limits and probability from draws (n, q, m) of the effects."""
        model = self.model
        values = np.empty(draws.shape[:2])
        step = max(1, BLOCK // len(model.eta))
        for start in range(0, len(draws), step):
            block = draws[start : start + step]
            eta = model.eta[:, None] + np.einsum("nm,bnm->nb", model.z, block[:, model.codes])
            means = self.mean(eta)
            sums = [model.sums(np.ascontiguousarray(column)) for column in means.T]
            values[start : start + step] = np.array(sums) / self.expected
        tail = (1 - self.conf_level) / 2
        low, high = np.quantile(values, [tail, 1 - tail], axis=0)
        eta = model.eta + np.einsum("nm,nm->n", model.z, b[model.codes])
        ratio = model.sums(self.mean(eta)) / self.expected
        return ratio, low, high, np.mean(values > self.threshold, axis=0)


def _reliability(estimate: Estimate, factor: int, model: _Model) -> Floats:
    """1 - v / tau^2 of z'b at the average row of each level."""
    part = components_of(estimate)[0]
    names = names_of(estimate, part, factor)
    m = len(names)
    count = np.bincount(model.codes, minlength=model.q)
    z = np.stack([model.sums(column) for column in model.z.T], axis=1) / count[:, None]
    what = coefficients(estimate, part, factor, names, with_fixed=False)
    known = posterior(estimate, what, "parameters").covariances(m)
    prior = np.einsum("qa,ab,qb->q", z, prior_covariance(estimate, part, factor), z)
    left = np.einsum("qa,qab,qb->q", z, known, z)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(np.where(prior > 0, 1 - left / prior, np.nan))
