"""From what was found of pairs to lists, abundances, limits of detection and controls."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ranef.fields.metagenomics.arrays import PATIENT, POSITIVE, Arrays
from ranef.fields.metagenomics.expectation import Own
from ranef.fields.metagenomics.fitting import Fitted, Results
from ranef.fields.metagenomics.parameters import GENUINE

__all__ = [
    "COMMON_DOUBT", "LEAST_SURE", "Judged", "Measured", "expected_range", "judge",
    "limits_of_detection", "listed", "lists", "measure", "replicated",
]  # fmt: skip

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
Ints = NDArray[np.intp]

TINY = 1e-300
POINTS = 41
CHUNK = 4000
SURE = 0.95
LEAST_SURE = 0.5
"""Largest local false discovery rate on a list."""
COMMON_DOUBT = 0.1
"""Largest local false discovery rate on a list of a pair of a taxon of undecided class."""


def listed(lfdr: Floats, fdr: float) -> Bools:
    """Return the longest list whose mean local false discovery rate is at most `fdr`.

    Nothing that is more probably absent than present is on a list, however sure the rest.

    Examples
    --------
    >>> listed(np.array([0.01, 0.9, 0.08, 0.2]), 0.05)
    array([ True, False,  True, False])
    """
    order = np.argsort(lfdr, kind="stable")
    running = np.cumsum(lfdr[order]) / np.arange(1, len(lfdr) + 1)
    within = np.flatnonzero((running <= fdr) & (lfdr[order] <= LEAST_SURE))
    out = np.zeros(len(lfdr), dtype=bool)
    out[order[: within[-1] + 1 if len(within) else 0]] = True
    return out


@dataclass(frozen=True, eq=False)
class Judged:
    """Pairs of patients with reads.

    Attributes
    ----------
    row : (P,) int array
        Places among the pairs of the results.
    sample, taxon : (P,) int arrays
    lfdr : (P,) array
    present : (P,) bool array
        Whether on the list.
    undecided : (P,) bool array
        Whether the taxon's class is, see `lists`.
    unit : (P,) int array
        The list that the pair may be on.
    threshold : float
        The largest lfdr on the list.
    control_calls : (S,) int array
        Of controls, each judged as a patient without its own reads.
    """

    row: Ints
    sample: Ints
    taxon: Ints
    lfdr: Floats
    present: Bools
    undecided: Bools
    unit: Ints
    threshold: float
    control_calls: Ints


def replicated(arrays: Arrays, found: Results, specimen: Ints, without_reads: Floats) -> Floats:
    """Return the probability of presence where libraries are replicates of one specimen, (P,).

    What is in a specimen is in all of its replicates: the odds are the prior's times the product
    of the Bayes factors of all replicates, of those without reads too.

    specimen : (S,) int array, -1 for libraries that are no replicates.
    without_reads : (S,) array, Bayes factors of presence of no reads.
    """
    pairs = found.pairs
    p, log_bf = found.joined("probability").copy(), found.joined("log_bf")
    own = specimen[pairs.sample]
    rows = np.flatnonzero((own >= 0) & arrays.patient[pairs.sample])
    if not len(rows):
        return p
    prior = np.log(np.maximum(p[rows], TINY)) - np.log(np.maximum(1.0 - p[rows], TINY))
    prior = prior - log_bf[rows]
    key = own[rows] * arrays.shape[1] + pairs.taxon[rows]
    _, at = np.unique(key, return_inverse=True)
    # replicates without a row have no reads
    log_zero = np.log(np.maximum(without_reads, TINY))
    of_specimen = np.bincount(specimen[specimen >= 0], log_zero[specimen >= 0])
    first = np.unique(at, return_index=True)[1]
    empty = of_specimen[own[rows][first]] - np.bincount(at, log_zero[pairs.sample[rows]])
    together = np.bincount(at, log_bf[rows]) + empty
    odds = np.bincount(at, prior) / np.bincount(at) + together
    p[rows] = 1.0 / (1.0 + np.exp(-np.clip(odds, -700.0, 700.0)))[at]
    return p


def _undecided(found: Results) -> Bools:
    """Tell taxa that are genuine rather than contaminants, but not surely so, (T,)."""
    contaminant = 1.0 - found.joined("classes")[:, GENUINE]
    return np.asarray((contaminant > COMMON_DOUBT) & (contaminant < LEAST_SURE))


def lists(lfdr: Floats, undecided: Bools, unit: Ints, fdr: float) -> Bools:
    """Make the list of each unit.

    A mean rate promises little where many pairs are wrong together: the calls of a taxon that is
    a contaminant with a probability of .3, and genuine otherwise, are all false or all true. Pairs
    of taxa of undecided class are listed only where they are sure by themselves.

    Examples
    --------
    >>> doubtful = np.array([False, True, True])
    >>> lists(np.array([0.001, 0.01, 0.3]), doubtful, np.zeros(3, dtype=int), 0.2)
    array([ True,  True, False])
    >>> lists(np.array([0.001, 0.01, 0.3]), ~doubtful, np.zeros(3, dtype=int), 0.2)
    array([ True,  True,  True])
    """
    doubt = np.where(undecided & (lfdr > COMMON_DOUBT), 1.0, lfdr)
    out = np.zeros(len(lfdr), dtype=bool)
    for u in np.unique(unit):
        out[unit == u] = listed(doubt[unit == u], fdr)
    return out


def judge(
    arrays: Arrays, found: Results, fdr: float, unit: Ints | None,
    probability: Floats | None = None,
) -> Judged:  # fmt: skip
    """Make the lists: one of the whole study, or one for each unit (S,) of libraries.

    probability : (P,) array, in place of the results' own.
    """
    pairs = found.pairs
    lfdr = 1.0 - (found.joined("probability") if probability is None else probability)
    role = arrays.role[pairs.sample]
    seen = pairs.reads > 0
    row = np.flatnonzero(seen & ((role == PATIENT) | (role == POSITIVE)))
    own = lfdr[row]
    patients = role[row] == PATIENT
    of = np.zeros(len(row), dtype=np.intp) if unit is None else unit[pairs.sample[row]]
    undecided = _undecided(found)[pairs.taxon[row]]
    present = np.zeros(len(row), dtype=bool)
    present[patients] = lists(own[patients], undecided[patients], of[patients], fdr)
    threshold = float(own[present & patients].max(initial=0.0)) if present.any() else fdr
    present[~patients] = own[~patients] <= max(threshold, fdr)
    control = seen & (arrays.negative[pairs.sample]) & (lfdr <= max(threshold, fdr))
    calls = np.bincount(pairs.sample[control], minlength=arrays.shape[0])
    return Judged(
        row, pairs.sample[row], pairs.taxon[row], own, present, undecided, of, threshold, calls
    )  # fmt: skip


@dataclass(frozen=True, eq=False)
class Measured:
    """Of each pair: reads expected without presence, and the mass that is there if it is present.

    Attributes
    ----------
    expected, expected_low, expected_high : (P,) arrays
        95 percent.
    mass, mass_low, mass_high : (P,) arrays
        Posterior mean and 95 percent, given presence.
    kept : (P,) array
        Share of the reads that is not contamination, weighted by the probability of presence.
    """

    expected: Floats
    expected_low: Floats
    expected_high: Floats
    mass: Floats
    mass_low: Floats
    mass_high: Floats
    kept: Floats


def _background(
    arrays: Arrays, fitted: Fitted, found: Results, rows: Ints
) -> tuple[Floats, Floats, Floats, Floats]:
    """Rate of masses; mean and size of the reads without presence, and the size of the rest."""
    pairs = found.pairs
    sample, taxon = pairs.sample[rows], pairs.taxon[rows]
    own = Own.of(arrays, found.grid.nodes, fitted.libraries)
    rate = own.contamination[sample]
    spread = fitted.libraries.variance[sample]
    mean, second = found.joined("back_mean")[rows], found.joined("back_second")[rows]
    mu = rate * mean + pairs.spill[rows]
    size = found.joined("size")[taxon]
    wide = np.maximum(rate**2 * (second * np.exp(spread) - mean**2), 0.0)
    # Var = mu + (mu^2 + wide) / size + wide
    extra = (mu**2 + wide) / size + wide
    mu = np.maximum(mu, 1e-9)
    mass_rate = np.where(arrays.measured, arrays.exposure, own.contamination)[sample]
    return mass_rate, mu, np.maximum(mu**2 / np.maximum(extra, 1e-30), 1e-3), size


def expected_range(mean: Floats, size: Floats) -> tuple[Floats, Floats]:
    """Return 95 percent of what is expected; the upper end is not below the mean.

    The mean of contamination that is rare and large lies above nearly all of its distribution.

    Examples
    --------
    >>> expected_range(np.array([145.0]), np.array([0.001]))
    (array([0.]), array([145.]))
    """
    from scipy.stats import nbinom

    p = size / (size + mean)
    low, high = nbinom.ppf(0.025, size, p), nbinom.ppf(0.975, size, p)
    return np.asarray(low), np.maximum(high, np.floor(mean))


def measure(arrays: Arrays, fitted: Fitted, found: Results, judged: Judged) -> Measured:
    """Work out expected reads and masses."""
    rows = judged.row
    rate, mu, wide, size = _background(arrays, fitted, found, rows)
    low, high = expected_range(mu, wide)
    psi = fitted.parameters
    group = arrays.group[judged.taxon]
    x = np.linspace(-4.0, 4.0, POINTS)
    columns: list[Floats] = []
    for start in range(0, len(rows), CHUNK):
        at = slice(start, start + CHUNK)
        reads = found.pairs.reads[rows[at]]
        columns.append(_masses(
            reads, rate[at], mu[at], size[at], psi.mass_mean[group[at]], psi.mass_sd[group[at]], x
        ))  # fmt: skip
    made = np.concatenate(columns) if columns else np.zeros((0, 4))
    probability = 1.0 - judged.lfdr
    return Measured(mu, low, high, made[:, 0], made[:, 1], made[:, 2], made[:, 3] * probability)


def _masses(
    reads: Floats, rate: Floats, mu: Floats, size: Floats, mean: Floats, sd: Floats, x: Floats
) -> Floats:
    """Posterior mean, 2.5 and 97.5 percent of the mass, and mean share of what is not expected."""
    # the likelihood is centred at the reads in excess, the prior is wide
    rate = np.maximum(rate, 1e-12)
    centre = np.log(np.maximum(reads - mu, 0.3) / rate)
    precision = 1.0 / sd**2 + 1.0 / (1.0 / size + 1.0 / np.maximum(reads, 1.0))
    middle = mean + (centre - mean) * (1.0 - 1.0 / (sd**2 * precision))
    width = np.maximum(2.0 / np.sqrt(precision), 0.3)
    log_a = middle[:, None] + width[:, None] * x
    total = mu[:, None] + rate[:, None] * np.exp(log_a)
    q = total / size[:, None]
    log_l = reads[:, None] * (np.log(q) - np.log1p(q)) - size[:, None] * np.log1p(q)
    log_l -= 0.5 * ((log_a - mean[:, None]) / sd[:, None]) ** 2
    weight = np.exp(log_l - log_l.max(axis=1, keepdims=True))
    weight /= weight.sum(axis=1, keepdims=True)
    below = np.cumsum(weight, axis=1)
    a = np.exp(log_a)

    def quantile(p: float) -> Floats:
        k = np.minimum((below < p).sum(axis=1), POINTS - 1)
        before = np.take_along_axis(below - weight, k[:, None], 1)[:, 0]
        own = np.take_along_axis(weight, k[:, None], 1)[:, 0]
        part = np.clip((p - before) / np.maximum(own, TINY), 0, 1) - 0.5
        step = log_a[:, 1] - log_a[:, 0]
        at = np.take_along_axis(log_a, k[:, None], 1)[:, 0]
        return np.asarray(np.exp(at + part * step))

    share = 1.0 - mu[:, None] / total
    return np.stack(
        [(weight * a).sum(axis=1), quantile(0.025), quantile(0.975), (weight * share).sum(axis=1)],
        axis=1,
    )


READS = np.unique(np.round(np.geomspace(1, 1e6, 45)))


def limits_of_detection(
    arrays: Arrays, fitted: Fitted, found: Results, judged: Judged, fdr: float
) -> Floats:
    """Return the least mass of each pair that would be called with a probability of 95%."""
    rows = judged.row
    rate, mu, wide, size = _background(arrays, fitted, found, rows)
    psi = fitted.parameters
    group = arrays.group[judged.taxon]
    log_bf, p = found.joined("log_bf")[rows], found.joined("probability")[rows]
    with np.errstate(divide="ignore"):
        odds = np.log(np.clip(p, 1e-15, 1 - 1e-15)) - np.log1p(-np.clip(p, 1e-15, 1 - 1e-15))
    prior = np.clip(odds - log_bf, np.log(1e-6), np.log(50.0))
    out = np.empty(len(rows))
    for start in range(0, len(rows), CHUNK):
        at = slice(start, start + CHUNK)
        out[at] = _limits(
            rate[at], mu[at], wide[at], size[at], prior[at], psi.mass_mean[group[at]],
            psi.mass_sd[group[at]], fdr,
        )  # fmt: skip
    return out


def _limits(
    rate: Floats, mu: Floats, wide: Floats, size: Floats, prior: Floats, mean: Floats, sd: Floats,
    fdr: float,
) -> Floats:  # fmt: skip
    from scipy.special import betainc, gammaln

    nodes = np.linspace(-3.0, 3.0, 13)
    weights = np.exp(-0.5 * nodes**2)
    weights /= weights.sum()
    rate = np.maximum(rate, 1e-12)

    def log_pmf(mu: Floats, size: Floats) -> Floats:
        y = READS[None, :]
        q = mu[:, None] / size[:, None]
        return np.asarray(
            gammaln(y + size[:, None])
            - gammaln(size[:, None])
            - gammaln(y + 1)
            + y * (np.log(q) - np.log1p(q))
            - size[:, None] * np.log1p(q)
        )

    f0 = log_pmf(mu, wide)
    f1 = np.zeros_like(f0)
    for node, weight in zip(nodes, weights, strict=True):
        f1 += weight * np.exp(log_pmf(mu + rate * np.exp(mean + sd * node), size))
    log_odds = prior[:, None] + np.log(np.maximum(f1, TINY)) - f0
    enough = log_odds > np.log((1.0 - fdr) / fdr)
    # from the first count on which all larger ones are called
    never = ~enough
    last_never = np.where(never.any(axis=1), len(READS) - 1 - never[:, ::-1].argmax(axis=1), -1)
    unreachable = last_never >= len(READS) - 1
    needed = READS[np.minimum(last_never + 1, len(READS) - 1)]
    low, high = np.full(len(mu), -12.0), np.full(len(mu), 18.0)
    for _ in range(40):
        middle = 0.5 * (low + high)
        total = mu + rate * np.exp(middle)
        p = size / (size + total)
        reached = 1.0 - betainc(size, needed, p)
        high = np.where(reached >= SURE, middle, high)
        low = np.where(reached >= SURE, low, middle)
    return np.where(unreachable, np.inf, np.exp(high))
