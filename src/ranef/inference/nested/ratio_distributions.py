"""Two nested models compared by their likelihoods."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ranef.errors import ModelError
from ranef.inference.draws.null_scores import NullScores
from ranef.inference.kinds import inference_of
from ranef.inference.nested.exact import NullDraws, simulate_ratio, spectrum
from ranef.inference.nested.mixtures import Mixture, chi_bar, entries
from ranef.inference.nested.nesting import Added, Nesting
from ranef.inference.nested.removal import Removal, logliks, single_variance
from ranef.models.records import CONDITIONAL, Estimate

__all__ = [
    "BootstrapRatio",
    "LikelihoodRatio",
    "bootstrap_ratio",
    "exact_distribution",
    "likelihood_ratio",
    "naive_tail",
    "null_distribution",
    "ratio",
    "ratios",
]

Floats = NDArray[np.float64]

ROUNDING = 1e-9
DRAWS = 100_000


@dataclass(frozen=True, eq=False)
class LikelihoodRatio:
    """A likelihood-ratio test.

    Attributes
    ----------
    statistic : float
        Twice the log of the ratio; not below zero where the models are nested.
    df : int
        Parameters that the smaller model lacks.
    p_value : float
        By `distribution`; NaN where none is known.
    p_naive : float
        By chi-squared with `df` degrees of freedom, the boundary forgotten; NaN where the
        models are not nested.
    distribution : Mixture or None
    reason : str
        Why there is no distribution.
    """

    statistic: float
    df: int
    p_value: float
    p_naive: float
    distribution: Mixture | None
    reason: str = ""


@dataclass(frozen=True, eq=False)
class BootstrapRatio:
    """A likelihood ratio among those of responses drawn from the smaller model.

    Attributes
    ----------
    draws : (B,) float64 array
        Ratios of the draws for which both models could be fitted.
    failed : int
        Number of other draws.
    p_value : float
        (1 + draws that are as large) / (1 + B).
    bartlett : float
        The statistic times df / mean of the draws.
    p_bartlett : float
        Its chi-squared tail with df degrees of freedom.
    p_gamma : float
        The tail of the gamma distribution with the draws' mean and variance.
    ddf : float
        Denominator degrees of freedom of an F distribution with the draws' mean.
    p_f : float
        Its tail at statistic / df.
    """

    draws: Floats
    failed: int
    p_value: float
    bartlett: float
    p_bartlett: float
    p_gamma: float
    ddf: float
    p_f: float


def ratio(small: float, large: float) -> float:
    """Twice the difference of two log-likelihoods; what is rounding counts as zero."""
    twice = 2 * (large - small)
    return twice if twice > ROUNDING * (1 + abs(large)) else 0.0


def ratios(
    small: Estimate,
    large: Estimate,
    Y: Floats,
    *,
    n_jobs: int | None = None,
    advance: Callable[[int], object] = lambda k: None,
) -> Floats:
    """Ratios (m,) of both models fitted to m responses; NaN where a fit failed.

    `advance` is called with the number of fits done, of 2 m.
    """
    below = logliks(small, Y, n_jobs=n_jobs, advance=advance)
    above = logliks(large, Y, n_jobs=n_jobs, advance=advance)
    pairs = zip(below, above, strict=True)
    return np.array([ratio(a, b) if math.isfinite(a + b) else math.nan for a, b in pairs])


def naive_tail(statistic: float, df: int) -> float:
    """P(chi2(df) >= statistic)."""
    from scipy.special import chdtrc

    return float(chdtrc(df, statistic)) if df > 0 else math.nan


def likelihood_ratio(small: Estimate, large: Estimate, gap: Nesting) -> LikelihoodRatio:
    """Test a smaller model against a larger one, fitted by the same criterion."""
    df = large.n_parameters - small.n_parameters
    if gap.cone is None and not gap.edge:
        difference = 2 * (large.loglik - small.loglik)
        return LikelihoodRatio(difference, df, math.nan, math.nan, None, gap.reason)
    statistic = ratio(small.loglik, large.loglik)
    law, reason = null_distribution(small, large, gap), gap.reason
    if law is not None and df <= 0:
        law, reason = None, "they have the same number of parameters"
    p = math.nan if law is None else law.tail(statistic)
    return LikelihoodRatio(statistic, df, p, naive_tail(statistic, df), law, reason)


def null_distribution(small: Estimate, large: Estimate, gap: Nesting) -> Mixture | None:
    """The distribution of the ratio under the smaller model."""
    if gap.cone is None:
        return None
    J = None
    several = len(gap.cone.blocks) > 1 or max(gap.cone.blocks, default=0) > 1
    if several and gap.added:
        J = boundary_information(small, large, gap.added)
    return chi_bar(gap.cone, J)


def exact_distribution(large: Estimate, gap: Nesting) -> NullDraws | None:
    """The ratio's distribution in finite samples, where one variance of a linear model goes.

    Exact where no other effect is random (Crainiceanu & Ruppert 2004), fixed effects that go as
    well included by maximum likelihood; an approximation beside others (Greven et al. 2008). None
    where more goes, or the residuals have a structure.
    """
    new = [block for block in gap.added if block.new]
    cone = gap.cone
    if cone is None or cone.blocks != (1,) or cone.free != gap.fixed or len(new) != 1:
        return None
    alone = single_variance(large, Removal(CONDITIONAL, new[0].term, new[0].new))
    if alone is None or (large.reml and gap.fixed):
        return None
    try:
        eigenvalues = spectrum(alone, 0)
    except ModelError:
        return None
    rng = np.random.default_rng(0)
    return simulate_ratio(eigenvalues, DRAWS, rng, reml=large.reml, fixed=gap.fixed)


def boundary_information(small: Estimate, large: Estimate, added: Sequence[Added]) -> Floats | None:
    """Information about the variances and covariances that are zero in a smaller model.

    The covariance of the larger model's scores at the smaller one's estimates, over
    responses drawn from that (of a generalised model working responses); the other
    variances are profiled out. None where the others are themselves on their boundary.
    """
    scores = _scores(small, large, added)
    tested, others = [], list(scores.others)
    for block in added:
        rows, columns = entries(len(block.new))
        for i, j in zip(rows, columns, strict=True):
            a, b = block.new[i], block.new[j]
            scale = 1.0 if a == b else math.sqrt(2.0)
            tested.append(scale * scores.terms[block.term][:, a, b])
        of_term = set(block.new) | {j for _, _, at in block.sources for j in at}
        others += [
            scores.terms[block.term][:, a, b]
            for a in of_term
            for b in of_term
            if a <= b and not (a in block.new and b in block.new)
        ]
    joint = np.cov(np.column_stack([*tested, *others]), rowvar=False)
    c = len(tested)
    J = joint[:c, :c]
    if others:
        J = J - joint[:c, c:] @ np.linalg.pinv(joint[c:, c:], hermitian=True) @ joint[c:, :c]
    unit = np.sqrt(np.maximum(np.diag(J), 0.0))
    if not (unit > 0).all():
        return None
    values = np.linalg.eigvalsh(J / np.outer(unit, unit))
    if not values[0] > 1e-8 * values[-1]:
        return None
    return np.asarray(J, dtype=np.float64)


def _scores(small: Estimate, large: Estimate, added: Sequence[Added]) -> NullScores:
    covariances = _null_covariances(small, large, added)
    rng = np.random.default_rng(0)
    return inference_of(large).null_scores(inference_of(small), covariances, rng)


def _null_covariances(small: Estimate, large: Estimate, added: Sequence[Added]) -> list[Floats]:
    """Covariance matrices of the larger model's terms that make it the smaller one."""
    psis = [np.zeros((term.size, term.size)) for term in large.terms]
    for block in added:
        for term, columns, at in block.sources:
            psis[block.term][np.ix_(at, at)] = small.covariances[term][np.ix_(columns, columns)]
    return psis


def bootstrap_ratio(statistic: float, df: int, draws: Floats) -> BootstrapRatio:
    """Compare a ratio with those of draws, NaN where a fit failed.

    Halekoh & Hojsgaard (2014, J. Stat. Softw. 59(9)) describe the variants.
    """
    from scipy.special import chdtrc, fdtrc, gammaincc

    kept = np.maximum(draws[np.isfinite(draws)], 0.0)
    failed = len(draws) - len(kept)
    if len(kept) == 0:
        return BootstrapRatio(kept, failed, *[math.nan] * 6)
    p = (1 + int(np.count_nonzero(kept >= statistic))) / (1 + len(kept))
    mean, variance = float(kept.mean()), float(kept.var(ddof=1)) if len(kept) > 1 else math.nan
    bartlett = statistic * df / mean if mean > 0 else math.nan
    gamma = float(gammaincc(mean**2 / variance, statistic * mean / variance)) if variance else 1.0
    excess = mean / df
    ddf = 2 * excess / (excess - 1) if excess > 1 else math.inf
    p_f = fdtrc(df, ddf, statistic / df) if math.isfinite(ddf) else chdtrc(df, statistic)
    return BootstrapRatio(
        kept, failed, p, bartlett, float(chdtrc(df, bartlett)), gamma, ddf, float(p_f)
    )
